"""The counterexample that a person would have chosen: familiar addresses and ports, each field tried in turn
with the concrete wing, which must still find the claim broken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec.structs import replace

from .hosts import Host, Setting
from .journeys import (
    FIRST_PORT,
    OF_A_CONNECTION,
    Choices,
    Earlier,
    FromOutside,
    FromProcess,
    FromProxy,
    Sender,
)
from .packets import Packet
from .replay import Start
from .values import LINK_LOCAL, PORT_PROTOCOLS, TCP, Family, TcpFlag, read_address


def canonical(start: Start, setting: Setting, broken: Callable[[Start], bool]) -> Start:
    """A start as familiar as can be that still breaks the claim; `start` itself breaks it."""
    made = start.choices
    for simpler in (
        Choices(made.opaque, picks=made.picks, translated=made.translated),
        Choices(made.opaque, picks=made.picks),
        Choices(made.opaque, translated=made.translated),
        Choices(made.opaque),
    ):
        trial = replace(start, choices=simpler)
        if trial != start and broken(trial):
            start = trial
    packet = start.packet
    if packet is None:
        return start
    shared = _shared(start.earlier)
    for field, values in _preferences(start.sender, setting):
        if field == "proto" and start.earlier is not None:
            continue
        if field == "flags" and start.earlier is not None and start.earlier.opens:
            values = [TcpFlag.ACK]
        for value in values:
            if getattr(packet, field) == value or not _has(packet, field):
                break
            trial_packet = _but(packet, field, value)
            trial = replace(start, packet=trial_packet)
            if start.earlier is not None and field in shared:
                trial = replace(trial, earlier=_with(start.earlier, field, value))
            if broken(trial):
                start, packet = trial, trial_packet
                break
    return start if start.earlier is None else _canonical_before(start, start.earlier, setting, broken)


def _shared(earlier: Earlier | None) -> tuple[str, ...]:
    """The fields that an earlier packet has in common with the one behind it."""
    return OF_A_CONNECTION if earlier is not None and earlier.opens else ("src", "dst", "sport", "dport")


def _canonical_before(
    start: Start, earlier: Earlier, setting: Setting, broken: Callable[[Start], bool]
) -> Start:
    """The start with an earlier packet as familiar as can be, whose addresses and ports stay."""
    choices = earlier.choices
    for change in (
        {"answered": False, "assured": False},
        {"assured": False},
        {"choices": Choices(choices.opaque, translated=choices.translated)},
        {"choices": Choices(choices.opaque)},
    ):
        simpler = replace(earlier, **change)
        trial = replace(start, earlier=simpler)
        if simpler != earlier and broken(trial):
            start, earlier = trial, simpler
    for field, values in _preferences(earlier.sender, setting):
        if field in _shared(earlier) or field == "proto":
            continue
        for value in values:
            if getattr(earlier.packet, field) == value or not _has(earlier.packet, field):
                break
            simpler = _with(earlier, field, value)
            if broken(replace(start, earlier=simpler)):
                start, earlier = replace(start, earlier=simpler), simpler
                break
    return start


def _with(earlier: Earlier, field: str, value: int | str | None) -> Earlier:
    return replace(earlier, packet=_but(earlier.packet, field, value))


def _has(packet: Packet, field: str) -> bool:
    """The packet's protocol has this field."""
    match field:
        case "sport" | "dport":
            return packet.proto in PORT_PROTOCOLS
        case "flags":
            return packet.proto == TCP
        case "mac":
            return packet.mac is not None
        case _:
            return True


def _but(packet: Packet, field: str, value: int | str | None) -> Packet:
    if field == "proto" and value != packet.proto:
        alone = dict.fromkeys(
            ("tcp_options", "dccp_type", "dccp_options", "sctp_chunks", "sctp_flags", "spi"), 0
        )
        flags = TcpFlag.SYN if value == TCP else 0
        return replace(packet, proto=int(value or 0), flags=flags, icmp_type=0, icmp_code=0, **alone)
    return replace(packet, **{field: value})


def _preferences(sender: Sender, setting: Setting) -> Iterator[tuple[str, list[int | str | None]]]:
    host = setting.host
    near, own, other = _addresses(setting)
    ports = sorted({x.port for p in host.processes if not p.proxies for x in p.listens})
    proxied = sorted({x.port for p in host.processes for x in p.listens} - set(ports))
    yield "proto", [TCP]
    yield "flags", [TcpFlag.SYN]
    match sender:
        case FromOutside():
            yield "dst", [*own, *other]
            yield "src", [*near]
        case FromProcess(name):
            process = host.process(name)
            yield "device", [None]
            yield "mark", [0]
            yield "uid", [1000, *(r.first for r in process.uid.ranges)]
            yield "gid", [1000, *(r.first for r in process.gid.ranges)]
            here = LOCALHOSTS[host.family]
            yield "src", [*own, here]
            yield "dst", [*near, *own, here, *other]
        case FromProxy():
            return
    yield "dport", [*ports, 80, *proxied, 1]
    yield "sport", [FIRST_PORT]
    for field, value in (
        ("ttl", 64),
        ("tos", 0),
        ("length", 60),
        ("tcp_options", 0),
        ("mac", 0x020000000001),
    ):
        yield field, [value]


def _addresses(
    setting: Setting,
) -> tuple[list[int | str | None], list[int | str | None], list[int | str | None]]:
    """Neighbours in the subnets of the interfaces, the host's own addresses, and some beyond them."""
    own = [a.ip for i in setting.host.interfaces if i.name != "lo" for a in i.addresses]
    family = setting.host.family
    return [neighbour(setting.host)], list(own), [LOCALHOSTS[family], FAR_AWAY[family]]


LOCALHOSTS = {Family.IPV4: 0x7F000001, Family.IPV6: 1}

FAR_AWAY = {Family.IPV4: 0x08080808, Family.IPV6: read_address("2001:4860:4860::8888", Family.IPV6)}


def neighbour(host: Host) -> int:
    """A machine in the subnet of the first interface that has one: neither this host nor its gateway."""
    own = {a.ip for i in host.interfaces for a in i.addresses}
    taken = own | {route.via for routes in (host.routes, *host.tables.values()) for route in routes}
    for interface in host.interfaces:
        for a in interface.addresses:
            near = a.ip & LINK_LOCAL.mask == LINK_LOCAL.address
            if interface.name != "lo" and a.length < host.family.bits - 2 and not near:
                first = a.net.address + 2
                return next(x for x in range(first, first + len(taken) + 1) if x not in taken)
    return FAR_AWAY[host.family]
