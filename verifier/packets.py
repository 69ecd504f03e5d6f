"""The questions that a rule may ask of a packet, as fields.

`Packet` holds one answer to each.  `symbolic` has a packet of its own with the same field names,
whose answers are left to the solver.
"""

from __future__ import annotations

from msgspec import Struct

from .values import TCP, CtState, TcpFlag

NEW_ICMP_TYPES = (8, 13, 15, 17)
"""ICMP requests (echo, timestamp, information, address mask): the types that may begin a connection
(net/netfilter/nf_conntrack_proto_icmp.c: valid_new)."""

CT_FLAGS = 0xFF & ~(TcpFlag.ECE | TcpFlag.CWR | TcpFlag.PSH)
"""The TCP flags that conntrack looks at (net/netfilter/nf_conntrack_proto_tcp.c: tcp_error)."""


class Packet(Struct, frozen=True):
    """An IPv4 packet inside the host, with what the kernel knows about it.

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

    def __post_init__(self) -> None:
        if (self.uid is None) != (self.gid is None):
            raise ValueError("a socket has a uid and a gid, and no socket has neither")
