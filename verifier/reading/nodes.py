"""YAML as nodes that keep their text and their place, and the shapes that a reader may ask of them.

`yaml.safe_load` would turn `on` into True and `22:22` into 1342; here a scalar stays as it is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from msgspec import Struct

from ..values import Place
from .errors import HostError, did_you_mean

if TYPE_CHECKING:
    import yaml

T = TypeVar("T")


class Spot(Struct, frozen=True):
    """A place, the text of its line, and how many characters from its column on are meant."""

    place: Place
    line: str
    width: int = 1


class Scalar(Struct, frozen=True):
    text: str
    spot: Spot


class Items(Struct, frozen=True):
    nodes: tuple[Node, ...]
    spot: Spot


class Keys(Struct, frozen=True):
    """A mapping: each key's own scalar and its value, by the key's text, in the order of the file."""

    entries: Mapping[str, tuple[Scalar, Node]]
    spot: Spot

    def get(self, key: str) -> Node | None:
        entry = self.entries.get(key)
        return entry[1] if entry else None


Node: TypeAlias = Scalar | Items | Keys


def error(code: str, message: str, spot: Spot, hint: str | None = None) -> HostError:
    """The error that says this of this spot."""
    return HostError(code, message, spot.place, line=spot.line, width=spot.width, hint=hint)


def read(text: str, file: str) -> Node:
    """The one document of a YAML text; raises HostError where it is none, or gives a key twice."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    lines = text.splitlines() or [""]
    try:
        root = yaml.compose(text, Loader=loader)
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        number, column = (mark.line + 1, mark.column + 1) if mark else (1, 0)
        if number > len(lines):
            number, column = len(lines), len(lines[-1]) + 1
        line = lines[number - 1]
        what = e.problem or e.context or "it cannot be read"
        tabs = "\t" in line[: len(line) - len(line.lstrip())]
        hint = "YAML is indented with blanks, and this line begins with a tab" if tabs else None
        if re.search(r"[\[{,]\s*::", line):
            hint = "an address that begins with a colon stands in quotes"
        place = Place(file, number, column)
        raise HostError("H001", f"this is not YAML: {what}", place, line=line, hint=hint) from None
    except yaml.YAMLError as e:
        before = text[: getattr(e, "position", 0)]
        what = str(getattr(e, "reason", e)).partition("\n")[0]
        place = Place(file, before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise HostError("H001", f"this is not YAML: {what}", place) from None
    except RecursionError:
        raise HostError("H001", "this is nested too deep", Place(file, 1)) from None
    if root is None:
        raise HostError("H001", "the host file is empty", Place(file, 1))
    return _node(root, file, lines, set())


def _node(node: yaml.Node, file: str, lines: list[str], seen: set[int]) -> Node:
    import yaml

    spot = _spot(node, file, lines)
    if id(node) in seen:
        raise error("H001", "aliases are not read: write the value out", spot)
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode):
        return Scalar(str(node.value), spot)
    if isinstance(node, yaml.SequenceNode):
        return Items(tuple(_node(n, file, lines, seen) for n in node.value), spot)
    assert isinstance(node, yaml.MappingNode)
    entries: dict[str, tuple[Scalar, Node]] = {}
    for k, v in node.value:
        key = _node(k, file, lines, seen)
        if not isinstance(key, Scalar):
            raise error("H001", "a key is a word", key.spot)
        if key.text in entries:
            first = entries[key.text][0].spot.place.line
            raise error("H001", f"`{key.text}` is given twice, first on line {first}", key.spot)
        entries[key.text] = (key, _node(v, file, lines, seen))
    return Keys(entries, spot)


def _spot(node: yaml.Node, file: str, lines: list[str]) -> Spot:
    start, end = node.start_mark, node.end_mark
    line = lines[start.line] if start.line < len(lines) else ""
    width = end.column - start.column if end.line == start.line else len(line) - start.column
    return Spot(Place(file, start.line + 1, start.column + 1), line, max(1, width))


# -- shapes -----------------------------------------------------------------------------------


def keys(node: Node, what: str, known: Iterable[str] | None = None) -> Keys:
    """The node as a mapping, empty where nothing is written, with no key but the known ones."""
    match node:
        case Keys():
            for text, (key, _) in node.entries.items():
                if known is not None and text not in known:
                    hint = did_you_mean(text, known) or f"known are {', '.join(f'`{k}`' for k in known)}"
                    raise error("H002", f"`{text}` is no key of {what}", key.spot, hint)
            return node
        case Scalar():
            if node.text == "":
                return Keys({}, node.spot)
            raise error("H003", f"{what} is given as `key: value`", node.spot)
        case Items():
            raise error("H003", f"{what} is given as `key: value`, not as a list", node.spot)


def scalar(node: Node, what: str) -> Scalar:
    """The node as one value."""
    match node:
        case Scalar():
            if node.text == "":
                raise error("H003", f"{what} has no value", node.spot)
            return node
        case Items() | Keys():
            raise error("H003", f"{what} is one value", node.spot)


def scalars(node: Node | None, what: str) -> tuple[Scalar, ...]:
    """The values of a list, of which one may be given without brackets; none where there is no node."""
    match node:
        case None:
            return ()
        case Scalar():
            return (scalar(node, what),)
        case Items():
            return tuple(scalar(n, what) for n in node.nodes)
        case Keys():
            raise error("H003", f"{what} is a value or a list of values", node.spot)


def needed(mapping: Keys, key: str, what: str) -> Node:
    """The value of a key that has to be there."""
    node = mapping.get(key)
    if node is None:
        raise error("H003", f"{what} needs `{key}:`", mapping.spot)
    return node


def value(of: Scalar, read_it: Callable[[str], T], hint: str | None = None) -> T:
    """What a function reads in the scalar's text; its ValueError becomes a HostError at this spot."""
    try:
        return read_it(of.text)
    except ValueError as e:
        raise error("H004", str(e), of.spot, hint) from None
