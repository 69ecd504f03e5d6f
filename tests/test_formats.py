"""Which kinds of text we know, and what iptables-restore's own answers make of each line that people write."""

from __future__ import annotations

import pytest

from verifier import rules as r
from verifier import spell
from verifier.reading.errors import RuleError
from verifier.reading.rules import ReadRules, read_rules
from verifier.values import Family, Net

from .test_text import CORPUS, needs_corpus

V4, V6 = Family.IPV4, Family.IPV6


def restored(*lines: str, table: str = "filter") -> ReadRules:
    return read_rules("\n".join([f"*{table}", *lines, "COMMIT", ""]), "t")


def chains_of(read: ReadRules, table: str = "filter") -> dict[str, list[str]]:
    """The rules of each chain, without `-A CHAIN`."""
    return {
        name: [spell.rule(name, rule).removeprefix(f"-A {name}").strip() for rule in chain.rules]
        for name, chain in read.rules.tables[table].chains.items()
    }


def refused(text: str) -> RuleError:
    with pytest.raises(RuleError) as caught:
        read_rules(text, "t")
    return caught.value


# -- iptables-restore's own answers ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "chains"),
    [
        (["-A INPUT -j DROP", "-A INPUT -j ACCEPT", "-D INPUT 1"], {"INPUT": ["-j ACCEPT"]}),
        (["-A INPUT -j DROP", "-A INPUT -j ACCEPT", "-D INPUT -j ACCEPT"], {"INPUT": ["-j DROP"]}),
        (["-A INPUT -j DROP", "-R INPUT 1 -j ACCEPT"], {"INPUT": ["-j ACCEPT"]}),
        (["-A INPUT -j DROP", "-I INPUT -j ACCEPT"], {"INPUT": ["-j ACCEPT", "-j DROP"]}),
        (["-A INPUT -j DROP", "-I INPUT 2 -j ACCEPT"], {"INPUT": ["-j DROP", "-j ACCEPT"]}),
        (["-A INPUT -j DROP", "-F INPUT"], {"INPUT": []}),
        (["-A INPUT -j DROP", "-F"], {"INPUT": []}),
        (["-N A", "-N B", "-X A"], {"B": []}),
        (["-N A", "-N B", "-X"], {}),
        (["-N A", "-A INPUT -j A", "-E A B"], {"B": [], "INPUT": ["-j B"]}),
        (["-N A", "-Z A", "-Z", "-L", "-S"], {"A": []}),
        (["-A INPUT -j DROP", "-C INPUT -j DROP"], {"INPUT": ["-j DROP"]}),
        (["-i lo -A INPUT -j DROP"], {"INPUT": ["-i lo -j DROP"]}),
        (["[1:2] -A INPUT -c 3 4 -j DROP"], {"INPUT": ["-j DROP"]}),
        (["--append INPUT --jump DROP"], {"INPUT": ["-j DROP"]}),
        ([":A - [0:0] more", ":INPUT ACCEPT bar", ":OUTPUT DROP"], {"A": [], "INPUT": [], "OUTPUT": []}),
        ([":INPUT DROP", "-A INPUT -j ACCEPT", ":OUTPUT -"], {"INPUT": ["-j ACCEPT"], "OUTPUT": []}),
        (["-A\tINPUT\t-j\tDROP", "  -A INPUT -j ACCEPT", ""], {"INPUT": ["-j DROP", "-j ACCEPT"]}),
        (["-N A -m comment --comment why"], {"A": []}),
        (["-4 -A INPUT -j DROP", "-A INPUT -4 -j ACCEPT"], {"INPUT": ["-j DROP", "-j ACCEPT"]}),
        (["-6 -A INPUT -s ::1 -j DROP", "-A INPUT --ipv6 -s ::1 -j DROP", "-A OUTPUT -d 1.1.1.1"], {"OUTPUT": ["-d 1.1.1.1/32"]}),
        (['-A INPUT -m comment --comment "-t -A -6" -j DROP'], {"INPUT": ['-m comment --comment "-t -A -6" -j DROP']}),
    ],
)  # fmt: skip
def test_what_iptables_restore_takes(lines: list[str], chains: dict[str, list[str]]) -> None:
    assert chains_of(restored(*lines)) == chains


