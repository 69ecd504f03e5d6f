"""Matches and targets as they can be written: for each class what iptables takes for its fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from typing import Any, get_type_hints

from hypothesis import reject
from hypothesis import strategies as st

from verifier import rules as r
from verifier.reading.matches_conntrack import CRITERIA
from verifier.values import ALL_32, LAST_ID, CtState, Family, Ids, Iface, MarkMask, Net, Span, mask_of

IPV4, IPV6 = Family.IPV4, Family.IPV6

# -- values -------------------------------------------------------------------------------------

ports = st.sampled_from([0, 1, 79, 80, 81, 15001, 15006, 0x7FFF, 0x8000, 0xFFFF]) | st.integers(0, 0xFFFF)
ids = st.sampled_from([0, 1000, 1337, 0x7FFFFFFF, 0x80000000, LAST_ID]) | st.integers(0, LAST_ID)
bits_32 = st.sampled_from([0, 1, 0x539, 0xFF, 0x80000000, ALL_32]) | st.integers(0, ALL_32)
bytes_ = st.sampled_from([0, 1, 2, 0x10, 0x3F, 0x7F, 0x80, 0xFF]) | st.integers(0, 0xFF)
small = st.integers(0, 63) | st.integers(0, 255) | ports

INTERFACES = ("lo", "eth0", "eth1", "veth7")
interfaces = st.sampled_from([*INTERFACES, "eth+", "veth+", "+", "l+", "wlan0.5"]).map(Iface)


@cache
def addresses(family: Family) -> st.SearchStrategy[int]:
    edges = {
        IPV4: [0, 0x7F000001, 0x7F000006, 0x0A210407, 0x7FFFFFFF, 0x80000000, ALL_32],
        IPV6: [0, 1, 0x20010DB8 << 96 | 5, 0xFE80 << 112, 0xFF02 << 112 | 1, 0xFFFF << 32 | 5, (1 << 128) - 1],
    }  # fmt: skip
    return st.sampled_from(edges[family]) | st.integers(0, (1 << family.bits) - 1)


@cache
def masks(family: Family) -> st.SearchStrategy[int]:
    lengths = st.integers(0, family.bits).map(lambda n: mask_of(n, family))
    odd = {IPV4: st.just(0xFF0000FF) | bits_32, IPV6: st.just(0xFFFF << 112 | 0xFF)}
    return lengths | odd[family]


@cache
def nets(family: Family) -> st.SearchStrategy[Net]:
    return st.builds(lambda a, m: Net(a & m, m, family), addresses(family), masks(family))


@cache
def prefixes(family: Family) -> st.SearchStrategy[Net]:
    return st.builds(lambda a, n: Net.prefix(a, n, family), addresses(family), st.integers(0, family.bits))


def pairs(values: st.SearchStrategy[int]) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(values, values).map(lambda p: (min(p), max(p)))


spans = pairs(ports).map(lambda p: Span(*p))

# -- classes ------------------------------------------------------------------------------------

OPAQUE = (
    '-m string --string "GET / HTTP" --algo bm',
    '-m bpf --bytecode "4,48 0 0 9,21 0 1 6,6 0 0 1,6 0 0 0"',
    "-m owner ! --pid-owner 5",
    "-m u32 ! --u32 0=0",
    "-m pkttype --pkt-type otherhost",
)
OPAQUE_TARGETS = (
    "-j SECMARK --selctx a:b:c",
    "-j LED --led-trigger-id some",
    "-j HMARK --hmark-tuple src,dst --hmark-mod 2",
)
CHANCES = {
    IPV4: (
        ("statistic", "--mode random --probability 0.50000000000"),
        ("statistic", "--mode random ! --probability 0.33333333302"),
        ("statistic", "--mode nth ! --every 5 --packet 2"),
        ("limit", "--limit 3/hour"),
        ("limit", "--limit 90/min --limit-burst 17"),
        ("hashlimit", "--hashlimit-above 7/min --hashlimit-burst 5 --hashlimit-mode srcip,dstport --hashlimit-name h-1"),
        ("hashlimit", "--hashlimit-upto 2/sec --hashlimit-burst 5 --hashlimit-name h2 --hashlimit-htable-expire 60000"),
        ("hashlimit", "--hashlimit-upto 2kb/s --hashlimit-burst 4kb --hashlimit-name h3 --hashlimit-rate-match"),
        ("recent", "! --update --seconds 60 --hitcount 4 --rttl --name B --mask 255.255.255.0 --rdest"),
        ("recent", "--set --name DEFAULT --mask 255.255.255.255 --rsource", True),
        ("recent", "! --set --name D --mask 255.255.255.255 --rsource", False),
        ("statistic", "--mode random --probability 1.00000000000", True),
        ("statistic", "--mode random ! --probability 0.00000000000", True),
        ("statistic", "--mode nth ! --every 1 --packet 0", False),
        ("connlimit", "--connlimit-above 3 --connlimit-mask 24 --connlimit-daddr"),
        ("time", "--timestart 22:00:00 --timestop 06:00:00 --weekdays Mon,Tue --datestop 2038-01-19T03:14:07 --contiguous"),
        ("time", "--monthdays 1,31 --datestart 2024-05-06T00:00:00 --datestop 2025-06-01T01:02:03 --kerneltz"),
        ("time", "! --weekdays Mon,Tue,Wed,Thu,Fri,Sat,Sun --datestop 2038-01-19T03:14:07"),
        ("quota", "! --quota 18446744073709551615"),
    ),
    IPV6: (
        ("hashlimit", "--hashlimit-upto 5/sec --hashlimit-burst 5 --hashlimit-mode srcip --hashlimit-name h4 --hashlimit-srcmask 64"),
        ("recent", "--rcheck --seconds 5 --reap --name C --mask ffff:: --rsource"),
        ("connlimit", "--connlimit-upto 3 --connlimit-mask 128 --connlimit-saddr"),
        ("limit", "--limit 10/sec"),
    ),
}  # fmt: skip
LOGS = (
    '-j LOG --log-prefix "a b: " --log-level 7 --log-tcp-sequence --log-uid', "-j LOG", "-j NFLOG --nflog-group 1",
    '-j NFLOG --nflog-prefix "it\\\'s" --nflog-size 0 --nflog-threshold 5', "-j TRACE", "-j AUDIT --type drop",
    "-j CLASSIFY --set-class 0001:00ff",
)  # fmt: skip
QUEUES = (
    "-j QUEUE", "-j NFQUEUE --queue-num 7 --queue-bypass", "-j NFQUEUE --queue-balance 0:3 --queue-cpu-fanout",
)  # fmt: skip
ENTRIES = (
    ("some", "--add-set some src,dst --exist --timeout 5"), ("some", "--del-set some dst"),
    ("other", "--add-set other src --del-set other dst"),
)  # fmt: skip
TRACKED = ("", "--zone 7", "--zone-orig mark", "--ctevents new,destroy --expevents new --zone-reply 5")
ANSWERS = {
    IPV4: ("icmp-port-unreachable", "icmp-admin-prohibited", "tcp-reset"),
    IPV6: ("icmp6-port-unreachable", "icmp6-reject-route", "tcp-reset"),
}

CHUNKS = (0, 1, 2, 3, 6, 9, 14, 64, 128, 130, 132, 192, 193, 194)


def _criterion(kind: str, family: Family) -> st.SearchStrategy[r.CtCriterion]:
    match kind:
        case "ctstate":
            return built(r.CtStates, family)
        case "ctproto":
            return bytes_.map(r.CtProtocol)
        case "ctstatus":
            return st.integers(0, 15).map(r.CtStatus)
        case "ctexpire":
            return pairs(bits_32).map(lambda p: r.CtExpire(*p))
        case "ctdir":
            return st.booleans().map(r.CtDirection)
        case _ if kind.endswith("port"):
            return spans.map(lambda p: r.CtPorts(r.CtEnd(kind[2:-4]), p))
        case _:
            return prefixes(family).map(lambda n: r.CtAddress(r.CtEnd(kind[2:]), n))


@st.composite
def _conntrack(draw: st.DrawFn, family: Family) -> r.Conntrack:
    kinds = draw(st.lists(st.sampled_from(CRITERIA), min_size=1, max_size=4, unique=True))
    if kinds == ["ctstate"]:
        kinds.append("ctdir")
    tests = []
    for kind in sorted(kinds, key=CRITERIA.index):
        criterion = draw(_criterion(kind, family))
        tests.append(r.CtTest(criterion, kind != "ctdir" and draw(st.booleans())))
    return r.Conntrack(tuple(tests))


@st.composite
def _nat_range(draw: st.DrawFn, family: Family) -> r.NatRange:
    some = draw(st.none() | st.tuples(addresses(family), addresses(family)))
    span = draw(spans if some is None else st.none() | spans)
    base = draw(st.none() | st.integers(1, 0xFFFF)) if span is not None else None
    return r.NatRange(*(some or (None, None)), span, base, family)


owner_ids = st.sampled_from(["envoy", "www-data", "a b", "DOMAIN\\user"]) | pairs(ids).map(lambda p: Ids(*p))


@st.composite
def _owner_names(draw: st.DrawFn) -> r.OwnerNames:
    uid, gid = draw(st.none() | owner_ids), draw(st.none() | owner_ids)
    exists = draw(st.booleans())
    negated = [draw(st.booleans()) for _ in range(3)]
    supplementary = gid is not None and draw(st.booleans())
    if not isinstance(uid, str) and not isinstance(gid, str):
        reject()
    return r.OwnerNames(
        uid,
        uid is not None and negated[0],
        gid,
        gid is not None and negated[1],
        exists,
        exists and negated[2],
        supplementary,
    )


counts = st.builds(r.Count, st.sampled_from(r.Comparison), bits_32 | st.just((1 << 64) - 1)) | st.builds(
    r.Count, st.just(r.Comparison.EQUAL), bits_32, st.just(True)
)
shifts = st.just(0) | st.integers(-31, 31)


@st.composite
def _sctp_chunks(draw: st.DrawFn) -> r.SctpChunks:
    chunks = draw(st.frozensets(st.sampled_from(CHUNKS)) | st.just(frozenset(range(256))))
    asked = []
    for kind, bits in {0: 15, 6: 1, 14: 1}.items():
        if kind in chunks and len(chunks) < 256 and draw(st.booleans()):
            mask = draw(st.integers(1, bits))
            asked.append(r.ChunkFlags(kind, mask, draw(st.integers(0, bits)) & mask))
    return r.SctpChunks(draw(st.sampled_from(["any", "all", "only"])), chunks, tuple(asked))


choices = st.none() | st.just(r.PortChoice.RANDOM)
more_choices = st.none() | st.sampled_from(r.PortChoice)

_NARROW: Mapping[type[Any], Callable[[Family], st.SearchStrategy[Any]]] = {
    r.Opaque: lambda _: st.sampled_from(OPAQUE).map(r.Opaque),
    r.OpaqueTarget: lambda _: st.sampled_from(OPAQUE_TARGETS).map(r.OpaqueTarget),
    r.Chance: lambda family: st.sampled_from(CHANCES[family]).map(lambda c: r.Chance(*c)),
    r.Log: lambda _: st.sampled_from(LOGS).map(r.Log),
    r.Queue: lambda _: st.sampled_from(QUEUES).map(r.Queue),
    r.SetEntry: lambda _: st.sampled_from(ENTRIES).map(lambda e: r.SetEntry(*e)),
    r.TrackAs: lambda _: st.sampled_from(TRACKED).map(r.TrackAs),
    r.Reject: lambda family: st.sampled_from(ANSWERS[family]).map(r.Reject),
    r.Redirect: lambda _: st.builds(r.Redirect, st.none() | spans, choices),
    r.Masquerade: lambda _: st.builds(r.Masquerade, st.none() | spans, more_choices),
    r.Dnat: lambda family: st.builds(r.Dnat, _nat_range(family), choices, st.booleans()),
    r.Snat: lambda family: st.builds(r.Snat, _nat_range(family), more_choices, st.booleans()),
    r.Netmap: lambda family: prefixes(family).map(r.Netmap),
    r.Tproxy: lambda family: st.builds(
        r.Tproxy, ports, st.none() | addresses(family).filter(bool), st.from_type(MarkMask), st.just(family)
    ),
    r.SetConnMark: lambda _: st.builds(r.SetConnMark, st.from_type(MarkMask), shifts),
    r.SaveMark: lambda _: st.builds(r.SaveMark, bits_32, bits_32, shifts),
    r.RestoreMark: lambda _: st.builds(r.RestoreMark, bits_32, bits_32, shifts),
    r.ClampMss: lambda _: st.builds(r.ClampMss, st.none() | st.integers(0, 65_515)),
    # 255 is how the kernel writes `any`.
    r.IcmpType: lambda _: built_of(r.IcmpType, IPV4).filter(lambda m: m.type != 255),
    r.SctpChunks: lambda _: _sctp_chunks(),
    r.DccpTypes: lambda _: st.frozensets(st.integers(0, 10), min_size=1).map(r.DccpTypes),
    r.Esp: lambda _: pairs(bits_32).map(lambda p: r.Esp(*p)),
    r.Ah: lambda _: st.tuples(pairs(bits_32), st.booleans()).map(lambda p: r.Ah(*p[0], p[1])),
    r.SourceRange: lambda f: st.builds(r.SourceRange, addresses(f), addresses(f), st.just(f)),
    r.DestinationRange: lambda f: st.builds(r.DestinationRange, addresses(f), addresses(f), st.just(f)),
    r.Length: lambda _: pairs(ports).map(lambda p: r.Length(*p)),
    r.MacSource: lambda _: st.builds(r.MacSource, st.integers(0, 2**48 - 1), st.booleans()),
    r.OwnerNames: lambda _: _owner_names(),
    r.Conntrack: _conntrack,
    r.MatchSet: lambda _: st.builds(
        r.MatchSet,
        st.sampled_from(["some", "other"]),
        st.lists(st.sampled_from(r.Direction), min_size=1, max_size=3).map(tuple),
        st.booleans(),
        st.booleans(),
        st.booleans(),
        st.none() | counts,
        st.none() | counts,
    ),
}  # fmt: skip
"""Classes with a text or a number that not every text or number is good for."""


def built(kind: type[Any], family: Family) -> st.SearchStrategy[Any]:
    """An instance of a data class that can be written in rules of this family."""
    return _NARROW[kind](family) if kind in _NARROW else built_of(kind, family)


@st.composite
def built_of(draw: st.DrawFn, kind: type[Any], family: Family) -> Any:
    """An instance of a data class, its fields drawn by their types; what it refuses to be is drawn again."""
    fields = {name: draw(_field(hint, family)) for name, hint in get_type_hints(kind).items()}
    try:
        return kind(**fields)
    except ValueError:
        reject()


def _field(hint: Any, family: Family) -> st.SearchStrategy[Any]:
    if hint is int:
        return small
    if hint == int | None:
        return st.none() | small
    if hint is Net:
        return nets(family)
    if hint is Family:
        return st.just(family)
    if hint == tuple[Span, ...]:
        return st.lists(spans, min_size=1, max_size=7).map(tuple)
    if hint == frozenset[CtState]:
        return st.frozensets(st.sampled_from(CtState))
    if hint == frozenset[r.Nat]:
        return st.frozensets(st.sampled_from(r.Nat))
    if hint == frozenset[r.RouteType]:
        known = ("UNSPEC", "UNICAST", "LOCAL", "ANYCAST", "MULTICAST", "UNREACHABLE")
        return st.frozensets(st.sampled_from([t for t in r.RouteType if family is IPV4 or t.value in known]))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from(hint)
    return st.from_type(hint)


st.register_type_strategy(Span, spans)
st.register_type_strategy(Ids, pairs(ids).map(lambda p: Ids(*p)))
st.register_type_strategy(Iface, interfaces)
st.register_type_strategy(MarkMask, st.builds(MarkMask, bits_32, bits_32 | st.just(ALL_32)))
