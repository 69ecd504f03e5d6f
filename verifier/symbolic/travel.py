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
from ..asked import groups_of
from ..hooks import Hook
from ..hosts import (
    BoundTo,
    ClientsOwn,
    Dial,
    KernelChooses,
    Process,
    Proxy,
    ProxyRoute,
    Setting,
)
from ..values import LINK_LOCAL, MAPPED, TCP, UDP, CtState, Family, IdSet, Ipv6Extension, TcpFlag
from .answers import Question, answer
from .chains import TooLarge
from .conntrack import classified, seen, unseen
from .entries import SymEntry, left
from .established import WHETHER_IT_STANDS, SymOpened, is_later, later, opened
from .headers import DRAWN, sendable, well_formed
from .journeys import Record, SymAnswer, SymState, SymStop
from .keys import WHICH_PORTS, Keys, of_connecting, of_sent, untold_here
from .matches import among, has_bit, has_ports, spans, within
from .packets import NO_MAC, RARE, Names, SymPacket
from .passage import Delivered, Hop, Inward, Passage
from .rejections import reject
from .routing import Road, Sent
from .routing_ipv6 import LOCALHOST, RoadIpv6
from .routing_rules import RoadByRules
from .routing_rules_ipv6 import RoadIpv6ByRules
from .terms import Bool, Bv, Terms

GIVEN = "by what address a process knows what TPROXY gave it and NAT changed"
ZONE = "the original destination of a connection in a zone of its own"

FARTHEST = 500
"""Hops that are written at most."""


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
    those that the kernel does not send, `undecided` have one of several sources, and `astray` go one way first and another when
    they are sent again.
    """

    src: Bv
    dst: Bv
    strange: Bool
    refused: Bool
    undecided: Bool
    astray: Bool


class _Dialled(Struct, frozen=True):
    """A dial's packet, and as in `_Ends` the dials that are none."""

    packet: SymPacket
    strange: Bool
    refused: Bool
    undecided: Bool
    astray: Bool


