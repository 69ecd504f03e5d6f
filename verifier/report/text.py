"""Results and journeys as text for people: `full` and `concise`."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence

from ..answers import Counterexample, Proved, Refuted, Unknown, Vacuous
from ..assumptions import SHORT
from ..check import Result, name_of
from ..claims import PacketClaim
from ..hosts import Assumption, Setting
from ..journeys import Earlier, Journey
from ..values import TCP
from ..why import near_miss
from ..wording import flow, say_claim, say_varies
from .reproduce import commands
from .told import Line, chances, lines, owner

SIGNS = {"proved": "✓", "refuted": "✗", "unknown": "?", "vacuous": "∅"}

LABEL = 17
"""The column in which what is labelled begins."""

WIDEST_RULE = 72
"""Rules that are longer push their place to the right."""

Paint = Callable[[str, str], str]
"""Text and the name of a colour, to the text as it is printed."""


def plain(text: str, _: str) -> str:
    return text


def concise(result: Result, paint: Paint = plain) -> str:
    """One line: file, line, the answer, and what it is about."""
    q = result.question
    said = f"{q.place.file}:{q.place.line}: {_answer(result, paint)} {_about(result)}"
    reason = getattr(result.answer, "reason", "")
    return said + (f": {reason}" if reason and not result.ok else "")


def full(result: Result, paint: Paint = plain) -> str:
    """The answer with what it rests on, or the counterexample with its journey."""
    q = result.question
    title = f"   {q.title}" if q.title else ""
    head = f"{_answer(result, paint, 11)} {_about(result)}{title}   {q.place.file}:{q.place.line}"
    return "\n".join([head, *(f"  {line}".rstrip() for line in _body(result))])


def closing(results: Sequence[Result], kind: str, quiet: bool = False) -> str:
    """The last lines: for `full` what the codes of the assumptions stand for, and how many answers there are of each kind."""
    shown = [] if kind != "full" else [r for r in results if not (quiet and r.ok)]
    taken = {a.code: a.text for r in shown for a in r.answer.assumptions if a.code in SHORT}
    meanings = [f"  {code} {taken[code]}" for code in sorted(taken)]
    return "\n".join(["taken for granted:", *meanings, "", summary(results)] if taken else [summary(results)])


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


def journey_text(journey: Journey, setting: Setting) -> str:
    """A trace: the journey's lines."""
    return "\n".join(_numbered(lines(journey, setting)))


# -- one answer -------------------------------------------------------------------------------------


def _about(result: Result) -> str:
    q = result.question
    return f"{q.name} on {q.where}" + (f": {q.cell.value}" if q.cell is not None else "")


def _answer(result: Result, paint: Paint, wide: int = 0) -> str:
    name = name_of(result)
    colour = "green" if result.ok else "yellow" if name == "unknown" else "red"
    sign = SIGNS[name] if result.ok == (name == "proved") else "✓" if result.ok else "✗"
    said = f"{sign} {name}" + (", as expected" if result.ok and name != "proved" else "")
    return paint(said, colour) + " " * (wide - len(said))


def _body(result: Result) -> Iterator[str]:
    answer, q = result.answer, result.question
    if q.because and result.ok:
        yield f"because {q.because}"
    if result.cell is not None and q.cell is not None and not result.ok:
        yield f"the table says `{q.cell.value}`, and it is `{result.cell}`"
    match answer:
        case Proved():
            if not result.ok:
                yield f"{say_claim(result.claim)}"
                yield f"  this is so, and {q.wanted.value} was expected"
            asked = "" if result.kernel is None else f" · kernel: {result.kernel}"
            yield f"{_scope(answer)}{asked}   {result.seconds:.2f} s"
            if answer.witness is not None:
                yield ""
                yield from _counterexample(answer.witness, result, "witness")
        case Refuted():
            yield from _reasons(result, answer.reason)
            if answer.counterexample is not None:
                yield ""
                yield from _counterexample(answer.counterexample, result, "counterexample")
        case Unknown():
            yield from _reasons(result, answer.reason)
            yield from (f"  not understood: {text}" for text in answer.opaque)
            yield from (f"  try {way}" for way in _ways_out(answer))
            if answer.candidate is not None:
                yield ""
                yield from _counterexample(answer.candidate, result, "candidate")
        case Vacuous():
            yield from _reasons(result, answer.reason)
    for note in getattr(answer, "notes", ()):
        yield f"{'warning' if note.startswith(('the exception', 'nothing leaves')) else 'note'}: {note}"
    yield from _assumed(answer.assumptions)


def _reasons(result: Result, reason: str) -> Iterator[str]:
    yield say_claim(result.claim)
    yield from (f"  {part}" for part in reason.split("; "))


def _ways_out(answer: Unknown) -> Iterator[str]:
    if "the solver gave up" in answer.reason:
        yield "a longer time: --timeout 60s"
    elif answer.opaque:
        yield "a claim about other packets (`except`), or about rules without this (`without rule`)"


