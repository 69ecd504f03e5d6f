"""Packets as the bytes that travel, and the bytes that the kernel shows as headers.

Each packet that is written carries a tag of 16 bits where no rule can look: IPv4's identification, IPv6's flow label.  Checksums of what
stands behind the IP header are wrong on purpose: with nf_conntrack_checksum 0 conntrack and every rule take
such a packet for what it is, and the stack behind them answers nothing.  What a REJECT is expected to answer is the exception.
"""

from __future__ import annotations

import struct

from msgspec import Struct

from ..packets import SCTP_FLAGS, Packet
from ..values import DCCP, ICMP, ICMPV6, IPV4, SCTP, TCP, UDP, UDPLITE, Ipv6Extension, TcpFlag

SUM = 0xDEAD
"""A checksum that is right once in 65536 times."""
WITH_PORTS = frozenset({TCP, UDP, UDPLITE, SCTP, DCCP})
DCCP_EXTRA = {0: 4, 1: 12, 2: 0, 3: 8, 4: 8, 5: 8, 6: 8, 7: 12, 8: 8, 9: 8}
"""Bytes between DCCP's generic header and its options, by the packet's type (include/uapi/linux/dccp.h)."""
SCTP_INIT, CHUNK = 1, 20
"""A chunk type, and the bytes of a chunk as they are written here."""
LAST_TAG = 0xFFFF
BACK = 1 << 16
"""In a tag: of what the kernel has sent back for the packet with this tag."""
EXTENSIONS = Ipv6Extension.HOP | Ipv6Extension.DST | Ipv6Extension.ROUTE | Ipv6Extension.AUTH
"""Headers of IPv6 that are not written here: the kernel does not show what stands behind them."""
MARKED = b"\x5a\xfe"
"""ICMP's last two bytes (an echo's sequence number) in what is written here."""


class Header(Struct, frozen=True):
    """What a packet was seen to say; ports, or ICMP's type and code, are those of a first fragment."""

    src: int
    dst: int
    proto: int
    first: int
    second: int
    """The ports of protocols that have them; of ICMP type and code, of all others 0."""
    ttl: int
    tos: int


def written(
    packet: Packet,
    tag: int,
    exact: bool,
    answered: int | None = None,
    opened: int | None = None,
    right: bool = False,
) -> bytes | None:
    """The packet; None where no bytes say what it says.  `exact` iff its length counts; `answered` is the tag of what it
    answers, and `opened` that of the first packet of its connection; `right` iff its checksum is, and the tag its own in what a
    reset answers of it."""
    body = _body(packet, tag, answered, opened)
    ipv6 = packet.family is not IPV4
    if body is None or packet.extensions & EXTENSIONS:
        return None
    missing = packet.length - (40 if ipv6 else 20) - len(body)
    if missing < 0 and exact:
        return None
    if missing > 0:
        body += bytes(missing)
        if packet.proto == SCTP:
            # Nothing but chunks may follow the header: the last one is so much longer.
            at = len(body) - missing - CHUNK
            body = body[: at + 2] + struct.pack("!H", (CHUNK + missing) & 0xFFFF) + body[at + 4 :]
    if packet.proto in (UDP, UDPLITE):
        body = body[:4] + struct.pack("!H", len(body) & 0xFFFF) + body[6:]
    if right:
        body = _summed(packet, body, tag)
    if ipv6:
        line = 6 << 28 | packet.tos << 20 | tag
        head = struct.pack("!IHBB", line, len(body) & 0xFFFF, packet.proto, packet.ttl)
        return b"".join((head, packet.src.to_bytes(16), packet.dst.to_bytes(16), body))
    head = struct.pack(
        "!BBHHHBBHII",
        0x45, packet.tos, 20 + len(body), tag, 0, packet.ttl, packet.proto, 0, packet.src, packet.dst,
    )  # fmt: skip
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return b"".join((head[:10], struct.pack("!H", ~total & 0xFFFF), head[12:], body))


