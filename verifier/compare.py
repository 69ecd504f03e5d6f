"""Claims about two hosts: the same packets fare the same on both; what is reached on one is reached on the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec.structs import replace

from . import assumptions, owners
from . import claims as c
from . import journeys as j
from . import rules as r
from .answers import Answer, Counterexample, Proved, Refuted, Unknown, Vacuous
from .asked import fields_carried, fields_of
from .bounds import hop_bound
from .canon import canonical
from .concrete import claims as concrete
from .concrete.conntrack import is_on
from .concrete.proxies import options
from .hooks import Hook
from .hosts import Assumption, Host, Listener, Process, Setting
from .prove import Budget, Prover
from .replay import Start, check_wings, literal_at, start_of
from .sets import IpSet, members
from .symbolic import claims as symbolic
from .symbolic.chains import TooLarge
from .symbolic.journeys import SymEnd
from .symbolic.packets import WIDTHS, Names, SymPacket, values_of
from .symbolic.terms import Bool, Model, Outcome, Solver, Terms
from .symbolic.travel import Journeys
from .values import AddressSet, Net
from .wording import say_premise

# -- faring the same ----------------------------------------------------------------------------


def same(first: Setting, second: Setting, claim: c.SameClaim, budget: Budget) -> Answer:
    """Proved iff each packet of the premise, which both hosts' senders may send, has the same outcomes on both."""
    first, second = carrying_alike(first, second, claim.premise)
    taken = _both(first, second, claim.premise)
    who = claim.premise.who
    if isinstance(who, c.OfProxy):
        return Unknown(
            "two hosts are compared by what comes from outside or from a process, not by a proxy's dials",
            assumptions=taken,
        )
    if isinstance(who, c.OfProcess) and who.process not in {p.name for p in second.host.processes}:
        return Unknown(f"{claim.second} has no process {who.process}", assumptions=taken)
    terms = Terms()
    senders = Prover(first, budget, terms).senders(who)
    alone = {str(s) for s in senders} ^ {str(s) for s in Prover(second, budget, terms).senders(who)}
    if alone:
        return Unknown(f"on one host alone there is {', '.join(sorted(alone))}", assumptions=taken)
    names = Names(("", *dict.fromkeys(i.name for s in (first, second) for i in s.host.interfaces)))
    bound = max(hop_bound(s.host, rules=s.rules) for s in (first, second))
    depth = 0
    seen = False
    for sender in senders:
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
    return Proved(depth, bound, taken)


def carrying_alike(first: Setting, second: Setting, premise: c.Premise) -> tuple[Setting, Setting]:
    """Both settings, whose packets carry what the rules of either ask for, and the premise."""
    filters = (premise.filter, *(exception.filter for exception in premise.exceptions))
    asked = fields_of(tuple(literal for wanted in filters for literal in wanted.where))
    asked |= fields_carried(first) | fields_carried(second)
    return replace(first, also=asked), replace(second, also=asked)


class _Pair:
    """One sender's journeys on two hosts, of the same first packet and with the same draws."""

    def __init__(
        self, terms: Terms, first: Setting, second: Setting, sender: j.Sender, names: Names, budget: Budget
    ) -> None:
        self.settings = (first, second)
        self.ways = tuple(
            Journeys(terms, s, sender, "both: ", names, answers=f"{which}: ")
            for which, s in enumerate(self.settings)
        )
        if not _draw_alike(first.host, second.host):
            self.ways[1].prefix = "1: "  # The first packet is written: what is drawn later is drawn apart.
        self.terms = terms
        self.budget = budget
        self.told: dict[str, bool] = {}

    def solver(self, *ways: Journeys) -> Solver:
        """A solver that knows the facts of these journeys, and of both how their opaque matches go together."""
        solver = Solver(self.terms, self.budget.timeout_ms, self.budget.scripts)
        solver.add(*(fact for way in ways for fact in way.facts))
        if len(ways) == 2:
            solver.add(*_coupled(*ways))
        return solver


