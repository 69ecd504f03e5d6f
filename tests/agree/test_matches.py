"""Each match holds of the same packets in both wings."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from verifier import rules as r
from verifier.concrete import matches as concrete
from verifier.concrete.routing import roads
from verifier.hosts import Host, Setting
from verifier.packets import Packet
from verifier.samples import edges_of
from verifier.symbolic import matches as symbolic
from verifier.symbolic.packets import Names, SymPacket, values_of
from verifier.symbolic.terms import Outcome, Solver, Terms
from verifier.values import ICMP, PORT_PROTOCOLS, TCP, CtState

from . import strategies as some
from .budget import tries

ROADS = roads(Host("host", ()))
NAMES = Names(("", "lo", *some.INTERFACES))
KINDS = [kind for kind in some.MATCHES if kind is not r.Opaque]


@st.composite
def near(draw: st.DrawFn, match: r.Match) -> Packet:
    """A packet with any fields, as likely as not at an edge of the match."""
    rules = r.RuleSet({"raw": r.Table("raw", {"OUTPUT": r.Chain("OUTPUT", r.Accept(), (_rule(match),))})})
    edges = edges_of(Setting(Host("host", ()), rules))
    # The sign bit, for any number of 32 or 16 bits: where a signed comparison would part from an unsigned one.
    wide = st.sampled_from((0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF))
    narrow = st.sampled_from((0, 1, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF))
    addresses = st.sampled_from(edges.addresses) | wide
    ports = st.sampled_from(edges.ports) | narrow
    ids = st.sampled_from(edges.ids) | wide
    proto = draw(st.sampled_from(edges.protocols) | st.sampled_from((TCP, ICMP)))
    owned = draw(st.booleans())
    name = st.sampled_from((None, *NAMES.interfaces[1:]))
    return Packet(
        src=draw(addresses),
        dst=draw(addresses),
        proto=proto,
        sport=draw(ports) if proto in PORT_PROTOCOLS else 0,
        dport=draw(ports) if proto in PORT_PROTOCOLS else 0,
        flags=draw(st.integers(0, 255)) if proto == TCP else 0,
        icmp_type=draw(some.one(some.ICMP_TYPES)) if proto == ICMP else 0,
        icmp_code=draw(st.integers(0, 2)) if proto == ICMP else 0,
        in_iface=draw(name),
        out_iface=draw(name),
        uid=draw(ids) if owned else None,
        gid=draw(ids) if owned else None,
        mark=draw(st.sampled_from(edges.marks) | wide),
        ctstate=draw(st.sampled_from(CtState)),
    )


def _rule(match: r.Match) -> r.Rule:
    return r.Rule((r.Literal(match),))


@pytest.mark.parametrize("kind", KINDS)
@tries(60)
@given(data=st.data())
def test_a_match_means_the_same_in_both_wings(kind: type, data: st.DataObject) -> None:
    match = data.draw(some.matches((kind,)))
    terms = Terms()
    free = SymPacket.free(terms)
    formula = symbolic.holds(match, free, NAMES)
    for _ in range(8):
        packet = data.draw(near(match))
        assert terms.under(values_of(packet, NAMES)).holds(formula) == concrete.holds(match, packet, ROADS), (
            packet
        )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wanted", [True, False], ids=["holds", "does not hold"])
@tries(10)
@given(data=st.data())
def test_the_solvers_packet_matches_as_the_solver_says(kind: type, wanted: bool, data: st.DataObject) -> None:
    match = data.draw(some.matches((kind,)))
    terms = Terms()
    free = SymPacket.free(terms)
    formula = symbolic.holds(match, free, NAMES)
    solver = Solver(terms)
    last = len(NAMES.interfaces) - 1
    solver.add(free.in_iface.at_most(last), free.out_iface.at_most(last), free.device.is_(0))
    solver.add(terms.any_of(free.ctstate.is_(int(s)) for s in CtState))
    result = solver.check(formula if wanted else ~formula)
    assert result.outcome is not Outcome.UNKNOWN
    assume(result.model is not None)
    assert result.model is not None
    packet = free.read(result.model, NAMES)
    assert concrete.holds(match, packet, ROADS) == wanted, packet


def test_an_opaque_match_is_no_fact_in_either_wing() -> None:
    with pytest.raises(AssertionError):
        concrete.holds(r.Opaque("u32"), Packet(0, 0), ROADS)
    with pytest.raises(AssertionError):
        symbolic.holds(r.Opaque("u32"), SymPacket.free(Terms()), NAMES)
