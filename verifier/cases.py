"""From property files to questions: hosts with their rules, and claims whose names are all there.

Reading a property file opens no other file.  Here the hosts that it names are read, changed as it says,
and every process, proxy, chain, rule and interface of a claim is looked up on the host of which it speaks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from . import claims as c
from . import owners, sides, spell
from .hosts import Host, Setting, settled, unsettled
from .reading.errors import HostError, PropertyError, RuleError, did_you_mean
from .reading.files import read_text
from .rules import InInterface, MatchSet, OutInterface, OwnerNames, RuleSet
from .sets import runs_out
from .values import AddressSet, AddressTerm, Family, HostAddresses, Net, Place, nowhere

if TYPE_CHECKING:
    from .reading.rules import ReadRules


class Question(Struct, frozen=True):
    """A claim with everything it speaks of, and the answer with which it passes.

    `where` is the host's name, for a table with the row's title; `settings` are the hosts of the claims
    by name; `cell` is set for a cell of a table, whose one claim is about EVERY packet.  All is of one family: what is
    asked of packets of the other one stands in `also`, and the answer is to both together.
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
    numbers: tuple[int, ...] = (0,)
    """Which of the property's claims each of `claims` is: the others speak of no packet of this family."""
    also: Question | None = None

    def setting(self, host: str) -> Setting:
        return dict(self.settings)[host]

    @property
    def sides(self) -> tuple[Question, ...]:
        """The question in each family of whose packets it is asked."""
        return (self,) if self.also is None else (self, self.also)


Settings: TypeAlias = Mapping[Family, Setting]
"""A host in each family that it has."""


