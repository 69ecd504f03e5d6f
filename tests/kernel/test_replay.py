"""Counterexamples replayed in the kernel: at each level on both backends, what is said where they are not confirmed or cannot be run,
and that nothing is left behind.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import replace

from verifier import cli
from verifier.answers import Counterexample
from verifier.concrete.travel import travel
from verifier.confirm.levels import Confirmation, Level, Name, Verdict
from verifier.confirm.replaying import at_once, replay
from verifier.counterexamples.record import Kind, Record, record
from verifier.counterexamples.write import write
from verifier.hosts import (
    ClientsOwn,
    Dial,
    Host,
    Listener,
    Process,
    Proxy,
    ProxyRoute,
    Setting,
)
from verifier.journeys import (
    Choices,
    Dropped,
    FromOutside,
    FromProcess,
    Left,
    Sender,
    Socket,
    Truth,
)
from verifier.kernel.iptables import BackendName
from verifier.kernel.oracle import Oracle
from verifier.packets import Packet
from verifier.reading.rules import read_rules
from verifier.rules import RuleSet
from verifier.values import IdSet, TcpFlag, read_address

from .hosts import ANYBODY, filters, host, interface, nat, route

pytestmark = pytest.mark.kernel

ROOT = Path(__file__).parent.parent.parent
PACK = ROOT / "proofs" / "istio-sidecar"
ETH0, ETH1 = interface("eth0", "10.0.0.1/24"), interface("eth1", "10.0.1.1/24")
DEFAULT = route("0.0.0.0/0", "eth0", via="10.0.0.200")
APP = {"app": Listener(80)}
RAW = Process("raw", IdSet.read("9"), IdSet.read("9"), raw=True)
OUTSIDE = FromOutside("eth0")


def kept(where: Host, rules: str, sender: Sender, packet: Packet, choices: Choices | None = None) -> Record:
    """The record of this packet, with the journey that the concrete wing tells."""
    found = read_rules(rules, "the.rules").rules if rules else RuleSet({})
    setting = Setting(where, found)
    made = choices or Choices()
    journey = travel(setting, sender, packet, made)
    example = Counterexample(sender, journey, made)
    return record(example, (setting,), Kind.COUNTEREXAMPLE, "p", "p.prop:1", "every packet must end")


def syn(src: str, dst: str, dport: int = 80, **more: Any) -> Packet:
    return Packet(read_address(src), read_address(dst), sport=40001, dport=dport, flags=TcpFlag.SYN, **more)


def confirmed(of: Record, backend: BackendName) -> Confirmation:
    ((_, found),) = replay(of, (backend,))
    return found


def levels(found: Confirmation) -> dict[tuple[Name, int], Level]:
    return {(level.name, level.hop): level for level in found.levels}


def verdicts(found: Confirmation) -> dict[tuple[str, int], str]:
    return {(level.name.value, level.hop): level.verdict.value for level in found.levels}


# -- what is confirmed ------------------------------------------------------------------------------


def test_a_forwarded_packet(backend: BackendName) -> None:
    where = host(ETH0, ETH1, routes=(DEFAULT,), sysctls={"ip_forward": 1})
    rules = nat("-A PREROUTING -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.1.9:81")
    of = kept(where, rules, OUTSIDE, syn("10.0.0.77", "8.8.8.8", in_iface="eth0"))
    assert of.accounts[0].journey.end == Left("eth1")
    found = confirmed(of, backend)
    assert verdicts(found) == {("packet", 0): "confirmed", ("flow", 0): "confirmed"}
    told = [row.told for row in levels(found)[Name.PACKET, 0].rows]
    assert told[0] == "nat/PREROUTING rule 1"
    assert [row.kernel for row in levels(found)[Name.PACKET, 0].rows][:-1] == told[:-1]


def test_a_packet_that_a_rule_drops(backend: BackendName) -> None:
    of = kept(
        host(ETH0, listens=APP),
        filters("-A INPUT -p tcp -m tcp --dport 81 -j ACCEPT", "-A INPUT -p tcp -m tcp --dport 80 -j DROP"),
        OUTSIDE,
        syn("10.0.0.77", "10.0.0.1", in_iface="eth0"),
    )
    assert isinstance(of.accounts[0].journey.end, Dropped)
    found = confirmed(of, backend)
    assert verdicts(found) == {("packet", 0): "confirmed", ("flow", 0): "confirmed"}
    rows = levels(found)[Name.PACKET, 0].rows
    assert [(row.told, row.kernel) for row in rows] == [
        ("filter/INPUT rule 2", "filter/INPUT rule 2"),
        ("is dropped by filter/INPUT rule 2", "goes no further"),
    ]


def test_a_socket_that_connects(backend: BackendName) -> None:
    of = kept(
        host(ETH0, routes=(DEFAULT,), listens=APP),
        nat("-A OUTPUT -p tcp -m owner --uid-owner 1000 -j REDIRECT --to-ports 80"),
        FromProcess("anybody"),
        syn("10.0.0.1", "8.8.8.8", 443, uid=1000, gid=1000),
    )
    assert isinstance(of.accounts[0].journey.end, Socket)
    assert verdicts(confirmed(of, backend)) == {("packet", 0): "confirmed", ("socket", 0): "confirmed"}


def test_a_proxy_that_borrows_its_clients_address(backend: BackendName) -> None:
    """The dial is sent by itself too: by a socket that may have a source which is none of the host's."""
    nine = IdSet.read("9")
    dials = (ProxyRoute((Dial(port=80),), ClientsOwn()),)
    proxy = Process("proxy", nine, nine, (Listener(90),), (Proxy("proxy", 90, dials),))
    where = host(ETH0, routes=(DEFAULT,), listens=APP, processes=(proxy,))
    of = replace(kept(where, "", OUTSIDE, syn("10.0.0.77", "10.0.0.1", 90, in_iface="eth0")), hop=1)
    assert isinstance(of.accounts[0].journey.end, Socket)
    assert verdicts(confirmed(of, backend)) == {
        ("packet", 0): "confirmed",
        ("packet", 1): "confirmed",
        ("socket", 1): "confirmed",
        ("flow", 0): "confirmed",
    }


