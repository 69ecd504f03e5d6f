"""From what `-j` or `-g` names to a target, or to an opaque text."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from .. import rules as r
from ..values import ALL_32, TCP, MarkMask, Span
from . import scalars
from .lines import Line, quote
from .matches import Conditions, text, value
from .options import Jump, Module, Option


def word_reader(module: Module, named: int | None) -> Callable[[str], r.Target] | None:
    """What a target with one option says, as a function of that option's value; ValueError where there is more to it.
    None for targets for which that is not worth while.
    """
    if module.name != "DNAT" or named not in _NAT_PORTS:
        return None

    def read(text: str) -> r.Target:
        found = _single(*_destination(text))
        if found is None:
            raise ValueError(text)
        return found

    return read


TABLES = {"REDIRECT": ("nat",), "DNAT": ("nat",), "REJECT": ("filter",)}
"""The tables in which the kernel takes a target."""

LOGS = frozenset({"LOG", "NFLOG", "ULOG", "TRACE", "AUDIT"})

_NAT_PORTS = (1, 6, 17, 33, 132)
"""Protocols for which iptables takes a port to translate to; it does not look at `!`."""


def read(line: Line, jump: Jump, conditions: Conditions, named: int | None, table: str) -> r.Target:
    """The target; `named` is the protocol that `-p` names, negated or not."""
    module = jump.module
    if module is None:
        match jump.name:
            case "ACCEPT":
                return r.Accept()
            case "DROP":
                return r.Drop()
            case "RETURN":
                return r.Return()
            case "QUEUE":
                return r.OpaqueTarget("-j QUEUE")
            case _:
                return r.Goto(jump.name) if jump.goto else r.Jump(jump.name)
    tables = TABLES.get(module.name)
    if tables and table not in tables:
        raise line.error(
            "R016", f"`-j {module.name}` is for table {' and '.join(tables)}, not {table}", module.word
        )
    match module.name:
        case "REDIRECT":
            return _redirect(line, module, named)
        case "DNAT":
            return _dnat(line, module, named)
        case "MARK":
            return _mark(line, module)
        case "REJECT":
            return _reject(line, module, conditions.protocol)
        case name if name in LOGS:
            return r.Log(_text(module))
        case _:
            return r.OpaqueTarget(_text(module))


def _text(module: Module) -> str:
    return " ".join(["-j", quote(module.name), *map(text, module.options)])


def _only(line: Line, module: Module, needed: str) -> Option:
    """The one option of a target that takes exactly one."""
    if not module.options:
        raise line.error("R010", f"`-j {module.name}` needs {needed}", module.word)
    if len(module.options) > 1:
        raise line.error("R011", f"`-j {module.name}` takes one option only", module.options[1].word)
    return module.options[0]


def _redirect(line: Line, module: Module, named: int | None) -> r.Target:
    ports = [o for o in module.options if o.name == "to-ports"]
    if len(ports) > 1:
        raise line.error("R011", "`--to-ports` stands twice", ports[1].word)
    if not ports:
        return r.OpaqueTarget(_text(module)) if module.options else r.Redirect()
    first, last = value(line, ports[0], _port_range)
    _needs_ports(line, ports[0], named)
    if first != last or first == 0 or len(module.options) > 1:
        return r.OpaqueTarget(_text(module))
    return r.Redirect(Span(first, first))


def _dnat(line: Line, module: Module, named: int | None) -> r.Target:
    goals = [o for o in module.options if o.name == "to-destination"]
    if not goals:
        raise line.error("R010", "`-j DNAT` needs `--to-destination`", module.word)
    parts = [value(line, o, _destination) for o in goals]
    for option, (_, ports) in zip(goals, parts, strict=True):
        if ports is not None:
            _needs_ports(line, option, named)
    found = _single(*parts[0]) if len(module.options) == 1 else None
    return r.OpaqueTarget(_text(module)) if found is None else found


def _single(addresses: _Range, ports: _Range) -> r.Dnat | None:
    """The target with one address, one port or both; None where there are more, or it is 0."""
    if addresses is not None and not addresses[0] == addresses[1] != 0:
        return None
    if ports is not None and not ports[0] == ports[1] != 0:
        return None
    return r.Dnat(r.NatRange.of(addresses[0] if addresses else None, ports[0] if ports else None))


def _needs_ports(line: Line, option: Option, named: int | None) -> None:
    if named not in _NAT_PORTS:
        raise line.error("R010", "a port to translate to needs `-p tcp`, `-p udp`, ...", option.word)


@lru_cache
def _port_range(words: str) -> tuple[int, int]:
    first, dash, last = (words, "", words) if words in scalars.SERVICES else words.partition("-")
    low, high = scalars.port(first), scalars.port(last if dash else first)
    if low > high:
        raise ValueError(f"{words} is no port range")
    return low, high


_Range = tuple[int, int] | None


def _destination(words: str) -> tuple[_Range, _Range]:
    """`[A[-B]][:P[-Q[/BASE]]]`"""
    host, colon, tail = words.partition(":")
    if ":" in tail or "[" in words or "]" in words:
        raise ValueError(f"{words} is an IPv6 address, which is not read yet")
    ports: _Range = None
    if colon:
        span, slash, base = tail.partition("/")
        ports = _port_range(span)
        if slash:
            scalars.port(base)
            ports = (0, 0)
    if not host:
        if ports is None:
            raise ValueError("an address, a port or both are missing")
        return None, ports
    first, dash, last = host.partition("-")
    begin = scalars.address(first)
    return (begin, scalars.address(last) if dash else begin), ports


def _mark(line: Line, module: Module) -> r.Target:
    option = _only(line, module, "`--set-mark` or `--set-xmark`")
    bits, given = value(line, option, scalars.mark)
    if given is not None and option.name in ("and-mark", "or-mark", "xor-mark"):
        raise line.error("R009", f"`--{option.name}` takes no mask", option.values[0])
    mask = ALL_32 if given is None else given
    match option.name:
        case "set-xmark":
            return r.SetMark(MarkMask(bits, mask))
        case "set-mark":
            return r.SetMark(MarkMask(bits, bits | mask))
        case "and-mark":
            return r.SetMark(MarkMask(0, ~bits & ALL_32))
        case "or-mark":
            return r.SetMark(MarkMask(bits, bits))
        case "xor-mark":
            return r.SetMark(MarkMask(bits, 0))
        case _:
            raise AssertionError(option)


REJECT_TYPES = {
    "icmp-net-unreachable": "net-unreach", "icmp-host-unreachable": "host-unreach",
    "icmp-proto-unreachable": "proto-unreach", "icmp-port-unreachable": "port-unreach",
    "icmp-net-prohibited": "net-prohib", "icmp-host-prohibited": "host-prohib",
    "icmp-admin-prohibited": "admin-prohib", "tcp-reset": "tcp-rst",
}  # fmt: skip
"""The answers that REJECT can give, with their short names."""


def _reject(line: Line, module: Module, protocol: int | None) -> r.Target:
    if not module.options:
        return r.Reject()
    option = _only(line, module, "`--reject-with`")
    how = value(line, option, _reject_type)
    if how == "tcp-reset" and protocol != TCP:
        raise line.error("R010", "`--reject-with tcp-reset` needs `-p tcp`, not negated", option.values[0])
    return r.Reject(how)


def _reject_type(word: str) -> str:
    for name, short in REJECT_TYPES.items():
        if word.lower() in (name, short):
            return name
    if word.startswith(("icmp6-", "adm-", "addr-", "no-route")):
        raise ValueError(f"{word} answers IPv6, which is not read yet")
    raise ValueError(f"{word!r} is no answer of REJECT: they are {', '.join(REJECT_TYPES)}")
