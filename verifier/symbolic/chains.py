"""One table at one hook, for all packets at once: conditions are pushed through the rules in order.

Each rule sees the packets that reach it; those that match and those that do not go on apart, and meet
again after a jump.  A chain is gone through anew for each rule that calls it.
"""

from __future__ import annotations

from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from .. import rules as r
from ..asked import named
from ..hooks import Hook
from ..journeys import TARGET, Act, CallPath, Dropped, Evaluation, Lost, Rejected, Unmodelled
from ..values import TCP, UDP, MarkMask
from .journeys import Record, SymAsked, SymDraw, SymStop
from .lookups import asks_the_host, holds, intercepting, is_open
from .matches import is_choice
from .packets import Given, SymPacket
from .routing import Road
from .targets import NAT_HOOKS, Changing, Draw, NatTarget, changed, either, may_grow, translated, xored
from .terms import Bool

MISPLACED = "a NAT target where the kernel loads none"
TPROXY = "target Tproxy"

LARGEST = 200_000
"""Rules that one journey may go through before we say that it is too large to encode."""


class TooLarge(Exception):
    """The rule set is too large to be written as one formula."""


class Walk(Struct):
    """A table's traversal at one hook.  `accepted` collects the packets that a rule accepted, and `moved` is
    the packet with what NAT targets made of it, which the rest of this table does not see; `given` are the sockets that
    TPROXY gives.  `anywhere`: what the host decides is a choice.
    """

    table: r.Table
    hook: Hook
    hop: int
    road: Road
    anywhere: bool
    log: Record
    accepted: Bool
    moved: SymPacket
    given: list[Given] = []

    def through(self, name: str, reach: Bool, packet: SymPacket, path: CallPath) -> tuple[Bool, SymPacket]:
        """The packets of `reach` that leave the chain undecided, and the packet with the marks set in it."""
        self._note(reach, Act.ENTERED, packet, name)
        t = packet.terms
        back = t.false
        for number, rule in enumerate(self.table.chains[name].rules, 1):
            if reach.const is False:
                break
            site = (*path, (name, number))
            here, past = self._apply(rule, reach, packet, site)
            if here.const is False:
                reach = past
                continue
            if len(self.log.stops) > LARGEST:
                raise TooLarge(f"more than {LARGEST} rules on the way")
            match rule.target:
                case None | r.Log():
                    self._note(here, Act.MATCHED, packet, name, number)
                    reach = here | past
                case r.Accept():
                    self._note(here, Act.MATCHED, packet, name, number)
                    self.accepted = self.accepted | here
                    reach = past
                case r.Drop():
                    self._note(here, Act.MATCHED, packet, name, number)
                    self.log.end(here, self.hop, Dropped(self.hook, self.table.name, name, number), packet)
                    reach = past
                case r.Return():
                    self._note(here, Act.MATCHED, packet, name, number)
                    back = back | here
                    reach = past
                case r.Jump(chain):
                    self._note(here, Act.MATCHED, packet, name, number)
                    returned, packet = self.through(chain, here, packet, site)
                    reach = past | returned
                case r.Goto(chain):
                    self._note(here, Act.MATCHED, packet, name, number)
                    returned, packet = self.through(chain, here, packet, site)
                    back = back | returned
                    reach = past
                case r.Redirect() | r.Dnat() | r.Snat() | r.Masquerade() | r.Netmap():
                    self._translate(rule.target, here, packet, site)
                    reach = past
                case (
                    r.SetMark() | r.SetConnMark() | r.SaveMark() | r.RestoreMark() | r.ChangeTtl() | r.SetTos()
                    | r.SetDscp()
                ):  # fmt: skip
                    packet = self._change(rule.target, here, packet, name, number)
                    reach = here | past
                case r.NoTrack() | r.TrackAs():
                    if self.table.name == "raw":
                        packet = self._change(rule.target, here, packet, name, number)
                        reach = here | past
                    else:
                        self._lose(here, MISPLACED, packet, name, number)
                        reach = past
                case r.ClampMss():
                    self._note(here, Act.MATCHED, packet, name, number)
                    doubt = here & may_grow(packet)
                    self.log.end(doubt, self.hop, Unmodelled("whether TCPMSS adds an option"), packet)
                    reach = (here & ~doubt) | past
                case r.SetEntry():
                    self._note(here, Act.MATCHED, packet, name, number)
                    reach = here | past
                case r.Reject(how):
                    self._note(here, Act.MATCHED, packet, name, number)
                    end = Rejected(self.hook, self.table.name, name, number, how)
                    self.log.end(here, self.hop, end, packet)
                    reach = past
                case r.Tproxy():
                    packet = self._intercept(rule.target, here, packet, name, number)
                    reach = past
                case r.Queue():
                    self._lose(here, "a program decides", packet, name, number)
                    reach = past
                case r.OpaqueTarget(text):
                    self._lose(here, f"target {text}", packet, name, number)
                    reach = past
                case _:
                    assert_never(rule.target)
        return back | reach, packet

    def _apply(self, rule: r.Rule, reach: Bool, packet: SymPacket, site: CallPath) -> tuple[Bool, Bool]:
        """Of the packets in `reach`: those that match the rule, and those that pass it by."""
        t = packet.terms
        held = t.true
        dropped = t.false
        for position, literal in enumerate(rule.literals):
            match = literal.match
            if isinstance(match, r.SocketMatch) and match.restore_mark:
                lost = reach & held
                self.log.end(lost, self.hop, Unmodelled("the mark of a socket"), packet)
                dropped = dropped | lost
                held = t.false
            elif (
                is_choice(match)
                or (self.anywhere and asks_the_host(match))
                or (self.hop < 0 and isinstance(match, r.SocketMatch))
            ):
                asked = self._ask(reach & held, literal, site, position, packet)
                dropped = dropped | (asked.cond & asked.drops)
                held = held & asked.matches & ~asked.drops
            else:
                open_ = is_open(match, packet, self.road)
                answer = t.false
                if open_.const is not True:
                    true = holds(match, packet, self.road)
                    answer = ~true if literal.negated else true
                if open_.const is not False:
                    asked = self._ask(reach & held & open_, literal, site, position, packet)
                    answer = (open_ & asked.matches) | (~open_ & answer)
                held = held & answer
            if held.const is False:
                break
        return reach & held, reach & ~held & ~dropped

    def _ask(
        self, cond: Bool, literal: r.Literal, site: CallPath, position: int, packet: SymPacket
    ) -> SymAsked:
        """A fresh answer; only what is not understood may drop the packet."""
        name, number = site[-1]
        evaluation = Evaluation(self.hop, self.hook, self.table.name, site, position)
        t = packet.terms
        matches = t.unknown(self._variable("matches", evaluation))
        drops = t.false
        if isinstance(literal.match, r.Opaque):
            drops = t.unknown(self._variable("drops", evaluation))
        match = named(literal.match, self.road.host)
        asked = SymAsked(cond, evaluation, match, packet, matches, drops)
        self.log.asked.append(asked)
        self.log.end(cond & asked.drops, self.hop, Dropped(self.hook, self.table.name, name, number), packet)
        return asked

    def _variable(self, what: str, at: Evaluation) -> str:
        """The name of a variable of this evaluation."""
        return f"{what} {self.log.prefix}{at.hop} {at.hook.value} {at.table} {at.path} {at.literal}"

    def _change(self, target: Changing, here: Bool, packet: SymPacket, name: str, number: int) -> SymPacket:
        """The packet after a target that goes on, for those that match."""
        after = changed(target, packet)
        self._note(here, Act.MATCHED, after, name, number)
        return either(here, after, packet)

    def _lose(self, here: Bool, why: str, packet: SymPacket, name: str, number: int) -> None:
        self._note(here, Act.MATCHED, packet, name, number)
        self.log.end(here, self.hop, Unmodelled(why), packet)

    def _intercept(
        self, target: r.Tproxy, here: Bool, packet: SymPacket, name: str, number: int
    ) -> SymPacket:
        """The packet as later rules see it; those that are given a socket are accepted, and those that find none dropped."""
        if self.table.name != "mangle" or self.hook is not Hook.PREROUTING:
            self._lose(here, MISPLACED, packet, name, number)
            return packet
        if self.hop < 0 or self.anywhere:
            self._lose(here, TPROXY, packet, name, number)
            return packet
        looks = packet.proto.is_(TCP) | packet.proto.is_(UDP)
        self._lose(here & ~looks, TPROXY, packet, name, number)
        sought = intercepting(target, packet, self.road)
        self._lose(here & sought.doubt, TPROXY, packet, name, number)
        found = [replace(g, cond=here & g.cond, its_own=here & g.its_own) for g in sought.given]
        got = packet.terms.any_of(g.cond for g in found)
        marked = packet if target.mark == MarkMask(0, 0) else packet.but(mark=xored(packet.mark, target.mark))
        self._note(got, Act.MATCHED, marked, name, number)
        nobody = here & looks & ~got & ~sought.doubt
        self._note(nobody, Act.MATCHED, packet, name, number)
        self.log.end(nobody, self.hop, Dropped(self.hook, self.table.name, name, number), packet)
        self.accepted = self.accepted | got
        self.given += found
        return either(got, marked, packet)

    def _translate(self, target: NatTarget, here: Bool, packet: SymPacket, site: CallPath) -> None:
        t = packet.terms
        name, number = site[-1]
        if self.table.name != "nat" or self.hook not in NAT_HOOKS[type(target)]:
            self._lose(here, MISPLACED, packet, name, number)
            return
        evaluation = Evaluation(self.hop, self.hook, self.table.name, site, TARGET)
        draw = Draw(lambda what, width: t.variable(self._variable(what, evaluation), width))
        found = translated(target, packet, self.hook, self.road, draw)
        self._note(here, Act.MATCHED, found.packet, name, number)
        self.log.end(here & found.nowhere, self.hop, Lost(found.why), packet)
        self.log.end(here & found.unknown, self.hop, Unmodelled(found.doubt), packet)
        done = here & ~found.nowhere & ~found.unknown
        self.accepted = self.accepted | done
        self.moved = either(done, found.packet, self.moved)
        if draw.address is not None or draw.port is not None:
            self.log.facts += draw.facts
            self.log.draws.append(SymDraw(here, evaluation, target, packet, draw.address, draw.port))

    def _note(self, cond: Bool, act: Act, packet: SymPacket, chain: str, rule: int | None = None) -> None:
        self.log.stop(SymStop(cond, self.hop, act, packet, self.hook, self.table.name, chain, rule))


