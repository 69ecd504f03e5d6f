"""What `prove` answers, as frozen data: proved, refuted with a counterexample, unknown, or vacuous."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from .hosts import Assumption
from .journeys import Choices, Earlier, Journey, ProxyState, Sender
from .packets import Packet


class Varies(Struct, frozen=True):
    """A field of a packet that may be anything from `first` to `last`, as a number, but for `exceptions`."""

    field: str
    first: int
    last: int
    exceptions: tuple[int, ...] = ()

    def holds(self, value: int) -> bool:
        return self.first <= value <= self.last and value not in self.exceptions


class Counterexample(Struct, frozen=True):
    """A first packet of a declared sender, replayed by the concrete wing.

    `journey` starts with that packet.  `hop` is where the packet that the claim speaks of is sent: 0,
    or, for a claim about a proxy's dials, the dial that the stem before it leads to.
    """

    sender: Sender
    journey: Journey
    choices: Choices
    hop: int = 0
    why: str | None = None
    other: Journey | None = None
    """The same packet's journey on the other host, where a claim compares two."""
    lost: tuple[str, ...] = ()
    """The listeners that are no longer reached, where a claim is about those."""
    earlier: Earlier | None = None
    """The packet that was sent before; `journey.earlier` is its journey."""
    stands_for: tuple[Varies, ...] = ()
    """Each packet of the premise whose fields vary so, and that is like the first packet in all else, breaks the claim too."""


class Sample(Struct, frozen=True):
    """What a journey begins with: a packet, or of a proxy the state that it dials from."""

    sender: Sender
    packet: Packet | None
    state: ProxyState | None
    choices: Choices
    earlier: Earlier | None = None


class Proved(Struct, frozen=True):
    """The claim holds for all packets of its premise.

    `hops` is the depth at which no journey goes on, `bound` the computed ceiling, `samples` the number of packets
    on which the evaluator checked the claim, and `checked` those packets, where they are kept.  `witness` is the packet of
    an existential claim.
    """

    hops: int
    bound: int
    assumptions: tuple[Assumption, ...] = ()
    samples: int = 0
    witness: Counterexample | None = None
    notes: tuple[str, ...] = ()
    checked: tuple[Sample, ...] = ()


class Refuted(Struct, frozen=True):
    """The claim does not hold.  `counterexample` is None only where no packet is to blame (`some ... can`,
    and a rule that ought to be alive and is dead); then `reason` says what was proved instead.
    """

    counterexample: Counterexample | None
    reason: str
    assumptions: tuple[Assumption, ...] = ()
    bound: int = 0
    notes: tuple[str, ...] = ()


class Unknown(Struct, frozen=True):
    """Neither is known.  `opaque` names what was not understood, `candidate` is a packet that may break the claim."""

    reason: str
    opaque: tuple[str, ...] = ()
    candidate: Counterexample | None = None
    assumptions: tuple[Assumption, ...] = ()


class Vacuous(Struct, frozen=True):
    """No packet meets the premise, so that the claim says nothing."""

    reason: str
    assumptions: tuple[Assumption, ...] = ()


Answer: TypeAlias = Proved | Refuted | Unknown | Vacuous


class WingsDisagree(AssertionError):
    """The two readings tell different journeys of one packet: one of them is wrong, and so might be an answer."""


class Judgement(Struct, frozen=True):
    """What the kernel says of an answer, through these backends: it did what the counterexample or witness tells
    (`confirmed`), or what the evaluator told of `packets` of a proof.  `why` it was not asked, where it was not.
    """

    confirmed: bool = False
    packets: int = 0
    backends: tuple[str, ...] = ()
    why: str | None = None

    def __str__(self) -> str:
        if self.why is not None:
            return f"not run ({self.why})"
        through = f", through {' and '.join(self.backends)}"
        if self.confirmed:
            return f"confirmed{through}"
        return f"agreed on {self.packets} packet{'' if self.packets == 1 else 's'}{through}"


class KernelDisagrees(AssertionError):
    """The kernel does not do what is told of a packet: a reading is wrong, and so might be an answer."""
