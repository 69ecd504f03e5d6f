"""What the kernel knows of later packets of a connection, by example: its states, and the socket that has it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from msgspec.structs import replace

from verifier.concrete.travel import travel
from verifier.fuzzing.conversations import Conversation, Stage
from verifier.fuzzing.run import BACKENDS, judged
from verifier.hosts import Setting
from verifier.journeys import Choices, FromOutside
from verifier.kernel.iptables import BackendName, Iptables
from verifier.kernel.namespaces import Namespace
from verifier.kernel.oracle import Oracle
from verifier.packets import Packet
from verifier.reading.rules import read_rules
from verifier.values import ICMP, TCP, UDP, Family, TcpFlag, read_address

from .test_entries import ROUTER

pytestmark = pytest.mark.kernel

FORWARDS = replace(ROUTER, sysctls={"net.ipv4.ip_forward": 1})
STATES = "".join(
    f"-A FORWARD -m conntrack {match} -j ACCEPT\n"
    for match in (
        "--ctstate NEW",
        "--ctstatus ASSURED --ctstate ESTABLISHED --ctdir ORIGINAL",
        "--ctstate ESTABLISHED --ctdir ORIGINAL",
        "--ctstate ESTABLISHED",
        "--ctstate INVALID",
        "--ctstate UNTRACKED",
    )
)
OPENS = Packet(read_address("10.0.0.9"), read_address("10.0.1.9"), TCP, 40000, 80, TcpFlag.SYN)
ACK, FIN, RST = int(TcpFlag.ACK), TcpFlag.FIN | TcpFlag.ACK, int(TcpFlag.RST)


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "-A PREROUTING -i eth1 -j NOTRACK\n",
        "-A PREROUTING -j NOTRACK\n",
        "-A PREROUTING -p tcp --syn -j NOTRACK\n",
    ],
)
@pytest.mark.parametrize(
    "nat", ["", "-A PREROUTING -d 10.0.1.9 -p tcp -j DNAT --to-destination 10.0.1.7:8080\n"]
)
@pytest.mark.parametrize("flags", [ACK, FIN, RST], ids=["ACK", "FIN", "RST"])
def test_what_is_known_of_a_later_packet(backend: BackendName, raw: str, nat: str, flags: int) -> None:
    """Both that are told, and what answers the later one: every rule that they take, and their ends."""
    text = f"*filter\n:FORWARD DROP [0:0]\n{STATES}COMMIT\n*nat\n:PREROUTING ACCEPT [0:0]\n{nat}COMMIT\n"
    text += f"*raw\n:PREROUTING ACCEPT [0:0]\n{raw}COMMIT\n"
    asked = _compared(backend, text, Conversation(FromOutside("eth0"), OPENS, replace(OPENS, flags=flags)))
    # What conntrack does not see is not translated back, so that nobody takes it for an answer.
    assert (Stage.LATER in asked) is not (bool(nat) and "eth1" in raw)


@pytest.mark.parametrize("proto", [UDP, ICMP, 47, 136])
def test_so_it_is_of_other_protocols(backend: BackendName, proto: int) -> None:
    text = f"*filter\n:FORWARD DROP [0:0]\n{STATES}COMMIT\n"
    ports = {} if proto in (UDP, 136) else {"sport": 0, "dport": 0}
    packet = replace(OPENS, proto=proto, flags=0, icmp_type=8 * (proto == ICMP), **ports)
    asked = _compared(backend, text, Conversation(FromOutside("eth0"), packet, packet))
    assert asked == [Stage.FIRST, Stage.ANSWER, Stage.LATER, Stage.LAST]


def _compared(backend: BackendName, text: str, whole: Conversation) -> list[Stage]:
    host = replace(FORWARDS, backend=BACKENDS[backend])
    setting = Setting(host, read_rules(text, "a fact").rules, answers=True)
    with Oracle(host, backend) as oracle:
        oracle.load(setting.rules)
        shots = whole.shots(setting, travel)
        for (stage, _), seen in zip(shots, oracle.ask([shot for _, shot in shots]), strict=True):
            assert seen is not None
            told = judged(setting, whole, stage, seen)
            assert told.difference is None, (stage, str(told.difference))
            assert told.choices == Choices()
    return [stage for stage, _ in shots]


# -- by sockets -----------------------------------------------------------------------------------

SOCKETS = """\
*mangle
:PREROUTING ACCEPT [0:0]
-A PREROUTING -p tcp --dport 80 --syn -j %s
-A PREROUTING -p tcp --dport 80 -m socket -j ACCEPT
-A PREROUTING -p tcp --dport 80 -j DROP
COMMIT
"""
TPROXY = "-A PREROUTING -p tcp --dport 80 ! --syn -j TPROXY --on-port 9999 --tproxy-mark 0x1/0x1\n"


@pytest.mark.parametrize(
    "rules", [SOCKETS % "ACCEPT", (SOCKETS % "ACCEPT").replace("-m socket", "-m socket --nowildcard")]
)
def test_a_rule_finds_the_socket_of_a_connection_and_not_its_wildcard(
    backend: BackendName, rules: str
) -> None:
    """All that comes behind the SYN, where the listener is one of any address, for which `-m socket` says no."""
    with _talking(backend, rules) as (client, server):
        client.sendall(b"question")
        assert server.recv(100) == b"question"


@pytest.mark.parametrize(("transparent", "talks"), [(True, True), (False, False)])
def test_tproxy_finds_it_before_any_listener(backend: BackendName, transparent: bool, talks: bool) -> None:
    """Nobody listens on 9999; one that is not transparent it drops."""
    rules = f"*mangle\n:PREROUTING ACCEPT [0:0]\n{TPROXY}COMMIT\n"
    with _talking(backend, rules, transparent=transparent, waits=talks) as (client, server):
        if talks:
            client.sendall(b"question")
            assert server.recv(100) == b"question"
        else:
            with pytest.raises(BlockingIOError):
                server.accept()


@contextmanager
def _talking(
    backend: BackendName, rules: str, *, transparent: bool = False, waits: bool = True
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client that has connected over lo, and the socket that accepted it; or, where nobody `waits`, the listener."""
    with ExitStack() as stack:
        namespace = Namespace()
        stack.callback(namespace.close)
        namespace.run(["ip", "link", "set", "lo", "up"])
        Iptables(namespace, backend, Family.IPV4).load(rules)
        listener, client = (
            stack.enter_context(namespace.socket(socket.AF_INET, socket.SOCK_STREAM)) for _ in range(2)
        )
        if transparent:
            listener.setsockopt(socket.SOL_IP, 19, 1)
        listener.bind(("0.0.0.0", 80))
        listener.listen(1)
        for each in (listener, client):
            each.settimeout(5)
        client.connect(("127.0.0.1", 80))
        if not waits:
            listener.setblocking(False)
            yield client, listener
            return
        accepted, _ = listener.accept()
        with accepted:
            yield client, accepted
