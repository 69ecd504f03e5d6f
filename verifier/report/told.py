"""A journey as numbered lines: what a person reads of a counterexample or a trace."""

from __future__ import annotations

import os
from collections.abc import Iterator

from msgspec import Struct

from .. import rules as r
from .. import spell
from ..asked import named
from ..hosts import Setting
from ..journeys import Act, Choices, Journey, Loop, Rejected, Stop, Truth, Unmodelled, answer_to
from ..packets import Packet
from ..sets import members
from ..values import CtState, Place, TcpFlag, bracketed, spell_address
from ..why import NearMiss
from ..wording import end_of, flow, say_end, source_of


class Line(Struct, frozen=True):
    """One line of a told journey: where, which rule, what, and the place in the rules file."""

    where: str
    rule: str = ""
    text: str = ""
    place: str = ""


def lines(journey: Journey, setting: Setting, miss: NearMiss | None = None) -> list[Line]:
    """The journey in order: who sends, the rules taken, what changed, who got it, and the end."""
    out: list[Line] = []
    last: Packet | None = None
    tracked = _tracked_at(journey)
    for index, stop in enumerate(journey.stops):
        if index == tracked:
            out.append(_found(journey))
        out += _of_stop(stop, last, setting, journey)
        last = stop.packet
        after = journey.stops[index + 1].hop if index + 1 < len(journey.stops) else None
        if stop.hop < 0 and after != stop.hop:
            what = "rejection" if _is_rejection(stop, journey) else "answer"
            out.append(Line("", "", f"the {what} {say_end(journey.answers[answer_to(stop.hop)])}"))
        if miss is not None and miss.stop == index:
            place = rule_at(setting, miss.table, miss.chain, miss.rule).place
            out.append(
                Line(
                    f"{miss.table}/{miss.chain}",
                    f"rule {miss.rule}",
                    f"no match: {miss.condition}",
                    spell_place(place),
                )
            )
    if tracked == len(journey.stops):
        out.append(_found(journey))
    end = say_end(journey.end)
    if isinstance(journey.end, Loop):
        number = next(i for i, line in enumerate(_starts(journey), 1) if line == journey.end.back_to)
        end = f"loop: from here on as from the {ordinal(number)} packet ↺"
    out.append(Line("end", "", end))
    return out


def _tracked_at(journey: Journey) -> int | None:
    """The stop before which conntrack finds the first packet in an earlier one's entry."""
    if not journey.behind:
        return None
    stops = [(n, s) for n, s in enumerate(journey.stops) if s.act is not Act.SENT and s.table != "raw"]
    if _opened(journey) and not (stops and stops[0][1].packet.ctstate is CtState.ESTABLISHED):
        return None
    return stops[0][0] if stops else len(journey.stops)


def _opened(journey: Journey) -> bool:
    """The earlier packet has opened the connection of the first one."""
    return journey.earlier is not None and bool(journey.earlier.answers)


def _found(journey: Journey) -> Line:
    if _opened(journey):
        return Line("conntrack", "", "finds its connection: nat is not asked")
    takes = "may take" if isinstance(journey.end, Unmodelled) else "takes"
    return Line("conntrack", "", f"{takes} it for a packet of the earlier one's connection: nat is not asked")


def _is_rejection(stop: Stop, journey: Journey) -> bool:
    """What is sent back for the hop that a rule has rejected is no answer."""
    return isinstance(journey.end, Rejected) and answer_to(stop.hop) == journey.last_hop


def chances(journey: Journey, choices: Choices, setting: Setting) -> Iterator[str]:
    """What was left to chance on the way, and how it fell out."""
    for asked in journey.asked:
        chain, number = asked.path[-1]
        literal = rule_at(setting, asked.table, chain, number).literals[asked.literal]
        if isinstance(named(literal.match, setting.host), r.Chance):
            holds = choices.opaque.get(asked) is Truth.MATCH
            said = ("holds" if holds else "does not hold") + _by_time(literal, holds, setting)
            yield f"{spell.literals((literal,))}: {said} ({asked.table}/{chain} rule {number})"


def _by_time(literal: r.Literal, holds: bool, setting: Setting) -> str:
    """When what a set holds is as it was chosen, where time alone decides it."""
    match literal.match:
        case r.MatchSet(name, packets=None, bytes=None):
            s = setting.host.sets[name]
            if any(e.nomatch for x in (s, *(setting.host.sets[m] for m in members(s))) for e in x.entries):
                return " at one time or another, as entries go"
            return " while its entry is there" if holds != literal.negated else " when its entry has gone"
        case _:
            return ""


