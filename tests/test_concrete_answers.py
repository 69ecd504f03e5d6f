"""Examples of answers, and of what TPROXY does, each told by the concrete wing as docs/journeys.md has it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.test_concrete import ACK, ANYONE, FROM_WHO, LO, SYN, WIRE, frame, host, ip, sent
from verifier import claims as c
from verifier import hosts as h
from verifier import journeys as j
from verifier.concrete.answers import (
    A_MARKS_ZONE,
    ITS_OWN_CONNECTION,
    LOOKED_FOR_AGAIN,
    OF_THIS_PROTOCOL,
    THE_KERNELS_SOCKET,
)
from verifier.concrete.claims import holds, of_answer
from verifier.concrete.travel import travel
from verifier.packets import DST_NAT, SEEN_REPLY, SRC_NAT, Packet
from verifier.reading.rules import read_rules
from verifier.rules import RuleSet
from verifier.values import ICMP, IPV4, UDP, CtState, MarkMask, Net

APP = h.Process("app", ANYONE, ANYONE, (h.Listener(80), h.Listener(53, protocol=UDP)))
ETH1 = h.Interface("eth1", (h.Address(ip("10.44.0.5"), 24),))
ETH0 = h.Interface("eth0", (h.Address(ip("10.33.0.5"), 24),))
TWO_ARMS = (
    h.Route(Net.read("0.0.0.0/0"), "eth0", ip("10.33.0.1")),
    h.Route(Net.read("10.33.0.0/24"), "eth0", source=ip("10.33.0.5")),
    h.Route(Net.read("10.44.0.0/24"), "eth1", source=ip("10.44.0.5")),
)


def setting(rules: str, on: h.Host | None = None) -> h.Setting:
    text = "\n".join(line.strip() for line in rules.strip().splitlines()) + "\n" if rules else ""
    read = read_rules(text, "here").rules if text else RuleSet({}, IPV4)
    return h.Setting(host(APP) if on is None else on, read, answers=True)


def router(rules: str, **sysctls: int) -> h.Setting:
    keys = {"ip_forward": 1, **{f"conf.all.{key}": value for key, value in sysctls.items()}}
    return setting(rules, host(APP, interfaces=(LO, ETH0, ETH1), routes=TWO_ARMS, sysctls=keys))


def answer(where: h.Setting, sender: j.Sender, packet: Packet, choices: j.Choices | None = None) -> j.Journey:
    found = of_answer(travel(where, sender, packet, choices or j.Choices()), 0)
    assert found is not None
    return found


def ends(packet: Packet) -> tuple[int, int, int, int]:
    return packet.src, packet.sport, packet.dst, packet.dport


def back(packet: Packet) -> tuple[int, int, int, int]:
    return packet.dst, packet.dport, packet.src, packet.sport


def answered(where: h.Setting, sender: j.Sender, packet: Packet, by: str | None = None) -> bool | None:
    return holds(c.IsAnswered(by), travel(where, sender, packet), where)


# -- who answers ----------------------------------------------------------------------------------


def test_without_a_word_about_answers_nobody_tells_of_them() -> None:
    where = replace(setting(""), answers=False)
    journey = travel(where, WIRE, frame(dport=80))
    assert journey.answers == {}
    assert all(stop.hop == 0 for stop in journey.stops)


def test_a_listener_answers_a_syn_with_a_syn_ack_from_where_it_came_to() -> None:
    journey = answer(setting(""), WIRE, frame(dport=80))
    assert (journey.stops[0].process, journey.final.flags) == ("app", SYN | ACK)
    assert (ends(journey.final), journey.end) == (back(frame(dport=80)), j.Left("eth0"))


def test_a_hairpin_without_masquerade_has_no_answer_that_comes_back() -> None:
    """To the machine that dialled it is one from its own address, a martian; to a neighbour of its the answer goes past this host."""
    hairpin = "*nat\n-A PREROUTING -i eth1 -p tcp --dport 80 -j DNAT --to-destination 10.44.0.%s\n%sCOMMIT\n"
    asks = frame(src="10.44.0.7", dst="10.33.0.5", dport=80)
    arm = j.FromOutside("eth1")
    for last, said in (("7", False), ("8", None)):
        assert answered(router(hairpin % (last, "")), arm, asks) is said
    masquerades = "-A POSTROUTING -o eth1 -j MASQUERADE\n"
    assert answered(router(hairpin % ("7", masquerades)), arm, asks) is True


def test_the_far_machine_answers_what_left() -> None:
    journey = answer(setting(""), FROM_WHO, sent())
    first = journey.stops[0]
    assert (first.process, first.packet.in_iface, first.packet.uid) == (None, "eth0", None)
    assert (ends(journey.final), journey.end) == (back(sent()), j.Returned("who"))


def test_a_stray_ack_that_leaves_is_not_answered() -> None:
    assert travel(setting(""), FROM_WHO, replace(sent(), flags=ACK)).answers == {}


def test_nobody_answers_what_is_refused_or_dropped() -> None:
    assert travel(setting(""), WIRE, frame(dport=81)).answers == {}
    dropping = setting("*filter\n:INPUT DROP [0:0]\nCOMMIT")
    assert answered(dropping, WIRE, frame(dport=80)) is False


def test_the_kernel_answers_an_echo_request_and_no_address_mask_request() -> None:
    echo = frame(proto=ICMP)
    journey = answer(setting(""), WIRE, echo)
    assert (journey.stops[0].process, journey.final.icmp_type, journey.end) == (None, 0, j.Left("eth0"))
    assert travel(setting(""), WIRE, replace(echo, icmp_type=17)).answers == {}


def test_the_kernels_own_socket_is_one_where_a_rule_asks_for_sockets() -> None:
    where = setting("*filter\n-A OUTPUT -m owner --socket-exists -j DROP\nCOMMIT")
    assert travel(where, WIRE, frame(proto=ICMP)).answers == {0: j.Unmodelled(THE_KERNELS_SOCKET)}


def test_what_answers_sctp_is_not_modelled() -> None:
    assert travel(setting(""), FROM_WHO, sent(proto=132)).answers == {0: j.Unmodelled(OF_THIS_PROTOCOL)}


def test_the_ids_of_a_listener_are_its_process_s() -> None:
    chosen = j.Choices(uids={j.answer_to(0): (7, 8)})
    first = answer(setting(""), WIRE, frame(dport=80), chosen).stops[0].packet
    assert (first.uid, first.gid) == (7, 8)


# -- its state ------------------------------------------------------------------------------------

STATEFUL = """
    *filter
    :INPUT DROP [0:0]
    :OUTPUT DROP [0:0]
    -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
    -A OUTPUT -m conntrack --ctstate NEW -j ACCEPT
    COMMIT
