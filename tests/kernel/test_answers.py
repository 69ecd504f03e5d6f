"""What comes back, and what TPROXY does, by real sockets: the kernel does as each example says, and the concrete wing tells the same."""

from __future__ import annotations

import pytest
from msgspec import Struct
from msgspec.structs import replace

from verifier.concrete.claims import of_answer
from verifier.concrete.travel import can_send, travel
from verifier.fuzzing.run import BACKENDS
from verifier.hosts import (
    DEFAULTS_IPV6,
    MAIN,
    Address,
    Host,
    Interface,
    Listener,
    Process,
    Route,
    RouteKind,
    RoutingRule,
    Setting,
)
from verifier.journeys import FromOutside, FromProcess
from verifier.kernel.iptables import BackendName
from verifier.packets import Packet
from verifier.reading.rules import read_rules
from verifier.values import ICMPV6, TCP, UDP, Family, Ids, IdSet, MarkMask, Net, Span, TcpFlag, read_address

from .answering import NOTHING, RETURNED, Ground, told
from .facts import Fact
from .hosts import host, interface, route

pytestmark = pytest.mark.kernel

FIVE, ANY = IdSet.read("5"), IdSet.read("any")
ETH0, ETH1 = interface("eth0", "10.0.0.5/24", "10.0.0.6/24"), interface("eth1", "10.0.1.5/24")
ENVOY = Listener(15006, transparent=True)
LISTENS = (Listener(80), Listener(53, protocol=UDP))


class Example(Struct, frozen=True):
    """`rules` and `sends` as of a Fact; `comes` is `returned`, `nothing`, or `IF SRC PORT > DST PORT` (of ICMP without ports)."""

    name: str
    rules: tuple[str, ...]
    sends: str
    comes: str
    sysctls: tuple[str, ...] = ()
    """Of net.ipv4, each with the value 1."""
    listens: tuple[Listener, ...] = LISTENS
    policy: tuple[RoutingRule, ...] = ()
    gateway: bool = True
    """Whether there is a default route, by eth0."""
    device: str | None = None
    """To which the sender's socket is bound."""

    def __str__(self) -> str:
        return self.name

    def host(self, backend: BackendName) -> Host:
        made = host(
            ETH0,
            ETH1,
            routes=(route("0.0.0.0/0", "eth0", via="10.0.0.1"),) if self.gateway else (),
            processes=(Process("server", FIVE, FIVE, self.listens), Process("app", ANY, ANY, device="eth1")),
            sysctls=dict.fromkeys(self.sysctls, 1),
        )
        tables = {100: (TAKEN,), 2: (route("0.0.0.0/0", "eth1", via="10.0.1.1"),)} if self.policy else {}
        return replace(made, backend=BACKENDS[backend], policy=self.policy, tables=tables)


TAKEN = Route(Net.read("0.0.0.0/0"), "lo", kind=RouteKind.LOCAL)
TAKES = (RoutingRule(100, mark=MarkMask(1, 1)), RoutingRule(MAIN))
"""What has mark 1 is for this host."""
BY_MARK = (RoutingRule(2, mark=MarkMask(2, 2)), RoutingRule(MAIN))
"""What has mark 2 goes by eth1."""

TO_80 = "eth0 tcp 8.8.8.8:40000 > 10.0.0.5:80"
TO_8080 = "eth0 tcp 8.8.8.8:40000 > 10.0.0.5:8080"
OUT = "app tcp 10.0.0.5:40000 > 9.9.9.9:80"
TO_SELF = "app tcp 127.0.0.1:40000 > 127.0.0.1:8080"
THROUGH = "eth1 tcp 10.0.1.9:40000 > 9.9.9.9:80"
BACK = "eth0 10.0.0.5 80 > 8.8.8.8 40000"
BACK_8080 = "eth0 10.0.0.5 8080 > 8.8.8.8 40000"
BACK_THROUGH = "eth1 9.9.9.9 80 > 10.0.1.9 40000"
FORWARDS = ("ip_forward",)
SNAT = "nat -A POSTROUTING -p tcp -j SNAT --to-source 10.0.0.6:7000"
TRACKED = "filter -A FORWARD -m conntrack --ctstate NEW -m mark --mark 99"
"""A rule that switches conntrack on, and matches nothing."""
ONLY_KNOWN = ("filter -P INPUT DROP", "filter -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT")
TPROXY = "mangle -A PREROUTING -p tcp -j TPROXY --on-port 15006 --tproxy-mark 1/1"
TO_OTHERS = "eth0 tcp 8.8.8.8:40000 > 9.9.9.9:443"
FROM_OTHERS = "eth0 9.9.9.9 443 > 8.8.8.8 40000"

