"""Is a claim true of all packets?  The solver is asked for a packet that breaks it; what it finds, the concrete
wing replays; what it cannot find, is proved.

A journey through proxies is written hop by hop, as far as it takes: a claim is proved as soon as no packet
can break it within the hops that are written or go on beyond them, and at the latest where every proxy
state has been (`bounds.hop_bound`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from . import assumptions
from . import claims as c
from .answers import Answer, Counterexample, Proved, Refuted, Unknown, Vacuous, WingsDisagree
from .bounds import hop_bound
from .canon import canonical
from .concrete import claims as concrete
from .hosts import Setting
from .journeys import (
    Choices,
    End,
    Evaluation,
    FromOutside,
    FromProcess,
    FromProxy,
    Group,
    Journey,
    Loop,
    Onward,
    Sender,
    Truth,
    Unmodelled,
)
from .replay import Start, check_wings, start_of
from .symbolic import claims as symbolic
from .symbolic.chains import TooLarge
from .symbolic.terms import Bool, Model, Outcome, Result, Solver, Terms
from .symbolic.travel import Journeys

if TYPE_CHECKING:
    from .samples import Edges


@dataclass(frozen=True, slots=True)
class Budget:
    """How long to look: milliseconds for each question to the solver, and packets on which the evaluator checks a proof."""

    timeout_ms: int = 10_000
    samples: int = 20


class Case:
    """One sender's journeys, and a solver that knows their facts."""

    def __init__(self, terms: Terms, setting: Setting, sender: Sender, budget: Budget) -> None:
        self.journeys = Journeys(terms, setting, sender, prefix=f"{sender}: ")
        self._solver = Solver(terms, budget.timeout_ms)
        self._told = 0
        self.examples: dict[int, Model | None] = {}
        """For premises asked about before: a packet that meets them, or None where there is none."""

    def check(self, *extra: Bool) -> Result:
        facts = self.journeys.facts
        self._solver.add(*facts[self._told :])
        self._told = len(facts)
        return self._solver.check(*extra)

    def script(self, *extra: Bool) -> str:
        self.check(self.journeys.terms.false)
        return self._solver.script(extra)


