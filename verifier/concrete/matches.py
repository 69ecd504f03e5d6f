"""What each match asks of one packet, and of the host that it is on.

Negation is not told here: `Literal` does that once for all, but for those matches that hold their own.
"""

from __future__ import annotations

from typing import assert_never

from .. import rules as r
from ..asked import counters_of, groups_of
from ..hosts import RouteKind
from ..packets import SCTP_FLAGS, Packet
from ..sets import Counting
from ..values import (
    AH,
    DCCP,
    ESP,
    ICMP,
    ICMPV6,
    PORT_PROTOCOLS,
    SCTP,
    TCP,
    UDP,
    Family,
    Ids,
    Ipv6Extension,
    Span,
)
from . import routing, routing6, sets, tracked
from .keys import Keys
from .routing import LOOPBACK_DEVICE, Roads
from .rules6 import Flow, lookup, preferably

QUOTING = (3, 4, 5, 11, 12)
"""ICMP errors: types that quote the packet that they are about (net/ipv4/netfilter/nf_socket_ipv4.c: extract_icmp4_fields)."""


QUOTING_6 = range(128)
"""The same of ICMPv6 (net/ipv6/netfilter/nf_socket_ipv6.c: extract_icmp6_fields)."""

BOTH = frozenset({True, False})

TYPES_6 = frozenset(
    {
        r.RouteType.UNSPEC, r.RouteType.UNICAST, r.RouteType.LOCAL, r.RouteType.ANYCAST, r.RouteType.MULTICAST,
        r.RouteType.UNREACHABLE,
    }
)  # fmt: skip
"""The types that IPv6 addresses have (net/netfilter/xt_addrtype.c: addrtype_mt_checkentry_v1)."""


