"""What the concrete wing says of IPv6 packets, fact by fact; tests/kernel/test_ipv6.py asks the kernel the same."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from verifier import journeys as j
from verifier.claims import Kind, Outside, Premise
from verifier.concrete.claims import meets
from verifier.concrete.conntrack import conntrack_state
from verifier.concrete.travel import as_sent, can_send, travel
from verifier.hooks import Hook
from verifier.hosts import (
    DEFAULTS_IPV6,
    Address,
    BoundTo,
    ClientsOwn,
    Dial,
    DialSource,
    Host,
    Interface,
    KernelChooses,
    Listener,
    Process,
    Proxy,
    ProxyRoute,
    Route,
    Setting,
)
from verifier.packets import Packet
from verifier.reading.rules import read_rules
from verifier.rules import RuleSet
from verifier.values import (
    ICMPV6,
    TCP,
    UDP,
    AddressSet,
    CtState,
    Family,
    IdSet,
    Ipv6Extension,
    Net,
    Special,
    TcpFlag,
    read_address,
)

V6 = Family.IPV6
ANY = IdSet.read("any")


def at(text: str) -> int:
    return read_address(text, V6)


def interface(name: str, *addresses: str) -> Interface:
    pairs = (text.split("/") for text in addresses)
    return Interface(name, tuple(Address(at(ip), int(length), V6) for ip, length in pairs))


LO = interface("lo", "::1/128", "::6/128")
ETH0 = interface("eth0", "2001:db8::2/64", "2001:db8::3/64", "fe80::2/64")
ETH1 = interface("eth1", "2001:db8:1::2/64", "fe80::12/64")
ROUTES = (
    Route(Net.read("2001:db8::/64", V6), "eth0", metric=256),
    Route(Net.read("2001:db8:1::/64", V6), "eth1", metric=256),
    Route(Net.read("fe80::/64", V6), "eth0", metric=256),
    Route(Net.read("fe80::/64", V6), "eth1", metric=256),
    Route(Net.read("::/0", V6), "eth0", at("fe80::99"), metric=1024),
)
APP = Process("app", ANY, ANY, (Listener(80), Listener(53, protocol=UDP)))


def host(
    *processes: Process, forwarding: int = 0, interfaces: tuple[Interface, ...] = (LO, ETH0, ETH1)
) -> Host:
    routes = tuple(r for r in ROUTES if r.device in {i.name for i in interfaces})
    sysctls = {**DEFAULTS_IPV6, "net.ipv6.conf.all.forwarding": forwarding}
    return Host("host", interfaces, routes, sysctls, processes or (APP,), family=V6)


def setting(rules: str = "", on: Host | None = None) -> Setting:
    known = read_rules(rules, "x", None, V6).families[V6] if rules else RuleSet({}, V6)
    return Setting(host() if on is None else on, known)


def packet(src: str, dst: str, proto: int = TCP, dport: int = 80) -> Packet:
    ports = (40001, dport) if proto in (TCP, UDP) else (0, 0)
    return Packet(at(src), at(dst), proto, *ports, TcpFlag.SYN if proto == TCP else 0, family=V6)


def frame(where: Setting, src: str, dst: str, proto: int = TCP, iface: str = "eth0") -> j.Journey:
    return travel(where, j.FromOutside(iface), packet(src, dst, proto))


def sent(src: str, dst: str, proto: int = TCP, device: str | None = None) -> Packet:
    return replace(packet(src, dst, proto), uid=0, gid=0, device=device)


ROUTER = setting(on=host(forwarding=1))


# -- what arrives ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("src", "dst"),
    [
        ("::1", "2001:db8::2"), ("2001:db8::9", "::1"), ("ff02::1", "2001:db8::2"), ("2001:db8::9", "ff00::1"),
        ("2001:db8::9", "ff01::1"),
    ],
)  # fmt: skip
def test_no_rule_sees_what_the_first_checks_drop(src: str, dst: str) -> None:
    """net/ipv6/ip6_input.c: ip6_rcv_core."""
    journey = frame(setting("*raw\n-A PREROUTING -j ACCEPT\nCOMMIT\n"), src, dst)
    assert (journey.end, [s.act for s in journey.stops]) == (j.Lost(j.MARTIAN), [j.Act.SENT])


@pytest.mark.parametrize(
    ("dst", "forwarding", "end"),
    [
        ("2001:db8::2", 0, "Socket"), ("2001:db8:1::2", 0, "Socket"), ("fe80::2", 0, "Socket"),
        ("fe80::12", 0, j.NOT_FORWARDED), ("fe80::12", 1, "eth0"), ("2001:db8::", 0, j.NOT_FORWARDED),
        ("2001:db8::", 1, j.NOT_UNICAST), ("fe80::", 1, j.NOT_UNICAST), ("2001:db8:1::9", 1, "eth1"), ("::", 1, "eth0"),
        ("2001:db8::9", 1, "eth0"), ("ff02::1", 0, "Group"), ("::6", 0, "Socket"),
    ],
)  # fmt: skip
def test_what_arrives_is_for_this_host_or_forwarded(dst: str, forwarding: int, end: str) -> None:
    """Link-local addresses are of one interface, and a router has its subnets' first addresses."""
    found = frame(setting(on=host(forwarding=forwarding)), "2001:db8::9", dst).end
    match found:
        case j.Lost(reason):
            assert reason == end
        case j.Left(iface):
            assert iface == end
        case _:
            assert type(found).__name__ == end


