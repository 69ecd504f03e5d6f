"""Where the kernel sends a packet: address types, the local and the main table, source selection,
the checks of what arrives, and the socket that gets it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from msgspec import Struct

from ..hooks import Hook
from ..hosts import (
    DEFAULTS,
    DEFAULTS_IPV6,
    MAIN,
    TOS_OF_RULES,
    Address,
    Host,
    Listener,
    Process,
    Route,
    RouteKind,
    RoutingRule,
)
from ..journeys import MARTIAN, NO_ROUTE, NOT_FORWARDED, Group, Lost
from ..packets import Packet
from ..remembered import of_the_latest
from ..values import IPV4, Net, Span
from .keys import NO_KEYS, Keys, turned

LOOPBACK_DEVICE = "lo"
LOOPBACK = Net.prefix(0x7F000000, 8)
MULTICAST = Net.prefix(0xE0000000, 4)
BROADCAST = 0xFFFFFFFF


class Type(Enum):
    """What the local table says of an address (RTN_LOCAL, ...); OTHER is for the main table to say."""

    LOCAL = "local"
    BROADCAST = "broadcast"
    MULTICAST = "multicast"
    OTHER = "other"


class Roads(Struct, frozen=True):
    """A host's local and main tables, laid out for looking up."""

    host: Host
    owners: Mapping[int, tuple[str, ...]]
    """The interfaces that have an address, for each address that one has."""
    loopback: tuple[Address, ...]
    """The addresses of lo, the longest prefix first."""
    broadcasts: Mapping[int, tuple[str, ...]]
    """The last address of each subnet, and the interfaces that have this subnet."""
    anycasts: Mapping[int, tuple[str, ...]]
    """The first address of each subnet, and the interfaces that have it: of an IPv6 host that forwards."""
    main: tuple[Route, ...]
    """In the order of preference."""
    tables: Mapping[int, tuple[Route, ...]]
    """All tables that routing rules may name, each in the order of preference."""


class Flow(Struct, frozen=True):
    """What a route is looked up for (include/net/flow.h: struct flowi4); what is sent here comes in by lo."""

    dst: int
    src: int = 0
    keys: Keys = NO_KEYS
    in_iface: str = LOOPBACK_DEVICE
    device: str | None = None
    """The interface that it has to go out by."""


@of_the_latest
def roads(host: Host) -> Roads:
    """The host's tables, laid out for looking up: the local table as it follows from the addresses
    (net/ipv4/fib_frontend.c: fib_add_ifaddr), and the main table with the longest prefix first, then the lower metric, then the
    earlier line."""
    owners: dict[int, tuple[str, ...]] = {}
    broadcasts: dict[int, tuple[str, ...]] = {}
    ipv4 = host.family is IPV4
    for interface in host.interfaces:
        for address in interface.addresses:
            owners[address.ip] = (*owners.get(address.ip, ()), interface.name)
            if ipv4 and address.length < 31:
                last = address.ip | (BROADCAST >> address.length)
                broadcasts[last] = (*broadcasts.get(last, ()), interface.name)
    of_lo = [a for i in host.interfaces if ipv4 and i.name == LOOPBACK_DEVICE for a in i.addresses]
    loopback = tuple(sorted(of_lo, key=lambda a: -a.length))
    main = _in_order(host.routes)
    tables = {MAIN: main, **{number: _in_order(routes) for number, routes in host.tables.items()}}
    return Roads(host, owners, loopback, broadcasts, {} if ipv4 else anycasts(host), main, tables)


def _in_order(routes: tuple[Route, ...]) -> tuple[Route, ...]:
    return tuple(sorted(routes, key=lambda route: (-(route.net.length or 0), route.metric)))


FORWARDING_6 = "net.ipv6.conf.all.forwarding"


def forwards_6(host: Host) -> bool:
    return host.sysctls.get(FORWARDING_6, DEFAULTS_IPV6[FORWARDING_6]) != 0


