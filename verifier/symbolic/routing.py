"""Where packets go next, as terms: address kinds, routing of what is sent and of what arrives, source
selection, and which listener gets a packet; of IPv4, and what IPv6 has in common with it (`routing_ipv6`).

A host's tables are constants, so each decision is one chain of if-then-else over its routes, the most
specific first.  The decisions and their sources in the kernel are told in docs/journeys.md.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from ..hosts import Host, Listener, Process, Route, RouteKind
from ..values import ALL_32, TCP, UDP, AddressSet, Family, HostAddresses, Net, Special, TcpFlag
from .keys import Keys, may_be_of_sent, of_connecting, of_sent, reads_headers
from .matches import within
from .packets import Names, SymPacket
from .terms import Bool, Bv, Terms

LOOPBACK = Net.prefix(0x7F000000, 8)
MULTICAST = Net.prefix(0xE0000000, 4)
EVERYONE = Net.prefix(ALL_32, 32)


class Sent(Struct, frozen=True):
    """The first routing decision: the out-interface, whether there is one, and whether it is a group address."""

    out: Bv
    possible: Bool
    group: Bool


class First(Struct, frozen=True):
    """What routing rules say before the local table is asked: where it is `decided` that table says nothing."""

    decided: Bool
    out: Bv
    possible: Bool


class Arrived(Struct, frozen=True):
    """What becomes of a packet that arrives; the conditions are disjoint and cover everything."""

    local: Bool
    broadcast: Bool
    forward: Bool
    group: Bool
    martian: Bool
    not_forwarded: Bool
    no_route: Bool
    out: Bv


class Road:
    """A host's tables, prepared for being asked about terms."""

    def __init__(self, terms: Terms, host: Host, names: Names) -> None:
        self.terms = terms
        self.host = host
        self.names = names
        self.own = [(a, i.name) for i in host.interfaces for a in i.addresses]
        own = {a.ip for a, _ in self.own}
        self.lendable = [a.ip for a, _ in self.own if a.ip >> 24 != 127]
        self.lo_nets = sorted((a.net for a, name in self.own if name == "lo"), key=lambda net: -net.mask)
        self.last_addresses: dict[int, str] = {}
        subnets: list[tuple[int, str]] = []
        for a, name in self.own if host.family is Family.IPV4 else ():
            last = a.net.address | (ALL_32 & ~a.net.mask)
            if a.length < 31 and last not in own:
                self.last_addresses.setdefault(last, name)
                subnets.append((last, name))
        # Two interfaces may have one broadcast address: of a socket without a device the first one has it.
        self.broadcast_devices = tuple(reversed(subnets))
        self.routes = sorted(host.routes, key=lambda route: (-(route.net.length or 0), route.metric))
        self.asks_for_sources = any(rule.source is not None for rule in host.routing_rules)
        of_sent_here = [rule for rule in host.routing_rules if may_be_of_sent(rule)]
        self.asks_for_source_ports = any(rule.source_ports is not None for rule in of_sent_here)
        self.asks_for_what_is_written = self.asks_for_sources or any(
            rule.tos is not None or reads_headers(rule) for rule in of_sent_here
        )
        """Rules ask for what a socket that writes headers itself has not told the kernel when it asks for the route."""
        self.asks_for_lengths = False
        """A socket that writes IPv6 headers may have other ways than another: rules suppress what routes of some lengths say."""
        self.lo = names.index("lo") if "lo" in names.interfaces else None

    # -- sysctls

    def _key(self, interface: str, key: str, default: int = 0) -> int:
        return self.host.sysctls.get(f"net.ipv4.conf.{interface}.{key}", default)

    def _either(self, interface: str, key: str, default: int = 0) -> bool:
        return bool(self._key("all", key) or self._key(interface, key, default))

    def _where(self, field: Bv, key: str, default: int = 0) -> Bool:
        """The interface (a field) is one for which the sysctl holds, there or for all."""
        return self.terms.any_of(
            field.is_(self.names.index(i.name))
            for i in self.host.interfaces
            if self._either(i.name, key, default)
        )

    # -- kinds of addresses

    def is_own(self, address: Bv) -> Bool:
        return self.terms.any_of(address.is_(a.ip) for a, _ in self.own)

    def is_broadcast(self, address: Bv) -> Bool:
        return self.terms.any_of(address.is_(b) for b in (ALL_32, *self.last_addresses))

    def is_local(self, address: Bv) -> Bool:
        of_lo = self.terms.any_of(within(address, net) for net in self.lo_nets)
        return self.is_own(address) | (of_lo & ~self.is_broadcast(address))

    def is_multicast(self, address: Bv) -> Bool:
        return within(address, MULTICAST)

    def is_shared(self, dst: Bv) -> Bool:
        """What was sent to this address, and came over lo, is for no socket of this host alone."""
        return self.terms.false

    def is_unicast(self, address: Bv) -> Bool:
        other = (
            self.is_local(address) | self.is_broadcast(address) | self.is_multicast(address) | address.is_(0)
        )
        return ~other & self.route(address)[1]

    def route(self, address: Bv, device: Bv | None = None) -> tuple[Bv, Bool, Bool]:
        """The main table's answer: the out-interface, whether a unicast route fits, and whether any does.

        With a device (0: none) only its own routes count.
        """
        t = self.terms
        out, unicast, found = t.number(0, 8), t.false, t.false
        for route in reversed(self.routes):
            fits = within(address, route.net)
            index = self.names.index(route.device)
            if device is not None:
                fits = fits & (device.is_(0) | device.is_(index))
            out = t.choose(fits, t.number(index, 8), out)
            here = t.truth(route.kind is RouteKind.UNICAST)
            unicast = (fits & here) | (~fits & unicast)
            found = fits | found
        return out, unicast, found

    def among(self, address: Bv, wanted: AddressSet) -> Bool:
        def one(term: Net | Special | HostAddresses) -> Bool:
            match term:
                case Net():
                    return within(address, term)
                case Special.UNICAST:
                    return self.is_unicast(address)
                case HostAddresses():
                    raise AssertionError("names of hosts are resolved before a claim is asked")

        included = self.terms.any_of(map(one, wanted.included)) if wanted.included else self.terms.true
        return included & ~self.terms.any_of(map(one, wanted.excluded))

    # -- what is sent

    def output(self, src: Bv, dst: Bv, proto: Bv, device: Bv, keys: Keys) -> Sent:
        """To a multicast address, or to everyone, a packet whose source is asked goes where that source lives, unless its
        socket has a device."""
        t = self.terms
        found = self.way_out(src, dst, device, keys)
        sent = self._sent(src, dst, proto, device, *found, first=self.first_way(src, dst, device, keys))
        abroad = self.is_abroad(dst) & device.is_(0) & ~src.is_(0) & ~proto.is_(TCP)
        if abroad.const is False:
            return sent
        home = t.number(0 if self.lo is None else self.lo, 8)
        for a, name in self.own:
            home = t.choose(src.is_(a.ip), t.number(self.names.index(name), 8), home)
        possible = (abroad & self.is_local(src)) | (~abroad & sent.possible)
        return Sent(t.choose(abroad, home, sent.out), possible, sent.group)

    def is_abroad(self, dst: Bv) -> Bool:
        return self.is_multicast(dst) | dst.is_(ALL_32)

    @property
    def lends_for_groups(self) -> bool:
        """The kernel may select, for what goes to a multicast address or to everyone, a source of another interface than the
        one by which the route goes: then whether the socket has bound it makes a difference."""
        home = {a.ip: name for a, name in self.own}
        ways = (
            (route, route.source if route.kind is RouteKind.LOCAL else self._source_by(route))
            for routes in (self.host.routes, *self.host.tables.values())
            for route in routes
            if route.kind in (RouteKind.UNICAST, RouteKind.LOCAL)
        )
        abroad = (MULTICAST, EVERYONE) if self.host.family is Family.IPV4 else ()
        return any(
            home.get(source or 0) != route.device and any(_overlap(route.net, group) for group in abroad)
            for route, source in ways
        )

    @property
    def lends_to_any(self) -> bool:
        """MASQUERADE finds an address wherever a packet leaves."""
        return bool(self.lendable)

    def unbound(self, p: SymPacket) -> list[tuple[Bool, Sent]]:
        """The datagrams that a socket without an address of its own may send, and the way that they would go: by the lookup
        without a source, before one is selected (net/ipv4/udp.c: udp_sendmsg).
        """
        keys = of_sent(p)
        chosen = self.select_source(p.dst, keys)
        none = self.terms.number(0, 32)
        found = self.way_out(none, p.dst, p.device, keys)
        first = self.first_way(none, p.dst, p.device, keys)
        sent = self._sent(p.src, p.dst, p.proto, p.device, *found, first=first)
        return [(~p.proto.is_(TCP) & p.device.is_(0) & p.src.is_(chosen) & sent.possible, sent)]

    def unported(self, p: SymPacket) -> list[tuple[Bool, Sent]]:
        """What a socket that has bound an address and no port may send, and by which way, where that may be another: here none is,
        since TCP asks again when it has one (include/net/route.h: ip_route_newports)."""
        return []

    def hangs_on_its_port(self, p: SymPacket, sent: Sent) -> Bool:
        """A dial that would go this way, and goes another, or none, if its port is not bound when the route is looked up first."""
        if not self.asks_for_source_ports:
            return self.terms.false
        first = self.output(p.src, p.dst, p.proto, p.device, of_connecting(p))
        one = (first.possible & ~sent.possible) | (~first.possible & sent.possible)
        return one | (first.possible & ~first.out.is_(sent.out))

    def way_out(self, src: Bv, dst: Bv, device: Bv, keys: Keys) -> tuple[Bv, Bool, Bool]:
        """As `route`; what is sent from where, and its keys, make a difference to routing rules alone."""
        return self.route(dst, device)

    def first_way(self, src: Bv, dst: Bv, device: Bv, keys: Keys) -> First | None:
        """What rules that stand before that of the local table say, if there are any."""
        return None

    def _sent(
        self,
        src: Bv,
        dst: Bv,
        proto: Bv,
        device: Bv,
        found_out: Bv,
        unicast: Bool,
        found: Bool,
        first: First | None = None,
    ) -> Sent:
        """The decision, where the routes say this beside what the local table says."""
        t = self.terms
        bound = ~device.is_(0)
        on_link = bound & ~found
        out = t.choose(on_link, device, found_out)
        possible = unicast | on_link
        lo = self.lo
        if lo is not None:
            by_device = []
            for interface in self.host.interfaces:
                fits = t.any_of(dst.is_(a.ip) for a in interface.addresses)
                if interface.name == "lo":
                    fits = fits | self.is_local(dst) & ~self.is_own(dst)
                by_device.append(fits & (~bound | device.is_(self.names.index(interface.name))))
            delivered = t.any_of(by_device)
            out = t.choose(delivered, t.number(lo, 8), out)
            possible = delivered | possible
        group = self.is_abroad(dst)
        for last, name in self.broadcast_devices:
            index = self.names.index(name)
            here = dst.is_(last) & (~bound | device.is_(index))
            group = group | here
            out = t.choose(here, t.number(index, 8), out)
            possible = possible | here
        if first is not None:
            out = t.choose(first.decided, t.choose(bound & ~first.possible, device, first.out), out)
            possible = (first.decided & (first.possible | bound)) | (~first.decided & possible)
            group = self.is_abroad(dst) | (group & ~first.decided)
        stray = (
            within(src, LOOPBACK) & ~out.is_(0 if lo is None else lo) & ~self._where(out, "route_localnet")
        )
        possible = possible & ~stray & ~dst.is_(0) & ~(group & proto.is_(TCP))
        return Sent(out, possible, group)

    def output_again(self, src: Bv, dst: Bv, device: Bv, keys: Keys) -> Sent:
        """The route after netfilter has changed what it depends on; TCP may go to a group now."""
        return self.output(src, dst, self.terms.number(0, 8), device, keys)

    def select_source(self, dst: Bv, keys: Keys) -> Bv:
        """The source that the kernel chooses for this destination; 0 where it has none, or no route."""
        t = self.terms
        source = t.number(0, 32)
        for route in reversed(self.routes):
            source = t.choose(within(dst, route.net), t.number(self._source_by(route), 32), source)
        return self._own_source(dst, source)

    def _source_by(self, route: Route) -> int:
        """The source of what goes by this route of the tables other than the local one."""
        if route.kind is not RouteKind.UNICAST or route.device is None:
            return 0
        there = self.host.interface(route.device).addresses
        near = [a.ip for a in there if route.via is not None and a.net.address == route.via & a.net.mask]
        return route.source or (near + [a.ip for a in there] + self.lendable + [0])[0]

    def _own_source(self, dst: Bv, otherwise: Bv) -> Bv:
        """The source for a local destination."""
        t = self.terms
        source = otherwise

        def prefer(cond: Bool, address: int) -> None:
            nonlocal source
            source = t.choose(cond, t.number(address, 32), source)

        for net in reversed(self.lo_nets):
            prefer(within(dst, net), next(a.ip for a, name in self.own if name == "lo" and a.net == net))
        for a, name in reversed(self.own):
            prefer(dst.is_(a.ip), next(b.ip for b, other in self.own if other == name and b.net == a.net))
        return source

    # -- what arrives

    def input(self, p: SymPacket) -> Arrived:
        t = self.terms
        src, dst, iface = p.src, p.dst, p.in_iface
        localnet = self._where(iface, "route_localnet")
        lbcast = dst.is_(ALL_32) | (src.is_(0) & dst.is_(0))
        bad_source = self.is_multicast(src) | src.is_(ALL_32)
        from_loop, to_loop = within(src, LOOPBACK), within(dst, LOOPBACK)
        multicast = self.is_multicast(dst)
        refused_group = multicast & (bad_source | (from_loop & ~localnet))
        open_ = ~multicast
        martian = refused_group | (open_ & bad_source)
        open_ = open_ & ~bad_source
        limited = open_ & lbcast
        open_ = open_ & ~lbcast
        strange = src.is_(0) | dst.is_(0) | ((to_loop | from_loop) & ~localnet)
        martian = martian | (open_ & strange)
        open_ = open_ & ~strange
        left = ~self.decided_in(p)
        local = open_ & left & self.is_local(dst)
        subnet = open_ & left & self.is_broadcast(dst)
        rest = open_ & ~local & ~subnet
        main_out, unicast, taken = self.way_in(p)
        local = local | (rest & taken)
        rest = rest & ~taken
        forwarding = t.truth(bool(self.host.sysctls.get("net.ipv4.ip_forward", 0)))
        forward = rest & forwarding & unicast
        not_forwarded = rest & ~forwarding
        no_route = rest & forwarding & ~unicast
        hairpin = forward & main_out.is_(iface) & self._where(iface, "send_redirects", 1)
        believed = self._believed(p, hairpin, subnet | limited, forward, main_out)
        asked = local | subnet | forward | (limited & ~src.is_(0))
        martian = martian | (asked & ~believed)
        kept = believed | ~asked
        return Arrived(
            local=local & kept,
            broadcast=(limited | subnet) & kept,
            forward=forward & kept,
            group=multicast & ~refused_group,
            martian=martian,
            not_forwarded=not_forwarded,
            no_route=no_route,
            out=main_out,
        )

    def way_in(self, p: SymPacket) -> tuple[Bv, Bool, Bool]:
        """What the tables other than the local one say of what arrives: the interface that it goes out by, whether by a
        unicast route, and whether it is for this host all the same.
        """
        out, unicast, _ = self.route(p.dst)
        return out, unicast, self.terms.false

    def decided_in(self, p: SymPacket) -> Bool:
        """They have said so before the local table is asked."""
        return self.terms.false

    def decided_back(self, p: SymPacket, marked: bool) -> Bool:
        """Likewise of the way to a packet's source."""
        return self.terms.false

    def way_back(self, p: SymPacket, marked: bool) -> tuple[Bv, Bool, Bool]:
        """What they say, likewise, of the way from here to a packet's source; `marked`: of a packet with its mark."""
        out, unicast, _ = self.route(p.src)
        return out, unicast, self.terms.false

    def _believed(self, p: SymPacket, hairpin: Bool, shared: Bool, forward: Bool, out: Bv) -> Bool:
        """The kernel takes a packet with this source from this interface (fib_validate_source).

        `shared`: it is to a broadcast address; `forward`: it is to go on by `out`.
        """
        t = self.terms
        src, iface = p.src, p.in_iface
        main_out, unicast, _ = self.route(src)
        local, broadcast = self.is_local(src), self.is_broadcast(src)
        answers = []
        for interface in self.host.interfaces:
            index = self.names.index(interface.name)
            level = max(self._key("all", "rp_filter"), self._key(interface.name, "rp_filter"))
            accepts = self._either(interface.name, "accept_local")
            shortcut = t.true if accepts else ~self.is_own(src)
            main = ~local & ~broadcast
            strict = level == 1 or (level == 2 and not interface.addresses)
            same = main_out.is_(index) if strict else t.true
            fine = main & unicast & same
            if accepts:
                leaves_here = self._local_device(src, index) if strict else t.true
                fine = fine | (local & leaves_here)
            if level == 0:
                fine = fine | (main & ~unicast)
                answer = (~hairpin & shortcut) | (hairpin & fine)
            else:
                answer = fine
            answers.append(iface.is_(index) & answer)
        return t.any_of(answers)

    def _local_device(self, address: Bv, index: int) -> Bool:
        """The local address belongs to this interface."""
        t = self.terms
        own = t.any_of(address.is_(a.ip) for a, name in self.own if self.names.index(name) == index)
        if index == self.lo:
            return own | (self.is_local(address) & ~self.is_own(address))
        return own

    # -- delivery

    def came_for(self, dst: Bv, index: int) -> Bool:
        """What comes over lo for this address comes, for sockets that are bound to a device, by this interface."""
        return self._local_device(dst, index)

    def listeners(self, p: SymPacket, over_lo: bool) -> list[tuple[Bool, Process, Listener]]:
        """Who gets a packet for a local address: each listener with the packets that it gets."""
        return self.found(p, over_lo, taken(p))

    def found(
        self, p: SymPacket, over_lo: bool, kinds: Mapping[int, Bool]
    ) -> list[tuple[Bool, Process, Listener]]:
        """Each listener with the packets for which it is found, of those that are looked for by protocol; `over_lo`: its
        device is that of the destination, not the one by which the packet comes in.
        """
        t = self.terms
        sockets = [(process, listener) for process in self.host.processes for listener in process.listens]
        sockets.sort(key=lambda s: (s[1].address is None, s[1].device is None))
        before = t.false
        out = []
        for process, listener in sockets:
            fits = kinds[listener.protocol] & p.dport.is_(listener.port)
            if listener.address is not None:
                fits = fits & p.dst.is_(listener.address)
            if listener.device is not None:
                index = self.names.index(listener.device)
                fits = fits & (self.came_for(p.dst, index) if over_lo else p.in_iface.is_(index))
            out.append((fits & ~before, process, listener))
            before = before | fits
        return out


def _overlap(one: Net, other: Net) -> bool:
    return (one.address ^ other.address) & one.mask & other.mask == 0


def taken(p: SymPacket) -> dict[int, Bool]:
    """Of each protocol the packets that a listener takes, which of TCP begin a connection."""
    syn = (p.flags & (TcpFlag.SYN | TcpFlag.ACK | TcpFlag.RST | TcpFlag.FIN)).is_(TcpFlag.SYN)
    return {TCP: p.proto.is_(TCP) & syn, UDP: p.proto.is_(UDP)}
