"""Sockets of UDP and of IPv6, as `chainproof replay` plays them: who gets what is sent, what of it is seen, and that slips are noticed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.agree.slips import SLIPS, Slip, planted
from verifier.answers import Counterexample
from verifier.asked import fields_carried
from verifier.concrete.travel import travel
from verifier.confirm.bench import Bench
from verifier.confirm.levels import Confirmation, Name, Verdict
from verifier.counterexamples.read import read_record
from verifier.counterexamples.record import Kind, record
from verifier.counterexamples.write import write
from verifier.fuzzing import hosts, rules, six
from verifier.fuzzing.packets import shots
from verifier.fuzzing.run import BACKENDS
from verifier.hosts import (
    Address,
    BoundTo,
    Dial,
    Host,
    Interface,
    Listener,
    Process,
    Proxy,
    ProxyRoute,
    Route,
    Setting,
)
from verifier.journeys import (
    Choices,
    Dropped,
    End,
    FromOutside,
    FromProcess,
    Journey,
    Left,
    Refused,
    Rejected,
    Sender,
    Socket,
)
from verifier.kernel.iptables import BackendName
from verifier.kernel.segments import Datagram, Segment, Unreachable, read_packet, written
from verifier.packets import Packet
from verifier.reading.rules import read_rules
from verifier.rules import RuleSet
from verifier.values import TCP, UDP, Family, IdSet, Net, TcpFlag, read_address

from .hosts import ANYBODY

pytestmark = pytest.mark.kernel

FIVE, NINE = IdSet.read("5"), IdSet.read("9")
OUTSIDE = FromOutside("eth0")
SOMEBODY = FromProcess("anybody")
WORDS = {
    Family.IPV4: ("127.0.0.1/8", "10.0.0.1/24", "10.0.1.1/24", "10.0.0.0/24", "10.0.1.0/24", "0.0.0.0/0"),
    Family.IPV6: ("::1/128", "2001:db8::1/64", "2001:db8:1::1/64", "2001:db8::/64", "2001:db8:1::/64", "::/0"),
}  # fmt: skip
ENDS = {
    Family.IPV4: ("10.0.0.1", "10.0.0.77", "8.8.8.8"),
    Family.IPV6: ("2001:db8::1", "2001:db8::77", "2001:db8:8::8"),
}
"""This host's address, a neighbour's, and one far away."""
FORWARDING = {Family.IPV4: "net.ipv4.ip_forward", Family.IPV6: "net.ipv6.conf.all.forwarding"}


def small(family: Family, *processes: Process) -> Host:
    """lo, eth0 and eth1, a default route by eth1, an app on UDP port 53 and TCP port 80, and these processes."""
    lo, own0, own1, net0, net1, everywhere = WORDS[family]

    def interface(name: str, text: str) -> Interface:
        ip, _, length = text.partition("/")
        return Interface(name, (Address(read_address(ip, family), int(length), family),))

    routes = tuple(
        Route(Net.read(net, family), device)
        for net, device in ((net0, "eth0"), (net1, "eth1"), (everywhere, "eth1"))
    )
    app = Process("app", FIVE, FIVE, (Listener(53, protocol=UDP), Listener(80)))
    return Host(
        "small",
        (interface("lo", lo), interface("eth0", own0), interface("eth1", own1)),
        routes,
        {FORWARDING[family]: 1},
        (app, *processes, ANYBODY),
        family=family,
    )


def packet(family: Family, protocol: int, src: str, dst: str, dport: int, sender: Sender) -> Packet:
    sent = Packet(
        read_address(src, family), read_address(dst, family), protocol, 40001, dport,
        TcpFlag.SYN if protocol == TCP else 0, family=family,
    )  # fmt: skip
    return (
        replace(sent, in_iface="eth0")
        if isinstance(sender, FromOutside)
        else replace(sent, uid=1000, gid=1000)
    )


def confirmed(
    host: Host, lines: str, sender: Sender, sent: Packet, backend: BackendName, hop: int = 0
) -> tuple[Journey, Confirmation]:
    """What is told, and what the kernel says of it, once it went through a file."""
    found = read_rules(lines, "the.rules", family=host.family).rules if lines else RuleSet({}, host.family)
    setting = Setting(host, found)
    journey = travel(setting, sender, sent)
    kept = record(
        Counterexample(sender, journey, Choices(), hop), (setting,), Kind.COUNTEREXAMPLE, "p", "p:1", "claim"
    )
    (account,) = read_record(write(kept), "kept.json").accounts
    with Bench(account.setting, backend) as bench:
        return journey, bench.confirm(Counterexample(sender, account.journey, Choices(), hop))


def verdicts(found: Confirmation) -> dict[str, Verdict]:
    return {f"{level.name.value} {level.hop}": level.verdict for level in found.levels}


def table(name: str, *lines: str) -> str:
    chains = {
        "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
        "filter": ("INPUT", "FORWARD", "OUTPUT"),
    }[name]
    return "\n".join((f"*{name}", *(f":{c} ACCEPT [0:0]" for c in chains), *lines, "COMMIT", ""))


OUTCOMES: tuple[tuple[str, Sender, int, int, str, type[End]], ...] = (
    ("a datagram that a process gets", OUTSIDE, 0, 53, "", Socket),
    ("one to a closed port", OUTSIDE, 0, 54, "", Refused),
    ("one that is forwarded", OUTSIDE, 2, 53, "", Left),
    ("one that a rule drops", OUTSIDE, 0, 53, table("filter", "-A INPUT -p udp -j DROP"), Dropped),
    ("one that a rule refuses", OUTSIDE, 0, 53, table("filter", "-A INPUT -p udp -j REJECT"), Rejected),
    ("one that REDIRECT takes", OUTSIDE, 2, 99, table("nat", "-A PREROUTING -p udp -j REDIRECT --to-ports 53"), Socket),
    ("one whose source INPUT translates", OUTSIDE, 0, 53, table("nat", "-A INPUT -p udp -j SNAT --to-source {0}"), Socket),
    ("one of a process", SOMEBODY, 2, 53, "", Left),
    ("one to this host itself", SOMEBODY, 0, 53, "", Socket),
    ("one to a closed port here", SOMEBODY, 0, 54, "", Refused),
    ("one that OUTPUT drops", SOMEBODY, 2, 53, table("filter", "-A OUTPUT -p udp -j DROP"), Dropped),
    ("one that OUTPUT refuses", SOMEBODY, 2, 53, table("filter", "-A OUTPUT -p udp -j REJECT"), Rejected),
    ("one of an owner", SOMEBODY, 2, 9, table("nat", "-A OUTPUT -p udp -m owner --uid-owner 1000 -j REDIRECT --to-ports 53"), Socket),
)  # fmt: skip


@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize(
    ("name", "sender", "to", "dport", "lines", "end"), OUTCOMES, ids=[x[0] for x in OUTCOMES]
)
def test_a_datagram_comes_to_what_is_told(
    name: str,
    sender: Sender,
    to: int,
    dport: int,
    lines: str,
    end: type[End],
    family: Family,
    backend: BackendName,
) -> None:
    src = ENDS[family][1 if sender is OUTSIDE else 0]
    sent = packet(family, UDP, src, ENDS[family][to], dport, sender)
    journey, found = confirmed(small(family), lines.format(*ENDS[family]), sender, sent, backend)
    assert isinstance(journey.end, end), name
    level = "flow 0" if sender is OUTSIDE else "socket 0"
    assert verdicts(found) == {"packet 0": Verdict.CONFIRMED, level: Verdict.CONFIRMED}, found.levels


@pytest.mark.parametrize("sender", [OUTSIDE, SOMEBODY], ids=["outside", "process"])
def test_a_datagram_that_another_gets_is_not_confirmed(sender: Sender, backend: BackendName) -> None:
    """The kernel has the port's own process, and the file tells of another."""
    thief = Process("thief", FIVE, FIVE, (Listener(53, protocol=UDP), Listener(80)))
    sent = packet(Family.IPV4, UDP, ENDS[Family.IPV4][1 if sender is OUTSIDE else 0], "10.0.0.1", 53, sender)
    host = small(Family.IPV4)
    other = replace(host, processes=(thief, ANYBODY))
    journey = travel(Setting(other, RuleSet({})), sender, sent)
    with Bench(Setting(host, RuleSet({})), backend) as bench:
        found = bench.confirm(Counterexample(sender, journey, Choices()))
    assert found.verdict is Verdict.CONTRADICTED
    assert {level.name for level in found.levels if level.verdict is Verdict.CONTRADICTED} <= {
        Name.SOCKET,
        Name.FLOW,
    }


