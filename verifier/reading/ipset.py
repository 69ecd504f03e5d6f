"""Ip sets from text: what `ipset save` writes, a file for `ipset restore`, or what `ipset list` prints.

Which of these it is, is seen from its first line.  A set's comments, counts and sizes are read and not kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from ..sets import LONGEST_NAME, IpSet, Member
from .errors import did_you_mean
from .grammars import parser
from .ipset_drafts import NO_OPTIONS, Draft, add, created, delete, options
from .lines import Line, Word, split

if TYPE_CHECKING:
    from lark import Token

BEGIN, END = "# begin:ipset-rules", "# end:ipset-rules"


class SetsFile(Struct, frozen=True):
    """The sets of a file by name, and the lines that stand beside an `ipset-rules` section, which are not ipset's."""

    sets: Mapping[str, IpSet]
    rest: tuple[Line, ...] = ()


def read_sets(text: str, file: str) -> Mapping[str, IpSet]:
    """The sets of a file that holds nothing else, by name; raises RuleError."""
    found = read_file(text, file)
    stray = next(
        (line for line in found.rest if line.text.strip() and not line.text.lstrip().startswith("#")), None
    )
    if stray is not None:
        raise stray.error("S001", "this is no ip set: it stands outside of the section of ip sets")
    return found.sets


def read_file(text: str, file: str) -> SetsFile:
    """The sets of a file; raises RuleError.

    Where rules and sets share a file, a section that begins and ends as Aerleon's does holds the sets.
    """
    lines = split(text, file)
    begin = next((i for i, line in enumerate(lines) if line.text.strip() == BEGIN), None)
    if begin is None:
        return SetsFile(_read(lines))
    end = next((i for i, line in enumerate(lines) if i > begin and line.text.strip() == END), None)
    if end is None:
        raise lines[begin].error("S001", f"this section does not end with `{END}`")
    return SetsFile(_read(lines[begin + 1 : end]), lines[:begin] + lines[end + 1 :])


def _read(lines: Sequence[Line]) -> Mapping[str, IpSet]:
    drafts: dict[str, Draft] = {}
    first = next((line for line in lines if _meaningful(line)), None)
    if first is None:
        return {}
    text = first.text.strip()
    if text.startswith("<"):
        raise first.error("S001", "this is XML", hint="give what `ipset save` or `ipset list` prints")
    if text.startswith("Name:"):
        _listing(lines, drafts)
    else:
        for line in lines:
            if _meaningful(line) and line.text.strip() != "COMMIT":
                _command(line, drafts)
    return {name: draft.finished(drafts) for name, draft in drafts.items()}


def _meaningful(line: Line) -> bool:
    text = line.text.lstrip()
    return bool(text) and not text.startswith("#")


# -- ipset save ---------------------------------------------------------------------------------------

_PLAIN = re.compile(r'add ([^\s"]+) ([^\s"]+)')
"""The line that most lines are; all others, and this one to the same effect, are read by ipset.lark."""

VERBS = ("create", "add", "del", "test", "destroy", "list", "save", "restore", "flush", "rename", "swap")
"""A prefix stands for the first that it begins (lib/ipset.c: ipset_match_cmd); `n`, `x`, `e`, `w` are short too."""
_SHORT = {"n": "create", "x": "destroy", "e": "rename", "w": "swap"}


def _command(line: Line, drafts: dict[str, Draft]) -> None:
    plain = _PLAIN.fullmatch(line.text)
    if plain is not None and not plain[2].startswith("-") and plain[1] in drafts:
        entry = Word(plain[2], plain.start(2) + 1, len(plain[2]))
        add(line, drafts[plain[1]], entry, NO_OPTIONS, exist=False)
        return
    exist, (verb, *words) = _parsed(line, "command")
    match _verb(line, verb):
        case "create":
            name = _name(line, words)
            new = created(line, name.text, words[1:])
            there = drafts.setdefault(name.text, new)
            if there is not new and not (exist and there.head == new.head):
                raise line.error(
                    "S004", f"a set {name.text} is there already, since line {there.line.number}", name
                )
        case "add":
            draft, entry = _draft_and_entry(line, words, drafts)
            add(line, draft, entry, options(line, draft.head, words[2:]), exist)
        case "del":
            draft, entry = _draft_and_entry(line, words, drafts)
            delete(line, draft, entry, options(line, draft.head, words[2:]), exist)
        case "flush":
            for draft in _named(line, words[:1], drafts) if words else drafts.values():
                draft.entries.clear()
        case "destroy":
            for draft in _named(line, words[:1], drafts) if words else list(drafts.values()):
                _unused(line, draft, drafts if words else {})
                del drafts[draft.head.name]
        case "rename":
            (draft,) = _named(line, words[:1], drafts)
            name = _name(line, words[1:2])
            if name.text in drafts:
                raise line.error("S004", f"a set {name.text} is there already", name)
            _unused(line, draft, drafts)
            renamed = {name.text if d is draft else old: d for old, d in drafts.items()}
            draft.head = replace(draft.head, name=name.text)
            drafts.clear()
            drafts.update(renamed)
        case "swap":
            one, two = _named(line, words[:2], drafts, 2)
            if (one.head.type, one.head.family) != (two.head.type, two.head.family):
                raise line.error("S004", "only sets of one type and family can be swapped")
            one.head, two.head = replace(one.head, name=two.head.name), replace(two.head, name=one.head.name)
            drafts[one.head.name], drafts[two.head.name] = one, two
        case "test":
            _named(line, words[:1], drafts)
        case _:
            raise line.error("S002", f"`{verb.text}` says nothing about what a set holds", verb)


