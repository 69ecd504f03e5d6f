"""An entry's text, as `10.0.0.0/24,tcp:80-81`, as the elements that the kernel stores for it.

Ranges become addresses, networks and ports one by one, as the kernel makes them.  Names come from the tables
here, never from the machine that reads.  What cannot be read raises ValueError.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from socket import AF_INET, AF_INET6, inet_pton

from ..sets import (
    ICMP6,
    KINDS,
    PORTED,
    Address,
    Element,
    InterfaceName,
    IpSet,
    Kind,
    Mac,
    MarkValue,
    Member,
    NoMac,
    PortNumber,
    Prefix,
    ProtocolPort,
    SetType,
)
from ..values import ICMP, TCP, Family, read_address, read_protocol
from .scalars import number, port

MOST = 1 << 20
"""How many entries one line may stand for."""


class TooMany(ValueError):
    """A line that stands for more entries than any set of ours holds."""


def entries(s: IpSet, text: str, wildcard: bool, steps: bool) -> Iterator[tuple[Element, ...]]:
    """The elements of each entry that the text stands for, in the kernel's order.

    `s` is the set without entries.  `steps` is whether its mask was given as `netmask`: only then, and only in
    hash:ip and bitmap:ip, does the kernel walk a range of addresses from network to network; with any other mask
    it stores addresses that it will not find again (observed on Linux 6.18), so such a range is refused.
    """
    words = text.split(",")
    if s.type is SetType.BITMAP_IP_MAC and len(words) == 1:
        words.append("")
    kinds = KINDS[s.type]
    if len(words) != len(kinds):
        raise ValueError(f"an entry of {s.type.value} has {len(kinds)} elements, not {len(words)}")
    walks = s.mask is None or (steps and s.type in (SetType.HASH_IP, SetType.BITMAP_IP))
    ways = []
    for place, (kind, word) in enumerate(zip(kinds, words, strict=True)):
        if not word and kind is not Kind.MAC:
            raise ValueError("an element is missing")
        ways.append(_elements(s, kind, word, wildcard, walks, place))
    _few(prod(map(len, ways)))
    return product(*ways)


def _few(count: int) -> None:
    if count > MOST:
        raise TooMany(f"this stands for {count} entries, and at most {MOST} are read from one line")


def _elements(s: IpSet, kind: Kind, word: str, wildcard: bool, walks: bool, place: int) -> Sequence[Element]:
    match kind:
        case Kind.ADDRESS:
            # The second address of hash:ip,port,ip is a plain one; so is every address of inet6.
            return _addresses(s, word, walks, ranges=place == 0)
        case Kind.NET:
            return _nets(s, word, walks)
        case Kind.PORT:
            return _ports(word)
        case Kind.NUMBER:
            protocol, _, ports = word.rpartition(":")
            if protocol and read_protocol(protocol) not in PORTED:
                raise ValueError(f"{protocol} has no ports that a set sees")
            first, last = _port_range(ports)
            return [PortNumber(value) for value in range(first, last + 1)]
        case Kind.MAC:
            return [_mac(word) if word else NoMac()]
        case Kind.MARK:
            return [MarkValue(number(word) & s.mark_mask)]
        case Kind.INTERFACE:
            return [InterfaceName(word.removeprefix("physdev:"), wildcard, word.startswith("physdev:"))]
        case Kind.SET:
            return [Member(word)]


# -- addresses ----------------------------------------------------------------------------------------


def address(text: str, family: Family) -> int:
    """An address in full; names of hosts are not looked up."""
    text = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return int.from_bytes(inet_pton(AF_INET if family is Family.IPV4 else AF_INET6, text))
    except (OSError, ValueError):
        return read_address(text, family)


def address_range(word: str, family: Family) -> tuple[int, int]:
    """The first and the last address of `A`, `A/LENGTH` or, in family inet, `A-B`, in either order."""
    host, slash, length = word.partition("/")
    if slash:
        if not (length.isdecimal() and length.isascii() and len(length) < 4) or int(length) > family.bits:
            raise ValueError(f"{length!r} is no prefix length: they end at {family.bits}")
        size = 1 << (family.bits - int(length))
        first = address(host, family) & -size
        return first, first + size - 1
    low, dash, high = word.partition("-") if family is Family.IPV4 else (word, "", "")
    first, last = sorted((address(low, family), address(high if dash else low, family)))
    return first, last


def _addresses(s: IpSet, word: str, walks: bool, ranges: bool) -> list[Element]:
    assert s.family is not None
    first, last = address_range(word, s.family)
    mask = (1 << s.family.bits) - 1 if s.mask is None else s.mask
    if first == last:
        return [Address(first & mask)]
    if s.family is Family.IPV6 or not ranges:
        raise ValueError("one plain address is wanted here")
    if s.type is SetType.BITMAP_IP_MAC:
        raise ValueError("bitmap:ip,mac takes one address at a time")
    if not walks:
        raise ValueError(
            "with this mask, one plain address is wanted: the kernel does not mask those of a range"
        )
    step = 1 if s.mask is None else (1 << s.family.bits) - s.mask
    numbers = range(first & mask, last + 1, step)
    _few(len(numbers))
    return [Address(value) for value in numbers]


def _nets(s: IpSet, word: str, walks: bool) -> list[Element]:
    assert s.family is not None
    bits = s.family.bits
    first, last = address_range(word, s.family)
    mask = (1 << bits) - 1 if s.mask is None else s.mask
    if "/" in word or first == last:
        return [Prefix(first & mask, bits + 1 - (last - first + 1).bit_length())]
    if not walks:
        raise ValueError("with a mask, one network is wanted: the kernel does not mask those of a range")
    if last - first == (1 << bits) - 1:
        raise ValueError("a range of all addresses is none that the kernel takes")
    out: list[Element] = []
    while first <= last:
        # The largest network that begins at `first` and ends by `last` (net/netfilter/ipset/pfxlen.c: ip_set_range_to_cidr).
        size = min(first & -first or 1 << bits, 1 << ((last - first + 1).bit_length() - 1))
        out.append(Prefix(first, bits + 1 - size.bit_length()))
        first += size
    return out


# -- ports and hardware addresses ---------------------------------------------------------------------


def _ports(word: str) -> list[Element]:
    name, colon, ports = word.partition(":")
    protocol = _protocol(name) if colon else TCP
    ports = ports if colon else word
    if protocol in (ICMP, ICMP6):
        return [ProtocolPort(protocol, _icmp(ports, ICMP_NAMES if protocol == ICMP else ICMP6_NAMES))]
    first, last = _port_range(ports)
    if protocol not in PORTED and (first or last):
        raise ValueError(f"a set sees no ports of {name}: only {name}:0 can be given")
    return [ProtocolPort(protocol, value) for value in range(first, last + 1)]


def _protocol(name: str) -> int:
    return _MORE_PROTOCOLS.get(name.lower()) or read_protocol(name)


def _port_range(text: str) -> tuple[int, int]:
    """`P` or `P-Q`, each a number or a service's name, which is in brackets if it has a dash."""
    found = re.fullmatch(r"(?:\[([^]]+)\]|([^-\[\]]+))(?:-(?:\[([^]]+)\]|([^-\[\]]+)))?", text)
    if found is None:
        raise ValueError(f"{text!r} is no port, and no range of ports")
    first = port(found[1] or found[2])
    last = port(found[3] or found[4]) if found[3] or found[4] else first
    return min(first, last), max(first, last)


