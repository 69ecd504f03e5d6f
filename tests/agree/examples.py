"""Hosts that chains of proxies run on, for tests of journeys with many hops."""

from __future__ import annotations

from verifier import hosts as h
from verifier import rules as r
from verifier.hooks import BUILT_IN
from verifier.hosts import Setting
from verifier.values import IdSet, Net, Span, read_address

ip = read_address
LO = h.Interface("lo", (h.Address(ip("127.0.0.1"), 8),))
ETH0 = h.Interface("eth0", (h.Address(ip("10.0.0.5"), 24),))
ROUTES = (
    h.Route(Net.read("0.0.0.0/0"), "eth0", ip("10.0.0.1")),
    h.Route(Net.read("10.0.0.0/24"), "eth0", source=ip("10.0.0.5")),
)
FIRST = 15001
APP = 8080


def rule_set(**tables: dict[str, tuple[r.Rule, ...]]) -> r.RuleSet:
    """Tables with all their built-in chains, which accept, and these rules in them."""
    found = {}
    for name, chains in tables.items():
        built_in = {n: r.Chain(n, r.Accept(), chains.get(n, ())) for n in BUILT_IN[name]}
        users = {n: r.Chain(n, None, rules) for n, rules in chains.items() if n not in built_in}
        found[name] = r.Table(name, built_in | users)
    return r.RuleSet(found)


def host(*processes: h.Process, sysctls: dict[str, int] | None = None) -> h.Host:
    return h.Host(
        "host", (LO, ETH0), ROUTES, {**h.DEFAULTS, **(sysctls or {})}, processes, backend=h.Backend.LEGACY
    )


def chain_of_proxies(
    number: int, end: h.Dial, rules: r.RuleSet | None = None, aside: h.Dial | None = None
) -> Setting:
    """Proxies on ports 15001, 15002, ..., each of which dials the next, and the last of which dials `end`;
    with `aside` each may dial that instead.  An application listens on port 8080.
    """
    anyone = IdSet.read("any")
    last = FIRST + number - 1
    proxies = []
    for port in range(FIRST, last + 1):
        onward = end if port == last else h.Dial(ip("127.0.0.1"), port + 1)
        dials = (onward,) if aside is None else (aside, onward)
        proxy = h.Proxy("p", port, (h.ProxyRoute(dials, h.KernelChooses()),))
        proxies.append(h.Process(f"proxy{port}", anyone, anyone, (h.Listener(port),), (proxy,)))
    app = h.Process("app", IdSet.read("1000"), anyone, (h.Listener(APP),))
    return Setting(host(app, *proxies), rules or r.RuleSet({}))


def dropping(port: int) -> r.RuleSet:
    """The filter table drops what is sent to this port."""
    to_port = r.Literal(r.DestinationPorts(Span(port, port)))
    tcp = r.Literal(r.Protocol(6))
    return rule_set(filter={"OUTPUT": (r.Rule((tcp, to_port), r.Drop()),)})
