"""The kernel against the concrete wing on rule sets, hosts and packets that are drawn: a slice of what `chainproof fuzz` does for hours."""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import pytest
from msgspec.structs import replace

import verifier.replay
from verifier import rules as r
from verifier.concrete.travel import travel
from verifier.confirm.levels import Verdict
from verifier.confirm.replaying import replay
from verifier.counterexamples.read import read
from verifier.fuzzing import command, hosts, rules
from verifier.fuzzing.command import Request, described, run
from verifier.fuzzing.packets import shots
from verifier.fuzzing.run import BACKENDS, ONE_IN, Mismatch, Tally, WingsApart, drawn
from verifier.fuzzing.shrink import shrunk
from verifier.fuzzing.symbolic import disagreement
from verifier.hosts import Setting
from verifier.journeys import Journey
from verifier.kernel.iptables import BackendName
from verifier.values import Family

pytestmark = pytest.mark.kernel


def told(mismatches: list[Mismatch]) -> str:
    return "\n".join(line for found in mismatches for line in described(shrunk(found)))


@pytest.mark.parametrize("seed", [1, 2])
def test_the_kernel_does_with_packets_what_is_told(backend: BackendName, seed: int) -> None:
    tally = Tally()
    found = list(drawn(backend, seed, math.inf, tally, most=2500))
    assert not found, told(found)
    assert tally.checks >= 2500
    assert tally.solved * ONE_IN >= tally.checks - tally.answers, (
        "one in so many is asked of the symbolic wing too"
    )
    assert tally.answers * 20 >= tally.checks, "what is answered is common"
    assert tally.refused == 0, "what is drawn is loaded"
    assert tally.passing * 200 < tally.checks, "traces are told whole"


@pytest.mark.parametrize("backend", BACKENDS)
def test_so_does_it_with_ipv6_packets(backend: BackendName) -> None:
    tally = Tally()
    found = list(drawn(backend, 5, math.inf, tally, most=1500, family=Family.IPV6))
    assert not found, told(found)
    assert tally.checks >= 1500
    assert tally.refused * 20 < tally.rule_sets, "what is drawn is loaded"
    assert tally.passing * 200 < tally.checks, "traces are told whole"


@pytest.mark.parametrize("backend", BACKENDS)
def test_and_so_does_the_symbolic_wing(backend: BackendName) -> None:
    """Of the same settings, a few packets of each: needs no kernel."""
    draw = random.Random(f"symbolic {backend}")
    for _ in range(15):
        setting = Setting(hosts.host(draw, BACKENDS[backend]), rules.rule_set(draw))
        assert disagreement(setting, list(islice(shots(setting, draw), 6))) is None


def test_the_users_rules_are_tried_at_their_edges(tmp_path: Path) -> None:
    file = tmp_path / "mine.rules"
    file.write_text("*filter\n:INPUT DROP [0:0]\n-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\nCOMMIT\n")
    lines: list[str] = []
    assert run(Request(file, None, ("legacy",), 60, 0, tmp_path, 300), lines.append, lines.append)
    said = "legacy: 300 packets, 30 of them also by the solver's wing, under 1 rule sets"
    assert any(line.startswith(said) for line in lines)


def test_a_mismatch_is_made_small_and_kept_in_a_file(tmp_path: Path) -> None:
    """Two rules of a kind are told apart from all others by a wing that takes DROP for ACCEPT: only one stays."""
    found = next(drawn("legacy", 7, math.inf, Tally(), careless))
    small = shrunk(found, careless)
    left = [x for t in small.setting.rules.tables.values() for c in t.chains.values() for x in c.rules]
    assert len(left) <= 3, told([small])
    assert any(isinstance(x.target, r.Drop) for x in left)
    path = command._saved(small, Request(None, None, ("legacy",), 1, 7, tmp_path), 1)
    assert path is not None
    record = read(path)
    assert record.accounts[0].setting.rules == small.setting.rules


def test_where_the_wings_are_apart_that_is_found_made_small_and_kept(
    tmp_path: Path, backend: BackendName, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel does as the concrete wing tells; the symbolic one is compared with one that takes DROP for ACCEPT."""
    monkeypatch.setattr(verifier.replay, "travel", careless)
    found = next(drawn(backend, 7, math.inf, Tally()))
    assert isinstance(found.difference, WingsApart)
    small = shrunk(found)
    left = [x for t in small.setting.rules.tables.values() for c in t.chains.values() for x in c.rules]
    assert len(left) <= 3, told([small])
    assert any(isinstance(x.target, r.Drop) for x in left)
    assert any("solver's wing" in line for line in described(small))
    path = command._saved(small, Request(None, None, (backend,), 1, 7, tmp_path), 1)
    assert path is not None
    monkeypatch.undo()
    assert [each.verdict for _, each in replay(read(path), (backend,))] == [Verdict.CONFIRMED]


def careless(setting: Setting, *rest: object) -> Journey:
    """The concrete wing, which takes DROP for ACCEPT."""
    tables = {
        name: r.Table(
            name, {c.name: replace(c, rules=tuple(map(_kind, c.rules))) for c in table.chains.values()}
        )
        for name, table in setting.rules.tables.items()
    }
    return travel(replace(setting, rules=r.RuleSet(tables)), *rest)


def _kind(rule: r.Rule) -> r.Rule:
    return replace(rule, target=r.Accept()) if isinstance(rule.target, r.Drop) else rule


def test_an_interrupt_leaves_no_process_and_no_namespace_behind() -> None:
    """A namespace that nothing holds is gone, so it is enough that no process of the session is left."""
    command = [sys.executable, "-m", "verifier", "fuzz", "--seconds", "60", "--backend", "nft"]
    started = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    while not works_in_namespaces(started.pid):
        assert started.poll() is None, started.communicate()
        time.sleep(0.05)
    started.send_signal(signal.SIGINT)
    out, err = started.communicate(timeout=60)
    assert started.returncode == 130, (out, err)
    assert b"Traceback" not in err
    assert sessions(started.pid) == []


def works_in_namespaces(pid: int) -> bool:
    """The process has opened a second network namespace."""
    own = os.readlink("/proc/self/ns/net")
    links = [os.readlink(x) for x in Path(f"/proc/{pid}/fd").iterdir() if x.is_symlink()]
    return any(link.startswith("net:") and link != own for link in links)


def sessions(leader: int) -> list[str]:
    """What is left of a session: processes by their command."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        name, _, rest = text.rpartition(")")
        if rest.split()[3] == str(leader) and rest.split()[0] != "Z":
            found.append(name)
    return found
