"""What comes back, and what TPROXY gives a socket, as the formulas have it, by example (docs/journeys.md, "Answers")."""

from __future__ import annotations

import random

import pytest
from msgspec.structs import replace

from verifier import claims as c
from verifier import hosts as h
from verifier import journeys as j
from verifier import rules as r
from verifier.hooks import BUILT_IN, Hook
from verifier.hosts import Setting
from verifier.packets import Connection, Packet
from verifier.symbolic import claims as symbolic
from verifier.symbolic.terms import Model
from verifier.symbolic.travel import Journeys
from verifier.values import ICMP, TCP, UDP, CtState, Family, IdSet, MarkMask, Net, Span, TcpFlag, read_address

from .agree.agreement import Told, journeys_of, possible, told, under
from .agree.slips_of_answers import router

ip = read_address
ANYONE = IdSet.read("any")
HERE, NEAR, FAR, CLIENT = ip("10.0.0.5"), ip("10.0.1.5"), ip("192.0.2.1"), ip("10.0.0.9")
SYN = int(TcpFlag.SYN)
SCTP = 132

Rules = dict[str, dict[str, tuple[r.Rule, ...]]]


def the_rules(**tables: dict[str, tuple[r.Rule, ...]]) -> r.RuleSet:
    found = {}
    for name, chains in tables.items():
        built_in = {n: r.Chain(n, r.Accept(), chains.get(n, ())) for n in BUILT_IN[name]}
        found[name] = r.Table(name, built_in)
    return r.RuleSet(found)


def always(target: r.Target, *matches: r.Match) -> tuple[r.Rule, ...]:
    return (r.Rule(tuple(map(r.Literal, matches)), target),)


def app(*listens: h.Listener, **more: object) -> h.Process:
    return replace(h.Process("app", ANYONE, ANYONE, listens), **more)


def setting(process: h.Process | None = None, rules: r.RuleSet | None = None, **more: object) -> Setting:
    """A router with 10.0.0.5 on eth0, by which its default route is, and 10.0.1.5 on eth1."""
    host = router(process or app(h.Listener(80)))
    return Setting(replace(host, **more), rules or r.RuleSet({}), answers=True)


def frame(dst: int = HERE, proto: int = TCP, **more: object) -> Packet:
    ports = (4000, 80) if proto in (TCP, UDP, SCTP) else (0, 0)
    packet = Packet(CLIENT, dst, proto, *ports, SYN if proto == TCP else 0, in_iface="eth0")
    return replace(packet, **more)


def sent(dst: int = FAR, proto: int = TCP, **more: object) -> Packet:
    ports = (4000, 80) if proto in (TCP, UDP, SCTP) else (0, 0)
    packet = Packet(HERE, dst, proto, *ports, SYN if proto == TCP else 0, uid=0, gid=0)
    return replace(packet, **more)


class Seen:
    """What the formulas say of one packet of a sender."""

    def __init__(self, where: Setting, packet: Packet) -> None:
        sender = j.FromOutside(packet.in_iface) if packet.in_iface else j.FromProcess("app")
        self.js: Journeys = journeys_of(where, sender)
        self.model: Model
        self.model, _ = under(self.js, packet, random.Random(0))
        assert possible(self.js, self.model), packet
        self.told: Told = told(self.js, self.model)
        self.back = [stop for stop in self.told.stops if stop.hop == j.answer_to(0)]

    @property
    def end(self) -> j.End | None:
        """That of the answer."""
        return dict(self.told.answers).get(0)

    @property
    def states(self) -> list[CtState]:
        """The states of the answer, in turn."""
        states = [stop.packet.ctstate for stop in self.back]
        return [state for n, state in enumerate(states) if n == 0 or state is not states[n - 1]]

    def translated(self) -> list[tuple[Hook | None, int, int]]:
        """Where the answer gets its ends back, and which it then has."""
        return [(s.hook, s.packet.src, s.packet.dst) for s in self.back if s.act is j.Act.TRANSLATED]

    def says(self, verb: c.Verb) -> bool | None:
        return self._of(symbolic.verdict(verb, self.js))

    def answer_says(self, verb: c.Verb) -> bool | None:
        return self._of(symbolic.verdict_of_answer(verb, self.js))

    def _of(self, verdict: symbolic.Verdict) -> bool | None:
        holds = self.model.holds
        if holds(verdict.surely):
            assert holds(verdict.possibly)
            assert not holds(verdict.surely_not)
            assert not holds(verdict.possibly_not)
            return True
        assert holds(verdict.possibly_not)
        assert holds(verdict.possibly) == (not holds(verdict.surely_not))
        return False if holds(verdict.surely_not) else None


