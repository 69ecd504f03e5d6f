"""The command line: `chainproof check`, `trace`, `show`, `lint` and `fuzz`.

stdout carries results, stderr all else.  Whatever is heavy is imported where it is first needed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn, TextIO, TypeAlias

import click

from . import __version__

if TYPE_CHECKING:
    from .cases import Overrides, Question
    from .check import Result
    from .prove import Budget
    from .reading.rules import ReadRules
    from .report.text import Paint
    from .values import Family

FORMATS = ("full", "concise", "json")

Outputs: TypeAlias = tuple[tuple[str, str | None], ...]
"""Formats, each with the file that it goes to, or None for stdout."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="chainproof")
def cli() -> None:
    """Prove properties of iptables rule sets, or show the packet that breaks them."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit with its status: 2 where input cannot be read, 4 where chainproof itself fails,
    130 where it was interrupted.  The process ends by SIGPIPE where nobody reads what it prints.

    `arguments` are those of the process unless they are given.  A process that has only these to answer ends at once: to
    take apart what it knows, formula by formula, takes as long as many a question, and nothing waits for it.
    """
    import gc
    import signal

    from .reading.errors import InputError

    if arguments is None:
        # click would exit with 1 for a closed pipe, which here says "refuted".
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    gc.set_threshold(100_000)  # formulas are many small objects that live as long as the process
    try:
        found = cli.main(arguments, prog_name="chainproof", standalone_mode=False)
        # A command's own status comes back as the value of `click.exceptions.Exit`.
        status = found if isinstance(found, int) else 0
        if arguments is None:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    except InputError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except Exception:
        _our_fault()
        sys.exit(4)
    sys.exit(status)


def _our_fault() -> None:
    """Write what is needed to mend an internal error to a file, and say where it is."""
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="chainproof-", suffix=".txt", delete=False) as report:
        report.write(f"chainproof {__version__}\n{sys.version}\n{sys.argv}\n{traceback.format_exc()}")
    said = traceback.format_exception_only(sys.exc_info()[1])[0].partition("\n")[0]
    click.echo(f"internal error: {said[:500]}\n  = help: please report it, with {report.name}", err=True)


# -- what several commands take ---------------------------------------------------------------------


def _read_outputs(_: click.Context, __: click.Parameter, words: tuple[str, ...]) -> Outputs:
    """Each `FORMAT` or `FORMAT=FILE`, with None for a file that is not given; `full` where nothing is."""
    found = []
    for word in words or ("full",):
        kind, _equals, file = word.partition("=")
        if kind not in FORMATS:
            raise click.BadParameter(f"{kind!r} is none of {', '.join(FORMATS)}")
        found.append((kind, file or None))
    if sum(file is None for _, file in found) > 1:
        raise click.BadParameter("one format is printed; write the others as FORMAT=FILE")
    return tuple(found)


def _read_duration(_: click.Context, __: click.Parameter, text: str) -> int:
    """`10s`, `500ms`, `2m`, or seconds, as milliseconds."""
    for ending, factor in (("ms", 1), ("s", 1000), ("m", 60_000), ("", 1000)):
        if text.endswith(ending):
            try:
                found = float(text.removesuffix(ending)) * factor
            except ValueError:
                break
            if 1 <= found <= 2**31 - 1:
                return int(found)
    raise click.BadParameter(f"{text!r} is no time such as 10s or 500ms")


def _paint(colour: str, stream_is_terminal: bool) -> Paint:
    from .report.text import plain

    unwanted = not stream_is_terminal or bool(os.environ.get("NO_COLOR"))
    never = colour == "never" or (colour == "auto" and unwanted)
    return plain if never else lambda text, name: click.style(text, fg=name, bold=True)


def _note(text: str) -> None:
    click.echo(f"note: {text}", err=True)


class Refusal(click.ClickException):
    """A command that cannot be run as it stands, though it is written rightly."""

    exit_code = 2


colour_option = click.option(
    "--color", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True
)


# -- check ------------------------------------------------------------------------------------------


