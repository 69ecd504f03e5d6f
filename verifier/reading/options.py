"""Whose option each word of a rule is: getopt over the modules that the rule has loaded so far.

As in iptables: `-m X` and `-j X` load X and add its options, the newest first; `-p tcp` loads tcp when one
of tcp's options is met; an option may be shortened to any beginning that is no other option's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence

from msgspec import Struct, field

from ..values import Family
from . import extensions as ext
from .errors import RuleError, did_you_mean
from .lines import Line, Word


class Option(Struct, frozen=True):
    """An option as it was given: its one name without dashes, its values, whether `!` stands before it."""

    name: str
    values: tuple[Word, ...]
    negated: bool
    word: Word


class Module(Struct, frozen=True):
    """A match or target extension that the rule loads, with the options that are its own."""

    name: str
    word: Word
    options: tuple[Option, ...]


class Jump(Struct, frozen=True):
    """What `-j` or `-g` names; `module` where that is an extension."""

    name: str
    word: Word
    goto: bool
    module: Module | None


class Options(Struct, frozen=True):
    """A rule's words, sorted by owner."""

    header: tuple[Option, ...]
    matches: tuple[Module, ...]
    jump: Jump | None
    family: Family = Family.IPV4

    @property
    def protocol(self) -> Option | None:
        return next((o for o in self.header if o.name == "protocol"), None)


NameChain = Callable[[str], bool]
"""Whether the table has a chain of this name by now."""


def read(
    line: Line,
    words: Sequence[Word],
    is_chain: NameChain | None,
    chains: Collection[str],
    family: Family = Family.IPV4,
) -> Options:
    """The options of a rule's words, as iptables or ip6tables has them; `is_chain` is None where no target may be named.

    `chains` are the names to suggest where a chain is not there.
    """
    reader = _Getopt(line, list(words), is_chain, chains, family)
    reader.run()
    jump = reader.jump
    if jump and reader.target:
        jump = Jump(jump.name, jump.word, jump.goto, reader.target.module())
    return Options(tuple(reader.header), tuple(m.module() for m in reader.matches), jump, family)


class _Loaded(Struct):
    name: str
    word: Word
    known: Mapping[str, int] | None
    """None: an extension whose options nobody has listed."""
    modelled: bool
    options: list[Option] = field(default_factory=list)

    def module(self) -> Module:
        return Module(self.name, self.word, tuple(self.options))


