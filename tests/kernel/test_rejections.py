"""What REJECT sends back: the kernel does as each example says, the concrete wing tells the same rule by rule, and sockets hear what
is told to come back to them."""

from __future__ import annotations

import pytest
from msgspec import Struct
from msgspec.structs import replace

from verifier.asked import fields_carried
from verifier.concrete.claims import of_answer
from verifier.concrete.travel import travel
from verifier.fuzzing.run import BACKENDS
from verifier.hosts import MAIN, Host, Process, RouteKind, RoutingRule, Setting
from verifier.journeys import FromOutside, FromProcess, Rejected, Returned, Unmodelled
from verifier.kernel.compare import difference, rejection, silence
from verifier.kernel.iptables import BackendName
from verifier.kernel.oracle import Observation, Oracle, Shot
from verifier.kernel.traces import ENDS
from verifier.packets import Packet
from verifier.reading.rules import read_rules
from verifier.values import ICMPV6, TCP, UDP, Family, IdSet, MarkMask, Net, TcpFlag, spell_address

from .answering import Ground
from .facts import Fact
from .hosts import host, interface, route
from .test_answers import TAKEN, at, six

pytestmark = pytest.mark.kernel

ANY = IdSet.read("any")
ETH0, ETH1, ETH2 = (
    interface("eth0", "10.0.0.5/24", "10.0.0.6/24"),
    interface("eth1", "10.0.1.5/24"),
    interface("eth2"),
)
NOTHING = "nothing"


class Example(Struct, frozen=True):
    """`rules` and `sends` as of a Fact; `comes` is what is sent back where it has passed its last hook, `nothing`, or the reason
    why nobody tells it."""

    name: str
    rules: tuple[str, ...]
    sends: str
    comes: str
    policy: tuple[RoutingRule, ...] = ()
    device: str | None = None
    """To which the sender's socket is bound."""
    tos: int = 0

    def __str__(self) -> str:
        return self.name

    def setting(self, backend: BackendName) -> Setting:
        made = host(
            ETH0, ETH1, ETH2,
            routes=(route("0.0.0.0/0", "eth0", via="10.0.0.1"),),
            processes=(Process("app", ANY, ANY, device="eth1"), Process("raw", ANY, ANY, raw=True)),
            sysctls={"ip_forward": 1},
        )  # fmt: skip
        tables = {100: (TAKEN,), 2: (route("0.0.0.0/0", "eth1", via="10.0.1.1"),)} if self.policy else {}
        made = replace(made, backend=BACKENDS[backend], policy=self.policy, tables=tables)
        text = Fact(self.name, self.rules, "", "").text()
        return Setting(made, read_rules(text, "an example").families[made.family], rejections=True)


TO_80 = "eth0 tcp 8.8.8.8:4000 > 10.0.0.5:80"
TO_53 = "eth0 udp 8.8.8.8:4000 > 10.0.0.5:53"
OUT = "app tcp 10.0.0.5:4000 > 9.9.9.9:80"
OUT_53 = "app udp 10.0.0.6:4000 > 9.9.9.9:53"
THROUGH = "eth1 tcp 10.0.1.9:4000 > 9.9.9.9:80"
RST, ICMP = "filter -A INPUT -p tcp -j REJECT --reject-with tcp-reset", "filter -A INPUT -j REJECT"
SYN_RST = RST.replace("-p tcp", "-p tcp --syn")
F_RST, F_ICMP = RST.replace("INPUT", "FORWARD"), ICMP.replace("INPUT", "FORWARD")
O_RST = "filter -A OUTPUT -p tcp -d 9.9.9.9 -j REJECT --reject-with tcp-reset"
O_ICMP = "filter -A OUTPUT -d 9.9.9.9 -j REJECT"
BACK, BACK_ICMP = "out eth0 tcp 10.0.0.5 80 > 8.8.8.8 4000", "out eth0 icmp 10.0.0.5 > 8.8.8.8 3/3"
DNAT = "nat -A PREROUTING -p tcp -j DNAT --to-destination 10.0.1.77:81"
O_DNAT = "nat -A OUTPUT -j DNAT --to-destination 9.9.9.9"
TRACKED = "filter -A FORWARD -m conntrack --ctstate NEW -m mark --mark 99"
"""A rule that switches conntrack on, and matches nothing."""
UNTRACKED = "raw -A PREROUTING -i eth0 -j CT --notrack"