def _scope(answer: Proved) -> str:
    if answer.witness is not None:
        return "shown by one packet"
    words = ["all packets"]
    if answer.hops:
        many = f"{answer.hops} hop{'' if answer.hops == 1 else 's'}"
        bound = f"{answer.bound} dial{'' if answer.bound == 1 else 's'}"
        words.append(
            f"settled within {many} (a state repeats after {bound} at most)" if answer.bound else many
        )
    if answer.samples:
        words.append(f"evaluator agreed on {answer.samples} packet{'' if answer.samples == 1 else 's'}")
    return " · ".join(words)


def _assumed(taken: Iterable[Assumption]) -> Iterator[str]:
    """The assumptions: those that are always put alike by their codes and a few words, the others in full."""
    known = [f"{a.code} {SHORT[a.code]}" for a in taken if a.code in SHORT]
    said = [" · ".join(known)] * bool(known) + [f"{a.code} {a.text}" for a in taken if a.code not in SHORT]
    for label, line in zip(["assumes", *[""] * len(said)], said, strict=False):
        yield f"{label:<{LABEL}}{line}"


# -- a packet and its journey -----------------------------------------------------------------------


def _counterexample(found: Counterexample, result: Result, word: str) -> Iterator[str]:
    setting = _setting(result, 0)
    journey = found.journey
    spoken = next(s for s in journey.stops if s.hop == found.hop)
    who = f"from outside on {spoken.packet.in_iface}"
    if spoken.process:
        who = f"from {spoken.process}{owner(spoken.packet)}"
    yield f"{word:<{LABEL}}{flow(spoken.packet)}  {who}"
    if found.hop:
        first = journey.stops[0]
        by = first.process or f"outside on {first.packet.in_iface}"
        yield f"{'reached by':<{LABEL}}{flow(first.packet)}  from {by}"
    if found.earlier is not None and journey.earlier is not None:
        yield from _earlier(found.earlier, journey.earlier, setting)
    if found.stands_for:
        which = "first packet" if found.hop else "packet of the claim"
        varied = [say_varies(varies, journey.stops[0].packet.family) for varies in found.stands_for]
        yield f"{'stands for':<{LABEL}}every {which} that is so but for {'; '.join(varied)}"
    miss = None
    alone = found.earlier is None
    if alone and isinstance(result.answer, Refuted) and isinstance(result.claim, PacketClaim):
        miss = near_miss(setting, result.claim, found)
    yield ""
    yield from _numbered(lines(journey, setting, miss))
    if found.other is not None:
        yield ""
        yield f"the same packet on {_name(result, 1)}"
        yield from _numbered(lines(found.other, _setting(result, 1)))
    yield ""
    label = "by chance"
    left = (
        [] if found.earlier is None else chances(journey.earlier or journey, found.earlier.choices, setting)
    )
    for line in (*left, *chances(journey, found.choices, setting)):
        yield f"{label:<{LABEL}}{line}"
        label = ""
    if miss is not None:
        said = f"{miss.table}/{miss.chain} rule {miss.rule} would have stopped it, had {miss.had}"
        yield f"{'why':<{LABEL}}{said}"
    if result.kernel is not None and word == "counterexample":
        yield f"{'kernel':<{LABEL}}{result.kernel}"
    if word != "candidate":
        again = [] if result.saved is None else [("here", shlex.join(["chainproof", "replay", result.saved]))]
        before = [] if journey.earlier is None else commands(journey.earlier, 0, setting.host)
        yield from _reproduced([*again, *before, *commands(journey, found.hop, setting.host)])


def _earlier(earlier: Earlier, journey: Journey, setting: Setting) -> Iterator[str]:
    """The packet that was sent before, and its way."""
    first = journey.stops[0]
    who = f"from outside on {first.packet.in_iface}"
    if first.process:
        who = f"from {first.process}{owner(first.packet)}"
    answered = ", and its answer" if earlier.answered or earlier.opens else ""
    waits = earlier.assured and (earlier.answered or (earlier.opens and earlier.packet.proto != TCP))
    late = ", two seconds before" if waits else ""
    yield f"{'after':<{LABEL}}{flow(first.packet)}  {who}{answered}{late}"
    yield ""
    yield from _numbered(lines(journey, setting))


def _reproduced(ways: Iterable[tuple[str, str]]) -> Iterator[str]:
    label = "reproduce"
    for where, command in ways:
        yield f"{label:<{LABEL}}{command}" + (f"   # {where}" if where != "here" else "")
        label = ""


def _setting(result: Result, index: int) -> Setting:
    settings = result.question.settings
    return settings[min(index, len(settings) - 1)][1]


def _name(result: Result, index: int) -> str:
    settings = result.question.settings
    return settings[min(index, len(settings) - 1)][0]


def _numbered(told: Sequence[Line]) -> Iterator[str]:
    wide = max(len(line.where) for line in told)
    ruled = max(len(line.rule) for line in told)
    placed = min(max((len(line.text) for line in told if line.place), default=0), WIDEST_RULE)
    number = 0
    for line in told:
        if line.where:
            number += 1
        mark = f"{number:>3}" if line.where else "   "
        said = f"{mark}  {line.where:<{wide}}  {line.rule:<{ruled}}  "
        yield f"{said}{line.text:<{placed}}  {line.place}" if line.place else f"{said}{line.text}".rstrip()
