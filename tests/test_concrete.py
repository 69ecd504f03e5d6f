"""Examples of what the kernel does to one packet, each told by the concrete wing as it was observed."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from msgspec.structs import replace

from verifier import claims as c
from verifier import hosts as h
from verifier import journeys as j
from verifier import rules as r
from verifier.concrete import matches, routing
from verifier.concrete.claims import holds, in_set, meets, outcome
from verifier.concrete.travel import can_send, conntrack_state, travel
from verifier.hooks import BUILT_IN, Hook
from verifier.packets import Packet
from verifier.values import (
    ICMP,
    TCP,
    UDP,
    AddressSet,
    CtState,
    HostAddresses,
    Ids,
    IdSet,
    Iface,
    MarkMask,
    Net,
    Span,
    TcpFlag,
    read_address,
)

ip = read_address
SYN, ACK, RST, FIN = (int(f) for f in (TcpFlag.SYN, TcpFlag.ACK, TcpFlag.RST, TcpFlag.FIN))

# -- how the examples are built ---------------------------------------------------------------------

ACCEPT, DROP, RETURN = r.Accept(), r.Drop(), r.Return()


def rule(target: r.Target | None, *matches: r.Match | r.Literal) -> r.Rule:
    literals = tuple(m if isinstance(m, r.Literal) else r.Literal(m) for m in matches)
    return r.Rule(r.ordered(literals), target)


def no(match: r.Match) -> r.Literal:
    return r.Literal(match, negated=True)


def table(name: str, policy: r.Accept | r.Drop = ACCEPT, /, **chains: tuple[r.Rule, ...]) -> r.Table:
    """All built-in chains, those named here with their rules, and the user's chains."""
    built_in = {n: r.Chain(n, policy, chains.get(n, ())) for n in BUILT_IN[name]}
    users = {n: r.Chain(n, None, rules) for n, rules in chains.items() if n not in built_in}
    return r.Table(name, built_in | users)


def rule_set(*tables: r.Table) -> r.RuleSet:
    return r.RuleSet({t.name: t for t in tables})


ANYONE = IdSet.read("any")
WHO = h.Process("who", ANYONE, ANYONE)
ETH0 = h.Interface("eth0", (h.Address(ip("10.33.0.5"), 24), h.Address(ip("10.33.0.6"), 24)))
LO = h.Interface("lo", (h.Address(ip("127.0.0.1"), 8),))
ROUTES = (
    h.Route(Net.read("0.0.0.0/0"), "eth0", ip("10.33.0.1")),
    h.Route(Net.read("10.33.0.0/24"), "eth0", source=ip("10.33.0.5")),
)


def host(
    *processes: h.Process,
    interfaces: tuple[h.Interface, ...] = (LO, ETH0),
    routes: tuple[h.Route, ...] = ROUTES,
    sysctls: Mapping[str, int] | None = None,
    backend: h.Backend = h.Backend.LEGACY,
) -> h.Host:
    keys = {**h.DEFAULTS, **{f"net.ipv4.{key}": value for key, value in (sysctls or {}).items()}}
    return h.Host("host", interfaces, routes, keys, (WHO, *processes), backend=backend)


def setting(*tables: r.Table, on: h.Host | None = None) -> h.Setting:
    return h.Setting(host() if on is None else on, rule_set(*tables))


def frame(src: str = "10.33.0.9", dst: str = "10.33.0.5", proto: int = TCP, dport: int = 8080) -> Packet:
    flags = SYN if proto == TCP else 0
    ports = (0, 0) if proto == ICMP else (50000, dport)
    return Packet(ip(src), ip(dst), proto, *ports, flags=flags, icmp_type=8 if proto == ICMP else 0)


def sent(
    src: str = "10.33.0.5", dst: str = "8.8.8.8", proto: int = TCP, dport: int = 80, uid: int = 1000
) -> Packet:
    return replace(frame(src, dst, proto, dport), uid=uid, gid=uid)


WIRE, FROM_WHO = j.FromOutside("eth0"), j.FromProcess("who")


def arriving(where: h.Setting, packet: Packet) -> j.Journey:
    return travel(where, WIRE, packet)


def leaving(where: h.Setting, packet: Packet, choices: j.Choices | None = None) -> j.Journey:
    return travel(where, FROM_WHO, packet, choices or j.Choices())


def path(journey: j.Journey, hop: int = 0, of: str = "nat") -> str:
    """The rules of one table that one hop matched: `OUTPUT:1 > USER:2`."""
    matched = (s for s in journey.stops if s.act is j.Act.MATCHED and (s.hop, s.table) == (hop, of))
    return " > ".join(f"{s.chain}:{s.rule}" for s in matched)


def told(journey: j.Journey) -> list[str]:
    """The stops in brief."""
    return [
        " ".join(str(w) for w in (s.act.value, s.table, s.chain, s.rule, s.where, s.process) if w is not None)
        for s in journey.stops
    ]


def mark(bit: int) -> r.SetMark:
    """Adds a bit to the mark: which rules were passed can be read from it."""
    return r.SetMark(MarkMask(bit, bit))


def held(match: r.Match, packet: Packet) -> bool:
    return matches.holds(match, packet, routing.roads(host()))


REDIRECT = r.Redirect(Span.one(15001))

# -- control flow ---------------------------------------------------------------------------------


def test_stops_are_told_in_order() -> None:
    filter_ = table("filter", OUTPUT=(rule(r.Jump("USER")), rule(None)), USER=(rule(mark(1)), rule(RETURN)))
    assert told(leaving(setting(filter_), sent())) == [
        "sent who",
        "entered filter OUTPUT",
        "matched filter OUTPUT 1",
        "entered filter USER",
        "matched filter USER 1",
        "matched filter USER 2",
        "matched filter OUTPUT 2",
        "policy filter OUTPUT",
    ]


def test_return_in_a_built_in_chain_is_its_policy() -> None:
    journey = leaving(setting(table("filter", DROP, OUTPUT=(rule(RETURN), rule(ACCEPT)))), sent())
    assert journey.end == j.Dropped(Hook.OUTPUT, "filter", "OUTPUT", None)


@pytest.mark.parametrize("last", [(), (rule(RETURN),)])
def test_a_goto_returns_to_the_caller_of_the_chain_that_went(last: tuple[r.Rule, ...]) -> None:
    filter_ = table(
        "filter",
        OUTPUT=(rule(r.Jump("A")), rule(mark(1))),
        A=(rule(r.Goto("B")), rule(mark(2))),
        B=(rule(mark(4)), *last),
    )
    assert leaving(setting(filter_), sent()).final.mark == 1 | 4


def test_a_goto_from_a_built_in_chain_ends_at_the_policy() -> None:
    filter_ = table("filter", DROP, OUTPUT=(rule(r.Goto("A")), rule(ACCEPT)), A=(rule(None),))
    assert leaving(setting(filter_), sent()).end == j.Dropped(Hook.OUTPUT, "filter", "OUTPUT", None)


def test_accept_ends_the_table_and_drop_the_journey() -> None:
    mangle = table("mangle", OUTPUT=(rule(ACCEPT), rule(DROP)))
    filter_ = table("filter", OUTPUT=(rule(DROP),))
    assert leaving(setting(mangle, filter_), sent()).end == j.Dropped(Hook.OUTPUT, "filter", "OUTPUT", 1)


def test_reject_log_and_what_we_do_not_understand() -> None:
    chain = (rule(r.Log("NFLOG")), rule(r.Reject()))
    assert leaving(setting(table("filter", OUTPUT=chain)), sent()).end == j.Rejected(
        Hook.OUTPUT, "filter", "OUTPUT", 2, "icmp-port-unreachable"
    )
    opaque = setting(table("mangle", OUTPUT=(rule(r.OpaqueTarget("TEE")),)))
    assert leaving(opaque, sent()).end == j.Unmodelled("target TEE")


