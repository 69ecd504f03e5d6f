"""Ip sets: what is spelled is read back, what ipset takes is read as the kernel stores it, and nonsense is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from verifier.reading import ipset
from verifier.reading.errors import InputError, RuleError
from verifier.reading.ipset import read_file, read_sets
from verifier.sets import Entry, IpSet, Member, SetType, at_first, at_last, changes_by_itself, runs_out
from verifier.spell_sets import element
from verifier.spell_sets import sets as spell

from . import ip_sets as some

CORPUS = Path(__file__).parents[2] / "shared" / "corpus"
KINDS = [kind for kind in SetType if kind is not SetType.LIST_SET]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.value)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_what_we_spell_we_read_back(kind: SetType, data: st.DataObject) -> None:
    s = data.draw(some.sets((kind,)))
    assert read_sets(spell([s]), "sets") == {s.name: s}


@settings(max_examples=50, deadline=None)
@given(st.lists(some.sets(), max_size=4))
def test_a_list_is_read_back_in_its_order(chosen: list[IpSet]) -> None:
    named = [replace(s, name=f"m{i}") for i, s in enumerate(chosen)]
    lists = IpSet("l", SetType.LIST_SET, tuple(Entry((Member(s.name),)) for s in reversed(named)))
    assert read_sets(spell([lists, *named]), "sets") == {s.name: s for s in (*named, lists)}


@settings(max_examples=50, deadline=None)
@given(some.sets())
def test_the_short_way_and_the_grammar_read_the_same(s: IpSet) -> None:
    text = spell([s])
    slow = re.sub(r"^add (\S+) (\S+)$", r'add "\1" \2', text, flags=re.MULTILINE)
    assert read_sets(slow, "sets") == read_sets(text, "sets")


def told(text: str) -> list[str]:
    """The entries of the last set, as text."""
    s = list(read_sets(text, "sets").values())[-1]
    marks = [" nomatch" if e.nomatch else "" for e in s.entries]
    return [
        ",".join(element(x, s.family) for x in e.elements) + m for e, m in zip(s.entries, marks, strict=True)
    ]


READ = [
    ("hash:ip", "10.0.0.0/30", "10.0.0.0 10.0.0.1 10.0.0.2 10.0.0.3"),
    ("hash:ip", "10.0.0.2-10.0.0.1", "10.0.0.1 10.0.0.2"),
    ("hash:ip netmask 24", "10.0.0.7", "10.0.0.0"),
    ("hash:ip netmask 24", "10.0.0.7-10.0.2.9", "10.0.0.0 10.0.1.0 10.0.2.0"),
    ("hash:ip family inet6 netmask 64", "2001:db8::7", "2001:db8::"),
    ("hash:ip bitmask 255.0.0.255", "10.3.4.5", "10.0.0.5"),
    ("hash:ip bitmask 255.0.0.255/72", "10.3.4.5", "10.0.0.5"),
    ("hash:net", "10.0.0.5-10.0.0.20", "10.0.0.5 10.0.0.6/31 10.0.0.8/29 10.0.0.16/30 10.0.0.20"),
    ("hash:net", "1.2.3.4/24", "1.2.3.0/24"),
    ("hash:net,net", "10.0.0.0-10.0.0.2,1.1.1.1", "10.0.0.0/31,1.1.1.1 10.0.0.2,1.1.1.1"),
    ("hash:ip,port", "10.0.0.1,80", "10.0.0.1,tcp:80"),
    ("hash:ip,port", "10.0.0.1,ssh", "10.0.0.1,tcp:22"),
    ("hash:ip,port", "10.0.0.1,tcp:[ftp-data]-ftp", "10.0.0.1,tcp:20 10.0.0.1,tcp:21"),
    ("hash:ip,port", "10.0.0.0/31,udp:9-8", "10.0.0.0,udp:8 10.0.0.0,udp:9 10.0.0.1,udp:8 10.0.0.1,udp:9"),
    ("hash:ip,port", "10.0.0.1,icmp:ping", "10.0.0.1,icmp:8/0"),
    ("hash:ip,port", "10.0.0.1,icmp:TOS-network-redirect", "10.0.0.1,icmp:5/2"),
    ("hash:ip,port", "10.0.0.1,vrrp:0", "10.0.0.1,112:0"),
    ("hash:ip,port family inet6", "[2001:db8::1],icmpv6:ping", "2001:db8::1,icmpv6:128/0"),
    ("hash:ip,port family inet6", "2001:db8::1,ipv6-icmp:129/0", "2001:db8::1,icmpv6:129/0"),
    ("hash:ip,port,net", "10.0.0.1,80,10.0.0.2/8 nomatch", "10.0.0.1,tcp:80,10.0.0.0/8 nomatch"),
    ("hash:ip,mark markmask 0xff00", "10.0.0.1,0x6363", "10.0.0.1,0x00006300"),
    ("hash:net,iface", "0.0.0.0/0,physdev:eth1", "0.0.0.0/0,physdev:eth1"),
    ("hash:mac", "1:2:3:0a:05:06", "01:02:03:0A:05:06"),
    ("bitmap:port range 1-90", "udp:53-54", "53 54"),
    ("bitmap:ip range 10.0.0.9-10.0.0.100 netmask 28", "10.0.0.1", "10.0.0.0"),
    ("ipmap network 10.0.0.0/24", "10.0.0.1", "10.0.0.1"),
    ("macipmap from 10.0.0.0 to 10.0.0.4", "10.0.0.1,01:02:03:04:05:06", "10.0.0.1,01:02:03:04:05:06"),
]


@pytest.mark.parametrize(("head", "entry", "expected"), READ)
def test_an_entry_is_read_as_the_kernel_stores_it(head: str, entry: str, expected: str) -> None:
    entries = re.findall(r"\S+(?: nomatch)?", expected)
    assert told(f"create a {head}\nadd a {entry}\n") == entries


REFUSED = [
    ("create a hash:iq", "S002", "did you mean `hash:ip`?"),
    ("crate a hash:ip", "S001", "did you mean `create`?"),
    ("create a hash:ip foo", "S002", "`foo` is no option"),
    ("create a hash:ip\ncreate a hash:ip", "S004", "since line 1"),
    ("create a hash:ip\nadd a 1.1.1.1\nadd a 1.1.1.0-1.1.1.2", "S003", "`-exist` does not stand"),
    ("create a hash:net\nadd a 1.0.0.0/8\nadd a 1.0.0.0/8 nomatch", "S003", "there already"),
    ("create a hash:ip timeout 2147484", "S003", "2147483"),
    ("create a hash:ip netmask 24 bitmask 255.0.0.0", "S003", "both"),
    ("create a hash:net netmask 24", "S003", "neither netmask nor bitmask"),
    ("create a bitmap:ip", "S003", "range"),
    ("create a bitmap:ip range 10.0.0.0/15", "S003", "65536"),
    ("create a hash:ip\nadd a 1.2.3", "S003", "not an IPv4 address"),
    ("create a hash:ip\nadd a localhost", "S003", "not an IPv4 address"),
    ("create a hash:ip\nadd a 0.0.0.0", "S003", "that is 0"),
    ("create a hash:ip\nadd a 10.0.0.0/8", "S006", "16777216"),
    ("create a hash:ip maxelem 3\nadd a 10.0.0.0/30", "S006", "full"),
    ("create a hash:ip\nadd a 1.1.1.1 nomatch", "S003", "no nomatch"),
    ("create a hash:ip\nadd a 1.1.1.1 timeout 5", "S003", "not created with `timeout`"),
    ("create a hash:ip family inet6\nadd a 1.1.1.1", "S003", "not an IPv6 address"),
    ("create a hash:ip family inet6\nadd a 2001:db8::/64", "S003", "one plain address"),
    ("create a hash:net\nadd a 0.0.0.0/0", "S003", "length 0"),
    ("create a hash:net\nadd a 1.0.0.0/8\nadd a 1.0.0.0/8 nomatch", "S003", "there already"),
    ("create a hash:net,iface\nadd a 1.0.0.0/8,e wildcard\nadd a 1.0.0.0/8,eth0 nomatch", "S003", "wildcard"),
    ("create a hash:ip,port\nadd a 1.1.1.1,dccp:7", "S003", "no ports of dccp"),
    ("create a hash:ip,port\nadd a 1.1.1.1,icmpv6:128/0", "S003", "inet6"),
    ("create a hash:ip,port\nadd a 1.1.1.1,icmp:8", "S003", "type and code"),
    ("create a hash:ip,port\nadd a 1.1.1.1,udp:99999", "S003", "65535"),
    ("create a hash:ip,port netmask 24\nadd a 1.1.1.1-1.1.1.3,80", "S003", "one plain address"),
    ("create a bitmap:port range 1-5\nadd a 6", "S003", "out of the range"),
    ("create a hash:ip\nadd b 1.1.1.1", "S004", "no set b"),
    ("create l list:set\nadd l a", "S004", "not here"),
    ("create l list:set\ncreate m list:set\nadd l m", "S004", "itself a list"),
    ("create a hash:ip\ncreate l list:set\nadd l a\ndestroy a", "S004", "in use"),
    ('create a hash:ip comment\nadd a 1.1.1.1 comment "x', "S001", "quote"),
    ("list a", "S002", "says nothing"),
    ("<ipsets>", "S001", "XML"),
    ("Name: a\nType: hash:ip\nHeader: family inet\nNumber of entries: 2\nMembers:\n1.1.1.1\n", "S005", "1 entries follow"),
    ("Name: a\nType: hash:ip\nHeader: family inet\nNumber of entries: 2\n", "S005", "-terse"),
    ("Name: a\nType: hash:ip,port\nHeader: family inet netmask 24\nMembers:\n1.1.1.1,tcp:80\n", "S003", "beyond"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "code", "part"), REFUSED)
def test_what_ipset_refuses_is_refused_and_says_where(text: str, code: str, part: str) -> None:
    with pytest.raises(RuleError) as caught:
        read_sets(text, "a.ipset")
    assert caught.value.code == code
    assert part in str(caught.value)
    assert "a.ipset:" in str(caught.value)


def test_commands_change_what_is_there() -> None:
    text = """
    # a comment
    -exist create a hash:net counters comment
    -N b iphash --hashsize 64
    add a 1.0.0.0/8 packets 5 bytes 3 comment "not # a comment"
    add a 2.0.0.0/8 nomatch
    add a 2.0.0.0/8 -exist
    add a 3.0.0.0/8
    del a 3.0.0.0/8
    create l list:set
    add l a
    add l b before a
    rename l names
    create c hash:net
    swap a c
    flush b
    COMMIT
    """
    sets = read_sets(text, "sets")
    assert [told(spell([sets[name]])) for name in ("a", "b", "c")] == [[], [], ["1.0.0.0/8", "2.0.0.0/8"]]
    assert [e.elements for e in sets["names"].entries] == [(Member("b"),), (Member("a"),)]


def test_a_set_runs_out_iff_an_entry_goes_and_changes_by_itself_iff_one_is_filled_in() -> None:
    text = """create still hash:ip timeout 300
