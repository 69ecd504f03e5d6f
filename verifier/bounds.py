"""How many hops a journey can have before a proxy state must repeat, computed from the host."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from .hosts import BoundTo, ClientsOwn, Host, KernelChooses, ProxyRoute
from .values import Span

Value: TypeAlias = int | str
"""An address or port: a constant of the host, or "first" or "client", that of the first packet, whatever it is."""

LOCALHOST = 0x7F000001


def hop_bound(host: Host, to_zero: bool = True) -> int:
    """The number of proxy states that one journey can come to; `to_zero`: its first packet may go to 0.0.0.0.

    A state is a proxy, an original destination, and, where a proxy keeps it, the client's address.  All of
    these are the first packet's, or constants of the host: what a proxy connects to, what it binds, what the
    kernel may choose.  The states are counted to which dials may lead, as if each could be delivered to each
    proxy; so a journey with more dials than this has been in one state twice.
    """
    proxies = [proxy for process in host.processes for proxy in process.proxies]
    keeps = [any(isinstance(route.source, ClientsOwn) for route in proxy.routes) for proxy in proxies]
    chosen: set[Value] = {0, LOCALHOST}
    chosen |= {a.ip for i in host.interfaces for a in i.addresses}
    chosen |= {route.source for route in host.routes if route.source is not None}

    def sources(route: ProxyRoute, client: Value) -> set[Value]:
        match route.source:
            case BoundTo(address):
                return {address}
            case KernelChooses():
                return chosen
            case ClientsOwn():
                return {client, LOCALHOST}

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
                        yield source, source, port if dial.port is None else dial.port

    waiting: list[tuple[Value, Value, Value]] = [("client", "first", "first")]
    seen: set[tuple[int, Value, Value, Value]] = set()
    while waiting:
        source, to, port = waiting.pop()
        for proxy in range(len(proxies)):
            state = (proxy, to, port, source if keeps[proxy] else "any")
            if state not in seen:
                seen.add(state)
                waiting += dials(*state)
    return len(seen)


def _fits(port: Value, spans: tuple[Span, ...]) -> bool:
    return not spans or not isinstance(port, int) or any(s.first <= port <= s.last for s in spans)
