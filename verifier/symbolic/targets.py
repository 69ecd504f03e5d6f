"""What the targets that rewrite a packet do to it, as terms."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from msgspec import Struct, field
from msgspec.structs import replace

from .. import rules as r
from ..hooks import Hook
from ..journeys import NO_ADDRESS, NO_SOURCE, SOURCE_SELECTION
from ..packets import DST_NAT, SRC_NAT
from ..values import TCP, CtState, Family, MarkMask, Span
from .lookups import sending_address, sending_is_open
from .lookups_ipv6 import redirected
from .matches import between, has_bit, has_ports
from .packets import SymPacket
from .routing import Road
from .routing_ipv6 import RoadIpv6
from .terms import Bool, Bv

NatTarget = r.Redirect | r.Dnat | r.Snat | r.Masquerade | r.Netmap

NAT_HOOKS: dict[type[NatTarget], tuple[Hook, ...]] = {
    r.Redirect: (Hook.PREROUTING, Hook.OUTPUT),
    r.Dnat: (Hook.PREROUTING, Hook.OUTPUT),
    r.Snat: (Hook.POSTROUTING, Hook.INPUT),
    r.Masquerade: (Hook.POSTROUTING,),
    r.Netmap: (Hook.PREROUTING, Hook.OUTPUT, Hook.POSTROUTING, Hook.INPUT),
}
"""Where the kernel loads each of them."""

TO_ZERO = "a translation to address 0"
WHICH_ADDRESS = "which address MASQUERADE takes"

MSS = 2
"""The kind of TCP's option for the maximum segment size."""


class Draw(Struct):
    """What a NAT target leaves to chance at one evaluation: variables, made when they are needed, and what holds of them."""

    variable: Callable[[str, int], Bv]
    address: Bv | None = None
    port: Bv | None = None
    facts: list[Bool] = field(default_factory=list)

    def address_from(self, first: int, last: int, bits: int) -> Bv:
        self.address = self.variable("address", bits)
        self.facts.append(between(self.address, first, last))
        return self.address

    def port_from(self, *spans: tuple[Bool, int, int]) -> Bv:
        """A port that lies in each of these spans whose condition holds."""
        self.port = self.variable("port", 16)
        self.facts += [~cond | between(self.port, first, last) for cond, first, last in spans]
        return self.port


class Translated(Struct, frozen=True):
    """The packet after a NAT target; where there is no address to translate to (`why`), or nobody knows what becomes of
    it (`doubt`), it is the old one.
    """

    packet: SymPacket
    nowhere: Bool
    unknown: Bool
    why: str = NO_ADDRESS
    doubt: str = TO_ZERO


def translated(target: NatTarget, p: SymPacket, hook: Hook, road: Road, draw: Draw) -> Translated:
    """What the target makes of the packet at this hook, where it may stand."""
    no = p.terms.false
    match target:
        case r.Redirect(ports, choice):
            address, none = _redirected(p, hook, road)
            after = _to(p, address, _port(p, p.dport, ports, None, choice, draw))
            return Translated(either(none, p, after), none, no)
        case r.Dnat(to, choice):
            if _reaches_zero(to):
                return Translated(p, no, p.terms.true)
            port = _port(p, p.dport, to.ports, to.base, choice, draw)
            return Translated(_to(p, _address(p.dst, to, draw), port), no, no)
        case r.Snat(to, choice):
            if _reaches_zero(to):
                return Translated(p, no, p.terms.true)
            port = (
                _source_port(p, to.ports, choice, draw) if to.base is None else _any_port(p, to.ports, draw)
            )
            moved = _from(p, _address(p.src, to, draw), port)
            return Translated(either(_fits(p, to, choice), p, moved), no, no)
        case r.Masquerade(ports, choice):
            if isinstance(road, RoadIpv6):
                chosen = road.source_by(p.dst, p.out_iface)
                moved = _from(p, chosen.address, _source_port(p, ports, choice, draw))
                several = chosen.several | p.dst.is_(0)
                none = chosen.none & ~p.dst.is_(0)
                kept = either(none | several, p, moved)
                return Translated(kept, none, several, NO_SOURCE, SOURCE_SELECTION)
            address = sending_address(p, road)
            # A packet from 0.0.0.0 passes as it is (nf_nat_masquerade.c: nf_nat_masquerade_ipv4).
            open_ = sending_is_open(p, road) & ~p.src.is_(0)
            none = address.is_(0) & ~p.src.is_(0) & ~open_
            moved = _from(p, address, _source_port(p, ports, choice, draw))
            kept = either(none | open_ | p.src.is_(0), p, moved)
            return Translated(kept, none, open_, NO_SOURCE, WHICH_ADDRESS)
        case r.Netmap(net):
            if hook in (Hook.PREROUTING, Hook.OUTPUT):
                address = _mapped(p.dst, net.address, net.mask)
                after = _to(p, address, p.dport)
            else:
                address = _mapped(p.src, net.address, net.mask)
                after = _from(p, address, p.sport)
            zero = address.is_(0)
            return Translated(either(zero, p, after), no, zero)
        case _:
            assert_never(target)


