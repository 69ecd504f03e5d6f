"""When a match holds, as a formula over all packets."""

from __future__ import annotations

from typing import assert_never

from .. import rules as r
from ..packets import DST_NAT, SCTP_FLAGS, SRC_NAT
from ..values import (
    AH,
    DCCP,
    ESP,
    ICMP,
    ICMPV6,
    PORT_PROTOCOLS,
    SCTP,
    TCP,
    Family,
    Ids,
    Ipv6Extension,
    Net,
    Span,
)
from .packets import Names, SymConnection, SymPacket
from .terms import Bool, Bv


def holds(match: r.Match, p: SymPacket, names: Names) -> Bool:
    """The packets for which `match`, taken un-negated, is true; what the host decides is asked in lookups.py,
    and a choice is not asked here.
    """
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
        case r.Fragment():
            return t.false
        case r.SourcePorts(ports):
            return has_ports(p) & spans(p.sport, (ports,))
        case r.DestinationPorts(ports):
            return has_ports(p) & spans(p.dport, (ports,))
        case r.TcpFlags(mask, wanted):
            return p.proto.is_(TCP) & (p.flags & mask).is_(wanted)
        case r.TcpOption(number):
            return p.proto.is_(TCP) & has_bit(p.field("tcp_options"), number)
        case r.SctpChunks(how, chunks, flags):
            return p.proto.is_(SCTP) & (
                _flagged(p, match) if flags else _chunks(p.field("sctp_chunks"), how, chunks)
            )
        case r.DccpTypes(types):
            return p.proto.is_(DCCP) & t.any_of(p.field("dccp_type").is_(kind) for kind in sorted(types))
        case r.DccpOption(number):
            return p.proto.is_(DCCP) & has_bit(p.field("dccp_options"), number)
        case r.IcmpType(kind, code, last):
            return _icmp(p, ICMP, kind, code, last)
        case r.Icmp6Type(kind, code, last):
            return _icmp(p, ICMPV6, kind, code, last)
        case r.Esp(first, last):
            return p.proto.is_(ESP) & between(p.field("spi"), first, last)
        case r.Ah(first, last, negated):
            inside = between(p.field("spi"), first, last)
            return _has_ah(p) & (~inside if negated else inside)
        case r.Ipv6Header(headers, soft):
            found = p.field("extensions")
            return (found & headers if soft else found).is_(headers)
        case r.MultiportSources(ports):
            return has_ports(p) & spans(p.sport, ports)
        case r.MultiportDestinations(ports):
            return has_ports(p) & spans(p.dport, ports)
        case r.MultiportPorts(ports):
            return has_ports(p) & (spans(p.sport, ports) | spans(p.dport, ports))
        case r.SourceRange(first, last):
            return between(p.src, first, last)
        case r.DestinationRange(first, last):
            return between(p.dst, first, last)
        case r.Length(first, last):
            return between(p.field("length"), first, last)
        case r.Ttl(comparison, value):
            return _compared(p.field("ttl"), comparison, value)
        case r.Tos(value, mask):
            return (p.field("tos") & mask).is_(value)
        case r.Dscp(value):
            return p.field("tos").extract(7, 2).is_(value)
        case r.PacketType(kind):
            return p.field("kind").is_(kind.value)
        case r.MacSource(address, negated):
            mac = p.field("mac")
            same = mac.extract(47, 0).is_(address)
            return mac.extract(48, 48).is_(0) & (~same if negated else same)
        case r.OwnerIds():
            if match.supplementary:
                raise AssertionError("the host tells the groups: lookups.py asks there")
            return _owner(match, p)
        case r.CtStates():
            return _state(match, p)
        case r.Conntrack(tests):
            return _conntrack(tests, p)
        case r.ConnMark(mark, negated):
            connection = p.known()
            same = (connection.mark & mark.mask).is_(mark.value)
            return connection.known & (~same if negated else same)
        case r.Mark(mark):
            return (p.mark & mark.mask).is_(mark.value)
        case r.Physdev():
            return t.truth(_without_bridge(match))
        case r.AddressType() | r.ReversePath() | r.SocketMatch() | r.MatchSet():
            raise AssertionError("the host decides it: lookups.py asks there")
        case r.Chance(_, _, certain) if certain is not None:
            return t.truth(certain)
        case r.Opaque() | r.Chance() | r.OwnerNames():
            raise AssertionError("a choice has no formula: chains.py asks it anew each time")
        case _:
            assert_never(match)


