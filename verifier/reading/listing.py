"""`iptables -L -v` and `-L -v -n` listings: every row is put in iptables-save's words, and read as those.

Names in a listing come from the machine that printed it; we read the few whose meaning is the same everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from msgspec import Struct

from .. import hooks
from .. import rules as r
from ..values import Family
from . import extensions as ext
from . import families, printed
from .detect import Echo, listing_command, meaningful, table_of
from .drafts import Draft
from .errors import RuleError
from .lines import Line, Word
from .printed import USE_SAVE
from .tables import Tables, not_a_table
from .vocabulary import ELSEWHERE, SERVICES

_HEAD = re.compile(r"Chain (\S+) \((?:policy (\S+)(?: \S+ packets, \S+ bytes)?|-?\d+ references?)\)\s*")
_COUNTED = r"\s*(?:\d+\s+)?\d+[KMGT]?\s+\d+[KMGT]?\s+(?:(?P<target>\S+)\s+)?(?P<protocol>\S+)\s+"
_ROW = re.compile(
    _COUNTED + r"(?P<opt>--|-f|!f)\s+"
    r"(?P<in>\S+)\s+(?P<out>\S+)\s+(?P<source>\S+)\s+(?P<destination>\S+)(?:\s+(?P<prose>.*\S))?\s*"
)
_HOST6 = rf"!?(?:\S*:\S*|anywhere|{'|'.join(printed.HOSTS6)})"
# ip6tables before 1.8.9 leaves the column of `-f` empty.
_ROW6 = re.compile(
    _COUNTED + r"(?P<opt>)(?P<in>\S+)\s+(?P<out>(?!\S*::)\S+)\s+"
    rf"(?P<source>{_HOST6})\s+(?P<destination>{_HOST6})(?:\s+(?P<prose>.*\S))?\s*"
)

_ORDERS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "filter": (hooks.BUILT_IN["filter"],),
    "mangle": (hooks.BUILT_IN["mangle"],),
    "raw": (hooks.BUILT_IN["raw"],),
    "nat": (
        hooks.BUILT_IN["nat"],
        ("PREROUTING", "POSTROUTING", "OUTPUT"),
        ("PREROUTING", "OUTPUT", "POSTROUTING"),
    ),
}
"""In which order a table's built-in chains are listed; nat of kernels before 2.6.36 has no INPUT."""


class _Part(Struct, frozen=True):
    """The lines of one table, and what is said about it before them."""

    lines: Sequence[Line]
    table: str | None
    family: Family | None


def read(
    lines: Sequence[Line], table: str | None, family: Family | None, notes: list[str]
) -> Mapping[Family, Tables]:
    """The tables of a listing.  A line like `# iptables -t nat -L -v` names the table of what follows it; `table`
    is that of the rest, where the caller knows it, and so is `family`.
    """
    tables: dict[Family, Tables] = {}
    for part in _parts(lines, table):
        its = part.family or families.of_text(part.lines) or family or Family.IPV4
        of = tables.setdefault(its, Tables(its, notes))
        for named, some in _told_apart(part, notes):
            _read_table(some, named, of)
    return tables


def _parts(lines: Sequence[Line], table: str | None) -> Iterator[_Part]:
    """The lines of each table that is listed, with its name where a command line gives it."""
    part: list[Line] = []
    echo: Echo | None = None
    for line in lines:
        if found := listing_command(line):
            if found.table not in hooks.BUILT_IN:
                raise not_a_table(found.table, line.place(), line)
            if any(map(meaningful, part)):
                yield _Part(part, echo.table if echo else table, echo.family if echo else None)
            part, echo = [], found
        else:
            part.append(line)
    if any(map(meaningful, part)):
        yield _Part(part, echo.table if echo else table, echo.family if echo else None)


def _told_apart(part: _Part, notes: list[str]) -> Iterator[tuple[str, Sequence[Line]]]:
    """The tables that follow one another without their names, as their built-in chains tell them."""
    if part.table is not None:
        yield part.table, part.lines
        return
    heads = [(n, head) for n, line in enumerate(part.lines) if (head := _HEAD.fullmatch(line.text))]
    built_in = [head[1] for _, head in heads if head[2]]
    inferred = table_of(frozenset(built_in)) if len(set(built_in)) == len(built_in) else None
    found = list(_tables(built_in))
    if inferred is None and len(found) == 1 and len(found[0]) > 1:
        begins = [n for n, head in heads if head[2]]
        at = 0
        ends: list[tuple[str, int]] = []
        for name, many in found[0]:
            ends.append((name, begins[at]))
            at += many
        for n, (name, begin) in enumerate(ends):
            end = ends[n + 1][1] if n + 1 < len(ends) else len(part.lines)
            notes.append(f"the lines from {part.lines[begin].number} on are read as table {name}")
            yield name, part.lines[begin:end]
        return
    if inferred is None:
        first = part.lines[heads[0][0]] if heads else part.lines[0]
        raise first.error(
            "R017", "a listing does not name its table", hint="say which one it is, with `--table`"
        )
    table, note = inferred
    notes.append(note)
    yield table, part.lines


def _tables(
    chains: Sequence[str], taken: tuple[tuple[str, int], ...] = ()
) -> Iterator[tuple[tuple[str, int], ...]]:
    """Every way to take the built-in chains, in their order, for those of different tables."""
    if not chains:
        yield taken
    for table, orders in _ORDERS.items():
        if table in (name for name, _ in taken):
            continue
        for order in orders:
            if tuple(chains[: len(order)]) == order:
                yield from _tables(chains[len(order) :], (*taken, (table, len(order))))


