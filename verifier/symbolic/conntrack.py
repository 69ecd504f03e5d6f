"""What conntrack, with an empty table, makes of all packets at once, and whether a rule set switches it on: beside `concrete.conntrack`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from msgspec import Struct

from .. import rules as r
from ..hooks import Hook
from ..hosts import Host, Setting
from ..journeys import Act
from ..packets import (
    CT_FLAGS,
    DST_NAT,
    NEW_ICMP6_TYPES,
    NEW_ICMP_TYPES,
    SEEN_REPLY,
    SRC_NAT,
    UNTRACKED_ICMP6_TYPES,
)
from ..values import ICMP, ICMPV6, TCP, CtState, Family, TcpFlag
from .headers import NO_NEXT_HEADER
from .journeys import SymStop
from .matches import has_ports
from .packets import SymConnection, SymEnds, SymPacket
from .terms import Bool, Terms


def classified(p: SymPacket, host: Host) -> SymPacket:
    """The packet with the state that an empty conntrack gives it."""
    t = p.terms
    flags = p.flags & CT_FLAGS
    opens = [TcpFlag.SYN, TcpFlag.SYN | TcpFlag.URG]
    if host.sysctls.get("net.netfilter.nf_conntrack_tcp_loose", 1):
        opens += [TcpFlag.ACK, TcpFlag.ACK | TcpFlag.URG]
    tcp = t.any_of(flags.is_(int(f)) for f in opens)
    invalid = t.number(CtState.INVALID, 3)
    if p.family is Family.IPV4:
        icmp = t.any_of(p.icmp_type.is_(kind) for kind in NEW_ICMP_TYPES)
        new = (~p.proto.is_(TCP) | tcp) & (~p.proto.is_(ICMP) | icmp) & ~p.proto.is_(ICMPV6)
        return p.but(ctstate=t.choose(new, t.number(CtState.NEW, 3), invalid))
    icmp = t.any_of(p.icmp_type.is_(kind) for kind in NEW_ICMP6_TYPES)
    left_alone = p.proto.is_(ICMPV6) & t.any_of(p.icmp_type.is_(kind) for kind in UNTRACKED_ICMP6_TYPES)
    new = (~p.proto.is_(TCP) | tcp) & (~p.proto.is_(ICMPV6) | icmp) & ~p.proto.is_(NO_NEXT_HEADER)
    new = new & ~p.proto.is_(ICMP)
    other = t.choose(left_alone, t.number(CtState.UNTRACKED, 3), invalid)
    return p.but(ctstate=t.choose(new, t.number(CtState.NEW, 3), other))


def unseen(p: SymPacket) -> SymPacket:
    """The packet, if it carries a connection, without one: conntrack has not seen it."""
    return p.tracked(begun(p.terms.false, p))


def seen(p: SymPacket) -> SymPacket:
    """The packet, as it is sent, with the connection that conntrack makes of it."""
    return p if p.connection is None else p.tracked(begun(p.ctstate.is_(CtState.NEW), p))


def begun(known: Bool, p: SymPacket) -> SymConnection:
    """A connection that begins with this packet."""
    t = p.terms
    there = SymEnds(p.src, p.dst, p.sport, p.dport)
    back = SymEnds(p.dst, p.src, p.dport, p.sport)
    return SymConnection(known, p.proto, there, back, t.number(0, 16), t.number(0, 32), t.false)


# -- answers

ORIGINAL, REPLY = "-orig", "-reply"
"""Directions, as `CT --zone` has them at its end."""


class Zones(Struct, frozen=True):
    """In which zones packets of one direction are looked for: those of each number but 0, and those whose mark names it."""

    numbered: Mapping[int, Bool]
    marked: Bool

    def agrees(self, other: Zones) -> Bool:
        """Both are in the same zone, where marks name neither."""
        t = self.marked.terms
        numbers = {**self.numbered, **other.numbered}
        return t.all_of(
            ~(_differ(self.numbered.get(n, t.false), other.numbered.get(n, t.false))) for n in numbers
        )


def _differ(a: Bool, b: Bool) -> Bool:
    return (a & ~b) | (~a & b)


def zones(stops: Iterable[SymStop], setting: Setting, t: Terms, way: str = REPLY) -> Zones:
    """Where answers to what made these stops in its first raw hook are looked for, or what goes the same way as it: the first
    target that speaks of tracking tells it (net/netfilter/xt_CT.c: xt_ct_target; nf_conntrack_core.c: resolve_normal_ct).
    """
    raw = setting.rules.tables.get("raw")
    numbered: dict[int, Bool] = {}
    marked = told = t.false
    for s in stops if raw is not None and _zoned(raw, way) else ():
        if s.act is not Act.MATCHED or raw is None or s.chain is None or s.rule is None:
            continue
        target = raw.chains[s.chain].rules[s.rule - 1].target
        if not isinstance(target, r.TrackAs | r.NoTrack):
            continue
        first, told = s.cond & ~told, told | s.cond
        zone = zone_of(target, way)
        if zone == "mark":
            marked = marked | first
        elif zone:
            numbered[int(zone)] = numbered.get(int(zone), t.false) | first
    return Zones({n: cond for n, cond in numbered.items() if n}, marked)


def _zoned(raw: r.Table, way: str) -> bool:
    return any(zone_of(rule.target, way) for chain in raw.chains.values() for rule in chain.rules)


def zone_of(target: r.Target | None, way: str) -> str | None:
    """The zone that the target gives a connection's packets of this direction, as it is spelled; None: the default one.  What a
    mark names in the other direction is as little known."""
    found = (
        re.search(r"--zone(-orig|-reply)? (\S+)$", target.options) if isinstance(target, r.TrackAs) else None
    )
    return found[2] if found and (found[1] in (None, way) or found[2] == "mark") else None


def leaves_untracked(setting: Setting) -> bool:
    """Some rule, called or not, has conntrack leave packets alone."""
    raw = setting.rules.tables.get("raw")
    chains = () if raw is None else raw.chains.values()
    return any(isinstance(rule.target, r.NoTrack) for chain in chains for rule in chain.rules)


def answering(p: SymPacket, found: SymConnection, finds: Bool, host: Host) -> SymPacket:
    """The answer behind its first raw table: in the connection that was `found`, where it `finds` that, else as without."""
    t = p.terms
    untracked = p.ctstate.is_(CtState.UNTRACKED)
    own = classified(p, host).ctstate
    alone = begun(own.is_(CtState.NEW), p)

    def ends(mine: SymEnds, other: SymEnds) -> SymEnds:
        return SymEnds(
            *(t.choose(finds, getattr(mine, n), getattr(other, n)) for n in SymEnds.__struct_fields__)
        )

    connection = SymConnection(
        ~untracked & (finds | alone.known),
        p.proto,
        ends(found.original, alone.original),
        ends(found.reply, alone.reply),
        t.choose(finds, found.status | SEEN_REPLY, alone.status),
        t.choose(finds, found.mark, alone.mark),
        finds & ~untracked,
    )
    state = t.choose(finds, t.number(CtState.ESTABLISHED, 3), own)
    return p.but(ctstate=t.choose(untracked, p.ctstate, state)).tracked(connection)


def mirrors_itself(found: SymConnection) -> Bool:
    """Its tuples are the same in both directions; ICMP's type tells them apart."""
    a, b = found.original, found.reply
    alike = a.src.is_(b.src) & a.dst.is_(b.dst) & a.sport.is_(b.sport) & a.dport.is_(b.dport)
    return alike & ~found.protocol.is_(ICMP) & ~found.protocol.is_(ICMPV6)


