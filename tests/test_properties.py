"""Property files: each sentence as the claim that it makes, and what is said of a file that makes none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from verifier import claims as c
from verifier import hosts as h
from verifier import rules as r
from verifier.cases import read_rule_files
from verifier.reading.errors import PropertyError
from verifier.reading.properties import read_properties, read_properties_text
from verifier.reading.variants import apply_variants
from verifier.values import (
    TCP,
    UDP,
    AddressSet,
    HostAddresses,
    Ids,
    IdSet,
    Iface,
    MarkMask,
    Net,
    Place,
    Span,
    Special,
    read_address,
)

WHOLE = """\
# what we claim of the sidecar
host pod      = "hosts/istio-1.10.yaml"
host plain    = "hosts/no-istio.yaml"        # without Istio
host istio19  = "hosts/istio-1.9.yaml"
host faulty   = "hosts/istio-1.10-from-127.0.0.1.yaml"
host tweaked  = "hosts/istio-1.10.yaml" with rules "tweak.rules"

property no-loop
  "Envoy's inbound connections end, and never come back to Envoy"
  every packet from envoy.inbound
  must end
  must not enter nat/ISTIO_IN_REDIRECT
  on pod
  on faulty refuted because "127.0.0.1 is not 127.0.0.6"

property app-sees-127.0.0.6
  every tcp connection from pod.outside on eth0 to 10.33.4.7 port 8080
  must reach app with source 127.0.0.6

property nothing-bypasses-envoy
  "What the app sends out goes through Envoy"
  every packet from pod.app
  must pass envoy before leaving by eth0
  except
    - where ! -p tcp                           because "Istio captures TCP only"
    - not to 10.33.0.0/16, 10.32.128.0/20      because "outside includeIPRanges"
    - where -m owner --gid-owner 1337          because "ISTIO_OUTPUT rule 7"

property tweak-keeps-metrics
  every packet from outside port 15090
  must fare the same in pod and tweaked

property dead-rules
  no rule of nat may be dead by the rules alone except nat/ISTIO_OUTPUT 5, nat/ISTIO_OUTPUT 6
    because "shadowed by rules 3 and 4"
  on pod

table bind-matrix
  "Can another pod reach an app on port 8080?"
  every tcp connection from outside to 10.33.4.7 port 8080 must reach app
                      | plain | istio19 | pod
    app on *          | yes   | yes     | yes
    app on 127.0.0.1  | no    | yes     | no
    app on 10.33.4.7  | yes   | no      | some
