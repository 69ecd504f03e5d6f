"""The concrete wing follows IPv6 packets as the kernel does: hosts at random, addresses of every kind, and rules that count."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from random import Random
from typing import TypeVar

import pytest
from msgspec.structs import replace

from verifier.asked import fields_carried
from verifier.concrete.travel import can_send, travel
from verifier.hosts import (
    BARRED,
    DEFAULTS_IPV6,
    MAIN,
    Address,
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
    Act,
    Choices,
    FromOutside,
    FromProcess,
    FromProxy,
    Group,
    Journey,
    Lost,
    ProxyState,
    Unmodelled,
)
from verifier.kernel.iptables import BACKENDS, Hit
from verifier.packets import Packet
from verifier.reading.rules import read_rules
from verifier.values import (
    LAST_ID,
    LINK_LOCAL,
    TCP,
    UDP,
    Family,
    Ids,
    IdSet,
    Ipv6Extension,
    MarkMask,
    Net,
    Span,
    TcpFlag,
    read_address,
)

from .six import Six, matched, text

pytestmark = pytest.mark.kernel

T = TypeVar("T")


def at(address: str) -> int:
    return read_address(address, Family.IPV6)


ADDRESSES = {
    "eth0": ("2001:db8::2/64", "2001:db8::3/64", "fd00::2/48", "2001:db8:5::1/128", "fe80::2/64"),
    "eth1": ("2001:db8:1::2/64", "fd00:1::2/127", "fe80::12/64"),
}
SOMEWHERE = tuple(
    at(address)
    for address in (
        "2001:db8::2", "2001:db8::3", "2001:db8::", "2001:db8::9", "2001:db8:1::", "2001:db8:1::2", "2001:db8:1::9",
        "fd00::", "fd00::2", "fe80::", "fe80::2", "fe80::12", "fe80::99", "ff01::1", "ff02::1", "ff05::2", "ff0e::5",
        "ff00::", "::", "::1", "::6", "::5", "::ffff:10.0.0.1", "fec0::1", "2001:db8:5::1", "2001:db8:77::1", "3000::1",
    )
)  # fmt: skip
ANY = IdSet.read("any")
OURS = {
    TCP: "-p tcp -m tcp --sport 40000:60000 --syn",
    UDP: "-p udp -m udp --sport 40000:60000",
}
"""What picks the packets that are sent here, and none of the kernel's answers."""


def is_link_local(address: int) -> bool:
    return address & LINK_LOCAL.mask == LINK_LOCAL.address


def interface(name: str, *addresses: str) -> Interface:
    pairs = (address.split("/") for address in addresses)
    return Interface(name, tuple(Address(at(ip), int(length), Family.IPV6) for ip, length in pairs))


def random_host(random: Random) -> Host:
    """One or two interfaces with addresses, routes to most of their subnets and perhaps elsewhere."""
    interfaces = [interface("lo", "::1/128", *random.choice([(), ("::6/128",)]))]
    for name in random.choice([("eth0",), ("eth0", "eth1"), ("eth0", "eth1")]):
        chosen = random.sample(ADDRESSES[name], random.randint(name == "eth0", len(ADDRESSES[name])))
        # The kernel lists those of a wider scope first.
        interfaces.append(interface(name, *sorted(chosen, key=lambda a: a.startswith("fe80"))))
    routes = [
        Route(a.net, i.name, metric=256)
        for i in interfaces[1:]
        for a in i.addresses
        if a.length < 128 and random.random() < 0.85
    ]
    if random.random() < 0.7:
        routes.append(Route(Net(0, 0, Family.IPV6), "eth0", at("fe80::99"), metric=1024))
    routes += [_random_route(random, interfaces[1:]) for _ in range(random.randint(0, 2))]
    once: dict[object, Route] = {}
    for route in routes:
        once.setdefault(
            (route.net, route.metric, route.device if is_link_local(route.net.address) else None), route
        )
    bound = (a.ip for a in interfaces[1].addresses if not is_link_local(a.ip))
    app = Process(
        "app", ANY, ANY,
        (
            Listener(80), Listener(80, device="eth0"), Listener(53, protocol=UDP),
            *(Listener(81, ip, family=Family.IPV6) for ip in bound),
        ),
    )  # fmt: skip
    sysctls = {**DEFAULTS_IPV6, "net.ipv6.conf.all.forwarding": random.choice([0, 1])}
    return Host(
        "host", tuple(interfaces), tuple(once.values()), sysctls, (app,), family=Family.IPV6
    )  # fmt: skip