"""


def test_an_answer_is_established() -> None:
    journey = answer(setting(STATEFUL), FROM_WHO, sent())
    assert journey.end == j.Returned("who")
    assert journey.final.ctstate is CtState.ESTABLISHED
    known = journey.final.connection
    assert known is not None
    assert known.is_reply
    assert known.status & SEEN_REPLY


def test_a_stateless_rule_drops_an_answer() -> None:
    where = setting("*filter\n-A INPUT -p udp -j DROP\nCOMMIT")
    assert answered(where, FROM_WHO, sent(proto=UDP)) is False
    assert answered(where, FROM_WHO, sent()) is True


def test_in_raw_an_answer_reads_as_invalid() -> None:
    where = setting("*raw\n-A PREROUTING -m conntrack --ctstate INVALID -j DROP\nCOMMIT")
    assert isinstance(answer(where, FROM_WHO, sent()).end, j.Dropped)


def test_the_answer_to_what_is_not_tracked_is_a_stray() -> None:
    where = setting(
        STATEFUL.replace("*filter", "*raw\n-A OUTPUT -j NOTRACK\nCOMMIT\n*filter").replace("NEW", "UNTRACKED")
    )
    journey = answer(where, FROM_WHO, sent())
    assert isinstance(journey.end, j.Dropped)
    assert journey.final.ctstate is CtState.INVALID
    assert answer(where, FROM_WHO, sent(proto=UDP)).final.ctstate is CtState.NEW


def test_an_answer_that_is_not_tracked_is_not_translated() -> None:
    nat = "*nat\n-A POSTROUTING -p tcp -j SNAT --to-source 10.33.0.5:7\nCOMMIT\n"
    journey = answer(setting(nat), FROM_WHO, sent())
    assert (ends(journey.final), journey.end) == (back(sent()), j.Returned("who"))
    stray = setting(nat + "*raw\n-A PREROUTING -j NOTRACK\nCOMMIT")
    assert answer(stray, FROM_WHO, sent()).end == j.Refused()


# -- NAT ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rules",
    [
        "-A PREROUTING -p tcp --dport 8080 -j DNAT --to-destination 10.33.0.5:80",
        "-A PREROUTING -p tcp --dport 8080 -j REDIRECT --to-ports 80",
    ],
)
def test_what_was_redirected_is_answered_from_where_it_was_sent(rules: str) -> None:
    where = setting(f"*nat\n{rules}\nCOMMIT")
    assert answered(where, WIRE, frame(dport=8080)) is True
    journey = answer(where, WIRE, frame(dport=8080))
    assert journey.stops[0].packet.sport == 80
    assert [s.act for s in journey.stops].count(j.Act.TRANSLATED) == 1
    known = journey.final.connection
    assert known is not None
    assert known.status & DST_NAT


def test_over_lo_an_answer_is_translated_on_its_way_out() -> None:
    where = setting("*nat\n-A OUTPUT -p tcp --dport 8080 -j REDIRECT --to-ports 80\nCOMMIT")
    journey = answer(where, FROM_WHO, sent(dport=8080))
    hooks = [s.hook.value for s in journey.stops if s.act is j.Act.TRANSLATED and s.hook]
    assert (hooks, journey.end) == (["POSTROUTING"], j.Returned("who"))


def test_a_masqueraded_answer_is_routed_to_who_asked() -> None:
    where = router("*nat\n-A POSTROUTING -o eth0 -j MASQUERADE\nCOMMIT")
    packet = frame("10.44.0.9", "8.8.8.8", dport=80)
    journey = answer(where, j.FromOutside("eth1"), packet)
    assert (journey.stops[0].packet.dst, journey.end) == (ip("10.33.0.5"), j.Left("eth1"))
    assert answered(where, j.FromOutside("eth1"), packet, "eth1") is True
    assert answered(where, j.FromOutside("eth1"), packet, "eth0") is False
    known = journey.final.connection
    assert known is not None
    assert known.status & SRC_NAT


def test_nat_tables_are_not_asked_about_answers() -> None:
    where = router("*nat\n-A PREROUTING -i eth0 -j DNAT --to-destination 10.44.0.77\nCOMMIT")
    assert answered(where, j.FromOutside("eth1"), frame("10.44.0.9", "8.8.8.8", dport=80)) is True


def test_source_nat_at_input_is_undone_before_the_answer_is_routed() -> None:
    where = setting("*nat\n-A INPUT -j SNAT --to-source 10.99.0.1\nCOMMIT")
    journey = answer(where, WIRE, frame(dport=80))
    assert journey.stops[0].packet.dst == ip("10.99.0.1")
    assert (ends(journey.final), journey.end) == (back(frame(dport=80)), j.Left("eth0"))


# -- where it goes --------------------------------------------------------------------------------


def test_a_connection_s_mark_chooses_the_way_back() -> None:
    policy = (h.RoutingRule(2, source=Net.read("10.33.0.5/32")), h.RoutingRule(h.MAIN))
    tables = {2: (h.Route(Net.read("0.0.0.0/0"), "eth1", ip("10.44.0.1")),)}
    on = host(APP, interfaces=(LO, ETH0, ETH1), routes=TWO_ARMS)
    there = replace(on, policy=policy, tables=tables)
    assert answer(setting("", there), WIRE, frame(dport=80)).end == j.Left("eth1")
    marked = replace(there, policy=(h.RoutingRule(h.MAIN, mark=MarkMask(1, 1)), *policy))
    rules = "*mangle\n-A PREROUTING -j CONNMARK --set-mark 1\n-A OUTPUT -j CONNMARK --restore-mark\nCOMMIT"
    assert answered(setting(rules, marked), WIRE, frame(dport=80), "eth0") is True


def test_an_answer_that_comes_back_by_another_way_than_the_source_s_is_a_martian() -> None:
    where = router("", rp_filter=1)
    assert answered(where, FROM_WHO, sent(dst="10.44.0.9")) is True
    device = replace(sent(dst="8.8.8.8"), device="eth1", src=ip("10.44.0.5"))
    assert answer(where, FROM_WHO, device).end == j.Lost(j.MARTIAN)


def test_a_listener_that_is_bound_to_an_interface_answers_by_it() -> None:
    bound = h.Process("app", ANYONE, ANYONE, (h.Listener(80, device="eth1"),))
    packet = frame("10.33.0.9", "10.44.0.5", dport=80)
    for process, out in ((APP, "eth0"), (bound, "eth1")):
        on = host(process, interfaces=(LO, ETH0, ETH1), routes=TWO_ARMS)
        assert answer(setting("", on), j.FromOutside("eth1"), packet).end == j.Left(out)


def test_a_hop_of_a_proxy_has_an_answer_of_its_own() -> None:
    route = h.ProxyRoute((h.Dial(ip("127.0.0.1"), 80),), h.KernelChooses())
    proxy = h.Process("proxy", ANYONE, ANYONE, (h.Listener(8080),), (h.Proxy("all", 8080, (route,)),))
    journey = travel(setting("", host(APP, proxy)), WIRE, frame(dport=8080))
    assert journey.answers == {0: j.Left("eth0"), 1: j.Returned("proxy")}
    hops = [stop.hop for stop in journey.stops]
    assert list(dict.fromkeys(hops)) == [0, -1, 1, -2]


# -- zones ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "here", "found"),
    [
        ("--zone 1", "--zone 1", True),
        ("--zone 1", "--zone 2", False),
        ("--zone 1", "--zone-reply 1", True),
        ("--zone-orig 1", None, True),
        ("--zone-reply 1", None, False),
        ("--zone 1", None, False),
        ("--zone-orig 1", "--zone-orig 2", True),
    ],
)
def test_an_answer_finds_its_connection_in_its_zone(there: str, here: str | None, found: bool) -> None:
    rules = f"*raw\n-A OUTPUT -j CT {there}\n" + (f"-A PREROUTING -j CT {here}\n" if here else "") + "COMMIT"
    state = answer(setting(rules), FROM_WHO, sent()).final.ctstate
    assert state is (CtState.ESTABLISHED if found else CtState.INVALID)


def test_the_first_template_counts() -> None:
    rules = "*raw\n-A OUTPUT -j CT --zone 1\n-A OUTPUT -j CT --zone 2\n-A PREROUTING -j CT --zone 1\nCOMMIT"
    assert answer(setting(rules), FROM_WHO, sent()).end == j.Returned("who")


def test_what_is_not_found_is_looked_for_again_over_lo() -> None:
    """PREROUTING names another zone, and the kernel finds the connection there (observed)."""
    rules = """*raw
    -A PREROUTING -j CT --zone-reply 1
    COMMIT
    *nat
    -A INPUT -j SNAT --to-source 127.0.0.6
    COMMIT"""
    assert answer(setting(rules), WIRE, frame(dport=80)).end == j.Unmodelled(LOOKED_FOR_AGAIN)
    # It is found where it is looked for first.
    rules = rules.replace("COMMIT", "-A OUTPUT -j CT --zone 1\n    COMMIT", 1)
    assert answer(setting(rules), WIRE, frame(dport=80)).end != j.Unmodelled(LOOKED_FOR_AGAIN)


def test_what_begins_a_connection_beside_that_of_its_question_is_not_modelled() -> None:
    """Its replies would be the question over again: the kernel drops it, or gives it another port (observed)."""
    datagram = replace(sent(), proto=UDP, flags=0)
    split = setting("*raw\n-A OUTPUT -j CT --zone-reply 1\nCOMMIT")
    assert answer(split, FROM_WHO, datagram).end == j.Unmodelled(ITS_OWN_CONNECTION)
    assert answer(
        setting("*raw\n-A OUTPUT -j CT --zone-orig 1\nCOMMIT"), FROM_WHO, datagram
    ).end == j.Returned("who")


def test_a_zone_that_the_mark_names_is_not_modelled() -> None:
    where = setting("*raw\n-A OUTPUT -j CT --zone mark\nCOMMIT")
    assert answer(where, FROM_WHO, sent()).end == j.Unmodelled(A_MARKS_ZONE)


# -- TPROXY ---------------------------------------------------------------------------------------

TPROXY = "*mangle\n-A PREROUTING -p tcp -j TPROXY --on-port 15006 {more} --tproxy-mark 0x1/0x1\nCOMMIT"


def with_tproxy(
    listener: h.Listener, more: str = "", *, local: bool = True, rules: str = TPROXY
) -> h.Setting:
    """What has the mark is delivered here, whatever its destination, unless `local` is False."""
    envoy = h.Process("envoy", ANYONE, ANYONE, (listener,))
    taken = h.Route(Net.read("0.0.0.0/0"), "lo", kind=h.RouteKind.LOCAL)
    policy = (h.RoutingRule(100, mark=MarkMask(1, 1)), h.RoutingRule(h.MAIN))
    there = replace(
        host(envoy, APP, sysctls={"ip_forward": 1}),
        policy=policy if local else (),
        tables={100: (taken,)} if local else {},
    )
    return setting(rules.format(more=more), there)


TRANSPARENT = h.Listener(15006, transparent=True)


def test_a_transparent_listener_gets_what_is_for_others() -> None:
    where = with_tproxy(TRANSPARENT)
    journey = travel(where, WIRE, frame(dst="8.8.8.8", dport=443))
    assert journey.end == j.Socket("envoy", TRANSPARENT)
    assert (journey.final.dst, journey.final.dport, journey.final.mark) == (ip("8.8.8.8"), 443, 1)


def test_it_answers_from_their_address() -> None:
    where = with_tproxy(TRANSPARENT)
    assert answered(where, WIRE, frame(dst="8.8.8.8", dport=443), "eth0") is True


@pytest.mark.parametrize("listener", [h.Listener(15006), h.Listener(15007, transparent=True)])
def test_without_a_transparent_listener_the_packet_is_dropped(listener: h.Listener) -> None:
    journey = travel(with_tproxy(listener), WIRE, frame(dst="8.8.8.8", dport=443))
    assert isinstance(journey.end, j.Dropped)
    assert (journey.end.rule, journey.final.mark) == (1, 0)


def test_it_looks_for_the_interface_s_first_address() -> None:
    other = h.Listener(15006, ip("10.33.0.6"), transparent=True)
    first = h.Listener(15006, ip("10.33.0.5"), transparent=True)
    assert isinstance(travel(with_tproxy(other), WIRE, frame(dst="8.8.8.8")).end, j.Dropped)
    assert travel(with_tproxy(first), WIRE, frame(dst="8.8.8.8")).end == j.Socket("envoy", first)
    given = with_tproxy(other, "--on-ip 10.33.0.6")
    assert travel(given, WIRE, frame(dst="8.8.8.8")).end == j.Socket("envoy", other)


def test_what_has_been_given_a_socket_is_not_forwarded() -> None:
    journey = travel(with_tproxy(TRANSPARENT, local=False), WIRE, frame(dst="8.8.8.8", dport=443))
    assert journey.end == j.Lost(j.GIVEN_A_SOCKET)


def test_to_an_own_address_no_rule_is_needed() -> None:
    journey = travel(with_tproxy(TRANSPARENT, local=False), WIRE, frame(dport=80))
    assert journey.end == j.Socket("envoy", TRANSPARENT)


def test_it_takes_what_comes_over_lo() -> None:
    journey = travel(with_tproxy(TRANSPARENT), FROM_WHO, sent(dst="10.33.0.5"))
    assert journey.end == j.Socket("envoy", TRANSPARENT)


def test_a_stray_ack_is_given_the_socket_and_refused() -> None:
    packet = replace(frame(dst="8.8.8.8", dport=443), flags=ACK)
    assert travel(with_tproxy(TRANSPARENT), WIRE, packet).end == j.Refused()
