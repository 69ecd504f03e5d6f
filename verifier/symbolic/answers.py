"""What comes back: the answers to a hop's packets, from the wire, from sockets and from the kernel, beside the answers in `concrete`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from .. import journeys as j
from .. import rules as r
from ..asked import groups_of
from ..hooks import Hook
from ..hosts import Listener, Process, Setting
from ..packets import CT_FLAGS, LEAST_LENGTH
from ..values import (
    AH,
    DCCP,
    ESP,
    ICMP,
    ICMPV6,
    LINK_LOCAL,
    SCTP,
    TCP,
    UDP,
    CtState,
    Family,
    IdSet,
    Ipv6Extension,
    TcpFlag,
)
from .conntrack import Zones, classified, leaves_untracked, unseen, zones
from .established import LATER, NOT_FOUND, SymOpened
from .headers import DRAWN, NO_NEXT_HEADER
from .journeys import SymAnswer, SymEnd, SymStop
from .keys import WHICH_PORTS, of_sent, untold_here
from .matches import among, has_bit, within
from .packets import NO_MAC, RARE, SymPacket
from .passage import Hop, Inward, Passage, Reply
from .routing import Sent
from .routing_ipv6 import RoadIpv6
from .terms import Bool, Bv, Terms

ANOTHER_PROTOCOL = "an answer of this protocol"
NO_ADDRESS = "an answer to no address"
PAST = "an answer that goes past this host"
THE_KERNELS = "the kernel's own socket"

REQUESTS: Mapping[Family, Mapping[int, int]] = {
    Family.IPV4: {8: 0, 13: 14, 15: 16, 17: 18},
    Family.IPV6: {128: 129, 139: 140},
}
"""ICMP's requests that some machine answers, with the types of the answers."""

OWN_REQUESTS = {Family.IPV4: (8, 13), Family.IPV6: (128,)}
"""Those that this host's kernel does (net/ipv4/icmp.c, net/ipv6/icmp.c: icmpv6_rcv)."""


def drawn_by(sent: SymAnswer) -> dict[str, Bv]:
    """The fields of an answer that `Choices.drawn` tells, those that it has."""
    if not sent.drawn:
        return {}
    names = [*DRAWN, "spi", *(("mac",) if sent.from_wire else ())]
    found = {name: sent.packet.rare[name] for name in names if name in sent.packet.rare}
    if sent.later:
        found["flags"] = sent.packet.flags
    return found if sent.process is None else {**found, "mark": sent.packet.mark}


class Question(Struct, frozen=True):
    """A hop that is answered: its packet as it was sent, by these processes (none: it came from outside)."""

    hop: int
    sent: SymPacket
    senders: Sequence[tuple[Bool, str]]
    opened: SymOpened | None = None
    """What the first packet of its connection has left, where the hop's is a later one."""

    @property
    def first(self) -> Hook:
        return Hook.OUTPUT if self.senders else Hook.PREROUTING


class _Taker(Struct, frozen=True):
    """Who gets packets of the hop here: a process by its socket, or the kernel."""

    cond: Bool
    packet: SymPacket
    process: Process | None = None
    listener: Listener | None = None

    @property
    def name(self) -> str | None:
        return None if self.process is None else self.process.name


def answer(passage: Passage, question: Question, prefix: str) -> list[SymAnswer]:
    """Write what becomes of the answers to a hop that is written; what is drawn for them holds of fresh variables alone."""
    return _Answering(passage, question, prefix).written()


