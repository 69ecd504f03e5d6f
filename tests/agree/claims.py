"""Premises and verbs about a setting, for Hypothesis."""

from __future__ import annotations

from typing import Any, get_args

from hypothesis import strategies as st
from msgspec.structs import replace

from verifier import claims as c
from verifier import journeys as j
from verifier.concrete import claims as concrete
from verifier.hosts import Setting
from verifier.replay import Start
from verifier.symbolic.claims import Verdict, marks_name_zones
from verifier.symbolic.terms import Model
from verifier.values import (
    ICMP,
    TCP,
    UDP,
    Span,
)

from .strategies import DECIDED, LISTENING, VALUES, address_sets, built, few, literals, marks, one, seldom


def havings(setting: Setting) -> st.SearchStrategy[c.With]:
    """Conditions on packets; of their zones only where no mark names one."""
    zones = st.none() if marks_name_zones(setting.rules) else st.none() | one((0, 1, 2, 7))
    return st.just(c.ANYHOW) | st.builds(
        c.With,
        st.none() | address_sets(),
        st.none() | address_sets(),
        st.none() | one((*LISTENING, 0)),
        seldom(30),
        st.none() | marks(),
        zones,
        st.none() | one((*LISTENING, 0)),
    )


@st.composite
def verbs(draw: st.DrawFn, setting: Setting, depth: int = 2) -> c.Verb:
    """Any verb, about chains, rules, processes and interfaces of this setting."""
    kinds = [k for k in get_args(c.Verb) if depth or k not in (c.Not, c.AnyOf)]
    kinds = [k for k in kinds if setting.answers or k is not c.IsAnswered]
    processes_ = one([p.name for p in setting.host.processes])
    interface = st.none() | one([i.name for i in setting.host.interfaces])
    chains = [c.ChainRef(t.name, n) for t in setting.rules.tables.values() for n in t.chains] or [
        c.ChainRef("filter", "INPUT")
    ]
    sites = [
        c.RuleRef(t.name, n, i)
        for t in setting.rules.tables.values()
        for n, chain in t.chains.items()
        for i in range(1, len(chain.rules) + 1)
    ] or [c.RuleRef("filter", "INPUT", 1)]
    about: dict[str, st.SearchStrategy[Any]] = {
        "chain": one(chains),
        "rule": one(sites),
        "process": processes_,
        "port": st.none() | one(LISTENING),
        "having": havings(setting),
        "interface": interface,
    }
    kind = draw(one(kinds))
    match kind:
        case c.Not:
            return c.Not(draw(verbs(setting, depth - 1)))
        case c.AnyOf:
            return c.AnyOf(tuple(draw(st.lists(verbs(setting, depth - 1), min_size=1, max_size=3))))
        case c.IsDropped:
            return c.IsDropped(draw(st.none() | one(chains)))
        case _:
            drawn: c.Verb = draw(built(kind, about))
            return drawn


def who_of(sender: j.Sender) -> c.Who:
    """Whose packets these are, in words of a claim."""
    match sender:
        case j.FromOutside(interface):
            return c.Outside(interface)
        case j.FromProcess(name):
            return c.OfProcess(name)
        case _:
            raise AssertionError("of what a proxy sends nothing is claimed behind an earlier packet")


def meets_behind(premise: c.Premise, setting: Setting, start: Start) -> bool:
    """The packet, and the earlier one, meet the premise."""
    assert start.packet is not None
    assert start.earlier is not None
    alone = replace(premise, after=None)
    return concrete.meets(alone, setting, start.sender, start.packet) and concrete.meets_behind(
        premise, setting, start.earlier, start.travel(setting)
    )


@st.composite
def filters(draw: st.DrawFn) -> c.Filter:
    return c.Filter(
        protocol=draw(one((TCP, UDP, ICMP))) if draw(seldom(25)) else None,
        to=draw(address_sets()) if draw(seldom(25)) else None,
        source=draw(address_sets()) if draw(seldom(25)) else None,
        ports=tuple(draw(few(VALUES[Span], 0, 2))) if draw(seldom(25)) else (),
        where=tuple(draw(few(literals(DECIDED), 0, 1))) if draw(seldom(40)) else (),
    )


@st.composite
def premises(draw: st.DrawFn, sender: j.Sender) -> c.Premise:
    """A premise about this sender."""
    match sender:
        case j.FromOutside(interface):
            who: c.Who = c.Outside(interface)
        case j.FromProcess(process):
            who = c.OfProcess(process)
        case j.FromProxy(process, proxy):
            who = c.OfProxy(process, proxy)
    exceptions = draw(st.lists(filters(), max_size=1))
    return c.Premise(
        who,
        draw(one(list(c.Kind))),
        draw(filters()),
        tuple(c.Exception_(f, "it is so", "text") for f in exceptions),
    )


def assert_alike(verdict: Verdict, model: Model, told: bool | None, about: object) -> None:
    """Both wings say the same of one journey: surely iff it does it, surely not iff it does not, neither where nobody knows."""
    assert model.holds(verdict.surely) == (told is True), about
    assert model.holds(verdict.surely_not) == (told is False), about
    assert model.holds(verdict.possibly) == (told is not False), about
    assert model.holds(verdict.possibly_not) == (told is not True), about
