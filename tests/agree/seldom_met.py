"""Packets that random ones hardly ever are like, each with the host and the rules that tell it from others."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from verifier import hosts as h
from verifier import rules as r
from verifier.hosts import Setting
from verifier.journeys import FromOutside, FromProcess
from verifier.packets import Packet
from verifier.sets import Address, Entry, InterfaceName, IpSet, Member, Prefix, SetType
from verifier.values import TCP, UDP, Family, Ids, IdSet, MarkMask, Net, TcpFlag, read_address

from .examples import host, ip, rule_set

ICMP6 = 58


Trips = Iterator[tuple[Setting, FromOutside | FromProcess, Packet]]


def of(family: Family) -> Trips:
    if family is Family.IPV4:
        yield from _icmp6_in_ipv4()
        yield from _in_groups()
        yield from _counted()
        yield from _going()
        yield from _owned()
        yield from _saved()
    else:
        yield from _two_ways_back()


def _in_groups() -> Trips:
    """A process is in a group beside its own, which what has no socket never is, nor is it out of it."""
    asked = [
        r.Rule((r.Literal(r.OwnerIds(gid=Ids(50, 50), gid_negated=negated, supplementary=True)),))
        for negated in (False, True)
    ]
    anyone = IdSet.read("any")
    app = h.Process("app", anyone, anyone, supplementary=(7, 50))
    where = replace(host(), processes=(app,), sysctls={**h.DEFAULTS, "net.ipv4.ip_forward": 1})
    setting = Setting(where, rule_set(filter={"OUTPUT": tuple(asked)}, mangle={"POSTROUTING": tuple(asked)}))
    there = ip("10.0.0.77")
    yield setting, FromOutside("eth0"), Packet(ip("10.0.0.9"), there, 47, in_iface="eth0")
    yield setting, FromProcess("app"), Packet(ip("10.0.0.5"), there, 47, uid=1, gid=1)


def _owned() -> Trips:
    """A range of uids beyond half of them all, and what has no socket where all that is asked of one is negated."""
    anyone = IdSet.read("any")
    wide = (r.Literal(r.OwnerIds(uid=Ids(0, 1 << 31))),)
    none = (r.Literal(r.OwnerIds(uid=Ids(0, 1), uid_negated=True)),)
    where = replace(host(h.Process("app", anyone, anyone)), sysctls={**h.DEFAULTS, "net.ipv4.ip_forward": 1})
    setting = Setting(where, rule_set(mangle={"POSTROUTING": (r.Rule(wide), r.Rule(none))}))
    there = ip("10.0.0.77")
    yield setting, FromOutside("eth0"), Packet(ip("10.0.0.9"), there, 47, in_iface="eth0")
    yield setting, FromProcess("app"), Packet(ip("10.0.0.5"), there, 47, uid=1, gid=1)


def _saved() -> Trips:
    """A part of the mark is saved, shifted, beside what the connection's mark has already."""
    targets = (r.SetConnMark(MarkMask(0xF0)), r.SetMark(MarkMask(1)), r.SaveMark(1, 0xF, shift=1))
    rules = rule_set(mangle={"INPUT": tuple(r.Rule((), target) for target in targets)})
    frame = Packet(ip("10.0.0.9"), ip("10.0.0.5"), 47, in_iface="eth0")
    yield Setting(host(), rules), FromOutside("eth0"), frame


def _counted() -> Trips:
    """The set holds the packet, and what its counters say is asked."""
    asked = r.MatchSet("here", (r.Direction.SOURCE,), packets=r.Count(r.Comparison.GREATER, 5))
    counts = IpSet("here", SetType.HASH_IP, (Entry((Address(ip("10.0.0.9")),)),), Family.IPV4, counters=True)
    rules = rule_set(filter={"INPUT": (r.Rule((r.Literal(asked),)),)})
    setting = Setting(replace(host(), sets={"here": counts}), rules)
    yield setting, FromOutside("eth0"), Packet(ip("10.0.0.9"), ip("10.0.0.5"), 47, in_iface="eth0")


