"""Host files (YAML) read as a `Host`: every value is checked, and a key that is not known is an error.

Paths in a host file are relative to it.  What the file leaves out and a journey depends on becomes an
assumption, so that it is printed with every answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from ..hosts import (
    DEFAULTS,
    Address,
    Assumption,
    Backend,
    BoundTo,
    ClientsOwn,
    Dial,
    DialSource,
    Host,
    Interface,
    KernelChooses,
    Listener,
    Process,
    Proxy,
    ProxyRoute,
    Route,
)
from ..spell_hosts import route as spell_route
from ..values import TCP, AddressSet, IdSet, Net, Place, Span, read_address, spell_address
from . import nodes as n
from .envoy import read_clusters
from .errors import HostError, did_you_mean
from .files import read_text
from .routes import connected, read_route
from .words import (
    DIAL_FORM,
    IDS_FORM,
    LISTENER_FORM,
    NAME_FORM,
    read_address_set,
    read_dial,
    read_ids,
    read_iface,
    read_ipv4,
    read_listener,
    read_mark,
    read_name,
    read_port,
    read_ports,
)

KEYS = ("rules", "backend", "interfaces", "routes", "ip-rules", "sysctls", "sets", "processes", "outside")
NOT_YET = ("rules6", "routes6")
PROCESS_KEYS = ("uid", "gid", "listens", "proxy", "mark", "binds-device", "raw")
PROXY_KEYS = ("accepts", "refuses", "routes", "connects-to", "source", "envoy")
ROUTE_KEYS = ("port", "ports", "connects-to", "source")


class ReadHost(Struct, frozen=True):
    """A host, and the rules files that it names, in load order, each with the place that names it."""

    host: Host
    rules_files: tuple[Path, ...]
    rules_places: tuple[Place, ...]


def read_host(path: Path) -> ReadHost:
    """The host in a file, named after the file; raises HostError, also where a rules file is not there."""
    text = read_text(path, "the host file", "H007", HostError)
    found = read_host_text(text, str(path))
    lines = text.splitlines()
    for rules, place in zip(found.rules_files, found.rules_places, strict=True):
        if not rules.is_file():
            raise HostError(
                "H007",
                f"the rules file {rules} is {'a folder' if rules.is_dir() else 'not there'}",
                place,
                line=lines[place.line - 1],
                width=len(lines[place.line - 1]) - place.column + 1,
                hint="a path is relative to the file that names it",
            )
    return found


def read_host_text(text: str, file: str) -> ReadHost:
    """The host in a text that is said to stand in `file`; of other files only Envoy's clusters are opened."""
    top = n.keys(n.read(text, file), "a host file", (*KEYS, *NOT_YET))
    base = Path(file).parent
    rules = n.scalars(n.needed(top, "rules", "a host file"), "`rules`")
    if not rules:
        raise n.error("H003", "`rules` names no file", top.entries["rules"][0].spot)
    host = _host(top, Path(file).stem, base)
    return ReadHost(host, tuple(base / r.text for r in rules), tuple(r.spot.place for r in rules))


def read_bare_host(text: str, file: str, name: str) -> Host:
    """The host that is told by a host file's keys without `rules`, which are given elsewhere."""
    known = tuple(key for key in KEYS if key != "rules")
    return _host(n.keys(n.read(text, file), "a host", (*known, *NOT_YET)), name, Path(file).parent)


def _host(top: n.Keys, name: str, base: Path) -> Host:
    for key in NOT_YET:
        if key in top.entries:
            raise n.error("H006", f"`{key}` is not read yet: hosts have IPv4 only", top.entries[key][0].spot)
    for key in ("ip-rules", "sets"):
        for entry in n.scalars(top.get(key), f"`{key}`"):
            raise n.error("H006", f"`{key}` are not read yet", entry.spot)
    interfaces = _interfaces(n.needed(top, "interfaces", "a host file"))
    routes, on_routes = _routes(top.get("routes"), interfaces)
    sysctls, on_sysctls = _sysctls(top.get("sysctls"), interfaces)
    return Host(
        name=name,
        interfaces=interfaces,
        routes=routes,
        sysctls=sysctls,
        processes=_processes(top.get("processes"), interfaces, base),
        outside=_outside(top.get("outside")),
        backend=_backend(top.get("backend")),
        assumptions=(*on_sysctls, *on_routes),
    )