def test_a_header_that_sockets_here_do_not_write(backend: BackendName) -> None:
    """It is followed as a packet alone."""
    rules = filters("-A INPUT -m ttl --ttl-lt 10 -j DROP")
    packet = syn("10.0.0.77", "10.0.0.1", in_iface="eth0", ttl=5)
    of = kept(host(ETH0, listens=APP), rules, OUTSIDE, packet)
    assert isinstance(of.accounts[0].journey.end, Dropped)
    found = confirmed(of, backend)
    assert verdicts(found) == {("packet", 0): "confirmed", ("flow", 0): "not run"}
    assert "ttl" in levels(found)[Name.FLOW, 0].text


@pytest.mark.parametrize("how", ["tcp-reset", "icmp-host-prohibited"])
def test_a_rejection_is_confirmed_though_its_answer_is_dropped(how: str, backend: BackendName) -> None:
    """What the kernel answers passes OUTPUT, and is not followed; with it, the connection is seen to be refused."""
    reject = f"-A INPUT -p tcp -j REJECT --reject-with {how}"
    packet = syn("10.0.0.77", "10.0.0.1", in_iface="eth0")
    heard = confirmed(kept(host(ETH0, listens=APP), filters(reject), OUTSIDE, packet), backend)
    assert verdicts(heard) == {("packet", 0): "confirmed", ("flow", 0): "confirmed"}
    rules = filters(reject, "-A OUTPUT -d 10.0.0.77/32 -j DROP")
    unheard = confirmed(kept(host(ETH0, listens=APP), rules, OUTSIDE, packet), backend)
    assert verdicts(unheard) == {("packet", 0): "confirmed", ("flow", 0): "not run"}
    assert unheard.verdict is Verdict.CONFIRMED


