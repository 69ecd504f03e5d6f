"""The concrete wing routes as the kernel does: hosts at random, addresses near their edges, and no rules at all."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import TypeVar

import pytest
from msgspec.structs import replace

from verifier.concrete.routing import Type, roads, type_of
from verifier.concrete.travel import travel
from verifier.hosts import (
    BARRED,
    MAIN,
    Dial,
    Host,
    Interface,
    KernelChooses,
    Listener,
    Process,
    Proxy,
    ProxyRoute,
    Route,
    RouteKind,
    RoutingRule,
    Setting,
)
from verifier.journeys import (
    CANNOT_SEND,
    Choices,
    FromOutside,
    FromProcess,
    FromProxy,
    Group,
    Left,
    Lost,
    ProxyState,
    Refused,
    Unmodelled,
)
from verifier.kernel import observed
from verifier.kernel.expected import stimulus, told
from verifier.kernel.iptables import BackendName
from verifier.kernel.pods import EXPERIMENT, Pod
from verifier.packets import Packet
from verifier.reading.rules import read_rules
from verifier.rules import RuleSet
from verifier.values import (
    LAST_ID,
    TCP,
    UDP,
    Ids,
    IdSet,
    MarkMask,
    Net,
    Span,
    TcpFlag,
    read_address,
    spell_address,
)

from .hosts import host, interface, route

pytestmark = pytest.mark.kernel

T = TypeVar("T")

ADDRESSES = {
    "eth0": ("10.0.0.1/24", "10.0.0.5/24", "192.168.7.3/24", "10.0.0.129/25"),
    "eth1": ("10.0.1.1/24", "10.0.1.9/24", "172.16.0.1/31", "172.16.0.9/12"),
}
SOMEWHERE = tuple(
    read_address(text)
    for text in (
        "10.0.0.0", "10.0.0.7", "10.0.0.127", "10.0.0.128", "10.0.0.255", "10.0.1.0", "10.0.1.255",
        "10.0.255.255", "192.168.7.255", "172.16.0.0", "172.16.0.2", "172.31.255.255", "8.8.8.8",
        "127.0.0.0", "127.0.0.1", "127.0.0.2", "127.255.255.255", "0.0.0.1", "240.0.0.1",
        "255.255.255.255", "169.254.1.1",
    )
)  # fmt: skip
ANY = IdSet.read("any")
DIALLER = Process(
    "dialler", ANY, ANY, (Listener(90),), (Proxy("dialler", 90, (ProxyRoute((Dial(),), KernelChooses()),)),)
)

SPOOFER = Process("spoofer", ANY, ANY, raw=True)


def random_host(random: Random) -> Host:
    """One or two interfaces with addresses, routes to their subnets and perhaps elsewhere, and sysctls."""
    interfaces = tuple(
        interface(
            name,
            *random.sample(ADDRESSES[name], random.choice([1, 2, 3] if name == "eth0" else [0, 1, 2, 3])),
        )
        for name in random.choice([("eth0",), ("eth0", "eth1"), ("eth0", "eth1")])
    )
    sysctls = {"ip_forward": random.choice([0, 1]), "conf.all.send_redirects": random.choice([0, 1])}
    for key, values in (
        ("rp_filter", (0, 1, 2)),
        ("route_localnet", (0, 1)),
        ("accept_local", (0, 1)),
        ("send_redirects", (0, 1)),
    ):
        for scope in ("all", *(i.name for i in interfaces)):
            if random.random() < 0.35:
                sysctls[f"conf.{scope}.{key}"] = random.choice(values)
    routes = [_random_route(random, interfaces) for _ in range(random.choice([0, 1, 2]))]
    if random.random() < 0.7:
        routes.append(route("0.0.0.0/0", "eth0", via="10.0.0.200"))
    once = {(r.net, r.metric): r for r in routes}
    return host(*interfaces, routes=tuple(once.values()), processes=(DIALLER, SPOOFER), sysctls=sysctls)


def _random_route(random: Random, interfaces: tuple[Interface, ...]) -> Route:
    net = Net.prefix(random.choice(SOMEWHERE[:13]), random.choice([16, 24, 32]))
    metric = random.choice([3, 5])
    if random.random() < 0.3:
        kind = random.choice(BARRED)
        return Route(net, None, kind=kind, metric=metric)
    through = random.choice(interfaces)
    via = random.choice([None, read_address("10.0.0.200"), read_address("1.2.3.4")])
    source = random.choice([None, None, *(a.ip for a in through.addresses[:1])])
    return Route(net, through.name, via, source, metric=metric)


MARKS = (0, 1, 2, 0x80000001)
TABLES = (7, 100)


def with_policy(random: Random, where: Host) -> Host:
    """The host with routing rules at random, and tables for them."""
    tables = {}
    for number in TABLES:
        routes = [_random_route(random, where.interfaces[1:]) for _ in range(random.choice([0, 1, 2]))]
        if random.random() < 0.6:
            routes.append(route("0.0.0.0/0", random.choice(where.interfaces[1:]).name, via="10.0.0.201"))
        if random.random() < 0.25:
            kind = random.choice([RouteKind.LOCAL, RouteKind.LOCAL, RouteKind.THROW])
            net = Net.prefix(random.choice(SOMEWHERE[:13]), random.choice([0, 16, 24]))
            routes.append(Route(net, "lo" if kind is RouteKind.LOCAL else None, kind=kind, metric=1))
        tables[number] = tuple({(r.net, r.metric): r for r in routes}.values())
    rules = [_random_rule(random, where) for _ in range(random.choice([1, 2, 3, 4]))]
    if random.random() < 0.8:
        rules.append(RoutingRule(MAIN))
    sysctls = {**where.sysctls, "net.ipv4.conf.all.src_valid_mark": random.choice([0, 1])}
    before = [_random_rule(random, where) for _ in range(random.choice([0, 0, 0, 1, 2]))]
    return replace(where, policy=tuple(rules), tables=tables, sysctls=sysctls, before_local=tuple(before))


def _random_rule(random: Random, where: Host) -> RoutingRule:
    def perhaps(percent: int, value: T) -> T | None:
        return value if random.random() * 100 < percent else None

    near = random.choice([*own(where), *SOMEWHERE[:13]])
    kind = random.choice([RouteKind.UNICAST] * 9 + [RouteKind.BLACKHOLE, RouteKind.PROHIBIT])
    return RoutingRule(
        random.choice([*TABLES, *TABLES, MAIN]) if kind is RouteKind.UNICAST else None,
        perhaps(25, Net.prefix(near, random.choice([16, 24, 32]))),
        perhaps(25, Net.prefix(random.choice(SOMEWHERE[:13]), random.choice([8, 16, 24, 32]))),
        perhaps(20, random.choice([i.name for i in where.interfaces])),
        perhaps(8, random.choice([i.name for i in where.interfaces])),
        perhaps(40, MarkMask(random.choice(MARKS), random.choice([1, 3, 0xFFFFFFFF]))),
        negated=random.random() < 0.15,
        suppress=perhaps(15, random.choice([0, 16, 24])) if kind is RouteKind.UNICAST else None,
        kind=kind,
        uids=perhaps(25, random.choice([Ids(0, 0), Ids(1000, 1999), Ids(1, LAST_ID), Ids(0, 1000)])),
        protocol=perhaps(15, random.choice([TCP, TCP, UDP, EXPERIMENT])),
        source_ports=perhaps(8, random.choice([Span(40000, 40000), Span(1, 0xFFFE), Span(80, 81)])),
        destination_ports=perhaps(12, random.choice([Span(80, 80), Span(1, 0xFFFE), Span(30000, 50000)])),
        tos=perhaps(4, 0x08),
    )


UIDS = (0, 1000, 1999, 2000)


MARKING = """*mangle
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -j MARK --set-xmark {0:#x}/0xffffffff
-A OUTPUT -j MARK --set-xmark {0:#x}/0xffffffff
COMMIT
"""


@pytest.fixture(params=range(24), ids=lambda n: f"{n % 12}{' with policy' if n >= 12 else ''}")
def case(request: pytest.FixtureRequest) -> Iterator[tuple[Random, Setting, Pod]]:
    random = Random(request.param)
    where = random_host(random)
    text = ""
    if request.param >= 12:
        where = with_policy(random, where)
        text = random.choice(["", MARKING.format(random.choice(MARKS))])
    rules = read_rules(text, "x").rules if text else RuleSet({})
    with Pod(where, text, "legacy") as pod:
        yield random, Setting(where, rules), pod


def own(where: Host) -> list[int]:
    return [a.ip for i in where.interfaces for a in i.addresses]


def test_what_a_socket_sends_goes_the_same_way(case: tuple[Random, Setting, Pod]) -> None:
    random, setting, pod = case
    for _ in range(60):
        src = random.choice([*own(setting.host), read_address("127.0.0.9")])
        dst = random.choice([*own(setting.host), *SOMEWHERE])
        packet = Packet(src, dst, TCP, 40000, 80, TcpFlag.SYN, uid=random.choice(UIDS), gid=1)
        sender = FromProcess("anybody")
        journey = travel(setting, sender, packet)
        if journey.end == Refused() and (setting.host.before_local or not is_local(setting, dst)):
            continue  # Of an address that is only routed to this host, no reset comes back, or by another rule.
        if isinstance(journey.end, Group):
            continue  # A rule before that of the local table let TCP begin, and a mark takes it there.
        assert told(journey) == pod.run(stimulus(sender, packet)).events


def test_what_a_datagrams_socket_sends_goes_the_same_way(case: tuple[Random, Setting, Pod]) -> None:
    """From an address that it has bound, to where one host may be."""
    random, setting, pod = case
    for _ in range(40):
        src, dst = random.choice(own(setting.host)), random.choice([*own(setting.host), *SOMEWHERE])
        packet = Packet(src, dst, UDP, 40000, 80, uid=random.choice(UIDS), gid=1)
        sender = FromProcess("anybody")
        journey = travel(setting, sender, packet)
        if isinstance(journey.end, Left | Lost):
            assert told(journey) == pod.run(stimulus(sender, packet)).events


def is_local(setting: Setting, address: int) -> bool:
    return type_of(roads(setting.host), address) is Type.LOCAL


def test_what_a_socket_with_a_device_sends_goes_the_same_way(case: tuple[Random, Setting, Pod]) -> None:
    """From an address of that device: an answer to another would not find the socket.  Where rules stand before that of the local
    table no host has such sockets."""
    random, setting, pod = case
    if setting.host.before_local:
        return
    groups = {a.ip | 0xFFFFFFFF >> a.length for i in setting.host.interfaces for a in i.addresses}
    for _ in range(60):
        device = random.choice([i for i in setting.host.interfaces if i.name != "lo" and i.addresses])
        src = random.choice(device.addresses).ip
        dst = random.choice([*own(setting.host), *sorted({*SOMEWHERE} - groups)])
        uid = random.choice(UIDS)
        packet = Packet(src, dst, TCP, 40000, 80, TcpFlag.SYN, uid=uid, gid=1, device=device.name)
        sender = FromProcess("anybody")
        assert told(travel(setting, sender, packet)) == pod.run(stimulus(sender, packet)).events


@pytest.mark.parametrize("backend", ["legacy", "nft"])
@pytest.mark.parametrize(
    "rule",
    ["", "-j MARK --set-xmark 0x1/0xffffffff", "-j TOS --set-tos 0x01/0x03", "-j TOS --set-tos 0x00/0xff"],
)
def test_what_a_raw_socket_sends_goes_the_same_way(
    case: tuple[Random, Setting, Pod], rule: str, backend: BackendName
) -> None:
    """Its first route is not asked for the source in its header; where mangle changes the mark or TOS, the next one is."""
    random, setting, _ = case
    text = f"*mangle\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT {rule}\nCOMMIT\n" if rule else ""
    rules = read_rules(text, "x").rules if text else RuleSet({})
    with Pod(setting.host, text, backend) as pod:
        for _ in range(20):
            src, dst = random.choice(SOMEWHERE[:-1]), random.choice(SOMEWHERE)
            packet = Packet(src, dst, TCP, 40000, 80, TcpFlag.SYN, uid=0, gid=0)
            end = travel(Setting(setting.host, rules), FromProcess("spoofer"), packet).end
            if not isinstance(end, Group | Unmodelled):
                expected = end.interface if isinstance(end, Left) else None
                assert pod.leaves_raw(src, dst) == expected, (spell_address(src), spell_address(dst))


def test_the_same_source_is_selected(case: tuple[Random, Setting, Pod]) -> None:
    """Asked of TCP's rules: the kernel selects a source for datagrams to a broadcast address as well."""
    random, setting, pod = case
    for dst in (*own(setting.host), *SOMEWHERE):
        state = ProxyState("dialler", "dialler", dst, 80)
        uid = random.choice(UIDS)
        choices = Choices(uids={0: (uid, 0)})
        journey = travel(setting, FromProxy("dialler", "dialler"), choices=choices, state=state)
        if journey.end == Lost(CANNOT_SEND) or isinstance(journey.end, Unmodelled):
            continue
        selected = pod.selects(dst, uid=uid, port=80, protocol=TCP)
        if selected is None and is_local(setting, dst):
            continue  # Who is refused there and then has no source any more.
        assert spell_address(journey.stops[0].packet.src) == spell_address(selected or 0)


def test_what_arrives_is_let_in_alike(case: tuple[Random, Setting, Pod]) -> None:
    random, setting, pod = case
    for _ in range(60):
        name = random.choice([i.name for i in setting.host.interfaces if i.name != "lo"])
        src = random.choice([*own(setting.host), *SOMEWHERE, 0])
        dst = random.choice([*own(setting.host) * 3, *SOMEWHERE, 0])
        end = travel(setting, FromOutside(name), Packet(src, dst, EXPERIMENT)).end
        assert pod.arrives(name, src, dst) == (end in (Refused(), Group(()))), (
            name,
            spell_address(src),
            spell_address(dst),
        )


def test_what_is_forwarded_leaves_alike(case: tuple[Random, Setting, Pod]) -> None:
    random, setting, pod = case
    for _ in range(30):
        name = random.choice([i.name for i in setting.host.interfaces if i.name != "lo"])
        src, dst = random.choice(SOMEWHERE), random.choice(SOMEWHERE)
        proto = random.choice([TCP, UDP])
        packet = Packet(src, dst, proto, 40000, 80, TcpFlag.SYN if proto == TCP else 0)
        journey = travel(setting, FromOutside(name), packet)
        seen = pod.run(stimulus(FromOutside(name), packet)).end
        assert isinstance(seen, observed.Left) == isinstance(journey.end, Left)
        if isinstance(seen, observed.Left):
            assert (seen,) == told(journey)
