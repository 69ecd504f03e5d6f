"""Claims about two hosts: the same packets fare the same on both; what is reached on one is reached on the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from . import assumptions
from . import claims as c
from . import journeys as j
from .answers import Answer, Counterexample, Proved, Refuted, Unknown, Vacuous
from .canon import canonical
from .concrete import claims as concrete
from .hosts import Assumption, Setting
from .prove import Budget, Prover
from .replay import Start, check_wings, start_of
from .symbolic import claims as symbolic
from .symbolic.chains import TooLarge
from .symbolic.journeys import SymEnd
from .symbolic.packets import Names
from .symbolic.terms import Bool, Model, Outcome, Solver, Terms
from .symbolic.travel import Journeys
from .wording import say_premise

# -- faring the same ----------------------------------------------------------------------------


def same(first: Setting, second: Setting, claim: c.SameClaim, budget: Budget) -> Answer:
    """Proved iff each packet of the premise, as a sender of the first host may send it, has the same outcomes on both."""
    taken = _both(first, second, claim.premise)
    terms = Terms()
    here = Prover(first, budget, terms)
    names = Names(("", *dict.fromkeys(i.name for s in (first, second) for i in s.host.interfaces)))
    depth = 0
    seen = False
    process = getattr(claim.premise.who, "process", None)
    if process is not None and process not in {p.name for p in second.host.processes}:
        return Unknown(f"{claim.second} has no process {process}", assumptions=taken)
    for sender in here.senders(claim.premise.who):
        try:
            answer = _same_from(_Pair(terms, first, second, sender, names, budget), claim)
        except TooLarge as reason:
            answer = Unknown(str(reason))
        if isinstance(answer, Refuted | Unknown):
            return replace(answer, assumptions=taken)
        if isinstance(answer, Proved):
            seen, depth = True, max(depth, answer.hops)
    if not seen:
        return Vacuous("no packet meets the premise", taken)
    return Proved(depth, here.bound, taken)


class _Pair:
    """One sender's journeys on two hosts, of the same first packet and with the same draws."""

    def __init__(
        self, terms: Terms, first: Setting, second: Setting, sender: j.Sender, names: Names, budget: Budget
    ) -> None:
        self.settings = (first, second)
        self.ways = tuple(Journeys(terms, s, sender, "both: ", names) for s in self.settings)
        self.terms = terms
        self.budget = budget

    def solver(self) -> Solver:
        solver = Solver(self.terms, self.budget.timeout_ms)
        solver.add(*(fact for way in self.ways for fact in way.facts))
        return solver


def _same_from(pair: _Pair, claim: c.SameClaim) -> Answer:
    first, second = pair.ways
    bound = max(Prover(s, pair.budget, pair.terms).bound for s in pair.settings)
    if isinstance(first.sender, j.FromProxy):
        return Unknown(
            "two hosts are compared by what comes from outside or from a process, not by a proxy's dials"
        )
    premise = symbolic.meets(claim.premise, first)
    alone = Solver(pair.terms, pair.budget.timeout_ms)
    alone.add(*first.facts, premise)
    if alone.check(~pair.terms.all_of(second.facts)).outcome is not Outcome.UNSAT:
        return Unknown(f"some of these packets can be sent in {claim.first} and not in {claim.second}")
    while True:
        solver = pair.solver()
        doubt = _may_differ(first, second) | first.open | second.open
        result = solver.check(premise, doubt)
        if result.outcome is Outcome.UNKNOWN:
            return Unknown(f"the solver gave up: {result.reason}")
        if result.model is None:
            if solver.check(premise).model is None:
                return Vacuous("no packet meets the premise")
            return Proved(max(first.depth, second.depth), bound)
        start = start_of(first, result.model)
        check_wings(first, result.model, start)
        check_wings(second, result.model, start_of(second, result.model))
        if _differs(start, *pair.settings):
            return _told_apart(start, pair, claim)
        if not any(result.model.holds(way.open) for way in pair.ways) or first.depth > bound:
            return Unknown("it depends on what is not understood", _opaque(pair, result.model))
        for way in pair.ways:
            if result.model.holds(way.open):
                way.extend()


def _told_apart(start: Start, pair: _Pair, claim: c.SameClaim) -> Answer:
    first, second = pair.settings

    def still(trial: Start) -> bool:
        packet = trial.packet
        if packet is None:
            packet = trial.travel(first, 1).stops[0].packet
        return concrete.meets(claim.premise, first, trial.sender, packet) and _differs(trial, first, second)

    start = canonical(start, first, still)
    one, other = start.travel(first), start.travel(second)
    reason = f"{_short(one)} in {claim.first}, {_short(other)} in {claim.second}"
    return Refuted(Counterexample(start.sender, one, start.choices, other=other), reason)


def _may_differ(first: Journeys, second: Journeys) -> Bool:
    t = first.terms
    return t.any_of(a.cond & b.cond & _unlike(a, b) for a in first.record.ends for b in second.record.ends)