def anycasts(host: Host) -> dict[int, tuple[str, ...]]:
    """The address of any router in a subnet, for each subnet of an IPv6 host that is one, and the interfaces that have it
    (net/ipv6/addrconf.c: addrconf_join_anycast)."""
    found: dict[int, tuple[str, ...]] = {}
    if not forwards_6(host):
        return found
    for interface in host.interfaces:
        for address in interface.addresses:
            first = address.net.address
            if address.length < 127 and first and interface.name not in found.get(first, ()):
                found[first] = (*found.get(first, ()), interface.name)
    return found


# -- address types ------------------------------------------------------------------------------


def type_of(road: Roads, address: int) -> Type:
    """An interface's own address is local whatever else it is; the last address of lo's subnet is not."""
    if address in road.owners:
        return Type.LOCAL
    if address == BROADCAST or address in road.broadcasts:
        return Type.BROADCAST
    if _of_loopback(road, address) is not None:
        return Type.LOCAL
    return Type.MULTICAST if within(address, MULTICAST) else Type.OTHER


def to_group(road: Roads, flow: Flow) -> bool:
    """True iff what is sent so goes to a group; for a socket with a device another subnet's broadcast
    address is one like any other, since the local table's entry for it has another device, and so it is where a rule before
    that table's has said where it goes."""
    kind = type_of(road, flow.dst)
    if kind is Type.BROADCAST and flow.dst != BROADCAST:
        return flow.device in (None, *road.broadcasts[flow.dst]) and said_first(road, flow) is None
    return kind in (Type.BROADCAST, Type.MULTICAST)


def is_unicast(road: Roads, address: int) -> bool:
    """True iff the main table, and not the local one, decides about the address, and has a unicast route."""
    if address == 0 or type_of(road, address) is not Type.OTHER:
        return False
    first = said_first(road, Flow(address))
    route = lookup(road, Flow(address)) if first is None else first.route
    return route is not None and route.kind is RouteKind.UNICAST


class Entry(Struct, frozen=True):
    """What the local table has for an address: its devices, and whether it is a subnet's broadcast address."""

    devices: tuple[str, ...]
    broadcast: bool = False


def local_entry(road: Roads, address: int) -> Entry | None:
    """The local table's entry for an address, None iff it has none."""
    if address not in road.owners and address in road.broadcasts:
        return Entry(road.broadcasts[address][:1], broadcast=True)
    devices = _owners(road, address)
    return Entry(devices) if devices else None


def is_multicast(address: int) -> bool:
    return within(address, MULTICAST)


def within(address: int, net: Net) -> bool:
    return address & net.mask == net.address


def _of_loopback(road: Roads, address: int) -> Address | None:
    """The address of lo whose subnet holds this one: all of that subnet is local."""
    return next((own for own in road.loopback if within(address, own.net)), None)


def _owners(road: Roads, address: int) -> tuple[str, ...]:
    """The devices that the local table names for a local address."""
    if address in road.owners:
        return road.owners[address]
    return (LOOPBACK_DEVICE,) if _of_loopback(road, address) is not None else ()


def lookup(road: Roads, flow: Flow) -> Route | None:
    """The route of what the local table has no entry for, None iff there is none, or one that says so.

    The main table's, or where the host has routing rules what the first says that says anything.
    """
    if not road.host.policy:
        return _in_table(road.main, flow)
    said = _said(road, road.host.policy, flow)
    return None if said is None else said.route


class Said(Struct, frozen=True):
    """What routing rules say of a flow; a route of None, as one that leads nowhere, is that there is none."""

    route: Route | None

    @property
    def device(self) -> str | None:
        return None if self.route is None else self.route.device


def said_first(road: Roads, flow: Flow) -> Said | None:
    """What the rules say that stand before that of the local table, None where they leave it to that: then this decides, whatever
    kind of address it is (net/core/fib_rules.c: fib_rules_lookup goes by priorities alone)."""
    return _said(road, road.host.before_local, flow) if road.host.before_local else None