MARKS = (0, 1, 2, 0x80000001)
TABLES = (7, 100)


def with_policy(random: Random, where: Host) -> Host:
    """The host with routing rules at random, and tables for them."""
    tables = {}
    for number in TABLES:
        routes = [_random_route(random, [*where.interfaces[1:]]) for _ in range(random.choice([0, 1, 2]))]
        kind = random.choice([RouteKind.LOCAL, RouteKind.THROW, *[RouteKind.UNICAST] * 4, None, None])
        net = Net.prefix(random.choice(SOMEWHERE[:8]), random.choice([0, 0, 0, 48]), Family.IPV6)
        if kind is RouteKind.UNICAST:
            device = random.choice(where.interfaces[1:]).name
            routes.append(Route(net, device, random.choice([None, at("fe80::98")]), metric=1))
        elif kind is not None:
            routes.append(Route(net, "lo" if kind is RouteKind.LOCAL else None, kind=kind, metric=1))
        tables[number] = tuple({(r.net, r.metric): r for r in routes}.values())
    rules = [_random_rule(random, where) for _ in range(random.choice([1, 2, 3, 4]))]
    if random.random() < 0.8:
        rules.append(RoutingRule(MAIN))
    return replace(where, policy=tuple(rules), tables=tables)


def _random_rule(random: Random, where: Host) -> RoutingRule:
    def perhaps(percent: int, value: T) -> T | None:
        return value if random.random() * 100 < percent else None

    own = [a.ip for i in where.interfaces for a in i.addresses]
    names = [i.name for i in where.interfaces]
    kind = random.choice([RouteKind.UNICAST] * 9 + [RouteKind.BLACKHOLE, RouteKind.PROHIBIT])
    return RoutingRule(
        random.choice([*TABLES, *TABLES, MAIN]) if kind is RouteKind.UNICAST else None,
        perhaps(25, Net.prefix(random.choice(own), random.choice([64, 128]), Family.IPV6)),
        perhaps(25, Net.prefix(random.choice(SOMEWHERE), random.choice([8, 16, 64, 128]), Family.IPV6)),
        perhaps(20, random.choice(names)),
        perhaps(15, random.choice(names)),
        perhaps(40, MarkMask(random.choice(MARKS), random.choice([1, 3, 0xFFFFFFFF]))),
        negated=random.random() < 0.15,
        suppress=perhaps(30, random.choice([0, 16, 48, 64])) if kind is RouteKind.UNICAST else None,
        kind=kind,
        uids=perhaps(20, random.choice([Ids(0, 0), Ids(1000, 1999), Ids(1, LAST_ID), Ids(0, 1000)])),
        protocol=perhaps(15, random.choice([TCP, UDP])),
        source_ports=perhaps(8, random.choice([Span(40001, 40020), Span(1, 0xFFFE), Span(80, 81)])),
        destination_ports=perhaps(12, random.choice([Span(80, 80), Span(1, 0xFFFE), Span(53, 90)])),
    )


UIDS = (0, 1000, 1999, 2000)


def _random_route(random: Random, interfaces: list[Interface]) -> Route:
    address = random.choice([a for a in SOMEWHERE if a >> 120 != 0xFF and a not in (1, 6)])
    net = Net.prefix(address, random.choice([16, 32, 48, 64, 128]), Family.IPV6)
    metric = random.choice([5, 2000])
    if random.random() < 0.4 or net.address == 6:
        kind = random.choice(BARRED)
        return Route(net, None, kind=kind, metric=metric)
    through = random.choice(interfaces)
    source = random.choice([None, *(a.ip for a in through.addresses[:1])])
    return Route(net, through.name, random.choice([None, at("fe80::98")]), source, metric=metric)


def host_of(seed: int) -> Host:
    """The first few have no routing rules."""
    random = Random(seed)
    host = random_host(random)
    return host if seed < WITHOUT_POLICY else with_policy(random, host)


WITHOUT_POLICY = 6


# -- rules that count ---------------------------------------------------------------------------------

Rules = Callable[[Random], Iterator[tuple[str, str]]]
"""Rules, each with its table."""


