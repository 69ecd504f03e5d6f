"""Trips through generated settings, each with what the formulas say of it: the same ones each time.

Made once for a run: a slip in the concrete wing is then caught, or not, in a second.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterator
from functools import cache

from hypothesis import given, seed
from hypothesis import strategies as st
from msgspec import Struct

from verifier.hosts import Setting
from verifier.journeys import Act, Sender
from verifier.packets import Packet
from verifier.replay import start_of
from verifier.samples import edges_of
from verifier.symbolic.terms import Bool, Model, Solver
from verifier.symbolic.travel import Journeys
from verifier.values import Family

from . import seldom_met, slips_of_answers, slips_of_entries, slips_of_established, slips_of_rejections
from .agreement import Told, Trip, journeys_behind, journeys_of, journeys_of_later, possible, told, under
from .budget import collecting
from .hosts import begins, senders_of, settings
from .policies import frames, settings_by_rules, way_back

SETTINGS = {Family.IPV4: 160, Family.IPV6: 96}
SETTINGS_BY_RULES = {Family.IPV4: 120, Family.IPV6: 96}
AT_ONCE = 6
"""Settings drawn from one seed: of many, Hypothesis would make more and more that are like those it has."""
PACKETS = 4
"""Packets near the edges, of each sender in each setting."""
QUESTIONS = 8
"""Packets of the solver's own, likewise."""


class Example(Struct, frozen=True):
    """A trip, and what the formulas say of it."""

    trip: Trip
    told: Told


class Corpus(Struct):
    """All examples, of how many settings, and how many packets of them are the solver's."""

    examples: list[Example]
    settings: int = 0
    solved: int = 0


@cache
def corpus(family: Family = Family.IPV4) -> Corpus:
    """The examples that every run of the tests has in common."""
    found = _gathered(settings(family=family, answered=50), SETTINGS[family])
    for setting, sender, packet in seldom_met.of(family):
        _add(setting, sender, packet, found)
    return found


@cache
def corpus_by_rules(family: Family = Family.IPV4) -> Corpus:
    """Likewise, on hosts with routing rules."""
    found = _gathered(settings_by_rules(most=1, answered=50, family=family), SETTINGS_BY_RULES[family])
    if family is Family.IPV4:
        for sender, frame in frames():
            _add(way_back(), sender, frame, found)
    for setting, whose, packet in seldom_met.by_rules(family):
        _add(setting, whose, packet, found)
    return found


@cache
def corpus_of_answers() -> Corpus:
    """What comes back, and what TPROXY gives a socket, by example."""
    found = Corpus([])
    for setting, sender, packet in slips_of_answers.examples():
        _add(setting, sender, packet, found)
    return found


@cache
def corpus_of_rejections() -> Corpus:
    """What a REJECT sends back, by example."""
    found = Corpus([])
    examples = (slips_of_rejections.examples(), slips_of_rejections.examples_ipv6())
    for setting, sender, packet in (x for some in examples for x in some):
        _add(setting, sender, packet, found)
    return found


@cache
def corpus_of_entries() -> Corpus:
    """What comes behind an earlier packet, by example; that one answered or not, as it falls out."""
    found = Corpus([])
    for pair in slips_of_entries.examples():
        js = journeys_behind(pair.setting, pair.first, pair.sender)
        for number in range(4):
            model, trip = under(js, pair.packet, random.Random(number), pair.before)
            assert possible(js, model), pair
            found.examples.append(Example(trip, told(js, model)))
    return found


@cache
def corpus_of_established() -> Corpus:
    """Later packets of connections, by example; of what may be assured each way, as it falls out."""
    found = Corpus([])
    js: Journeys | None = None
    for one in slips_of_established.examples():
        if js is None or (js.setting, js.sender) != (one.setting, one.sender):
            js = journeys_of_later(one.setting, one.sender)
        for number in range(4):
            model, trip = under(js, one.packet, random.Random(number), one.before)
            assert possible(js, model), one
            found.examples.append(Example(trip, told(js, model)))
    return found


def _add(setting: Setting, sender: Sender, packet: Packet, found: Corpus) -> None:
    js = journeys_of(setting, sender)
    model, trip = under(js, packet, random.Random(0))
    assert possible(js, model)
    found.examples.append(Example(trip, told(js, model)))


def _gathered(drawn: st.SearchStrategy[Setting], number: int) -> Corpus:
    found = Corpus([])

    @collecting(AT_ONCE)
    @given(st.data())
    def collect(data: st.DataObject) -> None:
        setting = data.draw(drawn)
        found.settings += 1
        for sender in senders_of(setting):
            _collect(data, setting, sender, found)

    for start in range(number // AT_ONCE):
        seed(start)(collect)()
    return found


def _collect(data: st.DataObject, setting: Setting, sender: Sender, found: Corpus) -> None:
    js = journeys_of(setting, sender)
    edges = edges_of(setting)
    for number in range(PACKETS):
        begin = data.draw(begins(setting, sender, edges))
        model, trip = under(js, begin, random.Random(f"{sender} {number}"))
        if possible(js, model):
            found.examples.append(Example(trip, told(js, model)))
    for model in solved(js, QUESTIONS):
        start = start_of(js, model)
        at = start.state or start.packet
        assert at is not None
        found.examples.append(Example(Trip(setting, sender, at, start.choices, js.depth), told(js, model)))
        found.solved += 1


def events(js: Journeys) -> dict[Hashable, list[Bool]]:
    """All that may happen to a packet, with the packets that it happens to: rules, deliveries, kinds of ends."""
    out: dict[Hashable, list[Bool]] = {}
    for e in (*js.record.ends, *js.record.answered):
        out.setdefault((type(e.end), getattr(e.end, "reason", None), e.hop), []).append(e.cond)
    for s in js.record.stops:
        if s.act in (Act.MATCHED, Act.DELIVERED, Act.TRANSLATED):
            answer = s.hop < 0
            out.setdefault((s.act, s.hook, s.table, s.chain, s.rule, s.listener, answer), []).append(s.cond)
    for hop, cond in enumerate(js.onward):
        out[hop] = [cond]
    return out


def solved(js: Journeys, questions: int, *also: Bool) -> Iterator[Model]:
    """A packet of the solver's own for each event that some packet comes to, in any order; so many questions at most."""
    solver = Solver(js.terms)
    solver.add(*js.facts, *also)
    happen = events(js)
    waiting = list(happen.items())
    random.Random(len(waiting)).shuffle(waiting)
    while waiting and questions:
        _, conds = waiting.pop(0)
        result = solver.check(js.terms.any_of(conds))
        questions -= 1
        if result.model is not None:
            model = result.model
            waiting = [(key, cs) for key, cs in waiting if not any(model.holds(c) for c in cs)]
            yield model
