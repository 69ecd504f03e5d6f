"""What a single word stands for: numbers, ports, ids, addresses, marks, flags.  Each raises ValueError for nonsense.

Names come from the tables here, never from the machine that reads: a port whose name means different
numbers on different systems (http-alt) is not among them.
"""

from __future__ import annotations

import re
from socket import AF_INET, inet_pton

from ..values import ALL_32, IPV4, CtState, Family, Ids, MarkMask, Net, Span, TcpFlag, mask_of


def number(text: str) -> int:
    """A number as strtoul reads it with base 0: decimal, 0x... hexadecimal, 0... octal."""
    if text.isdecimal() and text.isascii() and text[0] != "0":
        return int(text)
    if re.fullmatch(r"0[xX][0-9a-fA-F]+", text):
        return int(text, 16)
    if re.fullmatch(r"0[0-7]*", text):
        return int(text, 8)
    raise ValueError(f"{text!r} is not a number")


def port(text: str) -> int:
    if text in SERVICES:
        return SERVICES[text]
    if not text[:1].isdigit():
        raise ValueError(f"{text!r} is neither a port number nor the name of a service that we know")
    value = number(text)
    if value > 0xFFFF:
        raise ValueError(f"{text} is no port: they end at 65535")
    return value


def span(text: str) -> Span:
    """`P`, `P:Q`, `P:`, `:Q`, each a number or a service's name."""
    first, colon, last = text.partition(":")
    if not colon:
        return Span(port(text), port(text))
    return Span(port(first) if first else 0, port(last) if last else 0xFFFF)


def spans(text: str) -> tuple[Span, ...]:
    return tuple(span(item) for item in text.split(","))


def ids(text: str) -> Ids | None:
    """`N`, `N-M` or `N:M`; None for a name, which only the host's own passwd can tell."""
    if not text[:1].isdigit():
        if not text:
            raise ValueError("an id is missing")
        return None
    first, dash, last = text.replace(":", "-").partition("-")
    return Ids(number(first), number(last if dash else first))


def net(text: str, family: Family = Family.IPV4) -> Net:
    """`HOST`, `HOST/LENGTH` or `HOST/MASK`, host bits dropped; octets that are missing are 0, as in 10/8."""
    host, slash, bits = text.partition("/")
    if family is not IPV4:
        if ":" not in host:
            raise ValueError(f"{host!r} is no IPv6 address, and names of hosts are not looked up")
        return Net.read(text, family)
    length = _MASKS.get(bits) if slash else ALL_32
    if length is not None and (plain := _plain(host)) is not None:
        return Net(plain & length, length)
    if ":" in text:
        raise ValueError(f"{text} is an IPv6 address, and these are rules for IPv4")
    if re.search(r"[^0-9a-fA-FxX.]", host) or not host[:1].isdigit():
        raise ValueError(f"{host!r} is no IPv4 address, and names of hosts are not looked up")
    mask = ALL_32 if not slash else _mask(bits)
    return Net(_address(host) & mask, mask)


_MASKS = {str(length): mask_of(length) for length in range(33)}


def _plain(text: str) -> int | None:
    """An address of four decimal octets without leading zeros, the form in which nearly all are written."""
    try:
        return int.from_bytes(inet_pton(AF_INET, text))
    except (OSError, ValueError):
        return None


def _mask(text: str) -> int:
    if "." in text:
        if text.count(".") != 3:
            raise ValueError(f"{text!r} is no mask")
        return _address(text)
    return mask_of(number(text))


def _address(text: str) -> int:
    octets = [number(octet) for octet in text.split(".")]
    if len(octets) > 4 or max(octets) > 255:
        raise ValueError(f"{text!r} is no IPv4 address")
    return int.from_bytes(bytes(octets).ljust(4, b"\0"))


def address(text: str) -> int:
    """An address in full, as targets want it."""
    if (plain := _plain(text)) is not None:
        return plain
    if text.count(".") != 3 or "/" in text:
        raise ValueError(f"{text!r} is no IPv4 address")
    return net(text).address


def mark(text: str) -> tuple[int, int | None]:
    """`V` or `V/M`."""
    value, slash, mask = text.partition("/")
    pair = number(value), number(mask) if slash else None
    MarkMask(pair[0], ALL_32 if pair[1] is None else pair[1])
    return pair


def flags(text: str) -> int:
    """TCP flags: names with commas between, ALL or NONE."""
    bits = 0
    for name in text.upper().split(","):
        match name:
            case "ALL":
                bits |= 0x3F
            case "NONE":
                pass
            case "SYN" | "ACK" | "FIN" | "RST" | "URG" | "PSH":
                bits |= TcpFlag[name]
            case _:
                raise ValueError(f"{name!r} is no TCP flag: they are FIN, SYN, RST, PSH, ACK, URG, ALL, NONE")
    return bits


def states(text: str) -> frozenset[CtState] | None:
    """A list of connection states; None where it holds SNAT or DNAT, which speak of translation, not of state."""
    found: set[CtState] = set()
    translated = False
    for name in text.upper().split(","):
        if name in ("SNAT", "DNAT"):
            translated = True
        elif name in CtState.__members__:
            found.add(CtState[name])
        else:
            raise ValueError(f"{name!r} is no connection state")
    return None if translated else frozenset(found)


