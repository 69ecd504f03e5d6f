"""Where packets travel: interfaces, addresses, routes, sysctls, and the processes with their sockets
and proxies, as frozen data.

A `Host` is of one family: a machine that has both is two of them with the same names, each with the addresses, routes and
sockets of its family.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TypeAlias

from msgspec import Struct, field
from msgspec.structs import replace

from .rules import RuleSet, SetEntry
from .sets import IpSet, at_first, at_last, changes_by_itself, members, runs_out
from .values import (
    IPV4,
    NOWHERE,
    TCP,
    AddressSet,
    Family,
    Ids,
    IdSet,
    MarkMask,
    Net,
    Place,
    Span,
    bracketed,
    spell_address,
)


class Address(Struct, frozen=True):
    """An address of an interface, with the length of its subnet's prefix."""

    ip: int
    length: int
    family: Family = IPV4

    @property
    def net(self) -> Net:
        return Net.prefix(self.ip, self.length, self.family)

    def __str__(self) -> str:
        return f"{spell_address(self.ip, self.family)}/{self.length}"


class Interface(Struct, frozen=True):
    """Addresses in the order in which `ip address` prints them: in IPv6 the kernel looks for the first among them as in IPv4."""

    name: str
    addresses: tuple[Address, ...] = ()


class RouteKind(Enum):
    """What a route says (`ip route`); the main table has none of the last two here."""

    UNICAST = "unicast"
    BLACKHOLE = "blackhole"
    UNREACHABLE = "unreachable"
    PROHIBIT = "prohibit"
    LOCAL = "local"
    """To this host, whatever address it is: `local 0.0.0.0/0 dev lo`, as for transparent proxies."""
    THROW = "throw"
    """As if the table had no route: the next rule is asked."""


BARRED = (RouteKind.BLACKHOLE, RouteKind.UNREACHABLE, RouteKind.PROHIBIT)
"""The kinds that say that there is no route."""


class Route(Struct, frozen=True):
    """One line of `ip route`: the prefix, the device (None only for the kinds that have none), the
    gateway, the source that it prefers, and the metric.
    """

    net: Net
    device: str | None
    via: int | None = None
    source: int | None = None
    kind: RouteKind = RouteKind.UNICAST
    metric: int = 0

    def __post_init__(self) -> None:
        if self.net.length is None:
            raise ValueError("a route needs a prefix")
        if (self.kind in (RouteKind.UNICAST, RouteKind.LOCAL)) == (self.device is None):
            raise ValueError("a route has a device iff it is a unicast or a local route")
        if (self.device == "lo") != (self.kind is RouteKind.LOCAL):
            raise ValueError("a local route is over lo, and others over lo are not modelled")


MAIN = 254


class RoutingRule(Struct, frozen=True):
    """One line of `ip rule`: which packets it speaks of, and the table in which their route is looked up, or, where that is
    None, the kind of what they get (net/core/fib_rules.c: fib_rule_match, net/ipv4/fib_rules.c: fib4_rule_match,
    net/ipv6/fib6_rules.c: fib6_rule_match).

    Everything given must hold, and with `negated` not all of it may.  What is sent here comes in by `lo`; only what a
    socket sends that is bound to a device goes out by one before it is routed.  `suppress`: a route whose prefix is not
    longer than this counts as none.  Which lookups have the uid of a socket, and which the protocol and the ports of a
    packet, stands in docs/journeys.md.
    """

    table: int | None
    source: Net | None = None
    destination: Net | None = None
    in_iface: str | None = None
    out_iface: str | None = None
    mark: MarkMask | None = None
    negated: bool = False
    suppress: int | None = None
    kind: RouteKind = RouteKind.UNICAST
    uids: Ids | None = None
    """Those of sockets; what has no socket has uid 0."""
    protocol: int | None = None
    source_ports: Span | None = None
    destination_ports: Span | None = None
    tos: int | None = None
    """Of IPv4 alone: the TOS byte without its first three bits and its last two."""

    def __post_init__(self) -> None:
        if (self.table is None) != (self.kind in BARRED):
            raise ValueError(
                "a routing rule has a table, or else is a blackhole, unreachable or prohibit one"
            )
        if self.protocol is not None and not 1 <= self.protocol <= 255:
            raise ValueError(f"{self.protocol} is no protocol that a routing rule asks for")
        for ports in (self.source_ports, self.destination_ports):
            # (include/net/fib_rules.h: fib_rule_port_range_valid)
            if ports is not None and not 1 <= ports.first <= ports.last < 0xFFFF:
                raise ValueError("ports of a routing rule are from 1 to 65534")
        if self.tos is not None and (not self.tos or self.tos & ~TOS_OF_RULES):
            raise ValueError("a TOS of a routing rule is one of 0x04, 0x08, 0x0c, 0x10, 0x14, 0x18, 0x1c")


