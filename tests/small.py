"""A host so small that all its packets and choices can be tried, and journeys tried with every choice there is."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from verifier import claims as c
from verifier import hosts as h
from verifier import journeys as j
from verifier import rules as r
from verifier.concrete import claims as concrete
from verifier.concrete.proxies import dials
from verifier.concrete.travel import travel
from verifier.packets import Packet
from verifier.values import (
    TCP,
    AddressSet,
    Ids,
    IdSet,
    Net,
    Span,
    TcpFlag,
    read_address,
)

ip = read_address
OWN, PEER, FAR, ENVOYS = ip("10.0.0.5"), ip("10.0.0.7"), ip("8.8.8.8"), ip("127.0.0.6")
LOCALHOST = ip("127.0.0.1")
PORTS = (80, 81, 15001, 15006)
DRAWN = (40001, 40002)
"""Source ports: one that rules may ask for, and one that stands for all others."""
ACCEPT = r.Accept()


def host(
    *processes: h.Process,
    routes: tuple[h.Route, ...] | None = None,
    sysctls: dict[str, int] | None = None,
    name: str = "host",
) -> h.Host:
    """lo and eth0 with one address, a default route, and one peer who sends."""
    return h.Host(
        name,
        (
            h.Interface("lo", (h.Address(LOCALHOST, 8),)),
            h.Interface("eth0", (h.Address(OWN, 24),)),
        ),
        (h.Route(Net(0, 0), "eth0", via=ip("10.0.0.1")),) if routes is None else routes,
        dict(h.DEFAULTS) | (sysctls or {}),
        processes,
        outside=AddressSet((Net(PEER),)),
        backend=h.Backend.LEGACY,
    )


def process(
    name: str,
    uid: int | str,
    *ports: int | h.Listener,
    proxies: tuple[h.Proxy, ...] = (),
    gid: int = 1000,
    mark: int = 0,
) -> h.Process:
    listens = tuple(p if isinstance(p, h.Listener) else h.Listener(p) for p in ports)
    return h.Process(name, IdSet.read(str(uid)), IdSet((Ids(gid, gid),)), listens, proxies, mark)


def app(*ports: int | h.Listener) -> h.Process:
    return process("app", 1000, *(ports or (80,)))


SIX = h.BoundTo(ENVOYS)


def envoy(
    *dialled: h.Dial,
    source: h.DialSource = SIX,
    accepts: int = 15001,
    refuses: tuple[int, ...] = (),
    uid: int | str = 1337,
) -> h.Process:
    """A process with one proxy, `in`, that dials its original destination unless other dials are given."""
    route = h.ProxyRoute(dialled or (h.Dial(),), source)
    proxy = h.Proxy("in", accepts, (route,), tuple(Span(p, p) for p in refuses))
    return process("envoy", uid, accepts, proxies=(proxy,))


def rule(*matches: r.Match | r.Literal, then: r.Target | None = None) -> r.Rule:
    literals = tuple(m if isinstance(m, r.Literal) else r.Literal(m) for m in matches)
    return r.Rule(r.ordered(literals), then)


def no(match: r.Match) -> r.Literal:
    return r.Literal(match, True)


def table(name: str, **chains: list[r.Rule]) -> r.Table:
    """A table: chains in capitals are built in, with policy ACCEPT."""
    return r.Table(
        name, {n: r.Chain(n, ACCEPT if n.isupper() else None, tuple(rules)) for n, rules in chains.items()}
    )


def rule_set(*tables: r.Table) -> r.RuleSet:
    return r.RuleSet({t.name: t for t in tables})


def syn(dport: int = 80, src: int = PEER, dst: int = OWN, sport: int = 40001, **more: int) -> Packet:
    return Packet(src, dst, TCP, sport, dport, int(TcpFlag.SYN), **more)  # type: ignore[arg-type]


OPAQUE = r.Opaque("-m u32 --u32 0=1")

# -- every packet, every choice ---------------------------------------------------------------------


class Trip(Struct, frozen=True):
    """A first packet (or, of a proxy's dials, a state), with all choices made."""

    sender: j.Sender
    begin: Packet | j.ProxyState
    choices: j.Choices

    def travel(self, setting: h.Setting, hops: int | None = None) -> j.Journey:
        if isinstance(self.begin, Packet):
            return travel(setting, self.sender, self.begin, self.choices, None, hops)
        return travel(setting, self.sender, None, self.choices, self.begin, hops)


def packets(premise: c.Premise, setting: h.Setting) -> Iterator[tuple[j.Sender, Packet | j.ProxyState]]:
    """The beginnings that a premise speaks of, as far as this small world has them."""
    match premise.who:
        case c.Outside():
            sender: j.Sender = j.FromOutside("eth0")
            begins = [syn(port, sport=s) for port in PORTS for s in DRAWN]
        case c.OfProcess(name):
            sender = j.FromProcess(name)
            ids = setting.host.process(name)
            uid, gid = ids.uid.ranges[0].first, ids.gid.ranges[0].first
            begins = [
                syn(port, OWN, dst, s, uid=uid, gid=gid)
                for port in PORTS
                for dst in (OWN, FAR)
                for s in DRAWN
            ]
        case c.OfProxy(name, proxy):
            for address in (OWN, FAR):
                for port in PORTS:
                    state = j.ProxyState(
                        name, proxy, address, port, PEER if keeps(setting, name, proxy) else None
                    )
                    if dials(setting.host, state):
                        yield j.FromProxy(name, proxy), state
            return
    for packet in begins:
        if concrete.meets(premise, setting, sender, packet):
            yield sender, packet


def keeps(setting: h.Setting, name: str, proxy: str) -> bool:
    (found,) = (x for x in setting.host.process(name).proxies if x.name == proxy)
    return any(isinstance(route.source, h.ClientsOwn) for route in found.routes)


MOST = 1500
"""Journeys from one beginning, at most."""


class TooMany(Exception):
    """There are more."""


def trips(
    setting: h.Setting, sender: j.Sender, begin: Packet | j.ProxyState, hops: int | None = None
) -> Iterator[tuple[Trip, j.Journey]]:
    """Every journey from here: with each source port, each dial of a proxy, and each answer of an opaque match."""
    waiting = [j.Choices()]
    told = 0
    while waiting:
        made = waiting.pop()
        trip = Trip(sender, begin, made)
        journey = trip.travel(setting, hops)
        more = _undecided(setting, trip, journey)
        if more:
            waiting += more
        else:
            told += 1
            if told + len(waiting) > MOST:
                raise TooMany
            yield trip, journey


def _undecided(setting: h.Setting, trip: Trip, journey: j.Journey) -> list[j.Choices]:
    """The ways to make the first choice that was not made yet."""
    made = trip.choices
    for evaluation in journey.asked:
        if evaluation not in made.opaque:
            return [replace(made, opaque={**made.opaque, evaluation: truth}) for truth in j.Truth]
    for hop, state in dialled(trip, journey).items():
        if hop not in made.ports:
            return [replace(made, ports={**made.ports, hop: port}) for port in DRAWN]
        options = len(route_of(setting, state).dials)
        if hop not in made.picks and options > 1:
            return [replace(made, picks={**made.picks, hop: i}) for i in range(options)]
    return []


def dialled(trip: Trip, journey: j.Journey) -> dict[int, j.ProxyState]:
    """The proxy state of each hop that a proxy dialled."""
    first = {0: trip.begin} if isinstance(trip.begin, j.ProxyState) else {}
    return first | dict(enumerate(journey.states, 1))


def route_of(setting: h.Setting, state: j.ProxyState) -> h.ProxyRoute:
    (proxy,) = (x for x in setting.host.process(state.process).proxies if x.name == state.proxy)
    return next(
        x for x in proxy.routes if not x.ports or any(s.first <= state.port <= s.last for s in x.ports)
    )


# -- drawn ------------------------------------------------------------------------------------------


def matches(opaque: bool = True) -> st.SearchStrategy[r.Literal]:
    some: list[r.Literal] = [
        r.Literal(r.Protocol(TCP)),
        r.Literal(r.DestinationPorts(Span(80, 80))),
        r.Literal(r.DestinationPorts(Span(81, 15001))),
        r.Literal(r.SourcePorts(Span(40001, 40001))),
        r.Literal(r.OwnerIds(uid=Ids(1337, 1337))),
        r.Literal(r.Source(Net(ENVOYS))),
        r.Literal(r.Source(Net(OWN))),
        r.Literal(r.Destination(Net(OWN)), True),
        r.Literal(r.Mark(r.MarkMask(1))),
    ]
    return st.sampled_from([*some, *[r.Literal(OPAQUE)] * 2 * opaque])


@st.composite
def rules(draw: st.DrawFn, targets: list[r.Target | None], opaque: bool = True) -> r.Rule:
    literals = draw(st.lists(matches(opaque), max_size=2, unique=True))
    return rule(*literals, then=draw(st.sampled_from(targets)))


@st.composite
def rule_sets(draw: st.DrawFn, opaque: bool = True) -> r.RuleSet:
    to_proxies: list[r.Target | None] = [
        r.Redirect(Span.one(15001)),
        r.Redirect(Span.one(15001)),
        r.Redirect(Span.one(15006)),
    ]
    nat = [
        *to_proxies,
        r.Accept(),
        r.Return(),
        r.Dnat(r.NatRange.of(None, 80)),
        r.SetMark(r.MarkMask(1)),
        r.Jump("more"),
    ]
    asked = draw(st.integers(0, 1)) if opaque else 0
    chains = {
        "PREROUTING": draw(st.lists(rules(nat, bool(asked)), max_size=2)),
        "OUTPUT": draw(st.lists(rules(nat, bool(asked)), max_size=3)),
        "more": draw(st.lists(rules([*to_proxies, r.Return(), None], False), max_size=2)),
    }
    tables = [table("nat", **chains)]
    if draw(st.booleans()):
        ends: list[r.Target | None] = [r.Drop(), r.Reject(), r.Accept(), r.SetMark(r.MarkMask(1))]
        tables.append(
            table(
                "filter",
                OUTPUT=draw(st.lists(rules(ends, bool(asked)), max_size=1)),
                INPUT=draw(st.lists(rules(ends, False), max_size=1)),
            )
        )
    return rule_set(*tables)


@st.composite
def proxies(draw: st.DrawFn, name: str, accepts: int) -> h.Proxy:
    targets = [h.Dial(), h.Dial(), h.Dial(OWN, None), h.Dial(None, 80), h.Dial(OWN, 15001), h.Dial(FAR, 81)]
    sources: list[h.DialSource] = [h.BoundTo(ENVOYS), h.BoundTo(OWN), h.KernelChooses(), h.ClientsOwn()]
    routes = [
        h.ProxyRoute(
            tuple(draw(st.lists(st.sampled_from(targets), min_size=1, max_size=2, unique=True))),
            draw(st.sampled_from(sources)),
            draw(st.sampled_from([(), (Span(80, 80),), (Span(81, 15006),)])),
        )
        for _ in range(draw(st.integers(1, 2)))
    ]
    refuses = tuple(Span(p, p) for p in draw(st.sampled_from([(), (accepts,), (15001, 15006)])))
    return h.Proxy(name, accepts, tuple(routes), refuses)


@st.composite
def settings(draw: st.DrawFn, opaque: bool = True) -> h.Setting:
    own = [draw(proxies("in", 15001))] + [draw(proxies("out", 15006))] * draw(st.booleans())
    listens = draw(st.sampled_from([(80,), (80, 81), (h.Listener(80, OWN),)]))
    return h.Setting(
        host(process("envoy", 1337, 15001, 15006, proxies=tuple(own)), app(*listens)), draw(rule_sets(opaque))
    )


def premises(setting: h.Setting) -> st.SearchStrategy[c.Premise]:
    """Premises whose packets, as far as anything tells them apart, are those of `packets`."""
    narrow = c.Filter(
        protocol=TCP,
        source=AddressSet((Net(PEER), Net(OWN))),
        to=AddressSet((Net(OWN), Net(FAR))),
        ports=tuple(Span(p, p) for p in PORTS),
        where=(r.Literal(r.SourcePorts(Span(*DRAWN))),),
    )
    from_outside = replace(narrow, to=AddressSet((Net(OWN),)))
    both = [
        c.Premise(c.Outside("eth0"), c.Kind.CONNECTION, from_outside),
        c.Premise(c.Outside("eth0"), c.Kind.CONNECTION, replace(from_outside, ports=(Span(80, 80),))),
        c.Premise(c.OfProcess("app"), c.Kind.CONNECTION, narrow),
    ]
    dialled = [
        c.Premise(c.OfProxy("envoy", x.name), filter=f)
        for x in setting.host.process("envoy").proxies
        for f in (c.Filter(), c.Filter(ports=(Span(80, 80),)))
    ]
    return st.sampled_from([*both, *both, *dialled])


def verbs(setting: h.Setting, depth: int = 1) -> st.SearchStrategy[c.Verb]:
    sites = [
        c.Hits(c.RuleRef(t.name, name, number))
        for t in setting.rules.tables.values()
        for name, chain in t.chains.items()
        for number in range(1, len(chain.rules) + 1)
    ]
    some: list[c.Verb] = [
        c.Ends(),
        c.Ends(),
        c.Enters(c.ChainRef("nat", "more")),
        c.Reaches("app"),
        c.Reaches("envoy"),
        c.Reaches("envoy", 15006),
        c.Reaches("app", 80, c.With(source=AddressSet((Net(ENVOYS),)))),
        c.Reaches("app", None, c.With(unchanged=True)),
        c.PassesBeforeLeaving("envoy"),
        c.Leaves(),
        c.Leaves("eth0", c.With(mark=r.MarkMask(1))),
        c.IsDropped(),
        c.IsLost(),
        c.IsRejected(),
        c.IsRefused(),
        *sites,
    ]
    leaves = st.sampled_from(some)
    if depth == 0:
        return leaves
    inner = verbs(setting, depth - 1)
    either = st.lists(inner, min_size=2, max_size=2).map(lambda two: c.AnyOf(tuple(two)))
    return leaves | leaves | inner.map(c.Not) | either
