"""What the kernel's targets make of one packet and its connection, each told by the concrete wing as its source has it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from msgspec.structs import replace

from verifier import hosts as h
from verifier import journeys as j
from verifier import rules as r
from verifier.asked import fields_asked, fields_carried
from verifier.concrete.claims import meets
from verifier.concrete.nat import MISPLACED, TO_ZERO
from verifier.concrete.targets import A_PROGRAM, AN_OPTION
from verifier.concrete.travel import as_sent, can_send, travel
from verifier.hooks import Hook
from verifier.packets import CONFIRMED, DST_NAT, SRC_NAT, Connection, Ends, Packet
from verifier.values import ICMP, TCP, UDP, CtState, Ids, IdSet, MarkMask, Net, Span

from .test_concrete import (
    ACCEPT,
    ANYONE,
    DROP,
    ETH0,
    FROM_WHO,
    LO,
    ROUTES,
    WIRE,
    arriving,
    frame,
    host,
    ip,
    leaving,
    rule,
    rule_set,
    sent,
    setting,
    table,
)

ROUTER = host(
    h.Process("app", ANYONE, ANYONE, (h.Listener(8080),)),
    interfaces=(
        LO,
        ETH0,
        h.Interface("eth1", (h.Address(ip("10.44.0.5"), 24), h.Address(ip("10.44.0.6"), 24))),
    ),
    routes=(
        *ROUTES,
        h.Route(Net.read("10.44.0.0/24"), "eth1"),
        h.Route(Net.read("10.55.0.0/16"), "eth1", ip("10.44.0.1")),
    ),
    sysctls={"ip_forward": 1},
)
ASKS = r.ConnMark(MarkMask(0, 0xFFFFFFFF))
"""A rule that asks for connections has them carried."""


def nat(hook: str, target: r.Target, *matches: r.Match) -> r.Table:
    return table("nat", **{hook: (rule(target, *matches),)})


def drawing(hook: Hook, address: int | None, port: int | None) -> j.Choices:
    question = j.Evaluation(0, hook, "nat", ((hook.value, 1),), j.TARGET)
    return j.Choices(translated={question: (address, port)})


def source(packet: Packet) -> tuple[int, int]:
    return packet.src, packet.sport


def destination(packet: Packet) -> tuple[int, int]:
    return packet.dst, packet.dport


def after(journey: j.Journey, hook: Hook, of: str = "nat") -> Packet:
    """The packet as the last rule of a table at a hook left it."""
    return [s.packet for s in journey.stops if (s.act, s.hook, s.table) == (j.Act.MATCHED, hook, of)][-1]


# -- source NAT --------------------------------------------------------------------------------------


def test_snat_changes_the_source_and_keeps_the_port() -> None:
    journey = leaving(setting(nat("POSTROUTING", r.Snat(r.NatRange.of(ip("192.0.2.1"))))), sent())
    assert source(journey.final) == (ip("192.0.2.1"), 50000)
    assert journey.end == j.Left("eth0")


def test_snat_at_input_is_what_the_socket_sees_and_filter_does_not() -> None:
    """Observed (SEMANTICS: nat INPUT comes behind filter INPUT)."""
    where = setting(
        nat("INPUT", r.Snat(r.NatRange.of(ip("192.0.2.1"), 7))),
        table("filter", INPUT=(rule(None),)),
        on=ROUTER,
    )
    journey = arriving(where, frame())
    assert isinstance(journey.end, j.Socket)
    assert source(journey.final) == (ip("192.0.2.1"), 7)
    assert source(after(journey, Hook.INPUT, "filter")) == (ip("10.33.0.9"), 50000)


def test_a_snat_to_a_range_that_holds_the_source_leaves_it() -> None:
    """nf_nat_core.c: get_unique_tuple tries the original tuple first."""
    to = r.NatRange(ip("10.33.0.1"), ip("10.33.0.20"), Span(40000, 60000))
    for target, expected in (
        (r.Snat(to), (ip("10.33.0.5"), 50000)),
        (r.Snat(replace(to, base=7)), (ip("10.33.0.5"), 50000)),
        (r.Snat(to, r.PortChoice.RANDOM), (ip("10.33.0.20"), 40007)),
        (
            r.Snat(r.NatRange(ip("10.33.0.6"), ip("10.33.0.20"), Span(40000, 60000))),
            (ip("10.33.0.20"), 50000),
        ),
        (
            r.Snat(r.NatRange(ip("10.33.0.1"), ip("10.33.0.20"), Span(40000, 49999))),
            (ip("10.33.0.20"), 40007),
        ),
    ):
        journey = leaving(
            setting(nat("POSTROUTING", target, r.Protocol(TCP))),
            sent(),
            drawing(Hook.POSTROUTING, ip("10.33.0.20"), 40007),
        )
        assert source(journey.final) == expected, target


@pytest.mark.parametrize("proto", [ICMP, 47])
def test_without_ports_nobody_knows_whether_the_source_will_do(proto: int) -> None:
    """Observed: of echo requests from 10.33.0.5 those with identifiers 100 to 200 kept it, others had another address."""
    to = r.NatRange(ip("10.33.0.5"), ip("10.33.0.20"), Span(100, 200))
    packet = replace(sent(proto=ICMP), proto=proto)
    where = setting(nat("POSTROUTING", r.Snat(to)))
    for address in ("10.33.0.5", "10.33.0.16"):
        assert leaving(where, packet, drawing(Hook.POSTROUTING, ip(address), None)).final.src == ip(address)


@pytest.mark.parametrize(("port", "first", "last"), [
    (1, 1, 511), (511, 1, 511), (512, 600, 1023), (1023, 600, 1023), (1024, 1024, 0xFFFF),
])  # fmt: skip
def test_a_random_port_is_one_of_its_class(port: int, first: int, last: int) -> None:
    """nf_nat_core.c: nf_nat_l4proto_unique_tuple"""
    where = setting(nat("POSTROUTING", r.Masquerade(None, r.PortChoice.RANDOM_FULLY)))
    for drawn, expected in ((first, first), (last, last), (None, port if port != 512 else 600)):
        found = leaving(
            where, replace(sent(), sport=port), drawing(Hook.POSTROUTING, None, drawn)
        ).final.sport
        assert found == expected
    for drawn in (first - 1, last + 1):
        silent = leaving(where, replace(sent(), sport=port))
        assert leaving(where, replace(sent(), sport=port), drawing(Hook.POSTROUTING, None, drawn)) == silent
    assert leaving(where, sent(proto=ICMP)).final.sport == 0


@pytest.mark.parametrize(("dst", "interface", "expected"), [
    ("8.8.8.8", "eth0", "10.33.0.5"), ("10.44.0.9", "eth1", "10.44.0.5"), ("10.55.0.9", "eth1", "10.44.0.5"),
])  # fmt: skip
def test_masquerade_sends_from_the_interface_it_leaves_by(dst: str, interface: str, expected: str) -> None:
    journey = leaving(setting(nat("POSTROUTING", r.Masquerade()), on=ROUTER), sent("127.0.0.9", "127.0.0.1"))
    assert source(journey.final) == (ip("10.33.0.5"), 50000), (
        "observed: over lo it takes the address of another interface"
    )
    journey = leaving(setting(nat("POSTROUTING", r.Masquerade()), on=ROUTER), sent("10.33.0.6", dst))
    assert (journey.end, source(journey.final)) == (j.Left(interface), (ip(expected), 50000))


def test_masquerade_prefers_the_subnet_of_the_next_hop() -> None:
    """devinet.c: inet_select_addr; secondaries are no candidates."""
    two = h.Interface("eth0", tuple(h.Address(ip(a), 24) for a in ("10.1.0.5", "10.2.0.5", "10.2.0.6")))
    for via, expected in (("10.2.0.1", "10.2.0.5"), ("10.1.0.1", "10.1.0.5"), ("10.3.0.1", "10.1.0.5")):
        where = host(interfaces=(LO, two), routes=(h.Route(Net(0, 0), "eth0", ip(via)),))
        journey = leaving(setting(nat("POSTROUTING", r.Masquerade()), on=where), sent("10.2.0.6"))
        assert journey.final.src == ip(expected)


def test_masquerade_without_an_address_loses_the_packet() -> None:
    """nf_nat_masquerade.c: nf_nat_masquerade_ipv4; a source of 0.0.0.0 is left alone."""
    bare = (h.Interface("lo", (h.Address(ip("127.0.0.1"), 8),)), h.Interface("eth0"))
    raw = h.Process("raw", ANYONE, ANYONE, raw=True)
    where = setting(
        nat("POSTROUTING", r.Masquerade()),
        on=host(raw, interfaces=bare, routes=(h.Route(Net(0, 0), "eth0"),)),
    )
    assert travel(where, j.FromProcess("raw"), sent("9.9.9.9")).end == j.Lost(j.NO_SOURCE)
    journey = travel(where, j.FromProcess("raw"), sent("0.0.0.0"))
    assert (journey.end, journey.final.src) == (j.Left("eth0"), 0)


# -- destination NAT -----------------------------------------------------------------------------------


def test_a_range_of_addresses_and_ports_is_drawn_from() -> None:
    to = r.NatRange(ip("10.44.0.7"), ip("10.44.0.9"), Span(100, 200))
    where = setting(nat("PREROUTING", r.Dnat(to), r.Protocol(TCP)), on=ROUTER)
    for drawn, port, expected in (
        ((None, None), 8080, ("10.44.0.7", 100)),
        ((None, None), 150, ("10.44.0.7", 150)),
        ((ip("10.44.0.9"), 200), 8080, ("10.44.0.9", 200)),
        ((ip("10.44.0.9"), 200), 150, ("10.44.0.9", 150)),
    ):
        journey = travel(where, WIRE, frame(dport=port), drawing(Hook.PREROUTING, *drawn))
        assert destination(journey.final) == (ip(expected[0]), expected[1])
    for address, one in ((ip("10.44.0.10"), 100), (ip("10.44.0.7"), 99)):
        taken = destination(travel(where, WIRE, frame(), drawing(Hook.PREROUTING, address, one)).final)
        assert taken in ((ip("10.44.0.7"), 100), (address, 100), (ip("10.44.0.7"), one))
        assert taken != (address, one)


def test_a_random_port_of_a_range_need_not_be_the_own() -> None:
    where = setting(nat("OUTPUT", r.Redirect(Span(100, 200), r.PortChoice.RANDOM), r.Protocol(TCP)))
    journey = leaving(where, sent(dport=150), drawing(Hook.OUTPUT, None, 101))
    assert destination(journey.final) == (ip("127.0.0.1"), 101)
    assert leaving(where, sent(dport=150)).final.dport == 150
    assert (
        leaving(setting(nat("OUTPUT", r.Redirect(None, r.PortChoice.RANDOM))), sent(dport=150)).final.dport
        == 150
    )


@pytest.mark.parametrize(("port", "expected"), [(3000, 5000), (3007, 5007), (3010, 5000), (2999, 5005)])
def test_a_base_shifts_the_port(port: int, expected: int) -> None:
    """nf_nat_core.c: NF_NAT_RANGE_PROTO_OFFSET, in 16 bits: 65535 is 5 beyond a multiple of 10."""
    to = r.NatRange(None, None, Span(5000, 5009), 3000)
    where = setting(nat("PREROUTING", r.Dnat(to), r.Protocol(TCP)), on=ROUTER)
    assert arriving(where, frame(dport=port)).final.dport == expected


def test_netmap_keeps_the_host_part() -> None:
    to = r.Netmap(Net.read("10.44.7.0/24"))
    journey = leaving(setting(nat("OUTPUT", to), on=ROUTER), sent(dst="8.8.8.9"))
    assert journey.final.dst == ip("10.44.7.9")
    assert leaving(setting(nat("POSTROUTING", to), on=ROUTER), sent()).final.src == ip("10.44.7.5")
    assert arriving(setting(nat("INPUT", to), on=ROUTER), frame()).final.src == ip("10.44.7.9")
    zero = leaving(setting(nat("OUTPUT", r.Netmap(Net.read("0.0.0.0/8")))), sent(dst="10.0.0.0"))
    assert zero.end == j.Unmodelled(TO_ZERO)


@pytest.mark.parametrize(
    ("first", "last"), [("0.0.0.0", "0.0.0.0"), ("0.0.0.0", "0.0.0.9"), ("10.0.0.2", "10.0.0.1")]
)
def test_nobody_knows_what_comes_of_a_translation_to_address_0(first: str, last: str) -> None:
    """A range that ends before it begins goes on over 0."""
    to = r.NatRange(ip(first), ip(last))
    dnat, snat = (
        setting(nat(*where), on=ROUTER) for where in (("OUTPUT", r.Dnat(to)), ("POSTROUTING", r.Snat(to)))
    )
    assert leaving(dnat, sent()).end == leaving(snat, sent()).end == j.Unmodelled(TO_ZERO)


def test_port_0_is_a_port_at_which_nobody_listens() -> None:
    """Observed on Linux 6.18: `--to-ports 0`, `:0` and `0-5` make it 0, and the sender is refused."""
    for target in (
        r.Redirect(Span.one(0)),
        r.Redirect(Span(0, 5)),
        r.Dnat(r.NatRange.of(ip("127.0.0.1"), 0)),
    ):
        journey = leaving(setting(nat("OUTPUT", target, r.Protocol(TCP))), sent(dport=80))
        assert (journey.final.dport, journey.end) == (0, j.Refused())


NAT_TARGETS: tuple[tuple[r.Target, tuple[Hook, ...]], ...] = (
    (r.Redirect(Span.one(1)), (Hook.PREROUTING, Hook.OUTPUT)),
    (r.Dnat(r.NatRange.of(ip("10.44.0.9"))), (Hook.PREROUTING, Hook.OUTPUT)),
    (r.Snat(r.NatRange.of(ip("10.44.0.9"))), (Hook.INPUT, Hook.POSTROUTING)),
    (r.Masquerade(), (Hook.POSTROUTING,)),
    (r.Netmap(Net.read("10.44.7.0/24")), (Hook.PREROUTING, Hook.OUTPUT, Hook.INPUT, Hook.POSTROUTING)),
)


@pytest.mark.parametrize(("target", "hooks"), NAT_TARGETS)
def test_nat_targets_have_their_hooks(target: r.Target, hooks: tuple[Hook, ...]) -> None:
    """And end the table as ACCEPT does: the rule behind them is not asked."""
    for hook in (Hook.PREROUTING, Hook.INPUT, Hook.OUTPUT, Hook.POSTROUTING):
        rules = (rule(target, r.Protocol(TCP)), rule(DROP))
        where = setting(table("nat", **{hook.value: rules}), on=ROUTER)
        inward = hook in (Hook.PREROUTING, Hook.INPUT)
        end = (arriving(where, frame()) if inward else leaving(where, sent())).end
        assert (end == j.Unmodelled(MISPLACED)) is (hook not in hooks), hook
        assert not isinstance(end, j.Dropped)
    assert leaving(setting(table("mangle", OUTPUT=(rule(target),))), sent()).end == j.Unmodelled(MISPLACED)


# -- connections ------------------------------------------------------------------------------------------


def known(journey: j.Journey, hook: Hook, of: str) -> Connection:
    found = after(journey, hook, of).connection
    assert found is not None
    return found


def test_a_connection_is_made_behind_raw_and_translations_are_written_to_it() -> None:
    rules = (
        table("raw", PREROUTING=(rule(None),)),
        table("mangle", PREROUTING=(rule(None),), FORWARD=(rule(None, ASKS),), POSTROUTING=(rule(None),)),
        table(
            "nat",
            PREROUTING=(rule(r.Dnat(r.NatRange.of(ip("10.44.0.9"), 80)), r.Protocol(TCP)),),
            POSTROUTING=(rule(r.Masquerade()),),
        ),
    )
    journey = arriving(setting(*rules, on=ROUTER), frame())
    assert journey.stops[0].packet.connection is None
    unseen = after(journey, Hook.PREROUTING, "raw")
    assert (unseen.connection, unseen.ctstate) == (None, CtState.INVALID)
    there = Ends(ip("10.33.0.9"), ip("10.33.0.5"), 50000, 8080)
    assert known(journey, Hook.PREROUTING, "mangle") == Connection(
        TCP, there, Ends(ip("10.33.0.5"), ip("10.33.0.9"), 8080, 50000)
    )
    reply = Ends(ip("10.44.0.9"), ip("10.33.0.9"), 80, 50000)
    for hook in (Hook.FORWARD, Hook.POSTROUTING):
        assert known(journey, hook, "mangle") == Connection(TCP, there, reply, DST_NAT)
    assert known(journey, Hook.POSTROUTING, "nat") == Connection(
        TCP, there, replace(reply, dst=ip("10.44.0.5")), DST_NAT | SRC_NAT
    )


def test_a_translation_to_what_it_is_already_is_none() -> None:
    """nf_nat_core.c: nf_nat_setup_info, `if (!nf_ct_tuple_equal(...))`"""
    same = r.Dnat(r.NatRange.of(ip("10.33.0.5"), 8080))
    where = setting(
        nat("PREROUTING", same, r.Protocol(TCP)), table("mangle", INPUT=(rule(None, ASKS),)), on=ROUTER
    )
    assert known(arriving(where, frame()), Hook.INPUT, "mangle").status == 0


def test_a_connection_is_confirmed_at_the_end_and_goes_on_over_lo() -> None:
    """SNAT is seen on lo's way in, not in mangle POSTROUTING of the first packet (observed)."""
    snat = rule(DROP, r.CtStates(frozenset(), frozenset({r.Nat.SNAT})))
    mangle = table("mangle", POSTROUTING=(snat, rule(None)), PREROUTING=(rule(None),))
    where = setting(mangle, nat("POSTROUTING", r.Masquerade()), on=ROUTER)
    journey = leaving(where, sent("127.0.0.1", "127.0.0.1", dport=8080))
    assert known(journey, Hook.POSTROUTING, "mangle").status == 0
    assert known(journey, Hook.PREROUTING, "mangle").status == SRC_NAT | CONFIRMED
    inward = arriving(setting(table("mangle", INPUT=(rule(None, ASKS),)), on=ROUTER), frame())
    assert known(inward, Hook.INPUT, "mangle").status == 0
    assert inward.final.connection is not None
    assert inward.final.connection.status == CONFIRMED


