"""Each match as iptables-save prints it."""

from __future__ import annotations

from typing import assert_never

from . import rules as r
from .values import (
    Family,
    Ids,
    Iface,
    Ipv6Extension,
    PacketKind,
    Span,
    TcpFlag,
    spell_address,
    spell_protocol,
    spell_text,
)

_PORT_MODULES = {6: "tcp", 17: "udp", 33: "dccp", 132: "sctp"}


def match(m: r.Match, protocol: int | None = None, family: Family = Family.IPV4) -> tuple[str, str]:
    """The module to load, if any, and its options, if any, without the literal's `!`.

    `protocol` is the one of the rule's `-p`, which says whose ports are meant.
    """
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
        case r.Fragment():
            return "", "-f"
        case r.SourcePorts(span):
            return ports, f"--sport {span}"
        case r.DestinationPorts(span):
            return ports, f"--dport {span}"
        case r.TcpFlags(mask, comp):
            return "tcp", f"--tcp-flags {_flags(mask)} {_flags(comp)}"
        case r.TcpOption(number):
            return "tcp", f"--tcp-option {number}"
        case r.SctpChunks(how, chunks, flags):
            return "sctp", f"--chunk-types {how} {_chunks(chunks, flags)}"
        case r.DccpTypes(types):
            return "dccp", "--dccp-types " + ",".join(_DCCP_TYPES[t] for t in sorted(types))
        case r.DccpOption(number):
            return "dccp", f"--dccp-option {number}"
        case r.IcmpType(kind, code, last):
            return "icmp", f"--icmp-type {_icmp(kind, code, last)}"
        case r.Icmp6Type(kind, code, last):
            return "icmp6", f"--icmpv6-type {_icmp(kind, code, last)}"
        case r.Esp(first, last):
            return "esp", f"--espspi {_pair(first, last)}"
        case r.Ah(first, last, negated):
            return "ah", "! " * negated + f"--ahspi {_pair(first, last)}"
        case r.Ipv6Header(headers, soft):
            names = ",".join(_IPV6_HEADERS[h] for h in Ipv6Extension if headers & h)
            return "ipv6header", f"--header {names}" + " --soft" * soft
        case r.MultiportSources(spans):
            return "multiport", f"--sports {_spans(spans)}"
        case r.MultiportDestinations(spans):
            return "multiport", f"--dports {_spans(spans)}"
        case r.MultiportPorts(spans):
            return "multiport", f"--ports {_spans(spans)}"
        case r.SourceRange(first, last, of):
            return "iprange", f"--src-range {spell_address(first, of)}-{spell_address(last, of)}"
        case r.DestinationRange(first, last, of):
            return "iprange", f"--dst-range {spell_address(first, of)}-{spell_address(last, of)}"
        case r.Length(first, last):
            return "length", f"--length {_pair(first, last)}"
        case r.Ttl(comparison, number):
            module = "ttl" if family is Family.IPV4 else "hl"
            return module, f"--{module}-{comparison.value} {number}"
        case r.Tos(number, mask):
            return "tos", f"--tos {number:#04x}/{mask:#04x}"
        case r.Dscp(number):
            return "dscp", f"--dscp {number:#04x}"
        case r.PacketType(kind):
            return "pkttype", f"--pkt-type {_KINDS[kind]}"
        case r.MacSource(address, negated):
            return "mac", _not(negated) + "--mac-source " + ":".join(f"{b:02x}" for b in address.to_bytes(6))
        case r.OwnerIds() | r.OwnerNames():
            return "owner", _owner(m)
        case r.CtStates():
            return "conntrack", f"--ctstate {_states(m)}"
        case r.Conntrack(tests):
            return "conntrack", " ".join(_not(t.negated) + _criterion(t.criterion) for t in tests)
        case r.Mark(mark):
            return "mark", f"--mark {mark}"
        case r.ConnMark(mark, negated):
            return "connmark", f"{_not(negated)}--mark {mark}"
        case r.AddressType():
            return "addrtype", _address_type(m)
        case r.MatchSet():
            return "set", _set(m)
        case r.ReversePath(loose, valid_mark, accept_local, negated):
            given = {"loose": loose, "validmark": valid_mark, "accept-local": accept_local, "invert": negated}
            return "rpfilter", _switches(given)
        case r.SocketMatch(transparent, nowildcard, restore_mark):
            given = {"transparent": transparent, "nowildcard": nowildcard, "restore-skmark": restore_mark}
            return "socket", _switches(given)
        case r.Physdev():
            return "physdev", _physdev(m)
        case r.Chance(module, options):
            return module, options
        case r.Opaque(text):
            return "", text
        case _:
            assert_never(m)


