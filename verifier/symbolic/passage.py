"""The way of one hop's packets through the host, from hook to hook: tables, routes, the wire, lo, and who gets them."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from .. import journeys as j
from .. import rules as r
from ..asked import fields_carried
from ..hooks import NFT_INPUT, TABLES, Hook
from ..hosts import Backend, Listener, Process, Setting
from ..packets import CONFIRMED
from ..values import ICMP, ICMPV6, LINK_LOCAL, MAPPED, TCP, CtState, Family, Ipv6Extension
from .chains import traverse
from .conntrack import Zones, answering, is_on, mirrors_itself, restored, same_ends, seen, zones
from .entries import SymEntry, belongs, bound, join
from .established import TAKEN_UP, SymOpened, has, resume
from .journeys import Record, SymStop
from .keys import WHICH_PORTS, of_rerouted, untold_outside
from .matches import within
from .packets import Names, SymConnection, SymPacket
from .rejecting import BINDING, Rejection, as_seen, bindings
from .roads import road_of
from .routing import Sent, taken
from .routing_ipv6 import RoadIpv6
from .routing_rules import RoadByRules
from .targets import either
from .terms import Bool, Bv, Terms

DATAGRAM_HOOKS = (Hook.POSTROUTING, Hook.PREROUTING, Hook.INPUT)


EARLY = "whether its socket gets it before it is routed"
ITS_LINK = "a link-local address of this host behind a local route"
MARKED = "a zone that the mark names"
ITS_OWN_QUESTION = "an answer that is its own question"
BESIDE = "an answer that begins a connection beside that of its question"
AGAIN = "an answer that conntrack looks for again over lo"


class Reply(Struct, frozen=True):
    """The connection of the packet that is answered, as far as it has one, and where its answers are looked for."""

    connection: SymConnection
    zones: Zones


class Hop(Struct, frozen=True):
    """A hop by its number, and what its ways depend on beside its packets."""

    number: int
    foreign: bool = False
    """Its source may be one that is neither local nor unicast: a raw socket's, or a transparent proxy's client's."""
    reply: Reply | None = None
    """What it is an answer to."""
    rejection: Rejection | None = None
    """What it is sent back for, where a REJECT sends it."""
    entry: SymEntry | None = None
    """What an earlier packet has left in conntrack's table."""
    opened: SymOpened | None = None
    """What the first packet of its connection has left, where it is a later one; the entry is that one's, too."""
    taken_up: bool = False
    """What is an answer, and conntrack finds in no connection, may be in one that it has taken up."""
    shaky: bool = False
    """A new route, to the same destination, may fail where the first did not also without routing rules: in IPv4 for a source
    that was not asked about, and in IPv6 on the way to an own link-local address, since the packet is then on lo, which
    has no part in its link.
    """
    asked_here: bool = False
    """It is the answer to what a socket here has sent."""


class Inward(Struct, frozen=True):
    """What has passed INPUT; `shared`: to a broadcast or anycast address."""

    cond: Bool
    shared: Bool
    packet: SymPacket
    over_lo: bool


class Delivered(Struct, frozen=True):
    """What a listener gets."""

    cond: Bool
    packet: SymPacket
    process: Process
    listener: Listener
    given: bool = False
    """By TPROXY."""


