"""At one time or another: which answers about ip sets go together, as entries go when their time is over.

Each question about an entry whose time runs is a choice of its own, which is enough for a proof.  A packet that is to
show something comes while no entry goes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .. import rules as r
from ..hosts import Setting
from .journeys import SymAsked
from .packets import Names
from .sets import holds
from .terms import Bool
from .travel import Journeys


def are_at_one_time(journeys: Journeys, times: Sequence[Setting]) -> Bool:
    """The packets of whose journeys, and of those of what was sent before, all that is chosen about sets is so at one of these
    times."""
    ways = [journeys] if journeys.earlier is None else [journeys.earlier, journeys]
    parts = [journeys.terms.all_of(part for way in ways for part in _so_at(time, way)) for time in times]
    return journeys.terms.any_of(parts)


def _so_at(time: Setting, way: Journeys) -> Iterator[Bool]:
    for asked in way.record.asked:
        literal = _literal(asked, time)
        # One that is not known by name may be any.
        if isinstance(literal.match, r.MatchSet) and isinstance(asked.match, r.Chance):
            held = ~asked.matches if literal.negated else asked.matches
            inside = _is_in(literal.match, time, asked, way.names)
            if literal.match.packets is None and literal.match.bytes is None:
                yield ~asked.cond | (inside & held) | (~inside & ~held)
            else:
                yield ~asked.cond | inside | ~held


def _literal(asked: SymAsked, setting: Setting) -> r.Literal:
    name, number = asked.evaluation.path[-1]
    rules = setting.rules.tables[asked.evaluation.table].chains[name].rules
    return rules[number - 1].literals[asked.evaluation.literal]


def _is_in(match: r.MatchSet, time: Setting, asked: SymAsked, names: Names) -> Bool:
    sets = time.host.sets
    found = holds(sets[match.name], sets, asked.packet, names, match.directions, match.return_nomatch)
    return found.inside
