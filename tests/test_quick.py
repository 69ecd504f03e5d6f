"""What is read quickly says what the slow way says: the same rules and places, the same notes, the same refusals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from verifier import rules as r
from verifier import spell
from verifier.reading import parts, quick, shapes
from verifier.reading.errors import InputError
from verifier.reading.files import read_text
from verifier.reading.rules import read_rules

from . import strategies as some

CORPUS = Path(__file__).parent.parent.parent / "shared" / "corpus"


@contextmanager
def slow_way() -> Iterator[None]:
    """Every line goes through Lark."""
    with patch.object(quick, "left", lambda _, lines: lines), patch.object(quick, "learn", lambda *_: None):
        yield


@contextmanager
def at_once(taken: list[str] | None = None) -> Iterator[None]:
    """A shape is derived from the first line of its kind, and little is kept; `taken` gets the lines that were read quickly."""
    left = quick.left
    done = [] if taken is None else taken

    def noted(lines: Iterable[quick.Line]) -> Iterator[quick.Line]:
        for line in lines:
            done.append(line.text)
            yield line

    def left_and_noted(known: quick.Quick, lines: Iterable[quick.Line]) -> Iterator[quick.Line]:
        for line in left(known, noted(lines)):
            assert done.pop() == line.text
            yield line

    with (
        patch.object(quick, "WORTH", 1),
        patch.object(quick, "left", left_and_noted),
        patch.object(parts, "MOST_KEPT", 2),
    ):
        yield


def outcome(text: str) -> str:
    """All that a reading says, with the places that equality does not look at."""
    try:
        return repr(read_rules(text, "t"))
    except InputError as e:
        return f"{e.code} {e.place!r} {e.width} {e}"


def both_say_the_same(text: str, taken: list[str] | None = None) -> None:
    with slow_way():
        slow = outcome(text)
    with at_once(taken):
        assert outcome(text) == slow


# -- laws ---------------------------------------------------------------------------------------------


@given(some.rule_sets(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_rules_that_come_again_and_again_are_the_same_rules(rule_set: r.RuleSet, random: object) -> None:
    lines = spell.rule_set(rule_set).splitlines()
    both_say_the_same("\n".join(x for line in lines for x in [line] * (3 if line.startswith("-A") else 1)))


LINES = (
    "-A one -s 10.0.0.1/32 -j two",
    "-A one ! -d 10.0.0.0/8 -i eth0 -p tcp -m tcp --dport 80 -j ACCEPT",
    "-A FORWARD -o eth1 -p udp -m multiport --dports 53,5353 -g two",
    '-A one -p tcp -m comment --comment "a b" -m tcp --dport 8080 -j two',
    "-A one -m comment --comment plain -m statistic --mode random --probability 0.5 -j two",
    "-A two -m conntrack ! --ctstate NEW,RELATED -m mark --mark 0x1/0x1 -j MARK --set-xmark 0x4000/0x4000",
    "-A PREROUTING -p tcp -m addrtype --dst-type LOCAL -j DNAT --to-destination 10.0.0.1:80",
    "-A two -p tcp -j DNAT --to-destination 10.0.0.1:80",
    "-A two -p tcp -j REDIRECT --to-ports 15001",
    "-A two -p icmp -m icmp --icmp-type 8 -j RETURN",
    "-A OUTPUT -m owner --uid-owner 1337 -j RETURN",
    "-A two -m set --match-set a src,dst -j DROP",
    "-A one -m string --string x --algo bm -j LOG --log-prefix y",
    "[12:345] -A one -s 10.0.0.1/32 -j two",
    "-A one -s 10.0.0.1 -d 10.0.0.2 -m comment --comment x -m comment --comment y",
    ":three - [0:0]",
)
"""Lines of many shapes; what they are not fit for in a table is refused, and that alike too."""

WORDS = (
    "", "!", "-", "--", "-j", "-s", "--dport", "a", '"a b"', '""', '"-x"', '"!"', 'a"b c"', '"a"b', '"open', "a\\", '"a\\"b"',
    "0.0.0.0/0", "10.0.0.0/8", "10.0.0.1,10.0.0.2", "10.1", "010.0.0.1", "::1/128", "::/0", "0", "65536", "80", "80:90",
    "90:80", "http", "80,443", "tcp", "icmp", "all", "ACCEPT", "DROP", "LOG", "DNAT", "INPUT", "OUTPUT", "PREROUTING", "one",
    "two", "three", "nowhere", "eth0", "eth+", "+", "NEW", "DNAT,NEW", "0x1", "0x1/0x0", "10.0.0.9:0", "10.0.0.9", ":80",
    "10.0.0.1-10.0.0.9", "0.0.0.0:80", "root", "1000-2000", "[1:2]", "x" * 40, "\u00e9", "1.2.3.4\u0660",
)  # fmt: skip
"""Words that mean something somewhere, or look as if they did."""


@st.composite
def mutants(draw: st.DrawFn) -> str:
    """A line with another word, one word more or less, or another blank, somewhere."""
    words = draw(st.sampled_from(LINES)).split(" ")
    at = draw(st.integers(0, len(words) - 1))
    word = draw(st.sampled_from(WORDS) | st.text(st.characters(exclude_characters="\r\n"), max_size=6))
    match draw(st.sampled_from(["change"] * 6 + ["insert", "drop", "tab", "twice"])):
        case "change":
            words[at] = word
        case "insert":
            words.insert(at, word)
        case "drop":
            del words[at]
        case "tab":
            words[at] += "\t"
        case _:
            return " ".join([*words, *words[2:]])
    return " ".join(words)


def table(name: str, lines: list[str]) -> str:
    return "\n".join([f"*{name}", ":one - [0:0]", ":two - [0:0]", *lines, "COMMIT", ""])


def taken_by(name: str) -> list[str]:
    """The lines that the table takes."""
    fine = []
    for line in LINES:
        with slow_way():
            if not outcome(table(name, [line])).startswith("R0"):
                fine.append(line)
    return fine


KNOWN = {name: taken_by(name) for name in ("nat", "filter")}


@given(st.sampled_from(sorted(KNOWN)), st.lists(mutants(), min_size=1, max_size=3))
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_line_of_a_known_shape_with_another_word_is_read_alike(name: str, lines: list[str]) -> None:
    """A refusal ends a reading, so each mutant is also read without the others."""
    for changed in ([line] for line in lines):
        both_say_the_same(table(name, [*KNOWN[name], *changed]))
    both_say_the_same(table(name, [*KNOWN[name], *lines]))


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_the_lines_of_the_laws_are_read_quickly(name: str) -> None:
    taken: list[str] = []
    again = [line.replace("three", "four") for line in KNOWN[name]]
    both_say_the_same(table(name, KNOWN[name] + again), taken)
    slowly = [line for line in again if line not in taken]
    assert slowly == []


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus of others' rules is not beside this repository")
def test_others_rules_are_read_alike() -> None:
    files = [p for p in sorted(CORPUS.rglob("*.rules.v[46]")) if p.stat().st_size < 100_000]
    assert files
    taken: list[str] = []
    for path in files:
        both_say_the_same(read_text(path, "rules", "R031", InputError), taken)
    assert len(taken) > 1000


# -- what is taken, and what not --------------------------------------------------------------------------


def quickly(name: str, *lines: str) -> list[str]:
    """The lines of a table that are read quickly, once its first line's shape is known."""
    taken: list[str] = []
    both_say_the_same(table(name, list(lines)), taken)
    return [line for line in taken if line in lines]