@pytest.mark.parametrize("src", ["::", "fe80::99"])
def test_sources_of_one_link_are_not_forwarded_to_another(src: str) -> None:
    """net/ipv6/ip6_output.c: ip6_forward; a packet that leaves by where it came in is not asked."""
    assert frame(ROUTER, src, "2001:db8:1::9").end == j.Lost(j.MARTIAN)
    assert frame(ROUTER, src, "2001:db8::9").end == j.Left("eth0")


def test_an_own_address_is_no_martian_source() -> None:
    assert frame(ROUTER, "2001:db8::2", "2001:db8:1::9").end == j.Left("eth1")
    assert isinstance(frame(setting(), "2001:db8::3", "2001:db8::2").end, j.Socket)


def test_tcp_takes_no_mapped_source() -> None:
    """net/ipv6/tcp_ipv6.c: tcp_v6_conn_request."""
    assert frame(setting(), "::ffff:1.2.3.4", "2001:db8::2").end == j.Lost(j.MARTIAN)
    assert isinstance(frame(setting(), "::ffff:1.2.3.4", "2001:db8::2", UDP).end, j.Refused)


def test_a_header_that_decides_who_gets_a_packet_is_not_followed() -> None:
    where = setting("*filter\n-A INPUT -m ipv6header --header auth --soft\nCOMMIT\n")
    known = replace(
        packet("2001:db8::9", "2001:db8::2"), extensions=int(Ipv6Extension.PROTO | Ipv6Extension.AUTH)
    )
    journey = travel(where, j.FromOutside("eth0"), known)
    assert journey.end == j.Unmodelled("an extension header that is not followed")
    assert j.Act.MATCHED in [s.act for s in journey.stops]


@pytest.mark.parametrize(
    ("proto", "kind", "state"),
    [
        (ICMPV6, 128, CtState.NEW), (ICMPV6, 139, CtState.NEW), (ICMPV6, 129, CtState.INVALID), (ICMPV6, 1, CtState.INVALID),
        (ICMPV6, 135, CtState.UNTRACKED), (ICMPV6, 143, CtState.UNTRACKED), (ICMPV6, 137, CtState.INVALID),
        (59, 0, CtState.INVALID), (1, 0, CtState.INVALID), (132, 0, CtState.NEW),
    ],
)  # fmt: skip
def test_conntrack_knows_icmpv6(proto: int, kind: int, state: CtState) -> None:
    """net/netfilter/nf_conntrack_proto_icmpv6.c: valid_new, noct_valid_new."""
    known = replace(packet("2001:db8::9", "2001:db8::2", proto), icmp_type=kind)
    assert conntrack_state(setting(), known) is state


@pytest.mark.parametrize("proto", [0, 43, 44, 51, 60])
def test_an_extension_header_is_no_protocol(proto: int) -> None:
    premise = Premise(Outside("eth0"), Kind.PACKET)
    assert not meets(premise, setting(), j.FromOutside("eth0"), packet("2001:db8::9", "2001:db8::2", proto))


