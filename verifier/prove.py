"""Is a claim true of all packets?  The solver is asked for a packet that breaks it; what it finds, the concrete
wing replays; what it cannot find, is proved.

A journey through proxies is written hop by hop, as far as it takes: a claim is proved as soon as no packet
can break it within the hops that are written or go on beyond them, and at the latest where every proxy
state has been (`bounds.hop_bound`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias, assert_never

from msgspec import Struct
from msgspec.structs import replace

from . import assumptions, owners
from . import claims as c
from . import rules as r
from .answers import Answer, Counterexample, Proved, Refuted, Sample, Unknown, Vacuous, WingsDisagree
from .asked import fields_carried, fields_of
from .bounds import hop_bound
from .canon import canonical
from .concrete import claims as concrete
from .concrete.proxies import dials, options
from .hosts import Setting, at_one_time
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
    ProxyState,
    Sender,
    Truth,
    Unmodelled,
)
from .replay import Start, asked_of, check_wings, joined, later, start_of
from .rules import Chance, Literal, Match, Opaque, OwnerNames
from .symbolic import claims as symbolic
from .symbolic.chains import TooLarge
from .symbolic.entries import marks_connections
from .symbolic.terms import Bool, Model, Outcome, Result, Solver, Terms
from .symbolic.times import are_at_one_time
from .symbolic.travel import Journeys

if TYPE_CHECKING:
    from .samples import Edges


class Budget(Struct, frozen=True):
    """How long to look: milliseconds for each question to the solver, and packets on which the evaluator checks a proof.

    Where `scripts` is a list, every question to the solver is appended to it as an SMT-LIB script.  `keep`: a proof keeps
    those packets.
    """

    timeout_ms: int = 10_000
    samples: int = 20
    scripts: list[str] | None = None
    keep: bool = False


class Situation(Struct, frozen=True):
    """Whose packets, and whose packet was sent before, if one was: a datagram, or one that has `opened` the connection of which
    the packets are later ones."""

    sender: Sender
    first: Sender | None = None
    opened: bool = False


class Case:
    """The journeys in one situation, and a solver that knows their facts."""

    def __init__(self, terms: Terms, setting: Setting, situation: Situation, budget: Budget) -> None:
        sender, first, opened = situation.sender, situation.first, situation.opened
        prefix, earlier = f"{sender}: ", None
        if first is not None:
            prefix = f"{sender} in a connection: " if opened else f"{sender} after {first}: "
            before = replace(setting, answers=True) if opened else setting
            earlier = Journeys(terms, before, first, prefix=f"{prefix}earlier ", datagrams=not opened)
        self.journeys = Journeys(terms, setting, sender, prefix=prefix, earlier=earlier, opened=opened)
        self._solver = Solver(terms, budget.timeout_ms, budget.scripts)
        self._told = 0
        self.examples: dict[int, Start | None] = {}
        """For premises asked about before: a packet that meets them, or None where there is none."""
        self.known: list[Start] = []
        """Those that the solver found for any premise, and both wings follow alike."""

    def check(self, *extra: Bool) -> Result:
        facts = self.journeys.facts
        self._solver.add(*facts[self._told :])
        self._told = len(facts)
        return self._solver.check(*extra)


class Prover:
    """Answers claims about one setting; what is written for one claim serves the next."""

    def __init__(self, setting: Setting, budget: Budget | None = None, terms: Terms | None = None) -> None:
        self.setting = setting
        self.budget = budget or Budget()
        self.terms = terms or Terms()
        self.bound = hop_bound(setting.host, rules=setting.rules)
        self._cases: dict[Situation, Case] = {}
        self._others: dict[Situation, Case] = {}
        """What else is sent in the connections that are spoken of, with what answers it."""
        self._edges: Edges | None = None
        self._times: tuple[Setting, ...] = ()
        self._beside: dict[tuple[frozenset[str], bool, bool], Prover] = {}

    def case(self, situation: Situation) -> Case:
        if situation not in self._cases:
            self._cases[situation] = Case(self.terms, self.setting, situation, self.budget)
        return self._cases[situation]

    @property
    def times(self) -> tuple[Setting, ...]:
        """The setting at one time or another: what shows something comes while no entry of a set goes."""
        self._times = self._times or at_one_time(self.setting)
        return self._times

    def carrying(self, premise: c.Premise, verbs: tuple[c.Verb, ...] = ()) -> Prover:
        """A prover whose packets carry the fields that this premise asks for, and whose journeys tell of answers where these
        verbs ask for them, or of rejections where it speaks of these: this one, where it does so anyway.
        """
        filters = [premise.filter, *(x.filter for x in premise.exceptions)]
        asked = frozenset[str]().union(*(fields_of(f.where) for f in filters))
        wanted = asked | premise.carries | self.setting.also
        asks = c.asks_for_answers(premise, verbs)
        rejections = premise.rejection or (self.setting.rejections and not asks)
        answers = (self.setting.answers and not rejections) or asks
        told = (self.setting.answers, self.setting.rejections)
        if wanted <= fields_carried(self.setting) and (answers, rejections) == told:
            return self
        key = (wanted, answers, rejections)
        if key not in self._beside:
            setting = replace(self.setting, also=wanted, answers=answers, rejections=rejections)
            self._beside[key] = Prover(setting, self.budget, self.terms)
        return self._beside[key]

    def forget(self) -> None:
        """Let all cases go: of those that grew too large a hop is half written, and none may be asked again."""
        self._cases.clear()
        self._others.clear()

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

    def situations(self, premise: c.Premise) -> list[Situation]:
        """The senders of whose packets the premise speaks, each by itself, and then behind those that sent before; or each in the
        connections that it has opened."""
        senders = self.senders(premise.who)
        if premise.established:
            return [Situation(s, s, opened=True) for s in senders]
        firsts: list[Sender] = [] if premise.after is None else self.senders(premise.after)
        return [Situation(s) for s in senders] + [Situation(s, first) for s in senders for first in firsts]

    def complete(self, case: Case, cond: Bool) -> bool:
        """Every proxy state that a journey of the packets in `cond` can come to has been in the hops that are written.

        At the latest where as many hops are written as the host has states for one journey.
        """
        js = case.journeys
        to_zero = not isinstance(js.sender, FromProcess)  # no socket sends to 0.0.0.0
        if js.depth > hop_bound(self.setting.host, to_zero, self.setting.rules):
            return True
        return self.ask(case, cond, js.unrepeated).outcome is Outcome.UNSAT

    def declared(self) -> list[tuple[Sender, c.Premise]]:
        """Everybody who sends on this host of his own accord, with what he may send."""
        outside: list[c.Who] = [c.Outside(i.name) for i in self.setting.host.interfaces if i.name != "lo"]
        processes: list[c.Who] = [c.OfProcess(p.name) for p in self.setting.host.processes]
        return [(self.senders(who)[0], c.Premise(who)) for who in outside + processes]

    # -- answers

    def answer(self, claim: c.PacketClaim, *, familiar: bool = True) -> Answer:
        """Proved iff the claim holds of all packets of its premise (`some`: of one of them).

        The packet that is shown is a familiar one, unless it need not be.
        """
        carrying = self.carrying(claim.premise, claim.verbs)
        if carrying is not self:
            return carrying.answer(claim, familiar=familiar)
        taken = assumptions.of(self.setting, claim.premise)
        if claim.premise.rejection and any(map(c.asks_for_zones, claim.verbs)):
            return Unknown("in which zone what REJECT sends back is, is not followed", assumptions=taken)
        if any(map(c.asks_for_zones, claim.verbs)) and symbolic.marks_name_zones(self.setting.rules):
            return Unknown("in which zone a packet is that its mark names is not followed", assumptions=taken)
        try:
            situations = self.situations(claim.premise)
            answers = [self._settle(situation, claim, familiar) for situation in situations]
        except TooLarge as reason:
            self.forget()
            return Unknown(str(reason), assumptions=taken)
        merged = _merge(answers, claim.quantifier)
        if isinstance(merged, Proved):
            pairs = zip(answers, situations, strict=True)
            behind = [a for a, x in pairs if x.first is not None and not x.opened]
            notes = (*_none_behind(behind), *self._nothing_leaves(claim), *self._unneeded(claim))
            merged = replace(merged, bound=self.bound, notes=notes)
        return replace(merged, assumptions=taken)

    def _settle(self, situation: Situation, claim: c.PacketClaim, familiar: bool = True) -> Answer:
        if claim.quantifier is c.Quantifier.SOME:
            return self._find(situation, claim, familiar)
        case = self.case(situation)
        js = case.journeys
        complete = False
        while True:
            question = self._question(js, claim, complete)
            result = self.ask(case, question.premise, question.possibly_broken)
            if result.outcome is Outcome.UNKNOWN:
                return Unknown(f"the solver gave up: {result.reason}")
            if result.model is None:
                doubt = self._remarked(situation, claim)
                return doubt or self._proved(case, claim, question.premise)
            found = self._candidate(case, claim, question, result.model, familiar)
            if found is not None:
                return found
            if complete or not result.model.holds(js.open):
                return self._undecided(case, claim, result.model)
            complete = self.complete(case, question.premise)
            if not complete:
                js.extend()

    def _remarked(self, situation: Situation, claim: c.PacketClaim) -> Unknown | None:
        """Unknown where the connection's mark, as the first packet and its answer leave it, may become another by a later packet of
        either end: a packet behind that one would meet what nobody has looked at.
        """
        if not (situation.opened and marks_connections(self.setting.rules)):
            return None
        premise = claim.premise
        wide = replace(
            premise,
            filter=replace(premise.filter, where=_of_all(premise.filter.where)),
            exceptions=tuple(x for x in premise.exceptions if x.filter.where == _of_all(x.filter.where)),
            answer=False,
        )
        if situation not in self._others:
            setting = replace(self.setting, answers=True)
            self._others[situation] = Case(self.terms, setting, situation, self.budget)
        js = self._others[situation].journeys
        result = self.ask(self._others[situation], symbolic.meets(wide, js), symbolic.may_change_its_mark(js))
        if result.outcome is Outcome.UNSAT:
            return None
        return Unknown(
            "a later packet may change the connection's mark, and what comes behind that is not followed"
        )

    def _question(self, js: Journeys, claim: c.PacketClaim, complete: bool = False) -> Question:
        """The claim's premise, and the packets that break it, at the depth that is written.

        `complete`: every proxy state has been (see `complete`).
        """
        t = js.terms
        if claim.quantifier is c.Quantifier.EVERY:
            verdicts = symbolic.verdicts(claim, js, complete=complete)
            doubt = t.any_of(v.possibly_not for v in verdicts)
            broken = t.any_of(v.surely_not for v in verdicts)
        else:
            alone = complete and len(claim.verbs) == 1
            verdicts = symbolic.verdicts(claim, js, complete=alone)
            doubt = t.all_of(v.possibly for v in verdicts)
            broken = t.all_of(v.surely for v in verdicts)
        broken = broken & ~js.doubtful
        premise = symbolic.meets(claim.premise, js)
        if claim.premise.sent_back:
            there = symbolic.is_sent_back(js)
            vague = there.possibly & ~there.surely
            return Question(premise & there.possibly, vague | doubt, there.surely & broken)
        return Question(premise, doubt, broken)

    def write_all(self, case: Case, cond: Bool) -> None:
        """Write hops until every proxy state has been that journeys of the packets in `cond` come to."""
        js = case.journeys
        while not self.complete(case, cond):
            js.extend()

    def ask(self, case: Case, *extra: Bool) -> Result:
        return case.check(*extra)

    def _proved(self, case: Case, claim: c.PacketClaim, premise: Bool) -> Answer:
        example = self._example(case, claim, premise)
        if not isinstance(example, Start):
            return example
        seen = self._agree(claim, example)
        kept = tuple(
            Sample(s.sender, s.packet, s.state, s.choices, s.earlier) for s in seen if self.budget.keep
        )
        return Proved(hops=case.journeys.depth, bound=self.bound, samples=len(seen), checked=kept)

    def _example(self, case: Case, claim: c.PacketClaim, premise: Bool) -> Start | Unknown | Vacuous:
        """A start that meets the claim's premise; of a proxy's dials one to which a declared sender leads."""
        js = case.journeys
        kept = () if claim.premise.sent_back else case.known
        known = next((start for start in kept if self._meets(claim, start)), None)
        if known is not None:
            case.examples[premise.ast] = known
        if premise.ast not in case.examples:
            result = self.ask(case, premise)
            if result.outcome is Outcome.UNKNOWN:
                return Unknown(f"the solver gave up: {result.reason}")
            example = None
            if result.model is not None:
                example = start_of(js, result.model)
                check_wings(js, result.model, example)
                case.known.append(example)
            case.examples[premise.ast] = example
        example = case.examples[premise.ast]
        if example is None and js.opened is not None:
            return Vacuous("no connection of the premise stands: no answer to a first packet comes back")
        if example is None:
            return Vacuous("no packet meets the premise")
        if isinstance(js.sender, FromProxy):
            stem = self._stem(case, premise)
            if isinstance(stem, Unknown):
                return stem
            if stem is None:
                return Vacuous("no declared sender reaches this proxy with such a packet")
        return example

    def _agree(self, claim: c.PacketClaim, first: Start) -> list[Start]:
        """Check the proof with the concrete wing on sample packets: the solver's own, and its neighbours.  Those that it
        was checked on."""
        from .samples import edges_of, neighbours

        if self._edges is None:
            self._edges = edges_of(self.setting)
        seen = []
        for start in neighbours(first, self._edges, self.budget.samples):
            if self._meets(claim, start):
                journey = start.travel(self.setting)
                if self._broken(claim, journey):
                    raise WingsDisagree(f"proved, and yet the evaluator finds it broken: {start}")
                seen.append(start)
        return seen

    # -- refutations

    def _candidate(
        self, case: Case, claim: c.PacketClaim, question: Question, model: Model, familiar: bool = True
    ) -> Answer | None:
        """What the concrete wing makes of the solver's packet: a refutation, or a reason why it is none."""
        js = case.journeys
        start = start_of(js, model)
        hop = 0
        if not self._breaks(claim, start, hop):
            return None
        check_wings(js, model, start)
        if isinstance(start.sender, FromProxy):
            sure = model.holds(question.broken)
            stem = self._stem(
                case, question.premise & (question.broken if sure else question.possibly_broken)
            )
            if isinstance(stem, Unknown):
                return stem
            if stem is None:
                return Unknown("no declared sender reaches it", candidate=self._counterexample(start, 0))
            start, hop = stem
            if not self._breaks(claim, start, hop):
                return None

        def does(trial: Start) -> bool:
            return self._tells(trial, hop) and self._breaks(claim, trial, hop)

        simple = canonical(start, self.setting, does) if familiar else start
        for chosen in (simple, start):
            if self._breaks(claim, chosen, hop, for_good=True):
                return Refuted(self._counterexample(chosen, hop), self._reason(claim, chosen, hop))
        return Unknown(
            "the loop closes for some draws of ports and addresses, or some answers of opaque matches, only",
            candidate=self._counterexample(simple, hop),
        )

    def _breaks(self, claim: c.PacketClaim, start: Start, hop: int, *, for_good: bool = False) -> bool:
        """Whatever the opaque matches answer, hop `hop` is sent, meets the premise, and breaks the claim, without a doubt; and all
        of that at one time.

        `for_good`: where it breaks it by going round for ever, it does so for every draw.
        """
        return any(self._breaks_at(time, claim, start, hop, for_good) for time in self.times)

    def _breaks_at(self, time: Setting, claim: c.PacketClaim, start: Start, hop: int, for_good: bool) -> bool:
        if not self.is_told_of(time, start, hop + 1 if hop else None):
            return False
        if hop > 0:
            premise = next(p for s, p in self.declared() if s == start.sender)
            if start.packet is None or not concrete.meets(premise, self.setting, start.sender, start.packet):
                return False

            def goes_on(journey: Journey) -> bool:
                dial = _dial(start, journey, hop)
                return dial is not None and self._breaks_at(time, claim, dial, 0, for_good)

            return every_answer(start, time, goes_on, hops=hop + 1)

        def does(journey: Journey) -> bool:
            if journey.doubts or not self._broken(claim, journey):
                return False
            return not for_good or self._for_good(time, claim, start, journey)

        return self._meets(claim, start) and every_answer(start, time, does)

    def is_told_of(self, time: Setting, start: Start, hops: int | None = None) -> bool:
        """What is told of the start is so at this time: what sets hold is as it was chosen."""
        if time is self.setting:
            return True
        chosen, there = start.travel(self.setting, hops), start.travel(time, hops)
        return _without_choices(chosen) == _without_choices(there)

    def all_at_one_time(self, case: Case) -> Bool:
        """The packets whose journeys, as it is chosen what sets hold, are so at one time."""
        js = case.journeys
        return are_at_one_time(js, self.times) if len(self.times) > 1 else js.terms.true

    def _tells(self, start: Start, hop: int) -> bool:
        """The journey comes to hop `hop` before it goes round."""
        return hop == 0 or len(start.travel(self.setting).states) >= hop

    def _meets(self, claim: c.PacketClaim, start: Start) -> bool:
        if start.state is not None and not dials(self.setting.host, start.state):
            return False
        packet = start.packet
        if packet is None:
            packet = start.travel(self.setting, 1).stops[0].packet
        if not concrete.meets(claim.premise, self.setting, start.sender, packet):
            return False
        if start.earlier is None:
            return True
        journey = start.travel(self.setting)
        return concrete.meets_behind(claim.premise, self.setting, start.earlier, journey)

    def _broken(self, claim: c.PacketClaim, journey: Journey) -> bool:
        return concrete.breaks(claim, journey, self.setting)

    def _for_good(self, time: Setting, claim: c.PacketClaim, start: Start, journey: Journey) -> bool:
        """A journey that breaks the claim does so without its loop, or the loop is one for every draw, and until no entry goes."""
        if not isinstance(journey.end, Loop) or self._broken(claim, replace(journey, end=Onward())):
            return True
        if time is not self.times[-1]:
            return False
        if claim.quantifier is c.Quantifier.EVERY:
            failed = [v for v in claim.verbs if concrete.holds(v, journey, self.setting) is False]
            return any(self._closes((v,), start, journey) for v in failed)
        return self._closes(claim.verbs, start, journey)

    def _closes(self, verbs: Sequence[c.Verb], start: Start, journey: Journey) -> bool:
        """From the state at which the cycle begins every draw leads back to it, and on the way nothing of
        which the verbs speak happens that has not happened; in each state the proxy chooses as it did, and chance too.  No entry
        is there that goes.
        """
        if not isinstance(journey.end, Loop):
            raise AssertionError("only a loop can close")
        back = journey.end.back_to
        cycle = [state for state in (start.state, *journey.states)[back:] if state is not None]
        first, length = cycle[0], len(cycle)
        sender = FromProxy(first.process, first.proxy)
        case = Case(self.terms, self.times[-1], Situation(sender), self.budget)
        js, t = case.journeys, self.terms
        while js.depth < length:
            js.extend()
        news = [
            symbolic.verdict(event, js, complete=True).possibly
            for event in _events(verbs)
            if concrete.holds(event, journey, self.setting) is not True
        ]
        js.extend()
        fixed = [_in_state(js, 0, first)]
        for hop, state in enumerate(cycle):
            pick = min(start.choices.picks.get(back + hop, 0), options(self.setting.host, state) - 1)
            here = _in_state(js, hop, state)
            fixed += [~(here & cond) | chosen.is_(pick) for cond, chosen in js.picked.get(hop, ())]
        for asked in js.record.asked:
            if isinstance(asked.match, Chance) and asked.evaluation.hop < length:
                at = replace(asked.evaluation, hop=asked.evaluation.hop + back)
                matched = start.choices.opaque.get(at) is Truth.MATCH
                fixed.append(asked.matches if matched else ~asked.matches)
        again = js.onward[length] & _in_state(js, length, first)
        return self.ask(case, *fixed, ~again | t.any_of(news)).outcome is Outcome.UNSAT

    def _stem(self, case: Case, wanted: Bool) -> tuple[Start, int] | Unknown | None:
        """A declared sender's packet that leads to a dial in `wanted`, and the hop of that dial; None if there is none.

        One that is asked by no opaque match on its way is taken before one that is.
        """
        js = case.journeys
        begin = js.states[0]
        if begin is None:
            raise AssertionError("a proxy's journey begins in a proxy state")
        t = self.terms
        doubt: Unknown | None = None
        for sender, premise in self.declared():
            other = self.case(Situation(sender))
            before = other.journeys
            sent = symbolic.meets(premise, before)
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
                arrives = t.any_of(arrivals)
                asked = t.any_of(a.cond for way in (before, js) for a in way.record.asked)
                for extra in [(~asked,)] * (asked.const is None) + [()]:
                    result = self.ask(other, *js.facts, sent, wanted, arrives, *extra)
                    if result.model is not None:
                        hop = next(h for h, a in enumerate(arrivals, 1) if result.model.holds(a))
                        return _joined(start_of(before, result.model), start_of(js, result.model), hop), hop
                if result.outcome is Outcome.UNKNOWN:
                    doubt = Unknown(f"the solver gave up: {result.reason}")
                if self.complete(other, sent):
                    break
            lost = t.any_of(e.cond for e in before.record.ends if isinstance(e.end, Unmodelled))
            if self.ask(other, sent, lost).outcome is not Outcome.UNSAT:
                doubt = doubt or Unknown(
                    f"whether it is reached from {sender} depends on what is not understood"
                )
        return doubt

    def _undecided(self, case: Case, claim: c.PacketClaim, model: Model) -> Answer:
        """The solver's packet breaks the claim only if something that we do not understand does so."""
        js = case.journeys
        self.write_all(case, symbolic.meets(claim.premise, js))
        question = self._question(js, claim, complete=True)
        before = () if js.earlier is None else js.earlier.record.asked
        clean = ~js.terms.any_of(asked.cond for asked in (*before, *js.record.asked))
        for extra in ((question.broken, clean), (question.broken, self.all_at_one_time(case))):
            result = self.ask(case, question.premise, *extra)
            if result.model is not None:
                found = self._candidate(case, claim, question, result.model)
                if found is not None:
                    return found
        start = start_of(js, model)
        check_wings(js, model, start)
        journey = start.travel(self.setting)
        names = (*self._names(js, model, journey.end, *journey.answers.values()), *journey.doubts)
        opaque = tuple(dict.fromkeys(names))
        if opaque:
            reason = "it depends on what is not understood"
        elif len(self.times) > 1:
            reason = (
                "some entries of its sets would have to be gone while others are there, or to go meanwhile"
            )
        else:
            reason = "its journey cannot be followed to an end"
        return Unknown(reason, opaque, self._counterexample(start, 0))

    def _names(self, js: Journeys, model: Model, *ends: End) -> Iterator[str]:
        from . import spell

        before = () if js.earlier is None else js.earlier.record.asked
        for asked in (*before, *js.record.asked):
            if model.holds(asked.cond) and not isinstance(asked.match, Chance):
                e = asked.evaluation
                chain, number = e.path[-1]
                text = f"{spell.literals((Literal(asked.match),))} ({e.table}/{chain} rule {number})"
                yield f"{text}: {owners.why(asked.match)}" if isinstance(asked.match, OwnerNames) else text
        for how in ends:
            if isinstance(how, Unmodelled):
                yield how.reason
            if isinstance(how, Group):
                yield "who gets a broadcast or multicast packet"

    # -- existence

    def _find(self, situation: Situation, claim: c.PacketClaim, familiar: bool) -> Answer:
        case = self.case(situation)
        js = case.journeys
        doing = replace(claim, quantifier=c.Quantifier.NO)
        complete = False
        while True:
            question = self._question(js, doing, complete)
            result = self.ask(case, question.premise, question.possibly_broken)
            if result.outcome is Outcome.UNKNOWN:
                return Unknown(f"the solver gave up: {result.reason}")
            if result.model is None:
                example = self._example(case, claim, question.premise)
                if not isinstance(example, Start):
                    return example
                return Refuted(None, "no packet of the premise does")
            found = self._candidate(case, doing, question, result.model, familiar)
            if found is None and not complete and result.model.holds(js.open):
                complete = self.complete(case, question.premise)
                if not complete:
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
            for situation in self.situations(claim.premise):
                case = self.case(situation)
                js = case.journeys
                excepted = symbolic.passes(exception.filter, js)
                complete = self.complete(case, symbolic.meets(wider.premise, js) & excepted)
                question = self._question(js, wider, complete)
                result = self.ask(case, question.premise, excepted, question.possibly_broken)
                needed = needed or result.outcome is not Outcome.UNSAT
            if not needed:
                notes.append(f"the exception `{exception.text}` is not needed")
        return tuple(notes)

    def _nothing_leaves(self, claim: c.PacketClaim) -> tuple[str, ...]:
        """A note for each `must pass ... before leaving` of packets of which none leaves at all."""
        notes = []
        for verb in claim.verbs if claim.quantifier is c.Quantifier.EVERY else ():
            if isinstance(verb, c.PassesBeforeLeaving):
                leaves = replace(claim, quantifier=c.Quantifier.NO, verbs=(c.Leaves(verb.interface),))
                told = [self._settle(situation, leaves) for situation in self.situations(claim.premise)]
                if all(isinstance(answer, Proved | Vacuous) for answer in told):
                    where = f" by {verb.interface}" if verb.interface else ""
                    notes.append(f"nothing leaves{where}, whether it passes {verb.process} or not")
        return tuple(notes)

    # -- telling

    def _counterexample(self, start: Start, hop: int) -> Counterexample:
        journey = start.travel(self.setting)
        return Counterexample(start.sender, journey, start.choices, hop, earlier=start.earlier)

    def _reason(self, claim: c.PacketClaim, start: Start, hop: int) -> str:
        if claim.quantifier is c.Quantifier.NO:
            return "this packet does"
        spoken = _dial(start, start.travel(self.setting, hop + 1), hop) if hop else start
        if spoken is None:
            raise AssertionError("a counterexample comes to the dial that it is about")
        journey = spoken.travel(self.setting)
        if claim.premise.sent_back:
            journey = concrete.of_answer(journey, 0) or journey
        failed = [v for v in claim.verbs if concrete.holds(v, journey, self.setting) is False]
        from .wording import affirmed, denied, say

        return "; ".join(affirmed(say(v.verb)) if isinstance(v, c.Not) else denied(say(v)) for v in failed)


