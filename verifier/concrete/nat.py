"""Where the NAT targets translate to, and what that makes of the packet and its connection."""

from __future__ import annotations

from typing import TypeAlias, assert_never

from msgspec import Struct
from msgspec.structs import replace

from .. import rules as r
from ..hooks import Hook
from ..journeys import NO_ADDRESS, NO_SOURCE, SOURCE_SELECTION, Lost, Unmodelled
from ..packets import DST_NAT, SRC_NAT, Packet
from ..values import PORT_PROTOCOLS, Family, Span
from . import routing, routing6
from .routing import Roads

LOCALHOST = 0x7F000001

MISPLACED = "a NAT target where the kernel loads none"
TO_ZERO = "a translation to address 0"
WHICH_ADDRESS = "which address MASQUERADE takes"

Drawn: TypeAlias = tuple[int | None, int | None]
"""The address and the port that a target takes where it has a choice; None, or one that it cannot take: the first, or the
packet's own."""


class _Range(Struct, frozen=True):
    """What a target leaves to choose (include/uapi/linux/netfilter/nf_nat.h: struct nf_nat_range2)."""

    first: int
    last: int
    ports: Span | None = None
    random: bool = False
    base: int | None = None
    keeps: bool = True
    """Whether a port in the range is kept though the address is another."""


def translated(
    target: r.Redirect | r.Dnat | r.Snat | r.Masquerade | r.Netmap,
    packet: Packet,
    hook: Hook,
    table: str,
    road: Roads,
    drawn: Drawn,
) -> Packet | Lost | Unmodelled:
    """The packet after the target, or why there is none."""
    if table != "nat" or hook not in _hooks(target):
        return Unmodelled(MISPLACED)
    of_source = hook in (Hook.POSTROUTING, Hook.INPUT)
    own = packet.src if of_source else packet.dst
    ipv6 = packet.family is Family.IPV6
    match target:
        case r.Redirect(ports, choice):
            here = (_here6 if ipv6 else _here)(packet, hook, road)
            if here is None:
                return Lost(NO_ADDRESS)
            return _towards(packet, _Range(here, here, ports, choice is not None), drawn)
        case r.Dnat(to, choice):
            if _holds_zero(to):
                return Unmodelled(TO_ZERO)
            return _towards(packet, _range(to, own, choice), drawn)
        case r.Snat(to, choice):
            if _holds_zero(to):
                return Unmodelled(TO_ZERO)
            within = replace(_range(to, own, choice), base=None, keeps=to.base is None)
            return _from(packet, within, drawn)
        case r.Masquerade(ports, choice):
            if packet.src == 0 and not ipv6:
                return packet
            source = _sends_from6(packet, road) if ipv6 else _sends_from(packet, road)
            if isinstance(source, Unmodelled):
                return source
            if source is None:
                return Lost(NO_SOURCE)
            return _from(packet, _Range(source, source, ports, choice is not None), drawn)
        case r.Netmap(net):
            # (net/netfilter/xt_NETMAP.c: netmap_tg4)
            mapped = own & ~net.mask | net.address
            if mapped == 0:
                return Unmodelled(TO_ZERO)
            only = _Range(mapped, mapped)
            return _from(packet, only, drawn) if of_source else _towards(packet, only, drawn)
        case _:
            assert_never(target)


def _hooks(target: r.Redirect | r.Dnat | r.Snat | r.Masquerade | r.Netmap) -> tuple[Hook, ...]:
    """(net/netfilter/xt_REDIRECT.c, xt_nat.c, xt_MASQUERADE.c, xt_NETMAP.c: the `hooks` of each)"""
    match target:
        case r.Redirect() | r.Dnat():
            return (Hook.PREROUTING, Hook.OUTPUT)
        case r.Snat():
            return (Hook.POSTROUTING, Hook.INPUT)
        case r.Masquerade():
            return (Hook.POSTROUTING,)
        case r.Netmap():
            return (Hook.PREROUTING, Hook.OUTPUT, Hook.POSTROUTING, Hook.INPUT)
        case _:
            assert_never(target)


def _holds_zero(to: r.NatRange) -> bool:
    """True iff address 0 is among those that the kernel may take."""
    if to.first is None or to.last is None:
        return False
    return to.first == 0 or to.last < to.first


def _range(to: r.NatRange, own: int, choice: r.PortChoice | None) -> _Range:
    if to.first is None or to.last is None:
        return _Range(own, own, to.ports, choice is not None, to.base)
    return _Range(to.first, to.last, to.ports, choice is not None, to.base)


# -- addresses ------------------------------------------------------------------------------------


def _here(packet: Packet, hook: Hook, road: Roads) -> int | None:
    """Where REDIRECT leads: localhost for what is sent, the first address of its interface for what
    arrives, None without one (net/netfilter/nf_nat_redirect.c: nf_nat_redirect_ipv4)."""
    if hook is Hook.OUTPUT:
        return LOCALHOST
    assert packet.in_iface is not None, "what passes PREROUTING came in by an interface"
    addresses = road.host.interface(packet.in_iface).addresses
    return addresses[0].ip if addresses else None


