"""Property files (.prop) read as a `PropertyFile`: the hosts that they name, properties and tables.

Only the file itself is read here: whether a host has the processes, chains and interfaces that the
claims name is asked when they are bound to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from ..claims import (
    Cell,
    Expectation,
    HostName,
    KeepClaim,
    Property,
    PropertyFile,
    Quantifier,
    Row,
    SameClaim,
    TableProperty,
    Variant,
    Wanted,
)
from ..values import Place, Special
from .claims import not_of_answers, quantifier_word, read_chain, read_claim, read_rule_number, read_verbs
from .errors import PropertyError
from .files import read_text
from .premises import Scope, named_hosts, quoted, read_premise
from .trees import Branch, Word, read
from .words import BIND_FORM, IDS_FORM, read_bind, read_ids, read_iface, read_name, read_ports


def read_properties(path: Path) -> PropertyFile:
    """What a property file says; raises PropertyError."""
    return read_properties_text(read_text(path, "the property file", "P009", PropertyError), str(path))


def read_properties_text(text: str, file: str) -> PropertyFile:
    """What a text that is said to stand in `file` says; no other file is opened."""
    tree = read(text, file)
    hosts = tuple(_host(b) for b in tree.branches("host"))
    _once([b.the("NAME") for b in tree.branches("host")], "host")
    _once([b.the("NAME") for b in tree.branches("property", "table")], "property")
    scope = Scope(frozenset(h.name for h in hosts), text)
    return PropertyFile(
        hosts,
        tuple(
            _property(b, scope) if b.name == "property" else _table(b, scope)
            for b in tree.branches("property", "table")
        ),
        file,
    )


def _once(names: list[Word], what: str) -> None:
    first: dict[str, Word] = {}
    for word in names:
        if word.text in first:
            line = first[word.text].place.line
            raise word.error("P003", f"a {what} `{word.text}` is there already, on line {line}")
        first[word.text] = word


def _title(tree: Branch) -> str | None:
    word = tree.word("STRING")
    return None if word is None else quoted(word)


# -- hosts and their variants ---------------------------------------------------------------------


def _host(tree: Branch) -> HostName:
    name = tree.the("NAME")
    file = tree.the("STRING")
    if not quoted(file):
        raise file.error("P004", "a host needs a file")
    if name.text in ("any", Special.UNICAST.value):
        raise name.error("P004", f"`{name.text}` is a word for addresses, and no host's name")
    return HostName(name.read(read_name), quoted(file), _variants(tree), name.place)


def _variants(tree: Branch) -> tuple[Variant, ...]:
    """The changes to a host that stand right in this branch."""
    return tuple(_variant(b) for b in tree.branches(*_CHANGES, "with_rules", "without"))


def _variant(tree: Branch) -> Variant:
    if tree.name == "with_rules":
        file = tree.the("STRING")
        if not quoted(file):
            raise file.error("P004", "`with rules` needs a file")
        return Variant("rules", quoted(file), place=file.place)
    if tree.name == "without":
        chain = tree.the("CHAIN")
        number = tree.the("NUMBER").read(read_rule_number)
        return Variant("without-rule", f"{chain.read(read_chain)} {number}", place=chain.place)
    key, read_value, form = _CHANGES[tree.name]
    process = tree.the("PROCESS")
    process.read(read_name)
    words = [w for b in tree.branches("ids", "ports") for w in b.words()] or list(tree.words()[1:])
    value = ", ".join(w.text for w in words).replace("not, ", "not ") or "nothing"
    if words:
        try:
            read_value(value)
        except ValueError as e:
            raise words[0].error("P004", str(e), form) from None
    return Variant(key, value, process.text, process.place)


_CHANGES: dict[str, tuple[str, Callable[[str], object], str | None]] = {
    "on_bind": ("on", read_bind, BIND_FORM),
    "uid": ("uid", read_ids, IDS_FORM),
    "gid": ("gid", read_ids, IDS_FORM),
    "binds_device": ("binds-device", read_iface, None),
    "refuses": ("refuses", read_ports, None),
}
"""Of each change to a process: its key, what reads its value, and how that is written."""


# -- properties -----------------------------------------------------------------------------------


def _read_property_name(text: str) -> str:
    """The name of a property or of a table."""
    if not re.fullmatch(r"\w[\w.-]*", text):
        raise ValueError(f"`{text}` is no name: letters, digits, `_`, `-` and `.`")
    return text


def _property(tree: Branch, scope: Scope) -> Property:
    name = tree.the("NAME")
    branches = tree.branches("packet_claim", "rule_claim", "table_claim")
    claims = tuple(read_claim(b, scope) for b in branches)
    comparing = {isinstance(c, SameClaim | KeepClaim) for c in claims}
    if comparing == {True}:
        expectations = _of_no_host(tree, name)
    elif comparing == {False}:
        named = dict.fromkeys(h for b in branches for h in named_hosts(b, scope))
        expectations = _of_hosts(tree, name, tuple(named), scope)
    else:
        raise name.error(
            "P005",
            "claims that compare two hosts do not stand with claims about one",
            "make them properties of their own",
        )
    return Property(name.read(_read_property_name), _title(tree), claims, expectations, name.place)


def _of_no_host(tree: Branch, name: Word) -> tuple[Expectation, ...]:
    """What is expected where the claims themselves say of which hosts they speak."""
    for on in tree.branches("on"):
        hint = 'write `expected refuted because "..."` for what is not to be proved'
        raise on.the("HOST").error("P006", "a comparison names its hosts itself, without `on`", hint)
    expected = _expected(tree)
    return (_expectation(None, expected, name.place),)


def _of_hosts(tree: Branch, name: Word, named: tuple[str, ...], scope: Scope) -> tuple[Expectation, ...]:
    """What is expected of each host that `on` names; without `on`, of the only host that the claims or
    the file name.
    """
    ons = tree.branches("on")
    expected = _expected(tree)
    if ons:
        if expected is not None:
            hint = 'write `on HOST refuted because "..."`'
            raise expected.the("EXPECTED").error("P006", "`expected` does not go with `on`", hint)
        _once([w for on in ons for w in on.words("HOST")], "line for host")
        return tuple(_expectation(scope.host(w), on, w.place) for on in ons for w in on.words("HOST"))
    candidates = named or tuple(scope.hosts)
    if len(candidates) != 1:
        which = "names several hosts" if named else "names no host"
        listed = ", ".join(sorted(candidates)) or 'none: name one with `host NAME = "FILE"`'
        raise name.error("P006", f"this property {which}", f"add a line `on HOST`; the hosts are {listed}")
    return (_expectation(candidates[0], expected, name.place),)


def _expected(tree: Branch) -> Branch | None:
    found = tree.branches("expected")
    if len(found) > 1:
        raise found[1].the("EXPECTED").error("P003", "`expected` is given twice")
    return found[0] if found else None


def _expectation(host: str | None, tree: Branch | None, place: Place) -> Expectation:
    outcome = None if tree is None else tree.branch("outcome")
    if outcome is None:
        return Expectation(host, place=place)
    because = outcome.branch("because")
    assert because is not None
    return Expectation(host, Wanted(outcome.the("WANTED").text), quoted(because.the("STRING")), place)


# -- tables ---------------------------------------------------------------------------------------


def _table(tree: Branch, scope: Scope) -> TableProperty:
    name = tree.the("NAME")
    quantifier = quantifier_word(tree)
    if quantifier.text != "every":
        raise quantifier.error("P005", "a table's claim begins with `every`: its cells say whether it holds")
    for host in named_hosts(tree, scope):
        raise name.error(
            "P006", f"a table's columns are its hosts, and its claim names `{host}`", "leave it out"
        )
    header = tree.branch("header")
    assert header is not None
    columns = header.words("HOST")
    _once(list(columns), "column")
    rows = tuple(_row(b, len(columns)) for b in tree.branches("row"))
    titles: set[str] = set()
    for branch, row in zip(tree.branches("row"), rows, strict=True):
        if row.title in titles:
            raise branch.the("BAR").error("P003", f"a row `{row.title}` is there already")
        titles.add(row.title)
    premise = read_premise(tree, scope)
    not_of_answers(premise, tree)
    return TableProperty(
        name.read(_read_property_name),
        _title(tree),
        premise,
        read_verbs(tree, Quantifier.EVERY, scope),
        tuple(scope.host(w) for w in columns),
        rows,
        name.place,
    )


def _row(tree: Branch, columns: int) -> Row:
    """A row; its title is what stands before its first cell."""
    bar = tree.the("BAR")
    cells = tree.words("CELL")
    if len(cells) != columns:
        last = cells[-1]
        raise last.error("P008", f"the table has {columns} columns, and this row {len(cells)} cells")
    title = _title(tree)
    before = bar.line[: bar.place.column - 1]
    indent = len(before) - len(before.lstrip())
    return Row(
        " ".join(before.split()) if title is None else title,
        _variants(tree),
        tuple(Cell(w.text) for w in cells),
        Place(bar.place.file, bar.place.line, indent + 1),
    )
