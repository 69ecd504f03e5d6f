"""From a solver's model to a packet and its journey, told anew by the concrete wing.

Nothing that the solver says is shown before the concrete wing has told the same journey, stop by stop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from .answers import WingsDisagree
from .asked import named
from .concrete.travel import travel
from .hosts import Setting
from .journeys import (
    Choices,
    Earlier,
    Evaluation,
    FromProxy,
    Journey,
    ProxyState,
    Sender,
    Stop,
    Truth,
    answer_to,
)
from .packets import Packet
from .rules import Literal, Match
from .symbolic.answers import drawn_by
from .symbolic.headers import DRAWN
from .symbolic.journeys import SymStop
from .symbolic.packets import SymPacket
from .symbolic.terms import Model
from .symbolic.travel import Journeys

T = TypeVar("T")


class Start(Struct, frozen=True):
    """All that fixes one journey: the sender, its packet (or the proxy state it dials from), every choice, and the packet that
    was sent before it, if there is one."""

    sender: Sender
    packet: Packet | None
    state: ProxyState | None
    choices: Choices
    earlier: Earlier | None = None

    def travel(self, setting: Setting, hops: int | None = None) -> Journey:
        """The journey, told once for those who ask for it one after the other."""
        for its, start, most, journey in _told:
            if its is setting and most == hops and start == self:
                return journey
        journey = travel(setting, self.sender, self.packet, self.choices, self.state, hops, self.earlier)
        _told.append((setting, self, hops, journey))
        return journey


_told: deque[tuple[Setting, Start, int | None, Journey]] = deque(maxlen=4)
"""The journeys that were told last: of one packet several ask in turn."""


def start_of(journeys: Journeys, model: Model) -> Start:
    """The journey that the model speaks of."""
    choices = Choices(
        opaque=_opaque(journeys, model),
        ports={
            hop: model.value(journeys.sent[hop].sport)
            for hop in range(journeys.depth)
            if journeys.states[hop] is not None and model.holds(journeys.onward[hop])
        },
        picks={
            hop: model.value(pick)
            for hop, picks in journeys.picked.items()
            for cond, pick in picks
            if model.holds(cond)
        },
        uids={
            hop: (model.value(journeys.sent[hop].uid), model.value(journeys.sent[hop].gid))
            for hop in range(journeys.depth)
            if journeys.states[hop] is not None and model.holds(journeys.onward[hop])
        }
        | {
            sent.hop: (model.value(sent.packet.uid), model.value(sent.packet.gid))
            for sent in journeys.sent_back
            if sent.process is not None and model.holds(sent.cond)
        },
        drawn=_drawn(journeys, model),
        translated={
            draw.evaluation: (
                None if draw.address is None else model.value(draw.address),
                None if draw.port is None else model.value(draw.port),
            )
            for draw in journeys.record.draws
            if model.holds(draw.cond)
        },
    )
    if isinstance(journeys.sender, FromProxy):
        return Start(journeys.sender, None, state_at(journeys, model, 0), choices)
    packet = journeys.sent[0].read(model, journeys.names)
    return Start(journeys.sender, packet, None, choices, _earlier(journeys, model))


def _earlier(journeys: Journeys, model: Model) -> Earlier | None:
    """The packet that was sent before, in the model."""
    if journeys.earlier is None:
        return None
    first = start_of(journeys.earlier, model)
    if first.packet is None:
        raise AssertionError("a proxy sends no datagram")
    opens = journeys.opened is not None
    answered, assured = model.holds(journeys.answered) and not opens, model.holds(journeys.assured)
    return Earlier(first.sender, first.packet, first.choices, answered, assured, opens)


def state_at(journeys: Journeys, model: Model, hop: int) -> ProxyState:
    """The proxy state that hop `hop` is dialled from in this model."""
    state = journeys.states[hop]
    if state is None:
        raise AssertionError(f"no proxy dials hop {hop}")
    process, proxy = journeys.proxies[model.value(state.proxy)]
    keeps = journeys.keeps_client(model.value(state.proxy))
    client = model.value(state.client) if keeps else None
    return ProxyState(process.name, proxy.name, model.value(state.address), model.value(state.port), client)


def _drawn(journeys: Journeys, model: Model) -> dict[int, dict[str, int]]:
    """The rare fields of each dial, and what an answer may have any value of."""
    names = [name for name in DRAWN if name in journeys.fields]
    dialled = {
        hop: {name: model.value(journeys.sent[hop].field(name)) for name in names}
        for hop in range(journeys.depth)
        if names and journeys.states[hop] is not None and model.holds(journeys.onward[hop])
    }
    answering = {
        sent.hop: {name: model.value(term) for name, term in drawn_by(sent).items()}
        for sent in journeys.sent_back
        if model.holds(sent.cond)
    }
    return dialled | {hop: drawn for hop, drawn in answering.items() if drawn}


def _opaque(journeys: Journeys, model: Model) -> dict[Evaluation, Truth]:
    answers = {}
    for asked in journeys.record.asked:
        if model.holds(asked.cond):
            drops, matches = model.holds(asked.drops), model.holds(asked.matches)
            answers[asked.evaluation] = Truth.DROP if drops else Truth.MATCH if matches else Truth.NO_MATCH
    return answers


def check_wings(journeys: Journeys, model: Model, start: Start) -> None:
    """Raise WingsDisagree unless both wings tell the same stops and the same end, as far as both go; of an earlier packet too."""
    told = start.travel(journeys.setting, journeys.depth)
    _check(journeys, model, start, told)
    if journeys.earlier is not None:
        if told.earlier is None:
            raise AssertionError("an earlier packet has a journey")
        _check(journeys.earlier, model, start, told.earlier)
        if model.holds(journeys.behind) != told.behind:
            raise WingsDisagree(f"only one wing has it behind the earlier packet: {start}")
        doubts = tuple(why for cond, why in journeys.record.doubts if model.holds(cond))
        if doubts != told.doubts:
            raise WingsDisagree(f"doubts differ: symbolic {doubts}; concrete {told.doubts}\n{start}")


def _check(journeys: Journeys, model: Model, start: Start, told: Journey) -> None:
    read: dict[int, Packet] = {}
    ours = [_stop(s, model, journeys, read) for s in journeys.record.stops if model.holds(s.cond)]
    if ours != list(told.stops):
        raise WingsDisagree(_difference(ours, told.stops, start))
    answered = [(answer_to(e.hop), e.end) for e in journeys.record.answered if model.holds(e.cond)]
    if answered != list(told.answers.items()):
        raise WingsDisagree(f"answers end otherwise: symbolic {answered}; concrete {told.answers}\n{start}")
    ends = [e.end for e in journeys.record.ends if model.holds(e.cond)]
    onward = model.holds(journeys.open)
    told_onward = type(told.end).__name__ == "Onward"
    if onward != told_onward or (not onward and ends[:1] != [told.end]) or len(ends) > 1:
        raise WingsDisagree(f"ends differ: symbolic {ends}, goes on {onward}; concrete {told.end}\n{start}")


def _stop(s: SymStop, model: Model, journeys: Journeys, read: dict[int, Packet]) -> Stop:
    """The stop as the model has it; `read` are the packets that were read before, by their identity."""
    packet = read.get(id(s.packet))
    if packet is None:
        packet = read[id(s.packet)] = _read(s.packet, model, journeys)
    return Stop(s.hop, s.act, packet, s.hook, s.table, s.chain, s.rule, s.where, s.process, s.listener)


def _read(packet: SymPacket, model: Model, journeys: Journeys) -> Packet:
    return packet.read(model, journeys.names)


def _difference(ours: Sequence[Stop], theirs: Sequence[Stop], start: Start) -> str:
    for number, (a, b) in enumerate(zip(ours, theirs, strict=False), 1):
        if a != b:
            return f"stop {number} differs:\n  symbolic {a}\n  concrete {b}\n{start}"
    longer = ours if len(ours) > len(theirs) else theirs
    which = "symbolic" if longer is ours else "concrete"
    return f"only the {which} wing goes on: {longer[min(len(ours), len(theirs))]}\n{start}"


def asked_of(setting: Setting, evaluation: Evaluation) -> Match:
    """The match that this evaluation asks, as the choice that it is on this host."""
    return named(literal_at(setting, evaluation).match, setting.host)


def literal_at(setting: Setting, evaluation: Evaluation) -> Literal:
    """The literal that this evaluation asks."""
    name, number = evaluation.path[-1]
    rule = setting.rules.tables[evaluation.table].chains[name].rules[number - 1]
    return rule.literals[evaluation.literal]


def later(choices: Choices, hop: int) -> Choices:
    """The choices from this hop on, as those of a journey that begins there."""

    def there(mine: Mapping[int, T]) -> dict[int, T]:
        return {moved(h, -hop): x for h, x in mine.items() if told_with(h) >= hop}

    def asked(mine: Mapping[Evaluation, T]) -> dict[Evaluation, T]:
        return {replace(e, hop=moved(e.hop, -hop)): x for e, x in mine.items() if told_with(e.hop) >= hop}

    return Choices(
        asked(choices.opaque),
        there(choices.ports),
        there(choices.picks),
        there(choices.uids),
        there(choices.drawn),
        asked(choices.translated),
    )


def told_with(hop: int) -> int:
    """The hop itself; of an answer the hop that it answers."""
    return hop if hop >= 0 else answer_to(hop)


def moved(hop: int, by: int) -> int:
    return hop + by if hop >= 0 else hop - by


def joined(stem: Choices, dial: Choices, hop: int) -> Choices:
    """The choices of a journey that goes on from its hop `hop` with those of the dial's."""

    def beside(mine: Mapping[int, T], theirs: Mapping[int, T]) -> dict[int, T]:
        kept = {h: x for h, x in mine.items() if told_with(h) < hop}
        return kept | {moved(h, hop): x for h, x in theirs.items()}

    def asked(mine: Mapping[Evaluation, T], theirs: Mapping[Evaluation, T]) -> dict[Evaluation, T]:
        kept = {e: x for e, x in mine.items() if told_with(e.hop) < hop}
        return kept | {replace(e, hop=moved(e.hop, hop)): x for e, x in theirs.items()}

    return Choices(
        asked(stem.opaque, dial.opaque),
        beside(stem.ports, dial.ports),
        beside(stem.picks, dial.picks),
        beside(stem.uids, dial.uids),
        beside(stem.drawn, dial.drawn),
        asked(stem.translated, dial.translated),
    )