def _said(road: Roads, rules: tuple[RoutingRule, ...], flow: Flow) -> Said | None:
    """What the first rule says that holds and whose table has a route, None iff there is none
    (net/core/fib_rules.c: fib_rules_lookup; net/ipv4/fib_rules.c: fib4_rule_action, fib4_rule_suppress)."""
    for rule in rules:
        if not _speaks_of(rule, flow):
            continue
        if rule.table is None:
            return Said(None)
        route = _in_table(road.tables[rule.table], flow)
        if route is None or route.kind is RouteKind.THROW:
            continue
        short = rule.suppress is not None and (route.net.length or 0) <= rule.suppress
        # Only a route that leads somewhere is suppressed (net/core/fib_rules.c: fib_rules_lookup asks where there is no error).
        if short and route.device is not None:
            continue
        return Said(route)
    return None


def _in_table(routes: tuple[Route, ...], flow: Flow) -> Route | None:
    """What has no device leads nowhere, whichever device is asked for (net/ipv4/fib_trie.c: fib_table_lookup)."""
    for route in routes:
        if within(flow.dst, route.net) and (route.device is None or flow.device in (None, route.device)):
            return route
    return None


def _speaks_of(rule: RoutingRule, flow: Flow) -> bool:
    """(net/core/fib_rules.c: fib_rule_match; net/ipv4/fib_rules.c: fib4_rule_match)"""
    every = (
        rule.source is None or within(flow.src, rule.source),
        rule.destination is None or within(flow.dst, rule.destination),
        rule.in_iface in (None, flow.in_iface),
        rule.out_iface in (None, flow.device),
        rule.tos is None or flow.keys.tos & TOS_OF_RULES == rule.tos,
        holds_of(rule, flow.keys),
    )
    return all(every) != rule.negated


def holds_of(rule: RoutingRule, keys: Keys) -> bool:
    """What the rules of both families ask alike (net/core/fib_rules.c: fib_rule_match)."""
    return (
        (rule.mark is None or not (keys.mark ^ rule.mark.value) & rule.mark.mask)
        and (rule.uids is None or rule.uids.first <= keys.uid <= rule.uids.last)
        and (rule.protocol is None or rule.protocol == keys.proto)
        and (rule.source_ports is None or _among(keys.sport, rule.source_ports))
        and (rule.destination_ports is None or _among(keys.dport, rule.destination_ports))
    )


def _among(port: int, ports: Span) -> bool:
    return ports.first <= port <= ports.last


# -- sysctls ------------------------------------------------------------------------------------


def _conf(host: Host, iface: str, key: str) -> tuple[int, int]:
    """A key's value for all interfaces and for this one."""
    everywhere = f"net.ipv4.conf.all.{key}"
    unset = 1 if key == "send_redirects" else 0
    return (
        host.sysctls.get(everywhere, DEFAULTS.get(everywhere, unset)),
        host.sysctls.get(f"net.ipv4.conf.{iface}.{key}", unset),
    )


def _either(road: Roads, iface: str, key: str) -> bool:
    """(include/linux/inetdevice.h: IN_DEV_ORCONF)"""
    return any(_conf(road.host, iface, key))


def _rp_filter(road: Roads, iface: str) -> int:
    """(include/linux/inetdevice.h: IN_DEV_MAXCONF)"""
    return max(_conf(road.host, iface, "rp_filter"))


# -- what is sent -------------------------------------------------------------------------------


def output(road: Roads, src: int, dst: int, device: str | None, keys: Keys = NO_KEYS) -> str | None:
    """The out-interface of what is sent, None iff the kernel refuses (net/ipv4/route.c: ip_route_output_key_hash_rcu).

    To a multicast address, or to everyone, what has a source and no device goes by the interface that has the source.
    That TCP does not connect to a broadcast or multicast address is not asked here: the route is there,
    and connect() refuses it (net/ipv4/tcp_ipv4.c: tcp_v4_connect).
    """
    if src and device is None and is_abroad(dst):
        return next(iter(_owners(road, src)), None)
    return _unless_stray(road, src, _way_out(road, Flow(dst, src, keys, device=device)))


