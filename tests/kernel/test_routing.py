"""The concrete wing routes as the kernel does: hosts at random, addresses near their edges, and no rules at all."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from verifier.concrete.travel import travel
from verifier.hosts import (
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
    Setting,
)
from verifier.journeys import (
    CANNOT_SEND,
    FromOutside,
    FromProcess,
    FromProxy,
    Group,
    Left,
    Lost,
    ProxyState,
    Refused,
)
from verifier.kernel import observed
from verifier.kernel.expected import stimulus, told
from verifier.kernel.iptables import BackendName
from verifier.kernel.pods import EXPERIMENT, Pod
from verifier.packets import Packet
from verifier.reading.rules import read_rules
from verifier.rules import RuleSet
from verifier.values import TCP, IdSet, Net, TcpFlag, read_address, spell_address

from .hosts import host, interface, route

pytestmark = pytest.mark.kernel

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
        kind = random.choice([RouteKind.BLACKHOLE, RouteKind.UNREACHABLE, RouteKind.PROHIBIT])
        return Route(net, None, kind=kind, metric=metric)
    through = random.choice(interfaces)
    via = random.choice([None, read_address("10.0.0.200"), read_address("1.2.3.4")])
    source = random.choice([None, None, *(a.ip for a in through.addresses[:1])])
    return Route(net, through.name, via, source, metric=metric)


@pytest.fixture(params=range(12))
def case(request: pytest.FixtureRequest) -> Iterator[tuple[Random, Setting, Pod]]:
    random = Random(request.param)
    where = random_host(random)
    with Pod(where, "", "legacy") as pod:
        yield random, Setting(where, RuleSet({})), pod


def own(where: Host) -> list[int]:
    return [a.ip for i in where.interfaces for a in i.addresses]


def test_what_a_socket_sends_goes_the_same_way(case: tuple[Random, Setting, Pod]) -> None:
    random, setting, pod = case
    for _ in range(60):
        src = random.choice([*own(setting.host), read_address("127.0.0.9")])
        dst = random.choice([*own(setting.host), *SOMEWHERE])
        packet = Packet(src, dst, TCP, 40000, 80, TcpFlag.SYN, uid=1, gid=1)
        sender = FromProcess("anybody")
        assert told(travel(setting, sender, packet)) == pod.run(stimulus(sender, packet)).events


def test_what_a_socket_with_a_device_sends_goes_the_same_way(case: tuple[Random, Setting, Pod]) -> None:
    """From an address of that device: an answer to another would not find the socket."""
    random, setting, pod = case
    groups = {a.ip | 0xFFFFFFFF >> a.length for i in setting.host.interfaces for a in i.addresses}
    for _ in range(60):
        device = random.choice([i for i in setting.host.interfaces if i.name != "lo" and i.addresses])
        src = random.choice(device.addresses).ip
        dst = random.choice([*own(setting.host), *sorted({*SOMEWHERE} - groups)])
        packet = Packet(src, dst, TCP, 40000, 80, TcpFlag.SYN, uid=1, gid=1, device=device.name)
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
            packet = Packet(src, dst, TCP, 40000, 80, TcpFlag.SYN, uid=1, gid=1)
            end = travel(Setting(setting.host, rules), FromProcess("spoofer"), packet).end
            if not isinstance(end, Group):
                expected = end.interface if isinstance(end, Left) else None
                assert pod.leaves_raw(src, dst) == expected, (spell_address(src), spell_address(dst))


def test_the_same_source_is_selected(case: tuple[Random, Setting, Pod]) -> None:
    """Asked of TCP's rules: the kernel selects a source for datagrams to a broadcast address as well."""
    _, setting, pod = case
    for dst in (*own(setting.host), *SOMEWHERE):
        state = ProxyState("dialler", "dialler", dst, 80)
        journey = travel(setting, FromProxy("dialler", "dialler"), state=state)
        if journey.end != Lost(CANNOT_SEND):
            assert spell_address(journey.stops[0].packet.src) == spell_address(pod.selects(dst) or 0)


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
        packet = Packet(src, dst, TCP, 40000, 80, TcpFlag.SYN)
        journey = travel(setting, FromOutside(name), packet)
        seen = pod.run(stimulus(FromOutside(name), packet)).end
        assert isinstance(seen, observed.Left) == isinstance(journey.end, Left)
        if isinstance(seen, observed.Left):
            assert (seen,) == told(journey)
