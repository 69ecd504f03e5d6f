"""Reading and spelling rule text: what we spell we read back, and what we cannot read we refuse with its place."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from verifier import rules as r
from verifier import spell
from verifier.reading.errors import InputError, RuleError
from verifier.reading.rules import ReadRules, read_literals, read_rules
from verifier.values import ALL_32, CtState, Family, Ids, Iface, MarkMask, Net, Place, Span

from . import strategies as some

ROOT = Path(__file__).parent.parent
CORPUS = ROOT.parent / "shared" / "corpus"
OWN = Path(__file__).parent / "corpus"
SEED = CORPUS / "seed-mercari" / "istio-sidecar-nat-Lv.listing"
ISTIO = ROOT / "proofs" / "istio-sidecar" / "rules" / "istio.rules"

needs_corpus = pytest.mark.skipif(
    not CORPUS.is_dir(), reason="the corpus of others' rules is not beside this repository"
)


def rules_of(path: Path, table: str | None = None) -> r.RuleSet:
    return read_rules(path.read_text(errors="surrogateescape"), str(path), table).rules


def saved(*lines: str, table: str = "filter") -> ReadRules:
    """The rules of a table's lines, in a file called t; the first line is line 2."""
    return read_rules("\n".join([f"*{table}", *lines, "COMMIT", ""]), "t")


def only_rule(words: str, table: str = "filter") -> r.Rule:
    chain = "OUTPUT"
    (rule,) = saved(f"-A {chain} {words}", table=table).rules.tables[table].chains[chain].rules
    return rule


def refused(text: str, table: str | None = None) -> RuleError:
    with pytest.raises(RuleError) as caught:
        read_rules(text, "t", table)
    return caught.value


# -- laws ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", Family)
@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_we_spell_we_read_back(family: Family, data: st.DataObject) -> None:
    rule_set = data.draw(some.rule_sets(family))
    assert read_rules(spell.rule_set(rule_set), "spelled", family=family).rules == rule_set


@pytest.mark.parametrize(("kind", "family"), some.KINDS)
@given(data=st.data())
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
def test_each_match_and_target_is_read_back(kind: type, family: Family, data: st.DataObject) -> None:
    rule, table = data.draw(some.rules_with(kind, family))
    chain = r.Chain("CHAIN", None, (rule,))
    rules = r.RuleSet({table: r.Table(table, {"CHAIN": chain})}, family)
    assert read_rules(spell.rule_set(rules), "spelled", family=family).rules == rules


@given(some.conditions())
@settings(max_examples=100, deadline=None)
def test_conditions_alone_are_read_back_too(literals: tuple[r.Literal, ...]) -> None:
    assert read_literals(spell.literals(literals), Place("p", 1, 1)) == literals


# -- samples ------------------------------------------------------------------------------------


def test_all_spellings_of_a_rule_are_one_rule() -> None:
    assert rules_of(OWN / "words.rules") == rules_of(OWN / "words.saved")


@pytest.mark.parametrize("listing", ["words.Lv.listing", "words.Lvn.listing"])
def test_a_listing_says_what_its_saved_rules_say(listing: str) -> None:
    read = read_rules((OWN / listing).read_text(), listing)
    assert read.rules == rules_of(OWN / "words.saved")
    assert read.format == "listing"
    assert read.notes == (
        "read as table filter; table security has the same chains: name it if it is that one",
    )


@needs_corpus
def test_the_listing_of_the_sidecar_is_the_sidecar_s_rules() -> None:
    read = read_rules(SEED.read_text(), "seed")
    assert read.rules == rules_of(ISTIO)
    assert read.notes == ("read as table nat: its built-in chains leave no other choice",)


@needs_corpus
def test_rules_of_others_are_read_or_refused_and_nothing_else() -> None:
    files = sorted(CORPUS.rglob("*.rules.v4"))
    read = 0
    for path in files:
        with contextlib.suppress(InputError):
            rules_of(path)
            read += 1
    assert read / len(files) > 0.9


