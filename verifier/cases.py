"""From property files to questions: hosts with their rules, and claims whose names are all there.

Reading a property file opens no other file.  Here the hosts that it names are read, changed as it says,
and every process, proxy, chain, rule and interface of a claim is looked up on the host of which it speaks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from . import claims as c
from . import spell
from .hosts import Host, Setting
from .reading.errors import PropertyError, RuleError, did_you_mean
from .rules import RuleSet
from .values import AddressSet, HostAddresses, Net, Place


@dataclass(frozen=True, slots=True)
class Question:
    """A claim with everything it speaks of, and the answer with which it passes.

    `where` is the host's name, for a table with the row's title; `settings` are the hosts of the claims
    by name; `cell` is set for a cell of a table, whose one claim is about EVERY packet.
    """

    name: str
    title: str | None
    where: str
    claims: tuple[c.Claim, ...]
    settings: tuple[tuple[str, Setting], ...]
    wanted: c.Wanted
    because: str | None
    place: Place
    cell: c.Cell | None = None

    def setting(self, host: str) -> Setting:
        return dict(self.settings)[host]


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the command line puts in the place of what the files say."""

    rules: Path | None = None
    host: Path | None = None


class Cases:
    """One property file with the hosts that it names; each host and each rules file is read once."""

    def __init__(self, path: Path, overrides: Overrides | None = None) -> None:
        from .reading.properties import read_properties

        self.overrides = overrides or Overrides()
        self.path = path
        self.file = read_properties(path)
        self.notes: dict[str, tuple[str, ...]] = {}
        self._hosts = {h.name: h for h in self.file.hosts}
        self._settings: dict[tuple[str, tuple[c.Variant, ...]], Setting] = {}
        self._lines = path.read_text(encoding="utf-8").splitlines()

    def questions(self) -> list[Question]:
        """Every property on every host that it names, and every cell of every table, in the file's order."""
        out: list[Question] = []
        for p in self.file.properties:
            out += self._cells(p) if isinstance(p, c.TableProperty) else self._of_property(p)
        return out

    # -- hosts

    def setting(self, name: str, variants: tuple[c.Variant, ...] = ()) -> Setting:
        key = (name, variants)
        if key not in self._settings:
            self._settings[key] = self._read(self._hosts[name], variants)
        return self._settings[key]

    def _read(self, named: c.HostName, variants: tuple[c.Variant, ...]) -> Setting:
        from .reading.variants import apply_variants

        base = self.path.parent
        host, rules = _host_and_rules(self.overrides.host or base / named.file)
        if self.overrides.rules is not None and any(
            t.chains[n].rules for t in rules.tables.values() for n in t.chains
        ):
            rules = read_rule_files((self.overrides.rules,))
        try:
            host, rules = apply_variants(host, rules, (*named.variants, *variants), base)
        except PropertyError as error:
            raise self._shown(error) from None
        return Setting(replace(host, name=named.name), rules)

    # -- properties

    def _of_property(self, p: c.Property) -> list[Question]:
        out = []
        for expectation in p.expectations:
            if expectation.host is None:
                names = [n for claim in p.claims for n in _pair(claim)]
                where = " and ".join(dict.fromkeys(names))
            else:
                names = [expectation.host]
                where = expectation.host
            settings = tuple((n, self.setting(n)) for n in dict.fromkeys(names))
            bound = tuple(self._bind(claim, dict(settings)) for claim in p.claims)
            out.append(
                Question(
                    p.name, p.title, where, bound, settings, expectation.wanted, expectation.because, p.place
                )
            )
        return out

    def _cells(self, table: c.TableProperty) -> list[Question]:
        out = []
        for row in table.rows:
            for column, cell in zip(table.columns, row.cells, strict=True):
                setting = self.setting(column, row.variants)
                claim = c.PacketClaim(c.Quantifier.EVERY, table.premise, table.verbs, table.place)
                bound = self._bind(claim, {column: setting})
                where = f"{column}, {row.title}"
                wanted = c.Wanted.PROVED
                out.append(
                    Question(
                        table.name,
                        table.title,
                        where,
                        (bound,),
                        ((column, setting),),
                        wanted,
                        None,
                        row.place,
                        cell,
                    )
                )
        return out

    # -- names

    def _bind(self, claim: c.Claim, settings: dict[str, Setting]) -> c.Claim:
        """The claim with its names looked up; raises PropertyError for one that is not there."""
        match claim:
            case c.PacketClaim():
                (setting,) = settings.values()
                premise = self._premise(claim.premise, setting, claim.place)
                verbs = tuple(self._verb(v, setting, claim.place) for v in claim.verbs)
                return replace(claim, premise=premise, verbs=verbs)
            case c.SameClaim(premise, first, _):
                return replace(claim, premise=self._premise(premise, settings[first], claim.place))
            case c.KeepClaim(premise, before, _):
                return replace(claim, premise=self._premise(premise, settings[before], claim.place))
            case c.DeadClaim():
                (setting,) = settings.values()
                if claim.table not in setting.rules.tables:
                    self._missing("table", claim.table, setting.rules.tables, claim.place)
                for ref in claim.excepted:
                    self._rules(ref, setting, claim.place)
                if claim.rule is None:
                    return claim
                found = self._rules(claim.rule, setting, claim.place)
                if len(found) > 1:
                    raise self._error(
                        f"{claim.rule} names {len(found)} rules", claim.place, "give the rule's number"
                    )
                return replace(claim, rule=found[0])

    def _premise(self, premise: c.Premise, setting: Setting, place: Place) -> c.Premise:
        match premise.who:
            case c.Outside(interface):
                if interface is not None:
                    self._interface(interface, setting.host, place)
            case c.OfProcess(process):
                self._process(process, setting.host, place)
            case c.OfProxy(process, proxy):
                self._process(process, setting.host, place)
                proxies = [x.name for x in setting.host.process(process).proxies]
                if proxy not in proxies:
                    self._missing(f"proxy of {process}", proxy, proxies, place)
        exceptions = tuple(replace(e, filter=self._filter(e.filter)) for e in premise.exceptions)
        return replace(premise, filter=self._filter(premise.filter), exceptions=exceptions)

    def _filter(self, wanted: c.Filter) -> c.Filter:
        return replace(wanted, to=self._addresses(wanted.to), source=self._addresses(wanted.source))

    def _addresses(self, addresses: AddressSet | None) -> AddressSet | None:
        """The set with the addresses of hosts in the place of their names."""
        if addresses is None:
            return None

        def found(terms: Iterable[object]) -> tuple[Net, ...]:
            out = []
            for term in terms:
                if isinstance(term, HostAddresses):
                    host = self.setting(term.host).host
                    out += [Net(a.ip) for i in host.interfaces if i.name != "lo" for a in i.addresses]
                else:
                    out.append(term)  # type: ignore[arg-type]
            return tuple(out)

        return AddressSet(found(addresses.included), found(addresses.excluded))

    def _verb(self, verb: c.Verb, setting: Setting, place: Place) -> c.Verb:
        match verb:
            case c.Not(inner):
                return c.Not(self._verb(inner, setting, place))
            case c.AnyOf(verbs):
                return c.AnyOf(tuple(self._verb(v, setting, place) for v in verbs))
            case c.Enters(chain):
                self._chain(chain, setting, place)
                return verb
            case c.IsDropped(dropper):
                if dropper is not None:
                    self._chain(dropper, setting, place)
                return verb
            case c.Hits(rule):
                found = tuple(c.Hits(ref) for ref in self._rules(rule, setting, place))
                return found[0] if len(found) == 1 else c.AnyOf(found)
            case c.Reaches(process, port, having):
                self._process(process, setting.host, place)
                ports = [x.port for x in setting.host.process(process).listens]
                if port is not None and port not in ports:
                    self._missing(f"port that {process} listens on", str(port), map(str, ports), place)
                return c.Reaches(process, port, self._having(having))
            case c.PassesBeforeLeaving(process, interface):
                self._process(process, setting.host, place)
                if interface is not None:
                    self._interface(interface, setting.host, place)
                return verb
            case c.Leaves(interface, having):
                if interface is not None:
                    self._interface(interface, setting.host, place)
                return c.Leaves(interface, self._having(having))
            case c.Ends() | c.IsLost() | c.IsRejected() | c.IsRefused():
                return verb

    def _having(self, having: c.With) -> c.With:
        return replace(
            having, source=self._addresses(having.source), destination=self._addresses(having.destination)
        )

    def _process(self, name: str, host: Host, place: Place) -> None:
        names = [p.name for p in host.processes]
        if name not in names:
            self._missing(f"process on {host.name}", name, names, place)

    def _interface(self, name: str, host: Host, place: Place) -> None:
        names = [i.name for i in host.interfaces]
        if name not in names:
            self._missing(f"interface on {host.name}", name, names, place)

    def _chain(self, ref: c.ChainRef, setting: Setting, place: Place) -> None:
        known = {f"{t.name}/{chain}" for t in setting.rules.tables.values() for chain in t.chains}
        if str(ref) not in known:
            self._missing(f"chain on {setting.host.name}", str(ref), known, place)

    def _rules(self, ref: c.RuleRef | c.RuleText, setting: Setting, place: Place) -> list[c.RuleRef]:
        self._chain(c.ChainRef(ref.table, ref.chain), setting, place)
        rules = setting.rules.tables[ref.table].chains[ref.chain].rules
        if isinstance(ref, c.RuleRef):
            if not 1 <= ref.rule <= len(rules):
                raise self._error(f"there is no rule {ref}", place, f"the chain has {len(rules)} rules")
            return [ref]
        found = [
            c.RuleRef(ref.table, ref.chain, number)
            for number, rule in enumerate(rules, 1)
            if any(ref.text in comment for comment in rule.comments)
            or ref.text in spell.rule(ref.chain, rule)
        ]
        if not found:
            raise self._error(f"no rule of {ref.table}/{ref.chain} has {ref.text!r} in it", place, None)
        return found

    # -- errors

    def _missing(self, what: str, word: str, known: Iterable[str], place: Place) -> None:
        names = sorted(known)
        hint = did_you_mean(word, names) or (
            f"there is {', '.join(names[:12])}" if names else "there is none"
        )
        raise self._error(f"there is no {what}: `{word}`", place, hint, word)

    def _error(self, message: str, place: Place, hint: str | None, word: str | None = None) -> PropertyError:
        """An error at the claim that begins at `place`, at the word itself where the claim's lines have it."""
        line = place.line
        if word is not None:
            while line <= len(self._lines) and word not in self._lines[line - 1]:
                line += 1
            if line > len(self._lines):
                line, word = place.line, None
        text = self._lines[line - 1] if 1 <= line <= len(self._lines) else None
        column = text.index(word) + 1 if text is not None and word is not None else place.column
        return PropertyError(
            "P002", message, Place(place.file, line, column), line=text, width=len(word or " "), hint=hint
        )

    def _shown(self, error: PropertyError) -> PropertyError:
        """The same error with its line, where it has none."""
        if (
            error.line is None
            and error.place.file == str(self.path)
            and 1 <= error.place.line <= len(self._lines)
        ):
            error.line = self._lines[error.place.line - 1]
        return error