def _redirected(p: SymPacket, hook: Hook, road: Road) -> tuple[Bv, Bool]:
    """In OUTPUT the new address is 127.0.0.1 (::1), in PREROUTING the in-interface's first."""
    t = p.terms
    if hook is Hook.OUTPUT:
        return t.number(0x7F000001 if p.family is Family.IPV4 else 1, p.family.bits), t.false
    if isinstance(road, RoadIpv6):
        return redirected(p, road)
    address, none = p.dst, t.true
    for interface in road.host.interfaces:
        if interface.addresses:
            here = p.in_iface.is_(road.names.index(interface.name))
            address = t.choose(here, t.number(interface.addresses[0].ip, 32), address)
            none = none & ~here
    return address, none


def _reaches_zero(to: r.NatRange) -> bool:
    """One of the addresses from the first to the last, counted up modulo the greatest, is 0."""
    return to.first is not None and to.last is not None and not 0 < to.first <= to.last


def _address(old: Bv, to: r.NatRange, draw: Draw) -> Bv:
    if to.first is None or to.last is None:
        return old
    if to.first == to.last:
        return old.terms.number(to.first, old.width)
    return draw.address_from(to.first, to.last, old.width)


def _fits(p: SymPacket, to: r.NatRange, choice: r.PortChoice | None) -> Bool:
    """The packet's own source is one that SNAT may give it, so that it is left as it is (nf_nat_core.c: nf_in_range).
    An ICMP identifier, which is compared with the ports that are given, is not known.

    Masquerade needs no such case: its one address is what the packet then has anyway.
    """
    t = p.terms
    if choice is not None:
        return t.false
    parts = []
    if to.first is not None and to.last is not None:
        parts.append(between(p.src, to.first, to.last))
    if to.ports is not None:
        parts.append(has_ports(p) & between(p.sport, to.ports.first, to.ports.last))
    return t.all_of(parts)


def _mapped(old: Bv, address: int, mask: int) -> Bv:
    return (old & (mask ^ ((1 << old.width) - 1))) | address


def _port(
    p: SymPacket, old: Bv, ports: Span | None, base: int | None, choice: r.PortChoice | None, draw: Draw
) -> Bv:
    """A port of the packet's own that lies in the range is kept, unless it is asked for a random one
    (net/netfilter/nf_nat_core.c: get_unique_tuple).
    """
    t = p.terms
    if ports is None:
        return old
    size = ports.last - ports.first + 1
    if base is not None:
        distance = old - base
        new = (distance if size > 0xFFFF else distance % size) + ports.first
    elif size == 1:
        new = t.number(ports.first, 16)
    else:
        new = draw.port_from((t.true, ports.first, ports.last))
        if choice is None:
            new = t.choose(between(old, ports.first, ports.last), old, new)
    return t.choose(has_ports(p), new, old)


def _source_port(p: SymPacket, ports: Span | None, choice: r.PortChoice | None, draw: Draw) -> Bv:
    """As `_port`; a random one without a range is one of the same class (nf_nat_core.c: nf_nat_l4proto_unique_tuple)."""
    if ports is not None or choice is None:
        return _port(p, p.sport, ports, None, choice, draw)
    low, middle = p.sport.at_most(511), p.sport.at_most(1023)
    new = draw.port_from((low, 1, 511), (middle & ~low, 600, 1023), (~middle, 1024, 0xFFFF))
    return p.terms.choose(has_ports(p), new, p.sport)


def _any_port(p: SymPacket, ports: Span | None, draw: Draw) -> Bv:
    """One of the range, for protocols that have ports."""
    if ports is None:
        raise AssertionError("a base port needs a range")
    return p.terms.choose(has_ports(p), draw.port_from((p.terms.true, ports.first, ports.last)), p.sport)


def _to(p: SymPacket, address: Bv, port: Bv) -> SymPacket:
    after = p.but(dst=address, dport=port)
    if p.connection is None:
        return after
    found = p.connection
    changed = ~(address.is_(p.dst) & port.is_(p.dport))
    reply = replace(found.reply, src=address, sport=port)
    return after.tracked(found.but(reply=reply, status=_with(found.status, changed, DST_NAT)))


def _from(p: SymPacket, address: Bv, port: Bv) -> SymPacket:
    after = p.but(src=address, sport=port)
    if p.connection is None:
        return after
    found = p.connection
    changed = ~(address.is_(p.src) & port.is_(p.sport))
    reply = replace(found.reply, dst=address, dport=port)
    return after.tracked(found.but(reply=reply, status=_with(found.status, changed, SRC_NAT)))


