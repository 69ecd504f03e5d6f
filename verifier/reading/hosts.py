"""Host files (YAML) read as a `Host` for each family that they give: every value is checked, and a key that is not known is an error.

Paths in a host file are relative to it.  What the file leaves out and a journey depends on becomes an
assumption, so that it is printed with every answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from ..hosts import (
    BOUND_BEFORE_LOCAL,
    MAIN,
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
    RoutingRule,
    defaults,
)
from ..spell_hosts import route as spell_route
from ..values import (
    IPV4,
    LINK_LOCAL,
    TCP,
    AddressSet,
    Family,
    IdSet,
    Net,
    Place,
    Span,
    nowhere,
    spell_address,
)
from . import nodes as n
from .envoy import read_clusters
from .errors import HostError, did_you_mean
from .files import read_text
from .host_sets import read_host_sets
from .policy import around_local, read_routing_rule
from .routes import DEFAULT_TABLE, LOCAL_TABLE, connected, is_link_local, only_local, read_route
from .words import (
    DIAL_FORM,
    IDS_FORM,
    LISTENER_FORM,
    NAME_FORM,
    OWNER_NAME_FORM,
    read_address_set,
    read_dial,
    read_either,
    read_id,
    read_ids,
    read_iface,
    read_mark,
    read_name,
    read_owner_name,
    read_port,
    read_ports,
    read_sockets,
)

KEYS = (
    "rules", "rules6", "backend", "interfaces", "routes", "routes6", "ip-rules", "ip-rules6", "sysctls", "sets", "users", "groups", "processes",
    "outside",
)  # fmt: skip
PROCESS_KEYS = ("uid", "gid", "listens", "proxy", "mark", "binds-device", "raw", "suppl-groups")
PROXY_KEYS = ("accepts", "refuses", "routes", "connects-to", "source", "envoy")
ROUTE_KEYS = ("port", "ports", "connects-to", "source")


class ReadView(Struct, frozen=True):
    """A host as packets of one family see it, and the rules files that it names, in load order, each with the place that
    names it."""

    host: Host
    rules_files: tuple[Path, ...] = ()
    rules_places: tuple[Place, ...] = ()


class ReadHost(Struct, frozen=True):
    """A host in each family that its file gives, IPv4 first; never empty."""

    views: tuple[ReadView, ...]

    @property
    def host(self) -> Host:
        return self.views[0].host

    @property
    def rules_files(self) -> tuple[Path, ...]:
        return self.views[0].rules_files


def read_host(path: Path) -> ReadHost:
    """The host in a file, named after the file; raises HostError, also where a rules file is not there."""
    text = read_text(path, "the host file", "H007", HostError)
    found = read_host_text(text, str(path))
    lines = text.splitlines()
    for view in found.views:
        for rules, place in zip(view.rules_files, view.rules_places, strict=True):
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


class _Keys(Struct, frozen=True):
    """The keys of a host file that one family has for itself."""

    rules: str
    routes: str
    policy: str


_KEYS = {
    IPV4: _Keys("rules", "routes", "ip-rules"),
    Family.IPV6: _Keys("rules6", "routes6", "ip-rules6"),
}


def read_host_text(text: str, file: str) -> ReadHost:
    """The host in a text that is said to stand in `file`; of other files only Envoy's clusters and ip sets are opened."""
    top = n.keys(n.read(text, file), "a host file", KEYS)
    if not any(keys.rules in top.entries for keys in _KEYS.values()):
        n.needed(top, "rules", "a host file")
    views = []
    for host in _hosts(top, Path(file).stem, Path(file).parent):
        key = _KEYS[host.family].rules
        rules = n.scalars(top.get(key), f"`{key}`")
        if not rules and key in top.entries:
            raise n.error("H003", f"`{key}` names no file", top.entries[key][0].spot)
        files = tuple(Path(file).parent / r.text for r in rules)
        views.append(ReadView(host, files, tuple(r.spot.place for r in rules)))
    return ReadHost(tuple(views))


