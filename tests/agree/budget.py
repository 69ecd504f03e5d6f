"""How long the laws are tried: more with `--hypothesis-profile=long`, or with `AGREE=20`, which tries twenty times
as many examples, and other ones each time.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

FACTOR = int(os.environ.get("AGREE", settings().max_examples // 100))
"""Hypothesis tries a hundred examples unless its profile says otherwise."""


def tries(examples: int) -> settings:
    """A law's examples: the same ones each time, unless more are asked for."""
    return settings(
        max_examples=examples * max(FACTOR, 1),
        deadline=None,
        derandomize=FACTOR <= 1,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        print_blob=True,
    )


def collecting(examples: int) -> settings:
    """Examples that are collected and not judged: as many each time, and none of them shrunk."""
    return settings(
        tries(examples),
        max_examples=examples,
        derandomize=False,
        database=None,
        phases=[Phase.generate],
    )
