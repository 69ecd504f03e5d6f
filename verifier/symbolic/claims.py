"""Claims read over all journeys at once: which packets meet a premise, and which do what a verb says.

What a verb says of a packet may be undecided: the journey runs into something that is not modelled, or
goes on beyond the hops that are written.  So there are two formulas for "it does" and two for "it does
not": surely, and possibly.  A proof needs "possibly not" to be impossible, a refutation "surely not".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from msgspec import Struct

from .. import claims as c
from .. import journeys as j
from .. import rules as r
from ..hooks import Hook
from ..values import TCP, CtState, TcpFlag
from .answers import answers
from .journeys import SymEnd, SymStop
from .lookups import holds
from .matches import has_ports, spans
from .packets import SymPacket
from .terms import Bool, Terms
from .travel import Journeys


def meets(premise: c.Premise, journeys: Journeys, hop: int = 0) -> Bool:
    """The packets of hop `hop`, as they are sent, that meet the premise, given the sender's facts."""
    t = journeys.terms
    p = journeys.sent[hop]
    parts = [_passes(premise.filter, p, journeys)]
    if not premise.any_state:
        parts.append(p.ctstate.is_(CtState.NEW))
    if premise.kind is c.Kind.CONNECTION:
        flags = p.flags & (TcpFlag.SYN | TcpFlag.ACK | TcpFlag.RST | TcpFlag.FIN)
        parts.append(~p.proto.is_(TCP) | flags.is_(TcpFlag.SYN))
    if hop == 0 and isinstance(journeys.sender, j.FromOutside):
        parts.append(journeys.road.among(p.src, journeys.host.outside))
    parts += [~_passes(exception.filter, p, journeys) for exception in premise.exceptions]
    return t.all_of(parts)


def passes(wanted: c.Filter, journeys: Journeys) -> Bool:
    """The packets of hop 0 that meet these conditions alone."""
    return _passes(wanted, journeys.sent[0], journeys)


def _passes(wanted: c.Filter, p: SymPacket, journeys: Journeys) -> Bool:
    t = p.terms
    parts = []
    if wanted.protocol is not None:
        parts.append(p.proto.is_(wanted.protocol))
    if wanted.to is not None:
        parts.append(journeys.road.among(p.dst, wanted.to))
    if wanted.source is not None:
        parts.append(journeys.road.among(p.src, wanted.source))
    if wanted.ports:
        parts.append(has_ports(p) & spans(p.dport, wanted.ports))
    for literal in wanted.where:
        true = holds(literal.match, journeys.seen(p), journeys.road)
        parts.append(~true if literal.negated else true)
    return t.all_of(parts)


class Verdict(Struct, frozen=True):
    """Which packets do it, and which do not: surely, and possibly."""

    surely: Bool
    possibly: Bool
    surely_not: Bool
    possibly_not: Bool

    def negated(self) -> Verdict:
        return Verdict(self.surely_not, self.possibly_not, self.surely, self.possibly)


