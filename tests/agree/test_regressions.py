"""Cases in which the wings once told different journeys, each as small as it could be made."""

from __future__ import annotations

import random

import pytest
from msgspec.structs import replace

from verifier import claims as c
from verifier import hosts as h
from verifier import rules as r
from verifier.answers import Proved, Refuted, Vacuous
from verifier.concrete import claims as concrete
from verifier.concrete.travel import can_send
from verifier.hosts import Setting
from verifier.journeys import (
    CANNOT_SEND,
    End,
    FromOutside,
    FromProcess,
    FromProxy,
    Group,
    Journey,
    Left,
    Lost,
    ProxyState,
    Sender,
    Socket,
    Unmodelled,
)
from verifier.packets import Packet
from verifier.prove import Prover
from verifier.symbolic import claims as symbolic
from verifier.symbolic.terms import Model
from verifier.symbolic.travel import Journeys
from verifier.values import ICMP, TCP, UDP, AddressSet, IdSet, Net, Span, TcpFlag

from .agreement import difference, journeys_of, possible, told, under
from .examples import APP, ETH0, FIRST, LO, ROUTES, chain_of_proxies, host, ip, rule_set

ANYONE = IdSet.read("any")
BROADCAST = ip("10.0.0.255")


def syn(src: str, dst: int, dport: int = 80, uid: int | None = 0) -> Packet:
    return Packet(ip(src), dst, TCP, 40000, dport, int(TcpFlag.SYN), uid=uid, gid=uid)


def both(setting: Setting, sender: Sender, begin: Packet | ProxyState) -> tuple[Journeys, Model, Journey]:
    """The journey that both wings tell of what the sender may send."""
    js = journeys_of(setting, sender)
    model, trip = under(js, begin, random.Random(0))
    assert possible(js, model)
    journey = trip.travel()
    assert difference(told(js, model), journey) is None
    return js, model, journey


def says(verb: c.Verb, setting: Setting, sender: Sender, begin: Packet) -> bool | None:
    """What both wings say of the verb."""
    js, model, journey = both(setting, sender, begin)
    answer = concrete.holds(verb, journey, setting)
    verdict = symbolic.verdict(verb, js)
    assert (model.holds(verdict.surely), model.holds(verdict.surely_not)) == (answer is True, answer is False)
    assert (model.holds(verdict.possibly), model.holds(verdict.possibly_not)) == (
        answer is not False,
        answer is not True,
    )
    return answer


@pytest.mark.parametrize("dst", [BROADCAST, ip("255.255.255.255")])
def test_a_raw_socket_sends_tcp_to_a_broadcast_address(dst: int) -> None:
    """connect() alone refuses it (observed: an IPPROTO_RAW socket with SO_BROADCAST passes OUTPUT and POSTROUTING)."""
    raw = h.Process("raw", ANYONE, ANYONE, raw=True)
    _, _, journey = both(Setting(host(raw), r.RuleSet({})), FromProcess("raw"), syn("10.0.0.5", dst))
    assert isinstance(journey.end, Group)


@pytest.mark.parametrize("lent", [None, ip("10.1.0.5")])
def test_a_group_is_left_by_the_interface_of_the_source(lent: int | None) -> None:
    """And which it is nobody knows of a source that the route may have given to a socket that is bound to nothing, nor whether it is
    where POSTROUTING has a say."""
    eth1 = h.Interface("eth1", (h.Address(ip("10.1.0.5"), 24),))
    app = h.Process("app", ANYONE, ANYONE)
    way = h.Route(Net.read("0.0.0.0/0"), "eth0", ip("10.0.0.1"), lent)
    bare = Setting(replace(host(app), interfaces=(LO, ETH0, eth1), routes=(way,)), r.RuleSet({}))
    says = rule_set(mangle={"POSTROUTING": (r.Rule((), r.Log("-j LOG")),)})
    for setting, known in ((bare, True), (replace(bare, rules=says), None)):
        _is_left(setting, lent, known)


def _is_left(setting: Setting, lent: int | None, known: bool | None) -> None:
    for source, leaves in (("10.0.0.5", "eth0"), ("10.1.0.5", "eth1")):
        sent = replace(syn(source, ip("224.0.0.9")), proto=UDP, flags=0)
        js, model, journey = both(setting, FromProcess("app"), sent)
        if lent is not None and source == "10.1.0.5":
            assert isinstance(journey.end, Unmodelled)
            continue
        for interface in ("eth0", "eth1"):
            told_here = symbolic.verdict(c.Leaves(interface), js)
            assert model.holds(told_here.possibly) == (interface == leaves)
            assert model.holds(told_here.surely) == (known is True and interface == leaves)
        assert concrete.holds(c.Leaves(leaves), journey, setting) is known
        assert concrete.holds(c.Reaches("app"), journey, setting) is False
        assert model.holds(symbolic.verdict(c.Reaches("app"), js).surely_not)


