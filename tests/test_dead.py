"""Dead rules: what is called dead no packet of a small world matches, and what lives is shown alive."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from verifier import claims as c
from verifier import journeys as j
from verifier import rules as r
from verifier.dead import by_the_rules_alone, on_host
from verifier.hosts import Setting
from verifier.prove import Budget, Case, Prover
from verifier.symbolic.terms import Bool, Outcome, Result
from verifier.values import TCP, CtState, Ids, Iface, Span

from . import small
from .small import OPAQUE, TooMany, app, envoy, host, no, rule, rule_set, table, trips

FEW = Budget(samples=2)


def refs(of: r.Table) -> list[c.RuleRef]:
    return [
        c.RuleRef(of.name, name, number)
        for name, chain in of.chains.items()
        for number in range(1, len(chain.rules) + 1)
    ]


def alone(of: r.Table) -> list[bool | None]:
    """For each rule whether it is dead by the rules alone, in order; None where nobody knows."""
    lives = by_the_rules_alone(of, refs(of), FEW)
    return [lives[ref].dead for ref in refs(of)]


@settings(max_examples=60)
@given(data=st.data())
def test_what_is_called_dead_no_packet_matches(data: st.DataObject) -> None:
    setting = data.draw(small.settings(), label="setting")
    prover = Prover(setting, FEW)
    for of in setting.rules.tables.values():
        lives = on_host(prover, of, refs(of))
        rules_alone = by_the_rules_alone(of, refs(of), FEW)
        for who in (c.Outside("eth0"), c.OfProcess("app"), c.OfProcess("envoy")):
            for sender, begin in small.packets(c.Premise(who), setting):
                try:
                    journeys = [told for _, told in trips(setting, sender, begin)]
                except TooMany:
                    reject()
                for stop in (s for told in journeys for s in told.stops if s.act is j.Act.MATCHED):
                    if stop.table == of.name and stop.chain is not None and stop.rule is not None:
                        ref = c.RuleRef(of.name, stop.chain, stop.rule)
                        assert not lives[ref].dead
                        assert not rules_alone[ref].dead
        for ref, life in lives.items():
            if life.witness is not None:
                stops = life.witness.journey.stops
                assert any((s.table, s.chain, s.rule) == (ref.table, ref.chain, ref.rule) for s in stops)
                assert not life.witness.journey.asked


def crowded(number: int) -> tuple[Setting, r.Table]:
    """A host where one rule takes all of TCP and so many after it nothing, and their table."""
    to_envoy = r.Redirect(Span.one(15001))
    idle = [
        rule(r.Protocol(TCP), r.DestinationPorts(Span.one(n)), then=to_envoy) for n in range(1, number + 1)
    ]
    nat = table("nat", OUTPUT=[rule(r.Protocol(TCP), then=r.Accept()), *idle])
    return Setting(host(app(), envoy()), rule_set(nat)), nat


def test_all_dead_rules_together_cost_as_many_questions_as_one() -> None:
    asked = []
    for number in (1, 30):
        setting, nat = crowded(number)
        scripts: list[str] = []
        lives = on_host(Prover(setting, Budget(scripts=scripts)), nat, refs(nat))
        assert [life.dead for life in lives.values()] == [False] + [True] * number
        asked.append(len(scripts))
    assert asked[0] == asked[1]


def test_where_the_solver_gives_up_on_several_rules_each_is_asked_for_alone() -> None:
    setting, nat = crowded(9)
    prover = Prover(setting, FEW)
    ask = prover.ask
    given_up = []

    def tired(case: Case, *extra: Bool) -> Result:
        if any(part.op == "or" and len(part.args) == 9 for part in extra):
            given_up.append(extra)
            return Result(Outcome.UNKNOWN, reason="tired")
        return ask(case, *extra)

    prover.ask = tired  # type: ignore[method-assign]
    assert [life.dead for life in on_host(prover, nat, refs(nat)).values()] == [False] + [True] * 9
    assert given_up


def test_what_is_forwarded_has_the_mac_of_its_frame_behind_routing_too() -> None:
    asked = rule(r.MacSource(0x020000000001), then=r.Drop())
    assert alone(table("mangle", POSTROUTING=[asked])) == [False]
    assert alone(table("mangle", OUTPUT=[asked])) == [True]


def test_the_packet_that_shows_a_live_rule_is_told_in_words() -> None:
    of = table("filter", OUTPUT=[rule(r.Protocol(TCP), r.OutInterface(Iface("eth0")), then=r.Drop())])
    (life,) = by_the_rules_alone(of, refs(of), FEW).values()
    assert re.fullmatch(
        r"for instance tcp [\d.]+:\d+ → [\d.]+:\d+  [\w+ ]+ in OUTPUT, out by eth0(, uid \d+ gid \d+)?, [A-Z]+",
        life.why,
    )


def test_a_rule_after_a_target_that_is_not_understood_may_be_alive() -> None:
    """`-j TCPMSS` and its like let the packet go on."""
    clamp = rule(then=r.OpaqueTarget("-j TCPMSS --clamp-mss-to-pmtu"))
    drop, never = rule(then=r.Drop()), rule(then=r.Accept())
    assert alone(table("mangle", FORWARD=[clamp, drop])) == [False, None]
    assert alone(table("mangle", FORWARD=[drop, never, clamp])) == [False, True, True]
    called = table("mangle", FORWARD=[rule(then=r.Jump("more")), drop], more=[clamp])
    assert alone(called) == [False, None, False]


@pytest.mark.parametrize("unlikely", ["~", "a", "0"])
def test_a_name_that_goes_on_as_no_rule_says_is_always_tried(unlikely: str) -> None:
    """eth+ stands for eth7 too, whatever endings of eth the rules before it ask for."""
    names = ["eth", f"eth{unlikely}+"]
    rules = [*[rule(r.InInterface(Iface(n)), then=r.Accept()) for n in names]]
    rules.append(rule(r.InInterface(Iface("eth+")), then=r.Drop()))
    assert alone(table("filter", INPUT=rules)) == [False, False, False]


def test_the_longest_names_are_tried_too() -> None:
    longest = "abcdefghijklmno"
    for beginning in (longest[:-1], longest[:-2]):
        rules = [
            rule(r.InInterface(Iface(longest)), then=r.Accept()),
            rule(r.InInterface(Iface(f"{beginning}+")), then=r.Drop()),
            rule(r.InInterface(Iface(longest)), then=r.Drop()),
        ]
        assert alone(table("filter", INPUT=rules)) == [False, False, True]


@pytest.mark.parametrize(
    ("asked", "dead"),
    [
        (r.InInterface(Iface("eth0")), None),
        (r.InInterface(Iface("eth+")), None),
        (r.InInterface(Iface("eth7")), True),
        (r.InInterface(Iface("wlan+")), True),
        (no(r.InInterface(Iface("eth7"))), None),
        (no(r.InInterface(Iface("+"))), True),
        (r.OutInterface(Iface("eth0")), None),
        (r.OutInterface(Iface("eth7")), True),
    ],
)
def test_what_asks_for_an_interface_that_the_host_does_not_have_is_dead_on_it_for_later_packets_too(
    asked: r.Match | r.Literal, dead: bool | None
) -> None:
    later = rule(asked, r.CtStates(frozenset({CtState.ESTABLISHED})), then=r.Drop())
    of = table("filter", FORWARD=[later])
    (life,) = on_host(Prover(Setting(host(app()), rule_set(of))), of, refs(of)).values()
    assert life.dead is dead


def test_an_opaque_match_decides_nothing() -> None:
    maybe, sure = rule(OPAQUE, then=r.Drop()), rule(then=r.Accept())
    assert alone(table("filter", INPUT=[maybe, sure, sure])) == [None, None, True]


def test_a_rule_that_only_a_second_round_matches_upsets_nobody() -> None:
    """Envoy's dials go round from state to state; the rule is matched by a dial from one port alone."""
    rules = rule_set(
        table(
            "nat",
            PREROUTING=[rule(r.Protocol(TCP), then=r.Redirect(Span.one(15001)))],
            OUTPUT=[
                rule(r.OwnerIds(uid=Ids(1337, 1337)), r.Protocol(TCP), r.SourcePorts(Span(2, 2)), then=None),
                rule(r.Protocol(TCP), then=r.Redirect(Span.one(15001))),
            ],
        )
    )
    setting = Setting(host(envoy(), app()), rules)
    nat = rules.tables["nat"]
    lives = on_host(Prover(setting), nat, refs(nat))
    assert not any(life.dead for life in lives.values())


