"""What the kernel oracle itself promises: it cleans up, forgets, finds its bounds, and names rules as iptables does."""

from __future__ import annotations

import os

import pytest

from verifier.hosts import ClientsOwn, Dial, Host, KernelChooses, Listener, Process, Proxy, ProxyRoute
from verifier.journeys import Choices
from verifier.kernel.errors import RulesRefused
from verifier.kernel.iptables import BackendName
from verifier.kernel.observed import Accepted, Dialled, Left, Onward, Reached, Refused, Silence
from verifier.kernel.pods import HOPS, Pod
from verifier.values import IdSet, Span

from .hosts import connect, filters, frame, host, interface, nat, route

pytestmark = pytest.mark.kernel

ETH0 = interface("eth0", "10.0.0.1/24")
DEFAULT = route("0.0.0.0/0", "eth0", via="10.0.0.200")
APP = {"app": Listener(80)}
NINE = IdSet.read("9")


def proxied(*routes: ProxyRoute) -> Host:
    """A host with an app on 80 and a proxy on 90."""
    proxy = Process("proxy", NINE, NINE, (Listener(90),), (Proxy("proxy", 90, routes),))
    return host(ETH0, routes=(DEFAULT,), listens=APP, processes=(proxy,))


def descriptors() -> set[str]:
    return {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _there(fd)}


def _there(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


def test_a_closed_pod_leaves_nothing_open(backend: BackendName) -> None:
    home, before = os.readlink("/proc/thread-self/ns/net"), descriptors()
    with Pod(host(ETH0, listens=APP), nat(), backend) as pod:
        pod.run(frame("10.0.0.77", "10.0.0.1"))
    assert (os.readlink("/proc/thread-self/ns/net"), descriptors()) == (home, before)


def test_nor_does_one_that_could_not_be_built(backend: BackendName) -> None:
    before = descriptors()
    with pytest.raises(RulesRefused):
        Pod(host(ETH0), nat("-A OUTPUT -j NOWHERE"), backend)
    assert descriptors() == before


def test_runs_know_nothing_of_each_other(backend: BackendName) -> None:
    """The same connection, again and again, is new to conntrack each time."""
    with Pod(host(ETH0, listens=APP), nat("-A PREROUTING -p tcp -j REDIRECT --to-ports 80"), backend) as pod:
        seen = [pod.run(frame("10.0.0.77", "10.0.0.1", 99), hits=True) for _ in range(20)]
    assert len(set(seen)) == 1
    assert seen[0].hits == frozenset({("nat", "PREROUTING", 1)})


def test_rules_are_replaced_as_a_whole(backend: BackendName) -> None:
    with Pod(host(ETH0, listens=APP), filters("-A INPUT -p tcp -j DROP"), backend) as pod:
        assert pod.run(frame("10.0.0.77", "10.0.0.1")).end == Silence()
        pod.reload(nat())
        assert pod.run(frame("10.0.0.77", "10.0.0.1")).end == Reached("app")


def test_an_empty_text_has_no_rules(backend: BackendName) -> None:
    with Pod(host(ETH0, listens=APP), "", backend) as pod:
        assert pod.run(connect("10.0.0.1"), hits=True).hits == frozenset()


@pytest.mark.parametrize(
    "how", ["icmp-port-unreachable", "icmp-proto-unreachable", "icmp-host-prohibited", "tcp-reset"]
)
def test_a_rejection_is_a_refusal(how: str, backend: BackendName) -> None:
    rule = f"-p tcp --syn -j REJECT --reject-with {how}"
    with Pod(host(ETH0, routes=(DEFAULT,), listens=APP), filters(f"-A INPUT {rule}"), backend) as pod:
        assert pod.run(frame("10.0.0.77", "10.0.0.1")).end == Refused()
        assert pod.run(connect("10.0.0.1")).end == Refused()
        pod.reload(filters(f"-A OUTPUT {rule}"))
        assert pod.run(connect("8.8.8.8")).end == Refused()


def test_rules_are_counted_by_chain_and_number(backend: BackendName) -> None:
    rules = nat(
        "-A OUTPUT -p tcp --dport 81 -j RETURN",
        "-A OUTPUT -p tcp --dport 80 -m comment --comment here",
        "-A OUTPUT -p tcp -j REDIRECT --to-ports 80",
    )
    with Pod(host(ETH0, routes=(DEFAULT,), listens=APP), rules, backend) as pod:
        assert pod.run(connect("8.8.8.8"), hits=True).hits == frozenset(
            {("nat", "OUTPUT", 2), ("nat", "OUTPUT", 3)}
        )
        assert pod.run(connect("8.8.8.8", 81), hits=True).hits == frozenset({("nat", "OUTPUT", 1)})


def test_a_proxy_picks_among_its_dials() -> None:
    dials = (Dial(), Dial(port=80))
    with Pod(proxied(ProxyRoute(dials, KernelChooses())), "", "legacy") as pod:
        assert pod.run(frame("10.0.0.77", "10.0.0.1", 90), Choices(picks={1: 1})).end == Reached("app")


def test_a_proxy_without_a_route_does_not_dial() -> None:
    with Pod(proxied(ProxyRoute((Dial(),), KernelChooses(), (Span(1, 9),))), "", "legacy") as pod:
        assert pod.run(frame("10.0.0.77", "10.0.0.1", 90)).end == Reached("proxy", "no route")


def test_a_transparent_proxy_has_the_clients_address() -> None:
    """Also where the app answers the client itself, over the wire."""
    here = ProxyRoute((Dial(port=80),), ClientsOwn(), (Span(90, 90),))
    with Pod(proxied(here), "", "legacy") as pod:
        assert pod.run(frame("10.0.0.77", "10.0.0.1", 90)).events == (
            Accepted("proxy", "10.0.0.1:90", "10.0.0.77:40000", "10.0.0.1:90"),
            Dialled("proxy", "10.0.0.77:40002", "10.0.0.1:80"),
            Accepted("app", "10.0.0.1:80", "10.0.0.77:40002", "10.0.0.1:80"),
            Reached("app"),
        )


def test_a_journey_that_never_repeats_itself_ends_at_the_bound(backend: BackendName) -> None:
    """A proxy that finds its way by ports 1, 2, 3, ..., each of which leads back to it."""
    routes = tuple(
        ProxyRoute((Dial(port=port + 1),), KernelChooses(), (Span(port, port),)) for port in range(1, 20)
    )
    rules = nat(
        "-A PREROUTING -p tcp -j REDIRECT --to-ports 90", "-A OUTPUT -p tcp -j REDIRECT --to-ports 90"
    )
    with Pod(proxied(*routes), rules, backend) as pod:
        events = pod.run(frame("10.0.0.77", "10.0.0.1", 1)).events
    assert events[-1] == Onward()
    assert sum(isinstance(event, Dialled) for event in events) == HOPS - 1


def test_what_is_forwarded_is_seen_to_leave(backend: BackendName) -> None:
    where = host(ETH0, interface("eth1", "10.0.1.1/24"), routes=(DEFAULT,), sysctls={"ip_forward": 1})
    with Pod(where, nat("-A PREROUTING -p tcp -j DNAT --to-destination 10.0.1.9:81"), backend) as pod:
        assert pod.run(frame("10.0.0.77", "8.8.8.8")).end == Left("eth1", "10.0.0.77:40000", "10.0.1.9:81")
