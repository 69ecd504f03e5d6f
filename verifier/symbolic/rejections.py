"""What REJECT rules send back for a hop's packets, to whoever sent them: beside the rejections in `concrete`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from .. import journeys as j
from ..hooks import Hook
from ..values import (
    AH,
    ESP,
    GRE,
    ICMP,
    ICMPV6,
    LINK_LOCAL,
    MAPPED,
    SCTP,
    TCP,
    UDP,
    UDPLITE,
    CtState,
    Family,
    Ipv6Extension,
    TcpFlag,
)
from .answers import THE_KERNELS, Question, asks_for_sockets
from .conntrack import leaves_untracked
from .journeys import SymAnswer, SymEnd, SymStop
from .keys import Keys, asks_for_more
from .matches import within
from .packets import NO_MAC, RARE, SymPacket
from .passage import Hop, Inward, Passage
from .rejecting import Rejection
from .routing import Sent
from .routing_ipv6 import RoadIpv6
from .terms import Bool, Bv, Terms

MISPLACED = "a REJECT where the kernel loads none"
BY_RULES = "a rejection where routing rules ask for more than addresses, interfaces and marks, or before the local table"
NO_ADDRESS = "a rejection to no address"
GROUP = "a rejection to a group"
NO_SOURCE = "a rejection from no address"
PROTOCOL = "whether REJECT answers this protocol"
ONE_LINK = "a rejection to or from an address of one link"
ANY_ROUTER = "a rejection to the address of any router"
EXTENSION = "an extension header that is not followed"
ITS_SOCKET = "whether a socket that is bound to a device knows a rejection of this protocol"

CODES: Mapping[Family, Mapping[str, int]] = {
    Family.IPV4: {
        "net-unreachable": 0,
        "host-unreachable": 1,
        "proto-unreachable": 2,
        "port-unreachable": 3,
        "net-prohibited": 9,
        "host-prohibited": 10,
        "admin-prohibited": 13,
    },
    Family.IPV6: {
        "no-route": 0,
        "adm-prohibited": 1,
        "addr-unreachable": 3,
        "port-unreachable": 4,
        "policy-fail": 5,
        "reject-route": 6,
    },
}
"""Of destination unreachable (include/uapi/linux/icmp.h, icmpv6.h)."""
UNREACHABLE = {Family.IPV4: 3, Family.IPV6: 1}

ERRORS = (1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12)
"""ICMP's types that are errors, below NR_ICMP_TYPES (net/ipv4/icmp.c: icmp_pointers)."""
LAST_TYPE = 18

SURE = (TCP, UDP, UDPLITE, SCTP, GRE, ESP)
"""Protocols of which what has a right checksum is answered, beside the family's ICMP, and AH in IPv4
(include/net/netfilter/nf_reject.h: nf_reject_verify_csum)."""


class _Rejected(Struct, frozen=True):
    """The packets that rules have rejected at one hook, as one packet: those that get a reset, and those that get an
    error, by its code."""

    hook: Hook
    packet: SymPacket
    reset: Bool
    errors: Sequence[tuple[Bool, int]]


class _Way(Struct, frozen=True):
    """From where a packet is sent back, and by which route."""

    src: Bv
    sent: Sent


def reject(passage: Passage, question: Question) -> list[SymAnswer]:
    """Write what becomes of what is sent back for a hop that is written; nothing is drawn for it."""
    kind = _RejectingIpv6 if isinstance(passage.road, RoadIpv6) else _Rejecting
    return kind(passage, question).written()


