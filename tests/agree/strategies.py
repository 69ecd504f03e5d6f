"""Settings, senders, packets and choices for Hypothesis, drawn from few numbers, so that rules and packets meet.

What a rule can say is derived from the closed unions of `rules`: a new class of `Match` or `Target` is drawn
without a line here, unless it has a field of a kind that nothing had before.
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from hypothesis import reject
from hypothesis import strategies as st

from verifier import claims as c
from verifier import hosts as h
from verifier import journeys as j
from verifier import rules as r
from verifier.hooks import BUILT_IN
from verifier.hosts import Setting
from verifier.packets import Packet
from verifier.samples import FLAGS, Edges
from verifier.values import (
    ALL_32,
    ICMP,
    LAST_ID,
    PORT_PROTOCOLS,
    TCP,
    UDP,
    AddressSet,
    CtState,
    Ids,
    IdSet,
    Iface,
    MarkMask,
    Net,
    Span,
    Special,
    mask_of,
    read_address,
)

T = TypeVar("T")
ip = read_address

# -- the numbers that everything is made of -----------------------------------------------------------

INTERFACES = ("eth0", "eth1", "eth10")
OWN = ("10.0.0.5", "10.0.0.6", "10.0.0.9", "10.0.1.9", "192.168.7.1", "128.0.0.0")
LENGTHS = (24, 24, 24, 24, 16, 30, 31, 32)
LOOPBACKS = ("127.0.0.1", "127.0.0.6", "127.255.255.255")
OTHERS = (
    "10.0.0.7",
    "10.0.0.255",
    "10.0.2.2",
    "8.8.8.8",
    "224.0.0.1",
    "255.255.255.255",
    "0.0.0.0",
    "127.255.255.255",
)
ADDRESSES = tuple(ip(a) for a in (*OWN, *LOOPBACKS, *OTHERS))
PORTS = (80, 8080, 15001, 15006, 53, 1, 0x7FFF, 0x8000, 0xFFFF)
LISTENING = (80, 8080, 15001, 15006, 15001, 15006, 53)
IDS = (0, 1000, 1337, 0x7FFFFFFF, 0x80000000, LAST_ID)
MARKS = (0, 1, 0x80, 0x80000000, ALL_32)
ICMP_TYPES = (0, 3, 8, 13, 255)


def one(values: Sequence[T]) -> st.SearchStrategy[T]:
    try:
        return _one(tuple(values))
    except TypeError:  # they cannot be hashed
        return st.sampled_from(values)


@cache
def _one(values: tuple[T, ...]) -> st.SearchStrategy[T]:
    """Made once for the same values: Hypothesis looks long at each strategy that it has not seen before."""
    return st.sampled_from(values)


@cache
def seldom(percent: int) -> st.SearchStrategy[bool]:
    """True about so often; False is the simpler one."""
    return st.integers(0, 99).map(lambda n: n >= 100 - percent)


@cache
def few(items: st.SearchStrategy[T], least: int, most: int) -> st.SearchStrategy[list[T]]:
    return st.lists(items, min_size=least, max_size=most)


def nets() -> st.SearchStrategy[Net]:
    masks = one([*map(mask_of, (32, 32, 32, 24, 16, 8, 31, 1, 0)), ip("255.0.0.255"), ip("0.0.1.1")])
    return st.builds(lambda a, m: Net(a & m, m), one(ADDRESSES), masks)


def spans() -> st.SearchStrategy[Span]:
    ends = st.tuples(one(PORTS), one((*PORTS, None)), one((-1, 0, 1)))

    def span(drawn: tuple[int, int | None, int]) -> Span:
        a, b, shift = drawn
        a = min(max(a + shift, 0), 0xFFFF)
        return Span(a, a) if b is None else Span(min(a, b), max(a, b))

    return ends.map(span)


def id_ranges() -> st.SearchStrategy[Ids]:
    one_id = one(IDS).map(lambda n: Ids(n, n))
    return one_id | st.tuples(one(IDS), one(IDS)).map(lambda ab: Ids(min(ab), max(ab)))


def id_sets() -> st.SearchStrategy[IdSet]:
    return (
        st.just(IdSet.read("any"))
        | id_ranges().map(lambda i: IdSet((i,)))
        | st.lists(id_ranges(), min_size=1, max_size=3).map(IdSet.of)
    )


def marks() -> st.SearchStrategy[MarkMask]:
    return st.builds(MarkMask, one(MARKS), one((ALL_32, ALL_32, 1, 0x80, 0x81, 0x7FFFFFFF, 0x80000000, 0)))


def iface_patterns() -> st.SearchStrategy[Iface]:
    return one((*INTERFACES, "lo", "eth+", "eth1+", "+", "l+", "wlan0")).map(Iface)


# -- what a rule can say, derived from its type ---------------------------------------------------------

VALUES: Mapping[Any, st.SearchStrategy[Any]] = {
    Net: nets(),
    Span: spans(),
    Ids: id_ranges(),
    IdSet: id_sets(),
    MarkMask: marks(),
    Iface: iface_patterns(),
    CtState: one((CtState.NEW, CtState.INVALID, CtState.ESTABLISHED)),
}

FIELDS: Mapping[str, st.SearchStrategy[Any]] = {
    "number": one((TCP, TCP, UDP, ICMP, 47, 132)),
    "mask": one((0x17, 0x3F, 0x02, 0x12, 0)),
    "set": one((0x02, 0x02, 0x12, 0x10, 0)),
    "type": one(ICMP_TYPES),
    "code": one((0, 1)),
    "port": one((80, 8080, 15001, 15006, 15001, 15006, 1, 0x8000)),
    "address": one([a for a in ADDRESSES if a]),
    "text": one(("u32 a", "u32 b")),
    "how": one(("icmp-port-unreachable", "tcp-reset")),
}
"""Fields that are bare numbers or texts, by their names."""


@cache
def of_type(hint: Any, name: str = "") -> st.SearchStrategy[Any]:
    """Values of an annotation: of unions, tuples, sets, enumerations and frozen classes, down to values."""
    if hint in VALUES:
        return VALUES[hint]
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return st.one_of([of_type(a, name) for a in args])
    if origin is tuple:
        return st.lists(of_type(args[0], name), min_size=1, max_size=3).map(tuple)
    if origin is frozenset:
        return st.frozensets(of_type(args[0], name), min_size=1, max_size=3)
    if hint is type(None):
        return st.none()
    if hint is bool:
        return st.booleans()
    if isinstance(hint, type) and issubclass(hint, Enum):
        return one(list(hint))
    if is_dataclass(hint):
        return built(hint)
    return FIELDS[name] if name in FIELDS else st.from_type(hint)


@st.composite
def built(draw: st.DrawFn, kind: Any, known: Mapping[str, st.SearchStrategy[Any]] | None = None) -> Any:
    """Instances of a frozen class, field by field; what the class itself refuses is drawn again."""
    known = known or {}
    for _ in range(9):
        drawn = {
            name: draw(known[name] if name in known else of_type(hint, name)) for name, hint in _fields(kind)
        }
        try:
            return kind(**drawn)
        except ValueError:
            continue
    return reject()


@cache
def _fields(kind: Any) -> tuple[tuple[str, Any], ...]:
    hints = get_type_hints(kind)
    return tuple((f.name, hints[f.name]) for f in fields(kind))


@cache
def matches(kinds: tuple[type, ...] = get_args(r.Match)) -> st.SearchStrategy[r.Match]:
    return st.one_of([of_type(kind) for kind in kinds])


KNOWN = tuple(kind for kind in get_args(r.Match) if kind is not r.Opaque)


@cache
def literals(kinds: tuple[type, ...] = KNOWN) -> st.SearchStrategy[r.Literal]:
    def literal(drawn: tuple[r.Match, bool]) -> r.Literal:
        return r.Literal(drawn[0], drawn[1] and not isinstance(drawn[0], r.OwnerIds))

    return st.tuples(matches(kinds), seldom(30)).map(literal)


ENDERS = (r.Drop, r.Reject, r.OpaqueTarget)
"""Targets after which there is nothing more to compare: these are drawn less often."""
TRANSLATORS = (r.Redirect, r.Dnat)
CALLS = (r.Jump, r.Goto)


@st.composite
def targets(draw: st.DrawFn, table: str, built_in: str | None, callees: Sequence[str]) -> r.Target | None:
    """A target, most often one that the kernel would load there."""
    translates = table == "nat" and built_in not in ("INPUT", "POSTROUTING")
    kinds: list[Any] = [None] * 4
    for kind in get_args(r.Target):
        if kind in CALLS and not callees:
            continue
        kinds += [kind] * (2 if kind in ENDERS else 6)
        kinds += [kind] * (16 if kind in TRANSLATORS and translates else 0)
        kinds += [kind] * (8 if kind in CALLS else 0)
    kind = draw(one(kinds))
    if kind in TRANSLATORS and not translates and not draw(seldom(4)):
        kind = r.Accept
    if kind is None:
        return None
    if kind in CALLS:
        return kind(draw(one(callees)))
    return draw(of_type(kind))


@st.composite
def rules(draw: st.DrawFn, table: str, built_in: str | None, callees: Sequence[str]) -> r.Rule:
    kinds = get_args(r.Match) if draw(seldom(12)) else KNOWN
    if built_in in (None, "OUTPUT", "POSTROUTING"):
        # An owner is only there where a socket of this host sends.
        kinds = (*kinds, r.OwnerIds, r.OwnerIds)
    target = draw(targets(table, built_in, callees))
    found = draw(few(literals(kinds), 1 if type(target) in ENDERS else 0, 2))
    return r.Rule(r.ordered(tuple(found)), target)


@st.composite
def tables(draw: st.DrawFn, name: str, most: int = 4) -> r.Table:
    users = [f"C{i}" for i in range(1, 1 + draw(st.integers(0, 3)))]
    chains = {}
    for built_in in BUILT_IN[name]:
        if draw(seldom(3)):
            continue
        policy = r.Drop() if draw(seldom(4)) else r.Accept()
        found = draw(st.lists(rules(name, built_in, tuple(users)), max_size=most))
        chains[built_in] = r.Chain(built_in, policy, tuple(found))
    for i, user in enumerate(users):
        found = draw(st.lists(rules(name, None, tuple(users[i + 1 :])), max_size=most))
        chains[user] = r.Chain(user, None, tuple(found))
    return r.Table(name, chains)


@st.composite
def rule_sets(draw: st.DrawFn, most: int = 4) -> r.RuleSet:
    names = [n for n, percent in TABLES.items() if draw(seldom(percent))]
    return r.RuleSet({name: draw(tables(name, most)) for name in names})


TABLES = {"nat": 85, "filter": 65, "mangle": 45, "raw": 35, "security": 20}


# -- hosts ----------------------------------------------------------------------------------------------


@st.composite
def interfaces(draw: st.DrawFn) -> tuple[h.Interface, ...]:
    """lo, then one to three others."""
    lo = [h.Address(ip("127.0.0.1"), 8)]
    if draw(seldom(20)):
        extra = one([("127.0.0.6", 8), ("127.0.0.6", 32), ("10.0.2.2", 32), ("127.1.0.1", 16)])
        lo.append((lambda a: h.Address(ip(a[0]), a[1]))(draw(extra)))
    if draw(seldom(5)):
        lo = lo[1:]
    found = [h.Interface("lo", tuple(lo))]
    free = [ip(a) for a in OWN]
    for name in INTERFACES[: draw(st.integers(1, 3))]:
        mine = draw(st.lists(one(free), min_size=draw(one((1, 1, 1, 1, 0))), max_size=3, unique=True))
        found.append(h.Interface(name, tuple(h.Address(a, draw(one(LENGTHS))) for a in mine)))
        free = [a for a in free if a not in mine] or [max(free) + 1]
    return tuple(found)


@st.composite
def routes(draw: st.DrawFn, own: tuple[h.Interface, ...]) -> tuple[h.Route, ...]:
    """Most of the connected routes, most often a default, and others of every kind."""
    found: list[h.Route] = []
    devices = [i.name for i in own if i.name != "lo"]
    for interface in own[1:]:
        for address in interface.addresses:
            if address.length < 32 and draw(seldom(90)):
                found.append(h.Route(address.net, interface.name, source=address.ip))
    if draw(seldom(75)):
        found.append(h.Route(Net(0, 0), draw(one(devices)), draw(one((ip("10.0.0.7"), None)))))
    for _ in range(draw(st.integers(0, 2))):
        net = Net.prefix(draw(one(ADDRESSES)), draw(one((8, 16, 24, 32))))
        kind = draw(one((h.RouteKind.UNICAST, h.RouteKind.UNICAST, *h.RouteKind)))
        metric = draw(one((0, 0, 100)))
        if kind is h.RouteKind.UNICAST:
            via, source = draw(one((None, ip("10.0.0.7")))), draw(one((None, None, *_own(own))))
            found.append(h.Route(net, draw(one(devices)), via, source, metric=metric))
        else:
            found.append(h.Route(net, None, kind=kind, metric=metric))
    return tuple({(x.net, x.metric): x for x in found}.values())


def _own(found: tuple[h.Interface, ...]) -> list[int]:
    return [a.ip for i in found for a in i.addresses]


@st.composite
def sysctls(draw: st.DrawFn, names: Sequence[str]) -> dict[str, int]:
    found = dict(h.DEFAULTS)
    for key in found:
        if draw(seldom(45 if key.endswith(("ip_forward", "route_localnet")) else 20)):
            found[key] = draw(one((1, 2))) if key.endswith("rp_filter") else 1 - found[key]
    for name in names:
        for key, most in (
            ("route_localnet", 1),
            ("accept_local", 1),
            ("rp_filter", 2),
            ("send_redirects", 1),
        ):
            if draw(seldom(12)):
                found[f"net.ipv4.conf.{name}.{key}"] = draw(st.integers(0, most))
    return found


@st.composite
def listeners(draw: st.DrawFn, own: tuple[h.Interface, ...]) -> h.Listener:
    address = draw(one((None, None, None, None, ip("127.0.0.1"), *_own(own))))
    device = draw(one([i.name for i in own])) if draw(seldom(12)) else None
    protocol = UDP if draw(seldom(20)) else TCP
    return h.Listener(draw(one(LISTENING)), address, protocol, device)


@st.composite
def dials(draw: st.DrawFn, own: tuple[h.Interface, ...]) -> h.Dial:
    address = draw(one((None, None, ip("127.0.0.1"), ip("10.0.0.7"), *_own(own), 0)))
    return h.Dial(address, draw(one((None, *LISTENING))))


@st.composite
def proxy_routes(draw: st.DrawFn, own: tuple[h.Interface, ...]) -> h.ProxyRoute:
    source: h.DialSource
    kind = draw(one((h.KernelChooses, h.KernelChooses, h.BoundTo, h.ClientsOwn)))
    if kind is h.BoundTo:
        source = h.BoundTo(draw(one((ip("127.0.0.1"), ip("127.0.0.6"), *_own(own)))))
    else:
        source = kind()
    ports = tuple(draw(few(VALUES[Span], 0, 2))) if draw(seldom(40)) else ()
    return h.ProxyRoute(tuple(draw(st.lists(dials(own), min_size=1, max_size=3))), source, ports)


@st.composite
def processes(draw: st.DrawFn, own: tuple[h.Interface, ...], most_proxies: int = 3) -> tuple[h.Process, ...]:
    found = []
    taken: set[h.Listener] = set()
    left = draw(st.integers(0, most_proxies))
    for name in ("envoy", "app", "other")[: draw(st.integers(1, 3))]:
        most = 4 if name == "envoy" else 2
        listens = [
            x
            for x in draw(st.lists(listeners(own), min_size=1, max_size=most, unique=True))
            if x not in taken
        ]
        taken |= set(listens)
        proxies = []
        for port in sorted({x.port for x in listens if x.protocol == TCP}):
            if left and draw(seldom(75)):
                left -= 1
                some = tuple(draw(st.lists(proxy_routes(own), min_size=1, max_size=3)))
                refused = one(LISTENING).map(lambda port: Span(port, port)) | VALUES[Span]
                refuses = tuple(draw(few(refused, 1, 2))) if draw(seldom(30)) else ()
                proxies.append(h.Proxy(f"at{port}", port, some, refuses))
        found.append(
            h.Process(
                name,
                draw(VALUES[IdSet]),
                draw(VALUES[IdSet]),
                tuple(listens),
                tuple(proxies),
                mark=draw(one(MARKS)) if draw(seldom(25)) else 0,
                device=draw(one([i.name for i in own if i.name != "lo"])) if draw(seldom(20)) else None,
                raw=draw(seldom(20)),
            )
        )
    return tuple(found)


@st.composite
def hosts(draw: st.DrawFn, most_proxies: int = 3) -> h.Host:
    own = draw(interfaces())
    return h.Host(
        "host",
        own,
        draw(routes(own)),
        draw(sysctls([i.name for i in own])),
        draw(processes(own, most_proxies)),
        outside=draw(address_sets()) if draw(seldom(15)) else AddressSet(),
        backend=draw(one((h.Backend.LEGACY, h.Backend.NFT, h.Backend.EITHER))),
    )


@st.composite
def settings(draw: st.DrawFn, most: int = 4, most_proxies: int = 3) -> Setting:
    """A host and its rules: at most `most` in each chain."""
    return Setting(draw(hosts(most_proxies)), draw(rule_sets(most)))


# -- senders, packets, choices ----------------------------------------------------------------------------


def senders_of(setting: Setting) -> list[j.Sender]:
    """Everybody who may send on this host, proxies too."""
    host = setting.host
    found: list[j.Sender] = [j.FromOutside(i.name) for i in host.interfaces if i.name != "lo"]
    found += [j.FromProcess(p.name) for p in host.processes]
    found += [j.FromProxy(p.name, x.name) for p in host.processes for x in p.proxies]
    return found


@st.composite
def packets(draw: st.DrawFn, setting: Setting, sender: j.FromOutside | j.FromProcess, edges: Edges) -> Packet:
    """A whole packet near the edges of the rules; a process's is one that it may send, more often than not."""
    host = setting.host
    own = _own(host.interfaces) or [ip("127.0.0.1")]
    if isinstance(sender, j.FromOutside):
        own = _own(tuple(i for i in host.interfaces if i.name != "lo")) or own
    wild = draw(seldom(20))
    addresses = one(edges.addresses) | one(ADDRESSES)
    ports = one(edges.ports) | one(LISTENING) | one(LISTENING)
    proto = draw(one((TCP, TCP, TCP, UDP, ICMP))) if draw(seldom(85)) else draw(one(edges.protocols))
    has_ports = proto in PORT_PROTOCOLS
    sockets = [x for p in host.processes for x in p.listens if x.protocol == proto]
    dst, dport = draw(addresses if wild else one(own) | one(own) | addresses), draw(ports) if has_ports else 0
    if sockets and draw(seldom(40)):
        socket = draw(one(sockets))
        dst, dport = draw(one(own)) if socket.address is None else socket.address, socket.port
    sport = draw(ports if wild else ports.map(lambda p: p or 40000)) if has_ports else 0
    flags = int(draw(one(FLAGS) if not wild else st.integers(0, 255))) if proto == TCP else 0
    icmp = (draw(one(ICMP_TYPES)), draw(one((0, 1)))) if proto == ICMP else (0, 0)
    if isinstance(sender, j.FromOutside):
        src = draw(addresses if wild else one((ip("10.0.0.7"), ip("8.8.8.8"))))
        return Packet(src, dst, proto, sport, dport, flags, *icmp, in_iface=sender.interface)
    process = host.process(sender.process)
    src = draw(addresses if wild or process.raw else one(own) | one((ip("127.0.0.1"), ip("127.0.0.6"))))
    uid, gid = (draw(one(edges.ids) if wild else ids_of(i)) for i in (process.uid, process.gid))
    mark = draw(one(edges.marks) if wild else one((0, process.mark)))
    device = draw(
        one((None, process.device)) if not wild else one((None, *(i.name for i in host.interfaces)))
    )
    return Packet(src, dst, proto, sport, dport, flags, *icmp, uid=uid, gid=gid, mark=mark, device=device)