# -- who answers -------------------------------------------------------------------------------------------


def test_a_listener_answers_a_syn_and_that_leaves_by_the_way_back() -> None:
    seen = Seen(setting(), frame())
    (begin,) = seen.back
    assert begin.process == "app"
    packet = begin.packet
    assert (packet.src, packet.dst, packet.sport, packet.dport) == (HERE, CLIENT, 80, 4000)
    assert packet.flags == TcpFlag.SYN | TcpFlag.ACK
    assert packet.ctstate is CtState.ESTABLISHED
    assert packet.connection is None
    assert seen.end == j.Left("eth0")
    assert seen.says(c.IsAnswered()) is True
    assert seen.says(c.IsAnswered("eth0")) is True
    assert seen.says(c.IsAnswered("eth1")) is False


def test_nobody_answers_where_nobody_listens() -> None:
    seen = Seen(setting(), frame(dport=81))
    assert seen.told.answers == ()
    assert seen.says(c.IsAnswered()) is False


def test_what_has_left_is_answered_and_comes_back_to_its_socket() -> None:
    seen = Seen(setting(), sent())
    assert seen.back[0].packet.in_iface == "eth0"
    assert seen.back[0].process is None
    assert seen.end == j.Returned("app")
    assert seen.says(c.IsAnswered("eth0")) is True
    assert seen.says(c.IsAnswered("eth1")) is False


def test_over_lo_it_comes_back_over_lo() -> None:
    seen = Seen(setting(), sent(NEAR))
    assert seen.end == j.Returned("app")
    assert seen.says(c.IsAnswered("lo")) is True


def test_a_dropped_answer_does_not_come_back() -> None:
    drop = the_rules(filter={"INPUT": always(r.Drop(), r.TcpFlags(0x12, 0x12))})
    seen = Seen(setting(rules=drop), sent())
    assert seen.end == j.Dropped(Hook.INPUT, "filter", "INPUT", 1)
    assert seen.says(c.IsAnswered()) is False
    assert seen.answer_says(c.IsDropped()) is True
    assert seen.answer_says(c.Hits(c.RuleRef("filter", "INPUT", 1))) is True
    assert seen.says(c.Hits(c.RuleRef("filter", "INPUT", 1))) is False


@pytest.mark.parametrize(
    ("packet", "end"),
    [
        (sent(proto=ICMP, icmp_type=8), j.Returned("app")),
        (sent(proto=ICMP, icmp_type=3), None),
        (sent(proto=47), j.Returned("app")),
        (sent(proto=SCTP), j.Unmodelled("an answer of this protocol")),
        (sent(flags=int(TcpFlag.ACK)), None),
        (frame(proto=ICMP, icmp_type=8), j.Left("eth0")),
        (frame(proto=ICMP, icmp_type=13), j.Left("eth0")),
        (frame(proto=ICMP, icmp_type=17), None),
        (frame(proto=47), None),
    ],
    ids=str,
)
def test_who_is_answered(packet: Packet, end: j.End | None) -> None:
    assert Seen(setting(), packet).end == end


def test_the_kernels_own_socket_is_not_known_to_rules_that_ask_for_sockets() -> None:
    for asks in (r.OwnerIds(socket_exists=True), r.OwnerIds(socket_exists=True, socket_negated=True)):
        rules = the_rules(filter={"OUTPUT": always(r.Accept(), asks)})
        seen = Seen(setting(rules=rules), frame(proto=ICMP, icmp_type=8))
        assert seen.back == []
        assert seen.end == j.Unmodelled("the kernel's own socket")
        assert seen.says(c.IsAnswered()) is None
    by_uid = the_rules(filter={"OUTPUT": always(r.Accept(), r.OwnerIds(uid=ANYONE.ranges[0]))})
    assert Seen(setting(rules=by_uid), frame(proto=ICMP, icmp_type=8)).end == j.Left("eth0")