# -- what is sent -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("src", "dst", "proto", "device", "out"),
    [
        ("2001:db8::2", "2001:db8:1::9", TCP, None, "eth1"), ("::1", "2001:db8::9", TCP, None, "eth0"),
        ("2001:db8::2", "::1", TCP, None, "lo"), ("2001:db8::2", "2001:db8:1::2", TCP, None, "lo"),
        ("2001:db8::2", "::1", TCP, "eth0", "eth0"), ("2001:db8::2", "2001:db8:1::2", TCP, "eth0", "eth0"),
        ("2001:db8::2", "3000::1", TCP, "eth1", None), ("2001:db8::2", "fe80::9", TCP, None, None),
        ("2001:db8::2", "fe80::9", UDP, None, "eth0"), ("2001:db8::2", "fe80::9", TCP, "eth1", "eth1"),
        ("2001:db8::2", "fe80::12", TCP, "eth1", "lo"), ("2001:db8::2", "fe80::12", UDP, None, "lo"),
        ("2001:db8::2", "ff02::1", TCP, None, None), ("2001:db8::2", "ff02::1", UDP, None, "eth0"),
        ("2001:db8::2", "ff02::1", UDP, "eth1", "eth1"), ("2001:db8::2", "::ffff:1.2.3.4", UDP, None, None),
    ],
)  # fmt: skip
def test_a_socket_sends_by_the_route(
    src: str, dst: str, proto: int, device: str | None, out: str | None
) -> None:
    """net/ipv6/route.c: ip6_route_output_flags; the source makes no difference, and a link-local address needs a zone."""
    bound = replace(APP, device=device)
    where = setting(on=host(bound))
    known = as_sent(where, j.FromProcess("app"), sent(src, dst, proto, device))
    assert (known.out_iface, can_send(where, "app", known)) == (out, out is not None)


def test_a_link_local_source_is_one_of_its_link() -> None:
    """net/ipv6/af_inet6.c: __inet6_bind."""
    where = setting(on=host(replace(APP, device="eth0")))
    assert can_send(where, "app", sent("fe80::2", "2001:db8::9", TCP, "eth0"))
    assert not can_send(where, "app", sent("fe80::12", "2001:db8::9", TCP, "eth0"))
    assert not can_send(where, "app", sent("fe80::2", "2001:db8::9"))
    assert can_send(where, "app", sent("fe80::2", "fe80::9", UDP))
    assert not can_send(where, "app", sent("fe80::12", "fe80::9", UDP))
    assert can_send(where, "app", sent("fe80::12", "fe80::12", UDP))


def test_a_raw_process_writes_any_source_and_a_mapped_destination() -> None:
    where = setting(on=host(replace(APP, raw=True)))
    assert can_send(where, "app", sent("2001:db8:77::1", "::ffff:1.2.3.4"))


def test_unicast_is_what_the_main_table_has_a_route_to() -> None:
    for text, is_unicast in (
        ("2001:db8::9", True), ("2001:db8::2", False), ("ff02::1", False), ("::", False), ("::ffff:1.2.3.4", False),
        ("fe80::9", True), ("::1", False),
    ):  # fmt: skip
        where = setting(on=replace(host(), outside=AddressSet((Special.UNICAST,))))
        known = packet(text, "2001:db8::2", UDP)
        assert meets(Premise(Outside("eth0")), where, j.FromOutside("eth0"), known) == is_unicast, text


# -- NAT ----------------------------------------------------------------------------------------------

REDIRECT = "*nat\n-A PREROUTING -j REDIRECT\n-A OUTPUT -j REDIRECT\nCOMMIT\n"


@pytest.mark.parametrize(
    ("dst", "to"),
    [
        ("2001:db8:77::1", "2001:db8::2"), ("2001:db8::3", "2001:db8::2"), ("fe80::77", "fe80::2"), ("ff02::1", "fe80::2"),
        ("ff0e::1", "2001:db8::2"), ("ff05::1", None), ("fec0::1", None), ("::7", None), ("::", "2001:db8::2"),
    ],
)  # fmt: skip
def test_redirect_takes_an_address_of_the_destinations_scope(dst: str, to: str | None) -> None:
    """net/netfilter/nf_nat_redirect.c: nf_nat_redirect_ipv6_usable."""
    journey = frame(setting(REDIRECT), "2001:db8::9", dst, UDP)
    assert journey.end == j.Lost(j.NO_ADDRESS) if to is None else journey.final.dst == at(to)


def test_redirect_of_what_is_sent_leads_to_localhost() -> None:
    journey = travel(setting(REDIRECT), j.FromProcess("app"), sent("2001:db8::2", "2001:db8::9"))
    assert (journey.final.dst, type(journey.end)) == (1, j.Socket)


def test_a_socket_with_a_device_is_not_led_to_localhost() -> None:
    """The new route is one by its device, as in IPv4."""
    where = setting(REDIRECT, host(replace(APP, device="eth0")))
    journey = travel(where, j.FromProcess("app"), sent("2001:db8::2", "2001:db8::9", TCP, "eth0"))
    assert (journey.final.dst, journey.end) == (1, j.Left("eth0"))


