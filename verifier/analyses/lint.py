"""What is wrong with a rule set before any packet is asked about: what is not understood, what the kernel would
refuse to load, and what iptables-save itself gets wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from msgspec import Struct

from .. import owners, spell
from .. import rules as r
from ..hooks import Hook
from ..values import ALL_32, Iface, Place, Span, TcpFlag
from . import places


class Finding(Struct, frozen=True):
    """A code (L...), where, what, and a way out."""

    code: str
    place: Place
    text: str
    hint: str = ""


MEANINGS = {
    "L001": "a match that is not understood: every answer takes it to be true or false, nobody knows",
    "L002": "a target that is not understood: nothing is known of a packet after it",
    "L003": "a target that the kernel does not load in this table",
    "L004": "a match or target that the kernel does not load in a chain that this hook leads to",
    "L005": "a condition that iptables-legacy-save leaves out, so that its text means something else",
    "L006": "chains that call each other more deeply than the nft backend loads",
    "L007": "a chain that nothing leads to",
    "L008": "chains that nothing leads to and that call one another in a ring: iptables refuses a rule that leads there",
    "L009": "a limit whose numbers iptables-legacy does not load",
    "L010": "a target that current kernels do not have",
    "L011": "TCPMSS without a match for SYN: iptables-legacy does not load it",
}
"""What each code stands for."""

DEEPEST = 15
"""Nested chains that the nft backend loads (net/netfilter/nf_tables_api.c: NFT_JUMP_STACK_SIZE is 16)."""


def findings(rules: r.RuleSet) -> Iterator[Finding]:
    """Everything that is found, table by table, in the order of the rules."""
    for table in rules.tables.values():
        hooks = places.hooks_of(table)
        for chain in table.chains.values():
            if not hooks[chain.name]:
                text = f"{table.name}/{chain.name} is called by no rule that a packet can come to"
                yield Finding("L007", chain.place, text)
            for number, rule in enumerate(chain.rules, 1):
                site = f"{table.name}/{chain.name} {number}"
                yield from _rule(table.name, site, rule, hooks[chain.name])
        yield from _depth(table)
        yield from _rings(table, [name for name, of in hooks.items() if not of])


def _rule(table: str, site: str, rule: r.Rule, hooks: frozenset[Hook]) -> Iterator[Finding]:
    for literal in rule.literals:
        match = literal.match
        if isinstance(match, r.Opaque):
            yield Finding("L001", rule.place, f"{site}: `{match.text}` is not understood")
        if isinstance(match, r.OwnerNames):
            hint = f"a host file tells it: `{'` and `'.join(owners.hints(match))}`"
            yield Finding(
                "L001", rule.place, f"{site}: which id is meant by `{_said(literal)}` no rule tells", hint
            )
        yield from _placed(site, rule, _said(literal), places.of_match(match), table, hooks)
        if isinstance(match, r.Chance) and match.module == "limit" and _overflows(match.options):
            text = f"{site}: iptables-legacy refuses `{_said(literal)}`, whose rate times burst the kernel cannot count (net/netfilter/xt_limit.c)"
            yield Finding("L009", rule.place, text, "another burst, or the nft backend, loads")
        if literal.negated and _says_nothing(match):
            text = (
                f"{site}: `{_said(literal)}` never holds, and iptables-legacy-save prints the rule without it"
            )
            yield Finding("L005", rule.place, text, "a rule that never applies is better left out")
        if isinstance(match, r.IcmpType | r.Icmp6Type) and match.last is not None:
            text = f"{site}: of `{_said(literal)}` iptables-save prints the first code alone"
            yield Finding("L005", rule.place, text, "write a rule for each code")
    target = rule.target
    if isinstance(target, r.OpaqueTarget):
        yield Finding("L002", rule.place, f"{site}: `{target.text}` is not understood")
    if isinstance(target, r.Log) and target.text.split()[1] == "ULOG":
        text = f"{site}: iptables refuses `{target.text}`: Linux has no ULOG since 3.17"
        yield Finding("L010", rule.place, text, "NFLOG does the same")
    if isinstance(target, r.ClampMss) and not any(map(_asks_for_syn, rule.literals)):
        text = f"{site}: iptables-legacy refuses `{spell.target(target)}` without `--syn` (net/netfilter/xt_TCPMSS.c: find_syn_match)"
        yield Finding("L011", rule.place, text, "`--tcp-flags SYN,RST SYN` stands beside it, as a rule")
    if target is not None:
        yield from _placed(site, rule, spell.target(target), places.of_target(target), table, hooks)


def _asks_for_syn(literal: r.Literal) -> bool:
    match literal.match:
        case r.TcpFlags(_, flags):
            return not literal.negated and bool(flags & TcpFlag.SYN)
        case _:
            return False


def _placed(
    site: str, rule: r.Rule, said: str, where: places.Where, table: str, hooks: frozenset[Hook]
) -> Iterator[Finding]:
    if where.tables is not None and table not in where.tables:
        text = f"{site}: `{said}` loads in table {' or '.join(where.tables)} alone ({where.source})"
        yield Finding("L003", rule.place, text, _refusal(where))
    wrong = sorted(h.value for h in hooks if where.hooks is not None and h not in where.hooks)
    if wrong and where.hooks is not None:
        taken = " and ".join(h.value for h in where.hooks)
        text = f"{site}: `{said}` loads in {taken} alone, and {wrong[0]} leads here ({where.source})"
        yield Finding("L004", rule.place, text, _refusal(where))


def _refusal(where: places.Where) -> str:
    which = "iptables-legacy-restore" if where.legacy else "iptables-restore"
    return f"{which} refuses the whole table"


def _said(literal: r.Literal) -> str:
    return spell.literals((literal,))


def _says_nothing(match: r.Match) -> bool:
    """Conditions that hold of every packet, and that iptables-legacy-save therefore leaves out, even negated."""
    match match:
        case r.SourcePorts(Span(0, 0xFFFF)) | r.DestinationPorts(Span(0, 0xFFFF)):
            return True
        case r.InInterface(Iface("+")) | r.OutInterface(Iface("+")):
            return True
        case r.Esp(0, 0xFFFFFFFF) | r.Ah(0, 0xFFFFFFFF):
            return True
        case _:
            return False


def _overflows(options: str) -> bool:
    """Of `--limit N/UNIT --limit-burst B`: the credits of a burst are less than those of one packet
    (net/netfilter/xt_limit.c: limit_mt_check; as kernels of 250 or 1000 ticks a second count them, in 32 bits).
    """
    found = re.fullmatch(r"--limit (\d+)/(sec|min|hour|day)(?: --limit-burst (\d+))?", options)
    assert found is not None, options
    cost = 10_000 * {"sec": 1, "min": 60, "hour": 3600, "day": 86400}[found[2]] // int(found[1])
    burst = int(found[3]) if found[3] else 5
    return _credits(cost * burst & ALL_32) < _credits(cost)


def _credits(cost: int) -> int:
    """(xt_limit.c: user2credits, with HZ 250 or 1000)"""
    return cost // 10_000 * 32_000 & ALL_32 if cost > ALL_32 // 32_000 else cost * 32_000 // 10_000


def _depth(table: r.Table) -> Iterator[Finding]:
    depths: dict[str, int] = {}

    def below(name: str) -> int:
        """Chains that are nested in this one at most."""
        todo = [name]
        while todo:
            at = todo[-1]
            called = [
                rule.target.chain
                for rule in table.chains[at].rules
                if isinstance(rule.target, r.Jump | r.Goto)
            ]
            unknown = [c for c in called if c not in depths]
            if unknown:
                todo += unknown
            else:
                depths[at] = max((depths[c] + 1 for c in called), default=0)
                todo.pop()
        return depths[name]

    for chain in table.chains.values():
        if chain.policy is not None and below(chain.name) > DEEPEST:
            text = f"{table.name}/{chain.name} leads through {below(chain.name)} nested chains; the nft backend loads {DEEPEST}"
            yield Finding("L006", chain.place, text)


def _rings(table: r.Table, aside: Sequence[str]) -> Iterator[Finding]:
    """Each ring once, at the first of its chains.  `aside` are the chains that nothing leads to: no others make one."""
    told: set[str] = set()
    for name in aside:
        below = _reached(table, name)
        if name in below and name not in told:
            ring = {other for other in below if name in _reached(table, other)}
            told |= ring
            text = f"{table.name}/{name} comes back to itself by {', '.join(sorted(ring))}"
            yield Finding("L008", table.chains[name].place, text, "iptables refuses a rule that leads there")


def _reached(table: r.Table, start: str) -> set[str]:
    """The chains to which the rules of this one lead."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        targets = (rule.target for rule in table.chains[waiting.pop()].rules)
        called = {target.chain for target in targets if isinstance(target, r.Jump | r.Goto)} - found
        found |= called
        waiting += called
    return found
