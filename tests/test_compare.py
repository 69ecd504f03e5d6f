"""What two hosts make of the same packets, held against all journeys of a small world."""

from __future__ import annotations

import pytest
from hypothesis import given, note, reject, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from verifier import claims as c
from verifier import hosts as h
from verifier import journeys as j
from verifier import rules as r
from verifier import sets as s
from verifier.answers import Answer, Proved, Refuted, Unknown, Vacuous
from verifier.compare import keep, same
from verifier.concrete import claims as concrete
from verifier.hosts import Setting
from verifier.prove import Budget, Prover
from verifier.values import TCP, UDP, Family, Ids, MarkMask, Net, Span

from . import small
from .small import OPAQUE, OWN, PEER, TooMany, app, envoy, host, process, rule, rule_set, table, trips

OUTSIDE, APP = c.Outside(), c.OfProcess("app")
PORT_80 = c.Filter(protocol=TCP, ports=(Span(80, 80),))
TO_ENVOY = rule(r.Protocol(TCP), then=r.Redirect(Span.one(15001)))


def fare(first: Setting, second: Setting, premise: c.Premise) -> Answer:
    return same(first, second, c.SameClaim(premise, "one", "other"), Budget())


def outcomes(setting: Setting, sender: j.Sender, begin: j.ProxyState | small.Packet) -> set[object]:
    """What may come of a packet; a source port that is drawn is as good as another."""
    found: set[object] = set()
    for _, journey in trips(setting, sender, begin):
        if journey.stops[-1].hop > 0:
            last = replace(journey.stops[-1], packet=replace(journey.final, sport=1))
            journey = replace(journey, stops=(*journey.stops[:-1], last))
        found.add(concrete.outcome(journey))
    return found


@st.composite
def changed(draw: st.DrawFn, setting: Setting) -> Setting:
    """The same host with something else: its rules, its proxies, or its listeners."""
    other = draw(small.settings(opaque=False))
    what = draw(st.sampled_from(["rules", "host", "order"]))
    if what == "rules":
        return Setting(setting.host, other.rules)
    if what == "host":
        return Setting(other.host, setting.rules)
    nat = setting.rules.tables["nat"]
    turned = replace(nat.chains["OUTPUT"], rules=nat.chains["OUTPUT"].rules[::-1])
    tables = {**setting.rules.tables, "nat": r.Table("nat", {**nat.chains, "OUTPUT": turned})}
    return Setting(setting.host, r.RuleSet(tables))


@settings(max_examples=80)
@given(data=st.data())
def test_answers_agree_with_brute_force(data: st.DataObject) -> None:
    first = data.draw(small.settings(opaque=False), label="first")
    second = data.draw(changed(first), label="second")
    premise = data.draw(
        small.premises(first).filter(lambda p: not isinstance(p.who, c.OfProxy)), label="premise"
    )
    answer = fare(first, second, premise)
    note(f"{type(answer).__name__} {getattr(answer, 'reason', '')}")
    loops = False
    apart = []
    for sender, packet in small.packets(premise, first):
        try:
            one, other = outcomes(first, sender, packet), outcomes(second, sender, packet)
        except TooMany:
            reject()
        loops = loops or ("loop",) in one | other
        if one != other:
            apart.append((packet, one, other))
    match answer:
        case Proved():
            assert not apart
        case Refuted():
            assert apart
        case Unknown():
            assert loops or not apart
        case Vacuous():
            pytest.fail("there are packets")


def test_opaque_matches_of_different_text_answer_apart() -> None:
    other = r.Opaque("-m bpf --bytecode 1")
    one, two = (
        Setting(host(app()), rule_set(table("filter", INPUT=[rule(match, then=r.Drop())])))
        for match in (OPAQUE, other)
    )
    assert isinstance(fare(one, two, c.Premise(OUTSIDE, filter=PORT_80)), Unknown)
    assert isinstance(fare(one, one, c.Premise(OUTSIDE, filter=PORT_80)), Proved)


BANNED = r.MatchSet("banned", (r.Direction.SOURCE,))
TO_BANNED = r.MatchSet("banned", (r.Direction.DESTINATION,))


