"""Claims read over all journeys at once: which packets meet a premise, and which do what a verb says.

What a verb says of a packet may be undecided: the journey runs into something that is not modelled, or
goes on beyond the hops that are written.  So there are two formulas for "it does" and two for "it does
not": surely, and possibly.  A proof needs "possibly not" to be impossible, a refutation "surely not".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import assert_never

from msgspec import Struct

from .. import claims as c
from .. import journeys as j
from .. import rules as r
from ..hooks import Hook
from ..values import ICMP, ICMPV6, TCP, UDP, CtState, Family, TcpFlag
from .conntrack import ORIGINAL, REPLY, zones
from .journeys import SymEnd, SymStop
from .lookups import holds
from .matches import has_ports, spans
from .packets import SymPacket
from .terms import Bool, Bv, Terms
from .travel import Journeys


def meets(premise: c.Premise, journeys: Journeys, hop: int = 0) -> Bool:
    """The packets of hop `hop`, as they are sent, that meet the premise, given the sender's facts; behind an earlier packet those
    of which conntrack finds, or may find, that one's entry: all others go as if it had not been sent.  Of what opens a connection
    those that are, or may be, answered.
    """
    t = journeys.terms
    p = journeys.sent[hop]
    parts = [_passes(premise.filter, p, journeys)]
    if not premise.any_state and not premise.established:
        parts.append(p.ctstate.is_(CtState.NEW))
    if premise.kind is c.Kind.CONNECTION:
        flags = p.flags & (TcpFlag.SYN | TcpFlag.ACK | TcpFlag.RST | TcpFlag.FIN)
        parts.append(~p.proto.is_(TCP) | flags.is_(TcpFlag.SYN))
    if hop == 0 and isinstance(journeys.sender, j.FromOutside):
        parts.append(journeys.road.among(p.src, journeys.host.outside))
    if premise.established or journeys.setting.answers:
        # Nobody has a connection whose answers may be its questions; ICMP has a type for each.
        pings = p.proto.is_(ICMP if p.family is Family.IPV4 else ICMPV6)
        parts.append(pings | ~p.src.is_(p.dst) | ~p.sport.is_(p.dport))
    parts += [~_passes(exception.filter, p, journeys) for exception in premise.exceptions]
    if (journeys.opened is not None) != premise.established:
        raise AssertionError("established packets have a connection, and others have none yet")
    if journeys.earlier is not None:
        first = c.Premise(premise.who, c.Kind.CONNECTION)
        if not premise.established:
            if premise.after is None:
                raise AssertionError("the premise speaks of no earlier packet")
            first = c.Premise(premise.after)
        parts += [journeys.behind, meets(first, journeys.earlier)]
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


def marks_name_zones(rules: r.RuleSet) -> bool:
    """Some rule of raw, called or not, has a packet's mark name its zone."""
    raw = rules.tables.get("raw")
    targets = [] if raw is None else [rule.target for chain in raw.chains.values() for rule in chain.rules]
    return any("mark" in target.options.split() for target in targets if isinstance(target, r.TrackAs))


def may_change_its_mark(journeys: Journeys) -> Bool:
    """Later packets of a connection that leave its mark otherwise than they found it, or whose answers do, or of whose ways not
    all is known."""
    t, record = journeys.terms, journeys.record
    if journeys.opened is None:
        raise AssertionError("of connections that stand")
    if journeys.opened.entry is None:
        return t.false
    mark = journeys.opened.entry.connection.mark
    changed = []
    for e in [*record.ends, *record.answered]:
        if isinstance(e.end, j.Unmodelled | j.Group):
            changed.append(e.cond)
        else:
            changed.append(e.cond & e.packet.known().known & ~e.packet.known().mark.is_(mark))
    return t.any_of(changed)


class Verdict(Struct, frozen=True):
    """Which packets do it, and which do not: surely, and possibly."""

    surely: Bool
    possibly: Bool
    surely_not: Bool
    possibly_not: Bool

    def negated(self) -> Verdict:
        return Verdict(self.surely_not, self.possibly_not, self.surely, self.possibly)


