"""The kernel as the judge of answers: every counterexample and witness is replayed, and of every proof the packets on which it was
checked are sent.  What the kernel contradicts is no answer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import NoReturn, assert_never

from msgspec.structs import replace

from ..answers import Counterexample, Judgement, KernelDisagrees, Proved, Refuted, Sample, Unknown, Vacuous
from ..check import Result
from ..counterexamples.record import Kind, of_result, record
from ..counterexamples.write import write
from ..hosts import Setting, at_one_time
from ..kernel.errors import CannotRun, RulesRefused, need, need_root
from ..kernel.iptables import BackendName
from ..remembered import of_the_latest
from ..replay import Start
from ..wording import say_claim
from .bench import Bench, Part, time_of, with_history
from .levels import Level, Verdict
from .replaying import backends_of

MOST_BENCHES = 8
"""So many hosts are kept in the kernel, each through one backend; the one that was not asked for longest goes."""


class Judge:
    """What the kernel says of results, one after another; a context manager.

    Raises CannotRun where this machine cannot ask any kernel at all.
    """

    def __init__(self) -> None:
        need_root()
        need("ip", "nft")
        self._benches: OrderedDict[tuple[int, BackendName], tuple[Setting, Bench, ExitStack]] = OrderedDict()

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *_: object) -> None:
        while self._benches:
            self._close_one()

    def _close_one(self) -> None:
        _, (_, _, stack) = self._benches.popitem(last=False)
        stack.close()

    def bench(self, setting: Setting, backend: BackendName) -> Bench:
        key = (id(setting), backend)
        if key not in self._benches:
            while len(self._benches) >= MOST_BENCHES:
                self._close_one()
            with ExitStack() as stack:
                made = stack.enter_context(Bench(setting, backend))
                self._benches[key] = (setting, made, stack.pop_all())
        self._benches.move_to_end(key)
        return self._benches[key][1]

    def all_judged(self, results: Iterable[Result]) -> Iterator[Result]:
        """The results, each with what the kernel says of it.  One of which it says otherwise is no answer: KernelDisagrees is raised
        behind all others."""
        wrong: KernelDisagrees | None = None
        for result in results:
            try:
                yield replace(result, kernel=self.judged(result))
            except KernelDisagrees as error:
                wrong = wrong or error
        if wrong is not None:
            raise wrong

    def judged(self, result: Result) -> Judgement:
        """What the kernel says of this result; raises KernelDisagrees where it is not so."""
        answer = result.answer
        try:
            match answer:
                case Proved(witness=None):
                    return self._sampled(result, answer.checked)
                case Proved() | Refuted(counterexample=Counterexample()):
                    return self._replayed(result)
                case Refuted():
                    return Judgement(why="no packet is to blame")
                case Unknown() | Vacuous():
                    return Judgement(why="there is no packet to send")
                case _:
                    assert_never(answer)
        except (CannotRun, RulesRefused) as error:
            return Judgement(why=f"{error.message} ({error.place})" if error.place.file else error.message)

    # -- one packet -----------------------------------------------------------------------------------

    def _replayed(self, result: Result) -> Judgement:
        kept = of_result(result)
        if kept is None:
            raise AssertionError("an answer with a packet has a record")
        settings = [setting for _, setting in result.question.settings]
        through: list[str] = []
        why: list[str] = []
        for setting, account in zip(settings, kept.accounts, strict=False):
            found = Counterexample(kept.sender, account.journey, kept.choices, kept.hop, earlier=kept.earlier)
            for backend in backends_of(setting.host):
                confirmation = self.bench(time_of(_times(setting), found), backend).confirm(found)
                for level in confirmation.levels:
                    if level.verdict is Verdict.CONTRADICTED:
                        _refuse(result, backend, level, write(kept))
                if confirmation.verdict is Verdict.CONFIRMED:
                    through.append(backend)
                else:
                    why += [level.text for level in confirmation.levels]
        if why:
            return Judgement(why="; ".join(dict.fromkeys(why)))
        return Judgement(confirmed=True, packets=1, backends=tuple(dict.fromkeys(through)))

    # -- a proof ----------------------------------------------------------------------------------------

    def _sampled(self, result: Result, samples: tuple[Sample, ...]) -> Judgement:
        if not samples:
            return Judgement(why="no packets are kept of a proof of this kind")
        ((_, setting),) = result.question.settings
        parts = [_part(sample, setting) for sample in samples]
        backends = backends_of(setting.host)
        confirmed: set[int] = set(range(len(parts)))
        why: list[str] = []
        for backend in backends:
            levels = self.bench(setting, backend).packets(parts)
            for n, level in enumerate(levels):
                if level.verdict is Verdict.CONTRADICTED:
                    _refuse(result, backend, level, _kept(result, setting, parts[n]))
                if level.verdict is not Verdict.CONFIRMED:
                    confirmed.discard(n)
                    why.append(level.text)
        if not confirmed:
            return Judgement(why="; ".join(dict.fromkeys(why)))
        return Judgement(packets=len(confirmed), backends=backends)


_times = of_the_latest(at_one_time)
"""Benches are kept for these very ones."""


def _part(sample: Sample, setting: Setting) -> Part:
    start = Start(sample.sender, sample.packet, sample.state, sample.choices, sample.earlier)
    return Part(start, start.travel(with_history(setting, start)))


def _kept(result: Result, setting: Setting, part: Part) -> str:
    """The file by which a packet of a proof is replayed."""
    found = Counterexample(part.start.sender, part.journey, part.start.choices, earlier=part.start.earlier)
    q = result.question
    place = f"{q.place.file}:{q.place.line}"
    return write(record(found, (setting,), Kind.WITNESS, q.name, place, say_claim(result.claim)))


def _refuse(result: Result, backend: BackendName, level: Level, kept: str) -> NoReturn:
    """Raise KernelDisagrees, with all that is needed to ask the kernel again."""
    where = f"{result.question.name} on {result.question.where}"
    error = KernelDisagrees(
        f"{where}: the kernel ({backend}) contradicts the {level.name.value} of hop {level.hop}: {level.text}"
    )
    rows = (f"  {row.told or '-':<60} {row.kernel or '-'}" for row in level.rows)
    error.add_note("\n".join(["told, and what the kernel did:", *rows]))
    error.add_note(f"a file for `chainproof replay`:\n{kept}")
    raise error
