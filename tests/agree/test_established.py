"""A later packet of a connection, and what answers it, goes the same way in both wings, compared at every stop."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from verifier.journeys import FromOutside, FromProcess
from verifier.replay import check_wings, start_of
from verifier.samples import edges_of

from . import strategies as some
from .agreement import difference, journeys_of_later, possible, told, under
from .budget import tries
from .corpus import solved
from .established import SETTINGS, later, opening
from .hosts import begins, senders_of
from .laws import assert_each_has_one_end


@pytest.mark.parametrize("kind", SETTINGS)
@tries(60)
@given(data=st.data())
def test_a_later_packet_goes_the_same_way_in_both_wings(data: st.DataObject, kind: str) -> None:
    setting = data.draw(SETTINGS[kind](3), label="setting")
    edges = edges_of(setting)
    own = [s for s in senders_of(setting) if isinstance(s, FromOutside | FromProcess)]
    sender = data.draw(some.one(own), label="sender")
    js = journeys_of_later(setting, sender)
    for number in range(5):
        draw = random.Random(number)
        before = opening(data.draw(begins(setting, sender, edges), label="before"), draw)
        begin = later(data.draw(begins(setting, sender, edges), label="begin"), before, draw)
        model, trip = under(js, begin, draw, before)
        if possible(js, model):
            assert difference(told(js, model), trip.travel()) is None


@pytest.mark.parametrize("kind", SETTINGS)
@tries(25)
@given(data=st.data())
def test_the_solvers_own_later_packets_go_the_same_way(data: st.DataObject, kind: str) -> None:
    """One for each rule that may be taken, and for each kind of end."""
    setting = data.draw(SETTINGS[kind](3), label="setting")
    own = [s for s in senders_of(setting) if isinstance(s, FromOutside | FromProcess)]
    js = journeys_of_later(setting, data.draw(some.one(own), label="sender"))
    for model in solved(js, 25, js.behind):
        start = start_of(js, model)
        note(str(start))
        check_wings(js, model, start)
        assert start.travel(setting).behind


@pytest.mark.parametrize("kind", SETTINGS)
@tries(25)
@given(data=st.data())
def test_every_later_packet_comes_to_one_end(data: st.DataObject, kind: str) -> None:
    setting = data.draw(SETTINGS[kind](3), label="setting")
    own = [s for s in senders_of(setting) if isinstance(s, FromOutside | FromProcess)]
    js = journeys_of_later(setting, data.draw(some.one(own), label="sender"))
    assert_each_has_one_end(js)
