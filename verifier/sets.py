"""What an ip set is: frozen data, in the normal form in which the kernel stores it and `ipset save` writes it.

A set has a type, which says what its entries are made of, one element for each dimension; `Element` is a closed
union.  Ranges are spelled out, networks have their host bits cleared.  Comments, packet and byte counts and
hash sizes are no part of it: no packet is matched by them, but for counts, which grow (`counting`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from .values import ALL_32, ICMP, NOWHERE, Family, Place

ICMP6 = 58
PORTED = frozenset({6, 17, 132, 136})
"""Protocols whose ports a set sees: tcp, udp, sctp and udplite (include/linux/netfilter/ipset/ip_set_getport.h:
ip_set_proto_with_ports); not dccp."""

LONGEST_NAME = 31
MOST_IN_BITMAP = 65536
LAST_TIMEOUT = 2147483


class Kind(Enum):
    """What an element is."""

    ADDRESS = "ip"
    NET = "net"
    PORT = "port"
    NUMBER = "port number"
    MAC = "mac"
    MARK = "mark"
    INTERFACE = "iface"
    SET = "set"


class SetType(Enum):
    """The types of ipset 7, as `ipset create` names them."""

    BITMAP_IP = "bitmap:ip"
    BITMAP_IP_MAC = "bitmap:ip,mac"
    BITMAP_PORT = "bitmap:port"
    HASH_IP = "hash:ip"
    HASH_MAC = "hash:mac"
    HASH_IP_MAC = "hash:ip,mac"
    HASH_NET = "hash:net"
    HASH_NET_NET = "hash:net,net"
    HASH_IP_PORT = "hash:ip,port"
    HASH_NET_PORT = "hash:net,port"
    HASH_IP_PORT_IP = "hash:ip,port,ip"
    HASH_IP_PORT_NET = "hash:ip,port,net"
    HASH_IP_MARK = "hash:ip,mark"
    HASH_NET_PORT_NET = "hash:net,port,net"
    HASH_NET_IFACE = "hash:net,iface"
    LIST_SET = "list:set"


KINDS: Mapping[SetType, tuple[Kind, ...]] = {
    SetType.BITMAP_PORT: (Kind.NUMBER,),
    SetType.LIST_SET: (Kind.SET,),
    **{
        kind: tuple(Kind(word) for word in kind.value.partition(":")[2].split(","))
        for kind in SetType
        if kind not in (SetType.BITMAP_PORT, SetType.LIST_SET)
    },
}
"""The elements of an entry, one for each dimension.  bitmap:port alone holds ports of no protocol."""

BITMAPS = frozenset({SetType.BITMAP_IP, SetType.BITMAP_IP_MAC, SetType.BITMAP_PORT})
WITH_EXCEPTIONS = frozenset(kind for kind in SetType if Kind.NET in KINDS[kind])
"""Types whose entries may be `nomatch`."""
WITH_EVERY_NET = frozenset({SetType.HASH_NET_IFACE, SetType.HASH_NET_PORT_NET})
"""Types that hold 0.0.0.0/0 (IP_SET_HASH_WITH_NET0); observed on Linux 6.18: the others refuse it."""
WITH_MASK = frozenset({SetType.BITMAP_IP, SetType.HASH_IP, SetType.HASH_IP_PORT, SetType.HASH_NET_NET})
"""Types with `netmask`, and all but bitmap:ip with `bitmask`."""


# -- elements -----------------------------------------------------------------------------------


class Address(Struct, frozen=True):
    """One address, or with the set's mask all that are the same under it."""

    address: int


class Prefix(Struct, frozen=True):
    """A network: the address's first `length` bits; the others are 0."""

    address: int
    length: int


