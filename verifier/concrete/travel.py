"""The whole journey of one packet: from hook to hook, over lo, and on through declared proxies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from .. import journeys as j
from ..asked import fields_carried, groups_of
from ..hooks import NFT_INPUT, TABLES, Hook
from ..hosts import Backend, Listener, Setting
from ..journeys import Act, Choices, Earlier, Journey, ProxyState, Sender, Stop
from ..packets import CONFIRMED, SEEN_REPLY, Connection, Packet
from ..rules import Drop, TrackAs
from ..values import ICMP, ICMPV6, PORT_PROTOCOLS, TCP, UDP, CtState, Family, IdSet, Ipv6Extension, TcpFlag
from . import answers as back
from . import entries, established, fields, keys, proxies, rejections, routing, routing6, tproxy, ways
from .answers import Answering
from .behind import targets_met
from .chains import Record, Visit, traverse
from .conntrack import begun, confirmed, conntrack_state, is_on
from .entries import Entry
from .established import Accepted, Opened
from .rejections import Rejecting
from .routing import LOOPBACK_DEVICE, Roads

__all__ = ["as_sent", "can_send", "conntrack_state", "travel"]

SILENT = Choices()

ITS_LINK = "a link-local address of this host behind a local route"
EARLY = "whether its socket gets it before it is routed"
CONNTRACK = "whether conntrack is on"
AN_EXTENSION = "an extension header that is not followed"
ZONE = "the original destination of a connection in a zone of its own"
GIVEN_AND_MOVED = "by what address a process knows what TPROXY gave it and NAT changed"
INPUT_ORDER = "order of nat and security at INPUT"


class _Hop(Struct, frozen=True):
    """One packet under way, and all that its journey depends on."""

    number: int
    sent: Packet
    setting: Setting
    road: Roads
    tracked: bool | None
    """Whether conntrack is on; None where nobody knows."""
    choices: Choices
    record: Record
    carried: frozenset[str]
    """The fields that packets carry since somebody asks for them."""
    cut: j.End | None = None
    """What becomes of it as soon as it is sent."""
    answering: Answering | None = None
    """What it answers, where it is an answer or a rejection."""
    rejecting: Rejecting | None = None
    """What it rejects, where it is a rejection."""
    entry: Entry | None = None
    """What an earlier packet has left in conntrack's table."""
    opened: Opened | None = None
    """What the first packet of its connection has left, where it is a later one."""
    last: list[Packet] = []
    """Where the packet is noted with which the hop comes to somebody."""
    kept: list[Packet] = []
    """Where the packet is noted as conntrack confirms its connection."""
    behind: list[Entry] = []
    """Where the entry is noted in which conntrack finds the packet, or may do so."""
    replied: list[Connection] = []
    """Where the connection is noted in which conntrack finds an answer to the hop."""
    doubts: list[str] = []
    """Where is noted what is taken to be so, and may not be."""

    @property
    def accepted(self) -> Accepted | None:
        """The socket that has its connection here, where it is a later packet of one that has come to a socket."""
        return None if self.opened is None else self.opened.accepted


def travel(
    setting: Setting,
    sender: Sender,
    packet: Packet | None = None,
    choices: Choices = SILENT,
    state: ProxyState | None = None,
    hops: int | None = None,
    earlier: Earlier | None = None,
) -> Journey:
    """All that happens to the packet that the sender sends, and to what proxies make of it, after the earlier packet if one
    is given: then both are UDP, or that one opens the connection of which this is a later packet; and the setting has
    connections carried.

    A proxy sends no packet of ours: its first dial is told by `state`.  With `hops`, at least 1, so many hops
    are travelled at most and loops are not looked for; without, every journey ends, since the addresses
    and ports of proxy states come from the first packet and the host.
    """
    assert hops is None or hops >= 1, "a journey has a hop"
    road = routing.roads(setting.host)
    record = Record([], [])
    carried = fields_carried(setting)
    tracked = is_on(setting.rules) if "nat" in setting.rules.tables else False
    dialled: dict[ProxyState, int] = {}
    cut: j.End | None = None
    if state is None:
        assert packet is not None, "a frame or a process's packet has to be given"
    else:
        assert packet is None, "a proxy's first packet is told by its state"
        assert sender == j.FromProxy(state.process, state.proxy)
        packet, cut = proxies.dial(road, state, 0, choices, carried)
        dialled[state] = 0
    sent = _as_sent(setting, road, sender, packet, cut is None)
    answers: dict[int, j.End] = {}
    hop = _Hop(0, sent, setting, road, tracked, choices, record, carried, cut)
    before: Journey | None = None
    assert earlier is None or not setting.rejections, "of rejections no earlier packets are told"
    if earlier is not None and earlier.opens:
        assert established.is_of(sent, earlier), (
            "it is a later packet of the connection, from the same sender"
        )
        before, opened = _opening(hop, earlier)
        hop = replace(hop, opened=opened)
        if opened.stands is None:
            hop = replace(hop, cut=j.Unmodelled(established.WHETHER_IT_STANDS))
    elif earlier is not None:
        assert sent.proto == UDP, "of other protocols no earlier packets are told"
        assert not setting.answers, "whose socket gets an answer is not told behind an earlier packet"
        before, entry = _before(hop, earlier)
        hop = replace(hop, entry=entry)
    first = hop
    next_ = _answered(hop, sender, answers)
    states: list[ProxyState] = []
    number = 0
    while isinstance(next_, ProxyState):
        number += 1
        if number == hops:
            next_ = j.Onward()
        elif hops is None and next_ in dialled:
            next_ = j.Loop(dialled[next_])
        else:
            dialled[next_] = number
            states.append(next_)
            proxy = j.FromProxy(next_.process, next_.proxy)
            packet, cut = proxies.dial(road, next_, number, choices, carried)
            sent = _as_sent(setting, road, proxy, packet, cut is None)
            hop = _Hop(number, sent, setting, road, tracked, choices, record, carried, cut)
            next_ = _answered(hop, proxy, answers)
    told = Journey(tuple(record.stops), next_, tuple(states), tuple(record.asked), answers)
    if before is None:
        return told
    behind = bool(first.behind) if first.opened is None else first.opened.stands is not False
    return replace(told, earlier=before, behind=behind, doubts=tuple(first.doubts))


