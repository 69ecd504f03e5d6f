"""Hosts with rules, who sends on them, and what, for Hypothesis: numbers that the rules name, more often than not."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import reject
from hypothesis import strategies as st
from msgspec.structs import replace

from verifier import hosts as h
from verifier import journeys as j
from verifier.asked import fields_carried
from verifier.hosts import Setting
from verifier.packets import Packet
from verifier.samples import FLAGS, Edges, least_length, of_headers
from verifier.sets import Entry, IpSet, Member, SetType
from verifier.values import (
    ALL_32,
    EVERY_ADDRESS_6,
    ICMP,
    ICMPV6,
    LINK_LOCAL,
    PORT_PROTOCOLS,
    TCP,
    UDP,
    AddressSet,
    Family,
    IdSet,
    Net,
    Span,
)

from .. import ip_sets
from .strategies import (
    ADDRESSES,
    ADDRESSES_IPV6,
    ADDRESSES_OF,
    ICMP6_TYPES,
    ICMP_TYPES,
    IDS,
    INTERFACES,
    LENGTHS,
    LENGTHS_IPV6,
    LENGTHS_OF_PACKETS,
    LISTENING,
    MACS,
    MARKS,
    OPTIONS,
    OWN,
    OWN_IPV6,
    SPIS,
    TOSES,
    TTLS,
    VALUES,
    address_sets,
    few,
    ip,
    ip6,
    one,
    rule_sets,
    seldom,
)

# -- hosts ----------------------------------------------------------------------------------------------


@st.composite
def interfaces(draw: st.DrawFn) -> tuple[h.Interface, ...]:
    """lo, then one to three others."""
    lo = [h.Address(ip("127.0.0.1"), 8)]
    if draw(seldom(20)):
        extra, length = draw(one((("127.0.0.6", 8), ("127.0.0.6", 32), ("10.0.2.2", 32), ("127.1.0.1", 16))))
        lo.append(h.Address(ip(extra), length))
    if draw(seldom(5)):
        lo = lo[1:]
    found = [h.Interface("lo", tuple(lo))]
    free = [ip(a) for a in OWN]
    for name in INTERFACES[: draw(st.integers(1, 3))]:
        least = min(draw(one((2, 2, 1, 1, 0))), len(free))
        mine = draw(st.lists(one(free), min_size=least, max_size=3, unique=True))
        length = draw(one(LENGTHS))
        lengths = [draw(one(LENGTHS)) if draw(seldom(20)) else length for _ in mine]
        found.append(h.Interface(name, tuple(map(h.Address, mine, lengths))))
        free = [a for a in free if a not in mine] or [max(free) + 1]
    return tuple(found)


@st.composite
def routes(draw: st.DrawFn, own: tuple[h.Interface, ...]) -> tuple[h.Route, ...]:
    """Most of the connected routes, most often a default, and others of every kind."""
    found: list[h.Route] = []
    devices = [i.name for i in own if i.name != "lo"]
    for interface in own[1:]:
        for address in interface.addresses:
            if address.length < 32 and draw(seldom(90)):
                found.append(h.Route(address.net, interface.name, source=address.ip))
    if draw(seldom(75)):
        found.append(h.Route(Net(0, 0), draw(one(devices)), draw(one((ip("10.0.0.7"), None)))))
    for _ in range(draw(st.integers(0, 2))):
        net = Net.prefix(draw(one(ADDRESSES)), draw(one((8, 16, 24, 32))))
        kind = draw(one((*[h.RouteKind.UNICAST] * 3, *h.BARRED)))
        metric = draw(one((0, 0, 100)))
        if kind is h.RouteKind.UNICAST:
            via, source = draw(one((None, ip("10.0.0.7")))), draw(one((None, None, *_own(own))))
            found.append(h.Route(net, draw(one(devices)), via, source, metric=metric))
        else:
            found.append(h.Route(net, None, kind=kind, metric=metric))
    of_lo = [a.net for a in own[0].addresses]
    kept = [
        x
        for x in found
        if not any(x.net.mask > n.mask and x.net.address & n.mask == n.address for n in of_lo)
    ]
    return tuple({(x.net, x.metric): x for x in kept}.values())


def _own(found: tuple[h.Interface, ...]) -> list[int]:
    return [a.ip for i in found for a in i.addresses]


def _is_near(address: int) -> bool:
    return address & LINK_LOCAL.mask == LINK_LOCAL.address


@st.composite
def sysctls(draw: st.DrawFn, names: Sequence[str]) -> dict[str, int]:
    found = dict(h.DEFAULTS)
    for key in found:
        if draw(seldom(45 if key.endswith(("ip_forward", "route_localnet")) else 20)):
            found[key] = draw(one((1, 2))) if key.endswith("rp_filter") else 1 - found[key]
    for name in names:
        for key, most in (
            ("route_localnet", 1),
            ("accept_local", 1),
            ("rp_filter", 2),
            ("send_redirects", 1),
        ):
            if draw(seldom(12)):
                found[f"net.ipv4.conf.{name}.{key}"] = draw(st.integers(0, most))
    return found


# -- IPv6 ---------------------------------------------------------------------------------------------------


@st.composite
def interfaces_ipv6(draw: st.DrawFn) -> tuple[h.Interface, ...]:
    """lo, then one to three others, most of them with a link-local address."""
    lo = [] if draw(seldom(8)) else [h.Address(LOCALHOST[V6], 128, V6)]
    if draw(seldom(20)):
        lo.append(h.Address(ip6(draw(one(("::6", "fd00:0:0:2::2", "fe80::9")))), 128, V6))
    found = [h.Interface("lo", tuple(lo))]
    free = [ip6(a) for a in dict.fromkeys(OWN_IPV6)]
    for number, name in enumerate(INTERFACES[: draw(st.integers(1, 3))]):
        least = min(draw(one((1, 1, 1, 2, 0))), len(free))
        mine = draw(st.lists(one(free), min_size=least, max_size=2, unique=True))
        length = draw(one(LENGTHS_IPV6))
        if draw(seldom(50)):
            mine.append(ip6("fe80::15") + number)
        lengths = [draw(one(LENGTHS_IPV6)) if draw(seldom(20)) else length for _ in mine]
        found.append(
            h.Interface(name, tuple(h.Address(a, n, V6) for a, n in zip(mine, lengths, strict=True)))
        )
        free = [a for a in free if a not in mine] or [ip6("fd00:3::5") + number]
    return tuple(found)


@st.composite
def routes_ipv6(draw: st.DrawFn, own: tuple[h.Interface, ...]) -> tuple[h.Route, ...]:
    found: list[h.Route] = []
    devices = [i.name for i in own if i.name != "lo"]
    for interface in own[1:]:
        for net in dict.fromkeys(a.net for a in interface.addresses if a.length < 128):
            if draw(seldom(90)):
                found.append(h.Route(net, interface.name, metric=256))
    if draw(seldom(75)):
        via = draw(one((ip6("fe80::7"), ip6("fd00::7"), None)))
        found.append(h.Route(EVERY_ADDRESS_6, draw(one(devices)), via, metric=1024))
    if found and draw(seldom(30)):
        found.append(replace(draw(one(found)), device=draw(one(devices)), metric=draw(one((100, 2000)))))
    for _ in range(draw(st.integers(0, 3))):
        net = Net.prefix(draw(one(ADDRESSES_IPV6)), draw(one((8, 10, 48, 64, 96, 127, 128))), V6)
        kind = draw(one((*[h.RouteKind.UNICAST] * 3, *h.BARRED)))
        metric = draw(one((1024, 1024, 100)))
        if kind is h.RouteKind.UNICAST:
            via, source = draw(one((None, None, ip6("fd00::7")))), draw(one((None, None, *_own(own))))
            found.append(h.Route(net, draw(one(devices)), via, source, metric=metric))
        else:
            found.append(h.Route(net, None, kind=kind, metric=metric))
    return tuple(
        {
            (x.net, x.metric, x.device if x.net.address & LINK_LOCAL.mask == LINK_LOCAL.address else ""): x
            for x in found
        }.values()
    )


@st.composite
def sysctls_ipv6(draw: st.DrawFn) -> dict[str, int]:
    return {key: 1 - value if draw(seldom(45)) else value for key, value in h.DEFAULTS_IPV6.items()}


V4, V6 = Family.IPV4, Family.IPV6
LOCALHOST = {V4: ip("127.0.0.1"), V6: 1}
NEIGHBOUR = {V4: ip("10.0.0.7"), V6: ip6("fd00::7")}
LOCAL = {V4: (ip("127.0.0.1"), ip("127.0.0.6")), V6: (1, ip6("::6"))}
FAR = {V4: ip("8.8.8.8"), V6: ip6("2001:4860:4860::8888")}
CLIENTS = {V4: (NEIGHBOUR[V4], FAR[V4]), V6: (NEIGHBOUR[V6], FAR[V6], ip6("fe80::7"))}


@st.composite
def listeners(draw: st.DrawFn, own: tuple[h.Interface, ...], family: Family = Family.IPV4) -> h.Listener:
    address = draw(one((None, None, None, None, LOCALHOST[family], *_own(own))))
    device = draw(one([i.name for i in own])) if draw(seldom(12)) else None
    protocol = UDP if draw(seldom(20)) else TCP
    its = V4 if address is None else family
    return h.Listener(draw(one(LISTENING)), address, protocol, device, its, draw(seldom(40)))


@st.composite
def dials(draw: st.DrawFn, own: tuple[h.Interface, ...], family: Family = Family.IPV4) -> h.Dial:
    secondary = [a.ip for i in own for a in i.addresses[1:]]
    addresses = one((None, None, LOCALHOST[family], NEIGHBOUR[family], *_own(own), *secondary, 0))
    ports = one((None, *LISTENING))
    if family is V4:
        return h.Dial(draw(addresses), draw(ports))
    port = draw(ports)
    if draw(seldom(3)):
        return h.Dial(LOCALHOST[V4], port, V4)
    if draw(seldom(12)):
        return h.Dial(draw(one(ADDRESSES_IPV6)), port, V6)
    address = draw(addresses)
    return h.Dial(address, port, V4 if address is None else V6)


@st.composite
def proxy_routes(draw: st.DrawFn, own: tuple[h.Interface, ...], family: Family = Family.IPV4) -> h.ProxyRoute:
    source: h.DialSource
    kind = draw(one((h.KernelChooses, h.KernelChooses, h.BoundTo, h.ClientsOwn)))
    if kind is h.BoundTo:
        if family is V6 and draw(seldom(5)):
            family = V4
        bound = (
            [ip("127.0.0.1"), ip("127.0.0.6"), *_own(own)] if family is V4 else [1, 1, ip6("::6"), *_own(own)]
        )
        source = h.BoundTo(draw(one([a for a in bound if a <= ALL_32 or not _is_near(a)])), family)
    else:
        source = kind()
    ports = tuple(draw(few(VALUES[Span], 0, 2))) if draw(seldom(40)) else ()
    return h.ProxyRoute(tuple(draw(st.lists(dials(own, family), min_size=1, max_size=3))), source, ports)


@st.composite
def processes(
    draw: st.DrawFn,
    own: tuple[h.Interface, ...],
    most_proxies: int = 3,
    family: Family = Family.IPV4,
) -> tuple[h.Process, ...]:
    found = []
    taken: set[h.Listener] = set()

    def socket(listener: h.Listener) -> h.Listener:
        return replace(listener, transparent=False)

    left = draw(st.integers(0, most_proxies))
    for name in ("envoy", "app", "other")[: draw(st.integers(1, 3))]:
        most = 4 if name == "envoy" else 2
        listens = [
            x
            for x in draw(st.lists(listeners(own, family), min_size=1, max_size=most, unique_by=socket))
            if socket(x) not in taken
        ]
        taken |= set(map(socket, listens))
        proxies = []
        for port in sorted({x.port for x in listens if x.protocol == TCP}):
            if left and draw(seldom(75)):
                left -= 1
                some = tuple(draw(st.lists(proxy_routes(own, family), min_size=1, max_size=3)))
                refused = one(LISTENING).map(lambda port: Span(port, port)) | VALUES[Span]
                refuses = tuple(draw(few(refused, 1, 2))) if draw(seldom(30)) else ()
                proxies.append(h.Proxy(f"at{port}", port, some, refuses))
        found.append(
            h.Process(
                name,
                draw(VALUES[IdSet]),
                draw(VALUES[IdSet]),
                tuple(listens),
                tuple(proxies),
                mark=draw(one(MARKS)) if draw(seldom(25)) else 0,
                device=draw(one([i.name for i in own if i.name != "lo"])) if draw(seldom(20)) else None,
                raw=draw(seldom(20)),
                supplementary=draw(one(((), (), (1000,), (0, 0x80000000)))),
            )
        )
    return tuple(found)


@st.composite
def hosts(draw: st.DrawFn, most_proxies: int = 3) -> h.Host:
    own = draw(interfaces())
    return h.Host(
        "host",
        own,
        draw(routes(own)),
        draw(sysctls([i.name for i in own])),
        draw(processes(own, most_proxies)),
        outside=draw(address_sets()) if draw(seldom(15)) else AddressSet(),
        backend=draw(one((h.Backend.LEGACY, h.Backend.NFT, h.Backend.EITHER))),
    )


@st.composite
def hosts_ipv6(draw: st.DrawFn, most_proxies: int = 3) -> h.Host:
    own = draw(interfaces_ipv6())
    try:
        return h.Host(
            "host",
            own,
            draw(routes_ipv6(own)),
            draw(sysctls_ipv6()),
            draw(processes(own, most_proxies, V6)),
            outside=draw(address_sets(V6)) if draw(seldom(15)) else AddressSet(),
            backend=draw(one((h.Backend.LEGACY, h.Backend.NFT, h.Backend.EITHER))),
            family=V6,
        )
    except ValueError:  # an own address is another's anycast address
        reject()


@st.composite
def settings(
    draw: st.DrawFn,
    most: int = 4,
    most_proxies: int = 3,
    family: Family = Family.IPV4,
    answered: int = 0,
) -> Setting:
    """A host and its rules, at most `most` in each chain; what the sets hold that rules ask for may be known.  Of a hundred so
    many tell of answers.
    """
    host = draw(hosts(most_proxies) if family is V4 else hosts_ipv6(most_proxies))
    rules = draw(rule_sets(most, family))
    if "MatchSet" in str(rules) and draw(seldom(70)):
        host = h.settled(replace(host, sets=draw(known_sets(family))), rules)
    return Setting(host, rules, answers=bool(answered) and draw(seldom(answered)))


@st.composite
def known_sets(draw: st.DrawFn, family: Family = Family.IPV4) -> dict[str, IpSet]:
    """`here`, and most often `there`, which may be a list of it."""
    found = {"here": replace(draw(ip_sets.sets(family=family)), name="here")}
    if draw(seldom(80)):
        other = draw(ip_sets.sets(family=family))
        if draw(seldom(30)):
            other = IpSet("there", SetType.LIST_SET, (Entry((Member("here"),)),))
        found["there"] = replace(other, name="there")
    return found


# -- senders, packets, choices ----------------------------------------------------------------------------


def senders_of(setting: Setting) -> list[j.Sender]:
    """Everybody who may send on this host, proxies too."""
    host = setting.host
    found: list[j.Sender] = [j.FromOutside(i.name) for i in host.interfaces if i.name != "lo"]
    found += [j.FromProcess(p.name) for p in host.processes]
    found += [j.FromProxy(p.name, x.name) for p in host.processes for x in p.proxies]
    return found


@st.composite
def packets(draw: st.DrawFn, setting: Setting, sender: j.FromOutside | j.FromProcess, edges: Edges) -> Packet:
    """A whole packet near the edges of the rules; a process's is one that it may send, more often than not."""
    packet = draw(headers(setting, sender, edges))
    proto = packet.proto
    if packet.family is V6 and "extensions" in fields_carried(setting):
        packet = of_headers(packet, draw(one((0, 0, 0x40, 0x80, 0x20, 0x08, 0x08, 0xE8))))
    bits = one((0, (1 << 256) - 1, *(1 << n for n in OPTIONS)))
    rare: dict[str, st.SearchStrategy[int]] = {
        "ttl": one(TTLS[1:]),
        "tos": one(TOSES),
        "length": one([n for n in LENGTHS_OF_PACKETS if n >= least_length(packet)]),
    }
    if proto == TCP:
        rare["tcp_options"] = bits
    if proto == 132:
        rare |= {
            "sctp_chunks": bits.map(lambda n: n or 2),
            "sctp_flags": st.integers(0, (1 << 20) - 1) | one((0, 1, 2, 3, 1 << 19)),
        }
    if proto == 33:
        rare |= {"dccp_type": st.integers(0, 15), "dccp_options": bits}
    if proto == 50 or packet.extensions & 8 or (proto == 51 and packet.family is V4):
        rare["spi"] = one(SPIS)
    if isinstance(sender, j.FromOutside):
        rare["mac"] = one(MACS)
    drawn = {}
    for name in sorted(fields_carried(setting) & rare.keys()):
        least = {"ttl": 1, "length": least_length(packet)}.get(name, 0)
        near = [n for n in edges.fields.get(name, ()) if n >= least]
        drawn[name] = draw(one(near) if near and draw(seldom(60)) else rare[name])
    return replace(packet, **drawn)


