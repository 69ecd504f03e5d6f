"""Lists of iptables commands, run one after the other on tables that are empty at the beginning.

A command that iptables fails in changes nothing, and the others go on, as in a shell; a note says which and why.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct, field

from ..values import Family
from . import commands, families, saved, shell
from .detect import PROGRAM, PROMPT, TRACED, Format
from .errors import RuleError
from .lines import Line, Word
from .tables import Tables

FAILS = frozenset({"R008", "R010", "R013", "R016", "R017", "R018"})
"""The errors that are iptables' own, about the state of the tables and what may stand where, not about what we can read."""

MOST_SAID = 12
"""Failed commands that are told one by one."""

HARMLESS = frozenset(
    [
        "echo",
        "printf",
        ":",
        "true",
        "sleep",
        "logger",
        "sysctl",
        "modprobe",
        "insmod",
        "depmod",
        "lsmod",
        "ip",
        "ipset",
        "conntrack",
        "brctl",
        "ifconfig",
        "route",
        "tc",
        "mkdir",
        "touch",
        "chmod",
        "chown",
        "cp",
        "mv",
        "rm",
        "ls",
        "cat",
        "which",
        "hash",
        "umask",
        "ulimit",
        "date",
        "hostname",
        "cd",
        "wait",
        "rc-update",
        "chkconfig",
        "arptables",
        "ebtables",
        "arptables-save",
        "ebtables-save",
        "iptables-save",
        "ip6tables-save",
        "id",
        "whoami",
        "uname",
        "clear",
    ]
)
"""Programs that leave iptables' rules as they are, as far as this text calls them."""


RUNNERS = frozenset({
    "ip", "nsenter", "timeout", "nice", "ionice", "env", "chroot", "xargs", "ssh", "docker", "podman",
    "crictl", "kubectl", "flock", "stdbuf", "strace", "time", "setsid", "unshare", "busybox", "sh", "bash",
    "su", "runuser", "taskset", "nohup",
})  # fmt: skip
"""Programs that run others, of which no trace tells."""


class State(Struct):
    """The tables of both families while commands run, and what is to be said about it."""

    notes: list[str]
    tables: dict[Family, Tables] = field(default_factory=dict)
    failed: list[tuple[Line, str]] = field(default_factory=list)
    passed: list[Line] = field(default_factory=list)
    backend: str | None = None
    exit_on_error: bool = False

    def of(self, family: Family) -> Tables:
        found = self.tables.get(family)
        if found is None:
            found = self.tables[family] = Tables(family, self.notes, from_nothing=True)
        return found


def read(lines: Sequence[Line], kind: Format, notes: list[str], tables: dict[Family, Tables]) -> None:
    """Do to the tables what all commands say of a script, of a trace (`+ iptables ...`) or of what was typed at a prompt."""
    state = State(notes, tables)
    traced = kind is not Format.SCRIPT
    if traced:
        lines = list(_said(lines, kind))
    for steps in shell.read(lines, literal=kind is Format.TRACE):
        if not run(state, steps, traced):
            break
    tell(state)
    if not state.tables:
        raise lines[0].error("R001", "no command here does anything to iptables", hint="run `iptables-save`")


def _said(lines: Sequence[Line], kind: Format) -> Iterator[Line]:
    """The lines that are commands, what stands before them blanked out."""
    mark = TRACED if kind is Format.TRACE else PROMPT
    for line in lines:
        if found := mark.match(line.text):
            yield Line(line.file, line.number, " " * found.end() + line.text[found.end() :])
        elif kind is Format.TRACE and re.match(rf"\+.*\b{PROGRAM}\s", line.text):
            hint = "trace with `PS4='+ ' sh -x`"
            raise line.error(
                "R019", "we do not know where the command begins in this line of a trace", hint=hint
            )


def run(state: State, steps: shell.Steps, traced: bool = False) -> bool:
    """Runs the commands of one line; False where the script ends there."""
    status = True
    for n, step in enumerate(steps):
        if (step.after == "&&" and not status) or (step.after == "||" and status):
            continue
        words = step.simple.words
        if words[0].text == "exit":
            state.notes.append(f"the script ends on line {step.simple.line.number}, with `exit`")
            return False
        negated = words[0].text == "!"
        done = _simple(state, step.simple, words[1:] if negated else words, traced)
        status = done != negated
        last = n == len(steps) - 1 or steps[n + 1].after == ";"
        if not status and state.exit_on_error and last and not negated and not traced:
            state.notes.append(f"the script ends on line {step.simple.line.number}, as it has `set -e`")
            return False
    return True


