"""Throw-away network namespaces, worked in by one root process.

A socket stays in the namespace in which it was made, so only making it needs `setns`.  A namespace
ends with the last thing that holds it: close the object and its sockets, and it is gone.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .errors import CannotRun, need, need_root

CLONE_NEWNET = 0x40000000
HERE = "/proc/thread-self/ns/net"

_OWNERS = threading.Lock()
"""Held while a socket is made: setgroups(2), as the C library has it, is for all threads of the process."""

_libc = ctypes.CDLL(None, use_errno=True)


class CommandFailed(Exception):
    """A command in a namespace ended with another status than 0, and said this."""

    def __init__(self, command: Sequence[str], status: int, said: str) -> None:
        super().__init__(f"{' '.join(command)}: status {status}\n{said}")
        self.said = said


class Namespace:
    """A new network namespace, with nothing in it but `lo`, which is down; raises CannotRun where there can be none."""

    def __init__(self) -> None:
        need_root()
        self._closed = False
        self._home = os.open(HERE, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.unshare(CLONE_NEWNET), "unshare")
            try:
                self._fd = os.open(HERE, os.O_RDONLY | os.O_CLOEXEC)
            finally:
                self._go(self._home)
        except BaseException as error:
            os.close(self._home)
            if isinstance(error, OSError):
                raise CannotRun(
                    "K003",
                    f"no network namespace can be made: {error.strerror}",
                    "it takes CAP_SYS_ADMIN, also in the namespace that this runs in (`unshare --net`), and CONFIG_NET_NS",
                ) from None
            raise

    def close(self) -> None:
        self._closed = True
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
            # An interrupt on the way in leaves this generator to the garbage collector, perhaps once all is closed.
            if not self._closed:
                self._go(self._home)

    def run(self, command: Sequence[str], text: str = "") -> str:
        """The standard output of a command that reads `text`; raises CommandFailed, and CannotRun where it is not installed."""
        need(command[0])
        with self.entered():
            done = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
        if done.returncode:
            raise CommandFailed(command, done.returncode, done.stderr)
        return done.stdout

    def set_sysctl(self, path: str, value: int) -> None:
        """Write one file under /proc/sys, as in `net/ipv4/ip_forward`."""
        with self.entered():
            Path("/proc/sys", path).write_text(f"{value}\n")

    def socket(
        self,
        family: int,
        kind: int,
        protocol: int = 0,
        *,
        uid: int = 0,
        gid: int = 0,
        groups: Sequence[int] = (),
    ) -> socket.socket:
        """A socket whose file belongs to uid and gid and these supplementary groups: what the owner match reads is the
        fsuid, the fsgid and the groups at the time the file is made (net/netfilter/xt_owner.c: f_cred).  Raises CannotRun for an id that this user
        namespace does not map.
        """
        with self.entered(), _OWNERS:
            before = os.getgroups()
            if list(groups) != before:
                os.setgroups(groups)
            _libc.setfsgid(gid)
            _libc.setfsuid(uid)
            try:
                # Neither call tells whether it did anything, but each returns what was there.
                if (_id(_libc.setfsuid(-1)), _id(_libc.setfsgid(-1))) != (uid, gid):
                    raise CannotRun(
                        "K005",
                        f"no socket of uid {uid} and gid {gid} can be made here",
                        "run it as the real root",
                    )
                return socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
            finally:
                _libc.setfsuid(0)
                _libc.setfsgid(0)
                if list(groups) != before:
                    os.setgroups(before)

    def _go(self, fd: int) -> None:
        _check(_libc.setns(fd, CLONE_NEWNET), "setns")


def _id(returned: int) -> int:
    return returned & 0xFFFFFFFF


def _check(result: int, what: str) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
