"""The Istio sidecar's pod for the kernel tests: its rules as iptables-save text, and hosts that differ in
what the app listens on and in how Envoy dials inbound.
"""

from __future__ import annotations

from verifier.hosts import (
    Address,
    BoundTo,
    Dial,
    DialSource,
    Host,
    Interface,
    KernelChooses,
    Listener,
    Process,
    Proxy,
    ProxyRoute,
    Route,
)
from verifier.values import EVERY_ADDRESS, IdSet, Net, Span, read_address

POD = read_address("10.33.4.7")
GATEWAY = read_address("10.33.4.1")
LOOPBACK = read_address("127.0.0.1")
SERVICE = read_address("10.32.128.7")
ENVOY = IdSet.read("1337")

INBOUND: dict[str, tuple[Dial, DialSource]] = {
    "1.9": (Dial(LOOPBACK), KernelChooses()),
    "1.10": (Dial(), BoundTo(read_address("127.0.0.6"))),
    "faulty 127.0.0.1": (Dial(), BoundTo(LOOPBACK)),
    "faulty unbound": (Dial(), KernelChooses()),
}
"""How Envoy dials inbound: up to Istio 1.9, since 1.10, and in two ways that loop."""

APP_LISTENS: dict[str, int | None] = {"wildcard": None, "loopback": LOOPBACK, "pod": POD}

OWN_PORTS = (15001, 15006, 15090, 15021, 15020)
REFUSES = (Span(15001, 15001), Span(15006, 15006))


def pod(
    version: str | None,
    app: str = "wildcard",
    *,
    refuses: bool = False,
    outbound: Dial = Dial(),  # noqa: B008
) -> Host:
    """10.33.4.7/24 with an app on 8080 and Envoy as it was at `version`; None: no Envoy.

    `anybody` is a process that may have any uid and gid, `bound` the same with a socket bound to eth0.
    """
    return Host(
        "pod",
        (
            Interface("lo", (Address(LOOPBACK, 8),)),
            Interface("eth0", (Address(POD, 24),)),
        ),
        (
            Route(Net.read("10.33.4.0/24"), "eth0", source=POD),
            Route(EVERY_ADDRESS, "eth0", via=GATEWAY),
        ),
        sysctls={"net.ipv4.conf.all.rp_filter": 1},
        processes=(
            Process("app", IdSet.read("1000"), IdSet.read("1000"), (Listener(8080, APP_LISTENS[app]),)),
            Process("anybody", IdSet.read("any"), IdSet.read("any")),
            Process("bound", IdSet.read("any"), IdSet.read("any"), device="eth0"),
            *([] if version is None else [_envoy(version, REFUSES if refuses else (), outbound)]),
        ),
    )


def _envoy(version: str, refuses: tuple[Span, ...], outbound: Dial) -> Process:
    dial, source = INBOUND[version]
    return Process(
        "envoy",
        ENVOY,
        ENVOY,
        tuple(Listener(port) for port in OWN_PORTS),
        (
            Proxy("inbound", 15006, (ProxyRoute((dial,), source),), refuses),
            Proxy("outbound", 15001, (ProxyRoute((outbound,), KernelChooses()),), refuses),
        ),
    )


RULES = """\
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:ISTIO_INBOUND - [0:0]
:ISTIO_IN_REDIRECT - [0:0]
:ISTIO_OUTPUT - [0:0]
:ISTIO_REDIRECT - [0:0]
-A PREROUTING -p tcp -j ISTIO_INBOUND
-A OUTPUT -p tcp -j ISTIO_OUTPUT
-A ISTIO_INBOUND -p tcp -m tcp --dport 15008 -j RETURN
-A ISTIO_INBOUND -p tcp -m tcp --dport 22 -j RETURN
-A ISTIO_INBOUND -p tcp -m tcp --dport 15090 -j RETURN
-A ISTIO_INBOUND -p tcp -m tcp --dport 15021 -j RETURN
-A ISTIO_INBOUND -p tcp -m tcp --dport 15020 -j RETURN
-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT
-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
-A ISTIO_OUTPUT -s 127.0.0.6/32 -o lo -j RETURN
-A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -m owner --gid-owner 1337 -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --gid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -m owner --gid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN
-A ISTIO_OUTPUT -d 10.33.0.0/16 -j ISTIO_REDIRECT
-A ISTIO_OUTPUT -d 10.32.128.0/20 -j ISTIO_REDIRECT
-A ISTIO_OUTPUT -j RETURN
-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001
COMMIT
"""
