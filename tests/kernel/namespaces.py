"""Throw-away network namespaces, worked in by one root process.

A socket stays in the namespace in which it was made, so only making it needs `setns`.  A namespace
ends with the last thing that holds it: close the object and its sockets, and it is gone.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

CLONE_NEWNET = 0x40000000
HERE = "/proc/thread-self/ns/net"

_libc = ctypes.CDLL(None, use_errno=True)


class CommandFailed(Exception):
    """A command in a namespace ended with another status than 0."""


class Namespace:
    """A new network namespace, with nothing in it but `lo`, which is down."""

    def __init__(self) -> None:
        self._home = os.open(HERE, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.unshare(CLONE_NEWNET), "unshare")
            try:
                self._fd = os.open(HERE, os.O_RDONLY | os.O_CLOEXEC)
            finally:
                self._go(self._home)
        except BaseException:
            os.close(self._home)
            raise

    def close(self) -> None:
        os.close(self._fd)
        os.close(self._home)

    @property
    def path(self) -> str:
        """A path by which a child process finds this namespace."""
        return f"/proc/{os.getpid()}/fd/{self._fd}"

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread works in the namespace."""
        self._go(self._fd)
        try:
            yield
        finally:
            self._go(self._home)

    def run(self, command: Sequence[str], text: str = "") -> str:
        """The standard output of a command that reads `text`; raises CommandFailed."""
        with self.entered():
            done = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
        if done.returncode:
            raise CommandFailed(f"{' '.join(command)}: status {done.returncode}\n{done.stderr}")
        return done.stdout

    def set_sysctl(self, path: str, value: int) -> None:
        """Write one file under /proc/sys, as in `net/ipv4/ip_forward`."""
        with self.entered():
            Path("/proc/sys", path).write_text(f"{value}\n")

    def socket(
        self, family: int, kind: int, protocol: int = 0, *, uid: int = 0, gid: int = 0
    ) -> socket.socket:
        """A socket whose file belongs to uid and gid: what the owner match reads is the fsuid and fsgid
        at the time the file is made (net/netfilter/xt_owner.c: f_cred).
        """
        with self.entered():
            _libc.setfsgid(gid)
            _libc.setfsuid(uid)
            try:
                return socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
            finally:
                _libc.setfsuid(0)
                _libc.setfsgid(0)

    def _go(self, fd: int) -> None:
        _check(_libc.setns(fd, CLONE_NEWNET), "setns")


def _check(result: int, what: str) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
