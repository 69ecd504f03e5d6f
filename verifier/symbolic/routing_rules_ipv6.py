"""Where IPv6 packets go next on a host that has routing rules and further tables: what differs from the main table's ways
(`routing_ipv6`).
"""

from __future__ import annotations

from ..hosts import MAIN, Host, Route, RouteKind, RoutingRule
from ..values import LINK_LOCAL, TCP
from .keys import Keys, asked_by, of_connecting, of_sent, of_these, said_of
from .matches import within
from .packets import Names, SymPacket
from .routing import Sent
from .routing_ipv6 import AskedIpv6, RoadIpv6
from .terms import Bool, Bv, Terms


class RoadIpv6ByRules(RoadIpv6):
    """An IPv6 host's tables, asked in the order of its rules (net/core/fib_rules.c: fib_rules_lookup)."""

    def __init__(self, terms: Terms, host: Host, names: Names) -> None:
        super().__init__(terms, host, names)
        self.tables = {
            number: sorted(routes, key=lambda route: (-(route.net.length or 0), route.metric))
            for number, routes in ((MAIN, host.routes), *host.tables.items())
        }
        self._keys = asked_by(host.routing_rules)
        self.asks_for_lengths = any(rule.suppress is not None for rule in host.routing_rules)
        self._known: dict[tuple[int, ...], list[tuple[Bool, Route]]] = {}

    # -- the lookup

    def taken(self, asked: AskedIpv6, *, preferring: bool = False) -> list[tuple[Bool, Route]]:
        terms = (asked.dst, asked.src, asked.sourced, asked.in_iface, asked.by, asked.device)
        key = (*(term.ast for term in terms), *of_these(asked.keys, self._keys), int(preferring))
        if key not in self._known:
            self._known[key] = self._taken(asked, preferring)
        return self._known[key]

    def _taken(self, asked: AskedIpv6, preferring: bool) -> list[tuple[Bool, Route]]:
        """net/ipv6/fib6_rules.c: __fib6_rule_action, fib6_rule_suppress."""
        t = self.terms
        found = []
        rest = t.true
        for rule in self.host.policy:
            true = self._holds(rule, asked)
            here, rest = rest & true, rest & ~true
            if rule.table is None:
                continue
            ends = t.false
            for cond, route in self.of_table(self.tables[rule.table], asked, preferring):
                match route.kind:
                    case RouteKind.THROW:
                        pass
                    case RouteKind.UNICAST | RouteKind.LOCAL:
                        if rule.suppress is None or (route.net.length or 0) > rule.suppress:
                            found.append((here & cond, route))
                            ends = ends | cond
                    case RouteKind.BLACKHOLE | RouteKind.UNREACHABLE | RouteKind.PROHIBIT:
                        ends = ends | cond
            rest = rest | (here & ~ends)
        return found

    def _holds(self, rule: RoutingRule, asked: AskedIpv6) -> Bool:
        """net/core/fib_rules.c: fib_rule_match, net/ipv6/fib6_rules.c: fib6_rule_match."""
        parts = []
        if rule.destination is not None:
            parts.append(within(asked.dst, rule.destination))
        if rule.source is not None:
            parts.append(asked.sourced & within(asked.src, rule.source))
        for field, name in ((asked.in_iface, rule.in_iface), (asked.by, rule.out_iface)):
            if name is not None:
                known = self.names.interfaces
                parts.append(field.is_(known.index(name)) if name in known else self.terms.false)
        true = self.terms.all_of([*parts, *said_of(rule, asked.keys, self.terms)])
        return ~true if rule.negated else true

    # -- what is sent

    def unbound(self, p: SymPacket) -> list[tuple[Bool, Sent]]:
        """What a socket without an address of its own may send, and the way that it would go: by the lookup without a source,
        before one is selected (net/ipv6/ip6_output.c: ip6_dst_lookup_tail).
        """
        found = []
        for cond, keys in [(self.terms.true, of_sent(p)), *self._without_port(p)]:
            sent = self.output(self.terms.number(0, 128), p.dst, p.proto, p.device, keys)
            found.append((cond & self._may_select(p.src, p.dst, p.device, keys) & sent.possible, sent))
        return found

    def unported(self, p: SymPacket) -> list[tuple[Bool, Sent]]:
        found = []
        for cond, keys in self._without_port(p):
            sent = self.output(p.src, p.dst, p.proto, p.device, keys)
            found.append((cond & sent.possible, sent))
        return found

    def _without_port(self, p: SymPacket) -> list[tuple[Bool, Keys]]:
        """TCP goes by its first lookup (net/ipv6/tcp_ipv6.c: tcp_v6_connect)."""
        return [(p.proto.is_(TCP), of_connecting(p))] if self.asks_for_source_ports else []

    def _may_select(self, src: Bv, dst: Bv, device: Bv, keys: Keys) -> Bool:
        t = self.terms
        own, shared = self.is_own_of(dst, device), self.is_anycast(dst, device)
        parts = [self.is_multicast(dst), own & src.is_(dst)]
        for ip, devices in self.anycast.items():
            first = min(devices)
            for interface in self.host.interfaces:
                index = self.names.index(interface.name)
                if index in devices:
                    by = device.is_(index) | (device.is_(0) & t.truth(index == first))
                    parts.append(dst.is_(ip) & by & self._is_candidate(src, dst, interface.name))
        abroad = ~own & ~shared
        for cond, route in self.taken(self.unsourced(dst, device, keys)):
            if route.source is not None:
                one = src.is_(route.source)
            else:
                one = self._is_candidate(src, dst, route.device or "")
            parts.append(abroad & cond & one)
        return t.any_of(parts)

    def _is_candidate(self, src: Bv, dst: Bv, interface: str) -> Bool:
        """`src` may be what the kernel selects towards `dst` by this interface."""
        t = self.terms
        near = self.is_near(dst)
        to_near, to_far = self.lists(self.host.interface(interface))
        itself = (~near & self.is_own(dst)) | (near & self._local_device(dst, self.names.index(interface)))
        others = (near & t.any_of(src.is_(ip) for ip in to_near)) | (
            ~near & t.any_of(src.is_(ip) for ip in to_far)
        )
        return (itself & src.is_(dst)) | (~itself & others)

    def has_lost_its_link(self, p: SymPacket, before: Bv) -> Bool:
        lo = self.terms.number(self.lo or 0, 8)
        elsewhere = (self.is_own(p.dst) & ~self.is_own_of(p.dst, lo)) | (
            self.is_anycast(p.dst) & ~self.is_anycast(p.dst, lo)
        )
        return p.device.is_(0) & before.is_(self.lo or 0) & within(p.dst, LINK_LOCAL) & elsewhere

    # -- delivery

    def came_for(self, dst: Bv, index: int) -> Bool:
        """What a route of a further table sends here is lo's."""
        nobodys = ~self.is_own(dst) & ~self.is_anycast(dst)
        return self._local_device(dst, index) | (nobodys & self.terms.truth(index == self.lo))
