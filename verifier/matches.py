"""What a rule may ask of a packet: frozen data, one class for each match, `Match` their closed union.

A match that the kernel negates as a whole is negated by its `Literal`.  Where the kernel negates each
criterion for itself, or says no whether negated or not, the class holds its own negations (`OWN_NEGATION`).
"""

from __future__ import annotations

from enum import Enum
from typing import TypeAlias

from msgspec import Struct

from .values import CtState, Family, Ids, Iface, MarkMask, Net, PacketKind, Span


class Source(Struct, frozen=True, gc=False):
    """`-s NET`: the packet's source address lies in NET."""

    net: Net


class Destination(Struct, frozen=True, gc=False):
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


class Fragment(Struct, frozen=True):
    """`-f`: a fragment that is not the first (net/ipv4/netfilter/ip_tables.c: ip_packet_match).

    Journeys are told of whole packets, and where conntrack is on no table sees any other: there fragments are put
    together before raw (net/ipv4/netfilter/nf_defrag_ipv4.c).  So it never holds, but by the rules alone nobody knows.
    """


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
    """`--icmp-type T[/C[:D]]`: type T, any code unless one is given, or with `last` a range of them; `any` is type None
    (net/ipv4/netfilter/ip_tables.c: icmp_match).
    """

    type: int | None
    code: int | None = None
    last: int | None = None

    def __post_init__(self) -> None:
        if self.type is None and self.code is not None:
            raise ValueError("an ICMP code needs a type")
        _icmp(self.type or 0, self.code, self.last)


def _icmp(kind: int, code: int | None, last: int | None) -> None:
    if not (0 <= kind <= 255 and 0 <= (code or 0) <= 255 and 0 <= (last or 0) <= 255):
        raise ValueError("ICMP types and codes are bytes")
    if last is not None and (code is None or code == last or (code, last) == (0, 255)):
        raise ValueError(
            "a range of ICMP codes has a first and a last, and is neither one code nor every code"
        )


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


def _ordered(first: int, last: int, bits: int, what: str) -> None:
    if not 0 <= first <= last < 1 << bits:
        raise ValueError(f"{first}..{last} is not {what}")


class TcpOption(Struct, frozen=True):
    """`--tcp-option N`: the TCP header has an option of this kind (net/netfilter/xt_tcpudp.c: tcp_find_option)."""

    number: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= 255:
            raise ValueError("a TCP option's kind is in 1..255")


class ChunkFlags(Struct, frozen=True):
    """`DATA:Be`: of the flags in `mask` those in `value` are set, and the others are not."""

    chunk: int
    mask: int
    value: int

    def __post_init__(self) -> None:
        bits = {0: 0xF, 6: 1, 14: 1}.get(self.chunk, 0)
        if not 0 < self.mask <= bits or self.value & ~self.mask:
            raise ValueError("a chunk has these flags, of which some are asked for")


class SctpChunks(Struct, frozen=True):
    """`-p sctp --chunk-types any|all|only A,B:FLAGS`: chunk types (0 to 255) of the packet against these
    (net/netfilter/xt_sctp.c: match_packet); `only` holds of a packet that has none but listed ones.

    A chunk counts iff its flags are as asked: `any` wants one chunk that does, `all` one of each type, and with `only`
    every one has to.  NONE lists no type: any packet with chunks has `all` of it.
    """

    how: str
    chunks: frozenset[int]
    flags: tuple[ChunkFlags, ...] = ()
    """At most one of each type, in ascending order."""

    def __post_init__(self) -> None:
        if self.how not in ("any", "all", "only"):
            raise ValueError("--chunk-types takes any, all or only")
        if not all(0 <= c <= 255 for c in self.chunks):
            raise ValueError("SCTP chunk types are bytes")
        asked = [f.chunk for f in self.flags]
        if asked != sorted(set(asked) & self.chunks) or (asked and len(self.chunks) == 256):
            raise ValueError("flags are those of chunks that are listed, each once and in order")


class DccpTypes(Struct, frozen=True):
    """`-p dccp --dccp-types A,B`: the packet's type (0 to 10, the last INVALID) is one of these (net/netfilter/xt_dccp.c)."""

    types: frozenset[int]

    def __post_init__(self) -> None:
        if not self.types or not all(0 <= t <= 10 for t in self.types):
            raise ValueError("--dccp-types needs at least one of eleven types")


