"""One journey told by both wings: what the formulas say of one packet, beside what the concrete wing says of it."""

from __future__ import annotations

import random
from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from verifier import rules as r
from verifier.concrete import travel as concrete
from verifier.hosts import Process, Setting
from verifier.journeys import (
    Choices,
    Earlier,
    End,
    Evaluation,
    FromProxy,
    Journey,
    Onward,
    ProxyState,
    Sender,
    Stop,
    Truth,
    answer_to,
)
from verifier.packets import Packet
from verifier.symbolic.answers import drawn_by
from verifier.symbolic.headers import DRAWN
from verifier.symbolic.journeys import SymStop
from verifier.symbolic.packets import values_of
from verifier.symbolic.terms import Model, Terms
from verifier.symbolic.travel import Journeys
from verifier.values import Family, Ids

from .strategies import MACS, PORTS, SPIS, TOSES

LATER_FLAGS = (0x10, 0x18, 0x11, 0x04, 0x14, 0x30)
"""Of TCP packets behind a handshake: ACK, PSH ACK, FIN ACK, RST, RST ACK, URG ACK."""

DEEPEST = 4
"""Hops that are written of a journey, where nothing else is said."""


class Trip(Struct, frozen=True):
    """A first packet (or, of a proxy, the state that it dials in) with all choices."""

    setting: Setting
    sender: Sender
    begin: Packet | ProxyState
    choices: Choices
    hops: int | None
    earlier: Earlier | None = None

    def travel(self, travel: Callable[..., Journey] = concrete.travel) -> Journey:
        if isinstance(self.begin, ProxyState):
            return travel(self.setting, self.sender, None, self.choices, self.begin, self.hops)
        return travel(self.setting, self.sender, self.begin, self.choices, None, self.hops, self.earlier)


class Told(Struct, frozen=True):
    """What the formulas say of a trip; a journey that goes on has no end."""

    stops: tuple[Stop, ...]
    ends: tuple[End, ...]
    onward: bool
    states: tuple[ProxyState, ...]
    asked: tuple[Evaluation, ...]
    answers: tuple[tuple[int, End], ...] = ()
    """The hops that are answered, and how their answers end."""
    earlier: Told | None = None
    behind: bool = False
    doubts: tuple[str, ...] = ()


def journeys_of(setting: Setting, sender: Sender, deepest: int = DEEPEST) -> Journeys:
    """The formulas of a sender's journeys, as many hops as it takes, or `deepest`."""
    js = Journeys(Terms(), setting, sender, "it: ")
    while js.depth < deepest and js.open.const is not False:
        js.extend()
    return js


def journeys_behind(setting: Setting, first: Sender, sender: Sender) -> Journeys:
    """The formulas of a sender's datagrams behind one of the first sender's."""
    t = Terms()
    earlier = Journeys(t, setting, first, "it: earlier ", datagrams=True)
    return Journeys(t, setting, sender, "it: ", earlier=earlier)


def journeys_of_later(setting: Setting, sender: Sender) -> Journeys:
    """The formulas of later packets of the connections that a sender opens."""
    t = Terms()
    earlier = Journeys(t, replace(setting, answers=True), sender, "it: earlier ")
    return Journeys(t, setting, sender, "it: ", earlier=earlier, opened=True)


def under(
    js: Journeys, begin: Packet | ProxyState, draw: random.Random, before: Packet | None = None
) -> tuple[Model, Trip]:
    """The model in which the sender begins so, with choices drawn at random; `before` it the earlier packet was sent."""
    values: dict[str, int | bool] = {}
    if js.earlier is not None and before is not None:
        values = _valued(js.earlier, before, draw, {})
        values |= {js.prefix + name: draw.random() < 0.5 for name in ("answered", "assured")}
    values = _valued(js, begin, draw, values)
    model = js.terms.under(values)
    earlier = None
    if js.earlier is not None and before is not None:
        answered, assured = model.holds(js.answered), model.holds(js.assured)
        opens = js.opened is not None
        earlier = Earlier(
            js.earlier.sender, before, _chosen(js.earlier, model), answered and not opens, assured, opens
        )
    return model, Trip(js.setting, js.sender, begin, _chosen(js, model), js.depth, earlier)


def _valued(
    js: Journeys, begin: Packet | ProxyState, draw: random.Random, known: dict[str, int | bool]
) -> dict[str, int | bool]:
    """What is known, and values of all that these journeys draw."""
    values = known | _begun(js, begin) | _draws(js, draw)
    for asked in js.record.asked:
        drops = (Truth.DROP,) if asked.drops.const is None else ()
        truth = draw.choice((Truth.MATCH, Truth.MATCH, Truth.NO_MATCH, *drops))
        # Where a match drops the packet, what else it would say does not count.
        values[asked.matches.op] = truth is Truth.MATCH or (truth is Truth.DROP and draw.random() < 0.5)
        values[asked.drops.op] = truth is Truth.DROP
    return values | _translations(js, js.terms.under(values), draw)


