"""Kernel tests need root, iptables and network namespaces; where these are missing they are skipped, and say why."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from verifier.hosts import Host
from verifier.kernel.iptables import BackendName
from verifier.kernel.pods import Pod

from . import tables

PodOf = Callable[[str, Host, str, BackendName], Pod]


@pytest.fixture(autouse=True)
def _namespaces(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("kernel") is None:
        return
    if os.geteuid() != 0:
        pytest.skip("needs root, to make network namespaces")
    if shutil.which("ip") is None:
        pytest.skip("ip is not installed")


@pytest.fixture(params=["legacy", "nft"])
def backend(request: pytest.FixtureRequest) -> BackendName:
    name: BackendName = request.param
    need(name)
    return name


def need(backend: BackendName) -> None:
    """Skip the test where this iptables is not installed."""
    for command in (f"iptables-{backend}-restore", f"iptables-{backend}-save"):
        if shutil.which(command) is None:
            pytest.skip(f"{command} is not installed")


@pytest.fixture(scope="module")
def pod_of() -> Iterator[PodOf]:
    """Pods that last as long as the module's tests, one for each name and backend."""
    pods: dict[tuple[str, BackendName], Pod] = {}
    with ExitStack() as stack:

        def pod(name: str, host: Host, rules: str, backend: BackendName) -> Pod:
            if (name, backend) not in pods:
                pods[name, backend] = stack.enter_context(Pod(host, rules, backend))
            return pods[name, backend]

        yield pod


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of mutants, of the tests that recorded rows of it."""
    rows = [
        tables.Row(**value)
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == "mutants" and report.when == "call"
    ]
    if rows:
        terminalreporter.section("mutants of the sidecar's rules")
        terminalreporter.write_line("\n".join(tables.lines(rows)))
        alive = tables.survivors(rows)
        terminalreporter.write_line(f"\n{len(alive)} mutants change no answer on these hosts:")
        terminalreporter.write_line("\n".join(f"  {name}" for name in alive))
