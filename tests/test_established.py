"""Claims about packets of connections that stand: what is proved, what is refuted by which packets, and what is unknown by its name."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from verifier import claims as c
from verifier import hosts as h
from verifier.answers import Answer, Proved, Refuted, Unknown, Vacuous
from verifier.concrete import claims as concrete
from verifier.concrete.travel import as_sent
from verifier.hosts import Setting
from verifier.journeys import Act, FromOutside, FromProcess
from verifier.packets import ASSURED
from verifier.prove import Budget, Prover
from verifier.reading.rules import read_rules
from verifier.replay import Start
from verifier.samples import edges_of
from verifier.values import TCP, UDP, AddressSet, CtState, Net, Span, TcpFlag

from .agree.agreement import journeys_of_later, under
from .agree.budget import tries
from .agree.claims import meets_behind, verbs, who_of
from .agree.established import SETTINGS, later, opening
from .agree.hosts import begins, senders_of
from .small import FAR, OWN, host, process

APP, OUTSIDE = c.OfProcess("app"), c.Outside("eth0")
EVERY, NO, SOME = c.Quantifier.EVERY, c.Quantifier.NO, c.Quantifier.SOME
INBOUND = h.Proxy("inbound", 15006, (h.ProxyRoute((h.Dial(),), h.KernelChooses()),))
HOST = host(
    process("app", 1000, 80),
    process("envoy", 1337, 15006, proxies=(INBOUND,)),
    sysctls={"net.ipv4.ip_forward": 1},
)
REACHES, LEAVES = c.Reaches("app", 80), c.Leaves("eth0")
FEW = Budget(samples=6)


def table(name: str, *rules: str, policies: str = "") -> str:
    return f"*{name}\n{policies}" + "".join(f"-A {rule}\n" for rule in rules) + "COMMIT\n"


def asked(
    rules: str,
    *verbs: c.Verb,
    who: c.Who = OUTSIDE,
    to: int = OWN,
    protocol: int | None = TCP,
    port: int = 80,
    quantifier: c.Quantifier = EVERY,
    answer: bool = False,
) -> Answer:
    ports = (Span(port, port),) if protocol in (TCP, UDP) else ()
    wanted = c.Filter(protocol, AddressSet((Net(to),)), ports=ports)
    premise = c.Premise(who, filter=wanted, established=True, answer=answer)
    setting = Setting(HOST, read_rules(rules, "rules").rules)
    return Prover(setting, FEW).answer(c.PacketClaim(quantifier, premise, verbs))


STATEFUL = table(
    "filter",
    "INPUT -p tcp --dport 80 -m conntrack --ctstate NEW -j ACCEPT",
    "INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT",
    policies=":INPUT DROP [0:0]\n",
)


NOTHING = table("filter", policies=":INPUT ACCEPT [0:0]\n")


def test_what_is_new_alone_keeps_out_the_rest() -> None:
    assert isinstance(asked(STATEFUL, REACHES), Proved)
    found = asked(STATEFUL.replace("ESTABLISHED", "RELATED"), REACHES)
    assert isinstance(found, Refuted)
    assert found.counterexample is not None
    earlier, journey = found.counterexample.earlier, found.counterexample.journey
    assert earlier is not None
    assert earlier.opens
    assert earlier.packet.flags == TcpFlag.SYN
    assert journey.stops[0].packet.flags == TcpFlag.ACK
    assert journey.stops[-1].packet.ctstate is CtState.ESTABLISHED


def test_a_connection_that_is_not_answered_has_no_later_packets() -> None:
    for keeps in ("INPUT -p tcp --syn -j DROP", "OUTPUT -p tcp --sport 80 -j DROP"):
        assert isinstance(asked(table("filter", keeps), REACHES), Vacuous)
    assert isinstance(asked(NOTHING, REACHES, port=81), Vacuous), "nobody listens"


@pytest.mark.parametrize("target", ["REDIRECT --to-ports 80", "DNAT --to-destination 10.0.0.5:80"])
def test_nat_has_decided_of_the_first_packet(target: str) -> None:
    """Also where its rule would not match another one."""
    moved = table("nat", f"PREROUTING -p tcp --dport 8080 --syn -j {target}")
    found = asked(moved, REACHES, port=8080)
    assert isinstance(found, Proved)
    assert isinstance(
        asked(moved, c.Enters(c.ChainRef("nat", "PREROUTING")), port=8080, quantifier=NO), Proved
    )


def test_a_proxy_dials_once_for_a_connection() -> None:
    captured = table("nat", "PREROUTING -p tcp --dport 8080 -j REDIRECT --to-ports 15006")
    assert isinstance(asked(captured, c.Reaches("envoy", 15006), c.Ends(), port=8080), Proved)
    assert isinstance(asked(captured, REACHES, port=8080, quantifier=NO), Proved)


def test_what_conntrack_does_not_see_both_ways_is_invalid() -> None:
    """Of TCP: it waits for the SYN ACK that raw has kept from it."""
    raw = table("raw", "OUTPUT -p tcp --sport 80 -j NOTRACK")
    drops = table("filter", "INPUT -m conntrack --ctstate INVALID -j DROP")
    found = asked(raw + drops, REACHES)
    assert isinstance(found, Refuted)
    assert found.counterexample is not None
    assert found.counterexample.journey.stops[-1].packet.ctstate is CtState.INVALID
    both = raw.replace("COMMIT", "-A PREROUTING -p tcp --dport 80 -j NOTRACK\nCOMMIT")
    assert isinstance(asked(both + drops, REACHES), Proved)


def test_what_conntrack_may_take_up_in_the_middle_is_not_guessed() -> None:
    raw = table("raw", "PREROUTING -p tcp --syn -j NOTRACK", "OUTPUT -p tcp -j NOTRACK")
    found = asked(raw + STATEFUL, REACHES)
    assert isinstance(found, Vacuous | Unknown), "UNTRACKED is not NEW"
    opened = raw + table("filter", "INPUT -m conntrack --ctstate INVALID -j DROP")
    found = asked(opened, REACHES)
    assert isinstance(found, Unknown)
    assert "a connection that conntrack takes up behind its beginning" in found.opaque


def test_handshakes_are_over_but_for_what_may_come_in_them() -> None:
    """ASSURED is what a later packet finds, unless it is a reset, or the end, before which there may be no other."""
    drops = table("filter", "INPUT -m conntrack ! --ctstatus ASSURED --ctstate ESTABLISHED -j DROP")
    found = asked(drops, REACHES)
    assert isinstance(found, Refuted)
    assert found.counterexample is not None
    packet = found.counterexample.journey.stops[0].packet
    assert packet.flags & (TcpFlag.RST | TcpFlag.FIN)
    last = found.counterexample.journey.stops[-1].packet.connection
    assert last is not None
    assert not last.status & ASSURED


def test_a_mark_that_stays_is_followed_and_one_that_changes_is_not() -> None:
    saves = table("mangle", "PREROUTING -i eth0 -j CONNMARK --set-mark 7")
    drops = table("filter", "INPUT -m connmark ! --mark 7 -j DROP")
    assert isinstance(asked(saves + drops, REACHES), Proved)
    by_answers = table("mangle", "OUTPUT -p tcp --sport 80 -j CONNMARK --set-mark 7")
    found = asked(by_answers + drops, REACHES)
    assert isinstance(found, Vacuous), "the first packet has no mark yet"
    later_ones = table("mangle", "PREROUTING -p tcp ! --syn -j CONNMARK --set-mark 9")
    unknown = asked(later_ones + table("filter", "INPUT -m connmark --mark 8 -j DROP"), REACHES)
    assert isinstance(unknown, Unknown)
    assert "mark" in unknown.reason
    refuted = asked(later_ones + table("filter", "INPUT -m connmark --mark 9 -j DROP"), REACHES)
    assert isinstance(refuted, Refuted)


def test_a_rule_that_marks_new_connections_alone_changes_nothing_later() -> None:
    marks = table("mangle", "PREROUTING -i eth0 -m conntrack --ctstate NEW -j CONNMARK --set-mark 2")
    assert isinstance(asked(marks, LEAVES, to=FAR), Proved | Refuted)
    assert isinstance(asked(marks, c.IsAnswered(), to=OWN, answer=False), Refuted), "nobody answers a reset"
    assert isinstance(asked(marks, c.Reaches("app")), Proved)


def test_what_answers_a_later_packet() -> None:
    """Of this host's client: it comes back by what conntrack knows, and not where nothing lets it in."""
    assert isinstance(asked(STATEFUL, c.Reaches("app"), who=APP, to=FAR, answer=True), Proved)
    strict = STATEFUL.replace(
        "-m conntrack --ctstate ESTABLISHED", "-p tcp -m tcp --tcp-flags SYN,ACK SYN,ACK"
    )
    found = asked(strict, c.Reaches("app"), who=APP, to=FAR, answer=True)
    assert isinstance(found, Refuted)
    assert found.counterexample is not None
    sent = [s for s in found.counterexample.journey.stops if s.hop == -1 and s.act is Act.SENT]
    assert not sent[0].packet.flags & TcpFlag.SYN
    assert isinstance(asked(strict, c.IsAnswered(), who=APP, to=FAR), Refuted)
    assert isinstance(asked(STATEFUL, c.IsAnswered(), who=APP, to=FAR), Refuted), "nobody answers a reset"


