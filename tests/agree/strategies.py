"""What a rule can say, for Hypothesis, drawn from few numbers, so that rules and packets meet.

It is derived from the closed unions of `rules`: a new class of `Match` or `Target` is drawn without a line here,
unless it has a field of a kind that nothing had before.  Unlike `tests.strategies`, which draws from all that can
be written, and registers it for all tests.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from hypothesis import reject
from hypothesis import strategies as st
from msgspec import Struct

from verifier import rules as r
from verifier.hooks import BUILT_IN
from verifier.values import (
    ALL_32,
    ICMP,
    ICMPV6,
    LAST_ID,
    TCP,
    UDP,
    AddressSet,
    CtState,
    Family,
    Ids,
    IdSet,
    Iface,
    MarkMask,
    Net,
    Span,
    Special,
    mask_of,
    read_address,
)

T = TypeVar("T")
ip = read_address

# -- the numbers that everything is made of -----------------------------------------------------------

INTERFACES = ("eth0", "eth1", "eth10")
OWN = ("10.0.0.5", "10.0.0.6", "10.0.0.9", "10.0.0.10", "10.0.1.9", "192.168.7.1", "128.0.0.0")
LENGTHS = (24, 24, 24, 24, 16, 30, 31, 32)
LOOPBACKS = ("127.0.0.1", "127.0.0.6", "127.255.255.255")
OTHERS = (
    "10.0.0.7",
    "10.0.0.255",
    "10.0.2.2",
    "8.8.8.8",
    "224.0.0.1",
    "255.255.255.255",
    "0.0.0.0",
    "127.255.255.255",
)
ADDRESSES = tuple(ip(a) for a in (*OWN, *LOOPBACKS, *OTHERS))
PORTS = (80, 8080, 15001, 15006, 53, 1, 0x7FFF, 0x8000, 0xFFFF)
LISTENING = (80, 8080, 15001, 15006, 15001, 15006, 53)
IDS = (0, 1000, 1337, 0x7FFFFFFF, 0x80000000, LAST_ID)
MARKS = (0, 1, 0x80, 0x80000000, ALL_32)
ICMP_TYPES = (0, 3, 8, 13, 255)


def ip6(text: str) -> int:
    return read_address(text, Family.IPV6)


OWN_IPV6 = (
    "fd00::5",
    "fd00::6",
    "fd00::9",
    "fd00::a",
    "fd00:0:0:1::9",
    "2001:db8::1",
    "fe80::5",
    "fe80::6",
    "fe80::5",
    "::5",
)
LENGTHS_IPV6 = (64, 64, 64, 64, 48, 126, 127, 128)
OTHERS_IPV6 = (
    "fd00::7", "fd00::", "fd00::7", "fd00:0:0:2::2", "2001:4860:4860::8888", "fe80::", "fe80::7", "ff02::1", "ff01::1",
    "ff05::1", "ff0e::1", "ff00::", "::", "::1", "::1", "::6", "::ffff:10.0.0.7", "fec0::1",
)  # fmt: skip
ADDRESSES_IPV6 = tuple(ip6(a) for a in (*OWN_IPV6, *OTHERS_IPV6))
ADDRESSES_OF = {Family.IPV4: ADDRESSES, Family.IPV6: ADDRESSES_IPV6}
ICMP6_TYPES = (0, 1, 3, 127, 128, 129, 135, 139, 143, 255)


def one(values: Sequence[T]) -> st.SearchStrategy[T]:
    try:
        return _one(tuple(values))
    except TypeError:  # they cannot be hashed
        return st.sampled_from(values)


@cache
def _one(values: tuple[T, ...]) -> st.SearchStrategy[T]:
    """Made once for the same values: Hypothesis looks long at each strategy that it has not seen before."""
    return st.sampled_from(values)


@cache
def seldom(percent: int) -> st.SearchStrategy[bool]:
    """True about so often; False is the simpler one."""
    return st.integers(0, 99).map(lambda n: n >= 100 - percent)


@cache
def few(items: st.SearchStrategy[T], least: int, most: int) -> st.SearchStrategy[list[T]]:
    return st.lists(items, min_size=least, max_size=most)


def nets() -> st.SearchStrategy[Net]:
    masks = one([*map(mask_of, (32, 32, 32, 24, 16, 8, 31, 1, 0)), ip("255.0.0.255"), ip("0.0.1.1")])
    return st.builds(lambda a, m: Net(a & m, m), one(ADDRESSES), masks)


def nets_ipv6() -> st.SearchStrategy[Net]:
    lengths = (128, 128, 128, 127, 96, 64, 64, 48, 10, 8, 1, 0)
    masks = one([*(mask_of(n, Family.IPV6) for n in lengths), ip6("ffff::ffff"), ip6("0:0:0:1::1")])
    return st.builds(lambda a, m: Net(a & m, m, Family.IPV6), one(ADDRESSES_IPV6), masks)


def spans() -> st.SearchStrategy[Span]:
    ends = st.tuples(one(PORTS), one((*PORTS, None)), one((-1, 0, 1)))

    def span(drawn: tuple[int, int | None, int]) -> Span:
        a, b, shift = drawn
        a = min(max(a + shift, 0), 0xFFFF)
        return Span(a, a) if b is None else Span(min(a, b), max(a, b))

    return ends.map(span)


def id_ranges() -> st.SearchStrategy[Ids]:
    one_id = one(IDS).map(lambda n: Ids(n, n))
    return one_id | st.tuples(one(IDS), one(IDS)).map(lambda ab: Ids(min(ab), max(ab)))


def id_sets() -> st.SearchStrategy[IdSet]:
    return (
        st.just(IdSet.read("any"))
        | id_ranges().map(lambda i: IdSet((i,)))
        | st.lists(id_ranges(), min_size=1, max_size=3).map(IdSet.of)
    )


def marks() -> st.SearchStrategy[MarkMask]:
    return st.builds(MarkMask, one(MARKS), one((ALL_32, ALL_32, 1, 0x80, 0x81, 0x7FFFFFFF, 0x80000000, 0)))


def iface_patterns() -> st.SearchStrategy[Iface]:
    return one((*INTERFACES, "lo", "eth+", "eth1+", "+", "l+", "wlan0")).map(Iface)


def address_terms(family: Family = Family.IPV4) -> st.SearchStrategy[Net | Special]:
    return (nets() if family is Family.IPV4 else nets_ipv6()) | st.just(Special.UNICAST)


def address_sets(family: Family = Family.IPV4) -> st.SearchStrategy[AddressSet]:
    some = st.lists(address_terms(family), max_size=2).map(tuple)
    return st.builds(AddressSet, some, some)


# -- what a rule can say, derived from its type ---------------------------------------------------------


def numbers(*found: int) -> st.SearchStrategy[int]:
    """One of these, or a neighbour of it."""
    return one(tuple(sorted({x for n in found for x in (n - 1, n, n + 1) if 0 <= x <= max(found)})))


def ranges(kind: Any, *found: int) -> st.SearchStrategy[Any]:
    """`kind` of two numbers in order."""
    pair = st.tuples(numbers(*found), numbers(*found))
    return pair.map(lambda ab: kind(min(ab), max(ab)))


def nat_ranges(family: Family = Family.IPV4) -> st.SearchStrategy[r.NatRange]:
    """Ranges of addresses, of ports, of both, with and without a base; a few hold address 0."""
    some = tuple(a for a in ADDRESSES_OF[family] if a)
    in_order = st.tuples(one(some), one(some)).map(lambda ab: (min(ab), max(ab)))
    over_zero = one(((0, 0), (0, some[0]), (some[0], some[0] - 1)))
    addresses = st.none() | seldom(10).flatmap(lambda rare: over_zero if rare else in_order)

    def found(drawn: tuple[tuple[int, int] | None, Span | None, int | None]) -> r.NatRange:
        between, ports, base = drawn
        first, last = between or (None, None)
        return r.NatRange(first, last, ports, base if ports else None, family)

    return st.tuples(addresses, st.none() | spans(), st.none() | st.none() | one(PORTS)).map(found)


def icmp_types(kind: Callable[..., T]) -> st.SearchStrategy[T]:
    """A type, with one code, a range of codes, or any."""
    codes = one(((), (), (0,), (1,), (0, 1), (1, 0), (1, 2)))
    return st.tuples(one(ICMP_TYPES), codes).map(lambda drawn: kind(drawn[0], *drawn[1]))


TTLS = (0, 1, 2, 64, 128, 0xFF)
TOSES = (0, 1, 0x10, 0x80, 0xB8, 0xFF)
LENGTHS_OF_PACKETS = (20, 40, 60, 1500, 0x8000, 0xFFFF)
MACS = (0, 0x020000000001, 1 << 47, (1 << 48) - 1)
SPIS = (0, 256, 0x80000000, ALL_32)
OPTIONS = (1, 2, 3, 8, 30, 63, 64, 128, 0xFF)


def tproxies(family: Family = Family.IPV4) -> st.SearchStrategy[r.Tproxy]:
    """To ports on which somebody may listen, or the packet's own; to an address, or none; with any mark."""
    ports = one((15001, 15006, 15001, 15006, 8080, 53, 0))
    own = one(tuple(a for a in ADDRESSES_OF[family] if a))
    return st.builds(
        r.Tproxy, ports, st.none() | st.none() | own, st.just(MarkMask(0, 0)) | marks(), st.just(family)
    )