@needs_corpus
def test_listings_of_others_say_what_their_saved_rules_say_or_less() -> None:
    """What is not understood in a listing is opaque there, or refused."""
    for path in sorted((CORPUS / "derived").rglob("*.Lvn.v4.listing")):
        of_save = rules_of(path.with_name(path.name.replace("Lvn.v4.listing", "rules.v4")))
        for name, table in rules_of(path).tables.items():
            for chain in table.chains.values():
                pairs = zip(chain.rules, of_save.tables[name].chains[chain.name].rules, strict=True)
                for listed, kept in pairs:
                    assert unnamed(listed) == unnamed(kept) or is_opaque(listed), (path, listed, kept)


def unnamed(rule: r.Rule) -> str:
    """The rule without the name of a hashlimit, which no listing has."""
    return re.sub(r"(--hashlimit-name) \S+", r"\1 x", spell.rule("", rule))


def is_opaque(rule: r.Rule) -> bool:
    matches = [lit.match for lit in rule.literals]
    vague = (r.Opaque, r.OwnerNames)
    return any(isinstance(m, vague) for m in matches) or isinstance(rule.target, r.OpaqueTarget)


def test_every_rule_and_chain_knows_its_place() -> None:
    table = rules_of(ISTIO).tables["nat"]
    lines = ISTIO.read_text().splitlines()
    assert lines[table.chains["ISTIO_OUTPUT"].place.line - 1] == ":ISTIO_OUTPUT - [0:0]"
    for chain in table.chains.values():
        for rule in chain.rules:
            assert lines[rule.place.line - 1] == spell.rule(chain.name, rule)
            assert rule.place.file == str(ISTIO)


def test_lines_may_end_as_on_windows_and_the_last_not_at_all() -> None:
    unix = read_rules("*filter\n:INPUT DROP [0:0]\n-A INPUT -i lo -j ACCEPT\nCOMMIT\n", "t").rules
    assert read_rules("*filter\r\n:INPUT DROP [0:0]\r\n-A INPUT -i lo -j ACCEPT\r\nCOMMIT", "t").rules == unix


def test_printed_commands_are_read_as_the_table_that_their_policies_tell() -> None:
    commands = "-P PREROUTING ACCEPT -c 1 2\n-P INPUT ACCEPT\n-P OUTPUT ACCEPT\n-P POSTROUTING ACCEPT\n-N A\n-A OUTPUT -j A\n"
    read = read_rules(commands, "t")
    assert list(read.rules.tables) == ["nat"]
    assert read.notes == ("read as table nat: its built-in chains leave no other choice",)
    filter_ = read_rules("-P INPUT DROP\n-P FORWARD DROP\n-P OUTPUT ACCEPT\n", "t")
    assert list(filter_.rules.tables) == ["filter"]
    assert "security" in filter_.notes[0]
    assert list(read_rules("-P OUTPUT ACCEPT\n", "t", "raw").rules.tables) == ["raw"]


def test_a_table_that_comes_again_begins_anew_and_we_say_so() -> None:
    """Asked: iptables-restore flushes the table again, on both backends, unless it is told `--noflush`."""
    text = "*filter\n:A - [0:0]\n-A A -j DROP\n-A INPUT -j A\nCOMMIT\n*filter\n:B - [0:0]\n-A INPUT -j DROP\nCOMMIT\n"
    read = read_rules(text, "t")
    chains = read.rules.tables["filter"].chains
    assert list(chains) == ["INPUT", "B"]
    assert [rule.target for rule in chains["INPUT"].rules] == [r.Drop()]
    assert any("--noflush" in note for note in read.notes)


def test_an_empty_table_is_a_table() -> None:
    assert read_rules("*raw\nCOMMIT\n", "t").rules == r.RuleSet({"raw": r.Table("raw", {})})


