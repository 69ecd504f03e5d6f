"""What the formulas say of answers: each that is sent comes to one end, none keeps a packet from being, and verbs mean of them
what they mean of journeys."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from verifier import claims as c
from verifier import journeys as j
from verifier.concrete import claims as concrete
from verifier.hosts import Setting
from verifier.samples import edges_of
from verifier.symbolic import claims as symbolic
from verifier.symbolic.terms import Bool
from verifier.symbolic.travel import Journeys

from . import strategies as some
from .agreement import journeys_of, possible, under
from .budget import tries
from .claims import assert_alike, verbs
from .hosts import begins, senders_of
from .laws import assert_it_keeps_no_packet_from_being, assert_what_comes_back_has_one_end
from .policies import KINDS


def answered(kind: str, most: int) -> st.SearchStrategy[Setting]:
    return KINDS[kind](most).map(lambda setting: replace(setting, answers=True))


@pytest.mark.parametrize("kind", KINDS)
@tries(25)
@given(data=st.data())
def test_every_answer_comes_to_one_end_and_answers_something(data: st.DataObject, kind: str) -> None:
    setting = data.draw(answered(kind, 3), label="setting")
    sender = data.draw(some.one(senders_of(setting)), label="sender")
    js = journeys_of(setting, sender, deepest=2)
    assert_what_comes_back_has_one_end(js, partial(_came_to_somebody, js))


def _came_to_somebody(js: Journeys, hop: int) -> Iterator[Bool]:
    yield from (e.cond for e in js.record.ends if e.hop == hop and isinstance(e.end, j.Left | j.Kernel))
    yield from (s.cond for s in js.record.stops if s.hop == hop and s.act is j.Act.DELIVERED)


@pytest.mark.parametrize("kind", KINDS)
@tries(25)
@given(data=st.data())
def test_answers_keep_no_packet_from_being(data: st.DataObject, kind: str) -> None:
    """Whatever is sent where nobody asks for answers is sent, with all its choices, where somebody does."""
    setting = data.draw(answered(kind, 1), label="setting")
    edges = edges_of(setting)
    sender = data.draw(some.one(senders_of(setting)), label="sender")
    silent = replace(setting, answers=False, also=setting.also | {"connection"})
    drawn = (data.draw(begins(setting, sender, edges), label="begin") for _ in range(3))
    assert_it_keeps_no_packet_from_being(silent, setting, sender, drawn)


@tries(60)
@given(data=st.data())
def test_a_verb_says_of_an_answer_what_it_says_of_a_journey(data: st.DataObject) -> None:
    setting = data.draw(answered("IPv4", 4), label="setting")
    edges = edges_of(setting)
    sender = data.draw(some.one(senders_of(setting)), label="sender")
    js = journeys_of(setting, sender, deepest=2)
    drawn = data.draw(st.lists(verbs(replace(setting, answers=False)), min_size=3, max_size=6), label="verbs")
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
            told = concrete.holds(verb, alone, setting)
            assert_alike(verdict, model, told, (verb, alone.end))


@tries(40)
@given(data=st.data())
def test_who_is_answered_is_the_same_in_both_wings(data: st.DataObject) -> None:
    setting = data.draw(answered("IPv4", 2), label="setting")
    edges = edges_of(setting)
    names = [None, *(i.name for i in setting.host.interfaces)]
    for sender in senders_of(setting):
        js = journeys_of(setting, sender, deepest=2)
        asked = [(c.IsAnswered(name), symbolic.verdict(c.IsAnswered(name), js)) for name in names]
        for number in range(4):
            begin = data.draw(begins(setting, sender, edges), label="begin")
            model, trip = under(js, begin, random.Random(number))
            if not possible(js, model):
                continue
            journey = trip.travel()
            for verb, verdict in asked:
                told = concrete.holds(verb, journey, setting)
                assert_alike(verdict, model, told, (verb, journey))
