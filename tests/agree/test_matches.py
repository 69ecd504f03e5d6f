"""Each match holds of the same packets in both wings."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from verifier import rules as r
from verifier.asked import fields_of
from verifier.concrete import matches as concrete
from verifier.concrete.routing import roads
from verifier.hosts import Host, Setting
from verifier.packets import Connection, Ends, Packet
from verifier.samples import SPEAKS_OF, edges_of
from verifier.symbolic import lookups as symbolic
from verifier.symbolic.matches import is_choice
from verifier.symbolic.packets import ALL_FIELDS, RARE, Names, SymPacket, values_of
from verifier.symbolic.routing import Road
from verifier.symbolic.terms import Outcome, Solver, Terms
from verifier.values import ICMP, PORT_PROTOCOLS, TCP, CtState, PacketKind

from . import hosts
from . import strategies as some
from .budget import tries

NAMES = Names(("", "lo", *some.INTERFACES))
KINDS = [kind for kind in get_args(r.Match) if kind not in some.CHOICES]
NARROW = st.sampled_from((0, 1, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF))
WIDE = st.sampled_from((0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF))
"""The sign bit, for any number of 32 or 16 bits: where a signed comparison would part from an unsigned one."""


def rules_of(match: r.Match) -> r.RuleSet:
    rule = r.Rule((r.Literal(match),))
    return r.RuleSet({"raw": r.Table("raw", {"OUTPUT": r.Chain("OUTPUT", r.Accept(), (rule,))})})


def numbers_in(value: Any) -> set[int]:
    """Every number that a match is made of."""
    if isinstance(value, bool):
        return set()
    if isinstance(value, int):
        return {int(value)}
    if isinstance(value, tuple | frozenset):
        return {n for part in value for n in numbers_in(part)}
    if isinstance(value, Struct):
        return {n for name in value.__struct_fields__ for n in numbers_in(getattr(value, name))}
    return set()


def edge(match: r.Match, bits: int) -> st.SearchStrategy[int]:
    """A number of so many bits: one of the match, its neighbour, or one with that bit alone; or any."""
    named = numbers_in(match)
    near = {x for n in named for x in (n - 1, n, n + 1, n & ~1)} | {1 << n for n in named if n < bits}
    near |= {sum(1 << n for n in named if n < bits), 0, 1 << (bits - 1), (1 << bits) - 1}
    return st.sampled_from(sorted(x for x in near if 0 <= x < 1 << bits)) | st.integers(0, (1 << bits) - 1)


@st.composite
def connections(draw: st.DrawFn, match: r.Match, proto: int, addresses: st.SearchStrategy[int]) -> Connection:
    def ends() -> Ends:
        return Ends(draw(addresses), draw(addresses), draw(edge(match, 16)), draw(edge(match, 16)))

    return Connection(
        draw(st.sampled_from((proto, TCP, 17))),
        ends(),
        ends(),
        draw(st.integers(0, 63)),
        draw(edge(match, 32)),
        draw(st.booleans()),
    )


@st.composite
def near(draw: st.DrawFn, match: r.Match, host: Host) -> Packet:
    """A packet with any fields, as likely as not at an edge of the match."""
    edges = edges_of(Setting(host, rules_of(match)))
    addresses = st.sampled_from(edges.addresses) | WIDE | edge(match, 32)
    ports = st.sampled_from(edges.ports) | NARROW
    ids = st.sampled_from(edges.ids) | WIDE
    proto = draw(st.sampled_from((*edges.protocols, TCP, ICMP, *sorted(SPEAKS_OF.get(type(match), ())) * 5)))
    owned = draw(st.booleans())
    name = st.sampled_from((None, *NAMES.interfaces[1:]))
    icmp = proto in (ICMP, 58)
    packet = Packet(
        src=draw(addresses),
        dst=draw(addresses),
        proto=proto,
        sport=draw(ports) if proto in PORT_PROTOCOLS else 0,
        dport=draw(ports) if proto in PORT_PROTOCOLS else 0,
        flags=draw(st.integers(0, 255)) if proto == TCP else 0,
        icmp_type=draw(some.one(some.ICMP_TYPES)) if icmp else 0,
        icmp_code=draw(st.integers(0, 2)) if icmp else 0,
        in_iface=draw(name),
        out_iface=draw(name),
        uid=draw(ids) if owned else None,
        gid=draw(ids) if owned else None,
        mark=draw(st.sampled_from(edges.marks) | WIDE),
        ctstate=draw(st.sampled_from(CtState)),
        kind=draw(st.sampled_from(PacketKind)) if isinstance(match, r.PacketType) else PacketKind.UNICAST,
    )
    rare: dict[str, Any] = {}
    for field in sorted(fields_of((r.Literal(match),))):
        match field:
            case "connection":
                rare[field] = draw(st.none() | connections(match, proto, addresses))
            case "mac":
                rare[field] = draw(st.none() | edge(match, 48))
            case "tos":
                shifted = [n << 2 for n in numbers_in(match) if n < 64] or [0]
                rare[field] = draw(edge(match, 8) | st.sampled_from(shifted))
            case _:
                rare[field] = draw(edge(match, RARE[field]))
    return replace(packet, **rare)


@pytest.mark.parametrize("kind", KINDS)
@tries(40)
@given(data=st.data())
def test_a_match_means_the_same_in_both_wings(kind: type, data: st.DataObject) -> None:
    match = data.draw(some.matches((kind,)))
    host = data.draw(hosts.hosts()) if kind in ASKED_OF_HOSTS else Host("host", ())
    terms = Terms()
    names = Names(tuple(dict.fromkeys((*NAMES.interfaces, *(i.name for i in host.interfaces)))))
    road, there = Road(terms, host, names), roads(host)
    free = SymPacket.free(terms, fields=ALL_FIELDS)
    for _ in range(8):
        packet = data.draw(near(match, host))
        if concrete.is_choice(match, packet, there):
            assert is_choice(match) or isinstance(match, r.SocketMatch)
            continue
        formula = symbolic.holds(match, free, road)
        assert terms.under(values_of(packet, names)).holds(formula) == concrete.holds(match, packet, there), (
            packet
        )


ASKED_OF_HOSTS = (r.AddressType, r.ReversePath, r.SocketMatch, r.OwnerIds)


NEVER = (r.Fragment,)
"""Matches that hold of no packet that a journey is told of."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wanted", [True, False], ids=["holds", "does not hold"])
@tries(10)
@given(data=st.data())
def test_the_solvers_packet_matches_as_the_solver_says(kind: type, wanted: bool, data: st.DataObject) -> None:
    match = data.draw(some.matches((kind,)))
    host = data.draw(hosts.hosts()) if kind in ASKED_OF_HOSTS else Host("host", ())
    assume(not is_choice(match))
    terms = Terms()
    names = Names(tuple(dict.fromkeys((*NAMES.interfaces, *(i.name for i in host.interfaces)))))
    road, there = Road(terms, host, names), roads(host)
    free = SymPacket.free(terms, fields=ALL_FIELDS)
    formula = symbolic.holds(match, free, road)
    solver = Solver(terms)
    last = len(names.interfaces) - 1
    solver.add(free.in_iface.at_most(last), free.out_iface.at_most(last), free.device.is_(0))
    solver.add(terms.any_of(free.ctstate.is_(int(s)) for s in CtState), free.field("kind").at_most(2))
    if isinstance(match, r.SocketMatch):
        solver.add(~symbolic.socket_is_open(match, free, road))
    result = solver.check(formula if wanted else ~formula)
    assert result.outcome is not Outcome.UNKNOWN
    if wanted and kind in NEVER:
        assert result.outcome is Outcome.UNSAT
        return
    assume(result.model is not None)
    assert result.model is not None
    packet = free.read(result.model, names)
    assert concrete.holds(match, packet, there) == wanted, packet


def test_a_choice_is_no_fact_in_either_wing() -> None:
    for choice in (r.Opaque("u32"), r.Chance("limit", ""), r.MatchSet("here", (r.Direction.SOURCE,))):
        terms = Terms()
        with pytest.raises(AssertionError):
            concrete.holds(choice, Packet(0, 0), roads(Host("host", ())))
        with pytest.raises(AssertionError):
            symbolic.holds(choice, SymPacket.free(terms), Road(terms, Host("host", ()), NAMES))


def test_a_field_that_is_not_carried_is_not_asked_for() -> None:
    terms = Terms()
    with pytest.raises(AssertionError):
        symbolic.holds(
            r.Ttl(r.Comparison.EQUAL, 1), SymPacket.free(terms), Road(terms, Host("host", ()), NAMES)
        )
