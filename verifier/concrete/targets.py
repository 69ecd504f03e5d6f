"""What the targets that change a packet do to it: to its header, its mark and its connection.

The NAT targets are told in `nat.py`.
"""

from __future__ import annotations

from typing import assert_never

from msgspec.structs import replace

from .. import rules as r
from ..hooks import Hook
from ..journeys import Lost, Unmodelled
from ..packets import Connection, Packet
from ..values import ALL_32, TCP, CtState, MarkMask
from . import nat
from .nat import MISPLACED, Drawn
from .routing import Roads

A_PROGRAM = "a program decides"
AN_OPTION = "whether TCPMSS adds an option"

MAXIMUM_SEGMENT_SIZE = 2
"""The kind of TCP option that offers it."""


def applied(
    target: r.Target | None,
    packet: Packet,
    hook: Hook,
    table: str,
    road: Roads,
    carried: frozenset[str] = frozenset(),
    drawn: Drawn = (None, None),
) -> Packet | Lost | Unmodelled:
    """The packet as the target leaves it (most leave it alone), or why there is none.

    `carried` are the fields that this journey's packets carry, `drawn` what a NAT target takes where it has a choice.
    """
    match target:
        case r.Redirect() | r.Dnat() | r.Snat() | r.Masquerade() | r.Netmap():
            return nat.translated(target, packet, hook, table, road, drawn)
        case r.SetMark(mark):
            # (net/netfilter/xt_mark.c: mark_tg)
            return with_mark(packet, mark)
        case r.SetConnMark(mark, shift):
            return _with_connection_mark(packet, mark, shift)
        case r.SaveMark(packet_mask, connection_mask, shift):
            saved = _shifted(packet.mark & packet_mask, shift)
            return _with_connection_mark(packet, MarkMask(saved, connection_mask))
        case r.RestoreMark(packet_mask, connection_mask, shift):
            if packet.connection is None:
                return packet
            saved = _shifted(packet.connection.mark & connection_mask, shift)
            return replace(packet, mark=_marked(packet.mark, MarkMask(saved, packet_mask)))
        case r.NoTrack():
            return Unmodelled(MISPLACED) if table != "raw" else _unless_seen(packet, CtState.UNTRACKED)
        case r.TrackAs():
            # The template that will be its entry's stands for it (net/netfilter/xt_CT.c: xt_ct_target).
            return Unmodelled(MISPLACED) if table != "raw" else _unless_seen(packet, CtState.NEW)
        case r.ChangeTtl(change, value):
            return replace(packet, ttl=_ttl(packet.ttl, change, value))
        case r.SetTos(value, mask):
            # (net/netfilter/xt_DSCP.c: tos_tg)
            return replace(packet, tos=(packet.tos & ~mask) ^ value)
        case r.SetDscp(value):
            return replace(packet, tos=value << 2 | packet.tos & 3)
        case r.ClampMss():
            return packet if _clamps_alone(packet, carried) else Unmodelled(AN_OPTION)
        case r.Queue():
            return Unmodelled(A_PROGRAM)
        case r.OpaqueTarget(text):
            return Unmodelled(f"target {text}")
        case (
            None | r.Accept() | r.Drop() | r.Return() | r.Jump() | r.Goto() | r.Reject() | r.Log() | r.SetEntry()
        ):  # fmt: skip
            return packet
        case r.Tproxy():
            raise AssertionError("what TPROXY does depends on sockets: chains._given")
        case _:
            assert_never(target)


def with_mark(packet: Packet, mark: MarkMask) -> Packet:
    return replace(packet, mark=_marked(packet.mark, mark))


def _marked(mark: int, by: MarkMask) -> int:
    return (mark & ~by.mask & ALL_32) ^ by.value


def _shifted(mark: int, bits: int) -> int:
    """By so many bits to the left, or where they are negative to the right; what goes beyond 32 bits is lost."""
    return mark << bits & ALL_32 if bits >= 0 else mark >> -bits


def _with_connection_mark(packet: Packet, by: MarkMask, shift: int = 0) -> Packet:
    """What has no connection has no mark of one (net/netfilter/xt_connmark.c: connmark_tg_shift)."""
    connection: Connection | None = packet.connection
    if connection is None:
        return packet
    return replace(packet, connection=replace(connection, mark=_shifted(_marked(connection.mark, by), shift)))


def _unless_seen(packet: Packet, state: CtState) -> Packet:
    """The packet in this state, unless conntrack (over lo), a template or NOTRACK has given it one
    (net/netfilter/xt_CT.c: xt_ct_target and notrack_tg, `if (skb->_nfct != 0)`)."""
    return replace(packet, ctstate=state) if packet.ctstate is CtState.INVALID else packet


def _ttl(ttl: int, change: r.Change, value: int) -> int:
    """(net/netfilter/xt_HL.c: ttl_tg)"""
    match change:
        case r.Change.SET:
            return value
        case r.Change.INCREASE:
            return min(ttl + value, 255)
        case r.Change.DECREASE:
            return max(ttl - value, 0)
        case _:
            assert_never(change)


def _clamps_alone(packet: Packet, carried: frozenset[str]) -> bool:
    """True iff no field that is carried can change: only a packet without data gets the option that it lacks, and
    whether it has any no field says (net/netfilter/xt_TCPMSS.c: tcpmss_mangle_packet)."""
    if packet.proto != TCP or not carried & {"length", "tcp_options"}:
        return True
    return "tcp_options" in carried and packet.tcp_options >> MAXIMUM_SEGMENT_SIZE & 1 == 1