class Prover:
    """Answers claims about one setting; what is written for one claim serves the next."""

    def __init__(self, setting: Setting, budget: Budget | None = None, terms: Terms | None = None) -> None:
        self.setting = setting
        self.budget = budget or Budget()
        self.terms = terms or Terms()
        self.bound = hop_bound(setting.host)
        self._cases: dict[Sender, Case] = {}
        self._edges: Edges | None = None
        self.scripts: list[str] | None = None
        """Where it is a list, every question to the solver is appended to it as an SMT-LIB script."""

    def case(self, sender: Sender) -> Case:
        if sender not in self._cases:
            self._cases[sender] = Case(self.terms, self.setting, sender, self.budget)
        return self._cases[sender]

    def senders(self, who: c.Who) -> list[Sender]:
        match who:
            case c.Outside(None):
                return [FromOutside(i.name) for i in self.setting.host.interfaces if i.name != "lo"]
            case c.Outside(interface):
                return [FromOutside(str(interface))]
            case c.OfProcess(process):
                return [FromProcess(process)]
            case c.OfProxy(process, proxy):
                return [FromProxy(process, proxy)]

    def complete(self, js: Journeys) -> bool:
        """So many hops are written that every proxy state that a journey can come to has been."""
        to_zero = not isinstance(js.sender, FromProcess)  # no socket sends to 0.0.0.0
        return js.depth > hop_bound(self.setting.host, to_zero)

    def declared(self) -> list[tuple[Sender, c.Premise]]:
        """Everybody who sends on this host of his own accord, with what he may send."""
        outside: list[c.Who] = [c.Outside(i.name) for i in self.setting.host.interfaces if i.name != "lo"]
        processes: list[c.Who] = [c.OfProcess(p.name) for p in self.setting.host.processes]
        return [(self.senders(who)[0], c.Premise(who)) for who in outside + processes]

    # -- answers

    def answer(self, claim: c.PacketClaim) -> Answer:
        """Proved iff the claim holds of all packets of its premise (`some`: of one of them)."""
        taken = assumptions.of(self.setting, claim.premise)
        try:
            answers = [self._settle(sender, claim) for sender in self.senders(claim.premise.who)]
        except TooLarge as reason:
            return Unknown(str(reason), assumptions=taken)
        merged = _merge(answers, claim.quantifier)
        if isinstance(merged, Proved):
            merged = replace(merged, bound=self.bound, notes=self._unneeded(claim))
        return replace(merged, assumptions=taken)

    def _settle(self, sender: Sender, claim: c.PacketClaim) -> Answer:
        if claim.quantifier is c.Quantifier.SOME:
            return self._find(sender, claim)
        case = self.case(sender)
        js = case.journeys
        while True:
            question = self._question(js, claim)
            result = self.ask(case, question.premise, question.possibly_broken)
            if result.outcome is Outcome.UNKNOWN:
                return Unknown(f"the solver gave up: {result.reason}")
            if result.model is None:
                return self._proved(case, claim, question.premise)
            found = self._candidate(case, claim, result.model)
            if found is not None:
                return found
            if result.model.holds(js.open) and not self.complete(js):
                js.extend()
                continue
            return self._undecided(case, claim, result.model)

    def _question(self, js: Journeys, claim: c.PacketClaim) -> Question:
        """The claim's premise, and the packets that break it, at the depth that is written."""
        complete = self.complete(js)
        t = js.terms
        if claim.quantifier is c.Quantifier.EVERY:
            verdicts = [symbolic.verdict(v, js, complete=complete) for v in claim.verbs]
            doubt = t.any_of(v.possibly_not for v in verdicts)
            broken = t.any_of(v.surely_not for v in verdicts)
        else:
            alone = complete and len(claim.verbs) == 1
            verdicts = [symbolic.verdict(v, js, complete=alone) for v in claim.verbs]
            doubt = t.all_of(v.possibly for v in verdicts)
            broken = t.all_of(v.surely for v in verdicts)
        return Question(symbolic.meets(claim.premise, js), doubt, broken)

    def write_all(self, case: Case, cond: Bool) -> None:
        """Write hops until no journey of the packets in `cond` goes on, or every proxy state has been.

        Where one of them is seen to loop, the second is what it will come to.
        """
        js = case.journeys
        while not self.complete(js):
            result = self.ask(case, cond, js.open)
            if result.outcome is Outcome.UNSAT:
                return
            js.extend()
            if result.model is not None and isinstance(
                start_of(js, result.model).travel(self.setting).end, Loop
            ):
                while not self.complete(js):
                    js.extend()

    def ask(self, case: Case, *extra: Bool) -> Result:
        if self.scripts is not None:
            self.scripts.append(case.script(*extra))
        return case.check(*extra)

    def _proved(self, case: Case, claim: c.PacketClaim, premise: Bool) -> Answer:
        sender = case.journeys.sender
        if premise.ast not in case.examples:
            result = self.ask(case, premise)
            if result.outcome is Outcome.UNKNOWN:
                return Unknown(f"the solver gave up: {result.reason}")
            if result.model is not None:
                check_wings(case.journeys, result.model, start_of(case.journeys, result.model))
            case.examples[premise.ast] = result.model
        example = case.examples[premise.ast]
        if example is None:
            return Vacuous("no packet meets the premise")
        if isinstance(sender, FromProxy) and self._stem(case, premise) is None:
            return Vacuous("no declared sender reaches this proxy with such a packet")
        seen = self._agree(case, claim, example)
        return Proved(hops=case.journeys.depth, bound=self.bound, samples=seen)

    def _agree(self, case: Case, claim: c.PacketClaim, model: Model) -> int:
        """Check the proof with the concrete wing on sample packets: the solver's own, and its neighbours."""
        from .samples import edges_of, neighbours

        if self._edges is None:
            self._edges = edges_of(self.setting)
        seen = 0
        for start in neighbours(start_of(case.journeys, model), self._edges, self.budget.samples):
            if self._meets(claim, start):
                journey = start.travel(self.setting)
                if self._broken(claim, journey, 0):
                    raise WingsDisagree(f"proved, and yet the evaluator finds it broken: {start}")
                seen += 1
        return seen

    # -- refutations

    def _candidate(self, case: Case, claim: c.PacketClaim, model: Model) -> Answer | None:
        """What the concrete wing makes of the solver's packet: a refutation, or a reason why it is none."""
        start = start_of(case.journeys, model)
        hop = 0
        if not self._surely_broken(claim, start, 0):
            return None
        check_wings(case.journeys, model, start)
        if isinstance(start.sender, FromProxy):
            question = self._question(case.journeys, claim)
            stem = self._stem(case, question.premise & question.possibly_broken)
            if stem is None:
                return Unknown("no declared sender reaches it", candidate=self._counterexample(start, 0))
            start, hop = stem
            if not self._surely_broken(claim, start, hop):
                return None
        first, at = start, hop

        def still(trial: Start) -> bool:
            return self._sent_by_somebody(claim, trial, at) and self._surely_broken(claim, trial, at)

        start = canonical(start, self.setting, still)
        for trial in dict.fromkeys([_key(start), _key(first)]):
            chosen = start if trial == _key(start) else first
            journey = chosen.travel(self.setting)
            if not self._loop_matters(claim, journey, hop) or self._closes(chosen, journey):
                return Refuted(self._counterexample(chosen, hop), self._reason(claim, journey, hop))
        return Unknown(
            "the loop closes for some draws of the source port, or some answers of opaque matches, only",
            candidate=self._counterexample(start, hop),
        )

    def _sent_by_somebody(self, claim: c.PacketClaim, start: Start, hop: int) -> bool:
        if hop == 0:
            return self._meets(claim, start)
        premise = next(p for s, p in self.declared() if s == start.sender)
        if start.packet is None or not concrete.meets(premise, self.setting, start.sender, start.packet):
            return False
        journey = start.travel(self.setting)
        dialled = next((s for s in journey.stops if s.hop == hop and s.process is not None), None)
        who = claim.premise.who
        if dialled is None or not isinstance(who, c.OfProxy) or len(journey.states) < hop:
            return False
        state = journey.states[hop - 1]
        if (state.process, state.proxy) != (who.process, who.proxy):
            return False
        return concrete.meets(
            claim.premise, self.setting, FromProxy(state.process, state.proxy), dialled.packet
        )

    def _meets(self, claim: c.PacketClaim, start: Start) -> bool:
        packet = start.packet
        if packet is None:
            packet = start.travel(self.setting, 1).stops[0].packet
        return concrete.meets(claim.premise, self.setting, start.sender, packet)

    def _broken(self, claim: c.PacketClaim, journey: Journey, hop: int) -> bool:
        told = [concrete.holds(v, journey, self.setting, hop) for v in claim.verbs]
        if claim.quantifier is c.Quantifier.EVERY:
            return False in told
        return all(x is True for x in told)

    def _surely_broken(self, claim: c.PacketClaim, start: Start, hop: int) -> bool:
        """Broken whatever the opaque matches on the way answer."""
        return every_answer(start, self.setting, lambda journey: self._broken(claim, journey, hop))

    def _loop_matters(self, claim: c.PacketClaim, journey: Journey, hop: int) -> bool:
        if not isinstance(journey.end, Loop):
            return False
        return not self._broken(claim, replace(journey, end=Onward()), hop)

    def _closes(self, start: Start, journey: Journey) -> bool:
        """From the state at which the cycle begins, every draw leads back to it; the proxies' choices stay as they were."""
        if not isinstance(journey.end, Loop):
            raise AssertionError("only a loop can close")
        back = journey.end.back_to
        first = journey.states[back - 1] if not isinstance(start.sender, FromProxy) else journey.states[back]
        last_hop = journey.stops[-1].hop
        length = last_hop + 1 - back
        sender = FromProxy(first.process, first.proxy)
        case = Case(self.terms, self.setting, sender, self.budget)
        js = case.journeys
        while js.depth <= length:
            js.extend()
        t = self.terms
        begin, end = js.states[0], js.states[length]
        if begin is None or end is None:
            raise AssertionError("a dial has a proxy state")
        fixed = [begin.address.is_(first.address), begin.port.is_(first.port)]
        if first.client is not None:
            fixed.append(begin.client.is_(first.client))
        for hop, picks in js.picked.items():
            fixed += [pick.is_(start.choices.picks.get(back + hop, 0)) for _, pick in picks]
        same = t.all_of(
            [
                begin.proxy.is_(end.proxy),
                begin.address.is_(end.address),
                begin.port.is_(end.port),
                begin.client.is_(end.client),
            ]
        )
        return self.ask(case, *fixed, ~(js.onward[length] & same)).outcome is Outcome.UNSAT

    def _stem(self, case: Case, wanted: Bool) -> tuple[Start, int] | None:
        """A declared sender's packet that leads to a dial in `wanted`, and the hop of that dial; None if there is none."""
        js = case.journeys
        begin = js.states[0]
        if begin is None:
            raise AssertionError("a proxy's journey begins in a proxy state")
        t = self.terms
        for sender, premise in self.declared():
            other = self.case(sender)
            before = other.journeys
            while True:
                arrivals: list[Bool] = []
                for hop in range(1, before.depth + 1):
                    if hop == before.depth:
                        before.extend()
                    state = before.states[hop]
                    if state is None:
                        raise AssertionError("a dial has a proxy state")
                    arrivals.append(
                        before.onward[hop]
                        & state.proxy.is_(begin.proxy)
                        & state.address.is_(begin.address)
                        & state.port.is_(begin.port)
                        & state.client.is_(begin.client)
                    )
                sent = symbolic.meets(premise, before)
                result = self.ask(other, *js.facts, sent, wanted, t.any_of(arrivals))
                if result.model is not None:
                    hop = next(h for h, a in enumerate(arrivals, 1) if result.model.holds(a))
                    return _joined(start_of(before, result.model), start_of(js, result.model), hop), hop
                if self.complete(before) or self.ask(other, sent, before.open).outcome is Outcome.UNSAT:
                    break
        return None

    def _undecided(self, case: Case, claim: c.PacketClaim, model: Model) -> Answer:
        """The solver's packet breaks the claim only if something that we do not understand does so."""
        js = case.journeys
        self.write_all(case, js.terms.true)
        question = self._question(js, claim)
        clean = ~js.terms.any_of(asked.cond for asked in js.record.asked)
        for extra in ((question.broken, clean), (question.broken,)):
            result = self.ask(case, question.premise, *extra)
            if result.model is not None:
                found = self._candidate(case, claim, result.model)
                if found is not None:
                    return found
        start = start_of(js, model)
        check_wings(js, model, start)
        journey = start.travel(self.setting)
        opaque = tuple(dict.fromkeys(self._names(js, model, journey.end)))
        reason = (
            "it depends on what is not understood" if opaque else "its journey cannot be followed to an end"
        )
        return Unknown(reason, opaque, self._counterexample(start, 0))

    def _names(self, js: Journeys, model: Model, end: End) -> Iterator[str]:
        for asked in js.record.asked:
            if model.holds(asked.cond):
                e = asked.evaluation
                chain, number = e.path[-1]
                yield f"{asked.text} ({e.table}/{chain} rule {number})"
        if isinstance(end, Unmodelled):
            yield end.reason
        if isinstance(end, Group):
            yield "who gets a broadcast or multicast packet"

    # -- existence

    def _find(self, sender: Sender, claim: c.PacketClaim) -> Answer:
        case = self.case(sender)
        js = case.journeys
        doing = replace(claim, quantifier=c.Quantifier.NO)
        while True:
            question = self._question(js, doing)
            result = self.ask(case, question.premise, question.possibly_broken)
            if result.outcome is Outcome.UNKNOWN:
                return Unknown(f"the solver gave up: {result.reason}")
            if result.model is None:
                if self.ask(case, question.premise).outcome is Outcome.UNSAT:
                    return Vacuous("no packet meets the premise")
                return Refuted(None, "no packet of the premise does")
            found = self._candidate(case, doing, result.model)
            if found is None and result.model.holds(js.open) and not self.complete(js):
                js.extend()
                continue
            found = found or self._undecided(case, doing, result.model)
            if isinstance(found, Refuted):
                return Proved(js.depth, self.bound, witness=found.counterexample)
            return found

    def _unneeded(self, claim: c.PacketClaim) -> tuple[str, ...]:
        """Notes on the exceptions without which the claim holds as well."""
        notes = []
        for i, exception in enumerate(claim.premise.exceptions):
            rest = claim.premise.exceptions[:i] + claim.premise.exceptions[i + 1 :]
            wider = replace(claim, premise=replace(claim.premise, exceptions=rest))
            needed = False
            for sender in self.senders(claim.premise.who):
                case = self.case(sender)
                js = case.journeys
                question = self._question(js, wider)
                excepted = symbolic.passes(exception.filter, js)
                result = self.ask(case, question.premise, excepted, question.possibly_broken)
                needed = needed or result.outcome is not Outcome.UNSAT
            if not needed:
                notes.append(f"the exception `{exception.text}` is not needed")
        return tuple(notes)

    # -- telling

    def _counterexample(self, start: Start, hop: int) -> Counterexample:
        return Counterexample(start.sender, start.travel(self.setting), start.choices, hop)

    def _reason(self, claim: c.PacketClaim, journey: Journey, hop: int) -> str:
        if claim.quantifier is c.Quantifier.NO:
            return "this packet does"
        failed = [v for v in claim.verbs if concrete.holds(v, journey, self.setting, hop) is False]
        from .wording import say

        return "; ".join(
            f"does {say(v.verb)}" if isinstance(v, c.Not) else f"does not {say(v)}" for v in failed
        )