@pytest.mark.parametrize(
    ("lines", "code", "line"),
    [
        (["-A INPUT -j DROP", "-D INPUT -j ACCEPT"], "R018", 3),
        (["-D INPUT 1"], "R018", 2),
        (["-D INPUT 0"], "R018", 2),
        (["-C INPUT -j DROP"], "R018", 2),
        (["-R INPUT 1 -j DROP"], "R018", 2),
        (["-A INPUT -j DROP", "-R INPUT 1 -s 1.1.1.1,2.2.2.2 -j DROP"], "R015", 3),
        (["-I INPUT 2 -j DROP"], "R013", 2),
        (["-I INPUT 0 -j DROP"], "R018", 2),
        (["-F A"], "R008", 2),
        (["-Z A"], "R008", 2),
        (["-X INPUT"], "R018", 2),
        (["-N A", "-N A"], "R018", 3),
        (["-N A", "-N B", "-E A B"], "R018", 4),
        (["-N A", "-A A -j DROP", "-X A"], "R018", 4),
        (["-N A", "-A INPUT -j A", "-X A"], "R018", 4),
        (["-N A", "-P A DROP"], "R013", 3),
        (["-N A -j DROP"], "R015", 2),
        (["-N A -N B"], "R011", 2),
        (["-A INPUT -t filter -j DROP"], "R015", 2),
        (["-t filter -A INPUT -j DROP"], "R015", 2),
        (["-w -A INPUT -j DROP"], "R015", 2),
        (["-j DROP"], "R015", 2),
        (["-A INPUT -m comment --comment 'a b' -j DROP"], "R005", 2),
        (["COMMIT # done"], "R005", 2),
        ([":INPUT"], "R005", 2),
    ],
)
def test_what_iptables_restore_refuses(lines: list[str], code: str, line: int) -> None:
    e = refused("\n".join(["*filter", *lines, "COMMIT", ""]))
    assert (e.code, e.place.line) == (code, line), e


@pytest.mark.parametrize("head", ["*filter", "* filter", "*filter ", "*filter # why", "*filter why"])
def test_a_table_begins_with_its_name(head: str) -> None:
    assert list(read_rules(f"{head}\n-A INPUT -j DROP\nCOMMIT\n", "t").rules.tables) == ["filter"]


def test_a_comment_may_go_over_lines_as_iptables_save_prints_it() -> None:
    read = restored('-A INPUT -m comment --comment "one', 'two" -j DROP', "-A INPUT -j ACCEPT")
    first, second = read.rules.tables["filter"].chains["INPUT"].rules
    assert first.comments == ("one\ntwo",)
    assert first.target == r.Drop()
    assert (first.place.line, second.place.line) == (2, 4)


# -- both families ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "families"),
    [
        ("*filter\n-A INPUT -j DROP\nCOMMIT\n", [V4]),
        ("*filter\n-A INPUT -s fe80::/10 -j DROP\nCOMMIT\n", [V6]),
        ("*filter\n-A INPUT -s 1:2:3:4:5:6:7:8 -j DROP\nCOMMIT\n", [V6]),
        ("# Generated by ip6tables-save v1.8.9 on Sun\n*filter\n-A INPUT -j DROP\nCOMMIT\n", [V6]),
        ("# Generated by ip6tables-nft-save v1.8.9\n*nat\nCOMMIT\n*filter\nCOMMIT\n", [V6]),
        ("*filter\n-A INPUT -m mac --mac-source 00:11:22:33:44:55 -j DROP\nCOMMIT\n", [V4]),
        ('*filter\n-A INPUT -m comment --comment "see ::1" -j DROP\nCOMMIT\n', [V4]),
        ("*filter\n-A INPUT -p ipv6-icmp -j ACCEPT\nCOMMIT\n", [V6]),
        ("*nat\n-A OUTPUT -d 1.1.1.1\nCOMMIT\n*nat\n-A OUTPUT -d ::1\nCOMMIT\n", [V4, V6]),
        ("*nat\n-A OUTPUT -d ::1\nCOMMIT\n*nat\n-A OUTPUT -d 1.1.1.1\nCOMMIT\n", [V4, V6]),
        ("-P INPUT DROP\n-P FORWARD DROP\n-P OUTPUT ACCEPT\n-A INPUT -s ::1/128 -j ACCEPT\n", [V6]),
        ("iptables -A INPUT -j DROP\nip6tables -A INPUT -j DROP\n", [V4, V6]),
        ("ip6tables -A INPUT -s ::1 -j DROP\n", [V6]),
    ],
)
def test_the_words_tell_the_family(text: str, families: list[Family]) -> None:
    read = read_rules(text, "t")
    assert list(read.families) == families
    assert [rules.family for rules in read.families.values()] == families


