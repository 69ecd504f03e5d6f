"""A list of iptables commands is read to the rules that it leaves behind in a fresh network namespace."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from verifier import rules as r

from . import manifest, reader, saved, tool
from .manifest import Entry
from .meaning import cause
from .verdicts import Case, general

LAW = "scripts"


def scripts() -> tuple[Entry, ...]:
    return tuple(entry for entry in manifest.entries() if entry.format == "script")


def cases(every: int = 1) -> Iterator[Case]:
    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(judge, scripts()[::every]):
            yield from found


def commands(text: str) -> list[tuple[int, str, list[str]]]:
    """The commands that change rules, each with its line's number, its family and its words."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        name, *words = shlex.split(line, comments=True) or [""]
        if name in ("iptables", "ip6tables"):
            found.append((number, "v6" if name == "ip6tables" else "v4", words))
    return found


def judge(entry: Entry, backend: str = "legacy") -> list[Case]:
    """One case for a script; two where the tool refuses some of its commands: the script, and what is left without them."""
    text = entry.file.read_text(encoding="utf-8")
    asked = commands(text)
    got = tool.obey([(family, words) for _, family, words in asked], backend)
    if not got.refused:
        return [_whole(entry.path, reader.ask_file(entry.file), got)]
    bad = {asked[n][0] for n in got.refused}
    first = min(got.refused)
    lines = text.split("\n")
    rest = "\n".join("" if n in bad else line for n, line in enumerate(lines, 1))
    found = [_with_refused(entry.path, reader.ask_file(entry.file), got, asked[first][0], got.refused[first])]
    if len(bad) < len(asked):
        found.append(_whole(f"{entry.path} [without what is refused]", reader.ask(rest, entry.path), got))
    return found


def _with_refused(place: str, heard: reader.Heard, got: tool.Obeyed, line: int, error: str) -> Case:
    """A command that fails changes nothing, and is told of; or the script is refused."""

    def case(outcome: str, cause: str = "", detail: str = "") -> Case:
        return Case(LAW, place, "some commands refused", outcome, cause, detail)

    match heard:
        case reader.Crashed(where, trace):
            return case("crashed", f"an exception that is not ours: {where}", trace[-600:])
        case reader.Refused():
            return case("refused")
        case reader.Read(rules):
            found = [of_family(family, rules, left_behind) for family, left_behind in got.saved.items()]
            if all(not cause for _, cause, _, _ in found):
                if reader.refusal_found(heard, line) is None:
                    return case(
                        "silent", f"not told that a command fails: {general(error)}", f"{line}: {error}"
                    )
                return case("the same, told")
            if reader.opaque(heard):
                return case("opaque")
            if reader.refusal_found(heard, line) is not None:
                return case("linted")
            return case(
                "read",
                f"read without a finding, and a command is refused: {general(error)}",
                f"{line}: {error}",
            )


def _whole(place: str, heard: reader.Heard, got: tool.Obeyed) -> Case:
    kind = "without what is refused" if got.refused else "all commands run"
    found: list[Case] = []

    def case(outcome: str, cause: str = "", detail: str = "", ways: tuple[str, ...] = ()) -> Case:
        return Case(LAW, place, kind, outcome, cause, detail, ways)

    match heard:
        case reader.Crashed(where, trace):
            return case("crashed", f"an exception that is not ours: {where}", trace[-600:])
        case reader.Refused(code, message, shown):
            return case("refused", f"refused, and all its commands run: {code} {general(message)}", shown)
        case reader.Read(rules):
            for family, left_behind in got.saved.items():
                found.append(case(*of_family(family, rules, left_behind)))
    return next((c for c in found if c.cause), found[0] if found else case("read"))


def of_family(
    family: str, rules: Mapping[str, r.RuleSet], left_behind: str
) -> tuple[str, str, str, tuple[str, ...]]:
    """Outcome, cause, detail and ways: our reading of one family against what the tool holds of it."""
    if family not in rules:
        if saved.is_empty(left_behind):
            return "the same", "", "", ()
        return "differs", f"nothing is read for {family}", left_behind, ()
    text = reader.spelled(rules[family])
    mine = tool.load(text, family, "legacy")
    if isinstance(mine, tool.NotLoaded):
        return "not loaded", f"what we spell is refused: {general(mine.error)}", f"{mine.error}: {text}", ()
    difference = saved.compare(left_behind, mine.saved)
    if difference.left:
        return "differs", cause(difference.left), difference.left, ()
    return "alike" if difference.ways else "the same", "", "", difference.ways
