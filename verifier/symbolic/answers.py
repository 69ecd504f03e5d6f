"""What comes back: the answers to all packets of a hop, written beside `concrete.answers` from the same text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from .. import journeys as j
from .. import rules as r
from ..hooks import Hook
from ..hosts import Listener, Process
from ..packets import DST_NAT, SEEN_REPLY, SRC_NAT
from ..values import ICMP, ICMPV6, LINK_LOCAL, TCP, UDP, CtState, Family, Ipv6Extension, TcpFlag
from .headers import NO_NEXT_HEADER, sendable
from .journeys import SymStop
from .matches import DCCP, ESP, SCTP, has_bit, has_ports, within
from .packets import NO_MAC, RARE, SymConnection, SymEnds, SymPacket
from .routing_ipv6 import RoadIpv6
from .terms import Bool, Bv

if TYPE_CHECKING:
    from .travel import Journeys

OF_THIS_PROTOCOL = "an answer of this protocol"
TO_NOBODY = "an answer to no address"
A_MARKS_ZONE = "a zone that the mark names"
ITS_OWN_QUESTION = "an answer that is its own question"
THE_KERNELS_SOCKET = "the kernel's own socket"

AH = 51
UDPLITE = 136

ANSWERS: Mapping[Family, Mapping[int, int]] = {
    Family.IPV4: {8: 0, 13: 14, 15: 16, 17: 18},
    Family.IPV6: {128: 129, 139: 140},
}
"""ICMP's requests and what answers them."""

BY_KERNEL: Mapping[Family, tuple[int, ...]] = {Family.IPV4: (8, 13), Family.IPV6: (128,)}
"""Those that Linux answers itself."""

DRAWN = ("ttl", "tos", "length", "tcp_options", "spi")


class _Came(Struct, frozen=True):
    """Packets of a hop that have come to somebody: to the wire, to a socket, or to the kernel (`listener` None)."""

    cond: Bool
    packet: SymPacket
    wire: int | None = None
    process: Process | None = None
    listener: Listener | None = None
    over_lo: bool = False


class Sent(Struct, frozen=True):
    """An answer as it is sent, for the packets in `cond`; `mark` and the owner are choices iff a process sends it."""

    cond: Bool
    packet: SymPacket
    process: Process | None
    outside: bool


class _Zone(Struct, frozen=True):
    """The zone in which conntrack looks for packets, in either direction; where their mark names it, `by_mark`."""

    original: Bv
    reply: Bv
    by_mark: Bool


