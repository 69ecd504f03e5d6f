"""Lines and words of a rules file: text that knows its place, and says so when it is wrong."""

from __future__ import annotations

import re
from itertools import count, repeat
from typing import TYPE_CHECKING

from msgspec import Struct

from ..values import Place
from .errors import RuleError

if TYPE_CHECKING:
    from lark import Token


class Word(Struct, frozen=True, gc=False):
    """A word as iptables gets it, quotes taken off, and where it stands: column (from 1) and width."""

    text: str
    column: int
    width: int
    quoted: bool = False
    """It began with a quote, so it is a value: neither an option nor `!`."""

    @property
    def is_option(self) -> bool:
        return self.text.startswith("-") and len(self.text) > 1 and not self.quoted

    @property
    def is_not(self) -> bool:
        return self.text == "!" and not self.quoted


class Line(Struct, frozen=True, gc=False):
    """One line of a file, without its end."""

    file: str
    number: int
    text: str

    def place(self, at: Word | None = None) -> Place:
        return Place(self.file, self.number, at.column if at else self.indent)

    @property
    def indent(self) -> int:
        """The column of the first character that is no blank."""
        return len(self.text) - len(self.text.lstrip()) + 1

    @property
    def end(self) -> Word:
        """The place after the last character that is no blank, where something is missing."""
        return Word("", len(self.text.rstrip()) + 1, 1)

    def error(self, code: str, message: str, at: Word | None = None, hint: str | None = None) -> RuleError:
        width = at.width if at else len(self.text.strip())
        return RuleError(code, message, self.place(at), line=self.text, width=max(1, width), hint=hint)


def split(text: str, file: str) -> tuple[Line, ...]:
    """The lines of a text, ended by LF or CRLF."""
    bare = text.removeprefix("\ufeff").split("\n")
    if "\r" in text:
        bare = [line.removesuffix("\r") for line in bare]
    return tuple(map(Line, repeat(file), count(1), bare))


def word(token: Token) -> Word:
    """A token of iptables.lark as a word."""
    return unquoted(str(token), token.column or 0)


def unquoted(raw: str, column: int) -> Word:
    """A word as it is written, without its quotes."""
    return Word(bare(raw), column, len(raw), raw.startswith('"'))


def bare(raw: str) -> str:
    """The text of a word as it is written, without its quotes."""
    head, quote, rest = raw.partition('"')
    if not quote:
        return raw
    return head + (re.sub(r"\\(.)", r"\1", rest[:-1]) if "\\" in rest else rest[:-1])


def quote(text: str) -> str:
    """A value as one word that is read back as it is."""
    if re.fullmatch(r"[\w.:/,+@%=^~*\[\]#-]+", text, re.ASCII) and not text.startswith("-"):
        return text
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'
