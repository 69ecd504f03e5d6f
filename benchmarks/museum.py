"""The table of proofs/museum/README.md: each case, what it claims, the answers before and after, and the time it takes.

    python benchmarks/museum.py [--write]

Prints the table, or writes it into the README.  A case's time is that of reading its files and answering all of its
questions, one after the other in this process; the answers are those of its first property.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from verifier.cases import Cases
from verifier.check import Checker, Result, name_of

MUSEUM = Path(__file__).parent.parent / "proofs" / "museum"
HEAD = "| case | what is claimed | before | after | time |\n|---|---|---|---|---|"


class Case(Struct, frozen=True):
    """What came of a case; `before` and `after` are the answers to what is asked of its hosts of these names."""

    name: str
    title: str
    before: str
    after: str
    seconds: float
    results: tuple[Result, ...]

    @property
    def row(self) -> str:
        """The row of the table but for its last cell, the time."""
        return f"| [{self.name}]({self.name}/bug.prop) | {self.title} | {self.before} | {self.after} |"


def cases() -> Iterator[Case]:
    """Every case, in the order of their names."""
    for file in sorted(MUSEUM.glob("*/bug.prop")):
        begun = time.perf_counter()
        questions = Cases(file).questions()
        results = tuple(map(Checker().ask, questions))
        seconds = time.perf_counter() - begun
        title = questions[0].title or questions[0].name
        yield Case(
            file.parent.name, title, _answer(results, "before"), _answer(results, "after"), seconds, results
        )


def _answer(results: Sequence[Result], host: str) -> str:
    """The answer to the first question about this host, or about another one and this host."""
    return next(name_of(r) for r in results if r.question.settings[-1][0] == host)


def table(found: Sequence[Case]) -> str:
    rows = [f"{c.row} {c.seconds:.2f} s |" for c in found]
    questions = sum(len(c.results) for c in found)
    whole = sum(c.seconds for c in found)
    return "\n".join([HEAD, *rows, "", f"{len(found)} cases, {questions} questions, {whole:.1f} s."])


def written(readme: str) -> str:
    """The table that a README has."""
    return HEAD + readme.partition(HEAD)[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--write", action="store_true")
    next(cases())  # So that the first case's time is not that of all imports.
    made = table(list(cases()))
    if not parser.parse_args().write:
        print(made)
        return
    readme = MUSEUM / "README.md"
    text = readme.read_text()
    readme.write_text(text.replace(written(text), made + "\n"))


if __name__ == "__main__":
    main()