class _Answering:
    """The answers to one hop."""

    def __init__(self, passage: Passage, question: Question, prefix: str) -> None:
        self.passage = passage
        self.question = question
        self.record = passage.record
        self.terms: Terms = passage.terms
        self.family = passage.family
        self.number = -1 - question.hop
        self.name = f"{prefix}%s of answer to hop {question.hop}"
        self.zones = self._zones()
        self.found: list[SymAnswer] = []

    def written(self) -> list[SymAnswer]:
        hop = self.question.hop
        ends = [e for e in self.record.ends if e.hop == hop]
        takers = [_Taker(e.cond, e.packet) for e in ends if isinstance(e.end, j.Kernel)]
        for s in self.record.stops:
            if s.hop == hop and s.act is j.Act.DELIVERED and s.process is not None:
                process = self.passage.host.process(s.process)
                takers.append(_Taker(s.cond, s.packet, process, s.listener))
        for end in ends:
            if isinstance(end.end, j.Left):
                self._from_wire(end, end.end.interface)
        for packet in {id(taker.packet): taker.packet for taker in takers}.values():
            self._from_here(packet, [taker for taker in takers if taker.packet is packet])
        return self.found

    def _zones(self) -> Zones:
        hop, first = self.question.hop, self.question.first
        raw = (s for s in self.record.stops if (s.hop, s.hook, s.table) == (hop, first, "raw"))
        return zones(raw, self.passage.setting, self.terms)

    # -- who answers

    def _from_wire(self, left: SymEnd, interface: str) -> None:
        """The machine that the packets have left for."""
        t, p = self.terms, left.packet
        strange = p.proto.is_(SCTP) | p.proto.is_(DCCP)
        self.record.end(
            left.cond & strange & ~p.src.is_(p.dst), self.number, j.Unmodelled(ANOTHER_PROTOCOL), p
        )
        cond = self._found(left.cond & ~strange & ~p.src.is_(p.dst) & self._is_answered(p), p)
        past = cond & self._goes_past(p, interface)
        self.record.end(past, self.number, j.Unmodelled(PAST), p)
        cond = cond & ~past
        if cond.const is False:
            return
        mac = t.variable(self.name % "mac", RARE["mac"])
        if "mac" in p.rare:
            self.record.facts.append(~has_bit(mac, 48))
        q = self._turned(p).having(mac=mac).without_socket()
        q = q.but(
            in_iface=t.number(self.passage.names.index(interface), 8),
            out_iface=t.number(0, 8),
            mark=t.number(0, 32),
        )
        self._send(cond, q, from_wire=True)
        self._come(self.passage.arrive(cond, q, self._hop(p)))

    def _goes_past(self, p: SymPacket, interface: str) -> Bool:
        """Both ends are in the subnets of this interface, and neither is this host: the answer need not pass it."""
        t = self.terms
        nets = [a.net for i in self.passage.host.interfaces if i.name == interface for a in i.addresses]
        near = [t.any_of(within(address, net) for net in nets) for address in (p.src, p.dst)]
        own = t.any_of(p.src.is_(a.ip) for i in self.passage.host.interfaces for a in i.addresses)
        return near[0] & near[1] & ~own

    def _from_here(self, p: SymPacket, takers: Sequence[_Taker]) -> None:
        """This host's sockets, and its kernel: one packet, which differs by who sends it."""
        takers = self._who_answer(p, takers)
        t = self.terms
        begins = t.any_of(taker.cond for taker in takers)
        if begins.const is False:
            return
        q = self._owned(self._turned(p), takers)
        route, possible = self._way(p, q, takers)
        nowhere, untold = q.dst.is_(0), untold_here(self.passage.host, q)
        q = q.but(out_iface=t.choose(possible & ~nowhere & ~untold, route.out, t.number(0, 8)))
        for name in dict.fromkeys(taker.name for taker in takers):
            self._send(t.any_of(taker.cond for taker in takers if taker.name == name), q, name)
        self.record.end(begins & nowhere, self.number, j.Unmodelled(NO_ADDRESS), q)
        begins = begins & ~nowhere
        self.record.end(begins & untold, self.number, j.Unmodelled(WHICH_PORTS), q)
        begins = begins & ~untold
        self.record.end(begins & ~possible, self.number, j.Lost(j.CANNOT_SEND), q)
        self._come(self.passage.leave(begins & possible, q, route.group, self._hop(p)))

    def _is_answered(self, p: SymPacket) -> Bool:
        """By the machine that it went to."""
        t = self.terms
        tcp, icmp = p.proto.is_(TCP), p.proto.is_(ICMP if self.family is Family.IPV4 else ICMPV6)
        handshake = TcpFlag.SYN | TcpFlag.ACK | TcpFlag.RST | TcpFlag.FIN
        syn = (p.flags & handshake).is_(TcpFlag.SYN)
        if self.question.opened is not None:
            syn = (p.flags & TcpFlag.RST).is_(0)
        request = t.any_of(p.icmp_type.is_(kind) for kind in REQUESTS[self.family])
        return (~tcp | syn) & (~icmp | request)

    def _who_answer(self, p: SymPacket, takers: Sequence[_Taker]) -> list[_Taker]:
        """Every process, and of the kernel, where no rule asks for its sockets, what has an answer."""
        request = self.terms.any_of(p.icmp_type.is_(kind) for kind in OWN_REQUESTS[self.family])
        out = []
        for taker in takers:
            if taker.process is not None:
                out.append(replace(taker, cond=self._found(self._goes_on(taker), taker.packet)))
                continue
            asked = self._found(taker.cond & request, taker.packet)
            if asks_for_sockets(self.passage.setting):
                self.record.end(asked, self.number, j.Unmodelled(THE_KERNELS), p)
            else:
                out.append(replace(taker, cond=asked))
        return [taker for taker in out if taker.cond.const is not False]

    def _goes_on(self, taker: _Taker) -> Bool:
        """Nobody answers a reset."""
        if self.question.opened is None:
            return taker.cond
        p = taker.packet
        return taker.cond & ~(p.proto.is_(TCP) & ~(p.flags & TcpFlag.RST).is_(0))

    def _found(self, answered: Bool, p: SymPacket) -> Bool:
        """Without what is answered, and conntrack has not found in the connection that it knows."""
        its = self.question.opened
        if its is None or its.entry is None:
            return answered
        astray = answered & its.entry.known & ~p.known().known
        self.record.end(astray, self.number, j.Unmodelled(NOT_FOUND), p)
        return answered & ~astray

    # -- what is sent

    def _hop(self, p: SymPacket) -> Hop:
        connection = p.known().but(known=self._had_connection(p))
        later = self.question.opened is not None
        return Hop(
            self.number,
            foreign=True,
            reply=Reply(connection, self.zones),
            shaky=True,
            taken_up=later,
            asked_here=bool(self.question.senders),
        )

    def _had_connection(self, p: SymPacket) -> Bool:
        """What is answered, with whatever header, begins a connection, unless conntrack leaves it alone; a later packet is in one
        or not."""
        if self.question.opened is not None:
            return p.known().known
        known = ~p.proto.is_(ICMPV6)
        if self.family is Family.IPV6:
            known = ~p.proto.is_(NO_NEXT_HEADER) & ~p.proto.is_(ICMP)
        if leaves_untracked(self.passage.setting):
            known = known & ~p.ctstate.is_(CtState.UNTRACKED)
        return known

    def _turned(self, p: SymPacket) -> SymPacket:
        """The way back of the packet, from whomever."""
        t = self.terms
        flags = t.choose(p.proto.is_(TCP), self._flags(), t.number(0, 8))
        kind = t.number(0, 8)
        for request, reply in REQUESTS[self.family].items():
            kind = t.choose(p.icmp_type.is_(request), t.number(reply, 8), kind)
        q = p.but(
            src=p.dst,
            dst=p.src,
            sport=p.dport,
            dport=p.sport,
            flags=flags,
            icmp_type=kind,
            icmp_code=t.number(0, 8),
            in_iface=t.number(0, 8),
        )
        q = unseen(replace(q, rare=self._drawn(p), given=(), accepted=()))
        established = t.number(CtState.ESTABLISHED, 3)
        own = classified(q, self.passage.host).ctstate
        return q.but(ctstate=t.choose(self._had_connection(p), established, own))

    def _flags(self) -> Bv:
        """Those of what TCP sends back: to a later packet any that such packets have."""
        if self.question.opened is None:
            return self.terms.number(TcpFlag.SYN | TcpFlag.ACK, 8)
        flags = self.terms.variable(self.name % "flags", 8)
        self.record.facts.append(self.terms.any_of((flags & CT_FLAGS).is_(int(f)) for f in LATER))
        return flags

    def _drawn(self, p: SymPacket) -> dict[str, Bv]:
        """The rare fields that are carried: each may be whatever such a packet has."""
        return {name: self._field(name, p) for name in sorted(p.rare)}

    def _field(self, name: str, p: SymPacket) -> Bv:
        t = self.terms
        none = t.number(0, RARE[name])

        def drawn() -> Bv:
            return t.variable(self.name % name, RARE[name])

        match name:
            case "ttl":
                self.record.facts.append(drawn().at_least(1))
                return drawn()
            case "tos":
                return drawn()
            case "length":
                self.record.facts += _long_enough(drawn(), self.question.sent)
                return drawn()
            case "tcp_options":
                return t.choose(p.proto.is_(TCP), drawn(), none)
            case "spi":
                has = p.proto.is_(ESP)
                if self.family is Family.IPV4:
                    has = has | p.proto.is_(AH)
                return t.choose(has, drawn(), none)
            case "mac":
                return t.number(NO_MAC, RARE[name])
            case "extensions":
                return none if self.family is Family.IPV4 else _last_header(p, t)
            case _:
                return none

    def _owned(self, q: SymPacket, takers: Sequence[_Taker]) -> SymPacket:
        """The packet as its sockets, or the kernel, send it."""
        t = self.terms
        uid = gid = mark = t.number(0, 32)
        device = groups = t.number(0, 8)
        begins = t.false
        for taker in takers:
            theirs = self._ids(taker.process)
            here = t.true if begins.const is False else taker.cond
            uid, gid = t.choose(here, theirs[0], uid), t.choose(here, theirs[1], gid)
            mark = t.choose(here, t.number(taker.process.mark if taker.process else 0, 32), mark)
            index = self.passage.names.index(taker.listener.device if taker.listener else None)
            device = t.choose(here, t.number(index, 8), device)
            theirs_too = groups_of(self.passage.host).index(
                taker.process.supplementary if taker.process else ()
            )
            groups = t.choose(here, t.number(theirs_too, RARE["groups"]), groups)
            begins = begins | taker.cond
        q = q.having(groups=groups)
        marks = t.unknown(self.name % "mark")
        owned = t.any_of(taker.cond for taker in takers if taker.process is not None)
        if all(taker.process is not None for taker in takers):
            owned = t.true
        return q.but(
            uid=uid, gid=gid, mark=t.choose(marks, mark, t.number(0, 32)), device=device, socket=owned
        )

    def _ids(self, process: Process | None) -> tuple[Bv, Bv]:
        if process is None:
            return self.terms.number(0, 32), self.terms.number(0, 32)

        def drawn(ids: IdSet, what: str) -> Bv:
            if ids.only is not None:
                return self.terms.number(ids.only, 32)
            number = self.terms.variable(f"{self.name % what} by {process.name}", 32)
            self.record.facts.append(self.terms.any_of(among(number, i) for i in ids.ranges))
            return number

        return drawn(process.uid, "uid"), drawn(process.gid, "gid")

    def _way(self, p: SymPacket, q: SymPacket, takers: Sequence[_Taker]) -> tuple[Sent, Bool]:
        """The first route of what is sent back for `p`, and whether it may be sent: from an address of another by a
        transparent socket alone (net/ipv4/inet_connection_sock.c: inet_csk_route_req; net/ipv4/icmp.c: icmp_reply).
        """
        t, road = self.terms, self.passage.road
        if isinstance(road, RoadIpv6):
            near = q.device.is_(0) & within(q.dst, LINK_LOCAL)
            by = t.choose(near, self.passage.came_by(p), q.device)
            asked = t.choose(q.proto.is_(ICMPV6), self.passage.came_by(p), by)
            route = road.output_back(q.src, q.dst, q.proto, by, of_sent(q), asked)
        else:
            route = road.output(q.src, q.dst, q.proto, q.device, of_sent(q))
        possible = route.possible
        if self.passage.host.policy or p.given:
            free = t.any_of(x.cond for x in takers if x.listener is not None and x.listener.transparent)
            own = road.is_local(q.src)
            if isinstance(road, RoadIpv6):
                # TCP and the kernel answer from wherever they were reached, and only who asks for an address has to own it.
                own = own | road.is_anycast(q.src) | ~q.proto.is_(UDP)
            possible = possible & (free | own)
        return route, possible

    def _send(self, cond: Bool, q: SymPacket, process: str | None = None, from_wire: bool = False) -> None:
        self.record.stop(SymStop(cond, self.number, j.Act.SENT, q, process=process))
        later = self.question.opened is not None
        self.found.append(SymAnswer(cond, self.number, q, process, from_wire, later))

    # -- where it ends

    def _come(self, inward: Sequence[Inward]) -> None:
        """To the socket that has sent what is answered, or to whomever any packet comes to."""
        for came in inward:
            back = came.cond & ~came.shared & self._fits(came)
            rest = came.cond
            for cond, name in self.question.senders:
                self.record.end(back & cond, self.number, j.Returned(name), came.packet)
                rest = rest & ~(back & cond)
            for got in self.passage.deliver(replace(came, cond=rest), self.number):
                self.record.end(got.cond, self.number, j.Socket(got.process.name, got.listener), got.packet)

    def _fits(self, came: Inward) -> Bool:
        """It comes from where the hop's packet was sent to, to where it was sent from, by the device of its socket."""
        t, p, sent = self.terms, came.packet, self.question.sent
        ends = p.src.is_(sent.dst) & p.dst.is_(sent.src) & p.sport.is_(sent.dport) & p.dport.is_(sent.sport)
        by = sent.device.is_(p.in_iface)
        if came.over_lo:
            indices = range(1, len(self.passage.names.interfaces))
            road = self.passage.road
            by = t.any_of(sent.device.is_(index) & road.came_for(p.dst, index) for index in indices)
        return ends & (sent.device.is_(0) | by)


def asks_for_sockets(setting: Setting) -> bool:
    """Some rule, called or not, asks whether a socket sent a packet, whosever it is: all with --suppl-groups do."""
    rules = (x for table in setting.rules.tables.values() for c in table.chains.values() for x in c.rules)
    return any(
        isinstance(x.match, r.OwnerIds) and (x.match.socket_exists or x.match.supplementary)
        for rule in rules
        for x in rule.literals
    )


def _long_enough(length: Bv, sent: SymPacket) -> list[Bool]:
    """The answer is at least as long as its headers."""
    header = 20 if sent.family is Family.IPV4 else 40
    least = ((proto, header - 20 + size) for proto, size in LEAST_LENGTH.items())
    return [
        length.at_least(header),
        *(~sent.proto.is_(proto) | length.at_least(size) for proto, size in least),
    ]


def _last_header(p: SymPacket, t: Terms) -> Bv:
    """The extension headers of an answer: none before its protocol's."""
    last = t.choose(
        p.proto.is_(NO_NEXT_HEADER), t.number(Ipv6Extension.NONE, 8), t.number(Ipv6Extension.PROTO, 8)
    )
    return t.choose(p.proto.is_(ESP), t.number(Ipv6Extension.ESP, 8), last)
