"""The small values that rules, hosts and claims are written with: addresses, ports, ids, names, places.

Each value is frozen, refuses nonsense when it is built, and knows how it is read and spelled.
None of them knows what it means to match: that is for `concrete` and `symbolic` to say, each in
its own words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum, IntEnum
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import TypeAlias

from msgspec import Struct

ALL_32 = 0xFFFFFFFF
ALL_128 = (1 << 128) - 1
LAST_ID = 0xFFFFFFFE
"""The greatest uid or gid; the kernel keeps 0xffffffff for "no such id"."""


class Place(Struct, frozen=True, eq=False, gc=False):
    """Where something was read: a file, a line and a column, both counted from 1 (0: not known).

    A note in the margin: any two places are equal, so that what carries one is compared by what it says.
    """

    file: str
    line: int
    column: int = 0

    def __str__(self) -> str:
        column = f":{self.column}" if self.column else ""
        return f"{self.file}:{self.line}{column}" if self.line else self.file

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Place)

    def __hash__(self) -> int:
        return 0


NOWHERE = Place("", 0)


class Family(Enum):
    """IPv4 or IPv6, numbered as in the packet's first four bits."""

    IPV4 = 4
    IPV6 = 6

    @property
    def bits(self) -> int:
        """The length of an address."""
        return 32 if self is Family.IPV4 else 128

    def __str__(self) -> str:
        return f"IPv{self.value}"


IPV4 = Family.IPV4
"""A name of its own for what is asked of every address: looking up a member of an Enum takes longer than all else."""


def read_address(text: str, family: Family = Family.IPV4) -> int:
    """An address as a number; raises ValueError for anything but four decimal octets, or an IPv6 address without a zone."""
    try:
        return int(IPv4Address(text)) if family is Family.IPV4 else _without_zone(IPv6Address(text))
    except AddressValueError:
        raise ValueError(f"{text!r} is not an {family} address") from None


def _without_zone(address: IPv6Address) -> int:
    if address.scope_id is not None:
        raise ValueError(f"{address}: an address in a rule has no zone")
    return int(address)


def spell_address(address: int, family: Family = Family.IPV4) -> str:
    """As inet_ntop has it: an IPv4 address that is mapped into IPv6 keeps its dots."""
    if family is Family.IPV4:
        return str(IPv4Address(address))
    if address >> 32 == 0xFFFF:
        return f"::ffff:{IPv4Address(address & ALL_32)}"
    return f"::{IPv4Address(address)}" if 0xFFFF < address <= ALL_32 else str(IPv6Address(address))


def bracketed(address: int, family: Family = Family.IPV4) -> str:
    """An address as it stands before a port."""
    text = spell_address(address, family)
    return text if family is Family.IPV4 else f"[{text}]"


def mask_of(length: int, family: Family = Family.IPV4) -> int:
    """The mask of a prefix length."""
    bits = family.bits
    if not 0 <= length <= bits:
        raise ValueError(f"prefix length {length} is not in 0..{bits}")
    return (1 << bits) - (1 << (bits - length))


class Net(Struct, frozen=True, gc=False):
    """Addresses that agree with `address` where `mask` has ones; host bits are kept cleared.

    iptables takes masks that are no prefixes, such as 10.0.0.1/255.0.0.255, and so do we.
    """

    address: int
    mask: int = ALL_32
    family: Family = Family.IPV4

    def __post_init__(self) -> None:
        most = ALL_32 if self.family is IPV4 else ALL_128
        address, mask = self.address, self.mask
        if not (0 <= address <= most and 0 <= mask <= most):
            raise ValueError(f"an {self.family} network has {self.family.bits} bits")
        if address & ~mask:
            raise ValueError(f"{self} has bits set beyond its mask")

    @property
    def length(self) -> int | None:
        """The prefix length, or None where the mask is no prefix."""
        ones = self.mask.bit_count()
        return ones if mask_of(ones, self.family) == self.mask else None

    @classmethod
    def read(cls, text: str, family: Family = Family.IPV4) -> Net:
        """`ADDRESS`, `ADDRESS/LENGTH` or `ADDRESS/MASK`; host bits are dropped, as iptables does."""
        host, slash, bits = text.partition("/")
        if not slash:
            mask = mask_of(family.bits, family)
        elif bits.isdecimal():
            mask = mask_of(int(bits), family)
        else:
            mask = read_address(bits, family)
        return cls(read_address(host, family) & mask, mask, family)

    @classmethod
    def prefix(cls, address: int, length: int, family: Family = Family.IPV4) -> Net:
        mask = mask_of(length, family)
        return cls(address & mask, mask, family)

    def __str__(self) -> str:
        end = self.length
        mask = spell_address(self.mask, self.family) if end is None else end
        return f"{spell_address(self.address, self.family)}/{mask}"


