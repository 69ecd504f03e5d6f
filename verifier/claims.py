"""The property language as frozen data: who sends what, and what must (or must never) come of it.

Hosts are named as the property file names them; `prove` is handed the settings behind the names.
"""

from __future__ import annotations

from enum import Enum
from typing import TypeAlias

from msgspec import Struct

from .rules import CtStates, Literal
from .values import NOWHERE, UDP, AddressSet, MarkMask, Place, Span

# -- who sends ----------------------------------------------------------------------------------


class Outside(Struct, frozen=True):
    """`from [HOST.]outside [on IF]`: a frame to this host's MAC; without IF, on any interface but lo."""

    interface: str | None = None


class OfProcess(Struct, frozen=True):
    """`from [HOST.]PROCESS`"""

    process: str


class OfProxy(Struct, frozen=True):
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


class Filter(Struct, frozen=True):
    """Conditions on a packet as it is sent, all of which must hold; None and () ask nothing."""

    protocol: int | None = None
    to: AddressSet | None = None
    source: AddressSet | None = None
    ports: tuple[Span, ...] = ()
    """Destination ports, of a protocol that has ports."""
    where: tuple[Literal, ...] = ()
    """iptables matches; `-o` is the out-interface of a local sender's first routing decision."""


class Exception_(Struct, frozen=True):
    """An `except` item: packets that meet it are not spoken of."""

    filter: Filter
    because: str
    text: str
    place: Place = NOWHERE


class Premise(Struct, frozen=True):
    """The packets that a claim speaks of."""

    who: Who
    kind: Kind = Kind.PACKET
    filter: Filter = Filter()
    exceptions: tuple[Exception_, ...] = ()
    answer: bool = False
    """`answer to ...`: spoken of is not the packet, but the answer to it, where there is one."""
    after: Who | None = None
    """`even after a packet from WHO`: spoken of is the packet by itself, and also where conntrack finds it in the entry that a UDP
    packet of this sender has left before.  Of answers, proxies and other protocols nobody follows that."""
    established: bool = False
    """`established packet`: spoken of is a later packet of a connection that this sender has opened, and that stands: the answer to
    its first packet has come back.  Of proxies' connections nobody follows that."""
    rejection: bool = False
    """`rejection of ...`: spoken of is not the packet, but what a REJECT sends back for it, where one does: of first packets alone."""

    def __post_init__(self) -> None:
        if self.rejection and (self.answer or self.established or self.after is not None):
            raise ValueError("`rejection of` speaks of packets that begin a connection, and of no answers")
        if self.established:
            if isinstance(self.who, OfProxy):
                raise ValueError(
                    "`established` speaks of connections that a process, or somebody outside, opens"
                )
            if self.kind is not Kind.PACKET or self.after is not None:
                raise ValueError("`established` goes neither with `connection` nor with `even after`")
        if self.after is None:
            return
        if self.filter.protocol != UDP or self.answer:
            raise ValueError("`even after` speaks of UDP packets that are sent")
        if isinstance(self.who, OfProxy) or isinstance(self.after, OfProxy):
            raise ValueError("`even after` speaks of no proxy, which dials TCP")

    @property
    def sent_back(self) -> bool:
        """True iff spoken of is what comes back for the packets, where anything does."""
        return self.answer or self.rejection

    @property
    def any_state(self) -> bool:
        """True iff the premise itself speaks of the connection's state, which lifts "NEW"."""
        return any(isinstance(lit.match, CtStates) for lit in self.filter.where)

    @property
    def carries(self) -> frozenset[str]:
        """The fields that packets carry because of what was sent before them."""
        return frozenset({"connection"} if self.has_history else ())

    @property
    def has_history(self) -> bool:
        """True iff it speaks of packets before which others were sent."""
        return self.established or self.after is not None


# -- what must come of it -------------------------------------------------------------------------


