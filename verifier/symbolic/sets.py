"""Which packets are in an ip set, as formulas.

Dimension by dimension, entries that agree so far become pieces of the next field's numbers, and each piece has a
formula for the dimensions that follow.  The networks that hold a number lie within each other, so the innermost
is asked first, then those around it.  A field is sought among pieces byte by byte: a tree and no long list, which
a solver walks down without a search.

An entry whose time runs may be there or gone.  So formulas say what may be: which packets may be put in, taken out, or left
alone; and what surely is where nothing else may be.
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

Piece: TypeAlias = tuple[int, int, Bool]
"""The first and the last of some numbers, and what must hold besides."""
Pieces: TypeAlias = tuple[Piece, ...]
"""Ascending and disjoint."""

DIGIT = 8


class Membership(Struct, frozen=True):
    """The packets that are in the set, those of which nobody can say, and those that are in it or not as entries are still there
    or have gone; no packet is two of these."""

    inside: Bool
    unknown: Bool
    passing: Bool


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
        return Membership(t.false, t.false, t.false)
    if s.type is SetType.LIST_SET:
        stay, go = (
            [holds(sets[name], sets, p, names, directions, return_nomatch) for name in _names_of(s, running)]
            for running in (False, True)
        )
        inside = t.any_of(part.inside for part in stay)
        unknown = ~inside & t.any_of(part.unknown for part in (*stay, *go))
        either = [part.passing for part in (*stay, *go)] + [part.inside for part in go]
        return Membership(inside, unknown, ~inside & ~unknown & t.any_of(either))
    said = _Reader(p, names, tuple(directions), s).said(s.entries, 0)
    exceptions = return_nomatch and s.type in WITH_EXCEPTIONS
    wanted, unwanted = (said.excepted, said.inside) if exceptions else (said.inside, said.excepted)
    if not any(entry.timeout for entry in s.entries):
        return Membership(wanted, said.unknown, t.false)
    told = wanted & ~said.unknown
    otherwise = unwanted | said.outside | ~said.known
    return Membership(told & ~otherwise, said.unknown, told & otherwise)


def _names_of(s: IpSet, running: bool) -> Iterable[str]:
    """The members whose time in the list runs, or the others."""
    some = (entry for entry in s.entries if bool(entry.timeout) is running)
    return (element.name for entry in some for element in entry.elements if isinstance(element, Member))


def _family(p: SymPacket) -> Family:
    """Addresses are as wide as the packet's family has them."""
    return Family.IPV4 if p.src.width == Family.IPV4.bits else Family.IPV6


class _Said(Struct, frozen=True):
    """The packets that entries may put in, take out, keep out though they name others, or leave unknown; `known` are those that
    surely no wider entry is asked about.
    """

    inside: Bool
    excepted: Bool
    outside: Bool
    unknown: Bool
    known: Bool

    @property
    def is_plain(self) -> bool:
        """Entries put packets in that stay there, and do nothing else."""
        return self.known.ast == self.inside.ast and all(
            x.const is False for x in (self.excepted, self.outside, self.unknown)
        )


def _before(narrow: _Said, wide: _Said) -> _Said:
    """What narrow entries say, and where they leave a packet open, wider ones."""
    known = narrow.known | wide.known
    if narrow.is_plain and wide.is_plain:
        return _Said(known, narrow.excepted, narrow.outside, narrow.unknown, known)
    left = ~narrow.known
    return _Said(
        narrow.inside | left & wide.inside,
        narrow.excepted | left & wide.excepted,
        narrow.outside | left & wide.outside,
        narrow.unknown | left & wide.unknown,
        known,
    )