EXAMPLES = (
    # -- who answers
    Example("a listener answers from where it was asked", (), TO_80, BACK),
    Example("a far machine's answer comes to its socket", (), OUT, RETURNED),
    Example("over lo too", (), "app tcp 127.0.0.1:40000 > 127.0.0.1:80", RETURNED),
    Example("nobody answers where nobody listens", (), "eth0 tcp 8.8.8.8:40000 > 10.0.0.5:81", NOTHING),
    Example("a datagram is answered", (), "eth0 udp 8.8.8.8:40000 > 10.0.0.6:53", "eth0 10.0.0.6 53 > 8.8.8.8 40000"),
    Example("and its answer comes back", (), "app udp 10.0.0.5:40000 > 9.9.9.9:53", RETURNED),
    Example("the kernel answers an echo request", (), "eth0 icmp 8.8.8.8 > 10.0.0.6", "eth0 10.0.0.6 > 8.8.8.8"),
    # -- NAT
    Example("DNAT is undone", ("nat -A PREROUTING -p tcp -j DNAT --to-destination 10.0.0.6:80",), TO_8080, BACK_8080),
    Example("and so is REDIRECT", ("nat -A PREROUTING -p tcp -j REDIRECT --to-ports 80",), TO_8080, BACK_8080),
    Example("over lo, REDIRECT of what was for others", ("nat -A OUTPUT -p tcp -j REDIRECT --to-ports 80",), OUT, RETURNED),
    Example("over lo, REDIRECT of a port", ("nat -A OUTPUT -p tcp -j REDIRECT --to-ports 80",), TO_SELF, RETURNED),
    Example("SNAT of what is sent", (SNAT,), OUT, RETURNED),
    Example("SNAT at INPUT", ("nat -A INPUT -p tcp -j SNAT --to-source 10.77.0.1:7000",), TO_80, BACK),
    Example("DNAT of what is sent", ("nat -A OUTPUT -p tcp -j DNAT --to-destination 7.7.7.7:81",), OUT, RETURNED),
    Example("what is forwarded", (), THROUGH, BACK_THROUGH, FORWARDS),
    Example("MASQUERADE of what is forwarded", ("nat -A POSTROUTING -o eth0 -j MASQUERADE",), THROUGH, BACK_THROUGH, FORWARDS),
    Example("DNAT of what is forwarded", ("nat -A PREROUTING -p tcp -j DNAT --to-destination 7.7.7.7:81",), THROUGH, BACK_THROUGH, FORWARDS),
    Example(
        "5 nat is not asked about answers",
        ("nat -A PREROUTING -i eth0 -p tcp -j DNAT --to-destination 10.0.1.77", TRACKED), THROUGH, BACK_THROUGH, FORWARDS,
    ),
    # -- its state
    Example("67 an answer is ESTABLISHED", ONLY_KNOWN, OUT, RETURNED),
    Example("67 which may be dropped", ("filter -A INPUT -m conntrack --ctstate ESTABLISHED -j DROP",), OUT, NOTHING),
    Example("67 and is none that is NEW", ("filter -A INPUT -m conntrack --ctstate NEW -j DROP",), OUT, RETURNED),
    Example("67 a SYN-ACK is", ("filter -A OUTPUT -m conntrack --ctstate ESTABLISHED -j DROP",), TO_80, NOTHING),
    Example("67 and an echo reply", ("filter -A OUTPUT -m conntrack --ctstate ESTABLISHED -j DROP",), "eth0 icmp 8.8.8.8 > 10.0.0.6", NOTHING),
    Example("in raw an answer is INVALID", ("raw -A PREROUTING -m conntrack --ctstate INVALID -j DROP",), OUT, NOTHING),
    Example("69 an answer has the status of its connection", (SNAT, "filter -P INPUT DROP", "filter -A INPUT -m conntrack --ctstate SNAT -j ACCEPT"), OUT, RETURNED),
    Example("69 and is its reply", ("filter -A INPUT -m conntrack --ctdir REPLY -j DROP",), OUT, NOTHING),
    Example("93 what answers an untracked SYN is INVALID", (*ONLY_KNOWN, "raw -A OUTPUT -j CT --notrack"), OUT, NOTHING),
    Example("93 what answers an untracked datagram is NEW", (*ONLY_KNOWN, "raw -A OUTPUT -j CT --notrack"), "app udp 10.0.0.5:40000 > 9.9.9.9:53", NOTHING),
    Example("8 an untracked answer is not translated", (SNAT, "raw -A PREROUTING -j CT --notrack"), OUT, NOTHING),
    Example("8 and without a translation comes back", (TRACKED, "raw -A PREROUTING -j CT --notrack"), OUT, RETURNED),
    # -- zones
    *(
        Example(
            f"93 sent with {there}, answered with {here or 'none'}",
            (*ONLY_KNOWN, f"raw -A OUTPUT -j CT {there}", *([f"raw -A PREROUTING -j CT {here}"] if here else [])), OUT, comes,
        )
        for there, here, comes in (
            ("--zone 1", "--zone 1", RETURNED),
            ("--zone 1", "--zone 2", NOTHING),
            ("--zone 1", None, NOTHING),
            ("--zone 1", "--zone-reply 1", RETURNED),
            ("--zone 1", "--zone-orig 1", NOTHING),
            ("--zone-orig 1", None, RETURNED),
            ("--zone-orig 1", "--zone-orig 2", RETURNED),
            ("--zone-reply 1", None, NOTHING),
            ("--zone-reply 1", "--zone-reply 1", RETURNED),
        )
    ),
    Example("93 the first template counts", (*ONLY_KNOWN, "raw -A OUTPUT -j CT --zone 1", "raw -A OUTPUT -j CT --zone 2", "raw -A PREROUTING -j CT --zone 1"), OUT, RETURNED),
    # -- who has sent it, and where it goes
    Example("42 a SYN-ACK is its listener's", ("filter -A OUTPUT -m owner --uid-owner 5 -j DROP",), TO_80, NOTHING),
    Example("42 and nobody else's", ("filter -A OUTPUT -m owner ! --uid-owner 5 -j DROP",), TO_80, BACK),
    Example("42 an echo reply is nobody's", ("filter -A OUTPUT -m owner --uid-owner 0-65535 -j DROP",), "eth0 icmp 8.8.8.8 > 10.0.0.6", "eth0 10.0.0.6 > 8.8.8.8"),
    Example("a mark in mangle sends an answer another way", ("mangle -A OUTPUT -j MARK --set-mark 2",), TO_80, BACK.replace("eth0", "eth1"), policy=BY_MARK),
    Example(
        "a connection's mark sends it there",
        ("mangle -A PREROUTING -j CONNMARK --set-mark 2", "mangle -A OUTPUT -j CONNMARK --restore-mark"), TO_80, BACK.replace("eth0", "eth1"), policy=BY_MARK,
    ),
    *(
        Example(f"{what} goes by {named}", rules, sends, comes.replace("eth0", "eth1") if away else comes, policy=(rule, RoutingRule(MAIN)))
        for named, rule, ways in (
            ("its listener's uid", RoutingRule(2, uids=Ids(5, 5)), (True, False, False)),
            ("uid 0", RoutingRule(2, uids=Ids(0, 0)), (False, True, True)),
            ("its protocol and ports", RoutingRule(2, protocol=TCP, source_ports=Span.one(80)), (True, False, True)),
            ("what is asked of it alone", RoutingRule(2, in_iface="lo", destination_ports=Span.one(40000), protocol=TCP), (True, False, False)),
        )
        for (what, rules, sends, comes), away in zip(
            (
                ("a SYN-ACK", (), TO_80, BACK),
                ("an echo reply", (), "eth0 icmp 8.8.8.8 > 10.0.0.6", "eth0 10.0.0.6 > 8.8.8.8"),
                ("a SYN-ACK that is routed anew", ("mangle -A OUTPUT -j MARK --set-mark 1",), TO_80, BACK),
            ),
            ways,
            strict=True,
        )
    ),
    Example("and in filter it does not", ("filter -A OUTPUT -j MARK --set-mark 2",), TO_80, BACK, policy=BY_MARK),
    Example("an answer goes by the route of its destination", (), "eth1 tcp 8.8.8.8:40000 > 10.0.1.5:80", "eth0 10.0.1.5 80 > 8.8.8.8 40000"),
    Example("but that of a socket with a device by that", (), "eth1 tcp 8.8.8.8:40000 > 10.0.1.5:80", "eth1 10.0.1.5 80 > 8.8.8.8 40000", listens=(Listener(80, device="eth1"),)),
    Example("where there is no way to who asked there is no answer", (), TO_80, NOTHING, gateway=False),
    Example("and there is to a neighbour", (), "eth0 tcp 10.0.0.9:40000 > 10.0.0.5:80", "eth0 10.0.0.5 80 > 10.0.0.9 40000", gateway=False),
    Example("rp_filter: an answer by another interface is a martian", (), "app tcp 10.0.1.5:40000 > 9.9.9.9:80", NOTHING, ("conf.all.rp_filter",), device="eth1"),
    Example("rp_filter: and by the right one it is none", (), OUT, RETURNED, ("conf.all.rp_filter",)),
    Example("a socket with a device gets what comes by it", (), "app tcp 10.0.1.5:40000 > 9.9.9.9:80", RETURNED, device="eth1"),
    # -- TPROXY
    Example("92 TPROXY gives a transparent listener what is for others", (TPROXY,), TO_OTHERS, FROM_OTHERS, FORWARDS, (ENVOY,), TAKES),
    Example("92 and drops it without a listener", (TPROXY,), TO_OTHERS, NOTHING, FORWARDS, LISTENS, TAKES),
    Example("92 and for one that is not transparent", (TPROXY,), TO_OTHERS, NOTHING, FORWARDS, (Listener(15006),), TAKES),
    Example("92 also what is for a listener here, if it finds none", (TPROXY,), TO_80, NOTHING),
    Example("92 what is for this host needs no rule", (TPROXY,), TO_80, BACK, (), (ENVOY,)),
    Example("92 what would be forwarded is lost", (TPROXY,), TO_OTHERS, NOTHING, FORWARDS, (ENVOY,)),
    Example("92 without a port the packet's own counts", (TPROXY.replace("15006", "0"),), TO_OTHERS, FROM_OTHERS, FORWARDS, (Listener(443, transparent=True),), TAKES),
    Example("92 the interface's first address is looked for", (TPROXY,), TO_OTHERS, FROM_OTHERS, FORWARDS, (Listener(15006, read_address("10.0.0.5"), transparent=True),), TAKES),
    Example("92 and no other", (TPROXY,), TO_OTHERS, NOTHING, FORWARDS, (Listener(15006, read_address("10.0.0.6"), transparent=True),), TAKES),
    Example("92 but where it is given", (f"{TPROXY} --on-ip 10.0.0.6",), TO_OTHERS, FROM_OTHERS, FORWARDS, (Listener(15006, read_address("10.0.0.6"), transparent=True),), TAKES),
    Example("92 a listener's device is the in-interface", (TPROXY,), TO_OTHERS, NOTHING, FORWARDS, (Listener(15006, device="eth1", transparent=True),), TAKES),
    Example(
        "92 what NAT changes after all is its listener's too",
        (TPROXY, "nat -A PREROUTING -p tcp -j DNAT --to-destination 10.0.0.6:81"), TO_OTHERS, FROM_OTHERS, FORWARDS, (ENVOY,), TAKES,
    ),
)  # fmt: skip


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_what_comes_back_is_what_is_told(example: Example, backend: BackendName) -> None:
    fact = Fact(example.name, example.rules, example.sends, "")
    sender, packet = fact.packet()
    assert (
        _seen(example.host(backend), fact.text(), sender, replace(packet, device=example.device), backend)
        == example.comes
    )


