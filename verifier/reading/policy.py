"""The lines of `ip rule` read as routing rules."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from ..hosts import BARRED, MAIN, RouteKind, RoutingRule
from ..values import IPV4, Family, Ids, MarkMask, Net, Span, read_protocol
from .errors import did_you_mean
from .routes import DEFAULT_TABLE, LOCAL_TABLE, read_table
from .words import read_iface, read_of

_ENDS = {kind.value: kind for kind in BARRED}
_NUMBERS = {"6": RouteKind.BLACKHOLE, "7": RouteKind.UNREACHABLE, "8": RouteKind.PROHIBIT}
"""The same as `ip -N rule` prints them (include/uapi/linux/rtnetlink.h: RTN_BLACKHOLE)."""
_NOT_READ = (
    "dscp",
    "flowlabel",
    "tun_id",
    "realms",
    "goto",
    "nop",
    "l3mdev",
    "suppress_ifgroup",
    "nat",
)
_WORDS = (
    "from",
    "to",
    "iif",
    "oif",
    "fwmark",
    "not",
    "lookup",
    "table",
    "tos",
    "dsfield",
    "uidrange",
    "ipproto",
    "sport",
    "dport",
    "suppress_prefixlength",
    "proto",
    *_ENDS,
)


class Numbered(Struct, frozen=True):
    """A rule with its priority: the least is asked first."""

    priority: int
    rule: RoutingRule


_LOCAL, _MAIN = Numbered(0, RoutingRule(LOCAL_TABLE)), Numbered(32766, RoutingRule(MAIN))

KERNELS_OWN = {
    IPV4: (_LOCAL, _MAIN, Numbered(32767, RoutingRule(DEFAULT_TABLE))),
    Family.IPV6: (_LOCAL, _MAIN),
}
"""(net/ipv4/fib_rules.c: fib_default_rules_init; net/ipv6/fib6_rules.c: fib6_rules_net_init)"""


def read_routing_rule(line: str, family: Family = IPV4) -> Numbered:
    """A line as `ip rule` or `ip -6 rule` prints it, `100: from all fwmark 0x1/0x1 lookup 100`; raises ValueError for what would
    change its meaning.
    """
    number, colon, rest = line.partition(":")
    if not colon or not number.strip().isdecimal() or int(number) > 0xFFFFFFFF:
        raise ValueError("a routing rule begins with its priority and a colon, as `ip rule` prints it")
    words = rest.replace("[detached]", "").split()
    table: int | None = None
    kind = RouteKind.UNICAST
    source = destination = None
    in_iface = out_iface = None
    mark: MarkMask | None = None
    negated = False
    suppress: int | None = None
    uids: Ids | None = None
    protocol: int | None = None
    source_ports: Span | None = None
    destination_ports: Span | None = None
    tos: int | None = None
    while words:
        word = words.pop(0)
        if word == "not":
            negated = True
            continue
        if word in _ENDS or word in _NUMBERS:
            kind = _ENDS.get(word) or _NUMBERS[word]
            continue
        if word in _NOT_READ:
            raise ValueError(f"`{word}` in a routing rule is not read yet")
        if word not in _WORDS:
            hint = did_you_mean(word, _WORDS)
            raise ValueError(f"`{word}` in a routing rule is not read" + (f": {hint}" if hint else ""))
        if not words:
            raise ValueError(f"`{word}` needs a value")
        value = words.pop(0)
        match word:
            case "from":
                source = _net(value, family)
            case "to":
                destination = _net(value, family)
            case "iif":
                in_iface = read_iface(value)
            case "oif":
                out_iface = read_iface(value)
            case "fwmark":
                mark = MarkMask.read(value)
            case "suppress_prefixlength":
                suppress = int(value) if value.isdecimal() else None
                if suppress is None:
                    raise ValueError(f"`{value}` is no prefix length")
            case "uidrange":
                uids = _uids(value)
            case "ipproto":
                # `ip -N rule` of iproute2 6.1 prints `ipproto-6`.
                protocol = read_protocol(value.removeprefix("ipproto-"))
            case "sport":
                source_ports = _ports(value)
            case "dport":
                destination_ports = _ports(value)
            case "tos" | "dsfield":
                if family is not IPV4:
                    raise ValueError(f"`{word}` in a routing rule of IPv6 is not read yet")
                tos = _tos(value)
            case "lookup" | "table":
                table = read_table(value)
            case _:
                assert word == "proto", "who made the rule makes no difference"
    if table is None and kind is RouteKind.UNICAST:
        raise ValueError("a routing rule needs `lookup TABLE`")
    if source is not None and source.length == 0:
        source = None
    if destination is not None and destination.length == 0:
        destination = None
    rule = RoutingRule(
        table,
        source,
        destination,
        in_iface,
        out_iface,
        mark,
        negated,
        suppress,
        kind,
        uids,
        protocol,
        source_ports,
        destination_ports,
        tos,
    )
    return Numbered(int(number), rule)


def _uids(word: str) -> Ids:
    first, sep, last = word.partition("-")
    if not (sep and first.isdecimal() and last.isdecimal()):
        raise ValueError(f"`{word}` is no range of uids, such as 1000-1999")
    return Ids(int(first), int(last))


def _ports(word: str) -> Span:
    first, sep, last = word.partition("-")
    if not (first.isdecimal() and (last.isdecimal() or not sep)):
        raise ValueError(f"`{word}` is no port, nor a range of them such as 80-90")
    return Span(int(first), int(last or first))


def _tos(word: str) -> int | None:
    """A TOS of 0 is asked of nobody (net/ipv4/fib_rules.c: fib4_rule_match)."""
    try:
        return int(word, 16) or None
    except ValueError:
        raise ValueError(f"`{word}` is no TOS in hexadecimal, as `ip -N rule` prints it") from None


def _net(word: str, family: Family) -> Net:
    if word == "all":
        return Net(0, 0, family)
    host, slash, length = word.partition("/")
    if slash and (not length.isdecimal() or int(length) > family.bits):
        raise ValueError(f"`{length}` is no prefix length from 0 to {family.bits}")
    return Net.prefix(read_of(host, family), int(length) if slash else family.bits, family)


def around_local(
    rules: Sequence[Numbered], family: Family = IPV4
) -> tuple[tuple[RoutingRule, ...], tuple[RoutingRule, ...]]:
    """The rules before that of the local table, and those behind it, in their order; raises ValueError where there is not one of
    it.  Where they are the kernel's own, none: those ask the main table, and in IPv4 then an empty one.
    """
    if tuple(rules) == KERNELS_OWN[family]:
        return (), ()
    ordered = [numbered.rule for numbered in sorted(rules, key=lambda numbered: numbered.priority)]
    if sum(rule.table == LOCAL_TABLE for rule in ordered) != 1 or _LOCAL.rule not in ordered:
        raise ValueError(
            "one rule is `from all lookup local`, most often the first, as `ip rule` prints it: no other asks the local table"
        )
    at = ordered.index(_LOCAL.rule)
    before, behind = tuple(ordered[:at]), tuple(ordered[at + 1 :])
    if before and family is not IPV4:
        raise ValueError("routing rules of IPv6 before `from all lookup local` are not modelled")
    if not behind:
        raise ValueError("no rule stands behind that of the local table: such a host is not modelled")
    return before, behind
