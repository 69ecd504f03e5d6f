"""What `-m conntrack` and `-m state` ask of a packet's connection."""

from __future__ import annotations

from typing import assert_never

from .. import rules as r
from ..packets import DST_NAT, SRC_NAT, Connection, Packet
from ..values import Net


def in_state(wanted: r.CtStates, packet: Packet) -> bool:
    """The state is one of those asked for, or the connection has been translated in a way that is
    (net/netfilter/xt_conntrack.c: conntrack_mt)."""
    if packet.ctstate in wanted.states:
        return True
    if packet.connection is None:
        return False
    status = packet.connection.status
    return (r.Nat.SNAT in wanted.nat and status & SRC_NAT != 0) or (
        r.Nat.DNAT in wanted.nat and status & DST_NAT != 0
    )


def passes(tests: tuple[r.CtTest, ...], packet: Packet) -> bool:
    """All tests hold; of a packet without a connection the state alone is asked, and has to be
    (net/netfilter/xt_conntrack.c: conntrack_mt, `if (ct == NULL)`)."""
    for test in tests:
        assert not isinstance(test.criterion, r.CtExpire), "when a connection is forgotten is a choice"
        if isinstance(test.criterion, r.CtStates) and in_state(test.criterion, packet) == test.negated:
            return False
    if packet.connection is None:
        return any(isinstance(test.criterion, r.CtStates) for test in tests)
    return all(
        isinstance(test.criterion, r.CtStates) or _meets(test.criterion, packet.connection) != test.negated
        for test in tests
    )


def _meets(criterion: r.CtCriterion, connection: Connection) -> bool:
    match criterion:
        case r.CtProtocol(number):
            return connection.protocol == number
        case r.CtAddress(of, net):
            return _lies_in(_end(connection, of)[0], net)
        case r.CtPorts(of, ports):
            return ports.first <= _end(connection, of)[1] <= ports.last
        case r.CtStatus(bits):
            return connection.status & bits != 0
        case r.CtDirection(reply):
            return connection.is_reply == reply
        case r.CtStates() | r.CtExpire():
            raise AssertionError(f"{criterion} is no question about a connection's tuples")
        case _:
            assert_never(criterion)


def _end(connection: Connection, of: r.CtEnd) -> tuple[int, int]:
    """The address and the port of an end of a connection."""
    original, reply = connection.original, connection.reply
    match of:
        case r.CtEnd.ORIGINAL_SOURCE:
            return original.src, original.sport
        case r.CtEnd.ORIGINAL_DESTINATION:
            return original.dst, original.dport
        case r.CtEnd.REPLY_SOURCE:
            return reply.src, reply.sport
        case r.CtEnd.REPLY_DESTINATION:
            return reply.dst, reply.dport
        case _:
            assert_never(of)


def _lies_in(address: int, net: Net) -> bool:
    return address & net.mask == net.address
