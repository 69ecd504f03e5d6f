"""From a rule's options to literals: each option is read as its own module means it, or kept as an opaque text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from msgspec import Struct

from .. import rules as r
from ..values import ICMP, PROTOCOLS, TCP, Family, Ids, Iface, MarkMask, read_protocol
from . import scalars
from .errors import RuleError, did_you_mean
from .lines import Line, Word, quote
from .options import Module, Option, Options

T = TypeVar("T")


class Conditions(Struct, frozen=True):
    """What a rule asks, before addresses are told apart: one rule is made for each source and destination."""

    sources: tuple[tuple[r.Literal, ...], ...]
    """For each rule its literal about the source, or none."""
    destinations: tuple[tuple[r.Literal, ...], ...]
    literals: tuple[r.Literal, ...]
    comments: tuple[str, ...]
    notes: tuple[str, ...]
    protocol: int | None
    """The protocol that `-p` names without `!`."""


def read(line: Line, options: Options) -> Conditions:
    sources: tuple[tuple[r.Literal, ...], ...] = ((),)
    destinations: tuple[tuple[r.Literal, ...], ...] = ((),)
    literals: list[r.Literal] = []
    comments: list[str] = []
    notes: list[str] = []
    for option in options.header:
        match option.name:
            case "source":
                sources = _addresses(line, option, r.Source, options.family)
            case "destination":
                destinations = _addresses(line, option, r.Destination, options.family)
            case _:
                literals += _header(line, option)
    protocol = next(
        (lit.match.number for lit in literals if isinstance(lit.match, r.Protocol) and not lit.negated), None
    )
    for module in options.matches:
        _check_protocol(line, module, protocol)
        _check_once(line, module)
        found, said = _module(line, module)
        literals += found
        notes += said
        comments += [o.values[0].text for o in module.options if module.name == "comment"]
    return Conditions(sources, destinations, tuple(literals), tuple(comments), tuple(notes), protocol)


def word_reader(
    option: Option, family: Family
) -> Callable[[str], tuple[r.Literal, ...] | tuple[str, ...]] | None:
    """What an option with one value says, as a function of that value, whatever else the rule says; ValueError
    where there is more to it.  None for options for which that is not worth while.
    """
    match option.name:
        case "source":
            return _address(r.Source, option.negated, family)
        case "destination":
            return _address(r.Destination, option.negated, family)
        case "comment":
            return lambda text: (text,)
        case _:
            return None


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
    return " ".join([*words, _dashed(option), *(quote(v.text) for v in option.values)])


# -- header matches -----------------------------------------------------------------------------


def _addresses(
    line: Line, option: Option, kind: type[r.Source] | type[r.Destination], family: Family
) -> tuple[tuple[r.Literal, ...], ...]:
    """One for each address of the list; `-s 0.0.0.0/0` asks nothing, `! -s 0.0.0.0/0` what nothing meets."""
    whole = option.values[0]
    found: list[tuple[r.Literal, ...]] = []
    column = whole.column
    for item in whole.text.split(","):
        word = Word(item, column, max(1, len(item)))
        one = Option(option.name, (word,), option.negated, option.word)
        found.append(value(line, one, _address(kind, option.negated, family)))
        column += len(item) + 1
    if option.negated and len(found) > 1:
        raise line.error("R011", "`!` takes one address only", whole, "write one rule for each address")
    return tuple(found)


def _address(
    kind: type[r.Source] | type[r.Destination], negated: bool, family: Family
) -> Callable[[str], tuple[r.Literal, ...]]:
    """How one address is read."""

    def read(text: str) -> tuple[r.Literal, ...]:
        net = scalars.net(text, family)
        return (r.Literal(kind(net), negated),) if negated or net.mask else ()

    return read


def _header(line: Line, option: Option) -> list[r.Literal]:
    match option.name:
        case "protocol":
            number = value(line, option, read_protocol)
            if number:
                return [r.Literal(r.Protocol(number), option.negated)]
            if option.negated:
                raise line.error("R009", "`! -p all` matches nothing, and iptables refuses it", option.word)
            return []
        case "in-interface" | "out-interface":
            iface = value(line, option, Iface.read)
            if iface.pattern == "+" and not option.negated:
                return []
            kind = r.InInterface if option.name == "in-interface" else r.OutInterface
            return [r.Literal(kind(iface), option.negated)]
        case "fragments":
            return [r.Literal(r.Opaque("! -f" if option.negated else "-f"))]
        case _:
            raise AssertionError(option)


# -- modules ------------------------------------------------------------------------------------


_PROTOCOLS: dict[str, tuple[int, ...]] = {
    "tcp": (TCP,), "udp": (17,), "sctp": (132,), "dccp": (33,), "icmp": (ICMP,),
    "multiport": (TCP, 17, 33, 132, 136),
}  # fmt: skip


def _check_protocol(line: Line, module: Module, protocol: int | None) -> None:
    """The kernel refuses these modules in a rule that does not say, without `!`, which protocol it is about."""
    needed = _PROTOCOLS.get(module.name)
    if needed and protocol not in needed:
        names = "tcp, udp, udplite, sctp or dccp" if module.name == "multiport" else module.name
        at = module.options[0].word if module.options else module.word
        raise line.error("R010", f"`-m {module.name}` needs `-p {names}`, not negated", at)


_GROUPS: dict[str, tuple[frozenset[str], ...]] = {
    "tcp": (frozenset({"syn", "tcp-flags"}),),
    "multiport": (frozenset({"sports", "dports", "ports"}),),
}
"""Options of a module that exclude each other."""

_REQUIRED = {
    "icmp": "--icmp-type", "mark": "--mark", "comment": "--comment", "state": "--state",
    "multiport": "--dports, --sports or --ports", "conntrack": "--ctstate", "owner": "--uid-owner or --gid-owner",
}  # fmt: skip
"""What a module that needs an option needs."""


def _check_once(line: Line, module: Module) -> None:
    if module.name not in _PROTOCOLS and module.name not in _REQUIRED:
        return
    if not module.options and module.name in _REQUIRED:
        raise line.error("R010", f"`-m {module.name}` needs {_REQUIRED[module.name]}", module.word)
    seen: dict[frozenset[str], Option] = {}
    for option in module.options:
        alone = frozenset({option.name})
        group = next((g for g in _GROUPS.get(module.name, ()) if option.name in g), alone)
        if group in seen:
            first = seen[group].word.text
            what = "stands twice" if seen[group].name == option.name else f"excludes `{first}`"
            hint = f"a second `-m {module.name}` asks both"
            raise line.error(
                "R011", f"`{option.word.text}` {what} in one `-m {module.name}`", option.word, hint
            )
        seen[group] = option


def _module(line: Line, module: Module) -> tuple[list[r.Literal], list[str]]:
    """The literals of one loaded module, in the order of its options, and what is to be said about them."""
    match module.name:
        case "comment":
            for option in module.options:
                if option.negated:
                    raise line.error("R011", "a comment cannot be negated", option.word)
            return [], []
        case "owner":
            return _owner(line, module)
        case "tcp" | "udp" | "sctp" | "dccp" | "icmp" | "multiport" | "conntrack" | "state" | "mark":
            literals: list[r.Literal] = []
            opaque: list[Option] = []
            for option in module.options:
                found = _match(line, option)
                if found is None:
                    opaque.append(option)
                else:
                    literals.append(r.Literal(found, option.negated))
            return literals + ([_opaque(module, opaque)] if opaque else []), []
        case _:
            return [_opaque(module, module.options)], []


def _opaque(module: Module, options: Sequence[Option]) -> r.Literal:
    return r.Literal(r.Opaque(" ".join(["-m", module.name, *map(text, options)])))


def _match(line: Line, option: Option) -> r.Match | None:
    """What an option of a module that we read asks; None where we do not understand it."""
    match option.name:
        case "sport":
            return r.SourcePorts(value(line, option, scalars.span))
        case "dport":
            return r.DestinationPorts(value(line, option, scalars.span))
        case "syn":
            return r.TcpFlags(0x17, 0x02)
        case "tcp-flags":
            return r.TcpFlags(value(line, option, scalars.flags), value(line, option, scalars.flags, 1))
        case "icmp-type":
            return r.IcmpType(*value(line, option, scalars.icmp))
        case "sports":
            return value(line, option, lambda t: r.MultiportSources(scalars.spans(t)))
        case "dports":
            return value(line, option, lambda t: r.MultiportDestinations(scalars.spans(t)))
        case "ports":
            return value(line, option, lambda t: r.MultiportPorts(scalars.spans(t)))
        case "ctstate" | "state":
            states = value(line, option, scalars.states)
            return None if states is None else r.CtStates(states)
        case "mark":
            bits, mask = value(line, option, scalars.mark)
            return r.Mark(MarkMask(bits) if mask is None else MarkMask(bits, mask))
        case _:
            return None


def _owner(line: Line, module: Module) -> tuple[list[r.Literal], list[str]]:
    """One match for all criteria, and opaque as a whole where one of them is not understood: they bear on each
    other (`--suppl-groups` widens `--gid-owner`, and each decides what a packet without a socket meets).
    """
    by_name = {o.name: o for o in module.options}
    uid, gid = by_name.get("uid-owner"), by_name.get("gid-owner")
    read_ids: dict[str, Ids | None] = {
        o.name: value(line, o, scalars.ids) for o in (uid, gid) if o is not None
    }
    names = [o for o in (uid, gid) if o is not None and read_ids[o.name] is None]
    notes = [
        f"{line.place(o.word)}: which id `{o.values[0].text}` is, only the host's own passwd can tell; "
        f"`{text(o)}` is not understood, the number would be"
        for o in names
    ]
    if names or set(by_name) - {"uid-owner", "gid-owner"}:
        return [_opaque(module, module.options)], notes
    match = r.OwnerIds(
        read_ids.get("uid-owner"), uid is not None and uid.negated,
        read_ids.get("gid-owner"), gid is not None and gid.negated,
    )  # fmt: skip
    return [r.Literal(match)], notes


# -- errors ---------------------------------------------------------------------------------------


def _dashed(option: Option) -> str:
    return f"--{option.name}"


def _bad_value(line: Line, option: Option, word: Word, why: str) -> RuleError:
    if "IPv6" in why:
        return line.error("R004", why, word)
    hint = None
    if option.name in ("sport", "dport", "sports", "dports", "ports", "to-ports"):
        hint = did_you_mean(word.text, scalars.SERVICES)
        if "," in word.text and option.name in ("sport", "dport"):
            hint = f"several ports need `-m multiport --{option.name}s`"
    elif option.name in ("ctstate", "state"):
        names = ("INVALID", "ESTABLISHED", "RELATED", "NEW", "UNTRACKED")
        bad = next((w for w in word.text.upper().split(",") if w not in names), "")
        hint = did_you_mean(bad, names) or f"the states are {', '.join(names)}"
    elif option.name == "protocol":
        hint = did_you_mean(word.text, PROTOCOLS)
    elif option.name == "icmp-type":
        hint = did_you_mean(word.text, scalars.ICMP_TYPES)
    elif option.name in ("source", "destination"):
        hint = "iptables-save writes numbers"
    return line.error("R009", why, word, hint)
