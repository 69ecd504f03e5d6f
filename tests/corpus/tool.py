"""The real iptables, each time in a network namespace of its own: what it makes of a text, or of a list of commands."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Sequence

from msgspec import Struct

from verifier.kernel.namespaces import Namespace

COMMANDS = {"v4": "iptables", "v6": "ip6tables"}
BACKENDS = ("legacy", "nft")
SECONDS = 60


class Loaded(Struct, frozen=True):
    """The tool took it, and this is what it prints of it afterwards."""

    saved: str


class NotLoaded(Struct, frozen=True):
    """The tool refused it, with these words."""

    error: str


def load(text: str, family: str, backend: str) -> Loaded | NotLoaded:
    """Put a text to iptables-restore, after the sets that it names have been made."""
    namespace = Namespace()
    try:
        with namespace.entered():
            _make_sets(text, family)
            done = _run([f"{COMMANDS[family]}-{backend}-restore"], text)
            if done.returncode:
                return NotLoaded(_said(done))
            return Loaded(_run([f"{COMMANDS[family]}-{backend}-save"]).stdout)
    finally:
        namespace.close()


class Obeyed(Struct, frozen=True):
    """What a list of commands left behind, by family, and the commands that were refused with the tool's words."""

    saved: dict[str, str]
    refused: dict[int, str]


def obey(commands: Sequence[tuple[str, Sequence[str]]], backend: str) -> Obeyed:
    """Run commands (a family and its arguments) in turn, going on after a refusal."""
    namespace = Namespace()
    refused: dict[int, str] = {}
    try:
        with namespace.entered():
            for family in COMMANDS:
                _make_sets("\n".join(" ".join(words) for f, words in commands if f == family), family)
            for number, (family, words) in enumerate(commands):
                done = _run([f"{COMMANDS[family]}-{backend}", *words])
                if done.returncode:
                    refused[number] = _said(done)
            families = {family for family, _ in commands}
            return Obeyed(
                {f: _run([f"{COMMANDS[f]}-{backend}-save"]).stdout for f in sorted(families)}, refused
            )
    finally:
        namespace.close()


def sets_named(text: str) -> dict[str, int]:
    """The ip sets that a text names, each with the number of its dimensions."""
    found = re.findall(
        r"--(?:match-set|add-set|del-set|map-set) +(\S+) +((?:src|dst)(?:,(?:src|dst))*)", text
    )
    return {name: flags.count(",") + 1 for name, flags in found}


_TYPES = {1: "hash:net", 2: "hash:ip,port", 3: "hash:ip,port,net"}


def _make_sets(text: str, family: str) -> None:
    for name, dimensions in sets_named(text).items():
        kind = "inet6" if family == "v6" else "inet"
        _run(["ipset", "create", name, _TYPES.get(dimensions, "hash:net"), "family", kind])


def _run(command: Sequence[str], text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        input=text,
        text=True,
        errors="surrogateescape",
        capture_output=True,
        check=False,
        timeout=SECONDS,
    )


def _said(done: subprocess.CompletedProcess[str]) -> str:
    words = [line for line in done.stderr.splitlines() if line and not line.startswith("Try `")]
    return " ".join(words) or f"status {done.returncode}"


def missing(families: Iterable[str] = COMMANDS) -> str | None:
    """Why the real tools cannot be asked here, or None."""
    import os
    import shutil

    if os.geteuid() != 0:
        return "needs root, to make network namespaces"
    wanted = [f"{COMMANDS[f]}-{b}-{what}" for f in families for b in BACKENDS for what in ("restore", "save")]
    return next((f"{c} is not installed" for c in ("ipset", *wanted) if shutil.which(c) is None), None)
