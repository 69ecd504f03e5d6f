"""`python -m tests.corpus [LAW ...]`: the tables of the judge, and what breaks its laws, grouped by cause."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from . import (
    extensions,
    golden,
    ipsets,
    lines,
    listings,
    manifest,
    meaning,
    placement,
    reading,
    scripts,
    syntax,
    tool,
    understood,
)
from .verdicts import in_vain, report, table, unexpected, ways

LAWS = {
    m.LAW: m.cases
    for m in (
        reading,
        understood,
        meaning,
        listings,
        extensions,
        scripts,
        golden,
        lines,
        ipsets,
        syntax,
        placement,
    )
}


def main() -> int:
    wanted = argparse.ArgumentParser(prog="python -m tests.corpus", description=__doc__)
    wanted.add_argument(
        "laws", nargs="*", metavar="LAW", help=f"of {', '.join(LAWS)}; all unless some are named"
    )
    wanted.add_argument("--failing", type=Path, help="write the faults to this file, as Markdown")
    wanted.add_argument("--every", action="store_true", help="name every fault, not two for each cause")
    asked = wanted.parse_args()
    if unknown := set(asked.laws) - set(LAWS):
        wanted.error(f"there is no law {', '.join(sorted(unknown))}")
    if not manifest.CORPUS.is_dir():
        print(manifest.ABSENT)
        return 2
    if why := tool.missing():
        print(f"the real tools are not asked: {why}")
        return 2
    faults, parts = 0, []
    for name in asked.laws or LAWS:
        begun = time.monotonic()
        cases = list(LAWS[name]())
        bad = unexpected(cases)
        faults += len(bad)
        took = time.monotonic() - begun
        print(
            f"== {name}: {len(cases)} cases, {sum(bool(c.cause) for c in cases)} faults, {len(bad)} unexpected, {took:.1f} s\n"
        )
        print(table(cases) + "\n")
        if same := ways(cases):
            print(same + "\n")
        parts.append(f"## {name}\n\n```\n{table(cases)}\n```\n\n{report(bad)}\n")
        if bad:
            print(report(bad, 1000 if asked.every else 2) + "\n")
        for row in in_vain(cases, name):
            print(f"expected in vain: {row.law} {row.place}: {row.reason}")
    if asked.failing:
        asked.failing.write_text("\n".join(parts), encoding="utf-8")
    return 1 if faults else 0


raise SystemExit(main())