def restored(p: SymPacket, hook: Hook) -> SymPacket:
    """The packet with what nat would give it back at this hook, as part of a connection that it has translated
    (net/netfilter/nf_nat_core.c: nf_nat_packet)."""
    t = p.terms
    found = p.known()
    first = found.original
    if hook in (Hook.PREROUTING, Hook.OUTPUT):
        done = found.is_reply & ~(found.status & SRC_NAT).is_(0)
        port = t.choose(done & has_ports(p), first.sport, p.dport)
        return p.but(dst=t.choose(done, first.src, p.dst), dport=port)
    done = found.is_reply & ~(found.status & DST_NAT).is_(0)
    port = t.choose(done & has_ports(p), first.dport, p.sport)
    return p.but(src=t.choose(done, first.dst, p.src), sport=port)


def same_ends(p: SymPacket, q: SymPacket) -> Bool:
    return p.src.is_(q.src) & p.dst.is_(q.dst) & p.sport.is_(q.sport) & p.dport.is_(q.dport)


# -- whether it is on


def is_on(setting: Setting) -> bool | None:
    """Whether the rules switch conntrack on; None where nobody knows."""
    opaque = False
    for table in setting.rules.tables.values():
        for chain in table.chains.values():
            for rule in chain.rules:
                if isinstance(rule.target, TRACKING_TARGETS):
                    return True
                opaque = opaque or isinstance(rule.target, r.OpaqueTarget)
                for match in (literal.match for literal in rule.literals):
                    if isinstance(match, r.CtStates | r.Conntrack | r.ConnMark):
                        return True
                    if isinstance(match, r.Chance) and match.module in TRACKING_MODULES:
                        return True
                    opaque = opaque or isinstance(match, r.Opaque)
    return None if opaque else False


TRACKING_TARGETS = (
    r.Redirect, r.Dnat, r.Snat, r.Masquerade, r.Netmap, r.SetConnMark, r.SaveMark, r.RestoreMark, r.TrackAs,
)  # fmt: skip
"""Targets whose modules ask for conntrack (nf_ct_netns_get)."""

TRACKING_MODULES = ("connlimit", "connbytes", "connlabel", "cluster", "helper")
"""Matches known by name that do."""
