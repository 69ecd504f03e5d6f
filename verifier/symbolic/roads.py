"""A host's tables, as its family, and its rules, ask them."""

from __future__ import annotations

from ..hosts import Host
from ..values import Family
from .packets import Names
from .routing import Road
from .routing_ipv6 import RoadIpv6
from .routing_rules import RoadByRules
from .routing_rules_ipv6 import RoadIpv6ByRules
from .terms import Terms


def road_of(terms: Terms, host: Host, names: Names) -> Road:
    if host.family is Family.IPV6:
        return (RoadIpv6ByRules if host.policy else RoadIpv6)(terms, host, names)
    return (RoadByRules if host.policy else Road)(terms, host, names)
