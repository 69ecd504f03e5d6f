"""Where packets go next on a host that has routing rules and further tables: what differs from the main table's ways (`routing`).

A lookup is one chain over the rules and, in each, over the routes of its table; what a packet asks is terms, what the host
says constants.
"""

from __future__ import annotations

from msgspec import Struct

from ..hosts import MAIN, Host, Route, RouteKind, RoutingRule
from .keys import Keys, asked_by, of_arriving, of_these, said_of, turned
from .matches import within
from .packets import Names, SymPacket
from .routing import Road
from .terms import Bool, Bv, Terms


class Asked(Struct, frozen=True):
    """What a route is looked up for; `device` 0 is none."""

    dst: Bv
    src: Bv
    keys: Keys
    in_iface: Bv
    device: Bv


class Way(Struct, frozen=True):
    """What a lookup finds: a route that leaves by `out`, or one to this host, or (neither) none."""

    out: Bv
    unicast: Bool
    local: Bool


class RoadByRules(Road):
    """A host's tables, asked in the order of its rules (net/core/fib_rules.c: fib_rules_lookup)."""

    def __init__(self, terms: Terms, host: Host, names: Names) -> None:
        super().__init__(terms, host, names)
        self.tables = {
            number: sorted(routes, key=lambda route: (-(route.net.length or 0), route.metric))
            for number, routes in ((MAIN, host.routes), *host.tables.items())
        }
        self._keys = asked_by(host.policy)
        self._known: dict[tuple[int, ...], list[tuple[Bool, Route]]] = {}

    # -- the lookup

    def taken(self, asked: Asked) -> list[tuple[Bool, Route]]:
        """The routes that lookups find, each with what it is found for; what ends a lookup without a route is left out."""
        terms = (asked.dst, asked.src, asked.in_iface, asked.device)
        key = (*(term.ast for term in terms), *of_these(asked.keys, self._keys))
        if key not in self._known:
            self._known[key] = self._taken(asked)
        return self._known[key]

    def _taken(self, asked: Asked) -> list[tuple[Bool, Route]]:
        found = []
        rest = self.terms.true
        for rule in self.host.policy:
            true = self._holds(rule, asked)
            here, rest = rest & true, rest & ~true
            for route in () if rule.table is None else self.tables[rule.table]:
                fits = within(asked.dst, route.net)
                if route.device is not None:
                    device = asked.device
                    fits = fits & (device.is_(0) | device.is_(self.names.index(route.device)))
                match route.kind:
                    case RouteKind.THROW:
                        rest = rest | (here & fits)
                    case RouteKind.UNICAST | RouteKind.LOCAL:
                        if rule.suppress is not None and (route.net.length or 0) <= rule.suppress:
                            rest = rest | (here & fits)
                        else:
                            found.append((here & fits, route))
                    case RouteKind.BLACKHOLE | RouteKind.UNREACHABLE | RouteKind.PROHIBIT:
                        pass
                here = here & ~fits
            if rule.table is not None:
                rest = rest | here
        return found

    def _holds(self, rule: RoutingRule, asked: Asked) -> Bool:
        """net/core/fib_rules.c: fib_rule_match, net/ipv4/fib_rules.c: fib4_rule_match."""
        parts = []
        if rule.destination is not None:
            parts.append(within(asked.dst, rule.destination))
        if rule.source is not None:
            parts.append(within(asked.src, rule.source))
        if rule.in_iface is not None:
            parts.append(self._is_named(asked.in_iface, rule.in_iface))
        if rule.out_iface is not None:
            parts.append(self._is_named(asked.device, rule.out_iface))
        true = self.terms.all_of([*parts, *said_of(rule, asked.keys, self.terms)])
        return ~true if rule.negated else true

    def _is_named(self, device: Bv, name: str) -> Bool:
        """It is the interface with this name, which the host may not have."""
        known = self.names.interfaces
        return device.is_(known.index(name)) if name in known else self.terms.false

    def way(self, asked: Asked) -> Way:
        t = self.terms
        out = t.number(0, 8)
        unicast: list[Bool] = []
        local: list[Bool] = []
        for cond, route in self.taken(asked):
            out = t.choose(cond, t.number(self.names.index(route.device), 8), out)
            (unicast if route.kind is RouteKind.UNICAST else local).append(cond)
        return Way(out, t.any_of(unicast), t.any_of(local))

    @property
    def _lo(self) -> Bv:
        """Where the kernel says that what is sent here comes in, and what a reverse lookup asks for."""
        return self.terms.number(self.lo or 0, 8)

    def _nothing(self, width: int) -> Bv:
        return self.terms.number(0, width)

    # -- kinds of addresses

    def is_unicast(self, address: Bv) -> Bool:
        other = (
            self.is_local(address) | self.is_broadcast(address) | self.is_multicast(address) | address.is_(0)
        )
        zero = self._nothing(32)
        return ~other & self.way(Asked(address, zero, Keys(zero), self._lo, self._nothing(8))).unicast

    # -- what is sent

    def way_out(self, src: Bv, dst: Bv, device: Bv, keys: Keys) -> tuple[Bv, Bool, Bool]:
        way = self.way(Asked(dst, src, keys, self._lo, device))
        possible = way.unicast | way.local
        return way.out, possible, possible

    def in_local_table(self, address: Bv) -> Bool:
        return self.is_local(address) | self.terms.any_of(address.is_(x) for x in self.last_addresses)

    def from_itself(self, dst: Bv, keys: Keys) -> Bool:
        """The source selected is the destination, which is no address of this host: a route to this host names no other
        (net/ipv4/route.c: ip_route_output_key_hash_rcu)."""
        taken = self.taken(self._unsourced(dst, keys))
        itself = [cond for cond, route in taken if route.kind is RouteKind.LOCAL and route.source is None]
        return ~self.is_local(dst) & self.terms.any_of(itself)

    def select_source(self, dst: Bv, keys: Keys) -> Bv:
        t = self.terms
        source = self._nothing(32)
        for cond, route in self.taken(self._unsourced(dst, keys)):
            if route.kind is RouteKind.UNICAST:
                address = t.number(self._source_by(route), 32)
            else:
                address = dst if route.source is None else t.number(route.source, 32)
            source = t.choose(cond, address, source)
        return self._own_source(dst, source)

    def _unsourced(self, dst: Bv, keys: Keys) -> Asked:
        return Asked(dst, self._nothing(32), keys, self._lo, self._nothing(8))

    # -- what arrives

    def way_in(self, p: SymPacket) -> tuple[Bv, Bool, Bool]:
        way = self.way(Asked(p.dst, p.src, of_arriving(self.host, p), p.in_iface, self._nothing(8)))
        return way.out, way.unicast, way.local

    def way_back(self, p: SymPacket, marked: bool) -> tuple[Bv, Bool, Bool]:
        """net/ipv4/netfilter/ipt_rpfilter.c: rpfilter_mt, which tells neither protocol nor ports."""
        zero = self._nothing(32)
        shared = self.is_multicast(p.dst) | p.dst.is_(0xFFFFFFFF)
        src = self.terms.choose(shared, zero, p.dst)
        keys = Keys(p.mark if marked else zero, tos=p.rare.get("tos"))
        way = self.way(Asked(p.src, src, keys, self._lo, self._nothing(8)))
        return way.out, way.unicast, way.local

    def _believed(self, p: SymPacket, hairpin: Bool, shared: Bool, forward: Bool, out: Bv) -> Bool:
        """net/ipv4/fib_frontend.c: fib_validate_source, __fib_validate_source; what is broadcast has no destination there
        (net/ipv4/route.c: ip_route_input_slow).
        """
        t = self.terms
        zero = self._nothing(32)
        mark = t.choose(self._where(p.in_iface, "src_valid_mark"), p.mark, zero)
        here = t.choose(forward, out, self._lo)
        keys = turned(of_arriving(self.host, p), mark)
        way = self.way(Asked(p.src, t.choose(shared, zero, p.dst), keys, here, self._nothing(8)))
        local, broadcast = self.is_local(p.src), self.is_broadcast(p.src)
        beyond = ~local & ~broadcast
        answers = []
        for interface in self.host.interfaces:
            index = self.names.index(interface.name)
            level = max(self._key("all", "rp_filter"), self._key(interface.name, "rp_filter"))
            accepts = self._either(interface.name, "accept_local")
            strict = level == 1 or (level == 2 and not interface.addresses)
            same = way.out.is_(index) if strict else t.true
            fine = beyond & way.unicast & same
            if accepts:
                owned = self._local_device(p.src, index) if strict else t.true
                fine = fine | (local & owned) | (beyond & way.local & same)
            if level == 0:
                fine = fine | (beyond & ~way.unicast & ~way.local)
                if accepts:
                    fine = fine | ~hairpin
            answers.append(p.in_iface.is_(index) & fine)
        return t.any_of(answers)

    # -- delivery

    def came_for(self, dst: Bv, index: int) -> Bool:
        """What no interface has is lo's: the local table's subnets of lo, and what a route of another table sends here."""
        return self._local_device(dst, index) | (~self.is_own(dst) & self.terms.truth(index == self.lo))
