"""What `-m recent` remembers in a namespace."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from .namespaces import Namespace

LISTS = Path("/proc/thread-self/net/xt_recent")
"""Of the namespace that this thread is in; not there where no rule has asked for one."""


class Seen(Struct, frozen=True):
    """An address, masked as its list has it, of so many packets in the list of this name."""

    name: str
    address: str
    times: int = 1


def remember(namespace: Namespace, some: Iterable[Seen]) -> None:
    """The lists that are there forget everything but this, just now (net/netfilter/xt_recent.c: recent_mt_proc_write)."""
    with namespace.entered():
        lists = {path.name: path for path in LISTS.iterdir()} if LISTS.exists() else {}
        for path in lists.values():
            path.write_text("/\n")
        for seen in some:
            for _ in range(seen.times if seen.name in lists else 0):
                lists[seen.name].write_text(f"+{seen.address}\n")
