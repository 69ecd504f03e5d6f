"""Which headers a first packet, or a dial, may have: what the protocol, the extension headers and the length say of each other."""

from __future__ import annotations

from ..packets import EXTENSION_HEADERS, LEAST_LENGTH
from ..values import AH, DCCP, ESP, ICMP, ICMPV6, SCTP, TCP, Family, Ipv6Extension
from .matches import has_ports
from .packets import SymPacket
from .terms import Bool


def well_formed(p: SymPacket) -> Bool:
    """Fields that the protocol does not have are 0."""
    t = p.terms
    ports, tcp = has_ports(p), p.proto.is_(TCP)
    icmp = p.proto.is_(ICMP if p.family is Family.IPV4 else ICMPV6)
    parts = [
        ports | (p.sport.is_(0) & p.dport.is_(0)),
        tcp | p.flags.is_(0),
        icmp | (p.icmp_type.is_(0) & p.icmp_code.is_(0)),
    ]
    for name, protocols in OWNED_BY.items():
        if name in p.rare:
            owned = t.any_of(p.proto.is_(n) for n in protocols)
            if name == "spi" and p.family is Family.IPV6:
                owned = p.proto.is_(ESP) | _has(p, Ipv6Extension.AUTH)
            parts.append(owned | p.field(name).is_(0))
    if "sctp_chunks" in p.rare:
        # A packet without chunks is malformed (net/netfilter/xt_sctp.c: match_packet).
        parts.append(~p.proto.is_(SCTP) | ~p.field("sctp_chunks").is_(0))
    if p.family is Family.IPV6:
        parts += [~p.proto.is_(number) for number in EXTENSION_HEADERS]
        parts += _extended(p)
    return t.all_of(parts)


def _has(p: SymPacket, header: Ipv6Extension) -> Bool:
    """The packet is known to have this extension header."""
    if "extensions" not in p.rare:
        return p.terms.false
    return ~(p.field("extensions") & header).is_(0)


def _extended(p: SymPacket) -> list[Bool]:
    """What the extension headers and the protocol say of each other."""
    if "extensions" not in p.rare:
        return []
    t = p.terms
    esp, nothing = p.proto.is_(ESP), p.proto.is_(NO_NEXT_HEADER)
    last = t.choose(nothing, t.number(Ipv6Extension.NONE, 8), t.number(Ipv6Extension.PROTO, 8))
    last = t.choose(esp, t.number(Ipv6Extension.ESP, 8), last)
    before = Ipv6Extension.HOP | Ipv6Extension.DST | Ipv6Extension.ROUTE | Ipv6Extension.AUTH
    headers = p.field("extensions")
    return [(headers & (0xFF ^ before)).is_(last), ~esp | ~_has(p, Ipv6Extension.AUTH)]


NO_NEXT_HEADER = 59

OWNED_BY = {
    "tcp_options": (TCP,), "sctp_chunks": (SCTP,), "sctp_flags": (SCTP,), "dccp_type": (DCCP,), "dccp_options": (DCCP,), "spi": (ESP, AH),
}  # fmt: skip
"""The protocols that have these fields."""

DRAWN = ("ttl", "tos", "length", "tcp_options")
"""The rare fields that a dial may have any value of."""


def sendable(p: SymPacket, least_ttl: int = 1) -> list[Bool]:
    """The packet is as long as its headers, and may live."""
    facts = []
    if "ttl" in p.rare:
        facts.append(p.field("ttl").at_least(least_ttl))
    if "length" in p.rare:
        length = p.field("length")
        more = p.terms.number(0 if p.family is Family.IPV4 else 20, 16)
        for header, size in HEADER_SIZES.items() if p.family is Family.IPV6 else ():
            more = p.terms.choose(_has(p, header), more + size, more)
        facts.append(length.at_least(more + 20))
        facts += [
            ~p.proto.is_(proto) | length.at_least(more + least) for proto, least in LEAST_LENGTH.items()
        ]
    return facts


HEADER_SIZES = {Ipv6Extension.HOP: 8, Ipv6Extension.DST: 8, Ipv6Extension.ROUTE: 8, Ipv6Extension.AUTH: 12}
"""Bytes of an extension header, at least."""