def _sends_from(packet: Packet, road: Roads) -> int | Unmodelled | None:
    """The address that MASQUERADE takes, None where there is none
    (net/netfilter/nf_nat_masquerade.c: nf_nat_masquerade_ipv4; net/ipv4/devinet.c: inet_select_addr)."""
    assert packet.out_iface is not None, "what passes POSTROUTING has been routed"
    if not routing.is_sure_of_its_address(road, packet.out_iface):
        return Unmodelled(WHICH_ADDRESS)
    towards = routing.next_hop(road, packet.dst, packet.out_iface)
    return routing.address_towards(road, packet.out_iface, towards)


def _here6(packet: Packet, hook: Hook, road: Roads) -> int | None:
    """The same in IPv6, where the address has to be of the destination's scope if that is a narrow one
    (net/netfilter/nf_nat_redirect.c: nf_nat_redirect_ipv6_usable)."""
    if hook is Hook.OUTPUT:
        return routing6.LOOPBACK
    assert packet.in_iface is not None, "what passes PREROUTING came in by an interface"
    addresses = (a.ip for a in road.host.interface(packet.in_iface).addresses)
    scope = routing6.scope(packet.dst) if routing6.is_multicast(packet.dst) else None
    if routing6.is_link_local(packet.dst) or scope == 2:
        return next((a for a in addresses if routing6.is_link_local(a)), None)
    if scope in (1, 5) or packet.dst >> 118 == SITE_LOCAL:
        return None
    if packet.dst >> 32 == 0 and packet.dst > routing6.LOOPBACK:
        return next((a for a in addresses if a >> 32 == 0), None)
    return next(addresses, None)


SITE_LOCAL = 0xFEC0 >> 6
"""The first ten bits of fec0::/10."""


def _sends_from6(packet: Packet, road: Roads) -> int | Unmodelled | None:
    """(net/netfilter/nf_nat_masquerade.c: nf_nat_masquerade_ipv6)"""
    assert packet.out_iface is not None, "what passes POSTROUTING has been routed"
    found = routing6.candidates(road, packet.dst, packet.out_iface)
    # Towards :: the kernel may prefer an address of another scope (observed: a link-local one).
    if packet.dst == 0 or len(found) > 1:
        return Unmodelled(SOURCE_SELECTION)
    return found[0] if found else None


# -- what is changed --------------------------------------------------------------------------------


def _towards(packet: Packet, to: _Range, drawn: Drawn) -> Packet:
    """The packet with another destination; its reply comes from there."""
    address, port = _address(to, drawn), packet.dport
    if packet.proto in PORT_PROTOCOLS and to.ports is not None:
        port = _port(to.ports, to, packet.dport, drawn)
    if (address, port) == (packet.dst, packet.dport):
        return packet
    known = packet.connection
    if known is not None:
        reply = replace(known.reply, src=address, sport=port)
        known = replace(known, reply=reply, status=known.status | DST_NAT)
    return replace(packet, dst=address, dport=port, connection=known)


def _from(packet: Packet, to: _Range, drawn: Drawn) -> Packet:
    """The packet with another source; its reply goes there."""
    if not to.random and _fits(packet, to):
        return packet
    address, port = _address(to, drawn), packet.sport
    if packet.proto in PORT_PROTOCOLS and (to.ports is not None or to.random):
        port = _port(to.ports or _class_of(packet.sport), to, packet.sport, drawn)
    if (address, port) == (packet.src, packet.sport):
        return packet
    known = packet.connection
    if known is not None:
        reply = replace(known.reply, dst=address, dport=port)
        known = replace(known, reply=reply, status=known.status | SRC_NAT)
    return replace(packet, src=address, sport=port, connection=known)


def _fits(packet: Packet, to: _Range) -> bool:
    """True iff the source that it has will do (net/netfilter/nf_nat_core.c: get_unique_tuple, nf_in_range)."""
    if not to.first <= packet.src <= to.last:
        return False
    if to.ports is None:
        return True
    return packet.proto in PORT_PROTOCOLS and to.ports.first <= packet.sport <= to.ports.last


def _address(to: _Range, drawn: Drawn) -> int:
    """Of several any: the kernel hashes (net/netfilter/nf_nat_core.c: find_best_ips_proto)."""
    if drawn[0] is None or not to.first <= drawn[0] <= to.last:
        return to.first
    return drawn[0]


def _port(ports: Span, to: _Range, own: int, drawn: Drawn) -> int:
    """(net/netfilter/nf_nat_core.c: get_unique_tuple, nf_nat_l4proto_unique_tuple)"""
    if to.base is not None:
        return ports.first + ((own - to.base) & 0xFFFF) % (ports.last - ports.first + 1)
    inside = ports.first <= own <= ports.last
    if inside and to.keeps and not to.random:
        return own
    if drawn[1] is None or not ports.first <= drawn[1] <= ports.last:
        return own if inside else ports.first
    return drawn[1]


def _class_of(port: int) -> Span:
    """What a random source port is taken from where no range is given."""
    if port < 512:
        return Span(1, 511)
    return Span(600, 1023) if port < 1024 else Span(1024, 0xFFFF)