class _OfTheOther(Exception):
    """The claim names what only packets of the other family have to do with."""


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
        self._settings: dict[tuple[str, tuple[c.Variant, ...]], Settings] = {}
        self._both: dict[int, Settings] = {}
        """For each setting all those of its host: what is there in one family may be named, and is not there in the other."""
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

    def settings(self, name: str, variants: tuple[c.Variant, ...] = ()) -> Settings:
        """The host in each family that it has."""
        key = (name, variants)
        if key not in self._settings:
            self._settings[key] = self._read(self._hosts[name], variants)
        return self._settings[key]

    def _read(self, named: c.HostName, variants: tuple[c.Variant, ...]) -> Settings:
        base = self.path.parent
        if self.overrides.host is None and not (base / named.file).is_file():
            message = f"the host file {base / named.file} cannot be read: there is no such file"
            hint = "a path is relative to the file that names it"
            raise self._error(message, named.place, hint, named.file, "P009")
        views, notes = _hosts_and_rules(self.overrides.host or base / named.file)
        self.notes |= dict.fromkeys(notes)
        families = {host.family for host, _ in views}
        for variant in (*named.variants, *variants):
            if variant.key == "on":
                self._takes_some(variant, named.name, families)
        found = {host.family: self._changed(named, host, rules, variants, families) for host, rules in views}
        self._both |= {id(setting): found for setting in found.values()}
        return found

    def _takes_some(self, variant: c.Variant, name: str, families: set[Family]) -> None:
        """Raises PropertyError iff a socket that is bound so takes no packet that the host can have."""
        from .reading.words import read_bind

        if families.isdisjoint(read_bind(variant.value).families):
            message = f"{variant.value} is no address of host {name}"
            raise self._shown(PropertyError("P002", message, variant.place))

    def _changed(
        self,
        named: c.HostName,
        host: Host,
        rules: RuleSet,
        variants: tuple[c.Variant, ...],
        families: set[Family],
    ) -> Setting:
        """The host in one of its families with the rules that the command line puts in the place of its own, and its variants."""
        from .reading.variants import apply_variants

        def instead(path: Path, table: str | None = None) -> RuleSet:
            """The rules of this family in a file; of a host of both, where it has none, the host's own."""
            there = families_of((path,), table)
            if not there & families:
                # Words that tell no family are IPv4's where nobody says else.
                with suppress(RuleError):
                    there = families_of((path,), table, host.family)
            if host.family not in there and not there & families:
                message = f"these are {' and '.join(map(str, there))} rules, and host {named.name} has {host.family} alone"
                raise RuleError(
                    "R004",
                    message,
                    Place(str(path), 1),
                    hint="ask the properties of hosts that have this family",
                )
            for other in there - families:
                note = (
                    f"{path}: its {other} rules are not asked about, since host {named.name} has no {other}"
                )
                self.notes[note] = None
            if host.family not in there:
                self.notes[f"{path}: it has no {host.family} rules, so host {named.name} keeps its own"] = (
                    None
                )
                return rules
            found, said = read_rule_files((path,), table, host.family)
            self.notes |= dict.fromkeys(said)
            return found

        over = self.overrides.rules
        if over is not None and any(t.chains[n].rules for t in rules.tables.values() for n in t.chains):
            rules = instead(over, self.overrides.table)

        try:
            host, rules = apply_variants(host, rules, (*named.variants, *variants), self.path.parent, instead)
        except PropertyError as error:
            raise self._shown(error) from None
        setting, said = _settled(replace(host, name=named.name), rules)
        strange = (f"{self.path}: {note}" for note in _strangers(setting.host, rules))
        self.notes |= dict.fromkeys((*said, *strange))
        return setting

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
            question = Question(
                p.name, p.title, where, p.claims, (), expectation.wanted, expectation.because, p.place
            )
            hosts = {n: self.settings(n) for n in dict.fromkeys(names)}
            out.append(self._asked(question, hosts))
        return out

    def _cells(self, table: c.TableProperty) -> list[Question]:
        out = []
        for row in table.rows:
            for column, cell in zip(table.columns, row.cells, strict=True):
                claim = c.PacketClaim(c.Quantifier.EVERY, table.premise, table.verbs, table.place)
                where = f"{column}, {row.title}"
                wanted = c.Wanted.PROVED
                question = Question(
                    table.name, table.title, where, (claim,), (), wanted, None, row.place, cell
                )
                out.append(self._asked(question, {column: self.settings(column, row.variants)}))
        return out

    def _asked(self, written: Question, hosts: dict[str, Settings]) -> Question:
        """The question with its hosts, and its claims bound, in each family of whose packets some claim speaks."""
        asked: list[Question] = []
        failed: list[PropertyError] = []
        for family in Family:
            here = {n: s[family] for n, s in hosts.items() if family in s}
            claims: list[tuple[int, c.Claim]] = []
            for number, claim in enumerate(written.claims):
                its = _of_family(claim, family)
                if not here or its is None:
                    continue
                if len(here) < len(hosts):
                    self._beside(claim, here, hosts, family)
                try:
                    claims.append((number, self._bind(its, here)))
                except PropertyError as error:
                    failed.append(error)
                except _OfTheOther:
                    pass
            if claims:
                asked.append(
                    replace(
                        written,
                        claims=tuple(claim for _, claim in claims),
                        settings=tuple(here.items()),
                        numbers=tuple(number for number, _ in claims),
                    )
                )
        spoken = {number for side in asked for number in side.numbers}
        for number, claim in enumerate(written.claims):
            if number not in spoken:
                if failed:
                    raise failed[0]
                have = " and ".join(str(f) for f in Family if any(f in s for s in hosts.values()))
                message = f"this speaks of no packet that {' and '.join(hosts)} can have"
                raise self._error(message, claim.place, f"it has {have} alone", None, "P002")
        return asked[0] if len(asked) == 1 else replace(asked[0], also=asked[1])

    def _beside(
        self, claim: c.Claim, here: dict[str, Setting], hosts: dict[str, Settings], family: Family
    ) -> None:
        (missing, *_) = (n for n in hosts if n not in here)
        message = f"{', '.join(here)} has {family} packets, and {missing} has none"
        hint = "say `to` which addresses: then packets of one family are compared"
        raise self._error(message, claim.place, hint, missing, "P002")

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
                    self._elsewhere(claim.table in s.rules.tables for s in self._beyond(setting))
                    what = f"table in the rules of {setting.host.name}"
                    self._missing(what, claim.table, setting.rules.tables, claim.place)
                excepted = tuple(ref for x in claim.excepted for ref in self._rules(x, setting, claim.place))
                if claim.rule is None:
                    return replace(claim, excepted=excepted)
                found = self._rules(claim.rule, setting, claim.place)
                if not found:
                    raise _OfTheOther
                if len(found) > 1:
                    raise self._error(
                        f"{claim.rule} names {len(found)} rules",
                        claim.place,
                        "give the rule's number",
                        f"{claim.rule.table}/{claim.rule.chain}",
                    )
                return replace(claim, rule=found[0])

    def _premise(self, premise: c.Premise, setting: Setting, place: Place) -> c.Premise:
        for who in (premise.who, premise.after):
            if who is not None:
                self._who(who, setting, place)
        exceptions = tuple(
            replace(e, filter=self._filter(e.filter, setting.host, place)) for e in premise.exceptions
        )
        return replace(
            premise, filter=self._filter(premise.filter, setting.host, place), exceptions=exceptions
        )

    def _who(self, who: c.Who, setting: Setting, place: Place) -> None:
        """Raises PropertyError where the host has no such sender."""
        match who:
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
                    others = (s.host.process(process).proxies for s in self._beyond(setting))
                    self._elsewhere(x.name == proxy for its in others for x in its)
                    self._missing(f"proxy of {process}", proxy, proxies, place)

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
            if isinstance(match, OwnerNames) and isinstance(owners.owner(match, host), OwnerNames):
                name = next(name for name in (match.uid, match.gid) if isinstance(name, str))
                raise self._error(owners.why(match), place, None, name, "P007")
        return replace(
            wanted,
            where=owners.literals(wanted.where, host),
            to=self._addresses(wanted.to, place, host.family),
            source=self._addresses(wanted.source, place, host.family),
        )

    def _addresses(self, addresses: AddressSet | None, place: Place, family: Family) -> AddressSet | None:
        """The set with the addresses of hosts in the place of their names."""
        if addresses is None:
            return None

        def found(terms: Iterable[AddressTerm]) -> tuple[AddressTerm, ...]:
            out: list[AddressTerm] = []
            for term in terms:
                if isinstance(term, HostAddresses):
                    views = [view.host for view in self.settings(term.host).values()]
                    nets = [
                        Net.prefix(a.ip, a.family.bits, a.family)
                        for host in views
                        for i in host.interfaces
                        if i.name != "lo"
                        for a in i.addresses
                    ]
                    if not nets:
                        raise self._error(f"{term.host} has no address but on lo", place, None, term.host)
                    out += (net for net in nets if net.family is family)
                else:
                    out.append(term)
            return tuple(out)

        included = found(addresses.included)
        if addresses.included and not included:
            return nowhere(family)
        return AddressSet(included, found(addresses.excluded))

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
                its = (s.host.process(process) for s in self._both_of(setting))
                ports = list(dict.fromkeys(x.port for p in its for x in p.listens))
                if port is not None and port not in ports:
                    self._missing(f"port that {process} listens on", str(port), map(str, ports), place)
                return c.Reaches(process, port, self._having(having, place, setting.host.family))
            case c.PassesBeforeLeaving(process, interface):
                self._process(process, setting.host, place)
                if interface is not None:
                    self._interface(interface, setting.host, place)
                return verb
            case c.Leaves(interface, having):
                if interface is not None:
                    self._interface(interface, setting.host, place)
                return c.Leaves(interface, self._having(having, place, setting.host.family))
            case c.IsAnswered(interface, having):
                if interface is not None:
                    self._interface(interface, setting.host, place)
                return c.IsAnswered(interface, self._having(having, place, setting.host.family))
            case c.Ends() | c.IsLost() | c.IsRejected() | c.IsRefused():
                return verb

    def _having(self, having: c.With, place: Place, family: Family) -> c.With:
        its = sides.having(having, family)
        return replace(
            its,
            source=self._addresses(its.source, place, family),
            destination=self._addresses(its.destination, place, family),
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
        known = {
            f"{t.name}/{chain}"
            for s in self._both_of(setting)
            for t in s.rules.tables.values()
            for chain in t.chains
        }
        if str(ref) not in known:
            self._missing(f"chain on {setting.host.name}", str(ref), known, place)

    def _rules(self, ref: c.RuleRef | c.RuleText, setting: Setting, place: Place) -> list[c.RuleRef]:
        chain = c.ChainRef(ref.table, ref.chain)
        self._chain(chain, setting, place)
        table = setting.rules.tables.get(ref.table)
        if table is None or ref.chain not in table.chains:
            return []
        rules = table.chains[ref.chain].rules
        if isinstance(ref, c.RuleRef):
            there = max(
                len(s.rules.tables[ref.table].chains[ref.chain].rules)
                for s in self._both_of(setting)
                if ref.table in s.rules.tables and ref.chain in s.rules.tables[ref.table].chains
            )
            if len(rules) < ref.rule <= there:
                return []
            if not 1 <= ref.rule <= len(rules):
                many = f"{len(rules)} rule{'' if len(rules) == 1 else 's'}"
                raise self._error(f"there is no rule {ref}", place, f"the chain has {many}", str(ref))
            return [ref]
        found = _with_text(setting.rules, ref)
        if not found and not any(_with_text(s.rules, ref) for s in self._beyond(setting)):
            raise self._error(f"no rule of {chain} has `{ref.text}` in it", place, None, ref.text)
        return found

    def _both_of(self, setting: Setting) -> Iterable[Setting]:
        """The settings of the host in all its families."""
        return self._both[id(setting)].values()

    def _beyond(self, setting: Setting) -> list[Setting]:
        """Those of the other family."""
        return [s for s in self._both_of(setting) if s is not setting]

    def _elsewhere(self, there: Iterable[bool]) -> None:
        """Raises iff what is not there in this family is there in the other: then a claim speaks of that one's packets."""
        if any(there):
            raise _OfTheOther

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


def _with_text(rules: RuleSet, ref: c.RuleText) -> list[c.RuleRef]:
    """The rules of the chain that have the text in their spelling or comments."""
    table = rules.tables.get(ref.table)
    if table is None or ref.chain not in table.chains:
        return []
    return [
        c.RuleRef(ref.table, ref.chain, number)
        for number, rule in enumerate(table.chains[ref.chain].rules, 1)
        if any(ref.text in comment for comment in rule.comments)
        or ref.text in spell.rule(ref.chain, rule, rules.family)
    ]


def _of_family(claim: c.Claim, family: Family) -> c.Claim | None:
    """The claim as one of packets of this family; None iff it speaks of none."""
    match claim:
        case c.PacketClaim(_, premise) | c.SameClaim(premise) | c.KeepClaim(premise):
            its = sides.of_family(premise, family)
            return None if its is None else replace(claim, premise=its)
        case c.DeadClaim():
            return claim


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
def _hosts_and_rules(path: Path) -> tuple[tuple[tuple[Host, RuleSet], ...], Notes]:
    """The host in each family that it has, with its rules; a family of which no rules are named has those of the other's
    files, if there are any."""
    from .reading.hosts import read_host

    views = []
    notes: Notes = ()
    found = read_host(path).views
    named = tuple(f for view in found for f in view.rules_files)
    for view in found:
        family = view.host.family
        files = view.rules_files or (named if family in families_of(named) else ())
        rules, said = read_rule_files(files, None, family)
        views.append((view.host, rules))
        notes += said
    if len(found) == 1 and found[0].host.family is Family.IPV4 and Family.IPV6 in families_of(named):
        notes += (f"{path}: IPv6 rules are not asked about, since the host has no IPv6 address",)
    return tuple(views), tuple(dict.fromkeys(notes))


def families_of(paths: Sequence[Path], table: str | None = None, family: Family | None = None) -> set[Family]:
    """The families of which there are rules in these files; `family` is that of words which do not tell."""
    return set(_read_rules(tuple(paths), table, family).families) if paths else set()


def read_rule_files(
    paths: Sequence[Path], table: str | None = None, family: Family = Family.IPV4
) -> tuple[RuleSet, Notes]:
    """The rules of this family after these files were loaded in their order (`read_in_order`).

    `table` names the table of a text that does not name its own.
    """
    return _rules(tuple(paths), table, family) if paths else (RuleSet({}, family), ())


@cache
def _read_rules(paths: tuple[Path, ...], table: str | None, family: Family | None) -> ReadRules:
    from .reading.rules import read_in_order

    texts = [(read_text(path, "the rules file", "R031", RuleError), str(path)) for path in paths]
    return read_in_order(texts, table, family)


def _rules(paths: tuple[Path, ...], table: str | None, family: Family) -> tuple[RuleSet, Notes]:
    found = _read_rules(paths, table, None)
    if family not in found.families:
        found = _read_rules(paths, table, family)
    path = " and ".join(map(str, paths))
    rules = found.families.get(family)
    if rules is None:
        (other,) = found.families
        hint = f"name them as the host's `{RULES_KEY[other]}:`"
        message = f"these are {other} rules, and the host's {family} rules are asked for"
        raise RuleError("R004", message, Place(str(paths[0]), 1), hint=hint)
    return rules, tuple(f"{path}: {note}" for note in found.notes)


RULES_KEY = {Family.IPV4: "rules", Family.IPV6: "rules6"}


def read_setting(path: Path, table: str | None = None) -> tuple[Setting, Notes]:
    """The setting of `read_settings`; where there are two, that of IPv4."""
    settings, notes = read_settings(path, table)
    return next(iter(settings.values())), notes


def read_settings(path: Path, table: str | None = None) -> tuple[Settings, Notes]:
    """A host file's settings, or for a rules file alone those of a host with its rules and the defaults of `default_host`."""
    settings: dict[Family, Setting] = {}
    if path.suffix in (".yaml", ".yml"):
        if table is not None:
            hint = "it is for rules given by themselves, as a listing"
            raise HostError("H009", "a host file takes no `--table`", Place(str(path), 0), hint=hint)
        views, notes = _hosts_and_rules(path)
        for host, rules in views:
            settings[host.family], said = _settled(host, rules)
            notes += said
        return settings, tuple(dict.fromkeys(notes))
    notes = ()
    for family in sorted(families_of((path,), table), key=lambda f: f.value):
        rules, said = read_rule_files((path,), table, family)
        text = DEFAULT_HOSTS[family].replace("none", str(path), 1)
        settings[family], unknown = _settled(default_host(family), rules)
        notes += (
            *said,
            *unknown,
            f"{path} names no host, so this one is taken:\n" + indent(text.rstrip(), "  "),
        )
    return settings, tuple(dict.fromkeys(notes))


def _settled(host: Host, rules: RuleSet) -> tuple[Setting, Notes]:
    """The host with the sets of which nobody changes what they hold, and the rules with the ids of the names that it tells;
    a note on what is left."""
    changing = unsettled(host.sets, rules) if host.sets else ()
    notes = tuple(
        f"set {name} may change as packets come (by a rule, or by a hardware address that is filled in): what matches it is not known"
        for name in changing
    ) + tuple(
        f"set {name} has entries with a timeout: each may still be there when a packet comes, or have gone"
        for name, s in host.sets.items()
        if name not in changing and runs_out(s, host.sets)
    )
    rules = owners.told(rules, host)
    return Setting(settled(host, rules) if changing else host, rules), (*notes, *owners.untold(rules))


def _strangers(host: Host, rules: RuleSet) -> Notes:
    """Notes on what may be a slip in the rules or the host: interfaces and sets that the rules name and the host has not, and
    interfaces that no route uses."""
    names = [interface.name for interface in host.interfaces]
    loaded = [rule for t in rules.tables.values() for chain in t.chains.values() for rule in chain.rules]
    matches = [literal.match for rule in loaded for literal in rule.literals]
    asked = {str(m.iface): None for m in matches if isinstance(m, InInterface | OutInterface)}
    absent = [p for p in asked if not any(n == p or (p[-1:] == "+" and n.startswith(p[:-1])) for n in names)]
    sets = dict.fromkeys(m.name for m in matches if isinstance(m, MatchSet) and m.name not in host.sets)
    notes = []
    used = {route.device for routes in (host.routes, *host.tables.values()) for route in routes}
    idle = [i.name for i in host.interfaces if i.addresses and i.name != "lo" and i.name not in used]
    if idle:
        notes.append(f"no route of host {host.name} uses {', '.join(idle)}")
    if absent:
        what = "interface" if len(absent) == 1 else "interfaces"
        notes.append(f"host {host.name} has no {what} {', '.join(absent)}, which its rules name")
    if sets:
        what = "the set" if len(sets) == 1 else "the sets"
        notes.append(
            f"host {host.name} tells nothing of {what} {', '.join(sets)}, which its rules name: what is in there is not known"
        )
    return tuple(notes)


def default_host(family: Family = Family.IPV4) -> Host:
    """The host that a rules file alone is given: lo and eth0 with one address and a default route, nobody listening."""
    from .reading.hosts import read_host_text

    return replace(read_host_text(DEFAULT_HOSTS[family], "the default host").host, name="the default host")


DEFAULT_HOSTS = {
    Family.IPV4: """\
rules: none
interfaces:
  lo: {addresses: [127.0.0.1/8]}
  eth0: {addresses: [10.0.0.2/24]}
routes:
  - default via 10.0.0.1 dev eth0
  - 10.0.0.0/24 dev eth0 scope link src 10.0.0.2
processes:
  anyone: {uid: any, gid: any}
""",
    Family.IPV6: """\
rules6: none
interfaces:
  lo: {addresses: ["::1/128"]}
  eth0: {addresses: ["2001:db8::2/64", "fe80::2/64"]}
routes6:
  - 2001:db8::/64 dev eth0 metric 256
  - fe80::/64 dev eth0 metric 256
  - default via fe80::1 dev eth0 metric 1024
processes:
  anyone: {uid: any, gid: any}
""",
}


def gather(paths: Sequence[Path]) -> list[Path]:
    """The property files among these files and, at any depth, in these folders; in the order given, then by name."""
    out: list[Path] = []
    for path in paths:
        out += sorted(p for p in path.rglob("*.prop") if p.is_file()) if path.is_dir() else [path]
    return list(dict.fromkeys(out))