def is_choice(match: r.Match) -> bool:
    """True iff neither what a packet carries nor the host decides it: each evaluation is a new choice."""
    match match:
        case (
            r.Source() | r.Destination() | r.InInterface() | r.OutInterface() | r.Protocol() | r.Fragment() | r.SourcePorts()
            | r.DestinationPorts() | r.TcpFlags() | r.TcpOption() | r.SctpChunks() | r.DccpTypes() | r.DccpOption()
            | r.IcmpType() | r.Icmp6Type() | r.Esp() | r.Ah() | r.Ipv6Header() | r.MultiportSources()
            | r.MultiportDestinations() | r.MultiportPorts() | r.SourceRange() | r.DestinationRange() | r.Length()
            | r.Ttl() | r.Tos() | r.Dscp() | r.PacketType() | r.MacSource() | r.OwnerIds() | r.CtStates()
            | r.ConnMark() | r.Mark() | r.AddressType() | r.ReversePath() | r.SocketMatch() | r.MatchSet() | r.Physdev()
        ):  # fmt: skip
            return False
        case r.Conntrack(tests):
            return any(isinstance(test.criterion, r.CtExpire) for test in tests)
        case r.Chance(_, _, certain):
            return certain is None
        case r.Opaque() | r.OwnerNames():
            return True
        case _:
            assert_never(match)


def _owner(match: r.OwnerIds, p: SymPacket) -> Bool:
    t = p.terms
    with_socket = []
    all_negated = match.socket_negated or not match.socket_exists
    for field, ids, negated in ((p.uid, match.uid, match.uid_negated), (p.gid, match.gid, match.gid_negated)):
        if ids is None:
            continue
        inside = among(field, ids)
        with_socket.append(~inside if negated else inside)
        all_negated = all_negated and negated
    owned = t.false if match.socket_negated else p.socket & t.all_of(with_socket)
    return owned | ~p.socket if all_negated else owned


def _icmp(p: SymPacket, proto: int, kind: int | None, code: int | None, last: int | None) -> Bool:
    asked = [p.proto.is_(proto)]
    if kind is not None:
        asked.append(p.icmp_type.is_(kind))
    if code is not None:
        asked.append(p.icmp_code.is_(code) if last is None else between(p.icmp_code, code, last))
    return p.terms.all_of(asked)


def _has_ah(p: SymPacket) -> Bool:
    """IPv4: the protocol is AH; IPv6: one of the extension headers is (ip6t_ah.c: ah_mt6)."""
    if p.family is Family.IPV4:
        return p.proto.is_(AH)
    return ~(p.field("extensions") & int(Ipv6Extension.AUTH)).is_(0)


def _chunks(found: Bv, how: str, chunks: frozenset[int]) -> Bool:
    listed = sum(1 << chunk for chunk in chunks)
    match how:
        case "any":
            return ~(found & listed).is_(0)
        case "all":
            return (found & listed).is_(listed) & ~found.is_(0)
        case "only":
            others = (1 << 256) - 1 - listed
            return (found & others).is_(0) & ~found.is_(0)
        case _:
            raise AssertionError(f"{how} is no way to ask for chunks")


def _flagged(p: SymPacket, match: r.SctpChunks) -> Bool:
    """Of the types whose flags are asked for, the part of the field that has their chunks by their flags."""
    t = p.terms
    found = p.field("sctp_chunks")
    plain = match.chunks - {f.chunk for f in match.flags}
    some, every = [], []
    for asked in match.flags:
        begin, bits = SCTP_FLAGS[asked.chunk]
        part = p.field("sctp_flags").extract(begin + (1 << bits) - 1, begin)
        right = sum(1 << n for n in range(1 << bits) if n & asked.mask == asked.value)
        bare, no_flags = part.is_(0), t.truth(asked.value == 0)
        there = has_bit(found, asked.chunk)
        some.append(there & (~(part & right).is_(0) | bare & no_flags))
        every.append(~there | ((part & ((1 << (1 << bits)) - 1 - right)).is_(0) & (~bare | no_flags)))
    match match.how:
        case "any":
            return t.any_of([_chunks(found, "any", plain), *some])
        case "all":
            return t.all_of([_chunks(found, "all", plain), *some])
        case _:
            return t.all_of([_chunks(found, "only", match.chunks), *every])