@cli.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--rules", type=click.Path(path_type=Path), help="Ask the same of these rules.")
@click.option("--table", default=None, help="The table of these rules, where they are a listing.")
@click.option("--host", type=click.Path(path_type=Path), help="Ask the same of this host.")
@click.option(
    "--only", multiple=True, metavar="NAME", help="Only properties with this in their name; repeatable."
)
@click.option("--list", "listing", is_flag=True, help="Name the questions, and ask none.")
@click.option(
    "--output-format",
    "outputs",
    multiple=True,
    metavar="FORMAT[=FILE]",
    callback=_read_outputs,
    help="full (default), concise or json; with =FILE repeatable.",
)
@click.option(
    "--unknown", type=click.Choice(["fail", "warn"]), default="fail", help="Whether `unknown` is a failure."
)
@click.option(
    "--timeout",
    metavar="TIME",
    callback=_read_duration,
    default="10s",
    show_default=True,
    help="For each question to the solver.",
)
@click.option(
    "--samples",
    type=click.IntRange(0),
    default=20,
    show_default=True,
    help="Packets on which the evaluator checks a proof.",
)
@click.option(
    "--smt2", type=click.Path(path_type=Path, file_okay=False), help="Write every query there as SMT-LIB."
)
@click.option(
    "--cex-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep each counterexample and witness there, as a file for `chainproof replay`.",
)
@click.option(
    "--kernel",
    is_flag=True,
    help="Replay every counterexample in the Linux kernel, and packets of every proof.",
)
@click.option(
    "--jobs", type=click.IntRange(1), help="Processes to ask with; default: one for each processor."
)
@click.option("-q", "--quiet", is_flag=True, help="Only what is not as expected.")
@colour_option
def check(
    paths: tuple[Path, ...],
    rules: Path | None,
    table: str | None,
    host: Path | None,
    only: tuple[str, ...],
    listing: bool,
    outputs: Outputs,
    unknown: str,
    timeout: int,
    samples: int,
    smt2: Path | None,
    cex_dir: Path | None,
    kernel: bool,
    jobs: int | None,
    quiet: bool,
    color: str,
) -> None:
    """Prove the properties in *.prop files (default: those under ./proofs).

    Exits with 0 where all is as expected, 1 where something is not, 2 where the input cannot be read,
    3 where all that is not as expected is unknown.
    """
    from .cases import Overrides

    if table is not None and rules is None:
        raise click.UsageError("`--table` is the table of what `--rules` gives")
    questions, refused = _questions(paths, Overrides(rules, host, table), only)
    if listing:
        for q in questions:
            click.echo(f"{q.place.file}:{q.place.line}: {q.name} on {q.where}")
        return
    from .check import exit_status

    live = [kind for kind, file in outputs if file is None and kind != "json"]
    paint = _paint(color, sys.stdout.isatty())
    results: list[Result] = []
    _progress(f"0/{len(questions)}")
    for result in _judged(questions, kernel, timeout, samples, smt2, jobs):
        if cex_dir is not None:
            result = _kept(result, cex_dir, [Path(r.saved).name for r in results if r.saved])
        results.append(result)
        _progress("")
        if live and not (quiet and result.ok):
            click.echo(_shown(result, live[0], paint), color=color != "never")
    for kind, file in outputs:
        _write(results, kind, file)
    if live:
        from .report.text import closing

        click.echo(closing(results, live[0], quiet))
    status = exit_status(results, unknown == "fail")
    raise click.exceptions.Exit(2 if refused and status != 1 else status)


FEW = 12
"""So many questions are answered before a second process would have started."""


def _judged(
    questions: list[Question], kernel: bool, timeout: int, samples: int, smt2: Path | None, jobs: int | None
) -> Iterator[Result]:
    """The results, with `kernel` each with what the kernel says of it."""
    from .prove import Budget

    budget = Budget(timeout, samples, None if smt2 is None else [], keep=kernel)
    results = _answers(questions, budget, smt2, jobs)
    if not kernel:
        yield from results
        return
    from .confirm.judging import Judge

    with Judge() as judge:
        yield from judge.all_judged(results)