def test_datagrams_stand_too() -> None:
    on = table("filter", "OUTPUT -p udp -m conntrack --ctstate ESTABLISHED -j DROP")
    found = asked(on, LEAVES, who=APP, to=FAR, protocol=UDP, port=53)
    assert isinstance(found, Refuted)
    assert isinstance(asked(NOTHING, LEAVES, who=APP, to=FAR, protocol=None), Proved)


def test_some_packet_of_a_connection() -> None:
    found = asked(STATEFUL, REACHES, quantifier=SOME)
    assert isinstance(found, Proved)
    assert found.witness is not None
    assert found.witness.earlier is not None
    assert isinstance(asked(STATEFUL, c.IsDropped(), quantifier=SOME), Refuted)


def test_a_rule_that_asks_for_a_socket_finds_that_of_the_connection() -> None:
    """And a listener of any address only where it says so."""
    marks = table("mangle", "PREROUTING -p tcp -m socket -j MARK --set-mark 1")
    drops = table("filter", "INPUT -p tcp ! --syn -m mark ! --mark 1 -j DROP")
    assert isinstance(asked(marks + drops, REACHES), Proved)
    found = asked(marks.replace("-m socket", "-m socket --transparent") + drops, REACHES)
    assert isinstance(found, Refuted)


@pytest.mark.parametrize(
    "build",
    [
        lambda: c.Premise(c.OfProxy("envoy", "inbound"), established=True),
        lambda: c.Premise(APP, c.Kind.CONNECTION, established=True),
        lambda: c.Premise(APP, filter=c.Filter(UDP), after=APP, established=True),
        lambda: c.SameClaim(c.Premise(APP, established=True), "a", "b"),
        lambda: c.KeepClaim(c.Premise(APP, established=True), "a", "b"),
    ],
)
def test_what_nobody_follows_cannot_be_claimed(build: object) -> None:
    assert callable(build)
    with pytest.raises(ValueError, match="established"):
        build()