def _unlike(a: SymEnd, b: SymEnd) -> Bool:
    """Two ends may be of different outcome (an end that is not modelled may be anything)."""
    t = a.cond.terms
    one, other = _kind(a.end), _kind(b.end)
    if one is None or other is None or one != other:
        return t.true
    if isinstance(a.end, j.Dropped | j.Rejected | j.Lost):
        return t.false
    p, q = a.packet, b.packet
    pairs = [
        (p.src, q.src),
        (p.dst, q.dst),
        (p.proto, q.proto),
        (p.dport, q.dport),
        (p.flags, q.flags),
        (p.mark, q.mark),
    ]
    if a.hop == 0 or b.hop == 0:
        pairs.append((p.sport, q.sport))
    return t.any_of(~x.is_(y) for x, y in pairs)


def _kind(end: j.End) -> tuple[object, ...] | None:
    """What two ends must have in common, but for their packets; None where nothing is known of an end."""
    match end:
        case j.Socket(process, listener):
            return ("socket", process, listener.port, listener.address)
        case j.Lost(reason):
            return ("lost", reason)
        case j.Left(interface):
            return ("left", interface)
        case j.Group(hooks):
            return ("group", hooks)
        case j.Unmodelled():
            return None
        case _:
            return (type(end).__name__,)


def _differs(start: Start, first: Setting, second: Setting) -> bool:
    """The outcomes that the proxies' choices allow are not the same set on both hosts, whatever opaque matches answer."""
    one, other = set(_outcomes(start, first)), set(_outcomes(start, second))
    return one != other and None not in one | other


def _outcomes(start: Start, setting: Setting) -> Iterator[object]:
    """The outcome for each choice of the proxies; None where it is not known."""
    waiting: list[dict[int, int]] = [{}]
    while waiting:
        picks = waiting.pop()
        trial = replace(start, choices=replace(start.choices, picks=picks))
        journey = trial.travel(setting)
        if journey.asked or isinstance(journey.end, j.Unmodelled | j.Onward):
            yield None
            continue
        for hop, state in enumerate(journey.states, 1):
            options = _options(setting, state)
            if hop not in picks and options > 1:
                waiting += [{**picks, hop: i} for i in range(options)]
                break
        else:
            if journey.stops[-1].hop > 0:
                last = journey.stops[-1]
                journey = replace(
                    journey, stops=(*journey.stops[:-1], replace(last, packet=replace(last.packet, sport=1)))
                )
            yield concrete.outcome(journey)


def _options(setting: Setting, state: j.ProxyState) -> int:
    proxy = next(x for x in setting.host.process(state.process).proxies if x.name == state.proxy)
    for route in proxy.routes:
        if not route.ports or any(state.port in range(s.first, s.last + 1) for s in route.ports):
            return len(route.dials)
    return 1


def _opaque(pair: _Pair, model: Model) -> tuple[str, ...]:
    texts = [a.text for way in pair.ways for a in way.record.asked if model.holds(a.cond)]
    texts += [
        e.end.reason
        for way in pair.ways
        for e in way.record.ends
        if isinstance(e.end, j.Unmodelled) and model.holds(e.cond)
    ]
    return tuple(dict.fromkeys(texts))


def _short(journey: j.Journey) -> str:
    from .wording import say_end

    return say_end(journey.end)


# -- keeping listeners ----------------------------------------------------------------------------


def keep(before: Prover, after: Prover, claim: c.KeepClaim) -> Answer:
    """Proved iff each listener that some packet of the premise reaches before is reached by some after."""
    taken = _both(before.setting, after.setting, claim.premise)
    lost: list[str] = []
    shown: Counterexample | None = None
    unknown: list[str] = []
    reached = 0
    deepest = 0
    for process in before.setting.host.processes:
        for listener in process.listens:
            verbs = (c.Reaches(process.name, listener.port),)
            was = before.answer(c.PacketClaim(c.Quantifier.SOME, claim.premise, verbs))
            if isinstance(was, Unknown):
                unknown.append(f"{process.name} {listener}: {was.reason}")
            if not isinstance(was, Proved) or was.witness is None:
                continue
            reached += 1
            deepest = max(deepest, was.hops)
            names = [p.name for p in after.setting.host.processes]
            now: Answer = Refuted(None, "no such process")
            if process.name in names:
                now = after.answer(c.PacketClaim(c.Quantifier.SOME, claim.premise, verbs))
            if isinstance(now, Refuted | Vacuous):
                lost.append(f"{process.name} {listener}")
                shown = shown or _again(was.witness, after.setting)
            elif isinstance(now, Unknown):
                unknown.append(f"{process.name} {listener}: {now.reason}")
    if lost:
        return Refuted(
            replace(shown, lost=tuple(lost)) if shown else None,
            f"reached in {claim.before}, no longer in {claim.after}: {', '.join(lost)}",
            taken,
        )
    if unknown:
        return Unknown("; ".join(unknown), assumptions=taken)
    if not reached:
        return Vacuous(f"no {say_premise(claim.premise)} reaches a listener of {claim.before}", taken)
    return Proved(deepest, max(before.bound, after.bound), taken, notes=(f"{reached} listeners",))


def _again(witness: Counterexample, after: Setting) -> Counterexample:
    """The witness with its journey on the other host beside it."""
    start = Start(witness.sender, witness.journey.stops[0].packet, None, witness.choices)
    return replace(witness, other=start.travel(after))


def _both(first: Setting, second: Setting, premise: c.Premise) -> tuple[Assumption, ...]:
    every = {*assumptions.of(first, premise), *assumptions.of(second, premise), assumptions.COUPLED}
    return tuple(sorted(every, key=lambda a: (a.code, a.text)))
