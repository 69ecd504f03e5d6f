"""Which packets are in an ip set, as formulas: entries become spans of numbers, merged where they may be, and a
field is sought among spans byte by byte, so that the tests of a byte are shared by thousands of entries.

Without exceptions a set is the union of its entries; with them it is asked prefix length by prefix length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias, assert_never

from msgspec import Struct

from ..matches import Direction
from ..sets import (
    ICMP6,
    KINDS,
    PORTED,
    WITH_EXCEPTIONS,
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
    SetType,
)
from ..values import ICMP, TCP, UDP, Family
from .packets import Names, SymPacket
from .terms import Bool, Bv, Terms

Piece: TypeAlias = tuple[int, int]
"""The first and the last of some numbers."""
Pieces: TypeAlias = tuple[Piece, ...]
"""Ascending, disjoint, not adjacent."""

DIGIT = 8


class Membership(Struct, frozen=True):
    """The packets that are in the set, and those of which nobody can say; no packet is both."""

    inside: Bool
    unknown: Bool


def holds(
    s: IpSet,
    sets: Mapping[str, IpSet],
    p: SymPacket,
    names: Names,
    directions: Sequence[Direction],
    return_nomatch: bool = False,
) -> Membership:
    """The packets of which `--match-set NAME DIRECTIONS [--return-nomatch]` holds; `sets` has all members by name."""
    t = p.terms
    if len(directions) < len(KINDS[s.type]) or s.family not in (None, _family(p)):
        return Membership(t.false, t.false)
    if s.type is SetType.LIST_SET:
        parts = [holds(sets[name], sets, p, names, directions, return_nomatch) for name in _names_of(s)]
        inside = t.any_of(part.inside for part in parts)
        return Membership(inside, ~inside & t.any_of(part.unknown for part in parts))
    said = _asked(_Seen(p, names, tuple(directions), s), s)
    exceptions = return_nomatch and s.type in WITH_EXCEPTIONS
    return Membership(said.excepted if exceptions else said.inside, said.unknown)


def _names_of(s: IpSet) -> Iterable[str]:
    return (element.name for entry in s.entries for element in entry.elements if isinstance(element, Member))


def _family(p: SymPacket) -> Family:
    """Addresses are as wide as the packet's family has them."""
    return Family.IPV4 if p.src.width == Family.IPV4.bits else Family.IPV6


class _Said(Struct, frozen=True):
    """The packets that entries put in, take out, or leave unknown; `known` are those that no wider entry is asked about."""

    inside: Bool
    excepted: Bool
    unknown: Bool
    known: Bool


def _asked(seen: _Seen, s: IpSet) -> _Said:
    """Level by level, most specific prefixes first: a level is asked about what the levels before left open."""
    t = seen.p.terms
    level = _interfaces if s.type is SetType.HASH_NET_IFACE else _boxes
    left = t.true
    said: list[_Said] = []
    for entries in _levels(s):
        new = level(seen, entries)
        said.append(_Said(left & new.inside, left & new.excepted, left & new.unknown, new.known))
        left = left & ~new.known
    return _Said(
        t.any_of(x.inside for x in said),
        t.any_of(x.excepted for x in said),
        t.any_of(x.unknown for x in said),
        ~left,
    )


def _levels(s: IpSet) -> list[list[Entry]]:
    if s.type is not SetType.HASH_NET_IFACE and not any(entry.nomatch for entry in s.entries):
        return [list(s.entries)]
    by_length: dict[tuple[int, ...], list[Entry]] = {}
    for entry in s.entries:
        length = tuple(-e.length for e in entry.elements if isinstance(e, Prefix))
        by_length.setdefault(length, []).append(entry)
    return [by_length[length] for length in sorted(by_length)]


# -- the packet as the set sees it --------------------------------------------------------------------


class _Seen(Struct, frozen=True):
    p: SymPacket
    names: Names
    directions: tuple[Direction, ...]
    s: IpSet

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return KINDS[self.s.type]


def _field(seen: _Seen, at: int) -> Bv:
    """What the element in this place is compared with, but for ports of a protocol and hardware addresses."""
    source = seen.directions[at] is Direction.SOURCE
    kind = seen.kinds[at]
    match kind:
        case Kind.ADDRESS | Kind.NET:
            address = seen.p.src if source else seen.p.dst
            mask = seen.s.mask
            return address if mask is None or _open(seen.s) else address & mask
        case Kind.NUMBER:
            return seen.p.sport if source else seen.p.dport
        case Kind.MARK:
            return seen.p.mark if seen.s.mark_mask == 0xFFFFFFFF else seen.p.mark & seen.s.mark_mask
        case Kind.INTERFACE:
            return seen.p.in_iface if source else seen.p.out_iface
        case Kind.PORT | Kind.MAC | Kind.SET:
            raise AssertionError(f"{kind.value} is no single field")
        case _:
            assert_never(kind)