def test_what_a_device_takes_past_a_route_that_leads_nowhere_goes_to_its_destination_itself() -> None:
    """So MASQUERADE takes the interface's first address, not that of the subnet of another route's gateway (observed)."""
    two = h.Interface("eth0", (h.Address(ip("10.1.0.5"), 24), h.Address(ip("10.0.0.5"), 24)))
    app = h.Process("app", ANYONE, ANYONE, device="eth0")
    ways = (
        h.Route(Net.read("10.9.0.0/16"), None, kind=h.RouteKind.UNREACHABLE),
        h.Route(Net.read("10.0.0.0/8"), "eth0", ip("10.0.0.1")),
    )
    rules = rule_set(nat={"POSTROUTING": (r.Rule((), r.Masquerade()),)})
    setting = Setting(replace(host(app), interfaces=(LO, two), routes=ways), rules)
    for dst, source in (("10.9.0.1", "10.1.0.5"), ("10.8.0.1", "10.0.0.5")):
        sent = replace(syn("10.1.0.5", ip(dst)), device="eth0")
        assert both(setting, FromProcess("app"), sent)[2].final.src == ip(source)


def test_an_ordinary_socket_does_not() -> None:
    setting = Setting(host(h.Process("app", ANYONE, ANYONE)), r.RuleSet({}))
    js = journeys_of(setting, FromProcess("app"))
    model, _ = under(js, syn("10.0.0.5", BROADCAST), random.Random(0))
    assert not possible(js, model)
    assert not can_send(setting, "app", syn("10.0.0.5", BROADCAST))


def test_tcp_that_nat_sends_to_a_broadcast_address_is_routed() -> None:
    """The refusal is connect()'s, and this socket connected elsewhere."""
    rules = rule_set(nat={"OUTPUT": (r.Rule((), r.Dnat(r.NatRange.of(BROADCAST))),)})
    setting = Setting(host(h.Process("app", ANYONE, ANYONE)), rules)
    assert isinstance(both(setting, FromProcess("app"), syn("10.0.0.5", ip("8.8.8.8")))[2].end, Group)


def proxying(source: h.DialSource, dial: h.Dial, *interfaces: h.Interface) -> Setting:
    proxy = h.Proxy("p", FIRST, (h.ProxyRoute((dial,), source),))
    there = h.Process("there", ANYONE, ANYONE, (h.Listener(FIRST), h.Listener(APP)), (proxy,))
    return Setting(replace(host(there), interfaces=(*interfaces, ETH0)), r.RuleSet({}))


TO_ZERO = h.Dial(None, APP)


@pytest.mark.parametrize("lo", ["127.0.0.1", "127.0.0.6"])
def test_who_dials_0_0_0_0_without_a_source_goes_from_localhost_to_localhost(lo: str) -> None:
    """Whatever address lo has first (net/ipv4/route.c: ip_route_output_key_hash_rcu)."""
    setting = proxying(h.KernelChooses(), TO_ZERO, h.Interface("lo", (h.Address(ip(lo), 8),)))
    state = ProxyState("there", "p", 0, 80)
    _, _, journey = both(setting, FromProxy("there", "p"), state)
    assert (journey.stops[0].packet.src, journey.stops[0].packet.dst) == (ip("127.0.0.1"), ip("127.0.0.1"))
    assert isinstance(journey.end, Socket)


def test_an_interface_without_addresses_borrows_a_source() -> None:
    setting = proxying(h.KernelChooses(), h.Dial(ip("8.8.8.8"), 80), LO)
    bare = (h.Route(ROUTES[0].net, "tun0"), ROUTES[1])
    with_tunnel = replace(
        setting.host, interfaces=(*setting.host.interfaces, h.Interface("tun0")), routes=bare
    )
    state = ProxyState("there", "p", ip("8.8.8.8"), 80)
    _, _, journey = both(replace(setting, host=with_tunnel), FromProxy("there", "p"), state)
    assert journey.stops[0].packet.src == ip("10.0.0.5")
    assert journey.end == Left("tun0")


def test_a_dial_without_a_route_is_not_sent() -> None:
    setting = proxying(h.KernelChooses(), h.Dial(ip("8.8.8.8"), 80), LO)
    without = replace(setting, host=replace(setting.host, routes=()))
    end: End = both(without, FromProxy("there", "p"), ProxyState("there", "p", ip("8.8.8.8"), 80))[2].end
    assert end == Lost(CANNOT_SEND)


@pytest.mark.parametrize("verb", [c.IsRejected(), c.IsDropped(), c.IsDropped(c.ChainRef("filter", "INPUT"))])
def test_a_broadcast_that_has_passed_input_meets_no_more_rules(verb: c.Verb) -> None:
    """Its end is a group without hooks, so that it is known that no rule drops it."""
    setting = Setting(host(), r.RuleSet({}))
    ping = Packet(ip("10.0.0.7"), BROADCAST, ICMP, icmp_type=8, in_iface="eth0")
    assert both(setting, FromOutside("eth0"), ping)[2].end == Group(())
    assert says(verb, setting, FromOutside("eth0"), ping) is False