EVERY_ADDRESS = Net(0, 0)
"""In a set of addresses it stands for those of either family."""

EVERY_ADDRESS_6 = Net(0, 0, Family.IPV6)

LINK_LOCAL = Net.prefix(0xFE80 << 112, 10, Family.IPV6)
MAPPED = Net.prefix(0xFFFF << 32, 96, Family.IPV6)
"""IPv4 addresses as IPv6 programs write them: a socket that is given one speaks IPv4."""


class Span(Struct, frozen=True, gc=False):
    """Ports `first` to `last`, both included."""

    first: int
    last: int

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last <= 0xFFFF:
            raise ValueError(f"{self.first}:{self.last} is not a port range")

    @classmethod
    def one(cls, port: int) -> Span:
        return cls(port, port)

    @classmethod
    def read(cls, text: str) -> Span:
        """`P`, `P:Q`, `:Q`, `P:` as iptables has them, or `P-Q` as property files have them."""
        first, sep, last = text.replace("-", ":").partition(":")
        if not sep:
            return cls(int(first), int(first))
        return cls(int(first or 0), int(last or 0xFFFF))

    def __str__(self) -> str:
        return f"{self.first}" if self.first == self.last else f"{self.first}:{self.last}"


class Ids(Struct, frozen=True):
    """User or group ids `first` to `last`, both included."""

    first: int
    last: int

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last <= LAST_ID:
            raise ValueError(f"{self.first}-{self.last} is not an id range")

    @classmethod
    def read(cls, text: str) -> Ids:
        first, _, last = text.partition("-")
        return cls(int(first), int(last or first))

    def __str__(self) -> str:
        return f"{self.first}" if self.first == self.last else f"{self.first}-{self.last}"


class IdSet(Struct, frozen=True):
    """What a process's uid or gid may be: id ranges in ascending order, disjoint and not adjacent."""

    ranges: tuple[Ids, ...]

    def __post_init__(self) -> None:
        if not self.ranges:
            raise ValueError("no id is left: a process needs at least one")
        for a, b in zip(self.ranges, self.ranges[1:], strict=False):
            if a.last + 1 >= b.first:
                raise ValueError(f"id ranges {a} and {b} overlap or touch")

    @classmethod
    def of(cls, ranges: Sequence[Ids]) -> IdSet:
        """The union of any ranges, in any order."""
        merged: list[Ids] = []
        for r in sorted(ranges, key=lambda r: r.first):
            if merged and r.first <= merged[-1].last + 1:
                merged[-1] = Ids(merged[-1].first, max(merged[-1].last, r.last))
            else:
                merged.append(r)
        return cls(tuple(merged))

    @classmethod
    def read(cls, text: str) -> IdSet:
        """`1337`, `1000-1999`, `0, 1000-1999`, `any`, or any of these after `not`."""
        words = text.strip()
        if words == "any":
            return cls((Ids(0, LAST_ID),))
        if words.startswith("not "):
            gaps: list[Ids] = []
            start = 0
            for r in cls.read(words[4:]).ranges:
                if start < r.first:
                    gaps.append(Ids(start, r.first - 1))
                start = r.last + 1
            if start <= LAST_ID:
                gaps.append(Ids(start, LAST_ID))
            return cls.of(gaps)
        return cls.of([Ids.read(w.strip()) for w in words.split(",")])

    @property
    def only(self) -> int | None:
        """The one id, or None where there are several."""
        first = self.ranges[0]
        return first.first if len(self.ranges) == 1 and first.first == first.last else None

    def __str__(self) -> str:
        return "any" if self.ranges == (Ids(0, LAST_ID),) else ", ".join(map(str, self.ranges))