def begins(setting: Setting, sender: j.Sender, edges: Edges) -> st.SearchStrategy[Packet | j.ProxyState]:
    """What a journey of this sender begins with: a packet, or of a proxy the state that it dials in."""
    if isinstance(sender, j.FromProxy):
        return proxy_states(setting, sender, edges)
    return packets(setting, sender, edges)


def ids_of(ids: IdSet) -> st.SearchStrategy[int]:
    """Ids of a set, at the ends of its ranges and at the edges between."""
    found = [x for i in ids.ranges for x in (i.first, i.last, *(e for e in IDS if i.first <= e <= i.last))]
    return one(found)


@st.composite
def proxy_states(draw: st.DrawFn, setting: Setting, sender: j.FromProxy, edges: Edges) -> j.ProxyState:
    """A state of this proxy, which may be one that it does not dial in."""
    proxy = next(x for x in setting.host.process(sender.process).proxies if x.name == sender.proxy)
    keeps = any(isinstance(route.source, h.ClientsOwn) for route in proxy.routes)
    addresses = one(edges.addresses) | one(ADDRESSES)
    client = draw(one((ip("10.0.0.7"), ip("127.0.0.1"))) | addresses) if keeps else None
    own = one(_own(setting.host.interfaces) or [ip("127.0.0.1")])
    ports = one(edges.ports) | one(LISTENING)
    return j.ProxyState(sender.process, sender.proxy, draw(own | addresses), draw(ports), client)


