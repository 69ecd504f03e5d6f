"""Where a packet goes, whichever family it is of: what `routing` says of IPv4, and `routing6` of IPv6."""

from __future__ import annotations

from ..hosts import Process
from ..journeys import Group, Lost, Unmodelled
from ..packets import Packet
from ..values import IPV4, TCP
from . import keys, routing, routing6
from .routing import Arrival, Roads
from .rules6 import ask_for_lengths, ask_for_source_ports, ask_for_sources, ask_for_what_is_written

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
            return routing6.output(road, packet.dst, packet.device, keys=keys.of_sent(packet))
        ways = _ways_bound6(road, packet)
        if not bound:
            ways += _ways_unbound6(road, packet)
        return next((way for way in ways if way is not None), None)
    if raw:
        return routing.output(road, 0, packet.dst, packet.device, keys.of_sent(packet))
    if packet.proto == TCP and to_group(road, packet, first_asked(packet)):
        return None
    out = routing.output(road, packet.src, packet.dst, packet.device, keys.of_sent(packet))
    return _way_unbound(road, packet) if out is None else out


def _way_unbound(road: Roads, packet: Packet) -> str | None:
    """The way of a datagram, if it may come of a socket that is bound to nothing, where that may make a difference."""
    if packet.proto == TCP or packet.device is not None:
        return None
    if not road.host.policy and not routing.is_abroad(packet.dst):
        return None
    unbound = routing.output_unbound(road, packet.dst, keys.of_sent(packet))
    return unbound[1] if unbound is not None and unbound[0] == packet.src else None


def _ways_bound6(road: Roads, packet: Packet) -> tuple[str | None, ...]:
    """The way of what a socket sends that is bound to the packet's source and port; and where that may make a difference, that
    of one that has bound no port."""
    if not routing6.connects(packet.dst, packet.device, packet.proto == TCP):
        return (None,)
    return tuple(
        routing6.output(road, packet.dst, packet.device, packet.src, asked) for asked in _asked6(road, packet)
    )


def _ways_unbound6(road: Roads, packet: Packet) -> tuple[str | None, ...]:
    """The ways of the packet, if it may come of a socket that has bound no source, where that may make a difference: those of the
    first lookup, which is not asked again with the source selected (net/ipv6/ip6_output.c: ip6_dst_lookup_tail)."""
    if not ask_for_sources(road) or not routing6.connects(packet.dst, packet.device, packet.proto == TCP):
        return ()
    return tuple(
        routing6.output(road, packet.dst, packet.device, keys=asked)
        for asked in _asked6(road, packet)
        if routing6.may_select(road, packet.src, packet.dst, packet.device, asked)
    )


def _asked6(road: Roads, packet: Packet) -> tuple[keys.Keys, ...]:
    """With the packet's port; and of TCP, whose sockets go by their first lookup, without it."""
    sent = keys.of_sent(packet)
    if packet.proto != TCP or not ask_for_source_ports(road):
        return (sent,)
    return (sent, keys.of_connecting(packet))


def doubt(road: Roads, process: Process, packet: Packet) -> str | None:
    """Why nobody knows by which way a socket of the process sends the packet, None where it is known."""
    if not process.raw and keys.are_untold_here(road.host, packet):
        return keys.ITS_PORTS
    return ITS_SOCKET if _hangs_on_its_socket(road, process, packet) else None


def _hangs_on_its_socket(road: Roads, process: Process, packet: Packet) -> bool:
    """True iff its way depends on what the socket is bound to, which the packet does not tell.

    Routing rules ask for the source, and so does what goes to a multicast address; and of a datagram from a socket that is not
    bound the route is looked up before it has one (net/ipv4/udp.c: udp_sendmsg); TCP looks it up again (include/net/route.h:
    ip_route_connect, ip_route_newports), and in IPv6 for what is sent again alone (net/ipv6/inet6_connection_sock.c:
    inet6_csk_route_socket).
    """
    if road.host.family is not IPV4:
        if process.raw:
            return ask_for_what_is_written(road) or ask_for_lengths(road)
        first, *others = (*_ways_bound6(road, packet), *_ways_unbound6(road, packet))
        return any(way is not None and way != first for way in others)
    if process.raw or packet.proto == TCP:
        return process.raw and ask_for_what_is_written(road)
    if not (ask_for_sources(road) or routing.is_abroad(packet.dst)):
        return False
    unbound = _way_unbound(road, packet)
    bound = routing.output(road, packet.src, packet.dst, packet.device, keys.of_sent(packet))
    return unbound is not None and unbound != bound


