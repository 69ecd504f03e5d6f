"""Results and journeys as JSON values: the one result, of which every other format is a projection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_never

from .. import journeys as j
from .. import spell
from ..answers import Counterexample, Judgement, Proved, Refuted, Unknown
from ..check import Result, name_of
from ..hosts import Setting
from ..packets import Packet
from ..values import spell_address, spell_protocol
from ..wording import say_claim, say_end, say_varies
from .reproduce import commands
from .told import rule_at, spell_file

SCHEMA = "chainproof/result/1"


def of_results(results: Sequence[Result]) -> dict[str, Any]:
    """`chainproof check --output-format json`"""
    counts = dict.fromkeys(("proved", "refuted", "unknown", "vacuous"), 0)
    for result in results:
        counts[name_of(result)] += 1
    good = sum(r.ok for r in results)
    summary = {
        **counts,
        "ok": good,
        "failed": len(results) - good,
        "seconds": sum(r.seconds for r in results),
    }
    return {"schema": SCHEMA, "results": [of_result(r) for r in results], "summary": summary}


def of_result(result: Result) -> dict[str, Any]:
    q, answer = result.question, result.answer
    setting = q.settings[0][1]
    found: Counterexample | None = None
    witness: Counterexample | None = None
    match answer:
        case Refuted():
            found = answer.counterexample
        case Unknown():
            found = answer.candidate
        case Proved():
            witness = answer.witness
        case _:
            pass
    return {
        "name": q.name,
        "title": q.title,
        "file": q.place.file,
        "line": q.place.line,
        "host": q.where,
        "claim": say_claim(result.claim),
        "answer": name_of(result),
        "expected": q.cell.value if q.cell is not None else q.wanted.value,
        "cell": result.cell,
        "because": q.because,
        "ok": result.ok,
        "counterexample": of_counterexample(found, setting) if found else None,
        "witness": of_counterexample(witness, setting) if witness else None,
        "reason": getattr(answer, "reason", None),
        "opaque": list(getattr(answer, "opaque", ())),
        "notes": list(getattr(answer, "notes", ())),
        "assumptions": [{"code": a.code, "text": a.text} for a in answer.assumptions],
        "hops": getattr(answer, "hops", None),
        "bound": getattr(answer, "bound", None),
        "samples": getattr(answer, "samples", None),
        "saved": result.saved,
        "kernel": None if result.kernel is None else of_judgement(result.kernel),
        "seconds": round(result.seconds, 6),
    }


def of_judgement(kernel: Judgement) -> dict[str, Any]:
    verdict = "not run" if kernel.why is not None else "confirmed" if kernel.confirmed else "agreed"
    return {
        "verdict": verdict,
        "packets": kernel.packets,
        "backends": list(kernel.backends),
        "why": kernel.why,
        "text": str(kernel),
    }


def of_counterexample(found: Counterexample, setting: Setting) -> dict[str, Any]:
    choices = found.choices
    out: dict[str, Any] = {
        "sender": of_sender(found.sender),
        "hop": found.hop,
        "choices": {
            "ports": {str(h): p for h, p in choices.ports.items()},
            "picks": {str(h): p for h, p in choices.picks.items()},
            "uids": {str(h): list(u) for h, u in choices.uids.items()},
        },
        "lost": list(found.lost),
        "stands-for": [
            {
                "field": varies.field,
                "first": varies.first,
                "last": varies.last,
                "except": list(varies.exceptions),
                "text": say_varies(varies, found.journey.stops[0].packet.family),
            }
            for varies in found.stands_for
        ],
        "reproduce": [{"where": where, "command": command} for where, command in _commands(found, setting)],
        **of_journey(found.journey, setting),
    }
    if found.earlier is not None and found.journey.earlier is not None:
        out["earlier"] = {
            "sender": of_sender(found.earlier.sender),
            "answered": found.earlier.answered,
            "assured": found.earlier.assured,
            "opens": found.earlier.opens,
            **of_journey(found.journey.earlier, setting),
        }
    if found.other is not None:
        out["other"] = {"end": of_end(found.other.end), "text": say_end(found.other.end)}
    return out


def _commands(found: Counterexample, setting: Setting) -> list[tuple[str, str]]:
    """What sends the packets again, the earlier one first."""
    before = found.journey.earlier
    first = [] if before is None else commands(before, 0, setting.host)
    return [*first, *commands(found.journey, found.hop, setting.host)]


def of_sender(sender: j.Sender) -> dict[str, str]:
    match sender:
        case j.FromOutside(interface):
            return {"kind": "outside", "interface": interface}
        case j.FromProcess(process):
            return {"kind": "process", "process": process}
        case j.FromProxy(process, proxy):
            return {"kind": "proxy", "process": process, "proxy": proxy}
        case _:
            assert_never(sender)


def of_journey(journey: j.Journey, setting: Setting) -> dict[str, Any]:
    """`chainproof trace --output-format json`: the first packet, every stop, the end."""
    return {
        "packet": of_packet(journey.stops[0].packet),
        "stops": [of_stop(s, setting) for s in journey.stops],
        "end": of_end(journey.end),
        **(
            {"answers": {str(hop): of_end(end) for hop, end in journey.answers.items()}}
            if journey.answers
            else {}
        ),
    }


def of_stop(stop: j.Stop, setting: Setting) -> dict[str, Any]:
    out: dict[str, Any] = {
        "hop": stop.hop,
        "action": stop.act.value,
        "hook": stop.hook.value if stop.hook else None,
        "table": stop.table,
        "chain": stop.chain,
        "rule": stop.rule,
        "file": None,
        "line": None,
        "packet": of_packet(stop.packet),
    }
    if stop.table is not None and stop.chain is not None and stop.rule is not None:
        rule = rule_at(setting, stop.table, stop.chain, stop.rule)
        out |= {
            "file": spell_file(rule.place),
            "line": rule.place.line,
            "text": spell.rule(stop.chain, rule, setting.rules.family),
        }
    for key, value in (("where", stop.where), ("process", stop.process)):
        if value is not None:
            out[key] = value
    if stop.listener is not None:
        out["listener"] = str(stop.listener)
    return out


def of_packet(p: Packet) -> dict[str, Any]:
    return {
        "protocol": spell_protocol(p.proto),
        "source": spell_address(p.src, p.family),
        "destination": spell_address(p.dst, p.family),
        "sport": p.sport,
        "dport": p.dport,
        "flags": p.flags,
        "icmp-type": p.icmp_type,
        "icmp-code": p.icmp_code,
        "in": p.in_iface,
        "out": p.out_iface,
        "uid": p.uid,
        "gid": p.gid,
        "mark": p.mark,
        "ctstate": p.ctstate.name,
        "device": p.device,
    }


def of_end(end: j.End) -> dict[str, Any]:
    """`kind` is one of socket, refused, dropped, lost, rejected, left, loop, kernel, group, returned, onward, unmodelled."""
    out: dict[str, Any] = {"kind": type(end).__name__.lower(), "text": say_end(end)}
    match end:
        case j.Socket(process, listener, why):
            out |= {"process": process, "listener": str(listener), "reason": why}
        case j.Dropped(hook, table, chain, rule):
            out |= {"hook": hook.value, "table": table, "chain": chain, "rule": rule}
        case j.Rejected(hook, table, chain, rule, how):
            out |= {"hook": hook.value, "table": table, "chain": chain, "rule": rule, "reason": how}
        case j.Lost(reason) | j.Unmodelled(reason):
            out |= {"reason": reason}
        case j.Returned(process):
            out |= {"process": process}
        case j.Left(interface):
            out |= {"interface": interface}
        case j.Loop(back_to):
            out |= {"back-to": back_to}
        case j.Group(hooks, interface):
            out |= {"hooks": [h.value for h in hooks], "interface": interface}
        case j.Kernel() | j.Refused() | j.Onward():
            pass
        case _:
            assert_never(end)
    return out
