"""Documented bugs of real rule sets: the kernel takes each packet of a case as the concrete wing tells, before the repair and after;
and what the case says was seen is what is told.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from msgspec.structs import replace

from verifier import spell
from verifier.answers import Counterexample
from verifier.confirm.bench import Bench, Part
from verifier.confirm.levels import Name, Verdict
from verifier.journeys import Act, Choices, Earlier, Journey, Left, Socket
from verifier.kernel.iptables import BackendName
from verifier.replay import Start
from verifier.values import read_address

from .museum import MUSEUM, PHASES, LeftOut, Scene, Stimulus, cases, scene

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(
        not MUSEUM.is_dir(), reason="the museum of others' rules is not beside this repository"
    ),
]


def collected() -> tuple[list[Scene], Counter[str]]:
    """The scenes that can be played, and how many cannot, by reason."""
    found: list[Scene] = []
    left_out: Counter[str] = Counter()
    for folder in cases():
        for phase in PHASES:
            try:
                found.append(scene(folder, phase))
            except LeftOut as reason:
                left_out[str(reason)] += 1
    return found, left_out


SCENES, LEFT_OUT = collected()
NAMES = [f"{s.case}, {s.phase}" for s in SCENES]


def part(stimulus: Stimulus) -> Part:
    start = Start(stimulus.sender, stimulus.packet, None, Choices())
    return Part(start, start.travel(stimulus.setting))


@pytest.mark.parametrize("played", SCENES, ids=NAMES)
def test_the_kernel_does_what_is_told(played: Scene, backend: BackendName) -> None:
    with Bench(played.stimuli[0].setting, backend) as bench:
        levels = bench.packets([part(stimulus) for stimulus in played.stimuli])
    for stimulus, level in zip(played.stimuli, levels, strict=True):
        assert level.verdict is Verdict.CONFIRMED, f"{stimulus.name}: {level.text}\n{level.rows}"


@pytest.mark.parametrize(
    "played", [s for s in SCENES if not s.has_history], ids=lambda s: f"{s.case}, {s.phase}"
)
def test_what_was_seen_is_what_is_told(played: Scene) -> None:
    journeys = [part(stimulus).journey for stimulus in played.stimuli]
    for seen in played.observed:
        found = [
            _tells(seen, journey, stimulus)
            for journey, stimulus in zip(journeys, played.stimuli, strict=True)
        ]
        if None not in found:
            assert any(found) == seen[played.phase], seen["name"]


BEHIND = [s for s in SCENES if s.has_history and s.case.startswith("istio-33469")]


@pytest.mark.parametrize("played", BEHIND, ids=lambda s: f"{s.case}, {s.phase}")
def test_what_was_seen_behind_an_earlier_packet_is_told_and_done(played: Scene, backend: BackendName) -> None:
    """By raw sockets, rule by rule, and by two UDP sockets, one after the other."""
    first, later = played.stimuli
    setting = replace(later.setting, also=frozenset({"connection"}))
    start = Start(later.sender, later.packet, None, Choices(), Earlier(first.sender, first.packet))
    journey = start.travel(setting)
    (seen,) = played.observed
    assert _tells(seen, journey, later) == seen[played.phase]
    assert journey.behind == (played.phase == "before")
    found = Counterexample(later.sender, journey, Choices(), earlier=start.earlier)
    with Bench(setting, backend) as bench:
        levels = bench.confirm(found).levels
    assert {level.name: level.verdict for level in levels} == dict.fromkeys(
        (Name.PACKET, Name.SOCKET), Verdict.CONFIRMED
    ), [level.text for level in levels]


def _tells(seen: Any, journey: Journey, stimulus: Stimulus) -> bool | None:
    """The journey does what was looked for; None of an answer, which is no first packet."""
    match seen["kind"]:
        case "hit":
            tables = stimulus.setting.rules.tables
            for stop in journey.stops:
                if stop.act is Act.MATCHED and stop.table == seen["table"]:
                    rule = tables[stop.table].chains[stop.chain or ""].rules[(stop.rule or 1) - 1]
                    if seen["rule"].strip() in spell.rule(stop.chain or "", rule):
                        return True
            return False
        case "recv":
            end = journey.end
            return isinstance(end, Socket) and end.process == seen["name"] and _has(journey, seen, "src")
        case "out":
            if "flags" in seen or "sport" in seen:
                return None
            left = isinstance(journey.end, Left) and journey.end.interface == seen["iface"]
            return left and _has(journey, seen, "src", "dst", "dport")
        case kind:
            raise AssertionError(kind)


def _has(journey: Journey, seen: Any, *fields: str) -> bool:
    """The packet as it was last seen has the values that are looked for, where there are some."""
    wanted = {f: seen[f] if f == "dport" else read_address(seen[f]) for f in fields if f in seen}
    return all(getattr(journey.final, field) == value for field, value in wanted.items())


def test_what_is_left_out_is_counted() -> None:
    """Of 59 cases in two phases each."""
    assert dict(LEFT_OUT) == {
        "IPv6": 12,
        "ip rules and further tables": 8,
        "a connection that is there already": 2,
        "rules that iptables refuses": 1,
    }
    assert len(SCENES) == 2 * 59 - LEFT_OUT.total()
    assert sum(len(s.stimuli) for s in SCENES) == 101
    assert not any(s.left_out for s in SCENES)
    assert sum(s.has_history for s in SCENES) == 4
