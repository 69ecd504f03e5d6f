"""A second solver says the same: what Z3 answered to each question, Bitwuzla answers to the script of it."""

from __future__ import annotations

import re
from pathlib import Path

import bitwuzla
import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier import claims as c
from verifier import cli
from verifier.cases import Cases
from verifier.check import Checker
from verifier.prove import Budget, Prover
from verifier.symbolic.terms import Outcome, Solver, Terms

from .agree import claims, hosts
from .agree import strategies as some
from .agree.budget import tries

PACK = Path(__file__).parent.parent / "proofs" / "istio-sidecar"
FILES = sorted(PACK.glob("*.prop"))


def status(script: str) -> str:
    """What the script says of itself."""
    found = re.search(r"^\(set-info :status (sat|unsat|unknown)\)$", script, re.MULTILINE)
    assert found is not None
    return found[1]


def second(script: str) -> str:
    """What Bitwuzla says of it: sat or unsat."""
    asked = re.sub(r"^\(set-info .*\n", "", script, flags=re.MULTILINE)
    parser = bitwuzla.Parser(bitwuzla.TermManager(), bitwuzla.Options())
    parser.parse(asked, True, False)
    return str(parser.bitwuzla().check_sat()).rpartition(".")[2].lower()


def disagreements(scripts: list[str]) -> list[str]:
    return [script for script in scripts if status(script) != "unknown" and second(script) != status(script)]


@pytest.mark.parametrize("file", FILES, ids=lambda p: p.stem)
def test_a_second_solver_agrees_on_every_question_of_the_pack(file: Path) -> None:
    scripts: list[str] = []
    checker = Checker(Budget(scripts=scripts))
    questions = Cases(file).questions()
    for question in questions:
        assert checker.ask(question).ok
    assert len(scripts) > len(questions)
    assert {status(script) for script in scripts} == {"sat", "unsat"}
    assert disagreements(scripts) == []


@tries(30)
@given(data=st.data())
def test_a_second_solver_agrees_on_generated_settings(data: st.DataObject) -> None:
    setting = data.draw(hosts.settings(most=3), label="setting")
    sender = data.draw(some.one(hosts.senders_of(setting)), label="sender")
    premise = data.draw(claims.premises(sender), label="premise")
    verb = data.draw(claims.verbs(setting), label="verb")
    quantifier = data.draw(st.sampled_from(c.Quantifier), label="quantifier")
    scripts: list[str] = []
    Prover(setting, Budget(timeout_ms=2000, samples=2, scripts=scripts)).answer(
        c.PacketClaim(quantifier, premise, (verb,))
    )
    assert disagreements(scripts[:20]) == []


def test_a_script_that_says_what_is_not_so_is_found() -> None:
    scripts: list[str] = []
    terms = Terms()
    port = terms.variable("port of the 'packet'", 16)
    solver = Solver(terms, scripts=scripts)
    solver.add(port.at_least(80))
    assert solver.check(port.at_most(79)).outcome is Outcome.UNSAT
    assert solver.check(port.at_most(0x8000)).outcome is Outcome.SAT
    assert [status(s) for s in scripts] == ["unsat", "sat"]
    assert disagreements(scripts) == []
    slip = scripts[0].replace("(_ bv80 16)", "(_ bv79 16)")
    assert disagreements([slip]) == [slip]
    lies = [
        re.sub(r":status \w+", ":status " + lie, s) for s, lie in zip(scripts, ("sat", "unsat"), strict=True)
    ]
    assert disagreements(lies) == lies


def test_the_command_line_writes_the_same_scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PACK.parent.parent)
    with pytest.raises(SystemExit) as left:
        cli.main(["check", "--only", "rule", "--smt2", str(tmp_path), "--output-format", "concise"])
    assert left.value.code == 0
    scripts = [file.read_text() for file in sorted(tmp_path.iterdir())]
    assert len(scripts) > 5
    assert disagreements(scripts) == []
