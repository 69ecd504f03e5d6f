"""What conntrack, with an empty table, makes of all packets at once, and whether a rule set switches it on: beside `concrete.conntrack`."""

from __future__ import annotations

from .. import rules as r
from ..hosts import Host, Setting
from ..packets import CT_FLAGS, NEW_ICMP6_TYPES, NEW_ICMP_TYPES, UNTRACKED_ICMP6_TYPES
from ..values import ICMP, ICMPV6, TCP, CtState, Family, TcpFlag
from .headers import NO_NEXT_HEADER
from .packets import SymConnection, SymEnds, SymPacket
from .terms import Bool


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
        new = (~p.proto.is_(TCP) | tcp) & (~p.proto.is_(ICMP) | icmp)
        return p.but(ctstate=t.choose(new, t.number(CtState.NEW, 3), invalid))
    icmp = t.any_of(p.icmp_type.is_(kind) for kind in NEW_ICMP6_TYPES)
    left_alone = p.proto.is_(ICMPV6) & t.any_of(p.icmp_type.is_(kind) for kind in UNTRACKED_ICMP6_TYPES)
    new = (~p.proto.is_(TCP) | tcp) & (~p.proto.is_(ICMPV6) | icmp) & ~p.proto.is_(NO_NEXT_HEADER)
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
