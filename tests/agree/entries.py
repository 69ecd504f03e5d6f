"""Settings, and pairs of datagrams of which the later one may be found in the entry of the earlier, for Hypothesis."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from hypothesis import strategies as st
from msgspec.structs import replace

from verifier.hosts import Setting
from verifier.journeys import ProxyState
from verifier.packets import Packet
from verifier.values import UDP

from .policies import KINDS


def tracked(kind: str, most: int) -> st.SearchStrategy[Setting]:
    return KINDS[kind](most).map(
        lambda setting: replace(setting, answers=False, also=setting.also | {"connection"})
    )


SETTINGS: Mapping[str, Callable[[int], st.SearchStrategy[Setting]]] = {
    kind: (lambda most, kind=kind: tracked(kind, most)) for kind in KINDS
}


def alike(packet: Packet | ProxyState) -> Packet:
    """The packet as a datagram."""
    assert isinstance(packet, Packet), "a socket or a machine outside sends it"
    ports = {"sport": packet.sport or 4000, "dport": packet.dport or 53}
    none = dict.fromkeys(("flags", "icmp_type", "icmp_code", "tcp_options", "dccp_type", "dccp_options"), 0)
    return replace(packet, proto=UDP, **ports, **none, sctp_chunks=0, sctp_flags=0, spi=0)


def later(packet: Packet | ProxyState, before: Packet, draw: random.Random) -> Packet:
    """The packet as a datagram, most often with the addresses and ports of the one before, now and then with them swapped."""
    own = alike(packet)
    ends = (before.src, before.dst, before.sport, before.dport)
    match draw.randrange(10):
        case 0:
            return own
        case 1:
            return replace(own, src=ends[1], dst=ends[0], sport=ends[3], dport=ends[2])
        case _:
            return replace(own, src=ends[0], dst=ends[1], sport=ends[2], dport=ends[3])