@tries(40)
@given(data=st.data())
def test_answers_agree_with_packets_that_are_tried(data: st.DataObject) -> None:
    """No packet is against what is proved, and that of a refutation is against the claim."""
    setting = replace(data.draw(SETTINGS["IPv4"](2), label="setting"), answers=False)
    edges = edges_of(setting)
    own = [s for s in senders_of(setting) if isinstance(s, FromOutside | FromProcess)]
    sender = data.draw(st.sampled_from(own))
    premise = c.Premise(who_of(sender), established=True)
    js = journeys_of_later(setting, sender)
    starts = []
    for number in range(12):
        draw = random.Random(number)
        before = opening(data.draw(begins(setting, sender, edges)), draw)
        begin = later(data.draw(begins(setting, sender, edges)), before, draw)
        _, trip = under(js, begin, draw, before)
        start = Start(sender, as_sent(setting, sender, begin), None, trip.choices, trip.earlier)
        if meets_behind(premise, setting, start):
            starts.append(start)
    for verb in data.draw(st.lists(verbs(setting), min_size=2, max_size=4), label="verbs"):
        for quantifier in (EVERY, NO):
            claim = c.PacketClaim(quantifier, premise, (verb,))
            if c.asks_for_answers(premise, (verb,)):
                continue
            answer = Prover(setting, FEW).answer(claim)
            if isinstance(answer, Proved):
                assert not any(concrete.breaks(claim, s.travel(setting), setting) for s in starts)
            if isinstance(answer, Refuted) and answer.counterexample is not None:
                found = answer.counterexample
                again = Start(found.sender, found.journey.stops[0].packet, None, found.choices, found.earlier)
                assert concrete.breaks(claim, again.travel(setting), setting)
                assert meets_behind(premise, setting, again)