class ProtocolPort(Struct, frozen=True):
    """A protocol and its port: for icmp and ipv6-icmp the type times 256 and the code, for those of `PORTED` the
    port, for all others 0 (net/netfilter/ipset/ip_set_getport.c: get_port).
    """

    protocol: int
    port: int

    def __post_init__(self) -> None:
        if not 1 <= self.protocol <= 255:
            raise ValueError(f"protocol {self.protocol} is not in 1..255")
        if not 0 <= self.port <= 0xFFFF:
            raise ValueError(f"{self.port} is no port: they end at 65535")
        if self.port and self.protocol not in PORTED and self.protocol not in (ICMP, ICMP6):
            raise ValueError(f"a set sees no ports of protocol {self.protocol}: only 0 can be given")


class PortNumber(Struct, frozen=True):
    """A port of tcp or of udp (bitmap:port)."""

    number: int


class Mac(Struct, frozen=True):
    """A hardware address, 48 bits."""

    address: int

    def __post_init__(self) -> None:
        if not 0 <= self.address < 1 << 48:
            raise ValueError("a hardware address has 48 bits")


class NoMac(Struct, frozen=True):
    """In bitmap:ip,mac: the hardware address that the first packet to match will have, and fill in."""


class MarkValue(Struct, frozen=True):
    """A packet's mark, under the set's mark mask."""

    mark: int


class InterfaceName(Struct, frozen=True):
    """An interface, or with `wildcard` every one whose name begins so; `physical` is `physdev:`, a bridge's port."""

    name: str
    wildcard: bool = False
    physical: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[^\s,/\"]{1,15}", self.name):
            raise ValueError(
                f"{self.name!r} is no interface name: 1 to 15 characters, no blank, comma, slash or quote"
            )


class Member(Struct, frozen=True):
    """The name of a set, in a list of sets."""

    name: str


Element: TypeAlias = (
    Address | Prefix | ProtocolPort | PortNumber | Mac | NoMac | MarkValue | InterfaceName | Member
)

_CLASSES: Mapping[Kind, tuple[type, ...]] = {
    Kind.ADDRESS: (Address,),
    Kind.NET: (Prefix,),
    Kind.PORT: (ProtocolPort,),
    Kind.NUMBER: (PortNumber,),
    Kind.MAC: (Mac, NoMac),
    Kind.MARK: (MarkValue,),
    Kind.INTERFACE: (InterfaceName,),
    Kind.SET: (Member,),
}

_CLASSES_OF = {kind: tuple(_CLASSES[k] for k in kinds) for kind, kinds in KINDS.items()}


class Entry(Struct, frozen=True):
    """One element for each dimension.

    A `nomatch` entry is an exception: what it holds of is not in the set, though a wider entry may hold of it.
    `timeout` is None where the set has none, 0 where the entry stays for ever, else seconds until it goes.
    """

    elements: tuple[Element, ...]
    nomatch: bool = False
    timeout: int | None = None


class Range(Struct, frozen=True):
    """What a bitmap has room for: addresses, or for bitmap:port ports, both ends included."""

    first: int
    last: int

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last <= ALL_32:
            raise ValueError("a range has a first number and a last, not less")


class IpSet(Struct, frozen=True, cache_hash=True):
    """A set's name, type and entries, in the kernel's order.

    The order matters where entries of hash:net,iface with one network and overlapping wildcards are not all
    `nomatch` or all not: the first that fits decides; and it is the order of a list's members.
    """

    name: str
    type: SetType
    entries: tuple[Entry, ...] = ()
    family: Family | None = None
    mask: int | None = None
    """`netmask` or `bitmask`: addresses are the same iff they are under it; None where all bits count."""
    mark_mask: int = ALL_32
    range: Range | None = None
    timeout: int | None = None
    """Seconds that an entry stays unless it says otherwise, 0 for ever; None where entries have no time limit."""
    counters: bool = False
    skbinfo: bool = False
    """Entries hold marks, priorities and queues for `-j SET --map-set`."""
    place: Place = NOWHERE

    def __post_init__(self) -> None:
        _head(self)
        for entry in self.entries:
            check(self, entry)
        keys = {entry.elements for entry in self.entries}
        if self.type is SetType.BITMAP_IP_MAC:
            keys = {entry.elements[:1] for entry in self.entries}
        if len(keys) != len(self.entries):
            raise ValueError(f"an entry is twice in {self.name}")


