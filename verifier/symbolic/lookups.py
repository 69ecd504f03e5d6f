"""What matches ask of the host's own tables: what kind an address is, the way back, who listens; and, all told,
when a match holds on a host.
"""

from __future__ import annotations

from msgspec import Struct

from .. import rules as r
from ..asked import counters_of, groups_of
from ..hosts import Address, Interface
from ..sets import Counting
from ..values import ALL_32, ICMP, TCP, UDP, Family, Ids, Net
from .established import has
from .lookups_ipv6 import is_quoting, types_are_open, way_back_is_open
from .lookups_ipv6 import reverse_path as reverse_path_ipv6
from .lookups_ipv6 import types as types_ipv6
from .matches import among, within
from .matches import holds as holds_anywhere
from .packets import Given, SymPacket
from .routing import MULTICAST, Road
from .routing_ipv6 import RoadIpv6
from .sets import Membership
from .sets import holds as in_set
from .terms import Bool, Bv

LOCAL_GROUPS = Net.prefix(0xE0000000, 24)


def holds(match: r.Match, p: SymPacket, road: Road) -> Bool:
    """The packets for which `match`, taken un-negated, is true on this host; a choice is not asked here."""
    match match:
        case r.AddressType():
            return types_ipv6(match, p, road) if isinstance(road, RoadIpv6) else _types(match, p, road)
        case r.ReversePath():
            return (
                reverse_path_ipv6(match, p, road)
                if isinstance(road, RoadIpv6)
                else _reverse_path(match, p, road)
            )
        case r.SocketMatch():
            return socket(match, p, road)
        case r.OwnerIds() if match.supplementary:
            return _owner(match, p, road)
        case r.MatchSet():
            members = _members(match, p, road)
            if members is None:
                raise AssertionError(f"what is in {match.name} nobody knows: `is_open`")
            return members.inside
        case _:
            return holds_anywhere(match, p, road.names)


def asks_the_host(match: r.Match) -> bool:
    """True iff the host decides it: its addresses, routes, sockets, ip sets or bridges, or that its packets come whole."""
    if isinstance(match, r.OwnerIds):
        return match.supplementary
    return isinstance(
        match, r.AddressType | r.ReversePath | r.SocketMatch | r.MatchSet | r.Physdev | r.Fragment
    )


def is_open(match: r.Match, p: SymPacket, road: Road) -> Bool:
    """The packets of which nobody can say whether the match, which is no choice, holds on this host."""
    match match:
        case r.SocketMatch():
            return socket_is_open(match, p, road)
        case r.AddressType():
            return p.terms.truth(isinstance(road, RoadIpv6) and types_are_open(match))
        case r.ReversePath():
            return way_back_is_open(p, road) if isinstance(road, RoadIpv6) else p.terms.false
        case r.MatchSet():
            members = _members(match, p, road)
            counts = counters_of(match, road.host)
            if members is None or counts is Counting.UNKNOWN:
                return p.terms.true
            return members.passing | (members.inside if counts is Counting.COUNTERS else members.unknown)
        case _:
            return p.terms.false


def _owner(match: r.OwnerIds, p: SymPacket, road: Road) -> Bool:
    """With a socket alone, whose groups are the gid and those of its process."""
    if match.socket_negated or match.gid is None:
        return p.terms.false
    groups = p.field("groups")
    further = [groups.is_(n) for n, its in enumerate(groups_of(road.host)) if _some_in(its, match.gid)]
    in_group = among(p.gid, match.gid) | p.terms.any_of(further)
    parts = [p.socket, ~in_group if match.gid_negated else in_group]
    if match.uid is not None:
        owned = among(p.uid, match.uid)
        parts.append(~owned if match.uid_negated else owned)
    return p.terms.all_of(parts)


def _some_in(groups: tuple[int, ...], ids: Ids) -> bool:
    return any(group in range(ids.first, ids.last + 1) for group in groups)


def _members(match: r.MatchSet, p: SymPacket, road: Road) -> Membership | None:
    known = road.host.sets
    if match.name not in known:
        return None
    return in_set(known[match.name], known, p, road.names, match.directions, match.return_nomatch)


# -- kinds of addresses (net/netfilter/xt_addrtype.c, net/ipv4/fib_frontend.c: __inet_dev_addr_type)


def _types(match: r.AddressType, p: SymPacket, road: Road) -> Bool:
    t = p.terms
    limit = {None: None, r.Limit.IN: p.in_iface, r.Limit.OUT: p.out_iface}[match.limit]
    parts = []
    for address, types, negated in (
        (p.src, match.source, match.source_negated),
        (p.dst, match.destination, match.destination_negated),
    ):
        if types:
            one = _is_of(address, types, limit, road)
            parts.append(~one if negated else one)
    return t.all_of(parts)


