"""Netfilter's map as data: which tables run at which hook, and in which order.

Order within a hook follows the priorities in include/uapi/linux/netfilter_ipv4.h (enum
nf_ip_hook_priorities): raw -300, mangle -150, DNAT -100, filter 0, security 50, SNAT 100.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class Hook(Enum):
    """Where in the kernel a chain is called; the value is the built-in chain's name."""

    PREROUTING = "PREROUTING"
    INPUT = "INPUT"
    FORWARD = "FORWARD"
    OUTPUT = "OUTPUT"
    POSTROUTING = "POSTROUTING"


TABLES: Mapping[Hook, tuple[str, ...]] = {
    Hook.PREROUTING: ("raw", "mangle", "nat"),
    Hook.INPUT: ("mangle", "filter", "security", "nat"),
    Hook.FORWARD: ("mangle", "filter", "security"),
    Hook.OUTPUT: ("raw", "mangle", "nat", "filter", "security"),
    Hook.POSTROUTING: ("mangle", "nat"),
}
"""The legacy order. The nft backend differs in one place: it registers security at 150 instead of 50,
so that nat INPUT runs before security INPUT (observed, iptables-nft 1.8.9)."""

NFT_INPUT = ("mangle", "filter", "nat", "security")

BUILT_IN: Mapping[str, tuple[str, ...]] = {
    table: tuple(hook.value for hook, tables in TABLES.items() if table in tables)
    for table in ("raw", "mangle", "nat", "filter", "security")
}
"""The built-in chains of each table."""
