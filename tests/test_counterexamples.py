"""Counterexample files: what is written is read back, whatever the host, the rules, the packet and the choices; and what is said of other files."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from verifier import spell_hosts
from verifier.answers import Counterexample
from verifier.cases import read_setting
from verifier.concrete.travel import travel
from verifier.counterexamples.places import line_and_column, offset_of
from verifier.counterexamples.read import CounterexampleError, read, read_record
from verifier.counterexamples.record import Kind, Record, record
from verifier.counterexamples.write import write
from verifier.hosts import BoundTo, Host, Process, Setting, settled
from verifier.journeys import Choices, FromOutside, FromProxy
from verifier.packets import Packet
from verifier.reading.errors import HostError, InputError, RuleError
from verifier.reading.hosts import is_own, read_bare_host, read_host_text
from verifier.reading.rules import read_rules
from verifier.samples import edges_of
from verifier.values import EVERY_ADDRESS, LINK_LOCAL, Family, TcpFlag, read_address

from .agree.agreement import journeys_behind, journeys_of, under
from .agree.budget import tries
from .agree.entries import alike, later
from .agree.hosts import begins, hosts, hosts_ipv6, senders_of
from .strategies import rule_sets

ROOT = Path(__file__).parent.parent
POD = ROOT / "proofs" / "istio-sidecar" / "hosts" / "istio-1.10-from-127.0.0.1.yaml"
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)


def sayable(host: Host) -> Host:
    """The host as a host file can say it: no dial twice in a route, no `not any`; what binds a foreign
    address, or a link-local one, is not tried."""
    routes = [r for p in host.processes for x in p.proxies for r in x.routes]
    assume(
        all(
            is_own(host.interfaces, r.source.address, r.source.family)
            for r in routes
            if isinstance(r.source, BoundTo)
        )
    )
    assume(
        all(
            is_own(host.interfaces, x.address, x.family)
            for p in host.processes
            for x in p.listens
            if x.address
        )
    )
    named = [x.address for p in host.processes for x in p.listens]
    named += [d.address for r in routes for d in r.dials]
    named += [r.source.address for r in routes if isinstance(r.source, BoundTo)]
    assume(not any(a is not None and a & LINK_LOCAL.mask == LINK_LOCAL.address for a in named))

    def once(process: Process) -> Process:
        proxies = [
            replace(x, routes=tuple(replace(r, dials=tuple(dict.fromkeys(r.dials))) for r in x.routes))
            for x in process.proxies
        ]
        return replace(process, proxies=tuple(proxies))

    excluded = tuple(n for n in host.outside.excluded if n != EVERY_ADDRESS)
    processes = tuple(map(once, host.processes))
    return replace(host, processes=processes, outside=replace(host.outside, excluded=excluded))


@tries(80)
@given(hosts() | hosts_ipv6())
def test_a_host_is_read_as_it_is_spelled(drawn: Host) -> None:
    host = sayable(drawn)
    said = json.dumps(spell_hosts.host(host))
    assert replace(read_bare_host(said, "it", host.name), assumptions=(), sets=host.sets) == host


@tries(25)
@given(data=st.data())
def test_what_is_written_is_read_back(data: st.DataObject) -> None:
    """Of any sender, with whatever is left to choice; a proxy's dial too, though no file of ours begins with one."""
    rules = data.draw(rule_sets())
    setting = Setting(settled(sayable(data.draw(hosts())), rules), rules)
    sender = data.draw(st.sampled_from(senders_of(setting)), label="sender")
    begin = data.draw(begins(setting, sender, edges_of(setting)), label="begin")
    _, trip = under(journeys_of(setting, sender), begin, random.Random(0))
    journey = trip.travel()
    other = journey if data.draw(st.booleans(), label="two hosts") else None
    hop = data.draw(st.integers(0, len(journey.states)), label="hop")
    found = Counterexample(sender, journey, trip.choices, hop, other=other)
    said = [data.draw(TEXT) for _ in range(3)]
    kept = record(found, (setting, setting), data.draw(st.sampled_from(Kind)), *said)
    assert len(kept.accounts) == 1 + (other is not None)
    assert read_record(write(kept), "it") == kept


