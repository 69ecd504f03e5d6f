"""IPv6 cases in which the wings once told different journeys, or both another one than the kernel, as small as could be."""

from __future__ import annotations

import random

import pytest
from msgspec.structs import replace

from verifier import hosts as h
from verifier import rules as r
from verifier.bounds import MANY, hop_bound
from verifier.concrete.travel import can_send
from verifier.hooks import BUILT_IN
from verifier.hosts import Setting
from verifier.journeys import (
    OTHER_FAMILY,
    REROUTE_FAILED,
    FromOutside,
    FromProcess,
    Journey,
    Kernel,
    Lost,
    Sender,
    Socket,
    Unmodelled,
)
from verifier.packets import Packet
from verifier.values import ICMPV6, UDP, Family, IdSet, MarkMask, Net, read_address

from .agreement import difference, journeys_of, possible, told, under
from .examples import host, rule_set

V6 = Family.IPV6


def ip6(text: str) -> int:
    return read_address(text, V6)


def interface(name: str, *addresses: str) -> h.Interface:
    split = (a.split("/") for a in addresses)
    return h.Interface(name, tuple(h.Address(ip6(a), int(length), V6) for a, length in split))


DNS = h.Process("dns", IdSet.read("any"), IdSet.read("any"), (h.Listener(53, protocol=UDP),))
HOST = h.Host(
    "host",
    (interface("lo", "::1/128", "fe80::9/128"), interface("eth0", "fd00::5/64", "fe80::5/64")),
    (
        h.Route(Net.read("fd00::/64", V6), "eth0", metric=256),
        h.Route(Net.read("fe80::/64", V6), "eth0", metric=256),
    ),
    {**h.DEFAULTS_IPV6, "net.ipv6.conf.all.forwarding": 1},
    (DNS,),
    backend=h.Backend.LEGACY,
    family=V6,
)


def setting(table: str, chain: str, *rules: r.Rule) -> Setting:
    chains = {n: r.Chain(n, r.Accept(), rules if n == chain else ()) for n in BUILT_IN[table]}
    return Setting(HOST, r.RuleSet({table: r.Table(table, chains)}, V6))


def both(where: Setting, sender: Sender, begin: Packet) -> Journey:
    """The journey that both wings tell of what the sender may send."""
    js = journeys_of(where, sender)
    model, trip = under(js, begin, random.Random(0))
    assert possible(js, model)
    journey = trip.travel()
    assert difference(told(js, model), journey) is None
    return journey


def query(dst: str, src: str = "::1") -> Packet:
    return Packet(ip6(src), ip6(dst), UDP, 40000, 53, uid=0, gid=0, family=V6)


def test_from_the_link_local_address_of_lo_nobody_sends_to_that_of_another_interface() -> None:
    where = Setting(HOST, r.RuleSet({}, V6))
    js = journeys_of(where, FromProcess("dns"))
    for src, may in (("fe80::9", False), ("fe80::5", True), ("::1", True)):
        packet = query("fe80::5", src)
        model, _ = under(js, packet, random.Random(0))
        assert possible(js, model) == may
        assert can_send(where, "dns", packet) == may


@pytest.mark.parametrize(
    "route",
    [
        h.ProxyRoute((h.Dial(1, 80, V6),), h.KernelChooses()),
        h.ProxyRoute((h.Dial(),), h.BoundTo(1, V6)),
        h.ProxyRoute((h.Dial(), h.Dial(1, None, V6)), h.ClientsOwn()),
    ],
)
def test_an_ipv4_proxy_that_dials_in_ipv6_is_not_followed(route: h.ProxyRoute) -> None:
    proxy = h.Proxy("p", 80, (route,))
    web = h.Process("web", IdSet.read("any"), IdSet.read("any"), (h.Listener(80),), (proxy,))
    begin = Packet(0x0A000007, 0x0A000005, dport=80, sport=40000, flags=2, in_iface="eth0")
    js = journeys_of(Setting(host(web), rule_set()), FromOutside("eth0"))
    ends = set()
    for seed in range(9):
        model, trip = under(js, begin, random.Random(seed))
        journey = trip.travel()
        assert difference(told(js, model), journey) is None
        ends.add(journey.end)
    assert Unmodelled(OTHER_FAMILY) in ends


