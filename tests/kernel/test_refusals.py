"""What is said where the kernel cannot be asked, or does not take what it is given."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from verifier.kernel.errors import CannotRun, RulesRefused, need
from verifier.kernel.iptables import BackendName, Iptables, spelled
from verifier.kernel.namespaces import Namespace
from verifier.reading.rules import read_rules
from verifier.values import Family

pytestmark = pytest.mark.kernel

OWNER_IN_INPUT = """*filter
:INPUT ACCEPT [0:0]
-A INPUT -m owner --uid-owner 5 -j ACCEPT
COMMIT
"""
"""The owner match is for OUTPUT and POSTROUTING."""


def refused(backend: BackendName, text: str, family: Family = Family.IPV4) -> RulesRefused:
    near = Namespace()
    try:
        with pytest.raises(RulesRefused) as caught:
            Iptables(near, backend, family).load(text)
    finally:
        near.close()
    return caught.value


def test_a_refusal_names_the_line_and_says_what_the_tool_says(backend: BackendName) -> None:
    said = refused(backend, "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp --nonsense 1 -j ACCEPT\nCOMMIT\n")
    assert said.place.line == 3
    assert said.line == "-A INPUT -p tcp --nonsense 1 -j ACCEPT"
    assert "unknown option" in str(said)


def test_a_refusal_by_the_kernel_names_the_line_or_the_table(backend: BackendName) -> None:
    """The legacy tool hands a table over as one, and can say no more."""
    said = refused(backend, OWNER_IN_INPUT)
    assert said.line in ("*filter", "-A INPUT -m owner --uid-owner 5 -j ACCEPT")


def test_a_set_that_is_not_there_belongs_in_a_host_file(backend: BackendName) -> None:
    rule = "-A INPUT -m set --match-set nobody src -j DROP"
    said = refused(backend, f"*filter\n:INPUT ACCEPT [0:0]\n{rule}\nCOMMIT\n")
    assert "sets:" in str(said.hint)


def test_a_refusal_of_what_was_spelled_names_the_users_file(backend: BackendName) -> None:
    rules = next(iter(read_rules("# a comment\n\n" + OWNER_IN_INPUT, "mine.rules").families.values()))
    text, places = spelled(rules)
    assert len(places) == len(text.splitlines())
    near = Namespace()
    try:
        with pytest.raises(RulesRefused) as caught:
            Iptables(near, backend).load(text, places)
    finally:
        near.close()
    assert caught.value.place.file == "mine.rules"
    assert caught.value.place.line in (4, 5)


def test_ipv6_rules_load_by_their_own_tool(backend: BackendName) -> None:
    near = Namespace()
    try:
        Iptables(near, backend, Family.IPV6).load(
            "*filter\n:INPUT DROP [0:0]\n-A INPUT -s fe80::/10 -j ACCEPT\nCOMMIT\n"
        )
        Iptables(near, backend).load("*filter\n:INPUT DROP [0:0]\n-A INPUT -s 10.0.0.0/8 -j ACCEPT\nCOMMIT\n")
        assert list(Iptables(near, backend, Family.IPV6).counters()) == [("filter", "INPUT", 1)]
    finally:
        near.close()


def test_what_is_not_installed_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CannotRun, match="`ip6tables-nft-restore` is not installed") as caught:
        need("ip6tables-nft-restore")
    assert "package iptables" in str(caught.value)


def test_who_is_not_root_is_told_so() -> None:
    code = (
        "import os\nfrom verifier.kernel.errors import CannotRun\n"
        "from verifier.kernel.namespaces import Namespace\nos.setuid(65534)\n"
        "try: Namespace()\nexcept CannotRun as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("error[K001]: network namespaces are made by root alone\n  = help: "), (
        done.stderr
    )


def test_a_user_namespace_is_root_enough_but_for_ids_that_it_does_not_map() -> None:
    code = (
        "import socket\nfrom verifier.kernel.errors import CannotRun\n"
        "from verifier.kernel.namespaces import Namespace\n"
        "near = Namespace()\nnear.socket(socket.AF_INET, socket.SOCK_DGRAM).close()\n"
        "try: near.socket(socket.AF_INET, socket.SOCK_DGRAM, uid=1337)\nexcept CannotRun as error: print(error)\n"
    )
    command = ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert done.stdout.startswith("error[K005]: no socket of uid 1337"), done.stderr
