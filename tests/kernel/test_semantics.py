"""Each fact of the table on the kernel, and in both wings."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from verifier.asked import fields_carried
from verifier.concrete.travel import as_sent, can_send, travel
from verifier.fuzzing.run import BACKENDS
from verifier.fuzzing.symbolic import disagreement
from verifier.hosts import Process, Setting
from verifier.journeys import FromProcess, Group
from verifier.kernel.compare import difference, settle
from verifier.kernel.errors import RulesRefused
from verifier.kernel.iptables import BackendName, Iptables
from verifier.kernel.namespaces import Namespace
from verifier.kernel.oracle import Observation, Oracle, Shot
from verifier.kernel.traces import ENDS, LOCAL, POST
from verifier.packets import Packet
from verifier.reading.rules import read_rules
from verifier.values import Family, IdSet, read_address

from .facts import FACTS, Fact
from .hosts import host, interface

pytestmark = pytest.mark.kernel

CASES = [(fact, backend) for fact in FACTS for backend in BACKENDS if fact.only in (None, backend)]


@pytest.mark.parametrize(("fact", "backend"), CASES, ids=[f"{f}-{b}" for f, b in CASES])
def test_a_fact_holds_in_the_kernel_and_in_both_wings(fact: Fact, backend: BackendName) -> None:
    rules = next(iter(read_rules(fact.text(), "a fact").families.values()))
    setting = Setting(replace(fact.host(), backend=BACKENDS[backend]), rules)
    sender, packet = fact.packet()
    assert not isinstance(sender, FromProcess) or can_send(setting, sender.process, packet)
    sent = as_sent(setting, sender, packet)
    with Oracle(setting.host, backend) as oracle:
        oracle.load(rules, fact.text())
        (seen,) = oracle.ask([Shot(sender, sent, "length" in fields_carried(setting))])
    assert seen is not None
    assert " ".join(path(seen)) == fact.path
    settled = settle(setting, lambda choices: travel(setting, sender, sent, choices), sender, seen)
    assert settled.difference is None, settled.difference
    assert disagreement(setting, [(sender, sent)]) is None


def path(seen: Observation) -> Iterator[str]:
    for step in seen.steps:
        if step.table == ENDS:
            yield "local" if step.chain == LOCAL else f"out {step.out_iface}"
        elif step.number:
            yield f"{step.table}/{step.chain} {step.number}"


REFUSED = [
    ("44 owner is for what is sent", "filter -A INPUT -m owner --uid-owner 5"),
    ("94 REDIRECT is for the two sides of the wire that come first", "nat -A POSTROUTING -p tcp -j REDIRECT"),
    ("94 SNAT is for the other two", "nat -A PREROUTING -j SNAT --to-source 10.0.0.1"),
    ("94 MASQUERADE is for POSTROUTING", "nat -A OUTPUT -j MASQUERADE"),
    ("94 TPROXY is for mangle", "filter -A INPUT -p tcp -j TPROXY --on-port 1"),
    ("94 REJECT is for filter", "mangle -A INPUT -j REJECT"),
    ("94 CT is for raw", "mangle -A PREROUTING -j CT --notrack"),
    ("94 a port needs a protocol", "filter -A INPUT --dport 80"),
    ("14 DROP is not for nat", "nat -A PREROUTING -j DROP"),
    ("84 a chain that reaches itself is refused", "filter -A INPUT -j INPUT"),
]


@pytest.mark.parametrize(("name", "rule"), REFUSED, ids=[name for name, _ in REFUSED])
def test_what_the_kernel_refuses_is_refused(name: str, rule: str, backend: BackendName) -> None:
    fact = Fact(name, (rule,), "", "")
    near = Namespace()
    try:
        with pytest.raises(RulesRefused):
            Iptables(near, backend).load(fact.text())
    finally:
        near.close()


@pytest.mark.parametrize("device", [None, "eth1"])
def test_a_broadcast_address_of_two_interfaces_is_one_for_either(
    device: str | None, backend: BackendName
) -> None:
    """The local table has it once for each; without a device the first is taken."""
    anyone = IdSet.read("any")
    two = host(
        interface("eth0", "10.0.0.5/24"),
        interface("eth1", "10.0.0.9/24"),
        processes=(Process("app", anyone, anyone, device="eth1"),),
    )
    rules = read_rules("*filter\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -o eth1\nCOMMIT\n", "two").families[
        Family.IPV4
    ]
    setting = Setting(replace(two, backend=BACKENDS[backend]), rules)
    sender = FromProcess("app")
    packet = Packet(
        read_address("10.0.0.9"), read_address("10.0.0.255"), 17, 4000, 80, uid=1, gid=1, device=device
    )
    sent = as_sent(setting, sender, packet)
    with Oracle(setting.host, backend) as oracle:
        oracle.load(rules)
        (seen,) = oracle.ask([Shot(sender, sent)])
    assert seen is not None
    assert next(s.out_iface for s in seen.steps if s.chain == POST) == (device or "eth0")
    journey = travel(setting, sender, sent)
    assert isinstance(journey.end, Group)
    assert difference(setting, journey, sender, seen) is None
    assert disagreement(setting, [(sender, sent)]) is None
