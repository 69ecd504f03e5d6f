"""The small words that host files, their variants and property files share: ports, ids, sockets, dials.

Each function reads one word and raises ValueError with a sentence for the user.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct

from ..hosts import Dial, Listener
from ..values import (
    IPV4,
    LAST_ID,
    LINK_LOCAL,
    MAPPED,
    TCP,
    UDP,
    AddressSet,
    Family,
    IdSet,
    Iface,
    MarkMask,
    Span,
    read_address,
    spell_address,
)

NAME_FORM = "a name is letters, digits, `_` and `-`, and begins with a letter"
BIND_FORM = "write `*`, an address, or either with `%DEVICE`"
LISTENER_FORM = "write `ADDRESS:PORT`, `[ADDRESS]:PORT` or `*:PORT`, with `udp/` before it, or `%DEVICE` , ` v6only` or ` transparent` after it"
IDS_FORM = "write a number, a name that `users:` or `groups:` tells, a range `A-B`, a list of these, `any`, or `not` before any of these"
OWNER_NAME_FORM = "a name of a user or group begins with no digit, and has no blank, comma or colon"
DIAL_FORM = "write `original-destination`, `ADDRESS:PORT`, `[ADDRESS]:PORT`, or `{address}` and `{port}` for those of the original"


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


def read_owner_name(text: str) -> str:
    """The name of a user or of a group."""
    if not re.fullmatch(r"[^\s\d,:!][^\s,:]*", text) or text in ("any", "not"):
        raise ValueError(f"`{text}` is no name of a user or group")
    return text


def read_id(text: str) -> int:
    """The number of a user or group."""
    if not re.fullmatch(r"[0-9]{1,10}", text) or int(text) > LAST_ID:
        raise ValueError(f"`{text}` is no id from 0 to {LAST_ID}")
    return int(text)


def read_ids(text: str, names: Mapping[str, int] = MappingProxyType({})) -> IdSet:
    """The ids that a process may have, as `IdSet.read` takes them, and the names among these, of which root is 0."""
    known = {"root": 0, **names}
    given = re.sub(r"^not\s+", "", text.strip())
    items = ", ".join(str(known.get(word.strip(), word.strip())) for word in given.split(","))
    if not re.fullmatch(r"any|[0-9]+(-[0-9]+)?(\s*,\s*[0-9]+(-[0-9]+)?)*", items):
        raise ValueError(f"`{text}` is no set of ids, nor a name that the host tells")
    return IdSet.read(items if given == text.strip() else f"not {items}")


def read_address_set(text: str) -> AddressSet:
    """`A, B, not C`, where each is an address or a network of either family, `any` or `unicast`."""
    return AddressSet.read(text)


def read_of(text: str, family: Family) -> int:
    """An address of this family."""
    if (":" in text) is (family is IPV4):
        raise ValueError(f"`{text}` is no {family} address")
    return read_address(text, family)


def read_either(text: str) -> tuple[int, Family]:
    """An address of either family, which is told by its colons."""
    family = Family.IPV6 if ":" in text else IPV4
    address = read_address(text, family)
    if family is Family.IPV6 and address & MAPPED.mask == MAPPED.address:
        plain = spell_address(address & 0xFFFFFFFF)
        raise ValueError(f"`{text}` is an IPv4 address to the kernel: write {plain}")
    return address, family


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


class Bind(Struct, frozen=True):
    """Where a listening socket is bound: the families that it takes, the address (None: the wildcard) and the device."""

    families: tuple[Family, ...]
    address: int | None = None
    device: str | None = None


def read_bind(text: str) -> Bind:
    """`*` or `[::]`, which take both families, `0.0.0.0`, `[::] v6only`, or an address; with `%DEVICE` after it."""
    body, only, rest = text.partition(" ")
    if only and rest.strip() != "v6only":
        raise ValueError(f"`{rest}` is nothing that a socket may be: `v6only` is")
    host, percent, device = body.partition("%")
    zone = re.fullmatch(r"([^]%]+)\]?", device) if host.startswith("[") else None
    if zone is not None and device.endswith("]"):
        host, device = host + "]", zone[1]
    if percent:
        read_iface(device)
    plain = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if plain in ("*", "0.0.0.0", "::"):
        families = {"*": tuple(Family), "0.0.0.0": (IPV4,), "::": tuple(Family)}[plain]
        if only and plain != "::":
            raise ValueError("`v6only` goes with `[::]`")
        return Bind((Family.IPV6,) if only else families, None, device or None)
    if only:
        raise ValueError("`v6only` goes with `[::]`")
    address, family = read_either(plain)
    if family is Family.IPV6 and address & LINK_LOCAL.mask == LINK_LOCAL.address and not device:
        raise ValueError(f"the link-local address {plain} needs its interface: `%DEVICE`")
    return Bind((family,), address, device or None)


def read_sockets(text: str) -> Mapping[Family, Listener]:
    """`[udp/]ADDRESS:PORT[%DEVICE][ v6only][ transparent]`: the listener that it is in each family that it takes.

    `*` and `[::]` take both, as a socket of Linux does that is not `v6only`.
    """
    protocol = TCP
    rest = text
    if "/" in text:
        word, _, rest = text.partition("/")
        if word not in ("tcp", "udp"):
            raise ValueError(f"a process listens on tcp or udp, not on `{word}`")
        protocol = UDP if word == "udp" else TCP
    rest, transparent = re.subn(r"[ \t]+transparent$", "", rest)
    body, only, rest = rest.partition(" ")
    found = re.fullmatch(r"(\[[^]]*\]|[^][:]*|\*):([^:%\]]*)(%.*)?", body)
    if found is None or not found[1]:
        raise ValueError(f"`{text}` is no socket that listens")
    bound = read_bind(found[1] + (found[3] or "") + only + rest)
    port = read_port(found[2])
    its = IPV4 if bound.address is None else bound.families[0]
    listener = Listener(port, bound.address, protocol, bound.device, its, bool(transparent))
    return dict.fromkeys(bound.families, listener)


def read_listener(text: str) -> Listener:
    """The listener that this is, whichever families it takes."""
    return next(iter(read_sockets(text).values()))


def read_dial(text: str) -> Dial:
    """`original-destination`, or `ADDRESS:PORT`, where either may be that of the original destination."""
    if text == "original-destination":
        return Dial()
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError(f"`{text}` is nowhere to connect to")
    number = None if port == "{port}" else read_port(port)
    if host == "{address}":
        return Dial(None, number)
    bracketed = host.startswith("[") and host.endswith("]")
    if ":" in host and not bracketed:
        raise ValueError(f"an IPv6 address before a port stands in brackets: `[{host}]:{port}`")
    address, family = read_either(host[1:-1] if bracketed else host)
    if family is Family.IPV6 and address & LINK_LOCAL.mask == LINK_LOCAL.address:
        raise ValueError(f"a proxy that connects to the link-local address {host[1:-1]} is not read")
    return Dial(address, number, family)
