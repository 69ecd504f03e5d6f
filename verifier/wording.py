"""Claims in the words of property files, and answers in words that go with them, from the data alone."""

from __future__ import annotations

from typing import assert_never

from . import claims as c
from . import journeys as j
from .answers import Varies
from .hooks import Hook
from .packets import Packet
from .values import (
    ICMP,
    ICMPV6,
    PORT_PROTOCOLS,
    TCP,
    Family,
    Net,
    TcpFlag,
    bracketed,
    spell_address,
    spell_protocol,
)


def say(verb: c.Verb) -> str:
    """The verb as it follows `must`."""
    match verb:
        case c.Ends():
            return "end"
        case c.Enters(chain):
            return f"enter {chain}"
        case c.Hits(rule):
            return f"hit rule {rule}"
        case c.Reaches(process, port, having):
            return f"reach {process}" + (f" on {port}" if port is not None else "") + say_with(having)
        case c.PassesBeforeLeaving(process, interface):
            return f"pass {process} before leaving" + (f" by {interface}" if interface else "")
        case c.Leaves(interface, having):
            return "leave" + (f" by {interface}" if interface else "") + say_with(having)
        case c.IsDropped(chain_ref):
            return "be dropped" + (f" by {chain_ref}" if chain_ref else "")
        case c.IsLost():
            return "be lost"
        case c.IsRejected():
            return "be rejected"
        case c.IsRefused():
            return "be refused"
        case c.IsAnswered(interface, having):
            return "be answered" + (f" by {interface}" if interface else "") + say_with(having)
        case c.Not(inner):
            return f"not {say(inner)}"
        case c.AnyOf(verbs):
            return " or ".join(map(say, verbs))
        case _:
            assert_never(verb)


def affirmed(said: str) -> str:
    """`does end`, `is answered`: that what is said after `must not` is so."""
    return f"is {said[3:]}" if said.startswith("be ") else f"does {said}"


def denied(said: str) -> str:
    """`does not end`, `is not answered`: that what is said after `must` is not so."""
    return f"is not {said[3:]}" if said.startswith("be ") else f"does not {said}"


def say_end(end: j.End) -> str:
    """How a journey ended, as the end of a sentence about its packet."""
    match end:
        case j.Socket(process, listener, why):
            more = {
                None: "",
                "refuses": ", which refuses to dial it",
                "no route": ", which has no route for it",
            }
            return f"reaches {process} on {listener}{more.get(why, '')}"
        case j.Kernel():
            return "is answered by the kernel itself"
        case j.Refused():
            return "is refused: no socket takes it"
        case j.Dropped(_, table, chain, rule):
            return f"is dropped by {table}/{chain} " + (f"rule {rule}" if rule else "policy")
        case j.Rejected(_, table, chain, rule, how):
            return f"is rejected by {table}/{chain} rule {rule} with {how}"
        case j.Lost(reason):
            return f"is lost: {reason}"
        case j.Left(interface):
            return f"leaves by {interface}"
        case j.Loop(back_to):
            return f"loops: from here on as from hop {back_to}"
        case j.Returned(process):
            return f"comes back to {process}"
        case j.Group(_, out):
            way = "" if out is None else f" by {out}"
            return f"goes{way} to a group of sockets that is not modelled"
        case j.Onward():
            return "is still on its way"
        case j.Unmodelled(reason):
            return f"is not followed further: {reason}"
        case _:
            assert_never(end)


def end_of(p: Packet) -> str:
    """`10.33.4.7:8080`"""
    return _end(p, p.dst, p.dport)


def source_of(p: Packet) -> str:
    return _end(p, p.src, p.sport)


def _end(p: Packet, address: int, port: int) -> str:
    if p.proto in PORT_PROTOCOLS:
        return f"{bracketed(address, p.family)}:{port}"
    return spell_address(address, p.family)


def flow(p: Packet) -> str:
    """`tcp 10.33.4.2:40001 → 10.33.4.7:8080 SYN`"""
    words = f"{spell_protocol(p.proto)} {source_of(p)} → {end_of(p)}"
    if p.proto == TCP:
        words += "  " + ("+".join(f.name for f in TcpFlag if p.flags & f) or "no flags")
    if p.proto == (ICMP if p.family is Family.IPV4 else ICMPV6):
        words += f"  type {p.icmp_type}" + (f"/{p.icmp_code}" if p.icmp_code else "")
    return words + (f"  mark {p.mark:#x}" if p.mark else "")


