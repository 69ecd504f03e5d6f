"""The premise of a claim, from its tree: who sends, and which packets are spoken of."""

from __future__ import annotations

import re
from contextlib import suppress

from msgspec import Struct
from msgspec.structs import replace

from ..claims import Exception_, Filter, Kind, OfProcess, OfProxy, Outside, Premise, Who
from ..rules import (
    Chance,
    ConnMark,
    Conntrack,
    CtExpire,
    CtStates,
    Fragment,
    InInterface,
    Literal,
    Match,
    MatchSet,
    Opaque,
    OutInterface,
    SocketMatch,
)
from ..values import (
    EVERY_ADDRESS,
    PROTOCOLS,
    UDP,
    AddressSet,
    AddressTerm,
    Family,
    HostAddresses,
    Iface,
    Net,
    Span,
    Special,
    read_protocol,
)
from .errors import InputError, PropertyError, did_you_mean
from .trees import Branch, Word
from .words import read_iface, read_name, read_ports


class Scope(Struct, frozen=True):
    """What a sentence may refer to: the hosts that its file names; and the file's whole text."""

    hosts: frozenset[str]
    text: str

    def host(self, word: Word) -> str:
        """The word as the name of one of the file's hosts."""
        if word.text not in self.hosts:
            hint = did_you_mean(word.text, self.hosts) or 'name it with `host NAME = "FILE"`'
            raise word.error("P002", f"no host is named `{word.text}`", hint)
        return word.text


def read_premise(tree: Branch, scope: Scope) -> Premise:
    """The premise of a branch that has `premise`, and perhaps `exceptions`."""
    premise = tree.branch("premise")
    assert premise is not None
    kind = premise.branch("kind")
    assert kind is not None
    established = kind.word("ESTABLISHED")
    who = _who(premise, scope)
    if established is not None and isinstance(who, OfProxy):
        raise established.error(
            "P007",
            "what a proxy sends behind its dial is not followed",
            "name the process or `outside`, whose connections it accepts",
        )
    exceptions = tree.branch("exceptions")
    found = Premise(
        who,
        Kind.CONNECTION if kind.word("CONNECTION") else Kind.PACKET,
        _filter(premise, kind.word("PROTOCOL"), who, scope),
        tuple(_exception(e, who, scope) for e in (exceptions.branches("exception") if exceptions else ())),
        premise.word("ANSWER") is not None,
        established=established is not None,
        rejection=_rejection(premise) is not None,
    )
    if established is not None:
        _tells_no_state(established, found)
    earlier = premise.branches("even_after")
    return _after(found, earlier, scope) if earlier else found


def _rejection(premise: Branch) -> Word | None:
    """The word by which the premise speaks of rejections; raises PropertyError where nobody follows those."""
    word, kind = premise.word("REJECTION"), premise.branch("kind")
    if word is None:
        return None
    if kind is not None and kind.word("ESTABLISHED"):
        raise word.error(
            "P007",
            "what REJECT sends back for a later packet of a connection is not followed",
            "leave `established` out",
        )
    if premise.branches("even_after"):
        raise word.error("P005", "`even after` speaks of what is sent, not of rejections")
    return word


def _after(premise: Premise, earlier: tuple[Branch, ...], scope: Scope) -> Premise:
    """The premise with whose packet may have been sent before; raises PropertyError where nobody follows such packets."""
    word = earlier[0].the("EVEN")
    if len(earlier) > 1:
        raise earlier[1].the("EVEN").error("P003", "this is given twice", "make it two claims")
    if premise.established:
        raise word.error("P005", "what is established has its own connection before it")
    if premise.filter.protocol != UDP:
        raise word.error(
            "P007",
            "what comes behind an earlier packet is followed of UDP alone",
            "write `udp packet`; of TCP conntrack keeps the state of a handshake, which is not modelled",
        )
    sender = earlier[0].the("SENDER")
    who = _who(earlier[0], scope)
    if isinstance(who, OfProxy) or isinstance(premise.who, OfProxy):
        raise (sender if isinstance(who, OfProxy) else word).error(
            "P005", "a proxy dials TCP, and `even after` is for UDP", "name a process, or `outside`"
        )
    if premise.answer:
        raise word.error("P005", "`even after` speaks of what is sent, not of answers")
    _tells_no_state(word, premise)
    return replace(premise, after=who)


def _tells_no_state(word: Word, premise: Premise) -> None:
    """Raises PropertyError where the premise itself says what conntrack knows."""
    filters = (premise.filter, *(e.filter for e in premise.exceptions))
    if any(isinstance(x.match, CtStates | Conntrack | ConnMark) for f in filters for x in f.where):
        hint = "leave the match out of `where` and of the exceptions"
        raise word.error("P005", "what conntrack knows of these packets is for the earlier one to tell", hint)


