"""A packet, what answers it, a later packet of its connection, and what answers that: as shots, each behind those before it, and as
the concrete wing tells them."""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import Enum

from msgspec import Struct
from msgspec.structs import replace

from ..asked import fields_carried
from ..concrete.claims import of_answer
from ..concrete.established import is_of
from ..concrete.fields import fit
from ..concrete.travel import as_sent, can_send
from ..hosts import Setting
from ..journeys import (
    OF_A_CONNECTION,
    Choices,
    Earlier,
    FromOutside,
    FromProcess,
    Journey,
    Rejected,
    answer_to,
)
from ..kernel.oracle import Shot, answer_shot, finds_sockets
from ..packets import Packet
from ..values import TCP, TcpFlag

Travel = Callable[..., Journey]
Sender = FromOutside | FromProcess

ACK = int(TcpFlag.ACK)
LATER_FLAGS = (ACK, ACK, ACK | TcpFlag.PSH, ACK | TcpFlag.FIN, int(TcpFlag.RST), ACK | TcpFlag.RST)


class Stage(Enum):
    """Which of a conversation's packets."""

    FIRST = "a packet"
    ANSWER = "the answer to a packet"
    REJECTION = "what REJECT sends back for a packet"
    LATER = "a later packet of a connection"
    LAST = "the answer to a later packet of a connection"

    @property
    def answers(self) -> bool:
        return self in (Stage.ANSWER, Stage.REJECTION, Stage.LAST)


class Conversation(Struct, frozen=True):
    """What both ends say: `later` is what the header of a later packet is like, where one is sent, and `flags` are those of what
    answers that, if it is TCP."""

    sender: Sender
    packet: Packet
    later: Packet | None = None
    flags: int = ACK

    @property
    def earlier(self) -> Earlier:
        return Earlier(self.sender, self.packet, opens=True)

    def tell(self, setting: Setting, stage: Stage, choices: Choices, tell: Travel) -> Journey:
        """The journey of this packet, told with these choices of its own."""
        if stage.answers:
            of = answer_to(0)
            choices = Choices(
                opaque={replace(e, hop=of): truth for e, truth in choices.opaque.items()},
                translated={replace(e, hop=of): values for e, values in choices.translated.items()},
                drawn={of: {"flags": self.flags}} if stage is Stage.LAST else {},
            )
        if stage in (Stage.FIRST, Stage.ANSWER, Stage.REJECTION):
            journey = tell(setting, self.sender, self.packet, choices)
        else:
            journey = tell(setting, self.sender, self.later, choices, earlier=self.earlier)
        if not stage.answers:
            return journey
        answer = of_answer(journey, 0)
        assert answer is not None, "it had an answer before"
        return answer

    def shots(self, setting: Setting, tell: Travel) -> list[tuple[Stage, Shot]]:
        """What can be sent of it, in order, where nothing is left to choose; or where the setting tells of rejections the packet, and
        what is sent back for it, perhaps nothing."""
        exact = "length" in fields_carried(setting)
        if setting.rejections:
            return self._with_rejection(setting, tell, exact)
        out = [(Stage.FIRST, Shot(self.sender, self.packet, exact))]
        answer = of_answer(tell(setting, self.sender, self.packet, Choices()), 0)
        shot = None if answer is None else answer_shot(answer, exact)
        if shot is None:
            return out
        out.append((Stage.ANSWER, shot))
        if self.later is None:
            return out
        chosen = Choices(drawn={answer_to(0): {"flags": self.flags}})
        told = tell(setting, self.sender, self.later, chosen, earlier=self.earlier)
        if not told.behind:
            return out
        out.append((Stage.LATER, Shot(self.sender, self.later, exact, answer=True, opened=2)))
        answer = of_answer(told, 0)
        shot = None if answer is None else answer_shot(answer, exact)
        return out if shot is None else [*out, (Stage.LAST, replace(shot, opened=3))]

    def _with_rejection(self, setting: Setting, tell: Travel, exact: bool) -> list[tuple[Stage, Shot]]:
        first = Shot(self.sender, self.packet, exact)
        journey = tell(setting, self.sender, self.packet, Choices())
        back = of_answer(journey, 0)
        told = back is None or bool(back.stops)
        if not told or not isinstance(journey.end, Rejected) or journey.last_hop:
            return [(Stage.FIRST, first)]
        return [
            (Stage.FIRST, replace(first, rejected=True)),
            (Stage.REJECTION, replace(first, answer=True, rejection=True)),
        ]

    def is_silent(self, setting: Setting, tell: Travel) -> bool:
        """Nothing is sent back for the packet."""
        return of_answer(tell(setting, self.sender, self.packet, Choices()), 0) is None


def conversation(
    setting: Setting, sender: Sender, packet: Packet, own: Packet, draw: random.Random
) -> Conversation:
    """One that this packet opens, with a later one that has the rest of its header from `own`."""
    flags = draw.choice(LATER_FLAGS)
    later = continued(setting, sender, packet, replace(own, flags=draw.choice(LATER_FLAGS)))
    return Conversation(sender, packet, later, flags)


def continued(setting: Setting, sender: Sender, packet: Packet, own: Packet) -> Packet | None:
    """A later packet of the connection that the packet opens; None where its sender sends none, or nobody here has its socket."""
    tcp = packet.proto == TCP
    if tcp and finds_sockets(setting.rules):
        return None
    its = {name: getattr(packet, name) for name in OF_A_CONNECTION}
    keeps = (
        "tcp_options",
        "spi",
        "extensions",
        "dccp_type",
        "dccp_options",
        "sctp_chunks",
        "sctp_flags",
        "groups",
    )
    its |= {name: getattr(packet, name) for name in keeps}
    later = as_sent(setting, sender, replace(own, **its, flags=own.flags if tcp else 0))
    if not is_of(later, Earlier(sender, packet)):
        return None
    outside = isinstance(sender, FromOutside)
    raw = isinstance(sender, FromProcess) and setting.host.process(sender.process).raw
    if not fit(later, fields_carried(setting), outside=outside, raw=raw):
        return None
    return later if isinstance(sender, FromOutside) or can_send(setting, sender.process, later) else None
