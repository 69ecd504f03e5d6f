"""A setting that the Linux kernel plays: journeys are held against it at the level of a packet, of a socket, and of a whole flow."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from ..answers import Counterexample
from ..asked import fields_carried, groups_of
from ..concrete.claims import of_answer
from ..concrete.travel import as_sent, can_send
from ..hosts import Host, Setting
from ..journeys import (
    CANNOT_SEND,
    Act,
    Choices,
    Earlier,
    FromOutside,
    FromProcess,
    FromProxy,
    Journey,
    Loop,
    Lost,
    Onward,
    Stop,
    answer_to,
)
from ..kernel.compare import Difference, difference, rejection, settle
from ..kernel.errors import CannotRun, RulesRefused
from ..kernel.expected import matched, stimulus, told
from ..kernel.headers import EXTENSIONS
from ..kernel.iptables import BackendName, spelled, tool_version
from ..kernel.observed import CannotSend, Event, endpoint
from ..kernel.oracle import Observation, Oracle, Shot, answer_shot, finds_sockets
from ..kernel.pods import Pod
from ..kernel.stimuli import Connect, Stimulus
from ..kernel.traces import ENDS, LOCAL
from ..packets import Packet
from ..replay import Start, asked_of, later, moved, told_with
from ..rules import Chance, Dnat, Masquerade, Redirect, Snat, Target
from ..values import IPV4, LINK_LOCAL, MAPPED, TCP, UDP, TcpFlag
from ..wording import say_end
from .events import answered_elsewhere, beside, say_errno, unanswered
from .levels import Confirmation, Level, Name, Verdict, rows_of
from .recent import seen_before


class Part(Struct, frozen=True):
    """A journey from one of its hops on, with what it begins with."""

    start: Start
    journey: Journey

    @property
    def process(self) -> str | None:
        """Whose socket sends the first packet; None of a frame from outside."""
        match self.start.sender:
            case FromOutside():
                return None
            case FromProcess(process) | FromProxy(process):
                return process
            case _:
                assert_never(self.start.sender)

    @property
    def packet(self) -> Packet:
        return self.journey.stops[0].packet

    @property
    def by_itself(self) -> bool:
        """Nobody makes another packet of it."""
        return self.journey.last_hop == 0 and not isinstance(self.journey.end, Loop)


def part_of(found: Counterexample, hop: int) -> Part:
    """The journey from the packet of this hop on."""
    journey = found.journey
    if hop == 0:
        start = Start(found.sender, journey.stops[0].packet, None, found.choices, found.earlier)
        return Part(start, journey)
    stops = tuple(replace(s, hop=moved(s.hop, -hop)) for s in journey.stops if told_with(s.hop) >= hop)
    asked = tuple(replace(e, hop=moved(e.hop, -hop)) for e in journey.asked if told_with(e.hop) >= hop)
    state, sent = journey.states[hop - 1], stops[0].packet
    choices = later(found.choices, hop)
    owner = {} if sent.uid is None or sent.gid is None else {0: (sent.uid, sent.gid)}
    choices = replace(choices, ports={**choices.ports, 0: sent.sport}, uids={**choices.uids, **owner})
    answers = {h - hop: end for h, end in journey.answers.items() if h >= hop}
    rest = Journey(stops, journey.end, journey.states[hop:], asked, answers)
    return Part(Start(FromProxy(state.process, state.proxy), None, state, choices), rest)


TRIES = 100
"""How often a packet is sent to see chance decide as is told: one in three does so each time."""


def with_history(setting: Setting, start: Start) -> Setting:
    """The setting as journeys behind an earlier packet are told of it."""
    return setting if start.earlier is None else replace(setting, also=setting.also | {"connection"})


def time_of(times: Sequence[Setting], found: Counterexample) -> Setting:
    """The first of these, which tell what sets hold at one time or another, in which the journey is as it is told; else the first."""
    start = part_of(found, 0).start

    def tells(time: Setting) -> bool:
        journey = start.travel(with_history(time, start))
        return journey.stops == found.journey.stops and journey.end == found.journey.end

    return next(filter(tells, times), times[0])


class Bench:
    """One setting in the kernel, through one backend, for as many journeys as you like; a context manager.

    Raises CannotRun where this machine lacks what it takes, and RulesRefused where the tool does not take the rules.
    """

    def __init__(self, setting: Setting, backend: BackendName) -> None:
        self.setting = setting
        self.backend = backend
        self._pod: Pod | None = None
        with ExitStack() as stack:
            self._oracle = stack.enter_context(Oracle(setting.host, backend))
            try:
                self._oracle.load(setting.rules)
            except RulesRefused as error:
                if not _knows_every_id():
                    error.hint = "a user namespace refuses rules that name an id which it does not map: run it as the real root"
                raise
            self._stack = stack.pop_all()

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def confirm(self, found: Counterexample) -> Confirmation:
        """The packet of every hop, the sockets of the first hop and of that of the claim, and the flow; of what comes behind an
        earlier packet the packet and its socket, and of a later packet of a connection that packet and its answer."""
        journey = found.journey
        hops = [s.hop for s in journey.stops if s.act is Act.SENT and s.hop >= 0]
        parts = {hop: part_of(found, hop) for hop in hops}
        self._oracle.remember(seen_before(journey, found.choices, self.setting))
        levels = [
            replace(x, hop=hop) for x, hop in zip(self.packets(list(parts.values())), hops, strict=True)
        ]
        if found.earlier is not None and not found.earlier.opens:
            if parts[0].process is not None:
                levels.append(self._socket(parts[0]))
            return self._confirmation(levels)
        if any(s.hop == answer_to(found.hop) for s in journey.stops):
            its = self._rejection if self.setting.rejections else self._answer
            levels.append(replace(its(parts[found.hop]), hop=found.hop))
        if found.earlier is not None:
            return self._confirmation(levels)
        asked = [hop for hop in dict.fromkeys((0, found.hop)) if parts[hop].process is not None]
        heard = [replace(self._socket(parts[hop]), hop=hop) for hop in asked]
        if journey.states or parts[0].process is None:
            heard.append(self._flow(found))
        return self._confirmation([*levels, *_unless_silent(levels, heard)])

    def _confirmation(self, levels: Sequence[Level]) -> Confirmation:
        host, kernel = self.setting.host.name, f"{os.uname().sysname} {os.uname().release}"
        tool = tool_version(self.backend, self.setting.rules.family)
        return Confirmation(host, self.backend, kernel, tool, tuple(levels))

    # -- packets --------------------------------------------------------------------------------------

    def packets(self, parts: Sequence[Part]) -> list[Level]:
        """The first packet of each, sent as it stands: every rule that it takes, how it looks there, and its end."""
        sent = {n: p for n, p in enumerate(parts) if p.start.earlier is None and self._unsent(p) is None}
        seen = dict(zip(sent, self._oracle.ask([self._shot(p) for p in sent.values()]), strict=True))
        return [
            self._again(part, self._packet(part, seen.get(n)))
            if part.start.earlier is None
            else self._behind(part, part.start.earlier)
            for n, part in enumerate(parts)
        ]

    def _again(self, part: Part, level: Level) -> Level:
        """The packet sent once more, and again, where it is chance that has decided otherwise than is told: the level at which it
        falls out so, or the first one."""
        if level.verdict is not Verdict.NOT_RUN or not level.rows or not self._is_by_chance(part):
            return level
        for _ in range(TRIES):
            (seen,) = self._oracle.ask([self._shot(part)])
            found = self._packet(part, seen)
            if found.verdict is not Verdict.NOT_RUN:
                return found
        return level

    def _is_by_chance(self, part: Part) -> bool:
        """All that is asked on its way is decided anew for each packet, one in so many or by a number that is drawn."""
        asked = [asked_of(self.setting, e) for e in part.journey.asked if e.hop == 0]
        return bool(asked) and all(isinstance(x, Chance) and x.module == "statistic" for x in asked)

    def _behind(self, part: Part, earlier: Earlier) -> Level:
        """The packet, sent right behind the earlier one, and perhaps the answer to that."""

        def not_run(why: str) -> Level:
            return Level(Name.PACKET, 0, Verdict.NOT_RUN, why)

        shots = self._before(part, earlier)
        if isinstance(shots, str):
            return not_run(shots)
        seen = self._oracle.ask([*shots, replace(self._shot(part), answer=True, opened=len(shots))])
        why = self._is_otherwise(part, earlier, seen[: len(shots)])
        if why is None:
            return self._packet(part, seen[-1])
        return (self._step_by_step(part, earlier) if earlier.opens else None) or not_run(why)

    def _step_by_step(self, part: Part, earlier: Earlier) -> Level | None:
        """The packet in a connection of which the kernel has chosen something, a port most often: its answer is sent when that is
        known.  None where the packet then goes another way, or none."""
        setting = with_history(self.setting, part.start)
        first = Start(earlier.sender, earlier.packet, None, earlier.choices)

        def tell(choices: Choices) -> Journey:
            whole = replace(earlier.choices, opaque=choices.opaque, translated=choices.translated)
            return replace(first, choices=whole).travel(replace(setting, answers=True))

        (seen,) = self._oracle.ask([self._shot(_first(part, earlier))])
        settled = (
            None if seen is None else settle(self.setting, tell, _raw_sender(_first(part, earlier)), seen)
        )
        if settled is None or settled.difference is not None:
            return None
        chosen = settled.choices
        known = replace(earlier.choices, opaque=chosen.opaque, translated=chosen.translated)
        start = replace(part.start, earlier=replace(earlier, choices=known))
        told = start.travel(replace(setting, answers=bool(part.journey.answers)))
        way = None if told.earlier is None else of_answer(told.earlier, 0)
        answer = None if way is None else answer_shot(way, "length" in fields_carried(self.setting))
        if answer is None or way is None or _path(told) != _path(part.journey):
            return None
        now = Part(start, told)
        later = replace(self._shot(now), answer=True, opened=2)
        back, seen = self._oracle.ask([answer, later], onward=True)
        if back is None or difference(self.setting, way, answer.sender, back) is not None:
            return None
        return self._packet(now, seen)

    def _before(self, part: Part, earlier: Earlier) -> list[Shot] | str:
        """What has to be sent right before the packet, or why that cannot be done."""
        handshake = earlier.packet.proto == TCP and not part.packet.flags & (TcpFlag.RST | TcpFlag.FIN)
        if earlier.assured and not handshake:
            return "the earlier packet's connection would have to be older"
        first = _first(part, earlier)
        if earlier.opens and finds_sockets(self.setting.rules):
            return "the socket of its connection would have to be there"
        shots = [self._shot(first)]
        if earlier.answered or earlier.opens:
            answer = self._answer_to(first)
            if answer is None:
                return "nobody here can be made to send the answer to the earlier packet"
            shots.append(answer)
        return shots

    def _is_otherwise(self, part: Part, earlier: Earlier, seen: Sequence[Observation | None]) -> str | None:
        """Why what was sent before the packet says nothing of what is told, None iff it does."""
        first = _first(part, earlier)
        if None in seen:
            return "no bytes say the earlier packet"
        ways = [first.journey]
        if earlier.opens:
            answer = of_answer(first.journey, 0)
            ways += [] if answer is None else [answer]
        for way, one in zip(ways, seen, strict=False):
            sender = _sender_of(way)
            if one is None or difference(self.setting, way, sender, one) is not None:
                return "the kernel chose otherwise for the earlier packet"
        return None

    def _answer_to(self, part: Part) -> Shot | None:
        """What answers a packet that came to somebody; None where nobody here or outside can be made to send it."""
        asked = replace(self.setting, answers=True)
        answer = of_answer(part.journey if part.journey.answers else part.start.travel(asked), 0)
        return None if answer is None else answer_shot(answer, "length" in fields_carried(self.setting))

    def _shot(self, part: Part) -> Shot:
        exact = "length" in fields_carried(self.setting)
        return Shot(_raw_sender(part), part.packet, exact)

    def _unsent(self, part: Part) -> str | None:
        """Why the packet is not sent."""
        if len(part.journey.stops) == 1 and part.journey.end == Lost(CANNOT_SEND):
            return "the kernel refuses to send it"
        state, known = part.packet.ctstate, as_sent(self.setting, part.start.sender, part.packet).ctstate
        if state is not known:
            return f"its connection is {state.name}, and that of a first packet like this is {known.name}"
        return None

    def _packet(self, part: Part, seen: Observation | None) -> Level:
        if seen is None:
            why = self._unsent(part) or "no bytes say this packet"
            return Level(Name.PACKET, 0, Verdict.NOT_RUN, why)
        rows = rows_of(_told(part), self._seen(seen))
        differs = difference(self.setting, part.journey, _raw_sender(part), seen)
        if differs is None:
            return Level(Name.PACKET, 0, Verdict.CONFIRMED, "", rows)
        said = f"the kernel has {differs.kernel}, told is {differs.told}"
        chosen = self._with_the_kernels_choices(part, seen)
        if chosen is None:
            return Level(Name.PACKET, 0, Verdict.CONTRADICTED, said, rows, differs.at)
        if _path(chosen) == _path(part.journey):
            return Level(Name.PACKET, 0, Verdict.CONFIRMED, f"where it may choose, {said}", rows)
        return Level(Name.PACKET, 0, Verdict.NOT_RUN, f"the kernel chose otherwise: {said}", rows, differs.at)

    def _answer(self, part: Part) -> Level:
        """The answer to the packet, sent as it stands right behind that: every rule that it takes, and its end."""
        journey = of_answer(part.journey, 0)
        if journey is None:
            raise AssertionError("a journey that tells of an answer has one")
        answer = answer_shot(journey, "length" in fields_carried(self.setting))
        why = self._unsent(part) or ("nobody here can be made to send it" if answer is None else None)
        if answer is None or why is not None:
            return Level(Name.ANSWER, 0, Verdict.NOT_RUN, why or "")
        earlier = part.start.earlier
        before = [] if earlier is None else self._before(part, earlier)
        if isinstance(before, str):
            return Level(Name.ANSWER, 0, Verdict.NOT_RUN, before)
        shot = self._shot(part)
        if before:
            shot = replace(shot, answer=True, opened=len(before))
            answer = replace(answer, opened=len(before) + 1)
        *first, question, seen = self._oracle.ask([*before, shot, answer])
        why = None if earlier is None else self._is_otherwise(part, earlier, first)
        if why is not None:
            return Level(Name.ANSWER, 0, Verdict.NOT_RUN, why)
        if question is None or seen is None:
            return Level(Name.ANSWER, 0, Verdict.NOT_RUN, "no bytes say this packet")
        rows = rows_of(_told(Part(part.start, journey)), self._seen(seen))
        if difference(self.setting, part.journey, _raw_sender(part), question) is not None:
            return Level(
                Name.ANSWER, 0, Verdict.NOT_RUN, "the kernel chose otherwise for what it answers", rows
            )
        differs = difference(self.setting, journey, answer.sender, seen)
        return _judged_back(Level(Name.ANSWER, 0, Verdict.CONFIRMED, "", rows), journey, differs)

    def _rejection(self, part: Part) -> Level:
        """What the kernel sends back for the packet, which is sent with a right checksum: every rule that it takes, and its end."""
        told = of_answer(part.journey, 0)
        if told is None:
            raise AssertionError("a journey that tells of a rejection has one")
        journey = rejection(self.setting, told)
        why = self._unsent(part)
        if why is not None:
            return Level(Name.REJECTION, 0, Verdict.NOT_RUN, why)
        shot = replace(self._shot(part), rejected=True)
        first, seen = self._oracle.ask([shot, replace(shot, answer=True, rejection=True)])
        if first is None or seen is None:
            return Level(Name.REJECTION, 0, Verdict.NOT_RUN, "no bytes say this packet")
        rows = rows_of(_told(Part(part.start, journey)), self._seen(seen))
        if difference(self.setting, part.journey, _raw_sender(part), first) is not None:
            why = "the kernel chose otherwise for what is rejected"
            return Level(Name.REJECTION, 0, Verdict.NOT_RUN, why, rows)
        differs = difference(self.setting, journey, FromProcess(""), seen)
        return _judged_back(Level(Name.REJECTION, 0, Verdict.CONFIRMED, "", rows), journey, differs)

    def _with_the_kernels_choices(self, part: Part, seen: Observation) -> Journey | None:
        """The first hop as the concrete wing tells it with other choices, where that is what the kernel did, and where it is
        the concrete wing that tells the part.
        """

        def tell(choices: Choices) -> Journey:
            mine = part.start.choices
            whole = replace(mine, opaque=choices.opaque, translated=choices.translated)
            return replace(part.start, choices=whole).travel(setting, 1)

        setting = with_history(self.setting, part.start)
        if part.journey.answers:
            setting = replace(setting, answers=True)

        if _of_the_packet(tell(part.start.choices)) != _of_the_packet(part.journey):
            return None
        settled = settle(self.setting, tell, _raw_sender(part), seen)
        return settled.journey if settled.difference is None else None

    def _is_chosen(self, part: Part) -> bool:
        """It may go another way, or look otherwise, by choices that the kernel makes."""
        tables = self.setting.rules.tables
        taken = (s for s in part.journey.stops if s.act is Act.MATCHED)
        rules = (tables[s.table or ""].chains[s.chain or ""].rules[(s.rule or 1) - 1] for s in taken)
        return bool(part.journey.asked) or any(_is_free(rule.target) for rule in rules)

    def _seen(self, seen: Observation) -> Iterator[str]:
        """The rules and policies that are in the rule set, and then how it ended."""
        tables = self.setting.rules.tables
        for step in seen.steps:
            if step.table in tables and step.chain in tables[step.table].chains:
                yield _site(step.table, step.chain, step.number)
        ends = [
            f"comes in by {s.in_iface}" if s.chain == LOCAL else f"goes out by {s.out_iface}"
            for s in seen.steps
            if s.table == ENDS
        ]
        refused = "" if seen.error is None else f" ({errno.errorcode.get(seen.error, seen.error)})"
        yield (", ".join(ends) or "goes no further") + refused

    # -- sockets, flows -------------------------------------------------------------------------------

    def _running(self) -> Pod:
        """The same host with sockets that answer, made when it is first needed."""
        if self._pod is None:
            text, places = spelled(self.setting.rules)
            try:
                self._pod = self._stack.enter_context(Pod(self.setting.host, text, self.backend, places))
            except OSError as error:
                message = f"the host {self.setting.host.name} cannot be built: {error.strerror}"
                raise CannotRun("K006", message, "see what its processes listen on") from None
        return self._pod

    def _socket(self, part: Part) -> Level:
        """A socket connects or sends a datagram, and it is accepted, refused, or leaves as is told."""
        process = self.setting.host.process(part.process or "")
        try:
            self._need_usual(part)
            after = self._sent_before(part)
            expected = told(part.journey)
            connect = _connect(part, self.setting.host)
        except ValueError as reason:
            return Level(Name.SOCKET, 0, Verdict.NOT_RUN, str(reason))
        if not part.by_itself:
            expected = expected[:1]
        events = self._running().run(connect, part.start.choices, after=after).events[: len(expected)]
        level = beside(Name.SOCKET, expected, events)
        if level.verdict is Verdict.CONTRADICTED and isinstance(events[0], CannotSend):
            text = f"no socket can send this: {say_errno(events[0].errno)}"
            if process.raw:
                text, verdict = f"{text}; the process has raw sockets", Verdict.NOT_RUN
                return replace(level, text=text, verdict=verdict)
            # Which of two sockets had a port first is not followed.
            verdict = Verdict.NOT_RUN if events[0].errno == "EADDRINUSE" else level.verdict
            return replace(level, text=text, verdict=verdict)
        if level.verdict is Verdict.CONTRADICTED and process.raw and not self._is_usual(part):
            text = "only a raw socket writes this header, and the kernel has sent another one"
            return replace(level, text=text, verdict=Verdict.NOT_RUN)
        return self._judged(level, part, expected, events)

    def _sent_before(self, part: Part) -> Stimulus | None:
        """What sends the earlier packet, if there is one; raises ValueError where nobody here sends it as it is told."""
        earlier = part.start.earlier
        if earlier is None:
            return None
        if earlier.answered:
            raise ValueError("nobody here answers the earlier packet")
        first = _first(part, earlier)
        self._need_usual(first)
        return stimulus(_raw_sender(first), first.packet, groups_of(self.setting.host)[first.packet.groups])

    def _is_usual(self, part: Part) -> bool:
        """A process that has no raw sockets could send the packet too."""
        host, name = self.setting.host, part.process or ""
        tame = tuple(replace(p, raw=False) if p.name == name else p for p in host.processes)
        setting = replace(self.setting, host=replace(host, processes=tame))
        return can_send(setting, name, part.packet)

    def _flow(self, found: Counterexample) -> Level:
        """The connection as it is made, with all that proxies make of it, and the rules of nat that it takes on its way."""
        part = part_of(found, 0)
        try:
            self._need_usual(part)
            first = stimulus(found.sender, part.packet, groups_of(self.setting.host)[part.packet.groups])
            expected = told(found.journey)
        except ValueError as reason:
            return Level(Name.FLOW, 0, Verdict.NOT_RUN, str(reason))
        seen = self._running().run(first, found.choices, hits=True)
        level = beside(Name.FLOW, expected, seen.events)
        # Of other tables later packets and replies count too.
        hits = {hit for hit in seen.hits or () if hit[0] == "nat"}
        taken = matched(found.journey, "nat")
        if level.verdict is Verdict.CONFIRMED and hits != taken:
            rules = ", ".join(_site(*hit) for hit in sorted(hits ^ taken))
            text = f"one of both takes these rules, the other does not: {rules}"
            level = replace(level, verdict=Verdict.CONTRADICTED, text=text)
        return self._judged(level, part, expected, seen.events)

    def _need_usual(self, part: Part) -> None:
        """Raise ValueError where no socket here sends the packet, or a dial, as it is told."""
        if self.setting.host.family is not IPV4:
            _need_a_scope(part)
        carried = fields_carried(self.setting)
        kept = {field: getattr(Packet(0, 0), field) for field in ("ttl", "tos") if field in carried}
        odd: list[str] = [field for field, value in kept.items() if getattr(part.packet, field) != value]
        odd += [field for field in ("length", "tcp_options", "mac") if field in carried]
        odd += ["extensions"] if part.packet.extensions & EXTENSIONS else []
        if part.start.choices.drawn:
            odd.append("a dial's own header")
        if part.packet.proto == UDP and part.packet.dport == 0:
            raise ValueError("no socket sends a datagram to port 0")
        if odd:
            raise ValueError(f"the rules ask for what sockets here leave to the kernel: {', '.join(odd)}")

    def _judged(self, level: Level, part: Part, expected: Sequence[Event], events: Sequence[Event]) -> Level:
        """The level, unless what differs is something that is not followed: the kernel's choices, and what is answered."""
        if level.verdict is Verdict.CONTRADICTED and unanswered(level, expected, events):
            text = "no answer was seen: what is answered passes rules and routes of its own, which are not followed"
            return replace(level, verdict=Verdict.NOT_RUN, text=text)
        sent = part.packet
        if level.verdict is Verdict.CONTRADICTED and answered_elsewhere(
            expected, events, endpoint(sent.src, sent.sport, sent.family)
        ):
            text = "the answer goes to the source that a rule of INPUT gave it, which is not followed"
            return replace(level, verdict=Verdict.NOT_RUN, text=text)
        if level.verdict is Verdict.CONTRADICTED and self._is_chosen(part):
            text = (
                "what is told rests on chance, or on what is not understood, and the kernel goes another way"
            )
            return replace(level, verdict=Verdict.NOT_RUN, text=text)
        return level