def _of_all(literals: tuple[Literal, ...]) -> tuple[Literal, ...]:
    """Those that say the same of all packets of a connection from one end."""
    return tuple(x for x in literals if isinstance(x.match, OF_ALL_PACKETS))


OF_ALL_PACKETS = (
    r.Source, r.Destination, r.Protocol, r.InInterface, r.OutInterface, r.SourcePorts, r.DestinationPorts, r.MultiportSources,
    r.MultiportDestinations, r.MultiportPorts, r.SourceRange, r.DestinationRange, r.OwnerIds, r.IcmpType, r.Icmp6Type,
)  # fmt: skip
"""Matches of what all packets of a connection have in common (`journeys.OF_A_CONNECTION`)."""


def _none_behind(answers: Sequence[Answer]) -> tuple[str, ...]:
    """A note where no packet is found in an entry that an earlier one has left."""
    if answers and all(isinstance(answer, Vacuous) for answer in answers):
        return ("conntrack finds none of these packets in an entry of the earlier one",)
    return ()


class Question(Struct, frozen=True):
    """The packets that a claim speaks of, those that may break it, and those that surely do."""

    premise: Bool
    possibly_broken: Bool
    broken: Bool


def _without_choices(journey: Journey) -> Journey:
    """The journey, whatever was asked on it that nobody can say."""
    earlier = None if journey.earlier is None else _without_choices(journey.earlier)
    return replace(journey, asked=(), earlier=earlier)


