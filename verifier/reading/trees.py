"""A property file's text as a tree of words, each with its place; what does not fit is said in the user's words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct

from ..values import PROTOCOLS, Place, read_protocol
from .errors import PropertyError, did_you_mean

if TYPE_CHECKING:
    import lark
    from lark.parsers.lalr_interactive_parser import InteractiveParser

T = TypeVar("T")


class Word(Struct, frozen=True):
    """A word of the file: the grammar's name of its kind, its place, its line, and where it begins and ends."""

    kind: str
    text: str
    place: Place
    line: str
    begin: int
    end: int

    def error(self, code: str, message: str, hint: str | None = None) -> PropertyError:
        width = len(self.text.rstrip())
        return PropertyError(code, message, self.place, line=self.line, width=width, hint=hint)

    def read(self, reader: Callable[[str], T], hint: str | None = None) -> T:
        """What a function reads in this word; its ValueError becomes a PropertyError here."""
        try:
            return reader(self.text)
        except ValueError as e:
            raise self.error("P004", str(e), hint) from None


class Branch(Struct, frozen=True):
    """A rule of the grammar, by its name, and what stands there in order."""

    name: str
    parts: tuple[Branch | Word, ...]

    def words(self, *kinds: str) -> tuple[Word, ...]:
        """The words of these kinds (of any, if none is given) that stand right here."""
        found = (p for p in self.parts if isinstance(p, Word))
        return tuple(w for w in found if not kinds or w.kind in kinds)

    def word(self, *kinds: str) -> Word | None:
        """The first of them, if any."""
        return next(iter(self.words(*kinds)), None)

    def the(self, *kinds: str) -> Word:
        """The first of them, which the grammar promises."""
        found = self.word(*kinds)
        assert found is not None, f"{self.name} has no {kinds}"
        return found

    def branches(self, *names: str) -> tuple[Branch, ...]:
        """The branches of these names (of any, if none is given) that stand right here."""
        found = (p for p in self.parts if isinstance(p, Branch))
        return tuple(b for b in found if not names or b.name in names)

    def branch(self, *names: str) -> Branch | None:
        """The first of them, if any."""
        return next(iter(self.branches(*names)), None)

    def all_words(self) -> Iterator[Word]:
        """Every word here and below, in the order of the file."""
        for part in self.parts:
            if isinstance(part, Word):
                yield part
            else:
                yield from part.all_words()


def read(text: str, file: str) -> Branch:
    """The tree of a property file; raises PropertyError where it does not follow the grammar."""
    from lark import UnexpectedInput

    from .grammars import parser

    whole = text + "\n"
    lines = whole.split("\n")
    grammar = parser("prop.lark", "start")
    steps = grammar.parse_interactive(whole)
    last: lark.Token | None = None
    try:
        for token in steps.iter_parse():
            _apart(last, token, whole, lines, file)
            last = token
        tree = steps.feed_eof(last)  # type: ignore[no-untyped-call]
    except UnexpectedInput as e:
        raise _unexpected(e, grammar, steps, last, whole, lines, file) from None
    return _branch(tree, file, lines)


def _branch(tree: lark.Tree[lark.Token], file: str, lines: list[str]) -> Branch:
    from lark import Token

    parts: list[Branch | Word] = []
    for child in tree.children:
        parts.append(_word(child, file, lines) if isinstance(child, Token) else _branch(child, file, lines))
    return Branch(str(tree.data), tuple(parts))


def _word(token: lark.Token, file: str, lines: list[str]) -> Word:
    line, column, begin = token.line or 1, token.column or 1, token.start_pos or 0
    place = Place(file, line, column)
    return Word(token.type, str(token), place, lines[line - 1].rstrip("\r"), begin, begin + len(token))


def _apart(before: lark.Token | None, token: lark.Token, text: str, lines: list[str], file: str) -> None:
    """Raises PropertyError iff two words stand together without a blank, as in `mustend`."""
    if glued := _glued(before, token.start_pos or 0, text, lines, file):
        raise glued


