"""What the corpus touches: the share of its packets that match a rule, and how often each match and target was
taken and passed by.

    python -m tests.agree.coverage
"""

from __future__ import annotations

from collections import Counter
from unittest.mock import patch

from msgspec import Struct, field

from verifier import rules as r
from verifier.concrete import chains, matches
from verifier.journeys import Act, CallPath, Evaluation, Site, Truth
from verifier.packets import Packet

from . import strategies
from .corpus import corpus

MATCHES: tuple[type, ...] = strategies.MATCHES
TARGETS: tuple[type, ...] = (*strategies.TARGETS, type(None))


class Coverage(Struct):
    """Counts over the corpus, by class: literals that held and that did not, targets whose rule matched or did not."""

    settings: int = 0
    trips: int = 0
    stops: int = 0
    matched: int = 0
    """Trips that matched at least one rule."""
    dialled: int = 0
    """Trips of more than one hop."""
    deepest: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    held: Counter[tuple[type, bool, bool]] = field(default_factory=Counter)
    """(match, negated, whether the match held)"""
    taken: Counter[tuple[type, Truth]] = field(default_factory=Counter)
    asked: Counter[Truth] = field(default_factory=Counter)


def measure() -> Coverage:
    """Follow all trips of the corpus with the concrete wing, and count."""
    found = Coverage(settings=corpus().settings)
    truth = chains._truth

    def counted(visit: chains.Visit, rule: r.Rule, packet: Packet, calls: CallPath, site: Site) -> Truth:
        answer = truth(visit, rule, packet, calls, site)
        found.taken[type(rule.target), answer] += 1
        for literal in rule.literals:
            if not matches.is_choice(literal.match, packet, visit.road):
                holds = matches.holds(literal.match, packet, visit.road)
                found.held[type(literal.match), literal.negated, holds] += 1
        return answer

    with patch.object(chains, "_truth", counted):
        for example in corpus().examples:
            journey = example.trip.travel()
            found.trips += 1
            found.stops += len(journey.stops)
            found.matched += any(stop.act is Act.MATCHED for stop in journey.stops)
            hops = journey.last_hop + 1
            found.dialled += hops > 1
            found.deepest = max(found.deepest, hops)
            found.ends[type(journey.end).__name__ + str(getattr(journey.end, "reason", ""))] += 1
            for question in journey.asked:
                found.asked[_answered(example.trip.choices.opaque, question)] += 1
    return found


def _answered(answers: object, question: Evaluation) -> Truth:
    assert isinstance(answers, dict)
    truth: Truth = answers.get(question, Truth.NO_MATCH)
    return truth


def report(found: Coverage) -> str:
    """The counts as a table."""
    share = 100 * found.matched / found.trips
    lines = [
        f"{found.trips} packets in {found.settings} settings, {found.stops} stops, journeys of up to {found.deepest} hops",
        f"{found.matched} packets ({share:.0f}%) matched at least one rule, {found.dialled} were dialled on by a proxy",
        "",
        f"{'match':<24}{'held':>8}{'did not':>8}   {'negated: held':>14}{'did not':>8}",
    ]
    for kind in MATCHES:
        plain, negated = (
            (found.held[kind, which, True], found.held[kind, which, False]) for which in (False, True)
        )
        lines.append(f"{kind.__name__:<24}{plain[0]:>8}{plain[1]:>8}   {negated[0]:>14}{negated[1]:>8}")
    lines.append(f"  opaque matches said: {', '.join(f'{t.value} {found.asked[t]}' for t in Truth)}")
    lines += ["", f"{'target':<24}{'taken':>8}{'passed by':>12}"]
    for kind in TARGETS:
        name = "(none)" if kind is type(None) else kind.__name__
        lines.append(f"{name:<24}{found.taken[kind, Truth.MATCH]:>8}{found.taken[kind, Truth.NO_MATCH]:>12}")
    lines += ["", *(f"{count:>8} {end}" for end, count in found.ends.most_common())]
    return "\n".join(lines)


if __name__ == "__main__":
    print(report(measure()))
