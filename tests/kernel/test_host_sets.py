"""The sets of a host are there when the kernel plays it."""

from __future__ import annotations

import pytest

from verifier.answers import Refuted
from verifier.cases import read_setting
from verifier.concrete.travel import travel
from verifier.confirm.judging import Judge
from verifier.confirm.levels import Verdict
from verifier.confirm.replaying import replay
from verifier.counterexamples.read import read_record
from verifier.counterexamples.record import of_result
from verifier.counterexamples.write import write
from verifier.journeys import Dropped, FromOutside
from verifier.kernel.expected import stimulus, told
from verifier.kernel.iptables import BackendName
from verifier.kernel.pods import Pod
from verifier.packets import Packet
from verifier.spell import rule_set
from verifier.values import TcpFlag, read_address

from ..test_host_sets import TIMED, asked, of_time

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("backend", ["legacy", "nft"])
def test_what_a_set_holds_is_dropped_and_nothing_else(tmp_path, backend: BackendName) -> None:
    asked(tmp_path)
    setting, _ = read_setting(tmp_path / "host.yaml")
    with Pod(setting.host, rule_set(setting.rules), backend) as pod:
        dropped = 0
        for src in ("192.0.2.0", "192.0.2.6", "192.0.2.7", "192.0.2.255", "192.0.3.0", "192.0.1.255"):
            packet = Packet(
                read_address(src), read_address("10.0.0.5"), sport=40000, dport=80, flags=TcpFlag.SYN
            )
            sender = FromOutside("eth0")
            journey = travel(setting, sender, packet)
            dropped += isinstance(journey.end, Dropped)
            # Without a route back no reset comes, dropped or not: what is counted tells.
            seen = pod.run(stimulus(sender, packet), hits=True)
            taken = {(s.table, s.chain, s.rule) for s in journey.stops if s.rule is not None}
            assert set(seen.hits) == taken, (src, seen, told(journey))
        assert dropped == 3


def test_the_kernel_plays_a_set_as_it_is_then(tmp_path) -> None:
    """With the entry, and when it has gone: also of a file that is read again."""
    results = of_time(tmp_path, TIMED + "add banned 192.0.2.0/24 timeout 300\n")
    refuted = [result for result in results if isinstance(result.answer, Refuted)]
    assert len(refuted) == 3
    with Judge() as judge:
        for result in refuted:
            assert judge.judged(result).confirmed
            kept = of_result(result)
            assert kept is not None
            told = replay(read_record(write(kept), "kept.json"))
            assert {confirmation.verdict for _, confirmation in told} == {Verdict.CONFIRMED}
