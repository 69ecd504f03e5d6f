"""First packets that are sent under any rules of a host: near the numbers that the rules name, of every kind of sender."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from verifier.concrete.routing import roads, select_source
from verifier.hosts import Setting
from verifier.journeys import FromOutside, FromProcess, Sender
from verifier.kernel.expected import stimulus
from verifier.kernel.stimuli import Connect, Stimulus
from verifier.packets import Packet
from verifier.rules import DestinationPorts, Match, OwnerIds
from verifier.values import TcpFlag, read_address

from .sidecar import GATEWAY, LOOPBACK, POD, SERVICE

ANYWHERE = read_address("8.8.8.8")
OTHER_POD = read_address("10.33.9.9")
LOOPBACK_2 = read_address("127.0.0.2")
LOOPBACK_6 = read_address("127.0.0.6")
NOBODY = 1000
"""A uid and gid that no rule names."""
PORT = 80
"""A port that no rule and no listener names."""


class Probe(Struct, frozen=True):
    """A first packet, for a wing and for the kernel."""

    sender: Sender
    packet: Packet
    stimulus: Stimulus


def probes(setting: Setting) -> tuple[Probe, ...]:
    """SYNs from outside, of the app and of Envoy, whose ids, ports and ends are those that the setting names, and others."""
    listened = {x.port for p in setting.host.processes for x in p.listens}
    named = {
        x for m in _matches(setting) if isinstance(m, DestinationPorts) for x in (m.ports.first, m.ports.last)
    }
    ids = {x.first for m in _matches(setting) if isinstance(m, OwnerIds) for x in (m.uid, m.gid) if x}
    from_outside = _from_outside(sorted({PORT} | listened | named))
    from_within = _from_within(setting, sorted({NOBODY} | ids), sorted({PORT} | listened))
    return (*from_outside, *from_within)


def _matches(setting: Setting) -> list[Match]:
    chains = (c for t in setting.rules.tables.values() for c in t.chains.values())
    return [literal.match for chain in chains for rule in chain.rules for literal in rule.literals]


def _from_outside(ports: list[int]) -> Iterator[Probe]:
    """The gateway's frames, also to foreign addresses; and some that come from where they should not."""
    ends = [(GATEWAY, POD, port) for port in ports]
    ends += [(GATEWAY, dst, port) for dst in (ANYWHERE, LOOPBACK) for port in (8080, 15001, 15006, 15008)]
    ends += [(src, POD, 8080) for src in (SERVICE, OTHER_POD, POD, LOOPBACK_6)]
    for src, dst, port in ends:
        packet = Packet(src, dst, sport=40000, dport=port, flags=TcpFlag.SYN, in_iface="eth0")
        sender = FromOutside("eth0")
        yield Probe(sender, packet, stimulus(sender, packet))


def _from_within(setting: Setting, ids: list[int], ports: list[int]) -> Iterator[Probe]:
    """Sockets of every owner, bound to every address and to none; and some that are bound to eth0."""
    road = roads(setting.host)
    for uid in ids:
        for gid in ids:
            sender = FromProcess("app" if uid == NOBODY else "envoy")
            for dst in (SERVICE, OTHER_POD, ANYWHERE, POD, LOOPBACK, LOOPBACK_2):
                for src in (None, POD, LOOPBACK, LOOPBACK_6):
                    source = select_source(road, dst) if src is None else src
                    assert source is not None, "the pod has a default route"
                    yield _connecting(sender, uid, gid, source, dst, 8080, unbound=src is None)
                yield _connecting(sender, uid, gid, POD, dst, 8080, device="eth0")
            for port in ports:
                yield _connecting(sender, uid, gid, POD, POD, port)


def _connecting(
    sender: Sender,
    uid: int,
    gid: int,
    src: int,
    dst: int,
    port: int,
    *,
    device: str | None = None,
    unbound: bool = False,
) -> Probe:
    packet = Packet(src, dst, sport=40000, dport=port, flags=TcpFlag.SYN, uid=uid, gid=gid, device=device)
    connect = stimulus(sender, packet)
    assert isinstance(connect, Connect), "a process connects"
    return Probe(sender, packet, replace(connect, src=None) if unbound else connect)
