"""What a rule set is: frozen data, one class for each thing that a rule can say.

`Match` and `Target` are closed unions.  Whoever gives them a meaning does so with one `match`
statement that ends in `assert_never`, so the type checker names every place that a new class has
to be added to.  What we cannot read is a member too: `Opaque`, `OpaqueTarget`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from msgspec import Struct

from .values import NOWHERE, CtState, Ids, Iface, MarkMask, Net, Place, Span

# -- matches ----------------------------------------------------------------------------------


class Source(Struct, frozen=True):
    """`-s NET`: the packet's source address lies in NET."""

    net: Net


class Destination(Struct, frozen=True):
    """`-d NET`"""

    net: Net


class InInterface(Struct, frozen=True):
    """`-i NAME`: a packet without an in-interface (OUTPUT) has the empty name, which only `+` matches
    (net/ipv4/netfilter/ip_tables.c: ip_packet_match; observed: `-i eth0` false, `! -i eth0` true, `-i +` true).
    """

    iface: Iface


class OutInterface(Struct, frozen=True):
    """`-o NAME`, likewise; empty in PREROUTING and INPUT.  All OUTPUT chains see the interface of the
    *first* routing decision, also after a NAT target has re-routed the packet.
    """

    iface: Iface


class Protocol(Struct, frozen=True):
    """`-p NAME`: the protocol number, 1 to 255 (`-p all` is no match at all)."""

    number: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= 255:
            raise ValueError(f"protocol {self.number} is not in 1..255")


class SourcePorts(Struct, frozen=True):
    """`--sport A[:B]` of tcp, udp, ...: the rule's own `-p` says which (net/netfilter/xt_tcpudp.c)."""

    ports: Span


class DestinationPorts(Struct, frozen=True):
    """`--dport A[:B]`"""

    ports: Span


class TcpFlags(Struct, frozen=True):
    """`--tcp-flags MASK COMP`: of the flags in `mask` exactly those in `set` are set.

    `--syn` is SYN,RST,ACK,FIN SYN.  Both are bytes of TcpFlag bits, of which iptables knows the lower six.
    """

    mask: int
    set: int

    def __post_init__(self) -> None:
        if not (0 <= self.mask <= 0x3F and 0 <= self.set <= 0x3F):
            raise ValueError("--tcp-flags knows FIN, SYN, RST, PSH, ACK and URG")


class IcmpType(Struct, frozen=True):
    """`--icmp-type T[/C]`: type T, any code unless one is given; `any` is type None (net/ipv4/netfilter/ip_tables.c: icmp_match)."""

    type: int | None
    code: int | None = None

    def __post_init__(self) -> None:
        if self.type is None and self.code is not None:
            raise ValueError("an ICMP code needs a type")
        if not (0 <= (self.type or 0) <= 255 and 0 <= (self.code or 0) <= 255):
            raise ValueError("ICMP types and codes are bytes")


def _fifteen(ports: tuple[Span, ...]) -> None:
    if not 1 <= sum(1 + (s.first != s.last) for s in ports) <= 15:
        raise ValueError("multiport takes one to fifteen ports, a range counting twice")


class MultiportSources(Struct, frozen=True):
    """`-m multiport --sports A,B:C` (net/netfilter/xt_multiport.c)."""

    ports: tuple[Span, ...]

    def __post_init__(self) -> None:
        _fifteen(self.ports)


class MultiportDestinations(Struct, frozen=True):
    """`-m multiport --dports A,B:C`"""

    ports: tuple[Span, ...]

    def __post_init__(self) -> None:
        _fifteen(self.ports)


class MultiportPorts(Struct, frozen=True):
    """`-m multiport --ports A,B:C`: the source or the destination port is one of these."""

    ports: tuple[Span, ...]

    def __post_init__(self) -> None:
        _fifteen(self.ports)


