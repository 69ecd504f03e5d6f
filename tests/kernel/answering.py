"""A host with real sockets, and far machines played by hand, that answer each other: what became of the answer to one packet."""

from __future__ import annotations

import errno
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, suppress

from msgspec.structs import replace

from verifier.hosts import Listener, Process, Setting
from verifier.journeys import FromOutside, FromProcess, Journey, Left, Returned, Unmodelled
from verifier.kernel.building import (
    FAR_MAC,
    NEAR_MAC,
    PACKET_IGNORE_OUTGOING,
    SOL_PACKET,
    build,
    set_sysctls,
    wait_for_links,
)
from verifier.kernel.iptables import BackendName, Iptables
from verifier.kernel.namespaces import Namespace
from verifier.kernel.oracle import ETHERTYPES, SOCKETS, TRANSPARENT
from verifier.kernel.sockets import RESET, bind_device
from verifier.packets import Packet
from verifier.values import ICMP, ICMPV6, TCP, UDP, Family, TcpFlag, spell_address

NOTHING = "nothing"
RETURNED = "returned"
WINDOW = 0.03
"""Seconds of silence, after which nothing more will come: softirqs run before the call that caused them returns."""
SYN, SYN_ACK = int(TcpFlag.SYN), TcpFlag.SYN | TcpFlag.ACK
ECHOES = {ICMP: (8, 0), ICMPV6: (128, 129)}
PKTINFO = 8
"""IP_PKTINFO (include/uapi/linux/in.h), which tells to which address a datagram came."""


def told(answer: Journey | None) -> str:
    """How an answer ends, in the words of `Ground.answer`."""
    if answer is None:
        return NOTHING
    assert not isinstance(answer.end, Unmodelled), answer.end
    match answer.end:
        case Left(interface):
            return left(interface, answer.final)
        case Returned():
            return RETURNED
        case _:
            return NOTHING


def left(interface: str, packet: Packet) -> str:
    return f"{interface} {_end(packet, packet.src, packet.sport)} > {_end(packet, packet.dst, packet.dport)}"


def _end(packet: Packet, address: int, port: int) -> str:
    spelled = spell_address(address, packet.family)
    return spelled if packet.proto in ECHOES else f"{spelled} {port}"


class Ground:
    """The setting's host, and far ends of its interfaces; a context manager.  Datagrams are answered in IPv4 alone."""

    def __init__(self, setting: Setting, rules: str, backend: BackendName) -> None:
        self._host = setting.host
        self._family = setting.host.family
        self._wires: dict[str, socket.socket] = {}
        self._datagrams: list[socket.socket] = []
        with ExitStack() as stack:
            self._near, far = Namespace(), Namespace()
            stack.callback(self._near.close)
            stack.callback(far.close)
            quiet = (self._near, far) if self._family is Family.IPV4 else (far,)
            for namespace in quiet:
                for word in ("all", "default"):
                    namespace.set_sysctl(f"net/ipv6/conf/{word}/disable_ipv6", 1)
            build(self._near, far, setting.host)
            Iptables(self._near, backend, self._family).load(rules)
            set_sysctls(self._near, setting.host)
            wait_for_links(self._near, far, setting.host)
            for interface in setting.host.interfaces:
                if interface.name != "lo":
                    wire = stack.enter_context(far.socket(socket.AF_PACKET, socket.SOCK_RAW))
                    wire.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
                    wire.bind((interface.name, ETHERTYPES[self._family]))
                    self._wires[interface.name] = wire
            for process in setting.host.processes:
                for listener in process.listens:
                    self._listen(stack, process, listener)
            self._stack = stack.pop_all()

    def __enter__(self) -> Ground:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _listen(self, stack: ExitStack, process: Process, listener: Listener) -> None:
        kind = socket.SOCK_STREAM if listener.protocol == TCP else socket.SOCK_DGRAM
        uid, gid = process.uid.ranges[0].first, process.gid.ranges[0].first
        opened = stack.enter_context(self._near.socket(SOCKETS[self._family], kind, uid=uid, gid=gid))
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listener.transparent:
            level, option = TRANSPARENT[self._family]
            opened.setsockopt(level, option, 1)
        if listener.device is not None:
            bind_device(opened, listener.device)
        opened.bind((spell_address(listener.address or 0, self._family), listener.port))
        if listener.protocol == TCP:
            opened.listen(8)
        else:
            opened.setsockopt(socket.SOL_IP, PKTINFO, 1)
            self._datagrams.append(opened)

    def answer(self, sender: FromOutside | FromProcess, packet: Packet) -> str:
        """`returned`: its sender's socket has the answer; `IF SRC > DST`: it left so; or `nothing`.

        What leaves is answered where it left, with what it says there the other way round.
        """
        if isinstance(sender, FromProcess):
            return self._of_a_process(packet)
        self._put(sender.interface, packet)
        self._echo()
        for interface, seen in self._left():
            if _is_answer(seen):
                return left(interface, seen)
            self._put(interface, _answering(seen))
            return next((left(i, s) for i, s in self._left() if _is_answer(s)), NOTHING)
        return NOTHING

    def _of_a_process(self, packet: Packet) -> str:
        kind = socket.SOCK_STREAM if packet.proto == TCP else socket.SOCK_DGRAM
        uid, gid = packet.uid or 0, packet.gid or 0
        with self._near.socket(SOCKETS[self._family], kind, uid=uid, gid=gid) as client:
            if packet.device is not None:
                bind_device(client, packet.device)
            if packet.proto == TCP:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.bind((spell_address(packet.src, self._family), packet.sport))
            code = client.connect_ex((spell_address(packet.dst, self._family), packet.dport))
            assert code in (0, errno.EINPROGRESS), errno.errorcode[code]
            if packet.proto == UDP:
                client.send(b"question")
            self._echo()
            for interface, seen in self._left():
                if not _is_answer(seen):
                    self._put(interface, _answering(seen))
                    break
            return RETURNED if _has_it(client, packet.proto) else NOTHING

    def hears(self, packet: Packet) -> bool:
        """True iff a process's socket, which sends the packet, is told of an error."""
        kind = socket.SOCK_STREAM if packet.proto == TCP else socket.SOCK_DGRAM
        with self._near.socket(
            SOCKETS[self._family], kind, uid=packet.uid or 0, gid=packet.gid or 0
        ) as client:
            if packet.device is not None:
                bind_device(client, packet.device)
            client.bind((spell_address(packet.src, self._family), packet.sport))
            client.connect_ex((spell_address(packet.dst, self._family), packet.dport))
            if packet.proto == UDP:
                # That the packet was dropped is told at once; an error comes to the socket.
                with suppress(PermissionError):
                    client.send(b"question")
            for _ in self._left():
                pass
            return client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0

    def _echo(self) -> None:
        """Datagram sockets answer from the address to which they were asked."""
        for opened in select.select(self._datagrams, [], [], 0)[0]:
            data, told_of, _, client = opened.recvmsg(100, 100)
            asked = next(value for level, kind, value in told_of if (level, kind) == (socket.SOL_IP, PKTINFO))
            info = struct.pack("=i4s4s", 0, asked[8:12], bytes(4))
            opened.sendmsg([data], [(socket.SOL_IP, PKTINFO, info)], 0, client)

    # -- the wires ----------------------------------------------------------------------------------

    def _put(self, interface: str, packet: Packet) -> None:
        kind = struct.pack("!H", ETHERTYPES[self._family])
        self._wires[interface].send(NEAR_MAC + FAR_MAC + kind + _bytes(packet))

    def _left(self) -> Iterator[tuple[str, Packet]]:
        """Questions and answers that leave the host from now on, until nothing more does."""
        while ready := select.select([*self._wires.values()], [], [], WINDOW)[0]:
            for name, wire in self._wires.items():
                seen = _read(wire.recv(2048)[14:], self._family) if wire in ready else None
                if seen is not None:
                    yield name, seen