class _Getopt(Struct):
    line: Line
    words: list[Word]
    is_chain: NameChain | None
    chains: Collection[str]
    family: Family = Family.IPV4
    at: int = 0
    header: list[Option] = field(default_factory=list)
    matches: list[_Loaded] = field(default_factory=list)
    target: _Loaded | None = None
    jump: Jump | None = None
    loaded: list[_Loaded] = field(default_factory=list)
    implied: bool = False

    def run(self) -> None:
        negation: Word | None = None
        while self.at < len(self.words):
            word = self.words[self.at]
            self.at += 1
            if word.is_not:
                if negation:
                    raise self.line.error("R011", "one `!` is enough", word)
                negation = word
            elif word.is_option:
                self._option(word, negation)
                negation = None
            else:
                raise self._stray(word)
        if negation:
            raise self.line.error("R011", "`!` needs an option after it", negation)

    def _stray(self, word: Word) -> RuleError:
        if self.at > 2 and all(w.is_option for w in self.words[self.at - 3 : self.at - 1]):
            option, taken = self.words[self.at - 3 : self.at - 1]
            message = f"`{option.text}` needs a value, and takes `{taken.text}` for it"
            return self.line.error("R009", message, option)
        hint = "a comment needs a line of its own" if word.text.startswith("#") else None
        return self.line.error(
            "R005", f"`{word.text}` belongs to no option", word, hint or did_you_mean(word.text, ext.STANDARD)
        )

    def _option(self, word: Word, negation: Word | None) -> None:
        owner, name, arity, given = self._resolve(word)
        values = self._rest() if arity is None else self._take(word, arity, given)
        is_target = owner is not None and owner is self.target
        intraposed = bool(values) and values[0].is_not and name != "comment" and not is_target
        if intraposed:
            # `--dport ! 80`, as iptables wrote it until 1.4.3.
            if negation:
                raise self.line.error("R011", "one `!` is enough", negation)
            more = self._take(word, 1, None) if arity else ()
            values = (*values[1:], *more)
        option = Option(ext.canonical(name), values, intraposed or negation is not None, word)
        if owner is None:
            self._global(option)
        else:
            if is_target and negation:
                raise self.line.error("R011", f"`{word.text}` of a target cannot be negated", negation)
            owner.options.append(option)

    # -- which option it is -----------------------------------------------------------------------

    def _resolve(self, word: Word) -> tuple[_Loaded | None, str, int | None, Word | None]:
        """Its owner (None: iptables itself), name, number of values (None: not known), and a value that is glued on."""
        if not word.text.startswith("--"):
            name = ext.SHORT.get(word.text[1])
            if name is None:
                raise self.line.error("R006", f"iptables has no option `{word.text}`", word)
            arity = ext.options(ext.GLOBAL)[name]
            if len(word.text) > 2 and not arity:
                raise self.line.error("R006", f"iptables has no option `{word.text}`", word)
            glued = Word(word.text[2:], word.column + 2, word.width - 2, True) if len(word.text) > 2 else None
            return None, name, arity, glued
        text, equals, value = word.text[2:].partition("=")
        skip = len(text) + 3
        given = Word(value, word.column + skip, max(1, word.width - skip), True) if equals else None
        found = self._find(text) or self._implied(text) or self._unlisted(text)
        if found is None:
            raise self._unknown(word, text)
        owner, name, arity_ = found
        if given and arity_ == 0:
            raise self.line.error("R009", f"`--{name}` takes no value", word)
        return owner, name, arity_, given

    def _find(self, text: str) -> tuple[_Loaded | None, str, int] | None:
        """The option of this name, of iptables or of the newest module that has it; else the only one that begins so."""
        globals_ = ext.options(ext.GLOBAL)
        if text in globals_:
            return None, text, globals_[text]
        for owner in reversed(self.loaded):
            if owner.known is None:
                return None
            if text in owner.known:
                return owner, text, owner.known[text]
        begins: dict[tuple[int, str], tuple[_Loaded | None, str, int]] = {}
        for n, known in [(-1, globals_), *((n, m.known or {}) for n, m in enumerate(self.loaded))]:
            for name, arity in known.items():
                if name.startswith(text):
                    begins[n, ext.canonical(name)] = (self.loaded[n] if n >= 0 else None, name, arity)
        if any(m.known is None for m in self.loaded):
            return None
        return next(iter(begins.values())) if len(begins) == 1 else None

    def _implied(self, text: str) -> tuple[_Loaded | None, str, int] | None:
        """The option of the module that `-p` names, which is loaded for it."""
        protocol = next((o for o in self.header if o.name == "protocol"), None)
        if protocol is None or self.implied or any(m.known is None for m in self.loaded):
            return None
        name = self._of_protocol(protocol)
        if name is None or not any(o.startswith(text) for o in ext.options(ext.MATCHES[name])):
            return None
        self.implied = True
        self._load_match(name, protocol.values[0])
        return self._find(text)

    def _of_protocol(self, protocol: Option) -> str | None:
        """The module that a protocol brings along when one of its options is met."""
        name = _PROTOCOL_MODULES.get(protocol.values[0].text.lower())
        return None if name in self._foreign else name

    @property
    def _foreign(self) -> frozenset[str]:
        """The extensions that only the other family has."""
        return ext.IPV6_ONLY if self.family is Family.IPV4 else ext.IPV4_ONLY

    def _unlisted(self, text: str) -> tuple[_Loaded, str, None] | None:
        """An option that no list has: of the newest module that we do not read, where there is one."""
        if not re.fullmatch(r"\w[\w-]*", text, re.ASCII):
            return None
        owner = next((m for m in reversed(self.loaded) if not m.modelled), None)
        return (owner, text, None) if owner else None

    def _unknown(self, word: Word, text: str) -> RuleError:
        owners = [n for n, o in ext.MATCHES.items() if n not in self._foreign and text in ext.options(o)]
        if owners:
            ways = [f"`-p {n}`" if n in _PROTOCOL_MODULES else f"`-m {n}`" for n in owners[:4]]
            return self.line.error(
                "R006", f"`{word.text}` needs {' or '.join(ways)} before it", word, _target_hint(text)
            )
        return self.line.error(
            "R006", f"no module that this rule loads has an option `{word.text}`", word, self._suggest(text)
        )

    def _suggest(self, text: str) -> str | None:
        """The target that has this option, or the option nearest to it: of what the rule loads, then of any match."""
        if hint := _target_hint(text):
            return hint
        here = {o for m in self.loaded for o in m.known or ()} | set(ext.options(ext.GLOBAL))
        if protocol := next((o for o in self.header if o.name == "protocol"), None):
            module = self._of_protocol(protocol)
            here |= set(ext.options(ext.MATCHES[module])) if module else set()
        anywhere = {o for listed in ext.MATCHES.values() for o in ext.options(listed)}
        hint = did_you_mean(text, here) or did_you_mean(text, anywhere)
        return hint.replace("`", "`--", 1) if hint else None

    # -- its values ---------------------------------------------------------------------------------

    def _take(self, word: Word, arity: int, given: Word | None) -> tuple[Word, ...]:
        """The next `arity` words, whatever they look like; only the first may look like an option."""
        values = [given] if given else []
        while len(values) < arity:
            if self.at == len(self.words):
                raise self.line.error("R009", f"`{word.text}` needs a value", self.line.end)
            value = self.words[self.at]
            if values and (value.is_option or value.is_not):
                raise self.line.error("R009", f"`{word.text}` needs two values", value)
            values.append(value)
            self.at += 1
        return tuple(values)

    def _rest(self) -> tuple[Word, ...]:
        """Every word up to the next option, for an option that we know nothing of."""
        start = self.at
        while self.at < len(self.words) and not (
            self.words[self.at].is_option or (self.words[self.at].is_not and self.at > start)
        ):
            self.at += 1
        return tuple(self.words[start : self.at])

    # -- what it does -------------------------------------------------------------------------------

    def _global(self, option: Option) -> None:
        word = option.word
        match option.name:
            case "match":
                self._not_negated(option)
                self._load_match(option.values[0].text, option.values[0])
            case "jump" | "goto":
                self._not_negated(option)
                self._load_target(option)
            case "fragments" if self.family is Family.IPV6:
                raise self.line.error("R004", "ip6tables has no `-f`", word, "`-m frag` asks for fragments")
            case "source" | "destination" | "protocol" | "in-interface" | "out-interface" | "fragments":
                if any(o.name == option.name for o in self.header):
                    raise self.line.error("R011", f"`{word.text}` stands twice in one rule", word)
                self.header.append(option)
            case "set-counters":
                self._not_negated(option)
            case "ipv4" | "ipv6":
                self._not_negated(option)
                if option.name != f"ipv{self.family.value}":
                    raise self.line.error("R004", f"`{word.text}` stands in a rule of {self.family}", word)
            case _:
                raise self.line.error("R015", f"`{word.text}` cannot stand in a rule of a saved table", word)

    def _not_negated(self, option: Option) -> None:
        if option.negated:
            raise self.line.error("R011", f"`{option.word.text}` cannot be negated", option.word)

    def _load_match(self, name: str, word: Word) -> None:
        name = ext.OTHER_NAMES.get(name, name)
        if name in self._foreign:
            raise self.line.error("R004", f"`-m {name}` is not for {self.family}", word)
        if name in ext.MATCHES:
            known: Mapping[str, int] | None = ext.options(ext.MATCHES[name])
        elif name in ext.FOREIGN_MATCHES:
            known = None
        else:
            hint = did_you_mean(name, [*ext.MATCHES, *ext.FOREIGN_MATCHES])
            raise self.line.error("R007", f"iptables has no match `{name}`", word, hint)
        module = _Loaded(name, word, known, name in ext.MODELLED)
        self.matches.append(module)
        self.loaded.append(module)

    def _load_target(self, option: Option) -> None:
        target, name = option.values[0], option.values[0].text
        if self.is_chain is None:
            raise self.line.error("R015", "a condition has no target", option.word)
        if self.jump:
            raise self.line.error("R011", "a rule has one target", option.word)
        goto = option.name == "goto"
        self.jump = Jump(name, target, goto, None)
        if self.is_chain(name) or (name in ext.STANDARD and not goto):
            return
        foreign = name in ext.FOREIGN_TARGETS
        if name in self._foreign and not goto:
            raise self.line.error("R004", f"`-j {name}` is not for {self.family}", target)
        if goto or not (foreign or name in ext.TARGETS):
            known = [*self.chains, *(() if goto else (*ext.STANDARD, *ext.TARGETS))]
            hint = did_you_mean(name, known) or "a chain is declared before a rule names it"
            raise self.line.error(
                "R008", f"there is no chain {name}" + ("" if goto else ", and no target"), target, hint
            )
        self.target = _Loaded(
            name, target, None if foreign else ext.options(ext.TARGETS[name]), name in ext.MODELLED
        )
        self.loaded.append(self.target)


def _target_hint(text: str) -> str | None:
    owners = [n for n, listed in ext.TARGETS.items() if text in ext.options(listed)]
    return f"`--{text}` is an option of {' and '.join(f'`-j {n}`' for n in owners)}" if owners else None


_PROTOCOL_MODULES = {
    "tcp": "tcp", "6": "tcp", "udp": "udp", "17": "udp", "sctp": "sctp", "132": "sctp", "dccp": "dccp",
    "33": "dccp", "icmp": "icmp", "1": "icmp", "icmpv6": "icmp6", "ipv6-icmp": "icmp6", "58": "icmp6",
    "mobility-header": "mh", "ipv6-mh": "mh", "mh": "mh", "135": "mh", "esp": "esp", "50": "esp", "ah": "ah", "51": "ah",
    "ipcomp": "ipcomp", "108": "ipcomp",
}  # fmt: skip
"""The module that a protocol brings along when one of its options is met."""
