"""Each planted slip in the concrete wing is noticed by the corpus, and slips in the prover by what a proof means."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from verifier.concrete import travel as concrete
from verifier.journeys import Journey

from .agreement import difference
from .corpus import Example, corpus
from .slips import SLIPS, Slip, planted


def told_otherwise(example: Example, travel: Callable[..., Journey]) -> bool:
    """This concrete wing tells the trip in another way than the formulas do, or cannot tell it at all."""
    try:
        return difference(example.told, example.trip.travel(travel)) is not None
    except Exception:
        return True


@pytest.mark.parametrize("slip", SLIPS, ids=str)
def test_a_slip_in_the_concrete_wing_is_caught(slip: Slip, tmp_path: Path) -> None:
    corpus()
    with planted(slip, tmp_path) as slipped:
        for number, example in enumerate(corpus().examples, 1):
            if told_otherwise(example, slipped.travel):
                print(f"{slip}: noticed at packet {number}")
                return
    pytest.fail(f"{slip}: nobody noticed")


def test_without_a_slip_nothing_is_caught(tmp_path: Path) -> None:
    same = Slip("none", "__init__.py", "plain Python", "plain Python")
    with planted(same, tmp_path) as copied:
        assert copied.travel is not concrete.travel
        for example in corpus().examples:
            assert not told_otherwise(example, copied.travel)
