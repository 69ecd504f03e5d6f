"""Slips in what a REJECT sends back, with packets that are told otherwise by them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from verifier import hosts as h
from verifier.hooks import BUILT_IN
from verifier.hosts import Setting
from verifier.journeys import FromOutside, FromProcess, Sender
from verifier.packets import Packet
from verifier.reading.rules import read_rules
from verifier.values import (
    ICMP,
    ICMPV6,
    TCP,
    UDP,
    Family,
    IdSet,
    Ipv6Extension,
    MarkMask,
    Net,
    TcpFlag,
    read_address,
)

from .examples import ip
from .slips import Slip
from .slips_of_answers import CLIENT, FAR, HERE, NEAR, TO_LO, router

SLIPS = tuple(
    Slip(name, file, old, new)
    for file, slips in {
        "rejections.py": (
            ("a reset is answered by a reset", "packet.flags & TcpFlag.RST)", "False)"),
            ("every ICMP message is answered", "packet.icmp_type not in WITHOUT_ERROR", "False"),
            ("an answer to an echo is an error", "WITHOUT_ERROR = (0, 8,", "WITHOUT_ERROR = (8,"),
            ("every protocol is answered", "packet.proto not in (*VERIFIED, *TRUSTED)", "False"),
            ("what is broadcast is answered", "    return packet.dst == 0 or routing.type_of(road, packet.dst) is routing.Type.BROADCAST\n", "    return False\n"),
            ("what is sent to a group is answered", "        return ways.to_group(road, packet, ways.first_asked(packet))\n", "        return False\n"),
            ("a reset acknowledges whatever it answers", "TcpFlag.RST if packet.flags & TcpFlag.ACK else ", ""),
            ("the device of the sender's socket is ignored", "packet.device if hook is Hook.OUTPUT else None", "None"),
            ("a reset keeps its mark out of the rules", "routing.output_again(road, packet.dst, packet.src, device)", "routing.output_again(road, packet.dst, packet.src, device, keys.Keys(packet.mark))"),
            ("a reset comes from addresses of this host alone", "out = routing.output_again(road, packet.dst, packet.src, device)", "out = routing.output(road, 0, packet.src, device)"),
            ("an error comes from where it went to", "if end.hook is Hook.INPUT or way == LOOPBACK_DEVICE:", "if True:"),
            ("an error's source is always selected", "if end.hook is Hook.INPUT or way == LOOPBACK_DEVICE:", "if False:"),
            ("what goes to lo is as what goes out", " or way == LOOPBACK_DEVICE:", ":"),
            ("an error comes from whatever address", "        if routing.type_of(road, packet.dst) is routing.Type.LOCAL:\n", "        if True:\n"),
            ("the first route counts", "for s in reversed(stops) if s.hop == hop", "for s in stops if s.hop == hop"),
            ("an error has its packet's TOS byte", "packet.tos & 0x1E | 0xC0", "packet.tos"),
            ("an error quotes all", "min(packet.length + 28, 576)", "packet.length + 28"),
            ("a reset is as long as what it answers", "RESETS_LENGTH = 40", "RESETS_LENGTH = 60"),
            ("a code is another", '"icmp-host-prohibited": 10', '"icmp-host-prohibited": 9'),
            ("what is sent back is ESTABLISHED", "ctstate=CtState.RELATED, connection", "ctstate=CtState.ESTABLISHED, connection"),
            ("it goes its connection's own way", "replace(known, is_reply=True)", "known"),
            ("of what is not tracked it can be so", "        return _inert(table)\n", "        pass\n"),
            ("all of it looks tracked", 'if table.name == "raw" and of.stuck and not looked_at:', 'if table.name == "raw" and not looked_at:'),
            ("a reset is translated", '    return _binding(table) if table.name == "nat" else table\n', "    return table\n"),
            ("nat is asked about errors", "packet.proto == TCP and packet.ctstate is CtState.RELATED", "packet.ctstate is CtState.RELATED"),
            ("nat is asked about what is INVALID", "packet.proto == TCP and packet.ctstate is CtState.RELATED", "packet.proto == TCP"),
            ("nat is asked at OUTPUT too", "    if hook is not Hook.POSTROUTING or of.source_done:\n", "    if of.source_done:\n"),
            ("nat is asked again over lo", "    if hook is not Hook.POSTROUTING or of.source_done:\n", "    if hook is not Hook.POSTROUTING:\n"),
            ("what NAT binds is no matter", "        return any(isinstance(target, BINDS) for target in targets)\n", "        return False\n"),
            ("an error is known to nobody", "    if packet.proto != (ICMP if ipv4 else ICMPV6):\n", "    if packet.proto != TCP:\n"),
            ("a reset's socket may have any device", "answers.answers(packet, of.to) and device in (None, ways.came_by(road, packet))", "answers.answers(packet, of.to)"),
            ("an error's socket may have any device", "    if device is None:\n        return True\n", "    if True:\n        return True\n"),
            ("all other sockets are found as UDP's", "    if of.to.proto not in (TCP, UDP):\n        return None\n", ""),
            ("UDP looks for the address's device", "ways.came_by(road, packet) if by_address else packet.in_iface", "ways.came_by(road, packet)"),
            ("TCP looks for lo", "ways.came_by(road, packet) if by_address else packet.in_iface", "packet.in_iface"),
        ),
        "travel.py": (
            ("the connection of what is rejected is confirmed", "packet if hop.rejecting else confirmed(packet)", "confirmed(packet)"),
            ("conntrack sees it anew", "packet, first=hop.rejecting is None)", "packet, first=True)"),
            ("nat is asked without conntrack", "packet, hop.rejecting) and hop.tracked", "packet, hop.rejecting)"),
        ),
    }.items()
    for name, old, new in slips
)  # fmt: skip

IN_IPV6 = tuple(
    Slip(name, file, old, new, Family.IPV6)
    for name, file, old, new in (
        ("a reset is answered by a reset", "rejections6.py", "not packet.flags & TcpFlag.RST and ", ""),
        ("a reset goes to mapped addresses", "rejections6.py", "not mapped and ", ""),
        ("what went to :: gets a reset", "rejections6.py", " and packet.dst != 0", ""),
        ("what comes from :: is answered", "rejections6.py", "packet.src == 0 or routing6", "routing6"),
        ("what is sent to a group is answered", "rejections6.py", " or routing6.is_multicast(packet.dst):", ":"),
        ("errors are answered", "rejections6.py", "INFORMS = 128", "INFORMS = 1"),
        ("every protocol is answered", "rejections6.py", "packet.proto not in ANSWERED", "False"),
        ("a link is no matter", "rejections6.py", "routing6.is_link_local(packet.src) or routing6.is_link_local(packet.dst)", "False"),
        ("a new route of a reset is by any device", "rejections6.py", "device=packet.device if hook is Hook.OUTPUT else None", "device=None"),
        ("any router is told", "rejections6.py", "packet.src in road.anycasts or _begins_a_net(road, packet.src)", "False"),
        ("the first of a net is told", "rejections6.py", " or _begins_a_net(road, packet.src)", ""),
        ("a route's source is not preferred", "rejections6.py", "    if preferred is not None:\n        return preferred\n", ""),
        ("a preferred source is asked about", "rejections6.py", "src if chosen is None else 0)", "src)"),
        ("an error is from the interface of the way back", "rejections6.py", "candidates(road, packet.src, packet.in_iface)", 'candidates(road, packet.src, packet.out_iface or "")'),
        ("what is forwarded may be for this host", "rejections6.py", "    if hook is not Hook.FORWARD:\n", "    if True:\n"),
        ("an own error is from nobody knows where", "rejections6.py", "packet.src if hook is Hook.OUTPUT and packet.src in road.owners else None", "None"),
        ("an error quotes all", "rejections6.py", "min(packet.length + 48, 1280)", "packet.length + 48"),
        ("a code is another", "rejections6.py", '"icmp6-adm-prohibited": 1', '"icmp6-adm-prohibited": 2'),
        ("extension headers are no matter", "rejections6.py", "packet.extensions & _FOLLOWED", "False"),
        ("it has no header", "rejections6.py", "extensions=int(Ipv6Extension.PROTO)", "extensions=0"),
        ("MASQUERADE may give ::1", "rejections6.py", " or ip == routing6.LOOPBACK for", " for"),
        ("TCP in IPv6 looks for the address's device", "rejections.py", "(TCP if ipv4 else UDP)", "TCP"),
    )
)  # fmt: skip

SYN = int(TcpFlag.SYN)
ANYONE = IdSet.read("any")
RST = "filter -A {} -p tcp --tcp-flags RST NONE -j REJECT --reject-with tcp-reset"
ERROR = "filter -A {} -j REJECT --reject-with icmp-host-prohibited"
TRACKED = "mangle -A FORWARD -m conntrack --ctstate NEW -m mark --mark 99"
READ = (
    *(f"{table} -A {chain} -m conntrack --ctstate {state}"
      for table, chain in (("raw", "OUTPUT"), ("mangle", "OUTPUT"), ("mangle", "INPUT"))
      for state in ("RELATED", "INVALID", "UNTRACKED")),
    "mangle -A OUTPUT -m conntrack --ctdir REPLY", "mangle -A INPUT -m conntrack --ctstatus CONFIRMED",
    "mangle -A OUTPUT -m tos --tos 0xc0/0xff", "mangle -A OUTPUT -m length --length 40",
)  # fmt: skip
"""Rules that match, and do nothing, so that what they ask for is carried."""
BY_ETH1 = (h.RoutingRule(2, mark=MarkMask(2, 2)), h.RoutingRule(h.MAIN))
MASQUERADE = "nat -A POSTROUTING -j MASQUERADE"


def examples() -> Iterator[tuple[Setting, Sender, Packet]]:
    """On the router of `slips_of_answers`, whose app has a socket on eth1 too."""
    yield from _headers()
    yield from _tracked()
    yield from _own()


def _headers() -> Iterator[tuple[Setting, Sender, Packet]]:
    every = "filter -A INPUT -p tcp -j REJECT --reject-with tcp-reset"
    reset, error = (_setting(rule, *READ) for rule in (every, ERROR.format("INPUT")))
    for flags in (SYN, TcpFlag.RST, TcpFlag.SYN | TcpFlag.ACK):
        yield reset, FromOutside("eth0"), _frame(HERE, flags=flags)
    for kind in (0, 3, 8, 9):
        yield error, FromOutside("eth0"), _frame(HERE, ICMP, icmp_type=kind)
    for protocol, dst in ((89, HERE), (UDP, HERE), (TCP, HERE), (TCP, NEAR), (TCP, ip("10.0.0.255"))):
        for setting in (error, reset):
            yield setting, FromOutside("eth0"), replace(_frame(dst, protocol), tos=0x35, length=1000)
    for rule in (RST, ERROR):
        through = _setting(rule.format("FORWARD"), *READ)
        yield through, FromOutside("eth1"), replace(_frame(FAR), src=ip("10.0.1.9"), in_iface="eth1")
    by_mark = (h.RoutingRule(100, mark=MarkMask(1, 1)), h.RoutingRule(h.MAIN))
    from_far = (
        h.RoutingRule(None, source=Net.read("192.0.2.1/32"), kind=h.RouteKind.PROHIBIT),
        h.RoutingRule(h.MAIN),
    )
    to_far = (h.RoutingRule(100, destination=Net.read("192.0.2.1/32")), h.RoutingRule(h.MAIN))
    marked = "mangle -A PREROUTING -j MARK --set-mark 1"
    for rule in (RST, ERROR):
        yield _setting(rule.format("INPUT"), marked, policy=by_mark), FromOutside("eth0"), _frame(HERE)
        yield (
            _setting(rule.format("FORWARD"), policy=from_far),
            FromOutside("eth1"),
            replace(_frame(FAR), src=ip("10.0.1.9"), in_iface="eth1"),
        )
        yield _setting(rule.format("INPUT"), policy=to_far), FromOutside("eth0"), _frame(FAR)


def _tracked() -> Iterator[tuple[Setting, Sender, Packet]]:
    notrack, again = "raw -A PREROUTING -j CT --notrack", "raw -A OUTPUT -j CT --notrack"
    dnat = "nat -A PREROUTING -p tcp -j DNAT --to-destination 10.0.1.77:81"
    for rule in (RST, ERROR):
        inside, through = rule.format("INPUT"), rule.format("FORWARD")
        for more in ((notrack, again), (notrack,), (again,)):
            yield _setting(inside, *more, *READ), FromOutside("eth0"), _frame(HERE)
        yield (
            _setting(inside, again, *READ),
            FromOutside("eth0"),
            _frame(HERE, flags=TcpFlag.SYN | TcpFlag.ACK),
        )
        nat = (dnat, "nat -A POSTROUTING -d 10.0.0.9 -j SNAT --to-source 7.7.7.7", "nat -P POSTROUTING DROP")
        yield _setting(through, *nat), FromOutside("eth0"), _frame(FAR)
        yield (
            _setting(inside, "nat -P POSTROUTING DROP", TRACKED),
            FromOutside("eth0"),
            _frame(HERE, flags=TcpFlag.SYN | TcpFlag.ACK),
        )
        yield _setting(inside, "nat -P POSTROUTING DROP"), FromOutside("eth0"), _frame(HERE)
        yield _setting(inside, "nat -P OUTPUT DROP", TRACKED), FromOutside("eth0"), _frame(HERE)


def _own() -> Iterator[tuple[Setting, Sender, Packet]]:
    """What processes send, to others, to this host, and to groups; with devices and without."""
    app = FromProcess("app")
    for rule in (RST, ERROR):
        away = rule.format("OUTPUT -d 192.0.2.1")
        for proto in (TCP, UDP):
            for device in (None, "eth1"):
                for src in (HERE, NEAR):
                    yield _setting(away, *READ), app, _sent(FAR, src, proto, device)
        dnat = "nat -A OUTPUT -d 7.7.7.7 -j DNAT --to-destination 192.0.2.1"
        yield _setting(away, dnat), app, _sent(ip("7.7.7.7"), HERE)
        here = "nat -A OUTPUT -d 7.7.7.7 -j DNAT --to-destination 10.0.1.5"
        yield _setting(rule.format("OUTPUT -d 10.0.1.5"), here), app, _sent(ip("7.7.7.7"), HERE)
        there = "nat -A OUTPUT -d 10.0.1.5 -j DNAT --to-destination 192.0.2.1"
        yield _setting(away, there), app, _sent(NEAR, HERE)
        yield _setting(rule.format("OUTPUT -d 10.0.1.5")), app, _sent(NEAR, HERE, UDP)
        yield _setting(away, MASQUERADE), app, _sent(FAR, HERE)
        yield _setting(rule.format("INPUT -d 10.0.1.5")), app, _sent(NEAR, HERE, TCP, "eth1")
        yield _setting(away), app, replace(_sent(FAR, NEAR, 47, "eth1"), sport=0, dport=0)
        twice = (
            "mangle -A OUTPUT -j MARK --set-mark 2",
            "nat -A OUTPUT -d 192.0.2.1 -j DNAT --to-destination 10.0.1.5",
        )
        yield _setting(rule.format("OUTPUT -d 10.0.1.5"), *twice, policy=BY_ETH1), app, _sent(FAR, HERE)
        late = rule.format("INPUT -d 10.0.1.5")
        for snat in (MASQUERADE, "nat -A POSTROUTING -p tcp -j SNAT --to-source 10.0.1.5:7000"):
            yield _setting(late, snat, *READ), app, _sent(NEAR, HERE)
        late_or_never = (late, "nat -A POSTROUTING -p tcp --tcp-flags RST RST -j SNAT --to-source 10.0.1.5")
        yield _setting(*late_or_never), app, _sent(NEAR, HERE)
        yield _setting(rule.format("OUTPUT -d 224.0.0.0/4")), app, _sent(ip("224.0.0.9"), HERE, UDP)


# -- IPv6


def ip6(text: str) -> int:
    return read_address(text, Family.IPV6)


HERE_6, NEAR_6, FAR_6, CLIENT_6 = map(
    ip6, ("2001:db8::5", "2001:db8:1::5", "2001:db8:77::1", "2001:db8:66::1")
)
ERROR_6 = ERROR.replace("icmp-host-prohibited", "icmp6-adm-prohibited")
READ_6 = (
    "raw -A OUTPUT -m ipv6header --soft --header protocol", "mangle -A OUTPUT -m length --length 60",
    "mangle -A OUTPUT -m conntrack --ctstate RELATED",
)  # fmt: skip


def examples_ipv6() -> Iterator[tuple[Setting, Sender, Packet]]:
    """On a router with 2001:db8::5 on eth0, where its default route is, and 2001:db8:1::5 on eth1."""
    for rule in (RST, ERROR_6):
        inside, through, out = (
            rule.format(chain) for chain in ("INPUT", "FORWARD", "OUTPUT -d 2001:db8:77::/64")
        )
        every = inside.replace("--tcp-flags RST NONE ", "")
        for packet in (
            *(replace(_frame(HERE_6), flags=flags) for flags in (SYN, TcpFlag.RST)),
            *(_frame(HERE_6, ICMPV6, icmp_type=kind) for kind in (1, 128)),
            *(replace(_frame(HERE_6, UDP), length=size) for size in (100, 4000)),
            _frame(HERE_6, 89), _frame(ip6("fe80::5")), _frame(ip6("2001:db8::")),
            *(replace(_frame(HERE_6), src=ip6(src)) for src in ("::", "fe80::9", "::ffff:1.2.3.4", "2001:db8::", "2001:db8:2::")),
        ):  # fmt: skip
            src = CLIENT_6 if packet.src == CLIENT else packet.src
            extensions = int(Ipv6Extension.PROTO)
            length = max(packet.length, 100)
            sent = replace(packet, src=src, family=Family.IPV6, extensions=extensions, length=length)
            yield _six(every, *READ_6), FromOutside("eth0"), sent
            yield (
                _six(every, *READ_6),
                FromOutside("eth0"),
                replace(sent, extensions=extensions | Ipv6Extension.HOP),
            )
        for iface in ("eth0", "eth1"):
            for src in (CLIENT_6, ip6("2001:db8:1::9"), ip6("2001:db8:88::1")):
                for dst in (FAR_6, 0, ip6("::ffff:1.2.3.4")):
                    yield (
                        _six(through),
                        FromOutside(iface),
                        replace(_frame(dst), src=src, in_iface=iface, family=Family.IPV6),
                    )
        to_lo = "nat -A PREROUTING -j DNAT --to-destination ::1"
        yield (
            _six(through, to_lo),
            FromOutside("eth0"),
            replace(_frame(FAR_6), src=CLIENT_6, family=Family.IPV6),
        )
        for proto in (TCP, UDP):
            for device in (None, "eth1"):
                sent = replace(_sent(FAR_6, NEAR_6, proto, device), family=Family.IPV6)
                yield _six(out), FromProcess("app"), sent
                marked = ("mangle -A OUTPUT -s 2001:db8:77::/64 -j MARK --set-mark 5",)
                yield _six(out, *marked), FromProcess("app"), sent
        group = rule.format("OUTPUT -d ff00::/8")
        yield _six(group), FromProcess("app"), replace(_sent(ip6("ff05::2"), NEAR_6, UDP), family=Family.IPV6)
    from_near = (h.RoutingRule(2, source=Net.prefix(NEAR_6, 128, Family.IPV6)), h.RoutingRule(h.MAIN))
    for dst in (ip6("2001:db8:88::1"), CLIENT_6):
        frame = replace(_frame(FAR_6), src=dst, in_iface="eth1", family=Family.IPV6)
        yield _six(ERROR_6.format("FORWARD"), policy=from_near), FromOutside("eth1"), frame
    poor = _six(RST.format("FORWARD"), MASQUERADE, poor=True)
    yield poor, FromOutside("eth0"), replace(_frame(FAR_6), src=CLIENT_6, family=Family.IPV6)


def _six(*rules: str, policy: Sequence[h.RoutingRule] = (), poor: bool = False) -> Setting:
    """`poor`: no interface but lo has an address."""

    def arm(name: str, *addresses: str) -> h.Interface:
        mine = () if poor and name != "lo" else addresses
        return h.Interface(
            name, tuple(h.Address(ip6(a), 64 if name != "lo" else 128, Family.IPV6) for a in mine)
        )

    def route(
        net: str,
        length: int,
        device: str,
        via: str | None = None,
        source: int | None = None,
        metric: int = 256,
    ) -> h.Route:
        to = Net.prefix(ip6(net), length, Family.IPV6)
        return h.Route(to, device, None if via is None else ip6(via), source, metric=metric)

    routes = (
        route("2001:db8::", 64, "eth0"), route("2001:db8:1::", 64, "eth1"), route("2001:db8:2::", 64, "eth1"),
        route("2001:db8:88::", 64, "eth0", "2001:db8::1", None if poor else NEAR_6), route("::", 0, "eth0", "2001:db8::1"),
        route("::", 0, "eth1", "2001:db8:1::1", metric=300),
    )  # fmt: skip
    host = h.Host(
        "six",
        (arm("lo", "::1"), arm("eth0", "2001:db8::5", "fe80::5"), arm("eth1", "2001:db8:1::5")),
        routes,
        {**h.DEFAULTS_IPV6, "net.ipv6.conf.all.forwarding": 1},
        (h.Process("app", ANYONE, ANYONE, device="eth1"),),
        backend=h.Backend.LEGACY,
        family=Family.IPV6,
        policy=tuple(policy),
        tables={2: (route("::", 0, "eth1", "2001:db8:1::1"),)} if policy else {},
    )
    text = _text(rules)
    return Setting(
        host, read_rules(text, "an example", family=Family.IPV6).families[Family.IPV6], rejections=True
    )


def _setting(*rules: str, policy: Sequence[h.RoutingRule] = ()) -> Setting:
    app = h.Process("app", ANYONE, ANYONE, device="eth1")
    tables = {**TO_LO, 2: (h.Route(Net.read("0.0.0.0/0"), "eth1", ip("10.0.1.1")),)} if policy else {}
    host = replace(router(app), policy=tuple(policy), tables=tables)
    return Setting(host, read_rules(_text(rules), "an example").families[Family.IPV4], rejections=True)


def _text(rules: Sequence[str]) -> str:
    out = []
    for table in dict.fromkeys(line.split()[0] for line in rules):
        mine = [line.partition(" ")[2] for line in rules if line.split()[0] == table]
        policies = dict(line.split()[1:3] for line in mine if line.startswith("-P"))
        heads = [f":{chain} {policies.get(chain, 'ACCEPT')} [0:0]" for chain in BUILT_IN[table]]
        out += [f"*{table}", *heads, *(line for line in mine if line.startswith("-A")), "COMMIT"]
    return "\n".join([*out, ""])


def _frame(dst: int, proto: int = TCP, icmp_type: int = 0, flags: int = SYN) -> Packet:
    ports = (4000, 80) if proto in (TCP, UDP) else (0, 0)
    return Packet(CLIENT, dst, proto, *ports, flags if proto == TCP else 0, icmp_type, in_iface="eth0")


def _sent(dst: int, src: int, proto: int = TCP, device: str | None = None) -> Packet:
    return Packet(src, dst, proto, 4000, 80, SYN if proto == TCP else 0, uid=0, gid=0, device=device)
