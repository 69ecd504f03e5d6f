"""The Istio sidecar on the real kernel: each scenario is stated as a fact, and the concrete wing has to tell the same,
event by event and rule by rule.
"""

from __future__ import annotations

import pytest
from msgspec import Struct, field
from msgspec.structs import replace

from verifier.concrete.travel import travel
from verifier.hosts import Backend, Dial, Host, Setting
from verifier.journeys import FromOutside, FromProcess, Sender
from verifier.kernel.expected import matched, stimulus, told
from verifier.kernel.iptables import BackendName
from verifier.kernel.observed import (
    Accepted,
    CannotSend,
    Dialled,
    Event,
    Left,
    Loop,
    Reached,
    Refused,
    Silence,
)
from verifier.packets import Packet
from verifier.reading.rules import read_rules
from verifier.rules import RuleSet
from verifier.values import TcpFlag, read_address

from .conftest import PodOf
from .sidecar import APP_LISTENS, GATEWAY, INBOUND, OWN_PORTS, POD, RULES, SERVICE, pod

pytestmark = pytest.mark.kernel

CLIENT = "10.33.4.1:40000"
OWN = "10.33.4.7:40000"
TO_APP = "10.33.4.7:8080"
BY_LO = "127.0.0.1:8080"
SILENCE = (Silence(),)


class Scenario(Struct, frozen=True):
    """A first packet at a pod, and what comes of it."""

    sender: Sender
    packet: Packet
    events: tuple[Event, ...]
    version: str | None = "1.10"
    app: str = "wildcard"
    refuses: bool = False
    outbound: Dial = field(default_factory=Dial)

    @property
    def host(self) -> Host:
        return pod(self.version, self.app, refuses=self.refuses, outbound=self.outbound)

    @property
    def rules(self) -> str:
        return "" if self.version is None else RULES

    @property
    def pod_name(self) -> str:
        return f"{self.version} {self.app} {self.refuses} {self.outbound}"


def outside(dst: str, dport: int, src: int = GATEWAY) -> tuple[Sender, Packet]:
    packet = Packet(src, read_address(dst), sport=40000, dport=dport, flags=TcpFlag.SYN, in_iface="eth0")
    return FromOutside("eth0"), packet


def process(
    uid: int, gid: int, dst: int | str, dport: int, src: int | str = POD, device: str | None = None
) -> tuple[Sender, Packet]:
    packet = Packet(
        read_address(src) if isinstance(src, str) else src,
        read_address(dst) if isinstance(dst, str) else dst,
        sport=40000,
        dport=dport,
        flags=TcpFlag.SYN,
        uid=uid,
        gid=gid,
        device=device,
    )
    return FromProcess("anybody" if device is None else "bound"), packet


# -- what happens, in short words ---------------------------------------------------------------------


def app(client: str, own: str = TO_APP) -> tuple[Event, ...]:
    return Accepted("app", own, client, own), Reached("app")


def envoy(own: str, client: str, original: str) -> Accepted:
    return Accepted("envoy", own, client, original)


def inbound(original: str = TO_APP, client: str = CLIENT) -> Accepted:
    return envoy("10.33.4.7:15006", client, original)


def dialled(source: str | None, destination: str) -> Dialled:
    return Dialled("envoy", source, destination)


def from_the_gateway(version: str | None, app_listens: str) -> tuple[Event, ...]:
    """Gateway -> 10.33.4.7:8080."""
    match version:
        case None:
            return (Refused(),) if app_listens == "loopback" else app(CLIENT)
        case "1.9":
            begin = (inbound(), dialled("127.0.0.1:40002", BY_LO))
            return (*begin, Refused()) if app_listens == "pod" else (*begin, *app("127.0.0.1:40002", BY_LO))
        case "1.10":
            begin = (inbound(), dialled("127.0.0.6:40002", TO_APP))
            return (*begin, Refused()) if app_listens == "loopback" else (*begin, *app("127.0.0.6:40002"))
        case _:
            source = "127.0.0.1:40002" if version == "faulty 127.0.0.1" else "10.33.4.7:40002"
            again = envoy("127.0.0.1:15006", source, TO_APP)
            return inbound(), dialled(source, TO_APP), again, Loop(1)


SCENARIOS: dict[str, Scenario] = {
    f"gateway to app on {listens}, Envoy {version}{', refuses' if refuses else ''}": Scenario(
        *outside("10.33.4.7", 8080), from_the_gateway(version, listens), version, listens, refuses
    )
    for listens in APP_LISTENS
    for version in (None, *INBOUND)
    for refuses in ((False, True) if version else (False,))
}

