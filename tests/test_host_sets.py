"""Ip sets of a host: what is in them decides, unless it may change meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from verifier.answers import Proved, Refuted, Unknown
from verifier.cases import Cases, Overrides
from verifier.check import Checker, Result
from verifier.hosts import Setting, settled
from verifier.reading.errors import InputError
from verifier.report.told import chances

RULES = """*filter
:INPUT ACCEPT [0:0]
-A INPUT -m set --match-set banned src -j DROP
{more}COMMIT
"""
HOST = """rules: host.rules
interfaces: {lo: {addresses: [127.0.0.1/8]}, eth0: {addresses: [10.0.0.5/24]}}
sets: [banned.ipset]
"""
BANNED = """create banned hash:net family inet{timeout}
add banned 192.0.2.0/24{stays}
add banned 192.0.2.7 nomatch{stays}
"""
PROPERTY = """host host = "host.yaml"

property banned-are-dropped
  every packet from outside on eth0 to 10.0.0.5
  must be dropped
  except
    - where ! -s 192.0.2.0/24 because "not banned"
    - where -s 192.0.2.7 because "let in again"
"""


def asked(folder: Path, more: str = "", timeout: str = "", stays: str = "") -> Result:
    (folder / "host.rules").write_text(RULES.format(more=more))
    (folder / "host.yaml").write_text(HOST)
    (folder / "banned.ipset").write_text(BANNED.format(timeout=timeout, stays=stays))
    (folder / "x.prop").write_text(PROPERTY)
    (question,) = Cases(folder / "x.prop", Overrides(None, None, None)).questions(())
    return Checker().ask(question)


def test_what_a_set_holds_decides(tmp_path: Path) -> None:
    assert isinstance(asked(tmp_path).answer, Proved)


def test_an_exception_of_a_set_is_let_in(tmp_path: Path) -> None:
    asked(tmp_path)
    (tmp_path / "x.prop").write_text(
        PROPERTY.replace('    - where -s 192.0.2.7 because "let in again"\n', "")
    )
    (question,) = Cases(tmp_path / "x.prop", Overrides(None, None, None)).questions(())
    answer = Checker().ask(question).answer
    assert isinstance(answer, Refuted)
    assert answer.counterexample is not None
    assert answer.counterexample.journey.stops[0].packet.src == 0xC0000207


@pytest.mark.parametrize(
    ("more", "timeout", "stays"),
    [
        ("-A INPUT -j SET --del-set banned src\n", "", ""),
        ("", " timeout 600", " timeout 300"),
    ],
)
def test_of_a_set_that_may_change_nobody_knows(tmp_path: Path, more: str, timeout: str, stays: str) -> None:
    answer = asked(tmp_path, more, timeout, stays).answer
    assert isinstance(answer, Unknown)
    assert any("banned" in named for named in answer.opaque)


def test_a_set_whose_entries_stay_for_ever_is_known(tmp_path: Path) -> None:
    assert isinstance(asked(tmp_path, "", " timeout 600", " timeout 0").answer, Proved)


COUNTED = (
    PROPERTY.replace('    - where -s 192.0.2.7 because "let in again"\n', "")
    + """
property others-pass
  every packet from outside on eth0 to 10.0.0.5 where ! -s 192.0.2.0/24
  must not be dropped
"""
)


@pytest.mark.parametrize(
    ("head", "entries", "count", "kinds"),
    [
        ("hash:net", "", "--packets-gt 1000000", (Proved, Proved)),
        ("hash:net counters", "", "--packets-gt 1000000", (Refuted, Proved)),
        ("hash:net counters", "", "! --packets-eq 5 --bytes-lt 7", (Refuted, Proved)),
        ("hash:net counters", "", "", (Proved, Proved)),
        ("hash:net counters", "add banned 192.0.2.7 nomatch\n", "--bytes-eq 5", (Unknown, Unknown)),
        ("hash:net", "add banned 192.0.2.7 nomatch\n", "--bytes-eq 5", (Refuted, Proved)),
    ],
)
def test_counters_are_a_choice_where_the_set_counts(
    tmp_path: Path, head: str, entries: str, count: str, kinds: tuple[type, ...]
) -> None:
    """(net/netfilter/ipset/ip_set_core.c: ip_set_match_extensions); what is not in the set has no counter there."""
    (tmp_path / "host.rules").write_text(RULES.format(more="").replace("banned src", f"banned src {count}"))
    (tmp_path / "host.yaml").write_text(HOST)
    (tmp_path / "banned.ipset").write_text(f"create banned {head}\nadd banned 192.0.2.0/24\n{entries}")
    (tmp_path / "x.prop").write_text(COUNTED)
    found = [Checker().ask(q) for q in Cases(tmp_path / "x.prop", Overrides(None, None, None)).questions(())]
    assert tuple(type(result.answer) for result in found) == kinds
    answer = found[0].answer
    if isinstance(answer, Refuted) and "counters" in head:
        assert answer.counterexample is not None
        said = chances(
            answer.counterexample.journey, answer.counterexample.choices, found[0].question.settings[0][1]
        )
        assert list(said) == [f"-m set --match-set banned src {count}: does not hold (filter/INPUT rule 1)"]


def test_a_list_asks_for_its_own_counters(tmp_path: Path) -> None:
    """(net/netfilter/ipset/ip_set_list_set.c: list_set_ktest)"""
    for head, of_member, kind in (("", " counters", Proved), (" counters", "", Refuted)):
        folder = tmp_path / f"{head}-"
        folder.mkdir()
        (folder / "host.rules").write_text(RULES.format(more="").replace("src", "src --packets-gt 5"))
        (folder / "host.yaml").write_text(HOST)
        text = f"create in hash:net{of_member}\nadd in 192.0.2.0/24\ncreate banned list:set{head}\nadd banned in\n"
        (folder / "banned.ipset").write_text(text)
        (folder / "x.prop").write_text(COUNTED)
        first, second = Cases(folder / "x.prop", Overrides(None, None, None)).questions(())
        assert isinstance(Checker().ask(first).answer, kind)
        assert isinstance(Checker().ask(second).answer, Proved)


def test_a_setting_refuses_a_set_that_its_rules_write(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    setting = asked(tmp_path / "one").question.settings[0][1]
    other = asked(tmp_path / "other", "-A INPUT -j SET --add-set banned src\n")
    rules = other.question.settings[0][1].rules
    with pytest.raises(ValueError, match="banned"):
        Setting(setting.host, rules)
    assert settled(setting.host, rules).sets == {}


def test_one_name_in_two_files_is_an_error(tmp_path: Path) -> None:
    for name in ("banned.ipset", "again.ipset"):
        (tmp_path / name).write_text(BANNED.format(timeout="", stays=""))
    (tmp_path / "host.rules").write_text(RULES.format(more=""))
    (tmp_path / "host.yaml").write_text(HOST.replace("[banned.ipset]", "[banned.ipset, again.ipset]"))
    (tmp_path / "x.prop").write_text(PROPERTY)
    with pytest.raises(InputError, match=r"set banned is in .*banned\.ipset and again in .*again\.ipset"):
        Cases(tmp_path / "x.prop", Overrides(None, None, None)).questions(())
