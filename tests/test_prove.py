"""Answers agree with what is so: of a small world all packets and all choices are tried."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given, note, reject, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from verifier import claims as c
from verifier import hosts as h
from verifier import journeys as j
from verifier import rules as r
from verifier.answers import Answer, Counterexample, Proved, Refuted, Unknown, Vacuous
from verifier.bounds import hop_bound
from verifier.concrete import claims as concrete
from verifier.hosts import Setting
from verifier.prove import Budget, Case, Prover
from verifier.symbolic import chains
from verifier.symbolic.terms import Bool, Outcome, Result
from verifier.values import TCP, AddressSet, Ids, Net, Span

from . import small
from .small import (
    ENVOYS,
    FAR,
    OPAQUE,
    OWN,
    TooMany,
    Trip,
    app,
    envoy,
    host,
    process,
    rule,
    rule_set,
    table,
    trips,
)

FEW = Budget(samples=4)


def broken(claim: c.PacketClaim, journey: j.Journey, setting: h.Setting) -> bool:
    """This journey is against the claim (of `some ... can`: does what is looked for)."""
    told = [concrete.holds(v, journey, setting) for v in claim.verbs]
    return False in told if claim.quantifier is c.Quantifier.EVERY else all(x is True for x in told)


def all_trips(claim: c.PacketClaim, setting: h.Setting, hops: int | None) -> Iterator[tuple[Trip, j.Journey]]:
    for sender, begin in small.packets(claim.premise, setting):
        for trip, journey in trips(setting, sender, begin, hops):
            if concrete.meets(claim.premise, setting, sender, journey.stops[0].packet):
                yield trip, journey


def for_sure(claim: c.PacketClaim, setting: h.Setting, found: Counterexample) -> bool:
    """The counterexample meets the premise, and is against the claim whatever opaque matches answer."""
    first = Trip(found.sender, found.journey.stops[0].packet, found.choices)
    if found.hop == 0:
        assert concrete.meets(claim.premise, setting, found.sender, found.journey.stops[0].packet)
        return _for_sure(claim, setting, first)
    stem = c.Premise(
        c.Outside("eth0") if isinstance(found.sender, j.FromOutside) else c.OfProcess(found.sender.process)
    )
    assert concrete.meets(stem, setting, found.sender, found.journey.stops[0].packet)
    for answered in _answered(first, setting, found.hop + 1):
        journey = answered.travel(setting, found.hop + 1)
        if len(journey.states) < found.hop:
            return False
        state = journey.states[found.hop - 1]
        spoken = next(s for s in journey.stops if s.hop == found.hop).packet
        dial = j.FromProxy(state.process, state.proxy)
        made = found.choices
        later = j.Choices(
            {},
            {n - found.hop: x for n, x in made.ports.items() if n >= found.hop},
            {n - found.hop: x for n, x in made.picks.items() if n >= found.hop},
        )
        if not concrete.meets(claim.premise, setting, dial, spoken):
            return False
        if not _for_sure(claim, setting, Trip(dial, state, later)):
            return False
    return True


def _for_sure(claim: c.PacketClaim, setting: h.Setting, trip: Trip) -> bool:
    for answered in _answered(trip, setting, None):
        journey = answered.travel(setting)
        if not broken(claim, journey, setting):
            return False
        if isinstance(journey.end, j.Loop) and not broken(claim, replace(journey, end=j.Onward()), setting):
            if not _always_closes(answered, journey, setting):
                return False
    return True


def _answered(trip: Trip, setting: h.Setting, hops: int | None) -> Iterator[Trip]:
    """The trip with each answer of the opaque matches on its way."""
    waiting = [replace(trip, choices=replace(trip.choices, opaque={}))]
    while waiting:
        one = waiting.pop()
        given = one.choices.opaque
        asked = [e for e in one.travel(setting, hops).asked if e not in given]
        if not asked:
            yield one
            continue
        waiting += [
            replace(one, choices=replace(one.choices, opaque={**given, asked[0]: truth})) for truth in j.Truth
        ]


def _always_closes(trip: Trip, journey: j.Journey, setting: h.Setting) -> bool:
    """Every draw and answer leads from the state where the cycle begins back to it, with the same picks."""
    assert isinstance(journey.end, j.Loop)
    states = small.dialled(trip, journey)
    back = journey.end.back_to
    length = len(journey.states) + 1 - back
    first = states[back]
    for other, told in trips(setting, j.FromProxy(first.process, first.proxy), first, length + 1):
        went = {0: first, **dict(enumerate(told.states, 1))}
        picked = all(
            other.choices.picks.get(n, 0) == trip.choices.picks.get(back + n, 0)
            for n in range(length)
            if n in went and went[n] == states.get(back + n)
        )
        if picked and went.get(length) != first:
            return False
    return True


def check(claim: c.PacketClaim, setting: h.Setting) -> Answer:
    """The answer, after it was held against all journeys of the small world."""
    answer = Prover(setting, FEW).answer(claim)
    note(f"{type(answer).__name__} {getattr(answer, 'reason', '')}")
    every = list(all_trips(claim, setting, None))
    loops = any(isinstance(journey.end, j.Loop) for _, journey in every)
    if loops and len(every) < 200:
        with suppress(TooMany):
            every += all_trips(claim, setting, 4)
    against = [(trip, journey) for trip, journey in every if broken(claim, journey, setting)]
    vague = any(journey.asked or isinstance(journey.end, j.Unmodelled | j.Group) for _, journey in every)
    dials = isinstance(claim.premise.who, c.OfProxy)
    there_is = claim.quantifier is c.Quantifier.SOME
    match answer:
        case Proved() if there_is:
            assert answer.witness is not None
            assert for_sure(claim, setting, answer.witness)
        case Refuted() if there_is:
            assert not against, against[0]
            assert every or dials
        case Proved():
            assert not against, against[0]
            assert every or dials
        case Refuted():
            assert answer.counterexample is not None
            assert for_sure(claim, setting, answer.counterexample)
        case Vacuous():
            assert dials or not every
        case Unknown():
            assert vague or loops or dials
    return answer


def claims(setting: h.Setting) -> st.SearchStrategy[c.PacketClaim]:
    return st.builds(
        c.PacketClaim,
        st.sampled_from(c.Quantifier),
        small.premises(setting),
        st.lists(small.verbs(setting), min_size=1, max_size=2).map(tuple),
    )


@settings(max_examples=150)
@given(data=st.data())
def test_answers_agree_with_brute_force(data: st.DataObject) -> None:
    setting = data.draw(small.settings(), label="setting")
    for _ in range(3):
        claim = data.draw(claims(setting), label="claim")
        try:
            check(claim, setting)
        except TooMany:
            reject()


# -- what was once answered wrong --------------------------------------------------------------------


ANY = c.Filter()


def answer(
    setting: h.Setting,
    quantifier: c.Quantifier,
    who: c.Who,
    *verbs: c.Verb,
    filter: c.Filter = ANY,
) -> Answer:
    claim = c.PacketClaim(quantifier, c.Premise(who, c.Kind.CONNECTION, filter), verbs)
    return Prover(setting, FEW).answer(claim)


EVERY, NO, SOME = c.Quantifier.EVERY, c.Quantifier.NO, c.Quantifier.SOME
APP, OUTSIDE, DIALS = c.OfProcess("app"), c.Outside("eth0"), c.OfProxy("envoy", "in")
TO_ENVOY = rule(r.Protocol(TCP), then=r.Redirect(Span.one(15001)))
PORT_80 = c.Filter(protocol=TCP, ports=(Span(80, 80),))


def test_a_journey_that_goes_on_may_still_end() -> None:
    """Every packet of the app is accepted by Envoy, and no journey has ended after the first hop."""
    setting = Setting(
        host(envoy(), app()),
        rule_set(
            table(
                "nat",
                OUTPUT=[
                    rule(
                        r.OwnerIds(uid=Ids(1337, 1337), uid_negated=True),
                        r.Protocol(TCP),
                        then=r.Redirect(Span.one(15001)),
                    )
                ],
            )
        ),
    )
    assert isinstance(answer(setting, EVERY, APP, c.Not(c.Ends()), filter=PORT_80), Refuted)
    assert isinstance(answer(setting, NO, APP, c.Ends(), filter=PORT_80), Refuted)


def test_a_journey_round_and_round_never_ends() -> None:
    setting = Setting(host(envoy(source=h.KernelChooses()), app()), rule_set(table("nat", OUTPUT=[TO_ENVOY])))
    assert isinstance(
        answer(setting, NO, APP, c.Ends(), filter=c.Filter(TCP, AddressSet((Net(small.FAR),)))), Proved
    )


def test_a_stem_that_an_opaque_match_may_cut_refutes_nothing() -> None:
    """Only where nobody knows whether a frame is redirected does Envoy ever dial."""
    rules = rule_set(table("nat", PREROUTING=[rule(OPAQUE, then=r.Redirect(Span.one(15001)))], OUTPUT=[]))
    setting = Setting(host(envoy()), rules)
    found = answer(setting, EVERY, DIALS, c.Reaches("envoy"), filter=c.Filter(ports=(Span(80, 80),)))
    assert isinstance(found, Unknown)
    sure = rule_set(table("nat", PREROUTING=[rule(then=r.Redirect(Span.one(15001)))], OUTPUT=[]))
    found = answer(replace(setting, rules=sure), EVERY, DIALS, c.Reaches("envoy"), filter=PORT_80)
    assert isinstance(found, Refuted)


def test_what_a_dial_comes_to_is_followed_past_the_states_of_its_stem() -> None:
    """Outside, `in`, `out`, and `in` again, whose dials enter the chain: the stem's journey stops where `in` comes
    again, and has entered the chain before `out` dialled.  Only for ports that nobody sends to it is not entered.
    """
    itself = (Span(15001, 15006),)
    inward = h.Proxy("in", 15001, (h.ProxyRoute((h.Dial(),), h.BoundTo(ENVOYS)),), itself)
    outward = h.Proxy("out", 15006, (h.ProxyRoute((h.Dial(),), h.BoundTo(OWN)),), itself)
    port_80 = (r.Protocol(TCP), r.DestinationPorts(Span(80, 80)))
    to_80 = rule(*port_80, then=r.Redirect(Span.one(15001)))
    rules = rule_set(
        table(
            "nat",
            PREROUTING=[to_80],
            OUTPUT=[rule(r.Source(Net(ENVOYS)), then=r.Jump("more")), to_80],
            more=[rule(*port_80, then=r.Redirect(Span.one(15006)))],
        )
    )
    setting = Setting(host(process("envoy", 1337, 15001, 15006, proxies=(inward, outward))), rules)
    found = answer(setting, EVERY, c.OfProxy("envoy", "out"), c.Enters(c.ChainRef("nat", "more")))
    assert isinstance(found, Unknown)
    assert found.reason == "no declared sender reaches it"


def test_a_loop_that_another_dial_may_leave_is_not_hidden_by_a_shorter_list() -> None:
    """In the cycle's first state the second of two dials goes round; where a port is drawn that leaves the
    cycle, another route, with a choice of its own, is taken.
    """
    routes = (
        h.ProxyRoute((h.Dial(FAR, 80), h.Dial(FAR, 443), h.Dial(OWN, 81)), h.BoundTo(OWN), (Span(81, 81),)),
        h.ProxyRoute((h.Dial(FAR, 80), h.Dial(FAR, 443)), h.BoundTo(OWN)),
    )
    proxy = h.Proxy("in", 15001, routes)
    leave = rule(
        r.Protocol(TCP), r.OwnerIds(uid=Ids(1337, 1337)), r.SourcePorts(Span(1, 40001)), then=r.Accept()
    )
    rules = rule_set(
        table(
            "nat",
            PREROUTING=[rule(r.Protocol(TCP), then=r.Redirect(Span.one(15001)))],
            OUTPUT=[
                leave,
                rule(r.Protocol(TCP), r.DestinationPorts(Span(81, 81)), then=r.Redirect(Span.one(15001))),
            ],
        )
    )
    setting = Setting(host(process("envoy", 1337, 15001, proxies=(proxy,))), rules)
    assert isinstance(
        answer(setting, EVERY, OUTSIDE, c.Ends(), filter=c.Filter(TCP, AddressSet((Net(OWN),)))), Unknown
    )


def test_a_loop_that_something_may_happen_in_does_not_refute_that_it_happens() -> None:
    """The loop closes for every draw, but whether the chain is entered is drawn anew each time."""
    rules = rule_set(
        table(
            "nat",
            PREROUTING=[rule(r.Protocol(TCP), then=r.Redirect(Span.one(15001)))],
            OUTPUT=[
                rule(r.Protocol(TCP), r.SourcePorts(Span(1, 30000)), then=r.Jump("more")),
                rule(r.Protocol(TCP), then=r.Redirect(Span.one(15001))),
            ],
            more=[],
        )
    )
    setting = Setting(host(envoy()), rules)
    assert isinstance(answer(setting, EVERY, OUTSIDE, c.Ends(), filter=PORT_80), Refuted)
    assert isinstance(
        answer(setting, EVERY, OUTSIDE, c.Enters(c.ChainRef("nat", "more")), filter=PORT_80), Unknown
    )


def test_what_grew_too_large_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hop that was half written would have no journey that goes on."""
    rules = [rule(r.Protocol(TCP), r.SourcePorts(Span(n, n)), then=r.Log("-j LOG")) for n in range(1, 40)]
    setting = Setting(host(envoy(), app()), rule_set(table("nat", OUTPUT=[*rules, TO_ENVOY])))
    prover = Prover(setting, FEW)
    claim = c.PacketClaim(EVERY, c.Premise(APP, c.Kind.CONNECTION, PORT_80), (c.Ends(),))
    for most in range(40, 100, 5):
        monkeypatch.setattr(chains, "LARGEST", most)
        for _ in range(2):
            assert not isinstance(prover.answer(claim), Proved)


