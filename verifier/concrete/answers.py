"""What comes back: the answer to a hop's packet, who sends it, and what conntrack makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from .. import rules as r
from ..hooks import Hook
from ..hosts import Listener, Setting
from ..journeys import End, Group, Left, Returned, Stop, Unmodelled
from ..packets import DST_NAT, SEEN_REPLY, SRC_NAT, Connection, Packet
from ..values import DCCP, ICMP, ICMPV6, IPV4, PORT_PROTOCOLS, SCTP, TCP, UDP, Family, PacketKind, TcpFlag
from . import fields, keys, routing, routing6, ways
from .behind import targets_met
from .routing import Roads

OF_THIS_PROTOCOL = "an answer of this protocol"
TO_NOBODY = "an answer to no address"
A_MARKS_ZONE = "a zone that the mark names"
ITS_OWN_QUESTION = "an answer that is its own question"
ITS_OWN_CONNECTION = "an answer that begins a connection beside that of its question"
PAST_THIS_HOST = "an answer that goes past this host"
LOOKED_FOR_AGAIN = "an answer that conntrack looks for again over lo"
THE_KERNELS_SOCKET = "the kernel's own socket"


REPLIES: Mapping[int, int] = {8: 0, 13: 14, 15: 16, 17: 18}
"""ICMP requests, and what answers them; Linux itself answers the first two (net/ipv4/icmp.c: icmp_pointers)."""

REPLIES_6: Mapping[int, int] = {128: 129, 139: 140}
"""The same of ICMPv6, where Linux answers the first (net/ipv6/icmp.c: icmpv6_rcv)."""

BY_LINUX = (8, 13, 128)


class Answering(Struct, frozen=True):
    """What an answer depends on: the packet that it answers, as it was sent, and what conntrack knew of it in the end."""

    to: Packet
    sender: str | None
    """The process that sent it; None of a frame."""
    known: Connection | None
    zone: tuple[int, int] | None
    """That of its connection, in both directions; None where its mark names it."""
    later: bool = False
    """Whether what is answered is not the first packet of its connection."""


# -- what is answered -----------------------------------------------------------------------------


def swapped(packet: Packet, *, here: bool, later: int | None = None) -> Packet | str | None:
    """The header of the answer to a packet, which has come to somebody (`here`: on this host); None where it has none, and
    a reason where nobody knows; a machine that is sent its own address as the source takes it for a martian.  `later` are the TCP
    flags of an answer to a later packet of its connection."""
    if not here and packet.src == packet.dst:
        return None
    back = Packet(
        packet.dst,
        packet.src,
        packet.proto,
        sport=packet.dport,
        dport=packet.sport,
        family=packet.family,
    )
    icmp, replies = (ICMP, REPLIES) if packet.family is IPV4 else (ICMPV6, REPLIES_6)
    if packet.proto == TCP and later is not None:
        return None if packet.flags & TcpFlag.RST else replace(back, flags=later)
    if packet.proto == TCP:
        opens = packet.flags & _HANDSHAKE == TcpFlag.SYN
        return replace(back, flags=TcpFlag.SYN | TcpFlag.ACK) if opens else None
    if packet.proto == icmp:
        if packet.icmp_type not in replies or (here and packet.icmp_type not in BY_LINUX):
            return None
        return replace(back, icmp_type=replies[packet.icmp_type])
    if packet.proto in (SCTP, DCCP):
        return None if here else OF_THIS_PROTOCOL
    return back if packet.proto == UDP or not here else None


_HANDSHAKE = TcpFlag.SYN | TcpFlag.ACK | TcpFlag.RST | TcpFlag.FIN


def with_drawn(packet: Packet, drawn: Mapping[str, int], carried: frozenset[str], *, outside: bool) -> Packet:
    """The answer with the fields that are carried, as they were drawn."""
    names = ["ttl", "tos", "length"]
    names += ["tcp_options"] * (packet.proto == TCP) + ["spi"] * (packet.proto in (50, 51))
    given = {name: drawn[name] for name in names if name in carried and name in drawn}
    if outside and "mac" in carried:
        given["mac"] = drawn.get("mac", 0)
    if packet.family is Family.IPV6 and "extensions" in carried:
        given["extensions"] = fields.last_header(packet)
    return replace(packet, **given, kind=PacketKind.UNICAST)


def goes_past(road: Roads, packet: Packet, interface: str) -> bool:
    """True iff what has left by the interface is between two machines in its subnets, which need no host between them: what the
    one answers goes to the other past this one."""
    nets = [a.net for i in road.host.interfaces if i.name == interface for a in i.addresses]

    def is_near(address: int) -> bool:
        return any(address & net.mask == net.address for net in nets)

    return is_near(packet.src) and is_near(packet.dst) and packet.src not in road.owners


# -- who sends it ---------------------------------------------------------------------------------


def device_of(road: Roads, listener: Listener | None, delivered: Packet) -> str | None:
    """The interface by which the answer of a socket, or of the kernel (no listener), has to go, if there is one."""
    if listener is not None and listener.device is not None:
        return listener.device
    if road.host.family is IPV4:
        return None
    # (net/ipv6/tcp_ipv6.c: tcp_v6_conn_request; net/ipv6/icmp.c: icmpv6_echo_reply, net/ipv6/route.c: ip6_route_output_flags)
    return ways.came_by(road, delivered) if routing6.is_link_local(delivered.src) else None


def asked_by(road: Roads, listener: Listener | None, delivered: Packet) -> str | None:
    """The interface that routing rules are asked for where the answer need not go by it: of the kernel's own that by which the
    question came (net/ipv6/icmp.c: icmpv6_echo_reply)."""
    return ways.came_by(road, delivered) if listener is None and road.host.family is not IPV4 else None


def way_back(road: Roads, packet: Packet, *, transparent: bool, by: str | None = None) -> str | None:
    """The out-interface of an answer that is sent here, from whatever address it has; None iff it cannot be sent
    (net/ipv4/inet_connection_sock.c: inet_csk_route_req; net/ipv4/icmp.c: icmp_reply)."""
    if road.host.family is not IPV4:
        # Of what a local route has taken TCP and the kernel answer from there, and sockets have to bind it.
        own = packet.src in road.owners or packet.src in road.anycasts
        if packet.proto == UDP and not own and not transparent:
            return None
        # The kernel's own may go to mapped addresses (observed).
        asks = packet.proto != ICMPV6
        if asks and not routing6.connects(packet.dst, packet.device, packet.proto == TCP):
            return None
        return routing6.output(road, packet.dst, packet.device, packet.src, keys.of_sent(packet), by)
    if routing.type_of(road, packet.src) is not routing.Type.LOCAL and not transparent:
        return None
    if packet.proto == TCP and ways.to_group(road, packet, ways.first_asked(packet)):
        return None
    return routing.output(road, packet.src, packet.dst, packet.device, keys.of_sent(packet))


def asks_for_sockets(setting: Setting) -> bool:
    """True iff some rule asks whether there is a socket, as `--suppl-groups` does too, which the kernel's own has for what it
    answers itself (net/netfilter/xt_owner.c: a socket without a file; observed)."""
    chains = (chain for table in setting.rules.tables.values() for chain in table.chains.values())
    literals = (literal.match for chain in chains for rule in chain.rules for literal in rule.literals)
    return any(isinstance(m, r.OwnerIds) and (m.socket_exists or m.supplementary) for m in literals)


# -- conntrack ------------------------------------------------------------------------------------


def zone_of(setting: Setting, stops: Sequence[Stop], hop: int, arrived: bool) -> tuple[int, int] | None:
    """In which zone conntrack looks for the hop's packet, in either direction: the first template counts
    (net/netfilter/xt_CT.c: xt_ct_target); None where the packet's mark names it."""
    first = Hook.PREROUTING if arrived else Hook.OUTPUT
    for target, _ in targets_met(setting.rules, stops, hop, first, "raw"):
        if isinstance(target, r.NoTrack):
            return (0, 0)
        if isinstance(target, r.TrackAs):
            return _zone(target.options.split())
    return (0, 0)


