"""What the targets that rewrite a packet do to it, as terms."""

from __future__ import annotations

from .. import rules as r
from ..hooks import Hook
from ..hosts import Host
from .matches import has_ports
from .packets import Names, SymPacket
from .terms import Bool, Bv


def redirected(
    target: r.Redirect, p: SymPacket, hook: Hook, host: Host, names: Names
) -> tuple[SymPacket, Bool]:
    """The packet after REDIRECT, and where there is no address to redirect to (then the packet is the old one).

    In OUTPUT the new address is 127.0.0.1, in PREROUTING the in-interface's first.
    """
    t = p.terms
    port = target.ports.first if target.ports else None
    if hook is Hook.OUTPUT:
        return _to(p, t.number(0x7F000001, 32), port), t.false
    address, none = p.dst, t.true
    for interface in host.interfaces:
        if interface.addresses:
            here = p.in_iface.is_(names.index(interface.name))
            address = t.choose(here, t.number(interface.addresses[0].ip, 32), address)
            none = none & ~here
    moved = _to(p, address, port)
    return moved.but(dport=t.choose(none, p.dport, moved.dport)), none


def translated(target: r.Dnat, p: SymPacket) -> SymPacket:
    """The packet after DNAT."""
    address = p.dst if target.to.address is None else p.terms.number(target.to.address, 32)
    return _to(p, address, target.to.port)


def _to(p: SymPacket, address: Bv, port: int | None) -> SymPacket:
    if port is None:
        return p.but(dst=address)
    return p.but(dst=address, dport=p.terms.choose(has_ports(p), p.terms.number(port, 16), p.dport))


def marked(target: r.SetMark, p: SymPacket) -> SymPacket:
    """MARK: the bits outside the mask stay, and the value is xor-ed in."""
    kept = p.mark & (0xFFFFFFFF ^ target.mark.mask)
    return p.but(mark=kept ^ target.mark.value)