def test_vacuous_is_not_said_where_the_solver_gave_up(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting(host(envoy(), app()), rule_set(table("nat", PREROUTING=[TO_ENVOY])))
    prover = Prover(setting, FEW)
    asked = Prover.ask

    def gives_up(self: Prover, case: Case, *extra: Bool) -> Result:
        if isinstance(case.journeys.sender, j.FromProxy):
            return asked(self, case, *extra)
        return Result(Outcome.UNKNOWN, reason="timeout")

    monkeypatch.setattr(Prover, "ask", gives_up)
    claim = c.PacketClaim(NO, c.Premise(DIALS, filter=PORT_80), (c.Reaches("envoy"),))
    assert isinstance(prover.answer(claim), Unknown)


def test_a_proxy_that_nobody_reaches_makes_claims_vacuous() -> None:
    setting = Setting(host(envoy(refuses=(15001,)), app()), rule_set(table("nat", OUTPUT=[])))
    assert isinstance(answer(setting, NO, DIALS, c.IsRejected()), Vacuous)
    assert isinstance(answer(setting, SOME, DIALS, c.IsRejected()), Vacuous)


def test_a_proxy_that_dials_as_any_of_several_users_does_not_upset_a_proof() -> None:
    """An example that was found before further hops were written has no ids for them, and 0 is none of them."""
    rules = rule_set(
        table(
            "nat",
            PREROUTING=[rule(r.Protocol(TCP), then=r.Redirect(Span.one(15001)))],
            OUTPUT=[rule(r.OwnerIds(uid=Ids(0, 0)), then=r.Redirect(Span.one(15001)))],
        )
    )
    prover = Prover(Setting(host(envoy(uid="1000-2000"), app()), rules), FEW)
    premise = c.Premise(OUTSIDE, c.Kind.CONNECTION, replace(PORT_80, to=AddressSet((Net(OWN),))))
    for verb in (c.Reaches("envoy"), c.Reaches("app")):
        assert isinstance(prover.answer(c.PacketClaim(EVERY, premise, (verb,))), Proved)


def test_no_journey_of_a_proxy_that_dials_zero_is_longer_than_the_bound() -> None:
    """What is dialled at 0.0.0.0 goes to the source of the dial: one of three here."""
    sources = (h.BoundTo(ENVOYS), h.BoundTo(OWN), h.KernelChooses())
    for source in sources:
        routes = (h.ProxyRoute((h.Dial(0, 81), h.Dial(0, 82), h.Dial(0, 80)), source),)
        proxies = tuple(h.Proxy(f"at{p}", p, routes) for p in (80, 81, 82))
        setting = Setting(host(process("envoy", 1337, 80, 81, 82, proxies=proxies)), rule_set(table("nat")))
        lengths = {len(told.states) for _, told in trips(setting, j.FromOutside("eth0"), small.syn(80))}
        assert max(lengths) <= hop_bound(setting.host, rules=setting.rules)


def test_what_a_proxy_dials_another_time_need_not_meet_the_premise() -> None:
    """In the state of the first dial, which is spoken of for its port, the next dial goes to another port."""
    rules = rule_set(
        table(
            "nat",
            PREROUTING=[rule(r.Protocol(TCP), then=r.Redirect(Span.one(15001)))],
            OUTPUT=[
                rule(r.Protocol(TCP), r.DestinationPorts(Span(82, 82)), then=r.Jump("more")),
                rule(r.Protocol(TCP), r.DestinationPorts(Span(81, 81)), then=r.Redirect(Span.one(15001))),
            ],
            more=[],
        )
    )
    setting = Setting(host(envoy(h.Dial(), h.Dial(OWN, 82))), rules)
    port_81 = c.Filter(TCP, AddressSet((Net(OWN),)), ports=(Span(81, 81),))
    assert not isinstance(
        answer(setting, NO, DIALS, c.Enters(c.ChainRef("nat", "more")), filter=port_81), Proved
    )