@tries(25)
@given(data=st.data())
def test_an_earlier_packet_is_read_back_with_its_journey(data: st.DataObject) -> None:
    rules = data.draw(rule_sets())
    host = settled(sayable(data.draw(hosts())), rules)
    setting = Setting(host, rules, frozenset({"connection"}))
    own = [s for s in senders_of(setting) if not isinstance(s, FromProxy)]
    first, sender = data.draw(st.sampled_from(own)), data.draw(st.sampled_from(own))
    edges = edges_of(setting)
    before = alike(data.draw(begins(setting, first, edges), label="before"))
    begin = later(data.draw(begins(setting, sender, edges), label="begin"), before, random.Random(0))
    _, trip = under(journeys_behind(setting, first, sender), begin, random.Random(0), before)
    found = Counterexample(sender, trip.travel(), trip.choices, earlier=trip.earlier)
    kept = record(found, (setting,), Kind.COUNTEREXAMPLE, "it", "here", "")
    assert kept.earlier is not None
    assert kept.accounts[0].journey.earlier is not None
    assert read_record(write(kept), "it") == kept


@pytest.fixture(scope="module")
def kept() -> Record:
    """A frame that Envoy's own dial makes go round for ever."""
    setting, _ = read_setting(POD)
    src, dst = read_address("10.33.4.2"), read_address("10.33.4.7")
    packet = Packet(src, dst, sport=40001, dport=8080, flags=TcpFlag.SYN, in_iface="eth0")
    sender = FromOutside("eth0")
    journey = travel(setting, sender, packet)
    return record(
        Counterexample(sender, journey, Choices(ports={1: 40002}), 1),
        (setting,),
        Kind.COUNTEREXAMPLE,
        "no-loop",
        "proofs/istio-sidecar/inbound.prop:14",
        "every packet from envoy.inbound must end",
    )


def test_a_person_can_read_it(kept: Record) -> None:
    """Each rule has a line, and so has each stop; addresses are spelled."""
    lines = [line.strip().rstrip(",") for line in write(kept).splitlines()]
    rules = kept.accounts[0].setting.rules.tables["nat"].chains["ISTIO_OUTPUT"].rules
    assert sum(line.startswith('"-A ISTIO_OUTPUT') for line in lines) == len(rules)
    assert sum('"act": ' in line for line in lines) == len(kept.accounts[0].journey.stops)
    assert any('"src": "127.0.0.1", "dst": "10.33.4.7"' in line for line in lines)


def test_it_says_nothing_of_this_machine(kept: Record) -> None:
    assert str(ROOT) not in write(kept)


def test_rules_keep_the_lines_of_the_file(kept: Record) -> None:
    text = write(kept)
    back = read_record(text, "cex.json")
    rule = back.accounts[0].setting.rules.tables["nat"].chains["ISTIO_OUTPUT"].rules[0]
    assert rule.place.file == "cex.json"
    assert "-A ISTIO_OUTPUT -s 127.0.0.6/32" in text.splitlines()[rule.place.line - 1]


def test_a_file_that_is_laid_out_anew_says_the_same(kept: Record) -> None:
    text = json.dumps(json.loads(write(kept)))
    back = read_record(text, "cex.json")
    assert back == kept
    rule = back.accounts[0].setting.rules.tables["nat"].chains["ISTIO_OUTPUT"].rules[0]
    assert rule.place.file == "cex.json, rules"


# -- what is wrong with a file ----------------------------------------------------------------------


