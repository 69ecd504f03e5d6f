"""The claims of a property, from their trees: what must, or must never, come of a premise."""

from __future__ import annotations

import re

from ..claims import (
    AnyOf,
    ChainRef,
    Claim,
    DeadClaim,
    Ends,
    Enters,
    Hits,
    IsAnswered,
    IsDropped,
    IsLost,
    IsRefused,
    IsRejected,
    KeepClaim,
    Leaves,
    Not,
    PacketClaim,
    PassesBeforeLeaving,
    Premise,
    Quantifier,
    Reaches,
    RuleRef,
    RuleText,
    SameClaim,
    Verb,
    With,
)
from ..hooks import BUILT_IN
from ..values import AddressSet, MarkMask
from .errors import PropertyError, did_you_mean
from .premises import Scope, address_term, addresses, quoted, read_premise, unqualified
from .trees import Branch, Word
from .words import read_iface, read_port

MODAL = {Quantifier.EVERY: "must", Quantifier.NO: "may", Quantifier.SOME: "can"}
"""The word that goes with each quantifier."""


def read_claim(tree: Branch, scope: Scope) -> Claim:
    """The claim that a branch `packet_claim`, `rule_claim` or `table_claim` makes."""
    match tree.name:
        case "rule_claim":
            return _rule_claim(tree)
        case "table_claim":
            return _table_claim(tree)
        case "packet_claim":
            return _comparison(tree, scope) or _packet_claim(tree, scope)
        case _:
            raise AssertionError(tree.name)


def quantifier_word(tree: Branch) -> Word:
    found = tree.branch("quantifier")
    assert found is not None
    return found.the("EVERY", "NO", "SOME")


def _packet_claim(tree: Branch, scope: Scope) -> PacketClaim:
    word = quantifier_word(tree)
    quantifier = Quantifier(word.text)
    premise = read_premise(tree, scope)
    verbs = read_verbs(tree, quantifier, scope)
    not_of_answers(premise, tree)
    return PacketClaim(quantifier, premise, verbs, word.place)


def not_of_answers(premise: Premise, tree: Branch) -> None:
    """Raise PropertyError where a verb asks for answers to what the premise speaks of, and there are none to be told."""
    for must in tree.branches("must"):
        if premise.answer:
            _without_answered(must, "nobody answers an answer", "say what must come of it")
        if premise.rejection:
            _without_answered(must, "nobody answers a rejection", "say what must come of it")
        if premise.after is not None:
            message = (
                "whose socket gets an answer is not followed where an earlier packet had the same source"
            )
            _without_answered(must, message, "claim `be answered` without `even after`")


def _without_answered(tree: Branch, message: str, hint: str) -> None:
    for verb in tree.branches():
        if verb.name == "answered":
            raise verb.the("ANSWERED").error("P005", message, hint)
        if verb.name == "verb_not":
            _without_answered(verb, message, hint)


def _comparison(tree: Branch, scope: Scope) -> SameClaim | KeepClaim | None:
    """`must fare the same in A and B` or `must keep every listener of A in B`, which stand alone."""
    musts = tree.branches("must")
    verb = musts[0].branch("fare_the_same", "keep_every_listener")
    if verb is None:
        return None
    word = quantifier_word(tree)
    if word.text != "every" or len(musts) > 1 or len(musts[0].branches()) > 1:
        raise _stands_alone(verb)
    _modal(musts[0], Quantifier.EVERY)
    first, second = (scope.host(w) for w in verb.words("HOST"))
    if first == second:
        raise verb.words("HOST")[1].error("P006", "two hosts are compared, and this is the first again")
    claim = SameClaim if verb.name == "fare_the_same" else KeepClaim
    premise = read_premise(tree, scope)
    if premise.sent_back:
        found = tree.branch("premise")
        assert found is not None
        what = "rejections" if premise.rejection else "answers"
        raise found.the("ANSWER", "REJECTION").error(
            "P005", f"two hosts are compared by packets that are sent, not by {what}"
        )
    if premise.has_history:
        found = tree.branch("premise")
        kind = None if found is None else found.branch("kind")
        assert found is not None
        assert kind is not None
        told = kind.the("ESTABLISHED") if premise.established else found.branches("even_after")[0].the("EVEN")
        message = "two hosts are compared by packets of new connections"
        raise told.error("P005", message, "make it a claim about each host")
    return claim(premise, first, second, word.place)


