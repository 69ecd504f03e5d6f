"""Where a packet goes, whichever family it is of: what `routing` says of IPv4, and `routing6` of IPv6."""

from __future__ import annotations

from ..hosts import Process
from ..journeys import Group, Lost
from ..packets import Packet
from ..values import IPV4, TCP
from . import routing, routing6
from .routing import Arrival, Roads
from .rules6 import ask_for_lengths, ask_for_sources

ITS_SOCKET = "whether its socket is bound decides by which way it goes"


def way_out(road: Roads, packet: Packet, raw: bool, bound: bool = False) -> str | None:
    """The out-interface of what a socket sends, None iff it cannot be sent.

    TCP does not connect to broadcast and multicast addresses (net/ipv4/tcp_ipv4.c: tcp_v4_connect).  A raw
    socket does, and what it writes into the header as source is not asked for the route
    (net/ipv4/raw.c: raw_sendmsg; observed: 127.0.0.5 > 8.8.8.8 on the wire).  `bound`: the socket has its source, whatever
    it might have been without.
    """
    if road.host.family is not IPV4:
        if raw:
            return routing6.output(road, packet.dst, packet.device, mark=packet.mark)
        out = _way_bound6(road, packet)
        return _way_unbound6(road, packet) if out is None and not bound else out
    if raw:
        return routing.output(road, 0, packet.dst, packet.device, packet.mark)
    if packet.proto == TCP and routing.to_group(road, packet.dst, packet.device):
        return None
    out = routing.output(road, packet.src, packet.dst, packet.device, packet.mark)
    return _way_unbound(road, packet) if out is None else out


def _way_unbound(road: Roads, packet: Packet) -> str | None:
    """The way of a datagram, if it may come of a socket that is bound to nothing, where that may make a difference."""
    if packet.proto == TCP or packet.device is not None:
        return None
    if not road.host.policy and not routing.is_abroad(packet.dst):
        return None
    unbound = routing.output_unbound(road, packet.dst, packet.mark)
    return unbound[1] if unbound is not None and unbound[0] == packet.src else None


def _way_bound6(road: Roads, packet: Packet) -> str | None:
    """The way of what a socket sends that is bound to the packet's source."""
    if not routing6.connects(packet.dst, packet.device, packet.proto == TCP):
        return None
    return routing6.output(road, packet.dst, packet.device, packet.src, packet.mark)


def _way_unbound6(road: Roads, packet: Packet) -> str | None:
    """The way of the packet, if it may come of a socket that has bound no source, where that may make a difference: that of the
    first lookup, which is not asked again with the source selected (net/ipv6/ip6_output.c: ip6_dst_lookup_tail)."""
    if not ask_for_sources(road) or not routing6.connects(packet.dst, packet.device, packet.proto == TCP):
        return None
    if not routing6.may_select(road, packet.src, packet.dst, packet.device, packet.mark):
        return None
    return routing6.output(road, packet.dst, packet.device, mark=packet.mark)


def hangs_on_its_socket(road: Roads, process: Process, packet: Packet) -> bool:
    """True iff its way depends on what the socket is bound to, which the packet does not tell.

    Routing rules ask for the source, and so does what goes to a multicast address; and of a datagram from a socket that is not
    bound the route is looked up before it has one (net/ipv4/udp.c: udp_sendmsg); TCP looks it up again (include/net/route.h:
    ip_route_connect, ip_route_newports), and in IPv6 for what is sent again alone (net/ipv6/inet6_connection_sock.c:
    inet6_csk_route_socket).
    """
    if road.host.family is not IPV4:
        if process.raw:
            return ask_for_sources(road) or ask_for_lengths(road)
        unbound6 = _way_unbound6(road, packet)
        return unbound6 is not None and unbound6 != _way_bound6(road, packet)
    asks = ask_for_sources(road)
    if process.raw or packet.proto == TCP:
        return process.raw and asks
    if not (asks or routing.is_abroad(packet.dst)):
        return False
    unbound = _way_unbound(road, packet)
    bound = routing.output(road, packet.src, packet.dst, packet.device, packet.mark)
    return unbound is not None and unbound != bound