class Answers:
    """The answers on the journeys of one sender; where nobody asks for them, nothing is written."""

    def __init__(self, journeys: Journeys) -> None:
        self.js = journeys
        self.wanted = journeys.setting.answers
        self.sent: dict[int, list[Sent]] = {}
        """By the hop numbers of answers."""
        self._came: list[_Came] = []
        self._now: _Came | None = None

    # -- what comes to somebody

    def left(self, cond: Bool, p: SymPacket, interface: int, hop: int) -> None:
        if self.wanted and hop >= 0 and cond.const is not False:
            self._came.append(_Came(cond, p, wire=interface))

    def taken(
        self,
        cond: Bool,
        p: SymPacket,
        process: Process | None,
        listener: Listener | None,
        hop: int,
        over_lo: bool,
    ) -> None:
        if self.wanted and hop >= 0 and cond.const is not False:
            self._came.append(_Came(cond, p, None, process, listener, over_lo))

    # -- the answers of a hop

    def write(self, hop: int) -> None:
        came, self._came = self._came, []
        number = j.answer_to(hop)
        for one in came:
            self._now = one
            if one.wire is not None:
                self._from_the_wire(one, one.wire, number)
            else:
                self._from_here(one, number)
        self._now = None

    def _from_the_wire(self, one: _Came, interface: int, number: int) -> None:
        js, t, p = self.js, self.js.terms, one.packet
        vague = p.proto.is_(SCTP) | p.proto.is_(DCCP)
        js.record.end(one.cond & vague, number, j.Unmodelled(OF_THIS_PROTOCOL), p)
        cond = one.cond & self._is_answered(p, here=False) & ~vague
        back = self._back(p, number, outside=True).but(in_iface=t.number(interface, 8))
        js.record.stop(SymStop(cond, number, j.Act.SENT, back))
        self.sent.setdefault(number, []).append(Sent(cond, back, None, outside=True))
        js.arrive(cond, back, number)

    def _from_here(self, one: _Came, number: int) -> None:
        js, t, p = self.js, self.js.terms, one.packet
        name = None if one.process is None else one.process.name
        cond = one.cond & self._is_answered(p, here=True)
        if one.process is None and self._asks_for_sockets():
            js.record.end(cond, number, j.Unmodelled(THE_KERNELS_SOCKET), p)
            return
        back = self._back(p, number, outside=False).but(device=self._device(one))
        if one.process is not None:
            who = f"{js.prefix}%s of hop {number} by {name}"
            mark = t.choose(t.unknown(who % "mark"), t.number(one.process.mark, 32), t.number(0, 32))
            back = back.but(
                uid=js.any_id(one.process.uid, who % "uid"),
                gid=js.any_id(one.process.gid, who % "gid"),
                mark=mark,
                socket=t.true,
            )
        nobody = back.dst.is_(0)
        route = js.road.output(back.src, back.dst, back.proto, back.device, back.mark)
        own = js.road.is_own(back.src) | js.road.is_local(back.src)
        if isinstance(js.road, RoadIpv6):
            own = own | js.road.is_anycast(back.src)
        goes = route.possible & (own | t.truth(one.listener is not None and one.listener.transparent))
        back = back.but(out_iface=t.choose(goes & ~nobody, route.out, js.none))
        if one.process is None:
            back = back.but(device=js.none)
        js.record.stop(SymStop(cond, number, j.Act.SENT, back, process=name))
        self.sent.setdefault(number, []).append(Sent(cond, back, one.process, outside=False))
        js.record.end(cond & nobody, number, j.Unmodelled(TO_NOBODY), back)
        js.record.end(cond & ~nobody & ~goes, number, j.Lost(j.CANNOT_SEND), back)
        js.leave(cond & ~nobody & goes, back, route.group, number)

    def _is_answered(self, p: SymPacket, *, here: bool) -> Bool:
        """Packets of a kind that whoever gets them answers."""
        t = p.terms
        handshake = TcpFlag.SYN | TcpFlag.ACK | TcpFlag.RST | TcpFlag.FIN
        tcp, icmp = p.proto.is_(TCP), p.proto.is_(ICMP if p.family is Family.IPV4 else ICMPV6)
        asks = BY_KERNEL[p.family] if here else tuple(ANSWERS[p.family])
        parts = [
            tcp & (p.flags & handshake).is_(TcpFlag.SYN),
            icmp & t.any_of(p.icmp_type.is_(kind) for kind in asks),
            p.proto.is_(UDP) if here else ~tcp & ~icmp,
        ]
        return t.any_of(parts)

    def _back(self, p: SymPacket, number: int, *, outside: bool) -> SymPacket:
        """The header that answers this one, with the state that it has as it is sent."""
        js, t = self.js, p.terms
        zero8, zero32 = t.number(0, 8), t.number(0, 32)
        kind = zero8
        for asks, answers in ANSWERS[p.family].items():
            kind = t.choose(p.icmp_type.is_(asks), t.number(answers, 8), kind)
        is_icmp = p.proto.is_(ICMP if p.family is Family.IPV4 else ICMPV6)
        back = p.but(
            src=p.dst,
            dst=p.src,
            sport=p.dport,
            dport=p.sport,
            flags=t.choose(p.proto.is_(TCP), t.number(int(TcpFlag.SYN | TcpFlag.ACK), 8), zero8),
            icmp_type=t.choose(is_icmp, kind, zero8),
            icmp_code=zero8,
            in_iface=js.none,
            out_iface=js.none,
            uid=zero32,
            gid=zero32,
            mark=zero32,
            device=js.none,
            socket=t.false,
        )
        known = p.known().known
        back = replace(js.classified(back), rare={})
        back = back.but(ctstate=t.choose(known, t.number(CtState.ESTABLISHED, 3), back.ctstate))
        back = replace(back, rare=self._rare(back, number, outside=outside))
        js.facts += sendable(back)
        return js.unseen(back)

    def _rare(self, back: SymPacket, number: int, *, outside: bool) -> dict[str, Bv]:
        """The fields that are carried: drawn, where the protocol has them."""
        js, t = self.js, self.js.terms
        rare: dict[str, Bv] = {}
        for name in js.fields - {"connection"}:
            none = t.number(0, RARE[name])
            drawn = t.variable(f"{js.prefix}{name} of hop {number}", RARE[name])
            match name:
                case "ttl" | "tos" | "length":
                    rare[name] = drawn
                case "tcp_options":
                    rare[name] = t.choose(back.proto.is_(TCP), drawn, none)
                case "spi":
                    rare[name] = t.choose(back.proto.is_(ESP) | back.proto.is_(AH), drawn, none)
                case "mac":
                    if outside:
                        js.facts.append(~has_bit(drawn, 48))
                    rare[name] = drawn if outside else t.number(NO_MAC, RARE[name])
                case "extensions" if js.family is Family.IPV6:
                    last = t.number(Ipv6Extension.PROTO, 8)
                    nothing = back.proto.is_(NO_NEXT_HEADER)
                    last = t.choose(nothing, t.number(Ipv6Extension.NONE, 8), last)
                    rare[name] = t.choose(back.proto.is_(ESP), t.number(Ipv6Extension.ESP, 8), last)
                case _:
                    rare[name] = none
        return rare

    def _device(self, one: _Came) -> Bv:
        """The interface by which the answer of a socket, or of the kernel, has to go."""
        js, t, p = self.js, self.js.terms, one.packet
        if one.listener is not None and one.listener.device is not None:
            return t.number(js.names.index(one.listener.device), 8)
        if js.family is Family.IPV4:
            return js.none
        if one.listener is None:
            return js.none if one.over_lo else p.in_iface
        came_by = p.in_iface
        if one.over_lo:
            for index in range(1, len(js.names.interfaces)):
                came_by = t.choose(js.road.came_for(p.dst, index), t.number(index, 8), came_by)
        return t.choose(within(p.src, LINK_LOCAL), came_by, js.none)

    def _asks_for_sockets(self) -> bool:
        tables = self.js.setting.rules.tables.values()
        return any(
            isinstance(literal.match, r.OwnerIds) and literal.match.socket_exists is not None
            for table in tables
            for chain in table.chains.values()
            for rule in chain.rules
            for literal in rule.literals
        )

    # -- conntrack and NAT

    def found(self, reach: Bool, p: SymPacket, number: int) -> tuple[Bool, SymPacket]:
        """The answers behind the first raw table, with what conntrack finds of their connection."""
        js, t = self.js, self.js.terms
        if self._now is None:
            raise AssertionError("an answer is written when its hop is")
        known = self._now.packet.known()
        untracked = p.ctstate.is_(CtState.UNTRACKED)
        tracked = reach & ~untracked & known.known
        # ICMP's type tells a question from its answer.
        icmp = p.proto.is_(ICMP) | p.proto.is_(ICMPV6)
        itself = tracked & ~icmp & _same_ends(known.original, known.reply)
        js.record.end(itself, number, j.Unmodelled(ITS_OWN_QUESTION), p)
        theirs, ours = self._zone(j.answer_to(number)), self._zone(number)
        marked = tracked & ~itself & (theirs.by_mark | ours.by_mark)
        js.record.end(marked, number, j.Unmodelled(A_MARKS_ZONE), p)
        reach = reach & ~itself & ~marked
        finds = known.known & theirs.reply.is_(ours.reply)
        stray = js.classified(p).ctstate
        state = t.choose(finds | ~known.known, p.ctstate, stray)
        p = p.but(ctstate=t.choose(untracked, p.ctstate, state))
        begins = js.seen(p).known()
        finds = finds & ~untracked
        return reach, p.tracked(_either(finds, _replying(known), begins))

    def _zone(self, number: int) -> _Zone:
        """By the first template that the packets of a hop match in its first raw hook."""
        t = self.js.terms
        zone = _Zone(t.number(0, 16), t.number(0, 16), t.false)
        for s, words in reversed(list(self._templates(number))):
            original, reply = t.number(0, 16), t.number(0, 16)
            by_mark = t.false
            for option, (counts, counts_back) in ZONES.items():
                if option in words:
                    said = words[words.index(option) + 1]
                    by_mark = t.truth(said == "mark")
                    value = 0 if said == "mark" else int(said, 0)
                    original, reply = t.number(value * counts, 16), t.number(value * counts_back, 16)
                    break
            zone = _Zone(
                t.choose(s.cond, original, zone.original),
                t.choose(s.cond, reply, zone.reply),
                (s.cond & by_mark) | (~s.cond & zone.by_mark),
            )
        return zone

    def _templates(self, number: int) -> Iterator[tuple[SymStop, list[str]]]:
        raw = self.js.setting.rules.tables.get("raw")
        stops = [s for s in self.js.record.stops if s.hop == number]
        if raw is None or not stops:
            return
        for s in stops:
            if s.act is not j.Act.MATCHED or s.table != "raw" or s.chain is None or s.rule is None:
                continue
            target = raw.chains[s.chain].rules[s.rule - 1].target
            if s.hook is Hook.PREROUTING and not self._arrived(s):
                continue
            if isinstance(target, r.NoTrack):
                yield s, []
            if isinstance(target, r.TrackAs):
                yield s, target.options.split()

    def _arrived(self, s: SymStop) -> bool:
        """PREROUTING is the first raw hook of what comes by the wire; over lo it is the second."""
        lo = self.js.road.lo
        return lo is None or s.packet.in_iface.const != lo

    def translated(self, reach: Bool, p: SymPacket, hook: Hook, number: int) -> SymPacket:
        """The answers as the stored translation leaves them at a hook of nat."""
        if number >= 0:
            return p
        t = p.terms
        known, ports = p.known(), has_ports(p)
        back = known.known & known.is_reply
        if hook in (Hook.PREROUTING, Hook.OUTPUT):
            done = back & ~(known.status & SRC_NAT).is_(0)
            after = p.but(
                dst=t.choose(done, known.original.src, p.dst),
                dport=t.choose(done & ports, known.original.sport, p.dport),
            )
            same = after.dst.is_(p.dst) & after.dport.is_(p.dport)
        else:
            done = back & ~(known.status & DST_NAT).is_(0)
            after = p.but(
                src=t.choose(done, known.original.dst, p.src),
                sport=t.choose(done & ports, known.original.dport, p.sport),
            )
            same = after.src.is_(p.src) & after.sport.is_(p.sport)
        self.js.record.stop(SymStop(reach & ~same, number, j.Act.TRANSLATED, after, hook))
        return after

    def is_translated(self, p: SymPacket, number: int) -> Bool:
        """Answers whose source NAT changes at INPUT, so that security sees one or the other."""
        if number >= 0:
            return p.terms.false
        known = p.known()
        return known.known & known.is_reply & ~(known.status & DST_NAT).is_(0)

    # -- whose it is

    def returned(self, reach: Bool, p: SymPacket, number: int, over_lo: bool) -> Bool:
        """Note the answers that come back to the socket that sent what they answer; the others of `reach`."""
        if number >= 0:
            return reach
        js, t = self.js, self.js.terms
        hop = j.answer_to(number)
        sent = js.sent[hop]
        by = [
            sent.device.is_(index) & (js.road.came_for(p.dst, index) if over_lo else p.in_iface.is_(index))
            for index in range(1, len(js.names.interfaces))
        ]
        its = reach & answers(p, sent) & (sent.device.is_(0) | t.any_of(by))
        for cond, name in js.senders[hop]:
            if name is not None:
                js.record.end(its & cond, number, j.Returned(name), p)
                reach = reach & ~(its & cond)
        return reach