class Told(Struct, frozen=True):
    """What is written of journeys from hop `start` on, or of the answers to that hop: `open` are those that go on, and
    `untold` those of which nobody knows whether there is any.
    """

    journeys: Journeys
    hop: int
    stops: list[SymStop]
    ends: list[SymEnd]
    open: Bool
    untold: Bool


def told_from(journeys: Journeys, start: int) -> Told:
    """Of the hops from this one on."""
    stops = [s for s in journeys.record.stops if s.hop >= start]
    ends = [e for e in journeys.record.ends if e.hop >= start]
    return Told(journeys, start, stops, ends, journeys.open, journeys.terms.false)


def told_of_answers(journeys: Journeys, hop: int) -> Told:
    """Of the answers to this hop, which do not go on."""
    if not (journeys.setting.answers or journeys.setting.rejections):
        raise AssertionError("the setting does not tell of what comes back")
    t = journeys.terms
    number = -1 - hop
    stops = [s for s in journeys.record.stops if s.hop == number]
    ends = [e for e in journeys.record.answered if e.hop == number]
    blind = (
        e.cond for e in journeys.record.ends if e.hop == hop and isinstance(e.end, j.Group | j.Unmodelled)
    )
    untold = t.any_of(blind) & ~t.any_of(e.cond for e in ends)
    return Told(journeys, number, stops, ends, t.false, untold)


def _sent_to(told: Told) -> tuple[Bv, Bv]:
    """The destination of the first packet, and its port."""
    journeys = told.journeys
    if told.hop >= 0:
        return journeys.sent[told.hop].dst, journeys.sent[told.hop].dport
    t = journeys.terms
    dst, dport = t.number(0, journeys.family.bits), t.number(0, 16)
    for sent in (a for a in journeys.sent_back if a.hop == told.hop):
        dst, dport = t.choose(sent.cond, sent.packet.dst, dst), t.choose(sent.cond, sent.packet.dport, dport)
    return dst, dport


class Existence(Struct, frozen=True):
    """The packets that are answered, surely and possibly: of what ends in a group of sockets, or in what is not modelled,
    before it comes to anybody, nobody knows."""

    surely: Bool
    possibly: Bool


def is_sent_back(journeys: Journeys, hop: int = 0) -> Existence:
    """The packets of this hop to which there is an answer, wherever that comes."""
    t = journeys.terms
    told = told_of_answers(journeys, hop)
    surely = t.any_of(e.cond for e in told.ends)
    return Existence(surely, surely | told.untold)


def verdict(verb: c.Verb, journeys: Journeys, start: int = 0, *, complete: bool = False) -> Verdict:
    """What the written hops, from hop `start` on, say of the verb.

    `complete`: every proxy state that a journey can come to occurs in the written hops of some choice, so
    that an event that does not happen there never does.  It may be given for claims about all choices only.
    """
    return _verdict(verb, told_from(journeys, start), complete)


def verdict_of_answer(verb: c.Verb, journeys: Journeys, hop: int = 0) -> Verdict:
    """What is written of the answers to this hop says of the verb.  Of a packet that has none it says that none does it:
    whoever asks asks for packets that are sent back, too, and for a proof for those that may be (`is_sent_back`), of
    which it is then not known what they do.
    """
    return _verdict(verb, told_of_answers(journeys, hop), complete=True)


def verdicts(
    claim: c.PacketClaim, journeys: Journeys, hop: int = 0, *, complete: bool = False
) -> list[Verdict]:
    """What is written says of each of the claim's verbs, of what the claim is about: hop `hop` and what follows, or the answer
    to it.
    """
    if claim.premise.sent_back:
        return [verdict_of_answer(v, journeys, hop) for v in claim.verbs]
    return [verdict(v, journeys, hop, complete=complete) for v in claim.verbs]


