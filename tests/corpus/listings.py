"""A listing and the save text of the same rules are read to rule sets that mean the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from verifier import rules as r

from . import reader, saved
from .manifest import CORPUS
from .meaning import cause
from .verdicts import Case, general

LAW = "listings"
OPAQUE = (
    "what a listing has no exact words for (users' names, and matches that are opaque in the save text too)"
)
UNNAMED = "the name of a hashlimit, which no listing has"
DERIVED = CORPUS / "derived"


class Pair(Struct, frozen=True):
    """A listing (`-L -v` or `-L -v -n` of a backend), and the save text that the same tool printed of the same rules."""

    listing: Path
    saved: Path
    form: str
    family: str


def pairs() -> tuple[Pair, ...]:
    found = []
    for listing in sorted(DERIVED.rglob("*.listing")):
        name = re.fullmatch(r"(.*)\.(legacy|nft)\.(Lvn?)\.(v[46])\.listing", listing.name)
        assert name is not None, listing
        rules = listing.with_name(f"{name[1]}.{name[2]}.rules.{name[4]}")
        found.append(
            Pair(
                listing, rules, f"{name[4]} {name[2]:6} -{'L -v -n' if name[3] == 'Lvn' else 'L -v'}", name[4]
            )
        )
    return tuple(found)


def cases() -> Iterator[Case]:
    for pair in pairs():
        yield judge(pair)


def judge(pair: Pair) -> Case:
    place = str(pair.listing.relative_to(CORPUS))

    def case(outcome: str, cause: str = "", detail: str = "") -> Case:
        return Case(LAW, place, pair.form, outcome, cause, detail)

    found: list[r.RuleSet] = []
    for path, what in ((pair.saved, "save text"), (pair.listing, "listing")):
        match reader.ask_file(path, pair.family):
            case reader.Crashed(where, trace):
                return case("crashed", f"an exception that is not ours: {where}", trace[-600:])
            case reader.Refused(code, message, shown):
                return case(f"{what} refused", f"the {what} is refused: {code} {general(message)}", shown)
            case reader.Read(rules):
                if pair.family not in rules:
                    return case(
                        "other family", f"the {what} is read as {', '.join(rules)}, and it is {pair.family}"
                    )
                found.append(rules[pair.family])
    texts = list(map(reader.spelled, found))
    unnamed = [re.sub(r"(--hashlimit-name) \S+", r"\1 x", text) for text in texts]
    difference = saved.compare(*unnamed)
    if not difference.left:
        ways = (*difference.ways, UNNAMED) if unnamed != texts else difference.ways
        return Case(LAW, place, pair.form, "alike" if ways else "the same", ways=ways)
    lost = () if pair.form.endswith("-n") else (r.OwnerIds,)
    blurred = saved.compare(*(reader.spelled(reader.blurred(rules, lost)) for rules in found))
    if not blurred.left:
        return Case(LAW, place, pair.form, "alike", ways=(*blurred.ways, OPAQUE))
    return case("differs", cause(blurred.left), blurred.left)
