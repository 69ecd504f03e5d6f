"""What a rule set is: frozen data, one class for each thing that a rule can say.

`Match` (matches.py) and `Target` (targets.py) are closed unions.  Whoever gives them a meaning does so with one
`match` statement that ends in `assert_never`, so the type checker names every place that a new class has to
be added to.  What we cannot read is a member too: `Opaque`, `OpaqueTarget`.

What long rule sets are full of is made with `gc=False`: frozen data that is built from the inside out holds no
cycle, so the garbage collector need neither visit it nor keep a header for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from .matches import *  # noqa: F403  (the words of a rule set under one name)
from .matches import HEADER, Literal
from .targets import *  # noqa: F403
from .targets import Accept, Drop, Goto, Jump, Target
from .values import NOWHERE, Family, Place


class Rule(Struct, frozen=True, gc=False):
    """Literals that must all hold, in the order in which the kernel asks them, and what then happens.

    Two rules are equal iff they mean the same word by word; comments count, the place does not.
    """

    literals: tuple[Literal, ...] = ()
    target: Target | None = None
    comments: tuple[str, ...] = ()
    place: Place = NOWHERE

    def __post_init__(self) -> None:
        literals = self.literals
        if len(literals) < 2:
            return
        last = 0
        for literal in literals:
            rank = _rank_of(type(literal.match), _LAST)
            if rank < last:
                raise ValueError("header matches come first, in the order of HEADER")
            last = rank


_RANKS: Mapping[type, int] = {kind: n for n, kind in enumerate(HEADER)}

_LAST = len(_RANKS)

_rank_of = _RANKS.get


def rank(literal: Literal) -> int:
    """Where `Rule` keeps a literal: header matches first, in their order, then all others."""
    return _rank_of(type(literal.match), _LAST)


def ordered(literals: tuple[Literal, ...]) -> tuple[Literal, ...]:
    """The same literals as `Rule` wants them: header matches first, the rest in its own order."""
    return tuple(sorted(literals, key=rank))


class Chain(Struct, frozen=True):
    """A chain's rules, numbered from 1; `policy` is None for a chain that the user made."""

    name: str
    policy: Accept | Drop | None = None
    rules: tuple[Rule, ...] = ()
    place: Place = NOWHERE


class Table(Struct, frozen=True):
    """Chains by name.  Every chain that a rule names is there, and none that a built-in chain leads to reaches itself.

    Chains that nothing leads to may call one another in a ring: no packet comes there, and both backends load them.
    """

    name: str
    chains: Mapping[str, Chain]

    def __post_init__(self) -> None:
        nested = _nested(self.name, self.chains)
        if nested > MOST_NESTED:
            raise ValueError(f"chains are nested {nested} deep; we follow {MOST_NESTED}")


MOST_NESTED = 200
"""How deeply a packet may come into chains that call one another; the nft backend loads 15."""


def _nested(table: str, chains: Mapping[str, Chain]) -> int:
    """How deeply chains are nested below the built-in ones; ValueError where one of these leads to a ring, or a call to nowhere."""
    depths: dict[str, int] = {}
    later: list[str] = []
    """Chains that come before one that they call; most come after all of them, and long tables have many."""
    for name, chain in chains.items():
        nested = 0
        for rule in chain.rules:
            # isinstance of a Struct takes five times as long.
            if type(target := rule.target) is Jump or type(target) is Goto:
                below = depths.get(target.chain)
                if below is None:
                    later.append(name)
                    break
                if below >= nested:
                    nested = below + 1
        else:
            depths[name] = nested
    calls = {name: _called(chains[name]) for name in later}
    for name, called in calls.items():
        for callee in called:
            if callee not in chains:
                raise ValueError(f"{table}/{name} calls {callee}, which is not there")
    built_in = [name for name, chain in chains.items() if chain.policy is not None]
    for name in built_in:
        _descend(calls, name, depths)
    return max([depths[name] for name in built_in], default=0)


def _called(chain: Chain) -> list[str]:
    return [rule.target.chain for rule in chain.rules if isinstance(rule.target, Jump | Goto)]


def _descend(calls: Mapping[str, list[str]], start: str, depths: dict[str, int]) -> None:
    """Adds how deeply chains are nested below this one, and those that it leads to; each call is followed once.

    ValueError where one of them reaches itself.
    """
    if start in depths:
        return
    open_ = [(start, iter(calls[start]))]
    path = {start}
    while open_:
        name, rest = open_[-1]
        for callee in rest:
            if callee in depths:
                continue
            if callee in path:
                raise ValueError(f"chain {callee} reaches itself; the kernel refuses to load that")
            path.add(callee)
            open_.append((callee, iter(calls[callee])))
            break
        else:
            open_.pop()
            path.discard(name)
            depths[name] = max(map(depths.__getitem__, calls[name]), default=-1) + 1


class RuleSet(Struct, frozen=True):
    """The tables that a dump holds, by name; a table that it does not hold is not a key."""

    tables: Mapping[str, Table]
    family: Family = Family.IPV4


def each_rule(rules: RuleSet, change: Callable[[Rule], Rule]) -> RuleSet:
    """The same chains, with what `change` makes of each of their rules."""
    tables = {}
    for name, table in rules.tables.items():
        chains = {n: replace(c, rules=tuple(map(change, c.rules))) for n, c in table.chains.items()}
        tables[name] = replace(table, chains=chains)
    return replace(rules, tables=tables)
