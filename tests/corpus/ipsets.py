"""Ip sets are read from what `ipset restore` takes, and from what `ipset save` and `ipset list` then print; what is spelled
of them makes the same sets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from verifier import spell_sets
from verifier.kernel.namespaces import CommandFailed, Namespace
from verifier.reading.errors import InputError
from verifier.reading.ipset import BEGIN, END, read_file, read_sets

from . import manifest
from .verdicts import Case, general

LAW = "ipsets"

SETS = (
    "create x hash:ip\nadd x 10.0.0.1\nadd x 10.0.0.9",
    "create x hash:ip netmask 24\nadd x 10.0.1.1\nadd x 10.0.2.9",
    "create x hash:ip family inet6\nadd x 2001:db8::1",
    "create x hash:net\nadd x 10.0.0.0/8\nadd x 10.1.0.0/16 nomatch\nadd x 192.0.2.1",
    "create x hash:net family inet6\nadd x 2001:db8::/32\nadd x 2001:db8:1::/48 nomatch",
    "create x hash:mac\nadd x 00:11:22:33:44:55",
    "create x hash:ip,port\nadd x 10.0.0.1,tcp:80\nadd x 10.0.0.1,udp:53\nadd x 10.0.0.2,icmp:ping\nadd x 10.0.0.3,47:0",
    "create x hash:ip,port,ip\nadd x 10.0.0.1,80,10.0.0.2",
    "create x hash:ip,port,net\nadd x 10.0.0.1,tcp:http,10.1.0.0/16",
    "create x hash:net,port\nadd x 10.0.0.0/8,tcp:80\nadd x 10.1.0.0/16,sctp:9",
    "create x hash:net,net\nadd x 10.0.0.0/8,192.0.2.0/24",
    "create x hash:net,port,net\nadd x 10.0.0.0/8,tcp:1-3,192.0.2.0/24",
    "create x hash:net,iface\nadd x 10.0.0.0/8,eth0\nadd x 10.0.0.0/8,physdev:eth1",
    "create x hash:ip,mark markmask 0xff\nadd x 10.0.0.1,0x12",
    "create x hash:ip,mac\nadd x 10.0.0.1,00:11:22:33:44:55",
    "create x bitmap:ip range 10.0.0.0/24\nadd x 10.0.0.1-10.0.0.3",
    "create x bitmap:ip,mac range 10.0.0.0/24\nadd x 10.0.0.1,00:11:22:33:44:55\nadd x 10.0.0.2",
    "create x bitmap:port range 0-1024\nadd x 80\nadd x 100-110",
    'create x hash:ip counters comment\nadd x 10.0.0.1 comment "a b"',
    "create a hash:ip\ncreate x list:set\nadd x a\nadd a 10.0.0.1",
    "create x hash:ip\nadd x 10.0.0.1\nadd x 10.0.0.1 -exist\ndel x 10.0.0.1\nadd x 10.0.0.2-10.0.0.5",
    "create x hash:ip\nadd x 10.0.0.1\nadd x 10.0.0.1",
    "create x hash:ip\ncreate x hash:ip",
    "create x hash:ip\nadd y 10.0.0.1",
    "create x hash:nosuch",
    "create x hash:ip\nadd x 2001:db8::1",
    "create x hash:ip\nadd x 10.0.0.1,tcp:80",
)
"""A set of each type, forms that `ipset restore` takes, and some that it refuses."""


def texts() -> dict[str, str]:
    """These, and the corpus' own files."""
    found = {text.replace("\n", "; "): text + "\n" for text in SETS}
    return found | {
        e.path: e.file.read_text(encoding="utf-8") for e in manifest.entries() if e.format == "ipset"
    }


def cases() -> Iterator[Case]:
    for name, text in texts().items():
        yield judge(name, text)


def judge(name: str, text: str) -> Case:
    kind = "a file" if name.endswith(".ipset") else "a set"

    def case(outcome: str, cause: str = "", detail: str = "") -> Case:
        return Case(LAW, name, kind, outcome, cause, detail)

    real = made(_section(text))
    if isinstance(real, str) and "set type not supported" in real:
        return case("unknown to this kernel")
    try:
        found = read_file(text, name).sets
    except InputError as e:
        if isinstance(real, str):
            return case("refused by both", detail=f"{e.message}; {real}")
        return case("refused", f"refused, and ipset takes it: {e.code} {general(e.message)}", str(e))
    if isinstance(real, str):
        return case("read", f"read, and ipset refuses it: {general(real)}", real)
    spelled = made(spell_sets.sets(found.values()))
    if isinstance(spelled, str):
        return case("not made", f"what is spelled is refused: {general(spelled)}", spelled)
    if _plain(spelled[0]) != _plain(real[0]):
        odd = sorted(set(_plain(real[0])) ^ set(_plain(spelled[0])))
        return case("differs", "what is spelled makes other sets", "; ".join(odd[:4]))
    for printed, what in zip(real, ("save", "list"), strict=True):
        try:
            again = read_sets(printed, what)
        except InputError as e:
            return case(
                "refused", f"what `ipset {what}` prints is refused: {e.code} {general(e.message)}", str(e)
            )
        if {n: frozenset(s.entries) for n, s in again.items()} != {
            n: frozenset(s.entries) for n, s in found.items()
        }:
            return case("differs", f"what `ipset {what}` prints is read as other sets", printed)
    return case("the same")


def _section(text: str) -> str:
    """The part of a file that is ipset's, where rules and sets share it."""
    return text.partition(BEGIN)[2].partition(END)[0] if BEGIN in text else text


def made(text: str) -> tuple[str, str] | str:
    """What `ipset save` and `ipset list` print once ipset has restored a text, or its words where it refuses it."""
    namespace = Namespace()
    try:
        namespace.run(["ipset", "restore"], text)
        return namespace.run(["ipset", "save", "-sorted"]), namespace.run(["ipset", "list", "-sorted"])
    except CommandFailed as e:
        return str(e).partition("\n")[2]
    finally:
        namespace.close()


def _plain(text: str) -> list[str]:
    """The lines in any order, without sizes, seeds, counters, comments and what time has taken from a timeout."""
    bare = re.sub(
        r" (hashsize|maxelem|bucketsize|initval|packets|bytes|comment|skb\w+|counters|size)( 0x\w+\S*| \d+| \"[^\"]*\")?",
        "",
        text,
    )
    return sorted(re.sub(r"(?m)^(add .* timeout) \d+", r"\1", bare).splitlines())
