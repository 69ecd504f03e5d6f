"""Which rules no packet ever matches: on a host, or by the rules alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from . import assumptions
from . import claims as c
from . import journeys as j
from . import rules as r
from .answers import Answer, Counterexample, Proved, Refuted, Unknown, WingsDisagree
from .asked import fields_asked
from .canon import canonical
from .concrete import chains as concrete_chains
from .concrete import claims as concrete_claims
from .concrete.conntrack import is_on
from .concrete.routing import roads
from .hooks import Hook
from .hosts import Host, Interface
from .packets import Packet
from .prove import Budget, Case, Prover, Situation
from .replay import Start, check_wings, start_of
from .samples import edges_of, neighbours
from .symbolic import claims as symbolic
from .symbolic.chains import TooLarge, traverse
from .symbolic.journeys import Record
from .symbolic.packets import NO_MAC, Names, SymPacket
from .symbolic.roads import road_of
from .symbolic.targets import NAT_HOOKS
from .symbolic.terms import Bool, Outcome, Solver, Terms
from .values import LAST_ID, CtState, Family, PacketKind


class Life(Struct, frozen=True):
    """What is known of one rule: dead, alive with the packet that shows it, or neither (`why`)."""

    dead: bool | None
    why: str = ""
    witness: Counterexample | None = None


def answer(prover: Prover, claim: c.DeadClaim) -> Answer:
    """Proved iff exactly the rules that the claim calls dead are dead (for a single rule: iff it is as claimed)."""
    taken = (*assumptions.of(prover.setting, None), assumptions.HELPERS)
    table = prover.setting.rules.tables.get(claim.table)
    if table is None:
        return Unknown(f"the rules hold no table {claim.table}", assumptions=taken)
    if claim.rule is not None:
        if not isinstance(claim.rule, c.RuleRef):
            raise AssertionError("rules are resolved to their numbers before a claim is asked")
        refs = [claim.rule]
    else:
        refs = [
            c.RuleRef(table.name, name, number)
            for name, chain in table.chains.items()
            for number in range(1, len(chain.rules) + 1)
        ]
    family = prover.setting.rules.family
    try:
        lives = (
            by_the_rules_alone(table, refs, prover.budget, family)
            if claim.alone
            else on_host(prover, table, refs)
        )
    except TooLarge as reason:
        prover.forget()
        return Unknown(str(reason), assumptions=taken)
    return replace(_judge(prover, claim, lives), assumptions=() if claim.alone else taken)


def _judge(prover: Prover, claim: c.DeadClaim, lives: dict[c.RuleRef, Life]) -> Answer:
    wanted = set(claim.excepted) if claim.rule is None else {ref for ref in lives if claim.dead}
    unknown = [f"{ref}: {life.why}" for ref, life in lives.items() if life.dead is None]
    dead = {ref for ref, life in lives.items() if life.dead}
    too_many = [str(ref) for ref in lives if ref in dead - wanted]
    alive = [ref for ref in lives if ref in wanted and lives[ref].dead is False]
    if alive or too_many:
        parts = [f"{', '.join(too_many)}: dead"] * bool(too_many)
        parts += [f"{ref}: alive{', ' + lives[ref].why if lives[ref].why else ''}" for ref in alive]
        shown = next(((ref, witness) for ref in alive if (witness := lives[ref].witness)), None)
        found = None if shown is None else _familiar(prover, *shown)
        return Refuted(found, "; ".join(parts), bound=prover.bound)
    if unknown:
        return Unknown("; ".join(unknown))
    return Proved(
        0, prover.bound, notes=(f"{len(dead)} of {len(lives)} rules are dead",) if claim.rule is None else ()
    )


def _familiar(prover: Prover, ref: c.RuleRef, witness: Counterexample) -> Counterexample:
    """A packet as familiar as can be, of the same sender, that matches the rule."""
    setting = prover.setting
    natural = next((p for sender, p in prover.declared() if sender == witness.sender), None)
    first = witness.journey.stops[0].packet
    if natural is None:
        return witness
    premise = replace(natural, filter=EVERY_STATE)

    def still(trial: Start) -> bool:
        if trial.packet is None or not concrete_claims.meets(premise, setting, trial.sender, trial.packet):
            return False
        journey = trial.travel(setting)
        return not journey.asked and ref in _matched(journey.stops, setting.rules.tables[ref.table])

    start = Start(witness.sender, first, None, witness.choices)
    if not still(start):
        return witness
    start = canonical(start, setting, still)
    return Counterexample(start.sender, start.travel(setting), start.choices)


# -- on a host --------------------------------------------------------------------------------------

EVERY_STATE = c.Filter(where=(r.Literal(r.CtStates(frozenset(CtState))),))


def on_host(prover: Prover, table: r.Table, refs: list[c.RuleRef]) -> dict[c.RuleRef, Life]:
    """Each rule's life on this host: whether a first packet of a declared sender, or of a journey of it, matches it.

    In other tables than nat, later packets of a connection and replies pass too.  Those are not followed,
    so that there a rule is only called dead if no packet of whatever state matches it on this host's interfaces.
    """
    lives: dict[c.RuleRef, Life] = {}
    doubts: dict[c.RuleRef, str] = {}
    family = prover.setting.rules.family
    for sender, natural in prover.declared():
        case = prover.case(Situation(sender))
        js = case.journeys
        premise = replace(natural, filter=EVERY_STATE)
        cond = symbolic.meets(premise, js)
        example = prover.ask(case, cond).model
        if example is not None:
            check_wings(js, example, start_of(js, example))
            for ref, witness in _seen(prover, premise, start_of(js, example), table):
                lives.setdefault(ref, Life(False, witness=witness))
        if all(ref in lives for ref in refs):
            break
        prover.write_all(case, cond)
        for first in range(0, len(refs), AT_ONCE):
            _sought(prover, case, cond, table, refs[first : first + AT_ONCE], lives, doubts)
    rest = [ref for ref in refs if ref not in lives]
    interfaces = tuple(i.name for i in prover.setting.host.interfaces)
    # Conntrack puts fragments together before raw (net/ipv4/netfilter/nf_defrag_ipv4.c).
    whole = is_on(prover.setting.rules) is True
    alone = (
        by_the_rules_alone(table, rest, prover.budget, family, interfaces, whole)
        if rest and table.name != "nat"
        else {}
    )
    for ref in rest:
        if ref in doubts:
            lives[ref] = Life(None, doubts[ref])
        elif table.name == "nat" or alone[ref].dead:
            lives[ref] = Life(True)
        else:
            later = "later packets of a connection may match it, and they are not followed yet"
            lives[ref] = Life(None, FRAGMENTS if alone[ref].why == FRAGMENTS else later)
    return {ref: lives[ref] for ref in refs}


AT_ONCE = 32
"""Rules that the solver is asked for together: one answer tells of all that are dead among them."""


def _sought(
    prover: Prover,
    case: Case,
    cond: Bool,
    table: r.Table,
    refs: list[c.RuleRef],
    lives: dict[c.RuleRef, Life],
    doubts: dict[c.RuleRef, str],
) -> None:
    """Look for packets in `cond` that match the rules not known to be alive, until there are no more of them."""
    js = case.journeys
    t = js.terms
    clean = ~t.any_of(a.cond for a in js.record.asked if not isinstance(a.match, r.Chance))
    clean = clean & prover.all_at_one_time(case)
    hits = {ref: symbolic.verdict(c.Hits(ref), js, complete=True) for ref in refs if ref not in lives}
    waiting = [list(hits)]
    while waiting:
        group = [ref for ref in waiting.pop() if ref not in lives]
        if not group:
            continue
        found = prover.ask(case, cond, t.any_of(hits[ref].surely for ref in group), clean)
        if found.model is not None:
            start = start_of(js, found.model)
            check_wings(js, found.model, start)
            if not any(prover.is_told_of(time, start, js.depth) for time in prover.times):
                raise WingsDisagree(f"what its sets hold, they hold at no one time: {start}")
            journey = start.travel(prover.setting, js.depth)
            for ref in _matched(journey.stops, table):
                lives.setdefault(
                    ref, Life(False, witness=Counterexample(start.sender, journey, start.choices))
                )
            matched = [ref for ref in group if found.model.holds(hits[ref].surely)]
            if not matched or any(ref not in lives for ref in matched):
                raise WingsDisagree(f"of {group} {matched} are matched in the symbolic wing: {start}")
            waiting.append(group)
        elif found.outcome is Outcome.UNKNOWN and len(group) > 1:
            waiting += [[ref] for ref in group]
        elif found.outcome is Outcome.UNKNOWN:
            doubts |= dict.fromkeys(group, f"the solver gave up: {found.reason}")
        else:
            for ref in group:
                hit = hits[ref]
                if clean.const is not True or hit.possibly.ast != hit.surely.ast:
                    if prover.ask(case, cond, hit.possibly).outcome is not Outcome.UNSAT:
                        doubts[ref] = "a packet may match it, depending on what is not understood"


PATIENCE = 25
"""Packets that are followed in vain before the solver is asked: most rules are alive, and a journey is soon told."""


def _seen(
    prover: Prover, premise: c.Premise, first: Start, table: r.Table
) -> Iterator[tuple[c.RuleRef, Counterexample]]:
    """Rules that packets near the rules' edges match on their way, where no opaque match is asked; each once."""
    seen: set[c.RuleRef] = set()
    vain = 0
    for start in neighbours(first, edges_of(prover.setting), 20 * PATIENCE):
        vain += 1
        packet = start.packet
        if packet is None or not concrete_claims.meets(premise, prover.setting, start.sender, packet):
            continue
        journey = start.travel(prover.setting)
        if not journey.asked:
            for ref in _matched(journey.stops, table):
                if ref not in seen:
                    seen.add(ref)
                    vain = 0
                    yield ref, Counterexample(start.sender, journey, start.choices)
        if vain > PATIENCE:
            return