def _head(s: IpSet) -> None:
    kinds = KINDS[s.type]
    if not re.fullmatch(rf"[^\s\"]{{1,{LONGEST_NAME}}}", s.name):
        raise ValueError(f"{s.name!r} is no name of a set: 1 to {LONGEST_NAME} characters, no blank or quote")
    if (s.family is None) == (Kind.ADDRESS in kinds or Kind.NET in kinds):
        raise ValueError(f"{s.type.value} has a family iff its entries have addresses")
    if s.family is Family.IPV6 and s.type in BITMAPS:
        raise ValueError(f"{s.type.value} is of family inet")
    if (s.range is None) == (s.type in BITMAPS):
        raise ValueError("a bitmap has a range, and only a bitmap has")
    if s.mask is not None and s.family is not None:
        if s.type not in WITH_MASK:
            raise ValueError(f"{s.type.value} has neither netmask nor bitmask")
        if not 0 < s.mask < (1 << s.family.bits) - 1:
            raise ValueError("a netmask or bitmask has some bits, and not all, which is none")
    if not 0 < s.mark_mask <= ALL_32 or (s.mark_mask != ALL_32 and s.type is not SetType.HASH_IP_MARK):
        raise ValueError("markmask is for hash:ip,mark, with 1 to 32 bits set")
    if s.range is not None:
        _bitmap(s, s.range)
    if s.timeout is not None and not 0 <= s.timeout <= LAST_TIMEOUT:
        raise ValueError(f"a timeout is 0 to {LAST_TIMEOUT} seconds")


def _bitmap(s: IpSet, r: Range) -> None:
    step = 1
    if s.mask is not None:
        step = (1 << 32) - s.mask
        if step & (step - 1):
            raise ValueError("bitmap:ip has a netmask, which is a prefix")
        if r.first % step or (r.last + 1) % step:
            raise ValueError("the range of a bitmap begins and ends with its networks")
    if r.last > (0xFFFF if s.type is SetType.BITMAP_PORT else ALL_32):
        raise ValueError("the range of a bitmap ends beyond its numbers")
    if (r.last - r.first + 1) // step > MOST_IN_BITMAP:
        raise ValueError(f"a bitmap has room for {MOST_IN_BITMAP} entries")


def check(s: IpSet, entry: Entry) -> None:
    """Raises ValueError where the set cannot hold this entry."""
    kinds = _CLASSES_OF[s.type]
    if len(entry.elements) != len(kinds):
        raise ValueError(f"an entry of {s.type.value} has {len(kinds)} elements")
    for element, classes in zip(entry.elements, kinds, strict=True):
        if type(element) not in classes:
            raise ValueError(f"{type(element).__name__} is no element of {s.type.value}")
        _element(s, element)
    if entry.nomatch and s.type not in WITH_EXCEPTIONS:
        raise ValueError(f"{s.type.value} has no nomatch entries")
    if (entry.timeout is None) != (s.timeout is None):
        raise ValueError("entries have timeouts iff their set has")
    if entry.timeout is not None and not 0 <= entry.timeout <= LAST_TIMEOUT:
        raise ValueError(f"a timeout is 0 to {LAST_TIMEOUT} seconds")


