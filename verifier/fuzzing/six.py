"""IPv6 hosts and rule sets, drawn at random: rules as they are drawn for IPv4, in the words, addresses and types of IPv6."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from .. import hosts as h
from .. import rules as r
from ..values import (
    AH,
    ICMP,
    ICMPV6,
    LAST_ID,
    LINK_LOCAL,
    TCP,
    UDP,
    Family,
    Ids,
    IdSet,
    Ipv6Extension,
    Net,
    read_address,
)
from . import numbers as n
from .hosts import asking

Draw = random.Random

OF_INTERFACES = (
    ("2001:db8::2/64", "2001:db8::3/64", "fd00::2/48", "2001:db8:5::1/128", "fe80::2/64"),
    ("2001:db8:1::2/64", "fd00:1::2/127", "fe80::12/64"),
    ("2001:db8:2::2/64", "fe80::22/64"),
)
ADDRESSES = tuple(
    read_address(text, Family.IPV6)
    for text in (
        "2001:db8::2", "2001:db8::3", "2001:db8::", "2001:db8::7", "2001:db8:1::", "2001:db8:1::2", "2001:db8:1::9",
        "fd00::2", "fe80::", "fe80::2", "fe80::12", "fe80::99", "ff02::1", "ff05::2", "ff0e::5", "::1", "::6", "::5",
        "::ffff:10.0.0.1", "fec0::1", "2001:db8:5::1", "2001:db8:77::1", "3000::1",
    )
)  # fmt: skip
GATEWAY = read_address("fe80::99", Family.IPV6)
LENGTHS = {32: (128, 128, 128, 127), 24: (64, 64, 96), 16: (48, 32), 8: (16, 10)}
REJECTS = (
    "icmp6-no-route", "icmp6-adm-prohibited", "icmp6-addr-unreachable", "icmp6-port-unreachable", "icmp6-policy-fail",
    "icmp6-reject-route",
)  # fmt: skip
ICMP_TYPES = (1, 3, 128, 128, 129, 135, 139, 200)


def host(draw: Draw, backend: h.Backend) -> h.Host:
    own = _interfaces(draw)
    sysctls = {**h.DEFAULTS_IPV6, "net.ipv6.conf.all.forwarding": draw.randint(0, 1)}
    if n.flip(draw, 20):
        sysctls["net.netfilter.nf_conntrack_tcp_loose"] = 0
    routes = _routes(draw, own)
    policy, tables = _policy(draw, own, routes) if n.flip(draw, 40) else ((), {})
    return h.Host(
        "a drawn host", own, routes, sysctls, _processes(draw, own), backend=backend, family=Family.IPV6,
        policy=policy, tables=tables,
    )  # fmt: skip


def _address(text: str) -> h.Address:
    ip, _, length = text.partition("/")
    return h.Address(read_address(ip, Family.IPV6), int(length), Family.IPV6)


def _interfaces(draw: Draw) -> tuple[h.Interface, ...]:
    """lo, then one to three others; the kernel lists addresses of a wider scope first."""
    lo = ("::1/128", "::6/128") if n.flip(draw, 40) else ("::1/128",)
    found = [h.Interface("lo", tuple(map(_address, lo)))]
    for name, its in zip(n.INTERFACES[: draw.randint(1, 3)], OF_INTERFACES, strict=False):
        chosen = draw.sample(its, draw.randint(1 if len(found) == 1 else 0, len(its)))
        chosen.sort(key=lambda text: text.startswith("fe80"))
        found.append(h.Interface(name, tuple(map(_address, chosen))))
    return tuple(found)


def _routes(draw: Draw, own: tuple[h.Interface, ...]) -> tuple[h.Route, ...]:
    """Those to most subnets, perhaps a default route, and up to two others."""
    found = [
        h.Route(a.net, i.name, metric=256)
        for i in own[1:]
        for a in i.addresses
        if a.length < 128 and n.flip(draw, 90)
    ]
    devices = [i.name for i in own[1:]]
    if n.flip(draw, 80):
        found.append(h.Route(Net(0, 0, Family.IPV6), draw.choice(devices), GATEWAY, metric=1024))
    found += [_further(draw, own, h.BARRED) for _ in range(draw.randint(0, 2))]
    return _each_once(found)


def _further(draw: Draw, own: tuple[h.Interface, ...], others: Sequence[h.RouteKind]) -> h.Route:
    """A route to anywhere; of three in five it is a way."""
    net = Net.prefix(
        draw.choice([a for a in ADDRESSES if a >> 120 != 0xFF and a != 1]),
        draw.choice((16, 32, 48, 64, 128)),
        Family.IPV6,
    )
    metric = draw.choice((5, 2000))
    if n.flip(draw, 40) or net.address == 6:
        kind = draw.choice(others)
        return h.Route(net, "lo" if kind is h.RouteKind.LOCAL else None, kind=kind, metric=metric)
    through = draw.choice(own[1:])
    source = draw.choice((None, *(a.ip for a in through.addresses[:1])))
    return h.Route(net, through.name, draw.choice((None, GATEWAY)), source, metric=metric)


def _each_once(routes: Iterable[h.Route]) -> tuple[h.Route, ...]:
    """A table has one route to a subnet of each metric, but of link-local ones one for each interface."""
    once: dict[object, h.Route] = {}
    for route in routes:
        near = route.net.address & LINK_LOCAL.mask == LINK_LOCAL.address
        once.setdefault((route.net, route.metric, route.device if near else None), route)
    return tuple(once.values())


def _policy(
    draw: Draw, own: tuple[h.Interface, ...], main: tuple[h.Route, ...]
) -> tuple[tuple[h.RoutingRule, ...], dict[int, tuple[h.Route, ...]]]:
    """Routing rules, the main table's mostly among them, and the tables that they name."""
    tables = {}
    for number in n.TABLES:
        routes = [_further(draw, own, (*h.BARRED, *OF_TABLES)) for _ in range(draw.randint(0, 2))]
        default = Net(0, 0, Family.IPV6)
        if n.flip(draw, 20):
            routes.append(h.Route(default, "lo", kind=h.RouteKind.LOCAL, metric=1024))
        elif n.flip(draw, 60):
            device = draw.choice([i.name for i in own[1:]])
            routes.append(h.Route(default, device, GATEWAY, metric=1024))
        tables[number] = _each_once(routes)
    policy = [_routing_rule(draw, own, {h.MAIN: main, **tables}) for _ in range(draw.randint(1, 4))]
    if n.flip(draw, 85):
        policy.append(h.RoutingRule(h.MAIN))
    return tuple(policy), tables


