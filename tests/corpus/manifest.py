"""What the corpus beside this repository holds, and what the real tools said when each file was put to them.

Nothing of it is copied here; where it is absent, whoever needs it is skipped and says why.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from msgspec import Struct

CORPUS = Path(__file__).parents[3] / "shared" / "corpus"
ABSENT = "the corpus of others' rules is not beside this repository"


class Entry(Struct, frozen=True):
    """A file of the corpus: `family` is v4, v6, v4+v6 or -; `legacy` and `nft` are what a real load said:
    accept, reject, a count such as `11ok/3bad` for lists of commands, or nothing where none was tried.
    """

    path: str
    format: str
    family: str
    legacy: str
    nft: str
    error: str
    note: str

    @property
    def file(self) -> Path:
        return CORPUS / self.path

    @property
    def some_refused(self) -> bool:
        """A tool refuses some of its commands."""
        return "bad" in self.legacy and not self.legacy.endswith("/0bad")

    @property
    def loads(self) -> bool:
        """A real tool loads it."""
        return "accept" in (self.legacy, self.nft)


@cache
def entries() -> tuple[Entry, ...]:
    """The rows of MANIFEST.tsv.  A message of a tool may hold a CR or an LF, so a row may go over several lines."""
    text = (CORPUS / "MANIFEST.tsv").read_bytes().decode()
    head, *rows = re.split(r"\n(?=[\w-]+/[^\t\n]*\t[^\t\n]*\t)", text)
    names = head.split("\t")
    return tuple(_entry(dict(zip(names, row.split("\t"), strict=False))) for row in rows)


def _entry(row: dict[str, str]) -> Entry:
    return Entry(
        row["path"],
        row["format"],
        row["ip_family"],
        row["legacy_load"],
        row["nft_load"],
        row.get("error", ""),
        row.get("note", ""),
    )


class Line(Struct, frozen=True):
    """A line of the extensions' own tests, as one chain of one table got it from one backend: what its author
    says that iptables does (`marked`), and what iptables 1.8.9 did (`here`), each OK or FAIL.
    """

    file: str
    number: int
    family: str
    backend: str
    table: str
    chain: str
    rule: str
    marked: str
    here: str
    saved: str
    error: str

    @property
    def place(self) -> str:
        return f"{self.file}:{self.number}"

    def saved_rule(self) -> str:
        """The line of iptables-save."""
        return f"-A {self.chain} {self.saved}"


@cache
def extension_lines() -> tuple[Line, ...]:
    """The rows of T_CHECK.tsv."""
    text = (CORPUS / "T_CHECK.tsv").read_bytes().decode()
    rows = [row.split("\t") for row in text.split("\n")[1:] if row]
    return tuple(
        Line(
            file,
            int(n),
            "v6" if cmd == "ip6tables" else "v4",
            backend,
            table,
            chain,
            rule,
            says,
            here,
            got,
            error,
        )
        for file, n, cmd, backend, table, chain, rule, says, here, _, got, error in rows
    )
