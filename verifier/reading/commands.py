"""What one iptables command says: its table, what it does to which chain, and the words of its rule.

iptables takes these options in any order and short ones in bundles (`-vA INPUT`), so the words are walked as
getopt walks them, and all that belongs to the rule is left for options.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from functools import cache
from typing import assert_never

from msgspec import Struct

from . import extensions as ext
from . import options
from .drafts import Draft
from .errors import did_you_mean
from .lines import Line, Word


class Kind(Enum):
    """What a command does, by its long option."""

    APPEND = "append"
    INSERT = "insert"
    DELETE = "delete"
    CHECK = "check"
    REPLACE = "replace"
    FLUSH = "flush"
    NEW_CHAIN = "new-chain"
    DELETE_CHAIN = "delete-chain"
    RENAME_CHAIN = "rename-chain"
    POLICY = "policy"
    ZERO = "zero"
    LOOK = "list"
    """`-L`, `-S`, `-V`, `-h`: whatever changes nothing."""


class Command(Struct, frozen=True):
    """One command; `at` is the word that says which."""

    kind: Kind
    at: Word
    table: Word | None
    chain: Word | None
    number: Word | None
    other: Word | None
    """A policy, or a chain's new name."""
    rule: tuple[Word, ...]
    only: str | None
    """`-4` or `-6`: the line is for that family alone."""
    not_in_restore: Word | None
    """An option that iptables takes and iptables-restore does not (`-t`, `-w`)."""


_SHORT: Mapping[str, Kind] = {
    "A": Kind.APPEND, "I": Kind.INSERT, "D": Kind.DELETE, "C": Kind.CHECK, "R": Kind.REPLACE, "F": Kind.FLUSH,
    "N": Kind.NEW_CHAIN, "X": Kind.DELETE_CHAIN, "E": Kind.RENAME_CHAIN, "P": Kind.POLICY, "Z": Kind.ZERO,
    "L": Kind.LOOK, "S": Kind.LOOK, "V": Kind.LOOK, "h": Kind.LOOK,
}  # fmt: skip
_LONG: Mapping[str, Kind] = {
    **{kind.value: kind for kind in Kind}, "list-rules": Kind.LOOK, "version": Kind.LOOK, "help": Kind.LOOK,
}  # fmt: skip
_FLAGS = {"verbose": "v", "numeric": "n", "exact": "x", "line-numbers": "0", "ipv4": "4", "ipv6": "6"}
"""Global options without a value, with their short names; nothing that a rule is hangs on them."""
_VALUED = {"table": "t", "wait": "w", "wait-interval": "W", "modprobe": "M"}
_BARE = "vnx46b0"

_CHAIN_NEEDED = {
    Kind.APPEND, Kind.INSERT, Kind.DELETE, Kind.CHECK, Kind.REPLACE, Kind.NEW_CHAIN, Kind.RENAME_CHAIN, Kind.POLICY,
}  # fmt: skip
_HAS_RULE = {Kind.APPEND, Kind.INSERT, Kind.DELETE, Kind.CHECK, Kind.REPLACE}


def read(line: Line, words: Sequence[Word]) -> Command:
    """The command that the words say; RuleError where iptables would not take them for one."""
    walk = _Walk(line, list(words))
    walk.run()
    if walk.kind is None:
        at = words[0] if words else None
        hint = did_you_mean(at.text, [f"-{s}" for s in _SHORT] + [f"--{n}" for n in _LONG]) if at else None
        raise line.error("R015", "this line gives no command, such as `-A`", at, hint)
    assert walk.at_word is not None
    command = Command(
        walk.kind, walk.at_word, walk.table, walk.chain, walk.number, walk.other, tuple(walk.rule), walk.only,
        walk.not_in_restore,
    )  # fmt: skip
    if command.rule and command.kind is Kind.DELETE and command.number:
        raise line.error("R015", "`-D` takes a number or a rule, not both", command.rule[0])
    return command


