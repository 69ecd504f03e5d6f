"""A packet is in an ip set in one wing iff it is in the other, and of the same packets neither can say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier.concrete import sets as concrete
from verifier.matches import Direction
from verifier.packets import Packet
from verifier.reading.ipset import read_sets
from verifier.sets import Entry, IpSet, Member, SetType
from verifier.symbolic import sets as symbolic
from verifier.symbolic.packets import WIDTHS, Names, SymPacket, values_of
from verifier.symbolic.terms import Outcome, Solver, Terms
from verifier.values import CtState, Family

from .. import ip_sets as some
from .budget import tries

NAMES = Names(("", *some.INTERFACES))
KINDS = [kind for kind in SetType if kind is not SetType.LIST_SET]


def free(terms: Terms, family: Family) -> SymPacket:
    """A packet of which nothing is known but the family."""
    widths = {**WIDTHS, "src": family.bits, "dst": family.bits}
    bits = {name: terms.variable(name, width) for name, width in widths.items()}
    return SymPacket(**bits, socket=terms.unknown("socket"))


def told(membership: symbolic.Membership, terms: Terms, packet: Packet) -> bool | None:
    model = terms.under(values_of(packet, NAMES))
    inside, unknown = model.holds(membership.inside), model.holds(membership.unknown)
    assert not (inside and unknown)
    return None if unknown else inside


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.value)
@pytest.mark.parametrize("family", Family, ids=str)
@tries(20)
@given(data=st.data())
def test_a_packet_is_in_a_set_in_both_wings(kind: SetType, family: Family, data: st.DataObject) -> None:
    s = data.draw(some.sets((kind,), family))
    directions = data.draw(some.directions)
    return_nomatch = data.draw(st.booleans())
    terms = Terms()
    formula = symbolic.holds(s, {}, free(terms, family), NAMES, directions, return_nomatch)
    for _ in range(12):
        packet = data.draw(some.packets((s, directions), family=family))
        expected = concrete.holds(s, {}, packet, directions, return_nomatch)
        assert told(formula, terms, packet) == expected, packet


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.value)
@tries(8)
@given(data=st.data())
def test_the_solvers_packet_is_where_the_solver_says(kind: SetType, data: st.DataObject) -> None:
    s = data.draw(some.sets((kind,), Family.IPV4))
    directions = (*data.draw(st.tuples(*[st.sampled_from(Direction)] * 3)),)
    terms = Terms()
    free = SymPacket.free(terms)
    formula = symbolic.holds(s, {}, free, NAMES, directions)
    solver = Solver(terms)
    last = len(NAMES.interfaces) - 1
    solver.add(free.in_iface.at_most(last), free.out_iface.at_most(last), free.device.is_(0))
    solver.add(terms.any_of(free.ctstate.is_(int(state)) for state in CtState))
    solver.add(free.proto.is_(1) | free.icmp_type.is_(0) & free.icmp_code.is_(0))
    outside = ~formula.inside & ~formula.unknown
    for asked, expected in ((formula.inside, True), (formula.unknown, None), (outside, False)):
        result = solver.check(asked)
        assert result.outcome is not Outcome.UNKNOWN
        if result.model is not None:
            packet = free.read(result.model, NAMES)
            assert concrete.holds(s, {}, packet, directions) is expected, packet


@tries(40)
@given(data=st.data())
def test_a_list_holds_what_its_members_hold(data: st.DataObject) -> None:
    chosen = data.draw(st.lists(some.sets(family=None), min_size=1, max_size=4))
    sets = {f"m{i}": s for i, s in enumerate(chosen)}
    lists = IpSet("l", SetType.LIST_SET, tuple(Entry((Member(name),)) for name in sets))
    directions = data.draw(some.directions)
    return_nomatch = data.draw(st.booleans())
    terms = Terms()
    formula = symbolic.holds(lists, sets, SymPacket.free(terms), NAMES, directions, return_nomatch)
    for _ in range(8):
        packet = data.draw(some.packets(*((s, directions) for s in chosen)))
        each = [concrete.holds(s, {}, packet, directions, return_nomatch) for s in chosen]
        expected = True if True in each else None if None in each else False
        assert concrete.holds(lists, sets, packet, directions, return_nomatch) is expected
        assert told(formula, terms, packet) is expected


WILD = """
create w hash:net,iface
add w 10.0.0.0/8,eth0 nomatch
add w 10.0.0.0/8,eth wildcard
"""
ALIKE = """
create n hash:net,net netmask 16
add n 10.1.0.0/20,0.0.0.0/1
add n 10.1.0.0/24,0.0.0.0/1 nomatch
"""


@pytest.mark.parametrize(
    ("text", "interface", "expected"),
    # An earlier name goes before a wildcard; of networks that are the same under a mask the longer prefix decides.
    [(WILD, "eth1", True), (WILD, "eth0", False), (WILD, "e", False), (ALIKE, "eth0", False)],
)
def test_what_seldom_decides_is_the_same_in_both_wings(text: str, interface: str, expected: bool) -> None:
    (s,) = read_sets(text, "sets").values()
    packet = Packet(0x0A010203, 0x01020304, in_iface=interface)
    directions = (Direction.SOURCE, Direction.SOURCE if "iface" in text else Direction.DESTINATION)
    terms = Terms()
    formula = symbolic.holds(s, {}, free(terms, Family.IPV4), NAMES, directions)
    assert concrete.holds(s, {}, packet, directions) is expected
    assert told(formula, terms, packet) is expected
