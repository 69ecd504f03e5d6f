"""All journeys of a sender's packets, hop by hop: the formulas beside `concrete.travel`.

The packets of a hop stay together as one symbolic packet; what sets them apart (a rule, a route, a
listener) is a condition.  A further hop is written only when it is asked for, since most journeys
need two or three.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from .. import journeys as j
from .. import rules as r
from ..asked import fields_carried
from ..hooks import NFT_INPUT, TABLES, Hook
from ..hosts import (
    Backend,
    BoundTo,
    ClientsOwn,
    Dial,
    KernelChooses,
    Listener,
    Process,
    Proxy,
    ProxyRoute,
    Setting,
)
from ..packets import (
    CONFIRMED,
    CT_FLAGS,
    NEW_ICMP6_TYPES,
    NEW_ICMP_TYPES,
    UNTRACKED_ICMP6_TYPES,
)
from ..values import (
    ICMP,
    ICMPV6,
    LINK_LOCAL,
    MAPPED,
    TCP,
    UDP,
    CtState,
    Family,
    IdSet,
    Ipv6Extension,
    TcpFlag,
)
from . import answers
from .chains import TooLarge, traverse
from .headers import DRAWN, NO_NEXT_HEADER, sendable, well_formed
from .journeys import Record, SymState, SymStop
from .matches import among, has_bit, has_ports, spans, within
from .packets import NO_MAC, RARE, Names, SymConnection, SymEnds, SymPacket
from .routing import Sent
from .routing_ipv6 import LOCALHOST, RoadIpv6, road_of
from .routing_rules import RoadByRules
from .terms import Bool, Bv, Terms

ZONE = "the original destination of a connection in a zone of its own"

GIVEN_AND_MOVED = "by what address a process knows what TPROXY gave it and NAT changed"

FARTHEST = 500
"""Hops that are written at most."""

DATAGRAM_HOOKS = (Hook.POSTROUTING, Hook.PREROUTING, Hook.INPUT)


def names_of(setting: Setting) -> Names:
    """The interface names of a host: what a packet of a journey may have."""
    return Names(("", *(i.name for i in setting.host.interfaces)))


class _Waiting(Struct, frozen=True):
    """Packets that a proxy has accepted, before it dials: `client` is the source that it saw."""

    cond: Bool
    proxy: int
    address: Bv
    port: Bv
    client: Bv


class _Ends(Struct, frozen=True):
    """The addresses of a dial, and of which dials that is not so: `strange` are in the other family, `refused` are
    those that the kernel does not send, and `undecided` have one of several sources.
    """

    src: Bv
    dst: Bv
    strange: Bool
    refused: Bool
    undecided: Bool


class _Dialled(Struct, frozen=True):
    """A dial's packet, and as in `_Ends` the dials that are none."""

    packet: SymPacket
    strange: Bool
    refused: Bool
    undecided: Bool


