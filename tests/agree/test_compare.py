"""Two hosts that are said to treat packets alike do so, and those that are said not to do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from verifier import claims as c
from verifier import rules as r
from verifier.answers import Proved, Refuted, Vacuous
from verifier.bounds import hop_bound
from verifier.compare import carrying_alike, same
from verifier.concrete import claims as concrete
from verifier.concrete.proxies import options
from verifier.concrete.travel import travel
from verifier.hosts import Setting
from verifier.journeys import Choices, FromProxy, Sender, Unmodelled
from verifier.packets import Packet
from verifier.prove import Budget
from verifier.samples import edges_of

from . import strategies as some
from .budget import tries
from .claims import premises
from .hosts import packets, senders_of, settings
from .test_prove import DEEPEST

PACKETS = 30


@st.composite
def changed(draw: st.DrawFn, rules: r.RuleSet) -> r.RuleSet:
    """The same rules without one of them, or with another in its place, or as they were."""
    sites = [
        (t, name, i)
        for t in rules.tables.values()
        for name, chain in t.chains.items()
        for i in range(len(chain.rules))
    ]
    if not sites or draw(some.seldom(10)):
        return rules
    table, name, at = draw(some.one(sites))
    chain = table.chains[name]
    calls_on = () if chain.policy is None else tuple(n for n, x in table.chains.items() if x.policy is None)
    new: tuple[r.Rule, ...] = draw(
        st.just(()) | some.rules(table.name, name if chain.policy else None, calls_on).map(lambda x: (x,))
    )
    after = replace(chain, rules=(*chain.rules[:at], *new, *chain.rules[at + 1 :]))
    return r.RuleSet({**rules.tables, table.name: r.Table(table.name, {**table.chains, name: after})})


def outcomes(setting: Setting, sender: Sender, packet: Packet) -> set[object] | None:
    """What may come of the packet, whatever dials the proxies choose; None where that is not known."""
    found: set[object] = set()
    waiting: list[dict[int, int]] = [{}]
    while waiting:
        picks = waiting.pop()
        journey = travel(setting, sender, packet, Choices(picks=picks))
        if journey.asked or isinstance(journey.end, Unmodelled):
            return None
        open_ = [
            (hop, options(setting.host, state))
            for hop, state in enumerate(journey.states, 1)
            if hop not in picks and options(setting.host, state) > 1
        ]
        if open_:
            hop, number = open_[0]
            waiting += [{**picks, hop: i} for i in range(number)]
            continue
        if journey.stops[-1].hop > 0:
            # The source port of a dial is the kernel's choice.
            last = replace(journey.stops[-1], packet=replace(journey.stops[-1].packet, sport=0))
            journey = replace(journey, stops=(*journey.stops[:-1], last))
        found.add(concrete.outcome(journey))
    return found


def test_packets_fare_the_same_iff_it_is_said() -> None:
    answered: Counter[type] = Counter()

    @tries(100)
    @given(data=st.data())
    def law(data: st.DataObject) -> None:
        first = data.draw(settings(most=2, most_proxies=1), label="first")
        assume(hop_bound(first.host, rules=first.rules) <= DEEPEST)
        rules = first.rules
        for _ in range(data.draw(st.integers(1, 4))):
            rules = data.draw(changed(rules), label="rules of the second")
        second = Setting(first.host, rules)
        sender = data.draw(some.one([s for s in senders_of(first) if not isinstance(s, FromProxy)]))
        premise = data.draw(premises(sender), label="premise")
        if data.draw(some.seldom(70)):
            premise = replace(premise, filter=c.Filter(), exceptions=())
        answer = same(first, second, c.SameClaim(premise, "one", "other"), Budget(timeout_ms=3000))
        answered[type(answer)] += 1
        first, second = carrying_alike(first, second, premise)
        edges = edges_of(first)
        if isinstance(answer, Proved | Vacuous):
            for _ in range(PACKETS):
                packet = data.draw(packets(first, sender, edges))
                if concrete.meets(premise, first, sender, packet):
                    assert isinstance(answer, Proved)
                    both = outcomes(first, sender, packet), outcomes(second, sender, packet)
                    assert None in both or both[0] == both[1], packet
        if isinstance(answer, Refuted):
            found = answer.counterexample
            assert found is not None
            packet = found.journey.stops[0].packet
            assert concrete.meets(premise, first, found.sender, packet)
            assert outcomes(first, found.sender, packet) != outcomes(second, found.sender, packet)

    law()
    assert answered[Proved] >= 3, answered
    assert answered[Refuted] >= 3, answered


def sites(table: r.Table) -> Iterator[c.RuleRef]:
    for name, chain in table.chains.items():
        for number in range(1, len(chain.rules) + 1):
            yield c.RuleRef(table.name, name, number)