def _need_a_scope(part: Part) -> None:
    """Raise ValueError where a socket of IPv6 takes one of the addresses for something else, or not without an interface
    (net/ipv6/addrconf_core.c: __ipv6_addr_needs_scope_id).
    """
    for address in (part.packet.src, part.packet.dst):
        if address & MAPPED.mask == MAPPED.address:
            raise ValueError("a socket takes an IPv4 address in IPv6 for one of IPv4")
        near = address & LINK_LOCAL.mask == LINK_LOCAL.address or address >> 112 & 0xFF0F in (0xFF01, 0xFF02)
        if near and part.process is not None and part.packet.device is None:
            raise ValueError("a socket that is bound to no interface reaches no link-local address")


def _knows_every_id() -> bool:
    """This user namespace is the first one, or one that maps as much (user_namespaces(7))."""
    return Path("/proc/self/uid_map").read_text().split()[2] == "4294967295"


def _path(journey: Journey) -> tuple[object, ...]:
    """The rules and policies of the first hop, and what kind of end it comes to."""
    stops = [s for s in journey.stops if s.hop == 0]
    end = type(journey.end) if journey.last_hop == 0 else None
    goes_on = end in (None, Loop, Onward)
    return (*((s.act, s.table, s.chain, s.rule) for s in stops), None if goes_on else end)


