"""Rule sets to try.  What a rule may say comes from the closed unions in `rules`: a new class needs nothing here.

The values that they are made of, and the classes whose fields say less than their meaning, are in `written`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from hypothesis import strategies as st

from verifier import hooks
from verifier import rules as r
from verifier.values import Family, Iface

from .written import built

IPV4, IPV6 = Family.IPV4, Family.IPV6

# -- matches and targets --------------------------------------------------------------------------

_PROTOCOLS: Mapping[type[Any], tuple[int, ...]] = {
    r.SourcePorts: (6, 17, 33, 132), r.DestinationPorts: (6, 17, 33, 132),
    r.MultiportSources: (6, 17, 33, 132, 136), r.MultiportDestinations: (6, 17, 33, 132, 136),
    r.MultiportPorts: (6, 17, 33, 132, 136),
    r.TcpFlags: (6,), r.TcpOption: (6,), r.SctpChunks: (132,), r.DccpTypes: (33,), r.DccpOption: (33,),
    r.IcmpType: (1,), r.Icmp6Type: (58,), r.Esp: (50,), r.Ah: (51,),
}  # fmt: skip
"""Matches that the kernel takes only beside `-p` with one of these; `Ah` in IPv6 it takes beside any."""

_TABLES: Mapping[type[Any], str] = {
    r.Redirect: "nat", r.Dnat: "nat", r.Snat: "nat", r.Masquerade: "nat", r.Netmap: "nat", r.Reject: "filter",
    r.NoTrack: "raw", r.TrackAs: "raw", r.Tproxy: "mangle", r.ChangeTtl: "mangle", r.SetTos: "mangle",
    r.SetDscp: "mangle",
}  # fmt: skip

_HOOKS: Mapping[type[Any], tuple[str, ...]] = {
    r.Redirect: ("PREROUTING", "OUTPUT"), r.Dnat: ("PREROUTING", "OUTPUT"), r.Snat: ("INPUT", "POSTROUTING"),
    r.Masquerade: ("POSTROUTING",), r.Tproxy: ("PREROUTING",), r.ClampMss: ("FORWARD", "OUTPUT", "POSTROUTING"),
    r.OwnerIds: ("OUTPUT", "POSTROUTING"), r.OwnerNames: ("OUTPUT", "POSTROUTING"), r.ReversePath: ("PREROUTING",), r.SocketMatch: ("PREROUTING", "INPUT"),
    r.MacSource: ("PREROUTING", "INPUT", "FORWARD"), r.AddressType: ("FORWARD",),
    r.Physdev: ("PREROUTING", "FORWARD", "POSTROUTING"),
}  # fmt: skip
"""The built-in chains that the kernel takes a class in, whatever its fields say."""

_PORT_TRANSLATED = [r.Protocol(n) for n in (1, 6, 17, 33, 132)]
"""Beside these, negated or not, iptables takes a port to translate to."""

_FOREIGN: Mapping[Family, tuple[Any, ...]] = {
    IPV4: (r.Icmp6Type, r.Ipv6Header),
    IPV6: (r.IcmpType, r.Fragment),
}


KINDS = [
    (kind, family)
    for kind in (*get_args(r.Match), *get_args(r.Target))
    for family in Family
    if kind not in (r.Jump, r.Goto, *_FOREIGN[family])
]
"""Each class, and a family whose rules can have it."""


def matches(family: Family = IPV4) -> st.SearchStrategy[r.Match]:
    return st.one_of([built(kind, family) for kind in get_args(r.Match) if kind not in _FOREIGN[family]])


def literals(family: Family = IPV4) -> st.SearchStrategy[r.Literal]:
    return literal_of(matches(family))


@st.composite
def literal_of(draw: st.DrawFn, of: st.SearchStrategy[r.Match]) -> r.Literal:
    """A literal that asks something: not `-s 0.0.0.0/0`, not `-i +`."""
    match = draw(of)
    match match:
        case r.Opaque() | r.Chance() | r.SocketMatch():
            return r.Literal(match)
        case r.Ttl(r.Comparison.LESS | r.Comparison.GREATER):
            return r.Literal(match)
        case r.Source(net) | r.Destination(net):
            return r.Literal(match, net.mask == 0 or draw(st.booleans()))
        case r.InInterface(Iface("+")) | r.OutInterface(Iface("+")):
            return r.Literal(match, True)
        case _:
            return r.Literal(match, not isinstance(match, r.OWN_NEGATION) and draw(st.booleans()))


def targets(
    table: str, chain: str, callable_: Sequence[str], family: Family = IPV4
) -> st.SearchStrategy[r.Target | None]:
    """Any target that the table takes, and the chain where it is a built-in one; `callable_` are those that may be called."""
    found: list[st.SearchStrategy[Any]] = [st.none()]
    for kind in get_args(r.Target):
        if kind in (r.Jump, r.Goto):
            if callable_:
                found.append(st.sampled_from(callable_).map(kind))
        elif (
            _TABLES.get(kind, table) == table
            and _taken(kind, chain)
            and not (kind is r.Drop and table == "nat")
        ):
            found.append(built(kind, family))
    return st.one_of(found)


def _taken(kind: type[Any], chain: str) -> bool:
    """Whether the chain takes the class; one of the user's own takes any, as long as nothing calls it from a wrong place."""
    return chain in _HOOKS.get(kind, (chain,)) or chain not in ALL_BUILT_IN


