"""A set while it is read: what `create` says of it, and its entries so far.

Comments, counts and sizes are read, and forgotten: no packet is matched by them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from ..sets import (
    BITMAPS,
    KINDS,
    LAST_TIMEOUT,
    Element,
    Entry,
    InterfaceName,
    IpSet,
    Kind,
    Member,
    NoMac,
    Range,
    SetType,
    check,
    members,
)
from ..values import ALL_32, Family
from . import ipset_entries as text_of
from .errors import did_you_mean
from .lines import Line, Word
from .scalars import number, port

USUAL_SIZE = 65536
"""How many entries a hash holds unless `maxelem` says otherwise."""


class Draft:
    """A set without its entries, and the entries so far, by what must not be there twice."""

    def __init__(self, head: IpSet, line: Line, most: int, steps: bool) -> None:
        self.head = head
        self.line = line
        self.most = most
        self.steps = steps
        """Its mask was given as `netmask`."""
        self.entries: dict[tuple[Element, ...], Entry] = {}
        self._overlaps = False

    def key(self, elements: tuple[Element, ...]) -> tuple[Element, ...]:
        """The entry that is there already where these are added, or these.

        In hash:net,iface that is also an earlier one of the same network whose wildcard covers the interface
        (net/netfilter/ipset/ip_set_hash_netiface.c: hash_netiface4_data_equal).
        """
        if self.head.type is SetType.BITMAP_IP_MAC:
            return elements[:1]
        if self._overlaps and elements not in self.entries:
            net, new = elements
            assert isinstance(new, InterfaceName)
            for there in self.entries:
                old = there[1]
                assert isinstance(old, InterfaceName)
                if (
                    there[0] == net
                    and old.wildcard
                    and old.physical == new.physical
                    and new.name.startswith(old.name)
                ):
                    return there
        return elements

    def put(self, entry: Entry, exist: bool) -> None:
        """Raises ValueError where the set cannot hold it, or, unless `exist`, where it is there already."""
        check(self.head, entry)
        key = self.key(entry.elements)
        there = self.entries.get(key)
        if there is None:
            if len(self.entries) >= self.most:
                raise text_of.TooMany(f"{self.head.name} is full: it holds {self.most} entries")
            self.entries[key] = entry
        elif isinstance(there.elements[-1], NoMac):
            self.entries[key] = entry
        elif there.elements[-1] != entry.elements[-1] and not exist:
            raise ValueError("an earlier wildcard of the same network covers this interface")
        elif not exist:
            raise ValueError("this is there already, and `-exist` does not stand in its line")
        else:
            self.entries[key] = replace(there, nomatch=entry.nomatch, timeout=entry.timeout)
        self._overlaps = self._overlaps or any(
            isinstance(e, InterfaceName) and e.wildcard for e in entry.elements
        )

    def move(self, before: str | None, after: str | None) -> None:
        """In a list of sets, put the last entry before or after the one with this name."""
        order = list(self.entries.items())
        last = order.pop()
        at = next((i for i, (key, _) in enumerate(order) if key == (Member(before or after or ""),)), None)
        if at is None:
            raise ValueError(f"{before or after} is not in the list")
        order.insert(at if before else at + 1, last)
        self.entries = dict(order)

    def finished(self, drafts: Mapping[str, Draft]) -> IpSet:
        try:
            whole = replace(self.head, entries=tuple(self.entries.values()))
        except ValueError as e:
            raise self.line.error("S003", str(e)) from None
        for name in members(whole):
            if name not in drafts:
                raise self.line.error(
                    "S004", f"{whole.name} lists {name}, which is not here", hint="give all sets in one file"
                )
            if drafts[name].head.type is SetType.LIST_SET:
                raise self.line.error(
                    "S004", f"{whole.name} lists {name}, itself a list, and ipset refuses that"
                )
        return whole


# -- create -------------------------------------------------------------------------------------------

OLD_TYPES = {
    "ipmap": "bitmap:ip", "macipmap": "bitmap:ip,mac", "portmap": "bitmap:port", "iphash": "hash:ip",
    "nethash": "hash:net", "ipporthash": "hash:ip,port", "ipportiphash": "hash:ip,port,ip",
    "ipportnethash": "hash:ip,port,net", "setlist": "list:set",
}  # fmt: skip
"""The names of before ipset 6, which the tool still takes."""

_TYPES = {kind.value: kind for kind in SetType}
_VALUED = (
    "family", "range", "from", "to", "network", "netmask", "bitmask", "markmask", "timeout", "maxelem",
    "hashsize", "bucketsize", "initval", "size", "probes", "resize", "gc",
)  # fmt: skip
_FLAGS = ("counters", "comment", "skbinfo", "forceadd", "-4", "-6")
_NUMBERS = ("maxelem", "hashsize", "bucketsize", "initval", "size", "probes", "resize", "gc")


def created(line: Line, name: str, words: Sequence[Word], place: Line | None = None) -> Draft:
    """The set that `create NAME WORDS` makes; `words` begin with its type."""
    if not words:
        raise line.error("S002", "the type of the set is missing", line.end)
    kind = _TYPES.get(OLD_TYPES.get(words[0].text, words[0].text))
    if kind is None:
        near = did_you_mean(words[0].text, _TYPES) or f"types are {', '.join(_TYPES)}"
        raise (place or line).error("S002", f"`{words[0].text}` is no type of ip sets", words[0], near)
    said = dict(_pairs(line, words[1:], _VALUED, _FLAGS))
    try:
        head = _head(name, kind, said, line)
        most = _value(said, "maxelem", number) if kind not in BITMAPS else None
    except _Wrong as e:
        raise line.error("S003", str(e), e.at) from None
    except ValueError as e:
        raise line.error("S003", str(e)) from None
    return Draft(head, line, USUAL_SIZE if most is None else most, "bitmask" not in said)


class _Wrong(ValueError):
    """A word that is wrong, and where it stands."""

    def __init__(self, message: str, at: Word) -> None:
        super().__init__(message)
        self.at = at


def _head(name: str, kind: SetType, said: Mapping[str, Word], line: Line) -> IpSet:
    for key in _NUMBERS:
        _value(said, key, number)
    family = _family(kind, said)
    mask = _mask(said, family, kind)
    return IpSet(
        name,
        kind,
        family=family,
        mask=mask,
        mark_mask=ALL_32 if "markmask" not in said else _value(said, "markmask", number) or 0,
        range=_range(kind, said, mask),
        timeout=_value(said, "timeout", _seconds),
        counters="counters" in said,
        skbinfo="skbinfo" in said,
        place=line.place(),
    )


def _value(said: Mapping[str, Word], key: str, read: Callable[[str], int]) -> int | None:
    word = said.get(key)
    if word is None:
        return None
    try:
        return read(word.text)
    except ValueError as e:
        raise _Wrong(str(e), word) from None


def _seconds(text: str) -> int:
    value = number(text)
    if value > LAST_TIMEOUT:
        raise ValueError(f"a timeout is 0 to {LAST_TIMEOUT} seconds")
    return value


def _family(kind: SetType, said: Mapping[str, Word]) -> Family | None:
    found = Family.IPV6 if "-6" in said else Family.IPV4
    word = said.get("family")
    if word is not None:
        known = {"inet": Family.IPV4, "ipv4": Family.IPV4, "inet6": Family.IPV6, "ipv6": Family.IPV6}
        if word.text not in known:
            raise _Wrong(f"{word.text!r} is no family: it is inet or inet6", word)
        found = known[word.text]
    return found if {Kind.ADDRESS, Kind.NET} & set(KINDS[kind]) else None


def _mask(said: Mapping[str, Word], family: Family | None, kind: SetType) -> int | None:
    """`netmask` or `bitmask`; None for one of all bits, which the tool does not print either."""
    if "netmask" in said and "bitmask" in said:
        raise _Wrong("netmask and bitmask cannot both be given", said["bitmask"])
    word = said.get("netmask") or said.get("bitmask")
    if word is None:
        return None
    if family is None:
        raise _Wrong(f"{kind.value} has no mask", word)
    everything = (1 << family.bits) - 1
    try:
        if "bitmask" in said:
            # ipset 7.17 prints something it did not mean to after some, as in `bitmask 255.255.0.255/72`.
            mask = text_of.address(word.text.partition("/")[0], family)
        else:
            length = number(word.text)
            if not 1 <= length <= family.bits:
                raise ValueError(f"a netmask is 1 to {family.bits}")
            mask = everything & (everything << (family.bits - length))
    except ValueError as e:
        raise _Wrong(str(e), word) from None
    return None if mask == everything else mask


def _range(kind: SetType, said: Mapping[str, Word], mask: int | None) -> Range | None:
    if kind not in BITMAPS:
        return None
    word = said.get("range") or said.get("network") or said.get("from")
    if word is None:
        raise ValueError(f"{kind.value} needs `range FIRST-LAST`")
    text = word.text
    if "from" in said:
        text += f"-{said['to'].text}" if "to" in said else ""
    try:
        if kind is SetType.BITMAP_PORT:
            first, _, last = text.rpartition(":")[2].partition("-")
            ends = sorted((port(first), port(last or first)))
            return Range(*ends)
        first_, last_ = text_of.address_range(text, Family.IPV4)
        if mask is not None:
            first_, last_ = first_ & mask, last_ | (ALL_32 ^ mask)
        return Range(first_, last_)
    except ValueError as e:
        raise _Wrong(str(e), word) from None


def _pairs(
    line: Line, words: Sequence[Word], valued: Sequence[str], flags: Sequence[str]
) -> Iterator[tuple[str, Word]]:
    """Options and their values, a flag being its own; raises RuleError for one that is not known, or twice."""
    seen: set[str] = set()
    rest = iter(words)
    for word in rest:
        name = word.text if word.quoted else word.text.removeprefix("--")
        if name in seen:
            raise line.error("S002", f"`{name}` is given twice", word)
        seen.add(name)
        if name in flags and not word.quoted:
            yield name, word
        elif name in valued and not word.quoted:
            value = next(rest, None)
            if value is None:
                raise line.error("S002", f"`{name}` needs a value", line.end)
            yield name, value
        else:
            near = did_you_mean(name, (*valued, *flags))
            raise line.error("S002", f"`{word.text}` is no option here", word, near)


# -- add and del --------------------------------------------------------------------------------------


class Options(Struct, frozen=True):
    """What `add` says after the entry, as far as it bears on meaning."""

    nomatch: bool = False
    wildcard: bool = False
    timeout: int | None = None
    before: str | None = None
    after: str | None = None


NO_OPTIONS = Options()
_ADD_VALUED = (
    "timeout", "packets", "bytes", "comment", "skbmark", "skbprio", "skbqueue", "before", "after",
)  # fmt: skip


def options(line: Line, head: IpSet, words: Sequence[Word]) -> Options:
    """The options of an entry; raises RuleError where the set has no such thing."""
    said = dict(_pairs(line, words, _ADD_VALUED, ("nomatch", "wildcard")))
    iface = head.type is SetType.HASH_NET_IFACE
    lists = head.type is SetType.LIST_SET
    for key, allowed in (
        ("timeout", head.timeout is not None),
        ("packets", head.counters),
        ("bytes", head.counters),
        ("wildcard", iface),
        ("before", lists),
        ("after", lists),
    ):
        if key in said and not allowed:
            raise line.error(
                "S003",
                f"{head.name} was not created with `{key}`"
                if key == "timeout"
                else f"`{key}` is not for {head.name}",
                said[key],
            )
    try:
        timeout = _value(said, "timeout", _seconds)
        for key in ("packets", "bytes"):
            _value(said, key, number)
    except _Wrong as e:
        raise line.error("S003", str(e), e.at) from None
    before, after = (said[key].text if key in said else None for key in ("before", "after"))
    return Options("nomatch" in said, "wildcard" in said, timeout, before, after)


def add(line: Line, draft: Draft, entry: Word, said: Options, exist: bool, listed: bool = False) -> None:
    """Put what the entry's text stands for into the set; `listed` text is what is stored, and no command."""
    timeout = draft.head.timeout if said.timeout is None else said.timeout
    try:
        # Under a mask several addresses of one range are the same.
        for elements in dict.fromkeys(text_of.entries(draft.head, entry.text, said.wildcard, draft.steps)):
            draft.put(Entry(elements, said.nomatch, timeout), exist)
        if listed and draft.head.mask is not None and draft.head.range is None:
            _stored(draft, entry.text)
        if said.before or said.after:
            draft.move(said.before, said.after)
    except text_of.TooMany as e:
        raise line.error("S006", str(e), entry) from None
    except ValueError as e:
        raise line.error("S003", str(e), entry) from None


def _stored(draft: Draft, text: str) -> None:
    """Raises ValueError where a listed address has bits beyond the mask: the kernel stores some ranges so
    (observed on Linux 6.18, hash:ip,port), and no packet matches them.
    """
    bare = replace(draft.head, mask=None)
    if any(elements not in draft.entries for elements in text_of.entries(bare, text, False, True)):
        raise ValueError("this address has bits beyond the set's mask, so no packet is like it")


def delete(line: Line, draft: Draft, entry: Word, said: Options, exist: bool) -> None:
    try:
        for elements in text_of.entries(draft.head, entry.text, said.wildcard, draft.steps):
            if draft.entries.pop(draft.key(elements), None) is None and not exist:
                raise ValueError("this is not in the set")
    except ValueError as e:
        raise line.error("S003", str(e), entry) from None