# -- one option each ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "literals"),
    [
        ("-p all", ()),
        ("-s 0.0.0.0/0 -d 10.0.0.0/0", ()),
        ("-o +", ()),
        ("! -o +", (r.Literal(r.OutInterface(Iface("+")), True),)),
        ("! -s 0.0.0.0/0", (r.Literal(r.Source(Net(0, 0)), True),)),
        ("-m mark --mark 010", (r.Literal(r.Mark(MarkMask(8))),)),
        ("-m state --state NEW", (r.Literal(r.CtStates(frozenset({CtState.NEW}))),)),
        ("-m owner ! --uid-owner 1337", (r.Literal(r.OwnerIds(uid=Ids(1337, 1337), uid_negated=True)),)),
        ("-p icmp --icmp-type 255/3", (r.Literal(r.Protocol(1)), r.Literal(r.IcmpType(None)))),
        ("-p tcp ! --syn", (r.Literal(r.Protocol(6)), r.Literal(r.TcpFlags(0x17, 2), True))),
        (
            "-p tcp -m owner --uid-owner 5 -m mark --mark 3 --gid-owner 4",
            (
                r.Literal(r.Protocol(6)),
                r.Literal(r.OwnerIds(Ids(5, 5), False, Ids(4, 4), False)),
                r.Literal(r.Mark(MarkMask(3))),
            ),
        ),
    ],
)
def test_a_match_is_read_as_the_kernel_gets_it(words: str, literals: tuple[r.Literal, ...]) -> None:
    assert only_rule(words).literals == literals
    assert read_literals(words, Place("p", 1, 1)) == literals


@pytest.mark.parametrize(
    ("words", "target"),
    [
        ("-p tcp -j REDIRECT --to-port 15001", r.Redirect(Span.one(15001))),
        ("-p tcp -j REDIRECT --to-ports 5-5", r.Redirect(Span.one(5))),
        ("-j REDIRECT", r.Redirect()),
        ("-p tcp -j REDIRECT --to-ports 5-6", r.Redirect(Span(5, 6))),
        ("-p tcp -j REDIRECT --to-ports 0", r.Redirect(Span.one(0))),
        ("-p udp -j REDIRECT --to-ports 0-5", r.Redirect(Span(0, 5))),
        ("-j REDIRECT --random", r.Redirect(None, r.PortChoice.RANDOM)),
        ("-j DNAT --to 1.2.3.4", r.Dnat(r.NatRange.of(0x01020304))),
        ("-p udp -j DNAT --to-destination :53", r.Dnat(r.NatRange.of(None, 53))),
        ("-p udp -j DNAT --to-destination 1.2.3.4-1.2.3.4:53-53", r.Dnat(r.NatRange.of(0x01020304, 53))),
        ("-j DNAT --to-destination 1.2.3.4-1.2.3.5", r.Dnat(r.NatRange(0x01020304, 0x01020305))),
        ("-j DNAT --to 1.2.3.4 --persistent", r.Dnat(r.NatRange.of(0x01020304), None, True)),
        ("-j DNAT --to 0.0.0.0", r.Dnat(r.NatRange.of(0))),
        ("-j DNAT --to 1.2.3.5-1.2.3.4", r.Dnat(r.NatRange(0x01020305, 0x01020304))),
        ("-j MARK --set-mark 0x3/0x1", r.SetMark(MarkMask(3, 3))),
        ("-j MARK --set-mark 1337", r.SetMark(MarkMask(1337, ALL_32))),
        ("-j MARK --set-xmark 0x3/0x1", r.SetMark(MarkMask(3, 1))),
        ("-j MARK --and-mark 0xff", r.SetMark(MarkMask(0, 0xFFFFFF00))),
        ("-j MARK --or-mark 0x8", r.SetMark(MarkMask(8, 8))),
        ("-j MARK --xor-mark 0x8", r.SetMark(MarkMask(8, 0))),
        ("-j LOG --log-prefix 'a'", r.Log("-j LOG --log-prefix \"\\'a\\'\"")),
        ("-j SNAT --to-source 1.2.3.4", r.Snat(r.NatRange.of(0x01020304))),
        ("-j TARPIT --tarpit", r.OpaqueTarget("-j TARPIT --tarpit")),
        ("-j QUEUE", r.Queue("-j QUEUE")),
        ("-m comment --comment RETURN", None),
    ],
)
def test_a_target_is_read_or_kept_as_text(words: str, target: r.Target | None) -> None:
    assert only_rule(words, "nat").target == target