class Journeys:
    """The journeys of all packets of one sender through one setting.

    `first` is the first packet as it is sent, `facts` what holds of it and of all draws; nothing is known
    unless `facts` are asserted.  `onward[n]` are the packets whose journey has an n-th hop; `states[n]` is
    the proxy state that it is dialled from (None for a hop 0 that no proxy dials); `sent_back` are the answers, where
    the setting has answers: right after its hop in `record`, and as ends of their own.  Journeys with one `prefix`
    share first packet and draws, those with one `answers` (by default the prefix) those of opaque matches too.
    Where `earlier` journeys are given, one packet of theirs was sent before: all are UDP, as are those that are `datagrams`; or
    that one `opened` the connection of which this is a later packet, and they have answers.
    """

    def __init__(
        self,
        terms: Terms,
        setting: Setting,
        sender: j.Sender,
        prefix: str = "",
        names: Names | None = None,
        answers: str | None = None,
        earlier: Journeys | None = None,
        datagrams: bool = False,
        opened: bool = False,
    ) -> None:
        self.terms = terms
        self.setting = setting
        self.sender = sender
        self.host = setting.host
        self.names = names or names_of(setting)
        self.family = setting.host.family
        self.earlier = earlier
        self.facts: list[Bool] = [] if earlier is None else [*earlier.facts]
        self._datagrams = datagrams or (earlier is not None and not opened)
        self.record = Record(prefix=prefix if answers is None else answers, facts=self.facts)
        self.passage = Passage(terms, setting, self.names, self.record)
        self.road = self.passage.road
        self.fields = self.passage.fields
        self.prefix = prefix
        self.proxies: list[tuple[Process, Proxy]] = [(p, x) for p in self.host.processes for x in p.proxies]
        self.states: list[SymState | None] = []
        self.onward: list[Bool] = []
        self.sent: list[SymPacket] = []
        self.picked: dict[int, list[tuple[Bool, Bv]]] = {}
        self.sent_back: list[SymAnswer] = []
        self._waiting: list[_Waiting] = []
        self._fresh = terms.true
        self.answered = terms.unknown(f"{prefix}answered")
        self.assured = terms.unknown(f"{prefix}assured")
        self.opened = self._opened(earlier) if earlier is not None and opened else None
        self._entry = None if earlier is None or opened else self._left(earlier)
        self._begin()

    def _opened(self, earlier: Journeys) -> SymOpened:
        """What the first packet of the connection leaves."""
        if not earlier.setting.answers or self.setting.rejections or earlier.sender != self.sender:
            raise AssertionError("one sender opens a connection and sends what is behind it, and is answered")
        first = Hook.PREROUTING if isinstance(earlier.sender, j.FromOutside) else Hook.OUTPUT
        found = opened(earlier.passage, earlier.sent[0], first, self.assured)
        self.record.behind.append(found.stands | found.lost)
        return found

    def _left(self, earlier: Journeys) -> SymEntry | None:
        """What the earlier packet leaves, where conntrack is on."""
        if self.setting.answers or self.setting.rejections:
            raise AssertionError("whose socket gets an answer is not told behind an earlier packet")
        if self.passage.conntrack is not True:
            return None
        first = Hook.PREROUTING if isinstance(earlier.sender, j.FromOutside) else Hook.OUTPUT
        sent = earlier.sent[0]
        return left(earlier.record, sent, self.setting, first, self.answered, self.assured)

    @property
    def behind(self) -> Bool:
        """The packets that conntrack finds in the earlier one's entry, or may find there."""
        return self.terms.any_of(self.record.behind)

    @property
    def doubtful(self) -> Bool:
        """The packets whose journey takes something to be so that may not be."""
        return self.terms.any_of(cond for cond, _ in self.record.doubts)

    # -- the first hop

    def _begin(self) -> None:
        t = self.terms
        match self.sender:
            case j.FromOutside(interface):
                p = self._any_packet().without_socket()
                p = p.but(
                    in_iface=t.number(self.names.index(interface), 8),
                    out_iface=self._none,
                    mark=t.number(0, 32),
                )
                p = classified(p, self.host)
                self.facts += [well_formed(p), *sendable(p)]
                if "mac" in self.fields:
                    self.facts.append(~has_bit(p.field("mac"), 48))
                self._note_hop(t.true, p, None, None)
                self._give(self.passage.arrive(self._told(p), p, self._first()), 0)
                self._answer(0, [])
            case j.FromProcess(name):
                process = self.host.process(name)
                p = self._any_packet().but(in_iface=self._none, socket=t.true)
                bare = p.having(mac=t.number(NO_MAC, RARE["mac"]), groups=self._groups(process))
                p = classified(bare, self.host)
                self.facts += [well_formed(p), *sendable(p, least_ttl=0 if process.raw else 1)]
                # connect() refuses TCP to a group, and 127/8 towards the wire; a raw socket asks the routes alone.
                proto, src = (t.number(0, 8), self._zero) if process.raw else (p.proto, p.src)
                route = self.road.output(src, p.dst, proto, p.device, of_sent(p))
                doubt = t.false
                road = self.road
                untold = t.false if process.raw else untold_here(self.host, p)
                if _asks_for_its_socket(road, process.raw):
                    doubt, route = _undecided(p, route, road, process.raw)
                possible = route.possible | (untold & ~p.dst.is_(0))
                self.facts += [*self._may_send(process, p, route.out, untold), possible]
                if untold.const is not False:
                    route = replace(route, out=t.choose(route.possible, route.out, self._none))
                p = p.but(out_iface=route.out)
                self._note_hop(t.true, p, None, process.name)
                told = self._told(p)
                self.record.end(told & untold, 0, j.Unmodelled(WHICH_PORTS), p)
                self.record.end(told & doubt & ~untold, 0, j.Unmodelled(WHICH_WAY), p)
                doubt = doubt | untold
                shaky = process.raw or self.family is Family.IPV6
                hop = replace(self._first(), foreign=process.raw, shaky=shaky)
                self._give(self.passage.leave(told & ~doubt, p, route.group, hop), 0)
                self._answer(0, [(t.true, process.name)])
            case j.FromProxy(name, proxy):
                index = next(i for i, (p, x) in enumerate(self.proxies) if p.name == name and x.name == proxy)
                free = SymPacket.free(t, self.prefix + "accepted ", family=self.family)
                waiting = _Waiting(t.true, index, free.dst, free.dport, free.src)
                will = self._will_dial(waiting)
                self.facts.append(will)
                if self.keeps_client(index):
                    # No handshake comes back to such a client.
                    self.facts.append(~waiting.client.is_(0))
                self._waiting = [waiting]
                self.extend()
            case _:
                assert_never(self.sender)

    def _first(self) -> Hop:
        """The first hop, with what was there before it."""
        return Hop(0, entry=self._entry if self.opened is None else self.opened.entry, opened=self.opened)

    def _told(self, p: SymPacket) -> Bool:
        """The first packets whose way is told: of a later packet where it is known whether its connection stands.  Where nobody knows
        whether conntrack is on, what nat might have decided of that one's first packet is not known either, and so not this."""
        its, t = self.opened, self.terms
        if its is None:
            return t.true
        self.record.end(its.lost, 0, j.Unmodelled(WHETHER_IT_STANDS), p)
        return ~its.lost

    def _any_packet(self) -> SymPacket:
        """A packet of which nothing is known, with the rare fields that are carried, and without a connection."""
        t = self.terms
        p = SymPacket.free(t, self.prefix, self.fields - {"connection"}, self.family)
        if self.family is Family.IPV4:
            p = p.having(extensions=t.number(0, RARE["extensions"]))
        if self._datagrams:
            p = p.but(proto=t.number(UDP, 8))
        if self.earlier is not None and self.opened is not None:
            p = replace(later(p, self.earlier.sent[0]), accepted=self.opened.accepted)
            self.facts.append(is_later(p))
        return self._unseen(p)

    def _unseen(self, p: SymPacket) -> SymPacket:
        """The packet before conntrack has seen it."""
        return unseen(p) if "connection" in self.fields else p

    def seen(self, p: SymPacket) -> SymPacket:
        """The packet, as it is sent, with the connection that conntrack makes of it."""
        return seen(p)

    def _may_send(self, process: Process, p: SymPacket, out: Bv, untold: Bool) -> list[Bool]:
        """What Linux lets a socket of this process send, by this interface; of what is `untold` nobody knows the interface."""
        t = self.terms
        devices = [0] if process.device is None else [0, self.names.index(process.device)]
        facts = [
            _among(p.uid, process.uid),
            _among(p.gid, process.gid),
            t.any_of(p.mark.is_(m) for m in sorted({0, process.mark})),
            t.any_of(p.device.is_(d) for d in devices),
        ]
        if not process.raw:
            facts += [self._is_sent_from(p, untold), ~has_ports(p) | ~p.sport.is_(0)]
            if isinstance(self.road, RoadIpv6):
                near = within(p.src, LINK_LOCAL)
                facts.append(untold | ~near | self.road.is_in_its_zone(p, out))
                if isinstance(self.road, RoadIpv6ByRules) and self.road.asks_for_sources:
                    # No socket without a device binds such an address (net/ipv6/af_inet6.c: __inet6_bind).
                    selected = t.any_of(cond for cond, _ in self.road.unbound(p))
                    facts.append(untold | ~near | ~p.device.is_(0) | selected)
        elif self.host.family is Family.IPV4 and self.road.lendable:
            facts.append(~p.src.is_(0))  # raw_send_hdrinc writes the address of the route there.
        return facts

    def _is_sent_from(self, p: SymPacket, untold: Bool) -> Bool:
        """A socket that may bind local addresses alone sends from here."""
        local = self.road.is_local(p.src)
        if not isinstance(self.road, RoadByRules):
            return local
        datagram = self.terms.any_of(cond for cond, _ in self.road.unbound(p))
        itself = p.src.is_(p.dst) & ~self.road.in_local_table(p.dst, of_sent(p))
        lent = datagram & self.road.from_itself(p.dst, of_sent(p))
        return local | (itself & (lent | untold))

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
        begins = strange = refused = undecided = astray = t.false
        for w in waiting:
            process, proxy = self.proxies[w.proxy]
            dial = self._dial(w, process, proxy, hop)
            dialled = dial.packet
            strange = strange | (w.cond & dial.strange)
            refused = refused | (w.cond & dial.refused)
            undecided = undecided | (w.cond & dial.undecided)
            astray = astray | (w.cond & dial.astray)
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
        packet = classified(packet, self.host)
        dialling = [(w.cond, self.proxies[w.proxy][0].name) for w in waiting]
        route = self.road.output(packet.src, packet.dst, packet.proto, packet.device, of_sent(packet))
        undecided = undecided & ~strange & ~refused
        astray = astray | (begins & self.road.hangs_on_its_port(packet, route))
        astray = astray & ~strange & ~refused & ~undecided
        tried = begins & ~strange & ~undecided & ~astray
        going = tried & ~refused & route.possible
        cannot = tried & (refused | ~route.possible)
        unsent = strange | undecided | astray | cannot
        packet = packet.but(out_iface=t.choose(unsent, self._none, route.out))
        self._note_hop(begins, packet, state, None, dialling)
        self.record.end(strange, hop, j.Unmodelled(j.OTHER_FAMILY), packet)
        self.record.end(cannot, hop, j.Lost(j.CANNOT_SEND), packet)
        self.record.end(undecided, hop, j.Unmodelled(j.SOURCE_SELECTION), packet)
        self.record.end(astray, hop, j.Unmodelled(WHICH_WAY), packet)
        foreign = any(map(self.keeps_client, range(len(self.proxies))))
        self._give(self.passage.leave(going, packet, route.group, Hop(hop, foreign=foreign)), hop)
        self._answer(hop, dialling if len(dialling) > 1 else [(t.true, name) for _, name in dialling])

    def _dial(self, w: _Waiting, process: Process, proxy: Proxy, hop: int) -> _Dialled:
        """The packet of a proxy's next dial."""
        t = self.terms
        rest = t.true
        picked = []
        for route in proxy.routes:
            fits = rest & spans(w.port, route.ports) if route.ports else rest
            rest = rest & ~fits
            picked.append((route, fits, *self._picked(route, fits & w.cond, w, hop)))
        unsent = self._undirected(process, hop)
        src, dst, dport = self._zero, w.address, w.port
        strange = refused = undecided = astray = t.false
        for route, fits, to, port, other in picked:
            if isinstance(route.source, BoundTo) and route.source.family is not self.family:
                other = t.true
                ends = _Ends(self._zero, self._zero, t.false, t.false, t.false, t.false)
            else:
                ends = self._ends(to, route, w, of_connecting(unsent.but(dport=port)))
            src, dst, dport = (
                t.choose(fits, ends.src, src),
                t.choose(fits, t.choose(other, self._zero, ends.dst), dst),
                t.choose(fits, port, dport),
            )
            strange = strange | (fits & (other | ends.strange))
            refused = refused | (fits & ends.refused)
            undecided = undecided | (fits & ends.undecided)
            astray = astray | (fits & ends.astray)
        sent = self._unseen(unsent.but(src=t.choose(strange, self._zero, src), dst=dst, dport=dport))
        return _Dialled(sent, strange, refused, undecided, astray)

    def _undirected(self, process: Process, hop: int) -> SymPacket:
        """What the process dials with, before it is known from where to where."""
        t = self.terms
        sport = t.variable(f"{self.prefix}sport of hop {hop}", 16)
        self.facts.append(~sport.is_(0))
        dialled = SymPacket(
            src=self._zero,
            dst=self._zero,
            proto=t.number(TCP, 8),
            sport=sport,
            dport=t.number(0, 16),
            flags=t.number(TcpFlag.SYN, 8),
            icmp_type=t.number(0, 8),
            icmp_code=t.number(0, 8),
            in_iface=self._none,
            out_iface=self._none,
            uid=self._id(process.uid, f"{self.prefix}uid of hop {hop} by {process.name}"),
            gid=self._id(process.gid, f"{self.prefix}gid of hop {hop} by {process.name}"),
            mark=t.number(process.mark, 32),
            ctstate=t.number(CtState.NEW, 3),
            device=self._none,
            socket=t.true,
            family=self.family,
        )
        return self._drawn(dialled, hop).having(groups=self._groups(process))

    def _groups(self, process: Process) -> Bv:
        """What `Packet.groups` is of the process's sockets."""
        return self.terms.number(groups_of(self.host).index(process.supplementary), RARE["groups"])

    def _ends(self, to: Bv, route: ProxyRoute, w: _Waiting, keys: Keys) -> _Ends:
        """From where to where the route connects that dials this address, where its first lookups have these keys."""
        t = self.terms
        if isinstance(self.road, RoadIpv6):
            return self._ends_ipv6(to, route, w, keys, self.road)
        localhost = t.number(0x7F000001, 32)
        refused = t.false
        match route.source:
            case BoundTo(address):
                itself = source = t.number(address, 32)
            case KernelChooses():
                itself = localhost
                source = self.road.select_source(to, keys)
                if isinstance(self.road, RoadByRules):
                    # connect() takes no source but a local one (net/ipv4/route.c: ip_route_output_key_hash_rcu).
                    refused = ~to.is_(0) & source.is_(to) & self.road.from_itself(to, keys)
                    source = t.choose(refused, self._zero, source)
                source = t.choose(to.is_(0), localhost, source)
            case ClientsOwn():
                itself = t.choose(w.client.is_(0), localhost, w.client)
                source = t.choose(to.is_(0), itself, w.client)
            case _:
                assert_never(route.source)
        return _Ends(source, t.choose(to.is_(0), itself, to), t.false, refused, t.false, t.false)

    def _ends_ipv6(self, to: Bv, route: ProxyRoute, w: _Waiting, keys: Keys, road: RoadIpv6) -> _Ends:
        t = self.terms
        strange = within(to, MAPPED)
        to = t.choose(to.is_(0), t.number(LOCALHOST, 128), to)
        refused = road.is_multicast(to) | within(to, LINK_LOCAL)
        match route.source:
            case BoundTo(address):
                return _Ends(t.number(address, 128), to, strange, refused, t.false, t.false)
            case KernelChooses():
                chosen = road.source_for(to, keys)
                source = t.choose(refused, self._zero, chosen.address)
                first, later = (road.reached(to, self._none, src, keys) for src in (self._zero, source))
                astray = (first.possible & ~later.possible) | ~first.out.is_(later.out)
                astray = astray & t.truth(road.asks_for_sources)
                return _Ends(source, to, strange, refused | chosen.none, chosen.several & ~refused, astray)
            case ClientsOwn():
                refused = refused | within(w.client, LINK_LOCAL)
                return _Ends(w.client, to, strange, refused, t.false, t.false)
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
        p = self._unseen(replace(p, rare=rare))
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

    def _id(self, ids: IdSet, name: str) -> Bv:
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
    def _none(self) -> Bv:
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
        for part, name in dialled or [(cond, process)]:
            self.record.stop(SymStop(part, hop, j.Act.SENT, packet, process=name))

    def _answer(self, hop: int, senders: Sequence[tuple[Bool, str]]) -> None:
        """Where answers are asked for, or rejections, what is sent back for what these processes (or, none, somebody outside) sent."""
        if self.setting.answers:
            question = Question(hop, self.sent[hop], senders, self.opened if hop == 0 else None)
            self.sent_back += answer(self.passage, question, self.prefix)
        if self.setting.rejections:
            self.sent_back += reject(self.passage, Question(hop, self.sent[hop], senders))

    def _give(self, inward: Sequence[Inward], hop: int) -> None:
        """To sockets what is for this host."""
        for came in inward:
            for delivered in self.passage.deliver(came, hop):
                self._accept(delivered, hop)

    def _accept(self, delivered: Delivered, hop: int) -> None:
        got, p, process, listener = (
            delivered.cond,
            delivered.packet,
            delivered.process,
            delivered.listener,
        )
        proxy = next((x for x in process.proxies if x.accepts == listener.port), None)
        if proxy is None or listener.protocol != TCP or self.opened is not None:
            self.record.end(got, hop, j.Socket(process.name, listener), p)
            return
        index = next(i for i, (q, x) in enumerate(self.proxies) if q is process and x is proxy)
        sent = self.sent[hop]
        unmoved = p.dst.is_(sent.dst) & p.dport.is_(sent.dport)
        lost = got & ~unmoved
        if not delivered.given:
            lost = lost & ~p.ctstate.is_(CtState.UNTRACKED) & self._zoned(hop)
        self.record.end(lost, hop, j.Unmodelled(GIVEN if delivered.given else ZONE), p)
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


