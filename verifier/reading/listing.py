"""`iptables -L -v` and `-L -v -n` listings: every row is put in iptables-save's words, and read as those.

Names in a listing come from the machine that printed it; we read the few whose meaning is the same everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from .. import hooks
from .. import rules as r
from ..values import TcpFlag
from . import extensions as ext
from .detect import listing_command, meaningful, table_of
from .drafts import Draft
from .errors import RuleError
from .grammars import parser
from .lines import Line, Word
from .tables import not_a_table

if TYPE_CHECKING:
    from lark import Token

HOSTS = {
    "localhost": "127.0.0.1", "default": "0.0.0.0", "loopback": "127.0.0.0", "link-local": "169.254.0.0",
    "base-address.mcast.net": "224.0.0.0", "all-systems.mcast.net": "224.0.0.1",
}  # fmt: skip
"""Names of hosts and networks that every system gives the same addresses."""

_USE_SAVE = "give what `iptables-save` prints"
_HEAD = re.compile(r"Chain (\S+) \((?:policy (\S+)(?: \S+ packets, \S+ bytes)?|-?\d+ references?)\)\s*")
_ROW = re.compile(
    r"\s*(?:\d+\s+)?\d+[KMGT]?\s+\d+[KMGT]?\s+(?:(?P<target>\S+)\s+)?(?P<protocol>\S+)\s+(?P<opt>--|-f|!f)\s+"
    r"(?P<in>\S+)\s+(?P<out>\S+)\s+(?P<source>\S+)\s+(?P<destination>\S+)(?:\s+(?P<prose>.*\S))?\s*"
)


def read(lines: Sequence[Line], table: str | None) -> tuple[r.RuleSet, tuple[str, ...]]:
    """The tables of a listing, and notes.  A line like `# iptables -t nat -L -v` names the table of what follows
    it; `table` is that of the rest, where the caller knows it.
    """
    notes: list[str] = []
    tables: dict[str, r.Table] = {}
    for named, part in _parts(lines, table):
        draft = _read_table(part, named, notes)
        if draft.table in tables:
            raise part[0].error("R013", f"table {draft.table} is listed twice")
        tables[draft.table] = draft.finish()
    return r.RuleSet(tables), tuple(notes)


def _parts(lines: Sequence[Line], table: str | None) -> Iterator[tuple[str | None, Sequence[Line]]]:
    """The lines of each table that is listed, with its name where a command line gives it."""
    part: list[Line] = []
    for line in lines:
        if echo := listing_command(line):
            if echo not in hooks.BUILT_IN:
                raise not_a_table(echo, line.place(), line)
            if any(map(meaningful, part)):
                yield table, part
            part, table = [], echo
        else:
            part.append(line)
    yield table, part


def _read_table(lines: Sequence[Line], table: str | None, notes: list[str]) -> Draft:
    heads = [(line, head) for line in lines if (head := _HEAD.fullmatch(line.text))]
    if table is None:
        inferred = table_of(frozenset(head[1] for _, head in heads if head[2]))
        if inferred is None:
            first = heads[0][0] if heads else lines[0]
            raise first.error(
                "R017", "a listing does not name its table", hint="say which one it is, with `--table`"
            )
        table, note = inferred
        notes.append(note)
    draft = Draft(table, notes)
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
            if not {"pkts", "in", "out"} <= set(line.text.split()):
                hint = f"{_USE_SAVE}, or `iptables -L -v -n`"
                raise line.error(
                    "R003",
                    "this listing leaves out interfaces: two unlike rules look the same in it",
                    hint=hint,
                )
        elif meaningful(line):
            if chain is None:
                raise line.error("R005", "this line belongs to no chain")
            _append(draft, line, chain)
    return draft


def _word(found: re.Match[str], group: int | str) -> Word:
    return Word(found[group], *_span(found, group))


def _span(found: re.Match[str], group: int | str) -> tuple[int, int]:
    return found.start(group) + 1, len(found[group])


def _append(draft: Draft, line: Line, chain: Word) -> None:
    row = _ROW.fullmatch(line.text)
    if row is None:
        if "::" in line.text:
            raise line.error("R004", "this is a listing of IPv6 rules, which are not read yet")
        raise line.error("R005", "this is no row of a listing made with `-L -v`", hint=_USE_SAVE)
    prose = row["prose"] or ""
    at = left = Word(prose, row.start("prose") + 1, len(prose))
    target: str | None = row["target"]
    said: list[_Said] = []
    if target and target in ext.TARGETS and target not in draft.chains:
        target, said, left = _target(target, at)
    goto, conditions, rest = _matches(line, left)
    if not said and (target == "REJECT" or (target == "REDIRECT" and rest)):
        raise line.error("R009", f"we do not understand what this {target} does", at, _USE_SAVE)
    words = [*_columns(row), *conditions]
    if target:
        words += [Word("-g" if goto else "-j", at.column, 1), Word(target, *_span(row, "target"), True)]
        for _, option, *values in said:
            words += [
                Word(option, at.column, at.width),
                *(Word(v, at.column, at.width, True) for v in values),
            ]
    try:
        draft.append(line, chain, words, (r.Literal(r.Opaque(rest)),) if rest else ())
    except RuleError as e:
        if e.code == "R009":
            e.hint = f"only the machine that printed a name knows it: {_USE_SAVE}, or `iptables -L -v -n`"
        raise


# -- columns ----------------------------------------------------------------------------------------


def _columns(row: re.Match[str]) -> Iterator[Word]:
    """The columns as options."""
    if row["protocol"].removeprefix("!") not in ("all", "0"):
        yield from _column("-p", _word(row, "protocol"))
    if row["opt"] != "--":
        yield from _flag("-f", _word(row, "opt"))
    # With `-n` any interface is `*`, and then one could be named `any`.
    every = "*" if "*" in (row["in"], row["out"]) else "any"
    for option, group in (("-i", "in"), ("-o", "out")):
        if row[group] != every:
            yield from _column(option, _word(row, group))
    for option, group in (("-s", "source"), ("-d", "destination")):
        if row[group] != "anywhere":
            yield from _column(option, _host(_word(row, group)))


def _column(option: str, word: Word) -> Iterator[Word]:
    text = word.text.removeprefix("!")
    yield from _flag(option, word)
    yield Word(text, word.column + len(word.text) - len(text), len(text), True)


def _flag(option: str, word: Word) -> Iterator[Word]:
    if word.text.startswith("!"):
        yield Word("!", word.column, 1)
    yield Word(option, word.column, word.width)


def _host(word: Word) -> Word:
    negated = "!" if word.text.startswith("!") else ""
    host, slash, bits = word.text.removeprefix("!").partition("/")
    if host == "anywhere":
        host, slash, bits = "0.0.0.0", "/", "0"
    return Word(negated + HOSTS.get(host, host) + slash + bits, word.column, word.width)


# -- what matches print -----------------------------------------------------------------------------


def _matches(line: Line, prose: Word) -> tuple[bool, list[Word], str]:
    """Whether the rule is a goto, its matches as options, and the rest of the prose that we do not understand."""
    from lark.exceptions import UnexpectedInput

    if prose.text.count("/* ") != prose.text.count(" */"):
        raise line.error("R005", "we cannot tell where the comment ends", prose, _USE_SAVE)
    try:
        tree = parser("listing.lark", "start").parse(prose.text)
    except UnexpectedInput as e:
        at = Word("", prose.column + max(0, (e.column or 1) - 1), 1)
        raise line.error("R005", "we do not understand what a match prints here", at, _USE_SAVE) from None
    goto, *items, rest = tree.children
    words: list[Word] = []
    before = ""
    for item in items:
        assert not isinstance(item, str), item
        tokens = [t for t in item.children if isinstance(t, str)]
        column = prose.column + (tokens[0].column or 1) - 1
        width = (tokens[-1].end_column or 1) - (tokens[0].column or 1)
        for negated, option, *values in _PRINTED[item.data](tokens):
            if option == "-m" and values == ["owner"] and (before, item.data) == ("uid_owner", "gid_owner"):
                continue
            words += [Word("!", column, width)] if negated else []
            words += [Word(option, column, width), *(Word(v, column, width, True) for v in values)]
        before = str(item.data)
    return goto is not None, words, str(rest).rstrip() if rest is not None else ""


def _ports(tokens: Sequence[Token]) -> Iterator[_Said]:
    yield "", "-m", str(tokens[0])
    for token in tokens[1:]:
        name, sep, value = re.split(r"([:=])", token, maxsplit=1)
        negated = "!" if value.startswith("!") else ""
        value = value.removeprefix("!")
        if name == "option" and sep:
            yield negated, f"--{tokens[0]}-option", value
        elif name == "flags":
            yield negated, "--tcp-flags", *map(_flags, value.split("/"))
        else:
            yield negated, "--sport" if name[0] == "s" else "--dport", value


def _flags(text: str) -> str:
    if not text.startswith("0x"):
        return text
    return ",".join(f.name for f in TcpFlag if int(text, 16) & f) or "NONE"


def _icmp(tokens: Sequence[Token]) -> Iterator[_Said]:
    kind = tokens[0].removeprefix("icmp").strip()
    negated = "!" if kind.startswith("!") else ""
    kind = kind.removeprefix("!").removeprefix("type ")
    yield "", "-m", "icmp"
    yield negated, "--icmp-type", kind.replace(" code ", "/")


def _multiport(tokens: Sequence[Token]) -> Iterator[_Said]:
    which, ports = tokens
    yield "", "-m", "multiport"
    yield _not(ports), f"--{which.split()[1]}", ports.removeprefix("!")


def _limit(tokens: Sequence[Token]) -> Iterator[_Said]:
    yield "", "-m", "limit"
    yield "", "--limit", str(tokens[1])
    if tokens[2] != "5":
        yield "", "--limit-burst", str(tokens[2])


def _addrtype(tokens: Sequence[Token]) -> Iterator[_Said]:
    yield "", "-m", "addrtype"
    for name, value in zip(tokens, [*tokens[1:], ""], strict=True):
        if name.type in ("SRC_TYPE", "DST_TYPE"):
            yield _not(value), f"--{name}", value.removeprefix("!")
        elif name.type in ("LIMIT_IN", "LIMIT_OUT"):
            yield "", "--limit-iface-in" if name.type == "LIMIT_IN" else "--limit-iface-out"


def _every(tokens: Sequence[Token]) -> Iterator[_Said]:
    yield "", "-m", "statistic"
    yield "", "--mode", "nth"
    yield "!" if "!" in tokens[0] else "", "--every", str(tokens[1])
    yield "", "--packet", str(tokens[2]) if len(tokens) > 2 else "0"


def _not(token: str) -> str:
    return "!" if token.startswith("!") else ""


_Said = tuple[str, ...]
"""`!` or nothing, an option, its values."""

_PRINTED: Mapping[str, Callable[[Sequence[Token]], Iterable[_Said]]] = {
    "ports": _ports,
    "icmp": _icmp,
    "multiport": _multiport,
    "uid_owner": lambda t: [("", "-m", "owner"), (_not(t[0]), "--uid-owner", str(t[1]))],
    "gid_owner": lambda t: [("", "-m", "owner"), (_not(t[0]), "--gid-owner", str(t[1]))],
    "suppl_groups": lambda _: [("", "--suppl-groups")],
    "states": lambda t: (
        [("", "-m", "conntrack"), (_not(t[0]), "--ctstate", str(t[1]))]
        if "ct" in t[0]
        else [("", "-m", "state"), (_not(t[0]), "--state", str(t[1]))]
    ),
    "mark": lambda t: [("", "-m", "mark"), ("!" if "!" in t[0] else "", "--mark", str(t[1]))],
    "comment": lambda t: [("", "-m", "comment"), ("", "--comment", t[0][3:-3])],
    "limit": _limit,
    "addrtype": _addrtype,
    "match_set": lambda t: [("", "-m", "set"), (_not(t[0]), "--match-set", str(t[1]), str(t[2]))],
    "probability": lambda t: [
        ("", "-m", "statistic"),
        ("", "--mode", "random"),
        ("!" if "!" in t[0] else "", "--probability", str(t[1])),
    ],
    "every": _every,
}
"""For each rule of listing.lark the options that print so."""


# -- what targets print -----------------------------------------------------------------------------


def _target(target: str, prose: Word) -> tuple[str, list[_Said], Word]:
    """The target and its options, and what is left for the matches; the target prints last."""
    if target == "CT" and (found := re.fullmatch(r"(.*\s|)NOTRACK", prose.text)):
        return "NOTRACK", [], Word(found[1], prose.column, len(found[1]))
    pattern, options = _TARGETS.get(target, ("", None))
    if options is None or (found := re.fullmatch(rf"(.*?)(?<!\S){pattern}", prose.text)) is None:
        return target, [], prose
    return (
        target,
        [said for said in options(found.group) if said[-1]],
        Word(found[1], prose.column, len(found[1])),
    )


_Groups = Callable[[int], str]


def _switches(text: str | None) -> list[_Said]:
    return [("", f"--{name}") for name in (text or "").split()]


def _mark(g: _Groups) -> list[_Said]:
    return [("", {"set": "--set-mark", "xset": "--set-xmark"}.get(g(2), f"--{g(2)}-mark"), g(3))]


def _log(g: _Groups) -> list[_Said]:
    flags = int(g(2) or "0")
    names = {"tcp-sequence": 1, "tcp-options": 2, "ip-options": 4, "uid": 8, "macdecode": 32}
    level = {"warn": "4", "warning": "4"}.get(g(3), g(3))
    return [
        ("", "--log-prefix", g(5) or ""),
        ("", "--log-level", "" if level == "4" else level),
        *(("", f"--log-{n}") for n, bit in names.items() if flags & bit or n in (g(4) or "").split()),
    ]


def _nflog(g: _Groups) -> list[_Said]:
    said = re.findall(r'nflog-(\w+) +("[^"]*"|\S+)', g(2))
    return [("", f"--nflog-{name}", value.strip('"')) for name, value in said]


def _tproxy(g: _Groups) -> list[_Said]:
    return [("", "--on-port", g(3)), ("", "--on-ip", g(2)), ("", "--tproxy-mark", g(4))]


def _connmark(g: _Groups) -> list[_Said]:
    masks = [("", "--nfmask", "0xffffffff"), ("", "--ctmask", "0xffffffff")]
    return [("", f"--{g(2)}-mark"), *masks]


_NAT = r"to:(\S+)((?: random| random-fully| persistent)*)"
_LOG_SWITCHES = r"((?: tcp-sequence| tcp-options| ip-options| uid| macdecode)*)"
_TARGETS: Mapping[str, tuple[str, Callable[[_Groups], list[_Said]]]] = {
    "REDIRECT": (
        r"redir ports (\S+)((?: random| random-fully)*)",
        lambda g: [("", "--to-ports", g(2)), *_switches(g(3))],
    ),
    "DNAT": (_NAT, lambda g: [("", "--to-destination", g(2)), *_switches(g(3))]),
    "SNAT": (_NAT, lambda g: [("", "--to-source", g(2)), *_switches(g(3))]),
    "MASQUERADE": (
        r"(?:masq ports: (\S+))?((?: ?random| random-fully)*)",
        lambda g: [("", "--to-ports", g(2) or ""), *_switches(g(3))],
    ),
    "MARK": (r"MARK (set|xset|and|or|xor) (\S+)", _mark),
    "REJECT": (r"reject-with (\S+)", lambda g: [("", "--reject-with", g(2))]),
    "LOG": (rf"LOG (?:flags (\d+) )?level (\S+){_LOG_SWITCHES}(?: prefix \"((?:(?! LOG ).)*)\")?", _log),
    "NFLOG": (r'((?:nflog-\w+ +(?:"[^"]*"|\S+) *)+)', _nflog),
    "CT": (r"CT (?:zone (\S+)|(notrack))", lambda g: [("", "--zone", g(2) or ""), *_switches(g(3))]),
    "TPROXY": (r"TPROXY redirect ([\d.]+):(\d+) mark (\S+)", _tproxy),
    "CONNMARK": (r"CONNMARK (save|restore)", _connmark),
}
"""What a target prints, after group 1, and the options that print so; an option with an empty value is left out."""