def test_a_list_of_addresses_makes_a_rule_for_each_pair() -> None:
    chain = saved("-A INPUT -s 1.1.1.1,2.2.2.2 -d 3.3.3.3,4.4.4.4").rules.tables["filter"].chains["INPUT"]
    assert [spell.rule("INPUT", rule) for rule in chain.rules] == [
        f"-A INPUT -s {s}/32 -d {d}/32" for s in ("1.1.1.1", "2.2.2.2") for d in ("3.3.3.3", "4.4.4.4")
    ]


def test_comments_are_kept_and_never_read_as_options() -> None:
    rule = only_rule('-p tcp -m comment --comment --dport -m comment --comment "80 -j DROP" -j ACCEPT')
    assert rule == r.Rule((r.Literal(r.Protocol(6)),), r.Accept(), ("--dport", "80 -j DROP"))


# -- what is not understood -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        ('-m string --algo bm --string "a b"', ['-m string --algo bm --string "a b"']),
        ("-m u32 ! --u32 0=0", ["-m u32 ! --u32 0=0"]),
        ("-m policy --dir in --pol ipsec --strict", ["-m policy --dir in --pol ipsec --strict"]),
        ("-m owner --gid-owner 5 ! --pid-owner 5", ["-m owner --gid-owner 5 ! --pid-owner 5"]),
        ("-m helper ! --helper ftp -m realm --realm 5", ["-m helper ! --helper ftp", "-m realm --realm 5"]),
        ("-m geoip --src-cc DE,FR --mark 5", ["-m geoip --src-cc DE,FR --mark 5"]),
        ("-m helper --helper -j", ['-m helper --helper "-j"']),
        ("-m cluster --brand-new 5 x", ["-m cluster --brand-new 5 x"]),
    ],
)
def test_a_match_that_is_not_understood_is_kept_as_text(words: str, texts: list[str]) -> None:
    rule = only_rule(words)
    assert rule.literals == tuple(r.Literal(r.Opaque(text)) for text in texts)
    assert only_rule(spell.literals(rule.literals)) == rule


def test_a_fragment_is_asked_for_behind_the_protocol() -> None:
    rule = only_rule("! -f -p udp -s 1.2.3.4 -m ttl --ttl-eq 1")
    assert rule.literals[2] == r.Literal(r.Fragment(), True)
    assert spell.literals(rule.literals) == "-s 1.2.3.4/32 -p udp ! -f -m ttl --ttl-eq 1"


def test_what_stands_beside_an_opaque_option_is_still_read() -> None:
    rule = only_rule("-p udp --dport 80 -m pkttype --pkt-type otherhost -m conntrack --ctstate NEW")
    assert rule.literals == (
        r.Literal(r.Protocol(17)),
        r.Literal(r.DestinationPorts(Span(80, 80))),
        r.Literal(r.Opaque("-m pkttype --pkt-type otherhost")),
        r.Literal(r.CtStates(frozenset({CtState.NEW}))),
    )


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ("any DATA:Be", r.SctpChunks("any", frozenset({0}), (r.ChunkFlags(0, 0b11, 0b10),))),
        ("all data:IU,abort:t,INIT", r.SctpChunks("all", frozenset({0, 1, 6}), (r.ChunkFlags(0, 0b1100, 0b1100), r.ChunkFlags(6, 1, 0)))),
        ("only DATA:bB,DATA:e,DATA:", r.SctpChunks("only", frozenset({0}), (r.ChunkFlags(0, 0b11, 0b10),))),
        ("all NONE", r.SctpChunks("all", frozenset())),
    ],
)  # fmt: skip
def test_flags_of_chunks_are_set_in_capitals_and_not_set_in_small_letters(
    words: str, match: r.SctpChunks
) -> None:
    rule = only_rule(f"-p sctp --chunk-types {words}")
    assert rule.literals[1] == r.Literal(match)
    assert only_rule(spell.literals(rule.literals)) == rule


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ("--uid-owner envoy", r.OwnerNames(uid="envoy")),
        ("--uid-owner 5 ! --gid-owner www-data", r.OwnerNames(Ids(5, 5), False, "www-data", True)),
        ('! --socket-exists ! --uid-owner "a b"', r.OwnerNames("a b", True, None, False, True, True)),
        ("! --gid-owner 5-6 --suppl-groups", r.OwnerIds(gid=Ids(5, 6), gid_negated=True, supplementary=True)),
        (
            "--uid-owner 5 --gid-owner www-data --suppl-groups",
            r.OwnerNames(Ids(5, 5), False, "www-data", supplementary=True),
        ),
        ("--uid-owner root ! --gid-owner root", r.OwnerIds(Ids(0, 0), False, Ids(0, 0), True)),
    ],
)
def test_a_name_of_a_user_stays_a_name_and_root_is_0(words: str, match: r.Match) -> None:
    rule = only_rule(f"-m owner {words}")
    assert rule.literals == (r.Literal(match),)
    assert only_rule(spell.literals(rule.literals)) == rule


