"""IPv6 hosts with routing rules, from their files to what is proved of them: TPROXY as it is set up, and two uplinks."""

from __future__ import annotations

from pathlib import Path

import pytest

from verifier.answers import Answer, Proved, Refuted, Unknown
from verifier.cases import Cases
from verifier.check import Checker

HOST = """\
rules6: six.rules
interfaces:
  lo: {addresses: ["::1/128"]}
  eth0: {addresses: ["2001:db8::7/64", "fe80::7/64"]}
  eth1: {addresses: ["2001:db8:1::7/64"]}
routes6:
  - 2001:db8::/64 dev eth0 proto kernel metric 256 pref medium
  - fe80::/64 dev eth0 proto kernel metric 256 pref medium
  - default via fe80::1 dev eth0 metric 1024 pref medium
  - local default dev lo table 100 metric 1024 pref medium
  - default via 2001:db8:1::1 dev eth1 table 2 metric 1024 pref medium
ip-rules6:
  - "0: from all lookup 255"
  - "100: from all fwmark 0x1 lookup 100"
  - "200: from 2001:db8:1::7 lookup 2"
  - "32766: from all lookup 254"
processes:
  envoy: {uid: 1337, gid: 1337, listens: ["*:15006 transparent"]}
  app: {uid: 1000, gid: 1000}
  dialler:
    uid: 2
    gid: 2
    listens: ["*:90"]
    proxy: {any: {accepts: 90, connects-to: "[2001:db8:77::1]:80"}}
outside: {sources: "unicast, not 2001:db8:99::1"}
"""
RULES = """\
*mangle
:PREROUTING ACCEPT [0:0]
-A PREROUTING -i eth0 -p tcp -m tcp --dport 443 -j TPROXY --on-port 15006 --tproxy-mark 0x1/0x1
COMMIT
"""


def answer(folder: Path, claim: str, host: str = HOST) -> Answer:
    (folder / "six.rules").write_text(RULES)
    (folder / "it.yaml").write_text(host)
    file = folder / "it.prop"
    file.write_text(f'host it = "it.yaml"\n\nproperty it\n  {claim}\n  on it\n')
    (question,) = Cases(file).questions()
    return Checker().ask(question).answer


GIVEN = (
    "every tcp connection from outside on eth0 to 2001:db8:99::1 port 443\n"
    "  must reach envoy on 15006 with destination [2001:db8:99::1]:443\n  must be answered by eth0"
)


def test_tproxy_as_it_is_set_up_gives_envoy_what_is_for_others(tmp_path: Path) -> None:
    assert isinstance(answer(tmp_path, GIVEN), Proved)


@pytest.mark.parametrize(
    ("old", "new"), [("fwmark 0x1", "fwmark 0x2"), ("local default dev lo", "throw default dev lo")]
)
def test_and_without_the_rule_or_its_route_does_not(tmp_path: Path, old: str, new: str) -> None:
    assert old in HOST
    assert isinstance(answer(tmp_path, GIVEN, HOST.replace(old, new)), Refuted)


@pytest.mark.parametrize(
    ("source", "uplink", "expected"),
    [
        ("2001:db8:1::7", "eth1", Proved),
        ("2001:db8:1::7", "eth0", Refuted),
        ("2001:db8::7", "eth0", Proved),
        ("2001:db8::7", "eth1", Refuted),
    ],
)
def test_what_is_bound_to_an_uplinks_address_leaves_by_it(
    tmp_path: Path, source: str, uplink: str, expected: type
) -> None:
    said = f"every tcp packet from app to 2001:db8:77::/48 where -s {source}\n  must leave by {uplink}"
    assert isinstance(answer(tmp_path, said), expected)


def test_by_which_uplink_it_goes_is_unknown_where_the_socket_may_not_be_bound(tmp_path: Path) -> None:
    """eth0's route lends the other address too, since eth0 has none of its own."""
    host = HOST.replace('"2001:db8::7/64", ', "")
    said = "every tcp packet from app to 2001:db8:77::/48 where -s 2001:db8:1::7\n  must leave by eth1"
    assert isinstance(answer(tmp_path, said, host), Unknown)


def test_what_writes_its_own_headers_goes_nobody_knows_where(tmp_path: Path) -> None:
    host = HOST.replace("  app:", "  sniffer: {uid: 0, gid: 0, raw: true}\n  app:")
    said = "every packet from sniffer to 2001:db8:77::/48\n  must not leave by eth1"
    assert isinstance(answer(tmp_path, said, host), Unknown)


@pytest.mark.parametrize(
    ("text", "expected"), [(HOST, Proved), (HOST.replace('"2001:db8::7/64", ', ""), Unknown)]
)
def test_a_dial_leaves_by_the_way_that_it_has_with_and_without_its_source(
    tmp_path: Path, text: str, expected: type
) -> None:
    said = "every packet from dialler.any\n  must leave by eth0"
    assert isinstance(answer(tmp_path, said, text), expected)
