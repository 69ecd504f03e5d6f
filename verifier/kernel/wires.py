"""The far end of a pod's interface, played by hand: segments and datagrams go in and come out as frames.

The far kernel has no address and answers nothing.  So a frame may have any source and any
destination, also those that no socket could be bound to, and what left the pod is seen as it left.
"""

from __future__ import annotations

import socket

from ..values import IPV4, Family
from .building import NEAR_MAC, PACKET_IGNORE_OUTGOING, SOL_PACKET
from .namespaces import Namespace
from .segments import Datagram, Segment, Unreachable, read_packet

ETHERTYPES = {IPV4: 0x0800, Family.IPV6: 0x86DD}


class Wire:
    """One interface's far end, of one family."""

    def __init__(self, far: Namespace, interface: str, family: Family = IPV4) -> None:
        self.interface = interface
        self._to = (interface, ETHERTYPES[family], 0, 0, NEAR_MAC)
        self._socket = far.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
        try:
            self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            self._socket.bind((interface, ETHERTYPES[family]))
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def send(self, packet: bytes) -> None:
        """Put a packet on the wire, addressed to the pod's MAC."""
        self._socket.sendto(packet, self._to)

    def receive(self) -> list[Segment | Datagram | Unreachable]:
        """What has left the pod since the last call, in order; what is neither TCP, nor UDP, nor a rejection is left out."""
        found: list[Segment | Datagram | Unreachable] = []
        while True:
            try:
                packet = self._socket.recv(2048)
            except BlockingIOError:
                return found
            seen = read_packet(packet)
            if seen is not None:
                found.append(seen)
