"""The few numbers that drawn rules, hosts and packets are made of, so that they meet."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from ..values import ALL_32, LAST_ID, Ids, Iface, MarkMask, Net, Span, mask_of, read_address

T = TypeVar("T")

INTERFACES = ("eth0", "eth1", "eth10")
OWN = tuple(map(read_address, ("10.0.0.5", "10.0.0.6", "10.0.0.9", "10.0.1.9", "192.168.7.1", "128.0.0.0")))
LOOPBACKS = tuple(map(read_address, ("127.0.0.1", "127.0.0.6", "127.255.255.255")))
OTHERS = tuple(
    map(read_address, ("10.0.0.7", "10.0.0.255", "10.0.2.2", "8.8.8.8", "224.0.0.1", "255.255.255.255"))
)
ADDRESSES = (*OWN, *LOOPBACKS, *OTHERS)
PORTS = (80, 8080, 15001, 15006, 53, 1, 0x7FFF, 0x8000, 0xFFFF)
LISTENING = (80, 8080, 15001, 15006)
IDS = (0, 1000, 1337, 0x7FFFFFFF, 0x80000000, LAST_ID)
GROUPS = ((), (1000,), (0, 0x80000000), (1336, 1338, LAST_ID))
MARKS = (0, 1, 0x80, 0x81, 0x80000000, ALL_32)
TABLES = (7, 100)
MASKS = (ALL_32, ALL_32, 1, 0x80, 0x81, 0x7FFFFFFF, 0x80000000, 0)
SHIFTS = (0, 0, 0, 1, -1, 7, -7, 31, -31)
ICMP_TYPES = (0, 3, 8, 13, 200)
TTLS = (1, 2, 63, 64, 128, 0xFF)
TOSES = (0, 1, 0x10, 0x80, 0xB8, 0xFF)
SIZES = (40, 60, 1500, 0x8000)
MACS = (0, 0x020000000001, 0x020000000002, 1 << 47)
SPIS = (0, 256, 0x80000000, ALL_32)
OPTIONS = (1, 2, 3, 8, 30, 128, 0xFF)


def some(draw: random.Random, of: Sequence[T], most: int) -> tuple[T, ...]:
    """One to `most` of these, each once."""
    return tuple(draw.sample(of, draw.randint(1, min(most, len(of)))))


def near(draw: random.Random, of: Sequence[int], most: int) -> int:
    return min(max(draw.choice(of) + draw.choice((0, 0, 0, 1, -1)), 0), most)


def ordered(draw: random.Random, of: Sequence[int], most: int) -> tuple[int, int]:
    first, second = near(draw, of, most), near(draw, of, most)
    return min(first, second), max(first, second)


def net(draw: random.Random) -> Net:
    mask = draw.choice([*map(mask_of, (32, 32, 32, 24, 16, 8, 31, 1)), 0xFF0000FF, 0x00000101])
    return Net(draw.choice(ADDRESSES) & mask, mask)


def span(draw: random.Random, least: int = 0) -> Span:
    first, last = ordered(draw, PORTS, 0xFFFF)
    first, last = max(first, least), max(last, least)
    return Span(first, first) if draw.random() < 0.5 else Span(first, last)


def spans(draw: random.Random) -> tuple[Span, ...]:
    return tuple(span(draw) for _ in range(draw.randint(1, 3)))


def ids(draw: random.Random) -> Ids:
    first, last = ordered(draw, IDS, LAST_ID)
    return Ids(first, first) if draw.random() < 0.6 else Ids(first, last)


def mark(draw: random.Random) -> MarkMask:
    return MarkMask(draw.choice(MARKS), draw.choice(MASKS))


def iface(draw: random.Random) -> Iface:
    return Iface(draw.choice((*INTERFACES, "lo", "eth+", "eth1+", "l+", "wlan0")))


def flip(draw: random.Random, percent: int = 50) -> bool:
    return draw.random() * 100 < percent


def net_prefix(draw: random.Random) -> Net:
    """A network that NETMAP maps to."""
    return Net.prefix(draw.choice(ADDRESSES), draw.choice((32, 24, 31, 16, 8)))
