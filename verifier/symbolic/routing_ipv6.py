"""Where IPv6 packets go next: what differs from IPv4's ways (`routing`)."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from ..hosts import Host, Interface, Route, RouteKind
from ..values import ICMPV6, LINK_LOCAL, MAPPED, TCP, Family, Net
from .keys import Keys, of_arriving
from .matches import within
from .packets import Names, SymPacket
from .routing import Arrived, Road, Sent
from .routing_rules import Way
from .terms import Bool, Bv, Terms

MULTICAST = Net.prefix(0xFF << 120, 8, Family.IPV6)
LOCALHOST = 1


class AskedIpv6(Struct, frozen=True):
    """What a route is looked up for: with the source if it is `sourced`, and leaving by the device, if that is not 0; rules that
    ask for `oif` are asked about `by`.
    """

    dst: Bv
    src: Bv
    sourced: Bool
    keys: Keys
    in_iface: Bv
    by: Bv
    device: Bv


class Chosen(Struct, frozen=True):
    """The source that the kernel selects; 0 where it has none, or one of several and nobody knows which."""

    address: Bv
    none: Bool
    several: Bool


class RoadIpv6(Road):
    """An IPv6 host's tables: no broadcast, but anycast addresses, and addresses that mean something on one interface alone."""

    def __init__(self, terms: Terms, host: Host, names: Names) -> None:
        super().__init__(terms, host, names)
        self.anycast: dict[int, set[int]] = {}
        if host.sysctls.get("net.ipv6.conf.all.forwarding", 0):
            for a, name in self.own:
                if a.length < 127 and a.net.address:
                    self.anycast.setdefault(a.net.address, set()).add(names.index(name))

    # -- kinds of addresses

    def is_broadcast(self, address: Bv) -> Bool:
        return self.terms.false

    def is_local(self, address: Bv) -> Bool:
        return self.is_own(address)

    def is_multicast(self, address: Bv) -> Bool:
        return within(address, MULTICAST)

    def is_near(self, address: Bv) -> Bool:
        """It means another thing on every interface."""
        return within(address, LINK_LOCAL) | address.is_(LOCALHOST)

    def is_shared(self, dst: Bv) -> Bool:
        return self.is_anycast(dst)

    def is_anycast(self, address: Bv, device: Bv | None = None) -> Bool:
        """Of one of the device's subnets; with no device (0), of any interface's."""
        t = self.terms
        return t.any_of(
            address.is_(ip) & (t.true if device is None else _one_of(device, (0, *sorted(devices))))
            for ip, devices in self.anycast.items()
        )

    def is_own_of(self, address: Bv, device: Bv) -> Bool:
        """An address of the device; with no device (0), of any interface."""
        return self.terms.any_of(
            address.is_(a.ip) & _one_of(device, (0, self.names.index(name))) for a, name in self.own
        )

    def is_unicast(self, address: Bv) -> Bool:
        special = self.is_own(address) | self.is_anycast(address) | self.is_multicast(address)
        unrouted = address.is_(0) | within(address, MAPPED)
        return ~special & ~unrouted & self.way(self.unsourced(address)).unicast

    def is_taken(self, address: Bv) -> Bool:
        """A route to this host leads there that is none of the local table's."""
        special = self.is_own(address) | self.is_anycast(address) | self.is_multicast(address)
        return ~special & self.way(self.unsourced(address)).local

    # -- the lookup (net/ipv6/route.c: fib6_table_lookup, rt6_score_route, rt6_device_match)

    def unsourced(self, dst: Bv, device: Bv | None = None, keys: Keys | None = None) -> AskedIpv6:
        """What a route is looked up for without a source."""
        t = self.terms
        by = t.number(0, 8) if device is None else device
        asked = Keys(t.number(0, 32)) if keys is None else keys
        return AskedIpv6(dst, t.number(0, 128), t.false, asked, self.loopback, by, by)

    @property
    def loopback(self) -> Bv:
        """Where what is sent here comes in."""
        return self.terms.number(self.lo or 0, 8)

    def way(self, asked: AskedIpv6) -> Way:
        t = self.terms
        out, unicast, local = t.number(0, 8), t.false, t.false
        for cond, route in self.taken(asked):
            out = t.choose(cond, t.number(self.names.index(route.device), 8), out)
            if route.kind is RouteKind.LOCAL:
                local = local | cond
            else:
                unicast = unicast | cond
        return Way(out, unicast, local)

    def taken(self, asked: AskedIpv6, *, preferring: bool = False) -> list[tuple[Bool, Route]]:
        """The routes that lookups find, each with what it is found for; what ends a lookup without a route is left out."""
        found = self.of_table(self.routes, asked, preferring)
        return [(cond, route) for cond, route in found if route.kind is RouteKind.UNICAST]

    def of_table(self, routes: list[Route], asked: AskedIpv6, preferring: bool) -> list[tuple[Bool, Route]]:
        """Which route of a table is found, leading somewhere or not, for what; what leads nowhere is a route of lo.

        `preferring`: of those of the longest prefix not the first, but the first that leaves by `by`, or by that of a
        link-local source, if there is one.
        """
        t = self.terms
        found = []
        rest = t.true
        for net in dict.fromkeys(route.net for route in routes):
            here = rest & within(asked.dst, net)
            alike = [route for route in routes if route.net == net]
            indices = [self.names.index(route.device or "lo") for route in alike]
            fits = [here & (asked.device.is_(0) | asked.device.is_(index)) for index in indices]
            wanted = [
                fit & self._is_wanted(asked, index) if preferring else t.false
                for fit, index in zip(fits, indices, strict=True)
            ]
            some = t.any_of(wanted)
            for n, route in enumerate(alike):
                first = fits[n] & ~t.any_of(fits[:n]) & ~some
                found.append((first | (wanted[n] & ~t.any_of(wanted[:n])), route))
            rest = rest & ~t.any_of(fits)
        return found

    def _is_wanted(self, asked: AskedIpv6, index: int) -> Bool:
        theirs = [a.ip for a, name in self.own if self.names.index(name) == index and _is_linked(a.ip)]
        from_there = asked.sourced & self.terms.any_of(asked.src.is_(ip) for ip in theirs)
        return asked.by.is_(index) | (asked.by.is_(0) & from_there)

    # -- what is sent (net/ipv6/route.c: ip6_route_output_flags)

    def output(self, src: Bv, dst: Bv, proto: Bv, device: Bv, keys: Keys) -> Sent:
        """`proto` 0, which no packet has, stands for a raw socket, which asks connect() for nothing."""
        socket, tcp, bound = ~proto.is_(0), proto.is_(TCP), ~device.is_(0)
        found = self.reached(dst, device, src, keys)
        group = self.is_multicast(dst)
        zoneless = within(dst, LINK_LOCAL) & ~bound
        refused = (tcp & (group | zoneless)) | (socket & within(dst, MAPPED)) | dst.is_(0)
        return Sent(found.out, found.possible & ~refused, group)

    def output_back(self, src: Bv, dst: Bv, proto: Bv, device: Bv, keys: Keys, by: Bv) -> Sent:
        """The way of an answer: nobody connects, and what it answers names the zone."""
        found = self.reached(dst, device, src, keys, by)
        refused = (proto.is_(TCP) & found.group) | (~proto.is_(ICMPV6) & within(dst, MAPPED))
        return Sent(found.out, found.possible & ~refused, found.group)

    def output_again(self, src: Bv, dst: Bv, device: Bv, keys: Keys) -> Sent:
        return self.reached(dst, device, src, keys)

    def reached(
        self, dst: Bv, device: Bv, src: Bv | None = None, keys: Keys | None = None, by: Bv | None = None
    ) -> Sent:
        """The route to the address, whoever asks; with a device (0: none) by that one.  A source of 0 is none."""
        t = self.terms
        group = self.is_multicast(dst)
        asked = self.unsourced(dst, device, keys)
        if src is not None:
            asked = replace(asked, src=src, sourced=~src.is_(0))
        way = self.way(asked if by is None else replace(asked, by=by))
        out, possible = way.out, way.unicast | way.local
        if self.lo is not None:
            here = self.is_own_of(dst, device) | self.is_anycast(dst, device)
            out = t.choose(here, t.number(self.lo, 8), out)
            possible = possible | here
        first = next((self.names.index(i.name) for i in self.host.interfaces if i.name != "lo"), 0)
        bound = ~device.is_(0)
        on_lo = t.false if self.lo is None else device.is_(self.lo)
        joined = group & (bound | t.truth(first > 0)) & ~on_lo
        out = t.choose(joined, t.choose(bound, device, t.number(first, 8)), out)
        return Sent(out, joined | possible, group)

    @property
    def lends_to_any(self) -> bool:
        return any(not _is_near(a.ip) for a, _ in self.own)

    def has_lost_its_link(self, p: SymPacket, before: Bv) -> Bool:
        """It went over lo, to a link-local address of an interface, and is routed anew by what lo itself has."""
        return self.terms.false

    def is_in_its_zone(self, p: SymPacket, out: Bv) -> Bool:
        """A socket may send the packet by `out` from its link-local address: by the interface that has it, or to one that
        has no other link (net/ipv6/af_inet6.c: __inet6_bind).
        """
        t = self.terms
        # What is on lo for this host is on the link of the interface that has it, whatever lo itself has.
        near = (within(p.dst, LINK_LOCAL) & ~self.is_own(p.dst)) | self.is_multicast(p.dst)
        zones = []
        for interface in self.host.interfaces:
            index = self.names.index(interface.name)
            theirs = [a.ip for a in interface.addresses]
            from_here = t.any_of(p.src.is_(ip) for ip in theirs)
            to_here = within(p.dst, LINK_LOCAL) & t.any_of(p.dst.is_(ip) for ip in theirs)
            free = p.device.is_(0) & ((near & out.is_(index)) | to_here)
            zones.append(from_here & (p.device.is_(index) | free))
        return t.any_of(zones)

    # -- source selection (net/ipv6/addrconf.c: ipv6_dev_get_saddr)

    def source_for(self, dst: Bv, keys: Keys) -> Chosen:
        """What the kernel binds a socket to that has bound nothing; where rules ask for sources, and there is no route without
        one, it is looked for without a device, and the route once more (net/ipv6/ip6_output.c: ip6_dst_lookup_tail).
        """
        t = self.terms
        again = t.truth(self.asks_for_sources)
        found = Chosen(t.number(0, 128), ~again, again)
        for cond, route in self.taken(self.unsourced(dst, keys=keys)):
            if route.source is not None:
                here = Chosen(t.number(route.source, 128), t.false, t.false)
            else:
                here = self.candidates(dst, self.host.interface(route.device or ""))
            found = self._choose(cond, here, found)
        for ip, devices in self.anycast.items():
            first = next(i for i in self.host.interfaces if self.names.index(i.name) in devices)
            found = self._choose(dst.is_(ip), self.candidates(dst, first), found)
        return self._choose(self.is_own(dst), Chosen(dst, t.false, t.false), found)

    def source_by(self, dst: Bv, device: Bv) -> Chosen:
        """What a packet to this address is sent from by the device, one of the host's."""
        t = self.terms
        found = Chosen(t.number(0, 128), t.true, t.false)
        for interface in self.host.interfaces:
            here = device.is_(self.names.index(interface.name))
            found = self._choose(here, self.candidates(dst, interface), found)
        return found

    def candidates(self, dst: Bv, interface: Interface) -> Chosen:
        near = self.is_near(dst)
        found = self._choose(near, *map(self._the_one, self.lists(interface)))
        index = self.names.index(interface.name)
        itself = (~near & self.is_own(dst)) | (near & self._local_device(dst, index))
        return self._choose(itself, Chosen(dst, self.terms.false, self.terms.false), found)

    def lists(self, interface: Interface) -> tuple[list[int], list[int]]:
        """The addresses that come into question towards what is near, and towards what is not."""
        theirs = [a.ip for a in interface.addresses]
        everywhere = [a.ip for a, _ in self.own]
        return (
            [ip for ip in theirs if _is_near(ip)] or theirs,
            [ip for ip in theirs if not _is_near(ip)]
            or [ip for ip in everywhere if not _is_near(ip)]
            or [ip for ip in theirs if _is_near(ip)]
            or everywhere,
        )

    def _the_one(self, addresses: list[int]) -> Chosen:
        t = self.terms
        only = addresses[0] if len(addresses) == 1 else 0
        return Chosen(t.number(only, 128), t.truth(not addresses), t.truth(len(addresses) > 1))

    def _choose(self, cond: Bool, yes: Chosen, no: Chosen) -> Chosen:
        return Chosen(
            self.terms.choose(cond, yes.address, no.address),
            (cond & yes.none) | (~cond & no.none),
            (cond & yes.several) | (~cond & no.several),
        )

    # -- what arrives

    def refused(self, p: SymPacket) -> Bool:
        """What is dropped before any rule sees it (net/ipv6/ip6_input.c: ip6_rcv_core)."""
        scope = p.dst.extract(115, 112)
        return (
            p.src.is_(LOCALHOST)
            | p.dst.is_(LOCALHOST)
            | self.is_multicast(p.src)
            | (self.is_multicast(p.dst) & scope.at_most(1))
        )

    def input(self, p: SymPacket) -> Arrived:
        """net/ipv6/route.c: ip6_route_input_lookup; net/ipv6/ip6_output.c: ip6_forward."""
        t = self.terms
        group = self.is_multicast(p.dst)
        zone = t.choose(self.is_near(p.dst), p.in_iface, t.number(0, 8))
        local = ~group & self.is_own_of(p.dst, zone)
        anycast = ~group & self.is_anycast(p.dst, zone)
        none = t.number(0, 8)
        keys = of_arriving(self.host, p)
        way = self.way(AskedIpv6(p.dst, p.src, t.true, keys, p.in_iface, none, zone))
        local = local | (~group & ~anycast & ~local & way.local)
        rest = ~group & ~local & ~anycast
        out, unicast = way.out, way.unicast
        forwarding = t.truth(bool(self.host.sysctls.get("net.ipv6.conf.all.forwarding", 0)))
        goes = rest & forwarding & unicast
        bound_here = (within(p.src, LINK_LOCAL) | p.src.is_(0)) & ~out.is_(p.in_iface)
        return Arrived(
            local=local,
            broadcast=anycast,
            forward=goes & ~bound_here,
            group=group,
            martian=goes & bound_here,
            not_forwarded=rest & ~forwarding,
            no_route=rest & forwarding & ~unicast,
            out=out,
        )


def _one_of(device: Bv, indices: tuple[int, ...]) -> Bool:
    return device.terms.any_of(device.is_(index) for index in indices)


def _is_near(ip: int) -> bool:
    return ip == LOCALHOST or _is_linked(ip)


def _is_linked(ip: int) -> bool:
    return ip & LINK_LOCAL.mask == LINK_LOCAL.address
