"""The kernel as an oracle: a host built in a network namespace, with real sockets, under the rules that the
real iptables loads; `Pod.run` sends one first packet and tells what became of it.

Packets of the pod's own processes are sent, accepted and dialled by real sockets, of the right uid and gid.
Frames from outside are made by hand (`wires`).  Softirqs run before the system call that caused them
returns, so a whole handshake is done within one call, and a short silence means that nothing will come.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from ..hosts import Host, Listener, Process
from ..journeys import Choices
from ..values import IPV4, TCP, UDP, Place, TcpFlag, read_address, spell_address
from .building import build, set_sysctls, wait_for_links
from .envoys import State, choose, dial_of, state_of
from .iptables import BackendName, Hit, Iptables
from .namespaces import Namespace
from .observed import (
    Accepted,
    CannotSend,
    Dialled,
    Event,
    Left,
    Loop,
    Observed,
    Onward,
    Reached,
    Refused,
    Silence,
    endpoint,
)
from .segments import Datagram, Segment, Unreachable, ipv4_packet, read_icmp, read_packet, written
from .sockets import (
    RESET,
    SOCKETS,
    accept,
    bind_device,
    connected_to,
    connecting,
    listening,
    own_end,
    receive,
)
from .stimuli import Connect, Frame, Stimulus
from .wires import Wire

HOPS = 9
"""Hops in one run, at most: the first packet, and eight dials."""
WINDOW = 0.015
"""Seconds of silence that end a run."""
NETLINK_NETFILTER = 12
FIRST_SEQUENCE = 1000
EXPERIMENT = 253
"""A protocol number for experiments (RFC 3692), which nobody takes but a raw socket."""


class _Open(Struct, frozen=True):
    """One of the pod's listening sockets."""

    socket: socket.socket
    process: Process
    listener: Listener


class _Hop(Struct, frozen=True):
    """A first packet that is under way: the client's socket (None for a frame) and the client's end."""

    client: socket.socket | None
    address: int
    port: int

    def is_from(self, sent: Segment | Datagram) -> bool:
        return (sent.src, sent.sport) == (self.address, self.port)

    def is_to(self, segment: Segment) -> bool:
        return (segment.dst, segment.dport) == (self.address, self.port)


