"""Packets that random ones hardly ever are like, each with the host and the rules that tell it from others."""

from __future__ import annotations

from collections.abc import Iterator

from verifier import hosts as h
from verifier import rules as r
from verifier.hosts import Setting
from verifier.journeys import FromOutside
from verifier.packets import Packet
from verifier.values import TCP, Family, Net, TcpFlag, read_address

from .examples import host, ip, rule_set

ICMP6 = 58


def of(family: Family) -> Iterator[tuple[Setting, FromOutside, Packet]]:
    yield from _icmp6_in_ipv4() if family is Family.IPV4 else _two_ways_back()


def _icmp6_in_ipv4() -> Iterator[tuple[Setting, FromOutside, Packet]]:
    """ICMPv6 is a protocol that an IPv4 packet can have, though no type of it is looked at."""
    asks = (
        r.Rule((r.Literal(r.Protocol(ICMP6)), r.Literal(r.Icmp6Type(kind), negated)))
        for kind in (0, 128)
        for negated in (False, True)
    )
    setting = Setting(host(), rule_set(filter={"INPUT": tuple(asks)}))
    yield setting, FromOutside("eth0"), Packet(ip("10.0.0.9"), ip("10.0.0.5"), ICMP6, in_iface="eth0")


def _two_ways_back() -> Iterator[tuple[Setting, FromOutside, Packet]]:
    """Of two routes to one prefix the better one is by another interface than the packet came in by."""

    def address(text: str) -> int:
        return read_address(text, Family.IPV6)

    def interface(name: str, text: str, length: int = 64) -> h.Interface:
        return h.Interface(name, (h.Address(address(text), length, Family.IPV6),))

    far = Net.prefix(address("2001:db8:9::"), 48, Family.IPV6)
    two = h.Host(
        "host",
        (interface("lo", "::1", 128), interface("eth0", "2001:db8::5"), interface("eth1", "2001:db8:1::5")),
        (h.Route(far, "eth0", metric=1), h.Route(far, "eth1", metric=2)),
        dict(h.DEFAULTS_IPV6),
        family=Family.IPV6,
    )
    rule = r.Rule((r.Literal(r.ReversePath()),))
    raw = r.Table("raw", {"PREROUTING": r.Chain("PREROUTING", r.Accept(), (rule,))})
    for name in ("eth0", "eth1"):
        packet = Packet(
            address("2001:db8:9::1"),
            address("2001:db8::5"),
            TCP,
            4000,
            80,
            int(TcpFlag.SYN),
            in_iface=name,
            family=Family.IPV6,
        )
        yield Setting(two, r.RuleSet({"raw": raw}, Family.IPV6)), FromOutside(name), packet
