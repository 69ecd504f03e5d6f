"""Packets through a setting in the kernel and in the concrete wing, some of them in the symbolic wing too, batch by batch, until
the time is over or something differs.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from itertools import count, islice

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from .. import journeys as j
from ..asked import fields_carried
from ..concrete.travel import as_sent, can_send, travel
from ..hosts import Backend, Setting
from ..journeys import Choices, FromOutside, FromProcess, Journey
from ..kernel.compare import Difference, Settled, rejection, settle, silence
from ..kernel.errors import RulesRefused
from ..kernel.iptables import BackendName
from ..kernel.oracle import Observation, Oracle, Shot
from ..packets import Packet
from ..rules import Reject
from ..values import Family
from . import hosts, rules, sets, six
from .conversations import ACK, Conversation, Stage, Travel, continued, conversation
from .given import Text, load
from .packets import shots
from .symbolic import Formulas

BATCH = 100
"""Packets for each rule set."""
ONE_IN = 10
"""Packets of which the symbolic wing is asked about one too: about a tenth of the time under drawn rules."""
SETS_ON_A_HOST = 20
ARE_REJECTED = 0.3
"""So many rule sets are drawn for what they reject; all others for what is answered, and what follows that."""
BACKENDS = {"legacy": Backend.LEGACY, "nft": Backend.NFT}


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
    stage: Stage = Stage.FIRST
    """With which packet of the conversation they differ that the packet opens."""
    later: Packet | None = None
    flags: int = ACK
    """Of the answer to the later packet."""
    text: str | None = None
    """The file whose text alone, as it stands, makes the kernel do so: the rules as they are spelled do not."""


class Tally(msgspec.Struct):
    """What was done so far.

    `answers` are those of the checks that were answers or rejections, `later` those that were later packets of a connection, and `solved` packets were asked of the symbolic wing too; `passing` are
    differences that were not there any more when the packet was asked about alone, and `unsayable` are packets that no bytes say.
    """

    checks: int = 0
    answers: int = 0
    later: int = 0
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
                rejects = draw.random() < ARE_REJECTED
                if rejects:
                    drawn_rules = rules.rejecting(draw, drawn_rules)
                if family is Family.IPV6:
                    drawn_rules = six.translated(drawn_rules, draw)
                else:
                    drawn_rules = sets.asked(draw, drawn_rules)
                setting = Setting(host, drawn_rules, answers=not rejects, rejections=rejects)
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
        told = [Formulas(setting)]
        if _rejects(setting):
            told.append(Formulas(replace(setting, answers=False, rejections=True)))
        start = tally.checks
        for number in count():
            if time.monotonic() >= until or (most is not None and tally.checks - start >= most):
                return
            before = tally.checks
            for found in batch(oracle, backend, told[number % len(told)], draw, BATCH, tally):
                yield found if text is None else _by_text_alone(oracle, found, text)
            if tally.checks == before:
                return


def _rejects(setting: Setting) -> bool:
    """Some rule sends back what is compared too, in every other batch."""
    chains = (chain for table in setting.rules.tables.values() for chain in table.chains.values())
    return any(isinstance(rule.target, Reject) for chain in chains for rule in chain.rules)


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
    later = None if found.later is None else continued(setting, sender, sent, found.later)
    whole = Conversation(sender, sent, later, found.flags)
    if isinstance(found.difference, WingsApart):
        return apart(oracle, found.backend, setting, whole, found.stage, tell)
    return alone(oracle, found.backend, setting, whole, found.stage, tell)


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
    sent = list(islice(shots(setting, draw), size))
    asked: list[tuple[Conversation, Stage, Shot]] = []
    for sender, packet in sent:
        whole = conversation(setting, sender, packet, draw.choice(sent)[1], draw)
        asked += [(whole, stage, shot) for stage, shot in _shots(whole, setting, tell)]
    goes_on = False
    seen = oracle.ask([shot for _, _, shot in asked])
    for (whole, stage, _), observed in zip(asked, seen, strict=True):
        if observed is None:
            tally.unsayable += 1
            goes_on = False
            continue
        # What the kernel chose for a packet decides what those behind it are like.
        if stage is not Stage.FIRST and not goes_on:
            continue
        settled = judged(setting, whole, stage, observed, tell)
        goes_on = _as_told(settled)
        tally.answers += stage.answers
        tally.later += stage is Stage.LATER
        tally.checks += 1
        if settled.difference is not None:
            found = alone(oracle, backend, setting, whole, stage, tell)
        else:
            # The formulas are of a packet with its answer.
            number = tally.later if stage is Stage.LATER else tally.checks - tally.answers - tally.later
            if stage.answers or (number - 1) % ONE_IN:
                continue
            tally.solved += 1
            if formulas.differ(whole, stage, settled.choices) is None:
                continue
            found = apart(oracle, backend, setting, whole, stage, tell)
        if found is None:
            tally.passing += 1
        else:
            yield found


def _shots(whole: Conversation, setting: Setting, tell: Travel) -> list[tuple[Stage, Shot]]:
    """What can be sent of the conversation, as far as the wing can tell it."""
    for part in (whole, replace(whole, later=None)):
        try:
            return part.shots(setting, tell)
        except FAILURES:
            continue
    return [(Stage.FIRST, Shot(whole.sender, whole.packet, "length" in fields_carried(setting)))]


def alone(
    oracle: Oracle,
    backend: BackendName,
    setting: Setting,
    whole: Conversation,
    stage: Stage = Stage.FIRST,
    tell: Travel = travel,
) -> Mismatch | None:
    """The mismatch that the packet of this stage makes where nothing else is sent but what comes before it, twice; None where it does
    not, and where the kernel chose otherwise for one of those."""
    found: Mismatch | None = None
    for _ in range(2):
        seen = _asked(oracle, setting, whole, stage, tell)
        if seen is None:
            return None
        told = judged(setting, whole, stage, seen, tell)
        if told.difference is None:
            return None
        found = _mismatch(backend, setting, whole, stage, told.difference, seen, told)
    return found


def apart(
    oracle: Oracle,
    backend: BackendName,
    setting: Setting,
    whole: Conversation,
    stage: Stage,
    tell: Travel = travel,
) -> Mismatch | None:
    """The mismatch of the wings about a packet with which the kernel does as the concrete one tells; None where there is none."""
    seen = _asked(oracle, setting, whole, stage, tell)
    if seen is None:
        return None
    told = judged(setting, whole, stage, seen, tell)
    if told.difference is not None:
        return None
    said = Formulas(setting).differ(whole, stage, told.choices)
    if said is None:
        return None
    return _mismatch(backend, setting, whole, stage, WingsApart(said), seen, told)


def _asked(
    oracle: Oracle, setting: Setting, whole: Conversation, stage: Stage, tell: Travel
) -> Observation | None:
    """What becomes of the packet of this stage, sent behind those before it; None where that cannot be done, and where one of
    those goes otherwise than is told without any choice of the kernel's."""
    shots = _shots(whole, setting, tell)
    stages = [s for s, _ in shots]
    if stage not in stages:
        return None
    upto = stages.index(stage) + 1
    seen = oracle.ask([shot for _, shot in shots[:upto]])
    for one, observed in zip(stages[: upto - 1], seen, strict=False):
        if observed is None or not _as_told(judged(setting, whole, one, observed, tell)):
            return None
    return seen[-1]


