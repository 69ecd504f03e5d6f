"""Messages to and from the kernel's netfilter: requests that are acknowledged, dumps, and what it reports by itself.

(include/uapi/linux/netlink.h, netfilter/nfnetlink*.h, netfilter/nf_tables.h)
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

from .errors import CannotRun
from .namespaces import Namespace

NETLINK_NETFILTER = 12
REQUEST, ACK, DUMP = 1, 4, 0x300
ERROR, DONE = 2, 3
SOL_NETLINK, ADD_MEMBERSHIP = 270, 1
SO_RCVBUFFORCE = 33
ROOM = 256 << 20
"""Bytes that wait at most to be read; a batch needs a fraction of it."""

CTNETLINK, ULOG, NFTABLES = 1 << 8, 4 << 8, 10 << 8
"""The subsystems of nfnetlink, where a message's type has them."""


def attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("HH", 4 + len(data), kind) + data + b"\0" * (-len(data) % 4)


_HEAD = struct.Struct("HH").unpack_from


def attributes(data: bytes, at: int = 0) -> dict[int, bytes]:
    """A message's attributes by their kind, from this byte on."""
    found: dict[int, bytes] = {}
    end = len(data) - 3
    while at < end:
        size, kind = _HEAD(data, at)
        if size < 4:
            break
        found[kind & 0x3FFF] = data[at + 4 : at + size]
        at += (size + 3) & ~3
    return found


class Netlink:
    """A netfilter socket in a namespace, which hears the multicast groups given."""

    def __init__(self, namespace: Namespace, *groups: int) -> None:
        self._socket = namespace.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        try:
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
            except PermissionError:
                # The root of a user namespace gets what anybody gets, which is enough for a few packets.
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
            self._socket.bind((0, 0))
            for group in groups:
                self._socket.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, group)
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        self._socket.close()

    def request(self, kind: int, payload: bytes) -> None:
        """Send one message and wait for the kernel's word on it; raises CannotRun where it says no."""
        self._send(kind, REQUEST | ACK, payload)
        for found, body in self._answers():
            if found == ERROR:
                code = -struct.unpack_from("i", body)[0]
                if code:
                    raise CannotRun(
                        "K007",
                        f"netfilter refuses a request of nfnetlink subsystem {kind >> 8}: {os.strerror(code)}",
                        "the kernel lacks a module: nfnetlink_log for iptables-legacy, nf_tables for both backends",
                    )
                return

    def dump(self, kind: int, payload: bytes) -> Iterator[bytes]:
        """The bodies of all messages that answer, behind their nfgenmsg."""
        self._send(kind, REQUEST | DUMP, payload)
        for found, body in self._answers():
            if found in (ERROR, DONE):
                return
            yield body[4:]

    def _send(self, kind: int, flags: int, payload: bytes) -> None:
        self._socket.send(struct.pack("IHHII", 16 + len(payload), kind, flags, 1, 0) + payload)

    def _answers(self) -> Iterator[tuple[int, bytes]]:
        self._socket.setblocking(True)
        try:
            while True:
                yield from split(self._socket.recv(1 << 20))
        finally:
            self._socket.setblocking(False)

    def heard(self) -> Iterator[bytes]:
        """What the kernel has reported by now, in order, each read as the socket gives it."""
        receive = self._socket.recv
        while True:
            try:
                yield receive(1 << 16, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return


def split(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The messages of one datagram: type, and what follows the header."""
    at = 0
    while at + 16 <= len(data):
        size, kind = struct.unpack_from("IH", data, at)
        if size < 16:
            return
        yield kind, data[at + 16 : at + size]
        at += (size + 3) & ~3


def flush_connections(netlink: Netlink) -> None:
    """conntrack forgets everything: IPCTNL_MSG_CT_DELETE without a tuple."""
    netlink.request(CTNETLINK | 2, struct.pack("!BBH", socket.AF_UNSPEC, 0, 0))