ZONES: Mapping[str, tuple[int, int]] = {"--zone": (1, 1), "--zone-orig": (1, 0), "--zone-reply": (0, 1)}
"""In which directions a zone's number counts."""


def answers(p: SymPacket, sent: SymPacket) -> Bool:
    """The packet has the addresses and ports of what was sent, the other way round."""
    there = p.dst.is_(sent.src) & p.src.is_(sent.dst) & p.proto.is_(sent.proto)
    return there & p.dport.is_(sent.sport) & p.sport.is_(sent.dport)


def _same_ends(a: SymEnds, b: SymEnds) -> Bool:
    return a.src.is_(b.src) & a.dst.is_(b.dst) & a.sport.is_(b.sport) & a.dport.is_(b.dport)


def _replying(known: SymConnection) -> SymConnection:
    return known.but(status=known.status | SEEN_REPLY, is_reply=known.is_reply.terms.true)


def _either(cond: Bool, yes: SymConnection, no: SymConnection) -> SymConnection:
    choose = cond.terms.choose

    def truth(a: Bool, b: Bool) -> Bool:
        return (cond & a) | (~cond & b)

    def ends(a: SymEnds, b: SymEnds) -> SymEnds:
        return SymEnds(
            choose(cond, a.src, b.src),
            choose(cond, a.dst, b.dst),
            choose(cond, a.sport, b.sport),
            choose(cond, a.dport, b.dport),
        )

    return SymConnection(
        truth(yes.known, no.known),
        choose(cond, yes.protocol, no.protocol),
        ends(yes.original, no.original),
        ends(yes.reply, no.reply),
        choose(cond, yes.status, no.status),
        choose(cond, yes.mark, no.mark),
        truth(yes.is_reply, no.is_reply),
    )
