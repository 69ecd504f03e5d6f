"""Each target as iptables-save prints it."""

from __future__ import annotations

from typing import assert_never

from . import rules as r
from .values import Family, MarkMask, Span, spell_address


def target(t: r.Target, family: Family = Family.IPV4) -> str:
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
        case r.Redirect(ports, choice):
            return "-j REDIRECT" + _to_ports(ports) + _choice(choice)
        case r.Dnat(to, choice, persistent):
            return f"-j DNAT --to-destination {_range(to)}{_choice(choice)}" + " --persistent" * persistent
        case r.Snat(to, choice, persistent):
            return f"-j SNAT --to-source {_range(to)}{_choice(choice)}" + " --persistent" * persistent
        case r.Masquerade(ports, choice):
            return "-j MASQUERADE" + _to_ports(ports) + _choice(choice)
        case r.Netmap(net):
            return f"-j NETMAP --to {net}"
        case r.Tproxy(port, address, mark, of):
            ip = spell_address(address or 0, of)
            return f"-j TPROXY --on-port {port} --on-ip {ip} --tproxy-mark {_value_and_mask(mark)}"
        case r.SetMark(mark):
            return f"-j MARK --set-xmark {_value_and_mask(mark)}"
        case r.SetConnMark(mark, shift):
            return f"-j CONNMARK --set-xmark {_value_and_mask(mark)}{_shift(shift)}"
        case r.SaveMark(packet, connection, shift):
            return f"-j CONNMARK --save-mark --nfmask {packet:#x} --ctmask {connection:#x}{_shift(shift)}"
        case r.RestoreMark(packet, connection, shift):
            return f"-j CONNMARK --restore-mark --nfmask {packet:#x} --ctmask {connection:#x}{_shift(shift)}"
        case r.NoTrack():
            return "-j CT --notrack"
        case r.TrackAs(options):
            return f"-j CT {options}".rstrip()
        case r.ChangeTtl(change, number):
            name = "TTL" if family is Family.IPV4 else "HL"
            return f"-j {name} --{name.lower()}-{change.value} {number}"
        case r.SetTos(number, mask):
            return f"-j TOS --set-tos {number:#04x}/{mask:#04x}"
        case r.SetDscp(number):
            return f"-j DSCP --set-dscp {number:#04x}"
        case r.ClampMss(mss):
            return "-j TCPMSS " + ("--clamp-mss-to-pmtu" if mss is None else f"--set-mss {mss}")
        case r.SetEntry(_, options):
            return f"-j SET {options}"
        case r.Reject(how):
            return f"-j REJECT --reject-with {how}"
        case r.Log(text) | r.Queue(text) | r.OpaqueTarget(text):
            return text
        case _:
            assert_never(t)


def _to_ports(span: Span | None) -> str:
    return "" if span is None else f" --to-ports {_dashed(span)}"


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


def _shift(bits: int) -> str:
    if bits == 0:
        return ""
    return f" --left-shift-mark {bits}" if bits > 0 else f" --right-shift-mark {-bits}"


def _value_and_mask(mark: MarkMask) -> str:
    """iptables-save prints the mask of a target also where it is full."""
    return f"{mark.value:#x}/{mark.mask:#x}"
