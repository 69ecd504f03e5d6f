"""What REJECT sends back: examples that the concrete wing tells as docs/journeys.md has it, claims that are proved or not, and
sentences that are read."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from verifier import claims as c
from verifier import hosts as h
from verifier import journeys as j
from verifier.answers import Answer, Proved, Refuted, Unknown, Vacuous
from verifier.concrete import rejections
from verifier.concrete.claims import of_answer
from verifier.concrete.travel import travel
from verifier.packets import Packet
from verifier.prove import Prover
from verifier.reading.errors import PropertyError
from verifier.reading.properties import read_properties_text
from verifier.reading.rules import read_rules
from verifier.values import ICMP, TCP, AddressSet, CtState, Net, Span, TcpFlag
from verifier.wording import say_premise

from .test_concrete import LO, host, ip
from .test_concrete_answers import APP, ETH0, ETH1, TWO_ARMS

CLIENT, HERE, FAR = ip("10.33.0.9"), ip("10.33.0.5"), ip("198.51.100.7")
SYN = int(TcpFlag.SYN)
RESET = "-A INPUT -p tcp --dport 22 -j REJECT --reject-with tcp-reset"
ERROR = "-A INPUT -p udp -j REJECT"


def router(*rules: str, nat: str = "", drops: str = "", **more: h.Process) -> h.Setting:
    """With these rules of filter, whose chain `drops` drops by policy."""
    chains = "".join(
        f":{x} {'DROP' if x == drops else 'ACCEPT'} [0:0]\n" for x in ("INPUT", "FORWARD", "OUTPUT")
    )
    text = f"*filter\n{chains}{''.join(f'{rule}{chr(10)}' for rule in rules)}COMMIT\n"
    if nat:
        text += f"*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n{nat}\nCOMMIT\n"
    on = host(APP, *more.values(), interfaces=(LO, ETH0, ETH1), routes=TWO_ARMS, sysctls={"ip_forward": 1})
    return h.Setting(on, read_rules(text, "here").rules, rejections=True)


def frame(dst: int = HERE, dport: int = 22, proto: int = TCP, flags: int = SYN) -> Packet:
    return Packet(CLIENT, dst, proto, 4000, dport, flags if proto == TCP else 0, in_iface="eth0")


def sent(dst: int, dport: int = 80, **more: str) -> Packet:
    return Packet(HERE, dst, TCP, 4000, dport, SYN, uid=0, gid=0, **more)


def back(setting: h.Setting, packet: Packet) -> j.Journey | None:
    sender: j.Sender = j.FromProcess("app") if packet.uid is not None else j.FromOutside("eth0")
    return of_answer(travel(setting, sender, packet), 0)


# -- by example -------------------------------------------------------------------------------------


def test_a_reset_is_the_reply_of_the_connection_that_never_was() -> None:
    told = back(router(RESET, "-A OUTPUT -m conntrack --ctstate RELATED"), frame())
    assert told is not None
    assert told.end == j.Left("eth0")
    first = told.stops[0].packet
    assert (first.src, first.sport, first.dst, first.dport) == (HERE, 22, CLIENT, 4000)
    assert first.flags == TcpFlag.RST | TcpFlag.ACK
    assert first.ctstate is CtState.RELATED
    assert first.connection is not None
    assert first.connection.is_reply
    assert first.connection.status == 0


def test_an_error_is_of_its_type_and_quotes_no_more_than_it_may() -> None:
    where = router(
        "-A INPUT -p udp -j REJECT --reject-with icmp-admin-prohibited", "-A OUTPUT -m length --length 99"
    )
    told = back(where, replace(frame(proto=17), length=1000))
    assert told is not None
    first = told.stops[0].packet
    assert (first.proto, first.icmp_type, first.icmp_code, first.length) == (ICMP, 3, 13, 576)


def test_what_is_not_established_may_be_dropped_on_its_way_out() -> None:
    told = back(
        router(RESET, "-A OUTPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT", drops="OUTPUT"), frame()
    )
    assert told is not None
    assert isinstance(told.end, j.Dropped)


def test_of_what_no_rule_rejects_nothing_is_told() -> None:
    assert back(router(RESET), frame(dport=80)) is None
    assert back(router(RESET), frame(flags=TcpFlag.RST)) is None


def test_dnat_is_undone_of_what_the_router_says_itself() -> None:
    where = router(
        "-A FORWARD -d 10.44.0.9 -j REJECT",
        nat="-A PREROUTING -p tcp -j DNAT --to-destination 10.44.0.9:2222",
    )
    told = back(where, frame(FAR))
    assert told is not None
    assert told.stops[0].packet.src == HERE
    assert told.final.src == FAR


def test_masquerade_of_a_reset_leaves_it_as_it_is_and_over_lo_nobody_knows() -> None:
    nat = "-A POSTROUTING -j MASQUERADE"
    told = back(router(RESET, nat=nat), frame())
    assert told is not None
    assert told.end == j.Left("eth0")
    own = back(router("-A OUTPUT -p tcp --syn -j REJECT --reject-with tcp-reset", nat=nat), sent(FAR))
    assert own is not None
    assert own.end == j.Unmodelled(rejections.BINDING)


def test_it_comes_back_to_the_process_that_is_rejected() -> None:
    for how in ("tcp-reset", "icmp-host-prohibited"):
        told = back(router(f"-A OUTPUT -p tcp --syn -j REJECT --reject-with {how}"), sent(FAR))
        assert told is not None
        assert told.end == j.Returned("app")


def test_of_answers_and_rejections_a_setting_tells_one() -> None:
    with pytest.raises(ValueError, match="one is told at a time"):
        replace(router(RESET), answers=True)


# -- claims -----------------------------------------------------------------------------------------

EVERY, NO, SOME = c.Quantifier.EVERY, c.Quantifier.NO, c.Quantifier.SOME
OUTSIDE = c.Outside("eth0")
TO_22 = c.Filter(TCP, AddressSet((Net(HERE),)), ports=(Span(22, 22),))
NEAR = c.Filter(TCP, AddressSet((Net(HERE),)), AddressSet((Net.read("10.33.0.9/32"),)), (Span(22, 22),))


def asked(
    where: h.Setting, *verbs: c.Verb, who: c.Who = OUTSIDE, of: c.Filter = NEAR, how: c.Quantifier = EVERY
) -> Answer:
    premise = c.Premise(who, c.Kind.CONNECTION, of, rejection=True)
    return Prover(replace(where, rejections=False)).answer(c.PacketClaim(how, premise, verbs))


def test_a_rejection_is_proved_to_be_heard_or_shown_to_be_dropped() -> None:
    assert isinstance(asked(router(RESET), c.Leaves("eth0"), c.Not(c.IsDropped())), Proved)
    assert isinstance(asked(router(RESET), c.IsDropped(), how=NO), Proved)
    assert isinstance(asked(router(RESET), c.Leaves("eth0"), how=SOME), Proved)
    strict = router(RESET, "-A OUTPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT", drops="OUTPUT")
    found = asked(strict, c.Leaves("eth0"))
    assert isinstance(found, Refuted)
    assert found.counterexample is not None
    assert isinstance(found.counterexample.journey.end, j.Rejected)
    assert isinstance(found.counterexample.journey.answers[0], j.Dropped)
    assert any(a.code == "A016" for a in found.assumptions)


def test_a_claim_about_rejections_of_what_none_rejects_is_vacuous() -> None:
    assert isinstance(asked(router("-A INPUT -p tcp -j DROP"), c.Leaves()), Vacuous)
    quiet = router("-A INPUT -j REJECT")
    assert isinstance(
        asked(quiet, c.Leaves(), of=c.Filter(TCP, AddressSet((Net(ip("10.33.0.255")),)))), Vacuous
    )


def test_what_is_not_known_of_a_rejection_is_no_proof() -> None:
    vague = router("-A INPUT -p tcp -m u32 --u32 0x0=0x1 -j ACCEPT", RESET)
    assert isinstance(asked(vague, c.Leaves("eth0")), Proved), "of those that are rejected"
    hidden = router(ERROR.replace("udp", "tcp"), "-A OUTPUT -m owner --socket-exists -j DROP")
    assert isinstance(asked(hidden, c.Leaves("eth0")), Unknown)
    assert isinstance(asked(hidden, c.IsDropped(), how=NO), Unknown)
    opaque = router("-A INPUT -p tcp -m u32 --u32 0x0=0x1 -j NFQUEUE --queue-num 1", RESET)
    assert not isinstance(asked(opaque, c.Leaves("eth0")), Refuted)


def test_in_which_zone_a_rejection_is_nobody_tells() -> None:
    zoned = c.Leaves("eth0", c.With(zone=0))
    assert isinstance(asked(router(RESET), zoned), Unknown)
    assert isinstance(asked(router(RESET), c.Not(zoned), how=NO), Unknown)


def test_an_own_socket_is_reached() -> None:
    where = router("-A OUTPUT -p tcp --syn -j REJECT --reject-with tcp-reset")
    own = c.Filter(TCP, AddressSet((Net(FAR),)))
    assert isinstance(asked(where, c.Reaches("app"), who=c.OfProcess("app"), of=own), Proved)
    deaf = router("-A OUTPUT -p tcp --syn -j REJECT --reject-with tcp-reset", "-A INPUT -i lo -j DROP")
    assert isinstance(asked(deaf, c.Reaches("app"), who=c.OfProcess("app"), of=own), Refuted)


def test_a_rejection_has_a_source_that_its_client_knows() -> None:
    where = router(
        "-A FORWARD -d 10.44.0.9 -j REJECT",
        nat="-A PREROUTING -p tcp --dport 22 -j DNAT --to-destination 10.44.0.9:2222",
    )
    known = c.Leaves("eth0", c.With(source=AddressSet((Net(HERE),))))
    assert isinstance(asked(where, known), Proved)


# -- words ------------------------------------------------------------------------------------------

HOSTS = 'host pod = "a"\nhost plain = "b"\n'
SENTENCE = HOSTS + "property x\n  every %s from %s\n  must %s\n  on pod"


@pytest.mark.parametrize(
    "words", ["rejection of a tcp connection", "rejection of an icmp packet", "rejection of udp packet"]
)
def test_a_rejection_is_spoken_of(words: str) -> None:
    (found,) = read_properties_text(SENTENCE % (words, "outside on eth0", "leave"), "f.prop").properties
    assert isinstance(found, c.Property)
    (claim,) = found.claims
    assert isinstance(claim, c.PacketClaim)
    assert claim.premise.rejection
    assert claim.premise.sent_back
    assert not claim.premise.answer
    assert say_premise(claim.premise).startswith("rejection of a ")


@pytest.mark.parametrize(
    ("text", "message", "at"),
    [
        (SENTENCE % ("rejection of an established tcp packet", "app", "leave"), "later packet", (4, 9)),
        (SENTENCE % ("rejection of a udp packet", "app even after a packet from app", "leave"), "not of rejections", (4, 9)),
        (SENTENCE % ("rejection of a packet", "app", "be answered"), "nobody answers a rejection", (5, 11)),
        (SENTENCE % ("rejection of a packet", "app", "not be answered"), "nobody answers a rejection", (5, 15)),
        ((SENTENCE % ("rejection of a packet", "app", "fare the same in pod and plain")).replace("\n  on pod", ""), "not by rejections", (4, 9)),
        (SENTENCE % ("rejection to a packet", "app", "leave"), "not `to`", (4, 19)),
    ],
)  # fmt: skip
def test_what_nobody_follows_of_rejections_is_refused(text: str, message: str, at: tuple[int, int]) -> None:
    with pytest.raises(PropertyError, match=message) as e:
        read_properties_text(text, "f.prop")
    assert (e.value.place.line, e.value.place.column) == at


@pytest.mark.parametrize("more", [{"answer": True}, {"established": True}])
def test_a_premise_speaks_of_one_thing(more: dict[str, bool]) -> None:
    with pytest.raises(ValueError, match="rejection of"):
        c.Premise(OUTSIDE, rejection=True, **more)
