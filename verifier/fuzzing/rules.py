"""Rule sets that the kernel loads, drawn at random: every match and target whose meaning is known, in every place that takes it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .. import rules as r
from ..hooks import BUILT_IN
from ..values import ALL_32, CtState, PacketKind, Span
from . import numbers as n

Draw = random.Random

# -- matches --------------------------------------------------------------------------------------------


def _owner(draw: Draw) -> r.OwnerIds:
    uid = n.ids(draw) if n.flip(draw, 70) else None
    gid = n.ids(draw) if n.flip(draw, 40) else None
    exists = n.flip(draw, 15) or (uid is None and gid is None)
    negated = [n.flip(draw) for _ in range(3)]
    return r.OwnerIds(
        uid,
        uid is not None and negated[0],
        gid,
        gid is not None and negated[1],
        exists,
        exists and negated[2],
        gid is not None and n.flip(draw, 40),
    )


def _states(draw: Draw) -> r.CtStates:
    states = frozenset(
        n.some(draw, (CtState.NEW, CtState.INVALID, CtState.UNTRACKED, CtState.ESTABLISHED), 3)
    )
    nat = frozenset(n.some(draw, tuple(r.Nat), 2)) if n.flip(draw, 30) else frozenset()
    return r.CtStates(frozenset() if nat and n.flip(draw) else states, nat)


def _conntrack(draw: Draw) -> r.Conntrack:
    made: dict[str, r.CtCriterion] = {
        "ctstate": _states(draw),
        "ctproto": r.CtProtocol(draw.choice((6, 17, 1))),
        **{f"ct{end.value}": r.CtAddress(end, n.net_prefix(draw)) for end in r.CtEnd},
        **{f"ct{end.value}port": r.CtPorts(end, n.span(draw)) for end in r.CtEnd},
        "ctstatus": r.CtStatus(draw.choice((0, 1, 2, 8))),
        "ctdir": r.CtDirection(n.flip(draw)),
    }
    names = list(made)
    wanted = sorted(n.some(draw, names, 2), key=names.index)
    wanted = wanted if wanted != ["ctstate"] else ["ctstate", "ctproto"]
    return r.Conntrack(tuple(r.CtTest(made[k], k != "ctdir" and n.flip(draw, 30)) for k in wanted))


def _address_type(draw: Draw) -> r.AddressType:
    kinds = (
        r.RouteType.LOCAL, r.RouteType.LOCAL, r.RouteType.UNICAST, r.RouteType.BROADCAST, r.RouteType.MULTICAST,
        r.RouteType.UNREACHABLE,
    )  # fmt: skip
    source = frozenset(n.some(draw, kinds, 2)) if n.flip(draw) else frozenset()
    destination = frozenset(n.some(draw, kinds, 2)) if n.flip(draw) or not source else frozenset()
    return r.AddressType(
        source,
        bool(source) and n.flip(draw, 30),
        destination,
        bool(destination) and n.flip(draw, 30),
        draw.choice((None, None, *r.Limit)),
    )


def _physdev(draw: Draw) -> r.Physdev:
    return draw.choice((r.Physdev(is_in=False), r.Physdev(is_in=True), r.Physdev(is_bridged=False)))


def _ttl(draw: Draw) -> r.Ttl:
    return r.Ttl(draw.choice(tuple(r.Comparison)), n.near(draw, n.TTLS, 255))


def _tos(draw: Draw) -> r.Tos:
    return r.Tos(draw.choice(n.TOSES), draw.choice((*n.TOSES, 0xFF)))


def _kinds(draw: Draw) -> PacketKind:
    return draw.choice((PacketKind.UNICAST, PacketKind.UNICAST, PacketKind.BROADCAST, PacketKind.MULTICAST))


def _sctp_chunks(draw: Draw) -> r.SctpChunks:
    chunks = frozenset(n.some(draw, (1, 1, 1, 0, 3, 14, 128), 3)) if n.flip(draw, 95) else frozenset()
    flags = []
    for kind, bits in ((0, 0xF), (14, 1)):
        if kind in chunks and n.flip(draw):
            mask = draw.randint(1, bits)
            flags.append(r.ChunkFlags(kind, mask, draw.randint(0, bits) & mask))
    return r.SctpChunks(draw.choice(("any", "all", "only")), chunks, tuple(flags))


MATCHES: Mapping[type[Any], Callable[[Draw], r.Match]] = {
    r.Source: lambda d: r.Source(n.net(d)),
    r.Destination: lambda d: r.Destination(n.net(d)),
    r.InInterface: lambda d: r.InInterface(n.iface(d)),
    r.OutInterface: lambda d: r.OutInterface(n.iface(d)),
    r.Protocol: lambda d: r.Protocol(d.choice((6, 6, 17, 1, 132, 47))),
    r.Fragment: lambda _: r.Fragment(),
    r.SourcePorts: lambda d: r.SourcePorts(n.span(d)),
    r.DestinationPorts: lambda d: r.DestinationPorts(n.span(d)),
    r.TcpFlags: lambda d: r.TcpFlags(d.choice((0x17, 0x3F, 2, 0x12)), d.choice((2, 2, 0x12, 0x10, 0))),
    r.TcpOption: lambda d: r.TcpOption(d.choice(n.OPTIONS)),
    r.SctpChunks: _sctp_chunks,
    r.DccpTypes: lambda d: r.DccpTypes(frozenset(n.some(d, (0, 1, 5, 10), 2))),
    r.DccpOption: lambda d: r.DccpOption(d.choice(n.OPTIONS)),
    r.IcmpType: lambda d: r.IcmpType(d.choice(n.ICMP_TYPES), d.choice((None, None, 0, 1))),
    r.Esp: lambda d: r.Esp(*n.ordered(d, n.SPIS, ALL_32)),
    r.Ah: lambda d: r.Ah(*n.ordered(d, n.SPIS, ALL_32), n.flip(d, 30)),
    r.MultiportSources: lambda d: r.MultiportSources(n.spans(d)),
    r.MultiportDestinations: lambda d: r.MultiportDestinations(n.spans(d)),
    r.MultiportPorts: lambda d: r.MultiportPorts(n.spans(d)),
    r.SourceRange: lambda d: r.SourceRange(*n.ordered(d, n.ADDRESSES, ALL_32)),
    r.DestinationRange: lambda d: r.DestinationRange(*n.ordered(d, n.ADDRESSES, ALL_32)),
    r.Length: lambda d: r.Length(*n.ordered(d, n.SIZES, 0xFFFF)),
    r.Ttl: _ttl,
    r.Tos: _tos,
    r.Dscp: lambda d: r.Dscp(d.choice((0, 1, 0x20, 0x2E, 0x3F))),
    r.PacketType: lambda d: r.PacketType(_kinds(d)),
    r.MacSource: lambda d: r.MacSource(d.choice(n.MACS), n.flip(d)),
    r.OwnerIds: _owner,
    r.CtStates: _states,
    r.Conntrack: _conntrack,
    r.Mark: lambda d: r.Mark(n.mark(d)),
    r.ConnMark: lambda d: r.ConnMark(n.mark(d), n.flip(d, 30)),
    r.AddressType: _address_type,
    r.ReversePath: lambda d: r.ReversePath(n.flip(d, 30), False, n.flip(d, 30), n.flip(d, 30)),
    r.SocketMatch: lambda d: r.SocketMatch(False, n.flip(d)),
    r.Physdev: _physdev,
    r.Chance: lambda d: r.Chance("statistic", "--mode random --probability 0.50000000000"),
}
"""All but what nothing decides, and what IPv4 has not: sets are tried by themselves, for hosts have none."""

COMMON = (
    r.Source, r.Destination, r.InInterface, r.OutInterface, r.Protocol, r.SourcePorts, r.DestinationPorts, r.TcpFlags,
    r.MultiportDestinations, r.Mark, r.CtStates, r.Conntrack, r.OwnerIds, r.OwnerIds,
)  # fmt: skip
"""Drawn more often than the others."""

PROTOCOLS: Mapping[type[Any], tuple[int, ...]] = {
    r.SourcePorts: (6, 17, 132), r.DestinationPorts: (6, 17, 132),
    r.MultiportSources: (6, 17, 132), r.MultiportDestinations: (6, 17, 132), r.MultiportPorts: (6, 17, 132),
    r.TcpFlags: (6,), r.TcpOption: (6,), r.SctpChunks: (132,), r.DccpTypes: (33,), r.DccpOption: (33,),
    r.IcmpType: (1,), r.Esp: (50,), r.Ah: (51,),
}  # fmt: skip
"""Matches that the kernel takes only beside `-p` with one of these."""

PLACES: Mapping[type[Any], tuple[str, ...]] = {
    r.OwnerIds: ("OUTPUT", "POSTROUTING"), r.ReversePath: ("PREROUTING",), r.SocketMatch: ("PREROUTING", "INPUT"),
    r.MacSource: ("PREROUTING", "INPUT", "FORWARD"), r.Physdev: ("PREROUTING", "FORWARD", "POSTROUTING"),
    r.Redirect: ("PREROUTING", "OUTPUT"), r.Dnat: ("PREROUTING", "OUTPUT"), r.Snat: ("INPUT", "POSTROUTING"),
    r.Masquerade: ("POSTROUTING",), r.ClampMss: ("FORWARD", "OUTPUT", "POSTROUTING"),
}  # fmt: skip
"""The hooks that the kernel takes a class at, where it does not take it at all."""

WITHOUT = {
    "PREROUTING": r.OutInterface, "INPUT": r.OutInterface, "OUTPUT": r.InInterface, "POSTROUTING": r.InInterface,
}  # fmt: skip
"""The interface that a built-in chain does not know: a chain of the user's own may ask, and finds none."""


