"""How long text to rules takes, and what the rules weigh, beside what else reads the same text in the same minute.

    python benchmarks/reading.py [--services 1000 10000 30000] [--runs 3] [--lark-up-to 10000]

For each size one line: our time; that of Lark with the same grammar over the whole file, which does nothing with
the tree; that of `iptables-legacy-restore --test` in a network namespace, where it can be had; and the memory of
our rules above that of a process that has imported the reader.  Each is a process of its own, run in turn, and the
least CPU time counts; the ratios mean something where the seconds do not.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import kube


def ours(path: str) -> tuple[float, int]:
    """Seconds to read the file, and the bytes that the process has grown by at most."""
    from verifier.reading.rules import read_rules

    read_rules("*filter\nCOMMIT\n", "warm")
    text = Path(path).read_text()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.process_time()
    read = read_rules(text, path)
    spent = time.process_time() - begun
    assert read.rules.tables
    return spent, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024


def lark(path: str) -> tuple[float, int]:
    """The same for Lark and the whole file: the grammar of a line, repeated, whose words do not go over line ends."""
    import lark as library

    from verifier.reading.grammars import GRAMMARS

    grammar = (GRAMMARS / "iptables.lark").read_text()
    grammar = grammar.replace('[^ \\t"]', '[^ \\t\\n"]').replace("|$)/", "|\\n|$)/")
    parser = library.Lark(
        grammar + "\nfile: [line] (_END [line])*\n_END: /\\n/\n",
        parser="lalr",
        start="file",
        maybe_placeholders=True,
    )
    text = Path(path).read_text()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.process_time()
    tree = parser.parse(text)
    spent = time.process_time() - begun
    assert tree.children
    return spent, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024


def of_child(what: str, path: Path) -> tuple[float, int]:
    done = subprocess.run(
        [sys.executable, __file__, "--only", what, str(path)], check=True, capture_output=True, text=True
    )
    seconds, grown = done.stdout.split()
    return float(seconds), int(grown)


def iptables(path: Path) -> float | None:
    """CPU seconds of the real tool, or None where it, or the right to ask it, is missing."""
    command = ["unshare", "-n", "iptables-legacy-restore", "--test", str(path)]
    if os.geteuid() or not all(map(shutil.which, command[:3:2])):
        return None
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--services", type=int, nargs="+", default=[1000, 10000, 30000])
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--lark-up-to", type=int, default=10000)
    options.add_argument("--only", nargs=2, metavar=("READER", "FILE"), help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.only:
        print(*{"ours": ours, "lark": lark}[given.only[0]](given.only[1]))
        return
    last: float | None = None
    with tempfile.TemporaryDirectory() as folder:
        for services in given.services:
            path = Path(folder) / f"kube{services}.rules"
            path.write_text(kube.rules(services))
            last = compare(path, services, given.runs, services <= given.lark_up_to, last)


def compare(path: Path, services: int, runs: int, with_lark: bool, last: float | None) -> float:
    count = path.read_text().count("\n-A ")
    mine, theirs, tool = [], [], []
    for _ in range(runs):
        mine.append(of_child("ours", path))
        tool.append(iptables(path))
        if with_lark and len(theirs) < 2:
            theirs.append(of_child("lark", path))
    best = min(seconds for seconds, _ in mine)
    found = [f"{services:>6} services {count:>7} rules  {best:6.2f} s {best / count * 1e6:5.1f} us a rule"]
    found.append(f"{min(grown for _, grown in mine) / count:5.0f} bytes a rule")
    if theirs:
        whole = min(seconds for seconds, _ in theirs)
        found.append(f"Lark {whole:6.2f} s, {whole / best:4.1f} times as long")
    seen = [seconds for seconds in tool if seconds is not None]
    if seen:
        found.append(f"iptables-legacy-restore {min(seen):5.2f} s, ratio {best / min(seen):4.2f}")
    if last is not None:
        found.append(f"{best / last:4.2f} times the size before")
    print("   ".join(found), flush=True)
    return best


if __name__ == "__main__":
    main()