def _element(s: IpSet, element: Element) -> None:
    bits = s.family.bits if s.family else 0
    match element:
        case Address(address):
            if not 0 <= address < 1 << bits:
                raise ValueError(f"an address of {s.name} has {bits} bits")
            if s.mask is not None and address & ~s.mask:
                raise ValueError(f"an address of {s.name} has bits beyond its mask")
            if s.type is SetType.HASH_IP and not address:
                raise ValueError("a hash holds no address that is 0")
            if s.range is not None and not s.range.first <= address <= s.range.last:
                raise ValueError(f"an address is out of the range of {s.name}")
        case Prefix(address, length):
            if not (0 if s.type in WITH_EVERY_NET else 1) <= length <= bits:
                raise ValueError(f"{s.type.value} holds no prefix of length {length}")
            if not 0 <= address < 1 << bits or address & ((1 << (bits - length)) - 1):
                raise ValueError(f"a network of {s.name} has bits set beyond its prefix")
            if s.mask is not None and address & ~s.mask:
                raise ValueError(f"a network of {s.name} has bits beyond its mask")
        case ProtocolPort(protocol):
            if protocol == (ICMP6 if s.family is Family.IPV4 else ICMP):
                raise ValueError("icmp is for family inet, ipv6-icmp for family inet6")
        case PortNumber(number):
            if s.range is None or not s.range.first <= number <= s.range.last:
                raise ValueError(f"port {number} is out of the range of {s.name}")
        case NoMac():
            if s.type is not SetType.BITMAP_IP_MAC:
                raise ValueError(f"an entry of {s.type.value} needs a hardware address")
        case MarkValue(mark):
            if not 0 <= mark <= ALL_32 or mark & ~s.mark_mask:
                raise ValueError("a mark has 32 bits, none of them beyond markmask")
        case Mac(address):
            if not address and s.type is not SetType.BITMAP_IP_MAC:
                raise ValueError("a hash holds no hardware address that is 0")
        case InterfaceName() | Member():
            pass


# -- what a set does -----------------------------------------------------------------------------


def changes_by_itself(s: IpSet, sets: Mapping[str, IpSet]) -> bool:
    """Whether, with no rule or command that writes it, packets change what the set holds: the first one fills in a hardware
    address that is left open (net/netfilter/ipset/ip_set_bitmap_ipmac.c: bitmap_ipmac_do_test).  A list changes with its members.
    """
    if any(isinstance(entry.elements[-1], NoMac) for entry in s.entries):
        return True
    return any(changes_by_itself(sets[name], sets) for name in members(s))


def runs_out(s: IpSet, sets: Mapping[str, IpSet]) -> bool:
    """Whether some entry of the set, or of one of its members, is there until its time is over."""
    return any(entry.timeout for entry in s.entries) or any(runs_out(sets[name], sets) for name in members(s))


def at_first(s: IpSet) -> IpSet:
    """The set as it is while all of its entries are there, of which none goes any more."""
    return replace(s, entries=tuple(replace(e, timeout=0) if e.timeout else e for e in s.entries))


def at_last(s: IpSet) -> IpSet:
    """The set as it is when every entry has gone that ever goes."""
    return replace(s, entries=tuple(e for e in s.entries if not e.timeout))


class Counting(Enum):
    """What a match that asks for counters depends on beside the entries of its set."""

    NOTHING = "the set does not count"
    COUNTERS = "whether the counters are so"
    UNKNOWN = "where an entry's counters are not so, others are asked"


def counting(s: IpSet, sets: Mapping[str, IpSet]) -> Counting:
    """Where an entry's counters are not so, it is passed by: then those decide that take out less, or that hold it by what no
    packet tells, of which we say nothing (net/netfilter/ipset/ip_set_hash_gen.h: mtype_test_cidrs, mtype_data_match).
    """
    if not s.counters:
        return Counting.NOTHING
    if any(entry.nomatch for entry in s.entries) or untold(s, sets):
        return Counting.UNKNOWN
    return Counting.COUNTERS


def untold(s: IpSet, sets: Mapping[str, IpSet]) -> Sequence[Element]:
    """The elements of the set and its members that ask for what a packet does not tell."""
    its = [
        e
        for entry in s.entries
        for e in entry.elements
        if isinstance(e, Mac | NoMac) or (isinstance(e, InterfaceName) and e.physical)
    ]
    return [*its, *(e for name in members(s) for e in untold(sets[name], sets))]


def members(s: IpSet) -> Sequence[str]:
    """The names of the sets that a list of sets holds, in their order."""
    return [e.name for entry in s.entries for e in entry.elements if isinstance(e, Member)]