@st.composite
def headers(draw: st.DrawFn, setting: Setting, sender: j.FromOutside | j.FromProcess, edges: Edges) -> Packet:
    """Such a packet without the fields that are rarely asked for."""
    host = setting.host
    family = host.family
    own = _own(host.interfaces) or [LOCALHOST[family]]
    icmp, icmp_types = (ICMP, ICMP_TYPES) if family is V4 else (ICMPV6, ICMP6_TYPES)
    if isinstance(sender, j.FromOutside):
        own = _own(tuple(i for i in host.interfaces if i.name != "lo")) or own
    wild = draw(seldom(20))
    addresses = one(edges.addresses) | one(ADDRESSES_OF[family])
    ports = one(edges.ports) | one(LISTENING) | one(LISTENING)
    named = tuple(n for n in edges.protocols if n not in (TCP, UDP, icmp, 47)) or (47,)
    proto = draw(one((TCP, TCP, TCP, UDP, icmp))) if draw(seldom(75)) else draw(one(named))
    has_ports = proto in PORT_PROTOCOLS
    sockets: list[h.Listener] = [x for p in host.processes for x in p.listens if x.protocol == proto]
    dst, dport = draw(addresses if wild else one(own) | one(own) | addresses), draw(ports) if has_ports else 0
    if draw(seldom(40)) and sockets:
        socket = draw(one(sockets))
        dst, dport = draw(one(own)) if socket.address is None else socket.address, socket.port
    sport = draw(ports if wild else ports.map(lambda p: p or 40000)) if has_ports else 0
    flags = int(draw(one(FLAGS) if not wild else st.integers(0, 255))) if proto == TCP else 0
    kind = (draw(one(icmp_types)), draw(one((0, 1)))) if proto == icmp else (0, 0)
    if isinstance(sender, j.FromOutside):
        src = draw(addresses if wild else one(CLIENTS[family]))
        return Packet(src, dst, proto, sport, dport, flags, *kind, in_iface=sender.interface, family=family)
    process = host.process(sender.process)
    src = draw(addresses if wild or process.raw else one(own) | one(LOCAL[family]))
    uid, gid = (draw(one(edges.ids) if wild else ids_of(i)) for i in (process.uid, process.gid))
    mark = draw(one(edges.marks) if wild else one((0, process.mark)))
    device = draw(
        one((None, process.device)) if not wild else one((None, *(i.name for i in host.interfaces)))
    )
    return Packet(
        src, dst, proto, sport, dport, flags, *kind, uid=uid, gid=gid, mark=mark, device=device, family=family
    )


