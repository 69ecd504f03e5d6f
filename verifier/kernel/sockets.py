"""Real sockets in a namespace, of TCP and UDP, IPv4 and IPv6: listening, connecting, accepting, and what the kernel tells about each."""

from __future__ import annotations

import errno
import socket
import struct
from contextlib import ExitStack, suppress

from ..hosts import Listener, Process
from ..values import IPV4, TCP, Family, read_address, spell_address
from .envoys import smallest_ids
from .namespaces import Namespace
from .observed import Accepted, Endpoint, endpoint
from .stimuli import Connect

SOCKETS = {IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}
LEVELS = {IPV4: socket.SOL_IP, Family.IPV6: socket.IPPROTO_IPV6}
SO_ORIGINAL_DST = 80
"""The same number for IPv6 (IP6T_SO_ORIGINAL_DST)."""
TRANSPARENT = {IPV4: 19, Family.IPV6: 75}
RECVERR = {IPV4: 11, Family.IPV6: 25}
"""By which an unconnected error, too, is one of the socket (ip(7), ipv6(7))."""
ORIGDSTADDR = {IPV4: 20, Family.IPV6: 74}
"""By which a datagram's destination is told, as it was when it arrived at the socket."""
MULTICAST_TTL = {IPV4: 33, Family.IPV6: 18}
USUAL_TTL = 64
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER for a close by reset, which leaves no connection behind in any state."""
LOOPBACK = 1
"""::1, which is no address of any other device."""


def listening(
    namespace: Namespace, process: Process, listener: Listener, family: Family = IPV4
) -> socket.socket:
    """A listening socket, or one that waits for datagrams; raises OSError where the kernel does not allow it.

    Listeners overlap (*:80 and 127.0.0.1:80) only with SO_REUSEPORT, and within one uid.
    """
    uid, gid = smallest_ids(process)
    opened = namespace.socket(
        SOCKETS[family], _kind(listener.protocol), uid=uid, gid=gid, groups=process.supplementary
    )
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if listener.transparent:
            opened.setsockopt(LEVELS[family], TRANSPARENT[family], 1)
        if listener.device is not None:
            bind_device(opened, listener.device)
        opened.bind((spell_address(listener.address or 0, family), listener.port))
        if listener.protocol == TCP:
            opened.listen(64)
        else:
            opened.setsockopt(LEVELS[family], ORIGDSTADDR[family], 1)
    except OSError as e:
        opened.close()
        raise OSError(e.errno, f"{process.name} cannot listen on {listener}: {e}") from e
    return opened


def _kind(protocol: int) -> socket.SocketKind:
    return socket.SOCK_STREAM if protocol == TCP else socket.SOCK_DGRAM


def connecting(namespace: Namespace, dial: Connect, stack: ExitStack) -> socket.socket:
    """A socket that has begun to connect, or has sent a datagram, reset with the stack; raises OSError where bind() or
    connect() fail.
    """
    family = dial.family
    owner = {"uid": dial.uid, "gid": dial.gid}
    client = namespace.socket(SOCKETS[family], _kind(dial.protocol), **owner, groups=dial.groups)
    stack.enter_context(client)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if dial.mark:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("I", dial.mark))
    if dial.transparent:
        client.setsockopt(LEVELS[family], TRANSPARENT[family], 1)
    if dial.protocol == TCP:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    else:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        client.setsockopt(LEVELS[family], RECVERR[family], 1)
        client.setsockopt(LEVELS[family], MULTICAST_TTL[family], USUAL_TTL)
    source = (spell_address(dial.src or 0, family), dial.sport)
    # A device's socket can be bound to its own addresses alone, but an IPv6 socket may be bound to ::1 before it has a device.
    early = family is not IPV4 and dial.src == LOOPBACK
    if early:
        client.bind(source)
    if dial.device is not None:
        bind_device(client, dial.device)
    if not early:
        client.bind(source)
    result = client.connect_ex((spell_address(dial.dst, family), dial.dport))
    if result not in (0, errno.EINPROGRESS):
        raise OSError(result, "connect")
    if dial.protocol != TCP:
        # A rule that drops it is an error here; what the packet comes to is looked for elsewhere.
        with suppress(OSError):
            client.send(b"")
    return client


def accept(listener: socket.socket, process: str, stack: ExitStack) -> Accepted | None:
    """The next connection, reset with the stack; None where there is none."""
    try:
        accepted, client = listener.accept()
    except BlockingIOError:
        return None
    stack.enter_context(accepted)
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    own = _end(listener, accepted.getsockname())
    return Accepted(process, own, _end(listener, client), _original(accepted) or own)


def receive(listener: socket.socket, process: str) -> Accepted | None:
    """The next datagram; None where there is none."""
    try:
        _, told, _, client = listener.recvmsg(2048, 256)
    except OSError:
        return None
    family = _family(listener)
    for level, kind, data in told:
        if (level, kind) == (LEVELS[family], ORIGDSTADDR[family]):
            own = _named(data, family)
            return Accepted(process, own, _end(listener, client), own)
    raise AssertionError("a datagram's destination was asked for")


def _original(accepted: socket.socket) -> Endpoint | None:
    """SO_ORIGINAL_DST; None where conntrack does not know the connection."""
    family = _family(accepted)
    try:
        name = accepted.getsockopt(LEVELS[family], SO_ORIGINAL_DST, 16 if family is IPV4 else 28)
    except OSError as e:
        if e.errno in (errno.ENOENT, errno.ENOPROTOOPT):
            return None
        raise
    return _named(name, family)


def _named(name: bytes, family: Family) -> Endpoint:
    """A `sockaddr_in` or `sockaddr_in6`."""
    (port,) = struct.unpack_from("!H", name, 2)
    at, size = (4, 4) if family is IPV4 else (8, 16)
    return endpoint(int.from_bytes(name[at : at + size]), port, family)


def _family(opened: socket.socket) -> Family:
    return IPV4 if opened.family == socket.AF_INET else Family.IPV6


def _end(opened: socket.socket, name: tuple[str, int]) -> Endpoint:
    """What Python tells of an address; of IPv6 there are a flow and a scope behind it."""
    family = _family(opened)
    return endpoint(read_address(name[0], family), name[1], family)


def own_end(opened: socket.socket) -> tuple[int, int]:
    address, port = opened.getsockname()[:2]
    return read_address(address, _family(opened)), port


def connected_to(client: socket.socket) -> int:
    """Where a connect() to 0.0.0.0 or :: went: asked of the kernel, or, if refused, the socket's own address."""
    try:
        return read_address(client.getpeername()[0], _family(client))
    except OSError:
        return own_end(client)[0]


def bind_device(opened: socket.socket, device: str) -> None:
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")
