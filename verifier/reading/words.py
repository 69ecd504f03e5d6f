"""The small words that host files, their variants and property files share: ports, ids, sockets, dials.

Each function reads one word and raises ValueError with a sentence for the user.
"""

from __future__ import annotations

import re

from ..hosts import Dial, Listener
from ..values import TCP, UDP, AddressSet, IdSet, Iface, MarkMask, Span, read_address

NAME_FORM = "a name is letters, digits, `_` and `-`, and begins with a letter"
BIND_FORM = "write `*`, an address, or either with `%DEVICE`"
LISTENER_FORM = "write `ADDRESS:PORT` or `*:PORT`, with `udp/` before it, or `%DEVICE` after it"
IDS_FORM = "write a number, a range `A-B`, a list of these, `any`, or `not` before any of these"
DIAL_FORM = (
    "write `original-destination`, `ADDRESS:PORT`, or `{address}` and `{port}` for those of the original"
)


def read_name(text: str) -> str:
    """The name of a process or of a proxy; `outside` is taken."""
    if not re.fullmatch(r"[A-Za-z_][\w-]*", text, re.ASCII):
        raise ValueError(f"`{text}` is no name")
    if text == "outside":
        raise ValueError("`outside` is the name of all that is not this host")
    return text


def read_port(text: str) -> int:
    """A port from 1 to 65535."""
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 0xFFFF:
        raise ValueError(f"`{text}` is no port from 1 to 65535")
    return int(text)


def read_ports(text: str) -> tuple[Span, ...]:
    """`P` or `P-Q`, separated by commas."""
    spans: list[Span] = []
    for word in (w.strip() for w in text.split(",")):
        ends = re.fullmatch(r"([0-9]{1,5})(?:[-:]([0-9]{1,5}))?", word)
        if not ends:
            raise ValueError(f"`{word}` is no port and no range of ports `P-Q`")
        first, last = int(ends[1]), int(ends[2] or ends[1])
        if not first <= last <= 0xFFFF:
            raise ValueError(f"`{word}` is not in 0-65535, or its end comes before its beginning")
        spans.append(Span(first, last))
    return tuple(spans)


def read_ids(text: str) -> IdSet:
    """The ids that a process may have, as `IdSet.read` takes them."""
    items = re.sub(r"^not\s+", "", text.strip())
    if not re.fullmatch(r"any|[0-9]+(-[0-9]+)?(\s*,\s*[0-9]+(-[0-9]+)?)*", items):
        raise ValueError(f"`{text}` is no set of ids")
    return IdSet.read(text)


def read_address_set(text: str) -> AddressSet:
    """`A, B, not C`, where each is an address, a network, `any` or `unicast`."""
    if any(":" in word for word in text.split(",")):
        raise ValueError("IPv6 addresses are not read yet")
    return AddressSet.read(text)


def read_ipv4(text: str) -> int:
    if ":" in text:
        raise ValueError("IPv6 addresses are not read yet")
    return read_address(text)


def read_iface(text: str) -> str:
    """The name of one interface; `+`, which stands for any ending in a rule, is no part of it."""
    Iface(text)
    if text.endswith("+") or ":" in text:
        raise ValueError(f"`{text}` is no interface: the name of one, without `+` and `:`")
    return text


def read_mark(text: str) -> int:
    """A socket's mark, which has no mask."""
    try:
        mark = MarkMask.read(text)
    except ValueError:
        raise ValueError(f"`{text}` is no mark: a number of 32 bits, such as 0x539") from None
    if "/" in text:
        raise ValueError("a socket's mark has no mask")
    return mark.value


def read_bind(text: str) -> tuple[int | None, str | None]:
    """The address (None: the wildcard) and the device that a listening socket is bound to."""
    host, percent, device = text.partition("%")
    if percent:
        read_iface(device)
    if host in ("*", "0.0.0.0", "[::]", "::"):
        return None, device or None
    if ":" in host:
        raise ValueError("IPv6 addresses are not read yet")
    return read_address(host), device or None


def read_listener(text: str) -> Listener:
    """`[udp/]ADDRESS:PORT[%DEVICE]`; `[::]`, which takes IPv4 too unless it is v6only, counts as `*`."""
    protocol = TCP
    rest = text
    if "/" in text:
        word, _, rest = text.partition("/")
        if word not in ("tcp", "udp"):
            raise ValueError(f"a process listens on tcp or udp, not on `{word}`")
        protocol = UDP if word == "udp" else TCP
    body, percent, device = rest.partition("%")
    host, colon, port = body.rpartition(":")
    if not colon or not host:
        raise ValueError(f"`{text}` is no socket that listens")
    address, bound_to = read_bind(host + percent + device)
    return Listener(read_port(port), address, protocol, bound_to)


def read_dial(text: str) -> Dial:
    """`original-destination`, or `ADDRESS:PORT`, where either may be that of the original destination."""
    if text == "original-destination":
        return Dial()
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError(f"`{text}` is nowhere to connect to")
    return Dial(
        None if host == "{address}" else read_ipv4(host),
        None if port == "{port}" else read_port(port),
    )