def output_unbound(road: Roads, dst: int, keys: Keys) -> tuple[int, str] | None:
    """The source and the out-interface of a datagram whose socket is bound to nothing, None iff it is not sent."""
    src = source_of_datagram(road, dst, keys)
    out = None if src is None else _unless_stray(road, src, _way_out(road, Flow(dst, keys=keys)))
    return None if src is None or out is None else (src, out)


def _unless_stray(road: Roads, src: int, out: str | None) -> str | None:
    if out is None or out == LOOPBACK_DEVICE or not within(src, LOOPBACK):
        return out
    return out if _either(road, out, "route_localnet") else None


def output_again(road: Roads, src: int, dst: int, device: str | None, keys: Keys = NO_KEYS) -> str | None:
    """The out-interface after netfilter changed what a route depends on, None iff the packet cannot go: a source that is
    neither local nor unicast is not asked (net/ipv4/netfilter.c: ip_route_me_harder).
    """
    return output(road, asked_source(road, src), dst, device, keys)


def asked_source(road: Roads, src: int) -> int:
    """The source with which a new route is looked up."""
    return src if type_of(road, src) in (Type.LOCAL, Type.OTHER) else 0


def is_abroad(dst: int) -> bool:
    """True iff it is a multicast address, or everyone's: no subnet is asked to reach it."""
    return dst == BROADCAST or within(dst, MULTICAST)


def _way_out(road: Roads, flow: Flow) -> str | None:
    dst, device = flow.dst, flow.device
    if dst == 0:
        return None
    first = said_first(road, flow)
    if first is not None:
        return first.device or device
    kind = type_of(road, dst)
    if kind is Type.LOCAL:
        # The local table's route has the address's own device, which is lo only in the end.
        if device is None or device in _owners(road, dst) or _lo_by_name(road, dst, device):
            return LOOPBACK_DEVICE
    elif kind is Type.BROADCAST and dst != BROADCAST:
        if device in (None, *road.broadcasts[dst]):
            return road.broadcasts[dst][0] if device is None else device
    route = lookup(road, flow)
    # Only unicast and local routes have a device, the latter lo; with a socket's device and no other the kernel takes dst for on-link.
    return device if route is None or route.device is None else route.device


def _lo_by_name(road: Roads, dst: int, device: str) -> bool:
    return device == LOOPBACK_DEVICE and _of_loopback(road, dst) is not None


def select_source(road: Roads, dst: int, keys: Keys = NO_KEYS) -> int | None:
    """The source of a connection from a socket that is not bound, None iff connect() fails: there is no route, or the kernel
    finds in a second look that what it took is no address of its own (net/ipv4/route.c: ip_route_output_key_hash_rcu).
    """
    found = source_of_datagram(road, dst, keys)
    return None if found == dst and type_of(road, dst) is not Type.LOCAL else found


def source_of_datagram(road: Roads, dst: int, keys: Keys = NO_KEYS) -> int | None:
    """The source of what a socket sends that is not bound, None iff there is no route; 0 iff the host has no address to give.

    (net/ipv4/route.c: ip_route_output_key_hash_rcu; fib_semantics.c: fib_result_prefsrc; devinet.c: inet_select_addr)
    """
    first = said_first(road, Flow(dst, keys=keys))
    if first is not None:
        return _source_by(road, dst, first.route)
    if dst in road.owners:
        there = road.host.interface(road.owners[dst][0]).addresses
        subnet = next(own.net for own in there if own.ip == dst)
        return next(own.ip for own in there if own.net == subnet)
    own = _of_loopback(road, dst)
    if own is not None:
        return own.ip
    if road.host.before_local and dst in road.broadcasts:
        # Where the way does not depend on the source it makes no difference.
        there = road.host.interface(road.broadcasts[dst][0]).addresses
        return next(own.ip for own in there if own.length < 31 and own.ip | BROADCAST >> own.length == dst)
    return _source_by(road, dst, lookup(road, Flow(dst, keys=keys)))