def test_the_socket_of_another_device_does_not_get_the_answer() -> None:
    """What comes over lo comes by the interface that has the address."""
    bound = setting(app(h.Listener(80), device="eth1"))
    assert Seen(bound, sent(NEAR, src=NEAR, device="eth1")).end == j.Returned("app")
    assert Seen(bound, sent(NEAR, device="eth1")).end == j.Refused()
    assert Seen(bound, sent(NEAR)).end == j.Returned("app")


# -- what NAT has made of it -------------------------------------------------------------------------------


def test_what_redirect_did_is_undone_for_the_answer() -> None:
    rules = the_rules(nat={"PREROUTING": always(r.Redirect(Span(80, 80)), r.Protocol(TCP))})
    seen = Seen(setting(rules=rules), frame(FAR, dport=8080))
    assert seen.translated() == [(Hook.POSTROUTING, FAR, CLIENT)]
    assert seen.back[-1].packet.sport == 8080
    assert seen.end == j.Left("eth0")
    assert seen.says(c.IsAnswered()) is True


def test_what_masquerade_did_is_undone_also_where_nat_has_no_chain_there() -> None:
    chain = r.Chain("POSTROUTING", r.Accept(), always(r.Masquerade()))
    rules = r.RuleSet({"nat": r.Table("nat", {"POSTROUTING": chain})})
    forwarded = Seen(setting(rules=rules), frame(ip("10.0.1.9"), src=CLIENT))
    assert forwarded.translated() == [(Hook.PREROUTING, ip("10.0.1.9"), CLIENT)]
    assert forwarded.end == j.Left("eth0")
    assert forwarded.says(c.IsAnswered("eth0")) is True


def test_a_connection_has_seen_its_reply() -> None:
    rules = the_rules(nat={"PREROUTING": always(r.Redirect(Span(80, 80)), r.Protocol(TCP))})
    seen = Seen(setting(rules=rules), frame(FAR))
    connection = seen.back[-1].packet.connection
    assert isinstance(connection, Connection)
    assert connection.is_reply
    assert connection.status == 2 | 8 | 32
    assert (connection.original.src, connection.original.dst) == (CLIENT, FAR)


def test_what_is_not_tracked_is_invalid_or_new_and_is_not_translated() -> None:
    rules = the_rules(raw={"OUTPUT": always(r.NoTrack(), r.Destination(Net.read("192.0.2.1/32")))})
    assert Seen(setting(rules=rules), sent()).states == [CtState.INVALID]
    assert Seen(setting(rules=rules), sent(proto=UDP)).states == [CtState.NEW, CtState.INVALID, CtState.NEW]


def test_an_answer_that_is_not_tracked_keeps_the_ends_that_nat_made() -> None:
    rules = the_rules(
        nat={"PREROUTING": always(r.Redirect(Span(80, 80)), r.Protocol(TCP))},
        raw={"OUTPUT": always(r.NoTrack())},
    )
    seen = Seen(setting(rules=rules), frame(FAR))
    assert seen.states[-1] is CtState.UNTRACKED
    assert seen.translated() == []
    assert seen.end == j.Left("eth0")
    assert seen.says(c.IsAnswered()) is False


@pytest.mark.parametrize(
    ("there", "back", "found"),
    [
        ("--zone 1", None, False),
        ("--zone 1", "--zone 1", True),
        ("--zone 1", "--zone 2", False),
        ("--zone-orig 1", None, True),
        ("--zone-reply 1", None, False),
        ("--zone-reply 1", "--zone 1", True),
        (None, "--zone-orig 7", True),
        (None, "--zone-reply 7", False),
        ("--helper ftp", None, True),
    ],
)
def test_an_answer_finds_its_connection_in_the_zone_of_replies(
    there: str | None, back: str | None, found: bool
) -> None:
    """A second template changes nothing."""

    def template(zone: str | None) -> tuple[r.Rule, ...]:
        return always(r.TrackAs(zone)) + always(r.TrackAs("--zone 9")) if zone else ()

    rules = the_rules(
        raw={"PREROUTING": template(there), "OUTPUT": template(back)},
        mangle={},
        nat={"PREROUTING": always(r.Redirect(Span(80, 80)), r.Protocol(TCP))},
    )
    seen = Seen(setting(rules=rules), frame(FAR))
    assert seen.states[0] is CtState.ESTABLISHED
    assert seen.states[-1] is (CtState.ESTABLISHED if found else CtState.INVALID)
    assert bool(seen.translated()) == found
    assert seen.says(c.IsAnswered()) is found