def _who(premise: Branch, scope: Scope) -> Who:
    """`[HOST.]outside`, `[HOST.]PROCESS` or `[HOST.]PROCESS.PROXY`; the host is `named_hosts`' to tell."""
    word = premise.the("SENDER")
    iface = premise.word("IFACE")
    parts = unqualified(word, scope, ("outside", "PROCESS", "PROCESS.PROXY"))
    if parts == ["outside"]:
        return Outside(None if iface is None else iface.read(read_iface))
    if iface is not None:
        hint = "write `where -o IF` for what it sends by an interface"
        raise iface.error("P005", "`on` an interface goes with `outside` only", hint)
    if len(parts) == 2:
        return OfProxy(parts[0], parts[1])
    return OfProcess(parts[0])


def unqualified(word: Word, scope: Scope, forms: tuple[str, ...]) -> list[str]:
    """The parts of a dotted name but the host's; `forms` says what may stand there, and how many parts it has."""
    parts = word.text.split(".")
    most = max(f.count(".") for f in forms) + 1
    if parts[0] in scope.hosts:
        if len(parts) == 1:
            hint = " or ".join(f"`{word.text}.{f}`" for f in forms)
            raise word.error("P002", f"`{word.text}` is a host, and no part of one", f"write {hint}")
        parts = parts[1:]
    elif len(parts) > most or (len(parts) == 2 and parts[1] == "outside"):
        if re.fullmatch(r"[0-9.]+(?:/[0-9]+)?", word.text):
            message = f"`{word.text}` is an address, and `from` has who sends"
            raise word.error("P002", message, f"write `from outside where -s {word.text}`")
        hint = did_you_mean(parts[0], scope.hosts) or 'name it with `host NAME = "FILE"`'
        raise word.error("P002", f"no host is named `{parts[0]}`", hint)
    if len(parts) > most:
        raise word.error(
            "P002", f"`{word.text}` has too many parts", "write " + " or ".join(f"`{f}`" for f in forms)
        )
    for part in parts:
        if part == "outside" and len(parts) == 1 and "outside" in forms:
            continue
        try:
            read_name(part)
        except ValueError as e:
            raise word.error("P004", str(e)) from None
    return parts


def _filter(tree: Branch, protocol: Word | None, who: Who, scope: Scope) -> Filter:
    """The conditions that stand right in this branch."""
    number = None if protocol is None else _protocol(protocol)
    to: AddressSet | None = None
    source: AddressSet | None = None
    seen: set[str] = set()
    ports: tuple[Span, ...] = ()
    where: list[Literal] = []
    for selector in tree.branches():
        if selector.name in ("to", "not_to", "port"):
            if selector.name in seen:
                raise selector.words()[0].error(
                    "P003", "this is given twice", "separate what it lists by commas"
                )
            seen.add(selector.name)
        match selector.name:
            case "to" | "not_to":
                to = _and(to, _to(selector, scope))
            case "port":
                ports = _ports(selector)
            case "in_interface":
                where.append(Literal(InInterface(selector.the("IFACE").read(Iface.read))))
            case "where":
                options = selector.the("OPTIONS")
                text, listed = _several(options)
                if listed is not None:
                    source = listed if source is None else None
                    if source is None:
                        raise options.error(
                            "P003", "several sources are given twice", "separate them by commas"
                        )
                if text.strip():
                    where += _where(options, text, who, number)
            case "kind" | "even_after":
                pass
            case _:
                raise AssertionError(selector.name)
    return Filter(number, to, source, ports, tuple(where))


def _protocol(word: Word) -> int:
    hint = did_you_mean(word.text, [*PROTOCOLS, "to", "not", "port", "in", "where"])
    number = word.read(read_protocol, hint)
    if number == 0:
        raise word.error("P004", "every protocol is what is meant without a word for it")
    return number


def _to(selector: Branch, scope: Scope) -> AddressSet:
    """`to A, B, not C`, or `not to A, B`."""
    listed = selector.branch("addresses")
    assert listed is not None
    found = addresses(listed, scope)
    if selector.name == "to":
        return found
    for word in listed.words("NOT"):
        raise word.error("P005", "`not to` lists what is excluded, without another `not`")
    if EVERY_ADDRESS in found.included:
        raise listed.the("ADDRESS").error("P004", "`not to any` leaves no address")
    return AddressSet((), found.included)


def _and(one: AddressSet | None, other: AddressSet) -> AddressSet:
    """A `to` and a `not to` together; only the `to` includes anything."""
    if one is None:
        return other
    return AddressSet(one.included + other.included, one.excluded + other.excluded)


def addresses(listed: Branch, scope: Scope) -> AddressSet:
    """`A, B, not C`, where a host's name stands for its addresses."""
    included: list[AddressTerm] = []
    excluded: list[AddressTerm] = []
    negated = False
    for word in listed.words():
        if word.kind == "NOT":
            negated = True
            continue
        term = address_term(word, scope)
        if negated and term == EVERY_ADDRESS:
            raise word.error("P004", "`not any` leaves no address")
        (excluded if negated else included).append(term)
        negated = False
    return AddressSet(tuple(included), tuple(excluded))