@st.composite
def sctp_chunks(draw: st.DrawFn) -> r.SctpChunks:
    """Chunk types, and flags of those that have some."""
    chunks = draw(st.frozensets(one((0, 0, 1, 3, 6, 14, *OPTIONS)), max_size=3))
    asked = []
    for kind, bits in ((0, 0xF), (6, 1), (14, 1)):
        if kind in chunks and draw(st.booleans()):
            mask = draw(st.integers(1, bits))
            asked.append(r.ChunkFlags(kind, mask, draw(st.integers(0, bits)) & mask))
    return r.SctpChunks(draw(one(("any", "all", "only"))), chunks, tuple(asked))


VALUES: Mapping[Any, st.SearchStrategy[Any]] = {
    r.CtStates: st.builds(
        r.CtStates,
        st.frozensets(
            one((CtState.NEW, CtState.INVALID, CtState.ESTABLISHED, CtState.UNTRACKED)), min_size=1
        ),
        st.frozensets(one(tuple(r.Nat))) | st.just(frozenset[r.Nat]()),
    ),
    r.TcpOption: one(OPTIONS).map(r.TcpOption),
    r.DccpOption: one(OPTIONS).map(r.DccpOption),
    r.SctpChunks: sctp_chunks(),
    r.DccpTypes: st.frozensets(st.integers(0, 10), min_size=1, max_size=4).map(r.DccpTypes),
    r.Icmp6Type: icmp_types(r.Icmp6Type),
    r.IcmpType: st.just(r.IcmpType(None)) | icmp_types(r.IcmpType),
    r.Esp: ranges(r.Esp, *SPIS),
    r.Ah: ranges(r.Ah, *SPIS),
    r.Ipv6Header: st.builds(r.Ipv6Header, st.integers(1, 255), st.booleans()),
    r.SourceRange: st.builds(r.SourceRange, numbers(*ADDRESSES), numbers(*ADDRESSES)),
    r.DestinationRange: st.builds(r.DestinationRange, numbers(*ADDRESSES), numbers(*ADDRESSES)),
    r.Length: ranges(r.Length, *LENGTHS_OF_PACKETS),
    r.Ttl: st.builds(r.Ttl, one(tuple(r.Comparison)), numbers(*TTLS)),
    r.Tos: st.builds(r.Tos, one(TOSES), one((*TOSES, 0xFF))),
    r.Dscp: one((0, 1, 0x20, 0x2E, 0x3F)).map(r.Dscp),
    r.MacSource: st.builds(r.MacSource, one(MACS), st.booleans()),
    r.CtStatus: one((0, 1, 2, 8, 16, 32, 40, 63)).map(r.CtStatus),
    r.CtExpire: st.just(r.CtExpire(1, 10)),
    r.Chance: st.builds(r.Chance, one(("statistic", "limit", "connlimit")), st.just("")),
    r.OwnerNames: st.builds(r.OwnerNames, one(("envoy", "nobody")), st.booleans()),
    r.MatchSet: st.builds(
        r.MatchSet,
        one(("here", "there")),
        st.lists(one(tuple(r.Direction)), min_size=1, max_size=3).map(tuple),
        st.booleans(),
        packets=one((None, None, r.Count(r.Comparison.GREATER, 5), r.Count(r.Comparison.EQUAL, 5, True))),
        bytes=one((None, None, None, r.Count(r.Comparison.LESS, 9))),
    ),
    r.NatRange: st.builds(
        r.NatRange.of, st.none() | one([a for a in ADDRESSES if a]), st.none() | one((80, 8080, 15001))
    )
    | nat_ranges(),
    r.Redirect: st.builds(
        r.Redirect,
        st.none() | one((80, 8080, 15001, 15006, 15001, 15006, 1, 0x8000)).map(Span.one) | spans(),
        st.none() | st.none() | one(tuple(r.PortChoice)),
    ),
    r.Masquerade: st.builds(
        r.Masquerade, st.none() | st.none() | spans(), st.none() | st.none() | one(tuple(r.PortChoice))
    ),
    r.ChangeTtl: st.builds(r.ChangeTtl, one(tuple(r.Change)), one((1, 2, 63, 0xFF))),
    r.SetTos: st.builds(r.SetTos, one(TOSES), one(TOSES)),
    r.SetDscp: one((0, 1, 0x2E, 0x3F)).map(r.SetDscp),
    r.SetEntry: st.just(r.SetEntry("here", "src")),
    r.TrackAs: one(
        (
            "--zone 1",
            "--zone 1",
            "--zone 2",
            "--zone 0",
            "--zone-orig 1",
            "--zone-reply 1",
            "--zone mark",
            "--zone-orig mark",
            "--zone-reply mark",
            "--helper ftp",
        )
    ).map(r.TrackAs),
    r.ClampMss: st.just(r.ClampMss(None)) | st.just(r.ClampMss(1400)),
    r.Tproxy: tproxies(),
    Net: nets(),
    Span: spans(),
    Ids: id_ranges(),
    IdSet: id_sets(),
    MarkMask: marks(),
    Iface: iface_patterns(),
    CtState: one((CtState.NEW, CtState.INVALID, CtState.ESTABLISHED)),
}

