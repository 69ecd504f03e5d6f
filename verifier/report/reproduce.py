"""A command that sends a packet again on a real machine, where there is one that works."""

from __future__ import annotations

from ..asked import groups_of
from ..hosts import Host
from ..journeys import Act, Journey, Stop
from ..packets import Packet
from ..values import IPV4, LINK_LOCAL, TCP, UDP, Family, TcpFlag, bracketed, spell_address

FIRST_GROUP = {IPV4: 0xE0000000, Family.IPV6: 0xFF << 120}
"""Addresses from here on are of groups, or broadcast."""

FIRST_FREE_PORT = 1024
"""Ports below are root's alone to bind (net.ipv4.ip_unprivileged_port_start)."""


def commands(journey: Journey, hop: int, host: Host) -> list[tuple[str, str]]:
    """For the first packet and for that of the hop: where to run a command, and the command."""
    sent = [s for s in journey.stops if s.act is Act.SENT and s.hop in (0, hop)]
    return [found for found in (_of(stop, host) for stop in sent) if found is not None]


def _of(stop: Stop, host: Host) -> tuple[str, str] | None:
    p = stop.packet
    if p.device is not None or p.mark or not _dialled(p):
        return None
    if stop.process is None:
        return ("on " + spell_address(p.src, p.family), _client(p)) if _from_a_neighbour(p, host) else None
    if p.uid is None or not _bindable(p, host):
        return None
    its = groups_of(host)[p.groups]
    groups = f"--groups {','.join(map(str, its))}" if its else "--clear-groups"
    return "here", f"setpriv --reuid {p.uid} --regid {p.gid} {groups} {_client(p)}"


def _dialled(p: Packet) -> bool:
    """curl, or nc, sends it: a SYN, or a datagram, to one address."""
    first = p.flags == TcpFlag.SYN if p.proto == TCP else p.proto == UDP
    return (
        first and 0 < p.dst < FIRST_GROUP[p.family] and not _is_link_local(p) and p.dport > 0 and p.sport > 0
    )


def _is_link_local(p: Packet) -> bool:
    """An end that means nothing without a zone, which these commands do not name."""
    return p.family is not IPV4 and any(a & LINK_LOCAL.mask == LINK_LOCAL.address for a in (p.src, p.dst))


def _client(p: Packet) -> str:
    src, dst = spell_address(p.src, p.family), spell_address(p.dst, p.family)
    if p.proto == TCP:
        to = f"http://{bracketed(p.dst, p.family)}:{p.dport}/"
        return f"curl -sS {'' if p.family is IPV4 else '-g '}--interface {src} --local-port {p.sport} {to}"
    return f"nc -u -w 1 -s {src} -p {p.sport} {dst} {p.dport}"


def _bindable(p: Packet, host: Host) -> bool:
    """A process of this host may bind the packet's source."""
    addresses = [(i.name, a) for i in host.interfaces for a in i.addresses]
    own = any(
        a.ip == p.src or (name == "lo" and p.src & a.net.mask == a.net.address) for name, a in addresses
    )
    return own and (p.sport >= FIRST_FREE_PORT or p.uid == 0)


def _from_a_neighbour(p: Packet, host: Host) -> bool:
    """It comes from a machine of the interface's own subnet, to the address that the interface has there."""
    nets = [(a.ip, a.net) for i in host.interfaces if i.name == p.in_iface for a in i.addresses]
    own = {a.ip for i in host.interfaces for a in i.addresses}
    return p.src not in own and any(
        p.dst == ip
        and net.address < p.src < net.address | ~net.mask & ((1 << net.family.bits) - 1)
        and p.src & net.mask == net.address
        for ip, net in nets
    )
