"""The lines of `ip rule` read as routing rules."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from ..hosts import BARRED, MAIN, RouteKind, RoutingRule
from ..values import IPV4, Family, MarkMask, Net
from .errors import did_you_mean
from .routes import DEFAULT_TABLE, LOCAL_TABLE, read_table
from .words import read_iface, read_of

_ENDS = {kind.value: kind for kind in BARRED}
_NOT_READ = (
    "tos",
    "dsfield",
    "uidrange",
    "ipproto",
    "sport",
    "dport",
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
    while words:
        word = words.pop(0)
        if word == "not":
            negated = True
            continue
        if word in _ENDS:
            kind = _ENDS[word]
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
    rule = RoutingRule(table, source, destination, in_iface, out_iface, mark, negated, suppress, kind)
    return Numbered(int(number), rule)


def _net(word: str, family: Family) -> Net:
    if word == "all":
        return Net(0, 0, family)
    host, slash, length = word.partition("/")
    if slash and (not length.isdecimal() or int(length) > family.bits):
        raise ValueError(f"`{length}` is no prefix length from 0 to {family.bits}")
    return Net.prefix(read_of(host, family), int(length) if slash else family.bits, family)


def behind_local(rules: Sequence[Numbered], family: Family = IPV4) -> tuple[RoutingRule, ...]:
    """The rules behind that of the local table, in their order; raises ValueError where it is not the first.  Where they are the
    kernel's own, none: those ask the main table, and in IPv4 then an empty one.
    """
    if tuple(rules) == KERNELS_OWN[family]:
        return ()
    ordered = sorted(rules, key=lambda numbered: numbered.priority)
    if not ordered or ordered[0].rule != _LOCAL.rule:
        raise ValueError(
            "the first rule is `0: from all lookup local`, as `ip rule` prints it: others before it are not modelled"
        )
    rest = tuple(numbered.rule for numbered in ordered[1:])
    if any(rule.table == LOCAL_TABLE for rule in rest):
        raise ValueError("the local table is looked up once, by the first rule")
    return rest
