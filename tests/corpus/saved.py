"""iptables-save text as the tool prints it, compared word by word: what of two texts is unlike, and whether it matters.

This knows iptables' words and nothing of the verifier, whose own idea of sameness is what it judges.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct


class Chain(Struct, frozen=True):
    """A policy (`-` for a chain that the user made) and rules, each as its words after `-A CHAIN`."""

    policy: str
    rules: tuple[tuple[str, ...], ...]


Tables = Mapping[str, Mapping[str, Chain]]


def read(text: str) -> dict[str, dict[str, Chain]]:
    """Tables and chains of what iptables-save printed; counters, dates and the order of tables and chains are not kept."""
    tables: dict[str, dict[str, Chain]] = {}
    rules: dict[str, dict[str, list[tuple[str, ...]]]] = {}
    policies: dict[str, dict[str, str]] = {}
    table = ""
    for line in text.split("\n"):
        if line.startswith("*"):
            table = line[1:].strip()
            rules.setdefault(table, {})
            policies.setdefault(table, {})
        elif line.startswith(":"):
            name, policy = line[1:].split()[:2]
            policies[table][name] = policy
            rules[table].setdefault(name, [])
        elif found := re.match(r"(?:\[\d+:\d+\] )?-A (\S+) ?(.*)", line):
            rules[table].setdefault(found[1], []).append(words(found[2]))
    for name, chains in rules.items():
        tables[name] = {
            chain: Chain(policies[name].get(chain, "-"), tuple(found)) for chain, found in chains.items()
        }
    return tables


def words(text: str) -> tuple[str, ...]:
    """A line's words, quotes and backslashes taken off; a quoted word keeps its place."""
    found = re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', text)
    return tuple(bare or re.sub(r"\\(.)", r"\1", quoted) for quoted, bare in found)


# -- rules in groups ----------------------------------------------------------------------------------


class Words(Struct, frozen=True):
    """A rule in groups: the header, each `-m` with its options, and the target."""

    header: tuple[str, ...]
    matches: tuple[tuple[str, ...], ...]
    target: tuple[str, ...]


def grouped(rule: Sequence[str]) -> Words:
    header: list[str] = []
    matches: list[list[str]] = []
    target: list[str] = []
    here = header
    for n, word in enumerate(rule):
        if word == "-m" and n + 1 < len(rule):
            here = [rule[n + 1]]
            matches.append(here)
        elif word in ("-j", "-g"):
            here = target
            here.append(word)
        elif n and rule[n - 1] == "-m":
            continue
        else:
            here.append(word)
    return Words(tuple(header), tuple(map(tuple, matches)), tuple(target))


# -- what does not matter -----------------------------------------------------------------------------


def without_comments(rule: Words) -> Words:
    """Comments are asked nothing: their place among the matches is free."""
    said = sorted(m for m in rule.matches if m[0] == "comment")
    return Words(rule.header, (*(m for m in rule.matches if m[0] != "comment"), *said), rule.target)


def state_as_conntrack(rule: Words) -> Words:
    """`-m state --state` asks what `-m conntrack --ctstate` asks (net/netfilter/xt_conntrack.c: xt_state)."""
    swap = {"state": "conntrack", "--state": "--ctstate"}
    return Words(
        rule.header,
        tuple(tuple(swap.get(w, w) for w in m) if m[0] == "state" else m for m in rule.matches),
        rule.target,
    )


def notrack_as_ct(rule: Words) -> Words:
    """`-j NOTRACK` is revision 1 of `-j CT --notrack` (net/netfilter/xt_CT.c: xt_ct_target_reg)."""
    return (
        Words(rule.header, rule.matches, ("-j", "CT", "--notrack"))
        if rule.target == ("-j", "NOTRACK")
        else rule
    )


_NAMES = ("tcp", "udp", "udplite", "sctp", "dccp", "icmp", "icmp6", "ipv6-icmp", "comment")


