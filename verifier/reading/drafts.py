"""A table while its text is being read: chains declared, rules appended and inserted, as iptables-restore does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from msgspec import Struct, field

from .. import hooks
from .. import rules as r
from ..values import Place, read_protocol
from . import extensions as ext
from . import matches, options, targets
from .errors import RuleError, did_you_mean
from .lines import Line, Word

LONGEST_NAME = 28

_WITHOUT = {
    "PREROUTING": ("out-interface",),
    "INPUT": ("out-interface",),
    "OUTPUT": ("in-interface",),
    "POSTROUTING": ("in-interface",),
}
"""Interfaces that are not known in a built-in chain."""


class _Chain(Struct):
    policy: r.Accept | r.Drop | None
    line: Line
    rules: list[tuple[r.Rule, Line]] = field(default_factory=list)


class Draft(Struct):
    """A table's chains and rules so far, and what is to be said about them."""

    table: str
    notes: list[str]
    chains: dict[str, _Chain] = field(default_factory=dict)
    declared: set[str] = field(default_factory=set)
    """Chains declared in this part of the text; a table may come in several parts."""

    @property
    def built_in(self) -> tuple[str, ...]:
        return hooks.BUILT_IN[self.table]

    def declare(self, line: Line, name: Word, policy: Word | None) -> None:
        """`:NAME POLICY`, `-N NAME` (no policy) or a chain's head in a listing."""
        said = policy.text if policy else "-"
        if name.text not in self.built_in:
            self._new_name(line, name)
            if said != "-":
                raise line.error(
                    "R013", f"{name.text} is no built-in chain of {self.table}: it has no policy", policy
                )
        if name.text in self.declared:
            raise line.error("R013", f"chain {name.text} is declared twice", name)
        if said not in ("ACCEPT", "DROP", "-"):
            raise line.error("R013", f"a policy is ACCEPT or DROP, not {said}", policy)
        self.declared.add(name.text)
        if name.text not in self.built_in:
            self.chains[name.text] = _Chain(None, line)
        elif (chain := self.chains.get(name.text)) is None:
            self.chains[name.text] = _Chain(r.Drop() if said == "DROP" else r.Accept(), line)
        elif said != "-":
            chain.policy = r.Drop() if said == "DROP" else r.Accept()

    def set_policy(self, line: Line, name: Word, policy: Word) -> None:
        """`-P NAME POLICY`"""
        if name.text not in self.built_in:
            raise line.error(
                "R013", f"{name.text} is no built-in chain of {self.table}", name, self._near(name.text)
            )
        self.declared.discard(name.text)
        self.declare(line, name, policy)

    def _new_name(self, line: Line, name: Word) -> None:
        if len(name.text) > LONGEST_NAME:
            raise line.error("R013", f"a chain's name has at most {LONGEST_NAME} characters", name)
        if name.text in ext.STANDARD or name.text[0] in "-!" or '"' in name.text:
            raise line.error("R013", f"no chain can be named {name.text}", name)

    def append(
        self, line: Line, chain: Word, words: Sequence[Word], also: tuple[r.Literal, ...] = ()
    ) -> None:
        """`-A CHAIN WORDS`; `also` is asked after what the words ask."""
        draft = self._chain(line, chain)
        draft.rules += [(rule, line) for rule in self._rules(line, chain.text, words, also)]

    def insert(self, line: Line, chain: Word, number: Word | None, words: Sequence[Word]) -> None:
        """`-I CHAIN [N]`: each rule of one line (`-s A,B`) is put at N, so the last comes first."""
        draft = self._chain(line, chain)
        at = int(number.text) if number else 1
        if not 1 <= at <= len(draft.rules) + 1:
            raise line.error("R013", f"chain {chain.text} has no rule {at} yet to insert before", number)
        for rule in self._rules(line, chain.text, words):
            draft.rules.insert(at - 1, (rule, line))

    def _chain(self, line: Line, name: Word) -> _Chain:
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
        self.chains[name.text] = _Chain(r.Accept(), line)
        return self.chains[name.text]

    def _near(self, name: str) -> str:
        return (
            did_you_mean(name, [*self.chains, *self.built_in]) or "a chain is declared before its first rule"
        )

    def _rules(
        self, line: Line, chain: str, words: Sequence[Word], also: tuple[r.Literal, ...] = ()
    ) -> list[r.Rule]:
        try:
            return self._read(line, chain, words, also)
        except ValueError as e:
            # What the data refuses to be.
            raise line.error("R009", str(e)) from e

    def _read(
        self, line: Line, chain: str, words: Sequence[Word], also: tuple[r.Literal, ...]
    ) -> list[r.Rule]:
        found = options.read(line, words, self.chains.__contains__, self.chains)
        for option in found.header:
            if option.name in _WITHOUT.get(chain, ()):
                raise line.error("R010", f"iptables takes no `{option.word.text}` in {chain}", option.word)
        conditions = matches.read(line, found)
        self.notes += conditions.notes
        target: r.Target | None = None
        if found.jump:
            if found.jump.name in self.built_in:
                raise line.error(
                    "R008", f"no rule can call the built-in chain {found.jump.name}", found.jump.word
                )
            protocol = found.protocol
            named = read_protocol(protocol.values[0].text) if protocol else None
            target = targets.read(line, found.jump, conditions, named, self.table)
        return [
            r.Rule(
                r.ordered((*source, *destination, *conditions.literals, *also)),
                target,
                conditions.comments,
                line.place(),
            )
            for source, destination in product(conditions.sources, conditions.destinations)
        ]

    def finish(self) -> r.Table:
        """The table, or the error that names a rule by which a chain reaches itself."""
        if loop := _loop(self.chains):
            rule, line = loop
            assert isinstance(rule.target, r.Jump | r.Goto)
            raise line.error(
                "R014",
                f"chain {rule.target.chain} reaches itself by this rule; the kernel refuses to load that",
            )
        return r.Table(
            self.table,
            {
                name: r.Chain(name, chain.policy, tuple(rule for rule, _ in chain.rules), chain.line.place())
                for name, chain in self.chains.items()
            },
        )


def _loop(chains: Mapping[str, _Chain]) -> tuple[r.Rule, Line] | None:
    """A rule by which a walk from its own chain comes back to it, or None; depth first, no recursion."""
    done: set[str] = set()
    for start in chains:
        path: list[str] = [start]
        calls = [_calls(chains[start])]
        while path:
            if not calls[-1]:
                done.add(path.pop())
                calls.pop()
                continue
            callee, rule, line = calls[-1].pop()
            if callee in path:
                return rule, line
            if callee not in done:
                path.append(callee)
                calls.append(_calls(chains[callee]))
    return None


def _calls(chain: _Chain) -> list[tuple[str, r.Rule, Line]]:
    return [
        (rule.target.chain, rule, line)
        for rule, line in chain.rules
        if isinstance(rule.target, r.Jump | r.Goto)
    ]


def not_a_table(name: str, place: Place, line: Line | None = None, at: Word | None = None) -> RuleError:
    """The error for a table that iptables does not have."""
    hint = did_you_mean(name, hooks.BUILT_IN) or f"the tables are {', '.join(hooks.BUILT_IN)}"
    if line is None:
        return RuleError("R017", f"iptables has no table {name}", place, hint=hint)
    return line.error("R017", f"iptables has no table {name}", at, hint)