# -- whose option it is -----------------------------------------------------------------------------


def test_an_option_is_that_of_the_module_loaded_last() -> None:
    mark, other = r.Literal(r.Mark(MarkMask(3))), r.Literal(r.ConnMark(MarkMask(3)))
    assert only_rule("-m connmark --mark 3").literals == (other,)
    assert only_rule("-m mark --mark 3 -m connmark --mark 3").literals == (mark, other)
    assert only_rule("-m connmark --mark 3 -m mark --mark 3").literals == (other, mark)


def test_a_module_without_its_option_is_refused_even_if_another_has_it() -> None:
    e = refused("*filter\n-A INPUT -m mark -m connmark --mark 3\nCOMMIT\n")
    assert (e.code, e.place) == ("R010", Place("t", 2, 13))


def test_a_shortened_option_is_the_only_one_that_begins_so() -> None:
    rule = only_rule("-m multiport -p tcp --dport 80,443")
    assert rule.literals[1].match == r.MultiportDestinations((Span(80, 80), Span(443, 443)))
    e = refused("*filter\n-A INPUT --in lo\nCOMMIT\n")
    assert (e.code, e.place.column) == ("R006", 10)


def test_a_declared_chain_is_meant_before_a_target_of_the_same_name() -> None:
    text = "*filter\n:REJECT - [0:0]\n-A INPUT -j REJECT\nCOMMIT\n"
    assert read_rules(text, "t").rules.tables["filter"].chains["INPUT"].rules[0].target == r.Jump("REJECT")


