"""What the small matches ask of a packet's own header: addresses in a range, MAC, length, TTL, TOS, kind, IPv6 headers."""

from __future__ import annotations

import re

from .. import rules as r
from ..values import Family, PacketKind
from . import scalars
from .given import has, in_order, opaque, value
from .lines import Line
from .options import Module, Option
from .vocabulary import DSCP_CLASSES, IPV6_HEADERS, TOS

MODULES = frozenset({"iprange", "mac", "length", "ttl", "hl", "tos", "dscp", "pkttype", "ipv6header"})


def read(line: Line, module: Module, family: Family) -> list[r.Literal]:
    match module.name:
        case "iprange":
            return [_range(line, module, o, family) for o in in_order(module, ("src-range", "dst-range"))]
        case "ipv6header":
            (header,) = (o for o in module.options if o.name == "header")
            bits = value(line, header, _headers)
            return [r.Literal(r.Ipv6Header(bits, has(module, "soft")), header.negated)]
        case _:
            (option,) = module.options
            found = _match(line, option)
            return [opaque(module) if found is None else r.Literal(found, _left(found, option))]


def _left(found: r.Match, option: Option) -> bool:
    """What is left of the option's `!` for the literal."""
    return option.negated and not isinstance(found, r.OWN_NEGATION)


def _match(line: Line, option: Option) -> r.Match | None:
    """What the one option of a module asks; None where we have no words for it."""
    match option.name:
        case "mac-source":
            return r.MacSource(value(line, option, _mac), option.negated)
        case "length":
            return r.Length(*value(line, option, lambda t: scalars.pair(t, 0xFFFF)))
        case "ttl" | "ttl-eq" | "hl" | "hl-eq":
            return r.Ttl(r.Comparison.EQUAL, value(line, option, _byte))
        case "ttl-lt" | "hl-lt":
            return r.Ttl(r.Comparison.LESS, value(line, option, _byte))
        case "ttl-gt" | "hl-gt":
            return r.Ttl(r.Comparison.GREATER, value(line, option, _byte))
        case "tos":
            return r.Tos(*value(line, option, tos))
        case "dscp":
            return r.Dscp(value(line, option, lambda t: scalars.bounded(t, 0x3F)))
        case "dscp-class":
            return r.Dscp(value(line, option, dscp_class))
        case "pkt-type":
            kind = value(line, option, _kind)
            return None if kind is None else r.PacketType(kind)
        case _:
            raise AssertionError(option)


def _range(line: Line, module: Module, option: Option, family: Family) -> r.Literal:
    """`A-B` or `A`; iptables takes it where A comes after B."""

    def ends(text: str) -> tuple[int, int]:
        first, dash, last = text.partition("-")
        return scalars.net_address(first, family), scalars.net_address(last if dash else first, family)

    first, last = value(line, option, ends)
    kind = r.SourceRange if option.name == "src-range" else r.DestinationRange
    return r.Literal(kind(first, last, family), option.negated)


def _byte(text: str) -> int:
    return scalars.bounded(text, 255)


def _mac(text: str) -> int:
    parts = text.split(":")
    if len(parts) != 6 or not all(re.fullmatch(r"[0-9a-fA-F]{1,2}", part) for part in parts):
        raise ValueError(f"{text!r} is no MAC address: it is written as six bytes with colons between")
    return int.from_bytes(bytes(int(part, 16) for part in parts))


def tos(text: str) -> tuple[int, int]:
    """`V`, `V/M` or the name of a type of service, whose mask is 0x3f; also what `-j TOS --set-tos` takes."""
    if text.lower() in TOS:
        return TOS[text.lower()], 0x3F
    if not text[:1].isdigit():
        raise ValueError(f"{text!r} is no type of service: they are {', '.join(TOS)}")
    number, slash, mask = text.partition("/")
    return _byte(number), _byte(mask) if slash else 0xFF


def dscp_class(text: str) -> int:
    """A class by its name; what comes after that is not looked at (libxt_dscp: dscp_helper.c: class_to_dscp)."""
    name = next((name for name in DSCP_CLASSES if text.upper().startswith(name)), None)
    if name is None:
        raise ValueError(f"{text!r} is no DSCP class")
    return DSCP_CLASSES[name]


_KINDS = {
    "unicast": PacketKind.UNICAST, "host": PacketKind.UNICAST, "broadcast": PacketKind.BROADCAST,
    "bcast": PacketKind.BROADCAST, "multicast": PacketKind.MULTICAST, "mcast": PacketKind.MULTICAST,
    "otherhost": None,
}  # fmt: skip


def _kind(text: str) -> PacketKind | None:
    """None: a kind that never comes to a rule."""
    if text.lower() not in _KINDS:
        raise ValueError(f"{text!r} is no kind of packet: they are {', '.join(_KINDS)}")
    return _KINDS[text.lower()]


def _headers(text: str) -> int:
    bits = 0
    for item in text.split(","):
        if item.lower() not in IPV6_HEADERS:
            raise ValueError(f"{item!r} is no IPv6 header that we know")
        bits |= IPV6_HEADERS[item.lower()]
    return bits
