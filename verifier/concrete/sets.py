"""Whether one packet is in an ip set: its fields are masked, and looked up in a hash index.

What a packet does not tell is not known: its hardware addresses and a bridge's ports, and so whether it is in
hash:mac, hash:ip,mac, bitmap:ip,mac (once the address is there) or a network with `physdev:` entries.  An entry whose time
runs may be there or not whenever it is asked for, each by itself; what is passed by is as if it were not there
(net/netfilter/ipset/ip_set_core.c: ip_set_match_extensions).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from functools import lru_cache
from typing import TypeAlias, assert_never

from msgspec import Struct

from ..matches import Direction
from ..packets import Packet
from ..sets import (
    ICMP6,
    KINDS,
    PORTED,
    WITH_EXCEPTIONS,
    Address,
    Element,
    Entry,
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
from ..values import ICMP, TCP, UDP, Family

Hosts: TypeAlias = tuple[int, ...]
"""How many of its last bits each network leaves open."""
Key: TypeAlias = tuple[int | tuple[int, int], ...]


NO, YES = frozenset({False}), frozenset({True})


class Found(Enum):
    """What the kernel's lookup returns: 1, 0, -ENOTEMPTY, or something that the packet does not tell."""

    IN = "in"
    OUT = "out"
    EXCEPTED = "nomatch"
    UNKNOWN = "unknown"


def holds(
    s: IpSet,
    sets: Mapping[str, IpSet],
    packet: Packet,
    directions: Sequence[Direction],
    return_nomatch: bool = False,
) -> frozenset[bool] | None:
    """Whether `--match-set NAME DIRECTIONS [--return-nomatch]` holds of the packet: both where entries decide that may have gone;
    None where nobody can say.

    Fewer directions than the set's type has dimensions, or a set of the other family, never hold; directions
    beyond that are not looked at (net/netfilter/ipset/ip_set_core.c: ip_set_test).  A list of sets holds iff one
    of its members does, each looked at so, until its own time in the list is over (ip_set_list_set.c: list_set_ktest).
    `sets` has all members by name.
    """
    if len(directions) < len(KINDS[s.type]):
        return NO
    if s.type is SetType.LIST_SET:
        possible: frozenset[bool] = NO
        unsure = False
        for entry in s.entries:
            for member in entry.elements:
                assert isinstance(member, Member)
                inside = holds(sets[member.name], sets, packet, directions, return_nomatch)
                if inside == YES and not entry.timeout:
                    return YES
                unsure = unsure or inside is None
                possible |= inside or NO
        return None if unsure else possible
    found = lookup(s, packet, directions)
    if Found.UNKNOWN in found:
        return None
    exceptions = return_nomatch and s.type in WITH_EXCEPTIONS
    return frozenset(one is (Found.EXCEPTED if exceptions else Found.IN) for one in found)


def lookup(s: IpSet, packet: Packet, directions: Sequence[Direction]) -> frozenset[Found]:
    """What the lookup may return.  The most specific entry decides that is there: by the first network's prefix, then by the
    second's (net/netfilter/ipset/ip_set_hash_gen.h: mtype_test_cidrs).
    """
    found: set[Found] = set()
    if s.family in (None, packet.family):
        index = _index(s)
        for hosts, entries in index.levels:
            key = _key(index, hosts, packet, directions)
            if key is None:
                break
            if key not in entries:
                continue
            said, wider = _decided(entries[key], packet, directions)
            found |= said
            if not wider:
                return frozenset(found)
    return frozenset(found | {Found.OUT})