def test_whether_a_fragment_comes_by_nobody_knows_by_the_rules_alone() -> None:
    """Journeys are told of whole packets, so a rule for fragments is not called dead by what is seen of them."""
    asked, whole = rule(r.Fragment(), then=r.Drop()), rule(no(r.Fragment()), then=r.Accept())
    assert alone(table("filter", INPUT=[asked, whole, rule()])) == [None, False, None]
    assert alone(
        table(
            "raw",
            PREROUTING=[
                rule(r.Fragment(), r.Protocol(17)),
                rule(r.Fragment(), no(r.InInterface(Iface("+")))),
            ],
        )
    ) == [None, True]
    unread = table("filter", INPUT=[rule(OPAQUE, then=r.Drop()), asked])
    assert alone(unread) == [None, None]


def test_on_a_host_a_fragment_is_named_as_the_reason() -> None:
    of = table("filter", OUTPUT=[rule(r.Fragment(), then=r.Drop())])
    (life,) = on_host(Prover(Setting(host(app()), rule_set(of)), FEW), of, refs(of)).values()
    assert life.dead is None
    assert "fragment" in life.why


def test_where_conntrack_is_on_a_rule_for_fragments_is_dead() -> None:
    """They are put together before raw."""
    of = table(
        "filter", OUTPUT=[rule(r.Fragment(), then=r.Drop()), rule(r.CtStates(frozenset({CtState.NEW})))]
    )
    lives = on_host(Prover(Setting(host(app()), rule_set(of)), FEW), of, refs(of))
    assert [life.dead for life in lives.values()] == [True, False]
