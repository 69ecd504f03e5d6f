"""An IPv6 host in the kernel, and what its counters say of a packet: which rules it matched, in every table.

All rules ask for the source port (or the protocol) of what is sent by hand, so that no answer of the host's own is counted.
"""

from __future__ import annotations

import socket
import struct
import time
from collections import Counter
from contextlib import ExitStack
from types import TracebackType

from verifier.hosts import Host
from verifier.journeys import Act, Journey
from verifier.kernel.building import NEAR_MAC, build, set_sysctls, wait_for_links
from verifier.kernel.iptables import BackendName, Hit, Iptables
from verifier.kernel.namespaces import Namespace
from verifier.packets import Packet
from verifier.values import ICMPV6, TCP, UDP, Family

ETHERTYPE = 0x86DD
SO_BINDTODEVICE = 25
EXPERIMENT = 253
"""A protocol that nobody takes (RFC 3692)."""


class Six:
    """The host, under rules that the real ip6tables loads, until it is closed."""

    def __init__(self, host: Host, rules: str, backend: BackendName) -> None:
        self._stack = ExitStack()
        try:
            self._near, far = Namespace(), Namespace()
            self._stack.callback(self._near.close)
            self._stack.callback(far.close)
            build(self._near, far, host)
            wait_for_links(self._near, far, host)
            self._tables = Iptables(self._near, backend, Family.IPV6)
            self._tables.load(rules)
            set_sysctls(self._near, host)
            self._wires = {}
            for name in (i.name for i in host.interfaces if i.name != "lo"):
                wire = self._stack.enter_context(far.socket(socket.AF_PACKET, socket.SOCK_DGRAM))
                wire.bind((name, 0))
                self._wires[name] = wire
            for process in host.processes:
                for listener in process.listens:
                    kind = socket.SOCK_STREAM if listener.protocol == TCP else socket.SOCK_DGRAM
                    it = self._stack.enter_context(self._near.socket(socket.AF_INET6, kind))
                    it.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                    if listener.device is not None:
                        it.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, listener.device.encode())
                    it.bind((text(listener.address or 0), listener.port))
                    if listener.protocol == TCP:
                        it.listen()
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Six:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def arrives(self, interface: str, packet: Packet) -> Counter[Hit]:
        """The rules that a frame with this packet matches, and how often each."""
        return self._counted(lambda: self._frame(interface, packet))

    def sends(self, packet: Packet) -> tuple[int, Counter[Hit]]:
        """The error of a socket's connect() or sendto(), and the rules that the packet matches; the source is bound unless
        it is 0."""
        found: list[int] = []
        hits = self._counted(lambda: found.append(self._socket(packet)))
        return found[0], hits

    def selects(self, dst: int, uid: int) -> int | None:
        """The source of a TCP connection to port 80 that is not bound, None iff there is none, or it is refused there and then."""
        with self._near.socket(socket.AF_INET6, socket.SOCK_STREAM, uid=uid) as it:
            it.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            try:
                it.connect((text(dst), 80))
            except BlockingIOError:
                pass
            except OSError:
                return None
            return int.from_bytes(socket.inet_pton(socket.AF_INET6, it.getsockname()[0].partition("%")[0]))

    def _counted(self, act: object) -> Counter[Hit]:
        before = Counter(self._tables.counters())
        act()  # type: ignore[operator]
        time.sleep(0.002)
        return Counter(self._tables.counters()) - before

    def _frame(self, interface: str, packet: Packet) -> None:
        self._wires[interface].sendto(octets(packet), (interface, ETHERTYPE, 0, 0, NEAR_MAC))

    def _socket(self, packet: Packet) -> int:
        kind = socket.SOCK_STREAM if packet.proto == TCP else socket.SOCK_DGRAM
        with self._near.socket(socket.AF_INET6, kind, uid=packet.uid or 0) as it:
            try:
                it.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                # ::1 is no address of the device, and may be bound before it.
                if packet.src == 1:
                    it.bind((text(packet.src), packet.sport))
                if packet.device is not None:
                    it.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, packet.device.encode())
                if packet.src != 1:
                    it.bind((text(packet.src), packet.sport))
                if packet.mark:
                    it.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("I", packet.mark))
                if packet.proto == TCP:
                    it.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    it.connect((text(packet.dst), packet.dport))
                else:
                    it.sendto(b"", (text(packet.dst), packet.dport))
            except BlockingIOError:
                return 0
            except OSError as error:
                return error.errno or -1
        return 0


def text(address: int) -> str:
    return socket.inet_ntop(socket.AF_INET6, address.to_bytes(16))


def matched(journey: Journey) -> Counter[Hit]:
    """The rules that the packets of a journey match, and how often each."""
    stops = (s for s in journey.stops if s.act is Act.MATCHED)
    return Counter((s.table or "", s.chain or "", s.rule or 0) for s in stops)


def octets(packet: Packet) -> bytes:
    """The packet, without data."""
    src, dst = packet.src.to_bytes(16), packet.dst.to_bytes(16)
    match packet.proto:
        case 6:
            body = struct.pack(
                "!HHIIBBHHH", packet.sport, packet.dport, 1, 0, 5 << 4, packet.flags, 9000, 0, 0
            )
            at = 16
        case 17:
            body, at = struct.pack("!HHHH", packet.sport, packet.dport, 8, 0), 6
        case 58:
            body, at = struct.pack("!BBHI", packet.icmp_type, packet.icmp_code, 0, 1), 2
        case _:
            body, at = b"", 0
    if packet.proto in (TCP, UDP, ICMPV6):
        pseudo = src + dst + struct.pack("!II", len(body), packet.proto)
        body = body[:at] + struct.pack("!H", _checksum(pseudo + body)) + body[at + 2 :]
    return struct.pack("!IHBB", 6 << 28, len(body), packet.proto, packet.ttl) + src + dst + body


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF or 0xFFFF
