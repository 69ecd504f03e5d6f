"""`chainproof lint` and `chainproof show`: what is found before any packet is asked about, and what was understood."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from verifier import cli
from verifier import rules as r
from verifier.analyses.lint import DEEPEST, MEANINGS, findings
from verifier.reading.rules import read_rules
from verifier.spell import rule_set


def read(text: str) -> r.RuleSet:
    return read_rules(text, "x.rules").rules


def codes(text: str) -> list[tuple[str, int]]:
    return [(f.code, f.place.line) for f in findings(read(text))]


def test_a_sound_table_has_no_finding() -> None:
    assert (
        codes(
            "*nat\n:OUTPUT ACCEPT [0:0]\n:MINE - [0:0]\n-A OUTPUT -j MINE\n-A MINE -p tcp -j REDIRECT\nCOMMIT\n"
        )
        == []
    )


def test_what_is_not_understood_is_found() -> None:
    text = '*filter\n-A INPUT -m string --string "x" --algo bm -j DROP\n-A INPUT -j SYNPROXY\nCOMMIT\n'
    assert codes(text) == [("L001", 2), ("L002", 3)]


@pytest.mark.parametrize(
    ("table", "chain", "rule"),
    [
        ("filter", "INPUT", "-m owner --uid-owner 0 -j DROP"),
        ("nat", "POSTROUTING", "-p tcp -j REDIRECT"),
        ("nat", "INPUT", "-j DNAT --to-destination 10.0.0.1"),
    ],
)
def test_what_a_hook_does_not_load_is_found_also_behind_a_jump(table: str, chain: str, rule: str) -> None:
    direct = f"*{table}\n:{chain} ACCEPT [0:0]\n-A {chain} {rule}\nCOMMIT\n"
    assert codes(direct) == [("L004", 3)]
    behind = f"*{table}\n:{chain} ACCEPT [0:0]\n:MINE - [0:0]\n-A {chain} -j MINE\n-A MINE {rule}\nCOMMIT\n"
    assert codes(behind) == [("L004", 5)]
    alone = f"*{table}\n:{chain} ACCEPT [0:0]\n:MINE - [0:0]\n-A MINE {rule}\nCOMMIT\n"
    assert codes(alone) == [("L007", 3)]


def test_what_iptables_save_leaves_out_is_found() -> None:
    assert codes("*filter\n-A INPUT -p udp -m udp ! --sport 0:65535 -j DROP\nCOMMIT\n") == [("L005", 2)]
    assert codes("*filter\n-A INPUT -p udp -m udp ! --sport 0:65534 -j DROP\nCOMMIT\n") == []
    assert codes("*filter\n-A INPUT -p esp -m esp ! --espspi 0:4294967295\nCOMMIT\n") == [("L005", 2)]
    assert codes("*filter\n-A INPUT -p icmp -m icmp --icmp-type 3/0:5\nCOMMIT\n") == [("L005", 2)]


def nested(depth: int) -> str:
    names = [f"C{i}" for i in range(depth)]
    heads = [f":{name} - [0:0]" for name in names]
    calls = [f"-A {a} -j {b}" for a, b in zip(["INPUT", *names], names, strict=False)]
    return "\n".join(["*filter", ":INPUT ACCEPT [0:0]", *heads, *calls, "COMMIT", ""])


def test_chains_nested_too_deeply_for_nft_are_found() -> None:
    assert codes(nested(DEEPEST)) == []
    assert codes(nested(DEEPEST + 1)) == [("L006", 2)]


RING = "*filter\n:INPUT ACCEPT [0:0]\n:A - [0:0]\n:B - [0:0]\n:C - [0:0]\n-A A -j B\n-A B -g A\n-A C -j B\nCOMMIT\n"


def test_a_ring_that_nothing_leads_to_is_found_once() -> None:
    """Both backends load it; C leads into it, and is no part of it."""
    assert codes(RING) == [("L007", 3), ("L007", 4), ("L007", 5), ("L008", 3)]


@pytest.mark.parametrize(
    ("limit", "found"),
    [
        ("10/sec --limit-burst 0", True),
        ("1/day", True),
        ("1/day --limit-burst 4", True),
        ("1/day --limit-burst 10000", True),
        ("1/hour --limit-burst 1000", False),
        ("2/day --limit-burst 9", False),
        ("2/day --limit-burst 10", True),
        ("10000/sec", False),
    ],
)
def test_a_limit_that_iptables_legacy_does_not_load_is_found(limit: str, found: bool) -> None:
    """Each as observed with iptables 1.8.9 on Linux 6.18; the nft backend loads all of them."""
    text = f"*filter\n-A INPUT -m limit --limit {limit}\nCOMMIT\n"
    assert codes(text) == ([("L009", 2)] if found else [])


def test_tcpmss_wants_a_syn() -> None:
    for asks, found in (("", True), ("! --syn", True), ("--syn", False), ("--tcp-flags ALL SYN,ACK", False)):
        text = f"*mangle\n-A FORWARD -p tcp -m tcp {asks} -j TCPMSS --set-mss 1400\nCOMMIT\n"
        assert codes(text) == ([("L011", 2)] if found else []), asks


def test_ulog_is_found() -> None:
    assert codes("*filter\n-A INPUT -j ULOG --ulog-nlgroup 2\nCOMMIT\n") == [("L010", 2)]


def test_every_code_has_a_meaning() -> None:
    texts = [
        nested(20),
        RING,
        "*filter\n:MINE - [0:0]\nCOMMIT\n",
        "*nat\n-A POSTROUTING -p tcp -j REDIRECT\nCOMMIT\n",
    ]
    assert {f.code for text in texts for f in findings(read(text))} <= set(MEANINGS)


# -- the commands ------------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as leave:
        cli.main(words)
    said = capsys.readouterr()
    return int(leave.value.code or 0), said.out, said.err


TEXT = "*filter\n:INPUT DROP [0:0]\n:MINE - [0:0]\n-A INPUT -s 10.0.0.0/8 -p tcp -m tcp --dport 22 -j MINE\nCOMMIT\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "x.rules"
    path.write_text(TEXT)
    return path


def test_show_as_rules_prints_what_means_the_same(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "show", str(file), "--as", "rules")
    assert status == 0
    assert out == rule_set(read(TEXT))
    assert read(out) == read(TEXT)


def test_show_as_text_names_every_rule_and_its_line(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "show", str(file))
    assert status == 0
    assert "read as iptables-save" in out
    assert "INPUT   policy DROP" in out
    assert "MINE   called by INPUT 1" in out
    assert "1  -s 10.0.0.0/8 -p tcp -m tcp --dport 22 -j MINE   line 4" in out


def test_lint_exits_with_what_it_found(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "lint", str(file)) == (0, "nothing found\n", "")
    file.write_text(TEXT.replace("-j MINE", "-j SYNPROXY"))
    status, out, _ = run(capsys, "lint", str(file), "--output-format", "json")
    assert status == 1
    found = json.loads(out)["findings"]
    assert sorted((f["code"], f["line"]) for f in found) == [("L002", 4), ("L007", 3)]


def test_lint_of_what_cannot_be_read_exits_with_2(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("*filter\n-A INPUT -j NOWHERE\nCOMMIT\n")
    status, out, err = run(capsys, "lint", str(file))
    assert (status, out) == (2, "")
    assert "error[R008]" in err
    assert "x.rules:2" in err


TWO = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -s 10.0.0.0/8 -j DROP\nCOMMIT\n*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -s fe80::/10 -j DROP\nCOMMIT\n"


def test_both_families_of_a_text_are_shown_and_can_be_read_again(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(TWO)
    _, out, _ = run(capsys, "show", str(file))
    assert "table filter (IPv4)" in out
    assert "table filter (IPv6)" in out
    _, said, _ = run(capsys, "show", str(file), "--as", "rules")
    assert read_rules(said, "again").families == read_rules(TWO, "x").families


def test_no_question_is_asked_of_ipv6_rules(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are not left out in silence, and never taken for IPv4 rules."""
    pack = Path(__file__).parent.parent / "proofs" / "istio-sidecar"
    file.write_text(TWO)
    _, _, err = run(capsys, "check", str(pack), "--rules", str(file), "--only", "app-ends")
    assert "its IPv6 rules are not asked about" in err
    six = file.with_name("six.rules")
    six.write_text(TWO[TWO.index("COMMIT\n") + len("COMMIT\n") :])
    status, out, err = run(capsys, "check", str(pack), "--rules", str(six))
    assert (status, out) == (2, "")
    assert "error[R004]: these are IPv6 rules" in err
