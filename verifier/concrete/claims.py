"""Whether one journey does what a verb says, and whether one packet meets a premise.

True, False, or None where our knowledge of the journey ends too early to say.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias, assert_never

from msgspec.structs import replace

from .. import claims as c
from .. import journeys as j
from ..asked import fields_carried, fields_of
from ..hooks import Hook
from ..hosts import Setting
from ..journeys import Act, Journey, Sender, Stop
from ..packets import Packet
from ..rules import Drop, Goto, Jump
from ..values import (
    ICMP,
    ICMPV6,
    PORT_PROTOCOLS,
    TCP,
    UDP,
    AddressSet,
    AddressTerm,
    CtState,
    Family,
    HostAddresses,
    Net,
    Special,
    TcpFlag,
)
from . import fields, matches, routing, ways
from .answers import came_back, zone_of
from .conntrack import begun
from .established import is_later
from .travel import as_sent, can_send

# -- verbs --------------------------------------------------------------------------------------


def holds(verb: c.Verb, journey: Journey, setting: Setting, start: int = 0) -> bool | None:
    """Whether the journey, from hop `start` on, does what the verb says; None iff that is not known.

    Raises AssertionError for a rule named by its text, which is resolved to numbers before.
    """
    match verb:
        case c.Ends():
            return None if _unfinished(journey.end) else not isinstance(journey.end, j.Loop)
        case c.Enters(chain):
            entered = (s for s in _acts(journey, start, Act.ENTERED) if s.chain == chain.chain)
            happened = any(stop.table == chain.table for stop in entered)
            return happened or _otherwise(journey.end, _may_enter(journey.end, chain, setting))
        case c.Hits(rule):
            assert isinstance(rule, c.RuleRef), f"{rule} is resolved to numbers when it is bound"
            site = (rule.table, rule.chain, rule.rule)
            happened = any((s.table, s.chain, s.rule) == site for s in _acts(journey, start, Act.MATCHED))
            chain = c.ChainRef(rule.table, rule.chain)
            return happened or _otherwise(journey.end, _may_enter(journey.end, chain, setting))
        case c.Reaches(process, port, having):
            for stop in _deliveries(journey, start, process):
                assert stop.listener is not None, "a socket got it"
                if port in (None, stop.listener.port) and _has(
                    having, stop.packet, journey, setting, start, stop.hop
                ):
                    return True
            if isinstance(journey.end, j.Returned) and port is None and journey.end.process == process:
                return _has(having, journey.final, journey, setting, start)
            # Of what goes to a group, datagram sockets may get a copy.
            mine = setting.host.process(process).listens
            return _otherwise(journey.end, any(listener.protocol == UDP for listener in mine))
        case c.PassesBeforeLeaving(process, interface):
            if any(_deliveries(journey, start, process)):
                return True
            if isinstance(journey.end, j.Left):
                return interface not in (None, journey.end.interface)
            copy = _sends_a_copy(journey, interface, setting)
            if copy is not None:
                return not copy
            return None if _unfinished(journey.end) or _may_leave(journey.end, interface) else True
        case c.Leaves(interface, having):
            if isinstance(journey.end, j.Left) and interface in (None, journey.end.interface):
                return _has(having, journey.final, journey, setting, start)
            copy = _sends_a_copy(journey, interface, setting)
            if copy is not None:
                return copy and _has(having, journey.final, journey, setting, start)
            return _otherwise(journey.end, _may_leave(journey.end, interface))
        case c.IsDropped(by):
            if isinstance(journey.end, j.Dropped):
                return by in (None, c.ChainRef(journey.end.table, journey.end.chain))
            return _otherwise(journey.end, _may_meet_rules(journey.end))
        case c.IsLost():
            return isinstance(journey.end, j.Lost) or _otherwise(journey.end, True)
        case c.IsRejected():
            return isinstance(journey.end, j.Rejected) or _otherwise(
                journey.end, _may_meet_rules(journey.end)
            )
        case c.IsRefused():
            return isinstance(journey.end, j.Refused) or _otherwise(journey.end, True)
        case c.IsAnswered(interface, having):
            return _is_answered(journey, setting, start, interface, having)
        case c.Not(inner):
            answer = holds(inner, journey, setting, start)
            return None if answer is None else not answer
        case c.AnyOf(verbs):
            answers = [holds(one, journey, setting, start) for one in verbs]
            return True if True in answers else None if None in answers else False
        case _:
            assert_never(verb)


def _is_answered(
    journey: Journey, setting: Setting, start: int, interface: str | None, having: c.With
) -> bool | None:
    """Whether the answer to hop `start` comes back to its sender."""
    answer = of_answer(journey, start)
    if answer is None:
        lost_sight = isinstance(journey.end, j.Group) or _unfinished(journey.end)
        return None if lost_sight and journey.last_hop == start else False
    sent = next(_acts(journey, start, Act.SENT)).packet
    # Of an answer without a stop nobody knows what it is.
    back = came_back(sent, answer.final, answer.end) if answer.stops else None
    if back is not True:
        return back
    by = answer.end.interface if isinstance(answer.end, j.Left) else answer.final.in_iface
    return interface in (None, by or routing.LOOPBACK_DEVICE) and _has(
        having, answer.final, answer, setting, 0
    )


def of_answer(journey: Journey, start: int) -> Journey | None:
    """The answer to hop `start` as a journey of its own; None where there is none."""
    if start not in journey.answers:
        return None
    number = -1 - start
    stops = tuple(replace(stop, hop=0) for stop in journey.stops if stop.hop == number)
    asked = tuple(replace(e, hop=0) for e in journey.asked if e.hop == number)
    return Journey(stops, journey.answers[start], asked=asked, answers_one=True)


def _unfinished(end: j.End) -> bool:
    return isinstance(end, j.Unmodelled | j.Onward)


def _otherwise(end: j.End, group: bool) -> bool | None:
    """What is said of an event that has not happened: False, unless it may still happen; `group` tells
    whether it may to what was sent to a group."""
    return None if _unfinished(end) or (isinstance(end, j.Group) and group) else False


def _acts(journey: Journey, start: int, act: Act) -> Iterator[Stop]:
    return (stop for stop in journey.stops if stop.act is act and stop.hop >= start)


def _deliveries(journey: Journey, start: int, process: str) -> Iterator[Stop]:
    return (stop for stop in _acts(journey, start, Act.DELIVERED) if stop.process == process)


def _may_leave(end: j.End, interface: str | None) -> bool:
    """A copy may leave, by this interface if one is named."""
    if not isinstance(end, j.Group) or Hook.POSTROUTING not in end.hooks:
        return False
    return end.out != routing.LOOPBACK_DEVICE and interface in (None, end.out)


def _is_quiet(setting: Setting) -> bool:
    """True iff no rule, and no policy, of POSTROUTING has anything to say."""
    for table in setting.rules.tables.values():
        chain = table.chains.get(Hook.POSTROUTING.value)
        if chain is not None and (chain.rules or isinstance(chain.policy, Drop)):
            return False
    return True


def _sends_a_copy(journey: Journey, interface: str | None, setting: Setting) -> bool | None:
    """Whether one of what goes to a group leaves, which in IPv6 is not what is for this host alone (net/ipv6/ip6_output.c:
    ip6_finish_output2); None where it goes to none, POSTROUTING has a say, or a time to live of 0 keeps what this host
    listens to here (net/ipv4/ip_output.c: ip_mc_output)."""
    if not _may_leave(journey.end, interface) or not _is_quiet(setting) or journey.final.ttl == 0:
        return None
    packet = journey.final
    return not (packet.family is Family.IPV6 and packet.dst >> 112 & 0xF < 2)


def _may_meet_rules(end: j.End) -> bool:
    return isinstance(end, j.Group) and bool(end.hooks)


def _may_enter(end: j.End, ref: c.ChainRef, setting: Setting) -> bool:
    """True iff the end is a group that may still pass a hook from whose built-in chain calls lead to this one."""
    table = setting.rules.tables.get(ref.table)
    if table is None or not isinstance(end, j.Group):
        return False
    reached: set[str] = set()
    todo = [hook.value for hook in end.hooks if hook.value in table.chains]
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            targets = (rule.target for rule in table.chains[name].rules)
            todo += [target.chain for target in targets if isinstance(target, Jump | Goto)]
    return ref.chain in reached


def _has(
    having: c.With, packet: Packet, journey: Journey, setting: Setting, start: int, hop: int | None = None
) -> bool:
    """Whether the packet of this hop, or of the last one, is so."""
    if having.source is not None and not in_set(having.source, packet.src, setting):
        return False
    if having.destination is not None and not in_set(having.destination, packet.dst, setting):
        return False
    if having.port is not None and (packet.proto not in PORT_PROTOCOLS or packet.dport != having.port):
        return False
    if having.source_port is not None and (
        packet.proto not in PORT_PROTOCOLS or packet.sport != having.source_port
    ):
        return False
    if having.unchanged:
        sent = next(_acts(journey, start, Act.SENT)).packet
        if (sent.dst, sent.dport) != (packet.dst, packet.dport):
            return False
    if having.zone is not None and having.zone != _zone(packet, journey, setting, hop):
        return False
    return having.mark is None or packet.mark & having.mark.mask == having.mark.value


def _zone(packet: Packet, journey: Journey, setting: Setting, hop: int | None) -> int | None:
    """In which zone conntrack looks for the packet, in its direction; None of what it does not track."""
    if packet.ctstate is CtState.UNTRACKED:
        return None
    number = journey.last_hop if hop is None else hop
    sent = next(s for s in journey.stops if s.hop == number).packet
    zone = zone_of(setting, journey.stops, number, sent.in_iface is not None)
    assert zone is not None, "where marks name zones nobody is asked for one"
    return zone[1] if journey.answers_one else zone[0]


def breaks(claim: c.PacketClaim, journey: Journey, setting: Setting) -> bool:
    """True iff the journey, of a packet that the premise speaks of, is surely not as the claim has it."""
    spoken = of_answer(journey, 0) if claim.premise.sent_back else journey
    if spoken is None:
        return False
    told = [holds(v, spoken, setting) for v in claim.verbs]
    return False in told if claim.quantifier is c.Quantifier.EVERY else all(x is True for x in told)


# -- premises -----------------------------------------------------------------------------------


def meets(premise: c.Premise, setting: Setting, sender: Sender, packet: Packet) -> bool:
    """True iff the packet, sent by the sender, is one that the premise speaks of.

    Interfaces and connection state are those that the host gives it; a proxy's dial is taken as one.
    """
    if not _sends(premise.who, sender):
        return False
    sent = as_sent(setting, sender, packet)
    match sender:
        case j.FromOutside():
            if not in_set(setting.host.outside, sent.src, setting):
                return False
            if not fields.fit(sent, fields_carried(setting), outside=True):
                return False
        case j.FromProcess(process):
            if not can_send(setting, process, sent):
                return False
        case j.FromProxy():
            pass
        case _:
            assert_never(sender)
    if (premise.established or setting.answers) and _is_to_itself(sent):
        return False
    return (
        _is_kind(premise, sent)
        and _meets_filter(premise.filter, sent, setting)
        and not any(_meets_filter(exception.filter, sent, setting) for exception in premise.exceptions)
    )


def meets_behind(premise: c.Premise, setting: Setting, earlier: j.Earlier, journey: Journey) -> bool:
    """True iff the earlier packet is one after which the premise speaks of packets too, and the journey's first packet is found
    in the entry that it has left, or may be; or the connection that it has opened stands, or may."""
    if earlier.opens:
        first = c.Premise(premise.who, c.Kind.CONNECTION)
    elif premise.after is not None:
        first = c.Premise(premise.after)
    else:
        return False
    if earlier.opens is not premise.established:
        return False
    return journey.behind and meets(first, setting, earlier.sender, earlier.packet)


def _sends(who: c.Who, sender: Sender) -> bool:
    match who:
        case c.Outside(interface):
            if not isinstance(sender, j.FromOutside):
                return False
            if interface is None:
                return sender.interface != routing.LOOPBACK_DEVICE
            return sender.interface == interface
        case c.OfProcess(process):
            return sender == j.FromProcess(process)
        case c.OfProxy(process, proxy):
            return sender == j.FromProxy(process, proxy)
        case _:
            assert_never(who)


def _is_to_itself(sent: Packet) -> bool:
    """True iff it goes to the address and port from which it comes: nobody has such a connection with another.  ICMP tells a
    question from its answer by the type."""
    pings = sent.proto == (ICMP if sent.family is Family.IPV4 else ICMPV6)
    return (sent.src, sent.sport) == (sent.dst, sent.dport) and not pings


def _is_kind(premise: c.Premise, sent: Packet) -> bool:
    if premise.established:
        return is_later(sent)
    if sent.ctstate is not CtState.NEW and not premise.any_state:
        return False
    match premise.kind:
        case c.Kind.PACKET:
            return True
        case c.Kind.CONNECTION:
            return sent.proto != TCP or sent.flags & _SYN_FLAGS == TcpFlag.SYN
        case _:
            assert_never(premise.kind)


_SYN_FLAGS = TcpFlag.SYN | TcpFlag.ACK | TcpFlag.RST | TcpFlag.FIN


def _meets_filter(wanted: c.Filter, sent: Packet, setting: Setting) -> bool:
    if wanted.protocol not in (None, sent.proto):
        return False
    if wanted.to is not None and not in_set(wanted.to, sent.dst, setting):
        return False
    if wanted.source is not None and not in_set(wanted.source, sent.src, setting):
        return False
    if wanted.ports:
        if sent.proto not in PORT_PROTOCOLS:
            return False
        if not any(span.first <= sent.dport <= span.last for span in wanted.ports):
            return False
    road = routing.roads(setting.host)
    if sent.ctstate is CtState.NEW and "connection" in fields_of(wanted.where):
        sent = replace(sent, connection=begun(sent))
    return all(matches.holds(literal.match, sent, road) != literal.negated for literal in wanted.where)


def in_set(addresses: AddressSet, address: int, setting: Setting) -> bool:
    """True iff the address is in one of the included terms (all are where none is given) and in no excluded one."""
    if addresses.included and not any(_in_term(term, address, setting) for term in addresses.included):
        return False
    return not any(_in_term(term, address, setting) for term in addresses.excluded)


def _in_term(term: AddressTerm, address: int, setting: Setting) -> bool:
    match term:
        case Net():
            return address & term.mask == term.address
        case Special.UNICAST:
            return ways.is_unicast(routing.roads(setting.host), address)
        case HostAddresses(host):
            raise AssertionError(f"the addresses of {host} are put in when a claim is bound")
        case _:
            assert_never(term)


# -- faring the same ------------------------------------------------------------------------------

Outcome: TypeAlias = tuple[str | int | None, ...]


def outcome(journey: Journey) -> Outcome:
    """What the journey came to, without rules and counters: two journeys fare the same iff these are equal."""
    end = journey.end
    match end:
        case j.Socket(process, listener):
            return ("socket", process, listener.port, listener.address, *_header(journey.final))
        case j.Kernel():
            return ("kernel", *_header(journey.final))
        case j.Refused():
            return ("refused", *_header(journey.final))
        case j.Dropped():
            return ("dropped",)
        case j.Rejected():
            return ("rejected", end.how)
        case j.Lost(reason):
            return ("lost", reason)
        case j.Left(interface):
            return ("left", interface, *_header(journey.final))
        case j.Loop():
            return ("loop",)
        case j.Group():
            return ("group", end.out, *(hook.value for hook in end.hooks), *_header(journey.final))
        case j.Returned(process):
            return ("returned", process, *_header(journey.final))
        case j.Onward():
            return ("onward",)
        case j.Unmodelled(reason):
            return ("unmodelled", reason)
        case _:
            assert_never(end)


def _header(p: Packet) -> Outcome:
    return p.src, p.dst, p.proto, p.sport, p.dport, p.flags, p.icmp_type, p.icmp_code, p.mark, p.ttl, p.tos