def _matched(stops: tuple[j.Stop, ...], table: r.Table) -> list[c.RuleRef]:
    return [
        c.RuleRef(table.name, s.chain, s.rule)
        for s in stops
        if s.table == table.name and s.chain is not None and s.rule is not None
    ]


# -- by the rules alone -------------------------------------------------------------------------------


def by_the_rules_alone(
    table: r.Table,
    refs: list[c.RuleRef],
    budget: Budget,
    family: Family = Family.IPV4,
    interfaces: tuple[str, ...] = (),
    whole: bool = False,
) -> dict[c.RuleRef, Life]:
    """Each rule's life among all packets there are: any header, state, mark, owner and interfaces of its hook; with
    `interfaces` those of a host that has these and no others, with `whole` of one where no table sees a fragment."""
    from .wording import say_passing

    lives: dict[c.RuleRef, Life] = {}
    doubts: dict[c.RuleRef, str] = {}
    names = Names(("", *interfaces)) if interfaces else _every_kind_of_name(table)
    anywhere = Host("any host", tuple(Interface(name) for name in names.interfaces[1:]), family=family)
    fields = {*fields_asked(r.RuleSet({table.name: table}, family)), "kind"}
    for hook in Hook:
        if hook.value not in table.chains:
            continue
        t = Terms()
        p = SymPacket.free(t, fields=fields, family=family)
        record = Record()
        traverse(table, hook, 0, road_of(t, anywhere, names), record, t.true, p, anywhere=True)
        solver = Solver(t, budget.timeout_ms, budget.scripts)
        unbroken = _whole(t, record, table)
        solver.add(*_possible(p, hook, names), *([unbroken] if whole else []))
        read = ~t.any_of(a.cond for a in record.asked if isinstance(a.match, UNREAD))
        clean = read & unbroken
        hits: dict[c.RuleRef, list[Bool]] = {}
        for stop in record.stops:
            if stop.act is j.Act.MATCHED and stop.chain is not None and stop.rule is not None:
                hits.setdefault(c.RuleRef(table.name, stop.chain, stop.rule), []).append(stop.cond)
        for ref in refs:
            if ref in lives or ref not in hits:
                continue
            hit = t.any_of(hits[ref])
            found = solver.check(hit, clean)
            if found.model is not None:
                packet = p.read(found.model, names)
                answers = {
                    a.evaluation: j.Truth.MATCH if found.model.holds(a.matches) else j.Truth.NO_MATCH
                    for a in record.asked
                    if found.model.holds(a.cond)
                }
                for other in _walked(table, hook, packet, anywhere, j.Choices(answers)):
                    lives.setdefault(other, Life(False, f"for instance {say_passing(hook, packet)}"))
                if ref not in lives:
                    raise WingsDisagree(f"{ref} is matched in the symbolic wing alone: {packet}")
            elif found.outcome is Outcome.UNKNOWN:
                doubts[ref] = f"the solver gave up: {found.reason}"
            elif clean.const is not True and solver.check(hit).outcome is not Outcome.UNSAT:
                by_fragments = solver.check(hit, read).outcome is not Outcome.UNSAT
                doubts[ref] = FRAGMENTS if by_fragments else "it depends on what is not understood"
        for ref in _after_the_unknown(table, hook):
            doubts.setdefault(ref, "a target that is not understood comes before it")
    return {ref: lives.get(ref, Life(None, doubts[ref]) if ref in doubts else Life(True)) for ref in refs}


