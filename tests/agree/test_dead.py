"""A rule that is called dead is matched by no packet that the concrete wing follows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import groupby, islice

from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from verifier import claims as c
from verifier import dead
from verifier.bounds import hop_bound
from verifier.hosts import Setting
from verifier.journeys import Act, Journey
from verifier.prove import Budget, Prover

from . import strategies as some
from .budget import tries
from .corpus import corpus
from .hosts import settings
from .test_compare import sites
from .test_prove import DEEPEST, again, trips

PACKETS = 25
BUDGET = Budget(timeout_ms=3000)


def matched(journey: Journey) -> set[c.RuleRef]:
    """The rules that the packet matched on its journey."""
    return {
        c.RuleRef(s.table, s.chain, s.rule)
        for s in journey.stops
        if s.act is Act.MATCHED and s.table is not None and s.chain is not None and s.rule is not None
    }


def test_a_rule_that_is_dead_on_a_host_is_matched_by_no_packet_of_its_senders() -> None:
    found: Counter[bool | None] = Counter()

    @tries(30)
    @given(data=st.data())
    def law(data: st.DataObject) -> None:
        setting = data.draw(settings(most=3, most_proxies=1), label="setting")
        assume(setting.rules.tables)
        assume(hop_bound(setting.host, rules=setting.rules) <= DEEPEST)
        table = data.draw(some.one(list(setting.rules.tables.values())), label="table")
        prover = Prover(setting, BUDGET)
        lives = dead.on_host(prover, table, list(sites(table)))
        found.update(life.dead for life in lives.values())
        for ref, life in lives.items():
            if life.dead is False and life.witness is not None:
                assert ref in matched(again(life.witness, setting)), ref
        buried = {ref for ref, life in lives.items() if life.dead}
        for sender, premise in prover.declared():
            every_state = replace(premise, filter=dead.EVERY_STATE)
            for trip in trips(data, setting, sender, every_state, PACKETS):
                assert not buried & matched(trip.travel()), trip

    law()
    assert found[True] >= 5, found
    assert found[False] >= 5, found


def settings_of_the_corpus() -> Iterator[tuple[Setting, set[c.RuleRef]]]:
    """Each setting of the corpus, with the rules that its packets match."""
    for _, group in groupby(corpus().examples, key=lambda example: id(example.trip.setting)):
        examples = list(group)
        taken = set[c.RuleRef]().union(*(matched(e.trip.travel()) for e in examples))
        yield examples[0].trip.setting, taken


def test_a_rule_that_is_dead_by_the_rules_alone_is_matched_by_no_packet_at_all() -> None:
    found: Counter[bool | None] = Counter()
    for setting, taken in islice(settings_of_the_corpus(), 0, None, 4):
        for table in setting.rules.tables.values():
            lives = dead.by_the_rules_alone(table, list(sites(table)), BUDGET)
            found.update(life.dead for life in lives.values())
            assert not taken & {ref for ref, life in lives.items() if life.dead}
    assert found[True] >= 20, found
