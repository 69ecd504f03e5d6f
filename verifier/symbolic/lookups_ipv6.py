"""What an IPv6 host's own tables say to matches and NAT: what differs from IPv4's (`lookups`)."""

from __future__ import annotations

from .. import matches as r
from ..hosts import RouteKind
from ..values import ICMPV6, LINK_LOCAL, MAPPED, Ipv6Extension, Net
from .keys import Keys
from .matches import within
from .packets import SymPacket
from .routing_ipv6 import AskedIpv6, RoadIpv6
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
        taken = device.is_(0) & road.is_taken(address)
        found.append(reached & (road.is_own_of(address, device) | taken))
    if r.RouteType.ANYCAST in asked:
        found.append(reached & _is_anycast(address, device, road))
    if r.RouteType.UNREACHABLE in asked:
        found.append(~reached)
    return fine & t.any_of(found)


def _is_anycast(address: Bv, device: Bv, road: RoadIpv6) -> Bool:
    """One that this host has joined, or the first of an on-link prefix (include/net/ip6_route.h: ipv6_anycast_destination)."""
    t = address.terms
    by_route = t.any_of(
        cond & address.is_(route.net.address)
        for cond, route in road.taken(road.unsourced(address, device))
        if route.via is None and (route.net.length or 0) < 127
    )
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
    back = ~local & ~anycast & _way_back(match, p, near, road)
    true = over_lo | p.src.is_(0) | accepted | back
    return ~true if match.negated else true


def way_back_is_open(p: SymPacket, road: RoadIpv6) -> Bool:
    """Rules ask for the protocol, which the lookup takes to be the first extension header."""
    if "extensions" not in p.rare or all(rule.protocol is None for rule in road.host.routing_rules):
        return p.terms.false
    first = Ipv6Extension.HOP | Ipv6Extension.DST | Ipv6Extension.ROUTE | Ipv6Extension.AUTH
    return ~(p.field("extensions") & first).is_(0)


def _way_back(match: r.ReversePath, p: SymPacket, near: Bool, road: RoadIpv6) -> Bool:
    """A route from what the packet is sent to, if that may be a source, leads back: of several of one prefix, unless `loose`, one
    by the in-interface."""
    t = p.terms
    none = t.number(0, 8)
    sourced = ~(p.dst.is_(0) | road.is_multicast(p.dst) | within(p.dst, MAPPED))
    keys = Keys(p.mark if match.valid_mark else t.number(0, 32), proto=p.proto)
    zone = t.choose(near, p.in_iface, none)
    by = zone if match.loose else p.in_iface
    back = []
    for cond, route in road.taken(
        AskedIpv6(p.src, p.dst, sourced, keys, road.loopback, by, zone), preferring=True
    ):
        if route.kind is RouteKind.LOCAL:
            fine = t.truth(match.accept_local)
        else:
            fine = t.true if match.loose else p.in_iface.is_(road.names.index(route.device))
        back.append(cond & fine)
    return t.any_of(back)


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
