"""Slips in what a connection that stands leaves, and its later packets find, with packets that are told otherwise by them."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from verifier import hosts as h
from verifier import rules as r
from verifier.hosts import Setting
from verifier.journeys import FromOutside, FromProcess, Sender
from verifier.packets import Packet
from verifier.values import ICMP, TCP, UDP, CtState, IdSet, MarkMask, Net, Span, TcpFlag

from .examples import rule_set
from .slips import Slip
from .slips_of_answers import CLIENT, FAR, HERE, NEAR, router

SLIPS = tuple(
    Slip(*given)
    for given in (
        (
            "whether the connection stands nobody asks",
            "travel.py",
            "    behind = bool(first.behind) if first.opened is None else first.opened.stands is not False\n",
            "    behind = True\n",
        ),
        (
            "an answer has come back wherever it ends",
            "answers.py",
            "            return sent.in_iface is not None and answers(answer, sent)\n",
            "            return True\n",
        ),
        (
            "a connection of which nobody knows stands",
            "travel.py",
            "        if opened.stands is None:\n",
            "        if False:\n",
        ),
        (
            "the answer has not been seen",
            "established.py",
            "    answered = replied is not None\n",
            "    answered = False\n",
        ),
        (
            "the mark that the answer has left is forgotten",
            "established.py",
            "        its = replace(back[-1].packet.connection or replied, is_reply=False)\n",
            "        its = replace(replied, is_reply=False)\n",
        ),
        (
            "its entry is one of replies",
            "established.py",
            "        its = replace(back[-1].packet.connection or replied, is_reply=False)\n",
            "        its = back[-1].packet.connection or replied\n",
        ),
        (
            "TCP of which no answer was seen is NEW",
            "established.py",
            "    return replace(packet, ctstate=CtState.INVALID) if packet.proto == TCP else SEEN_LATER\n",
            "    return replace(packet, connection=known) if packet.proto == TCP else SEEN_LATER\n",
        ),
        (
            "datagrams of which no answer was seen are INVALID",
            "established.py",
            "    return replace(packet, ctstate=CtState.INVALID) if packet.proto == TCP else SEEN_LATER\n",
            "    return replace(packet, ctstate=CtState.INVALID)\n",
        ),
        (
            "what is in no entry begins one",
            "established.py",
            "        return TAKEN_UP\n    if isinstance(known, str):\n",
            "        return entries.begins(packet)\n    if isinstance(known, str):\n",
        ),
        (
            "a reset leaves the connection assured",
            "established.py",
            "        assured = assured or not packet.flags & (TcpFlag.RST | TcpFlag.FIN)\n",
            "        assured = True\n",
        ),
        (
            "every connection may be assured",
            "established.py",
            "        assured = packet.proto in AT_ONCE or (assured and packet.proto == UDP)\n",
            "        assured = packet.proto in AT_ONCE or assured\n",
        ),
        (
            "a later packet of TCP comes to any listener",
            "travel.py",
            "    takes = given.accepted if given else its_own is not None\n",
            "    takes = True\n",
        ),
        (
            "the socket of a connection has every packet from its client",
            "established.py",
            "    if there != (packet.src, packet.dst, packet.sport, packet.dport) or accepted.device",
            "    if there[0] != packet.src or accepted.device",
        ),
        (
            "the socket of a connection is of any device",
            "established.py",
            " or accepted.device not in (None, device):\n",
            ":\n",
        ),
        (
            "a proxy dials again for what it has accepted",
            "travel.py",
            "    if answering is not None or hop.opened is not None:\n",
            "    if answering is not None:\n",
        ),
        (
            "rules find a listener before the socket of the connection",
            "chains.py",
            "        if its_own is not None:\n            return its_own[1].transparent or not match.transparent\n",
            "",
        ),
        (
            "TPROXY finds a listener before the socket of the connection",
            "tproxy.py",
            "    if its_own is not None:\n        return its_own\n",
            "",
        ),
        (
            "a reset is answered",
            "answers.py",
            "        return None if packet.flags & TcpFlag.RST else replace(back, flags=later)\n",
            "        return replace(back, flags=later)\n",
        ),
        (
            "a later packet is answered with a SYN",
            "answers.py",
            "    if packet.proto == TCP and later is not None:\n",
            "    if packet.proto == TCP and later is not None and packet.flags & TcpFlag.RST:\n",
        ),
        (
            "what answers a packet astray is followed",
            "travel.py",
            "    return entry is not None and packet.connection is None\n",
            "    return False\n",
        ),
        (
            "an answer to what is untracked may begin a connection",
            "travel.py",
            "    elif answering.later and is_on(hop.setting.rules) is True:\n",
            "    elif False:\n",
        ),
    )
)


class Later(Struct, frozen=True):
    """A later packet of the connection that the one before opens."""

    setting: Setting
    sender: Sender
    before: Packet
    packet: Packet


APP, OUTSIDE = FromProcess("app"), FromOutside("eth0")
ANYONE = IdSet.read("any")
SYN, ACK, RST = int(TcpFlag.SYN), int(TcpFlag.ACK), int(TcpFlag.RST)
ALL = MarkMask(7)
HOOKS = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
LOOKED_AT: dict[str, tuple[r.Rule, ...]] = dict.fromkeys(HOOKS, ())
"""Chains without rules, in which the packets are seen."""


def examples() -> Iterator[Later]:
    """On the router of `slips_of_answers`, with an app that listens, Envoy that accepts for a proxy, and a transparent listener."""
    yield from _plain()
    yield from _seen_or_not()
    yield from _marked()
    yield from _to_sockets()
    yield from _elsewhere()
    yield from _without_conntrack()


def _plain() -> Iterator[Later]:
    """Translated or not, to this host, through it, and from it; an answer that is dropped, or does not find back."""
    on = {"mangle": LOOKED_AT}
    dnat = {"PREROUTING": _only(r.Dnat(r.NatRange.of(HERE, None)))}
    snat = {"POSTROUTING": _only(r.Snat(r.NatRange.of(NEAR, None)))}
    no_answers = {
        "OUTPUT": _only(r.Drop(), r.SourcePorts(Span(80, 80))),
        "INPUT": _only(r.Drop(), r.SourcePorts(Span(80, 80))),
    }
    for more in (
        {"nat": dnat},
        {"nat": snat},
        {"nat": dnat, "filter": no_answers},
        {"nat": snat, "filter": no_answers},
    ):
        setting = _setting(rule_set(**on, **more))
        for dst in (FAR, HERE):
            for proto, dport in ((TCP, 80), (TCP, 81), (TCP, 8080), (UDP, 80), (ICMP, 0)):
                yield from _all(setting, OUTSIDE, _frame(dst, proto, dport))
                yield from _all(setting, APP, _sent(dst, proto, dport))
    raw = {"OUTPUT": _only(r.TrackAs("--zone mark"))}
    yield from _all(_setting(rule_set(raw=raw, nat=dnat, **on)), OUTSIDE, _frame(HERE, TCP, 80))


def _seen_or_not() -> Iterator[Later]:
    """Raw keeps conntrack from the answers, from the first packets, or from the later ones, or has them in zones."""
    syn = r.TcpFlags(mask=SYN | ACK | RST, set=SYN)
    nat = {"PREROUTING": _only(r.Redirect(Span(8080, 8080))), "OUTPUT": (), "POSTROUTING": ()}
    for there, back in (
        ((), _only(r.NoTrack())),
        (_only(r.NoTrack()), _only(r.NoTrack())),
        (_only(r.NoTrack()), ()),
        (_only(r.NoTrack(), syn), _only(r.NoTrack())),
        (_only(r.NoTrack(), r.TcpFlags(mask=ACK, set=ACK)), ()),
        (_only(r.TrackAs("--zone 1")), _only(r.TrackAs("--zone 1"))),
        (_only(r.TrackAs("--zone 1"), syn), ()),
        (_only(r.TrackAs("--zone-orig 1")), ()),
    ):
        raw = {"PREROUTING": there, "OUTPUT": back}
        for filters in ({"filter": LOOKED_AT}, {"filter": LOOKED_AT, "nat": nat}):
            on = {"mangle": {**LOOKED_AT, "INPUT": _only(None, r.CtStates(frozenset({CtState.NEW})))}}
            setting = _setting(rule_set(raw=raw, **filters, **on))
            for proto in (TCP, UDP):
                yield from _all(setting, OUTSIDE, _frame(HERE, proto, 80))


def _marked() -> Iterator[Later]:
    """By the first packet, and by its answer on its way out."""
    for chain in ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"):
        setting = _setting(rule_set(mangle={**LOOKED_AT, chain: _only(r.SetConnMark(ALL))}))
        yield from _all(setting, OUTSIDE, _frame(HERE, TCP, 80))
        yield from _all(setting, APP, _sent(FAR, TCP, 80))


def _to_sockets() -> Iterator[Later]:
    """To what a rule finds: also for what TPROXY has given the first packet, and where a later packet goes to another port."""
    sought = r.SocketMatch(transparent=True)
    for match in (sought, r.SocketMatch(), replace(sought, nowildcard=True)):
        divert = _only(r.Accept(), match)
        for target in (r.Tproxy(3128, 0, MarkMask(1)), r.Tproxy(80, 0, MarkMask(1))):
            tproxy = _only(target, r.Destination(Net(FAR)), r.Protocol(TCP))
            for first in (divert + tproxy, tproxy, divert):
                host = replace(_host(), tables={100: TO_LO}, policy=BY_MARK)
                setting = Setting(host, rule_set(mangle={**LOOKED_AT, "PREROUTING": first}), CARRIED)
                for dst, dport in ((FAR, 80), (HERE, 80), (HERE, 3128)):
                    yield from _all(setting, OUTSIDE, _frame(dst, TCP, dport))
    moves = _only(r.Redirect(Span(8080, 8080)), r.TcpFlags(mask=SYN, set=0))
    off = {
        "raw": {
            "PREROUTING": _only(r.NoTrack(), r.TcpFlags(mask=SYN, set=SYN)),
            "OUTPUT": _only(r.NoTrack()),
        }
    }
    yield from _all(_setting(rule_set(nat={"PREROUTING": moves}, **off)), OUTSIDE, _frame(HERE, TCP, 80))


def _elsewhere() -> Iterator[Later]:
    """To other sockets than the first packet came to."""
    behind = r.TcpFlags(mask=SYN, set=0)
    divert = {"PREROUTING": _only(r.SetMark(MarkMask(1)), behind)}
    routed = replace(_host(), tables={100: TO_LO}, policy=BY_MARK)
    yield from _all(Setting(routed, rule_set(mangle=divert), CARRIED), OUTSIDE, _frame(FAR, TCP, 80))
    ports = _only(r.Tproxy(9999, 0, MarkMask(1)), r.Protocol(TCP), behind) + _only(
        r.Tproxy(3128, 0, MarkMask(1)), r.Protocol(TCP)
    )
    yield from _all(
        Setting(routed, rule_set(mangle={"PREROUTING": ports}), CARRIED), OUTSIDE, _frame(FAR, TCP, 80)
    )
    bound = replace(_host(), processes=(h.Process("app", ANYONE, ANYONE, (h.Listener(80, device="eth0"),)),))
    sought = {"PREROUTING": _only(r.SetMark(MarkMask(1)), r.SocketMatch(nowildcard=True))}
    yield from _all(Setting(bound, rule_set(mangle=sought), CARRIED), APP, _sent(HERE, TCP, 80))


CARRIED = frozenset({"connection"})


def _without_conntrack() -> Iterator[Later]:
    """Off, and perhaps on."""
    for match in (None, r.Opaque("-m u32 --u32 0=0")):
        nat = {"PREROUTING": _only(r.Accept()), "OUTPUT": (), "POSTROUTING": ()}
        filters = {**LOOKED_AT, "INPUT": _only(r.Accept(), match) if match else ()}
        setting = _setting(rule_set(filter=filters, nat=nat))
        yield from _all(setting, OUTSIDE, _frame(HERE, TCP, 80))
        yield from _all(setting, APP, _sent(FAR, UDP, 53))


TO_LO = (h.Route(Net.read("0.0.0.0/0"), "lo", kind=h.RouteKind.LOCAL),)
BY_MARK = (h.RoutingRule(100, mark=MarkMask(1, 1)), h.RoutingRule(h.MAIN))


def _host() -> h.Host:
    inbound = h.Proxy("inbound", 8080, (h.ProxyRoute((h.Dial(),), h.KernelChooses()),))
    return router(
        h.Process("app", ANYONE, ANYONE, (h.Listener(80), h.Listener(80, protocol=UDP))),
        h.Process("envoy", ANYONE, ANYONE, (h.Listener(8080),), (inbound,)),
        h.Process("squid", ANYONE, ANYONE, (h.Listener(3128, transparent=True),)),
    )


def _setting(rules: r.RuleSet) -> Setting:
    return Setting(_host(), rules, CARRIED)


def _all(setting: Setting, sender: Sender, before: Packet) -> Iterator[Later]:
    """A later packet of each kind, with what answers it."""
    for flags in (ACK, ACK | TcpFlag.FIN, RST) if before.proto == TCP else (0,):
        yield Later(replace(setting, answers=True), sender, before, replace(before, flags=flags))


def _only(target: r.Target | None, *matches: r.Match) -> tuple[r.Rule, ...]:
    return (r.Rule(tuple(map(r.Literal, matches)), target),)


def _frame(dst: int, proto: int, dport: int) -> Packet:
    return _packet(CLIENT, dst, proto, dport, in_iface="eth0")


def _sent(dst: int, proto: int, dport: int) -> Packet:
    return replace(_packet(HERE, dst, proto, dport, None), uid=0, gid=0)


def _packet(src: int, dst: int, proto: int, dport: int, in_iface: str | None) -> Packet:
    if proto == ICMP:
        return Packet(src, dst, ICMP, icmp_type=8, in_iface=in_iface)
    return Packet(src, dst, proto, 4000, dport, SYN if proto == TCP else 0, in_iface=in_iface)
