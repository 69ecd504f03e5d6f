"""What `chainproof fuzz` does and prints."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct

from .. import spell
from ..answers import Counterexample
from ..cases import read_setting
from ..counterexamples.record import Kind, record
from ..counterexamples.write import write
from ..hosts import Setting
from ..journeys import Earlier, FromOutside
from ..kernel.iptables import BackendName
from ..kernel.traces import ENDS
from ..packets import Packet
from ..values import Family, spell_address, spell_protocol
from .conversations import Stage
from .given import text_of
from .run import Mismatch, Tally, WingsApart, drawn, given
from .shrink import shrunk


class Request(Struct, frozen=True):
    """What is asked for: the user's rules or host (None: drawn ones), and for how long."""

    path: Path | None
    table: str | None
    backends: tuple[BackendName, ...]
    seconds: float
    seed: int
    folder: Path
    most: int | None = None
    family: Family = Family.IPV4
    """That of drawn rules."""


def run(request: Request, say: Callable[[str], None], note: Callable[[str], None]) -> bool:
    """True iff nothing differed.  `say` is given lines for stdout, `note` what was assumed.

    Raises InputError for what cannot be read or run.
    """
    setting: Setting | None = None
    if request.path is not None:
        setting, notes = read_setting(request.path, request.table)
        for told in notes:
            note(told)
    number = 0
    for backend in request.backends:
        tally = Tally()
        begin = time.monotonic()
        for found in _mismatches(request, setting, backend, tally, begin + request.seconds, note):
            number += 1
            small = shrunk(found)
            for line in described(small):
                say(line)
            saved = _saved(small, request, number)
            if saved is not None:
                say(f"  saved as {saved}")
            if number >= 5:
                say("  five are enough")
                break
        spent = time.monotonic() - begin
        say(
            f"{backend}: {tally.checks} packets ({tally.answers} of them answers, {tally.later} later packets of connections), {tally.solved} also by the solver's wing, "
            f"under {tally.rule_sets} rule sets on {tally.hosts} hosts in {spent:.0f} s, Linux {platform.release()}, seed {request.seed}"
        )
    say(f"{number} mismatches" if number else "the kernel did with each packet what was told")
    return number == 0


def _mismatches(
    request: Request,
    setting: Setting | None,
    backend: BackendName,
    tally: Tally,
    until: float,
    note: Callable[[str], None],
) -> Iterator[Mismatch]:
    if setting is None:
        yield from drawn(backend, request.seed, until, tally, most=request.most, family=request.family)
        return
    assert request.path is not None, "a setting was read"
    text = text_of(request.path, setting.host.family)
    yield from given(setting, backend, request.seed, until, tally, request.most, text, note)


def _saved(found: Mismatch, request: Request, number: int) -> Path | None:
    """A counterexample file of what the concrete wing tells, which `chainproof replay` does not confirm where the kernel is
    what differs; None where the wing told no journey.
    """
    if found.journey is None:
        return None
    told = _told(found)
    who = "the solver's wing" if isinstance(found.difference, WingsApart) else "the kernel"
    claim = f"{who}, by iptables-{found.backend}, does as is told here; {found.difference}"
    kept = record(told, (found.setting,), Kind.COUNTEREXAMPLE, "fuzz", f"seed {request.seed}", claim)
    path = request.folder / f"fuzz-{found.backend}-{request.seed}-{number}.json"
    request.folder.mkdir(parents=True, exist_ok=True)
    path.write_text(write(kept), encoding="utf-8")
    return path


def _told(found: Mismatch) -> Counterexample:
    """The journey as a counterexample: that of an answer as one of its own, which nobody sends."""
    assert found.journey is not None, "there is one to tell"
    earlier = None
    if found.stage is Stage.LATER:
        earlier = Earlier(found.sender, found.packet, opens=True)
    return Counterexample(found.sender, found.journey, found.choices, earlier=earlier)


def described(found: Mismatch) -> Iterator[str]:
    """The rules, the packet, and both paths side by side up to where they part."""
    yield f"mismatch on iptables-{found.backend}"
    for line in spell.rule_set(found.setting.rules).splitlines():
        yield f"  {line}"
    who = (
        f"a frame on {found.sender.interface}"
        if isinstance(found.sender, FromOutside)
        else f"a packet of {found.sender.process}"
    )
    yield f"  {who}: {_packet(found.packet)}"
    if found.later is not None and found.stage in (Stage.LATER, Stage.LAST):
        yield f"  {found.stage.value}: {_packet(found.later)}"
    elif found.stage is Stage.ANSWER:
        yield f"  {found.stage.value}"
    for step in found.seen.steps:
        spot = "passed on" if step.table == ENDS else f"{step.table}/{step.chain}"
        yield f"    kernel {spot} {'rule ' + str(step.number) if step.number else 'policy'}, mark {step.mark:#x}"
    yield from (f"  {line}" for line in str(found.difference).splitlines())
    if found.text is not None:
        yield f"  so by the text of {found.text} alone: loaded as they are spelled here, these rules do as is told"


def _packet(p: Packet) -> str:
    ends = (
        f"{spell_address(a, p.family)}" + (f":{port}" if p.proto in (6, 17, 132) else "")
        for a, port in ((p.src, p.sport), (p.dst, p.dport))
    )
    rest = f", flags {p.flags:#04x}" if p.proto == 6 else ""
    owner = "" if p.uid is None else f", uid {p.uid} gid {p.gid} mark {p.mark:#x}"
    return f"{spell_protocol(p.proto)} {' > '.join(ends)}{rest}{owner}"
