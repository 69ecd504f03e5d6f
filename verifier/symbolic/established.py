"""Connections that stand: what the first packets of a sender, and the answers to them, leave, and how later packets find that: beside
`established` in `concrete`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from .. import journeys as j
from ..hooks import Hook
from ..hosts import Host, Setting
from ..packets import ASSURED, CT_FLAGS, SEEN_REPLY
from ..values import DCCP, GRE, ICMP, ICMPV6, LINK_LOCAL, SCTP, TCP, UDP, UDPLITE, CtState, Family, TcpFlag
from .conntrack import ORIGINAL, begun, seen, zones
from .entries import ANSWERS_IT, CLASHES, MARKED, SymEntry, chosen, masquerading
from .journeys import Record, SymStop
from .matches import within
from .packets import Accepted, Names, SymConnection, SymEnds, SymPacket
from .terms import Bool, Bv

WHETHER_IT_STANDS = "whether the connection is answered"
TAKEN_UP = "a connection that conntrack takes up behind its beginning"
SEEN_LATER = "whether conntrack sees a later answer"
NOT_FOUND = "an answer to what conntrack has not found in its connection"

_A, _F, _R, _U = TcpFlag.ACK, TcpFlag.FIN, TcpFlag.RST, TcpFlag.URG
LATER = (_A, _A | _U, _F | _A, _F | _A | _U, _R, _R | _A)
"""What conntrack lets a packet behind the handshake have for flags (net/netfilter/nf_conntrack_proto_tcp.c: tcp_valid_flags)."""

REQUESTS = {Family.IPV4: (ICMP, (8, 13, 15, 17)), Family.IPV6: (ICMPV6, (128, 139))}


class Opening(Protocol):
    """The ways of first packets and of their answers, as they are written (`passage.Passage`)."""

    setting: Setting
    host: Host
    names: Names
    record: Record
    conntrack: bool | None

    def came_by(self, p: SymPacket) -> Bv: ...


class SymOpened(Struct, frozen=True):
    """The packets whose connection `stands`, those of which nobody knows that (`lost`), and what is left of it: an entry, where
    conntrack is on, and sockets."""

    stands: Bool
    lost: Bool
    entry: SymEntry | None
    accepted: tuple[Accepted, ...]
    assured: Bool


def opened(passage: Opening, sent: SymPacket, first: Hook, assured: Bool) -> SymOpened:
    """What is left by the first packets whose ways, from this hook on, are written, with those of their answers."""
    t, record = sent.terms, passage.record
    stands = lost = t.false
    for e in record.answered:
        match e.end:
            case j.Returned():
                stands = stands | e.cond
            case j.Left() if first is Hook.PREROUTING:
                stands = stands | (e.cond & _turned(e.packet, sent))
            case j.Group() | j.Unmodelled():
                lost = lost | e.cond
            case _:
                pass
    answered = t.any_of(e.cond for e in record.answered)
    blind = (e.cond for e in record.ends if e.hop == 0 and isinstance(e.end, j.Group | j.Unmodelled))
    lost = lost | (t.any_of(blind) & ~answered)
    entry = _entry(record, sent, passage.setting, first) if passage.conntrack else None
    return SymOpened(stands, lost, entry, _accepted(passage, sent), assured)


def _turned(p: SymPacket, sent: SymPacket) -> Bool:
    """It has the addresses and ports of what was sent, the other way round."""
    there = p.src.is_(sent.dst) & p.dst.is_(sent.src)
    return there & p.sport.is_(sent.dport) & p.dport.is_(sent.sport)


def _entry(record: Record, sent: SymPacket, setting: Setting, first: Hook) -> SymEntry:
    t = sent.terms
    known = seen_back = t.false
    found = begun(t.false, sent)
    came = [(e.cond, e.packet) for e in record.ends if e.hop == 0 and isinstance(e.end, j.Left | j.Kernel)]
    came += [(s.cond, s.packet) for s in record.stops if s.hop == 0 and s.act is j.Act.DELIVERED]
    has_answer = t.any_of(e.cond for e in record.answered)
    for cond, packet in came:
        has = cond & packet.known().known & has_answer
        known = known | has
        found = chosen(has, packet.known(), found)
    for e in record.answered:
        its = e.packet.known()
        has = e.cond & its.known & its.is_reply & known
        seen_back = seen_back | has
        found = chosen(has, its, found)
    found = found.but(is_reply=t.false)
    stops = [s for s in record.stops if s.hop == 0]
    raw = [s for s in stops if (s.hook, s.table) == (first, "raw")]
    there, back = zones(raw, setting, t, ORIGINAL), zones(raw, setting, t)
    out = masquerading(stops, sent, setting)
    return SymEntry(known, t.false, t.false, found, there, back, out, seen_back)


def _accepted(passage: Opening, sent: SymPacket) -> tuple[Accepted, ...]:
    """The sockets that TCP connections have come to."""
    t, names = sent.terms, passage.names
    out = []
    for s in passage.record.stops:
        if s.hop != 0 or s.act is not j.Act.DELIVERED or s.listener is None or s.process is None:
            continue
        p = s.packet
        device = t.number(names.index(s.listener.device), 8)
        if sent.family is Family.IPV6 and s.listener.device is None:
            # A connection with a link-local address is one of its link (net/ipv6/tcp_ipv6.c: tcp_v6_init_req).
            device = t.choose(within(p.src, LINK_LOCAL), passage.came_by(p), device)
        ends = SymEnds(p.src, p.dst, p.sport, p.dport)
        process = passage.host.process(s.process)
        out.append(Accepted(s.cond & p.proto.is_(TCP), process, s.listener, ends, device))
    return tuple(out)


# -- later packets


def later(p: SymPacket, sent: SymPacket) -> SymPacket:
    """The packet as one of the connection that was opened by what was sent."""
    return p.but(**{name: getattr(sent, name) for name in j.OF_A_CONNECTION})


def is_later(p: SymPacket) -> Bool:
    """Its header may be that of a later packet: of TCP behind the handshake, of ICMP a request."""
    t = p.terms
    flags = p.flags & CT_FLAGS
    icmp, requests = REQUESTS[p.family]
    return t.all_of(
        (
            ~p.proto.is_(TCP) | t.any_of(flags.is_(int(f)) for f in LATER),
            ~p.proto.is_(icmp) | t.any_of(p.icmp_type.is_(kind) for kind in requests),
            ~p.proto.is_(SCTP) & ~p.proto.is_(DCCP),
        )
    )


def resume(
    reach: Bool,
    p: SymPacket,
    hop: int,
    its: SymOpened,
    raw: Sequence[SymStop],
    setting: Setting,
    record: Record,
) -> tuple[Bool, SymPacket]:
    """Later packets behind these stops in their first raw hook, in the entry of their connection where conntrack finds them there
    (net/netfilter/nf_conntrack_core.c: resolve_normal_ct; nf_conntrack_proto_tcp.c: tcp_conntracks)."""
    t, entry = p.terms, its.entry
    if entry is None:
        return reach, seen(p)
    asked = reach & ~p.ctstate.is_(CtState.UNTRACKED)
    there, home = zones(raw, setting, t, ORIGINAL), zones(raw, setting, t)
    near, alike = there.agrees(entry.there), home.agrees(entry.back)
    marked = there.marked | entry.there.marked
    answers_itself = _same_ends(p, entry.connection.reply) & alike
    tcp = p.proto.is_(TCP)
    sure = asked & entry.known
    plain = sure & ~marked & ~answers_itself
    finds = plain & near
    ways: tuple[tuple[Bool, str], ...] = (
        (asked & ~entry.known, TAKEN_UP),
        (sure & marked, MARKED),
        (sure & ~marked & answers_itself, ANSWERS_IT),
        (plain & ~near & alike, CLASHES),
        (plain & ~near & ~alike, TAKEN_UP),
        (finds & ~entry.answered & ~tcp, SEEN_LATER),
    )
    for cond, reason in ways:
        record.end(cond, hop, j.Unmodelled(reason), p)
        reach = reach & ~cond
    found = finds & entry.answered
    state = t.choose(found, t.number(CtState.ESTABLISHED, 3), p.ctstate)
    state = t.choose(finds & ~entry.answered, t.number(CtState.INVALID, 3), state)
    return reach, p.but(ctstate=state).tracked(chosen(found, _aged(p, its), begun(t.false, p)))


def _aged(p: SymPacket, its: SymOpened) -> SymConnection:
    """The connection as a packet finds it in the entry: TCP has its handshake behind it at the latest with an ACK that neither ends
    nor resets it (net/netfilter/nf_conntrack_proto_udp.c: nf_conntrack_udplite_packet; nf_conntrack_proto_gre.c)."""
    t = p.terms
    if its.entry is None:
        raise AssertionError("conntrack has an entry")
    known = its.entry.connection
    lasting, at_once = p.proto.is_(UDP), p.proto.is_(UDPLITE) | p.proto.is_(GRE)
    hurried = ~(p.flags & (TcpFlag.RST | TcpFlag.FIN)).is_(0)
    assured = (p.proto.is_(TCP) & (its.assured | ~hurried)) | (lasting & its.assured) | at_once
    bits = t.choose(assured, t.number(SEEN_REPLY | ASSURED, 16), t.number(SEEN_REPLY, 16))
    return known.but(status=known.status | bits)


def _same_ends(p: SymPacket, ends: SymEnds) -> Bool:
    there = p.src.is_(ends.src) & p.dst.is_(ends.dst)
    return there & p.sport.is_(ends.sport) & p.dport.is_(ends.dport)


def has(its: Accepted, p: SymPacket, device: Bv) -> Bool:
    """The packets of the socket's connection that come by this device (net/ipv4/inet_hashtables.c: __inet_lookup_established)."""
    return its.cond & _same_ends(p, its.ends) & (its.device.is_(0) | its.device.is_(device))
