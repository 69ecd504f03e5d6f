"""What routing rules ask of a lookup beside its addresses and interfaces: the mark, the socket's uid, and what the packet's headers say."""

from __future__ import annotations

from msgspec import Struct

from ..hosts import Host, RoutingRule
from ..packets import Packet
from ..values import AH, ESP, IPV4, TCP, UDP, Ipv6Extension

ITS_PORTS = "which ports a routing rule is asked about"


class Keys(Struct, frozen=True):
    """(include/net/flow.h: struct flowi_common, union flowi_uli)"""

    mark: int = 0
    uid: int = 0
    """0 of what has no socket (include/net/sock.h: sock_net_uid)."""
    proto: int = 0
    """0 where the lookup does not tell, which no rule asks for; so are ports."""
    sport: int = 0
    dport: int = 0
    tos: int = 0


NO_KEYS = Keys()


# -- of what is looked up -----------------------------------------------------------------------


def of_sent(packet: Packet) -> Keys:
    """Of what a socket sends, or answers, and the kernel, which has none (include/net/route.h: ip_route_connect_init,
    ip_route_newports; net/ipv4/udp.c: udp_sendmsg; net/ipv4/inet_connection_sock.c: inet_csk_route_req; net/ipv4/icmp.c:
    icmp_reply; the same in IPv6)."""
    return Keys(packet.mark, packet.uid or 0, packet.proto, packet.sport, packet.dport, packet.tos)


def of_connecting(packet: Packet) -> Keys:
    """Of the first lookups of a TCP socket that has bound no port: it gets one behind them (net/ipv4/tcp_ipv4.c:
    tcp_v4_connect; net/ipv6/tcp_ipv6.c: tcp_v6_connect)."""
    return Keys(packet.mark, packet.uid or 0, packet.proto, 0, packet.dport, packet.tos)


def of_rerouted(host: Host, packet: Packet) -> Keys:
    """Of what is routed anew behind OUTPUT: in IPv4 the uid is forgotten (net/ipv4/netfilter.c: ip_route_me_harder, which
    leaves flowi4_uid 0; net/ipv6/netfilter.c: ip6_route_me_harder; observed)."""
    uid = 0 if host.family is IPV4 else packet.uid or 0
    return _dissected(host, packet, uid)


def of_arriving(host: Host, packet: Packet) -> Keys:
    """Of what comes in (net/ipv4/route.c: ip_route_input_slow; net/ipv6/route.c: ip6_route_input)."""
    return _dissected(host, packet, 0)


def turned(keys: Keys, *, marked: bool) -> Keys:
    """Of the way back to the source of what comes in with these (net/ipv4/fib_frontend.c: __fib_validate_source)."""
    return Keys(keys.mark if marked else 0, keys.uid, keys.proto, keys.dport, keys.sport, keys.tos)


def _dissected(host: Host, packet: Packet, uid: int) -> Keys:
    """The kernel reads the packet's header iff some rule makes it do so (include/net/ip_fib.h: fib4_rules_early_flow_dissect)."""
    if not any(_has_it_dissected(rule) for rule in host.routing_rules):
        return Keys(packet.mark, uid, tos=packet.tos)
    return Keys(packet.mark, uid, packet.proto, packet.sport, packet.dport, packet.tos)


def _has_it_dissected(rule: RoutingRule) -> bool:
    """One that speaks of what is sent here alone does not (include/net/fib_rules.h: fib_rule_requires_fldissect)."""
    return asks_for_headers(rule) and rule.in_iface != "lo"


def asks_for_headers(rule: RoutingRule) -> bool:
    """True iff it asks for the protocol or for ports."""
    return rule.protocol is not None or asks_for_ports(rule)


def asks_for_ports(rule: RoutingRule) -> bool:
    return rule.source_ports is not None or rule.destination_ports is not None


def ask_for_more(host: Host) -> bool:
    """True iff some rule asks for more than addresses, interfaces and marks, or before the local table is asked."""
    return bool(host.before_local) or any(
        rule.uids is not None or rule.tos is not None or asks_for_headers(rule) for rule in host.policy
    )


# -- of what nobody knows -----------------------------------------------------------------------


def are_untold_here(host: Host, packet: Packet) -> bool:
    """True iff nobody knows which ports a lookup has for what is sent here: those of ICMP are its type and code, or none
    (include/net/flow.h: fl4_icmp_type; net/ipv4/raw.c: raw_probe_proto_opt; observed), and others depend on the kind of socket."""
    known = packet.proto in (TCP, UDP) or not any(
        speaks_of_sent(rule) and _asks_for_ports_of(rule, packet) for rule in host.routing_rules
    )
    return not known or _is_behind_a_header(host, packet)


def are_untold_outside(host: Host, packet: Packet) -> bool:
    """The same of what arrives: the security parameter index reads as ports (net/core/flow_dissector.c: skb_flow_get_ports,
    proto_ports_offset; observed)."""
    known = packet.proto not in (ESP, AH) or not any(
        _asks_for_ports_of(rule, packet) for rule in host.routing_rules
    )
    return not known or _is_behind_a_header(host, packet)


def speaks_of_sent(rule: RoutingRule) -> bool:
    """True iff what the rule asks of headers may count for what is sent here, which comes in by lo."""
    return rule.in_iface in (None, "lo")


def _asks_for_ports_of(rule: RoutingRule, packet: Packet) -> bool:
    return asks_for_ports(rule) and rule.protocol in (None, packet.proto)


def _is_behind_a_header(host: Host, packet: Packet) -> bool:
    """No protocol is found behind AH (net/core/flow_dissector.c: __skb_flow_dissect)."""
    return bool(packet.extensions & Ipv6Extension.AUTH) and any(map(asks_for_headers, host.routing_rules))
