"""Which route an IPv6 packet gets of the tables behind the local one: those that routing rules name, one after the other."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from ..hosts import MAIN, Route, RouteKind, RoutingRule
from ..values import LINK_LOCAL
from .keys import NO_KEYS, Keys, asks_for_headers, speaks_of_sent
from .routing import LOOPBACK_DEVICE, Roads, holds_of, within


class Flow(Struct, frozen=True):
    """What a route is looked up for (include/net/flow.h: struct flowi6); what is sent here comes in by lo."""

    dst: int
    src: int | None = None
    """None: it has none yet, and no rule that asks for one speaks of it; a frame's `::` is one (RT6_LOOKUP_F_HAS_SADDR)."""
    keys: Keys = NO_KEYS
    in_iface: str = LOOPBACK_DEVICE
    out_iface: str | None = None
    """The interface that rules compare with their `oif`."""
    device: str | None = None
    """The one by which the route has to leave (RT6_LOOKUP_F_IFACE)."""


Choice = Callable[[Roads, tuple[Route, ...], Flow], Route | None]
"""The route that a table has for a flow."""

KERNELS_OWN = (RoutingRule(MAIN),)


def of_device(road: Roads, routes: tuple[Route, ...], flow: Flow) -> Route | None:
    """The longest prefix, the lower metric, the earlier line; what leads nowhere is a route of lo (net/ipv6/route.c:
    fib6_table_lookup, rt6_score_route; ip6_route_info_create)."""
    for route in routes:
        if within(flow.dst, route.net) and flow.device in (None, route.device or LOOPBACK_DEVICE):
            return route
    return None


def preferably(road: Roads, routes: tuple[Route, ...], flow: Flow) -> Route | None:
    """Of the longest prefix the first that leaves by the interface asked for, or by that of a link-local source, or else the
    first of them (net/ipv6/route.c: ip6_pol_route_lookup, rt6_device_match)."""
    best = of_device(road, routes, flow)
    if best is None or flow.device is not None:
        return best
    wanted: tuple[str | None, ...] = (flow.out_iface,)
    if flow.out_iface is None and flow.src is not None and within(flow.src, LINK_LOCAL):
        wanted = road.owners.get(flow.src, ())
    alike = (route for route in routes if route.net == best.net)
    return next((route for route in alike if (route.device or LOOPBACK_DEVICE) in wanted), best)


def lookup(road: Roads, flow: Flow, choose: Choice = of_device) -> Route | None:
    """The route, which may be one that leads nowhere; None where no rule has any, or one says so.

    (net/core/fib_rules.c: fib_rules_lookup; net/ipv6/fib6_rules.c: __fib6_rule_action, fib6_rule_suppress)
    """
    for rule in road.host.policy or KERNELS_OWN:
        if not _speaks_of(rule, flow):
            continue
        if rule.table is None:
            return None
        route = choose(road, road.tables[rule.table], flow)
        if route is None or route.kind is RouteKind.THROW:
            continue
        short = rule.suppress is not None and (route.net.length or 0) <= rule.suppress
        # What leads nowhere is an error, and no error is suppressed.
        if short and route.device is not None:
            continue
        return route
    return None


def _speaks_of(rule: RoutingRule, flow: Flow) -> bool:
    """(net/core/fib_rules.c: fib_rule_match; net/ipv6/fib6_rules.c: fib6_rule_match)"""
    every = (
        rule.source is None or (flow.src is not None and within(flow.src, rule.source)),
        rule.destination is None or within(flow.dst, rule.destination),
        rule.in_iface in (None, flow.in_iface),
        rule.out_iface in (None, flow.out_iface),
        holds_of(rule, flow.keys),
    )
    return all(every) != rule.negated


def ask_for_sources(road: Roads) -> bool:
    """True iff the way of a packet may depend on whether it had its source when the route was looked up."""
    return any(rule.source is not None for rule in road.host.routing_rules)


def ask_for_source_ports(road: Roads) -> bool:
    """True iff the way of what TCP sends may depend on whether the socket had its port when the route was looked up."""
    return any(rule.source_ports is not None and speaks_of_sent(rule) for rule in road.host.routing_rules)


def ask_for_what_is_written(road: Roads) -> bool:
    """True iff the way of a packet may depend on what a socket that writes headers itself has not told the kernel: the source,
    the protocol, ports, and the TOS (net/ipv4/raw.c: raw_sendmsg; net/ipv6/raw.c: rawv6_sendmsg)."""
    return ask_for_sources(road) or any(
        speaks_of_sent(rule) and (rule.tos is not None or asks_for_headers(rule))
        for rule in road.host.routing_rules
    )


def ask_for_lengths(road: Roads) -> bool:
    """True iff some rule asks how long a route's prefix is, which for what a socket has written a header for is 128 where the
    route has no gateway (net/ipv6/route.c: ip6_pol_route, FLOWI_FLAG_KNOWN_NH)."""
    return any(rule.suppress is not None for rule in road.host.routing_rules)
