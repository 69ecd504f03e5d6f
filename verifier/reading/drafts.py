"""A table while its text is being read: chains declared, rules appended and inserted, as iptables-restore does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from msgspec import Struct, field
from msgspec.structs import replace

from .. import hooks
from .. import rules as r
from ..values import Family, read_protocol
from . import extensions as ext
from . import matches, options, targets
from .errors import RuleError, did_you_mean
from .lines import Line, Word

LONGEST_NAME = 28

MOST_OF_A_LINE = 10_000
"""Rules that the lists of addresses of one line may make."""

_WITHOUT = {
    "PREROUTING": ("out-interface",),
    "INPUT": ("out-interface",),
    "OUTPUT": ("in-interface",),
    "POSTROUTING": ("in-interface",),
}
"""Interfaces that are not known in a built-in chain."""


class Kept(Struct, frozen=True, gc=False):
    """A rule with its line, and the modules that it loads in their order: iptables tells rules apart by these too."""

    rule: r.Rule
    line: Line
    modules: tuple[str, ...] = ()


class Chain(Struct):
    """A chain so far; `jump` is what rules do that call it, made once for all of them."""

    policy: r.Accept | r.Drop | None
    line: Line
    jump: r.Jump
    rules: list[Kept] = field(default_factory=list)


class Draft(Struct):
    """A table's chains and rules so far, and what is to be said about them."""

    table: str
    notes: list[str]
    family: Family = Family.IPV4
    chains: dict[str, Chain] = field(default_factory=dict)
    declared: set[str] = field(default_factory=set)
    """Chains declared in this part of the text; a table may come in several parts."""

    @property
    def built_in(self) -> tuple[str, ...]:
        return hooks.BUILT_IN[self.table]

    def start_empty(self) -> None:
        """`*TABLE` once more: rules and chains go, policies stay (iptables-nft sets them to ACCEPT)."""
        self.declared.clear()
        self.chains = {n: c for n, c in self.chains.items() if n in self.built_in}
        for chain in self.chains.values():
            chain.rules.clear()

    def have_built_in(self, line: Line) -> None:
        """All built-in chains, as they are where nothing was loaded: empty, ACCEPT."""
        for name in self.built_in:
            self.chains[name] = Chain(r.Accept(), line, r.Jump(name))

    def declare(self, line: Line, name: Word, policy: Word | None) -> None:
        """`:NAME POLICY`, `-N NAME` (no policy) or a chain's head in a listing."""
        called, said = name.text, policy.text if policy else "-"
        if said == "-" and self.declare_own(line, called):
            return
        if called not in self.built_in:
            if wrong := _misnamed(called):
                raise line.error("R013", wrong, name)
            if said != "-":
                raise line.error(
                    "R013", f"{called} is no built-in chain of {self.table}: it has no policy", policy
                )
            raise line.error("R013", f"chain {called} is declared twice", name)
        if said not in ("ACCEPT", "DROP", "-"):
            raise line.error("R013", f"a policy is ACCEPT or DROP, not {said}", policy)
        self.declared.add(called)
        chain = self.chains.get(called)
        if chain is None:
            chain = self.chains[called] = Chain(r.Accept(), line, r.Jump(called))
        if said != "-":
            chain.policy = r.Drop() if said == "DROP" else r.Accept()

    def declare_own(self, line: Line, name: str) -> bool:
        """Declares a chain that is not built in, and says so, iff nothing stands against it."""
        if name in self.declared or name in self.built_in or _misnamed(name):
            return False
        self.declared.add(name)
        self.chains[name] = Chain(None, line, r.Jump(name))
        return True

    def set_policy(self, line: Line, name: Word, policy: Word) -> None:
        """`-P NAME POLICY`"""
        if name.text not in self.built_in:
            raise line.error(
                "R013", f"{name.text} is no built-in chain of {self.table}", name, self._near(name.text)
            )
        self.declare(line, name, policy)

    def append(
        self, line: Line, chain: Word, words: Sequence[Word], also: tuple[r.Literal, ...] = ()
    ) -> None:
        """`-A CHAIN WORDS`; `also` is asked after what the words ask."""
        draft = self._chain(line, chain)
        draft.rules += self._rules(line, chain.text, words, also)

    def insert(self, line: Line, chain: Word, number: Word | None, words: Sequence[Word]) -> None:
        """`-I CHAIN [N]`: each rule of one line (`-s A,B`) is put at N, so the last comes first."""
        draft = self._chain(line, chain)
        at = int(number.text) if number else 1
        if not 1 <= at <= len(draft.rules) + 1:
            raise line.error("R013", f"chain {chain.text} has no rule {at} yet to insert before", number)
        for kept in self._rules(line, chain.text, words):
            draft.rules.insert(at - 1, kept)

    def replace(self, line: Line, chain: Word, number: Word, words: Sequence[Word]) -> None:
        """`-R CHAIN N`"""
        draft = self._chain(line, chain)
        at = self._index(line, chain, number)
        found = self._rules(line, chain.text, words)
        if len(found) > 1:
            raise line.error("R015", "`-R` puts one rule in the place of one: not several addresses")
        draft.rules[at] = found[0]

    def delete_at(self, line: Line, chain: Word, number: Word) -> None:
        """`-D CHAIN N`"""
        draft = self._chain(line, chain)
        del draft.rules[self._index(line, chain, number)]

    def delete(self, line: Line, chain: Word, words: Sequence[Word]) -> None:
        """`-D CHAIN WORDS`: of each rule that the words make the first one that is equal."""
        draft = self._chain(line, chain)
        for wanted in self._rules(line, chain.text, words):
            at = _find(draft.rules, wanted)
            if at is None:
                raise self._not_there(line, chain, wanted)
            del draft.rules[at]

    def has(self, line: Line, chain: Word, words: Sequence[Word]) -> bool:
        """`-C CHAIN WORDS`: whether the chain has each rule that the words make."""
        draft = self._chain(line, chain)
        return all(_find(draft.rules, wanted) is not None for wanted in self._rules(line, chain.text, words))

    def flush(self, line: Line, chain: Word | None) -> None:
        """`-F [CHAIN]`"""
        for each in [self._chain(line, chain)] if chain else self.chains.values():
            each.rules.clear()

    def new_chain(self, line: Line, name: Word) -> None:
        """`-N NAME`"""
        if name.text in self.chains or name.text in self.built_in:
            raise line.error("R018", f"chain {name.text} is there already", name)
        self.declare(line, name, None)

    def delete_chain(self, line: Line, name: Word | None) -> None:
        """`-X [NAME]`: a chain of the user's own, or every one, that is empty and that no rule calls.

        Where all are meant, those that can go do so (iptables-legacy), and the command fails if one cannot.
        """
        if name and name.text in self.built_in:
            raise line.error("R018", f"{name.text} is built in and cannot be deleted", name)
        if name:
            self._chain(line, name)
        names = [name.text] if name else [n for n in self.chains if n not in self.built_in]
        called = {name for chain in self.chains.values() for name, _ in _calls(chain)}
        stay = [n for n in names if self.chains[n].rules or n in called]
        for each in names:
            if each not in stay:
                del self.chains[each]
                self.declared.discard(each)
        if stay:
            why = "has rules" if self.chains[stay[0]].rules else "is called by a rule"
            raise line.error("R018", f"chain {stay[0]} {why}, so it cannot be deleted", name)

    def rename(self, line: Line, old: Word, new: Word) -> None:
        """`-E OLD NEW`: the rules that call it go with it."""
        if old.text in self.built_in:
            raise line.error("R018", f"{old.text} is built in and cannot be renamed", old)
        chain = self._chain(line, old)
        self.new_chain(line, new)
        self.chains = {new.text if n == old.text else n: c for n, c in self.chains.items() if n != new.text}
        assert self.chains[new.text] is chain
        chain.jump = r.Jump(new.text)
        for each in self.chains.values():
            each.rules[:] = [_renamed(kept, old.text, new.text) for kept in each.rules]

    def look(self, line: Line, chain: Word | None) -> None:
        """`-Z [CHAIN]`, which changes nothing that a packet meets."""
        if chain:
            self._chain(line, chain)

    def _index(self, line: Line, chain: Word, number: Word) -> int:
        at = int(number.text)
        if not 1 <= at <= len(self._chain(line, chain).rules):
            raise line.error("R018", f"chain {chain.text} has no rule {at}", number)
        return at - 1

    def _not_there(self, line: Line, chain: Word, wanted: Kept) -> RuleError:
        for kept in self.chains[chain.text].rules:
            if kept.modules == wanted.modules and _may_be_one(kept.rule, wanted.rule):
                return line.error(
                    "R019",
                    f"we cannot tell whether this is the rule of line {kept.line.number}",
                    hint="delete it by its number",
                )
        return line.error("R018", f"chain {chain.text} has no rule like this one")

    def _chain(self, line: Line, name: Word) -> Chain:
        found = self.chains.get(name.text)
        if found is not None:
            return found
        if name.text not in self.built_in:
            raise line.error(
                "R008", f"there is no chain {name.text} in table {self.table}", name, self._near(name.text)
            )
        self.notes.append(
            f"{self.table}/{name.text} has rules but is not declared: its policy is taken to be ACCEPT"
        )
        self.chains[name.text] = Chain(r.Accept(), line, r.Jump(name.text))
        return self.chains[name.text]

    def _near(self, name: str) -> str:
        return (
            did_you_mean(name, [*self.chains, *self.built_in]) or "a chain is declared before its first rule"
        )

    def _rules(
        self, line: Line, chain: str, words: Sequence[Word], also: tuple[r.Literal, ...] = ()
    ) -> list[Kept]:
        try:
            return self._read(line, chain, words, also)
        except ValueError as e:
            # What the data refuses to be.
            raise line.error("R009", str(e)) from e

    def _read(self, line: Line, chain: str, words: Sequence[Word], also: tuple[r.Literal, ...]) -> list[Kept]:
        return self.say(line, chain, self.sort(line, words), also)

    def sort(self, line: Line, words: Sequence[Word]) -> options.Options:
        """A rule's words, sorted by whose options they are, at this point of the text."""
        return options.read(line, words, self.chains.__contains__, self.chains, self.family)

    def say(
        self, line: Line, chain: str, found: options.Options, also: tuple[r.Literal, ...] = ()
    ) -> list[Kept]:
        """What a line's options say: one rule for each pair of addresses."""
        for option in found.header:
            if option.name in _WITHOUT.get(chain, ()):
                raise line.error("R010", f"iptables takes no `{option.word.text}` in {chain}", option.word)
        conditions = matches.read(line, found)
        target: r.Target | None = None
        if found.jump:
            if found.jump.name in self.built_in:
                raise line.error(
                    "R008", f"no rule can call the built-in chain {found.jump.name}", found.jump.word
                )
            protocol = found.protocol
            named = read_protocol(protocol.values[0].text) if protocol else None
            target = targets.read(line, found.jump, conditions, named, self.table)
        many = len(conditions.sources) * len(conditions.destinations)
        if many > MOST_OF_A_LINE:
            message = (
                f"this line makes {many} rules, one for each pair of addresses; we read {MOST_OF_A_LINE}"
            )
            raise line.error("R020", message, hint="put the addresses in a set, and use `-m set`")
        modules = tuple(m.name for m in found.matches)
        return [
            Kept(
                r.Rule(
                    r.ordered((*source, *destination, *conditions.literals, *also)),
                    target,
                    conditions.comments,
                    line.place(),
                ),
                line,
                modules,
            )
            for source, destination in product(conditions.sources, conditions.destinations)
        ]

    def finish(self) -> r.Table:
        """The table, or the error that names a rule by which a chain reaches itself."""
        chains = {
            name: r.Chain(name, chain.policy, tuple([kept.rule for kept in chain.rules]), chain.line.place())
            for name, chain in self.chains.items()
        }
        try:
            return r.Table(self.table, chains)
        except ValueError as e:
            if loop := _loop(self.chains):
                assert isinstance(loop.rule.target, r.Jump | r.Goto)
                raise loop.line.error(
                    "R014",
                    f"chain {loop.rule.target.chain} reaches itself by this rule; the kernel refuses to load that",
                ) from None
            line = next(chain.line for chain in self.chains.values())
            raise line.error("R020", f"table {self.table}: {e}") from None


