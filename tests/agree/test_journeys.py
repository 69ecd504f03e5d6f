"""A packet goes the same way in both wings, compared at every stop."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from verifier.bounds import hop_bound
from verifier.concrete.proxies import dials
from verifier.concrete.travel import as_sent, can_send, travel
from verifier.journeys import FromProcess, FromProxy, Onward, ProxyState
from verifier.packets import Packet
from verifier.replay import check_wings, start_of
from verifier.samples import edges_of
from verifier.symbolic.terms import Outcome, Solver
from verifier.values import Family

from . import strategies as some
from .agreement import difference, journeys_of, possible, told, under
from .budget import tries
from .corpus import (
    Corpus,
    corpus,
    corpus_by_rules,
    corpus_of_answers,
    corpus_of_entries,
    corpus_of_rejections,
    solved,
)
from .hosts import begins, senders_of
from .policies import KINDS

CORPORA = (
    corpus,
    corpus_by_rules,
    partial(corpus_by_rules, Family.IPV6),
    corpus_of_answers,
    corpus_of_entries,
    corpus_of_rejections,
)


@pytest.mark.parametrize("kind", KINDS)
@tries(60)
@given(data=st.data())
def test_a_packet_goes_the_same_way_in_both_wings(data: st.DataObject, kind: str) -> None:
    setting = data.draw(KINDS[kind](4), label="setting")
    edges = edges_of(setting)
    sender = data.draw(some.one(senders_of(setting)), label="sender")
    js = journeys_of(setting, sender)
    for number in range(5):
        begin = data.draw(begins(setting, sender, edges), label="begin")
        model, trip = under(js, begin, random.Random(number))
        if possible(js, model):
            assert difference(told(js, model), trip.travel()) is None


@pytest.mark.parametrize("kind", KINDS)
@tries(40)
@given(data=st.data())
def test_who_may_send_is_the_same_in_both_wings(data: st.DataObject, kind: str) -> None:
    setting = data.draw(KINDS[kind](0), label="setting")
    edges = edges_of(setting)
    for sender in senders_of(setting):
        js = journeys_of(setting, sender, deepest=1)
        for number in range(6):
            begin = data.draw(begins(setting, sender, edges), label="begin")
            model, _ = under(js, begin, random.Random(number))
            if isinstance(begin, ProxyState):
                assert possible(js, model) == dials(setting.host, begin), begin
            elif isinstance(sender, FromProcess):
                sent = as_sent(setting, sender, begin)
                assert possible(js, model) == can_send(setting, sender.process, sent), (sender, begin)


@pytest.mark.parametrize("kind", KINDS)
@tries(25)
@given(data=st.data())
def test_the_solvers_own_packets_go_the_same_way(data: st.DataObject, kind: str) -> None:
    """One for each rule that may be taken, and for each kind of end."""
    setting = data.draw(KINDS[kind](3), label="setting")
    sender = data.draw(some.one(senders_of(setting)), label="sender")
    js = journeys_of(setting, sender)
    for model in solved(js, questions=25):
        start = start_of(js, model)
        note(str(start))
        check_wings(js, model, start)


@pytest.mark.parametrize("kind", KINDS)
@tries(40)
@given(data=st.data())
def test_no_packet_is_lost_sight_of(data: st.DataObject, kind: str) -> None:
    """Asked of all packets at once: each comes to exactly one end, or goes on."""
    setting = data.draw(KINDS[kind](3), label="setting")
    sender = data.draw(some.one(senders_of(setting)), label="sender")
    js = journeys_of(setting, sender, deepest=2)
    t = js.terms
    comes_to = [*(e.cond for e in js.record.ends), js.open]
    twice, once = [], t.false
    for cond in comes_to:
        twice.append(once & cond)
        once = once | cond
    solver = Solver(t, timeout_ms=60_000)
    solver.add(*js.facts)
    for broken in (~once, t.any_of(twice)):
        assert solver.check(broken).outcome is Outcome.UNSAT


@pytest.mark.parametrize("found", CORPORA)
def test_the_corpus_is_told_alike_by_both_wings(found: Callable[[], Corpus]) -> None:
    for example in found().examples:
        assert difference(example.told, example.trip.travel()) is None, example.trip


@pytest.mark.parametrize("found", CORPORA)
def test_a_process_in_the_corpus_may_send_what_it_sends(found: Callable[[], Corpus]) -> None:
    for example in found().examples:
        trip = example.trip
        if isinstance(trip.sender, FromProcess) and isinstance(trip.begin, Packet):
            sent = as_sent(trip.setting, trip.sender, trip.begin)
            assert can_send(trip.setting, trip.sender.process, sent), trip


@pytest.mark.parametrize("found", CORPORA)
def test_every_journey_ends_within_the_bound(found: Callable[[], Corpus]) -> None:
    """Without a limit of hops a journey dials at most as often as the host has proxy states."""
    for example in found().examples:
        trip = example.trip
        packet = None if isinstance(trip.begin, ProxyState) else trip.begin
        state = trip.begin if isinstance(trip.begin, ProxyState) else None
        journey = travel(trip.setting, trip.sender, packet, trip.choices, state)
        assert not isinstance(journey.end, Onward)
        first = isinstance(trip.sender, FromProxy)
        assert len(set(journey.states)) == len(journey.states)
        assert len(journey.states) + first <= hop_bound(trip.setting.host, rules=trip.setting.rules), trip
