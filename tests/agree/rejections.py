"""Settings in which much is rejected, for Hypothesis, and whose journeys tell of what is sent back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from hypothesis import strategies as st
from msgspec.structs import replace

from verifier import rules as r
from verifier.hosts import Setting
from verifier.reading.vocabulary import REJECT6_TYPES, REJECT_TYPES
from verifier.values import Family, Net

from .policies import KINDS
from .strategies import KNOWN, few, literals, one, seldom

TYPES = {Family.IPV4: tuple(REJECT_TYPES), Family.IPV6: tuple(REJECT6_TYPES)}
FORWARDING = {Family.IPV4: "net.ipv4.ip_forward", Family.IPV6: "net.ipv6.conf.all.forwarding"}


@st.composite
def rejected(draw: st.DrawFn, kind: str, most: int) -> Setting:
    """A setting of this kind, in which packets that come to filter are rejected more often than not."""
    setting = draw(KINDS[kind](most))
    host = setting.host
    if draw(seldom(50)):
        host = replace(host, sysctls={**host.sysctls, FORWARDING[host.family]: 1})
    return replace(setting, host=host, rules=draw(rejecting(setting.rules)), answers=False, rejections=True)


@st.composite
def rejecting(draw: st.DrawFn, rules: r.RuleSet) -> r.RuleSet:
    """The rule set, in which REJECTs stand first in chains of filter, and now and then conntrack is kept out first."""
    if draw(seldom(85)):
        rules = r.each_rule(rules, _of_no_socket)
    tables = dict(rules.tables)
    kinds = ("tcp-reset", *TYPES[rules.family])

    def first(name: str, chain: str, target: r.Target, least: int = 0) -> None:
        table = tables.get(name, r.Table(name, {}))
        old = table.chains.get(chain, r.Chain(chain, r.Accept()))
        found = draw(few(literals(WITHOUT_SOCKETS, rules.family), least, 1))
        rule = r.Rule(r.ordered(tuple(found)), target)
        chains = {**table.chains, chain: replace(old, rules=(rule, *old.rules))}
        tables[name] = replace(table, chains=chains)

    for hook in ("INPUT", "FORWARD", "OUTPUT"):
        # One without a condition would reject what is sent back.
        for _ in range(draw(one((0, 1, 1, 2)))):
            first("filter", hook, r.Reject(draw(one(kinds))), least=int(hook == "OUTPUT"))
    if draw(seldom(40)):
        first("nat", "POSTROUTING", draw(one((r.Masquerade(), r.Netmap(NETS[rules.family])))))
    for hook in ("PREROUTING", "OUTPUT"):
        if draw(seldom(15)):
            first("raw", hook, r.NoTrack())
    return replace(rules, tables=tables)


def _of_no_socket(rule: r.Rule) -> r.Rule:
    """The rule, if it does not ask whether there is a socket: of what has the kernel's own one nothing is told then."""
    asks = any(
        isinstance(x.match, r.OwnerIds) and (x.match.socket_exists or x.match.supplementary)
        for x in rule.literals
    )
    return replace(rule, literals=()) if asks else rule


WITHOUT_SOCKETS = tuple(kind for kind in KNOWN if kind is not r.OwnerIds)
NETS = {Family.IPV4: Net.read("10.0.3.0/24"), Family.IPV6: Net.read("fd00:0:0:3::/64", Family.IPV6)}

SETTINGS: Mapping[str, Callable[[int], st.SearchStrategy[Setting]]] = {
    kind: partial(rejected, kind) for kind in KINDS
}
"""All kinds of settings, with so many rules at most in each chain, and the REJECTs."""
