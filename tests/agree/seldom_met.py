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
from verifier.values import (
    TCP,
    UDP,
    Family,
    Ids,
    IdSet,
    Ipv6Extension,
    MarkMask,
    Net,
    Span,
    TcpFlag,
    read_address,
)

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
        yield from _asked_of_sockets()
        yield from _asked_of_headers()
        yield from _before_the_local_table()
    else:
        yield from _asked_by_interface()
        yield from _to_its_own_link()
        yield from _asked_of_sockets_6()
        yield from _without_sources()


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


def _two(*policy: h.RoutingRule, **sysctls: int) -> h.Host:
    """What a rule has looked up in table 100 goes by eth1, all else by eth0."""
    eth1 = h.Interface("eth1", (h.Address(ip("10.0.1.9"), 24),))
    anyone = IdSet.read("any")
    return replace(
        host(h.Process("app", anyone, anyone)),
        interfaces=(*host().interfaces, eth1),
        routes=(h.Route(Net(0, 0), "eth0"),),
        policy=(*policy, h.RoutingRule(h.MAIN)),
        tables={100: (h.Route(Net(0, 0), "eth1"),)},
        sysctls={**h.DEFAULTS, **{f"net.ipv4.conf.all.{key}": value for key, value in sysctls.items()}},
    )


def _dialling(where: h.Host, to: h.Dial) -> h.Host:
    anyone = IdSet.read("any")
    proxy = h.Proxy("p", 15001, (h.ProxyRoute((to,), h.KernelChooses()),))
    return replace(where, processes=(h.Process("app", anyone, anyone, (h.Listener(15001),), (proxy,)),))


MARKS_ALL = r.Rule((), r.SetMark(MarkMask(1)))
ALL_PORTS = Span(1, 0xFFFE)


def _asked_of_sockets() -> Trips:
    """Uids near the ends of a range, first and where mangle has the route asked for anew; ports that a socket has too late."""
    away = Packet(ip("10.0.0.5"), ip("8.8.8.8"), TCP, 4000, 80, int(TcpFlag.SYN), uid=1500, gid=1)
    by_uid = _two(h.RoutingRule(100, uids=Ids(1000, 1999)))
    for uid in (999, 1000, 1999, 2000):
        yield Setting(by_uid, rule_set()), FromProcess("app"), replace(away, uid=uid)
    yield Setting(by_uid, rule_set(mangle={"OUTPUT": (MARKS_ALL,)})), FromProcess("app"), away
    of_tcp = _two(h.RoutingRule(100, in_iface="lo", protocol=TCP))
    yield Setting(of_tcp, rule_set(mangle={"OUTPUT": (MARKS_ALL,)})), FromProcess("app"), away
    by_tos = _two(h.RoutingRule(100, tos=0x10))
    for tos in (0x10, 0x12, 0xF0, 0x14):
        yield Setting(by_tos, rule_set()), FromProcess("app"), replace(away, tos=tos)
    by_port = _two(h.RoutingRule(100, source_ports=ALL_PORTS))
    syn = Packet(ip("10.0.0.9"), ip("10.0.0.5"), TCP, 80, 15001, int(TcpFlag.SYN), in_iface="eth0")
    yield Setting(_dialling(by_port, h.Dial(ip("8.8.8.8"), 80)), rule_set()), FromOutside("eth0"), syn


def _asked_of_headers() -> Trips:
    """The way back has the ports the other way round, where the kernel looks at all; what has others, or none, is not known."""
    there = Packet(ip("8.8.8.8"), ip("10.0.0.5"), TCP, 4000, 80, int(TcpFlag.SYN))
    strict = _two(h.RoutingRule(100, source_ports=Span.one(80)), rp_filter=1)
    only_sent = _two(h.RoutingRule(100, in_iface="lo", source_ports=Span.one(80)), rp_filter=1)
    asking = Setting(_two(h.RoutingRule(100, protocol=TCP)), rule_set(raw={"PREROUTING": (BACK,)}))
    for name in ("eth0", "eth1"):
        yield Setting(strict, rule_set()), FromOutside(name), replace(there, in_iface=name)
        yield Setting(only_sent, rule_set()), FromOutside(name), replace(there, in_iface=name)
        yield asking, FromOutside(name), replace(there, in_iface=name)
    by_port = Setting(_two(h.RoutingRule(100, destination_ports=Span.one(80))), rule_set(), answers=True)
    esp = replace(there, proto=50, sport=0, dport=0, flags=0, in_iface="eth0")
    yield by_port, FromOutside("eth0"), esp
    yield by_port, FromOutside("eth0"), replace(esp, proto=1, icmp_type=8)
    yield by_port, FromProcess("app"), Packet(ip("10.0.0.5"), ip("8.8.8.8"), 1, icmp_type=8, uid=1, gid=1)


BACK = r.Rule((r.Literal(r.ReversePath()),))


