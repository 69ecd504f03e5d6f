"""Variants of a host: `with rules FILE`, `without rule R`, `with PROCESS on ADDRESS`, and the like."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from msgspec.structs import replace

from ..claims import Variant
from ..hosts import Host, Listener, Process
from ..rules import RuleSet
from ..values import IPV4
from .errors import PropertyError, did_you_mean
from .hosts import is_own
from .words import read_bind, read_ids, read_ports


def apply_variants(
    host: Host, rules: RuleSet, variants: Sequence[Variant], base_dir: Path, read: Callable[[Path], RuleSet]
) -> tuple[Host, RuleSet]:
    """The host and its rules with these changes made; files are relative to `base_dir`, and `read` gives their rules.

    Changes to processes, and `with rules`, are made in order.  `without rule` comes last, and all its
    numbers count the rules before any of them is taken away.  Raises PropertyError, at the variant's
    place, for a process, device, address, chain or rule that is not there.
    """
    removed: list[Variant] = []
    for variant in variants:
        match variant.key:
            case "rules":
                rules = read(_file(variant, base_dir))
            case "without-rule":
                removed.append(variant)
            case _:
                host = _with_process(host, variant)
    return host, _without(rules, removed)


def _file(variant: Variant, base_dir: Path) -> Path:
    path = base_dir / variant.value
    if not path.is_file():
        hint = "a path is relative to the file that names it"
        raise PropertyError("P009", f"the rules file {path} cannot be read", variant.place, hint=hint)
    return path


def _without(rules: RuleSet, variants: Iterable[Variant]) -> RuleSet:
    gone: dict[tuple[str, str], set[int]] = {}
    for variant in variants:
        where, _, number = variant.value.rpartition(" ")
        table, _, name = where.partition("/")
        chains = rules.tables[table].chains if table in rules.tables else {}
        if name not in chains:
            known = [f"{table}/{c}" for c in chains]
            raise PropertyError(
                "P002", f"there is no chain {where}", variant.place, hint=did_you_mean(where, known)
            )
        last = len(chains[name].rules)
        if int(number) > last:
            raise PropertyError("P002", f"{where} has {last} rules, and no rule {number}", variant.place)
        gone.setdefault((table, name), set()).add(int(number))
    tables = dict(rules.tables)
    for (table, name), numbers in gone.items():
        chain = tables[table].chains[name]
        kept = tuple(r for i, r in enumerate(chain.rules, 1) if i not in numbers)
        tables[table] = replace(
            tables[table], chains={**tables[table].chains, name: replace(chain, rules=kept)}
        )
    return RuleSet(tables, rules.family)


def _with_process(host: Host, variant: Variant) -> Host:
    names = [p.name for p in host.processes]
    if variant.process not in names:
        raise PropertyError(
            "P002",
            f"host {host.name} has no process `{variant.process}`",
            variant.place,
            hint=did_you_mean(str(variant.process), names) or f"it has {', '.join(names) or 'none'}",
        )
    changed = tuple(_changed(p, variant, host) if p.name == variant.process else p for p in host.processes)
    taken: dict[Listener, str] = {}
    for process in changed:
        for listener in process.listens:
            if listener in taken:
                raise PropertyError(
                    "P006", f"`{taken[listener]}` listens on {listener} already", variant.place
                )
            taken[listener] = process.name
    return replace(host, processes=changed)


def _changed(process: Process, variant: Variant, host: Host) -> Process:
    match variant.key:
        case "on":
            bound = read_bind(variant.value)
            if bound.device is not None:
                _known_device(host, bound.device, variant)
            if host.family not in bound.families:
                return replace(process, listens=())
            if bound.address is not None and not is_own(host.interfaces, bound.address, host.family):
                message = f"{variant.value} is no address of host {host.name}"
                raise PropertyError("P002", message, variant.place)
            its = IPV4 if bound.address is None else host.family
            listens = (
                replace(x, address=bound.address, device=bound.device, family=its) for x in process.listens
            )
            return replace(process, listens=tuple(listens))
        case "uid":
            return replace(process, uid=read_ids(variant.value, host.users))
        case "gid":
            return replace(process, gid=read_ids(variant.value, host.groups))
        case "binds-device":
            if variant.value == "lo":
                hint = "leave it out: a socket that is bound to nothing sends over lo too"
                raise PropertyError("P006", "sockets bound to lo are not modelled", variant.place, hint=hint)
            return replace(process, device=_known_device(host, variant.value, variant))
        case "refuses":
            if not process.proxies:
                raise PropertyError("P006", f"`{process.name}` is no proxy", variant.place)
            refuses = () if variant.value == "nothing" else read_ports(variant.value)
            return replace(process, proxies=tuple(replace(p, refuses=refuses) for p in process.proxies))
        case _:
            raise AssertionError(variant.key)


def _known_device(host: Host, device: str, variant: Variant) -> str:
    names = [i.name for i in host.interfaces]
    if device not in names:
        message = f"host {host.name} has no interface `{device}`"
        raise PropertyError("P002", message, variant.place, hint=did_you_mean(device, names))
    return device
