"""What an option of a rule was given: its values as what they stand for, or the error that says why they are not."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TypeVar

from .. import rules as r
from ..values import PROTOCOLS
from . import extensions as ext
from .errors import RuleError, did_you_mean
from .lines import Line, Word, quote
from .options import Module, Option
from .vocabulary import ICMP6_TYPES, ICMP_TYPES, SERVICES

T = TypeVar("T")


def value(line: Line, option: Option, read_it: Callable[[str], T], n: int = 0) -> T:
    """An option's n-th value, or the error that says why it is none."""
    word = option.values[n]
    try:
        return read_it(word.text)
    except ValueError as e:
        raise _bad_value(line, option, word, str(e)) from None


def text(option: Option) -> str:
    """An option as it is spelled today: `!` first, one blank between words."""
    words = ["!"] if option.negated else []
    return " ".join([*words, f"--{option.name}", *(quote(v.text) for v in option.values)])


def opaque(module: Module, options: Sequence[Option] | None = None) -> r.Literal:
    """The module with its options (or these alone) as a match that nobody understands."""
    asked = module.options if options is None else options
    return r.Literal(r.Opaque(" ".join(["-m", module.name, *map(text, asked)])))


def find(module: Module, *names: str) -> Option | None:
    """The option of the module that has one of these names, or None."""
    return next((o for o in module.options if o.name in names), None)


def has(module: Module, name: str) -> bool:
    return find(module, name) is not None


def in_order(module: Module, names: Collection[str]) -> Iterator[Option]:
    """The module's options in the order of their names in `names`."""
    order = {name: n for n, name in enumerate(names)}
    return iter(sorted(module.options, key=lambda o: order[o.name]))


# -- whether its options go together ----------------------------------------------------------------


def check(line: Line, module: Module, listed: str, loads: str) -> None:
    """Refuses what the extension refuses: an option twice, two that exclude each other, one missing, one that cannot
    be negated.  `listed` are its options, `loads` is `-m` or `-j`.
    """
    if module.name not in ext.MODELLED:
        return
    positive = ext.can_be_negated(listed)
    for option in module.options:
        if option.negated and option.name not in positive:
            what = "a comment" if module.name == "comment" else f"`{option.word.text}`"
            raise line.error("R011", f"{what} cannot be negated", option.word)
    for names in ext.NEEDED.get(module.name, ()):
        if not any(o.name in names.split() for o in module.options):
            raise line.error("R010", f"`{loads} {module.name}` needs {_one_of(names)}", module.word)
    _once(line, module, loads)


def _once(line: Line, module: Module, loads: str) -> None:
    groups = [frozenset(names.split()) for names in ext.EXCLUSIVE.get(module.name, ())]
    seen: dict[frozenset[str], Option] = {}
    for option in module.options:
        alone = frozenset({option.name})
        for group in [alone, *(g for g in groups if option.name in g)]:
            if group in seen:
                first = seen[group]
                what = "stands twice" if first.name == option.name else f"excludes `{first.word.text}`"
                hint = f"a second `-m {module.name}` asks both" if loads == "-m" else None
                raise line.error(
                    "R011", f"`{option.word.text}` {what} in one `{loads} {module.name}`", option.word, hint
                )
            seen[group] = option


def _one_of(names: str) -> str:
    *some, last = [f"--{name}" for name in names.split()]
    return f"{', '.join(some)} or {last}" if some else last


# -- errors ---------------------------------------------------------------------------------------


def _bad_value(line: Line, option: Option, word: Word, why: str) -> RuleError:
    if "is an IPv" in why:
        return line.error("R004", why, word)
    hint = None
    if option.name in ("sport", "dport", "sports", "dports", "ports", "to-ports"):
        hint = did_you_mean(word.text, SERVICES)
        if "," in word.text and option.name in ("sport", "dport"):
            hint = f"several ports need `-m multiport --{option.name}s`"
    elif option.name in ("ctstate", "state"):
        names = ("INVALID", "ESTABLISHED", "RELATED", "NEW", "UNTRACKED")
        bad = next((w for w in word.text.upper().split(",") if w not in names), "")
        hint = did_you_mean(bad, names) or f"the states are {', '.join(names)}"
    elif option.name in ("protocol", "ctproto"):
        hint = did_you_mean(word.text, PROTOCOLS)
    elif option.name == "icmp-type":
        hint = did_you_mean(word.text, ICMP_TYPES)
    elif option.name == "icmpv6-type":
        hint = did_you_mean(word.text, ICMP6_TYPES)
    elif option.name in ("source", "destination"):
        hint = "iptables-save writes numbers"
    return line.error("R009", why, word, hint)
