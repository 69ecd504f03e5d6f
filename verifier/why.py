"""The rule that would have saved it: a rule that the packet missed by one condition alone."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from . import claims as c
from . import rules as r
from .answers import Counterexample
from .concrete import claims as concrete
from .concrete import matches
from .concrete.routing import Roads, roads
from .concrete.travel import travel
from .hosts import Setting
from .journeys import Act, FromOutside, FromProcess, Journey, Sender, Stop
from .packets import Packet
from .values import spell_address


class NearMiss(Struct, frozen=True):
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


def near_miss(setting: Setting, claim: c.PacketClaim, found: Counterexample) -> NearMiss | None:
    """A rule without whose one failed condition the claim would not be broken; of the last hop before others, and there the first.

    The packet that it would have matched breaks the claim as soon as the rule does nothing; and where that
    packet is the first, it is one of the claim's premise.
    """
    journey = found.journey
    answers, rejections = c.asks_for_answers(claim.premise, claim.verbs), claim.premise.rejection
    setting = replace(setting, answers=answers, rejections=rejections)
    for hop in range(journey.last_hop, found.hop - 1, -1):
        for index, stop in enumerate(journey.stops):
            if stop.hop == hop and stop.act is Act.ENTERED:
                for miss, sender, changed in _misses(setting, journey, index):
                    spoken_of = hop > 0 or concrete.meets(claim.premise, setting, sender, changed)
                    if spoken_of and _would_save(setting, claim, miss, sender, changed):
                        return miss
    return None


def _misses(setting: Setting, journey: Journey, entered: int) -> Iterator[tuple[NearMiss, Sender, Packet]]:
    """The rules of the chain entered at this stop that were missed by one condition, with the packet that
    meets it, sent anew as the hop's was."""
    stop = journey.stops[entered]
    assert stop.table is not None, "a chain is entered in a table"
    assert stop.chain is not None, "a chain that is entered has a name"
    rules = setting.rules.tables[stop.table].chains[stop.chain].rules
    road = roads(setting.host)
    sent = next(s for s in journey.stops if s.hop == stop.hop)
    for number, rule in enumerate(rules[: _passed(journey, entered, len(rules))], 1):
        missed = _one_condition(rule, stop.packet, road)
        if missed is not None:
            packet, condition, had = missed
            yield NearMiss(entered, stop.table, stop.chain, number, condition, had), *_again(sent, packet)


def _would_save(
    setting: Setting, claim: c.PacketClaim, miss: NearMiss, sender: Sender, packet: Packet
) -> bool:
    journey = travel(setting, sender, packet)
    matched = any(
        s.act is Act.MATCHED and (s.table, s.chain, s.rule) == (miss.table, miss.chain, miss.rule)
        for s in journey.stops
    )
    if not matched or concrete.breaks(claim, journey, setting):
        return False
    idle = _idle(setting, miss)
    return concrete.breaks(claim, travel(idle, sender, packet), idle)


def _idle(setting: Setting, miss: NearMiss) -> Setting:
    """The setting with this rule without a target."""
    table = setting.rules.tables[miss.table]
    chain = table.chains[miss.chain]
    rules = list(chain.rules)
    rules[miss.rule - 1] = replace(rules[miss.rule - 1], target=None)
    chains = {**table.chains, miss.chain: replace(chain, rules=tuple(rules))}
    tables = {**setting.rules.tables, miss.table: replace(table, chains=chains)}
    return replace(setting, rules=replace(setting.rules, tables=tables))


def _passed(journey: Journey, entered: int, last: int) -> int:
    """How many rules of the chain were passed by before the first that matched."""
    stop = journey.stops[entered]
    for other in journey.stops[entered + 1 :]:
        if (other.hop, other.table, other.chain) != (stop.hop, stop.table, stop.chain):
            break
        if other.act is Act.MATCHED and other.rule is not None:
            return other.rule - 1
    return last


def _one_condition(rule: r.Rule, p: Packet, road: Roads) -> tuple[Packet, str, str] | None:
    """The packet with the one failed condition met, what failed, and what would have been needed."""
    if any(matches.is_choice(lit.match, p, road) for lit in rule.literals):
        return None
    failed = [lit for lit in rule.literals if matches.holds(lit.match, p, road) == lit.negated]
    if len(failed) != 1 or failed[0].negated:
        return None
    match failed[0].match:
        case r.Source(net):
            wanted = spell_address(net.address, net.family) if net.length == net.family.bits else str(net)
            said = f"source {spell_address(p.src, p.family)} is not {wanted}"
            return replace(p, src=net.address), said, f"the source been {wanted}"
        case r.Destination(net):
            wanted = spell_address(net.address, net.family) if net.length == net.family.bits else str(net)
            said = f"destination {spell_address(p.dst, p.family)} is not {wanted}"
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


def _again(sent: Stop, packet: Packet) -> tuple[Sender, Packet]:
    """The changed packet, as the hop's sender would send it."""
    first = replace(sent.packet, src=packet.src, dst=packet.dst, dport=packet.dport)
    if packet.uid is not None:
        first = replace(first, uid=packet.uid, gid=packet.gid)
    if sent.process is None:
        return FromOutside(str(first.in_iface)), first
    return FromProcess(sent.process), first
