"""From property files to questions: hosts with their rules, and claims whose names are all there.

Reading a property file opens no other file.  Here the hosts that it names are read, changed as it says,
and every process, proxy, chain, rule and interface of a claim is looked up on the host of which it speaks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from textwrap import indent
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from . import claims as c
from . import spell
from .hosts import Host, Setting, settled, unsettled
from .reading.errors import HostError, PropertyError, RuleError, did_you_mean
from .reading.files import read_text
from .rules import InInterface, OutInterface, RuleSet
from .values import AddressSet, Family, HostAddresses, Net, Place


class Question(Struct, frozen=True):
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


class Overrides(Struct, frozen=True):
    """What the command line puts in the place of what the files say; `table` is that of a listing in `rules`."""

    rules: Path | None = None
    host: Path | None = None
    table: str | None = None


class Cases:
    """One property file with the hosts that it names; each host and each rules file is read once."""

    def __init__(self, path: Path, overrides: Overrides | None = None) -> None:
        from .reading.properties import read_properties

        self.overrides = overrides or Overrides()
        self.path = path
        self.file = read_properties(path)
        self.notes: dict[str, None] = {}
        """What the reader had to assume about the files, in order."""
        self.refused: list[tuple[str, PropertyError]] = []
        """The properties that cannot be asked of the user's own rules or host."""
        self._hosts = {h.name: h for h in self.file.hosts}
        self._settings: dict[tuple[str, tuple[c.Variant, ...]], Setting] = {}
        self._lines = read_text(path, "the property file", "P009", PropertyError).split("\n")

    def questions(self, only: Sequence[str] = ()) -> list[Question]:
        """Every property on every host that it names, and every cell of every table, in the file's order; with `only`
        those that have one of these words in their name.

        Of rules or a host of the user's own a property may name what is not there: then it is not asked, and `refused`
        says why.
        """
        out: list[Question] = []
        for p in self.file.properties:
            if only and not any(word in p.name for word in only):
                continue
            try:
                out += self._cells(p) if isinstance(p, c.TableProperty) else self._of_property(p)
            except PropertyError as error:
                if self.overrides.rules is None and self.overrides.host is None:
                    raise
                self.refused.append((p.name, error))
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
        if self.overrides.host is None and not (base / named.file).is_file():
            message = f"the host file {base / named.file} cannot be read: there is no such file"
            hint = "a path is relative to the file that names it"
            raise self._error(message, named.place, hint, named.file, "P009")
        host, rules, notes = _host_and_rules(self.overrides.host or base / named.file)
        if self.overrides.rules is not None and any(
            t.chains[n].rules for t in rules.tables.values() for n in t.chains
        ):
            rules, notes = read_rule_files((self.overrides.rules,), self.overrides.table)
        self.notes |= dict.fromkeys(notes)
        family = host.family

        def read(path: Path) -> RuleSet:
            found, said = read_rule_files((path,), None, family)
            self.notes |= dict.fromkeys(said)
            return found

        try:
            host, rules = apply_variants(host, rules, (*named.variants, *variants), base, read)
        except PropertyError as error:
            raise self._shown(error) from None
        host, said = _with_settled_sets(host, rules)
        self.notes |= dict.fromkeys(said)
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
            case c.SameClaim(premise) | c.KeepClaim(premise):
                for setting in settings.values():
                    bound = self._premise(premise, setting, claim.place)
                return replace(claim, premise=bound)
            case c.DeadClaim():
                (setting,) = settings.values()
                if claim.table not in setting.rules.tables:
                    what = f"table in the rules of {setting.host.name}"
                    self._missing(what, claim.table, setting.rules.tables, claim.place)
                for ref in claim.excepted:
                    self._rules(ref, setting, claim.place)
                if claim.rule is None:
                    return claim
                found = self._rules(claim.rule, setting, claim.place)
                if len(found) > 1:
                    raise self._error(
                        f"{claim.rule} names {len(found)} rules",
                        claim.place,
                        "give the rule's number",
                        f"{claim.rule.table}/{claim.rule.chain}",
                    )
                return replace(claim, rule=found[0])

    def _premise(self, premise: c.Premise, setting: Setting, place: Place) -> c.Premise:
        match premise.who:
            case c.Outside(interface):
                if interface is not None:
                    self._interface(interface, setting.host, place)
                if interface == "lo":
                    raise self._error("nothing comes from outside on lo", place, None, "lo")
            case c.OfProcess(process):
                self._process(process, setting.host, place)
            case c.OfProxy(process, proxy):
                self._process(process, setting.host, place)
                proxies = [x.name for x in setting.host.process(process).proxies]
                if proxy not in proxies:
                    self._missing(f"proxy of {process}", proxy, proxies, place)
        exceptions = tuple(
            replace(e, filter=self._filter(e.filter, setting.host, place)) for e in premise.exceptions
        )
        return replace(
            premise, filter=self._filter(premise.filter, setting.host, place), exceptions=exceptions
        )

    def _filter(self, wanted: c.Filter, host: Host, place: Place) -> c.Filter:
        for match in (literal.match for literal in wanted.where):
            if isinstance(match, InInterface | OutInterface):
                stem = match.iface.pattern.removesuffix("+")
                if stem == match.iface.pattern:
                    self._interface(stem, host, place)
                elif not any(i.name.startswith(stem) for i in host.interfaces):
                    raise self._error(
                        f"no interface on {host.name} is named `{match.iface}`", place, None, str(match.iface)
                    )
        return replace(
            wanted, to=self._addresses(wanted.to, place), source=self._addresses(wanted.source, place)
        )

    def _addresses(self, addresses: AddressSet | None, place: Place) -> AddressSet | None:
        """The set with the addresses of hosts in the place of their names."""
        if addresses is None:
            return None

        def found(terms: Iterable[object]) -> tuple[Net, ...]:
            out = []
            for term in terms:
                if isinstance(term, HostAddresses):
                    host = self.setting(term.host).host
                    nets = [Net(a.ip) for i in host.interfaces if i.name != "lo" for a in i.addresses]
                    if not nets:
                        raise self._error(f"{term.host} has no address but on lo", place, None, term.host)
                    out += nets
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
                return c.Reaches(process, port, self._having(having, place))
            case c.PassesBeforeLeaving(process, interface):
                self._process(process, setting.host, place)
                if interface is not None:
                    self._interface(interface, setting.host, place)
                return verb
            case c.Leaves(interface, having):
                if interface is not None:
                    self._interface(interface, setting.host, place)
                return c.Leaves(interface, self._having(having, place))
            case c.Ends() | c.IsLost() | c.IsRejected() | c.IsRefused():
                return verb

    def _having(self, having: c.With, place: Place) -> c.With:
        return replace(
            having,
            source=self._addresses(having.source, place),
            destination=self._addresses(having.destination, place),
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
        chain = c.ChainRef(ref.table, ref.chain)
        self._chain(chain, setting, place)
        rules = setting.rules.tables[ref.table].chains[ref.chain].rules
        if isinstance(ref, c.RuleRef):
            if not 1 <= ref.rule <= len(rules):
                many = f"{len(rules)} rule{'' if len(rules) == 1 else 's'}"
                raise self._error(f"there is no rule {ref}", place, f"the chain has {many}", str(ref))
            return [ref]
        found = [
            c.RuleRef(ref.table, ref.chain, number)
            for number, rule in enumerate(rules, 1)
            if any(ref.text in comment for comment in rule.comments)
            or ref.text in spell.rule(ref.chain, rule, setting.rules.family)
        ]
        if not found:
            raise self._error(f"no rule of {chain} has `{ref.text}` in it", place, None, ref.text)
        return found

    # -- errors

    def _missing(self, what: str, word: str, known: Iterable[str], place: Place) -> None:
        names = sorted(known)
        near = None if word.isdecimal() else did_you_mean(word, names)
        hint = near or (f"there is {', '.join(names[:12])}" if names else "there is none")
        raise self._error(f"there is no {what}: `{word}`", place, hint, word)

    def _error(
        self, message: str, place: Place, hint: str | None, word: str | None = None, code: str = "P002"
    ) -> PropertyError:
        """An error at the claim that begins at `place`, at the word itself where it stands there or below."""
        at, width = place, 1
        if word is not None:
            whole = re.compile(rf"(?<![\w/-]){re.escape(word)}(?![\w/-])")
            for number, line in enumerate(self._lines[place.line - 1 :], place.line):
                if found := whole.search(line, place.column - 1 if number == place.line else 0):
                    at, width = Place(place.file, number, found.start() + 1), len(word)
                    break
        text = self._lines[at.line - 1] if 1 <= at.line <= len(self._lines) else None
        return PropertyError(code, message, at, line=text, width=width, hint=hint)

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


Notes: TypeAlias = tuple[str, ...]
"""What a reader had to assume, each with the file of which it is said."""


@cache
def _host_and_rules(path: Path) -> tuple[Host, RuleSet, Notes]:
    from .reading.hosts import read_host

    found = read_host(path).views
    host = found[0].host
    rules, notes = read_rule_files(found[0].rules_files, None, host.family)
    if len(found) > 1:
        notes += (f"{path}: its IPv6 side is not asked about",)
    return host, rules, notes


def read_rule_files(
    paths: Sequence[Path], table: str | None = None, family: Family = Family.IPV4
) -> tuple[RuleSet, Notes]:
    """The rules of this family after these files were loaded in their order (`read_in_order`).

    `table` names the table of a text that does not name its own.
    """
    return _rules(tuple(paths), table, family) if paths else (RuleSet({}, family), ())


@cache
def _rules(paths: tuple[Path, ...], table: str | None, family: Family) -> tuple[RuleSet, Notes]:
    from .reading.rules import read_in_order

    texts = [(read_text(path, "the rules file", "R031", RuleError), str(path)) for path in paths]
    found = read_in_order(texts, table, None if family is Family.IPV4 else family)
    path = " and ".join(map(str, paths))
    notes = [f"{path}: {note}" for note in found.notes]
    rules = found.families.get(family)
    if rules is None:
        (other,) = found.families
        hint = f"name them as the host's `{RULES_KEY[other]}:`"
        message = f"these are {other} rules, and the host's {family} rules are asked for"
        raise RuleError("R004", message, Place(str(paths[0]), 1), hint=hint)
    if len(found.families) > 1 and family is Family.IPV4:
        notes.append(f"{path}: its IPv6 rules are not asked about: `rules6:` names those of a host")
    return rules, tuple(notes)


RULES_KEY = {Family.IPV4: "rules", Family.IPV6: "rules6"}


def read_setting(path: Path, table: str | None = None) -> tuple[Setting, Notes]:
    """A host file's setting, or for a rules file alone that of a host with its rules and the defaults of `default_host`."""
    if path.suffix in (".yaml", ".yml"):
        if table is not None:
            hint = "it is for rules given by themselves, as a listing"
            raise HostError("H009", "a host file takes no `--table`", Place(str(path), 0), hint=hint)
        host, rules, notes = _host_and_rules(path)
        host, said = _with_settled_sets(host, rules)
        return Setting(host, rules), (*notes, *said)
    rules, notes = read_rule_files((path,), table)
    text = DEFAULT_HOST.replace("none", str(path), 1)
    taken = f"{path} names no host, so this one is taken:\n" + indent(text.rstrip(), "  ")
    return Setting(default_host(), rules), (*notes, taken)


def _with_settled_sets(host: Host, rules: RuleSet) -> tuple[Host, Notes]:
    """The host with the sets of which nobody changes what they hold, and a note on the others."""
    changing = unsettled(host.sets, rules) if host.sets else ()
    notes = tuple(
        f"set {name} may change while packets come (by a rule, or since entries have a timeout): what matches it is not known"
        for name in changing
    )
    return (settled(host, rules) if changing else host), notes


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
        out += sorted(p for p in path.rglob("*.prop") if p.is_file()) if path.is_dir() else [path]
    return list(dict.fromkeys(out))