class DccpOption(Struct, frozen=True):
    """`-p dccp --dccp-option N`"""

    number: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= 255:
            raise ValueError("a DCCP option is in 1..255")


class Icmp6Type(Struct, frozen=True):
    """`-p ipv6-icmp --icmpv6-type T[/C[:D]]`: as `IcmpType` (net/ipv6/netfilter/ip6_tables.c: icmp6_match)."""

    type: int
    code: int | None = None
    last: int | None = None

    def __post_init__(self) -> None:
        _icmp(self.type, self.code, self.last)


class Esp(Struct, frozen=True):
    """`-p esp --espspi A[:B]`: the security parameter index is in the range (net/netfilter/xt_esp.c)."""

    first: int
    last: int

    def __post_init__(self) -> None:
        _ordered(self.first, self.last, 32, "an SPI")


class Ah(Struct, frozen=True):
    """`-p ah [!] --ahspi A[:B]`, in IPv6 without `-p`: a packet without AH it never holds of, negated or not
    (net/ipv4/netfilter/ipt_ah.c, net/ipv6/netfilter/ip6t_ah.c: ah_mt6).
    """

    first: int
    last: int
    negated: bool = False

    def __post_init__(self) -> None:
        _ordered(self.first, self.last, 32, "an SPI")


class Ipv6Header(Struct, frozen=True):
    """`-m ipv6header --header A,B [--soft]`: the packet's chain of headers has exactly these extension
    headers, or with `soft` at least these (net/ipv6/netfilter/ip6t_ipv6header.c; bits as in `Ipv6Extension`).
    """

    headers: int
    soft: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.headers <= 0xFF:
            raise ValueError("--header needs at least one header")


def _addresses(first: int, last: int, family: Family) -> None:
    if not (0 <= first < 1 << family.bits and 0 <= last < 1 << family.bits):
        raise ValueError(f"an {family} address has {family.bits} bits")


class SourceRange(Struct, frozen=True):
    """`-m iprange --src-range A-B`; no address lies in a range that ends before it begins (net/netfilter/xt_iprange.c)."""

    first: int
    last: int
    family: Family = Family.IPV4

    def __post_init__(self) -> None:
        _addresses(self.first, self.last, self.family)


class DestinationRange(Struct, frozen=True):
    """`-m iprange --dst-range A-B`"""

    first: int
    last: int
    family: Family = Family.IPV4

    def __post_init__(self) -> None:
        _addresses(self.first, self.last, self.family)


class Length(Struct, frozen=True):
    """`-m length --length A[:B]`: the whole packet's bytes, IP header included (net/netfilter/xt_length.c)."""

    first: int
    last: int

    def __post_init__(self) -> None:
        _ordered(self.first, self.last, 16, "a length")


class Comparison(Enum):
    """How `-m ttl`, `-m hl` and `-m set` compare; of them `eq` alone can be negated."""

    EQUAL = "eq"
    LESS = "lt"
    GREATER = "gt"


class Ttl(Struct, frozen=True):
    """`-m ttl --ttl-eq N`, `-m hl --hl-lt N`, ...: the time to live, or hop limit (net/netfilter/xt_hl.c)."""

    comparison: Comparison
    value: int

    def __post_init__(self) -> None:
        _ordered(self.value, self.value, 8, "a time to live")


class Tos(Struct, frozen=True):
    """`-m tos --tos V/M`: tos & M == V, of the TOS or traffic class byte (net/netfilter/xt_dscp.c: tos_mt)."""

    value: int
    mask: int = 0xFF

    def __post_init__(self) -> None:
        if not (0 <= self.value <= 0xFF and 0 <= self.mask <= 0xFF):
            raise ValueError("a TOS value and its mask are bytes")


class Dscp(Struct, frozen=True):
    """`-m dscp --dscp V`: the upper six bits of the TOS byte (net/netfilter/xt_dscp.c: dscp_mt)."""

    value: int

    def __post_init__(self) -> None:
        if not 0 <= self.value <= 0x3F:
            raise ValueError("a DSCP value has six bits")


class PacketType(Struct, frozen=True):
    """`-m pkttype --pkt-type K` (net/netfilter/xt_pkttype.c); what is sent here is unicast."""

    kind: PacketKind


class MacSource(Struct, frozen=True):
    """`-m mac [!] --mac-source M`: false, negated or not, where there is no Ethernet header: over lo, and for
    what is sent here before it has one (net/netfilter/xt_mac.c: mac_mt).
    """

    address: int
    negated: bool = False

    def __post_init__(self) -> None:
        _ordered(self.address, self.address, 48, "a MAC address")