def _summed(packet: Packet, body: bytes, tag: int) -> bytes:
    """The same with a right checksum, where the protocol has one of its whole payload."""
    ipv6 = packet.family is not IPV4
    icmp = ICMPV6 if ipv6 else ICMP
    at = {TCP: 16, UDP: 6, icmp: 2}.get(packet.proto)
    if at is None:
        return body
    if packet.proto == TCP:
        body = body[:4] + struct.pack("!II", tag << 16, tag << 16) + body[12:]
    body = body[:at] + bytes(2) + body[at + 2 :]
    size = 16 if ipv6 else 4
    pseudo = (
        packet.src.to_bytes(size) + packet.dst.to_bytes(size) + struct.pack("!II", len(body), packet.proto)
    )
    data = body + bytes(len(body) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    if ipv6 or packet.proto != ICMP:
        total += sum(struct.unpack(f"!{len(pseudo) // 2}H", pseudo))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return body[:at] + struct.pack("!H", ~total & 0xFFFF or 0xFFFF) + body[at + 2 :]


def _body(packet: Packet, tag: int, answered: int | None, opened: int | None) -> bytes | None:
    match packet.proto:
        case 6:
            options = _options(packet.tcp_options, 40)
            if options is None:
                return None
            offset = (20 + len(options)) // 4 << 4
            ack = 1 if packet.flags & 0x10 else 0
            if answered is not None:
                # A SYN counts as a byte, and no other packet that is answered has any.
                ack = (answered << 8) + (1 if packet.flags & 0x02 else 0)
            return (
                struct.pack(
                    "!HHIIBBHHH",
                    packet.sport, packet.dport, tag << 8, ack, offset, packet.flags, 8192, SUM, 0,
                )
                + options
            )  # fmt: skip
        case 17 | 136:
            return struct.pack("!HHHH", packet.sport, packet.dport, 8, SUM)
        case 58 if packet.family is not IPV4:
            return struct.pack("!BBHH", packet.icmp_type, packet.icmp_code, SUM, opened or tag) + MARKED
        case 1:
            return struct.pack("!BBHH", packet.icmp_type, packet.icmp_code, SUM, opened or tag) + MARKED
        case 132:
            kinds = [n for n in range(256) if packet.sctp_chunks >> n & 1] or [SCTP_INIT]
            chunks = b"".join(
                struct.pack("!BBHIIHHI", n, flags, CHUNK, tag, 9, 1, 1, 1)
                for n in kinds
                for flags in _flags_of(packet, n)
            )
            return struct.pack("!HHII", packet.sport, packet.dport, 0, SUM) + chunks
        case 33:
            options = _options(packet.dccp_options, 200)
            if options is None:
                return None
            # The sequence number is long.
            extra = DCCP_EXTRA.get(packet.dccp_type, 12)
            offset = (16 + extra + len(options)) // 4
            kind = packet.dccp_type << 1 | 1
            head = struct.pack("!HHBBHBBHI", packet.sport, packet.dport, offset, 0, SUM, kind, 0, 0, tag)
            return head + bytes(extra) + options
        case 50:
            return struct.pack("!II", packet.spi, tag) + bytes(8)
        case 51:
            return struct.pack("!BBHIII", UDP, 2, 0, packet.spi, tag, 0) + bytes(8)
        case _:
            return bytes(8)


def _flags_of(packet: Packet, kind: int) -> list[int]:
    """The flags of each chunk of this kind."""
    begin, bits = SCTP_FLAGS.get(kind, (0, 0))
    return [n for n in range(1 << bits) if bits and packet.sctp_flags >> (begin + n) & 1] or [0]


def _options(bits: int, room: int) -> bytes | None:
    """An option of each kind; those but 0 and 1 have a length.  Nothing may be added to fill the last word but values."""
    if not bits:
        return b""
    short = bytes(n for n in (0, 1) if bits >> n & 1)
    long = [n for n in range(2, 256) if bits >> n & 1]
    size = len(short) + 2 * len(long)
    fill = -size % 4
    if size + fill > room:
        return None
    if not long:
        return short + short[-1:] * fill
    most = [b"%c\x02" % n for n in long[:-1]]
    last = bytes((long[-1], 2 + fill)) + b"\x00" * fill
    return b"".join((*most, last, short))


_HEAD = struct.Struct("!BB6xBB2xII").unpack_from
_PORTS = struct.Struct("!HH").unpack_from


def tag_of(data: bytes) -> int:
    """The tag, or 0 of what was not written here: what the kernel sends by itself is ICMP, without our mark in it, or TCP without
    a tag.  Where that tells of a packet that was written here, by quoting it or by its numbers: that one's tag, and BACK."""
    if data[0] >> 4 == 6:
        if data[6] == ICMPV6 and data[46:48] != MARKED:
            return BACK | data[50] << 8 | data[51] if len(data) >= 52 and data[40] == 1 else 0
        tag = data[2] << 8 | data[3]
        return tag or _resets(data[6], data[40:])
    at = (data[0] & 15) * 4
    if data[9] == ICMP and data[at + 6 : at + 8] != MARKED:
        return BACK | data[at + 12] << 8 | data[at + 13] if len(data) >= at + 14 and data[at] == 3 else 0
    return data[4] << 8 | data[5] or _resets(data[9], data[at:])


def _resets(proto: int, body: bytes) -> int:
    """The tag of what a reset of the kernel's answers."""
    if proto != TCP or len(body) < 14 or not body[13] & TcpFlag.RST:
        return 0
    at = 8 if body[13] & TcpFlag.ACK else 4
    return BACK | body[at] << 8 | body[at + 1]


def read(data: bytes) -> Header:
    """The headers of a packet, of which at least eight bytes behind the IP header are there, or none."""
    if data[0] >> 4 == 6:
        return _read6(data)
    first_byte, tos, ttl, proto, src, dst = _HEAD(data)
    at = (first_byte & 15) * 4
    first = second = 0
    if len(data) >= at + 4:
        if proto in WITH_PORTS:
            first, second = _PORTS(data, at)
        elif proto == ICMP:
            first, second = data[at], data[at + 1]
    return Header(src, dst, proto, first, second, ttl, tos)


def _read6(data: bytes) -> Header:
    proto = data[6]
    first = second = 0
    if len(data) >= 44:
        if proto in WITH_PORTS:
            first, second = _PORTS(data, 40)
        elif proto == ICMPV6:
            first, second = data[40], data[41]
    tos = (data[0] << 8 | data[1]) >> 4 & 0xFF
    return Header(int.from_bytes(data[8:24]), int.from_bytes(data[24:40]), proto, first, second, data[7], tos)