def obey(draft: Draft, line: Line, command: Command) -> bool:
    """Does to a table what the command says; False where `-C` finds no such rule.

    Raises RuleError where iptables fails in it.
    """
    chain, kind = command.chain, command.kind
    if kind not in _HAS_RULE and kind is not Kind.LOOK:
        _no_rule(line, command)
    match kind:
        case Kind.APPEND:
            draft.append(line, _given(chain), command.rule)
        case Kind.INSERT:
            draft.insert(line, _given(chain), command.number, command.rule)
        case Kind.DELETE:
            if command.number:
                draft.delete_at(line, _given(chain), command.number)
            else:
                draft.delete(line, _given(chain), command.rule)
        case Kind.CHECK:
            return draft.has(line, _given(chain), command.rule)
        case Kind.REPLACE:
            draft.replace(line, _given(chain), _given(command.number), command.rule)
        case Kind.FLUSH:
            draft.flush(line, chain)
        case Kind.NEW_CHAIN:
            draft.new_chain(line, _given(chain))
        case Kind.DELETE_CHAIN:
            draft.delete_chain(line, chain)
        case Kind.RENAME_CHAIN:
            draft.rename(line, _given(chain), _given(command.other))
        case Kind.POLICY:
            draft.set_policy(line, _given(chain), _given(command.other))
        case Kind.ZERO:
            draft.look(line, chain)
        case Kind.LOOK:
            pass
        case _:
            assert_never(kind)
    return True


def _given(word: Word | None) -> Word:
    assert word is not None
    return word


def _no_rule(line: Line, command: Command) -> None:
    """That nothing but matches, which iptables reads and forgets, follows a command about chains."""
    found = options.read(line, command.rule, lambda _: False, ())
    if found.header or found.jump:
        extra = found.jump.word if found.jump else found.header[0].word
        raise line.error("R015", f"`{command.at.text}` takes no rule", extra)