def _literals(draw: Draw, table: str, chain: str, hook: str) -> tuple[r.Literal, ...]:
    """Zero to three literals that the tool takes in one rule of this chain, which packets of this hook pass."""
    protocol = 0
    kept: dict[object, r.Literal] = {}
    for _ in range(draw.choice((0, 1, 1, 1, 2, 2, 3))):
        kind = draw.choice(COMMON if n.flip(draw, 60) else tuple(MATCHES))
        if hook not in PLACES.get(kind, (hook,)) or WITHOUT.get(chain) is kind:
            continue
        if kind is r.ReversePath and table == "nat":
            continue
        wanted = PROTOCOLS.get(kind)
        if wanted and protocol not in wanted:
            if r.Protocol in kept:
                continue
            protocol = draw.choice(wanted)
            kept[r.Protocol] = r.Literal(r.Protocol(protocol))
        match = MATCHES[kind](draw)
        if isinstance(match, r.Protocol):
            if r.Protocol in kept:
                continue
            protocol = 0
        if isinstance(match, r.Conntrack) and protocol not in (6, 17, 132):
            match = _without_ports(match)
        if isinstance(match, r.AddressType) and not _loads(match, hook):
            continue
        kept[kind if kind in r.HEADER else len(kept)] = r.Literal(match, _negated(draw, match))
    return r.ordered(_as_written(tuple(kept.values())))


