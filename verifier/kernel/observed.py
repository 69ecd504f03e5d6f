"""What was seen of a journey on the real kernel, as frozen data that compares equal to what a wing tells.

Endpoints are text, `10.33.4.7:8080` or `[2001:db8::7]:8080`.  Where the kernel says more than a wing can know (an errno), the
field does not take part in comparisons.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from msgspec import Struct

from ..values import IPV4, Family, bracketed, read_address
from .iptables import Hit

Endpoint: TypeAlias = str


def endpoint(address: int, port: int, family: Family = IPV4) -> Endpoint:
    return f"{bracketed(address, family)}:{port}"


def ends_of(end: Endpoint) -> tuple[int, int]:
    """The address and the port of an endpoint."""
    text, _, port = end.rpartition(":")
    family = Family.IPV6 if text.startswith("[") else IPV4
    return read_address(text.strip("[]"), family), int(port)


class Accepted(Struct, frozen=True):
    """A process accepted a connection, or got a datagram: its own end, the client's as getpeername tells it, and the
    original destination (SO_ORIGINAL_DST, or without conntrack, and of a datagram, its own end).
    """

    process: str
    own: Endpoint
    client: Endpoint
    original: Endpoint


class Dialled(Struct, frozen=True):
    """A proxy connects: the source as getsockname tells it (None where connect() failed at once), and where to."""

    process: str
    source: Endpoint | None
    destination: Endpoint


class Reached(Struct, frozen=True):
    """The end: this process has the connection and makes nothing more of it; `why` where a proxy does not dial."""

    process: str
    why: str | None = None


class Refused(Struct, frozen=True):
    """The end: the sender is told no, by a reset or by ICMP port-unreachable."""


@dataclass(frozen=True, slots=True)
class CannotSend:
    """The end: bind() or connect() failed at once."""

    errno: str = field(default="", compare=False)


class Left(Struct, frozen=True):
    """The end: a SYN or a datagram left the pod by this interface."""

    interface: str
    source: Endpoint
    destination: Endpoint


class Silence(Struct, frozen=True):
    """The end: nothing more happens; the packet was dropped or lost."""


class Loop(Struct, frozen=True):
    """The end: the proxy state is the one that hop `back_to` was dialled from."""

    back_to: int


class Onward(Struct, frozen=True):
    """The end: the bound on hops is reached, and no proxy state was seen twice."""


End: TypeAlias = Reached | Refused | CannotSend | Left | Silence | Loop | Onward
Event: TypeAlias = Accepted | Dialled | End


class Observed(Struct, frozen=True):
    """Events in order; the last one is the end.  `hits` are the rules whose counters rose, where asked for."""

    events: tuple[Event, ...]
    hits: frozenset[Hit] | None = None

    @property
    def end(self) -> Event:
        return self.events[-1]
