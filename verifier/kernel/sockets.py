"""Real TCP sockets in a namespace: listening, connecting, accepting, and what the kernel tells about each."""

from __future__ import annotations

import errno
import socket
import struct
from contextlib import ExitStack

from ..hosts import Listener, Process
from ..values import read_address, spell_address
from .envoys import smallest_ids
from .namespaces import Namespace
from .observed import Accepted, Endpoint, endpoint
from .stimuli import Connect

SO_ORIGINAL_DST = 80
IP_TRANSPARENT = 19
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER for a close by reset, which leaves no connection behind in any state."""


def listening(namespace: Namespace, process: Process, listener: Listener) -> socket.socket:
    """A listening socket; raises OSError where the kernel does not allow it.

    Listeners overlap (*:80 and 127.0.0.1:80) only with SO_REUSEPORT, and within one uid.
    """
    uid, gid = smallest_ids(process)
    its = process.supplementary
    opened = namespace.socket(socket.AF_INET, socket.SOCK_STREAM, uid=uid, gid=gid, groups=its)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if listener.device is not None:
            bind_device(opened, listener.device)
        opened.bind((spell_address(listener.address or 0), listener.port))
        opened.listen(64)
    except OSError as e:
        opened.close()
        raise OSError(e.errno, f"{process.name} cannot listen on {listener}: {e}") from e
    return opened


def connecting(namespace: Namespace, dial: Connect, stack: ExitStack) -> socket.socket:
    """A socket that has begun to connect, reset with the stack; raises OSError where bind() or connect() fail."""
    owner = {"uid": dial.uid, "gid": dial.gid}
    client = namespace.socket(socket.AF_INET, socket.SOCK_STREAM, **owner, groups=dial.groups)
    stack.enter_context(client)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if dial.mark:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, dial.mark)
    if dial.device is not None:
        bind_device(client, dial.device)
    if dial.transparent:
        client.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
    client.bind((spell_address(dial.src or 0), dial.sport))
    result = client.connect_ex((spell_address(dial.dst), dial.dport))
    if result not in (0, errno.EINPROGRESS):
        raise OSError(result, "connect")
    return client


def accept(listener: socket.socket, process: str, stack: ExitStack) -> Accepted | None:
    """The next connection, reset with the stack; None where there is none."""
    try:
        accepted, (client, port) = listener.accept()
    except BlockingIOError:
        return None
    stack.enter_context(accepted)
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    own_address, own_port = accepted.getsockname()
    own = f"{own_address}:{own_port}"
    return Accepted(process, own, f"{client}:{port}", _original(accepted) or own)


def _original(accepted: socket.socket) -> Endpoint | None:
    """SO_ORIGINAL_DST; None where conntrack does not know the connection."""
    try:
        name = accepted.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
    except OSError as e:
        if e.errno in (errno.ENOENT, errno.ENOPROTOOPT):
            return None
        raise
    port, address = struct.unpack_from("!HI", name, 2)
    return endpoint(address, port)


def own_end(opened: socket.socket) -> tuple[int, int]:
    address, port = opened.getsockname()
    return read_address(address), port


def connected_to(client: socket.socket) -> int:
    """Where a connect() to 0.0.0.0 went: asked of the kernel, or, if refused, the socket's own address."""
    try:
        return read_address(client.getpeername()[0])
    except OSError:
        return own_end(client)[0]


def bind_device(opened: socket.socket, device: str) -> None:
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")
