"""The first packets that a pod can be asked about, as frozen data.  Addresses are numbers."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from ..values import IPV4, TCP, Family


class Frame(Struct, frozen=True):
    """A SYN or a datagram that arrives at `interface`, addressed to the pod's MAC."""

    interface: str
    src: int
    dst: int
    dport: int
    sport: int = 40000
    protocol: int = TCP
    family: Family = IPV4


class Connect(Struct, frozen=True):
    """A TCP socket of this uid and gid connects, or one of UDP connects and sends; `src` None: bound to no address; sport 0: the kernel chooses."""

    uid: int
    gid: int
    dst: int
    dport: int
    src: int | None = None
    sport: int = 40000
    device: str | None = None
    mark: int = 0
    transparent: bool = False
    """The source need not be an address of this host (IP_TRANSPARENT)."""
    groups: tuple[int, ...] = ()
    """The supplementary groups."""
    protocol: int = TCP
    family: Family = IPV4


Stimulus: TypeAlias = Frame | Connect