def _seen(
    where: Host, text: str, sender: FromOutside | FromProcess, packet: Packet, backend: BackendName
) -> str:
    """What became of the answer in the kernel, which is what the concrete wing tells."""
    text = text.strip("\n") + "\n" if text.strip() else "*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n"
    rules = read_rules(text, "an example", family=where.family).families[where.family]
    setting = Setting(where, rules, answers=True)
    assert not isinstance(sender, FromProcess) or can_send(setting, sender.process, packet)
    with Ground(setting, text, backend) as ground:
        seen = ground.answer(sender, packet)
    assert told(of_answer(travel(setting, sender, packet), 0)) == seen
    return seen


def test_tproxy_takes_what_comes_over_lo(backend: BackendName) -> None:
    """Its answer goes back over lo, and finds the socket that asked; the rule speaks of no answer."""
    rules = ("mangle -A PREROUTING -p tcp --dport 80 -j TPROXY --on-port 15006",)
    fact = Fact("over lo", rules, "app tcp 10.0.0.5:40000 > 10.0.0.6:80", "")
    where = Example("over lo", rules, "", "", listens=(ENVOY,)).host(backend)
    assert _seen(where, fact.text(), *fact.packet(), backend) == RETURNED


# -- IPv6 -------------------------------------------------------------------------------------------


