"""The project's reader as the judge asks it: every answer is one of three kinds of data, and no exception."""

from __future__ import annotations

import re
import traceback
from pathlib import Path
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from verifier import owners, spell
from verifier import rules as r
from verifier.reading.errors import InputError, RuleError
from verifier.reading.files import read_text
from verifier.reading.rules import read_rules
from verifier.values import Family


class Read(Struct, frozen=True):
    """Rule sets by family (v4, v6), the format that was found, and what the reader had to assume."""

    rules: dict[str, r.RuleSet]
    format: str
    notes: tuple[str, ...]


class Refused(Struct, frozen=True):
    """Our own error family: its code, and what it says."""

    code: str
    message: str
    shown: str


class Crashed(Struct, frozen=True):
    """Any other exception: its kind and the place in our code that raised it."""

    where: str
    trace: str


Heard: TypeAlias = Read | Refused | Crashed


def ask_file(path: Path, family: str | None = None, table: str | None = None) -> Heard:
    """What the reader makes of a file, as the command line opens it; `family` as a user would name it, or not."""
    try:
        return _read(read_text(path, "the rules file", "R031", RuleError), str(path), family, table)
    except InputError as e:
        return Refused(e.code, e.message, str(e))
    except Exception as e:
        return _crashed(e)


def ask(text: str, file: str, family: str = "v4", table: str | None = None) -> Heard:
    """What the reader makes of a text, which is of this family where the text does not say."""
    try:
        return _read(text, file, family, table)
    except InputError as e:
        return Refused(e.code, e.message, str(e))
    except Exception as e:
        return _crashed(e)


def _read(text: str, file: str, family: str | None, table: str | None) -> Heard:
    found = read_rules(text, file, table, Family(int(family[1])) if family else None)
    return Read({f"v{f.value}": rules for f, rules in found.families.items()}, found.format, found.notes)


def spelled(rules: r.RuleSet) -> str:
    """iptables-save text of a rule set."""
    return spell.rule_set(rules)


def _crashed(e: Exception) -> Crashed:
    last = traceback.extract_tb(e.__traceback__)[-1]
    return Crashed(f"{type(e).__name__} in {Path(last.filename).name}: {last.name}", traceback.format_exc())


def blurred(rules: r.RuleSet, also: tuple[type, ...] = ()) -> r.RuleSet:
    """The same with one mark, whatever its words, in each rule that asks something that was not understood, or one of
    these kinds of match.
    """
    vague = (r.Opaque, r.OwnerNames, *also)
    return r.each_rule(rules, lambda rule: _blurred(rule, vague))


def _blurred(rule: r.Rule, vague: tuple[type, ...]) -> r.Rule:
    clear = tuple(lit for lit in rule.literals if not isinstance(lit.match, vague))
    if isinstance(rule.target, r.OpaqueTarget):
        # A listing prints what a target's options are among what its matches ask.
        return replace(rule, literals=clear, target=r.OpaqueTarget(" ".join(rule.target.text.split()[:2])))
    mark = (r.Literal(r.Opaque("-m opaque")),) if len(clear) < len(rule.literals) else ()
    return replace(rule, literals=clear + mark)


def refusal_found(heard: Read, line: int | None = None) -> str | None:
    """What lint says of rules that the kernel would refuse to load, or a note about the line that the tool refuses."""
    try:
        from verifier.analyses import lint
    except ImportError:
        found = []
    else:
        found = [
            f.text for rules in heard.rules.values() for f in lint.findings(rules) if f.code in UNLOADABLE
        ]
    if line is not None:
        untold = [note for rules in heard.rules.values() for note in owners.untold(rules)]
        found += [note for note in (*heard.notes, *untold) if re.search(rf":{line}:|\bline {line}\b", note)]
    return found[0] if found else None


UNLOADABLE = ("L003", "L004", "L009", "L010", "L011")
"""The codes of lint that say that the kernel refuses the rules."""


def opaque(heard: Read) -> list[str]:
    """The texts of matches and targets that were not understood."""
    found = []
    for rules in heard.rules.values():
        for table in rules.tables.values():
            for chain in table.chains.values():
                for rule in chain.rules:
                    found += [lit.match.text for lit in rule.literals if isinstance(lit.match, r.Opaque)]
                    found += [
                        spell.literals((lit,)) for lit in rule.literals if isinstance(lit.match, r.OwnerNames)
                    ]
                    if isinstance(rule.target, r.OpaqueTarget):
                        found.append(rule.target.text)
    return found
