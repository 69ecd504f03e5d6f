"""Which files are read, and which are refused: what a real tool loads is read, what both refuse is refused or linted."""

from __future__ import annotations

import re
from collections.abc import Iterator

from . import manifest, reader
from .manifest import Entry
from .verdicts import Case, general

LAW = "reading"

RULES_TEXT = ("rules", "golden", "listing", "snippet", "script")
"""Formats that say rules, so that they are read; the others are no rules files, and need only be refused well."""

NOT_RULES = ("t", "txlate", "template", "shell", "lines", "ipset")


NO_TABLE = "R017"
"""The code that asks a user to name the table, who then does."""


def cases() -> Iterator[Case]:
    for entry in manifest.entries():
        heard = reader.ask_file(entry.file, family_of(entry), table_of(entry))
        if entry.format == "listing" and isinstance(heard, reader.Refused) and heard.code == NO_TABLE:
            heard = reader.ask_file(entry.file, family_of(entry), "filter")
        yield judge(entry, heard)


def family_of(entry: Entry) -> str | None:
    """The family that a user would name: that of a text of IPv6 alone, which may not say so."""
    return "v6" if entry.family == "v6" else None


def table_of(entry: Entry) -> str | None:
    """The table that a user would name: that of a text which does not, as its origin says."""
    return {"snippet": "filter"}.get(entry.format)


def judge(entry: Entry, heard: reader.Heard) -> Case:
    tools = _tools(entry)
    kind = f"{entry.format:8} {tools}"

    def case(outcome: str, cause: str = "", detail: str = "") -> Case:
        return Case(LAW, entry.path, kind, outcome, cause, detail)

    match heard:
        case reader.Crashed(where, trace):
            return case("crashed", f"an exception that is not ours: {where}", trace[-600:])
        case reader.Read():
            if entry.format == "rules" and not entry.loads:
                if (found := linted(heard, _line(entry))) is not None:
                    return case("linted", "", found)
                return case("read", "read without a finding, and no tool loads it", _error(entry))
            return case("read")
        case reader.Refused(code, message, shown):
            if (
                entry.format in NOT_RULES
                or (entry.format == "rules" and not entry.loads)
                or entry.some_refused
            ):
                return case("refused", "", f"{code} {message}")
            said = "a tool loads it" if entry.format == "rules" else "it is rules text"
            return case("refused", f"refused, and {said}: {code} {general(message)}", shown)


def linted(heard: reader.Read, line: int | None) -> str | None:
    """The finding of lint that says why no tool loads these rules, or None."""
    return reader.refusal_found(heard, line)


def _line(entry: Entry) -> int | None:
    """The line that the tool named when it refused the file."""
    found = re.search(r"at line: (\d+)|line (\d+) failed", _error(entry))
    return int(found[1] or found[2]) if found else None


def _tools(entry: Entry) -> str:
    if entry.format == "script":
        return "some commands refused" if entry.some_refused else "all commands run"
    if entry.format != "rules":
        return ""
    return {(True, True): "both load", (True, False): "legacy loads", (False, True): "nft loads"}.get(
        (entry.legacy == "accept", entry.nft == "accept"), "both refuse"
    )


def _error(entry: Entry) -> str:
    return entry.error.split(" || legacy_load: ")[-1].split(" || ")[0]
