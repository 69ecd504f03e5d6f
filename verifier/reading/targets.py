"""From what `-j` or `-g` names to a target, or to an opaque text."""

from __future__ import annotations

from collections.abc import Callable

from .. import rules as r
from ..values import ALL_32, Family, MarkMask
from . import extensions as ext
from . import scalars, targets_kept, targets_nat
from .given import check, has, text, value
from .lines import Line, quote
from .matches import Conditions
from .matches_headers import dscp_class, tos
from .options import Jump, Module, Option

TABLES = {
    "REDIRECT": ("nat",), "DNAT": ("nat",), "SNAT": ("nat",), "MASQUERADE": ("nat",), "NETMAP": ("nat",),
    "REJECT": ("filter",), "CT": ("raw",), "NOTRACK": ("raw",), "TPROXY": ("mangle",), "TTL": ("mangle",),
    "HL": ("mangle",), "TOS": ("mangle",), "DSCP": ("mangle",), "ECN": ("mangle",),
    "DROP": ("raw", "mangle", "filter", "security"),
}  # fmt: skip
"""The tables in which the kernel takes a target, or iptables itself; any other is at home in all of them."""


def read(line: Line, jump: Jump, conditions: Conditions, named: int | None, table: str) -> r.Target:
    """The target; `named` is the protocol that `-p` names, negated or not."""
    module = jump.module
    if module is not None or jump.name == "DROP":
        tables = TABLES.get(jump.name)
        if tables and table not in tables:
            raise line.error(
                "R016", f"`-j {jump.name}` is for table {' and '.join(tables)}, not {table}", jump.word
            )
    if module is None:
        match jump.name:
            case "ACCEPT":
                return r.Accept()
            case "DROP":
                return r.Drop()
            case "RETURN":
                return r.Return()
            case "QUEUE":
                return r.Queue("-j QUEUE")
            case _:
                return r.Goto(jump.name) if jump.goto else r.Jump(jump.name)
    check(line, module, ext.TARGETS.get(module.name, ""), "-j")
    return _extension(line, module, conditions, named)


def word_reader(module: Module, named: int | None, family: Family) -> Callable[[str], r.Target] | None:
    """What a target with one option says, as a function of that option's value as it is written; ValueError where there
    is more to it.  None for targets for which that is not worth while.
    """
    if module.name != "DNAT" or named not in targets_nat.WITH_PORTS:
        return None

    return lambda text: r.Dnat(targets_nat.destination(text, family))


def _extension(line: Line, module: Module, conditions: Conditions, named: int | None) -> r.Target:
    found: r.Target | None
    match module.name:
        case "REDIRECT" | "DNAT" | "SNAT" | "MASQUERADE" | "NETMAP":
            found = targets_nat.read(line, module, conditions.family, named)
        case "TPROXY":
            found = targets_nat.tproxy(line, module, conditions.family, conditions.protocol)
        case "REJECT":
            found = targets_kept.reject(line, module, conditions.family, conditions.protocol)
        case "MARK":
            found = r.SetMark(_mark(line, module.options[0]))
        case "CONNMARK":
            found = _connmark(line, module)
        case "CT":
            found = _track(line, module, conditions.protocol)
        case "NOTRACK":
            found = r.NoTrack()
        case "TTL" | "HL":
            found = _ttl(line, module.options[0])
        case "TOS":
            found = _tos(line, module.options[0])
        case "DSCP":
            found = r.SetDscp(_dscp(line, module.options[0]))
        case "TCPMSS":
            found = targets_kept.mss(line, module, conditions.protocol)
        case "SET":
            found = targets_kept.set_entry(line, module)
        case "NFQUEUE":
            found = targets_kept.queue(line, module)
        case name if name in ext.LOGS and name != "ULOG":
            found = targets_kept.log(line, module)
        case "ULOG":
            found = r.Log(_text(module))
        case _:
            found = None
    return r.OpaqueTarget(_text(module)) if found is None else found


def _text(module: Module) -> str:
    return " ".join(["-j", quote(module.name), *map(text, module.options)])


def _mark(line: Line, option: Option) -> MarkMask:
    """What an option of MARK or CONNMARK sets, as value and mask of `--set-xmark`."""
    bits, given = value(line, option, scalars.mark)
    if given is not None and option.name in ("and-mark", "or-mark", "xor-mark"):
        raise line.error("R009", f"`--{option.name}` takes no mask", option.values[0])
    return _bits(option.name, bits, ALL_32 if given is None else given)


def _bits(name: str, bits: int, mask: int) -> MarkMask:
    match name:
        case "set-xmark":
            return MarkMask(bits, mask)
        case "set-mark":
            return MarkMask(bits, bits | mask)
        case "and-mark":
            return MarkMask(0, ~bits & ALL_32)
        case "or-mark":
            return MarkMask(bits, bits)
        case "xor-mark":
            return MarkMask(bits, 0)
        case _:
            raise AssertionError(name)


def _connmark(line: Line, module: Module) -> r.Target:
    """Of a shift to the left and one to the right the last one counts (libxt_CONNMARK.c: connmark_tg_parse_v2)."""
    masks = {
        o.name: value(line, o, lambda t: scalars.bounded(t, ALL_32))
        for o in module.options
        if o.name in _MASKS
    }
    shifts = [o for o in module.options if o.name in _SHIFTS]
    shift = (
        value(line, shifts[-1], lambda t: scalars.bounded(t, 31)) * _SHIFTS[shifts[-1].name] if shifts else 0
    )
    both = masks.get("mask", ALL_32)
    packet, connection = masks.get("nfmask", both), masks.get("ctmask", both)
    if has(module, "save-mark"):
        return r.SaveMark(packet, connection, shift)
    if has(module, "restore-mark"):
        return r.RestoreMark(packet, connection, shift)
    option = next(o for o in module.options if o.name not in (*_MASKS, *_SHIFTS))
    set_ = _mark(line, option)
    given = masks.get("ctmask", masks.get("mask"))
    return r.SetConnMark(set_ if given is None else MarkMask(set_.value, given), shift)


_MASKS = ("mask", "nfmask", "ctmask")
_SHIFTS = {"left-shift-mark": 1, "right-shift-mark": -1}
"""The kernel refuses a shift by 32 bits, which iptables takes."""


def _track(line: Line, module: Module, protocol: int | None) -> r.Target:
    """What is not tracked has no zone and no helper (net/netfilter/xt_CT.c: xt_ct_tg_check)."""
    if has(module, "notrack"):
        return r.NoTrack()
    return r.TrackAs(" ".join(targets_kept.tracking(line, module, protocol)))


def _ttl(line: Line, option: Option) -> r.ChangeTtl:
    change = r.Change(option.name.rpartition("-")[2])
    least = 0 if change is r.Change.SET else 1
    return r.ChangeTtl(change, value(line, option, lambda t: scalars.bounded(t, 255, least)))


def _tos(line: Line, option: Option) -> r.SetTos:
    if option.name == "set-tos":
        return r.SetTos(*value(line, option, tos))
    bits = value(line, option, lambda t: scalars.bounded(t, 255))
    match option.name:
        case "and-tos":
            return r.SetTos(0, ~bits & 0xFF)
        case "or-tos":
            return r.SetTos(bits, bits)
        case _:
            return r.SetTos(bits, 0)


def _dscp(line: Line, option: Option) -> int:
    if option.name == "set-dscp":
        return value(line, option, lambda t: scalars.bounded(t, 0x3F))
    return value(line, option, dscp_class)