def _answers(
    questions: list[Question], budget: Budget, smt2: Path | None, jobs: int | None
) -> Iterator[Result]:
    """The results in the questions' order; with `smt2`, every query is written there, in the order in which it was asked."""
    from .workers import answers

    if smt2 is None:
        useful = 1 if len(questions) <= FEW else len(os.sched_getaffinity(0))
        yield from answers(questions, budget, useful if jobs is None else jobs)
        return
    yield from answers(questions, budget, 1)
    _write_scripts(smt2, budget.scripts or [])


def _questions(
    paths: tuple[Path, ...], overrides: Overrides, only: tuple[str, ...]
) -> tuple[list[Question], bool]:
    """The questions that are asked, at least one, and whether some cannot be; once the notes are told."""
    from .cases import Cases, gather

    for path in paths:
        if not path.exists():
            raise Refusal(f"{path} is not there")
        if path.is_file() and path.suffix != ".prop":
            raise Refusal(
                f"{path} is no .prop file: rules and hosts of your own go with `--rules` and `--host`"
            )
    folders = paths or ((Path("proofs"),) if Path("proofs").is_dir() else ())
    cases = [Cases(file, overrides) for file in gather(folders)]
    chosen = [q for case in cases for q in case.questions(only)]
    refused = [r for case in cases for r in case.refused]
    names = [p.name for case in cases for p in case.file.properties]
    if not names:
        where = ", ".join(map(str, paths)) or "./proofs"
        raise Refusal(f"no property found in {where}: name a .prop file, or a folder that holds one")
    for note in dict.fromkeys(note for case in cases for note in case.notes):
        _note(note)
    for name, error in refused:
        _note(f"property {name} is not asked, since it does not fit what was given instead:\n{error}")
    if refused and not chosen:
        raise Refusal("no property can be asked of what was given")
    if not chosen:
        from .reading.errors import did_you_mean

        hint = did_you_mean(only[0], names)
        raise Refusal(f"no property is called {' or '.join(only)}" + (f"; {hint}" if hint else ""))
    return chosen, bool(refused)


def _shown(result: Result, kind: str, paint: Paint) -> str:
    from .report import text

    return text.concise(result, paint) if kind == "concise" else text.full(result, paint) + "\n"


def _write(results: list[Result], kind: str, file: str | None) -> None:
    """Write what is not printed as it comes: JSON, and everything that goes to a file, whole or not at all."""
    if kind == "json":
        from .report.data import of_results

        body = json.dumps(of_results(results), indent=2, ensure_ascii=False)
    elif file is None:
        return
    else:
        from .report.text import closing, plain

        body = "\n".join([_shown(r, kind, plain) for r in results] + [closing(results, kind)])
    if file is None:
        click.echo(body)
    else:
        _write_file(Path(file), body)


def _write_scripts(folder: Path, scripts: Sequence[str]) -> None:
    _make_folder(folder)
    for number, script in enumerate(scripts):
        _write_file(folder / f"{number:04}.smt2", script.rstrip("\n"))


def _kept(result: Result, folder: Path, taken: Sequence[str]) -> Result:
    """The result with the file in which its counterexample, or its witness, is kept from here on."""
    from msgspec.structs import replace

    from .counterexamples.record import of_result
    from .counterexamples.write import file_name, write

    record = of_result(result)
    if record is None:
        return result
    _make_folder(folder)
    target = folder / file_name(result, taken)
    _write_file(target, write(record).rstrip("\n"))
    return replace(result, saved=str(target))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refusal(f"{folder} cannot be made: {error.strerror}") from None


def _write_file(target: Path, body: str) -> None:
    """Write the file whole, or leave it as it was."""
    half = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        half.write_text(body + "\n", encoding="utf-8")
        half.replace(target)
    except OSError as error:
        half.unlink(missing_ok=True)
        raise Refusal(f"{target} cannot be written: {error.strerror}") from None


