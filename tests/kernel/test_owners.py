"""What several owners load one after the other, in a namespace and as it is read."""

from __future__ import annotations

from itertools import permutations

import pytest

from verifier import spell
from verifier.kernel.iptables import BackendName
from verifier.kernel.namespaces import CommandFailed, Namespace
from verifier.reading.rules import read_in_order, read_rules

from ..test_owners import APPENDED, FIREWALL, INSERTED

pytestmark = pytest.mark.kernel


def left_by(backend: BackendName, first: str, *others: str) -> str:
    """What iptables-save prints after all were loaded."""
    restore = f"iptables-{backend}-restore"
    namespace = Namespace()
    try:
        namespace.run([restore], first)
        for text in others:
            if text.startswith("*"):
                namespace.run([restore, "--noflush"], text)
                continue
            for command in text.splitlines():
                program, *words = command.split()
                try:
                    namespace.run([f"{program.replace('iptables', f'iptables-{backend}')}", *words])
                except CommandFailed:
                    continue
        return namespace.run([f"iptables-{backend}-save"])
    finally:
        namespace.close()


@pytest.mark.parametrize("backend", ["legacy", "nft"])
@pytest.mark.parametrize(
    "others", [*permutations((APPENDED, INSERTED)), (APPENDED,), (INSERTED,), (APPENDED, APPENDED)]
)
def test_the_tools_leave_what_is_read(backend: BackendName, others: tuple[str, ...]) -> None:
    texts = [(text, str(n)) for n, text in enumerate((FIREWALL, *others))]
    ours = read_in_order(texts).rules
    theirs = read_rules(left_by(backend, FIREWALL, *others), "kernel").rules
    for name, table in ours.tables.items():
        said = [line for line in spell.table(theirs.tables[name]).splitlines() if line.startswith("-A")]
        assert [line for line in spell.table(table).splitlines() if line.startswith("-A")] == said
