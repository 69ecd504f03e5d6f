"""Ip sets of a host: what is in them decides, unless it may change meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from verifier import claims as c
from verifier import tracing
from verifier.answers import Proved, Refuted, Unknown
from verifier.cases import Cases, Overrides
from verifier.check import Checker, Result
from verifier.hosts import Setting, at_one_time, settled
from verifier.prove import Prover
from verifier.reading.errors import InputError
from verifier.reading.hosts import read_host_text
from verifier.reading.ipset import read_sets
from verifier.reading.rules import read_rules
from verifier.report.told import chances
from verifier.values import AddressSet

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


def test_of_a_set_that_a_rule_writes_nobody_knows(tmp_path: Path) -> None:
    for number, (timeout, stays) in enumerate((("", ""), (" timeout 600", " timeout 0"))):
        folder = tmp_path / str(number)
        folder.mkdir()
        answer = asked(folder, "-A INPUT -j SET --del-set banned src\n", timeout, stays).answer
        assert isinstance(answer, Unknown)
        assert any("banned" in named for named in answer.opaque)


def test_a_set_whose_entries_stay_for_ever_is_known(tmp_path: Path) -> None:
    assert isinstance(asked(tmp_path, "", " timeout 600", " timeout 0").answer, Proved)


GOING = """host host = "host.yaml"

property banned-are-dropped
  every packet from outside on eth0 to 10.0.0.5 where -s 192.0.2.0/24
  must be dropped

property others-pass
  every packet from outside on eth0 to 10.0.0.5 where ! -s 192.0.2.0/24
  must not be dropped

property banned-pass
  every packet from outside on eth0 to 10.0.0.5 where -s 192.0.2.0/24
  must not be dropped

property let-in-pass
  every packet from outside on eth0 to 10.0.0.5 where -s 192.0.2.7
  must not be dropped

property some-get-in
  some packet from outside on eth0 to 10.0.0.5 where -s 192.0.2.9
  can be dropped
"""
DROPPED = "-m set --match-set banned src -j DROP"
THERE = "-m set --match-set banned src: holds while its entry is there (filter/INPUT rule 1)"
GONE = "-m set --match-set banned src: does not hold when its entry has gone (filter/INPUT rule 1)"
TIMED = "create banned hash:net timeout 600\n"


def of_time(folder: Path, sets: str, rules: str = DROPPED, prop: str = GOING) -> list[Result]:
    lines = "".join(f"-A INPUT {rule}\n" for rule in rules.split("; "))
    (folder / "host.rules").write_text(f"*filter\n:INPUT ACCEPT [0:0]\n{lines}COMMIT\n")
    (folder / "host.yaml").write_text(HOST)
    (folder / "banned.ipset").write_text(sets)
    (folder / "x.prop").write_text(prop)
    cases = Cases(folder / "x.prop", Overrides(None, None, None))
    questions = cases.questions(())
    assert not any("not known" in note for note in cases.notes)
    return [Checker().ask(question) for question in questions]


@pytest.mark.parametrize(
    ("sets", "kinds"),
    [
        (TIMED + "add banned 192.0.2.0/24 timeout 300\n", (Refuted, Proved, Refuted, Refuted, Proved)),
        (TIMED + "add banned 192.0.2.0/24\n", (Refuted, Proved, Refuted, Refuted, Proved)),
        (TIMED + "add banned 192.0.2.0/24 timeout 0\n", (Proved, Proved, Refuted, Refuted, Proved)),
        (TIMED + "add banned 192.0.2.0/24 timeout 0\nadd banned 192.0.2.7 nomatch timeout 0\n", (Refuted, Proved, Refuted, Proved, Proved)),
        (TIMED + "add banned 192.0.2.0/24 timeout 0\nadd banned 192.0.2.7 nomatch timeout 5\n", (Refuted, Proved, Refuted, Refuted, Proved)),
        (TIMED + "add banned 192.0.2.0/24 timeout 5\nadd banned 192.0.2.0/25 timeout 0\nadd banned 192.0.2.128/25 timeout 0\n", (Proved, Proved, Refuted, Refuted, Proved)),
        ("create in hash:net\nadd in 192.0.2.0/24\ncreate banned list:set timeout 9\nadd banned in\n", (Refuted, Proved, Refuted, Refuted, Proved)),
        ("create in hash:net timeout 9\nadd in 192.0.2.0/24\ncreate banned list:set\nadd banned in\n", (Refuted, Proved, Refuted, Refuted, Proved)),
        ("create in hash:net\nadd in 192.0.2.0/24\ncreate banned list:set timeout 9\nadd banned in timeout 0\n", (Proved, Proved, Refuted, Refuted, Proved)),
    ],
)  # fmt: skip
def test_what_a_set_does_not_hold_is_not_in_it_and_what_it_holds_for_a_time_may_be(
    tmp_path: Path, sets: str, kinds: tuple[type, ...]
) -> None:
    assert tuple(type(result.answer) for result in of_time(tmp_path, sets)) == kinds


@pytest.mark.parametrize(
    ("stays", "noted"),
    [("", True), (" timeout 5", True), (" timeout 0", False)],
)
def test_it_is_said_that_entries_go_and_what_a_trace_takes_them_for(
    tmp_path: Path, stays: str, noted: bool
) -> None:
    of_time(tmp_path, TIMED + f"add banned 192.0.2.0/24{stays}\n")
    notes: list[str] = []
    words = ("-i", "eth0", "-s", "192.0.2.9", "-d", "10.0.0.5", "-p", "tcp")
    told = "\n".join(tracing.run(tmp_path / "host.yaml", words, None, None, None, "text", notes.append))
    assert ("is dropped by filter/INPUT rule 1" in told) is not noted
    expected = [
        "set banned has entries with a timeout: each may still be there when a packet comes, or have gone",
        f"no packet decides this, and it is taken so: {GONE}",
    ]
    assert notes == (expected if noted else [])


def test_a_refutation_says_whether_the_entry_was_still_there(tmp_path: Path) -> None:
    results = of_time(tmp_path, TIMED + "add banned 192.0.2.0/24\n")
    for result, said in ((results[0], GONE), (results[2], THERE)):
        assert isinstance(result.answer, Refuted)
        found = result.answer.counterexample
        assert found is not None
        assert list(chances(found.journey, found.choices, result.question.settings[0][1])) == [said]


TWICE = """host host = "host.yaml"

