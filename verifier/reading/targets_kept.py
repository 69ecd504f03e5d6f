"""Targets of which the rule set keeps what iptables-save prints: logs, sets, queues, tracking; and the small REJECT, TCPMSS."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from .. import rules as r
from ..values import ALL_32, TCP, Family, spell_text
from . import scalars
from .given import find, has, value
from .lines import Line
from .matches_host import set_directions
from .options import Module
from .vocabulary import LOG_LEVELS, REJECT6_TYPES, REJECT_TYPES


def reject(line: Line, module: Module, family: Family, protocol: int | None) -> r.Reject:
    names = REJECT_TYPES if family is Family.IPV4 else REJECT6_TYPES
    option = find(module, "reject-with")
    if option is None:
        return r.Reject("icmp-port-unreachable" if family is Family.IPV4 else "icmp6-port-unreachable")

    def answer(word: str) -> str:
        low = word.lower()
        for name, short in names.items():
            if low and (name.startswith(low) or short.startswith(low)):
                return name
        raise ValueError(f"{word!r} is no answer of REJECT to {family}: they are {', '.join(names)}")

    how = value(line, option, answer)
    if how == "tcp-reset" and protocol != TCP:
        raise line.error("R010", "`--reject-with tcp-reset` needs `-p tcp`, not negated", option.values[0])
    return r.Reject(how)


def mss(line: Line, module: Module, protocol: int | None) -> r.ClampMss:
    """With both options the second one counts for nothing."""
    if protocol != TCP:
        raise line.error("R010", "`-j TCPMSS` needs `-p tcp`, not negated", module.word)
    option = find(module, "set-mss")
    size = None if option is None else value(line, option, lambda t: scalars.bounded(t, 65_515))
    return r.ClampMss(None if has(module, "clamp-mss-to-pmtu") else size)


# -- tracking -----------------------------------------------------------------------------------------

_EVENTS = (
    "new", "related", "destroy", "reply", "assured", "protoinfo", "helper", "mark", "natseqinfo", "secmark",
)  # fmt: skip


def tracking(line: Line, module: Module, protocol: int | None) -> Iterator[str]:
    """The options of `-j CT`; of several zones the last one given counts."""
    for name in ("helper", "timeout"):
        option = find(module, name)
        if option is not None:
            if protocol is None:
                raise line.error("R010", f"`--{name}` needs `-p`, not negated", option.word)
            yield f"--{name} {spell_text(option.values[0].text)}"
    for name in ("ctevents", "expevents"):
        option = find(module, name)
        if option is not None:
            yield f"--{name} {value(line, option, _events if name == 'ctevents' else _expected)}"
    zones = [o for o in module.options if o.name.startswith("zone")]
    if zones:
        zone = value(line, zones[-1], _zone)
        yield f"--{zones[-1].name} {zone}"


def _events(text: str) -> str:
    items = text.split(",")
    if not set(items) <= set(_EVENTS):
        raise ValueError(f"{text!r} is no list of {', '.join(_EVENTS)}")
    return ",".join(e for e in _EVENTS if e in items)


def _expected(text: str) -> str:
    if text != "new":
        raise ValueError(f"{text!r} is no event of an expectation: there is `new` alone")
    return text


def _zone(text: str) -> str:
    return "mark" if text == "mark" else str(scalars.bounded(text, 0xFFFF))


# -- logs -----------------------------------------------------------------------------------------------


def log(line: Line, module: Module) -> r.Log:
    match module.name:
        case "LOG":
            words = list(_log(line, module))
        case "NFLOG":
            words = list(_nflog(line, module))
        case "AUDIT":
            words = [f"--type {_value(line, module, 'type', _audited)}"]
        case "CLASSIFY":
            words = [f"--set-class {_value(line, module, 'set-class', _class)}"]
        case "CHECKSUM":
            words = ["--checksum-fill"]
        case "TRACE":
            words = []
        case _:
            raise AssertionError(module)
    return r.Log(" ".join([f"-j {module.name}", *words]))


def _value(line: Line, module: Module, name: str, read_it: Callable[[str], str]) -> str:
    option = find(module, name)
    assert option is not None
    return value(line, option, read_it)


def _log(line: Line, module: Module) -> Iterator[str]:
    prefix, level = find(module, "log-prefix"), find(module, "log-level")
    if prefix is not None:
        yield f"--log-prefix {spell_text(value(line, prefix, _text)[:29])}"
    number = 4 if level is None else value(line, level, _level)
    if number != 4:
        yield f"--log-level {number}"
    for name in ("tcp-sequence", "tcp-options", "ip-options", "uid", "macdecode"):
        if has(module, f"log-{name}"):
            yield f"--log-{name}"


def _level(text: str) -> int:
    if text in LOG_LEVELS:
        return LOG_LEVELS[text]
    if not text.isdecimal():
        raise ValueError(f"{text!r} is no level of a log: they are 0 to 7, {', '.join(LOG_LEVELS)}")
    return scalars.bounded(text, 7)


def _text(text: str) -> str:
    if not text:
        raise ValueError("an empty prefix is none")
    return text


def _nflog(line: Line, module: Module) -> Iterator[str]:
    """`--nflog-range` has never worked, but is kept."""
    prefix, size = find(module, "nflog-prefix"), find(module, "nflog-size")
    if prefix is not None:
        yield f"--nflog-prefix {spell_text(value(line, prefix, _text)[:63])}"
    if group := _number(line, module, "nflog-group", 0xFFFF):
        yield f"--nflog-group {group}"
    if reach := _number(line, module, "nflog-range", ALL_32):
        yield f"--nflog-range {reach}"
    if size is not None:
        yield f"--nflog-size {_number(line, module, 'nflog-size', ALL_32)}"
    if threshold := _number(line, module, "nflog-threshold", 0xFFFF):
        yield f"--nflog-threshold {threshold}"


def _number(line: Line, module: Module, name: str, last: int) -> int:
    option = find(module, name)
    return 0 if option is None else value(line, option, lambda t: scalars.bounded(t, last))


def _audited(text: str) -> str:
    if text.lower() not in ("accept", "drop", "reject"):
        raise ValueError(f"{text!r} is neither accept, drop nor reject")
    return text.lower()


def _class(text: str) -> str:
    found = re.fullmatch(r"([0-9a-fA-F]{1,8}):([0-9a-fA-F]{1,8})", text)
    if found is None:
        raise ValueError(f"{text!r} is no class: it is written as MAJOR:MINOR, in hexadecimal digits")
    return ":".join(f"{int(part, 16) & 0xFFFF:04x}" for part in found.groups())


# -- sets, queues ---------------------------------------------------------------------------------------


def set_entry(line: Line, module: Module) -> r.SetEntry | None:
    """None for what marks or queues the packet by a set (`--map-set`), and for a rule that changes two sets."""
    if has(module, "map-set"):
        return None
    changes = [o for o in (find(module, "add-set"), find(module, "del-set")) if o is not None]
    words: list[str] = []
    for option in changes:
        directions = ",".join(d.value for d in value(line, option, set_directions, 1))
        words.append(f"--{option.name} {option.values[0].text} {directions}")
        if option.name == "add-set":
            words += ["--exist"] * has(module, "exist")
            if has(module, "timeout"):
                words.append(f"--timeout {_number(line, module, 'timeout', ALL_32)}")
    names = {o.values[0].text for o in changes}
    return r.SetEntry(changes[0].values[0].text, " ".join(words)) if len(names) == 1 else None


def queue(line: Line, module: Module) -> r.Queue:
    balance, fanout = find(module, "queue-balance"), find(module, "queue-cpu-fanout")
    if fanout is not None and balance is None:
        raise line.error("R010", "`--queue-cpu-fanout` needs `--queue-balance`", fanout.word)
    if balance is not None:
        words = f"--queue-balance {value(line, balance, _balance)}"
    else:
        words = f"--queue-num {_number(line, module, 'queue-num', 0xFFFF)}"
    words += " --queue-bypass" * has(module, "queue-bypass") + " --queue-cpu-fanout" * (fanout is not None)
    return r.Queue(f"-j NFQUEUE {words}")


def _balance(text: str) -> str:
    if ":" not in text:
        raise ValueError(f"{text!r} is no range of queues, like 0:3")
    first, last = scalars.pair(text, 0xFFFF)
    if first == last or (first, last) == (0, 0xFFFF):
        raise ValueError(f"{text} is no range of two to 65535 queues")
    return f"{first}:{last}"