def _is_free(target: Target | None) -> bool:
    """The kernel chooses among addresses, or among ports."""
    match target:
        case Redirect(ports, choice) | Masquerade(ports, choice):
            return choice is not None or (ports is not None and ports.first < ports.last)
        case Dnat(to, choice) | Snat(to, choice):
            many = to.first != to.last or (to.ports is not None and to.ports.first < to.ports.last)
            return choice is not None or many
        case _:
            return False


def _of_the_packet(journey: Journey) -> list[Stop]:
    """The stops of the first packet: neither its answer's, nor those of what a proxy dials."""
    return [stop for stop in journey.stops if stop.hop == 0]


def _judged_back(level: Level, journey: Journey, differs: Difference | None) -> Level:
    """The level of what comes back, where the kernel differs in this from its journey, if in anything."""
    if differs is None:
        return level
    said = f"the kernel has {differs.kernel}, told is {differs.told}"
    verdict = Verdict.NOT_RUN if journey.asked else Verdict.CONTRADICTED
    return replace(level, verdict=verdict, text=said, first=differs.at)


def _unless_silent(packets: Sequence[Level], heard: Sequence[Level]) -> Iterator[Level]:
    """What sockets heard, but where that is nothing, and the kernel has gone another way with the packet that was to be dropped:
    a later one may have been, or a rule may have done it that is not meant."""
    otherwise = any(level.verdict is Verdict.NOT_RUN and level.rows for level in packets)
    for level in heard:
        silent = all(row.kernel.startswith("nothing more") for row in level.rows)
        if otherwise and silent and level.verdict is Verdict.CONFIRMED:
            text = "nothing was heard, and the packet itself went otherwise"
            level = replace(level, verdict=Verdict.NOT_RUN, text=text)
        yield level


