"""The property language as frozen data: who sends what, and what must (or must never) come of it.

Hosts are named as the property file names them; `prove` is handed the settings behind the names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from .rules import CtStates, Literal
from .values import NOWHERE, AddressSet, MarkMask, Place, Span

# -- who sends ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outside:
    """`from [HOST.]outside [on IF]`: a frame to this host's MAC; without IF, on any interface but lo."""

    interface: str | None = None


@dataclass(frozen=True, slots=True)
class OfProcess:
    """`from [HOST.]PROCESS`"""

    process: str


@dataclass(frozen=True, slots=True)
class OfProxy:
    """`from [HOST.]PROCESS.PROXY`"""

    process: str
    proxy: str


Who: TypeAlias = Outside | OfProcess | OfProxy


class Kind(Enum):
    """Which packets a premise speaks of."""

    PACKET = "packet"
    """One that conntrack, empty, calls NEW."""
    CONNECTION = "connection"
    """The same, and for TCP its SYN: ACK, RST and FIN clear."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions on a packet as it is sent, all of which must hold; None and () ask nothing."""

    protocol: int | None = None
    to: AddressSet | None = None
    source: AddressSet | None = None
    ports: tuple[Span, ...] = ()
    """Destination ports, of a protocol that has ports."""
    where: tuple[Literal, ...] = ()
    """iptables matches; `-o` is the out-interface of a local sender's first routing decision."""


@dataclass(frozen=True, slots=True)
class Exception_:
    """An `except` item: packets that meet it are not spoken of."""

    filter: Filter
    because: str
    text: str
    place: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Premise:
    """The packets that a claim speaks of."""

    who: Who
    kind: Kind = Kind.PACKET
    filter: Filter = Filter()
    exceptions: tuple[Exception_, ...] = ()

    @property
    def any_state(self) -> bool:
        """True iff the premise itself speaks of the connection's state, which lifts "NEW"."""
        return any(isinstance(lit.match, CtStates) for lit in self.filter.where)


# -- what must come of it -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChainRef:
    """`TABLE/CHAIN`"""

    table: str
    chain: str

    def __str__(self) -> str:
        return f"{self.table}/{self.chain}"


@dataclass(frozen=True, slots=True)
class RuleRef:
    """`TABLE/CHAIN N`: a rule by its number, from 1 (by text or comment: resolved to its number when it is bound)."""

    table: str
    chain: str
    rule: int

    def __str__(self) -> str:
        return f"{self.table}/{self.chain} {self.rule}"


@dataclass(frozen=True, slots=True)
class RuleText:
    """`TABLE/CHAIN "TEXT"`: the rules of this chain whose spelling or comment contains TEXT."""

    table: str
    chain: str
    text: str

    def __str__(self) -> str:
        return f'{self.table}/{self.chain} "{self.text}"'


@dataclass(frozen=True, slots=True)
class With:
    """`with source A`, `with destination A[:PORT]`, `with destination unchanged`, `with mark M[/MASK]`:
    conditions on the packet where it is delivered or leaves.
    """

    source: AddressSet | None = None
    destination: AddressSet | None = None
    port: int | None = None
    unchanged: bool = False
    mark: MarkMask | None = None


ANYHOW = With()


@dataclass(frozen=True, slots=True)
class Ends:
    """`end`: the journey ends; it does not go on for ever."""


@dataclass(frozen=True, slots=True)
class Enters:
    """`enter CHAIN`: some packet of the journey comes into this chain."""

    chain: ChainRef


@dataclass(frozen=True, slots=True)
class Hits:
    """`hit rule R`: some packet of the journey matches this rule (one of these rules)."""

    rule: RuleRef | RuleText


@dataclass(frozen=True, slots=True)
class Reaches:
    """`reach PROCESS [on PORT]`: some packet of the journey is delivered to a socket of the process."""

    process: str
    port: int | None = None
    having: With = ANYHOW


@dataclass(frozen=True, slots=True)
class PassesBeforeLeaving:
    """`pass PROCESS before leaving [by IF]`: whatever leaves (by IF) does so after a delivery to PROCESS."""

    process: str
    interface: str | None = None


@dataclass(frozen=True, slots=True)
class Leaves:
    """`leave [by IF]`: the journey ends on the wire."""

    interface: str | None = None
    having: With = ANYHOW


@dataclass(frozen=True, slots=True)
class IsDropped:
    """`be dropped [by CHAIN]`: a rule or policy did it (REJECT is no drop)."""

    chain: ChainRef | None = None