def _source_by(road: Roads, dst: int, route: Route | None) -> int | None:
    """The source of what goes by this route of a table other than the local one."""
    if route is None or route.device is None:
        return None
    if route.kind is RouteKind.LOCAL and route.source is None:
        return dst
    if route.source is not None:
        return route.source
    addresses = road.host.interface(route.device).addresses
    if route.via is not None:
        for own in addresses:
            if within(route.via, own.net):
                return own.ip
    if addresses:
        return addresses[0].ip
    # An interface without addresses borrows one of another: not 127/8, whose scope is this host alone.
    borrowed = (a.ip for i in road.host.interfaces for a in i.addresses if not within(a.ip, LOOPBACK))
    return next(borrowed, 0)


def lends_address(road: Roads) -> bool:
    """True iff some interface has an address that the kernel may give to what has no source."""
    return any(not within(own.ip, LOOPBACK) for i in road.host.interfaces for own in i.addresses)


def next_hop(road: Roads, dst: int, out: str) -> int:
    """Whom the packet is handed to when it goes to `dst` by this interface, itself where no route leads there
    (include/net/route.h: rt_nexthop)."""
    route = lookup(road, Flow(dst, device=out))
    return dst if route is None or route.via is None else route.via


def is_sure_of_its_address(road: Roads, iface: str) -> bool:
    """True iff what MASQUERADE takes there does not depend on which routing rule held."""
    primary = {own.net for own in road.host.interface(iface).addresses if not within(own.ip, LOOPBACK)}
    return not road.host.policy or len(primary) < 2


def address_towards(road: Roads, iface: str, towards: int) -> int | None:
    """The address that an interface would send from, None iff no interface has one: a primary one whose scope is not this
    host alone, in the subnet of `towards` if one is (net/ipv4/devinet.c: inet_select_addr)."""
    # The first of a subnet, which its secondaries follow, is found before them.
    primary = [own for own in road.host.interface(iface).addresses if not within(own.ip, LOOPBACK)]
    near = (own.ip for own in primary if within(towards, own.net))
    others = (a.ip for i in road.host.interfaces for a in i.addresses if not within(a.ip, LOOPBACK))
    return next(near, primary[0].ip if primary else next(others, None))


# -- what arrives -------------------------------------------------------------------------------


class Arrival(Struct, frozen=True):
    """A packet that was let in: to this host, or `out` of the interface that it is forwarded by."""

    broadcast: bool = False
    """To a broadcast address, or an anycast one: TCP takes neither."""
    out: str | None = None


def input(road: Roads, iface: str, src: int, dst: int, keys: Keys = NO_KEYS) -> Arrival | Lost | Group:
    """What becomes of a packet that came in by `iface`, after PREROUTING (net/ipv4/route.c: ip_route_input_slow)."""
    if within(dst, MULTICAST):
        odd = within(src, MULTICAST) or src == BROADCAST
        if within(src, LOOPBACK):
            odd = not _either(road, iface, "route_localnet")
        return Lost(MARTIAN) if odd else Group((Hook.INPUT,))
    if within(src, MULTICAST) or src == BROADCAST:
        return Lost(MARTIAN)
    if dst == BROADCAST or (src == 0 and dst == 0):
        return _validated_broadcast(road, src, keys, iface) if src else Arrival(broadcast=True)
    if src == 0 or dst == 0:
        return Lost(MARTIAN)
    if within(dst, LOOPBACK) or within(src, LOOPBACK):
        if not _either(road, iface, "route_localnet"):
            return Lost(MARTIAN)
    first = said_first(road, Flow(dst, src, keys, iface))
    if first is None:
        kind = type_of(road, dst)
        if kind is Type.BROADCAST:
            return _validated_broadcast(road, src, keys, iface)
        if kind is not Type.OTHER:
            return _validated(road, Flow(dst, src, keys, iface), Arrival())
    route = lookup(road, Flow(dst, src, keys, iface)) if first is None else first.route
    if route is not None and route.kind is RouteKind.LOCAL:
        return _validated(road, Flow(dst, src, keys, iface), Arrival())
    forwarding = road.host.sysctls.get("net.ipv4.ip_forward", DEFAULTS["net.ipv4.ip_forward"]) != 0
    if not forwarding:
        return Lost(NOT_FORWARDED)
    if route is None or route.device is None:
        return Lost(NO_ROUTE)
    return _validated(road, Flow(dst, src, keys, iface), Arrival(out=route.device))