FIELDS: Mapping[str, st.SearchStrategy[Any]] = {
    "number": one((TCP, TCP, UDP, ICMP, 47, 132)),
    "mask": one((0x17, 0x3F, 0x02, 0x12, 0)),
    "set": one((0x02, 0x02, 0x12, 0x10, 0)),
    "type": one(ICMP_TYPES),
    "port": one((80, 8080, 15001, 15006, 15001, 15006, 1, 0x8000)),
    "address": one([a for a in ADDRESSES if a]),
    "text": one(("u32 a", "u32 b")),
    "packet_mask": one((ALL_32, ALL_32, 1, 0x80000000, 0)),
    "connection_mask": one((ALL_32, ALL_32, 1, 0x80000000, 0)),
    "shift": one((0, 0, 0, 1, -1, 7, -7, 31, -31)),
    "family": st.just(Family.IPV4),
    "how": one(("icmp-port-unreachable", "icmp-host-prohibited", "tcp-reset")),
}
"""Fields that are bare numbers or texts, by their names."""


VALUES_IPV6: Mapping[Any, st.SearchStrategy[Any]] = {
    **VALUES,
    Net: nets_ipv6(),
    r.Tproxy: tproxies(Family.IPV6),
    r.Icmp6Type: st.tuples(one(ICMP6_TYPES), one(((), (), (0,), (0, 1)))).map(
        lambda drawn: r.Icmp6Type(drawn[0], *drawn[1])
    ),
    r.SourceRange: st.builds(
        r.SourceRange, numbers(*ADDRESSES_IPV6), numbers(*ADDRESSES_IPV6), st.just(Family.IPV6)
    ),
    r.DestinationRange: st.builds(
        r.DestinationRange, numbers(*ADDRESSES_IPV6), numbers(*ADDRESSES_IPV6), st.just(Family.IPV6)
    ),
    r.Ipv6Header: st.builds(r.Ipv6Header, one((1, 2, 4, 8, 9, 32, 33, 64, 129, 193, 255)), st.booleans()),
    r.NatRange: nat_ranges(Family.IPV6),
    r.RouteType: one(
        (
            "LOCAL",
            "LOCAL",
            "UNREACHABLE",
            "UNREACHABLE",
            "ANYCAST",
            "UNICAST",
            "MULTICAST",
            "UNSPEC",
            "BLACKHOLE",
        )
    ).map(r.RouteType),
}