def say_passing(hook: Hook, p: Packet) -> str:
    """A packet that passes a hook, of whatever host: `tcp 0.0.0.0:0 → 0.0.0.0:53 SYN in OUTPUT, out lo, uid 0 gid 0, NEW`"""
    words = [f"{flow(p)} in {hook.value}"]
    words += [f"in by {p.in_iface}"] * bool(p.in_iface) + [f"out by {p.out_iface}"] * bool(p.out_iface)
    words += [f"uid {p.uid} gid {p.gid}"] * (p.uid is not None)
    return ", ".join((*words, p.ctstate.name))


def say_with(having: c.With) -> str:
    words = ""
    if having.source is not None:
        words += f" with source {having.source}"
        words += f":{having.source_port}" if having.source_port is not None else ""
    elif having.source_port is not None:
        words += f" with source *:{having.source_port}"
    if having.destination is not None:
        port = f":{having.port}" if having.port is not None else ""
        words += f" with destination {having.destination}{port}"
    if having.unchanged:
        words += " with destination unchanged"
    if having.mark is not None:
        words += f" with mark {having.mark}"
    if having.zone is not None:
        words += f" with zone {having.zone}"
    return words


def say_premise(premise: c.Premise) -> str:
    """The premise as it follows `every`, `some` or `no`, without its exceptions."""
    f = premise.filter
    words = ["answer to an" if premise.established else "answer to a"] if premise.answer else []
    words += ["rejection of a"] * premise.rejection
    words += ["established"] * premise.established
    words += [] if f.protocol is None else [spell_protocol(f.protocol)]
    words += [premise.kind.value, say_who(premise.who)]
    if f.to is not None:
        words.append(f"to {f.to}")
    if f.source is not None:
        words.append(f"with source {f.source}")
    if f.ports:
        words.append("port " + ", ".join(str(p).replace(":", "-") for p in f.ports))
    if f.where:
        from .spell import literals

        words.append(f"where {literals(f.where)}")
    if premise.after is not None:
        words.append(f"even after a packet {say_who(premise.after)}")
    return " ".join(words)


def say_who(who: c.Who) -> str:
    """`from outside on eth0`"""
    match who:
        case c.Outside(interface):
            return "from outside" + (f" on {interface}" if interface else "")
        case c.OfProcess(process):
            return f"from {process}"
        case c.OfProxy(process, proxy):
            return f"from {process}.{proxy}"
        case _:
            assert_never(who)


def say_claim(claim: c.Claim) -> str:
    """The claim in one line."""
    match claim:
        case c.PacketClaim(quantifier, premise, verbs):
            modal = {"every": "must", "no": "may", "some": "can"}[quantifier.value]
            but = "; ".join(e.text for e in premise.exceptions)
            said = f"{quantifier.value} {say_premise(premise)} {modal} {' and '.join(map(say, verbs))}"
            return said + (f", except {but}" if but else "")
        case c.SameClaim(premise, first, second):
            return f"every {say_premise(premise)} must fare the same in {first} and {second}"
        case c.KeepClaim(premise, before, after):
            return f"every {say_premise(premise)} must keep every listener of {before} in {after}"
        case c.DeadClaim(table, alone, rule, dead, excepted):
            how = " by the rules alone" if alone else ""
            if rule is not None:
                return f"rule {rule} must {'' if dead else 'not '}be dead{how}"
            but = f" except {', '.join(map(str, excepted))}" if excepted else ""
            return f"no rule of {table} may be dead{how}{but}"
        case _:
            assert_never(claim)


FIELD_NAMES = {
    "sport": "source port",
    "src": "source address",
    "dport": "destination port",
    "dst": "destination address",
    "uid": "uid",
    "gid": "gid",
    "mark": "mark",
}


def say_varies(varies: Varies, family: Family) -> str:
    """`any destination port but 22, 15001`, `any source address in 10.0.0.0/8`, `any uid from 1 to 99`."""
    name = FIELD_NAMES[varies.field]
    size = varies.last - varies.first + 1
    if varies.field not in ("src", "dst"):
        whole = size == 1 << {"sport": 16, "dport": 16}.get(varies.field, 32)
        within = "" if whole else f" from {varies.first} to {varies.last}"
        spelled = [str(value) for value in varies.exceptions]
    else:
        net = Net.prefix(varies.first, family.bits - (size.bit_length() - 1), family)
        within = f" in {net}" if net.length else ""
        spelled = [spell_address(value, family) for value in varies.exceptions]
    return f"any {name}{within}" + (f" but {', '.join(spelled)}" if spelled else "")