def _has_it(client: socket.socket, protocol: int) -> bool:
    if protocol == UDP:
        return bool(select.select([client], [], [], WINDOW)[0])
    able = select.select([], [client], [], WINDOW)[1]
    return bool(able) and client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


def _is_answer(packet: Packet) -> bool:
    """Of datagrams those to a higher port than they come from."""
    if packet.proto == TCP:
        return packet.flags == SYN_ACK
    if packet.proto in ECHOES:
        return packet.icmp_type == ECHOES[packet.proto][1]
    return packet.sport < packet.dport


def _answering(packet: Packet) -> Packet:
    """What a far machine sends back; a question's sequence number is carried in `length`."""
    back = replace(packet, src=packet.dst, dst=packet.src, sport=packet.dport, dport=packet.sport)
    if packet.proto == TCP:
        return replace(back, flags=SYN_ACK)
    return replace(back, icmp_type=ECHOES[packet.proto][1]) if packet.proto in ECHOES else back


# -- bytes ------------------------------------------------------------------------------------------


def _bytes(packet: Packet) -> bytes:
    ipv6 = packet.family is Family.IPV6
    size = 16 if ipv6 else 4
    ends = packet.src.to_bytes(size) + packet.dst.to_bytes(size)
    if packet.proto == TCP:
        at, ack = 16, packet.length + 1 if packet.flags & TcpFlag.ACK else 0
        head = (packet.sport, packet.dport, 77, ack & 0xFFFFFFFF, 5 << 4, packet.flags, 8192, 0, 0)
        body = struct.pack("!HHIIBBHHH", *head)
    elif packet.proto == UDP:
        at, body = 6, struct.pack("!HHHH", packet.sport, packet.dport, 12, 0) + b"data"
    else:
        at, body = 2, struct.pack("!BBHHH", packet.icmp_type, packet.icmp_code, 0, 7, 7)
    pseudo = b"" if packet.proto == ICMP else ends + struct.pack("!II", len(body), packet.proto)
    body = body[:at] + _checksum(pseudo + body) + body[at + 2 :]
    if ipv6:
        return struct.pack("!IHBB", 6 << 28, len(body), packet.proto, 64) + ends + body
    head4 = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, packet.proto, 0) + ends
    return head4[:10] + _checksum(head4) + head4[12:] + body


def _checksum(data: bytes) -> bytes:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


def _read(data: bytes, family: Family) -> Packet | None:
    """A SYN, a SYN-ACK, a datagram or an echo; None for all else."""
    ipv6 = family is Family.IPV6
    proto, body = (data[6], data[40:]) if ipv6 else (data[9], data[20:])
    ends = (data[8:24], data[24:40]) if ipv6 else (data[12:16], data[16:20])
    made = Packet(int.from_bytes(ends[0]), int.from_bytes(ends[1]), proto, family=family)
    if proto in ECHOES:
        return replace(made, icmp_type=body[0]) if body[0] in ECHOES[proto] else None
    if proto not in (TCP, UDP):
        return None
    sport, dport, sequence = struct.unpack_from("!HHI", body)
    made = replace(made, sport=sport, dport=dport)
    if proto == UDP:
        return made
    flags = body[13] & (TcpFlag.SYN | TcpFlag.ACK | TcpFlag.RST | TcpFlag.FIN)
    return replace(made, flags=flags, length=sequence) if flags in (SYN, SYN_ACK) else None