class Iface(Struct, frozen=True):
    """An interface name as a rule has it; a trailing `+` stands for any ending."""

    pattern: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[^\s/!]{1,15}", self.pattern):
            raise ValueError(
                f"{self.pattern!r} is no interface name: 1 to 15 characters, no blank, slash or !"
            )

    @classmethod
    def read(cls, text: str) -> Iface:
        return cls(text)

    def __str__(self) -> str:
        return self.pattern


class MarkMask(Struct, frozen=True):
    """A 32-bit value and mask; what they do to a mark is told by whoever uses them."""

    value: int
    mask: int = ALL_32

    def __post_init__(self) -> None:
        if not (0 <= self.value <= ALL_32 and 0 <= self.mask <= ALL_32):
            raise ValueError("a mark has 32 bits")

    @classmethod
    def read(cls, text: str) -> MarkMask:
        """`V` or `V/M`, decimal, octal (0...) or hexadecimal (0x...), as strtoul reads them."""
        value, slash, mask = text.partition("/")
        return cls(_number(value), _number(mask) if slash else ALL_32)

    def __str__(self) -> str:
        return f"{self.value:#x}" if self.mask == ALL_32 else f"{self.value:#x}/{self.mask:#x}"


def _number(text: str) -> int:
    if re.fullmatch(r"0[0-7]+", text):
        return int(text, 8)
    return int(text, 0)


class CtState(IntEnum):
    """Connection states, numbered by their bits in `--ctstate` (linux/netfilter/xt_conntrack.h)."""

    INVALID = 0
    ESTABLISHED = 1
    RELATED = 2
    NEW = 3
    UNTRACKED = 6


class PacketKind(Enum):
    """To whom the link layer sent a packet; the values are the kernel's (linux/if_packet.h)."""

    UNICAST = 0
    BROADCAST = 1
    MULTICAST = 2


class Ipv6Extension(IntEnum):
    """Extension headers of IPv6, by their bits in `--header` (net/ipv6/netfilter/ip6t_ipv6header.c)."""

    HOP = 0x80
    DST = 0x40
    ROUTE = 0x20
    FRAG = 0x10
    AUTH = 0x08
    ESP = 0x04
    NONE = 0x02
    PROTO = 0x01


ICMP, TCP, UDP = 1, 6, 17
DCCP, GRE, ESP, AH, ICMPV6, SCTP, UDPLITE = 33, 47, 50, 51, 58, 132, 136

PROTOCOLS: dict[str, int] = {
    "icmp": 1, "igmp": 2, "ipencap": 4, "ipv4": 4, "tcp": 6, "udp": 17, "dccp": 33, "ipv6": 41, "ipv6-route": 43, "ipv6-frag": 44,
    "gre": 47, "esp": 50, "ah": 51, "ipv6-icmp": 58, "icmpv6": 58, "ipv6-nonxt": 59, "ipv6-opts": 60, "eigrp": 88,
    "ospf": 89, "ipip": 94, "pim": 103, "ipcomp": 108, "vrrp": 112, "l2tp": 115, "sctp": 132, "mobility-header": 135,
    "ipv6-mh": 135, "mh": 135, "udplite": 136,
}  # fmt: skip
"""Protocol names of /etc/protocols that rules use; shipped, so that no machine's own table changes a reading.  The first
name of each number is the one that iptables-save prints."""

RARE_PROTOCOLS: dict[str, int] = {
    "ggp": 3, "st": 5, "egp": 8, "igp": 9, "pup": 12, "hmp": 20, "xns-idp": 22, "rdp": 27, "iso-tp4": 29, "xtp": 36,
    "ddp": 37, "idpr-cmtp": 38, "idrp": 45, "rsvp": 46, "skip": 57, "rspf": 73, "vmtp": 81, "ax.25": 93, "etherip": 97,
    "encap": 98, "isis": 124, "fc": 133, "mpls-in-ip": 137, "manet": 138, "hip": 139, "shim6": 140, "wesp": 141,
    "rohc": 142,
}  # fmt: skip
"""The others of that file, which nobody means who has mistyped a name."""

