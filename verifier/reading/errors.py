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
        out = [f"error[{self.code}]: {self.message}", f"  --> {self.place}"]
        if self.line is not None:
            number = str(self.place.line)
            text = self.line.expandtabs(1)
            out.append(f"{number} | {text}")
            if self.place.column:
                carets = "^" * max(1, min(self.width, len(text) - self.place.column + 1))
                out.append(f"{' ' * len(number)} | {' ' * (self.place.column - 1)}{carets}")
        if self.hint:
            out.append(f"  = help: {self.hint}")
        return "\n".join(out)


class RuleError(InputError):
    """A rules file that cannot be read."""


class HostError(InputError):
    """A host file that cannot be read, or that contradicts itself or the rules."""


class PropertyError(InputError):
    """A property file that cannot be read, or that names what is not there."""


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """`did you mean X?` for the known word nearest to `word`, or None where none is near."""
    near = get_close_matches(word, sorted(set(known)), n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else None
