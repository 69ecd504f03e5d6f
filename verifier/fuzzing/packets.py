"""First packets near the edges of a setting's rules, each with who sends it: only such as the host's senders can send."""

from __future__ import annotations

import random
from collections.abc import Iterator

from msgspec.structs import replace

from .. import rules as r
from ..asked import fields_carried
from ..concrete.conntrack import is_on
from ..concrete.fields import fit, last_header
from ..concrete.travel import as_sent, can_send
from ..hosts import Setting
from ..journeys import FromOutside, FromProcess
from ..packets import Packet
from ..samples import Edges, edges_of, near, of_protocol
from ..values import ICMP, ICMPV6, TCP, Family, read_address
from . import numbers as n

Draw = random.Random
PROTOCOLS = {Family.IPV4: (6, 6, 6, 17, 1, 47, 132), Family.IPV6: (6, 6, 6, 17, 58, 47, 132)}
AFAR = {
    Family.IPV4: (0x0A000007, 0x08080808),
    Family.IPV6: tuple(read_address(a, Family.IPV6) for a in ("2001:db8::7", "2001:4860::8888", "fe80::7")),
}
FLAGS = (2, 2, 2, 2, 2, 0x10, 0x12, 4, 0x42, 1, 0x22)


def shots(setting: Setting, draw: Draw) -> Iterator[tuple[FromOutside | FromProcess, Packet]]:
    """Packets as they are sent, without end, or none where nobody can send any."""
    edges = edges_of(setting)
    carried = fields_carried(setting)
    tracked = is_on(setting.rules) is not False
    identified = "connection" in carried and any(map(_draws_ports, _targets(setting)))
    own = [a.ip for i in setting.host.interfaces for a in i.addresses]
    senders: list[FromOutside | FromProcess] = []
    senders += [FromOutside(i.name) for i in setting.host.interfaces if i.name != "lo"] * 2
    senders += [FromProcess(p.name) for p in setting.host.processes]
    vain = 0
    while vain < 1000:
        sender = draw.choice(senders)
        packet = _packet(draw, setting, sender, edges, own)
        if "mac" in carried and isinstance(sender, FromOutside):
            packet = replace(packet, mac=draw.choice(edges.fields["mac"]))
        if n.flip(draw, 60) or carried & edges.fields.keys():
            packet = near(packet, edges, draw)
        if tracked and packet.proto == 33:
            continue  # Linux 6.17 has stopped to know its connections (docs/limits.md)
        if identified and packet.proto in (ICMP, ICMPV6):
            continue  # NAT may translate the identifier, which nobody knows (docs/limits.md)
        packet = _whole(packet, tracked)
        if packet.family is Family.IPV6:
            headers = last_header(packet) if "extensions" in carried else 0
            packet = replace(packet, extensions=headers, spi=packet.spi if packet.proto == 50 else 0)
            if isinstance(sender, FromOutside) and not fit(packet, carried, outside=True):
                continue
        if isinstance(sender, FromProcess) and not can_send(setting, sender.process, packet):
            vain += 1
            continue
        sent = as_sent(setting, sender, packet)
        if sent.src == 0 and isinstance(sender, FromProcess):
            continue  # a raw socket's source of 0 is filled in by the kernel
        vain = 0
        yield sender, sent


def _packet(
    draw: Draw, setting: Setting, sender: FromOutside | FromProcess, edges: Edges, own: list[int]
) -> Packet:
    wild = n.flip(draw, 20)
    dst = draw.choice(edges.addresses if wild or n.flip(draw, 30) else own)
    # Connections with ports of their own need not be forgotten before the next.
    sport = draw.randint(20000, 60000) if n.flip(draw, 85) else draw.choice((1, 600, 1024, 40000))
    dport, flags = draw.choice(edges.ports), draw.choice(FLAGS)
    if isinstance(sender, FromOutside):
        src = draw.choice(edges.addresses if wild else AFAR[setting.host.family])
        packet = Packet(src, dst, TCP, sport, dport, flags, family=setting.host.family)
    else:
        process = setting.host.process(sender.process)
        src = draw.choice(edges.addresses if process.raw and wild else own)
        packet = Packet(
            src,
            dst,
            TCP,
            sport,
            dport,
            flags,
            uid=draw.choice(edges.ids),
            gid=draw.choice(edges.ids),
            mark=draw.choice((0, process.mark)),
            device=draw.choice((None, process.device)),
            family=setting.host.family,
        )
    proto = draw.choice(PROTOCOLS[setting.host.family] if n.flip(draw, 80) else edges.protocols)
    return packet if proto == TCP else of_protocol(packet, proto, edges, draw)


def _whole(packet: Packet, tracked: bool) -> Packet:
    """What conntrack, where it is on, takes for the first packet of a connection as far as its handshake is not modelled."""
    return replace(packet, sctp_chunks=1 << 1) if tracked and packet.proto == 132 else packet


def _targets(setting: Setting) -> Iterator[r.Target | None]:
    for table in setting.rules.tables.values():
        yield from (rule.target for chain in table.chains.values() for rule in chain.rules)


def _draws_ports(target: r.Target | None) -> bool:
    match target:
        case r.Redirect(ports, choice) | r.Masquerade(ports, choice):
            return ports is not None or choice is not None
        case r.Dnat(to, choice) | r.Snat(to, choice):
            return to.ports is not None or choice is not None
        case _:
            return False