def _glued(
    before: lark.Token | None, begin: int, text: str, lines: list[str], file: str
) -> PropertyError | None:
    """The error for what stands at `begin` right after a word, without a blank; None where it does not."""
    if (
        before is None
        or before.end_pos != begin
        or not re.fullmatch(r"[^\s\",|#=]{2}", text[begin - 1 : begin + 1])
    ):
        return None
    word = _word(before, file, lines)
    both = re.match(r"[^\s\",|#=]+", text[word.begin :])
    glued = both[0] if both else word.text
    hint = did_you_mean(glued, [word.text]) or f"put a blank after `{word.text}`"
    return PropertyError(
        "P001", f"`{glued}` is no word here", word.place, line=word.line, width=len(glued), hint=hint
    )


# -- what was expected --------------------------------------------------------------------------

_SAID = {
    "NAME": "a name",
    "HOST": "a host",
    "PROCESS": "a process",
    "SENDER": "a sender (`outside`, `PROCESS` or `PROCESS.PROXY`)",
    "CHAIN": "a chain (`TABLE/CHAIN`)",
    "TABLE": "a table of rules",
    "IFACE": "an interface",
    "ADDRESS": "an address",
    "PORTS": "a port",
    "NUMBER": "a number",
    "PROTOCOL": "a protocol",
    "BIND": "an address or `*`",
    "ID": "an id",
    "VALUE": "a number",
    "STRING": 'text in "quotes"',
    "OPTIONS": "iptables matches (`-p tcp --dport 80`)",
    "DASH": "`-`",
    "_NL": "a new line",
    "$END": "the end of the file",
}

_CHOICES = {
    "MODAL": ("must", "may", "can"),
    "LIFE": ("dead", "alive"),
    "WANTED": ("refuted", "unknown"),
    "CELL": ("yes", "no", "some"),
}


def _unexpected(
    e: lark.UnexpectedInput,
    grammar: lark.Lark,
    steps: InteractiveParser,
    last: lark.Token | None,
    text: str,
    lines: list[str],
    file: str,
) -> PropertyError:
    from lark import Token, UnexpectedToken

    wrong = e.token if isinstance(e, UnexpectedToken) else None
    begin = (wrong.start_pos if isinstance(wrong, Token) else e.pos_in_stream) or 0
    if glued := _glued(last, begin, text, lines, file):
        return glued
    ended = wrong is not None and wrong.type == "$END"
    said: list[str] = []
    literals: list[str] = []
    for name in _accepted(steps, first=not text[text.rfind("\n", 0, begin) + 1 : begin].strip()):
        words = _CHOICES.get(name) or _literal(grammar, name)
        literals += words
        said += [f"`{w}`" for w in words] or [_SAID[name]]
    expected = " or ".join(filter(None, [", ".join(said[:-1]), said[-1]])) if said else "nothing more"
    if last is not None and last.type == "PROTOCOL" and not _is_protocol(str(last)):
        literals += [*PROTOCOLS, "established"]
        begin = last.start_pos or 0
    if ended:
        begin = len(text.rstrip())
    number = text.count("\n", 0, begin) + 1
    line = lines[number - 1].rstrip("\r")
    place = Place(file, number, begin - text.rfind("\n", 0, begin))
    found = re.match(r"\"[^\"\n]*\"?|[,|=]|[^\s\",|=]+", text[begin:])
    if not found:
        what = "file" if ended else "line"
        return PropertyError("P001", f"the {what} ends, and {expected} was expected", place, line=line)
    word = found[0]
    hint = did_you_mean(word, literals)
    shown = word if word.startswith('"') else f"`{word}`"
    message = f"{expected} was expected, not {shown}"
    return PropertyError("P001", message, place, line=line, width=len(word), hint=hint)


def _accepted(steps: InteractiveParser, first: bool) -> list[str]:
    """The kinds of word that may stand next; for the first word of a line also those that begin a new one."""
    from lark import Token

    here: set[str] = steps.accepts()  # type: ignore[no-untyped-call]
    if first and "_NL" in here:
        ahead = steps.copy()  # type: ignore[no-untyped-call]
        ahead.feed_token(Token("_NL", "\n"))
        here = (here - {"_NL"}) | ahead.accepts()
    return sorted(here)


def _literal(grammar: lark.Lark, name: str) -> tuple[str, ...]:
    """The word that this terminal always is, if it is always the same."""
    from lark.lexer import PatternStr

    if name in _SAID:
        return ()
    pattern = grammar.get_terminal(name).pattern
    return (pattern.value,) if isinstance(pattern, PatternStr) else ()


def _is_protocol(text: str) -> bool:
    try:
        read_protocol(text)
    except ValueError:
        return False
    return True
