"""The ip sets of drawn hosts, a few of each kind, and rules that ask them."""

from __future__ import annotations

import random

from msgspec.structs import replace

from .. import rules as r
from .. import sets as s
from ..values import ICMP, TCP, UDP, Family, read_address
from . import numbers as n

ip = read_address

SETS = {
    x.name: x
    for x in (
        s.IpSet(
            "ips",
            s.SetType.HASH_IP,
            tuple(s.Entry((s.Address(ip(a)),)) for a in ("10.0.0.5", "10.0.0.7", "127.0.0.1", "128.0.0.0")),
            Family.IPV4,
        ),
        s.IpSet(
            "nets",
            s.SetType.HASH_NET,
            (
                s.Entry((s.Prefix(ip("10.0.0.0"), 8),)),
                s.Entry((s.Prefix(ip("10.0.0.0"), 24),), nomatch=True),
                s.Entry((s.Prefix(ip("10.0.0.7"), 32),)),
            ),
            Family.IPV4,
        ),
        s.IpSet(
            "ports",
            s.SetType.HASH_IP_PORT,
            (
                s.Entry((s.Address(ip("10.0.0.5")), s.ProtocolPort(TCP, 80))),
                s.Entry((s.Address(ip("10.0.0.7")), s.ProtocolPort(UDP, 53))),
                s.Entry((s.Address(ip("8.8.8.8")), s.ProtocolPort(ICMP, 8 << 8))),
            ),
            Family.IPV4,
        ),
        s.IpSet(
            "lists",
            s.SetType.LIST_SET,
            (s.Entry((s.Member("ips"),)), s.Entry((s.Member("nets"),))),
        ),
    )
}


def asked(draw: random.Random, rules: r.RuleSet) -> r.RuleSet:
    """The same rules, of which some ask a set too."""
    return replace(rules, tables={name: _table(draw, table) for name, table in rules.tables.items()})


def _table(draw: random.Random, table: r.Table) -> r.Table:
    chains = {
        name: replace(chain, rules=tuple(_rule(draw, rule) for rule in chain.rules))
        for name, chain in table.chains.items()
    }
    return r.Table(table.name, chains)


def _rule(draw: random.Random, rule: r.Rule) -> r.Rule:
    if not n.flip(draw, 8):
        return rule
    known = draw.choice(tuple(SETS.values()))
    ways = tuple(draw.choice(tuple(r.Direction)) for _ in s.KINDS[known.type])
    return replace(rule, literals=(*rule.literals, r.Literal(r.MatchSet(known.name, ways), n.flip(draw, 30))))
