"""What earlier packets leave in conntrack's table, and what later ones with their addresses and ports find there: beside `entries` in `concrete`."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from .. import journeys as j
from .. import rules as r
from ..hooks import Hook
from ..hosts import Setting
from ..packets import ASSURED, CONFIRMED, DST_NAT, SEEN_REPLY, SRC_NAT
from ..values import CtState, Family
from .conntrack import ORIGINAL, Zones, begun, zones
from .journeys import Record, SymStop
from .packets import SymConnection, SymEnds, SymPacket
from .terms import Bool, Bv

NOT_FOLLOWED = "what an earlier packet has left in conntrack's table"
ANSWERS_IT = "a packet that answers the earlier one"
CLASHES = "a connection with the reply tuple of an earlier one"
MARKED = "a zone that the mark names"
SEEN_OR_NOT = "whether conntrack has seen the answer to the earlier packet"
MARK_OF_AN_ANSWER = "the connection mark that an answer has left"


class SymEntry(Struct, frozen=True):
    """The entries that all packets of an earlier sender leave: `known` are the packets with one, `grouped` those of which copies
    may have changed it, and `lost` those of which nobody knows whether they have one.
    """

    known: Bool
    grouped: Bool
    lost: Bool
    connection: SymConnection
    there: Zones
    back: Zones
    masquerades: Bv
    """The interface for which it was masqueraded, or 0."""
    answered: Bool


def left(
    record: Record, sent: SymPacket, setting: Setting, first: Hook, answered: Bool, assured: Bool
) -> SymEntry:
    """What the packets leave whose ways, from this first hook on, are written in the record."""
    t = sent.terms
    known = grouped = lost = open_ = t.false
    found = begun(t.false, sent)
    for e in record.ends:
        if isinstance(e.end, j.Unmodelled):
            lost = lost | e.cond
            continue
        mine = e.packet.known()
        if isinstance(e.end, j.Group):
            has = e.cond & mine.known
            grouped = grouped | has
        else:
            has = e.cond & mine.known & ~(mine.status & CONFIRMED).is_(0)
            known = known | has
        if has.const is not False:
            found = chosen(has, mine, found)
        if isinstance(e.end, j.Left | j.Socket):
            open_ = open_ | e.cond
    answered = answered & open_
    bits = t.choose(assured, t.number(SEEN_REPLY | ASSURED, 16), t.number(SEEN_REPLY, 16))
    found = found.but(status=found.status | t.choose(answered, bits, t.number(0, 16)))
    raw = [s for s in record.stops if (s.hook, s.table) == (first, "raw")]
    there, back = zones(raw, setting, t, ORIGINAL), zones(raw, setting, t)
    out = masquerading(record.stops, sent, setting)
    return SymEntry(known, grouped, lost, found, there, back, out, answered)


def chosen(cond: Bool, yes: SymConnection, no: SymConnection) -> SymConnection:
    t = cond.terms

    def ends(a: SymEnds, b: SymEnds) -> SymEnds:
        return SymEnds(*(t.choose(cond, getattr(a, n), getattr(b, n)) for n in SymEnds.__struct_fields__))

    return SymConnection(
        (cond & yes.known) | (~cond & no.known),
        t.choose(cond, yes.protocol, no.protocol),
        ends(yes.original, no.original),
        ends(yes.reply, no.reply),
        t.choose(cond, yes.status, no.status),
        t.choose(cond, yes.mark, no.mark),
        (cond & yes.is_reply) | (~cond & no.is_reply),
    )


def masquerading(stops: Sequence[SymStop], sent: SymPacket, setting: Setting) -> Bv:
    """The interface for which nat masquerades what makes these stops, or 0 (net/netfilter/nf_nat_masquerade.c: nf_nat_masquerade_ipv4, nf_nat_masquerade_ipv6)"""
    t = sent.terms
    nat = setting.rules.tables.get("nat")
    out = t.number(0, 8)
    for s in stops:
        if (s.act, s.hook, s.table) != (j.Act.MATCHED, Hook.POSTROUTING, "nat"):
            continue
        if nat is None or s.chain is None or s.rule is None:
            continue
        if isinstance(nat.chains[s.chain].rules[s.rule - 1].target, r.Masquerade):
            out = t.choose(s.cond, s.packet.out_iface, out)
    return t.choose(sent.src.is_(0), t.number(0, 8), out) if sent.family is Family.IPV4 else out


def _may_keep_answers(rules: r.RuleSet) -> bool:
    """An answer passes raw before conntrack sees it."""
    return any(
        chain.rules or isinstance(chain.policy, r.Drop)
        for name, table in rules.tables.items()
        for chain in table.chains.values()
        if name == "raw"
    )


def marks_connections(rules: r.RuleSet) -> bool:
    """Some rule, called or not, sets the mark of connections: an answer may pass it."""
    targets = {
        type(rule.target) for t in rules.tables.values() for c in t.chains.values() for rule in c.rules
    }
    return bool(targets & {r.SetConnMark, r.SaveMark})


def join(
    reach: Bool,
    p: SymPacket,
    hop: int,
    entry: SymEntry,
    raw: Sequence[SymStop],
    setting: Setting,
    record: Record,
) -> tuple[Bool, SymPacket]:
    """The packets behind these stops in their first raw hook, in the entry where conntrack finds them there
    (net/netfilter/nf_conntrack_core.c: resolve_normal_ct)."""
    t = p.terms
    untracked = p.ctstate.is_(CtState.UNTRACKED)
    asked = reach & ~untracked
    first, second = entry.connection.original, entry.connection.reply
    same, back = _is_from(p, first) & _is_to(p, first), _is_from(p, second) & _is_to(p, second)
    there, home = zones(raw, setting, t, ORIGINAL), zones(raw, setting, t)
    near = there.agrees(entry.there)
    alike = home.agrees(entry.back)
    marked = there.marked | entry.there.marked
    sure = asked & entry.known
    ways: tuple[tuple[Bool, str], ...] = (
        (asked & entry.lost, NOT_FOLLOWED),
        (asked & entry.grouped & (same | _is_from(p, second)), NOT_FOLLOWED),
        (sure & (same | back) & marked, MARKED),
        (sure & ~marked & back & alike, ANSWERS_IT),
        (sure & ~marked & ~(back & alike) & same & ~near & alike, CLASHES),
        (sure & ~marked & back & ~alike & ~same, CLASHES),
        (sure & ~same & ~back & (_answers(p, first) | _answers(p, second)), CLASHES),
    )
    finds = sure & ~marked & ~(back & alike) & same & near
    answered = finds & entry.answered
    if marks_connections(setting.rules):
        ways = (*ways, (answered, MARK_OF_AN_ANSWER))
    elif _may_keep_answers(setting.rules):
        record.doubts.append((answered, SEEN_OR_NOT))
    for cond, reason in ways:
        record.end(cond, hop, j.Unmodelled(reason), p)
        record.behind.append(cond)
        reach = reach & ~cond
    record.behind.append(finds)
    state = t.choose(answered, t.number(CtState.ESTABLISHED, 3), p.ctstate)
    connection = chosen(finds, entry.connection, begun(~untracked, p))
    return reach, p.but(ctstate=state).tracked(connection)


def _is_from(p: SymPacket, ends: SymEnds) -> Bool:
    return p.src.is_(ends.src) & p.sport.is_(ends.sport)


def _is_to(p: SymPacket, ends: SymEnds) -> Bool:
    return p.dst.is_(ends.dst) & p.dport.is_(ends.dport)


def _answers(p: SymPacket, ends: SymEnds) -> Bool:
    """Its addresses and ports are these, the other way round."""
    there = p.dst.is_(ends.src) & p.dport.is_(ends.sport)
    return there & p.src.is_(ends.dst) & p.sport.is_(ends.dport)


def belongs(p: SymPacket) -> Bool:
    """The packet's connection was in the table before it came: asked before it has passed its last hook."""
    known = p.known()
    return known.known & ~(known.status & CONFIRMED).is_(0)


def bound(p: SymPacket, hook: Hook) -> SymPacket:
    """What belongs to an entry with what nat has decided of it for this hook
    (net/netfilter/nf_nat_core.c: nf_nat_packet, HOOK2MANIP)."""
    t, known = p.terms, p.known()
    reply = known.reply
    if hook in (Hook.PREROUTING, Hook.OUTPUT):
        moved = belongs(p) & ~(known.status & DST_NAT).is_(0)
        return p.but(dst=t.choose(moved, reply.src, p.dst), dport=t.choose(moved, reply.sport, p.dport))
    moved = belongs(p) & ~(known.status & SRC_NAT).is_(0)
    return p.but(src=t.choose(moved, reply.dst, p.src), sport=t.choose(moved, reply.dport, p.sport))