"""

POD_IP = Net(read_address("10.33.4.7"))


def read_one(sentence: str, hosts: str = "pod plain") -> c.Property:
    """The one property that consists of this sentence."""
    named = "".join(f'host {name} = "{name}.yaml"\n' for name in hosts.split())
    (found,) = read_properties_text(f"{named}property x\n{sentence}\n", "f.prop").properties
    assert isinstance(found, c.Property)
    return found


def read_claim(sentence: str) -> c.Claim:
    (claim,) = read_one(sentence, "pod").claims
    return claim


def read_packet_claim(sentence: str) -> c.PacketClaim:
    claim = read_claim(sentence)
    assert isinstance(claim, c.PacketClaim)
    return claim


# -- the whole -----------------------------------------------------------------------------------


def test_a_whole_file_is_read(tmp_path: Path):
    path = tmp_path / "istio.prop"
    path.write_text(WHOLE)
    found = read_properties(path)
    assert found.path == str(path)
    assert [x.name for x in found.hosts] == ["pod", "plain", "istio19", "faulty", "tweaked"]
    assert found.hosts[4].variants == (c.Variant("rules", "tweak.rules"),)
    assert [p.name for p in found.properties] == [
        "no-loop",
        "app-sees-127.0.0.6",
        "nothing-bypasses-envoy",
        "tweak-keeps-metrics",
        "dead-rules",
        "bind-matrix",
    ]
    loop = found.properties[0]
    assert isinstance(loop, c.Property)
    assert loop.title == "Envoy's inbound connections end, and never come back to Envoy"
    assert loop.claims == (
        c.PacketClaim(
            c.Quantifier.EVERY,
            c.Premise(c.OfProxy("envoy", "inbound")),
            (c.Ends(), c.Not(c.Enters(c.ChainRef("nat", "ISTIO_IN_REDIRECT")))),
        ),
    )
    assert loop.expectations == (
        c.Expectation("pod"),
        c.Expectation("faulty", c.Wanted.REFUTED, "127.0.0.1 is not 127.0.0.6"),
    )
    assert str(loop.place) == f"{path}:8:10"


def test_exceptions_keep_their_text_their_reason_and_their_place():
    found = read_properties_text(WHOLE, "f.prop").properties[2]
    assert isinstance(found, c.Property)
    (claim,) = found.claims
    assert isinstance(claim, c.PacketClaim)
    first, second, third = claim.premise.exceptions
    assert first.filter.where == (r.Literal(r.Protocol(TCP), negated=True),)
    assert (second.text, second.because) == (
        "not to 10.33.0.0/16, 10.32.128.0/20",
        "outside includeIPRanges",
    )
    assert second.filter.to == AddressSet((), (Net.read("10.33.0.0/16"), Net.read("10.32.128.0/20")))
    assert third.filter.where == (r.Literal(r.OwnerIds(gid=Ids(1337, 1337))),)
    assert third.place.line == 27


def test_a_table_is_read_with_its_columns_rows_and_cells():
    found = read_properties_text(WHOLE, "f.prop").properties[-1]
    assert isinstance(found, c.TableProperty)
    assert found.columns == ("plain", "istio19", "pod")
    assert found.verbs == (c.Reaches("app"),)
    assert found.rows[2] == c.Row(
        "app on 10.33.4.7",
        (c.Variant("on", "10.33.4.7", "app"),),
        (c.Cell.YES, c.Cell.NO, c.Cell.SOME),
    )
    assert (found.rows[2].place.line, found.rows[2].place.column) == (44, 5)


def test_a_row_may_be_a_text_and_change_nothing_or_change_several_things():
    text = (
        'host pod = "p"\ntable t\n  every packet from outside\n  must end\n  must reach app\n | pod\n'
        ' "as it | is" | yes\n app on * and envoy uid 0, 5-9 without rule nat/X 3 | no\n'
    )
    (found,) = read_properties_text(text, "f.prop").properties
    assert isinstance(found, c.TableProperty)
    assert found.verbs == (c.Ends(), c.Reaches("app"))
    assert found.rows == (
        c.Row("as it | is", (), (c.Cell.YES,)),
        c.Row(
            "app on * and envoy uid 0, 5-9 without rule nat/X 3",
            (
                c.Variant("on", "*", "app"),
                c.Variant("uid", "0, 5-9", "envoy"),
                c.Variant("without-rule", "nat/X 3"),
            ),
            (c.Cell.NO,),
        ),
    )


def test_an_empty_file_has_no_properties():
    for text in ("", "\n\n", "# nothing", '  # nothing\nhost a = "b"'):
        assert read_properties_text(text, "f.prop").properties == ()


# -- who sends, and which packets ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "who"),
    [
        ("outside", c.Outside()),
        ("outside on eth0", c.Outside("eth0")),
        ("pod.outside on eth0", c.Outside("eth0")),
        ("app", c.OfProcess("app")),
        ("pod.app", c.OfProcess("app")),
        ("envoy.inbound", c.OfProxy("envoy", "inbound")),
        ("pod.envoy.inbound", c.OfProxy("envoy", "inbound")),
    ],
)
def test_senders(words: str, who: c.Who):
    assert read_packet_claim(f"  every packet from {words} must end").premise == c.Premise(who)


@pytest.mark.parametrize(
    ("words", "condition"),
    [
        ("to 10.33.4.7", c.Filter(to=AddressSet((POD_IP,)))),
        ("to any, not 10.33.4.7", c.Filter(to=AddressSet((Net(0, 0),), (POD_IP,)))),
        ("not to 10.33.4.7, pod", c.Filter(to=AddressSet((), (POD_IP, HostAddresses("pod"))))),
        ("to unicast not to pod", c.Filter(to=AddressSet((Special.UNICAST,), (HostAddresses("pod"),)))),
        ("port 80, 90-99", c.Filter(ports=(Span(80, 80), Span(90, 99)))),
        ("in eth+", c.Filter(where=(r.Literal(r.InInterface(Iface("eth+"))),))),
        ("where ! -i eth0", c.Filter(where=(r.Literal(r.InInterface(Iface("eth0")), True),))),
        (
            "port 80 where -p udp\n   to pod in lo",
            c.Filter(
                to=AddressSet((HostAddresses("pod"),)),
                ports=(Span(80, 80),),
                where=(r.Literal(r.Protocol(UDP)), r.Literal(r.InInterface(Iface("lo")))),
            ),
        ),
    ],
)
def test_conditions(words: str, condition: c.Filter):
    premise = read_packet_claim(f"  every packet from outside {words}\n  must end").premise
    assert premise == c.Premise(c.Outside(), filter=condition)


def test_where_takes_several_sources_and_the_protocol_of_the_premise():
    """iptables makes several rules of the former, and wants `-p` for the latter."""
    premise = read_packet_claim(
        "  every icmp packet from outside where -s 10.0.0.0/8,192.0.2.1 --icmp-type 8\n  must end"
    ).premise
    nets = (Net.read("10.0.0.0/8"), Net.read("192.0.2.1"))
    assert premise.filter.source == AddressSet(nets)
    assert r.Literal(r.IcmpType(8)) in premise.filter.where
    alone = read_packet_claim("  every packet from outside where -s ::1,::2\n  must end").premise
    assert alone.filter.where == ()
    for refused in ("! -s 10.0.0.1,10.0.0.2", "-s 10.0.0.1,x", "-s 10.0.0.1,10.0.0.2 -s 10.0.0.3,10.0.0.4"):
        with pytest.raises(PropertyError):
            read_packet_claim(f"  every packet from outside where {refused}\n  must end")


def test_a_protocol_and_a_kind_stand_before_from():
    premise = read_packet_claim("  some udp connection from app\n  can end").premise
    assert premise == c.Premise(c.OfProcess("app"), c.Kind.CONNECTION, c.Filter(UDP))
    assert read_packet_claim("  no 132 packet from app\n  may end").premise.filter.protocol == 132


@pytest.mark.parametrize(
    ("words", "after"),
    [
        ("even after a packet from envoy", c.OfProcess("envoy")),
        ("even after packet from pod.app", c.OfProcess("app")),
        ("even after a packet from outside on eth0\n  port 53", c.Outside("eth0")),
        ("where -s 10.0.0.1 even after a packet from outside", c.Outside()),
        ('where -m comment --comment "even after" even after a packet from outside', c.Outside()),
    ],
)
def test_an_earlier_packet_has_a_sender(words: str, after: c.Who):
    premise = read_packet_claim(f"  every udp packet from app {words}\n  must end").premise
    assert (premise.who, premise.after, premise.filter.protocol) == (c.OfProcess("app"), after, UDP)
    assert premise.carries == {"connection"}
    assert replace(premise, after=None).carries == frozenset()


@pytest.mark.parametrize(
    ("words", "answer", "protocol"),
    [
        ("established packet", False, None),
        ("established tcp packet", False, TCP),
        ("udp established packet", False, UDP),
        ("answer to an established tcp packet", True, TCP),
        ("answer to a tcp established packet", True, TCP),
    ],
)
def test_a_connection_that_stands_has_later_packets(words: str, answer: bool, protocol: int | None):
    premise = read_packet_claim(f"  every {words} from outside on eth0\n  must end").premise
    assert premise == c.Premise(c.Outside("eth0"), filter=c.Filter(protocol), answer=answer, established=True)
    assert premise.carries == {"connection"}


def test_where_ends_at_because_or_at_the_verb_but_not_inside_quotes():
    text = '  every packet from app where -p tcp -m comment --comment "must # because" must end'
    assert read_packet_claim(text).premise.filter.where == (r.Literal(r.Protocol(TCP)),)


def test_an_error_in_where_has_its_own_place_and_is_a_property_error():
    with pytest.raises(PropertyError) as e:
        read_claim("  every packet from app\n    where -p tcp --dport eighty\n  must end")
    assert e.value.place.line == 4
    assert e.value.line == "    where -p tcp --dport eighty"
    assert e.value.line[e.value.place.column - 1 :].startswith(("--dport", "eighty"))


# -- what must come of it ---------------------------------------------------------------------------

NAT_X = c.ChainRef("nat", "X")


@pytest.mark.parametrize(
    ("words", "verb"),
    [
        ("end", c.Ends()),
        ("not end", c.Not(c.Ends())),
        ("enter nat/X", c.Enters(NAT_X)),
        ("hit rule nat/X 7", c.Hits(c.RuleRef("nat", "X", 7))),
        ('hit rule nat/X "REDIRECT --to-ports"', c.Hits(c.RuleText("nat", "X", "REDIRECT --to-ports"))),
        ("reach app", c.Reaches("app")),
        ("reach pod.app on 8080", c.Reaches("app", 8080)),
        (
            "reach app with source 127.0.0.6",
            c.Reaches("app", having=c.With(AddressSet((Net(read_address("127.0.0.6")),)))),
        ),
        (
            "reach app with destination 10.33.4.7:80 and mark 0x1/0xff",
            c.Reaches("app", having=c.With(None, AddressSet((POD_IP,)), 80, False, MarkMask(1, 255))),
        ),
        ("reach app with destination *:80", c.Reaches("app", having=c.With(port=80))),
        ("leave", c.Leaves()),
        ("leave by eth0 with destination unchanged", c.Leaves("eth0", c.With(unchanged=True))),
        (
            "leave with source not pod with mark 5",
            c.Leaves(None, c.With(AddressSet((), (HostAddresses("pod"),)), mark=MarkMask(5))),
        ),
        ("leave with source *:80", c.Leaves(None, c.With(source_port=80))),
        (
            "be answered with source 127.0.0.6:53 and mark 1",
            c.IsAnswered(
                None,
                c.With(AddressSet((Net(read_address("127.0.0.6")),)), mark=MarkMask(1), source_port=53),
            ),
        ),
        ("leave with zone 7", c.Leaves(None, c.With(zone=7))),
        ("be answered by eth0 with zone 0", c.IsAnswered("eth0", c.With(zone=0))),
        ("pass pod.envoy before leaving", c.PassesBeforeLeaving("envoy")),
        ("pass envoy before leaving by eth0", c.PassesBeforeLeaving("envoy", "eth0")),
        ("be dropped", c.IsDropped()),
        ("be dropped by nat/X", c.IsDropped(NAT_X)),
        ("be lost", c.IsLost()),
        ("be rejected", c.IsRejected()),
        ("be refused", c.IsRefused()),
        ("not end or be lost or not leave", c.AnyOf((c.Not(c.Ends()), c.IsLost(), c.Not(c.Leaves())))),
    ],
)
def test_verbs(words: str, verb: c.Verb):
    assert read_packet_claim(f"  every packet from pod.app must {words}").verbs == (verb,)


@pytest.mark.parametrize(
    ("words", "claim"),
    [
        ("rule nat/X 7 must be dead", c.DeadClaim("nat", False, c.RuleRef("nat", "X", 7))),
        ("rule nat/X 7 must not be dead", c.DeadClaim("nat", False, c.RuleRef("nat", "X", 7), False)),
        ("rule nat/X 7 must be alive", c.DeadClaim("nat", False, c.RuleRef("nat", "X", 7), False)),
        ("rule nat/X 7 must not be alive", c.DeadClaim("nat", False, c.RuleRef("nat", "X", 7))),
        (
            'rule nat/X "a b" must be dead by the rules alone',
            c.DeadClaim("nat", True, c.RuleText("nat", "X", "a b")),
        ),
        ("no rule of filter may be dead", c.DeadClaim("filter", False)),
        (
            'no rule of nat may be dead\n  except nat/X 1, nat/Y 2 because "so"',
            c.DeadClaim(
                "nat", False, excepted=(c.RuleRef("nat", "X", 1), c.RuleRef("nat", "Y", 2)), because="so"
            ),
        ),
    ],
)
def test_rules_that_are_dead(words: str, claim: c.DeadClaim):
    assert read_claim(f"  {words}") == claim


def test_two_hosts_are_compared_and_no_host_is_asked():
    found = read_one("  every packet from pod.outside\n  must fare the same in pod and plain")
    premise = c.Premise(c.Outside())
    assert found.claims == (c.SameClaim(premise, "pod", "plain"),)
    assert found.expectations == (c.Expectation(None),)
    found = read_one(
        '  every packet from outside must keep every listener of pod in plain\n  expected refuted because "lo"'
    )
    assert found.claims == (c.KeepClaim(premise, "pod", "plain"),)
    assert found.expectations == (c.Expectation(None, c.Wanted.REFUTED, "lo"),)


def test_each_new_beginning_begins_a_claim():
    found = read_one(
        "  every packet from app\n  must end\n  no packet from app\n  may leave\n  some packet from app\n"
        "  can be lost\n  rule nat/X 1 must be dead\n  no rule of nat may be dead\n  on pod, plain"
    )
    kinds = [x.quantifier.value if isinstance(x, c.PacketClaim) else "dead" for x in found.claims]
    assert kinds == ["every", "no", "some", "dead", "dead"]
    assert found.expectations == (c.Expectation("pod"), c.Expectation("plain"))


# -- of which host ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sentence", "hosts", "expected"),
    [
        ("every packet from pod.app must end", "pod plain", [("pod", "proved")]),
        ("every packet from app must reach plain.app", "pod plain", [("plain", "proved")]),
        ("every packet from app must end", "pod", [("pod", "proved")]),
        ("every packet from pod.app must end\n  on plain", "pod plain", [("plain", "proved")]),
        (
            'every packet from pod.app must end\n  expected refuted because "x"',
            "pod plain",
            [("pod", "refuted")],
        ),
        (
            'every packet from app must end\n  on pod\n  on plain unknown because "x"',
            "pod plain",
            [("pod", "proved"), ("plain", "unknown")],
        ),
    ],
)
def test_hosts_that_a_property_is_asked_of(sentence: str, hosts: str, expected: list[tuple[str, str]]):
    found = read_one("  " + sentence, hosts)
    assert [(x.host, x.wanted.value) for x in found.expectations] == expected


# -- lines, comments, blanks ----------------------------------------------------------------------


def without_places(text: str) -> tuple[tuple[c.HostName, ...], tuple[c.Property | c.TableProperty, ...]]:
    found = read_properties_text(text, "f.prop")
    return found.hosts, found.properties


@given(st.lists(st.sampled_from(["", "  # a comment", "# | yes", "\t"]), max_size=3), st.data())
@settings(max_examples=60, deadline=None)
def test_comments_and_empty_lines_say_nothing(extra: list[str], data: st.DataObject):
    lines = WHOLE.splitlines()
    at = data.draw(st.integers(0, len(lines)))
    assert without_places("\n".join([*lines[:at], *extra, *lines[at:]])) == without_places(WHOLE)


def test_line_ends_of_windows_say_nothing():
    assert without_places(WHOLE.replace("\n", "\r\n")) == without_places(WHOLE)


def test_a_line_may_be_continued_after_any_word():
    words = "every tcp packet from pod.outside on eth0 to 10.33.4.7 , pod port 80 must reach app on 80 with source pod or end"
    expected = read_one("  " + words)
    keywords = ("every", "on", "must")
    for i, word in list(enumerate(words.split()))[1:]:
        if word in keywords:
            continue
        broken = words.split()
        broken[i] = "\n      " + word
        assert read_one("  " + " ".join(broken)) == expected


@pytest.mark.parametrize("number", [m.start() for m in re.finditer(r"\b[a-z]+\b", WHOLE)])
def test_a_misspelled_word_is_named_or_is_a_name(number: int):
    """Changing a word never passes as the same file, and an error points into the file."""
    text = WHOLE[:number] + "zq" + WHOLE[number:]
    try:
        changed = without_places(text) != without_places(WHOLE)
    except PropertyError as e:
        changed = e.line == text.splitlines()[e.place.line - 1]
    assert changed or "#" in text.splitlines()[text.count("\n", 0, number)]


# -- what is refused ----------------------------------------------------------------------------------

HOSTS = 'host pod = "a.yaml"\nhost plain = "b.yaml"\n'
EVERY = HOSTS + "property x\n  every packet from pod.outside\n"
AFTER = HOSTS + "property x\n  every %spacket from pod.app even after a packet from %s\n  must %s\n  on pod"
STANDS = HOSTS + "property x\n  every established %s from pod.app %s\n  must %s\n  on pod"
TABLE = HOSTS + "table x\n  every packet from outside must end\n"

REFUSED = [
    ('hots pod = "x"', "not `hots`", (1, 1), "`host`"),
    ('host pod "x"', "`=` was expected", (1, 10), None),
    ("host pod = x", 'text in "quotes" was expected', (1, 12), None),
    ('host po.d = "x"', "`po.d` is no name", (1, 6), None),
    ('host any = "x"', "`any` is a word for addresses", (1, 6), None),
    ('host pod = "x" wiht rules "y"', "not `wiht`", (1, 16), "`with`"),
    ('host pod = "x" with app on 300.1.1.1', "not an IPv4 address", (1, 28), None),
    ('host pod = "x" with app uid some', "no set of ids", (1, 29), None),
    ('host pod = "x" without rule nat/X 0', "no rule's number", (1, 35), None),
    (HOSTS + 'host pod = "c"', "there already, on line 1", (3, 6), None),
    (HOSTS + "property x", "the file ends, and `every`, `no`, `rule` or `some`", (3, 11), None),
    (HOSTS + "property x\n  evry packet from pod.app", "not `evry`", (4, 3), "`every`"),
    (HOSTS + "property x\n  every pakcet from pod.app", "not `pakcet`", (4, 9), "`packet`"),
    (HOSTS + "property x\n  every tpc packet from pod.app\n  must end", "no protocol", (4, 9), "`tcp`"),
    (HOSTS + "property x\n  every packet form pod.app", "not `form`", (4, 16), "`from`"),
    (HOSTS + "property x\n  every packet from pod\n  must end", "`pod` is a host", (4, 21), None),
    (HOSTS + "property x\n  every packet from pdo.outside\n  must end", "no host", (4, 21), "`pod`"),
    (HOSTS + "property x\n  every packet from pod.app on eth0\n  must end", "`outside` only", (4, 32), None),
    (HOSTS + "property x\n  every packet from pod.app to unicst\n  must end", "no address", (4, 32), "`unicast`"),
    (HOSTS + "property x\n  every packet from pod.app to pod to pod\n  must end", "twice", (4, 36), None),
    (HOSTS + "property x\n  every packet from pod.app not to any\n  must end", "no address", (4, 36), None),
    (HOSTS + "property x\n  every packet from pod.app port 70000\n  must end", "not in 0-65535", (4, 34), None),
    (HOSTS + "property x\n  every packet from outside\n  must end", "names no host", (3, 10), None),
    (AFTER % ("", "envoy", "end"), "of UDP alone", (4, 29), None),
    (AFTER % ("tcp ", "envoy", "end"), "of UDP alone", (4, 33), None),
    (AFTER % ("udp ", "envoy.outbound", "end"), "a proxy dials TCP", (4, 58), None),
    (AFTER % ("udp ", "envoy", "be answered"), "is not followed", (5, 11), None),
    (AFTER % ("udp ", "envoy", "not be answered"), "is not followed", (5, 15), None),
    (AFTER % ("udp ", "envoy on eth0", "end"), "`outside` only", (4, 67), None),
    (AFTER % ("udp ", "envoy even after a packet from app", "end"), "twice", (4, 64), None),
    (AFTER % ("udp ", "envoy", "fare the same in pod and plain"), "of new connections", (4, 33), None),
    (AFTER % ("udp ", "envoy where --ctstate NEW", "end"), "--ctstate", (4, 70), None),
    (AFTER % ("udp ", "envoy where -m state --state NEW", "end"), "for the earlier one", (4, 33), None),
    ((AFTER % ("udp ", "envoy", "end")).replace("even a", "evn a"), "not `evn`", (4, 33), "`even`"),
    ((AFTER % ("udp ", "envoy", "end")).replace("even after", "even"), "`after` was expected", (4, 38), None),
    ((AFTER % ("udp ", "envoy", "end")).replace("every ", "every answer to a "), "not of answers", (4, 45), None),
    ((AFTER % ("udp ", "envoy", "end")).replace("pod.app", "pod.envoy.outbound"), "a proxy dials", (4, 44), None),
    (STANDS % ("tcp connection", "", "end"), "not `connection`", (4, 25), None),
    (STANDS % ("packet", "where -m state --state NEW", "end"), "for the earlier one", (4, 9), None),
    (STANDS % ("packet", "", "fare the same in pod and plain"), "of new connections", (4, 9), None),
    (STANDS % ("udp packet", "even after a packet from envoy", "end"), "its own connection", (4, 45), None),
    ((STANDS % ("packet", "", "end")).replace("pod.app", "pod.envoy.outbound"), "behind its dial", (4, 9), None),
    ((STANDS % ("packet", "", "end")).replace("established", "estblished"), "no protocol", (4, 9), None),
    (EVERY, "the file ends, and `must`", (4, 32), None),
    (EVERY + "  mst end", "not `mst`", (5, 3), "`must`"),
    (EVERY + "  mustend", "not `mustend`", (5, 3), "`must`"),
    (EVERY + "  must enternat/X", "`enternat/X` is no word", (5, 8), "`enter`"),
    (EVERY + "  must entre nat/X", "not `entre`", (5, 8), "`enter`"),
    (EVERY + "  must enter nta/X", "`nta` is no table", (5, 14), None),
    (EVERY + "  must enter OUTPUT", "TABLE/CHAIN", (5, 14), None),
    (EVERY + "  must be drpped", "not `drpped`", (5, 11), "`dropped`"),
    (EVERY + "  must end or", "the file ends", (5, 14), None),
    (EVERY + "  must end and leave", "not `and`", (5, 12), None),
    (EVERY + "  may end", "`every` goes with `must`", (5, 3), None),
    (EVERY + "  must reach app with sorce pod", "not `sorce`", (5, 23), "`source`"),
    (EVERY + "  must leave with mark 1 with mark 2", "twice", (5, 31), None),
    (HOSTS + "property x\n  every packet from 10.0.0.1 to pod\n  must end", "is an address", (4, 21), None),
    (EVERY + "  must leave with zone 65536", "no zone", (5, 24), None),
    (EVERY + "  must end\n  on pdo", "no host is named `pdo`", (6, 6), "`pod`"),
    (EVERY + "  must end\n  on pod, pod", "there already", (6, 11), None),
    (EVERY + "  must end\n  on pod refuted", "`because` was expected", (6, 17), None),
    (EVERY + '  must end\n  on pod\n  expected refuted because "x"', "does not go with `on`", (7, 3), None),
    (EVERY + "  must end\n  every packet from plain.app\n  must end", "several hosts", (3, 10), None),
    (EVERY + "  must end\nproperty x\n  rule nat/X 1 must be dead\n  on pod", "already, on line 3", (6, 10), None),
    (EVERY + "  must fare the same in pod and pdo", "no host", (5, 33), "`pod`"),
    (EVERY + "  must fare the same in pod and pod", "the first again", (5, 33), None),
    (EVERY + "  must fare the same in pod and plain\n  on pod", "without `on`", (6, 6), None),
    (EVERY + "  must not fare the same in pod and plain", "stands alone", (5, 12), None),
    (EVERY + "  must end or fare the same in pod and plain", "stands alone", (5, 15), None),
    (EVERY + "  must end\n  except\n    - udp", "`because`", (7, 10), None),
    (EVERY + '  must end\n  except\n    - because "x"', "excepts every packet", (7, 5), None),
    (EVERY + '  must end\n  except\n    - nott to pod because "x"', "no protocol", (7, 7), "`not`"),
    (HOSTS + "property x\n  rule nat/X 7 must be ded\n  on pod", "not `ded`", (4, 24), "`dead`"),
    (HOSTS + "property x\n  no rule of nta may be dead\n  on pod", "no table", (4, 14), "`nat`"),
    (HOSTS + "property x\n  no rule of nat must be dead\n  on pod", "`no` goes with `may`", (4, 18), None),
    (HOSTS + "property x\n  no rule of nat may be dead except nat/X 5\n  on pod", "`because`", (4, 44), None),
    (TABLE + "      | pod | plain\n  app on * | yes", "2 columns, and this row 1", (6, 14), None),
    (TABLE + "      | pod | plan\n  app on * | yes | no", "no host", (5, 15), "`plain`"),
    (TABLE + "      | pod\n  app on * | yess", "not `yess`", (6, 14), "`yes`"),
    (TABLE + "      | pod | pod\n  app on * | yes | no", "a column `pod`", (5, 15), None),
    (TABLE + "      | pod\n  app on * | no\n  app on * | no", "a row `app on \\*`", (7, 12), None),
    (TABLE.replace("every", "no").replace("must", "may") + "  | pod\n  app on * | no", "`every`", (4, 3), None),
    (TABLE.replace("from ", "from pod.") + "  | pod\n  app on * | no", "columns are its hosts", (3, 7), None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message", "at", "hint"), REFUSED, ids=[t.splitlines()[-1].strip() for t, *_ in REFUSED]
)
def test_a_file_that_cannot_be_read_is_refused_in_the_users_words(
    text: str, message: str, at: tuple[int, int], hint: str | None
):
    with pytest.raises(PropertyError, match=message) as e:
        read_properties_text(text, "f.prop")
    assert (e.value.place.line, e.value.place.column) == at
    assert e.value.line == text.splitlines()[at[0] - 1]
    if hint is not None:
        assert e.value.hint == f"did you mean {hint}?"
    for name in ("_NL", "$END", "ANON", "OPTIONS", "STRING", "MODAL", "SENDER"):
        assert name not in e.value.message


# -- variants ---------------------------------------------------------------------------------------


def setting() -> tuple[h.Host, r.RuleSet]:
    route = h.ProxyRoute((h.Dial(),), h.KernelChooses())
    host = h.Host(
        "pod",
        (
            h.Interface("lo", (h.Address(read_address("127.0.0.1"), 8),)),
            h.Interface("eth0", (h.Address(read_address("10.33.4.7"), 24),)),
        ),
        processes=(
            h.Process(
                "app", IdSet.read("1"), IdSet.read("1"), (h.Listener(80), h.Listener(53, protocol=UDP))
            ),
            h.Process(
                "envoy",
                IdSet.read("2"),
                IdSet.read("2"),
                (h.Listener(15006), h.Listener(80, read_address("127.0.0.1"))),
                (h.Proxy("inbound", 15006, (route,), (Span(15006, 15006),)),),
            ),
        ),
    )
    numbered = tuple(r.Rule(comments=(str(i),)) for i in (1, 2, 3))
    return host, r.RuleSet({"nat": r.Table("nat", {"X": r.Chain("X", None, numbered)})})


def vary(words: str, base: Path = Path()) -> tuple[h.Host, r.RuleSet]:
    (named,) = read_properties_text(f'host pod = "x" {words}', "f.prop").hosts
    return apply_variants(*setting(), named.variants, base, lambda path: read_rule_files((path,))[0])


def test_no_variant_changes_nothing():
    assert vary("") == setting()


@pytest.mark.parametrize(
    ("words", "process", "changed"),
    [
        ("app uid not 5", "app", {"uid": IdSet.read("not 5")}),
        ("app gid 0, 7-9", "app", {"gid": IdSet.read("0, 7-9")}),
        ("app binds-device eth0", "app", {"device": "eth0"}),
        (
            "app on 10.33.4.7%eth0",
            "app",
            {
                "listens": (
                    h.Listener(80, read_address("10.33.4.7"), device="eth0"),
                    h.Listener(53, read_address("10.33.4.7"), UDP, "eth0"),
                )
            },
        ),
    ],
)
def test_a_variant_changes_one_thing_of_one_process(words: str, process: str, changed: dict[str, object]):
    host, rules = setting()
    found, found_rules = vary("with " + words)
    assert found.process(process) == replace(host.process(process), **changed)  # type: ignore[arg-type]
    others = [p for p in host.processes if p.name != process]
    assert [p for p in found.processes if p.name != process] == others
    assert found_rules == rules


def test_a_proxy_may_refuse_something_else_or_nothing():
    assert vary("with envoy refuses nothing")[0].process("envoy").proxies[0].refuses == ()
    found = vary("with envoy refuses 1, 2-3")[0].process("envoy").proxies[0].refuses
    assert found == (Span(1, 1), Span(2, 3))


def test_rules_taken_away_are_counted_before_any_is():
    _, rules = vary("without rule nat/X 1 and without rule nat/X 2")
    assert [x.comments for x in rules.tables["nat"].chains["X"].rules] == [("3",)]


def test_other_rules_are_read_from_their_file(tmp_path: Path):
    (tmp_path / "other.rules").write_text("*nat\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -p tcp -j ACCEPT\nCOMMIT\n")
    _, rules = vary('with rules "other.rules"', tmp_path)
    assert rules.tables["nat"].chains["OUTPUT"].rules == (r.Rule((r.Literal(r.Protocol(TCP)),), r.Accept()),)
    _, rules = vary('with rules "other.rules" without rule nat/OUTPUT 1', tmp_path)
    assert rules.tables["nat"].chains["OUTPUT"].rules == ()


@pytest.mark.parametrize(
    ("words", "message", "column"),
    [
        ("with ap uid 5", "no process `ap`", 21),
        ("with app on 10.9.9.9", "no address of host pod", 21),
        ("with app on *%eth9", "no interface `eth9`", 21),
        ("with app on 127.0.0.1", "listens on 127.0.0.1:80 already", 21),
        ("with app binds-device eth9", "no interface `eth9`", 21),
        ("with app binds-device lo", "bound to lo are not modelled", 21),
        ("with app refuses nothing", "is no proxy", 21),
        ("without rule nat/Y 1", "no chain nat/Y", 29),
        ("without rule nat/X 4", "3 rules, and no rule 4", 29),
        ('with rules "nowhere.rules"', "cannot be read", 27),
    ],
)
def test_a_variant_of_what_is_not_there_is_refused_at_its_place(words: str, message: str, column: int):
    with pytest.raises(PropertyError, match=message) as e:
        vary(words)
    assert e.value.place == Place("f.prop", 1, column)
