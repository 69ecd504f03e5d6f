"""One line of `ip route` read as a `Route` with its table, and the routes that the kernel itself makes."""

from __future__ import annotations

from collections.abc import Sequence

from ..hosts import MAIN, Interface, Route, RouteKind
from ..values import IPV4, LINK_LOCAL, Family, Net
from .errors import did_you_mean
from .words import read_iface, read_of

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
    "error",
    "expires",
)
_HARMLESS_WORDS = ("onlink", "linkdown", "pervasive", "offload", "trap", "rt_offload", "rt_trap")
_KINDS_NOT_READ = ("broadcast", "multicast", "nat", "anycast")
_FURTHER = (RouteKind.LOCAL, RouteKind.THROW)
_WORDS = ("via", "dev", "src", "metric", "table", *_HARMLESS_PAIRS, *_HARMLESS_WORDS)


def read_route(line: str, family: Family = IPV4) -> tuple[int, Route]:
    """A route and its table as `ip route` prints it, or `ip -6 route`; raises ValueError for what would change its meaning."""
    words = line.split()
    if not words:
        raise ValueError("a route is empty")
    kind = RouteKind.UNICAST
    if words[0] in _KINDS_NOT_READ:
        raise ValueError(f"routes of type `{words[0]}` are not read yet")
    if words[0] in [k.value for k in RouteKind]:
        kind = RouteKind(words.pop(0))
    if not words:
        raise ValueError("a route needs a prefix, or `default`")
    net = _prefix(words.pop(0), family)
    device: str | None = None
    via: int | None = None
    source: int | None = None
    metric = 0
    table = MAIN
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
                if value in ("inet", "inet6"):
                    raise ValueError("gateways of the other family are not read yet")
                via = read_of(value, family)
            case "dev":
                device = read_iface(value)
            case "src":
                source = read_of(value, family)
            case "metric":
                if not value.isdecimal() or int(value) > 0xFFFFFFFF:
                    raise ValueError(f"`{value}` is no metric")
                metric = int(value)
            case "table":
                table = read_table(value)
                if table == LOCAL_TABLE:
                    raise ValueError("the local table follows from the addresses: leave its routes out")
            case _:
                assert word in _HARMLESS_PAIRS
    if kind not in (RouteKind.UNICAST, RouteKind.LOCAL) and family is not IPV4 and device == "lo":
        device = None
    if kind in _FURTHER and table == MAIN:
        raise ValueError(f"routes of type `{kind.value}` in the main table are not read yet")
    if kind is RouteKind.UNICAST and device is None:
        raise ValueError("a unicast route needs `dev`, as `ip route` prints it")
    if kind is RouteKind.LOCAL:
        if (device, via) != ("lo", None):
            raise ValueError("a local route is read with `dev lo` alone")
    elif kind is not RouteKind.UNICAST and (device, via, source) != (None, None, None):
        raise ValueError(f"a route of type {kind.value} has no `dev`, `via` and `src`")
    if family is not IPV4 and metric == 0:
        metric = USERS_METRIC_6
    return table, Route(net, device, via, source, kind, metric)


LOCAL_TABLE, DEFAULT_TABLE = 255, 253
_TABLES = {"local": LOCAL_TABLE, "main": MAIN, "default": DEFAULT_TABLE}


def read_table(word: str) -> int:
    """A table's number; names are those that every machine has."""
    if word in _TABLES:
        return _TABLES[word]
    if not word.isdecimal() or not 0 < int(word) <= 0xFFFFFFFF:
        raise ValueError(
            f"`{word}` is no table that every machine has: write its number, as `ip -N rule` and `ip -N route` print it"
        )
    return int(word)


def only_local(line: str) -> bool:
    """True iff `ip -6 route` prints this line, of the main table, of an address of lo, for which the local table has an entry: the
    main one is never asked (net/ipv6/addrconf.c: addrconf_prefix_route)."""
    words = line.split()
    if "table" in words and words[words.index("table") + 1 :][:1] not in (["main"], ["254"]):
        return False
    return words[1:3] == ["dev", "lo"] and "/" not in words[0] and words[0] != "default"


def _prefix(word: str, family: Family) -> Net:
    if word == "default":
        return Net(0, 0, family)
    host, slash, length = word.partition("/")
    address = read_of(host, family)
    if not slash:
        return Net.prefix(address, family.bits, family)
    if not length.isdecimal() or int(length) > family.bits:
        raise ValueError(f"`{length}` is no prefix length from 0 to {family.bits}")
    net = Net.prefix(address, int(length), family)
    if net.address != address:
        raise ValueError(f"{word} has bits set beyond its prefix; the kernel refuses it")
    return net


def connected(interfaces: Sequence[Interface]) -> tuple[Route, ...]:
    """The main table's routes to the interfaces' subnets: for each its first address, unless it has all its
    bits; lo's subnets are in the local table (net/ipv4/fib_frontend.c: fib_add_ifaddr; net/ipv6/addrconf.c: add_addr).
    """
    found: dict[tuple[str, Net], Route] = {}
    for interface in interfaces:
        for address in interface.addresses:
            if interface.name == "lo" or address.length in (0, address.family.bits):
                continue
            route = (
                Route(address.net, interface.name, source=address.ip)
                if address.family is IPV4
                else Route(address.net, interface.name, metric=METRIC_6)
            )
            found.setdefault((interface.name, address.net), route)
    return tuple(found.values())


METRIC_6 = 256
"""Of the routes that the kernel makes (include/net/ipv6.h: IP6_RT_PRIO_ADDRCONF)."""

USERS_METRIC_6 = 1024
"""Of those that say none (IP6_RT_PRIO_USER)."""


def is_link_local(net: Net) -> bool:
    """True iff these are addresses of one link, so that each interface may have its own route to them."""
    return net.family is not IPV4 and net.address & LINK_LOCAL.mask == LINK_LOCAL.address
