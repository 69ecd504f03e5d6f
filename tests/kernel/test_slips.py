"""Each planted slip in the concrete wing is noticed by what the kernel did with packets that `chainproof fuzz` draws."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path

import pytest
from msgspec import Struct
from msgspec.structs import replace

from tests.agree.slips import Slip, planted
from verifier.asked import fields_carried
from verifier.fuzzing import hosts, rules
from verifier.fuzzing.conversations import Conversation, Stage, Travel
from verifier.fuzzing.packets import shots
from verifier.fuzzing.run import BACKENDS, SETS_ON_A_HOST, alone, judged
from verifier.hosts import MAIN, RoutingRule, Setting
from verifier.kernel.compare import Settled
from verifier.kernel.errors import CannotRun
from verifier.kernel.iptables import BackendName
from verifier.kernel.oracle import Observation, Oracle, Shot
from verifier.reading.rules import read_rules
from verifier.values import MarkMask

from .hosts import host, interface, route
from .slips import CAUGHT

pytestmark = pytest.mark.kernel

OF_A_SET = 40
HOSTS = 12
"""So many of each make about ten thousand packets, as many as are asked about in a few seconds."""


class Seen(Struct, frozen=True):
    setting: Setting
    packet: Conversation
    seen: Observation


@cache
def seen() -> tuple[Seen, ...]:
    """What the kernel did with packets on drawn hosts, both backends in turn, as the wing tells it; and where marks are routed."""
    found: list[Seen] = []
    for number in range(HOSTS):
        backend: BackendName = ("legacy", "nft")[number % 2]
        draw = random.Random(f"slips of {number}")
        drawn = hosts.host(draw, BACKENDS[backend])
        with Oracle(drawn, backend) as oracle:
            for _ in range(SETS_ON_A_HOST):
                found += _seen_under(oracle, backend, Setting(drawn, rules.rule_set(draw)), draw)
    with Oracle(MARKED.host, "legacy") as oracle:
        found += _seen_under(oracle, "legacy", MARKED, random.Random("marked"))
    return tuple(found)


MARKED = Setting(
    replace(
        host(
            interface("eth0", "10.0.0.5/24"),
            interface("eth1", "10.0.1.5/24"),
            routes=(route("0.0.0.0/0", "eth0", via="10.0.0.1"),),
        ),
        policy=(RoutingRule(2, mark=MarkMask(2, 2)), RoutingRule(MAIN)),
        tables={2: (route("0.0.0.0/0", "eth1", via="10.0.1.1"),)},
        backend=BACKENDS["legacy"],
    ),
    read_rules(
        "*mangle\n-A OUTPUT -j MARK --set-mark 2\nCOMMIT\n*filter\n-A OUTPUT -j ACCEPT\nCOMMIT\n", "marked"
    ).rules,
)
"""Drawn hosts have no routing rules; here what this mark has goes by eth1."""


def _seen_under(
    oracle: Oracle, backend: BackendName, setting: Setting, draw: random.Random
) -> Iterator[Seen]:
    oracle.load(setting.rules)
    exact = "length" in fields_carried(setting)
    asked = [Conversation(*sent) for sent in islice(shots(setting, draw), OF_A_SET)]
    observed = oracle.ask([Shot(one.sender, one.packet, exact) for one in asked])
    for packet, what in zip(asked, observed, strict=True):
        if what is None:
            continue
        if judged(setting, packet, Stage.FIRST, what).difference is None:
            yield Seen(setting, packet, what)
        else:
            assert alone(oracle, backend, setting, packet) is None


@pytest.fixture(scope="module", autouse=True)
def _kernel() -> None:
    try:
        seen()
    except CannotRun as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("slip", CAUGHT, ids=str)
def test_the_kernel_notices_a_slip(slip: Slip, tmp_path: Path) -> None:
    with planted(slip, tmp_path) as slipped:
        for number, one in enumerate(seen(), 1):
            if _judged(one, slipped.travel).difference is not None:
                print(f"{slip}: noticed at packet {number}")
                return
    pytest.fail(f"{slip}: nobody noticed in {len(seen())} packets")


def test_there_are_enough_of_them_and_without_one_nothing_is_noticed(tmp_path: Path) -> None:
    assert len(CAUGHT) >= 25
    same = Slip("none", "__init__.py", "plain Python", "plain Python")
    with planted(same, tmp_path) as copied:
        for one in seen()[:500]:
            assert _judged(one, copied.travel).difference is None


def _judged(one: Seen, travel: Travel) -> Settled:
    return judged(one.setting, one.packet, Stage.FIRST, one.seen, travel)
