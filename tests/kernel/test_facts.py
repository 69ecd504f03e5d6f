"""Facts about the kernel that `docs/journeys.md` builds on, each asked of the kernel itself."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from verifier.hosts import Host, Interface, Listener
from verifier.kernel.iptables import BackendName
from verifier.kernel.observed import Accepted, CannotSend, Left, Observed, Reached, Refused, Silence
from verifier.kernel.pods import Pod
from verifier.kernel.stimuli import Stimulus
from verifier.values import IdSet, read_address, spell_address

from .hosts import connect, frame, host, interface, nat, route

pytestmark = pytest.mark.kernel

ETH0 = interface("eth0", "10.0.0.1/24", "10.0.0.5/24", "192.168.7.3/24")
DEFAULT = route("0.0.0.0/0", "eth0", via="10.0.0.200")
LOOPBACK_SUBNET = "127.255.255.255"


def run(where: Host, stimulus: Stimulus) -> Observed:
    """What happens without any rules."""
    with Pod(where, "", "legacy") as pod:
        return pod.run(stimulus)


def left(destination: str, source: str = "10.0.0.1") -> Left:
    return Left("eth0", f"{source}:40000", f"{destination}:80")


# -- which source the kernel selects ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dst", "source"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("10.0.0.5", "10.0.0.1"),
        ("192.168.7.3", "192.168.7.3"),
        ("10.0.0.77", "10.0.0.1"),
        ("192.168.7.77", "192.168.7.3"),
        ("8.8.8.8", "10.0.0.1"),
        ("9.9.9.9", "192.168.7.3"),
        ("9.9.8.1", "10.0.0.5"),
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.9", "127.0.0.1"),
    ],
)
def test_the_source_is_the_first_address_of_the_subnet_or_the_routes_own(dst: str, source: str) -> None:
    """A secondary address is reached from the primary one of its subnet; a route's gateway chooses, or its `src`."""
    special = (
        route("9.9.9.0/24", "eth0", via="192.168.7.200"),
        route("9.9.8.0/24", "eth0", via="10.0.0.200", source="10.0.0.5"),
    )
    with Pod(host(ETH0, routes=(DEFAULT, *special)), "", "legacy") as pod:
        assert spell_address(pod.selects(read_address(dst)) or 0) == source


@pytest.mark.parametrize(
    ("other", "source"),
    [
        (interface("eth1", "10.0.1.9/24"), "10.0.1.9"),
        (interface("eth1"), "0.0.0.0"),
    ],
)
def test_a_device_without_address_borrows_one_of_another(other: Interface, source: str) -> None:
    """(net/ipv4/devinet.c: inet_select_addr); where there is none at all the SYN leaves from 0.0.0.0."""
    bare = host(interface("eth0"), other, routes=(DEFAULT,))
    assert run(bare, connect("8.8.8.8")).end == left("8.8.8.8", source)


# -- where a socket may connect to -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("src", "device", "reached"),
    [
        (None, None, "127.0.0.1"),
        ("127.0.0.6", None, "127.0.0.6"),
        ("10.0.0.5", None, "10.0.0.5"),
        (None, "eth0", "10.0.0.1"),
    ],
)
def test_who_connects_to_0000_connects_to_itself(src: str | None, device: str | None, reached: str) -> None:
    end = f"{reached}:40000"
    where = host(ETH0, routes=(DEFAULT,), listens={"app": Listener(80)})
    assert run(where, connect("0.0.0.0", src=src, device=device)).events == (
        Accepted("app", f"{reached}:80", end, f"{reached}:80"),
        Reached("app"),
    )


@pytest.mark.parametrize(("addresses", "by"), [((), "eth0"), (("10.0.0.1/24",), None)])
def test_a_raw_socket_that_names_no_source_is_given_one_if_there_is_one(
    addresses: tuple[str, ...], by: str | None
) -> None:
    """With the source 0.0.0.0 it leaves by `by`; with any other it always leaves."""
    where = host(interface("eth0", *addresses), routes=(route("0.0.0.0/0", "eth0"),))
    dst = read_address("8.8.8.8")
    with Pod(where, "", "legacy") as pod:
        assert pod.leaves_raw(0, dst) == by
        assert pod.leaves_raw(read_address("9.9.9.9"), dst) == "eth0"


@pytest.mark.parametrize("src", [None, "10.0.0.1"])
@pytest.mark.parametrize("dst", ["10.0.0.255", LOOPBACK_SUBNET, "255.255.255.255", "224.0.0.1"])
def test_tcp_does_not_connect_to_a_broadcast_or_multicast_address(dst: str, src: str | None) -> None:
    end = run(host(ETH0, routes=(DEFAULT,)), connect(dst, src=src)).end
    assert isinstance(end, CannotSend)
    assert end.errno == "ENETUNREACH"


