"""TPROXY: the socket that gets a packet, whatever the packet's destination."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from .. import rules as r
from ..hooks import Hook
from ..hosts import Listener, Process, Setting
from ..journeys import Stop, Unmodelled
from ..packets import Packet
from ..values import IPV4
from . import routing
from .behind import targets_met
from .established import Accepted, socket_of
from .routing import Roads

UNKNOWN = "target Tproxy"


class Given(Struct, frozen=True):
    """The socket that a packet has been given; `accepted`: it is that of the packet's connection, and no listener."""

    socket: tuple[Process, Listener]
    accepted: bool


def socket_for(
    target: r.Tproxy, packet: Packet, road: Roads, accepted: Accepted | None = None
) -> tuple[Process, Listener] | Unmodelled | None:
    """The listener that the target finds for a TCP or UDP packet; Unmodelled where it may be one or another.  The socket of its
    connection, where it has been `accepted`, is found before any.

    (net/ipv4/netfilter/nf_tproxy_ipv4.c: nf_tproxy_laddr4, nf_tproxy_get_sock_v4; net/ipv6/netfilter/nf_tproxy_ipv6.c)
    """
    its_own = socket_of(accepted, packet, packet.in_iface)
    if its_own is not None:
        return its_own
    port = target.port or packet.dport
    found = [
        routing.listening(road, replace(packet, dst=address, dport=port), packet.in_iface)
        for address in _addresses(target, packet, road)
    ]
    return found[0] if all(one == found[0] for one in found) else Unmodelled(UNKNOWN)


def _addresses(target: r.Tproxy, packet: Packet, road: Roads) -> tuple[int, ...]:
    """The local addresses that it may look for: one in IPv4, and in IPv6, whose order is the kernel's own, any of the
    in-interface."""
    if target.address:
        return (target.address,)
    own = tuple(a.ip for i in road.host.interfaces if i.name == packet.in_iface for a in i.addresses)
    return (own[:1] if road.host.family is IPV4 else own) or (packet.dst,)


def given(
    setting: Setting, road: Roads, stops: list[Stop], hop: int, accepted: Accepted | None = None
) -> Given | None:
    """The socket that the hop's packet has been given on its way so far, if it has."""
    for target, packet in targets_met(setting.rules, stops, hop, Hook.PREROUTING, "mangle"):
        if isinstance(target, r.Tproxy):
            found = socket_for(target, packet, road, accepted)
            assert isinstance(found, tuple), "a packet that went on has been given a socket"
            return Given(found, socket_of(accepted, packet, packet.in_iface) is not None)
    return None
