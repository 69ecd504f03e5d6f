"""What `-m conntrack`, `state`, `connmark` and `mark` ask of a packet's connection and mark."""

from __future__ import annotations

from .. import rules as r
from ..packets import ASSURED, CONFIRMED, EXPECTED, SEEN_REPLY
from ..values import Family, MarkMask, read_protocol
from . import scalars
from .given import in_order, value
from .lines import Line
from .options import Module, Option

MODULES = frozenset({"conntrack", "state", "connmark", "mark"})

CRITERIA = (
    "ctstate", "ctproto", "ctorigsrc", "ctorigdst", "ctreplsrc", "ctrepldst", "ctorigsrcport", "ctorigdstport",
    "ctreplsrcport", "ctrepldstport", "ctstatus", "ctexpire", "ctdir",
)  # fmt: skip
"""The criteria in the order in which iptables-save prints them."""

_STATUS = {
    "NONE": 0,
    "EXPECTED": EXPECTED,
    "SEEN_REPLY": SEEN_REPLY,
    "ASSURED": ASSURED,
    "CONFIRMED": CONFIRMED,
}


def read(line: Line, module: Module, family: Family) -> list[r.Literal]:
    match module.name:
        case "conntrack":
            options = list(in_order(module, CRITERIA))
            tests = [r.CtTest(_criterion(line, o, family), o.negated) for o in options]
            match tests:
                case [r.CtTest(r.CtStates() as states, negated)]:
                    return [r.Literal(states, negated)]
                case _:
                    return [r.Literal(r.Conntrack(tuple(tests)))]
        case "state":
            (option,) = module.options
            return [r.Literal(r.CtStates(*value(line, option, scalars.states)), option.negated)]
        case "connmark":
            (option,) = module.options
            return [r.Literal(r.ConnMark(_mark(line, option), option.negated))]
        case "mark":
            (option,) = module.options
            return [r.Literal(r.Mark(_mark(line, option)), option.negated)]
        case _:
            raise AssertionError(module)


def _mark(line: Line, option: Option) -> MarkMask:
    bits, mask = value(line, option, scalars.mark)
    return MarkMask(bits) if mask is None else MarkMask(bits, mask)


def _criterion(line: Line, option: Option, family: Family) -> r.CtCriterion:
    match option.name:
        case "ctstate":
            return r.CtStates(*value(line, option, scalars.states))
        case "ctproto":
            return r.CtProtocol(value(line, option, read_protocol))
        case "ctstatus":
            return r.CtStatus(value(line, option, _status))
        case "ctexpire":
            return r.CtExpire(*value(line, option, lambda t: scalars.pair(t, 0xFFFFFFFF)))
        case "ctdir":
            return r.CtDirection(value(line, option, _is_reply))
        case name if name.endswith("port"):
            return r.CtPorts(r.CtEnd(name[2:-4]), value(line, option, lambda t: scalars.span(t, True)))
        case name:
            return r.CtAddress(r.CtEnd(name[2:]), value(line, option, lambda t: scalars.prefix(t, family)))


def _status(text: str) -> int:
    bits = 0
    for item in text.split(","):
        bits |= _STATUS[scalars.beginning(item, _STATUS, "connection status")]
    return bits


def _is_reply(text: str) -> bool:
    if text.upper() not in ("ORIGINAL", "REPLY"):
        raise ValueError(f"{text!r} is neither ORIGINAL nor REPLY")
    return text.upper() == "REPLY"
