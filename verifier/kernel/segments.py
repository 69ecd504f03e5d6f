"""What goes over a wire in a run with sockets, as bytes and back: TCP segments, UDP datagrams, and ICMP's word that one was rejected."""

from __future__ import annotations

import struct

from msgspec import Struct

from ..values import ICMP, ICMPV6, IPV4, TCP, UDP, Family, TcpFlag

UNREACHABLE = {IPV4: 3, Family.IPV6: 1}
"""The type of ICMP, and of ICMPv6."""
REJECTIONS = {IPV4: (2, 3, 9, 10), Family.IPV6: (3, 4, 5, 6)}
"""Its codes that only REJECT sends about a TCP segment, and a closed port about a datagram: what has no route is told by others
(net/ipv4/route.c: ip_error, net/ipv6/route.c: ip6_pkt_drop).
"""


class Segment(Struct, frozen=True):
    """The header of a TCP segment; addresses are numbers."""

    src: int
    sport: int
    dst: int
    dport: int
    flags: int
    seq: int = 0
    ack: int = 0
    family: Family = IPV4

    def is_only(self, *flags: TcpFlag) -> bool:
        """Of SYN, ACK, RST and FIN exactly these are set (ECN bits do not matter)."""
        known = TcpFlag.SYN | TcpFlag.ACK | TcpFlag.RST | TcpFlag.FIN
        return self.flags & known == sum(flags)


class Datagram(Struct, frozen=True):
    """The header of a UDP datagram; addresses are numbers."""

    src: int
    sport: int
    dst: int
    dport: int
    family: Family = IPV4


class Unreachable(Struct, frozen=True):
    """An ICMP message of a rejection, and what it answers (of a segment, the flags are not known)."""

    about: Segment | Datagram


# -- read ---------------------------------------------------------------------------------------------


def read_packet(packet: bytes) -> Segment | Datagram | Unreachable | None:
    """What a packet says, as far as we look; None for everything else."""
    if packet[0] >> 4 == 6:
        src, dst = int.from_bytes(packet[8:24]), int.from_bytes(packet[24:40])
        return _read(Family.IPV6, packet[6], src, dst, packet[40:])
    src, dst = struct.unpack_from("!II", packet, 12)
    return _read(IPV4, packet[9], src, dst, packet[(packet[0] & 15) * 4 :])


def _read(
    family: Family, protocol: int, src: int, dst: int, payload: bytes
) -> Segment | Datagram | Unreachable | None:
    if protocol == TCP and len(payload) >= 20:
        sport, dport, seq, ack, _, flags = struct.unpack_from("!HHIIBB", payload)
        return Segment(src, sport, dst, dport, flags, seq, ack, family)
    if protocol == UDP and len(payload) >= 8:
        sport, dport = struct.unpack_from("!HH", payload)
        return Datagram(src, sport, dst, dport, family)
    if protocol == (ICMP if family is IPV4 else ICMPV6):
        return read_icmp(family, payload)
    return None


def read_icmp(family: Family, payload: bytes) -> Unreachable | None:
    """The rejection that an ICMP message tells of, if it does."""
    least = 36 if family is IPV4 else 56
    if len(payload) < least or payload[0] != UNREACHABLE[family] or payload[1] not in REJECTIONS[family]:
        return None
    inner = payload[8:]
    if family is IPV4:
        protocol, at = inner[9], (inner[0] & 15) * 4
        src, dst = struct.unpack_from("!II", inner, 12)
    else:
        protocol, at = inner[6], 40
        src, dst = int.from_bytes(inner[8:24]), int.from_bytes(inner[24:40])
    sport, dport = struct.unpack_from("!HH", inner, at)
    if protocol == TCP:
        return Unreachable(Segment(src, sport, dst, dport, 0, family=family))
    return Unreachable(Datagram(src, sport, dst, dport, family)) if protocol == UDP else None


# -- written ------------------------------------------------------------------------------------------


def written(packet: Segment | Datagram) -> bytes:
    """The packet of a segment or a datagram without data, with right checksums."""
    if isinstance(packet, Datagram):
        body, protocol, at = struct.pack("!HHHH", packet.sport, packet.dport, 8, 0), UDP, 6
    else:
        ports = packet.sport, packet.dport
        rest = packet.seq, packet.ack, 5 << 4, packet.flags, 0xFFFF, 0, 0
        body, protocol, at = struct.pack("!HHIIBBHHH", *ports, *rest), TCP, 16
    size = packet.family.bits // 8
    ends = packet.src.to_bytes(size) + packet.dst.to_bytes(size)
    # Of UDP a sum of 0 says that there is none (RFC 768).
    total = _checksum(ends + struct.pack("!II", protocol, len(body)) + body) or 0xFFFF
    body = body[:at] + struct.pack("!H", total) + body[at + 2 :]
    if packet.family is IPV4:
        return ipv4_packet(packet.src, packet.dst, protocol, body)
    return struct.pack("!IHBB", 6 << 28, len(body), protocol, 64) + ends + body


def ipv4_packet(src: int, dst: int, protocol: int, payload: bytes = b"") -> bytes:
    header = struct.pack("!BBHHHBBHII", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0, src, dst)
    return header[:10] + struct.pack("!H", _checksum(header)) + header[12:] + payload


def _checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