@pytest.mark.parametrize("where", [setting(table("mangle", OUTPUT=(rule(REDIRECT),)))])
def test_a_nat_target_out_of_its_place_is_not_modelled(where: h.Setting) -> None:
    journey = leaving(where, sent())
    assert isinstance(journey.end, j.Unmodelled)
    assert path(journey, of="mangle") == "OUTPUT:1"


@pytest.mark.parametrize("truth", list(j.Truth))
def test_an_opaque_match_is_asked_anew_at_each_evaluation(truth: j.Truth) -> None:
    """Two calls of one rule are two questions, told apart by the rules that call; what fails before asks nothing."""
    user = (rule(mark(1), r.Protocol(UDP), r.Opaque("u32")), rule(mark(2), r.Protocol(TCP), r.Opaque("u32")))
    where = setting(table("filter", OUTPUT=(rule(r.Jump("USER")), rule(r.Jump("USER"))), USER=user))
    second = j.Evaluation(0, Hook.OUTPUT, "filter", (("OUTPUT", 2), ("USER", 2)), 1)
    journey = leaving(where, sent(), j.Choices({second: truth}))
    assert [q.path[0] for q in journey.asked] == [("OUTPUT", 1), ("OUTPUT", 2)]
    assert journey.asked[1] == second
    match truth:
        case j.Truth.MATCH:
            assert journey.final.mark == 2
        case j.Truth.NO_MATCH:
            assert journey.end == j.Left("eth0")
        case j.Truth.DROP:
            assert journey.end == j.Dropped(Hook.OUTPUT, "filter", "USER", 2)
            assert "matched filter USER 2" not in told(journey)


# -- matches ------------------------------------------------------------------------------------

U = r.OwnerIds(uid=Ids(1337, 1337))
NOT_U = replace(U, uid_negated=True)


@pytest.mark.parametrize(
    ("match", "uid", "gid", "expected"),
    [
        (U, 1337, 0, True),
        (U, 1336, 0, False),
        (U, None, None, False),
        (NOT_U, 1337, 0, False),
        (NOT_U, 1336, 0, True),
        (NOT_U, None, None, True),
        (replace(NOT_U, gid=Ids(1, 2)), None, None, False),
        (replace(NOT_U, gid=Ids(1, 2), gid_negated=True), None, None, True),
        (replace(NOT_U, gid=Ids(1, 2)), 0, 2, True),
        (replace(NOT_U, gid=Ids(1, 2)), 0, 3, False),
        (r.OwnerIds(gid=Ids(1, 2)), 7, 1, True),
    ],
)
def test_owner_needs_every_criterion_and_without_a_socket_every_negation(
    match: r.OwnerIds, uid: int | None, gid: int | None, expected: bool
) -> None:
    assert held(match, replace(frame(), uid=uid, gid=gid)) == expected


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("eth0", None, False),
        ("eth+", None, False),
        ("+", None, True),
        ("eth+", "eth0", True),
        ("eth0+", "eth0", True),
        ("eth", "eth0", False),
        ("lo", "lo", True),
    ],
)
def test_a_missing_interface_has_the_empty_name(pattern: str, name: str | None, expected: bool) -> None:
    packet = replace(frame(), in_iface=name, out_iface=name)
    assert held(r.InInterface(Iface(pattern)), packet) == expected
    assert held(r.OutInterface(Iface(pattern)), packet) == expected


@pytest.mark.parametrize(
    ("mask", "value", "expected"),
    [
        ("0x3/0x1", 3, False),
        ("0x1/0x0", 1, False),
        ("0x0/0x0", 9, True),
        ("0x1/0xf", 0x31, True),
        ("5", 5, True),
    ],
)
def test_the_value_of_a_mark_match_is_not_masked(mask: str, value: int, expected: bool) -> None:
    assert held(r.Mark(MarkMask.read(mask)), replace(frame(), mark=value)) == expected


def test_set_mark_clears_its_mask_and_flips_its_value() -> None:
    chain = (rule(r.SetMark(MarkMask(0xF0, 0xFF))), rule(r.SetMark(MarkMask(0x11, 0x01))))
    assert leaving(setting(table("mangle", OUTPUT=chain)), sent()).final.mark == 0xE1


def test_port_flag_and_type_matches_are_of_their_protocols() -> None:
    any_port = Span(0, 0xFFFF)
    ports: list[r.Match] = [
        r.SourcePorts(any_port),
        r.DestinationPorts(any_port),
        r.MultiportSources((any_port,)),
        r.MultiportDestinations((any_port,)),
        r.MultiportPorts((any_port,)),
    ]
    for match in ports:
        assert [held(match, replace(frame(), proto=p)) for p in (TCP, UDP, 132, ICMP, 47)] == [
            True, True, True, False, False,
        ]  # fmt: skip
    assert not held(r.TcpFlags(0, 0), frame(proto=UDP))
    assert held(r.TcpFlags(0x17, SYN), frame())
    assert not held(r.IcmpType(None), frame())
    assert held(r.IcmpType(8), frame(proto=ICMP))
    assert not held(r.IcmpType(8, 1), frame(proto=ICMP))


def test_an_opaque_match_is_no_fact() -> None:
    with pytest.raises(AssertionError):
        held(r.Opaque("u32"), frame())


def test_networks_may_have_masks_that_are_no_prefixes() -> None:
    assert held(r.Source(Net.read("10.0.0.9/255.0.0.255")), frame())
    assert not held(r.Destination(Net.read("10.0.0.9/255.0.0.255")), frame())


# -- conntrack and nat ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "loose", "strict"),
    [
        (SYN, True, True),
        (SYN | TcpFlag.URG | TcpFlag.ECE | TcpFlag.PSH, True, True),
        (ACK, True, False),
        (ACK | TcpFlag.URG | TcpFlag.CWR, True, False),
        (SYN | ACK, False, False),
        (RST, False, False),
        (FIN, False, False),
        (SYN | FIN, False, False),
        (0, False, False),
        (FIN | ACK, False, False),
        (RST | ACK, False, False),
        (int(TcpFlag.URG), False, False),
    ],
)
def test_conntrack_calls_new_what_may_begin_a_connection(flags: int, loose: bool, strict: bool) -> None:
    packet = replace(frame(), flags=int(flags))
    for value, expected in ((1, loose), (0, strict)):
        where = setting(
            on=replace(host(), sysctls={**h.DEFAULTS, "net.netfilter.nf_conntrack_tcp_loose": value})
        )
        assert (conntrack_state(where, packet) is CtState.NEW) == expected


def test_an_icmp_reply_and_an_unknown_type_are_invalid() -> None:
    states = {
        t: conntrack_state(setting(), replace(frame(proto=ICMP), icmp_type=t)) for t in (0, 3, 8, 13, 99)
    }
    assert [t for t, state in states.items() if state is CtState.NEW] == [8, 13]
    assert conntrack_state(setting(), frame(proto=47)) is CtState.NEW


def test_raw_sees_no_state_yet() -> None:
    new, invalid = (r.CtStates(frozenset({s})) for s in (CtState.NEW, CtState.INVALID))
    raw = table("raw", PREROUTING=(rule(mark(1), new), rule(mark(2), invalid)), OUTPUT=(rule(mark(16), new),))
    mangle = table("mangle", PREROUTING=(rule(mark(4), new), rule(mark(8), invalid)))
    assert arriving(setting(raw, mangle), frame()).final.mark == 2 | 4
    # On lo the entry is there already.
    assert leaving(setting(raw, mangle), sent(dst="127.0.0.1")).final.mark == 1 | 4


