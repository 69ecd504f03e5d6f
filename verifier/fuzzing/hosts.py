"""Hosts that the kernel builds, drawn at random: interfaces, routes, sysctls, and processes that listen and send."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from .. import hosts as h
from ..values import LAST_ID, TCP, UDP, Ids, IdSet, Net, Span, read_address
from . import numbers as n
from .sets import SETS

Draw = random.Random


def host(draw: Draw, backend: h.Backend) -> h.Host:
    own = _interfaces(draw)
    policy, tables = _policy(draw, own) if n.flip(draw, 40) else ((), {})
    before = tuple(_routing_rule(draw, own) for _ in range(draw.choice((0, 0, 0, 1, 2)) if policy else 0))
    processes = _processes(draw, own)
    return h.Host(
        "a drawn host",
        own,
        _routes(draw, own),
        _sysctls(draw, [i.name for i in own]),
        tuple(map(_unbound, processes)) if before else processes,
        backend=backend,
        sets=SETS,
        policy=policy,
        tables=tables,
        before_local=before,
    )


def _unbound(process: h.Process) -> h.Process:
    """No socket is bound to a device where rules stand before that of the local table."""
    listens = {(x.port, x.address, x.protocol): replace(x, device=None) for x in process.listens}
    return replace(process, device=None, listens=tuple(listens.values()))


def _interfaces(draw: Draw) -> tuple[h.Interface, ...]:
    """lo, then one to three others, of which one may have no address."""
    lo = [h.Address(read_address("127.0.0.1"), 8)]
    if n.flip(draw, 20):
        extra, length = draw.choice(
            (("127.0.0.6", 8), ("127.0.0.6", 32), ("10.0.2.2", 32), ("127.1.0.1", 16))
        )
        lo.append(h.Address(read_address(extra), length))
    found = [h.Interface("lo", tuple(lo))]
    free = list(n.OWN)
    draw.shuffle(free)
    for name in n.INTERFACES[: draw.randint(1, 3)]:
        wanted = draw.choice((2, 2, 1, 1, 1, 0) if len(found) > 1 else (2, 1))
        mine, free = free[:wanted], free[wanted:]
        length = draw.choice((24, 24, 24, 24, 16, 28, 32))
        found.append(h.Interface(name, tuple(h.Address(a, length) for a in mine)))
    return tuple(found)


def _routes(draw: Draw, own: tuple[h.Interface, ...]) -> tuple[h.Route, ...]:
    found: list[h.Route] = []
    devices = [i.name for i in own if i.name != "lo"]
    for interface in own[1:]:
        for address in interface.addresses:
            if address.length < 32 and n.flip(draw, 92):
                found.append(h.Route(address.net, interface.name, source=address.ip))
    if n.flip(draw, 80):
        via = draw.choice((read_address("10.0.0.7"), None))
        found.append(h.Route(Net(0, 0), draw.choice(devices), via))
    found += [_further(draw, own, h.BARRED) for _ in range(draw.randint(0, 2))]
    of_lo = [a.net for a in own[0].addresses]
    return _each_once(
        x
        for x in found
        if not any(x.net.mask > o.mask and x.net.address & o.mask == o.address for o in of_lo)
    )


def _further(draw: Draw, own: tuple[h.Interface, ...], others: Sequence[h.RouteKind]) -> h.Route:
    """A route to anywhere; of three in five or more it is a way."""
    net = Net.prefix(draw.choice(n.ADDRESSES), draw.choice((8, 16, 24, 32)))
    kind = draw.choice((*[h.RouteKind.UNICAST] * 3, *others))
    metric = draw.choice((0, 0, 100))
    if kind is not h.RouteKind.UNICAST:
        return h.Route(net, "lo" if kind is h.RouteKind.LOCAL else None, kind=kind, metric=metric)
    via = draw.choice((None, read_address("10.0.0.7")))
    mine = [a.ip for i in own for a in i.addresses if a.ip >> 24 != 127]
    device = draw.choice([i.name for i in own if i.name != "lo"])
    return h.Route(net, device, via, draw.choice((None, None, *mine)), metric=metric)


def _each_once(routes: Iterable[h.Route]) -> tuple[h.Route, ...]:
    """A table has one route to a subnet of each metric: the last one."""
    return tuple({(x.net, x.metric): x for x in routes}.values())


def _policy(
    draw: Draw, own: tuple[h.Interface, ...]
) -> tuple[tuple[h.RoutingRule, ...], dict[int, tuple[h.Route, ...]]]:
    """Routing rules, the main table's mostly among them, and the tables that they name."""
    tables = {}
    for number in n.TABLES:
        routes = [_further(draw, own, (*h.BARRED, *OF_TABLES)) for _ in range(draw.randint(0, 2))]
        if n.flip(draw, 60):
            device = draw.choice([i.name for i in own if i.name != "lo"])
            routes.append(h.Route(Net(0, 0), device, read_address("10.0.0.7")))
        tables[number] = _each_once(routes)
    policy = [_routing_rule(draw, own) for _ in range(draw.randint(1, 4))]
    if n.flip(draw, 85):
        policy.append(h.RoutingRule(h.MAIN))
    return tuple(policy), tables


