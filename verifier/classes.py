"""What a counterexample stands for: which values the fields of its first packet may have besides, with the claim
still broken.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from . import claims as c
from .answers import Counterexample, Varies
from .journeys import FromProcess, FromProxy, Loop
from .prove import Case, Prover, Situation
from .symbolic import claims as symbolic
from .symbolic.chains import TooLarge
from .symbolic.packets import SymPacket, numbers_of
from .symbolic.terms import Bool, Bv, Outcome, Result
from .symbolic.travel import Journeys

FIELDS = ("sport", "src", "dport", "dst", "uid", "gid", "mark")

ADDRESSES = ("src", "dst")

MOST_EXCEPTIONS = 8
"""A field that may be anything but for so many values at most is told so."""


def stands_for(prover: Prover, claim: c.PacketClaim, found: Counterexample) -> tuple[Varies, ...]:
    """How the fields of the first packet may vary: each packet of the premise that varies in these alone breaks the claim.

    Fields are widened one after the other, each with the solver's word that nothing in the class so far is fine:
    first those that may be anything, then those with few exceptions, then those with a range around their value.  Of a packet
    behind an earlier one nothing is said, since with its fields those of the earlier one would have to vary.
    """
    if isinstance(found.sender, FromProxy) or found.earlier is not None:
        return ()
    prover = prover.carrying(claim.premise, claim.verbs)
    case = prover.case(Situation(found.sender))
    js = case.journeys
    last = found.journey.last_hop
    try:
        while js.depth <= last + 1:
            js.extend()
    except TooLarge:
        prover.forget()
        return ()
    natural = next((p for s, p in prover.declared() if s == found.sender), None)
    premise = claim.premise if found.hop == 0 else natural
    if premise is None:
        return ()
    held = _Class(prover, case, found, symbolic.meets(premise, js), _broken(js, claim, found))
    told: dict[str, Varies] = {}
    for widened in (_anything, _anything_but, _something_near):
        for name in FIELDS:
            if name in held.pinned and name not in told and not _is_constant(js.sent[0], name):
                varies = widened(held, name)
                if varies is not None and held.widen(varies):
                    told[name] = varies
    return tuple(told[name] for name in FIELDS if name in told)


class _Class:
    """Packets like the counterexample, of which each that the premise allows breaks the claim: what is pinned, field by field."""

    def __init__(
        self, prover: Prover, case: Case, found: Counterexample, premise: Bool, broken: Bool
    ) -> None:
        js = case.journeys
        self.packet = found.journey.stops[0].packet
        self.sent = js.sent[0]
        self.pinned: dict[str, Bool] = {
            name: getattr(self.sent, name).is_(value)
            for name in (*FIELDS, "proto", "flags", "icmp_type", "icmp_code")
            if (value := getattr(self.packet, name)) is not None
        }
        known = numbers_of(self.packet)
        self.pinned |= {name: term.is_(known[name]) for name, term in self.sent.rare.items()}
        device = js.names.index(self.packet.device) if isinstance(found.sender, FromProcess) else 0
        self.pinned["device"] = self.sent.device.is_(device)
        self._prover, self._case, self._premise, self._broken = prover, case, premise, broken

    def field(self, name: str) -> Bv:
        found: Bv = getattr(self.sent, name)
        return found

    def most(self, name: str) -> int:
        return (1 << self.field(name).width) - 1

    def value(self, name: str) -> int:
        found: int = getattr(self.packet, name)
        return found

    def _ask(self, name: str, *extra: Bool) -> Result:
        """Of the packets that are allowed, and in the class but for this field."""
        rest = (fact for other, fact in self.pinned.items() if other != name)
        return self._prover.ask(self._case, self._premise, *rest, *extra)

    def fine(self, varies: Varies) -> Result:
        """A packet that varies so, and else is of the class, and does not surely break the claim."""
        return self._ask(varies.field, self._where(varies), ~self._broken)

    def widen(self, varies: Varies) -> bool:
        """Let the field vary so; False iff the premise leaves it but one value there."""
        where = self._where(varies)
        several = self._ask(varies.field, where, ~self.pinned[varies.field]).outcome is Outcome.SAT
        self.pinned[varies.field] = where
        return several

    def _where(self, varies: Varies) -> Bool:
        field = self.field(varies.field)
        least = field.at_least(varies.first) & field.at_most(varies.last)
        return least & ~field.terms.any_of(field.is_(value) for value in varies.exceptions)


def _anything(held: _Class, name: str) -> Varies | None:
    varies = Varies(name, 0, held.most(name))
    return varies if held.fine(varies).outcome is Outcome.UNSAT else None


def _anything_but(held: _Class, name: str) -> Varies | None:
    varies = Varies(name, 0, held.most(name))
    while len(varies.exceptions) <= MOST_EXCEPTIONS:
        result = held.fine(varies)
        if result.outcome is Outcome.UNSAT:
            return varies
        if result.model is None:
            return None
        value = result.model.value(held.field(name))
        varies = replace(varies, exceptions=tuple(sorted((*varies.exceptions, value))))
    return None


def _something_near(held: _Class, name: str) -> Varies | None:
    """The largest prefix around an address, the widest range around a number, of which nothing is fine."""
    value, most = held.value(name), held.most(name)

    def breaks(varies: Varies) -> bool:
        return held.fine(varies).outcome is Outcome.UNSAT

    def prefix(low: int) -> Varies:
        """The addresses that are the same but for `low` bits."""
        return Varies(name, value >> low << low, value | ((1 << low) - 1))

    if name in ADDRESSES:
        bits = most.bit_length()
        found = prefix(bits - _least(0, bits, lambda length: breaks(prefix(bits - length))))
    else:
        first = _least(0, value, lambda n: breaks(Varies(name, n, value)))
        beyond = _least(0, most - value, lambda n: breaks(Varies(name, first, most - n)))
        found = Varies(name, first, most - beyond)
    return found if found.first < found.last else None


def _least(low: int, high: int, does: Callable[[int], bool]) -> int:
    """The least number from `low` on of which `does` holds, and of all beyond it; `high` does."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if does(middle) else (middle + 1, high)
    return low