def test_an_invalid_packet_is_not_redirected() -> None:
    where = setting(table("nat", OUTPUT=(rule(REDIRECT),)))
    journey = leaving(where, replace(sent(), flags=RST))
    assert journey.end == j.Left("eth0")
    assert path(journey) == ""


NAT_MARKS = table("nat", OUTPUT=(rule(mark(1)),), POSTROUTING=(rule(mark(2)),))


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (table("filter"), 0),
        (table("filter", USER=(rule(ACCEPT, r.CtStates(frozenset({CtState.NEW}))),)), 3),
        (
            table("nat", PREROUTING=(rule(REDIRECT),), OUTPUT=(rule(mark(1)),), POSTROUTING=(rule(mark(2)),)),
            3,
        ),
        (
            table(
                "nat",
                USER=(rule(r.Dnat(r.NatRange.of(1))),),
                OUTPUT=(rule(mark(1)),),
                POSTROUTING=(rule(mark(2)),),
            ),
            3,
        ),
    ],
)
def test_nat_is_dead_where_nothing_needs_conntrack(other: r.Table, expected: int) -> None:
    assert leaving(setting(NAT_MARKS, other), sent()).final.mark == expected


def test_whether_an_opaque_match_switches_conntrack_on_is_not_known() -> None:
    where = setting(NAT_MARKS, table("filter", INPUT=(rule(ACCEPT, r.Opaque("connlimit")),)))
    assert leaving(where, sent()).end == j.Unmodelled("whether conntrack is on")
    without = setting(table("filter", INPUT=(rule(ACCEPT, r.Opaque("connlimit")),)))
    assert leaving(without, sent()).end == j.Left("eth0")


def test_nat_is_not_consulted_on_lo() -> None:
    marks = {hook: (rule(mark(1 << n)),) for n, hook in enumerate(BUILT_IN["nat"])}
    where = setting(table("nat", **marks, USER=(rule(REDIRECT),)))
    journey = leaving(where, sent(dst="127.0.0.1"))
    entered = [s.chain for s in journey.stops if s.act is j.Act.ENTERED]
    assert entered == ["OUTPUT", "POSTROUTING"]
    assert [s.chain for s in arriving(where, frame()).stops if s.act is j.Act.ENTERED] == [
        "PREROUTING",
        "INPUT",
    ]


def test_the_socket_does_not_survive_lo_and_the_mark_does() -> None:
    where = setting(
        table(
            "mangle",
            OUTPUT=(rule(mark(1)),),
            INPUT=(rule(mark(2), U), rule(mark(4), r.InInterface(Iface("lo")))),
        ),
        on=host(h.Process("app", ANYONE, ANYONE, (h.Listener(80),))),
    )
    final = leaving(where, sent(dst="10.33.0.5", uid=1337)).final
    assert (final.mark, final.uid, final.in_iface, final.out_iface) == (1 | 4, None, "lo", None)


@pytest.mark.parametrize(
    ("backend", "expected"),
    [
        (h.Backend.LEGACY, ["mangle", "filter", "security", "nat"]),
        (h.Backend.NFT, ["mangle", "filter", "nat", "security"]),
        (h.Backend.EITHER, ["mangle", "filter"]),
    ],
)
def test_the_backends_differ_at_input(backend: h.Backend, expected: list[str]) -> None:
    chains = {"INPUT": (rule(None),), "USER": ()}
    tables = [table(n, **chains) for n in ("mangle", "filter", "security")]
    nat = table("nat", INPUT=(rule(None),), USER=(rule(REDIRECT),))
    journey = arriving(setting(*tables, nat, on=host(backend=backend)), frame())
    assert [s.table for s in journey.stops if s.act is j.Act.MATCHED] == expected
    assert isinstance(journey.end, j.Unmodelled) == (backend is h.Backend.EITHER)


def test_redirect_leads_to_localhost_in_output_and_to_the_interface_in_prerouting() -> None:
    where = setting(table("nat", PREROUTING=(rule(REDIRECT),), OUTPUT=(rule(REDIRECT),)))
    out = leaving(where, sent()).final
    assert (out.src, out.dst, out.dport) == (ip("10.33.0.5"), ip("127.0.0.1"), 15001)
    # The first address of the interface, also for a packet to its second one, or to anybody.
    for dst in (
        "10.33.0.6",
        "8.8.8.8",
        "10.33.0.255",
        "127.0.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
    ):
        final = arriving(where, frame(dst=dst)).final
        assert (final.dst, final.dport) == (ip("10.33.0.5"), 15001)


def test_redirect_needs_an_address() -> None:
    where = setting(
        table("nat", PREROUTING=(rule(REDIRECT),)),
        on=host(interfaces=(LO, ETH0, h.Interface("bare"))),
    )
    journey = travel(where, j.FromOutside("bare"), frame())
    assert journey.end == j.Lost(j.NO_ADDRESS)
    assert journey.final.dst == ip("10.33.0.5")


def test_a_port_says_nothing_to_a_protocol_without_ports() -> None:
    where = setting(table("nat", PREROUTING=(rule(r.Dnat(r.NatRange.of(ip("10.33.0.6"), 99))),)))
    final = arriving(where, frame(proto=ICMP)).final
    assert (final.dst, final.dport) == (ip("10.33.0.6"), 0)


def test_a_port_alone_is_rewritten_without_a_new_route() -> None:
    where = setting(table("nat", OUTPUT=(rule(r.Dnat(r.NatRange.of(None, 99))),)))
    journey = leaving(where, sent())
    assert (journey.final.dport, journey.end) == (99, j.Left("eth0"))
    assert all(s.act is not j.Act.ROUTED for s in journey.stops)


def test_output_sees_the_first_interface_and_postrouting_the_new_one() -> None:
    eth0, lo = (r.OutInterface(Iface(n)) for n in ("eth0", "lo"))
    where = setting(
        table("nat", OUTPUT=(rule(REDIRECT),)),
        table(
            "filter", OUTPUT=(rule(mark(1), eth0, r.Destination(Net.read("127.0.0.1"))), rule(mark(2), lo))
        ),
        table("mangle", POSTROUTING=(rule(mark(4), eth0), rule(mark(8), lo))),
    )
    journey = leaving(where, sent())
    assert journey.final.mark == 1 | 8
    assert [s.where for s in journey.stops if s.act is j.Act.ROUTED] == ["lo"]


@pytest.mark.parametrize(("localnet", "end"), [(0, j.Lost(j.REROUTE_FAILED)), (1, j.Left("eth0"))])
def test_re_routing_a_loopback_source_outwards_fails_without_route_localnet(
    localnet: int, end: j.End
) -> None:
    where = setting(
        table("nat", OUTPUT=(rule(r.Dnat(r.NatRange.of(ip("8.8.8.8")))),)),
        on=host(sysctls={"conf.eth0.route_localnet": localnet}),
    )
    assert leaving(where, sent("127.0.0.1", "127.0.0.1")).end == end


def test_re_routing_honours_the_device_of_the_socket() -> None:
    where = setting(
        table("nat", OUTPUT=(rule(REDIRECT),)), on=host(replace(WHO, name="bound", device="eth0"))
    )
    journey = travel(where, j.FromProcess("bound"), replace(sent(), device="eth0"))
    assert journey.end == j.Left("eth0")
    assert (journey.final.dst, journey.final.dport) == (ip("127.0.0.1"), 15001)


