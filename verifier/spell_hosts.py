"""Hosts in the words of host files: what `read_host_text` reads back as the same host, but for the rules and sets that it names."""

from __future__ import annotations

from typing import Any, assert_never

from .hosts import (
    BoundTo,
    ClientsOwn,
    DialSource,
    Host,
    KernelChooses,
    Process,
    Proxy,
    ProxyRoute,
    Route,
    RouteKind,
    RoutingRule,
)
from .values import IPV4, AddressSet, Span, nowhere, spell_address


def host(h: Host) -> dict[str, Any]:
    """The host file's keys, without `rules` and `sets`, as values for JSON or YAML."""
    said = {
        "backend": h.backend.value,
        "interfaces": {i.name: {"addresses": [str(a) for a in i.addresses]} for i in h.interfaces},
        "routes" if h.family is IPV4 else "routes6": [
            *(route(r) for r in h.routes),
            *(f"{route(r)} table {number}" for number, routes in h.tables.items() for r in routes),
        ],
        **({"ip-rules" if h.family is IPV4 else "ip-rules6": ip_rules(h)} if h.policy else {}),
        "sysctls": dict(h.sysctls),
        **({"users": dict(h.users)} if h.users else {}),
        **({"groups": dict(h.groups)} if h.groups else {}),
        "processes": {p.name: _process(p) for p in h.processes},
    }
    return said if h.outside == AddressSet() else {**said, "outside": {"sources": [_outside(h)]}}


def _outside(h: Host) -> str:
    """Of no address at all a host file says so by one that is of the other family."""
    if h.outside == nowhere(h.family):
        return "::" if h.family is IPV4 else "0.0.0.0"
    return str(h.outside)


def ip_rules(h: Host) -> list[str]:
    """The lines of `ip rule`, or of `ip -6 rule`, of a host that has rules of its own; priorities say their order and nothing else."""
    before = len(h.before_local)
    return [
        *(f"{n}: {routing_rule(rule)}" for n, rule in enumerate(h.before_local)),
        f"{before}: from all lookup 255",
        *(f"{n}: {routing_rule(rule)}" for n, rule in enumerate(h.policy, before + 1)),
    ]


def routing_rule(r: RoutingRule) -> str:
    """What `ip rule add` is given for it, but for its priority."""
    words = ["not"] if r.negated else []
    words += ["from", "all" if r.source is None else str(r.source)]
    if r.destination is not None:
        words += ["to", str(r.destination)]
    if r.mark is not None:
        # Without its mask the tool would take 0 for any mark at all (net/core/fib_rules.c: fib_nl2rule).
        words += ["fwmark", f"{r.mark.value:#x}/{r.mark.mask:#x}"]
    if r.in_iface is not None:
        words += ["iif", r.in_iface]
    if r.out_iface is not None:
        words += ["oif", r.out_iface]
    if r.tos is not None:
        words += ["tos", f"{r.tos:#04x}"]
    if r.uids is not None:
        words += ["uidrange", f"{r.uids.first}-{r.uids.last}"]
    if r.protocol is not None:
        words += ["ipproto", str(r.protocol)]
    if r.source_ports is not None:
        words += ["sport", _port_range(r.source_ports)]
    if r.destination_ports is not None:
        words += ["dport", _port_range(r.destination_ports)]
    words += [r.kind.value] if r.table is None else ["lookup", str(r.table)]
    if r.suppress is not None:
        words += ["suppress_prefixlength", str(r.suppress)]
    return " ".join(words)


def route(r: Route) -> str:
    """The line of `ip route` that says this."""
    words = [] if r.kind is RouteKind.UNICAST else [r.kind.value]
    words.append("default" if r.net.length == 0 else str(r.net))
    if r.via is not None:
        words += ["via", spell_address(r.via, r.net.family)]
    if r.device is not None:
        words += ["dev", r.device]
    if r.source is not None:
        words += ["src", spell_address(r.source, r.net.family)]
    if r.metric:
        words += ["metric", str(r.metric)]
    return " ".join(words)


def _process(p: Process) -> dict[str, Any]:
    said: dict[str, Any] = {"uid": str(p.uid), "gid": str(p.gid), "listens": [str(x) for x in p.listens]}
    if p.proxies:
        said["proxy"] = {x.name: _proxy(x) for x in p.proxies}
    if p.mark:
        said["mark"] = f"{p.mark:#x}"
    if p.device is not None:
        said["binds-device"] = p.device
    if p.raw:
        said["raw"] = True
    if p.supplementary:
        said["suppl-groups"] = list(p.supplementary)
    return said


def _proxy(p: Proxy) -> dict[str, Any]:
    return {"accepts": p.accepts, "refuses": _ports(p.refuses), "routes": [_route(r) for r in p.routes]}


def _route(r: ProxyRoute) -> dict[str, Any]:
    said: dict[str, Any] = {"ports": _ports(r.ports)} if r.ports else {}
    said["connects-to"] = [str(dial) for dial in r.dials]
    source = _source(r.source)
    return said if source is None else {**said, "source": source}


def _source(source: DialSource) -> str | None:
    match source:
        case BoundTo(address, family):
            return spell_address(address, family)
        case ClientsOwn():
            return "client"
        case KernelChooses():
            return None
        case _:
            assert_never(source)


def _ports(spans: tuple[Span, ...]) -> list[str]:
    return [_port_range(span) for span in spans]


def _port_range(span: Span) -> str:
    return str(span).replace(":", "-")
