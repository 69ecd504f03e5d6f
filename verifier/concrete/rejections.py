"""What a REJECT rule sends back: its header and way, what conntrack and nat make of it, and whether its sender knows it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from .. import rules as r
from ..hooks import Hook
from ..hosts import Setting
from ..journeys import Act, Rejected, Stop
from ..packets import Packet
from ..remembered import of_the_latest
from ..values import AH, ESP, GRE, ICMP, ICMPV6, IPV4, SCTP, TCP, UDP, UDPLITE, CtState, TcpFlag
from . import answers, keys, rejections6, routing, ways
from .behind import targets_met
from .routing import LOOPBACK_DEVICE, Roads

MISPLACED = "a REJECT where the kernel loads none"
BY_RULES = "a rejection where routing rules ask for more than addresses, interfaces and marks, or before the local table"
TO_NOBODY = "a rejection to no address"
TO_A_GROUP = "a rejection to a group"
FROM_NOBODY = "a rejection from no address"
OF_THIS_PROTOCOL = "whether REJECT answers this protocol"
ITS_SOCKET = "whether a socket that is bound to a device knows a rejection of this protocol"
BINDING = "what NAT makes of a connection that is rejected"

RESET = "tcp-reset"
CODES: Mapping[str, int] = {
    "icmp-net-unreachable": 0,
    "icmp-host-unreachable": 1,
    "icmp-proto-unreachable": 2,
    "icmp-port-unreachable": 3,
    "icmp-net-prohibited": 9,
    "icmp-host-prohibited": 10,
    "icmp-admin-prohibited": 13,
}
"""The codes of ICMP's type 3 (net/ipv4/netfilter/ipt_REJECT.c: reject_tg)."""

WITHOUT_ERROR = (0, 8, 13, 14, 15, 16, 17, 18)
"""ICMP types that are no errors: all others are never answered by one (net/ipv4/icmp.c: icmp_pointers; observed)."""

VERIFIED = (TCP, UDP, ICMP)
"""Protocols whose checksum REJECT looks at, and which it finds right where it is."""
TRUSTED = (UDPLITE, SCTP, GRE, ESP, AH)
"""Those whose checksum it does not ask (net/netfilter/nf_reject.h: nf_reject_verify_csum; observed).  Of all others it adds up
the whole payload, whatever that means there."""


class Rejecting(Struct, frozen=True):
    """What a rejection depends on: the packet that was rejected, as it was sent, and by whom."""

    to: Packet
    sender: str | None
    """The process that sent it; None of a frame."""
    source_done: bool
    """Whether nat has been asked about the source of its connection: of what was rejected as it came over lo."""
    stuck: bool
    """Whether conntrack had left it alone: what is sent back looks tracked to the raw table, and is not
    (net/netfilter/nf_conntrack_core.c: nf_conntrack_attach; observed)."""


def rejecting(to: Packet, sender: str | None, rejected: Packet) -> Rejecting:
    return Rejecting(to, sender, rejected.in_iface == LOOPBACK_DEVICE, rejected.ctstate is CtState.UNTRACKED)


# -- what is sent -----------------------------------------------------------------------------------


def sent_back(
    setting: Setting, road: Roads, stops: Sequence[Stop], end: Rejected, carried: Collection[str]
) -> Packet | str | None:
    """What is sent back, as it is sent, where the last of these stops is that at the REJECT; None where nothing is, and a
    reason where nobody knows."""
    packet = stops[-1].packet
    if end.table != "filter":
        return MISPLACED
    if keys.ask_for_more(road.host):
        return BY_RULES
    if packet.family is IPV4:
        back = _header(setting, road, stops, end, carried)
    else:
        back = rejections6.header(setting, road, packet, end, carried)
    return _tracked(back, packet, carried) if isinstance(back, Packet) else back