def test_what_conntrack_would_have_none_of_has_no_connection() -> None:
    where = setting(table("mangle", INPUT=(rule(r.SetConnMark(MarkMask(1))), rule(DROP, ASKS))), on=ROUTER)
    journey = arriving(where, Packet(ip("10.33.0.9"), ip("10.33.0.5"), ICMP, icmp_type=0))
    assert journey.end == j.Kernel()
    assert all(stop.packet.connection is None for stop in journey.stops)


def test_marks_go_to_the_connection_and_back() -> None:
    """xt_connmark.c: connmark_tg"""
    where = setting(
        table(
            "mangle",
            OUTPUT=(
                rule(r.SetMark(MarkMask(0xABCD))),
                rule(r.SetConnMark(MarkMask(0xF0, 0xF0))),
                rule(r.SaveMark(0xFF00, 0xFFFF)),
                rule(r.SetMark(MarkMask(0x2301))),
                rule(r.RestoreMark(0xFF, 0xFF00)),
            ),
        )
    )
    told = [s.packet for s in leaving(where, sent()).stops if s.act is j.Act.MATCHED]
    assert [(p.mark, p.connection.mark if p.connection else None) for p in told] == [
        (0xABCD, 0),
        (0xABCD, 0xF0),
        (0xABCD, 0xAB00),
        (0x2301, 0xAB00),
        (0x8800, 0xAB00),
    ]