def _before(hop: _Hop, earlier: Earlier) -> tuple[Journey, Entry | None]:
    """The journey of the packet that was sent before this hop's, and the entry that it has left."""
    assert earlier.packet.proto == UDP, "of other protocols no earlier packets are told"
    way = _hop_before(hop, hop.setting, earlier)
    record = way.record
    end = _go(way, earlier.sender)
    assert not isinstance(end, ProxyState), "nobody dials for a datagram"
    kept = way.kept[-1] if way.kept else None
    entry = entries.left(hop.setting, earlier, record.stops, end, kept)
    return Journey(tuple(record.stops), end, asked=tuple(record.asked)), entry


def _opening(hop: _Hop, earlier: Earlier) -> tuple[Journey, Opened]:
    """The journey of the first packet of this hop's connection, with the answer to it, and what both have left."""
    ends: dict[int, j.End] = {}
    setting = replace(hop.setting, answers=True)
    way = _hop_before(hop, setting, earlier)
    record = way.record
    came_to = _answered(way, earlier.sender, ends)
    end = j.Onward() if isinstance(came_to, ProxyState) else came_to
    last = way.last[-1] if way.last else None
    replied = way.replied[-1] if way.replied else None
    left = established.opened(setting, hop.road, earlier, record.stops, end, ends, last, replied)
    return Journey(tuple(record.stops), end, asked=tuple(record.asked), answers=ends), left


def _hop_before(hop: _Hop, setting: Setting, earlier: Earlier) -> _Hop:
    """That of the packet which was sent before this hop's, with nothing before it."""
    assert "connection" in hop.carried, "what conntrack knows is carried"
    sent = _as_sent(setting, hop.road, earlier.sender, earlier.packet)
    return _Hop(0, sent, setting, hop.road, hop.tracked, earlier.choices, Record([], []), hop.carried)


# -- what comes back ----------------------------------------------------------------------------


def _answered(hop: _Hop, sender: Sender, answers: dict[int, j.End]) -> ProxyState | j.End:
    """What one hop comes to; its answer, where there is one, is told behind it, and how that ends noted."""
    came_to = _go(hop, sender)
    if hop.setting.answers and hop.last:
        _answer(hop, sender, came_to, answers)
    if hop.setting.rejections and isinstance(came_to, j.Rejected):
        _reject(hop, sender, came_to, answers)
    return came_to


