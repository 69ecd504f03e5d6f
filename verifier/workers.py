"""Questions answered by several processes: each host's questions go to one of them, so that what is known of it serves all."""

from __future__ import annotations

import os
import pickle
import select
import signal
from collections.abc import Iterator, Sequence
from typing import Any

from .cases import Question
from .check import Checker, Result
from .claims import PacketClaim
from .prove import Budget


def answers(questions: Sequence[Question], budget: Budget, jobs: int) -> Iterator[Result]:
    """The results in the order of the questions, each as soon as those before it are there.

    With one job, or where processes cannot be forked, this process does it all.  What fails in a worker fails here.
    """
    if jobs <= 1 or not hasattr(os, "fork"):
        checker = Checker(budget)
        yield from map(checker.ask, questions)
        return
    waiting: dict[int, Result] = {}
    following = 0
    with _Workers(questions, budget, shares(questions, jobs)) as workers:
        for index, (side, answer, claim, ok, seconds, cell) in workers.messages():
            waiting[index] = Result(questions[index].sides[side], answer, claim, ok, seconds, cell)
            while following in waiting:
                yield waiting.pop(following)
                following += 1


def shares(questions: Sequence[Question], jobs: int) -> list[list[int]]:
    """The questions' numbers in `jobs` shares or fewer: those about one host together, the largest groups first."""
    groups: dict[int, list[int]] = {}
    for index, question in enumerate(questions):
        groups.setdefault(id(question.settings[0][1]), []).append(index)

    def work(share: list[int]) -> int:
        return sum(_work_of(questions[index]) for index in share)

    out: list[list[int]] = [[] for _ in range(jobs)]
    for group in sorted(groups.values(), key=work, reverse=True):
        min(out, key=work).extend(group)
    return [sorted(share) for share in out if share]


RULES_AT_ONCE = 6
"""Questions about packets that take as long as one about all rules, or about two hosts; about, and on a sidecar."""


def _work_of(question: Question) -> int:
    claims = (claim for side in question.sides for claim in side.claims)
    return sum(1 if isinstance(claim, PacketClaim) else RULES_AT_ONCE for claim in claims)


class _Workers:
    """Forked processes, each with a pipe on which it writes what it found."""

    def __init__(self, questions: Sequence[Question], budget: Budget, shared: list[list[int]]) -> None:
        self._pipes: dict[int, int] = {}
        for share in shared:
            reader, writer = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(reader)
                _work(questions, budget, share, writer)
            os.close(writer)
            self._pipes[reader] = pid

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: object) -> None:
        """Nobody is left behind, whatever happened."""
        for reader, pid in self._pipes.items():
            os.close(reader)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self._pipes.clear()

    def messages(self) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """What the workers write, as it comes, until all have finished."""
        while self._pipes:
            ready, _, _ = select.select(list(self._pipes), [], [])
            for reader in ready:
                size = _exactly(reader, 8)
                message = pickle.loads(_exactly(reader, int.from_bytes(size, "big"))) if size else None
                if message is None:
                    os.close(reader)
                    os.waitpid(self._pipes.pop(reader), 0)
                    if not size:
                        raise AssertionError("a worker ended without a word")
                elif isinstance(message, BaseException):
                    raise message
                else:
                    yield message


def _exactly(reader: int, size: int) -> bytes:
    """So many bytes, or none at the end of the pipe."""
    parts = b""
    while len(parts) < size:
        part = os.read(reader, size - len(parts))
        if not part:
            return b""
        parts += part
    return parts


def _work(questions: Sequence[Question], budget: Budget, share: list[int], writer: int) -> None:
    """A worker's life: it never returns."""

    def tell(message: object) -> None:
        body = pickle.dumps(message)
        data = len(body).to_bytes(8, "big") + body
        while data:
            data = data[os.write(writer, data) :]

    status = 0
    try:
        checker = Checker(budget)
        for index in share:
            r = checker.ask(questions[index])
            side = 0 if r.question is questions[index] else 1
            tell((index, (side, r.answer, r.claim, r.ok, r.seconds, r.cell)))
        tell(None)
    except KeyboardInterrupt:
        status = 130
    except BaseException as error:
        import traceback

        error.add_note(traceback.format_exc())  # What is sent has no traceback of its own.
        tell(error)
        status = 4
    finally:
        os._exit(status)