class _Reader:
    """Reads a set's entries as formulas over one packet; entries with the same rest are read once."""

    def __init__(self, p: SymPacket, names: Names, directions: tuple[Direction, ...], s: IpSet) -> None:
        self._p = p
        self._t = p.terms
        self._names = names
        self._directions = directions
        self._s = s
        self._kinds = KINDS[s.type]
        self._read: dict[tuple[int, tuple[tuple[tuple[Element, ...], bool, bool], ...]], _Said] = {}

    def said(self, entries: Sequence[Entry], at: int) -> _Said:
        """What entries say that agree with the packet in the dimensions before `at`."""
        key = at, tuple((entry.elements[at:], entry.nomatch, bool(entry.timeout)) for entry in entries)
        known = self._read.get(key)
        if known is None:
            known = self._read[key] = self._said(entries, at)
        return known

    def _said(self, entries: Sequence[Entry], at: int) -> _Said:
        t = self._t
        if at == len(self._kinds):
            nomatch, stays = entries[0].nomatch, not entries[0].timeout
            return _Said(t.truth(not nomatch), t.truth(nomatch), t.false, t.false, t.truth(stays))
        source = self._directions[at] is Direction.SOURCE
        kind = self._kinds[at]
        match kind:
            case Kind.ADDRESS | Kind.NET:
                address = self._p.src if source else self._p.dst
                mask = self._s.mask
                return self._pieces(
                    entries, at, address if mask is None or _open(self._s) else address & mask
                )
            case Kind.NUMBER:
                ported = self._p.proto.is_(TCP) | self._p.proto.is_(UDP)
                said = self._pieces(entries, at, self._p.sport if source else self._p.dport)
                return _only(ported, said)
            case Kind.MARK:
                mark = self._p.mark
                return self._pieces(
                    entries, at, mark if self._s.mark_mask == 0xFFFFFFFF else mark & self._s.mark_mask
                )
            case Kind.PORT:
                return self._ports(entries, at, source)
            case Kind.INTERFACE:
                return self._interfaces(entries, self._p.in_iface if source else self._p.out_iface)
            case Kind.MAC:
                return _Said(t.false, t.false, t.false, t.truth(bool(entries)), t.truth(bool(entries)))
            case Kind.SET:
                raise AssertionError("a list of sets is asked set by set")
            case _:
                assert_never(kind)

    def _pieces(self, entries: Sequence[Entry], at: int, field: Bv) -> _Said:
        """Pieces lie within each other or apart, so a stack holds those around the number that we are at."""
        groups: dict[tuple[int, int, int], list[Entry]] = {}
        for entry in entries:
            groups.setdefault(_piece(self._s, entry.elements[at]), []).append(entry)
        # What begins first comes first; of these the widest, and of networks alike under the mask the shorter prefix.
        ordered = sorted(groups, key=lambda g: (g[0], -g[1], g[2]))
        out: list[tuple[int, int, _Said]] = []
        around: list[tuple[int, _Said]] = []
        begin = 0

        def upto(end: int) -> None:
            nonlocal begin
            if begin <= end:
                out.append((begin, end, around[-1][1]))
                begin = end + 1

        for group in ordered:
            low, high, _ = group
            while around and around[-1][0] < low:
                upto(around[-1][0])
                around.pop()
            if around:
                upto(low - 1)
            begin = low
            said = self.said(groups[group], at + 1)
            around.append((high, _before(said, around[-1][1]) if around else said))
        while around:
            upto(around[-1][0])
            around.pop()
        return self._sought(field, out)

    def _sought(self, field: Bv, pieces: Sequence[tuple[int, int, _Said]]) -> _Said:
        search = _Search(field)
        inside = search.among((a, b, said.inside) for a, b, said in pieces)
        if all(said.is_plain for _, _, said in pieces):
            return _Said(inside, self._t.false, self._t.false, self._t.false, inside)
        return _Said(
            inside,
            search.among((a, b, said.excepted) for a, b, said in pieces),
            search.among((a, b, said.outside) for a, b, said in pieces),
            search.among((a, b, said.unknown) for a, b, said in pieces),
            search.among((a, b, said.known) for a, b, said in pieces),
        )

    # -- ports and interfaces

    def _ports(self, entries: Sequence[Entry], at: int, source: bool) -> _Said:
        p = self._p
        protocols: dict[int, dict[int, list[Entry]]] = {}
        for entry in entries:
            port = entry.elements[at]
            assert isinstance(port, ProtocolPort)
            protocols.setdefault(port.protocol, {}).setdefault(port.port, []).append(entry)
        parts: list[_Said] = []
        for protocol, ports in sorted(protocols.items()):
            rests = [(port, port, self.said(ports[port], at + 1)) for port in sorted(ports)]
            if protocol in PORTED:
                said = self._sought(p.sport if source else p.dport, rests)
            elif protocol in (ICMP, ICMP6):
                # A set of one family holds none of the other's ICMP.
                kinds: dict[int, list[tuple[int, int, _Said]]] = {}
                for number, _, rest in rests:
                    kinds.setdefault(number >> 8, []).append((number & 0xFF, number & 0xFF, rest))
                codes = [(kind, kind, self._sought(p.icmp_code, some)) for kind, some in kinds.items()]
                said = self._sought(p.icmp_type, codes)
            else:
                ((_, _, said),) = rests
            parts.append(_only(p.proto.is_(protocol), said))
        return _either(self._t, parts)

    def _interfaces(self, entries: Sequence[Entry], interface: Bv) -> _Said:
        """The packet's network alone decides that wider ones are not asked any more; the first that fits decides.  Of those whose
        time runs one that fits may let the search go on, whatever else is there; one that does not fit, only if it has gone.
        """
        t = self._t
        fitting = [_fitting(entries, name) for name in self._names.interfaces]
        there = ~interface.is_(0)

        def those(which: Callable[[Sequence[Entry]], bool]) -> Bool:
            return t.any_of(interface.is_(i) for i, fits in enumerate(fitting) if i and which(fits))

        settled = those(lambda fits: any(not e.timeout for e in fits))
        plain = [e for e in entries if not _name_of(e).physical]
        physical = len(plain) < len(entries)
        ending = physical or any(not e.timeout for e in plain)
        goes_on = those(lambda fits: bool(fits) or not ending) & ~settled
        others = those(lambda fits: len(plain) > len(fits)) & ~settled
        return _Said(
            those(lambda fits: any(not e.nomatch for e in fits)),
            those(lambda fits: any(e.nomatch for e in fits)),
            others,
            there & ~settled if physical else t.false,
            ~goes_on,
        )


