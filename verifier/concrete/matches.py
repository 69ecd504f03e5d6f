"""What each match asks of one packet.

Negation is not told here: `Literal` does that once for all, but for owner, which negates its criteria.
"""

from __future__ import annotations

from typing import assert_never

from .. import rules as r
from ..packets import Packet
from ..values import ICMP, PORT_PROTOCOLS, TCP, Ids, Span


def holds(match: r.Match, packet: Packet) -> bool:
    """True iff the packet matches; raises AssertionError for Opaque, which is a choice and no fact.

    A match on a field of another protocol's header is false, as its rule's own `-p` would make it.
    """
    match match:
        case r.Source(net):
            return packet.src & net.mask == net.address
        case r.Destination(net):
            return packet.dst & net.mask == net.address
        case r.InInterface(iface):
            return _named(iface.pattern, packet.in_iface)
        case r.OutInterface(iface):
            return _named(iface.pattern, packet.out_iface)
        case r.Protocol(number):
            return packet.proto == number
        case r.SourcePorts(span):
            return _has_ports(packet) and _within(packet.sport, span)
        case r.DestinationPorts(span):
            return _has_ports(packet) and _within(packet.dport, span)
        case r.TcpFlags(mask, wanted):
            return packet.proto == TCP and packet.flags & mask == wanted
        case r.IcmpType(type_, code):
            return packet.proto == ICMP and _icmp(packet, type_, code)
        case r.MultiportSources(spans):
            return _has_ports(packet) and any(_within(packet.sport, s) for s in spans)
        case r.MultiportDestinations(spans):
            return _has_ports(packet) and any(_within(packet.dport, s) for s in spans)
        case r.MultiportPorts(spans):
            return _has_ports(packet) and any(
                _within(packet.sport, s) or _within(packet.dport, s) for s in spans
            )
        case r.OwnerIds():
            return _owned(match, packet)
        case r.CtStates(states):
            return packet.ctstate in states
        case r.Mark(mark):
            # The value is not masked: 0x3/0x1 never matches (net/netfilter/xt_mark.c: mark_mt).
            return packet.mark & mark.mask == mark.value
        case (
            r.Opaque() | r.TcpOption() | r.SctpChunks() | r.DccpTypes() | r.DccpOption() | r.Icmp6Type() | r.Esp() | r.Ah()
            | r.Ipv6Header() | r.SourceRange() | r.DestinationRange() | r.Length() | r.Ttl() | r.Tos() | r.Dscp()
            | r.PacketType() | r.MacSource() | r.Conntrack() | r.ConnMark() | r.AddressType() | r.MatchSet()
            | r.ReversePath() | r.SocketMatch() | r.Physdev() | r.Chance()
        ):  # fmt: skip
            raise AssertionError(f"whether {match} matches is a choice, to be made at each evaluation")
        case _:
            assert_never(match)


def is_choice(match: r.Match) -> bool:
    """True iff nothing that a packet carries decides it: each evaluation is a new choice."""
    match match:
        case (
            r.Source() | r.Destination() | r.InInterface() | r.OutInterface() | r.Protocol() | r.SourcePorts()
            | r.DestinationPorts() | r.TcpFlags() | r.IcmpType() | r.MultiportSources() | r.MultiportDestinations()
            | r.MultiportPorts() | r.Mark()
        ):  # fmt: skip
            return False
        case r.OwnerIds():
            return match.socket_exists
        case r.CtStates(_, nat):
            return bool(nat)
        case (
            r.Opaque() | r.TcpOption() | r.SctpChunks() | r.DccpTypes() | r.DccpOption() | r.Icmp6Type() | r.Esp() | r.Ah()
            | r.Ipv6Header() | r.SourceRange() | r.DestinationRange() | r.Length() | r.Ttl() | r.Tos() | r.Dscp()
            | r.PacketType() | r.MacSource() | r.Conntrack() | r.ConnMark() | r.AddressType() | r.MatchSet()
            | r.ReversePath() | r.SocketMatch() | r.Physdev() | r.Chance()
        ):  # fmt: skip
            return True
        case _:
            assert_never(match)


def _named(pattern: str, name: str | None) -> bool:
    """The kernel compares a packet without an interface as if its name were empty
    (net/ipv4/netfilter/ip_tables.c: ip_packet_match, nulldevname)."""
    known = name or ""
    if pattern.endswith("+"):
        return known.startswith(pattern[:-1])
    return known == pattern


def _has_ports(packet: Packet) -> bool:
    return packet.proto in PORT_PROTOCOLS


def _within(number: int, span: Span | Ids) -> bool:
    return span.first <= number <= span.last


def _icmp(packet: Packet, type_: int | None, code: int | None) -> bool:
    """(net/ipv4/netfilter/ip_tables.c: icmp_type_code_match)"""
    if type_ is None:
        return True
    return packet.icmp_type == type_ and (code is None or packet.icmp_code == code)


def _owned(owner: r.OwnerIds, packet: Packet) -> bool:
    """With a socket every given criterion must hold; without one every given criterion must be negated
    (net/netfilter/xt_owner.c: owner_mt)."""
    if packet.uid is None or packet.gid is None:
        return (owner.uid is None or owner.uid_negated) and (owner.gid is None or owner.gid_negated)
    if owner.uid is not None and _within(packet.uid, owner.uid) == owner.uid_negated:
        return False
    return owner.gid is None or _within(packet.gid, owner.gid) != owner.gid_negated
