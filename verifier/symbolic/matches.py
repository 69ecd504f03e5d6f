"""When a match holds, as a formula over all packets."""

from __future__ import annotations

from typing import assert_never

from .. import rules as r
from ..values import ICMP, PORT_PROTOCOLS, TCP, Ids, Net, Span
from .packets import Names, SymPacket
from .terms import Bool, Bv


def holds(match: r.Match, p: SymPacket, names: Names) -> Bool:
    """The packets for which `match`, taken un-negated, is true; an opaque one is not asked here."""
    t = p.terms
    match match:
        case r.Source(net):
            return within(p.src, net)
        case r.Destination(net):
            return within(p.dst, net)
        case r.InInterface(iface):
            return named(p.in_iface, iface.pattern, names)
        case r.OutInterface(iface):
            return named(p.out_iface, iface.pattern, names)
        case r.Protocol(number):
            return p.proto.is_(number)
        case r.SourcePorts(ports):
            return has_ports(p) & spans(p.sport, (ports,))
        case r.DestinationPorts(ports):
            return has_ports(p) & spans(p.dport, (ports,))
        case r.TcpFlags(mask, wanted):
            return p.proto.is_(TCP) & (p.flags & mask).is_(wanted)
        case r.IcmpType(kind, code):
            asked = [p.proto.is_(ICMP)]
            if kind is not None:
                asked.append(p.icmp_type.is_(kind))
            if code is not None:
                asked.append(p.icmp_code.is_(code))
            return t.all_of(asked)
        case r.MultiportSources(ports):
            return has_ports(p) & spans(p.sport, ports)
        case r.MultiportDestinations(ports):
            return has_ports(p) & spans(p.dport, ports)
        case r.MultiportPorts(ports):
            return has_ports(p) & (spans(p.sport, ports) | spans(p.dport, ports))
        case r.OwnerIds():
            return _owner(match, p)
        case r.CtStates(states):
            return t.any_of(p.ctstate.is_(int(s)) for s in sorted(states))
        case r.Mark(mark):
            return (p.mark & mark.mask).is_(mark.value)
        case (
            r.Opaque() | r.TcpOption() | r.SctpChunks() | r.DccpTypes() | r.DccpOption() | r.Icmp6Type() | r.Esp() | r.Ah()
            | r.Ipv6Header() | r.SourceRange() | r.DestinationRange() | r.Length() | r.Ttl() | r.Tos() | r.Dscp()
            | r.PacketType() | r.MacSource() | r.Conntrack() | r.ConnMark() | r.AddressType() | r.MatchSet()
            | r.ReversePath() | r.SocketMatch() | r.Physdev() | r.Chance()
        ):  # fmt: skip
            raise AssertionError("a choice has no formula: chains.py asks it anew each time")
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


def _owner(match: r.OwnerIds, p: SymPacket) -> Bool:
    t = p.terms
    with_socket = []
    all_negated = True
    for field, ids, negated in ((p.uid, match.uid, match.uid_negated), (p.gid, match.gid, match.gid_negated)):
        if ids is None:
            continue
        inside = among(field, ids)
        with_socket.append(~inside if negated else inside)
        all_negated = all_negated and negated
    owned = p.socket & t.all_of(with_socket)
    return owned | ~p.socket if all_negated else owned


def within(field: Bv, net: Net) -> Bool:
    """The address lies in the network: its prefix is cut out and compared; a mask with holes, piece by piece."""
    pieces = []
    low = 0
    while low < 32:
        if not net.mask >> low & 1:
            low += 1
            continue
        high = low
        while high < 31 and net.mask >> (high + 1) & 1:
            high += 1
        wanted = net.address >> low & ((1 << (high - low + 1)) - 1)
        pieces.append(field.extract(high, low).is_(wanted))
        low = high + 1
    return field.terms.all_of(pieces)


def among(field: Bv, ids: Ids) -> Bool:
    if ids.first == ids.last:
        return field.is_(ids.first)
    return field.at_least(ids.first) & field.at_most(ids.last)


def spans(field: Bv, ports: tuple[Span, ...]) -> Bool:
    return field.terms.any_of(
        field.is_(s.first) if s.first == s.last else field.at_least(s.first) & field.at_most(s.last)
        for s in ports
    )


def has_ports(p: SymPacket) -> Bool:
    return p.terms.any_of(p.proto.is_(number) for number in sorted(PORT_PROTOCOLS))


def named(field: Bv, pattern: str, names: Names) -> Bool:
    """The interface is one whose name the pattern matches; index 0 has the empty name."""
    stem = pattern.removesuffix("+")
    fitting = [
        i
        for i, name in enumerate(names.interfaces)
        if (name[: len(stem)] == stem if stem != pattern else name == pattern)
    ]
    if len(fitting) == len(names.interfaces):
        return field.terms.true
    return field.terms.any_of(field.is_(i) for i in fitting)
