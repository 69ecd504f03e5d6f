"""Questions and their results: what `chainproof check` finds, whoever prints it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TypeAlias, assert_never

from msgspec import Struct
from msgspec.structs import replace

from . import claims as c
from .answers import Answer, Judgement, Proved, Refuted, Unknown, Vacuous
from .asked import fields_carried, fields_of
from .cases import Question
from .hosts import Setting
from .prove import Budget, Prover


class Result(Struct, frozen=True):
    """A question, its answer, and whether that is the answer that was wanted."""

    question: Question
    answer: Answer
    claim: c.Claim
    """The claim that decided, where the property has several."""
    ok: bool
    seconds: float
    cell: str | None = None
    """For a cell of a table: what it would have to say."""
    saved: str | None = None
    """The file in which its counterexample or witness is kept."""
    kernel: Judgement | None = None
    """What the kernel says, where it was asked."""


class Checker:
    """Answers questions; what is known of a host serves all questions about it."""

    def __init__(self, budget: Budget | None = None) -> None:
        self.budget = budget or Budget()
        self._provers: dict[tuple[int, frozenset[str]], tuple[Setting, Prover]] = {}

    def prover(self, setting: Setting, also: frozenset[str] = frozenset()) -> Prover:
        """The prover of this very setting, whose packets carry these fields too."""
        key = (id(setting), also - fields_carried(setting))
        if key not in self._provers:
            carrying = replace(setting, also=setting.also | key[1]) if key[1] else setting
            self._provers[key] = (setting, Prover(carrying, self.budget))
        return self._provers[key][1]

    def ask(self, question: Question) -> Result:
        """The question's result; an error that comes of asking it carries what is needed to ask it again."""
        try:
            return self._asked(question)
        except Exception as error:
            error.add_note(_circumstances(question))
            raise

    def _asked(self, question: Question) -> Result:
        begun = time.perf_counter()
        if question.cell is not None:
            answer, claim, side, cell = self._cell(question)
            ok = cell == question.cell.value
        else:
            answer, claim, side = self._all(question)
            cell = None
            ok = _name(answer) == question.wanted.value
        if not ok:
            answer = self._generalised(answer, claim, side)
        return Result(side, answer, claim, ok, time.perf_counter() - begun, cell)

    def _all(self, question: Question) -> _Answered:
        """The answer to the conjunction of the claims, the claim that it comes from, and the family's side of it."""
        answers = []
        for number in sorted({n for side in question.sides for n in side.numbers}):
            found = self._joint(question, number)
            if isinstance(found[0], Refuted):
                return found
            answers.append(found)
        for kind in (Unknown, Vacuous):
            for found in answers:
                if isinstance(found[0], kind):
                    return found
        return _proved([(a, claim, side) for a, claim, side in answers if isinstance(a, Proved)])

    def _joint(self, question: Question, number: int, quantifier: c.Quantifier | None = None) -> _Answered:
        """The answer to one of the property's claims, with this quantifier, of the packets of all families of which it speaks."""
        answers: list[_Answered] = []
        for side in question.sides:
            if number not in side.numbers:
                continue
            claim = side.claims[side.numbers.index(number)]
            if quantifier is not None:
                assert isinstance(claim, c.PacketClaim), "a table asks about packets"
                claim = replace(claim, quantifier=quantifier)
            answers.append((self.answer(claim, side), claim, side))
        if len(answers) == 1:
            return answers[0]
        some = isinstance(answers[0][1], c.PacketClaim) and answers[0][1].quantifier is c.Quantifier.SOME
        for kind in (Proved, Unknown, Refuted, Vacuous) if some else (Refuted, Unknown, Proved, Vacuous):
            found = [(a, claim, side) for a, claim, side in answers if isinstance(a, kind)]
            if found:
                return _proved(found) if kind is Proved and not some else found[0]
        raise AssertionError("an answer is one of four")

    def answer(self, claim: c.Claim, question: Question) -> Answer:
        match claim:
            case c.PacketClaim():
                return self.prover(self._only(question), _asked_by(claim.premise)).answer(claim)
            case c.DeadClaim():
                from . import dead

                return dead.answer(self.prover(self._only(question)), claim)
            case c.SameClaim(_, first, second):
                from . import compare

                return compare.same(question.setting(first), question.setting(second), claim, self.budget)
            case c.KeepClaim(premise, before, after):
                from . import compare

                old, new = question.setting(before), question.setting(after)
                asked = _asked_by(premise)
                return compare.keep(self.prover(old, asked), self.prover(new, asked), claim)
            case _:
                assert_never(claim)

    def _generalised(self, answer: Answer, claim: c.Claim, question: Question) -> Answer:
        """An unexpected refutation, with what its counterexample stands for."""
        if (
            not isinstance(answer, Refuted)
            or answer.counterexample is None
            or not isinstance(claim, c.PacketClaim)
        ):
            return answer
        from .classes import stands_for

        prover = self.prover(self._only(question), _asked_by(claim.premise))
        fields = stands_for(prover, claim, answer.counterexample)
        return replace(answer, counterexample=replace(answer.counterexample, stands_for=fields))

    def _only(self, question: Question) -> Setting:
        ((_, setting),) = question.settings
        return setting

    def _cell(self, question: Question) -> tuple[Answer, c.Claim, Question, str | None]:
        """A cell's answer: proved iff it says what is so.  yes: every packet does; no: none does; some: both kinds exist."""
        every, none = c.Quantifier.EVERY, c.Quantifier.NO
        order = (none, every) if question.cell is c.Cell.NO else (every, none)
        first, claim, side = self._joint(question, 0, order[0])
        if isinstance(first, Proved):
            cell = c.Cell.YES if order[0] is every else c.Cell.NO
        elif not isinstance(first, Refuted):
            return first, claim, side, None
        else:
            second, other, place = self._joint(question, 0, order[1])
            if isinstance(second, Proved):
                cell = c.Cell.YES if order[1] is every else c.Cell.NO
            elif isinstance(second, Refuted):
                cell = c.Cell.SOME
            else:
                return second, other, place, None
        if cell is question.cell:
            if isinstance(first, Proved):
                return first, claim, side, cell.value
            bound = self.prover(self._only(side)).bound
            return Proved(0, bound, first.assumptions), claim, side, cell.value
        if isinstance(first, Refuted):
            reason = f"the cell is `{cell.value}`: {first.reason}"
            return replace(first, reason=reason), claim, side, cell.value
        reason = f"the cell is `{cell.value}`, of all packets"
        return Refuted(None, reason, first.assumptions), claim, side, cell.value


