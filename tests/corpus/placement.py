"""Where an extension may stand: a rule is read without a finding that the kernel refuses it iff iptables loads it, in each
built-in chain of each table, said there or in a chain that is called from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from msgspec import Struct

from . import reader, tool
from .extensions import BY_NAME, IN_SCOPE, extension
from .manifest import extension_lines
from .verdicts import Case, general

LAW = "placement"

CHAINS = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "security": ("INPUT", "FORWARD", "OUTPUT"),
}


class Site(Struct, frozen=True):
    """A rule of an extension in a chain; `called`: in a user's chain that the built-in chain calls."""

    name: str
    family: str
    rule: str
    table: str
    chain: str
    called: bool

    @property
    def text(self) -> str:
        if self.called:
            return f"*{self.table}\n:X - [0:0]\n-A {self.chain} -j X\n-A X {self.rule}\nCOMMIT\n"
        return f"*{self.table}\n-A {self.chain} {self.rule}\nCOMMIT\n"


@cache
def samples() -> tuple[tuple[str, str, str], ...]:
    """For each extension and family the shortest lines that iptables takes somewhere: one without and one with `!`."""
    found: dict[tuple[str, str, bool], str] = {}
    for line in extension_lines():
        if line.backend == "legacy" and line.here == "OK" and line.marked == "OK" and line.rule:
            key = (extension(line.file), line.family, "!" in line.rule)
            if key not in found or len(line.rule) < len(found[key]):
                found[key] = line.rule
    return tuple((name, family, rule) for (name, family, _), rule in found.items())


def sites() -> tuple[Site, ...]:
    return tuple(
        Site(name, family, rule, table, chain, called)
        for name, family, rule in samples()
        for table, chains in CHAINS.items()
        for chain in chains
        for called in ((False, True) if "!" not in rule else (False,))
    )


def cases(every: int = 1) -> Iterator[Case]:
    with ThreadPoolExecutor(2) as pool:
        yield from pool.map(judge, sites()[::every])


def judge(site: Site) -> Case:
    tier = "exact" if site.name in IN_SCOPE else "by name" if site.name in BY_NAME else "beyond"
    place = (
        f"{site.name} {site.family} {site.table}/{site.chain}{' called' if site.called else ''}: {site.rule}"
    )
    got = tool.load(site.text, site.family, "legacy")
    loads = isinstance(got, tool.Loaded)

    def case(outcome: str, cause: str = "", detail: str = "") -> Case:
        return Case(LAW, place, f"{tier:8} {'loads' if loads else 'is refused'}", outcome, cause, detail)

    match reader.ask(site.text, "t", site.family):
        case reader.Crashed(where, trace):
            return case("crashed", f"an exception that is not ours: {where}", trace[-600:])
        case reader.Refused(code, message, shown):
            if loads:
                return case(
                    "refused",
                    f"{site.name}: refused, and it loads: {code} {general(message)}",
                    shown,
                )
            return case("refused")
        case reader.Read() as heard:
            finding = reader.refusal_found(heard)
            if finding is not None:
                return case(
                    "linted",
                    f"{site.name}: found unloadable, and it loads" if loads else "",
                    finding,
                )
            if loads or tier == "beyond" or reader.opaque(heard):
                return case("read")
            assert isinstance(got, tool.NotLoaded)
            return case("read", f"{site.name}: read without a finding, and it does not load", got.error)