def _decided(
    entries: Sequence[Entry], packet: Packet, directions: Sequence[Direction]
) -> tuple[set[Found], bool]:
    """What entries may say that agree with the packet in all that the index has, and whether wider ones may be asked.

    In hash:net,iface the first whose interface fits decides, and once the packet's network is there, with
    whatever interface, wider ones are *not* asked (ip_set_hash_netiface.c: hash_netiface4_data_equal counts
    `multi`, which ends the walk, unless an entry that fits comes later whose time is over).  A `physdev:` entry matched
    no packet that was tried on Linux 6.18, and ends the walk only where its hash falls into the same bucket: unknown.
    """
    said: set[Found] = set()
    stays = False
    for entry in entries:
        element = entry.elements[-1]
        match element:
            case InterfaceName(name, wildcard, physical):
                seen = packet.in_iface if directions[1] is Direction.SOURCE else packet.out_iface
                if physical:
                    said.add(Found.UNKNOWN)
                elif seen == name or (wildcard and seen is not None and seen.startswith(name)):
                    said.add(_said(entry))
                    if not entry.timeout:
                        return said - {Found.OUT, Found.UNKNOWN}, False
                else:
                    said.add(Found.OUT)
                    stays = stays or not entry.timeout
            case Mac() | NoMac():
                return {Found.UNKNOWN}, False
            case Address() | Prefix() | ProtocolPort() | PortNumber() | MarkValue():
                return {_said(entry)}, bool(entry.timeout)
            case Member():
                raise AssertionError("a list of sets is not looked up")
            case _:
                assert_never(element)
    return said, not stays or not said <= {Found.OUT}


def _said(entry: Entry) -> Found:
    return Found.EXCEPTED if entry.nomatch else Found.IN


# -- the packet's side ------------------------------------------------------------------------------


def _key(index: _Index, hosts: Hosts, packet: Packet, directions: Sequence[Direction]) -> Key | None:
    """The packet as an entry of the set, without the bits that its networks leave open; None where it cannot be one."""
    parts: list[int | tuple[int, int]] = []
    cut = iter(hosts)
    for kind, direction in zip(index.kinds, directions, strict=False):
        source = direction is Direction.SOURCE
        address = (packet.src if source else packet.dst) & index.mask
        match kind:
            case Kind.ADDRESS:
                parts.append(address)
            case Kind.NET:
                parts.append(address >> (bits := next(cut)) << bits)
            case Kind.PORT:
                if packet.proto == 0:
                    return None
                parts.append((packet.proto, _port(packet, source)))
            case Kind.NUMBER:
                if packet.proto not in (TCP, UDP):
                    return None
                parts.append(packet.sport if source else packet.dport)
            case Kind.MARK:
                parts.append(packet.mark & index.mark_mask)
            case Kind.INTERFACE:
                if not (packet.in_iface if source else packet.out_iface):
                    return None
            case Kind.MAC:
                pass
            case Kind.SET:
                raise AssertionError("a list of sets is not looked up")
            case _:
                assert_never(kind)
    return tuple(parts)


def _port(packet: Packet, source: bool) -> int:
    """(net/netfilter/ipset/ip_set_getport.c: get_port)"""
    if packet.proto in PORTED:
        return packet.sport if source else packet.dport
    if packet.proto == (ICMP6 if packet.family is Family.IPV6 else ICMP):
        return packet.icmp_type << 8 | packet.icmp_code
    return 0


# -- the set's side ---------------------------------------------------------------------------------


class _Index(Struct, frozen=True):
    """Entries by key, most specific prefixes first, with what turns a packet into a key."""

    kinds: tuple[Kind, ...]
    mask: int
    mark_mask: int
    levels: tuple[tuple[Hosts, Mapping[Key, Sequence[Entry]]], ...]


@lru_cache(maxsize=256)
def _index(s: IpSet) -> _Index:
    bits = s.family.bits if s.family else 0
    levels: dict[Hosts, dict[Key, list[Entry]]] = {}
    for entry in s.entries:
        hosts = tuple(bits - e.length for e in entry.elements if isinstance(e, Prefix))
        key = tuple(part for e in entry.elements for part in _parts(e))
        levels.setdefault(hosts, {}).setdefault(key, []).append(entry)
    mask = (1 << bits) - 1 if s.mask is None else s.mask
    ordered = tuple((hosts, levels[hosts]) for hosts in sorted(levels))
    return _Index(KINDS[s.type], mask, s.mark_mask, ordered)


def _parts(element: Element) -> Key:
    match element:
        case Address(address) | Prefix(address):
            return (address,)
        case ProtocolPort(protocol, port):
            return ((protocol, port),)
        case PortNumber(number):
            return (number,)
        case MarkValue(mark):
            return (mark,)
        case InterfaceName() | Mac() | NoMac() | Member():
            return ()
        case _:
            assert_never(element)