def traverse(
    table: r.Table,
    hook: Hook,
    hop: int,
    road: Road,
    log: Record,
    reach: Bool,
    packet: SymPacket,
    *,
    anywhere: bool = False,
) -> tuple[Bool, SymPacket]:
    """Of the packets in `reach`: those that the table lets through at this hook, and the packet afterwards.

    `anywhere`: the host is any, so that what it decides is a choice.
    """
    t = packet.terms
    chain = table.chains.get(hook.value)
    if chain is None or reach.const is False:
        return reach, packet
    walk = Walk(table, hook, hop, road, anywhere, log, t.false, packet, [])
    undecided, after = walk.through(chain.name, reach, packet, ())
    log.stop(SymStop(undecided, hop, Act.POLICY, after, hook, table.name, chain.name))
    passed = walk.accepted
    if isinstance(chain.policy, r.Drop):
        log.end(undecided, hop, Dropped(hook, table.name, chain.name, None), after)
    else:
        passed = passed | undecided
    moved = _moved(after, walk.moved, packet)
    return passed, moved.handed(walk.given) if walk.given else moved


def _moved(after: SymPacket, moved: SymPacket, start: SymPacket) -> SymPacket:
    """The packet as the table leaves it, with the header and the reply that NAT targets made."""
    if moved is start:
        return after
    packet = after.but(src=moved.src, dst=moved.dst, sport=moved.sport, dport=moved.dport)
    if after.connection is None or moved.connection is None:
        return packet
    return packet.tracked(after.connection.but(reply=moved.connection.reply, status=moved.connection.status))