def holds(match: r.Match, packet: Packet, road: Roads | None) -> bool:
    """True iff the packet matches; raises AssertionError for what is a choice and no fact (`is_choice`).

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
        case r.Fragment():
            return False
        case r.SourcePorts(span):
            return _has_ports(packet) and _within(packet.sport, span)
        case r.DestinationPorts(span):
            return _has_ports(packet) and _within(packet.dport, span)
        case r.TcpFlags(mask, wanted):
            return packet.proto == TCP and packet.flags & mask == wanted
        case r.TcpOption(number):
            return packet.proto == TCP and _has_bit(packet.tcp_options, number)
        case r.SctpChunks():
            return packet.proto == SCTP and _chunks(packet, match)
        case r.DccpTypes(types):
            return packet.proto == DCCP and packet.dccp_type in types
        case r.DccpOption(number):
            return packet.proto == DCCP and _has_bit(packet.dccp_options, number)
        case r.IcmpType(type_, code, last):
            return packet.proto == ICMP and _icmp(packet, type_, code, last)
        case r.Icmp6Type(type_, code, last):
            return packet.proto == ICMPV6 and _icmp(packet, type_, code, last)
        case r.Esp(first, last):
            return packet.proto == ESP and first <= packet.spi <= last
        case r.Ah(first, last, negated):
            return _authenticated(packet) and (first <= packet.spi <= last) != negated
        case r.Ipv6Header(headers, soft):
            # (net/ipv6/netfilter/ip6t_ipv6header.c: ipv6header_mt6)
            return (packet.extensions & headers if soft else packet.extensions) == headers
        case r.MultiportSources(spans):
            return _has_ports(packet) and any(_within(packet.sport, s) for s in spans)
        case r.MultiportDestinations(spans):
            return _has_ports(packet) and any(_within(packet.dport, s) for s in spans)
        case r.MultiportPorts(spans):
            return _has_ports(packet) and any(
                _within(packet.sport, s) or _within(packet.dport, s) for s in spans
            )
        case r.SourceRange(first, last):
            return first <= packet.src <= last
        case r.DestinationRange(first, last):
            return first <= packet.dst <= last
        case r.Length(first, last):
            return first <= packet.length <= last
        case r.Ttl(comparison, value):
            return _compared(packet.ttl, comparison, value)
        case r.Tos(value, mask):
            # The value is not masked here either (net/netfilter/xt_dscp.c: tos_mt).
            return packet.tos & mask == value
        case r.Dscp(value):
            return packet.tos >> 2 == value
        case r.PacketType(kind):
            return packet.kind is kind
        case r.MacSource(address, negated):
            return packet.mac is not None and (packet.mac == address) != negated
        case r.OwnerIds():
            return _owned(match, packet, road)
        case r.CtStates():
            return tracked.in_state(match, packet)
        case r.Conntrack(tests):
            return tracked.passes(tests, packet)
        case r.Mark(mark):
            # The value is not masked: 0x3/0x1 never matches (net/netfilter/xt_mark.c: mark_mt).
            return packet.mark & mark.mask == mark.value
        case r.ConnMark(mark, negated):
            if packet.connection is None:
                return False
            return (packet.connection.mark & mark.mask == mark.value) != negated
        case r.AddressType():
            return _typed(match, packet, _known(road))
        case r.ReversePath():
            return _comes_back(match, packet, _known(road)) != match.negated
        case r.SocketMatch():
            return _finds_socket(match, packet, _known(road))
        case r.Physdev():
            return _unbridged(match)
        case r.MatchSet(name):
            inside = _looked_up(match, packet, road)
            if inside is None or len(inside) > 1:
                raise AssertionError(
                    f"what is in {name} nobody knows: a choice, to be made at each evaluation"
                )
            return True in inside
        case r.Chance() if match.certain is not None:
            return match.certain
        case r.Chance() | r.Opaque() | r.OwnerNames():
            raise AssertionError(f"whether {match} matches is a choice, to be made at each evaluation")
        case _:
            assert_never(match)


def is_choice(match: r.Match, packet: Packet, road: Roads | None) -> bool:
    """True iff neither the packet nor the host decides it: each evaluation is a new choice.

    `road` is None where nobody knows the host, nor whether packets come whole.
    """
    match match:
        case r.Chance():
            return match.certain is None
        case r.Opaque() | r.OwnerNames():
            return True
        case r.MatchSet():
            inside = _looked_up(match, packet, road)
            return inside is None or len(inside) > 1
        case r.Conntrack(tests):
            return any(isinstance(test.criterion, r.CtExpire) for test in tests)
        case r.AddressType():
            types = match.source | match.destination
            unknown = packet.family is Family.IPV6 and not types <= TYPES_6
            return road is None or unknown
        case r.ReversePath():
            return road is None or _which_header_is_first(packet, road)
        case r.Fragment():
            return road is None
        case r.OwnerIds():
            return match.supplementary and road is None
        case r.SocketMatch():
            if road is None:
                return True
            if packet.family is Family.IPV6 and packet.proto == ICMPV6:
                return packet.icmp_type in QUOTING_6
            if packet.family is not Family.IPV6 and packet.proto == ICMP:
                return packet.icmp_type in QUOTING
            return False
        case (
            r.Source() | r.Destination() | r.InInterface() | r.OutInterface() | r.Protocol() | r.SourcePorts()
            | r.DestinationPorts() | r.TcpFlags() | r.TcpOption() | r.SctpChunks() | r.DccpTypes() | r.DccpOption()
            | r.IcmpType() | r.Icmp6Type() | r.Esp() | r.Ah() | r.Ipv6Header() | r.MultiportSources()
            | r.MultiportDestinations() | r.MultiportPorts() | r.SourceRange() | r.DestinationRange() | r.Length() | r.Ttl()
            | r.Tos() | r.Dscp() | r.PacketType() | r.MacSource() | r.CtStates() | r.Mark() | r.ConnMark()
            | r.Physdev()
        ):  # fmt: skip
            return False
        case _:
            assert_never(match)


# -- header fields --------------------------------------------------------------------------------


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


def _icmp(packet: Packet, type_: int | None, code: int | None, last: int | None) -> bool:
    """(net/ipv4/netfilter/ip_tables.c: icmp_type_code_match)"""
    if type_ is None:
        return True
    if packet.icmp_type != type_:
        return False
    return code is None or code <= packet.icmp_code <= (code if last is None else last)


def _has_bit(options: int, number: int) -> bool:
    return options >> number & 1 == 1


def _chunks(packet: Packet, asked: r.SctpChunks) -> bool:
    """`only` allows no other chunk than the listed ones, and wants none of them in particular (observed; a packet without any
    is malformed: net/netfilter/xt_sctp.c: match_packet)."""
    present = [kind for kind in range(256) if packet.sctp_chunks >> kind & 1]
    good = {kind: _flags_fit(packet, kind, asked) for kind in present}
    match asked.how:
        case "any":
            return any(kind in asked.chunks and True in good[kind] for kind in present)
        case "all":
            return all(kind in good and True in good[kind] for kind in asked.chunks) and bool(present)
        case "only":
            return bool(present) and all(kind in asked.chunks and False not in good[kind] for kind in present)
        case _:
            raise AssertionError(f"{asked.how} is none of any, all and only")


def _flags_fit(packet: Packet, kind: int, asked: r.SctpChunks) -> set[bool]:
    """Whether the flags are as asked, of each chunk of this kind (net/netfilter/xt_sctp.c: match_flags)."""
    wanted = next((flags for flags in asked.flags if flags.chunk == kind), None)
    if wanted is None:
        return {True}
    begin, bits = SCTP_FLAGS[kind]
    there = [n for n in range(1 << bits) if packet.sctp_flags >> (begin + n) & 1] or [0]
    return {n & wanted.mask == wanted.value for n in there}


def _authenticated(packet: Packet) -> bool:
    """An IPv6 packet has its AH among the extension headers, and the protocol of what follows
    (net/ipv6/netfilter/ip6t_ah.c: ah_mt6)."""
    if packet.family is Family.IPV6:
        return packet.extensions & Ipv6Extension.AUTH != 0
    return packet.proto == AH


def _compared(number: int, comparison: r.Comparison, value: int) -> bool:
    match comparison:
        case r.Comparison.EQUAL:
            return number == value
        case r.Comparison.LESS:
            return number < value
        case r.Comparison.GREATER:
            return number > value
        case _:
            assert_never(comparison)


def _owned(owner: r.OwnerIds, packet: Packet, road: Roads | None) -> bool:
    """With a socket every given criterion must hold; without one every given criterion must be negated
    (net/netfilter/xt_owner.c: owner_mt)."""
    if packet.uid is None or packet.gid is None:
        criteria = (
            (owner.uid is not None, owner.uid_negated),
            (owner.gid is not None, owner.gid_negated),
            (owner.socket_exists, owner.socket_negated),
        )
        return not owner.supplementary and all(negated for given, negated in criteria if given)
    if owner.socket_negated:
        return False
    if owner.uid is not None and _within(packet.uid, owner.uid) == owner.uid_negated:
        return False
    if owner.gid is None:
        return True
    its = [packet.gid, *_supplementary(packet, _known(road))] if owner.supplementary else [packet.gid]
    return any(_within(group, owner.gid) for group in its) != owner.gid_negated


def _supplementary(packet: Packet, road: Roads) -> tuple[int, ...]:
    known = groups_of(road.host)
    return known[packet.groups] if packet.groups < len(known) else ()


def _unbridged(match: r.Physdev) -> bool:
    """Nothing is bridged here (net/netfilter/xt_physdev.c: physdev_mt, without nf_bridge info)."""
    if (match.inside is not None and not match.inside_negated) or (
        match.outside is not None and not match.outside_negated
    ):
        return False
    return True not in (match.is_in, match.is_out, match.is_bridged)


# -- what the host decides ------------------------------------------------------------------------


def _looked_up(match: r.MatchSet, packet: Packet, road: Roads | None) -> frozenset[bool] | None:
    """Whether it holds: both where entries' counters decide, or entries that may have gone.  None where nobody knows what is in
    the set, or the packet does not tell what it is asked for."""
    if road is None or match.name not in road.host.sets:
        return None
    known, counts = road.host.sets, counters_of(match, road.host)
    if counts is Counting.UNKNOWN:
        return None
    inside = sets.holds(known[match.name], known, packet, match.directions, match.return_nomatch)
    return BOTH if counts is Counting.COUNTERS and inside != sets.NO else inside


def _known(road: Roads | None) -> Roads:
    assert road is not None, "of a host that nobody knows this is a choice"
    return road


def _typed(match: r.AddressType, packet: Packet, road: Roads) -> bool:
    """(net/netfilter/xt_addrtype.c: addrtype_mt_v1)"""
    device = None
    if match.limit is r.Limit.IN:
        device = packet.in_iface
    elif match.limit is r.Limit.OUT:
        device = packet.out_iface
    if packet.family is Family.IPV6:
        return all(
            _typed6(road, address, types, device) != negated
            for address, types, negated in (
                (packet.src, match.source, match.source_negated),
                (packet.dst, match.destination, match.destination_negated),
            )
            if types
        )
    if match.source:
        kind = _route_type(road, packet.src, device)
        if (kind in match.source) == match.source_negated:
            return False
    if match.destination:
        kind = _route_type(road, packet.dst, device)
        return (kind in match.destination) != match.destination_negated
    return True


def _route_type(road: Roads, address: int, device: str | None) -> r.RouteType:
    """What the local table alone says, with a device only its own entries (net/ipv4/fib_frontend.c: __inet_dev_addr_type)."""
    if address in (0, routing.BROADCAST):
        return r.RouteType.BROADCAST
    if routing.is_multicast(address):
        return r.RouteType.MULTICAST
    entry = routing.local_entry(road, address)
    if entry is None or (device is not None and device not in entry.devices):
        return r.RouteType.UNICAST
    return r.RouteType.BROADCAST if entry.broadcast else r.RouteType.LOCAL


def _typed6(road: Roads, address: int, types: frozenset[r.RouteType], device: str | None) -> bool:
    """(net/netfilter/xt_addrtype.c: match_type6)"""
    multicast = routing6.is_multicast(address)
    if r.RouteType.MULTICAST in types and not multicast:
        return False
    if r.RouteType.UNICAST in types and (multicast or address == 0 or routing6.is_mapped(address)):
        return False
    if r.RouteType.UNSPEC in types and address != 0:
        return False
    looked_up = types & {r.RouteType.LOCAL, r.RouteType.ANYCAST, r.RouteType.UNREACHABLE}
    return not looked_up or bool(looked_up & _kinds(road, address, device))


def _kinds(road: Roads, address: int, device: str | None) -> set[r.RouteType]:
    """What a lookup says of an address (net/netfilter/xt_addrtype.c: match_lookup_rt6)."""
    if routing6.output(road, address, device) is None:
        return {r.RouteType.UNREACHABLE}
    found: set[r.RouteType] = set()
    its = road.owners.get(address, ())
    if device in its or (device is None and routing6.is_taken(road, address)):
        found.add(r.RouteType.LOCAL)
    if routing6.reads_as_anycast(road, address, device):
        found.add(r.RouteType.ANYCAST)
    return found


def _comes_back(match: r.ReversePath, packet: Packet, road: Roads) -> bool:
    """A reply would leave by the in-interface (net/ipv4/netfilter/ipt_rpfilter.c: rpfilter_mt, rpfilter_lookup_reverse)."""
    if packet.in_iface == LOOPBACK_DEVICE:
        return True
    if packet.family is Family.IPV6:
        return _comes_back6(match, packet, road)
    if packet.src == 0 and (packet.dst == routing.BROADCAST or packet.dst >> 8 == 0xE00000):
        return True
    # A reply does not come from a group or from nowhere (net/ipv4/netfilter/ipt_rpfilter.c: rpfilter_get_saddr).
    odd = routing.is_multicast(packet.dst) or packet.dst in (0, routing.BROADCAST)
    # Neither the protocol nor ports are told, and the uid is that of nobody's socket (rpfilter_mt).
    asked = Keys(packet.mark if match.valid_mark else 0, tos=packet.tos)
    back = routing.Flow(packet.src, 0 if odd else packet.dst, asked)
    first = routing.said_first(road, back)
    entry = routing.local_entry(road, packet.src) if first is None else None
    if entry is not None:
        if entry.broadcast or not match.accept_local:
            return False
        return match.loose or packet.in_iface in entry.devices
    route = routing.lookup(road, back) if first is None else first.route
    if route is None or route.device is None or (route.kind is RouteKind.LOCAL and not match.accept_local):
        return False
    return match.loose or route.device == packet.in_iface


def _comes_back6(match: r.ReversePath, packet: Packet, road: Roads) -> bool:
    """(net/ipv6/netfilter/ip6t_rpfilter.c: rpfilter_mt, rpfilter_lookup_reverse6)"""
    src = packet.src
    if src == 0:
        return True
    device = packet.in_iface if routing6.is_link_local(src) else None
    if any(device in (None, name) for name in road.owners.get(src, ())):
        return match.accept_local
    if any(device in (None, name) for name in road.anycasts.get(src, ())):
        return False
    dst = packet.dst
    odd = dst == 0 or routing6.is_multicast(dst) or routing6.is_mapped(dst)
    # The protocol is that of the IPv6 header (rpfilter_lookup_reverse6); no ports are told.
    keys = Keys(packet.mark if match.valid_mark else 0, proto=packet.proto)
    asked = None if match.loose and device is None else packet.in_iface
    back = Flow(src, None if odd else dst, keys, out_iface=asked, device=device)
    route = lookup(road, back, preferably)
    if route is None or route.device is None:
        return False
    if route.kind is RouteKind.LOCAL:
        return match.accept_local
    return match.loose or route.device == packet.in_iface


def _which_header_is_first(packet: Packet, road: Roads) -> bool:
    """True iff routing rules ask for a protocol, which of IPv6 is the number of the first extension header
    (net/ipv6/netfilter/ip6t_rpfilter.c: rpfilter_lookup_reverse6)."""
    extended = packet.family is Family.IPV6 and packet.extensions & EXTENDED
    return bool(extended) and any(rule.protocol is not None for rule in road.host.routing_rules)


EXTENDED = Ipv6Extension.HOP | Ipv6Extension.DST | Ipv6Extension.ROUTE | Ipv6Extension.AUTH


def _finds_socket(match: r.SocketMatch, packet: Packet, road: Roads) -> bool:
    """A listener, found by addresses and ports alone, whatever the TCP flags; one of any address does not count
    without `nowildcard` (net/netfilter/xt_socket.c: socket_match; net/ipv4/inet_hashtables.c: __inet_lookup)."""
    if packet.proto not in (TCP, UDP):
        return False
    found = routing.listening(road, packet, packet.in_iface)
    if found is None or (match.transparent and not found[1].transparent):
        return False
    return match.nowildcard or found[1].address is not None
