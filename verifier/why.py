"""The rule that would have saved it: a rule that the packet missed by one condition alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from . import rules as r
from .concrete import matches
from .concrete.travel import travel
from .hosts import Setting
from .journeys import Act, FromOutside, FromProcess, Journey, Stop
from .packets import Packet
from .values import spell_address


@dataclass(frozen=True, slots=True)
class NearMiss:
    """A rule that was passed by for one condition, with which the claim would hold."""

    stop: int
    """The stop of the journey, counted from 0, at which the packet came into the rule's chain."""
    table: str
    chain: str
    rule: int
    condition: str
    """What did not hold, as `source 127.0.0.1 is not 127.0.0.6`."""
    had: str
    """What would have been needed, as `the source been 127.0.0.6`."""


def near_miss(
    setting: Setting, journey: Journey, hop: int, broken: Callable[[Journey], bool]
) -> NearMiss | None:
    """The first rule, from hop `hop` on, without whose one failed condition the claim would not be broken."""
    for index, stop in enumerate(journey.stops):
        if stop.hop < hop or stop.act is not Act.ENTERED or stop.table is None or stop.chain is None:
            continue
        rules = setting.rules.tables[stop.table].chains[stop.chain].rules
        for number in range(1, _taken(journey, index, len(rules)) + 1):
            found = _one_condition(rules[number - 1], stop.packet)
            if found is None:
                continue
            packet, condition, had = found
            sent = next(s for s in journey.stops if s.hop == stop.hop)
            changed = _again(setting, sent, packet)
            if changed is not None and not broken(changed) and _matched(changed, stop, number):
                return NearMiss(index, stop.table, stop.chain, number, condition, had)
    return None


def _taken(journey: Journey, entered: int, last: int) -> int:
    """How many rules of the chain were passed by before the first that matched."""
    stop = journey.stops[entered]
    for other in journey.stops[entered + 1 :]:
        if (other.hop, other.table, other.chain) != (stop.hop, stop.table, stop.chain):
            break
        if other.act is Act.MATCHED and other.rule is not None:
            return other.rule - 1
    return last


def _one_condition(rule: r.Rule, p: Packet) -> tuple[Packet, str, str] | None:
    """The packet with the one failed condition met, what failed, and what would have been needed."""
    if any(isinstance(lit.match, r.Opaque) for lit in rule.literals):
        return None
    failed = [lit for lit in rule.literals if matches.holds(lit.match, p) == lit.negated]
    if len(failed) != 1 or failed[0].negated:
        return None
    match failed[0].match:
        case r.Source(net):
            wanted = spell_address(net.address) if net.length == 32 else str(net)
            said = f"source {spell_address(p.src)} is not {wanted}"
            return replace(p, src=net.address), said, f"the source been {wanted}"
        case r.Destination(net):
            wanted = spell_address(net.address) if net.length == 32 else str(net)
            said = f"destination {spell_address(p.dst)} is not {wanted}"
            return replace(p, dst=net.address), said, f"the destination been {wanted}"
        case r.DestinationPorts(ports):
            said = f"destination port {p.dport} is not {ports}"
            return replace(p, dport=ports.first), said, f"the destination port been {ports}"
        case r.OwnerIds(uid, negated, None) if uid is not None and not negated and p.uid is not None:
            return replace(p, uid=uid.first), f"uid {p.uid} is not {uid}", f"the uid been {uid}"
        case r.OwnerIds(None, _, gid, negated) if gid is not None and not negated and p.gid is not None:
            return replace(p, gid=gid.first), f"gid {p.gid} is not {gid}", f"the gid been {gid}"
        case _:
            return None


def _again(setting: Setting, sent: Stop, packet: Packet) -> Journey | None:
    """The journey of the changed packet, sent anew as the hop's was."""
    before = sent.packet
    first = replace(before, src=packet.src, dst=packet.dst, dport=packet.dport)
    if packet.uid is not None:
        first = replace(first, uid=packet.uid, gid=packet.gid)
    if sent.process is None:
        return travel(setting, FromOutside(str(before.in_iface)), first)
    return travel(setting, FromProcess(sent.process), first)


def _matched(journey: Journey, stop: Stop, number: int) -> bool:
    return any(
        s.act is Act.MATCHED and (s.table, s.chain, s.rule) == (stop.table, stop.chain, number)
        for s in journey.stops
    )
