"""What holds of all formulas of journeys, whoever sends and whatever is told of what comes back."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator

from verifier.hosts import Setting
from verifier.journeys import ProxyState, Sender, answer_to
from verifier.packets import Packet
from verifier.symbolic.packets import values_of
from verifier.symbolic.terms import Bool, Bv, Outcome, Solver, Terms
from verifier.symbolic.travel import Journeys

from .agreement import possible, under


def assert_each_has_one_end(js: Journeys) -> None:
    """No packet comes to no end, and none to two."""
    once, twice = js.terms.false, js.terms.false
    for e in js.record.ends:
        once, twice = once | e.cond, twice | (once & e.cond)
    solver = Solver(js.terms, timeout_ms=60_000)
    solver.add(*js.facts)
    assert solver.check(~once | twice).outcome is Outcome.UNSAT


def assert_what_comes_back_has_one_end(js: Journeys, to: Callable[[int], Iterable[Bool]]) -> None:
    """Nothing that is sent back comes to no end, or to two, or is sent twice, and nothing is sent back but for packets of which
    `to` tells, by their hop."""
    solver = Solver(js.terms, timeout_ms=60_000)
    solver.add(*js.facts)
    for broken in (one for hop in range(js.depth) for one in _broken(js, hop, to(hop))):
        assert solver.check(broken).outcome is Outcome.UNSAT
    assert all(e.hop >= 0 for e in js.record.ends)
    assert all(e.hop < 0 for e in js.record.answered)


def _broken(js: Journeys, hop: int, came: Iterable[Bool]) -> Iterator[Bool]:
    t = js.terms
    number = answer_to(hop)
    ends = [e.cond for e in js.record.answered if e.hop == number]
    sent = [a.cond for a in js.sent_back if a.hop == number]
    yield t.any_of(sent) & ~t.any_of(ends)
    yield t.any_of(ends) & ~t.any_of(came)
    for conds in (ends, sent):
        once = t.false
        for cond in conds:
            yield once & cond
            once = once | cond


def assert_it_keeps_no_packet_from_being(
    silent: Setting, setting: Setting, sender: Sender, begins: Iterable[Packet | ProxyState]
) -> None:
    """Whatever is sent on the silent setting is sent, with all its choices, where it is told what comes back."""
    t = Terms()
    without, js = (Journeys(t, one, sender, "it: ") for one in (silent, setting))
    for number, begin in enumerate(begins):
        if not isinstance(begin, Packet):
            continue
        model, _ = under(without, begin, random.Random(number))
        solver = Solver(t, timeout_ms=60_000)
        solver.add(*js.facts, *_is(js, begin))
        if possible(without, model):
            assert solver.check().outcome is Outcome.SAT, begin


def _is(js: Journeys, packet: Packet) -> Iterator[Bool]:
    """The first packet is this one."""
    known = values_of(packet, js.names, js.prefix)
    free = [js.sent[0].src, js.sent[0].dst, *js.sent[0].rare.values()]
    free += [getattr(js.sent[0], n) for n in ("proto", "sport", "dport", "flags", "icmp_type", "icmp_code")]
    free += [getattr(js.sent[0], n) for n in ("uid", "gid", "mark", "device")]
    for term in free:
        if isinstance(term, Bv) and term.op in known:
            yield term.is_(int(known[term.op]))
