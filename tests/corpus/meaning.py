"""What is spelled of what was read loads in the real tools, and they print of it what they print of the file itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from . import manifest, reader, reading, saved, tool
from .manifest import CORPUS, Entry
from .verdicts import Case, general

LAW = "meaning"


def loadable() -> tuple[tuple[Entry, str], ...]:
    """Every rules file with each backend that loads it."""
    return tuple(
        (entry, backend)
        for entry in manifest.entries()
        if entry.format == "rules"
        for backend in tool.BACKENDS
        if getattr(entry, backend) == "accept"
    )


def cases(every: int = 1) -> Iterator[Case]:
    with ThreadPoolExecutor(2) as pool:
        yield from pool.map(lambda pair: judge(*pair), loadable()[::every])


def judge(entry: Entry, backend: str) -> Case:
    kind = f"{entry.family} {backend}"
    place = f"{entry.path} [{backend}]"

    def case(outcome: str, cause: str = "", detail: str = "") -> Case:
        return Case(LAW, place, kind, outcome, cause, detail)

    heard = reader.ask_file(entry.file, reading.family_of(entry))
    if not isinstance(heard, reader.Read):
        return case("not read")
    if entry.family not in heard.rules:
        return case("not read", f"read as rules of {', '.join(heard.rules)} alone")
    text = reader.spelled(heard.rules[entry.family])
    got = tool.load(text, entry.family, backend)
    if isinstance(got, tool.NotLoaded):
        return case("not loaded", f"what we spell is refused: {general(got.error)}", _shown(got.error, text))
    difference = saved.compare(canon(entry, backend), got.saved)
    if difference.left:
        return case("differs", cause(difference.left), difference.left)
    return Case(LAW, place, kind, "alike" if difference.ways else "the same", ways=difference.ways)


def canon(entry: Entry, backend: str) -> str:
    """What the tool prints after it loaded the file: as the corpus holds it, or else as the tool says now."""
    kept = CORPUS / "canon" / f"{entry.path}.{backend}-save"
    if kept.exists():
        return kept.read_text(encoding="utf-8", errors="surrogateescape")
    got = tool.load(entry.file.read_bytes().decode("utf-8", "surrogateescape"), entry.family, backend)
    assert isinstance(got, tool.Loaded), (entry.path, got)
    return got.saved


def cause(left: str) -> str:
    """Which words of two rules are unlike."""
    one, bar, other = left.partition("   |   ")
    if not bar:
        return general(left)
    a, b = one.split(), other.split()
    gone = [w for w in a if w not in b and w.startswith("-")]
    new = [w for w in b if w not in a and w.startswith("-")]
    if gone or new:
        return f"the file has {' '.join(gone) or 'nothing more'}, what we spell {' '.join(new) or 'nothing more'}"
    return "other values or another order: " + " ".join(w for w in a if w.startswith("-"))


def _shown(error: str, text: str) -> str:
    """The tool's words with the line that it means."""
    found = re.search(r"line:? (\d+)", error)
    lines = text.split("\n")
    line = lines[int(found[1]) - 1] if found and int(found[1]) <= len(lines) else ""
    return f"{error}: {line}"