def _read_table(lines: Sequence[Line], table: str, tables: Tables) -> None:
    heads = [(line, head) for line in lines if (head := _HEAD.fullmatch(line.text))]
    if table in tables.drafts:
        raise (heads[0][0] if heads else lines[0]).error("R013", f"table {table} is listed twice")
    draft = tables.draft(table, lines[0])
    for line, head in heads:
        if head[1] in draft.declared:
            raise line.error(
                "R013", f"chain {head[1]} is listed twice", _word(head, 1), "give one table at a time"
            )
        if bool(head[2]) != (head[1] in hooks.BUILT_IN[table]):
            raise line.error("R017", f"{head[1]} tells that this is not table {table}", _word(head, 1))
        draft.declare(line, _word(head, 1), _word(head, 2) if head[2] else None)
    chain: Word | None = None
    for line in lines:
        if head := _HEAD.fullmatch(line.text):
            chain = _word(head, 1)
        elif line.text.split()[:1] in (["pkts"], ["num"], ["target"]):
            _check_columns(line)
        elif meaningful(line):
            if chain is None:
                raise line.error("R005", "this line belongs to no chain")
            _append(draft, line, chain)


def _check_columns(line: Line) -> None:
    if not {"pkts", "in", "out"} <= set(line.text.split()):
        raise line.error(
            "R003",
            "this listing leaves out interfaces: two unlike rules look the same in it",
            hint=f"{USE_SAVE}, or `iptables -L -v -n`",
        )


def _word(found: re.Match[str], group: int | str) -> Word:
    return Word(found[group], *_span(found, group))


def _span(found: re.Match[str], group: int | str) -> tuple[int, int]:
    return found.start(group) + 1, len(found[group])


def _append(draft: Draft, line: Line, chain: Word) -> None:
    row = _ROW.fullmatch(line.text)
    if row is None and draft.family is Family.IPV6:
        row = _ROW6.fullmatch(line.text)
    if row is None:
        raise line.error("R005", "this is no row of a listing made with `-L -v`", hint=USE_SAVE)
    prose = row["prose"] or ""
    at = left = Word(prose, row.start("prose") + 1, len(prose))
    target: str | None = row["target"]
    said: list[printed.Said] = []
    if target and target in ext.TARGETS and target not in draft.chains:
        target, said, left = printed.target(target, at)
    goto, conditions, rest = printed.matches(line, left, draft.family)
    _tell(draft, line, conditions)
    if not said and (target == "REJECT" or (target == "REDIRECT" and rest)):
        raise line.error("R009", f"we do not understand what this {target} does", at, USE_SAVE)
    words = [*_columns(row, draft.family), *conditions]
    if target:
        words += [Word("-g" if goto else "-j", at.column, 1), Word(target, *_span(row, "target"), True)]
        for _, option, *values in said:
            words += [
                Word(option, at.column, at.width),
                *(Word(v, at.column, at.width, True) for v in values),
            ]
    if rest.startswith(("-", "!")):
        # Where it is spelled, nobody must take it for options.
        rest = f"printed: {rest}"
    try:
        draft.append(line, chain, words, (r.Literal(r.Opaque(rest)),) if rest else ())
    except RuleError as e:
        if e.code == "R009":
            e.hint = f"only the machine that printed a name knows it: {USE_SAVE}, or `iptables -L -v -n`"
        raise


def _tell(draft: Draft, line: Line, conditions: Sequence[Word]) -> None:
    """Tells of what a listing leaves out, and of ports by whose name another system means another port."""
    for option, ports in pairwise(conditions):
        if option.text in ("--sport", "--dport", "--sports", "--dports", "--ports"):
            for name in ELSEWHERE.keys() & re.split("[:,]", ports.text):
                draft.notes.append(
                    f"line {line.number}: {name} is read as port {SERVICES[name]}, as Debian has it; Red Hat means "
                    f"{ELSEWHERE[name]} by it (`iptables -L -v -n` prints numbers)"
                )
    if any(word.text == "--hashlimit-name" for word in conditions):
        draft.notes.append(
            f"line {line.number}: a listing does not print the name of a hashlimit; rules of one name share what they count"
        )


# -- columns ----------------------------------------------------------------------------------------


def _columns(row: re.Match[str], family: Family) -> Iterator[Word]:
    """The columns as options."""
    if row["protocol"].removeprefix("!") not in ("all", "0"):
        yield from _column("-p", _word(row, "protocol"))
    if row["opt"] not in ("--", ""):
        yield from _flag("-f", _word(row, "opt"))
    # With `-n` any interface is `*`, and then one could be named `any`.
    every = "*" if "*" in (row["in"], row["out"]) else "any"
    for option, group in (("-i", "in"), ("-o", "out")):
        if row[group] != every:
            yield from _column(option, _word(row, group))
    for option, group in (("-s", "source"), ("-d", "destination")):
        if row[group] != "anywhere":
            yield from _column(option, _host(_word(row, group), family))


def _column(option: str, word: Word) -> Iterator[Word]:
    text = word.text.removeprefix("!")
    yield from _flag(option, word)
    yield Word(text, word.column + len(word.text) - len(text), len(text), True)


def _flag(option: str, word: Word) -> Iterator[Word]:
    if word.text.startswith("!"):
        yield Word("!", word.column, 1)
    yield Word(option, word.column, word.width)


def _host(word: Word, family: Family) -> Word:
    negated = "!" if word.text.startswith("!") else ""
    return Word(negated + printed.address(word.text.removeprefix("!"), family), word.column, word.width)
