"""Rule text into a rule set: iptables-save and iptables-restore text, `iptables -S`, and `-L -v` listings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

from msgspec import Struct

from .. import hooks
from .. import rules as r
from ..values import Place
from . import detect, listing, matches, options
from .detect import Format
from .drafts import Draft, not_a_table
from .errors import RuleError, did_you_mean
from .grammars import parser
from .lines import Line, Word, split, word

if TYPE_CHECKING:
    from lark import Token, Tree
    from lark.exceptions import UnexpectedInput


class ReadRules(Struct, frozen=True):
    """What a text says: its rules, the format it was found to have, and what the reader had to assume."""

    rules: r.RuleSet
    format: str
    notes: tuple[str, ...] = ()


def read_rules(text: str, file: str, table: str | None = None) -> ReadRules:
    """The rules of a text; RuleError, with the place and a way out, where iptables would refuse it or we do.

    `table` names the table of a text that does not name its own (a listing, `iptables -S`).
    """
    if table is not None and table not in hooks.BUILT_IN:
        raise not_a_table(table, Place(file, 0))
    lines = split(text, file)
    match detect.detect(lines):
        case Format.SAVE:
            return _read_saved(lines)
        case Format.COMMANDS:
            return _read_commands(lines, table)
        case Format.LISTING:
            rules, notes = listing.read(lines, table)
            return ReadRules(rules, Format.LISTING.value, notes)


def read_literals(text: str, place: Place, line: str | None = None) -> tuple[r.Literal, ...]:
    """iptables match syntax alone, as after `where`: `-p tcp --dport 80 ! -s 10.0.0.0/8`.

    `place` is where the text begins; `line` is the whole line that it is part of.
    """
    before = " " * (place.column - 1)
    shown = Line(place.file, place.line, line if line is not None else before + text)
    tree = _parse(shown, "literals", before + text)
    try:
        found = matches.read(shown, options.read(shown, _words(tree.children), None, ()))
    except ValueError as e:
        raise shown.error("R009", str(e)) from e
    if len(found.sources) > 1 or len(found.destinations) > 1:
        raise shown.error("R011", "a condition takes one address for `-s` and one for `-d`")
    return r.ordered((*found.sources[0], *found.destinations[0], *found.literals))


# -- iptables-save, iptables-restore ----------------------------------------------------------------


def _read_saved(lines: Sequence[Line]) -> ReadRules:
    notes: list[str] = []
    drafts: dict[str, Draft] = {}
    draft: Draft | None = None
    last = lines[-1]
    for line in lines:
        if not detect.meaningful(line):
            continue
        last = line
        tree = _parse(line, "line")
        if tree.data == "table":
            if draft is not None:
                raise line.error(
                    "R012", f"table {draft.table} is not ended: COMMIT is missing before this line"
                )
            name = word(_token(tree, 0))
            if name.text not in hooks.BUILT_IN:
                raise not_a_table(name.text, line.place(name), line, name)
            if name.text in drafts:
                notes.append(
                    f"table {name.text} comes in several parts, read as `iptables-restore --noflush` does"
                )
            draft = drafts.setdefault(name.text, Draft(name.text, notes))
            draft.declared.clear()
        elif draft is None:
            raise line.error(
                "R012", "this line belongs to no table", hint="a table begins with a line like `*filter`"
            )
        elif tree.data == "commit":
            draft = None
        else:
            _obey(draft, line, tree)
    if draft is not None:
        raise last.error(
            "R012", f"table {draft.table} is not ended: COMMIT is missing", last.end, "is the text cut off?"
        )
    tables = {name: d.finish() for name, d in drafts.items()}
    return ReadRules(r.RuleSet(tables), Format.SAVE.value, tuple(notes))


def _read_commands(lines: Sequence[Line], table: str | None) -> ReadRules:
    """`iptables -S`: commands of one table, which the text does not name."""
    commands = [(line, _parse(line, "line")) for line in lines if detect.meaningful(line)]
    notes: list[str] = []
    if table is None:
        policies = frozenset(str(tree.children[0]) for _, tree in commands if tree.data == "policy")
        inferred = detect.table_of(policies)
        if inferred is None:
            raise commands[0][0].error(
                "R017", "this text does not name its table", hint="say which one it is, with `--table`"
            )
        table, note = inferred
        notes.append(note)
    draft = Draft(table, notes)
    for line, tree in commands:
        if tree.data in ("table", "commit"):
            raise line.error(
                "R012", "this line belongs to no table", hint="a table begins with a line like `*filter`"
            )
        _obey(draft, line, tree)
    return ReadRules(r.RuleSet({table: draft.finish()}), Format.SAVE.value, tuple(notes))


def _obey(draft: Draft, line: Line, tree: Tree[Token]) -> None:
    """What a line says to a table."""
    match tree.data:
        case "declaration":
            name, policy = _words(tree.children[:2])
            draft.declare(line, name, policy)
        case "new_chain":
            draft.declare(line, word(_token(tree, 0)), None)
        case "policy":
            name, policy = _words(tree.children[:2])
            draft.set_policy(line, name, policy)
        case "append":
            draft.append(line, word(_token(tree, 1)), _words(tree.children[2:]))
        case "insert":
            number = tree.children[2]
            at = None if number is None else word(_token(tree, 2))
            draft.insert(line, word(_token(tree, 1)), at, _words(tree.children[3:]))
        case _:
            raise AssertionError(tree)


def _token(tree: Tree[Token], n: int) -> Token:
    token = tree.children[n]
    assert isinstance(token, str), token
    return token


def _words(tokens: Sequence[object]) -> tuple[Word, ...]:
    return tuple(word(t) for t in tokens)  # type: ignore[arg-type]


# -- lark -------------------------------------------------------------------------------------------


def _parse(line: Line, start: str, text: str | None = None) -> Tree[Token]:
    from lark.exceptions import UnexpectedInput

    try:
        return parser("iptables.lark", start).parse(line.text if text is None else text)
    except UnexpectedInput as e:
        _refuse(line, e)


_EXPECTED: Mapping[str, str] = {
    "NAME": "a name", "POLICY": "a policy (ACCEPT, DROP or -)", "COUNTERS": "counters like [0:0]",
    "NUMBER": "a number", "WORD": "a word", "OPTION": "an option", "NOT": "`!`", "STAR": "`*`", "COLON": "`:`",
    "COMMIT": "COMMIT", "_APPEND": "`-A`", "_INSERT": "`-I`", "_NEW_CHAIN": "`-N`", "_POLICY": "`-P`", "_IPV4": "`-4`",
    "_SET_COUNTERS": "`-c`", "$END": "the end of the line",
}  # fmt: skip

_COMMANDS = re.compile(r"-[DFXREZLSC]\b|--(delete|flush|replace|rename-chain|zero|list|check)")


def _refuse(line: Line, e: UnexpectedInput) -> NoReturn:
    """lark's error in our words."""
    from lark.exceptions import UnexpectedCharacters, UnexpectedToken

    column = e.column if isinstance(e.column, int) and e.column > 0 else line.end.column
    rest = line.text[column - 1 :]
    stuck = re.match(r"\S*", rest)
    at = Word(stuck.group() if stuck else "", column, len(stuck.group()) if stuck else 1)
    if rest.count('"') % 2:
        raise line.error("R005", "a quote is opened and not closed", at)
    if re.match(r"(-6|--ipv6)\s", rest):
        raise line.error("R004", "IPv6 rules are not read yet", at)
    if _COMMANDS.match(rest):
        raise line.error(
            "R015",
            f"`{at.text}` changes what was loaded before, which we do not follow",
            at,
            "load the rules and give what `iptables-save` prints then",
        )
    names: set[str] = set()
    match e:
        case UnexpectedCharacters():
            names = set(e.allowed or ())
        case UnexpectedToken():
            names = set(e.expected)
    wanted = sorted(_EXPECTED.get(n, n) for n in names)
    said = f"`{at.text}` is not expected here" if at.text else "something is missing here"
    hint = did_you_mean(at.text, ("COMMIT", "-A", "-I", "-N", "-P")) if "COMMIT" in names else None
    raise line.error("R005", f"{said}; {_either(wanted)} would be", at, hint)


def _either(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}" if words else "nothing"


__all__ = ["ReadRules", "RuleError", "read_literals", "read_rules"]
