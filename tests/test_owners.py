"""Rules of several owners, loaded one after the other on what is there."""

from __future__ import annotations

import pytest

from verifier import spell
from verifier.reading.errors import RuleError
from verifier.reading.rules import read_in_order
from verifier.rules import RuleSet
from verifier.values import Family

FIREWALL = """*filter
:INPUT DROP [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:OURS - [0:0]
-A INPUT -j OURS
-A FORWARD -j REJECT
-A OURS -p tcp -m tcp --dport 22 -j ACCEPT
COMMIT
"""
APPENDED = """*filter
:PODS - [0:0]
:OURS - [0:0]
-A FORWARD -j PODS
-A PODS -s 10.1.0.0/16 -j ACCEPT
COMMIT
*nat
-A POSTROUTING -s 10.1.0.0/16 -j MASQUERADE
COMMIT
"""
INSERTED = "iptables -N PODS\niptables -I FORWARD -j PODS\niptables -A PODS -s 10.1.0.0/16 -j ACCEPT\n"


def loaded(*texts: str) -> RuleSet:
    return read_in_order([(text, f"{n}.rules") for n, text in enumerate(texts)]).rules


def lines(rules: RuleSet, table: str = "filter") -> list[str]:
    return [line for line in spell.table(rules.tables[table]).splitlines() if line.startswith("-A")]


def test_what_is_appended_stands_behind_what_was_there() -> None:
    rules = loaded(FIREWALL, APPENDED)
    assert [line for line in lines(rules) if "FORWARD" in line] == [
        "-A FORWARD -j REJECT --reject-with icmp-port-unreachable",
        "-A FORWARD -j PODS",
    ]
    assert rules.tables["nat"].chains["POSTROUTING"].rules


def test_a_chain_that_is_declared_again_begins_empty() -> None:
    """iptables-restore --noflush flushes it, and leaves built-in chains and all others."""
    rules = loaded(FIREWALL, APPENDED)
    assert not rules.tables["filter"].chains["OURS"].rules
    assert "-A INPUT -j OURS" in lines(rules)


def test_commands_are_run_on_what_was_there() -> None:
    assert [line for line in lines(loaded(FIREWALL, INSERTED)) if "FORWARD" in line] == [
        "-A FORWARD -j PODS",
        "-A FORWARD -j REJECT --reject-with icmp-port-unreachable",
    ]


def test_the_order_is_that_of_the_files() -> None:
    """The chain that the commands make is there already, so that iptables refuses to make it once more."""
    assert lines(loaded(FIREWALL, APPENDED, INSERTED)) != lines(loaded(FIREWALL, INSERTED, APPENDED))


def test_one_file_is_read_as_by_itself() -> None:
    once = read_in_order([(FIREWALL, "a")]).rules
    assert lines(once) == lines(loaded(FIREWALL, "*nat\nCOMMIT\n"))


def test_a_listing_cannot_be_loaded_on_the_same_table() -> None:
    listing = "Chain INPUT (policy ACCEPT 0 packets, 0 bytes)\n pkts bytes target prot opt in out source destination\n\nChain FORWARD (policy ACCEPT 0 packets, 0 bytes)\n pkts bytes target prot opt in out source destination\n"
    with pytest.raises(RuleError, match="table filter is in another file too"):
        read_in_order([(FIREWALL, "a"), (listing, "b")], "filter", Family.IPV4)