@pytest.mark.parametrize(
    ("literal", "beside", "kind"),
    [
        (r.Literal(BANNED), None, Proved), (r.Literal(BANNED, True), None, Unknown), (r.Literal(TO_BANNED), None, Unknown),
        (r.Literal(BANNED), 0, Proved), (r.Literal(BANNED), 1, Unknown), (r.Literal(TO_BANNED), 0, Unknown),
    ],
)  # fmt: skip
def test_only_the_same_question_about_the_same_set_has_the_same_answer(
    literal: r.Literal, beside: int | None, kind: type
) -> None:
    """Where hosts tell of the set, its entry is there for some time."""

    def setting(literal: r.Literal, address: int | None) -> Setting:
        rules = rule_set(table("filter", INPUT=[rule(literal, then=r.Drop())]))
        if address is None:
            return Setting(host(), rules)
        entry = s.Entry((s.Address(address),), timeout=9)
        banned = s.IpSet("banned", s.SetType.HASH_IP, (entry,), Family.IPV4, timeout=9)
        return Setting(replace(host(), sets={"banned": banned}), rules)

    first = setting(r.Literal(BANNED), beside if beside is None else PEER)
    assert isinstance(
        fare(first, setting(literal, beside if beside is None else PEER + beside), c.Premise(OUTSIDE)), kind
    )


def test_an_opaque_match_answers_apart_where_it_is_asked_of_another_packet() -> None:
    """The mark is the same in the end, but not when the match is asked."""
    ask, clear = rule(OPAQUE, then=r.Drop()), rule(then=r.SetMark(MarkMask(0)))
    one = Setting(
        host(app()), rule_set(table("mangle", INPUT=[rule(then=r.SetMark(MarkMask(1))), ask, clear]))
    )
    two = Setting(host(app()), rule_set(table("mangle", INPUT=[rule(then=r.Log("-j LOG")), ask, clear])))
    assert isinstance(fare(one, two, c.Premise(OUTSIDE, filter=PORT_80)), Unknown)


def test_a_further_dial_to_choose_from_is_seen() -> None:
    one, two = (
        Setting(host(envoy(*dials), app()), rule_set(table("nat", PREROUTING=[TO_ENVOY], OUTPUT=[])))
        for dials in (
            (h.Dial(OWN, 80), h.Dial(OWN, 81)),
            (h.Dial(OWN, 80), h.Dial(OWN, 81), h.Dial(OWN, 82)),
        )
    )
    assert isinstance(fare(one, two, c.Premise(OUTSIDE, filter=PORT_80)), Refuted)


def test_the_same_dials_in_another_order_are_not_told_apart() -> None:
    one, two = (
        Setting(host(envoy(*dials), app()), rule_set(table("nat", PREROUTING=[TO_ENVOY], OUTPUT=[])))
        for dials in ((h.Dial(OWN, 80), h.Dial(OWN, 81)), (h.Dial(OWN, 81), h.Dial(OWN, 80)))
    )
    assert not isinstance(fare(one, two, c.Premise(OUTSIDE, filter=PORT_80)), Refuted)


def test_a_further_user_that_a_proxy_may_be_is_seen() -> None:
    drop = rule(r.OwnerIds(uid=Ids(1500, 1500)), then=r.Drop())
    one, two = (
        Setting(
            host(envoy(uid=uid), app()),
            rule_set(table("nat", PREROUTING=[TO_ENVOY]), table("filter", OUTPUT=[drop])),
        )
        for uid in ("1000-1400", "1000-2000")
    )
    assert not isinstance(fare(one, two, c.Premise(OUTSIDE, filter=PORT_80)), Proved)


def test_source_ports_are_drawn_alike_in_the_end() -> None:
    """One host drops the dial from one port, the other that from another: the outcomes are the same two."""
    one, two = (
        Setting(
            host(envoy(), app()),
            rule_set(
                table("nat", PREROUTING=[TO_ENVOY]),
                table(
                    "filter",
                    OUTPUT=[rule(r.Protocol(TCP), r.SourcePorts(Span(port, port)), then=r.Drop())],
                ),
            ),
        )
        for port in (40001, 40002)
    )
    found = fare(one, two, c.Premise(OUTSIDE, filter=c.Filter(TCP, ports=(Span(80, 80),))))
    assert not isinstance(found, Refuted)