def _asks_for_its_socket(road: Road, raw: bool) -> bool:
    """By which way a packet goes may depend on what its socket has bound, or written itself."""
    if raw:
        return road.asks_for_what_is_written or road.asks_for_lengths
    return road.asks_for_sources or road.lends_for_groups or road.asks_for_source_ports


def _undecided(p: SymPacket, route: Sent, road: Road, raw: bool) -> tuple[Bool, Sent]:
    """Of what is sent by this route, that of which nobody knows whether it goes by it: rules, and what goes to a group, ask
    for the source, and for the port, which a socket that is not bound has not when it asks for the route.  And the route, if any,
    of whatever is sent.
    """
    t = p.terms
    if raw:
        # Without a source there may be no way where with one there is (net/ipv4/raw.c: raw_sendmsg; net/ipv6/raw.c: rawv6_sendmsg).
        hidden = t.truth(road.asks_for_what_is_written) & ~p.dst.is_(0)
        out = t.choose(route.possible, route.out, t.number(0, 8))
        return t.true, Sent(out, route.possible | hidden, route.group)
    others = road.unported(p)
    if road.asks_for_sources or p.family is Family.IPV4:
        others = [*others, *road.unbound(p)]
    doubt = t.any_of(cond & (~route.possible | ~route.out.is_(sent.out)) for cond, sent in others)
    out = route.out
    if others:
        out = others[-1][1].out
        for cond, sent in reversed(others[:-1]):
            out = t.choose(cond, sent.out, out)
        out = t.choose(route.possible, route.out, out)
    return doubt, Sent(out, route.possible | doubt, route.group)


WHICH_WAY = "whether its socket is bound decides by which way it goes"


def _among(field: Bv, ids: IdSet) -> Bool:
    return field.terms.any_of(among(field, i) for i in ids.ranges)


def _choose(cond: Bool, yes: SymPacket, no: SymPacket) -> SymPacket:
    """The dial of one proxy or another: what may differ between dials."""
    choose = cond.terms.choose
    if "groups" in yes.rare:
        yes = yes.having(groups=choose(cond, yes.field("groups"), no.field("groups")))
    return yes.but(
        src=choose(cond, yes.src, no.src),
        dst=choose(cond, yes.dst, no.dst),
        dport=choose(cond, yes.dport, no.dport),
        uid=choose(cond, yes.uid, no.uid),
        gid=choose(cond, yes.gid, no.gid),
        mark=choose(cond, yes.mark, no.mark),
    )