def begins(setting: Setting, sender: j.Sender, edges: Edges) -> st.SearchStrategy[Packet | j.ProxyState]:
    """What a journey of this sender begins with: a packet, or of a proxy the state that it dials in."""
    if isinstance(sender, j.FromProxy):
        return proxy_states(setting, sender, edges)
    return packets(setting, sender, edges)


def ids_of(ids: IdSet) -> st.SearchStrategy[int]:
    """Ids of a set, at the ends of its ranges and at the edges between."""
    found = [x for i in ids.ranges for x in (i.first, i.last, *(e for e in IDS if i.first <= e <= i.last))]
    return one(found)


@st.composite
def proxy_states(draw: st.DrawFn, setting: Setting, sender: j.FromProxy, edges: Edges) -> j.ProxyState:
    """A state of this proxy, which may be one that it does not dial in."""
    proxy = next(x for x in setting.host.process(sender.process).proxies if x.name == sender.proxy)
    keeps = any(isinstance(route.source, h.ClientsOwn) for route in proxy.routes)
    family = setting.host.family
    addresses = one(edges.addresses) | one(ADDRESSES_OF[family])
    client = draw(one((NEIGHBOUR[family], LOCALHOST[family])) | addresses) if keeps else None
    own = one(_own(setting.host.interfaces) or [LOCALHOST[family]])
    ports = one(edges.ports) | one(LISTENING)
    return j.ProxyState(sender.process, sender.proxy, draw(own | addresses), draw(ports), client)
