"""Single rules that others wrote, each put to iptables-restore and to the reader in the same few lines: both take it or
neither, and what is spelled of it is printed back alike.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from msgspec import Struct

from . import manifest, reader, saved, tool
from .extensions import BY_NAME, IN_SCOPE
from .meaning import cause
from .verdicts import Case, general

LAW = "lines"

BUILT_IN = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")


class Single(Struct, frozen=True):
    """A rule of a file, as the words of one command in a table."""

    place: str
    kind: str
    family: str
    table: str
    words: tuple[str, ...]


def singles() -> tuple[Single, ...]:
    found = []
    for entry in manifest.entries():
        if entry.format not in ("txlate", "lines", "snippet"):
            continue
        for number, line in enumerate(entry.file.read_text(encoding="utf-8").splitlines(), 1):
            place = f"{entry.path}:{number}"
            if entry.format == "txlate":
                if (head := re.match(r"(ip6?tables)-translate ", line)) is not None:
                    found.append(
                        _single(place, entry.format, "v6" if "6" in head[1] else "v4", line[head.end() :])
                    )
            elif entry.format == "lines" and "\t" in line:
                table, _, rest = line.partition("\t")
                found.append(_single(place, entry.format, entry.family, rest, table))
            elif entry.format == "snippet" and line.startswith("-"):
                found.append(_single(place, entry.format, entry.family, line))
    for number, line in enumerate(
        (manifest.CORPUS / "MICRO.legacy.txt").read_text(encoding="utf-8").splitlines(), 1
    ):
        if micro := re.match(r"(?:OK  |FAIL) \[(\w+)\] (.*?) ?=> ", line):
            found.append(
                _single(f"MICRO.legacy.txt:{number}", "micro", "v4", f"-A OUTPUT {micro[2]}", micro[1])
            )
    return tuple(one for one in found if one is not None)


def _single(place: str, kind: str, family: str, line: str, table: str = "filter") -> Single | None:
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return None
    if "-t" in words:
        at = words.index("-t")
        table = words[at + 1]
        del words[at : at + 2]
    return Single(place, kind, family, table, tuple(words))


def text_of(single: Single, declare: tuple[str, ...] = ()) -> str:
    """The command as a whole text, its own chain declared where it is not built in."""
    chain = next((b for a, b in pairwise(single.words) if a in ("-A", "-I")), "")
    new = dict.fromkeys([*([chain] if chain and chain not in BUILT_IN else []), *declare])
    rule = " ".join(_word(w) for w in single.words)
    return "\n".join([f"*{single.table}", *(f":{name} - [0:0]" for name in new), rule, "COMMIT", ""])


def _word(word: str) -> str:
    if re.fullmatch(r"[^\s\"']+", word):
        return word
    return '"' + re.sub(r'(["\\])', r"\\\1", word) + '"'


def cases() -> Iterator[Case]:
    with ThreadPoolExecutor(2) as pool:
        yield from pool.map(judge, singles())


def judge(single: Single) -> Case:
    text = text_of(single)
    got = tool.load(text, single.family, "legacy")
    if isinstance(got, tool.NotLoaded) and (name := re.search(r"Couldn't load target `([^']*)'", got.error)):
        text = text_of(single, (name[1],))
        got = tool.load(text, single.family, "legacy")
    modules = {b for a, b in pairwise(single.words) if a in ("-m", "-j")} - set(BUILT_IN)
    known = all(
        m in IN_SCOPE or m in BY_NAME or m in ("ACCEPT", "DROP", "RETURN") or m.islower() for m in modules
    )

    def case(outcome: str, cause: str = "", detail: str = "", ways: tuple[str, ...] = ()) -> Case:
        return Case(LAW, single.place, single.kind, outcome, cause, detail, ways)

    line = " ".join(single.words)
    match reader.ask(text, single.place, single.family):
        case reader.Crashed(where, trace):
            return case("crashed", f"an exception that is not ours: {where}", trace[-600:])
        case reader.Refused(code, message):
            if isinstance(got, tool.NotLoaded):
                return case("refused by both")
            return case(
                "refused", f"refused, and iptables takes it: {code} {general(message)}", f"{line}: {message}"
            )
        case reader.Read() as heard:
            if single.family not in heard.rules:
                return case("other family", "read as the other family", line)
            opaque = bool(reader.opaque(heard))
            if isinstance(got, tool.NotLoaded):
                if reader.refusal_found(heard) is not None:
                    return case("linted")
                if opaque or not known or "Extension" in got.error:
                    return case("read, not by iptables 1.8.9 here")
                return case(
                    "read", f"read, and iptables refuses it: {general(got.error)}", f"{line}: {got.error}"
                )
            mine = tool.load(reader.spelled(heard.rules[single.family]), single.family, "legacy")
            if isinstance(mine, tool.NotLoaded):
                return case(
                    "not loaded", f"what we spell is refused: {general(mine.error)}", f"{line}: {mine.error}"
                )
            difference = saved.compare(got.saved, mine.saved)
            if difference.left:
                return case("differs", cause(difference.left), difference.left)
            return case("opaque, the same" if opaque else "the same", ways=difference.ways)
