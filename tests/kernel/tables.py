"""What trials came to, in rows of numbers: one for each host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from msgspec import Struct
from msgspec.structs import asdict

from .trials import Trial, What

COLUMNS = (
    "mutants",
    "refused",
    "runs",
    "proved",
    "refuted",
    "neither",
    "changed",
    "replayed",
    "not replayed",
)


class Row(Struct, frozen=True):
    """`refused`: mutants that iptables does not load; `neither`: answers unknown or vacuous; `changed`: answers that
    the original rules do not give; `noticed`, `unnoticed`: mutants that change some answer on this host, or none.
    """

    host: str
    mutants: int = 0
    refused: int = 0
    runs: int = 0
    proved: int = 0
    refuted: int = 0
    neither: int = 0
    changed: int = 0
    replayed: int = 0
    not_replayed: int = 0
    noticed: tuple[str, ...] = ()
    unnoticed: tuple[str, ...] = ()


def row(host: str, original: Trial, trials: Sequence[Trial]) -> Row:
    loaded = [t for t in trials if t.loaded]
    answers = Counter(answer for t in loaded for answer in t.answers.values())
    found = Counter(finding.what for t in loaded for finding in t.findings)
    return Row(
        host,
        len(trials),
        len(trials) - len(loaded),
        sum(t.runs for t in loaded),
        answers["proved"],
        answers["refuted"],
        answers["unknown"] + answers["vacuous"],
        sum(len(changes(original, t)) for t in loaded),
        found[What.REPLAYED],
        found[What.NOT_REPLAYED],
        tuple(t.mutant for t in loaded if changes(original, t)),
        tuple(t.mutant for t in loaded if not changes(original, t)),
    )


def changes(original: Trial, mutant: Trial) -> list[str]:
    """What is answered otherwise than under the original rules."""
    changed = [
        f"{name}: {answer}, was {original.answers[name]}"
        for name, answer in mutant.answers.items()
        if answer != original.answers[name]
    ]
    if original.dead != mutant.dead:
        changed.append(f"dead: {', '.join(mutant.dead) or 'none'}, was {', '.join(original.dead)}")
    return changed


def lines(rows: Iterable[Row]) -> list[str]:
    """A table with a line for each host, and one for all of them."""
    hosts: dict[str, list[Row]] = {}
    for one in rows:
        hosts.setdefault(one.host, []).append(one)
    summed = [_sum(host, parts) for host, parts in sorted(hosts.items())]
    summed.append(_sum("all hosts", summed))
    width = max(len(one.host) for one in summed)
    return [
        _line("host", COLUMNS, width),
        *(_line(one.host, [str(number) for number in _numbers(one)], width) for one in summed),
    ]


def _line(host: str, words: Sequence[str], width: int) -> str:
    return f"{host:{width}}" + "".join(
        f"{word:>{max(len(name), 6) + 2}}" for name, word in zip(COLUMNS, words, strict=True)
    )


def survivors(rows: Sequence[Row]) -> list[str]:
    """The mutants that change no answer on any host, in their order."""
    noticed = {name for one in rows for name in one.noticed}
    return [name for name in dict.fromkeys(n for one in rows for n in one.unnoticed) if name not in noticed]


def _numbers(one: Row) -> list[int]:
    return [value for value in asdict(one).values() if isinstance(value, int)]


def _sum(host: str, parts: Sequence[Row]) -> Row:
    return Row(host, *(sum(column) for column in zip(*map(_numbers, parts), strict=True)))