def proxied() -> Host:
    """Who dials is bound to an address of its own, and goes where the client wanted to."""
    route = ProxyRoute((Dial(),), BoundTo(read_address("2001:db8::1", Family.IPV6), Family.IPV6))
    proxy = Process("proxy", NINE, NINE, (Listener(90),), (Proxy("proxy", 90, (route,)),))
    return small(Family.IPV6, proxy)


def test_a_proxy_of_ipv6_is_told_where_its_client_wanted_to_go(backend: BackendName) -> None:
    """By IP6T_SO_ORIGINAL_DST; what it dials is followed, as a socket by itself and as a part of the flow."""
    lines = table("nat", "-A PREROUTING -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 90")
    sent = packet(Family.IPV6, TCP, "2001:db8::77", "2001:db8:8::8", 80, OUTSIDE)
    journey, found = confirmed(proxied(), lines, OUTSIDE, sent, backend, hop=1)
    assert journey.end == Left("eth1")
    assert verdicts(found) == dict.fromkeys(("packet 0", "packet 1", "socket 1", "flow 0"), Verdict.CONFIRMED)
    (flow,) = (level for level in found.levels if level.name is Name.FLOW)
    assert flow.rows[0].kernel == (
        "proxy accepts on [2001:db8::1]:90 from [2001:db8::77]:40001, original destination [2001:db8:8::8]:80"
    )