def read_bare_host(text: str, file: str, name: str) -> Host:
    """The host of one family that is told by a host file's keys without `rules`, which are given elsewhere."""
    known = tuple(key for key in KEYS if key not in ("rules", "rules6"))
    host, *others = _hosts(n.keys(n.read(text, file), "a host", known), name, Path(file).parent)
    if others:
        raise HostError("H003", "a host without rules is of one family", Place(file, 1))
    return host


def _hosts(top: n.Keys, name: str, base: Path) -> list[Host]:
    """The host in each family that it has."""
    interfaces = _interfaces(n.needed(top, "interfaces", "a host file"))
    given = _families(top, interfaces)
    sysctls = _sysctls(top.get("sysctls"), interfaces)
    sets = read_host_sets(top.get("sets"), base)
    users, groups = (_names(top.get(key), f"`{key}`") for key in ("users", "groups"))
    hosts = []
    for family in given:
        own = tuple(
            Interface(i.name, tuple(a for a in i.addresses if a.family is family)) for i in interfaces
        )
        routes, on_routes = _routes(top.get(_KEYS[family].routes), _KEYS[family].routes, own, family)
        rules = top.get(_KEYS[family].policy)
        before, behind, on_tables = _policy(rules, interfaces, routes, family)
        processes = _processes(top.get("processes"), interfaces, base, family, {"uid": users, "gid": groups})
        if before and rules is not None:
            _none_is_bound(processes, rules)
        known, on_sysctls = _with_defaults(sysctls, family)
        host = Host(
            name=name,
            interfaces=own,
            routes=routes.pop(MAIN, ()),
            sysctls=known,
            processes=processes,
            outside=_outside(top.get("outside"), family),
            backend=_backend(top.get("backend")),
            sets=sets,
            users=users,
            groups=groups,
            assumptions=(*on_sysctls, *on_routes, *on_tables),
            family=family,
            policy=behind,
            tables=routes,
            before_local=before,
        )
        hosts.append(host)
    return hosts


def _families(top: n.Keys, interfaces: Sequence[Interface]) -> tuple[Family, ...]:
    """The families that the host has: those with rules, routes, routing rules, or an address of another interface than lo."""
    given = []
    for family, keys in _KEYS.items():
        addresses = any(a.family is family for i in interfaces if i.name != "lo" for a in i.addresses)
        of_its_own = (keys.rules, keys.routes, *([keys.policy] if family is not IPV4 else ()))
        if addresses or any(key in top.entries for key in of_its_own):
            given.append(family)
    return tuple(given) or (IPV4,)


def _backend(node: n.Node | None) -> Backend:
    if node is None:
        return Backend.EITHER
    word = n.scalar(node, "`backend`")
    known = [b.value for b in Backend]
    if word.text not in known:
        hint = did_you_mean(word.text, known) or "write `legacy`, `nft` or `either`"
        raise n.error("H004", f"`{word.text}` is no backend", word.spot, hint)
    return Backend(word.text)


def _outside(node: n.Node | None, family: Family) -> AddressSet:
    sources = None if node is None else n.keys(node, "`outside`", ("sources",)).get("sources")
    items = [n.value(s, read_address_set, "write `A, B, not C`") for s in n.scalars(sources, "`sources`")]
    found = AddressSet(
        tuple(term for item in items for term in item.included),
        tuple(term for item in items for term in item.excluded),
    )
    return found.of(family) or nowhere(family)


# -- interfaces -------------------------------------------------------------------------------