def _chosen(js: Journeys, model: Model) -> Choices:
    """The choices in this model, also where nobody asks for them."""
    truths: dict[Evaluation, Truth] = {}
    for asked in js.record.asked:
        drops, matches = model.holds(asked.drops), model.holds(asked.matches)
        truths[asked.evaluation] = Truth.DROP if drops else Truth.MATCH if matches else Truth.NO_MATCH
    dialled = [hop for hop in range(js.depth) if js.states[hop] is not None and model.holds(js.onward[hop])]
    sent_back = [sent for sent in js.sent_back if model.holds(sent.cond)]
    return Choices(
        opaque=truths,
        ports={hop: model.value(js.sent[hop].sport) for hop in dialled},
        picks={
            hop: model.value(pick)
            for hop in dialled
            for cond, pick in js.picked.get(hop, [])
            if model.holds(cond)
        },
        uids={hop: (model.value(js.sent[hop].uid), model.value(js.sent[hop].gid)) for hop in dialled}
        | {
            sent.hop: (model.value(sent.packet.uid), model.value(sent.packet.gid))
            for sent in sent_back
            if sent.process is not None
        },
        drawn={
            hop: {n: model.value(js.sent[hop].field(n)) for n in DRAWN if n in js.fields} for hop in dialled
        }
        | {sent.hop: {n: model.value(x) for n, x in drawn_by(sent).items()} for sent in sent_back},
        translated={
            d.evaluation: (
                None if d.address is None else model.value(d.address),
                None if d.port is None else model.value(d.port),
            )
            for d in js.record.draws
        },
    )


def _translations(js: Journeys, model: Model, draw: random.Random) -> dict[str, int | bool]:
    """What NAT targets choose: ends of their ranges, or what lies between."""
    out: dict[str, int | bool] = {}
    for d in js.record.draws:
        to = d.target.to if isinstance(d.target, r.Dnat | r.Snat) else None
        if d.address is not None and to is not None and to.first is not None and to.last is not None:
            out[d.address.op] = draw.choice((to.first, to.last, draw.randint(to.first, to.last)))
        if d.port is not None:
            own = model.value(d.packet.sport)
            ports = to.ports if to is not None else getattr(d.target, "ports", None)
            first, last = (1, 511) if own < 512 else (600, 1023) if own < 1024 else (1024, 0xFFFF)
            if ports is not None:
                first, last = ports.first, ports.last
            out[d.port.op] = draw.choice((first, last, draw.randint(first, last)))
    return out


def _begun(js: Journeys, begin: Packet | ProxyState) -> dict[str, int | bool]:
    if isinstance(begin, Packet):
        return values_of(begin, js.names, js.prefix)
    at = js.prefix + "accepted "
    return {at + "dst": begin.address, at + "dport": begin.port, at + "src": begin.client or 0}


def _draws(js: Journeys, draw: random.Random) -> dict[str, int | bool]:
    """Source ports, dials and ids of all hops, and what their answers are like: each that the facts allow."""
    out: dict[str, int | bool] = {}
    for hop in range(js.depth):
        out |= _answering(js, hop, draw)
        at = f"of hop {hop}"
        out[f"{js.prefix}sport {at}"] = draw.choice(PORTS)
        out[f"{js.prefix}ttl {at}"] = draw.choice((1, 2, 64, 0xFF))
        out[f"{js.prefix}tos {at}"] = draw.choice(TOSES)
        out[f"{js.prefix}length {at}"] = draw.choice(
            (40, 60, 1500, 0xFFFF) if js.host.family is Family.IPV4 else (60, 1500, 0xFFFF)
        )
        out[f"{js.prefix}tcp_options {at}"] = draw.choice((0, 1 << 2, 1 << 8 | 1 << 3, draw.getrandbits(256)))
        for process in js.host.processes:
            out |= _ids(process, f"{at} by {process.name}", js.prefix, draw)
            for proxy in process.proxies:
                for i, route in enumerate(proxy.routes):
                    name = f"{js.prefix}pick {at} by {process.name}.{proxy.name} route {i}"
                    out[name] = draw.randrange(len(route.dials))
    return out