def _first(part: Part, earlier: Earlier) -> Part:
    """The earlier packet, with its journey."""
    if part.journey.earlier is None:
        raise AssertionError("an earlier packet has a journey")
    return Part(Start(earlier.sender, earlier.packet, None, earlier.choices), part.journey.earlier)


def _sender_of(way: Journey) -> FromOutside | FromProcess:
    """Who sends the first packet of this journey."""
    first = way.stops[0]
    if first.process is None:
        return FromOutside(first.packet.in_iface or "")
    return FromProcess(first.process)


def _raw_sender(part: Part) -> FromOutside | FromProcess:
    """Who sends the packet as it stands: of a process, and of a proxy's dial, a raw socket."""
    sender = part.start.sender
    return sender if isinstance(sender, FromOutside) else FromProcess(part.process or "")


def _connect(part: Part, host: Host) -> Connect:
    """The first packet as a socket's connect(); a proxy that keeps its client's source borrows it."""
    connect = stimulus(_raw_sender(part), part.packet, groups_of(host)[part.packet.groups])
    if not isinstance(connect, Connect):
        raise AssertionError(f"a frame is no socket's: {connect}")
    state = part.start.state
    return replace(connect, transparent=state is not None and state.client is not None)


def _told(part: Part) -> Iterator[str]:
    """The rules and policies of the first hop, and then how it ends."""
    for stop in part.journey.stops:
        if stop.hop == 0 and stop.act in (Act.MATCHED, Act.POLICY):
            yield _site(stop.table or "", stop.chain or "", stop.rule or 0)
    takers = [s.process for s in part.journey.stops if s.hop == 0 and s.act is Act.DELIVERED]
    if takers and not part.by_itself:
        yield f"is accepted by {takers[0]}"
    else:
        yield say_end(part.journey.end)


def _site(table: str, chain: str, number: int) -> str:
    return f"{table}/{chain} " + (f"rule {number}" if number else "policy")
