"""What the kernel tells of each packet on its way: every rule that it took, every policy that decided, and the end of the two
hooks behind which a packet is the host's own or on the wire.

A table of our own switches tracing on and marks those ends, so that the rules under test stay as they are.
iptables-legacy tells its traces through nfnetlink_log (net/ipv4/netfilter/ip_tables.c: trace_packet), nftables
by multicast (net/netfilter/nf_tables_trace.c).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping

from msgspec import Struct

from ..values import Family
from .headers import Header, read, tag_of
from .iptables import BackendName
from .namespaces import Namespace
from .netlink import NFTABLES, ULOG, Netlink, attribute, attributes

LOCAL, POST = "LOCAL", "POST"
"""The ends that are marked: behind all tables of INPUT, and of POSTROUTING."""
ENDS = "chainproof"
"""The table of our own, and in steps the table of those ends."""

FAMILIES = {Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}


class Step(Struct, frozen=True):
    """One thing that a packet did: a rule that it took, by its number from 1, a policy (number 0), or an end.

    `header` is None where it was not told.  Where `after`, mark and header are those behind the rule's target, else
    those before it.
    """

    table: str
    chain: str
    number: int
    mark: int
    after: bool
    header: Header | None = None
    in_iface: str | None = None
    out_iface: str | None = None
    ctstate: int | None = None
    """Bits of NFT_CT_STATE, where they are told."""


class Legacy:
    """The traces of iptables-legacy."""

    def __init__(self, near: Namespace, family: Family, interfaces: Mapping[int, str]) -> None:
        self._interfaces = interfaces
        self._netlink = Netlink(near)
        self._prefixes: dict[bytes, tuple[str, str, str, int] | None] = {}
        self._counts: dict[tuple[str, str], int] = {}
        for payload in _binding(FAMILIES[family]):
            self._netlink.request(ULOG | 1, payload)
        near.run(["nft", "-f", "-"], _table("log group 0 prefix"))

    def close(self) -> None:
        self._netlink.close()

    def learn(self, counts: Mapping[tuple[str, str], int]) -> None:
        """So many rules there are in each chain."""
        self._counts = dict(counts)

    def steps(self) -> Iterator[tuple[int, Step]]:
        """What is new, in order, each with its packet's tag."""
        interfaces, prefixes = self._interfaces, self._prefixes
        for data in self._netlink.heard():
            found = attributes(data, 20)
            text = found.get(10, b"")
            if text not in prefixes:
                prefixes[text] = _spot(text)
            spot = prefixes[text]
            if spot is None:
                continue
            table, chain, kind, number = spot
            if kind != "rule" and number > self._counts.get((table, chain), 0):
                if kind == "return":  # the end of a chain of the user's own
                    continue
                number = 0
            payload = found[9]
            mark, come, gone = found.get(2), found.get(4), found.get(5)
            yield (
                tag_of(payload),
                Step(
                    table,
                    chain,
                    number,
                    int.from_bytes(mark, "big") if mark else 0,
                    False,
                    read(payload),
                    interfaces.get(int.from_bytes(come, "big")) if come else None,
                    interfaces.get(int.from_bytes(gone, "big")) if gone else None,
                ),
            )


def _binding(family: int) -> Iterator[bytes]:
    """Requests by which nfnetlink_log becomes the logger of this namespace and family, and tells each packet at once."""
    group = struct.pack("!BBH", family, 0, 0)
    yield struct.pack("!BBH", family, 0, 0) + attribute(1, b"\3")
    yield group + attribute(1, b"\1")
    yield group + attribute(2, struct.pack("!IBB", 64, 2, 0))
    yield group + attribute(5, struct.pack("!I", 1)) + attribute(4, struct.pack("!I", 1))