_Answered: TypeAlias = tuple[Answer, c.Claim, Question]


def _proved(found: Sequence[_Answered]) -> _Answered:
    """All these proofs as one: the deepest, with what each of them rests on; the packets that are kept are of its side."""
    proofs = [(a, claim, side) for a, claim, side in found if isinstance(a, Proved)]
    deepest, claim, side = max(proofs, key=lambda p: p[0].hops)
    notes = tuple(note for a, *_ in proofs for note in a.notes)
    samples = sum(a.samples for a, *_ in proofs)
    checked = tuple(sample for a, _, its in proofs if its is side for sample in a.checked)
    every = {x for a, *_ in proofs for x in a.assumptions}
    taken = tuple(sorted(every, key=lambda x: (x.code, x.text)))
    whole = replace(deepest, notes=notes, samples=samples, assumptions=taken, checked=checked)
    return whole, claim, side


def _name(answer: Answer) -> str:
    return type(answer).__name__.lower()


def _asked_by(premise: c.Premise) -> frozenset[str]:
    """The fields that a premise asks for."""
    literals = (*premise.filter.where, *(x for e in premise.exceptions for x in e.filter.where))
    return fields_of(literals) | premise.carries


def _circumstances(question: Question) -> str:
    """What was asked, of which hosts with which rules."""
    from .spell import rule_set
    from .wording import say_claim

    said = [f"{question.name} on {question.where} ({question.place})"]
    for side in question.sides:
        said += map(say_claim, side.claims)
        said += [f"{setting.host}\n{rule_set(setting.rules)}" for _, setting in side.settings]
    return "\n".join(said)


def name_of(result: Result) -> str:
    """proved, refuted, unknown or vacuous."""
    return _name(result.answer)


def exit_status(results: list[Result], unknown_is_failure: bool = True) -> int:
    """0 all as expected, 1 something is not, 3 none of these and something is unknown."""
    bad = [r for r in results if not r.ok]
    if any(not isinstance(r.answer, Unknown) for r in bad):
        return 1
    return 3 if bad and unknown_is_failure else 0
