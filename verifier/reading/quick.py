"""Long tables, read quickly: a line of a shape that was met before is read part by part, and each part once for its words.

Nothing is known here of any match or target.  The first lines of a shape go the slow way, through Lark and
`Draft`; that tells which words are values, and of which part of the rule: an address, a loaded module, the
target.  What a part says is asked of `Draft` too, by reading the rule that consists of this part alone, and
kept by the part's words.  A later line of the shape is the sum of what its parts say.

What cannot be kept is left to the slow way, and so is all that is to be said to the user: a line that is
refused, a part that leaves a note, several addresses, a chain that is not there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from msgspec import Struct, field

from . import parts, shapes
from .drafts import Draft
from .lines import Line, Word, word

if TYPE_CHECKING:
    from lark import Token, Tree

WORTH = 4
"""A sketch that was read so often the slow way gets its shape, which costs about as much as reading it once more."""

MOST = 1000
"""Shapes of one table; a text that has more does not repeat itself."""

ALIKE = 64
"""Shapes of one sketch, which are tried one after the other."""

FOLLOWERS = 3
"""How many shapes are tried first because they came after this one before."""


Read: TypeAlias = Callable[[Line, Sequence[str]], bool]
"""How a line is read, given the words that its shape found; False where nothing was done."""


class Known(NamedTuple):
    """A shape, and how its lines are read; `after` are the shapes that came next, the latest first."""

    find: Callable[[str], re.Match[str] | None]
    read: Read
    after: list[Known]


class Quick(Struct):
    """What is known of the lines of one table so far."""

    draft: Draft
    met: dict[tuple[str, ...], int] = field(default_factory=dict)
    """How often a sketch was read the slow way."""
    known: dict[tuple[str, ...], list[Known]] = field(default_factory=dict)
    """Shapes by their sketch."""
    patterns: dict[str, Known | None] = field(default_factory=dict)
    """Every shape that was tried; None where its lines cannot be read quickly."""
    said: parts.Said = field(default_factory=dict)


def left(quick: Quick, lines: Iterable[Line]) -> Iterator[Line]:
    """Reads lines into the table, in their order; yields each that is of no known shape or that something stands against.

    Such a line is for the caller to read, before the next one is asked for.
    """
    expected: list[Known] = []
    """What came after the last line's shape before."""
    for line in lines:
        text = line.text
        for find, read, after in expected:
            if (found := find(text)) and read(line, found.groups()):
                expected = after
                break
        else:
            for known in quick.known.get(shapes.sketch(text), ()):
                if (found := known.find(text)) and known.read(line, found.groups()):
                    expected.insert(0, known)
                    del expected[FOLLOWERS:]
                    expected = known.after
                    break
            else:
                yield line


def learn(quick: Quick, line: Line, tree: Tree[Token]) -> None:
    """Makes a shape of a line that was read the slow way, if there have been enough of its kind."""
    sketch = shapes.sketch(line.text)
    count = quick.met[sketch] = quick.met.get(sketch, 0) + 1
    if count < WORTH or len(quick.patterns) >= MOST or len(quick.known.get(sketch, ())) >= ALIKE:
        return
    match tree.data:
        case "append":
            known = _appended(quick, line, tree)
        case "declaration":
            known = _declared(quick, line, tree)
        case _:
            known = None
    if known is not None and known not in quick.known.get(sketch, ()):
        quick.known.setdefault(sketch, []).append(known)


def _known(
    quick: Quick,
    line: Line,
    taken: Sequence[Token],
    reader: Callable[[Mapping[int, int], Sequence[str]], Read | None],
) -> Known | None:
    """The shape with slots for these tokens, if the line is of it and there is a reader for it.

    Tokens are known by where they begin: `reader` is told where each stands among the words that the shape finds in
    a line, and the words of this line.
    """
    begins = {t.start_pos for t in taken}
    chosen = [slot for slot in shapes.slots(line.text) if slot.begin in begins]
    if len(chosen) < len(taken):
        return None
    pattern = shapes.pattern(line.text, chosen)
    if pattern not in quick.patterns:
        shape = shapes.shape(pattern, len(chosen))
        found = shape.find(line.text)
        at = {slot.begin: n for slot, n in zip(chosen, shape.at, strict=True)}
        read = reader(at, found.groups()) if found else None
        quick.patterns[pattern] = Known(shape.find, read, []) if read else None
    return quick.patterns[pattern]


# -- chains -----------------------------------------------------------------------------------------


def _declared(quick: Quick, line: Line, tree: Tree[Token]) -> Known | None:
    """How a line like this one declares a chain."""
    name, policy, *_ = tokens = [t for t in tree.children if isinstance(t, str)]
    begin, middle = name.start_pos or 0, policy.start_pos or 0
    column, gap = name.column or 0, middle - (name.end_pos or 0)

    def reader(at: Mapping[int, int], _: Sequence[str]) -> Read:
        name_at, policy_at = at[begin], at[middle]

        def read(line: Line, words: Sequence[str]) -> bool:
            name, policy = words[name_at], words[policy_at]
            if policy != "-" or not quick.draft.declare_own(line, name):
                after = column + len(name) + gap
                quick.draft.declare(line, Word(name, column, len(name)), Word(policy, after, len(policy)))
            return True

        return read

    return _known(quick, line, tokens, reader)


# -- rules ------------------------------------------------------------------------------------------


def _appended(quick: Quick, line: Line, tree: Tree[Token]) -> Known | None:
    """How a line like this one appends a rule; None where we cannot tell, or would read this very line otherwise."""
    draft = quick.draft
    counters, head, *rest = tree.children
    assert isinstance(head, str)
    name = str(head)
    chain = draft.chains.get(name)
    if chain is None or not chain.rules or chain.rules[-1].line is not line:
        return None
    kept = chain.rules[-1]
    begin = head.start_pos or 0
    tokens = {word(t): t for t in rest if isinstance(t, str)}
    if len(tokens) < len(rest):
        return None
    begins = {slot.begin for slot in shapes.slots(line.text)}
    free = frozenset(w for w, t in tokens.items() if t.start_pos in begins)
    found = draft.sort(line, tuple(tokens))
    plan = parts.plan(draft, line, name, found, free)
    if plan is None:
        return None
    taken = [tokens[w] for w in plan.slots]
    if isinstance(counters, str):
        taken.append(counters)
    if name not in draft.built_in:
        taken.append(head)

    def reader(at: Mapping[int, int], words: Sequence[str]) -> Read | None:
        places = {w: at[tokens[w].start_pos or 0] for w in plan.slots}
        read = parts.reader(plan, draft, quick.said, kept, name, places, at.get(begin))
        return read if read(line, words) and chain.rules.pop() == kept else None

    return _known(quick, line, taken, reader)
