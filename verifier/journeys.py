"""What happened to a packet, told stop by stop, as frozen data.

A journey is all that happens to one first packet and to the packets that declared proxies make of
it.  Each such packet is a *hop*: hop 0 is the first packet, hop n the n-th dial.  `concrete.travel`
tells the journey of one packet, `symbolic.travel` those of all packets at once, with the same stops
in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TypeAlias

from msgspec import Struct, field

from .hooks import Hook
from .hosts import Listener
from .packets import Packet

Site: TypeAlias = tuple[str, int]
"""A rule's place in its table: the chain's name, and the rule's number from 1."""

CallPath: TypeAlias = tuple[Site, ...]
"""The rules whose jumps (or gotos) lead from the built-in chain to a rule, and that rule itself."""


class Evaluation(Struct, frozen=True):
    """One question put to an opaque match: a fresh choice for each of these.

    `path` ends with the rule that asks; `literal` counts that rule's literals from 0, and is TARGET for its target.  No chain is
    called twice along the same path of one hook, so that this names the evaluation.
    """

    hop: int
    hook: Hook
    table: str
    path: CallPath
    literal: int


class Truth(Enum):
    """What an opaque match may do at one evaluation."""

    MATCH = "match"
    NO_MATCH = "no match"
    DROP = "drop the packet"


class Act(Enum):
    """What happened at a stop."""

    SENT = "sent"
    """A hop begins: a frame arrived from outside, a process sent a packet, or a proxy dialled."""
    ENTERED = "entered"
    """The packet came into a chain: a built-in one, or one that a rule called."""
    MATCHED = "matched"
    """All literals of a rule held, and its target was applied (also for a rule without a target)."""
    POLICY = "policy"
    """The policy of a built-in chain decided."""
    ROUTED = "routed"
    """A routing decision: `where` is "input", "forward", or, for a packet re-routed after nat OUTPUT had
    changed its destination address, the new out-interface."""
    TRANSLATED = "translated"
    """An answer got the addresses and ports back that its connection had before NAT, or a packet behind an earlier one those that
    NAT had decided on for that one."""
    DELIVERED = "delivered"
    """A socket of `process` got the packet, through `listener`."""


class Stop(Struct, frozen=True):
    """One thing that happened.  `packet` is the packet afterwards.

    `rule` is a number for MATCHED and None otherwise.  `hook` is None for SENT, ROUTED and DELIVERED
    alone, and `table` and `chain` for these and TRANSLATED.
    """

    hop: int
    act: Act
    packet: Packet
    hook: Hook | None = None
    table: str | None = None
    chain: str | None = None
    rule: int | None = None
    where: str | None = None
    process: str | None = None
    listener: Listener | None = None


# -- ends -------------------------------------------------------------------------------------


class Socket(Struct, frozen=True):
    """A process got it and makes nothing more of it. `why` is set where a proxy accepted and does not dial."""

    process: str
    listener: Listener
    why: str | None = None


class Kernel(Struct, frozen=True):
    """The host's own kernel takes it: an ICMP packet to a local address."""


class Refused(Struct, frozen=True):
    """Delivered to this host, and nobody listens (or, for TCP, it is not a SYN that a listener would take)."""


class Dropped(Struct, frozen=True):
    """A rule, or with `rule` None the policy of the built-in chain, dropped it."""

    hook: Hook
    table: str
    chain: str
    rule: int | None


class Rejected(Struct, frozen=True):
    """A REJECT rule dropped it and told its sender `how`: by a reset, or by which ICMP error."""

    hook: Hook
    table: str
    chain: str
    rule: int
    how: str


class Lost(Struct, frozen=True):
    """The kernel dropped it, for one of the reasons below."""

    reason: str


MARTIAN = "martian source or destination"
NO_ROUTE = "no route"
NOT_FORWARDED = "forwarding is off"
NO_ADDRESS = "REDIRECT on an interface without an address"
NO_SOURCE = "MASQUERADE without an address to send from"
TTL_EXCEEDED = "time to live exceeded"
REROUTE_FAILED = "re-routing after NAT failed"
CANNOT_SEND = "the kernel refuses to send it"
NOT_UNICAST = "TCP to a broadcast or multicast address"
GIVEN_A_SOCKET = "what TPROXY gave a socket is not forwarded"
MASQUERADED_ELSEWHERE = "its connection was masqueraded for another interface"


class Left(Struct, frozen=True):
    """It left the host by this interface."""

    interface: str


class Loop(Struct, frozen=True):
    """The proxy state at the start of hop `hop` is that of the earlier hop `back_to`: the cycle repeats."""

    back_to: int


class Group(Struct, frozen=True):
    """To a broadcast or multicast address: which sockets get it is not modelled.

    `hooks` are those that the packet or a copy of it may still pass; where POSTROUTING is one of them
    a copy may leave, by `out` unless that is lo.  UDP sockets alone get one: no TCP connection comes of it
    (tcp_v4_conn_request), hence no proxy dials for it.
    """

    hooks: tuple[Hook, ...]
    out: str | None = None


class Onward(Struct, frozen=True):
    """Still travelling: the limit of hops that was asked for is reached."""


