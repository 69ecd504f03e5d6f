"""What `-m owner`, `addrtype`, `set`, `rpfilter`, `socket` and `physdev` ask of the host that the packet is on."""

from __future__ import annotations

from .. import rules as r
from ..values import Family, Iface
from . import scalars
from .given import find, has, opaque, value
from .lines import Line
from .options import Module, Option

MODULES = frozenset({"owner", "addrtype", "set", "rpfilter", "socket", "physdev"})


def read(line: Line, module: Module, family: Family) -> list[r.Literal]:
    match module.name:
        case "owner":
            return [_owner(line, module)]
        case "addrtype":
            return [r.Literal(_addrtype(line, module, family))]
        case "set":
            return [_set(line, module)]
        case "rpfilter":
            asked = r.ReversePath(
                has(module, "loose"),
                has(module, "validmark"),
                has(module, "accept-local"),
                has(module, "invert"),
            )
            return [r.Literal(asked)]
        case "socket":
            wanted = has(module, "transparent"), has(module, "nowildcard"), has(module, "restore-skmark")
            return [r.Literal(r.SocketMatch(*wanted))]
        case "physdev":
            return [r.Literal(_physdev(line, module))]
        case _:
            raise AssertionError(module)


def _owner(line: Line, module: Module) -> r.Literal:
    """One match for all criteria, and opaque as a whole where one of them is not understood: they bear on each
    other (`--suppl-groups` widens `--gid-owner`, and each decides what a packet without a socket meets).
    """
    uid, gid, exists = (find(module, name) for name in ("uid-owner", "gid-owner", "socket-exists"))
    groups = find(module, "suppl-groups")
    if groups and (gid is None or module.options.index(gid) > module.options.index(groups)):
        raise line.error("R010", "`--suppl-groups` needs `--gid-owner` before it", groups.word)
    if len(module.options) > sum(o is not None for o in (uid, gid, exists, groups)):
        return opaque(module)
    owned = {o.name: value(line, o, scalars.ids) for o in (uid, gid) if o}
    user, group = owned.get("uid-owner"), owned.get("gid-owner")
    negated = [o is not None and o.negated for o in (uid, gid, exists)]
    rest = (exists is not None, negated[2], groups is not None)
    if isinstance(user, str) or isinstance(group, str):
        return r.Literal(r.OwnerNames(user, negated[0], group, negated[1], *rest))
    return r.Literal(r.OwnerIds(user, negated[0], group, negated[1], *rest))


def _addrtype(line: Line, module: Module, family: Family) -> r.AddressType:
    source, destination = find(module, "src-type"), find(module, "dst-type")
    limit = r.Limit.IN if has(module, "limit-iface-in") else None
    limit = r.Limit.OUT if has(module, "limit-iface-out") else limit

    def types(words: str) -> frozenset[r.RouteType]:
        return _types(words, family)

    return r.AddressType(
        frozenset() if source is None else value(line, source, types), source is not None and source.negated,
        frozenset() if destination is None else value(line, destination, types),
        destination is not None and destination.negated,
        limit,
    )  # fmt: skip


_NOT_IN_IPV6 = frozenset(map(r.RouteType, ("BROADCAST", "BLACKHOLE", "PROHIBIT", "THROW", "NAT", "XRESOLVE")))
"""Types that the kernel does not look for in IPv6 (net/netfilter/xt_addrtype.c: addrtype_mt_checkentry_v1)."""


def _types(words: str, family: Family) -> frozenset[r.RouteType]:
    names = [kind.value for kind in r.RouteType]
    found = frozenset(r.RouteType(scalars.beginning(w, names, "type of address")) for w in words.split(","))
    if family is Family.IPV6 and found & _NOT_IN_IPV6:
        raise ValueError(f"the kernel knows no {min(t.value for t in found & _NOT_IN_IPV6)} of IPv6")
    return found


def _set(line: Line, module: Module) -> r.Literal:
    option = find(module, "match-set", "set")
    assert option is not None
    directions = value(line, option, set_directions, 1)
    quiet = [find(module, name) for name in ("update-counters", "update-subcounters")]
    keeps, keeps_sub = (o is not None and o.negated for o in quiet)
    packets, bytes_ = (_count(line, module, what) for what in ("packets", "bytes"))
    nomatch = has(module, "return-nomatch")
    found = r.MatchSet(option.values[0].text, directions, nomatch, keeps, keeps_sub, packets, bytes_)
    return r.Literal(found, option.negated)


def _count(line: Line, module: Module, what: str) -> r.Count | None:
    for comparison in r.Comparison:
        option = find(module, f"{what}-{comparison.value}")
        if option is not None:
            number = value(line, option, lambda t: scalars.bounded(t, ALL_64))
            return r.Count(comparison, number, option.negated)
    return None


ALL_64 = (1 << 64) - 1


def set_directions(words: str) -> tuple[r.Direction, ...]:
    """`src,dst,...`, as `-m set` and `-j SET` take them."""
    items = words.split(",")
    if not set(items) <= {"src", "dst"}:
        raise ValueError(f"{words!r} is no list of src and dst")
    if len(items) > 6:
        raise ValueError("a set has at most six dimensions")
    return tuple(map(r.Direction, items))


def _physdev(line: Line, module: Module) -> r.Physdev:
    inside, outside = find(module, "physdev-in"), find(module, "physdev-out")
    asked = [find(module, f"physdev-is-{what}") for what in ("in", "out", "bridged")]
    return r.Physdev(
        _port(line, inside), inside is not None and inside.negated,
        _port(line, outside), outside is not None and outside.negated,
        *(None if o is None else not o.negated for o in asked),
    )  # fmt: skip


def _port(line: Line, option: Option | None) -> Iface | None:
    return None if option is None else value(line, option, Iface.read)