def ways(random: Random) -> Iterator[tuple[str, str]]:
    """By which interfaces a packet goes, and to where."""
    for chain, option in (
        ("PREROUTING", "i"), ("INPUT", "i"), ("FORWARD", "o"), ("OUTPUT", "o"), ("POSTROUTING", "o"),
    ):  # fmt: skip
        for ours in OURS.values():
            for table in ("raw", "mangle") if chain in ("PREROUTING", "OUTPUT") else ("mangle",):
                yield from ((table, f"-A {chain} {ours} -{option} {i}") for i in ("eth0", "eth1", "lo"))
            for address in random.sample(SOMEWHERE, 6):
                yield "mangle", f"-A {chain} -d {text(address)} {ours}"


def marks(random: Random) -> Iterator[tuple[str, str]]:
    """Which way what is marked goes; and whether that would be the way back."""
    for ours in OURS.values():
        for option in ("", "--loose", "--validmark", "--validmark --loose --accept-local"):
            yield "mangle", f"-A PREROUTING {ours} -m rpfilter {option}"
        for chain in ("PREROUTING", "OUTPUT"):
            mark = f"MARK --set-xmark {random.choice(MARKS):#x}/{random.choice([1, 3, 0xFFFFFFFF]):#x}"
            yield random.choice(["mangle", "mangle", "raw"]), f"-A {chain} {ours} -j {mark}"
        for kind in ("LOCAL", "ANYCAST", "UNREACHABLE"):
            yield "mangle", f"-A INPUT {ours} -m addrtype --dst-type {kind}"
            yield "mangle", f"-A POSTROUTING {ours} -m addrtype --dst-type {kind} --limit-iface-out"
            yield "mangle", f"-A OUTPUT {ours} -m addrtype --src-type {kind}"


def translations(random: Random) -> Iterator[tuple[str, str]]:
    targets = (
        "REDIRECT --to-ports 80", "REDIRECT", "DNAT --to-destination [::1]:80", "DNAT --to-destination [2001:db8::3]:81",
        "DNAT --to-destination fe80::2", "DNAT --to-destination [fe80::12]:80", "DNAT --to-destination fe80::99",
        "DNAT --to-destination 2001:db8:1::9", "DNAT --to-destination 2001:db8::", "NETMAP --to 2001:db8:1::/48",
    )  # fmt: skip
    for ours in OURS.values():
        for chain in ("PREROUTING", "OUTPUT"):
            for target in random.sample(targets, 3):
                yield "nat", f"-A {chain} {ours} --dport {random.choice([80, 1001, 1002])} -j {target}"
        source = random.choice(["MASQUERADE", "MASQUERADE", "SNAT --to-source 2001:db8::9"])
        yield "nat", f"-A POSTROUTING {ours} --dport {random.choice([80, 53, 9])} -j {source}"
        yield (
            "nat",
            f"-A INPUT {ours} -j {random.choice(['SNAT --to-source 2001:db8::77', 'ACCEPT'])}",
        )
        for chain in ("INPUT", "OUTPUT", "FORWARD"):
            yield "filter", f"-A {chain} {ours} -m conntrack --ctstate NEW"
            yield "filter", f"-A {chain} {ours} -m conntrack --ctstate DNAT"
            yield "filter", f"-A {chain} {ours} -s 2001:db8::77"
    if random.random() < 0.3:
        yield "raw", f"-A {random.choice(['PREROUTING', 'OUTPUT'])} {OURS[TCP]} -j NOTRACK"
    if random.random() < 0.3:
        change = random.choice(["MARK --set-mark 1", "TOS --set-tos 0x10", "HL --hl-set 7"])
        yield "mangle", f"-A OUTPUT {OURS[random.choice([TCP, UDP])]} -j {change}"


def questions(random: Random) -> Iterator[tuple[str, str]]:
    """Matches that ask the host, or a header that is another in IPv6."""
    types = (
        "LOCAL", "UNICAST", "MULTICAST", "ANYCAST", "UNREACHABLE", "UNSPEC", "LOCAL,UNICAST", "ANYCAST,LOCAL",
        "UNREACHABLE,UNICAST", "MULTICAST,LOCAL",
    )  # fmt: skip
    for ours in OURS.values():
        for chain in ("PREROUTING", "INPUT", "OUTPUT", "FORWARD", "POSTROUTING"):
            inside = chain in ("PREROUTING", "INPUT")
            for _ in range(5):
                limit = random.choice(["", "", "--limit-iface-in" if inside else "--limit-iface-out"])
                said = f"{random.choice(['', '! '])}{random.choice(['--src-type', '--dst-type'])} {random.choice(types)}"
                yield "mangle", f"-A {chain} {ours} -m addrtype {said} {limit}"
            if chain == "PREROUTING":
                for option in ("", "--loose", "--accept-local", "--invert", "--loose --accept-local"):
                    yield "mangle", f"-A {chain} {ours} -m rpfilter {option}"
            if inside:
                yield from (
                    ("mangle", f"-A {chain} {ours} -m socket {o}") for o in ("--transparent", "--nowildcard", "")
                    if o != "--transparent"
                )  # fmt: skip
            yield "mangle", f"-A {chain} {ours} -m hl --hl-eq 64"
            yield "mangle", f"-A {chain} {ours} -m length --length 48"
            yield "mangle", f"-A {chain} {ours} -m ipv6header --header prot"
            yield "mangle", f"-A {chain} {ours} -m ipv6header --header none --soft"


