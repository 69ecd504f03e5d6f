"""The far end of a pod's interface, played by hand: TCP segments go in and come out as frames.

The far kernel has no address and answers nothing.  So a frame may have any source and any
destination, also those that no socket could be bound to, and what left the pod is seen as it left.
"""

from __future__ import annotations

import socket
import struct

from msgspec import Struct

from ..values import ICMP, TCP, TcpFlag
from .building import NEAR_MAC, PACKET_IGNORE_OUTGOING, SOL_PACKET
from .namespaces import Namespace

IPV4 = 0x0800
UNREACHABLE = 3
REJECTIONS = (2, 3, 9, 10)
"""ICMP's type, and its codes that about a TCP segment only REJECT sends: what has no route is told by others
(net/ipv4/route.c: ip_error).
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

    def is_only(self, *flags: TcpFlag) -> bool:
        """Of SYN, ACK, RST and FIN exactly these are set (ECN bits do not matter)."""
        known = TcpFlag.SYN | TcpFlag.ACK | TcpFlag.RST | TcpFlag.FIN
        return self.flags & known == sum(flags)


class Unreachable(Struct, frozen=True):
    """An ICMP message of a rejection, and the segment that it answers (its flags are not known)."""

    about: Segment


class Wire:
    """One interface's far end."""

    def __init__(self, far: Namespace, interface: str) -> None:
        self.interface = interface
        self._to = (interface, IPV4, 0, 0, NEAR_MAC)
        self._socket = far.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
        try:
            self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            self._socket.bind((interface, IPV4))
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def send(self, packet: bytes) -> None:
        """Put an IPv4 packet on the wire, addressed to the pod's MAC."""
        self._socket.sendto(packet, self._to)

    def receive(self) -> list[Segment | Unreachable]:
        """What has left the pod since the last call, in order; what is neither TCP nor a rejection is left out."""
        found: list[Segment | Unreachable] = []
        while True:
            try:
                packet = self._socket.recv(2048)
            except BlockingIOError:
                return found
            seen = read_packet(packet)
            if seen is not None:
                found.append(seen)


def read_packet(packet: bytes) -> Segment | Unreachable | None:
    """What an IPv4 packet says, as far as we look; None for everything else."""
    protocol, (src, dst) = packet[9], struct.unpack_from("!II", packet, 12)
    payload = packet[(packet[0] & 15) * 4 :]
    if protocol == TCP and len(payload) >= 20:
        sport, dport, seq, ack, _, flags = struct.unpack_from("!HHIIBB", payload)
        return Segment(src, sport, dst, dport, flags, seq, ack)
    if protocol == ICMP and len(payload) >= 36 and payload[0] == UNREACHABLE and payload[1] in REJECTIONS:
        inner = payload[8:]
        src, dst = struct.unpack_from("!II", inner, 12)
        sport, dport = struct.unpack_from("!HH", inner, (inner[0] & 15) * 4)
        return Unreachable(Segment(src, sport, dst, dport, 0)) if inner[9] == TCP else None
    return None


def tcp_packet(segment: Segment) -> bytes:
    """The IPv4 packet of a TCP segment without data."""
    header = struct.pack(
        "!HHIIBBHHH",
        segment.sport, segment.dport, segment.seq, segment.ack, 5 << 4, segment.flags, 0xFFFF, 0, 0,
    )  # fmt: skip
    pseudo = struct.pack("!IIHH", segment.src, segment.dst, TCP, len(header))
    check = struct.pack("!H", _checksum(pseudo + header))
    return ipv4_packet(segment.src, segment.dst, TCP, header[:16] + check + header[18:])


def ipv4_packet(src: int, dst: int, protocol: int, payload: bytes = b"") -> bytes:
    header = struct.pack("!BBHHHBBHII", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0, src, dst)
    return header[:10] + struct.pack("!H", _checksum(header)) + header[12:] + payload


def _checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
