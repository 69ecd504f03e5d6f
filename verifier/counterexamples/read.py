"""The text of a counterexample file read as a record: every value is checked, and what is not known is an error."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, assert_never

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ..hosts import Host, Setting
from ..journeys import (
    OF_A_CONNECTION,
    Act,
    Earlier,
    FromOutside,
    FromProcess,
    FromProxy,
    Journey,
    Sender,
    Stop,
)
from ..packets import Packet
from ..reading.errors import InputError
from ..reading.files import read_text
from ..reading.hosts import read_bare_host
from ..reading.ipset import read_sets
from ..reading.rules import read_rules
from ..rules import RuleSet
from ..values import Family, Place
from .places import line_and_column, offset_of
from .record import SCHEMA, Account, Kind, Record
from .shapes import (
    NOBODY,
    read_answers,
    read_choices,
    read_earlier,
    read_end,
    read_evaluation,
    read_sender,
    read_state,
    read_stop,
)

T = TypeVar("T")


class CounterexampleError(InputError):
    """A counterexample file that cannot be read."""


class _Journey(Struct, frozen=True, forbid_unknown_fields=True):
    stops: list[dict[str, Any]]
    end: dict[str, Any]
    states: list[dict[str, Any]] = []
    asked: list[dict[str, Any]] = []
    answers: dict[str, dict[str, Any]] = {}
    earlier: _Journey | None = None
    behind: bool = False
    doubts: tuple[str, ...] = ()


class _Account(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    host: dict[str, Any]
    family: Family
    rules: list[str]
    journey: _Journey
    sets: list[str] = []
    carried: frozenset[str] = frozenset()
    answers: bool = False
    rejections: bool = False


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    schema: str
    kind: Kind
    name: str
    place: str
    claim: str
    sender: dict[str, Any]
    hop: int
    choices: dict[str, Any]
    accounts: list[_Account]
    earlier: dict[str, Any] | None = None


def read(path: Path) -> Record:
    """The record in a file; raises CounterexampleError, or RuleError or HostError about the rules and hosts in it."""
    return read_record(read_text(path, "the counterexample file", "C001", CounterexampleError), str(path))


def read_record(text: str, file: str) -> Record:
    """The record in a text that is said to stand in `file`."""
    return _Reader(text, file).record()


class _Reader:
    """One file's text, and what is said of it where it is wrong."""

    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._file = file

    def record(self) -> Record:
        said = self._file_of(self._json())
        if not said.accounts or len(said.accounts) > 2:
            raise self._error("C003", "a counterexample has a journey on one host, or on two", ["accounts"])
        accounts = tuple(self._account(a, n) for n, a in enumerate(said.accounts))
        family = accounts[0].setting.rules.family
        sender = self._at(["sender"], lambda: read_sender(said.sender))
        choices = self._at(["choices"], lambda: read_choices(said.choices, family))
        earlier: Earlier | None = None
        if said.earlier is not None:
            before = said.earlier
            earlier = self._at(["earlier"], lambda: read_earlier(before, family))
        for number, account in enumerate(accounts):
            self._check(sender, account, number, ["sender"])
            if (earlier is None) != (account.journey.earlier is None):
                what = "an earlier packet has a journey, and an earlier journey a packet"
                raise self._error("C004", what, ["accounts", number, "journey"])
            if earlier is not None:
                self._check(earlier.sender, account, number, ["earlier", "sender"])
                sent = account.journey.stops[0].packet
                alike = all(getattr(sent, n) == getattr(earlier.packet, n) for n in OF_A_CONNECTION)
                if earlier.opens and not (earlier.sender == sender and alike):
                    what = "a later packet of a connection has the sender, addresses and ports of the one that opened it"
                    raise self._error("C004", what, ["earlier", "opens"])
        if not 0 <= said.hop <= len(accounts[0].journey.states):
            raise self._error("C004", f"the journey has no hop {said.hop}", ["hop"])
        return Record(
            said.kind, said.name, said.place, said.claim, sender, choices, accounts, said.hop, earlier
        )

    def _json(self) -> Any:
        try:
            return msgspec.json.decode(self._text)
        except msgspec.DecodeError as e:
            found = re.search(r"\(byte (\d+)\)", str(e))
            data = self._text.encode()
            before = data[: int(found[1])].decode(errors="ignore") if found else self._text
            raise self._here("C002", f"this is not JSON: {e}", min(len(before), len(self._text))) from None
        except RecursionError:
            raise self._here("C002", "this is nested too deep", 0) from None

    def _file_of(self, said: Any) -> _File:
        if not isinstance(said, dict) or said.get("schema") != SCHEMA:
            schema = said.get("schema") if isinstance(said, dict) else None
            what = "it names no schema" if schema is None else f"its schema is {schema!r}"
            hint = f"`chainproof check --cex-dir DIR` writes such files; their schema is {SCHEMA!r}"
            raise self._error("C002", f"this is no counterexample file: {what}", ["schema"], hint)
        return self._at([], lambda: msgspec.convert(said, _File))

    def _account(self, said: _Account, number: int) -> Account:
        where: list[str | int] = ["accounts", number]
        host = self._host(said, where)
        if said.sets:
            host = replace(host, sets=read_sets(*self._lines(said.sets, [*where, "sets"])))
        rules = self._rules(said, where)
        setting = self._at(where, lambda: Setting(host, rules, said.carried, said.answers, said.rejections))
        return Account(setting, self._journey(said.journey, rules.family, [*where, "journey"]))

    def _host(self, said: _Account, where: list[str | int]) -> Host:
        """Read from the file's own text, so that the places of errors are places in the file."""
        begin = offset_of(self._text, [*where, "host"])
        line, column = line_and_column(self._text, begin)
        end = begin + _length(self._text, begin)
        text = "\n" * (line - 1) + " " * (column - 1) + self._text[begin:end]
        return read_bare_host(text, self._file, said.name)

    def _rules(self, said: _Account, where: list[str | int]) -> RuleSet:
        if not said.rules:
            return RuleSet({}, said.family)
        found = read_rules(*self._lines(said.rules, [*where, "rules"]), family=said.family)
        if set(found.families) != {said.family}:
            raise self._error("C003", f"these are not rules of {said.family} alone", [*where, "rules"])
        return found.rules

    def _lines(self, lines: list[str], path: list[str | int]) -> tuple[str, str]:
        """A text, and the name of the file in which its lines stand where they are counted: as written, each has one of ours."""
        first, last = (
            line_and_column(self._text, offset_of(self._text, [*path, n]))[0] for n in (0, len(lines) - 1)
        )
        if last - first != len(lines) - 1:
            return "\n".join(lines) + "\n", f"{self._file}, {path[-1]}"
        return "\n" * (first - 1) + "\n".join(lines) + "\n", self._file

    def _journey(self, said: _Journey, family: Family, where: list[str | int]) -> Journey:
        if not said.stops:
            raise self._error("C003", "a journey begins with a packet that is sent", [*where, "stops"])
        stops = []
        before = NOBODY
        for number, stop in enumerate(said.stops):
            found = self._stop(stop, before, [*where, "stops", number])
            stops.append(found)
            before = found.packet
        if stops[0].act is not Act.SENT:
            raise self._error("C004", "a journey begins with a packet that is sent", [*where, "stops", 0])
        return Journey(
            tuple(stops),
            self._at([*where, "end"], lambda: read_end(said.end)),
            self._at([*where, "states"], lambda: tuple(read_state(s, family) for s in said.states)),
            self._at([*where, "asked"], lambda: tuple(map(read_evaluation, said.asked))),
            self._at([*where, "answers"], lambda: read_answers(said.answers)),
            None if said.earlier is None else self._journey(said.earlier, family, [*where, "earlier"]),
            said.behind,
            said.doubts,
        )

    def _stop(self, said: dict[str, Any], before: Packet, path: list[str | int]) -> Stop:
        return self._at(path, lambda: read_stop(said, before))

    def _check(self, sender: Sender, account: Account, number: int, where: list[str | int]) -> None:
        """The host has the sender, and the rules that the journey speaks of."""
        host = account.setting.host
        match sender:
            case FromOutside(name):
                there = name in [i.name for i in host.interfaces]
            case FromProcess(name) | FromProxy(name):
                there = name in [p.name for p in host.processes]
            case _:
                assert_never(sender)
        if not there:
            raise self._error("C004", f"the host {host.name} has no `{name}`", where)
        journey: Journey | None = account.journey
        path: list[str | int] = ["accounts", number, "journey"]
        while journey is not None:
            for index, stop in enumerate(journey.stops):
                if stop.rule is not None and not _has_rule(account.setting.rules, stop):
                    what = f"there is no rule {stop.table}/{stop.chain} {stop.rule}"
                    raise self._error("C004", what, [*path, "stops", index])
            journey, path = journey.earlier, [*path, "earlier"]

    # -- errors

    def _at(self, path: list[str | int], reads: Callable[[], T]) -> T:
        """What `reads` gives; what it has to say against it is said of the value at the path, or inside of it."""
        try:
            return reads()
        except msgspec.ValidationError as e:
            message, _, inside = str(e).partition(" - at `$")
            raise self._error("C003", message, [*path, *_steps(inside)]) from None
        except ValueError as e:
            raise self._error("C003", str(e), path) from None

    def _error(
        self, code: str, message: str, path: list[str | int], hint: str | None = None
    ) -> CounterexampleError:
        return self._here(code, message, offset_of(self._text, path), hint)

    def _here(self, code: str, message: str, offset: int, hint: str | None = None) -> CounterexampleError:
        line, column = line_and_column(self._text, offset)
        lines = self._text.split("\n")
        return CounterexampleError(
            code, message, Place(self._file, line, column), line=lines[line - 1], hint=hint
        )


def _length(text: str, begin: int) -> int:
    import json

    return json.JSONDecoder().raw_decode(text, begin)[1] - begin


def _steps(path: str) -> Iterator[str | int]:
    """`.accounts[0].name`, less what follows a key that msgspec does not name."""
    for name, number in re.findall(r"\.([\w-]+)|\[(\d+|\.\.\.)\]", path.rstrip("`")):
        if number == "...":
            return
        yield name or int(number)


def _has_rule(rules: RuleSet, stop: Stop) -> bool:
    table = rules.tables.get(stop.table or "")
    chain = None if table is None else table.chains.get(stop.chain or "")
    return chain is not None and stop.rule is not None and 1 <= stop.rule <= len(chain.rules)
