"""A short deterministic slice of the fuzzer, and the slips that it must notice."""

from __future__ import annotations

import pytest

from verifier.reading import detect
from verifier.reading.lines import Line

from . import fuzz_text


def test_no_reader_fails_on_a_text_that_nobody_would_write() -> None:
    put, found = fuzz_text.hunt(seed=7, inputs=150)
    assert put == 150
    assert not found, "\n\n".join(
        f"{f.kind}\n{f.entry}({f.text[:2000]!r})\n{f.shown}" for f in found.values()
    )


@pytest.mark.parametrize("slip", [KeyError, RecursionError, MemoryError])
def test_an_exception_that_is_not_ours_is_found_and_its_input_made_small(
    slip: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = detect.meaningful

    def slipping(line: Line) -> bool:
        if "--dport" in line.text:
            raise slip(line.text)
        return honest(line)

    monkeypatch.setattr(detect, "meaningful", slipping)
    text = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp --dport 80 -j ACCEPT\nCOMMIT\n"
    finding = fuzz_text.trial("read_rules", text)
    assert finding is not None
    assert slip.__name__ in finding.kind
    small = fuzz_text.shrink(finding).text
    assert "--dport" in small
    assert len(small) < len("-A INPUT -p tcp --dport 80 -j ACCEPT")


def test_a_reader_that_does_not_end_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(_: Line) -> bool:
        while True:
            pass

    monkeypatch.setattr(detect, "meaningful", endless)
    finding = fuzz_text.trial("read_rules", "*filter\nCOMMIT\n", seconds=0.2)
    assert finding is not None
    assert finding.kind == "TookTooLong"
