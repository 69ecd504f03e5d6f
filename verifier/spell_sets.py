"""Ip sets as text, in the words of `ipset save`, which `ipset restore` reads.

What is spelled is read back as the same data.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from .sets import (
    ICMP6,
    PORTED,
    Address,
    Element,
    Entry,
    InterfaceName,
    IpSet,
    Mac,
    MarkValue,
    Member,
    NoMac,
    PortNumber,
    Prefix,
    ProtocolPort,
    SetType,
)
from .values import ALL_32, ICMP, Family, spell_address, spell_protocol

FAMILIES = {Family.IPV4: "inet", Family.IPV6: "inet6"}
USUAL_SIZE = 65536
"""How many entries a hash holds unless `maxelem` says otherwise."""


def sets(some: Iterable[IpSet]) -> str:
    """Lists of sets come last, as they need their members to be there."""
    ordered = sorted(some, key=lambda s: s.type is SetType.LIST_SET)
    return "".join(ip_set(s) for s in ordered)


def ip_set(s: IpSet) -> str:
    lines = [f"create {s.name} {s.type.value}{_options(s)}"]
    lines += [f"add {s.name} {entry(e, s.family)}" for e in s.entries]
    return "\n".join([*lines, ""])


def _options(s: IpSet) -> str:
    words: list[str] = []
    if s.family is not None and not s.type.value.startswith("bitmap"):
        words += ["family", FAMILIES[s.family]]
    if s.type.value.startswith("hash") and len(s.entries) > USUAL_SIZE:
        words += ["maxelem", str(len(s.entries))]
    if s.range is not None:
        family = s.family
        ends = (
            str(end) if family is None else spell_address(end, family)
            for end in (s.range.first, s.range.last)
        )
        words += ["range", "-".join(ends)]
    if s.mask is not None and s.family is not None:
        words += _mask(s.mask, s.family)
    if s.mark_mask != ALL_32:
        words += ["markmask", f"{s.mark_mask:#x}"]
    if s.timeout is not None:
        words += ["timeout", str(s.timeout)]
    words += ["counters"] * s.counters + ["skbinfo"] * s.skbinfo
    return "".join(f" {word}" for word in words)


def _mask(mask: int, family: Family) -> list[str]:
    ones = mask.bit_count()
    if mask == (1 << family.bits) - (1 << (family.bits - ones)):
        return ["netmask", str(ones)]
    return ["bitmask", spell_address(mask, family)]


def entry(e: Entry, family: Family | None) -> str:
    """An entry as `ipset add` has it after the set's name."""
    words = [",".join(element(x, family) for x in e.elements if not isinstance(x, NoMac))]
    words += ["nomatch"] * e.nomatch
    words += ["wildcard"] * any(isinstance(x, InterfaceName) and x.wildcard for x in e.elements)
    if e.timeout is not None:
        words += ["timeout", str(e.timeout)]
    return " ".join(words)


def element(x: Element, family: Family | None) -> str:
    family = family or Family.IPV4
    match x:
        case Address(address):
            return spell_address(address, family)
        case Prefix(address, length):
            return spell_address(address, family) + ("" if length == family.bits else f"/{length}")
        case ProtocolPort(protocol, port):
            icmp = protocol in (ICMP, ICMP6)
            return f"{_protocol(protocol)}:" + (f"{port >> 8}/{port & 0xFF}" if icmp else str(port))
        case PortNumber(number):
            return str(number)
        case Mac(address):
            return ":".join(f"{byte:02X}" for byte in address.to_bytes(6))
        case NoMac():
            return ""
        case MarkValue(mark):
            return f"{mark:#010x}"
        case InterfaceName(name, _, physical):
            return f"physdev:{name}" if physical else name
        case Member(name):
            return name
        case _:
            assert_never(x)


def _protocol(number: int) -> str:
    """Names for those that have ports or codes alone: for the others /etc/protocols would have to be the same."""
    if number == ICMP6:
        return "icmpv6"
    return spell_protocol(number) if number in PORTED or number == ICMP else str(number)
