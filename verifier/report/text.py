"""Results and journeys as text for people: `full` and `concise`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from .. import claims as c
from ..answers import Counterexample, Proved, Refuted, Unknown
from ..check import Result, name_of
from ..concrete.claims import holds
from ..hosts import Setting
from ..journeys import Journey
from ..why import near_miss
from ..wording import say_claim
from .told import Line, flow, lines, owner

SIGNS = {"proved": "✓", "refuted": "✗", "unknown": "?", "vacuous": "∅"}

Paint = Callable[[str, str], str]
"""Text and the name of a colour, to the text as it is printed."""


def plain(text: str, _: str) -> str:
    return text


def concise(result: Result, paint: Paint = plain) -> str:
    """One line: file, line, the answer, and what it is about."""
    q = result.question
    said = f"{q.place.file}:{q.place.line}: {_answer(result, paint)} {q.name} on {q.where}"
    reason = getattr(result.answer, "reason", "")
    return said + (f": {reason}" if reason and not result.ok else "")


def full(result: Result, paint: Paint = plain) -> str:
    """The answer with what it rests on, or the counterexample with its journey."""
    q = result.question
    title = f"   {q.title}" if q.title else ""
    head = f"{_answer(result, paint):<10}  {q.name} on {q.where}{title}"
    out = [f"{head}   {q.place.file}:{q.place.line}"]
    out += [f"  {line}" for line in _body(result)]
    return "\n".join(out)


def _answer(result: Result, paint: Paint) -> str:
    name = name_of(result)
    colour = "green" if result.ok else "yellow" if name == "unknown" else "red"
    sign = SIGNS[name] if result.ok == (name == "proved") else "✓" if result.ok else "✗"
    said = f"{sign} {name}" + (", as expected" if result.ok and name != "proved" else "")
    return paint(said, colour)


def _body(result: Result) -> Iterator[str]:
    answer, q = result.answer, result.question
    if q.because and result.ok:
        yield f"because {q.because}"
    if result.cell is not None and not result.ok:
        yield f"the table says {q.cell.value if q.cell else ''}; it is {result.cell}"
    match answer:
        case Proved():
            if not result.ok:
                yield f"a refutation was expected: {say_claim(result.claim)}"
            yield f"{_scope(result)}   {result.seconds:.2f} s"
            if answer.witness is not None:
                yield from _counterexample(answer.witness, result, "witness")
        case Refuted():
            yield from _wanted(say_claim(result.claim))
            yield f"  {answer.reason}"
            if answer.counterexample is not None:
                yield ""
                yield from _counterexample(answer.counterexample, result, "counterexample")
        case Unknown():
            yield from _wanted(say_claim(result.claim))
            yield f"  {answer.reason}"
            yield from (f"  not understood: {text}" for text in answer.opaque)
            if answer.candidate is not None:
                yield ""
                yield from _counterexample(answer.candidate, result, "candidate")
        case _:
            yield f"{say_claim(result.claim)}"
            yield f"  {answer.reason}"
    yield from (
        f"warning: {note}" for note in getattr(answer, "notes", ()) if note.startswith("the exception")
    )
    yield from (
        f"note: {note}" for note in getattr(answer, "notes", ()) if not note.startswith("the exception")
    )
    if answer.assumptions:
        yield "assumes: " + " · ".join(f"{a.code} {a.text}" for a in answer.assumptions)


def _wanted(claim: str) -> Iterator[str]:
    yield claim


def _scope(result: Result) -> str:
    answer = result.answer
    if not isinstance(answer, Proved):
        raise AssertionError("only a proof has a scope")
    words = ["all packets"]
    if answer.hops:
        words.append(
            f"no journey goes on after {answer.hops} hop{'s' * (answer.hops > 1)} (bound {answer.bound})"
        )
    if answer.samples:
        words.append(f"evaluator agreed on {answer.samples} packets")
    return " · ".join(words)


def _counterexample(found: Counterexample, result: Result, word: str) -> Iterator[str]:
    setting = _setting(result, 0)
    journey = found.journey
    spoken = next(s for s in journey.stops if s.hop == found.hop)
    who = (
        f"  from {spoken.process}{owner(spoken.packet)}"
        if spoken.process
        else f"  from outside on {spoken.packet.in_iface}"
    )
    yield f"{word}   {flow(spoken.packet)}{who}"
    if found.hop:
        first = journey.stops[0]
        by = first.process or f"outside on {first.packet.in_iface}"
        yield f"reached by   {flow(first.packet)} from {by}"
    for field, values in found.stands_for.items():
        yield f"stands for   {field}: {values}"
    miss = _miss(found, result, setting)
    yield ""
    yield from _numbered(lines(journey, setting, miss))
    if found.other is not None:
        yield ""
        yield f"the same packet on {_name(result, 1)}"
        yield from _numbered(lines(found.other, _setting(result, 1)))
    if miss is not None:
        yield ""
        yield f"why   {miss.table}/{miss.chain} rule {miss.rule} would have stopped it, had {miss.had}"


def _miss(found: Counterexample, result: Result, setting: Setting):  # type: ignore[no-untyped-def]
    claim = result.claim
    if not isinstance(claim, c.PacketClaim) or not isinstance(result.answer, Refuted):
        return None

    def broken(journey: Journey) -> bool:
        told = [holds(v, journey, setting) for v in claim.verbs]
        return False in told if claim.quantifier is c.Quantifier.EVERY else all(x is True for x in told)

    return near_miss(setting, found.journey, found.hop, broken)


def _setting(result: Result, index: int) -> Setting:
    settings = result.question.settings
    return settings[min(index, len(settings) - 1)][1]


def _name(result: Result, index: int) -> str:
    settings = result.question.settings
    return settings[min(index, len(settings) - 1)][0]


def _numbered(told: Sequence[Line]) -> Iterator[str]:
    wide = max(len(line.where) for line in told)
    ruled = max(len(line.rule) for line in told)
    number = 0
    for line in told:
        if line.where:
            number += 1
        mark = f"{number:>3}" if line.where else "   "
        said = f"{mark}  {line.where:<{wide}}  {line.rule:<{ruled}}  {line.text}"
        yield said.rstrip() + (f"   {line.place}" if line.place else "")


def journey_text(journey: Journey, setting: Setting) -> str:
    """A trace: the journey's lines."""
    return "\n".join(_numbered(lines(journey, setting)))


def summary(results: Sequence[Result]) -> str:
    """`12 proved, 3 refuted as expected, 1 refuted in 0.41 s`"""
    counts: dict[str, int] = {}
    for result in results:
        name = name_of(result)
        if name != "proved" and result.ok:
            name += " as expected"
        elif name == "proved" and not result.ok:
            name += " against expectation"
        counts[name] = counts.get(name, 0) + 1
    seconds = sum(r.seconds for r in results)
    return ", ".join(f"{n} {name}" for name, n in counts.items()) + f" in {seconds:.2f} s"
