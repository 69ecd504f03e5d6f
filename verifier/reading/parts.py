"""The parts of a rule: its protocol, each address and interface, each module that it loads, its target.

What a rule says is the sum of what its parts say, each beside the protocol alone.  That is not taken on trust: a
plan is used for other lines only after its sum was the rule for the line it was made from.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from .. import rules as r
from ..values import Place, read_protocol
from . import matches, targets
from .drafts import Draft
from .errors import RuleError
from .lines import Line, Word, unquoted
from .options import Module, Option, Options

Texts: TypeAlias = str | tuple[str, ...]
"""The words of a part's slots as they are written: the one, or all of them."""

MOST_KEPT = 32768
"""Texts of one part whose meaning is kept; more are forgotten, since what is never seen again only fills the memory."""

Said: TypeAlias = dict[object, dict[Texts, Any]]
"""What each part said, by what it is but for the words of its slots, and then by these."""


class Part(Struct, frozen=True):
    """What a rule of this part alone says, and the words that may be others in it."""

    options: Options
    slots: tuple[Word, ...]
    ground: tuple[r.Literal, ...]
    """What the protocol says, where it is read with the part."""
    literals: tuple[r.Literal, ...]
    comments: tuple[str, ...]
    target: r.Target | None


class Plan(Struct, frozen=True):
    """A rule's parts; `callee` is the word that names the chain it calls, `target` any other name after `-j`."""

    parts: tuple[Part, ...]
    callee: Word | None
    target: str | None

    @property
    def slots(self) -> tuple[Word, ...]:
        words = [w for part in self.parts for w in part.slots]
        return (*words, self.callee) if self.callee else tuple(words)


def plan(draft: Draft, line: Line, chain: str, found: Options, free: Collection[Word]) -> Plan | None:
    """The parts of a rule that the line says; `free` are the words that may be others.

    None where a part does not stand alone.
    """
    protocol = found.protocol
    header = (protocol,) if protocol else ()
    ground: tuple[r.Literal, ...] = ()
    parts: list[Part] = []
    for options in _split(found):
        alone = replace(found, header=header, matches=(), jump=None)
        beside = ground if options.header == header and options != alone else ()
        said = _say(draft, line, chain, options, beside)
        if said is None:
            return None
        literals, comments, target = said
        if options == alone:
            ground = literals
        # A part that says one kind of thing says the same kind for other words, or is not read here.
        simple = len({r.rank(lit) for lit in literals}) <= 1 and _kinds(said) == 1
        words = [w for w in _values(options, header) if w in free] if simple else []
        parts.append(Part(options, tuple(words), beside, literals, comments, target))
    parts.sort(key=lambda p: min(map(r.rank, p.literals), default=0))
    jump = found.jump
    calls = jump is not None and jump.name in draft.chains
    callee = jump.word if jump and calls and jump.word in free else None
    return Plan(tuple(parts), callee, jump.name if jump and not calls else None)


_Saying: TypeAlias = tuple[tuple[r.Literal, ...], tuple[str, ...], r.Target | None]


def _kinds(said: _Saying) -> int:
    literals, comments, target = said
    return bool(literals) + bool(comments) + (target is not None)


def _split(found: Options) -> Iterator[Options]:
    """Rules that consist of one part each; the protocol comes first, and stands beside modules and target."""
    protocol = found.protocol
    header = (protocol,) if protocol else ()
    if protocol:
        yield replace(found, header=header, matches=(), jump=None)
    for option in found.header:
        if option is not protocol:
            yield replace(found, header=(option,), matches=(), jump=None)
    for module in found.matches:
        yield replace(found, header=header, matches=(module,), jump=None)
    if found.jump:
        yield replace(found, header=header, matches=())


def _values(options: Options, header: tuple[Option, ...]) -> Iterator[Word]:
    """The values of a part's own options."""
    modules = (*options.matches, *([options.jump.module] if options.jump and options.jump.module else ()))
    own = () if options.header == header else options.header
    for option in (*own, *(o for m in modules for o in m.options)):
        yield from option.values


def _say(
    draft: Draft, line: Line, chain: str, options: Options, ground: tuple[r.Literal, ...]
) -> _Saying | None:
    """What the one rule with these options says, less the ground; None where there is more to it than that."""
    notes = len(draft.notes)
    try:
        rules = draft.say(line, chain, options)
    except (RuleError, ValueError):
        return None
    if len(draft.notes) > notes:
        del draft.notes[notes:]
        return None
    if len(rules) != 1 or rules[0].rule.literals[: len(ground)] != ground:
        return None
    rule = rules[0].rule
    return rule.literals[len(ground) :], rule.comments, rule.target


# -- reading by parts -------------------------------------------------------------------------------


