"""What is said to a user whose input cannot be read: where, the line itself, and a way out."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from ..values import Place


class InputError(Exception):
    """Input that cannot be read.  The command line prints it and exits with status 2.

    `code` is R... for rules, H... for hosts, P... for properties; `line` is the text of the line that
    `place` names, `width` how many characters of it, from the place's column, are meant; `hint` is a
    way out.
    """

    def __init__(
        self,
        code: str,
        message: str,
        place: Place,
        *,
        line: str | None = None,
        width: int = 1,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.place = place
        self.line = line
        self.width = width
        self.hint = hint

    def __str__(self) -> str:
        out = [f"error[{self.code}]: {_clipped(_tame(self.message))}", f"  --> {self.place}"]
        if self.line is not None:
            number = str(self.place.line)
            text, column = _window(_tame(self.line), self.place.column)
            out.append(f"{number} | {text}")
            if column:
                carets = "^" * max(1, min(self.width, len(text) - column + 1))
                out.append(f"{' ' * len(number)} | {' ' * (column - 1)}{carets}")
        if self.hint:
            out.append(f"  = help: {self.hint}")
        return "\n".join(out)


def _tame(text: str) -> str:
    """The text without tabs, and without what would change a terminal's state."""
    return "".join(x if x.isprintable() else " " if x == "\t" else "\ufffd" for x in text)


def _clipped(text: str, longest: int = 400) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _window(text: str, column: int, wide: int = 200) -> tuple[str, int]:
    """What is shown of a line, around the column if it is long, and where the column is in that."""
    if len(text) <= wide:
        return text, column
    begin = max(0, column - wide // 2)
    shown = ("…" if begin else "") + text[begin : begin + wide]
    return shown + ("…" if begin + wide < len(text) else ""), column - begin + (begin > 0) if column else 0


class RuleError(InputError):
    """A rules file that cannot be read."""


class HostError(InputError):
    """A host file that cannot be read, or that contradicts itself or the rules."""


class PropertyError(InputError):
    """A property file that cannot be read, or that names what is not there."""


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """`did you mean X?` for the known word nearest to `word`, or None where none is near."""
    if len(word) > 100:
        return None
    near = get_close_matches(word, sorted(set(known) - {word}), n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else None