FOREIGN = syn("127.0.0.1", "8.8.8.8", uid=9, gid=9)
"""Loopback's own address as the source of what leaves: no socket binds it and connects there."""


def test_what_no_socket_can_send(backend: BackendName) -> None:
    """A raw socket sends it, and the answer says what kept the others from it."""
    of = kept(host(ETH0, routes=(DEFAULT,), processes=(RAW,)), "", FromProcess("raw"), FOREIGN)
    assert of.accounts[0].journey.end == Left("eth0")
    found = confirmed(of, backend)
    socket = levels(found)[Name.SOCKET, 0]
    assert socket.verdict is Verdict.NOT_RUN
    assert socket.text.startswith("no socket can send this: Invalid argument (EINVAL)")
    assert levels(found)[Name.PACKET, 0].verdict is Verdict.CONFIRMED
    assert found.verdict is Verdict.CONFIRMED


def test_what_no_socket_can_send_is_not_confirmed_of_a_process_that_has_no_other(
    backend: BackendName,
) -> None:
    of = kept(host(ETH0, routes=(DEFAULT,), processes=(RAW,)), "", FromProcess("raw"), FOREIGN)
    (account,) = of.accounts
    tame = replace(account.setting.host, processes=(replace(RAW, raw=False), ANYBODY))
    of = replace(of, accounts=(replace(account, setting=replace(account.setting, host=tame)),))
    found = confirmed(of, backend)
    assert found.verdict is Verdict.CONTRADICTED
    assert "no socket can send this" in levels(found)[Name.SOCKET, 0].text


# -- what is not ------------------------------------------------------------------------------------


def test_the_first_stop_that_differs_is_named(backend: BackendName) -> None:
    """A journey that was told under other rules than those that are loaded."""
    where = host(ETH0, listens=APP)
    packet = syn("10.0.0.77", "10.0.0.1", in_iface="eth0")
    right = filters("-A INPUT -i eth0 -j ACCEPT", "-A INPUT -j DROP")
    of = kept(where, right.replace("-i eth0", "-i eth1"), OUTSIDE, packet)
    loaded = replace(of.accounts[0].setting, rules=read_rules(right, "x").rules)
    found = confirmed(replace(of, accounts=(replace(of.accounts[0], setting=loaded),)), backend)
    assert found.verdict is Verdict.CONTRADICTED
    level = levels(found)[Name.PACKET, 0]
    assert (level.verdict, level.first) == (Verdict.CONTRADICTED, 0)
    assert (level.rows[0].told, level.rows[0].kernel) == ("filter/INPUT rule 2", "filter/INPUT rule 1")
    flow = levels(found)[Name.FLOW, 0]
    assert flow.verdict is Verdict.CONTRADICTED
    assert flow.rows[0].told == "nothing more: dropped or lost"


def test_what_chance_decides_otherwise_is_neither(backend: BackendName) -> None:
    where = host(ETH0, listens=APP)
    packet = syn("10.0.0.77", "10.0.0.1", in_iface="eth0")
    rules = filters("-A INPUT -m statistic --mode random --probability 0.00000000047 -j DROP")
    (asked,) = kept(where, rules, OUTSIDE, packet).accounts[0].journey.asked
    of = kept(where, rules, OUTSIDE, packet, Choices({asked: Truth.MATCH}))
    assert isinstance(of.accounts[0].journey.end, Dropped)
    found = confirmed(of, backend)
    assert found.verdict is Verdict.NOT_RUN
    assert "the kernel chose otherwise" in levels(found)[Name.PACKET, 0].text


def test_a_packet_that_is_no_first_one_is_not_sent(backend: BackendName) -> None:
    of = kept(host(ETH0, listens=APP), "", OUTSIDE, syn("10.0.0.77", "10.0.0.1", in_iface="eth0"))
    (account,) = of.accounts
    first, *rest = account.journey.stops
    odd = replace(
        first, packet=replace(first.packet, ctstate=account.journey.stops[0].packet.ctstate.ESTABLISHED)
    )
    journey = replace(account.journey, stops=(odd, *rest))
    found = confirmed(replace(of, accounts=(replace(account, journey=journey),)), backend)
    assert "ESTABLISHED" in levels(found)[Name.PACKET, 0].text


