"""What REJECT sends back goes the same way in both wings, compared at every stop, and comes to one end."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial

import pytest
from hypothesis import given, note
from hypothesis import strategies as st
from msgspec.structs import replace

from verifier import claims as c
from verifier import journeys as j
from verifier.concrete import claims as concrete
from verifier.replay import check_wings, start_of
from verifier.samples import edges_of
from verifier.symbolic import claims as symbolic
from verifier.symbolic.terms import Bool
from verifier.symbolic.travel import Journeys

from . import strategies as some
from .agreement import difference, journeys_of, possible, told, under
from .budget import tries
from .claims import assert_alike, verbs
from .corpus import solved
from .hosts import begins, senders_of
from .laws import assert_it_keeps_no_packet_from_being, assert_what_comes_back_has_one_end
from .rejections import SETTINGS


@pytest.mark.parametrize("kind", SETTINGS)
@tries(60)
@given(data=st.data())
def test_a_rejection_goes_the_same_way_in_both_wings(data: st.DataObject, kind: str) -> None:
    setting = data.draw(SETTINGS[kind](3), label="setting")
    edges = edges_of(setting)
    sender = data.draw(some.one(senders_of(setting)), label="sender")
    js = journeys_of(setting, sender, deepest=2)
    for number in range(6):
        begin = data.draw(begins(setting, sender, edges), label="begin")
        model, trip = under(js, begin, random.Random(number))
        if possible(js, model):
            assert difference(told(js, model), trip.travel()) is None


@pytest.mark.parametrize("kind", SETTINGS)
@tries(25)
@given(data=st.data())
def test_the_solvers_own_packets_are_rejected_alike(data: st.DataObject, kind: str) -> None:
    """One for each rule that may be taken, and for each kind of end."""
    setting = data.draw(SETTINGS[kind](2), label="setting")
    sender = data.draw(some.one(senders_of(setting)), label="sender")
    js = journeys_of(setting, sender, deepest=2)
    rejected = js.terms.any_of(e.cond for e in js.record.answered)
    for model in solved(js, 25, rejected):
        start = start_of(js, model)
        note(str(start))
        check_wings(js, model, start)


@pytest.mark.parametrize("kind", SETTINGS)
@tries(25)
@given(data=st.data())
def test_every_rejection_comes_to_one_end_and_rejects_something(data: st.DataObject, kind: str) -> None:
    setting = data.draw(SETTINGS[kind](2), label="setting")
    sender = data.draw(some.one(senders_of(setting)), label="sender")
    js = journeys_of(setting, sender, deepest=2)
    assert_what_comes_back_has_one_end(js, partial(_rejected, js))


def _rejected(js: Journeys, hop: int) -> Iterator[Bool]:
    yield from (e.cond for e in js.record.ends if e.hop == hop and isinstance(e.end, j.Rejected))


@pytest.mark.parametrize("kind", SETTINGS)
@tries(20)
@given(data=st.data())
def test_rejections_keep_no_packet_from_being(data: st.DataObject, kind: str) -> None:
    """Whatever is sent where nobody asks for rejections is sent, with all its choices, where somebody does."""
    setting = data.draw(SETTINGS[kind](1), label="setting")
    edges = edges_of(setting)
    sender = data.draw(some.one(senders_of(setting)), label="sender")
    silent = replace(setting, rejections=False, also=setting.also | {"connection"})
    drawn = (data.draw(begins(setting, sender, edges), label="begin") for _ in range(3))
    assert_it_keeps_no_packet_from_being(silent, setting, sender, drawn)


@tries(60)
@given(data=st.data())
def test_a_verb_says_of_a_rejection_what_it_says_of_a_journey(data: st.DataObject) -> None:
    setting = data.draw(SETTINGS["IPv4"](3), label="setting")
    edges = edges_of(setting)
    sender = data.draw(some.one(senders_of(setting)), label="sender")
    js = journeys_of(setting, sender, deepest=2)
    plain = replace(setting, rejections=False)
    drawn = data.draw(st.lists(verbs(plain), min_size=3, max_size=6), label="verbs")
    drawn = [verb for verb in drawn if not c.asks_for_zones(verb)]
    asked = [(verb, symbolic.verdict_of_answer(verb, js)) for verb in drawn]
    existence = symbolic.is_sent_back(js)
    for number in range(8):
        begin = data.draw(begins(setting, sender, edges), label="begin")
        model, trip = under(js, begin, random.Random(number))
        if not possible(js, model):
            continue
        journey = trip.travel()
        assert model.holds(existence.surely) == (0 in journey.answers)
        alone = concrete.of_answer(journey, 0)
        if alone is None:
            continue
        for verb, verdict in asked:
            assert_alike(verdict, model, concrete.holds(verb, alone, setting), (verb, alone.end))