def changed(kept: Record, path: list[str | int], value: object) -> str:
    """The file with another value at a path; of a value that is REMOVED, without it."""
    said = json.loads(write(kept))
    inner = said
    for step in path[:-1]:
        inner = inner[step]
    if value is REMOVED:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return json.dumps(said, indent=1)


REMOVED = object()

ACCOUNT: list[str | int] = ["accounts", 0]
STOPS = [*ACCOUNT, "journey", "stops"]

WRONG: list[tuple[list[str | int], object, str, str]] = [
    (["schema"], "chainproof/result/1", "its schema is 'chainproof/result/1'", '"schema"'),
    (["schema"], REMOVED, "it names no schema", "{"),
    (["kind"], "proof", "Invalid enum value 'proof'", '"kind"'),
    (["name"], 3, "Expected `str`, got `int`", '"name"'),
    (["claim"], REMOVED, "missing required field `claim`", "{"),
    (["novelty"], 1, "unknown field `novelty`", "{"),
    (["hop"], 9, "the journey has no hop 9", '"hop"'),
    (["sender", "interface"], "eth7", "the host istio-1.10-from-127.0.0.1 has no `eth7`", '"sender"'),
    (["sender", "kind"], "Nobody", "kind 'Nobody' is none of FromOutside", '"sender"'),
    (["sender", "more"], 1, "'more' is no field", '"sender"'),
    (["choices", "ports"], {"one": 1}, "Expected `int`", '"choices"'),
    (["choices", "matches"], [{"at": {}}], "a choice has `at`, `truth`", '"choices"'),
    (["accounts"], [], "on one host, or on two", '"accounts"'),
    ([*STOPS, 2, "rule"], 99, "there is no rule nat/PREROUTING 99", "{"),
    ([*STOPS, 2, "act"], "flown", "Invalid enum value 'flown'", '"act"'),
    ([*STOPS, 0, "packet", "src"], "10.33.4", "'10.33.4' is not an IPv4 address", "{"),
    ([*STOPS, 0, "packet", "sport"], "x", "Expected `int`, got `str`", "{"),
    ([*STOPS, 0, "packet", "colour"], 1, "'colour' is no field", "{"),
    (STOPS, [], "begins with a packet that is sent", '"stops"'),
    ([*STOPS, 0, "act"], "entered", "begins with a packet that is sent", "{"),
    ([*ACCOUNT, "journey", "end", "kind"], "Bliss", "kind 'Bliss' is none of Socket", '"end"'),
    ([*ACCOUNT, "family"], 5, "Invalid enum value 5", '"family"'),
    ([*ACCOUNT, "family"], 6, "IPv6", ""),
]


@pytest.mark.parametrize(("path", "value", "message", "line"), WRONG, ids=[m for *_, m, _ in WRONG])
def test_what_is_wrong_is_named_with_its_place(
    kept: Record, path: list[str | int], value: object, message: str, line: str
) -> None:
    text = changed(kept, path, value)
    with pytest.raises(InputError) as refused:
        read_record(text, "cex.json")
    error = refused.value
    assert message in error.message
    assert error.place.file.startswith("cex.json")
    assert error.place.line > 0
    if line:
        assert isinstance(error, CounterexampleError)
        assert error.line == text.split("\n")[error.place.line - 1]
        assert (error.line or "").lstrip().startswith(line)


def test_an_error_in_the_host_has_its_place_in_the_file(kept: Record) -> None:
    text = changed(kept, [*ACCOUNT, "host", "processes", "app", "uid"], "everybody")
    with pytest.raises(HostError, match="everybody") as refused:
        read_record(text, "cex.json")
    assert text.split("\n")[refused.value.place.line - 1].strip().startswith('"uid"')


def test_an_error_in_the_rules_has_its_place_in_the_file(kept: Record) -> None:
    text = write(kept).replace("--to-ports 15006", "--to-ports 99999")
    with pytest.raises(RuleError) as refused:
        read_record(text, "cex.json")
    assert "--to-ports 99999" in text.split("\n")[refused.value.place.line - 1]