def every_answer(
    start: Start,
    setting: Setting,
    does: Callable[[Journey], bool],
    *,
    hops: int | None = None,
    limit: int = 243,
) -> bool:
    """`does` holds of the journey (of its first `hops`) whatever the matches on its way answer that are not understood, and those
    on an earlier packet's; False beyond `limit` journeys.  What chance decides is as the start has it chosen.
    """
    chances = _chances(start.choices, setting)
    before = {} if start.earlier is None else _chances(start.earlier.choices, setting)
    open_: list[tuple[_Answers, _Answers]] = [(before, chances)]
    for _ in range(limit):
        if not open_:
            return True
        first, answers = open_.pop()
        trial = replace(start, choices=replace(start.choices, opaque=answers))
        if start.earlier is not None:
            chosen = replace(start.earlier.choices, opaque=first)
            trial = replace(trial, earlier=replace(start.earlier, choices=chosen))
        journey = trial.travel(setting, hops)
        earlier = () if journey.earlier is None else journey.earlier.asked
        asked = next((e for e in earlier if e not in first), None)
        if asked is not None:
            open_ += [({**first, asked: truth}, answers) for truth in _truths(asked_of(setting, asked))]
            continue
        asked = next((e for e in journey.asked if e not in answers), None)
        if asked is not None:
            open_ += [(first, {**answers, asked: truth}) for truth in _truths(asked_of(setting, asked))]
        elif not does(journey):
            return False
    return not open_


