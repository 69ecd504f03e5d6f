"""A short deterministic slice of the fuzzer, and the slips that it must notice."""

from __future__ import annotations

import pytest

from verifier.reading.rules import read_rules

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
    def slipping(text: str) -> None:
        read_rules(text, "t")
        if "--dport" in text:
            raise slip(text)

    monkeypatch.setitem(fuzz_text.ENTRIES, "slipping", slipping)
    text = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp --dport 80 -j ACCEPT\n-A INPUT -j DROP\nCOMMIT\n"
    finding = fuzz_text.trial("slipping", text)
    assert finding is not None
    assert slip.__name__ in finding.kind
    small = fuzz_text.shrink(finding).text
    assert "--dport" in small
    assert ":INPUT" not in small
    assert "DROP" not in small


def test_a_reader_that_does_not_end_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(_: str) -> None:
        while True:
            pass

    monkeypatch.setitem(fuzz_text.ENTRIES, "endless", endless)
    finding = fuzz_text.trial("endless", "*filter\nCOMMIT\n", seconds=0.2)
    assert finding is not None
    assert finding.kind == "TookTooLong"