def _is_of(address: Bv, types: frozenset[r.RouteType], limit: Bv | None, road: Road) -> Bool:
    """The local table alone is asked, and with a limit only for what is that interface's."""
    t = address.terms
    fixed = address.is_(0) | address.is_(ALL_32)
    group = within(address, MULTICAST)
    local, broadcast = [], []
    for index, interface in enumerate(road.names.interfaces):
        here = t.true if limit is None else limit.is_(0) | limit.is_(index)
        local.append(here & owned_by(address, interface, road))
        broadcast.append(here & _broadcast_of(address, interface, road))
    of_table = {
        r.RouteType.LOCAL: t.any_of(local),
        r.RouteType.BROADCAST: t.any_of(broadcast),
    }
    found = []
    if r.RouteType.BROADCAST in types:
        found.append(fixed)
    if r.RouteType.MULTICAST in types:
        found.append(group)
    searched = ~fixed & ~group
    for kind, true in of_table.items():
        if kind in types:
            found.append(searched & true)
    if r.RouteType.UNICAST in types:
        found.append(searched & ~t.any_of(of_table.values()))
    return t.any_of(found)


def owned_by(address: Bv, interface: str, road: Road) -> Bool:
    """The local table says local, and names this interface."""
    t = address.terms
    own = t.any_of(address.is_(a.ip) for a, name in road.own if name == interface)
    if interface != "lo":
        return own
    return own | (road.is_local(address) & ~road.is_own(address))


def _broadcast_of(address: Bv, interface: str, road: Road) -> Bool:
    return address.terms.any_of(
        address.is_(last) for last, name in road.last_addresses.items() if name == interface
    )


# -- the way back (net/ipv4/netfilter/ipt_rpfilter.c: rpfilter_mt)


def _reverse_path(match: r.ReversePath, p: SymPacket, road: Road) -> Bool:
    t = p.terms
    over_lo = t.false if road.lo is None else p.in_iface.is_(road.lo)
    unbound = p.src.is_(0) & (p.dst.is_(ALL_32) | within(p.dst, LOCAL_GROUPS))
    in_local_table = road.is_own(p.src) | t.any_of(within(p.src, net) for net in road.lo_nets)
    broadcast = t.any_of(p.src.is_(last) for last in road.last_addresses)
    out, unicast, taken = road.way_back(p, match.valid_mark)
    decided = road.decided_back(p, match.valid_mark)
    same = t.true if match.loose else out.is_(p.in_iface)
    found = unicast | taken if match.accept_local else unicast
    back = (decided | (~in_local_table & ~broadcast)) & found & same
    if match.accept_local:
        owners = []
        for index, interface in enumerate(road.names.interfaces):
            here = t.true if match.loose else p.in_iface.is_(index)
            owners.append(here & owned_by(p.src, interface, road))
        back = back | (~decided & t.any_of(owners))
    true = over_lo | unbound | back
    return ~true if match.negated else true


# -- sockets (net/netfilter/xt_socket.c: socket_match, net/ipv4/netfilter/nf_socket_ipv4.c)


def socket(match: r.SocketMatch, p: SymPacket, road: Road) -> Bool:
    """The packet's connection has a socket here, transparent where that is asked; or some listener would be found.  What an ICMP
    error quotes is not asked, nor what TPROXY has given: see `socket_is_open`.
    """
    listens = _listens(match, p, road)
    if not p.accepted:
        return listens
    theirs = [(has(a, p, p.in_iface), a.listener) for a in p.accepted]
    its_own = p.terms.any_of(fits for fits, x in theirs if x.transparent or not match.transparent)
    return its_own | (listens & ~p.terms.any_of(fits for fits, _ in theirs))


def _listens(match: r.SocketMatch, p: SymPacket, road: Road) -> Bool:
    """Some listener would be found, bound to the very address unless the wildcard counts, and transparent where that is
    asked: whatever the flags of a TCP packet, and by the device that it comes in by, which over lo is lo.
    """
    t = p.terms
    if match.transparent:
        return t.any_of(
            cond
            for cond, _, listener in road.found(p, over_lo=False, kinds=_with_sockets(p))
            if listener.transparent and (listener.address is not None or match.nowildcard)
        )
    found = []
    for process in road.host.processes:
        for listener in process.listens:
            if listener.protocol not in (TCP, UDP) or (listener.address is None and not match.nowildcard):
                continue
            parts = [p.proto.is_(listener.protocol), p.dport.is_(listener.port)]
            if listener.address is not None:
                parts.append(p.dst.is_(listener.address))
            if listener.device is not None:
                parts.append(p.in_iface.is_(road.names.index(listener.device)))
            found.append(t.all_of(parts))
    return t.any_of(found)


ICMP_ERRORS = (3, 4, 5, 11, 12)


def socket_is_open(match: r.SocketMatch, p: SymPacket, road: Road) -> Bool:
    """The packets of which nobody can say whether the match holds: an ICMP error's socket is that of the packet that
    it quotes, and what TPROXY has given a socket is asked about that one.
    """
    if p.family is Family.IPV4:
        error = p.proto.is_(ICMP) & p.terms.any_of(p.icmp_type.is_(kind) for kind in ICMP_ERRORS)
    else:
        error = is_quoting(p)
    return error | p.is_given


