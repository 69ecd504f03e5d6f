"""The real iptables in a namespace: it loads rules, and counts how often each one matched."""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

from verifier.hooks import BUILT_IN

from .namespaces import CommandFailed, Namespace
from .observed import Hit

BackendName: TypeAlias = Literal["legacy", "nft"]


class RulesRefused(Exception):
    """iptables-restore does not load these rules."""


class Iptables:
    """The rules of one namespace, through one backend."""

    def __init__(self, namespace: Namespace, backend: BackendName) -> None:
        self._namespace = namespace
        self._backend = backend
        self._tables: set[str] = set()

    def load(self, rules: str) -> None:
        """Replace all rules by those of an iptables-save text; raises RulesRefused."""
        named = set(re.findall(r"^\*(\w+)", rules, re.MULTILINE))
        text = rules + "".join(_empty(table) for table in sorted(self._tables - named))
        if text:
            try:
                self._namespace.run([f"iptables-{self._backend}-restore", "-w"], text)
            except CommandFailed as e:
                raise RulesRefused(str(e)) from e
        self._tables |= named

    def counters(self) -> dict[Hit, int]:
        """How often each rule matched, by iptables-save -c."""
        counts: dict[Hit, int] = {}
        numbers: dict[tuple[str, str], int] = {}
        table = ""
        for line in self._namespace.run([f"iptables-{self._backend}-save", "-c"]).splitlines():
            if line.startswith("*"):
                table = line[1:]
            elif rule := re.match(r"\[(\d+):\d+\] -A (\S+)", line):
                chain = rule[2]
                number = numbers[table, chain] = numbers.get((table, chain), 0) + 1
                counts[table, chain, number] = int(rule[1])
        return counts


def _empty(table: str) -> str:
    chains = "".join(f":{chain} ACCEPT [0:0]\n" for chain in BUILT_IN[table])
    return f"*{table}\n{chains}COMMIT\n"
