"""Ip sets to try, of every type, and packets near their edges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from verifier.matches import Direction
from verifier.packets import Packet
from verifier.sets import (
    BITMAPS,
    ICMP6,
    KINDS,
    PORTED,
    WITH_EVERY_NET,
    WITH_EXCEPTIONS,
    WITH_MASK,
    Address,
    Element,
    Entry,
    InterfaceName,
    IpSet,
    Kind,
    Mac,
    MarkValue,
    Member,
    NoMac,
    PortNumber,
    Prefix,
    ProtocolPort,
    Range,
    SetType,
)
from verifier.values import ALL_32, ICMP, PORT_PROTOCOLS, Family

INTERFACES = ("lo", "eth0", "eth1", "e", "veth0")
PORTS = (0, 1, 79, 80, 81, 0x0800, 0x0801, 0x7FFF, 0x8000, 0xFFFF)
PROTOCOLS = (0, ICMP, 6, 17, 33, 47, ICMP6, 132, 136)
LENGTHS = (0, 1, 8, 15, 16, 17, 24, 30, 31, 32)
FIRST = 0x0A000000
NEAR = (0, 1, FIRST - 1, FIRST, FIRST + 1, FIRST + 2, FIRST + 0xFF, FIRST + 0x100, FIRST + 0xFFFF, 0x0A010000, 0x7FFFFFFF, 0x80000000, ALL_32)  # fmt: skip

near = st.sampled_from(NEAR)
names = st.sampled_from(("a", "b", "web-servers", "x.y:z", "0123456789012345678901234567890"))


@st.composite
def sets(
    draw: st.DrawFn, kinds: Sequence[SetType] = tuple(SetType), family: Family | None = None, sizes: int = 8
) -> IpSet:
    """A set without members of its own (so no list), with entries that overlap."""
    kind = draw(st.sampled_from([k for k in kinds if k is not SetType.LIST_SET]))
    family = draw(st.sampled_from(Family)) if family is None else family
    family = Family.IPV4 if kind in BITMAPS else family
    if not {Kind.ADDRESS, Kind.NET} & set(KINDS[kind]) or kind is SetType.BITMAP_PORT:
        family = None
    mask = draw(masks(kind, family)) if kind in WITH_MASK and family is not None else None
    timeout = draw(st.none() | st.sampled_from((0, 300)))
    empty = IpSet(
        draw(names),
        kind,
        family=family,
        mask=mask,
        mark_mask=draw(st.sampled_from((ALL_32, 0xFF, 0xFF00))) if kind is SetType.HASH_IP_MARK else ALL_32,
        range=_range(kind),
        timeout=timeout,
        counters=draw(st.booleans()),
        skbinfo=draw(st.booleans()),
    )
    found: dict[tuple[Element, ...], Entry] = {}
    for _ in range(draw(st.integers(0, sizes))):
        elements = tuple(draw(element(empty, k)) for k in KINDS[kind])
        key = elements[:1] if kind is SetType.BITMAP_IP_MAC else elements
        if Address(0) in elements and kind is SetType.HASH_IP:
            continue
        if any(_covers(old, elements) for old in found):
            continue
        nomatch = kind in WITH_EXCEPTIONS and draw(st.booleans())
        found[key] = Entry(elements, nomatch, None if timeout is None else draw(st.sampled_from((0, 300))))
    return IpSet(
        empty.name, kind, tuple(found.values()), family, mask, empty.mark_mask, empty.range, timeout,
        empty.counters, empty.skbinfo,
    )  # fmt: skip


def _covers(old: tuple[Element, ...], new: tuple[Element, ...]) -> bool:
    """The kernel refuses an entry that an earlier wildcard of its network covers."""
    return any(
        isinstance(a, InterfaceName)
        and isinstance(b, InterfaceName)
        and old[0] == new[0]
        and a.wildcard
        and a.physical == b.physical
        and b.name.startswith(a.name)
        for a, b in zip(old, new, strict=False)
    )


def _range(kind: SetType) -> Range | None:
    if kind is SetType.BITMAP_PORT:
        return Range(1, 0x8000)
    return Range(FIRST, FIRST + 0xFFFF) if kind in BITMAPS else None


def masks(kind: SetType, family: Family) -> st.SearchStrategy[int | None]:
    bits = family.bits
    lengths = st.sampled_from((8, 16, 24, 31))
    prefixes = lengths.map(lambda n: (1 << bits) - (1 << (bits - (n + bits - 32))))
    if kind is SetType.BITMAP_IP:
        return st.none() | st.sampled_from((24, 31)).map(lambda n: (1 << 32) - (1 << (32 - n)))
    return st.none() | prefixes | st.just((1 << bits) - 1 ^ 0xFF00)


def element(s: IpSet, kind: Kind) -> st.SearchStrategy[Element]:
    bits = s.family.bits if s.family else 0
    mask = (1 << bits) - 1 if s.mask is None else s.mask
    match kind:
        case Kind.ADDRESS:
            low = st.sampled_from([a for a in NEAR if s.range is None or s.range.first <= a <= s.range.last])
            return low.map(lambda a: Address(_wide(a, bits) & mask))
        case Kind.NET:
            lengths = st.sampled_from(LENGTHS if s.type in WITH_EVERY_NET else LENGTHS[1:])
            return st.builds(lambda a, n: _prefix(_wide(a, bits), n, bits, mask), near, lengths)
        case Kind.PORT:
            return st.builds(
                _protocol_port, st.sampled_from(PROTOCOLS[1:]), st.sampled_from(PORTS), st.just(s.family)
            )
        case Kind.NUMBER:
            return st.sampled_from([p for p in PORTS if 1 <= p <= 0x8000]).map(PortNumber)
        case Kind.MAC:
            some = st.sampled_from((1, 0x020000000001, 0xFFFFFFFFFFFF)).map(Mac)
            return some | st.just(NoMac()) if s.type is SetType.BITMAP_IP_MAC else some
        case Kind.MARK:
            return st.sampled_from((0, 1, 0x63, 0x6363, ALL_32)).map(lambda m: MarkValue(m & s.mark_mask))
        case Kind.INTERFACE:
            return st.builds(
                InterfaceName,
                st.sampled_from((*INTERFACES, "eth", "v")),
                st.booleans(),
                st.sampled_from((False, False, False, True)),
            )
        case Kind.SET:
            return st.sampled_from(("a", "b")).map(Member)


def _wide(address: int, bits: int) -> int:
    """In IPv6 the interesting bits are the first ones and the last."""
    return address if bits == 32 else address << 96 | address


def _prefix(address: int, length: int, bits: int, mask: int) -> Prefix:
    length = length if bits == 32 or not length else length + 96
    return Prefix(address >> (bits - length) << (bits - length) & mask, length)


def _protocol_port(protocol: int, port: int, family: Family | None) -> ProtocolPort:
    if protocol in (ICMP, ICMP6):
        return ProtocolPort(ICMP if family is Family.IPV4 else ICMP6, port)
    return ProtocolPort(protocol, port if protocol in PORTED else 0)


@st.composite
def packets(
    draw: st.DrawFn, *asked: tuple[IpSet, Sequence[Direction]], family: Family = Family.IPV4
) -> Packet:
    """A packet near the edges that `sets` has; mostly like an entry of one of the sets, as it is asked."""
    proto = draw(st.sampled_from(PROTOCOLS))
    name = st.none() | st.sampled_from(INTERFACES)
    port = st.sampled_from(PORTS)
    fields: dict[str, Any] = {
        "family": family,
        "src": _wide(draw(near), family.bits),
        "dst": _wide(draw(near), family.bits),
        "proto": proto,
        "number": (draw(port), draw(port)),
        "in_iface": draw(name),
        "out_iface": draw(name),
        "mark": draw(st.sampled_from((0, 1, 0x63, 0x6363, 0x80000063, ALL_32))),
    }
    likely = [(s, ways) for s, ways in asked if s.entries and s.family in (None, family)]
    if likely and draw(st.integers(0, 3)):
        s, ways = draw(st.sampled_from(likely))
        for part, way in zip(draw(st.sampled_from(s.entries)).elements, ways, strict=False):
            _like(draw, fields, s, part, way)
    return _packet(fields)


def _like(draw: st.DrawFn, fields: dict[str, Any], s: IpSet, part: Element, way: Direction) -> None:
    source = way is Direction.SOURCE
    match part:
        case Address(address) | Prefix(address):
            bits = fields["family"].bits
            everything = (1 << bits) - 1
            length = part.length if isinstance(part, Prefix) else bits
            last = address | (1 << (bits - length)) - 1
            beyond = 0 if s.mask is None else draw(st.sampled_from((0, everything))) & (s.mask ^ everything)
            edges = (address, address, last, (address - 1) & everything, (last + 1) & everything)
            fields["src" if source else "dst"] = draw(st.sampled_from(edges)) | beyond
        case ProtocolPort(protocol, number):
            fields["proto"] = protocol
            numbers = list(fields["number"])
            numbers[0 if source else 1] = number
            fields["number"] = tuple(numbers)
        case PortNumber(number):
            fields["proto"] = draw(st.sampled_from((6, 17, 17, 132)))
            fields["number"] = (number, number)
        case MarkValue(mark):
            fields["mark"] = mark | draw(st.sampled_from((0, ALL_32))) & (s.mark_mask ^ ALL_32)
        case InterfaceName(name):
            alike = [i for i in INTERFACES if i.startswith(name)] or [None]
            fields["in_iface" if source else "out_iface"] = draw(st.sampled_from((*alike, *INTERFACES)))
        case Mac() | NoMac() | Member():
            pass


def _packet(fields: dict[str, Any]) -> Packet:
    proto, numbers = fields["proto"], fields.pop("number")
    if proto in PORT_PROTOCOLS:
        fields |= {"sport": numbers[0], "dport": numbers[1]}
    elif proto == (ICMP if fields["family"] is Family.IPV4 else ICMP6):
        code = max(numbers)
        fields |= {"icmp_type": code >> 8, "icmp_code": code & 0xFF}
    return Packet(**fields)


directions = st.lists(st.sampled_from(Direction), min_size=1, max_size=4).map(tuple)