def _mismatch(
    backend: BackendName,
    setting: Setting,
    whole: Conversation,
    stage: Stage,
    difference: Difference | WingsApart,
    seen: Observation,
    told: Settled,
) -> Mismatch:
    return Mismatch(
        backend, setting, whole.sender, whole.packet, difference, seen, told.journey, told.choices, stage,
        whole.later, whole.flags,
    )  # fmt: skip


def _as_told(settled: Settled) -> bool:
    """The kernel did as the wing tells without any choice of the kernel's."""
    return settled.difference is None and settled.choices == Choices()


FAILURES = (AssertionError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError)
"""What a wing that is wrong may raise."""


def judged(
    setting: Setting, whole: Conversation, stage: Stage, seen: Observation, tell: Travel = travel
) -> Settled:
    """The wing's journey of the packet of this stage with the kernel's choices, and what is left to differ; a wing that fails
    differs."""

    def told(choices: Choices) -> Journey:
        journey = whole.tell(setting, stage, choices, tell)
        return rejection(setting, journey) if stage is Stage.REJECTION else journey

    try:
        if stage is Stage.REJECTION and whole.is_silent(setting, tell):
            return Settled(None, Choices(), silence(setting.rules, seen))
        sender: j.Sender = whole.sender
        if stage.answers:
            first = told(Choices()).stops[0]
            interface = first.packet.in_iface
            sender = j.FromProcess(first.process or "") if interface is None else j.FromOutside(interface)
        return settle(setting, told, sender, seen)
    except FAILURES as error:
        failed = Difference(0, f"{len(seen.steps)} steps", f"the wing fails: {error!r}")
        return Settled(None, Choices(), failed)