@pytest.mark.parametrize(
    ("target", "mark", "saved"),
    [
        (r.SetConnMark(MarkMask(0xF0, 0xF0), 4), 0xABCD, 0x2F40),
        (r.SetConnMark(MarkMask(0xF0, 0xF0), -4), 0xABCD, 0x2F),
        (r.SaveMark(0xFF00, 0xFFFF, 24), 0xABCD, 0),
        (r.SaveMark(0xFF, 0xF0, 24), 0xABCD, 0xCD000204),
        (r.SaveMark(0xFF, 0xF0, -4), 0xABCD, 0x208),
        (r.RestoreMark(0xFF, 0xF00, 4), 0x8B00, 0x204),
        (r.RestoreMark(0xFF, 0xF0F, -1), 0xAA02, 0x204),
    ],
)
def test_a_mark_is_shifted_on_its_way(target: r.Target, mark: int, saved: int) -> None:
    """xt_connmark.c: connmark_tg_shift; set is shifted as a whole, saved and restored is what is copied alone."""
    chain = (rule(r.SetMark(MarkMask(0xABCD))), rule(r.SetConnMark(MarkMask(0x204))), rule(target))
    last = leaving(setting(table("mangle", OUTPUT=chain)), sent()).final
    assert last.connection is not None
    assert (last.mark, last.connection.mark) == (mark, saved)


