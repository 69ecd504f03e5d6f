"""What the kernel did with a packet against what a journey tells of it: the first thing that differs.

Only the first hop is compared: a proxy's dials are sockets' doing.  What a journey leaves to chance is taken from the kernel,
which may choose, and has then to do as the journey goes on with that choice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from msgspec import Struct
from msgspec.structs import replace

from .. import journeys as j
from .. import rules as r
from ..asked import fields_carried
from ..hooks import Hook
from ..hosts import Setting
from ..journeys import TARGET, Act, CallPath, Choices, Evaluation, FromOutside, Journey, Sender, Stop, Truth
from ..packets import Packet
from ..values import ICMP, ICMPV6, IPV4, MAPPED, PORT_PROTOCOLS, CtState
from .headers import Header
from .oracle import Observation
from .traces import ENDS, LOCAL, POST, Step

TRANSLATORS = (r.Redirect, r.Dnat, r.Snat, r.Masquerade, r.Netmap)
MANY = 16
"""Addresses of a range that are tried, where the kernel does not tell which it took; and the last one."""
GIVEN_OR_NOT = j.Unmodelled("target Tproxy")
CT_STATES: Mapping[CtState, int] = {
    CtState.NEW: 8, CtState.INVALID: 1, CtState.ESTABLISHED: 2, CtState.RELATED: 4, CtState.UNTRACKED: 64,
}  # fmt: skip
"""(include/uapi/linux/netfilter/nf_conntrack_common.h: NF_CT_STATE_BIT)"""


class Difference(Struct, frozen=True):
    """At the kernel's step `at`, counted from 0; what both say there, in words."""

    at: int
    kernel: str
    told: str

    def __str__(self) -> str:
        return f"at step {self.at + 1}:\n  kernel {self.kernel}\n  told   {self.told}"


class Settled(Struct, frozen=True):
    """What a wing tells once the kernel's choices are known to it, and what is left to differ."""

    journey: Journey | None
    """None where the wing fails to tell one."""
    choices: Choices
    difference: Difference | None


class _Told(Struct, frozen=True):
    """What a journey says of one step that can be seen."""

    stop: Stop
    before: Packet

    def seen(self, after: bool) -> Packet:
        """The packet when the kernel speaks of this step; NAT targets only say what will be done, once the table is left
        (net/netfilter/nf_nat_core.c: nf_nat_inet_fn)."""
        if not after:
            return self.before
        if self.stop.table == "nat":
            return replace(self.before, mark=self.stop.packet.mark)
        return self.stop.packet

    @property
    def table(self) -> str:
        return self.stop.table or ""

    @property
    def chain(self) -> str:
        return self.stop.chain or ""

    @property
    def number(self) -> int:
        return self.stop.rule or 0


def settle(
    setting: Setting, tell: Callable[[Choices], Journey], sender: Sender, seen: Observation, tries: int = 40
) -> Settled:
    """The journey with the kernel's own choices, and the first difference that no choice explains."""
    choices = Choices()
    journey = tell(choices)
    found = difference(setting, journey, sender, seen)
    for _ in range(tries):
        if found is None:
            break
        for chosen in _candidates(setting.rules, journey, choices, seen, found):
            again = tell(chosen)
            left = difference(setting, again, sender, seen)
            onward = left is None or left.at > found.at or len(again.asked) > len(journey.asked)
            if onward or (left is not None and left.at == found.at and left != found):
                choices, journey, found = chosen, again, left
                break
        else:
            break
    return Settled(journey, choices, found)


def rejection(setting: Setting, journey: Journey) -> Journey:
    """What is told of a rejection, with the TOS byte of an ICMP error also where no packet carries one
    (net/ipv4/icmp.c: __icmp_send)."""
    if "tos" in fields_carried(setting) or setting.host.family is not IPV4:
        return journey

    def seen(packet: Packet) -> Packet:
        return replace(packet, tos=0xC0) if packet.proto == ICMP else packet

    return replace(journey, stops=tuple(replace(s, packet=seen(s.packet)) for s in journey.stops))


def silence(rules: r.RuleSet, seen: Observation) -> Difference | None:
    """What the kernel sends back, where nothing is told; None iff that is nothing."""
    steps = [s for s in seen.steps if s.table == ENDS or _is_there(rules, s)]
    return Difference(0, _spot(steps[0]), "nothing is sent back") if steps else None


def _may_ask_for_states(rules: r.RuleSet) -> bool:
    """False iff all rules are of kinds to which conntrack makes no difference."""
    loaded = [rule for t in rules.tables.values() for chain in t.chains.values() for rule in chain.rules]
    if any(isinstance(rule.target, TRACKING) for rule in loaded):
        return True
    return any(isinstance(x.match, TRACKED) for rule in loaded for x in rule.literals)


TRACKING = (
    r.Redirect, r.Dnat, r.Snat, r.Masquerade, r.Netmap, r.SetConnMark, r.SaveMark, r.RestoreMark, r.TrackAs,
    r.OpaqueTarget,
)  # fmt: skip
TRACKED = (r.CtStates, r.Conntrack, r.ConnMark, r.Chance, r.Opaque)


