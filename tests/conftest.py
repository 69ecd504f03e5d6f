"""Settings of the whole suite: Hypothesis profiles, and skips that count as failures where they must not be."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "default",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile(
    "long", parent=settings.get_profile("default"), derandomize=False, max_examples=5000
)
settings.load_profile("default")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """With CHAINPROOF_NO_SKIPS set, a skipped test has failed: on a machine that can run everything, nothing is skipped."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("CHAINPROOF_NO_SKIPS") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, and CHAINPROOF_NO_SKIPS is set: {report.longrepr}"