property banned-are-dropped
  every packet from outside on eth0 to 10.0.0.5 where -s 192.0.2.9
  must be dropped

property banned-pass
  every packet from outside on eth0 to 10.0.0.5 where -s 192.0.2.9
  must not be dropped

property it-is-matched
  some packet from outside on eth0 to 10.0.0.5 where -s 192.0.2.9
  can hit rule filter/INPUT 2

property it-lives
  rule filter/INPUT 2 must not be dead
"""


@pytest.mark.parametrize(
    ("rules", "kinds"),
    [
        # Every question on a journey finds the entry, or none does: nobody says that it goes in between.
        ("-m set --match-set banned src -j ACCEPT; " + DROPPED, (Refuted, Unknown, Unknown, Unknown)),
        ("-m set ! --match-set banned src; " + DROPPED, (Refuted, Refuted, Proved, Proved)),
        ("-m set --match-set banned src -j RETURN; -m set ! --match-set banned src -j DROP", (Refuted, Refuted, Proved, Proved)),
        (DROPPED + "; -m set ! --match-set banned src -j DROP", (Unknown, Refuted, Proved, Proved)),
        (DROPPED + "; -m set --match-set other src -j DROP", (Refuted, Refuted, Unknown, Unknown)),
        ("-m set --match-set banned src -j ACCEPT; -m set --match-set stays src -j DROP", (Refuted, Refuted, Proved, Proved)),
    ],
)  # fmt: skip
def test_a_packet_comes_while_no_entry_goes(tmp_path: Path, rules: str, kinds: tuple[type, ...]) -> None:
    sets = "".join(
        f"create {name} hash:net timeout 600\nadd {name} 192.0.2.0/24 timeout {time}\n"
        for name, time in (("banned", 300), ("other", 500), ("stays", 0))
    )
    assert tuple(type(result.answer) for result in of_time(tmp_path, sets, rules, TWICE)) == kinds


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


SETS = """create a hash:net timeout 600
add a 192.0.2.0/24 timeout {times[0]}
add a 192.0.2.8/29 timeout {times[1]} nomatch
create b hash:ip timeout 600
add b 192.0.2.9 timeout {times[2]}
create c hash:net,iface timeout 600
add c 192.0.2.0/24,eth0 timeout {times[3]}
add c 192.0.2.8/29,eth1 timeout {times[4]}
create d list:set timeout 600
add d b timeout {times[5]}
add d a timeout {times[6]}
"""
QUESTIONS = tuple(
    f"-m set {no}--match-set {what}" for no in ("", "! ") for what in ("a src", "b src", "c src,src", "d src", "a src --return-nomatch")
)  # fmt: skip


@given(
    st.lists(st.tuples(st.lists(st.sampled_from(QUESTIONS), min_size=1, max_size=2), st.sampled_from(("DROP", "ACCEPT", "MARK --set-xmark 0x1/0x1"))), min_size=1, max_size=4),
    st.tuples(*[st.sampled_from((0, 300))] * 7),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_what_is_proved_is_so_at_any_time_and_what_is_refuted_at_one(
    rules: list[tuple[list[str], str]], times: tuple[int, ...]
) -> None:
    lines = "".join(f"-A INPUT {' '.join(matches)} -j {target}\n" for matches, target in rules)
    found = read_rules(f"*mangle\n:INPUT ACCEPT [0:0]\n{lines}COMMIT\n", "the.rules").rules
    host = read_host_text(HOST.replace("sets: [banned.ipset]\n", ""), "host.yaml").host
    setting = Setting(replace(host, sets=read_sets(SETS.format(times=times), "sets")), found)
    where = c.Filter(source=AddressSet.read("192.0.2.9, 192.0.2.1"), to=AddressSet.read("10.0.0.5"))
    for quantifier in c.Quantifier:
        claim = c.PacketClaim(quantifier, c.Premise(c.Outside("eth0"), filter=where), (c.IsDropped(),))
        kind = type(Prover(setting).answer(claim))
        each = {type(Prover(time).answer(claim)) for time in at_one_time(setting)}
        by_example, by_all = (Proved, Refuted) if quantifier is c.Quantifier.SOME else (Refuted, Proved)
        if by_example in each:
            assert kind is by_example
        else:
            # Entries that go in between, or some of them alone, may make it otherwise.
            assert each == {by_all}
            assert kind in ((by_all, Unknown) if len(at_one_time(setting)) > 1 else (by_all,))


ROUND = """rules: host.rules
interfaces: {lo: {addresses: [127.0.0.1/8]}, eth0: {addresses: [10.0.0.5/24]}}
routes: [default via 10.0.0.1 dev eth0, 10.0.0.0/24 dev eth0]
processes:
  app: {uid: 1000, gid: 1000}
  envoy:
    uid: 1337
    gid: 1337
    listens: ["*:15001"]
    proxy: {out: {accepts: 15001, connects-to: original-destination}}
