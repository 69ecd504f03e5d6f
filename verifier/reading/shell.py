"""The part of the shell's language that lists of commands are written in: words, quotes, `&&`, `||`, literal variables.

What would need a run to be known (loops, conditions, substitutions) is refused with its place; nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from msgspec import Struct, field

from .errors import RuleError
from .lines import Line, Word

MOST_JOINED = 200
"""Lines of one command; more are a quote that nobody closed."""

LONGEST_VALUE = 10_000
"""Characters of a variable; one that is doubled again and again is soon longer than any memory."""

WAY_OUT = "give what `iptables-save` prints after it has run, or what `sh -x` prints while it runs"

_KEYWORDS = frozenset(
    [
        "if",
        "then",
        "else",
        "elif",
        "fi",
        "for",
        "while",
        "until",
        "do",
        "done",
        "case",
        "esac",
        "select",
        "function",
        "time",
        "{",
        "}",
        "[[",
        "[",
        "test",
        "((",
        "!!",
        "coproc",
        "eval",
        "source",
        ".",
        "read",
        "trap",
        "return",
        "break",
        "continue",
        "shift",
        "getopts",
        "let",
        "unset",
        "alias",
        "declare",
        "local",
        "typeset",
        "pushd",
    ]
)
_OPERATOR = re.compile(r"&&|\|\||;;|;|\||\d*(?:>>|>&|>\||<<-|<<<|<<|<&|<>|>|<)|&>>|&>|&|\(|\)")
_EXPANDS = re.compile(r"[*?]|\{[^{}\s]*(?:,|\.\.)[^{}\s]*\}")
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)


class Simple(Struct, frozen=True):
    """One command: its words as the program gets them, and what stands in its here-document, if it has one."""

    line: Line
    words: tuple[Word, ...]
    here: tuple[Line, ...] | None = None
    input: Word | None = None
    """The file that `<` names."""


class Step(Struct, frozen=True):
    """A command that is run always ("" or ";"), if the one before succeeded ("&&"), or if it failed ("||")."""

    after: str
    simple: Simple


Steps: TypeAlias = tuple[Step, ...]


def read(lines: Sequence[Line], literal: bool = False) -> Iterator[Steps]:
    """The commands of a script, those of one line together.

    `literal`: the words are as the shell left them (a trace), so `$` and the like stand for themselves.
    RuleError (R019) where only a run could tell what the script does.
    """
    reader = _Script(list(lines), literal)
    while reader.at < len(reader.lines):
        steps = reader.next_line()
        if steps:
            yield steps


class _Operator(Struct, frozen=True):
    text: str
    word: Word


_Token: TypeAlias = Word | _Operator


class _Script(Struct):
    lines: list[Line]
    literal: bool
    at: int = 0
    values: dict[str, str] = field(default_factory=dict)
    """Variables that the script has set to words that it gives itself."""

    def next_line(self) -> Steps:
        line = self._logical()
        steps: list[Step] = []
        after = ";"
        tokens = _Words(line, self.values, self.literal)
        words: list[Word] = []
        here: tuple[Line, ...] | None = None
        source: Word | None = None
        for token in tokens.read():
            if isinstance(token, Word):
                words.append(token)
                continue
            text = token.text.lstrip("0123456789")
            if text in ("<<", "<<-"):
                here = self._here(line, tokens.argument(token), strip=text == "<<-")
            elif text == "<":
                source = tokens.argument(token)
            elif text in (">", ">>", ">&", ">|", "&>", "&>>", "<&"):
                tokens.argument(token)
            elif text in (";", "&&", "||"):
                self._end(line, after, words, here, source, steps)
                words, here, source, after = [], None, None, text
            else:
                raise unclear(line, f"`{text}`", token.word)
        self._end(line, after, words, here, source, steps)
        if after in ("&&", "||") and not words:
            raise unclear(line, f"`{after}` at the end of a line", line.end)
        return tuple(steps)

    def _end(
        self,
        line: Line,
        after: str,
        words: list[Word],
        here: tuple[Line, ...] | None,
        source: Word | None,
        steps: list[Step],
    ) -> None:
        """A simple command is complete: variables that it sets are kept, the rest is a step."""
        rest = list(words)
        if rest and rest[0].text in ("export", "readonly") and not rest[0].quoted:
            rest = rest[1:]
        while rest and not self.literal and (found := re.match(r"([A-Za-z_]\w*)=", rest[0].text, re.ASCII)):
            name, value = found[1], rest[0].text[found.end() :]
            if name in ("IFS", "PS4") or after in ("&&", "||") or len(value) > LONGEST_VALUE:
                raise unclear(line, f"what it sets `{name}` to", rest[0])
            self.values[name] = value
            rest = rest[1:]
        if not rest or words[0].text in ("export", "readonly"):
            return
        if rest[0].text in _KEYWORDS and not self.literal:
            raise unclear(line, f"`{rest[0].text}`", rest[0])
        steps.append(Step(after, Simple(line, tuple(rest), here, source)))

    def _logical(self) -> Line:
        """The next line, with those that a backslash or an open quote makes part of it."""
        first = self.lines[self.at]
        self.at += 1
        text = first.text
        for joined in range(MOST_JOINED):
            end = _left_open(text)
            if not end:
                break
            if self.at == len(self.lines) or joined == MOST_JOINED - 1:
                if end == "\\":
                    break
                raise first.error("R005", "a quote is opened and not closed")
            more = self.lines[self.at].text
            text = text[:-1] + more if end == "\\" else f"{text}\n{more}"
            self.at += 1
        return Line(first.file, first.number, text)

    def _here(self, line: Line, end: Word, strip: bool) -> tuple[Line, ...]:
        """The lines up to the one that is the word `end`."""
        found: list[Line] = []
        while self.at < len(self.lines):
            each = self.lines[self.at]
            self.at += 1
            text = each.text.lstrip("\t") if strip else each.text
            if text == end.text:
                return tuple(found)
            if not end.quoted and (bad := re.search(r"[$`\\]", text)):
                raise unclear(
                    each, f"`{bad.group()}` in a here-document", Word(bad.group(), bad.start() + 1, 1)
                )
            found.append(Line(each.file, each.number, text))
        raise line.error("R005", f"the here-document that ends with {end.text} does not end", end)


def _left_open(text: str) -> str:
    """What makes the next line part of this one: an open quote, a backslash at the end, or nothing."""
    quote = ""
    n = 0
    fresh = True
    while n < len(text):
        letter = text[n]
        if letter == "\\" and quote != "'":
            if n + 1 == len(text):
                return "\\"
            n += 1
        elif quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter == "#" and fresh:
            return ""
        fresh = not quote and letter in " \t;&|("
        n += 1
    return quote


class _Words(Struct):
    """The words and operators of one logical line."""

    line: Line
    values: dict[str, str]
    literal: bool
    at: int = 0

    def read(self) -> Iterator[_Token]:
        text = self.line.text
        while True:
            self._blanks()
            if self.at >= len(text) or text[self.at] == "#":
                return
            if operator := _OPERATOR.match(text, self.at):
                column = self.at + 1
                self.at = operator.end()
                yield _Operator(operator.group(), Word(operator.group(), column, len(operator.group())))
            else:
                yield from self._word()

    def argument(self, operator: _Operator) -> Word:
        """The word after a redirection."""
        self._blanks()
        if self.at < len(self.line.text) and not _OPERATOR.match(self.line.text, self.at):
            found = list(self._word())
            if len(found) == 1:
                return found[0]
        raise unclear(self.line, f"what follows `{operator.text}`", operator.word)

    def _blanks(self) -> None:
        while self.at < len(self.line.text) and self.line.text[self.at] in " \t\n":
            self.at += 1

    def _word(self) -> Iterator[Word]:
        """One word, or those that a variable without quotes around it is split into."""
        text, begin = self.line.text, self.at
        fields: list[str] = [""]
        quoted = assigns = False
        while self.at < len(text) and text[self.at] not in " \t\n;&|()<>":
            letter = text[self.at]
            self.at += 1
            if letter == "'":
                end = text.find("'", self.at)
                fields[-1] += text[self.at : end]
                self.at = end + 1
                quoted = True
            elif letter == '"':
                fields[-1] += self._double()
                quoted = True
            elif letter == "\\":
                fields[-1] += text[self.at : self.at + 1]
                self.at += 1
                quoted = True
            elif letter == "$" and text[self.at : self.at + 1] == "'":
                fields[-1] += self._escaped()
                quoted = True
            elif letter in "$`" and not self.literal:
                value = self._variable(letter)
                if assigns or not re.search(r"[ \t\n]", value):
                    fields[-1] += value
                else:
                    head, *more = re.split(r"[ \t\n]+", value)
                    fields[-1] += head
                    fields += more
                quoted = quoted or bool(value)
            elif not self.literal and not assigns and _EXPANDS.match(text, self.at - 1):
                raise unclear(
                    self.line, f"`{letter}`, which the shell may expand", Word(letter, self.at, 1),
                    "put the word in quotes",
                )  # fmt: skip
            else:
                fields[-1] += letter
                assigns = assigns or (letter == "=" and bool(_NAME.fullmatch(text[begin : self.at - 1])))
        for n, value in enumerate(fields):
            if value or (quoted and len(fields) == 1 and n == 0):
                yield Word(value, begin + 1, self.at - begin, False)

    def _double(self) -> str:
        """What stands in double quotes, up to and with the second."""
        text, found = self.line.text, ""
        while self.at < len(text) and text[self.at] != '"':
            letter = text[self.at]
            self.at += 1
            if letter == "\\" and text[self.at : self.at + 1] in ("\\", '"', "$", "`"):
                found += text[self.at]
                self.at += 1
            elif letter in "$`" and not self.literal:
                found += self._variable(letter)
            else:
                found += letter
        self.at += 1
        return found

    def _escaped(self) -> str:
        """What stands in `$'...'`."""
        end = re.compile(r"'((?:\\.|[^'\\])*)'", re.DOTALL).match(self.line.text, self.at)
        if end is None or re.search(r"\\[^nt'\"\\]", end[1]):
            raise unclear(self.line, "`$'`", Word("$'", self.at, 2))
        self.at = end.end()
        return re.sub(r"\\(.)", lambda m: {"n": "\n", "t": "\t"}.get(m[1], m[1]), end[1])

    def _variable(self, letter: str) -> str:
        """The value of `$NAME` or `${NAME}` where the script has set it to a word of its own."""
        text, begin = self.line.text, self.at
        found = re.compile(r"\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*)", re.ASCII).match(text, self.at)
        if letter == "$" and found is None and not re.match(r"[({@*#?$!0-9-]", text[self.at : self.at + 1]):
            return "$"
        name = (found[1] or found[2]) if found and letter == "$" else None
        if found is None or name is None or name not in self.values:
            shown = f"${name}" if name else letter + text[begin : begin + 1]
            raise unclear(self.line, f"`{shown}`", Word(shown, begin, len(shown)))
        self.at = found.end()
        return self.values[name]


def unclear(line: Line, what: str, at: Word | None = None, hint: str = WAY_OUT) -> RuleError:
    """The error for what only a run of the script could tell."""
    return line.error("R019", f"{what}: this needs the shell itself", at, hint)
