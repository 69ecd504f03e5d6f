"""The corpus is worth something: what a rule can say is both taken and passed by in it."""

from __future__ import annotations

import pytest

from verifier import rules as r
from verifier.journeys import Truth

from . import strategies
from .coverage import MATCHES, TARGETS, Coverage, measure, report


@pytest.fixture(scope="module")
def found() -> Coverage:
    return measure()


DECIDED = [m for m in MATCHES if m not in (*strategies.CHOICES, r.Ipv6Header, r.Fragment)]
"""Matches that packets and hosts decide; no IPv4 packet has the headers of IPv6, and no packet here is a fragment."""


def test_no_packet_is_a_fragment(found: Coverage) -> None:
    assert found.held[r.Fragment, False, False]
    assert not found.held[r.Fragment, False, True]


@pytest.mark.parametrize("kind", DECIDED)
def test_each_match_is_true_of_some_packets_and_false_of_others(found: Coverage, kind: type) -> None:
    assert found.held[kind, False, True]
    assert found.held[kind, False, False]


@pytest.mark.parametrize("kind", [m for m in DECIDED if m not in r.OWN_NEGATION])
def test_so_is_each_negated_match(found: Coverage, kind: type) -> None:
    assert found.held[kind, True, True]
    assert found.held[kind, True, False]


@pytest.mark.parametrize("truth", list(Truth))
def test_opaque_matches_gave_each_answer(found: Coverage, truth: Truth) -> None:
    assert found.asked[truth]


@pytest.mark.parametrize("kind", TARGETS)
def test_each_target_is_taken_by_some_packets_and_passed_by_others(found: Coverage, kind: type) -> None:
    assert found.taken[kind, Truth.MATCH]
    assert found.taken[kind, Truth.NO_MATCH]


def test_most_packets_match_a_rule(found: Coverage) -> None:
    print(report(found))
    assert found.matched > found.trips / 2
    assert found.dialled > found.trips / 50
    assert set(TARGETS) == {*strategies.TARGETS, type(None)}
