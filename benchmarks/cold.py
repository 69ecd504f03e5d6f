"""Cold starts of `chainproof check`, as ratios to `python -c "import z3, lark"` run in turn with them.

    python benchmarks/cold.py [--runs 9]

Prints, for five claims and for the sidecar's pack, with the grammar cache warm and empty, the least and the
median wall time of each command and the ratio of the least.  Both commands run in the same minute on the
same machine, so the ratio means something where the seconds do not.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PACK = Path(__file__).parent.parent / "proofs" / "istio-sidecar"
FIVE = Path(__file__).parent / "five-claims.prop"
BASE = [sys.executable, "-c", "import z3, lark"]


def seconds(command: list[str], cache: Path) -> float:
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    env = {**kept, "XDG_CACHE_HOME": str(cache), "PYTHONPYCACHEPREFIX": str(cache / "bytecode")}
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=env)
    return time.perf_counter() - begun


def compare(what: str, command: list[str], runs: int, cache: Path, empty: bool) -> None:
    base, ours = [], []
    for _ in range(runs):
        base.append(seconds(BASE, cache))
        if empty:
            shutil.rmtree(cache / "chainproof", ignore_errors=True)
        ours.append(seconds(command, cache))
    ratio = min(ours) / min(base)
    print(
        f"{what:<34} {min(ours):6.3f} s (median {statistics.median(ours):.3f})"
        f"   import z3, lark {min(base):6.3f} s   ratio {ratio:5.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=9)
    runs = parser.parse_args().runs
    program = [str(Path(sys.executable).with_name("chainproof")), "check"]
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        for command in (BASE, [*program, str(FIVE)], [*program, str(PACK)]):
            seconds(
                command, cache
            )  # What was installed is compiled, and so is what is imported from a checkout.
        compare("five claims", [*program, str(FIVE)], runs, cache, empty=False)
        compare("five claims, empty grammar cache", [*program, str(FIVE)], runs, cache, empty=True)
        compare("the sidecar pack", [*program, str(PACK)], runs, cache, empty=False)
        compare("the sidecar pack, empty grammar cache", [*program, str(PACK)], runs, cache, empty=True)


if __name__ == "__main__":
    main()