def test_what_is_not_found_is_looked_for_again_over_lo() -> None:
    """PREROUTING names another zone, and the kernel finds the connection there (observed)."""
    rules = the_rules(
        raw={"PREROUTING": always(r.TrackAs("--zone-reply 1"))},
        nat={"INPUT": always(r.Snat(r.NatRange.of(ip("127.0.0.1"))))},
    )
    assert Seen(setting(rules=rules), frame()).end == j.Unmodelled(
        "an answer that conntrack looks for again over lo"
    )


def test_what_begins_a_connection_beside_that_of_its_question_is_not_modelled() -> None:
    """Its replies would be the question over again: the kernel drops it, or gives it another port (observed)."""
    datagram = replace(sent(), proto=UDP, flags=0)
    rules = the_rules(raw={"OUTPUT": always(r.TrackAs("--zone-reply 1"))})
    assert Seen(setting(rules=rules), datagram).end == j.Unmodelled(
        "an answer that begins a connection beside that of its question"
    )


def test_a_zone_that_a_mark_names_is_not_known() -> None:
    rules = the_rules(raw={"OUTPUT": always(r.TrackAs("--zone mark"))})
    assert Seen(setting(rules=rules), frame()).end == j.Unmodelled("a zone that the mark names")


def test_backends_differ_in_what_security_sees_of_a_translated_answer() -> None:
    rules = the_rules(
        nat={"OUTPUT": always(r.Dnat(r.NatRange.of(ip("192.0.2.7"), None)))},
        security={"INPUT": always(r.Drop(), r.Source(Net.read("192.0.2.7/32")))},
    )
    ends = {}
    for backend in h.Backend:
        ends[backend] = Seen(setting(rules=rules, backend=backend), sent()).end
    assert ends[h.Backend.LEGACY] == j.Dropped(Hook.INPUT, "security", "INPUT", 1)
    assert ends[h.Backend.NFT] == j.Returned("app")
    assert ends[h.Backend.EITHER] == j.Unmodelled("order of nat and security at INPUT")


# -- TPROXY ------------------------------------------------------------------------------------------------

TO_HERE = h.Route(Net.read("0.0.0.0/0"), "lo", kind=h.RouteKind.LOCAL)
BY_MARK = {
    "policy": (h.RoutingRule(100, mark=MarkMask(1, 1)), h.RoutingRule(h.MAIN)),
    "tables": {100: (TO_HERE,)},
}


ONE = MarkMask(1, 1)


def tproxy(listener: h.Listener, mark: MarkMask = ONE, **more: object) -> Setting:
    target = r.Tproxy(15001, mark=mark)
    rules = the_rules(mangle={"PREROUTING": always(target, r.Protocol(TCP))})
    return setting(app(listener), rules, **{**BY_MARK, **more})


def test_tproxy_gives_a_transparent_socket_what_goes_elsewhere_and_it_answers_from_there() -> None:
    seen = Seen(tproxy(h.Listener(15001, transparent=True)), frame(FAR))
    assert seen.told.ends == (j.Socket("app", h.Listener(15001, transparent=True)),)
    assert (seen.back[0].packet.src, seen.back[0].packet.sport) == (FAR, 80)
    assert seen.end == j.Left("eth0")
    assert seen.says(c.IsAnswered()) is True


def test_tproxy_drops_where_the_socket_is_not_transparent() -> None:
    seen = Seen(tproxy(h.Listener(15001)), frame(FAR))
    assert seen.told.ends == (j.Dropped(Hook.PREROUTING, "mangle", "PREROUTING", 1),)


