"""The questions that a rule may ask of a packet, as fields.

`Packet` holds one answer to each.  `symbolic` has a packet of its own with the same field names,
whose answers are left to the solver.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from .values import TCP, CtState, Family, PacketKind, TcpFlag

NEW_ICMP_TYPES = (8, 13, 15, 17)
"""ICMP requests (echo, timestamp, information, address mask): the types that may begin a connection
(net/netfilter/nf_conntrack_proto_icmp.c: valid_new)."""

NEW_ICMP6_TYPES = (128, 139)
"""ICMPv6 requests (echo, node information) that may begin a connection (net/netfilter/nf_conntrack_proto_icmpv6.c: valid_new)."""

UNTRACKED_ICMP6_TYPES = (130, 131, 132, 133, 134, 135, 136, 143)
"""Neighbour discovery and multicast listeners: ICMPv6 types that conntrack leaves alone, UNTRACKED
(net/netfilter/nf_conntrack_proto_icmpv6.c: noct_valid_new)."""

EXTENSION_HEADERS = (0, 43, 44, 51, 60)
"""Numbers that are no protocol of an IPv6 packet: rules look for the header behind them (net/ipv6/exthdrs_core.c: ipv6_find_hdr)."""

LEAST_LENGTH: Mapping[int, int] = {1: 28, 6: 40, 17: 28, 33: 32, 58: 28, 132: 32, 136: 28}
"""Bytes of a packet whose IP header has no options and whose next header is whole, by protocol; of all others 20."""

SCTP_FLAGS: Mapping[int, tuple[int, int]] = {0: (0, 4), 6: (16, 1), 14: (18, 1)}
"""Chunk types of SCTP whose flags a rule may ask for (DATA, ABORT, SHUTDOWN_COMPLETE): where their part of
`Packet.sctp_flags` begins, and how many flags there are, the last bits of the chunk's flags."""

CT_FLAGS = 0xFF & ~(TcpFlag.ECE | TcpFlag.CWR | TcpFlag.PSH)
"""The TCP flags that conntrack looks at (net/netfilter/nf_conntrack_proto_tcp.c: tcp_error)."""


class Ends(Struct, frozen=True):
    """Addresses and ports of one direction of a connection; ICMP's type and code stand for no ports here: they are 0."""

    src: int
    dst: int
    sport: int = 0
    dport: int = 0


EXPECTED, SEEN_REPLY, ASSURED, CONFIRMED, SRC_NAT, DST_NAT = 1, 2, 4, 8, 16, 32
"""Status bits of a connection (linux/netfilter/nf_conntrack_common.h: enum ip_conntrack_status)."""


class Connection(Struct, frozen=True):
    """What conntrack knows of a packet's connection: its tuples, status bits and mark; `is_reply` iff the packet goes the other way."""

    protocol: int
    original: Ends
    reply: Ends
    status: int = 0
    mark: int = 0
    is_reply: bool = False


class Packet(Struct, frozen=True):
    """A packet inside the host, with what the kernel knows about it.

    From `ttl` on, fields that no rule of the rule set asks for keep these values on every journey.

    Addresses, ports, ids and the mark are numbers.  Ports are 0 where the protocol has none, `flags`
    is 0 but for TCP, and the ICMP fields are 0 but for ICMP.  `uid` and `gid` are both None where no
    local socket sent the packet.  An interface is None where it is not known yet (or no longer).
    """

    src: int
    dst: int
    proto: int = TCP
    sport: int = 0
    dport: int = 0
    flags: int = 0
    icmp_type: int = 0
    icmp_code: int = 0
    in_iface: str | None = None
    out_iface: str | None = None
    uid: int | None = None
    gid: int | None = None
    mark: int = 0
    ctstate: CtState = CtState.NEW
    device: str | None = None
    """The interface that the sending socket is bound to (SO_BINDTODEVICE); gone with the socket."""
    family: Family = Family.IPV4
    ttl: int = 64
    """The time to live, or hop limit."""
    tos: int = 0
    """The TOS byte, or traffic class."""
    length: int = 60
    """Bytes of the whole packet, the IP header included."""
    tcp_options: int = 0
    """Bit N is set iff the TCP header has an option of kind N; likewise for DCCP options and SCTP chunk types."""
    dccp_type: int = 0
    dccp_options: int = 0
    sctp_chunks: int = 0
    sctp_flags: int = 0
    """Bit N of a chunk type's part is set iff there is a chunk of that type with the flags N.  Of a type that is there and has no
    bit, one chunk without flags is meant; the bits of one that is not there mean nothing."""
    spi: int = 0
    """The security parameter index of ESP or AH."""
    extensions: int = 0
    """IPv6 extension headers, as bits of `Ipv6Extension`."""
    groups: int = 0
    """The supplementary groups of the socket, as a number in the host's `groups_of`; gone with the socket."""
    mac: int | None = None
    """The source of the Ethernet header; None where there is none."""
    kind: PacketKind = PacketKind.UNICAST
    connection: Connection | None = None
    """None for what is INVALID or UNTRACKED, and where no rule asks for more than the state."""

    def __post_init__(self) -> None:
        if (self.uid is None) != (self.gid is None):
            raise ValueError("a socket has a uid and a gid, and no socket has neither")