TOS_OF_RULES = 0x1C
"""The bits of a packet's TOS that IPv4's rules compare (net/ipv4/fib_rules.c: fib_dscp_masked_match)."""


class Listener(Struct, frozen=True):
    """A listening socket: `address` None is the wildcard, `device` the interface that it is bound to.

    One that takes both families is a listener on the wildcard in either.
    """

    port: int
    address: int | None = None
    protocol: int = TCP
    device: str | None = None
    family: Family = IPV4
    """That of its address; of a wildcard IPV4, whichever it takes."""
    transparent: bool = False
    """It has IP_TRANSPARENT, so that TPROXY may give it packets to whatever address."""

    def __str__(self) -> str:
        host = "*" if self.address is None else bracketed(self.address, self.family)
        kind = "" if self.protocol == TCP else "udp/"
        device = f"%{self.device}" if self.device else ""
        return f"{kind}{host}:{self.port}{device}" + (" transparent" if self.transparent else "")


# -- proxies ----------------------------------------------------------------------------------


class Dial(Struct, frozen=True):
    """Where a proxy connects to: None stands for the original destination's address, or port.

    `family` is that of the address; of one that the host is not of, nobody follows the connection.
    """

    address: int | None = None
    port: int | None = None
    family: Family = IPV4

    def __str__(self) -> str:
        if self.address is None and self.port is None:
            return "original-destination"
        host = "{address}" if self.address is None else bracketed(self.address, self.family)
        return f"{host}:{'{port}' if self.port is None else self.port}"


class BoundTo(Struct, frozen=True):
    """The proxy binds this source address before it connects; with one of the other family nobody knows what it does."""

    address: int
    family: Family = IPV4


class KernelChooses(Struct, frozen=True):
    """The proxy binds nothing: the kernel selects the source at connect()."""


class ClientsOwn(Struct, frozen=True):
    """A transparent proxy: the source address is that of the client, as the proxy sees it."""


DialSource: TypeAlias = BoundTo | KernelChooses | ClientsOwn


class ProxyRoute(Struct, frozen=True):
    """For original destinations with one of these ports (empty: any): the dials that it may choose from, and the source."""

    dials: tuple[Dial, ...]
    source: DialSource
    ports: tuple[Span, ...] = ()
    place: Place = NOWHERE

    def __post_init__(self) -> None:
        if not self.dials:
            raise ValueError("a proxy's route needs somewhere to connect to")


class Proxy(Struct, frozen=True):
    """What a process does with a TCP connection that it accepts on port `accepts`.

    The original destination is that of the packet before any DNAT (SO_ORIGINAL_DST).  If its port is
    among `refuses`, or no route fits, the journey ends at this process; else the first route that fits
    says where it connects to.
    """

    name: str
    accepts: int
    routes: tuple[ProxyRoute, ...]
    refuses: tuple[Span, ...] = ()


class Process(Struct, frozen=True):
    """A program with sockets.  Ids are sets, since a claim is proved for all of them.

    An ordinary socket has mark 0, is bound to no device, and sends only from local addresses; `mark`,
    `device` and `raw` say what this one's may do beyond that.
    """

    name: str
    uid: IdSet
    gid: IdSet
    listens: tuple[Listener, ...] = ()
    proxies: tuple[Proxy, ...] = ()
    mark: int = 0
    device: str | None = None
    raw: bool = False
    supplementary: tuple[int, ...] = ()
    """The groups that its sockets have beside the gid, in ascending order: all of them, and no others."""

    def __post_init__(self) -> None:
        if list(self.supplementary) != sorted(set(self.supplementary)):
            raise ValueError("supplementary groups are in ascending order, each once")
        if self.device == "lo":
            raise ValueError(
                "sockets bound to lo are not modelled: what they send elsewhere is dropped there"
            )


