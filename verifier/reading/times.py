"""The options of `-m time`, as iptables-save prints them: days of the week and of the month by name, dates in full."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from .given import find, has, value
from .lines import Line
from .options import Module, Option

_WEEK = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTH = tuple(str(day) for day in range(1, 32))
_LAST_SECOND = 86_399
_LAST_DATE = "2038-01-19T03:14:07"
"""What iptables has for no end; 1.8.9 prints it."""


def read(line: Line, module: Module) -> Iterator[str]:
    start, stop = find(module, "timestart"), find(module, "timestop")
    first = 0 if start is None else value(line, start, _seconds)
    last = _LAST_SECOND if stop is None else value(line, stop, _seconds)
    contiguous = find(module, "contiguous")
    if contiguous and last >= first:
        raise line.error("R009", "`--contiguous` is for a time that ends before it begins", contiguous.word)
    if (first, last) != (0, _LAST_SECOND):
        yield f"--timestart {_clock(first)}"
        yield f"--timestop {_clock(last)}"
    yield from _days(line, find(module, "monthdays"), "monthdays", _MONTH)
    yield from _days(line, find(module, "weekdays"), "weekdays", _WEEK)
    begin, end = find(module, "datestart"), find(module, "datestop")
    if begin:
        yield f"--datestart {value(line, begin, _date)}"
    yield f"--datestop {value(line, end, _date) if end else _LAST_DATE}"
    if has(module, "kerneltz") or has(module, "localtz"):
        yield "--kerneltz"
    if contiguous:
        yield "--contiguous"


def _seconds(text: str) -> int:
    found = re.fullmatch(r"(\d{1,2}):(\d{1,2})(?::(\d{1,2}))?", text)
    hours, minutes, seconds = map(int, found.groups("0")) if found else (24, 0, 0)
    if hours > 23 or minutes > 59 or seconds > 59:
        raise ValueError(f"{text!r} is no time of day: it is written as hh:mm or hh:mm:ss")
    return hours * 3600 + minutes * 60 + seconds


def _clock(seconds: int) -> str:
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _days(line: Line, option: Option | None, name: str, days: Sequence[str]) -> Iterator[str]:
    """The days that are meant, where they are not all; where there are none, all of them with `!`."""
    if option is None:
        return
    given = value(line, option, lambda t: _named(t, days))
    meant = [day for n, day in enumerate(days, 1) if (n in given) != option.negated]
    if not meant:
        yield f"! --{name} {','.join(days)}"
    elif len(meant) < len(days):
        yield f"--{name} {','.join(meant)}"


def _named(text: str, days: Sequence[str]) -> frozenset[int]:
    """The days of a list, each by its number, or by the beginning of its name where it has one."""
    found = set()
    for item in text.split(","):
        by_name = next((n for n, d in enumerate(days, 1) if len(item) > 1 and _begins(d, item)), None)
        number = int(item) if item.isdecimal() else by_name
        if number is None or not 1 <= number <= len(days):
            raise ValueError(f"{item!r} is no day: they are {days[0]} to {days[-1]}")
        found.add(number)
    return frozenset(found)


def _begins(day: str, item: str) -> bool:
    return day.isalpha() and day.lower().startswith(item.lower())


def _date(text: str) -> str:
    """`YYYY[-MM[-DD[Thh[:mm[:ss]]]]]`; a day that the month has not is counted on, as mktime does it."""
    found = re.fullmatch(
        r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2})(?:T(\d{1,2})(?::(\d{1,2})(?::(\d{1,2}))?)?)?)?)?", text
    )
    numbers = found.groups() if found else ("0",) * 6
    year, month, day = (int(n or 1) for n in numbers[:3])
    hour, minute, second = (int(n or 0) for n in numbers[3:])
    good = 1970 <= year <= 2038 and 1 <= month <= 12 and 1 <= day <= 31
    if not good or hour > 23 or minute > 59 or second > 59:
        raise ValueError(
            f"{text!r} is no date: it is written as YYYY-MM-DD or YYYY-MM-DDThh:mm:ss, up to 2038"
        )
    when = datetime(year, month, 1, hour, minute, second) + timedelta(days=day - 1)
    return when.isoformat()
