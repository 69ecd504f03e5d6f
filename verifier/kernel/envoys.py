"""The Envoy stand-in: what a declared proxy makes of a connection that it really accepted."""

from __future__ import annotations

from typing import TypeAlias

from ..hosts import BoundTo, ClientsOwn, Dial, KernelChooses, Listener, Process, Proxy, ProxyRoute
from ..journeys import FIRST_PORT, Choices
from ..values import IPV4, TCP, Family
from .observed import Accepted, Endpoint, Reached, ends_of
from .stimuli import Connect

State: TypeAlias = tuple[str, str, Endpoint, int | None]
"""What a proxy's next dial depends on: process, proxy, original destination, and the client where it is kept.
Two equal states go the same way for ever."""


def choose(process: Process, listener: Listener, accepted: Accepted) -> tuple[Proxy, ProxyRoute] | Reached:
    """The proxy that accepts there and the route that it takes, or the end."""
    if listener.protocol != TCP:
        return Reached(process.name)
    _, port = ends_of(accepted.original)
    for proxy in process.proxies:
        if proxy.accepts != listener.port:
            continue
        if any(span.first <= port <= span.last for span in proxy.refuses):
            return Reached(process.name, "refuses")
        for route in proxy.routes:
            if not route.ports or any(span.first <= port <= span.last for span in route.ports):
                return proxy, route
        return Reached(process.name, "no route")
    return Reached(process.name)


def state_of(process: Process, proxy: Proxy, accepted: Accepted) -> State:
    keeps_client = any(isinstance(route.source, ClientsOwn) for route in proxy.routes)
    client = ends_of(accepted.client)[0] if keeps_client else None
    return process.name, proxy.name, accepted.original, client


def dial_of(
    process: Process, route: ProxyRoute, dial: Dial, accepted: Accepted, choices: Choices, hop: int
) -> Connect:
    """What the process connects as hop `hop`: from the ports, and with the ids, that the choices name."""
    src: int | None
    match route.source:
        case BoundTo(address):
            src = address
        case KernelChooses():
            src = None
        case ClientsOwn():
            src, _ = ends_of(accepted.client)
    address, port = ends_of(accepted.original)
    uid, gid = choices.uids.get(hop, smallest_ids(process))
    return Connect(
        uid,
        gid,
        address if dial.address is None else dial.address,
        port if dial.port is None else dial.port,
        src,
        choices.ports.get(hop, FIRST_PORT + hop),
        mark=process.mark,
        transparent=isinstance(route.source, ClientsOwn),
        groups=process.supplementary,
        family=Family.IPV6 if accepted.original.startswith("[") else IPV4,
    )


def smallest_ids(process: Process) -> tuple[int, int]:
    return process.uid.ranges[0].first, process.gid.ranges[0].first