class _Walk(Struct):
    line: Line
    words: list[Word]
    at: int = 0
    kind: Kind | None = None
    at_word: Word | None = None
    table: Word | None = None
    chain: Word | None = None
    number: Word | None = None
    other: Word | None = None
    rule: list[Word] = []
    only: str | None = None
    not_in_restore: Word | None = None

    def run(self) -> None:
        while self.at < len(self.words):
            word = self.words[self.at]
            self.at += 1
            if not word.is_option:
                self.rule.append(word)
            elif word.text.startswith("--"):
                self._long(word)
            else:
                self._short(word)

    def _long(self, word: Word) -> None:
        text, equals, _ = word.text[2:].partition("=")
        glued = _tail(word, len(text) + 3) if equals else None
        name = _global(text)
        if name is None:
            self._of_rule(word, 0 if glued else _arity(text))
        elif name in _LONG:
            self._command(word, _LONG[name], glued)
        elif name in _FLAGS:
            self._flag(word, _FLAGS[name])
        else:
            self._valued(word, _VALUED[name], glued)

    def _short(self, word: Word) -> None:
        """A bundle: flags, and at its end an option that takes the rest of the word, or the next word."""
        for n, letter in enumerate(word.text[1:], 1):
            glued = _tail(word, n + 1) if n + 1 < len(word.text) else None
            if letter in _SHORT:
                self._command(word, _SHORT[letter], glued)
                return
            if letter in "tM" or (letter in "wW" and (glued is None or glued.text.isdecimal())):
                self._valued(word, letter, glued)
                return
            if letter in _BARE or letter in "wW":
                self._flag(word, letter)
                continue
            name = ext.SHORT.get(letter)
            own = word if n == 1 else Word(f"-{word.text[n:]}", word.column + n - 1, word.width - n + 1)
            self._of_rule(own, 0 if glued or name is None else ext.options(ext.GLOBAL)[name])
            return

    def _flag(self, word: Word, letter: str) -> None:
        if letter in "46":
            self.only = letter
        elif letter in "wW":
            self.not_in_restore = word

    def _valued(self, word: Word, letter: str, glued: Word | None) -> None:
        if letter in "wW":
            self.not_in_restore = word
            if glued is None and self._more() and self.words[self.at].text.isdecimal():
                self.at += 1
            return
        value = glued or self._next(word)
        if letter == "t":
            self.table = value
            self.not_in_restore = word

    def _of_rule(self, word: Word, arity: int) -> None:
        """An option of the rule with its values, which are no options whatever they look like."""
        self.rule.append(word)
        for _ in range(arity):
            if self.at < len(self.words):
                self.rule.append(self.words[self.at])
                self.at += 1

    def _command(self, word: Word, kind: Kind, glued: Word | None) -> None:
        if self.kind is not None and {self.kind, kind} != {Kind.LOOK, Kind.ZERO}:
            said = self.at_word.text if self.at_word else ""
            raise self.line.error("R011", f"`{word.text}` cannot stand beside `{said}`", word)
        self.kind = kind if self.kind is None else Kind.ZERO
        self.at_word = Word(word.text[:2], word.column, 2) if glued and word.text[1] != "-" else word
        needed = kind in _CHAIN_NEEDED
        chain = glued or (self._next(word) if needed else self._take_plain())
        self.chain = chain if chain is not None else self.chain
        if kind in (Kind.INSERT, Kind.DELETE, Kind.REPLACE) or (kind is Kind.ZERO and chain):
            number = self._take_plain()
            if kind is Kind.REPLACE and number is None:
                raise self.line.error("R015", "`-R` needs the number of a rule", word)
            if number and not re.fullmatch(r"[1-9]\d{0,9}", number.text, re.ASCII):
                raise self.line.error("R018", f"{number.text} is no number of a rule", number)
            self.number = number
        elif kind in (Kind.RENAME_CHAIN, Kind.POLICY):
            self.other = self._next(word)

    def _next(self, word: Word) -> Word:
        if not self._more():
            raise self.line.error("R009", f"`{word.text}` needs a value", self.line.end)
        self.at += 1
        return self.words[self.at - 1]

    def _more(self) -> bool:
        return self.at < len(self.words)

    def _take_plain(self) -> Word | None:
        """The next word, where it is neither an option nor `!`."""
        if not self._more() or self.words[self.at].is_option or self.words[self.at].is_not:
            return None
        self.at += 1
        return self.words[self.at - 1]


def _tail(word: Word, skip: int) -> Word:
    return Word(word.text[skip:], word.column + skip, max(1, word.width - skip), True)


def _global(text: str) -> str | None:
    """iptables' own option of this name, or the only one of all it has that begins so, unless it is a rule's."""
    ours = (*_LONG, *_FLAGS, *_VALUED)
    if text in ours:
        return text
    rules = ext.options(ext.GLOBAL)
    if len(text) < 2 or text in rules:
        return None
    near = {n for n in (*ours, *rules) if n.startswith(text)} | {n for n in _arities() if n.startswith(text)}
    return near.pop() if len(near) == 1 and near <= set(ours) else None


def _arity(text: str) -> int:
    """How many values an option of a rule takes, as far as this can be told without its module."""
    rules = ext.options(ext.GLOBAL)
    arities = rules if text in rules else _arities()
    if text in arities:
        return arities[text]
    near = {arities[n] for n in arities if n.startswith(text)}
    return min(near, default=0)


@cache
def _arities() -> Mapping[str, int]:
    """For each option of any extension the least number of values that it takes."""
    least: dict[str, int] = {}
    for name, arity in _every_option():
        least[name] = min(arity, least.get(name, arity))
    return least


def _every_option() -> Iterator[tuple[str, int]]:
    for listed in (*ext.MATCHES.values(), *ext.TARGETS.values()):
        yield from ext.options(listed).items()