def _routing_rule(
    draw: Draw, own: tuple[h.Interface, ...], tables: Mapping[int, tuple[h.Route, ...]]
) -> h.RoutingRule:
    kind = draw.choice((*[h.RouteKind.UNICAST] * 9, *h.BARRED))
    is_way = kind is h.RouteKind.UNICAST
    names = [i.name for i in own]
    table = draw.choice((*n.TABLES, *n.TABLES, h.MAIN)) if is_way else None
    rule = h.RoutingRule(
        table,
        Net.prefix(draw.choice(ADDRESSES), draw.choice((16, 64, 128)), Family.IPV6) if n.flip(draw, 25) else None,
        Net.prefix(draw.choice(ADDRESSES), draw.choice((8, 16, 64, 128)), Family.IPV6) if n.flip(draw, 25) else None,
        draw.choice(names) if n.flip(draw, 20) else None,
        draw.choice(names) if n.flip(draw, 8) else None,
        n.mark(draw) if n.flip(draw, 40) else None,
        negated=n.flip(draw, 15),
        suppress=_suppressed(draw, tables.get(table or 0, ())) if is_way and n.flip(draw, 25) else None,
        kind=kind,
    )  # fmt: skip
    return asking(draw, rule)


OF_TABLES = (h.RouteKind.LOCAL, h.RouteKind.LOCAL, h.RouteKind.THROW)
"""Kinds of routes that further tables alone have."""


def _suppressed(draw: Draw, routes: tuple[h.Route, ...]) -> int | None:
    """A length of prefixes that the kernel suppresses also of what the oracle sends, which writes its own headers: for these a
    route without a gateway is as long as can be (net/ipv6/route.c: ip6_pol_route).
    """
    on_link = (x.net.length or 0 for x in routes if x.device is not None and x.via is None)
    least = min(on_link, default=129)
    return draw.choice([None, *(length for length in (0, 16, 48) if length < least)])


def _processes(draw: Draw, own: tuple[h.Interface, ...]) -> tuple[h.Process, ...]:
    """One that any socket may belong to, one with other marks and a device, and one that writes its own headers."""
    bindable = [a.ip for i in own for a in i.addresses if a.ip & LINK_LOCAL.mask != LINK_LOCAL.address]
    listens: set[h.Listener] = set()
    for _ in range(draw.randint(0, 4)):
        address = draw.choice((None, None, *bindable))
        listens.add(
            h.Listener(
                draw.choice(n.LISTENING), address, draw.choice((TCP, TCP, UDP)),
                family=Family.IPV4 if address is None else Family.IPV6,
            )
        )  # fmt: skip
    anyone = IdSet((Ids(0, LAST_ID),))
    devices = [i.name for i in own[1:]]
    return (
        h.Process(
            "app", anyone, anyone, tuple(sorted(listens, key=str)), supplementary=draw.choice(n.GROUPS)
        ),
        h.Process("marked", anyone, anyone, mark=draw.choice(n.MARKS), device=draw.choice((None, *devices))),
        h.Process(
            "raw", anyone, anyone, mark=draw.choice(n.MARKS), raw=True, supplementary=draw.choice(n.GROUPS)
        ),
    )


