"""Lint's table of where matches and targets load, against what the kernel loads: every one in every built-in chain."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from verifier import rules as r
from verifier.analyses import places
from verifier.hooks import BUILT_IN, Hook
from verifier.kernel.errors import RulesRefused
from verifier.kernel.iptables import BackendName, Iptables
from verifier.kernel.namespaces import Namespace
from verifier.values import Ids, Iface, Net, PacketKind, Span

pytestmark = pytest.mark.kernel

TO = r.NatRange.of(0x0A000001)

TARGETS: tuple[tuple[r.Target, str], ...] = (
    (r.Redirect(), "-j REDIRECT"),
    (r.Dnat(TO), "-j DNAT --to-destination 10.0.0.1"),
    (r.Snat(TO), "-j SNAT --to-source 10.0.0.1"),
    (r.Masquerade(), "-j MASQUERADE"),
    (r.Netmap(Net(0x0A000000, 0xFFFFFF00)), "-j NETMAP --to 10.0.0.0/24"),
    (r.Tproxy(15001), "-p tcp -j TPROXY --on-port 15001"),
    (r.Reject(), "-j REJECT"),
    (r.NoTrack(), "-j CT --notrack"),
    (r.TrackAs("--zone 1"), "-j CT --zone 1"),
    (r.ChangeTtl(r.Change.SET, 9), "-j TTL --ttl-set 9"),
    (r.SetTos(8), "-j TOS --set-tos 8"),
    (r.SetDscp(8), "-j DSCP --set-dscp 8"),
    (r.ClampMss(1400), "-p tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1400"),
    (r.ClampMss(), "-p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu"),
    (r.SetMark(r.MarkMask(1)), "-j MARK --set-xmark 0x1/0xffffffff"),
    (r.SetConnMark(r.MarkMask(1)), "-j CONNMARK --set-xmark 0x1/0xffffffff"),
    (r.SaveMark(), "-j CONNMARK --save-mark"),
    (r.Queue("-j NFQUEUE --queue-num 0"), "-j NFQUEUE --queue-num 0"),
    (r.Log("-j LOG"), "-j LOG"),
    (r.Log("-j TRACE"), "-j TRACE"),
    (r.Log("-j CHECKSUM --checksum-fill"), "-j CHECKSUM --checksum-fill"),
    (r.Log("-j CLASSIFY --set-class 0:1"), "-j CLASSIFY --set-class 0:1"),
)

LOCAL = frozenset({r.RouteType.LOCAL})

MATCHES: tuple[tuple[r.Match, str], ...] = (
    (r.OwnerIds(Ids(1, 1)), "-m owner --uid-owner 1"),
    (r.OwnerIds(socket_exists=True), "-m owner --socket-exists"),
    (r.MacSource(1), "-m mac --mac-source 00:00:00:00:00:01"),
    (r.ReversePath(), "-m rpfilter"),
    (r.SocketMatch(), "-m socket"),
    (r.AddressType(LOCAL), "-m addrtype --src-type LOCAL"),
    (r.AddressType(LOCAL, limit=r.Limit.IN), "-m addrtype --src-type LOCAL --limit-iface-in"),
    (r.AddressType(LOCAL, limit=r.Limit.OUT), "-m addrtype --src-type LOCAL --limit-iface-out"),
    (r.Physdev(inside=Iface("p0")), "-m physdev --physdev-in p0"),
    (r.Physdev(outside=Iface("p0")), "-m physdev --physdev-out p0"),
    (r.Physdev(outside=Iface("p0"), is_bridged=True), "-m physdev --physdev-out p0 --physdev-is-bridged"),
    (r.Physdev(is_in=True), "-m physdev --physdev-is-in"),
    (r.Physdev(is_out=True), "-m physdev --physdev-is-out"),
    (r.PacketType(PacketKind.BROADCAST), "-m pkttype --pkt-type broadcast"),
    (r.Length(1, 2), "-m length --length 1:2"),
    (r.Ttl(r.Comparison.EQUAL, 3), "-m ttl --ttl-eq 3"),
    (r.Tos(8), "-m tos --tos 8"),
    (r.ConnMark(r.MarkMask(1)), "-m connmark --mark 1"),
    (r.SourcePorts(Span.one(1)), "-p tcp -m tcp --sport 1"),
    (r.IcmpType(8), "-p icmp -m icmp --icmp-type 8"),
)


def loads(iptables: Iptables, table: str, chain: str, rule: str) -> bool:
    """Whether the kernel takes the rule in a chain that this built-in chain jumps to."""
    text = f"*{table}\n:{chain} ACCEPT [0:0]\n:USER - [0:0]\n-A USER {rule}\n-A {chain} -j USER\nCOMMIT\n"
    try:
        iptables.load(text)
    except RulesRefused:
        return False
    return True


def expected(where: places.Where, table: str, hook: Hook, backend: BackendName) -> bool:
    if where.legacy and backend == "nft":
        return True
    return (where.tables is None or table in where.tables) and (where.hooks is None or hook in where.hooks)


def built_in() -> Iterator[tuple[str, Hook]]:
    for table, chains in BUILT_IN.items():
        for chain in chains:
            yield table, Hook(chain)


@pytest.mark.parametrize(("target", "rule"), TARGETS, ids=lambda x: x if isinstance(x, str) else "")
def test_a_target_loads_where_lint_says(target: r.Target, rule: str, backend: BackendName) -> None:
    iptables = Iptables(Namespace(), backend)
    where = places.of_target(target)
    found = {(t, h.value): loads(iptables, t, h.value, rule) for t, h in built_in()}
    assert found == {(t, h.value): expected(where, t, h, backend) for t, h in built_in()}


@pytest.mark.parametrize(("match", "rule"), MATCHES, ids=lambda x: x if isinstance(x, str) else "")
def test_a_match_loads_where_lint_says(match: r.Match, rule: str, backend: BackendName) -> None:
    iptables = Iptables(Namespace(), backend)
    where = places.of_match(match)
    found = {(t, h.value): loads(iptables, t, h.value, rule) for t, h in built_in()}
    assert found == {(t, h.value): expected(where, t, h, backend) for t, h in built_in()}