def _going() -> Trips:
    """Entries may have gone: that which holds the packet, one that hides it, one of a network by another interface, and a list's."""

    def net(text: str, nomatch: bool = False, *, stays: bool = False, name: str = "") -> Entry:
        address, _, length = text.partition("/")
        named = (InterfaceName(name),) if name else ()
        return Entry((Prefix(ip(address), int(length)), *named), nomatch, 0 if stays else 300)

    wide = net("10.0.0.0/8", stays=True)
    sets = (
        IpSet("there", SetType.HASH_NET, (net("10.0.0.0/24"),), Family.IPV4, timeout=300),
        IpSet("hidden", SetType.HASH_NET, (wide, net("10.0.0.0/24", True)), Family.IPV4, timeout=300),
        IpSet(
            "named",
            SetType.HASH_NET_IFACE,
            (net("10.0.0.0/8", stays=True, name="eth0"), net("10.0.0.0/24", name="eth1")),
            Family.IPV4,
            timeout=300,
        ),
        IpSet("always", SetType.HASH_NET, (wide,), Family.IPV4, timeout=300),
        IpSet("listed", SetType.LIST_SET, (Entry((Member("always"),), timeout=300),), timeout=300),
    )
    ways = (r.Direction.SOURCE, r.Direction.SOURCE)
    rules = tuple(r.Rule((r.Literal(r.MatchSet(s.name, ways)),)) for s in sets)
    setting = Setting(replace(host(), sets={s.name: s for s in sets}), rule_set(filter={"INPUT": rules}))
    yield setting, FromOutside("eth0"), Packet(ip("10.0.0.9"), ip("10.0.0.5"), 47, in_iface="eth0")


def _icmp6_in_ipv4() -> Trips:
    """ICMPv6 is a protocol that an IPv4 packet can have, though no type of it is looked at."""
    asks = (
        r.Rule((r.Literal(r.Protocol(ICMP6)), r.Literal(r.Icmp6Type(kind), negated)))
        for kind in (0, 128)
        for negated in (False, True)
    )
    setting = Setting(host(), rule_set(filter={"INPUT": tuple(asks)}))
    yield setting, FromOutside("eth0"), Packet(ip("10.0.0.9"), ip("10.0.0.5"), ICMP6, in_iface="eth0")


def _two_ways_back() -> Trips:
    """Of two routes to one prefix the better one is by another interface than the packet came in by."""
    for name in ("eth0", "eth1"):
        yield Setting(_two_6(), _asking(r.ReversePath())), FromOutside(name), _syn_6(name)


def _ip6(text: str) -> int:
    return read_address(text, Family.IPV6)


def _two_6() -> h.Host:
    def interface(name: str, text: str, length: int = 64) -> h.Interface:
        return h.Interface(name, (h.Address(_ip6(text), length, Family.IPV6),))

    far = Net.prefix(_ip6("2001:db8:9::"), 48, Family.IPV6)
    return h.Host(
        "host",
        (interface("lo", "::1", 128), interface("eth0", "2001:db8::5"), interface("eth1", "2001:db8:1::5")),
        (h.Route(far, "eth0", metric=1), h.Route(far, "eth1", metric=2)),
        dict(h.DEFAULTS_IPV6),
        family=Family.IPV6,
    )


def _asking(match: r.Match) -> r.RuleSet:
    """The raw table asks this of what arrives."""
    rule = r.Rule((r.Literal(match),))
    raw = r.Table("raw", {"PREROUTING": r.Chain("PREROUTING", r.Accept(), (rule,))})
    return r.RuleSet({"raw": raw}, Family.IPV6)


def _syn_6(name: str, dst: str = "2001:db8::5") -> Packet:
    return Packet(
        _ip6("2001:db8:9::1"), _ip6(dst), TCP, 4000, 80, int(TcpFlag.SYN), in_iface=name, family=Family.IPV6
    )


def by_rules(family: Family) -> Trips:
    """On hosts with routing rules."""
    if family is Family.IPV4:
        yield from _marked_and_suppressed()
    else:
        yield from _asked_by_interface()
        yield from _to_its_own_link()


