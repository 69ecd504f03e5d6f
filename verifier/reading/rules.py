"""Rule text into rule sets, whatever program wrote it: the format is found out, and each kind has its reader."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence

from msgspec import Struct

from .. import hooks
from .. import rules as r
from ..values import Family, Place
from . import detect, families, listing, logs, matches, options, saved, scripts
from .detect import Format
from .errors import RuleError
from .lines import Line, split
from .tables import Tables, not_a_table


class ReadRules(Struct, frozen=True):
    """What a text says: its rules, the format it was found to have, and what the reader had to assume."""

    families: Mapping[Family, r.RuleSet]
    """The rules of each family that the text has, IPv4 first; never empty."""
    format: str
    notes: tuple[str, ...] = ()

    @property
    def rules(self) -> r.RuleSet:
        """The IPv4 rules, or the IPv6 rules of a text that has no others."""
        return next(iter(self.families.values()))


def read_rules(text: str, file: str, table: str | None = None, family: Family | None = None) -> ReadRules:
    """The rules of a text; RuleError, with the place and a way out, where iptables would refuse it or we do.

    `table` names the table of a text that does not name its own (a listing, `iptables -S`); `family` is that of
    rules whose words do not tell (IPv4 where it is None).
    """
    if table is not None and table not in hooks.BUILT_IN:
        raise not_a_table(table, Place(file, 0))
    collects = gc.isenabled()
    # Rules hold no cycles, and looking for some while they grow takes a third of the time.
    gc.disable()
    try:
        return _read(text, file, table, family)
    finally:
        if collects:
            gc.enable()


def _read(text: str, file: str, table: str | None, family: Family | None) -> ReadRules:
    lines = split(text, file)
    notes: list[str] = []
    kind = detect.detect(lines)
    match kind:
        case Format.SAVE:
            return _done(saved.read(lines, family, notes, families.could_be_ipv6(text)), kind, notes)
        case Format.COMMANDS:
            return _done(_read_commands(lines, table, family, notes), kind, notes)
        case Format.LOG:
            return _done(logs.read(lines, notes), kind, notes)
        case Format.SCRIPT | Format.TRACE | Format.TRANSCRIPT:
            return _done(scripts.read(lines, kind, notes), kind, notes)
        case Format.LISTING:
            return _done(listing.read(lines, table, family, notes), kind, notes)


def _done(tables: Mapping[Family, Tables], kind: Format, notes: list[str]) -> ReadRules:
    found = {family: tables[family].finish() for family in Family if family in tables}
    return ReadRules(found, kind.value, tuple(dict.fromkeys(notes)))


def _read_commands(
    lines: Sequence[Line], table: str | None, family: Family | None, notes: list[str]
) -> Mapping[Family, Tables]:
    """`iptables -S`: commands of one table, which the text does not name."""
    if table is None and any(detect.names_table(line) for line in lines):
        table = "filter"
        notes.append("lines without `-t` are read as table filter, which is iptables' own choice")
    if table is None:
        inferred = detect.table_of(saved.policies_of(lines))
        if inferred is None:
            first = next(line for line in lines if detect.meaningful(line))
            raise first.error(
                "R017", "this text does not name its table", hint="say which one it is, with `--table`"
            )
        table, note = inferred
        notes.append(note)
    its = family or families.of_text(lines) or Family.IPV4
    tables = Tables(its, notes)
    saved.read_commands(lines, tables, table)
    return {its: tables}


def read_literals(text: str, place: Place, line: str | None = None) -> tuple[r.Literal, ...]:
    """iptables match syntax alone, as after `where`: `-p tcp --dport 80 ! -s 10.0.0.0/8`.

    `place` is where the text begins; `line` is the whole line that it is part of.
    """
    before = " " * (place.column - 1)
    shown = Line(place.file, place.line, line if line is not None else before + text)
    tree = saved.parse(shown, "literals", before + text)
    try:
        found = matches.read(shown, options.read(shown, saved.words(tree.children), None, ()))
    except ValueError as e:
        raise shown.error("R009", str(e)) from e
    if len(found.sources) > 1 or len(found.destinations) > 1:
        raise shown.error("R011", "a condition takes one address for `-s` and one for `-d`")
    return r.ordered((*found.sources[0], *found.destinations[0], *found.literals))


__all__ = ["ReadRules", "RuleError", "read_literals", "read_rules"]
