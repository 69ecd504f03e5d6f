"""Matches that no packet decides (`statistic`, `limit`, `recent`, ...): their options, as iptables-save prints them.

What the kernel keeps is printed, not what was written: defaults are filled in, a rate is that of the kernel's own ticks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .. import rules as r
from ..values import ALL_32, Family, mask_of, read_address, spell_address, spell_text
from . import scalars, times
from .given import find, has, value
from .lines import Line
from .options import Module, Option


def read(line: Line, module: Module, family: Family) -> r.Chance:
    """The match, with its options put together from their values."""
    match module.name:
        case "connlimit":
            words = _connlimit(line, module, family)
        case "hashlimit":
            words = _hashlimit(line, module, family)
        case "limit":
            words = _limit(line, module)
        case "quota":
            words = _quota(line, module)
        case "recent":
            words = _recent(line, module, family)
        case "statistic":
            words = _statistic(line, module)
        case "time":
            words = times.read(line, module)
        case _:
            raise AssertionError(module)
    options = " ".join(words)
    return r.Chance(module.name, options, _certain(module.name, options.split()))


def _certain(name: str, words: list[str]) -> bool | None:
    """What the match says of every packet, None where that is left to chance."""
    always = (
        (name == "recent" and "--set" in words)
        or (name == "statistic" and words[-1] == "1.00000000000")
        or (name == "statistic" and "--every" in words and words[words.index("--every") + 1] == "1")
    )
    if always:
        return "!" not in words
    never = name == "statistic" and words[-1] == "0.00000000000"
    return "!" in words if never else None


def _not(option: Option) -> str:
    return "! " if option.negated else ""


def _number(line: Line, module: Module, name: str, last: int, first: int = 0) -> int | None:
    option = find(module, name)
    return None if option is None else value(line, option, lambda t: scalars.bounded(t, last, first))


# -- limit ------------------------------------------------------------------------------------------

_UNITS = (("second", "sec", 1), ("minute", "min", 60), ("hour", "hour", 3600), ("day", "day", 86400))


def _rate(text: str, scale: int) -> tuple[int, int]:
    """`N[/UNIT]` as ticks from one packet to the next, and the seconds of the unit."""
    number, slash, unit = text.partition("/")
    seconds = next((s for name, _, s in _UNITS if unit and name.startswith(unit.lower())), None)
    if not slash:
        seconds = 1
    if seconds is None or not re.fullmatch(r"\d+", number) or int(number) == 0:
        raise ValueError(f"{text!r} is no rate: it is written like 5/second, 5/min, 5/hour or 5/day")
    ticks = scale * seconds // int(number)
    if not ticks:
        raise ValueError(f"{text} is too fast: it goes up to {scale}/second")
    return ticks, seconds


def _spell_rate(ticks: int, scale: int) -> tuple[str, int]:
    """A rate in the greatest unit that says it well enough (libxt_limit.c: print_rate), and the unit's seconds."""
    units = [(short, seconds) for _, short, seconds in reversed(_UNITS)]
    best = units[0]
    for unit in units[1:]:
        whole = scale * unit[1]
        if ticks > whole or whole // ticks < whole % ticks:
            break
        best = unit
    return f"{scale * best[1] // ticks}/{best[0]}", best[1]


def _limit(line: Line, module: Module) -> Iterator[str]:
    rate = find(module, "limit")
    ticks, _ = (10_000 * 1200, 0) if rate is None else value(line, rate, lambda t: _rate(t, 10_000))
    yield f"--limit {_spell_rate(ticks, 10_000)[0]}"
    burst = _number(line, module, "limit-burst", 10_000)
    if burst is not None and burst != 5:
        yield f"--limit-burst {burst}"


# -- hashlimit --------------------------------------------------------------------------------------

_MODES = ("srcip", "srcport", "dstip", "dstport")
_SIZES = (("mb", 1 << 20), ("kb", 1 << 10), ("b", 1))