def _answer(hop: _Hop, sender: Sender, came_to: ProxyState | j.End, answers: dict[int, j.End]) -> None:
    """Tell the answer to a hop that has come to somebody, if there is one, and how it ends."""
    packet, stop = hop.last[-1], hop.record.stops[-1]
    delivered = stop.act is Act.DELIVERED
    number = -1 - hop.number
    drawn = hop.choices.drawn.get(number, {})
    later = None if hop.opened is None else drawn.get("flags", int(TcpFlag.ACK))
    header = back.swapped(packet, here=delivered or isinstance(came_to, j.Kernel), later=later)
    if isinstance(header, Packet) and _is_astray(hop, packet):
        header = established.NOT_FOUND
    if isinstance(header, Packet) and isinstance(came_to, j.Kernel) and back.asks_for_sockets(hop.setting):
        header = back.THE_KERNELS_SOCKET
    if isinstance(header, Packet) and isinstance(came_to, j.Left):
        if back.goes_past(hop.road, packet, came_to.interface):
            header = back.PAST_THIS_HOST
    if header is None:
        return
    if isinstance(header, str):
        answers[hop.number] = j.Unmodelled(header)
        return
    outside = isinstance(came_to, j.Left)
    header = back.with_drawn(header, drawn, hop.carried, outside=outside)
    state = CtState.ESTABLISHED if packet.connection else conntrack_state(hop.setting, header)
    header = replace(header, ctstate=state)
    answering = Answering(
        hop.sent,
        None if isinstance(sender, j.FromOutside) else sender.process,
        packet.connection,
        back.zone_of(hop.setting, hop.record.stops, hop.number, hop.sent.in_iface is not None),
        later=hop.opened is not None,
    )
    way = replace(
        hop, number=number, sent=header, cut=None, answering=answering, opened=None, last=[], behind=[]
    )
    if outside:
        assert isinstance(came_to, j.Left), "it came to the wire"
        sent = replace(header, in_iface=came_to.interface)
        end = _go(replace(way, sent=sent), j.FromOutside(came_to.interface))
    elif delivered:
        assert stop.process is not None, "a socket got it"
        assert stop.listener is not None, "a socket got it"
        end = _answer_here(way, stop.process, stop.listener, packet, drawn)
    else:
        end = _answer_here(way, None, None, packet, {})
    assert not isinstance(end, ProxyState), "nobody dials for an answer"
    answers[hop.number] = end


def _is_astray(hop: _Hop, packet: Packet) -> bool:
    """True iff conntrack has an entry of its connection, in which it has not found the packet."""
    entry = None if hop.opened is None else hop.opened.entry
    return entry is not None and packet.connection is None


def _answer_here(
    way: _Hop, name: str | None, listener: Listener | None, packet: Packet, drawn: Mapping[str, int]
) -> ProxyState | j.End:
    """The answer of a socket, or of the kernel."""
    sent = replace(way.sent, device=back.device_of(way.road, listener, packet))
    if name is not None:
        process = way.setting.host.process(name)
        uid, gid = way.choices.uids.get(
            way.number, (process.uid.ranges[0].first, process.gid.ranges[0].first)
        )
        sent = replace(sent, uid=uid, gid=gid, mark=drawn.get("mark", 0))
        sent = _with_groups(way.setting, name, sent)
    if sent.dst == 0:
        _tell(way, Act.SENT, sent, process=name)
        return j.Unmodelled(back.TO_NOBODY)
    if keys.are_untold_here(way.road.host, sent):
        _tell(way, Act.SENT, replace(sent, device=None), process=name)
        return j.Unmodelled(keys.ITS_PORTS)
    transparent = listener is not None and listener.transparent
    by = back.asked_by(way.road, listener, packet)
    sent = replace(sent, out_iface=back.way_back(way.road, sent, transparent=transparent, by=by))
    sent = replace(sent, device=None if listener is None else listener.device)
    way = replace(way, sent=sent)
    _tell(way, Act.SENT, sent, process=name)
    return _depart(way)


def _reject(hop: _Hop, sender: Sender, end: j.Rejected, answers: dict[int, j.End]) -> None:
    """Tell what is sent back for a hop that a rule has rejected, if anything is, and how it ends."""
    stops = hop.record.stops
    sent = rejections.sent_back(hop.setting, hop.road, stops, end, hop.carried)
    if sent is None:
        return
    if isinstance(sent, str):
        answers[hop.number] = j.Unmodelled(sent)
        return
    name = None if isinstance(sender, j.FromOutside) else sender.process
    way = replace(
        hop,
        number=-1 - hop.number,
        sent=sent,
        cut=None,
        answering=Answering(hop.sent, name, None, (0, 0)),
        rejecting=rejections.rejecting(hop.sent, name, stops[-1].packet),
        last=[],
    )
    _tell(way, Act.SENT, sent)
    came_to = _depart(way)
    assert not isinstance(came_to, ProxyState), "nobody dials for a rejection"
    answers[hop.number] = came_to


# -- what is sent -------------------------------------------------------------------------------


def as_sent(setting: Setting, sender: Sender, packet: Packet) -> Packet:
    """The packet with what only the host knows: its interfaces and its connection state.

    `out_iface` is None iff the sender cannot send it, or is outside.  Fields that nobody asks for have their defaults.
    """
    return _as_sent(setting, routing.roads(setting.host), sender, packet)


