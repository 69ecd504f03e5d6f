"""One mutant on one host: what the kernel does beside what the wings say, packet by packet and claim by claim."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import assert_never

from msgspec import Struct, field
from msgspec.structs import replace

from verifier import claims as c
from verifier import dead, spell
from verifier.answers import Answer, Counterexample, Proved, Refuted, Unknown, Vacuous
from verifier.canon import canonical
from verifier.concrete.claims import holds, meets
from verifier.concrete.travel import travel
from verifier.hosts import Setting
from verifier.journeys import Act, Choices, FromOutside, FromProcess, FromProxy, Journey, Sender
from verifier.kernel.errors import RulesRefused
from verifier.kernel.expected import matched, stimulus, told
from verifier.kernel.pods import Pod
from verifier.packets import Packet
from verifier.prove import Prover
from verifier.replay import Start

from .mutations import Mutant
from .pack import Asked, Ground
from .probes import Probe, probes


class What(Enum):
    """What there is to report of a trial."""

    REPLAYED = "replayed"
    """A counterexample (or a witness) did in the kernel what the wing tells."""
    NOT_REPLAYED = "not replayed"
    """No socket of ours can send it."""
    DISAGREEMENT = "disagreement"


class Finding(Struct, frozen=True):
    """One thing that was found, and, but for what is well, its description."""

    what: What
    text: str = ""


class Seen(Struct, frozen=True):
    """A probe, what the wing tells of it, and what the kernel did with it; the trial fails where these differ."""

    probe: Probe
    journey: Journey
    events: tuple[object, ...]


class Trial(Struct, frozen=True):
    """What came of a mutant on a host.

    `answers` are proved, refuted, unknown and vacuous by the claim's name; `dead` are the dead rules of nat, where the
    pack speaks of them.
    """

    mutant: str
    loaded: bool
    runs: int = 0
    answers: Mapping[str, str] = field(default_factory=dict)
    dead: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    def texts(self, what: What) -> list[str]:
        return [f.text for f in self.findings if f.what is what]


def attempt(pod: Pod, ground: Ground, mutant: Mutant) -> Trial:
    """Load the mutant, send the probes, ask the claims, and replay what refutes them."""
    try:
        pod.reload(spell.rule_set(mutant.rules))
    except RulesRefused:
        return Trial(mutant.name, loaded=False)
    setting = replace(ground.setting, rules=mutant.rules)
    seen = [
        Seen(p, travel(setting, p.sender, p.packet), pod.run(p.stimulus).events)
        for p in probes(ground.setting)
    ]
    findings = [*_compared(seen), *_counted(pod, seen)]
    answers: dict[str, str] = {}
    dead_rules: list[str] = []
    prover = Prover(setting)
    for asked in ground.asked:
        answer = prover.answer(asked.claim)
        answers[asked.name] = type(answer).__name__.lower()
        findings += _judged(pod, setting, asked, answer, seen)
    if ground.dead:
        for ref, life in _lives(prover).items():
            findings += _judged_rule(pod, setting, ref, life, seen)
            if life.dead:
                dead_rules.append(str(ref))
    return Trial(mutant.name, True, len(seen), answers, tuple(dead_rules), tuple(findings))


# -- packets --------------------------------------------------------------------------------------


def _compared(seen: Sequence[Seen]) -> Iterator[Finding]:
    """The kernel does with each probe what the wing tells, event by event."""
    for one in seen:
        if one.events != told(one.journey):
            text = f"{one.probe.stimulus}\n  kernel {one.events}\n  wing   {told(one.journey)}"
            yield Finding(What.DISAGREEMENT, text)


def _counted(pod: Pod, seen: Sequence[Seen]) -> Iterator[Finding]:
    """All probes together matched each rule of nat as often as the wing tells."""
    stops = (stop for one in seen for stop in one.journey.stops if stop.act is Act.MATCHED)
    said = Counter((stop.table, stop.chain, stop.rule) for stop in stops)
    for rule, count in pod.counters().items():
        if count != said[rule]:
            text = f"{rule} matched {count} times in the kernel, and {said[rule]} times in the wing"
            yield Finding(What.DISAGREEMENT, text)


# -- claims ---------------------------------------------------------------------------------------


def _judged(
    pod: Pod, setting: Setting, asked: Asked, answer: Answer, seen: Sequence[Seen]
) -> Iterator[Finding]:
    """An answer either names a packet (a counterexample, or the witness of an existence), or is about all packets."""
    named = answer.counterexample if isinstance(answer, Refuted) else None
    named = answer.witness if isinstance(answer, Proved) else named
    if named is None:
        yield from _of_all(setting, asked, answer, seen)
    elif named.hop > len(named.journey.states):
        yield Finding(What.DISAGREEMENT, f"{asked.name}: {named} ends before its hop {named.hop}")
    else:
        journey = _from_hop(setting, named.journey, named.hop, named.choices)
        if not _decides(asked.claim, setting, journey):
            yield Finding(What.DISAGREEMENT, f"{asked.name}: {named} does not decide it")
        yield _replayed(pod, asked.name, named)


def _of_all(setting: Setting, asked: Asked, answer: Answer, seen: Sequence[Seen]) -> Iterator[Finding]:
    """What is said of all packets holds of those that were seen; of an answer that says nothing, nothing is asked."""
    for one in seen:
        for hop in _hops(asked.claim.premise, setting, one.probe, one.journey):
            journey = _from_hop(setting, one.journey, hop, Choices())
            match answer:
                case Proved() | Refuted():
                    contradicted = _decides(asked.claim, setting, journey)
                case Vacuous():
                    contradicted = True
                case Unknown():
                    contradicted = False
                case _:
                    assert_never(answer)
            if contradicted:
                text = f"{asked.name}: {answer}, but see hop {hop} of {one.probe}: {one.events}"
                yield Finding(What.DISAGREEMENT, text)


def _hops(premise: c.Premise, setting: Setting, probe: Probe, journey: Journey) -> Iterator[int]:
    """The hops, in a journey that a declared sender begins, of whose packets the premise speaks."""
    match premise.who:
        case c.Outside() | c.OfProcess():
            if meets(premise, setting, probe.sender, probe.packet):
                yield 0
        case c.OfProxy(process, proxy):
            if not _is_declared(setting, probe.sender, probe.packet):
                return
            dials = {s.hop: s.packet for s in journey.stops if s.act is Act.SENT}
            for hop, state in enumerate(journey.states, 1):
                dialler = FromProxy(state.process, state.proxy)
                if dialler == FromProxy(process, proxy) and meets(premise, setting, dialler, dials[hop]):
                    yield hop
        case _:
            assert_never(premise.who)


def _from_hop(setting: Setting, journey: Journey, hop: int, choices: Choices) -> Journey:
    """The journey of a proxy's dial by itself: a loop that goes back before it takes it round once more."""
    if hop == 0:
        return journey
    state = journey.states[hop - 1]
    picks = {later - hop: pick for later, pick in choices.picks.items() if later >= hop}
    return travel(setting, FromProxy(state.process, state.proxy), None, Choices(picks=picks), state)


