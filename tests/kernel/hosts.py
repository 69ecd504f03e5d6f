"""Short words to write small hosts and stimuli with, for tests of the kernel without a sidecar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from verifier.hosts import Address, Host, Interface, Listener, Process, Route
from verifier.kernel.stimuli import Connect, Frame
from verifier.values import IdSet, Net, read_address

ANYBODY = Process("anybody", IdSet.read("any"), IdSet.read("any"))


def interface(name: str, *addresses: str) -> Interface:
    """Addresses as `10.0.0.1/24`."""
    pairs = (text.split("/") for text in addresses)
    return Interface(name, tuple(Address(read_address(ip), int(length)) for ip, length in pairs))


LO = interface("lo", "127.0.0.1/8")


def route(net: str, device: str, via: str | None = None, source: str | None = None) -> Route:
    return Route(
        Net.read(net),
        device,
        None if via is None else read_address(via),
        None if source is None else read_address(source),
    )


def host(
    *interfaces: Interface,
    routes: Sequence[Route] = (),
    listens: Mapping[str, Listener] | None = None,
    processes: Sequence[Process] = (),
    sysctls: Mapping[str, int] | None = None,
) -> Host:
    """`lo` and these interfaces, with a route to each subnet.  `listens` gives processes of uid 5 by name;
    sysctls are those below net.ipv4.
    """
    connected = {
        (i.name, a.net): Route(a.net, i.name, source=a.ip)
        for i in interfaces
        for a in reversed(i.addresses)
        if a.length < 32
    }
    five = IdSet.read("5")
    return Host(
        "host",
        (LO, *interfaces),
        (*connected.values(), *routes),
        {f"net.ipv4.{key}": value for key, value in (sysctls or {}).items()},
        (
            *(Process(name, five, five, (listener,)) for name, listener in (listens or {}).items()),
            *processes,
            ANYBODY,
        ),
    )


def connect(dst: str, dport: int = 80, *, src: str | None = None, device: str | None = None) -> Connect:
    bound = None if src is None else read_address(src)
    return Connect(1000, 1000, read_address(dst), dport, bound, device=device)


def frame(src: str, dst: str, dport: int = 80) -> Frame:
    """A SYN on eth0."""
    return Frame("eth0", read_address(src), read_address(dst), dport)


def nat(*rules: str) -> str:
    """The iptables-save text of a nat table with these rules."""
    chains = "".join(f":{chain} ACCEPT [0:0]\n" for chain in ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"))
    return f"*nat\n{chains}{''.join(rule + chr(10) for rule in rules)}COMMIT\n"


def filters(*rules: str) -> str:
    """The iptables-save text of a filter table with these rules."""
    chains = "".join(f":{chain} ACCEPT [0:0]\n" for chain in ("INPUT", "FORWARD", "OUTPUT"))
    return f"*filter\n{chains}{''.join(rule + chr(10) for rule in rules)}COMMIT\n"