# -- the command ------------------------------------------------------------------------------------


class Ran(Struct, frozen=True):
    status: int
    out: str
    err: str


Command = Callable[..., Ran]


@pytest.fixture
def chainproof(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(ROOT)

    def run(*words: object) -> Ran:
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main([str(w) for w in words])
        said = capfd.readouterr()
        assert isinstance(left.value.code, int)
        return Ran(left.value.code, said.out, said.err)

    return run


@pytest.fixture
def no_loop(chainproof: Command, tmp_path: Path) -> Path:
    """The sidecar's counterexample: Envoy's dial comes back to Envoy."""
    assert chainproof("check", PACK, "--only", "no-loop", "--cex-dir", tmp_path).status == 0
    return tmp_path / "no-loop-faulty.json"


def test_the_sidecars_loop_is_confirmed(chainproof: Command, no_loop: Path) -> None:
    """By both backends, as an answer for either is about both; at each level, of each hop."""
    ran = chainproof("replay", no_loop, "--output-format", "json")
    said = json.loads(ran.out)
    assert (ran.status, said["verdict"]) == (0, "confirmed")
    assert [run["backend"] for run in said["runs"]] == ["legacy", "nft"]
    for run in said["runs"]:
        assert run["kernel"] == f"Linux {os.uname().release}"
        assert run["iptables"].startswith("iptables v")
        assert [(x["level"], x["hop"], x["verdict"]) for x in run["levels"]] == [
            ("packet", 0, "confirmed"),
            ("packet", 1, "confirmed"),
            ("socket", 1, "confirmed"),
            ("flow", 0, "confirmed"),
        ]
        (second,) = [x for x in run["levels"] if (x["level"], x["hop"]) == ("packet", 1)]
        assert {"told": "nat/ISTIO_OUTPUT rule 2", "kernel": "nat/ISTIO_OUTPUT rule 2"} in second["stops"]


def test_it_is_told_in_text(chainproof: Command, no_loop: Path, backend: BackendName) -> None:
    ran = chainproof("replay", no_loop, "--backend", backend, "--color", "never")
    assert ran.status == 0
    assert f"Linux {os.uname().release} · iptables v" in ran.out
    assert "packet  ✓ confirmed   this very packet: tcp 127.0.0.1:40002 → 10.33.4.7:8080  SYN" in ran.out
    assert "    2  nat/ISTIO_OUTPUT rule 2        nat/ISTIO_OUTPUT rule 2" in ran.out
    assert ran.out.endswith(f"✓ confirmed by the kernel, through {backend}\n")


def test_a_file_that_tells_something_else_is_not_confirmed(chainproof: Command, no_loop: Path) -> None:
    text = no_loop.read_text()
    here = '"chain": "ISTIO_OUTPUT", "rule": 2'
    assert text.count(here) == 1
    no_loop.write_text(text.replace(here, '"chain": "ISTIO_OUTPUT", "rule": 4'))
    ran = chainproof("replay", no_loop, "--backend", "legacy", "--color", "never")
    assert ran.status == 1
    assert re.search(r"2  nat/ISTIO_OUTPUT rule 4 +nat/ISTIO_OUTPUT rule 2   ← differs\n", ran.out)
    assert "✗ not confirmed by the kernel, through legacy" in ran.out
    one = (
        "one of both takes these rules, the other does not: nat/ISTIO_OUTPUT rule 2, nat/ISTIO_OUTPUT rule 4"
    )
    assert f"        {one}\n" in ran.out


def test_rules_that_the_tool_refuses_are_named_with_our_line(
    chainproof: Command, no_loop: Path, backend: BackendName
) -> None:
    text = no_loop.read_text()
    rule = "-A ISTIO_OUTPUT -o lo -m owner ! --uid-owner 1337 -j RETURN"
    no_loop.write_text(text.replace(rule, rule.replace("-j", "-m set --match-set nowhere src -j")))
    line = next(n for n, x in enumerate(no_loop.read_text().splitlines(), 1) if "nowhere" in x)
    ran = chainproof("replay", no_loop, "--backend", backend)
    assert ran.status == 2
    assert "Set nowhere doesn't exist" in ran.err
    assert f"{no_loop}:{line}" in ran.err


def test_a_file_that_is_none_is_refused(chainproof: Command, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    ran = chainproof("replay", tmp_path / "x.json")
    assert ran.status == 2
    assert "this is no counterexample file" in ran.err
    assert chainproof("replay", tmp_path / "none.json").status == 2


def test_without_root_it_says_what_is_missing(
    chainproof: Command, no_loop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for words in (("replay", no_loop), ("check", PACK, "--only", "no-loop", "--kernel")):
        ran = chainproof(*words)
        assert ran.status == 2
        assert "root" in ran.err
        assert "help: " in ran.err


def test_without_iptables_it_says_which_package_has_it(
    chainproof: Command, no_loop: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    ran = chainproof("replay", no_loop)
    assert ran.status == 2
    assert "is not installed" in ran.err


def in_a_user_namespace(file: Path) -> subprocess.CompletedProcess[str]:
    words = ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-m", "verifier", "replay"]
    return subprocess.run([*words, str(file)], cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_user_namespace_serves_where_no_other_id_is_asked_for(tmp_path: Path) -> None:
    """On both backends, with a listener of uid 0."""
    zero = IdSet.read("0")
    where = host(ETH0, processes=(Process("app", zero, zero, (Listener(80),)),))
    of = kept(
        where, filters("-A INPUT -i eth1 -j DROP"), OUTSIDE, syn("10.0.0.77", "10.0.0.1", in_iface="eth0")
    )
    file = tmp_path / "cex.json"
    file.write_text(write(of))
    ran = in_a_user_namespace(file)
    assert ran.returncode == 0, ran.stderr
    assert "confirmed by the kernel, through legacy and nft" in ran.stdout


def test_in_a_user_namespace_rules_that_name_other_ids_are_refused_with_the_reason(no_loop: Path) -> None:
    ran = in_a_user_namespace(no_loop)
    assert ran.returncode == 2
    assert f"--> {no_loop}:" in ran.stderr
    assert "run it as the real root" in ran.stderr


# -- check --kernel -----------------------------------------------------------------------------------


def test_every_answer_says_what_the_kernel_says(chainproof: Command) -> None:
    """Of the whole pack: each counterexample and each witness is confirmed, and so are packets of each proof about packets."""
    ran = chainproof("check", PACK, "--kernel", "--output-format", "json")
    assert ran.status == 0
    results = json.loads(ran.out)["results"]
    for result in results:
        said = result["kernel"]
        if result["counterexample"] or result["witness"]:
            assert (said["verdict"], said["backends"]) == ("confirmed", ["legacy", "nft"]), result["name"]
        elif result["samples"]:
            assert said["verdict"] == "agreed", result["name"]
            assert 0 < said["packets"] <= result["samples"], result["name"]
        else:
            assert said["verdict"] == "not run", result["name"]
    assert {r["kernel"]["verdict"] for r in results} == {"confirmed", "agreed", "not run"}


def test_the_text_says_so_too(chainproof: Command) -> None:
    out = chainproof("check", PACK, "--only", "no-loop", "--kernel", "--color", "never").out
    assert "  kernel           confirmed, through legacy and nft\n" in out
    assert re.search(
        r"evaluator agreed on (\d+) packets · kernel: agreed on \d+ packets, through legacy and nft", out
    )
    silent = chainproof("check", PACK, "--only", "no-loop", "--color", "never").out
    assert "kernel" not in silent


def test_rules_that_the_tool_refuses_are_no_reason_for_an_answer(chainproof: Command, tmp_path: Path) -> None:
    rules = tmp_path / "odd.rules"
    odd = "-A ISTIO_OUTPUT -m set --match-set nowhere src -j RETURN"
    rules.write_text((PACK / "rules" / "istio.rules").read_text().replace("COMMIT", f"{odd}\nCOMMIT"))
    ran = chainproof("check", PACK, "--rules", rules, "--only", "no-loop", "--kernel", "--color", "never")
    assert "kernel: not run (the rules are not loaded: " in ran.out
    assert str(rules) in ran.out


@pytest.mark.parametrize("only", ["no-loop", "path-in-1.9"])
def test_what_the_kernel_contradicts_is_no_answer(
    chainproof: Command, monkeypatch: pytest.MonkeyPatch, only: str
) -> None:
    """Here a kernel that has forgotten the rules: whoever is wrong, nothing is proved or refuted."""
    loads = Oracle.load
    monkeypatch.setattr(Oracle, "load", lambda self, _, **more: loads(self, RuleSet({}), **more))
    ran = chainproof("check", PACK, "--only", only, "--kernel", "--color", "never")
    assert ran.status == 4
    assert "proved" not in ran.out
    assert "refuted" not in ran.out
    report = Path(ran.err.rsplit("with ", 1)[1].strip())
    said = report.read_text()
    report.unlink()
    assert "KernelDisagrees" in said
    assert '"schema": "chainproof/counterexample/1"' in said


# -- nothing is left behind -----------------------------------------------------------------------------


def held_by(pid: int) -> set[str]:
    """The network namespaces that a process is in, or holds, other than ours."""
    try:
        links = [f"/proc/{pid}/ns/net", *(f"/proc/{pid}/fd/{fd}" for fd in os.listdir(f"/proc/{pid}/fd"))]
    except OSError:
        return set()
    found = set()
    for link in links:
        with suppress(OSError):
            found.add(os.readlink(link))
    return {x for x in found if x.startswith("net:")} - {os.readlink("/proc/self/ns/net")}


def of_session(session: int) -> Iterator[int]:
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if os.getsid(int(pid)) == session:
                yield int(pid)
        except OSError:
            continue


def test_what_is_asked_at_once_is_told_in_order_and_errors_are_raised_in_their_place() -> None:
    def late() -> int:
        time.sleep(0.02)
        return 1

    told = at_once([late, lambda: 2, lambda: 1 // 0, lambda: 4])
    assert [next(told), next(told)] == [1, 2]
    with pytest.raises(ZeroDivisionError):
        next(told)


@pytest.mark.parametrize(
    "words", [("replay",), ("check", "--only", "no-loop", "--kernel", "--jobs", "2")], ids=" ".join
)
def test_an_interruption_leaves_nothing_behind(words: tuple[str, ...], no_loop: Path) -> None:
    """At several moments, by what a terminal sends for Ctrl-C: to the whole group."""
    command = [
        sys.executable,
        "-m",
        "verifier",
        *words,
        *([str(no_loop)] if words == ("replay",) else [str(PACK)]),
    ]
    caught = 0
    for moment in range(1, 100):
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )
        looked, held = 0, False
        while process.poll() is None and looked < moment:
            held = any(held_by(pid) for pid in of_session(process.pid))
            looked += held
            time.sleep(0.003)
        alive = process.poll() is None
        if alive:
            os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
        if not alive:
            break
        assert process.returncode == 130, err
        assert b"Traceback" not in err
        assert gone(process.pid)
        assert "nsfs" not in Path("/proc/self/mountinfo").read_text()
        caught += held
        if caught == 4:
            break
    assert caught


def gone(session: int) -> bool:
    """Nobody is left of a session whose leader has ended: what holds a network namespace is a process, or a mount."""
    for _ in range(1000):
        if not list(of_session(session)):
            return True
        time.sleep(0.01)
    return False