class OwnerIds(Struct, frozen=True):
    """`-m owner` with its criteria together, each an id range and whether it is negated.

    A packet with a socket matches iff every given criterion (negated or not) holds; one without a
    socket matches iff every given criterion is negated (net/netfilter/xt_owner.c: owner_mt).  So it
    is one match, and not one for each criterion, and `Literal` never negates it as a whole.

    With `supplementary` (`--suppl-groups`) the gid's criterion asks for any of the socket's groups, and a packet
    without a socket never matches, since this cannot be negated.
    """

    uid: Ids | None = None
    uid_negated: bool = False
    gid: Ids | None = None
    gid_negated: bool = False
    socket_exists: bool = False
    socket_negated: bool = False
    supplementary: bool = False

    def __post_init__(self) -> None:
        if self.uid is None and self.gid is None and not self.socket_exists:
            raise ValueError("-m owner needs --uid-owner, --gid-owner or --socket-exists")
        if (
            (self.uid is None and self.uid_negated)
            or (self.gid is None and self.gid_negated)
            or (self.socket_negated and not self.socket_exists)
        ):
            raise ValueError("only a criterion that is given can be negated")
        if self.supplementary and self.gid is None:
            raise ValueError("--suppl-groups goes with --gid-owner")


class OwnerNames(Struct, frozen=True):
    """`-m owner` as `OwnerIds`, with the name of a user or of a group among its criteria.

    The tool asks the machine that loads the rule which id that is, and the kernel knows ids alone.  `owners.told` puts them
    in the place of the names that a host tells.  Where one is left, each evaluation is a new question: match or not.
    """

    uid: Ids | str | None = None
    uid_negated: bool = False
    gid: Ids | str | None = None
    gid_negated: bool = False
    socket_exists: bool = False
    socket_negated: bool = False
    supplementary: bool = False

    def __post_init__(self) -> None:
        if self.supplementary and self.gid is None:
            raise ValueError("--suppl-groups goes with --gid-owner")
        if not isinstance(self.uid, str) and not isinstance(self.gid, str):
            raise ValueError("where there is no name, there are ids")
        if any(
            name == "" or name == "root" or name[:1].isdigit()
            for name in (self.uid, self.gid)
            if isinstance(name, str)
        ):
            raise ValueError("a name is not empty, begins with no digit, and is not root, which is 0")
        if (
            (self.uid is None and self.uid_negated)
            or (self.gid is None and self.gid_negated)
            or (self.socket_negated and not self.socket_exists)
        ):
            raise ValueError("only a criterion that is given can be negated")


class Nat(Enum):
    """Translations that `--ctstate` can ask for beside the states."""

    SNAT = "SNAT"
    DNAT = "DNAT"


class CtEnd(Enum):
    """An end of a connection, as either direction's tuple names it; the values are iptables' words."""

    ORIGINAL_SOURCE = "origsrc"
    ORIGINAL_DESTINATION = "origdst"
    REPLY_SOURCE = "replsrc"
    REPLY_DESTINATION = "repldst"


class CtStates(Struct, frozen=True):
    """`-m conntrack --ctstate A,B` or `-m state --state A,B`: the connection's state is one of these, or its
    source (SNAT) or destination (DNAT) has been translated.
    """

    states: frozenset[CtState]
    nat: frozenset[Nat] = frozenset()

    def __post_init__(self) -> None:
        if not self.states and not self.nat:
            raise ValueError("--ctstate needs at least one state")


class CtProtocol(Struct, frozen=True):
    """`--ctproto P`: the connection's protocol."""

    number: int


class CtAddress(Struct, frozen=True):
    """`--ctorigsrc`, `--ctorigdst`, `--ctreplsrc`, `--ctrepldst NET`: an address of the original or the reply tuple."""

    of: CtEnd
    net: Net


class CtPorts(Struct, frozen=True):
    """`--ctorigsrcport`, `--ctorigdstport`, `--ctreplsrcport`, `--ctrepldstport A[:B]`: a port of it."""

    of: CtEnd
    ports: Span


class CtStatus(Struct, frozen=True):
    """`--ctstatus A,B`: one of these status bits is set; NONE is no bit, and never holds."""

    bits: int