def test_no_connection_keeps_no_mark() -> None:
    chain = tuple(rule(t) for t in (r.NoTrack(), r.SetConnMark(MarkMask(7)), r.SaveMark(), r.RestoreMark()))
    journey = leaving(setting(table("raw", OUTPUT=chain)), replace(sent(), mark=0))
    assert all(s.packet.connection is None for s in journey.stops)
    assert journey.final.mark == 0


# -- raw --------------------------------------------------------------------------------------------------


def test_notrack_keeps_nat_and_connections_away() -> None:
    where = setting(
        table("raw", OUTPUT=(rule(r.NoTrack()), rule(None, r.CtStates(frozenset({CtState.UNTRACKED}))))),
        table("mangle", OUTPUT=(rule(None, ASKS), rule(None))),
        nat("OUTPUT", r.Redirect(Span.one(15001))),
    )
    journey = leaving(where, sent())
    assert journey.end == j.Left("eth0")
    assert [(s.chain, s.rule) for s in journey.stops if s.table == "raw" and s.rule] == [
        ("OUTPUT", 1),
        ("OUTPUT", 2),
    ]
    assert [s.rule for s in journey.stops if s.table == "mangle" and s.rule] == [2]
    assert not any(s.table == "nat" for s in journey.stops)
    assert journey.final.ctstate is CtState.UNTRACKED