def test_a_chain_that_is_declared_later_takes_the_name_of_a_target() -> None:
    late = "-A one -s 10.0.0.2/32 -j LOG"
    assert quickly("nat", "-A one -s 10.0.0.1/32 -j LOG", ":LOG - [0:0]", late) == [":LOG - [0:0]"]


def test_what_makes_several_rules_goes_the_slow_way_and_what_a_name_says_is_kept() -> None:
    assert quickly("nat", "-A one -s 10.0.0.1 -j two", "-A one -s 10.0.0.1,10.0.0.2 -j two") == []
    owner = "-A OUTPUT -m owner --uid-owner {} -j two"
    assert quickly("nat", *map(owner.format, ("1", "envoy", "2"))) == [
        owner.format(x) for x in ("envoy", "2")
    ]


def test_a_chain_that_is_called_by_a_part_of_a_word_is_still_looked_for() -> None:
    for call in ("-jtwo", "--jump=two"):
        lines = [f"-A one -s 10.0.0.1 {call}"] * 3
        assert quickly("filter", *lines, "-F one", "-X two", lines[0]) == []


def test_a_built_in_chain_is_no_word_of_a_shape_for_chains_of_the_users_own() -> None:
    """What may be asked in one differs, and no rule may call one."""
    chains = [":INPUT ACCEPT [0:0]", ":POSTROUTING ACCEPT [0:0]"]
    own = "-A one -i eth0 -s 10.0.0.1 -j two"
    of_input, other = own.replace("one", "INPUT"), own.replace("10.0.0.1", "10.0.0.2")
    assert quickly("nat", *chains, own, of_input, other)[2:] == [other]
    for refused in (own.replace("one", "POSTROUTING"), own.replace("two", "INPUT")):
        assert quickly("nat", *chains, own, other, refused)[2:] == [other]


def test_a_line_that_one_shape_does_not_read_is_read_by_another() -> None:
    lines = ["-A one -j two", "-A INPUT -j two", "-A INPUT -j one"]
    assert quickly("nat", ":INPUT ACCEPT [0:0]", *lines)[1:] == ["-A INPUT -j one"]


def test_a_word_of_one_shape_is_not_an_option_in_another() -> None:
    comment = "-A one -m comment --comment {} -j two"
    assert quickly("nat", *map(comment.format, ("a", '"-j"', "b", "-j"))) == [
        comment.format(x) for x in ('"-j"', "b")
    ]


def test_a_shape_finds_its_words_and_no_others() -> None:
    line = "-A one -s 10.0.0.1 -j two"
    slots = shapes.slots(line)
    assert [line[s.begin : s.end] for s in slots if s.terminal == "WORD"] == ["one", "10.0.0.1", "two"]
    (address,) = [s for s in slots if line[s.begin :].startswith("10.")]
    shape = shapes.shape(shapes.pattern(line, [address]), 1)
    found = shape.find("-A one -s 10.0.0.2 -j two")
    assert found
    assert found.groups()[shape.at[0]] == "10.0.0.2"
    for other in ("!", "-x", "a b", '"a"b', "", '"open'):
        assert not shape.find(f"-A one -s {other} -j two"), other
