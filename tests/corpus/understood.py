"""None of what an exact meaning can be told of is ever opaque: over every file of the corpus, each opaque match and target."""

from __future__ import annotations

import re
from collections.abc import Iterator

from . import manifest, reader
from .extensions import IN_SCOPE
from .verdicts import Case

LAW = "understood"


def cases() -> Iterator[Case]:
    """One for each file, and one for each text that is opaque in some file."""
    seen: dict[str, str] = {}
    for entry in manifest.entries():
        heard = reader.ask_file(entry.file)
        if isinstance(heard, reader.Read):
            found = reader.opaque(heard)
            yield Case(LAW, entry.path, entry.format, "some opaque" if found else "understood")
            for text in found:
                seen.setdefault(text, entry.path)
    for text, path in seen.items():
        name = _name(text)
        exact = name in IN_SCOPE
        cause = f"{name}: opaque, and it has an exact meaning" if exact else ""
        yield Case(LAW, text, "a text", "exact" if exact else "beyond", cause, path)


def _name(text: str) -> str:
    """The extension that a text is of; a listing's own words begin with what the extension prints first."""
    said = re.match(r"-[mj] (\S+)", text)
    return said[1] if said else text.split()[0].rstrip(":")