# -- rules ----------------------------------------------------------------------------------------------


def translated(rules: r.RuleSet, draw: Draw) -> r.RuleSet:
    """The IPv4 rule set with IPv6's addresses, ICMP types and kinds of rejection; what IPv6 has not is left out."""
    return r.RuleSet({name: _table(t, draw) for name, t in rules.tables.items()}, Family.IPV6)


def _table(t: r.Table, draw: Draw) -> r.Table:
    chains = {
        name: replace(chain, rules=tuple(_rule(rule, draw) for rule in chain.rules)) for name, chain in t.chains.items()
    }  # fmt: skip
    return replace(t, chains=chains)


def _rule(rule: r.Rule, draw: Draw) -> r.Rule:
    kept = []
    for literal in rule.literals:
        match = _match(literal.match, draw)
        if match is not None:
            kept.append(replace(literal, match=match))
    if n.flip(draw, 4):
        bits = draw.choice((Ipv6Extension.PROTO, Ipv6Extension.AUTH, Ipv6Extension.HOP | Ipv6Extension.DST))
        kept.append(r.Literal(r.Ipv6Header(int(bits), n.flip(draw, 60)), n.flip(draw, 30)))
    return replace(rule, literals=r.ordered(tuple(kept)), target=_target(rule.target, draw))


def _match(match: r.Match, draw: Draw) -> r.Match | None:
    match match:
        case r.Source(net):
            return r.Source(_net(net, draw))
        case r.Destination(net):
            return r.Destination(_net(net, draw))
        case r.SourceRange() | r.DestinationRange():
            first, last = sorted(draw.choices(ADDRESSES, k=2))
            return type(match)(first, last, Family.IPV6)
        case r.Protocol(number) if number in (ICMP, AH):
            return r.Protocol(ICMPV6) if number == ICMP else None
        case r.Fragment():
            return None
        case r.IcmpType(_, code):
            return r.Icmp6Type(draw.choice(ICMP_TYPES), code)
        case r.AddressType():
            return replace(match, source=_types(match.source), destination=_types(match.destination))
        case r.Conntrack(tests):
            return r.Conntrack(tuple(replace(t, criterion=_criterion(t.criterion, draw)) for t in tests))
        case _:
            return match


def _types(types: frozenset[r.RouteType]) -> frozenset[r.RouteType]:
    return frozenset(r.RouteType.ANYCAST if t is r.RouteType.BROADCAST else t for t in types)


def _criterion(criterion: r.CtCriterion, draw: Draw) -> r.CtCriterion:
    match criterion:
        case r.CtAddress(of, net):
            its = _net(net, draw)
            return r.CtAddress(
                of, its if its.length is not None else replace(its, mask=(1 << 128) - 1, address=1)
            )
        case r.CtProtocol(number):
            return r.CtProtocol(ICMPV6 if number == ICMP else number)
        case _:
            return criterion


def _net(net: Net, draw: Draw) -> Net:
    """A net of one of the addresses, as long as the IPv4 one is; with a mask that is no prefix where that has one."""
    address = draw.choice(ADDRESSES)
    if net.length is None:
        mask = 0xFFFF << 112 | 0xFF
        return Net(address & mask, mask, Family.IPV6)
    lengths = next((found for least, found in LENGTHS.items() if net.length >= least), (1, 0))
    return Net.prefix(address, draw.choice(lengths) or 3, Family.IPV6)


def _target(target: r.Target | None, draw: Draw) -> r.Target | None:
    match target:
        case r.Dnat(to, choice):
            return r.Dnat(_range(to, draw), choice)
        case r.Snat(to, choice):
            return r.Snat(_range(to, draw), choice)
        case r.Netmap(net):
            its = _net(net, draw)
            return r.Netmap(its if its.length is not None else Net.prefix(its.address, 48, Family.IPV6))
        case r.Tproxy(_, address):
            on = None if address is None else draw.choice((0, *ADDRESSES))
            return replace(target, address=on, family=Family.IPV6)
        case r.Reject(how):
            return target if how == "tcp-reset" else r.Reject(draw.choice(REJECTS))
        case _:
            return target


def _range(to: r.NatRange, draw: Draw) -> r.NatRange:
    if to.first is None or to.last is None:
        return replace(to, family=Family.IPV6)
    first = draw.choice(ADDRESSES)
    return replace(to, first=first, last=first + to.last - to.first, family=Family.IPV6)