class Backend(Enum):
    """Which kernel code runs the rules."""

    LEGACY = "legacy"
    NFT = "nft"
    EITHER = "either"


class Assumption(Struct, frozen=True):
    """Something taken for granted: a code (`chainproof explain CODE`) and a sentence."""

    code: str
    text: str


BOUND_BEFORE_LOCAL = (
    "sockets that are bound to a device (of {}) are not modelled where routing rules stand before that of the local table: by "
    "which device a packet comes over lo depends on the rule that it went by"
)


class Host(Struct, frozen=True):
    """A network namespace, as packets of one family see it.

    `sysctls` holds every key that `defaults` has for the family, and per-interface ones as given.
    """

    name: str
    interfaces: tuple[Interface, ...]
    routes: tuple[Route, ...] = ()
    sysctls: Mapping[str, int] = field(default_factory=dict)
    processes: tuple[Process, ...] = ()
    outside: AddressSet = AddressSet()
    backend: Backend = Backend.EITHER
    sets: Mapping[str, IpSet] = field(default_factory=dict)
    """The ip sets whose entries are known, by name, with all members of those that are lists."""
    assumptions: tuple[Assumption, ...] = ()
    family: Family = IPV4
    policy: tuple[RoutingRule, ...] = ()
    """The routing rules behind that of the local table, in their order; none where they are the kernel's own, which ask the
    main table alone."""
    users: Mapping[str, int] = field(default_factory=dict)
    """Which uid the names of users are, as this host's passwd has it: for rules that ask for names."""
    groups: Mapping[str, int] = field(default_factory=dict)
    """The same of groups."""
    tables: Mapping[int, tuple[Route, ...]] = field(default_factory=dict)
    """The routes of further tables that routing rules name, by the table's number."""
    before_local: tuple[RoutingRule, ...] = ()
    """The routing rules before that of the local table, in their order."""

    def __post_init__(self) -> None:
        further = [route for routes in self.tables.values() for route in routes]
        nets = [route.net.family for route in (*self.routes, *further)]
        rules = self.routing_rules
        asked = [x.family for rule in rules for x in (rule.source, rule.destination) if x is not None]
        if any(route.kind in (RouteKind.LOCAL, RouteKind.THROW) for route in self.routes):
            raise ValueError("local and throw routes of the main table are not modelled")
        absent_table = next((x for r in rules if (x := r.table) not in (None, MAIN, *self.tables)), None)
        if absent_table is not None:
            raise ValueError(f"a routing rule names table {absent_table}, of which nothing is said")
        if self.family is not IPV4 and any(rule.tos is not None for rule in rules):
            raise ValueError("which lookups of IPv6 have a traffic class is not modelled")
        if self.before_local:
            self._check_what_is_before_local()
        if any(
            family is not self.family
            for family in (*nets, *asked, *(a.family for i in self.interfaces for a in i.addresses))
        ):
            raise ValueError(
                f"addresses, routes and routing rules of an {self.family} host are of this family"
            )
        own = [a.ip for i in self.interfaces for a in i.addresses]
        twice = next((ip for ip in own if own.count(ip) > 1), None)
        if twice is not None:
            raise ValueError(
                f"{spell_address(twice, self.family)} is given twice; two interfaces with one address are not modelled"
            )
        of_lo = [a.net for i in self.interfaces if i.name == "lo" for a in i.addresses if a.family is IPV4]
        inside = next(
            (
                x
                for x in self.routes
                for n in of_lo
                if x.net.mask > n.mask and x.net.address & n.mask == n.address
            ),
            None,
        )
        if inside is not None:
            raise ValueError(
                f"the route to {inside.net} leads away from a part of lo's subnet (the longer prefix wins), which is not modelled"
            )
        absent = next((m for s in self.sets.values() for m in members(s) if m not in self.sets), None)
        if absent is not None:
            raise ValueError(f"a list of sets holds {absent}, which is not there")

        if self.family is not IPV4:
            first = {a.net.address: a for i in self.interfaces for a in i.addresses if a.length < 127}
            shared = next((ip for ip in own if ip in first), None)
            if shared is not None:
                raise ValueError(
                    f"{spell_address(shared, self.family)} would be an anycast address of {first[shared]} too, which is not modelled"
                )

    def _check_what_is_before_local(self) -> None:
        if self.family is not IPV4:
            raise ValueError("routing rules of IPv6 before that of the local table are not modelled")
        if not self.policy:
            raise ValueError("a host with routing rules has one behind that of the local table")
        for process in self.processes:
            if process.device or any(listener.device for listener in process.listens):
                raise ValueError(BOUND_BEFORE_LOCAL.format(process.name))

    @property
    def routing_rules(self) -> tuple[RoutingRule, ...]:
        """All but that of the local table."""
        return self.before_local + self.policy

    def process(self, name: str) -> Process:
        """The process with this name; raises KeyError."""
        return {p.name: p for p in self.processes}[name]

    def interface(self, name: str) -> Interface:
        """The interface with this name; raises KeyError."""
        return {i.name: i for i in self.interfaces}[name]