def _misnamed(name: str) -> str | None:
    """What is wrong with a name for a chain of the user's own, if anything."""
    if len(name) > LONGEST_NAME:
        return f"a chain's name has at most {LONGEST_NAME} characters"
    if name in ext.STANDARD or name[0] in "-!" or '"' in name:
        return f"no chain can be named {name}"
    return None


def _loop(chains: Mapping[str, Chain]) -> Kept | None:
    """A rule by which a walk from a built-in chain comes back to one that it passed, or None; depth first, no recursion."""
    done: set[str] = set()
    for start in (name for name, chain in chains.items() if chain.policy is not None):
        path: list[str] = [start]
        calls = [_calls(chains[start])]
        while path:
            if not calls[-1]:
                done.add(path.pop())
                calls.pop()
                continue
            callee, kept = calls[-1].pop()
            if callee in path:
                return kept
            if callee not in done:
                path.append(callee)
                calls.append(_calls(chains[callee]))
    return None


def _calls(chain: Chain) -> list[tuple[str, Kept]]:
    return [
        (kept.rule.target.chain, kept)
        for kept in chain.rules
        if isinstance(kept.rule.target, r.Jump | r.Goto)
    ]


def _find(rules: Sequence[Kept], wanted: Kept) -> int | None:
    """Where the first rule stands that is the same word by word, the order of its modules too."""
    for n, kept in enumerate(rules):
        if kept.modules == wanted.modules and kept.rule == wanted.rule:
            return n
    return None


def _may_be_one(one: r.Rule, other: r.Rule) -> bool:
    """Rules of the same modules that say what we do not understand, or of which one has a name and the other its id."""
    return (_opaque(one) and _opaque(other)) or _names(one) or _names(other)


def _opaque(rule: r.Rule) -> bool:
    return isinstance(rule.target, r.OpaqueTarget) or any(
        isinstance(lit.match, r.Opaque) for lit in rule.literals
    )


def _names(rule: r.Rule) -> bool:
    return any(isinstance(lit.match, r.OwnerNames) for lit in rule.literals)


def _renamed(kept: Kept, old: str, new: str) -> Kept:
    """The rule, calling the new name where it called the old one."""
    target = kept.rule.target
    if not isinstance(target, r.Jump | r.Goto) or target.chain != old:
        return kept
    renamed = replace(kept.rule, target=type(target)(new))
    return replace(kept, rule=renamed)
