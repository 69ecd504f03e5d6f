"""A rule set for people: table by table, each chain with what leads to it, each rule with its number and its place."""

from __future__ import annotations

from collections.abc import Iterator

from .. import rules as r
from .. import spell

WIDEST = 96
"""Rules that are longer push their place to the right."""


def reading(rules: r.RuleSet) -> Iterator[str]:
    """The lines of `chainproof show --as text`."""
    for table in rules.tables.values():
        yield f"table {table.name} ({rules.family})"
        calls = _calls(table)
        for chain in table.chains.values():
            yield f"  {chain.name}   {_head(chain, calls.get(chain.name, []))}"
            said = [
                spell.rule(chain.name, rule, rules.family).removeprefix(f"-A {chain.name}").strip()
                for rule in chain.rules
            ]
            wide = min(WIDEST, max(map(len, said), default=0))
            for number, (text, rule) in enumerate(zip(said, chain.rules, strict=True), 1):
                place = f"   line {rule.place.line}" if rule.place.line else ""
                yield f"    {number:>3}  {text or '(every packet, no target)':<{wide}}{place}".rstrip()
        yield ""


def _head(chain: r.Chain, calls: list[str]) -> str:
    if chain.policy is not None:
        return f"policy {'DROP' if isinstance(chain.policy, r.Drop) else 'ACCEPT'}"
    if not calls:
        return "called by no rule"
    more = f" and {len(calls) - 3} more" if len(calls) > 3 else ""
    return "called by " + ", ".join(calls[:3]) + more


def _calls(table: r.Table) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for chain in table.chains.values():
        for number, rule in enumerate(chain.rules, 1):
            if isinstance(rule.target, r.Jump | r.Goto):
                found.setdefault(rule.target.chain, []).append(f"{chain.name} {number}")
    return found
