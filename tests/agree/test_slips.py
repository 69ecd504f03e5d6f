"""Each planted slip in the concrete wing is noticed by the corpus, and slips in the prover by what a proof means."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from verifier.answers import Refuted, WingsDisagree
from verifier.concrete import travel as concrete
from verifier.journeys import Journey
from verifier.prove import Prover

from . import slips_of_answers, slips_of_entries, slips_of_established, slips_of_rejections
from .agreement import difference
from .corpus import (
    Corpus,
    Example,
    corpus,
    corpus_by_rules,
    corpus_of_answers,
    corpus_of_entries,
    corpus_of_established,
    corpus_of_rejections,
)
from .examples import chain_of_proxies
from .slips import BY_RULES, BY_RULES_IPV6, IN_IPV6, IN_THE_PROVER, SLIPS, Slip, planted, slipped_prover
from .test_prove import AT_THE_SEVENTH_HOP


def told_otherwise(example: Example, travel: Callable[..., Journey]) -> bool:
    """This concrete wing tells the trip in another way than the formulas do, or cannot tell it at all."""
    try:
        return difference(example.told, example.trip.travel(travel)) is not None
    except Exception:
        return True


@pytest.mark.parametrize("slip", [*SLIPS, *IN_IPV6], ids=str)
def test_a_slip_in_the_concrete_wing_is_caught(slip: Slip, tmp_path: Path) -> None:
    _is_caught(slip, tmp_path, corpus(slip.family))


@pytest.mark.parametrize("slip", [*BY_RULES, *BY_RULES_IPV6], ids=str)
def test_a_slip_in_the_lookup_by_rules_is_caught(slip: Slip, tmp_path: Path) -> None:
    _is_caught(slip, tmp_path, corpus_by_rules(slip.family))


@pytest.mark.parametrize("slip", slips_of_answers.SLIPS, ids=str)
def test_a_slip_in_answers_is_caught(slip: Slip, tmp_path: Path) -> None:
    _is_caught(slip, tmp_path, corpus_of_answers())


@pytest.mark.parametrize("slip", [*slips_of_rejections.SLIPS, *slips_of_rejections.IN_IPV6], ids=str)
def test_a_slip_in_rejections_is_caught(slip: Slip, tmp_path: Path) -> None:
    _is_caught(slip, tmp_path, corpus_of_rejections())


@pytest.mark.parametrize("slip", slips_of_entries.SLIPS, ids=str)
def test_a_slip_in_entries_is_caught(slip: Slip, tmp_path: Path) -> None:
    _is_caught(slip, tmp_path, corpus_of_entries())


@pytest.mark.parametrize("slip", slips_of_established.SLIPS, ids=str)
def test_a_slip_in_what_stands_is_caught(slip: Slip, tmp_path: Path) -> None:
    _is_caught(slip, tmp_path, corpus_of_established())


def _is_caught(slip: Slip, folder: Path, found: Corpus) -> None:
    with planted(slip, folder) as slipped:
        for number, example in enumerate(found.examples, 1):
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


@pytest.mark.parametrize("slip", IN_THE_PROVER, ids=str)
def test_a_slip_in_the_prover_is_caught(slip: Slip, tmp_path: Path) -> None:
    """By the journey of seven hops that breaks its claim at the last of them: it is called proved, or the
    concrete wing contradicts."""
    slipped = slipped_prover(slip, tmp_path)
    for claim, end, aside in AT_THE_SEVENTH_HOP:
        setting = chain_of_proxies(6, end, aside=aside)
        assert isinstance(Prover(setting).answer(claim), Refuted)
        try:
            answer = slipped.Prover(setting).answer(claim)
        except WingsDisagree:
            return
        if not isinstance(answer, Refuted):
            print(f"{slip}: {answer}")
            return
    pytest.fail(f"{slip}: nobody noticed")