def _open(s: IpSet) -> int:
    """How many of an address's last bits the set's mask leaves open: 0 where it is no prefix, or there is none."""
    if s.mask is None or s.family is None:
        return 0
    size = (1 << s.family.bits) - s.mask
    return size.bit_length() - 1 if size & (size - 1) == 0 else 0


# -- boxes ------------------------------------------------------------------------------------------

Side: TypeAlias = Piece | tuple[int, int, int]
"""What an element allows of its field: numbers, or of a protocol's port: protocol, first, last."""


def _boxes(seen: _Seen, entries: Sequence[Entry]) -> _Said:
    t = seen.p.terms
    places = [i for i, kind in enumerate(seen.kinds) if kind is not Kind.MAC]
    ways = [_way(seen, i) for i in places]

    def union(some: Iterable[Entry]) -> Bool:
        boxes = {tuple(_side(seen, entry.elements[i]) for i in places) for entry in some}
        return _union(t, ways, boxes)

    inside = union(entry for entry in entries if not entry.nomatch)
    excepted = union(entry for entry in entries if entry.nomatch)
    if Kind.MAC in seen.kinds:
        return _Said(t.false, t.false, inside, inside)
    return _Said(inside, excepted, t.false, inside | excepted)


def _union(t: Terms, ways: Sequence[Callable[[frozenset[Side]], Bool]], boxes: set[tuple[Side, ...]]) -> Bool:
    """The packets in one of the boxes; boxes that differ in one side alone are tested together."""
    if not boxes:
        return t.false
    if not ways:
        return t.true
    firsts: dict[tuple[Side, ...], set[Side]] = {}
    for box in boxes:
        firsts.setdefault(box[1:], set()).add(box[0])
    rests: dict[frozenset[Side], set[tuple[Side, ...]]] = {}
    for rest, sides in firsts.items():
        rests.setdefault(frozenset(sides), set()).add(rest)
    return t.any_of(ways[0](sides) & _union(t, ways[1:], some) for sides, some in rests.items())


def _side(seen: _Seen, element: Element) -> Side:
    match element:
        case Address(address):
            return address, address + (1 << _open(seen.s)) - 1
        case Prefix(address, length):
            assert seen.s.family is not None
            return address, address + (1 << max(seen.s.family.bits - length, _open(seen.s))) - 1
        case ProtocolPort(protocol, port):
            return protocol, port, port
        case PortNumber(number):
            return number, number
        case MarkValue(mark):
            return mark, mark
        case Mac() | NoMac() | InterfaceName() | Member():
            raise AssertionError("no side of a box")
        case _:
            assert_never(element)


def _way(seen: _Seen, at: int) -> Callable[[frozenset[Side]], Bool]:
    """How a packet is asked for one side of a box."""
    kind = seen.kinds[at]
    if kind is Kind.PORT:
        return lambda sides: _protocol_ports(seen, seen.directions[at] is Direction.SOURCE, sides)
    search = _Search(_field(seen, at))
    if kind is Kind.NUMBER:
        ported = seen.p.proto.is_(TCP) | seen.p.proto.is_(UDP)
        return lambda sides: ported & search.among(_merged((x[0], x[1]) for x in sides))
    return lambda sides: search.among(_merged((x[0], x[1]) for x in sides))


def _protocol_ports(seen: _Seen, source: bool, sides: frozenset[Side]) -> Bool:
    p = seen.p
    by_protocol: dict[int, list[Piece]] = {}
    for side in sides:
        protocol, first, last = side if len(side) == 3 else (0, *side)
        by_protocol.setdefault(protocol, []).append((first, last))
    asked = []
    for protocol, ports in sorted(by_protocol.items()):
        this = p.proto.is_(protocol)
        if protocol in PORTED:
            this &= _Search(p.sport if source else p.dport).among(_merged(ports))
        elif protocol in (ICMP, ICMP6):
            # A set of one family holds none of the other's ICMP.
            codes: dict[int, list[Piece]] = {}
            for number, _ in ports:
                codes.setdefault(number >> 8, []).append((number & 0xFF, number & 0xFF))
            code = _Search(p.icmp_code)
            this &= p.terms.any_of(
                p.icmp_type.is_(kind) & code.among(_merged(some)) for kind, some in sorted(codes.items())
            )
        asked.append(this)
    return p.terms.any_of(asked)


# -- hash:net,iface -----------------------------------------------------------------------------------


