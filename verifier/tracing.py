"""One packet, or many, followed through a setting: what `chainproof trace` prints."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from . import owners
from . import rules as r
from .canon import neighbour
from .cases import Settings, read_settings
from .concrete import keys, routing6
from .concrete.matches import holds
from .concrete.routing import roads, select_source
from .concrete.travel import as_sent, can_send, travel
from .hosts import Setting
from .journeys import FIRST_PORT, Choices, FromOutside, FromProcess, Journey, Sender, Unmodelled
from .packets import Packet
from .reading.errors import InputError, did_you_mean
from .spell import literals
from .values import (
    ALL_32,
    ICMP,
    ICMPV6,
    IPV4,
    LAST_ID,
    PORT_PROTOCOLS,
    TCP,
    Family,
    Place,
    TcpFlag,
    read_address,
    read_protocol,
    spell_protocol,
)

COMMAND_LINE = Place("the command line", 0)


class TraceError(InputError):
    """A packet that cannot be traced: nobody sends it, or its description cannot be read."""


def run(
    path: Path,
    matches: tuple[str, ...],
    who: str | None,
    table: str | None,
    batch: Iterable[str] | None,
    kind: str,
    note: Callable[[str], None],
) -> Iterator[str]:
    """The lines to print: one journey, or for a batch one line of JSON for each of its lines.

    `note` is told what had to be assumed.  Raises InputError for what cannot be read.
    """
    settings, notes = read_settings(path, table)
    for said in notes:
        note(said)
    if batch is not None:
        yield from _batch(settings, batch, who)
        return
    setting = settings[_family_of(matches, settings)]
    sender = sender_of(setting, who, COMMAND_LINE, None)
    packet = from_matches(setting, sender, matches)
    journey = _followed(setting, sender, packet, COMMAND_LINE)
    from .report.told import chances

    for said in chances(journey, Choices(), setting):
        note(f"no packet decides this, and it is taken so: {said}")
    if kind == "json":
        from .report.data import of_journey

        yield json.dumps(of_journey(journey, setting), indent=2, ensure_ascii=False)
    else:
        from .report.text import journey_text

        yield journey_text(journey, setting)


OF_IPV6 = re.compile(
    r"(?!(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$)[0-9a-fA-F]*:[0-9a-fA-F]*:[0-9a-fA-F:./]*|icmpv6|ipv6-icmp|--icmpv6-type"
)
"""A word of which IPv6 alone speaks: an address (with two colons, unlike a range of ports, and no MAC), or its ICMP."""


def _family_of(matches: tuple[str, ...], settings: Settings) -> Family:
    """The family of the packet that the words describe: that which they name, else IPv4 where the host has it."""
    named = any(re.fullmatch(OF_IPV6, word) for word in matches)
    return _with(Family.IPV6 if named else None, settings, COMMAND_LINE, None)


def _with(named: Family | None, settings: Settings, place: Place, line: str | None) -> Family:
    first = next(iter(settings))
    if named is None or named in settings:
        return named or first
    raise TraceError(
        "T002", f"the host has no {named} packets", place, line=line, hint="give it an address of them"
    )


def _batch(settings: Settings, lines: Iterable[str], who: str | None) -> Iterator[str]:
    from .report.data import of_journey

    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        place = Place("the batch", number)
        line = line.rstrip()
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            column = getattr(error, "colno", 1)
            message = f"this line is no JSON: {getattr(error, 'msg', error)}"
            raise TraceError("T001", message, replace(place, column=column), line=line) from None
        if not isinstance(found, dict):
            raise TraceError("T001", "a packet is a JSON object", replace(place, column=1), line=line)
        ends = [str(found.get(key, "")) for key in ("source", "destination")]
        named = Family.IPV6 if any(":" in end for end in ends) else IPV4 if any(ends) else None
        setting = settings[_with(named, settings, place, line)]
        came_in = f"outside:{found['in']}" if found.get("in") is not None else None
        sender = sender_of(setting, str(found.get("from") or who or came_in or "outside"), place, line)
        packet = from_fields(setting, sender, found, place, line)
        journey = _followed(setting, sender, packet, place, line)
        _as_given(found, journey, place, line)
        yield json.dumps(of_journey(journey, setting), ensure_ascii=False)


def _followed(
    setting: Setting, sender: Sender, packet: Packet, place: Place, line: str | None = None
) -> Journey:
    if isinstance(sender, FromProcess) and not can_send(setting, sender.process, packet):
        raise TraceError(
            "T002",
            f"no socket of {sender.process} can send this packet",
            place,
            line=line,
            hint="its source must be an address of the host, its uid and gid those of the process, and a route must lead there",
        )
    return travel(setting, sender, packet)


def _as_given(found: dict[str, Any], journey: Journey, place: Place, line: str) -> None:
    """Raises TraceError iff the object says of the packet what the host says otherwise."""
    sent = journey.stops[0].packet
    for key, value in (("in", sent.in_iface), ("out", sent.out_iface), ("ctstate", sent.ctstate.name)):
        if found.get(key) is not None and found[key] != value:
            message = (
                f"`{key}` of this packet is {value or 'nothing'}, not {found[key]}: the host decides that"
            )
            raise TraceError("T001", message, place, line=line, hint=f"leave `{key}` out")


def sender_of(setting: Setting, who: str | None, place: Place, line: str | None) -> Sender:
    """`outside`, `outside:IF`, or the name of a process."""
    interfaces = [i.name for i in setting.host.interfaces if i.name != "lo"]
    word = who or "outside"
    if word == "outside":
        return FromOutside(interfaces[0])
    if word.startswith("outside:"):
        name = word.removeprefix("outside:")
        if name not in interfaces:
            hint = did_you_mean(name, interfaces) or f"there is {', '.join(interfaces)}"
            raise TraceError("T003", f"there is no interface `{name}`", place, line=line, hint=hint)
        return FromOutside(name)
    names = [p.name for p in setting.host.processes]
    if word not in names:
        hint = did_you_mean(word, [*names, "outside"]) or f"there is outside, {', '.join(names)}"
        raise TraceError("T003", f"there is no process `{word}`", place, line=line, hint=hint)
    return FromProcess(word)


def familiar(setting: Setting, sender: Sender) -> Packet:
    """The packet of which nothing is said: a connection from a neighbour to this host, or from a process to a neighbour."""
    near = neighbour(setting.host)
    if isinstance(sender, FromOutside):
        own = setting.host.interface(sender.interface).addresses
        family = setting.host.family
        dst = own[0].ip if own else 0x0A000002
        return Packet(near, dst, TCP, FIRST_PORT, 80, TcpFlag.SYN, in_iface=sender.interface, family=family)
    if not isinstance(sender, FromProcess):
        raise AssertionError("a trace begins outside or at a process")
    process = setting.host.process(sender.process)
    uid, gid = process.uid.ranges[0].first, process.gid.ranges[0].first
    return Packet(0, near, TCP, FIRST_PORT, 80, TcpFlag.SYN, uid=uid, gid=gid, family=setting.host.family)


def _with_source(setting: Setting, packet: Packet) -> Packet:
    """For a process that binds nothing: the source that the kernel chooses."""
    if packet.uid is None or packet.src:
        return packet
    if packet.family is IPV4:
        return replace(packet, src=select_source(roads(setting.host), packet.dst, _keys(packet)) or 0)
    selected = routing6.select_source(roads(setting.host), packet.dst, _keys(packet))
    if isinstance(selected, Unmodelled):
        message = "which of its addresses the kernel selects as source is not known here"
        raise TraceError("T002", message, COMMAND_LINE, hint="give one of them: `-s ADDRESS`")
    return replace(packet, src=selected or 0)


def _keys(packet: Packet) -> keys.Keys:
    return keys.of_connecting(packet) if packet.proto == TCP else keys.of_sent(packet)


_ICMP = {IPV4: ICMP, Family.IPV6: ICMPV6}
_ECHO = {IPV4: 8, Family.IPV6: 128}


def _of(packet: Packet, proto: int) -> Packet:
    ports = proto in PORT_PROTOCOLS
    return replace(
        packet,
        proto=proto,
        sport=(packet.sport or FIRST_PORT) if ports else 0,
        dport=(packet.dport or 80) if ports else 0,
        flags=int(TcpFlag.SYN) if proto == TCP else 0,
        icmp_type=_ECHO[packet.family] if proto == _ICMP[packet.family] else 0,
    )


def from_matches(setting: Setting, sender: Sender, words: tuple[str, ...]) -> Packet:
    """The familiar packet with the fields that the matches fix; a net stands for its first address."""
    text = " ".join(words)
    packet = familiar(setting, sender)
    asked = owners.literals(_read(text, packet.family), setting.host) if text else ()
    for literal in asked:
        if literal.negated:
            raise _unclear("a negated match leaves the packet open")
        match literal.match:
            case r.Source(net):
                packet = replace(packet, src=net.address)
            case r.Destination(net):
                packet = replace(packet, dst=net.address)
            case r.Protocol(number):
                packet = _of(packet, number)
            case r.SourcePorts(ports):
                packet = replace(packet, sport=ports.first)
            case r.DestinationPorts(ports):
                packet = replace(packet, dport=ports.first)
            case r.OwnerIds(uid, False, gid, False) if packet.uid is not None:
                packet = replace(
                    packet, uid=uid.first if uid else packet.uid, gid=gid.first if gid else packet.gid
                )
            case r.Mark(mark):
                packet = replace(packet, mark=mark.value)
            case r.TcpFlags(_, flags):
                packet = replace(packet, flags=flags)
            case r.Icmp6Type(kind, code):
                packet = replace(packet, icmp_type=kind, icmp_code=code or 0)
            case r.IcmpType(kind, code):
                packet = replace(packet, icmp_type=8 if kind is None else kind, icmp_code=code or 0)
            case r.InInterface(iface) if packet.in_iface == iface.pattern:
                pass
            case _:
                raise _unclear(f"`{literals((literal,))}` does not fix a field of this packet")
    packet = _with_source(setting, packet)
    for literal in asked:
        if not holds(literal.match, as_sent(setting, sender, packet), roads(setting.host)):
            raise _unclear(f"`{literals((literal,))}` is not so of what is sent from there")
    return packet


def _read(text: str, family: Family) -> tuple[r.Literal, ...]:
    from .reading.rules import read_literals

    return read_literals(text, replace(COMMAND_LINE, line=1, column=1), text, family)


def _unclear(why: str) -> TraceError:
    hint = "a trace follows one packet: give addresses, ports, protocol, owner or mark (and --from for who sends it)"
    return TraceError("T004", why, COMMAND_LINE, hint=hint)


FIELDS = {
    "protocol": "proto",
    "source": "src",
    "destination": "dst",
    "sport": "sport",
    "dport": "dport",
    "flags": "flags",
    "icmp-type": "icmp_type",
    "icmp-code": "icmp_code",
    "uid": "uid",
    "gid": "gid",
    "mark": "mark",
    "device": "device",
}
GIVEN = ("from", "in", "out", "ctstate")
GREATEST = {
    "sport": 0xFFFF,
    "dport": 0xFFFF,
    "flags": 0xFF,
    "icmp-type": 0xFF,
    "icmp-code": 0xFF,
    "uid": LAST_ID,
    "gid": LAST_ID,
    "mark": ALL_32,
}


def from_fields(setting: Setting, sender: Sender, found: dict[str, Any], place: Place, line: str) -> Packet:
    """The familiar packet with the fields that the object gives, named as a trace prints them."""
    packet = familiar(setting, sender)
    for key in found:
        if key not in FIELDS and key not in GIVEN:
            hint = did_you_mean(key, [*FIELDS, *GIVEN]) or f"it has {', '.join([*GIVEN, *FIELDS])}"
            at = replace(place, column=line.find(f'"{key}"') + 1)
            raise TraceError(
                "T001", f"a packet has no field `{key}`", at, line=line, width=len(key) + 2, hint=hint
            )
    try:
        if "protocol" in found:
            packet = _of(packet, read_protocol(str(found["protocol"])))
        for key, name in FIELDS.items():
            if key == "protocol" or found.get(key) is None:
                continue
            packet = replace(packet, **{name: _value(setting, packet, key, found[key])})
    except ValueError as error:
        raise TraceError("T001", str(error), place, line=line) from None
    return _with_source(setting, packet)


def _value(setting: Setting, packet: Packet, key: str, value: object) -> int | str:
    """The field's value; raises ValueError where a packet of this protocol has none such."""
    if key in ("source", "destination"):
        return read_address(str(value), packet.family)
    if key == "device":
        names = [i.name for i in setting.host.interfaces]
        if value not in names:
            raise ValueError(f"there is no interface `{value}`: there is {', '.join(names)}")
        return str(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= GREATEST[key]:
        raise ValueError(f"`{key}` is a number from 0 to {GREATEST[key]}, not {json.dumps(value)}")
    protocols = {
        "sport": PORT_PROTOCOLS,
        "dport": PORT_PROTOCOLS,
        "flags": {TCP},
        "icmp-type": {_ICMP[packet.family]},
        "icmp-code": {_ICMP[packet.family]},
    }
    if value and packet.proto not in protocols.get(key, {packet.proto}):
        raise ValueError(f"a packet of protocol {spell_protocol(packet.proto)} has no `{key}`")
    return value