def _backend(node: n.Node | None) -> Backend:
    if node is None:
        return Backend.EITHER
    word = n.scalar(node, "`backend`")
    known = [b.value for b in Backend]
    if word.text not in known:
        hint = did_you_mean(word.text, known) or "write `legacy`, `nft` or `either`"
        raise n.error("H004", f"`{word.text}` is no backend", word.spot, hint)
    return Backend(word.text)


def _outside(node: n.Node | None) -> AddressSet:
    sources = None if node is None else n.keys(node, "`outside`", ("sources",)).get("sources")
    items = [n.value(s, read_address_set, "write `A, B, not C`") for s in n.scalars(sources, "`sources`")]
    return AddressSet(
        tuple(term for item in items for term in item.included),
        tuple(term for item in items for term in item.excluded),
    )


# -- interfaces -------------------------------------------------------------------------------


def is_own(interfaces: Sequence[Interface], address: int) -> bool:
    """True iff a socket of a host with these interfaces may be bound to this address."""
    return any(
        a.ip == address or (i.name == "lo" and address & a.net.mask == a.net.address)
        for i in interfaces
        for a in i.addresses
    )


def _interfaces(node: n.Node) -> tuple[Interface, ...]:
    found: list[Interface] = []
    for key, body in n.keys(node, "`interfaces`").entries.values():
        name = n.value(key, read_iface)
        fields = n.keys(body, f"interface `{name}`", ("addresses",))
        words = n.scalars(fields.get("addresses"), "`addresses`")
        addresses: list[Address] = []
        for word in words:
            address = n.value(word, _address, "write `ADDRESS/LENGTH`, as `ip address` prints it")
            if address.ip in [a.ip for a in addresses]:
                raise n.error("H005", f"{name} has this address already", word.spot)
            addresses.append(address)
        found.append(Interface(name, tuple(addresses)))
    if "lo" not in [i.name for i in found]:
        raise n.error(
            "H005", "every host has an interface `lo`", node.spot, "add `lo: {addresses: [127.0.0.1/8]}`"
        )
    return tuple(found)


def _address(text: str) -> Address:
    host, slash, length = text.partition("/")
    ip = read_ipv4(host)
    if not slash:
        raise ValueError(f"`{text}` has no prefix length")
    if not length.isdecimal() or int(length) > 32:
        raise ValueError(f"`{length}` is no prefix length from 0 to 32")
    if ip == 0 or ip >= 0xE0000000:
        raise ValueError(f"{host} is no address that an interface can have")
    return Address(ip, int(length))


def _known_device(interfaces: Sequence[Interface], device: str, spot: n.Spot) -> str:
    names = [i.name for i in interfaces]
    if device not in names:
        hint = did_you_mean(device, names) or f"its interfaces are {', '.join(names)}"
        raise n.error("H005", f"this host has no interface `{device}`", spot, hint)
    return device


def _known_address(interfaces: Sequence[Interface], address: int, spot: n.Spot) -> int:
    if not is_own(interfaces, address):
        own = ", ".join(f"{spell_address(a.ip)}/{a.length}" for i in interfaces for a in i.addresses)
        message = f"{spell_address(address)} is no address of this host"
        raise n.error("H005", message, spot, f"its addresses are {own}")
    return address


# -- routes and sysctls -------------------------------------------------------------------------


def _routes(
    node: n.Node | None, interfaces: tuple[Interface, ...]
) -> tuple[tuple[Route, ...], tuple[Assumption, ...]]:
    """The main table exactly as given; where it is not given, the connected routes, which is an assumption."""
    if node is None:
        own = connected(interfaces)
        text = ", ".join(spell_route(r) for r in own) or "none"
        return own, (
            Assumption("A010", f"routes not given: those of the interfaces' subnets alone ({text})"),
        )
    found: dict[tuple[Net, int], Route] = {}
    for word in n.scalars(node, "`routes`"):
        route = n.value(word, read_route, "write it as `ip route` prints it")
        if route.device is not None:
            _known_device(interfaces, route.device, word.spot)
        if route.source is not None:
            _known_address(interfaces, route.source, word.spot)
        if (route.net, route.metric) in found:
            raise n.error("H005", "the table has a route to this prefix with this metric already", word.spot)
        found[route.net, route.metric] = route
    return tuple(found.values()), ()


_GREATEST = {"rp_filter": 2}
_OF_INTERFACE = ("route_localnet", "accept_local", "rp_filter", "send_redirects")