def reader(
    plan: Plan, draft: Draft, said: Said, line: Line, chain: str, at: Mapping[Word, int]
) -> Callable[[Line, Sequence[str]], r.Rule | None]:
    """How a rule of this plan is read from the words of its line; `at` says which of them each slot is.

    The reader answers None where the slow way has to read the line.
    """
    first: tuple[r.Literal, ...] = ()
    asked: list[tuple[_Step, tuple[r.Literal, ...]]] = []
    """Each step with the literals after it that are always the same."""
    comments: tuple[str, ...] = ()
    remarks: list[tuple[_Step, tuple[str, ...]]] = []
    target: r.Target | None = None
    aim: _Step | None = None
    for part in plan.parts:
        step = _step(part, draft, said, chain, at) if part.slots else None
        if step is None:
            if asked:
                asked[-1] = asked[-1][0], asked[-1][1] + part.literals
            else:
                first += part.literals
            if remarks:
                remarks[-1] = remarks[-1][0], remarks[-1][1] + part.comments
            else:
                comments += part.comments
            target = part.target if part.target is not None else target
        elif part.literals:
            asked.append((step, ()))
        elif part.comments:
            remarks.append((step, ()))
        else:
            aim = step
    callee = at[plan.callee] if plan.callee else None
    call = r.Goto if isinstance(target, r.Goto) else r.Jump
    jumps = said.setdefault(call, {})
    name, column = plan.target, line.indent

    def read(line: Line, words: Sequence[str]) -> r.Rule | None:
        literals, told, goal = first, comments, target
        for (pick, memo, miss), then in asked:
            text = pick(words)
            found = memo.get(text)
            if found is None:
                found = miss(line, text)
                if found is None:
                    return None
            literals = literals + found + then
        for (pick, memo, miss), also in remarks:
            text = pick(words)
            found = memo.get(text)
            if found is None:
                found = miss(line, text)
                if found is None:
                    return None
            told = told + found + also
        if callee is not None:
            called = words[callee]
            chain = draft.chains.get(called)
            if chain is None or chain.policy is not None:
                return None
            goal = jumps.get(called)
            if goal is None:
                if len(jumps) >= MOST_KEPT:
                    jumps.clear()
                goal = jumps[called] = call(called)
        elif name in draft.chains:
            return None
        elif aim is not None:
            pick, memo, miss = aim
            text = pick(words)
            goal = memo.get(text)
            if goal is None:
                goal = miss(line, text)
                if goal is None:
                    return None
        return r.Rule(literals, goal, told, Place(line.file, line.number, column))

    return read


_Step: TypeAlias = tuple[Callable[[Sequence[str]], Texts], dict[Texts, Any], Callable[[Line, Texts], Any]]
"""The words that a part needs, what it said for words that it had before, and how it is read for others."""


def _step(part: Part, draft: Draft, said: Said, chain: str, at: Mapping[Word, int]) -> _Step:
    memo = said.setdefault((chain if chain in draft.built_in else None, _skeleton(part)), {})
    kind = 0 if part.literals else 1 if part.comments else 2
    ranks = {r.rank(lit) for lit in part.literals}

    alone = _alone(part)

    def miss(line: Line, texts: Texts) -> Any:
        if len(memo) >= MOST_KEPT:
            memo.clear()
        if alone and type(texts) is str:
            try:
                found = memo[texts] = alone(unquoted(texts, 0).text if '"' in texts else texts)
            except ValueError:
                return None
            return found
        given = (texts,) if isinstance(texts, str) else texts
        words = {s: unquoted(t, s.column) for s, t in zip(part.slots, given, strict=True)}
        found = _say(draft, line, chain, _filled(part.options, words), part.ground)
        if found is None or _kinds(found) > 1 or any(r.rank(lit) not in ranks for lit in found[0]):
            return None
        piece = found[kind]
        memo[texts] = piece
        return piece

    return itemgetter(*(at[s] for s in part.slots)), memo, miss


def _alone(part: Part) -> Callable[[str], Any] | None:
    """How a part is read that is one option with one value, where its own reader offers that."""
    options = part.options
    header = [o for o in options.header if o.name != "protocol"]
    jump = options.jump and options.jump.module
    own = [*header, *(o for m in options.matches for o in m.options), *(jump.options if jump else ())]
    if [o.values for o in own] != [part.slots] or len(part.slots) != 1:
        return None
    if jump:
        protocol = options.protocol
        named = read_protocol(protocol.values[0].text) if protocol else None
        return targets.word_reader(jump, named, options.family)
    return matches.word_reader(own[0], options.family)


def _filled(options: Options, words: Mapping[Word, Word]) -> Options:
    """The options with other words for their slots."""
    header = tuple(_replaced(o, words) for o in options.header)
    matches = tuple(_with(m, words) for m in options.matches)
    jump = options.jump
    if jump and jump.module:
        jump = replace(jump, module=_with(jump.module, words))
    return replace(options, header=header, matches=matches, jump=jump)


def _with(module: Module, words: Mapping[Word, Word]) -> Module:
    return Module(module.name, module.word, tuple(_replaced(o, words) for o in module.options))


def _replaced(option: Option, words: Mapping[Word, Word]) -> Option:
    return Option(option.name, tuple(words.get(v, v) for v in option.values), option.negated, option.word)


def _skeleton(part: Part) -> object:
    """What the part is, but for the words of its slots and the places of all."""
    blank = {s: Word("", 0, 0) for s in part.slots}

    def plain(options: Sequence[Option]) -> object:
        return tuple((o.name, o.negated, tuple(_text(blank.get(v, v)) for v in o.values)) for o in options)

    jump = part.options.jump
    return (
        plain(part.options.header),
        tuple((m.name, plain(m.options)) for m in part.options.matches),
        jump and (jump.name, jump.goto, plain(jump.module.options if jump.module else ())),
    )


def _text(word: Word) -> tuple[str, bool]:
    return word.text, word.quoted