def test_what_nat_sends_to_a_group() -> None:
    group = setting(table("nat", OUTPUT=(rule(r.Dnat(r.NatRange.of(ip("10.33.0.255")))),)))
    # connect() refuses TCP to a group, re-routing does not: the SYN is sent, and a copy comes back (observed).
    for proto in (TCP, UDP):
        assert isinstance(leaving(group, sent(proto=proto)).end, j.Group)
    away = setting(table("nat", OUTPUT=(rule(r.Dnat(r.NatRange.of(ip("10.33.0.9")))),)))
    assert leaving(away, sent(dst="10.33.0.255", proto=UDP)).end == j.Left("eth0")


# -- routing ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.33.0.5", routing.Type.LOCAL),
        ("127.0.0.1", routing.Type.LOCAL),
        ("127.9.9.9", routing.Type.LOCAL),
        ("127.255.255.255", routing.Type.BROADCAST),
        ("10.33.0.255", routing.Type.BROADCAST),
        ("10.33.0.0", routing.Type.OTHER),
        ("255.255.255.255", routing.Type.BROADCAST),
        ("224.0.0.1", routing.Type.MULTICAST),
        ("8.8.8.8", routing.Type.OTHER),
    ],
)
def test_address_types(address: str, expected: routing.Type) -> None:
    assert routing.type_of(routing.roads(host()), ip(address)) is expected


def test_the_longest_prefix_then_the_lowest_metric_then_the_first_line_routes() -> None:
    interfaces = (LO, ETH0, *(h.Interface(f"eth{n}") for n in (1, 2, 3)))
    routes = (
        h.Route(Net.read("0.0.0.0/0"), "eth0", metric=5),
        h.Route(Net.read("0.0.0.0/0"), "eth1", metric=5),
        h.Route(Net.read("8.0.0.0/8"), "eth2", metric=9),
        h.Route(Net.read("8.0.0.0/8"), "eth3", metric=8),
        h.Route(Net.read("9.0.0.0/8"), None, kind=h.RouteKind.BLACKHOLE),
    )
    road = routing.roads(host(interfaces=interfaces, routes=routes))
    src = ip("10.33.0.5")
    assert routing.output(road, src, ip("1.1.1.1"), None) == "eth0"
    assert routing.output(road, src, ip("8.8.8.8"), None) == "eth3"
    assert routing.output(road, src, ip("8.8.8.8"), "eth2") == "eth2"
    assert routing.output(road, src, ip("9.9.9.9"), None) is None
    assert not routing.is_unicast(road, ip("9.9.9.9"))
    assert routing.output(road, src, ip("10.33.0.5"), None) == "lo"
    assert routing.output(road, src, ip("10.33.0.5"), "eth0") == "lo"
    assert routing.output(road, src, ip("10.33.0.5"), "eth3") == "eth3"
    assert routing.output(road, src, ip("127.0.0.9"), "lo") == "lo"
    assert routing.output(road, ip("127.0.0.1"), ip("8.8.8.8"), None) is None


@pytest.mark.parametrize(
    ("dst", "expected"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.99", "127.0.0.1"),
        ("10.33.0.5", "10.33.0.5"),
        ("10.33.0.6", "10.33.0.5"),
        ("10.33.0.9", "10.33.0.5"),
        ("8.8.8.8", "10.33.0.5"),
        ("10.44.1.1", "10.44.0.1"),
        ("172.16.0.1", "172.31.0.1"),
    ],
)
def test_source_selection(dst: str, expected: str) -> None:
    eth1 = h.Interface("eth1", (h.Address(ip("10.43.0.1"), 24), h.Address(ip("10.44.0.1"), 24)))
    routes = (
        *ROUTES,
        h.Route(Net.read("10.44.1.0/24"), "eth1", ip("10.44.0.9")),
        h.Route(Net.read("172.16.0.0/12"), "eth1", source=ip("172.31.0.1")),
    )
    road = routing.roads(host(interfaces=(LO, ETH0, eth1), routes=routes))
    assert routing.select_source(road, ip(dst)) == ip(expected)


def test_no_source_without_a_route() -> None:
    assert routing.select_source(routing.roads(host(routes=())), ip("8.8.8.8")) is None


LOCAL = routing.Arrival()
MARTIAN = j.Lost(j.MARTIAN)


def arrival(
    src: str, dst: str = "10.33.0.5", on: h.Host | None = None, **sysctls: int
) -> routing.Arrival | j.Lost | j.Group:
    keys = {f"conf.all.{key}" if key != "ip_forward" else key: value for key, value in sysctls.items()}
    return routing.input(routing.roads(on or host(sysctls=keys)), "eth0", ip(src), ip(dst))


def test_sources_from_the_wire_that_pass_a_strict_filter() -> None:
    for src in ("10.33.0.9", "10.33.0.0", "0.0.0.1", "240.0.0.1", "169.254.1.1"):
        assert arrival(src, rp_filter=1) == LOCAL
    for src in (
        "10.33.0.255",
        "127.0.0.2",
        "10.33.0.5",
        "10.33.0.6",
        "224.0.0.1",
        "255.255.255.255",
        "0.0.0.0",
    ):
        assert arrival(src, rp_filter=1) == MARTIAN


def test_sources_from_the_wire_without_filter() -> None:
    for src in ("10.33.0.255", "240.0.0.1", "8.8.8.8"):
        assert arrival(src) == LOCAL
    for src in ("10.33.0.5", "127.0.0.2"):
        assert arrival(src) == MARTIAN
    # With route_localnet only assigned addresses are refused, and a strict filter refuses all of them.
    assert arrival("127.0.0.2", route_localnet=1) == LOCAL
    assert arrival("127.0.0.1", route_localnet=1) == MARTIAN
    assert arrival("127.0.0.2", route_localnet=1, rp_filter=1) == MARTIAN
    assert arrival("127.0.0.1", route_localnet=1, accept_local=1) == LOCAL
    assert arrival("10.33.0.5", accept_local=1) == LOCAL
    assert arrival("10.33.0.9", "127.0.0.1") == MARTIAN
    assert arrival("10.33.0.9", "127.0.0.1", route_localnet=1) == LOCAL


def test_a_source_in_full() -> None:
    """Local sources need accept_local, and with a strict filter their own device; no route passes no filter."""
    eth1 = h.Interface("eth1", (h.Address(ip("10.44.0.1"), 24),))
    for strictness, expected in ((1, MARTIAN), (2, LOCAL)):
        sysctls = {"conf.all.accept_local": 1, "conf.eth0.rp_filter": strictness}
        on = host(interfaces=(LO, ETH0, eth1), sysctls=sysctls)
        assert arrival("10.33.0.6", on=on) == LOCAL
        assert arrival("10.44.0.1", on=on) == expected
        nowhere = host(routes=ROUTES[1:], sysctls=sysctls)
        assert arrival("8.8.8.8", on=nowhere) == MARTIAN
    back = host(routes=ROUTES[1:], sysctls={"ip_forward": 1})
    assert arrival("8.8.8.8", "10.33.0.9", back) == routing.Arrival(out="eth0")


def test_the_subnets_of_two_and_of_one_address_have_no_broadcast() -> None:
    for length, expected in (
        (30, routing.Type.BROADCAST),
        (31, routing.Type.OTHER),
        (32, routing.Type.OTHER),
    ):
        pair = h.Interface("eth0", (h.Address(ip("10.33.0.2"), length),))
        last = ip("10.33.0.3")
        assert routing.type_of(routing.roads(host(interfaces=(LO, pair))), last) is expected


FORWARDER = (
    *ROUTES[1:],
    h.Route(Net.read("0.0.0.0/0"), "eth1", ip("10.44.0.9")),
    h.Route(Net.read("9.0.0.0/8"), None, kind=h.RouteKind.UNREACHABLE),
)


