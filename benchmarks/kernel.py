"""Traced packets a second: written, sent, collected and decoded, on each backend, without what the wing tells of them.

    sudo python benchmarks/kernel.py [--sets 30] [--packets 200]

Both rates are of the same rule sets and packets.  `of one core` counts the seconds that this process had a core, in which its
packets are traced too, so that it holds on a busy machine.
"""

from __future__ import annotations

import argparse
import random
import time
from itertools import islice

from verifier.fuzzing import hosts, rules
from verifier.fuzzing.packets import shots
from verifier.fuzzing.run import BACKENDS
from verifier.hosts import Setting
from verifier.kernel.iptables import BackendName
from verifier.kernel.oracle import Oracle, Shot


def measure(backend: BackendName, sets: int, packets: int) -> None:
    draw = random.Random(0)
    host = hosts.host(draw, BACKENDS[backend])
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=30)
    parser.add_argument("--packets", type=int, default=200)
    given = parser.parse_args()
    for backend in BACKENDS:
        measure(backend, given.sets, given.packets)


if __name__ == "__main__":
    main()