_Answers: TypeAlias = dict[Evaluation, Truth]


def _chances(choices: Choices, setting: Setting) -> _Answers:
    """What was left to chance, and how it fell out."""
    return {e: x for e, x in choices.opaque.items() if isinstance(asked_of(setting, e), Chance)}


def _truths(match: Match) -> tuple[Truth, ...]:
    """The answers that it may give, where nobody chose one."""
    match match:
        case Opaque():
            return tuple(Truth)
        case Chance():
            return (Truth.NO_MATCH,)
        case _:
            return (Truth.MATCH, Truth.NO_MATCH)


def _dial(start: Start, journey: Journey, hop: int) -> Start | None:
    """Hop `hop` of the journey as a start of its own, with the same ports, picks and ids; None if there is none."""
    if len(journey.states) < hop:
        return None
    state = journey.states[hop - 1]
    choices = later(start.choices, hop)
    return Start(FromProxy(state.process, state.proxy), None, state, choices)


def _in_state(journeys: Journeys, hop: int, state: ProxyState) -> Bool:
    """The hop is dialled from this proxy state."""
    at = journeys.states[hop]
    if at is None:
        raise AssertionError("a dial has a proxy state")
    index = next(
        i for i, (p, x) in enumerate(journeys.proxies) if (p.name, x.name) == (state.process, state.proxy)
    )
    same = at.proxy.is_(index) & at.address.is_(state.address) & at.port.is_(state.port)
    return same if state.client is None else same & at.client.is_(state.client)


def _events(verbs: Sequence[c.Verb]) -> Iterator[c.Verb]:
    """What the verbs ask to happen and what may happen on a journey that does not end.

    That a destination is `unchanged` is left out, since in a cycle the first packet is another.
    """
    for verb in verbs:
        match verb:
            case c.Not(inner):
                yield from _events((inner,))
            case c.AnyOf(inner):
                yield from _events(inner)
            case c.Reaches(_, _, having):
                yield replace(verb, having=replace(having, unchanged=False))
            case c.Enters() | c.Hits():
                yield verb
            case (
                c.Ends() | c.PassesBeforeLeaving() | c.Leaves() | c.IsDropped() | c.IsLost()
                | c.IsRejected() | c.IsRefused() | c.IsAnswered()
            ):  # fmt: skip
                pass
            case _:
                assert_never(verb)


def _joined(stem: Start, dial: Start, hop: int) -> Start:
    """The stem's journey, going on from its hop `hop` with the choices of the dial's."""
    choices = joined(stem.choices, dial.choices, hop)
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
            checked = tuple(sample for a in proofs for sample in a.checked)
            return replace(deepest, samples=sum(a.samples for a in proofs), checked=checked)
        if found:
            return found[0]
    return Vacuous("this host has nobody who could send it")