@pytest.mark.parametrize(
    "text", ["", "{", "[1", "nonsense", '{"a": 1}}', "null", "[]", "7", '"text"', "[" * 100_000]
)
def test_what_is_no_such_file_is_refused(text: str) -> None:
    with pytest.raises(CounterexampleError) as refused:
        read_record(text, "cex.json")
    assert refused.value.place.file == "cex.json"


def test_the_place_of_broken_json_is_where_it_breaks(kept: Record) -> None:
    text = write(kept).replace('"hop": 1,', '"hop": ,', 1)
    with pytest.raises(CounterexampleError) as refused:
        read_record(text, "cex.json")
    assert '"hop": ,' in (refused.value.line or "")


@given(data=st.data())
def test_no_cut_makes_it_fail_otherwise(kept: Record, data: st.DataObject) -> None:
    """A file that was written half, or in which a byte has changed, is read or refused."""
    text = write(kept)
    at = data.draw(st.integers(0, len(text) - 1))
    for broken in (text[:at], text[:at] + data.draw(st.sampled_from('{}[]",:0a ')) + text[at + 1 :]):
        with suppress(InputError):
            read_record(broken, "cex.json")


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CounterexampleError, match="cannot be read"):
        read(tmp_path / "none.json")


@given(
    st.recursive(st.none() | st.integers() | TEXT, lambda x: st.lists(x) | st.dictionaries(TEXT, x)),
    st.data(),
)
def test_a_place_is_where_the_value_begins(value: Any, data: st.DataObject) -> None:
    text = json.dumps(value, indent=1)
    path: list[str | int] = []
    while isinstance(value, dict | list) and value:
        step = data.draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
        path, value = [*path, step], value[step]
    begin = offset_of(text, path)
    assert json.JSONDecoder().raw_decode(text, begin)[0] == value
    line, column = line_and_column(text, begin)
    assert text.split("\n")[line - 1][column - 1 :] == text[begin:].split("\n")[0]


def test_senders_of_all_kinds_are_checked(kept: Record) -> None:
    strange = replace(kept, sender=FromProxy("nobody", "inbound"))
    with pytest.raises(CounterexampleError, match="has no `nobody`"):
        read_record(write(strange), "cex.json")


def test_a_host_of_ipv6_is_kept_too() -> None:
    said = """\
rules6: six.rules
interfaces:
  lo: {addresses: ["::1/128"]}
  eth0: {addresses: ["2001:db8::7/64", "fe80::7/64"]}
routes6: [default via fe80::1 dev eth0, "2001:db8::/64 dev eth0", default via fe80::2 dev eth0 table 7]
ip-rules6: ["0: from all lookup local", "9: from 2001:db8::/64 fwmark 0x1 lookup 7", "32766: from all lookup main"]
processes:
  app: {uid: 1000, gid: any, listens: ["*:80", "[2001:db8::7]:81"]}
"""
    host = read_host_text(said, "six.yaml").host
    rules = read_rules(
        "*filter\n:INPUT DROP [0:0]\n-A INPUT -s 2001:db8::/64 -j ACCEPT\nCOMMIT\n", "r", family=Family.IPV6
    )
    setting = Setting(host, rules.rules)
    src, dst = (read_address(x, Family.IPV6) for x in ("2001:db8::9", "2001:db8::7"))
    packet = Packet(src, dst, sport=40001, dport=80, flags=TcpFlag.SYN, in_iface="eth0", family=Family.IPV6)
    sender = FromOutside("eth0")
    found = Counterexample(sender, travel(setting, sender, packet), Choices())
    of = record(found, (setting,), Kind.COUNTEREXAMPLE, "p", "p.prop:1", "every packet must end")
    assert '"src": "2001:db8::9", "dst": "2001:db8::7"' in write(of)
    assert read_record(write(of), "cex.json") == of
