"""A packet whose answers are left to the solver, and the names that stand behind its numbers."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from ..packets import Packet
from ..values import CtState
from .terms import Bool, Bv, Model, Terms

WIDTHS = {
    "src": 32, "dst": 32, "proto": 8, "sport": 16, "dport": 16, "flags": 8, "icmp_type": 8, "icmp_code": 8,
    "in_iface": 8, "out_iface": 8, "uid": 32, "gid": 32, "mark": 32, "ctstate": 3, "device": 8,
}  # fmt: skip
"""Bits of each field.  Interfaces are indices into `Names`; states are numbered as in `CtState`."""


class Names(Struct, frozen=True):
    """Interface names by index; index 0 is the empty name: no interface."""

    interfaces: tuple[str, ...]

    def index(self, name: str | None) -> int:
        return 0 if name is None else self.interfaces.index(name)

    def name(self, index: int) -> str | None:
        return self.interfaces[index] if index else None


class SymPacket(Struct, frozen=True):
    """The fields of `Packet` as terms; `socket` is false where the packet has no uid and no gid."""

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

    @property
    def terms(self) -> Terms:
        return self.src.terms

    @classmethod
    def free(cls, terms: Terms, prefix: str = "") -> SymPacket:
        """A packet of which nothing is known: one variable for each field."""
        bits = {name: terms.variable(prefix + name, width) for name, width in WIDTHS.items()}
        return cls(**bits, socket=terms.unknown(prefix + "socket"))

    def but(self, **changed: Bv | Bool) -> SymPacket:
        return replace(self, **changed)

    def without_socket(self) -> SymPacket:
        zero = self.terms.number(0, 32)
        return self.but(uid=zero, gid=zero, socket=self.terms.false, device=self.terms.number(0, 8))

    def read(self, model: Model, names: Names) -> Packet:
        """The packet that a model gives."""
        v = {f: model.value(getattr(self, f)) for f in self.__struct_fields__ if f != "socket"}
        owned = model.holds(self.socket)
        return Packet(
            src=v["src"], dst=v["dst"], proto=v["proto"], sport=v["sport"], dport=v["dport"], flags=v["flags"],
            icmp_type=v["icmp_type"], icmp_code=v["icmp_code"],
            in_iface=names.name(v["in_iface"]), out_iface=names.name(v["out_iface"]),
            uid=v["uid"] if owned else None, gid=v["gid"] if owned else None,
            mark=v["mark"], ctstate=CtState(v["ctstate"]), device=names.name(v["device"]),
        )  # fmt: skip


def values_of(packet: Packet, names: Names, prefix: str = "") -> dict[str, int | bool]:
    """The values of the variables of `SymPacket.free` that make it this packet."""
    return {
        prefix + "src": packet.src,
        prefix + "dst": packet.dst,
        prefix + "proto": packet.proto,
        prefix + "sport": packet.sport,
        prefix + "dport": packet.dport,
        prefix + "flags": packet.flags,
        prefix + "icmp_type": packet.icmp_type,
        prefix + "icmp_code": packet.icmp_code,
        prefix + "in_iface": names.index(packet.in_iface),
        prefix + "out_iface": names.index(packet.out_iface),
        prefix + "uid": packet.uid or 0,
        prefix + "gid": packet.gid or 0,
        prefix + "mark": packet.mark,
        prefix + "ctstate": int(packet.ctstate),
        prefix + "device": names.index(packet.device),
        prefix + "socket": packet.uid is not None,
    }
