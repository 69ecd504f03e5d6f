"""What the prover answers is true of packets that the concrete wing follows."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from verifier import claims as c
from verifier import hosts as h
from verifier.answers import Answer, Counterexample, Proved, Refuted, Unknown, Vacuous
from verifier.bounds import hop_bound
from verifier.concrete import claims as concrete
from verifier.concrete.proxies import dials, options
from verifier.concrete.travel import travel
from verifier.hosts import Setting
from verifier.journeys import (
    Choices,
    FromOutside,
    Journey,
    Left,
    Loop,
    ProxyState,
    Sender,
    Truth,
)
from verifier.packets import Packet
from verifier.prove import Budget, Prover
from verifier.samples import edges_of
from verifier.values import AddressSet, Net, Span

from . import strategies as some
from .agreement import Trip
from .budget import tries
from .claims import premises, verbs
from .examples import APP, FIRST, chain_of_proxies, dropping, ip
from .hosts import begins, senders_of, settings
from .strategies import PORTS

PACKETS = 40
DEEPEST = 12
"""A greater bound may take the prover long, where journeys go round."""


def broken(claim: c.PacketClaim, journey: Journey, setting: Setting, hop: int = 0) -> bool:
    """One journey shows that the claim is wrong (`some`: that it is right)."""
    told = [concrete.holds(verb, journey, setting, hop) for verb in claim.verbs]
    if claim.quantifier is c.Quantifier.EVERY:
        return False in told
    return all(answer is True for answer in told)


def trips(
    data: st.DataObject, setting: Setting, sender: Sender, premise: c.Premise, number: int
) -> Iterator[Trip]:
    """Packets of the premise near the rules' edges, with choices drawn at random."""
    edges = edges_of(setting)
    for n in range(number):
        begin = data.draw(begins(setting, sender, edges))
        if isinstance(begin, ProxyState) and not dials(setting.host, begin):
            continue
        draw = random.Random(n)
        trip = Trip(setting, sender, begin, choices_for(setting, sender, begin, draw), None)
        sent = trip.travel().stops[0].packet
        if concrete.meets(premise, setting, sender, sent if isinstance(begin, ProxyState) else begin):
            yield trip


def choices_for(
    setting: Setting, sender: Sender, begin: object, draw: random.Random, most: int = 12
) -> Choices:
    """Choices for all that is asked on the way: opaque matches, source ports, dials and ids."""
    choices = Choices()
    for _ in range(most):
        packet, state = (None, begin) if isinstance(begin, ProxyState) else (begin, None)
        journey = travel(setting, sender, packet, choices, state)  # type: ignore[arg-type]
        opaque = {e: draw.choice(list(Truth)) for e in journey.asked if e not in choices.opaque}
        states = enumerate(journey.states, 1)
        first = [(0, state)] if isinstance(state, ProxyState) else []
        new = [(hop, at) for hop, at in [*first, *states] if hop not in choices.ports]
        if not opaque and not new:
            break
        choices = Choices(
            {**choices.opaque, **opaque},
            {**choices.ports, **{hop: draw.choice(PORTS) for hop, _ in new}},
            {**choices.picks, **{hop: draw.randrange(options(setting.host, at)) for hop, at in new}},
            {**choices.uids, **{hop: ids(setting, at, draw) for hop, at in new}},
        )
    return choices


def ids(setting: Setting, state: ProxyState, draw: random.Random) -> tuple[int, int]:
    process = setting.host.process(state.process)
    uid, gid = draw.choice(process.uid.ranges), draw.choice(process.gid.ranges)
    return draw.choice((uid.first, uid.last)), draw.choice((gid.first, gid.last))


@st.composite
def claims_about(draw: st.DrawFn, setting: Setting, sender: Sender) -> c.PacketClaim:
    premise = draw(premises(sender))
    if draw(some.seldom(60)):
        premise = replace(premise, filter=c.Filter(), exceptions=())
    wanted = tuple(draw(st.lists(verbs(setting), min_size=1, max_size=2)))
    return c.PacketClaim(c.Quantifier.EVERY, premise, wanted)


def again(found: Counterexample, setting: Setting) -> Journey:
    """The counterexample's first packet, travelled anew."""
    return travel(setting, found.sender, found.journey.stops[0].packet, found.choices)


def _is_true(answer: Answer, claim: c.PacketClaim, setting: Setting, followed: list[Trip]) -> None:
    some_can = claim.quantifier is c.Quantifier.SOME
    match answer:
        case Proved() if some_can:
            assert answer.witness is not None
            shown: Counterexample | None = answer.witness
        case Refuted() if not some_can:
            assert answer.counterexample is not None
            shown = answer.counterexample
        case Proved() | Refuted():
            shown = None
            for trip in followed:
                assert not broken(claim, trip.travel(), setting), trip
        case Vacuous():
            shown = None
            assert not followed or isinstance(claim.premise.who, c.OfProxy)
        case Unknown():
            shown = None
    if shown is not None:
        journey = again(shown, setting)
        assert journey == shown.journey
        assert broken(claim, journey, setting, shown.hop)


