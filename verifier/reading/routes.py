"""One line of `ip route` read as a `Route`, and the routes that the kernel itself makes."""

from __future__ import annotations

from collections.abc import Sequence

from ..hosts import Interface, Route, RouteKind
from ..values import EVERY_ADDRESS, Net
from .errors import did_you_mean
from .words import read_iface, read_ipv4

_HARMLESS_PAIRS = (
    "proto",
    "scope",
    "pref",
    "mtu",
    "advmss",
    "window",
    "hoplimit",
    "initcwnd",
    "initrwnd",
    "nhid",
)
_HARMLESS_WORDS = ("onlink", "linkdown", "pervasive", "offload", "trap", "rt_offload", "rt_trap")
_KINDS_NOT_READ = ("local", "broadcast", "multicast", "throw", "nat", "anycast")
_WORDS = ("via", "dev", "src", "metric", "table", *_HARMLESS_PAIRS, *_HARMLESS_WORDS)


def read_route(line: str) -> Route:
    """A route of the main table as `ip route` prints it; raises ValueError for what would change its meaning."""
    words = line.split()
    if not words:
        raise ValueError("a route is empty")
    kind = RouteKind.UNICAST
    if words[0] in _KINDS_NOT_READ:
        raise ValueError(f"routes of type `{words[0]}` in the main table are not read yet")
    if words[0] in [k.value for k in RouteKind]:
        kind = RouteKind(words.pop(0))
    if not words:
        raise ValueError("a route needs a prefix, or `default`")
    net = _prefix(words.pop(0))
    device: str | None = None
    via: int | None = None
    source: int | None = None
    metric = 0
    seen: set[str] = set()
    while words:
        word = words.pop(0)
        if word in _HARMLESS_WORDS:
            continue
        if word == "dead":
            raise ValueError("a dead route is not used: leave it out")
        if word not in _WORDS:
            hint = did_you_mean(word, _WORDS)
            raise ValueError(f"`{word}` in a route is not read" + (f": {hint}" if hint else ""))
        if word in seen:
            raise ValueError(f"`{word}` is given twice")
        if not words:
            raise ValueError(f"`{word}` needs a value")
        seen.add(word)
        value = words.pop(0)
        match word:
            case "via":
                if value == "inet6":
                    raise ValueError("IPv6 gateways are not read yet")
                via = read_ipv4(value)
            case "dev":
                device = read_iface(value)
            case "src":
                source = read_ipv4(value)
            case "metric":
                if not value.isdecimal() or int(value) > 0xFFFFFFFF:
                    raise ValueError(f"`{value}` is no metric")
                metric = int(value)
            case "table":
                if value not in ("main", "254"):
                    raise ValueError(f"table {value} is not read yet: the main table is")
            case _:
                assert word in _HARMLESS_PAIRS
    if kind is RouteKind.UNICAST and device is None:
        raise ValueError("a unicast route needs `dev`, as `ip route` prints it")
    if kind is not RouteKind.UNICAST and (device, via, source) != (None, None, None):
        raise ValueError(f"a route of type {kind.value} has no `dev`, `via` and `src`")
    return Route(net, device, via, source, kind, metric)


def _prefix(word: str) -> Net:
    if word == "default":
        return EVERY_ADDRESS
    host, slash, length = word.partition("/")
    address = read_ipv4(host)
    if not slash:
        return Net(address)
    if not length.isdecimal() or int(length) > 32:
        raise ValueError(f"`{length}` is no prefix length from 0 to 32")
    net = Net.prefix(address, int(length))
    if net.address != address:
        raise ValueError(f"{word} has bits set beyond its prefix; the kernel refuses it")
    return net


def connected(interfaces: Sequence[Interface]) -> tuple[Route, ...]:
    """The main table's routes to the interfaces' subnets: for each its first address, unless it has all 32
    bits; lo's subnets are in the local table (net/ipv4/fib_frontend.c: fib_add_ifaddr).
    """
    found: dict[tuple[str, Net], Route] = {}
    for interface in interfaces:
        for address in interface.addresses:
            if interface.name == "lo" or address.length == 32 or address.net == EVERY_ADDRESS:
                continue
            route = Route(address.net, interface.name, source=address.ip)
            found.setdefault((interface.name, address.net), route)
    return tuple(found.values())
