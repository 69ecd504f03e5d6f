"""What `-m recent` has to have seen is written into the kernel's lists before a counterexample is replayed."""

from __future__ import annotations

from pathlib import Path

import pytest

from verifier.answers import Refuted
from verifier.cases import Cases, Overrides
from verifier.check import Checker
from verifier.confirm.judging import Judge

pytestmark = pytest.mark.kernel

HOST = """rules: host.rules
interfaces: {lo: {addresses: [127.0.0.1/8, "::1/128"]}, eth0: {addresses: [10.0.0.5/24, "2001:db8::5/64"]}}
"""
RULES = """*filter
:INPUT ACCEPT [0:0]
-A INPUT -p tcp -m tcp --dport 22 -m recent {options} -j DROP
COMMIT
"""
PROPERTY = """host host = "host.yaml"

property it-is-dropped
  every tcp packet from outside on eth0 to {to} port 22
  must be dropped

property it-is-not
  every tcp packet from outside on eth0 to {to} port 22
  must not be dropped
"""
SEEN = (
    "--rcheck --seconds 60 --name A --mask 255.255.255.0 --rsource",
    "--update --seconds 60 --hitcount 4 --rttl --name DEFAULT --mask 255.255.255.255 --rdest",
    "! --rcheck --name A --mask 255.255.255.255 --rsource",
    "! --update --hitcount 40 --name A.b --mask 0.0.0.255 --rsource",
)
SEEN_6 = (
    "--rcheck --seconds 60 --name A --mask ffff:ffff:: --rsource",
    "--update --hitcount 2 --name A --mask ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff --rdest",
)
CASES = [*((options, "10.0.0.5") for options in SEEN), *((options, "2001:db8::5") for options in SEEN_6)]


@pytest.mark.parametrize(("options", "to"), CASES)
def test_a_packet_that_is_seen_again_or_for_the_first_time_is_confirmed(
    tmp_path: Path, options: str, to: str
) -> None:
    """One after the other in the same kernel: what the first must have seen the second must not."""
    (tmp_path / "host.yaml").write_text(HOST)
    (tmp_path / "host.rules").write_text("*filter\nCOMMIT\n" if ":" in to else RULES.format(options=options))
    if ":" in to:
        (tmp_path / "six.rules").write_text(RULES.format(options=options))
        (tmp_path / "host.yaml").write_text(f"rules6: six.rules\n{HOST}")
    (tmp_path / "x.prop").write_text(PROPERTY.format(to=to))
    results = [
        Checker().ask(q) for q in Cases(tmp_path / "x.prop", Overrides(None, None, None)).questions(())
    ]
    assert [type(result.answer) for result in results] == [Refuted, Refuted]
    with Judge() as judge:
        for result in (*results, *results):
            judgement = judge.judged(result)
            assert judgement.confirmed, judgement.why
