"""Claims about datagrams even after an earlier one: what is proved, what is refuted by which pair, and what is unknown by its name."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier import claims as c
from verifier import hosts as h
from verifier.answers import Answer, Proved, Refuted, Unknown
from verifier.concrete import claims as concrete
from verifier.concrete.travel import as_sent
from verifier.hosts import Setting
from verifier.journeys import FromOutside, FromProcess, Left
from verifier.packets import CONFIRMED
from verifier.prove import Budget, Prover
from verifier.reading.rules import read_rules
from verifier.replay import Start
from verifier.samples import edges_of
from verifier.values import TCP, UDP, AddressSet, Net, Span

from .agree.agreement import journeys_behind, under
from .agree.budget import tries
from .agree.claims import meets_behind, verbs, who_of
from .agree.entries import SETTINGS, alike, later
from .agree.hosts import begins, senders_of
from .small import FAR, OWN, PEER, host, process

APP, ENVOY, OUTSIDE = c.OfProcess("app"), c.OfProcess("envoy"), c.Outside("eth0")
EVERY, NO, SOME = c.Quantifier.EVERY, c.Quantifier.NO, c.Quantifier.SOME
HOST = host(process("app", 1000), process("envoy", 1337, h.Listener(15053, protocol=UDP)))
TO_AGENT = c.Reaches("envoy", 15053)
LEAVES = c.Leaves()
FEW = Budget(samples=6)

CAPTURE = """\
*nat
:OUTPUT ACCEPT [0:0]
-A OUTPUT -p udp --dport 53 -m owner --uid-owner 1337 -j RETURN
-A OUTPUT -p udp --dport 53 -j REDIRECT --to-ports 15053
COMMIT
"""
ZONES = """\
*raw
:OUTPUT ACCEPT [0:0]
-A OUTPUT -p udp -m owner --uid-owner 1337 -j CT %s
-A OUTPUT -p udp -m owner --uid-owner 1000 -j CT %s
COMMIT
"""


def asked(
    rules: str,
    verb: c.Verb,
    *,
    who: c.Who = APP,
    after: c.Who = ENVOY,
    to: int = FAR,
    quantifier: c.Quantifier = EVERY,
) -> Answer:
    wanted = c.Filter(UDP, AddressSet((Net(to),)), ports=(Span(53, 53),))
    premise = c.Premise(who, filter=wanted, after=after)
    setting = Setting(HOST, read_rules(rules, "rules").rules)
    return Prover(setting, FEW).answer(c.PacketClaim(quantifier, premise, (verb,)))


def filtered(*rules: str, chain: str = "OUTPUT", table: str = "filter") -> str:
    lines = "".join(f"-A {chain} {rule}\n" for rule in rules)
    return f"*{table}\n:{chain} ACCEPT [0:0]\n{lines}COMMIT\n"


def of_envoy(target: str) -> str:
    return f"-m owner --uid-owner 1337 -j {target}"


ALONE = "conntrack finds none of these packets in an entry of the earlier one"


def test_what_nat_decided_of_the_earlier_packet_holds_for_the_later() -> None:
    found = asked(CAPTURE, TO_AGENT)
    assert isinstance(found, Refuted)
    assert found.counterexample is not None
    journey, earlier = found.counterexample.journey, found.counterexample.earlier
    assert earlier is not None
    assert journey.earlier is not None
    assert (earlier.sender, earlier.answered) == (FromProcess("envoy"), False)
    assert journey.behind
    assert journey.end == journey.earlier.end == Left("eth0")
    ends = [(p.src, p.dst, p.sport, p.dport) for p in (earlier.packet, journey.stops[0].packet)]
    assert ends[0] == ends[1]


@pytest.mark.parametrize(
    "apart",
    [
        ZONES % ("--zone 1", "--zone 2"),
        ZONES % ("--notrack", "--zone 0"),
        filtered(of_envoy("DROP")),
        filtered(of_envoy("DROP"), chain="POSTROUTING", table="mangle"),
    ],
)
def test_where_the_earlier_packet_leaves_no_entry_it_is_as_without(apart: str) -> None:
    found = asked(CAPTURE + apart, TO_AGENT)
    assert isinstance(found, Proved)
    assert ALONE in found.notes


def test_what_is_not_tracked_is_found_in_no_entry() -> None:
    found = asked(CAPTURE + ZONES % ("--zone 0", "--notrack"), LEAVES)
    assert isinstance(found, Proved)
    assert ALONE in found.notes


def test_without_conntrack_there_are_no_entries() -> None:
    found = asked(filtered("-p udp -j ACCEPT", chain="OUTPUT", table="nat"), LEAVES)
    assert isinstance(found, Proved)
    assert ALONE in found.notes


def test_what_is_dropped_behind_lo_has_left_an_entry() -> None:
    dropped = filtered("-i lo -p udp --dport 53 -j DROP", chain="INPUT")
    found = asked(CAPTURE + dropped, TO_AGENT, to=OWN)
    assert isinstance(found, Refuted)
    assert found.counterexample is not None
    assert found.counterexample.journey.earlier is not None
    last = found.counterexample.journey.earlier.stops[-1].packet.connection
    assert last is not None
    assert last.status & CONFIRMED


@pytest.mark.parametrize(
    ("zones", "reason"),
    [
        (("--zone mark", "--zone 0"), "a zone that the mark names"),
        (("--zone 0", "--zone-orig mark"), "a zone that the mark names"),
        (("--zone-orig 1", "--zone-orig 2"), "a connection with the reply tuple of an earlier one"),
    ],
)
def test_what_is_not_followed_has_a_name(zones: tuple[str, str], reason: str) -> None:
    found = asked(CAPTURE + ZONES % zones, TO_AGENT)
    assert isinstance(found, Unknown)
    assert reason in found.opaque


def test_a_packet_that_answers_the_earlier_one_is_not_guessed() -> None:
    to_peer = c.Filter(UDP, AddressSet((Net(PEER),)), ports=(Span(4000, 4000),))
    premise = c.Premise(APP, filter=to_peer, after=OUTSIDE)
    setting = Setting(HOST, read_rules(CAPTURE, "rules").rules)
    known = Prover(setting, FEW).answer(c.PacketClaim(EVERY, premise, (LEAVES,)))
    assert isinstance(known, Unknown)
    assert "a packet that answers the earlier one" in known.opaque


def test_whether_an_answer_was_seen_is_left_open() -> None:
    """A refutation says that it takes one; where raw might keep it from conntrack, nobody knows."""
    drops = filtered("-m conntrack --ctstate ESTABLISHED -j DROP")
    found = asked(drops, LEAVES)
    assert isinstance(found, Refuted)
    assert found.counterexample is not None
    assert found.counterexample.earlier is not None
    assert found.counterexample.earlier.answered
    assert isinstance(asked(filtered("-m conntrack --ctstate NEW -j ACCEPT", "-j DROP"), LEAVES), Refuted)
    raw = filtered("-p tcp -j NOTRACK", table="raw")
    unknown = asked(drops + raw, LEAVES)
    assert isinstance(unknown, Unknown)
    assert "whether conntrack has seen the answer to the earlier packet" in unknown.opaque


def test_an_earlier_packet_that_came_to_nobody_has_no_answer() -> None:
    refused = filtered("-p udp --dport 53 -j REDIRECT --to-ports 9", table="nat")
    drops = filtered("-m conntrack --ctstate ESTABLISHED -j DROP")
    found = asked(refused + drops, c.IsRefused())
    assert isinstance(found, Proved)
    assert ALONE not in found.notes


def test_the_mark_of_the_connection_is_what_the_earlier_packet_left() -> None:
    marks = filtered(
        of_envoy("CONNMARK --set-mark 7"), "-m connmark --mark 7 -j MARK --set-mark 9", table="mangle"
    )
    found = asked(marks, c.Leaves(having=c.With(mark=None)), quantifier=SOME)
    assert isinstance(found, Proved)
    marked = filtered("-m mark --mark 9 -m owner --uid-owner 1000 -j DROP")
    refuted = asked(marks + marked, LEAVES)
    assert isinstance(refuted, Refuted)
    assert isinstance(asked(marks + marked, LEAVES, after=APP), Unknown), "an answer may have marked it"


def test_a_match_that_is_not_understood_on_the_earlier_way_refutes_nothing() -> None:
    vague = filtered("-m u32 --u32 0=1 " + of_envoy("DROP"))
    found = asked(CAPTURE + vague, TO_AGENT)
    assert isinstance(found, Unknown)
    assert any("u32" in text for text in found.opaque)


def test_a_later_packet_of_the_senders_own_goes_as_the_first() -> None:
    capture = filtered("-p udp --dport 53 -j REDIRECT --to-ports 15053", table="nat")
    found = asked(capture, TO_AGENT, after=APP)
    assert isinstance(found, Proved)
    assert ALONE not in found.notes


def test_some_packet_may_be_one_behind_another() -> None:
    found = asked(CAPTURE, LEAVES, quantifier=SOME)
    assert isinstance(found, Proved)
    assert found.witness is not None
    assert found.witness.earlier is not None
    assert isinstance(asked(CAPTURE, LEAVES, quantifier=NO), Refuted)


@pytest.mark.parametrize(
    "build",
    [
        lambda: c.Premise(APP, after=ENVOY),
        lambda: c.Premise(APP, filter=c.Filter(TCP), after=ENVOY),
        lambda: c.Premise(APP, filter=c.Filter(UDP), answer=True, after=ENVOY),
        lambda: c.Premise(c.OfProxy("envoy", "in"), filter=c.Filter(UDP), after=ENVOY),
        lambda: c.Premise(APP, filter=c.Filter(UDP), after=c.OfProxy("envoy", "in")),
        lambda: c.PacketClaim(EVERY, AFTER, (c.Not(c.IsAnswered()),)),
        lambda: c.SameClaim(AFTER, "a", "b"),
        lambda: c.KeepClaim(AFTER, "a", "b"),
    ],
)
def test_what_nobody_follows_cannot_be_claimed(build: object) -> None:
    assert callable(build)
    with pytest.raises(ValueError, match="even after"):
        build()


AFTER = c.Premise(APP, filter=c.Filter(UDP), after=ENVOY)


@tries(40)
@given(data=st.data())
def test_answers_agree_with_pairs_that_are_tried(data: st.DataObject) -> None:
    """No pair is against what is proved, and the pair of a refutation is against the claim."""
    setting = data.draw(SETTINGS["IPv4"](2), label="setting")
    edges = edges_of(setting)
    own = [s for s in senders_of(setting) if isinstance(s, FromOutside | FromProcess)]
    first, sender = data.draw(st.sampled_from(own)), data.draw(st.sampled_from(own))
    premise = c.Premise(who_of(sender), filter=c.Filter(UDP), after=who_of(first))
    js = journeys_behind(setting, first, sender)
    pairs = []
    for number in range(12):
        before = alike(data.draw(begins(setting, first, edges)))
        begin = later(data.draw(begins(setting, sender, edges)), before, random.Random(number))
        _, trip = under(js, begin, random.Random(number), before)
        start = Start(sender, as_sent(setting, sender, begin), None, trip.choices, trip.earlier)
        if meets_behind(premise, setting, start):
            pairs.append(start)
    for verb in data.draw(st.lists(verbs(setting), min_size=2, max_size=4), label="verbs"):
        for quantifier in (EVERY, NO):
            try:
                claim = c.PacketClaim(quantifier, premise, (verb,))
            except ValueError:
                continue
            answer = Prover(setting, FEW).answer(claim)
            if isinstance(answer, Proved):
                assert not any(concrete.breaks(claim, s.travel(setting), setting) for s in pairs)
            if isinstance(answer, Refuted) and answer.counterexample is not None:
                found = answer.counterexample
                again = Start(found.sender, found.journey.stops[0].packet, None, found.choices, found.earlier)
                assert concrete.breaks(claim, again.travel(setting), setting)
                assert found.earlier is None or meets_behind(premise, setting, again)