def _sysctls(
    node: n.Node | None, interfaces: tuple[Interface, ...]
) -> tuple[dict[str, int], tuple[Assumption, ...]]:
    given: dict[str, int] = {}
    entries = {} if node is None else n.keys(node, "`sysctls`").entries
    for key, body in entries.values():
        _sysctl_key(key, interfaces)
        word = n.scalar(body, f"`{key.text}`")
        greatest = _GREATEST.get(key.text.rpartition(".")[2], 1)
        if not word.text.isdecimal() or int(word.text) > greatest:
            raise n.error("H004", f"`{key.text}` is a number from 0 to {greatest}", word.spot)
        given[key.text] = int(word.text)
    missing = {k: v for k, v in DEFAULTS.items() if k not in given}
    if not missing:
        return given, ()
    text = ", ".join(f"{k.rpartition('.')[2]} {v}" for k, v in missing.items())
    return missing | given, (Assumption("A003", f"sysctls not given have the kernel's defaults: {text}"),)


def _sysctl_key(key: n.Scalar, interfaces: tuple[Interface, ...]) -> None:
    """Raises HostError iff no journey depends on this sysctl, or its interface is not there."""
    if key.text in DEFAULTS:
        return
    scope, _, last = key.text.rpartition(".")
    prefix = "net.ipv4.conf."
    names = [i.name for i in interfaces]
    if scope.startswith(prefix) and last in _OF_INTERFACE:
        if scope.removeprefix(prefix) in names:
            return
        message = f"`{scope.removeprefix(prefix)}` is no interface of this host"
    else:
        message = f"`{key.text}` is no sysctl that we know a journey to depend on"
    known = [*DEFAULTS, *(f"{prefix}{i}.{k}" for i in names for k in _OF_INTERFACE)]
    raise n.error(
        "H002", message, key.spot, did_you_mean(key.text, known) or f"known are {', '.join(DEFAULTS)}"
    )


# -- processes ----------------------------------------------------------------------------------


def _processes(node: n.Node | None, interfaces: tuple[Interface, ...], base: Path) -> tuple[Process, ...]:
    found: list[Process] = []
    owners: dict[Listener, str] = {}
    for key, body in {} if node is None else n.keys(node, "`processes`").entries.values():
        name = n.value(key, read_name, NAME_FORM)
        what = f"process `{name}`"
        fields = n.keys(body, what, PROCESS_KEYS)
        listens: list[Listener] = []
        for word in n.scalars(fields.get("listens"), "`listens`"):
            listener = _listener(word, interfaces)
            if listener in owners:
                raise n.error("H005", f"`{owners[listener]}` listens on this socket already", word.spot)
            owners[listener] = name
            listens.append(listener)
        mark = fields.get("mark")
        device = fields.get("binds-device")
        found.append(
            Process(
                name=name,
                uid=_ids(fields, "uid", key),
                gid=_ids(fields, "gid", key),
                listens=tuple(listens),
                proxies=_proxies(fields.get("proxy"), tuple(listens), interfaces, base),
                mark=0 if mark is None else n.value(n.scalar(mark, "`mark`"), read_mark),
                device=None if device is None else _device(n.scalar(device, "`binds-device`"), interfaces),
                raw=_truth(fields.get("raw"), "`raw`"),
            )
        )
    return tuple(found)


def _ids(fields: n.Keys, key: str, process: n.Scalar) -> IdSet:
    node = fields.get(key)
    if node is None:
        raise n.error("H003", f"process `{process.text}` needs `{key}:`", process.spot, IDS_FORM)
    if isinstance(node, n.Items):
        words = n.scalars(node, f"`{key}`")
        return n.value(n.Scalar(", ".join(w.text for w in words), node.spot), read_ids, IDS_FORM)
    return n.value(n.scalar(node, f"`{key}`"), read_ids, IDS_FORM)


def _listener(word: n.Scalar, interfaces: tuple[Interface, ...]) -> Listener:
    listener = n.value(word, read_listener, LISTENER_FORM)
    if listener.device is not None:
        _known_device(interfaces, listener.device, word.spot)
    if listener.address is not None:
        _known_address(interfaces, listener.address, word.spot)
    return listener


def _device(word: n.Scalar, interfaces: tuple[Interface, ...]) -> str:
    return _known_device(interfaces, n.value(word, read_iface), word.spot)


def _truth(node: n.Node | None, what: str) -> bool:
    if node is None:
        return False
    word = n.scalar(node, what)
    if word.text not in ("true", "false"):
        raise n.error("H004", f"{what} is `true` or `false`", word.spot)
    return word.text == "true"


