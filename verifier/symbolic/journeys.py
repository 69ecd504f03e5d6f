"""All journeys at once: every stop and every end that some packet comes to, with the packets that do."""

from __future__ import annotations

from msgspec import Struct, field

from ..hooks import Hook
from ..hosts import Listener
from ..journeys import Act, End, Evaluation
from ..rules import Match, Target
from .packets import SymPacket
from .terms import Bool, Bv


class SymStop(Struct, frozen=True):
    """A `Stop` that the packets in `cond` make; `packet` is theirs afterwards."""

    cond: Bool
    hop: int
    act: Act
    packet: SymPacket
    hook: Hook | None = None
    table: str | None = None
    chain: str | None = None
    rule: int | None = None
    where: str | None = None
    process: str | None = None
    listener: Listener | None = None


class SymEnd(Struct, frozen=True):
    """An `End` that the packets in `cond` come to at hop `hop`; `packet` is theirs as last seen."""

    cond: Bool
    hop: int
    end: End
    packet: SymPacket


class SymAsked(Struct, frozen=True):
    """A choice that is made for the packets in `cond` about `packet`: `matches` and `drops` are its fresh answer."""

    cond: Bool
    evaluation: Evaluation
    match: Match
    packet: SymPacket
    matches: Bool
    drops: Bool


class SymDraw(Struct, frozen=True):
    """What a NAT target with a choice gives the packets in `cond`, of `packet`: fresh variables, where it chooses at all."""

    cond: Bool
    evaluation: Evaluation
    target: Target
    packet: SymPacket
    address: Bv | None
    port: Bv | None


class SymAnswer(Struct, frozen=True):
    """What is sent back, as `packet`, for the packets of an earlier hop that are in `cond`: by a process, or (None) by this
    host's kernel or, `from_wire`, by the machine that they went to.  Where it is not `drawn` nothing of it is left open.
    """

    cond: Bool
    hop: int
    packet: SymPacket
    process: str | None = None
    from_wire: bool = False
    later: bool = False
    """To a later packet of a connection."""
    drawn: bool = True


class SymState(Struct, frozen=True):
    """The proxy state that a hop is dialled from: an index into `Road.proxies`, the original destination, and
    the client's source, which is 0 unless the proxy keeps it.
    """

    proxy: Bv
    address: Bv
    port: Bv
    client: Bv


class Record(Struct):
    """Where the parts of `travel` write down what they find, in the order in which it happens.

    `prefix` tells the answers of its opaque matches from those of other journeys.
    """

    stops: list[SymStop] = field(default_factory=list)
    ends: list[SymEnd] = field(default_factory=list)
    answered: list[SymEnd] = field(default_factory=list)
    """The ends of answers, which are none of the hops'."""
    asked: list[SymAsked] = field(default_factory=list)
    draws: list[SymDraw] = field(default_factory=list)
    facts: list[Bool] = field(default_factory=list)
    """What holds of the draws."""
    prefix: str = ""
    behind: list[Bool] = field(default_factory=list)
    """Packets that conntrack finds in the entry that an earlier one has left, or of which nobody knows that it does not."""
    doubts: list[tuple[Bool, str]] = field(default_factory=list)
    """Packets of which something is taken to be so that may not be, and what."""

    def stop(self, stop: SymStop) -> None:
        if stop.cond.const is not False:
            self.stops.append(stop)

    def end(self, cond: Bool, hop: int, end: End, packet: SymPacket) -> None:
        if cond.const is not False:
            (self.ends if hop >= 0 else self.answered).append(SymEnd(cond, hop, end, packet))
