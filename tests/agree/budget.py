"""How long the laws are tried: `AGREE=20 pytest tests/agree` tries twenty times as many examples, and other ones each time."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

FACTOR = int(os.environ.get("AGREE", "1"))


def tries(examples: int) -> settings:
    """A law's examples: the same ones each time, unless more are asked for."""
    return settings(
        max_examples=examples * FACTOR,
        deadline=None,
        derandomize=FACTOR == 1,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        phases=[Phase.explicit, Phase.generate] if os.environ.get("NOSHRINK") else list(Phase)[:5],
        print_blob=True,
    )


def collecting(examples: int) -> settings:
    """Examples that are collected and not judged: the same ones each time, and none of them shrunk."""
    return settings(
        tries(examples), max_examples=examples, derandomize=False, database=None, phases=[Phase.generate]
    )