def difference(setting: Setting, journey: Journey, sender: Sender, seen: Observation) -> Difference | None:
    """The first thing that the kernel did otherwise; None iff all that can be seen is as told.

    A journey that ends in what is not modelled, or with a group of receivers, is compared as far as it goes; the time to live,
    where packets carry it.
    """
    told = list(_steps(journey))
    rules, with_ttl = setting.rules, "ttl" in fields_carried(setting)
    steps = [s for s in seen.steps if s.table != ENDS and _is_there(rules, s)]
    if not _may_ask_for_states(rules):
        # Nothing is tracked, so that NOTRACK has nothing to keep its hands off over lo.
        steps = [replace(s, ctstate=None) for s in steps]
    for at, (kernel, ours) in enumerate(zip(steps, told, strict=False)):
        if (kernel.table, kernel.chain, kernel.number) != (ours.table, ours.chain, ours.number):
            return Difference(at, _spot(kernel), _spot(ours))
        if kernel.after and at == len(told) - 1 and journey.end == GIVEN_OR_NOT:
            break  # What TPROXY does to an answer is seen, and not told.
        wrong = _unlike(kernel, ours.seen(kernel.after), with_ttl)
        if wrong is not None:
            return Difference(at, f"{_spot(kernel)}: {wrong[0]}", wrong[1])
    open_end = journey.last_hop == 0 and isinstance(journey.end, j.Unmodelled | j.Group)
    if len(steps) < len(told):
        return Difference(len(steps), f"nothing more ({seen.error or 'no error'})", _spot(told[len(steps)]))
    if open_end:
        return None
    if len(steps) > len(told):
        return Difference(len(told), _spot(steps[len(told)]), f"nothing more: {journey.end}")
    return _end(journey, sender, seen, len(steps), with_ttl)


def _steps(journey: Journey) -> Iterator[_Told]:
    before = journey.stops[0].packet
    for stop in journey.stops:
        if stop.hop:
            return
        if stop.act in (Act.MATCHED, Act.POLICY):
            yield _Told(stop, before)
        before = stop.packet


def _is_there(rules: r.RuleSet, step: Step) -> bool:
    """A table that is loaded has all its built-in chains, also those that the rules do not name."""
    table = rules.tables.get(step.table)
    return table is not None and step.chain in table.chains


def _spot(step: Step | _Told) -> str:
    return f"{step.table}/{step.chain} " + (f"rule {step.number}" if step.number else "policy")


def _unlike(kernel: Step, told: Packet, with_ttl: bool) -> tuple[str, str] | None:
    """How the packet differs from what is told of it there, if it does."""
    if kernel.mark != told.mark:
        return f"mark {kernel.mark:#x}", f"mark {told.mark:#x}"
    header = kernel.header
    if header is None:
        return None
    for name, here, there in _fields(header, told):
        if here != there:
            return f"{name} {here}", f"{name} {there}"
    if with_ttl and header.ttl != told.ttl:
        return f"ttl {header.ttl}", f"ttl {told.ttl}"
    if (kernel.in_iface, kernel.out_iface) != (told.in_iface, told.out_iface):
        return f"in {kernel.in_iface} out {kernel.out_iface}", f"in {told.in_iface} out {told.out_iface}"
    if kernel.ctstate is not None and not kernel.ctstate & CT_STATES[told.ctstate]:
        return f"connection state {kernel.ctstate}", f"{told.ctstate.name}"
    return None


def _fields(header: Header, told: Packet) -> Iterator[tuple[str, int, int]]:
    yield "src", header.src, told.src
    yield "dst", header.dst, told.dst
    yield "proto", header.proto, told.proto
    if told.proto in PORT_PROTOCOLS:
        yield "sport", header.first, told.sport
        yield "dport", header.second, told.dport
    elif told.proto == (ICMP if told.family is IPV4 else ICMPV6):
        yield "icmp type", header.first, told.icmp_type
        yield "icmp code", header.second, told.icmp_code
    yield "tos", header.tos, told.tos


# -- ends -------------------------------------------------------------------------------------------


def _end(journey: Journey, sender: Sender, seen: Observation, at: int, with_ttl: bool) -> Difference | None:
    told = list(_ends(journey, sender))
    kernel = [s for s in seen.steps if s.table == ENDS]
    names = [f"{s.chain} in {s.in_iface} out {s.out_iface}" for s in kernel]
    if len(kernel) != len(told) or any(k.chain != chain for k, (chain, _) in zip(kernel, told, strict=True)):
        said = f"error {seen.error}" if seen.error else "no error"
        return Difference(at, f"ends {names}, {said}", f"ends {[c for c, _ in told]}: {journey.end}")
    for one, (_, packet) in zip(kernel, told, strict=True):
        # The last stop may have been in raw, before conntrack.
        wrong = _unlike(replace(one, ctstate=None), packet, with_ttl)
        if wrong is not None:
            return Difference(at, f"at the end {one.chain}: {wrong[0]}", wrong[1])
    return None


