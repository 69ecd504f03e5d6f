"""What a counterexample file says, as frozen data: a claim's packet, and a journey of it on each host that it is about."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, assert_never

from msgspec import Struct
from msgspec.structs import replace

from ..answers import Counterexample, Proved, Refuted, Unknown, Vacuous
from ..asked import fields_of
from ..claims import Claim, DeadClaim, KeepClaim, PacketClaim, SameClaim, asks_for_answers
from ..hosts import Setting, defaults
from ..journeys import Choices, Earlier, Journey, Sender
from ..wording import say_claim

if TYPE_CHECKING:
    from ..check import Result

SCHEMA = "chainproof/counterexample/1"


class Kind(Enum):
    """What the packet shows."""

    COUNTEREXAMPLE = "counterexample"
    WITNESS = "witness"


class Account(Struct, frozen=True):
    """A host with its rules, and what the concrete wing tells of the packet there."""

    setting: Setting
    journey: Journey


class Record(Struct, frozen=True):
    """A packet, with every choice that its journeys rest on.

    `place` names the property's file and line, and `claim` is its text; both are for people.  `hop` is that of which the
    claim speaks.  The second account is that of the other host, where a claim compares two.
    """

    kind: Kind
    name: str
    place: str
    claim: str
    sender: Sender
    choices: Choices
    accounts: tuple[Account, ...]
    hop: int = 0
    earlier: Earlier | None = None
    """The packet that was sent before; how it went, the journeys of the accounts tell."""


def of_result(result: Result) -> Record | None:
    """The counterexample that a refutation has, or the witness that a proof has; None where there is no such packet."""
    match result.answer:
        case Refuted(counterexample=found):
            kind = Kind.COUNTEREXAMPLE
        case Proved(witness=found):
            kind = Kind.WITNESS
        case Unknown() | Vacuous():
            return None
        case _:
            assert_never(result.answer)
    if found is None:
        return None
    q = result.question
    place = f"{q.place.file}:{q.place.line}"
    answers = isinstance(result.claim, PacketClaim) and asks_for_answers(
        result.claim.premise, result.claim.verbs
    )
    rejections = isinstance(result.claim, PacketClaim) and result.claim.premise.rejection
    also = _asked(result.claim)
    settings = tuple(
        replace(s, also=s.also | also, answers=answers, rejections=rejections) for _, s in q.settings
    )
    return record(found, settings, kind, q.name, place, say_claim(result.claim))


def _asked(claim: Claim) -> frozenset[str]:
    """The fields that packets carry because the claim's premise asks for them."""
    match claim:
        case PacketClaim(_, premise) | SameClaim(premise) | KeepClaim(premise):
            filters = [premise.filter, *(e.filter for e in premise.exceptions)]
            return fields_of(tuple(literal for f in filters for literal in f.where)) | premise.carries
        case DeadClaim():
            return frozenset()
        case _:
            assert_never(claim)


def record(
    found: Counterexample, settings: tuple[Setting, ...], kind: Kind, name: str, place: str, claim: str
) -> Record:
    """What is kept of a counterexample.  A host's assumptions are left out: what was assumed is written as if it were given."""
    journeys = (found.journey, *(() if found.other is None else (found.other,)))
    accounts = tuple(Account(_explicit(s), j) for s, j in zip(settings, journeys, strict=False))
    return Record(kind, name, place, claim, found.sender, found.choices, accounts, found.hop, found.earlier)


def _explicit(setting: Setting) -> Setting:
    host = replace(
        setting.host, sysctls={**defaults(setting.host.family), **setting.host.sysctls}, assumptions=()
    )
    return replace(setting, host=host)