class Journeys:
    """The journeys of all packets of one sender through one setting.

    `first` is the first packet as it is sent, `facts` what holds of it and of all draws; nothing is known
    unless `facts` are asserted.  `onward[n]` are the packets whose journey has an n-th hop; `states[n]` is
    the proxy state that it is dialled from (None for a hop 0 that no proxy dials).  Journeys with one `prefix`
    share first packet and draws, those with one `apart` (by default the prefix) those of opaque matches too.
    """

    def __init__(
        self,
        terms: Terms,
        setting: Setting,
        sender: j.Sender,
        prefix: str = "",
        names: Names | None = None,
        apart: str | None = None,
    ) -> None:
        self.terms = terms
        self.setting = setting
        self.sender = sender
        self.host = setting.host
        self.names = names or names_of(setting)
        self.family = setting.host.family
        self.road = road_of(terms, setting.host, self.names)
        self.facts: list[Bool] = []
        self.record = Record(prefix=prefix if apart is None else apart, facts=self.facts)
        self.fields = fields_carried(setting)
        self.prefix = prefix
        self.proxies: list[tuple[Process, Proxy]] = [(p, x) for p in self.host.processes for x in p.proxies]
        self.states: list[SymState | None] = []
        self.onward: list[Bool] = []
        self.sent: list[SymPacket] = []
        self.picked: dict[int, list[tuple[Bool, Bv]]] = {}
        self.senders: list[list[tuple[Bool, str | None]]] = []
        """For each hop who sends it: the process, None of a frame."""
        self.back = answers.Answers(self)
        self._waiting: list[_Waiting] = []
        self._fresh = terms.true
        self._conntrack = _conntrack(setting)
        self._begin()

    # -- the first hop

    def _begin(self) -> None:
        t = self.terms
        match self.sender:
            case j.FromOutside(interface):
                p = self._any_packet().without_socket()
                p = p.but(
                    in_iface=t.number(self.names.index(interface), 8),
                    out_iface=self.none,
                    mark=t.number(0, 32),
                )
                p = self.classified(p)
                self.facts += [well_formed(p), *sendable(p)]
                if "mac" in self.fields:
                    self.facts.append(~has_bit(p.field("mac"), 48))
                self._note_hop(t.true, p, None, None)
                self.arrive(t.true, p, 0)
            case j.FromProcess(name):
                process = self.host.process(name)
                p = self._any_packet().but(in_iface=self.none, socket=t.true)
                p = self.classified(p.having(mac=t.number(NO_MAC, RARE["mac"])))
                self.facts += [well_formed(p), *sendable(p, least_ttl=0 if process.raw else 1)]
                # connect() refuses TCP to a group, and 127/8 towards the wire; a raw socket asks the routes alone.
                proto, src = (t.number(0, 8), self._zero) if process.raw else (p.proto, p.src)
                route = self.road.output(src, p.dst, proto, p.device, p.mark)
                doubt = t.false
                if isinstance(self.road, RoadByRules) and self.road.asks_for_sources:
                    doubt, route = _undecided(p, route, self.road, process.raw)
                self.facts += [*self._may_send(process, p, route.out), route.possible]
                p = p.but(out_iface=route.out)
                self._note_hop(t.true, p, None, process.name)
                self.record.end(doubt, 0, j.Unmodelled(WHICH_WAY), p)
                self.leave(~doubt, p, route.group, 0)
            case j.FromProxy(name, proxy):
                index = next(i for i, (p, x) in enumerate(self.proxies) if p.name == name and x.name == proxy)
                free = SymPacket.free(t, self.prefix + "accepted ", family=self.family)
                waiting = _Waiting(t.true, index, free.dst, free.dport, free.src)
                will = self._will_dial(waiting)
                self.facts.append(will)
                self._waiting = [waiting]
                self.extend()
                return
            case _:
                assert_never(self.sender)
        self.back.write(0)

    def _any_packet(self) -> SymPacket:
        """A packet of which nothing is known, with the rare fields that are carried, and without a connection."""
        t = self.terms
        p = SymPacket.free(t, self.prefix, self.fields - {"connection"}, self.family)
        if self.family is Family.IPV4:
            p = p.having(extensions=t.number(0, RARE["extensions"]))
        return self.unseen(p)

    def unseen(self, p: SymPacket) -> SymPacket:
        """The packet before conntrack has seen it."""
        if "connection" not in self.fields:
            return p
        return p.tracked(_connection(self.terms.false, p))

    def seen(self, p: SymPacket) -> SymPacket:
        """The packet, as it is sent, with the connection that conntrack makes of it."""
        if "connection" not in self.fields:
            return p
        return p.tracked(_connection(p.ctstate.is_(CtState.NEW), p))

    def _met(self, reach: Bool, p: SymPacket, hop: int) -> tuple[Bool, SymPacket]:
        """The packets that conntrack lets through, with what it knows of them."""
        return (reach, self.seen(p)) if hop >= 0 else self.back.found(reach, p, hop)

    def _may_send(self, process: Process, p: SymPacket, out: Bv) -> list[Bool]:
        """What Linux lets a socket of this process send, by this interface."""
        t = self.terms
        devices = [0] if process.device is None else [0, self.names.index(process.device)]
        facts = [
            _among(p.uid, process.uid),
            _among(p.gid, process.gid),
            t.any_of(p.mark.is_(m) for m in sorted({0, process.mark})),
            t.any_of(p.device.is_(d) for d in devices),
        ]
        if not process.raw:
            facts += [self._is_sent_from(p), ~has_ports(p) | ~p.sport.is_(0)]
            if isinstance(self.road, RoadIpv6):
                facts.append(~within(p.src, LINK_LOCAL) | self.road.is_in_its_zone(p, out))
        elif self.host.family is Family.IPV4 and self.road.lendable:
            facts.append(~p.src.is_(0))  # raw_send_hdrinc writes the address of the route there.
        return facts

    def _is_sent_from(self, p: SymPacket) -> Bool:
        """A socket that may bind local addresses alone sends from here."""
        local = self.road.is_local(p.src)
        if not isinstance(self.road, RoadByRules):
            return local
        datagram, _ = self.road.unbound(p)
        itself = p.src.is_(p.dst) & ~self.road.in_local_table(p.dst) & self.road.from_itself(p.dst, p.mark)
        return local | (datagram & itself)

    # -- further hops

    @property
    def depth(self) -> int:
        """Hops that are written: hops 0 to depth - 1."""
        return len(self.onward)

    @property
    def open(self) -> Bool:
        """The packets whose journey goes on after the hops that are written."""
        return self.terms.any_of(w.cond for w in self._waiting)

    @property
    def unrepeated(self) -> Bool:
        """The packets whose journey goes on after the hops that are written, and has been in no proxy state twice,
        the next one included.

        Where there are none, every state that a journey can come to has been: the shortest way to it, with the
        same first packet, repeats none.  The state of hop 0 does not count, since what a proxy dials from it
        another time may be another packet.
        """
        t = self.terms
        goes_on = []
        for w in self._waiting:
            client = w.client if self.keeps_client(w.proxy) else self._zero
            been = t.any_of(
                s.proxy.is_(w.proxy) & s.address.is_(w.address) & s.port.is_(w.port) & s.client.is_(client)
                for s in self.states[1:]
                if s is not None
            )
            goes_on.append(w.cond & ~been)
        return self._fresh & t.any_of(goes_on)

    def keeps_client(self, proxy: int) -> bool:
        """Some route of this proxy dials from the client's own address, so that its state holds it."""
        return any(isinstance(route.source, ClientsOwn) for route in self.proxies[proxy][1].routes)

    def extend(self) -> None:
        """Write one more hop: what the proxies dial for what they have accepted."""
        t = self.terms
        hop = self.depth
        if hop >= FARTHEST:
            raise TooLarge(f"journeys of more than {FARTHEST} hops")
        self._fresh = self.unrepeated
        waiting, self._waiting = self._waiting, []
        zero = self._zero
        state = SymState(t.number(0, 8), zero, t.number(0, 16), zero)
        packet = self._drawn(SymPacket.free(t, f"{self.prefix}none ", family=self.family), hop)
        begins = strange = refused = undecided = t.false
        for w in waiting:
            process, proxy = self.proxies[w.proxy]
            dial = self._dial(w, process, proxy, hop)
            dialled = dial.packet
            strange = strange | (w.cond & dial.strange)
            refused = refused | (w.cond & dial.refused)
            undecided = undecided | (w.cond & dial.undecided)
            client = w.client if self.keeps_client(w.proxy) else zero
            here = SymState(t.number(w.proxy, 8), w.address, w.port, client)
            state = SymState(
                t.choose(w.cond, here.proxy, state.proxy),
                t.choose(w.cond, here.address, state.address),
                t.choose(w.cond, here.port, state.port),
                t.choose(w.cond, here.client, state.client),
            )
            packet = dialled if begins.const is False else _choose(w.cond, dialled, packet)
            begins = begins | w.cond
        packet = self.classified(packet)
        dialling = [(w.cond, self.proxies[w.proxy][0].name) for w in waiting]
        route = self.road.output(packet.src, packet.dst, packet.proto, packet.device, packet.mark)
        undecided = undecided & ~strange & ~refused
        tried = begins & ~strange & ~undecided
        going = tried & ~refused & route.possible
        cannot = tried & (refused | ~route.possible)
        packet = packet.but(out_iface=t.choose(strange | undecided | cannot, self.none, route.out))
        self._note_hop(begins, packet, state, None, dialling)
        self.record.end(strange, hop, j.Unmodelled(j.OTHER_FAMILY), packet)
        self.record.end(cannot, hop, j.Lost(j.CANNOT_SEND), packet)
        self.record.end(undecided, hop, j.Unmodelled(j.SOURCE_SELECTION), packet)
        self.leave(going, packet, route.group, hop)
        self.back.write(hop)

    def _dial(self, w: _Waiting, process: Process, proxy: Proxy, hop: int) -> _Dialled:
        """The packet of a proxy's next dial."""
        t = self.terms
        rest = t.true
        src, dst, dport = self._zero, w.address, w.port
        strange = refused = undecided = t.false
        for route in proxy.routes:
            fits = rest & spans(w.port, route.ports) if route.ports else rest
            rest = rest & ~fits
            to, port, other = self._picked(route, fits & w.cond, w, hop)
            if isinstance(route.source, BoundTo) and route.source.family is not self.family:
                other = t.true
                ends = _Ends(self._zero, self._zero, t.false, t.false, t.false)
            else:
                ends = self._ends(to, route, w)
            src, dst, dport = (
                t.choose(fits, ends.src, src),
                t.choose(fits, t.choose(other, self._zero, ends.dst), dst),
                t.choose(fits, port, dport),
            )
            strange = strange | (fits & (other | ends.strange))
            refused = refused | (fits & ends.refused)
            undecided = undecided | (fits & ends.undecided)
        src = t.choose(strange, self._zero, src)
        sport = t.variable(f"{self.prefix}sport of hop {hop}", 16)
        self.facts.append(~sport.is_(0))
        dialled = SymPacket(
            src=src,
            dst=dst,
            proto=t.number(TCP, 8),
            sport=sport,
            dport=dport,
            flags=t.number(TcpFlag.SYN, 8),
            icmp_type=t.number(0, 8),
            icmp_code=t.number(0, 8),
            in_iface=self.none,
            out_iface=self.none,
            uid=self.any_id(process.uid, f"{self.prefix}uid of hop {hop} by {process.name}"),
            gid=self.any_id(process.gid, f"{self.prefix}gid of hop {hop} by {process.name}"),
            mark=t.number(process.mark, 32),
            ctstate=t.number(CtState.NEW, 3),
            device=self.none,
            socket=t.true,
            family=self.family,
        )
        return _Dialled(self._drawn(dialled, hop), strange, refused, undecided)

    def _ends(self, to: Bv, route: ProxyRoute, w: _Waiting) -> _Ends:
        """From where to where the route connects that dials this address."""
        t = self.terms
        if isinstance(self.road, RoadIpv6):
            return self._ends_ipv6(to, route, w, self.road)
        localhost = t.number(0x7F000001, 32)
        refused = t.false
        match route.source:
            case BoundTo(address):
                itself = source = t.number(address, 32)
            case KernelChooses():
                itself = localhost
                mark = t.number(self.proxies[w.proxy][0].mark, 32)
                source = self.road.select_source(to, mark)
                if isinstance(self.road, RoadByRules):
                    # connect() takes no source but a local one (net/ipv4/route.c: ip_route_output_key_hash_rcu).
                    refused = ~to.is_(0) & source.is_(to) & self.road.from_itself(to, mark)
                    source = t.choose(refused, self._zero, source)
                source = t.choose(to.is_(0), localhost, source)
            case ClientsOwn():
                itself = t.choose(w.client.is_(0), localhost, w.client)
                source = t.choose(to.is_(0), itself, w.client)
            case _:
                assert_never(route.source)
        return _Ends(source, t.choose(to.is_(0), itself, to), t.false, refused, t.false)

    def _ends_ipv6(self, to: Bv, route: ProxyRoute, w: _Waiting, road: RoadIpv6) -> _Ends:
        t = self.terms
        strange = within(to, MAPPED)
        to = t.choose(to.is_(0), t.number(LOCALHOST, 128), to)
        refused = road.is_multicast(to) | within(to, LINK_LOCAL)
        match route.source:
            case BoundTo(address):
                return _Ends(t.number(address, 128), to, strange, refused, t.false)
            case KernelChooses():
                chosen = road.source_for(to)
                source = t.choose(refused, self._zero, chosen.address)
                return _Ends(source, to, strange, refused | chosen.none, chosen.several & ~refused)
            case ClientsOwn():
                return _Ends(w.client, to, strange, refused | within(w.client, LINK_LOCAL), t.false)
            case _:
                assert_never(route.source)

    def _drawn(self, p: SymPacket, hop: int) -> SymPacket:
        """The dial with the rare fields that are carried: each may be whatever a TCP socket sends."""
        t = self.terms
        rare = {}
        for name in self.fields - {"connection"}:
            if name in DRAWN:
                rare[name] = t.variable(f"{self.prefix}{name} of hop {hop}", RARE[name])
            elif name == "extensions" and self.family is Family.IPV6:
                rare[name] = t.number(Ipv6Extension.PROTO, RARE[name])
            else:
                rare[name] = t.number(NO_MAC if name == "mac" else 0, RARE[name])
        if not self.fields:
            return p
        p = self.unseen(replace(p, rare=rare))
        self.facts += sendable(p)
        return p

    def _picked(self, route: ProxyRoute, cond: Bool, w: _Waiting, hop: int) -> tuple[Bv, Bv, Bool]:
        """Where this route connects to, and whether that is an address of the other family: of several dials a fresh
        choice takes one.
        """
        t = self.terms

        def target(dial: Dial) -> tuple[Bv, Bv, Bool]:
            port = w.port if dial.port is None else t.number(dial.port, 16)
            if dial.address is None:
                return w.address, port, t.false
            if dial.family is not self.family:
                return self._zero, port, t.true
            return t.number(dial.address, self.family.bits), port, t.false

        to, port, strange = target(route.dials[0])
        if len(route.dials) > 1:
            process, proxy = self.proxies[w.proxy]
            name = f"{self.prefix}pick of hop {hop} by {process.name}.{proxy.name} route {proxy.routes.index(route)}"
            pick = t.variable(name, 8)
            self.facts.append(pick.at_most(len(route.dials) - 1))
            self.picked.setdefault(hop, []).append((cond, pick))
            for i, dial in enumerate(route.dials[1:], 1):
                other, other_port, other_strange = target(dial)
                this = pick.is_(i)
                to, port = t.choose(this, other, to), t.choose(this, other_port, port)
                strange = (this & other_strange) | (~this & strange)
        return to, port, strange

    def any_id(self, ids: IdSet, name: str) -> Bv:
        if ids.only is not None:
            return self.terms.number(ids.only, 32)
        drawn = self.terms.variable(name, 32)
        self.facts.append(_among(drawn, ids))
        return drawn

    def _will_dial(self, w: _Waiting) -> Bool:
        """The original destination is not refused, and some route fits."""
        t = self.terms
        _, proxy = self.proxies[w.proxy]
        some = t.any_of(spans(w.port, route.ports) if route.ports else t.true for route in proxy.routes)
        return some & ~spans(w.port, proxy.refuses)

    # -- one hop

    @property
    def none(self) -> Bv:
        return self.terms.number(0, 8)

    @property
    def _zero(self) -> Bv:
        """No address."""
        return self.terms.number(0, self.family.bits)

    def _note_hop(
        self,
        cond: Bool,
        packet: SymPacket,
        state: SymState | None,
        process: str | None,
        dialled: Sequence[tuple[Bool, str | None]] = (),
    ) -> None:
        hop = self.depth
        self.onward.append(cond)
        self.states.append(state)
        self.sent.append(packet)
        self.senders.append(list(dialled) or [(cond, process)])
        for part, name in dialled or [(cond, process)]:
            self.record.stop(SymStop(part, hop, j.Act.SENT, packet, process=name))

    def classified(self, p: SymPacket) -> SymPacket:
        """The packet with the state that an empty conntrack gives it."""
        t = self.terms
        flags = p.flags & CT_FLAGS
        opens = [TcpFlag.SYN, TcpFlag.SYN | TcpFlag.URG]
        if self.host.sysctls.get("net.netfilter.nf_conntrack_tcp_loose", 1):
            opens += [TcpFlag.ACK, TcpFlag.ACK | TcpFlag.URG]
        tcp = t.any_of(flags.is_(int(f)) for f in opens)
        invalid = t.number(CtState.INVALID, 3)
        if self.family is Family.IPV4:
            icmp = t.any_of(p.icmp_type.is_(kind) for kind in NEW_ICMP_TYPES)
            new = (~p.proto.is_(TCP) | tcp) & (~p.proto.is_(ICMP) | icmp)
            return p.but(ctstate=t.choose(new, t.number(CtState.NEW, 3), invalid))
        icmp = t.any_of(p.icmp_type.is_(kind) for kind in NEW_ICMP6_TYPES)
        left_alone = p.proto.is_(ICMPV6) & t.any_of(p.icmp_type.is_(kind) for kind in UNTRACKED_ICMP6_TYPES)
        new = (~p.proto.is_(TCP) | tcp) & (~p.proto.is_(ICMPV6) | icmp) & ~p.proto.is_(NO_NEXT_HEADER)
        other = t.choose(left_alone, t.number(CtState.UNTRACKED, 3), invalid)
        return p.but(ctstate=t.choose(new, t.number(CtState.NEW, 3), other))

    def arrive(self, reach: Bool, p: SymPacket, hop: int) -> None:
        """A frame: PREROUTING, input routing, then INPUT and delivery, or FORWARD and POSTROUTING."""
        rec = self.record
        if isinstance(self.road, RoadIpv6):
            refused = self.road.refused(p)
            rec.end(reach & refused, hop, j.Lost(j.MARTIAN), p)
            reach = reach & ~refused
        reach, p = self._hook(Hook.PREROUTING, reach, p, hop, first=True)
        way = self.road.input(p)
        rec.end(reach & way.martian, hop, j.Lost(j.MARTIAN), p)
        rec.end(reach & way.not_forwarded, hop, j.Lost(j.NOT_FORWARDED), p)
        rec.end(reach & way.no_route, hop, j.Lost(j.NO_ROUTE), p)
        rec.end(reach & way.group, hop, j.Group((Hook.INPUT,)), p)
        inward = reach & (way.local | way.broadcast)
        rec.stop(SymStop(inward, hop, j.Act.ROUTED, p, where="input"))
        onto = p.but(out_iface=way.out)
        forward = reach & way.forward
        rec.stop(SymStop(forward, hop, j.Act.ROUTED, onto, where="forward"))
        given = self.record.is_given(hop, self.terms)
        rec.end(forward & given, hop, j.Lost(j.GIVEN_A_SOCKET), onto)
        forward = forward & ~given
        if "ttl" in self.fields:
            left = onto.field("ttl")
            rec.end(forward & left.at_most(1), hop, j.Lost(j.TTL_EXCEEDED), onto)
            forward = forward & ~left.at_most(1)
            onto = onto.having(ttl=left - 1)
        inward, q = self._hook(Hook.INPUT, inward, p, hop)
        self._deliver(inward, way.broadcast, q, hop, over_lo=False)
        forward, q = self._hook(Hook.FORWARD, forward, onto, hop)
        forward, q = self._hook(Hook.POSTROUTING, forward, q, hop)
        self._wire(forward, q, hop)

    def leave(self, reach: Bool, p: SymPacket, group: Bool, hop: int) -> None:
        """A packet of this host: OUTPUT, re-routing, POSTROUTING, then the wire, or lo."""
        t = self.terms
        reach, p, route = self._output(reach, p, Sent(p.out_iface, t.true, group), hop)
        group, out = route.group, route.out
        self.record.end(reach & group, hop, j.Group(DATAGRAM_HOOKS), p)
        reach, p = self._hook(Hook.POSTROUTING, reach & ~group, p.but(out_iface=out), hop)
        lo = t.false if self.road.lo is None else p.out_iface.is_(self.road.lo)
        self._wire(reach & ~lo, p, hop)
        inward = reach & lo
        if inward.const is False or self.road.lo is None:
            return
        if self.family is Family.IPV6:
            group = self.road.is_multicast(p.src)
            self.record.end(inward & group, hop, j.Lost(j.MARTIAN), p)
            inward = inward & ~group
        p = p.without_socket().but(in_iface=t.number(self.road.lo, 8), out_iface=self.none)
        inward, p = self._hook(Hook.PREROUTING, inward, p, hop, over_lo=True)
        inward, p = self._hook(Hook.INPUT, inward, p, hop, over_lo=True)
        self._deliver(inward, self.road.is_shared(p.dst), p, hop, over_lo=True)

    def _output(self, reach: Bool, p: SymPacket, first: Sent, hop: int) -> tuple[Bool, SymPacket, Sent]:
        """OUTPUT, with the re-routes after mangle and nat; also the routing decision that then holds."""
        t = self.terms
        route = first
        for table in TABLES[Hook.OUTPUT]:
            before, start = p.dst, p
            reach, p = self._table(table, Hook.OUTPUT, reach, p, hop, first=table == "raw", over_lo=False)
            if table == "raw":
                reach, p = self._met(reach, p, hop)
            if table == "nat":
                p = self.back.translated(reach, p, Hook.OUTPUT, hop)
            turned = _turned(start, p)
            ipv4, may_be_stuck = self.family is Family.IPV4, self._may_be_stuck(hop)
            if table == "mangle" and turned.const is not False and (ipv4 or may_be_stuck):
                again = self._routed(p, self._asked_again(p, hop), p.dst, first)
                stuck = turned & ~again.possible if may_be_stuck else t.false
                self.record.end(reach & stuck, hop, j.Lost(j.REROUTE_FAILED), p)
                reach = reach & ~stuck
                if ipv4:
                    self._tell_way(reach & turned & ~again.out.is_(route.out), again.out, p, hop)
                    route = Sent(t.choose(turned, again.out, route.out), t.true, route.group)
            if p.dst.ast == before.ast:
                continue
            again = self._rerouted(p, self._asked_again(p, hop), p.dst, before, route)
            moved = ~p.dst.is_(before)
            self.record.end(reach & moved & ~again.possible, hop, j.Lost(j.REROUTE_FAILED), p)
            reach = reach & (~moved | again.possible)
            self._tell_way(reach & moved, again.out, p, hop)
            # What NAT leaves at its address goes on by the route that it has, also where a new one would fail.
            route = Sent(
                t.choose(moved, again.out, route.out),
                t.true,
                (moved & again.group) | (~moved & route.group),
            )
        return reach, p, route

    def _routed(self, p: SymPacket, src: Bv, dst: Bv, first: Sent) -> Sent:
        """The new routing decision for one destination."""
        device = p.device
        if self.family is Family.IPV6:
            zoned = device.is_(0) & (within(dst, LINK_LOCAL) | self.road.is_multicast(dst))
            device = self.terms.choose(zoned, first.out, device)
        return self.road.output_again(src, dst, device, p.mark)

    def _may_be_stuck(self, hop: int) -> bool:
        """A new route may fail, to the same destination, where the first did not: by routing rules, in IPv4 for a source
        that was not asked about, and in IPv6 on the way to an own link-local address,
        since the packet is then on lo, which has no part in its link.
        """
        if isinstance(self.road, RoadByRules):
            return True
        if self.family is Family.IPV6:
            return hop == 0 and isinstance(self.sender, j.FromProcess)
        return self._writes_headers(hop) or hop < 0

    def _tell_way(self, cond: Bool, out: Bv, p: SymPacket, hop: int) -> None:
        """A new route is by one of the interfaces."""
        for index, name in enumerate(self.names.interfaces[1:], 1):
            self.record.stop(SymStop(cond & out.is_(index), hop, j.Act.ROUTED, p, where=name))

    def _writes_headers(self, hop: int) -> bool:
        """The hop is sent by a raw socket: a new route, for the source in its header, may fail where the first did not."""
        sender = self.sender
        return hop == 0 and isinstance(sender, j.FromProcess) and self.host.process(sender.process).raw

    def _sends_as_others(self, hop: int) -> bool:
        """The hop may be dialled by a transparent proxy, from whatever address its client has."""
        dialled = hop > 0 or isinstance(self.sender, j.FromProxy)
        return dialled and any(map(self.keeps_client, range(len(self.proxies))))

    def _asked_again(self, p: SymPacket, hop: int) -> Bv:
        """The source that a new route is asked for: none where it is neither local nor unicast, as only that of a raw
        socket or of a transparent proxy may be.
        """
        foreign = self._writes_headers(hop) or self._sends_as_others(hop) or hop < 0
        if not (isinstance(self.road, RoadByRules) or (foreign and self.family is Family.IPV4)):
            return p.src
        strange = (self.road.is_broadcast(p.src) & ~self.road.is_local(p.src)) | self.road.is_multicast(p.src)
        return self.terms.choose(strange, self.terms.number(0, 32), p.src)

    def _rerouted(self, p: SymPacket, src: Bv, dst: Bv, before: Bv, first: Sent) -> Sent:
        """The routing decision for a destination that NAT chose: each choice is routed on its own, since most are constants."""
        if dst.ast == before.ast:
            return first
        if dst.op != "ite":
            return self._routed(p, src, dst, first)
        cond, yes, no = dst.args
        if not (isinstance(cond, Bool) and isinstance(yes, Bv) and isinstance(no, Bv)):
            raise AssertionError("a choice is between two terms of one width")
        a, b = (self._rerouted(p, src, way, before, first) for way in (yes, no))
        return Sent(
            self.terms.choose(cond, a.out, b.out),
            (cond & a.possible) | (~cond & b.possible),
            (cond & a.group) | (~cond & b.group),
        )

    def _hook(
        self, hook: Hook, reach: Bool, p: SymPacket, hop: int, *, first: bool = False, over_lo: bool = False
    ) -> tuple[Bool, SymPacket]:
        order = TABLES[hook]
        if hook is Hook.INPUT and self.host.backend is Backend.NFT:
            order = NFT_INPUT
        for table in order:
            reach, p = self._table(
                table, hook, reach, p, hop, first=first and table == "raw", over_lo=over_lo
            )
            if first and table == "raw":
                reach, p = self._met(reach, p, hop)
            if table == "nat":
                p = self.back.translated(reach, p, hook, hop)
        if p.connection is not None and hook in (Hook.POSTROUTING, Hook.INPUT):
            p = p.tracked(p.connection.but(status=p.connection.status | CONFIRMED))
        return reach, p

    def _table(
        self, name: str, hook: Hook, reach: Bool, p: SymPacket, hop: int, *, first: bool, over_lo: bool
    ) -> tuple[Bool, SymPacket]:
        t = self.terms
        if self._order_matters(name, hook) and not over_lo:
            consulted = reach & (p.ctstate.is_(CtState.NEW) | self.back.is_translated(p, hop))
            self.record.end(consulted, hop, j.Unmodelled("order of nat and security at INPUT"), p)
            reach = reach & ~consulted
        table = self.setting.rules.tables.get(name)
        if table is None or hook.value not in table.chains:
            return reach, p
        if name == "nat":
            if over_lo:
                return reach, p
            new = p.ctstate.is_(CtState.NEW)
            if self._conntrack is None:
                self.record.end(reach & new, hop, j.Unmodelled("whether conntrack is on"), p)
                return reach & ~new, p
            if not self._conntrack:
                return reach, p
            passed, after = traverse(table, hook, hop, self.road, self.record, reach & new, p)
            return passed | (reach & ~new), after
        if name != "raw":
            return traverse(table, hook, hop, self.road, self.record, reach, p)
        unseen = p.but(ctstate=t.number(CtState.INVALID, 3)) if first else p
        passed, after = traverse(table, hook, hop, self.road, self.record, reach, unseen)
        untracked = t.number(CtState.UNTRACKED, 3)
        return passed, after.but(ctstate=t.choose(after.ctstate.is_(untracked), untracked, p.ctstate))

    def _order_matters(self, table: str, hook: Hook) -> bool:
        """Here the backends differ, and the host may have either."""
        if hook is not Hook.INPUT or table != "security" or self.host.backend is not Backend.EITHER:
            return False
        tables = self.setting.rules.tables
        both = [tables[name].chains.get("INPUT") for name in ("nat", "security") if name in tables]
        return (
            len(both) == 2
            and all(c is not None and (c.rules or isinstance(c.policy, r.Drop)) for c in both)
            and self._conntrack is not False
        )

    def _wire(self, reach: Bool, p: SymPacket, hop: int) -> None:
        for index, name in enumerate(self.names.interfaces[1:], 1):
            if index != self.road.lo:
                gone = reach & p.out_iface.is_(index)
                self.record.end(gone, hop, j.Left(name), p)
                self.back.left(gone, p, index, hop)

    def _deliver(self, reach: Bool, shared: Bool, p: SymPacket, hop: int, *, over_lo: bool) -> None:
        """What has passed INPUT; `shared`: to a broadcast or anycast address."""
        if reach.const is False:
            return
        rec = self.record
        if "extensions" in p.rare:
            headers = ~(p.field("extensions") & (Ipv6Extension.AUTH | Ipv6Extension.ROUTE)).is_(0)
            rec.end(reach & headers, hop, j.Unmodelled("an extension header that is not followed"), p)
            reach = reach & ~headers
        tcp, icmp = p.proto.is_(TCP), p.proto.is_(ICMP if self.family is Family.IPV4 else ICMPV6)
        rec.end(reach & shared & tcp, hop, j.Lost(j.NOT_UNICAST), p)
        rec.end(reach & shared & ~tcp, hop, j.Group(()), p)
        reach = reach & ~shared
        reach = self.back.returned(reach, p, hop, over_lo)
        rec.end(reach & icmp, hop, j.Kernel(), p)
        self.back.taken(reach & icmp, p, None, None, hop, over_lo)
        reach = reach & ~icmp
        nobody = reach
        for fits, process, listener, given in self._takers(p, hop, over_lo):
            got = reach & fits
            nobody = nobody & ~fits
            if self.family is Family.IPV6 and listener.protocol == TCP:
                mapped = within(p.src, MAPPED)
                rec.end(got & mapped, hop, j.Lost(j.MARTIAN), p)
                got = got & ~mapped
            rec.stop(SymStop(got, hop, j.Act.DELIVERED, p, process=process.name, listener=listener))
            self.back.taken(got, p, process, listener, hop, over_lo)
            self._accept(got, p, hop, process, listener, given)
        rec.end(nobody, hop, j.Refused(), p)

    def _takers(self, p: SymPacket, hop: int, over_lo: bool) -> list[tuple[Bool, Process, Listener, bool]]:
        """Each socket with the packets that it gets, and whether TPROXY gave it these."""
        given = self.record.is_given(hop, self.terms)
        handshake = TcpFlag.SYN | TcpFlag.ACK | TcpFlag.RST | TcpFlag.FIN
        opens = p.proto.is_(UDP) | (p.proto.is_(TCP) & (p.flags & handshake).is_(TcpFlag.SYN))
        out = [(g.cond & opens, g.process, g.listener, True) for g in self.record.given if g.hop == hop]
        found = self.road.listeners(p, over_lo)
        return out + [(fits & ~given, process, listener, False) for fits, process, listener in found]

    def _accept(
        self, got: Bool, p: SymPacket, hop: int, process: Process, listener: Listener, given: bool
    ) -> None:
        proxy = next((x for x in process.proxies if x.accepts == listener.port), None)
        if proxy is None or listener.protocol != TCP or hop < 0:
            self.record.end(got, hop, j.Socket(process.name, listener), p)
            return
        index = next(i for i, (q, x) in enumerate(self.proxies) if q is process and x is proxy)
        sent = self.sent[hop]
        unmoved = p.dst.is_(sent.dst) & p.dport.is_(sent.dport)
        if given:
            self.record.end(got & ~unmoved, hop, j.Unmodelled(GIVEN_AND_MOVED), p)
            got = got & unmoved
        lost = got & ~unmoved & ~p.ctstate.is_(CtState.UNTRACKED) & self._zoned(hop)
        self.record.end(lost, hop, j.Unmodelled(ZONE), p)
        got = got & ~lost
        w = _Waiting(got, index, sent.dst, sent.dport, p.src)
        refused = got & spans(sent.dport, proxy.refuses)
        routed = got & self._will_dial(w)
        self.record.end(refused, hop, j.Socket(process.name, listener, "refuses"), p)
        self.record.end(got & ~refused & ~routed, hop, j.Socket(process.name, listener, "no route"), p)
        for i, other in enumerate(self._waiting):
            if other.proxy == index:
                self._waiting[i] = replace(other, cond=other.cond | routed)
                return
        if routed.const is not False:
            self._waiting.append(replace(w, cond=routed))

    def _zoned(self, hop: int) -> Bool:
        """What a rule of the hop's first raw hook tracks in a zone: SO_ORIGINAL_DST looks into the default one alone."""
        raw = self.setting.rules.tables.get("raw")
        if raw is None:
            return self.terms.false
        arrived = hop == 0 and isinstance(self.sender, j.FromOutside)
        first = Hook.PREROUTING if arrived else Hook.OUTPUT
        zones = {
            (name, number)
            for name, chain in raw.chains.items()
            for number, rule in enumerate(chain.rules, 1)
            if isinstance(rule.target, r.TrackAs) and "--zone" in rule.target.options
        }
        return self.terms.any_of(
            s.cond
            for s in self.record.stops
            if (s.hop, s.act, s.hook, s.table) == (hop, j.Act.MATCHED, first, "raw")
            and (s.chain, s.rule) in zones
        )