def drops(chain: str, state: str, table: str = "filter") -> str:
    return f"{table} -A {chain} -m conntrack --ctstate {state} -j DROP"


EXAMPLES = (
    Example("a reset goes back", (RST,), TO_80, BACK),
    Example("and an error", (ICMP,), TO_80, BACK_ICMP),
    *(
        Example(f"of type {how}", (f"{ICMP} --reject-with {how}",), TO_53, f"out eth0 icmp 10.0.0.5 > 8.8.8.8 3/{code}")
        for how, code in (
            ("icmp-net-unreachable", 0), ("icmp-host-unreachable", 1), ("icmp-proto-unreachable", 2), ("icmp-port-unreachable", 3),
            ("icmp-net-prohibited", 9), ("icmp-host-prohibited", 10), ("icmp-admin-prohibited", 13),
        )
    ),
    # -- what is never answered
    Example("a reset is not answered by one", (RST,), f"{TO_80} RST", NOTHING),
    Example("but by an error", (ICMP,), f"{TO_80} RST", BACK_ICMP),
    Example("an error is not answered by one", (ICMP,), "eth0 icmp 8.8.8.8 > 10.0.0.5 type 3", NOTHING),
    Example("nor is a router's advertisement", (ICMP,), "eth0 icmp 8.8.8.8 > 10.0.0.5 type 9", NOTHING),
    Example("nor what nobody knows", (ICMP,), "eth0 icmp 8.8.8.8 > 10.0.0.5 type 19", NOTHING),
    Example("an echo reply is", (ICMP,), "eth0 icmp 8.8.8.8 > 10.0.0.5 type 0", BACK_ICMP),
    Example("what is broadcast is not", (ICMP,), "eth0 udp 10.0.0.9:4000 > 10.0.0.255:53", NOTHING),
    Example("nor to everyone", (RST,), "eth0 tcp 10.0.0.9:4000 > 255.255.255.255:80", NOTHING),
    Example("nor what is sent to a group", (O_ICMP.replace("9.9.9.9", "224.0.0.0/4"),), "app udp 10.0.0.5:4000 > 224.0.0.9:53", NOTHING),
    Example("nor a broadcast that is sent", (O_ICMP.replace("9.9.9.9", "10.0.0.255"),), "app udp 10.0.0.5:4000 > 10.0.0.255:53", NOTHING),
    # -- where it comes from
    Example("a reset of what is forwarded comes from where it went to", (F_RST,), THROUGH, "out eth1 tcp 9.9.9.9 80 > 10.0.1.9 4000"),
    Example("and an error from the router", (F_ICMP,), THROUGH, "out eth1 icmp 10.0.1.5 > 10.0.1.9 3/3"),
    Example("by the route to its destination, from an address there", (F_ICMP,), "eth2 tcp 8.8.4.4:4000 > 10.0.1.9:80", "out eth0 icmp 10.0.0.5 > 8.8.4.4 3/3"),
    Example("an error about another of this host's addresses comes from that", (ICMP,), "eth0 udp 8.8.8.8:4000 > 10.0.0.6:53", BACK_ICMP.replace("0.5", "0.6")),
    Example("or about one of another interface", (ICMP,), "eth0 udp 8.8.8.8:4000 > 10.0.1.5:53", BACK_ICMP.replace("10.0.0.5", "10.0.1.5")),
    # -- conntrack
    *(
        Example(f"{kind} is {'' if comes == NOTHING else 'not '}{state} in {table}", (rule, TRACKED, drops("OUTPUT", state, table)), TO_80, comes)
        for kind, rule, back in (("a reset", RST, BACK), ("an error", ICMP, BACK_ICMP))
        for table in ("raw", "filter")
        for state, comes in (("RELATED", NOTHING), ("ESTABLISHED", back), ("INVALID", back), ("NEW", back))
    ),
    Example("it is its connection's reply", (RST, TRACKED, "mangle -A OUTPUT -m conntrack --ctdir ORIGINAL -j DROP"), TO_80, BACK),
    Example("which is never confirmed", (O_RST, "mangle -A INPUT -m conntrack --ctstatus CONFIRMED -j DROP"), OUT, "local tcp 9.9.9.9 80 > 10.0.0.5 4000"),
    Example(
        "but where it was before", (RST, "mangle -A OUTPUT -p tcp --tcp-flags RST RST -m conntrack --ctstatus CONFIRMED -j DROP"),
        "app tcp 10.0.0.5:4000 > 10.0.0.6:80", NOTHING,
    ),
    Example("its connection's mark can be had", (RST, "mangle -A INPUT -j CONNMARK --set-mark 5", "mangle -A OUTPUT -m connmark --mark 5 -j DROP"), TO_80, NOTHING),
    Example("of what is INVALID it is INVALID", (RST, TRACKED, drops("OUTPUT", "INVALID")), f"{TO_80} SYN+ACK", NOTHING),
    Example("which need not be tracked", (RST, TRACKED, "raw -A OUTPUT -j CT --notrack", drops("OUTPUT", "UNTRACKED")), f"{TO_80} SYN+ACK", NOTHING),
    Example("of what is not tracked it is INVALID", (RST, UNTRACKED, drops("OUTPUT", "INVALID")), TO_80, NOTHING),
    Example("and nothing makes it UNTRACKED", (RST, UNTRACKED, "raw -A OUTPUT -j CT --notrack", drops("OUTPUT", "UNTRACKED")), TO_80, BACK),
    Example("nor puts it into a zone", (ICMP, UNTRACKED, "raw -A OUTPUT -j CT --zone 1", drops("OUTPUT", "NEW", "raw")), TO_53, BACK_ICMP),
    Example(
        "nor over lo", (O_ICMP, "raw -A OUTPUT -d 9.9.9.9 -j CT --notrack", "raw -A PREROUTING -j CT --notrack", drops("INPUT", "UNTRACKED")), OUT_53,
        "local icmp 10.0.0.5 > 10.0.0.6 3/3",
    ),
    Example(
        "but a reset is UNTRACKED there", (O_RST, "raw -A OUTPUT -d 9.9.9.9 -j CT --notrack", "raw -A PREROUTING -j CT --notrack", drops("INPUT", "UNTRACKED")), OUT,
        NOTHING,
    ),
    Example("what is tracked stays so", (RST, TRACKED, "raw -A OUTPUT -j CT --notrack", drops("OUTPUT", "RELATED")), TO_80, NOTHING),
    # -- NAT
    Example("DNAT is undone", (F_RST, DNAT), "eth0 tcp 8.8.8.8:4000 > 10.0.0.5:80", BACK),
    Example("the router's own address, too", (F_ICMP, DNAT), "eth0 tcp 8.8.8.8:4000 > 9.9.9.9:80", "out eth0 icmp 9.9.9.9 > 8.8.8.8 3/3"),
    Example("REDIRECT", (RST, "nat -A PREROUTING -p tcp -j REDIRECT --to-ports 99"), TO_80, BACK),
    Example("the rules see it before that", (F_RST, DNAT, "filter -A OUTPUT -s 10.0.1.77 -j DROP"), TO_80, NOTHING),
    Example("in mangle POSTROUTING too", (F_RST, DNAT, "mangle -A POSTROUTING -p tcp --sport 81 -j DROP"), TO_80, NOTHING),
    Example("a reset asks nat POSTROUTING, which leaves it as it is", (RST, "nat -A POSTROUTING -p tcp -j SNAT --to-source 7.7.7.7:1000-2000", "nat -P POSTROUTING DROP"), TO_80, BACK),
    Example("MASQUERADE leaves it as it is", (F_RST, DNAT, "nat -A POSTROUTING -j MASQUERADE"), TO_80, BACK),
    Example("the policy there drops a reset", (RST, "nat -P POSTROUTING DROP", DNAT.replace("-p tcp", "-p udp")), TO_80, NOTHING),
    Example("and no error", (ICMP, "nat -P POSTROUTING DROP", DNAT.replace("-p tcp", "-p udp")), TO_80, BACK_ICMP),
    Example("SNAT over lo is undone at OUTPUT", (SYN_RST, "nat -A POSTROUTING -p tcp -j SNAT --to-source 10.0.1.5:7000"), "app tcp 10.0.0.5:4000 > 10.0.0.6:80", "local tcp 10.0.0.6 80 > 10.0.0.5 4000"),
    Example("over lo nobody follows what is masqueraded", (O_RST, "nat -A POSTROUTING -j MASQUERADE"), OUT, "what NAT makes of a connection that is rejected"),
    # -- over lo
    Example("a reset comes back over lo", (O_RST,), OUT, "local tcp 9.9.9.9 80 > 10.0.0.5 4000"),
    Example("and an error, from an own address", (O_ICMP,), OUT, "local icmp 10.0.0.5 > 10.0.0.5 3/3"),
    Example("from the first of its subnet", (O_ICMP,), OUT_53, "local icmp 10.0.0.5 > 10.0.0.6 3/3"),
    Example("or that which it was translated from", (O_ICMP, O_DNAT), "app udp 10.0.0.6:4000 > 7.7.7.7:53", "local icmp 7.7.7.7 > 10.0.0.6 3/3"),
    Example("its socket's device counts for a reset", (O_RST,), "app tcp 10.0.0.5:4000 > 9.9.9.9:80", "out eth1 tcp 9.9.9.9 80 > 10.0.0.5 4000", device="eth1"),
    Example("and for no error", (O_ICMP,), "app tcp 10.0.0.5:4000 > 9.9.9.9:80", "local icmp 10.0.0.5 > 10.0.0.5 3/3", device="eth1"),
    # -- who sends it, its mark and TOS byte
    Example("it has no mark", (RST, "mangle -A PREROUTING -j MARK --set-mark 7", "mangle -A OUTPUT -m mark ! --mark 0 -j DROP"), TO_80, BACK),
    Example("nobody owns it", (RST, "mangle -A OUTPUT -m owner --uid-owner 0-65535 -j DROP"), TO_80, BACK),
    Example("a reset has no socket at all", (RST, "mangle -A OUTPUT -m owner --socket-exists -j DROP"), TO_80, BACK),
    Example("of an error's nobody tells", (ICMP, "mangle -A OUTPUT -m owner --socket-exists -j DROP"), TO_80, "the kernel's own socket"),
    Example("an error keeps a part of the TOS byte", (ICMP, "mangle -A OUTPUT -m tos ! --tos 0xde/0xff -j DROP"), TO_80, BACK_ICMP, tos=0xFF),
    Example("a reset keeps nothing", (RST, "mangle -A OUTPUT -m tos ! --tos 0/0xff -j DROP"), TO_80, BACK, tos=0xFF),
    Example("a reset has 40 bytes", (RST, "mangle -A OUTPUT -m length ! --length 40 -j DROP"), TO_80, BACK),
    Example("its hop count begins anew", (F_RST, "mangle -A OUTPUT -m ttl ! --ttl-eq 64 -j DROP"), f"{THROUGH} ttl 9", "out eth1 tcp 9.9.9.9 80 > 10.0.1.9 4000"),
    # -- routing rules
    Example("its own mark sends it another way", (RST, "mangle -A OUTPUT -j MARK --set-mark 2"), TO_80, BACK.replace("eth0", "eth1"), (RoutingRule(2, mark=MarkMask(2, 2)), RoutingRule(MAIN))),
    Example("the mark of what is rejected does not", (RST, "mangle -A PREROUTING -j MARK --set-mark 2"), TO_80, BACK, (RoutingRule(2, mark=MarkMask(2, 2)), RoutingRule(MAIN))),
    Example("a reset goes by the rule of its source", (F_RST,), THROUGH, "out eth1 tcp 9.9.9.9 80 > 10.0.1.9 4000", (RoutingRule(2, source=Net.read("9.9.9.9/32")), RoutingRule(MAIN))),
    Example("an error of the router's without one", (F_ICMP,), "eth1 tcp 8.8.4.4:4000 > 9.9.9.9:80", "out eth0 icmp 10.0.0.5 > 8.8.4.4 3/3", (RoutingRule(2, source=Net.read("10.0.0.5/32")), RoutingRule(MAIN))),
    Example("where there is no way there is no reset", (RST,), TO_80, NOTHING, (RoutingRule(None, source=Net.read("10.0.0.5/32"), kind=RouteKind.UNREACHABLE), RoutingRule(MAIN))),
    Example("to what a route has taken a reset comes from there", (RST,), "eth0 tcp 8.8.8.8:4000 > 9.9.9.9:80", "out eth0 tcp 9.9.9.9 80 > 8.8.8.8 4000", (RoutingRule(100, destination=Net.read("9.9.9.9/32")), RoutingRule(MAIN))),
    Example("and no error comes", (ICMP,), "eth0 tcp 8.8.8.8:4000 > 9.9.9.9:80", NOTHING, (RoutingRule(100, destination=Net.read("9.9.9.9/32")), RoutingRule(MAIN))),
    # -- which rules it meets
    Example("OUTPUT may drop it", (RST, "filter -A OUTPUT -p tcp -j DROP"), TO_80, NOTHING),
    Example("or reject it, which nobody is told", (ICMP, "filter -A OUTPUT -p icmp -j REJECT"), TO_80, NOTHING),
    Example("of other protocols nobody knows", (ICMP,), "eth0 gre 8.8.8.8 > 10.0.0.5", BACK_ICMP),
)  # fmt: skip


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_what_is_sent_back_is_what_is_told(example: Example, backend: BackendName) -> None:
    setting = example.setting(backend)
    sender, packet = Fact(example.name, (), example.sends, "").packet()
    packet = replace(packet, device=example.device, tos=example.tos)
    assert (
        _checked(setting, Shot(sender, packet, "length" in fields_carried(setting)), backend) == example.comes
    )


