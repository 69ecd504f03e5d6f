"""Where the kernel sends an IPv6 packet: address types, what the local table says, and which source it selects."""

from __future__ import annotations

from ..hooks import Hook
from ..hosts import RouteKind
from ..journeys import MARTIAN, NO_ROUTE, NOT_FORWARDED, SOURCE_SELECTION, Group, Lost, Unmodelled
from ..values import LINK_LOCAL, MAPPED
from .keys import NO_KEYS, Keys
from .routing import LOOPBACK_DEVICE, Arrival, Roads, forwards_6, within
from .rules6 import Flow, ask_for_sources, lookup

LOOPBACK = 1


# -- address types ------------------------------------------------------------------------------


def is_multicast(address: int) -> bool:
    return address >> 120 == 0xFF


def is_link_local(address: int) -> bool:
    return within(address, LINK_LOCAL)


def is_mapped(address: int) -> bool:
    """True iff a program that names this address speaks IPv4."""
    return within(address, MAPPED)


def scope(address: int) -> int:
    """A multicast address's scope (include/net/ipv6.h: IPV6_ADDR_MC_SCOPE)."""
    return address >> 112 & 0xF


def is_unicast(road: Roads, address: int) -> bool:
    """True iff the tables behind the local one decide about the address, and have a unicast route."""
    if address == 0 or is_multicast(address) or is_mapped(address):
        return False
    if address in road.owners or address in road.anycasts:
        return False
    route = lookup(road, Flow(address))
    return route is not None and route.kind is RouteKind.UNICAST


def is_taken(road: Roads, address: int) -> bool:
    """True iff a route to this host leads there: an address of its own, or one that a further table sends here."""
    if is_multicast(address) or _entry(road, address, None):
        return address in road.owners
    route = lookup(road, Flow(address))
    return route is not None and route.kind is RouteKind.LOCAL


# -- lookups ------------------------------------------------------------------------------------


def _entry(road: Roads, address: int, device: str | None) -> tuple[str, ...]:
    """The interfaces for which the local table has the address; with a device that one alone."""
    devices = road.owners.get(address, ()) + road.anycasts.get(address, ())
    return tuple(name for name in devices if device in (None, name))


def reads_as_anycast(road: Roads, address: int, device: str | None) -> bool:
    """True iff the route to the address is one to any router, or to a subnet that is on the link and begins with it
    (include/net/ip6_route.h: ipv6_anycast_destination)."""
    if is_multicast(address):
        return address == 0xFF << 120
    if address in road.owners and _entry(road, address, device):
        return False
    if _entry(road, address, device):
        return True
    route = lookup(road, Flow(address, out_iface=device, device=device))
    if route is None or route.via is not None or route.net.length is None:
        return False
    return route.net.length < 127 and route.net.address == address


# -- what is sent -------------------------------------------------------------------------------


def output(
    road: Roads, dst: int, device: str | None, src: int = 0, keys: Keys = NO_KEYS, by: str | None = None
) -> str | None:
    """The out-interface of what is sent, None iff there is no route (net/ipv6/route.c: ip6_route_output_flags).

    A source of 0 is none; `by` is the interface that rules are asked for, though the route need not leave by it.
    """
    if is_multicast(dst):
        outward = [i.name for i in road.host.interfaces if i.name != LOOPBACK_DEVICE]
        for name in outward:
            if device in (None, name):
                return name
    elif _entry(road, dst, device):
        return LOOPBACK_DEVICE
    route = lookup(road, Flow(dst, src or None, keys, out_iface=by or device, device=device))
    return None if route is None else route.device


def output_again(road: Roads, src: int, dst: int, device: str | None, keys: Keys, before: str) -> str | None:
    """The out-interface after netfilter changed what the route of a packet depends on that went by `before`
    (net/ipv6/netfilter.c: ip6_route_me_harder)."""
    if device is None and (is_link_local(dst) or is_multicast(dst)):
        device = before
    return output(road, dst, device, src, keys)


def has_lost_its_link(road: Roads, dst: int, device: str | None, before: str) -> bool:
    """True iff a new route, asked for on lo, is none of the local table's though that has the link-local address."""
    if device is not None or before != LOOPBACK_DEVICE or not is_link_local(dst):
        return False
    return bool(_entry(road, dst, None)) and not _entry(road, dst, LOOPBACK_DEVICE)


def connects(dst: int, device: str | None, tcp: bool) -> bool:
    """True iff a socket takes this destination: not an IPv4 address, TCP to no group, nor without a zone to what is
    link-local (net/ipv6/tcp_ipv6.c: tcp_v6_connect)."""
    if is_mapped(dst):
        return False
    return not tcp or not (is_multicast(dst) or (is_link_local(dst) and device is None))