def _not(negated: bool) -> str:
    return "! " if negated else ""


def _switches(given: dict[str, bool]) -> str:
    return " ".join(f"--{name}" for name, is_given in given.items() if is_given)


def _pair(first: int, last: int) -> str:
    return f"{first}" if first == last else f"{first}:{last}"


def _interface(iface: Iface) -> str:
    """Linux lets an interface be named almost anything."""
    return spell_text(iface.pattern) if '"' in iface.pattern else iface.pattern


def _spans(spans: tuple[Span, ...]) -> str:
    return ",".join(map(str, spans))


def _flags(bits: int) -> str:
    return ",".join(f.name for f in TcpFlag if bits & f) or "NONE"


def _icmp(kind: int | None, code: int | None, last: int | None) -> str:
    """iptables-save leaves out the end of a range, which iptables reads."""
    if kind is None:
        return "any"
    if code is None:
        return f"{kind}"
    return f"{kind}/{code}" if last is None else f"{kind}/{code}:{last}"


_CHUNKS = {
    0: "DATA", 1: "INIT", 2: "INIT_ACK", 3: "SACK", 4: "HEARTBEAT", 5: "HEARTBEAT_ACK", 6: "ABORT", 7: "SHUTDOWN",
    8: "SHUTDOWN_ACK", 9: "ERROR", 10: "COOKIE_ECHO", 11: "COOKIE_ACK", 12: "ECN_ECNE", 13: "ECN_CWR",
    14: "SHUTDOWN_COMPLETE", 64: "I_DATA", 128: "ASCONF_ACK", 130: "RE_CONFIG", 132: "PAD", 192: "FORWARD_TSN",
    193: "ASCONF", 194: "I_FORWARD_TSN",
}  # fmt: skip
"""The chunk types that iptables has a name for; of the others it can only say all together."""


def _chunks(chunks: frozenset[int], flags: tuple[r.ChunkFlags, ...]) -> str:
    if len(chunks) in (0, 256):
        return "ALL" if chunks else "NONE"
    asked = {f.chunk: f":{_chunk_flags(f)}" for f in flags}
    return ",".join(_CHUNKS[c] + asked.get(c, "") for c in sorted(chunks))


def _chunk_flags(flags: r.ChunkFlags) -> str:
    """Those that are set in capitals, those that are not in small letters."""
    named = "IUBE" if flags.chunk == 0 else "T"
    bits = [(letter, 1 << (len(named) - n - 1)) for n, letter in enumerate(named)]
    return "".join(
        letter if flags.value & bit else letter.lower() for letter, bit in bits if flags.mask & bit
    )


_DCCP_TYPES = (
    "REQUEST", "RESPONSE", "DATA", "ACK", "DATAACK", "CLOSEREQ", "CLOSE", "RESET", "SYNC", "SYNCACK", "INVALID",
)  # fmt: skip

_IPV6_HEADERS = {
    Ipv6Extension.HOP: "hop-by-hop", Ipv6Extension.DST: "ipv6-opts", Ipv6Extension.ROUTE: "ipv6-route",
    Ipv6Extension.FRAG: "ipv6-frag", Ipv6Extension.AUTH: "ah", Ipv6Extension.ESP: "esp",
    Ipv6Extension.NONE: "ipv6-nonxt", Ipv6Extension.PROTO: "protocol",
}  # fmt: skip