def written(rules: list[tuple[str, str]]) -> str:
    tables = dict.fromkeys(table for table, _ in rules)
    return "".join(
        f"*{table}\n" + "".join(f"{rule}\n" for t, rule in rules if t == table) + "COMMIT\n"
        for table in tables
    )


class Case:
    """A host in the kernel and as a setting, under rules that count."""

    def __init__(self, random: Random, host: Host, kernel: Six, setting: Setting) -> None:
        self.random = random
        self.host = host
        self.kernel = kernel
        self.setting = setting
        self._ports = count(40001)

    @property
    def own(self) -> list[int]:
        return [a.ip for i in self.host.interfaces for a in i.addresses]

    @property
    def outward(self) -> list[str]:
        return [i.name for i in self.host.interfaces if i.name != "lo"]

    def packet(self, src: int, dst: int) -> Packet:
        """A packet of a flow that nobody has seen."""
        proto = self.random.choice([TCP, UDP])
        return Packet(
            src, dst, proto, next(self._ports), self.random.choice([80, 53, 81, 1001, 1002, 9]),
            TcpFlag.SYN if proto == TCP else 0, family=Family.IPV6, extensions=int(Ipv6Extension.PROTO),
            length=60 if proto == TCP else 48,
        )  # fmt: skip


@pytest.fixture(
    params=range(WITHOUT_POLICY + 10),
    ids=lambda n: f"{n}{' with policy' if n >= WITHOUT_POLICY else ''}",
)
def seed(request: pytest.FixtureRequest) -> int:
    found: int = request.param
    return found


@pytest.fixture(params=[None, translations, questions], ids=["ways", "translations", "questions"])
def case(request: pytest.FixtureRequest, seed: int) -> Iterator[Case]:
    random = Random(f"rules {seed}")
    host = host_of(seed)
    rules = [*(marks(random) if host.policy else ()), *ways(random)]
    rules += request.param(random) if request.param else ()
    loaded = written(rules)
    setting = Setting(host, read_rules(loaded, "x", None, Family.IPV6).families[Family.IPV6])
    with Six(host, loaded, BACKENDS[seed % 2]) as kernel:
        yield Case(random, host, kernel, setting)


def agrees(journey: Journey, seen: Counter[Hit]) -> bool:
    """The kernel matched what the wing tells; where that tells no more, at least this."""
    told = matched(journey)
    return told <= seen if isinstance(journey.end, Group | Unmodelled) else told == seen


def test_what_arrives_matches_the_rules_that_the_wing_tells(case: Case) -> None:
    carried = fields_carried(case.setting)
    for _ in range(40):
        name = case.random.choice(case.outward)
        packet = case.packet(case.random.choice(SOMEWHERE), case.random.choice([*SOMEWHERE, *case.own]))
        packet = replace(packet, ttl=case.random.choice([64, 1, 2] if "ttl" in carried else [64]))
        journey = travel(case.setting, FromOutside(name), packet)
        if packet.src in case.own:
            continue  # An answer would come back here.
        seen = case.kernel.arrives(name, packet)
        told = matched(journey)
        assert agrees(journey, seen), (journey.end, told - seen, seen - told, packet, name, case.host)


