"""Planted slips: small wrong changes to one wing's text, and the module that comes of them."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from msgspec import Struct

import verifier
from verifier import concrete
from verifier.values import Family


class Slip(Struct, frozen=True):
    """In the file, `old` (which occurs once) has become `new`."""

    name: str
    file: str
    old: str
    new: str
    family: Family = Family.IPV4
    """Of the packets that notice it."""

    def __str__(self) -> str:
        return self.name


@contextmanager
def planted(slip: Slip, folder: Path) -> Iterator[ModuleType]:
    """The module `travel` of a copy of the concrete wing with this slip in it; the wing itself stays as it is."""
    copy = folder / "slipped"
    shutil.copytree(Path(concrete.__path__[0]), copy, ignore=shutil.ignore_patterns("__pycache__"))
    replace_once(copy / slip.file, slip.old, slip.new)
    name = f"{verifier.__name__}.slipped"
    spec = importlib.util.spec_from_file_location(
        name, copy / "__init__.py", submodule_search_locations=[str(copy)]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[name] = package
    try:
        spec.loader.exec_module(package)
        yield importlib.import_module(f"{name}.travel")
    finally:
        for loaded in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
            del sys.modules[loaded]


def replace_once(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times in {path.name}: write the slip anew"
    path.write_text(text.replace(old, new), encoding="utf-8")


SLIPS = (
    # -- matches
    Slip(
        "a uid is compared as if it were signed",
        "matches.py",
        "_within(packet.uid, owner.uid) == owner.uid_negated",
        "(owner.uid.first ^ 1 << 31 <= packet.uid ^ 1 << 31 <= owner.uid.last ^ 1 << 31) == owner.uid_negated",
    ),
    Slip(
        "a port is compared as if it were signed",
        "matches.py",
        "case r.DestinationPorts(span):\n            return _has_ports(packet) and _within(packet.dport, span)",
        "case r.DestinationPorts(span):\n            return _has_ports(packet) and "
        "span.first ^ 1 << 15 <= packet.dport ^ 1 << 15 <= span.last ^ 1 << 15",
    ),
    Slip(
        "multiport's range is open at its end",
        "matches.py",
        "case r.MultiportDestinations(spans):\n"
        "            return _has_ports(packet) and any(_within(packet.dport, s) for s in spans)",
        "case r.MultiportDestinations(spans):\n"
        "            return _has_ports(packet) and any(packet.dport in (s.first, *range(s.first, s.last)) for s in spans)",
    ),
    Slip(
        "negation is lost",
        "chains.py",
        "elif _holds(visit, match, packet, road) == literal.negated:",
        "elif not _holds(visit, match, packet, road):",
    ),
    Slip(
        "owner's own negation is lost",
        "matches.py",
        "_within(packet.uid, owner.uid) == owner.uid_negated",
        "not _within(packet.uid, owner.uid)",
    ),
    Slip(
        "a negated owner does not match a packet without a socket",
        "matches.py",
        "return not owner.supplementary and all(negated for given, negated in criteria if given)",
        "return False",
    ),
    Slip(
        "supplementary groups are not asked for",
        "matches.py",
        "its = [packet.gid, *_supplementary(packet, _known(road))] if owner.supplementary else [packet.gid]",
        "its = [packet.gid]",
    ),
    Slip(
        "with --suppl-groups a packet without a socket may match",
        "matches.py",
        "return not owner.supplementary and all(",
        "return all(",
    ),
    Slip(
        "what an entry's counters say never holds",
        "matches.py",
        "return BOTH if counts is Counting.COUNTERS and inside != sets.NO else inside",
        "return inside",
    ),
    Slip(
        "an entry stays whose time runs",
        "sets.py",
        "return {_said(entry)}, bool(entry.timeout)",
        "return {_said(entry)}, False",
    ),
    Slip(
        "an entry by another interface ends the search when it has gone",
        "sets.py",
        "stays = stays or not entry.timeout",
        "stays = True",
    ),
    Slip(
        "a member of a list stays whose time runs",
        "sets.py",
        "if inside == YES and not entry.timeout:",
        "if inside == YES:",
    ),
    Slip(
        "a network's mask is left out",
        "matches.py",
        "packet.src & net.mask == net.address",
        "packet.src == net.address",
    ),
    Slip("a name's `+` means nothing", "matches.py", 'if pattern.endswith("+"):', 'if pattern == "+":'),
    Slip(
        "a mark's value is masked before it is compared",
        "matches.py",
        "return packet.mark & mark.mask == mark.value",
        "return packet.mark & mark.mask == mark.value & mark.mask",
    ),
    Slip(
        "TCP flags: those outside the mask count",
        "matches.py",
        "packet.flags & mask == wanted",
        "packet.flags == wanted",
    ),
    # -- targets
    Slip(
        "a mark is set without its mask",
        "targets.py",
        "(mark & ~by.mask & ALL_32) ^ by.value",
        "by.value",
    ),
    Slip(
        "a mark is or-ed, not xor-ed",
        "targets.py",
        "(mark & ~by.mask & ALL_32) ^ by.value",
        "(mark & ~by.mask & ALL_32) | by.value",
    ),
    Slip(
        "a mark is shifted to the left alone",
        "targets.py",
        "return mark << bits & ALL_32 if bits >= 0 else mark >> -bits",
        "return mark << abs(bits) & ALL_32",
    ),
    Slip(
        "of a mark that is saved the whole is shifted",
        "targets.py",
        "            saved = _shifted(packet.mark & packet_mask, shift)\n"
        "            return _with_connection_mark(packet, MarkMask(saved, connection_mask))",
        "            return _with_connection_mark(packet, MarkMask(packet.mark & packet_mask, connection_mask), shift)",
    ),
    Slip(
        "REDIRECT leads to localhost at every hook",
        "nat.py",
        "if hook is Hook.OUTPUT:\n        return LOCALHOST",
        "if hook:\n        return LOCALHOST",
    ),
    Slip(
        "a port is given to protocols without ports",
        "nat.py",
        "if packet.proto in PORT_PROTOCOLS and to.ports is not None:",
        "if to.ports is not None:",
    ),
    # -- chains
    Slip(
        "a goto is taken for a jump",
        "chains.py",
        "                return _run(visit, chain, packet, (*calls, (name, number)))\n",
        "                packet, verdict = _run(visit, chain, packet, (*calls, (name, number)))\n"
        "                if verdict is not None:\n"
        "                    return packet, verdict\n",
    ),
    Slip(
        "a jump is taken for a goto",
        "chains.py",
        "                if verdict is not None:\n                    return packet, verdict\n            case r.Goto",
        "                return packet, verdict\n            case r.Goto",
    ),
    Slip(
        "RETURN is skipped",
        "chains.py",
        "case r.Return():\n                return packet, None",
        "case r.Return():\n                continue",
    ),
    Slip(
        "a policy is ignored",
        "chains.py",
        "if isinstance(visit.table.chains[name].policy, r.Drop):",
        "if False:",
    ),
    Slip(
        "a match that drops the packet only fails to match",
        "chains.py",
        "case Truth.DROP:\n                return packet, Dropped(visit.hook, visit.table.name, name, number)",
        "case Truth.DROP:\n                continue",
    ),
    Slip(
        "MARK ends its table",
        "chains.py",
        "            case (\n                None | r.Log() | r.SetMark() | r.SetConnMark()",
        "            case r.SetMark():\n                return packet, r.Accept()\n            case (\n                None | r.Log() | r.SetConnMark()",
    ),
    # -- hooks and conntrack
    Slip(
        "nat is consulted on lo",
        "travel.py",
        "if hook in (Hook.PREROUTING, Hook.INPUT) and packet.in_iface == LOOPBACK_DEVICE:",
        "if False:",
    ),
    Slip(
        "nat is consulted for INVALID packets",
        "travel.py",
        "if packet.ctstate is not CtState.NEW:\n",
        "if False:\n",
    ),
    Slip(
        "raw sees the connection's state",
        "travel.py",
        "replace(packet, ctstate=CtState.INVALID) if first else packet",
        "packet",
    ),
    Slip(
        "an ACK in the middle is never NEW",
        "conntrack.py",
        "(loose and seen == TcpFlag.ACK)",
        "(not loose and seen == TcpFlag.ACK)",
    ),
    Slip(
        "filter OUTPUT sees the new route's interface",
        "travel.py",
        "    passed = _pass(hop, Hook.OUTPUT, tables[split:], packet)\n",
        "    passed = _pass(hop, Hook.OUTPUT, tables[split:], replace(packet, out_iface=out))\n",
    ),
    Slip(
        "the nft backend's order at INPUT is the legacy one",
        "travel.py",
        "return NFT_INPUT if hop.setting.host.backend is Backend.NFT else TABLES[Hook.INPUT]",
        "return TABLES[Hook.INPUT]",
    ),
    Slip(
        "the socket survives lo",
        "travel.py",
        "        uid=None,\n        gid=None,\n        device=None,\n        groups=0,\n    )\n    if returning",
        "    )\n    if returning",
    ),
    # -- routing
    Slip(
        "a failure to re-route is ignored",
        "travel.py",
        "            return j.Lost(j.REROUTE_FAILED)\n        if ways",
        "            again = out\n        if ways",
    ),
    Slip(
        "a martian source is let in",
        "routing.py",
        "return Lost(MARTIAN) if refused else arrival",
        "return arrival",
    ),
    Slip(
        "route_localnet is not asked about",
        "routing.py",
        '        if not _either(road, iface, "route_localnet"):\n            return Lost(MARTIAN)\n    first',
        "        pass\n    first",
    ),
    Slip("rp_filter is the lesser of both", "routing.py", "return max(_conf(", "return min(_conf("),
    Slip(
        "the longest prefix does not win",
        "routing.py",
        "key=lambda route: (-(route.net.length or 0), route.metric)",
        "key=lambda route: (route.net.length or 0, route.metric)",
    ),
    Slip(
        "a broadcast address is one like any other",
        "routing.py",
        "if address == BROADCAST or address in road.broadcasts:",
        "if address == BROADCAST:",
    ),
    Slip(
        "the source selected is the destination itself, not its subnet's first address",
        "routing.py",
        "return next(own.ip for own in there if own.net == subnet)",
        "return dst",
    ),
    Slip(
        "a route's own source is not selected",
        "routing.py",
        "if route.source is not None:\n        return route.source",
        "if False:\n        return route.source",
    ),
    # -- sockets and proxies
    Slip(
        "the first listener gets it, and not the most specific",
        "routing.py",
        "if best is None or score > rank:",
        "if best is None:",
    ),
    Slip(
        "a listener bound to a device gets everything",
        "routing.py",
        "or socket.device not in (None, device):",
        "or False:",
    ),
    Slip(
        "the original destination is the one after NAT",
        "proxies.py",
        "ProxyState(process.name, proxy.name, sent.dst, sent.dport, client)",
        "ProxyState(process.name, proxy.name, delivered.dst, delivered.dport, client)",
    ),
    Slip(
        "the last route of a proxy that fits is taken, not the first",
        "proxies.py",
        "(route for route in proxy.routes if not",
        "(route for route in reversed(proxy.routes) if not",
    ),
    Slip("what a proxy refuses it dials", "proxies.py", "if _among(sent.dport, proxy.refuses):", "if False:"),
    Slip("a proxy's process sets no mark", "proxies.py", "mark=process.mark,", "mark=0,"),
    Slip(
        "the first dial is taken, whatever was chosen",
        "proxies.py",
        "to = route.dials[min(choices.picks.get(hop, 0), len(route.dials) - 1)]",
        "to = route.dials[0]",
    ),
)

BY_RULES = (
    Slip(
        "routing rules are asked from the last to the first",
        "routing.py",
        "    for rule in rules:",
        "    for rule in reversed(rules):",
    ),
    Slip(
        "a routing rule's mask of marks is ignored",
        "routing.py",
        "not (keys.mark ^ rule.mark.value) & rule.mark.mask)",
        "keys.mark == rule.mark.value)",
    ),
    Slip(
        "a routing rule's `not` is ignored",
        "routing.py",
        "return all(every) != rule.negated",
        "return all(every)",
    ),
    Slip(
        "a route as long as the length that is suppressed is taken",
        "routing.py",
        "(route.net.length or 0) <= rule.suppress",
        "(route.net.length or 0) < rule.suppress",
    ),
    Slip(
        "a mark that mangle changes is not routed anew",
        "travel.py",
        'if name == "mangle" and _routed_anew(before, packet):',
        "if False:",
    ),
    Slip(
        "the way back to a source is always looked up with the packet's mark",
        "routing.py",
        'marked=_either(road, iface, "src_valid_mark")',
        "marked=True",
    ),
    Slip(
        "the way back to a source never has the packet's mark",
        "routing.py",
        'marked=_either(road, iface, "src_valid_mark")',
        "marked=False",
    ),
    Slip(
        "the way back of what is forwarded is looked up as if it were for this host",
        "routing.py",
        "arrival.out or LOOPBACK_DEVICE",
        "LOOPBACK_DEVICE",
    ),
    Slip(
        "what a local route of a further table takes is forwarded",
        "routing.py",
        "    if route is not None and route.kind is RouteKind.LOCAL:\n        return _validated(road",
        "    if False:\n        return _validated(road",
    ),
    Slip(
        "a throw route ends the lookup",
        "routing.py",
        "if route is None or route.kind is RouteKind.THROW:\n            continue",
        "if route is None:\n            continue\n        if route.kind is RouteKind.THROW:\n            return None",
    ),
    Slip(
        "a routing rule that bars is passed over",
        "routing.py",
        "if rule.table is None:\n            return Said(None)",
        "if rule.table is None:\n            continue",
    ),
    Slip(
        "sources are asked in full only where rp_filter is on",
        "routing.py",
        "and (accept_local or not road.host.policy):",
        "and True:",
    ),
    Slip(
        "MASQUERADE knows its gateway whichever routing rule was taken",
        "routing.py",
        "return not road.host.policy or len(primary) < 2",
        "return True",
    ),
    Slip(
        "a route is looked up without the mark of the process",
        "proxies.py",
        "selected = select_source(road, dst, keys.of_connecting(packet))\n    return selected or 0",
        "selected = select_source(road, dst)\n    return selected or 0",
    ),
    Slip(
        "a range of uids has no end",
        "routing.py",
        "rule.uids.first <= keys.uid <= rule.uids.last",
        "rule.uids.first <= keys.uid",
    ),
    Slip(
        "a new route in IPv4 is asked for with the socket's uid",
        "keys.py",
        "uid = 0 if host.family is IPV4 else packet.uid or 0",
        "uid = packet.uid or 0",
    ),
    Slip(
        "headers are looked at whoever asks",
        "keys.py",
        "if not any(_has_it_dissected(rule) for rule in host.routing_rules):",
        "if False:",
    ),
    Slip(
        "the way back has the ports of the way there",
        "keys.py",
        "keys.proto, keys.dport, keys.sport, keys.tos)",
        "keys.proto, keys.sport, keys.dport, keys.tos)",
    ),
    Slip(
        "a source is selected with the port that the socket has later",
        "keys.py",
        "packet.proto, 0, packet.dport, packet.tos)",
        "packet.proto, packet.sport, packet.dport, packet.tos)",
    ),
    Slip(
        "what ICMP sends has no ports",
        "keys.py",
        "known = packet.proto in (TCP, UDP) or not any(",
        "known = True or not any(",
    ),
    Slip(
        "an index of IPsec is no port",
        "keys.py",
        "known = packet.proto not in (ESP, AH) or not any(",
        "known = True or not any(",
    ),
    Slip(
        "the way back that a rule asks for has the packet's protocol",
        "matches.py",
        "asked = Keys(packet.mark if match.valid_mark else 0, tos=packet.tos)",
        "asked = Keys(packet.mark if match.valid_mark else 0, proto=packet.proto, tos=packet.tos)",
    ),
    Slip(
        "what is sent asks the local table first, whatever stands before its rule",
        "routing.py",
        "    if first is not None:\n        return first.device or device\n",
        "",
    ),
    Slip(
        "what arrives asks the local table first, whatever stands before its rule",
        "routing.py",
        "    if first is None:\n        kind = type_of(road, dst)\n",
        "    if True:\n        kind = type_of(road, dst)\n",
    ),
    Slip(
        "a source asks the local table first, whatever stands before its rule",
        "routing.py",
        "first, kind = said_first(road, back), type_of(road, back.dst)",
        "first, kind = None, type_of(road, back.dst)",
    ),
    Slip(
        "the source of what goes to the host itself is an own address, whatever rule takes it elsewhere",
        "routing.py",
        "    if first is not None:\n        return _source_by(road, dst, first.route)\n",
        "",
    ),
    Slip(
        "a broadcast address is one whatever rule takes it elsewhere",
        "routing.py",
        "return flow.device in (None, *road.broadcasts[flow.dst]) and said_first(road, flow) is None",
        "return flow.device in (None, *road.broadcasts[flow.dst])",
    ),
    Slip(
        "a broadcast address is one iff it was one before it was routed anew",
        "travel.py",
        "            asked = ways.asked_again(hop.road, packet)\n            if again != out:\n",
        "            if again != out:\n",
    ),
    Slip(
        "what is for a socket here is forwarded if a rule says so",
        "travel.py",
        "if elsewhere and looked_for and _has_its_socket(hop, packet):",
        "if False:",
    ),
    Slip(
        "the way back that a rule asks for asks the local table first",
        "matches.py",
        "first = routing.said_first(road, back)",
        "first = None",
    ),
    Slip(
        "routing rules compare the whole TOS",
        "routing.py",
        "flow.keys.tos & TOS_OF_RULES == rule.tos",
        "flow.keys.tos == rule.tos",
    ),
)
"""Where routes are looked up by rules."""


IN_IPV6 = tuple(
    Slip(name, file, old, new, Family.IPV6)
    for name, file, old, new in (
        (
            "an own link-local address is one on every interface",
            "routing6.py",
            "device = iface if _is_near(dst) else None\n    if _entry",
            "device = None\n    if _entry",
        ),
        (
            "every own subnet's first address is anycast, forwarding or not",
            "routing.py",
            "    if not forwards_6(host):\n        return found\n",
            "",
        ),
        (
            "an anycast address is one like any other",
            "routing6.py",
            "return Arrival(broadcast=dst not in road.owners)",
            "return Arrival()",
        ),
        (
            "a link-local source is forwarded to another link",
            "routing6.py",
            "if route.device != iface and (src == 0 or is_link_local(src)):",
            "if route.device != iface and src == 0:",
        ),
        (
            "what comes from ::1 is seen by rules",
            "routing6.py",
            "if LOOPBACK in (src, dst) or is_multicast(src):",
            "if is_multicast(src):",
        ),
        (
            "a multicast scope is read from the wrong bits",
            "routing6.py",
            "return address >> 112 & 0xF",
            "return address >> 116 & 0xF",
        ),
        (
            "the first of several sources is taken",
            "routing6.py",
            "if len(found) > 1:\n        return Unmodelled(SOURCE_SELECTION)\n    return found[0]",
            "return found[0]",
        ),
        (
            "a source is looked for on the route's device alone",
            "routing6.py",
            "        [a for a in every if not _is_near(a)],\n",
            "",
        ),
        (
            "a proxy dials a mapped address in IPv6",
            "proxies.py",
            "if routing6.is_mapped(dst):\n        return 0, dst, Unmodelled(OTHER_FAMILY)",
            "if False:\n        return 0, dst, Unmodelled(OTHER_FAMILY)",
        ),
        (
            "who connects to :: connects there",
            "proxies.py",
            "dst = dst or routing6.LOOPBACK",
            "dst = dst",
        ),
        (
            "TCP from a mapped source is accepted",
            "travel.py",
            "if ipv6 and connects and routing6.is_mapped(packet.src):",
            "if False:",
        ),
        (
            "extension headers are passed over",
            "travel.py",
            "    if packet.extensions & _NOT_FOLLOWED:\n        return j.Unmodelled(AN_EXTENSION)\n    answering",
            "    answering",
        ),
        (
            "ICMP of IPv4 is ICMP in IPv6 too",
            "travel.py",
            "if packet.proto == (ICMPV6 if ipv6 else ICMP):",
            "if packet.proto == ICMP:",
        ),
        (
            "neighbour discovery is INVALID",
            "conntrack.py",
            "return CtState.UNTRACKED",
            "return CtState.INVALID",
        ),
        (
            "what has no next header is tracked",
            "conntrack.py",
            "packet.proto in (NO_NEXT_HEADER, ICMP)",
            "packet.proto == ICMP",
        ),
        (
            "ICMP of IPv4 is tracked in IPv6",
            "conntrack.py",
            "packet.proto in (NO_NEXT_HEADER, ICMP)",
            "packet.proto == NO_NEXT_HEADER",
        ),
        (
            "an address must be of every type that is asked of its route",
            "matches.py",
            "return not looked_up or bool(looked_up & _kinds(road, address, device))",
            "return looked_up <= _kinds(road, address, device)",
        ),
        (
            "AH is the last header",
            "matches.py",
            "return packet.extensions & Ipv6Extension.AUTH != 0",
            "return packet.proto == 51",
        ),
        (
            "the way back is that of the first route",
            "rules6.py",
            "return next((route for route in alike if (route.device or LOOPBACK_DEVICE) in wanted), best)",
            "return next((route for route in alike if wanted), best)",
        ),
        (
            "what mangle changed goes on",
            "travel.py",
            "            if again is None:\n                return j.Lost(j.REROUTE_FAILED)\n"
            "            if ways.has_lost_its_link(hop.road, packet, out):\n                return j.Unmodelled(ITS_LINK)\n"
            "            asked = ways.asked_again(hop.road, packet)\n            if again != out:\n",
            "            if again is not None and again != out:\n",
        ),
        (
            "a new route to a link-local address asks no interface",
            "routing6.py",
            "    if device is None and (is_link_local(dst) or is_multicast(dst)):\n        device = before\n",
            "",
        ),
    )
)


BY_RULES_IPV6 = tuple(
    Slip(name, file, old, new, Family.IPV6)
    for name, file, old, new in (
        (
            "routing rules of IPv6 are asked from the last to the first",
            "rules6.py",
            "for rule in road.host.policy or KERNELS_OWN:",
            "for rule in reversed(road.host.policy or KERNELS_OWN):",
        ),
        (
            "a rule of IPv6 that asks for a source takes none for ::",
            "rules6.py",
            "(flow.src is not None and within(flow.src, rule.source))",
            "within(flow.src or 0, rule.source)",
        ),
        (
            "a rule's `not` is ignored in IPv6",
            "rules6.py",
            "return all(every) != rule.negated",
            "return all(every)",
        ),
        (
            "a throw route ends an IPv6 lookup",
            "rules6.py",
            "if route is None or route.kind is RouteKind.THROW:",
            "if route is None:",
        ),
        (
            "what leads nowhere is suppressed in IPv6",
            "rules6.py",
            "if short and route.device is not None:",
            "if short:",
        ),
        (
            "a local route takes what arrives where this host forwards alone",
            "routing6.py",
            "    if route is not None and route.kind is RouteKind.LOCAL:\n        return Arrival()\n"
            "    if not forwards_6(road.host):\n        return Lost(NOT_FORWARDED)\n",
            "    if not forwards_6(road.host):\n        return Lost(NOT_FORWARDED)\n"
            "    if route is not None and route.kind is RouteKind.LOCAL:\n        return Arrival()\n",
        ),
        (
            "what arrives at an IPv6 host is routed without its mark",
            "routing6.py",
            "Flow(dst, src, keys, iface, device=device)",
            "Flow(dst, src, NO_KEYS, iface, device=device)",
        ),
        (
            "an IPv6 socket's mark does not count",
            "ways.py",
            "sent = keys.of_sent(packet)",
            "sent = keys.Keys(0, packet.uid or 0, packet.proto, packet.sport, packet.dport)",
        ),
        (
            "an IPv6 socket is always bound",
            "ways.py",
            "return any(way is not None and way != first for way in others)",
            "return False",
        ),
        (
            "all IPv6 sockets that write headers go one way",
            "ways.py",
            "return ask_for_what_is_written(road) or ask_for_lengths(road)",
            "return False",
        ),
        (
            "a new route in IPv6 forgets the uid, as in IPv4",
            "keys.py",
            "uid = 0 if host.family is IPV4 else packet.uid or 0",
            "uid = 0",
        ),
        (
            "TCP of IPv6 has its port from the first lookup on",
            "ways.py",
            "if packet.proto != TCP or not ask_for_source_ports(road):",
            "if True:",
        ),
        (
            "a proxy of IPv6 has its port from the first lookup on",
            "proxies.py",
            "if cut is None and ask_for_source_ports(road) and",
            "if False and",
        ),
        (
            "the way back that a rule asks for has no protocol in IPv6",
            "matches.py",
            "keys = Keys(packet.mark if match.valid_mark else 0, proto=packet.proto)",
            "keys = Keys(packet.mark if match.valid_mark else 0)",
        ),
        (
            "AH does not hide what is behind it",
            "keys.py",
            "return bool(packet.extensions & Ipv6Extension.AUTH) and any(map(asks_for_headers, host.routing_rules))",
            "return False",
        ),
        (
            "what a proxy's first SYN found is not asked again",
            "proxies.py",
            "None if len(ways) == 1 else Unmodelled(ITS_SOCKET)",
            "None",
        ),
        (
            "where there is no route without a source there is none with one",
            "routing6.py",
            "return Unmodelled(SOURCE_SELECTION) if ask_for_sources(road) else None",
            "return None",
        ),
        (
            "the way back is asked without an interface",
            "matches.py",
            "asked = None if match.loose and device is None else packet.in_iface",
            "asked = device",
        ),
        (
            "an address that a local route takes is none of this host's",
            "matches.py",
            "if device in its or (device is None and routing6.is_taken(road, address)):",
            "if device in its or (device is None and its):",
        ),
        (
            "a datagram is answered from an address that nobody may bind",
            "answers.py",
            "if packet.proto == UDP and not own and not transparent:",
            "if False:",
        ),
        (
            "rules that ask for an interface pass over what the kernel answers",
            "answers.py",
            "return ways.came_by(road, delivered) if listener is None and road.host.family is not IPV4 else None",
            "return None",
        ),
        (
            "a local route on lo is as good as the address's own link",
            "routing6.py",
            "return bool(_entry(road, dst, None)) and not _entry(road, dst, LOOPBACK_DEVICE)",
            "return False",
        ),
    )
)
"""Where IPv6 routes are looked up by rules."""


def slipped_prover(slip: Slip, folder: Path) -> ModuleType:
    """The module `verifier.prove` with this slip in it, under another name."""
    path = folder / "prove_slipped.py"
    shutil.copy(Path(verifier.__path__[0]) / slip.file, path)
    replace_once(path, slip.old, slip.new)
    name = f"{verifier.__name__}.prove_slipped"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[name]
    return module


GO_ON = (
    "                return self._undecided(case, claim, result.model)\n"
    "            complete = self.complete(case, question.premise)\n"
)

IN_THE_PROVER = (
    Slip(
        "what goes on after the third hop is proved",
        "prove.py",
        GO_ON,
        GO_ON + "            if js.depth >= 3:\n                return Proved(js.depth, self.bound)\n",
    ),
    Slip(
        "every proxy state is said to have been after the third hop",
        "prove.py",
        GO_ON,
        GO_ON.replace("self.complete(case, question.premise)", "js.depth >= 3"),
    ),
    Slip(
        "only what surely breaks a claim is looked for",
        "prove.py",
        "            question = self._question(js, claim, complete)\n"
        "            result = self.ask(case, question.premise, question.possibly_broken)\n",
        "            question = self._question(js, claim, complete)\n"
        "            result = self.ask(case, question.premise, question.broken)\n",
    ),
)
