"""Which kind of text a rules file is, and what to do instead where we do not read that kind."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum

from .. import hooks
from .errors import RuleError
from .lines import Line


class Format(Enum):
    """The kinds of text that we read."""

    SAVE = "iptables-save"
    COMMANDS = "iptables -S"
    LISTING = "listing"


def detect(lines: Sequence[Line]) -> Format:
    """The format of a text, by its first line that is neither blank nor a comment."""
    for line in lines:
        if re.match(r"#.*\bip6tables-", line.text):
            raise line.error(
                "R004", "these are IPv6 rules, which are not read yet", hint="give the IPv4 rules alone"
            )
    first = next((line for line in lines if meaningful(line) and not listing_command(line)), None)
    if first is None:
        start = lines[0]
        raise RuleError(
            "R001", "there is no rule here", start.place(), hint="give what `iptables-save` prints"
        )
    text = first.text.strip()
    if text.startswith("*"):
        return Format.SAVE
    if re.match(r"Chain \S+ \(", text):
        return Format.LISTING
    if re.match(r"(\[\d+:\d+\] )?(-[APNI]|--(append|policy|new-chain|insert))\s", text):
        return Format.COMMANDS
    if re.match(r"(table|add table|flush ruleset|#!/usr/sbin/nft)\b", text):
        raise first.error(
            "R002", "this is nftables text", hint="give what `iptables-save` (or `iptables-nft-save`) prints"
        )
    if re.match(r"(\+ |\$ |# |sudo )*(/\S*/)?ip6?tables\b", text):
        raise first.error(
            "R015",
            "lists of iptables commands are not read yet",
            hint="run them in a network namespace and give what `iptables-save` prints there",
        )
    raise first.error("R001", "this is neither iptables-save text nor a listing", hint="run `iptables-save`")


def meaningful(line: Line) -> bool:
    text = line.text.strip()
    return bool(text) and not text.startswith("#")


def listing_command(line: Line) -> str | None:
    """The table that a command line with a prompt before it (`# iptables -t nat -L -v`) lists, or None."""
    found = re.fullmatch(r"\S*[#$] ?(?:sudo )?\S*iptables\S*( .*)?", line.text)
    words = (found[1] or "").split() if found else []
    if not any(re.match(r"-\w*L|--list$", w) for w in words):
        return None
    return next((words[n + 1] for n, w in enumerate(words[:-1]) if w in ("-t", "--table")), "filter")


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
