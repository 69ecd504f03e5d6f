"""How many hops a journey can have before a proxy state must repeat, computed from the host."""

from __future__ import annotations

from .hosts import BoundTo, ClientsOwn, Host


def hop_bound(host: Host, to_zero: bool = True) -> int:
    """The number of proxy states that one journey can come to; `to_zero`: its first packet may go to 0.0.0.0.

    A state is a proxy, an original destination, and, where a proxy keeps it, the client's address.  The
    original destination is the first packet's, or a constant of the host: an address or port that a proxy
    connects to, or, where somebody dialled 0.0.0.0, the source of that dial.  So a journey with more dials
    than this has been in one state twice.
    """
    routes = [route for p in host.processes for proxy in p.proxies for route in proxy.routes]
    proxies = sum(len(p.proxies) for p in host.processes)
    dials = [dial for route in routes for dial in route.dials]
    transparent = any(isinstance(route.source, ClientsOwn) for route in routes)
    bound = {route.source.address for route in routes if isinstance(route.source, BoundTo)}
    chosen = {a.ip for i in host.interfaces for a in i.addresses} | {route.source or 0 for route in host.routes}
    clients: set[int | str] = {"client"}
    if transparent:
        clients |= {0, LOCALHOST} | bound | chosen
    addresses: set[int | str] = {"first"} | {d.address for d in dials if d.address is not None}
    if (to_zero and any(d.address is None for d in dials)) or 0 in addresses:
        addresses |= bound | {LOCALHOST}
        if transparent:
            addresses |= clients
    ports = {"first"} | {d.port for d in dials if d.port is not None}
    return proxies * len(addresses) * len(ports) * len(clients)


LOCALHOST = 0x7F000001