# -- claims -------------------------------------------------------------------------------------------------


def address_terms() -> st.SearchStrategy[Net | Special]:
    return nets() | st.just(Special.UNICAST)


def address_sets() -> st.SearchStrategy[AddressSet]:
    some = st.lists(address_terms(), max_size=2).map(tuple)
    return st.builds(AddressSet, some, some)


def havings() -> st.SearchStrategy[c.With]:
    return st.just(c.ANYHOW) | st.builds(
        c.With,
        st.none() | address_sets(),
        st.none() | address_sets(),
        st.none() | one((*LISTENING, 0)),
        seldom(30),
        st.none() | marks(),
    )


@st.composite
def verbs(draw: st.DrawFn, setting: Setting, depth: int = 2) -> c.Verb:
    """Any verb, about chains, rules, processes and interfaces of this setting."""
    kinds = [k for k in get_args(c.Verb) if depth or k not in (c.Not, c.AnyOf)]
    processes_ = one([p.name for p in setting.host.processes])
    interface = st.none() | one([i.name for i in setting.host.interfaces])
    chains = [c.ChainRef(t.name, n) for t in setting.rules.tables.values() for n in t.chains] or [
        c.ChainRef("filter", "INPUT")
    ]
    sites = [
        c.RuleRef(t.name, n, i)
        for t in setting.rules.tables.values()
        for n, chain in t.chains.items()
        for i in range(1, len(chain.rules) + 1)
    ] or [c.RuleRef("filter", "INPUT", 1)]
    about: dict[str, st.SearchStrategy[Any]] = {
        "chain": one(chains),
        "rule": one(sites),
        "process": processes_,
        "port": st.none() | one(LISTENING),
        "having": havings(),
        "interface": interface,
    }
    kind = draw(one(kinds))
    match kind:
        case c.Not:
            return c.Not(draw(verbs(setting, depth - 1)))
        case c.AnyOf:
            return c.AnyOf(tuple(draw(st.lists(verbs(setting, depth - 1), min_size=1, max_size=3))))
        case c.IsDropped:
            return c.IsDropped(draw(st.none() | one(chains)))
        case _:
            return draw(built(kind, about))


@st.composite
def filters(draw: st.DrawFn) -> c.Filter:
    return c.Filter(
        protocol=draw(one((TCP, UDP, ICMP))) if draw(seldom(25)) else None,
        to=draw(address_sets()) if draw(seldom(25)) else None,
        source=draw(address_sets()) if draw(seldom(25)) else None,
        ports=tuple(draw(few(VALUES[Span], 0, 2))) if draw(seldom(25)) else (),
        where=tuple(draw(few(literals(), 0, 1))) if draw(seldom(40)) else (),
    )


@st.composite
def premises(draw: st.DrawFn, sender: j.Sender) -> c.Premise:
    """A premise about this sender."""
    match sender:
        case j.FromOutside(interface):
            who: c.Who = c.Outside(interface)
        case j.FromProcess(process):
            who = c.OfProcess(process)
        case j.FromProxy(process, proxy):
            who = c.OfProxy(process, proxy)
    exceptions = draw(st.lists(filters(), max_size=1))
    return c.Premise(
        who,
        draw(one(list(c.Kind))),
        draw(filters()),
        tuple(c.Exception_(f, "it is so", "text") for f in exceptions),
    )