def test_what_is_forwarded() -> None:
    eth1 = h.Interface("eth1", (h.Address(ip("10.44.0.1"), 24),))
    on = host(interfaces=(LO, ETH0, eth1), routes=FORWARDER, sysctls={"ip_forward": 1})
    for src in ("10.33.0.9", "10.33.0.255", "240.0.0.1", "8.8.4.4"):
        assert arrival(src, "8.8.8.8", on) == routing.Arrival(out="eth1")
    for src in ("0.0.0.0", "224.0.0.1", "127.0.0.5"):
        assert arrival(src, "8.8.8.8", on) == MARTIAN
    assert arrival("10.33.0.9", "9.9.9.9", on) == j.Lost(j.NO_ROUTE)
    assert arrival("10.33.0.9", "8.8.8.8") == j.Lost(j.NOT_FORWARDED)
    # Out of where it came from the whole check is made (redirects may have to be sent): no broadcast source.
    assert arrival("10.33.0.255", "10.33.0.9", on) == MARTIAN
    assert arrival("10.33.0.8", "10.33.0.9", on) == routing.Arrival(out="eth0")
    strict = replace(on, sysctls={**on.sysctls, "net.ipv4.conf.eth0.rp_filter": 1})
    assert arrival("8.8.4.4", "8.8.8.8", strict) == MARTIAN
    loose = replace(on, sysctls={**on.sysctls, "net.ipv4.conf.eth0.rp_filter": 2})
    assert arrival("8.8.4.4", "8.8.8.8", loose) == routing.Arrival(out="eth1")


def test_a_forwarded_packet_has_both_interfaces_and_no_socket() -> None:
    both = (r.InInterface(Iface("eth0")), r.OutInterface(Iface("eth1")))
    eth1 = h.Interface("eth1", (h.Address(ip("10.44.0.1"), 24),))
    where = setting(
        table("mangle", FORWARD=(rule(mark(1), *both),), POSTROUTING=(rule(mark(2), *both, NOT_U),)),
        on=host(interfaces=(LO, ETH0, eth1), routes=FORWARDER, sysctls={"ip_forward": 1}),
    )
    journey = arriving(where, frame(dst="8.8.8.8"))
    assert (journey.end, journey.final.mark) == (j.Left("eth1"), 3)


def test_groups_from_the_wire_and_to_it() -> None:
    assert arrival("10.33.0.9", "224.0.0.1") == j.Group((Hook.INPUT,))
    assert arrival("127.0.0.1", "224.0.0.1") == MARTIAN
    assert arrival("0.0.0.0", "255.255.255.255") == routing.Arrival(broadcast=True)
    assert arriving(setting(), frame(dst="10.33.0.255")).end == j.Lost(j.NOT_UNICAST)
    assert arriving(setting(), frame(dst="10.33.0.255", proto=UDP)).end == j.Group(())
    everything = (Hook.POSTROUTING, Hook.PREROUTING, Hook.INPUT)
    assert leaving(setting(), sent(dst="10.33.0.255", proto=UDP)).end == j.Group(everything, "eth0")
    assert leaving(setting(), sent(dst="10.33.0.255")).end == j.Lost(j.CANNOT_SEND)


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (sent(), True),
        (sent(src="127.0.0.1"), False),
        (sent(src="127.0.0.9", dst="127.0.0.1"), True),
        (sent(src="8.8.4.4"), False),
        (sent(dst="0.0.0.0"), False),
        (sent(dst="10.33.0.255"), False),
        (sent(dst="10.33.0.255", proto=UDP), True),
        (replace(sent(), sport=0), False),
        (replace(sent(proto=47), sport=0), True),
        (replace(sent(), mark=7), False),
        (replace(sent(), device="eth0"), False),
        (replace(sent(), uid=None, gid=None), False),
    ],
)
def test_what_an_ordinary_socket_may_send(packet: Packet, expected: bool) -> None:
    assert can_send(setting(), "who", packet) == expected


def test_what_an_extraordinary_socket_may_send() -> None:
    where = setting(on=host(h.Process("odd", IdSet.read("5-9"), ANYONE, mark=7, device="eth0", raw=True)))
    odd = replace(sent(uid=5), mark=7, device="eth0")
    for packet in (
        odd,
        replace(odd, src=ip("8.8.4.4")),
        replace(odd, sport=0),
        replace(odd, dst=ip("10.33.0.255")),
    ):
        assert can_send(where, "odd", packet)
    assert not can_send(where, "odd", replace(odd, dst=0))
    assert not can_send(where, "odd", replace(odd, src=0))
    assert can_send(where, "odd", replace(odd, src=ip("127.0.0.1")))
    assert not can_send(where, "odd", replace(odd, uid=4))


# -- sockets ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listeners", "expected"),
    [
        ("* 10.33.0.5", "10.33.0.5"),
        ("* *%eth0", "*%eth0"),
        ("*%eth0 10.33.0.5", "10.33.0.5"),
        ("10.33.0.5 10.33.0.5%eth0 *%eth0", "10.33.0.5%eth0"),
        ("*%lo *", "*"),
        ("*%lo 127.0.0.1 10.33.0.6", None),
        ("* *", "*"),
    ],
)
def test_the_most_specific_listener_gets_it(listeners: str, expected: str | None) -> None:
    def listener(text: str) -> h.Listener:
        address, _, device = text.partition("%")
        return h.Listener(8080, None if address == "*" else ip(address), device=device or None)

    where = setting(on=host(h.Process("app", ANYONE, ANYONE, tuple(map(listener, listeners.split())))))
    for journey in (arriving(where, frame()), leaving(where, sent(dst="10.33.0.5", dport=8080))):
        match journey.end:
            case j.Socket(_, got):
                assert expected is not None
                assert got == listener(expected)
            case end:
                assert (end, expected) == (j.Refused(), None)


def test_only_a_syn_or_a_datagram_finds_a_listener() -> None:
    app = h.Process("app", ANYONE, ANYONE, (h.Listener(8080), h.Listener(53, protocol=UDP)))
    where = setting(on=host(app))
    assert isinstance(arriving(where, frame()).end, j.Socket)
    assert isinstance(arriving(where, frame(proto=UDP, dport=53)).end, j.Socket)
    assert arriving(where, frame(dport=53)).end == j.Refused()
    assert arriving(where, replace(frame(), flags=ACK)).end == j.Refused()
    assert arriving(where, frame(proto=132)).end == j.Refused()
    assert arriving(where, frame(proto=ICMP)).end == j.Kernel()


# -- the sidecar ----------------------------------------------------------------------------------

TCP_ONLY = r.Protocol(TCP)
TO_LOCALHOST = r.Destination(Net.read("127.0.0.1"))
OUT_LO = r.OutInterface(Iface("lo"))
GID = r.OwnerIds(gid=Ids(1337, 1337))
SIDECAR = table(
    "nat",
    PREROUTING=(rule(r.Jump("ISTIO_INBOUND"), TCP_ONLY),),
    OUTPUT=(rule(r.Jump("ISTIO_OUTPUT"), TCP_ONLY),),
    ISTIO_INBOUND=(
        *(rule(RETURN, TCP_ONLY, r.DestinationPorts(Span(p, p))) for p in (15008, 22, 15090, 15021, 15020)),
        rule(r.Jump("ISTIO_IN_REDIRECT"), TCP_ONLY),
    ),
    ISTIO_IN_REDIRECT=(rule(r.Redirect(Span.one(15006)), TCP_ONLY),),
    ISTIO_OUTPUT=(
        rule(RETURN, OUT_LO, r.Source(Net.read("127.0.0.6"))),
        rule(r.Jump("ISTIO_IN_REDIRECT"), no(TO_LOCALHOST), OUT_LO, U),
        rule(RETURN, OUT_LO, NOT_U),
        rule(RETURN, U),
        rule(r.Jump("ISTIO_IN_REDIRECT"), no(TO_LOCALHOST), OUT_LO, GID),
        rule(RETURN, OUT_LO, replace(GID, gid_negated=True)),
        rule(RETURN, GID),
        rule(RETURN, TO_LOCALHOST),
        rule(r.Jump("ISTIO_REDIRECT"), r.Destination(Net.read("10.33.0.0/16"))),
        rule(r.Jump("ISTIO_REDIRECT"), r.Destination(Net.read("10.32.128.0/20"))),
        rule(RETURN),
    ),
    ISTIO_REDIRECT=(rule(r.Redirect(Span.one(15001)), TCP_ONLY),),
)

