"""Lists of iptables commands: what the tables are after them, what fails in them, and what only a shell could tell."""

from __future__ import annotations

import pytest

from verifier import rules as r
from verifier import spell
from verifier.reading.errors import RuleError
from verifier.reading.rules import ReadRules, read_rules
from verifier.values import Span

from .test_text import CORPUS, is_opaque, needs_corpus


def after(*lines: str) -> ReadRules:
    return read_rules("\n".join([*lines, ""]), "t")


def chain_after(*lines: str, chain: str = "INPUT", table: str = "filter") -> list[str]:
    """The rules of a chain after the commands, each without `-A CHAIN`."""
    found = after(*lines).rules.tables[table].chains[chain]
    return [spell.rule(chain, rule).removeprefix(f"-A {chain}").strip() for rule in found.rules]


def refused(*lines: str) -> RuleError:
    with pytest.raises(RuleError) as caught:
        after(*lines)
    return caught.value


# -- what each command does --------------------------------------------------------------------------


def test_commands_run_in_order_on_tables_that_are_empty_before() -> None:
    read = after(
        "iptables -t nat -N REDIR",
        "iptables -t nat -A REDIR -p tcp -j REDIRECT --to-ports 15001",
        "iptables -t nat -A OUTPUT -p tcp -j REDIR",
        "iptables -P FORWARD DROP",
    )
    assert read.format == "commands"
    nat, filter_ = read.rules.tables["nat"].chains, read.rules.tables["filter"].chains
    assert list(nat) == ["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING", "REDIR"]
    assert nat["OUTPUT"].rules[0].target == r.Jump("REDIR")
    assert filter_["FORWARD"].policy == r.Drop()
    assert read.notes == ("the commands are taken to begin where no rules are loaded",)


@pytest.mark.parametrize(
    ("lines", "left"),
    [
        (["-A INPUT -j ACCEPT", "-I INPUT -j DROP"], ["-j DROP", "-j ACCEPT"]),
        (["-A INPUT -j ACCEPT", "-I INPUT 2 -j DROP"], ["-j ACCEPT", "-j DROP"]),
        (["-A INPUT -j ACCEPT", "-R INPUT 1 -j DROP"], ["-j DROP"]),
        (["-A INPUT -j ACCEPT", "-A INPUT -j DROP", "-D INPUT 1"], ["-j DROP"]),
        (["-A INPUT -j ACCEPT", "-A INPUT -j DROP", "-D INPUT -j DROP"], ["-j ACCEPT"]),
        (["-A INPUT -j DROP", "-A INPUT -j DROP", "-D INPUT -j DROP"], ["-j DROP"]),
        (["-A INPUT -s 1.1.1.1 -j DROP", "-A INPUT -s 2.2.2.2 -j DROP", "-D INPUT -s 1.1.1.1,2.2.2.2 -j DROP"], []),
        (["-A INPUT -p tcp --dport 80 -j DROP", "-D INPUT -p tcp -m tcp --dport 80 -j DROP"], []),
        (["-A INPUT -j ACCEPT", "-F"], []),
        (["-A INPUT -j ACCEPT", "-F INPUT", "-Z", "-L -n -v", "-S INPUT", "-L INPUT -Z"], []),
        (["-N A", "-A INPUT -j A", "-E A B"], ["-j B"]),
        (["-N A", "-X A", "-N A", "-A INPUT -g A"], ["-g A"]),
        (["-N A", "-A A -j DROP", "-F A", "-X", "-N A"], []),
        (["-A INPUT -s 3.3.3.3,4.4.4.4 -j DROP"], ["-s 3.3.3.3/32 -j DROP", "-s 4.4.4.4/32 -j DROP"]),
        (["-I INPUT -s 3.3.3.3,4.4.4.4 -j DROP"], ["-s 4.4.4.4/32 -j DROP", "-s 3.3.3.3/32 -j DROP"]),
    ],
)  # fmt: skip
def test_a_command_changes_a_chain_as_iptables_does(lines: list[str], left: list[str]) -> None:
    assert chain_after(*(f"iptables {line}" for line in lines)) == left