def _only(condition: Bool, said: _Said) -> _Said:
    return _Said(
        condition & said.inside,
        condition & said.excepted,
        condition & said.outside,
        condition & said.unknown,
        condition & said.known,
    )


def _either(t: Terms, parts: Sequence[_Said]) -> _Said:
    """What one of several says, of which no two know of the same packet."""
    return _Said(
        t.any_of(part.inside for part in parts),
        t.any_of(part.excepted for part in parts),
        t.any_of(part.outside for part in parts),
        t.any_of(part.unknown for part in parts),
        t.any_of(part.known for part in parts),
    )


def _fitting(entries: Sequence[Entry], interface: str) -> Sequence[Entry]:
    """The entries that may be the first to name this interface: those up to one that stays."""
    found: list[Entry] = []
    for entry in entries:
        name = _name_of(entry)
        if not name.physical and name.name == (interface[: len(name.name)] if name.wildcard else interface):
            found.append(entry)
            if not entry.timeout:
                break
    return found


def _name_of(entry: Entry) -> InterfaceName:
    name = entry.elements[-1]
    assert isinstance(name, InterfaceName)
    return name


def _open(s: IpSet) -> int:
    """How many of an address's last bits the set's mask leaves open: 0 where it is no prefix, or there is none."""
    if s.mask is None or s.family is None:
        return 0
    size = (1 << s.family.bits) - s.mask
    return size.bit_length() - 1 if size & (size - 1) == 0 else 0


def _piece(s: IpSet, element: Element) -> tuple[int, int, int]:
    """The first and the last number that an element allows, and the length of its prefix."""
    match element:
        case Address(address):
            return address, address + (1 << _open(s)) - 1, 0
        case Prefix(address, length):
            assert s.family is not None
            return address, address + (1 << max(s.family.bits - length, _open(s))) - 1, length
        case PortNumber(number):
            return number, number, 0
        case MarkValue(mark):
            return mark, mark, 0
        case ProtocolPort() | Mac() | NoMac() | InterfaceName() | Member():
            raise AssertionError("no piece of a single field")
        case _:
            assert_never(element)