def _icmp(text: str, names: dict[str, tuple[int, int]]) -> int:
    known = names.get(text.lower())
    if known is not None:
        return known[0] << 8 | known[1]
    kind, slash, code = text.partition("/")
    if not slash:
        raise ValueError(f"{text!r} is no type and code, and no name of one that ipset knows")
    both = number(kind), number(code)
    if max(both) > 255:
        raise ValueError("types and codes end at 255")
    return both[0] << 8 | both[1]


def _mac(text: str) -> Mac:
    if not re.fullmatch(r"[0-9a-fA-F]{1,2}(:[0-9a-fA-F]{1,2}){5}", text):
        raise ValueError(f"{text!r} is no hardware address")
    return Mac(int.from_bytes(bytes(int(byte, 16) for byte in text.split(":"))))


_MORE_PROTOCOLS = {
    "icmpv6": 58, "ggp": 3, "st": 5, "egp": 8, "igp": 9, "pup": 12, "hmp": 20, "xns-idp": 22, "rdp": 27,
    "iso-tp4": 29, "xtp": 36, "ddp": 37, "idpr-cmtp": 38, "ipv6-route": 43, "ipv6-frag": 44, "idrp": 45,
    "rsvp": 46, "skip": 57, "ipv6-nonxt": 59, "ipv6-opts": 60, "rspf": 73, "vmtp": 81, "eigrp": 88,
    "ospfigp": 89, "ax.25": 93, "ipip": 94, "etherip": 97, "encap": 98, "ipcomp": 108, "l2tp": 115,
    "isis": 124, "fc": 133, "mobility-header": 135, "mpls-in-ip": 137, "manet": 138, "hip": 139, "shim6": 140,
    "wesp": 141, "rohc": 142,
}  # fmt: skip
"""Names of /etc/protocols that `ipset save` may print, beyond those of `values.PROTOCOLS`."""