def way_out_again(road: Roads, packet: Packet, before: str) -> str | None:
    """The out-interface after netfilter changed what a route depends on, None iff the packet cannot go; `before` is the one
    it had."""
    if road.host.family is not IPV4:
        return routing6.output_again(road, packet.src, packet.dst, packet.device, packet.mark, before)
    return routing.output_again(road, packet.src, packet.dst, packet.device, packet.mark)


def has_lost_its_link(road: Roads, packet: Packet, before: str) -> bool:
    """True iff what was on lo for a link-local address of this host is there now by another route, of lo itself."""
    if road.host.family is IPV4:
        return False
    return routing6.has_lost_its_link(road, packet.dst, packet.device, before)


def to_group(road: Roads, packet: Packet) -> bool:
    """True iff what is sent goes to a group of sockets, perhaps also here."""
    if road.host.family is not IPV4:
        return routing6.is_multicast(packet.dst)
    return routing.to_group(road, packet.dst, packet.device)


def may_have_a_way(road: Roads, process: Process) -> bool:
    """True iff what has no way without a source may have one with it: of a socket that writes headers itself, which may be bound
    to any address, or to none."""
    return process.raw and ask_for_sources(road)


def may_send_from(road: Roads, process: Process, packet: Packet, out: str | None) -> bool:
    """True iff a socket of the process may have the packet's source, where it is sent by this interface; None of a raw one
    whose way nobody knows."""
    if process.raw:
        # A source of 0.0.0.0 the kernel fills in, where it has one to give (net/ipv4/raw.c: raw_send_hdrinc).
        return packet.src != 0 or road.host.family is not IPV4 or not routing.lends_address(road)
    assert out is not None, "what an ordinary socket sends has a way"
    if road.host.family is not IPV4:
        if not routing6.may_be_bound(road, packet.src, packet.dst, packet.device, out):
            return False
        # Without a device nobody binds a link-local address: the kernel has selected it.
        free = packet.device is not None or not routing6.is_link_local(packet.src)
        return free or not ask_for_sources(road) or _way_unbound6(road, packet) is not None
    if routing.type_of(road, packet.src) is routing.Type.LOCAL:
        return True
    # What a `local` route takes goes from its own destination, if nothing is bound; what is broadcast in a subnet no such
    # route takes, since the local table has it.
    itself = packet.src == packet.dst and packet.src not in road.broadcasts
    return itself and _way_unbound(road, packet) is not None


def is_barred(road: Roads, packet: Packet) -> bool:
    """True iff no rule ever sees the frame."""
    return road.host.family is not IPV4 and routing6.is_barred(packet.src, packet.dst)


def arrives(road: Roads, iface: str, packet: Packet) -> Arrival | Lost | Group:
    """What becomes of a packet that came in by `iface`, after PREROUTING."""
    if road.host.family is not IPV4:
        return routing6.input(road, iface, packet.src, packet.dst, packet.mark)
    return routing.input(road, iface, packet.src, packet.dst, packet.mark)


def is_unicast(road: Roads, address: int) -> bool:
    """True iff the main table, and not the local one, decides about the address, and has a unicast route."""
    if road.host.family is not IPV4:
        return routing6.is_unicast(road, address)
    return routing.is_unicast(road, address)


def is_for_any_router(road: Roads, packet: Packet) -> bool:
    """True iff the destination is an anycast address, of which TCP takes nothing."""
    return packet.dst in road.anycasts and packet.dst not in road.owners


def came_by(road: Roads, packet: Packet) -> str | None:
    """The device that a socket's own is compared with: over lo it is that of the destination's address."""
    if packet.in_iface != routing.LOOPBACK_DEVICE:
        return packet.in_iface
    if road.host.family is not IPV4:
        return routing6.came_by(road, packet.dst)
    return routing.came_by(road, packet.dst)