_KINDS = {
    PacketKind.UNICAST: "unicast", PacketKind.BROADCAST: "broadcast", PacketKind.MULTICAST: "multicast",
}  # fmt: skip


def _owner(m: r.OwnerIds | r.OwnerNames) -> str:
    words: list[str] = []
    if m.socket_exists:
        words.append(_not(m.socket_negated) + "--socket-exists")
    if m.uid is not None:
        words.append(_not(m.uid_negated) + f"--uid-owner {_id(m.uid)}")
    if m.gid is not None:
        words.append(_not(m.gid_negated) + f"--gid-owner {_id(m.gid)}" + " --suppl-groups" * m.supplementary)
    return " ".join(words)


def _id(criterion: Ids | str) -> str:
    return spell_text(criterion) if isinstance(criterion, str) else str(criterion)


_STATES = ("INVALID", "NEW", "RELATED", "ESTABLISHED", "UNTRACKED", "SNAT", "DNAT")


def _states(m: r.CtStates) -> str:
    names = {s.name for s in m.states} | {n.value for n in m.nat}
    return ",".join(name for name in _STATES if name in names)


_STATUS = {1: "EXPECTED", 2: "SEEN_REPLY", 4: "ASSURED", 8: "CONFIRMED"}


def _criterion(criterion: r.CtCriterion) -> str:
    match criterion:
        case r.CtStates():
            return f"--ctstate {_states(criterion)}"
        case r.CtProtocol(number):
            return f"--ctproto {number}"
        case r.CtAddress(of, net):
            whole = net.length == net.family.bits
            return f"--ct{of.value} {spell_address(net.address, net.family) if whole else net}"
        case r.CtPorts(of, ports):
            return f"--ct{of.value}port {ports}"
        case r.CtStatus(bits):
            return "--ctstatus " + (",".join(n for b, n in _STATUS.items() if bits & b) or "NONE")
        case r.CtExpire(first, last):
            return f"--ctexpire {_pair(first, last)}"
        case r.CtDirection(reply):
            return f"--ctdir {'REPLY' if reply else 'ORIGINAL'}"
        case _:
            assert_never(criterion)


def _address_type(m: r.AddressType) -> str:
    words: list[str] = []
    if m.source:
        words.append(_not(m.source_negated) + f"--src-type {_types(m.source)}")
    if m.destination:
        words.append(_not(m.destination_negated) + f"--dst-type {_types(m.destination)}")
    if m.limit is not None:
        words.append(f"--limit-iface-{m.limit.value}")
    return " ".join(words)


def _types(types: frozenset[r.RouteType]) -> str:
    return ",".join(t.value for t in r.RouteType if t in types)


def _set(m: r.MatchSet) -> str:
    words = [f"--match-set {m.name} {','.join(d.value for d in m.directions)}"]
    words += ["--return-nomatch"] * m.return_nomatch
    words += ["! --update-counters"] * m.keep_counters
    words += ["! --update-subcounters"] * m.keep_subcounters
    for what, count in (("packets", m.packets), ("bytes", m.bytes)):
        if count is not None:
            words.append(_not(count.negated) + f"--{what}-{count.comparison.value} {count.number}")
    return " ".join(words)


def _physdev(m: r.Physdev) -> str:
    words: list[str] = []
    for name, asked, iface, negated in (
        ("in", m.is_in, m.inside, m.inside_negated),
        ("out", m.is_out, m.outside, m.outside_negated),
    ):
        if asked is not None:
            words.append(_not(not asked) + f"--physdev-is-{name}")
        if iface is not None:
            words.append(_not(negated) + f"--physdev-{name} {_interface(iface)}")
    if m.is_bridged is not None:
        words.append(_not(not m.is_bridged) + "--physdev-is-bridged")
    return " ".join(words)