def test_ipv6_parts_follow_ipv4_parts_from_the_first_table_that_comes_again() -> None:
    text = "".join(
        f"* {table}\n-N A\n{rule}COMMIT\n"
        for table, rule in [
            ("mangle", ""), ("nat", "-A OUTPUT -d 127.0.0.1/32 -j A\n"), ("raw", ""),
            ("mangle", ""), ("nat", "-A OUTPUT -d ::1/128 -j A\n"), ("raw", ""),
        ]
    )  # fmt: skip
    text = f"iptables-save\nip6tables-save\n{text}iptables-save\n"
    read = read_rules(text, "t")
    assert list(read.families) == [V4, V6]
    assert read_rules(text, "t", family=V4) == read_rules(text, "t", family=V6) == read
    for family, address in ((V4, Net.read("127.0.0.1")), (V6, Net.read("::1", V6))):
        tables = read.families[family].tables
        assert list(tables) == ["mangle", "nat", "raw"]
        (rule,) = tables["nat"].chains["OUTPUT"].rules
        assert rule.literals == (r.Literal(r.Destination(address)),)
    assert not any("again" in note for note in read.notes)


def test_where_only_the_second_half_tells_ipv6_the_first_is_ipv4() -> None:
    head = "*mangle\n-N A\nCOMMIT\n*nat\n-N A\nCOMMIT\n"
    read = read_rules(f"{head}*mangle\n-N B\nCOMMIT\n*nat\n-A OUTPUT -d ::1\nCOMMIT\n", "t")
    assert [list(rules.tables) for rules in read.families.values()] == [["mangle", "nat"]] * 2
    assert "A" in read.families[V4].tables["mangle"].chains
    assert "B" in read.families[V6].tables["mangle"].chains
    again = read_rules("*nat\n-A OUTPUT -d ::1\nCOMMIT\n*nat\n-A OUTPUT -d ::2\nCOMMIT\n", "t")
    assert list(again.families) == [V6]


def test_a_line_that_makes_too_many_rules_is_refused() -> None:
    many = ",".join(f"10.0.{n // 250}.{n % 250}" for n in range(700))
    e = refused(f"*filter\n-A INPUT -s {many} -d {many} -j DROP\nCOMMIT\n")
    assert (e.code, e.place.line) == ("R020", 2)


def test_chains_that_are_nested_too_deeply_are_refused() -> None:
    def nested(deep: int) -> str:
        calls = "".join(f"-A C{n} -j C{n + 1}\n" for n in range(1, deep))
        heads = "".join(f":C{n} -\n" for n in range(1, deep + 1))
        return f"*raw\n:OUTPUT ACCEPT\n{heads}-A OUTPUT -j C1\n{calls}COMMIT\n"

    assert len(read_rules(nested(200), "t").rules.tables["raw"].chains) == 201
    assert refused(nested(201)).code == "R020"


def test_a_part_that_may_be_of_either_family_is_not_guessed() -> None:
    e = refused("*nat\n-A OUTPUT -d 1.1.1.1\nCOMMIT\n*raw\nCOMMIT\n*filter\n-A INPUT -s ::1\nCOMMIT\n")
    assert (e.code, e.place.line) == ("R004", 4)


def test_the_caller_may_tell_the_family() -> None:
    text = "*filter\n:INPUT DROP [0:0]\nCOMMIT\n"
    assert list(read_rules(text, "t", family=V6).families) == [V6]
    assert list(read_rules("-P OUTPUT DROP\n", "t", "raw", V6).families) == [V6]


def test_a_text_whose_lines_are_each_for_one_family_is_for_both() -> None:
    """iptables-restore passes over `-6` lines, ip6tables-restore over `-4` lines."""
    lines = ["*filter", "-4 -A INPUT -s 1.1.1.1 -j DROP", "-A INPUT -6 -s ::1 -j DROP", "-A INPUT -j ACCEPT"]
    read = read_rules("\n".join([*lines, "COMMIT"]), "t")
    assert list(read.families) == [V4, V6]
    for family, net in ((V4, Net.read("1.1.1.1")), (V6, Net.read("::1", V6))):
        first, last = read.families[family].tables["filter"].chains["INPUT"].rules
        assert first == r.Rule((r.Literal(r.Source(net)),), r.Drop())
        assert last == r.Rule((), r.Accept())


