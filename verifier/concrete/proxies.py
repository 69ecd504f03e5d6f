"""What a declared proxy makes of a connection that it accepts: the proxy state, and from it the next dial."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from msgspec.structs import replace

from ..hosts import BoundTo, ClientsOwn, Dial, Host, KernelChooses, Listener, Process, Proxy, ProxyRoute
from ..journeys import (
    CANNOT_SEND,
    FIRST_PORT,
    OTHER_FAMILY,
    Choices,
    End,
    Lost,
    ProxyState,
    Socket,
    Unmodelled,
)
from ..packets import Packet
from ..values import TCP, Family, IdSet, Span, TcpFlag
from . import fields, keys, routing, routing6
from .nat import LOCALHOST
from .routing import Roads, select_source
from .rules6 import ask_for_source_ports
from .ways import ITS_SOCKET


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


def accepts(process: Process, listener: Listener) -> bool:
    """True iff a proxy of the process takes what this socket gets."""
    return listener.protocol == TCP and _accepting(process, listener) is not None


def dials(host: Host, state: ProxyState) -> bool:
    """True iff the proxy dials for a connection with this original destination: it has a route, and does not refuse.  A client
    without an address has none: no handshake comes back to it."""
    proxy = _proxy(host, state)
    if state.client == 0:
        return False
    return _route(proxy, state.port) is not None and not _among(state.port, proxy.refuses)


def options(host: Host, state: ProxyState) -> int:
    """How many dials the proxy may choose from in this state."""
    route = _route(_proxy(host, state), state.port)
    return 1 if route is None else len(route.dials)


def dial(
    road: Roads, state: ProxyState, hop: int, choices: Choices, carried: frozenset[str]
) -> tuple[Packet, End | None]:
    """The SYN of hop number `hop`, without interface and connection state, and why it goes nowhere, if that is known before
    a route is asked for; src 0 where the kernel finds none."""
    process = road.host.process(state.process)
    route = _route(_proxy(road.host, state), state.port)
    assert route is not None, f"{state} is no state that a proxy dials in"
    to = route.dials[min(choices.picks.get(hop, 0), len(route.dials) - 1)]
    uid, gid = choices.uids.get(hop, (_smallest(process.uid), _smallest(process.gid)))
    packet = Packet(
        0,
        0,
        TCP,
        sport=choices.ports.get(hop, FIRST_PORT + hop),
        dport=state.port if to.port is None else to.port,
        flags=TcpFlag.SYN,
        uid=uid,
        gid=gid,
        mark=process.mark,
        family=road.host.family,
    )
    packet = fields.drawn(packet, choices.drawn.get(hop, {}), carried)
    src, dst, cut = _ends(road, route, state, to, packet)
    packet = replace(packet, src=src, dst=dst)
    if cut is None and ask_for_source_ports(road) and _hangs_on_its_port(road, packet):
        cut = Unmodelled(ITS_SOCKET)
    return packet, cut


def _hangs_on_its_port(road: Roads, packet: Packet) -> bool:
    """True iff it goes another way, or none, if its port is not bound when the route is looked up first."""
    asked = (keys.of_connecting(packet), keys.of_sent(packet))
    if road.host.family is Family.IPV6:
        ways = [routing6.output(road, packet.dst, None, packet.src, each) for each in asked]
    else:
        ways = [_connected(road, packet, each) for each in asked]
    return ways[0] != ways[1]


def _connected(road: Roads, packet: Packet, asked: keys.Keys) -> str | None:
    """The way of connect(), which refuses groups (net/ipv4/tcp_ipv4.c: tcp_v4_connect)."""
    if routing.to_group(road, routing.Flow(packet.dst, packet.src, asked)):
        return None
    return routing.output(road, packet.src, packet.dst, None, asked)


def _ends(
    road: Roads, route: ProxyRoute, state: ProxyState, to: Dial, packet: Packet
) -> tuple[int, int, End | None]:
    """The source and the destination of connect(), and why it fails, or nobody knows more of it: who connects to 0.0.0.0
    connects to its own source, or from localhost to localhost without one (net/ipv4/route.c:
    ip_route_output_key_hash_rcu); who connects to ::, to ::1 (net/ipv6/tcp_ipv6.c: tcp_v6_connect)."""
    family = road.host.family
    dst = state.address if to.address is None else to.address
    crosses = to.address is not None and to.family is not family
    if crosses or (isinstance(route.source, BoundTo) and route.source.family is not family):
        return 0, 0, Unmodelled(OTHER_FAMILY)
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
    if family is Family.IPV6:
        return _ends6(road, src, dst, packet)
    if dst == 0:
        return src or LOCALHOST, src or LOCALHOST, None
    if src is not None:
        return src, dst, None
    selected = select_source(road, dst, keys.of_connecting(packet))
    return selected or 0, dst, None if selected is not None else Lost(CANNOT_SEND)


def _ends6(road: Roads, src: int | None, dst: int, packet: Packet) -> tuple[int, int, End | None]:
    if routing6.is_mapped(dst):
        return 0, dst, Unmodelled(OTHER_FAMILY)
    dst = dst or routing6.LOOPBACK
    # A socket needs a zone for a link-local address, and a proxy names none.
    if not routing6.connects(dst, None, tcp=True) or (src is not None and routing6.is_link_local(src)):
        return src or 0, dst, Lost(CANNOT_SEND)
    if src is not None:
        return src, dst, None
    asked = keys.of_connecting(packet)
    selected = routing6.select_source(road, dst, asked)
    if isinstance(selected, Unmodelled):
        return 0, dst, selected
    if selected is None:
        return 0, dst, Lost(CANNOT_SEND)
    # What is sent again is asked for its route again, and has its source by then.
    ways = {routing6.output(road, dst, None, source, asked) for source in (0, selected)}
    return selected, dst, None if len(ways) == 1 else Unmodelled(ITS_SOCKET)


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
