"""From a rule's options to literals: each option is read as its own module means it, or kept as an opaque text."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from .. import rules as r
from ..values import AH, ESP, ICMP, ICMPV6, TCP, Family, Iface, read_protocol
from . import chances, matches_conntrack, matches_headers, matches_host, matches_layer4, scalars
from . import extensions as ext
from .given import check, opaque, value
from .lines import Line, Word, bare
from .options import Module, Option, Options


class Conditions(Struct, frozen=True):
    """What a rule asks, before addresses are told apart: one rule is made for each source and destination."""

    sources: tuple[tuple[r.Literal, ...], ...]
    """For each rule its literal about the source, or none."""
    destinations: tuple[tuple[r.Literal, ...], ...]
    literals: tuple[r.Literal, ...]
    comments: tuple[str, ...]
    protocol: int | None
    """The protocol that `-p` names without `!`."""
    family: Family = Family.IPV4


def read(line: Line, options: Options) -> Conditions:
    sources: tuple[tuple[r.Literal, ...], ...] = ((),)
    destinations: tuple[tuple[r.Literal, ...], ...] = ((),)
    literals: list[r.Literal] = []
    comments: list[str] = []
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
        _check_protocol(line, module, protocol, options.family)
        check(line, module, ext.MATCHES.get(module.name, ""), "-m")
        literals += _module(line, module, options.family)
        comments += [o.values[0].text for o in module.options if module.name == "comment"]
    return Conditions(sources, destinations, tuple(literals), tuple(comments), protocol, options.family)


def word_reader(
    option: Option, family: Family
) -> Callable[[str], tuple[r.Literal, ...] | tuple[str, ...]] | None:
    """What an option with one value says, as a function of that value as it is written, whatever else the rule says;
    ValueError where there is more to it.  None for options for which that is not worth while.
    """
    match option.name:
        case "source":
            return _address(r.Source, option.negated, family)
        case "destination":
            return _address(r.Destination, option.negated, family)
        case "comment":
            return lambda written: (bare(written),)
        case _:
            return None


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
            return [r.Literal(r.Fragment(), option.negated)]
        case _:
            raise AssertionError(option)


# -- modules ------------------------------------------------------------------------------------


_PROTOCOLS: dict[str, tuple[int, ...]] = {
    "tcp": (TCP,), "udp": (17,), "sctp": (132,), "dccp": (33,), "icmp": (ICMP,), "icmp6": (ICMPV6,),
    "esp": (ESP,), "multiport": (TCP, 17, 33, 132, 136),
}  # fmt: skip


def _check_protocol(line: Line, module: Module, protocol: int | None, family: Family) -> None:
    """The kernel refuses these modules in a rule that does not say, without `!`, which protocol it is about."""
    needed = _PROTOCOLS.get(module.name)
    if module.name == "ah" and family is Family.IPV4:
        needed = (AH,)
    if needed and protocol not in needed:
        names = "tcp, udp, udplite, sctp or dccp" if module.name == "multiport" else module.name
        at = module.options[0].word if module.options else module.word
        raise line.error("R010", f"`-m {module.name}` needs `-p {names}`, not negated", at)


def _module(line: Line, module: Module, family: Family) -> list[r.Literal]:
    """The literals of one loaded module."""
    name = module.name
    if name == "comment":
        return []
    if name in matches_layer4.MODULES:
        return matches_layer4.read(line, module)
    if name in matches_headers.MODULES:
        return matches_headers.read(line, module, family)
    if name in matches_conntrack.MODULES:
        return matches_conntrack.read(line, module, family)
    if name in matches_host.MODULES:
        return matches_host.read(line, module, family)
    if name in ext.CHANCES:
        return [r.Literal(chances.read(line, module, family))]
    return [opaque(module)]
