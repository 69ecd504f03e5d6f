"""Which fields of a packet the rules of a setting, or its routing rules, ask for or change: only these are carried on its
journeys.

A field that nobody asks for keeps the default that `Packet` gives it, everywhere: what it holds makes no difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from . import rules as r
from .hosts import Host, Setting
from .remembered import of_the_latest
from .sets import Counting, counting, runs_out, untold

FIELDS = (
    "ttl", "tos", "length", "tcp_options", "dccp_type", "dccp_options", "sctp_chunks", "sctp_flags", "spi", "extensions", "mac",
    "groups", "connection",
)  # fmt: skip
"""The fields of `Packet` that are carried on demand."""


@of_the_latest
def fields_carried(setting: Setting) -> frozenset[str]:
    """The fields of `FIELDS` that packets carry on the journeys of this setting: all others keep their defaults."""
    known = frozenset({"connection"}) if setting.answers or setting.rejections else frozenset[str]()
    if any(rule.tos is not None for rule in setting.host.routing_rules):
        known |= {"tos"}
    return fields_asked(setting.rules) | setting.also | known


@of_the_latest
def fields_asked(rules: r.RuleSet) -> frozenset[str]:
    """The fields of `FIELDS` that some match of the rule set reads or some target of it changes, called or not.

    What TCPMSS may change counts only where a match reads it.
    """
    loaded = [
        rule for table in rules.tables.values() for chain in table.chains.values() for rule in chain.rules
    ]
    matches = (literal.match for rule in loaded for literal in rule.literals)
    read = {field for match in matches for field in _read(match)}
    return frozenset(read | {field for rule in loaded for field in _changed(rule.target)})


def fields_of(literals: tuple[r.Literal, ...]) -> frozenset[str]:
    """The fields of `FIELDS` that these literals read."""
    return frozenset(field for literal in literals for field in _read(literal.match))


def groups_of(host: Host) -> tuple[tuple[int, ...], ...]:
    """The supplementary groups that sockets of the host may have, by the number that packets carry (`Packet.groups`); number
    0 is none."""
    return ((), *sorted({p.supplementary for p in host.processes} - {()}))


def named(match: r.Match, host: Host) -> r.Match:
    """The choice that is known by name which this match is on the host wherever it is one: what an entry's counters say, or
    whether entries are still there whose time runs; or else the match itself."""
    if isinstance(match, r.MatchSet) and match.name in host.sets:
        s = host.sets[match.name]
        counts = counters_of(match, host)
        # Where a packet may not tell what the set asks, the choice is about that too.
        runs = runs_out(s, host.sets) and not untold(s, host.sets)
        if counts is Counting.COUNTERS or (counts is Counting.NOTHING and runs):
            return r.Chance("set", match.name)
    return match


def counters_of(match: r.MatchSet, host: Host) -> Counting:
    """What counters have to do with it, where the host tells what is in the set."""
    s = host.sets.get(match.name)
    if s is None or (match.packets is None and match.bytes is None):
        return Counting.NOTHING
    return counting(s, host.sets)


def _read(match: r.Match) -> Iterator[str]:
    match match:
        case r.TcpOption():
            yield "tcp_options"
        case r.SctpChunks(_, _, flags):
            yield "sctp_chunks"
            if flags:
                yield "sctp_flags"
        case r.DccpTypes():
            yield "dccp_type"
        case r.DccpOption():
            yield "dccp_options"
        case r.Esp():
            yield "spi"
        case r.Ah():
            yield from ("spi", "extensions")
        case r.Ipv6Header():
            yield "extensions"
        case r.Length():
            yield "length"
        case r.Ttl():
            yield "ttl"
        case r.Tos() | r.Dscp():
            yield "tos"
        case r.MacSource():
            yield "mac"
        case r.OwnerIds():
            if match.supplementary:
                yield "groups"
        case r.ConnMark():
            yield "connection"
        case r.CtStates(_, nat):
            if nat:
                yield "connection"
        case r.Conntrack(tests):
            if any(not isinstance(t.criterion, r.CtStates) or t.criterion.nat for t in tests):
                yield "connection"
        case (
            r.Source() | r.Destination() | r.InInterface() | r.OutInterface() | r.Protocol() | r.Fragment()
            | r.SourcePorts() | r.DestinationPorts() | r.TcpFlags() | r.IcmpType() | r.Icmp6Type() | r.MultiportSources()
            | r.MultiportDestinations() | r.MultiportPorts() | r.SourceRange() | r.DestinationRange() | r.PacketType()
            | r.OwnerNames() | r.Mark() | r.AddressType() | r.MatchSet() | r.ReversePath() | r.SocketMatch() | r.Physdev()
            | r.Chance() | r.Opaque()
        ):  # fmt: skip
            pass
        case _:
            assert_never(match)


def _changed(target: r.Target | None) -> Iterator[str]:
    match target:
        case r.ChangeTtl():
            yield "ttl"
        case r.SetTos() | r.SetDscp():
            yield "tos"
        case r.SetConnMark() | r.SaveMark() | r.RestoreMark():
            yield "connection"
        case (
            None | r.Accept() | r.Drop() | r.Return() | r.Jump() | r.Goto() | r.Redirect() | r.Dnat() | r.Snat()
            | r.Masquerade() | r.Netmap() | r.Tproxy() | r.SetMark() | r.NoTrack() | r.TrackAs() | r.ClampMss()
            | r.SetEntry() | r.Reject() | r.Log() | r.Queue() | r.OpaqueTarget()
        ):  # fmt: skip
            pass
        case _:
            assert_never(target)
