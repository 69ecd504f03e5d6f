"""What is said where the kernel cannot be asked: what is missing, or what it refused."""

from __future__ import annotations

import os
import shutil

from ..reading.errors import InputError
from ..values import NOWHERE

PACKAGES = {
    "ip": "iproute2",
    "nft": "nftables",
    "ipset": "ipset",
    "iptables": "iptables",
    "ip6tables": "iptables",
}
"""The Debian packages of the commands, by the name's first part."""


class CannotRun(InputError):
    """This machine lacks what it takes, or does not allow it.  The command line prints it and exits with status 2."""

    def __init__(self, code: str, message: str, hint: str) -> None:
        super().__init__(code, message, NOWHERE, hint=hint)

    def __str__(self) -> str:
        return f"error[{self.code}]: {self.message}\n  = help: {self.hint}"


class RulesRefused(InputError):
    """The real tool, or the kernel, does not load these rules: its own message, with our file and line."""


def need_root() -> None:
    """Raise CannotRun unless this process may make network namespaces.

    The root of a user namespace is root enough, as long as no other uid is asked for.
    """
    if os.geteuid() != 0:
        raise CannotRun(
            "K001",
            "network namespaces are made by root alone",
            "run it with sudo; where no user id but 0 is asked for, `unshare --user --map-root-user --net` serves",
        )


def need(*commands: str) -> None:
    """Raise CannotRun unless all of these commands are installed."""
    for command in commands:
        if shutil.which(command) is None:
            package = PACKAGES.get(command.partition("-")[0], command)
            raise CannotRun(
                "K002", f"`{command}` is not installed", f"on Debian it is in the package {package}"
            )
