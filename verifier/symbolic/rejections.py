"""What REJECT rules send back for a hop's packets, to whoever sent them: beside the rejections in `concrete`."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from .. import journeys as j
from ..hooks import Hook
from ..values import ICMP, TCP, UDP, CtState, Family, TcpFlag
from .answers import THE_KERNELS, Question, asks_for_sockets
from .conntrack import leaves_untracked
from .journeys import SymAnswer, SymEnd, SymStop
from .matches import AH, ESP, SCTP
from .packets import NO_MAC, RARE, SymPacket
from .passage import Hop, Inward, Passage
from .rejecting import Rejection
from .routing import Sent
from .terms import Bool, Bv, Terms

MISPLACED = "a REJECT where the kernel loads none"
IPV6 = "a rejection in IPv6"
NO_ADDRESS = "a rejection to no address"
GROUP = "a rejection to a group"
NO_SOURCE = "a rejection from no address"
PROTOCOL = "whether REJECT answers this protocol"

CODES = {
    "net-unreachable": 0,
    "host-unreachable": 1,
    "proto-unreachable": 2,
    "port-unreachable": 3,
    "net-prohibited": 9,
    "host-prohibited": 10,
    "admin-prohibited": 13,
}
"""Of ICMP's destination unreachable (include/uapi/linux/icmp.h)."""

ERRORS = (1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12)
"""ICMP's types that are errors, below NR_ICMP_TYPES (net/ipv4/icmp.c: icmp_pointers)."""
LAST_TYPE = 18

GRE, UDPLITE = 47, 136
SURE = (TCP, UDP, ICMP, UDPLITE, SCTP, GRE, ESP, AH)
"""Protocols of which what has a right checksum is answered (include/net/netfilter/nf_reject.h: nf_reject_verify_csum)."""


class _Rejected(Struct, frozen=True):
    """The packets that rules have rejected at one hook, as one packet: those that get a reset, and those that get an
    error, by its code."""

    hook: Hook
    packet: SymPacket
    reset: Bool
    errors: Sequence[tuple[Bool, int]]


def reject(passage: Passage, question: Question) -> list[SymAnswer]:
    """Write what becomes of what is sent back for a hop that is written; nothing is drawn for it."""
    return _Rejecting(passage, question).written()


