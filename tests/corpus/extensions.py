"""The lines by which the iptables project tests its extensions: what it accepts is read, what it refuses is refused,
and what is spelled of a line loads and is printed back as the line's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from . import reader, saved, tool
from .manifest import Line, extension_lines
from .verdicts import Case, general

LAW = "extensions"

IN_SCOPE = frozenset(
    [
        "standard",
        "tcp",
        "udp",
        "sctp",
        "dccp",
        "icmp",
        "icmp6",
        "conntrack",
        "state",
        "comment",
        "multiport",
        "addrtype",
        "owner",
        "mark",
        "connmark",
        "set",
        "iprange",
        "mac",
        "length",
        "ttl",
        "hl",
        "tos",
        "dscp",
        "pkttype",
        "rpfilter",
        "socket",
        "physdev",
        "esp",
        "ah",
        "REJECT",
        "DNAT",
        "SNAT",
        "MASQUERADE",
        "REDIRECT",
        "NETMAP",
        "TPROXY",
        "MARK",
        "CONNMARK",
        "CT",
        "NOTRACK",
        "LOG",
        "NFLOG",
        "TCPMSS",
        "TTL",
        "HL",
        "TOS",
        "DSCP",
        "CLASSIFY",
        "CHECKSUM",
        "TRACE",
        "AUDIT",
    ]
)
"""Extensions whose meaning is exact: none of their lines is opaque."""

BY_NAME = frozenset(
    [
        "frag",
        "hbh",
        "dst",
        "rt",
        "ipv6header",
        "mh",
        "statistic",
        "limit",
        "hashlimit",
        "recent",
        "connlimit",
        "time",
        "quota",
        "NFQUEUE",
        "SET",
    ]
)
"""Extensions that are read, though some of what they ask is a choice that nobody knows."""


def cases() -> Iterator[Case]:
    lines = [line for line in extension_lines() if line.backend == "legacy"]
    other = {_key(line): line for line in extension_lines() if line.backend == "nft"}
    meant = _Spelled()
    for _, of in groupby(lines, key=lambda line: (line.file, line.number)):
        yield _line(list(of), other, meant)


def _key(line: Line) -> tuple[str, int, str, str, str]:
    return line.file, line.number, line.family, line.table, line.chain


def extension(file: str) -> str:
    """`libxt_tcp.t` tests tcp."""
    return file.partition("_")[2].removesuffix(".t")


def text_of(line: Line) -> str:
    return f"*{line.table}\n-A {line.chain} {line.rule}\nCOMMIT\n"


def _line(of: Sequence[Line], other: dict[tuple[str, int, str, str, str], Line], meant: _Spelled) -> Case:
    """One line in all its chains, tables and families: the first of them that breaks the law, or the first of all."""
    found = [_one(line, other[_key(line)].here, meant) for line in of]
    return next((case for case in found if case.cause), found[0])


def _one(line: Line, nft: str, meant: _Spelled) -> Case:
    name = extension(line.file)
    tier = "exact" if name in IN_SCOPE else "by name" if name in BY_NAME else "beyond"
    kind = f"{tier:8} {name}"
    shown = f"{line.family} {line.table}/{line.chain} {line.rule}"

    def case(outcome: str, cause: str = "", detail: str = "", ways: tuple[str, ...] = ()) -> Case:
        return Case(LAW, line.place, kind, outcome, cause, f"{shown}: {detail}" if detail else shown, ways)

    heard = reader.ask(text_of(line), line.place, line.family)
    loads = "OK" in (line.here, nft)
    disputed = len({line.marked, line.here, nft}) > 1
    match heard:
        case reader.Crashed(where, trace):
            return case("crashed", f"an exception that is not ours: {where}", trace[-600:])
        case reader.Refused(code, message):
            if not loads or line.marked == "FAIL":
                return case("refused, disputed" if disputed else "refused")
            if line.marked == "OK":
                return case(
                    "refused", f"{name}: refused, and iptables takes it: {code} {general(message)}", message
                )
            return case("refused, disputed")
        case reader.Read():
            if line.family not in heard.rules:
                return case("other family", f"{name}: read as the other family")
            opaque = reader.opaque(heard)
            if not loads and line.marked == "FAIL":
                if reader.refusal_found(heard) is not None:
                    return case("linted")
                if opaque and tier != "exact":
                    return case("opaque, and wrong")
                return case(
                    "read", f"{name}: read, and iptables refuses it: {general(line.error)}", line.error
                )
            if opaque and tier == "exact":
                return case("opaque", f"{name}: opaque, and it has an exact meaning", ", ".join(opaque))
            if line.here == "OK":
                left, ways = meant.unlike(line, heard)
                if left:
                    return case("differs", f"{name}: what we spell {left[0]}", left[1])
                return case("opaque" if opaque else "disputed" if disputed else "read", ways=ways)
            return case("opaque" if opaque else "disputed" if disputed else "read")


class _Spelled:
    """What the tool prints of what we spelled, asked once for each text."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tool.Loaded | tool.NotLoaded] = {}

    def unlike(self, line: Line, heard: reader.Read) -> tuple[tuple[str, str] | None, tuple[str, ...]]:
        """How that differs from what it prints of the line, in general words and in particular, and what does not matter."""
        text = reader.spelled(heard.rules[line.family])
        wanted = f"*{line.table}\n:{line.chain} ACCEPT [0:0]\n{line.saved_rule()}\nCOMMIT\n"
        if not saved.compare(wanted, text).left:
            # Our own words are the tool's: it would only repeat them.
            return None, saved.compare(wanted, text).ways
        got = self._known.get((text, line.family))
        if got is None:
            got = self._known[text, line.family] = tool.load(text, line.family, line.backend)
        if isinstance(got, tool.NotLoaded):
            return (f"is refused: {general(got.error)}", f"{got.error}: {text}"), ()
        difference = saved.compare(wanted, got.saved)
        if difference.left:
            return ("is printed back unlike", difference.left), ()
        return None, difference.ways
