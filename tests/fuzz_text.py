"""`python -m tests.fuzz_text --seconds N [--guided]`: rule text that nobody would write, put to every reader of rule text.

Whatever is put, a reader answers with rules or with our own error family, within a time and a memory limit; and what
is spelled of the rules that it answers with is read back as the same rules.
"""

from __future__ import annotations

import argparse
import random
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, FunctionType

from msgspec import Struct

from verifier import spell, spell_sets
from verifier.reading.errors import InputError
from verifier.reading.ipset import read_sets
from verifier.reading.rules import read_literals, read_rules
from verifier.values import Place

from .corpus.manifest import CORPUS

OWN = Path(__file__).parent / "corpus"
PROOFS = Path(__file__).parents[1] / "proofs"
SECONDS = 5
"""The time limit of one input, whose size is at most LARGEST."""
LARGEST = 40_000
MEGABYTES = 2_000


LISTING = "listing"


class Finding(Struct, frozen=True):
    """An input on which a reader failed; `kind` is what and where, which two inputs share that fail alike."""

    kind: str
    entry: str
    text: str
    shown: str


class TookTooLong(BaseException):
    """Not an Exception: nothing that a reader catches may swallow it."""


# -- the readers ------------------------------------------------------------------------------------------


def _rules(text: str) -> None:
    _and_back(text, None)


def _rules_of_nat(text: str) -> None:
    _and_back(text, "nat")


def _and_back(text: str, table: str | None) -> None:
    found = read_rules(text, "fuzz", table)
    for family, rules in found.families.items():
        written = spell.rule_set(rules)
        if not rules.tables or len(written) > 20 * LARGEST:
            continue
        try:
            again = read_rules(written, "spelled", table, family).families
        except InputError:
            if found.format == LISTING:
                continue  # what a listing says in words of its own is no option that iptables would take
            raise
        assert again == {family: rules}, "what is spelled is read back as something else"


def _literals(text: str) -> None:
    line = max(text.split("\n"), key=len)
    found = read_literals(line, Place("fuzz", 1, 1))
    assert read_literals(spell.literals(found), Place("fuzz", 1, 1)) == found, (
        "a condition is read back as another"
    )


def _sets(text: str) -> None:
    found = read_sets(text, "fuzz")
    again = read_sets(spell_sets.sets(found.values()), "spelled")
    assert again == found, "what is spelled is read back as other sets"


ENTRIES: dict[str, Callable[[str], None]] = {
    "read_rules": _rules,
    "read_rules, table nat": _rules_of_nat,
    "read_literals": _literals,
    "read_sets": _sets,
}


def trial(entry: str, text: str, seconds: float = SECONDS) -> Finding | None:
    """What is wrong with a reader's answer to a text, or None."""
    try:
        with _at_most(seconds):
            ENTRIES[entry](text)
    except InputError as e:
        if e.place.file == "spelled":
            return Finding(f"what is spelled is refused: {e.code}", entry, text, str(e))
        try:
            str(e)
        except Exception as bad:
            return _finding(bad, entry, text)
    except TookTooLong as e:
        return _finding(e, entry, text)
    except Exception as e:
        return _finding(e, entry, text)
    return None