OF_TABLES = (h.RouteKind.LOCAL, h.RouteKind.THROW)
"""Kinds of routes that further tables alone have."""


def _routing_rule(draw: Draw, own: tuple[h.Interface, ...]) -> h.RoutingRule:
    kind = draw.choice((*[h.RouteKind.UNICAST] * 9, *h.BARRED))
    is_way = kind is h.RouteKind.UNICAST
    names = [i.name for i in own]
    rule = h.RoutingRule(
        draw.choice((*n.TABLES, *n.TABLES, h.MAIN)) if is_way else None,
        Net.prefix(draw.choice(n.ADDRESSES), draw.choice((16, 24, 32))) if n.flip(draw, 25) else None,
        Net.prefix(draw.choice(n.ADDRESSES), draw.choice((8, 16, 24, 32))) if n.flip(draw, 25) else None,
        draw.choice(names) if n.flip(draw, 20) else None,
        draw.choice(names) if n.flip(draw, 8) else None,
        n.mark(draw) if n.flip(draw, 40) else None,
        negated=n.flip(draw, 15),
        suppress=draw.choice((0, 16, 24)) if is_way and n.flip(draw, 15) else None,
        kind=kind,
    )
    return asking(draw, rule)


def asking(draw: Draw, rule: h.RoutingRule) -> h.RoutingRule:
    """The rule, which now and then asks for uids, the protocol, and ports: for these where it speaks of what comes in by another
    interface than lo alone, since who writes headers, as the oracle does, tells the kernel no ports.
    """
    uids = Ids(*n.ordered(draw, n.IDS, LAST_ID)) if n.flip(draw, 20) else None
    protocol = draw.choice((TCP, TCP, UDP, 47)) if n.flip(draw, 15) else None
    ports = None
    if rule.in_iface not in (None, "lo") and not rule.negated and n.flip(draw, 40):
        first, last = n.ordered(draw, n.PORTS, 0xFFFE)
        ports = Span(max(first, 1), max(last, 1))
    return replace(rule, uids=uids, protocol=protocol, destination_ports=ports)


def _sysctls(draw: Draw, names: list[str]) -> dict[str, int]:
    found = dict(h.DEFAULTS)
    for key in found:
        if n.flip(draw, 45 if key.endswith(("ip_forward", "route_localnet")) else 20):
            found[key] = draw.choice((1, 2)) if key.endswith("rp_filter") else 1 - found[key]
    for name in names:
        for key, most in (
            ("route_localnet", 1),
            ("accept_local", 1),
            ("rp_filter", 2),
            ("send_redirects", 1),
        ):
            if n.flip(draw, 12):
                found[f"net.ipv4.conf.{name}.{key}"] = draw.randint(0, most)
    found["net.ipv4.conf.all.src_valid_mark"] = draw.randint(0, 1)
    return found


def _processes(draw: Draw, own: tuple[h.Interface, ...]) -> tuple[h.Process, ...]:
    """One that any socket may belong to, one with other marks and a device, and one that writes its own headers."""
    addresses = [a.ip for i in own for a in i.addresses]
    drawn = [
        h.Listener(
            draw.choice(n.LISTENING),
            draw.choice((None, None, *addresses)),
            draw.choice((TCP, TCP, UDP)),
            draw.choice([i.name for i in own]) if n.flip(draw, 12) else None,
            transparent=n.flip(draw, 40),
        )
        for _ in range(draw.randint(0, 4))
    ]
    # A host file has no two of one socket.
    listens = {replace(x, transparent=False): x for x in drawn}.values()
    anyone = IdSet((Ids(0, LAST_ID),))
    devices = [i.name for i in own if i.name != "lo"]
    return (
        h.Process(
            "app", anyone, anyone, tuple(sorted(listens, key=str)), supplementary=draw.choice(n.GROUPS)
        ),
        h.Process("marked", anyone, anyone, mark=draw.choice(n.MARKS), device=draw.choice((None, *devices))),
        h.Process(
            "raw", anyone, anyone, mark=draw.choice(n.MARKS), raw=True, supplementary=draw.choice(n.GROUPS)
        ),
    )
