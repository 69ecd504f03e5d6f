"""The fields of a packet that are carried because somebody asks for them: which values fit, and who gives them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from msgspec.structs import replace

from ..packets import EXTENSION_HEADERS, LEAST_LENGTH, Packet
from ..values import IPV4, TCP, Family, Ipv6Extension, PacketKind

DEFAULTS: Mapping[str, int | None] = {
    "ttl": 64, "tos": 0, "length": 60, "tcp_options": 0, "dccp_type": 0, "dccp_options": 0, "sctp_chunks": 0,
    "sctp_flags": 0, "spi": 0,
    "mac": None, "groups": 0,
}  # fmt: skip
"""What `Packet` has where nobody asks; `extensions` is 0 of every IPv4 packet too, and a connection is conntrack's to make."""

DRAWN = ("ttl", "tos", "length", "tcp_options")
"""What a TCP packet of a proxy may have of them."""

OWNERS: Mapping[str, tuple[int, ...]] = {
    "tcp_options": (TCP,), "dccp_type": (33,), "dccp_options": (33,), "sctp_chunks": (132,),
    "sctp_flags": (132,), "spi": (50, 51),
}  # fmt: skip
"""The protocols that have a field, where not all have it."""

MOST: Mapping[str, int] = {
    "ttl": 255, "tos": 255, "length": 0xFFFF, "tcp_options": (1 << 256) - 1, "dccp_type": 15,
    "dccp_options": (1 << 256) - 1, "sctp_chunks": (1 << 256) - 1, "sctp_flags": (1 << 20) - 1, "spi": 0xFFFFFFFF, "mac": (1 << 48) - 1,
}  # fmt: skip


def as_carried(packet: Packet, carried: frozenset[str], outside: bool) -> Packet:
    """The packet as it is sent: nobody's fields have their defaults, no connection is known, and only a frame has a MAC address."""
    idle = _idle(carried, outside, packet.family)
    return replace(packet, **idle, kind=PacketKind.UNICAST, connection=None)


@lru_cache(maxsize=64)
def _idle(carried: frozenset[str], outside: bool, family: Family) -> Mapping[str, int | None]:
    """The fields that such a packet does not have, with what stands there."""
    idle = {name: value for name, value in DEFAULTS.items() if name not in carried}
    if not outside:
        idle["mac"] = None
    if family is IPV4 or "extensions" not in carried:
        idle["extensions"] = 0
    return idle


def fit(packet: Packet, carried: frozenset[str], outside: bool, raw: bool = False) -> bool:
    """True iff every field that is carried has a value that a packet of this protocol may have, from there."""
    if "mac" in carried and outside and packet.mac is None:
        return False
    ipv6 = packet.family is Family.IPV6
    if ipv6 and (packet.proto in EXTENSION_HEADERS or not _headers_fit(packet, carried)):
        return False
    for name in carried & MOST.keys():
        value = getattr(packet, name)
        if value is not None and not _least(packet, name, raw) <= value <= MOST[name]:
            return False
        authenticates = name == "spi" and ipv6 and packet.extensions & Ipv6Extension.AUTH
        if value and packet.proto not in OWNERS.get(name, (packet.proto,)) and not authenticates:
            return False
    return True


def _least(packet: Packet, name: str, raw: bool) -> int:
    match name:
        case "ttl":
            return 0 if raw else 1
        case "length":
            least = LEAST_LENGTH.get(packet.proto, 20)
            return least if packet.family is IPV4 else least + 20 + _of_headers(packet)
        case "sctp_chunks":
            # Without a chunk it is not whole (net/netfilter/xt_sctp.c: match_packet drops it).
            return 1 if packet.proto == 132 else 0
        case _:
            return 0


def last_header(packet: Packet) -> int:
    """What `extensions` says of the header behind the others (net/ipv6/netfilter/ip6t_ipv6header.c: ipv6header_mt6)."""
    match packet.proto:
        case 59:
            return Ipv6Extension.NONE
        case 50:
            return Ipv6Extension.ESP
        case _:
            return Ipv6Extension.PROTO


def _headers_fit(packet: Packet, carried: frozenset[str]) -> bool:
    """True iff the extension headers are ones that a whole packet may have; of AH and ESP one alone has an SPI here."""
    if "extensions" not in carried:
        return True
    if packet.extensions & ~_BEFORE != last_header(packet):
        return False
    return not (packet.proto == 50 and packet.extensions & Ipv6Extension.AUTH)


_BEFORE = Ipv6Extension.HOP | Ipv6Extension.DST | Ipv6Extension.ROUTE | Ipv6Extension.AUTH


def _of_headers(packet: Packet) -> int:
    """The least number of bytes of the extension headers."""
    eights = (Ipv6Extension.HOP, Ipv6Extension.DST, Ipv6Extension.ROUTE)
    return sum(8 for one in eights if packet.extensions & one) + (
        12 if packet.extensions & Ipv6Extension.AUTH else 0
    )


def drawn(packet: Packet, values: Mapping[str, int], carried: frozenset[str]) -> Packet:
    """A proxy's dial with the values that were drawn for it."""
    given = {name: values[name] for name in DRAWN if name in carried and name in values}
    if packet.family is Family.IPV6 and "extensions" in carried:
        given["extensions"] = last_header(packet)
    return replace(packet, **given)
