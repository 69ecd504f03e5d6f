"""`python -m tests.corpus.differential --seconds N`: rules made of words of the iptables project's own tests, put to
iptables-restore and to the reader: both take a rule or neither does, and what is spelled of it is printed back alike.
"""

from __future__ import annotations

import argparse
import random
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, pairwise

from msgspec import Struct

from . import reader, saved, tool
from .extensions import BY_NAME, IN_SCOPE, extension
from .manifest import extension_lines
from .meaning import cause
from .placement import CHAINS
from .verdicts import Case, general, report, table

LAW = "differential"


class Stock(Struct, frozen=True):
    """Pieces of rules that a family's own tests have: groups of words, and the values that each option was given."""

    matches: tuple[tuple[str, ...], ...]
    targets: tuple[tuple[str, ...], ...]
    values: Mapping[str, tuple[str, ...]]


def stock(family: str) -> Stock:
    """The pieces of all lines of extensions in scope, those that iptables refuses too."""
    matches: dict[tuple[str, ...], None] = {}
    targets: dict[tuple[str, ...], None] = {}
    values: dict[str, dict[str, None]] = {}
    for line in extension_lines():
        name = extension(line.file)
        if line.family != family or not (name in IN_SCOPE or name in BY_NAME):
            continue
        rule = saved.words(line.rule)
        pieces = saved.grouped(rule)
        for group in pieces.matches:
            protocol = _protocol(pieces.header) if line.here == "OK" else ()
            matches[(*protocol, "-m", *group)] = None
        if pieces.target:
            targets[(*_protocol(pieces.header), *pieces.target)] = None
        for option, value in pairwise(rule):
            if option.startswith("--") and not value.startswith("-"):
                values.setdefault(option, {})[value] = None
    return Stock(tuple(matches), tuple(targets), {option: tuple(found) for option, found in values.items()})


def _protocol(header: Sequence[str]) -> tuple[str, ...]:
    found = re.search(r"(?:! )?-p \S+", " ".join(header))
    return tuple(found[0].split()) if found else ()


HEADERS: Mapping[str, tuple[str, ...]] = {
    "v4": ("", "", "", "-s 10.0.0.0/8", "! -d 127.0.0.1/32", "-i eth0", "! -o lo", "-p tcp", "-p udp", "! -p 17", "-p icmp", "-f", "-s 0.0.0.0/0",
           "-p all", "-p 132", "-s 10.1.2.3/255.0.255.0", "-i eth+", "-p esp", "-o +", "-p ah", "-p udplite"),
    "v6": ("", "", "", "-s 2001:db8::/32", "! -d ::1/128", "-i eth0", "! -o lo", "-p tcp", "-p udp", "! -p 17", "-p ipv6-icmp", "-s ::/0",
           "-p icmpv6", "-p 58", "-d fe80::1/ffff::ffff", "-s ::ffff:1.2.3.4", "-p esp", "-o +", "-p mh", "-p ipv6-frag"),
}  # fmt: skip

REFUSED_SINCE = (r"is not a port range", r"ends before it begins")
"""What iptables 1.8.9 takes and later ones refuse, as their tests want."""
TAKEN_SINCE = (r"Unknown ICMPv6 type `mld-", r"Set \S+ doesn't exist")
"""What it refuses, and later ones take; and what hangs on the sets that are there."""

NUMBERS = (
    0,
    1,
    2,
    7,
    15,
    16,
    31,
    32,
    33,
    63,
    64,
    127,
    128,
    255,
    256,
    1000,
    65535,
    65536,
    2**31,
    2**32 - 1,
    2**32,
)


def rule(rng: random.Random, family: str, of: Stock) -> tuple[str, ...]:
    """A rule's words: pieces put together, and sometimes a word of them changed."""
    words: list[str] = rng.choice(HEADERS[family]).split()
    for _ in range(rng.choice((0, 1, 1, 1, 2))):
        words += rng.choice(of.matches)
    words += (
        rng.choice(of.targets) if rng.random() < 0.45 else rng.choice((("-j", "ACCEPT"), ("-j", "DROP"), ()))
    )
    while words and rng.random() < 0.4:
        at = rng.randrange(len(words))
        match rng.randrange(6):
            case 0:
                words[at] = re.sub(r"\d+", lambda _: str(rng.choice(NUMBERS)), words[at], count=1)
            case 1 if words[at] in of.values and at + 1 < len(words):
                words[at + 1] = rng.choice(of.values[words[at]])
            case 2 if words[at].startswith("-"):
                words.insert(at, "!")
            case 3:
                words[at] = re.sub(r"\d+", lambda found: hex(int(found[0][:9])), words[at], count=1)
            case 4 if words[at].startswith("--"):
                words[at] = words[at][: rng.randint(4, max(4, len(words[at])))]
            case 5 if words[at] == "!":
                del words[at]
            case _:
                pass
    return tuple(words)