def is_own(interfaces: Sequence[Interface], address: int, family: Family = IPV4) -> bool:
    """True iff a socket of a host with these interfaces may be bound to this address."""
    return any(
        a.ip == address or (i.name == "lo" and address & a.net.mask == a.net.address)
        for i in interfaces
        for a in i.addresses
        if a.family is family
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
            _check_alone(address, word.spot, [*found, Interface(name, tuple(addresses))])
            if name == "lo" and address.family is not IPV4 and address.length != 128:
                hint = (
                    "the kernel would have a route over lo to the rest of the subnet, which is not modelled"
                )
                raise n.error("H005", "an IPv6 address of lo has the prefix length 128", word.spot, hint)
            addresses.append(address)
        found.append(Interface(name, tuple(addresses)))
    if "lo" not in [i.name for i in found]:
        raise n.error(
            "H005", "every host has an interface `lo`", node.spot, "add `lo: {addresses: [127.0.0.1/8]}`"
        )
    return tuple(found)


def _check_alone(address: Address, spot: n.Spot, interfaces: Sequence[Interface]) -> None:
    """Raises HostError iff these interfaces have the address, or it is an anycast address beside one of theirs."""
    for interface in interfaces:
        for other in interface.addresses:
            if other.family is not address.family:
                continue
            if other.ip == address.ip:
                hint = "one address on two interfaces is not modelled"
                raise n.error("H005", f"{interface.name} has this address already", spot, hint)
    if address.family is IPV4:
        return
    its = [address, *(a for i in interfaces for a in i.addresses if a.family is address.family)]
    for one, other in ((one, other) for one in its for other in its if address in (one, other)):
        if other.length < 127 and one.ip == other.net.address:
            message = (
                f"{spell_address(one.ip, one.family)} is an anycast address of the subnet of {other} too"
            )
            raise n.error("H005", message, spot, "the first address of a subnet is that of any router in it")


def _address(text: str) -> Address:
    host, slash, length = text.partition("/")
    ip, family = read_either(host)
    if not slash:
        raise ValueError(f"`{text}` has no prefix length")
    if not length.isdecimal() or int(length) > family.bits:
        raise ValueError(f"`{length}` is no prefix length from 0 to {family.bits}")
    if ip == 0 or ip >= (0xE0000000 if family is IPV4 else 0xFF << 120):
        raise ValueError(f"{host} is no address that an interface can have")
    if family is not IPV4 and ip >> 118 == 0xFEC0 >> 6:
        raise ValueError(f"{host} is site-local: how the kernel selects such a source is not modelled")
    return Address(ip, int(length), family)


def _known_device(interfaces: Sequence[Interface], device: str, spot: n.Spot) -> str:
    names = [i.name for i in interfaces]
    if device not in names:
        hint = did_you_mean(device, names) or f"its interfaces are {', '.join(names)}"
        raise n.error("H005", f"this host has no interface `{device}`", spot, hint)
    return device


def _known_address(interfaces: Sequence[Interface], address: int, spot: n.Spot, family: Family = IPV4) -> int:
    if not is_own(interfaces, address, family):
        own = ", ".join(str(a) for i in interfaces for a in i.addresses if a.family is family) or "none"
        message = f"{spell_address(address, family)} is no address of this host"
        raise n.error("H005", message, spot, f"its addresses are {own}")
    return address


# -- routes and sysctls -------------------------------------------------------------------------


def _routes(
    node: n.Node | None, key: str, interfaces: tuple[Interface, ...], family: Family
) -> tuple[dict[int, tuple[Route, ...]], tuple[Assumption, ...]]:
    """The tables exactly as given; where nothing is given, the connected routes in the main one, which is an assumption."""
    if node is None:
        own = connected(interfaces)
        text = ", ".join(spell_route(r) for r in own) or "none"
        return {MAIN: own}, (
            Assumption("A010", f"{key} not given: those of the interfaces' subnets alone ({text})"),
        )
    found: dict[tuple[int, Net, int, str | None], Route] = {}
    for word in n.scalars(node, f"`{key}`"):
        if family is not IPV4 and only_local(word.text):
            continue
        table, route = n.value(
            word, lambda line: read_route(line, family), "write it as `ip route` prints it"
        )
        if route.device is not None:
            _known_device(interfaces, route.device, word.spot)
        if route.source is not None:
            _known_address(interfaces, route.source, word.spot, family)
        same = (table, route.net, route.metric, route.device if is_link_local(route.net) else None)
        if same in found:
            raise n.error("H005", "the table has a route to this prefix with this metric already", word.spot)
        found[same] = route
    tables: dict[int, list[Route]] = {}
    for (table, *_), route in found.items():
        tables.setdefault(table, []).append(route)
    return {table: tuple(routes) for table, routes in tables.items()}, ()


def _policy(
    node: n.Node | None,
    interfaces: tuple[Interface, ...],
    tables: dict[int, tuple[Route, ...]],
    family: Family,
) -> tuple[tuple[RoutingRule, ...], tuple[RoutingRule, ...], tuple[Assumption, ...]]:
    """The rules before that of the local table, and those behind it; `tables` has every table that one names from here on, if
    need be as an empty one, which is an assumption."""
    if node is None:
        return (), (), ()
    words = n.scalars(node, f"`{_KEYS[family].policy}`")
    hint = f"write it as `{'ip' if family is IPV4 else 'ip -6'} -N rule` prints it"
    read = [n.value(word, lambda line: read_routing_rule(line, family), hint) for word in words]
    for word, numbered in zip(words, read, strict=True):
        for name in (numbered.rule.in_iface, numbered.rule.out_iface):
            if name is not None:
                _known_device(interfaces, name, word.spot)
    named = dict.fromkeys(numbered.rule.table for numbered in read if numbered.rule.table is not None)
    empty = [table for table in named if table not in (MAIN, LOCAL_TABLE, DEFAULT_TABLE, *tables)]
    told = tuple(
        Assumption("A017", f"table {table}, which `{_KEYS[family].policy}` names, has no routes")
        for table in empty
    )
    tables |= dict.fromkeys(empty, ())
    if not words:
        return (), (), ()
    try:
        before, behind = around_local(read, family)
    except ValueError as e:
        raise n.error("H005", str(e), words[0].spot) from None
    if any(rule.table == DEFAULT_TABLE for rule in (*before, *behind)):
        tables.setdefault(DEFAULT_TABLE, ())
    return before, behind, told


def _none_is_bound(processes: tuple[Process, ...], rules: n.Node) -> None:
    for process in processes:
        if process.device or any(listener.device for listener in process.listens):
            raise n.error("H005", BOUND_BEFORE_LOCAL.format(f"`{process.name}`"), rules.spot)


_GREATEST = {"rp_filter": 2}
_OF_INTERFACE = ("route_localnet", "accept_local", "rp_filter", "send_redirects", "src_valid_mark")


def _sysctls(node: n.Node | None, interfaces: tuple[Interface, ...]) -> dict[str, int]:
    given: dict[str, int] = {}
    entries = {} if node is None else n.keys(node, "`sysctls`").entries
    for key, body in entries.values():
        name = _SAME.get(key.text, key.text)
        if name == key.text:
            _sysctl_key(key, interfaces)
        word = n.scalar(body, f"`{key.text}`")
        greatest = _GREATEST.get(key.text.rpartition(".")[2], 1)
        if not word.text.isdecimal() or int(word.text) > greatest:
            raise n.error("H004", f"`{key.text}` is a number from 0 to {greatest}", word.spot)
        if given.setdefault(name, int(word.text)) != int(word.text):
            raise n.error("H004", f"`{key.text}` is `{name}`, which is given otherwise", word.spot)
    return given


_SAME = {"net.ipv4.conf.all.forwarding": "net.ipv4.ip_forward"}
"""Other names of sysctls (net/ipv4/devinet.c: devinet_sysctl_forward)."""


def _with_defaults(
    sysctls: Mapping[str, int], family: Family
) -> tuple[dict[str, int], tuple[Assumption, ...]]:
    """The sysctls of this family, with the kernel's own for those that are not given, which is an assumption."""
    other = "net.ipv6." if family is IPV4 else "net.ipv4."
    given = {k: v for k, v in sysctls.items() if not k.startswith(other)}
    missing = {k: v for k, v in defaults(family).items() if k not in given}
    if not missing:
        return given, ()
    text = ", ".join(f"{_short(k)} {v}" for k, v in missing.items())
    return missing | given, (Assumption("A003", f"sysctls not given have the kernel's defaults: {text}"),)


def _short(key: str) -> str:
    return ("IPv6 " if key.startswith("net.ipv6.") else "") + key.rpartition(".")[2]


def _sysctl_key(key: n.Scalar, interfaces: tuple[Interface, ...]) -> None:
    """Raises HostError iff no journey depends on this sysctl, or its interface is not there."""
    every = {key: value for family in Family for key, value in defaults(family).items()}
    if key.text in every:
        return
    scope, _, last = key.text.rpartition(".")
    prefix = "net.ipv4.conf."
    names = [i.name for i in interfaces]
    if scope.startswith(prefix) and last in _OF_INTERFACE:
        if scope.removeprefix(prefix) in (*names, "all"):
            return
        message = f"`{scope.removeprefix(prefix)}` is no interface of this host"
    else:
        message = f"`{key.text}` is no sysctl that we know a journey to depend on"
    known = [*every, *(f"{prefix}{i}.{k}" for i in names for k in _OF_INTERFACE)]
    raise n.error("H002", message, key.spot, did_you_mean(key.text, known) or f"known are {', '.join(every)}")


# -- processes ----------------------------------------------------------------------------------


def _names(node: n.Node | None, what: str) -> dict[str, int]:
    """Which id each name is; `root` is 0 unsaid."""
    found: dict[str, int] = {}
    for key, body in {} if node is None else n.keys(node, what).entries.values():
        name = n.value(key, read_owner_name, OWNER_NAME_FORM)
        found[name] = n.value(
            n.scalar(body, what), read_id, "write a number, as in the third field of passwd or group"
        )
        if name == "root" and found[name]:
            raise n.error("H004", "root is 0 on every host", body.spot)
    return found


def _processes(
    node: n.Node | None,
    interfaces: tuple[Interface, ...],
    base: Path,
    family: Family,
    names: Mapping[str, Mapping[str, int]],
) -> tuple[Process, ...]:
    """The processes as packets of this family see them: without the sockets that take none of them, and without the
    proxies that accept on no other; whatever is said of the other family is checked too."""
    found: list[Process] = []
    owners: dict[tuple[Family, Listener], str] = {}
    for key, body in {} if node is None else n.keys(node, "`processes`").entries.values():
        name = n.value(key, read_name, NAME_FORM)
        what = f"process `{name}`"
        fields = n.keys(body, what, PROCESS_KEYS)
        listens: list[Mapping[Family, Listener]] = []
        for word in n.scalars(fields.get("listens"), "`listens`"):
            sockets = _sockets(word, interfaces)
            for family_of, listener in sockets.items():
                one = family_of, replace(listener, transparent=False)
                if one in owners:
                    raise n.error("H005", f"`{owners[one]}` listens on this socket already", word.spot)
                owners[one] = name
            listens.append(sockets)
        mark = fields.get("mark")
        device = fields.get("binds-device")
        on = tuple(dict.fromkeys(x.port for one in listens for x in one.values() if x.protocol == TCP))
        own = tuple(sockets[family] for sockets in listens if family in sockets)
        ports = [x.port for x in own if x.protocol == TCP]
        proxies = _proxies(fields.get("proxy"), on, interfaces, base, family)
        found.append(
            Process(
                name=name,
                uid=_ids(fields, "uid", key, names["uid"]),
                gid=_ids(fields, "gid", key, names["gid"]),
                listens=own,
                proxies=tuple(proxy for proxy in proxies if proxy.accepts in ports),
                mark=0 if mark is None else n.value(n.scalar(mark, "`mark`"), read_mark),
                device=None if device is None else _device(n.scalar(device, "`binds-device`"), interfaces),
                raw=_truth(fields.get("raw"), "`raw`"),
                supplementary=_supplementary(fields.get("suppl-groups"), names["gid"]),
            )
        )
    return tuple(found)


def _supplementary(node: n.Node | None, names: Mapping[str, int]) -> tuple[int, ...]:
    known = {"root": 0, **names}
    found = {
        known[word.text]
        if word.text in known
        else n.value(word, read_id, "write a number, or a name of `groups:`")
        for word in n.scalars(node, "`suppl-groups`")
    }
    return tuple(sorted(found))


def _ids(fields: n.Keys, key: str, process: n.Scalar, names: Mapping[str, int]) -> IdSet:
    def read(text: str) -> IdSet:
        return read_ids(text, names)

    node = fields.get(key)
    if node is None:
        raise n.error("H003", f"process `{process.text}` needs `{key}:`", process.spot, IDS_FORM)
    if isinstance(node, n.Items):
        words = n.scalars(node, f"`{key}`")
        return n.value(n.Scalar(", ".join(w.text for w in words), node.spot), read, IDS_FORM)
    return n.value(n.scalar(node, f"`{key}`"), read, IDS_FORM)


def _sockets(word: n.Scalar, interfaces: tuple[Interface, ...]) -> Mapping[Family, Listener]:
    sockets = n.value(word, read_sockets, LISTENER_FORM)
    for listener in sockets.values():
        if listener.device is not None:
            _known_device(interfaces, listener.device, word.spot)
        if listener.address is not None:
            _known_address(interfaces, listener.address, word.spot, listener.family)
    return sockets


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
    node: n.Node | None, on: Sequence[int], interfaces: tuple[Interface, ...], base: Path, family: Family
) -> tuple[Proxy, ...]:
    """The proxies of a process that listens on these ports."""
    found: list[Proxy] = []
    for key, body in {} if node is None else n.keys(node, "`proxy`").entries.values():
        name = n.value(key, read_name, NAME_FORM)
        fields = n.keys(body, f"proxy `{name}`", PROXY_KEYS)
        word = n.scalar(n.needed(fields, "accepts", f"proxy `{name}`"), "`accepts`")
        accepts = n.value(word, read_port)
        if accepts not in on:
            hint = f"it listens on {', '.join(map(str, on)) or 'nothing'}: see `listens:`"
            raise n.error("H005", f"the process does not listen on tcp port {accepts}", word.spot, hint)
        for other in found:
            if other.accepts == accepts:
                raise n.error("H005", f"proxy `{other.name}` accepts on {accepts} already", word.spot)
        routes = _proxy_routes(name, fields, interfaces, base, family)
        found.append(Proxy(name, accepts, routes, _ports(fields.get("refuses"), "`refuses`")))
    return tuple(found)