add still 1.1.1.1 timeout 0
create goes hash:ip timeout 0
add goes 1.1.1.1 timeout 5
create filled bitmap:ip,mac range 1.1.1.0/24
add filled 1.1.1.1
create l list:set
add l still
create m list:set
add m still
add m goes
create n list:set timeout 0
add n still timeout 7
"""
    sets = read_sets(text, "sets")
    changing = {name for name, s in sets.items() if changes_by_itself(s, sets)}
    assert changing == {"filled"}
    assert {name for name, s in sets.items() if runs_out(s, sets)} == {"goes", "m", "n"}
    for name, first, last in (("still", 1, 1), ("goes", 1, 0), ("n", 1, 0)):
        told = [len(at(sets[name]).entries) for at in (at_first, at_last)]
        assert told == [first, last]
        assert not runs_out(at_first(sets[name]), sets)


@pytest.mark.skipif(not CORPUS.exists(), reason=f"{CORPUS} is not here")
def test_every_file_of_the_corpus_is_read() -> None:
    for path in sorted(CORPUS.rglob("*.ipset")):
        found = read_file(path.read_text(encoding="utf-8"), str(path))
        assert found.sets
        assert any(line.text.startswith("-A") for line in found.rest)
        assert read_sets(spell(found.sets.values()), "again") == found.sets


WORDS = st.sampled_from(
    ("create", "add", "a", "hash:ip", "hash:net", "list:set", "10.0.0.0/8", "1.1.1.1", "nomatch", "timeout", "5",
     "-exist", "Name:", "Type:", "Header:", "Members:", "family", "inet6", "\n", "\n", "range", "80-90", '"', ",",
     "bitmap:port", "tcp:", "netmask", "0", "-1", "\x00", "é", "del", "swap", "/", "#")
)  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(st.lists(WORDS, max_size=25).map(" ".join))
def test_nonsense_is_an_error_of_ours_or_a_set(text: str) -> None:
    try:
        sets = read_sets(text, "x")
    except InputError:
        return
    assert read_sets(spell(sets.values()), "y") == sets


def test_text_without_a_set_holds_none() -> None:
    assert read_sets("\n# nothing\n", "x") == {}
    assert ipset.read_file("", "x").sets == {}