@pytest.mark.parametrize("dst", ["240.0.0.1", "0.0.0.1", "10.0.0.0", "10.0.0.77"])
def test_other_odd_addresses_are_unicast(dst: str) -> None:
    assert run(host(ETH0, routes=(DEFAULT,)), connect(dst)).end == left(dst)


@pytest.mark.parametrize("dst", ["8.8.8.8", "10.0.0.77", "10.0.0.255", "240.0.0.1"])
def test_a_loopback_source_is_refused_on_the_way_out(dst: str) -> None:
    end = run(host(ETH0, routes=(DEFAULT,)), connect(dst, src="127.0.0.6")).end
    assert isinstance(end, CannotSend)
    assert end.errno == "EINVAL"


@pytest.mark.parametrize("key", ["conf.all.route_localnet", "conf.eth0.route_localnet"])
def test_but_not_with_route_localnet(key: str) -> None:
    open_ = host(ETH0, routes=(DEFAULT,), sysctls={key: 1})
    assert run(open_, connect("8.8.8.8", src="127.0.0.6")).end == left("8.8.8.8", "127.0.0.6")


# -- sockets bound to a device ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dst",
    ["10.0.0.77", "10.99.0.1", "127.0.0.1", "127.0.0.9", LOOPBACK_SUBNET, "10.0.1.1", "10.0.1.255"],
)
def test_for_a_socket_with_a_device_all_but_that_devices_addresses_is_on_link(dst: str) -> None:
    """Also the subnet broadcast, and the own address, of another device: no route of this one says otherwise."""
    two = host(ETH0, interface("eth1", "10.0.1.1/24"))
    assert run(two, connect(dst, device="eth0")).end == left(dst)


def test_its_own_addresses_are_reached_over_lo() -> None:
    assert run(host(ETH0), connect("10.0.0.5", device="eth0")).end == Refused()


@pytest.mark.parametrize("dst", ["10.0.0.1", "8.8.8.8"])
def test_what_is_bound_to_lo_and_goes_elsewhere_is_lost_there(dst: str) -> None:
    where = host(ETH0, routes=(DEFAULT,), listens={"app": Listener(80)})
    assert run(where, connect(dst, device="lo")).end == Silence()


def test_a_wrong_guess_about_a_route_is_an_error() -> None:
    end = run(host(ETH0), connect("10.99.0.1")).end
    assert isinstance(end, CannotSend)
    assert end.errno == "ENETUNREACH"


# -- which listener gets it ---------------------------------------------------------------------------

WILDCARD, OWN = Listener(80), Listener(80, read_address("10.0.0.1"))
ON_ETH0, ON_LO = Listener(80, device="eth0"), Listener(80, device="lo")
OWN_ON_ETH0 = Listener(80, read_address("10.0.0.1"), device="eth0")
ALL = {"wildcard": WILDCARD, "own": OWN, "on eth0": ON_ETH0, "own on eth0": OWN_ON_ETH0}


def first(events: Observed) -> str | None:
    """Who accepted first."""
    return next((e.process for e in events.events if isinstance(e, Accepted)), None)


@pytest.mark.parametrize(
    ("names", "to_first", "to_second", "to_loopback"),
    [
        (("wildcard", "own"), "own", "wildcard", "wildcard"),
        (("wildcard", "on eth0"), "on eth0", "on eth0", "wildcard"),
        (("own", "on eth0"), "own", "on eth0", None),
        (tuple(ALL), "own on eth0", "on eth0", "wildcard"),
        (("on eth0",), "on eth0", "on eth0", None),
        (("on lo",), None, None, "on lo"),
    ],
)
def test_an_address_is_more_specific_than_a_device(
    names: tuple[str, ...], to_first: str | None, to_second: str | None, to_loopback: str | None
) -> None:
    """Over lo, the device is that of the destination address (include/net/route.h: inet_iif)."""
    listens = {name: (ALL | {"on lo": ON_LO})[name] for name in names}
    with Pod(host(ETH0, listens=listens), "", "legacy") as pod:
        assert first(pod.run(connect("10.0.0.1"))) == to_first
        assert first(pod.run(connect("10.0.0.5"))) == to_second
        assert first(pod.run(connect("127.0.0.1"))) == to_loopback
        assert first(pod.run(frame("10.0.0.77", "10.0.0.1"))) == to_first
        assert first(pod.run(frame("10.0.0.77", "10.0.0.5"))) == to_second