class Passage:
    """The ways through a host with its rules; what happens on them is written into `record`."""

    def __init__(self, terms: Terms, setting: Setting, names: Names, record: Record) -> None:
        self.terms = terms
        self.setting = setting
        self.host = setting.host
        self.names = names
        self.record = record
        self.family = setting.host.family
        self.road = road_of(terms, setting.host, names)
        self.fields = fields_carried(setting)
        self.conntrack = is_on(setting)

    # -- from end to end

    def arrive(self, reach: Bool, p: SymPacket, hop: Hop) -> list[Inward]:
        """A frame: PREROUTING, input routing, then INPUT, or FORWARD and POSTROUTING; what is for this host."""
        rec, number = self.record, hop.number
        if isinstance(self.road, RoadIpv6):
            refused = self.road.refused(p)
            rec.end(reach & refused, number, j.Lost(j.MARTIAN), p)
            reach = reach & ~refused
        reach, p = self._hook(Hook.PREROUTING, reach, p, hop, first=True)
        untold = untold_outside(self.host, p)
        rec.end(reach & untold, number, j.Unmodelled(WHICH_PORTS), p)
        reach = reach & ~untold
        way = self.road.input(p)
        if self.host.before_local or p.accepted:
            early = reach & ~way.local & self._has_its_socket(p, hop)
            rec.end(early, number, j.Unmodelled(EARLY), p)
            reach = reach & ~early
        rec.end(reach & way.martian, number, j.Lost(j.MARTIAN), p)
        rec.end(reach & way.not_forwarded, number, j.Lost(j.NOT_FORWARDED), p)
        rec.end(reach & way.no_route, number, j.Lost(j.NO_ROUTE), p)
        rec.end(reach & way.group, number, j.Group((Hook.INPUT,)), p)
        inward = reach & (way.local | way.broadcast)
        rec.stop(SymStop(inward, number, j.Act.ROUTED, p, where="input"))
        onto = p.but(out_iface=way.out)
        forward = reach & way.forward
        rec.stop(SymStop(forward, number, j.Act.ROUTED, onto, where="forward"))
        rec.end(forward & p.is_given, number, j.Lost(j.GIVEN_A_SOCKET), onto)
        forward = forward & ~p.is_given
        if "ttl" in self.fields:
            left = onto.field("ttl")
            rec.end(forward & left.at_most(1), number, j.Lost(j.TTL_EXCEEDED), onto)
            forward = forward & ~left.at_most(1)
            onto = onto.having(ttl=left - 1)
        inward, here = self._hook(Hook.INPUT, inward, p, hop)
        forward, q = self._hook(Hook.FORWARD, forward, onto, hop)
        forward, q = self._hook(Hook.POSTROUTING, forward, q, hop)
        self._wire(forward, q, number)
        return [Inward(inward, way.broadcast, here, over_lo=False)]

    def _has_its_socket(self, p: SymPacket, hop: Hop) -> Bool:
        """A socket here may get it, of a connection, before it is routed (net/ipv4/tcp_ipv4.c: tcp_v4_early_demux)."""
        t = self.terms
        return t.truth(hop.asked_here) | t.any_of(has(its, p, p.in_iface) for its in p.accepted)

    def leave(self, reach: Bool, p: SymPacket, group: Bool, hop: Hop) -> list[Inward]:
        """A packet of this host: OUTPUT, re-routing, POSTROUTING, then the wire, or lo; what comes back over lo."""
        t = self.terms
        reach, p, route = self._output(reach, p, Sent(p.out_iface, t.true, group), hop)
        group, out = route.group, route.out
        if group.const is not False:
            for interface in self.host.interfaces:
                here = reach & group & out.is_(self.names.index(interface.name))
                self.record.end(here, hop.number, j.Group(DATAGRAM_HOOKS, interface.name), p)
        reach, p = self._hook(Hook.POSTROUTING, reach & ~group, p.but(out_iface=out), hop)
        lo = t.false if self.road.lo is None else p.out_iface.is_(self.road.lo)
        self._wire(reach & ~lo, p, hop.number)
        inward = reach & lo
        if inward.const is False or self.road.lo is None:
            return []
        if self.family is Family.IPV6:
            group = self.road.is_multicast(p.src)
            self.record.end(inward & group, hop.number, j.Lost(j.MARTIAN), p)
            inward = inward & ~group
        if hop.reply is not None:
            again = inward & hop.reply.connection.known & p.ctstate.is_(CtState.INVALID)
            self.record.end(again, hop.number, j.Unmodelled(AGAIN), p)
            inward = inward & ~again
        p = p.without_socket().but(in_iface=t.number(self.road.lo, 8), out_iface=t.number(0, 8))
        inward, p = self._hook(Hook.PREROUTING, inward, p, hop, over_lo=True)
        inward, p = self._hook(Hook.INPUT, inward, p, hop, over_lo=True)
        return [Inward(inward, self.road.is_shared(p.dst), p, over_lo=True)]

    def deliver(self, came: Inward, hop: int) -> list[Delivered]:
        """Who gets what has passed INPUT."""
        rec, reach, p = self.record, came.cond, came.packet
        if reach.const is False:
            return []
        if "extensions" in p.rare:
            headers = ~(p.field("extensions") & (Ipv6Extension.AUTH | Ipv6Extension.ROUTE)).is_(0)
            rec.end(reach & headers, hop, j.Unmodelled("an extension header that is not followed"), p)
            reach = reach & ~headers
        tcp, icmp = p.proto.is_(TCP), p.proto.is_(ICMP if self.family is Family.IPV4 else ICMPV6)
        rec.end(reach & came.shared & tcp, hop, j.Lost(j.NOT_UNICAST), p)
        rec.end(reach & came.shared & ~tcp, hop, j.Group(()), p)
        reach = reach & ~came.shared
        rec.end(reach & icmp, hop, j.Kernel(), p)
        reach = reach & ~icmp
        nobody = reach
        out = []
        for fits, process, listener, given in self._sockets(p, came.over_lo):
            got = reach & fits
            nobody = nobody & ~fits
            if self.family is Family.IPV6 and listener.protocol == TCP:
                mapped = within(p.src, MAPPED)
                rec.end(got & mapped, hop, j.Lost(j.MARTIAN), p)
                got = got & ~mapped
            rec.stop(SymStop(got, hop, j.Act.DELIVERED, p, process=process.name, listener=listener))
            out.append(Delivered(got, p, process, listener, given))
        rec.end(nobody, hop, j.Refused(), p)
        return out

    def _sockets(self, p: SymPacket, over_lo: bool) -> list[tuple[Bool, Process, Listener, bool]]:
        """Who gets a packet for a local address: the socket that TPROXY gave it, before any other is looked for."""
        kinds = taken(p)
        free = ~p.is_given
        given = [
            (g.cond & (kinds[g.listener.protocol] | g.its_own), g.process, g.listener, True) for g in p.given
        ]
        found = self.road.listeners(p, over_lo)
        out = given + [(fits & free, process, listener, False) for fits, process, listener in found]
        if not p.accepted:
            return out
        by = self.came_by(p)
        return out + [(has(a, p, by) & free, a.process, a.listener, False) for a in p.accepted]

    def came_by(self, p: SymPacket) -> Bv:
        """The interface by which a packet that is delivered came, which over lo is the one that has its destination."""
        t = self.terms
        if p.in_iface.const != self.road.lo:
            return p.in_iface
        by = t.number(0, 8)
        for index in range(1, len(self.names.interfaces)):
            by = t.choose(self.road.came_for(p.dst, index), t.number(index, 8), by)
        return by

    def _wire(self, reach: Bool, p: SymPacket, hop: int) -> None:
        for index, name in enumerate(self.names.interfaces[1:], 1):
            if index != self.road.lo:
                self.record.end(reach & p.out_iface.is_(index), hop, j.Left(name), p)

    # -- OUTPUT and its routes

    def _output(self, reach: Bool, p: SymPacket, first: Sent, hop: Hop) -> tuple[Bool, SymPacket, Sent]:
        """OUTPUT, with the re-routes after mangle and nat; also the routing decision that then holds."""
        t, number = self.terms, hop.number
        route = first
        for table in TABLES[Hook.OUTPUT]:
            before, start = p.dst, p
            first_raw = table == "raw" and hop.rejection is None
            reach, p = self._table(table, Hook.OUTPUT, reach, p, hop, first=first_raw, over_lo=False)
            turned = _turned(start, p)
            ipv4, may_be_stuck = self.family is Family.IPV4, self._may_be_stuck(hop)
            if table == "mangle" and turned.const is not False and (ipv4 or may_be_stuck):
                again = self._routed(p, self._asked_again(p, hop), p.dst, first)
                stuck = turned & ~again.possible if may_be_stuck else t.false
                self.record.end(reach & stuck, number, j.Lost(j.REROUTE_FAILED), p)
                reach = self._keeping_its_link(reach & ~stuck, turned, p, route, number)
                if ipv4 or self.host.policy:
                    self._tell_way(reach & turned & ~again.out.is_(route.out), again.out, p, number)
                    group = route.group
                    if self.host.before_local:
                        # Else the address alone says whether it is one.
                        group = (turned & again.group) | (~turned & group)
                    route = Sent(t.choose(turned, again.out, route.out), t.true, group)
            if p.dst.ast == before.ast:
                continue
            again = self._rerouted(p, self._asked_again(p, hop), p.dst, before, route)
            moved = ~p.dst.is_(before)
            self.record.end(reach & moved & ~again.possible, number, j.Lost(j.REROUTE_FAILED), p)
            reach = self._keeping_its_link(reach & (~moved | again.possible), moved, p, route, number)
            self._tell_way(reach & moved, again.out, p, number)
            # What NAT leaves at its address goes on by the route that it has, also where a new one would fail.
            route = Sent(
                t.choose(moved, again.out, route.out),
                t.true,
                (moved & again.group) | (~moved & route.group),
            )
        return reach, p, route

    def _may_be_stuck(self, hop: Hop) -> bool:
        """A new route to the same destination may fail where the first did not."""
        return hop.shaky or bool(self.host.policy)

    def _keeping_its_link(self, reach: Bool, anew: Bool, p: SymPacket, before: Sent, hop: int) -> Bool:
        """Without those packets, routed anew, of whose link-local destination on lo nobody knows any more whose it is."""
        if not isinstance(self.road, RoadIpv6):
            return reach
        lost = anew & self.road.has_lost_its_link(p, before.out)
        self.record.end(reach & lost, hop, j.Unmodelled(ITS_LINK), p)
        return reach & ~lost

    def _routed(self, p: SymPacket, src: Bv, dst: Bv, first: Sent) -> Sent:
        """The new routing decision for one destination."""
        device = p.device
        if self.family is Family.IPV6:
            zoned = device.is_(0) & (within(dst, LINK_LOCAL) | self.road.is_multicast(dst))
            device = self.terms.choose(zoned, first.out, device)
        return self.road.output_again(src, dst, device, of_rerouted(self.host, p))

    def _tell_way(self, cond: Bool, out: Bv, p: SymPacket, hop: int) -> None:
        """A new route is by one of the interfaces."""
        for index, name in enumerate(self.names.interfaces[1:], 1):
            self.record.stop(SymStop(cond & out.is_(index), hop, j.Act.ROUTED, p, where=name))

    def _asked_again(self, p: SymPacket, hop: Hop) -> Bv:
        """The source that a new route is asked for: none where it is neither local nor unicast."""
        if not (isinstance(self.road, RoadByRules) or (hop.foreign and self.family is Family.IPV4)):
            return p.src
        strange = (self.road.is_broadcast(p.src) & ~self.road.is_local(p.src)) | self.road.is_multicast(p.src)
        return self.terms.choose(strange, self.terms.number(0, 32), p.src)

    def _rerouted(self, p: SymPacket, src: Bv, dst: Bv, before: Bv, first: Sent) -> Sent:
        """The routing decision for a destination that NAT chose: each choice is routed on its own, since most are constants."""
        # Each rule that translates has one more choice around those before it, so that these are gone through in a loop.
        taken: list[tuple[Bool, Sent]] = []
        while dst.op == "ite" and dst.ast != before.ast:
            cond, yes, no = dst.args
            if not (isinstance(cond, Bool) and isinstance(yes, Bv) and isinstance(no, Bv)):
                raise AssertionError("a choice is between two terms of one width")
            taken.append((cond, self._rerouted(p, src, yes, before, first)))
            dst = no
        found = first if dst.ast == before.ast else self._routed(p, src, dst, first)
        for cond, way in reversed(taken):
            found = Sent(
                self.terms.choose(cond, way.out, found.out),
                (cond & way.possible) | (~cond & found.possible),
                (cond & way.group) | (~cond & found.group),
            )
        return found

    # -- a hook

    def _hook(
        self, hook: Hook, reach: Bool, p: SymPacket, hop: Hop, *, first: bool = False, over_lo: bool = False
    ) -> tuple[Bool, SymPacket]:
        order = TABLES[hook]
        if hook is Hook.INPUT and self.host.backend is Backend.NFT:
            order = NFT_INPUT
        for table in order:
            reach, p = self._table(
                table, hook, reach, p, hop, first=first and table == "raw", over_lo=over_lo
            )
        confirms = hook in (Hook.POSTROUTING, Hook.INPUT) and hop.rejection is None
        if p.connection is not None and confirms:
            p = p.tracked(p.connection.but(status=p.connection.status | CONFIRMED))
        return reach, p

    def _table(
        self, name: str, hook: Hook, reach: Bool, p: SymPacket, hop: Hop, *, first: bool, over_lo: bool
    ) -> tuple[Bool, SymPacket]:
        if hook is Hook.INPUT and name == "security" and not over_lo:
            doubt = reach & self._order_matters(p, hop)
            self.record.end(doubt, hop.number, j.Unmodelled("order of nat and security at INPUT"), p)
            reach = reach & ~doubt
        if name == "raw":
            begin = len(self.record.stops)
            reach, p = self._raw(hook, reach, p, hop, first=first)
            if first and hop.reply is not None:
                reach = self._astray(reach, p, hop, hop.reply)
                return self._track(reach, p, hop.number, hop.reply, self.record.stops[begin:])
            if first and hop.opened is not None:
                raw = self.record.stops[begin:]
                return resume(reach, p, hop.number, hop.opened, raw, self.setting, self.record)
            if first and hop.entry is not None:
                raw = self.record.stops[begin:]
                return join(reach, p, hop.number, hop.entry, raw, self.setting, self.record)
            return reach, seen(p) if first else p
        if name == "nat" and hop.reply is not None and not over_lo:
            before, p = p, restored(p, hook)
            moved = reach & ~same_ends(before, p)
            self.record.stop(SymStop(moved, hop.number, j.Act.TRANSLATED, p, hook))
        if name == "nat" and hop.entry is not None and not over_lo:
            reach, p = self._bind(hook, reach, p, hop.number, hop.entry)
        table = self.setting.rules.tables.get(name)
        if name == "nat" and hop.rejection is not None:
            return self._unbind(table, hook, reach, p, hop, hop.rejection)
        if table is None or hook.value not in table.chains:
            return reach, p
        if name == "nat":
            return (reach, p) if over_lo else self._nat(table, hook, reach, p, hop)
        return traverse(table, hook, hop.number, self.road, self.record, reach, p)

    def _bind(
        self, hook: Hook, reach: Bool, p: SymPacket, hop: int, entry: SymEntry
    ) -> tuple[Bool, SymPacket]:
        """What belongs to the entry, as nat has decided; it is dropped where MASQUERADE was for another interface
        (net/netfilter/nf_nat_core.c: nf_nat_oif_changed)."""
        if hook is Hook.POSTROUTING:
            other = ~entry.masquerades.is_(0) & ~entry.masquerades.is_(p.out_iface)
            elsewhere = reach & belongs(p) & other
            self.record.end(elsewhere, hop, j.Lost(j.MASQUERADED_ELSEWHERE), p)
            reach = reach & ~elsewhere
        after = bound(p, hook)
        moved = reach & ~same_ends(p, after)
        self.record.stop(SymStop(moved, hop, j.Act.TRANSLATED, after, hook))
        return reach, after

    def _unbind(
        self, table: r.Table | None, hook: Hook, reach: Bool, p: SymPacket, hop: Hop, rejection: Rejection
    ) -> tuple[Bool, SymPacket]:
        """What a REJECT sends back, at nat: of a reset the rules may be asked about the source of its connection, and whatever
        was decided of that is taken back (net/netfilter/nf_nat_core.c: nf_nat_inet_fn, nf_nat_packet).
        """
        asked = hook is Hook.POSTROUTING and not rejection.source_done and self.conntrack is not False
        if asked and table is not None and hook.value in table.chains:
            related = p.proto.is_(TCP) & p.ctstate.is_(CtState.RELATED)
            if self.conntrack is None:
                self.record.end(reach & related, hop.number, j.Unmodelled("whether conntrack is on"), p)
                reach = reach & ~related
            else:
                begin = len(self.record.stops)
                seen_as = as_seen(rejection, table)
                passed, p = traverse(seen_as, hook, hop.number, self.road, self.record, reach & related, p)
                reach = passed | (reach & ~related)
                lends = self.road.lends_to_any
                doubt = bindings(table, self.record.stops[begin:], self.road.lo, lends, self.terms)
                self.record.end(reach & doubt, hop.number, j.Unmodelled(BINDING), p)
                reach = reach & ~doubt
        before, p = p, restored(p, hook)
        moved = reach & ~same_ends(before, p)
        self.record.stop(SymStop(moved, hop.number, j.Act.TRANSLATED, p, hook))
        return reach, p

    def _nat(self, table: r.Table, hook: Hook, reach: Bool, p: SymPacket, hop: Hop) -> tuple[Bool, SymPacket]:
        new = p.ctstate.is_(CtState.NEW)
        if hop.entry is not None:
            new = new & ~belongs(p)
        if self.conntrack is None:
            self.record.end(reach & new, hop.number, j.Unmodelled("whether conntrack is on"), p)
            return reach & ~new, p
        if not self.conntrack:
            return reach, p
        passed, after = traverse(table, hook, hop.number, self.road, self.record, reach & new, p)
        return passed | (reach & ~new), after

    def _raw(self, hook: Hook, reach: Bool, p: SymPacket, hop: Hop, *, first: bool) -> tuple[Bool, SymPacket]:
        """The raw table; the `first` that a hop comes to is gone through before conntrack has seen the packet."""
        table = self.setting.rules.tables.get("raw")
        if table is None or hook.value not in table.chains:
            return reach, p
        t = self.terms
        unknown = p.but(ctstate=t.number(CtState.INVALID, 3)) if first else p
        if hop.rejection is None:
            passed, after = traverse(table, hook, hop.number, self.road, self.record, reach, unknown)
        else:
            passed, after = self._raw_of_rejections(table, hook, reach, unknown, hop.number, hop.rejection)
        untracked = t.number(CtState.UNTRACKED, 3)
        return passed, after.but(ctstate=t.choose(after.ctstate.is_(untracked), untracked, p.ctstate))

    def _raw_of_rejections(
        self, table: r.Table, hook: Hook, reach: Bool, p: SymPacket, hop: int, rejection: Rejection
    ) -> tuple[Bool, SymPacket]:
        """Over lo a reset is what conntrack has none of, as it has looked at it (net/netfilter/nf_conntrack_core.c:
        nf_conntrack_in), and all else as it was."""
        over_lo = rejection.stuck and hook is not Hook.OUTPUT
        looked_at = p.proto.is_(TCP) if over_lo else self.terms.false
        kept = traverse(as_seen(rejection, table), hook, hop, self.road, self.record, reach & ~looked_at, p)
        if looked_at.const is False:
            return kept
        others = traverse(table, hook, hop, self.road, self.record, reach & looked_at, p)
        return kept[0] | others[0], either(looked_at, others[1], kept[1])

    def _astray(self, reach: Bool, p: SymPacket, hop: Hop, reply: Reply) -> Bool:
        """Without answers to later packets that conntrack may find in a connection that another packet has begun."""
        if not (hop.taken_up and self.conntrack):
            return reach
        lost = reach & ~reply.connection.known & ~p.ctstate.is_(CtState.UNTRACKED)
        self.record.end(lost, hop.number, j.Unmodelled(TAKEN_UP), p)
        return reach & ~lost

    def _track(
        self, reach: Bool, p: SymPacket, hop: int, reply: Reply, raw: Sequence[SymStop]
    ) -> tuple[Bool, SymPacket]:
        """What conntrack makes of an answer that has made these stops in raw."""
        known = reply.connection.known
        mine = zones(raw, self.setting, self.terms)
        looked_for = reach & known & ~p.ctstate.is_(CtState.UNTRACKED)
        alike = looked_for & mirrors_itself(reply.connection)
        self.record.end(alike, hop, j.Unmodelled(ITS_OWN_QUESTION), p)
        reach = reach & ~alike
        doubt = looked_for & ~alike & (mine.marked | reply.zones.marked)
        self.record.end(doubt, hop, j.Unmodelled(MARKED), p)
        finds = known & reply.zones.agrees(mine)
        tracked = answering(p, reply.connection, finds, self.host)
        reach = reach & ~doubt
        beside = reach & looked_for & ~finds & tracked.ctstate.is_(CtState.NEW)
        self.record.end(beside, hop, j.Unmodelled(BESIDE), p)
        return reach & ~beside, tracked

    def _order_matters(self, p: SymPacket, hop: Hop) -> Bool:
        """Security and nat have something to say of it at INPUT, where the backends differ, and the host may have either."""
        either = self.host.backend is Backend.EITHER and self.conntrack is not False
        if not either or not self._decides("security"):
            return self.terms.false
        new = p.ctstate.is_(CtState.NEW) if self._decides("nat") else self.terms.false
        if hop.entry is not None:
            return (new & ~belongs(p)) | ~same_ends(p, bound(p, Hook.INPUT))
        return new if hop.reply is None else new | ~same_ends(p, restored(p, Hook.INPUT))

    def _decides(self, table: str) -> bool:
        """Its INPUT chain has a rule, or drops what has passed."""
        found = self.setting.rules.tables.get(table)
        chain = None if found is None else found.chains.get(Hook.INPUT.value)
        return chain is not None and bool(chain.rules or isinstance(chain.policy, r.Drop))


def _turned(before: SymPacket, after: SymPacket) -> Bool:
    """Mark or TOS, or in IPv6 the hop limit, are others than before, so that mangle asks for the route anew
    (net/ipv4/netfilter/iptable_mangle.c, net/ipv6/netfilter/ip6table_mangle.c).
    """
    t = before.terms
    same = [after.mark.is_(before.mark)]
    asked = ("tos",) if before.family is Family.IPV4 else ("tos", "ttl")
    same += [after.field(name).is_(before.field(name)) for name in asked if name in before.rare]
    return ~t.all_of(same)
