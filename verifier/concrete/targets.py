"""What the targets that change a packet do to it: the NAT targets and MARK."""

from __future__ import annotations

from typing import assert_never

from msgspec.structs import replace

from .. import rules as r
from ..hooks import Hook
from ..hosts import Host
from ..journeys import NO_ADDRESS, Lost, Unmodelled
from ..packets import Packet
from ..values import PORT_PROTOCOLS

LOCALHOST = 0x7F000001

MISPLACED = "a NAT target where the kernel loads none"
A_RANGE = "which of a range a NAT target takes"


def applied(
    target: r.Target | None, packet: Packet, hook: Hook, table: str, host: Host
) -> Packet | Lost | Unmodelled:
    """The packet as the target leaves it (most leave it alone), or why there is none.

    The NAT targets are for nat PREROUTING and OUTPUT alone (net/netfilter/xt_REDIRECT.c, xt_nat.c).
    """
    match target:
        case r.Redirect(ports):
            if not _loads(hook, table):
                return Unmodelled(MISPLACED)
            if ports is not None and ports.first != ports.last:
                return Unmodelled(A_RANGE)
            address = _here(packet, hook, host)
            return (
                Lost(NO_ADDRESS)
                if address is None
                else _towards(packet, address, ports.first if ports else None)
            )
        case r.Dnat(to):
            if not _loads(hook, table):
                return Unmodelled(MISPLACED)
            if to.address != to.first or (to.ports is not None and to.port is None):
                return Unmodelled(A_RANGE)
            return _towards(packet, packet.dst if to.address is None else to.address, to.port)
        case r.SetMark(mark):
            # (net/netfilter/xt_mark.c: mark_tg)
            return replace(packet, mark=(packet.mark & ~mark.mask) ^ mark.value)
        case None | r.Accept() | r.Drop() | r.Return() | r.Jump() | r.Goto() | r.Reject() | r.Log():
            return packet
        case r.OpaqueTarget():
            return packet
        case (
            r.Snat() | r.Masquerade() | r.Netmap() | r.Tproxy() | r.SetConnMark() | r.SaveMark() | r.RestoreMark()
            | r.NoTrack() | r.TrackAs() | r.ChangeTtl() | r.SetTos() | r.SetDscp() | r.ClampMss() | r.SetEntry() | r.Queue()
        ):  # fmt: skip
            return Unmodelled(f"target {type(target).__name__}")
        case _:
            assert_never(target)


def _loads(hook: Hook, table: str) -> bool:
    return table == "nat" and hook in (Hook.PREROUTING, Hook.OUTPUT)


def _here(packet: Packet, hook: Hook, host: Host) -> int | None:
    """Where REDIRECT leads: localhost for what is sent, the first address of its interface for what
    arrives, None without one (net/netfilter/nf_nat_redirect.c: nf_nat_redirect_ipv4)."""
    if hook is Hook.OUTPUT:
        return LOCALHOST
    assert packet.in_iface is not None, "what passes PREROUTING came in by an interface"
    addresses = host.interface(packet.in_iface).addresses
    return addresses[0].ip if addresses else None


def _towards(packet: Packet, address: int, port: int | None) -> Packet:
    """A port says nothing to a protocol without ports."""
    if port is None or packet.proto not in PORT_PROTOCOLS:
        return replace(packet, dst=address)
    return replace(packet, dst=address, dport=port)