def test_so_is_one_that_leads_back_to_itself(backend: BackendName) -> None:
    lines = table(
        "nat", *(f"-A {chain} -p tcp -j REDIRECT --to-ports 90" for chain in ("PREROUTING", "OUTPUT"))
    )
    sent = packet(Family.IPV6, TCP, "2001:db8::77", "2001:db8:8::8", 80, OUTSIDE)
    _, found = confirmed(proxied(), lines, OUTSIDE, sent, backend)
    assert verdicts(found) == dict.fromkeys(("packet 0", "packet 1", "flow 0"), Verdict.CONFIRMED), (
        found.levels
    )


# -- drawn ------------------------------------------------------------------------------------------------

SETTINGS = 160


def drawn(
    seed: str, many: int
) -> Iterator[tuple[Setting, BackendName, list[tuple[FromOutside | FromProcess, Packet]]]]:
    """Settings whose rules ask for nothing that sockets leave to the kernel, each listener of a process of its own, with SYNs and
    datagrams of each."""
    for number in range(many):
        draw = random.Random(f"{seed} {number}")
        ipv6 = bool(number % 2)
        backend: BackendName = ("legacy", "nft")[number // 2 % 2]
        host = (six if ipv6 else hosts).host(draw, BACKENDS[backend])
        chosen = rules.rule_set(draw)
        setting = Setting(apart(host), six.translated(chosen, draw) if ipv6 else chosen)
        if fields_carried(setting) & {"length", "tcp_options", "mac", "ttl", "tos"}:
            continue
        sent = [
            x
            for x in islice(shots(setting, draw), 150)
            if x[1].proto == UDP or (x[1].proto, x[1].flags) == (TCP, 2)
        ]
        yield setting, backend, sent


def apart(host: Host) -> Host:
    (app, *others) = host.processes
    single = (replace(app, name=f"app {n}", listens=(x,)) for n, x in enumerate(app.listens))
    return replace(host, processes=(*single, replace(app, listens=()), *others))


def judged(many: int, seed: str = "sockets") -> Iterator[tuple[Packet, str, Verdict, str]]:
    """What the kernel says of drawn packets, at the level of a socket or of the flow."""
    for setting, backend, sent in drawn(seed, many):
        with Bench(setting, backend) as bench:
            for sender, one in sent:
                found = bench.confirm(Counterexample(sender, travel(setting, sender, one), Choices()))
                for level in found.levels:
                    if level.name is not Name.PACKET:
                        yield one, level.name.value, level.verdict, level.text


def test_sockets_do_with_drawn_packets_what_is_told() -> None:
    counts: Counter[tuple[int, int, str, Verdict]] = Counter()
    for one, level, verdict, text in judged(SETTINGS):
        assert verdict is not Verdict.CONTRADICTED, (one, level, text)
        counts[one.family.value, one.proto, level, verdict] += 1
    for family in (4, 6):
        for protocol in (TCP, UDP):
            for level in ("socket", "flow"):
                assert counts[family, protocol, level, Verdict.CONFIRMED] >= 10, counts


WHO_GETS_IT = [
    slip
    for slip in SLIPS
    if slip.name
    in (
        "the first listener gets it, and not the most specific",
        "a listener bound to a device gets everything",
    )
]


@pytest.mark.parametrize("slip", WHO_GETS_IT, ids=str)
@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_a_slip_about_who_gets_it_is_noticed(
    slip: Slip, family: Family, protocol: int, tmp_path: Path
) -> None:
    """On a host where another has the same port of one address, and another the same of one interface."""
    here = read_address(ENDS[family][0], family)
    narrow = Process(
        "narrow",
        FIVE,
        FIVE,
        (Listener(53, here, protocol, family=family), Listener(80, here, protocol, family=family)),
    )
    bound = Process(
        "bound",
        FIVE,
        FIVE,
        (Listener(53, protocol=protocol, device="eth1"), Listener(90, protocol=protocol, device="eth1")),
    )
    host = small(family, narrow, bound)
    sent = [
        packet(family, protocol, ENDS[family][1], ENDS[family][0], port, OUTSIDE) for port in (53, 80, 90)
    ]
    setting = Setting(host, RuleSet({}, family))
    with planted(slip, tmp_path) as slipped, Bench(setting, "legacy") as bench:
        for tell, noticed in ((travel, False), (slipped.travel, True)):
            found = [
                bench.confirm(Counterexample(OUTSIDE, tell(setting, OUTSIDE, one), Choices())) for one in sent
            ]
            assert any(each.verdict is Verdict.CONTRADICTED for each in found) == noticed, found


# -- bytes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", Family)
def test_what_is_written_is_read_back(family: Family) -> None:
    src, dst = (read_address(text, family) for text in ENDS[family][:2])
    for sent in (Segment(src, 1, dst, 0xFFFF, 2, 7, 9, family), Datagram(src, 53, dst, 54, family)):
        assert read_packet(written(sent)) == sent
    assert not isinstance(read_packet(written(Datagram(src, 53, dst, 54, family))), Unreachable)
