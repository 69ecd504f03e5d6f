"""Slips in what an earlier packet leaves and a later one finds, with pairs of packets that are told otherwise by them."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from verifier import hosts as h
from verifier import rules as r
from verifier.hosts import Setting
from verifier.journeys import FromOutside, FromProcess, Sender
from verifier.packets import Packet
from verifier.values import UDP, CtState, Ids, IdSet, Iface, MarkMask, Span

from .examples import ip, rule_set
from .slips import Slip
from .slips_of_answers import CLIENT, FAR, HERE, router

SLIPS = tuple(
    Slip(*given)
    for given in (
        (
            "nat is asked about every NEW packet",
            "travel.py",
            "    if _is_bound(hop, packet):\n        return False\n",
            "",
        ),
        (
            "what nat decided of the earlier packet is not applied to the later",
            "travel.py",
            "_translated(hop, hook, entries.bound(packet, hook), packet)",
            "_translated(hop, hook, packet, packet)",
        ),
        (
            "the source is translated where the destination has to be",
            "entries.py",
            "    if hook in (Hook.PREROUTING, Hook.OUTPUT):\n",
            "    if hook in (Hook.POSTROUTING, Hook.INPUT):\n",
        ),
        (
            "an entry is found in any zone",
            "entries.py",
            "    if zone[0] == entry.zone[0]:\n",
            "    if True:\n",
        ),
        (
            "an entry is looked for in the zone of its answers",
            "entries.py",
            "    if zone[0] == entry.zone[0]:\n",
            "    if zone[1] == entry.zone[1]:\n",
        ),
        (
            "a clash of reply tuples is none",
            "entries.py",
            "    return A_CLASH if zone[1] == entry.zone[1] else None\n",
            "    return None\n",
        ),
        (
            "a zone that a mark names is the default one",
            "entries.py",
            "    if zone is None or entry.zone is None:\n        return A_MARKS_ZONE\n",
            "    zone, entry = zone or (0, 0), replace(entry, zone=entry.zone or (0, 0))\n"
            "    assert entry.zone is not None\n",
        ),
        (
            "what answers the earlier packet is taken for a new connection",
            "entries.py",
            "    if back and zone[1] == entry.zone[1]:\n        return AN_ANSWER\n",
            "",
        ),
        (
            "a packet that was dropped on its way leaves an entry",
            "entries.py",
            "    if kept is None or kept.connection is None:\n        return None\n",
            "    kept = kept or stops[-1].packet\n    if kept.connection is None:\n        return None\n",
        ),
        (
            "the connection is kept as it was before lo",
            "entries.py",
            "    if last is None or not last.status & CONFIRMED:\n        last = kept.connection\n",
            "    last = kept.connection\n",
        ),
        (
            "the later packet's connection has no mark yet",
            "travel.py",
            "    return replace(packet, ctstate=state, connection=known)\n",
            "    return replace(packet, ctstate=state, connection=replace(known, mark=0))\n",
        ),
        (
            "a connection that was answered is NEW",
            "travel.py",
            "    state = CtState.ESTABLISHED if known.status & SEEN_REPLY else CtState.NEW\n",
            "    state = CtState.NEW\n",
        ),
        (
            "somebody answers what came to nobody",
            "entries.py",
            "    answered = earlier.answered and isinstance(end, Left | Socket)\n",
            "    answered = earlier.answered\n",
        ),
        (
            "answers leave marks alone",
            "entries.py",
            "isinstance(rule.target, r.SetConnMark | r.SaveMark)",
            "isinstance(rule.target, r.SetConnMark)",
        ),
        (
            "raw is asked about no answer",
            "entries.py",
            "    return raw is not None and any(",
            "    return raw is None and any(",
        ),
        (
            "what is masqueraded goes on by any interface",
            "travel.py",
            "    return hop.behind[-1].masquerades not in (None, packet.out_iface)\n",
            "    return False\n",
        ),
        (
            "copies for a group leave the entry that the packet would",
            "entries.py",
            "    if entry.in_doubt:\n",
            "    if False:\n",
        ),
        (
            "conntrack that is off keeps entries",
            "entries.py",
            "    if is_on(setting.rules) is not True:\n",
            "    if False:\n",
        ),
    )
)


class Pair(Struct, frozen=True):
    """A packet behind an earlier one."""

    setting: Setting
    first: Sender
    before: Packet
    sender: Sender
    packet: Packet


APP, ENVOY, OUTSIDE = FromProcess("app"), FromProcess("envoy"), FromOutside("eth0")
ANYONE = IdSet.read("any")
OF_ENVOY = r.OwnerIds(uid=Ids(1337, 1337))
FILTERS = {"OUTPUT": (), "INPUT": (), "FORWARD": ()}


def examples() -> Iterator[Pair]:
    """On the router of `slips_of_answers`, with an app, and Envoy, which may bind eth1."""
    yield from _translated()
    yield from _in_zones()
    yield from _kept_or_not()
    yield from _marked()
    yield from _masqueraded()


def _translated() -> Iterator[Pair]:
    redirect = {"OUTPUT": _only(OF_ENVOY, r.Redirect(Span(80, 80)))}
    snat = {"POSTROUTING": _only(OF_ENVOY, r.Snat(r.NatRange.of(ip("10.0.1.5"), None)))}
    both = {"PREROUTING": _only(None, r.Dnat(r.NatRange.of(HERE, None)))}
    for nat in (redirect, snat, both):
        setting = _setting(rule_set(nat=nat, filter=FILTERS))
        yield Pair(setting, ENVOY, _sent(FAR, 1337), APP, _sent(FAR, 1000))
        yield Pair(setting, APP, _sent(FAR, 1000), ENVOY, _sent(FAR, 1337))
        yield Pair(setting, OUTSIDE, _frame(FAR), OUTSIDE, _frame(FAR))
        yield Pair(setting, OUTSIDE, _frame(HERE), APP, _sent(CLIENT, 1000, sport=80, dport=4000))


def _in_zones() -> Iterator[Pair]:
    """A zone for Envoy, and one for all others."""
    redirect = {"OUTPUT": _only(None, r.Redirect(Span(80, 80)))}
    for mine, theirs in (
        ("--zone 1", "--zone 2"),
        ("--zone 1", "--zone 1"),
        ("--zone-orig 1", "--zone-orig 2"),
        ("--zone-orig 1", "--zone 1"),
        ("--zone-reply 1", "--zone-reply 2"),
        ("--zone mark", "--zone 2"),
    ):
        raw = {"OUTPUT": _only(OF_ENVOY, r.TrackAs(mine)) + _only(None, r.TrackAs(theirs))}
        for nat in ({}, {"nat": redirect}):
            setting = _setting(rule_set(raw=raw, filter=FILTERS, **nat))
            yield Pair(setting, ENVOY, _sent(FAR, 1337), APP, _sent(FAR, 1000))
            yield Pair(setting, ENVOY, _sent(HERE, 1337), APP, _back(_sent(HERE, 1000)))


def _kept_or_not() -> Iterator[Pair]:
    """Envoy's packets are dropped early, late, or nobody takes them."""
    on = {"OUTPUT": _only(r.CtStates(frozenset({CtState.NEW})), r.Accept())}
    for drops in (
        {"filter": {**FILTERS, "OUTPUT": _only(OF_ENVOY, r.Drop())}},
        {"filter": {**FILTERS, "INPUT": _only(r.InInterface(Iface("lo")), r.Drop())}},
        {"filter": FILTERS, "raw": {"OUTPUT": _only(OF_ENVOY, r.NoTrack())}},
        {"filter": FILTERS},
    ):
        for table in ({"mangle": on}, {}):
            setting = _setting(rule_set(**drops, **table))
            for dst in (FAR, HERE, ip("224.0.0.1")):
                for dport in (80, 81):
                    sent = [_sent(dst, uid, dport=dport) for uid in (1337, 1000)]
                    yield Pair(setting, ENVOY, sent[0], APP, sent[1])