@dataclass(frozen=True, slots=True)
class Question:
    """The packets that a claim speaks of, those that may break it, and those that surely do."""

    premise: Bool
    possibly_broken: Bool
    broken: Bool


def every_answer(start: Start, setting: Setting, does: Callable[[Journey], bool], limit: int = 243) -> bool:
    """`does` holds of the journey whatever the opaque matches on its way answer; False beyond `limit` journeys."""
    open_: list[dict[Evaluation, Truth]] = [{}]
    for _ in range(limit):
        if not open_:
            return True
        answers = open_.pop()
        trial = replace(start, choices=replace(start.choices, opaque=answers))
        journey = trial.travel(setting)
        asked = next((e for e in journey.asked if e not in answers), None)
        if asked is not None:
            open_ += [{**answers, asked: truth} for truth in Truth]
        elif not does(journey):
            return False
    return not open_


def _key(start: Start) -> str:
    return repr(start)


def _joined(stem: Start, dial: Start, hop: int) -> Start:
    """The stem's journey, going on from its hop `hop` with the choices of the dial's."""
    mine, theirs = stem.choices, dial.choices
    opaque = {e: x for e, x in mine.opaque.items() if e.hop < hop}
    opaque |= {replace(e, hop=e.hop + hop): x for e, x in theirs.opaque.items()}
    choices = Choices(
        opaque,
        {h: x for h, x in mine.ports.items() if h < hop} | {h + hop: x for h, x in theirs.ports.items()},
        {h: x for h, x in mine.picks.items() if h < hop} | {h + hop: x for h, x in theirs.picks.items()},
        {h: x for h, x in mine.uids.items() if h < hop} | {h + hop: x for h, x in theirs.uids.items()},
    )
    return Start(stem.sender, stem.packet, stem.state, choices)


def _merge(answers: Sequence[Answer], quantifier: c.Quantifier) -> Answer:
    """The answer for all senders from the answers for each."""
    if quantifier is c.Quantifier.SOME:
        order: tuple[type, ...] = (Proved, Unknown, Refuted, Vacuous)
    else:
        order = (Refuted, Unknown, Proved, Vacuous)
    for kind in order:
        found = [a for a in answers if isinstance(a, kind)]
        if found and kind is Proved:
            proofs = [a for a in found if isinstance(a, Proved)]
            deepest = max(proofs, key=lambda a: a.hops)
            return replace(deepest, samples=sum(a.samples for a in proofs))
        if found:
            return found[0]
    return Vacuous("this host has nobody who could send it")