def _header(
    setting: Setting, road: Roads, stops: Sequence[Stop], end: Rejected, carried: Collection[str]
) -> Packet | str | None:
    """The same of IPv4, before conntrack has its say."""
    packet = stops[-1].packet
    if _is_to_group(road, packet, end.hook):
        return None
    reset = end.how == RESET
    if reset and (packet.proto != TCP or packet.flags & TcpFlag.RST):
        return None
    if not reset and packet.proto == ICMP and packet.icmp_type not in WITHOUT_ERROR:
        return None
    if not reset and packet.proto not in (*VERIFIED, *TRUSTED):
        return OF_THIS_PROTOCOL
    if packet.src == 0:
        return TO_NOBODY
    if routing.type_of(road, packet.src) in (routing.Type.BROADCAST, routing.Type.MULTICAST):
        return TO_A_GROUP
    if reset:
        return _reset(road, packet, end.hook)
    if answers.asks_for_sockets(setting):
        return answers.THE_KERNELS_SOCKET
    return _error(road, packet, end, _way(stops), carried)


def _is_to_group(road: Roads, packet: Packet, hook: Hook) -> bool:
    """What was sent to a broadcast or multicast address is never answered (net/ipv4/netfilter/nf_reject_ipv4.c:
    nf_send_reset; net/ipv4/icmp.c: __icmp_send, RTCF_BROADCAST)."""
    if hook is Hook.OUTPUT:
        return ways.to_group(road, packet, ways.first_asked(packet))
    return packet.dst == 0 or routing.type_of(road, packet.dst) is routing.Type.BROADCAST


def _reset(road: Roads, packet: Packet, hook: Hook) -> Packet:
    """(net/ipv4/netfilter/nf_reject_ipv4.c: nf_send_reset, nf_reject_ip_tcphdr_put): by the device of the socket that sent what
    is rejected, from whatever address."""
    flags = TcpFlag.RST if packet.flags & TcpFlag.ACK else TcpFlag.RST | TcpFlag.ACK
    device = packet.device if hook is Hook.OUTPUT else None
    out = routing.output_again(road, packet.dst, packet.src, device)
    return Packet(
        packet.dst, packet.src, TCP, packet.dport, packet.sport, flags, out_iface=out, length=RESETS_LENGTH
    )


RESETS_LENGTH = 40


def _error(
    road: Roads, packet: Packet, end: Rejected, way: str | None, carried: Collection[str]
) -> Packet | str:
    """(net/ipv4/icmp.c: __icmp_send): from the address that it was sent to, if that is one of this host's by its route; else from
    the one that the kernel selects."""
    code = CODES[end.how]
    if end.hook is Hook.INPUT or way == LOOPBACK_DEVICE:
        src: int | None = packet.dst
        out = None
        if routing.type_of(road, packet.dst) is routing.Type.LOCAL:
            out = routing.output(road, packet.dst, packet.src, None)
    else:
        src = routing.source_of_datagram(road, packet.src)
        unbound = routing.output_unbound(road, packet.src, keys.NO_KEYS)
        out = None if unbound is None else unbound[1]
        if src == 0 and out is not None:
            return FROM_NOBODY
    error = Packet(src or 0, packet.src, ICMP, icmp_type=3, icmp_code=code, out_iface=out)
    if "tos" in carried:
        error = replace(error, tos=packet.tos & 0x1E | 0xC0)
    return replace(error, length=min(packet.length + 28, 576))


def _way(stops: Sequence[Stop]) -> str | None:
    """By which interface the hop's packet, which is sent here, would have left (the last route counts)."""
    hop = stops[-1].hop
    routed = (s.where for s in reversed(stops) if s.hop == hop and s.act is Act.ROUTED)
    return next(routed, stops[-1].packet.out_iface)


def _tracked(back: Packet, rejected: Packet, carried: Collection[str]) -> Packet:
    """It is related to the connection of what was rejected, whose reply it is (net/netfilter/nf_conntrack_core.c:
    nf_conntrack_attach), and without one INVALID."""
    known = rejected.connection
    if "length" not in carried:
        back = replace(back, length=rejected.length)
    if known is None:
        return replace(back, ctstate=CtState.INVALID)
    return replace(back, ctstate=CtState.RELATED, connection=replace(known, is_reply=True))


# -- on its way -------------------------------------------------------------------------------------