def at(text: str) -> int:
    return read_address(text, Family.IPV6)


def net(text: str) -> Net:
    address, length = text.split("/")
    return Net.prefix(at(address), int(length), Family.IPV6)


def six(*listens: Listener) -> Host:
    def arm(name: str, address: str, length: int = 64) -> Interface:
        return Interface(name, (Address(at(address), length, Family.IPV6),))

    routes = (
        Route(net("2001:db8::/64"), "eth0", metric=256),
        Route(net("2001:db8:1::/64"), "eth1", metric=256),
        Route(net("::/0"), "eth0", at("2001:db8::1"), metric=1024),
    )
    return Host(
        "six",
        (arm("lo", "::1", 128), arm("eth0", "2001:db8::5"), arm("eth1", "2001:db8:1::5")),
        routes,
        {**DEFAULTS_IPV6, "net.ipv6.conf.all.forwarding": 1},
        (Process("server", FIVE, FIVE, listens), Process("app", ANY, ANY)),
        family=Family.IPV6,
    )


HERE, FAR, INNER = at("2001:db8::5"), at("2001:db8:77::1"), at("2001:db8:1::9")
ASKED = Packet(FAR, HERE, TCP, 40000, 80, TcpFlag.SYN, family=Family.IPV6)
SENT = replace(ASKED, src=HERE, dst=FAR, uid=1000, gid=1000)
BACK_6 = "eth0 2001:db8::5 80 > 2001:db8:77::1 40000"
SIX = (
    ("a listener answers", "", "eth0", ASKED, Listener(80), BACK_6),
    ("an answer comes to its socket", "", "app", SENT, Listener(80), RETURNED),
    ("an echo request", "", "eth0", Packet(FAR, HERE, ICMPV6, icmp_type=128, family=Family.IPV6), Listener(80),
     "eth0 2001:db8::5 > 2001:db8:77::1"),
    ("REDIRECT", "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp -j REDIRECT --to-ports 81\nCOMMIT\n", "eth0",
     ASKED, Listener(81), BACK_6),
    ("MASQUERADE", "*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -o eth0 -j MASQUERADE\nCOMMIT\n", "eth1",
     replace(ASKED, src=INNER, dst=FAR), Listener(80), "eth1 2001:db8:77::1 80 > 2001:db8:1::9 40000"),
    ("ESTABLISHED", "*filter\n:INPUT DROP [0:0]\n-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT\nCOMMIT\n", "app",
     SENT, Listener(80), RETURNED),
    ("NOTRACK", "*raw\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -j CT --notrack\nCOMMIT\n"
     "*filter\n:INPUT DROP [0:0]\n-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT\nCOMMIT\n", "app",
     SENT, Listener(80), NOTHING),
    *(
        (f"TPROXY: {name}", "*mangle\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp -j TPROXY --on-port 15006\nCOMMIT\n", "eth0",
         packet, listener, comes)
        for name, packet, listener, comes in (
            ("found", ASKED, ENVOY, BACK_6),
            ("not transparent", ASKED, Listener(15006), NOTHING),
            ("would be forwarded", replace(ASKED, src=INNER, dst=FAR), ENVOY, NOTHING),
        )
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "who", "packet", "listener", "comes"),
    [tuple(rest) for _, *rest in SIX],
    ids=[name for name, *_ in SIX],
)
def test_in_ipv6_too(
    text: str, who: str, packet: Packet, listener: Listener, comes: str, backend: BackendName
) -> None:
    sender = FromProcess("app") if who == "app" else FromOutside(who)
    where = replace(six(listener), backend=BACKENDS[backend])
    assert _seen(where, text, sender, packet, backend) == comes


