"""What a single word stands for: numbers, ports, ids, addresses, marks, flags.  Each raises ValueError for nonsense.

Names of numbers come from vocabulary.py, never from the machine that reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from socket import AF_INET, inet_pton
from typing import TypeAlias, TypeVar

from ..rules import Nat
from ..values import ALL_32, IPV4, CtState, Family, Ids, MarkMask, Net, Span, TcpFlag, mask_of, read_address
from .vocabulary import ICMP6_TYPES, ICMP_TYPES, SERVICES

T = TypeVar("T")


def number(text: str) -> int:
    """A number as strtoul reads it with base 0: decimal, 0x... hexadecimal, 0... octal."""
    if text.isdecimal() and text.isascii() and text[0] != "0":
        return int(text)
    if re.fullmatch(r"0[xX][0-9a-fA-F]+", text):
        return int(text, 16)
    if re.fullmatch(r"0[0-7]*", text):
        return int(text, 8)
    raise ValueError(f"{text!r} is not a number")


def port(text: str, decimal: bool = False) -> int:
    """A port's number or name.  What iptables asks getaddrinfo for (`-m udp`, `-m dccp`, `--ctorigdstport`, `--on-port`) is
    `decimal`: 010 is 10 there, and 8 to `-m tcp` (observed with iptables 1.8.9).
    """
    if text in SERVICES:
        return SERVICES[text]
    if not text[:1].isdigit():
        raise ValueError(f"{text!r} is neither a port number nor the name of a service that we know")
    if decimal and not (text.isdecimal() and text.isascii()):
        raise ValueError(f"{text!r} is no port: here it is written in decimal")
    value = int(text) if decimal else number(text)
    if value > 0xFFFF:
        raise ValueError(f"{text} is no port: they end at 65535")
    return value


def span(text: str, decimal: bool = False) -> Span:
    """`P`, `P:Q`, `P:`, `:Q`, each a number or a service's name."""
    first, colon, last = text.partition(":")
    if not colon:
        return Span.one(port(text, decimal))
    return Span(port(first, decimal) if first else 0, port(last, decimal) if last else 0xFFFF)


def spans(text: str) -> tuple[Span, ...]:
    """`P,P:Q,...`, as multiport takes them: a range has two ends."""
    return tuple(Span(port(first), port(last)) for first, last in map(_ends, text.split(",")))


def _ends(text: str) -> tuple[str, str]:
    first, colon, last = text.partition(":")
    return first, last if colon else first


def ids(text: str) -> Ids | str:
    """`N`, `N-M`, `N:M` or root; any other name stays, since only the host's own passwd can tell which id it is."""
    if text == "root":
        return Ids(0, 0)
    if not text[:1].isdigit():
        if not text:
            raise ValueError("an id is missing")
        return text
    first, dash, last = text.replace(":", "-").partition("-")
    return Ids(number(first), number(last if dash else first))


def net(text: str, family: Family = Family.IPV4) -> Net:
    """`HOST`, `HOST/LENGTH` or `HOST/MASK`, host bits dropped; IPv4 octets that are missing are 0, as in 10/8."""
    host, slash, bits = text.partition("/")
    if family is IPV4 and (length := _MASKS.get(bits) if slash else ALL_32) is not None:
        try:
            return Net(int.from_bytes(inet_pton(AF_INET, host)) & length, length)
        except (OSError, ValueError):
            pass
    _same_family(host, family)
    if family is Family.IPV6:
        mask = mask_of(128, family) if not slash else _mask6(bits)
        return Net(read_address(host, family) & mask, mask, family)
    if re.search(r"[^0-9a-fA-FxX.]", host) or not host[:1].isdigit():
        raise ValueError(f"{host!r} is no IPv4 address, and names of hosts are not looked up")
    mask = ALL_32 if not slash else _mask(bits)
    return Net(_address(host) & mask, mask)


_MASKS = {str(length): mask_of(length) for length in range(33)}


def plain(text: str) -> int | None:
    """An address of four decimal octets without leading zeros, the form in which nearly all are written."""
    try:
        return int.from_bytes(inet_pton(AF_INET, text))
    except (OSError, ValueError):
        return None


def _same_family(host: str, family: Family) -> None:
    if family is Family.IPV4 and ":" in host:
        raise ValueError(f"{host} is an IPv6 address, and these are IPv4 rules")
    if family is Family.IPV6 and re.fullmatch(r"[0-9.]+", host):
        raise ValueError(f"{host} is an IPv4 address, and these are IPv6 rules")


def _mask(text: str) -> int:
    if "." in text:
        if text.count(".") != 3:
            raise ValueError(f"{text!r} is no mask")
        return _address(text)
    return mask_of(number(text))


def _mask6(text: str) -> int:
    return read_address(text, Family.IPV6) if ":" in text else mask_of(number(text), Family.IPV6)


def _address(text: str) -> int:
    octets = [number(octet) for octet in text.split(".")]
    if len(octets) > 4 or max(octets) > 255:
        raise ValueError(f"{text!r} is no IPv4 address")
    return int.from_bytes(bytes(octets).ljust(4, b"\0"))