VIA_ENVOY = (
    envoy("127.0.0.1:15001", OWN, "10.32.128.7:8080"),
    dialled("10.33.4.7:40002", "10.32.128.7:8080"),
    Left("eth0", "10.33.4.7:40002", "10.32.128.7:8080"),
)
TO_SELF = (
    envoy("127.0.0.1:15001", OWN, "10.32.128.7:8080"),
    dialled("10.33.4.7:40002", TO_APP),
    envoy("127.0.0.1:15006", "10.33.4.7:40002", TO_APP),
)
PAST_ENVOY = (Left("eth0", OWN, "10.32.128.7:8080"),)
INTO_INBOUND = (
    envoy("127.0.0.1:15006", OWN, TO_APP),
    dialled("127.0.0.6:40002", TO_APP),
    *app("127.0.0.6:40002"),
)

SCENARIOS |= {
    "app to a service": Scenario(*process(1000, 1000, SERVICE, 8080), VIA_ENVOY),
    "app to its own service, 1.10": Scenario(
        *process(1000, 1000, SERVICE, 8080),
        (*TO_SELF, dialled("127.0.0.6:40003", TO_APP), *app("127.0.0.6:40003")),
        outbound=Dial(POD),
    ),
    "app to its own service, 1.9": Scenario(
        *process(1000, 1000, SERVICE, 8080),
        (*TO_SELF, dialled("127.0.0.1:40003", BY_LO), *app("127.0.0.1:40003", BY_LO)),
        version="1.9",
        outbound=Dial(POD),
    ),
    "app to another pod": Scenario(
        *process(1000, 1000, "10.33.9.9", 80),
        (
            envoy("127.0.0.1:15001", OWN, "10.33.9.9:80"),
            dialled("10.33.4.7:40002", "10.33.9.9:80"),
            Left("eth0", "10.33.4.7:40002", "10.33.9.9:80"),
        ),
    ),
    "app to the internet": Scenario(*process(1000, 1000, "8.8.8.8", 80), (Left("eth0", OWN, "8.8.8.8:80"),)),
    "app to itself": Scenario(*process(1000, 1000, POD, 8080), app(OWN)),
    "app to 127.0.0.1": Scenario(
        *process(1000, 1000, "127.0.0.1", 8080, "127.0.0.1"), app("127.0.0.1:40000", BY_LO)
    ),
    "app to 127.0.0.2": Scenario(
        *process(1000, 1000, "127.0.0.2", 8080, "127.0.0.1"),
        app("127.0.0.1:40000", "127.0.0.2:8080"),
    ),
    "app from 127.0.0.6": Scenario(*process(1000, 1000, POD, 8080, "127.0.0.6"), app("127.0.0.6:40000")),
    "uid 1337 passes by": Scenario(*process(1337, 1000, SERVICE, 8080), PAST_ENVOY),
    "gid 1337 passes by": Scenario(*process(1000, 1337, SERVICE, 8080), PAST_ENVOY),
    "uid and gid 1337 pass by": Scenario(*process(1337, 1337, SERVICE, 8080), PAST_ENVOY),
    "uid 1336 does not": Scenario(*process(1336, 1336, SERVICE, 8080), VIA_ENVOY),
    "uid 1337 to the pod goes inbound": Scenario(*process(1337, 1000, POD, 8080), INTO_INBOUND),
    "gid 1337 to the pod does not": Scenario(*process(1000, 1337, POD, 8080), app(OWN)),
    "uid 1337 to 127.0.0.1": Scenario(
        *process(1337, 1337, "127.0.0.1", 8080, "127.0.0.1"), app("127.0.0.1:40000", BY_LO)
    ),
    "uid 1337 to 127.0.0.2 goes inbound": Scenario(
        *process(1337, 1337, "127.0.0.2", 8080, "127.0.0.1"),
        (
            envoy("127.0.0.1:15006", "127.0.0.1:40000", "127.0.0.2:8080"),
            dialled("127.0.0.6:40002", "127.0.0.2:8080"),
            *app("127.0.0.6:40002", "127.0.0.2:8080"),
        ),
    ),
    "uid 1337 from 127.0.0.6 goes to the app": Scenario(
        *process(1337, 1337, POD, 8080, "127.0.0.6"), app("127.0.0.6:40000")
    ),
    "a device carries a captured SYN out": Scenario(
        *process(1000, 1000, SERVICE, 8080, device="eth0"), (Left("eth0", OWN, "127.0.0.1:15001"),)
    ),
    "a device and uid 1337": Scenario(*process(1337, 1337, SERVICE, 8080, device="eth0"), PAST_ENVOY),
    "a device to the pod": Scenario(*process(1000, 1000, POD, 8080, device="eth0"), app(OWN)),
    "a device to 127.0.0.1": Scenario(
        *process(1000, 1000, "127.0.0.1", 8080, device="eth0"), (Left("eth0", OWN, BY_LO),)
    ),
    "gateway to 127.0.0.1 over the wire reaches an app on lo": Scenario(
        *outside("127.0.0.1", 8080),
        (inbound(BY_LO), dialled("127.0.0.6:40002", BY_LO), *app("127.0.0.6:40002", BY_LO)),
        app="loopback",
    ),
    "gateway to 127.0.0.1, 1.9": Scenario(
        *outside("127.0.0.1", 8080),
        (inbound(BY_LO), dialled("127.0.0.1:40002", BY_LO), *app("127.0.0.1:40002", BY_LO)),
        version="1.9",
        app="loopback",
    ),
    "gateway to 8.8.8.8": Scenario(
        *outside("8.8.8.8", 8080),
        (inbound("8.8.8.8:8080"), dialled(None, "8.8.8.8:8080"), CannotSend()),
    ),
    "gateway to 8.8.8.8, unbound": Scenario(
        *outside("8.8.8.8", 8080),
        (
            inbound("8.8.8.8:8080"),
            dialled("10.33.4.7:40002", "8.8.8.8:8080"),
            Left("eth0", "10.33.4.7:40002", "8.8.8.8:8080"),
        ),
        version="faulty unbound",
    ),
    "gateway to the subnet broadcast": Scenario(
        *outside("10.33.4.255", 8080),
        (inbound("10.33.4.255:8080"), dialled(None, "10.33.4.255:8080"), CannotSend()),
    ),
    "gateway to 8.8.8.8 without rules": Scenario(*outside("8.8.8.8", 8080), SILENCE, version=None),
    "gateway to 127.0.0.1 without rules": Scenario(*outside("127.0.0.1", 8080), SILENCE, version=None),
    "gateway to the broadcast without rules": Scenario(*outside("10.33.4.255", 8080), SILENCE, version=None),
    "spoofed own source": Scenario(*outside("10.33.4.7", 8080, POD), SILENCE),
    "a source of another subnet": Scenario(
        *outside("10.33.4.7", 15020, SERVICE),
        (Accepted("envoy", "10.33.4.7:15020", "10.32.128.7:40000", "10.33.4.7:15020"), Reached("envoy")),
    ),
}