def _stands_alone(verb: Branch) -> PropertyError:
    return verb.the("FARE", "KEEP").error(
        "P005",
        "a comparison of two hosts stands alone, after `every ... must`, without `not` and `or`",
        "make what else must hold a claim of its own, or a property",
    )


# -- rules that are dead ----------------------------------------------------------------------


def _rule_claim(tree: Branch) -> DeadClaim:
    rule = _rule(tree)
    modal = tree.the("MODAL")
    if modal.text != "must":
        raise modal.error("P005", f"`rule ... {modal.text}` is not read", "write `rule R must be dead`")
    dead = (tree.the("LIFE").text == "dead") != bool(tree.word("NOT"))
    alone = tree.branch("alone") is not None
    return DeadClaim(rule.table, alone, rule, dead, place=tree.the("RULE").place)


def _table_claim(tree: Branch) -> DeadClaim:
    table = tree.the("TABLE")
    if table.text not in BUILT_IN:
        hint = did_you_mean(table.text, BUILT_IN) or f"tables are {', '.join(BUILT_IN)}"
        raise table.error("P002", f"`{table.text}` is no table", hint)
    modal = tree.the("MODAL")
    if modal.text != "may":
        raise modal.error("P005", "`no` goes with `may`", f"write `no rule of {table.text} may be dead`")
    but = tree.branch("but")
    excepted: list[RuleRef] = []
    for branch in but.branches("rule_number") if but else ():
        rule = _rule_number(branch)
        if rule.table != table.text:
            raise branch.the("CHAIN").error("P005", f"this is no rule of {table.text}")
        if rule in excepted:
            raise branch.the("CHAIN").error("P003", "this rule is excepted twice")
        excepted.append(rule)
    because = but.branch("because") if but else None
    return DeadClaim(
        table.text,
        alone=tree.branch("alone") is not None,
        excepted=tuple(excepted),
        because=quoted(because.the("STRING")) if because else None,
        place=tree.the("NO").place,
    )


def read_chain(text: str) -> ChainRef:
    """`TABLE/CHAIN`"""
    table, slash, chain = text.partition("/")
    if not slash or not chain or "/" in chain:
        raise ValueError(f"`{text}` is no chain: it is written TABLE/CHAIN, as in nat/OUTPUT")
    if table not in BUILT_IN:
        raise ValueError(f"`{table}` is no table: tables are {', '.join(BUILT_IN)}")
    return ChainRef(table, chain)


