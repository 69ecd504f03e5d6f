"""What an IPv6 host's own tables say to matches and NAT: what differs from IPv4's (`lookups`)."""

from __future__ import annotations

from .. import matches as r
from ..values import ICMPV6, LINK_LOCAL, MAPPED, Net
from .matches import within
from .packets import SymPacket
from .routing_ipv6 import RoadIpv6
from .terms import Bool, Bv

OF_ADDRESSES = frozenset({r.RouteType.UNSPEC, r.RouteType.UNICAST, r.RouteType.MULTICAST})
OF_ROUTES = frozenset({r.RouteType.LOCAL, r.RouteType.ANYCAST, r.RouteType.UNREACHABLE})

COMPATIBLE = Net.prefix(0, 96, LINK_LOCAL.family)
"""IPv4 addresses behind zeros."""

SITE_LOCAL = Net.prefix(0xFEC0 << 112, 10, LINK_LOCAL.family)


# -- kinds of addresses (net/netfilter/xt_addrtype.c: match_type6)


def types_are_open(match: r.AddressType) -> bool:
    """Somebody asks for a type of which we do not know which addresses have it."""
    return not (match.source | match.destination) <= OF_ADDRESSES | OF_ROUTES


def types(match: r.AddressType, p: SymPacket, road: RoadIpv6) -> Bool:
    t = p.terms
    limit = {None: t.number(0, 8), r.Limit.IN: p.in_iface, r.Limit.OUT: p.out_iface}[match.limit]
    parts = []
    for address, asked, negated in (
        (p.src, match.source, match.source_negated),
        (p.dst, match.destination, match.destination_negated),
    ):
        if asked:
            one = _is_of(address, asked, limit, road)
            parts.append(~one if negated else one)
    return t.all_of(parts)


def _is_of(address: Bv, asked: frozenset[r.RouteType], device: Bv, road: RoadIpv6) -> Bool:
    """What the address itself tells must fit all that is asked; of what its route tells one is enough."""
    t = address.terms
    group = road.is_multicast(address)
    fine = t.true
    if r.RouteType.MULTICAST in asked:
        fine = fine & group
    if r.RouteType.UNICAST in asked:
        fine = fine & ~(group | address.is_(0) | within(address, MAPPED))
    if r.RouteType.UNSPEC in asked:
        fine = fine & address.is_(0)
    if not asked & OF_ROUTES:
        return fine
    reached = road.reached(address, device).possible
    found = []
    if r.RouteType.LOCAL in asked:
        found.append(reached & road.is_own_of(address, device))
    if r.RouteType.ANYCAST in asked:
        found.append(reached & _is_anycast(address, device, road))
    if r.RouteType.UNREACHABLE in asked:
        found.append(~reached)
    return fine & t.any_of(found)


def _is_anycast(address: Bv, device: Bv, road: RoadIpv6) -> Bool:
    """One that this host has joined, or the first of an on-link prefix (include/net/ip6_route.h: ipv6_anycast_destination)."""
    t = address.terms
    by_route = t.false
    for route in reversed(road.routes):
        fits = within(address, route.net) & (device.is_(0) | device.is_(road.names.index(route.device)))
        length = route.net.length
        on_link = length is not None and length < 127 and route.via is None
        first = address.is_(route.net.address) if on_link else t.false
        by_route = (fits & first) | (~fits & by_route)
    joined = road.is_anycast(address, device)
    sent_on = ~road.is_multicast(address) & ~road.is_own_of(address, device) & by_route
    return joined | sent_on | address.is_(0xFF << 120)


# -- the way back (net/ipv6/netfilter/ip6t_rpfilter.c)


def reverse_path(match: r.ReversePath, p: SymPacket, road: RoadIpv6) -> Bool:
    t = p.terms
    over_lo = t.false if road.lo is None else p.in_iface.is_(road.lo)
    near = within(p.src, LINK_LOCAL)
    zone = t.choose(near, p.in_iface, t.number(0, 8))
    local = road.is_own_of(p.src, zone)
    anycast = road.is_anycast(p.src, zone)
    accepted = local if match.accept_local else t.false
    back = ~local & ~anycast & _way_back(match, p, zone, road)
    true = over_lo | p.src.is_(0) | accepted | back
    return ~true if match.negated else true


def _way_back(match: r.ReversePath, p: SymPacket, zone: Bv, road: RoadIpv6) -> Bool:
    """Of the routes with the longest prefix one leads there: with `loose` the first, else any by the in-interface."""
    t = p.terms
    same_net: dict[Net, list[Bool]] = {}
    firsts: dict[Net, Bool] = {}
    fits: dict[Net, list[Bool]] = {}
    for route in road.routes:
        index = road.names.index(route.device)
        asked = within(p.src, route.net) & (zone.is_(0) | zone.is_(index))
        unicast = t.truth(route.device is not None)
        before = t.any_of(fits.get(route.net, ()))
        firsts[route.net] = firsts.get(route.net, t.false) | (asked & ~before & unicast)
        fits.setdefault(route.net, []).append(asked)
        same_net.setdefault(route.net, []).append(asked & unicast & p.in_iface.is_(index))
    back = t.false
    for net in sorted(fits, key=lambda net: net.length or 0):
        found = t.any_of(fits[net])
        good = firsts[net] if match.loose else t.any_of(same_net[net])
        back = good | (~found & back)
    return back


# -- sockets, and NAT


def is_quoting(p: SymPacket) -> Bool:
    """An error, whose socket is that of the packet that it quotes."""
    return p.proto.is_(ICMPV6) & ~p.icmp_type.at_least(128)


def redirected(p: SymPacket, road: RoadIpv6) -> tuple[Bv, Bool]:
    """Where REDIRECT sends what comes from outside, and those packets for which there is no such address
    (net/netfilter/nf_nat_redirect.c: nf_nat_redirect_ipv6).
    """
    t = p.terms
    group, scope = road.is_multicast(p.dst), p.dst.extract(115, 112)
    near = within(p.dst, LINK_LOCAL) | (group & scope.is_(2))
    nowhere = within(p.dst, SITE_LOCAL) | (group & (scope.is_(1) | scope.is_(5)))
    compatible = within(p.dst, COMPATIBLE) & p.dst.at_least(2)
    address, none = p.dst, t.true
    for interface in road.host.interfaces:
        here = p.in_iface.is_(road.names.index(interface.name))
        theirs = [a.ip for a in interface.addresses]
        for wanted, cond in (
            (theirs, here & ~near & ~compatible & ~nowhere),
            (_among(theirs, LINK_LOCAL), here & near),
            (_among(theirs, COMPATIBLE), here & compatible),
        ):
            if wanted:
                address = t.choose(cond, t.number(wanted[0], 128), address)
                none = none & ~cond
    return address, none


def _among(addresses: list[int], net: Net) -> list[int]:
    return [ip for ip in addresses if ip & net.mask == net.address]
