"""Rules as text, in the words that iptables-save uses.

What is spelled is read back as the same data, for every rule that iptables or ip6tables can hold.
"""

from __future__ import annotations

from typing import assert_never

from . import rules as r
from .spell_matches import match
from .spell_targets import target
from .values import Family, spell_text

__all__ = ["literals", "match", "rule", "rule_set", "table", "target"]


def rule_set(rs: r.RuleSet) -> str:
    return "".join(table(t, rs.family) for t in rs.tables.values())


def table(t: r.Table, family: Family = Family.IPV4) -> str:
    heads = [f":{c.name} {_policy(c.policy)} [0:0]" for c in t.chains.values()]
    body = [rule(c.name, rl, family) for c in t.chains.values() for rl in c.rules]
    return "\n".join([f"*{t.name}", *heads, *body, "COMMIT", ""])


def _policy(policy: r.Accept | r.Drop | None) -> str:
    match policy:
        case None:
            return "-"
        case r.Accept():
            return "ACCEPT"
        case r.Drop():
            return "DROP"
        case _:
            assert_never(policy)


def rule(chain: str, rl: r.Rule, family: Family = Family.IPV4) -> str:
    words = ["-A", chain]
    if rl.literals:
        words.append(literals(rl.literals, family))
    words += [f"-m comment --comment {spell_text(c)}" for c in rl.comments]
    if rl.target is not None:
        words.append(target(rl.target, family))
    return " ".join(words)


def literals(lits: tuple[r.Literal, ...], family: Family = Family.IPV4) -> str:
    """Match syntax alone; ports are spelled with the module of the protocol that stands with them."""
    protocol = next((lit.match.number for lit in lits if isinstance(lit.match, r.Protocol)), None)
    words: list[str] = []
    loaded, last = "", -1
    for lit in lits:
        module, option = match(lit.match, protocol, family)
        rank = _rank(option) if module in _SHARED else -1
        if module and (module != loaded or rank <= last):
            words.append(f"-m {module}")
        loaded, last = module, rank
        words += ["!"] * lit.negated + [option] * bool(option)
    return " ".join(words)


_SHARED = ("tcp", "udp", "sctp", "dccp", "iprange")
"""Modules whose options are several matches of ours; iptables-save prints the options of one module in this order."""

_ORDER = (
    "--sport", "--dport", "--chunk-types", "--dccp-types", "--dccp-option", "--tcp-option", "--tcp-flags",
    "--src-range", "--dst-range",
)  # fmt: skip


def _rank(option: str) -> int:
    return _ORDER.index(option.split(" ", 1)[0])