def _marked() -> Iterator[Pair]:
    """On the way out, and over lo."""
    for chain, target in (
        ("OUTPUT", r.SetConnMark(MarkMask(7))),
        ("INPUT", r.SetConnMark(MarkMask(7))),
        ("OUTPUT", r.SaveMark(0xFFFFFFFF, 0xFFFFFFFF)),
    ):
        setting = _setting(rule_set(mangle={chain: _only(None, target)}, filter=FILTERS))
        for dst in (FAR, HERE):
            yield Pair(setting, ENVOY, _sent(dst, 1337), APP, _sent(dst, 1000))


def _masqueraded() -> Iterator[Pair]:
    nat = {"POSTROUTING": _only(None, r.Masquerade())}
    setting = _setting(rule_set(nat=nat, filter=FILTERS))
    for first, later in ((None, "eth1"), ("eth1", None), ("eth1", "eth1")):
        before, packet = (_sent(FAR, 1337, device=d) for d in (first, later))
        yield Pair(setting, ENVOY, before, ENVOY, packet)


def _setting(rules: r.RuleSet) -> Setting:
    processes = (
        h.Process("app", ANYONE, ANYONE, (h.Listener(80, protocol=UDP),)),
        h.Process("envoy", ANYONE, ANYONE, device="eth1"),
    )
    return Setting(router(*processes), rules, frozenset({"connection"}))


def _only(match: r.Match | None, target: r.Target) -> tuple[r.Rule, ...]:
    return (r.Rule((r.Literal(match),) if match is not None else (), target),)


def _sent(dst: int, uid: int, sport: int = 4000, dport: int = 80, device: str | None = None) -> Packet:
    return Packet(HERE, dst, UDP, sport, dport, uid=uid, gid=0, device=device)


def _back(packet: Packet) -> Packet:
    return replace(packet, src=packet.dst, dst=packet.src, sport=packet.dport, dport=packet.sport)


def _frame(dst: int) -> Packet:
    return Packet(CLIENT, dst, UDP, 4000, 80, in_iface="eth0")
