"""A kept counterexample, run in the Linux kernel on each host that it is about, through each backend."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from ..answers import Counterexample
from ..counterexamples.record import Record
from ..hosts import Backend, Host, Setting, at_one_time
from ..kernel.iptables import BACKENDS, BackendName
from .bench import Bench, time_of
from .levels import Confirmation

T = TypeVar("T")


def replay(record: Record, backends: Sequence[BackendName] = ()) -> Iterator[tuple[int, Confirmation]]:
    """What the kernel does, account by account, each with its number, and backend by backend; those of the host where none
    is given.  The kernel is asked about all of them at the same time, since most of it is waiting.

    Raises CannotRun where this machine lacks what it takes, and RulesRefused where the tool does not take the rules.
    """
    asked = [
        (
            number,
            account.setting,
            backend,
            Counterexample(
                record.sender, account.journey, record.choices, record.hop, earlier=record.earlier
            ),
        )
        for number, account in enumerate(record.accounts)
        for backend in backends or backends_of(account.setting.host)
    ]
    told = at_once([partial(confirmed, setting, backend, found) for _, setting, backend, found in asked])
    return zip((number for number, *_ in asked), told, strict=True)


def confirmed(setting: Setting, backend: BackendName, found: Counterexample) -> Confirmation:
    """What the kernel says of this journey, on a host made for it alone, its sets as they are then."""
    with Bench(time_of(at_one_time(setting), found), backend) as bench:
        return bench.confirm(found)


def at_once(asked: Sequence[Callable[[], T]]) -> Iterator[T]:
    """What each of them returns or raises, in order; a thread each, since a thread has a network namespace of its own (setns(2)).

    None of them outlives the process, also where an interrupt ends it.
    """
    outcomes: dict[int, T | BaseException] = {}

    def work(number: int) -> None:
        # A tool that an interrupt has ended reads no more: that is an error here, and not the end of the process.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
        try:
            outcomes[number] = asked[number]()
        except BaseException as error:  # raised again below, in the order of what was asked
            outcomes[number] = error

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(len(asked))]
    for thread in threads:
        thread.start()
    for number, thread in enumerate(threads):
        thread.join()
        outcome = outcomes[number]
        if isinstance(outcome, BaseException):
            raise outcome
        yield outcome


def backends_of(host: Host) -> tuple[BackendName, ...]:
    """Both, where an answer is for either."""
    return tuple(b for b in BACKENDS if host.backend in (Backend.EITHER, Backend(b)))