def _conntrack(setting: Setting) -> bool | None:
    """Whether the rules switch conntrack on; None where nobody knows."""
    opaque = False
    for table in setting.rules.tables.values():
        for chain in table.chains.values():
            for rule in chain.rules:
                if isinstance(rule.target, TRACKING_TARGETS):
                    return True
                opaque = opaque or isinstance(rule.target, r.OpaqueTarget)
                for match in (literal.match for literal in rule.literals):
                    if isinstance(match, r.CtStates | r.Conntrack | r.ConnMark):
                        return True
                    if isinstance(match, r.Chance) and match.module in TRACKING_MODULES:
                        return True
                    opaque = opaque or isinstance(match, r.Opaque)
    return None if opaque else False


TRACKING_TARGETS = (
    r.Redirect, r.Dnat, r.Snat, r.Masquerade, r.Netmap, r.SetConnMark, r.SaveMark, r.RestoreMark, r.TrackAs,
)  # fmt: skip
"""Targets whose modules ask for conntrack (nf_ct_netns_get)."""

TRACKING_MODULES = ("connlimit", "connbytes", "connlabel", "cluster", "helper")
"""Matches known by name that do."""


def _undecided(p: SymPacket, route: Sent, road: RoadByRules, raw: bool) -> tuple[Bool, Sent]:
    """Of what is sent by this route, that of which nobody knows whether it goes by it: rules ask for the source, which a
    socket that is not bound has not when it asks for the route.  And the route, if any, of whatever is sent.
    """
    t = p.terms
    if raw:
        return t.true, route
    datagram, sent = road.unbound(p)
    doubt = datagram & (~route.possible | ~route.out.is_(sent.out))
    out = t.choose(route.possible, route.out, sent.out)
    return doubt, Sent(out, route.possible | doubt, route.group)


