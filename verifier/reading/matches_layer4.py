"""What `-m tcp`, `udp`, `sctp`, `dccp`, `multiport`, `icmp`, `icmp6`, `esp` and `ah` ask of the header after IP's."""

from __future__ import annotations

from .. import rules as r
from ..values import TcpFlag
from . import scalars
from .given import has, in_order, opaque, value
from .lines import Line
from .options import Module, Option
from .vocabulary import CHUNKS, DCCP_TYPES

MODULES = frozenset({"tcp", "udp", "sctp", "dccp", "multiport", "icmp", "icmp6", "esp", "ah"})

_ORDER = (
    "sport", "dport", "chunk-types", "dccp-types", "dccp-option", "tcp-option", "syn", "tcp-flags",
    "sports", "dports", "ports", "icmp-type", "icmpv6-type", "espspi", "ahspi",
)  # fmt: skip
"""The options in the order in which iptables-save prints those of one module."""

_DECIMAL = ("udp", "dccp")
"""Modules whose ports are decimal, also those that begin with 0."""

EVERY_SPI = (0, 0xFFFFFFFF)


def read(line: Line, module: Module) -> list[r.Literal]:
    """A literal for each option; one that has no words of ours is opaque."""
    match module.name:
        case "ah" if has(module, "ahlen") or has(module, "ahres"):
            return [opaque(module)]
        case "ah" if not module.options:
            return [r.Literal(r.Ah(*EVERY_SPI))]
        case "esp" if not module.options:
            return [r.Literal(r.Esp(*EVERY_SPI))]
        case _:
            found = [(option, _match(line, option, module.name)) for option in in_order(module, _ORDER)]
            return [
                r.Literal(m, o.negated and not isinstance(m, r.Ah)) if m else opaque(module, [o])
                for o, m in found
            ]


def _match(line: Line, option: Option, module: str) -> r.Match | None:
    """What an option asks; None where we have no words for it."""
    match option.name:
        case "sport":
            return r.SourcePorts(value(line, option, lambda t: scalars.span(t, module in _DECIMAL)))
        case "dport":
            return r.DestinationPorts(value(line, option, lambda t: scalars.span(t, module in _DECIMAL)))
        case "chunk-types":
            return _chunks(line, option)
        case "dccp-types":
            return r.DccpTypes(value(line, option, _dccp_types))
        case "dccp-option":
            return r.DccpOption(value(line, option, lambda t: scalars.bounded(t, 255, 1)))
        case "tcp-option":
            return r.TcpOption(value(line, option, lambda t: scalars.bounded(t, 255, 1)))
        case "syn":
            return r.TcpFlags(TcpFlag.FIN | TcpFlag.SYN | TcpFlag.RST | TcpFlag.ACK, TcpFlag.SYN)
        case "tcp-flags":
            return r.TcpFlags(value(line, option, scalars.flags), value(line, option, scalars.flags, 1))
        case "sports":
            return value(line, option, lambda t: r.MultiportSources(scalars.spans(t)))
        case "dports":
            return value(line, option, lambda t: r.MultiportDestinations(scalars.spans(t)))
        case "ports":
            return value(line, option, lambda t: r.MultiportPorts(scalars.spans(t)))
        case "icmp-type":
            return r.IcmpType(*value(line, option, scalars.icmp))
        case "icmpv6-type":
            return r.Icmp6Type(*value(line, option, scalars.icmp6))
        case "espspi":
            return r.Esp(*value(line, option, _spis))
        case "ahspi":
            return r.Ah(*value(line, option, _spis), option.negated)
        case _:
            raise AssertionError(option)


def _spis(text: str) -> tuple[int, int]:
    return scalars.pair(text, EVERY_SPI[1])


def _dccp_types(text: str) -> frozenset[int]:
    names = {name: n for n, name in enumerate(DCCP_TYPES)}
    unknown = [item for item in text.upper().split(",") if item not in names]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no DCCP type: they are {', '.join(DCCP_TYPES)}")
    return frozenset(names[item] for item in text.upper().split(","))


def _chunks(line: Line, option: Option) -> r.Match | None:
    """None where flags of I_DATA are asked for, which iptables 1.8.9 leaves out of what it loads, and others may not."""
    how = value(line, option, _how)
    chunks, flags = value(line, option, _chunk_types, 1)
    return None if CHUNKS["I_DATA"] in flags else r.SctpChunks(how, chunks, _asked(flags))


def _asked(flags: dict[int, tuple[int, int]]) -> tuple[r.ChunkFlags, ...]:
    return tuple(r.ChunkFlags(kind, *flags[kind]) for kind in sorted(flags))


def _how(text: str) -> str:
    if text.lower() not in ("any", "all", "only"):
        raise ValueError(f"{text!r} is neither any, all nor only")
    return text.lower()


_FLAGS = {"DATA": "IUBE", "I_DATA": "IUBE", "ABORT": "T", "SHUTDOWN_COMPLETE": "T"}


def _chunk_types(text: str) -> tuple[frozenset[int], dict[int, tuple[int, int]]]:
    """The chunk types of a list, and of which flags of each is asked what: a capital wants the flag set, also where a small letter does not
    (libxt_sctp.c: save_chunk_flag_info).
    """
    if text.upper() in ("ALL", "NONE"):
        return frozenset(range(256) if text.upper() == "ALL" else ()), {}
    found: set[int] = set()
    asked: dict[int, tuple[int, int]] = {}
    for item in text.split(","):
        name, colon, letters = item.partition(":")
        if name.upper() not in CHUNKS:
            raise ValueError(f"{name!r} is no chunk of SCTP: they are ALL, NONE, {', '.join(CHUNKS)}")
        named = _FLAGS.get(name.upper(), "")
        if colon and not set(letters.upper()) <= set(named):
            raise ValueError(f"{letters!r} are no flags of chunk {name.upper()}")
        kind = CHUNKS[name.upper()]
        found.add(kind)
        for letter in letters:
            bit = 1 << (len(named) - named.index(letter.upper()) - 1)
            mask, value_ = asked.get(kind, (0, 0))
            asked[kind] = mask | bit, value_ | (bit if letter.isupper() else 0)
    return frozenset(found), asked