@pytest.mark.parametrize("hook", ["POSTROUTING", "INPUT"])
def test_what_becomes_of_a_broadcast_is_not_taken_to_be_the_same(hook: str) -> None:
    drop = rule(r.Protocol(UDP), then=r.Drop())
    who = APP if hook == "POSTROUTING" else OUTSIDE
    premise = c.Premise(who, filter=c.Filter(UDP, small.AddressSet((Net(small.ip("10.0.0.255")),))))
    plain = Setting(host(app()), rule_set(table("mangle", **{hook: []})))
    assert isinstance(fare(plain, plain, premise), Proved)
    other = Setting(host(app()), rule_set(table("mangle", **{hook: [drop]})))
    assert not isinstance(fare(plain, other, premise), Proved)
    listens = Setting(host(app(h.Listener(53, None, UDP))), plain.rules)
    assert not isinstance(fare(plain, listens, premise), Proved)


def test_two_loops_are_not_told_apart() -> None:
    """Both may go round, and both may leave by another port: nothing tells them apart but the draw."""
    one, two = (
        Setting(
            host(envoy(source=h.BoundTo(OWN)), app()),
            rule_set(
                table(
                    "nat",
                    PREROUTING=[TO_ENVOY],
                    OUTPUT=[
                        rule(
                            r.Protocol(TCP), r.SourcePorts(Span(port, port)), then=r.Redirect(Span.one(15001))
                        )
                    ],
                )
            ),
        )
        for port in (40001, 40002)
    )
    assert isinstance(fare(one, two, c.Premise(OUTSIDE, filter=PORT_80)), Unknown)


def test_who_sends_more_on_one_host_is_not_compared_in_silence() -> None:
    one, two = (
        Setting(host(process("app", uid, 80)), rule_set(table("nat"))) for uid in ("1000", "1000-1001")
    )
    assert isinstance(fare(one, two, c.Premise(APP, filter=PORT_80)), Unknown)
    assert isinstance(fare(two, one, c.Premise(APP, filter=PORT_80)), Unknown)
    wider = replace(one.host, interfaces=(*one.host.interfaces, h.Interface("eth1")))
    assert isinstance(fare(one, replace(one, host=wider), c.Premise(OUTSIDE, filter=PORT_80)), Unknown)


# -- keeping listeners --------------------------------------------------------------------------------


TO_OWN = c.Premise(OUTSIDE, filter=c.Filter(to=small.AddressSet((Net(OWN),))))


def kept(before: Setting, after: Setting, premise: c.Premise) -> Answer:
    budget = Budget(samples=2)
    claim = c.KeepClaim(premise, "before", "after")
    return keep(Prover(before, budget), Prover(after, budget), claim)


def test_a_listener_is_not_kept_by_another_of_its_port() -> None:
    dns = app(53, h.Listener(53, None, UDP))
    no_udp = rule_set(table("filter", INPUT=[rule(r.Protocol(UDP), then=r.Drop())]))
    before, after = Setting(host(dns), rule_set(table("filter", INPUT=[]))), Setting(host(dns), no_udp)
    found = kept(before, after, TO_OWN)
    assert isinstance(found, Refuted)
    assert "udp/*:53" in found.reason
    assert "app *:53" not in found.reason
    assert isinstance(kept(before, before, TO_OWN), Proved)


def test_a_listener_of_one_address_is_not_kept_by_that_of_another() -> None:
    two = app(h.Listener(80, OWN), h.Listener(80, small.LOCALHOST))
    to_lo = rule(
        r.Protocol(TCP), r.DestinationPorts(Span(81, 81)), then=r.Dnat(r.NatRange.of(small.LOCALHOST, 80))
    )
    localnet = {"net.ipv4.conf.all.route_localnet": 1}
    before = Setting(host(two, sysctls=localnet), rule_set(table("nat", PREROUTING=[to_lo])))
    after = Setting(host(two), rule_set(table("nat", PREROUTING=[])))
    found = kept(before, after, TO_OWN)
    assert isinstance(found, Refuted)
    assert found.reason.endswith("app 127.0.0.1:80")


def test_a_listener_that_is_bound_elsewhere_may_be_kept() -> None:
    before = Setting(host(app(80)), rule_set(table("nat")))
    for address, wanted in ((OWN, Proved), (small.LOCALHOST, Refuted)):
        after = Setting(host(app(h.Listener(80, address))), rule_set(table("nat")))
        assert isinstance(kept(before, after, TO_OWN), wanted)
    gone = Setting(host(), rule_set(table("nat")))
    assert isinstance(kept(before, gone, TO_OWN), Refuted)
