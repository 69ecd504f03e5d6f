"""What a rule may do with a packet: frozen data, one class for each target, `Target` their closed union."""

from __future__ import annotations

from enum import Enum
from typing import TypeAlias

from msgspec import Struct

from .values import ALL_32, ALL_128, IPV4, Family, MarkMask, Net, Span


class Accept(Struct, frozen=True):
    """`-j ACCEPT`: ends this table at this hook; the next tables still run."""


class Drop(Struct, frozen=True):
    """`-j DROP`"""


class Return(Struct, frozen=True):
    """`-j RETURN`: back to the caller, or to the policy from a built-in chain."""


class Jump(Struct, frozen=True, gc=False):
    """`-j CHAIN`: go through CHAIN, then come back to the next rule."""

    chain: str


class Goto(Struct, frozen=True):
    """`-g CHAIN`: go through CHAIN, then come back to where this chain was called; from a built-in chain: to its policy."""

    chain: str


class NatRange(Struct, frozen=True, gc=False):
    """`[A[-B]][:P[-Q[/BASE]]]`: where a NAT target may translate to; what is None stays.

    One address and one port are a certainty; from a range the kernel takes any (a port of the packet's own that
    lies in the range is kept).  With `base`, the port is P plus its distance from BASE, kept within the range.
    A range of addresses that ends before it begins goes on from the greatest address to 0
    (net/netfilter/nf_nat_core.c: find_best_ips_proto counts it modulo 2^32).
    """

    first: int | None = None
    last: int | None = None
    ports: Span | None = None
    base: int | None = None
    family: Family = Family.IPV4

    def __post_init__(self) -> None:
        if (self.first is None) != (self.last is None):
            raise ValueError("a range of addresses has two ends")
        if self.first is not None and self.last is not None:
            most = ALL_32 if self.family is IPV4 else ALL_128
            if not (0 <= self.first <= most and 0 <= self.last <= most):
                raise ValueError("this is no range of addresses")
        if self.base is not None and self.ports is None:
            raise ValueError("a base port needs a range of ports")

    @classmethod
    def of(cls, address: int | None, port: int | None = None, family: Family = Family.IPV4) -> NatRange:
        """One address, one port, or both."""
        return cls(address, address, None if port is None else Span(port, port), None, family)

    @property
    def address(self) -> int | None:
        """The one address, or None where there is none, or a choice."""
        return self.first if self.first == self.last else None

    @property
    def port(self) -> int | None:
        """The one port, or None where there is none, or a choice."""
        return self.ports.first if self.ports and self.ports.first == self.ports.last else None


class PortChoice(Enum):
    """How a NAT target picks a port; None of these unless it is asked for."""

    RANDOM = "random"
    RANDOM_FULLY = "random-fully"
    BOTH = "random --random-fully"
    """Asked for both, the kernel does as for the second (net/netfilter/nf_nat_core.c: nf_nat_l4proto_unique_tuple)."""


class Redirect(Struct, frozen=True):
    """`-j REDIRECT [--to-ports P[-Q]] [--random]`, nat only: to 127.0.0.1 (::1) in OUTPUT, in PREROUTING to the first
    address of the in-interface, dropping the packet where it has none (net/netfilter/nf_nat_redirect.c).

    Ends the chain like ACCEPT.  Without a port the destination port stays; port 0 is a port, at which nobody listens.
    """

    ports: Span | None = None
    choice: PortChoice | None = None


class Dnat(Struct, frozen=True, gc=False):
    """`-j DNAT --to-destination ...`, nat PREROUTING and OUTPUT only; ends the chain like ACCEPT."""

    to: NatRange
    choice: PortChoice | None = None
    persistent: bool = False

    def __post_init__(self) -> None:
        if self.to.first is None and self.to.ports is None:
            raise ValueError("DNAT needs an address, a port or both")


class Snat(Struct, frozen=True):
    """`-j SNAT --to-source ...`, nat POSTROUTING and INPUT only; ends the chain like ACCEPT.

    Without a port the source port is kept where it is free, and another of its class is taken where it is not.  A base port
    is none of the documented options: iptables 1.8.9 has the kernel reckon from 0 instead, and others are not known to do
    so, so that with one any port of the range is taken, also where the packet's own lies in it and its address does not.
    """

    to: NatRange
    choice: PortChoice | None = None
    persistent: bool = False

    def __post_init__(self) -> None:
        if self.to.first is None and self.to.ports is None:
            raise ValueError("SNAT needs an address, a port or both")


class Masquerade(Struct, frozen=True):
    """`-j MASQUERADE [--to-ports P[-Q]]`, nat POSTROUTING only: SNAT to the address that the out-interface would
    send from (net/netfilter/nf_nat_masquerade.c); ends the chain like ACCEPT.
    """

    ports: Span | None = None
    choice: PortChoice | None = None


class Netmap(Struct, frozen=True):
    """`-j NETMAP --to NET`, nat: the network part of the destination (PREROUTING, OUTPUT) or of the source (INPUT,
    POSTROUTING) becomes that of NET, the host part stays (net/netfilter/xt_NETMAP.c).
    """

    net: Net


class Tproxy(Struct, frozen=True):
    """`-j TPROXY --on-port P [--on-ip A] [--tproxy-mark V/M]`, mangle PREROUTING only: a transparent socket at this port
    gets the packet, whose header stays, and whose mark becomes (mark & ~M) ^ V; without one it is dropped
    (net/netfilter/xt_TPROXY.c).  Address None is that of the in-interface, port 0 the packet's own.
    """

    port: int
    address: int | None = None
    mark: MarkMask = MarkMask(0, 0)
    family: Family = Family.IPV4

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 0xFFFF:
            raise ValueError(f"{self.port} is no port")