def test_tproxy_asks_for_the_address_of_the_interface() -> None:
    for address, given in ((HERE, True), (NEAR, False)):
        seen = Seen(tproxy(h.Listener(15001, address, transparent=True)), frame(FAR))
        assert isinstance(seen.told.ends[0], j.Socket) is given


def test_what_has_a_socket_is_not_forwarded() -> None:
    seen = Seen(tproxy(h.Listener(15001, transparent=True), MarkMask(0, 0)), frame(FAR))
    assert seen.told.ends == (j.Lost(j.GIVEN_A_SOCKET),)
    assert seen.told.stops[-1].where == "forward"


def test_tproxy_changes_the_marks_bits_under_its_mask() -> None:
    before = always(r.SetMark(MarkMask(0x30, 0xFF)))
    target = always(r.Tproxy(15001, mark=MarkMask(0x11, 0x11)))
    rules = the_rules(mangle={"PREROUTING": before + target})
    seen = Seen(setting(app(h.Listener(15001, transparent=True)), rules, **BY_MARK), frame(FAR))
    (matched,) = [s for s in seen.told.stops if s.rule == 2]
    assert matched.packet.mark == 0x31
    assert isinstance(seen.told.ends[0], j.Socket)


# -- what verbs say ----------------------------------------------------------------------------------------


def test_what_is_not_known_of_the_hop_is_not_known_of_its_answer() -> None:
    rules = the_rules(filter={"INPUT": always(r.Queue("NFQUEUE"))})
    seen = Seen(setting(rules=rules), frame())
    assert seen.end is None
    assert seen.says(c.IsAnswered()) is None
    assert seen.answer_says(c.IsDropped()) is None
    existence = symbolic.is_sent_back(seen.js)
    assert not seen.model.holds(existence.surely)
    assert seen.model.holds(existence.possibly)


def test_what_is_dropped_has_no_answer() -> None:
    rules = the_rules(filter={"INPUT": always(r.Drop())})
    seen = Seen(setting(rules=rules), frame())
    existence = symbolic.is_sent_back(seen.js)
    assert not seen.model.holds(existence.surely)
    assert not seen.model.holds(existence.possibly)
    assert seen.says(c.IsAnswered()) is False


def test_whoever_does_not_ask_for_answers_is_told_of_none_and_may_not_ask_for_them() -> None:
    silent = replace(setting(), answers=False)
    seen = Seen(silent, frame())
    assert seen.back == []
    assert seen.js.sent_back == []
    with pytest.raises(AssertionError, match="does not tell of answers"):
        symbolic.verdict(c.IsAnswered(), seen.js)


def test_with_mark_asks_for_the_mark_of_the_answer() -> None:
    rules = the_rules(mangle={"OUTPUT": always(r.SetMark(MarkMask(7)), r.TcpFlags(0x12, 0x12))})
    seen = Seen(setting(rules=rules), frame())
    assert seen.says(c.IsAnswered(having=c.With(mark=MarkMask(7)))) is True
    assert seen.says(c.IsAnswered(having=c.With(mark=MarkMask(1)))) is False


# -- IPv6 --------------------------------------------------------------------------------------------------


def test_a_link_local_client_is_answered_by_the_interface_that_it_came_by() -> None:
    six = Family.IPV6

    def address(text: str) -> int:
        return read_address(text, six)

    interfaces = (
        h.Interface("lo", (h.Address(1, 128, six),)),
        h.Interface("eth0", (h.Address(address("fe80::15"), 64, six),)),
        h.Interface(
            "eth1", (h.Address(address("fe80::16"), 64, six), h.Address(address("fd00::5"), 64, six))
        ),
    )
    link = Net.prefix(address("fe80::"), 64, six)
    routes = (h.Route(link, "eth0", metric=256), h.Route(link, "eth1", metric=256))
    host = h.Host("host", interfaces, routes, dict(h.DEFAULTS_IPV6), (app(h.Listener(80)),), family=six)
    packet = Packet(address("fe80::9"), address("fd00::5"), TCP, 4000, 80, SYN, in_iface="eth1", family=six)
    seen = Seen(Setting(host, r.RuleSet({}, six), answers=True), packet)
    assert seen.back[0].packet.device is None
    assert seen.end == j.Left("eth1")