UNREAD = (r.Opaque, r.OwnerNames, r.OwnerIds, r.Physdev)
"""What nobody knows of any host that it can hold."""

FRAGMENTS = "a fragment may match it, and journeys are told of whole packets (A002)"


def _whole(t: Terms, record: Record, table: r.Table) -> Bool:
    """The packets that are no fragment, wherever a rule asks."""
    parts = []
    for asked in record.asked:
        if isinstance(asked.match, r.Fragment):
            chain, number = asked.evaluation.path[-1]
            literal = table.chains[chain].rules[number - 1].literals[asked.evaluation.literal]
            parts.append(~asked.cond | (asked.matches if literal.negated else ~asked.matches))
    return t.all_of(parts)


def _after_the_unknown(table: r.Table, hook: Hook) -> set[c.RuleRef]:
    """The rules that a packet may come to after a target of which we do not know what it makes of the packet."""
    out: set[c.RuleRef] = set()
    done: dict[tuple[str, bool], bool] = {}

    def walk(name: str, unknown: bool) -> bool:
        """Whether a packet may leave the chain with such a target behind it, if it comes with one (`unknown`) or without."""
        key = (name, unknown)
        if key not in done:
            for number, rule in enumerate(table.chains[name].rules, 1):
                if unknown:
                    out.add(c.RuleRef(table.name, name, number))
                asks = (literal.match for literal in rule.literals)
                if any(isinstance(match, r.SocketMatch) and match.restore_mark for match in asks):
                    unknown = True
                    out.add(c.RuleRef(table.name, name, number))
                match rule.target:
                    case r.OpaqueTarget() | r.Tproxy() | r.Queue():
                        unknown = True
                    case r.ClampMss():
                        unknown = unknown or bool(_carried(table) & {"length", "tcp_options"})
                    case r.Redirect() | r.Dnat() | r.Snat() | r.Masquerade() | r.Netmap():
                        unknown = unknown or table.name != "nat" or hook not in NAT_HOOKS[type(rule.target)]
                    case r.NoTrack() | r.TrackAs():
                        unknown = unknown or table.name != "raw"
                    case r.Jump(chain) | r.Goto(chain):
                        unknown = walk(chain, unknown)
                    case (
                        None | r.Accept() | r.Drop() | r.Return() | r.SetMark() | r.SetConnMark() | r.SaveMark()
                        | r.RestoreMark() | r.ChangeTtl() | r.SetTos() | r.SetDscp() | r.SetEntry() | r.Reject() | r.Log()
                    ):  # fmt: skip
                        pass
                    case _:
                        assert_never(rule.target)
            done[key] = unknown
        return done[key]

    walk(hook.value, False)
    return out