def _decides(claim: c.PacketClaim, setting: Setting, journey: Journey) -> bool:
    """True iff one such journey is enough to refute the claim, or to prove an existence."""
    does = [holds(verb, journey, setting) for verb in claim.verbs]
    if claim.quantifier is c.Quantifier.EVERY:
        return False in does
    return all(one is True for one in does)


def _is_declared(setting: Setting, sender: Sender, packet: Packet) -> bool:
    """True iff the host lets the sender send this packet, new as it is."""
    match sender:
        case FromOutside(interface):
            return meets(c.Premise(c.Outside(interface)), setting, sender, packet)
        case FromProcess(process):
            return meets(c.Premise(c.OfProcess(process)), setting, sender, packet)
        case FromProxy():
            return False
        case _:
            assert_never(sender)


def _replayed(pod: Pod, name: str, named: Counterexample) -> Finding:
    """The kernel makes the journey that was told, event by event and rule by rule."""
    chosen = named.choices
    if chosen.ports or chosen.uids or chosen.opaque:
        return Finding(What.NOT_REPLAYED, f"{name}: the pod's proxies do not choose {chosen}")
    try:
        first = stimulus(named.sender, named.journey.stops[0].packet)
        events = told(named.journey)
    except ValueError as reason:
        return Finding(What.NOT_REPLAYED, f"{name}: {reason}")
    observed = pod.run(first, chosen, hits=True)
    if (observed.events, observed.hits) == (events, matched(named.journey)):
        return Finding(What.REPLAYED)
    return Finding(What.DISAGREEMENT, f"{name}: {first}\n  kernel {observed}\n  wing   {events}")


# -- dead rules -----------------------------------------------------------------------------------


def _lives(prover: Prover) -> dict[c.RuleRef, dead.Life]:
    table = prover.setting.rules.tables["nat"]
    refs = [
        c.RuleRef("nat", n, i) for n, chain in table.chains.items() for i in range(1, len(chain.rules) + 1)
    ]
    return dead.on_host(prover, table, refs)


def _judged_rule(
    pod: Pod, setting: Setting, ref: c.RuleRef, life: dead.Life, seen: Sequence[Seen]
) -> Iterator[Finding]:
    """A rule that is dead is matched by no probe of a declared sender; one that is not, by a probe or else by its witness."""
    matching = (
        one
        for one in seen
        if _matches(ref, one.journey) and _is_declared(setting, one.probe.sender, one.probe.packet)
    )
    example = next(matching, None)
    if life.dead and example is not None:
        yield Finding(What.DISAGREEMENT, f"{ref} is dead, but {example.probe} matches it")
    if life.witness is not None and example is None:
        start = Start(life.witness.sender, life.witness.journey.stops[0].packet, None, life.witness.choices)
        yield _replayed(pod, str(ref), _familiar(start, setting, ref))


def _familiar(witness: Start, setting: Setting, ref: c.RuleRef) -> Counterexample:
    """A packet as familiar as can be that matches the rule as the witness does: most are TCP connections."""

    def still(trial: Start) -> bool:
        assert trial.packet is not None, "a witness begins with a declared sender"
        return _is_declared(setting, trial.sender, trial.packet) and _matches(ref, trial.travel(setting))

    assert still(witness), f"{witness} does not match {ref}"
    start = canonical(witness, setting, still)
    return Counterexample(start.sender, start.travel(setting), start.choices)


def _matches(ref: c.RuleRef, journey: Journey) -> bool:
    return (ref.table, ref.chain, ref.rule) in matched(journey)