class CtExpire(Struct, frozen=True):
    """`--ctexpire A[:B]`: seconds until the connection is forgotten: nothing that a packet tells, so a free choice."""

    first: int
    last: int


class CtDirection(Struct, frozen=True):
    """`--ctdir ORIGINAL|REPLY`"""

    reply: bool


CtCriterion: TypeAlias = CtStates | CtProtocol | CtAddress | CtPorts | CtStatus | CtExpire | CtDirection


class CtTest(Struct, frozen=True):
    """A criterion of `-m conntrack`, or its opposite."""

    criterion: CtCriterion
    negated: bool = False


class Conntrack(Struct, frozen=True):
    """`-m conntrack` with criteria beyond the state alone: all of them hold.

    A packet without a connection (INVALID, UNTRACKED) is asked for its state alone: it matches iff a state is
    among the criteria and holds (net/netfilter/xt_conntrack.c: conntrack_mt).  So it is one match.
    """

    tests: tuple[CtTest, ...]

    def __post_init__(self) -> None:
        kinds = [t.criterion if isinstance(t.criterion, CtAddress | CtPorts) else None for t in self.tests]
        names = [(type(t.criterion), k and k.of) for t, k in zip(self.tests, kinds, strict=True)]
        if not self.tests or len(set(names)) < len(names):
            raise ValueError("-m conntrack takes each of its criteria once, and at least one")


class ConnMark(Struct, frozen=True):
    """`-m connmark [!] --mark V[/M]`: the connection's mark & M == V; a packet without a connection never
    matches, negated or not (net/netfilter/xt_connmark.c: connmark_mt).
    """

    mark: MarkMask
    negated: bool = False


class Mark(Struct, frozen=True):
    """`-m mark --mark V[/M]`: mark & M == V; V is not masked, so 0x3/0x1 never matches (net/netfilter/xt_mark.c)."""

    mark: MarkMask


class RouteType(Enum):
    """What the local table says of an address; the values are iptables' words, in the kernel's order (linux/rtnetlink.h)."""

    UNSPEC = "UNSPEC"
    UNICAST = "UNICAST"
    LOCAL = "LOCAL"
    BROADCAST = "BROADCAST"
    ANYCAST = "ANYCAST"
    MULTICAST = "MULTICAST"
    BLACKHOLE = "BLACKHOLE"
    UNREACHABLE = "UNREACHABLE"
    PROHIBIT = "PROHIBIT"
    THROW = "THROW"
    NAT = "NAT"
    XRESOLVE = "XRESOLVE"


class Limit(Enum):
    """Which interface alone `-m addrtype` looks at."""

    IN = "in"
    OUT = "out"


class AddressType(Struct, frozen=True):
    """`-m addrtype [!] --src-type A,B [!] --dst-type C --limit-iface-in`: what the host's local table says of the
    addresses, each criterion negated for itself (net/netfilter/xt_addrtype.c: addrtype_mt_v1).
    """

    source: frozenset[RouteType] = frozenset()
    source_negated: bool = False
    destination: frozenset[RouteType] = frozenset()
    destination_negated: bool = False
    limit: Limit | None = None

    def __post_init__(self) -> None:
        if not self.source and not self.destination:
            raise ValueError("-m addrtype needs --src-type or --dst-type")
        if (self.source_negated and not self.source) or (self.destination_negated and not self.destination):
            raise ValueError("only a criterion that is given can be negated")


class Direction(Enum):
    """Which side of a packet a dimension of a set is about."""

    SOURCE = "src"
    DESTINATION = "dst"


class Count(Struct, frozen=True):
    """`--packets-eq N`, `! --packets-eq N`, `--bytes-lt N`, ...: what is asked of an entry's counter."""

    comparison: Comparison
    number: int
    negated: bool = False

    def __post_init__(self) -> None:
        _ordered(self.number, self.number, 64, "a count")
        if self.negated and self.comparison is not Comparison.EQUAL:
            raise ValueError("of counts only `eq` is negated")


class MatchSet(Struct, frozen=True):
    """`-m set --match-set NAME src,dst [--return-nomatch]`: the packet is in the set, one direction for each of
    the set's dimensions (net/netfilter/xt_set.c).  `keep_counters` and `keep_subcounters` say that it leaves an entry's
    counters alone, which no packet meets (`! --update-counters`).

    With `packets` or `bytes` an entry counts only where its counters are so, and in a set without counters always
    (net/netfilter/ipset/ip_set_core.c: ip_set_match_extensions); a list of sets asks for its own counters alone.  They
    grow with the packets, so whether they are so is a choice like that of a `limit`.
    """

    name: str
    directions: tuple[Direction, ...]
    return_nomatch: bool = False
    keep_counters: bool = False
    keep_subcounters: bool = False
    packets: Count | None = None
    bytes: Count | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.directions) <= 6:
            raise ValueError("--match-set takes one to six directions")