def address_term(word: Word, scope: Scope) -> AddressTerm:
    """One item of such a list."""
    if word.text in scope.hosts:
        return HostAddresses(word.text)
    if word.text == "any":
        return EVERY_ADDRESS
    if word.text == Special.UNICAST.value:
        return Special.UNICAST
    hint = did_you_mean(word.text, [*scope.hosts, "any", Special.UNICAST.value])
    if re.fullmatch(r"[0-9.]+:[0-9]+|\[.*\].*", word.text):
        raise word.error("P007", "a port at this place is not read", "write `port P`")
    if ":" in word.text:
        return word.read(_net6, hint)
    if re.match(r"[0-9]", word.text):
        return word.read(Net.read, hint)
    raise word.error("P002", f"`{word.text}` is no address, and no host of this file", hint)


def _net6(text: str) -> Net:
    return Net.read(text, Family.IPV6)


def _ports(selector: Branch) -> tuple[Span, ...]:
    listed = selector.branch("ports")
    assert listed is not None
    return tuple(s for word in listed.words("PORTS") for s in word.read(read_ports))


def _several(word: Word) -> tuple[str, AddressSet | None]:
    """The options with `-s A,B` blanked out, and its addresses: iptables makes a rule of each, and here any of them will do."""
    found = re.search(r"(?<![\w!-])(?<!! )(?:-s|--source|--src)[ \t]+([^\s,!]+(?:,[^\s,]+)+)", word.text)
    if found is None:
        return word.text, None
    try:
        nets = [Net.read(a, Family.IPV6 if ":" in a else Family.IPV4) for a in found[1].split(",")]
    except ValueError:
        return word.text, None
    blank = " " * (found.end() - found.start())
    return word.text[: found.start()] + blank + word.text[found.end() :], AddressSet(tuple(nets))


def _where(word: Word, text: str, who: Who, protocol: int | None) -> tuple[Literal, ...]:
    """iptables' own matches, read by the grammar of rules; what asks for `-p` has it where the premise names the protocol."""
    from .rules import read_either

    text = text.rstrip()
    try:
        found = read_either(text, word.place, word.line)
    except InputError as e:
        told: tuple[Literal, ...] | None = None
        if e.code in ("R006", "R010") and protocol is not None:
            with suppress(InputError):
                told = read_either(f"-p {protocol} {text}", word.place, word.line)
        if told is None:
            raise PropertyError(e.code, e.message, e.place, line=e.line, width=e.width, hint=e.hint) from None
        found = told
    unread = next((why for x in found if (why := _undecided(x.match)) is not None), None)
    if unread is not None:
        raise word.error(
            "P007",
            f"{unread}, so that nobody knows of which packets this speaks",
            "leave it out, and the claim speaks of more packets",
        )
    if isinstance(who, Outside) and any(isinstance(x.match, OutInterface) for x in found):
        raise word.error(
            "P005",
            "`-o` asks for a local sender's first routing decision, and `outside` is none",
            "write `from outside on IF`, or `-i IF`",
        )
    return found


def _undecided(match: Match) -> str | None:
    """Why a packet, as it is sent, does not decide the match; None iff it does."""
    match match:
        case Opaque(text):
            return f"`{text}` is not understood"
        case Chance(module):
            return f"no packet decides `-m {module}`"
        case Fragment():
            return "journeys are told of whole packets (A002)"
        case MatchSet(name):
            return f"no packet decides whether it is in the set {name}"
        case SocketMatch():
            return "which socket gets a packet is not known when it is sent"
        case Conntrack(tests):
            expires = any(isinstance(t.criterion, CtExpire) for t in tests)
            return "no packet decides `--ctexpire`" if expires else None
        case _:
            return None


def _exception(tree: Branch, who: Who, scope: Scope) -> Exception_:
    dash = tree.the("DASH")
    because = tree.the("BECAUSE")
    found = _filter(tree, tree.word("PROTOCOL"), who, scope)
    if found == Filter():
        raise dash.error("P005", "this excepts every packet", 'write `- where MATCH because "..."`')
    text = " ".join(scope.text[dash.end : because.begin].split())
    return Exception_(found, quoted(tree.the("STRING")), text, dash.place)


def named_hosts(tree: Branch, scope: Scope) -> tuple[str, ...]:
    """The hosts by which senders and processes in a claim are qualified, in the order of the file."""
    words = (w for w in tree.all_words() if w.kind in ("SENDER", "PROCESS"))
    firsts = (w.text.split(".")[0] for w in words if "." in w.text)
    return tuple(dict.fromkeys(f for f in firsts if f in scope.hosts))


def quoted(word: Word) -> str:
    """What stands between the quotes."""
    return word.text[1:-1]
