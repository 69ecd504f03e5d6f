"""Packets through a setting in the kernel and in the concrete wing, some of them in the symbolic wing too, batch by batch, until
the time is over or something differs.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from itertools import islice

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from .. import journeys as j
from ..asked import fields_carried
from ..concrete.claims import of_answer
from ..concrete.travel import as_sent, can_send, travel
from ..hosts import Backend, Setting
from ..journeys import Choices, FromOutside, FromProcess, Journey
from ..kernel.compare import Difference, Settled, settle
from ..kernel.errors import RulesRefused
from ..kernel.iptables import BackendName
from ..kernel.oracle import Observation, Oracle, Shot, answer_shot
from ..packets import Packet
from ..values import Family
from . import hosts, rules, sets, six
from .given import Text, load
from .packets import shots
from .symbolic import Formulas

BATCH = 100
"""Packets for each rule set."""
ONE_IN = 10
"""Packets of which the symbolic wing is asked about one too: about a tenth of the time under drawn rules."""
SETS_ON_A_HOST = 20
BACKENDS = {"legacy": Backend.LEGACY, "nft": Backend.NFT}

Travel = Callable[..., Journey]


class WingsApart(Struct, frozen=True):
    """The kernel does as the concrete wing tells, and the symbolic wing tells otherwise."""

    said: str

    def __str__(self) -> str:
        return f"the solver's wing tells otherwise than the evaluator and the kernel: {self.said}"


class Mismatch(Struct, frozen=True):
    """A packet with which the kernel does otherwise than the wing tells, or about which the wings are apart, also when it is asked
    about that packet alone.
    """

    backend: BackendName
    setting: Setting
    sender: FromOutside | FromProcess
    packet: Packet
    difference: Difference | WingsApart
    seen: Observation
    journey: Journey | None
    """None where the wing fails to tell one."""
    choices: Choices
    answer: bool = False
    """It is with the answer to the packet that they differ."""
    text: str | None = None
    """The file whose text alone, as it stands, makes the kernel do so: the rules as they are spelled do not."""


class Tally(msgspec.Struct):
    """What was done so far.

    `answers` are those of the checks that were answers, and `solved` packets were asked of the symbolic wing too; `passing` are
    differences that were not there any more when the packet was asked about alone, and `unsayable` are packets that no bytes say.
    """

    checks: int = 0
    answers: int = 0
    solved: int = 0
    rule_sets: int = 0
    refused: int = 0
    hosts: int = 0
    passing: int = 0
    unsayable: int = 0


def drawn(
    backend: BackendName,
    seed: int,
    until: float,
    tally: Tally,
    tell: Travel = travel,
    most: int | None = None,
    family: Family = Family.IPV4,
) -> Iterator[Mismatch]:
    """Mismatches on hosts and under rule sets that are drawn, the first of each rule set; of so many packets at `most`."""
    number = 0
    while time.monotonic() < until and (most is None or tally.checks < most):
        draw = random.Random(f"{seed} {number}")
        number += 1
        host = (hosts if family is Family.IPV4 else six).host(draw, BACKENDS[backend])
        with Oracle(host, backend) as oracle:
            tally.hosts += 1
            for _ in range(SETS_ON_A_HOST):
                if time.monotonic() >= until or (most is not None and tally.checks >= most):
                    return
                drawn_rules = rules.rule_set(draw)
                if family is Family.IPV6:
                    drawn_rules = six.translated(drawn_rules, draw)
                else:
                    drawn_rules = sets.asked(draw, drawn_rules)
                setting = Setting(host, drawn_rules, answers=True)
                try:
                    oracle.load(setting.rules)
                except RulesRefused:
                    tally.refused += 1
                    continue
                tally.rule_sets += 1
                yield from islice(batch(oracle, backend, Formulas(setting), draw, BATCH, tally, tell), 1)


def given(
    setting: Setting,
    backend: BackendName,
    seed: int,
    until: float,
    tally: Tally,
    most: int | None = None,
    text: Text | None = None,
    note: Callable[[str], None] = print,
) -> Iterator[Mismatch]:
    """Mismatches under the user's own rules, loaded by their text unchanged where it is given; raises RulesRefused, and CannotRun
    for a host that cannot be built.  `note` is told where the text is not loaded.
    """
    setting = replace(setting, host=replace(setting.host, backend=BACKENDS[backend]), answers=True)
    draw = random.Random(seed)
    with Oracle(setting.host, backend) as oracle:
        tally.hosts += 1
        refused = load(oracle, setting, text)
        if refused is not None:
            note(f"iptables-{backend}: {refused}")
            text = None
        tally.rule_sets += 1
        formulas = Formulas(setting)
        start = tally.checks
        while time.monotonic() < until and (most is None or tally.checks - start < most):
            before = tally.checks
            for found in batch(oracle, backend, formulas, draw, BATCH, tally):
                yield found if text is None else _by_text_alone(oracle, found, text)
            if tally.checks == before:
                return


def _by_text_alone(oracle: Oracle, found: Mismatch, text: Text) -> Mismatch:
    """The mismatch, with the word on whether it is there too where the rules are loaded as they are spelled."""
    oracle.load(found.setting.rules)
    spelled = again(oracle, found, found.setting, found.packet)
    load(oracle, found.setting, text)
    return replace(found, text=str(text.file)) if spelled is None else found


def again(
    oracle: Oracle, found: Mismatch, setting: Setting, packet: Packet, tell: Travel = travel
) -> Mismatch | None:
    """The mismatch of the same kind that this packet of the same sender makes under the rules that are loaded; None where it makes
    none, or is never sent.
    """
    sender = found.sender
    if isinstance(sender, FromProcess) and not can_send(setting, sender.process, packet):
        return None
    sent = as_sent(setting, sender, packet)
    if sent.src == 0 and isinstance(sender, FromProcess):
        return None
    first, *answer = with_answer(setting, Shot(sender, sent, "length" in fields_carried(setting)), tell)
    if isinstance(found.difference, WingsApart):
        return apart(oracle, found.backend, setting, first, tell)
    if not found.answer:
        return alone(oracle, found.backend, setting, first, tell)
    return alone(oracle, found.backend, setting, first, tell, answer[0]) if answer else None


def batch(
    oracle: Oracle,
    backend: BackendName,
    formulas: Formulas,
    draw: random.Random,
    size: int,
    tally: Tally,
    tell: Travel = travel,
) -> Iterator[Mismatch]:
    """Mismatches among so many packets under the rules that are loaded, which are those that the formulas are of."""
    setting = formulas.setting
    exact = "length" in fields_carried(setting)
    sent = list(islice(shots(setting, draw), size))
    asked = [x for sender, packet in sent for x in with_answer(setting, Shot(sender, packet, exact), tell)]
    first: Shot | None = None
    settled: Settled | None = None
    for shot, seen in zip(asked, oracle.ask(asked), strict=True):
        if seen is None:
            tally.unsayable += 1
            continue
        if shot.answer:
            # What the kernel chose for the first packet decides what its answer is like.
            if first is None or settled is None or not _as_told(settled):
                continue
            tally.answers += 1
            settled = judged(setting, first, seen, tell, shot)
        else:
            first, settled = shot, judged(setting, shot, seen, tell)
        tally.checks += 1
        if settled.difference is not None:
            found = alone(oracle, backend, setting, first, tell, shot if shot.answer else None)
        else:
            # The formulas are of a packet with its answer.
            if shot.answer or (tally.checks - tally.answers - 1) % ONE_IN:
                continue
            tally.solved += 1
            if formulas.differ(shot.sender, shot.packet, settled.choices) is None:
                continue
            found = apart(oracle, backend, setting, shot, tell)
        if found is None:
            tally.passing += 1
        else:
            yield found


def with_answer(setting: Setting, shot: Shot, tell: Travel) -> list[Shot]:
    """The packet, and behind it its answer, where there is one that somebody here or outside can be made to send."""
    try:
        journey = of_answer(tell(setting, shot.sender, shot.packet, Choices()), 0)
    except FAILURES:
        return [shot]
    answer = None if journey is None else answer_shot(journey, shot.exact)
    return [shot] if answer is None else [shot, answer]


def alone(
    oracle: Oracle,
    backend: BackendName,
    setting: Setting,
    shot: Shot,
    tell: Travel = travel,
    answer: Shot | None = None,
) -> Mismatch | None:
    """The mismatch that a packet, or the answer to it, makes by itself, twice; None where it does not, and where the kernel
    chose otherwise for the packet that is answered."""
    found: Mismatch | None = None
    for _ in range(2):
        first, *second = oracle.ask([shot] if answer is None else [shot, answer])
        seen = second[0] if second else first
        if first is None or seen is None:
            return None
        if answer is not None and not _as_told(judged(setting, shot, first, tell)):
            return None
        told = judged(setting, shot, seen, tell, answer)
        if told.difference is None:
            return None
        found = Mismatch(
            backend, setting, shot.sender, shot.packet, told.difference, seen, told.journey, told.choices,
            answer is not None,
        )  # fmt: skip
    return found


def apart(
    oracle: Oracle, backend: BackendName, setting: Setting, shot: Shot, tell: Travel = travel
) -> Mismatch | None:
    """The mismatch of the wings about a packet with which the kernel does as the concrete one tells; None where there is none."""
    (seen,) = oracle.ask([shot])
    if seen is None:
        return None
    told = judged(setting, shot, seen, tell)
    if told.difference is not None:
        return None
    said = Formulas(setting).differ(shot.sender, shot.packet, told.choices)
    if said is None:
        return None
    return Mismatch(
        backend, setting, shot.sender, shot.packet, WingsApart(said), seen, told.journey, told.choices
    )


def _as_told(settled: Settled) -> bool:
    """The kernel did as the wing tells without any choice of the kernel's."""
    return settled.difference is None and settled.choices == Choices()


FAILURES = (AssertionError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError)
"""What a wing that is wrong may raise."""


def judged(
    setting: Setting, shot: Shot, seen: Observation, tell: Travel = travel, answer: Shot | None = None
) -> Settled:
    """The wing's journey with the kernel's choices, and what is left to differ; a wing that fails differs.  With `answer`
    that of the answer, which was seen."""

    def told(choices: Choices) -> Journey:
        if answer is None:
            return tell(setting, shot.sender, shot.packet, choices)
        of = j.answer_to(0)
        chosen = {replace(e, hop=of): truth for e, truth in choices.opaque.items()}
        taken = {replace(e, hop=of): values for e, values in choices.translated.items()}
        found = of_answer(
            tell(setting, shot.sender, shot.packet, Choices(opaque=chosen, translated=taken)), 0
        )
        assert found is not None, "it had an answer before"
        return found

    try:
        return settle(setting, told, shot.sender if answer is None else answer.sender, seen)
    except FAILURES as error:
        failed = Difference(0, f"{len(seen.steps)} steps", f"the wing fails: {error!r}")
        return Settled(None, Choices(), failed)