class OwnerIds(Struct, frozen=True):
    """`-m owner` with its criteria together, each an id range and whether it is negated.

    A packet with a socket matches iff every given criterion (negated or not) holds; one without a
    socket matches iff every given criterion is negated (net/netfilter/xt_owner.c: owner_mt).  So it
    is one match, and not one for each criterion, and `Literal` never negates it as a whole.
    """

    uid: Ids | None = None
    uid_negated: bool = False
    gid: Ids | None = None
    gid_negated: bool = False

    def __post_init__(self) -> None:
        if self.uid is None and self.gid is None:
            raise ValueError("-m owner needs --uid-owner or --gid-owner")
        if (self.uid is None and self.uid_negated) or (self.gid is None and self.gid_negated):
            raise ValueError("only a criterion that is given can be negated")


class CtStates(Struct, frozen=True):
    """`-m conntrack --ctstate A,B` or `-m state --state A,B`: the connection's state is one of these."""

    states: frozenset[CtState]

    def __post_init__(self) -> None:
        if not self.states:
            raise ValueError("--ctstate needs at least one state")


class Mark(Struct, frozen=True):
    """`-m mark --mark V[/M]`: mark & M == V; V is not masked, so 0x3/0x1 never matches (net/netfilter/xt_mark.c)."""

    mark: MarkMask


class Opaque(Struct, frozen=True):
    """A match that we do not understand, as text (`-m u32 --u32 ...`).

    Each evaluation of it is a new question whose answer nobody knows: match, no match, or drop the
    packet.  Evaluations are told apart by hop, hook and the path of calls that leads to the rule.
    """

    text: str


Match: TypeAlias = (
    Source | Destination | InInterface | OutInterface | Protocol | SourcePorts | DestinationPorts
    | TcpFlags | IcmpType | MultiportSources | MultiportDestinations | MultiportPorts | OwnerIds
    | CtStates | Mark | Opaque
)  # fmt: skip

HEADER = (Source, Destination, InInterface, OutInterface, Protocol)
"""The matches that the kernel asks before any `-m`; `Rule` keeps them first, in this order."""


class Literal(Struct, frozen=True):
    """A match, or its opposite: iptables spells negation the same way for all but owner."""

    match: Match
    negated: bool = False

    def __post_init__(self) -> None:
        if self.negated and isinstance(self.match, OwnerIds):
            raise ValueError("-m owner is negated criterion by criterion")


# -- targets ----------------------------------------------------------------------------------


class Accept(Struct, frozen=True):
    """`-j ACCEPT`: ends this table at this hook; the next tables still run."""


class Drop(Struct, frozen=True):
    """`-j DROP`"""


class Return(Struct, frozen=True):
    """`-j RETURN`: back to the caller, or to the policy from a built-in chain."""


class Jump(Struct, frozen=True):
    """`-j CHAIN`: go through CHAIN, then come back to the next rule."""

    chain: str


class Goto(Struct, frozen=True):
    """`-g CHAIN`: go through CHAIN, then come back to where this chain was called; from a built-in chain: to its policy."""

    chain: str


class Redirect(Struct, frozen=True):
    """`-j REDIRECT [--to-ports P]`, nat only: to 127.0.0.1 in OUTPUT, in PREROUTING to the first address
    of the in-interface, dropping the packet where it has none (net/netfilter/nf_nat_redirect.c).

    Ends the chain like ACCEPT.  Without a port the destination port stays.
    """

    port: int | None = None

    def __post_init__(self) -> None:
        if self.port is not None and not 1 <= self.port <= 0xFFFF:
            raise ValueError(f"{self.port} is no port to redirect to")


class Dnat(Struct, frozen=True):
    """`-j DNAT --to-destination [A][:P]`, nat PREROUTING and OUTPUT only; ends the chain like ACCEPT."""

    address: int | None
    port: int | None = None

    def __post_init__(self) -> None:
        if self.address is None and self.port is None:
            raise ValueError("DNAT needs an address, a port or both")
        if self.address == 0:
            raise ValueError("DNAT to 0.0.0.0 is not modelled: it ends at this host, with that destination")


