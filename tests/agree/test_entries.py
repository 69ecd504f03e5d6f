"""A datagram behind an earlier one goes the same way in both wings, compared at every stop."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from verifier.journeys import FromOutside, FromProcess
from verifier.replay import check_wings, start_of
from verifier.samples import edges_of

from . import strategies as some
from .agreement import difference, journeys_behind, possible, told, under
from .budget import tries
from .corpus import solved
from .entries import SETTINGS, alike, later
from .hosts import begins, senders_of
from .laws import assert_each_has_one_end


@pytest.mark.parametrize("kind", SETTINGS)
@tries(60)
@given(data=st.data())
def test_a_packet_behind_an_entry_goes_the_same_way_in_both_wings(data: st.DataObject, kind: str) -> None:
    setting = data.draw(SETTINGS[kind](3), label="setting")
    edges = edges_of(setting)
    own = [s for s in senders_of(setting) if isinstance(s, FromOutside | FromProcess)]
    first = data.draw(some.one(own), label="first sender")
    sender = data.draw(some.one(own), label="sender")
    js = journeys_behind(setting, first, sender)
    for number in range(5):
        before = alike(data.draw(begins(setting, first, edges), label="before"))
        begin = later(data.draw(begins(setting, sender, edges), label="begin"), before, random.Random(number))
        model, trip = under(js, begin, random.Random(number), before)
        if possible(js, model):
            assert difference(told(js, model), trip.travel()) is None


@pytest.mark.parametrize("kind", SETTINGS)
@tries(25)
@given(data=st.data())
def test_the_solvers_own_pairs_go_the_same_way(data: st.DataObject, kind: str) -> None:
    """One for each rule that may be taken behind an entry, and for each kind of end."""
    setting = data.draw(SETTINGS[kind](3), label="setting")
    own = [s for s in senders_of(setting) if isinstance(s, FromOutside | FromProcess)]
    js = journeys_behind(
        setting, data.draw(some.one(own), label="first"), data.draw(some.one(own), label="sender")
    )
    for model in solved(js, 25, js.behind):
        start = start_of(js, model)
        note(str(start))
        check_wings(js, model, start)
        assert start.travel(setting).behind


@pytest.mark.parametrize("kind", SETTINGS)
@tries(25)
@given(data=st.data())
def test_every_pair_comes_to_one_end(data: st.DataObject, kind: str) -> None:
    setting = data.draw(SETTINGS[kind](3), label="setting")
    own = [s for s in senders_of(setting) if isinstance(s, FromOutside | FromProcess)]
    js = journeys_behind(
        setting, data.draw(some.one(own), label="first"), data.draw(some.one(own), label="sender")
    )
    assert_each_has_one_end(js)