def _as_sent(setting: Setting, road: Roads, sender: Sender, packet: Packet, goes: bool = True) -> Packet:
    known = conntrack_state(setting, packet)
    packet = fields.as_carried(packet, fields_carried(setting), isinstance(sender, j.FromOutside))
    match sender:
        case j.FromOutside(interface):
            return replace(
                packet,
                in_iface=interface,
                out_iface=None,
                uid=None,
                gid=None,
                device=None,
                groups=0,
                mark=0,
                ctstate=known,
            )
        case j.FromProcess(process):
            packet = _with_groups(setting, process, packet)
            out = ways.way_out(road, packet, setting.host.process(process).raw)
        case j.FromProxy(process):
            packet = _with_groups(setting, process, packet)
            out = ways.way_out(road, packet, raw=False, bound=True) if goes else None
        case _:
            assert_never(sender)
    return replace(packet, in_iface=None, out_iface=out, ctstate=known)


def _with_groups(setting: Setting, process: str, packet: Packet) -> Packet:
    """A socket has the supplementary groups of its process (net/netfilter/xt_owner.c: f_cred->group_info)."""
    if "groups" not in fields_carried(setting):
        return packet
    its = setting.host.process(process).supplementary
    return replace(packet, groups=groups_of(setting.host).index(its))


def can_send(setting: Setting, process_name: str, packet: Packet) -> bool:
    """True iff a socket of the process may send exactly this packet."""
    process = setting.host.process(process_name)
    if packet.uid is None or packet.gid is None:
        return False
    if not (_holds_id(process.uid, packet.uid) and _holds_id(process.gid, packet.gid)):
        return False
    if packet.mark not in (0, process.mark) or packet.device not in (None, process.device):
        return False
    if not fields.fit(packet, fields_carried(setting), outside=False, raw=process.raw):
        return False
    road = routing.roads(setting.host)
    if packet.dst == 0 or (not process.raw and packet.proto in PORT_PROTOCOLS and packet.sport == 0):
        return False
    out = ways.way_out(road, packet, process.raw)
    if out is None and not ways.may_have_a_way(road, process, packet):
        return False
    return ways.may_send_from(road, process, packet, out)


def _holds_id(ids: IdSet, number: int) -> bool:
    return any(span.first <= number <= span.last for span in ids.ranges)


# -- a hop --------------------------------------------------------------------------------------


def _go(hop: _Hop, sender: Sender) -> ProxyState | j.End:
    """What one hop comes to: the state of a proxy that dials on, or the end."""
    match sender:
        case j.FromOutside(interface):
            _tell(hop, Act.SENT, hop.sent)
            if hop.cut is not None:
                return hop.cut
            return j.Lost(j.MARTIAN) if ways.is_barred(hop.road, hop.sent) else _arrive(hop, interface)
        case j.FromProcess(process) | j.FromProxy(process):
            _tell(hop, Act.SENT, hop.sent, process=process)
            its = hop.setting.host.process(process)
            if hop.cut is not None:
                return hop.cut
            doubt = ways.doubt(hop.road, its, hop.sent) if isinstance(sender, j.FromProcess) else None
            return _depart(hop) if doubt is None else j.Unmodelled(doubt)
        case _:
            assert_never(sender)


def _arrive(hop: _Hop, interface: str) -> ProxyState | j.End:
    """A frame, from PREROUTING on."""
    packet = _pass(hop, Hook.PREROUTING, TABLES[Hook.PREROUTING], hop.sent, first=True)
    if not isinstance(packet, Packet):
        return packet
    arrival = ways.arrives(hop.road, interface, packet)
    elsewhere = arrival != routing.Arrival() and not isinstance(arrival, j.Unmodelled)
    looked_for = bool(hop.setting.host.before_local) or hop.opened is not None
    if elsewhere and looked_for and _has_its_socket(hop, packet):
        return j.Unmodelled(EARLY)
    if not isinstance(arrival, routing.Arrival):
        if isinstance(arrival, j.Group):
            _note(hop, packet)
        return arrival
    if arrival.out is not None:
        packet = replace(packet, out_iface=arrival.out)
        _tell(hop, Act.ROUTED, packet, where="forward")
        if _given(hop) is not None:
            # (net/ipv4/ip_forward.c: ip_forward; net/ipv6/ip6_output.c: ip6_forward, `if (unlikely(skb->sk))`)
            return j.Lost(j.GIVEN_A_SOCKET)
        if "ttl" in hop.carried:
            # (net/ipv4/ip_forward.c: ip_forward; net/ipv6/ip6_output.c: ip6_forward)
            if packet.ttl <= 1:
                return j.Lost(j.TTL_EXCEEDED)
            packet = replace(packet, ttl=packet.ttl - 1)
        packet = _pass(hop, Hook.FORWARD, TABLES[Hook.FORWARD], packet)
        return _leave(hop, packet) if isinstance(packet, Packet) else packet
    _tell(hop, Act.ROUTED, packet, where="input")
    packet = _pass(hop, Hook.INPUT, _input_order(hop), packet)
    if not isinstance(packet, Packet):
        return packet
    if arrival.broadcast:
        return _to_many(hop, packet)
    return _deliver(hop, _confirmed(hop, packet))