ENVOY_ONLY = IdSet.read("1337")
ORIGINAL = h.Dial()
TO_APP = h.ProxyRoute((h.Dial(ip("127.0.0.1"), 8080),), h.KernelChooses(), (Span(8080, 8080),))
INBOUND = {
    "1.9": (TO_APP, h.ProxyRoute((ORIGINAL,), h.KernelChooses())),
    "1.10": (h.ProxyRoute((ORIGINAL,), h.BoundTo(ip("127.0.0.6"))),),
    "from 127.0.0.1": (h.ProxyRoute((ORIGINAL,), h.BoundTo(ip("127.0.0.1"))),),
    "unbound": (h.ProxyRoute((ORIGINAL,), h.KernelChooses()),),
}


def pod(version: str, app: str = "*") -> h.Setting:
    """A pod whose app listens on `app`:8080; without sidecar for the version `none`."""
    bound = h.Listener(8080, None if app == "*" else ip(app))
    program = h.Process("app", IdSet.read("not 1337"), ANYONE, (bound,))
    if version == "none":
        return setting(on=host(program, sysctls={"conf.all.rp_filter": 1}))
    refuses = (Span(15001, 15001), Span(15006, 15006))
    proxies = (
        h.Proxy("inbound", 15006, INBOUND[version], refuses),
        h.Proxy("outbound", 15001, (h.ProxyRoute((ORIGINAL, h.Dial(ip("10.33.0.9"))), h.KernelChooses()),)),
    )
    envoy = h.Process("envoy", ENVOY_ONLY, ENVOY_ONLY, (h.Listener(15006), h.Listener(15001)), proxies)
    return setting(SIDECAR, on=host(program, envoy, sysctls={"conf.all.rp_filter": 1}))


def fate(journey: j.Journey) -> str:
    match journey.end:
        case j.Socket(process):
            octets = journey.final.src.to_bytes(4, "big")
            return f"{process} {'.'.join(map(str, octets))}"
        case j.Refused():
            return "refused"
        case j.Loop(back_to):
            return f"loop {back_to}"
        case end:
            raise AssertionError(end)


@pytest.mark.parametrize(
    ("app", "none", "before", "since"),
    [
        ("*", "app 10.33.0.9", "app 127.0.0.1", "app 127.0.0.6"),
        ("127.0.0.1", "refused", "app 127.0.0.1", "refused"),
        ("10.33.0.5", "app 10.33.0.9", "refused", "app 127.0.0.6"),
    ],
)
def test_who_reaches_an_app_by_what_it_is_bound_to(app: str, none: str, before: str, since: str) -> None:
    assert fate(arriving(pod("none", app), frame())) == none
    assert fate(arriving(pod("1.9", app), frame())) == before
    assert fate(arriving(pod("1.10", app), frame())) == since
    for faulty in ("from 127.0.0.1", "unbound"):
        assert fate(arriving(pod(faulty, app), frame())) == "loop 1"


@pytest.mark.parametrize(
    ("version", "dialled"),
    [
        ("1.9", "OUTPUT:1 > ISTIO_OUTPUT:4"),
        ("1.10", "OUTPUT:1 > ISTIO_OUTPUT:1"),
        ("from 127.0.0.1", "OUTPUT:1 > ISTIO_OUTPUT:2 > ISTIO_IN_REDIRECT:1"),
        ("unbound", "OUTPUT:1 > ISTIO_OUTPUT:2 > ISTIO_IN_REDIRECT:1"),
    ],
)
def test_the_paths_that_the_kernel_takes(version: str, dialled: str) -> None:
    journey = arriving(pod(version), frame())
    assert path(journey) == "PREROUTING:1 > ISTIO_INBOUND:6 > ISTIO_IN_REDIRECT:1"
    assert path(journey, 1) == dialled
    first = next(s for s in journey.stops if s.act is j.Act.DELIVERED)
    assert (first.process, first.packet.dst, first.packet.dport) == ("envoy", ip("10.33.0.5"), 15006)


STATE = j.ProxyState("envoy", "inbound", ip("10.33.0.5"), 8080)
DIALS = j.FromProxy("envoy", "inbound")


def test_a_journey_may_begin_with_a_dial() -> None:
    journey = travel(pod("1.10"), DIALS, state=STATE)
    first = journey.stops[0].packet
    assert (first.src, first.dst, first.sport, first.dport) == (
        ip("127.0.0.6"),
        STATE.address,
        j.FIRST_PORT,
        8080,
    )
    assert (first.out_iface, first.uid, first.gid, first.ctstate) == ("lo", 1337, 1337, CtState.NEW)
    assert fate(journey) == "app 127.0.0.6"
    assert journey.states == ()


def test_a_loop_leads_back_to_the_hop_that_was_dialled_in_its_state() -> None:
    looping = travel(pod("unbound"), DIALS, state=STATE)
    assert (looping.end, looping.states) == (j.Loop(0), ())
    assert looping.stops[-1].act is j.Act.DELIVERED
    stem = arriving(pod("unbound"), frame())
    assert (stem.end, stem.states) == (j.Loop(1), (STATE,))
    onward = travel(pod("unbound"), WIRE, frame(), hops=3)
    assert (onward.end, onward.states, onward.final.dport) == (j.Onward(), (STATE, STATE), 15006)
    assert [s.packet.sport for s in onward.stops if s.act is j.Act.SENT] == [50000, 40002, 40003]


def test_a_proxy_may_refuse_and_may_be_unable_to_dial() -> None:
    refused = arriving(pod("1.10"), frame(dport=15006)).end
    assert isinstance(refused, j.Socket)
    assert refused.why == "refuses"
    only = replace(TO_APP, ports=(Span(9, 9),))
    without = pod("1.9")
    envoy = without.host.process("envoy")
    processes = (replace(envoy, proxies=(replace(envoy.proxies[0], routes=(only,)),)),)
    nowhere = arriving(h.Setting(replace(without.host, processes=processes), without.rules), frame()).end
    assert isinstance(nowhere, j.Socket)
    assert nowhere.why == "no route"
    # The sidecar captures frames to anybody; from 127.0.0.6 it cannot connect abroad.
    foreign = arriving(pod("1.10"), frame(dst="8.8.8.8"))
    assert foreign.end == j.Lost(j.CANNOT_SEND)
    assert foreign.final.out_iface is None


def test_a_frame_to_localhost_reaches_an_app_that_is_bound_there() -> None:
    assert fate(arriving(pod("1.10", "127.0.0.1"), frame(dst="127.0.0.1"))) == "app 127.0.0.6"
    assert arriving(pod("none", "127.0.0.1"), frame(dst="127.0.0.1")).end == j.Lost(j.MARTIAN)


def test_who_dials_nowhere_dials_itself() -> None:
    dialled = arriving(pod("1.10"), frame(dst="0.0.0.0")).stops
    own = next(s.packet for s in dialled if s.hop == 1)
    assert (own.src, own.dst) == (ip("127.0.0.6"),) * 2
    unbound = next(s.packet for s in arriving(pod("unbound"), frame(dst="0.0.0.0")).stops if s.hop == 1)
    assert (unbound.src, unbound.dst) == (ip("127.0.0.1"),) * 2


