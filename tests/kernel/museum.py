"""Documented bugs of real rule sets, as the cases of `../shared/museum` have them: hosts, rules before and after the repair, and the
packets that show the difference.  Nothing of them is copied here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

from verifier.concrete.routing import roads, select_source
from verifier.hosts import Address, Host, Interface, Listener, Process, Route, Setting, defaults
from verifier.journeys import FromOutside, FromProcess, Sender
from verifier.packets import Packet
from verifier.reading.errors import RuleError
from verifier.reading.ipset import read_sets
from verifier.reading.routes import connected, read_route
from verifier.reading.rules import read_rules
from verifier.rules import RuleSet
from verifier.values import TCP, UDP, IdSet, TcpFlag, read_address

MUSEUM = Path(__file__).parents[3] / "shared" / "museum"

ANYBODY = IdSet.read("any")
SENDER = "sender"
PORT = 40000
PROTOCOLS = {"tcp": TCP, "udp": UDP}
FLAGS = {"S": TcpFlag.SYN, "A": TcpFlag.ACK, "R": TcpFlag.RST, "F": TcpFlag.FIN, "P": TcpFlag.PSH}
PHASES = ("before", "after")


class LeftOut(Exception):
    """The case, or one of its packets, needs what is not modelled: the reason."""


class Stimulus(Struct, frozen=True):
    """One packet of a case in one phase, on its host."""

    name: str
    setting: Setting
    sender: Sender
    packet: Packet


class Scene(Struct, frozen=True):
    """A case in one phase, with the packets that can be sent, the reasons why others cannot, and what is to be seen."""

    case: str
    phase: str
    stimuli: tuple[Stimulus, ...]
    left_out: tuple[str, ...]
    observed: tuple[Any, ...]

    @property
    def has_history(self) -> bool:
        """A later packet has the ends of an earlier one: to conntrack it is none of the first packets that are followed here."""
        ends = [frozenset({(p.src, p.sport), (p.dst, p.dport)}) for p in (s.packet for s in self.stimuli)]
        return len(set(ends)) < len(ends)


def cases() -> list[Path]:
    return sorted(path.parent for path in MUSEUM.glob("*/case.json"))


def scene(folder: Path, phase: str) -> Scene:
    """Raises LeftOut."""
    said = json.loads((folder / "case.json").read_text())
    setting = Setting(
        _host(folder.name, {**said["env"], **said.get(f"env_{phase}", {})}), _rules(folder, phase)
    )
    stimuli, left_out = [], []
    check = said["check"]
    for number, stimulus in enumerate(check.get(f"stim_{phase}", check.get("stim", ())), 1):
        name = f"{folder.name}, {phase}, {number}"
        try:
            stimuli.append(Stimulus(name, setting, *_sent(stimulus, setting)))
        except LeftOut as reason:
            left_out.append(str(reason))
    return Scene(folder.name, phase, tuple(stimuli), tuple(left_out), tuple(check["obs"]))


def _rules(folder: Path, phase: str) -> RuleSet:
    said = json.loads((folder / "case.json").read_text())
    if said["family"] != 4:
        raise LeftOut("IPv6")
    path = folder / f"{phase}.rules"
    try:
        return read_rules(path.read_text(), str(path)).rules
    except RuleError as error:
        raise LeftOut("rules that iptables refuses") from error


def _host(name: str, env: Any) -> Host:
    if "transfer" in env:
        raise LeftOut("a connection that is there already")
    for command in env.get("cmds", ()):
        if command.startswith("ip rule") or " table " in command:
            raise LeftOut("ip rules and further tables")
        if not command.startswith("ip route add "):
            raise LeftOut("IPv6")
    interfaces = tuple(_interfaces(env))
    given = [_route(c.removeprefix("ip route add "), interfaces) for c in env.get("cmds", ())]
    routes = {(r.net, r.metric): r for r in (*connected(interfaces), *given)}
    family = interfaces[0].addresses[0].family
    sysctls = {**defaults(family), **_sysctls(env, interfaces)}
    listens = [
        Process(
            x["name"],
            ANYBODY,
            ANYBODY,
            (
                Listener(
                    x["port"],
                    None if x["addr"] == "0.0.0.0" else read_address(x["addr"]),
                    PROTOCOLS[x["proto"]],
                ),
            ),
        )
        for x in env["listen"]
    ]
    return Host(
        name,
        interfaces,
        tuple(routes.values()),
        sysctls,
        (*listens, Process(SENDER, ANYBODY, ANYBODY)),
        sets=read_sets("\n".join(env["ipsets"]) + "\n", name) if "ipsets" in env else {},
    )


def _interfaces(env: Any) -> Iterator[Interface]:
    yield Interface("lo", tuple(_address(a) for a in ("127.0.0.1/8", *_listed(env.get("lo_addr")))))
    for name, body in env["ifaces"].items():
        yield Interface(name, tuple(_address(a) for a in _listed(body.get("addr"))))


def _route(words: str, interfaces: tuple[Interface, ...]) -> Route:
    """As `ip route add` takes it: without a device the one is meant in whose subnet the gateway is."""
    via = re.search(r"\bvia (\S+)", words)
    if via is not None and " dev " not in words:
        gateway = read_address(via[1])
        nets = [(i.name, a.net) for i in interfaces for a in i.addresses]
        words += " dev " + next(name for name, net in nets if gateway & net.mask == net.address)
    return read_route(words)[1]


def _listed(addresses: Any) -> list[str]:
    return [addresses] if isinstance(addresses, str) else list(addresses or ())


def _address(text: str) -> Address:
    address, _, length = text.partition("/")
    if ":" in address:
        raise LeftOut("IPv6")
    return Address(read_address(address), int(length or 32))


def _sysctls(env: Any, interfaces: tuple[Interface, ...]) -> dict[str, int]:
    """What is said of `default` is so of each interface, as these are made later."""
    found: dict[str, int] = {}
    for key, value in (env.get("sysctl") or {}).items():
        if ".conf.default." in key:
            found |= {key.replace("default", i.name): int(value) for i in interfaces}
        else:
            found[key] = int(value)
    return found


def _sent(stimulus: Any, setting: Setting) -> tuple[Sender, Packet]:
    if "seq" in stimulus:
        raise LeftOut("a connection that is there already")
    proto = PROTOCOLS[stimulus["proto"]]
    flags = sum(FLAGS[x] for x in stimulus.get("flags", "S")) if proto == TCP else 0
    dst = read_address(stimulus["dst"])
    ports = {"sport": stimulus.get("sport", PORT), "dport": stimulus["dport"]}
    if stimulus["from"] == "wire":
        iface = stimulus["iface"]
        src = read_address(stimulus["src"])
        return FromOutside(iface), Packet(src, dst, proto, **ports, flags=flags, in_iface=iface)
    chosen = select_source(roads(setting.host), dst)
    source = read_address(stimulus["src"]) if stimulus.get("src") else chosen
    if source is None:
        raise LeftOut("no source to send from")
    owner = {"uid": stimulus["uid"], "gid": stimulus["gid"], "mark": stimulus.get("mark", 0)}
    return FromProcess(SENDER), Packet(source, dst, proto, **ports, flags=flags, **owner)