class _Rejecting:
    """What is sent back for one hop."""

    def __init__(self, passage: Passage, question: Question) -> None:
        self.passage = passage
        self.question = question
        self.record = passage.record
        self.terms: Terms = passage.terms
        self.road = passage.road
        self.number = j.answer_to(question.hop)
        self.found: list[SymAnswer] = []

    def written(self) -> list[SymAnswer]:
        for rejected in self._rejected():
            self._send_back(rejected)
        return self.found

    def _rejected(self) -> list[_Rejected]:
        t = self.terms
        groups: dict[tuple[int, Hook], list[tuple[SymEnd, j.Rejected]]] = {}
        for e in [e for e in self.record.ends if e.hop == self.question.hop]:
            end = e.end
            if not isinstance(end, j.Rejected):
                continue
            if end.table != "filter":
                self.record.end(e.cond, self.number, j.Unmodelled(MISPLACED), e.packet)
            elif self.passage.family is Family.IPV6:
                self.record.end(e.cond, self.number, j.Unmodelled(IPV6), e.packet)
            else:
                groups.setdefault((id(e.packet), end.hook), []).append((e, end))
        out = []
        for (_, hook), group in groups.items():
            reset = t.any_of(e.cond for e, end in group if end.how == "tcp-reset")
            errors = [
                (e.cond, CODES[end.how.removeprefix("icmp-")]) for e, end in group if end.how != "tcp-reset"
            ]
            out.append(_Rejected(hook, group[0][0].packet, reset, errors))
        return out

    def _send_back(self, rejected: _Rejected) -> None:
        t, p = self.terms, rejected.packet
        tcp, icmp = p.proto.is_(TCP), p.proto.is_(ICMP)
        heard = ~self._is_to_group(rejected)
        reset = rejected.reset & heard & tcp & (p.flags & TcpFlag.RST).is_(0)
        errors = ~icmp | (
            p.icmp_type.at_most(LAST_TYPE) & ~t.any_of(p.icmp_type.is_(kind) for kind in ERRORS)
        )
        error = t.any_of(cond for cond, _ in rejected.errors) & heard & errors
        strange = error & ~t.any_of(p.proto.is_(n) for n in SURE)
        self.record.end(strange, self.number, j.Unmodelled(PROTOCOL), p)
        error = error & ~strange
        nowhere = (reset | error) & p.src.is_(0)
        self.record.end(nowhere, self.number, j.Unmodelled(NO_ADDRESS), p)
        many = self.road.is_multicast(p.src) | (self.road.is_broadcast(p.src) & ~self.road.is_local(p.src))
        many = (reset | error) & ~nowhere & many
        self.record.end(many, self.number, j.Unmodelled(GROUP), p)
        reset, error = reset & ~nowhere & ~many, error & ~nowhere & ~many
        if asks_for_sockets(self.passage.setting):
            self.record.end(error, self.number, j.Unmodelled(THE_KERNELS), p)
            error = t.false
        if (reset | error).const is False:
            return
        source, theirs = self._error_way(rejected)
        unnamed = error & theirs.possible & source.is_(0)
        self.record.end(unnamed, self.number, j.Unmodelled(NO_SOURCE), p)
        error = error & ~unnamed
        mine = self._reset_way(rejected)
        route = Sent(
            t.choose(reset, mine.out, theirs.out),
            (reset & mine.possible) | (~reset & theirs.possible),
            (reset & mine.group) | (~reset & theirs.group),
        )
        q = self._made(rejected, reset, source).but(
            out_iface=t.choose(route.possible, route.out, t.number(0, 8))
        )
        self._go(reset | error, p, q, route)

    def _go(self, begins: Bool, p: SymPacket, q: SymPacket, route: Sent) -> None:
        """Of what conntrack had left alone apart from the rest."""
        untracked = p.ctstate.is_(CtState.UNTRACKED)
        parts = [(begins, False)]
        if leaves_untracked(self.passage.setting):
            parts = [(begins & ~untracked, False), (begins & untracked, True)]
        over_lo = self.road.lo is not None and p.in_iface.const == self.road.lo
        for cond, stuck in parts:
            if cond.const is False:
                continue
            self.record.stop(SymStop(cond, self.number, j.Act.SENT, q))
            self.found.append(SymAnswer(cond, self.number, q, drawn=False))
            self.record.end(cond & ~route.possible, self.number, j.Lost(j.CANNOT_SEND), q)
            hop = Hop(self.number, foreign=True, shaky=True, rejection=Rejection(over_lo, stuck))
            self._come(self.passage.leave(cond & route.possible, q, route.group, hop))

    # -- what is sent

    def _is_to_group(self, rejected: _Rejected) -> Bool:
        """Nobody is told of what went to many (net/ipv4/netfilter/nf_reject_ipv4.c: nf_send_reset; net/ipv4/icmp.c: __icmp_send)."""
        p, road = rejected.packet, self.road
        match rejected.hook:
            case Hook.OUTPUT:
                return road.output(p.src, p.dst, self.terms.number(0, 8), p.device, p.mark).group
            case _:
                return p.dst.is_(0) | (road.is_broadcast(p.dst) & ~road.is_local(p.dst))

    def _made(self, rejected: _Rejected, reset: Bool, source: Bv) -> SymPacket:
        """The header of a reset, or of an error from this source."""
        t, p = self.terms, rejected.packet
        zero = t.number(0, 16)
        acks = ~(p.flags & TcpFlag.ACK).is_(0)
        flags = t.choose(acks, t.number(TcpFlag.RST, 8), t.number(TcpFlag.RST | TcpFlag.ACK, 8))
        code = t.number(0, 8)
        for cond, number in rejected.errors:
            code = t.choose(cond, t.number(number, 8), code)
        q = p.without_socket().but(
            src=t.choose(reset, p.dst, source),
            dst=p.src,
            proto=t.choose(reset, t.number(TCP, 8), t.number(ICMP, 8)),
            sport=t.choose(reset, p.dport, zero),
            dport=t.choose(reset, p.sport, zero),
            flags=t.choose(reset, flags, t.number(0, 8)),
            icmp_type=t.choose(reset, t.number(0, 8), t.number(3, 8)),
            icmp_code=t.choose(reset, t.number(0, 8), code),
            in_iface=t.number(0, 8),
            mark=t.number(0, 32),
        )
        known = p.known()
        state = t.choose(known.known, t.number(CtState.RELATED, 3), t.number(CtState.INVALID, 3))
        rare = {name: self._field(name, p, reset) for name in sorted(p.rare)}
        q = replace(q, rare=rare, given=()).but(ctstate=state)
        return q.tracked(known.but(is_reply=known.known))

    def _field(self, name: str, p: SymPacket, reset: Bool) -> Bv:
        t = self.terms

        def number(value: int) -> Bv:
            return t.number(value, RARE[name])

        match name:
            case "ttl":
                return number(64)
            case "tos":
                return t.choose(reset, number(0), (p.field("tos") & 0x1E) | 0xC0)
            case "length":
                whole = p.field("length")
                quoted = t.choose(whole.at_most(576 - 28), whole + 28, number(576))
                return t.choose(reset, number(40), quoted)
            case "mac":
                return number(NO_MAC)
            case _:
                return number(0)

    # -- by which way

    def _reset_way(self, rejected: _Rejected) -> Sent:
        """(net/ipv4/netfilter.c: ip_route_me_harder)"""
        t, p, road = self.terms, rejected.packet, self.road
        strange = road.is_multicast(p.dst) | (road.is_broadcast(p.dst) & ~road.is_local(p.dst))
        device = p.device if rejected.hook is Hook.OUTPUT else t.number(0, 8)
        src = t.choose(strange, t.number(0, 32), p.dst)
        return road.output_again(src, p.src, device, t.number(0, 32))

    def _error_way(self, rejected: _Rejected) -> tuple[Bv, Sent]:
        """The source of an error, and its way: that of what was to be delivered here is where it was to go, of all else one that is
        selected (net/ipv4/icmp.c: __icmp_send, RTCF_LOCAL)."""
        t, p, road = self.terms, rejected.packet, self.road
        none, zero = t.number(0, 8), t.number(0, 32)
        here = self._is_for_here(rejected)
        own = road.output(p.dst, p.src, t.number(ICMP, 8), none, zero)
        chosen = road.select_source(p.src, zero)
        asked = p.but(src=chosen, dst=p.src, proto=t.number(ICMP, 8), device=none, mark=zero)
        selects, free = road.unbound(asked)
        own_possible = own.possible & road.is_local(p.dst)
        return t.choose(here, p.dst, chosen), Sent(
            t.choose(here, own.out, free.out),
            (here & own_possible) | (~here & selects),
            (here & own.group) | (~here & free.group),
        )

    def _is_for_here(self, rejected: _Rejected) -> Bool:
        """By its route it is for this host."""
        t, p = self.terms, rejected.packet
        match rejected.hook:
            case Hook.INPUT:
                return t.true
            case Hook.FORWARD:
                return t.false
            case _:
                if self.road.lo is None:
                    return t.false
                here = p.out_iface.is_(self.road.lo)
                names = self.passage.names.interfaces
                for s in self.record.stops:
                    if s.hop == self.question.hop and s.act is j.Act.ROUTED and s.where in names:
                        here = (s.cond & t.truth(s.where == "lo")) | (~s.cond & here)
                return here

    # -- where it ends

    def _come(self, inward: Sequence[Inward]) -> None:
        """To the socket that sent what was rejected, if it knows it, or to whomever any packet comes to."""
        for came in inward:
            back = came.cond & ~came.shared & self._is_known(came)
            rest = came.cond
            for cond, name in self.question.senders:
                self.record.end(back & cond, self.number, j.Returned(name), came.packet)
                rest = rest & ~(back & cond)
            for got in self.passage.deliver(replace(came, cond=rest), self.number):
                self.record.end(got.cond, self.number, j.Socket(got.process.name, got.listener), got.packet)

    def _is_known(self, came: Inward) -> Bool:
        """A reset by its ends; an error, whose quotation NAT has taken back, is known if the socket is asked: one with a device
        is by that of the address for TCP, and else by lo itself (net/ipv4/tcp_ipv4.c: tcp_v4_err; net/ipv4/udp.c: __udp4_lib_err).
        """
        t, p, sent = self.terms, came.packet, self.question.sent
        ends = p.src.is_(sent.dst) & p.dst.is_(sent.src) & p.sport.is_(sent.dport) & p.dport.is_(sent.sport)
        indices = range(1, len(self.passage.names.interfaces))
        there = t.any_of(sent.device.is_(i) & self.road.came_for(p.dst, i) for i in indices)
        by = (sent.proto.is_(TCP) & there) | (~sent.proto.is_(TCP) & sent.device.is_(p.in_iface))
        reset = p.proto.is_(TCP) & sent.proto.is_(TCP) & ends
        return (reset | p.proto.is_(ICMP)) & (sent.device.is_(0) | by)