class Returned(Struct, frozen=True):
    """An answer has come back to the socket of this process that sent what is answered, from where that was sent to; or a rejection
    that the socket knows for one of what it sent."""

    process: str


OTHER_FAMILY = "a proxy dials in the other family"
SOURCE_SELECTION = "which source address the kernel selects"


class Unmodelled(Struct, frozen=True):
    """Our knowledge ends here, for the reason given; anything may happen next."""

    reason: str


End: TypeAlias = (
    Socket | Kernel | Refused | Dropped | Rejected | Lost | Left | Loop | Group | Returned | Onward | Unmodelled
)  # fmt: skip


class ProxyState(Struct, frozen=True):
    """What a proxy's next dial depends on.  `client` is None unless the proxy keeps the client's source."""

    process: str
    proxy: str
    address: int
    port: int
    client: int | None = None


class Journey(Struct, frozen=True):
    """Stops in order, then the end.  `states[n - 1]` is the proxy state that hop n was dialled from."""

    stops: tuple[Stop, ...]
    end: End
    states: tuple[ProxyState, ...] = ()
    asked: tuple[Evaluation, ...] = ()
    """The opaque matches that were asked, in order."""
    answers: Mapping[int, End] = field(default_factory=dict)
    """How the answers to its hops end, by the hop; its stops have the hop number `answer_to`.  Only where `Setting.answers`; or
    where `Setting.rejections` the rejections of its hops, likewise."""
    earlier: Journey | None = None
    """That of the packet that was sent before, where there was one."""
    behind: bool = False
    """Whether conntrack finds the first packet in the entry that the earlier one has left, or nobody knows that it does not.  Behind
    what opens a connection: whether that stands, or nobody knows that it does not."""
    doubts: tuple[str, ...] = ()
    """What it takes to be so that may not be: it proves nothing by being there."""
    answers_one: bool = False
    """Whether it is that of an answer, taken by itself."""

    @property
    def last_hop(self) -> int:
        """The number of its last hop: no answer's."""
        return max(stop.hop for stop in self.stops)

    @property
    def final(self) -> Packet:
        """The packet as it was last seen, that of an answer apart."""
        return next(stop.packet for stop in reversed(self.stops) if stop.hop >= 0)


class Choices(Struct, frozen=True):
    """The answers that neither the packet nor the host gives.

    `opaque` answers opaque matches (NO_MATCH where it is silent); `ports[n]` is the source port of
    hop n's dial, and `picks[n]` the index of the dial that the proxy chose for hop n (the last, where it
    has fewer); both default (FIRST_PORT + n, 0) where they are silent.
    """

    opaque: Mapping[Evaluation, Truth] = field(default_factory=dict)
    ports: Mapping[int, int] = field(default_factory=dict)
    picks: Mapping[int, int] = field(default_factory=dict)
    uids: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """uid and gid of hop n's dial, where the proxy's process leaves a choice; default the smallest of each."""
    drawn: Mapping[int, Mapping[str, int]] = field(default_factory=dict)
    """Of hop n's dial the fields that are carried because somebody asks for them: ttl, tos, length, tcp_options; default
    those of `Packet`.  Of an answer, by its hop number, also spi, mac (from the wire) and mark (of a socket; default 0)."""
    translated: Mapping[Evaluation, tuple[int | None, int | None]] = field(default_factory=dict)
    """The address and the port that a NAT target takes where the kernel has a choice.  `literal` of the Evaluation is
    TARGET.  Default: the first address, and the packet's own port where the target may take it, else the first; the same where it cannot take what is said."""


class Earlier(Struct, frozen=True):
    """A packet that was sent before the first packet of a journey, while conntrack's table was empty: a datagram, or where it
    `opens` the packet that has begun the connection of which that is a later one, by the same sender.

    `answered`: an answer to a datagram has been seen, if it came to a socket or left; to what opens it is told.  `assured`: of what
    was answered, the connection is two seconds old besides (net/netfilter/nf_conntrack_proto_udp.c: nf_conntrack_udp_packet,
    `stream_ts`).
    """

    sender: Sender
    packet: Packet
    choices: Choices = Choices()
    answered: bool = False
    assured: bool = False
    opens: bool = False


OF_A_CONNECTION = (
    "src",
    "dst",
    "proto",
    "sport",
    "dport",
    "icmp_type",
    "icmp_code",
    "uid",
    "gid",
    "mark",
    "device",
)
"""What all packets of a connection have in common, as they are sent, that are sent by the end which opened it."""


def answer_to(hop: int) -> int:
    """The hop number of the answer to a hop, or of its rejection, and the hop of an answer's."""
    return -1 - hop


FIRST_PORT = 40001

TARGET = -1
"""`Evaluation.literal` where a rule's target chooses."""


# -- senders ----------------------------------------------------------------------------------


class FromOutside(Struct, frozen=True):
    """A frame that arrives at `interface`, addressed to this host's MAC."""

    interface: str


class FromProcess(Struct, frozen=True):
    """A socket of this process."""

    process: str


class FromProxy(Struct, frozen=True):
    """A dial of this proxy for a connection that it accepted: hop 0 is that dial, in proxy state `state`."""

    process: str
    proxy: str


Sender: TypeAlias = FromOutside | FromProcess | FromProxy