def _draw_alike(first: Host, second: Host) -> bool:
    """Proxies of the same name have the same ids and as many dials to choose from on both hosts."""

    def draws(process: Process) -> Mapping[str, object]:
        counts = {x.name: [len(route.dials) for route in x.routes] for x in process.proxies}
        return {"uid": process.uid, "gid": process.gid, **counts}

    others = {p.name: draws(p) for p in second.processes}
    return all(
        theirs.get(key, value) == value
        for process in first.processes
        for theirs in [others.get(process.name, {})]
        for key, value in draws(process).items()
    )


def _coupled(first: Journeys, second: Journeys) -> Iterator[Bool]:
    """One opaque match (same text, same place, same set) gives one answer to the same packet, if it was sent the same."""
    theirs = {a.evaluation: a for a in second.record.asked}
    for a in first.record.asked:
        b = theirs.get(a.evaluation)
        if b is not None and _asks_the_same(a.evaluation, first.setting, second.setting):
            hop = a.evaluation.hop
            sent = _equal(first.sent[hop], second.sent[hop])
            alike = _equal(a.packet, b.packet) & sent
            same = (a.matches & b.matches) | (~a.matches & ~b.matches)
            both = (a.drops & b.drops) | (~a.drops & ~b.drops)
            yield ~alike | (same & both)
    drawn = {d.evaluation: d for d in second.record.draws}
    for d in first.record.draws:
        e = drawn.get(d.evaluation)
        if e is not None and d.target == e.target:
            hop = d.evaluation.hop
            alike = _equal(d.packet, e.packet) & _equal(first.sent[hop], second.sent[hop])
            for mine, other in ((d.address, e.address), (d.port, e.port)):
                if mine is not None and other is not None:
                    yield ~alike | mine.is_(other)


def _asks_the_same(at: j.Evaluation, first: Setting, second: Setting) -> bool:
    """Both hosts' rules have the same literal there; and where it asks for a set, the set is the same."""
    mine, theirs = literal_at(first, at), literal_at(second, at)
    if mine != theirs:
        return False
    match = mine.match
    return not isinstance(match, r.MatchSet) or _held(match.name, first.host) == _held(
        match.name, second.host
    )


def _held(name: str, host: Host) -> tuple[IpSet, ...] | None:
    """The set of this name and its members; None where nobody knows what is in it."""
    s = host.sets.get(name)
    return None if s is None else (s, *(host.sets[member] for member in members(s)))


def _equal(p: SymPacket, q: SymPacket) -> Bool:
    t = p.terms
    fields = [getattr(p, name).is_(getattr(q, name)) for name in WIDTHS]
    fields += [term.is_(q.field(name)) for name, term in p.rare.items()]
    one, other = p.connection, q.connection
    if one is not None and other is not None:
        fields += [(one.known & other.known) | (~one.known & ~other.known)]
        fields += [one.status.is_(other.status), one.mark.is_(other.mark)]
        for mine, theirs in ((one.original, other.original), (one.reply, other.reply)):
            ends = mine.__struct_fields__
            fields += [getattr(mine, end).is_(getattr(theirs, end)) for end in ends]
    return t.all_of(fields) & ((p.socket & q.socket) | (~p.socket & ~q.socket))


def _same_from(pair: _Pair, claim: c.SameClaim) -> Answer:
    first, second = pair.ways
    premise, other = (symbolic.meets(claim.premise, way) for way in pair.ways)
    for way, cond, there, elsewhere, names in (
        (first, premise, second, other, (claim.first, claim.second)),
        (second, other, first, premise, (claim.second, claim.first)),
    ):
        sent = pair.solver(way).check(cond, ~pair.terms.all_of([*there.facts, elsewhere]))
        if sent.outcome is not Outcome.UNSAT:
            return Unknown(f"some of these packets can be sent in {names[0]} and not in {names[1]}")
    while True:
        solver = pair.solver(first, second)
        doubt = _may_differ(pair) | first.open | second.open
        result = solver.check(premise, doubt)
        if result.outcome is Outcome.UNKNOWN:
            return Unknown(f"the solver gave up: {result.reason}")
        if result.model is None:
            exists = solver.check(premise)
            if exists.outcome is Outcome.UNKNOWN:
                return Unknown(f"the solver gave up: {exists.reason}")
            if exists.model is None:
                return Vacuous("no packet meets the premise")
            return Proved(
                max(first.depth, second.depth),
                max(hop_bound(way.host, rules=way.setting.rules) for way in pair.ways),
            )
        going = [
            way for way in pair.ways if result.model.holds(way.open) and not _complete(way, solver, premise)
        ]
        starts = [start_of(way, result.model) for way in pair.ways]
        for way, start in zip(pair.ways, starts, strict=True):
            check_wings(way, result.model, start)
        for start in starts:
            if _differs(start, pair) is not None:
                return _told_apart(start, pair, claim)
        if not going:
            sure = solver.check(premise, _may_differ(pair, surely=True), _unasked(pair))
            if sure.model is not None:
                start = start_of(first, sure.model)
                if _differs(start, pair) is not None:
                    return _told_apart(start, pair, claim)
            opaque = _opaque(pair, result.model)
            return Unknown(
                "it depends on what is not understood"
                if opaque
                else "whether both fare the same is not known",
                opaque,
            )
        for way in going:
            way.extend()