PORT_PROTOCOLS = frozenset({6, 17, 33, 132, 136})
"""Protocols whose header begins with a source and a destination port."""


def read_protocol(text: str) -> int:
    """A protocol's number, from its name or its number; 0 is `all`."""
    if text.lower() in ("all", "ip", "hopopt"):
        return 0
    if re.fullmatch(r"0[xX][0-9a-fA-F]+|[1-9][0-9]*|0[0-7]*", text) and _number(text) <= 255:
        return _number(text)
    try:
        return PROTOCOLS.get(text.lower()) or RARE_PROTOCOLS[text.lower()]
    except KeyError:
        raise ValueError(f"{text!r} is no protocol that we know") from None


_PROTOCOL_NAMES = {number: name for name, number in reversed([*PROTOCOLS.items(), *RARE_PROTOCOLS.items()])}


def spell_protocol(number: int) -> str:
    return _PROTOCOL_NAMES.get(number, str(number))


def spell_text(text: str) -> str:
    """A text as iptables-save prints it: in quotes where it is more than letters, digits, `-` and `_`."""
    if re.fullmatch(r"[\w-]+", text, re.ASCII):
        return text
    return '"' + re.sub(r"([\"\\'])", r"\\\1", text) + '"'


class TcpFlag(IntEnum):
    """The bits of the TCP header's flag byte."""

    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    PSH = 0x08
    ACK = 0x10
    URG = 0x20
    ECE = 0x40
    CWR = 0x80


class Special(Enum):
    """Address sets that need a host to be known."""

    UNICAST = "unicast"
    """Addresses whose route type is unicast in this host's tables: not local, broadcast, multicast or 0.0.0.0."""


class HostAddresses(Struct, frozen=True):
    """The non-loopback addresses of the host with this name in the property file."""

    host: str


AddressTerm: TypeAlias = Net | Special | HostAddresses


class AddressSet(Struct, frozen=True):
    """`A, B, not C`: the union of `included`, less every one of `excluded`.

    Nothing included means every address: `not C` alone is all but C.
    """

    included: tuple[AddressTerm, ...] = ()
    excluded: tuple[AddressTerm, ...] = ()

    @classmethod
    def read(cls, text: str) -> AddressSet:
        """`any`, or networks, `unicast`, and `not ...` items, separated by commas."""
        included: list[AddressTerm] = []
        excluded: list[AddressTerm] = []
        for item in (w.strip() for w in text.split(",")):
            negated = item.startswith("not ")
            word = item[4:].strip() if negated else item
            if word == "any":
                if negated:
                    raise ValueError("`not any` leaves no address")
                included.append(EVERY_ADDRESS)
            else:
                family = Family.IPV6 if ":" in word else IPV4
                term: AddressTerm = Special.UNICAST if word == "unicast" else Net.read(word, family)
                (excluded if negated else included).append(term)
        return cls(tuple(included), tuple(excluded))

    def of(self, family: Family) -> AddressSet | None:
        """Those of its addresses that are of this family; None iff it names some, and none that are."""
        included = tuple(t for t in (_of(t, family) for t in self.included) if t is not None)
        if self.included and not included:
            return None
        return AddressSet(
            included, tuple(t for t in (_of(t, family) for t in self.excluded) if t is not None)
        )

    def __str__(self) -> str:
        words = [_term(t) for t in self.included] + [f"not {_term(t)}" for t in self.excluded]
        return ", ".join(words) or "any"


def nowhere(family: Family) -> AddressSet:
    """The set that holds no address."""
    return AddressSet((), (EVERY_ADDRESS if family is IPV4 else EVERY_ADDRESS_6,))


def _of(term: AddressTerm, family: Family) -> AddressTerm | None:
    """The term as one of addresses of this family."""
    if not isinstance(term, Net):
        return term
    if term == EVERY_ADDRESS:
        return EVERY_ADDRESS if family is IPV4 else EVERY_ADDRESS_6
    return term if term.family is family else None


def _term(term: AddressTerm) -> str:
    match term:
        case Net():
            if term == EVERY_ADDRESS:
                return "any"
            return spell_address(term.address, term.family) if term.length == term.family.bits else str(term)
        case Special():
            return term.value
        case HostAddresses(host):
            return host