WHICH_WAY = "whether its socket is bound decides by which way it goes"


def _turned(before: SymPacket, after: SymPacket) -> Bool:
    """Mark or TOS, or in IPv6 the hop limit, are others than before, so that mangle asks for the route anew
    (net/ipv4/netfilter/iptable_mangle.c, net/ipv6/netfilter/ip6table_mangle.c).
    """
    t = before.terms
    same = [after.mark.is_(before.mark)]
    asked = ("tos",) if before.family is Family.IPV4 else ("tos", "ttl")
    same += [after.field(name).is_(before.field(name)) for name in asked if name in before.rare]
    return ~t.all_of(same)


def _connection(known: Bool, p: SymPacket) -> SymConnection:
    """A connection that begins with this packet."""
    t = p.terms
    there = SymEnds(p.src, p.dst, p.sport, p.dport)
    back = SymEnds(p.dst, p.src, p.dport, p.sport)
    return SymConnection(known, p.proto, there, back, t.number(0, 16), t.number(0, 32), t.false)


def _among(field: Bv, ids: IdSet) -> Bool:
    return field.terms.any_of(among(field, i) for i in ids.ranges)


def _choose(cond: Bool, yes: SymPacket, no: SymPacket) -> SymPacket:
    """The dial of one proxy or another: what may differ between dials."""
    choose = cond.terms.choose
    return yes.but(
        src=choose(cond, yes.src, no.src),
        dst=choose(cond, yes.dst, no.dst),
        dport=choose(cond, yes.dport, no.dport),
        uid=choose(cond, yes.uid, no.uid),
        gid=choose(cond, yes.gid, no.gid),
        mark=choose(cond, yes.mark, no.mark),
    )
