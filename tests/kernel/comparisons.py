"""Who notices a mutant: for each declared sender, whether all its TCP packets fare as under the original rules, or one that does not."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from verifier import claims as c
from verifier import compare, spell
from verifier.answers import Answer, Proved, Refuted
from verifier.concrete.claims import meets, outcome
from verifier.concrete.travel import travel
from verifier.hosts import Host
from verifier.journeys import Journey, Sender
from verifier.kernel.expected import stimulus, told
from verifier.kernel.observed import Event
from verifier.kernel.pods import Pod
from verifier.prove import Budget
from verifier.rules import RuleSet
from verifier.values import TCP, Span

from .mutations import Mutant
from .pack import Ground
from .probes import probes


class Comparison(Struct, frozen=True):
    """The answer to "every TCP packet of this sender fares the same under the original rules and under the mutant"."""

    premise: c.Premise
    answer: Answer


def comparisons(ground: Ground, mutant: Mutant) -> Iterator[Comparison]:
    """One for each of those who send on this host of their own accord."""
    everybody: list[c.Who] = [c.Outside(), *(c.OfProcess(p.name) for p in ground.setting.host.processes)]
    mutated = replace(ground.setting, rules=mutant.rules)
    for who in everybody:
        premise = c.Premise(who, filter=c.Filter(protocol=TCP, ports=_unproxied(ground.setting.host)))
        claim = c.SameClaim(premise, "the original", "the mutant")
        yield Comparison(premise, compare.same(ground.setting, mutated, claim, Budget()))


def _unproxied(host: Host) -> tuple[Span, ...]:
    """All ports but those that proxies accept on: who dials a proxy itself may send it round for ever, and of journeys
    that do not end it is not known whether they fare the same.
    """
    accepts = sorted({proxy.accepts for process in host.processes for proxy in process.proxies})
    firsts, lasts = [0, *(port + 1 for port in accepts)], [*(port - 1 for port in accepts), 0xFFFF]
    return tuple(Span(first, last) for first, last in zip(firsts, lasts, strict=True) if first <= last)


def contradiction(pod: Pod, ground: Ground, mutant: Mutant, comparison: Comparison) -> str | None:
    """What the kernel has against the answer, if anything: a refutation's packet does not do what is told of it,
    or a probe fares otherwise where all packets are said to fare the same.
    """
    answer = comparison.answer
    if isinstance(answer, Refuted) and answer.counterexample is not None:
        found = answer.counterexample
        assert found.other is not None, "two rule sets are compared"
        if outcome(found.journey) == outcome(found.other):
            return f"{answer.reason}, and yet the outcomes are the same"
        return _unlike(pod, ground.setting.rules, found.sender, found.journey) or _unlike(
            pod, mutant.rules, found.sender, found.other
        )
    if isinstance(answer, Proved):
        mutated = replace(ground.setting, rules=mutant.rules)
        for probe in probes(ground.setting):
            if meets(comparison.premise, ground.setting, probe.sender, probe.packet):
                before, after = (
                    outcome(travel(setting, probe.sender, probe.packet))
                    for setting in (ground.setting, mutated)
                )
                if before != after:
                    return f"{answer}, and yet {probe} fares otherwise: {before}, {after}"
    return None


def _unlike(pod: Pod, rules: RuleSet, sender: Sender, journey: Journey) -> str | None:
    """What the kernel does with a journey's first packet under these rules, if not what is told."""
    pod.reload(spell.rule_set(rules))
    first = stimulus(sender, journey.stops[0].packet)
    events: tuple[Event, ...] = pod.run(first).events
    return None if events == told(journey) else f"{first}\n  kernel {events}\n  wing   {told(journey)}"