def test_strays_are_captured_iff_they_may_begin_a_connection() -> None:
    for flags in (SYN | ACK, RST, FIN, SYN | FIN, 0, FIN | ACK, RST | ACK):
        assert path(arriving(pod("1.10"), replace(frame(), flags=flags))) == ""
    assert path(arriving(pod("1.10"), replace(frame(), flags=ACK))).endswith("ISTIO_IN_REDIRECT:1")


def test_the_app_goes_out_through_envoy() -> None:
    out = sent(dst="10.33.0.9", uid=1000)
    journey = travel(pod("1.10"), j.FromProcess("app"), out)
    assert path(journey) == "OUTPUT:1 > ISTIO_OUTPUT:9 > ISTIO_REDIRECT:1"
    assert path(journey, 1) == "OUTPUT:1 > ISTIO_OUTPUT:4"
    assert (journey.end, journey.final.dst) == (j.Left("eth0"), out.dst)
    picked = travel(
        pod("1.10"),
        j.FromProcess("app"),
        sent(dst="10.33.1.1"),
        j.Choices(ports={1: 77}, picks={1: 1}, uids={1: (1337, 1337)}),
    )
    assert (picked.final.dst, picked.final.sport) == (ip("10.33.0.9"), 77)


def test_uid_1337_goes_straight_to_the_app_from_127_0_0_6_alone() -> None:
    straight = travel(
        pod("1.10"), j.FromProcess("envoy"), sent("127.0.0.6", "127.0.0.2", dport=8080, uid=1337)
    )
    assert (path(straight), fate(straight)) == ("OUTPUT:1 > ISTIO_OUTPUT:1", "app 127.0.0.6")
    caught = travel(pod("1.10"), j.FromProcess("envoy"), sent("127.0.0.7", "127.0.0.2", dport=8080, uid=1337))
    assert caught.states[0].proxy == "inbound"


def test_a_transparent_proxy_keeps_the_client() -> None:
    where = pod("1.10")
    envoy = where.host.process("envoy")
    own = replace(envoy.proxies[0], routes=(h.ProxyRoute((ORIGINAL,), h.ClientsOwn()),))
    processes = (where.host.process("app"), replace(envoy, proxies=(own,)))
    journey = arriving(h.Setting(replace(where.host, processes=processes), where.rules), frame())
    assert journey.states[0].client == ip("10.33.0.9")
    assert next(s.packet.src for s in journey.stops if s.hop == 1) == ip("10.33.0.9")


# -- claims -------------------------------------------------------------------------------------

IN_REDIRECT = c.ChainRef("nat", "ISTIO_IN_REDIRECT")
FROM_6 = c.With(source=AddressSet.read("127.0.0.6"))


@pytest.mark.parametrize(
    ("verb", "good", "faulty"),
    [
        (c.Ends(), True, False),
        (c.Enters(IN_REDIRECT), True, True),
        (c.Hits(c.RuleRef("nat", "ISTIO_OUTPUT", 1)), True, False),
        (c.Reaches("app"), True, False),
        (c.Reaches("envoy", 15006), True, True),
        (c.Reaches("envoy", 15001), False, False),
        (c.Reaches("app", having=FROM_6), True, False),
        (c.Reaches("app", having=c.With(unchanged=True)), True, False),
        (c.Reaches("envoy", having=c.With(unchanged=True)), False, False),
        (c.Reaches("app", having=c.With(mark=MarkMask(1, 1))), False, False),
        (c.Leaves(), False, False),
        (c.PassesBeforeLeaving("app"), True, True),
        (c.IsDropped(), False, False),
        (c.Not(c.Ends()), False, True),
        (c.AnyOf((c.IsLost(), c.Reaches("app"))), True, False),
    ],
)
def test_verbs_of_a_journey_that_ends_and_of_one_that_does_not(
    verb: c.Verb, good: bool, faulty: bool
) -> None:
    for version, expected in (("1.10", good), ("unbound", faulty)):
        where = pod(version)
        assert holds(verb, arriving(where, frame()), where) is expected


def test_a_claim_may_speak_of_a_later_hop() -> None:
    where = pod("1.10")
    journey = arriving(where, frame())
    assert holds(c.Enters(IN_REDIRECT), journey, where, start=1) is False
    assert holds(c.Reaches("envoy"), journey, where, start=1) is False
    assert holds(c.Reaches("app", having=c.With(unchanged=True)), journey, where, start=1) is True


def test_what_is_not_known_of_a_journey_that_was_not_followed_to_its_end() -> None:
    where = pod("unbound")
    journey = travel(where, WIRE, frame(), hops=1)
    assert holds(c.Ends(), journey, where) is None
    assert holds(c.Reaches("envoy"), journey, where) is True
    assert holds(c.Reaches("app"), journey, where) is None
    assert holds(c.Not(c.Reaches("app")), journey, where) is None
    assert holds(c.AnyOf((c.Reaches("app"), c.Reaches("envoy"))), journey, where) is True
    assert holds(c.AnyOf((c.Reaches("app"), c.Leaves())), journey, where) is None
    assert holds(c.PassesBeforeLeaving("envoy"), journey, where) is True
    assert holds(c.PassesBeforeLeaving("app"), journey, where) is None


@pytest.mark.parametrize("dst", ["224.0.0.9", "255.255.255.255"])
def test_a_multicast_address_is_reached_by_the_interface_of_the_source(dst: str) -> None:
    """Whatever the routes say; a raw socket, or one with a device, is not asked for its source (observed)."""
    eth1 = h.Interface("eth1", (h.Address(ip("10.44.0.5"), 24),))
    raw = h.Process("raw", ANYONE, ANYONE, raw=True)
    where = setting(on=host(raw, interfaces=(LO, ETH0, eth1)))
    for sender, source, device, out in (
        ("who", "10.33.0.5", None, "eth0"),
        ("who", "10.44.0.5", None, "eth1"),
        ("who", "10.44.0.5", "eth0", "eth0"),
        ("who", "127.0.0.9", None, "lo"),
        ("raw", "10.44.0.5", None, "eth0"),
    ):
        packet = replace(sent(source, dst, UDP), device=device)
        end = travel(where, j.FromProcess(sender), packet).end
        assert isinstance(end, j.Group)
        assert end.out == out


def test_but_not_by_that_of_a_source_which_the_kernel_may_have_chosen() -> None:
    """A socket that is bound to nothing goes by the route, and takes its source; the packet does not tell which socket it was."""
    eth1 = h.Interface("eth1", (h.Address(ip("10.44.0.5"), 24),))
    lent = h.Route(Net.read("0.0.0.0/0"), "eth0", ip("10.33.0.1"), ip("10.44.0.5"))
    where = setting(on=host(interfaces=(LO, ETH0, eth1), routes=(lent,)))
    assert isinstance(leaving(where, sent("10.44.0.5", "224.0.0.9", UDP)).end, j.Unmodelled)
    assert isinstance(leaving(where, sent("10.33.0.5", "224.0.0.9", UDP)).end, j.Group)