def read_rule_number(text: str) -> int:
    """A rule's number in its chain."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < 1:
        raise ValueError(f"`{text}` is no rule's number: they count from 1")
    return int(text)


def _rule(tree: Branch) -> RuleRef | RuleText:
    """The rule that is named right in this branch."""
    number = tree.branch("rule_number")
    if number is not None:
        return _rule_number(number)
    text = tree.branch("rule_text")
    assert text is not None
    chain = text.the("CHAIN").read(read_chain)
    words = quoted(text.the("STRING"))
    if not words.strip():
        raise text.the("STRING").error("P004", "every rule contains the empty text")
    return RuleText(chain.table, chain.chain, words)


def _rule_number(tree: Branch) -> RuleRef:
    chain = tree.the("CHAIN").read(read_chain)
    return RuleRef(chain.table, chain.chain, tree.the("NUMBER").read(read_rule_number))


# -- verbs --------------------------------------------------------------------------------------


def read_verbs(tree: Branch, quantifier: Quantifier, scope: Scope) -> tuple[Verb, ...]:
    """The verbs of all `must` lines of this branch, one for each line."""
    found: list[Verb] = []
    for must in tree.branches("must"):
        _modal(must, quantifier)
        verbs = tuple(_verb(v, scope) for v in must.branches())
        found.append(verbs[0] if len(verbs) == 1 else AnyOf(verbs))
    return tuple(found)


def _modal(must: Branch, quantifier: Quantifier) -> None:
    word = must.the("MODAL")
    if word.text != MODAL[quantifier]:
        raise word.error(
            "P005", f"`{quantifier.value}` goes with `{MODAL[quantifier]}`, not with `{word.text}`"
        )


def _verb(tree: Branch, scope: Scope) -> Verb:
    match tree.name:
        case "verb_not":
            return Not(_verb(tree.branches()[0], scope))
        case "end":
            return Ends()
        case "enter":
            return Enters(tree.the("CHAIN").read(read_chain))
        case "hit":
            return Hits(_rule(tree))
        case "reach":
            port = tree.word("NUMBER")
            process = _process(tree.the("PROCESS"), scope)
            return Reaches(process, None if port is None else port.read(read_port), _having(tree, scope))
        case "pass_before":
            return PassesBeforeLeaving(_process(tree.the("PROCESS"), scope), _iface(tree))
        case "leave":
            return Leaves(_iface(tree), _having(tree, scope))
        case "dropped":
            chain = tree.word("CHAIN")
            return IsDropped(None if chain is None else chain.read(read_chain))
        case "lost":
            return IsLost()
        case "rejected":
            return IsRejected()
        case "refused":
            return IsRefused()
        case "answered":
            return IsAnswered(_iface(tree), _having(tree, scope))
        case "fare_the_same" | "keep_every_listener":
            raise _stands_alone(tree)
        case _:
            raise AssertionError(tree.name)


def _process(word: Word, scope: Scope) -> str:
    return unqualified(word, scope, ("PROCESS",))[0]


def _iface(tree: Branch) -> str | None:
    word = tree.word("IFACE")
    return None if word is None else word.read(read_iface)


def _having(tree: Branch, scope: Scope) -> With:
    """`with source A and mark M ...`, each once."""
    source: AddressSet | None = None
    destination: AddressSet | None = None
    port: int | None = None
    unchanged = False
    mark: MarkMask | None = None
    zone: int | None = None
    source_port: int | None = None
    seen: set[str] = set()
    for part in tree.branches():
        head = part.words()[0]
        if part.name in seen:
            raise head.error("P003", f"`{head.text}` is given twice")
        seen.add(part.name)
        listed = part.branch("addresses")
        match part.name:
            case "with_source":
                assert listed is not None
                source, source_port = _place(listed, scope)
            case "with_destination":
                if listed is None:
                    unchanged = True
                else:
                    destination, port = _place(listed, scope)
            case "with_mark":
                mark = part.the("VALUE").read(_mark)
            case "with_zone":
                zone = part.the("VALUE").read(_zone)
            case _:
                raise AssertionError(part.name)
    return With(source, destination, port, unchanged, mark, zone, source_port)


def _zone(text: str) -> int:
    """A conntrack zone's number."""
    if not text.isdecimal() or int(text) > 0xFFFF:
        raise ValueError(f"`{text}` is no zone: a number from 0 to 65535")
    return int(text)


def _place(listed: Branch, scope: Scope) -> tuple[AddressSet | None, int | None]:
    """A set of addresses; or one address, or `*`, with a port."""
    words = listed.words()
    first = words[0]
    bracketed = re.fullmatch(r"\[(.*)\]:(.*)", first.text)
    host, colon, port = first.text.partition(":")
    if bracketed is not None:
        host, port = bracketed.groups()
    elif not colon or ":" in port:
        return addresses(listed, scope), None
    if len(words) > 1:
        raise words[1].error("P005", "with a port it is one address")
    try:
        number = read_port(port)
    except ValueError as e:
        raise first.error("P004", str(e)) from None
    if host in ("*", ""):
        return None, number
    begin = first.begin + (bracketed is not None)
    alone = Word(first.kind, host, first.place, first.line, begin, begin + len(host))
    return AddressSet((address_term(alone, scope),)), number


def _mark(text: str) -> MarkMask:
    try:
        return MarkMask.read(text)
    except ValueError:
        raise ValueError(f"`{text}` is no mark `VALUE` or `VALUE/MASK` of 32 bits") from None
