"""The museum: each bug is refuted before its fix and proved after it, and the README's table says so."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import museum  # noqa: E402


@pytest.fixture(scope="module")
def found() -> list[museum.Case]:
    return list(museum.cases())


def test_every_case_is_refuted_before_its_fix_and_proved_after_it(found: list[museum.Case]):
    assert {c.name: (c.before, c.after) for c in found} == {c.name: ("refuted", "proved") for c in found}


def test_every_other_property_of_a_case_has_the_answer_that_it_expects(found: list[museum.Case]):
    assert [r.question.name for c in found for r in c.results if not r.ok] == []


def test_every_folder_is_a_case(found: list[museum.Case]):
    assert [c.name for c in found] == sorted(p.name for p in museum.MUSEUM.iterdir() if p.is_dir())


def test_the_table_of_the_readme_is_current(found: list[museum.Case]):
    written = museum.written((museum.MUSEUM / "README.md").read_text())
    rows = [line for line in written.splitlines() if line.startswith("| [")]
    assert [row.rpartition(" |")[0].rpartition("| ")[0] + "|" for row in rows] == [c.row for c in found]