FIELDS_IPV6: Mapping[str, st.SearchStrategy[Any]] = {
    **FIELDS,
    "number": one((TCP, TCP, UDP, ICMPV6, 47, 50, 59, 132)),
    "address": one([a for a in ADDRESSES_IPV6 if a]),
    "family": st.just(Family.IPV6),
    "how": one(("icmp6-port-unreachable", "icmp6-adm-prohibited", "tcp-reset")),
}


@cache
def of_type(hint: Any, name: str = "", family: Family = Family.IPV4) -> st.SearchStrategy[Any]:
    """Values of an annotation: of unions, tuples, sets, enumerations and frozen classes, down to values."""
    values, fields = (VALUES, FIELDS) if family is Family.IPV4 else (VALUES_IPV6, FIELDS_IPV6)
    if hint in values:
        return values[hint]
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return st.one_of([of_type(a, name, family) for a in args])
    if origin is tuple:
        return st.lists(of_type(args[0], name, family), min_size=1, max_size=3).map(tuple)
    if origin is frozenset:
        return st.frozensets(of_type(args[0], name, family), min_size=1, max_size=3)
    if hint is type(None):
        return st.none()
    if hint is bool:
        return fields.get(name, st.booleans())
    if isinstance(hint, type) and issubclass(hint, Enum):
        return one(list(hint))
    if isinstance(hint, type) and issubclass(hint, Struct):
        return built(hint, family=family)
    return fields[name] if name in fields else st.from_type(hint)