def test_over_lo_notrack_comes_too_late() -> None:
    """xt_CT.c: notrack_tg, `Previously seen (loopback)? Ignore.`"""
    where = setting(table("raw", PREROUTING=(rule(r.NoTrack()),)), on=ROUTER)
    assert arriving(where, frame()).final.ctstate is CtState.UNTRACKED
    assert leaving(where, sent(dst="127.0.0.1", dport=8080)).final.ctstate is CtState.NEW


def test_a_template_reads_as_new_and_keeps_notrack_away() -> None:
    """xt_CT.c: xt_ct_target"""
    new = r.CtStates(frozenset({CtState.NEW}))
    chain = (rule(None, new), rule(r.TrackAs("--zone 7")), rule(None, new), rule(r.NoTrack()))
    journey = leaving(setting(table("raw", OUTPUT=chain)), sent())
    assert [s.rule for s in journey.stops if s.rule] == [2, 3, 4]
    assert journey.final.ctstate is CtState.NEW
    stray = replace(frame(), flags=4)
    assert arriving(setting(table("raw", PREROUTING=chain)), stray).final.ctstate is CtState.INVALID


@pytest.mark.parametrize("target", [r.NoTrack(), r.TrackAs("--zone 7")])
def test_how_it_is_tracked_is_said_in_raw(target: r.Target) -> None:
    assert leaving(setting(table("mangle", OUTPUT=(rule(target),))), sent()).end == j.Unmodelled(MISPLACED)


