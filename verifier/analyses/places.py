"""Where the kernel takes each match and target: tables, and hooks from which its chain may be reached.

Each row is the `table` and `hooks` of the kernel's own `struct xt_match` or `struct xt_target`, or what its
`checkentry` says; what is not here is taken everywhere.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from .. import rules as r
from ..hooks import BUILT_IN, Hook


class Where(Struct, frozen=True):
    """Tables and hooks, `None` for all of them; `source` is the kernel's file.

    `legacy` iff the nft backend does not ask this of a rule in a chain of the user's own: what `checkentry` says of
    hooks it asks in built-in chains alone (net/netfilter/nft_compat.c: nft_target_set_tgchk_param), and TRACE is its own.
    """

    tables: tuple[str, ...] | None = None
    hooks: tuple[Hook, ...] | None = None
    source: str = ""
    legacy: bool = False


_IN, _FORWARD, _OUT = Hook.INPUT, Hook.FORWARD, Hook.OUTPUT
_PRE, _POST = Hook.PREROUTING, Hook.POSTROUTING

TARGETS: dict[type[Any], Where] = {
    r.Redirect: Where(("nat",), (_PRE, _OUT), "net/netfilter/xt_REDIRECT.c"),
    r.Dnat: Where(("nat",), (_PRE, _OUT), "net/netfilter/xt_nat.c"),
    r.Snat: Where(("nat",), (_POST, _IN), "net/netfilter/xt_nat.c"),
    r.Masquerade: Where(("nat",), (_POST,), "net/netfilter/xt_MASQUERADE.c"),
    r.Netmap: Where(("nat",), (_PRE, _POST, _OUT, _IN), "net/netfilter/xt_NETMAP.c"),
    r.Tproxy: Where(("mangle",), (_PRE,), "net/netfilter/xt_TPROXY.c"),
    r.Reject: Where(("filter",), (_IN, _FORWARD, _OUT), "net/ipv4/netfilter/ipt_REJECT.c"),
    r.NoTrack: Where(("raw",), None, "net/netfilter/xt_CT.c"),
    r.TrackAs: Where(("raw",), None, "net/netfilter/xt_CT.c"),
    r.ChangeTtl: Where(("mangle",), None, "net/netfilter/xt_HL.c"),
    r.SetTos: Where(("mangle",), None, "net/netfilter/xt_DSCP.c"),
    r.SetDscp: Where(("mangle",), None, "net/netfilter/xt_DSCP.c"),
}

MATCHES: dict[type[Any], Where] = {
    r.OwnerIds: Where(None, (_OUT, _POST), "net/netfilter/xt_owner.c"),
    r.OwnerNames: Where(None, (_OUT, _POST), "net/netfilter/xt_owner.c"),
    r.MacSource: Where(None, (_PRE, _IN, _FORWARD), "net/netfilter/xt_mac.c"),
    r.ReversePath: Where(("raw", "mangle"), (_PRE,), "net/ipv4/netfilter/ipt_rpfilter.c"),
    r.SocketMatch: Where(None, (_PRE, _IN), "net/netfilter/xt_socket.c"),
}


def of_target(target: r.Target) -> Where:
    """Where the kernel takes the target."""
    if isinstance(target, r.ClampMss) and target.mss is None:
        return Where(None, (_FORWARD, _OUT, _POST), "net/netfilter/xt_TCPMSS.c", legacy=True)
    if isinstance(target, r.Log):
        word = target.text.split()[1]
        if word == "TRACE":
            return Where(("raw",), None, "net/netfilter/xt_TRACE.c", legacy=True)
        if word == "CHECKSUM":
            return Where(("mangle",), None, "net/netfilter/xt_CHECKSUM.c")
        if word == "CLASSIFY":
            return Where(None, (_FORWARD, _OUT, _POST), "net/netfilter/xt_CLASSIFY.c")
    return TARGETS.get(type(target), Where())


def of_match(match: r.Match) -> Where:
    """Where the kernel takes the match."""
    if isinstance(match, r.AddressType) and match.limit is not None:
        hooks = (_PRE, _IN, _FORWARD) if match.limit is r.Limit.IN else (_FORWARD, _OUT, _POST)
        return Where(None, hooks, "net/netfilter/xt_addrtype.c", legacy=True)
    if isinstance(match, r.Physdev) and (match.outside is not None or match.is_out is not None):
        # A packet on its way out is known to be bridged only if it is asked for, and in INPUT never.
        if match.is_bridged is None:
            return Where(None, (_PRE, _IN, _FORWARD, _POST), "net/netfilter/xt_physdev.c", legacy=True)
    return MATCHES.get(type(match), Where())


def hooks_of(table: r.Table) -> dict[str, frozenset[Hook]]:
    """For each chain of a table the hooks from whose built-in chain it is reached, by jumps and gotos."""
    found: dict[str, set[Hook]] = {name: set() for name in table.chains}
    for name in BUILT_IN[table.name]:
        if name not in table.chains:
            continue
        waiting = [name]
        while waiting:
            chain = waiting.pop()
            if Hook(name) in found[chain]:
                continue
            found[chain].add(Hook(name))
            for rule in table.chains[chain].rules:
                if isinstance(rule.target, r.Jump | r.Goto):
                    waiting.append(rule.target.chain)
    return {name: frozenset(hooks) for name, hooks in found.items()}
