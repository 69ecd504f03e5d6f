"""The pack of the sidecar in IPv6: each property has the answer that it expects."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PACK = "proofs/istio-sidecar-ipv6"


@pytest.fixture(scope="module")
def results() -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "verifier", "check", PACK, "--output-format", "json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["results"]
    return found


def test_what_envoy_dials_from_6_ends_and_from_any_other_source_comes_back(
    results: list[dict[str, Any]],
) -> None:
    answers = {r["host"]: r["answer"] for r in results if r["name"] == "no-loop"}
    assert answers == {"pod": "proved", "faulty": "refuted", "unbound": "refuted", "cut": "refuted"}


def test_every_other_property_has_the_answer_that_it_expects(results: list[dict[str, Any]]) -> None:
    assert len({r["name"] for r in results}) == 8
    assert [r["name"] for r in results if not r["ok"]] == []
