"""What a counterexample stands for: the fields of its first packet that may have any other value, with the
claim still broken.
"""

from __future__ import annotations

from . import claims as c
from .answers import Counterexample
from .journeys import FromProcess, FromProxy, Loop
from .prove import Prover
from .symbolic import claims as symbolic
from .symbolic.chains import TooLarge
from .symbolic.packets import SymPacket, numbers_of
from .symbolic.terms import Bool, Bv, Outcome
from .symbolic.travel import Journeys

FIELDS = {
    "sport": "source port",
    "src": "source address",
    "dport": "destination port",
    "dst": "destination address",
    "uid": "uid",
    "gid": "gid",
    "mark": "mark",
}


def stands_for(prover: Prover, claim: c.PacketClaim, found: Counterexample) -> tuple[str, ...]:
    """The fields, in words, that together may have any value that the premise allows: each such packet breaks the claim.

    Fields are freed one after the other, each with the solver's word that nothing in the class so far is fine.
    """
    if isinstance(found.sender, FromProxy):
        return ()
    prover = prover.carrying(claim.premise)
    case = prover.case(found.sender)
    js = case.journeys
    last = found.journey.stops[-1].hop
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
    sent = symbolic.meets(premise, js)
    broken = _broken(js, claim, found)
    packet = found.journey.stops[0].packet
    pinned: dict[str, Bool] = {
        name: getattr(js.sent[0], name).is_(value)
        for name in (*FIELDS, "proto", "flags", "icmp_type", "icmp_code")
        if (value := getattr(packet, name)) is not None
    }
    known = numbers_of(packet)
    pinned |= {name: term.is_(known[name]) for name, term in js.sent[0].rare.items()}
    device = js.names.index(packet.device) if isinstance(found.sender, FromProcess) else 0
    pinned["device"] = js.sent[0].device.is_(device)
    free: list[str] = []
    for name in FIELDS:
        if name not in pinned or _is_constant(js.sent[0], name):
            continue
        rest = [fact for other, fact in pinned.items() if other != name]
        if prover.ask(case, sent, *rest, ~broken).outcome is Outcome.UNSAT:
            several = prover.ask(case, sent, *rest, ~pinned[name]).outcome is Outcome.SAT
            del pinned[name]
            if several:
                free.append(FIELDS[name])
    return tuple(free)


def _is_constant(packet: SymPacket, name: str) -> bool:
    field: Bv = getattr(packet, name)
    return field.const is not None


def _broken(js: Journeys, claim: c.PacketClaim, found: Counterexample) -> Bool:
    """The packets that surely break the claim as this one does: at the same hop, and for a loop around the same cycle."""
    t = js.terms
    verdicts = [symbolic.verdict(v, js, found.hop) for v in claim.verbs]
    if claim.quantifier is c.Quantifier.EVERY:
        broken = t.any_of(v.surely_not for v in verdicts)
    else:
        broken = t.all_of(v.surely for v in verdicts)
    end = found.journey.end
    if isinstance(end, Loop) and any(isinstance(v, c.Ends) for v in claim.verbs):
        begin, again = js.states[end.back_to], js.states[found.journey.stops[-1].hop + 1]
        if begin is not None and again is not None:
            same = t.all_of(
                [
                    begin.proxy.is_(again.proxy),
                    begin.address.is_(again.address),
                    begin.port.is_(again.port),
                    begin.client.is_(again.client),
                ]
            )
            broken = broken | (js.onward[found.journey.stops[-1].hop + 1] & same)
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
