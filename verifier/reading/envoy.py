"""Envoy's cluster configuration (`istioctl proxy-config cluster POD -o json`) as the routes of an inbound proxy.

An inbound listener hands a connection to the cluster of its original destination's port, and where
there is none to the passthrough cluster.  Without a passthrough cluster in the file, no other port has a
route.  Field names are those of protobuf's JSON, camelCase or snake_case.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from ..hosts import BoundTo, Dial, DialSource, KernelChooses, ProxyRoute
from ..values import IPV4, Family, Place, Span
from .errors import HostError
from .files import read_text
from .words import read_either, read_port

PASSTHROUGH = {
    family: ("InboundPassthroughCluster", f"InboundPassthroughClusterIpv{family.value}") for family in Family
}

_KNOWN_BIND = ("sourceAddress", "freebind")


def read_clusters(path: Path, family: Family = IPV4) -> tuple[ProxyRoute, ...]:
    """The routes of the inbound clusters in a file, as `read_clusters_text`."""
    return read_clusters_text(read_text(path, "the clusters' file", "H007", HostError), str(path), family)


def read_clusters_text(text: str, file: str, family: Family = IPV4) -> tuple[ProxyRoute, ...]:
    """One route for each inbound cluster, in the order of the file, and the passthrough of this family last.

    STATIC connects to its endpoints, ORIGINAL_DST to the original destination; `upstreamBindConfig` binds
    the source.  Raises HostError for JSON that is none, for an inbound cluster of another type, and for
    one that says more about its connections than we read.
    """
    import json

    try:
        data = json.loads(text)
    except json.JSONDecodeError as e:
        line = text.split("\n")[e.lineno - 1]
        message = f"this is not JSON: {e.msg}"
        raise HostError("H008", message, Place(file, e.lineno, e.colno), line=line) from None
    except RecursionError:
        raise HostError("H008", "this is nested too deep", Place(file, 1)) from None
    routes: list[ProxyRoute] = []
    last: ProxyRoute | None = None
    for item in data if isinstance(data, list) else [data]:
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str):
            raise HostError(
                "H008",
                "an Envoy cluster is an object with a name",
                Place(file, 1),
                hint="write the file with `istioctl proxy-config cluster POD -o json`",
            )
        cluster = _Cluster(name, item, _place(text, file, name), _line(text, name))
        if name in PASSTHROUGH[family]:
            last = _passthrough(cluster, last)
        elif name.startswith("inbound|"):
            route = _inbound(cluster)
            same = [r for r in routes if r.ports == route.ports]
            if any(r != route for r in same):
                raise cluster.error("another cluster of this port connects elsewhere")
            if not same:
                routes.append(route)
    if last is not None:
        routes.append(last)
    if not routes:
        raise HostError(
            "H008",
            "no inbound cluster is in this file",
            Place(file, 1),
            hint="an inbound cluster is named `inbound|PORT||`, or `InboundPassthroughCluster`",
        )
    return tuple(routes)


class _Cluster(Struct, frozen=True):
    name: str
    fields: Mapping[str, object]
    place: Place
    line: str | None

    def error(self, message: str, hint: str | None = None) -> HostError:
        return HostError(
            "H008",
            f"cluster `{self.name}`: {message}",
            self.place,
            line=self.line,
            width=len(self.name),
            hint=hint,
        )

    def one(self, inside: Mapping[str, object], key: str) -> Mapping[str, object]:
        """The object at this key, empty where there is none."""
        found = _field(inside, key)
        if found is None:
            return {}
        if not isinstance(found, dict):
            raise self.error(f"`{key}` is no object")
        return found

    def several(self, inside: Mapping[str, object], key: str) -> Sequence[Mapping[str, object]]:
        """The objects in the list at this key."""
        found = _field(inside, key)
        if found is None:
            return ()
        if not isinstance(found, list) or not all(isinstance(f, dict) for f in found):
            raise self.error(f"`{key}` is no list of objects")
        return found


def _field(inside: Mapping[str, object], key: str) -> object:
    snake = re.sub("[A-Z]", lambda m: "_" + m[0].lower(), key)
    found = inside.get(key)
    return inside.get(snake) if found is None else found


def _place(text: str, file: str, name: str) -> Place:
    at = re.search(rf'"name"\s*:\s*"({re.escape(name)})"', text)
    if not at:
        return Place(file, 1)
    begin = text.rfind("\n", 0, at.start(1)) + 1
    return Place(file, text.count("\n", 0, at.start(1)) + 1, at.start(1) - begin + 1)


def _line(text: str, name: str) -> str | None:
    place = _place(text, "", name)
    return text.split("\n")[place.line - 1] if place.column else None


def _passthrough(cluster: _Cluster, before: ProxyRoute | None) -> ProxyRoute:
    if _type(cluster) != "ORIGINAL_DST":
        raise cluster.error("the passthrough is of type ORIGINAL_DST")
    route = ProxyRoute((_original(cluster),), _source(cluster), (), cluster.place)
    if before is not None and before != route:
        raise cluster.error("another passthrough cluster connects otherwise")
    return route


def _inbound(cluster: _Cluster) -> ProxyRoute:
    """The route of `inbound|PORT||`, or of `inbound|PORT|NAME|SERVICE` as Istio wrote it before 1.8."""
    parts = cluster.name.split("|")
    try:
        port = read_port(parts[1])
    except ValueError as e:
        raise cluster.error(str(e)) from None
    kind = _type(cluster)
    if kind == "ORIGINAL_DST":
        dials: tuple[Dial, ...] = (_original(cluster),)
    elif kind == "STATIC":
        dials = _endpoints(cluster)
        if any(parts[2:]) and any(d.port != port for d in dials):
            raise cluster.error(
                f"{port} is the service's port, and the endpoint's is another: which one is dialled is not known",
                hint="write the proxy's `routes:` instead",
            )
    else:
        raise cluster.error(
            f"clusters of type {kind} are not read: STATIC and ORIGINAL_DST are",
            hint="write the proxy's `routes:` instead",
        )
    return ProxyRoute(dials, _source(cluster), (Span(port, port),), cluster.place)


def _type(cluster: _Cluster) -> str:
    """The discovery type; protobuf leaves STATIC out, since it is 0 (cluster.proto: DiscoveryType)."""
    if _field(cluster.fields, "clusterType") is not None:
        return "`clusterType`"
    kind = _field(cluster.fields, "type")
    return "STATIC" if kind is None else str(kind)


def _original(cluster: _Cluster) -> Dial:
    config = cluster.one(cluster.fields, "originalDstLbConfig")
    if any(v not in (False, None, "") for v in config.values()):
        raise cluster.error("`originalDstLbConfig` that changes the destination is not read")
    return Dial()


def _endpoints(cluster: _Cluster) -> tuple[Dial, ...]:
    load = cluster.one(cluster.fields, "loadAssignment")
    dials: list[Dial] = []
    for group in cluster.several(load, "endpoints"):
        for entry in cluster.several(group, "lbEndpoints"):
            endpoint = cluster.one(entry, "endpoint")
            socket = cluster.one(cluster.one(endpoint, "address"), "socketAddress")
            try:
                address, family = read_either(str(_field(socket, "address")))
                port = read_port(str(_field(socket, "portValue")))
            except ValueError as e:
                raise cluster.error(f"an endpoint needs an address and a port: {e}") from None
            if str(_field(socket, "protocol") or "TCP") != "TCP":
                raise cluster.error("only TCP endpoints are read")
            dials.append(Dial(address, port, family))
    if not dials:
        raise cluster.error("a STATIC cluster needs an endpoint in `loadAssignment`")
    return tuple(dict.fromkeys(dials))


def _source(cluster: _Cluster) -> DialSource:
    """What `upstreamBindConfig` binds; 0.0.0.0 and :: leave the choice to the kernel."""
    bind = cluster.one(cluster.fields, "upstreamBindConfig")
    for key in bind:
        if re.sub("_([a-z])", lambda m: m[1].upper(), key) not in _KNOWN_BIND:
            raise cluster.error(f"`upstreamBindConfig` with `{key}` is not read")
    source = cluster.one(bind, "sourceAddress")
    if not source:
        return KernelChooses()
    if _field(source, "portValue"):
        raise cluster.error("a fixed source port in `upstreamBindConfig` is not read")
    try:
        address, family = read_either(str(_field(source, "address")))
    except ValueError as e:
        raise cluster.error(f"`sourceAddress`: {e}") from None
    return BoundTo(address, family) if address else KernelChooses()
