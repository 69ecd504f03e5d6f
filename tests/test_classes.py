"""What a counterexample stands for: each packet of the class breaks the claim too."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from hypothesis import given, reject, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from verifier import claims as c
from verifier import hosts as h
from verifier.answers import Counterexample, Refuted, Varies
from verifier.cases import Cases, Overrides
from verifier.check import Checker
from verifier.classes import stands_for
from verifier.packets import Packet
from verifier.prove import Budget, Prover
from verifier.values import Family, read_address
from verifier.wording import say_varies

from . import small
from .small import TooMany
from .test_prove import all_trips, broken, claims

PACK = Path(__file__).parents[1] / "proofs" / "istio-sidecar"


def stands(found: Counterexample, varied: tuple[Varies, ...], packet: Packet) -> bool:
    """The packet is the counterexample's first but for how its fields vary."""
    first = found.journey.stops[0].packet
    if not all(varies.holds(getattr(packet, varies.field)) for varies in varied):
        return False
    same = {varies.field: getattr(first, varies.field) for varies in varied}
    return replace(packet, **same, out_iface=first.out_iface) == first


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_all_packets_that_a_counterexample_stands_for_break_the_claim(data: st.DataObject) -> None:
    setting: h.Setting = data.draw(small.settings(opaque=False))
    claim = data.draw(claims(setting).filter(lambda x: x.quantifier is not c.Quantifier.SOME))
    prover = Prover(setting, Budget(samples=0))
    answer = prover.answer(claim)
    if not isinstance(answer, Refuted) or answer.counterexample is None or answer.counterexample.hop:
        reject()
    found = answer.counterexample
    varied = stands_for(prover, claim, found)
    if not varied:
        reject()
    told = 0
    with suppress(TooMany):
        for trip, journey in all_trips(claim, setting, None):
            if trip.sender == found.sender and isinstance(trip.begin, Packet):
                if stands(found, varied, journey.stops[0].packet):
                    told += 1
                    assert broken(claim, journey, setting), (varied, trip)
        assert told, "the counterexample stands for itself"


def test_a_loop_stands_for_every_port_but_those_that_are_refused_or_not_redirected() -> None:
    cut = PACK / "inbound.prop"
    question = next(
        q for q in Cases(cut, Overrides(None, None, None)).questions(("inbound-ends",)) if q.where == "cut"
    )
    ((_, setting),) = question.settings
    (claim,) = question.claims
    assert isinstance(claim, c.PacketClaim)
    checker = Checker()
    answer = checker.answer(claim, question)
    assert isinstance(answer, Refuted)
    assert answer.counterexample is not None
    varied = stands_for(checker.prover(setting), claim, answer.counterexample)
    assert [say_varies(v, Family.IPV4) for v in varied] == [
        "any source port",
        "any source address",
        "any destination port but 22, 15001, 15006, 15008, 15020, 15021, 15090",
    ]


def test_ranges_are_told_as_prefixes_of_addresses_and_as_numbers() -> None:
    low = read_address("10.0.0.0")
    assert (
        say_varies(Varies("dst", low, low | 0xFFFFFF), Family.IPV4) == "any destination address in 10.0.0.0/8"
    )
    assert say_varies(Varies("uid", 1, 99), Family.IPV4) == "any uid from 1 to 99"
    assert say_varies(Varies("src", 0, 0xFFFFFFFF, (low,)), Family.IPV4) == "any source address but 10.0.0.0"
