"""What happens to a connection or a datagram, told and seen: side by side, and in words."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import assert_never

from ..kernel import observed as o
from ..kernel.observed import Accepted, CannotSend, Dialled, Endpoint, Event, Left, Reached, Refused, Silence
from .levels import Level, Name, Verdict, rows_of


def beside(name: Name, expected: Sequence[Event], events: Sequence[Event]) -> Level:
    """What was told to happen beside what happened; equal, or with the first event that is not."""
    rows = rows_of(map(say_event, expected), map(say_event, events))
    if tuple(expected) == tuple(events):
        return Level(name, 0, Verdict.CONFIRMED, "", rows)
    pairs = enumerate(zip(expected, events, strict=False))
    first = next((n for n, (a, b) in pairs if a != b), min(len(expected), len(events)))
    said = f"the kernel: {rows[first].kernel or 'nothing more'}, told: {rows[first].told or 'nothing more'}"
    return Level(name, 0, Verdict.CONTRADICTED, said, rows, first)


def unanswered(level: Level, expected: Sequence[Event], events: Sequence[Event]) -> bool:
    """Where they part a connection ought to be accepted or refused, and the one who began it hears nothing."""
    first = level.first
    if first is None or first >= min(len(expected), len(events)):
        return False
    return isinstance(expected[first], Accepted | Refused) and isinstance(events[first], Silence)


def answered_elsewhere(expected: Sequence[Event], events: Sequence[Event], client: Endpoint) -> bool:
    """A connection ought to be accepted under another source than its client has, and is reset: the answer may go to another."""
    match expected[0], events[0]:
        case Accepted(client=its), Refused():
            return its != client
        case _:
            return False


def say_event(event: Event) -> str:
    """What happened, or is told to happen, to a connection."""
    match event:
        case Accepted(process, own, client, original):
            return f"{process} accepts on {own} from {client}, original destination {original}"
        case Dialled(process, source, destination):
            return f"{process} connects to {destination} from {source or 'no source'}"
        case Reached(process, why):
            return f"{process} has it" + (f" and does not dial: {why}" if why else "")
        case Refused():
            return "refused"
        case CannotSend(code):
            return "cannot be sent" + (f": {say_errno(code)}" if code else "")
        case Left(interface, source, destination):
            return f"leaves by {interface}, {source} → {destination}"
        case Silence():
            return "nothing more: dropped or lost"
        case o.Loop(back_to):
            return f"loops: again as hop {back_to}"
        case o.Onward():
            return "still on its way"
        case _:
            assert_never(event)


def say_errno(name: str) -> str:
    return f"{os.strerror(getattr(errno, name))} ({name})" if hasattr(errno, name) else name