def _hashlimit(line: Line, module: Module, family: Family) -> Iterator[str]:
    rate = find(module, "hashlimit-upto", "hashlimit", "hashlimit-above")
    assert rate is not None
    above = (rate.name == "hashlimit-above") != rate.negated
    burst = find(module, "hashlimit-burst")
    name = f"--hashlimit-{'above' if above else 'upto'}"
    if value(line, rate, _is_bytes):
        bytes_ = value(line, rate, _bytes_rate)
        yield f"{name} {_spell_bytes(bytes_)}/s"
        if burst:
            yield f"--hashlimit-burst {_spell_bytes(value(line, burst, lambda t: _bytes_burst(t, bytes_)))}"
        expire = usual = 15_000
    else:
        ticks, seconds = value(line, rate, lambda t: _rate(t, 1_000_000))
        spelled, printed = _spell_rate(ticks, 1_000_000)
        yield f"{name} {spelled}"
        yield f"--hashlimit-burst {value(line, burst, _packets_burst) if burst else 5}"
        expire, usual = seconds * 1000, printed * 1000
    modes = find(module, "hashlimit-mode")
    if modes:
        yield f"--hashlimit-mode {value(line, modes, _modes)}"
    yield f"--hashlimit-name {value(line, _there(module, 'hashlimit-name'), _table_name)}"
    for option, default in (("size", 0), ("max", 0), ("gcinterval", 1000)):
        number = _number(line, module, f"hashlimit-htable-{option}", ALL_32)
        if number is not None and number != default:
            yield f"--hashlimit-htable-{option} {number}"
    given = _number(line, module, "hashlimit-htable-expire", ALL_32)
    expire = expire if given is None else given
    if expire != usual:
        yield f"--hashlimit-htable-expire {expire}"
    for option in ("hashlimit-srcmask", "hashlimit-dstmask"):
        length = _number(line, module, option, family.bits)
        if length is not None and length != family.bits:
            yield f"--{option} {length}"
    if has(module, "hashlimit-rate-match"):
        yield "--hashlimit-rate-match"
        interval = _number(line, module, "hashlimit-rate-interval", ALL_32, 1)
        if interval is not None and interval != 1:
            yield f"--hashlimit-rate-interval {interval}"


def _there(module: Module, name: str) -> Option:
    option = find(module, name)
    assert option is not None
    return option


def _table_name(text: str) -> str:
    """The name of a table of `hashlimit` or `recent`: a file's name under /proc, which iptables-save does not quote."""
    if not text or "/" in text or len(text) > 200:
        raise ValueError(f"{text!r} is no name of a table")
    return text if re.fullmatch(r'[^\s"]+', text) else spell_text(text)


def _is_bytes(text: str) -> bool:
    return text.endswith("b/s")


def _bytes(text: str) -> int:
    found = re.fullmatch(r"(0[xX][0-9a-fA-F]+|\d+)(mb|kb|b)?", text)
    if found is None or scalars.number(found[1]) == 0:
        raise ValueError(f"{text!r} is no number of bytes, like 512kb")
    return scalars.number(found[1]) * dict(_SIZES)[found[2] or "b"]


def _burst(text: str) -> int:
    """A number, times 1024 or its square where `k` or `m` comes next; what comes then is not looked at
    (libxt_hashlimit.c: parse_burst, get_factor).
    """
    found = re.match(r"(0[xX][0-9a-fA-F]+|\d+)(.?)", text)
    if found is None:
        raise ValueError(f"{text!r} is no burst, like 5 or 512kb")
    return scalars.number(found[1]) * {"k": 1 << 10, "m": 1 << 20}.get(found[2], 1)