def test_what_a_socket_sends_matches_the_rules_that_the_wing_tells(case: Case) -> None:
    for _ in range(40):
        device = case.random.choice([None, None, *case.outward])
        src, dst = case.random.choice(case.own), case.random.choice([*SOMEWHERE, *case.own])
        if dst == 0 or (is_link_local(src) and device is None):
            continue  # To connect to :: is to connect to ::1; a link-local address is bound with its zone alone.
        packet = replace(case.packet(src, dst), uid=case.random.choice(UIDS), gid=0, device=device)
        # Sockets' SYNs have options, and what they send to a group goes one hop.
        packet = replace(
            packet, length=80 if packet.proto == TCP else 48, ttl=1 if dst >> 120 == 0xFF else 64
        )
        (app,) = case.host.processes
        bound = replace(case.setting, host=replace(case.host, processes=(replace(app, device=device),)))
        error, hits = case.kernel.sends(packet)
        if not can_send(bound, "app", packet):
            assert error, (packet, case.host)
            continue
        journey = travel(bound, FromProcess("app"), packet)
        # What netfilter drops, or cannot route again, is an error of sendto() too.
        lost = (Lost, Group, Unmodelled)
        assert error in (0, errno.EPERM) or isinstance(journey.end, lost), (packet, error, case.host)
        told, seen = Counter(dict.fromkeys(matched(journey), 1)), Counter(dict.fromkeys(hits, 1))
        ends = isinstance(journey.end, Group | Unmodelled)
        assert told <= seen if ends else told == seen, (packet, journey.end, told - seen, seen - told)


def test_the_kernel_selects_the_source_that_the_wing_tells(seed: int) -> None:
    random, host = Random(f"selected {seed}"), host_of(seed)
    (app,) = host.processes
    dialling = replace(app, proxies=(Proxy("dialler", 80, (ProxyRoute((Dial(),), KernelChooses()),)),))
    setting = Setting(
        replace(host, processes=(dialling,)), read_rules("*raw\nCOMMIT\n", "x", None, Family.IPV6).rules
    )
    known = 0
    with Six(host, "", "legacy") as kernel:
        for dst in (*SOMEWHERE, *(a.ip for i in host.interfaces for a in i.addresses)):
            if dst == 0 or dst >> 120 == 0xFF or is_link_local(dst) or dst >> 32 == 0xFFFF:
                continue  # What TCP does not connect to as it stands.
            state = ProxyState("app", "dialler", dst, 80)
            uid = random.choice(UIDS)
            choices = Choices(uids={0: (uid, 0)})
            journey = travel(setting, FromProxy("app", "dialler"), choices=choices, state=state, hops=1)
            if isinstance(journey.end, Unmodelled):
                continue
            sent = next(s for s in journey.stops if s.act is Act.SENT).packet
            selected = kernel.selects(dst, uid)
            if selected is None and dst in {a.ip for i in host.interfaces for a in i.addresses}:
                continue  # Who is refused there and then has no source any more.
            assert (sent.src if sent.out_iface else None) == selected, (text(dst), host)
            known += 1
    assert known or host.policy


def test_what_a_socket_sends_that_binds_nothing_goes_the_way_that_the_wing_tells(seed: int) -> None:
    random = Random(f"unbound {seed}")
    host = host_of(seed)
    (app,) = host.processes
    mark = random.choice(MARKS)
    proxy = Proxy("dialler", 80, (ProxyRoute((Dial(),), KernelChooses()),))
    dialling = replace(host, processes=(replace(app, proxies=(proxy,), mark=mark),))
    loaded = written([*(marks(random) if host.policy else ()), *ways(random)])
    setting = Setting(dialling, read_rules(loaded, "x", None, Family.IPV6).families[Family.IPV6])
    with Six(host, loaded, "legacy") as kernel:
        for port, dst in enumerate(
            (*SOMEWHERE, *(a.ip for i in host.interfaces for a in i.addresses)), 41001
        ):
            if dst == 0 or dst >> 120 == 0xFF or is_link_local(dst) or dst >> 32 == 0xFFFF:
                continue  # What TCP does not connect to as it stands.
            state = ProxyState("app", "dialler", dst, 80)
            uid = random.choice(UIDS)
            chosen = Choices(ports={0: port}, uids={0: (uid, 0)})
            journey = travel(setting, FromProxy("app", "dialler"), choices=chosen, state=state, hops=1)
            if isinstance(journey.end, Unmodelled):
                continue
            packet = Packet(0, dst, TCP, port, 80, TcpFlag.SYN, uid=uid, gid=0, mark=mark, family=Family.IPV6)
            error, hits = kernel.sends(packet)
            if journey.end == Lost(CANNOT_SEND):
                assert error
                continue
            told, seen = Counter(dict.fromkeys(matched(journey), 1)), Counter(dict.fromkeys(hits, 1))
            assert told == seen, (text(dst), journey.end, told - seen, seen - told, host)
