"""One table at one hook, for all packets at once: conditions are pushed through the rules in order.

Each rule sees the packets that reach it; those that match and those that do not go on apart, and meet
again after a jump.  A chain is gone through anew for each rule that calls it.
"""

from __future__ import annotations

from typing import assert_never

from msgspec import Struct

from .. import rules as r
from ..hooks import Hook
from ..hosts import Host
from ..journeys import NO_ADDRESS, Act, CallPath, Dropped, Evaluation, Lost, Rejected, Unmodelled
from .journeys import Record, SymAsked, SymStop
from .matches import holds, is_choice
from .packets import Names, SymPacket
from .targets import marked, redirected, translated
from .terms import Bool

NAT_HOOKS = (Hook.PREROUTING, Hook.OUTPUT)

LARGEST = 200_000
"""Rules that one journey may go through before we say that it is too large to encode."""


class TooLarge(Exception):
    """The rule set is too large to be written as one formula."""


class Walk(Struct):
    """A table's traversal at one hook.  `accepted` collects the packets that a rule accepted, and `moved` is
    the packet with what NAT targets made of it, which the rest of this table does not see.
    """

    table: r.Table
    hook: Hook
    hop: int
    host: Host
    names: Names
    log: Record
    accepted: Bool
    moved: SymPacket

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
                case r.Redirect() | r.Dnat():
                    self._translate(rule.target, here, packet, name, number)
                    reach = past
                case r.SetMark():
                    after = marked(rule.target, packet)
                    self._note(here, Act.MATCHED, after, name, number)
                    packet = packet.but(mark=t.choose(here, after.mark, packet.mark))
                    reach = here | past
                case r.Reject(how):
                    self._note(here, Act.MATCHED, packet, name, number)
                    end = Rejected(self.hook, self.table.name, name, number, how)
                    self.log.end(here, self.hop, end, packet)
                    reach = past
                case r.OpaqueTarget(text):
                    self._note(here, Act.MATCHED, packet, name, number)
                    self.log.end(here, self.hop, Unmodelled(f"target {text}"), packet)
                    reach = past
                case (
                    r.Snat() | r.Masquerade() | r.Netmap() | r.Tproxy() | r.SetConnMark() | r.SaveMark()
                    | r.RestoreMark() | r.NoTrack() | r.TrackAs() | r.ChangeTtl() | r.SetTos() | r.SetDscp()
                    | r.ClampMss() | r.SetEntry() | r.Queue()
                ):  # fmt: skip
                    self._note(here, Act.MATCHED, packet, name, number)
                    self.log.end(here, self.hop, Unmodelled(f"target {type(rule.target).__name__}"), packet)
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
            if is_choice(literal.match):
                asked = self._ask(reach & held, literal, site, position, packet)
                dropped = dropped | (asked.cond & asked.drops)
                held = held & asked.matches & ~asked.drops
            else:
                true = holds(literal.match, packet, self.names)
                held = held & (~true if literal.negated else true)
            if held.const is False:
                break
        return reach & held, reach & ~held & ~dropped

    def _ask(
        self, cond: Bool, literal: r.Literal, site: CallPath, position: int, packet: SymPacket
    ) -> SymAsked:
        name, number = site[-1]
        evaluation = Evaluation(self.hop, self.hook, self.table.name, site, position)
        key = f"{self.log.prefix}{self.hop} {self.hook.value} {self.table.name} {site} {position}"
        t = packet.terms
        matches, drops = t.unknown(f"matches {key}"), t.unknown(f"drops {key}")
        asked = SymAsked(cond, evaluation, literal.match, packet, matches, drops)
        self.log.asked.append(asked)
        self.log.end(cond & asked.drops, self.hop, Dropped(self.hook, self.table.name, name, number), packet)
        return asked

    def _translate(
        self, target: r.Redirect | r.Dnat, here: Bool, packet: SymPacket, name: str, number: int
    ) -> None:
        t = packet.terms
        if self.table.name != "nat" or self.hook not in NAT_HOOKS:
            self._note(here, Act.MATCHED, packet, name, number)
            self.log.end(here, self.hop, Unmodelled("a NAT target where the kernel loads none"), packet)
            return
        if _is_range(target):
            self._note(here, Act.MATCHED, packet, name, number)
            self.log.end(here, self.hop, Unmodelled("which of a range a NAT target takes"), packet)
            return
        if isinstance(target, r.Redirect):
            after, nowhere = redirected(target, packet, self.hook, self.host, self.names)
        else:
            after, nowhere = translated(target, packet), t.false
        self._note(here, Act.MATCHED, after, name, number)
        self.log.end(here & nowhere, self.hop, Lost(NO_ADDRESS), packet)
        done = here & ~nowhere
        self.accepted = self.accepted | done
        self.moved = self.moved.but(
            dst=t.choose(done, after.dst, self.moved.dst), dport=t.choose(done, after.dport, self.moved.dport)
        )

    def _note(self, cond: Bool, act: Act, packet: SymPacket, chain: str, rule: int | None = None) -> None:
        self.log.stop(SymStop(cond, self.hop, act, packet, self.hook, self.table.name, chain, rule))


def _is_range(target: r.Redirect | r.Dnat) -> bool:
    if isinstance(target, r.Redirect):
        return target.ports is not None and target.ports.first < target.ports.last
    return target.to.first != target.to.last or (target.to.ports is not None and target.to.port is None)


def traverse(
    table: r.Table,
    hook: Hook,
    hop: int,
    host: Host,
    names: Names,
    log: Record,
    reach: Bool,
    packet: SymPacket,
) -> tuple[Bool, SymPacket]:
    """Of the packets in `reach`: those that the table lets through at this hook, and the packet afterwards."""
    t = packet.terms
    chain = table.chains.get(hook.value)
    if chain is None or reach.const is False:
        return reach, packet
    walk = Walk(table, hook, hop, host, names, log, t.false, packet)
    undecided, after = walk.through(chain.name, reach, packet, ())
    log.stop(SymStop(undecided, hop, Act.POLICY, after, hook, table.name, chain.name))
    passed = walk.accepted
    if isinstance(chain.policy, r.Drop):
        log.end(undecided, hop, Dropped(hook, table.name, chain.name, None), after)
    else:
        passed = passed | undecided
    return passed, after.but(dst=walk.moved.dst, dport=walk.moved.dport)
