"""Kernel tests need root, iptables and network namespaces; where these are missing they are skipped, and say why."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from verifier.hosts import Host

from .iptables import BackendName
from .pods import Pod

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
    for command in (f"iptables-{name}-restore", f"iptables-{name}-save"):
        if shutil.which(command) is None:
            pytest.skip(f"{command} is not installed")
    return name


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