def _before_the_local_table() -> Trips:
    """A rule that stands before the local table's takes what is for the host itself, or for a subnet, elsewhere."""

    def two(before: h.RoutingRule, **sysctls: int) -> h.Host:
        return replace(_two(**sysctls), before_local=(before,))

    own, other, everyone = ip("10.0.0.5"), ip("10.0.1.9"), ip("10.0.0.255")
    to_own = two(h.RoutingRule(100, destination=Net.prefix(own, 32)))
    sent = Packet(own, own, UDP, 4000, 53, uid=1, gid=1)
    yield Setting(to_own, rule_set()), FromProcess("app"), sent
    forwarding = replace(to_own, sysctls={**to_own.sysctls, "net.ipv4.ip_forward": 1})
    frame = Packet(ip("8.8.8.8"), own, UDP, 4000, 53, in_iface="eth0")
    yield Setting(forwarding, rule_set()), FromOutside("eth0"), frame
    from_itself = two(h.RoutingRule(100, destination=Net.prefix(other, 32)))
    spoofed = replace(frame, src=other)
    yield (
        Setting(from_itself, rule_set(raw={"PREROUTING": (BACK,)})),
        FromOutside("eth1"),
        replace(spoofed, in_iface="eth1"),
    )
    syn = Packet(ip("10.0.0.9"), own, TCP, 4000, 15001, int(TcpFlag.SYN), in_iface="eth0")
    to_lo = two(h.RoutingRule(100, in_iface="lo", destination=Net.prefix(own, 32)))
    yield Setting(_dialling(to_lo, h.Dial(own, 80)), rule_set()), FromOutside("eth0"), syn
    to_all = two(h.RoutingRule(100, destination=Net.prefix(everyone, 32), mark=MarkMask(0, 1)))
    yield Setting(to_all, rule_set()), FromProcess("app"), replace(sent, dst=everyone)
    marking = Setting(to_all, rule_set(mangle={"OUTPUT": (MARKS_ALL,)}))
    yield marking, FromProcess("app"), replace(sent, dst=everyone)
    by_mark = two(h.RoutingRule(100, mark=MarkMask(1)))
    by_mark = replace(by_mark, sysctls={**by_mark.sysctls, "net.ipv4.ip_forward": 1})
    answered = Setting(by_mark, rule_set(mangle={"PREROUTING": (MARKS_ALL,)}), answers=True)
    yield answered, FromProcess("app"), replace(sent, dst=ip("8.8.8.8"))


EVERY_6 = Net(0, 0, Family.IPV6)


def _ruled_6(*policy: h.RoutingRule) -> h.Host:
    """As `_two`."""
    anyone = IdSet.read("any")
    return replace(
        _two_6(),
        routes=(h.Route(EVERY_6, "eth0", metric=1024),),
        policy=(*policy, h.RoutingRule(h.MAIN)),
        tables={100: (h.Route(EVERY_6, "eth1", metric=1024),)},
        processes=(h.Process("app", anyone, anyone),),
    )


def _without_sources() -> Trips:
    """`::` is no source of a lookup that has none; what is suppressed leads somewhere; and a SYN that is sent again has its source."""
    bars = h.RoutingRule(None, source=Net.prefix(0, 16, Family.IPV6), kind=h.RouteKind.PROHIBIT)
    unreachable = r.AddressType(destination=frozenset({r.RouteType.UNREACHABLE}))
    beyond = _syn_6("eth0", "3000::1")
    yield Setting(_ruled_6(bars), _asking(unreachable)), FromOutside("eth0"), beyond
    nothing = r.RuleSet({}, Family.IPV6)
    barred = replace(
        _ruled_6(h.RoutingRule(100, suppress=0)),
        tables={100: (h.Route(EVERY_6, None, kind=h.RouteKind.BLACKHOLE, metric=1024),)},
        sysctls={**h.DEFAULTS_IPV6, "net.ipv6.conf.all.forwarding": 1},
    )
    yield Setting(barred, nothing), FromOutside("eth0"), beyond
    asks = h.RoutingRule(100, source=Net.prefix(_ip6("2001:db8::"), 64, Family.IPV6))
    dialling = _dialling(_ruled_6(asks), h.Dial(_ip6("3000::1"), 80, Family.IPV6))
    yield Setting(dialling, nothing), FromOutside("eth0"), replace(_syn_6("eth0"), dport=15001)


def _asked_of_sockets_6() -> Trips:
    """As in IPv4, but that uids are known longer, TCP goes by its first lookup, a way back tells the protocol, and AH hides it."""
    marks = r.Table("mangle", {"OUTPUT": r.Chain("OUTPUT", r.Accept(), (MARKS_ALL,))})
    away = replace(
        _syn_6("eth0"), src=_ip6("2001:db8::5"), dst=_ip6("3000::1"), in_iface=None, uid=1500, gid=1
    )
    by_uid = _ruled_6(h.RoutingRule(100, uids=Ids(1000, 1999)))
    yield Setting(by_uid, r.RuleSet({"mangle": marks}, Family.IPV6)), FromProcess("app"), away
    nothing = r.RuleSet({}, Family.IPV6)
    by_port = _ruled_6(h.RoutingRule(100, source_ports=ALL_PORTS))
    yield Setting(by_port, nothing), FromProcess("app"), away
    syn = replace(_syn_6("eth0"), sport=80, dport=15001)
    dialling = _dialling(by_port, h.Dial(_ip6("3000::1"), 80, Family.IPV6))
    yield Setting(dialling, nothing), FromOutside("eth0"), syn
    of_tcp = _ruled_6(h.RoutingRule(100, protocol=TCP))
    yield Setting(of_tcp, _asking(r.ReversePath())), FromOutside("eth0"), _syn_6("eth0")
    headers = Ipv6Extension.PROTO | Ipv6Extension.AUTH
    hidden = replace(_syn_6("eth0"), extensions=int(headers), spi=7)
    yield Setting(of_tcp, _asking(r.Ah(0, 9))), FromOutside("eth0"), hidden
