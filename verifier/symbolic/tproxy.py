"""TPROXY: which socket gets a packet, for all packets at once."""

from __future__ import annotations

from msgspec import Struct

from .. import rules as r
from ..hosts import Listener, Process
from ..values import Family
from .packets import SymPacket
from .routing import Road
from .terms import Bool, Bv


class Found(Struct, frozen=True):
    """Each listener with the packets for which it is found, and those of which nobody knows what is found for them."""

    sockets: tuple[tuple[Bool, Process, Listener], ...]
    unsure: Bool


def sockets(target: r.Tproxy, p: SymPacket, road: Road) -> Found:
    """The listeners that the target finds (net/ipv4/netfilter/nf_tproxy_ipv4.c, net/ipv6/netfilter/nf_tproxy_ipv6.c).

    In IPv6 the order in which an interface has its addresses is the kernel's own: where they lead to different sockets
    nobody knows which is found.
    """
    t = p.terms
    port = t.number(target.port, 16) if target.port else p.dport
    known = [(process, x) for process in road.host.processes for x in process.listens]
    # The best comes first: an address before the wildcard, then a device before none.
    known.sort(key=lambda one: (one[1].address is None, one[1].device is None))
    found: list[list[Bool]] = [[] for _ in known]
    unsure = t.false
    rest = t.true
    for here, addresses in _looked_for(target, p, road):
        rest = rest & ~here
        unsure = unsure | _found_at(here, addresses, known, found, p, port, road)
    _found_at(rest, [p.dst], known, found, p, port, road)
    return Found(tuple((t.any_of(conds), *one) for conds, one in zip(found, known, strict=True)), unsure)


def _looked_for(target: r.Tproxy, p: SymPacket, road: Road) -> list[tuple[Bool, list[Bv]]]:
    """The local addresses that it may look for, by what the packet came in by."""
    t = p.terms
    bits = p.family.bits
    if target.address:
        return [(t.true, [t.number(target.address, bits)])]
    out = []
    for interface in road.host.interfaces:
        own = [t.number(a.ip, bits) for a in interface.addresses]
        if own:
            here = p.in_iface.is_(road.names.index(interface.name))
            out.append((here, own[:1] if p.family is Family.IPV4 else own))
    return out


def _found_at(
    here: Bool,
    addresses: list[Bv],
    known: list[tuple[Process, Listener]],
    found: list[list[Bool]],
    p: SymPacket,
    port: Bv,
    road: Road,
) -> Bool:
    """Add what is found at each of these addresses alike; those packets of which that is not so."""
    t = p.terms
    if here.const is False:
        return t.false
    each: list[list[Bool]] = []
    for address in addresses:
        taken = t.false
        conds = []
        for _, listener in known:
            fits = p.proto.is_(listener.protocol) & port.is_(listener.port)
            if listener.address is not None:
                fits = fits & address.is_(listener.address)
            if listener.device is not None:
                fits = fits & p.in_iface.is_(road.names.index(listener.device))
            conds.append(fits & ~taken)
            taken = taken | fits
        each.append(conds)
    agreed = []
    for at, conds in enumerate(found):
        alike = here & t.all_of(one[at] for one in each)
        conds.append(alike)
        agreed.append(alike)
    nobody = t.all_of(~cond for one in each for cond in one)
    return here & ~nobody & ~t.any_of(agreed)