CHANGES = {
    "mark": r.SetMark(MarkMask(5)),
    "hop limit": r.ChangeTtl(r.Change.SET, 5),
    "traffic class": r.SetTos(0x10, 0xFF),
}


@pytest.mark.parametrize("target", CHANGES.values(), ids=CHANGES.keys())
def test_what_mangle_changed_is_routed_anew_from_lo_which_an_own_link_local_address_does_not_survive(
    target: r.Target,
) -> None:
    """net/ipv6/netfilter/ip6table_mangle.c: ip6t_mangle_out; net/ipv6/netfilter.c: ip6_route_me_harder; observed."""
    changing = setting("mangle", "OUTPUT", r.Rule((), target))
    for dst in ("fe80::5", "fe80::"):
        assert both(changing, FromProcess("dns"), query(dst)).end == Lost(REROUTE_FAILED)
    for dst in ("fd00::5", "::1", "fe80::9"):
        assert isinstance(both(changing, FromProcess("dns"), query(dst)).end, Socket)


def test_what_mangle_left_as_it_was_is_not_routed_anew() -> None:
    idle = setting("mangle", "OUTPUT", r.Rule((), r.SetMark(MarkMask(0))))
    assert isinstance(both(idle, FromProcess("dns"), query("fe80::5")).end, Socket)


@pytest.mark.parametrize(("kind", "asked"), [(0, True), (1, True), (16, True), (127, True), (128, False)])
def test_icmpv6_types_below_128_quote_a_packet_whose_socket_nobody_knows(kind: int, asked: bool) -> None:
    """net/ipv6/netfilter/nf_socket_ipv6.c: extract_icmp6_fields; observed."""
    where = setting("mangle", "PREROUTING", r.Rule((r.Literal(r.SocketMatch(False, False, False)),), None))
    begin = Packet(ip6("fd00::7"), ip6("fd00::5"), ICMPV6, icmp_type=kind, in_iface="eth0", family=V6)
    journey = both(where, FromOutside("eth0"), begin)
    assert journey.end == Kernel()
    assert bool(journey.asked) == asked


def test_a_range_of_sources_that_no_machine_word_counts_has_no_bound_of_hops() -> None:
    anyone = IdSet.read("any")
    way = h.ProxyRoute((h.Dial(),), h.ClientsOwn())
    proxy = h.Process("proxy", anyone, anyone, (h.Listener(90),), (h.Proxy("p", 90, (way,)),))
    wide = r.Snat(r.NatRange(ip6("2001::"), ip6("2002::"), family=V6))
    rules = setting("nat", "POSTROUTING", r.Rule((), wide)).rules
    assert hop_bound(replace(HOST, processes=(proxy,)), rules=rules) == MANY


def test_without_a_device_nobody_sends_from_a_link_local_address_that_the_way_without_a_source_does_not_lend() -> (
    None
):
    taking = h.Route(Net(0, 0, V6), "lo", kind=h.RouteKind.LOCAL, metric=1024)
    policy = (h.RoutingRule(7, source=Net.read("fe80::/64", V6), negated=True), h.RoutingRule(h.MAIN))
    lo, eth0 = HOST.interfaces
    where = replace(
        HOST,
        interfaces=(replace(lo, addresses=lo.addresses[:1]), eth0),
        policy=policy,
        tables={7: (taking,)},
    )
    of = Setting(where, r.RuleSet({}, V6))
    packet = Packet(ip6("fe80::5"), ip6("fe80::7"), UDP, 4000, 53, uid=0, gid=0, family=V6)
    js = journeys_of(of, FromProcess("dns"))
    model, _ = under(js, packet, random.Random(0))
    assert not can_send(of, "dns", packet)
    assert not possible(js, model)