def _has_its_socket(hop: _Hop, packet: Packet) -> bool:
    """True iff a socket here may get the frame, of a connection, before it is routed (net/ipv4/tcp_ipv4.c: tcp_v4_early_demux); what is
    forwarded is then lost (net/ipv4/ip_forward.c; observed).  Without rules before that of the local table an answer is always let
    in, and a later packet where it is marked, or given to a socket, as the first one was."""
    if hop.answering is not None:
        return hop.answering.sender is not None
    return established.socket_of(hop.accepted, packet, packet.in_iface) is not None


def _confirmed(hop: _Hop, packet: Packet) -> Packet:
    """The packet behind its last hook on the way in, or on the way out: its connection, if it has one, is in the table, but for
    that of what is rejected (net/netfilter/nf_conntrack_core.c: __nf_conntrack_confirm)."""
    packet = packet if hop.rejecting else confirmed(packet)
    _note(hop, packet)
    return packet


def _note(hop: _Hop, packet: Packet) -> None:
    """That conntrack keeps its connection, if it has one, or that of a copy of it."""
    if packet.connection is not None:
        hop.kept.append(packet)


def _depart(hop: _Hop) -> ProxyState | j.End:
    """What is sent here, from OUTPUT on.

    Every table of OUTPUT sees the interface of the first routing decision; a new destination is routed
    after nat, and POSTROUTING sees the result (net/netfilter/nf_nat_proto.c: nf_nat_ipv4_local_fn).
    """
    out = hop.sent.out_iface
    if out is None:
        return j.Lost(j.CANNOT_SEND)
    tables = TABLES[Hook.OUTPUT]
    split = tables.index("nat") + 1
    packet, asked = hop.sent, ways.first_asked(hop.sent)
    for name in tables[:split]:
        before = packet
        passed = _pass(hop, Hook.OUTPUT, (name,), packet, first=hop.rejecting is None)
        if not isinstance(passed, Packet):
            return passed
        packet = passed
        # Without routing rules the same way, but for what a raw socket alone can send, and in IPv6 for an own link-local address.
        if name == "mangle" and _routed_anew(before, packet):
            again = ways.way_out_again(hop.road, packet, out)
            if again is None:
                return j.Lost(j.REROUTE_FAILED)
            if ways.has_lost_its_link(hop.road, packet, out):
                return j.Unmodelled(ITS_LINK)
            asked = ways.asked_again(hop.road, packet)
            if again != out:
                out = again
                _tell(hop, Act.ROUTED, packet, where=out)
    if packet.dst != hop.sent.dst:
        again = ways.way_out_again(hop.road, packet, out)
        if again is None:
            return j.Lost(j.REROUTE_FAILED)
        if ways.has_lost_its_link(hop.road, packet, out):
            return j.Unmodelled(ITS_LINK)
        out, asked = again, ways.asked_again(hop.road, packet)
        _tell(hop, Act.ROUTED, packet, where=out)
    passed = _pass(hop, Hook.OUTPUT, tables[split:], packet)
    if not isinstance(passed, Packet):
        return passed
    packet = passed
    if ways.to_group(hop.road, packet, asked):
        _note(hop, packet)
        return j.Group((Hook.POSTROUTING, Hook.PREROUTING, Hook.INPUT), out)
    return _leave(hop, packet if packet.out_iface == out else replace(packet, out_iface=out))


def _routed_anew(before: Packet, after: Packet) -> bool:
    """What mangle changed has the packet routed anew (net/ipv4/netfilter/iptable_mangle.c: ipt_mangle_out;
    net/ipv6/netfilter/ip6table_mangle.c: ip6t_mangle_out)."""
    if (after.mark, after.tos) != (before.mark, before.tos):
        return True
    return after.family is Family.IPV6 and after.ttl != before.ttl