class SetMark(Struct, frozen=True):
    """`-j MARK --set-xmark V/M`: mark = (mark & ~M) ^ V; then the next rule (net/netfilter/xt_mark.c: mark_tg).

    `--set-mark V/M` is set-xmark V/(M|V); and, or, xor are forms of it too.
    """

    mark: MarkMask


class Reject(Struct, frozen=True):
    """`-j REJECT [--reject-with TYPE]`, filter only: the packet is dropped and its sender told."""

    how: str = "icmp-port-unreachable"


class Log(Struct, frozen=True):
    """`-j LOG`, `-j NFLOG`, ...: tells somebody and goes on with the next rule. `text` is the target as it is spelled."""

    text: str


class OpaqueTarget(Struct, frozen=True):
    """A target that we do not understand, as text: it may change header, mark and verdict, so nothing
    is known of the packet from here on.
    """

    text: str


Target: TypeAlias = (
    Accept | Drop | Return | Jump | Goto | Redirect | Dnat | SetMark | Reject | Log | OpaqueTarget
)  # fmt: skip


# -- rules, chains, tables ----------------------------------------------------------------------


class Rule(Struct, frozen=True):
    """Literals that must all hold, in the order in which the kernel asks them, and what then happens.

    Two rules are equal iff they mean the same word by word; comments count, the place does not.
    """

    literals: tuple[Literal, ...] = ()
    target: Target | None = None
    comments: tuple[str, ...] = ()
    place: Place = NOWHERE

    def __post_init__(self) -> None:
        ranks = [_rank(lit.match) for lit in self.literals]
        if ranks != sorted(ranks):
            raise ValueError("header matches come first, in the order of HEADER")


def _rank(m: Match) -> int:
    kind = type(m)
    return HEADER.index(kind) if kind in HEADER else len(HEADER)


def ordered(literals: tuple[Literal, ...]) -> tuple[Literal, ...]:
    """The same literals as `Rule` wants them: header matches first, the rest in its own order."""
    return tuple(sorted(literals, key=lambda lit: _rank(lit.match)))


class Chain(Struct, frozen=True):
    """A chain's rules, numbered from 1; `policy` is None for a chain that the user made."""

    name: str
    policy: Accept | Drop | None = None
    rules: tuple[Rule, ...] = ()
    place: Place = NOWHERE


class Table(Struct, frozen=True):
    """Chains by name. Every chain that a rule names is there, and no chain reaches itself."""

    name: str
    chains: Mapping[str, Chain]

    def __post_init__(self) -> None:
        for chain in self.chains.values():
            for rule in chain.rules:
                if isinstance(rule.target, Jump | Goto) and rule.target.chain not in self.chains:
                    raise ValueError(
                        f"{self.name}/{chain.name} calls {rule.target.chain}, which is not there"
                    )
        _no_loop(self.chains)


def _no_loop(chains: Mapping[str, Chain]) -> None:
    done: set[str] = set()
    for start in chains:
        open_: list[tuple[str, list[str]]] = [(start, _called(chains[start]))]
        path = {start}
        while open_:
            name, rest = open_[-1]
            if not rest:
                open_.pop()
                path.discard(name)
                done.add(name)
                continue
            callee = rest.pop()
            if callee in path:
                raise ValueError(f"chain {callee} reaches itself; the kernel refuses to load that")
            if callee not in done:
                path.add(callee)
                open_.append((callee, _called(chains[callee])))


def _called(chain: Chain) -> list[str]:
    return [r.target.chain for r in chain.rules if isinstance(r.target, Jump | Goto)]


class RuleSet(Struct, frozen=True):
    """The tables that a dump holds, by name; a table that it does not hold is not a key."""

    tables: Mapping[str, Table]