@pytest.mark.parametrize(("loaded", "expected"), [
    (rule(r.NoTrack()), False),
    (rule(None, r.SocketMatch()), False),
    (rule(None, r.ReversePath()), False),
    (rule(None, r.Chance("limit", "--limit 1/s")), False),
    (rule(None, r.Chance("connlimit", "--connlimit-above 1")), True),
    (rule(None, ASKS), True),
    (rule(None, r.Conntrack((r.CtTest(r.CtProtocol(6)),))), True),
    (rule(r.SetConnMark(MarkMask(1))), True),
    (rule(r.SaveMark()), True),
    (rule(r.RestoreMark()), True),
    (rule(r.TrackAs("--zone 7")), True),
    (rule(r.Snat(r.NatRange.of(1))), True),
    (rule(r.Masquerade()), True),
    (rule(r.Netmap(Net(1))), True),
])  # fmt: skip
def test_whether_nat_is_consulted(loaded: r.Rule, expected: bool) -> None:
    """Observed for a rule set without a user of conntrack: its nat table is never asked."""
    never = table("raw", MY=(loaded,))
    journey = leaving(setting(never, table("nat", OUTPUT=(rule(None),))), sent())
    assert any(s.table == "nat" for s in journey.stops) is expected


# -- header fields -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("target", "expected"), [
    (r.ChangeTtl(r.Change.SET, 0), 0),
    (r.ChangeTtl(r.Change.INCREASE, 200), 255),
    (r.ChangeTtl(r.Change.INCREASE, 1), 65),
    (r.ChangeTtl(r.Change.DECREASE, 64), 0),
    (r.ChangeTtl(r.Change.DECREASE, 255), 0),
])  # fmt: skip
def test_the_time_to_live_is_held_in_a_byte(target: r.Target, expected: int) -> None:
    journey = leaving(setting(table("mangle", POSTROUTING=(rule(target),))), sent())
    assert (journey.final.ttl, journey.end) == (expected, j.Left("eth0"))