ALL_BUILT_IN = {name for names in hooks.BUILT_IN.values() for name in names}

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
def conditions(draw: st.DrawFn, family: Family = IPV4) -> tuple[r.Literal, ...]:
    """Literals that iptables takes in one rule: each header match once, and the protocol that the others need."""
    drawn = draw(st.lists(literals(family), max_size=4))
    needed = [_needs(lit, family) for lit in drawn if _needs(lit, family)]
    kept: dict[object, r.Literal] = {}
    if needed:
        protocol = draw(st.sampled_from(needed[0]))
        kept[r.Protocol] = r.Literal(r.Protocol(protocol))
        drawn = [lit for lit in drawn if protocol in (_needs(lit, family) or (protocol,))]
    for n, lit in enumerate(drawn):
        kept.setdefault(type(lit.match) if type(lit.match) in r.HEADER else n, lit)
    return r.ordered(tuple(kept.values()))


def _needs(lit: r.Literal, family: Family) -> tuple[int, ...]:
    if isinstance(lit.match, r.Ah) and family is IPV6:
        return ()
    return _PROTOCOLS.get(type(lit.match), ())


@st.composite
def rules(
    draw: st.DrawFn,
    table: str = "filter",
    chain: str = "FORWARD",
    callable_: Sequence[str] = (),
    family: Family = IPV4,
) -> r.Rule:
    lits = tuple(
        lit
        for lit in draw(conditions(family))
        if type(lit.match) is not _WITHOUT.get(chain) and _taken(type(lit.match), chain)
    )
    target = draw(targets(table, chain, callable_, family))
    named = next((lit for lit in lits if isinstance(lit.match, r.Protocol)), None)
    wants = _wants(target)
    if wants is _PORT_TRANSLATED:
        fits = named is not None and named.match in wants
    else:
        fits = not wants or (named is not None and not named.negated and named.match in wants)
    return r.Rule(lits, target if fits else None, tuple(draw(st.lists(comments, max_size=1))))


@st.composite
def rules_with(draw: st.DrawFn, kind: type[Any], family: Family = IPV4) -> tuple[r.Rule, str]:
    """A rule with a match or a target of this class alone, as a chain of the user's own takes it, and its table."""
    table = _TABLES.get(kind, "raw" if kind in (r.Log, r.ReversePath) else "filter")
    if kind in get_args(r.Match):
        lit = draw(literal_of(built(kind, family)))
        needed = _needs(lit, family)
        beside = (r.Literal(r.Protocol(draw(st.sampled_from(needed)))),) if needed else ()
        return r.Rule(r.ordered((*beside, lit))), table
    target = draw(built(kind, family))
    wants = _wants(target)
    return r.Rule((r.Literal(draw(st.sampled_from(wants))),) if wants else (), target), table


def _wants(target: r.Target | None) -> Sequence[r.Protocol]:
    """The protocols of which one has to be named beside the target; none where it does not matter."""
    match target:
        case r.Redirect(ports) | r.Masquerade(ports) if ports is not None:
            return _PORT_TRANSLATED
        case r.Dnat(to) | r.Snat(to) if to.ports is not None:
            return _PORT_TRANSLATED
        case r.Tproxy():
            return [r.Protocol(6), r.Protocol(17)]
        case r.ClampMss() | r.Reject("tcp-reset"):
            return [r.Protocol(6)]
        case _:
            return []


policies: st.SearchStrategy[r.Accept | r.Drop] = st.sampled_from([r.Accept(), r.Drop()])
names = st.sampled_from(
    ["ISTIO_OUTPUT", "KUBE-SVC-XPGD46QRK7WJZT7O", "cali-from-wl", "~log.1", "a:b", "x" * 28]
)


@st.composite
def tables(draw: st.DrawFn, name: str | None = None, family: Family = IPV4) -> r.Table:
    """A table with all its built-in chains; a chain calls only chains that come after it."""
    table = draw(st.sampled_from(sorted(hooks.BUILT_IN))) if name is None else name
    own = draw(st.lists(names, max_size=3, unique=True))
    chains: dict[str, r.Chain] = {}
    for chain in hooks.BUILT_IN[table]:
        policy = draw(policies)
        body = draw(st.lists(rules(table, chain, tuple(own), family), max_size=3))
        chains[chain] = r.Chain(chain, policy, tuple(body))
    for n, chain in enumerate(own):
        body = draw(st.lists(rules(table, chain, tuple(own[n + 1 :]), family), max_size=3))
        chains[chain] = r.Chain(chain, None, tuple(body))
    return r.Table(table, chains)


@st.composite
def rule_sets(draw: st.DrawFn, family: Family = IPV4) -> r.RuleSet:
    wanted = draw(st.lists(st.sampled_from(sorted(hooks.BUILT_IN)), min_size=1, max_size=2, unique=True))
    return r.RuleSet({name: draw(tables(name, family)) for name in wanted}, family)
