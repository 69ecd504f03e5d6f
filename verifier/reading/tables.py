"""The tables of one family while their text is being read, and the rule set that they make."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from .. import hooks
from .. import rules as r
from ..values import Family, Place
from .drafts import Draft
from .errors import RuleError, did_you_mean
from .lines import Line, Word


class Tables(Struct):
    """Tables by name, as far as they have been read."""

    family: Family
    notes: list[str]
    from_nothing: bool = False
    """The text begins where no rules are loaded, so a table has its built-in chains before anything is said of it."""
    drafts: dict[str, Draft] = field(default_factory=dict)

    def draft(self, name: str, line: Line, at: Word | None = None) -> Draft:
        """The table of this name; RuleError where iptables has none."""
        if name not in hooks.BUILT_IN:
            raise not_a_table(name, line.place(at), line, at)
        found = self.drafts.get(name)
        if found is None:
            found = self.drafts[name] = Draft(name, self.notes, self.family)
            if self.from_nothing:
                found.have_built_in(line)
        return found

    def finish(self) -> r.RuleSet:
        """The rule set; RuleError where a chain reaches itself."""
        return r.RuleSet({name: draft.finish() for name, draft in self.drafts.items()}, self.family)


def put_beside(there: dict[Family, Tables], others: Mapping[Family, Tables], line: Line) -> None:
    """The tables of a text that says what there is; RuleError where one of them is there already."""
    for family, tables in others.items():
        known = there.setdefault(family, Tables(family, tables.notes))
        for name, draft in tables.drafts.items():
            if name in known.drafts:
                raise line.error(
                    "R030",
                    f"table {name} is in another file too, and a listing or a log cannot be loaded on it",
                    hint="give the output of iptables-save, or the commands of each owner",
                )
            known.drafts[name] = draft


def not_a_table(name: str, place: Place, line: Line | None = None, at: Word | None = None) -> RuleError:
    """The error for a table that iptables does not have."""
    hint = did_you_mean(name, hooks.BUILT_IN) or f"the tables are {', '.join(hooks.BUILT_IN)}"
    if line is None:
        return RuleError("R017", f"iptables has no table {name}", place, hint=hint)
    return line.error("R017", f"iptables has no table {name}", at, hint)