def test_tos_is_set_under_its_mask_and_dscp_above_the_lower_two_bits() -> None:
    chain = (rule(r.SetTos(0x4C, 0x3C)), rule(r.SetDscp(0x2E)))
    journey = leaving(setting(table("mangle", OUTPUT=chain)), replace(sent(), tos=0xF3))
    assert [s.packet.tos for s in journey.stops if s.rule] == [0x8F, 0xBB]


@pytest.mark.parametrize(("ttl", "arrives"), [(1, None), (2, 1), (255, 254)])
def test_forwarding_takes_one_from_the_time_to_live(ttl: int, arrives: int | None) -> None:
    """ip_forward.c: ip_forward, before FORWARD"""
    where = setting(table("filter", FORWARD=(rule(None, r.Ttl(r.Comparison.LESS, 255)),)), on=ROUTER)
    journey = arriving(where, replace(frame(dst="10.44.0.9"), ttl=ttl))
    if arrives is None:
        assert journey.end == j.Lost(j.TTL_EXCEEDED)
        assert journey.stops[-1].where == "forward"
    else:
        assert (journey.end, journey.final.ttl) == (j.Left("eth1"), arrives)
        assert {s.packet.ttl for s in journey.stops if s.hook is Hook.FORWARD} == {arrives}


def test_a_field_that_nobody_asks_for_is_not_carried() -> None:
    odd = replace(frame(dst="10.44.0.9"), ttl=1, tos=9, length=99, tcp_options=4, mac=7, spi=3)
    journey = arriving(setting(table("filter"), on=ROUTER), odd)
    assert journey.end == j.Left("eth1")
    plain = Packet(0, 0)
    fields = ("ttl", "tos", "length", "tcp_options", "mac", "spi")
    for stop in journey.stops:
        assert [getattr(stop.packet, f) for f in fields] == [getattr(plain, f) for f in fields]
    asked = setting(table("filter", FORWARD=(rule(None, r.Tos(9), r.MacSource(7)),)), on=ROUTER)
    assert arriving(asked, odd).final.tos == 9
    assert arriving(replace(asked, also=frozenset({"ttl"})), odd).end == j.Lost(j.TTL_EXCEEDED)


def test_what_rules_ask_for() -> None:
    assert fields_asked(rule_set(table("filter"))) == frozenset()
    rules = rule_set(
        table("filter", MY=(rule(ACCEPT, r.Ttl(r.Comparison.EQUAL, 1)),)),
        table("mangle", OUTPUT=(rule(r.SetDscp(1)), rule(r.ClampMss()))),
    )
    assert fields_asked(rules) == {"ttl", "tos"}
    assert fields_carried(h.Setting(host(), rules, frozenset({"mac"}))) == {"ttl", "tos", "mac"}


def test_tcpmss_matters_only_to_who_reads_what_it_changes() -> None:
    """xt_TCPMSS.c: tcpmss_mangle_packet adds the option only to a packet without data."""
    syn = r.TcpFlags(6, 2)
    chain = (rule(r.ClampMss(1400), r.Protocol(TCP), syn), rule(None, r.TcpOption(2)))
    clamps = setting(table("mangle", OUTPUT=chain[:1]))
    assert leaving(clamps, sent()).end == j.Left("eth0")
    reads = setting(table("mangle", OUTPUT=chain))
    assert leaving(reads, sent()).end == j.Unmodelled(AN_OPTION)
    assert leaving(reads, replace(sent(), tcp_options=4)).end == j.Left("eth0")


@pytest.mark.parametrize(("target", "reason"), [
    (r.Queue("-j NFQUEUE"), A_PROGRAM), (r.OpaqueTarget("TEE"), "target TEE"),
])  # fmt: skip
def test_what_somebody_else_decides_ends_what_is_known(target: r.Target, reason: str) -> None:
    journey = arriving(setting(table("mangle", PREROUTING=(rule(target), rule(DROP)))), frame())
    assert (journey.end, journey.stops[-1].rule) == (j.Unmodelled(reason), 1)


@pytest.mark.parametrize(
    "target", [r.Log("-j NFLOG"), r.SetEntry("seen", "--add-set seen src"), r.ClampMss()]
)
def test_what_no_later_rule_can_tell_goes_on(target: r.Target) -> None:
    journey = leaving(setting(table("filter", OUTPUT=(rule(target), rule(DROP)))), sent())
    assert journey.end == j.Dropped(Hook.OUTPUT, "filter", "OUTPUT", 2)


# -- who sends what ---------------------------------------------------------------------------------------