def _leave(hop: _Hop, packet: Packet) -> ProxyState | j.End:
    """POSTROUTING, and then the wire; or lo, where the packet comes in again without its socket."""
    passed = _pass(hop, Hook.POSTROUTING, TABLES[Hook.POSTROUTING], packet)
    if not isinstance(passed, Packet):
        return passed
    out = passed.out_iface
    assert out is not None, "what leaves has been routed"
    passed = _confirmed(hop, passed)
    if out != LOOPBACK_DEVICE:
        hop.last.append(passed)
        return j.Left(out)
    returning = replace(
        passed,
        in_iface=LOOPBACK_DEVICE,
        out_iface=None,
        uid=None,
        gid=None,
        device=None,
        groups=0,
    )
    if returning.family is Family.IPV6 and routing6.is_multicast(returning.src):
        # (net/ipv6/ip6_input.c: ip6_rcv_core)
        return j.Lost(j.MARTIAN)
    answering = hop.answering
    if answering is not None and answering.known is not None and returning.ctstate is CtState.INVALID:
        # In its zone there was no entry; raw PREROUTING may name that of its connection.
        return j.Unmodelled(back.LOOKED_FOR_AGAIN)
    seen = _pass(hop, Hook.PREROUTING, TABLES[Hook.PREROUTING], returning)
    if not isinstance(seen, Packet):
        return seen
    seen = _pass(hop, Hook.INPUT, _input_order(hop), seen)
    if not isinstance(seen, Packet):
        return seen
    return _to_many(hop, seen) if ways.is_for_any_router(hop.road, seen) else _deliver(hop, seen)


def _to_many(hop: _Hop, packet: Packet) -> j.End:
    """What becomes of a packet to a broadcast or anycast address behind INPUT (net/ipv4/tcp_ipv4.c: tcp_v4_rcv takes
    PACKET_HOST alone; net/ipv6/tcp_ipv6.c: tcp_v6_conn_request)."""
    if packet.extensions & _NOT_FOLLOWED:
        return j.Unmodelled(AN_EXTENSION)
    if packet.proto == TCP:
        return j.Lost(j.NOT_UNICAST)
    _note(hop, packet)
    return j.Group(())


def _deliver(hop: _Hop, packet: Packet) -> ProxyState | j.End:
    """The socket that gets a packet to a local address, and what its process makes of it."""
    if packet.extensions & _NOT_FOLLOWED:
        return j.Unmodelled(AN_EXTENSION)
    answering = hop.answering
    if answering is not None and answering.sender is not None:
        known = _is_for(hop, packet, answering)
        if known is None:
            return j.Unmodelled(rejections.ITS_SOCKET)
        if known:
            return j.Returned(answering.sender)
    ipv6 = packet.family is Family.IPV6
    if packet.proto == (ICMPV6 if ipv6 else ICMP):
        hop.last.append(packet)
        return j.Kernel()
    connects = packet.proto == TCP and packet.flags & _HANDSHAKE == TcpFlag.SYN
    given = _given(hop)
    device = ways.came_by(hop.road, packet)
    its_own = established.socket_of(hop.accepted, packet, device)
    found = given.socket if given else its_own or routing.listening(hop.road, packet, device)
    takes = given.accepted if given else its_own is not None
    if found is None or not (takes or connects or packet.proto == UDP):
        return j.Refused()
    if ipv6 and connects and routing6.is_mapped(packet.src):
        # (net/ipv6/tcp_ipv6.c: tcp_v6_conn_request)
        return j.Lost(j.MARTIAN)
    process, listener = found
    _tell(hop, Act.DELIVERED, packet, process=process.name, listener=listener)
    hop.last.append(packet)
    if answering is not None or hop.opened is not None:
        return j.Socket(process.name, listener)
    end = proxies.accepted(process, listener, packet, hop.sent)
    moved = (packet.dst, packet.dport) != (hop.sent.dst, hop.sent.dport)
    if proxies.accepts(process, listener) and moved:
        if given is not None:
            return j.Unmodelled(GIVEN_AND_MOVED)
        if _in_a_zone(hop, packet):
            return j.Unmodelled(ZONE)
    return end


def _is_for(hop: _Hop, packet: Packet, answering: Answering) -> bool | None:
    """True iff the socket that sent what is answered, or rejected, takes the packet for that; None where nobody knows."""
    if hop.rejecting is not None:
        return rejections.is_for(hop.road, packet, hop.rejecting)
    return back.is_for(hop.road, packet, answering)


def _in_a_zone(hop: _Hop, packet: Packet) -> bool:
    """A `-j CT --zone` has put the hop's connection where SO_ORIGINAL_DST does not look
    (net/netfilter/nf_conntrack_proto.c: getorigdst takes nf_ct_zone_dflt).
    """
    if packet.ctstate is CtState.UNTRACKED:
        return False
    hook = Hook.PREROUTING if hop.sent.in_iface is not None else Hook.OUTPUT
    met = targets_met(hop.setting.rules, hop.record.stops, hop.number, hook, "raw")
    return any(isinstance(target, TrackAs) and "--zone" in target.options for target, _ in met)


_NOT_FOLLOWED = Ipv6Extension.AUTH | Ipv6Extension.ROUTE

_HANDSHAKE = TcpFlag.SYN | TcpFlag.ACK | TcpFlag.RST | TcpFlag.FIN


# -- a hook -------------------------------------------------------------------------------------