sets: [banned.ipset]
"""


@pytest.mark.parametrize(
    ("question", "stays", "kind"),
    [
        # What is let out as long as an entry is there goes round for ever without it; and what goes round by it does so for a while.
        ("--match-set banned dst", "timeout 300", Refuted),
        ("! --match-set banned dst", "timeout 300", Unknown),
        ("--match-set banned dst", "timeout 0", Proved),
        ("! --match-set banned dst", "timeout 0", Refuted),
    ],
)
def test_a_loop_that_lasts_while_an_entry_is_there_is_none_for_ever(
    tmp_path: Path, question: str, stays: str, kind: type
) -> None:
    (tmp_path / "host.yaml").write_text(ROUND)
    (tmp_path / "banned.ipset").write_text(TIMED + f"add banned 192.0.2.0/24 {stays}\n")
    lines = f"-A OUTPUT -m set {question} -j RETURN\n-A OUTPUT -p tcp -j REDIRECT --to-ports 15001\n"
    (tmp_path / "host.rules").write_text(f"*nat\n:OUTPUT ACCEPT [0:0]\n{lines}COMMIT\n")
    claim = "every tcp packet from app to 192.0.2.9 port 80\n  must end\n"
    (tmp_path / "x.prop").write_text(f'host host = "host.yaml"\n\nproperty it-ends\n  {claim}')
    (question_,) = Cases(tmp_path / "x.prop", Overrides(None, None, None)).questions(())
    assert isinstance(Checker().ask(question_).answer, kind)
