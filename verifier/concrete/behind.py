"""What a hop's packet has matched so far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .. import rules as r
from ..hooks import Hook
from ..journeys import Act, Stop
from ..packets import Packet


def targets_met(
    rules: r.RuleSet, stops: Sequence[Stop], hop: int, hook: Hook, table: str
) -> Iterator[tuple[r.Target | None, Packet]]:
    """The targets of the rules that the hop's packet matched in a table of a hook, in order, each with the packet afterwards."""
    if table not in rules.tables:
        return
    chains = rules.tables[table].chains
    for stop in stops:
        if (stop.hop, stop.act, stop.hook, stop.table) == (hop, Act.MATCHED, hook, table):
            assert stop.chain is not None, "a rule was matched"
            assert stop.rule is not None, "a rule was matched"
            yield chains[stop.chain].rules[stop.rule - 1].target, stop.packet