EVERY_6 = Net(0, 0, Family.IPV6)
TABLES_6 = {
    100: (Route(EVERY_6, "lo", kind=RouteKind.LOCAL, metric=1024),),
    2: (Route(EVERY_6, "eth1", at("2001:db8:1::1"), metric=1024),),
}
TAKEN_6 = at("2001:db8:99::1")
ECHO = Packet(FAR, HERE, ICMPV6, icmp_type=128, family=Family.IPV6)
TPROXY_6 = "*mangle\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp --syn -j TPROXY --on-port 15006 --tproxy-mark 1/1\nCOMMIT\n"
MARKED_6 = "*mangle\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -j MARK --set-mark 2\nCOMMIT\n"
TO_TAKEN = RoutingRule(100, destination=net("2001:db8:99::/48"))
FROM_HERE = RoutingRule(2, source=net("2001:db8::5/128"))
SIX_BY_RULES = (
    ("TPROXY, as it is set up", TAKES, TPROXY_6, "eth0", replace(ASKED, dst=TAKEN_6), ENVOY,
     "eth0 2001:db8:99::1 80 > 2001:db8:77::1 40000"),
    ("a listener answers from an address that is taken", (TO_TAKEN,), "", "eth0", replace(ASKED, dst=TAKEN_6), Listener(80),
     "eth0 2001:db8:99::1 80 > 2001:db8:77::1 40000"),
    ("the kernel does so too", (TO_TAKEN,), "", "eth0", replace(ECHO, dst=TAKEN_6), Listener(80),
     "eth0 2001:db8:99::1 > 2001:db8:77::1"),
    ("over lo", (TO_TAKEN,), "", "app", replace(SENT, dst=TAKEN_6), Listener(80), RETURNED),
    ("by the rule of its source", (FROM_HERE,), "", "eth0", ASKED, Listener(80), BACK_6.replace("eth0", "eth1")),
    ("an echo too", (FROM_HERE,), "", "eth0", ECHO, Listener(80), "eth1 2001:db8::5 > 2001:db8:77::1"),
    ("by the mark of mangle", BY_MARK, MARKED_6, "eth0", ASKED, Listener(80), BACK_6.replace("eth0", "eth1")),
    ("an echo is asked by which interface it came", (RoutingRule(2, out_iface="eth0"),), "", "eth0", ECHO, Listener(80),
     "eth1 2001:db8::5 > 2001:db8:77::1"),
    ("and a socket that is bound to none is not", (RoutingRule(2, out_iface="eth0"),), "", "eth0", ASKED, Listener(80), BACK_6),
    ("one that is bound has its own way alone", (RoutingRule(2, out_iface="eth0"),), "", "eth0", ASKED,
     Listener(80, device="eth0"), BACK_6),
    ("what is taken reads as local", (TO_TAKEN,),
     "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m addrtype ! --dst-type LOCAL -j DROP\nCOMMIT\n", "eth0",
     replace(ASKED, dst=TAKEN_6), Listener(80), "eth0 2001:db8:99::1 80 > 2001:db8:77::1 40000"),
    ("what has no source is not from ::",
     (RoutingRule(None, net("::/1"), net("2001:db8:77::/48"), in_iface="lo", kind=RouteKind.PROHIBIT),),
     "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -m addrtype --dst-type UNREACHABLE -j DROP\nCOMMIT\n", "eth1",
     replace(ASKED, src=INNER, dst=FAR), Listener(80), "eth1 2001:db8:77::1 80 > 2001:db8:1::9 40000"),
    ("by its listener's uid", (RoutingRule(2, uids=Ids(5, 5)),), MARKED_6, "eth0", ASKED, Listener(80), BACK_6.replace("eth0", "eth1")),
    ("an echo by uid 0", (RoutingRule(2, uids=Ids(0, 0)),), MARKED_6, "eth0", ECHO, Listener(80), "eth1 2001:db8::5 > 2001:db8:77::1"),
    ("by its ports", (RoutingRule(2, source_ports=Span.one(80)),), "", "eth0", ASKED, Listener(80), BACK_6.replace("eth0", "eth1")),
    ("no way back", (RoutingRule(None, source=net("2001:db8::5/128"), kind=RouteKind.UNREACHABLE),), "", "eth0", ASKED,
     Listener(80), NOTHING),
)  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "text", "who", "packet", "listener", "comes"),
    [tuple(rest) for _, *rest in SIX_BY_RULES],
    ids=[name for name, *_ in SIX_BY_RULES],
)
def test_in_ipv6_answers_ask_routing_rules(
    policy: tuple[RoutingRule, ...],
    text: str,
    who: str,
    packet: Packet,
    listener: Listener,
    comes: str,
    backend: BackendName,
) -> None:
    sender = FromProcess("app") if who == "app" else FromOutside(who)
    where = replace(
        six(listener),
        backend=BACKENDS[backend],
        policy=(*policy, RoutingRule(MAIN)),
        tables=TABLES_6,
    )
    assert _seen(where, text, sender, packet, backend) == comes
