"""What an earlier packet leaves in conntrack's table, and what a later one with its addresses and ports finds there."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from .. import rules as r
from ..hooks import Hook
from ..hosts import Setting
from ..journeys import Earlier, End, Group, Left, Socket, Stop, Unmodelled
from ..packets import ASSURED, CONFIRMED, DST_NAT, SEEN_REPLY, SRC_NAT, Connection, Ends, Packet
from ..values import CtState
from . import answers
from .behind import targets_met
from .conntrack import begun, is_on

NOT_FOLLOWED = "what an earlier packet has left in conntrack's table"
AN_ANSWER = "a packet that answers the earlier one"
A_CLASH = "a connection with the reply tuple of an earlier one"
A_MARKS_ZONE = "a zone that the mark names"
WHETHER_ANSWERED = "whether conntrack has seen the answer to the earlier packet"
AN_ANSWERS_MARK = "the connection mark that an answer has left"


class Entry(Struct, frozen=True):
    """The connection of an earlier packet, confirmed, as that packet has left it."""

    connection: Connection | None
    """None where nobody knows whether there is one."""
    zone: tuple[int, int] | None
    """In either direction; None where its mark names it."""
    masquerades: str | None
    """The interface for which it was masqueraded (net/netfilter/nf_nat_masquerade.c: masq_index)."""
    in_doubt: bool
    """Whether more may have become of it: copies for a group of sockets."""
    answered: bool
    """Whether it has been answered, or may have been."""


def left(
    setting: Setting, earlier: Earlier, stops: Sequence[Stop], end: End, kept: Packet | None
) -> Entry | None:
    """The entry that a packet has left after these stops, None where it has left none; `kept` is the packet as conntrack
    confirmed its connection, if it did (net/netfilter/nf_conntrack_core.c: __nf_conntrack_confirm), or was about to for a group.
    """
    if is_on(setting.rules) is not True:
        return None
    if isinstance(end, Unmodelled):
        return Entry(None, None, None, in_doubt=True, answered=False)
    if kept is None or kept.connection is None:
        return None
    # Over lo rules may still have changed its mark.
    last = stops[-1].packet.connection
    if last is None or not last.status & CONFIRMED:
        last = kept.connection
    answered = earlier.answered and isinstance(end, Left | Socket)
    if answered:
        last = replace(last, status=last.status | SEEN_REPLY | (ASSURED if earlier.assured else 0))
    zone = answers.zone_of(setting, stops, 0, stops[0].packet.in_iface is not None)
    return Entry(last, zone, masquerades(setting, stops), isinstance(end, Group), answered)


def keeps_answers(rules: r.RuleSet) -> bool:
    """True iff raw may drop an answer before conntrack sees it, or have it tracked elsewhere or not at all."""
    raw = rules.tables.get("raw")
    return raw is not None and any(c.rules or isinstance(c.policy, r.Drop) for c in raw.chains.values())


def marks_connections(rules: r.RuleSet) -> bool:
    """True iff some rule, called or not, sets the mark of a connection: of one that is answered the answer may have met it."""
    chains = (chain for table in rules.tables.values() for chain in table.chains.values())
    return any(
        isinstance(rule.target, r.SetConnMark | r.SaveMark) for chain in chains for rule in chain.rules
    )


def masquerades(setting: Setting, stops: Sequence[Stop]) -> str | None:
    """The interface for which nat has masqueraded the first packet, if it has.  A packet from 0.0.0.0 is left alone (net/netfilter/nf_nat_masquerade.c: nf_nat_masquerade_ipv4)."""
    sent = stops[0].packet
    for target, packet in targets_met(setting.rules, stops, 0, Hook.POSTROUTING, "nat"):
        if isinstance(target, r.Masquerade) and (sent.src or sent.family.bits == 128):
            return packet.out_iface
    return None


def begins(packet: Packet) -> Packet:
    """What is found in no entry: NEW, it begins a connection."""
    return replace(packet, connection=begun(packet)) if packet.ctstate is CtState.NEW else packet


def find(entry: Entry, packet: Packet, zone: tuple[int, int] | None) -> Connection | str | None:
    """The connection as a packet in this zone finds it, None where it finds none, and a reason where nobody knows
    (net/netfilter/nf_conntrack_core.c: resolve_normal_ct, nf_ct_key_equal).
    """
    known = entry.connection
    if known is None:
        return NOT_FOLLOWED
    ends = Ends(packet.src, packet.dst, packet.sport, packet.dport)
    back = ends == known.reply
    if entry.in_doubt:
        towards = (ends.src, ends.sport) == (known.reply.src, known.reply.sport)
        return NOT_FOLLOWED if towards or ends == known.original else None
    if not back and ends != known.original:
        turned = Ends(packet.dst, packet.src, packet.dport, packet.sport)
        return A_CLASH if turned in (known.original, known.reply) else None
    if zone is None or entry.zone is None:
        return A_MARKS_ZONE
    if back and zone[1] == entry.zone[1]:
        return AN_ANSWER
    if ends != known.original:
        return A_CLASH
    if zone[0] == entry.zone[0]:
        return known
    return A_CLASH if zone[1] == entry.zone[1] else None


def bound(packet: Packet, hook: Hook) -> Packet:
    """A packet of the connection's own direction as its stored translation leaves it at a hook of nat
    (net/netfilter/nf_nat_core.c: nf_nat_packet, nf_nat_manip_pkt)."""
    known = packet.connection
    assert known is not None, "what has no connection has no translation"
    if hook in (Hook.PREROUTING, Hook.OUTPUT):
        if known.status & DST_NAT:
            return replace(packet, dst=known.reply.src, dport=known.reply.sport)
    elif known.status & SRC_NAT:
        return replace(packet, src=known.reply.dst, sport=known.reply.dport)
    return packet