@st.composite
def built(
    draw: st.DrawFn,
    kind: Any,
    known: Mapping[str, st.SearchStrategy[Any]] | None = None,
    family: Family = Family.IPV4,
) -> Any:
    """Instances of a frozen class, field by field; what the class itself refuses is drawn again."""
    known = known or {}
    for _ in range(9):
        drawn = {
            name: draw(known[name] if name in known else of_type(hint, name, family))
            for name, hint in _fields(kind)
        }
        try:
            return kind(**drawn)
        except ValueError:
            continue
    return reject()


@cache
def _fields(kind: Any) -> tuple[tuple[str, Any], ...]:
    hints = get_type_hints(kind)
    return tuple((name, hints[name]) for name in kind.__struct_fields__)


MATCHES: tuple[type, ...] = get_args(r.Match)
TARGETS: tuple[type, ...] = get_args(r.Target)


FOREIGN: Mapping[Family, tuple[type, ...]] = {Family.IPV4: (), Family.IPV6: (r.IcmpType, r.Fragment)}
"""Matches that a family's rules do not have; those that IPv6 alone has hold of no IPv4 packet."""


@cache
def matches(kinds: tuple[type, ...] = MATCHES, family: Family = Family.IPV4) -> st.SearchStrategy[r.Match]:
    return st.one_of([of_type(kind, family=family) for kind in kinds if kind not in FOREIGN[family]])


CHOICES = (r.Opaque, r.Chance, r.MatchSet, r.OwnerNames)
"""Matches that nothing decides."""
KNOWN = tuple(kind for kind in MATCHES if kind not in CHOICES)
DECIDED = tuple(kind for kind in KNOWN if kind not in (r.SocketMatch, r.Conntrack))
"""Matches that never are a choice."""
COMMON = (
    r.Source, r.Destination, r.InInterface, r.OutInterface, r.Protocol, r.SourcePorts, r.DestinationPorts, r.TcpFlags,
    r.IcmpType, r.MultiportSources, r.MultiportDestinations, r.MultiportPorts, r.CtStates, r.Mark,
)  # fmt: skip
"""Matches that most rules are made of, drawn more often than the others."""


OF_IPV6 = (r.Icmp6Type, r.Ipv6Header, r.Ah, r.AddressType, r.ReversePath)
"""Matches that mean something else in IPv6, or nothing in IPv4."""


