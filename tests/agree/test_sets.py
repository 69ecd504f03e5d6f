"""A packet is in an ip set in one wing iff it is in the other, and of the same packets neither can say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from verifier.concrete import sets as concrete
from verifier.matches import Direction
from verifier.packets import Packet
from verifier.reading.ipset import read_sets
from verifier.sets import Entry, IpSet, Member, SetType, at_first
from verifier.symbolic import sets as symbolic
from verifier.symbolic.packets import WIDTHS, Names, SymPacket, values_of
from verifier.symbolic.terms import Outcome, Solver, Terms
from verifier.values import CtState, Family

from .. import ip_sets as some
from .budget import tries

NAMES = Names(("", *some.INTERFACES))
YES, NO, BOTH = frozenset({True}), frozenset({False}), frozenset({True, False})
KINDS = [kind for kind in SetType if kind is not SetType.LIST_SET]


def free(terms: Terms, family: Family) -> SymPacket:
    """A packet of which nothing is known but the family."""
    widths = {**WIDTHS, "src": family.bits, "dst": family.bits}
    bits = {name: terms.variable(name, width) for name, width in widths.items()}
    return SymPacket(**bits, socket=terms.unknown("socket"))


def told(membership: symbolic.Membership, terms: Terms, packet: Packet) -> frozenset[bool] | None:
    model = terms.under(values_of(packet, NAMES))
    parts = (membership.inside, membership.unknown, membership.passing)
    inside, unknown, passing = (model.holds(part) for part in parts)
    assert inside + unknown + passing <= 1
    return None if unknown else BOTH if passing else frozenset({inside})


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
    outside = ~formula.inside & ~formula.unknown & ~formula.passing
    for asked, expected in (
        (formula.inside, YES),
        (formula.unknown, None),
        (formula.passing, BOTH),
        (outside, NO),
    ):
        result = solver.check(asked)
        assert result.outcome is not Outcome.UNKNOWN
        if result.model is not None:
            packet = free.read(result.model, NAMES)
            assert concrete.holds(s, {}, packet, directions) == expected, packet


@tries(40)
@given(data=st.data())
def test_a_list_holds_what_its_members_hold(data: st.DataObject) -> None:
    chosen = data.draw(st.lists(some.sets(family=None), min_size=1, max_size=4))
    sets = {f"m{i}": s for i, s in enumerate(chosen)}
    stays = data.draw(st.lists(st.sampled_from((0, 300)), min_size=len(sets), max_size=len(sets)))
    entries = (Entry((Member(name),), timeout=time) for name, time in zip(sets, stays, strict=True))
    lists = IpSet("l", SetType.LIST_SET, tuple(entries), timeout=300)
    directions = data.draw(some.directions)
    return_nomatch = data.draw(st.booleans())
    terms = Terms()
    formula = symbolic.holds(lists, sets, SymPacket.free(terms), NAMES, directions, return_nomatch)
    for _ in range(8):
        packet = data.draw(some.packets(*((s, directions) for s in chosen)))
        each = [concrete.holds(s, {}, packet, directions, return_nomatch) for s in chosen]
        each = [x and x | NO if time else x for x, time in zip(each, stays, strict=True)]
        expected = (
            YES if YES in each else None if None in each else frozenset().union(*map(frozenset, each), NO)
        )
        assert concrete.holds(lists, sets, packet, directions, return_nomatch) == expected
        assert told(formula, terms, packet) == expected


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
    assert concrete.holds(s, {}, packet, directions) == {expected}
    assert told(formula, terms, packet) == {expected}


GOING = """
create g hash:net timeout 600
add g 10.0.0.0/8 timeout 0
add g 10.1.0.0/16 timeout 300 nomatch
add g 10.1.1.0/24 timeout 300
add g 10.2.0.0/16 timeout 300
add g 10.2.2.0/24 timeout 0 nomatch
add g 11.0.0.0/8 timeout 300
add g 11.1.0.0/16 timeout 0
"""
NAMED = """
create g hash:net,iface timeout 600
add g 10.0.0.0/8,eth0 timeout 0
add g 10.1.0.0/16,eth1 timeout 300
add g 10.2.0.0/16,eth1 timeout 0
add g 10.3.0.0/16,eth1 timeout 0
add g 10.3.0.0/16,eth0 timeout 300 nomatch
add g 10.4.0.0/16,eth1 timeout 300
add g 10.4.0.0/16,eth timeout 0 nomatch wildcard
"""


@pytest.mark.parametrize(
    ("text", "source", "interface", "expected", "excepted"),
    [
        (GOING, 0x0A630000, "eth0", YES, NO),
        (GOING, 0x0B630000, "eth0", BOTH, NO),
        (GOING, 0x0C000000, "eth0", NO, NO),
        # What is hidden shows when that has gone which hides it; what is hidden for good does not.
        (GOING, 0x0A010000, "eth0", BOTH, BOTH),
        (GOING, 0x0A010101, "eth0", BOTH, BOTH),
        (GOING, 0x0A020000, "eth0", YES, NO),
        (GOING, 0x0A020202, "eth0", NO, YES),
        (GOING, 0x0B010000, "eth0", YES, NO),
        # A network that is there for another interface ends the search, until it has gone.
        (NAMED, 0x0A630000, "eth0", YES, NO),
        (NAMED, 0x0A010000, "eth0", BOTH, NO),
        (NAMED, 0x0A010000, "eth1", BOTH, NO),
        (NAMED, 0x0A020000, "eth0", NO, NO),
        (NAMED, 0x0A030000, "eth0", BOTH, BOTH),
        (NAMED, 0x0A030000, "eth1", YES, NO),
        (NAMED, 0x0A040000, "eth1", BOTH, BOTH),
        (NAMED, 0x0A040000, "eth0", NO, YES),
    ],
)  # fmt: skip
def test_an_entry_whose_time_runs_may_be_there_or_not(
    text: str, source: int, interface: str, expected: frozenset[bool], excepted: frozenset[bool]
) -> None:
    (s,) = read_sets(text, "sets").values()
    packet = Packet(source, 0x01020304, in_iface=interface)
    directions = (Direction.SOURCE, Direction.SOURCE)
    for return_nomatch, wanted in ((False, expected), (True, excepted)):
        terms = Terms()
        formula = symbolic.holds(s, {}, free(terms, Family.IPV4), NAMES, directions, return_nomatch)
        assert concrete.holds(s, {}, packet, directions, return_nomatch) == wanted
        assert told(formula, terms, packet) == wanted


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.value)
@pytest.mark.parametrize("family", Family, ids=str)
@tries(10)
@given(data=st.data())
def test_some_of_what_may_go_having_gone_a_packet_is_in_the_set_or_not_as_is_said(
    kind: SetType, family: Family, data: st.DataObject
) -> None:
    """And where both is said, each is so when some of them have gone and others not, but for hash:net,iface, where what has gone
    may still end the search."""
    s = data.draw(some.sets((kind,), family, sizes=5))
    running = [e for e in s.entries if e.timeout]
    directions = data.draw(some.directions)
    return_nomatch = data.draw(st.booleans())
    for _ in range(6):
        packet = data.draw(some.packets((s, directions), family=family))
        seen: set[bool | None] = set()
        for gone in range(1 << len(running)):
            left = {e for n, e in enumerate(running) if not gone >> n & 1}
            there = replace(s, entries=tuple(e for e in s.entries if not e.timeout or e in left))
            found = concrete.holds(at_first(there), {}, packet, directions, return_nomatch)
            seen |= {None} if found is None else found
        expected = concrete.holds(s, {}, packet, directions, return_nomatch)
        if expected is None or None in seen:
            assert expected is None
            assert None in seen
        else:
            assert seen <= expected
            assert seen == expected or kind is SetType.HASH_NET_IFACE
