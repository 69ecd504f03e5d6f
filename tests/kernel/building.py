"""A `Host` put into a network namespace: links, addresses, routes, and every sysctl that a journey depends on."""

from __future__ import annotations

from verifier.hosts import DEFAULTS, Host, Interface, Route, RouteKind
from verifier.values import spell_address

from .namespaces import Namespace
from .wires import FAR_MAC, POD_MAC, wait_for_link


def build(near: Namespace, far: Namespace, host: Host) -> None:
    """`near` becomes the host; the other end of each of its interfaces is in `far`, under the same name.

    The main routing table holds exactly the host's routes: what the kernel adds for an address is removed.
    """
    devices = [i.name for i in host.interfaces if i.name != "lo"]
    lines = [f"link add {_veth(name, far)}" for name in devices]
    for interface in host.interfaces:
        lines += _up(interface)
    lines.append("route flush table main")
    lines += [_spell_route(route) for route in host.routes]
    near.run(["ip", "-batch", "-"], "\n".join(lines) + "\n")
    far.run(["ip", "-batch", "-"], "".join(f"link set {d} arp off up\n" for d in devices))
    for name in devices:
        wait_for_link(near, far, name)


def _veth(name: str, far: Namespace) -> str:
    return (
        f"{name} address {POD_MAC.hex(':')} type veth "
        f"peer name {name} address {FAR_MAC.hex(':')} netns {far.path}"
    )


def _up(interface: Interface) -> list[str]:
    """Without ARP every frame goes out at once, and nobody has to be there."""
    name = interface.name
    lines = [f"address add {spell_address(a.ip)}/{a.length} dev {name}" for a in interface.addresses]
    return [*lines, f"link set {name} {'' if name == 'lo' else 'arp off '}up"]


def _spell_route(route: Route) -> str:
    """`append`, so that of two lines alike the first stays the first; `onlink` asks nothing of the gateway."""
    if route.kind is not RouteKind.UNICAST:
        return f"route append {route.kind.value} {route.net} metric {route.metric}"
    words = ["route append", str(route.net), "dev", str(route.device)]
    if route.via is not None:
        words += ["via", spell_address(route.via), "onlink"]
    if route.source is not None:
        words += ["src", spell_address(route.source)]
    return " ".join([*words, "metric", str(route.metric)])


def set_sysctls(namespace: Namespace, host: Host) -> None:
    """Every key, of every interface: a new namespace copies some from its parent.

    To be called when the rules are loaded: before that, conntrack's own may not be there.
    """
    wanted = dict(DEFAULTS)
    for key in DEFAULTS:
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
