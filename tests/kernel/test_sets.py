"""The kernel's own ip sets: what they hold of real packets is what the concrete wing says, and what the tool prints
of them is read as the sets that were loaded.
"""

from __future__ import annotations

import re
import shutil
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from time import sleep

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from verifier.concrete import sets as concrete
from verifier.kernel.building import NEAR_MAC
from verifier.kernel.namespaces import CommandFailed, Namespace
from verifier.kernel.segments import ipv4_packet
from verifier.kernel.wires import Wire
from verifier.matches import Direction
from verifier.packets import Packet
from verifier.reading.ipset import read_sets
from verifier.sets import Address, Entry, IpSet, Member, SetType, at_first, at_last, members
from verifier.spell_sets import sets as spell
from verifier.values import ICMP, Family

from .. import ip_sets as some
from .conftest import need

pytestmark = pytest.mark.kernel

YES, NO = frozenset({True}), frozenset({False})

INTERFACES = ("eth0", "eth1", "e", "veth0")
EXAMPLES = settings(
    max_examples=45,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


class Lab:
    """A namespace with interfaces, frames for them, and the rules' counters."""

    def __init__(self, namespace: Namespace, wires: dict[str, Wire]) -> None:
        self.namespace = namespace
        self._wires = wires

    def load(self, sets: Sequence[IpSet], rules: Sequence[str]) -> None:
        self.namespace.run(["iptables-legacy-restore", "-w"], "*raw\nCOMMIT\n")
        # A list holds on to its members until it is flushed.
        self.namespace.run(["ipset", "flush"])
        self._destroy()
        self.namespace.run(["ipset", "restore"], spell(sets))
        lines = "\n".join(f"-A PREROUTING {rule}" for rule in [*rules, ""])
        self.namespace.run(["iptables-legacy-restore", "-w"], f"*raw\n{lines}\nCOMMIT\n")

    def _destroy(self) -> None:
        """A set that a rule of before has matched, or that was listed, may be in use for some time."""
        for _ in range(500):
            try:
                self.namespace.run(["ipset", "destroy"])
            except CommandFailed:
                sleep(0.002)
            else:
                return
        raise TimeoutError("the sets stay in use")

    def matched(self, packet: Packet) -> list[bool]:
        """Which of the rules match this packet; it comes by its in-interface."""
        before = self._counts()
        assert packet.in_iface is not None
        self._wires[packet.in_iface].send(frame(packet))
        for _ in range(200):
            after = self._counts()
            if after[-1] > before[-1]:
                assert after[-1] == before[-1] + 1, "another packet came by"
                return [b > a for a, b in zip(before[:-1], after[:-1], strict=True)]
            sleep(0.001)
        raise TimeoutError("the packet did not come")

    def _counts(self) -> list[int]:
        text = self.namespace.run(["iptables-legacy-save", "-c", "-t", "raw"])
        return [int(n) for n in re.findall(r"^\[(\d+):\d+\] -A", text, re.MULTILINE)]


def frame(packet: Packet) -> bytes:
    """The IPv4 packet in bytes, its transport header long enough for the kernel to read."""
    if packet.proto == ICMP:
        payload = bytes([packet.icmp_type, packet.icmp_code]) + bytes(6)
    else:
        payload = struct.pack("!HH", packet.sport, packet.dport) + bytes(16)
    return ipv4_packet(packet.src, packet.dst, packet.proto, payload)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    need("legacy")
    if shutil.which("ipset") is None:
        pytest.skip("ipset is not installed")
    with ExitStack() as stack:
        namespace = Namespace()
        stack.callback(namespace.close)
        namespace.set_sysctl("net/ipv6/conf/default/disable_ipv6", 1)
        mac = ":".join(f"{byte:02x}" for byte in NEAR_MAC)
        wires = {}
        for name in INTERFACES:
            add = f"ip link add {name} address {mac} type veth peer name far_{name}"
            for command in (add, f"ip link set {name} up", f"ip link set far_{name} up"):
                namespace.run(command.split())
            wires[name] = Wire(namespace, f"far_{name}")
            stack.callback(wires[name].close)
        lab = Lab(namespace, wires)
        lab.load((), ())
        for wire in wires.values():
            _wait(lab, wire)
        yield lab


def _wait(lab: Lab, wire: Wire) -> None:
    """A link that has just come up loses what is sent at first."""
    for _ in range(500):
        before = lab._counts()
        wire.send(ipv4_packet(1, 1, 253, bytes(20)))
        sleep(0.005)
        if lab._counts() > before:
            sleep(0.02)
            return
    raise TimeoutError("the link does not come up")


@pytest.fixture(scope="module")
def kinds(lab: Lab) -> list[SetType]:
    """The types of sets that this kernel has."""
    found = []
    for kind in SetType:
        room = "range 1-2" if kind is SetType.BITMAP_PORT else "range 10.0.0.0/24"
        try:
            lab.namespace.run(
                ["ipset", "create", "x", kind.value, *(room.split() if "bitmap" in kind.value else ())]
            )
        except CommandFailed:
            continue
        lab.namespace.run(["ipset", "destroy", "x"])
        found.append(kind)
    return found


def loadable(s: IpSet) -> IpSet:
    """Without what the kernel refuses at load: addresses that are 0."""
    return replace(s, entries=tuple(e for e in s.entries if Address(0) not in e.elements))


@st.composite
def several(draw: st.DrawFn, kinds: Sequence[SetType]) -> list[IpSet]:
    chosen = draw(st.lists(some.sets(kinds), min_size=4, max_size=4))
    named = [replace(loadable(s), name=f"s{i}") for i, s in enumerate(chosen)]
    listed = draw(st.lists(st.sampled_from(named), unique_by=lambda s: s.name, max_size=3))
    stays = st.none() if draw(st.booleans()) else st.sampled_from((0, 300))
    entries = [Entry((Member(s.name),), timeout=draw(stays)) for s in listed]
    timeout = 300 if any(e.timeout is not None for e in entries) else None
    return [*named, IpSet("l", SetType.LIST_SET, tuple(entries), timeout=timeout)]


def test_a_packet_is_in_a_set_iff_the_kernel_finds_it(lab: Lab, kinds: list[SetType]) -> None:
    """Entries whose time runs are there: for minutes, here."""
    asked: dict[frozenset[bool] | None, int] = {YES: 0, NO: 0, None: 0}

    @EXAMPLES
    @given(data=st.data())
    def law(data: st.DataObject) -> None:
        sets = data.draw(several(kinds))
        by_name = {s.name: s for s in sets}
        first = {s.name: at_first(s) for s in sets}
        ways = st.lists(st.sampled_from(Direction), min_size=2, max_size=3)
        # The tool refuses a rule that names a set of the other family; a list may hold one.
        asking = [s for s in sets if s.family is not Family.IPV6 for _ in range(2)]
        matches = [(s, data.draw(ways), data.draw(st.booleans())) for s in asking]
        lab.load(sets, [_rule(s, ways, nomatch) for s, ways, nomatch in matches])
        for _ in range(6):
            packet = replace(
                data.draw(some.packets(*((s, ways) for s, ways, _ in matches))),
                in_iface=data.draw(st.sampled_from(INTERFACES)),
                out_iface=None,
                mark=0,
            )
            for (s, ways, nomatch), matched in zip(matches, lab.matched(packet), strict=True):
                expected = concrete.holds(first[s.name], first, packet, ways, nomatch)
                asked[expected] += 1
                told = (spell(sets), s.name, ways, nomatch, packet, matched)
                assert expected in (None, frozenset({matched})), told
                possible = concrete.holds(s, by_name, packet, ways, nomatch)
                assert possible is None or matched in possible, told

    law()
    assert asked[YES] > 50, asked


def _rule(s: IpSet, ways: Sequence[Direction], nomatch: bool) -> str:
    words = ",".join(way.value for way in ways)
    return f"-m set --match-set {s.name} {words}" + " --return-nomatch" * nomatch


def test_what_ipset_prints_is_the_set_that_was_loaded(lab: Lab, kinds: list[SetType]) -> None:
    @EXAMPLES
    @given(data=st.data())
    def law(data: st.DataObject) -> None:
        sets = data.draw(several(kinds))
        lab.load(sets, ())
        expected = {s.name: plain(s) for s in sets}
        for command in ("save", "list"):
            found = read_sets(lab.namespace.run(["ipset", command]), command)
            assert {name: plain(s) for name, s in found.items()} == expected

    law()


def plain(s: IpSet) -> tuple[IpSet, object]:
    """A set and its entries in any order, but for a list's; how long entries still stay does not matter."""
    stays = [replace(e, timeout=bool(e.timeout)) if e.timeout is not None else e for e in s.entries]
    return replace(s, entries=()), stays if members(s) else frozenset(stays)


def test_every_code_that_has_a_name_is_read(lab: Lab) -> None:
    lab.load((), ())
    for family, name, types in (
        ("inet", "icmp", range(20)),
        ("inet6", "icmpv6", (*range(6), *range(126, 140))),
    ):
        codes = [(kind, code) for kind in types for code in range(17)]
        lines = [f"create c hash:ip,port family {family}"]
        host = "10.0.0.1" if family == "inet" else "2001:db8::1"
        lines += [f"add c {host},{name}:{kind}/{code}" for kind, code in codes]
        lab.namespace.run(["ipset", "restore"], "\n".join([*lines, ""]))
        (found,) = read_sets(lab.namespace.run(["ipset", "save", "c"]), "save").values()
        (given_,) = read_sets("\n".join(lines), "given").values()
        assert set(found.entries) == set(given_.entries)
        assert len(found.entries) == len(codes)
        lab.namespace.run(["ipset", "destroy", "c"])


NETS = """
create n hash:net
add n 10.0.0.0/8
add n 10.1.0.0/16 nomatch
add n 10.1.2.0/24
"""
IFACES = """
create i hash:net,iface
add i 10.0.0.0/8,eth0
add i 10.1.0.0/16,eth1
"""
FACTS: list[tuple[str, str, str, str, int, bool]] = [
    (NETS, "n src", "eth0", "10.0.0.1", 6, True),
    (NETS, "n src", "eth0", "10.1.0.1", 6, False),
    (NETS, "n src", "eth0", "10.1.2.1", 6, True),
    (NETS, "n src --return-nomatch", "eth0", "10.1.0.1", 6, True),
    (NETS, "n src --return-nomatch", "eth0", "10.0.0.1", 6, False),
    (IFACES, "i src,src", "eth0", "10.0.0.1", 6, True),
    # The narrower network ends the search, though its interface is another one.
    (IFACES, "i src,src", "eth0", "10.1.0.1", 6, False),
    (IFACES, "i src,src", "eth1", "10.1.0.1", 6, True),
    (IFACES, "i src,dst", "eth1", "10.1.0.1", 6, False),
    ("create p bitmap:port range 0-100\nadd p 0\n", "p src", "eth0", "10.0.0.1", 6, True),
    ("create p bitmap:port range 0-100\nadd p 0\n", "p src", "eth0", "10.0.0.1", 132, False),
    ("create p hash:ip,port\nadd p 10.0.0.1,33:0\n", "p src,src", "eth0", "10.0.0.1", 33, True),
    ("create p hash:ip,port\nadd p 10.0.0.1,33:0\n", "p src", "eth0", "10.0.0.1", 33, False),
    ("create h hash:ip netmask 24\nadd h 10.0.0.77\n", "h src", "eth0", "10.0.0.1", 6, True),
]


@pytest.mark.parametrize(("text", "match", "interface", "source", "proto", "expected"), FACTS)
def test_a_fact_of_ip_sets(
    lab: Lab, text: str, match: str, interface: str, source: str, proto: int, expected: bool
) -> None:
    sets = read_sets(text, "text")
    lab.load(list(sets.values()), [f"-m set --match-set {match}"])
    src = int.from_bytes(bytes(map(int, source.split("."))))
    packet = Packet(src, 0x0A630001, proto, sport=0, dport=0, in_iface=interface)
    name, ways, *nomatch = match.split()
    directions = [Direction(way) for way in ways.split(",")]
    assert concrete.holds(sets[name], sets, packet, directions, bool(nomatch)) == {expected}
    assert lab.matched(packet) == [expected]


GOING = """
create g hash:net timeout {time}
add g 10.0.0.0/8 timeout 0
add g 10.1.0.0/16 timeout 3 nomatch
add g 10.1.1.0/24 timeout 3
add g 10.2.0.0/16 timeout 3
add g 10.2.2.0/24 timeout 0 nomatch
add g 11.0.0.0/8 timeout 3
add g 11.1.0.0/16 timeout 0
create i hash:net,iface timeout {time}
add i 10.0.0.0/8,eth0 timeout 0
add i 10.1.0.0/16,eth1 timeout 3
add i 10.2.0.0/16,eth1 timeout 0
add i 10.3.0.0/16,eth1 timeout 0
add i 10.3.0.0/16,eth0 timeout 3 nomatch
add i 10.4.0.0/16,eth1 timeout 3
add i 10.4.0.0/16,eth timeout 0 nomatch wildcard
add i 11.0.0.0/8,eth0 timeout 3
create b bitmap:ip range 10.0.0.0-10.0.255.255 timeout {time}
add b 10.0.0.0 timeout 3
add b 10.0.0.1 timeout 0
create h hash:ip,port timeout {time}
add h 10.1.0.0,udp:0 timeout 3
add h 10.2.0.0,udp:0 timeout 0
create l list:set timeout {time}
add l b timeout 3
add l h timeout 0
"""


@pytest.mark.parametrize("time", [600, 1], ids=["still in the table", "collected"])
def test_what_has_gone_is_passed_by_in_the_kernel(lab: Lab, time: int) -> None:
    """(net/netfilter/ipset/ip_set_hash_gen.h: mtype_gc runs one second after the set is made, and then three times in its time, or
    each second.)"""
    sets = read_sets(GOING.format(time=time), "text")
    last = {name: at_last(s) for name, s in sets.items()}
    asked = [(name, nomatch) for name in sets for nomatch in (False, True)]
    ways = (Direction.SOURCE, Direction.SOURCE)
    lab.load(list(sets.values()), [_rule(sets[name], ways, nomatch) for name, nomatch in asked])
    sleep(5.5)
    for source in (0x0A000000, 0x0A000001, 0x0A010000, 0x0A010100, 0x0A020000, 0x0A020200, 0x0A030000, 0x0A040000, 0x0B000000, 0x0B010000):  # fmt: skip
        for interface in ("eth0", "eth1"):
            packet = Packet(source, 0x0A630001, 17, sport=0, dport=0, in_iface=interface)
            for (name, nomatch), matched in zip(asked, lab.matched(packet), strict=True):
                told = (name, nomatch, hex(source), interface, matched)
                possible = concrete.holds(sets[name], sets, packet, ways, nomatch)
                assert possible is not None, told
                assert matched in possible, told
                ended = concrete.holds(last[name], last, packet, ways, nomatch)
                # Of hash:net,iface what is only over still ends the search.
                assert ended == {matched} or (name == "i" and time == 600), told
                if (name, nomatch, source, interface) == ("i", False, 0x0A010000, "eth0"):
                    assert matched is (time == 1), told


COUNTS = """
create plain hash:net
add plain 10.0.0.0/8
add plain 10.1.0.0/16 nomatch
create counted hash:net counters
add counted 10.0.0.0/8 packets 5 bytes 500
create wide list:set
add wide counted
create tall list:set counters
add tall plain packets 7 bytes 70
"""


@pytest.mark.parametrize(
    ("match", "expected"),
    # A set that does not count is asked as if nothing were said of counters; each packet is counted before it is compared.
    [
        *((f"plain src {count}", True) for count in ("--packets-eq 9", "! --packets-eq 0", "--packets-lt 0", "--bytes-gt 18446744073709551615")),
        *((f"wide src {count}", True) for count in ("--packets-eq 9", "--packets-lt 0")),
        ("counted src --packets-eq 5", False), ("counted src --packets-eq 6", True), ("counted src --packets-gt 5", True),
        ("counted src ! --update-counters --packets-eq 5", True), ("counted src ! --packets-eq 6", False),
        ("counted src --packets-eq 6 --bytes-lt 500", False), ("counted src --packets-eq 6 --bytes-gt 500", True),
        ("tall src --packets-eq 8", True), ("tall src --packets-eq 7", False), ("tall src --packets-eq 6", False),
    ],
)  # fmt: skip
def test_a_fact_of_counters(lab: Lab, match: str, expected: bool) -> None:
    """What is not in the set matches never, whatever is asked of counters."""
    lab.load((), ())
    lab.namespace.run(["ipset", "restore"], COUNTS)
    rules = [f"-m set --match-set {match}", f"-m set ! --match-set {match}"]
    for rule, wanted in zip(rules, (expected, not expected), strict=True):
        # One at a time, since each counts.
        lab.namespace.run(
            ["iptables-legacy-restore", "-w"], f"*raw\n-A PREROUTING {rule}\n-A PREROUTING\nCOMMIT\n"
        )
        assert lab.matched(Packet(0x0B000001, 0x0A630001, 17, in_iface="eth0")) == [rule == rules[1]]
        lab.namespace.run(["iptables-legacy-restore", "-w"], "*raw\nCOMMIT\n")
        lab.namespace.run(["ipset", "flush"])
        lab.namespace.run(["ipset", "restore", "-exist"], COUNTS)
        lab.namespace.run(
            ["iptables-legacy-restore", "-w"], f"*raw\n-A PREROUTING {rule}\n-A PREROUTING\nCOMMIT\n"
        )
        assert lab.matched(Packet(0x0A000001, 0x0A630001, 17, in_iface="eth0")) == [wanted], rule
        lab.namespace.run(["iptables-legacy-restore", "-w"], "*raw\nCOMMIT\n")
        lab.namespace.run(["ipset", "flush"])
        lab.namespace.run(["ipset", "restore", "-exist"], COUNTS)