def may_be_bound(road: Roads, src: int, dst: int, device: str | None, out: str) -> bool:
    """True iff a socket with this device may send from this address: from a link-local one only by its interface, or to
    an address of that link (net/ipv6/af_inet6.c: __inet6_bind)."""
    if src not in road.owners:
        return False
    if not is_link_local(src):
        return True
    if device is not None:
        return device in road.owners[src]
    if is_link_local(dst) and dst in road.owners:
        return road.owners[dst] == road.owners[src]
    return (is_link_local(dst) or is_multicast(dst)) and out in road.owners[src]


# -- sources ------------------------------------------------------------------------------------


def candidates(road: Roads, dst: int, device: str) -> tuple[int, ...]:
    """The addresses that the kernel might select as source towards `dst` by this device: where there are several, rules
    that are not modelled decide (net/ipv6/addrconf.c: ipv6_dev_get_saddr)."""
    here = [a.ip for a in road.host.interface(device).addresses]
    every = [a.ip for i in road.host.interfaces for a in i.addresses]
    if dst in (here if _is_near(dst) else every):
        return (dst,)
    if _is_near(dst):
        near = [a for a in here if _is_near(a)]
        return tuple(near or here)
    for group in (
        [a for a in here if not _is_near(a)],
        [a for a in every if not _is_near(a)],
        here,
        every,
    ):
        if group:
            return tuple(group)
    return ()


def _is_near(address: int) -> bool:
    """True iff the address is of one link alone, as ::1 counts too (net/ipv6/route.c: rt6_need_strict; RFC 6724, 3.4)."""
    return is_link_local(address) or address == LOOPBACK


def select_source(road: Roads, dst: int, keys: Keys = NO_KEYS) -> int | Unmodelled | None:
    """The source of a connection from a socket that is not bound, None iff there is none.

    Where rules ask for sources, and without one there is no route, the kernel selects one and looks the route up again
    (net/ipv6/ip6_output.c: ip6_dst_lookup_tail): which it is, is not modelled.
    """
    if dst in road.owners:
        return dst
    if _entry(road, dst, None):
        device = road.anycasts[dst][0]
    else:
        route = lookup(road, Flow(dst, keys=keys))
        if route is None or route.device is None:
            return Unmodelled(SOURCE_SELECTION) if ask_for_sources(road) else None
        if route.source is not None:
            return route.source
        device = route.device
    found = candidates(road, dst, device)
    if len(found) > 1:
        return Unmodelled(SOURCE_SELECTION)
    return found[0] if found else None


def may_select(road: Roads, src: int, dst: int, device: str | None, keys: Keys) -> bool:
    """True iff the kernel may give this source to what is sent by a socket that has bound none (net/ipv6/ip6_output.c:
    ip6_dst_lookup_tail; net/ipv6/ip6_route.h: ip6_route_get_saddr)."""
    if is_multicast(dst):
        return True
    here = _entry(road, dst, device)
    if here:
        return src in candidates(road, dst, here[0])
    route = lookup(road, Flow(dst, keys=keys, out_iface=device, device=device))
    if route is None or route.device is None:
        return False
    if route.source is not None:
        return src == route.source
    return src in candidates(road, dst, route.device)


# -- what arrives -------------------------------------------------------------------------------


def is_barred(src: int, dst: int) -> bool:
    """True iff no rule ever sees a frame with these addresses (net/ipv6/ip6_input.c: ip6_rcv_core)."""
    if LOOPBACK in (src, dst) or is_multicast(src):
        return True
    return is_multicast(dst) and scope(dst) in (0, 1)


def input(road: Roads, iface: str, src: int, dst: int, keys: Keys = NO_KEYS) -> Arrival | Lost | Group:
    """What becomes of a packet that came in by `iface`, after PREROUTING (net/ipv6/route.c: ip6_route_input_lookup;
    ip6_output.c: ip6_forward)."""
    if is_multicast(dst):
        return Group((Hook.INPUT,))
    device = iface if _is_near(dst) else None
    if _entry(road, dst, device):
        return Arrival(broadcast=dst not in road.owners)
    route = lookup(road, Flow(dst, src, keys, iface, device=device))
    if route is not None and route.kind is RouteKind.LOCAL:
        return Arrival()
    if not forwards_6(road.host):
        return Lost(NOT_FORWARDED)
    if route is None or route.device is None:
        return Lost(NO_ROUTE)
    if route.device != iface and (src == 0 or is_link_local(src)):
        return Lost(MARTIAN)
    return Arrival(out=route.device)


def came_by(road: Roads, dst: int) -> str:
    """The device that a socket's own is compared with over lo: that of the destination's address (ip6_input.c: ip6_rcv_core)."""
    return next(iter(_entry(road, dst, None)), LOOPBACK_DEVICE)