def _told_apart(start: Start, pair: _Pair, claim: c.SameClaim) -> Answer:

    def still(trial: Start) -> bool:
        packet = trial.packet
        return (
            packet is not None
            and all(concrete.meets(claim.premise, s, trial.sender, packet) for s in pair.settings)
            and _differs(trial, pair) is not None
        )

    start = canonical(start, pair.settings[0], still)
    found = _differs(start, pair)
    if found is None:
        raise AssertionError("what is told apart differs")
    chosen, one, other = found
    reason = f"{_short(one)} in {claim.first}, {_short(other)} in {claim.second}"
    return Refuted(Counterexample(chosen.sender, one, chosen.choices, other=other), reason)


def _may_differ(pair: _Pair, *, surely: bool = False) -> Bool:
    """The packets with two ends that are not alike; `surely`: and both of which are known."""
    t = pair.terms
    first, second = (
        [e for e in way.record.ends if not (surely and isinstance(e.end, _VAGUE))] for way in pair.ways
    )
    return t.any_of(
        a.cond & t.any_of(b.cond & ~_alike(a.end, a.packet, a.hop, b, pair) for b in second) for a in first
    )


def _unasked(pair: _Pair) -> Bool:
    return ~pair.terms.any_of(asked.cond for way in pair.ways for asked in way.record.asked)


def _alike(end: j.End, p: SymPacket, hop: int, b: SymEnd, pair: _Pair) -> Bool:
    """This end, of a packet `p` at hop `hop`, is the same outcome as `b` on the other host.

    An end that is not modelled is like no other.  Source ports that are drawn are not compared.
    """
    t = pair.terms
    one, other = _kind(end), _kind(b.end)
    if one is None or one != other:
        return t.false
    if isinstance(end, j.Group) and not _group_alike(pair, end):
        return t.false
    if isinstance(end, j.Dropped | j.Rejected | j.Lost):
        return t.true
    q = b.packet
    same = [
        p.src.is_(q.src),
        p.dst.is_(q.dst),
        p.proto.is_(q.proto),
        p.dport.is_(q.dport),
        p.flags.is_(q.flags),
        p.mark.is_(q.mark),
    ]
    same += [term.is_(q.field(name)) for name, term in p.rare.items()]
    if hop == 0 or b.hop == 0:
        same.append(p.sport.is_(q.sport))
    return t.all_of(same)


def _kind(end: j.End) -> tuple[object, ...] | None:
    """What two ends must have in common, but for their packets; None where nothing is known of an end."""
    match end:
        case j.Socket(process, listener):
            return ("socket", process, listener.port, listener.address)
        case j.Lost(reason):
            return ("lost", reason)
        case j.Rejected():
            return ("rejected", end.how)
        case j.Left(interface):
            return ("left", interface)
        case j.Group(hooks, out):
            return ("group", hooks, out)
        case j.Unmodelled():
            return None
        case _:
            return (type(end).__name__,)


def _group_alike(pair: _Pair, end: j.Group) -> bool:
    """What a group's packet may still pass is the same on both hosts: the rules of these hooks, and the sockets."""
    key = str(end.hooks)
    if key not in pair.told:
        one, other = (_to_come(s, end.hooks) for s in pair.settings)
        pair.told[key] = one == other
    return pair.told[key]


