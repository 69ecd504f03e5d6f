"""What the judge found, case by case: tables of counts, and faults grouped by their cause."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec import Struct

EXPECTED = Path(__file__).parent / "expected.tsv"


class Case(Struct, frozen=True):
    """One question put to the reader: `kind` is its row in the table, `outcome` its column.

    `cause` is empty iff the law held; otherwise it says in general words what broke it, and `detail` shows it.
    """

    law: str
    place: str
    kind: str
    outcome: str
    cause: str = ""
    detail: str = ""
    ways: tuple[str, ...] = ()
    """What is unlike and means the same, where the law is about sameness."""


class Exception_(Struct, frozen=True):
    """A case that breaks a law, and why that is right, or not mended yet."""

    law: str
    place: str
    reason: str


def expected() -> tuple[Exception_, ...]:
    """The rows of expected.tsv."""
    lines = EXPECTED.read_text(encoding="utf-8").splitlines()
    return tuple(Exception_(*line.split("\t")) for line in lines if line and not line.startswith("#"))


def unexpected(cases: Iterable[Case]) -> list[Case]:
    """Faults that no row of expected.tsv speaks of."""
    known = {(row.law, row.place) for row in expected()}
    return [case for case in cases if case.cause and (case.law, case.place) not in known]


def in_vain(cases: Sequence[Case], law: str) -> list[Exception_]:
    """Rows of expected.tsv about a law whose cases do not break it."""
    broken = {case.place for case in cases if case.cause}
    return [row for row in expected() if row.law == law and row.place not in broken]


def table(cases: Iterable[Case]) -> str:
    """Counts of outcomes by kind."""
    counts = Counter((case.kind, case.outcome) for case in cases)
    kinds = sorted({kind for kind, _ in counts})
    outcomes = sorted({outcome for _, outcome in counts})
    rows = [["", *outcomes, "all"]]
    for kind in kinds:
        found = [counts[kind, outcome] for outcome in outcomes]
        rows.append([kind, *(str(n) if n else "·" for n in found), str(sum(found))])
    sums = [sum(counts[kind, outcome] for kind in kinds) for outcome in outcomes]
    rows.append(["all", *map(str, sums), str(sum(sums))])
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if not n else cell.rjust(w)
            for n, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def ways(cases: Iterable[Case]) -> str:
    """How many cases are the same but for each of these."""
    counts = Counter(way for case in cases for way in case.ways)
    return "\n".join(f"{n:5} the same but for {way}" for way, n in counts.most_common())


def groups(cases: Iterable[Case]) -> list[tuple[str, str, list[Case]]]:
    """Faults by law and cause, the most frequent first."""
    found: dict[tuple[str, str], list[Case]] = {}
    for case in cases:
        if case.cause:
            found.setdefault((case.law, case.cause), []).append(case)
    return [(law, cause, of) for (law, cause), of in sorted(found.items(), key=lambda g: -len(g[1]))]


def report(cases: Iterable[Case], examples: int = 2) -> str:
    """The groups as Markdown, each with some of its places."""
    lines = []
    for law, cause, of in groups(cases):
        lines.append(f"* **{len(of)}** {law}: {cause}")
        lines += [f"  - `{case.place}`: {clip(case.detail)}" for case in of[:examples]]
    return "\n".join(lines)


def clip(text: str, longest: int = 300) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= longest else flat[: longest - 1] + "…"


def general(message: str) -> str:
    """A message without what is particular to one file or tool: names in quotes, numbers, addresses."""
    text = re.sub(r"ip6?tables[a-z-]*(?: v[\d.]+ \((?:legacy|nf_tables)\))?: ", "", message)
    text = re.sub(r"`[^`']*[`']|'[^']*'|\"[^\"]*\"", "…", text)
    text = re.sub(r"\b[0-9a-fA-F]*:[0-9a-fA-F:.]*(/\S+)?|(?<![a-z_])\d[\d./:]*", "…", text)
    return text[:100]
