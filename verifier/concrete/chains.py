"""How one packet goes through one table's built-in chain, and the chains that it calls.

Recursion with early return: a chain is a loop over its rules, and a jump is a call.
"""

from __future__ import annotations

from typing import TypeAlias, assert_never

from msgspec import Struct

from .. import rules as r
from ..hooks import Hook
from ..journeys import (
    TARGET,
    Act,
    CallPath,
    Choices,
    Dropped,
    End,
    Evaluation,
    Lost,
    Rejected,
    Site,
    Stop,
    Truth,
    Unmodelled,
)
from ..packets import Packet
from ..values import TCP, UDP
from . import matches, targets, tproxy
from .established import Accepted, socket_of
from .nat import MISPLACED
from .routing import Roads


class Record(Struct, frozen=True):
    """What is written down on the way: both lists only grow."""

    stops: list[Stop]
    asked: list[Evaluation]


class Visit(Struct, frozen=True):
    """One packet's visit to one table at one hook, and who writes down what happens."""

    hop: int
    hook: Hook
    table: r.Table
    road: Roads
    choices: Choices
    record: Record
    carried: frozenset[str] = frozenset()
    """The fields that the journey's packets carry."""
    any_host: bool = False
    """Whether the host is not known: then what only a host decides is a choice."""
    open_sockets: bool = False
    """Whether what `-m socket` finds is a choice: of an answer, and of what has been given a socket."""
    accepted: Accepted | None = None
    """The socket that has the packet's connection, where it is a later packet of one."""


Verdict: TypeAlias = r.Accept | End | None
"""Accept ends the table, an End ends the journey, None is a chain that ended or returned."""


def traverse(visit: Visit, packet: Packet) -> tuple[Packet, End | None]:
    """The packet after the hook's built-in chain of the visited table, and the journey's end if it ends there.

    RETURN in the built-in chain, and whatever a goto in it leads to without a verdict, is its policy
    (net/ipv4/netfilter/ip_tables.c: ipt_do_table).
    """
    name = visit.hook.value
    packet, verdict = _run(visit, name, packet, ())
    if verdict is not None:
        return packet, None if isinstance(verdict, r.Accept) else verdict
    _tell(visit, Act.POLICY, packet, name)
    if isinstance(visit.table.chains[name].policy, r.Drop):
        return packet, Dropped(visit.hook, visit.table.name, name, None)
    return packet, None


def _run(visit: Visit, name: str, packet: Packet, calls: CallPath) -> tuple[Packet, Verdict]:
    """The packet and the verdict after chain `name`, called by the rules `calls`."""
    _tell(visit, Act.ENTERED, packet, name)
    for number, rule in enumerate(visit.table.chains[name].rules, 1):
        truth = _truth(visit, rule, packet, calls, (name, number))
        if isinstance(truth, Unmodelled):
            return packet, truth
        match truth:
            case Truth.NO_MATCH:
                continue
            case Truth.DROP:
                return packet, Dropped(visit.hook, visit.table.name, name, number)
            case Truth.MATCH:
                pass
        target = rule.target
        after = _applied(visit, target, packet, (*calls, (name, number)))
        if not isinstance(after, Packet):
            _tell(visit, Act.MATCHED, packet, name, number)
            return packet, after or Dropped(visit.hook, visit.table.name, name, number)
        packet = after
        _tell(visit, Act.MATCHED, packet, name, number)
        match target:
            case (
                None | r.Log() | r.SetMark() | r.SetConnMark() | r.SaveMark() | r.RestoreMark() | r.NoTrack() | r.TrackAs()
                | r.ChangeTtl() | r.SetTos() | r.SetDscp() | r.ClampMss() | r.SetEntry()
            ):  # fmt: skip
                continue
            case r.Accept() | r.Redirect() | r.Dnat() | r.Snat() | r.Masquerade() | r.Netmap() | r.Tproxy():
                return packet, r.Accept()
            case r.Drop():
                return packet, Dropped(visit.hook, visit.table.name, name, number)
            case r.Reject(how):
                return packet, Rejected(visit.hook, visit.table.name, name, number, how)
            case r.Return():
                return packet, None
            case r.Jump(chain):
                packet, verdict = _run(visit, chain, packet, (*calls, (name, number)))
                if verdict is not None:
                    return packet, verdict
            case r.Goto(chain):
                # No frame is left behind: what the called chain returns to is this chain's own caller.
                return _run(visit, chain, packet, (*calls, (name, number)))
            case r.Queue() | r.OpaqueTarget():
                raise AssertionError("targets.applied has no packet for these")
            case _:
                assert_never(target)
    return packet, None