def without_bare_names(rule: Words) -> Words:
    """`-m tcp` with no option asks only that the header can be read, beside a `-p tcp` that it needs."""
    kept = tuple(m for m in rule.matches if len(m) > 1 or m[0] not in _NAMES)
    return Words(rule.header, kept, rule.target)


_COUNTING = ("recent", "limit", "hashlimit", "quota", "statistic", "connlimit", "set", "rateest", "nfacct")


def in_any_order(rule: Words) -> Words:
    """Matches that change nothing can be asked in any order; those that count keep their place among all others."""
    if any(m[0] in _COUNTING for m in rule.matches):
        return rule
    return Words(rule.header, tuple(sorted(rule.matches)), rule.target)


_APART = (
    "tcp",
    "udp",
    "sctp",
    "dccp",
    "conntrack",
    "mark",
    "connmark",
    "iprange",
    "physdev",
    "pkttype",
    "tos",
    "dscp",
)
"""Modules whose options are conditions of their own, each of which must hold."""


def one_option_each(rule: Words) -> Words:
    """Options of such a module are asked alike in one `-m` and in several."""
    split: list[tuple[str, ...]] = []
    for m in rule.matches:
        if m[0] not in _APART or len(m) < 3:
            split.append(m)
            continue
        options = re.split(r"\n(?=(?:!\n)?--)(?<!!\n)", "\n".join(m[1:]))
        split += [(m[0], *option.split("\n")) for option in options]
    return Words(rule.header, tuple(split), rule.target)


ALIKE: Mapping[str, Callable[[Words], Words]] = {
    "a state asked by conntrack": state_as_conntrack,
    "`-m tcp` and the like without options": without_bare_names,
    "NOTRACK spelled as CT": notrack_as_ct,
    "where comments stand": without_comments,
    "options of a module in one or several `-m`": one_option_each,
    "the order of matches that change nothing": in_any_order,
}
"""Ways in which two texts may be unlike and mean the same, in the order in which they are tried."""


class Difference(Struct, frozen=True):
    """`ways`: the names of ALIKE that account for it; `left`: the first thing that none of them accounts for, or nothing."""

    ways: tuple[str, ...]
    left: str


def compare(one: str, other: str) -> Difference:
    """How two texts in the words of iptables-save are unlike; a built-in chain that is as at the start is as good as none."""
    a, b = _touched(one), _touched(other)
    ways: dict[str, None] = {}
    for place in sorted({*a, *b}):
        if place not in a or place not in b:
            return Difference(tuple(ways), f"chain {place} is in one alone")
        chain, there = a[place], b[place]
        if chain.policy != there.policy:
            return Difference(tuple(ways), f"policy of {place}: {chain.policy}, {there.policy}")
        if len(chain.rules) != len(there.rules):
            return Difference(tuple(ways), f"{place} has {len(chain.rules)} rules, {len(there.rules)}")
        for x, y in zip(chain.rules, there.rules, strict=True):
            if x != y:
                needed, left = _unlike(x, y)
                ways |= dict.fromkeys(needed)
                if left:
                    return Difference(tuple(ways), left)
    return Difference(tuple(ways), "")


def _touched(text: str) -> dict[str, Chain]:
    """The chains, as table/chain, without built-in ones that are as they were before anybody wrote to them."""
    return {
        f"{table}/{name}": chain
        for table, chains in read(text).items()
        for name, chain in chains.items()
        if chain.rules or chain.policy != "ACCEPT"
    }


def is_empty(text: str) -> bool:
    return not _touched(text)


def _unlike(x: tuple[str, ...], y: tuple[str, ...]) -> tuple[list[str], str]:
    a, b = grouped(x), grouped(y)
    ways = []
    for name, way in ALIKE.items():
        if a == b:
            break
        c, d = way(a), way(b)
        if (c, d) != (a, b):
            ways.append(name)
        a, b = c, d
    return ways, "" if a == b else f"{' '.join(x)}   |   {' '.join(y)}"