# -- refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "code", "column", "width", "hint"),
    [
        ("-A INPUT -p tcp --dprot 80 -j ACCEPT", "R006", 17, 7, "did you mean `--dport`?"),
        ("-A INPUT --dport 80 -j ACCEPT", "R006", 10, 7, None),
        ("-A INPUT --ctstate NEW", "R006", 10, 9, None),
        (
            "-A INPUT -p tcp --to-ports 80",
            "R006",
            17,
            10,
            "`--to-ports` is an option of `-j MASQUERADE` and `-j REDIRECT`",
        ),
        ("-A INPUT -m contrack --ctstate NEW", "R007", 13, 8, "did you mean `conntrack`?"),
        ("-A INPUT -p tcp --dport htpps", "R009", 25, 5, "did you mean `https`?"),
        ("-A INPUT -p tcp --dport 65536", "R009", 25, 5, None),
        ("-A INPUT -p tcp --dport 90:80", "R009", 25, 5, None),
        ("-A INPUT -p tcp --dport 1_0", "R009", 25, 3, None),
        ("-A INPUT -p tcp --dport 80,443", "R009", 25, 6, "several ports need `-m multiport --dports`"),
        (
            "-A INPUT -p tcp -m multiport --dports 1:2,3:4,5:6,7:8,9:10,11:12,13:14,15:16",
            "R009",
            39,
            38,
            None,
        ),
        ("-A INPUT -m conntrack --ctstate NWE", "R009", 33, 3, "did you mean `NEW`?"),
        ("-A INPUT -s localhost", "R009", 13, 9, "iptables-save writes numbers"),
        ("-A INPUT -s 1.2.3.4,5.6.7.300", "R009", 21, 9, "iptables-save writes numbers"),
        ("-A INPUT -s 1.2.3.4/33", "R009", 13, 10, "iptables-save writes numbers"),
        ("-A INPUT -s 1.1.1.1 -d ::1", "R004", 24, 3, None),
        ("-A INPUT -s 1.1.1.1 -m icmp6 -j DROP", "R004", 24, 5, None),
        ("-A INPUT -i !eth0", "R009", 13, 5, None),
        ("-A INPUT -p tcp --dport", "R009", 24, 1, None),
        ("-A INPUT -p tcp -p udp", "R011", 17, 2, None),
        ("-A INPUT -p tcp --dport 1 --dport 2", "R011", 27, 7, "a second `-m tcp` asks both"),
        ("-A INPUT ! -s 1.1.1.1,2.2.2.2", "R011", 15, 15, "write one rule for each address"),
        ("-A INPUT ! -j DROP", "R011", 12, 2, None),
        ("-A INPUT ! ! -p tcp", "R011", 12, 1, None),
        ("-A INPUT ! -p tcp --dport 80", "R010", 19, 7, None),
        ("-A INPUT -m udp -j DROP", "R010", 13, 3, None),
        ("-A INPUT -p udp -j REJECT --reject-with tcp-reset", "R010", 41, 9, None),
        ("-A INPUT -o eth0", "R010", 10, 2, None),
        ("-A INPTU -j DROP", "R008", 4, 5, "did you mean `INPUT`?"),
        ("-A INPUT -j DORP", "R008", 13, 4, "did you mean `DROP`?"),
        ("-A INPUT -g LOG", "R008", 13, 3, "a chain is declared before a rule names it"),
        ("-A INPUT -j OUTPUT", "R008", 13, 6, None),
        ("-A INPUT -j REDIRECT", "R016", 13, 8, None),
        ("-A INPUT -j DROP # why", "R005", 18, 1, "a comment needs a line of its own"),
        ('-A INPUT -m comment --comment "x -j DROP', "R005", 31, 2, None),
        ("-A INPUT -t nat -j DROP", "R015", 10, 2, None),
        ("-D INPUT 1", "R018", 10, 1, None),
        ("COMIT", "R005", 1, 5, "did you mean `COMMIT`?"),
        (":INPUT REJECT [0:0]", "R013", 8, 6, None),
        (":A ACCEPT [0:0]", "R013", 4, 6, None),
        (":DROP - [0:0]", "R013", 2, 4, None),
        (":" + "A" * 29 + " - [0:0]", "R013", 2, 29, None),
        ("-I INPUT 2 -j DROP", "R013", 10, 1, None),
        ("*nat", "R012", 1, 4, None),
    ],
)
def test_a_wrong_line_is_refused_at_its_column(
    line: str, code: str, column: int, width: int, hint: str | None
) -> None:
    e = refused(f"*filter\n{line}\nCOMMIT\n")
    assert (e.code, e.place, e.line) == (code, Place("t", 2, column), line), e
    assert e.width == width
    assert hint is None or e.hint == hint


@pytest.mark.parametrize(
    ("text", "code", "line", "column"),
    [
        ("", "R001", 1, 1),
        ("# only a comment\n\n", "R001", 1, 1),
        ("\nhello world\n", "R001", 2, 1),
        ("\x00\x01\x02garbage\xff", "R001", 1, 1),
        ("table ip nat {\n\tchain PREROUTING {\n", "R002", 1, 1),
        ("iptables -t nat -A OUTPUT -s $MINE -j ACCEPT\n", "R019", 1, 29),
        ("*filter\n-A INPUT -j DROP\n", "R012", 2, 17),
        ("*filter\nCOMMIT\n-A INPUT -j DROP\n", "R012", 3, 1),
        ("*fliter\nCOMMIT\n", "R017", 1, 2),
        ("-A OUTPUT -j ACCEPT\n", "R017", 1, 1),
        ("*filter\n:A - [0:0]\n:A - [0:0]\nCOMMIT\n", "R013", 3, 2),
        ("*filter\n-A INPUT -j A\n:A - [0:0]\nCOMMIT\n", "R008", 2, 13),
        ("*filter\n:A - [0:0]\n:B - [0:0]\n-A INPUT -j A\n-A A -j B\n-A B -g A\nCOMMIT\n", "R014", 6, 1),
        ("*filter\n:A - [0:0]\n-A OUTPUT -g A\n-A A -j A\nCOMMIT\n", "R014", 4, 1),
        (
            "Chain INPUT (policy ACCEPT)\ntarget     prot opt source               destination\n",
            "R017", 1, 1,
        ),
        (
            "Chain INPUT (policy DROP)\ntarget     prot opt source               destination\n"
            "Chain FORWARD (policy DROP)\nChain OUTPUT (policy DROP)\n",
            "R003", 2, 1,
        ),
    ],
)  # fmt: skip
def test_a_text_that_is_no_rule_set_is_refused_at_its_line(
    text: str, code: str, line: int, column: int
) -> None:
    e = refused(text)
    assert (e.code, e.place) == (code, Place("t", line, column)), e