ICMP_NAMES: dict[str, tuple[int, int]] = {
    "echo-reply": (0, 0), "pong": (0, 0), "network-unreachable": (3, 0), "host-unreachable": (3, 1),
    "protocol-unreachable": (3, 2), "port-unreachable": (3, 3), "fragmentation-needed": (3, 4),
    "source-route-failed": (3, 5), "network-unknown": (3, 6), "host-unknown": (3, 7),
    "network-prohibited": (3, 9), "host-prohibited": (3, 10), "tos-network-unreachable": (3, 11),
    "tos-host-unreachable": (3, 12), "communication-prohibited": (3, 13), "host-precedence-violation": (3, 14),
    "precedence-cutoff": (3, 15), "source-quench": (4, 0), "network-redirect": (5, 0), "host-redirect": (5, 1),
    "tos-network-redirect": (5, 2), "tos-host-redirect": (5, 3), "echo-request": (8, 0), "ping": (8, 0),
    "router-advertisement": (9, 0), "router-solicitation": (10, 0), "ttl-zero-during-transit": (11, 0),
    "ttl-zero-during-reassembly": (11, 1), "ip-header-bad": (12, 0), "required-option-missing": (12, 1),
    "timestamp-request": (13, 0), "timestamp-reply": (14, 0), "address-mask-request": (17, 0),
    "address-mask-reply": (18, 0),
}  # fmt: skip
ICMP6_NAMES: dict[str, tuple[int, int]] = {
    "no-route": (1, 0), "communication-prohibited": (1, 1), "address-unreachable": (1, 3),
    "port-unreachable": (1, 4), "packet-too-big": (2, 0), "ttl-zero-during-transit": (3, 0),
    "ttl-zero-during-reassembly": (3, 1), "bad-header": (4, 0), "unknown-header-type": (4, 1),
    "unknown-option": (4, 2), "echo-request": (128, 0), "ping": (128, 0), "echo-reply": (129, 0),
    "pong": (129, 0), "router-solicitation": (133, 0), "router-advertisement": (134, 0),
    "neighbour-solicitation": (135, 0), "neigbour-solicitation": (135, 0),
    "neighbour-advertisement": (136, 0), "neigbour-advertisement": (136, 0), "redirect": (137, 0),
}  # fmt: skip
"""Types and codes by the names that `ipset help hash:ip,port` lists, in small letters."""
