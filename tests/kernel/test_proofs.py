"""The bugs of proofs/museum happen in the kernel: each refutation's packet does there what it is told to do, on both backends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from verifier.answers import Refuted
from verifier.cases import Cases
from verifier.check import Checker
from verifier.claims import Wanted
from verifier.confirm.judging import Judge
from verifier.kernel.iptables import BACKENDS
from verifier.prove import Budget

pytestmark = pytest.mark.kernel

MUSEUM = Path(__file__).parents[2] / "proofs" / "museum"
FILES = sorted(MUSEUM.glob("*/*.prop"))


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with Judge() as judge:
        yield judge


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_the_kernel_does_what_the_refutations_of_a_case_tell(file: Path, judge: Judge) -> None:
    checker = Checker(Budget(samples=0))
    told = 0
    for question in Cases(file).questions():
        if question.wanted is not Wanted.REFUTED:
            continue
        result = checker.ask(question)
        assert isinstance(result.answer, Refuted)
        if result.answer.counterexample is None:
            continue
        told += 1
        judgement = judge.judged(result)
        assert judgement.confirmed, judgement
        assert judgement.backends == BACKENDS
    assert told, "a case of the museum has a packet that shows it"