def _pair(claim: c.Claim) -> tuple[str, ...]:
    match claim:
        case c.SameClaim(_, first, second):
            return first, second
        case c.KeepClaim(_, before, after):
            return before, after
        case _:
            return ()


# -- files ------------------------------------------------------------------------------------------


@cache
def _host_and_rules(path: Path) -> tuple[Host, RuleSet]:
    from .reading.hosts import read_host

    found = read_host(path)
    return found.host, read_rule_files(found.rules_files)


def read_rule_files(paths: Sequence[Path]) -> RuleSet:
    """The rules of these files together; raises RuleError where two hold the same table."""
    tables = {}
    for path in paths:
        for name, table in _rules(path).tables.items():
            if name in tables:
                raise RuleError(
                    "R030",
                    f"table {name} is in two files, and parts of one table are not put together yet",
                    Place(str(path), 1),
                    hint="load both, and give the output of iptables-save",
                )
            tables[name] = table
    return RuleSet(tables)


@cache
def _rules(path: Path) -> RuleSet:
    from .reading.rules import read_rules

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RuleError("R031", f"the rules file cannot be read: {error}", Place(str(path), 0)) from None
    return read_rules(text, str(path)).rules


def read_setting(path: Path, table: str | None = None) -> Setting:
    """A host file's setting, or for a rules file alone that of a host with its rules and the defaults of `default_host`."""
    if path.suffix in (".yaml", ".yml"):
        host, rules = _host_and_rules(path)
        return Setting(host, rules)
    from .reading.rules import read_rules

    text = path.read_text(encoding="utf-8")
    return Setting(default_host(), read_rules(text, str(path), table).rules)


def default_host() -> Host:
    """The host that a rules file alone is given: lo and eth0 with one address and a default route, nobody listening."""
    from .reading.hosts import read_host_text

    return replace(read_host_text(DEFAULT_HOST, "the default host").host, name="the default host")


DEFAULT_HOST = """\
rules: none
interfaces:
  lo: {addresses: [127.0.0.1/8]}
  eth0: {addresses: [10.0.0.2/24]}
routes:
  - default via 10.0.0.1 dev eth0
  - 10.0.0.0/24 dev eth0 scope link src 10.0.0.2
processes:
  anyone: {uid: any, gid: any}
"""


def gather(paths: Sequence[Path]) -> list[Path]:
    """The property files among these files and, at any depth, in these folders; in the order given, then by name."""
    out: list[Path] = []
    for path in paths:
        out += sorted(path.rglob("*.prop")) if path.is_dir() else [path]
    return list(dict.fromkeys(out))
