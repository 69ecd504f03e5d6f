"""The laws of the judge hold, but for what expected.tsv lists with its reason.

Where a law puts much to the kernel it takes every n-th case here; `python -m tests.corpus` takes them all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice

import pytest

from verifier import rules as r

from . import (
    differential,
    extensions,
    golden,
    ipsets,
    lines,
    listings,
    manifest,
    meaning,
    placement,
    reader,
    reading,
    scripts,
    syntax,
    tool,
    understood,
)
from .verdicts import Case, expected, in_vain, report, unexpected

if not manifest.CORPUS.is_dir():
    pytest.skip(manifest.ABSENT, allow_module_level=True)

LAWS: dict[str, Callable[[], Iterator[Case]]] = {
    reading.LAW: reading.cases,
    understood.LAW: understood.cases,
    listings.LAW: listings.cases,
}
"""Laws that need the corpus alone."""

KERNEL_LAWS: dict[str, Callable[[], Iterator[Case]]] = {
    meaning.LAW: partial(meaning.cases, 4),
    extensions.LAW: extensions.cases,
    scripts.LAW: partial(scripts.cases, 3),
    golden.LAW: golden.cases,
    ipsets.LAW: ipsets.cases,
    lines.LAW: lines.cases,
    syntax.LAW: syntax.cases,
    placement.LAW: partial(placement.cases, 13),
}
"""Laws that ask the real tools."""


@pytest.mark.parametrize("law", LAWS)
def test_the_law_holds(law: str) -> None:
    cases = list(LAWS[law]())
    assert cases
    assert not unexpected(cases), "\n" + report(unexpected(cases))
    assert not in_vain(cases, law)


@pytest.fixture
def _real_tools() -> None:
    if why := tool.missing():
        pytest.skip(why)


@pytest.mark.kernel
@pytest.mark.usefixtures("_real_tools")
@pytest.mark.parametrize("law", KERNEL_LAWS)
def test_the_law_holds_of_the_real_tools(law: str) -> None:
    cases = list(KERNEL_LAWS[law]())
    assert cases
    assert not unexpected(cases), "\n" + report(unexpected(cases))


@pytest.mark.kernel
@pytest.mark.usefixtures("_real_tools")
@pytest.mark.parametrize(
    "slip",
    [
        lambda text: text.replace("! ", "", 1),
        lambda text: text.replace("--dport ", "--sport ", 1),
        lambda text: text.replace("--dport 80", "--dport 81", 1),
        lambda text: re.sub(r"^-A (.*)\n-A (.*)$", r"-A \2\n-A \1", text, count=1, flags=re.MULTILINE),
        lambda text: re.sub(r"^-A .*\n", "", text, count=1, flags=re.MULTILINE),
        lambda text: text.replace("-j DROP", "-j ACCEPT", 1),
        lambda text: text.replace(" DROP [0:0]", " ACCEPT [0:0]", 1),
    ],
)
def test_a_slip_in_what_is_spelled_is_noticed(
    slip: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spelled = reader.spelled
    changed = 0

    def slipping(rules: r.RuleSet) -> str:
        nonlocal changed
        honest = spelled(rules)
        changed += slip(honest) != honest
        return slip(honest)

    monkeypatch.setattr(reader, "spelled", slipping)
    cases = [
        meaning.judge(entry, "legacy") for entry, backend in meaning.loadable()[::13] if backend == "legacy"
    ]
    assert changed
    assert [case for case in cases if case.cause]


@pytest.mark.kernel
@pytest.mark.usefixtures("_real_tools")
def test_iptables_and_the_reader_take_the_same_rules() -> None:
    with ThreadPoolExecutor(2) as pool:
        cases = list(pool.map(differential.judge, islice(differential.puts(seed=1), 400)))
    assert not [case for case in cases if case.cause], "\n" + report(cases)


def test_every_exception_has_a_law_and_a_reason() -> None:
    laws = {*LAWS, *KERNEL_LAWS}
    assert all(row.law in laws and row.place and row.reason for row in expected())
    assert len({(row.law, row.place) for row in expected()}) == len(expected())