def as_seen(of: Rejecting, table: r.Table, hook: Hook, packet: Packet) -> r.Table:
    """The table as what is sent back sees it.  A reset looks as what conntrack has none of over lo, since that has looked at it
    behind OUTPUT, and an ICMP error as it did (net/netfilter/nf_conntrack_core.c: nf_conntrack_in; observed)."""
    looked_at = hook is not Hook.OUTPUT and packet.proto == TCP
    if table.name == "raw" and of.stuck and not looked_at:
        return _inert(table)
    return _binding(table) if table.name == "nat" else table


@of_the_latest
def _inert(table: r.Table) -> r.Table:
    """Targets that speak of tracking do nothing, since it looks tracked (net/netfilter/xt_CT.c: xt_ct_target, notrack_tg)."""
    return _with(table, lambda target: None if isinstance(target, r.NoTrack | r.TrackAs) else target)


@of_the_latest
def _binding(table: r.Table) -> r.Table:
    """Translations of a source let it pass as it is: they say what will become of the source of its connection, which is not its
    own (net/netfilter/nf_nat_core.c: nf_nat_setup_info, nf_nat_packet)."""
    return _with(table, lambda target: r.Accept() if isinstance(target, BINDS) else target)


BINDS = (r.Snat, r.Masquerade, r.Netmap)


def _with(table: r.Table, changed: Callable[[r.Target | None], r.Target | None]) -> r.Table:
    chains = {
        name: replace(chain, rules=tuple(replace(rule, target=changed(rule.target)) for rule in chain.rules))
        for name, chain in table.chains.items()
    }
    return replace(table, chains=chains)


def asks_nat(hook: Hook, packet: Packet, of: Rejecting) -> bool:
    """True iff nat tables are asked about it, where conntrack is on: of a reset about the source of its connection, if nobody
    has been before (net/netfilter/nf_nat_core.c: nf_nat_inet_fn, `case IP_CT_RELATED_REPLY`); of an ICMP error never
    (net/netfilter/nf_nat_proto.c: nf_nat_ipv4_fn)."""
    if hook is not Hook.POSTROUTING or of.source_done:
        return False
    return packet.proto == TCP and packet.ctstate is CtState.RELATED


def is_in_doubt(setting: Setting, road: Roads, stops: Sequence[Stop], hop: int, packet: Packet) -> bool:
    """True iff nat POSTROUTING has bound the source of its connection in a way that may be seen of it later, or may have dropped
    it instead."""
    targets = [target for target, _ in targets_met(setting.rules, stops, hop, Hook.POSTROUTING, "nat")]
    if packet.out_iface == LOOPBACK_DEVICE:
        return any(isinstance(target, BINDS) for target in targets)
    lends = routing.lends_address if packet.family is IPV4 else rejections6.lends_address
    return not lends(road) and any(isinstance(target, r.Masquerade) for target in targets)


def is_for(road: Roads, packet: Packet, of: Rejecting) -> bool | None:
    """True iff the socket that sent what is rejected knows the packet, which would be delivered on this host, for its own: a
    reset by its addresses and ports, an ICMP error by the header that it quotes, which NAT has restored on the way
    (net/netfilter/nf_nat_proto.c: nf_nat_icmp_reply_translation).  None where nobody knows.

    A socket with a device is found by that of the address, or by lo itself, for TCP, for UDP, in IPv4 and in IPv6 otherwise
    (net/ipv4/tcp_ipv4.c: tcp_v4_err; net/ipv4/udp.c: __udp4_lib_err; net/ipv6/tcp_ipv6.c: tcp_v6_err; net/ipv6/udp.c:
    __udp6_lib_err; observed).
    """
    ipv4, device = packet.family is IPV4, of.to.device
    if packet.proto == TCP:
        return answers.answers(packet, of.to) and device in (None, ways.came_by(road, packet))
    if packet.proto != (ICMP if ipv4 else ICMPV6):
        return False
    if device is None:
        return True
    if of.to.proto not in (TCP, UDP):
        return None
    by_address = of.to.proto == (TCP if ipv4 else UDP)
    return device == (ways.came_by(road, packet) if by_address else packet.in_iface)
