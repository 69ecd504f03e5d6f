"""A golden file of Istio holds what iptables-restore gets and then what ip6tables-restore gets, and no word says where the
second begins: it is read to the rules that each of them leaves behind.
"""

from __future__ import annotations

from collections.abc import Iterator

from . import manifest, reader, tool
from .manifest import Entry
from .scripts import of_family
from .verdicts import Case, general

LAW = "golden"


def cases() -> Iterator[Case]:
    for entry in manifest.entries():
        if entry.format == "golden":
            yield judge(entry)


def parts(text: str) -> dict[str, str]:
    """The blocks up to the first table that comes again, and those from there on."""
    found: dict[str, str] = {}
    family, seen, inside = "v4", set(), False
    for line in text.split("\n"):
        if line.startswith("*"):
            inside = True
            table = line[1:].strip()
            if table in seen and family == "v4":
                family, seen = "v6", set()
            seen.add(table)
        if inside:
            found[family] = found.get(family, "") + line + "\n"
        inside = inside and line != "COMMIT"
    return found


def judge(entry: Entry) -> Case:
    asked = parts(entry.file.read_text(encoding="utf-8"))
    kind = " and ".join(asked)

    def case(outcome: str, cause: str = "", detail: str = "", ways: tuple[str, ...] = ()) -> Case:
        return Case(LAW, entry.path, kind, outcome, cause, detail, ways)

    match reader.ask_file(entry.file):
        case reader.Crashed(where, trace):
            return case("crashed", f"an exception that is not ours: {where}", trace[-600:])
        case reader.Refused(code, message, shown):
            return case("refused", f"refused: {code} {general(message)}", shown)
        case reader.Read(rules):
            if set(rules) != set(asked):
                return case("other families", f"read as {', '.join(rules)}, and it is {', '.join(asked)}")
            found: list[Case] = []
            for family, text in asked.items():
                got = tool.load(text, family, "legacy")
                if isinstance(got, tool.NotLoaded):
                    return case("no tool loads it here", detail=got.error)
                found.append(case(*of_family(family, rules, got.saved)))
            return next((c for c in found if c.cause), found[0])
