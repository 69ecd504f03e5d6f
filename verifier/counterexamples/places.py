"""Where in a JSON text something stands: the line and the column of the value at a path."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TypeAlias

Path: TypeAlias = Sequence[str | int]
"""Keys of objects and indices of lists, from the outside in."""

_BLANK = re.compile(r"[ \t\n\r]*")


def offset_of(text: str, path: Path) -> int:
    """Where in the JSON text the value at the path begins, or the innermost one around it that is there."""
    at = _skip(text, 0)
    for step in path:
        found = _inside(text, at, step)
        if found is None:
            return at
        at = found
    return at


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """Both from 1."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def _inside(text: str, at: int, step: str | int) -> int | None:
    """Where the member of the object, or the item of the list, that begins at `at` begins itself."""
    if text[at] not in ("{" if isinstance(step, str) else "["):
        return None
    decoder = json.JSONDecoder()
    at = _skip(text, at + 1)
    number = 0
    while text[at] not in "]}":
        key: str | int = number
        if isinstance(step, str):
            key, at = decoder.raw_decode(text, at)
            at = _skip(text, _skip(text, at) + 1)
        if key == step:
            return at
        _, at = decoder.raw_decode(text, at)
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)
        number += 1
    return None


def _skip(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return found.end() if found else at
