"""Where packets go next on a host that has routing rules and further tables: what differs from the main table's ways (`routing`).

A lookup is one chain over the rules and, in each, over the routes of its table; what a packet asks is terms, what the host
says constants.
"""

from __future__ import annotations

from msgspec import Struct

from ..hosts import MAIN, Host, Route, RouteKind, RoutingRule
from ..values import ALL_32
from .keys import Keys, asked_by, of_arriving, of_these, said_of, turned
from .matches import within
from .packets import Names, SymPacket
from .routing import First, Road
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


class Found(Struct, frozen=True):
    """The routes that some rules find, each with what it is found for; what ends a lookup without a route is left out, but it is
    `decided` too.
    """

    routes: list[tuple[Bool, Route]]
    decided: Bool


class RoadByRules(Road):
    """A host's tables, asked in the order of its rules (net/core/fib_rules.c: fib_rules_lookup)."""

    def __init__(self, terms: Terms, host: Host, names: Names) -> None:
        super().__init__(terms, host, names)
        self.tables = {
            number: sorted(routes, key=lambda route: (-(route.net.length or 0), route.metric))
            for number, routes in ((MAIN, host.routes), *host.tables.items())
        }
        self._keys = asked_by(host.routing_rules)
        self._known: dict[tuple[int, ...], Found] = {}

    # -- the lookup

    def taken(self, asked: Asked) -> Found:
        """The routes that lookups find behind the local table."""
        return self._asked(asked, self.host.policy)

    def taken_first(self, asked: Asked) -> Found:
        """Those that they find before it."""
        return self._asked(asked, self.host.before_local)

    def _asked(self, asked: Asked, rules: tuple[RoutingRule, ...]) -> Found:
        terms = (asked.dst, asked.src, asked.in_iface, asked.device)
        first = int(rules is self.host.before_local)
        key = (*(term.ast for term in terms), *of_these(asked.keys, self._keys), first)
        if key not in self._known:
            self._known[key] = self._taken(asked, rules)
        return self._known[key]

    def _taken(self, asked: Asked, rules: tuple[RoutingRule, ...]) -> Found:
        found = []
        rest = self.terms.true
        for rule in rules:
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
        return Found(found, ~rest)

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
        """What all rules say, but that of the local table."""
        way = self._way(self.taken(asked))
        if not self.host.before_local:
            return way
        before = self.taken_first(asked)
        first, decided = self._way(before), before.decided
        return Way(
            self.terms.choose(decided, first.out, way.out),
            first.unicast | (~decided & way.unicast),
            first.local | (~decided & way.local),
        )

    def _way(self, found: Found) -> Way:
        t = self.terms
        out = t.number(0, 8)
        unicast: list[Bool] = []
        local: list[Bool] = []
        for cond, route in found.routes:
            out = t.choose(cond, t.number(self.names.index(route.device), 8), out)
            (unicast if route.kind is RouteKind.UNICAST else local).append(cond)
        return Way(out, t.any_of(unicast), t.any_of(local))

    def _decided(self, asked: Asked) -> Bool:
        """Rules say where it goes before the local table is asked."""
        return self.taken_first(asked).decided if self.host.before_local else self.terms.false

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
        way = self._way(self.taken(Asked(dst, src, keys, self._lo, device)))
        possible = way.unicast | way.local
        return way.out, possible, possible

    def first_way(self, src: Bv, dst: Bv, device: Bv, keys: Keys) -> First | None:
        if not self.host.before_local:
            return None
        found = self.taken_first(Asked(dst, src, keys, self._lo, device))
        way = self._way(found)
        return First(found.decided, way.out, way.unicast | way.local)

    def in_local_table(self, address: Bv, keys: Keys) -> Bool:
        """The local table says where it is, which is asked before all rules that say more."""
        there = self.is_local(address) | self.terms.any_of(address.is_(x) for x in self.last_addresses)
        return there & ~self._decided(self._unsourced(address, keys))

    def from_itself(self, dst: Bv, keys: Keys) -> Bool:
        """The source selected is the destination, which is no address of this host: a route to this host names no other
        (net/ipv4/route.c: ip_route_output_key_hash_rcu)."""
        asked = self._unsourced(dst, keys)
        left = ~self._decided(asked)
        first = self.taken_first(asked).routes if self.host.before_local else []
        taken = [*first, *((left & cond, route) for cond, route in self.taken(asked).routes)]
        itself = [cond for cond, route in taken if route.kind is RouteKind.LOCAL and route.source is None]
        return ~self.is_local(dst) & self.terms.any_of(itself)

    def select_source(self, dst: Bv, keys: Keys) -> Bv:
        asked = self._unsourced(dst, keys)
        later = self._source(dst, self.taken(asked))
        if not self.host.before_local:
            return self._own_source(dst, later)
        for last, name in self.last_addresses.items():
            later = self.terms.choose(dst.is_(last), self.terms.number(self._first_of(last, name), 32), later)
        first = self.taken_first(asked)
        return self.terms.choose(first.decided, self._source(dst, first), self._own_source(dst, later))

    def _first_of(self, last: int, name: str) -> int:
        """The first address of the interface in the subnet that ends so: what the local table's entry has as source."""
        theirs = self.host.interface(name).addresses
        return next(a.ip for a in theirs if a.length < 31 and a.net.address | (ALL_32 & ~a.net.mask) == last)

    def _source(self, dst: Bv, found: Found) -> Bv:
        """The source of what goes by one of these routes."""
        t = self.terms
        source = self._nothing(32)
        for cond, route in found.routes:
            if route.kind is RouteKind.UNICAST:
                address = t.number(self._source_by(route), 32)
            else:
                address = dst if route.source is None else t.number(route.source, 32)
            source = t.choose(cond, address, source)
        return source

    def _unsourced(self, dst: Bv, keys: Keys) -> Asked:
        return Asked(dst, self._nothing(32), keys, self._lo, self._nothing(8))

    # -- what arrives

    def way_in(self, p: SymPacket) -> tuple[Bv, Bool, Bool]:
        way = self.way(self._coming(p))
        return way.out, way.unicast, way.local

    def decided_in(self, p: SymPacket) -> Bool:
        return self._decided(self._coming(p))

    def _coming(self, p: SymPacket) -> Asked:
        return Asked(p.dst, p.src, of_arriving(self.host, p), p.in_iface, self._nothing(8))

    def way_back(self, p: SymPacket, marked: bool) -> tuple[Bv, Bool, Bool]:
        way = self.way(self._returning(p, marked))
        return way.out, way.unicast, way.local

    def decided_back(self, p: SymPacket, marked: bool) -> Bool:
        return self._decided(self._returning(p, marked))

    def _returning(self, p: SymPacket, marked: bool) -> Asked:
        """net/ipv4/netfilter/ipt_rpfilter.c: rpfilter_mt, which tells neither protocol nor ports."""
        zero = self._nothing(32)
        shared = self.is_multicast(p.dst) | p.dst.is_(0xFFFFFFFF)
        src = self.terms.choose(shared, zero, p.dst)
        keys = Keys(p.mark if marked else zero, tos=p.rare.get("tos"))
        return Asked(p.src, src, keys, self._lo, self._nothing(8))

    def _believed(self, p: SymPacket, hairpin: Bool, shared: Bool, forward: Bool, out: Bv) -> Bool:
        """net/ipv4/fib_frontend.c: fib_validate_source, __fib_validate_source; what is broadcast has no destination there
        (net/ipv4/route.c: ip_route_input_slow).
        """
        t = self.terms
        zero = self._nothing(32)
        mark = t.choose(self._where(p.in_iface, "src_valid_mark"), p.mark, zero)
        here = t.choose(forward, out, self._lo)
        keys = turned(of_arriving(self.host, p), mark)
        asked = Asked(p.src, t.choose(shared, zero, p.dst), keys, here, self._nothing(8))
        way, left = self.way(asked), ~self._decided(asked)
        local, broadcast = left & self.is_local(p.src), left & self.is_broadcast(p.src)
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
