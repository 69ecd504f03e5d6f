"""What a REJECT's own packets see otherwise than others do: tables that have less to say to them."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from .. import rules as r
from ..journeys import Act
from .journeys import SymStop
from .terms import Bool, Terms

BINDING = "what NAT makes of a connection that is rejected"


class Rejection(Struct, frozen=True):
    """What is sent back for packets that are `stuck` (conntrack has left them alone, or has not), or that came over lo, so
    that nat has been asked about the source of their connections (`source_done`).
    """

    source_done: bool
    stuck: bool


TRANSLATES_SOURCES = r.Snat | r.Masquerade | r.Netmap


def as_seen(rejection: Rejection, table: r.Table) -> r.Table:
    """The table without what it does not do to a rejection: tracking it otherwise than what it came of, and translating it."""
    match table.name:
        case "nat":
            return _but(table, {r.Snat: r.Accept(), r.Masquerade: r.Accept(), r.Netmap: r.Accept()})
        case "raw" if rejection.stuck:
            return _but(table, {r.NoTrack: None, r.TrackAs: None})
        case _:
            return table


def _but(table: r.Table, others: dict[type, r.Accept | None]) -> r.Table:
    def other(rule: r.Rule) -> r.Rule:
        kind = type(rule.target)
        return replace(rule, target=others[kind]) if kind in others else rule

    chains = {name: replace(c, rules=tuple(map(other, c.rules))) for name, c in table.chains.items()}
    return replace(table, chains=chains)


def bindings(table: r.Table, stops: Sequence[SymStop], lo: int | None, lends: bool, t: Terms) -> Bool:
    """Of the packets that made these stops in nat POSTROUTING, those whose connection has got a source there that they may
    meet again, over lo, or for which there may be none (`lends`: there is always one).
    """
    doubt = t.false
    for s in stops:
        if s.act is not Act.MATCHED or s.chain is None or s.rule is None:
            continue
        target = table.chains[s.chain].rules[s.rule - 1].target
        if not isinstance(target, TRANSLATES_SOURCES):
            continue
        again = t.false if lo is None else s.packet.out_iface.is_(lo)
        none = t.truth(isinstance(target, r.Masquerade) and not lends)
        doubt = doubt | (s.cond & (again | none))
    return doubt
