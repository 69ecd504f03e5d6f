"""The shape of a line: its text with some words taken out, as a regular expression that finds those words in other lines.

Derived from what Lark makes of one line, so that every line that the expression matches is one of which Lark
would make the same tokens, but for the text of the words that were taken out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

from msgspec import Struct

from .grammars import parser

if TYPE_CHECKING:
    from lark import Token

GRAMMAR, START = "iptables.lark", "line"


class Slot(Struct, frozen=True):
    """A word of a line that may be another: its place, counted from 0, its terminal, and what Lark would sooner see there."""

    begin: int
    end: int
    terminal: str
    others: frozenset[str]


class Shape(Struct, frozen=True):
    """Lines that differ in the words of their slots alone; `at` says where these are in a match's `groups()`."""

    find: Callable[[str], re.Match[str] | None]
    at: tuple[int, ...]


def slots(text: str) -> tuple[Slot, ...]:
    """Every token of a line that could be a slot, in the order of the text; the line is one that Lark accepts.

    A slot stands between blanks, ends of the line and tokens that are always the same.  So what it is does not
    change what its neighbours are: no terminal of ours looks across a blank outside quotes.
    """
    found: list[Slot] = []
    fixed = 0
    for token, others in _tokens(text):
        begin, end = token.start_pos or 0, token.end_pos or 0
        if _is_fixed(token.type):
            fixed = end
        elif token.type[0] != "_" and _free(text, begin, fixed) and text[end : end + 1] in ("", " ", "\t"):
            found.append(Slot(begin, end, token.type, others))
    return tuple(found)


def _free(text: str, begin: int, fixed: int) -> bool:
    return begin == fixed or text[begin - 1] in " \t"


def pattern(text: str, taken: Sequence[Slot]) -> str:
    """The expression of a line's shape with these slots.

    A slot takes what Lark's lexer takes there: none of the other terminals that the parser would accept, then the
    terminal's own expression, which is not asked for a second answer (an atomic group).
    """
    parts: list[str] = []
    at = 0
    for n, slot in enumerate(taken):
        parts.append(re.escape(text[at : slot.begin]))
        parts.append(_none_of(slot.others))
        parts.append(f"(?P<s{n}>(?>{_terminals()[slot.terminal]}))")
        at = slot.end
    return "".join([*parts, re.escape(text[at:])])


def shape(expression: str, count: int) -> Shape:
    """The shape that a pattern with `count` slots stands for."""
    compiled = re.compile(expression)
    return Shape(compiled.fullmatch, tuple(compiled.groupindex[f"s{n}"] - 1 for n in range(count)))


@cache
def _none_of(terminals: frozenset[str]) -> str:
    """What stands before none of these: none of the characters that they begin with, where each has one such character.

    That bars words that are none of the terminals too, such as `!x`: they are of no shape then, which is no error.
    """
    begins = [_begin(_terminals()[name]) for name in sorted(terminals)]
    known = [b for b in begins if b is not None]
    if known and len(known) == len(begins):
        return f"(?![{''.join(map(re.escape, known))}])"
    return "".join(f"(?!{_terminals()[name]})" for name in sorted(terminals))


def _begin(expression: str) -> str | None:
    """The one character that whatever matches begins with, or None where there may be several or none."""
    from re import _constants, _parser

    kind, what = _parser.parse(expression)[0]
    return chr(what) if kind is _constants.LITERAL else None


_OPTIONS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|(?<![^ \t])(-[mp] +[^ \t"]+|-[^ \t"]+|!)', re.DOTALL)


def sketch(text: str) -> tuple[str, ...]:
    """What lines of one shape have in common, at a glance: their options and the modules that they load."""
    return tuple(filter(None, _OPTIONS.findall(text)))


# -- lark -------------------------------------------------------------------------------------------


def _tokens(text: str) -> Iterator[tuple[Token, frozenset[str]]]:
    """The tokens of a line, each with the terminals that the lexer did not choose there."""
    steps = parser(GRAMMAR, START).parse_interactive(text)
    for token in steps.iter_parse():
        choices = steps.choices()  # type: ignore[no-untyped-call]
        yield token, frozenset(t for t in choices if t in _terminals() and t != token.type)


@cache
def _terminals() -> Mapping[str, str]:
    """The expression of each terminal."""
    return {t.name: f"(?:{t.pattern.to_regexp()})" for t in parser(GRAMMAR, START).terminals}


@cache
def _is_fixed(terminal: str) -> bool:
    """Whether the terminal is always the same text."""
    from lark.lexer import PatternStr

    return isinstance(parser(GRAMMAR, START).get_terminal(terminal).pattern, PatternStr)