def icmp(text: str) -> tuple[int | None, int | None]:
    """Type and code of `--icmp-type`; (None, None) is any, which the kernel writes as type 255."""
    if text.lower() in ICMP_TYPES:
        return ICMP_TYPES[text.lower()]
    first, slash, last = text.partition("/")
    if not first[:1].isdigit():
        raise ValueError(f"{text!r} is no ICMP type that we know")
    kind, code = number(first), number(last) if slash else None
    if kind > 255 or (code or 0) > 255:
        raise ValueError("ICMP types and codes end at 255")
    return (None, None) if kind == 255 else (kind, code)


ICMP_TYPES: dict[str, tuple[int | None, int | None]] = {
    "any": (None, None),
    "echo-reply": (0, None), "pong": (0, None),
    "destination-unreachable": (3, None),
    "network-unreachable": (3, 0), "host-unreachable": (3, 1), "protocol-unreachable": (3, 2),
    "port-unreachable": (3, 3), "fragmentation-needed": (3, 4), "source-route-failed": (3, 5),
    "network-unknown": (3, 6), "host-unknown": (3, 7), "network-prohibited": (3, 9),
    "host-prohibited": (3, 10), "tos-network-unreachable": (3, 11), "tos-host-unreachable": (3, 12),
    "communication-prohibited": (3, 13), "host-precedence-violation": (3, 14), "precedence-cutoff": (3, 15),
    "source-quench": (4, None),
    "redirect": (5, None), "network-redirect": (5, 0), "host-redirect": (5, 1),
    "tos-network-redirect": (5, 2), "tos-host-redirect": (5, 3),
    "echo-request": (8, None), "ping": (8, None),
    "router-advertisement": (9, None), "router-solicitation": (10, None),
    "time-exceeded": (11, None), "ttl-exceeded": (11, None),
    "ttl-zero-during-transit": (11, 0), "ttl-zero-during-reassembly": (11, 1),
    "parameter-problem": (12, None), "ip-header-bad": (12, 0), "required-option-missing": (12, 1),
    "timestamp-request": (13, None), "timestamp-reply": (14, None),
    "address-mask-request": (17, None), "address-mask-reply": (18, None),
}  # fmt: skip
"""The names that `iptables -p icmp -h` lists."""

SERVICES = {
    "tcpmux": 1, "echo": 7, "discard": 9, "systat": 11, "daytime": 13, "netstat": 15, "qotd": 17,
    "chargen": 19, "ftp-data": 20, "ftp": 21, "ssh": 22, "telnet": 23, "smtp": 25, "time": 37, "whois": 43,
    "nicname": 43, "tacacs": 49, "domain": 53, "bootps": 67, "bootpc": 68, "tftp": 69, "gopher": 70,
    "finger": 79, "http": 80, "www": 80, "kerberos": 88, "pop3": 110, "pop-3": 110, "sunrpc": 111,
    "portmapper": 111, "auth": 113, "ident": 113, "nntp": 119, "ntp": 123, "epmap": 135, "netbios-ns": 137,
    "netbios-dgm": 138, "netbios-ssn": 139, "imap": 143, "imap2": 143, "snmp": 161, "snmp-trap": 162,
    "snmptrap": 162, "xdmcp": 177, "bgp": 179, "ldap": 389, "svrloc": 427, "https": 443, "microsoft-ds": 445,
    "kpasswd": 464, "submissions": 465, "isakmp": 500, "exec": 512, "biff": 512, "login": 513, "who": 513,
    "shell": 514, "syslog": 514, "printer": 515, "talk": 517, "ntalk": 518, "route": 520, "uucp": 540,
    "klogin": 543, "kshell": 544, "rtsp": 554, "dhcpv6-client": 546, "dhcpv6-server": 547, "nntps": 563,
    "submission": 587, "ipp": 631, "ldaps": 636, "kerberos-adm": 749, "domain-s": 853, "rsync": 873,
    "ftps-data": 989, "ftps": 990, "telnets": 992, "imaps": 993, "pop3s": 995, "socks": 1080,
    "rmiregistry": 1099, "openvpn": 1194, "ms-sql-s": 1433, "ms-sql-m": 1434, "l2tp": 1701, "radius": 1812,
    "radius-acct": 1813, "cisco-sccp": 2000, "nfs": 2049, "gnunet": 2086, "iscsi-target": 3260,
    "mysql": 3306, "ms-wbt-server": 3389, "nut": 3493, "distcc": 3632, "daap": 3689, "svn": 3690,
    "epmd": 4369, "ipsec-nat-t": 4500, "iax": 4569, "sip": 5060, "sip-tls": 5061, "xmpp-client": 5222,
    "xmpp-server": 5269, "mdns": 5353, "postgresql": 5432, "postgres": 5432, "amqps": 5671, "amqp": 5672,
    "x11": 6000, "redis": 6379, "ircd": 6667, "font-service": 7100, "zabbix-agent": 10050,
    "zabbix-trapper": 10051, "git": 9418,
}  # fmt: skip