def _answering(js: Journeys, hop: int, draw: random.Random) -> dict[str, int | bool]:
    at = f"of answer to hop {hop}"
    ipv4 = js.host.family is Family.IPV4
    drawn: dict[str, int | bool] = {
        "ttl": draw.choice((1, 2, 64, 0xFF)),
        "tos": draw.choice(TOSES),
        "length": draw.choice((40 if ipv4 else 60, 60, 1500, 0xFFFF)),
        "tcp_options": draw.choice((0, 1 << 2, draw.getrandbits(256))),
        "spi": draw.choice(SPIS),
        "mac": draw.choice(MACS),
        "mark": draw.random() < 0.5,
        "flags": draw.choice(LATER_FLAGS),
    }
    out = {f"{js.prefix}{name} {at}": value for name, value in drawn.items()}
    for process in js.host.processes:
        out |= _ids(process, f"{at} by {process.name}", js.prefix, draw)
    return out


def _ids(process: Process, at: str, prefix: str, draw: random.Random) -> dict[str, int | bool]:
    def some(ranges: tuple[Ids, ...]) -> int:
        chosen = draw.choice(ranges)
        return draw.choice((chosen.first, chosen.last))

    return {f"{prefix}uid {at}": some(process.uid.ranges), f"{prefix}gid {at}": some(process.gid.ranges)}


def told(js: Journeys, model: Model) -> Told:
    """What the formulas say in this model."""
    states = []
    for hop in range(0 if isinstance(js.sender, FromProxy) else 1, js.depth):
        state = js.states[hop]
        if hop > 0 and state is not None and model.holds(js.onward[hop]):
            process, proxy = js.proxies[model.value(state.proxy)]
            keeps = js.keeps_client(model.value(state.proxy))
            client = model.value(state.client) if keeps else None
            address, port = model.value(state.address), model.value(state.port)
            states.append(ProxyState(process.name, proxy.name, address, port, client))
    return Told(
        tuple(_stop(js, s, model) for s in js.record.stops if model.holds(s.cond)),
        tuple(e.end for e in js.record.ends if model.holds(e.cond)),
        model.holds(js.open),
        tuple(states),
        tuple(a.evaluation for a in js.record.asked if model.holds(a.cond)),
        tuple((answer_to(e.hop), e.end) for e in js.record.answered if model.holds(e.cond)),
        None if js.earlier is None else told(js.earlier, model),
        model.holds(js.behind),
        tuple(why for cond, why in js.record.doubts if model.holds(cond)),
    )


def _stop(js: Journeys, s: SymStop, model: Model) -> Stop:
    packet = s.packet.read(model, js.names)
    return Stop(s.hop, s.act, packet, s.hook, s.table, s.chain, s.rule, s.where, s.process, s.listener)


def difference(ours: Told, theirs: Journey) -> str | None:
    """The first thing that the wings tell differently, None iff they tell the same."""
    for number, (a, b) in enumerate(zip(ours.stops, theirs.stops, strict=False), 1):
        if a != b:
            return f"stop {number}:\n  symbolic {a}\n  concrete {b}"
    if len(ours.stops) != len(theirs.stops):
        wing, stops = (
            ("symbolic", ours.stops) if len(ours.stops) > len(theirs.stops) else ("concrete", theirs.stops)
        )
        return f"only the {wing} wing goes on: {stops[min(len(ours.stops), len(theirs.stops))]}"
    ends = () if isinstance(theirs.end, Onward) else (theirs.end,)
    if ours.ends != ends or ours.onward != (not ends):
        return f"ends:\n  symbolic {ours.ends}, goes on {ours.onward}\n  concrete {theirs.end}"
    if ours.answers != tuple(theirs.answers.items()):
        return f"answers:\n  symbolic {ours.answers}\n  concrete {tuple(theirs.answers.items())}"
    if ours.states != theirs.states:
        return f"proxy states:\n  symbolic {ours.states}\n  concrete {theirs.states}"
    if ours.asked != theirs.asked:
        return f"opaque matches asked:\n  symbolic {ours.asked}\n  concrete {theirs.asked}"
    if (ours.behind, ours.doubts) != (theirs.behind, theirs.doubts):
        said = f"concrete {theirs.behind} {theirs.doubts}"
        return f"behind an entry: symbolic {ours.behind} {ours.doubts}, {said}"
    if ours.earlier is None or theirs.earlier is None:
        return None if ours.earlier is theirs.earlier else "one wing alone tells of an earlier packet"
    return difference(ours.earlier, theirs.earlier)


def possible(js: Journeys, model: Model) -> bool:
    """The formulas allow this first packet (and these draws)."""
    return all(model.holds(fact) for fact in js.facts)