def _bytes_rate(text: str) -> int:
    """Bytes a second, as the kernel's cost of sixteen bytes can say them (libxt_hashlimit.c: bytes_to_cost)."""
    cost = ALL_32 // ((_bytes(text.removesuffix("/s")) >> 4) + 1)
    return (ALL_32 // cost - 1) << 4 if cost else 0


def _bytes_burst(text: str, rate: int) -> int:
    """So many times the rate, rounded up."""
    burst = _burst(text)
    if not rate or burst < rate:
        raise ValueError(f"the burst cannot be smaller than {rate}b")
    return -(-burst // rate) * rate


def _spell_bytes(number: int) -> str:
    unit, size = next((u, s) for u, s in _SIZES if (number % s == 0 and number >= s) or s == 1)
    return f"{number // size}{unit}"


def _packets_burst(text: str) -> int:
    burst = _burst(text)
    if not 1 <= burst <= 1_000_000:
        raise ValueError(f"{text} is not in 1..1000000")
    return burst


def _modes(text: str) -> str:
    items = text.split(",")
    if not set(items) <= set(_MODES):
        raise ValueError(f"{text!r} is no list of {', '.join(_MODES)}")
    return ",".join(m for m in _MODES if m in items)


# -- the others -------------------------------------------------------------------------------------


def _connlimit(line: Line, module: Module, family: Family) -> Iterator[str]:
    most = find(module, "connlimit-upto", "connlimit-above")
    assert most is not None
    upto = (most.name == "connlimit-upto") != most.negated
    yield f"--connlimit-{'upto' if upto else 'above'} {_number(line, module, most.name, ALL_32)}"
    mask = find(module, "connlimit-mask")
    length = family.bits if mask is None else value(line, mask, lambda t: _length(t, family))
    yield f"--connlimit-mask {length}"
    yield "--connlimit-daddr" if has(module, "connlimit-daddr") else "--connlimit-saddr"


def _length(text: str, family: Family) -> int:
    """A prefix length, or its mask."""
    if re.fullmatch(r"\w+", text):
        return scalars.bounded(text, family.bits)
    mask = read_address(text, family)
    if mask != mask_of(mask.bit_count(), family):
        raise ValueError(f"{text!r} is no mask of a prefix")
    return mask.bit_count()


def _quota(line: Line, module: Module) -> Iterator[str]:
    option = _there(module, "quota")
    yield f"{_not(option)}--quota {_number(line, module, 'quota', 2**64 - 1)}"


def _recent(line: Line, module: Module, family: Family) -> Iterator[str]:
    what = find(module, "set", "rcheck", "update", "remove")
    assert what is not None
    looks = what.name in ("rcheck", "update")
    for option in module.options:
        if option.name in ("seconds", "hitcount", "rttl", "reap") and not looks:
            raise line.error(
                "R011", f"`{option.word.text}` goes with --rcheck and --update only", option.word
            )
    reap = find(module, "reap")
    if reap and not has(module, "seconds"):
        raise line.error("R010", "`--reap` needs `--seconds`", reap.word)
    yield f"{_not(what)}--{what.name}"
    seconds = _number(line, module, "seconds", ALL_32, 1)
    yield from [f"--seconds {seconds}"] if seconds else []
    yield from ["--reap"] if reap else []
    hits = _number(line, module, "hitcount", 65_535)
    yield from [f"--hitcount {hits}"] if hits else []
    yield from ["--rttl"] if has(module, "rttl") else []
    name, mask = find(module, "name"), find(module, "mask")
    yield f"--name {value(line, name, _table_name) if name else 'DEFAULT'}"
    address = mask_of(family.bits, family) if mask is None else value(line, mask, lambda t: _mask(t, family))
    yield f"--mask {spell_address(address, family)}"
    yield "--rdest" if has(module, "rdest") else "--rsource"


def _mask(text: str, family: Family) -> int:
    """An address; a number alone is its last octet."""
    return (
        int(text) if family is Family.IPV4 and re.fullmatch(r"\d{1,3}", text) else read_address(text, family)
    )


def _statistic(line: Line, module: Module) -> Iterator[str]:
    mode, probability, every = (find(module, name) for name in ("mode", "probability", "every"))
    packet = find(module, "packet")
    assert mode is not None
    match value(line, mode, _mode):
        case "random":
            if probability is None:
                raise line.error("R010", "`--mode random` needs `--probability`", mode.word)
            chance = value(line, probability, _probability)
            yield f"--mode random {_not(probability)}--probability {chance / 2**31:.11f}"
        case _:
            if every is None or packet is None:
                raise line.error("R010", "`--mode nth` needs `--every` and `--packet`", mode.word)
            period = _number(line, module, "every", ALL_32, 1)
            assert period is not None
            yield f"--mode nth {_not(every)}--every {period}"
            yield f"--packet {_number(line, module, 'packet', period - 1)}"


def _mode(text: str) -> str:
    if text not in ("random", "nth"):
        raise ValueError(f"{text!r} is neither random nor nth")
    return text


def _probability(text: str) -> int:
    """In parts of 2^31."""
    chance = float(text) if re.fullmatch(r"(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", text) else -1.0
    if not 0 <= chance <= 1:
        raise ValueError(f"{text!r} is no probability from 0 to 1")
    return round(chance * 2**31)
