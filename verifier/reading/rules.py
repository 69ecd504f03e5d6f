"""Rule text into rule sets, whatever program wrote it: the format is found out, and each kind has its reader."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from typing import assert_never

from msgspec import Struct

from .. import hooks
from .. import rules as r
from ..values import Family, Place
from . import detect, families, matches, options, saved, tables
from .detect import Format
from .errors import InputError, RuleError
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
    return read_in_order([(text, file)], table, family)


def read_in_order(
    texts: Sequence[tuple[str, str]], table: str | None = None, family: Family | None = None
) -> ReadRules:
    """The rules of texts of several owners, each given with its file, after all are loaded in this order: the first as
    `read_rules` has it, each other on what was there, saved text as by `iptables-restore --noflush`.

    A listing, and a log, tell what there is and no way to it: RuleError where it has a table that is there already.
    """
    for _, file in texts:
        if table is not None and table not in hooks.BUILT_IN:
            raise not_a_table(table, Place(file, 0))
    collects = gc.isenabled()
    # Rules hold no cycles, and looking for some while they grow takes a third of the time.
    gc.disable()
    try:
        notes: list[str] = []
        there: dict[Family, Tables] = {}
        kinds = [_load(text, file, there, table, family, notes) for text, file in texts]
        found = {its: there[its].finish() for its in Family if its in there}
        return ReadRules(found, ", then ".join(dict.fromkeys(kinds)), tuple(dict.fromkeys(notes)))
    finally:
        if collects:
            gc.enable()


def _load(
    text: str,
    file: str,
    there: dict[Family, Tables],
    table: str | None,
    family: Family | None,
    notes: list[str],
) -> str:
    """Do to the tables what a text says; returns the format that it was found to have."""
    lines = split(text, file)
    odd = detect.out_of_the_ordinary(lines)
    notes += detect.warnings(odd)
    kind = detect.detect(lines, odd)
    for its in there.values():
        its.from_nothing = True
    match kind:
        case Format.SAVE:
            saved.read(lines, family, notes, families.could_be_ipv6(text), there)
        case Format.COMMANDS:
            _read_commands(lines, table, family, notes, there)
        case Format.SCRIPT | Format.TRACE | Format.TRANSCRIPT:
            from . import scripts

            scripts.read(lines, kind, notes, there)
        case Format.LOG:
            from . import logs

            tables.put_beside(there, logs.read(lines, notes), lines[0])
        case Format.LISTING:
            from . import listing

            tables.put_beside(there, listing.read(lines, table, family, notes), lines[0])
        case _:
            assert_never(kind)
    return kind.value


def _read_commands(
    lines: Sequence[Line],
    table: str | None,
    family: Family | None,
    notes: list[str],
    there: dict[Family, Tables],
) -> None:
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
    saved.read_commands(lines, there.setdefault(its, Tables(its, notes)), table)


def read_either(text: str, place: Place, line: str | None = None) -> tuple[r.Literal, ...]:
    """`read_literals` by iptables, or where it does not understand them but ip6tables does, by that."""
    try:
        return read_literals(text, place, line)
    except InputError:
        try:
            return read_literals(text, place, line, Family.IPV6)
        except InputError:
            pass
        raise


def read_literals(
    text: str, place: Place, line: str | None = None, family: Family = Family.IPV4
) -> tuple[r.Literal, ...]:
    """iptables match syntax alone, as after `where`: `-p tcp --dport 80 ! -s 10.0.0.0/8`, or that of ip6tables.

    `place` is where the text begins; `line` is the whole line that it is part of.
    """
    before = " " * (place.column - 1)
    shown = Line(place.file, place.line, line if line is not None else before + text)
    tree = saved.parse(shown, "literals", before + text)
    try:
        found = matches.read(shown, options.read(shown, saved.words(tree.children), None, (), family))
    except ValueError as e:
        raise shown.error("R009", str(e)) from e
    if len(found.sources) > 1 or len(found.destinations) > 1:
        raise shown.error("R011", "a condition takes one address for `-s` and one for `-d`")
    return r.ordered((*found.sources[0], *found.destinations[0], *found.literals))


__all__ = ["ReadRules", "RuleError", "read_either", "read_in_order", "read_literals", "read_rules"]