def _pass(
    hop: _Hop, hook: Hook, tables: Sequence[str], packet: Packet, first: bool = False
) -> Packet | j.End:
    """The packet after these tables of a hook, or the end; `first` iff conntrack has not seen the packet yet."""
    for name in tables:
        passed = (
            _before_conntrack(hop, hook, packet, first) if name == "raw" else _table(hop, hook, name, packet)
        )
        if not isinstance(passed, Packet):
            return passed
        packet = passed
        known = packet.connection
        if name == "nat" and hop.answering is not None and known is not None and known.is_reply:
            packet = _translated(hop, hook, back.translated(packet, hook), packet)
        if name == "nat" and _is_bound(hop, packet):
            if hook is Hook.POSTROUTING and _masqueraded_elsewhere(hop, packet):
                return j.Lost(j.MASQUERADED_ELSEWHERE)
            packet = _translated(hop, hook, entries.bound(packet, hook), packet)
    return packet


def _translated(hop: _Hop, hook: Hook, after: Packet, before: Packet) -> Packet:
    """The packet after a stored translation, with a stop where it is another than before."""
    if after != before:
        hop.record.stops.append(Stop(hop.number, Act.TRANSLATED, after, hook=hook))
    return after


def _is_bound(hop: _Hop, packet: Packet) -> bool:
    """True iff it is of the connection that an earlier packet has left, of which nat has decided."""
    known = packet.connection
    return bool(hop.behind) and known is not None and known.status & CONFIRMED != 0


def _masqueraded_elsewhere(hop: _Hop, packet: Packet) -> bool:
    """(net/netfilter/nf_nat_core.c: nf_nat_oif_changed)"""
    return hop.behind[-1].masquerades not in (None, packet.out_iface)


def _before_conntrack(hop: _Hop, hook: Hook, packet: Packet, first: bool) -> Packet | j.End:
    """The packet after raw and conntrack.

    In raw a packet that conntrack has not seen reads as INVALID (include/net/netfilter/nf_conntrack.h: nf_ct_get;
    net/netfilter/xt_conntrack.c: conntrack_mt).  Behind it, unless it is UNTRACKED, it has its own state, and what
    is NEW a connection.
    """
    seen = _table(hop, hook, "raw", replace(packet, ctstate=CtState.INVALID) if first else packet)
    if not isinstance(seen, Packet) or seen.ctstate is CtState.UNTRACKED:
        return seen
    if first and hop.answering is not None:
        return _found(hop, replace(seen, ctstate=packet.ctstate), hop.answering)
    if first and hop.opened is not None:
        return _continued(hop, replace(seen, ctstate=packet.ctstate), hop.opened)
    if first and hop.entry is not None:
        return _joined(hop, replace(seen, ctstate=packet.ctstate), hop.entry)
    begins = first and packet.ctstate is CtState.NEW and "connection" in hop.carried
    return replace(seen, ctstate=packet.ctstate, connection=begun(seen) if begins else seen.connection)


def _found(hop: _Hop, packet: Packet, answering: Answering) -> Packet | j.End:
    """An answer with what conntrack finds of its connection."""
    known = answering.known
    if known is not None:
        # ICMP's type tells a question from its answer.
        if known.original == known.reply and packet.proto not in (ICMP, ICMPV6):
            return j.Unmodelled(back.ITS_OWN_QUESTION)
        zone = back.zone_of(hop.setting, hop.record.stops, hop.number, packet.in_iface is not None)
        if zone is None or answering.zone is None:
            return j.Unmodelled(back.A_MARKS_ZONE)
        if zone[1] == answering.zone[1]:
            found = back.replying(known)
            hop.replied.append(found)
            return replace(packet, connection=found)
        packet = replace(packet, ctstate=conntrack_state(hop.setting, packet))
        if packet.ctstate is CtState.NEW:
            # Its replies would be the question over again: one of the two is dropped, or gets another port.
            return j.Unmodelled(back.ITS_OWN_CONNECTION)
    elif answering.later and is_on(hop.setting.rules) is True:
        return j.Unmodelled(established.TAKEN_UP)
    return replace(packet, connection=begun(packet)) if packet.ctstate is CtState.NEW else packet


def _continued(hop: _Hop, packet: Packet, opened: Opened) -> Packet | j.End:
    """A later packet with what conntrack finds of its connection."""
    zone = back.zone_of(hop.setting, hop.record.stops, hop.number, packet.in_iface is not None)
    found = established.found(opened, packet, zone)
    if isinstance(found, str):
        return j.Unmodelled(found)
    if opened.entry is not None and found.connection is not None and found.connection.status & CONFIRMED:
        hop.behind.append(opened.entry)
    return found