class ChainRef(Struct, frozen=True):
    """`TABLE/CHAIN`"""

    table: str
    chain: str

    def __str__(self) -> str:
        return f"{self.table}/{self.chain}"


class RuleRef(Struct, frozen=True):
    """`TABLE/CHAIN N`: a rule by its number, from 1 (by text or comment: resolved to its number when it is bound)."""

    table: str
    chain: str
    rule: int

    def __str__(self) -> str:
        return f"{self.table}/{self.chain} {self.rule}"


class RuleText(Struct, frozen=True):
    """`TABLE/CHAIN "TEXT"`: the rules of this chain whose spelling or comment contains TEXT."""

    table: str
    chain: str
    text: str

    def __str__(self) -> str:
        return f'{self.table}/{self.chain} "{self.text}"'


class With(Struct, frozen=True):
    """`with source A[:PORT]`, `with destination A[:PORT]`, `with destination unchanged`, `with mark M[/MASK]`, `with zone Z`:
    conditions on the packet where it is delivered or leaves.
    """

    source: AddressSet | None = None
    destination: AddressSet | None = None
    port: int | None = None
    unchanged: bool = False
    mark: MarkMask | None = None
    zone: int | None = None
    """The one in which conntrack looks for it, in its direction; what is UNTRACKED is in none."""
    source_port: int | None = None


ANYHOW = With()


class Ends(Struct, frozen=True):
    """`end`: the journey ends; it does not go on for ever."""


class Enters(Struct, frozen=True):
    """`enter CHAIN`: some packet of the journey comes into this chain."""

    chain: ChainRef


class Hits(Struct, frozen=True):
    """`hit rule R`: some packet of the journey matches this rule (one of these rules)."""

    rule: RuleRef | RuleText


class Reaches(Struct, frozen=True):
    """`reach PROCESS [on PORT]`: some packet of the journey is delivered to a socket of the process."""

    process: str
    port: int | None = None
    having: With = ANYHOW


class PassesBeforeLeaving(Struct, frozen=True):
    """`pass PROCESS before leaving [by IF]`: whatever leaves (by IF) does so after a delivery to PROCESS."""

    process: str
    interface: str | None = None


class Leaves(Struct, frozen=True):
    """`leave [by IF]`: the journey ends on the wire."""

    interface: str | None = None
    having: With = ANYHOW


class IsDropped(Struct, frozen=True):
    """`be dropped [by CHAIN]`: a rule or policy did it (REJECT is no drop)."""

    chain: ChainRef | None = None


class IsLost(Struct, frozen=True):
    """`be lost`: the kernel dropped it."""


class IsRejected(Struct, frozen=True):
    """`be rejected`"""


class IsRefused(Struct, frozen=True):
    """`be refused`: delivered, and nobody listens."""


class IsAnswered(Struct, frozen=True):
    """`be answered [by IF] [with mark M]`: whoever gets the packet answers, and that comes back to its sender; `interface`
    and `having` are those of the answer's last stop.
    """

    interface: str | None = None
    having: With = ANYHOW


class Not(Struct, frozen=True):
    """`not VERB`"""

    verb: Verb


class AnyOf(Struct, frozen=True):
    """`VERB or VERB`"""

    verbs: tuple[Verb, ...]