def _progress(line: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[2K{line[:100]}", err=True, nl=False)


# -- trace ------------------------------------------------------------------------------------------


@cli.command(context_settings={"ignore_unknown_options": True})
@click.argument("setting", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("matches", nargs=-1, type=click.UNPROCESSED)
@click.option("--from", "who", default=None, help="outside, outside:IF, or a process of the host.")
@click.option("--table", default=None, help="The table of a listing.")
@click.option(
    "--batch",
    type=click.File("r", encoding="utf-8", errors="replace"),
    help="JSON lines, one packet each; '-' is standard input.",
)
@click.option(
    "--output-format",
    "kind",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="A batch is always answered in JSON.",
)
def trace(
    setting: Path,
    matches: tuple[str, ...],
    who: str | None,
    table: str | None,
    batch: TextIO | None,
    kind: str,
) -> None:
    """Follow one packet through rules or a host, stop by stop.

    The packet is told by iptables matches after `--`, such as
    `-- -p tcp -s 10.33.0.9 -d 10.33.4.7 --dport 8080`.
    """
    from .tracing import run

    if batch is not None and matches:
        raise click.UsageError("a batch tells its own packets: leave the matches out")
    for line in run(setting, matches, who, table, batch, kind, _note):
        click.echo(line)


# -- replay -----------------------------------------------------------------------------------------


@cli.command()
@click.argument("file", metavar="CEX.json", type=click.Path(path_type=Path))
@click.option(
    "--backend",
    type=click.Choice(["legacy", "nft", "both"]),
    default=None,
    help="Through which iptables; default: as the host says, or both.",
)
@click.option(
    "--output-format", "kind", type=click.Choice(["text", "json"]), default="text", show_default=True
)
@colour_option
def replay(file: Path, backend: str | None, kind: str, color: str) -> None:
    """Run a kept counterexample in the Linux kernel, in a network namespace of its own.

    `chainproof check --cex-dir DIR` keeps counterexamples.  It takes root, iptables, nftables and iproute2.  Exits with 0 where
    the kernel does what the file tells, 1 where it does not, 2 where it could not be run.
    """
    import time

    from .confirm.levels import Verdict, together
    from .confirm.replaying import replay as run
    from .counterexamples.read import read
    from .kernel.iptables import BACKENDS
    from .report import replays

    begun = time.perf_counter()
    record = read(file)
    asked = BACKENDS if backend == "both" else tuple(b for b in BACKENDS if b == backend)
    paint = _paint(color, sys.stdout.isatty())
    found = []
    if kind == "text":
        click.echo(replays.head(record))
    for number, one in run(record, asked):
        found.append(one)
        if kind == "text":
            click.echo(replays.text(record, one, number, paint), color=color != "never")
    if kind == "text":
        click.echo(replays.closing(found, paint), color=color != "never")
    else:
        said = replays.of_replay(record, str(file), found, time.perf_counter() - begun)
        click.echo(json.dumps(said, indent=2, ensure_ascii=False))
    statuses = {Verdict.CONFIRMED: 0, Verdict.CONTRADICTED: 1, Verdict.NOT_RUN: 2}
    raise click.exceptions.Exit(statuses[together(one.verdict for one in found)])


# -- show, lint -------------------------------------------------------------------------------------


def _rules_of(path: Path, table: str | None, family: Family | None) -> ReadRules:
    """The rules of a file, or of standard input where it is `-`; `family` is that of words which do not tell."""
    from .reading.errors import RuleError
    from .reading.files import read_text
    from .reading.rules import read_rules

    if str(path) == "-":
        return read_rules(sys.stdin.read().replace("\r\n", "\n"), "<stdin>", table, family)
    return read_rules(read_text(path, "the rules file", "R031", RuleError), str(path), table, family)


def _read_family(_: click.Context, __: click.Parameter, word: str | None) -> Family | None:
    from .values import Family

    return None if word is None else Family(int(word))


family_option = click.option(
    "--family",
    type=click.Choice(["4", "6"]),
    default=None,
    callback=_read_family,
    help="The family of rules whose words do not tell; IPv4 where it is not given.",
)


@cli.command()
@click.argument("rules", type=click.Path(path_type=Path))
@click.option("--table", default=None, help="The table of a listing, or of `iptables -S`.")
@family_option
@click.option(
    "--as",
    "kind",
    type=click.Choice(["text", "rules"]),
    default="text",
    show_default=True,
    help="A reading, table by table; or what iptables-save would print.",
)
def show(rules: Path, table: str | None, family: Family | None, kind: str) -> None:
    """Show what was understood of RULES ('-' is standard input)."""
    found = _rules_of(rules, table, family)
    for note in found.notes:
        _note(note)
    if kind == "rules":
        from .spell import rule_set

        for its, rule_set_ in found.families.items():
            if len(found.families) > 1:
                click.echo(f"# {its}")
            click.echo(rule_set(rule_set_), nl=False)
        return
    from .owners import untold
    from .report.rules import reading

    for note in dict.fromkeys(note for rule_set_ in found.families.values() for note in untold(rule_set_)):
        _note(note)
    click.echo(f"# read as {found.format}")
    for rule_set_ in found.families.values():
        for line in reading(rule_set_):
            click.echo(line)


@cli.command()
@click.argument("rules", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--table", default=None, help="The table of a listing, or of `iptables -S`.")
@family_option
@click.option(
    "--output-format",
    "kind",
    type=click.Choice(["full", "concise", "json"]),
    default="full",
    show_default=True,
)
def lint(rules: tuple[Path, ...], table: str | None, family: Family | None, kind: str) -> None:
    """Say what is wrong with RULES before any packet is asked about ('-' is standard input).

    Exits with 0 where nothing is found, 1 where something is, 2 where rules cannot be read.
    """
    from .analyses.lint import findings

    found = []
    for path in rules:
        read = _rules_of(path, table, family)
        for note in read.notes:
            _note(note)
        found += [f for rule_set in read.families.values() for f in findings(rule_set)]
    if kind == "json":
        values = [
            {"code": f.code, "file": f.place.file, "line": f.place.line, "text": f.text, "hint": f.hint}
            for f in found
        ]
        click.echo(json.dumps({"schema": "chainproof/lint/1", "findings": values}, indent=2))
    else:
        for f in found:
            click.echo(f"{f.place}: {f.code} {f.text}")
            if f.hint and kind == "full":
                click.echo(f"  = help: {f.hint}")
        if kind == "full":
            click.echo(f"{len(found)} findings" if found else "nothing found")
    raise click.exceptions.Exit(1 if found else 0)


# -- fuzz -------------------------------------------------------------------------------------------


@cli.command()
@click.argument("setting", required=False, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--seconds", type=click.FloatRange(0.1), default=60.0, show_default=True, help="For each backend."
)
@click.option(
    "--backend",
    type=click.Choice(["legacy", "nft", "both"]),
    default="both",
    show_default=True,
    help="The iptables that loads the rules.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="The same packets each time.")
@click.option("--checks", type=click.IntRange(1), help="So many packets at most, on each backend.")
@click.option("--table", default=None, help="The table of a listing.")
@click.option("--ipv6", is_flag=True, help="Draw IPv6 hosts, rules and packets.")
@click.option(
    "--save",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("."),
    help="Where mismatches are kept, as files that `replay` reads.",
)
def fuzz(
    setting: Path | None,
    seconds: float,
    backend: str,
    seed: int,
    checks: int | None,
    table: str | None,
    ipv6: bool,
    save: Path,
) -> None:
    """Compare what chainproof tells of packets with what the Linux kernel does.

    SETTING is a file of rules, or a host file; without one, rules and hosts are drawn at random.  Needs root, iptables,
    nftables and iproute2, and works in network namespaces of its own.

    Exits with 0 where nothing differs, 1 where something does, 2 where it cannot be run.
    """
    from .fuzzing.command import Request, run
    from .values import Family

    if table is not None and setting is None:
        raise click.UsageError("`--table` is the table of a listing that is given")
    backends: tuple[Literal["legacy", "nft"], ...] = ("legacy", "nft")
    chosen = tuple(name for name in backends if backend in (name, "both"))
    family = Family.IPV6 if ipv6 else Family.IPV4
    same = run(Request(setting, table, chosen, seconds, seed, save, checks, family), click.echo, _note)
    raise click.exceptions.Exit(0 if same else 1)


if __name__ == "__main__":
    main()
