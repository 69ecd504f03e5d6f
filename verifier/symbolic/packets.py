"""A packet whose answers are left to the solver, and the names that stand behind its numbers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from ..hosts import Listener, Process
from ..packets import Connection, Ends, Packet
from ..values import CtState, Family, PacketKind
from .terms import Bool, Bv, Model, Terms

WIDTHS = {
    "src": 32, "dst": 32, "proto": 8, "sport": 16, "dport": 16, "flags": 8, "icmp_type": 8, "icmp_code": 8,
    "in_iface": 8, "out_iface": 8, "uid": 32, "gid": 32, "mark": 32, "ctstate": 3, "device": 8,
}  # fmt: skip
"""Bits of each field.  Interfaces are indices into `Names`; states are numbered as in `CtState`; an IPv6 packet's
addresses are wider."""


def widths(family: Family) -> Mapping[str, int]:
    """Bits of each field of a packet of this family."""
    return WIDTHS if family is Family.IPV4 else WIDTHS | {"src": family.bits, "dst": family.bits}


NO_MAC = 1 << 48
"""The value of `mac` where there is no Ethernet header."""

RARE = {
    "ttl": 8, "tos": 8, "length": 16, "tcp_options": 256, "dccp_type": 4, "dccp_options": 256,
    "sctp_chunks": 256, "sctp_flags": 20, "spi": 32, "extensions": 8, "mac": 49, "kind": 2, "groups": 8,
}  # fmt: skip
"""Bits of the fields that a packet carries only where somebody asks for them."""

ALL_FIELDS = frozenset(RARE) | {"connection"}
"""Whatever may be asked for."""


class Names(Struct, frozen=True):
    """Interface names by index; index 0 is the empty name: no interface."""

    interfaces: tuple[str, ...]

    def index(self, name: str | None) -> int:
        return 0 if name is None else self.interfaces.index(name)

    def name(self, index: int) -> str | None:
        return self.interfaces[index] if index else None


class SymEnds(Struct, frozen=True):
    """The fields of `Ends` as terms."""

    src: Bv
    dst: Bv
    sport: Bv
    dport: Bv


class SymConnection(Struct, frozen=True):
    """The fields of `Connection` as terms; `known` is false where the packet has none."""

    known: Bool
    protocol: Bv
    original: SymEnds
    reply: SymEnds
    status: Bv
    mark: Bv
    is_reply: Bool

    @classmethod
    def free(cls, terms: Terms, prefix: str, bits: int) -> SymConnection:
        """One of which nothing is known, with addresses of so many bits."""

        def ends(way: str) -> SymEnds:
            widths = {"src": bits, "dst": bits, "sport": 16, "dport": 16}
            return SymEnds(*(terms.variable(f"{prefix}{way} {end}", w) for end, w in widths.items()))

        return cls(
            terms.unknown(f"{prefix}known"),
            terms.variable(f"{prefix}protocol", 8),
            ends("original"),
            ends("reply"),
            terms.variable(f"{prefix}status", 16),
            terms.variable(f"{prefix}mark", 32),
            terms.unknown(f"{prefix}is_reply"),
        )

    def but(self, **changed: Bv | Bool | SymEnds) -> SymConnection:
        return replace(self, **changed)

    def read(self, model: Model) -> Connection | None:
        if not model.holds(self.known):
            return None
        return Connection(
            model.value(self.protocol),
            _ends(self.original, model),
            _ends(self.reply, model),
            model.value(self.status),
            model.value(self.mark),
            model.holds(self.is_reply),
        )


def _ends(ends: SymEnds, model: Model) -> Ends:
    return Ends(
        model.value(ends.src), model.value(ends.dst), model.value(ends.sport), model.value(ends.dport)
    )


class Given(Struct, frozen=True):
    """The packets in `cond` have been given this socket, a transparent one, before they come to it; those that are `its_own` since
    it has their connection."""

    cond: Bool
    process: Process
    listener: Listener
    its_own: Bool


class Accepted(Struct, frozen=True):
    """The packets in `cond` are later ones of a connection that this socket has here: it came to be by a packet with these ends,
    and gets what comes by its `device` alone, unless that is 0.
    """

    cond: Bool
    process: Process
    listener: Listener
    ends: SymEnds
    device: Bv


class SymPacket(Struct, frozen=True):
    """The fields of `Packet` as terms; `socket` is false where the packet has no uid and no gid.

    `rare` holds those of the fields of `RARE` that somebody asks for, and `connection` is there iff somebody
    asks for it; the others are as `Packet` has them by default.
    """

    src: Bv
    dst: Bv
    proto: Bv
    sport: Bv
    dport: Bv
    flags: Bv
    icmp_type: Bv
    icmp_code: Bv
    in_iface: Bv
    out_iface: Bv
    uid: Bv
    gid: Bv
    mark: Bv
    ctstate: Bv
    device: Bv
    socket: Bool
    rare: Mapping[str, Bv] = {}
    connection: SymConnection | None = None
    family: Family = Family.IPV4
    given: tuple[Given, ...] = ()
    """The sockets that TPROXY has given it, whatever its destination."""
    accepted: tuple[Accepted, ...] = ()
    """Those that have its connection, where it is a later packet of one."""

    @property
    def terms(self) -> Terms:
        return self.src.terms

    @classmethod
    def free(
        cls, terms: Terms, prefix: str = "", fields: Collection[str] = (), family: Family = Family.IPV4
    ) -> SymPacket:
        """A packet of which nothing is known: one variable for each field, of the rare ones for each of `fields`."""
        bits = {name: terms.variable(prefix + name, width) for name, width in widths(family).items()}
        rare = {name: terms.variable(prefix + name, RARE[name]) for name in sorted(fields) if name in RARE}
        connection = None
        if "connection" in fields:
            connection = SymConnection.free(terms, f"{prefix}connection ", family.bits)
        return cls(
            **bits,
            socket=terms.unknown(prefix + "socket"),
            rare=rare,
            connection=connection,
            family=family,
            given=(),
            accepted=(),
        )

    @classmethod
    def of(cls, terms: Terms, packet: Packet, names: Names, fields: Collection[str] = ()) -> SymPacket:
        """This very packet, with the rare ones of `fields`; without its connection."""
        known = values_of(packet, names)
        bits = {name: terms.number(int(known[name]), width) for name, width in widths(packet.family).items()}
        rare = {name: terms.number(int(known[name]), RARE[name]) for name in sorted(fields) if name in RARE}
        return replace(
            cls.free(terms, family=packet.family),
            **bits,
            socket=terms.truth(packet.uid is not None),
            rare=rare,
        )

    def but(self, **changed: Bv | Bool) -> SymPacket:
        return replace(self, **changed)

    def having(self, **changed: Bv) -> SymPacket:
        """The packet with these rare fields, as far as it carries them."""
        return replace(self, rare={**self.rare, **{n: v for n, v in changed.items() if n in self.rare}})

    def tracked(self, connection: SymConnection | None) -> SymPacket:
        return replace(self, connection=connection)

    def field(self, name: str) -> Bv:
        """A rare field; whoever asks for it must have said so beforehand."""
        found = self.rare.get(name)
        if found is not None:
            return found
        if name == "kind":
            return self.terms.number(PacketKind.UNICAST.value, RARE["kind"])
        raise AssertionError(f"no rule was said to ask for {name}")

    def known(self) -> SymConnection:
        """Its connection; whoever asks for it must have said so beforehand."""
        if self.connection is None:
            raise AssertionError("no rule was said to ask for the connection")
        return self.connection

    def handed(self, given: Sequence[Given]) -> SymPacket:
        """The packet with the sockets that it is given here: of several times that one is, together."""
        t = self.terms
        sockets = {g.listener: g for g in given}
        merged = (
            replace(
                g,
                cond=t.any_of(x.cond for x in given if x.listener == g.listener),
                its_own=t.any_of(x.its_own for x in given if x.listener == g.listener),
            )
            for g in sockets.values()
        )
        return replace(self, given=tuple(g for g in merged if g.cond.const is not False))

    @property
    def is_given(self) -> Bool:
        """TPROXY has given it a socket."""
        return self.terms.any_of(one.cond for one in self.given)

    def without_socket(self) -> SymPacket:
        zero = self.terms.number(0, 32)
        none = self.terms.number(0, 8)
        bare = self.but(uid=zero, gid=zero, socket=self.terms.false, device=none)
        return bare.having(groups=none) if "groups" in self.rare else bare

    def read(self, model: Model, names: Names) -> Packet:
        """The packet that a model gives."""
        v = {name: model.value(getattr(self, name)) for name in WIDTHS}
        owned = model.holds(self.socket)
        packet = Packet(
            src=v["src"], dst=v["dst"], proto=v["proto"], sport=v["sport"], dport=v["dport"], flags=v["flags"],
            icmp_type=v["icmp_type"], icmp_code=v["icmp_code"],
            in_iface=names.name(v["in_iface"]), out_iface=names.name(v["out_iface"]),
            uid=v["uid"] if owned else None, gid=v["gid"] if owned else None,
            mark=v["mark"], ctstate=CtState(v["ctstate"]), device=names.name(v["device"]), family=self.family,
        )  # fmt: skip
        if not self.rare and self.connection is None:
            return packet
        more = {name: _rare(name, model.value(term)) for name, term in self.rare.items()}
        return replace(packet, **more, connection=self.connection and self.connection.read(model))


def _rare(name: str, value: int) -> int | PacketKind | None:
    match name:
        case "mac":
            return None if value & NO_MAC else value
        case "kind":
            return PacketKind(value)
        case _:
            return value


def numbers_of(packet: Packet) -> dict[str, int]:
    """The rare fields as numbers."""
    return {
        "ttl": packet.ttl,
        "tos": packet.tos,
        "length": packet.length,
        "tcp_options": packet.tcp_options,
        "dccp_type": packet.dccp_type,
        "dccp_options": packet.dccp_options,
        "sctp_chunks": packet.sctp_chunks,
        "sctp_flags": packet.sctp_flags,
        "spi": packet.spi,
        "extensions": packet.extensions,
        "mac": NO_MAC if packet.mac is None else packet.mac,
        "kind": packet.kind.value,
        "groups": packet.groups,
    }


def values_of(packet: Packet, names: Names, prefix: str = "") -> dict[str, int | bool]:
    """The values of the variables of `SymPacket.free` that make it this packet."""
    values: dict[str, int | bool] = {
        "src": packet.src,
        "dst": packet.dst,
        "proto": packet.proto,
        "sport": packet.sport,
        "dport": packet.dport,
        "flags": packet.flags,
        "icmp_type": packet.icmp_type,
        "icmp_code": packet.icmp_code,
        "in_iface": names.index(packet.in_iface),
        "out_iface": names.index(packet.out_iface),
        "uid": packet.uid or 0,
        "gid": packet.gid or 0,
        "mark": packet.mark,
        "ctstate": int(packet.ctstate),
        "device": names.index(packet.device),
        "socket": packet.uid is not None,
        **numbers_of(packet),
        "connection known": packet.connection is not None,
    }
    if packet.connection is not None:
        found = packet.connection
        values |= {"connection protocol": found.protocol, "connection status": found.status}
        values |= {"connection mark": found.mark, "connection is_reply": found.is_reply}
        for way, ends in (("original", found.original), ("reply", found.reply)):
            for end in SymEnds.__struct_fields__:
                values[f"connection {way} {end}"] = getattr(ends, end)
    return {prefix + name: value for name, value in values.items()}
