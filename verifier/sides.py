"""Of which packets of a family a claim speaks: its addresses, protocols and matches tell, and what tells nothing speaks of both."""

from __future__ import annotations

from msgspec.structs import replace

from . import claims as c
from . import rules as r
from .values import ICMP, ICMPV6, AddressSet, Family, nowhere

PROTOCOLS = {ICMP: Family.IPV4, ICMPV6: Family.IPV6}
"""The protocols that packets of one family alone are meant with."""


def of_family(premise: c.Premise, family: Family) -> c.Premise | None:
    """The premise of packets of this family alone; None iff it speaks of none."""
    found = _filter(premise.filter, family)
    if found is None:
        return None
    exceptions = ((e, _filter(e.filter, family)) for e in premise.exceptions)
    kept = tuple(replace(e, filter=its) for e, its in exceptions if its is not None)
    return replace(premise, filter=found, exceptions=kept)


def _filter(wanted: c.Filter, family: Family) -> c.Filter | None:
    if wanted.protocol in PROTOCOLS and PROTOCOLS[wanted.protocol] is not family:
        return None
    if not all(_families(literal) >= {family} for literal in wanted.where):
        return None
    to = None if wanted.to is None else wanted.to.of(family)
    source = None if wanted.source is None else wanted.source.of(family)
    if (to is None) != (wanted.to is None) or (source is None) != (wanted.source is None):
        return None
    return replace(wanted, to=to, source=source)


def _families(literal: r.Literal) -> set[Family]:
    """The families whose packets the condition may be about."""
    match literal.match:
        case r.Source(net) | r.Destination(net):
            return {net.family}
        case r.SourceRange() | r.DestinationRange():
            return {literal.match.family}
        case r.Protocol(number) if number in PROTOCOLS and not literal.negated:
            return {PROTOCOLS[number]}
        case r.IcmpType():
            return {Family.IPV4}
        case r.Icmp6Type() | r.Ipv6Header():
            return {Family.IPV6}
        case r.Conntrack(tests):
            nets = [t.criterion.net for t in tests if isinstance(t.criterion, r.CtAddress)]
            return {net.family for net in nets} if nets else set(Family)
        case _:
            return set(Family)


def having(wanted: c.With, family: Family) -> c.With:
    """The conditions as packets of this family meet them: an address of the other family is none that they have."""
    return replace(
        wanted, source=_restricted(wanted.source, family), destination=_restricted(wanted.destination, family)
    )


def _restricted(addresses: AddressSet | None, family: Family) -> AddressSet | None:
    return None if addresses is None else addresses.of(family) or nowhere(family)