@pytest.mark.parametrize(
    "line",
    [
        "iptables -t filter -A INPUT -i lo -j DROP",
        "iptables -A INPUT -t filter -i lo -j DROP",
        "iptables -A INPUT -i lo -j DROP -t filter",
        "iptables -tfilter -vAINPUT -ilo -jDROP",
        "iptables -i lo -A INPUT -j DROP",
        "iptables -w -A INPUT -i lo -j DROP",
        "iptables -w 5 -A INPUT -i lo -j DROP",
        "iptables --wait=5 --table filter --append INPUT --in-interface lo --jump DROP",
        "iptables --tab filter --app INPUT -i lo -j DROP",
        "iptables -4 -A INPUT -i lo -c 3 4 -j DROP",
        "/usr/sbin/iptables-legacy -A INPUT -i lo -j DROP",
        "sudo -n iptables -A INPUT -i lo -j DROP",
        "  iptables -A INPUT -i lo -j DROP   # why",
        "iptables -A INPUT -i 'lo' -j \"DROP\"",
        "iptables -A INPUT \\\n  -i l\\\no -j DROP",
        "IPT=/sbin/iptables; IF=lo; $IPT -A INPUT -i ${IF} -j DROP",
        'RULE="-i lo -j DROP"\niptables -A INPUT $RULE',
        "iptables -A INPUT -i lo -j DROP >/dev/null 2>&1 || true",
        "iptables -C INPUT -i lo -j DROP 2>/dev/null || iptables -A INPUT -i lo -j DROP",
        "echo 1 > /proc/sys/net/ipv4/ip_forward && iptables -A INPUT -i lo -j DROP",
        "set -e; iptables -A INPUT -i lo -j DROP\nexit 0\nif true",
        "$ sudo iptables -A INPUT -i lo -j DROP",
        "root@pod:/# iptables -A INPUT -i lo -j DROP\nwhatever it said",
        "[root@pod ~]# iptables -A INPUT -i lo -j DROP",
        "# iptables -A INPUT -i lo -j DROP",
        "+ iptables -A INPUT -i lo -j DROP",
        "+fw.sh:12: iptables -A INPUT -i lo -j DROP",
        "+(fw.sh:12): iptables -A INPUT -i lo -j DROP",
        "+./fw.sh:12> iptables -A INPUT -i lo -j DROP",
        "+ 10:11:12 iptables -A INPUT -i lo -j DROP",
        "+ [2024-01-01 10:11:12] iptables -A INPUT -i lo -j DROP",
        "++ 2024-01-01T10:11:12.5Z iptables -A INPUT -i lo -j DROP",
        "++ '[' -n x ']'\n+ for i in a b\n+ sudo iptables -A INPUT -i lo -j DROP\nsome output",
        "iptables-restore <<EOF\n*filter\n-A INPUT -i lo -j DROP\nCOMMIT\nEOF",
    ],
)
def test_spellings_of_one_command(line: str) -> None:
    rules = after(line).rules.tables["filter"].chains["INPUT"].rules
    assert [spell.rule("INPUT", rule) for rule in rules] == ["-A INPUT -i lo -j DROP"]


@pytest.mark.parametrize(
    "line",
    [
        "+ timeout 5 iptables -A INPUT -j DROP",
        "+ nsenter -t 1 -n iptables -A INPUT -j DROP",
        "+§ iptables -A INPUT -j DROP",
    ],
)
def test_a_trace_in_which_a_command_may_be_hidden_is_refused(line: str) -> None:
    with pytest.raises(RuleError) as caught:
        after(f"+ iptables -A INPUT -i lo -j DROP\n{line}")
    assert caught.value.code == "R019"


def test_shell_quotes_make_one_word() -> None:
    (rule,) = (
        after("iptables -A INPUT -m comment --comment 'a \"b\" $c' -m comment --comment \"it's \\\"d\\\"\"")
        .rules.tables["filter"].chains["INPUT"].rules
    )  # fmt: skip
    assert rule.comments == ('a "b" $c', 'it\'s "d"')