class Put(Struct, frozen=True):
    """A rule, where it is put, and as what."""

    family: str
    table: str
    chain: str
    words: tuple[str, ...]

    @property
    def text(self) -> str:
        return f"*{self.table}\n-A {self.chain} {' '.join(_word(w) for w in self.words)}\nCOMMIT\n"


def _word(word: str) -> str:
    if re.fullmatch(r"[^\s\"'\\]+", word):
        return word
    return '"' + re.sub(r'(["\\])', r"\\\1", word) + '"'


def judge(put: Put) -> Case:
    place = f"{put.family} {put.text.split(chr(10))[0]} {put.text.split(chr(10))[1]}"
    got = tool.load(put.text, put.family, "legacy")
    loads = "loads" if isinstance(got, tool.Loaded) else "is refused"

    def case(outcome: str, cause: str = "", detail: str = "") -> Case:
        return Case(LAW, place, loads, outcome, cause, detail)

    match reader.ask(put.text, "t", put.family):
        case reader.Crashed(where, trace):
            return case("crashed", f"an exception that is not ours: {where}", trace[-600:])
        case reader.Refused(code, message):
            if isinstance(got, tool.Loaded):
                if any(re.search(pattern, message) for pattern in REFUSED_SINCE):
                    return case("refused, as by later ones")
                return case("refused", f"refused, and iptables takes it: {code} {general(message)}", message)
            return case("refused")
        case reader.Read() as heard:
            if put.family not in heard.rules:
                return case("other family", "read as the other family")
            if isinstance(got, tool.NotLoaded):
                if reader.refusal_found(heard) is not None:
                    return case("linted")
                if reader.opaque(heard):
                    return case("opaque")
                if any(re.search(pattern, got.error) for pattern in TAKEN_SINCE):
                    return case("read, as by later ones")
                what = general(got.error)
                return case("read", f"read, and iptables refuses it: {what}", got.error)
            if (finding := reader.refusal_found(heard)) is not None:
                return case("linted", "found unloadable, and it loads", finding)
            mine = tool.load(reader.spelled(heard.rules[put.family]), put.family, "legacy")
            if isinstance(mine, tool.NotLoaded):
                return case(
                    "not loaded",
                    f"what we spell is refused: {general(mine.error)}",
                    mine.error,
                )
            difference = saved.compare(got.saved, mine.saved)
            if difference.left:
                return case("differs", cause(difference.left), difference.left)
            return case("opaque" if reader.opaque(heard) else "the same")


def puts(seed: int) -> Iterator[Put]:
    """Rules without end."""
    rng = random.Random(seed)
    stocks = {family: stock(family) for family in HEADERS}
    while True:
        family = rng.choice(("v4", "v6"))
        name = rng.choice(("filter", "filter", "mangle", "nat", "raw"))
        yield Put(family, name, rng.choice(CHAINS[name]), rule(rng, family, stocks[family]))


def main() -> int:
    wanted = argparse.ArgumentParser(prog="python -m tests.corpus.differential", description=__doc__)
    wanted.add_argument("--seconds", type=float, default=60)
    wanted.add_argument("--seed", type=int, default=None)
    asked = wanted.parse_args()
    if why := tool.missing():
        print(why)
        return 2
    seed = asked.seed if asked.seed is not None else random.SystemRandom().randrange(1 << 32)
    source = puts(seed)
    until = time.monotonic() + asked.seconds
    cases: list[Case] = []
    with ThreadPoolExecutor(2) as pool:
        while time.monotonic() < until:
            cases += pool.map(judge, islice(source, 100))
    print(f"{len(cases)} rules, seed {seed}\n\n{table(cases)}\n\n{report(cases)}")
    return 1 if any(case.cause for case in cases) else 0


if __name__ == "__main__":
    raise SystemExit(main())
