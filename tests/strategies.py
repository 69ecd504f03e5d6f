"""Rule sets to try.  What a rule may say comes from the closed unions in `rules`: a new class needs nothing here.

Registered are the value types, with their edges, and the classes whose fields say less than their meaning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_type_hints

from hypothesis import reject
from hypothesis import strategies as st

from verifier import hooks
from verifier import rules as r
from verifier.values import ALL_32, EVERY_ADDRESS, LAST_ID, CtState, Ids, Iface, MarkMask, Net, Span, mask_of

from .unread import UNREAD

# -- values -------------------------------------------------------------------------------------

ports = st.sampled_from([0, 1, 79, 80, 81, 15001, 15006, 0x7FFF, 0x8000, 0xFFFF]) | st.integers(0, 0xFFFF)
addresses = st.sampled_from(
    [0, 0x7F000001, 0x7F000006, 0x0A210407, 0x7FFFFFFF, 0x80000000, ALL_32]
) | st.integers(0, ALL_32)
ids = st.sampled_from([0, 1000, 1337, 0x7FFFFFFF, 0x80000000, LAST_ID]) | st.integers(0, LAST_ID)
bits_32 = st.sampled_from([0, 1, 0x539, 0xFF, 0x80000000, ALL_32]) | st.integers(0, ALL_32)
small = st.integers(0, 63) | st.integers(0, 255) | ports
masks = st.integers(0, 32).map(mask_of) | st.just(0xFF0000FF) | bits_32

INTERFACES = ("lo", "eth0", "eth1", "veth7")
interfaces = st.sampled_from([*INTERFACES, "eth+", "veth+", "+", "l+", "wlan0.5"]).map(Iface)

st.register_type_strategy(Net, st.builds(lambda a, m: Net(a & m, m), addresses, masks))
st.register_type_strategy(Span, st.tuples(ports, ports).map(lambda p: Span(min(p), max(p))))
st.register_type_strategy(Ids, st.tuples(ids, ids).map(lambda p: Ids(min(p), max(p))))
st.register_type_strategy(Iface, interfaces)
st.register_type_strategy(MarkMask, st.builds(MarkMask, bits_32, bits_32 | st.just(ALL_32)))


@st.composite
def built(draw: st.DrawFn, kind: type[Any]) -> Any:
    """An instance of a data class, its fields drawn by their types; what it refuses to be is drawn again."""
    fields = {name: draw(_field(hint)) for name, hint in get_type_hints(kind).items()}
    try:
        return kind(**fields)
    except ValueError:
        reject()


def _field(hint: Any) -> st.SearchStrategy[Any]:
    if hint is int:
        return small
    if hint == int | None:
        return st.none() | small
    if hint == tuple[Span, ...]:
        return st.lists(st.from_type(Span), min_size=1, max_size=7).map(tuple)
    if hint == frozenset[CtState]:
        return st.frozensets(st.sampled_from(CtState), min_size=1)
    return st.from_type(hint)


# -- matches and targets --------------------------------------------------------------------------

OPAQUE = (
    '-m string --string "GET / HTTP" --algo bm',
    "-m recent --update --seconds 60 --name DEFAULT --rsource",
    "-m set ! --match-set denied src",
    "-m conntrack --ctstatus ASSURED --ctdir ORIGINAL",
    "-m connmark --mark 0x1",
    '-m bpf --bytecode "4,48 0 0 9,21 0 1 6,6 0 0 1,6 0 0 0"',
    "-m addrtype --dst-type LOCAL",
    "-m owner ! --uid-owner root",
)
OPAQUE_TARGETS = (
    "-j MASQUERADE --random",
    "-j SNAT --to-source 1.2.3.4",
    "-j CT --zone 1",
    "-j NOTRACK",
    "-j QUEUE",
)
LOGS = ('-j LOG --log-prefix "a b: "', "-j NFLOG --nflog-group 1", "-j TRACE")
ANSWERS = ("icmp-port-unreachable", "icmp-admin-prohibited", "tcp-reset")

_NARROW: Mapping[type[Any], st.SearchStrategy[Any]] = {
    r.Opaque: st.sampled_from(OPAQUE).map(r.Opaque),
    r.OpaqueTarget: st.sampled_from(OPAQUE_TARGETS).map(r.OpaqueTarget),
    r.Log: st.sampled_from(LOGS).map(r.Log),
    r.Reject: st.sampled_from(ANSWERS).map(r.Reject),
    r.Redirect: st.builds(r.Redirect, st.none() | st.integers(1, 0xFFFF).map(Span.one)),
    r.Dnat: st.one_of(
        st.builds(r.NatRange.of, addresses.filter(bool)),
        st.builds(r.NatRange.of, addresses.filter(bool) | st.none(), st.integers(1, 0xFFFF)),
    ).map(r.Dnat),
    r.CtStates: st.frozensets(st.sampled_from(CtState), min_size=1).map(r.CtStates),
    r.OwnerIds: built(r.OwnerIds).filter(lambda m: not m.socket_exists),
    # 255 is how the kernel writes `any`.
    r.IcmpType: built(r.IcmpType).filter(lambda m: m.type != 255),
}
"""Classes with a text or a number that not every text or number is good for."""

_PROTOCOLS: Mapping[type[Any], tuple[int, ...]] = {
    r.SourcePorts: (6, 17, 33, 132),
    r.DestinationPorts: (6, 17, 33, 132),
    r.MultiportSources: (6, 17, 33, 132, 136),
    r.MultiportDestinations: (6, 17, 33, 132, 136),
    r.MultiportPorts: (6, 17, 33, 132, 136),
    r.TcpFlags: (6,),
    r.IcmpType: (1,),
}
"""Matches that the kernel takes only beside `-p` with one of these."""

_TABLES: Mapping[type[Any], str] = {r.Redirect: "nat", r.Dnat: "nat", r.Reject: "filter"}

_PORT_TRANSLATED = [r.Protocol(n) for n in (1, 6, 17, 33, 132)]
"""Beside these, negated or not, iptables takes a port to translate to."""

matches: st.SearchStrategy[r.Match] = st.one_of(
    [_NARROW.get(kind, built(kind)) for kind in get_args(r.Match) if kind not in UNREAD]
)


@st.composite
def literals(draw: st.DrawFn) -> r.Literal:
    """A literal that asks something: not `-s 0.0.0.0/0`, not `-i +`."""
    match = draw(matches)
    if isinstance(match, r.OwnerIds | r.Opaque):
        return r.Literal(match)
    asks_nothing = match in (
        r.Source(EVERY_ADDRESS),
        r.Destination(EVERY_ADDRESS),
        r.InInterface(Iface("+")),
        r.OutInterface(Iface("+")),
    )
    return r.Literal(match, asks_nothing or draw(st.booleans()))


def targets(table: str, callable_: Sequence[str]) -> st.SearchStrategy[r.Target | None]:
    """Any target that the table takes; `callable_` are the chains that may be called."""
    found: list[st.SearchStrategy[Any]] = [st.none()]
    for kind in get_args(r.Target):
        if kind in (r.Jump, r.Goto):
            if callable_:
                found.append(st.sampled_from(callable_).map(kind))
        elif _TABLES.get(kind, table) == table and kind not in UNREAD:
            found.append(_NARROW.get(kind, built(kind)))
    return st.one_of(found)


# -- rules, tables --------------------------------------------------------------------------------

_WITHOUT: Mapping[str, type[Any]] = {
    "PREROUTING": r.OutInterface,
    "INPUT": r.OutInterface,
    "OUTPUT": r.InInterface,
    "POSTROUTING": r.InInterface,
}
"""The interface that a built-in chain does not know."""

comments = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=12)


@st.composite
def conditions(draw: st.DrawFn) -> tuple[r.Literal, ...]:
    """Literals that iptables takes in one rule: each header match once, and the protocol that the others need."""
    drawn = draw(st.lists(literals(), max_size=4))
    needed = [_PROTOCOLS[type(lit.match)] for lit in drawn if type(lit.match) in _PROTOCOLS]
    kept: dict[object, r.Literal] = {}
    if needed:
        protocol = draw(st.sampled_from(needed[0]))
        kept[r.Protocol] = r.Literal(r.Protocol(protocol))
        drawn = [lit for lit in drawn if protocol in _PROTOCOLS.get(type(lit.match), (protocol,))]
    for n, lit in enumerate(drawn):
        kept.setdefault(type(lit.match) if type(lit.match) in r.HEADER else n, lit)
    return r.ordered(tuple(kept.values()))


@st.composite
def rules(
    draw: st.DrawFn, table: str = "filter", chain: str = "FORWARD", callable_: Sequence[str] = ()
) -> r.Rule:
    lits = tuple(lit for lit in draw(conditions()) if type(lit.match) is not _WITHOUT.get(chain))
    target = draw(targets(table, callable_))
    named = next((lit for lit in lits if isinstance(lit.match, r.Protocol)), None)
    match target:
        case r.Redirect(ports_) | r.Dnat(r.NatRange(ports=ports_)):
            if ports_ is not None and (named is None or named.match not in _PORT_TRANSLATED):
                target = None
        case r.Reject("tcp-reset"):
            if named != r.Literal(r.Protocol(6)):
                target = r.Reject()
    return r.Rule(lits, target, tuple(draw(st.lists(comments, max_size=1))))


policies: st.SearchStrategy[r.Accept | r.Drop] = st.sampled_from([r.Accept(), r.Drop()])
names = st.sampled_from(
    ["ISTIO_OUTPUT", "KUBE-SVC-XPGD46QRK7WJZT7O", "cali-from-wl", "~log.1", "a:b", "x" * 28]
)


@st.composite
def tables(draw: st.DrawFn, name: str | None = None) -> r.Table:
    """A table with all its built-in chains; a chain calls only chains that come after it."""
    table = draw(st.sampled_from(sorted(hooks.BUILT_IN))) if name is None else name
    own = draw(st.lists(names, max_size=3, unique=True))
    chains: dict[str, r.Chain] = {}
    for chain in hooks.BUILT_IN[table]:
        policy = draw(policies)
        body = draw(st.lists(rules(table, chain, tuple(own)), max_size=3))
        chains[chain] = r.Chain(chain, policy, tuple(body))
    for n, chain in enumerate(own):
        body = draw(st.lists(rules(table, chain, tuple(own[n + 1 :])), max_size=3))
        chains[chain] = r.Chain(chain, None, tuple(body))
    return r.Table(table, chains)


@st.composite
def rule_sets(draw: st.DrawFn) -> r.RuleSet:
    wanted = draw(st.lists(st.sampled_from(sorted(hooks.BUILT_IN)), min_size=1, max_size=2, unique=True))
    return r.RuleSet({name: draw(tables(name)) for name in wanted})
