"""Hosts with routing rules and further tables, and rules that set marks where these count, for Hypothesis."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from hypothesis import strategies as st
from msgspec.structs import replace

from verifier import hosts as h
from verifier.hosts import BARRED, RouteKind, Setting
from verifier.journeys import FromOutside
from verifier.packets import Packet
from verifier.rules import Accept, Chain, Literal, Protocol, Rule, RuleSet, SetMark, Table
from verifier.values import LAST_ID, TCP, UDP, Family, Ids, MarkMask, Net, Span

from .hosts import settings
from .strategies import ADDRESSES_OF, VALUES, few, ip, ip6, literals, one, seldom

BEFORE_A_ROUTE = (
    ("raw", "PREROUTING"),
    ("mangle", "PREROUTING"),
    ("raw", "OUTPUT"),
    ("mangle", "OUTPUT"),
    ("nat", "OUTPUT"),
)
"""Where a mark that is set makes a difference to a route that is looked up later."""

MARKED = (
    one((MarkMask(1), MarkMask(1, 1), MarkMask(0x80), MarkMask(0x81, 0x80), MarkMask(0, 1)))
    | VALUES[MarkMask]
)
"""Marks and masks of which what one rule sets another asks for, more often than not."""


@st.composite
def settings_by_rules(
    draw: st.DrawFn,
    most: int = 4,
    most_proxies: int = 3,
    answered: int = 0,
    family: Family = Family.IPV4,
) -> Setting:
    """As `hosts.settings`, where routes are looked up by rules."""
    setting = draw(settings(most, most_proxies, family, answered))
    return replace(setting, host=draw(by_rules(setting.host)), rules=draw(marking(setting.rules)))


@st.composite
def by_rules(draw: st.DrawFn, host: h.Host) -> h.Host:
    """The host with routing rules and one or two further tables; now and then sources are checked by marks."""
    names = [i.name for i in host.interfaces]
    processes = [replace(p, mark=draw(one((p.mark, 1, 0x80)))) for p in host.processes]
    numbers = (100, 101)[: draw(st.integers(1, 2))]
    tables = {number: draw(routes(host.interfaces, host.family)) for number in numbers}
    policy = draw(st.lists(routing_rules(names, numbers, host.family), min_size=1, max_size=4))
    if draw(seldom(90)):
        policy.append(h.RoutingRule(h.MAIN))
    before: list[h.RoutingRule] = []
    if host.family is Family.IPV4 and draw(seldom(25)):
        before = draw(st.lists(routing_rules(names, numbers, host.family), min_size=1, max_size=2))
        processes = [_unbound(p) for p in processes]
    sysctls = dict(host.sysctls)
    if draw(seldom(50)):
        sysctls[FORWARDING[host.family]] = 1
    for name in ("all", *names) if host.family is Family.IPV4 else ():
        if draw(seldom(35)):
            sysctls[f"net.ipv4.conf.{name}.src_valid_mark"] = 1
    return replace(
        host,
        policy=tuple(policy),
        tables=tables,
        sysctls=sysctls,
        processes=tuple(processes),
        before_local=tuple(before),
    )


def _unbound(process: h.Process) -> h.Process:
    """The process, whose sockets are bound to no device: those of hosts with rules before that of the local table are not."""
    listens = dict.fromkeys(replace(x, device=None, transparent=False) for x in process.listens)
    return replace(process, device=None, listens=tuple(listens))


FORWARDING = {Family.IPV4: "net.ipv4.ip_forward", Family.IPV6: "net.ipv6.conf.all.forwarding"}
PREFIXES = {Family.IPV4: (0, 8, 8, 16, 24, 32), Family.IPV6: (0, 8, 10, 48, 64, 127, 128)}
LENGTHS = {Family.IPV4: (0, 0, 8, 16, 23, 24, 31), Family.IPV6: (0, 0, 8, 10, 48, 63, 64, 127)}
NEIGHBOUR = {Family.IPV4: ip("10.0.0.7"), Family.IPV6: ip6("fd00::7")}


def nets_of(family: Family) -> st.SearchStrategy[Net]:
    return st.builds(Net.prefix, one(ADDRESSES_OF[family]), one(PREFIXES[family]), st.just(family))


@st.composite
def routing_rules(
    draw: st.DrawFn, names: Sequence[str], tables: Sequence[int], family: Family
) -> h.RoutingRule:
    """One that asks for a thing or two, most often a mark."""
    kind = draw(one((*[RouteKind.UNICAST] * 8, *BARRED)))
    looks_up = kind is RouteKind.UNICAST
    nets = nets_of(family)
    return h.RoutingRule(
        draw(one((*tables, *tables, h.MAIN))) if looks_up else None,
        source=draw(nets) if draw(seldom(20)) else None,
        destination=draw(nets) if draw(seldom(25)) else None,
        in_iface=draw(one((*names, *names, "absent"))) if draw(seldom(25)) else None,
        out_iface=draw(one(names)) if draw(seldom(8)) else None,
        mark=draw(MARKED) if draw(seldom(55)) else None,
        negated=draw(seldom(15)),
        suppress=draw(one(LENGTHS[family])) if looks_up and draw(seldom(25)) else None,
        kind=kind,
        uids=draw(one(UIDS)) if draw(seldom(18)) else None,
        protocol=draw(one((TCP, TCP, UDP, UDP, 1, 47, 50, 58))) if draw(seldom(14)) else None,
        source_ports=draw(one(PORTS)) if draw(seldom(7)) else None,
        destination_ports=draw(one(PORTS)) if draw(seldom(10)) else None,
        tos=draw(one((0x04, 0x08, 0x10, 0x1C))) if family is Family.IPV4 and draw(seldom(6)) else None,
    )


UIDS = (Ids(0, 0), Ids(0, 1336), Ids(1337, 1337), Ids(1000, 1999), Ids(1, LAST_ID), Ids(1 << 31, LAST_ID))
PORTS = (
    Span(80, 80),
    Span(53, 80),
    Span(1, 0xFFFE),
    Span(15001, 15006),
    Span(40000, 50000),
    Span(1024, 0xFFFE),
)


@st.composite
def routes(draw: st.DrawFn, own: tuple[h.Interface, ...], family: Family) -> tuple[h.Route, ...]:
    """Of a further table: most often a default, by any interface or to this host, and others of every kind."""
    devices = [i.name for i in own if i.name != "lo"]
    addresses = [a.ip for i in own for a in i.addresses]
    nets = st.just(Net(0, 0, family)) | nets_of(family)
    kinds = one((*[RouteKind.UNICAST] * 5, *[RouteKind.LOCAL] * 2, *[RouteKind.THROW] * 2, *BARRED))
    found = []
    for net in draw(st.lists(nets, min_size=1, max_size=4)):
        kind, metric = draw(kinds), draw(one((0, 0, 100)))
        source = draw(one((None, None, *addresses)))
        match kind:
            case RouteKind.UNICAST:
                via = draw(one((None, NEIGHBOUR[family])))
                found.append(h.Route(net, draw(one(devices)), via, source, metric=metric))
            case RouteKind.LOCAL:
                found.append(h.Route(net, "lo", source=source, kind=kind, metric=metric))
            case _:
                found.append(h.Route(net, None, kind=kind, metric=metric))
    return tuple({(x.net, x.metric): x for x in found}.values())


@st.composite
def marking(draw: st.DrawFn, rules: RuleSet) -> RuleSet:
    """The rule set, in which a mark is set first in some of the chains that come before a routing decision."""
    tables = dict(rules.tables)
    for name, hook in BEFORE_A_ROUTE:
        if draw(seldom(50 if name == "mangle" else 15)):
            table = tables.get(name, Table(name, {}))
            old = table.chains.get(hook, Chain(hook, Accept()))
            first = Rule(tuple(draw(few(literals(family=rules.family), 0, 1))), SetMark(draw(MARKED)))
            chains = {**table.chains, hook: replace(old, rules=(first, *old.rules))}
            tables[name] = replace(table, chains=chains)
    return replace(rules, tables=tables)


KINDS: Mapping[str, Callable[[int], st.SearchStrategy[Setting]]] = {
    "IPv4": partial(settings, answered=50),
    "IPv6": partial(settings, family=Family.IPV6, answered=50),
    "routing rules": partial(settings_by_rules, answered=50),
    "routing rules of IPv6": partial(settings_by_rules, answered=50, family=Family.IPV6),
}
"""All kinds of settings, with so many rules at most in each chain; half of them tell of answers."""


def way_back() -> Setting:
    """A host on which marks, and the way that a packet takes, decide by which way its source would be reached."""
    own = [("lo", "127.0.0.1", 8), ("eth0", "10.0.0.5", 24), ("eth1", "10.0.1.9", 24)]
    interfaces = tuple(h.Interface(name, (h.Address(ip(a), length),)) for name, a, length in own)
    connected = tuple(h.Route(i.addresses[0].net, i.name) for i in interfaces[1:])
    by_eth1 = (h.Route(Net(0, 0), "eth1"),)
    host = h.Host(
        "host",
        interfaces,
        (*connected, h.Route(Net(0, 0), "eth0")),
        {
            **h.DEFAULTS,
            "net.ipv4.ip_forward": 1,
            "net.ipv4.conf.all.rp_filter": 1,
            "net.ipv4.conf.eth0.src_valid_mark": 1,
        },
        policy=(
            h.RoutingRule(100, mark=MarkMask(1)),
            h.RoutingRule(101, in_iface="eth1"),
            h.RoutingRule(h.MAIN),
        ),
        tables={100: by_eth1, 101: by_eth1},
    )
    marked = Rule((Literal(Protocol(TCP)),), SetMark(MarkMask(1)))
    mangle = Table("mangle", {"PREROUTING": Chain("PREROUTING", Accept(), (marked,))})
    return Setting(host, RuleSet({"mangle": mangle}))


def frames() -> Iterator[tuple[FromOutside, Packet]]:
    """Frames of either kind at each interface, to the host and beyond it."""
    for name in ("eth0", "eth1"):
        for dst in ("10.0.0.5", "10.0.0.7", "10.0.1.5"):
            yield FromOutside(name), Packet(ip("8.8.8.8"), ip(dst), TCP, 4000, 80, flags=2, in_iface=name)
            yield FromOutside(name), Packet(ip("8.8.8.8"), ip(dst), UDP, 4000, 53, in_iface=name)
