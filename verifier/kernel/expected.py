"""What a wing tells, in the words of what the kernel was seen to do: `told(journey)` and `observed.events` compare equal."""

from __future__ import annotations

from collections.abc import Iterator

from ..journeys import (
    CANNOT_SEND,
    Act,
    Dropped,
    FromOutside,
    FromProcess,
    FromProxy,
    Group,
    Journey,
    Kernel,
    Left,
    Loop,
    Lost,
    Onward,
    Refused,
    Rejected,
    Returned,
    Sender,
    Socket,
    Unmodelled,
)
from ..packets import Packet
from ..values import TCP, UDP, TcpFlag
from . import observed
from .iptables import Hit
from .observed import Accepted, Dialled, End, Event, endpoint
from .stimuli import Connect, Frame, Stimulus


def told(journey: Journey) -> tuple[Event, ...]:
    """The events of a journey of TCP SYNs or of a datagram; raises ValueError where it ends in a way that nothing can be seen of."""
    return (*_events(journey), _end(journey))


def matched(journey: Journey, table: str = "nat") -> frozenset[Hit]:
    """The rules of a table that some hop's packet took."""
    return frozenset(
        (s.table, s.chain or "", s.rule or 0)
        for s in journey.stops
        if s.act is Act.MATCHED and s.table == table and s.hop >= 0
    )


def stimulus(sender: Sender, packet: Packet, groups: tuple[int, ...] = ()) -> Stimulus:
    """The first packet of a journey, as something that can be sent: a SYN or a datagram, from outside or of a process with these
    supplementary groups."""
    if packet.proto != UDP and (packet.proto != TCP or packet.flags != TcpFlag.SYN):
        raise ValueError("only a SYN or a datagram is sent by the pod")
    match sender:
        case FromOutside(interface):
            ends = packet.src, packet.dst, packet.dport, packet.sport
            return Frame(interface, *ends, packet.proto, packet.family)
        case FromProcess():
            if packet.uid is None or packet.gid is None:
                raise ValueError("a process's packet has a uid and a gid")
            return Connect(
                packet.uid,
                packet.gid,
                packet.dst,
                packet.dport,
                packet.src,
                packet.sport,
                packet.device,
                packet.mark,
                groups=groups,
                protocol=packet.proto,
                family=packet.family,
            )
        case FromProxy():
            raise ValueError("a proxy dials for a connection that it accepted")


def _events(journey: Journey) -> Iterator[Event]:
    original = ""
    unsent = journey.stops[-1] if journey.end == Lost(CANNOT_SEND) else None
    for stop in journey.stops:
        p = stop.packet
        if stop.hop < 0:
            continue
        if stop.act is Act.SENT:
            original = endpoint(p.dst, p.dport, p.family)
            if stop.hop:
                source = None if stop is unsent else endpoint(p.src, p.sport, p.family)
                yield Dialled(stop.process or "", source, original)
        elif stop.act is Act.DELIVERED:
            own, client = endpoint(p.dst, p.dport, p.family), endpoint(p.src, p.sport, p.family)
            # A datagram's socket cannot ask for it (net/netfilter/nf_conntrack_proto.c: getorigdst).
            yield Accepted(stop.process or "", own, client, original if p.proto == TCP else own)


def _end(journey: Journey) -> End:
    match journey.end:
        case Socket(process, _, why):
            return observed.Reached(process, why)
        case Refused() | Rejected():
            return observed.Refused()
        case Lost(reason):
            return observed.CannotSend() if reason == CANNOT_SEND else observed.Silence()
        case Dropped():
            return observed.Silence()
        case Left(interface):
            p = journey.final
            ends = endpoint(p.src, p.sport, p.family), endpoint(p.dst, p.dport, p.family)
            return observed.Left(interface, *ends)
        case Loop(back_to):
            return observed.Loop(back_to)
        case Onward():
            return observed.Onward()
        case Kernel() | Group() | Unmodelled() | Returned():
            raise ValueError(f"nothing can be seen of {journey.end}")
