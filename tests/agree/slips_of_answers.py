"""Slips in what comes back, and in what TPROXY gives a socket, with packets that are told otherwise by them."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from verifier import hosts as h
from verifier import rules as r
from verifier.hosts import Setting
from verifier.journeys import FromOutside, FromProcess, Sender
from verifier.packets import Packet
from verifier.values import ICMP, TCP, UDP, IdSet, MarkMask, Net, Span, TcpFlag

from .examples import ip, rule_set
from .slips import Slip

SLIPS = tuple(
    Slip(*given)
    for given in (
        (
            "an answer is not translated",
            "travel.py",
            "_translated(hop, hook, back.translated(packet, hook), packet)",
            "_translated(hop, hook, packet, packet)",
        ),
        (
            "an answer's source is restored where its destination has to be",
            "answers.py",
            "        if not known.status & SRC_NAT:\n",
            "        if not known.status & DST_NAT:\n",
        ),
        (
            "an answer to what is in a zone is found in any",
            "travel.py",
            "        if zone[1] == answering.zone[1]:\n",
            "        if True:\n",
        ),
        (
            "an answer is looked for in the zone of the way there",
            "travel.py",
            "        if zone[1] == answering.zone[1]:\n",
            "        if zone[0] == answering.zone[0]:\n",
        ),
        (
            "the last template tells the zone",
            "answers.py",
            "targets_met(setting.rules, stops, hop, first,",
            "targets_met(setting.rules, stops[::-1], hop, first,",
        ),
        (
            "an answer is new",
            "travel.py",
            "    state = CtState.ESTABLISHED if packet.connection else",
            "    state = CtState.NEW if packet.connection else",
        ),
        (
            "an answer that conntrack does not find is established all the same",
            "travel.py",
            "        packet = replace(packet, ctstate=conntrack_state(hop.setting, packet))\n        if",
            "        if",
        ),
        (
            "the connection has seen no reply",
            "answers.py",
            "return replace(known, is_reply=True, status=known.status | SEEN_REPLY)",
            "return replace(known, is_reply=True)",
        ),
        (
            "the device of the socket that waits for the answer is ignored",
            "answers.py",
            "    return answering.to.device in (None, ways.came_by(road, packet))",
            "    return True",
        ),
        (
            "the device of the socket that answers is ignored",
            "answers.py",
            "    if listener is not None and listener.device is not None:\n        return listener.device\n",
            "",
        ),
        (
            "a socket answers from whatever address it was reached at",
            "answers.py",
            "    if routing.type_of(road, packet.src) is not routing.Type.LOCAL and not transparent:\n        return None\n",
            "",
        ),
        (
            "no socket answers from another's address",
            "answers.py",
            "    if routing.type_of(road, packet.src) is not routing.Type.LOCAL and not transparent:\n",
            "    if routing.type_of(road, packet.src) is not routing.Type.LOCAL:\n",
        ),
        (
            "this host answers every request of ICMP",
            "answers.py",
            "(here and packet.icmp_type not in BY_LINUX)",
            "False",
        ),
        (
            "TPROXY does not ask whether a socket is transparent",
            "chains.py",
            "    if found is None or not found[1].transparent:\n",
            "    if found is None:\n",
        ),
        (
            "TPROXY sets the mark without its mask",
            "chains.py",
            "    return targets.with_mark(packet, target.mark)\n",
            "    return targets.with_mark(packet, type(target.mark)(target.mark.value))\n",
        ),
        (
            "TPROXY asks for the packet's own address",
            "tproxy.py",
            "    return (own[:1] if road.host.family is IPV4 else own) or (packet.dst,)",
            "    return (packet.dst,)",
        ),
        (
            "what has a socket is forwarded",
            "travel.py",
            "            return j.Lost(j.GIVEN_A_SOCKET)\n",
            "            pass\n",
        ),
        (
            "what TPROXY gave a socket is looked for by its destination",
            "travel.py",
            "    found = given.socket if given else its_own or routing.listening(hop.road, packet, device)\n",
            "    found = routing.listening(hop.road, packet, device)\n",
        ),
    )
)

HERE, NEAR, FAR, CLIENT = ip("10.0.0.5"), ip("10.0.1.5"), ip("192.0.2.1"), ip("10.0.0.9")
SYN = int(TcpFlag.SYN)
ANYONE = IdSet.read("any")
BY_MARK = (h.RoutingRule(100, mark=MarkMask(1, 1)), h.RoutingRule(h.MAIN))
TO_LO = {100: (h.Route(Net.read("0.0.0.0/0"), "lo", kind=h.RouteKind.LOCAL),)}


def examples() -> Iterator[tuple[Setting, Sender, Packet]]:
    """On a router with 10.0.0.5 on eth0, where its default route and its clients are, and 10.0.1.5 on eth1."""
    yield from _translated()
    yield from _in_zones()
    yield from _by_devices()
    yield from _intercepted()
    for kind in (8, 13, 17):
        yield _setting(), FromOutside("eth0"), _frame(HERE, ICMP, icmp_type=kind)


def _translated() -> Iterator[tuple[Setting, Sender, Packet]]:
    there = rule_set(nat={"PREROUTING": _always(r.Redirect(Span(80, 80)), r.Protocol(TCP))})
    out = rule_set(nat={"POSTROUTING": _always(r.Snat(r.NatRange.of(HERE, None)))})
    for rules in (there, out):
        yield _setting(rules), FromOutside("eth0"), _frame(FAR)
        yield _setting(rules), FromProcess("app"), _sent(FAR, NEAR)


def _in_zones() -> Iterator[tuple[Setting, Sender, Packet]]:
    for there, back in (("--zone 1", None), ("--zone-orig 1", None), ("--zone 1", "--zone 1")):
        raw = {"PREROUTING": _template(there), "OUTPUT": _template(back)}
        rules = rule_set(raw=raw, nat={"PREROUTING": _always(r.Redirect(Span(80, 80)))}, mangle={})
        for proto in (TCP, UDP):
            yield _setting(rules), FromOutside("eth0"), _frame(FAR, proto)


def _by_devices() -> Iterator[tuple[Setting, Sender, Packet]]:
    bound = h.Process("app", ANYONE, ANYONE, (h.Listener(80),), device="eth1")
    yield _setting(process=bound), FromProcess("app"), _sent(NEAR, HERE, device="eth1")
    listening = h.Process("app", ANYONE, ANYONE, (h.Listener(80, device="eth1"),))
    yield _setting(process=listening), FromOutside("eth1"), _frame(HERE, in_iface="eth1")


def _intercepted() -> Iterator[tuple[Setting, Sender, Packet]]:
    """To sockets that are transparent or not, by addresses or by the wildcard, with the mark that takes the packet here
    or without."""
    for mark in (MarkMask(1, 1), MarkMask(0, 0)):
        first = _always(r.SetMark(MarkMask(0x30)))
        rules = rule_set(mangle={"PREROUTING": first + _always(r.Tproxy(15001, mark=mark), r.Protocol(TCP))})
        for transparent in (False, True):
            for address in (None, HERE):
                listener = h.Listener(15001, address, transparent=transparent)
                process = h.Process("app", ANYONE, ANYONE, (listener,))
                yield _setting(rules, process), FromOutside("eth0"), _frame(FAR)
    marked = rule_set(mangle={"PREROUTING": _always(r.SetMark(MarkMask(1)))})
    yield _setting(marked), FromOutside("eth0"), _frame(FAR)


def router(*processes: h.Process) -> h.Host:
    """It has 10.0.0.5 on eth0, by which its default route is, and 10.0.1.5 on eth1."""
    interfaces = (
        h.Interface("lo", (h.Address(ip("127.0.0.1"), 8),)),
        h.Interface("eth0", (h.Address(HERE, 24),)),
        h.Interface("eth1", (h.Address(NEAR, 24),)),
    )
    routes = (
        h.Route(Net.read("10.0.0.0/24"), "eth0", source=HERE),
        h.Route(Net.read("10.0.1.0/24"), "eth1", source=NEAR),
        h.Route(Net.read("0.0.0.0/0"), "eth0", CLIENT),
    )
    sysctls = {**h.DEFAULTS, "net.ipv4.ip_forward": 1}
    return h.Host("host", interfaces, routes, sysctls, processes, backend=h.Backend.LEGACY)


def _setting(rules: r.RuleSet | None = None, process: h.Process | None = None) -> Setting:
    app = h.Process("app", ANYONE, ANYONE, (h.Listener(80), h.Listener(80, protocol=UDP)))
    host = replace(router(process or app), policy=BY_MARK, tables=TO_LO)
    return Setting(host, rules or r.RuleSet({}), answers=True)


def _always(target: r.Target, *matches: r.Match) -> tuple[r.Rule, ...]:
    return (r.Rule(tuple(map(r.Literal, matches)), target),)


def _template(zone: str | None) -> tuple[r.Rule, ...]:
    """This one, and another, which changes nothing."""
    return _always(r.TrackAs(zone)) + _always(r.TrackAs("--zone 9")) if zone else ()


def _frame(dst: int, proto: int = TCP, icmp_type: int = 0, in_iface: str = "eth0") -> Packet:
    ports = (0, 0) if proto == ICMP else (4000, 80)
    flags = SYN if proto == TCP else 0
    return Packet(CLIENT, dst, proto, *ports, flags, icmp_type, in_iface=in_iface)


def _sent(dst: int, src: int, device: str | None = None) -> Packet:
    return Packet(src, dst, TCP, 4000, 80, SYN, uid=0, gid=0, device=device)