def _simple(state: State, simple: shell.Simple, words: Sequence[Word], traced: bool) -> bool:
    """Whether the command succeeds."""
    line = simple.line
    words = _without_sudo(words)
    if not words:
        raise shell.unclear(line, "a command with no program")
    program = words[0]
    name = program.text.rpartition("/")[2]
    if re.fullmatch(PROGRAM, program.text):
        _one_backend(state, line, program)
        return command(state, line, families.of_program(name), words[1:])
    if found := re.fullmatch(r"(ip6?tables)(?:-legacy|-nft)?-restore", name):
        _one_backend(state, line, program)
        return _restore(state, simple, families.of_program(found[1]), words[1:])
    if name == "set":
        flags = " ".join(w.text for w in words[1:])
        if re.search(r"(^|\s)-\w*e|-o errexit", flags):
            state.exit_on_error = True
        elif re.search(r"(^|\s)\+\w*e|\+o errexit", flags):
            state.exit_on_error = False
        return True
    if name == "false":
        return False
    hidden = next((w for w in words[1:] if re.search(r"ip6?tables", w.text) and name in RUNNERS), None)
    harmless = name in HARMLESS or re.fullmatch(r"(arp|eb|ip6?)tables\S*-save", name) is not None
    if hidden or not (harmless or traced or name == "service"):
        raise shell.unclear(line, f"what `{program.text}` does", hidden or program)
    if name not in (":", "true", "echo") and not traced:
        state.passed.append(line)
    return True


def _without_sudo(words: Sequence[Word]) -> Sequence[Word]:
    while words and words[0].text in ("sudo", "doas", "command", "exec"):
        words = words[1:]
        while words and words[0].text.startswith("-"):
            words = words[2:] if words[0].text in ("-u", "-g") else words[1:]
    return words


def _one_backend(state: State, line: Line, program: Word) -> None:
    found = re.search(r"-(legacy|nft)", program.text)
    backend = found[1] if found else ""
    if state.backend is not None and backend != state.backend:
        raise line.error(
            "R019", "the text uses both backends, whose rules are kept apart", program,
            "give what `iptables-legacy-save` and `iptables-nft-save` print, in files of their own",
        )  # fmt: skip
    state.backend = backend


def command(state: State, line: Line, family: Family, words: Sequence[Word]) -> bool:
    """Runs one iptables command; whether it succeeds."""
    return attempt(state, line, lambda: _command(state, line, family, words))


def attempt(state: State, line: Line, act: Callable[[], bool]) -> bool:
    """What `act` returns, or False where iptables itself would fail in it."""
    try:
        return act()
    except RuleError as e:
        if e.code not in FAILS:
            raise
        state.failed.append((line, e.message))
        return False


def _command(state: State, line: Line, family: Family, words: Sequence[Word]) -> bool:
    said = commands.read(line, words)
    tables = state.of(family)
    if said.only and int(said.only) != family.value:
        raise line.error("R018", f"iptables of {family} takes no `-{said.only}`", said.at)
    if said.kind is commands.Kind.LOOK:
        return True
    draft = tables.draft(said.table.text if said.table else "filter", line, said.table)
    return commands.obey(draft, line, said)


def _restore(state: State, simple: shell.Simple, family: Family, words: Sequence[Word]) -> bool:
    """`iptables-restore` with a here-document."""
    line = simple.line
    texts = [w.text for w in words]
    if any(re.match(r"-\w*t|--test$", t) for t in texts):
        return True
    if simple.here is None:
        at = simple.input or (words[-1] if words and not texts[-1].startswith("-") else None)
        what = f"the rules in {at.text}" if at else "the rules that it is given"
        hint = "give that file instead, or what `iptables-save` prints after the script has run"
        raise shell.unclear(line, what, at, hint)
    noflush = any(re.match(r"-\w*n|--noflush$", t) for t in texts)
    for part in saved.parts(simple.here, ask=False):
        saved.restore(state.of(family), part, noflush)
    return True


def tell(state: State) -> None:
    """Says what failed, and what was passed over."""
    state.notes += [
        f"line {line.number}: iptables fails in this command, so it changes nothing: {why}"
        for line, why in state.failed[:MOST_SAID]
    ]
    if more := state.failed[MOST_SAID:]:
        state.notes.append(f"{len(more)} more commands fail, up to line {more[-1][0].number}")
    if state.passed:
        names = sorted({line.text.split()[0] for line in state.passed})
        first = state.passed[0].number
        state.notes.append(
            f"{len(state.passed)} commands that leave iptables alone are passed over, from line {first} on "
            f"({', '.join(names[:8])})"
        )
    if any(tables.drafts for tables in state.tables.values()):
        state.notes.append("the commands are taken to begin where no rules are loaded")


__all__ = ["State", "attempt", "command", "read", "run", "tell"]