def _compared(field: Bv, comparison: r.Comparison, value: int) -> Bool:
    match comparison:
        case r.Comparison.EQUAL:
            return field.is_(value)
        case r.Comparison.LESS:
            return ~field.at_least(value)
        case r.Comparison.GREATER:
            return ~field.at_most(value)
        case _:
            assert_never(comparison)


def _without_bridge(match: r.Physdev) -> bool:
    """Nothing here is bridged: every criterion that is given is negated."""
    plain = [match.is_in, match.is_out, match.is_bridged]
    plain.append(match.inside is not None and not match.inside_negated)
    plain.append(match.outside is not None and not match.outside_negated)
    return not any(plain)


# -- connections


def _state(match: r.CtStates, p: SymPacket) -> Bool:
    """One of the states is the packet's, or one of the translations has been done to its connection."""
    some = [p.ctstate.is_(int(s)) for s in sorted(match.states)]
    if match.nat:
        found = p.known()
        bits = {r.Nat.SNAT: SRC_NAT, r.Nat.DNAT: DST_NAT}
        asked = sum(bits[n] for n in match.nat)
        some.append(found.known & ~(found.status & asked).is_(0))
    return p.terms.any_of(some)


def _conntrack(tests: tuple[r.CtTest, ...], p: SymPacket) -> Bool:
    """Without a connection the state alone is asked, and there must be such a question."""
    t = p.terms
    states: list[Bool] = []
    others: list[Bool] = []
    for test in tests:
        if isinstance(test.criterion, r.CtStates):
            true = _state(test.criterion, p)
            states.append(~true if test.negated else true)
        else:
            true = _criterion(test.criterion, p.known())
            others.append(~true if test.negated else true)
    if not others:
        return t.all_of(states)
    known = p.known().known
    with_it = known & t.all_of(others)
    return t.all_of(states) & (with_it | ~known) if states else with_it


def _criterion(criterion: r.CtCriterion, found: SymConnection) -> Bool:
    match criterion:
        case r.CtProtocol(number):
            return found.protocol.is_(number)
        case r.CtAddress(of, net):
            return within(_side(of, found)[0], net)
        case r.CtPorts(of, ports):
            return spans(_side(of, found)[1], (ports,))
        case r.CtStatus(bits):
            return ~(found.status & bits).is_(0)
        case r.CtDirection(reply):
            return found.is_reply if reply else ~found.is_reply
        case r.CtStates() | r.CtExpire():
            raise AssertionError("states need no connection, and with --ctexpire the whole is a choice")
        case _:
            assert_never(criterion)


def _side(of: r.CtEnd, found: SymConnection) -> tuple[Bv, Bv]:
    match of:
        case r.CtEnd.ORIGINAL_SOURCE:
            return found.original.src, found.original.sport
        case r.CtEnd.ORIGINAL_DESTINATION:
            return found.original.dst, found.original.dport
        case r.CtEnd.REPLY_SOURCE:
            return found.reply.src, found.reply.sport
        case r.CtEnd.REPLY_DESTINATION:
            return found.reply.dst, found.reply.dport
        case _:
            assert_never(of)


# -- fields


def has_bit(field: Bv, number: int) -> Bool:
    return field.extract(number, number).is_(1)


def between(field: Bv, first: int, last: int) -> Bool:
    if first == last:
        return field.is_(first)
    return field.at_least(first) & field.at_most(last)


def within(field: Bv, net: Net) -> Bool:
    """The address lies in the network: its prefix is cut out and compared; a mask with holes, piece by piece."""
    pieces = []
    ones = net.mask
    while ones:
        low = (ones & -ones).bit_length() - 1
        beyond = ones + (1 << low)  # The lowest run of ones is carried into the bit behind it.
        high = (ones ^ beyond).bit_length() - 2
        wanted = net.address >> low & ((1 << (high - low + 1)) - 1)
        pieces.append(field.extract(high, low).is_(wanted))
        ones &= beyond
    return field.terms.all_of(pieces)


def among(field: Bv, ids: Ids) -> Bool:
    return between(field, ids.first, ids.last)


def spans(field: Bv, ports: tuple[Span, ...]) -> Bool:
    return field.terms.any_of(between(field, s.first, s.last) for s in ports)


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