def _as_written(literals: tuple[r.Literal, ...]) -> tuple[r.Literal, ...]:
    """Without what iptables-nft 1.8.9 loads as something else (docs/kernel.md): two negated ports become `not both`, and the
    negation of all ports is left out."""
    kept: list[r.Literal] = []
    barred = False
    for literal in literals:
        match = literal.match
        if literal.negated and isinstance(match, r.SourcePorts | r.DestinationPorts):
            if barred or match.ports == Span(0, 0xFFFF):
                continue
            barred = True
        kept.append(literal)
    return tuple(kept)


def _without_ports(match: r.Conntrack) -> r.Conntrack:
    """What a connection's ports are of protocols that have none is not modelled (docs/limits.md)."""
    kept = tuple(t for t in match.tests if not isinstance(t.criterion, r.CtPorts))
    return r.Conntrack(kept or (r.CtTest(r.CtDirection(False)),))


def _loads(match: r.AddressType, hook: str) -> bool:
    """(net/netfilter/xt_addrtype.c: addrtype_mt_checkentry_v1)"""
    if match.limit is r.Limit.OUT:
        return hook not in ("PREROUTING", "INPUT")
    if match.limit is r.Limit.IN:
        return hook not in ("POSTROUTING", "OUTPUT")
    return True


def _negated(draw: Draw, match: r.Match) -> bool:
    if isinstance(match, (*r.OWN_NEGATION, r.SocketMatch, r.Chance)):
        return False
    if isinstance(match, r.Ttl) and match.comparison is not r.Comparison.EQUAL:
        return False
    return n.flip(draw, 30)


# -- targets --------------------------------------------------------------------------------------------


def _nat_range(draw: Draw, ports: bool) -> r.NatRange:
    first: int | None = None
    last: int | None = None
    if not ports or n.flip(draw, 75):
        first = draw.choice(n.ADDRESSES)
        last = first + draw.randint(1, 3) if n.flip(draw, 15) and first < ALL_32 - 3 else first
    if not ports or (first is not None and n.flip(draw, 30)):
        return r.NatRange(first, last)
    found = n.span(draw, 1)
    # The tool takes no base beside a single port.
    shifted = found.first < found.last and n.flip(draw, 50)
    return r.NatRange(first, last, found, draw.choice(n.PORTS) if shifted else None)