def verdict(
    verb: c.Verb, journeys: Journeys, start: int = 0, *, complete: bool = False, answer: bool = False
) -> Verdict:
    """What the written hops, from hop `start` on, say of the verb; with `answer`, what the answer to that hop says of it.

    `complete`: every proxy state that a journey can come to occurs in the written hops of some choice, so
    that an event that does not happen there never does.  It may be given for claims about all choices only.
    """
    t = journeys.terms
    number = j.answer_to(start)
    if answer:
        stops = [s for s in journeys.record.stops if s.hop == number]
        ends = [e for e in journeys.record.answers if e.hop == number]
        onward = t.false
    else:
        stops = [s for s in journeys.record.stops if s.hop >= start]
        ends = [e for e in journeys.record.ends if e.hop >= start]
        onward = journeys.open

    def met(wanted: Callable[[SymStop], bool]) -> Bool:
        return t.any_of(s.cond for s in stops if wanted(s))

    def ended(*kinds: type) -> Bool:
        return t.any_of(e.cond for e in ends if isinstance(e.end, kinds))

    def event(happened: Bool, after_group: Callable[[j.Group], bool], to_first: bool = False) -> Verdict:
        """`to_first`: it compares with the first packet, which a shorter way to the same states may have otherwise."""
        blind = t.any_of(
            e.cond
            for e in ends
            if isinstance(e.end, j.Unmodelled) or (isinstance(e.end, j.Group) and after_group(e.end))
        )
        later = t.false if complete and not to_first else onward
        return Verdict(happened, happened | blind | later, ~happened & ~blind & ~onward, ~happened)

    match verb:
        case c.Ends():
            blind = ended(j.Unmodelled)
            may = blind | ~onward if complete else t.true
            return Verdict(~blind & ~onward, may, t.false, blind | onward)
        case c.Enters(c.ChainRef(table, chain)):
            entered = met(lambda s: s.act is j.Act.ENTERED and (s.table, s.chain) == (table, chain))
            return event(entered, lambda group: _called_from(journeys, table, chain, group.hooks))
        case c.Hits(rule):
            if not isinstance(rule, c.RuleRef):
                raise AssertionError("rules are resolved to their numbers before a claim is asked")
            table, chain, number = rule.table, rule.chain, rule.rule
            hit = met(
                lambda s: s.act is j.Act.MATCHED and (s.table, s.chain, s.rule) == (table, chain, number)
            )
            return event(hit, lambda group: _called_from(journeys, table, chain, group.hooks))
        case c.Reaches(process, port, having):
            reached = t.any_of(
                s.cond & _having(having, s.packet, journeys, start)
                for s in stops
                if s.act is j.Act.DELIVERED
                and s.process == process
                and s.listener is not None
                and port in (None, s.listener.port)
            )
            if port is None:
                reached = reached | t.any_of(
                    e.cond & _having(having, e.packet, journeys, start)
                    for e in ends
                    if isinstance(e.end, j.Returned) and e.end.process == process
                )
            return event(reached, lambda group: True, having.unchanged)
        case c.PassesBeforeLeaving(process, interface):
            gone = t.any_of(
                e.cond & ~_passed(journeys, process, start, e.hop) for e in _leaving(ends, interface)
            )
            blind = t.any_of(
                e.cond & ~_passed(journeys, process, start, e.hop)
                for e in ends
                if isinstance(e.end, j.Unmodelled)
                or (isinstance(e.end, j.Group) and Hook.POSTROUTING in e.end.hooks)
            )
            later = onward & ~_passed(journeys, process, start, journeys.depth)
            return Verdict(
                ~gone & ~blind & ~later, ~gone, gone, gone | blind | (t.false if complete else later)
            )
        case c.Leaves(interface, having):
            left = t.any_of(
                e.cond & _having(having, e.packet, journeys, start) for e in _leaving(ends, interface)
            )
            return event(left, lambda group: Hook.POSTROUTING in group.hooks, having.unchanged)
        case c.IsDropped(chain_ref):
            dropped = t.any_of(
                e.cond
                for e in ends
                if isinstance(e.end, j.Dropped)
                and (chain_ref is None or (e.end.table, e.end.chain) == (chain_ref.table, chain_ref.chain))
            )
            return event(dropped, lambda group: bool(group.hooks))
        case c.IsLost():
            return event(ended(j.Lost), lambda group: True)
        case c.IsRejected():
            return event(ended(j.Rejected), lambda group: bool(group.hooks))
        case c.IsRefused():
            return event(ended(j.Refused), lambda group: True)
        case c.IsAnswered(interface, having):
            return _answered(journeys, start, interface, having)
        case c.Not(inner):
            return verdict(inner, journeys, start, complete=complete, answer=answer).negated()
        case c.AnyOf(verbs):
            parts = [verdict(v, journeys, start, answer=answer) for v in verbs]
            return any_of(t, parts)
        case _:
            assert_never(verb)