def way_out_again(road: Roads, packet: Packet, before: str) -> str | None:
    """The out-interface after netfilter changed what a route depends on, None iff the packet cannot go; `before` is the one
    it had."""
    asked = keys.of_rerouted(road.host, packet)
    if road.host.family is not IPV4:
        return routing6.output_again(road, packet.src, packet.dst, packet.device, asked, before)
    return routing.output_again(road, packet.src, packet.dst, packet.device, asked)


def has_lost_its_link(road: Roads, packet: Packet, before: str) -> bool:
    """True iff what was on lo for a link-local address of this host is there now by another route, of lo itself."""
    if road.host.family is IPV4:
        return False
    return routing6.has_lost_its_link(road, packet.dst, packet.device, before)


def first_asked(packet: Packet) -> routing.Flow:
    """What a route is looked up for where the packet is sent."""
    return routing.Flow(packet.dst, packet.src, keys.of_sent(packet), device=packet.device)


def asked_again(road: Roads, packet: Packet) -> routing.Flow:
    """The same where netfilter has changed it behind OUTPUT."""
    asked = keys.of_rerouted(road.host, packet)
    return routing.Flow(packet.dst, routing.asked_source(road, packet.src), asked, device=packet.device)


def to_group(road: Roads, packet: Packet, asked: routing.Flow) -> bool:
    """True iff what is sent, by a route that was looked up for this last, goes to a group of sockets, perhaps also here."""
    if road.host.family is not IPV4:
        return routing6.is_multicast(packet.dst)
    return routing.to_group(road, asked)


def may_have_a_way(road: Roads, process: Process, packet: Packet) -> bool:
    """True iff what seems to have no way may have one: that of a socket that writes headers itself, which may be bound to any
    address, or to none, or of one whose ports nobody knows."""
    if process.raw:
        return ask_for_what_is_written(road)
    return keys.are_untold_here(road.host, packet)


def may_send_from(road: Roads, process: Process, packet: Packet, out: str | None) -> bool:
    """True iff a socket of the process may have the packet's source, where it is sent by this interface; None where nobody
    knows its way."""
    if process.raw:
        # A source of 0.0.0.0 the kernel fills in, where it has one to give (net/ipv4/raw.c: raw_send_hdrinc).
        return packet.src != 0 or road.host.family is not IPV4 or not routing.lends_address(road)
    untold = keys.are_untold_here(road.host, packet)
    if untold and road.host.family is not IPV4:
        return packet.src in road.owners
    assert untold or out is not None, "what an ordinary socket sends has a way"
    if road.host.family is not IPV4:
        assert out is not None, "what an ordinary socket sends has a way"
        if not routing6.may_be_bound(road, packet.src, packet.dst, packet.device, out):
            return False
        # Without a device nobody binds a link-local address: the kernel has selected it.
        free = packet.device is not None or not routing6.is_link_local(packet.src)
        return free or not ask_for_sources(road) or any(_ways_unbound6(road, packet))
    if routing.type_of(road, packet.src) is routing.Type.LOCAL:
        return True
    # What a `local` route takes goes from its own destination, if nothing is bound; what is broadcast in a subnet no such
    # route takes, since the local table has it.
    itself = packet.src == packet.dst and (
        packet.src not in road.broadcasts
        or routing.said_first(road, routing.Flow(packet.dst, keys=keys.of_sent(packet))) is not None
    )
    return itself and (untold or _way_unbound(road, packet) is not None)


def is_barred(road: Roads, packet: Packet) -> bool:
    """True iff no rule ever sees the frame."""
    return road.host.family is not IPV4 and routing6.is_barred(packet.src, packet.dst)


def arrives(road: Roads, iface: str, packet: Packet) -> Arrival | Lost | Group | Unmodelled:
    """What becomes of a packet that came in by `iface`, after PREROUTING."""
    if keys.are_untold_outside(road.host, packet):
        return Unmodelled(keys.ITS_PORTS)
    asked = keys.of_arriving(road.host, packet)
    if road.host.family is not IPV4:
        return routing6.input(road, iface, packet.src, packet.dst, asked)
    return routing.input(road, iface, packet.src, packet.dst, asked)


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