def test_what_is_not_known_of_a_group() -> None:
    hears = h.Process("hears", ANYONE, ANYONE, (h.Listener(9, protocol=UDP),))
    seen = table("filter", INPUT=(rule(r.Jump("SEEN")),), SEEN=(rule(DROP),), UNSEEN=())
    where = setting(seen, table("mangle", POSTROUTING=(rule(r.Log("-j LOG")),)), on=host(hears))
    journey = leaving(where, sent(dst="10.33.0.255", proto=UDP))
    expected: dict[c.Verb, bool | None] = {
        c.Ends(): True,
        c.Enters(c.ChainRef("filter", "OUTPUT")): True,
        c.Enters(c.ChainRef("filter", "SEEN")): None,
        c.Hits(c.RuleRef("filter", "SEEN", 1)): None,
        c.Enters(c.ChainRef("filter", "UNSEEN")): False,
        c.Enters(c.ChainRef("filter", "FORWARD")): False,
        c.Leaves(): None,
        c.Leaves("eth0"): None,
        c.Leaves("eth1"): False,
        c.PassesBeforeLeaving("app"): None,
        c.PassesBeforeLeaving("app", "eth1"): True,
        c.Reaches("who"): False,
        c.Reaches("hears"): None,
        c.IsDropped(): None,
    }
    for verb, answer in expected.items():
        assert holds(verb, journey, where) is answer
    inbound = arriving(setting(), frame(dst="10.33.0.255", proto=UDP))
    assert holds(c.Leaves(), inbound, where) is False
    assert holds(c.PassesBeforeLeaving("app"), inbound, where) is True


def test_what_goes_to_a_group_leaves_where_postrouting_says_nothing() -> None:
    where = setting(table("mangle", POSTROUTING=()))
    journey = leaving(where, sent(dst="10.33.0.255", proto=UDP))
    for verb, answer in (
        (c.Leaves(), True),
        (c.Leaves("eth0"), True),
        (c.Leaves("eth1"), False),
        (c.Leaves("eth0", c.With(port=9)), False),
        (c.PassesBeforeLeaving("app"), False),
        (c.PassesBeforeLeaving("app", "eth1"), True),
    ):
        assert holds(verb, journey, where) is answer
    silent = replace(journey, stops=tuple(replace(s, packet=replace(s.packet, ttl=0)) for s in journey.stops))
    assert holds(c.Leaves(), silent, where) is None


def test_verbs_of_the_other_ends() -> None:
    dropping = setting(table("filter", OUTPUT=(rule(DROP),)))
    dropped = leaving(dropping, sent())
    assert holds(c.IsDropped(c.ChainRef("filter", "OUTPUT")), dropped, dropping) is True
    assert holds(c.IsDropped(c.ChainRef("filter", "INPUT")), dropped, dropping) is False
    assert holds(c.IsRejected(), dropped, dropping) is False
    left = leaving(setting(), sent())
    assert holds(c.Leaves("eth0", c.With(unchanged=True, port=80)), left, setting()) is True
    assert holds(c.Leaves("eth0", c.With(port=81)), left, setting()) is False
    assert holds(c.Leaves("eth1"), left, setting()) is False
    assert holds(c.PassesBeforeLeaving("app", "eth0"), left, setting()) is False
    assert holds(c.PassesBeforeLeaving("app", "eth1"), left, setting()) is True
    assert holds(c.IsRefused(), arriving(setting(), frame()), setting()) is True
    with pytest.raises(AssertionError):
        holds(c.Hits(c.RuleText("filter", "OUTPUT", "x")), left, setting())


def test_premises_speak_of_senders_kinds_and_fields() -> None:
    where = setting(on=replace(host(), outside=AddressSet.read("unicast, not 10.33.0.7")))
    outside = c.Premise(c.Outside())
    assert meets(outside, where, WIRE, frame())
    assert not meets(outside, where, FROM_WHO, sent())
    assert not meets(outside, where, j.FromOutside("lo"), frame())
    assert not meets(c.Premise(c.Outside("eth1")), where, WIRE, frame())
    for src in ("10.33.0.7", "10.33.0.5", "10.33.0.255", "0.0.0.0", "224.0.0.1"):
        assert not meets(outside, where, WIRE, frame(src))
    stray = replace(frame(), flags=RST)
    assert not meets(outside, where, WIRE, stray)
    invalid = c.Filter(where=(r.Literal(r.CtStates(frozenset({CtState.INVALID}))),))
    assert meets(c.Premise(c.Outside(), filter=invalid), where, WIRE, stray)
    assert not meets(c.Premise(c.Outside(), filter=invalid), where, WIRE, frame())
    ack = replace(frame(), flags=ACK)
    assert meets(outside, where, WIRE, ack)
    assert not meets(replace(outside, kind=c.Kind.CONNECTION), where, WIRE, ack)
    assert meets(replace(outside, kind=c.Kind.CONNECTION), where, WIRE, frame(proto=UDP))


def test_premises_have_filters_and_exceptions() -> None:
    by_eth0 = c.Filter(where=(r.Literal(r.OutInterface(Iface("eth0"))),))
    own = c.Premise(c.OfProcess("who"), filter=by_eth0)
    assert meets(own, setting(), FROM_WHO, sent())
    assert not meets(own, setting(), FROM_WHO, sent(dst="127.0.0.1"))
    assert not meets(own, setting(), FROM_WHO, sent(src="8.8.4.4"))
    port = c.Filter(protocol=TCP, to=AddressSet.read("8.0.0.0/8"), source=AddressSet(), ports=(Span(80, 80),))
    assert meets(replace(own, filter=port), setting(), FROM_WHO, sent())
    assert not meets(replace(own, filter=port), setting(), FROM_WHO, sent(proto=UDP))
    assert not meets(replace(own, filter=port), setting(), FROM_WHO, sent(dport=81))
    ports_of_none = c.Filter(ports=(Span(0, 0xFFFF),))
    assert not meets(
        replace(own, filter=ports_of_none), setting(), FROM_WHO, replace(sent(proto=47), sport=0)
    )
    spared = replace(own, exceptions=(c.Exception_(port, "it is known", "to 8/8"),))
    assert not meets(spared, setting(), FROM_WHO, sent())
    assert meets(spared, setting(), FROM_WHO, sent(dport=81))
    dialled = travel(pod("1.10"), DIALS, state=STATE).stops[0].packet
    by_lo = c.Filter(where=(r.Literal(OUT_LO),))
    assert meets(c.Premise(c.OfProxy("envoy", "inbound"), filter=by_lo), pod("1.10"), DIALS, dialled)
    assert not meets(c.Premise(c.OfProxy("envoy", "outbound")), pod("1.10"), DIALS, dialled)


def test_address_sets() -> None:
    where = setting()
    assert in_set(AddressSet(), 0, where)
    assert in_set(AddressSet.read("not 8.8.8.8"), ip("8.8.4.4"), where)
    assert not in_set(AddressSet.read("8.0.0.0/8, not 8.8.8.8"), ip("8.8.8.8"), where)
    assert in_set(AddressSet.read("unicast"), ip("8.8.8.8"), where)
    assert not in_set(AddressSet.read("not unicast"), ip("8.8.8.8"), where)
    with pytest.raises(AssertionError):
        in_set(AddressSet((HostAddresses("pod"),)), 0, where)


def test_outcomes_tell_ends_and_no_rules() -> None:
    plain, marking = setting(), setting(table("filter", OUTPUT=(rule(None), rule(ACCEPT))))
    assert outcome(leaving(plain, sent())) == outcome(leaving(marking, sent()))
    assert outcome(leaving(plain, sent())) != outcome(leaving(plain, sent(dport=81)))
    dropping = [setting(table("filter", DROP)), setting(table("mangle", OUTPUT=(rule(DROP),)))]
    assert {outcome(leaving(s, sent())) for s in dropping} == {("dropped",)}
    assert outcome(arriving(pod("unbound"), frame())) == ("loop",)
    assert outcome(arriving(plain, frame("127.0.0.1"))) == ("lost", j.MARTIAN)
    assert outcome(arriving(pod("1.10"), frame()))[:4] == ("socket", "app", 8080, None)
    assert outcome(arriving(plain, frame(proto=ICMP)))[0] == "kernel"