@cache
def literals(kinds: tuple[type, ...] = KNOWN, family: Family = Family.IPV4) -> st.SearchStrategy[r.Literal]:
    def literal(drawn: tuple[r.Match, int]) -> r.Literal:
        match, percent = drawn
        negated = percent >= (70 if isinstance(match, COMMON) and not isinstance(match, r.Mark) else 50)
        return r.Literal(match, negated and not isinstance(match, r.OWN_NEGATION))

    return st.tuples(matches(kinds, family), st.integers(0, 99)).map(literal)


ENDERS = (r.Drop, r.Reject, r.OpaqueTarget, r.Tproxy, r.Queue)
"""Targets after which there is nothing more to compare: these are drawn less often."""
TRANSLATORS = (r.Redirect, r.Dnat, r.Netmap)
SOURCE_TRANSLATORS = (r.Snat, r.Masquerade, r.Netmap)
PLACED = (r.Redirect, r.Dnat, r.Netmap, r.Snat, r.Masquerade, r.NoTrack, r.TrackAs, r.Tproxy)
"""Targets that the kernel loads in one table, or at some hooks, alone."""
CALLS = (r.Jump, r.Goto)


@st.composite
def targets(
    draw: st.DrawFn, table: str, built_in: str | None, callees: Sequence[str], family: Family
) -> r.Target | None:
    """A target, most often one that the kernel would load there."""
    wanted: tuple[Any, ...] = ()
    if table == "raw":
        wanted = (r.NoTrack, r.TrackAs)
    if table == "mangle" and built_in == "PREROUTING":
        wanted = (r.Tproxy,)
    if table == "nat":
        wanted = TRANSLATORS if built_in not in ("INPUT", "POSTROUTING") else SOURCE_TRANSLATORS
    kinds: list[Any] = [None] * 4
    for kind in TARGETS:
        if kind in CALLS and not callees:
            continue
        kinds += [kind] * (1 if kind in ENDERS else 3)
        kinds += [kind] * (16 if kind in wanted else 0)
        kinds += [kind] * (8 if kind in CALLS else 0)
    kind = draw(one(kinds))
    if kind in PLACED and kind not in wanted and not draw(seldom(4)):
        kind = r.Accept
    if kind is None:
        return None
    drawn: r.Target = kind(draw(one(callees))) if kind in CALLS else draw(of_type(kind, family=family))
    return drawn


@st.composite
def rules(
    draw: st.DrawFn, table: str, built_in: str | None, callees: Sequence[str], family: Family = Family.IPV4
) -> r.Rule:
    kinds = (*COMMON, r.Opaque, *CHOICES) if draw(seldom(12)) else (*KNOWN, *COMMON, *COMMON)
    if built_in in (None, "OUTPUT", "POSTROUTING"):
        # An owner is only there where a socket of this host sends.
        kinds = (*kinds, r.OwnerIds, r.OwnerIds)
    if family is Family.IPV6:
        kinds = (*kinds, *OF_IPV6)
    target = draw(targets(table, built_in, callees, family))
    found = draw(few(literals(kinds, family), 1 if type(target) in ENDERS else 0, 2))
    return r.Rule(r.ordered(tuple(found)), target)


@st.composite
def tables(draw: st.DrawFn, name: str, most: int = 4, family: Family = Family.IPV4) -> r.Table:
    users = [f"C{i}" for i in range(1, 1 + draw(st.integers(0, 3)))]
    chains = {}
    for built_in in BUILT_IN[name]:
        if draw(seldom(3)):
            continue
        policy = r.Drop() if draw(seldom(4)) else r.Accept()
        found = draw(st.lists(rules(name, built_in, tuple(users), family), max_size=most))
        chains[built_in] = r.Chain(built_in, policy, tuple(found))
    for i, user in enumerate(users):
        found = draw(st.lists(rules(name, None, tuple(users[i + 1 :]), family), max_size=most))
        chains[user] = r.Chain(user, None, tuple(found))
    return r.Table(name, chains)


@st.composite
def rule_sets(draw: st.DrawFn, most: int = 4, family: Family = Family.IPV4) -> r.RuleSet:
    names = [n for n, percent in TABLES.items() if draw(seldom(percent))]
    return r.RuleSet({name: draw(tables(name, most, family)) for name in names}, family)


TABLES = {"nat": 85, "filter": 65, "mangle": 45, "raw": 35, "security": 20}
