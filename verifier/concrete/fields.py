"""The fields of a packet that are carried because somebody asks for them: which values fit, and who gives them."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from ..packets import LEAST_LENGTH, Packet
from ..values import TCP, PacketKind

DEFAULTS: Mapping[str, int | None] = {
    "ttl": 64, "tos": 0, "length": 60, "tcp_options": 0, "dccp_type": 0, "dccp_options": 0, "sctp_chunks": 0, "spi": 0,
    "mac": None,
}  # fmt: skip
"""What `Packet` has where nobody asks; `extensions` is 0 of every IPv4 packet, and a connection is conntrack's to make."""

DRAWN = ("ttl", "tos", "length", "tcp_options")
"""What a TCP packet of a proxy may have of them."""

OWNERS: Mapping[str, tuple[int, ...]] = {
    "tcp_options": (TCP,), "dccp_type": (33,), "dccp_options": (33,), "sctp_chunks": (132,), "spi": (50, 51),
}  # fmt: skip
"""The protocols that have a field, where not all have it."""

MOST: Mapping[str, int] = {
    "ttl": 255, "tos": 255, "length": 0xFFFF, "tcp_options": (1 << 256) - 1, "dccp_type": 15,
    "dccp_options": (1 << 256) - 1, "sctp_chunks": (1 << 256) - 1, "spi": 0xFFFFFFFF, "mac": (1 << 48) - 1,
}  # fmt: skip


def as_carried(packet: Packet, carried: frozenset[str], outside: bool) -> Packet:
    """The packet as it is sent: nobody's fields have their defaults, no connection is known, and only a frame has a MAC address."""
    idle = {name: value for name, value in DEFAULTS.items() if name not in carried}
    if not outside:
        idle["mac"] = None
    return replace(packet, **idle, extensions=0, kind=PacketKind.UNICAST, connection=None)


def fit(packet: Packet, carried: frozenset[str], outside: bool, raw: bool = False) -> bool:
    """True iff every field that is carried has a value that a packet of this protocol may have, from there."""
    if "mac" in carried and outside and packet.mac is None:
        return False
    for name in carried & MOST.keys():
        value = getattr(packet, name)
        if value is not None and not _least(packet, name, raw) <= value <= MOST[name]:
            return False
        if value and packet.proto not in OWNERS.get(name, (packet.proto,)):
            return False
    return True


def _least(packet: Packet, name: str, raw: bool) -> int:
    match name:
        case "ttl":
            return 0 if raw else 1
        case "length":
            return LEAST_LENGTH.get(packet.proto, 20)
        case _:
            return 0


def drawn(packet: Packet, values: Mapping[str, int], carried: frozenset[str]) -> Packet:
    """A proxy's dial with the values that were drawn for it."""
    given = {name: values[name] for name in DRAWN if name in carried and name in values}
    return replace(packet, **given)
