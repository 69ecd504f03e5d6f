"""A mismatch made small: rules, literals and fields are taken away as long as the kernel and the wing, or the wings, still differ."""

from __future__ import annotations

import time
from collections.abc import Iterator

from msgspec.structs import replace

from .. import rules as r
from ..concrete.travel import travel
from ..hosts import Setting
from ..kernel.errors import RulesRefused
from ..kernel.oracle import Oracle
from ..packets import Packet
from ..values import PORT_PROTOCOLS, TCP, TcpFlag
from .conversations import Travel
from .run import Mismatch, again

SECONDS = 30.0


def shrunk(found: Mismatch, tell: Travel = travel, seconds: float = SECONDS) -> Mismatch:
    """The smallest mismatch that is found in that time, on the same host; one of a text alone stays as it is."""
    if found.text is not None:
        return found
    until = time.monotonic() + seconds
    best = found
    with Oracle(found.setting.host, found.backend) as oracle:
        better: Mismatch | None = best
        while better is not None and time.monotonic() < until:
            better = next(_smaller(oracle, best, tell, until), None)
            best = better or best
    return best


def _smaller(oracle: Oracle, found: Mismatch, tell: Travel, until: float) -> Iterator[Mismatch]:
    """Mismatches with less in them, if there are any: with fewer rules first."""
    for rules in fewer(found.setting.rules):
        if time.monotonic() >= until:
            return
        smaller = _under(oracle, found, replace(found.setting, rules=rules), tell)
        if smaller is not None:
            yield smaller
    oracle.load(found.setting.rules)
    for packet in plainer(found.packet):
        smaller = again(oracle, found, found.setting, packet, tell)
        if smaller is not None:
            yield smaller


def _under(oracle: Oracle, found: Mismatch, setting: Setting, tell: Travel) -> Mismatch | None:
    try:
        oracle.load(setting.rules)
    except RulesRefused:
        return None
    return again(oracle, found, setting, found.packet, tell)


# -- rule sets with less in them ----------------------------------------------------------------------------


def fewer(rules: r.RuleSet) -> Iterator[r.RuleSet]:
    """Without a table, half a chain, a chain's rules one by one, a literal, a chain that nobody calls."""
    for name in rules.tables:
        yield replace(rules, tables={n: t for n, t in rules.tables.items() if n != name})
    for table in rules.tables.values():
        for chain in table.chains.values():
            for body in _parts(chain.rules):
                yield from _with(rules, table, replace(chain, rules=body))
            if isinstance(chain.policy, r.Drop):
                yield from _with(rules, table, replace(chain, policy=r.Accept()))
            if not chain.rules:
                yield from _rebuilt(rules, table, {n: c for n, c in table.chains.items() if n != chain.name})


def _parts(body: tuple[r.Rule, ...]) -> Iterator[tuple[r.Rule, ...]]:
    if len(body) > 2:
        half = len(body) // 2
        yield body[half:]
        yield body[:half]
    for number, rule in enumerate(body):
        yield body[:number] + body[number + 1 :]
        for at in range(len(rule.literals)):
            literals = rule.literals[:at] + rule.literals[at + 1 :]
            yield (*body[:number], replace(rule, literals=literals), *body[number + 1 :])


def _with(rules: r.RuleSet, table: r.Table, chain: r.Chain) -> Iterator[r.RuleSet]:
    yield from _rebuilt(rules, table, {**table.chains, chain.name: chain})


def _rebuilt(rules: r.RuleSet, table: r.Table, chains: dict[str, r.Chain]) -> Iterator[r.RuleSet]:
    """The rule set with this table's chains, if they are a table: what they call has to be there."""
    try:
        smaller = r.Table(table.name, chains)
    except ValueError:
        return
    yield replace(rules, tables={**rules.tables, table.name: smaller})


# -- plainer packets ------------------------------------------------------------------------------------------


def plainer(packet: Packet) -> Iterator[Packet]:
    """The packet with a field as most packets have it."""
    usual: dict[str, int | None] = {
        "mark": 0, "ttl": 64, "tos": 0, "length": 60, "tcp_options": 0, "dccp_options": 0, "spi": 0, "icmp_code": 0,
    }  # fmt: skip
    if packet.proto == TCP:
        usual["flags"] = int(TcpFlag.SYN)
    if packet.proto in PORT_PROTOCOLS:
        usual |= {"sport": 40000, "dport": 80}
    if packet.uid is not None:
        usual |= {"uid": 1000, "gid": 1000, "device": None}
    for field, value in usual.items():
        if getattr(packet, field) != value:
            yield replace(packet, **{field: value})