def _choice(draw: Draw) -> r.PortChoice | None:
    return r.PortChoice.RANDOM if n.flip(draw, 12) else None


def _ports(draw: Draw, allowed: bool) -> Span | None:
    return n.span(draw, 1) if allowed and n.flip(draw, 70) else None


def _target(
    draw: Draw, table: str, hook: str, callees: Sequence[str], literals: tuple[r.Literal, ...]
) -> r.Target | None:
    """A target that this table takes at this hook, beside these literals."""
    named = [lit for lit in literals if isinstance(lit.match, r.Protocol)]
    ports = any(
        isinstance(lit.match, r.Protocol) and lit.match.number in (6, 17, 132) and not lit.negated
        for lit in named
    )
    tcp = any(
        isinstance(lit.match, r.Protocol) and lit.match.number == 6 and not lit.negated for lit in named
    )
    makers: list[Callable[[], r.Target | None]] = [
        lambda: None,
        lambda: r.Accept(),
        lambda: r.Return(),
        lambda: r.SetMark(n.mark(draw)),
        lambda: r.SetMark(n.mark(draw)),
        lambda: r.SetConnMark(n.mark(draw), draw.choice(n.SHIFTS)),
        lambda: r.SaveMark(draw.choice(n.MASKS), draw.choice(n.MASKS), draw.choice(n.SHIFTS)),
        lambda: r.RestoreMark(draw.choice(n.MASKS), draw.choice(n.MASKS), draw.choice(n.SHIFTS)),
        lambda: r.Log("-j LOG"),
    ]
    if callees:
        makers += [lambda: r.Jump(draw.choice(callees)), lambda: r.Goto(draw.choice(callees))] * 4
    if table != "nat":
        makers.append(lambda: r.Drop())
    if table == "raw":
        makers += [lambda: r.NoTrack(), lambda: r.NoTrack()]
        makers += [lambda: r.TrackAs(draw.choice(ZONES))] * 3
    if table == "filter":
        makers.append(lambda: r.Reject("tcp-reset" if tcp else "icmp-port-unreachable"))
    if table == "mangle":
        makers += [
            lambda: r.ChangeTtl(draw.choice(tuple(r.Change)), draw.choice((1, 2, 63, 255))),
            lambda: r.SetTos(draw.choice(n.TOSES), draw.choice(n.TOSES)),
            lambda: r.SetDscp(draw.choice((0, 1, 0x2E, 0x3F))),
        ]
    if (table, hook) == ("mangle", "PREROUTING") and (tcp or _is_udp(named)):
        makers += [lambda: _tproxy(draw)] * 4
    if table == "nat":
        makers += [lambda: r.Netmap(n.net_prefix(draw))] * 3
        if hook in ("PREROUTING", "OUTPUT"):
            makers += [lambda: r.Redirect(_ports(draw, ports), _choice(draw))] * 8
            makers += [lambda: r.Dnat(_nat_range(draw, ports), _choice(draw))] * 8
        else:
            makers += [lambda: r.Snat(_nat_range(draw, ports), _choice(draw))] * 8
        if hook == "POSTROUTING":
            makers += [lambda: r.Masquerade(_ports(draw, ports), _choice(draw))] * 6
    return draw.choice(makers)()


ZONES = ("--zone 1", "--zone 1", "--zone 2", "--zone-orig 1", "--zone-reply 1")


def _is_udp(named: Sequence[r.Literal]) -> bool:
    return any(
        isinstance(lit.match, r.Protocol) and lit.match.number == 17 and not lit.negated for lit in named
    )


def _tproxy(draw: Draw) -> r.Tproxy:
    address = draw.choice(n.OWN) if n.flip(draw, 25) else None
    return r.Tproxy(draw.choice((0, *n.LISTENING, *n.LISTENING)), address, n.mark(draw))


# -- tables ---------------------------------------------------------------------------------------------

TABLES = {"nat": 85, "filter": 65, "mangle": 45, "raw": 35, "security": 20}
"""How often, of a hundred rule sets, a table is there."""