def _asked_by_interface() -> Trips:
    """Rules that ask for an interface speak of a way back and of what the kernel answers; what a further table takes is local, but nobody may bind it."""
    asks = h.RoutingRule(None, out_iface="eth0", kind=h.RouteKind.PROHIBIT)
    asking = replace(_two_6(), policy=(asks, h.RoutingRule(h.MAIN)))
    yield Setting(asking, _asking(r.ReversePath())), FromOutside("eth0"), _syn_6("eth0")
    echo = replace(_syn_6("eth0"), proto=ICMP6, sport=0, dport=0, flags=0, icmp_type=128)
    yield Setting(asking, r.RuleSet({}, Family.IPV6), answers=True), FromOutside("eth0"), echo
    takes = {100: (h.Route(Net(0, 0, Family.IPV6), "lo", kind=h.RouteKind.LOCAL, metric=1024),)}
    taking = replace(_two_6(), policy=(h.RoutingRule(100),), tables=takes)
    asked = r.AddressType(destination=frozenset({r.RouteType.LOCAL}))
    yield Setting(taking, _asking(asked)), FromOutside("eth0"), _syn_6("eth0", "2001:db8:77::1")
    anyone = IdSet.read("any")
    dns = h.Process("dns", anyone, anyone, (h.Listener(53, protocol=UDP),))
    by_main = (h.RoutingRule(100, in_iface="eth0"), h.RoutingRule(h.MAIN))
    asked_there = replace(_syn_6("eth0", "2001:db8:77::1"), proto=UDP, dport=53, flags=0)
    answering = Setting(
        replace(taking, processes=(dns,), policy=by_main), r.RuleSet({}, Family.IPV6), answers=True
    )
    yield answering, FromOutside("eth0"), asked_there


def _to_its_own_link() -> Trips:
    """What goes over lo to a link-local address is marked, and a local route takes whatever has the mark."""
    near = h.Address(_ip6("fe80::5"), 64, Family.IPV6)
    two = _two_6()
    interfaces = tuple(
        replace(i, addresses=(*i.addresses, near)) if i.name == "eth0" else i for i in two.interfaces
    )
    takes = {100: (h.Route(Net(0, 0, Family.IPV6), "lo", kind=h.RouteKind.LOCAL, metric=1024),)}
    policy = (h.RoutingRule(100, mark=MarkMask(1)), h.RoutingRule(h.MAIN))
    anyone = IdSet.read("any")
    app = h.Process("app", anyone, anyone)
    where = replace(two, interfaces=interfaces, processes=(app,), policy=policy, tables=takes)
    marks = r.Chain("OUTPUT", r.Accept(), (r.Rule((), r.SetMark(MarkMask(1))),))
    rules = r.RuleSet({"mangle": r.Table("mangle", {"OUTPUT": marks})}, Family.IPV6)
    sent = Packet(near.ip, near.ip, UDP, 4000, 53, uid=1, gid=1, family=Family.IPV6)
    yield Setting(where, rules), FromProcess("app"), sent


def _marked_and_suppressed() -> Trips:
    """A route as long as what is suppressed, and a proxy whose mark leads to another source."""
    eth1 = h.Interface("eth1", (h.Address(ip("10.0.1.9"), 24),))
    far = {100: (h.Route(Net(0, 0), "eth1"),)}
    two = replace(
        host(),
        interfaces=(*host().interfaces, eth1),
        sysctls={**h.DEFAULTS, "net.ipv4.ip_forward": 1},
        tables=far,
    )
    frame = Packet(ip("10.0.1.77"), ip("10.0.0.77"), 47, in_iface="eth1")
    suppressed = (h.RoutingRule(h.MAIN, suppress=24), h.RoutingRule(100))
    yield Setting(replace(two, policy=suppressed), rule_set()), FromOutside("eth1"), frame

    anyone = IdSet.read("any")
    route = h.ProxyRoute((h.Dial(ip("8.8.8.8"), 80),), h.KernelChooses())
    proxy = h.Process("proxy", anyone, anyone, (h.Listener(15001),), (h.Proxy("p", 15001, (route,)),), mark=1)
    marked = replace(
        two, processes=(proxy,), policy=(h.RoutingRule(100, mark=MarkMask(1)), h.RoutingRule(h.MAIN))
    )
    syn = Packet(ip("10.0.0.9"), ip("10.0.0.5"), TCP, 4000, 15001, int(TcpFlag.SYN), in_iface="eth0")
    yield Setting(marked, rule_set()), FromOutside("eth0"), syn