def test_a_listener_with_a_device_gets_a_syn_from_loopback_and_cannot_answer() -> None:
    """The SYN-ACK, sent from a socket bound to eth0, has no way to 127.0.0.1: nobody ever accepts."""
    where = host(ETH0, listens={"wildcard": WILDCARD, "on eth0": ON_ETH0})
    assert run(where, connect("10.0.0.1", src="127.0.0.1")).end == Silence()


def test_overlapping_listeners_belong_to_one_uid() -> None:
    """(net/ipv4/inet_connection_sock.c: inet_csk_bind_conflict, with SO_REUSEPORT)"""
    where = host(ETH0, listens={"wildcard": WILDCARD, "own": OWN})
    wildcard, own, *rest = where.processes
    where = replace(where, processes=(replace(wildcard, uid=IdSet.read("6")), own, *rest))
    with pytest.raises(OSError, match="own cannot listen"):
        Pod(where, "", "legacy")


# -- what arrives -------------------------------------------------------------------------------------

ETH1 = interface("eth1", "10.0.1.1/24")
OWN_SOURCES = ("10.0.0.1", "10.0.0.5", "10.0.1.1")
NEVER = ("0.0.0.0", "224.0.0.1", "255.255.255.255")
ELSEWHERE = ("10.0.1.77",)
ANYWHERE = ("8.8.8.8", "10.0.0.77", "10.0.0.0", "0.0.0.1", "240.0.0.1", "169.254.1.1")
BROADCASTS = ("10.0.0.255", "10.0.1.255")
LOOPBACKS = ("127.0.0.1", "127.0.0.9", LOOPBACK_SUBNET)
SOURCES = (*OWN_SOURCES, *NEVER, *ELSEWHERE, *ANYWHERE, *BROADCASTS, *LOOPBACKS)


@pytest.mark.parametrize(
    ("sysctls", "good"),
    [
        ({}, {*ANYWHERE, *ELSEWHERE, *BROADCASTS}),
        ({"conf.all.accept_local": 1}, {*ANYWHERE, *ELSEWHERE, *BROADCASTS, *OWN_SOURCES}),
        ({"conf.eth0.route_localnet": 1}, {*ANYWHERE, *ELSEWHERE, *BROADCASTS, *LOOPBACKS} - {"127.0.0.1"}),
        ({"conf.eth0.rp_filter": 1}, {*ANYWHERE}),
        ({"conf.all.rp_filter": 2}, {*ANYWHERE, *ELSEWHERE}),
        ({"conf.all.rp_filter": 2, "conf.eth0.rp_filter": 1}, {*ANYWHERE, *ELSEWHERE}),
        ({"conf.all.rp_filter": 1, "conf.all.accept_local": 1}, {*ANYWHERE, "10.0.0.1", "10.0.0.5"}),
        ({"conf.all.rp_filter": 2, "conf.all.accept_local": 1}, {*ANYWHERE, *ELSEWHERE, *OWN_SOURCES}),
        ({"conf.all.rp_filter": 1, "conf.all.route_localnet": 1}, {*ANYWHERE}),
    ],
)
def test_these_sources_are_let_in(sysctls: dict[str, int], good: set[str]) -> None:
    """On eth0, to its first address, with a default route there (net/ipv4/fib_frontend.c: fib_validate_source)."""
    with Pod(host(ETH0, ETH1, routes=(DEFAULT,), sysctls=sysctls), "", "legacy") as pod:
        seen = {s for s in SOURCES if pod.arrives("eth0", read_address(s), read_address("10.0.0.1"))}
    assert seen == good


@pytest.mark.parametrize(
    ("sysctls", "good"),
    [
        ({}, {"10.0.0.1", "10.0.1.1", "10.0.0.255", "10.0.1.255", "255.255.255.255"}),
        (
            {"conf.eth0.route_localnet": 1},
            {
                "10.0.0.1",
                "10.0.1.1",
                "10.0.0.255",
                "10.0.1.255",
                "255.255.255.255",
                "127.0.0.1",
                LOOPBACK_SUBNET,
            },
        ),
    ],
)
def test_these_destinations_are_let_in(sysctls: dict[str, int], good: set[str]) -> None:
    tried = {*good, "0.0.0.0", "8.8.8.8", "10.0.0.77", "10.0.0.0", "127.0.0.1", LOOPBACK_SUBNET}
    with Pod(host(ETH0, ETH1, routes=(DEFAULT,), sysctls=sysctls), "", "legacy") as pod:
        seen = {d for d in tried if pod.arrives("eth0", read_address("10.0.0.77"), read_address(d))}
    assert seen == good