def table(draw: Draw, name: str, most: int) -> r.Table:
    """Built-in chains, and for each hook up to two chains of the user's own that packets of it alone pass."""
    chains: dict[str, r.Chain] = {}
    own: dict[str, r.Chain] = {}
    for hook in BUILT_IN[name]:
        if n.flip(draw, 5):
            continue
        users = [f"{hook[:3]}{i}" for i in range(draw.choice((0, 0, 1, 1, 2, 3)))]
        for i, user in enumerate(users):
            own[user] = r.Chain(user, None, _rules(draw, name, user, hook, users[i + 1 :], most))
        policy = r.Drop() if n.flip(draw, 4) else r.Accept()
        chains[hook] = r.Chain(hook, policy, _rules(draw, name, hook, hook, users, most))
    return r.Table(name, {**chains, **own})


def _rules(
    draw: Draw, table_: str, chain: str, hook: str, callees: Sequence[str], most: int
) -> tuple[r.Rule, ...]:
    found = []
    for _ in range(draw.randint(0, most)):
        literals = _literals(draw, table_, chain, hook)
        target = _target(draw, table_, hook, callees, literals)
        if not literals and isinstance(target, r.Drop | r.Reject):
            target = None
        found.append(r.Rule(literals, target))
    return tuple(found)


def rule_set(draw: Draw, most: int = 4) -> r.RuleSet:
    """At most `most` rules in each chain, and at least one table."""
    names = [name for name, percent in TABLES.items() if n.flip(draw, percent)] or ["nat"]
    return r.RuleSet({name: _without_template(table(draw, name, most)) for name in names})


REJECTS = (
    "icmp-net-unreachable", "icmp-host-unreachable", "icmp-proto-unreachable", "icmp-port-unreachable", "icmp-net-prohibited",
    "icmp-host-prohibited", "icmp-admin-prohibited",
)  # fmt: skip


NO_RESETS = (r.Literal(r.Protocol(6)), r.Literal(r.TcpFlags(4, 4), negated=True))
"""What a reset can answer: it would be rejected itself, on its way out, if it were not excepted."""


def rejecting(draw: Draw, rules: r.RuleSet) -> r.RuleSet:
    """The rule set, in whose filter much is rejected, and of which nothing asks for sockets most of the time: of what has the
    kernel's own nothing is told then."""
    if n.flip(draw, 85):
        rules = r.each_rule(rules, _of_no_socket)
    filter_ = rules.tables.get("filter", r.Table("filter", {}))
    chains = dict(filter_.chains)
    for hook in ("INPUT", "FORWARD", "OUTPUT"):
        for _ in range(draw.choice((0, 1, 1, 2))):
            found = NO_RESETS if n.flip(draw, 30) else _literals(draw, "filter", hook, hook)
            tcp = any(
                isinstance(x.match, r.Protocol) and x.match.number == 6 and not x.negated for x in found
            )
            if hook == "OUTPUT" and not found:
                continue
            how = "tcp-reset" if tcp and n.flip(draw, 80) else draw.choice(REJECTS)
            old = chains.get(hook, r.Chain(hook, r.Accept()))
            chains[hook] = r.Chain(hook, old.policy, (r.Rule(found, r.Reject(how)), *old.rules))
    return r.RuleSet({**rules.tables, "filter": r.Table("filter", chains)}, rules.family)


def _of_no_socket(rule: r.Rule) -> r.Rule:
    kept = (
        x
        for x in rule.literals
        if not (isinstance(x.match, r.OwnerIds) and (x.match.socket_exists or x.match.supplementary))
    )
    literals = tuple(kept)
    ends = isinstance(rule.target, r.Drop | r.Reject) and not literals
    return r.Rule(literals, None if ends else rule.target)


def _without_template(t: r.Table) -> r.Table:
    """In raw, behind a CT target, the template that it made has a mark and addresses, which are not modelled (docs/limits.md)."""
    rules = [rule for chain in t.chains.values() for rule in chain.rules]
    if t.name != "raw" or not any(isinstance(rule.target, r.TrackAs) for rule in rules):
        return t
    return r.Table(
        t.name,
        {
            name: r.Chain(name, chain.policy, tuple(rule for rule in chain.rules if not _asks_template(rule)))
            for name, chain in t.chains.items()
        },
    )


def _asks_template(rule: r.Rule) -> bool:
    asked = any(isinstance(lit.match, r.ConnMark | r.Conntrack) for lit in rule.literals)
    return asked or isinstance(rule.target, r.SetConnMark | r.SaveMark | r.RestoreMark)