def test_what_went_to_a_link_is_routed_again_by_that_link() -> None:
    """net/ipv6/netfilter.c: ip6_route_me_harder, `strict`."""
    where = setting("*nat\n-A OUTPUT -j DNAT --to-destination fe80::77\nCOMMIT\n")
    for dst, end in (("2001:db8:1::9", j.Left("eth1")), ("::1", j.Lost(j.REROUTE_FAILED))):
        assert travel(where, j.FromProcess("app"), sent("2001:db8::2", dst)).end == end


@pytest.mark.parametrize(
    ("dst", "known"),
    [("2001:db8:1::9", at("2001:db8:1::2")), ("2001:db8::9", None), ("fe80::9", at("fe80::2"))],
)  # fmt: skip
def test_masquerade_takes_the_only_address_that_would_do(dst: str, known: int | None) -> None:
    """net/ipv6/addrconf.c: ipv6_dev_get_saddr; which of several, nobody says here."""
    where = setting("*nat\n-A POSTROUTING -j MASQUERADE\nCOMMIT\n")
    journey = travel(where, j.FromProcess("app"), sent("::6", dst, UDP))
    if known is None:
        assert journey.end == j.Unmodelled(j.SOURCE_SELECTION)
    else:
        assert journey.final.src == known


# -- proxies ------------------------------------------------------------------------------------------


ORIGINAL = Dial()


def dialling(source: DialSource, dial: Dial = ORIGINAL) -> Setting:
    proxy = Proxy("out", 80, (ProxyRoute((dial,), source),))
    return setting(on=host(replace(APP, proxies=(proxy,))))


def dialled(where: Setting, dst: str, client: str | None = None) -> j.Journey:
    state = j.ProxyState("app", "out", at(dst), 443, None if client is None else at(client))
    return travel(where, j.FromProxy("app", "out"), state=state, hops=1)


@pytest.mark.parametrize(
    ("dst", "src"),
    [
        ("::1", "::1"),
        ("::", "::1"),
        ("2001:db8::3", "2001:db8::3"),
        ("2001:db8:1::9", "2001:db8:1::2"),
        ("::6", "::6"),
    ],
)
def test_a_dial_has_the_source_that_the_kernel_selects(dst: str, src: str) -> None:
    first = dialled(dialling(KernelChooses()), dst).stops[0].packet
    assert (first.src, first.dst) == (at(src), at(dst) or 1)


def test_which_of_two_addresses_is_selected_is_not_said() -> None:
    journey = dialled(dialling(KernelChooses()), "2001:db8::9")
    assert journey.end == j.Unmodelled(j.SOURCE_SELECTION)
    assert (journey.stops[0].packet.src, journey.stops[0].packet.out_iface) == (0, None)


@pytest.mark.parametrize("dst", ["fe80::9", "fe80::2", "ff02::1"])
def test_a_dial_names_no_zone(dst: str) -> None:
    """net/ipv6/tcp_ipv6.c: tcp_v6_connect."""
    assert dialled(dialling(BoundTo(6, V6)), dst).end == j.Lost(j.CANNOT_SEND)
    assert dialled(dialling(ClientsOwn()), "2001:db8::9", "fe80::9").end == j.Lost(j.CANNOT_SEND)


@pytest.mark.parametrize(
    ("where", "dst"),
    [
        (dialling(BoundTo(0x7F000006)), "2001:db8::9"),
        (dialling(BoundTo(6, V6), Dial(0x7F000001)), "2001:db8::9"),
        (dialling(BoundTo(6, V6)), "::ffff:1.2.3.4"),
    ],
)
def test_what_is_dialled_in_the_other_family_is_not_followed(where: Setting, dst: str) -> None:
    journey = dialled(where, dst)
    assert journey.end == j.Unmodelled(j.OTHER_FAMILY)
    assert [s.act for s in journey.stops] == [j.Act.SENT]