def _verdict(verb: c.Verb, told: Told, complete: bool) -> Verdict:
    journeys, stops, ends = told.journeys, told.stops, told.ends
    t = journeys.terms

    def met(wanted: Callable[[SymStop], bool]) -> Bool:
        return t.any_of(s.cond for s in stops if wanted(s))

    def ended(*kinds: type) -> Bool:
        return t.any_of(e.cond for e in ends if isinstance(e.end, kinds))

    def event(
        happened: Bool,
        after_group: Callable[[j.Group], bool],
        to_first: bool = False,
        vague: Bool | None = None,
    ) -> Verdict:
        """`to_first`: it compares with the first packet, which a shorter way to the same states may have otherwise."""
        blind = told.untold | t.any_of(
            e.cond
            for e in ends
            if isinstance(e.end, j.Unmodelled) or (isinstance(e.end, j.Group) and after_group(e.end))
        )
        blind = blind | (t.false if vague is None else vague)
        later = t.false if complete and not to_first else told.open
        return Verdict(happened, happened | blind | later, ~happened & ~blind & ~told.open, ~happened)

    quiet = _lets_all_out(journeys.setting.rules)
    match verb:
        case c.Ends():
            blind = ended(j.Unmodelled) | told.untold
            may = blind | ~told.open if complete else t.true
            return Verdict(~blind & ~told.open, may, t.false, blind | told.open)
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
                s.cond & _having(having, s.packet, told, s.hop)
                for s in stops
                if s.act is j.Act.DELIVERED
                and s.process == process
                and s.listener is not None
                and port in (None, s.listener.port)
            ) | t.any_of(
                e.cond & _having(having, e.packet, told, e.hop)
                for e in ends
                if isinstance(e.end, j.Returned) and e.end.process == process and port is None
            )
            hears = any(x.protocol == UDP for x in journeys.host.process(process).listens)
            return event(reached, lambda _: hears, having.unchanged)
        case c.PassesBeforeLeaving(process, interface):
            gone = t.any_of(cond & ~_passed(told, process, e.hop) for cond, e in _out(ends, interface, quiet))
            blind = told.untold | t.any_of(
                e.cond & ~_passed(told, process, e.hop) for e in ends if isinstance(e.end, j.Unmodelled)
            )
            blind = blind | t.any_of(
                e.cond & _is_vague(e, interface, quiet) & ~_passed(told, process, e.hop) for e in ends
            )
            later = told.open & ~_passed(told, process, journeys.depth)
            return Verdict(
                ~gone & ~blind & ~later, ~gone, gone, gone | blind | (t.false if complete else later)
            )
        case c.Leaves(interface, having):
            left = t.any_of(
                cond & _having(having, e.packet, told, e.hop) for cond, e in _out(ends, interface, quiet)
            )
            vague = t.any_of(e.cond & _is_vague(e, interface, quiet) for e in ends)
            return event(left, lambda group: False, having.unchanged, vague)
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
            if told.hop < 0:
                raise AssertionError("nobody answers an answer")
            return _answered(interface, having, journeys, told.hop)
        case c.Not(inner):
            return _verdict(inner, told, complete).negated()
        case c.AnyOf(verbs):
            return any_of(t, [_verdict(v, told, complete=False) for v in verbs])
        case _:
            assert_never(verb)


def _answered(interface: str | None, having: c.With, journeys: Journeys, hop: int) -> Verdict:
    """What is sent back comes to whoever sent the packet: to its socket, or, outside, as what that has asked for."""
    if not journeys.setting.answers:
        raise AssertionError("the setting does not tell of answers")
    t, sent = journeys.terms, journeys.sent[hop]
    told = told_of_answers(journeys, hop)
    outside = hop == 0 and isinstance(journeys.sender, j.FromOutside)
    names = journeys.names

    def back(e: SymEnd) -> Bool:
        p = e.packet
        match e.end:
            case j.Returned():
                return t.true if interface is None else p.in_iface.is_(names.index(interface))
            case j.Left(by):
                turned = p.src.is_(sent.dst) & p.dst.is_(sent.src)
                turned = turned & p.sport.is_(sent.dport) & p.dport.is_(sent.sport)
                return turned & t.truth(outside and interface in (None, by))
            case _:
                return t.false

    yes = t.any_of(e.cond & back(e) & _having(having, e.packet, told, e.hop) for e in told.ends)
    blind = told.untold | t.any_of(e.cond for e in told.ends if isinstance(e.end, j.Group | j.Unmodelled))
    return Verdict(yes, yes | blind, ~yes & ~blind, ~yes)


def any_of(t: Terms, parts: list[Verdict]) -> Verdict:
    return Verdict(
        t.any_of(p.surely for p in parts),
        t.any_of(p.possibly for p in parts),
        t.all_of(p.surely_not for p in parts),
        t.all_of(p.possibly_not for p in parts),
    )