@dataclass(frozen=True, slots=True)
class IsLost:
    """`be lost`: the kernel dropped it."""


@dataclass(frozen=True, slots=True)
class IsRejected:
    """`be rejected`"""


@dataclass(frozen=True, slots=True)
class IsRefused:
    """`be refused`: delivered, and nobody listens."""


@dataclass(frozen=True, slots=True)
class Not:
    """`not VERB`"""

    verb: Verb


@dataclass(frozen=True, slots=True)
class AnyOf:
    """`VERB or VERB`"""

    verbs: tuple[Verb, ...]


Verb: TypeAlias = (
    Ends | Enters | Hits | Reaches | PassesBeforeLeaving | Leaves | IsDropped | IsLost | IsRejected
    | IsRefused | Not | AnyOf
)  # fmt: skip
"""What one journey does, or does not do."""


class Quantifier(Enum):
    EVERY = "every"
    """Each packet of the premise, whatever the choices, does all the verbs."""
    NO = "no"
    """No packet of the premise, whatever the choices, does all the verbs."""
    SOME = "some"
    """Some packet of the premise does all the verbs."""


# -- claims ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PacketClaim:
    """`every|no|some PREMISE must|may|can VERB...` about one host."""

    quantifier: Quantifier
    premise: Premise
    verbs: tuple[Verb, ...]
    place: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class SameClaim:
    """`every PREMISE must fare the same in A and B`: for each packet, both hosts have the same outcome."""

    premise: Premise
    first: str
    second: str
    place: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class KeepClaim:
    """`every PREMISE must keep every listener of A in B`: each listening socket that some packet of the
    premise reaches in A is reached by some packet of the premise in B too (what IST0143 looks for).
    """

    premise: Premise
    before: str
    after: str
    place: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class DeadClaim:
    """`rule R must [not] be dead`, or `no rule of TABLE may be dead except R, ... because "..."`.

    A rule is dead iff no packet of the host's declared senders matches it; `alone`: by the rules alone,
    iff no packet at all does, of whatever state, owner and interfaces.  With `rule` the claim is about
    this rule, and `dead` says which way; without, that exactly `excepted` are dead in `table`.
    """

    table: str
    alone: bool
    rule: RuleRef | RuleText | None = None
    dead: bool = True
    excepted: tuple[RuleRef, ...] = ()
    because: str | None = None
    place: Place = field(default=NOWHERE, compare=False)


Claim: TypeAlias = PacketClaim | SameClaim | KeepClaim | DeadClaim


# -- properties -----------------------------------------------------------------------------------


class Wanted(Enum):
    """The answer with which a property passes."""

    PROVED = "proved"
    REFUTED = "refuted"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Expectation:
    """`on HOST [refuted|unknown because "..."]`, or `expected refuted because "..."` (host None)."""

    host: str | None
    wanted: Wanted = Wanted.PROVED
    because: str | None = None
    place: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Property:
    """Claims that must all hold, on each host that an expectation names."""

    name: str
    title: str | None
    claims: tuple[Claim, ...]
    expectations: tuple[Expectation, ...]
    place: Place = field(default=NOWHERE, compare=False)


class Cell(Enum):
    """A cell of a table: yes = every packet does, no = none does, some = both kinds exist."""

    YES = "yes"
    NO = "no"
    SOME = "some"


@dataclass(frozen=True, slots=True)
class Variant:
    """A change to a host: `with rules FILE`, `without rule R`, `with PROCESS on BIND`, `uid`, `gid`, ...

    `key` is one of rules, without-rule, on, uid, gid, binds-device, refuses; `process` is None for the
    first two; `value` is the text as it stands in the file.
    """

    key: str
    value: str
    process: str | None = None
    place: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class HostName:
    """`host NAME = "FILE" [with ...]`"""

    name: str
    file: str
    variants: tuple[Variant, ...] = ()
    place: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table: a change to each column's host, and a cell for each column."""

    title: str
    variants: tuple[Variant, ...]
    cells: tuple[Cell, ...]
    place: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class TableProperty:
    """`table NAME`: one claim asked of hosts (columns) as changed by rows."""

    name: str
    title: str | None
    premise: Premise
    verbs: tuple[Verb, ...]
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    place: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class PropertyFile:
    """All that a .prop file says."""

    hosts: tuple[HostName, ...]
    properties: tuple[Property | TableProperty, ...]
    path: str = ""
