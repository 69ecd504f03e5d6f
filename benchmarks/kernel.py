"""What the kernel's judgement costs: traced packets a second, and the wall time of `chainproof replay`.

    sudo python benchmarks/kernel.py [--sets 30] [--packets 200] [--runs 3]

Packets are written, sent, collected and decoded, without what the wing tells of them; both rates are of the same rule sets
and packets.  `of one core` counts the seconds that this process had a core, in which its packets are traced too, so that it
holds on a busy machine.

Each fourth counterexample of two packs is replayed by a cold process, through each backend and through both, in turn with what it takes
by hand to load the same rules in such a host, empty as it is: `ip netns add`, a veth pair, `iptables-restore`, `ip netns del`.  The ratio is that of
the least times.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

from verifier.counterexamples.read import read
from verifier.fuzzing import hosts, rules
from verifier.fuzzing.packets import shots
from verifier.fuzzing.run import BACKENDS as KINDS
from verifier.hosts import Setting
from verifier.kernel.iptables import BACKENDS, COMMANDS, BackendName, spelled
from verifier.kernel.oracle import Oracle, Shot

ROOT = Path(__file__).parent.parent
PACKS = ("istio-sidecar", "museum")


def measure(backend: BackendName, sets: int, packets: int) -> None:
    draw = random.Random(0)
    host = hosts.host(draw, KINDS[backend])
    wall = core = 0.0
    done = steps = 0
    with Oracle(host, backend) as oracle:
        for _ in range(sets):
            setting = Setting(host, rules.rule_set(draw))
            oracle.load(setting.rules)
            asked = [Shot(*sent) for sent in islice(shots(setting, draw), packets)]
            began = time.perf_counter(), time.process_time()
            seen = oracle.ask(asked)
            wall += time.perf_counter() - began[0]
            core += time.process_time() - began[1]
            done += len(asked)
            steps += sum(len(one.steps) for one in seen if one is not None)
    rates = f"{done / wall:7.0f} a second, {done / core:7.0f} a second of one core"
    print(f"{backend:7} {done} packets, {steps / done:.1f} steps each: {rates}")


def replays(runs: int) -> None:
    """The wall time of replays of each counterexample, by a cold process whose modules are compiled."""
    with tempfile.TemporaryDirectory() as folder:
        kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        env = {**kept, "PYTHONPYCACHEPREFIX": f"{folder}/bytecode", "PYTHONPATH": str(ROOT)}
        for pack in PACKS:
            command = [sys.executable, "-m", "verifier", "check", "--cex-dir", f"{folder}/{pack}"]
            said = subprocess.run(
                [*command, str(ROOT / "proofs" / pack)], capture_output=True, env=env, check=False
            )
            if said.returncode not in (0, 1):
                raise SystemExit(said.stderr.decode())
        files = sorted(Path(folder).glob("*/*.json"))[::4]
        for backend in (*BACKENDS, "both"):
            ratios, times = [], []
            for file in files:
                command = [sys.executable, "-m", "verifier", "replay", "--backend", backend, str(file)]
                ours, hand = [], []
                for _ in range(runs):
                    ours.append(seconds(command, env))
                    hand.append(by_hand(file, "legacy" if backend == "both" else backend))
                times.append(min(ours))
                ratios.append(min(ours) / min(hand))
            print(
                f"replay through {backend:7} {len(files)} files: {statistics.median(times):.2f} s (median), "
                f"{max(times):.2f} s (most); ratio to loading by hand {statistics.median(ratios):.1f}, {max(ratios):.1f} at most"
            )


def seconds(command: list[str], env: dict[str, str]) -> float:
    begun = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, env=env, check=True)
    return time.perf_counter() - begun


def by_hand(file: Path, backend: str) -> float:
    """The seconds that it takes to make a namespace with one interface, load the rules of a file's first host, and end it."""
    rules = read(file).accounts[0].setting.rules
    name = f"by-hand-{os.getpid()}"
    inside = ["ip", "netns", "exec", name]
    begun = time.perf_counter()
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(
            [*inside, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "far"], check=True
        )
        restore = [*inside, f"{COMMANDS[rules.family]}-{backend}-restore"]
        subprocess.run(restore, input=spelled(rules)[0], text=True, capture_output=True, check=False)
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=30)
    parser.add_argument("--packets", type=int, default=200)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    for backend in BACKENDS:
        measure(backend, given.sets, given.packets)
    replays(given.runs)


if __name__ == "__main__":
    main()