def _spot(text: bytes) -> tuple[str, str, str, int] | None:
    """`TRACE: nat:OUTPUT:rule:1 ` taken apart; None for what a LOG rule under test says.

    An unconditional rule with a verdict is told as `policy` or `return`, as is what ends a chain: the number tells
    which it is.
    """
    words = text.rstrip(b"\0 ").decode(errors="replace")
    if words in (f"{ENDS} {LOCAL}", f"{ENDS} {POST}"):
        return ENDS, words.removeprefix(f"{ENDS} "), "rule", 1
    if not words.startswith("TRACE: "):
        return None
    table, rest = words.removeprefix("TRACE: ").split(":", 1)
    chain, kind, number = rest.rsplit(":", 2)
    return table, chain, kind, int(number)


class Nft:
    """The traces of nftables."""

    def __init__(self, near: Namespace, family: Family, interfaces: Mapping[int, str]) -> None:
        self._family = FAMILIES[family]
        self._interfaces = interfaces
        self._control = Netlink(near)
        self._netlink = Netlink(near, 9)
        self._numbers: dict[tuple[bytes, bytes], int] = {}
        near.run(["nft", "-f", "-"], _table("accept"))

    def close(self) -> None:
        self._netlink.close()
        self._control.close()

    def learn(self, _: Mapping[tuple[str, str], int]) -> None:
        """Which rule has which handle."""
        self._numbers = {}
        counts: dict[tuple[bytes, bytes], int] = {}
        for body in self._control.dump(NFTABLES | 7, struct.pack("!BBH", self._family, 0, 0)):
            found = attributes(body)
            counts[found[1], found[2]] = number = counts.get((found[1], found[2]), 0) + 1
            self._numbers[found[1], found[3]] = number

    def steps(self) -> Iterator[tuple[int, Step]]:
        """What is new, in order, each with its packet's tag."""
        tags: dict[bytes, int] = {}
        names: dict[bytes, str] = {}
        interfaces, numbers = self._interfaces, self._numbers
        ours = ENDS.encode() + b"\0"
        for data in self._netlink.heard():
            found = attributes(data, 20)
            ident, table, chain = found[6], found[1], found[2]
            header: Header | None = None
            network = found.get(8)
            if network is not None:
                network += found.get(9, b"")
                tags[ident] = tag_of(network)
            if table == ours:
                if chain not in (b"LOCAL\0", b"POST\0"):
                    continue
                number = 1
            elif found[4] == b"\0\0\0\1":
                number = 0
            else:
                handle = found.get(3)
                if handle is None:  # the end of a chain of the user's own
                    continue
                if (table, handle) not in numbers:
                    continue  # a rule that was there before: of something that the host said by itself
                number = numbers[table, handle]
            come = gone = state = None
            if network is not None:
                header = read(network)
                come, gone, state = found.get(10), found.get(12), found.get(21)
            for name in (table, chain):
                if name not in names:
                    names[name] = name[:-1].decode()
            mark = found.get(14)
            yield (
                tags[ident],
                Step(
                    names[table],
                    names[chain],
                    number,
                    int.from_bytes(mark, "big") if mark else 0,
                    True,
                    header,
                    interfaces.get(int.from_bytes(come, "big")) if come else None,
                    interfaces.get(int.from_bytes(gone, "big")) if gone else None,
                    int.from_bytes(state, "big") if state else None,
                ),
            )


def _table(end: str) -> str:
    """Tracing begins before all tables, and the ends lie behind them all, conntrack's own confirmation excepted."""
    told = f'{end} "{ENDS} {{}} "' if end.endswith("prefix") else end
    return (
        f"table inet {ENDS} {{\n"
        " chain ARRIVED { type filter hook prerouting priority -450; meta nftrace set 1 accept; }\n"
        " chain SENT { type filter hook output priority -450; meta nftrace set 1 accept; }\n"
        f" chain {LOCAL} {{ type filter hook input priority 2000000; {told.format(LOCAL)}; }}\n"
        f" chain {POST} {{ type filter hook postrouting priority 2000000; {told.format(POST)}; }}\n"
        "}\n"
    )


def listening(
    near: Namespace, backend: BackendName, family: Family, interfaces: Mapping[int, str]
) -> Legacy | Nft:
    """From now on the kernel traces every packet of the namespace."""
    return (Legacy if backend == "legacy" else Nft)(near, family, interfaces)
