"""A journey beside what the kernel did, at one of three levels, as frozen data."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from itertools import zip_longest

from msgspec import Struct

from ..kernel.iptables import BackendName


class Verdict(Enum):
    """What the kernel says of what was told."""

    CONFIRMED = "confirmed"
    CONTRADICTED = "not confirmed"
    NOT_RUN = "not run"


class Name(Enum):
    PACKET = "packet"
    """This very header, written by hand, and every rule that it takes."""
    ANSWER = "answer"
    """What comes back for this very header: sent by hand too, right behind it."""
    REJECTION = "rejection"
    """What a REJECT sends back for this very header."""
    SOCKET = "socket"
    """A socket of this owner, source, mark and device, that connects."""
    FLOW = "flow"
    """The connection with all that the host's proxies make of it, with stand-ins that dial as they are declared to."""


class Row(Struct, frozen=True):
    """What is told, and what the kernel did, at one stop; empty where there is no such stop."""

    told: str
    kernel: str


class Level(Struct, frozen=True):
    """One hop (of a flow the first of all) at one level.  `text` says why it was not run, or what differs; `first` is the
    index of the first row that does.
    """

    name: Name
    hop: int
    verdict: Verdict
    text: str = ""
    rows: tuple[Row, ...] = ()
    first: int | None = None


class Confirmation(Struct, frozen=True):
    """All levels of one journey, on one host through one backend."""

    host: str
    backend: BackendName
    kernel: str
    iptables: str
    levels: tuple[Level, ...]

    @property
    def verdict(self) -> Verdict:
        return together(level.verdict for level in self.levels)


def together(verdicts: Iterable[Verdict]) -> Verdict:
    """One that contradicts is enough, and so is one that confirms where none contradicts."""
    found = set(verdicts)
    for verdict in (Verdict.CONTRADICTED, Verdict.CONFIRMED):
        if verdict in found:
            return verdict
    return Verdict.NOT_RUN


def rows_of(told: Iterable[str], kernel: Iterable[str]) -> tuple[Row, ...]:
    return tuple(Row(a, b) for a, b in zip_longest(told, kernel, fillvalue=""))