# -- proxies ------------------------------------------------------------------------------------


def _proxies(
    node: n.Node | None, listens: tuple[Listener, ...], interfaces: tuple[Interface, ...], base: Path
) -> tuple[Proxy, ...]:
    found: list[Proxy] = []
    for key, body in {} if node is None else n.keys(node, "`proxy`").entries.values():
        name = n.value(key, read_name, NAME_FORM)
        fields = n.keys(body, f"proxy `{name}`", PROXY_KEYS)
        word = n.scalar(n.needed(fields, "accepts", f"proxy `{name}`"), "`accepts`")
        accepts = n.value(word, read_port)
        on = [x.port for x in listens if x.protocol == TCP]
        if accepts not in on:
            hint = f"it listens on {', '.join(map(str, on)) or 'nothing'}: see `listens:`"
            raise n.error("H005", f"the process does not listen on tcp port {accepts}", word.spot, hint)
        for other in found:
            if other.accepts == accepts:
                raise n.error("H005", f"proxy `{other.name}` accepts on {accepts} already", word.spot)
        routes = _proxy_routes(name, fields, interfaces, base)
        found.append(Proxy(name, accepts, routes, _ports(fields.get("refuses"), "`refuses`")))
    return tuple(found)


def _proxy_routes(
    name: str, fields: n.Keys, interfaces: tuple[Interface, ...], base: Path
) -> tuple[ProxyRoute, ...]:
    """From `routes:`, from `connects-to:` alone, which fits every port, or from Envoy's clusters."""
    ways = [k for k in ("routes", "connects-to", "envoy") if k in fields.entries]
    if len(ways) != 1:
        message = f"proxy `{name}` needs one of `routes:`, `connects-to:` and `envoy:`"
        spot = fields.entries[ways[1]][0].spot if ways else fields.spot
        raise n.error("H003", message + (", and has several" if ways else ""), spot)
    if "source" in fields.entries and ways != ["connects-to"]:
        raise n.error("H003", f"`source:` does not go with `{ways[0]}:`", fields.entries["source"][0].spot)
    node = fields.entries[ways[0]][1]
    if ways == ["connects-to"]:
        return (_proxy_route(fields, interfaces),)
    if ways == ["envoy"]:
        word = n.scalar(node, "`envoy`")
        routes = read_clusters(base / word.text)
        for route in routes:
            if isinstance(route.source, BoundTo):
                _known_address(interfaces, route.source.address, word.spot)
        return routes
    if not isinstance(node, n.Items):
        raise n.error("H003", "`routes` is a list of `{port: P, connects-to: ...}`", node.spot)
    return tuple(_proxy_route(n.keys(item, "a proxy's route", ROUTE_KEYS), interfaces) for item in node.nodes)


def _proxy_route(fields: n.Keys, interfaces: tuple[Interface, ...]) -> ProxyRoute:
    if "port" in fields.entries and "ports" in fields.entries:
        raise n.error("H003", "a route has `port:` or `ports:`", fields.entries["ports"][0].spot)
    given = [k for k in ("port", "ports") if k in fields.entries]
    ports = _ports(fields.get(given[0]), f"`{given[0]}`") if given else ()
    if given and not ports:
        raise n.error("H003", f"`{given[0]}` names no port", fields.entries[given[0]][0].spot)
    node = n.needed(fields, "connects-to", "a proxy's route")
    dials: list[Dial] = []
    for word in n.scalars(node, "`connects-to`"):
        dials.append(n.value(word, read_dial, DIAL_FORM))
    if not dials:
        raise n.error("H003", "`connects-to` names nowhere to connect to", node.spot)
    return ProxyRoute(
        tuple(dict.fromkeys(dials)), _source(fields.get("source"), interfaces), ports, fields.spot.place
    )


def _source(node: n.Node | None, interfaces: tuple[Interface, ...]) -> DialSource:
    if node is None:
        return KernelChooses()
    word = n.scalar(node, "`source`")
    if word.text == "client":
        return ClientsOwn()
    address = n.value(
        word, read_address, "write an address, or `client`; leave it out where nothing is bound"
    )
    return BoundTo(_known_address(interfaces, address, word.spot))


def _ports(node: n.Node | None, what: str) -> tuple[Span, ...]:
    return tuple(p for word in n.scalars(node, what) for p in n.value(word, read_ports))