def _finding(e: BaseException, entry: str, text: str) -> Finding:
    frames = [
        f for f in traceback.extract_tb(e.__traceback__) if "/verifier/" in f.filename
    ] or traceback.extract_tb(e.__traceback__)
    last = frames[-1]
    where = (
        ""
        if isinstance(e, TookTooLong | RecursionError | MemoryError)
        else f" in {Path(last.filename).name}: {last.name}"
    )
    said = f": {e}" if isinstance(e, AssertionError) and str(e).startswith("what is spelled") else ""
    shown = "".join(traceback.format_exception(e)[-8:])[-1500:]
    return Finding(f"{type(e).__name__}{where}{said}", entry, text, shown)


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    def ring(_: int, __: FrameType | None) -> None:
        raise TookTooLong(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# -- inputs -----------------------------------------------------------------------------------------------


def pool() -> tuple[str, ...]:
    """Texts to start from: our own, and the corpus where it is there; none of them long."""
    files = [*sorted(OWN.iterdir()), *sorted(PROOFS.rglob("*.rules"))]
    if CORPUS.is_dir():
        files += sorted(
            p for p in CORPUS.rglob("*") if p.is_file() and p.parent != CORPUS and "canon" not in p.parts
        )
    texts = []
    for file in files:
        if file.is_file() and file.suffix not in (".py", ".tsv"):
            texts.append(file.read_bytes()[:LARGEST].decode("utf-8", "replace"))
    return tuple(texts)


_ODD = (
    "\0", "\r", "\r\n", "\t", "\u00a0", "\u2028", "\ufeff", "\x1b[2J", "é", "𝟙", "٣", "\\", '"', "'", "!", "! !", "-", "--", "=", ",", ":",
    "/", "#", "*", "*filter", "COMMIT", ":INPUT DROP", ":X - [0:0]", "-A INPUT", "-j X", "-g X", "-m", "-m comment --comment", "-p 0",
    "-p tcp", "-p 256", "-s ::/0", "-s 0/0", "-d 1.2.3.4/255.0.255.0", "--dport 0:65535", "--dport 65536", "-1", "0x", "0xffffffffffffffffff",
    "99999999999999999999", "1e3", "-N X", "-I INPUT 0", "-I INPUT 99999999999", "-R INPUT 1", "-D INPUT 1", "-F", "-X", "-E X Y", "-P INPUT",
    "[0:0]", "[1:", "-c 1", "-c 1 2", "-4", "-6", "--", "-t nat", "+ iptables", "iptables -t", "Chain X (1 references)", "()", "$x", "`x`",
    "create x hash:ip", "add x 1.2.3.4", "Name: x", "Members:", "--match-set x src,dst", "--state", "--ctstate ,", "--mark 0x1/", "--ports ,,",
)  # fmt: skip


def mutant(rng: random.Random, texts: Sequence[str]) -> str:
    """A text of the pool after a few changes."""
    text = rng.choice(texts)
    if rng.random() < 0.5 and len(text) > 600:
        lines = text.split("\n")
        begin = rng.randrange(len(lines))
        text = "\n".join([*lines[: min(3, begin)], *lines[begin : begin + rng.randint(1, 12)], *lines[-2:]])
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        text = rng.choice(CHANGES)(rng, text, texts)
    return text[:LARGEST]


def _of_lines(rng: random.Random, text: str, texts: Sequence[str]) -> str:
    """Lines deleted, doubled, swapped, moved."""
    lines = text.split("\n")
    a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(5):
        case 0:
            del lines[min(a, b) : max(a, b) if rng.random() < 0.3 else min(a, b) + 1]
        case 1:
            lines.insert(b, lines[a])
        case 2:
            lines[a], lines[b] = lines[b], lines[a]
        case 3:
            lines.insert(b, lines.pop(a))
        case _:
            lines[a] += " " + lines[b]
    return "\n".join(lines)


def _of_words(rng: random.Random, text: str, texts: Sequence[str]) -> str:
    """Words of one line deleted, doubled, swapped, taken from elsewhere."""
    lines = text.split("\n")
    n = rng.randrange(len(lines))
    words = lines[n].split(" ")
    a, b = rng.randrange(len(words)), rng.randrange(len(words))
    other = rng.choice(rng.choice(texts).split() or ["x"])
    match rng.randrange(6):
        case 0:
            del words[a]
        case 1:
            words.insert(b, words[a])
        case 2:
            words[a], words[b] = words[b], words[a]
        case 3:
            words[a] = other
        case 4:
            words.insert(a, other)
        case _:
            words[a] = rng.choice(_ODD)
    lines[n] = " ".join(words)
    return "\n".join(lines)


def _of_characters(rng: random.Random, text: str, texts: Sequence[str]) -> str:
    """A few characters deleted, changed, put in."""
    at = rng.randrange(len(text) + 1)
    match rng.randrange(4):
        case 0:
            return text[:at] + text[at + rng.randint(1, 5) :]
        case 1:
            return text[:at] + chr(rng.choice((rng.randrange(128), rng.randrange(0x2FFF)))) + text[at + 1 :]
        case 2:
            return text[:at] + rng.choice(_ODD) + text[at:]
        case _:
            return text[:at]


def _splice(rng: random.Random, text: str, texts: Sequence[str]) -> str:
    """The beginning of one and the end of another."""
    other = rng.choice(texts)
    return text[: rng.randrange(len(text) + 1)] + other[rng.randrange(len(other) + 1) :]


def _of_numbers(rng: random.Random, text: str, texts: Sequence[str]) -> str:
    """One number becomes another, near a bound."""
    found = list(re.finditer(r"\d+", text))
    if not found:
        return text
    one = rng.choice(found)
    bounds = (
        0,
        1,
        15,
        16,
        28,
        29,
        31,
        32,
        33,
        63,
        64,
        127,
        128,
        129,
        255,
        256,
        65535,
        65536,
        2**31,
        2**32 - 1,
        2**32,
        2**64,
        10**30,
    )
    return text[: one.start()] + str(rng.choice(bounds)) + text[one.end() :]


def _long(rng: random.Random, text: str, texts: Sequence[str]) -> str:
    """A piece many times over, in its place: long words, long lines, many rules."""
    begin = rng.randrange(len(text) + 1)
    piece = text[begin : begin + rng.choice((1, 1, 3, 10, 40))]
    return text[:begin] + piece * rng.choice((30, 300, 3000)) + text[begin:]


def _deep(rng: random.Random, text: str, texts: Sequence[str]) -> str:
    """Chains that call each other, a long way down or in a ring; addresses times addresses."""
    n = rng.choice((3, 20, 60, 60, 700))
    call = rng.choice(("-j", "-g"))
    match rng.randrange(4):
        case 0:
            heads = [f":C{k} - [0:0]" for k in range(n)]
            ring = rng.choice(([], [f"-A C{n - 1} {call} C0"]))
            return "\n".join(
                ["*filter", *heads, *(f"-A C{k} {call} C{k + 1}" for k in range(n - 1)), *ring, "COMMIT", ""]
            )
        case 1:
            many = ",".join(f"10.0.{k // 250}.{k % 250}" for k in range(n))
            return f"*filter\n-A INPUT -s {many} -d {many} -j ACCEPT\nCOMMIT\n"
        case 2:
            return "*filter\n-A INPUT " + "! " * n + "-p tcp\nCOMMIT\n"
        case _:
            return "*filter\n-A INPUT " + "-m tcp -p tcp --dport 1 " * n + "\nCOMMIT\n"


def _of_ends(rng: random.Random, text: str, texts: Sequence[str]) -> str:
    """Line ends of another system, or none."""
    return text.replace("\n", rng.choice(("\r\n", "\r", "\n\n", " \n", "\\\n", "")), rng.choice((1, -1)))


CHANGES = (
    _of_lines,
    _of_lines,
    _of_words,
    _of_words,
    _of_words,
    _of_characters,
    _splice,
    _of_numbers,
    _long,
    _deep,
    _of_ends,
)


# -- smaller ------------------------------------------------------------------------------------------------


def shrink(finding: Finding, seconds: float = 10.0) -> Finding:
    """A smaller input that fails alike: lines, then words, then characters are left out while it does."""
    until = time.monotonic() + seconds
    for split, join in ((r"(?<=\n)", ""), (r"(?<= )", ""), ("", "")):
        parts = [p for p in re.split(split, finding.text) if p] if split else list(finding.text)
        size = max(1, len(parts) // 2)
        while size and time.monotonic() < until:
            begin, shorter = 0, False
            while begin < len(parts) and time.monotonic() < until:
                rest = parts[:begin] + parts[begin + size :]
                found = trial(finding.entry, join.join(rest))
                if found is not None and found.kind == finding.kind:
                    parts, finding, shorter = rest, found, True
                else:
                    begin += size
            size = size if shorter and size > 1 else size // 2
    return finding


# -- the hunt -----------------------------------------------------------------------------------------------


def hunt(
    seed: int, inputs: int | None = None, seconds: float | None = None
) -> tuple[int, dict[str, Finding]]:
    """How many inputs were put, and the smallest failing one of each kind, before it is shrunk."""
    rng = random.Random(seed)
    texts = pool()
    until = time.monotonic() + (seconds if seconds is not None else 1e9)
    found: dict[str, Finding] = {}
    n = 0
    while time.monotonic() < until and (inputs is None or n < inputs):
        text = mutant(rng, texts)
        for entry in ENTRIES:
            finding = trial(entry, text)
            if finding is not None and len(text) < len(found.get(finding.kind, finding).text) + 1:
                found[finding.kind] = finding
        n += 1
    return n, found


def guided(seconds: float, seed: int) -> int:
    """As `hunt`, where atheris is installed: libFuzzer keeps the inputs that reach code which none reached before, and
    our mutations make the next ones of them.  Ends the process at the first failure.
    """
    try:
        import atheris
    except ImportError:
        print("atheris is not installed")
        return 2
    texts = pool()
    for name, module in list(sys.modules.items()):
        if name.startswith("verifier.") and module is not None:
            for value in list(vars(module).values()):
                if isinstance(value, FunctionType) and value.__module__ == name:
                    atheris.instrument_func(value)

    def put(data: bytes) -> None:
        for entry in ENTRIES:
            if (finding := trial(entry, data.decode(errors="replace"))) is not None:
                raise RuntimeError(
                    f"{finding.kind}\n{finding.entry}({finding.text[:2000]!r})\n{finding.shown}"
                )

    def mutated(data: bytes, most: int, number: int) -> bytes:
        rng = random.Random(number)
        text = data.decode(errors="replace") if rng.randrange(4) else rng.choice(texts)
        return rng.choice(CHANGES)(rng, text, texts).encode()[:most]

    limits = [
        "-timeout=0",
        "-handle_alrm=0",
        f"-rss_limit_mb={MEGABYTES}",
        f"-max_len={LARGEST}",
        f"-seed={seed}",
    ]
    atheris.Setup([sys.argv[0], f"-max_total_time={seconds:.0f}", *limits], put, custom_mutator=mutated)
    atheris.Fuzz()
    return 0


def main() -> int:
    asked = argparse.ArgumentParser(prog="python -m tests.fuzz_text", description=__doc__)
    asked.add_argument("--seconds", type=float, default=60)
    asked.add_argument("--seed", type=int, default=None)
    asked.add_argument("--guided", action="store_true", help="by what code an input reaches, with atheris")
    given = asked.parse_args()
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(1 << 32)
    if given.guided:
        return guided(given.seconds, seed % (1 << 31) or 1)
    with suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (MEGABYTES << 20, resource.getrlimit(resource.RLIMIT_AS)[1]))
    n, found = hunt(seed, seconds=given.seconds)
    print(f"{n} inputs, {len(found)} kinds of failure, seed {seed}")
    smallest = sorted((shrink(f) for f in found.values()), key=lambda f: len(f.text))
    for finding in smallest:
        print(f"\n== {finding.kind}\n{finding.entry}({finding.text[:500]!r})\n{finding.shown}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
