"""What routing rules ask of packets beside their addresses and interfaces, as terms: the mark, the socket's uid, and what headers say."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from ..hosts import TOS_OF_RULES, Host, RoutingRule
from ..values import AH, ESP, TCP, UDP, Family, Ids, Ipv6Extension, Span
from .packets import SymPacket
from .terms import Bool, Bv, Terms

WHICH_PORTS = "which ports a routing rule is asked about"


class Keys(Struct, frozen=True):
    """What is None is 0: a lookup does not tell it, or the packet does not carry it."""

    mark: Bv
    uid: Bv | None = None
    proto: Bv | None = None
    sport: Bv | None = None
    dport: Bv | None = None
    tos: Bv | None = None


# -- of what is looked up


def of_sent(p: SymPacket) -> Keys:
    """What a socket sends or answers, and what the kernel answers."""
    return Keys(p.mark, p.uid, p.proto, p.sport, p.dport, p.rare.get("tos"))


def of_connecting(p: SymPacket) -> Keys:
    """The same before TCP has given the socket a port that has bound none (net/ipv4/tcp_ipv4.c: tcp_v4_connect)."""
    return replace(of_sent(p), sport=None)


def of_rerouted(host: Host, p: SymPacket) -> Keys:
    """What is routed anew behind OUTPUT, of which IPv4 asks no uid (net/ipv4/netfilter.c, net/ipv6/netfilter.c)."""
    uid = p.uid if host.family is Family.IPV6 else None
    return replace(of_arriving(host, p), uid=uid)


def of_arriving(host: Host, p: SymPacket) -> Keys:
    """What comes in: headers are looked at where some rule asks for them that may speak of what comes from outside
    (include/net/fib_rules.h: fib_rule_requires_fldissect)."""
    if any(reads_headers(rule) and rule.in_iface != "lo" for rule in host.routing_rules):
        return replace(of_sent(p), uid=None)
    return Keys(p.mark, tos=p.rare.get("tos"))


def turned(keys: Keys, mark: Bv) -> Keys:
    """Of the way back (net/ipv4/fib_frontend.c: __fib_validate_source)."""
    return replace(keys, mark=mark, sport=keys.dport, dport=keys.sport)


def reads_headers(rule: RoutingRule) -> bool:
    """It asks for the protocol, or for ports."""
    return any(word is not None for word in (rule.protocol, rule.source_ports, rule.destination_ports))


def asks_for_more(host: Host) -> bool:
    """Some rule asks for more than a mark, or stands before that of the local table."""
    return len(host.before_local) > 0 or not {"mark"}.issuperset(asked_by(host.policy))


# -- what a rule says of them


def said_of(rule: RoutingRule, keys: Keys, t: Terms) -> list[Bool]:
    """What a rule asks of the keys, each of which must hold (net/core/fib_rules.c: fib_rule_match)."""
    parts = []
    if rule.mark is not None:
        mask = rule.mark.mask
        parts.append((keys.mark & mask).is_(rule.mark.value & mask))
    if rule.uids is not None:
        parts.append(_between(keys.uid, rule.uids, t))
    if rule.protocol is not None:
        parts.append(t.false if keys.proto is None else keys.proto.is_(rule.protocol))
    for port, ports in ((keys.sport, rule.source_ports), (keys.dport, rule.destination_ports)):
        if ports is not None:
            parts.append(_between(port, ports, t))
    if rule.tos is not None:
        parts.append(t.false if keys.tos is None else (keys.tos & TOS_OF_RULES).is_(rule.tos))
    return parts


def _between(number: Bv | None, bounds: Ids | Span, t: Terms) -> Bool:
    if number is None:
        return t.truth(bounds.first == 0)
    if bounds.first == bounds.last:
        return number.is_(bounds.first)
    return number.at_least(bounds.first) & number.at_most(bounds.last)


def asked_by(policy: tuple[RoutingRule, ...]) -> tuple[str, ...]:
    """The fields of `Keys` that some rule asks for."""
    said = {
        "mark": "mark",
        "uid": "uids",
        "proto": "protocol",
        "sport": "source_ports",
        "dport": "destination_ports",
        "tos": "tos",
    }
    return tuple(
        field for field, word in said.items() if any(getattr(rule, word) is not None for rule in policy)
    )


def of_these(keys: Keys, names: tuple[str, ...]) -> tuple[int, ...]:
    """The terms of these fields, by their numbers; -1 is none."""
    terms: list[Bv | None] = [getattr(keys, name) for name in names]
    return tuple(-1 if term is None else term.ast for term in terms)


# -- what nobody knows


def untold_here(host: Host, p: SymPacket) -> Bool:
    """What is sent here, and of which nobody knows for which ports its route is looked up: ICMP's type and code may stand for
    them (include/net/flow.h: union flowi_uli), and what other protocols have depends on the socket."""
    of_lo = [rule for rule in host.routing_rules if may_be_of_sent(rule)]
    return _with_ports(of_lo, p, p.proto.is_(TCP) | p.proto.is_(UDP)) | _veiled(host, p)


def untold_outside(host: Host, p: SymPacket) -> Bool:
    """The same of what comes in, where an index of IPsec stands for ports (net/core/flow_dissector.c: proto_ports_offset)."""
    return _with_ports(host.routing_rules, p, ~(p.proto.is_(ESP) | p.proto.is_(AH))) | _veiled(host, p)


def may_be_of_sent(rule: RoutingRule) -> bool:
    """It may hold, or not, of what is sent here by what headers say: other interfaces than lo are none that this comes in by."""
    return rule.in_iface is None or rule.in_iface == "lo"


def _with_ports(rules: Sequence[RoutingRule], p: SymPacket, known: Bool) -> Bool:
    """Some rule asks for ports, perhaps of one protocol, and these are not known."""
    t = p.terms
    protocols = {rule.protocol for rule in rules if rule.source_ports or rule.destination_ports}
    if not protocols:
        return t.false
    asked = t.any_of(p.proto.is_(n) for n in protocols if n is not None)
    return ~known & (t.true if None in protocols else asked)


def _veiled(host: Host, p: SymPacket) -> Bool:
    """AH stands before the header that some rule asks for."""
    if "extensions" not in p.rare or not any(map(reads_headers, host.routing_rules)):
        return p.terms.false
    return ~(p.field("extensions") & Ipv6Extension.AUTH).is_(0)
