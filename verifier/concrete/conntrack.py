"""What conntrack, with an empty table, says of one packet, and whether a rule set switches it on."""

from __future__ import annotations

from msgspec.structs import replace

from .. import rules as r
from ..hosts import DEFAULTS, Setting
from ..packets import (
    CONFIRMED,
    CT_FLAGS,
    NEW_ICMP6_TYPES,
    NEW_ICMP_TYPES,
    UNTRACKED_ICMP6_TYPES,
    Connection,
    Ends,
    Packet,
)
from ..remembered import of_the_latest
from ..values import ICMP, ICMPV6, TCP, CtState, Family, TcpFlag

_LOOSE = "net.netfilter.nf_conntrack_tcp_loose"


def conntrack_state(setting: Setting, packet: Packet) -> CtState:
    """NEW or INVALID, or of some ICMPv6 UNTRACKED: the state of a packet of which no connection is known.

    (net/netfilter/nf_conntrack_proto_tcp.c: tcp_valid_flags, tcp_new; nf_conntrack_proto_icmp.c)
    """
    if packet.proto == TCP:
        begins = _tcp(packet.flags, setting.host.sysctls.get(_LOOSE, DEFAULTS[_LOOSE]) != 0)
    elif packet.family is Family.IPV6:
        return _state6(packet)
    elif packet.proto == ICMP:
        begins = packet.icmp_type in NEW_ICMP_TYPES
    elif packet.proto == ICMPV6:
        begins = (
            False  # (net/netfilter/nf_conntrack_proto_icmpv6.c: nf_conntrack_icmpv6_packet asks for IPv6)
        )
    else:
        begins = True
    return CtState.NEW if begins else CtState.INVALID


def _state6(packet: Packet) -> CtState:
    """(net/netfilter/nf_conntrack_proto_icmpv6.c: nf_conntrack_icmpv6_error, icmpv6_pkt_to_tuple; what has no next header has
    no protocol to track, nf_conntrack_core.c: get_l4proto)"""
    if packet.proto == ICMPV6 and packet.icmp_type in UNTRACKED_ICMP6_TYPES:
        return CtState.UNTRACKED
    # IPv4's ICMP is none of IPv6's (net/netfilter/nf_conntrack_proto_icmp.c: nf_conntrack_icmp_packet).
    invalid = packet.proto in (NO_NEXT_HEADER, ICMP) or (
        packet.proto == ICMPV6 and packet.icmp_type not in NEW_ICMP6_TYPES
    )
    return CtState.INVALID if invalid else CtState.NEW


NO_NEXT_HEADER = 59


def begun(packet: Packet) -> Connection:
    """What conntrack makes of the first packet of a connection (net/netfilter/nf_conntrack_core.c: init_conntrack)."""
    original = Ends(packet.src, packet.dst, packet.sport, packet.dport)
    reply = Ends(packet.dst, packet.src, packet.dport, packet.sport)
    return Connection(packet.proto, original, reply)


def confirmed(packet: Packet) -> Packet:
    """The packet with its connection in the table, if it has one (net/netfilter/nf_conntrack_core.c: __nf_conntrack_confirm)."""
    known = packet.connection
    if known is None:
        return packet
    return replace(packet, connection=replace(known, status=known.status | CONFIRMED))


def _tcp(flags: int, loose: bool) -> bool:
    """A SYN begins a connection, and where conntrack is loose so does an ACK from the middle of one."""
    seen = flags & CT_FLAGS & ~TcpFlag.URG
    return seen == TcpFlag.SYN or (loose and seen == TcpFlag.ACK)


REGISTERING = (
    r.Redirect,
    r.Dnat,
    r.Snat,
    r.Masquerade,
    r.Netmap,
    r.SetConnMark,
    r.SaveMark,
    r.RestoreMark,
    r.TrackAs,
)
"""Targets that need conntrack: NOTRACK is not one of them (net/netfilter/xt_CT.c: xt_ct_tg_check)."""

COUNTING = ("connlimit", "connbytes", "connlabel", "cluster", "helper")
"""Modules that need conntrack to answer."""


@of_the_latest
def is_on(rules: r.RuleSet) -> bool | None:
    """True iff some rule, called or not, needs conntrack; None where one that we do not understand may.

    A match or target registers for connection tracking when it is loaded, and only then are the packets of
    the namespace tracked and shown to nat (net/netfilter/nf_conntrack_proto.c: nf_ct_netns_get).
    """
    loaded = [
        rule for table in rules.tables.values() for chain in table.chains.values() for rule in chain.rules
    ]
    if any(isinstance(rule.target, REGISTERING) for rule in loaded):
        return True
    matches = [literal.match for rule in loaded for literal in rule.literals]
    if any(isinstance(match, r.CtStates | r.Conntrack | r.ConnMark) for match in matches):
        return True
    if any(isinstance(match, r.Chance) and match.module in COUNTING for match in matches):
        return True
    unread = any(isinstance(match, r.Opaque) for match in matches)
    return None if unread or any(isinstance(rule.target, r.OpaqueTarget) for rule in loaded) else False
