"""The files that a host's `sets:` names, each the output of `ipset save` or `ipset list`, read as one collection of ip sets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..sets import IpSet
from . import nodes as n
from .errors import RuleError
from .files import read_text


def read_host_sets(node: n.Node | None, base: Path) -> Mapping[str, IpSet]:
    """The sets by name; raises HostError where a file is not there or a name is given twice, RuleError as `read_sets`."""
    from .ipset import read_sets

    found: dict[str, IpSet] = {}
    for entry in n.scalars(node, "`sets`"):
        file = base / entry.text
        if not file.is_file():
            what = "a folder" if file.is_dir() else "not there"
            raise n.error(
                "H007",
                f"the file of ip sets {file} is {what}",
                entry.spot,
                "write the output of `ipset save` to a file",
            )
        for name, read in read_sets(
            read_text(file, "the file of ip sets", "S002", RuleError), str(file)
        ).items():
            if name in found:
                raise n.error(
                    "H005", f"set {name} is in {found[name].place.file} and again in {file}", entry.spot
                )
            found[name] = read
    return found