def _interfaces(seen: _Seen, entries: Sequence[Entry]) -> _Said:
    """Entries of one prefix length: the packet's network alone decides that wider ones are not asked any more."""
    t = seen.p.terms
    interface = _field(seen, 1)
    search = _Search(_field(seen, 0))
    by_net: dict[Element, list[tuple[InterfaceName, bool]]] = {}
    for entry in entries:
        net, name = entry.elements
        assert isinstance(name, InterfaceName)
        by_net.setdefault(net, []).append((name, entry.nomatch))
    alike: dict[tuple[tuple[InterfaceName, bool], ...], list[Side]] = {}
    for net, names in by_net.items():
        alike.setdefault(tuple(names), []).append(_side(seen, net))
    inside, excepted, unknown, known = [], [], [], []
    for names_, sides in alike.items():
        here = ~interface.is_(0) & search.among(_merged((x[0], x[1]) for x in sides))
        verdicts = [_first(names_, name) for name in seen.names.interfaces]
        into = here & t.any_of(interface.is_(i) for i, v in enumerate(verdicts) if i and v is False)
        out = here & t.any_of(interface.is_(i) for i, v in enumerate(verdicts) if i and v is True)
        inside.append(into)
        excepted.append(out)
        known.append(here)
        if any(name.physical for name, _ in names_):
            unknown.append(here & ~into & ~out)
    return _Said(t.any_of(inside), t.any_of(excepted), t.any_of(unknown), t.any_of(known))


def _first(names: Sequence[tuple[InterfaceName, bool]], interface: str) -> bool | None:
    """Whether the first entry that names this interface is `nomatch`; None where none names it."""
    fitting = (
        nomatch
        for name, nomatch in names
        if not name.physical and name.name == (interface[: len(name.name)] if name.wildcard else interface)
    )
    return next(fitting, None)


# -- a field among pieces -----------------------------------------------------------------------------


def _merged(pieces: Iterable[Piece]) -> Pieces:
    out: list[Piece] = []
    for first, last in sorted(pieces):
        if out and first <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(out[-1][1], last))
        else:
            out.append((first, last))
    return tuple(out)


class _Search:
    """Formulas that say where a field's value lies, each made once."""

    def __init__(self, field: Bv) -> None:
        self._field = field
        self._made: dict[tuple[int, Pieces], Bool] = {}

    def among(self, pieces: Pieces) -> Bool:
        """The field's value is in one of the pieces."""
        return self._lower(self._field.width, pieces)

    def _lower(self, width: int, pieces: Pieces) -> Bool:
        """The field's last `width` bits are in one of the pieces."""
        known = self._made.get((width, pieces))
        if known is None:
            known = self._made[width, pieces] = self._made_of(width, pieces)
        return known

    def _made_of(self, width: int, pieces: Pieces) -> Bool:
        t = self._field.terms
        if not pieces:
            return t.false
        first, last = pieces[0][0], pieces[-1][1]
        if len(pieces) == 1 and last - first == (1 << width) - 1:
            return t.true
        shared = min(width - (first ^ last).bit_length(), 32)
        if shared:
            below = width - shared
            rest = (1 << below) - 1
            here = self._field.extract(width - 1, below).is_(first >> below)
            if not below:
                return here
            return here & self._lower(below, tuple((a & rest, b & rest) for a, b in pieces))
        if len(pieces) == 1 and width <= 32:
            bits = self._field.extract(width - 1, 0)
            return bits.at_least(first) & bits.at_most(last)
        below = max(0, width - DIGIT)
        digit = self._field.extract(width - 1, below)
        digits: dict[Pieces, list[Piece]] = {}
        for value, inner in _split(pieces, below):
            digits.setdefault(inner, []).append(value)
        return t.any_of(
            _one_of(digit, _merged(values)) & (self._lower(below, inner) if below else t.true)
            for inner, values in digits.items()
        )


def _split(pieces: Pieces, below: int) -> Iterable[tuple[Piece, Pieces]]:
    """The pieces by their upper digits: which digits, and what is left of the pieces under these."""
    full = (1 << below) - 1
    partial: dict[int, list[Piece]] = {}
    for first, last in pieces:
        low, high = first >> below, last >> below
        begin, end = first & full, last & full
        if low == high:
            if (begin, end) == (0, full):
                yield (low, low), ((0, full),)
            else:
                partial.setdefault(low, []).append((begin, end))
            continue
        if begin:
            partial.setdefault(low, []).append((begin, full))
            low += 1
        if end != full:
            partial.setdefault(high, []).append((0, end))
            high -= 1
        if low <= high:
            yield (low, high), ((0, full),)
    for digit, inner in partial.items():
        yield (digit, digit), tuple(inner)


def _one_of(digit: Bv, values: Pieces) -> Bool:
    return digit.terms.any_of(
        digit.is_(first) if first == last else digit.at_least(first) & digit.at_most(last)
        for first, last in values
    )
