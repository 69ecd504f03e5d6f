"""A `Host` put into a network namespace: links, addresses, routes, and every sysctl that a journey depends on."""

from __future__ import annotations

import select
import socket

from ..hosts import Host, Interface, Route, RouteKind, defaults
from ..reading.policy import KERNELS_OWN
from ..spell_hosts import routing_rule
from ..spell_sets import sets
from ..values import IPV4, spell_address
from .errors import CannotRun
from .namespaces import CommandFailed, Namespace

NEAR_MAC = bytes.fromhex("020000000001")
FAR_MAC = bytes.fromhex("020000000002")
EXPERIMENT = 0x88B5
"""An EtherType for experiments (IEEE 802, local experimental 1)."""
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23


def build(near: Namespace, far: Namespace, host: Host, mtu: int = 1500) -> None:
    """`near` becomes the host; the other end of each of its interfaces is in `far`, under the same name.

    The main routing table holds exactly the host's routes: what the kernel adds for an address is removed.
    Before a frame is sent, `wait_for_links`.  Raises CannotRun where the kernel does not take the host.
    """
    devices = _devices(host)
    if host.family is not IPV4:
        _no_addresses_of_its_own(near)
    lines = [f"link add {_veth(name, far, mtu)}" for name in devices]
    for interface in host.interfaces:
        lines += _up(interface)
    lines.append("route flush table main")
    lines += [_spell_route(route) for route in host.routes]
    lines += [
        f"{_spell_route(route)} table {number}" for number, routes in host.tables.items() for route in routes
    ]
    if host.policy:
        lines += [f"rule del priority {numbered.priority}" for numbered in KERNELS_OWN[host.family][1:]]
        behind = len(host.before_local) + 2
        lines += [
            f"rule add priority {n} {routing_rule(rule)}" for n, rule in enumerate(host.before_local, 1)
        ]
        lines += [f"rule add priority {n} {routing_rule(rule)}" for n, rule in enumerate(host.policy, behind)]
    if host.before_local:
        # The kernel's own is deleted where there is another, so that lo is never without.
        lines += [f"rule add priority {behind - 1} lookup local", "rule del priority 0"]
    try:
        near.run(["ip", f"-{host.family.value}", "-batch", "-"], "\n".join(lines) + "\n")
    except CommandFailed as e:
        raise CannotRun(
            "K006", f"the host {host.name} cannot be built: {e.said.strip()}", _IN_THE_HOST
        ) from None
    if host.sets:
        near.run(["ipset", "restore"], sets(host.sets.values()))
    far.run(["ip", "-batch", "-"], "".join(f"link set {d} arp off up\n" for d in devices))


_IN_THE_HOST = (
    "an address or a route of the host file is one that the kernel refuses, or the kernel has no veth"
)


def _devices(host: Host) -> list[str]:
    return [i.name for i in host.interfaces if i.name != "lo"]


def _veth(name: str, far: Namespace, mtu: int) -> str:
    return (
        f"{name} mtu {mtu} address {NEAR_MAC.hex(':')} type veth "
        f"peer name {name} mtu {mtu} address {FAR_MAC.hex(':')} netns {far.path}"
    )


def _up(interface: Interface) -> list[str]:
    """Without ARP every frame goes out at once, and nobody has to be there."""
    name = interface.name
    lines = [f"address add {a} dev {name}" for a in interface.addresses if a.family is IPV4]
    # Of IPv6 the address that was added last stands first (net/ipv6/addrconf.c: ipv6_link_dev_addr); ::1 is there already.
    later = [a for a in reversed(interface.addresses) if a.family is not IPV4 and (name, a.ip) != ("lo", 1)]
    if later:
        return [
            *lines,
            f"link set {name} {'' if name == 'lo' else 'arp off '}up",
            *(f"address add {a} dev {name} nodad" for a in later),
        ]
    return [*lines, f"link set {name} {'' if name == 'lo' else 'arp off '}up"]


def _spell_route(route: Route) -> str:
    """`append`, so that of two lines alike the first stays the first; `onlink` asks nothing of the gateway."""
    family = route.net.family
    if route.kind is RouteKind.LOCAL:
        return f"route append local {route.net} dev lo metric {route.metric}"
    if route.kind is not RouteKind.UNICAST:
        return f"route append {route.kind.value} {route.net} metric {route.metric}"
    words = ["route append", str(route.net), "dev", str(route.device)]
    if route.via is not None:
        words += ["via", spell_address(route.via, family), "onlink"]
    if route.source is not None:
        words += ["src", spell_address(route.source, family)]
    return " ".join([*words, "metric", str(route.metric)])


def _no_addresses_of_its_own(near: Namespace) -> None:
    """Interfaces that will be made have no link-local address but those that they are given."""
    for key, value in (
        ("addr_gen_mode", 1),
        ("accept_dad", 0),
        ("router_solicitations", 0),
        ("accept_ra", 0),
    ):
        near.set_sysctl(f"net/ipv6/conf/default/{key}", value)


def set_sysctls(namespace: Namespace, host: Host) -> None:
    """Every key, of every interface: a new namespace copies some from its parent.

    To be called when the rules are loaded: before that, conntrack's own may not be there.
    """
    wanted = dict(defaults(host.family))
    for key in defaults(host.family):
        if key.startswith("net.ipv4.conf.all."):
            word = key.rpartition(".")[2]
            for interface in host.interfaces:
                wanted[f"net.ipv4.conf.{interface.name}.{word}"] = int(word == "send_redirects")
    for key, value in {**wanted, **host.sysctls}.items():
        namespace.set_sysctl(_path(key), value)


def _path(key: str) -> str:
    """An interface's name may have dots of its own."""
    conf = "net.ipv4.conf."
    if not key.startswith(conf):
        return key.replace(".", "/")
    device, _, word = key.removeprefix(conf).rpartition(".")
    return f"{conf.replace('.', '/')}{device}/{word}"


def wait_for_links(near: Namespace, far: Namespace, host: Host) -> None:
    """Return when frames pass both ways on each interface; TimeoutError if they never do.

    It takes some milliseconds, in which rules may be loaded.
    """
    for name in _devices(host):
        wait_for_link(near, far, name)


def wait_for_link(near: Namespace, far: Namespace, interface: str) -> None:
    """Return when frames pass both ways; TimeoutError if they never do.

    A link that has just come up loses what is sent before a work queue has activated it
    (net/core/link_watch.c), and that takes some milliseconds.
    """
    with (
        near.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as one,
        far.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as other,
    ):
        for end in (one, other):
            end.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            end.bind((interface, EXPERIMENT))
        for sender, receiver in ((one, other), (other, one)):
            for _ in range(2000):
                sender.sendto(b"probe", (interface, EXPERIMENT, 0, 0, NEAR_MAC))
                if select.select([receiver], [], [], 0.001)[0]:
                    break
            else:
                raise TimeoutError(f"{interface} does not come up")
