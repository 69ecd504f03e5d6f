"""The parsers of our grammars, each built once and its LALR table kept in the user's cache directory."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lark import Lark

GRAMMARS = Path(__file__).parent.parent / "grammar"


@cache
def parser(name: str, start: str) -> Lark:
    """The LALR parser of grammar file `name` from rule `start`; tokens have their places."""
    import lark

    kept = _cache_file(f"{name}-{start}-{lark.__version__}")
    return lark.Lark(
        (GRAMMARS / name).read_text(encoding="utf-8"),
        parser="lalr",
        start=start,
        maybe_placeholders=True,
        cache=False if kept is None else str(kept),
    )


def _cache_file(name: str) -> Path | None:
    """Where a parser is kept, or None where nothing can be written.  lark rebuilds what is stale or broken."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "chainproof"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return None
    return folder / name if os.access(folder, os.W_OK) else None