def test_a_traced_word_is_what_the_shell_made_of_it() -> None:
    (rule,) = (
        after("+ iptables -A INPUT -m comment --comment '$HOME *' -p tcp --dport 1:2")
        .rules.tables["filter"]
        .chains["INPUT"]
        .rules
    )
    assert rule.comments == ("$HOME *",)
    assert r.Literal(r.DestinationPorts(Span(1, 2))) in rule.literals


def test_a_rule_knows_the_line_of_its_command() -> None:
    rules = after("# first", "", "iptables -A INPUT \\", " -j DROP", "iptables -A INPUT -j ACCEPT").rules
    assert [rule.place.line for rule in rules.tables["filter"].chains["INPUT"].rules] == [3, 5]


# -- what fails --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "line", "why"),
    [
        ([], "-A A -j DROP", "there is no chain A"),
        ([], "-A INPUT -j A", "there is no chain A"),
        ([], "-D INPUT -j DROP", "no rule like this one"),
        ([], "-D INPUT 1", "has no rule 1"),
        ([], "-R INPUT 1 -j DROP", "has no rule 1"),
        ([], "-I INPUT 2 -j DROP", "has no rule 2"),
        ([], "-F A", "there is no chain A"),
        ([], "-X A", "there is no chain A"),
        ([], "-X INPUT", "is built in"),
        ([], "-N INPUT", "is there already"),
        ([], "-P A DROP", "is no built-in chain"),
        ([], "-t nope -F", "no table nope"),
        ([], "-t nat -A FORWARD -j DROP", "there is no chain FORWARD"),
        ([], "-D INPUT x -j DROP", "no number"),
        ([], "-A INPUT -o eth0 -j DROP", "takes no `-o` in INPUT"),
        (["-N A"], "-N A", "is there already"),
        (["-N A", "-N B"], "-E A B", "is there already"),
        (["-N A", "-A A -j DROP"], "-X A", "has rules"),
        (["-N A", "-A INPUT -j A"], "-X A", "is called"),
        (["-A INPUT -p tcp -j DROP"], "-D INPUT -p tcp -m tcp -j DROP", "no rule like this one"),
        (["-A INPUT -m comment --comment x -j DROP"], "-D INPUT -j DROP", "no rule like this one"),
        (["-A INPUT -m mark --mark 1 -m comment --comment x"], "-D INPUT -m comment --comment x -m mark --mark 1", "no rule"),
    ],
)  # fmt: skip
def test_a_command_that_fails_changes_nothing_and_the_others_go_on(
    before: list[str], line: str, why: str
) -> None:
    lines = [f"iptables {x}" for x in [*before, line, "-A OUTPUT -j ACCEPT"]]
    read = after(*lines)
    without = after(*lines[: len(before)], lines[-1])
    assert read.rules.tables["filter"] == without.rules.tables["filter"]
    (note,) = [n for n in read.notes if "fails" in n]
    assert f"line {len(before) + 1}:" in note
    assert why in note


def test_a_script_that_stops_at_errors_stops_at_the_first() -> None:
    assert chain_after("set -e", "iptables -A INPUT -j DROP", "iptables -X A", "iptables -F") == ["-j DROP"]
    assert chain_after("set -e", "iptables -X A || true", "iptables -A INPUT -j DROP") == ["-j DROP"]


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("iptables -A INPUT -j DROP || iptables -A INPUT -j ACCEPT", ["-j DROP"]),
        ("iptables -X A || iptables -A INPUT -j ACCEPT", ["-j ACCEPT"]),
        ("iptables -X A && iptables -A INPUT -j ACCEPT", []),
        ("iptables -A INPUT -j DROP && iptables -A INPUT -j ACCEPT", ["-j DROP", "-j ACCEPT"]),
        ("iptables -X A && iptables -F || iptables -A INPUT -j ACCEPT", ["-j ACCEPT"]),
        ("! iptables -X A && iptables -A INPUT -j ACCEPT", ["-j ACCEPT"]),
        ("iptables -X A; iptables -A INPUT -j ACCEPT", ["-j ACCEPT"]),
        ("false || iptables -A INPUT -j ACCEPT", ["-j ACCEPT"]),
    ],
)
def test_what_follows_a_command_is_run_if_it_ended_so(line: str, left: list[str]) -> None:
    assert chain_after("iptables -P INPUT ACCEPT", line) == left