def _verb(line: Line, word: Word) -> str:
    text = word.text.lstrip("-").lower()
    found = _SHORT.get(text) or next((verb for verb in VERBS if verb.startswith(text)), None)
    if found is None:
        near = did_you_mean(text, VERBS) or "give what `ipset save` or `ipset list` prints"
        raise line.error("S001", f"`{word.text}` is no command of ipset", word, hint=near)
    return found


def _parsed(line: Line, start: str) -> tuple[bool, list[Word]]:
    """Whether the line says `-exist`, and its other words."""
    from lark.exceptions import UnexpectedInput

    try:
        tokens: list[Token] = parser("ipset.lark", start).parse(line.text).children  # type: ignore[assignment]
    except UnexpectedInput as e:
        at = Word("", max(1, e.column if e.column and e.column > 0 else line.end.column), 1)
        quotes = line.text.count('"') % 2
        what = "a quote is not closed" if quotes else "this is nothing that ipset writes"
        raise line.error("S001", what, at, hint="give what `ipset save` or `ipset list` prints") from None
    words = [_word(token) for token in tokens if token.type != "EXIST"]
    return len(words) < len(tokens), words


def _word(token: Token) -> Word:
    quoted = token.type == "STRING"
    return Word(token[1:-1] if quoted else str(token), token.column or 0, len(token), quoted)


def _name(line: Line, words: Sequence[Word]) -> Word:
    if not words:
        raise line.error("S002", "the name of a set is missing", line.end)
    if not re.fullmatch(rf"[^\s\"]{{1,{LONGEST_NAME}}}", words[0].text):
        raise line.error("S003", f"a name has 1 to {LONGEST_NAME} characters, and no blank", words[0])
    return words[0]


def _named(line: Line, words: Sequence[Word], drafts: Mapping[str, Draft], count: int = 1) -> list[Draft]:
    """The sets that these words name."""
    for i in range(count):
        name = _name(line, words[i : i + 1])
        if name.text not in drafts:
            raise line.error("S004", f"there is no set {name.text}", name, did_you_mean(name.text, drafts))
    return [drafts[word.text] for word in words]


def _draft_and_entry(line: Line, words: Sequence[Word], drafts: Mapping[str, Draft]) -> tuple[Draft, Word]:
    (draft,) = _named(line, words[:1], drafts)
    if len(words) < 2:
        raise line.error("S002", "the entry is missing", line.end)
    return draft, words[1]


def _unused(line: Line, draft: Draft, drafts: Mapping[str, Draft]) -> None:
    name = draft.head.name
    for other in drafts.values():
        if any(Member(name) in elements for elements in other.entries):
            raise line.error("S004", f"{name} is in use: {other.head.name} lists it")


# -- ipset list ---------------------------------------------------------------------------------------


def _listing(lines: Sequence[Line], drafts: dict[str, Draft]) -> None:
    """Sets with `Name:`, `Type:`, `Header:`, ... and after `Members:` one entry a line."""
    said: dict[str, tuple[Line, list[Word]]] = {}
    draft: Draft | None = None
    for line in lines:
        if not line.text.strip():
            continue
        if line.text.startswith("Name:"):
            _counted(said, draft)
            said, draft = {}, None
        if draft is not None:
            exist, (entry, *words) = _parsed(line, "member")
            if exist:
                raise line.error("S005", "`-exist` is for commands, not for entries of a listing")
            add(line, draft, entry, options(line, draft.head, words), exist=False, listed=True)
            continue
        _, (key, *words) = _parsed(line, "heading")
        if key.text in said:
            raise line.error("S005", f"`{key.text}` is given twice", key)
        said[key.text] = line, words
        if key.text == "Members:":
            draft = _headed(line, said)
            if draft.head.name in drafts:
                raise line.error("S004", f"the set {draft.head.name} is listed twice")
            drafts[draft.head.name] = draft
    _counted(said, draft)


def _headed(line: Line, said: Mapping[str, tuple[Line, list[Word]]]) -> Draft:
    for key in ("Name:", "Type:", "Header:"):
        if key not in said:
            raise line.error("S005", f"`{key}` is missing above")
    _, name = said["Name:"]
    at, kind = said["Type:"]
    header, words = said["Header:"]
    if len(name) != 1 or len(kind) != 1:
        raise at.error("S005", "a set has one name and one type")
    return created(header, name[0].text, [*kind, *words], at)


def _counted(said: Mapping[str, tuple[Line, list[Word]]], draft: Draft | None) -> None:
    """Raises RuleError where a listing does not have all the entries that it says it has."""
    if not said:
        return
    name, _ = said["Name:"]
    if draft is None:
        raise name.error("S005", "this set is listed without its entries", hint="list it without `-terse`")
    line, count = said.get("Number of entries:", (name, []))
    if not count or draft.head.timeout is not None:
        return
    if count[0].text != str(len(draft.entries)):
        raise line.error("S005", f"{len(draft.entries)} entries follow, not {count[0].text}", count[0])
