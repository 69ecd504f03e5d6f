"""The JSON values of a counterexample file: journeys, packets and choices, spelled for people and read back strictly.

Each `spell_...` has a `read_...` that gives back what was spelled, and raises ValueError for all else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import msgspec
from msgspec import Struct

from .. import journeys as j
from ..hooks import Hook
from ..hosts import Listener
from ..packets import Packet
from ..reading.words import read_listener
from ..values import UDP, CtState, Family, read_address, spell_address

NOBODY = Packet(0, 0)
"""What the first packet of a hop is told against: fields that are not written are as here."""

ADDRESSES = ("src", "dst")


# -- packets --------------------------------------------------------------------------------------


def spell_packet(packet: Packet, before: Packet = NOBODY) -> dict[str, Any]:
    """The fields that are others than before."""
    said: dict[str, Any] = {}
    for field in Packet.__struct_fields__:
        value = getattr(packet, field)
        if value != getattr(before, field):
            said[field] = _spell_field(field, value, packet.family)
    return said


def _spell_field(field: str, value: Any, family: Family) -> Any:
    if field in ADDRESSES:
        return spell_address(value, family)
    return value.name if field == "ctstate" else msgspec.to_builtins(value)


def read_packet(said: Mapping[str, Any], before: Packet = NOBODY) -> Packet:
    _known(said, Packet)
    whole = {**msgspec.to_builtins(before), **said}
    family = msgspec.convert(whole["family"], Family)
    for field in ADDRESSES:
        if field in said:
            whole[field] = read_address(_text(said[field], field), family)
    if "ctstate" in said:
        if said["ctstate"] not in CtState.__members__:
            raise ValueError(f"{said['ctstate']!r} is no state: write {', '.join(CtState.__members__)}")
        whole["ctstate"] = CtState[said["ctstate"]].value
    return msgspec.convert(whole, Packet)


# -- senders, ends, states -------------------------------------------------------------------------


def spell_sender(sender: j.Sender) -> dict[str, Any]:
    return _spell_one_of(sender)


def read_sender(said: Mapping[str, Any]) -> j.Sender:
    found: j.Sender = _read_one_of(said, get_args(j.Sender))
    return found


def spell_end(end: j.End) -> dict[str, Any]:
    return _spell_one_of(end)


def read_end(said: Mapping[str, Any]) -> j.End:
    found: j.End = _read_one_of(said, get_args(j.End))
    return found


def spell_answers(answers: Mapping[int, j.End]) -> dict[str, Any]:
    """How answers end, by the hops that they answer."""
    return {str(hop): spell_end(end) for hop, end in answers.items()}


def read_answers(said: Mapping[str, Any]) -> dict[int, j.End]:
    strange = next((hop for hop in said if not hop.isdecimal()), None)
    if strange is not None:
        raise ValueError(f"{strange!r} is no hop's number")
    return {int(hop): read_end(_object(end, hop)) for hop, end in said.items()}


def _spell_one_of(value: Struct) -> dict[str, Any]:
    """A member of a closed union: its class's name, and its fields."""
    fields = {f: getattr(value, f) for f in value.__struct_fields__}
    spelled = {f: str(x) if isinstance(x, Listener) else msgspec.to_builtins(x) for f, x in fields.items()}
    return {"kind": type(value).__name__, **spelled}


def _read_one_of(said: Mapping[str, Any], kinds: tuple[type[Any], ...]) -> Any:
    by_name = {kind.__name__: kind for kind in kinds}
    name = said.get("kind")
    if name not in by_name:
        raise ValueError(f"kind {name!r} is none of {', '.join(by_name)}")
    kind = by_name[name]
    fields = {f: x for f, x in said.items() if f != "kind"}
    _known(fields, kind)
    if "listener" in fields:
        fields["listener"] = msgspec.to_builtins(read_listener(_text(fields["listener"], "listener")))
    return msgspec.convert(fields, kind)


def spell_state(state: j.ProxyState, family: Family) -> dict[str, Any]:
    said = {"process": state.process, "proxy": state.proxy, "address": spell_address(state.address, family)}
    client = {} if state.client is None else {"client": spell_address(state.client, family)}
    return {**said, "port": state.port, **client}


def read_state(said: Mapping[str, Any], family: Family) -> j.ProxyState:
    _known(said, j.ProxyState)
    numbers = {f: read_address(_text(said[f], f), family) for f in ("address", "client") if f in said}
    return msgspec.convert({**said, **numbers}, j.ProxyState)


# -- journeys -------------------------------------------------------------------------------------


def spell_journey(journey: j.Journey) -> dict[str, Any]:
    """Stops in order: the packet of a `sent` is whole, of every other stop what changed."""
    stops = []
    before = NOBODY
    for stop in journey.stops:
        sent = stop.act is j.Act.SENT
        plain = msgspec.to_builtins({f: getattr(stop, f) for f in _PLAIN})
        said = {f: x for f, x in plain.items() if x is not None}
        if stop.listener is not None:
            said["listener"] = str(stop.listener)
        if packet := spell_packet(stop.packet, NOBODY if sent else before):
            said["packet"] = packet
        stops.append(said)
        before = stop.packet
    family = journey.stops[0].packet.family
    said = {"stops": stops, "end": spell_end(journey.end)}
    if journey.answers:
        said["answers"] = spell_answers(journey.answers)
    if journey.states:
        said["states"] = [spell_state(s, family) for s in journey.states]
    if journey.asked:
        said["asked"] = [spell_evaluation(e) for e in journey.asked]
    if journey.earlier is not None:
        said |= {"earlier": spell_journey(journey.earlier), "behind": journey.behind}
    if journey.doubts:
        said["doubts"] = list(journey.doubts)
    return said