def test_an_address_of_the_other_family_is_refused() -> None:
    assert refused("*filter\n-A INPUT -s 1.1.1.1\n-A INPUT -s ::1\nCOMMIT\n").code == "R004"
    assert refused("ip6tables -A INPUT -s 1.1.1.1\n").code == "R004"
    assert refused("iptables -A INPUT -s ::1\n").code == "R004"


# -- without a table, or with many ---------------------------------------------------------------------------


def test_rules_that_name_their_table_need_no_head() -> None:
    read = read_rules("-t nat -A OUTPUT -p tcp -j ACCEPT\n-A INPUT -j DROP\n-P INPUT DROP\n", "t")
    assert read.format == "iptables -S"
    assert list(read.rules.tables) == ["nat", "filter"]
    assert any("-t" in note for note in read.notes)


# -- logs ----------------------------------------------------------------------------------------------------

STATE = """\
# Generated by iptables-save v1.8.7 on Mon Jan  1 00:00:00 2024
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [3:180]
:POSTROUTING ACCEPT [0:0]
:PROXY - [0:0]
-A OUTPUT -p tcp -j PROXY
-A PROXY -p tcp -j REDIRECT --to-ports 15001
COMMIT
# Completed on Mon Jan  1 00:00:00 2024
"""
ZAP = "2024-01-01T00:00:00.123456Z\tinfo\t"
RUN = """\
Writing following contents to rules file: /tmp/iptables-rules-1.txt
* nat
-N PROXY
-A OUTPUT -p tcp -j PROXY
-A PROXY -p tcp -j REDIRECT --to-ports 15001
COMMIT
"""


def proxy_of(text: str) -> dict[str, list[str]]:
    read = read_rules(text, "t")
    assert read.format in ("log", "shell trace")
    return {n: rules for n, rules in chains_of(read, "nat").items() if rules}


WANTED = {"OUTPUT": ["-p tcp -j PROXY"], "PROXY": ["-p tcp -j REDIRECT --to-ports 15001"]}


@pytest.mark.parametrize(
    "text",
    [
        f"{ZAP}Istio iptables environment:\nA=\n{ZAP}Final iptables state (IPv4):\n{STATE}",
        f"{ZAP}{RUN}{ZAP}Running command: iptables-restore --noflush /tmp/iptables-rules-1.txt\n",
        f"{ZAP}{RUN}{ZAP}Running command: iptables-restore --noflush x\n{ZAP}Command output: \n{STATE}",
        f"Environment:\n------------\nA=\n\n{RUN}\niptables-restore --noflush /tmp/x\niptables-save \n{STATE}",
        "Environment:\nA=\n+ iptables -t nat -N PROXY\niptables: Chain already exists.\n+ dump\n+ iptables-save\n" + STATE,
        "Environment:\nA=\n+ iptables -t nat -N PROXY\n+ iptables -t nat -A OUTPUT -p tcp -j PROXY\n"
        "+ iptables -t nat -A PROXY -p tcp -j REDIRECT --to-ports 15001\n",
        'time="2024-01-01T00:00:00Z" level=info msg="/sbin/iptables-nft -t nat -N PROXY -m comment --comment a/b"\n'
        'time="2024-01-01T00:00:00Z" level=info msg="Redirecting all"\n'
        'time="2024-01-01T00:00:00Z" level=info msg="/sbin/iptables-nft -t nat -A OUTPUT -p tcp -j PROXY"\n'
        'time="2024-01-01T00:00:00Z" level=info msg="/sbin/iptables-nft -t nat -A PROXY -p tcp -j REDIRECT --to-port 15001"\n',
        'time="2024-01-01T00:00:00Z" level=info msg="iptables-save -t nat"\n'
        'time="2024-01-01T00:00:00Z" level=info msg="' + STATE.replace("\n", "\\n") + '"\n',
        "2024/01/01 00:00:00 > iptables -t nat -vnL\n2024/01/01 00:00:00 < Chain PREROUTING (policy ACCEPT 0 packets)\n"
        "2024/01/01 00:00:00 > iptables -t nat -F PROXY\n2024/01/01 00:00:00 < iptables: No chain/target/match by that name.\n"
        "2024/01/01 00:00:00 > iptables -t nat -N PROXY\n2024/01/01 00:00:00 < \n"
        "2024/01/01 00:00:00 :; iptables -t nat -A OUTPUT -p tcp -j PROXY\n"
        "2024/01/01 00:00:00 > iptables -t nat -A PROXY -p tcp -j REDIRECT --to-ports 15001\n",
        'time="2024-01-01T00:00:00Z" level=info msg="nsenter --net=/run/netns/a -- iptables -t nat -N PROXY"\n'
        'time="2024-01-01T00:00:00Z" level=info msg="/bin/nsenter -t 12 -n iptables -t nat -A OUTPUT -p tcp -j PROXY"\n'
        'time="2024-01-01T00:00:00Z" level=info msg="/bin/nsenter -t 12 -n iptables -t nat -A PROXY -p tcp -j REDIRECT --to-ports 15001"\n',
        "".join(f"2024-01-01T00:00:00.123456789Z stdout F {line}\n" for line in ("Environment:", *STATE.splitlines())),
        "".join('{"level":"info","time":"2024-01-01T00:00:00Z","msg":"%s"}\n' % line for line in STATE.splitlines()),  # noqa: UP031
        '{"ts":1,"level":"info","msg":"Final state:\\n' + STATE.replace("\n", "\\n") + '"}\n',
        "".join('{"log":"%s\\n","stream":"stdout","time":"2024"}\n' % line for line in STATE.splitlines()),  # noqa: UP031
    ],
)  # fmt: skip
def test_a_log_says_what_its_program_left(text: str) -> None:
    assert proxy_of(text) == WANTED


