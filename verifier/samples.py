"""Packets near the edges of a setting's rules: where two readings of them would part first."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from . import rules as r
from .asked import fields_carried
from .hosts import BoundTo, Setting
from .journeys import OF_A_CONNECTION
from .packets import EXTENSION_HEADERS, LEAST_LENGTH, SCTP_FLAGS, Packet
from .replay import Start
from .sets import (
    Address,
    Element,
    InterfaceName,
    Mac,
    MarkValue,
    Member,
    NoMac,
    PortNumber,
    Prefix,
    ProtocolPort,
)
from .values import (
    ALL_32,
    ESP,
    ICMP,
    ICMPV6,
    LAST_ID,
    PORT_PROTOCOLS,
    SCTP,
    TCP,
    UDP,
    Family,
    Ipv6Extension,
    Net,
    Span,
    TcpFlag,
    read_address,
)


class Edges(Struct, frozen=True):
    """Numbers that the rules and the host name, and their neighbours, field by field."""

    addresses: tuple[int, ...]
    ports: tuple[int, ...]
    ids: tuple[int, ...]
    marks: tuple[int, ...]
    protocols: tuple[int, ...]
    fields: Mapping[str, tuple[int, ...]] = {}
    """For each number that packets carry because somebody asks for it."""


USUAL_ADDRESSES: Mapping[Family, frozenset[int]] = {
    Family.IPV4: frozenset({0, 1, ALL_32, 0x7F000001, 0x7FFFFFFF, 0x80000000, 0xE0000001, 0x08080808}),
    Family.IPV6: frozenset(
        read_address(text, Family.IPV6)
        for text in (
            "::", "::1", "::2", "fe80::1", "fe80::", "febf::1", "fec0::1", "ff00::", "ff01::1", "ff02::1", "ff05::1",
            "ff0e::1", "::ffff:127.0.0.1", "2001:4860:4860::8888", "fd00::1", "7fff::",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        )
    ),
}  # fmt: skip


def edges_of(setting: Setting) -> Edges:
    """Every number that the setting names, with its neighbours, in ascending order."""
    family = setting.host.family
    addresses = set(USUAL_ADDRESSES[family])
    ports, ids, marks, protocols = (
        {0, 1, 0x7FFF, 0x8000, 0xFFFF},
        {0, 1000, 0x7FFFFFFF, 0x80000000},
        {0},
        {TCP, UDP, ICMP if family is Family.IPV4 else ICMPV6, 47},
    )
    fields: dict[str, set[int]] = {}
    carried = fields_carried(setting)
    host = setting.host
    for interface in host.interfaces:
        for a in interface.addresses:
            addresses |= {a.ip - 1, a.ip, a.ip + 1, a.net.address, _last(a.net)}
    for asks in host.routing_rules:
        nets = [net for net in (asks.source, asks.destination) if net is not None]
        addresses |= {x for net in nets for x in (net.address, _last(net))}
        if asks.mark is not None:
            marks |= {asks.mark.value, asks.mark.value ^ 1, asks.mark.value ^ asks.mark.mask}
        if asks.uids is not None:
            ids |= {asks.uids.first - 1, asks.uids.first, asks.uids.last, asks.uids.last + 1}
        if asks.protocol is not None:
            protocols.add(asks.protocol)
        for span in (asks.source_ports, asks.destination_ports):
            if span is not None:
                ports |= {span.first - 1, span.first, span.last, span.last + 1}
        if asks.tos is not None:
            fields.setdefault("tos", set()).update({asks.tos, asks.tos | 0xE3, asks.tos ^ 4})
    further = [route for routes in host.tables.values() for route in routes]
    addresses |= {
        x for route in (*host.routes, *further) for x in (route.via, route.net.address) if x is not None
    }
    for process in host.processes:
        ports |= {x.port for x in process.listens}
        ids |= {x for i in (*process.uid.ranges, *process.gid.ranges) for x in (i.first, i.last)}
        marks.add(process.mark)
        for route in (route for proxy in process.proxies for route in proxy.routes):
            if isinstance(route.source, BoundTo):
                addresses.add(route.source.address)
            addresses |= {d.address for d in route.dials if d.address is not None}
    for element in _elements(setting):
        match element:
            case Address(address):
                addresses |= {address - 1, address, address + 1}
            case Prefix(address, length):
                last = address | ((1 << family.bits) - 1) >> length
                addresses |= {address - 1, address, last, last + 1}
            case ProtocolPort(protocol, port):
                protocols.add(protocol)
                ports |= {port - 1, port, port + 1}
            case PortNumber(number):
                ports |= {number - 1, number, number + 1}
            case MarkValue(mark):
                marks |= {mark, mark ^ 1}
            case Mac() | NoMac() | InterfaceName() | Member():
                pass
            case _:
                assert_never(element)
    for table in setting.rules.tables.values():
        for rule in (rule for chain in table.chains.values() for rule in chain.rules):
            for match in (literal.match for literal in rule.literals):
                addresses |= _addresses(match)
                ports |= _ports(match)
                if isinstance(match, r.OwnerIds):
                    ids |= {
                        x
                        for i in (match.uid, match.gid)
                        if i
                        for x in (i.first - 1, i.first, i.last, i.last + 1)
                    }
                if isinstance(match, r.Mark):
                    marks |= {match.mark.value, match.mark.value ^ 1}
                if isinstance(match, r.Protocol):
                    protocols.add(match.number)
                protocols |= SPEAKS_OF.get(type(match), set())
                for field, number in _numbers(match):
                    fields.setdefault(field, set()).add(number)
            addresses |= _translations(rule.target)
    return Edges(
        tuple(sorted(a for a in addresses if 0 <= a < 1 << family.bits)),
        tuple(sorted(p for p in ports if 0 <= p <= 0xFFFF)),
        tuple(sorted(i for i in ids if 0 <= i <= LAST_ID)),
        tuple(sorted(marks)),
        tuple(sorted(protocols if family is Family.IPV4 else protocols - {*EXTENSION_HEADERS})),
        {
            field: tuple(sorted(n for n in {*fields.get(field, ()), *common} if 0 <= n <= most))
            for field, (most, common) in FIELDS.items()
            if field in carried and (field != "extensions" or family is Family.IPV6)
        },
    )


MOST_ENTRIES = 64
"""Of a long set some entries are taken, evenly."""


def _elements(setting: Setting) -> Iterator[Element]:
    """The elements of entries of the sets that rules ask for (a list's members are sets of the host themselves)."""
    for s in setting.host.sets.values():
        if s.family in (None, setting.rules.family):
            for entry in s.entries[:: len(s.entries) // MOST_ENTRIES + 1]:
                yield from entry.elements


FIELDS: Mapping[str, tuple[int, tuple[int, ...]]] = {
    "ttl": (255, (1, 2, 64, 255)),
    "tos": (255, (0, 0x10, 0xB8)),
    "length": (0xFFFF, (40, 60, 1500)),
    "tcp_options": ((1 << 256) - 1, (0, 1 << 2, 1 << 2 | 1 << 8)),
    "dccp_type": (15, (0, 10)),
    "dccp_options": ((1 << 256) - 1, (0,)),
    "sctp_chunks": ((1 << 256) - 1, (1 << 0, 1 << 1)),
    "sctp_flags": ((1 << 20) - 1, (0,)),
    "spi": (ALL_32, (0, 256)),
    "mac": ((1 << 48) - 1, (0x020000000001,)),
    "extensions": (255, (Ipv6Extension.HOP, Ipv6Extension.DST, Ipv6Extension.ROUTE, Ipv6Extension.AUTH)),
}
"""The greatest value of each number that is carried on demand, and some that are usual."""

OF_PROTOCOL: Mapping[str, tuple[int, ...]] = {
    "tcp_options": (TCP,), "dccp_type": (33,), "dccp_options": (33,), "sctp_chunks": (132,), "sctp_flags": (132,), "spi": (50, 51),
}  # fmt: skip
"""The protocols that have one of these fields, where not all do."""


def _numbers(match: r.Match) -> Iterator[tuple[str, int]]:
    """Values of fields that are carried on demand, at which a match turns."""
    match match:
        case r.Ttl(_, value):
            yield from (("ttl", n) for n in (value - 1, value, value + 1))
        case r.Tos(value, mask):
            yield from (("tos", n) for n in (value, value ^ 1, value ^ mask ^ 0xFF, value & mask))
        case r.Dscp(value):
            yield from (("tos", n) for n in (value << 2, value << 2 | 3, (value + 1) << 2))
        case r.Length(first, last):
            yield from (("length", n) for n in (first - 1, first, last, last + 1))
        case r.Esp(first, last) | r.Ah(first, last):
            yield from (("spi", n) for n in (first - 1, first, last, last + 1))
        case r.TcpOption(number):
            yield "tcp_options", 1 << number
        case r.DccpOption(number):
            yield "dccp_options", 1 << number
        case r.DccpTypes(types):
            yield from (("dccp_type", n) for n in types)
        case r.SctpChunks(_, chunks, flags):
            right = sum(1 << (SCTP_FLAGS[f.chunk][0] + f.value) for f in flags)
            wrong = sum(1 << (SCTP_FLAGS[f.chunk][0] + (f.value ^ f.mask)) for f in flags)
            yield from (("sctp_flags", n) for n in (right, wrong, right | wrong) if flags)
            whole = sum(1 << n for n in chunks)
            yield from (("sctp_chunks", n) for n in (whole, whole & (whole - 1), whole ^ 1 << 255) if n)
        case r.MacSource(address):
            yield from (("mac", n) for n in (address, address ^ 1))
        case _:
            pass


SPEAKS_OF: Mapping[type, set[int]] = {
    r.SctpChunks: {132}, r.DccpTypes: {33}, r.DccpOption: {33}, r.Icmp6Type: {58}, r.Esp: {50}, r.Ah: {51},
}  # fmt: skip
"""The protocols that matches are about which hold of one alone."""


def _addresses(match: r.Match) -> set[int]:
    match match:
        case r.Source(net) | r.Destination(net):
            return _of_net(net)
        case r.SourceRange(first, last) | r.DestinationRange(first, last):
            return {first - 1, first, last, last + 1}
        case r.Conntrack(tests):
            nets = (t.criterion.net for t in tests if isinstance(t.criterion, r.CtAddress))
            return {address for net in nets for address in _of_net(net)}
        case _:
            return set()


def _last(net: Net) -> int:
    return net.address | (((1 << net.family.bits) - 1) & ~net.mask)


def _of_net(net: Net) -> set[int]:
    last = _last(net)
    return {net.address - 1, net.address, net.address + 1, last - 1, last, last + 1}


def _translations(target: r.Target | None) -> set[int]:
    """Addresses that a packet may have behind a NAT target."""
    match target:
        case r.Dnat(to) | r.Snat(to):
            return {a for a in (to.first, to.last) if a is not None}
        case r.Netmap(net):
            return {net.address, _last(net)}
        case _:
            return set()


def _ports(match: r.Match) -> set[int]:
    match match:
        case r.SourcePorts(span) | r.DestinationPorts(span):
            spans: tuple[Span, ...] = (span,)
        case r.MultiportSources(spans) | r.MultiportDestinations(spans) | r.MultiportPorts(spans):
            pass
        case _:
            return set()
    return {x for s in spans for x in (s.first - 1, s.first, s.last, s.last + 1)}


FLAGS = (
    TcpFlag.SYN,
    TcpFlag.SYN,
    TcpFlag.SYN,
    TcpFlag.ACK,
    TcpFlag.SYN | TcpFlag.ACK,
    TcpFlag.RST,
    TcpFlag.SYN | TcpFlag.ECE,
)


MOVED = ("src", "dst", "sport", "dport", "dport", "uid", "gid", "mark", "proto", "flags")


def near(packet: Packet, edges: Edges, draw: random.Random) -> Packet:
    """The packet with one to three fields moved to an edge, or anywhere; the sender's interfaces stay."""
    for _ in range(draw.randint(1, 3)):
        match draw.choice((*MOVED, *edges.fields)):
            case "src" | "dst" as field:
                value = (
                    draw.choice(edges.addresses)
                    if draw.random() < 0.8
                    else draw.getrandbits(packet.family.bits)
                )
                packet = replace(packet, **{field: value})
            case "sport" | "dport" as field:
                if packet.proto in PORT_PROTOCOLS:
                    port = draw.choice(edges.ports) if draw.random() < 0.8 else draw.getrandbits(16)
                    packet = replace(packet, **{field: port})
            case "uid" | "gid" as field:
                if packet.uid is not None:
                    packet = replace(packet, **{field: draw.choice(edges.ids)})
            case "mark":
                if packet.uid is not None:
                    packet = replace(packet, mark=draw.choice(edges.marks))
            case "flags":
                if packet.proto == TCP:
                    packet = replace(packet, flags=int(draw.choice(FLAGS)))
            case "proto":
                packet = of_protocol(packet, draw.choice(edges.protocols), edges, draw)
            case "extensions":
                packet = long_enough(of_headers(packet, draw.choice(edges.fields["extensions"])), edges)
            case field:
                if fits(packet, field):
                    packet = replace(packet, **{field: draw.choice(edges.fields[field])})
    return packet


def fits(packet: Packet, field: str) -> bool:
    """A packet like this has that field."""
    if field == "mac":
        return packet.mac is not None
    if field == "spi" and packet.extensions & Ipv6Extension.AUTH:
        return True
    return packet.proto in OF_PROTOCOL.get(field, (packet.proto,))


def of_protocol(packet: Packet, proto: int, edges: Edges, draw: random.Random) -> Packet:
    """The same packet as one of another protocol."""
    ports = proto in PORT_PROTOCOLS
    errors = (0, 3, 8, 13) if packet.family is Family.IPV4 else (1, 128, 129, 135)
    icmp = ICMP if packet.family is Family.IPV4 else ICMPV6
    packet = replace(
        packet,
        proto=proto,
        sport=draw.choice(edges.ports) if ports else 0,
        dport=draw.choice(edges.ports) if ports else 0,
        flags=int(TcpFlag.SYN) if proto == TCP else 0,
        icmp_type=draw.choice(errors) if proto == icmp else 0,
        icmp_code=0,
        **{field: 0 for field, owners in OF_PROTOCOL.items() if proto not in owners},
    )
    if proto == SCTP and "sctp_chunks" in edges.fields:
        packet = replace(packet, sctp_chunks=1 << 1)
    packet = of_headers(packet, packet.extensions) if "extensions" in edges.fields else packet
    return long_enough(packet, edges)


def of_headers(packet: Packet, wanted: int) -> Packet:
    """The same IPv6 packet with those of the extension headers that it may have before its last one."""
    last = {ESP: Ipv6Extension.ESP, 59: Ipv6Extension.NONE}.get(packet.proto, Ipv6Extension.PROTO)
    there = wanted & sum(HEADER_SIZES)
    if packet.proto == ESP:
        there &= ~Ipv6Extension.AUTH
    spi = packet.spi if packet.proto == ESP or there & Ipv6Extension.AUTH else 0
    return replace(packet, extensions=there | last, spi=spi)


def long_enough(packet: Packet, edges: Edges) -> Packet:
    if packet.family is not Family.IPV4 and "length" not in edges.fields:
        return packet
    return replace(packet, length=max(packet.length, least_length(packet)))


def least_length(packet: Packet) -> int:
    """Bytes that a packet with these headers has at least."""
    least = LEAST_LENGTH.get(packet.proto, 20)
    if packet.family is Family.IPV4:
        return least
    return least + 20 + sum(size for header, size in HEADER_SIZES.items() if packet.extensions & header)


HEADER_SIZES = {Ipv6Extension.HOP: 8, Ipv6Extension.DST: 8, Ipv6Extension.ROUTE: 8, Ipv6Extension.AUTH: 12}
"""Bytes that an extension header has at least."""


def neighbours(start: Start, edges: Edges, number: int, seed: int = 0) -> Iterator[Start]:
    """`start` itself, then starts near it: `number` in all.  An earlier packet keeps the addresses and ports of the first one."""
    draw = random.Random(seed)
    yield start
    for _ in range(number - 1):
        if start.packet is not None and start.earlier is not None and start.earlier.opens:
            packet, before = near(start.packet, edges, draw), near(start.earlier.packet, edges, draw)
            its = {name: getattr(before, name) for name in OF_A_CONNECTION}
            if before.proto == start.packet.proto:
                later = replace(packet, **its, flags=draw.choice((packet.flags, start.packet.flags)))
                yield replace(start, packet=later, earlier=replace(start.earlier, packet=before))
            else:
                yield start
        elif start.packet is not None and start.earlier is not None:
            packet, before = _near_datagram(start.packet, edges, draw), start.earlier.packet
            ends = {name: getattr(packet, name) for name in ("src", "dst", "sport", "dport")}
            before = replace(_near_datagram(before, edges, draw), **ends)
            yield replace(start, packet=packet, earlier=replace(start.earlier, packet=before))
        elif start.packet is not None:
            yield replace(start, packet=near(start.packet, edges, draw))
        elif start.state is not None:
            state = replace(start.state, address=draw.choice(edges.addresses), port=draw.choice(edges.ports))
            yield replace(start, state=state)


def _near_datagram(packet: Packet, edges: Edges, draw: random.Random) -> Packet:
    """A UDP packet near this one, which is one."""
    moved = near(packet, edges, draw)
    return moved if moved.proto == UDP else packet
