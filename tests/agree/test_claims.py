"""A verb says the same of a journey in both wings, and a premise speaks of the same packets."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from verifier.asked import fields_of
from verifier.concrete import claims as concrete
from verifier.journeys import FromOutside, FromProcess, FromProxy, ProxyState
from verifier.samples import edges_of
from verifier.symbolic import claims as symbolic

from . import strategies as some
from .agreement import journeys_of, possible, under
from .budget import tries
from .claims import assert_alike, premises, verbs
from .hosts import begins, senders_of, settings


@tries(60)
@given(data=st.data())
def test_a_verb_says_the_same_of_a_journey_in_both_wings(data: st.DataObject) -> None:
    """Surely iff the journey does it, surely not iff it does not; neither where that is not known."""
    setting = data.draw(settings(answered=50), label="setting")
    edges = edges_of(setting)
    sender = data.draw(some.one(senders_of(setting)), label="sender")
    js = journeys_of(setting, sender, deepest=data.draw(st.integers(1, 3)))
    asked = data.draw(st.lists(verbs(setting), min_size=3, max_size=6), label="verbs")
    verdicts = [(verb, symbolic.verdict(verb, js)) for verb in asked]
    for number in range(5):
        begin = data.draw(begins(setting, sender, edges), label="begin")
        model, trip = under(js, begin, random.Random(number))
        if not possible(js, model):
            continue
        journey = trip.travel()
        for verb, verdict in verdicts:
            told = concrete.holds(verb, journey, setting)
            assert_alike(verdict, model, told, (verb, journey.end))


@tries(40)
@given(data=st.data())
def test_a_verb_says_the_same_from_a_later_hop_on(data: st.DataObject) -> None:
    setting = data.draw(settings(answered=50), label="setting")
    sender = data.draw(some.one(senders_of(setting)), label="sender")
    js = journeys_of(setting, sender)
    edges = edges_of(setting)
    for number in range(8):
        begin = data.draw(begins(setting, sender, edges), label="begin")
        model, trip = under(js, begin, random.Random(number))
        journey = trip.travel() if possible(js, model) else None
        if journey is None or journey.last_hop == 0:
            continue
        verb = data.draw(verbs(setting), label="verb")
        told = concrete.holds(verb, journey, setting, 1)
        verdict = symbolic.verdict(verb, js, 1)
        assert model.holds(verdict.surely) == (told is True), (verb, journey.end)
        assert model.holds(verdict.surely_not) == (told is False), (verb, journey.end)


@tries(60)
@given(data=st.data())
def test_a_premise_speaks_of_the_same_packets_in_both_wings(data: st.DataObject) -> None:
    setting = data.draw(settings(most=1), label="setting")
    edges = edges_of(setting)
    for sender in senders_of(setting):
        premise = data.draw(premises(sender), label="premise")
        asked = [premise.filter, *(x.filter for x in premise.exceptions)]
        fields = frozenset[str]().union(*(fields_of(wanted.where) for wanted in asked))
        carrying = replace(setting, also=fields)
        js = journeys_of(carrying, sender, deepest=1)
        speaks = symbolic.meets(premise, js)
        for number in range(5):
            begin = data.draw(begins(carrying, sender, edges), label="begin")
            model, trip = under(js, begin, random.Random(number))
            allowed = possible(js, model)
            match sender:
                case FromOutside() | FromProcess():
                    assert not isinstance(begin, ProxyState)
                    packet = begin
                case FromProxy():
                    if not allowed:
                        continue
                    packet = trip.travel().stops[0].packet
            told = concrete.meets(premise, carrying, sender, packet)
            assert (allowed and model.holds(speaks)) == told, (premise, packet)