class Pod:
    """A host that runs, for as many runs as you like; a context manager."""

    def __init__(self, host: Host, rules: str, backend: BackendName, places: Sequence[Place] = ()) -> None:
        self.host = host
        self._wires: dict[int, Wire] = {}
        self._listeners: dict[int, _Open] = {}
        with ExitStack() as stack:
            self._namespace = Namespace()
            stack.callback(self._namespace.close)
            far = Namespace()
            stack.callback(far.close)
            family = host.family
            for namespace in (self._namespace, far) if family is IPV4 else (far,):
                for word in ("all", "default"):
                    namespace.set_sysctl(f"net/ipv6/conf/{word}/disable_ipv6", 1)
            build(self._namespace, far, host)
            self._iptables = Iptables(self._namespace, backend, family)
            self._iptables.load(rules, places)
            set_sysctls(self._namespace, host)
            # Every closed port is told of.
            self._namespace.set_sysctl("net/ipv4/icmp_ratelimit", 0)
            self._namespace.set_sysctl("net/ipv6/icmp/ratelimit", 0)
            self._conntrack = self._raw(stack, socket.AF_NETLINK, NETLINK_NETFILTER)
            icmp = socket.IPPROTO_ICMP if family is IPV4 else socket.IPPROTO_ICMPV6
            self._icmp = self._raw(stack, SOCKETS[family], icmp)
            self._open(stack, far)
            self._ready = stack.enter_context(select.epoll())
            for fd in (*self._wires, *self._listeners, self._icmp.fileno()):
                self._ready.register(fd, select.EPOLLIN)
            wait_for_links(self._namespace, far, host)
            self._stack = stack.pop_all()

    def _raw(self, stack: ExitStack, family: int, protocol: int) -> socket.socket:
        return stack.enter_context(self._namespace.socket(family, socket.SOCK_RAW, protocol))

    def _open(self, stack: ExitStack, far: Namespace) -> None:
        for interface in self.host.interfaces:
            if interface.name != "lo":
                wire = Wire(far, interface.name, self.host.family)
                stack.callback(wire.close)
                self._wires[wire.fileno()] = wire
        for process in self.host.processes:
            for listener in process.listens:
                if listener.protocol in (TCP, UDP):
                    opened = listening(self._namespace, process, listener, self.host.family)
                    stack.enter_context(opened)
                    self._listeners[opened.fileno()] = _Open(opened, process, listener)

    def __enter__(self) -> Pod:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()

    # -- questions ----------------------------------------------------------------------------------

    def reload(self, rules: str) -> None:
        """Replace all rules by those of an iptables-save text; raises RulesRefused."""
        self._iptables.load(rules)

    def run(
        self,
        stimulus: Stimulus,
        choices: Choices | None = None,
        *,
        hits: bool = False,
        after: Stimulus | None = None,
    ) -> Observed:
        """What becomes of one first packet, where proxies choose their dials, their ids and their source ports so; `after` another
        one, whose socket is closed and whose connection conntrack still knows.

        With `hits`, also the rules whose counters rose.  A rule of nat is counted for the first packet of
        each hop alone, a rule of any other table for replies as well.
        """
        self._forget()
        before = self._iptables.counters() if hits else {}
        with ExitStack() as stack:
            stack.callback(self._flush_conntrack)
            if after is not None:
                with ExitStack() as earlier:
                    for _ in self._events(after, Choices(), earlier):
                        pass
                self._forget()
            events = tuple(self._events(stimulus, choices or Choices(), stack))
            counted = self._iptables.counters() if hits else {}
        risen = frozenset(rule for rule, count in counted.items() if count > before[rule])
        return Observed(events, risen if hits else None)

    def counters(self) -> dict[Hit, int]:
        """How often each rule matched since the rules were loaded; of nat, for the first packet of each hop alone."""
        return self._iptables.counters()

    def arrives(self, interface: str, src: int, dst: int) -> bool:
        """True iff input routing lets a frame in to this host; to a multicast address, iff to a member."""
        with self._namespace.socket(socket.AF_INET, socket.SOCK_RAW, EXPERIMENT) as raw:
            self._wire(interface).send(ipv4_packet(src, dst, EXPERIMENT))
            return bool(select.select([raw], [], [], WINDOW)[0])

    def leaves_raw(self, src: int, dst: int) -> str | None:
        """The interface by which a raw socket's SYN leaves with this header; None iff it does not."""
        for wire in self._wires.values():
            wire.receive()
        segment = Segment(src, 40000, dst, 80, TcpFlag.SYN)
        with self._namespace.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            try:
                raw.sendto(written(segment), (spell_address(dst), 0))
            except OSError:
                return None
        for wire in self._wires.values():
            if select.select([wire], [], [], WINDOW)[0]:
                seen = wire.receive()
                if any(isinstance(s, Segment) and (s.src, s.dst) == (src, dst) for s in seen):
                    return wire.interface
        return None

    def selects(
        self, dst: int, *, device: str | None = None, uid: int = 0, port: int = 9, protocol: int = UDP
    ) -> int | None:
        """The source of a socket that connects to `dst` unbound; None iff it cannot, or TCP is refused there and then. Of UDP
        nothing is sent."""
        kind = socket.SOCK_STREAM if protocol == TCP else socket.SOCK_DGRAM
        with self._namespace.socket(socket.AF_INET, kind, uid=uid) as opened:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            if protocol == TCP:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            if device is not None:
                bind_device(opened, device)
            try:
                opened.connect((spell_address(dst), port))
            except BlockingIOError:
                pass
            except OSError:
                return None
            return read_address(opened.getsockname()[0])

    # -- a run --------------------------------------------------------------------------------------

    def _events(self, stimulus: Stimulus, choices: Choices, stack: ExitStack) -> Iterator[Event]:
        """Events up to the end; the sockets that they take are closed with the stack."""
        hop = self._begin(stimulus, stack)
        dialled_from: dict[State, int] = {}
        while True:
            if isinstance(hop, CannotSend):
                yield hop
                return
            came = self._await(hop, stack)
            if not isinstance(came, tuple):
                yield came
                return
            at, accepted = came
            yield accepted
            chosen = choose(at.process, at.listener, accepted)
            if isinstance(chosen, Reached):
                yield chosen
                return
            proxy, route = chosen
            number = len(dialled_from) + 1
            state = state_of(at.process, proxy, accepted)
            if state in dialled_from:
                yield Loop(dialled_from[state])
                return
            if number == HOPS:
                yield Onward()
                return
            dialled_from[state] = number
            dial = route.dials[min(choices.picks.get(number, 0), len(route.dials) - 1)]
            connect = dial_of(at.process, route, dial, accepted, choices, number)
            hop = self._connect(connect, stack)
            yield _dialled(at.process, connect, hop)

    def _begin(self, stimulus: Stimulus, stack: ExitStack) -> _Hop | CannotSend:
        match stimulus:
            case Frame(interface, src, dst, dport, sport, protocol, family):
                wire = self._wire(interface)
                if protocol == UDP:
                    wire.send(written(Datagram(src, sport, dst, dport, family)))
                    return _Hop(None, src, sport)
                syn = Segment(src, sport, dst, dport, TcpFlag.SYN, FIRST_SEQUENCE, family=family)
                reset = replace(syn, flags=TcpFlag.RST, seq=FIRST_SEQUENCE + 1)
                stack.callback(wire.send, written(reset))
                wire.send(written(syn))
                return _Hop(None, src, sport)
            case Connect():
                return self._connect(stimulus, stack)
            case _:
                assert_never(stimulus)

    def _connect(self, dial: Connect, stack: ExitStack) -> _Hop | CannotSend:
        try:
            client = connecting(self._namespace, dial, stack)
        except OSError as e:
            return CannotSend(errno.errorcode[e.errno or 0])
        return _Hop(client, *own_end(client))

    def _wire(self, interface: str) -> Wire:
        return next(wire for wire in self._wires.values() if wire.interface == interface)

    # -- watching -----------------------------------------------------------------------------------

    def _await(self, hop: _Hop, stack: ExitStack) -> tuple[_Open, Accepted] | Left | Refused | Silence:
        """The first thing that happens to a packet that is under way.

        An error of the client's socket, which epoll tells unasked, is a refusal.
        """
        client = None if hop.client is None else hop.client.fileno()
        if client is not None:
            self._ready.register(client, 0)
        try:
            while ready := self._ready.poll(WINDOW):
                for fd, _ in ready:
                    seen = Refused() if fd == client else self._read(fd, hop, stack)
                    if seen is not None:
                        return seen
            return Silence()
        finally:
            if client is not None:
                self._ready.unregister(client)

    def _read(self, fd: int, hop: _Hop, stack: ExitStack) -> tuple[_Open, Accepted] | Left | Refused | None:
        if fd in self._wires:
            return _on_the_wire(self._wires[fd], hop)
        if fd in self._listeners:
            at = self._listeners[fd]
            if at.listener.protocol == TCP:
                accepted = accept(at.socket, at.process.name, stack)
            else:
                accepted = receive(at.socket, at.process.name)
            return None if accepted is None else (at, accepted)
        data = self._icmp.recv(2048)
        # A raw socket of IPv6 gives no IP header (raw(7), ipv6(7)).
        told = read_packet(data) if self.host.family is IPV4 else read_icmp(self.host.family, data)
        return Refused() if isinstance(told, Unreachable) and hop.is_from(told.about) else None

    def _forget(self) -> None:
        """Read away what earlier runs left behind."""
        nobody = _Hop(None, 0, 0)
        with ExitStack() as stack:
            while ready := self._ready.poll(0):
                for fd, _ in ready:
                    self._read(fd, nobody, stack)

    def _flush_conntrack(self) -> None:
        """IPCTNL_MSG_CT_DELETE without a tuple deletes every entry of the namespace
        (net/netfilter/nf_conntrack_netlink.c: ctnetlink_del_conntrack).
        """
        self._conntrack.send(struct.pack("=IHHIIBBH", 20, 1 << 8 | 2, 5, 1, 0, socket.AF_INET, 0, 0))
        code = struct.unpack_from("=i", self._conntrack.recv(4096), 16)[0]
        assert code == 0, f"cannot flush conntrack: {os.strerror(-code)}"


