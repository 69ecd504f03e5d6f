"""Each planted slip in the concrete wing is noticed by the corpus, and slips in the prover by what a proof means."""

from __future__ import annotations

from pathlib import Path

import pytest

from verifier.concrete import travel as concrete

from .agreement import difference
from .corpus import corpus
from .slips import SLIPS, Slip, planted


@pytest.mark.parametrize("slip", SLIPS, ids=str)
def test_a_slip_in_the_concrete_wing_is_caught(slip: Slip, tmp_path: Path) -> None:
    corpus()
    with planted(slip, tmp_path) as slipped:
        caught = 0
        for number, example in enumerate(corpus().examples, 1):
            try:
                caught += difference(example.told, example.trip.travel(slipped.travel)) is not None
            except AssertionError:
                caught += 1
            if caught:
                print(f"{slip}: caught by packet {number}")
                return
    pytest.fail(f"{slip}: nobody noticed")


def test_without_a_slip_nothing_is_caught(tmp_path: Path) -> None:
    same = Slip("none", "__init__.py", "plain Python", "plain Python")
    with planted(same, tmp_path) as copied:
        assert copied.travel is not concrete.travel
        for example in corpus().examples:
            assert difference(example.told, example.trip.travel(copied.travel)) is None
