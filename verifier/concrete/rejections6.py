"""What a REJECT rule of IPv6 sends back, and by which way: a TCP reset, or an ICMPv6 error."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from msgspec.structs import replace

from ..hooks import Hook
from ..hosts import Setting
from ..journeys import SOURCE_SELECTION, Rejected
from ..packets import Packet
from ..values import ESP, GRE, ICMPV6, SCTP, TCP, UDP, UDPLITE, Family, Ipv6Extension, TcpFlag
from . import routing6
from .answers import THE_KERNELS_SOCKET, asks_for_sockets
from .routing import Roads
from .rules6 import Flow, lookup

OF_ONE_LINK = "a rejection to or from an address of one link"
TO_ANY_ROUTER = "a rejection to the address of any router"
OF_THIS_PROTOCOL = "whether REJECT answers this protocol"
AN_EXTENSION = "an extension header that is not followed"

CODES: Mapping[str, int] = {
    "icmp6-no-route": 0,
    "icmp6-adm-prohibited": 1,
    "icmp6-addr-unreachable": 3,
    "icmp6-port-unreachable": 4,
    "icmp6-policy-fail": 5,
    "icmp6-reject-route": 6,
}
"""The codes of ICMPv6's type 1 (net/ipv6/netfilter/ip6t_REJECT.c: reject_tg6)."""

INFORMS = 128
"""From this type on, ICMPv6's messages are no errors (net/ipv6/icmp.c: is_ineligible)."""

ANSWERED = (TCP, UDP, ICMPV6, UDPLITE, SCTP, GRE, ESP)
"""Protocols whose packets, with a right checksum, are answered (include/net/netfilter/nf_reject.h: nf_reject_verify_csum)."""

_FOLLOWED = Ipv6Extension.HOP | Ipv6Extension.DST | Ipv6Extension.ROUTE | Ipv6Extension.AUTH


def header(
    setting: Setting, road: Roads, packet: Packet, end: Rejected, carried: Collection[str]
) -> Packet | str | None:
    """What is sent back, before conntrack has its say; None where nothing is, and a reason where nobody knows."""
    reset = end.how == "tcp-reset"
    if packet.src == 0 or routing6.is_multicast(packet.src) or routing6.is_multicast(packet.dst):
        return None
    if reset and not _is_reset(packet):
        return None
    if not reset and packet.proto == ICMPV6 and packet.icmp_type < INFORMS:
        return None
    if not reset and packet.proto not in ANSWERED:
        return OF_THIS_PROTOCOL
    if packet.extensions & _FOLLOWED:
        return AN_EXTENSION
    if routing6.is_link_local(packet.src) or routing6.is_link_local(packet.dst):
        return OF_ONE_LINK
    if not reset and asks_for_sockets(setting):
        return THE_KERNELS_SOCKET
    back = _reset(road, packet, end.hook) if reset else _error(road, packet, end)
    if isinstance(back, Packet) and "extensions" in carried:
        return replace(back, extensions=int(Ipv6Extension.PROTO))
    return back


def _is_reset(packet: Packet) -> bool:
    """A reset answers it: from and to addresses that the kernel calls unicast (net/ipv6/netfilter/nf_reject_ipv6.c:
    nf_send_reset6)."""
    mapped = routing6.is_mapped(packet.src) or routing6.is_mapped(packet.dst)
    return packet.proto == TCP and not packet.flags & TcpFlag.RST and not mapped and packet.dst != 0


def _reset(road: Roads, packet: Packet, hook: Hook) -> Packet:
    """By the route of its destination, whatever device the sender's socket has; but a new route it has by that
    (nf_send_reset6: ip6_local_out is given the socket)."""
    flags = TcpFlag.RST if packet.flags & TcpFlag.ACK else TcpFlag.RST | TcpFlag.ACK
    return Packet(
        packet.dst,
        packet.src,
        TCP,
        packet.dport,
        packet.sport,
        flags,
        out_iface=routing6.output(road, packet.src, None, packet.dst),
        device=packet.device if hook is Hook.OUTPUT else None,
        family=Family.IPV6,
        length=60,
    )


def _error(road: Roads, packet: Packet, end: Rejected) -> Packet | str:
    """(net/ipv6/icmp.c: icmp6_send)"""
    src = _source(road, packet, end.hook)
    if src is None:
        return SOURCE_SELECTION
    if packet.src in road.anycasts or _begins_a_net(road, packet.src):
        return TO_ANY_ROUTER
    chosen = _preferred(road, packet.src) if end.hook is Hook.FORWARD else None
    out = routing6.output(road, packet.src, None, src if chosen is None else 0)
    return Packet(
        src,
        packet.src,
        ICMPV6,
        icmp_type=1,
        icmp_code=CODES[end.how],
        out_iface=out,
        family=Family.IPV6,
        length=min(packet.length + 48, 1280),
    )


def _source(road: Roads, packet: Packet, hook: Hook) -> int | None:
    """The address that an error comes from, None where nobody knows: that which the packet went to; of what is forwarded that
    of the route back, or one of the interface by which it came (icmpv6_rt_has_prefsrc)."""
    # What is forwarded is for nobody here: ::1 is such an address on lo alone.
    if hook is not Hook.FORWARD:
        if packet.dst in road.owners or packet.dst in road.anycasts:
            return packet.dst
        return packet.src if hook is Hook.OUTPUT and packet.src in road.owners else None
    preferred = _preferred(road, packet.src)
    if preferred is not None:
        return preferred
    assert packet.in_iface is not None, "what is forwarded has come by an interface"
    found = routing6.candidates(road, packet.src, packet.in_iface)
    return found[0] if len(found) == 1 else None


def _preferred(road: Roads, dst: int) -> int | None:
    """The source that the route to an address names, looked up without one."""
    if dst in road.owners or dst in road.anycasts:
        return None
    route = lookup(road, Flow(dst))
    return None if route is None or route.device is None else route.source


def _begins_a_net(road: Roads, address: int) -> bool:
    """True iff some route without a gateway has it as its first address, so that the kernel takes it for any router's
    (include/net/ip6_route.h: ipv6_anycast_destination)."""
    routes = [route for table in road.tables.values() for route in table]
    return any(x.via is None and x.net.address == address and (x.net.length or 0) < 127 for x in routes)


def lends_address(road: Roads) -> bool:
    """True iff MASQUERADE has an address to give wherever a packet leaves."""
    near = (routing6.is_link_local(ip) or ip == routing6.LOOPBACK for ip in road.owners)
    return not all(near)
