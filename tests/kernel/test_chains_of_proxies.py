"""Journeys through three proxies, on which no state comes twice: proved to end, and the kernel makes the same hops."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from verifier import claims as c
from verifier.answers import Answer, Proved, Refuted
from verifier.concrete.travel import travel
from verifier.hosts import BoundTo, Dial, Host, KernelChooses, Listener, Process, Proxy, ProxyRoute, Setting
from verifier.journeys import FromOutside
from verifier.kernel.expected import matched, stimulus, told
from verifier.kernel.iptables import BackendName
from verifier.kernel.observed import Accepted, Dialled, Event, Loop, Reached
from verifier.kernel.pods import Pod
from verifier.packets import Packet
from verifier.prove import Prover
from verifier.reading.rules import read_rules
from verifier.rules import RuleSet
from verifier.values import TCP, AddressSet, IdSet, Span, TcpFlag, read_address

from .hosts import host, interface, nat, route

pytestmark = pytest.mark.kernel

OWN, CLIENT = "10.0.0.1", "10.0.0.77"
NAMES = ("first", "second", "third")
LISTENS = (91, 92, 93)
APP = 80


def chained(*ways: Sequence[ProxyRoute]) -> Host:
    """An app on 80, and three proxies on 91, 92 and 93 with these routes."""
    processes = [
        Process(
            name,
            IdSet.read(f"{port}"),
            IdSet.read(f"{port}"),
            (Listener(port),),
            (Proxy(name, port, tuple(routes)),),
        )
        for name, port, routes in zip(NAMES, LISTENS, ways, strict=True)
    ]
    default = route("0.0.0.0/0", "eth0", via="10.0.0.200")
    listens = {"app": Listener(APP)}
    return host(interface("eth0", f"{OWN}/24"), routes=(default,), listens=listens, processes=processes)


def to(port: int, at: int | None = None, source: str | None = None) -> ProxyRoute:
    """Connect to this port of the original destination; with `at`, for connections to that port alone."""
    chosen = KernelChooses() if source is None else BoundTo(read_address(source))
    return ProxyRoute((Dial(port=port),), chosen, () if at is None else (Span(at, at),))


def asked(where: Setting, port: int, verb: c.Verb) -> Answer:
    """Does every connection of another machine to this port do so?"""
    of_others = c.Filter(TCP, AddressSet.read(OWN), AddressSet.read("unicast"), (Span(port, port),))
    premise = c.Premise(c.Outside(), c.Kind.CONNECTION, of_others)
    return Prover(where).answer(c.PacketClaim(c.Quantifier.EVERY, premise, (verb,)))


def seen(where: Setting, rules: str, port: int, backend: BackendName) -> tuple[Event, ...]:
    """What a connection to this port comes to, in the kernel; the wing tells the same."""
    packet = Packet(
        read_address(CLIENT), read_address(OWN), sport=40000, dport=port, flags=TcpFlag.SYN, in_iface="eth0"
    )
    sender = FromOutside("eth0")
    journey = travel(where, sender, packet)
    with Pod(where.host, rules, backend) as pod:
        observed = pod.run(stimulus(sender, packet), hits=True)
    assert (observed.events, observed.hits) == (told(journey), matched(journey))
    return observed.events


def accepted(process: str, own: int, client: str, original: int) -> Accepted:
    return Accepted(process, f"{OWN}:{own}", client, f"{OWN}:{original}")


def dialled(process: str, hop: int, port: int, source: str = OWN) -> Dialled:
    return Dialled(process, f"{source}:{40001 + hop}", f"{OWN}:{port}")


# -- a chain --------------------------------------------------------------------------------------

CHAIN = chained([to(92, source="127.0.0.2")], [to(93)], [to(APP, source="127.0.0.3")])


def test_three_proxies_hand_a_connection_on_to_the_app(backend: BackendName) -> None:
    where = Setting(CHAIN, RuleSet({}))
    source = AddressSet.read("127.0.0.3")
    assert isinstance(asked(where, 91, c.Ends()), Proved)
    assert isinstance(asked(where, 91, c.Reaches("app", APP, c.With(source=source))), Proved)
    assert seen(where, "", 91, backend) == (
        accepted("first", 91, f"{CLIENT}:40000", 91),
        dialled("first", 1, 92, "127.0.0.2"),
        accepted("second", 92, "127.0.0.2:40002", 92),
        dialled("second", 2, 93),
        accepted("third", 93, f"{OWN}:40003", 93),
        dialled("third", 3, APP, "127.0.0.3"),
        accepted("app", APP, "127.0.0.3:40004", APP),
        Reached("app"),
    )


# -- seven hops -----------------------------------------------------------------------------------

TWICE_ROUND = chained([to(2, at=1), to(5, at=4)], [to(3, at=2), to(6, at=5)], [to(4, at=3), to(APP, at=6)])
"""Ports 1 to 6 lead to the three proxies in turn, which dial the next port: each proxy is passed twice."""
FOR_EVER = chained([to(2, at=1), to(5, at=4)], [to(3, at=2), to(6, at=5)], [to(4, at=3), to(1, at=6)])

RULES = nat(
    *(
        f"-A {chain} -d {OWN}/32 -p tcp -m tcp --dport {port} -j DNAT --to-destination {OWN}:{listens}"
        for chain in ("PREROUTING", "OUTPUT")
        for port, listens in enumerate(LISTENS * 2, 1)
    )
)


def six_hops() -> list[Event]:
    """Up to what the third proxy accepts for port 6."""
    events: list[Event] = []
    for hop in range(6):
        name, listens = NAMES[hop % 3], LISTENS[hop % 3]
        client = f"{CLIENT}:40000" if hop == 0 else f"{OWN}:{40001 + hop}"
        if hop:
            events.append(dialled(NAMES[(hop - 1) % 3], hop, hop + 1))
        events.append(accepted(name, listens, client, hop + 1))
    return events


def test_seven_hops_are_no_loop(backend: BackendName) -> None:
    where = Setting(TWICE_ROUND, read_rules(RULES, "rules").rules)
    answer = asked(where, 1, c.Ends())
    assert isinstance(answer, Proved)
    assert answer.hops == 7
    assert isinstance(asked(where, 1, c.Reaches("app")), Proved)
    assert seen(where, RULES, 1, backend) == (
        *six_hops(),
        dialled("third", 6, APP),
        accepted("app", APP, f"{OWN}:40007", APP),
        Reached("app"),
    )


def test_but_for_one_dial_they_are(backend: BackendName) -> None:
    where = Setting(FOR_EVER, read_rules(RULES, "rules").rules)
    answer = asked(where, 1, c.Ends())
    assert isinstance(answer, Refuted)
    assert answer.counterexample is not None
    assert seen(where, RULES, 1, backend) == (
        *six_hops(),
        dialled("third", 6, 1),
        accepted("first", 91, f"{OWN}:40007", 1),
        Loop(1),
    )
