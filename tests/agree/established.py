"""Settings, and first and later packets of one connection, for Hypothesis."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from hypothesis import strategies as st
from msgspec.structs import replace

from verifier.hosts import Setting
from verifier.journeys import OF_A_CONNECTION, ProxyState
from verifier.packets import Packet
from verifier.values import ICMP, ICMPV6, TCP, UDP, Family, TcpFlag

from .agreement import LATER_FLAGS
from .policies import KINDS


def tracked(kind: str, most: int) -> st.SearchStrategy[Setting]:
    """Settings whose packets carry connections; half of them tell of answers to later packets."""

    def made(setting: Setting, answers: bool) -> Setting:
        return replace(setting, answers=answers, also=setting.also | {"connection"})

    return st.builds(made, KINDS[kind](most), st.booleans())


SETTINGS: Mapping[str, Callable[[int], st.SearchStrategy[Setting]]] = {
    kind: (lambda most, kind=kind: tracked(kind, most)) for kind in KINDS
}


def opening(packet: Packet | ProxyState, draw: random.Random) -> Packet:
    """The packet as one that opens a connection: most often of TCP."""
    assert isinstance(packet, Packet), "a socket or a machine outside sends it"
    none = dict.fromkeys(("flags", "icmp_type", "icmp_code", "tcp_options", "dccp_type", "dccp_options"), 0)
    packet = replace(packet, **none, sctp_chunks=0, sctp_flags=0, spi=0)
    ports = {"sport": packet.sport or 4000, "dport": packet.dport or 80}
    match draw.randrange(8):
        case 0:
            return replace(packet, proto=UDP, **ports)
        case 1:
            ipv6 = packet.family is Family.IPV6
            kind = {"proto": ICMPV6, "icmp_type": 128} if ipv6 else {"proto": ICMP, "icmp_type": 8}
            return replace(packet, **kind, sport=0, dport=0)
        case 2:
            return replace(packet, proto=47, sport=0, dport=0)
        case _:
            return replace(packet, proto=TCP, flags=int(TcpFlag.SYN), **ports)


def later(packet: Packet | ProxyState, before: Packet, draw: random.Random) -> Packet:
    """The packet as a later one of the connection that was opened by the one before."""
    assert isinstance(packet, Packet), "a socket or a machine outside sends it"
    its = {name: getattr(before, name) for name in OF_A_CONNECTION}
    none = dict.fromkeys(("tcp_options", "dccp_type", "dccp_options", "sctp_chunks", "sctp_flags", "spi"), 0)
    flags = draw.choice(LATER_FLAGS) if before.proto == TCP else 0
    return replace(packet, **its, **none, flags=flags)
