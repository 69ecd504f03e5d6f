"""What the kernel does with a datagram behind the entry that an earlier one has left is what both wings tell."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from verifier.asked import fields_carried
from verifier.concrete.claims import of_answer
from verifier.concrete.travel import as_sent, can_send, travel
from verifier.fuzzing import hosts, rules, six
from verifier.fuzzing.packets import shots
from verifier.fuzzing.run import BACKENDS
from verifier.hosts import Host, Setting
from verifier.journeys import Act, Choices, Earlier, FromOutside, FromProcess, Journey, Unmodelled
from verifier.kernel.compare import settle
from verifier.kernel.iptables import BackendName
from verifier.kernel.oracle import Oracle, Shot, answer_shot
from verifier.packets import Packet
from verifier.samples import edges_of, of_protocol
from verifier.values import UDP, Family

pytestmark = pytest.mark.kernel

PAIRS = 60
"""For each rule set."""


def sent(setting: Setting, draw: random.Random) -> Iterator[Shot]:
    """Datagrams near the edges of the rules."""
    edges = edges_of(setting)
    exact = "length" in fields_carried(setting)
    for sender, drawn in shots(setting, draw):
        packet = as_sent(setting, sender, of_protocol(drawn, UDP, edges, draw))
        packet = replace(packet, sport=draw.randint(20000, 60000))
        if _may_be_sent(setting, sender, packet):
            yield Shot(sender, packet, exact)


def _may_be_sent(setting: Setting, sender: FromOutside | FromProcess, packet: Packet) -> bool:
    return isinstance(sender, FromOutside) or (packet.src != 0 and can_send(setting, sender.process, packet))


def behind(setting: Setting, first: Shot, own: Shot, draw: random.Random) -> Shot | None:
    """A later shot, most often with the addresses and ports of the first; None where its sender does not send that."""
    before = first.packet
    ends = (before.src, before.dst, before.sport, before.dport)
    match draw.randrange(12):
        case 0:
            ends = (own.packet.src, own.packet.dst, own.packet.sport, own.packet.dport)
        case 1:
            ends = (before.dst, before.src, before.dport, before.sport)
        case _:
            pass
    names = ("src", "dst", "sport", "dport")
    packet = replace(own.packet, **dict(zip(names, ends, strict=True)))
    packet = as_sent(setting, own.sender, packet)
    return replace(own, packet=packet, answer=True) if _may_be_sent(setting, own.sender, packet) else None


def answer_to(setting: Setting, first: Shot) -> Shot | None:
    """What answers a datagram, where it came to somebody, and raw does not keep the answer from its connection."""
    raw = setting.rules.tables.get("raw")
    if raw is not None and any(chain.rules for chain in raw.chains.values()):
        return None
    asked = replace(setting, answers=True)
    journey = of_answer(travel(asked, first.sender, first.packet), 0)
    return None if journey is None else answer_shot(journey, first.exact)


def compared(oracle: Oracle, setting: Setting, draw: random.Random, tally: Counter[str]) -> Iterator[str]:
    """What the kernel does otherwise than is told, pair by pair."""
    edges = sent(setting, draw)
    for _ in range(PAIRS):
        first = next(edges)
        later = behind(setting, first, next(edges), draw)
        if later is None:
            continue
        answer = answer_to(setting, first) if draw.random() < 0.4 else None
        asked = [first, *([answer] if answer else []), later]
        seen = oracle.ask(asked)
        before, after = seen[0], seen[-1]
        if before is None or after is None:
            continue
        known = settle(
            setting, lambda c, s=first: travel(setting, s.sender, s.packet, c), first.sender, before
        )
        if known.difference is not None or (answer is not None and known.choices != Choices()):
            tally["the first one differs"] += 1
            continue
        earlier = Earlier(first.sender, first.packet, known.choices, answered=answer is not None)

        def tell(choices: Choices, later: Shot = later, earlier: Earlier = earlier) -> Journey:
            return travel(setting, later.sender, later.packet, choices, earlier=earlier)

        told = settle(setting, tell, later.sender, after)
        journey = told.journey
        assert journey is not None
        tally["behind" if journey.behind else "alone"] += 1
        tally["answered"] += journey.behind and answer is not None
        tally["translated"] += any(s.act is Act.TRANSLATED for s in journey.stops)
        tally["unknown"] += isinstance(journey.end, Unmodelled)
        if told.difference is not None:
            if not journey.behind and "port" in told.difference.kernel:
                tally["clashes"] += (
                    1  # A008: of two connections with one reply tuple the later has another source port.
                )
                continue
            yield f"{setting.rules}\n{first}\n{answer}\n{later}\n{journey}\n{told.difference}"


def drawn_host(draw: random.Random, backend: BackendName, family: Family) -> Host:
    """A host on which a raw socket's datagram goes by the way of any socket's: no routing rule asks for sources."""
    while True:
        host = (hosts if family is Family.IPV4 else six).host(draw, BACKENDS[backend])
        if not any(rule.source is not None for rule in host.policy):
            return host


@pytest.mark.parametrize("family", Family)
def test_the_kernel_does_with_a_later_datagram_what_is_told(backend: BackendName, family: Family) -> None:
    tally: Counter[str] = Counter()
    draw = random.Random(f"entries {family}")
    for _ in range(3):
        host = drawn_host(draw, backend, family)
        with Oracle(host, backend) as oracle:
            for _ in range(8):
                drawn = rules.rule_set(draw)
                if family is Family.IPV6:
                    drawn = six.translated(drawn, draw)
                setting = Setting(host, drawn, frozenset({"connection"}))
                oracle.load(setting.rules)
                found = next(compared(oracle, setting, draw, tally), None)
                assert found is None, found
    assert tally["behind"] >= 400
    assert tally["translated"] >= 100
    assert tally["answered"] >= 20