def address(text: str, family: Family = Family.IPV4) -> int:
    """An address in full, as targets want it."""
    if family is IPV4 and (octets := plain(text)) is not None:
        return octets
    _same_family(text, family)
    if family is Family.IPV6:
        return read_address(text, family)
    if text.count(".") != 3 or "/" in text:
        raise ValueError(f"{text!r} is no IPv4 address")
    return net(text).address


def prefix(text: str, family: Family = Family.IPV4) -> Net:
    """A host in full, with a mask or without, as `--ctorigsrc` and `-j NETMAP` take it: unlike after `-s`, 10/8 would be
    0.0.0.10/8, and a mask with holes is loaded as that of the whole address (observed with iptables 1.8.9, both backends).
    """
    host = address(text.partition("/")[0], family)
    found = net(text, family)
    return found if found.length is not None else Net(host, mask_of(family.bits, family), family)


def net_address(text: str, family: Family = Family.IPV4) -> int:
    """An address that may leave out octets as those after `-s` do."""
    if "/" in text:
        raise ValueError(f"{text!r} is no {family} address")
    return net(text, family).address


def bounded(text: str, last: int, first: int = 0) -> int:
    """A number from `first` to `last`."""
    found = number(text)
    if not first <= found <= last:
        raise ValueError(f"{text} is not in {first}..{last}")
    return found


def pair(text: str, last: int) -> tuple[int, int]:
    """`N`, `N:M`, `N:`, `:M`: numbers from 0 to `last`, the first no greater than the second."""
    low, colon, high = text.partition(":")
    if not colon:
        return bounded(text, last), bounded(text, last)
    found = bounded(low, last) if low else 0, bounded(high, last) if high else last
    if found[0] > found[1]:
        raise ValueError(f"{text} ends before it begins")
    return found


def beginning(text: str, names: Iterable[str], what: str) -> str:
    """The first of the names that begins with the text, upper and lower case alike, as strncasecmp finds it."""
    found = next((n for n in names if text and n.lower().startswith(text.lower())), None)
    if found is None:
        raise ValueError(f"{text!r} is no {what}")
    return found


def only_beginning(text: str, names: Mapping[str, T], what: str) -> T:
    """What the name stands for that begins with the text: one in full, or the only one."""
    low = text.lower()
    begin = [n for n in names if low and n.startswith(low)]
    if low in names:
        return names[low]
    if len({names[n] for n in begin}) != 1:
        raise ValueError(
            f"{text!r} is " + (f"one of {', '.join(begin)}" if begin else f"no {what} that we know")
        )
    return names[begin[0]]


def mark(text: str) -> tuple[int, int | None]:
    """`V` or `V/M`."""
    value, slash, mask = text.partition("/")
    pair = number(value), number(mask) if slash else None
    MarkMask(pair[0], ALL_32 if pair[1] is None else pair[1])
    return pair


def flags(text: str) -> int:
    """TCP flags: names with commas between, ALL or NONE."""
    bits = 0
    for name in text.upper().split(","):
        match name:
            case "ALL":
                bits |= 0x3F
            case "NONE":
                pass
            case "SYN" | "ACK" | "FIN" | "RST" | "URG" | "PSH":
                bits |= TcpFlag[name]
            case _:
                raise ValueError(f"{name!r} is no TCP flag: they are FIN, SYN, RST, PSH, ACK, URG, ALL, NONE")
    return bits


def states(text: str) -> tuple[frozenset[CtState], frozenset[Nat]]:
    """A list of connection states and of translations, each by the beginning of its name."""
    found: set[CtState] = set()
    translated: set[Nat] = set()
    for item in text.split(","):
        name = beginning(item, STATES, "connection state")
        if name in CtState.__members__:
            found.add(CtState[name])
        else:
            translated.add(Nat(name))
    return frozenset(found), frozenset(translated)


STATES = ("INVALID", "NEW", "ESTABLISHED", "RELATED", "UNTRACKED", "SNAT", "DNAT")


Icmp: TypeAlias = tuple[int | None, int | None, int | None]
"""Type, code, and the last code of a range."""


def icmp(text: str) -> Icmp:
    """What `--icmp-type` says; no type is any, which the kernel writes as type 255."""
    found = _icmp(text, ICMP_TYPES, "ICMP type")
    return (None, None, None) if found[0] in (None, 255) else found


def icmp6(text: str) -> tuple[int, int | None, int | None]:
    """What `--icmpv6-type` says, where 255 is a type like any other."""
    kind, code, last = _icmp(text, ICMP6_TYPES, "ICMPv6 type")
    assert kind is not None, "every name of ICMPv6 has a type"
    return kind, code, last


def _icmp(text: str, names: Mapping[str, tuple[int | None, int | None]], what: str) -> Icmp:
    """A name, `T`, `T/C` or `T/C:D`, which is one code, every code, or a range of them."""
    if not text[:1].isdigit():
        return *only_beginning(text, names, what), None
    first, slash, rest = text.partition("/")
    kind = bounded(first, 255)
    if not slash:
        return kind, None, None
    low, colon, high = rest.partition(":")
    codes = bounded(low, 255), bounded(high if colon else low, 255)
    if codes == (0, 255):
        return kind, None, None
    return kind, codes[0], None if codes[0] == codes[1] else codes[1]