# -- matches --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "src", "dst", "holds"),
    [
        ("-m addrtype --dst-type LOCAL", "2001:db8::9", "2001:db8:1::2", True),
        ("-m addrtype --dst-type LOCAL --limit-iface-in", "2001:db8::9", "2001:db8:1::2", False),
        ("-m addrtype --dst-type ANYCAST", "2001:db8::9", "2001:db8:1::", True),
        ("-m addrtype --src-type UNICAST", "::ffff:1.2.3.4", "2001:db8::2", False),
        ("-m addrtype --dst-type UNICAST,LOCAL", "2001:db8::9", "2001:db8::9", False),
        ("-m addrtype ! --dst-type MULTICAST", "2001:db8::9", "ff02::1", False),
        ("-m rpfilter", "2001:db8:1::9", "2001:db8::2", False),
        ("-m rpfilter --loose", "2001:db8:1::9", "2001:db8::2", True),
        ("-m rpfilter", "fe80::9", "2001:db8::2", True),
        ("-m rpfilter", "2001:db8::3", "2001:db8::2", False),
        ("-m rpfilter --accept-local", "2001:db8::3", "2001:db8::2", True),
        ("-p tcp -m socket", "2001:db8::9", "2001:db8::2", False),
        ("-p tcp -m socket --nowildcard", "2001:db8::9", "2001:db8::2", True),
    ],
)  # fmt: skip
def test_a_match_asks_the_host(rule: str, src: str, dst: str, holds: bool) -> None:
    """net/netfilter/xt_addrtype.c: match_type6; net/ipv6/netfilter/ip6t_rpfilter.c; net/netfilter/xt_socket.c."""
    where = setting(f"*mangle\n-A PREROUTING {rule}\nCOMMIT\n", host(forwarding=1))
    journey = frame(where, src, dst)
    assert (j.Act.MATCHED in [s.act for s in journey.stops if s.hook is Hook.PREROUTING]) == holds


@pytest.mark.parametrize("change", ["MARK --set-mark 1", "TOS --set-tos 0x10", "HL --hl-set 7"])
def test_what_mangle_changes_is_routed_anew_and_an_own_link_local_address_is_lost(change: str) -> None:
    """net/ipv6/netfilter/ip6table_mangle.c: ip6t_mangle_out; the way so far was lo, which has no such address."""
    where = setting(f"*mangle\n-A OUTPUT -j {change}\nCOMMIT\n")
    assert travel(where, j.FromProcess("app"), sent("2001:db8::2", "fe80::12", UDP)).end == j.Lost(
        j.REROUTE_FAILED
    )
    for dst in ("fe80::9", "2001:db8::3"):
        end = travel(where, j.FromProcess("app"), replace(sent("2001:db8::2", dst, UDP), dport=9)).end
        assert end == (j.Left("eth0") if dst == "fe80::9" else j.Refused())


def test_nobody_sends_to_no_address() -> None:
    assert not can_send(setting(on=host(replace(APP, raw=True))), "app", sent("2001:db8::2", "::"))


def test_over_lo_no_group_is_a_source() -> None:
    """net/ipv6/ip6_input.c: ip6_rcv_core asks that of every interface; of addresses like ::1 it does not ask lo."""
    where = setting("*mangle\n-A PREROUTING -i lo\nCOMMIT\n", host(replace(APP, raw=True)))
    journey = travel(where, j.FromProcess("app"), sent("ff02::1", "2001:db8::2", UDP))
    assert (journey.end, j.Act.MATCHED in [s.act for s in journey.stops]) == (j.Lost(j.MARTIAN), False)


def test_what_went_by_lo_goes_to_no_group() -> None:
    """lo has no route to groups (net/ipv6/addrconf.c: addrconf_add_mroute)."""
    where = setting("*nat\n-A OUTPUT -j DNAT --to-destination ff02::5\nCOMMIT\n")
    ends = [
        travel(where, j.FromProcess("app"), sent("2001:db8::2", dst, UDP)).end
        for dst in ("::1", "2001:db8::9")
    ]
    assert ends[0] == j.Lost(j.REROUTE_FAILED)
    assert isinstance(ends[1], j.Group)


@pytest.mark.parametrize(("spi", "auth", "holds"), [(5, True, True), (9, True, False), (0, False, False)])
def test_a_negated_spi_is_one_of_a_packet_that_has_one(spi: int, auth: bool, holds: bool) -> None:
    """net/ipv6/netfilter/ip6t_ah.c: ah_mt6."""
    where = setting("*raw\n-A PREROUTING -m ah ! --ahspi 9\nCOMMIT\n")
    bits = Ipv6Extension.PROTO | (Ipv6Extension.AUTH if auth else 0)
    known = replace(packet("2001:db8::9", "2001:db8::2"), spi=spi, extensions=int(bits))
    journey = travel(where, j.FromOutside("eth0"), known)
    assert (j.Act.MATCHED in [s.act for s in journey.stops]) == holds