def _checked(setting: Setting, shot: Shot, backend: BackendName) -> str:
    """What the kernel sends back, after it was compared with what is told, rule by rule."""
    journey = travel(setting, shot.sender, shot.packet)
    assert isinstance(journey.end, Rejected), journey.end
    with Oracle(setting.host, backend) as oracle:
        oracle.load(setting.rules)
        asked = (replace(shot, rejected=True), replace(shot, answer=True, rejection=True))
        first, seen = oracle.ask(asked)
    assert first is not None
    assert seen is not None
    assert difference(setting, journey, shot.sender, first) is None
    told = of_answer(journey, 0)
    if told is None:
        assert silence(setting.rules, seen) is None
        return NOTHING
    if isinstance(told.end, Unmodelled):
        return told.end.reason
    assert difference(setting, rejection(setting, told), FromProcess(""), seen) is None
    return _come(seen, setting.host)


def _come(seen: Observation, where: Host) -> str:
    ends = [s for s in seen.steps if s.table == ENDS]
    if not ends or ends[-1].header is None or (ends[-1].chain, ends[-1].out_iface) == ("POST", "lo"):
        return NOTHING
    last, h = ends[-1], ends[-1].header
    src, dst = (spell_address(a, where.family) for a in (h.src, h.dst))
    what = f"tcp {src} {h.first} > {dst} {h.second}"
    if h.proto != 6:
        what = f"{'icmp' if h.proto == 1 else 'icmp6'} {src} > {dst} {h.first}/{h.second}"
    return f"local {what}" if last.chain == "LOCAL" else f"out {last.out_iface} {what}"