ONCE_MORE = envoy("10.33.4.7:15006", "127.0.0.6:40002", "10.33.4.7:15006")
SCENARIOS |= {
    "gateway to 15006 loops": Scenario(
        *outside("10.33.4.7", 15006),
        (inbound("10.33.4.7:15006"), dialled("127.0.0.6:40002", "10.33.4.7:15006"), ONCE_MORE, Loop(1)),
    ),
    "gateway to 15001 loops through both": Scenario(
        *outside("10.33.4.7", 15001),
        (
            inbound("10.33.4.7:15001"),
            dialled("127.0.0.6:40002", "10.33.4.7:15001"),
            envoy("10.33.4.7:15001", "127.0.0.6:40002", "10.33.4.7:15001"),
            dialled("10.33.4.7:40003", "10.33.4.7:15001"),
            envoy("127.0.0.1:15006", "10.33.4.7:40003", "10.33.4.7:15001"),
            Loop(1),
        ),
    ),
}
SCENARIOS |= {
    f"gateway to {port}, which Envoy refuses": Scenario(
        *outside("10.33.4.7", port),
        (inbound(f"10.33.4.7:{port}"), Reached("envoy", "refuses")),
        refuses=True,
    )
    for port in (15001, 15006)
}
SCENARIOS |= {
    f"gateway to the excluded port {port}": Scenario(
        *outside("10.33.4.7", port),
        (envoy(f"10.33.4.7:{port}", CLIENT, f"10.33.4.7:{port}"), Reached("envoy"))
        if port in OWN_PORTS
        else (Refused(),),
    )
    for port in (15008, 22, 15090, 15021, 15020)
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_kernel_does_this(name: str, backend: BackendName, pod_of: PodOf) -> None:
    case = SCENARIOS[name]
    running = pod_of(case.pod_name, case.host, case.rules, backend)
    assert running.run(stimulus(case.sender, case.packet)).events == case.events


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_concrete_wing_tells_what_the_kernel_does(name: str, backend: BackendName, pod_of: PodOf) -> None:
    case = SCENARIOS[name]
    running = pod_of(case.pod_name, case.host, case.rules, backend)
    seen = running.run(stimulus(case.sender, case.packet), hits=True)
    rules = read_rules(case.rules, "sidecar").rules if case.rules else RuleSet({})
    setting = Setting(replace(case.host, backend=Backend(backend)), rules)
    journey = travel(setting, case.sender, case.packet)
    assert told(journey) == seen.events
    assert matched(journey) == seen.hits