def test_an_error_shows_the_line_and_a_way_out() -> None:
    assert str(refused("*filter\n-A INPUT -p tcp --dprot 80 -j ACCEPT\nCOMMIT\n")) == (
        "error[R006]: no module that this rule loads has an option `--dprot`\n"
        "  --> t:2:17\n"
        "2 | -A INPUT -p tcp --dprot 80 -j ACCEPT\n"
        "  |                 ^^^^^^^\n"
        "  = help: did you mean `--dport`?"
    )


def test_a_condition_in_a_property_file_is_refused_at_its_own_column() -> None:
    line = "    - where -p tcp --dport nope"
    with pytest.raises(RuleError) as caught:
        read_literals("-p tcp --dport nope", Place("p.prop", 7, 13), line)
    assert (caught.value.place, caught.value.line) == (Place("p.prop", 7, 28), line)


@pytest.mark.parametrize(
    "words", ["-j ACCEPT", "--dport 80", "-s 1.1.1.1,2.2.2.2", "--gid-owner 5", "COMMIT"]
)
def test_a_condition_takes_matches_only(words: str) -> None:
    with pytest.raises(RuleError):
        read_literals(words, Place("p", 1, 1))


# -- listings -------------------------------------------------------------------------------------

HEADS = "Chain PREROUTING (policy ACCEPT 0 packets, 0 bytes)\nChain OUTPUT (policy ACCEPT)\n"
COLUMNS = " pkts bytes target     prot opt in     out     source               destination\n"


def listed(row: str) -> r.Rule:
    (rule,) = read_rules(HEADS + COLUMNS + row, "t", "raw").rules.tables["raw"].chains["OUTPUT"].rules
    return rule


@pytest.mark.parametrize(
    ("prose", "spelled"),
    [
        (
            "tcp spts:!22:80 dpt:!http flags:!0x17/0x02",
            "-p tcp -m tcp ! --sport 22:80 ! --dport 80 ! --tcp-flags FIN,SYN,RST,ACK SYN",
        ),
        (
            "multiport dports  !53,15008 owner UID match 1-5",
            "-p tcp -m multiport ! --dports 53,15008 -m owner --uid-owner 1-5",
        ),
        ("! owner UID match 5 ! owner GID match 6", "-p tcp -m owner ! --uid-owner 5 ! --gid-owner 6"),
        ("owner GID match 5 incl. suppl. groups", "-p tcp -m owner --gid-owner 5 --suppl-groups"),
        (
            "! ctstate NEW mark match ! 0x1/0xff",
            "-p tcp -m conntrack ! --ctstate NEW -m mark ! --mark 0x1/0xff",
        ),
        ("state NEW /* tcp dpt:22 */", '-p tcp -m conntrack --ctstate NEW -m comment --comment "tcp dpt:22"'),
        (
            "limit: avg 5/sec burst 5 ADDRTYPE match dst-type !LOCAL",
            "-p tcp -m limit --limit 5/sec -m addrtype ! --dst-type LOCAL",
        ),
        ('STRING match "tcp dpt:22" ALGO name bm', '-p tcp STRING match "tcp dpt:22" ALGO name bm'),
        ("tcpmss match 5 tcp dpt:22", "-p tcp -m tcpmss --mss 5 -m tcp --dport 22"),
        ("nfacct-name  a tcp dpt:22", "-p tcp nfacct-name  a tcp dpt:22"),
        (
            "limit: up to 5/min burst 5 mode srcip tcp dpt:22",
            "-p tcp -m hashlimit --hashlimit-upto 5/min --hashlimit-burst 5 --hashlimit-mode srcip"
            " --hashlimit-name up-to-5-min-burst-5-mode-srcip -m tcp --dport 22",
        ),
        (
            "limit: up to 1/sec burst 5 rate-match rate-interval 5",
            "-p tcp limit: up to 1/sec burst 5 rate-match rate-interval 5",
        ),
    ],
)
def test_what_a_match_prints_is_read_or_kept_to_the_end(prose: str, spelled: str) -> None:
    rule = listed(
        f"    0     0 ACCEPT     tcp  --  *      *       0.0.0.0/0            0.0.0.0/0            {prose}\n"
    )
    assert spell.rule("OUTPUT", rule) == f"-A OUTPUT {spelled} -j ACCEPT"


