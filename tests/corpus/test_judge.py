"""The judge notices what it is there for: two texts that mean something else are never found alike."""

from __future__ import annotations

import pytest

from . import saved


def text(*rules: str) -> str:
    return "\n".join(
        ["*filter", ":INPUT ACCEPT [0:0]", ":X - [0:0]", *(f"-A INPUT {rule}" for rule in rules), "COMMIT"]
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("-p tcp -m tcp --dport 80 -j X", "-p tcp -m tcp --dport 81 -j X"),
        ("-p tcp -m tcp --dport 80 -j X", "-p tcp -m tcp ! --dport 80 -j X"),
        ("-p tcp -m tcp --dport 80 -j X", "-p tcp -m tcp --sport 80 -j X"),
        ("-p tcp -m tcp --dport 80 -j X", "-p tcp -m tcp -j X"),
        ("-j X", "-g X"),
        ("-s 10.0.0.0/8 -j X", "-d 10.0.0.0/8 -j X"),
        ("-m state --state NEW -j X", "-m conntrack ! --ctstate NEW -j X"),
        ("-m comment --comment a -j X", "-m comment --comment b -j X"),
        ("-m owner --uid-owner 1 --gid-owner 2", "-m owner --uid-owner 1 -m owner --gid-owner 2"),
        ("-m limit --limit 1/sec -m mark --mark 0x1", "-m mark --mark 0x1 -m limit --limit 1/sec"),
        ("-m mark --mark 0x1 -m connmark --mark 0x2", "-m mark --mark 0x2 -m connmark --mark 0x1"),
        ('-m comment --comment "a b"', "-m comment --comment a b"),
    ],
)
def test_rules_that_mean_something_else_are_unlike(one: str, other: str) -> None:
    assert saved.compare(text(one), text(other)).left


@pytest.mark.parametrize(
    ("one", "other", "way"),
    [
        ("-m state --state NEW -j X", "-m conntrack --ctstate NEW -j X", "a state asked by conntrack"),
        ("-p tcp -m tcp -j X", "-p tcp -j X", "`-m tcp` and the like without options"),
        (
            "-m comment --comment a -m mark --mark 0x1",
            "-m mark --mark 0x1 -m comment --comment a",
            "where comments stand",
        ),
        (
            "-p tcp -m tcp ! --sport 1 ! --dport 2",
            "-p tcp -m tcp ! --sport 1 -m tcp ! --dport 2",
            "options of a module in one or several `-m`",
        ),
        (
            "-m mark --mark 0x1 -m connmark --mark 0x2",
            "-m connmark --mark 0x2 -m mark --mark 0x1",
            "the order of matches that change nothing",
        ),
    ],
)
def test_each_way_to_be_alike_is_named(one: str, other: str, way: str) -> None:
    assert saved.compare(text(one), text(other)) == saved.Difference((way,), "")


def test_the_order_of_rules_their_number_and_policies_matter() -> None:
    assert saved.compare(text("-j X", "-j DROP"), text("-j DROP", "-j X")).left
    assert saved.compare(text("-j X"), text("-j X", "-j X")).left == "filter/INPUT has 1 rules, 2"
    assert "policy" in saved.compare(text("-j X"), text("-j X").replace("ACCEPT", "DROP")).left
    assert (
        "X is in one alone"
        in saved.compare(text("-j DROP"), text("-j DROP").replace(":X - [0:0]\n", "")).left
    )


def test_counters_dates_and_chains_as_at_the_start_do_not_matter() -> None:
    counted = "# of today\n" + text("-j X").replace("[0:0]", "[5:60]").replace("-A", "[1:2] -A")
    assert saved.compare(text("-j X"), counted + "\n*nat\n:OUTPUT ACCEPT [1:1]\nCOMMIT") == saved.Difference(
        (), ""
    )