def _proxy_routes(
    name: str, fields: n.Keys, interfaces: tuple[Interface, ...], base: Path, family: Family
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
        return (_proxy_route(fields, interfaces, family),)
    if ways == ["envoy"]:
        word = n.scalar(node, "`envoy`")
        routes = read_clusters(base / word.text, family)
        for route in routes:
            if isinstance(route.source, BoundTo):
                _known_address(interfaces, route.source.address, word.spot, route.source.family)
        return routes
    if not isinstance(node, n.Items):
        raise n.error("H003", "`routes` is a list of `{port: P, connects-to: ...}`", node.spot)
    return tuple(
        _proxy_route(n.keys(item, "a proxy's route", ROUTE_KEYS), interfaces, family) for item in node.nodes
    )


def _proxy_route(fields: n.Keys, interfaces: tuple[Interface, ...], family: Family) -> ProxyRoute:
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
    source = _source(fields.get("source"), interfaces, family)
    return ProxyRoute(tuple(dict.fromkeys(dials)), source, ports, fields.spot.place)


def _source(node: n.Node | None, interfaces: tuple[Interface, ...], family: Family) -> DialSource:
    """What a proxy binds for a connection of this family: of two addresses the one of this family."""
    if node is None:
        return KernelChooses()
    words = n.scalars(node, "`source`")
    if len(words) == 1 and words[0].text == "client":
        return ClientsOwn()
    hint = "write an address, one of each family, or `client`; leave it out where nothing is bound"
    found: dict[Family, BoundTo] = {}
    for word in words:
        address, its = n.value(word, read_either, hint)
        if its in found:
            raise n.error("H003", f"a proxy binds one {its} address", word.spot, hint)
        if its is not IPV4 and address & LINK_LOCAL.mask == LINK_LOCAL.address:
            raise n.error("H006", "proxies that bind a link-local address are not read", word.spot)
        found[its] = BoundTo(_known_address(interfaces, address, word.spot, its), its)
    if not found:
        raise n.error("H003", "`source` names no address", node.spot, hint)
    return found.get(family) or next(iter(found.values()))


def _ports(node: n.Node | None, what: str) -> tuple[Span, ...]:
    return tuple(p for word in n.scalars(node, what) for p in n.value(word, read_ports))
