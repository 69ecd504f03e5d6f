"""Which ids the names are that `-m owner` asks for: as the host tells, whose passwd alone says so.

Names are put into ids before any packet is asked about, as iptables does when it loads a rule.  `root` is 0 on every host.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import assert_never

from msgspec.structs import replace

from . import rules as r
from .hosts import Host
from .values import Ids


def told(rules: r.RuleSet, host: Host) -> r.RuleSet:
    """The rules with ids in the place of all names that the host tells; others stay (`untold`)."""
    if not host.users and not host.groups:
        return rules
    return r.each_rule(rules, lambda rule: _rule(rule, host))


def _rule(rule: r.Rule, host: Host) -> r.Rule:
    if not any(isinstance(literal.match, r.OwnerNames) for literal in rule.literals):
        return rule
    return replace(rule, literals=literals(rule.literals, host))


def literals(of: tuple[r.Literal, ...], host: Host) -> tuple[r.Literal, ...]:
    """The same literals, with ids in the place of the names that the host tells."""
    return tuple(
        r.Literal(owner(lit.match, host)) if isinstance(lit.match, r.OwnerNames) else lit for lit in of
    )


def owner(match: r.OwnerNames, host: Host) -> r.OwnerIds | r.OwnerNames:
    """The match with the ids of its names; the same where the host does not tell every name."""
    uid, gid = _id(match.uid, host.users), _id(match.gid, host.groups)
    if isinstance(uid, str) or isinstance(gid, str):
        return match
    return r.OwnerIds(
        uid,
        match.uid_negated,
        gid,
        match.gid_negated,
        match.socket_exists,
        match.socket_negated,
        match.supplementary,
    )


def _id(criterion: Ids | str | None, known: Mapping[str, int]) -> Ids | str | None:
    match criterion:
        case None | Ids():
            return criterion
        case str():
            found = known.get(criterion)
            return criterion if found is None else Ids(found, found)
        case _:
            assert_never(criterion)


def hints(match: r.OwnerNames) -> Iterator[str]:
    """For each name the key of a host file that tells it: `users: {envoy: ID}`.

    A name that the host tells is named too, where the match has another that it does not tell.
    """
    for name, key in ((match.uid, "users"), (match.gid, "groups")):
        if isinstance(name, str):
            yield f"{key}: {{{name}: ID}}"


def why(match: r.OwnerNames) -> str:
    """What is missing, and where it would be told."""
    names = " and ".join(f"`{name}`" for name in (match.uid, match.gid) if isinstance(name, str))
    return f"nobody tells which id {names} is: a host file does, by `{'` and `'.join(hints(match))}`"


def untold(rules: r.RuleSet) -> tuple[str, ...]:
    """What is to be said of the names that are left, each with the first rule that asks for it."""
    found: dict[str, str] = {}
    for table in rules.tables.values():
        for chain in table.chains.values():
            for rule in chain.rules:
                for literal in rule.literals:
                    if type(literal.match) is r.OwnerNames:
                        found.setdefault(why(literal.match), f"{rule.place}: {why(literal.match)}")
    return tuple(found.values())