@pytest.mark.parametrize("verb", [c.IsRejected(), c.IsDropped()])
def test_one_that_is_sent_may_meet_more_rules(verb: c.Verb) -> None:
    setting = Setting(host(h.Process("app", ANYONE, ANYONE)), r.RuleSet({}))
    ping = Packet(ip("10.0.0.5"), BROADCAST, ICMP, icmp_type=8, uid=0, gid=0)
    assert says(verb, setting, FromProcess("app"), ping) is None


def test_what_has_no_ports_is_not_delivered_to_port_0() -> None:
    setting = Setting(host(h.Process("app", ANYONE, ANYONE)), r.RuleSet({}))
    ping = Packet(ip("10.0.0.5"), ip("8.8.8.8"), ICMP, icmp_type=8, uid=0, gid=0)
    verb = c.Leaves("eth0", c.With(port=0))
    assert says(verb, setting, FromProcess("app"), ping) is False


def test_a_journey_that_goes_on_may_end() -> None:
    """Said of a journey of which one hop is written, and by the prover of one of two hops."""
    setting = chain_of_proxies(1, h.Dial(ip("127.0.0.1"), APP))
    frame = replace(syn("10.0.0.7", ip("10.0.0.5"), FIRST, None), in_iface="eth0")
    js = journeys_of(setting, FromOutside("eth0"), deepest=1)
    model, trip = under(js, frame, random.Random(0))
    verdict = symbolic.verdict(c.Ends(), js)
    assert concrete.holds(c.Ends(), trip.travel(), setting) is None
    assert model.holds(verdict.possibly)
    assert model.holds(verdict.possibly_not)
    to_proxy = c.Premise(c.Outside("eth0"), c.Kind.CONNECTION)
    claim = c.PacketClaim(c.Quantifier.NO, to_proxy, (c.Reaches("proxy15001"), c.Ends()))
    assert isinstance(Prover(setting).answer(claim), Refuted)


def test_a_transparent_proxy_may_have_a_broadcast_address_as_its_clients() -> None:
    """What NAT then sends elsewhere is routed as if it had no source (net/ipv4/netfilter.c: ip_route_me_harder)."""
    proxy = h.Proxy("p", FIRST, (h.ProxyRoute((h.Dial(),), h.ClientsOwn()),))
    process = h.Process("proxy", ANYONE, ANYONE, (h.Listener(FIRST),), (proxy,))
    away = r.Rule((), r.Dnat(r.NatRange(ip("8.8.8.8"), ip("8.8.8.8"))))
    setting = Setting(host(process), rule_set(nat={"OUTPUT": (away,)}))
    state = ProxyState("proxy", "p", ETH0.addresses[0].ip, 80, client=ip("127.255.255.255"))
    _, _, journey = both(setting, FromProxy("proxy", "p"), state)
    assert journey.end == Left("eth0")


def test_what_nat_leaves_at_its_address_goes_on_by_its_first_route() -> None:
    """A raw socket's source would not let it be routed anew; but NETMAP of every address to itself moves nothing."""
    raw = h.Process("raw", ANYONE, ANYONE, raw=True)
    itself = r.Rule((), r.Netmap(Net(0, 0)))
    setting = Setting(host(raw), rule_set(nat={"OUTPUT": (itself,)}))
    _, _, journey = both(setting, FromProcess("raw"), syn("127.0.0.5", ip("8.8.8.8")))
    assert journey.end == Left("eth0")


def test_no_claim_speaks_of_a_raw_socket_that_names_no_source() -> None:
    raw = h.Process("raw", ANYONE, ANYONE, raw=True)
    from_zero = c.Premise(c.OfProcess("raw"), filter=c.Filter(source=AddressSet((Net(0),))))
    for where, answer in (
        (host(raw), Vacuous),
        (replace(host(raw), interfaces=(h.Interface("lo"), h.Interface("eth0"))), Proved),
    ):
        asked = c.PacketClaim(c.Quantifier.EVERY, from_zero, (c.Ends(),))
        assert isinstance(Prover(Setting(where, rule_set())).answer(asked), answer)


def test_a_proxy_does_not_learn_the_original_destination_of_a_connection_in_a_zone() -> None:
    """SO_ORIGINAL_DST looks into the default zone."""
    away = r.Rule((r.Literal(r.Protocol(TCP)),), r.Redirect(Span.one(FIRST)))

    def told(options: str, dport: int) -> End:
        zoned = r.Rule((), r.TrackAs(options))
        rules = rule_set(raw={"PREROUTING": (zoned,), "OUTPUT": (zoned,)}, nat={"PREROUTING": (away,)})
        where = chain_of_proxies(1, h.Dial(ip("8.8.8.8"), 443))
        begin = replace(syn("10.0.0.7", ip("10.0.0.5"), dport, None), in_iface="eth0")
        _, _, journey = both(replace(where, rules=rules), FromOutside("eth0"), begin)
        return journey.end

    assert isinstance(told("--zone 1", 80), Unmodelled)
    assert told("--zone 1", FIRST) == Left("eth0")
    assert told("--helper ftp", 80) == Left("eth0")