def test_what_iptables_itself_leaves_out_is_told() -> None:
    """Its warnings go to where errors go, and so into what was noted down."""
    head = "# Warning: iptables-legacy tables present, use iptables-legacy-save to see them\n"
    also = "# Table `nat' contains incompatible base-chains, use 'nft' tool to list them.\n"
    read = read_rules(f"{head}{also}*filter\n:INPUT DROP [0:0]\nCOMMIT\n", "t")
    assert [note.partition(":")[0] for note in read.notes] == ["line 1", "line 2"]
    assert "iptables-legacy-save" in read.notes[0]
    assert "nat" in read.notes[1]
    assert read_rules(f"{head}-P INPUT DROP\n", "t", "filter").notes == (read.notes[0],)


def test_the_last_state_of_a_log_counts() -> None:
    first = STATE.replace("-A PROXY -p tcp -j REDIRECT --to-ports 15001\n", "-A PROXY -j RETURN\n")
    assert proxy_of(f"{ZAP}iptables-save\n{first}{ZAP}and now\n{ZAP}iptables-save\n{STATE}") == WANTED
    after = f"{ZAP}iptables-save\n{first}{ZAP}iptables -t nat -F PROXY\n{ZAP}iptables -t nat -A PROXY -p tcp -j REDIRECT --to-ports 15001\n"
    assert proxy_of(after) == WANTED


def test_a_log_has_a_state_for_each_family() -> None:
    six = STATE.replace("iptables-save", "ip6tables-save")
    read = read_rules(
        f"{ZAP}Final iptables state (IPv4):\n{STATE}{ZAP}Final iptables state (IPv6):\n{six}", "t"
    )
    assert list(read.families) == [V4, V6]
    assert read.families[V4].tables == read.families[V6].tables


def test_a_log_that_hides_what_was_loaded_is_refused() -> None:
    e = refused(f"{ZAP}Running command: iptables-restore --noflush /tmp/rules\n")
    assert (e.code, e.place.line) == ("R019", 1)


def test_a_log_of_rules_on_top_of_others_is_refused() -> None:
    e = refused(f"{ZAP}iptables -t nat -N A\niptables: Chain already exists.\n")
    assert (e.code, e.place.line) == ("R019", 2)


# -- the corpus ----------------------------------------------------------------------------------------------


@needs_corpus
def test_every_golden_file_of_istio_is_read() -> None:
    files = sorted((CORPUS / "istio").glob("*.golden"))
    for path in files:
        read = read_rules(path.read_text(), str(path))
        assert read.format == "iptables-save"
        six = "ipv6" in path.name or "tproxy" in path.name
        assert V4 in read.families, path
        assert six or V6 not in read.families, path