DEFAULTS: Mapping[str, int] = {
    "net.ipv4.ip_forward": 0,
    "net.ipv4.conf.all.route_localnet": 0,
    "net.ipv4.conf.all.accept_local": 0,
    "net.ipv4.conf.all.rp_filter": 0,
    "net.ipv4.conf.all.send_redirects": 1,
    "net.netfilter.nf_conntrack_tcp_loose": 1,
}
"""The kernel's own defaults of the sysctls that a journey depends on.

`net.ipv4.conf.IF.KEY` may be given too.  The kernel combines both: route_localnet, accept_local
and src_valid_mark hold if either does, rp_filter is the greater, and send_redirects holds if either does
(include/linux/inetdevice.h: IN_DEV_ORCONF, IN_DEV_MAXCONF); a key of an interface that is not given is 0,
but for send_redirects, which is 1.  `src_valid_mark`, without which the way back to a source is looked up as if the packet
had no mark, is 0 where it is not given, and speaks of hosts with routing rules alone.
"""

DEFAULTS_IPV6: Mapping[str, int] = {
    "net.ipv6.conf.all.forwarding": 0,
    "net.netfilter.nf_conntrack_tcp_loose": 1,
}


def defaults(family: Family) -> Mapping[str, int]:
    """The kernel's own defaults of the sysctls that a journey of this family depends on."""
    return DEFAULTS if family is IPV4 else DEFAULTS_IPV6


class Setting(Struct, frozen=True):
    """Everything that a journey depends on: a host and the rules that are loaded there, both of one family.

    `also` names fields of packets (`asked.FIELDS`) that are carried though no rule asks for them: a claim does; so it is with `answers`
    and `rejections`, of which one may be asked for.
    The host's sets change by time alone, as entries go: what packets may change is left out (`settled`).
    """

    host: Host
    rules: RuleSet
    also: frozenset[str] = frozenset()
    answers: bool = False
    """Journeys tell of answers too."""
    rejections: bool = False
    """Journeys tell of what REJECT sends back too."""

    def __post_init__(self) -> None:
        if self.host.sets and (changing := unsettled(self.host.sets, self.rules)):
            raise ValueError(f"what is in {', '.join(changing)} may be another when the next packet comes")
        if self.answers and self.rejections:
            raise ValueError("of answers and rejections one is told at a time")


def at_one_time(setting: Setting) -> tuple[Setting, ...]:
    """The setting, if its sets stay as they are; else as it is while all entries are there, and when all have gone that ever go."""
    host = setting.host
    if not any(runs_out(s, host.sets) for s in host.sets.values()):
        return (setting,)
    return tuple(
        replace(setting, host=replace(host, sets={name: at(s) for name, s in host.sets.items()}))
        for at in (at_first, at_last)
    )


def settled(host: Host, rules: RuleSet) -> Host:
    """The host without the sets that packets may change: what is in those, nobody knows."""
    changing = unsettled(host.sets, rules)
    return replace(host, sets={n: s for n, s in host.sets.items() if n not in changing})


def unsettled(sets: Mapping[str, IpSet], rules: RuleSet) -> tuple[str, ...]:
    """The sets that some rule writes, called or not, or whose entries are filled in, and the lists that hold one."""
    chains = (chain for table in rules.tables.values() for chain in table.chains.values())
    written = {
        rule.target.name for chain in chains for rule in chain.rules if isinstance(rule.target, SetEntry)
    }

    def changes(s: IpSet) -> bool:
        return s.name in written or changes_by_itself(s, sets) or any(changes(sets[m]) for m in members(s))

    return tuple(name for name, s in sets.items() if changes(s))
