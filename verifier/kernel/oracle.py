"""The oracle: a host in a namespace, rules loaded as they stand, packets sent in batches, and for each of them every rule that
it took, how it looked there, and how it ended.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress

from msgspec import Struct

from ..asked import groups_of
from ..hosts import Host
from ..journeys import FromOutside, FromProcess, Journey
from ..packets import Packet
from ..rules import Masquerade, RuleSet, Snat, SocketMatch, Target, Tproxy
from ..values import ICMP, ICMPV6, LINK_LOCAL, PORT_PROTOCOLS, TCP, UDP, Family, Place, spell_address
from . import headers
from .building import FAR_MAC, NEAR_MAC, build, set_sysctls, wait_for_links
from .errors import CannotRun, need, need_root
from .iptables import COMMANDS, BackendName, Iptables, spelled
from .namespaces import Namespace
from .netlink import Netlink, flush_connections
from .recent import Seen, remember
from .traces import Step, listening

ETHERTYPES = {Family.IPV4: 0x0800, Family.IPV6: 0x86DD}
IPV6_HDRINCL, IPV6_FREEBIND = 36, 78
IP_PROTOCOL = 52
SOCKETS = {Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}
TRANSPARENT = {
    Family.IPV4: (socket.SOL_IP, 19),
    Family.IPV6: (socket.IPPROTO_IPV6, 75),
}
"""IP_TRANSPARENT and IPV6_TRANSPARENT (include/uapi/linux/in.h, in6.h)."""
UNLIMITED = {
    Family.IPV4: {"net/ipv4/icmp_ratelimit": 0, "net/ipv4/icmp_msgs_per_sec": 1_000_000, "net/ipv4/icmp_msgs_burst": 1_000_000},
    Family.IPV6: {"net/ipv6/icmp/ratelimit": 0, "net/ipv4/icmp_msgs_per_sec": 1_000_000, "net/ipv4/icmp_msgs_burst": 1_000_000},
}  # fmt: skip
"""By which ICMP errors are never too many."""
MTU = 65535
"""So that a packet of any length is one packet."""
MOST_SOCKETS = 400
"""Raw sockets that are kept open, one for each owner, mark, device and source that is bound."""
MULTICAST = 0xE0000000
"""The first of IPv4's multicast addresses, behind which none is a neighbour's."""


class Shot(Struct, frozen=True):
    """A packet as its sender sends it; `exact` iff its length counts, `answer` iff it comes right behind the shot before it, with
    conntrack as that has left it: most often as the answer to it.  The shot so many before it has `opened` its connection.  What is
    `rejected` may be sent back by a REJECT; a `rejection` is what is sent back for the shot before it, which the kernel does by itself.
    """

    sender: FromOutside | FromProcess
    packet: Packet
    exact: bool = False
    answer: bool = False
    opened: int = 1
    rejected: bool = False
    rejection: bool = False


def answer_shot(answer: Journey, exact: bool) -> Shot | None:
    """An answer, told as a journey of its own, as something to be sent right behind what it answers; None where nobody here or
    outside can be made to send it: the kernel's own, one that has no way, and one to a link-local address, since a raw
    socket that names no zone does not answer where a packet came from.
    """
    if not answer.stops:
        return None
    first = answer.stops[0]
    packet = first.packet
    if packet.in_iface is not None:
        return Shot(FromOutside(packet.in_iface), packet, exact, answer=True)
    near = packet.family is Family.IPV6 and packet.dst & LINK_LOCAL.mask == LINK_LOCAL.address
    if first.process is None or packet.out_iface is None or (near and packet.device is None):
        return None
    return Shot(FromProcess(first.process), packet, exact, answer=True)


def finds_sockets(rules: RuleSet) -> bool:
    """True iff some rule, called or not, finds the socket of a connection where it has one: sockets of an oracle accept none."""
    loaded = [rule for t in rules.tables.values() for c in t.chains.values() for rule in c.rules]
    if any(isinstance(rule.target, Tproxy) for rule in loaded):
        return True
    return any(isinstance(x.match, SocketMatch) for rule in loaded for x in rule.literals)


class Observation(Struct, frozen=True):
    """What became of a packet: its steps in order; `error` where the kernel refused to send it; None for what no bytes say."""

    steps: tuple[Step, ...]
    error: int | None = None


class Oracle:
    """A host that the kernel plays, for as many packets as you like; a context manager.

    Its processes' listeners are open, and answer nothing: no packet that is sent here has a right checksum.
    """

    def __init__(self, host: Host, backend: BackendName) -> None:
        family = host.family
        need_root()
        need("ip", "nft", f"{COMMANDS[family]}-{backend}-restore")
        self.host = host
        self._tag = 0
        self._tags: list[int | None] = []
        self._linked = False
        self._groups = groups_of(host)
        self._sockets: dict[tuple[int, int, int, int, str | None, int | None], socket.socket] = {}
        self._wires: dict[str, socket.socket] = {}
        self._clashing = False
        self._sources: set[int] = set()
        self._destinations: set[int] = set()
        with ExitStack() as stack:
            stack.callback(self._forget_sockets)
            self._near = Namespace()
            stack.callback(self._near.close)
            self._far = far = Namespace()
            stack.callback(far.close)
            for namespace in (self._near, far) if family is Family.IPV4 else (far,):
                for word in ("all", "default"):
                    namespace.set_sysctl(f"net/ipv6/conf/{word}/disable_ipv6", 1)
            build(self._near, far, host, MTU)
            for interface in host.interfaces:
                if interface.name != "lo":
                    wire = far.socket(socket.AF_PACKET, socket.SOCK_RAW)
                    stack.callback(wire.close)
                    wire.bind((interface.name, 0))
                    self._wires[interface.name] = wire
            self._open_listeners(stack)
            self._iptables = Iptables(self._near, backend, family)
            self._control = Netlink(self._near)
            stack.callback(self._control.close)
            self._traces = listening(self._near, backend, family, self._interfaces())
            stack.callback(self._traces.close)
            self._stack = stack.pop_all()

    def __enter__(self) -> Oracle:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()

    def _forget_sockets(self) -> None:
        for opened in self._sockets.values():
            opened.close()
        self._sockets.clear()

    def _interfaces(self) -> dict[int, str]:
        with self._near.entered():
            return dict(socket.if_nameindex())

    def _open_listeners(self, stack: ExitStack) -> None:
        """Sockets that `-m socket` finds."""
        for listener in (x for process in self.host.processes for x in process.listens):
            kind = {TCP: socket.SOCK_STREAM, UDP: socket.SOCK_DGRAM}[listener.protocol]
            opened = stack.enter_context(self._near.socket(SOCKETS[self.host.family], kind))
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if listener.transparent:
                level, option = TRANSPARENT[self.host.family]
                opened.setsockopt(level, option, 1)
            if listener.device is not None:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, listener.device.encode() + b"\0")
            try:
                opened.bind((spell_address(listener.address or 0, self.host.family), listener.port))
            except OSError as error:
                raise CannotRun(
                    "K006",
                    f"nobody can listen on {listener} here: {error.strerror}",
                    "its address is none of the host's",
                ) from None
            if listener.protocol == TCP:
                opened.listen(8)

    # -- rules ----------------------------------------------------------------------------------------

    def load(self, rules: RuleSet, text: str | None = None, places: Sequence[Place] = ()) -> None:
        """Replace all rules; raises RulesRefused.  `text` is loaded as it stands where it is given, else the rules are spelled."""
        if text is None:
            text, places = spelled(rules)
        self._iptables.load(text, places)
        chains = [(t.name, c) for t in rules.tables.values() for c in t.chains.values()]
        self._traces.learn({(table, chain.name): len(chain.rules) for table, chain in chains})
        set_sysctls(self._near, self.host)
        self._near.set_sysctl("net/netfilter/nf_conntrack_checksum", 0)
        for key, value in UNLIMITED[self.host.family].items():
            self._near.set_sysctl(key, value)
        targets = [rule.target for _, chain in chains for rule in chain.rules]
        self._clashing = any(map(_chooses_source_ports, targets))

    # -- packets ----------------------------------------------------------------------------------------

    def remember(self, some: Iterable[Seen]) -> None:
        """`-m recent` has seen this, and nothing else."""
        remember(self._near, some)

    def ask(self, shots: Sequence[Shot], onward: bool = False) -> list[Observation | None]:
        """What becomes of each packet; None for one that no bytes say.  At most 65535 at once.  `onward`: right behind those that
        were asked about last, with conntrack as these have left it."""
        if not self._linked:
            wait_for_links(self._near, self._far, self.host)
            self._linked = True
        if not onward:
            flush_connections(self._control)
            self._sources.clear()
            self._destinations.clear()
            self._tags.clear()
        for _ in self._traces.steps():
            pass  # what the host itself had to say in between
        errors: dict[int, int | None] = {}
        tags = self._tags
        before_these = len(tags)
        for shot in shots:
            if shot.rejection:
                back = tags[-1]
                tags.append(None if back is None else back | headers.BACK)
                continue
            before, self._tag = self._tag, self._tag % headers.LAST_TAG + 1
            tag = self._tag
            behind = tags[-shot.opened :] if shot.answer else []
            first = behind[0] if behind else None
            answered = before if shot.answer else None
            data = headers.written(shot.packet, tag, shot.exact, answered, first, shot.rejected)
            unsaid = data is None or None in behind or self._is_untold(shot)
            if data is None or unsaid or (shot.answer and self._is_unbindable(shot)):
                tags.append(None)
                continue
            if not shot.answer:
                self._keep_apart(shot.packet)
            tags.append(tag)
            errors[tag] = self._send(shot, data)
        seen: dict[int, list[Step]] = {tag: [] for tag in tags if tag is not None}
        for tag, step in self._traces.steps():
            if tag in seen:
                seen[tag].append(step)
        return [
            None if tag is None else Observation(tuple(seen[tag]), errors.get(tag))
            for tag in tags[before_these:]
        ]

    def _keep_apart(self, packet: Packet) -> None:
        """Let conntrack forget what went before, where the packet could be taken for one of the same connection, or clash with one.

        Connections whose source ports differ, and are none of the others' destination ports, have no tuple in common as long as NAT
        chooses no source ports.  ICMP has its tag instead.
        """
        if packet.proto == (ICMP if packet.family is Family.IPV4 else ICMPV6):
            return
        if packet.proto in PORT_PROTOCOLS:
            source, destination = packet.sport, packet.dport
        else:
            source = destination = -1 - packet.proto
        if (
            self._clashing
            or source in self._sources
            or source in self._destinations
            or destination in self._sources
        ):
            flush_connections(self._control)
            self._sources.clear()
            self._destinations.clear()
        self._sources.add(source)
        self._destinations.add(destination)

    def _send(self, shot: Shot, data: bytes) -> int | None:
        """The errno, if the kernel says no."""
        packet = shot.packet
        try:
            if isinstance(shot.sender, FromOutside):
                mac = FAR_MAC if packet.mac is None else packet.mac.to_bytes(6, "big")
                self._wires[shot.sender.interface].send(
                    b"".join((NEAR_MAC, mac, struct.pack("!H", ETHERTYPES[packet.family]), data))
                )
            else:
                raw = self._raw(packet, self._bound(shot))
                self._write(raw, data, packet)
        except OSError as error:
            return error.errno
        return None

    def _is_untold(self, shot: Shot) -> bool:
        """Routing rules ask for ports or for the TOS, which a socket that writes headers itself does not tell the kernel."""
        return isinstance(shot.sender, FromProcess) and any(
            rule.in_iface in (None, "lo")
            and (rule.source_ports, rule.destination_ports, rule.tos) != (None, None, None)
            for rule in self.host.routing_rules
        )

    def _write(self, raw: socket.socket, data: bytes, packet: Packet) -> None:
        """With the protocol, which a routing rule may ask for, as a socket of that protocol has it (net/ipv4/ip_sockglue.c:
        ip_cmsg_send; net/ipv6/raw.c: rawv6_sendmsg takes a port for it)."""
        to = spell_address(packet.dst, packet.family)
        if not any(rule.protocol is not None for rule in self.host.routing_rules):
            raw.sendto(data, (to, 0))
        elif packet.family is Family.IPV6:
            raw.sendto(data, (to, packet.proto))
        else:
            raw.sendmsg([data], [(socket.SOL_IP, IP_PROTOCOL, struct.pack("i", packet.proto))], 0, (to, 0))

    def _is_unbindable(self, shot: Shot) -> bool:
        """The answer comes from a link-local address, by a way that depends on it, and a raw socket without a device binds none."""
        packet = shot.packet
        return (
            packet.family is Family.IPV6
            and packet.device is None
            and packet.src & LINK_LOCAL.mask == LINK_LOCAL.address
            and self._bound(shot) is not None
        )

    def _bound(self, shot: Shot) -> int | None:
        """The address that the socket binds, where the way that the packet takes depends on it: routing rules ask for the
        source, and so does what goes to a multicast address of IPv4 or to everyone.  What is `raw` may write another into its
        header.
        """
        packet = shot.packet
        if not isinstance(shot.sender, FromProcess) or self.host.process(shot.sender.process).raw:
            return None
        asked = any(rule.source is not None for rule in self.host.routing_rules)
        if packet.family is Family.IPV6:
            return packet.src if asked else None
        return packet.src if asked or packet.dst >= MULTICAST else None

    def _raw(self, packet: Packet, bound: int | None) -> socket.socket:
        assert packet.uid is not None, "a process's packet has an owner"
        assert packet.gid is not None, "a process's packet has an owner"
        key = (packet.uid, packet.gid, packet.groups, packet.mark, packet.device, bound)
        opened = self._sockets.get(key)
        if opened is None:
            if len(self._sockets) >= MOST_SOCKETS:
                self._forget_sockets()
            opened = self._near.socket(
                SOCKETS[packet.family],
                socket.SOCK_RAW,
                socket.IPPROTO_RAW,
                uid=packet.uid,
                gid=packet.gid,
                groups=self._groups[packet.groups],
            )
            self._sockets[key] = opened
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            if packet.family is Family.IPV6:
                opened.setsockopt(socket.IPPROTO_IPV6, IPV6_HDRINCL, 1)
                opened.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("I", packet.mark))
            if packet.device is not None:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, packet.device.encode() + b"\0")
            if packet.family is Family.IPV6:
                # Else the kernel would look for a source, and may find none, though the header has one.
                its = 1 if bound is None else bound
                near = its & LINK_LOCAL.mask == LINK_LOCAL.address
                if not near or packet.device is not None:
                    opened.bind((spell_address(its, Family.IPV6), 0))
            elif bound is not None:
                # Where it is no address of the host's own, a route has lent it to a socket that is not bound.
                with suppress(OSError):
                    opened.bind((spell_address(bound), 0))
        return opened


def _chooses_source_ports(target: Target | None) -> bool:
    match target:
        case Snat(to):
            return to.ports is not None
        case Masquerade(ports):
            return ports is not None
        case _:
            return False