class _Rejecting:
    """What is sent back for one hop, in IPv4."""

    def __init__(self, passage: Passage, question: Question) -> None:
        self.passage = passage
        self.question = question
        self.record = passage.record
        self.terms: Terms = passage.terms
        self.road = passage.road
        self.family = passage.family
        self.icmp = ICMP if passage.family is Family.IPV4 else ICMPV6
        self.number = -1 - question.hop
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
                self._lose(e.cond, MISPLACED, e.packet)
            elif asks_for_more(self.passage.host):
                self._lose(e.cond, BY_RULES, e.packet)
            else:
                groups.setdefault((id(e.packet), end.hook), []).append((e, end))
        out = []
        codes = CODES[self.family]
        for (_, hook), group in groups.items():
            reset = t.any_of(e.cond for e, end in group if end.how == "tcp-reset")
            errors = [
                (e.cond, codes[end.how.partition("-")[2]]) for e, end in group if end.how != "tcp-reset"
            ]
            out.append(_Rejected(hook, group[0][0].packet, reset, errors))
        return out

    def _lose(self, cond: Bool, why: str, p: SymPacket) -> None:
        self.record.end(cond, self.number, j.Unmodelled(why), p)

    def _send_back(self, rejected: _Rejected) -> None:
        p = rejected.packet
        reset, error = self._answered(rejected)
        if asks_for_sockets(self.passage.setting):
            self._lose(error, THE_KERNELS, p)
            error = self.terms.false
        if (reset | error).const is False:
            return
        error, theirs = self._error_way(rejected, error)
        mine = self._reset_way(rejected)
        t = self.terms
        route = Sent(
            t.choose(reset, mine.out, theirs.sent.out),
            (reset & mine.possible) | (~reset & theirs.sent.possible),
            (reset & mine.group) | (~reset & theirs.sent.group),
        )
        out = t.choose(route.possible, route.out, t.number(0, 8))
        self._go(reset | error, p, self._made(rejected, reset, theirs.src).but(out_iface=out), route)

    def _go(self, begins: Bool, p: SymPacket, q: SymPacket, route: Sent) -> None:
        """Of what conntrack had left alone apart from the rest."""
        untracked = p.ctstate.is_(CtState.UNTRACKED)
        parts = [(begins, False)]
        if leaves_untracked(self.passage.setting) or self.family is Family.IPV6:
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

    # -- what is answered

    def _answered(self, rejected: _Rejected) -> tuple[Bool, Bool]:
        """The packets that get a reset, and those that get an error; of whom nobody knows it is told here."""
        t, p, road = self.terms, rejected.packet, self.road
        heard = ~self._is_to_group(rejected)
        reset = rejected.reset & heard & p.proto.is_(TCP) & (p.flags & TcpFlag.RST).is_(0)
        known = p.icmp_type.at_most(LAST_TYPE) & ~t.any_of(p.icmp_type.is_(kind) for kind in ERRORS)
        error = self._of_this_protocol(rejected, heard & (~p.proto.is_(ICMP) | known))
        many = road.is_multicast(p.src) | (road.is_broadcast(p.src) & ~road.is_local(p.src))
        for cond, why in ((p.src.is_(0), NO_ADDRESS), (many, GROUP)):
            self._lose((reset | error) & cond, why, p)
            reset, error = reset & ~cond, error & ~cond
        return reset, error

    def _of_this_protocol(self, rejected: _Rejected, heard: Bool) -> Bool:
        t, p = self.terms, rejected.packet
        error = t.any_of(cond for cond, _ in rejected.errors) & heard
        sure = (*SURE, self.icmp, *([AH] if self.family is Family.IPV4 else []))
        strange = error & ~t.any_of(p.proto.is_(n) for n in sure)
        self._lose(strange, PROTOCOL, p)
        return error & ~strange

    def _is_to_group(self, rejected: _Rejected) -> Bool:
        """Nobody is told of what went to many (net/ipv4/netfilter/nf_reject_ipv4.c: nf_send_reset; net/ipv4/icmp.c: __icmp_send)."""
        p, road = rejected.packet, self.road
        match rejected.hook:
            case Hook.OUTPUT:
                return road.output(p.src, p.dst, self.terms.number(0, 8), p.device, Keys(p.mark)).group
            case _:
                return p.dst.is_(0) | (road.is_broadcast(p.dst) & ~road.is_local(p.dst))

    # -- what is sent

    def _made(self, rejected: _Rejected, reset: Bool, source: Bv) -> SymPacket:
        """The header of a reset, or of an error from this source."""
        t, p = self.terms, rejected.packet
        zero = t.number(0, 16)
        acks = ~(p.flags & TcpFlag.ACK).is_(0)
        flags = t.choose(acks, t.number(TcpFlag.RST, 8), t.number(TcpFlag.RST | TcpFlag.ACK, 8))
        code = t.number(0, 8)
        for cond, number in rejected.errors:
            code = t.choose(cond, t.number(number, 8), code)
        device = t.number(0, 8)
        if self.family is Family.IPV6 and rejected.hook is Hook.OUTPUT:
            # A new route of it is by that of the socket that sent what is rejected (nf_reject_ipv6.c: ip6_local_out).
            device = t.choose(reset, p.device, device)
        q = p.without_socket().but(
            src=t.choose(reset, p.dst, source),
            dst=p.src,
            proto=t.choose(reset, t.number(TCP, 8), t.number(self.icmp, 8)),
            sport=t.choose(reset, p.dport, zero),
            dport=t.choose(reset, p.sport, zero),
            flags=t.choose(reset, flags, t.number(0, 8)),
            icmp_type=t.choose(reset, t.number(0, 8), t.number(UNREACHABLE[self.family], 8)),
            icmp_code=t.choose(reset, t.number(0, 8), code),
            in_iface=t.number(0, 8),
            mark=t.number(0, 32),
            device=device,
        )
        known = p.known()
        state = t.choose(known.known, t.number(CtState.RELATED, 3), t.number(CtState.INVALID, 3))
        rare = {name: self._field(name, p, reset) for name in sorted(p.rare)}
        q = replace(q, rare=rare, given=()).but(ctstate=state)
        return q.tracked(known.but(is_reply=known.known))

    def _field(self, name: str, p: SymPacket, reset: Bool) -> Bv:
        t = self.terms
        ipv4 = self.family is Family.IPV4

        def number(value: int) -> Bv:
            return t.number(value, RARE[name])

        match name:
            case "ttl":
                return number(64)
            case "tos" if ipv4:
                return t.choose(reset, number(0), (p.field("tos") & 0x1E) | 0xC0)
            case "length":
                own, more, most = (40, 28, 576) if ipv4 else (60, 48, 1280)
                whole = p.field("length")
                quoted = t.choose(whole.at_most(most - more), whole + more, number(most))
                return t.choose(reset, number(own), quoted)
            case "mac":
                return number(NO_MAC)
            case "extensions" if not ipv4:
                return number(Ipv6Extension.PROTO)
            case _:
                return number(0)

    # -- by which way

    def _reset_way(self, rejected: _Rejected) -> Sent:
        """(net/ipv4/netfilter.c: ip_route_me_harder)"""
        t, p, road = self.terms, rejected.packet, self.road
        strange = road.is_multicast(p.dst) | (road.is_broadcast(p.dst) & ~road.is_local(p.dst))
        device = p.device if rejected.hook is Hook.OUTPUT else t.number(0, 8)
        src = t.choose(strange, t.number(0, 32), p.dst)
        return road.output_again(src, p.src, device, Keys(t.number(0, 32)))

    def _error_way(self, rejected: _Rejected, error: Bool) -> tuple[Bool, _Way]:
        """Of the errors those of which it is known from where they are sent, and their way: what was to be delivered here is answered
        from where it was to go, all else from an address that is selected (net/ipv4/icmp.c: __icmp_send, RTCF_LOCAL)."""
        t, p, road = self.terms, rejected.packet, self.road
        none, zero = t.number(0, 8), t.number(0, 32)
        keys = Keys(zero)
        here = self._is_for_here(rejected)
        own = road.output(p.dst, p.src, t.number(ICMP, 8), none, keys)
        chosen = road.select_source(p.src, keys)
        asked = p.but(src=chosen, dst=p.src, proto=t.number(ICMP, 8), device=none, mark=zero)
        ((selects, free),) = road.unbound(asked)
        sent = Sent(
            t.choose(here, own.out, free.out),
            (here & own.possible & road.is_local(p.dst)) | (~here & selects),
            (here & own.group) | (~here & free.group),
        )
        src = t.choose(here, p.dst, chosen)
        unnamed = error & sent.possible & src.is_(0)
        self._lose(unnamed, NO_SOURCE, p)
        return error & ~unnamed, _Way(src, sent)

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
            senders = self.terms.any_of(cond for cond, _ in self.question.senders)
            reach = came.cond & ~came.shared & senders
            known, unknown = self._is_known(came)
            self._lose(reach & unknown, ITS_SOCKET, came.packet)
            rest = came.cond & ~(reach & unknown)
            back = reach & known & ~unknown
            for cond, name in self.question.senders:
                self.record.end(back & cond, self.number, j.Returned(name), came.packet)
            rest = rest & ~back
            for got in self.passage.deliver(replace(came, cond=rest), self.number):
                self.record.end(got.cond, self.number, j.Socket(got.process.name, got.listener), got.packet)

    def _is_known(self, came: Inward) -> tuple[Bool, Bool]:
        """The packets that a socket knows for what was sent back to it, and those of which nobody knows that: a reset by its ends;
        an error, whose quotation NAT has taken back, if the socket is asked.  One with a device is by that of the address,
        for TCP in IPv4 and UDP in IPv6, and for UDP in IPv4 and TCP in IPv6 by lo (net/ipv4/tcp_ipv4.c: tcp_v4_err;
        net/ipv4/udp.c: __udp4_lib_err; net/ipv6/tcp_ipv6.c: tcp_v6_err; net/ipv6/udp.c: __udp6_lib_err).
        """
        t, p, sent = self.terms, came.packet, self.question.sent
        ends = p.src.is_(sent.dst) & p.dst.is_(sent.src) & p.sport.is_(sent.dport) & p.dport.is_(sent.sport)
        indices = range(1, len(self.passage.names.interfaces))
        there = t.any_of(sent.device.is_(i) & self.road.came_for(p.dst, i) for i in indices)
        here = sent.device.is_(p.in_iface)
        free, tcp, udp = sent.device.is_(0), sent.proto.is_(TCP), sent.proto.is_(UDP)
        of_tcp, of_udp = (there, here) if self.family is Family.IPV4 else (here, there)
        reset = p.proto.is_(TCP) & tcp & ends & (free | there)
        error = p.proto.is_(self.icmp) & (free | (tcp & of_tcp) | (udp & of_udp))
        return reset | error, p.proto.is_(self.icmp) & ~free & ~tcp & ~udp