class ReversePath(Struct, frozen=True):
    """`-m rpfilter [--loose] [--validmark] [--accept-local] [--invert]`: a reply to the packet would go out by the
    interface that it came in by; always so for what comes in by lo (net/ipv4/netfilter/ipt_rpfilter.c).
    """

    loose: bool = False
    valid_mark: bool = False
    accept_local: bool = False
    negated: bool = False


class SocketMatch(Struct, frozen=True):
    """`-m socket [--transparent] [--nowildcard] [--restore-skmark]`: a local socket would get the packet: with
    `nowildcard` one bound to any address counts too, with `transparent` only one with IP_TRANSPARENT;
    `restore_mark` gives the packet the socket's mark (net/netfilter/xt_socket.c).
    """

    transparent: bool = False
    nowildcard: bool = False
    restore_mark: bool = False


class Physdev(Struct, frozen=True):
    """`-m physdev`: the bridge ports of a bridged packet.  One that is not bridged matches iff every given
    criterion is negated (net/netfilter/xt_physdev.c: physdev_mt).
    """

    inside: Iface | None = None
    inside_negated: bool = False
    outside: Iface | None = None
    outside_negated: bool = False
    is_in: bool | None = None
    """None: not asked; False: `! --physdev-is-in`."""
    is_out: bool | None = None
    is_bridged: bool | None = None

    def __post_init__(self) -> None:
        asked = (self.inside, self.outside, self.is_in, self.is_out, self.is_bridged)
        if all(criterion is None for criterion in asked):
            raise ValueError("-m physdev needs a criterion")
        if (self.inside_negated and self.inside is None) or (self.outside_negated and self.outside is None):
            raise ValueError("only a criterion that is given can be negated")


class Chance(Struct, frozen=True):
    """A match that no packet decides, known by name, with its options as iptables-save spells them: `statistic`,
    `limit`, `hashlimit`, `recent`, `connlimit`, `time`, `quota`.  Each evaluation is a new choice: match or not.

    `certain` is what it says of every packet, where that is so: `recent --set` has remembered whoever it is asked about
    (net/netfilter/xt_recent.c: recent_mt), and a probability may be 0 or 1 (net/netfilter/xt_statistic.c: statistic_mt).
    """

    module: str
    options: str
    certain: bool | None = None


class Opaque(Struct, frozen=True):
    """A match that we do not understand, as text (`-m u32 --u32 ...`).

    Each evaluation of it is a new question whose answer nobody knows: match, no match, or drop the
    packet.  Evaluations are told apart by hop, hook and the path of calls that leads to the rule.
    """

    text: str


Match: TypeAlias = (
    Source | Destination | InInterface | OutInterface | Protocol | Fragment | SourcePorts | DestinationPorts
    | TcpFlags | TcpOption | SctpChunks | DccpTypes | DccpOption | IcmpType | Icmp6Type | Esp | Ah | Ipv6Header
    | MultiportSources | MultiportDestinations | MultiportPorts | SourceRange | DestinationRange
    | Length | Ttl | Tos | Dscp | PacketType | MacSource | OwnerIds | OwnerNames | CtStates | Conntrack | Mark | ConnMark
    | AddressType | MatchSet | ReversePath | SocketMatch | Physdev | Chance | Opaque
)  # fmt: skip

OWN_NEGATION = (Ah, OwnerIds, OwnerNames, Conntrack, ConnMark, MacSource, AddressType, ReversePath, Physdev)
"""Matches that hold their own negations."""

HEADER = (Source, Destination, InInterface, OutInterface, Protocol, Fragment)
"""The matches that the kernel asks before any `-m`; `Rule` keeps them first, in this order."""


class Literal(Struct, frozen=True, gc=False):
    """A match, or its opposite: iptables spells negation the same way for all but those that hold their own."""

    match: Match
    negated: bool = False

    def __post_init__(self) -> None:
        if self.negated and isinstance(self.match, OWN_NEGATION):
            raise ValueError(f"{type(self.match).__name__} is negated criterion by criterion")
