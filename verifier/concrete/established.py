"""Connections that stand: what opening one has left in conntrack's table and among the sockets, and how a later packet of it, sent
by the end that opened it, finds that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from ..hosts import Listener, Process, Setting
from ..journeys import OF_A_CONNECTION, Act, Earlier, End, Group, Stop, Unmodelled
from ..packets import ASSURED, CT_FLAGS, SEEN_REPLY, Connection, Packet
from ..values import DCCP, GRE, ICMP, ICMPV6, SCTP, TCP, UDP, UDPLITE, CtState, Family, TcpFlag
from . import answers, entries
from .conntrack import is_on
from .entries import Entry
from .routing import Roads

WHETHER_IT_STANDS = "whether the connection is answered"
TAKEN_UP = "a connection that conntrack takes up behind its beginning"
SEEN_LATER = "whether conntrack sees a later answer"
NOT_FOUND = "an answer to what conntrack has not found in its connection"

LATER = frozenset(
    int(flags)
    for flags in (
        TcpFlag.ACK,
        TcpFlag.ACK | TcpFlag.URG,
        TcpFlag.FIN | TcpFlag.ACK,
        TcpFlag.FIN | TcpFlag.ACK | TcpFlag.URG,
        TcpFlag.RST,
        TcpFlag.RST | TcpFlag.ACK,
    )
)
"""The flags of later packets, without ECE, CWR and PSH (net/netfilter/nf_conntrack_proto_tcp.c: tcp_valid_flags)."""

AT_ONCE = (UDPLITE, GRE)
"""Of these a connection is assured by the first packet behind the answer, and of UDP by what comes two seconds after it began
(net/netfilter/nf_conntrack_proto_udp.c, nf_conntrack_proto_gre.c; observed)."""


class Accepted(Struct, frozen=True):
    """The socket that has the connection here: by which listener it came to be, and the packet with which."""

    process: Process
    listener: Listener
    packet: Packet
    device: str | None
    """The interface by which alone it gets packets, if there is one."""


class Opened(Struct, frozen=True):
    """What the first packet of a connection, and the answer to it, have left."""

    stands: bool | None
    """Whether the answer has come back to who sent that packet; None where nobody knows."""
    tracked: bool
    """Whether conntrack is on."""
    entry: Entry | None
    """What conntrack knows of it; `answered` iff it has seen the answer."""
    accepted: Accepted | None
    assured: bool
    """Whether it is two seconds old besides, or its handshake is over."""


def opened(
    setting: Setting,
    road: Roads,
    earlier: Earlier,
    stops: Sequence[Stop],
    end: End,
    ends: Mapping[int, End],
    last: Packet | None,
    replied: Connection | None,
) -> Opened:
    """What has been left after these stops of the earlier packet, which has come to somebody as `last` if at all, and of the answer
    to it, which conntrack has found in `replied`; `ends` has how that ended."""
    back = [stop for stop in stops if stop.hop == -1]
    tracked = is_on(setting.rules) is True
    entry: Entry | None = None
    if 0 not in ends:
        stands = None if isinstance(end, Group | Unmodelled) else False
    else:
        stands = answers.came_back(stops[0].packet, back[-1].packet, ends[0]) if back else None
        if tracked and last is not None and last.connection is not None:
            entry = _entry(setting, stops, last.connection, replied)
    return Opened(stands, tracked, entry, _accepted(setting, road, stops), earlier.assured)


def _entry(setting: Setting, stops: Sequence[Stop], last: Connection, replied: Connection | None) -> Entry:
    back = [stop for stop in stops if stop.hop == -1]
    answered = replied is not None
    its = last
    if replied is not None:
        # Rules may have changed its mark since.
        its = replace(back[-1].packet.connection or replied, is_reply=False)
    zone = answers.zone_of(setting, stops, 0, stops[0].packet.in_iface is not None)
    return Entry(its, zone, entries.masquerades(setting, stops), in_doubt=False, answered=answered)


def _accepted(setting: Setting, road: Roads, stops: Sequence[Stop]) -> Accepted | None:
    for stop in stops:
        if stop.hop == 0 and stop.act is Act.DELIVERED:
            assert stop.process is not None, "a socket got it"
            assert stop.listener is not None, "a socket got it"
            device = answers.device_of(road, stop.listener, stop.packet)
            return Accepted(setting.host.process(stop.process), stop.listener, stop.packet, device)
    return None


def is_later(packet: Packet) -> bool:
    """True iff a later packet of some connection may have this header: of TCP one from behind the handshake, of ICMP a request."""
    if packet.proto == TCP:
        return packet.flags & CT_FLAGS in LATER
    if packet.proto == (ICMP if packet.family is Family.IPV4 else ICMPV6):
        return packet.icmp_type in (answers.REPLIES if packet.family is Family.IPV4 else answers.REPLIES_6)
    return packet.proto not in (SCTP, DCCP)


def is_of(packet: Packet, earlier: Earlier) -> bool:
    """True iff the packet may be a later one of the connection that the earlier one opens, from the same sender."""
    return is_later(packet) and all(
        getattr(packet, name) == getattr(earlier.packet, name) for name in OF_A_CONNECTION
    )


def found(its: Opened, packet: Packet, zone: tuple[int, int] | None) -> Packet | str:
    """The packet with what conntrack, which has seen it behind raw, knows of it; a reason where nobody knows.

    TCP from whose connection conntrack has seen no answer is out of order (net/netfilter/nf_conntrack_proto_tcp.c: tcp_conntracks,
    SYN_SENT; observed for ACK, FIN and RST alike).  What is not in the entry of its connection might be in one that some other
    packet of it has begun.
    """
    if not its.tracked:
        return entries.begins(packet)
    known = None if its.entry is None else entries.find(its.entry, packet, zone)
    if its.entry is None or known is None:
        return TAKEN_UP
    if isinstance(known, str):
        return known
    if its.entry.answered:
        return replace(packet, ctstate=CtState.ESTABLISHED, connection=_aged(known, packet, its.assured))
    return replace(packet, ctstate=CtState.INVALID) if packet.proto == TCP else SEEN_LATER


def _aged(known: Connection, packet: Packet, assured: bool) -> Connection:
    """The connection as this packet finds it: an ACK ends the handshake of TCP, where it has not ended before
    (net/netfilter/nf_conntrack_proto_tcp.c: nf_conntrack_tcp_packet)."""
    if packet.proto == TCP:
        assured = assured or not packet.flags & (TcpFlag.RST | TcpFlag.FIN)
    else:
        assured = packet.proto in AT_ONCE or (assured and packet.proto == UDP)
    return replace(known, status=known.status | SEEN_REPLY | (ASSURED if assured else 0))


def socket_of(
    accepted: Accepted | None, packet: Packet, device: str | None
) -> tuple[Process, Listener] | None:
    """The socket that has the packet's connection, where it comes by this device (net/ipv4/inet_hashtables.c:
    __inet_lookup_established); None if there is none."""
    if accepted is None or packet.proto != TCP:
        return None
    its = accepted.packet
    there = (its.src, its.dst, its.sport, its.dport)
    if there != (packet.src, packet.dst, packet.sport, packet.dport) or accepted.device not in (None, device):
        return None
    return accepted.process, accepted.listener
