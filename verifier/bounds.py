"""How many hops a journey can have before a proxy state must repeat, computed from the host."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from . import rules as r
from .hosts import BoundTo, ClientsOwn, Host, KernelChooses, ProxyRoute
from .values import Family, Span

Value: TypeAlias = int | str | tuple[str, int, int]
"""An address or port: a constant of the host, or "first" or "client", that of the first packet, whatever it is; or such
an address with the bits of a mask replaced (NETMAP).
"""

MOST_OF_A_RANGE = 64
"""Addresses that are told apart in a range of SNAT's."""

MANY = 1 << 32
"""More proxy states than any journey is followed through."""


def localhost(family: Family) -> int:
    return 0x7F000001 if family is Family.IPV4 else 1


def hop_bound(host: Host, to_zero: bool = True, rules: r.RuleSet | None = None) -> int:
    """The number of proxy states that one journey can come to; `to_zero`: its first packet may go to 0.0.0.0.

    MANY where nobody counts them: a proxy keeps the client's address, which the rules may translate into any of
    more than MOST_OF_A_RANGE.

    A state is a proxy, an original destination, and, where a proxy keeps it, the client's address.  All of
    these are the first packet's, or constants of the host: what a proxy connects to, what it binds, what the
    kernel may choose.  The states are counted to which dials may lead, as if each could be delivered to each
    proxy; so a journey with more dials than this has been in one state twice.
    """
    proxies = [proxy for process in host.processes for proxy in process.proxies]
    keeps = [any(isinstance(route.source, ClientsOwn) for route in proxy.routes) for proxy in proxies]
    here = localhost(host.family)
    chosen: set[Value] = {0, here}
    chosen |= {a.ip for i in host.interfaces for a in i.addresses}
    tables = (host.routes, *host.tables.values())
    chosen |= {route.source for routes in tables for route in routes if route.source is not None}

    def sources(route: ProxyRoute, client: Value) -> set[Value]:
        match route.source:
            case BoundTo(address):
                return {address}
            case KernelChooses():
                return chosen
            case ClientsOwn():
                return {client, here}

    def dials(proxy: int, address: Value, port: Value, client: Value) -> Iterator[tuple[Value, Value, Value]]:
        """Source, destination and port of what the proxy may dial in this state."""
        for route in proxies[proxy].routes:
            if not _fits(port, route.ports):
                continue
            for dial in route.dials:
                to: Value = address if dial.address is None else dial.address
                for source in sources(route, client):
                    yield source, to, port if dial.port is None else dial.port
                    if to == 0 or (to == "first" and to_zero):
                        itself = source if host.family is Family.IPV4 else here
                        yield source, itself, port if dial.port is None else dial.port

    targets = _source_targets(rules) if rules is not None and any(keeps) else []
    ranges = [_range(target) for target in targets]
    if any(addresses.stop - addresses.start > MOST_OF_A_RANGE for addresses in ranges):
        return MANY
    waiting: list[tuple[Value, Value, Value]] = [("client", "first", "first")]
    seen: set[tuple[int, Value, Value, Value]] = set()
    while waiting:
        sent, to, port = waiting.pop()
        for source in {sent, *(x for target in targets for x in _translated(target, sent, chosen))}:
            for proxy in range(len(proxies)):
                state = (proxy, to, port, source if keeps[proxy] else "any")
                if state not in seen:
                    seen.add(state)
                    waiting += dials(*state)
    return len(seen)


SourceTarget: TypeAlias = r.Snat | r.Masquerade | r.Netmap


def _source_targets(rules: r.RuleSet) -> list[SourceTarget]:
    """What may translate a client's address on its way to a proxy."""
    return [
        rule.target
        for table in rules.tables.values()
        for chain in table.chains.values()
        for rule in chain.rules
        if isinstance(rule.target, SourceTarget)
    ]


def _range(target: SourceTarget) -> range:
    if isinstance(target, r.Snat) and target.to.first is not None and target.to.last is not None:
        return range(target.to.first, target.to.last + 1)
    return range(0)


def _translated(target: SourceTarget, source: Value, chosen: set[Value]) -> set[Value]:
    """What the target may make of an address; MASQUERADE takes one of those that the kernel may choose."""
    match target:
        case r.Snat():
            return set(_range(target))
        case r.Masquerade():
            return chosen
        case r.Netmap(net):
            if isinstance(source, int):
                return {(source & ~net.mask) | net.address}
            name, mask, bits = (source, 0, 0) if isinstance(source, str) else source
            mask, bits = mask | net.mask, (bits & ~net.mask) | net.address
            whole = (1 << net.family.bits) - 1
            return {bits} if mask == whole else {(name, mask, bits)}


def _fits(port: Value, spans: tuple[Span, ...]) -> bool:
    return not spans or not isinstance(port, int) or any(s.first <= port <= s.last for s in spans)
