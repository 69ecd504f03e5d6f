"""Which kind of text a rules file is, and what to do instead where we do not read that kind."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from enum import Enum

from msgspec import Struct

from .. import hooks
from ..values import Family
from .errors import RuleError
from .lines import Line


class Format(Enum):
    """The kinds of text that we read."""

    SAVE = "iptables-save"
    COMMANDS = "iptables -S"
    LISTING = "listing"
    SCRIPT = "commands"
    TRACE = "shell trace"
    TRANSCRIPT = "transcript"
    LOG = "log"


PROGRAM = r"(?:\S*/)?ip6?tables(?:-legacy|-nft)?"
"""The program as it is called: with its folder, and the backend in its name."""
_CALL = re.compile(rf"(?:(?:sudo|doas)\s+(?:-\w+\s+)*)?{PROGRAM}(?:-save|-restore)?(?:\s|$)")
PROMPT = re.compile(r"(?:\[[^\]]*\][#$%>]|[\w.-]+@[\w.-]+[^#$%>]*[#$%>]|[#$%>]) +")
_CHAIN = re.compile(r"Chain \S+ \(")
_CLOCK = r"(?:\d{4}-\d\d-\d\d[T ])?\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?"
TRACED = re.compile(rf"\++(?:\S*[>:)\]])? +(?:\[?{_CLOCK}\]?:? +)?(?:[\w./-]+:\d+[:>] +)?")
"""What a shell puts before a command that it traces: PS4, with a place or the time in it, as bash and zsh have it."""
_PLUS = re.compile(rf"{TRACED.pattern}(?:sudo )?{PROGRAM}(?:-save|-restore)?(?:\s|$)")


def out_of_the_ordinary(lines: Sequence[Line]) -> Sequence[Line]:
    """The lines that do not begin as nearly all lines of a long rule set do."""
    return [line for line in lines if line.text[:1] not in _ORDINARY]


_ORDINARY = ("-", ":", "")
"""What a long rule set's lines begin with, and none that a logger wrote, a shell traced or iptables warns with."""


def detect(lines: Sequence[Line], odd: Sequence[Line]) -> Format:
    """The format of a text, by its first lines that are neither blank nor comments, and those out of the ordinary."""
    first = next((line for line in lines if meaningful(line) and not listing_command(line)), None)
    if first is not None and _CHAIN.match(first.text.strip()):
        return Format.LISTING
    if any(_LOGGED.match(line.text) for line in odd):
        return Format.LOG
    if any(line.text[:1] == "+" and _PLUS.match(line.text) for line in odd):
        return Format.TRACE
    if first is None:
        if any(_prompted(line) for line in lines):
            return Format.TRANSCRIPT
        start = lines[0]
        raise RuleError(
            "R001", "there is no rule here", start.place(), hint="give what `iptables-save` prints"
        )
    text = first.text.strip()
    if text.startswith("*") or (asks_for_state(first) and _first_table(lines)):
        return Format.SAVE
    if re.match(
        r"(\[\d+:\d+\] )?(-[APNIDRFXEZ46t]|--(append|policy|new-chain|insert|delete|table))(\s|$)", text
    ):
        return Format.COMMANDS
    if re.match(r"(table|add table|flush ruleset|#!/usr/sbin/nft)\b", text):
        raise first.error(
            "R002", "this is nftables text", hint="give what `iptables-save` (or `iptables-nft-save`) prints"
        )
    if _CALL.match(text):
        return Format.SCRIPT
    if _prompted(first):
        return Format.TRANSCRIPT
    if any(_CALL.match(line.text.strip()) or re.search(r"\biptables\b", line.text) for line in lines):
        return Format.SCRIPT
    raise first.error("R001", "this is neither iptables-save text nor a listing", hint="run `iptables-save`")


_TIME = r"\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d"
_LOGGED = re.compile(
    rf'\{{"(?:log|level|time|ts|msg|severity|timestamp)":|{_TIME}|(time="[^"]*" )?level=\w+ msg="|[IWEF]\d{{4}} \d\d:\d\d:\d\d\.\d+ '
    r"|Environment:$|Final iptables state|Writing following contents to rules file"
)


def _first_table(lines: Sequence[Line]) -> bool:
    """Whether a table begins before anything but `iptables-save` alone on its line."""
    rest = (line for line in lines if meaningful(line) and not asks_for_state(line))
    return next(rest, lines[0]).text.strip().startswith("*")


def asks_for_state(line: Line) -> bool:
    """Whether a line is a call of iptables-save, which a program noted down and which changes nothing."""
    return re.fullmatch(r"(\S*/)?ip6?tables(-legacy|-nft)?-save", line.text.strip()) is not None


def _prompted(line: Line) -> bool:
    """Whether a line is a prompt with a call of iptables after it."""
    found = PROMPT.match(line.text)
    return found is not None and _CALL.match(line.text[found.end() :]) is not None


def meaningful(line: Line) -> bool:
    text = line.text.strip()
    return bool(text) and not text.startswith("#")


def names_table(line: Line) -> bool:
    """Whether a line of rules without their program says which table it is for."""
    return re.match(r"\s*(-t|--table)\s", line.text) is not None


class Echo(Struct, frozen=True):
    """What a line says about the listing that follows it."""

    table: str
    family: Family | None


def warnings(lines: Sequence[Line]) -> Iterator[str]:
    """What iptables itself says is not in what it prints: rules of the other backend, and tables that `nft` wrote."""
    for line in lines:
        if found := re.match(r"# Warning: (ip6?tables-legacy) tables present", line.text):
            yield (
                f"line {line.number}: there are rules of {found[1]} beside these, which the text does not show: "
                f"`{found[1]}-save` prints them, and packets pass both"
            )
        elif found := re.match(r"# Table `(\w+)' (?:is|contains) incompatible", line.text):
            yield f"line {line.number}: table {found[1]} has rules that iptables cannot print, so they are missing here"


def listing_command(line: Line) -> Echo | None:
    """What a command line with a prompt before it (`# iptables -t nat -L -v`) or `Table: nat` says is listed, or None."""
    if titled := re.fullmatch(r"Table: (\w+)\s*", line.text):
        return Echo(titled[1], None)
    found = re.fullmatch(r"(?:\S*[#$] ?|\++ )?(?:sudo )?\S*(ip6?tables)\S*( .*)?", line.text)
    words = (found[2] or "").split() if found else []
    if found is None or not any(re.match(r"-\w*L|--list$", w) for w in words):
        return None
    table = next((words[n + 1] for n, w in enumerate(words[:-1]) if w in ("-t", "--table")), "filter")
    return Echo(table, Family.IPV6 if found[1] == "ip6tables" else Family.IPV4)


def table_of(built_in: frozenset[str]) -> tuple[str, str] | None:
    """The table that has these built-in chains, with a note that says why; None where there is a choice."""
    if built_in == frozenset(hooks.BUILT_IN["filter"]):
        return "filter", "read as table filter; table security has the same chains: name it if it is that one"
    if built_in == frozenset(hooks.BUILT_IN["nat"]) - {"INPUT"}:
        return "nat", "read as table nat of a kernel before 2.6.36, which has no INPUT"
    if built_in == frozenset(hooks.BUILT_IN["raw"]):
        return "raw", "read as table raw: its built-in chains leave no other choice"
    for table, chains in hooks.BUILT_IN.items():
        if built_in == frozenset(chains):
            return table, f"read as table {table}: its built-in chains leave no other choice"
    return None