def _ends(journey: Journey, sender: Sender) -> Iterator[tuple[str, Packet]]:
    """The marked ends that the packet passes, with what is told of it there."""
    first = [s for s in journey.stops if s.hop == 0]
    last = first[-1].packet
    if journey.last_hop == 0 and isinstance(journey.end, j.Left):
        if (first[-1].act, first[-1].where) == (Act.ROUTED, "forward"):
            last = replace(last, ttl=last.ttl - 1)
        yield POST, replace(last, out_iface=journey.end.interface)
        return
    delivered = _is_delivered(journey)
    if not isinstance(sender, FromOutside):
        hooks = {s.hook for s in first}
        end = journey.end
        # What is sent here is a martian only when it comes in again.
        if delivered or hooks & {Hook.PREROUTING, Hook.INPUT} or end == j.Lost(j.MARTIAN):
            sent = next(s.packet for s in reversed(first) if s.packet.in_iface is None)
            yield POST, replace(sent, out_iface=LOOPBACK)
        else:
            assert isinstance(end, j.Dropped | j.Rejected | j.Lost), f"{end} is no end of what was sent here"
    if delivered:
        yield LOCAL, replace(last, in_iface=last.in_iface or LOOPBACK, out_iface=None)


LOOPBACK = "lo"


def _is_delivered(journey: Journey) -> bool:
    if journey.last_hop:
        return True
    end = journey.end
    taken = j.Socket | j.Kernel | j.Refused | j.Loop | j.Onward | j.Returned
    return isinstance(end, taken) or end == j.Lost(j.NOT_UNICAST) or _is_mapped(journey)


def _is_mapped(journey: Journey) -> bool:
    """A connection from an IPv4 address in IPv6, which TCP itself does not take: it was delivered."""
    last = journey.final
    if journey.end != j.Lost(j.MARTIAN) or last.family is IPV4 or last.src & MAPPED.mask != MAPPED.address:
        return False
    return (
        last.in_iface is None or last.in_iface == LOOPBACK or any(s.where == "input" for s in journey.stops)
    )


# -- choices ----------------------------------------------------------------------------------------


def _candidates(
    rules: r.RuleSet, journey: Journey, choices: Choices, seen: Observation, found: Difference
) -> Iterator[Choices]:
    """The choices with one more, that the kernel may have made where the difference is."""
    steps = [s for s in seen.steps if s.table != ENDS and _is_there(rules, s)]
    kernel = steps[found.at] if found.at < len(steps) else None
    for asked in journey.asked:
        if asked.hop or asked in choices.opaque or kernel is None:
            continue
        if (asked.table, asked.path[-1]) == (kernel.table, (kernel.chain, kernel.number)):
            yield replace(choices, opaque={**choices.opaque, asked: Truth.MATCH})
    # What was chosen shows in the next header that is told, or in the one behind it, where source and destination were chosen.
    later = seen.steps[seen.steps.index(kernel) :] if kernel else [s for s in seen.steps if s.table == ENDS]
    places = [s for s in later if s.header is not None][:3]
    for placed in _translations(rules, journey, found.at):
        if placed in choices.translated:
            continue
        of_source = placed.hook in (Hook.POSTROUTING, Hook.INPUT)
        pairs: list[tuple[int | None, int | None]] = []
        for h in (s.header for s in places if s.header is not None):
            pairs.append((h.src, h.first) if of_source else (h.dst, h.second))
        target = _target(rules, placed)
        if not places and isinstance(target, r.Dnat | r.Snat):
            # It got lost before it was seen again: for all that the kernel tells, any address may have been taken.
            first, last = target.to.first or 0, target.to.last or 0
            pairs += [(address, None) for address in (last, *range(first + 1, min(last, first + MANY)))]
        for pair in pairs:
            yield replace(choices, translated={**choices.translated, placed: pair})


def _target(rules: r.RuleSet, placed: Evaluation) -> r.Target | None:
    chain, number = placed.path[-1]
    return rules.tables[placed.table].chains[chain].rules[number - 1].target


def _translations(rules: r.RuleSet, journey: Journey, at: int) -> list[Evaluation]:
    """The NAT targets that were applied before this step, the last one first."""
    found: list[Evaluation] = []
    path: list[tuple[str, int]] = []
    inside: list[str] = []
    number = -1
    for stop in journey.stops:
        if stop.hop or stop.hook is None or stop.table is None or stop.chain is None:
            continue
        if stop.act is Act.ENTERED:
            called = stop.chain != stop.hook.value
            inside, path = ([*inside, stop.chain], path) if called else ([stop.chain], [])
        elif stop.act is Act.POLICY:
            number += 1
            path, inside = [], []
        else:
            number += 1
            if number >= at:
                break
            while inside and inside[-1] != stop.chain:
                inside.pop()
                path = path[: len(inside) - 1]
            rule = rules.tables[stop.table].chains[stop.chain].rules[(stop.rule or 1) - 1]
            site = (stop.chain, stop.rule or 0)
            if isinstance(rule.target, TRANSLATORS):
                whole: CallPath = (*path[: len(inside) - 1], site)
                found.insert(0, Evaluation(0, stop.hook, stop.table, whole, TARGET))
            path = [*path[: len(inside) - 1], site]
    return found
