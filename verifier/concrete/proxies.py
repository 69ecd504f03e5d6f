"""What a declared proxy makes of a connection that it accepts: the proxy state, and from it the next dial."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from ..hosts import BoundTo, ClientsOwn, Host, KernelChooses, Listener, Process, Proxy, ProxyRoute
from ..journeys import FIRST_PORT, Choices, ProxyState, Socket
from ..packets import Packet
from ..values import TCP, IdSet, Span, TcpFlag
from . import fields
from .nat import LOCALHOST
from .routing import Roads, select_source


def accepted(process: Process, listener: Listener, delivered: Packet, sent: Packet) -> ProxyState | Socket:
    """The state in which the proxy dials, or the process's socket where nothing is dialled.

    `sent` is the packet before any NAT: its destination is what SO_ORIGINAL_DST tells
    (net/netfilter/nf_conntrack_proto.c: getorigdst).
    """
    proxy = _accepting(process, listener) if delivered.proto == TCP else None
    if proxy is None:
        return Socket(process.name, listener)
    if _among(sent.dport, proxy.refuses):
        return Socket(process.name, listener, "refuses")
    if _route(proxy, sent.dport) is None:
        return Socket(process.name, listener, "no route")
    keeps = any(isinstance(route.source, ClientsOwn) for route in proxy.routes)
    client = delivered.src if keeps else None
    return ProxyState(process.name, proxy.name, sent.dst, sent.dport, client)


def dials(host: Host, state: ProxyState) -> bool:
    """True iff the proxy dials for a connection with this original destination: it has a route, and does not refuse."""
    proxy = _proxy(host, state)
    return _route(proxy, state.port) is not None and not _among(state.port, proxy.refuses)


def options(host: Host, state: ProxyState) -> int:
    """How many dials the proxy may choose from in this state."""
    route = _route(_proxy(host, state), state.port)
    return 1 if route is None else len(route.dials)


def dial(road: Roads, state: ProxyState, hop: int, choices: Choices, carried: frozenset[str]) -> Packet:
    """The SYN of hop number `hop`, without interface and connection state; src 0 where the kernel finds none."""
    process = road.host.process(state.process)
    route = _route(_proxy(road.host, state), state.port)
    assert route is not None, f"{state} is no state that a proxy dials in"
    to = route.dials[min(choices.picks.get(hop, 0), len(route.dials) - 1)]
    src, dst = _ends(road, route, state, state.address if to.address is None else to.address)
    uid, gid = choices.uids.get(hop, (_smallest(process.uid), _smallest(process.gid)))
    packet = Packet(
        src,
        dst,
        TCP,
        sport=choices.ports.get(hop, FIRST_PORT + hop),
        dport=state.port if to.port is None else to.port,
        flags=TcpFlag.SYN,
        uid=uid,
        gid=gid,
        mark=process.mark,
    )
    return fields.drawn(packet, choices.drawn.get(hop, {}), carried)


def _ends(road: Roads, route: ProxyRoute, state: ProxyState, dst: int) -> tuple[int, int]:
    """The source and the destination of connect(): who connects to 0.0.0.0 connects to its own source, or
    from localhost to localhost without one (net/ipv4/route.c: ip_route_output_key_hash_rcu)."""
    match route.source:
        case BoundTo(address):
            src: int | None = address
        case ClientsOwn():
            assert state.client is not None, "a proxy that keeps the client's source knows it"
            src = state.client
        case KernelChooses():
            src = None
        case _:
            assert_never(route.source)
    if dst == 0:
        return (src or LOCALHOST,) * 2
    if src is None:
        src = select_source(road, dst)
    return src or 0, dst


def _proxy(host: Host, state: ProxyState) -> Proxy:
    return next(proxy for proxy in host.process(state.process).proxies if proxy.name == state.proxy)


def _accepting(process: Process, listener: Listener) -> Proxy | None:
    return next((proxy for proxy in process.proxies if proxy.accepts == listener.port), None)


def _route(proxy: Proxy, port: int) -> ProxyRoute | None:
    """The first route for this original destination port; a route without ports is for any."""
    return next((route for route in proxy.routes if not route.ports or _among(port, route.ports)), None)


def _among(port: int, spans: Sequence[Span]) -> bool:
    return any(span.first <= port <= span.last for span in spans)


def _smallest(ids: IdSet) -> int:
    return ids.ranges[0].first