def _starts(journey: Journey) -> Iterator[int]:
    for stop in journey.stops:
        if stop.act is Act.SENT:
            yield stop.hop


def ordinal(number: int) -> str:
    return {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth"}.get(number, f"{number}th")


def _of_stop(stop: Stop, last: Packet | None, setting: Setting, journey: Journey) -> Iterator[Line]:
    match stop.act:
        case Act.SENT if stop.hop < 0:
            by = f"{stop.process} answers" if stop.process else "the kernel answers"
            if _is_rejection(stop, journey):
                by = "REJECT answers"
            if stop.packet.in_iface is not None:
                by = f"answer on {stop.packet.in_iface}"
            yield Line(by, "", flow(stop.packet) + (owner(stop.packet) if stop.process else ""))
        case Act.TRANSLATED if last is not None:
            yield from _changes(last, stop.packet)
        case Act.SENT:
            if stop.process is None:
                yield Line(f"arrives on {stop.packet.in_iface}", "", flow(stop.packet))
            else:
                verb = "connects" if stop.hop else "sends"
                yield Line(f"{stop.process} {verb}", "", f"{flow(stop.packet)}{owner(stop.packet)}")
        case Act.MATCHED if stop.table is not None and stop.chain is not None and stop.rule is not None:
            rule = rule_at(setting, stop.table, stop.chain, stop.rule)
            text = spell.rule(stop.chain, rule, setting.rules.family).removeprefix(f"-A {stop.chain}").strip()
            yield Line(
                f"{stop.table}/{stop.chain}",
                f"rule {stop.rule}",
                text or "(no condition)",
                spell_place(rule.place),
            )
            if last is not None:
                yield from _changes(last, stop.packet)
        case Act.POLICY if stop.table is not None and stop.chain is not None:
            policy = setting.rules.tables[stop.table].chains[stop.chain].policy
            if isinstance(policy, r.Drop):
                yield Line(f"{stop.table}/{stop.chain}", "policy", "DROP")
        case Act.ROUTED if stop.where not in ("input", "forward"):
            yield Line("routing", "", f"sent again, now by {stop.where}")
        case Act.ROUTED if stop.where == "forward":
            yield Line("routing", "", f"forwarded to {stop.packet.out_iface}")
        case Act.DELIVERED:
            state = journey.states[stop.hop] if 0 <= stop.hop < len(journey.states) else None
            if isinstance(journey.end, Loop) and state is None and stop.hop >= 0:
                state = journey.states[journey.end.back_to - 1]
            original = (
                f", original destination {bracketed(state.address, stop.packet.family)}:{state.port}"
                if state
                else ""
            )
            port = stop.listener.port if stop.listener else 0
            verb = (
                "accepts"
                if stop.packet.flags & (TcpFlag.SYN | TcpFlag.ACK | TcpFlag.RST) == TcpFlag.SYN
                else "gets it"
            )
            yield Line(
                f"{stop.process} {verb} on {port}",
                "",
                f"from {spell_address(stop.packet.src, stop.packet.family)}{original}",
            )
        case _:
            return


def _changes(before: Packet, after: Packet) -> Iterator[Line]:
    if (after.dst, after.dport) != (before.dst, before.dport):
        yield Line("", "", f"destination {end_of(before)} ⟶ {end_of(after)}")
    if (after.src, after.sport) != (before.src, before.sport):
        yield Line("", "", f"source {source_of(before)} ⟶ {source_of(after)}")
    if after.mark != before.mark:
        yield Line("", "", f"mark {before.mark:#x} ⟶ {after.mark:#x}")


def spell_place(place: Place) -> str:
    """File and line, the file as seen from here."""
    return f"{spell_file(place)}:{place.line}" if place.line else ""


def spell_file(place: Place) -> str:
    """The file as seen from here."""
    return os.path.relpath(place.file)


def rule_at(setting: Setting, table: str, chain: str, rule: int) -> r.Rule:
    return setting.rules.tables[table].chains[chain].rules[rule - 1]


def owner(p: Packet) -> str:
    words = f"  (uid {p.uid} gid {p.gid}" if p.uid is not None else "  ("
    if p.device:
        words += f" bound to {p.device}"
    return f"{words}, out {p.out_iface or '-'})"
