"""Where IPv6 packets go next: what differs from IPv4's ways (`routing`)."""

from __future__ import annotations

from msgspec import Struct

from ..hosts import Host, Interface, RouteKind
from ..values import ICMPV6, LINK_LOCAL, MAPPED, TCP, Family, Net
from .matches import within
from .packets import Names, SymPacket
from .routing import Arrived, Road, Sent
from .routing_rules import RoadByRules
from .terms import Bool, Bv, Terms

MULTICAST = Net.prefix(0xFF << 120, 8, Family.IPV6)
LOCALHOST = 1


def road_of(terms: Terms, host: Host, names: Names) -> Road:
    """A host's tables, as its family, and its rules, ask them."""
    if host.family is Family.IPV6:
        return RoadIpv6(terms, host, names)
    return RoadByRules(terms, host, names) if host.policy else Road(terms, host, names)


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
        return ~special & ~unrouted & self.route(address)[1]

    # -- what is sent (net/ipv6/route.c: ip6_route_output_flags)

    def output(self, src: Bv, dst: Bv, proto: Bv, device: Bv, mark: Bv) -> Sent:
        """`proto` 0, which no packet has, stands for a raw socket, which asks connect() for nothing."""
        socket, tcp, bound = ~proto.is_(0), proto.is_(TCP), ~device.is_(0)
        found = self.reached(dst, device)
        group = self.is_multicast(dst)
        zoneless = within(dst, LINK_LOCAL) & ~bound
        refused = (tcp & (group | zoneless)) | (socket & within(dst, MAPPED)) | dst.is_(0)
        return Sent(found.out, found.possible & ~refused, group)

    def output_back(self, dst: Bv, proto: Bv, device: Bv) -> Sent:
        """The way of an answer: nobody connects, and what it answers names the zone."""
        found = self.reached(dst, device)
        refused = (proto.is_(TCP) & found.group) | (~proto.is_(ICMPV6) & within(dst, MAPPED))
        return Sent(found.out, found.possible & ~refused, found.group)

    def output_again(self, src: Bv, dst: Bv, device: Bv, mark: Bv) -> Sent:
        return self.reached(dst, device)

    def reached(self, dst: Bv, device: Bv) -> Sent:
        """The route to the address, whoever asks; with a device (0: none) by that one."""
        t = self.terms
        group = self.is_multicast(dst)
        out, possible, _ = self.route(dst, device)
        if self.lo is not None:
            here = self.is_own_of(dst, device) | self.is_anycast(dst, device)
            out = t.choose(here, t.number(self.lo, 8), out)
            possible = possible | here
        first = next((self.names.index(i.name) for i in self.host.interfaces if i.name != "lo"), 0)
        bound = ~device.is_(0)
        out = t.choose(group, t.choose(bound, device, t.number(first, 8)), out)
        on_lo = t.false if self.lo is None else device.is_(self.lo)
        possible = (group & (bound | t.truth(first > 0)) & ~on_lo) | (~group & possible)
        return Sent(out, possible, group)

    def is_in_its_zone(self, p: SymPacket, out: Bv) -> Bool:
        """A socket may send the packet by `out` from its link-local address: by the interface that has it, or to one that
        has no other link (net/ipv6/af_inet6.c: __inet6_bind).
        """
        t = self.terms
        near = within(p.dst, LINK_LOCAL) | self.is_multicast(p.dst)
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

    def source_for(self, dst: Bv) -> Chosen:
        """What the kernel binds a socket to that has bound nothing."""
        t = self.terms
        zero = t.number(0, 128)
        found = Chosen(zero, t.true, t.false)
        for route in reversed(self.routes):
            fits = within(dst, route.net)
            if route.kind is not RouteKind.UNICAST or route.device is None:
                here = Chosen(zero, t.true, t.false)
            elif route.source is not None:
                here = Chosen(t.number(route.source, 128), t.false, t.false)
            else:
                here = self.candidates(dst, self.host.interface(route.device))
            found = self._choose(fits, here, found)
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
        theirs = [a.ip for a in interface.addresses]
        everywhere = [a.ip for a, _ in self.own]
        mine = (
            [ip for ip in theirs if _is_near(ip)] or theirs,
            [ip for ip in theirs if not _is_near(ip)]
            or [ip for ip in everywhere if not _is_near(ip)]
            or [ip for ip in theirs if _is_near(ip)]
            or everywhere,
        )
        found = self._choose(near, *map(self._the_one, mine))
        index = self.names.index(interface.name)
        itself = (~near & self.is_own(dst)) | (near & self._local_device(dst, index))
        return self._choose(itself, Chosen(dst, self.terms.false, self.terms.false), found)

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
        rest = ~group & ~local & ~anycast
        out, unicast, _ = self.route(p.dst, zone)
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
    return ip == LOCALHOST or ip & LINK_LOCAL.mask == LINK_LOCAL.address