def all_of(t: Terms, parts: list[Verdict]) -> Verdict:
    return any_of(t, [p.negated() for p in parts]).negated()


def _out(ends: list[SymEnd], interface: str | None, quiet: bool) -> Iterator[tuple[Bool, SymEnd]]:
    """The packets that leave by it, and where nothing is in the way of copies for a group, those; in IPv6 not what is for this host
    (net/ipv6/ip6_output.c: ip6_finish_output2)."""
    for e in ends:
        if isinstance(e.end, j.Left) and interface in (None, e.end.interface):
            yield e.cond, e
        elif quiet and isinstance(e.end, j.Group) and _is_sent_out(e.end, interface):
            p = e.packet
            goes = ~_goes_no_hop(p)
            if p.family is Family.IPV6:
                goes = goes & p.dst.extract(115, 112).at_least(2)
            yield e.cond & goes, e


def _is_vague(e: SymEnd, interface: str | None, quiet: bool) -> Bool:
    """Whether a copy leaves nobody knows: POSTROUTING has a say, or a time to live of 0 (net/ipv4/ip_output.c: ip_mc_output)."""
    t = e.packet.terms
    if not isinstance(e.end, j.Group) or not _is_sent_out(e.end, interface):
        return t.false
    return _goes_no_hop(e.packet) if quiet else t.true


def _goes_no_hop(p: SymPacket) -> Bool:
    return p.field("ttl").is_(0) if "ttl" in p.rare else p.terms.false


def _lets_all_out(rules: r.RuleSet) -> bool:
    """POSTROUTING neither has rules nor drops."""
    for table in rules.tables.values():
        chain = table.chains.get("POSTROUTING")
        if chain is not None and (chain.rules or isinstance(chain.policy, r.Drop)):
            return False
    return True


def _is_sent_out(group: j.Group, interface: str | None) -> bool:
    """A copy goes to the wire behind POSTROUTING, if that lets it, and by this interface if one is named."""
    goes_out = Hook.POSTROUTING in group.hooks and group.out != "lo"
    return goes_out and interface in (None, group.out)


def _passed(told: Told, process: str, hop: int) -> Bool:
    """Some socket of the process got the packet of an earlier hop."""
    return told.journeys.terms.any_of(
        s.cond for s in told.stops if s.act is j.Act.DELIVERED and s.process == process and s.hop < hop
    )


def _having(wanted: c.With, p: SymPacket, told: Told, hop: int) -> Bool:
    t, journeys = p.terms, told.journeys
    parts = []
    if wanted.source is not None:
        parts.append(journeys.road.among(p.src, wanted.source))
    if wanted.destination is not None:
        parts.append(journeys.road.among(p.dst, wanted.destination))
    if wanted.port is not None:
        parts.append(has_ports(p) & p.dport.is_(wanted.port))
    if wanted.source_port is not None:
        parts.append(has_ports(p) & p.sport.is_(wanted.source_port))
    if wanted.unchanged:
        dst, dport = _sent_to(told)
        parts.append(p.dst.is_(dst) & p.dport.is_(dport))
    if wanted.mark is not None:
        parts.append((p.mark & wanted.mark.mask).is_(wanted.mark.value))
    if wanted.zone is not None:
        parts.append(_is_in_zone(p, wanted.zone, told, hop))
    return t.all_of(parts)


def _is_in_zone(p: SymPacket, zone: int, told: Told, hop: int) -> Bool:
    """The hop's packet is looked for in this zone: its first raw hook tells, which is not that of lo."""
    journeys, t = told.journeys, p.terms
    lo = journeys.road.lo
    raw = (
        s
        for s in told.stops
        if (s.hop, s.table) == (hop, "raw")
        and (s.hook is Hook.OUTPUT or (s.hook is Hook.PREROUTING and s.packet.in_iface.const != lo))
    )
    found = zones(raw, journeys.setting, t, REPLY if hop < 0 else ORIGINAL)
    other = t.any_of(cond for number, cond in found.numbered.items() if number != zone)
    mine = ~other if zone == 0 else found.numbered.get(zone, t.false)
    return mine & ~p.ctstate.is_(CtState.UNTRACKED)


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