def _with_sockets(p: SymPacket) -> dict[int, Bool]:
    return {proto: p.proto.is_(proto) for proto in (TCP, UDP)}


# -- TPROXY (net/netfilter/xt_TPROXY.c: tproxy_tg4, tproxy_tg6_v1)


class Intercepted(Struct, frozen=True):
    """The transparent sockets that are found, with the packets for which they are; of those in `doubt` nobody knows."""

    given: list[Given]
    doubt: Bool


def intercepting(target: r.Tproxy, p: SymPacket, road: Road) -> Intercepted:
    """The sockets that TPROXY finds for packets of TCP and UDP: where the most specific is not transparent there is none.  That
    of a packet's own connection is found first."""
    t = p.terms
    port = t.number(target.port, 16) if target.port else p.dport
    theirs = [(has(a, p, p.in_iface), a) for a in p.accepted]
    given = [Given(fits, a.process, a.listener, fits) for fits, a in theirs if a.listener.transparent]
    free = ~t.any_of(fits for fits, _ in theirs)
    doubt = t.false
    for cond, addresses in _asked_for(target, p, road):
        looked = [
            road.found(p.but(dst=to, dport=port), over_lo=False, kinds=_with_sockets(p)) for to in addresses
        ]
        each = [t.all_of(fits for fits, _, _ in one) for one in zip(*looked, strict=True)]
        sockets = [(process, listener) for _, process, listener in looked[0]]
        given += [
            Given(free & cond & every, process, listener, t.false)
            for every, (process, listener) in zip(each, sockets, strict=True)
            if listener.transparent
        ]
        if len(addresses) > 1:
            some = t.any_of(fits for found in looked for fits, _, _ in found)
            doubt = doubt | (free & cond & some & ~t.any_of(each))
    return Intercepted(given, doubt)


def _asked_for(target: r.Tproxy, p: SymPacket, road: Road) -> list[tuple[Bool, list[Bv]]]:
    """The address of the socket that is looked for, by packets: that which is given, else the in-interface's first, which of
    several in IPv6 may be any, else the packet's own destination (net/ipv4/netfilter/nf_tproxy_ipv4.c: nf_tproxy_laddr4,
    net/ipv6/netfilter/nf_tproxy_ipv6.c: nf_tproxy_laddr6).
    """
    t = p.terms
    if target.address:
        return [(t.true, [t.number(target.address, p.dst.width)])]
    found = []
    rest = t.true
    for interface in road.host.interfaces:
        first = interface.addresses[: 1 if p.family is Family.IPV4 else None]
        if first:
            here = p.in_iface.is_(road.names.index(interface.name))
            rest = rest & ~here
            found.append((here, [t.number(a.ip, p.dst.width) for a in first]))
    return [one for one in [*found, (rest, [p.dst])] if one[0].const is not False]


# -- the address that an interface sends from (net/ipv4/devinet.c: inet_select_addr)


def sending_address(p: SymPacket, road: Road) -> Bv:
    """The out-interface's address in whose subnet the next hop lies, else its first, else the first of any other;
    0 where there is none.  Secondary addresses and those of 127.0.0.0/8 are not lent.
    """
    t = p.terms
    none = t.number(0, 32)
    elsewhere = none
    for interface in reversed(road.host.interfaces):
        for address in _lent(interface)[:1]:
            elsewhere = t.number(address.ip, 32)
    next_hop: Bv | None = None
    found = none
    for interface in road.host.interfaces:
        there = _lent(interface)
        one = t.number(there[0].ip, 32) if there else elsewhere
        if len(there) > 1:
            next_hop = next_hop or _next_hop(p, road)
            for address in reversed(there):
                one = t.choose(within(next_hop, address.net), t.number(address.ip, 32), one)
        found = t.choose(p.out_iface.is_(road.names.index(interface.name)), one, found)
    return found


def sending_is_open(p: SymPacket, road: Road) -> Bool:
    """Which of its interface's addresses it is sent from nobody knows: it is that of its gateway's subnet, and which
    routing rule it went by is not told.
    """
    t = p.terms
    if not road.host.policy:
        return t.false
    several = [road.names.index(i.name) for i in road.host.interfaces if len(_lent(i)) > 1]
    return t.any_of(p.out_iface.is_(index) for index in several)


def _lent(interface: Interface) -> list[Address]:
    primary = {a.net: a for a in reversed(interface.addresses)}
    return [a for a in interface.addresses if primary[a.net] is a and a.ip >> 24 != 127]


def _next_hop(p: SymPacket, road: Road) -> Bv:
    """The gateway of the route that it goes by; its destination where it has none, also where the longest prefix leads nowhere
    and the socket's device takes it there all the same."""
    t = p.terms
    hop = p.dst
    for route in reversed(road.routes):
        fits = within(p.dst, route.net)
        if route.device is not None:
            fits = fits & (p.device.is_(0) | p.device.is_(road.names.index(route.device)))
        hop = t.choose(fits, p.dst if route.via is None else t.number(route.via, 32), hop)
    return hop if road.lo is None else t.choose(p.out_iface.is_(road.lo), p.dst, hop)
