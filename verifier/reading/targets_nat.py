"""The targets that translate addresses: SNAT, DNAT, MASQUERADE, REDIRECT, NETMAP; and TPROXY, which leaves them."""

from __future__ import annotations

import re
from functools import lru_cache

from .. import rules as r
from ..values import IPV4, TCP, UDP, Family, MarkMask, Span
from . import scalars
from .given import find, has, value
from .lines import Line
from .options import Module, Option
from .vocabulary import SERVICES

WITH_PORTS = (1, 6, 17, 33, 132)
"""Protocols for which iptables takes a port to translate to; it does not look at `!`."""


def read(line: Line, module: Module, family: Family, named: int | None) -> r.Target:
    """The target; `named` is the protocol of `-p`, negated or not."""
    match module.name:
        case "NETMAP":
            return _netmap(line, module, family)
        case "REDIRECT" | "MASQUERADE":
            option = find(module, "to-ports")
            span = None if option is None else value(line, option, port_range)
            if option is not None:
                _needs_ports(line, option, named)
            kind = r.Redirect if module.name == "REDIRECT" else r.Masquerade
            return kind(span, _choice(module))
        case _:
            return _translated(line, module, family, named)


def _translated(line: Line, module: Module, family: Family, named: int | None) -> r.Target:
    option = find(module, "to-source", "to-destination")
    assert option is not None
    if value(line, option, lambda t: _host_and_ports(t, family))[1] is not None:
        _needs_ports(line, option, named)
    to = value(line, option, lambda t: destination(t, family))
    kind = r.Dnat if module.name == "DNAT" else r.Snat
    return kind(to, _choice(module), has(module, "persistent"))


def _netmap(line: Line, module: Module, family: Family) -> r.Netmap:
    option = find(module, "to")
    assert option is not None
    return r.Netmap(value(line, option, lambda t: scalars.prefix(t, family)))


def _choice(module: Module) -> r.PortChoice | None:
    match has(module, "random"), has(module, "random-fully"):
        case True, True:
            return r.PortChoice.BOTH
        case True, False:
            return r.PortChoice.RANDOM
        case False, True:
            return r.PortChoice.RANDOM_FULLY
        case _:
            return None


def _needs_ports(line: Line, option: Option, named: int | None) -> None:
    if named not in WITH_PORTS:
        raise line.error("R010", "a port to translate to needs `-p tcp`, `-p udp`, ...", option.word)


def port_range(words: str) -> Span:
    """`P` or `P-Q`; a service's name stands alone, and not in a range."""
    first, dash, last = (words, "", words) if words in SERVICES else words.partition("-")
    if dash and not (first[:1].isdigit() and last[:1].isdigit()):
        raise ValueError(f"{words} is no port range")
    low, high = scalars.port(first), scalars.port(last if dash else first)
    if low > high:
        raise ValueError(f"{words} is no port range")
    return Span(low, high)


def destination(words: str, family: Family) -> r.NatRange:
    """`[A[-B]][:P[-Q[/BASE]]]`; an IPv6 address that a port follows stands in brackets: `[A-B]:P`."""
    host, colon, rest = words.partition(":")
    if family is IPV4 and ":" not in rest and (address := scalars.plain(host)) is not None:
        span, base = _ports_and_base(rest) if colon else (None, None)
        return r.NatRange(address, address, span, base)
    host, ports = _host_and_ports(words, family)
    span, base = (None, None) if ports is None else _ports_and_base(ports)
    if not host:
        if span is None:
            raise ValueError("an address, a port or both are missing")
        return r.NatRange(None, None, span, base, family)
    first, dash, last = host.partition("-")
    begin = scalars.address(first, family)
    end = scalars.address(last, family) if dash else begin
    return r.NatRange(begin, end, span, base, family)


@lru_cache
def _ports_and_base(words: str) -> tuple[Span, int | None]:
    """`P[-Q[/BASE]]`"""
    range_, slash, origin = words.partition("/")
    span, base = port_range(range_), scalars.port(origin) if slash else None
    if base == 0:
        raise ValueError("0 is no port to begin from")
    return span, base


def _host_and_ports(words: str, family: Family) -> tuple[str, str | None]:
    if family is Family.IPV6:
        found = re.fullmatch(r"\[([^\]]*)\](?::(.*))?|:([^:]+)", words)
        return (found[1] or "", found[2] or found[3]) if found else (words, None)
    host, colon, ports = words.partition(":")
    if ":" in ports or "[" in words or "]" in words:
        raise ValueError(f"{words} is an IPv6 address, and these are IPv4 rules")
    return host, ports if colon else None


def tproxy(line: Line, module: Module, family: Family, protocol: int | None) -> r.Tproxy:
    port, ip, mark = (find(module, name) for name in ("on-port", "on-ip", "tproxy-mark"))
    assert port is not None
    if protocol not in (TCP, UDP):
        raise line.error("R010", "`-j TPROXY` needs `-p tcp` or `-p udp`, not negated", module.word)
    address = value(line, ip, lambda t: scalars.address(t, family)) if ip else 0
    bits, mask = value(line, mark, scalars.mark) if mark else (0, 0)
    marked = MarkMask(bits) if mask is None else MarkMask(bits, mask)
    return r.Tproxy(value(line, port, lambda t: scalars.port(t, True)), address or None, marked, family)