def _validated_broadcast(road: Roads, src: int, keys: Keys, iface: str) -> Arrival | Lost:
    """The way back to the source of a broadcast is looked up without a source of its own (net/ipv4/route.c: brd_input)."""
    return _validated(road, Flow(0, src, keys, iface), Arrival(broadcast=True))


def _validated(road: Roads, flow: Flow, arrival: Arrival) -> Arrival | Lost:
    """The arrival, unless the source may not come from there (net/ipv4/fib_frontend.c: fib_validate_source)."""
    iface, src = flow.in_iface, flow.src
    strictness = _rp_filter(road, iface)
    accept_local = _either(road, iface, "accept_local")
    turns_back = arrival.out == iface and _either(road, iface, "send_redirects")
    if strictness == 0 and not turns_back and (accept_local or not road.host.policy):
        refused = src in road.owners and not accept_local
    else:
        keys = turned(flow.keys, marked=_either(road, iface, "src_valid_mark"))
        back = Flow(src, flow.dst, keys, arrival.out or LOOPBACK_DEVICE)
        refused = _fails_in_full(road, iface, back, strictness, accept_local)
    return Lost(MARTIAN) if refused else arrival


def _fails_in_full(road: Roads, iface: str, back: Flow, strictness: int, accept_local: bool) -> bool:
    """(net/ipv4/fib_frontend.c: __fib_validate_source); `back` is the way to the source."""
    first, kind = said_first(road, back), type_of(road, back.dst)
    # An interface without addresses is never loose.
    strict = strictness == 1 or (strictness == 2 and not road.host.interface(iface).addresses)
    if first is None and kind is Type.LOCAL:
        return not accept_local or (strict and iface not in _owners(road, back.dst))
    if first is None and kind is not Type.OTHER:
        return True
    route = lookup(road, back) if first is None else first.route
    if route is None or route.device is None:
        return strictness != 0
    if route.kind is RouteKind.LOCAL and not accept_local:
        return True
    return strict and route.device != iface


# -- sockets ------------------------------------------------------------------------------------


def listening(road: Roads, packet: Packet, device: str | None) -> tuple[Process, Listener] | None:
    """The listening socket that gets a packet which came by this device: one of its address before a wildcard, then one
    of the device before one of none (net/ipv4/inet_hashtables.c: __inet_lookup_listener, compute_score; the same for UDP,
    and in IPv6)."""
    best: tuple[Process, Listener] | None = None
    rank = (False, False)
    for process in road.host.processes:
        for socket in process.listens:
            if (socket.protocol, socket.port) != (packet.proto, packet.dport):
                continue
            if socket.address not in (None, packet.dst) or socket.device not in (None, device):
                continue
            score = (socket.address is not None, socket.device is not None)
            if best is None or score > rank:
                best, rank = (process, socket), score
    return best


def came_by(road: Roads, dst: int) -> str:
    """The device that a socket's own is compared with over lo (include/net/route.h: inet_iif)."""
    return next(iter(_owners(road, dst)), LOOPBACK_DEVICE)