def _to_come(setting: Setting, hooks: tuple[Hook, ...]) -> object:
    chains = {
        (table.name, hook): _called(table, hook.value)
        for table in setting.rules.tables.values()
        for hook in hooks
        if hook.value in table.chains
    }
    sockets = {(p.name, listener) for p in setting.host.processes for listener in p.listens}
    return chains, sockets, is_on(setting.rules), setting.host.interfaces, setting.host.backend


def _called(table: r.Table, chain: str) -> dict[str, r.Chain]:
    """The chain and all that it calls, by name."""
    out: dict[str, r.Chain] = {}
    waiting = [chain]
    while waiting:
        name = waiting.pop()
        if name not in out:
            out[name] = table.chains[name]
            targets = (rule.target for rule in out[name].rules)
            waiting += [x.chain for x in targets if isinstance(x, r.Jump | r.Goto)]
    return out


def _differs(start: Start, pair: _Pair) -> tuple[Start, j.Journey, j.Journey] | None:
    """An outcome that one host has for this first packet, and the other has not, whatever is drawn, chosen or
    answered there: with the journeys on the first host and on the second, and the choices of the first.
    """
    for here, there in ((0, 1), (1, 0)):
        for chosen, journey in _journeys(start, pair.settings[here]):
            if _impossible(chosen, journey, pair, there):
                beside = chosen.travel(pair.settings[there])
                return (
                    (chosen, journey, beside)
                    if here == 0
                    else (start, start.travel(pair.settings[0]), journey)
                )
    return None


def _impossible(start: Start, journey: j.Journey, pair: _Pair, there: int) -> bool:
    """No journey of this first packet on the other host comes to this outcome."""
    hop = journey.last_hop
    other = start.travel(pair.settings[there])
    chosen = other.asked or any(d.evaluation.hop == 0 for d in pair.ways[there].record.draws)
    if hop == 0 and other.last_hop == 0 and not chosen and not isinstance(other.end, _VAGUE):
        # Nothing is drawn on either host.
        return concrete.outcome(journey) != concrete.outcome(other)
    way, t = pair.ways[there], pair.terms
    packet = journey.stops[0].packet
    fixed = pair.solver(way)
    known = values_of(packet, way.names)
    sent = way.sent[0]
    fixed.add(*(getattr(sent, name).is_(int(known[name])) for name in FIRST))
    fixed.add(*(term.is_(int(known[name])) for name, term in sent.rare.items()))
    while not _complete(way, fixed):
        told = len(way.facts)
        way.extend()
        fixed.add(*way.facts[told:])
    final = SymPacket.of(t, journey.final, way.names, way.fields)
    possible = t.any_of(
        e.cond & (t.true if isinstance(e.end, _VAGUE) else _alike(journey.end, final, hop, e, pair))
        for e in way.record.ends
    )
    return fixed.check(possible).outcome is Outcome.UNSAT


def _complete(way: Journeys, solver: Solver, *cond: Bool) -> bool:
    """Every proxy state that a journey of these first packets can come to has been in the hops that are written."""
    if way.depth > hop_bound(way.host, rules=way.setting.rules):
        return True
    return solver.check(*cond, way.unrepeated).outcome is Outcome.UNSAT


FIRST = (
    "src",
    "dst",
    "proto",
    "sport",
    "dport",
    "flags",
    "icmp_type",
    "icmp_code",
    "uid",
    "gid",
    "mark",
    "device",
)
"""The fields that make a first packet what it is; the host gives it the others."""

_VAGUE = (j.Unmodelled, j.Onward, j.Group, j.Loop)
"""Ends that are no outcome, or none that is known to be another: a loop may be left by another draw."""


def _journeys(start: Start, setting: Setting) -> Iterator[tuple[Start, j.Journey]]:
    """The journey for each choice of the proxies, where it comes to an outcome that is known."""
    waiting: list[dict[int, int]] = [{}]
    while waiting:
        picks = waiting.pop()
        trial = replace(start, choices=replace(start.choices, picks=picks))
        journey = trial.travel(setting)
        if journey.asked:
            continue
        for hop, state in enumerate(journey.states, 1):
            many = options(setting.host, state)
            if hop not in picks and many > 1:
                waiting += [{**picks, hop: i} for i in range(many)]
                break
        else:
            if not isinstance(journey.end, _VAGUE):
                yield trial, journey