class _RejectingIpv6(_Rejecting):
    """The same in IPv6, where errors come from another address, and some packets are answered that are not in IPv4, or not."""

    def _answered(self, rejected: _Rejected) -> tuple[Bool, Bool]:
        p, road = rejected.packet, self.road
        heard = ~(p.src.is_(0) | road.is_multicast(p.src) | road.is_multicast(p.dst))
        mapped = within(p.src, MAPPED) | within(p.dst, MAPPED)
        reset = (
            rejected.reset
            & heard
            & ~mapped
            & ~p.dst.is_(0)
            & p.proto.is_(TCP)
            & (p.flags & TcpFlag.RST).is_(0)
        )
        error = self._of_this_protocol(rejected, heard & (~p.proto.is_(ICMPV6) | p.icmp_type.at_least(128)))
        linked = within(p.src, LINK_LOCAL) | within(p.dst, LINK_LOCAL)
        doubts = [(linked, ONE_LINK)]
        if "extensions" in p.rare:
            more = Ipv6Extension.HOP | Ipv6Extension.DST | Ipv6Extension.ROUTE | Ipv6Extension.AUTH
            doubts.insert(0, (~(p.field("extensions") & more).is_(0), EXTENSION))
        for cond, why in doubts:
            self._lose((reset | error) & cond, why, p)
            reset, error = reset & ~cond, error & ~cond
        return reset, error

    def _reset_way(self, rejected: _Rejected) -> Sent:
        """(net/ipv6/netfilter/nf_reject_ipv6.c: nf_send_reset6)"""
        t, p = self.terms, rejected.packet
        return self.road.output_again(p.dst, p.src, t.number(0, 8), Keys(t.number(0, 32)))

    def _error_way(self, rejected: _Rejected, error: Bool) -> tuple[Bool, _Way]:
        """(net/ipv6/icmp.c: icmp6_send, icmpv6_rt_has_prefsrc, icmpv6_route_lookup)"""
        t, p, road = self.terms, rejected.packet, self.road
        if not isinstance(road, RoadIpv6):
            raise AssertionError("IPv6 has roads of its own")
        here = road.is_own(p.dst) | road.is_anycast(p.dst)
        preferred, src, unknown = t.false, p.dst, ~here
        match rejected.hook:
            case Hook.OUTPUT:
                src = t.choose(here, p.dst, p.src)
                unknown = ~here & ~road.is_own(p.src)
            case Hook.FORWARD:
                chosen = road.source_by(p.src, p.in_iface)
                src = chosen.address
                special = road.is_own(p.src) | road.is_anycast(p.src)
                for cond, route in road.taken(road.unsourced(p.src)):
                    if route.source is not None:
                        named = cond & ~special
                        src = t.choose(named, t.number(route.source, 128), src)
                        preferred = preferred | named
                unknown = ~preferred & (chosen.none | chosen.several)
            case _:
                pass
        self._lose(error & unknown, j.SOURCE_SELECTION, p)
        error = error & ~unknown
        to_any = road.is_anycast(p.src) | self._begins_a_net(p.src)
        self._lose(error & to_any, ANY_ROUTER, p)
        none, asked = t.number(0, 8), t.choose(preferred, t.number(0, 128), src)
        return error & ~to_any, _Way(src, road.output_again(asked, p.src, none, Keys(t.number(0, 32))))

    def _begins_a_net(self, address: Bv) -> Bool:
        """The first address of a net on some link is any router's (include/net/ip6_route.h: ipv6_anycast_destination)."""
        host = self.passage.host
        routes = [route for table in (host.routes, *host.tables.values()) for route in table]
        firsts = {x.net.address for x in routes if x.via is None and (x.net.length or 0) < 127}
        return self.terms.any_of(address.is_(first) for first in sorted(firsts))
