"""What matches and targets print in a listing, put back into the options that print so."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from ..values import Family, TcpFlag
from .grammars import parser
from .lines import Line, Word

if TYPE_CHECKING:
    from lark import Token

Said: TypeAlias = tuple[str, ...]
"""`!` or nothing, an option, its values."""

USE_SAVE = "give what `iptables-save` prints"

HOSTS = {
    "localhost": "127.0.0.1", "default": "0.0.0.0", "loopback": "127.0.0.0", "link-local": "169.254.0.0",
    "base-address.mcast.net": "224.0.0.0", "all-systems.mcast.net": "224.0.0.1",
}  # fmt: skip
HOSTS6 = {
    "localhost": "::1", "ip6-localhost": "::1", "ip6-loopback": "::1", "ip6-localnet": "fe00::",
    "ip6-mcastprefix": "ff00::", "ip6-allnodes": "ff02::1", "ip6-allrouters": "ff02::2",
}  # fmt: skip
"""Names of hosts and networks that every system gives the same addresses."""


def address(text: str, family: Family) -> str:
    """An address as a number, where it is a name that every system has."""
    host, slash, bits = text.partition("/")
    every = ("::", "0") if family is Family.IPV6 else ("0.0.0.0", "0")
    if host == "anywhere":
        host, slash, bits = every[0], "/", every[1]
    return (HOSTS6 if family is Family.IPV6 else HOSTS).get(host, host) + slash + bits


# -- matches ----------------------------------------------------------------------------------------


def matches(line: Line, prose: Word, family: Family) -> tuple[bool, list[Word], str]:
    """Whether the rule is a goto, its matches as options, and the rest of the prose that we do not understand."""
    from lark.exceptions import UnexpectedInput

    if prose.text.count("/* ") != prose.text.count(" */"):
        raise line.error("R005", "we cannot tell where the comment ends", prose, USE_SAVE)
    try:
        tree = parser("listing.lark", "start").parse(prose.text)
    except UnexpectedInput as e:
        at = Word("", prose.column + max(0, (e.column or 1) - 1), 1)
        raise line.error("R005", "we do not understand what a match prints here", at, USE_SAVE) from None
    goto, *items, rest = tree.children
    words: list[Word] = []
    before = ""
    for item in items:
        assert not isinstance(item, str), item
        tokens = [t for t in item.children if isinstance(t, str)]
        column = prose.column + (tokens[0].column or 1) - 1
        width = (tokens[-1].end_column or 1) - (tokens[0].column or 1)
        for negated, option, *values in _MATCHES[item.data](tokens):
            if option == "-m" and (before, item.data) in _TOGETHER:
                continue
            words += [Word("!", column, width)] if negated else []
            if option.startswith("--ct") and option[-3:] in ("src", "dst"):
                values = [address(v, family) for v in values]
            words += [Word(option, column, width), *(Word(v, column, width, True) for v in values)]
        before = str(item.data)
    return goto is not None, words, str(rest).rstrip() if rest is not None else ""


_TOGETHER = {
    ("uid_owner", "gid_owner"), ("socket_exists", "uid_owner"), ("socket_exists", "gid_owner"),
    ("conntrack", "conntrack"), ("states", "conntrack"), ("conntrack", "states"), ("range", "range"),
}  # fmt: skip
"""What one module prints one after the other; two modules in its place would mean the same."""


def _not(token: str) -> str:
    return "!" if token.startswith("!") else ""


def _bare(token: str) -> str:
    """The token without the `!` that it begins with."""
    return token.removeprefix("!").strip()


def _ports(tokens: Sequence[Token]) -> Iterator[Said]:
    protocol = str(tokens[0])
    yield "", "-m", protocol
    for token in tokens[1:]:
        if token.type in ("CHUNKS", "DCCP_TYPES"):
            yield from _types(protocol, token)
            continue
        name, sep, value = re.split(r"([:=])", token, maxsplit=1)
        negated, value = _not(value.strip()), _bare(value.strip())
        if name == "option" and sep:
            yield negated, f"--{protocol}-option", value
        elif name == "flags":
            yield negated, "--tcp-flags", *map(_flags, value.split("/"))
        else:
            yield negated, "--sport" if name[0] == "s" else "--dport", value


def _types(protocol: str, token: Token) -> Iterator[Said]:
    """Chunks of sctp and packets of dccp; with `-n` they are numbers, which iptables does not take."""
    negated, said = _not(token), _bare(token)
    if protocol == "sctp":
        which, chunks = said.split()
        yield negated, "--chunk-types", which, ",".join(map(_chunk, chunks.split(",")))
    else:
        yield negated, "--dccp-types", ",".join(_named(_DCCP, t, 10) for t in said.split(","))


def _chunk(text: str) -> str:
    kind, colon, flags = text.partition(":")
    return _named(_CHUNKS, kind, 16) + colon + flags


def _named(names: Mapping[int, str], text: str, base: int) -> str:
    digits = r"(0x)?[0-9a-fA-F]+" if base == 16 else "[0-9]+"
    return names.get(int(text, base), text) if re.fullmatch(digits, text) and text[0].isdigit() else text


_CHUNKS = {
    0: "DATA", 1: "INIT", 2: "INIT_ACK", 3: "SACK", 4: "HEARTBEAT", 5: "HEARTBEAT_ACK", 6: "ABORT", 7: "SHUTDOWN",
    8: "SHUTDOWN_ACK", 9: "ERROR", 10: "COOKIE_ECHO", 11: "COOKIE_ACK", 12: "ECN_ECNE", 13: "ECN_CWR",
    14: "SHUTDOWN_COMPLETE", 0xC1: "ASCONF", 0x80: "ASCONF_ACK", 0xC0: "FORWARD_TSN",
}  # fmt: skip
_DCCP = dict(
    enumerate(
        [
            "REQUEST",
            "RESPONSE",
            "DATA",
            "ACK",
            "DATAACK",
            "CLOSEREQ",
            "CLOSE",
            "RESET",
            "SYNC",
            "SYNCACK",
            "INVALID",
        ]
    )
)


def _flags(text: str) -> str:
    if not text.startswith("0x"):
        return text
    return ",".join(f.name for f in TcpFlag if int(text, 16) & f) or "NONE"


def _icmp(module: str, option: str) -> Callable[[Sequence[Token]], Iterator[Said]]:
    def said(tokens: Sequence[Token]) -> Iterator[Said]:
        kind = re.sub(r"^(ipv6-icmp|icmp6|icmp)", "", tokens[0]).strip()
        yield "", "-m", module
        yield _not(kind), option, re.sub(r"type | codes? (\d+)-?", _slashed, _bare(kind))

    return said


def _slashed(found: re.Match[str]) -> str:
    """`type T code C` and `type T codes C-D` as `T/C` and `T/C:D`."""
    if found[1] is None:
        return ""
    return f"/{found[1]}:" if found[0].endswith("-") else f"/{found[1]}"


def _spi(tokens: Sequence[Token]) -> Iterator[Said]:
    module, value = tokens[0].split(None, 1)
    value = value.partition(":")[2]
    yield "", "-m", module
    yield _not(value), f"--{module}spi", _bare(value)


def _multiport(tokens: Sequence[Token]) -> Iterator[Said]:
    which, ports = tokens
    yield "", "-m", "multiport"
    yield _not(ports), f"--{which.split()[1]}", _bare(ports)


def _limit(tokens: Sequence[Token]) -> Iterator[Said]:
    yield "", "-m", "limit"
    yield "", "--limit", str(tokens[1])
    if tokens[2] != "5":
        yield "", "--limit-burst", str(tokens[2])


def _addrtype(tokens: Sequence[Token]) -> Iterator[Said]:
    yield "", "-m", "addrtype"
    for name, value in zip(tokens, [*tokens[1:], ""], strict=True):
        if name.type in ("SRC_TYPE", "DST_TYPE"):
            yield _not(value), f"--{name}", _bare(value)
        elif name.type in ("LIMIT_IN", "LIMIT_OUT"):
            yield "", "--limit-iface-in" if name.type == "LIMIT_IN" else "--limit-iface-out"


def _states(tokens: Sequence[Token]) -> Iterator[Said]:
    name = _bare(tokens[0])
    yield "", "-m", "conntrack" if name == "ctstate" else "state"
    yield _not(tokens[0]), f"--{name}", str(tokens[1])


def _conntrack(tokens: Sequence[Token]) -> Iterator[Said]:
    yield "", "-m", "conntrack"
    yield _not(tokens[0]), f"--{_bare(tokens[0])}", str(tokens[1])


def _match_set(tokens: Sequence[Token]) -> Iterator[Said]:
    yield "", "-m", "set"
    yield _not(tokens[0]), "--match-set", str(tokens[1]), str(tokens[2])
    for option in tokens[3:]:
        name, *values = _bare(option).split()
        yield _not(option), f"--{name}", *values


def _every(tokens: Sequence[Token]) -> Iterator[Said]:
    yield "", "-m", "statistic"
    yield "", "--mode", "nth"
    yield "!" if "!" in tokens[0] else "", "--every", str(tokens[1])
    yield "", "--packet", str(tokens[2]) if len(tokens) > 2 else "0"


def _range(tokens: Sequence[Token]) -> Iterator[Said]:
    words = tokens[0].split()
    yield "", "-m", "iprange"
    yield "!" if "!" in words else "", "--src-range" if words[0] == "source" else "--dst-range", words[-1]


def _compared(module: str, letters: str) -> Callable[[Sequence[Token]], Iterator[Said]]:
    def said(tokens: Sequence[Token]) -> Iterator[Said]:
        sign = tokens[0].split()[-1]
        name = {"==": "eq", "!=": "eq", "<": "lt", ">": "gt"}[sign]
        yield "", "-m", module
        yield "!" if sign == "!=" else "", f"--{letters}-{name}", str(tokens[1])

    return said


def _one(module: str, option: str) -> Callable[[Sequence[Token]], Iterator[Said]]:
    """A match that prints its name, `!` where it is negated, and at the end its one value."""

    def said(tokens: Sequence[Token]) -> Iterator[Said]:
        text = " ".join(tokens)
        yield "", "-m", module
        yield "!" if "!" in text else "", option, re.split(r"[ !]|match(?=0x)", text)[-1]

    return said


def _switched(module: str) -> Callable[[Sequence[Token]], Iterator[Said]]:
    def said(tokens: Sequence[Token]) -> Iterator[Said]:
        yield "", "-m", module
        for word in tokens[0].split()[1:]:
            yield "", f"--{word.removeprefix('--')}"

    return said


def _physdev(tokens: Sequence[Token]) -> Iterator[Said]:
    yield "", "-m", "physdev"
    for found in re.finditer(r"(! )?(--physdev-(?:in|out)) (\S+)|(! )?(--physdev-is-\w+)", tokens[0]):
        if found[2]:
            yield (found[1] or "").strip(), found[2], found[3]
        else:
            yield (found[4] or "").strip(), found[5]


def _ipv6header(tokens: Sequence[Token]) -> Iterator[Said]:
    _, flags, *soft = tokens[0].split()
    value = flags.removeprefix("flags:")
    bits = int(_bare(value), 16) if value.lstrip("!").startswith("0x") else None
    names = [n for n, bit in _HEADERS.items() if bits & bit] if bits is not None else [_bare(value)]
    yield "", "-m", "ipv6header"
    yield _not(value), "--header", ",".join(names)
    if soft:
        yield "", "--soft"


def _time(tokens: Sequence[Token]) -> Iterator[Said]:
    text = tokens[0]
    yield "", "-m", "time"
    if found := re.search(r" from (\S+) to (\S+)", text):
        yield "", "--timestart", found[1]
        yield "", "--timestop", found[2]
    for days in re.findall(r" on (\S+)", text):
        if days[0].isdigit():
            yield "", "--monthdays", re.sub(r"[a-z]", "", days)
        else:
            yield "", "--weekdays", days
    if " contiguous" in text:
        yield "", "--contiguous"
    if " UTC" not in text:
        yield "", "--kerneltz"


def _recent(tokens: Sequence[Token]) -> Iterator[Said]:
    text = tokens[0]
    what = {"SET": "set", "CHECK": "rcheck", "UPDATE": "update", "REMOVE": "remove"}
    yield "", "-m", "recent"
    yield _not(text), f"--{what[text.partition('recent: ')[2].split()[0]]}"
    said = {name: value for name, value in re.findall(r"(\w+): (\S+)", text) if name != "recent"}
    if "seconds" in said:
        yield "", "--seconds", said["seconds"]
    if " reap" in text:
        yield "", "--reap"
    if "hit_count" in said:
        yield "", "--hitcount", said["hit_count"]
    if "TTL-Match" in text:
        yield "", "--rttl"
    yield "", "--name", said["name"]
    if "mask" in said:
        yield "", "--mask", said["mask"]
    yield "", "--rsource" if said["side"] == "source" else "--rdest"


def _connlimit(tokens: Sequence[Token]) -> Iterator[Said]:
    _, which, sign, number = tokens[0].split()
    side, _, mask = which.partition("/")
    yield "", "-m", "connlimit"
    yield "", "--connlimit-above" if sign == ">" else "--connlimit-upto", number
    yield "", "--connlimit-mask", mask
    yield "", "--connlimit-saddr" if side == "src" else "--connlimit-daddr"


def _hashlimit(tokens: Sequence[Token]) -> Iterator[Said]:
    """Its name is not printed, and here made of what is: it only says which rules count together."""
    text = tokens[0].removeprefix("limit: ")
    which, rate = ("above", text.split()[1]) if text.startswith("above") else ("upto", text.split()[2])
    yield "", "-m", "hashlimit"
    yield "", f"--hashlimit-{which}", rate
    for name, value in re.findall(r" (burst|mode|htable-\w+|srcmask|dstmask) (\S+)", text):
        yield "", f"--hashlimit-{name}", value.replace("-", ",") if name == "mode" else value
    if text.endswith(" rate-match"):
        yield "", "--hashlimit-rate-match"
    yield "", "--hashlimit-name", re.sub(r"[^\w]+", "-", text)


_HEADERS = {
    "hop-by-hop": 0x80, "ipv6-opts": 0x40, "ipv6-route": 0x20, "ipv6-frag": 0x10, "ah": 0x08, "esp": 0x04,
    "ipv6-nonxt": 0x02, "protocol": 0x01,
}  # fmt: skip

_MATCHES: Mapping[str, Callable[[Sequence[Token]], Iterable[Said]]] = {
    "ports": _ports,
    "sctp": _ports,
    "dccp": _ports,
    "icmp": _icmp("icmp", "--icmp-type"),
    "icmp6": _icmp("icmp6", "--icmpv6-type"),
    "spi": _spi,
    "multiport": _multiport,
    "socket_exists": lambda t: [("", "-m", "owner"), (_not(t[0]), "--socket-exists")],
    "uid_owner": lambda t: [("", "-m", "owner"), (_not(t[0]), "--uid-owner", str(t[1]))],
    "gid_owner": lambda t: [("", "-m", "owner"), (_not(t[0]), "--gid-owner", str(t[1]))],
    "suppl_groups": lambda _: [("", "--suppl-groups")],
    "states": _states,
    "conntrack": _conntrack,
    "mark": _one("mark", "--mark"),
    "connmark": _one("connmark", "--mark"),
    "comment": lambda t: [("", "-m", "comment"), ("", "--comment", t[0][3:-3])],
    "limit": _limit,
    "addrtype": _addrtype,
    "match_set": _match_set,
    "probability": lambda t: [
        ("", "-m", "statistic"),
        ("", "--mode", "random"),
        ("!" if "!" in t[0] else "", "--probability", str(t[1])),
    ],
    "every": _every,
    "range": _range,
    "mac": _one("mac", "--mac-source"),
    "length": _one("length", "--length"),
    "ttl": _compared("ttl", "ttl"),
    "hop_limit": _compared("hl", "hl"),
    "tos": _one("tos", "--tos"),
    "dscp": _one("dscp", "--dscp"),
    "pkttype": _one("pkttype", "--pkt-type"),
    "rpfilter": _switched("rpfilter"),
    "socket": _switched("socket"),
    "physdev": _physdev,
    "tcpmss": _one("tcpmss", "--mss"),
    "realm": _one("realm", "--realm"),
    "ipv6header": _ipv6header,
    "time": _time,
    "recent": _recent,
    "connlimit": _connlimit,
    "cgroup": _one("cgroup", "--cgroup"),
    "hashlimit": _hashlimit,
    "quota": lambda t: [("", "-m", "quota"), ("", "--quota", t[0].split()[1])],
}
"""For each rule of listing.lark the options that print so."""


# -- targets ----------------------------------------------------------------------------------------


def target(name: str, prose: Word) -> tuple[str, list[Said], Word]:
    """The target and its options, and what is left for the matches; the target prints last."""
    if name == "CT" and (found := re.fullmatch(r"(.*\s|)NOTRACK", prose.text)):
        return "NOTRACK", [], Word(found[1], prose.column, len(found[1]))
    pattern, options = _TARGETS.get(name, ("", None))
    if options is None or (found := re.fullmatch(rf"(.*?)(?<!\S){pattern}", prose.text)) is None:
        return name, [], prose
    left = Word(found[1], prose.column, len(found[1]))
    return name, [said for said in options(found.group) if said[-1]], left


_Groups: TypeAlias = Callable[[int], str]


def _switches(text: str | None) -> list[Said]:
    return [("", f"--{name}") for name in (text or "").split()]


def _mark(g: _Groups) -> list[Said]:
    return [("", {"set": "--set-mark", "xset": "--set-xmark"}.get(g(2), f"--{g(2)}-mark"), g(3))]


def _connmark(g: _Groups) -> list[Said]:
    shift = [("", f"--{g(6)}", g(7))] if g(6) else []
    if g(4):
        return [("", {"set": "--set-mark", "xset": "--set-xmark"}.get(g(4), f"--{g(4)}-mark"), g(5)), *shift]
    text = g(3) or ""
    masks = {k: v.lstrip("~") for k, v in re.findall(r"(nfmask|ctmask|mask) (\S+)", text)}
    both = masks.get("mask", "0xffffffff")
    return [
        ("", f"--{g(2)}-mark"),
        ("", "--nfmask", masks.get("nfmask", both)),
        ("", "--ctmask", masks.get("ctmask", both)),
        *shift,
    ]


def _log(g: _Groups) -> list[Said]:
    flags = int(g(2) or "0")
    names = {"tcp-sequence": 1, "tcp-options": 2, "ip-options": 4, "uid": 8, "macdecode": 32}
    level = {"warn": "4", "warning": "4"}.get(g(3), g(3))
    return [
        ("", "--log-prefix", g(5) or ""),
        ("", "--log-level", "" if level == "4" else level),
        *(("", f"--log-{n}") for n, bit in names.items() if flags & bit or n in (g(4) or "").split()),
    ]


def _nflog(g: _Groups) -> list[Said]:
    said = re.findall(r'nflog-(\w+) +("[^"]*"|\S+)', g(2))
    return [("", f"--nflog-{name}", value.strip('"')) for name, value in said]


def _ct(g: _Groups) -> list[Said]:
    if g(2):
        return [("", "--notrack")]
    return [("", f"--{name}", value) for name, value in re.findall(r"([\w-]+) (\S+)", g(3))]


def _queue(g: _Groups) -> list[Said]:
    return [("", f"--queue-{g(2)}", g(3)), *[("", f"--queue-{name}") for name in (g(4) or "").split()]]


def _set(g: _Groups) -> list[Said]:
    said: list[Said] = []
    words = iter(g(2).split())
    for word in words:
        if word.endswith("-set"):
            said.append(("", f"--{word}", next(words), next(words)))
        elif word == "timeout":
            said.append(("", "--timeout", next(words)))
        else:
            said.append(("", f"--{word}"))
    return said


def _stepped(letters: str) -> Callable[[_Groups], list[Said]]:
    names = {"set to": "set", "decrement by": "dec", "increment by": "inc"}
    return lambda g: [("", f"--{letters}-{names[g(2)]}", g(3))]


_NAT = r"to:(\S+)((?: random| random-fully| persistent)*)"
_LOG_SWITCHES = r"((?: tcp-sequence| tcp-options| ip-options| uid| macdecode)*)"
_STEP = r"(set to|decrement by|increment by) (\d+)"
_TARGETS: Mapping[str, tuple[str, Callable[[_Groups], list[Said]]]] = {
    "REDIRECT": (
        r"redir ports (\S+)((?: random| random-fully)*)",
        lambda g: [("", "--to-ports", g(2)), *_switches(g(3))],
    ),
    "DNAT": (_NAT, lambda g: [("", "--to-destination", g(2)), *_switches(g(3))]),
    "SNAT": (_NAT, lambda g: [("", "--to-source", g(2)), *_switches(g(3))]),
    "NETMAP": (r"to:(\S+)", lambda g: [("", "--to", g(2))]),
    "MASQUERADE": (
        r"(?:masq ports: (\S+))?((?: ?random| random-fully)*)",
        lambda g: [("", "--to-ports", g(2) or ""), *_switches(g(3))],
    ),
    "MARK": (r"MARK (set|xset|and|or|xor) (\S+)", _mark),
    "REJECT": (r"reject-with (\S+)", lambda g: [("", "--reject-with", g(2))]),
    "LOG": (rf"LOG (?:flags (\d+) )?level (\S+){_LOG_SWITCHES}(?: prefix \"((?:(?! LOG ).)*)\")?", _log),
    "NFLOG": (r'((?:nflog-\w+ +(?:"[^"]*"|\S+) *)+)', _nflog),
    "CT": (r"CT (?:(notrack)|((?:(?:helper|zone|zone-orig|zone-reply|ctevents|timeout) \S+ ?)+))", _ct),
    "TPROXY": (
        r"TPROXY redirect ([\d.]+|[0-9a-f:.]+):(\d+) mark (\S+)",
        lambda g: [("", "--on-port", g(3)), ("", "--on-ip", g(2)), ("", "--tproxy-mark", g(4))],
    ),
    "CONNMARK": (
        r"CONNMARK (?:(save|restore)((?: (?:nfmask|ctmask|mask) \S+)*)|(set|xset|and|or|xor) (\S+))"
        r"(?: ((?:left|right)-shift-mark) (\d+))?",
        _connmark,
    ),
    "TCPMSS": (
        r"TCPMSS (?:clamp (to PMTU)|set (\d+))",
        lambda g: [("", "--clamp-mss-to-pmtu")] if g(2) else [("", "--set-mss", g(3))],
    ),
    "SET": (
        r"((?:(?:add|del|map)-set \S+ \S+(?: exist)?(?: timeout \d+)?(?: map-\w+)* ?)+)",
        _set,
    ),
    "TTL": (rf"TTL {_STEP}", _stepped("ttl")),
    "HL": (rf"HL {_STEP}", _stepped("hl")),
    "TOS": (r"TOS (set|and|or|xor) (\S+)", lambda g: [("", f"--{g(2)}-tos", g(3))]),
    "DSCP": (r"DSCP set (\S+)", lambda g: [("", "--set-dscp", g(2))]),
    "CLASSIFY": (r"CLASSIFY set (\S+)", lambda g: [("", "--set-class", g(2))]),
    "CHECKSUM": (r"CHECKSUM fill", lambda _: [("", "--checksum-fill")]),
    "AUDIT": (r"AUDIT (\S+)", lambda g: [("", "--type", g(2))]),
    "NFQUEUE": (r"NFQUEUE (num|balance) (\S+)((?: bypass| cpu-fanout)*)", _queue),
}
"""What a target prints, after group 1, and the options that print so; an option with an empty value is left out."""
