"""One mutant on one host: what the kernel does beside what the wings say, packet by packet and claim by claim."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from verifier import claims as c
from verifier import dead, spell
from verifier.answers import Answer, Counterexample, Proved, Refuted, Vacuous
from verifier.concrete.claims import holds, meets
from verifier.concrete.travel import travel
from verifier.hosts import Setting
from verifier.journeys import Act, FromOutside, FromProcess, FromProxy, Journey, Sender
from verifier.packets import Packet
from verifier.prove import Prover

from .expected import matched, stimulus, told
from .iptables import RulesRefused
from .mutations import Mutant
from .observed import Hit
from .pack import Asked, Ground
from .pods import Pod
from .probes import Probe, probes


@dataclass(slots=True)
class Trial:
    """What came of a mutant on a host; everything is well iff nothing is in `disagreements`."""

    mutant: str
    loaded: bool = True
    runs: int = 0
    answers: dict[str, str] = field(default_factory=dict)
    """What was answered, by the claim's name: proved, refuted, unknown, vacuous; of a rule, dead or alive."""
    replayed: int = 0
    not_replayed: list[str] = field(default_factory=list)
    """Counterexamples that no socket can send."""
    disagreements: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Seen:
    """A journey that the kernel made as the concrete wing tells it."""

    sender: Sender
    packet: Packet
    journey: Journey


def attempt(pod: Pod, ground: Ground, mutant: Mutant) -> Trial:
    """Load the mutant, send the probes, ask the claims, and replay what refutes them."""
    trial = Trial(mutant.name)
    try:
        pod.reload(spell.rule_set(mutant.rules))
    except RulesRefused:
        trial.loaded = False
        return trial
    setting = replace(ground.setting, rules=mutant.rules)
    seen = list(_probe(pod, setting, probes(ground.setting), trial))
    counters = pod.counters()
    _compare_counters(counters, seen, trial)
    prover = Prover(setting)
    for asked in ground.asked:
        answer = prover.answer(asked.claim)
        trial.answers[asked.name] = type(answer).__name__.lower()
        _judge(pod, setting, asked, answer, seen, trial)
    if ground.dead:
        _judge_dead(pod, prover, counters, trial)
    return trial


# -- packets --------------------------------------------------------------------------------------


def _probe(pod: Pod, setting: Setting, sent: Iterable[Probe], trial: Trial) -> Iterator[Seen]:
    for probe in sent:
        journey = travel(setting, probe.sender, probe.packet)
        observed = pod.run(probe.stimulus)
        trial.runs += 1
        if observed.events != told(journey):
            trial.disagreements.append(
                f"{probe.stimulus}\n  the kernel {observed.events}\n  the wing {told(journey)}"
            )
        yield Seen(probe.sender, probe.packet, journey)


def _compare_counters(counters: dict[Hit, int], seen: Sequence[Seen], trial: Trial) -> None:
    """Each rule of nat was matched as often as the wing says."""
    said = Counter(
        (s.table, s.chain, s.rule) for x in seen for s in x.journey.stops if s.act is Act.MATCHED
    )
    for rule, count in counters.items():
        if rule[0] == "nat" and count != said[rule]:
            trial.disagreements.append(f"{rule} matched {count} times in the kernel, {said[rule]} in the wing")


# -- claims ---------------------------------------------------------------------------------------


def _judge(
    pod: Pod, setting: Setting, asked: Asked, answer: Answer, seen: Sequence[Seen], trial: Trial
) -> None:
    """The counterexample of a refutation (the witness of an existence) breaks the claim in the kernel too; and what
    is said of all packets holds of those that were seen."""
    claim = asked.claim
    found = answer.counterexample if isinstance(answer, Refuted) else None
    found = answer.witness if isinstance(answer, Proved) else found
    if found is not None:
        if not _breaks(claim, setting, found.journey, found.hop):
            trial.disagreements.append(f"{asked.name}: {found} does not break it")
        _replay(pod, asked.name, found, trial)
        return
    spoken_of = [(x, hop) for x in seen for hop in _hops(claim.premise, setting, x)]
    if isinstance(answer, Vacuous) and spoken_of:
        trial.disagreements.append(f"{asked.name}: vacuous, and yet there is {spoken_of[0]}")
    if isinstance(answer, Proved | Refuted):
        for x, hop in spoken_of:
            if _breaks(claim, setting, x.journey, hop):
                trial.disagreements.append(f"{asked.name}: {answer}, and yet {x} from hop {hop} on")


def _hops(premise: c.Premise, setting: Setting, seen: Seen) -> Iterator[int]:
    """The hops of a journey, sent by somebody who is declared, of whose packets the premise speaks."""
    match premise.who:
        case c.Outside() | c.OfProcess():
            if meets(premise, setting, seen.sender, seen.packet):
                yield 0
        case c.OfProxy(process, proxy):
            if not any(meets(p, setting, seen.sender, seen.packet) for p in _declared(seen.sender)):
                return
            sender = FromProxy(process, proxy)
            dials = {s.hop: s.packet for s in seen.journey.stops if s.act is Act.SENT and s.hop}
            for hop, state in enumerate(seen.journey.states, 1):
                dialled = (state.process, state.proxy) == (process, proxy)
                if dialled and meets(premise, setting, sender, dials[hop]):
                    yield hop


def _declared(sender: Sender) -> Iterator[c.Premise]:
    match sender:
        case FromOutside(interface):
            yield c.Premise(c.Outside(interface))
        case FromProcess(process):
            yield c.Premise(c.OfProcess(process))
        case FromProxy():
            pass


def _breaks(claim: c.PacketClaim, setting: Setting, journey: Journey, hop: int) -> bool:
    """Of an existence: the journey is one that is said to exist."""
    does = [holds(verb, journey, setting, hop) for verb in claim.verbs]
    if claim.quantifier is c.Quantifier.EVERY:
        return False in does
    return all(one is True for one in does)


def _replay(pod: Pod, name: str, found: Counterexample, trial: Trial) -> None:
    """The kernel makes the counterexample's journey, event by event and rule by rule."""
    if found.choices.ports or found.choices.uids or found.choices.opaque:
        trial.not_replayed.append(f"{name}: {found.choices} are not the pod's to choose")
        return
    try:
        first = stimulus(found.sender, found.journey.stops[0].packet)
        events = told(found.journey)
    except ValueError as reason:
        trial.not_replayed.append(f"{name}: {reason}")
        return
    observed = pod.run(first, found.choices.picks, hits=True)
    if (observed.events, observed.hits) != (events, matched(found.journey)):
        trial.disagreements.append(f"{name}: {first}\n  the kernel {observed}\n  the wing {events}")
    else:
        trial.replayed += 1


# -- dead rules -----------------------------------------------------------------------------------


def _judge_dead(pod: Pod, prover: Prover, counters: dict[Hit, int], trial: Trial) -> None:
    """No probe of a declared sender matched a rule that is dead; the witness of one that is not matches it."""
    table = prover.setting.rules.tables["nat"]
    refs = [
        c.RuleRef("nat", name, number)
        for name, chain in table.chains.items()
        for number in range(1, len(chain.rules) + 1)
    ]
    for ref, life in dead.on_host(prover, table, refs).items():
        trial.answers[str(ref)] = {True: "dead", False: "alive", None: "unknown"}[life.dead]
        if life.witness is not None:
            if (ref.table, ref.chain, ref.rule) not in matched(life.witness.journey):
                trial.disagreements.append(f"{ref}: {life.witness} does not match it")
            _replay(pod, str(ref), life.witness, trial)
