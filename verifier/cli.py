"""The command line: `chainproof check` and `chainproof trace`.

stdout carries results, stderr all else.  Whatever is heavy is imported where it is first needed.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from . import __version__

if TYPE_CHECKING:
    from .cases import Question
    from .check import Result
    from .report.text import Paint

FORMATS = ("full", "concise", "json")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="chainproof")
def cli() -> None:
    """Prove properties of iptables rule sets, or show the packet that breaks them."""


def main() -> None:
    """Run a command and exit with its status: 2 where input cannot be read, 4 where chainproof itself fails."""
    import gc

    from .reading.errors import InputError

    gc.set_threshold(100_000)  # formulas are many small objects that live as long as the process
    try:
        cli.main(prog_name="chainproof", standalone_mode=False)
    except InputError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    except click.exceptions.Exit as leave:
        sys.exit(leave.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception:
        _our_fault()
        sys.exit(4)


def _our_fault() -> None:
    """Write what is needed to mend an internal error to a file, and say where it is."""
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="chainproof-", suffix=".txt", delete=False) as report:
        report.write(f"chainproof {__version__}\n{sys.version}\n{sys.argv}\n{traceback.format_exc()}")
    last = traceback.format_exc().strip().splitlines()[-1]
    click.echo(f"internal error: {last[:500]}\n  = help: please report it, with {report.name}", err=True)


# -- what several commands take ---------------------------------------------------------------------


class Output(click.ParamType[tuple[str, str | None]]):
    """FMT or FMT=FILE."""

    name = "fmt[=file]"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str | None]:
        if isinstance(value, tuple):
            return value
        kind, _, file = str(value).partition("=")
        if kind not in FORMATS:
            self.fail(f"{kind!r} is none of {', '.join(FORMATS)}", param, ctx)
        return kind, file or None


class Duration(click.ParamType[int]):
    """`10s`, `500ms`, `2m`, or seconds."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = str(value)
        for ending, factor in (("ms", 1), ("s", 1000), ("m", 60_000), ("", 1000)):
            if text.endswith(ending):
                try:
                    found = float(text.removesuffix(ending)) * factor
                except ValueError:
                    break
                if 1 <= found <= 2**31:
                    return int(found)
        return self.fail(f"{text!r} is no time such as 10s or 500ms", param, ctx)


def _paint(colour: str, stream_is_terminal: bool) -> Paint:
    from .report.text import plain

    never = colour == "never" or (colour == "auto" and (not stream_is_terminal or "NO_COLOR" in os.environ))
    return plain if never else lambda text, name: click.style(text, fg=name, bold=True)


colour_option = click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto")


# -- check ------------------------------------------------------------------------------------------


@cli.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--rules", type=click.Path(path_type=Path), help="Ask the same of these rules.")
@click.option("--host", type=click.Path(path_type=Path), help="Ask the same of this host.")
@click.option(
    "--only", multiple=True, metavar="NAME", help="Only properties with this in their name; repeatable."
)
@click.option("--list", "listing", is_flag=True, help="Name the questions, and ask none.")
@click.option(
    "--output-format", "outputs", multiple=True, type=Output(), help="full, concise or json; repeatable."
)
@click.option(
    "--unknown", type=click.Choice(["fail", "warn"]), default="fail", help="Whether `unknown` is a failure."
)
@click.option("--timeout", type=Duration(), default="10s", help="For each question to the solver.")
@click.option(
    "--samples", type=click.IntRange(0), default=20, help="Packets on which the evaluator checks a proof."
)
@click.option(
    "--smt2", type=click.Path(path_type=Path, file_okay=False), help="Write every query there as SMT-LIB."
)
@click.option("-q", "--quiet", is_flag=True, help="Only what is not as expected.")
@colour_option
def check(
    paths: tuple[Path, ...],
    rules: Path | None,
    host: Path | None,
    only: tuple[str, ...],
    listing: bool,
    outputs: tuple[tuple[str, str | None], ...],
    unknown: str,
    timeout: int,
    samples: int,
    smt2: Path | None,
    quiet: bool,
    color: str,
) -> None:
    """Prove the properties in *.prop files (default: those under ./proofs)."""
    questions = _questions(paths, rules, host, only)
    if listing:
        for q in questions:
            click.echo(f"{q.place.file}:{q.place.line}: {q.name} on {q.where}")
        return
    from .check import Checker, exit_status
    from .prove import Budget

    scripts: list[str] | None = None if smt2 is None else []
    checker = Checker(Budget(timeout, samples), scripts)
    chosen = outputs or (("full", None),)
    live = [kind for kind, file in chosen if file is None and kind != "json"]
    results: list[Result] = []
    for number, q in enumerate(questions, 1):
        _progress(f"{number}/{len(questions)} {q.name} on {q.where}")
        result = checker.ask(q)
        results.append(result)
        _progress("")
        if live and not (quiet and result.ok):
            click.echo(_shown(result, live[0], _paint(color, sys.stdout.isatty())))
    if smt2 is not None and scripts is not None:
        smt2.mkdir(parents=True, exist_ok=True)
        for number, script in enumerate(scripts):
            (smt2 / f"{number:04}.smt2").write_text(script, encoding="utf-8")
    for kind, file in chosen:
        _write(results, kind, file)
    if live:
        from .report.text import summary

        click.echo(summary(results))
    raise click.exceptions.Exit(exit_status(results, unknown == "fail"))


def _questions(
    paths: tuple[Path, ...], rules: Path | None, host: Path | None, only: tuple[str, ...]
) -> list[Question]:
    from .cases import Cases, Overrides, gather

    for path in paths:
        if not path.exists():
            raise click.UsageError(f"{path} is not there")
    files = gather(paths or (Path("proofs"),))
    questions = [q for file in files for q in Cases(file, Overrides(rules, host)).questions()]
    if not questions:
        where = ", ".join(map(str, paths)) or "./proofs"
        raise click.UsageError(f"no property found in {where}: name a .prop file, or a folder that holds one")
    chosen = [q for q in questions if not only or any(word in q.name for word in only)]
    if not chosen:
        from .reading.errors import did_you_mean

        hint = did_you_mean(only[0], (q.name for q in questions))
        raise click.UsageError(f"no property is called {' or '.join(only)}" + (f"; {hint}" if hint else ""))
    return chosen


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
        from .report.text import plain, summary

        body = "\n".join([_shown(r, kind, plain) for r in results] + [summary(results)])
    if file is None:
        click.echo(body)
        return
    target = Path(file)
    half = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        half.write_text(body + "\n", encoding="utf-8")
        half.replace(target)
    except OSError as error:
        half.unlink(missing_ok=True)
        raise click.UsageError(f"{file} cannot be written: {error.strerror}") from None


def _progress(line: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[2K{line[:100]}", err=True, nl=False)


# -- trace ------------------------------------------------------------------------------------------


@cli.command(context_settings={"ignore_unknown_options": True})
@click.argument("setting", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("matches", nargs=-1, type=click.UNPROCESSED)
@click.option("--from", "who", default=None, help="outside, outside:IF, or a process of the host.")
@click.option("--table", default=None, help="The table of a listing.")
@click.option("--batch", type=click.File("r"), help="JSON lines, one packet each; '-' is standard input.")
@click.option("--output-format", "kind", type=click.Choice(["text", "json"]), default="text")
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

    for line in run(setting, matches, who, table, batch, kind):
        click.echo(line)


if __name__ == "__main__":
    main()