def test_the_columns_of_a_listing_are_options_too() -> None:
    rule = listed("12 3M DROP !tcp !f any !lo !localhost base-address.mcast.net/4\n")
    assert (
        spell.rule("OUTPUT", rule)
        == "-A OUTPUT ! -s 127.0.0.1/32 -d 224.0.0.0/4 ! -o lo ! -p tcp ! -f -j DROP"
    )
    assert listed("0 0 all -- any any anywhere anywhere\n") == r.Rule()


def test_a_comment_whose_end_is_not_clear_is_refused() -> None:
    e = refused(HEADS + COLUMNS + "0 0 DROP all -- any any anywhere anywhere /* x */ tcp dpt:22 */\n", "raw")
    assert (e.code, e.place) == ("R005", Place("t", 4, 43))


def test_a_name_that_only_one_machine_knows_is_refused() -> None:
    e = refused(HEADS + COLUMNS + "0 0 DROP tcp -- any any db.example.org anywhere\n", "raw")
    assert (e.code, e.place) == ("R009", Place("t", 4, 25))
    assert e.hint is not None
    assert "-L -v -n" in e.hint


def test_command_lines_tell_the_tables_of_a_listing() -> None:
    text = (
        f"# iptables -t raw -L -v\n{HEADS}{COLUMNS}\n# iptables -L -nv\nChain INPUT (policy DROP)\n{COLUMNS}"
    )
    assert list(read_rules(text, "t").rules.tables) == ["raw", "filter"]


# -- what it costs --------------------------------------------------------------------------------


def test_reading_is_imported_without_lark() -> None:
    code = "import sys, verifier.reading.rules; sys.exit('lark' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_a_parser_is_kept_where_the_user_keeps_caches_and_works_where_nothing_can_be_kept(
    tmp_path: Path,
) -> None:
    code = "from verifier.reading.rules import read_rules; read_rules('*raw\\nCOMMIT\\n', 't')"
    for cache in (tmp_path / "there", Path("/dev/null/nowhere")):
        env = {**os.environ, "XDG_CACHE_HOME": str(cache)}
        assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env).returncode == 0
    assert list((tmp_path / "there" / "chainproof").iterdir())


@pytest.mark.parametrize(
    ("words", "loaded"),
    [
        ("1.2.3.4/0.0.1.1", "1.2.3.4/255.255.255.255"),
        ("10.0.0.5/255.0.255.0", "10.0.0.5/32"),
        ("1.2.3.4/255.255.0.0", "1.2.0.0/16"),
    ],
)
def test_a_mask_with_holes_is_that_of_the_whole_address_where_the_tool_says_so(
    words: str, loaded: str
) -> None:
    """`--ctorigsrc` and NETMAP, with iptables 1.8.9; after `-s` the mask stays as it is."""
    assert only_rule(f"-m conntrack --ctorigsrc {words}") == only_rule(f"-m conntrack --ctorigsrc {loaded}")
    given_, told = (
        rules_of_text(f"*nat\n-A PREROUTING -j NETMAP --to {w}\nCOMMIT\n") for w in (words, loaded)
    )
    assert given_ == told
    assert len({spell.literals(only_rule(f"-s {w}").literals) for w in ("1.2.3.4/0.0.1.1", "1.2.3.4")}) == 2


def rules_of_text(text: str) -> list[r.Target | None]:
    return [rule.target for rule in read_rules(text, "t").rules.tables["nat"].chains["PREROUTING"].rules]