HEARD = (
    ("a reset of what was sent", (O_RST,), OUT, None),
    ("an error of what was sent", (O_ICMP,), OUT, None),
    ("about a datagram", (O_ICMP,), OUT_53, None),
    ("about what was translated", (O_ICMP, "nat -A OUTPUT -d 7.7.7.7 -j DNAT --to-destination 9.9.9.9"), "app udp 10.0.0.5:4000 > 7.7.7.7:53", None),
    ("a reset of what was translated", (O_RST, "nat -A OUTPUT -d 7.7.7.7 -j DNAT --to-destination 9.9.9.9"), "app tcp 10.0.0.5:4000 > 7.7.7.7:80", None),
    ("a reset over lo", (SYN_RST,), "app tcp 10.0.0.5:4000 > 10.0.0.6:80", None),
    ("an error over lo, of what was translated", (ICMP, "filter -I INPUT -p icmp -j ACCEPT", "nat -A POSTROUTING -p tcp -j SNAT --to-source 10.0.1.5:7000"), "app tcp 10.0.0.5:4000 > 10.0.0.6:80", None),
    ("a reset that INPUT drops", (O_RST, "filter -A INPUT -i lo -j DROP"), OUT, None),
    ("an error that OUTPUT drops", (O_ICMP, "filter -A OUTPUT -p icmp -j DROP"), OUT, None),
    ("an error that is not ESTABLISHED", (O_ICMP, "filter -P INPUT DROP", "filter -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT"), OUT, None),
    ("one that may be RELATED", (O_ICMP, "filter -P INPUT DROP", "filter -A INPUT -m conntrack --ctstate RELATED -j ACCEPT"), OUT, None),
    ("a reset, by a socket with a device", (O_RST,), "app tcp 10.0.1.5:4000 > 9.9.9.9:80", "eth1"),
    ("an error, by a socket of TCP with a device", (O_ICMP,), "app tcp 10.0.1.5:4000 > 9.9.9.9:80", "eth1"),
    ("an error, by one of UDP with a device", (O_ICMP,), "app udp 10.0.1.5:4000 > 9.9.9.9:53", "eth1"),
    ("a reset that goes by the device", (O_RST,), "app tcp 10.0.0.5:4000 > 9.9.9.9:80", "eth1"),
    ("an error to another interface's address", (O_ICMP,), "app tcp 10.0.0.5:4000 > 9.9.9.9:80", "eth1"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("rules", "sends", "device"), [tuple(rest) for _, *rest in HEARD], ids=[name for name, *_ in HEARD]
)
def test_who_is_told_to_hear_of_it_does(
    rules: tuple[str, ...], sends: str, device: str | None, backend: BackendName
) -> None:
    example = Example("heard", rules, sends, "")
    setting = example.setting(backend)
    sender, packet = Fact("heard", (), sends, "").packet()
    assert isinstance(sender, FromProcess)
    packet = replace(packet, device=device)
    told = of_answer(travel(setting, sender, packet), 0)
    assert told is not None
    with Ground(setting, Fact("heard", rules, "", "").text(), backend) as ground:
        assert ground.hears(packet) == isinstance(told.end, Returned)


# -- IPv6 -------------------------------------------------------------------------------------------

HERE_6, FAR_6, INNER_6, OTHER_6 = map(
    at, ("2001:db8::5", "2001:db8:77::1", "2001:db8:1::9", "2001:db8:66::1")
)
ASKED_6 = Packet(FAR_6, HERE_6, TCP, 4000, 80, TcpFlag.SYN, family=Family.IPV6)
TOLD_6 = replace(ASKED_6, proto=UDP, flags=0)
THROUGH_6 = replace(ASKED_6, src=INNER_6, dst=OTHER_6)
SENT_6 = replace(ASKED_6, src=HERE_6, dst=FAR_6, uid=1000, gid=1000)
BACK_6, BACK_ICMP_6 = (
    "out eth0 tcp 2001:db8::5 80 > 2001:db8:77::1 4000",
    "out eth0 icmp6 2001:db8::5 > 2001:db8:77::1 1/4",
)
O_RST_6 = "filter -A OUTPUT -p tcp -d 2001:db8:77::/64 -j REJECT --reject-with tcp-reset"
O_ICMP_6 = "filter -A OUTPUT -d 2001:db8:77::/64 -j REJECT"
DNAT_6 = "nat -A PREROUTING -p tcp -j DNAT --to-destination [2001:db8:1::77]:81"

SIX = (
    ("a reset", (RST,), "eth0", ASKED_6, BACK_6),
    ("an error", (ICMP,), "eth0", ASKED_6, BACK_ICMP_6),
    *(
        (f"of type {how}", (f"{ICMP} --reject-with {how}",), "eth0", TOLD_6, BACK_ICMP_6.replace("1/4", f"1/{code}"))
        for how, code in (
            ("icmp6-no-route", 0), ("icmp6-adm-prohibited", 1), ("icmp6-addr-unreachable", 3), ("icmp6-port-unreachable", 4),
            ("icmp6-policy-fail", 5), ("icmp6-reject-route", 6),
        )
    ),
    ("no reset of a reset", (RST,), "eth0", replace(ASKED_6, flags=TcpFlag.RST), NOTHING),
    ("none to a mapped address", (RST,), "eth0", replace(ASKED_6, src=at("::ffff:1.2.3.4")), NOTHING),
    ("but an error", (ICMP,), "eth0", replace(ASKED_6, src=at("::ffff:1.2.3.4")), "out eth0 icmp6 2001:db8::5 > ::ffff:1.2.3.4 1/4"),
    ("none to what went to ::", (F_RST,), "eth0", replace(ASKED_6, dst=0), NOTHING),
    ("but an error", (F_ICMP,), "eth0", replace(ASKED_6, dst=0), BACK_ICMP_6),
    ("nothing to ::", (ICMP,), "eth0", replace(TOLD_6, src=0), NOTHING),
    ("no error of an error", (ICMP,), "eth0", replace(ASKED_6, proto=ICMPV6, sport=0, dport=0, flags=0, icmp_type=1), NOTHING),
    ("one of an echo", (ICMP,), "eth0", replace(ASKED_6, proto=ICMPV6, sport=0, dport=0, flags=0, icmp_type=128), BACK_ICMP_6),
    ("what conntrack leaves alone is INVALID", (ICMP, drops("OUTPUT", "INVALID")), "eth0", replace(ASKED_6, proto=ICMPV6, sport=0, dport=0, flags=0, icmp_type=135), NOTHING),
    ("a reset of what is forwarded", (F_RST,), "eth1", THROUGH_6, "out eth1 tcp 2001:db8:66::1 80 > 2001:db8:1::9 4000"),
    ("an error from the interface by which it came", (F_ICMP,), "eth0", THROUGH_6, "out eth1 icmp6 2001:db8::5 > 2001:db8:1::9 1/4"),
    ("to any router", (ICMP,), "eth0", replace(ASKED_6, dst=at("2001:db8::")), BACK_ICMP_6.replace("::5", "::")),
    ("DNAT is undone", (F_RST, DNAT_6), "eth0", ASKED_6, BACK_6),
    ("of the router's own, too", (F_ICMP, DNAT_6), "eth0", replace(ASKED_6, dst=OTHER_6), "out eth0 icmp6 2001:db8:66::1 > 2001:db8:77::1 1/4"),
    ("what is forwarded to ::1 is for nobody here", (F_ICMP, DNAT_6.replace("2001:db8:1::77", "::1")), "eth0", replace(ASKED_6, dst=OTHER_6), "out eth0 icmp6 2001:db8:66::1 > 2001:db8:77::1 1/4"),
    ("RELATED", (RST, TRACKED, drops("OUTPUT", "RELATED", "raw")), "eth0", ASKED_6, NOTHING),
    ("not UNTRACKED", (ICMP, UNTRACKED, "raw -A OUTPUT -j CT --notrack", drops("OUTPUT", "UNTRACKED")), "eth0", TOLD_6, BACK_ICMP_6),
    ("a reset asks nat", (RST, "nat -P POSTROUTING DROP", DNAT_6.replace("-p tcp", "-p udp")), "eth0", ASKED_6, NOTHING),
    ("an error does not", (ICMP, "nat -P POSTROUTING DROP", DNAT_6.replace("-p tcp", "-p udp")), "eth0", ASKED_6, BACK_ICMP_6),
    ("a reset has 60 bytes", (RST, "mangle -A OUTPUT -m length ! --length 60 -j DROP"), "eth0", ASKED_6, BACK_6),
    ("a reset comes back over lo", (O_RST_6,), "app", SENT_6, "local tcp 2001:db8:77::1 80 > 2001:db8::5 4000"),
    ("and an error", (O_ICMP_6,), "app", SENT_6, "local icmp6 2001:db8::5 > 2001:db8::5 1/4"),
    ("a link's address", (ICMP,), "eth0", replace(ASKED_6, src=at("fe80::9")), "a rejection to or from an address of one link"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("rules", "who", "packet", "comes"), [tuple(rest) for _, *rest in SIX], ids=[name for name, *_ in SIX]
)
def test_in_ipv6_too(
    rules: tuple[str, ...], who: str, packet: Packet, comes: str, backend: BackendName
) -> None:
    sender = FromProcess("app") if who == "app" else FromOutside(who)
    setting = _six(rules, backend)
    assert _checked(setting, Shot(sender, packet, "length" in fields_carried(setting)), backend) == comes


def _six(rules: tuple[str, ...], backend: BackendName) -> Setting:
    read = read_rules(Fact("six", rules, "", "").text(), "an example", family=Family.IPV6)
    where = replace(six(), backend=BACKENDS[backend])
    processes = tuple(replace(p, device="eth0") if p.name == "app" else p for p in where.processes)
    return Setting(replace(where, processes=processes), read.families[Family.IPV6], rejections=True)


@pytest.mark.parametrize("device", [None, "eth0"])
@pytest.mark.parametrize("proto", [TCP, UDP])
@pytest.mark.parametrize("rule", [O_RST_6, O_ICMP_6])
def test_in_ipv6_a_socket_hears_of_it_where_that_is_told(
    rule: str, proto: int, device: str | None, backend: BackendName
) -> None:
    setting = _six((rule,), backend)
    packet = replace(SENT_6, proto=proto, flags=TcpFlag.SYN if proto == TCP else 0, device=device)
    told = of_answer(travel(setting, FromProcess("app"), packet), 0)
    with Ground(setting, Fact("heard", (rule,), "", "").text(), backend) as ground:
        heard = ground.hears(packet)
    assert heard == (told is not None and isinstance(told.end, Returned))