def _carried(table: r.Table) -> frozenset[str]:
    """The fields that any packet has which no other table is asked about."""
    return fields_asked(r.RuleSet({table.name: table}))


def _walked(table: r.Table, hook: Hook, packet: Packet, host: Host, choices: j.Choices) -> list[c.RuleRef]:
    """The rules that the concrete wing matches."""
    told = concrete_chains.Record([], [])
    visit = concrete_chains.Visit(0, hook, table, roads(host), choices, told, _carried(table), any_host=True)
    concrete_chains.traverse(visit, packet)
    return _matched(tuple(told.stops), table)


def _possible(p: SymPacket, hook: Hook, names: Names) -> list[Bool]:
    t = p.terms
    last = len(names.interfaces) - 1
    comes = hook in (Hook.PREROUTING, Hook.INPUT, Hook.FORWARD)
    goes = hook in (Hook.FORWARD, Hook.OUTPUT, Hook.POSTROUTING)
    facts = [
        p.in_iface.at_most(last),
        p.out_iface.at_most(last),
        ~p.in_iface.is_(0) if comes else t.true if hook is Hook.POSTROUTING else p.in_iface.is_(0),
        ~p.out_iface.is_(0) if goes else p.out_iface.is_(0),
        t.any_of(p.ctstate.is_(int(s)) for s in CtState),
        p.device.is_(0),
        p.uid.at_most(LAST_ID),
        p.gid.at_most(LAST_ID),
    ]
    if hook not in (Hook.OUTPUT, Hook.POSTROUTING):
        facts.append(~p.socket)
    if "kind" in p.rare:
        facts.append(p.field("kind").at_most(PacketKind.MULTICAST.value))
    if "mac" in p.rare and hook is Hook.OUTPUT:
        facts.append(p.field("mac").is_(NO_MAC))
    if p.connection is not None:
        tracked = (CtState.NEW, CtState.ESTABLISHED, CtState.RELATED)
        known = t.any_of(p.ctstate.is_(int(s)) for s in tracked)
        facts += [(known & p.connection.known) | (~known & ~p.connection.known)]
        facts += [p.connection.protocol.is_(p.proto), ~p.connection.is_reply | ~p.ctstate.is_(CtState.NEW)]
    return facts


def _every_kind_of_name(table: r.Table) -> Names:
    """Names that stand for all interface names there may be, as far as this table's rules can tell them apart.

    A rule asks for a name, or for a beginning of names.  So for each of these the name itself, one that goes
    on in a way that no rule mentions, and one that nothing matches.  Raises TooLarge for more than 255.
    """
    patterns = {
        literal.match.iface.pattern
        for chain in table.chains.values()
        for rule in chain.rules
        for literal in rule.literals
        if isinstance(literal.match, r.InInterface | r.OutInterface)
    }
    stems = {p.removesuffix("+") for p in patterns} - {""}
    other = next(chr(n) for n in range(ord("a"), 0x10000) if not any(chr(n) in p for p in patterns))
    names = stems | {f"{s}{other}" for s in stems if len(s) < LONGEST_NAME} | {other}
    if len(names) > 255:
        raise TooLarge("the rules tell more than 255 interface names apart")
    return Names(("", *sorted(names)))


LONGEST_NAME = 15
"""Characters of an interface's name, at most (include/uapi/linux/if.h: IFNAMSIZ)."""
