"""What the kernel does with a datagram behind the entry that an earlier one has left is what both wings tell."""

from __future__ import annotations

import random
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from msgspec.structs import replace

from verifier import claims as c
from verifier.asked import fields_carried
from verifier.concrete.claims import holds, of_answer
from verifier.concrete.travel import as_sent, can_send, travel
from verifier.fuzzing import hosts, rules, six
from verifier.fuzzing.packets import shots
from verifier.fuzzing.run import BACKENDS
from verifier.hosts import Listener, Process, Setting
from verifier.journeys import (
    MASQUERADED_ELSEWHERE,
    Act,
    Choices,
    Dropped,
    Earlier,
    End,
    FromOutside,
    FromProcess,
    Journey,
    Left,
    Lost,
    Socket,
    Unmodelled,
)
from verifier.kernel.compare import difference, settle
from verifier.kernel.iptables import BackendName, Iptables
from verifier.kernel.namespaces import Namespace
from verifier.kernel.oracle import Oracle, Shot, answer_shot
from verifier.kernel.traces import ENDS, POST
from verifier.packets import Packet
from verifier.reading.rules import read_rules
from verifier.samples import edges_of, of_protocol
from verifier.values import UDP, Family, IdSet, read_address

from .hosts import host, interface, route

pytestmark = pytest.mark.kernel

ANYONE = IdSet.read("any")
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


@pytest.mark.parametrize("family", Family)
def test_the_kernel_does_with_a_later_datagram_what_is_told(backend: BackendName, family: Family) -> None:
    tally: Counter[str] = Counter()
    draw = random.Random(f"entries {family}")
    for _ in range(5):
        where = (hosts if family is Family.IPV4 else six).host(draw, BACKENDS[backend])
        with Oracle(where, backend) as oracle:
            for _ in range(8):
                drawn = rules.rule_set(draw)
                if family is Family.IPV6:
                    drawn = six.translated(drawn, draw)
                setting = Setting(where, drawn, frozenset({"connection"}))
                oracle.load(setting.rules)
                found = next(compared(oracle, setting, draw, tally), None)
                assert found is None, found
    assert tally["behind"] >= 400
    assert tally["translated"] >= 100
    assert tally["answered"] >= 20


ROUTER = host(
    interface("eth0", "10.0.0.5/24"),
    interface("eth1", "10.0.1.5/24"),
    routes=[route("0.0.0.0/0", "eth0", via="10.0.0.1")],
    processes=[
        Process("app", ANYONE, ANYONE, device="eth1"),
        Process("server", ANYONE, ANYONE, (Listener(53, protocol=UDP),)),
    ],
)
APP = FromProcess("app")
QUERY = Packet(read_address("10.0.0.5"), read_address("8.8.8.8"), UDP, 40000, 53, uid=1000, gid=1000)
BY_ETH1 = replace(QUERY, device="eth1")
MASQUERADE = "*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -p udp -j MASQUERADE\nCOMMIT\n"
OF_ZONES = """\
*raw
:OUTPUT ACCEPT [0:0]
-A OUTPUT -m owner --uid-owner 1337 -j CT %s
-A OUTPUT -m owner --uid-owner 1000 -j CT %s
COMMIT
*nat
:OUTPUT ACCEPT [0:0]
-A OUTPUT -p udp -m owner --uid-owner 1000 -j DNAT --to-destination 9.9.9.9
COMMIT
"""
BY_ENVOY = replace(QUERY, uid=1337)
ELSEWHERE = Lost(MASQUERADED_ELSEWHERE)
PAIRS_OF_FACTS = (
    ("MASQUERADE went by another interface", MASQUERADE, QUERY, BY_ETH1, ELSEWHERE),
    ("and the other way round", MASQUERADE, BY_ETH1, QUERY, ELSEWHERE),
    ("by the same one", MASQUERADE, BY_ETH1, BY_ETH1, Left("eth1")),
    ("no translation", OF_ZONES % ("--zone 0", "--zone 0"), BY_ENVOY, QUERY, Left("eth0")),
    ("one zone", OF_ZONES % ("--zone 3", "--zone 3"), BY_ENVOY, QUERY, Left("eth0")),
    ("one zone for what goes there", OF_ZONES % ("--zone-orig 3", "--zone 3"), BY_ENVOY, QUERY, Left("eth0")),
    ("two zones", OF_ZONES % ("--zone 3", "--zone 4"), BY_ENVOY, QUERY, Left("eth0")),
    ("NOTRACK before", OF_ZONES % ("--notrack", "--zone 0"), BY_ENVOY, QUERY, Left("eth0")),
    ("NOTRACK after", OF_ZONES % ("--zone 0", "--notrack"), BY_ENVOY, QUERY, Left("eth0")),
)


