"""What the kernel's matches say of one packet, each told by the concrete wing as its source has it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from verifier import hosts as h
from verifier import journeys as j
from verifier import rules as r
from verifier.concrete import matches, routing
from verifier.concrete.chains import A_SOCKETS_MARK
from verifier.concrete.claims import meets
from verifier.hooks import Hook
from verifier.packets import CONFIRMED, DST_NAT, SEEN_REPLY, SRC_NAT, Connection, Ends, Packet
from verifier.values import (
    ICMP,
    TCP,
    UDP,
    CtState,
    Family,
    Iface,
    Ipv6Extension,
    MarkMask,
    Net,
    PacketKind,
    Span,
)

from .test_concrete import (
    ACK,
    ANYONE,
    DROP,
    WIRE,
    arriving,
    frame,
    held,
    host,
    ip,
    leaving,
    rule,
    sent,
    setting,
    table,
)

DCCP, ESP, AH, ICMP6, SCTP = 33, 50, 51, 58, 132
APP = h.Process(
    "app", ANYONE, ANYONE, (h.Listener(80, ip("10.33.0.5")), h.Listener(81), h.Listener(53, None, UDP))
)


def on(match: r.Match, packet: Packet, where: h.Host) -> bool:
    return matches.holds(match, packet, routing.roads(where))


# -- header fields ----------------------------------------------------------------------------------


def test_a_tcp_option_is_looked_for_in_tcp_alone() -> None:
    packet = replace(frame(), tcp_options=1 << 2 | 1 << 255)
    assert [held(r.TcpOption(n), packet) for n in (1, 2, 3, 255)] == [False, True, False, True]
    assert not held(r.TcpOption(2), replace(packet, proto=UDP))


@pytest.mark.parametrize(
    ("how", "present", "expected"),
    [
        ("any", {1}, True),
        ("any", {3}, False),
        ("any", set(), False),
        ("all", {1, 2, 3}, True),
        ("all", {1}, False),
        ("only", {1, 2}, True),
        ("only", {1, 2, 3}, False),
        ("only", {1}, True),
        ("only", {3}, False),
        ("only", set(), False),
    ],
)
def test_sctp_chunks_are_any_all_or_only(how: str, present: set[int], expected: bool) -> None:
    """xt_sctp.c: match_packet, asked for chunks 1 and 2."""
    packet = replace(frame(proto=SCTP), sctp_chunks=sum(1 << c for c in present))
    assert held(r.SctpChunks(how, frozenset({1, 2})), packet) is expected
    assert not held(r.SctpChunks(how, frozenset({1, 2})), replace(packet, proto=TCP))


@pytest.mark.parametrize(
    ("how", "present", "flags", "expected"),
    [
        ("any", {0}, 1 << 2, True),
        ("any", {0}, 1 << 3, False),
        ("any", {0}, 1 << 3 | 1 << 6, True),
        ("any", {0}, 0, False),
        ("any", {1}, 1 << 2, True),
        ("all", {0, 1}, 1 << 3 | 1 << 2, True),
        ("all", {0, 1}, 1 << 3, False),
        ("all", {1}, 1 << 2, False),
        ("only", {0}, 1 << 2 | 1 << 10, True),
        ("only", {0}, 1 << 2 | 1 << 3, False),
        ("only", {1}, 1 << 3, True),
        ("only", {0, 3}, 1 << 2, False),
    ],
)
def test_a_chunk_counts_iff_its_flags_are_as_asked(
    how: str, present: set[int], flags: int, expected: bool
) -> None:
    """xt_sctp.c: match_flags, asked for INIT and for DATA:Be, where BE are the last bits."""
    packet = replace(frame(proto=SCTP), sctp_chunks=sum(1 << c for c in present), sctp_flags=flags)
    asked = r.SctpChunks(how, frozenset({0, 1}), (r.ChunkFlags(0, 0b0011, 0b0010),))
    assert held(asked, packet) is expected


@pytest.mark.parametrize(("how", "expected"), [("any", False), ("all", True), ("only", False)])
def test_all_packets_have_all_chunks_of_none(how: str, expected: bool) -> None:
    assert held(r.SctpChunks(how, frozenset()), replace(frame(proto=SCTP), sctp_chunks=2)) is expected


def test_dccp_types_and_options() -> None:
    packet = replace(frame(proto=DCCP), dccp_type=2, dccp_options=1 << 7)
    assert held(r.DccpTypes(frozenset({0, 2})), packet)
    assert not held(r.DccpTypes(frozenset({0, 1})), packet)
    assert [held(r.DccpOption(n), packet) for n in (6, 7)] == [False, True]
    assert not held(r.DccpTypes(frozenset({2})), replace(packet, proto=TCP))


def test_icmp_types_are_those_of_their_own_protocol() -> None:
    packet = replace(frame(proto=ICMP), proto=ICMP6, icmp_type=128, icmp_code=0)
    assert held(r.Icmp6Type(128), packet)
    assert held(r.Icmp6Type(128, 0), packet)
    assert not held(r.Icmp6Type(128, 1), packet)
    assert not held(r.IcmpType(128), packet)
    assert not held(r.Icmp6Type(8), frame(proto=ICMP))


@pytest.mark.parametrize(("match", "proto"), [(r.Esp, ESP), (r.Ah, AH)])
def test_an_spi_is_compared_unsigned_and_whole(match: type[r.Esp | r.Ah], proto: int) -> None:
    packet = replace(frame(proto=UDP), proto=proto, sport=0, dport=0)
    found = [held(match(5, 0x80000000), replace(packet, spi=n)) for n in (4, 5, 0x80000000, 0x80000001)]
    assert found == [False, True, True, False]
    assert not held(match(0, 0xFFFFFFFF), frame())


def test_ipv6_carries_ah_among_its_extension_headers() -> None:
    packet = replace(frame(), family=Family.IPV6, spi=7, extensions=int(Ipv6Extension.AUTH))
    assert held(r.Ah(7, 7), packet)
    assert not held(r.Ah(7, 7), replace(packet, extensions=int(Ipv6Extension.HOP)))


@pytest.mark.parametrize(("soft", "extensions", "expected"), [
    (False, 0x81, True), (False, 0x80, False), (False, 0xC1, False), (True, 0xC1, True), (True, 0x41, False),
])  # fmt: skip
def test_extension_headers_are_exactly_those_or_at_least(soft: bool, extensions: int, expected: bool) -> None:
    """ip6t_ipv6header.c: ipv6header_mt6"""
    packet = replace(frame(), family=Family.IPV6, extensions=extensions)
    assert held(r.Ipv6Header(0x81, soft), packet) is expected


def test_address_ranges_hold_their_ends() -> None:
    first, last = ip("10.33.0.9"), ip("200.0.0.1")
    for n, expected in ((first - 1, False), (first, True), (last, True), (last + 1, False)):
        assert held(r.SourceRange(first, last), replace(frame(), src=n)) is expected
        assert held(r.DestinationRange(first, last), replace(frame(), dst=n)) is expected


def test_lengths_and_the_time_to_live() -> None:
    packet = replace(frame(), length=60, ttl=64)
    assert [held(r.Length(a, b), packet) for a, b in ((60, 60), (0, 59), (61, 0xFFFF))] == [
        True,
        False,
        False,
    ]
    for comparison, expected in (
        ("eq", (False, True, False)),
        ("lt", (False, False, True)),
        ("gt", (True, False, False)),
    ):
        found = tuple(held(r.Ttl(r.Comparison(comparison), n), packet) for n in (63, 64, 65))
        assert found == expected, comparison


def test_tos_is_masked_its_value_is_not_and_dscp_is_its_upper_six_bits() -> None:
    packet = replace(frame(), tos=0x2F)
    assert held(r.Tos(0x0F, 0x0F), packet)
    assert not held(r.Tos(0x2F, 0x0F), packet)
    assert held(r.Dscp(0x0B), packet)
    assert not held(r.Dscp(0x2F), packet)


def test_the_link_layer_sends_to_this_host() -> None:
    assert held(r.PacketType(PacketKind.UNICAST), frame())
    assert not held(r.PacketType(PacketKind.BROADCAST), frame(dst="255.255.255.255"))


def test_without_an_ethernet_header_no_mac_matches_negated_or_not() -> None:
    """xt_mac.c: mac_mt"""
    for negated in (False, True):
        match = r.MacSource(0xAABBCCDDEEFF, negated)
        assert not held(match, frame())
        assert held(match, replace(frame(), mac=0xAABBCCDDEEFF)) is not negated
        assert held(match, replace(frame(), mac=0xAABBCCDDEEFE)) is negated


def test_socket_exists_is_a_criterion_of_owner() -> None:
    exists, none = r.OwnerIds(socket_exists=True), r.OwnerIds(socket_exists=True, socket_negated=True)
    assert (held(exists, sent()), held(exists, frame())) == (True, False)
    assert (held(none, sent()), held(none, frame())) == (False, True)


@pytest.mark.parametrize(("match", "expected"), [
    (r.Physdev(inside=Iface("eth0")), False),
    (r.Physdev(inside=Iface("eth0"), inside_negated=True), True),
    (r.Physdev(is_in=True), False),
    (r.Physdev(is_bridged=False), True),
    (r.Physdev(outside=Iface("a"), outside_negated=True, is_in=True), False),
    (r.Physdev(outside=Iface("a"), outside_negated=True, is_in=False, is_out=False), True),
])  # fmt: skip
def test_what_is_not_bridged_matches_iff_all_is_negated(match: r.Physdev, expected: bool) -> None:
    """xt_physdev.c: physdev_mt"""
    assert held(match, frame()) is expected


# -- connections ------------------------------------------------------------------------------------

HERE = Ends(ip("10.33.0.9"), ip("10.33.0.5"), 50000, 8080)
BACK = Ends(ip("127.0.0.1"), ip("10.33.0.9"), 15006, 50000)
KNOWN = replace(frame(), connection=Connection(TCP, HERE, BACK, DST_NAT | CONFIRMED, mark=0x13))
UNKNOWN = replace(frame(), ctstate=CtState.INVALID)


def conntrack(*tests: r.CtCriterion | r.CtTest) -> r.Conntrack:
    return r.Conntrack(tuple(t if isinstance(t, r.CtTest) else r.CtTest(t) for t in tests))


NEW = r.CtStates(frozenset({CtState.NEW}))
INVALID = r.CtStates(frozenset({CtState.INVALID}))


@pytest.mark.parametrize(("criterion", "expected"), [
    (r.CtProtocol(TCP), True),
    (r.CtProtocol(UDP), False),
    (r.CtAddress(r.CtEnd.ORIGINAL_SOURCE, Net.read("10.33.0.9")), True),
    (r.CtAddress(r.CtEnd.ORIGINAL_DESTINATION, Net.read("10.33.0.0/24")), True),
    (r.CtAddress(r.CtEnd.REPLY_SOURCE, Net.read("127.0.0.1")), True),
    (r.CtAddress(r.CtEnd.REPLY_SOURCE, Net.read("10.33.0.5")), False),
    (r.CtAddress(r.CtEnd.REPLY_DESTINATION, Net.read("10.33.0.9")), True),
    (r.CtPorts(r.CtEnd.ORIGINAL_SOURCE, Span(50000, 50001)), True),
    (r.CtPorts(r.CtEnd.ORIGINAL_DESTINATION, Span.one(8080)), True),
    (r.CtPorts(r.CtEnd.REPLY_SOURCE, Span.one(15006)), True),
    (r.CtPorts(r.CtEnd.REPLY_DESTINATION, Span.one(8080)), False),
    (r.CtStatus(CONFIRMED | SEEN_REPLY), True),
    (r.CtStatus(SEEN_REPLY), False),
    (r.CtStatus(0), False),
    (r.CtDirection(False), True),
    (r.CtDirection(True), False),
])  # fmt: skip
def test_conntrack_reads_both_tuples(criterion: r.CtCriterion, expected: bool) -> None:
    assert held(conntrack(criterion), KNOWN) is expected
    assert held(conntrack(r.CtTest(criterion, negated=True)), KNOWN) is not expected
    assert held(conntrack(NEW, criterion), KNOWN) is expected
    assert not held(conntrack(INVALID, criterion), KNOWN)


def test_without_a_connection_the_state_alone_is_asked_and_has_to_be() -> None:
    """xt_conntrack.c: conntrack_mt, `if (ct == NULL)`"""
    other = r.CtProtocol(UDP)
    assert held(conntrack(INVALID, other), UNKNOWN)
    assert held(conntrack(r.CtTest(NEW, negated=True), r.CtTest(r.CtProtocol(TCP), negated=True)), UNKNOWN)
    assert not held(conntrack(NEW, r.CtProtocol(TCP)), UNKNOWN)
    assert not held(conntrack(r.CtProtocol(TCP)), UNKNOWN)
    assert not held(conntrack(r.CtTest(other, negated=True)), UNKNOWN)


def test_ctstate_knows_of_translations() -> None:
    dnat, snat = (r.CtStates(frozenset(), frozenset({nat})) for nat in (r.Nat.DNAT, r.Nat.SNAT))
    assert (held(dnat, KNOWN), held(snat, KNOWN)) == (True, False)
    both = replace(KNOWN, connection=Connection(TCP, HERE, BACK, SRC_NAT))
    assert (held(dnat, both), held(snat, both)) == (False, True)
    assert not held(dnat, UNKNOWN)


def test_a_connections_mark_is_asked_of_those_that_have_one() -> None:
    """xt_connmark.c: connmark_mt"""
    for negated in (False, True):
        assert held(r.ConnMark(MarkMask(3, 3), negated), KNOWN) is not negated
        assert held(r.ConnMark(MarkMask(0x33, 3), negated), KNOWN) is negated
        assert not held(r.ConnMark(MarkMask(3, 3), negated), UNKNOWN)


def test_a_premise_asks_for_the_connection_that_conntrack_would_make() -> None:
    from verifier.claims import Filter, Kind, Outside, Premise

    where = setting(table("filter", INPUT=(rule(None, conntrack(r.CtProtocol(TCP))),)))
    for protocol, expected in ((TCP, True), (UDP, False)):
        literals = (r.Literal(conntrack(NEW, r.CtProtocol(protocol))),)
        premise = Premise(Outside(), Kind.PACKET, Filter(where=literals))
        assert meets(premise, where, WIRE, frame()) is expected


# -- what the host decides ----------------------------------------------------------------------------


@pytest.mark.parametrize(("address", "expected"), [
    ("10.33.0.5", "LOCAL"), ("127.9.9.9", "LOCAL"), ("10.33.0.255", "BROADCAST"), ("127.255.255.255", "BROADCAST"),
    ("255.255.255.255", "BROADCAST"), ("0.0.0.0", "BROADCAST"), ("0.0.0.1", "UNICAST"), ("224.0.0.1", "MULTICAST"),
    ("239.255.255.255", "MULTICAST"), ("240.0.0.1", "UNICAST"), ("8.8.8.8", "UNICAST"), ("10.33.0.0", "UNICAST"),
])  # fmt: skip
def test_the_local_table_says_of_which_type_an_address_is(address: str, expected: str) -> None:
    """Observed for 0.0.0.1 and 240.0.0.1; fib_frontend.c: __inet_dev_addr_type"""
    for kind in r.RouteType:
        packet = frame(dst=address)
        assert held(r.AddressType(destination=frozenset({kind})), packet) is (kind.value == expected), kind
        negated = r.AddressType(destination=frozenset({kind}), destination_negated=True)
        assert held(negated, packet) is (kind.value != expected)


def test_both_types_have_to_hold() -> None:
    local, far = frozenset({r.RouteType.LOCAL}), frozenset({r.RouteType.UNICAST})
    assert held(r.AddressType(far, False, local), frame())
    assert not held(r.AddressType(local, False, local), frame())
    assert held(r.AddressType(local, True, local), frame())
    assert not held(r.AddressType(far, False, local, True), frame())


def test_a_limit_leaves_the_entries_of_one_interface() -> None:
    """Without that interface there is no limit (xt_addrtype.c: addrtype_mt_v1)."""
    local = frozenset({r.RouteType.LOCAL})
    limited = r.AddressType(destination=local, limit=r.Limit.IN)
    for iface, expected in (("eth0", True), ("lo", False), (None, True)):
        assert held(limited, replace(frame(), in_iface=iface)) is expected
    assert held(limited, replace(frame(dst="127.0.0.9"), in_iface="lo"))
    assert not held(limited, replace(frame(dst="127.0.0.9"), in_iface="eth0"))
    out = r.AddressType(source=local, limit=r.Limit.OUT)
    assert not held(out, replace(frame(src="10.33.0.5"), out_iface="eth1"))


ETH1 = h.Interface("eth1", (h.Address(ip("10.44.0.5"), 24),))
TWO = host(
    interfaces=(*host().interfaces, ETH1),
    routes=(
        *host().routes,
        h.Route(Net.read("10.44.0.0/24"), "eth1"),
        h.Route(Net.read("10.55.0.0/24"), None, kind=h.RouteKind.BLACKHOLE),
    ),
)


@pytest.mark.parametrize(("src", "iface", "plain", "loose", "local"), [
    ("10.44.0.9", "eth1", True, True, True),
    ("10.44.0.9", "eth0", False, True, False),
    ("8.8.8.8", "eth0", True, True, True),
    ("10.55.0.1", "eth0", False, False, False),
    ("10.44.0.5", "eth1", False, False, True),
    ("10.44.0.5", "eth0", False, False, False),
    ("10.44.0.255", "eth1", False, False, False),
    ("127.0.0.1", "eth0", False, False, False),
    ("224.0.0.1", "eth0", True, True, True),
    ("8.8.8.8", "lo", True, True, True),
])  # fmt: skip
def test_a_reply_would_go_back_where_it_came_from(
    src: str, iface: str, plain: bool, loose: bool, local: bool
) -> None:
    """ipt_rpfilter.c: rpfilter_lookup_reverse"""
    packet = replace(frame(src), in_iface=iface)
    assert on(r.ReversePath(), packet, TWO) is plain
    assert on(r.ReversePath(negated=True), packet, TWO) is not plain
    assert on(r.ReversePath(loose=True), packet, TWO) is loose
    assert on(r.ReversePath(accept_local=True), packet, TWO) is local
    assert on(r.ReversePath(loose=True, accept_local=True), packet, TWO) is (
        loose or local or src == "10.44.0.5" or src == "127.0.0.1"
    )


def test_who_has_no_address_yet_may_ask_for_one() -> None:
    """ipt_rpfilter.c: rpfilter_mt; what it asks elsewhere has the default route."""
    for dst, expected in (
        ("255.255.255.255", True),
        ("224.0.0.251", True),
        ("224.0.1.1", False),
        ("10.44.0.5", False),
    ):
        assert on(r.ReversePath(), replace(frame("0.0.0.0", dst), in_iface="eth1"), TWO) is expected


@pytest.mark.parametrize(("packet", "plain", "wildcards"), [
    (frame(dport=80), True, True),
    (replace(frame(dport=80), flags=ACK), True, True),
    (frame(dport=81), False, True),
    (frame(dport=82), False, False),
    (frame(dst="10.33.0.6", dport=80), False, False),
    (frame(proto=UDP, dport=53), False, True),
    (frame(proto=ICMP), False, False),
])  # fmt: skip
def test_a_socket_bound_to_any_address_counts_only_if_asked_for(
    packet: Packet, plain: bool, wildcards: bool
) -> None:
    """Observed; xt_socket.c: socket_match"""
    packet = replace(packet, in_iface="eth0")
    assert on(r.SocketMatch(), packet, host(APP)) is plain
    assert on(r.SocketMatch(nowildcard=True), packet, host(APP)) is wildcards


def test_a_socket_of_another_device_is_not_found_over_lo() -> None:
    bound = h.Process("app", ANYONE, ANYONE, (h.Listener(80, ip("10.33.0.5"), device="eth0"),))
    for iface, expected in (("eth0", True), ("lo", False)):
        assert on(r.SocketMatch(), replace(frame(dport=80), in_iface=iface), host(bound)) is expected


# -- choices -------------------------------------------------------------------------------------------


CHOICES = (
    r.Opaque("u32"),
    r.Chance("statistic", "--mode random"),
    r.MatchSet("hosts", (r.Direction.SOURCE,)),
    conntrack(NEW, r.CtExpire(1, 2)),
)


@pytest.mark.parametrize("match", CHOICES)
@pytest.mark.parametrize("truth", list(j.Truth))
def test_a_choice_is_asked_and_only_what_is_not_understood_drops(match: r.Match, truth: j.Truth) -> None:
    where = setting(table("filter", OUTPUT=(rule(DROP, match),)))
    question = j.Evaluation(0, Hook.OUTPUT, "filter", (("OUTPUT", 1),), 0)
    journey = leaving(where, sent(), j.Choices({question: truth}))
    assert journey.asked == (question,)
    drops = truth is j.Truth.MATCH or (truth is j.Truth.DROP and isinstance(match, r.Opaque))
    assert isinstance(journey.end, j.Dropped) is drops


@pytest.mark.parametrize("match", CHOICES)
def test_a_choice_is_no_fact(match: r.Match) -> None:
    with pytest.raises(AssertionError):
        held(match, frame())


def test_a_transparent_socket_is_one_that_is_said_to_be() -> None:
    found = r.SocketMatch(transparent=True, nowildcard=True)
    where = table("mangle", PREROUTING=(rule(DROP, found),))
    plain, open_ = (h.Process("app", ANYONE, ANYONE, (h.Listener(80, transparent=t),)) for t in (False, True))
    assert arriving(setting(where, on=host(plain)), frame(dport=80)).end == j.Socket("app", plain.listens[0])
    assert isinstance(arriving(setting(where, on=host(open_)), frame(dport=80)).end, j.Dropped)


def test_an_icmp_error_is_for_the_socket_of_the_packet_that_it_quotes() -> None:
    where = setting(table("mangle", PREROUTING=(rule(None, r.SocketMatch()),)), on=host(APP))
    echo = frame(proto=ICMP)
    assert arriving(where, echo).asked == ()
    assert len(arriving(where, replace(echo, icmp_type=3)).asked) == 1


def test_who_takes_a_sockets_mark_is_not_modelled() -> None:
    taking = rule(None, r.Protocol(TCP), r.SocketMatch(restore_mark=True))
    where = setting(table("mangle", PREROUTING=(taking,)), on=host(APP))
    assert arriving(where, frame(dport=80)).end == j.Unmodelled(A_SOCKETS_MARK)
    assert arriving(where, frame(proto=UDP, dport=53)).end != j.Unmodelled(A_SOCKETS_MARK)


@pytest.mark.parametrize("match", [
    r.AddressType(frozenset({r.RouteType.LOCAL})), r.ReversePath(), r.SocketMatch(),
])  # fmt: skip
def test_nobody_knows_what_a_host_that_is_not_known_says(match: r.Match) -> None:
    assert matches.is_choice(match, frame(), None)
    assert not matches.is_choice(match, frame(), routing.roads(host()))
