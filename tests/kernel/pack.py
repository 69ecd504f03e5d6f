"""The hosts on which the sidecar's property files speak of its rules, and the packet claims that they make there."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from verifier import claims as c
from verifier.cases import Cases, Question
from verifier.hosts import Host, Setting
from verifier.reading.hosts import read_host
from verifier.reading.rules import read_rules
from verifier.rules import RuleSet

from .sidecar import APP_LISTENS

PACK = Path(__file__).parents[2] / "proofs" / "istio-sidecar"


class Asked(Struct, frozen=True):
    """A claim of the pack, and the property that it comes from."""

    name: str
    claim: c.PacketClaim


class Ground(Struct, frozen=True):
    """A host under the sidecar's rules, by the first name that it has in the pack, and what is asked of it."""

    name: str
    setting: Setting
    asked: tuple[Asked, ...]
    dead: bool
    """True iff the pack says which rules are dead there."""


@cache
def sidecar_rules() -> RuleSet:
    path = PACK / "rules" / "istio.rules"
    return read_rules(path.read_text(encoding="utf-8"), str(path)).rules


@cache
def grounds() -> tuple[Ground, ...]:
    """Each host of the pack with exactly the sidecar's rules; hosts that differ in name alone are one."""
    found: list[Ground] = []
    for question in _questions():
        for name, setting in question.settings:
            if setting.rules != sidecar_rules():
                continue
            known = next((g for g in found if _alike(g.setting.host, setting.host)), None)
            if known is None:
                known = Ground(name if question.cell is None else question.where, setting, (), False)
                found.append(known)
            dead = known.dead or any(isinstance(claim, c.DeadClaim) for claim in question.claims)
            asked = dict.fromkeys((*known.asked, *_asked(question)))
            found[found.index(known)] = replace(known, asked=tuple(asked), dead=dead)
    return tuple(found)


@cache
def all_grounds() -> tuple[Ground, ...]:
    """Those of the pack; and each of its host files, with the app on each address, and with and without `refuses`:
    of these everything is asked that the pack asks anywhere."""
    found = list(grounds())
    everything = tuple(dict.fromkeys(asked for g in found for asked in g.asked))
    for path, (app, listens), refuses in product(
        sorted((PACK / "hosts").glob("*.yaml")), APP_LISTENS.items(), (True, False)
    ):
        read = read_host(path)
        if [rules.name for rules in read.rules_files] == ["istio.rules"]:
            setting = Setting(_varied(read.host, listens, refuses), sidecar_rules())
            name = f"{path.stem}, app on {app}{'' if refuses else ', refuses nothing'}"
            found.append(Ground(name, setting, everything, True))
    return tuple(found)


def _varied(host: Host, app_listens: int | None, refuses: bool) -> Host:
    processes = []
    for process in host.processes:
        if process.name == "app":
            listens = tuple(replace(x, address=app_listens) for x in process.listens)
            process = replace(process, listens=listens)
        if not refuses:
            process = replace(process, proxies=tuple(replace(p, refuses=()) for p in process.proxies))
        processes.append(process)
    return replace(host, processes=tuple(processes))


def _questions() -> Iterator[Question]:
    for path in sorted(PACK.glob("*.prop")):
        yield from Cases(path).questions()


def _alike(one: Host, other: Host) -> bool:
    return replace(one, name="", assumptions=()) == replace(other, name="", assumptions=())


def _asked(question: Question) -> Iterator[Asked]:
    """The packet claims of a question; a cell is asked both ways, and of listeners that are kept, whether each is reached."""
    for claim in question.claims:
        match claim:
            case c.PacketClaim():
                yield Asked(question.name, claim)
                if question.cell is not None:
                    yield Asked(f"{question.name} (no)", replace(claim, quantifier=c.Quantifier.NO))
            case c.KeepClaim(premise, before):
                for process in question.setting(before).host.processes:
                    for listener in process.listens:
                        reaches = c.Reaches(process.name, listener.port)
                        some = c.PacketClaim(c.Quantifier.SOME, premise, (reaches,))
                        yield Asked(f"{question.name} ({process.name} on {listener.port})", some)
            case c.SameClaim() | c.DeadClaim():
                pass