def _joined(hop: _Hop, packet: Packet, entry: Entry) -> Packet | j.End:
    """A packet with what conntrack finds of it, where an earlier one has left an entry."""
    zone = back.zone_of(hop.setting, hop.record.stops, hop.number, packet.in_iface is not None)
    known = entries.find(entry, packet, zone)
    if known is None:
        return replace(packet, connection=begun(packet))
    hop.behind.append(entry)
    if isinstance(known, str):
        return j.Unmodelled(known)
    if entry.answered and entries.marks_connections(hop.setting.rules):
        return j.Unmodelled(entries.AN_ANSWERS_MARK)
    if entry.answered and entries.keeps_answers(hop.setting.rules):
        hop.doubts.append(entries.WHETHER_ANSWERED)
    # (net/netfilter/nf_conntrack_core.c: resolve_normal_ct)
    state = CtState.ESTABLISHED if known.status & SEEN_REPLY else CtState.NEW
    return replace(packet, ctstate=state, connection=known)


def _table(hop: _Hop, hook: Hook, name: str, packet: Packet) -> Packet | j.End:
    """The packet after one table, if the rule set has it and it is asked."""
    table = hop.setting.rules.tables.get(name)
    if table is None or hook.value not in table.chains:
        return packet
    if name == "nat":
        consulted = _consults_nat(hop, hook, packet)
        if consulted is None:
            return j.Unmodelled(CONNTRACK)
        if not consulted:
            return packet
    if name == "security" and hook is Hook.INPUT and _order_matters(hop, packet):
        return j.Unmodelled(INPUT_ORDER)
    vague = hop.answering is not None or _is_given(hop, hook)
    if hop.rejecting is not None:
        table = rejections.as_seen(hop.rejecting, table, hook, packet)
    visit = Visit(
        hop.number,
        hook,
        table,
        hop.road,
        hop.choices,
        hop.record,
        hop.carried,
        open_sockets=vague,
        accepted=hop.accepted,
    )
    packet, end = traverse(visit, packet)
    if end is None and hop.rejecting is not None and name == "nat":
        if rejections.is_in_doubt(hop.setting, hop.road, hop.record.stops, hop.number, packet):
            return j.Unmodelled(rejections.BINDING)
    return packet if end is None else end


def _is_given(hop: _Hop, hook: Hook) -> bool:
    """True iff the packet has come to this hook with a socket that TPROXY gave it."""
    if hook not in (Hook.PREROUTING, Hook.INPUT):
        return False
    return _given(hop) is not None


def _given(hop: _Hop) -> tproxy.Given | None:
    """The socket that TPROXY has given the hop's packet on its way so far."""
    return tproxy.given(hop.setting, hop.road, hop.record.stops, hop.number, hop.accepted)


def _consults_nat(hop: _Hop, hook: Hook, packet: Packet) -> bool | None:
    """True iff the nat table is asked about the packet; None where nobody knows whether conntrack is on.

    A packet that conntrack does not call NEW skips it; over lo both parts were done on the way out, and for a connection that
    is in the table they were done of an earlier packet (net/netfilter/nf_nat_core.c: nf_nat_inet_fn, nf_nat_initialized).
    """
    if hop.rejecting is not None:
        return rejections.asks_nat(hook, packet, hop.rejecting) and hop.tracked
    if packet.ctstate is not CtState.NEW:
        return False
    if _is_bound(hop, packet):
        return False
    if hook in (Hook.PREROUTING, Hook.INPUT) and packet.in_iface == LOOPBACK_DEVICE:
        return False
    return hop.tracked


def _input_order(hop: _Hop) -> tuple[str, ...]:
    return NFT_INPUT if hop.setting.host.backend is Backend.NFT else TABLES[Hook.INPUT]


def _order_matters(hop: _Hop, packet: Packet) -> bool:
    """True iff the backend is not known, and nat and security both have something to say at INPUT."""
    if hop.setting.host.backend is not Backend.EITHER or not _decides(hop, "security"):
        return False
    known = packet.connection
    if hop.answering is not None and known is not None and known.is_reply:
        return back.translated(packet, Hook.INPUT) != packet
    if _is_bound(hop, packet):
        return entries.bound(packet, Hook.INPUT) != packet
    return _decides(hop, "nat") and _consults_nat(hop, Hook.INPUT, packet) is not False


def _decides(hop: _Hop, name: str) -> bool:
    """True iff the table's INPUT chain has a rule, or drops what has passed."""
    table = hop.setting.rules.tables.get(name)
    chain = None if table is None else table.chains.get(Hook.INPUT.value)
    return chain is not None and (bool(chain.rules) or isinstance(chain.policy, Drop))


def _tell(
    hop: _Hop,
    act: Act,
    packet: Packet,
    where: str | None = None,
    process: str | None = None,
    listener: Listener | None = None,
) -> None:
    hop.record.stops.append(Stop(hop.number, act, packet, where=where, process=process, listener=listener))