@pytest.mark.parametrize(
    ("rules_text", "before", "after", "end"),
    [tuple(rest) for _, *rest in PAIRS_OF_FACTS],
    ids=[name for name, *_ in PAIRS_OF_FACTS],
)
def test_a_fact_of_entries(
    rules_text: str, before: Packet, after: Packet, end: End, backend: BackendName
) -> None:
    setting = _router(rules_text, backend)
    first, later = (as_sent(setting, APP, p) for p in (before, after))
    journey = travel(setting, APP, later, earlier=Earlier(APP, first))
    assert journey.end == end
    with Oracle(setting.host, backend) as oracle:
        oracle.load(setting.rules, rules_text)
        _, seen = oracle.ask([Shot(APP, first), Shot(APP, later, answer=True)])
    assert seen is not None
    assert difference(setting, journey, APP, seen) is None


def test_a_connection_is_assured_when_it_is_two_seconds_old_and_not_before(backend: BackendName) -> None:
    """(net/netfilter/nf_conntrack_proto_udp.c: nf_conntrack_udp_packet); by sockets, of which the server answers."""
    text = "*filter\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -p udp --dport 53 -m conntrack --ctstatus ASSURED -j DROP\nCOMMIT\n"
    setting = _router(text, backend)
    own = read_address("10.0.0.5")
    sent = as_sent(setting, APP, replace(QUERY, src=own, dst=own))
    for assured, end in ((True, Dropped), (False, Socket)):
        earlier = Earlier(APP, sent, answered=True, assured=assured)
        assert isinstance(travel(setting, APP, sent, earlier=earlier).end, end)
    with ExitStack() as stack:
        namespace = Namespace()
        stack.callback(namespace.close)
        namespace.run(["ip", "link", "set", "lo", "up"])
        Iptables(namespace, backend, Family.IPV4).load(text)
        server, client = (
            stack.enter_context(namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2)
        )
        server.bind(("127.0.0.1", 53))
        for _ in range(2):
            client.sendto(b"query", ("127.0.0.1", 53))
            _, asking = server.recvfrom(100)
            server.sendto(b"answer", asking)
        time.sleep(2.2)
        with pytest.raises(PermissionError):
            client.sendto(b"query", ("127.0.0.1", 53))


def _router(text: str, backend: BackendName) -> Setting:
    found = replace(ROUTER, backend=BACKENDS[backend])
    return Setting(found, read_rules(text, "a fact").rules, frozenset({"connection"}))


@pytest.mark.parametrize("to", ["224.0.0.251", "10.0.0.255", "255.255.255.255"])
def test_what_goes_to_a_group_leaves_where_nothing_is_in_its_way(backend: BackendName, to: str) -> None:
    """By the interface that is told."""
    setting = _router(
        "*filter\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -m ttl --ttl-eq 7 -j ACCEPT\nCOMMIT\n", backend
    )
    sender = FromProcess("server")
    with Oracle(setting.host, backend) as oracle:
        oracle.load(setting.rules)
        for ttl in (64, 1):
            sent = as_sent(setting, sender, replace(QUERY, dst=read_address(to), ttl=ttl))
            told = holds(c.Leaves("eth0"), travel(setting, sender, sent), setting)
            (seen,) = oracle.ask([Shot(sender, sent)])
            assert seen is not None
            left = any(s.table == ENDS and s.chain == POST and s.out_iface == "eth0" for s in seen.steps)
            assert told is left is True