def _zone(words: list[str]) -> tuple[int, int] | None:
    for option, (original, reply) in ZONES.items():
        if option in words:
            number = words[words.index(option) + 1]
            if number == "mark":
                return None
            return (int(number, 0) * original, int(number, 0) * reply)
    return (0, 0)


ZONES: Mapping[str, tuple[int, int]] = {"--zone": (1, 1), "--zone-orig": (1, 0), "--zone-reply": (0, 1)}
"""In which directions a zone's number counts (net/netfilter/nf_conntrack_core.c: nf_ct_zone_id)."""


def replying(known: Connection) -> Connection:
    """The connection as its first answer finds it (net/netfilter/nf_conntrack_core.c: resolve_normal_ct)."""
    return replace(known, is_reply=True, status=known.status | SEEN_REPLY)


def translated(packet: Packet, hook: Hook) -> Packet:
    """An answer as the stored translation of its connection leaves it at a hook of nat
    (net/netfilter/nf_nat_core.c: nf_nat_packet, nf_nat_manip_pkt)."""
    known = packet.connection
    assert known is not None, "an answer without a connection is not translated"
    ports = packet.proto in PORT_PROTOCOLS
    original = known.original
    if hook in (Hook.PREROUTING, Hook.OUTPUT):
        if not known.status & SRC_NAT:
            return packet
        return replace(packet, dst=original.src, dport=original.sport if ports else packet.dport)
    if not known.status & DST_NAT:
        return packet
    return replace(packet, src=original.dst, sport=original.dport if ports else packet.sport)


# -- whether it came back -------------------------------------------------------------------------


def answers(packet: Packet, sent: Packet) -> bool:
    """True iff the packet has the addresses and ports of what was sent, the other way round."""
    there = (sent.src, sent.sport, sent.dst, sent.dport)
    return (packet.dst, packet.dport, packet.src, packet.sport) == there and packet.proto == sent.proto


def came_back(sent: Packet, answer: Packet, end: End) -> bool | None:
    """Whether the answer, as it was last seen, has come to whoever sent what is answered; None where nobody knows."""
    match end:
        case Returned():
            return True
        case Left():
            return sent.in_iface is not None and answers(answer, sent)
        case Unmodelled() | Group():
            return None
        case _:
            return False


def is_for(road: Roads, packet: Packet, answering: Answering) -> bool:
    """True iff the socket that sent what is answered gets the packet, which would be delivered on this host."""
    if not answers(packet, answering.to):
        return False
    return answering.to.device in (None, ways.came_by(road, packet))