def _with(status: Bv, cond: Bool, bit: int) -> Bv:
    return status.terms.choose(cond, status | bit, status)


def either(cond: Bool, yes: SymPacket, no: SymPacket) -> SymPacket:
    """One packet or the other: of what targets change."""
    if cond.const is not None:
        return yes if cond.const else no
    choose = cond.terms.choose
    changed = {
        name: choose(cond, mine, other)
        for name in ("src", "dst", "sport", "dport", "mark", "ctstate")
        if (mine := getattr(yes, name)).ast != (other := getattr(no, name)).ast
    }
    packet = no.but(**changed) if changed else no
    rare = {
        name: choose(cond, mine, no.rare[name])
        for name, mine in yes.rare.items()
        if mine.ast != no.rare[name].ast
    }
    if rare:
        packet = packet.having(**rare)
    if yes.connection is None or no.connection is None or yes.connection is no.connection:
        return packet
    one, other_one = yes.connection, no.connection
    reply = {
        end: choose(cond, getattr(one.reply, end), getattr(other_one.reply, end))
        for end in ("src", "dst", "sport", "dport")
    }
    return packet.tracked(
        other_one.but(
            reply=replace(other_one.reply, **reply),
            status=choose(cond, one.status, other_one.status),
            mark=choose(cond, one.mark, other_one.mark),
        )
    )


# -- what goes on with the next rule

Changing = (
    r.SetMark | r.SetConnMark | r.SaveMark | r.RestoreMark | r.NoTrack | r.ChangeTtl | r.SetTos | r.SetDscp
    | r.ClampMss | r.TrackAs
)  # fmt: skip


def changed(target: Changing, p: SymPacket) -> SymPacket:
    """The packet after the target."""
    match target:
        case r.SetMark(mark):
            return p.but(mark=xored(p.mark, mark))
        case r.SetConnMark(mark, shift):
            return _marked(p, _moved(xored(p.known().mark, mark), shift))
        case r.SaveMark(packet_mask, connection_mask, shift):
            kept = p.known().mark & (0xFFFFFFFF ^ connection_mask)
            return _marked(p, kept ^ _moved(p.mark & packet_mask, shift))
        case r.RestoreMark(packet_mask, connection_mask, shift):
            kept = p.mark & (0xFFFFFFFF ^ packet_mask)
            restored = kept ^ _moved(p.known().mark & connection_mask, shift)
            return p.but(mark=p.terms.choose(p.known().known, restored, p.mark))
        case r.NoTrack():
            # Of a packet that has its connection already it is not heeded (net/netfilter/xt_CT.c: notrack_tg).
            untracked = p.terms.number(CtState.UNTRACKED, 3)
            return p.but(ctstate=p.terms.choose(p.ctstate.is_(CtState.INVALID), untracked, p.ctstate))
        case r.ChangeTtl(change, value):
            return p.having(ttl=_ttl(p.field("ttl"), change, value))
        case r.SetTos(value, mask):
            return p.having(tos=(p.field("tos") & (0xFF ^ mask)) ^ value)
        case r.SetDscp(value):
            return p.having(tos=p.field("tos") & 0x03 | value << 2)
        case r.TrackAs():
            # The template stands for the entry until conntrack makes one (net/netfilter/xt_CT.c: xt_ct_target).
            new = p.terms.number(CtState.NEW, 3)
            return p.but(ctstate=p.terms.choose(p.ctstate.is_(CtState.INVALID), new, p.ctstate))
        case r.ClampMss():
            return p
        case _:
            assert_never(target)


def may_grow(p: SymPacket) -> Bool:
    """TCPMSS may add its option to the packet, which it does not where there is data, and somebody may ask for that."""
    if "tcp_options" in p.rare:
        return p.proto.is_(TCP) & ~has_bit(p.field("tcp_options"), MSS)
    return p.proto.is_(TCP) if "length" in p.rare else p.terms.false


def xored(mark: Bv, by: MarkMask) -> Bv:
    """The bits outside the mask stay, and the value is xor-ed in."""
    return (mark & (0xFFFFFFFF ^ by.mask)) ^ by.value


def _moved(mark: Bv, shift: int) -> Bv:
    """Shifted to the left, or by a negative number to the right."""
    return mark << shift if shift > 0 else mark >> -shift


def _marked(p: SymPacket, mark: Bv) -> SymPacket:
    found = p.known()
    return p.tracked(found.but(mark=p.terms.choose(found.known, mark, found.mark)))


def _ttl(old: Bv, change: r.Change, value: int) -> Bv:
    t = old.terms
    match change:
        case r.Change.SET:
            return t.number(value, 8)
        case r.Change.INCREASE:
            return t.choose(old.at_most(0xFF - value), old + value, t.number(0xFF, 8))
        case r.Change.DECREASE:
            return t.choose(old.at_least(value), old - value, t.number(0, 8))
        case _:
            assert_never(change)
