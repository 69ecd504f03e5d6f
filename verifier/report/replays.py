"""What the kernel did beside what was told, as text for people and as JSON values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..confirm.levels import Confirmation, Level, Name, Row, Verdict, together
from ..counterexamples.record import Record
from ..journeys import Act, Earlier, FromOutside, answer_to
from ..wording import flow
from .text import Paint, plain

SCHEMA = "chainproof/replay/1"

WIDEST = 78
"""What is told is given so many columns at most."""

COLOURS = {Verdict.CONFIRMED: "green", Verdict.CONTRADICTED: "red", Verdict.NOT_RUN: "yellow"}
SIGNS = {Verdict.CONFIRMED: "✓", Verdict.CONTRADICTED: "✗", Verdict.NOT_RUN: "∅"}


def head(record: Record) -> str:
    """What is replayed."""
    on = " and ".join(a.setting.host.name for a in record.accounts)
    return f"{record.kind.value} of {record.name} on {on}   {record.claim}   {record.place}"


def text(record: Record, found: Confirmation, number: int, paint: Paint = plain) -> str:
    """One confirmation, of the record's account with this number: each level with both paths, as far as they go together."""
    title = f"on {found.host} · {found.kernel} · {found.iptables}"
    return "\n".join(["", title, *(line for x in found.levels for line in _level(record, x, number, paint))])


def closing(found: Sequence[Confirmation], paint: Paint = plain) -> str:
    """`confirmed by the kernel, through legacy and nft`"""
    verdict = together(x.verdict for x in found)
    through = " and ".join(dict.fromkeys(x.backend for x in found if x.verdict is verdict))
    words = {
        Verdict.CONFIRMED: "confirmed by the kernel",
        Verdict.CONTRADICTED: "not confirmed by the kernel",
        Verdict.NOT_RUN: "not run",
    }
    return "\n" + paint(f"{SIGNS[verdict]} {words[verdict]}", COLOURS[verdict]) + f", through {through}"


def of_replay(record: Record, file: str, found: Sequence[Confirmation], seconds: float) -> dict[str, Any]:
    """`chainproof replay --output-format json`"""
    return {
        "schema": SCHEMA,
        "file": file,
        "kind": record.kind.value,
        "name": record.name,
        "place": record.place,
        "claim": record.claim,
        "verdict": together(x.verdict for x in found).value,
        "runs": [of_confirmation(x) for x in found],
        "seconds": round(seconds, 6),
    }


def of_confirmation(found: Confirmation) -> dict[str, Any]:
    return {
        "host": found.host,
        "backend": found.backend,
        "kernel": found.kernel,
        "iptables": found.iptables,
        "verdict": found.verdict.value,
        "levels": [_of_level(level) for level in found.levels],
    }


def _of_level(level: Level) -> dict[str, Any]:
    return {
        "level": level.name.value,
        "hop": level.hop,
        "verdict": level.verdict.value,
        "text": level.text or None,
        "stops": [{"told": row.told or None, "kernel": row.kernel or None} for row in level.rows],
        "first-difference": level.first,
    }


def _level(record: Record, level: Level, number: int, paint: Paint) -> Iterator[str]:
    said = paint(f"{SIGNS[level.verdict]} {level.verdict.value}", COLOURS[level.verdict])
    journey = record.accounts[number].journey
    hop = answer_to(level.hop) if level.name in (Name.ANSWER, Name.REJECTION) else level.hop
    sent = next(s for s in journey.stops if s.act is Act.SENT and s.hop == hop)
    what = {
        Name.PACKET: "this very packet",
        Name.ANSWER: "what comes back",
        Name.REJECTION: "what REJECT sends back",
        Name.SOCKET: f"a socket of {sent.process}",
        Name.FLOW: "the connection, and what proxies make of it",
    }[level.name]
    yield ""
    yield f"{level.name.value:<7} {said}   {what}: {flow(sent.packet)}"
    if record.earlier is not None:
        told = record.earlier.answered or record.earlier.opens
        answered = ", and its answer" if told else ""
        yield f"        right behind {flow(record.earlier.packet)} from {_sender(record.earlier)}{answered}"
    if level.text:
        yield f"        {level.text}"
    shown = level.rows if level.first is None else level.rows[: level.first + 1]
    yield from _side_by_side(shown, level.first, paint)


def _sender(earlier: Earlier) -> str:
    sender = earlier.sender
    return f"outside on {sender.interface}" if isinstance(sender, FromOutside) else sender.process


def _side_by_side(rows: Sequence[Row], first: int | None, paint: Paint) -> Iterator[str]:
    """Both paths up to the first stop that differs; on one line each, where the longest allows it."""
    if not rows:
        return
    wide = max(len(row.told) for row in rows)
    if wide > WIDEST:
        for n, row in enumerate(rows):
            if row.told == row.kernel:
                yield f"{n + 1:>5}  both    {row.told}"
                continue
            yield f"{n + 1:>5}  told    {row.told or '-'}"
            yield f"       kernel  {_marked(row.kernel, n == first, paint)}"
        return
    yield f"{'':>7}{'told':<{wide}}   kernel"
    for n, row in enumerate(rows):
        yield f"{n + 1:>5}  {row.told or '-':<{wide}}   {_marked(row.kernel, n == first, paint)}"


def _marked(kernel: str, differs: bool, paint: Paint) -> str:
    return paint(f"{kernel or '-'}   ← differs", "red") if differs else kernel or "-"