class SetMark(Struct, frozen=True):
    """`-j MARK --set-xmark V/M`: mark = (mark & ~M) ^ V; then the next rule (net/netfilter/xt_mark.c: mark_tg).

    `--set-mark V/M` is set-xmark V/(M|V); and, or, xor are forms of it too.
    """

    mark: MarkMask


def _shifted(bits: int) -> None:
    if not -31 <= bits <= 31:
        raise ValueError("a mark is shifted by 31 bits at most")


class SetConnMark(Struct, frozen=True):
    """`-j CONNMARK --set-xmark V/M`: the connection's mark = (mark & ~M) ^ V, all of it then shifted by as many bits as
    `shift` says: to the left, or where it is negative to the right (net/netfilter/xt_connmark.c: connmark_tg_shift).
    """

    mark: MarkMask
    shift: int = 0

    def __post_init__(self) -> None:
        _shifted(self.shift)


class SaveMark(Struct, frozen=True):
    """`-j CONNMARK --save-mark --nfmask N --ctmask C`: connection's mark = (connection's & ~C) ^ (packet's & N), of which
    the part in the last brackets alone is shifted.
    """

    packet_mask: int = ALL_32
    connection_mask: int = ALL_32
    shift: int = 0

    def __post_init__(self) -> None:
        _shifted(self.shift)


class RestoreMark(Struct, frozen=True):
    """`-j CONNMARK --restore-mark --nfmask N --ctmask C`: packet's mark = (packet's & ~N) ^ (connection's & C), shifted
    likewise.
    """

    packet_mask: int = ALL_32
    connection_mask: int = ALL_32
    shift: int = 0

    def __post_init__(self) -> None:
        _shifted(self.shift)


class NoTrack(Struct, frozen=True):
    """`-j CT --notrack`, `-j NOTRACK`, raw only: no connection is made of it, its state is UNTRACKED, and nat is
    not asked about it; then the next rule (net/netfilter/xt_CT.c: notrack_tg).
    """


class TrackAs(Struct, frozen=True):
    """`-j CT --zone Z --helper H ...`, raw only: how a connection will be tracked, as iptables-save spells it.  A packet that
    begins one passes no other rules for that; then the next rule.
    """

    options: str


class Change(Enum):
    """What TTL and HL do with their number."""

    SET = "set"
    INCREASE = "inc"
    DECREASE = "dec"


class ChangeTtl(Struct, frozen=True):
    """`-j TTL --ttl-set N`, `-j HL --hl-dec N`, ..., mangle only, held between 0 and 255 (net/netfilter/xt_HL.c)."""

    change: Change
    value: int

    def __post_init__(self) -> None:
        if not 0 <= self.value <= 255 or (self.change is not Change.SET and self.value == 0):
            raise ValueError("a time to live is changed by 1 to 255, or set to a byte")


class SetTos(Struct, frozen=True):
    """`-j TOS --set-tos V/M`: tos = (tos & ~M) ^ V; and, or, xor are forms of it (net/netfilter/xt_DSCP.c: tos_tg)."""

    value: int
    mask: int = 0xFF

    def __post_init__(self) -> None:
        if not (0 <= self.value <= 0xFF and 0 <= self.mask <= 0xFF):
            raise ValueError("a TOS value and its mask are bytes")


class SetDscp(Struct, frozen=True):
    """`-j DSCP --set-dscp V`, mangle only: the upper six bits of the TOS byte (net/netfilter/xt_DSCP.c: dscp_tg)."""

    value: int

    def __post_init__(self) -> None:
        if not 0 <= self.value <= 0x3F:
            raise ValueError("a DSCP value has six bits")


class ClampMss(Struct, frozen=True):
    """`-j TCPMSS --set-mss N` or, with None, `--clamp-mss-to-pmtu`, mangle only: the maximum segment size that a SYN offers;
    a SYN without that option gets one, four bytes longer (net/netfilter/xt_TCPMSS.c).
    """

    mss: int | None = None

    def __post_init__(self) -> None:
        if self.mss is not None and not 0 <= self.mss <= 0xFFFF:
            raise ValueError("an MSS has 16 bits")


class SetEntry(Struct, frozen=True):
    """`-j SET --add-set NAME src,dst ...`: changes what a set holds, for later packets; then the next rule.

    `options` is the whole as iptables-save spells it; whatever matches `name` is a choice from then on.
    """

    name: str
    options: str


class Queue(Struct, frozen=True):
    """`-j NFQUEUE ...`, `-j QUEUE`: a program decides, and may change the packet, as iptables-save spells it."""

    text: str


class Reject(Struct, frozen=True):
    """`-j REJECT [--reject-with TYPE]`, filter only: the packet is dropped and its sender told."""

    how: str = "icmp-port-unreachable"


class Log(Struct, frozen=True):
    """`-j LOG`, `NFLOG`, `ULOG`, `TRACE`, `AUDIT`, `CLASSIFY`, `CHECKSUM`: no later rule can tell that it has been
    applied.  `text` is the target as iptables-save spells it.
    """

    text: str


class OpaqueTarget(Struct, frozen=True):
    """A target that we do not understand, as text: it may change header, mark and verdict, so nothing
    is known of the packet from here on.
    """

    text: str


Target: TypeAlias = (
    Accept | Drop | Return | Jump | Goto | Redirect | Dnat | Snat | Masquerade | Netmap | Tproxy
    | SetMark | SetConnMark | SaveMark | RestoreMark | NoTrack | TrackAs | ChangeTtl | SetTos | SetDscp | ClampMss
    | SetEntry | Reject | Log | Queue | OpaqueTarget
)  # fmt: skip
