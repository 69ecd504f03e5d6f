"""Rules as text, in the words that iptables-save uses.

What is spelled is read back as the same data, for every rule that iptables can hold.
"""

from __future__ import annotations

import re
from typing import assert_never

from . import rules as r
from .values import ALL_32, Family, Iface, MarkMask, Span, TcpFlag, spell_address, spell_protocol


def rule_set(rs: r.RuleSet) -> str:
    return "".join(table(t) for t in rs.tables.values())


def table(t: r.Table) -> str:
    heads = [f":{c.name} {_policy(c.policy)} [0:0]" for c in t.chains.values()]
    body = [rule(c.name, rl) for c in t.chains.values() for rl in c.rules]
    return "\n".join([f"*{t.name}", *heads, *body, "COMMIT", ""])


def _policy(policy: r.Accept | r.Drop | None) -> str:
    match policy:
        case None:
            return "-"
        case r.Accept():
            return "ACCEPT"
        case r.Drop():
            return "DROP"
        case _:
            assert_never(policy)


def rule(chain: str, rl: r.Rule) -> str:
    words = ["-A", chain]
    if rl.literals:
        words.append(literals(rl.literals))
    words += [f"-m comment --comment {_quoted(c)}" for c in rl.comments]
    if rl.target is not None:
        words.append(target(rl.target))
    return " ".join(words)


def literals(lits: tuple[r.Literal, ...]) -> str:
    """Match syntax alone; ports are spelled with the module of the protocol that stands with them."""
    protocol = next((lit.match.number for lit in lits if isinstance(lit.match, r.Protocol)), None)
    words: list[str] = []
    loaded = ""
    options: set[str] = set()
    for lit in lits:
        module, option = match(lit.match, protocol)
        name = option.split()[0]
        if module and (module != loaded or module in _ALONE or name in options):
            words.append(f"-m {module}")
            options.clear()
        loaded = module
        options.add(name)
        words.append(f"! {option}" if lit.negated else option)
    return " ".join(words)


_ALONE = ("multiport", "owner")
"""Modules that take one of our matches each."""

_PORT_MODULES = {6: "tcp", 17: "udp", 33: "dccp", 132: "sctp"}


def match(m: r.Match, protocol: int | None = None) -> tuple[str, str]:
    """The module to load, if any, and the option with its values."""
    ports = _PORT_MODULES.get(protocol or 0, "")
    match m:
        case r.Source(net):
            return "", f"-s {net}"
        case r.Destination(net):
            return "", f"-d {net}"
        case r.InInterface(iface):
            return "", f"-i {_interface(iface)}"
        case r.OutInterface(iface):
            return "", f"-o {_interface(iface)}"
        case r.Protocol(number):
            return "", f"-p {spell_protocol(number)}"
        case r.SourcePorts(span):
            return ports, f"--sport {span}"
        case r.DestinationPorts(span):
            return ports, f"--dport {span}"
        case r.TcpFlags(mask, comp):
            return "tcp", f"--tcp-flags {_flags(mask)} {_flags(comp)}"
        case r.IcmpType(kind, code):
            return "icmp", f"--icmp-type {_icmp(kind, code)}"
        case r.MultiportSources(spans):
            return "multiport", f"--sports {_spans(spans)}"
        case r.MultiportDestinations(spans):
            return "multiport", f"--dports {_spans(spans)}"
        case r.MultiportPorts(spans):
            return "multiport", f"--ports {_spans(spans)}"
        case r.OwnerIds():
            return "owner", _owner(m)
        case r.CtStates(states):
            return "conntrack", "--ctstate " + ",".join(s.name for s in sorted(states))
        case r.Mark(mark):
            return "mark", f"--mark {mark}"
        case (
            r.TcpOption() | r.SctpChunks() | r.DccpTypes() | r.DccpOption() | r.Icmp6Type() | r.Esp() | r.Ah()
            | r.Ipv6Header() | r.SourceRange() | r.DestinationRange() | r.Length() | r.Ttl() | r.Tos() | r.Dscp()
            | r.PacketType() | r.MacSource() | r.Conntrack() | r.ConnMark() | r.AddressType() | r.MatchSet()
            | r.ReversePath() | r.SocketMatch() | r.Physdev() | r.Chance()
        ):  # fmt: skip
            raise NotImplementedError(m)
        case r.Opaque(text):
            return "", text
        case _:
            assert_never(m)


def target(t: r.Target) -> str:
    match t:
        case r.Accept():
            return "-j ACCEPT"
        case r.Drop():
            return "-j DROP"
        case r.Return():
            return "-j RETURN"
        case r.Jump(chain):
            return f"-j {chain}"
        case r.Goto(chain):
            return f"-g {chain}"
        case r.Redirect():
            return (
                "-j REDIRECT"
                + ("" if t.ports is None else f" --to-ports {_dashed(t.ports)}")
                + _choice(t.choice)
            )
        case r.Dnat():
            return (
                f"-j DNAT --to-destination {_range(t.to)}"
                + _choice(t.choice)
                + " --persistent" * t.persistent
            )
        case r.SetMark(mark):
            return f"-j MARK --set-xmark {_value_and_mask(mark)}"
        case r.Reject(how):
            return f"-j REJECT --reject-with {how}"
        case (
            r.Snat() | r.Masquerade() | r.Netmap() | r.Tproxy() | r.SetConnMark() | r.SaveMark() | r.RestoreMark()
            | r.NoTrack() | r.TrackAs() | r.ChangeTtl() | r.SetTos() | r.SetDscp() | r.ClampMss() | r.SetEntry() | r.Queue()
        ):  # fmt: skip
            raise NotImplementedError(t)
        case r.Log(text) | r.OpaqueTarget(text):
            return text
        case _:
            assert_never(t)


def _dashed(span: Span) -> str:
    return f"{span.first}" if span.first == span.last else f"{span.first}-{span.last}"


def _choice(choice: r.PortChoice | None) -> str:
    return "" if choice is None else f" --{choice.value}"


def _range(to: r.NatRange) -> str:
    words = ""
    if to.first is not None and to.last is not None:
        words = spell_address(to.first, to.family)
        if to.last != to.first:
            words += f"-{spell_address(to.last, to.family)}"
    if to.ports is None:
        return words
    if words and to.family is Family.IPV6:
        words = f"[{words}]"
    return f"{words}:{_dashed(to.ports)}" + ("" if to.base is None else f"/{to.base}")


def _interface(iface: Iface) -> str:
    """Linux lets an interface be named almost anything."""
    return _quoted(iface.pattern) if '"' in iface.pattern else iface.pattern


def _spans(spans: tuple[Span, ...]) -> str:
    return ",".join(map(str, spans))


def _flags(bits: int) -> str:
    return ",".join(f.name for f in TcpFlag if bits & f) or "NONE"


def _icmp(kind: int | None, code: int | None) -> str:
    if kind is None:
        return "any"
    return f"{kind}" if code is None else f"{kind}/{code}"


def _owner(m: r.OwnerIds) -> str:
    words: list[str] = []
    if m.uid is not None:
        words += ["!"] * m.uid_negated + [f"--uid-owner {m.uid}"]
    if m.gid is not None:
        words += ["!"] * m.gid_negated + [f"--gid-owner {m.gid}"]
    return " ".join(words)


def _value_and_mask(mark: MarkMask) -> str:
    """iptables-save prints the mask of a target also where it is full."""
    return f"{mark.value:#x}/{mark.mask:#x}" if mark.mask == ALL_32 else str(mark)


def _quoted(text: str) -> str:
    if re.fullmatch(r"\w[\w-]*", text, re.ASCII):
        return text
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'
