"""The mutants of a rule set: each has one rule less, one literal negated, or two adjacent rules swapped."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import TypeAlias, assert_never

from msgspec import Struct
from msgspec.structs import replace

from verifier import spell
from verifier.rules import Literal, OwnerIds, Rule, RuleSet


class Kind(Enum):
    """What is done to the rules."""

    DELETION = "deletion"
    NEGATION = "negation"
    SWAP = "swap"


class Mutant(Struct, frozen=True):
    """`name` says to which rule of the original something was done, and what."""

    name: str
    rules: RuleSet


def mutants(rules: RuleSet, kind: Kind) -> tuple[Mutant, ...]:
    """All mutants of one kind, in the order of the rules."""
    found = []
    for table in rules.tables.values():
        for chain in table.chains.values():
            for number, what, mutated in _mutations(chain.rules, kind):
                chains = {**table.chains, chain.name: replace(chain, rules=mutated)}
                tables = {**rules.tables, table.name: replace(table, chains=chains)}
                found.append(Mutant(f"{table.name}/{chain.name} {number}: {what}", RuleSet(tables)))
    return tuple(found)


def opposites(literal: Literal) -> tuple[Literal, ...]:
    """The literal negated; `-m owner`, which is negated criterion by criterion, has one opposite for each."""
    owner = literal.match
    if not isinstance(owner, OwnerIds):
        return (replace(literal, negated=not literal.negated),)
    by_uid = replace(owner, uid_negated=not owner.uid_negated) if owner.uid is not None else None
    by_gid = replace(owner, gid_negated=not owner.gid_negated) if owner.gid is not None else None
    return tuple(Literal(one) for one in (by_uid, by_gid) if one is not None)


_Mutation: TypeAlias = tuple[int, str, tuple[Rule, ...]]
"""A rule's number, what is done to it, and the chain's rules afterwards."""


def _mutations(rules: tuple[Rule, ...], kind: Kind) -> Iterator[_Mutation]:
    match kind:
        case Kind.DELETION:
            for i in range(len(rules)):
                yield i + 1, "deleted", (*rules[:i], *rules[i + 1 :])
        case Kind.NEGATION:
            for i, rule in enumerate(rules):
                for what, mutated in _negations(rule):
                    yield i + 1, what, (*rules[:i], mutated, *rules[i + 1 :])
        case Kind.SWAP:
            for i in range(len(rules) - 1):
                swapped = (*rules[:i], rules[i + 1], rules[i], *rules[i + 2 :])
                yield i + 1, f"swapped with {i + 2}", swapped
        case _:
            assert_never(kind)


def _negations(rule: Rule) -> Iterator[tuple[str, Rule]]:
    for i, literal in enumerate(rule.literals):
        for opposite in opposites(literal):
            literals = (*rule.literals[:i], opposite, *rule.literals[i + 1 :])
            yield f"now {spell.literals((opposite,))}", replace(rule, literals=literals)