def _is_constant(packet: SymPacket, name: str) -> bool:
    field: Bv = getattr(packet, name)
    return field.const is not None


def _broken(js: Journeys, claim: c.PacketClaim, found: Counterexample) -> Bool:
    """The packets that surely break the claim as this one does: at the same hop, and for a loop around the same cycle."""
    t = js.terms
    verdicts = symbolic.verdicts(claim, js, found.hop)
    if claim.quantifier is c.Quantifier.EVERY:
        broken = t.any_of(v.surely_not for v in verdicts)
    else:
        broken = t.all_of(v.surely for v in verdicts)
    if claim.premise.sent_back:
        broken = broken & symbolic.is_sent_back(js, found.hop).surely
    end = found.journey.end
    if isinstance(end, Loop) and any(isinstance(v, c.Ends) for v in claim.verbs):
        begin, again = js.states[end.back_to], js.states[found.journey.last_hop + 1]
        if begin is not None and again is not None:
            same = t.all_of(
                [
                    begin.proxy.is_(again.proxy),
                    begin.address.is_(again.address),
                    begin.port.is_(again.port),
                    begin.client.is_(again.client),
                ]
            )
            broken = broken | (js.onward[found.journey.last_hop + 1] & same)
    if found.hop:
        broken = broken & _dialled(js, claim, found.hop)
    return broken


def _dialled(js: Journeys, claim: c.PacketClaim, hop: int) -> Bool:
    """Hop `hop` is a dial of the proxy that the claim is about, and meets its premise."""
    who, state = claim.premise.who, js.states[hop]
    if not isinstance(who, c.OfProxy) or state is None:
        return js.terms.false
    index = next(i for i, (p, x) in enumerate(js.proxies) if (p.name, x.name) == (who.process, who.proxy))
    return js.onward[hop] & state.proxy.is_(index) & symbolic.meets(claim.premise, js, hop)