def _on_the_wire(wire: Wire, hop: _Hop) -> Left | Refused | None:
    """What left the pod: a SYN or a datagram ends the hop, and so does a reset (or an ICMP error) for its client.

    A SYN-ACK for the client is answered, so that the listener accepts: also where the client is a socket
    in the pod that borrowed a foreign source, and whose SYN went over lo.
    """
    for seen in wire.receive():
        match seen:
            case Unreachable(about):
                if hop.is_from(about):
                    return Refused()
            case Datagram(src, sport, dst, dport, family):
                return Left(wire.interface, endpoint(src, sport, family), endpoint(dst, dport, family))
            case Segment(src, sport, dst, dport):
                if seen.is_only(TcpFlag.SYN):
                    ends = endpoint(src, sport, seen.family), endpoint(dst, dport, seen.family)
                    return Left(wire.interface, *ends)
                if hop.is_to(seen) and seen.flags & TcpFlag.RST:
                    return Refused()
                if hop.is_to(seen) and seen.is_only(TcpFlag.SYN, TcpFlag.ACK):
                    seq = seen.seq + 1 & 0xFFFFFFFF
                    ack = Segment(dst, dport, src, sport, TcpFlag.ACK, seen.ack, seq, seen.family)
                    wire.send(written(ack))
            case _:
                assert_never(seen)
    return None


def _dialled(process: Process, dial: Connect, hop: _Hop | CannotSend) -> Dialled:
    if isinstance(hop, CannotSend):
        return Dialled(process.name, None, endpoint(dial.dst, dial.dport, dial.family))
    assert hop.client is not None
    reached = dial.dst or connected_to(hop.client)
    source = endpoint(hop.address, hop.port, dial.family)
    return Dialled(process.name, source, endpoint(reached, dial.dport, dial.family))