def test_an_answer_is_true_of_the_packets_that_it_speaks_of() -> None:
    """Proved: no packet of the premise breaks it.  Refuted: its counterexample does so when it travels again."""
    answered: Counter[tuple[c.Quantifier, type]] = Counter()

    @tries(60)
    @given(data=st.data())
    def law(data: st.DataObject) -> None:
        setting = data.draw(settings(most=2, most_proxies=2), label="setting")
        assume(hop_bound(setting.host, rules=setting.rules) <= DEEPEST)
        sender = data.draw(some.one(senders_of(setting)), label="sender")
        drawn = data.draw(claims_about(setting, sender), label="claim")
        prover = Prover(setting, Budget(timeout_ms=3000))
        followed = list(trips(data, setting, sender, drawn.premise, PACKETS))
        for quantifier in c.Quantifier:
            claim = replace(drawn, quantifier=quantifier)
            answer = prover.answer(claim)
            answered[quantifier, type(answer)] += 1
            _is_true(answer, claim, setting, followed)

    law()
    for quantifier in c.Quantifier:
        assert answered[quantifier, Proved] >= 3, answered
        assert answered[quantifier, Refuted] >= 3, answered


# -- journeys of many hops ------------------------------------------------------------------------------

TO_FIRST = c.Premise(
    c.Outside("eth0"),
    c.Kind.CONNECTION,
    c.Filter(
        protocol=6,
        source=AddressSet((Net.read("10.0.0.7"),)),
        to=AddressSet((Net.read("10.0.0.5"),)),
        ports=(Span(FIRST, FIRST),),
    ),
)


def every(*verbs: c.Verb) -> c.PacketClaim:
    return c.PacketClaim(c.Quantifier.EVERY, TO_FIRST, verbs)


def no(*verbs: c.Verb) -> c.PacketClaim:
    return c.PacketClaim(c.Quantifier.NO, TO_FIRST, verbs)


APPLICATION = h.Dial(ip("127.0.0.1"), APP)
AWAY = h.Dial(ip("8.8.8.8"), 443)


def test_a_chain_of_three_proxies_is_proved_to_end() -> None:
    answer = Prover(chain_of_proxies(3, APPLICATION)).answer(every(c.Ends()))
    assert isinstance(answer, Proved)
    assert answer.hops == 4


def test_a_journey_of_seven_hops_is_proved_to_end() -> None:
    answer = Prover(chain_of_proxies(6, APPLICATION)).answer(every(c.Ends()))
    assert isinstance(answer, Proved)
    assert answer.hops == 7


AT_THE_SEVENTH_HOP = (
    (every(c.Reaches("app")), AWAY, None),
    (no(c.Leaves("eth0")), AWAY, None),
    (no(c.Reaches("app", APP)), APPLICATION, None),
    (no(c.Ends()), APPLICATION, None),
    (every(c.Not(c.Ends())), APPLICATION, None),
    # Where each proxy may leave the chain, one way alone leads to its end.
    (every(c.Reaches("app")), AWAY, APPLICATION),
    (no(c.Leaves()), AWAY, APPLICATION),
    (every(c.Not(c.Reaches("app"))), APPLICATION, AWAY),
    (no(c.Reaches("app")), APPLICATION, AWAY),
)
"""Claims that are broken at the seventh hop and not before, with what the last proxy dials, and what each may."""


@pytest.mark.parametrize(("claim", "end", "aside"), AT_THE_SEVENTH_HOP)
def test_a_violation_at_the_seventh_hop_is_found(
    claim: c.PacketClaim, end: h.Dial, aside: h.Dial | None
) -> None:
    setting = chain_of_proxies(6, end, aside=aside)
    answer = Prover(setting).answer(claim)
    assert isinstance(answer, Refuted)
    assert answer.counterexample is not None
    assert again(answer.counterexample, setting).stops[-1].hop == 6


def test_without_a_violation_a_chain_of_choices_is_proved() -> None:
    setting = chain_of_proxies(6, APPLICATION, aside=APPLICATION)
    answer = Prover(setting).answer(no(c.Leaves()))
    assert isinstance(answer, Proved)
    assert answer.hops == 7


def test_a_rule_that_is_hit_at_the_seventh_hop_alone_is_alive() -> None:
    setting = chain_of_proxies(6, APPLICATION, dropping(APP))
    ref = c.RuleRef("filter", "OUTPUT", 1)
    premise = replace(TO_FIRST, filter=replace(TO_FIRST.filter, protocol=6))
    answer = Prover(setting).answer(c.PacketClaim(c.Quantifier.NO, premise, (c.Hits(ref),)))
    assert isinstance(answer, Refuted)
    assert answer.counterexample is not None
    assert answer.counterexample.journey.stops[-1].hop == 6


def test_a_circle_of_six_proxies_is_refuted_to_end() -> None:
    setting = chain_of_proxies(6, h.Dial(ip("127.0.0.1"), FIRST))
    answer = Prover(setting).answer(every(c.Ends()))
    assert isinstance(answer, Refuted)
    assert answer.counterexample is not None
    assert isinstance(again(answer.counterexample, setting).end, Loop)


def test_what_follows_is_told_to_its_end() -> None:
    setting = chain_of_proxies(6, AWAY)
    journey = travel(setting, FromOutside("eth0"), _syn(), Choices())
    assert journey.end == Left("eth0")
    assert journey.stops[-1].hop == 6


def _syn() -> Packet:
    return Packet(ip("10.0.0.7"), ip("10.0.0.5"), 6, 40000, FIRST, 2, in_iface="eth0")
