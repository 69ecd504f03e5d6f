"""A record as the text of a counterexample file: JSON that a person can read, with a rule, or a stop, on each line."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from itertools import chain, count
from typing import TYPE_CHECKING, Any

from .. import spell, spell_hosts, spell_sets
from .record import SCHEMA, Account, Record
from .shapes import spell_choices, spell_earlier, spell_journey, spell_sender

if TYPE_CHECKING:
    from ..check import Result

WIDEST = 160
"""What fits in so many columns stands on one line: a stop, as a rule."""


def write(record: Record) -> str:
    """The text; `read` gives back the record."""
    family = record.accounts[0].setting.rules.family
    said = {
        "schema": SCHEMA,
        "kind": record.kind.value,
        "name": record.name,
        "place": record.place,
        "claim": record.claim,
        "sender": spell_sender(record.sender),
        "hop": record.hop,
        "choices": spell_choices(record.choices, family),
        **({"earlier": spell_earlier(record.earlier)} if record.earlier is not None else {}),
        "accounts": [_account(account) for account in record.accounts],
    }
    return _laid_out(said, 0) + "\n"


def file_name(result: Result, taken: Collection[str]) -> str:
    """The property's name and that of its host, as a file's name that is not taken."""
    stem = re.sub(r"[^\w.-]+", "-", f"{result.question.name} {result.question.where}").strip("-.")[:100]
    names = chain([f"{stem}.json"], (f"{stem}-{n}.json" for n in count(2)))
    return next(name for name in names if name not in taken)


def _account(account: Account) -> dict[str, Any]:
    setting = account.setting
    sets = setting.host.sets
    return {
        "name": setting.host.name,
        "host": spell_hosts.host(setting.host),
        "family": setting.rules.family.value,
        "rules": _Lines(spell.rule_set(setting.rules).splitlines()),
        **({"sets": _Lines(spell_sets.sets(sets.values()).splitlines())} if sets else {}),
        "carried": sorted(setting.also),
        **({"answers": True} if setting.answers else {}),
        **({"rejections": True} if setting.rejections else {}),
        "journey": spell_journey(account.journey),
    }


class _Lines(list[str]):
    """Text of which each line has a line of its own in the file, so that a place in the file is one in the text."""


def _laid_out(value: object, depth: int) -> str:
    short = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, _Lines) and (
        len(short) + 2 * depth <= WIDEST or not isinstance(value, dict | list)
    ):
        return short
    if not value:
        return short
    inner = "  " * (depth + 1)
    if isinstance(value, dict):
        body = [f"{json.dumps(k, ensure_ascii=False)}: {_laid_out(v, depth + 1)}" for k, v in value.items()]
        begin, end = "{}"
    else:
        body = [_laid_out(x, depth + 1) for x in value]
        begin, end = "[]"
    return f"{begin}\n{inner}" + f",\n{inner}".join(body) + f"\n{'  ' * depth}{end}"