def answered(journeys: Journeys, start: int = 0) -> tuple[Bool, Bool]:
    """The packets whose hop `start` has an answer, and those of which nobody knows whether it has one."""
    t = journeys.terms
    has = t.any_of(e.cond for e in journeys.record.answers if e.hop == j.answer_to(start))
    vague = t.any_of(
        e.cond for e in journeys.record.ends if e.hop == start and isinstance(e.end, j.Unmodelled | j.Group)
    )
    return has, vague & ~has


def _answered(journeys: Journeys, start: int, interface: str | None, having: c.With) -> Verdict:
    """The answer to hop `start` comes back to who sent that."""
    t = journeys.terms
    sent = journeys.sent[start]
    framed = t.any_of(cond for cond, name in journeys.senders[start] if name is None)
    did = blind = t.false
    for e in journeys.record.answers:
        if e.hop != j.answer_to(start):
            continue
        match e.end:
            case j.Returned():
                by = e.packet.in_iface
                if interface == "lo":
                    here = by.is_(0) | by.is_(journeys.names.index("lo"))
                else:
                    here = t.true if interface is None else by.is_(journeys.names.index(interface))
                back = here
            case j.Left(name):
                back = t.truth(interface in (None, name)) & framed & answers(e.packet, sent)
            case j.Unmodelled() | j.Group():
                blind = blind | e.cond
                continue
            case _:
                continue
        did = did | (e.cond & back & _having(having, e.packet, journeys, start))
    blind = blind | answered(journeys, start)[1]
    return Verdict(did, did | blind, ~did & ~blind, ~did)


def any_of(t: Terms, parts: list[Verdict]) -> Verdict:
    return Verdict(
        t.any_of(p.surely for p in parts),
        t.any_of(p.possibly for p in parts),
        t.all_of(p.surely_not for p in parts),
        t.all_of(p.possibly_not for p in parts),
    )


def all_of(t: Terms, parts: list[Verdict]) -> Verdict:
    return any_of(t, [p.negated() for p in parts]).negated()


def _leaving(ends: list[SymEnd], interface: str | None) -> list[SymEnd]:
    return [e for e in ends if isinstance(e.end, j.Left) and interface in (None, e.end.interface)]


def _passed(journeys: Journeys, process: str, start: int, hop: int) -> Bool:
    """Some socket of the process got the packet of an earlier hop."""
    return journeys.terms.any_of(
        s.cond
        for s in journeys.record.stops
        if s.act is j.Act.DELIVERED and s.process == process and start <= s.hop < hop
    )


def _having(wanted: c.With, p: SymPacket, journeys: Journeys, start: int) -> Bool:
    t = p.terms
    parts = []
    if wanted.source is not None:
        parts.append(journeys.road.among(p.src, wanted.source))
    if wanted.destination is not None:
        parts.append(journeys.road.among(p.dst, wanted.destination))
    if wanted.port is not None:
        parts.append(has_ports(p) & p.dport.is_(wanted.port))
    if wanted.unchanged:
        first = journeys.sent[start]
        parts.append(p.dst.is_(first.dst) & p.dport.is_(first.dport))
    if wanted.mark is not None:
        parts.append((p.mark & wanted.mark.mask).is_(wanted.mark.value))
    return t.all_of(parts)


def _called_from(journeys: Journeys, table: str, chain: str, hooks: tuple[Hook, ...]) -> bool:
    """The chain is one of these hooks' built-in chains, or is called from one."""
    found = journeys.setting.rules.tables.get(table)
    if found is None:
        return False
    waiting = [hook.value for hook in hooks if hook.value in found.chains]
    seen = set(waiting)
    while waiting:
        name = waiting.pop()
        if name == chain:
            return True
        for rule in found.chains[name].rules:
            if isinstance(rule.target, r.Jump | r.Goto) and rule.target.chain not in seen:
                seen.add(rule.target.chain)
                waiting.append(rule.target.chain)
    return False