Verb: TypeAlias = (
    Ends | Enters | Hits | Reaches | PassesBeforeLeaving | Leaves | IsDropped | IsLost | IsRejected
    | IsRefused | IsAnswered | Not | AnyOf
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


class PacketClaim(Struct, frozen=True):
    """`every|no|some PREMISE must|may|can VERB...` about one host."""

    quantifier: Quantifier
    premise: Premise
    verbs: tuple[Verb, ...]
    place: Place = NOWHERE

    def __post_init__(self) -> None:
        if self.premise.after is not None and asks_for_answers(self.premise, self.verbs):
            raise ValueError("`even after` does not go with `be answered`")


class SameClaim(Struct, frozen=True):
    """`every PREMISE must fare the same in A and B`: for each packet, both hosts have the same outcome."""

    premise: Premise
    first: str
    second: str
    place: Place = NOWHERE

    def __post_init__(self) -> None:
        _of_new_connections(self.premise)


class KeepClaim(Struct, frozen=True):
    """`every PREMISE must keep every listener of A in B`: each listening socket that some packet of the
    premise reaches in A is reached by some packet of the premise in B too (what IST0143 looks for).
    """

    premise: Premise
    before: str
    after: str
    place: Place = NOWHERE

    def __post_init__(self) -> None:
        _of_new_connections(self.premise)


def _of_new_connections(premise: Premise) -> None:
    if premise.has_history:
        raise ValueError("`even after` and `established` do not go with a comparison of hosts")


class DeadClaim(Struct, frozen=True):
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
    place: Place = NOWHERE


Claim: TypeAlias = PacketClaim | SameClaim | KeepClaim | DeadClaim


def asks_for_answers(premise: Premise, verbs: tuple[Verb, ...] = ()) -> bool:
    """True iff what is claimed of these packets depends on what answers them."""
    return premise.answer or any(map(_is_of_answers, verbs))


def asks_for_zones(verb: Verb) -> bool:
    """True iff the verb asks in which zone a packet is."""
    match verb:
        case Reaches() | Leaves() | IsAnswered():
            return verb.having.zone is not None
        case Not(inner):
            return asks_for_zones(inner)
        case AnyOf(verbs):
            return any(map(asks_for_zones, verbs))
        case _:
            return False


def _is_of_answers(verb: Verb) -> bool:
    match verb:
        case IsAnswered():
            return True
        case Not(inner):
            return _is_of_answers(inner)
        case AnyOf(verbs):
            return any(map(_is_of_answers, verbs))
        case _:
            return False


# -- properties -----------------------------------------------------------------------------------


class Wanted(Enum):
    """The answer with which a property passes."""

    PROVED = "proved"
    REFUTED = "refuted"
    UNKNOWN = "unknown"


class Expectation(Struct, frozen=True):
    """`on HOST [refuted|unknown because "..."]`, or `expected refuted because "..."` (host None)."""

    host: str | None
    wanted: Wanted = Wanted.PROVED
    because: str | None = None
    place: Place = NOWHERE


class Property(Struct, frozen=True):
    """Claims that must all hold, on each host that an expectation names."""

    name: str
    title: str | None
    claims: tuple[Claim, ...]
    expectations: tuple[Expectation, ...]
    place: Place = NOWHERE


class Cell(Enum):
    """A cell of a table: yes = every packet does, no = none does, some = both kinds exist."""

    YES = "yes"
    NO = "no"
    SOME = "some"


class Variant(Struct, frozen=True):
    """A change to a host: `with rules FILE`, `without rule R`, `with PROCESS on BIND`, `uid`, `gid`, ...

    `key` is one of rules, without-rule, on, uid, gid, binds-device, refuses; `process` is None for the
    first two; `value` is the text as it stands in the file.
    """

    key: str
    value: str
    process: str | None = None
    place: Place = NOWHERE


class HostName(Struct, frozen=True):
    """`host NAME = "FILE" [with ...]`"""

    name: str
    file: str
    variants: tuple[Variant, ...] = ()
    place: Place = NOWHERE


class Row(Struct, frozen=True):
    """A row of a table: a change to each column's host, and a cell for each column."""

    title: str
    variants: tuple[Variant, ...]
    cells: tuple[Cell, ...]
    place: Place = NOWHERE


class TableProperty(Struct, frozen=True):
    """`table NAME`: one claim asked of hosts (columns) as changed by rows."""

    name: str
    title: str | None
    premise: Premise
    verbs: tuple[Verb, ...]
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    place: Place = NOWHERE


class PropertyFile(Struct, frozen=True):
    """All that a .prop file says."""

    hosts: tuple[HostName, ...]
    properties: tuple[Property | TableProperty, ...]
    path: str = ""