# -- a field among pieces -----------------------------------------------------------------------------


def _merged(pieces: Iterable[Piece]) -> Pieces:
    """The pieces, in order, of which something can hold, neighbours with the same formula made one."""
    out: list[Piece] = []
    for first, last, then in pieces:
        if then.const is False:
            continue
        if out and out[-1][1] + 1 == first and out[-1][2].ast == then.ast:
            out[-1] = (out[-1][0], last, then)
        else:
            out.append((first, last, then))
    return tuple(out)


class _Search:
    """Formulas that say where a field's value lies, each made once."""

    def __init__(self, field: Bv) -> None:
        self._field = field
        self._t = field.terms
        self._made: dict[tuple[int, tuple[tuple[int, int, int], ...]], Bool] = {}
        self._cut: dict[tuple[int, int], Bv] = {}

    def among(self, pieces: Iterable[Piece]) -> Bool:
        """The field's value is in one of the pieces, and that piece's formula holds."""
        return self._lower(self._field.width, _merged(sorted(pieces, key=lambda piece: piece[0])))

    def _bits(self, high: int, low: int) -> Bv:
        cut = self._cut.get((high, low))
        if cut is None:
            cut = self._cut[high, low] = self._field.extract(high, low)
        return cut

    def _lower(self, width: int, pieces: Pieces) -> Bool:
        """The field's last `width` bits are in one of the pieces, and so on."""
        if not pieces:
            return self._t.false
        if not width:
            return pieces[0][2]
        key = width, tuple((first, last, then.ast) for first, last, then in pieces)
        known = self._made.get(key)
        if known is None:
            known = self._made[key] = self._made_of(width, pieces)
        return known

    def _made_of(self, width: int, pieces: Pieces) -> Bool:
        first, last = pieces[0][0], pieces[-1][1]
        if len(pieces) == 1 and last - first == (1 << width) - 1:
            return pieces[0][2]
        shared = min(width - (first ^ last).bit_length(), 32)
        if shared:
            below = width - shared
            rest = (1 << below) - 1
            here = self._bits(width - 1, below).is_(first >> below)
            return here & self._lower(below, tuple((a & rest, b & rest, then) for a, b, then in pieces))
        if len(pieces) == 1 and width <= 32:
            bits = self._bits(width - 1, 0)
            return bits.at_least(first) & bits.at_most(last) & pieces[0][2]
        below = max(0, width - DIGIT)
        digit = self._bits(width - 1, below)
        alike: dict[int, tuple[Bool, list[tuple[int, int]]]] = {}
        for value, inner in _split(pieces, below):
            then = self._lower(below, inner)
            alike.setdefault(then.ast, (then, []))[1].append(value)
        return self._t.any_of(_one_of(digit, values) & then for then, values in alike.values())


def _split(pieces: Pieces, below: int) -> Iterable[tuple[tuple[int, int], Pieces]]:
    """The pieces by their upper digits: which digits, and what is left of the pieces under these."""
    full = (1 << below) - 1
    partial: dict[int, list[Piece]] = {}
    for first, last, then in pieces:
        low, high = first >> below, last >> below
        begin, end = first & full, last & full
        if low == high and (begin, end) != (0, full):
            partial.setdefault(low, []).append((begin, end, then))
            continue
        if begin:
            partial.setdefault(low, []).append((begin, full, then))
            low += 1
        if end != full:
            partial.setdefault(high, []).append((0, end, then))
            high -= 1
        if low <= high:
            yield (low, high), ((0, full, then),)
    for digit, inner in partial.items():
        yield (digit, digit), tuple(inner)


def _one_of(digit: Bv, values: Iterable[tuple[int, int]]) -> Bool:
    """The digit is one of these, neighbours asked for together."""
    spans: list[tuple[int, int]] = []
    for first, last in sorted(values):
        if spans and spans[-1][1] + 1 == first:
            spans[-1] = (spans[-1][0], last)
        else:
            spans.append((first, last))
    return digit.terms.any_of(
        digit.is_(first) if first == last else digit.at_least(first) & digit.at_most(last)
        for first, last in spans
    )