_PLAIN = ("hop", "act", "hook", "table", "chain", "rule", "where", "process")


class _Stop(Struct, frozen=True, forbid_unknown_fields=True):
    hop: int
    act: j.Act
    hook: Hook | None = None
    table: str | None = None
    chain: str | None = None
    rule: int | None = None
    where: str | None = None
    process: str | None = None
    listener: str | None = None
    packet: dict[str, Any] = {}


def read_stop(said: Mapping[str, Any], before: Packet) -> j.Stop:
    """The stop that follows one with this packet."""
    s = msgspec.convert(said, _Stop)
    packet = read_packet(s.packet, NOBODY if s.act is j.Act.SENT else before)
    listener = None if s.listener is None else read_listener(s.listener)
    return j.Stop(s.hop, s.act, packet, s.hook, s.table, s.chain, s.rule, s.where, s.process, listener)


# -- choices --------------------------------------------------------------------------------------


def spell_evaluation(e: j.Evaluation) -> dict[str, Any]:
    path = " ".join(f"{chain}:{rule}" for chain, rule in e.path)
    return {"hop": e.hop, "hook": e.hook.value, "table": e.table, "path": path, "literal": e.literal}


def read_evaluation(said: Mapping[str, Any]) -> j.Evaluation:
    _known(said, j.Evaluation)
    sites = [site.rpartition(":") for site in _text(said.get("path"), "path").split()]
    if not sites or not all(chain and rule.isdecimal() for chain, _, rule in sites):
        raise ValueError(f"{said.get('path')!r} is no path: write `CHAIN:RULE CHAIN:RULE`")
    path = [[chain, int(rule)] for chain, _, rule in sites]
    return msgspec.convert({**said, "path": path}, j.Evaluation)


def spell_choices(choices: j.Choices, family: Family) -> dict[str, Any]:
    """What is chosen; what is left to its default is not written."""
    said: dict[str, Any] = {
        "matches": [{"at": spell_evaluation(e), "truth": truth.value} for e, truth in choices.opaque.items()],
        "translations": [
            {
                "at": spell_evaluation(e),
                "address": None if address is None else spell_address(address, family),
                "port": port,
            }
            for e, (address, port) in choices.translated.items()
        ],
    }
    for field in BY_HOP:
        said[field] = {str(h): msgspec.to_builtins(x) for h, x in getattr(choices, field).items()}
    return {f: x for f, x in said.items() if x}


BY_HOP = ("ports", "picks", "uids", "drawn")
"""Fields of `Choices` that are told by the hop's number."""


class _Choices(Struct, frozen=True, forbid_unknown_fields=True):
    matches: list[dict[str, Any]] = []
    translations: list[dict[str, Any]] = []
    ports: dict[int, int] = {}
    picks: dict[int, int] = {}
    uids: dict[int, tuple[int, int]] = {}
    drawn: dict[int, dict[str, int]] = {}


def read_choices(said: Mapping[str, Any], family: Family) -> j.Choices:
    found = msgspec.convert(said, _Choices, str_keys=True)
    return j.Choices(
        {_at(m, "truth"): msgspec.convert(m["truth"], j.Truth) for m in found.matches},
        found.ports,
        found.picks,
        found.uids,
        found.drawn,
        {_at(t, "address", "port"): _translation(t, family) for t in found.translations},
    )


def spell_earlier(earlier: j.Earlier) -> dict[str, Any]:
    """The packet that was sent before, and what is chosen of it."""
    choices = spell_choices(earlier.choices, earlier.packet.family)
    return {
        "sender": spell_sender(earlier.sender),
        "packet": spell_packet(earlier.packet),
        **({"choices": choices} if choices else {}),
        "answered": earlier.answered,
        "assured": earlier.assured,
        **({"opens": True} if earlier.opens else {}),
    }


class _Earlier(Struct, frozen=True, forbid_unknown_fields=True):
    sender: dict[str, Any]
    packet: dict[str, Any]
    choices: dict[str, Any] = {}
    answered: bool = False
    assured: bool = False
    opens: bool = False


def read_earlier(said: Mapping[str, Any], family: Family) -> j.Earlier:
    found = msgspec.convert(said, _Earlier)
    packet = read_packet(found.packet)
    sender = read_sender(found.sender)
    strange = packet.proto != UDP and not found.opens
    if isinstance(sender, j.FromProxy) or strange or packet.family is not family:
        raise ValueError(f"an earlier packet is one of UDP and {family}, from a process or from outside")
    choices = read_choices(found.choices, family)
    return j.Earlier(sender, packet, choices, found.answered, found.assured, found.opens)


def _at(said: Mapping[str, Any], *beside: str) -> j.Evaluation:
    if set(said) != {"at", *beside}:
        raise ValueError(f"a choice has `at`, {', '.join(f'`{b}`' for b in beside)}, and nothing else")
    return read_evaluation(_object(said["at"], "at"))


def _translation(said: Mapping[str, Any], family: Family) -> tuple[int | None, int | None]:
    address = said["address"]
    return (
        None if address is None else read_address(_text(address, "address"), family),
        msgspec.convert(said["port"], int | None),
    )


# -- what every reader asks ------------------------------------------------------------------------


def _known(said: Mapping[str, Any], kind: type[Any]) -> None:
    for field in said:
        if field not in kind.__struct_fields__:
            raise ValueError(f"{field!r} is no field of this: known are {', '.join(kind.__struct_fields__)}")


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{what!r} is a text")
    return value


def _object(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what!r} is an object")
    return value