READERS: Mapping[str, r.Match] = {
    "ttl": r.Ttl(r.Comparison.EQUAL, 9), "tos": r.Tos(9), "length": r.Length(9, 9), "tcp_options": r.TcpOption(9),
    "dccp_type": r.DccpTypes(frozenset({9})), "dccp_options": r.DccpOption(9),
    "sctp_chunks": r.SctpChunks("any", frozenset({9})), "spi": r.Esp(9, 9), "mac": r.MacSource(9),
}  # fmt: skip
ASKING = setting(*(table("filter", **{f"{k}": (rule(None, m),) for k, m in READERS.items()}),), on=ROUTER)


@pytest.mark.parametrize(("proto", "field", "value", "process", "outside"), [
    (TCP, "ttl", 0, False, False), (TCP, "ttl", 1, True, True), (TCP, "ttl", 255, True, True), (TCP, "ttl", 256, False, False),
    (TCP, "tos", 255, True, True), (TCP, "length", 39, False, False), (TCP, "length", 40, True, True),
    (UDP, "length", 28, True, True), (UDP, "length", 27, False, False), (47, "length", 20, True, True),
    (TCP, "length", 0x10000, False, False), (TCP, "tcp_options", 1 << 255, True, True), (UDP, "tcp_options", 1, False, False),
    (33, "dccp_type", 15, True, True), (33, "dccp_type", 16, False, False), (TCP, "dccp_type", 1, False, False),
    (33, "dccp_options", 2, True, True), (132, "sctp_chunks", 1, True, True), (TCP, "sctp_chunks", 1, False, False),
    (50, "spi", 0xFFFFFFFF, True, True), (51, "spi", 7, True, True), (TCP, "spi", 7, False, False),
    (TCP, "mac", 0, True, True), (TCP, "mac", None, True, False), (TCP, "mac", 1 << 48, True, False),
])  # fmt: skip
def test_which_values_fit(proto: int, field: str, value: int | None, process: bool, outside: bool) -> None:
    from verifier.claims import Kind, OfProcess, Outside, Premise

    ports = (50000, 8080) if proto in (6, 17, 33, 132) else (0, 0)
    packet = replace(
        frame(),
        proto=proto,
        sport=ports[0],
        dport=ports[1],
        flags=2 if proto == TCP else 0,
        mac=5,
        length=100,
    )
    packet = replace(packet, **{field: value})
    assert meets(Premise(Outside(), Kind.PACKET), ASKING, WIRE, packet) is outside
    own = replace(packet, src=ip("10.33.0.5"), dst=ip("8.8.8.8"), uid=1, gid=1)
    assert can_send(ASKING, "who", as_sent(ASKING, FROM_WHO, own)) is process
    assert meets(Premise(OfProcess("who"), Kind.PACKET), ASKING, FROM_WHO, own) is process


def test_a_raw_socket_may_send_what_is_dead_already() -> None:
    raw = h.Process("raw", ANYONE, ANYONE, raw=True)
    where = h.Setting(host(raw), ASKING.rules)
    packet = as_sent(where, j.FromProcess("raw"), replace(sent(), ttl=0))
    assert can_send(where, "raw", packet)
    assert packet.mac is None


def test_a_proxys_dial_has_drawn_values() -> None:
    proxy = h.Proxy("in", 8080, (h.ProxyRoute((h.Dial(ip("10.44.0.9"), 80),), h.KernelChooses()),))
    envoy = h.Process("envoy", IdSet((Ids(1, 1),)), IdSet((Ids(1, 1),)), (h.Listener(8080),), (proxy,))
    where = h.Setting(replace(ROUTER, processes=(envoy,)), ASKING.rules)
    drawn = {"ttl": 7, "tos": 8, "length": 90, "tcp_options": 4, "mac": 1, "sport": 9}
    last = travel(where, WIRE, replace(frame(), mac=5), j.Choices(drawn={1: drawn})).final
    assert (last.ttl, last.tos, last.length, last.tcp_options, last.mac, last.sport) == (
        7,
        8,
        90,
        4,
        None,
        40002,
    )
    silent = travel(where, WIRE, replace(frame(), mac=5)).final
    assert (silent.ttl, silent.tos, silent.length, silent.tcp_options) == (64, 0, 60, 0)
    plain = h.Setting(where.host, rule_set(table("filter")))
    assert travel(plain, WIRE, frame(), j.Choices(drawn={1: drawn})).final.ttl == 64
