"""The real iptables in a namespace: it loads rules as they stand, and counts how often each one matched."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from typing import Literal, TypeAlias

from .. import spell
from ..hooks import BUILT_IN
from ..rules import RuleSet
from ..values import NOWHERE, Family, Place
from .errors import RulesRefused, need
from .namespaces import CommandFailed, Namespace

BackendName: TypeAlias = Literal["legacy", "nft"]
BACKENDS: tuple[BackendName, ...] = ("legacy", "nft")

Hit: TypeAlias = tuple[str, str, int]
"""A rule that was hit: table, chain, and the rule's number from 1."""

COMMANDS = {Family.IPV4: "iptables", Family.IPV6: "ip6tables"}


class Iptables:
    """The rules of one namespace, of one family, through one backend."""

    def __init__(self, namespace: Namespace, backend: BackendName, family: Family = Family.IPV4) -> None:
        self._namespace = namespace
        self._command = f"{COMMANDS[family]}-{backend}"
        self._tables: set[str] = set()

    def load(self, rules: str, places: Sequence[Place] = ()) -> None:
        """Replace all rules by those of an iptables-save text, whose lines were read at `places`; raises RulesRefused."""
        named = set(re.findall(r"^\*(\w+)", rules, re.MULTILINE))
        if any(_leaves_policies(rules, table) for table in self._tables & named):
            self._restore("".join(map(_empty, sorted(self._tables))))
        text = rules + "".join(_empty(table) for table in sorted(self._tables - named))
        # Of rules that are refused the tables before the one in question have been loaded.
        self._tables |= named
        if text:
            try:
                self._restore(text)
            except CommandFailed as e:
                raise refusal(e.said, rules, places) from None

    def _restore(self, text: str) -> None:
        self._namespace.run([f"{self._command}-restore", "-w"], text)

    def counters(self) -> dict[Hit, int]:
        """How often each rule matched, by iptables-save -c."""
        counts: dict[Hit, int] = {}
        numbers: dict[tuple[str, str], int] = {}
        table = ""
        for line in self._namespace.run([f"{self._command}-save", "-c"]).splitlines():
            if line.startswith("*"):
                table = line[1:]
            elif rule := re.match(r"\[(\d+):\d+\] -A (\S+)", line):
                chain = rule[2]
                number = numbers[table, chain] = numbers.get((table, chain), 0) + 1
                counts[table, chain, number] = int(rule[1])
        return counts


def tool_version(backend: BackendName, family: Family = Family.IPV4) -> str:
    """As the tool tells it: `iptables v1.8.9 (legacy)`."""
    command = f"{COMMANDS[family]}-{backend}"
    need(command)
    done = subprocess.run([command, "--version"], text=True, capture_output=True, check=False)
    return done.stdout.strip()


def _leaves_policies(rules: str, table: str) -> bool:
    """Some built-in chain of the table is not named: it would keep the policy that it has."""
    body = rules.partition(f"*{table}\n")[2].partition("COMMIT")[0]
    return not set(BUILT_IN[table]) <= set(re.findall(r"^:(\S+)", body, re.MULTILINE))


def _empty(table: str) -> str:
    chains = "".join(f":{chain} ACCEPT [0:0]\n" for chain in BUILT_IN[table])
    return f"*{table}\n{chains}COMMIT\n"


def spelled(rules: RuleSet) -> tuple[str, tuple[Place, ...]]:
    """The text of a rule set, and where each of its lines was read."""
    places: list[Place] = []
    for table in rules.tables.values():
        chains = table.chains.values()
        places += [NOWHERE, *(c.place for c in chains)]
        places += [r.place for c in chains for r in c.rules]
        places.append(NOWHERE)
    return spell.rule_set(rules), tuple(places)


def refusal(said: str, rules: str, places: Sequence[Place]) -> RulesRefused:
    """What the tool said, at our file and line; where it names none, or the line of a COMMIT, the table is meant.

    What stands in a table reaches the kernel as one, so that the legacy tool can only name its end.
    """
    lines = rules.splitlines()
    found = re.search(r"\bline:? (\d+)", said)
    number = int(found[1]) if found else 0
    line = lines[number - 1] if 0 < number <= len(lines) else None
    place = places[number - 1] if 0 < number <= len(places) else NOWHERE
    if line is not None and line.strip() == "COMMIT":
        start = next(n for n in range(number - 1, -1, -1) if lines[n].startswith("*") or n == 0)
        near = [p for p in places[start : number - 1] if p.line]
        line, place = lines[start], near[0] if near else NOWHERE
        number = start + 1
    message = " ".join(part for part in map(str.strip, said.splitlines()) if part and not _is_advice(part))
    return RulesRefused(
        "K004",
        f"the rules are not loaded: {message}",
        place if place.file else Place("the rules", number),
        line=line,
        hint=_A_SET if re.search(r"\bSet \S+ doesn't exist", message) else _NOT_TAKEN,
    )


_NOT_TAKEN = "rules that the kernel does not take mean nothing there; `chainproof show` prints what was read"
_A_SET = "give a host file whose `sets:` names what `ipset save` prints, in place of the rules alone"


def _is_advice(line: str) -> bool:
    return line.startswith("Try `")
