"""The parts of a rule: its protocol, each address and interface, each module that it loads, its target.

What a rule says is the sum of what its parts say, each beside the protocol alone.  That is not taken on trust: a
plan is used for other lines only after its sum was the rule for the line it was made from.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from .. import rules as r
from ..values import Place, read_protocol
from . import matches, targets
from .drafts import Draft, Kept
from .errors import RuleError
from .lines import Line, Word, unquoted
from .options import Module, Option, Options

Texts: TypeAlias = str | tuple[str, ...]
"""The words of a part's slots as they are written: the one, or all of them."""

MOST_KEPT = 32768
"""Texts of one part whose meaning is kept: those asked for last, since what is never seen again only fills the memory."""

Meaning: TypeAlias = Callable[[Texts], Any]
"""What a part says, by the words of its slots; ValueError where there is more to them than can be kept."""

Said: TypeAlias = dict[object, Meaning]
"""What is known of each part, by what it is but for the words of its slots."""


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

    None where a part does not stand alone, or what it names may be another by the next line.
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
    if jump is None or jump.name not in draft.chains:
        return Plan(tuple(parts), None, jump.name if jump else None)
    # A chain that is called may be gone when the next line comes, so its name is a slot, or the line is read slowly.
    return Plan(tuple(parts), jump.word, None) if jump.word in free else None


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
    plan: Plan, draft: Draft, said: Said, kept: Kept, chain: str, at: Mapping[Word, int], head: int | None
) -> Callable[[Line, Sequence[str]], bool]:
    """How a rule of this plan is read from the words of its line, and appended; `kept` is the one it was made from.

    `at` says which of the words each slot is, and `head` which is the chain, where that is a chain of the user's own.
    The reader answers False, and has done nothing, where the slow way has to read the line.
    """
    first: tuple[r.Literal, ...] = ()
    comments: tuple[str, ...] = ()
    target: r.Target | None = None
    asked: list[tuple[_Pick, Meaning, tuple[r.Literal, ...]]] = []
    """Each part whose slots say literals, with those after it that are always the same."""
    remarks: list[tuple[_Pick, Meaning, tuple[str, ...]]] = []
    aim: tuple[_Pick, Meaning] | None = None
    for part in plan.parts:
        if part.slots:
            pick = itemgetter(*(at[s] for s in part.slots))
            meaning = _meaning(part, draft, said, kept.line, chain)
            if part.literals:
                asked.append((pick, meaning, ()))
            elif part.comments:
                remarks.append((pick, meaning, ()))
            else:
                aim = pick, meaning
            continue
        if asked:
            asked[-1] = *asked[-1][:2], asked[-1][2] + part.literals
        else:
            first += part.literals
        if remarks:
            remarks[-1] = *remarks[-1][:2], remarks[-1][2] + part.comments
        else:
            comments += part.comments
        target = part.target if part.target is not None else target
    callee, goes = at[plan.callee] if plan.callee else None, isinstance(target, r.Goto)
    name, file, column, modules = plan.target, kept.line.file, kept.line.indent, kept.modules

    def read(line: Line, words: Sequence[str]) -> bool:
        chains = draft.chains
        literals, told, goal = first, comments, target
        try:
            into = chains[chain if head is None else words[head]]
            if head is not None and into.policy is not None:
                # A built-in chain is in no shape's slot: what may be said in one differs from chain to chain.
                return False
            for pick, meaning, then in asked:
                literals = literals + meaning(pick(words)) + then
            for pick, meaning, also in remarks:
                told = told + meaning(pick(words)) + also
            if callee is not None:
                called = chains[words[callee]]
                if called.policy is not None:
                    return False
                goal = r.Goto(called.jump.chain) if goes else called.jump
            elif name in chains:
                return False
            elif aim is not None:
                pick, meaning = aim
                goal = meaning(pick(words))
            rule = r.Rule(literals, goal, told, Place(file, line.number, column))
        except (KeyError, ValueError):
            # A chain that is not there, a word that is refused: that is told the slow way.
            return False
        into.rules.append(Kept(rule, line, modules))
        return True

    return read


_Pick: TypeAlias = Callable[[Sequence[str]], Texts]
"""The words of a part's slots, of all that a shape found."""


def _meaning(part: Part, draft: Draft, said: Said, line: Line, chain: str) -> Meaning:
    """What parts say that differ from this one in the words of their slots."""
    kind = 0 if part.literals else 1 if part.comments else 2
    ranks = frozenset(r.rank(lit) for lit in part.literals)
    key = chain if chain in draft.built_in else None, kind, ranks, _skeleton(part)

    def read(texts: Texts) -> Any:
        given = (texts,) if isinstance(texts, str) else texts
        words = {s: unquoted(t, s.column) for s, t in zip(part.slots, given, strict=True)}
        found = _say(draft, line, chain, _filled(part.options, words), part.ground)
        if found is None or _kinds(found) > 1 or any(r.rank(lit) not in ranks for lit in found[0]):
            raise ValueError("there is more to these words than can be kept")
        return found[kind]

    if key not in said:
        alone = _alone(part)
        # Few rules translate to the same address: to keep what such a target says takes longer than to read it again.
        said[key] = alone if alone and part.target is not None else lru_cache(MOST_KEPT)(alone or read)
    return said[key]


def _alone(part: Part) -> Callable[[Any], Any] | None:
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