@pytest.mark.parametrize(("rp_filter", "passes"), [(0, True), (1, False), (2, False)])
def test_without_an_address_on_the_interface_only_its_own_routes_vouch_for_a_source(
    rp_filter: int, passes: bool
) -> None:
    """rp_filter 2 asks for "any route", but not on an interface without address
    (net/ipv4/fib_frontend.c: __fib_validate_source, no_addr).
    """
    bare = host(
        interface("eth0"),
        ETH1,
        routes=(route("9.9.9.0/24", "eth0"),),
        sysctls={"conf.all.rp_filter": rp_filter},
    )
    with Pod(bare, "", "legacy") as pod:
        to = read_address("10.0.1.1")
        assert pod.arrives("eth0", read_address("10.0.1.77"), to) == passes
        assert pod.arrives("eth0", read_address("9.9.9.9"), to)


def test_a_broadcast_that_was_let_in_is_nothing_to_tcp() -> None:
    where = host(ETH0, routes=(DEFAULT,), listens={"app": Listener(80)})
    assert run(where, frame("10.0.0.77", "10.0.0.255")).end == Silence()


# -- re-routing ---------------------------------------------------------------------------------------

TO_81 = {"app": Listener(81)}


@pytest.mark.parametrize(
    ("src", "dst", "target", "end"),
    [
        ("127.0.0.1", "127.0.0.1", "DNAT --to-destination 8.8.8.8:80", Silence()),
        ("127.0.0.1", "10.0.0.1", "DNAT --to-destination 10.0.0.77:80", Silence()),
        ("10.0.0.5", "10.0.0.1", "DNAT --to-destination 8.8.8.8:80", left("8.8.8.8", "10.0.0.5")),
        ("10.0.0.1", "8.8.8.8", "DNAT --to-destination 10.0.0.255:80", left("10.0.0.255")),
        ("10.0.0.1", "8.8.8.8", "DNAT --to-destination 224.0.0.1:80", left("224.0.0.1")),
        ("10.0.0.1", "8.8.8.8", "REDIRECT --to-ports 81", Reached("app")),
        ("10.0.0.1", "8.8.8.8", "DNAT --to-destination 10.0.0.5:81", Reached("app")),
        ("10.0.0.1", "8.8.8.8", "DNAT --to-destination 0.0.0.0:81", Reached("app")),
    ],
)
def test_a_new_destination_is_routed_again(
    src: str, dst: str, target: str, end: object, backend: BackendName
) -> None:
    """A failure drops the SYN and connect() does not tell; 0.0.0.0 is this host."""
    where = host(ETH0, routes=(DEFAULT,), listens=TO_81)
    with Pod(where, nat(f"-A OUTPUT -p tcp -j {target}"), backend) as pod:
        assert pod.run(connect(dst, src=src)).end == end


@pytest.mark.parametrize(
    ("target", "end"),
    [
        ("REDIRECT --to-ports 81", Left("eth0", "10.0.0.1:40000", "127.0.0.1:81")),
        ("DNAT --to-destination 127.0.0.1:81", Left("eth0", "10.0.0.1:40000", "127.0.0.1:81")),
        ("DNAT --to-destination 10.0.0.5:81", Reached("app")),
    ],
)
def test_and_keeps_to_the_sockets_device(target: str, end: object, backend: BackendName) -> None:
    where = host(ETH0, routes=(DEFAULT,), listens=TO_81)
    with Pod(where, nat(f"-A OUTPUT -p tcp -j {target}"), backend) as pod:
        assert pod.run(connect("8.8.8.8", src="10.0.0.1", device="eth0")).end == end


def test_a_redirect_at_an_interface_without_address_drops(backend: BackendName) -> None:
    bare = host(interface("eth0"), ETH1, listens=TO_81)
    with Pod(bare, nat("-A PREROUTING -p tcp -j REDIRECT --to-ports 81"), backend) as pod:
        assert pod.run(frame("10.0.1.77", "10.0.1.1")).end == Silence()


def test_a_redirect_takes_the_interfaces_first_address(backend: BackendName) -> None:
    where = host(ETH0, routes=(DEFAULT,), listens=TO_81)
    with Pod(where, nat("-A PREROUTING -p tcp -j REDIRECT --to-ports 81"), backend) as pod:
        for dst in ("10.0.0.5", "8.8.8.8", "127.0.0.1", "10.0.0.255", "224.0.0.1", "0.0.0.0"):
            expected = Accepted("app", "10.0.0.1:81", "10.0.0.77:40000", f"{dst}:80")
            assert pod.run(frame("10.0.0.77", dst)).events == (expected, Reached("app"))