def test_many_failures_are_counted() -> None:
    notes = after(*["iptables -X A"] * 40, "iptables -A INPUT -j DROP").notes
    assert len(notes) < 20
    assert any("28 more commands fail" in note for note in notes)


# -- what only a run could tell ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "column"),
    [
        ("iptables -A INPUT -s $MINE -j DROP", 22),
        ("iptables -A INPUT -s `hostname` -j DROP", 22),
        ('iptables -A INPUT -s "$(hostname)" -j DROP', 23),
        ("for p in 1 2; do iptables -A INPUT -j DROP; done", 1),
        ("if true; then iptables -A INPUT -j DROP; fi", 1),
        ("set_up() { iptables -F; }", 7),
        ("iptables -F | tee log", 13),
        ("iptables -F &", 13),
        ("./more-rules.sh; iptables -F", 1),
        (". /etc/rules; iptables -F", 1),
        ("iptables-restore < /etc/iptables.rules", 20),
        ("ip netns exec x iptables -F", 17),
        ("iptables -A INPUT -s 1.1.1.{1,2} -j DROP", 28),
        ("iptables -F; iptables-nft -F", 14),
        ("iptables -A INPUT -j DROP &&", 29),
    ],
)
def test_what_only_a_shell_can_tell_is_refused_at_its_place(line: str, column: int) -> None:
    e = refused("iptables -A OUTPUT -j ACCEPT", line)
    assert (e.code, e.place.line, e.place.column) == ("R019", 2, column), e
    assert e.hint
    assert e.line == line


def test_a_variable_that_grows_without_end_is_refused() -> None:
    e = refused("A=aaaaaaaaaa", *['A="$A$A"'] * 60, "iptables -A INPUT -m comment --comment $A")
    assert e.code == "R019"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("iptables -A INPUT --dprot 1", "R006"),
        ("iptables -N A -j DROP", "R015"),
        ("iptables -A INPUT -D INPUT 1", "R011"),
        ("iptables -j DROP", "R015"),
        ("iptables -A", "R009"),
        ("iptables -A INPUT -m comment --comment 'x", "R005"),
        ("iptables -R INPUT -j DROP", "R015"),
    ],
)
def test_a_command_that_we_cannot_read_is_refused(line: str, code: str) -> None:
    e = refused("iptables -A OUTPUT -j ACCEPT", line)
    assert (e.code, e.place.line) == (code, 2), e


def test_an_opaque_rule_that_may_be_the_one_meant_is_not_guessed() -> None:
    e = refused(
        "iptables -A INPUT -m u32 --u32 0=0 -j DROP", "iptables -D INPUT -m u32 --u32 0x0=0x0 -j DROP"
    )
    assert e.code == "R019"
    assert chain_after(
        "iptables -A INPUT -m u32 --u32 0=0 -j DROP", "iptables -D INPUT -m u32 --u32 0=0 -j DROP"
    ) == []  # fmt: skip


# -- the corpus --------------------------------------------------------------------------------------


@needs_corpus
def test_scripts_of_others_end_in_the_rules_that_iptables_ended_in() -> None:
    """For each script what iptables-legacy-save printed after the real tool had run it; ferm's are of single
    extensions, many of which that machine did not have.
    """
    compared = 0
    for saved in sorted((CORPUS / "derived").rglob("*.legacy.rules.v4")):
        name = saved.name.removesuffix(".legacy.rules.v4")
        if name.startswith(("test__modules", "test__targets", "test__protocols")):
            continue
        script = CORPUS / saved.parent.name / f"{name}.script"
        try:
            ran = read_rules(script.read_text(), str(script)).rules
        except RuleError:
            continue
        for table, its in read_rules(saved.read_text(), str(saved)).rules.tables.items():
            assert understood(its) == understood(ran.tables[table]), (script, table)
        compared += 1
    assert compared > 70


def understood(table: r.Table) -> dict[str, list[str]]:
    """The rules of each chain that are read as more than text, as they are spelled."""
    return {
        name: [spell.rule(name, rule) for rule in chain.rules if not is_opaque(rule)]
        for name, chain in table.chains.items()
    }