def _opaque(pair: _Pair, model: Model) -> tuple[str, ...]:
    from . import spell

    texts = [
        f"{spell.literals((r.Literal(a.match),))}"
        + (f": {owners.why(a.match)}" if isinstance(a.match, r.OwnerNames) else "")
        for way in pair.ways
        for a in way.record.asked
        if model.holds(a.cond)
    ]
    texts += [
        e.end.reason
        for way in pair.ways
        for e in way.record.ends
        if isinstance(e.end, j.Unmodelled) and model.holds(e.cond)
    ]
    if any(isinstance(e.end, j.Group) and model.holds(e.cond) for way in pair.ways for e in way.record.ends):
        texts.append("who gets a broadcast or multicast packet")
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
            was = _reached(before, claim.premise, process.name, listener)
            if isinstance(was, Unknown):
                unknown.append(f"{process.name} {listener}: {was.reason}")
            if not isinstance(was, Proved) or was.witness is None:
                continue
            reached += 1
            deepest = max(deepest, was.hops)
            answers = [
                _reached(after, claim.premise, process.name, x)
                for x in _counterparts(process, listener, after.setting.host)
            ]
            doubts = [a.reason for a in answers if isinstance(a, Unknown)]
            if any(isinstance(a, Proved) for a in answers):
                continue
            if doubts:
                unknown.append(f"{process.name} {listener}: {doubts[0]}")
            else:
                lost.append(f"{process.name} {listener}")
                if shown is None:
                    was = _reached(before, claim.premise, process.name, listener, familiar=True)
                    if isinstance(was, Proved) and was.witness is not None:
                        shown = _again(was.witness, after.setting)
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


def _counterparts(process: Process, listener: Listener, host: Host) -> list[Listener]:
    """The same listener on the other host, or else those of its process and port that are no other's counterpart."""
    theirs = [x for p in host.processes if p.name == process.name for x in p.listens]
    if listener in theirs:
        return [listener]
    return [
        x
        for x in theirs
        if (x.protocol, x.port) == (listener.protocol, listener.port) and x not in process.listens
    ]


def _reached(
    prover: Prover, premise: c.Premise, process: str, listener: Listener, *, familiar: bool = False
) -> Answer:
    """Whether some packet of the premise is delivered to this very listener.

    Its protocol is that of the first packet, since proxies speak TCP alone and dial TCP alone; listeners of one
    port are told apart by the addresses at which each gets what is sent there.
    """
    alike = [
        x
        for p in prover.setting.host.processes
        for x in p.listens
        if (x.protocol, x.port) == (listener.protocol, listener.port) and x != listener
    ]
    if alike and any(x.device is not None for x in (listener, *alike)):
        return Unknown("listeners of one port that are bound to devices are not told apart")
    if premise.filter.protocol not in (None, listener.protocol):
        return Vacuous("no packet meets the premise")
    if listener.address is not None:
        at = AddressSet((Net(listener.address),))
    else:
        at = AddressSet((), tuple(Net(x.address) for x in alike if x.address is not None))
    spoken = replace(premise, filter=replace(premise.filter, protocol=listener.protocol))
    verb = c.Reaches(process, listener.port, c.With(destination=at))
    return prover.answer(c.PacketClaim(c.Quantifier.SOME, spoken, (verb,)), familiar=familiar)


def _again(witness: Counterexample, after: Setting) -> Counterexample:
    """The witness with its journey on the other host beside it, where it has the same sender."""
    start = Start(witness.sender, witness.journey.stops[0].packet, None, witness.choices)
    sender = witness.sender
    if isinstance(sender, j.FromOutside):
        known = sender.interface in {i.name for i in after.host.interfaces}
    else:
        known = sender.process in {p.name for p in after.host.processes}
    return replace(witness, other=start.travel(after)) if known else witness


def _both(first: Setting, second: Setting, premise: c.Premise) -> tuple[Assumption, ...]:
    every = {*assumptions.of(first, premise), *assumptions.of(second, premise), assumptions.COUPLED}
    return tuple(sorted(every, key=lambda a: (a.code, a.text)))