def _applied(
    visit: Visit, target: r.Target | None, packet: Packet, path: CallPath
) -> Packet | Lost | Unmodelled | None:
    """The packet after the target of the rule at the end of the path; None if it drops it."""
    if isinstance(target, r.Tproxy):
        return _given(visit, target, packet)
    question = Evaluation(visit.hop, visit.hook, visit.table.name, path, TARGET)
    drawn = visit.choices.translated.get(question, (None, None))
    return targets.applied(target, packet, visit.hook, visit.table.name, visit.road, visit.carried, drawn)


def _given(visit: Visit, target: r.Tproxy, packet: Packet) -> Packet | Unmodelled | None:
    """The packet with a socket, None where there is none for it."""
    if visit.table.name != "mangle" or visit.hook is not Hook.PREROUTING:
        return Unmodelled(MISPLACED)
    if visit.any_host or visit.open_sockets or packet.proto not in (TCP, UDP):
        return Unmodelled(tproxy.UNKNOWN)
    found = tproxy.socket_for(target, packet, visit.road, visit.accepted)
    if isinstance(found, Unmodelled):
        return found
    if found is None or not found[1].transparent:
        return None
    return targets.with_mark(packet, target.mark)


def _truth(visit: Visit, rule: r.Rule, packet: Packet, calls: CallPath, site: Site) -> Truth | Unmodelled:
    """Whether all literals hold; they are asked in order, and the first that does not hold is the last asked."""
    road = None if visit.any_host else visit.road
    for index, literal in enumerate(rule.literals):
        match = literal.match
        if isinstance(match, r.SocketMatch) and match.restore_mark:
            return Unmodelled(A_SOCKETS_MARK)
        if matches.is_choice(match, packet, road) or (
            visit.open_sockets and isinstance(match, r.SocketMatch)
        ):
            question = Evaluation(visit.hop, visit.hook, visit.table.name, (*calls, site), index)
            visit.record.asked.append(question)
            answer = visit.choices.opaque.get(question, Truth.NO_MATCH)
            if answer is Truth.DROP and isinstance(match, r.Opaque):
                return Truth.DROP
            if answer is not Truth.MATCH:
                return Truth.NO_MATCH
        elif _holds(visit, match, packet, road) == literal.negated:
            return Truth.NO_MATCH
    return Truth.MATCH


def _holds(visit: Visit, match: r.Match, packet: Packet, road: Roads | None) -> bool:
    """Whether the match holds; `-m socket` asks for the socket of a connection before a listener
    (net/ipv4/netfilter/nf_socket_ipv4.c: nf_socket_get_sock_v4)."""
    if isinstance(match, r.SocketMatch):
        its_own = socket_of(visit.accepted, packet, packet.in_iface)
        if its_own is not None:
            return its_own[1].transparent or not match.transparent
    return matches.holds(match, packet, road)


A_SOCKETS_MARK = "the mark of a socket"


def _tell(visit: Visit, act: Act, packet: Packet, chain: str, rule: int | None = None) -> None:
    visit.record.stops.append(
        Stop(visit.hop, act, packet, hook=visit.hook, table=visit.table.name, chain=chain, rule=rule)
    )
