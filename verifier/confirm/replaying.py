"""A kept counterexample, run in the Linux kernel on each host that it is about, through each backend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..answers import Counterexample
from ..counterexamples.record import Record
from ..hosts import Backend, Host
from ..kernel.iptables import BACKENDS, BackendName
from .bench import Bench
from .levels import Confirmation


def replay(record: Record, backends: Sequence[BackendName] = ()) -> Iterator[tuple[int, Confirmation]]:
    """What the kernel does, account by account, each with its number, and backend by backend; those of the host where none
    is given.

    Raises CannotRun where this machine lacks what it takes, and RulesRefused where the tool does not take the rules.
    """
    for number, account in enumerate(record.accounts):
        found = Counterexample(record.sender, account.journey, record.choices, record.hop)
        for backend in backends or backends_of(account.setting.host):
            with Bench(account.setting, backend) as bench:
                yield number, bench.confirm(found)


def backends_of(host: Host) -> tuple[BackendName, ...]:
    """Both, where an answer is for either."""
    return tuple(b for b in BACKENDS if host.backend in (Backend.EITHER, Backend(b)))
