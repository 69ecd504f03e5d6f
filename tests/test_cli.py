"""The command line: exit codes, what goes to stdout and what to stderr, and what is said of input that cannot be read."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from verifier import cases, cli
from verifier.check import Checker
from verifier.counterexamples.read import read
from verifier.prove import Prover

ROOT = Path(__file__).parent.parent
PACK = ROOT / "proofs" / "istio-sidecar"
POD = PACK / "hosts" / "istio-1.10.yaml"
RULES = PACK / "rules" / "istio.rules"
SEED = ROOT.parent / "shared" / "corpus" / "seed-mercari" / "istio-sidecar-nat-Lv.listing"

needs_seed = pytest.mark.skipif(
    not SEED.is_file(), reason="the corpus of others' rules is not beside this repository"
)


class Ran(Struct, frozen=True):
    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are read anew by each command, as by a new process."""
    monkeypatch.chdir(ROOT)
    cases._read_rules.cache_clear()
    cases._hosts_and_rules.cache_clear()


class Command:
    """`chainproof` in this process."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def __call__(self, *words: object) -> Ran:
        cases._read_rules.cache_clear()
        cases._hosts_and_rules.cache_clear()
        self._capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main([str(w) for w in words])
        said = self._capfd.readouterr()
        assert isinstance(left.value.code, int)
        return Ran(left.value.code, said.out, said.err)


@pytest.fixture
def chainproof(capfd: pytest.CaptureFixture[str]) -> Command:
    return Command(capfd)


def process(*words: object, **environment: str) -> Ran:
    """`python -m verifier` in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "verifier", *map(str, words)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


# -- a small host, on which every answer can be had --------------------------------------------------

SMALL = {
    "small.rules": """\
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -p tcp --dport 22 -j DROP
-A INPUT -p tcp --dport 80 -m u32 --u32 "0>>22&0x3C@12=1" -j DROP
-A INPUT -p tcp --dport 81 -m string --string secret --algo bm -j DROP
-A INPUT -p tcp --dport 23 -m u32 --u32 "4=5" -j ACCEPT
-A INPUT -p tcp --dport 23 -j DROP
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -p tcp --dport 7 -j REDIRECT --to-ports 90
-A POSTROUTING -p tcp --dport 99 -j RAWSNAT --to-source 10.0.0.2
COMMIT
""",
    "small.yaml": """\
rules: small.rules
interfaces:
  lo: {addresses: [127.0.0.1/8]}
  eth0: {addresses: [10.0.0.2/24]}
routes: [default via 10.0.0.1 dev eth0, 10.0.0.0/24 dev eth0 scope link src 10.0.0.2]
processes:
  app: {uid: any, gid: any, listens: ["*:22", "*:23", "*:80", "*:81", "*:90"]}
outside: {sources: "unicast, not 10.0.0.2"}
""",
}
FROM_OUTSIDE = "every tcp connection from outside on eth0 to 10.0.0.2"
REACH_90 = f"{FROM_OUTSIDE} port 90\n  must reach app"
REACH_22 = f"{FROM_OUTSIDE} port 22\n  must reach app"
REACH_80 = f"{FROM_OUTSIDE} port 80\n  must reach app"
NOBODY = f"{FROM_OUTSIDE} port 22\n  where -s 10.0.0.2\n  must reach app"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    for name, text in SMALL.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def prop(folder: Path, *claims: str, host: str = 'host h = "small.yaml"') -> Path:
    """A property file with a property for each claim: p1, p2, ..."""
    said = [f"property p{n}\n  {claim}\n" for n, claim in enumerate(claims, 1)]
    file = folder / "p.prop"
    file.write_text("\n".join([host, "", *said]))
    return file


# -- exit codes ---------------------------------------------------------------------------------------

EXPECTED = '\n  expected {} because "so it is"'


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ([REACH_90], 0),
        ([REACH_22], 1),
        ([REACH_22 + EXPECTED.format("refuted")], 0),
        ([REACH_90 + EXPECTED.format("refuted")], 1),
        ([REACH_80], 3),
        ([REACH_80 + EXPECTED.format("unknown")], 0),
        ([REACH_90 + EXPECTED.format("unknown")], 1),
        ([REACH_80 + EXPECTED.format("refuted")], 3),
        ([NOBODY], 1),
        ([REACH_90, REACH_80], 3),
        ([REACH_90, REACH_80, REACH_22], 1),
    ],
    ids=lambda x: ", ".join(c.split("port ")[1] for c in x) if isinstance(x, list) else None,
)
def test_the_status_says_whether_all_is_as_expected(
    small: Path, chainproof: Command, claims: list[str], status: int
) -> None:
    assert chainproof("check", prop(small, *claims)).status == status


def test_unknown_may_be_a_warning(small: Path, chainproof: Command) -> None:
    file = prop(small, REACH_80)
    assert chainproof("check", file, "--unknown", "fail").status == 3
    assert chainproof("check", file, "--unknown", "warn").status == 0
    assert chainproof("check", prop(small, REACH_80, REACH_22), "--unknown", "warn").status == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["chek"], "check"),
        (["check", "--ruels", "x"], "--rules"),
        (["check", "nowhere.prop"], "nowhere.prop is not there"),
        (["check", "proofs/istio-sidecar/hosts"], "no property found in proofs/istio-sidecar/hosts"),
        (["check", RULES], "no .prop file"),
        (["check", "--rules", "nowhere.rules"], "No such file"),
        (["check", "--rules", "/"], "Is a directory\n  --> /\n  = help: name a file in it"),
        (["check", "--host", "nowhere.yaml"], "No such file"),
        (["check", "--only", "no-lop"], "did you mean `no-loop`?"),
        (["check", "--table", "nat"], "--rules"),
        (["check", "--output-format", "xml"], "none of full, concise, json"),
        (["check", "--output-format", "full", "--output-format", "json"], "FORMAT=FILE"),
        (["check", "--timeout", "soon"], "no time such as 10s"),
        (["check", "--timeout", "0s"], "no time such as 10s"),
        (["check", "--samples", "-1"], "samples"),
        (["check", "--only", "no-loop", "--smt2", "/dev/null/x"], "cannot be made"),
        (["check", "--only", "no-loop", "--cex-dir", "/dev/null/x"], "cannot be made"),
        (["check", "--only", "path-in-1.9", "--output-format", "json=/nowhere/x"], "cannot be written"),
        (["trace"], "Missing argument"),
        (["trace", "nowhere.rules"], "does not exist"),
        (["trace", "proofs"], "is a directory"),
        (["trace", POD, "--table", "nat"], "takes no `--table`"),
        (["trace", POD, "--batch", "-", "--", "-p", "tcp"], "leave the matches out"),
    ],
    ids=lambda x: " ".join(map(str, x)) if isinstance(x, list) else None,
)
def test_a_command_that_cannot_run_exits_with_2_and_says_why(
    chainproof: Command, words: list[object], said: str
) -> None:
    ran = chainproof(*words)
    assert ran.status == 2
    assert said in ran.err
    assert {"--smt2", "--cex-dir", "--output-format"} & set(words) or ran.out == ""


def test_without_any_property_nothing_is_proved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chainproof: Command
) -> None:
    (tmp_path / "sub" / "folder.prop").mkdir(parents=True)
    (tmp_path / "hosts.prop").write_text('host h = "h.yaml"\n')
    monkeypatch.chdir(tmp_path)
    for words in ([], ["sub"], ["hosts.prop"], [tmp_path]):
        ran = chainproof("check", *words)
        assert ran.status == 2
        assert "no property found in " in ran.err


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_internal_error_is_no_refutation(
    small: Path, monkeypatch: pytest.MonkeyPatch, chainproof: Command, jobs: int
) -> None:
    def breaks(*_: object) -> None:
        raise AssertionError("the wings disagree\nin many lines")

    monkeypatch.setattr(Prover, "answer", breaks)
    monkeypatch.setattr(tempfile, "tempdir", str(small))
    ran = chainproof("check", prop(small, REACH_90), "--jobs", jobs)
    assert ran.status == 4
    assert ran.out == ""
    assert "internal error: AssertionError: the wings disagree\n" in ran.err
    (report,) = small.glob("chainproof-*.txt")
    assert str(report) in ran.err
    told = report.read_text()
    assert "p1 on h" in told
    assert "-A INPUT -p tcp -m tcp --dport 22 -j DROP" in told
    assert "in breaks" in told


def test_an_interrupted_command_exits_with_130(
    small: Path, monkeypatch: pytest.MonkeyPatch, chainproof: Command
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Checker, "ask", interrupted)
    assert chainproof("check", prop(small, REACH_90)).status == 130


def test_a_closed_pipe_is_no_refutation() -> None:
    command = [sys.executable, "-m", "verifier", "check", "--only", "path-in"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == b""
    assert running.returncode == -signal.SIGPIPE


def test_the_module_is_the_command(small: Path) -> None:
    proved = process("check", prop(small, REACH_90))
    assert (proved.status, proved.err) == (0, "")
    assert proved.out.startswith("✓ proved")
    assert process("check", prop(small, REACH_22)).status == 1
    assert process("check", prop(small, REACH_80)).status == 3
    assert process("check", "nowhere").status == 2
    assert process("--version").out.startswith("chainproof, version ")
    assert process("--help").status == 0


# -- what is asked ------------------------------------------------------------------------------------


def test_list_names_the_questions_and_asks_none(monkeypatch: pytest.MonkeyPatch, chainproof: Command) -> None:
    monkeypatch.setattr(Checker, "ask", None)
    ran = chainproof("check", "--list")
    assert ran.status == 0
    assert "proofs/istio-sidecar/inbound.prop:14: no-loop on pod" in ran.lines
    assert any(line.endswith("bind-matrix on istio19, app on 127.0.0.1") for line in ran.lines)
    assert len(ran.lines) > 60


def test_only_chooses_by_a_part_of_the_name(chainproof: Command) -> None:
    ran = chainproof("check", "--only", "excluded", "--only", "path-in-1", "--output-format", "json")
    assert {r["name"] for r in ran.json["results"]} == {"excluded-ports", "path-in-1.9"}


def test_paths_are_files_and_folders_and_each_is_asked_once(small: Path, chainproof: Command) -> None:
    file = prop(small, REACH_90)
    ran = chainproof("check", file, file, "--list")
    assert len(ran.lines) == 1
    assert len(chainproof("check", small, "--list").lines) == 1


def test_the_pack_is_asked_of_rules_of_ones_own(tmp_path: Path, chainproof: Command) -> None:
    mine = tmp_path / "mine.rules"
    mine.write_text(
        RULES.read_text().replace("-s 127.0.0.6/32 -o lo -j RETURN", "-s 127.0.0.7/32 -o lo -j RETURN")
    )
    ran = chainproof("check", PACK, "--rules", mine, "--only", "no-loop", "--output-format", "json")
    assert ran.status == 1
    pod = next(r for r in ran.json["results"] if r["host"] == "pod")
    assert (pod["answer"], pod["ok"]) == ("refuted", False)
    assert str(tmp_path.name) in {
        str(s["file"]).split("/")[-2] for s in pod["counterexample"]["stops"] if s["file"]
    }


@needs_seed
def test_a_listing_stands_for_the_same_rules_and_its_table_is_told(chainproof: Command) -> None:
    words = ["--output-format", "concise"]
    ours = chainproof("check", PACK, *words)
    ran = chainproof("check", PACK, "--rules", SEED, *words)
    assert ran.status == ours.status == 0
    assert ran.lines[:-1] == ours.lines[:-1]
    assert "read as table nat" in ran.err
    assert ours.err == ""
    named = chainproof("check", PACK, "--rules", SEED, "--table", "nat", "--only", "path-in")
    assert (named.status, named.err) == (0, "")
    other = chainproof("check", PACK, "--rules", SEED, "--table", "filter", "--only", "path-in")
    assert other.status == 2


def test_the_pack_is_asked_of_another_host(chainproof: Command) -> None:
    host = PACK / "hosts" / "istio-1.10-unbound.yaml"
    ran = chainproof("check", "--host", host, "--only", "app-sees-loopback", "--output-format", "json")
    assert ran.status == 1
    answers = {r["host"]: r["answer"] for r in ran.json["results"]}
    assert answers == {"istio19": "refuted", "pod": "refuted", "plain": "refuted"}


# -- what is printed ----------------------------------------------------------------------------------

KEYS = {
    "name", "file", "line", "host", "answer", "expected", "ok", "counterexample", "witness", "reason",
    "assumptions", "hops", "seconds",
}  # fmt: skip


def test_json_is_the_one_result(small: Path, chainproof: Command) -> None:
    file = prop(
        small, REACH_90, REACH_22, REACH_80, NOBODY, REACH_90.replace("every", "some").replace("must", "can")
    )
    ran = chainproof("check", file, "--output-format", "json")
    told = ran.json
    assert told["schema"] == "chainproof/result/1"
    assert set(told) == {"schema", "results", "summary"}
    assert [r["answer"] for r in told["results"]] == ["proved", "refuted", "unknown", "vacuous", "proved"]
    for result in told["results"]:
        assert set(result) >= KEYS
        assert result["file"] == str(file)
        assert result["host"] == "h"
        assert result["expected"] == "proved"
        assert result["ok"] == (result["answer"] == "proved")
        assert isinstance(result["seconds"], float)
        assert all(set(a) == {"code", "text"} for a in result["assumptions"])
        assert {"A001", "A007"} <= {a["code"] for a in result["assumptions"]}
    proved, refuted, unknown, vacuous, exists = told["results"]
    assert (proved["hops"], proved["counterexample"], proved["witness"]) == (1, None, None)
    found = refuted["counterexample"]
    assert found["end"]["kind"] == "dropped"
    assert (found["packet"]["source"], found["packet"]["dport"]) == ("10.0.0.3", 22)
    assert {"hook", "table", "chain", "rule", "file", "line", "action", "packet"} <= set(found["stops"][0])
    assert unknown["reason"]
    assert any("u32" in text for text in unknown["opaque"])
    assert vacuous["reason"] == "no packet meets the premise"
    assert exists["witness"]["end"]["kind"] == "socket"
    summary = told["summary"]
    assert (summary["proved"], summary["ok"], summary["failed"]) == (2, 2, 3)


def test_the_pack_in_json_is_whole_and_each_answer_is_expected(chainproof: Command) -> None:
    results = chainproof("check", PACK, "--output-format", "json").json["results"]
    assert all(r["ok"] for r in results)
    for r in results:
        assert r["expected"] in ("proved", "refuted", "yes", "no", "some")
        assert (r["cell"] is not None) == (r["name"] == "bind-matrix")
        if r["answer"] == "refuted":
            assert r["counterexample"]["stops"]
            assert r["because"]


def test_one_format_is_printed_and_others_are_written_whole(small: Path, chainproof: Command) -> None:
    file = prop(small, REACH_90, REACH_22)
    formats = [f"json={small}/r.json", f"full={small}/r.txt", f"concise={small}/c.txt", "concise"]
    ran = chainproof("check", file, *(w for f in formats for w in ("--output-format", f)))
    assert ran.status == 1
    assert ran.lines[0] == f"{file}:3: ✓ proved p1 on h"
    assert ran.lines[1].startswith(f"{file}:7: ✗ refuted p2 on h: does not reach app")
    assert ran.lines[2].startswith("1 proved, 1 refuted in ")
    assert json.loads((small / "r.json").read_text())["summary"]["failed"] == 1
    assert (small / "c.txt").read_text() == ran.out
    full = (small / "r.txt").read_text()
    assert "counterexample" in full
    assert "\x1b" not in full
    assert not list(small.glob(".*"))


def test_quiet_tells_what_is_not_as_expected(small: Path, chainproof: Command) -> None:
    ran = chainproof("check", prop(small, REACH_90, REACH_22), "-q")
    assert "p2 on h" in ran.out
    assert "p1 on h" not in ran.out
    fine = chainproof("check", prop(small, REACH_90), "-q")
    assert re.fullmatch(r"1 proved in [\d.]+ s\n", fine.out)


def test_colour_is_for_terminals_or_on_demand(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = prop(small, REACH_90, REACH_22)
    assert "\x1b[3" in process("check", file, "--color", "always").out
    assert "\x1b[3" in process("check", file, "--color", "always", NO_COLOR="1").out
    assert "\x1b" not in process("check", file, "--color", "never").out
    assert "\x1b" not in process("check", file).out
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert cli._paint("auto", True)("x", "red") != "x"
    assert cli._paint("auto", False)("x", "red") == "x"
    assert cli._paint("never", True)("x", "red") == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert cli._paint("auto", True)("x", "red") == "x"


def test_every_question_to_the_solver_can_be_written(small: Path, chainproof: Command) -> None:
    folder = small / "deep" / "down"
    assert chainproof("check", prop(small, REACH_90, REACH_22), "--smt2", folder).status == 1
    scripts = sorted(folder.iterdir())
    assert [s.name for s in scripts[:2]] == ["0000.smt2", "0001.smt2"]
    for script in scripts:
        text = script.read_text()
        assert re.match(r"; chainproof\n\(set-info :status (un)?sat\)\n\(set-logic QF_BV\)\n", text)
        assert text.endswith("(check-sat)\n")


def test_a_counterexample_is_kept_where_that_is_asked_for(tmp_path: Path, chainproof: Command) -> None:
    """Of a refutation and of a witness, each in a file of its own, which the answer names."""
    folder = tmp_path / "deep" / "cex"
    ran = chainproof("check", PACK, "--only", "no-loop", "--cex-dir", folder, "--color", "never")
    assert {f.name for f in folder.iterdir()} == {f"no-loop-{on}.json" for on in ("faulty", "unbound", "cut")}
    for file in folder.iterdir():
        assert f"  reproduce        chainproof replay {file}\n" in ran.out
        assert read(file).name == "no-loop"


def test_a_kept_counterexample_is_named_in_json(tmp_path: Path, chainproof: Command) -> None:
    said = chainproof(
        "check", PACK, "--only", "no-loop", "--cex-dir", tmp_path, "--output-format", "json"
    ).json
    saved = [r["saved"] for r in said["results"]]
    assert [s is not None for s in saved] == [r["answer"] == "refuted" for r in said["results"]]
    assert {Path(s) for s in saved if s} == set(tmp_path.iterdir())


def test_nothing_is_written_unasked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, chainproof: Command
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = chainproof("check", PACK, "--only", "no-loop", "--color", "never")
    assert list(tmp_path.iterdir()) == []
    assert "chainproof replay" not in ran.out


def test_two_questions_of_one_name_have_two_files(small: Path, chainproof: Command) -> None:
    one, other = prop(small, REACH_22), small / "q.prop"
    other.write_text(one.read_text())
    chainproof("check", one, other, "--cex-dir", small / "cex")
    assert sorted(f.name for f in (small / "cex").iterdir()) == ["p1-h-2.json", "p1-h.json"]


def test_a_refutation_is_told_from_the_packet_to_what_would_have_saved_it(chainproof: Command) -> None:
    out = chainproof("check", "--only", "no-loop", "--color", "never").out
    faulty = out[out.index("no-loop on faulty") : out.index("no-loop on unbound")]
    for said in (
        "because the source is not 127.0.0.6",
        "counterexample   tcp 127.0.0.1:40002 → 10.33.4.7:8080  SYN  from envoy  (uid 1337 gid 1337, out lo)",
        "reached by       tcp 10.33.4.2:40001 → 10.33.4.7:8080  SYN  from outside on eth0",
        "no match: source 127.0.0.1 is not 127.0.0.6",
        "destination 10.33.4.7:8080 ⟶ 127.0.0.1:15006",
        "↺",
        "why              nat/ISTIO_OUTPUT rule 1 would have stopped it, had the source been 127.0.0.6",
        "curl -sS --interface 10.33.4.2 --local-port 40001 http://10.33.4.7:8080/   # on 10.33.4.2",
        "setpriv --reuid 1337 --regid 1337 --clear-groups curl -sS --interface 127.0.0.1 --local-port 40002",
        "A004 envoy.inbound, envoy.outbound dial as declared in faulty",
        "A007 tables raw, mangle, filter, security not given: empty",
    ):
        assert said in faulty
    assert re.search(r"nat/ISTIO_OUTPUT +rule 2 .* proofs/istio-sidecar/rules/istio\.rules:26\n", faulty)
    assert "A001 new connection: conntrack is empty" in out
    assert not re.search(r"[ \t]\n", out)


def test_a_near_miss_is_one_of_the_premise_and_the_rules_doing(small: Path, chainproof: Command) -> None:
    """nat/PREROUTING 1 redirects port 7 alone, and the claim speaks of port 22."""
    out = chainproof("check", prop(small, REACH_22)).out
    assert "is dropped by filter/INPUT rule 1" in out
    assert "no match:" not in out


def test_a_table_says_of_each_cell_what_it_is(tmp_path: Path, small: Path, chainproof: Command) -> None:
    file = small / "t.prop"
    table = f'table t\n  {FROM_OUTSIDE} must reach app\n           | h\n  "as it is" | {{}}\n'
    file.write_text('host h = "small.yaml"\n' + table.format("some"))
    ran = chainproof("check", file)
    assert ran.status == 0
    assert "t on h, as it is: some" in ran.out
    file.write_text('host h = "small.yaml"\n' + table.format("yes"))
    ran = chainproof("check", file)
    assert ran.status == 1
    assert "the table says `yes`, and it is `some`" in ran.out


# -- what is not understood, and what is not given ------------------------------------------------------


def test_what_is_not_understood_is_named_where_the_answer_depends_on_it(
    small: Path, chainproof: Command
) -> None:
    claims = {
        REACH_80: ("unknown", '-m u32 --u32 "0>>22&0x3C@12=1" (filter/INPUT rule 2)'),
        REACH_80.replace("80", "81"): (
            "unknown",
            "-m string --string secret --algo bm (filter/INPUT rule 3)",
        ),
        f"no{FROM_OUTSIDE[5:]} port 23\n  may reach app": (
            "unknown",
            "-m u32 --u32 4=5 (filter/INPUT rule 4)",
        ),
        "every tcp connection from app to 10.0.0.9 port 99\n  must leave by eth0": (
            "unknown",
            "target -j RAWSNAT --to-source 10.0.0.2",
        ),
        "every tcp connection from app to 10.0.0.9 port 98\n  must leave by eth0 with source 10.0.0.2": (
            "proved",
            None,
        ),
        REACH_90: ("proved", None),
        "every packet from outside on eth0\n  must end": ("proved", None),
        f"no{FROM_OUTSIDE[5:]} port 22\n  may reach app": ("proved", None),
    }
    ran = chainproof("check", prop(small, *claims), "--output-format", "json")
    for result, (answer, opaque) in zip(ran.json["results"], claims.values(), strict=True):
        assert (result["answer"], opaque in result["opaque"] or not opaque) == (answer, True), result["claim"]
    text = chainproof("check", prop(small, REACH_80)).out
    assert "not understood: -m u32" in text
    assert "candidate" in text
    assert "reproduce" not in text


def test_what_chance_decided_is_told_of_a_witness(small: Path, chainproof: Command) -> None:
    rules = small / "small.rules"
    chance = "-m statistic --mode nth --every 2 --packet 0 -j REDIRECT --to-ports 90\n"
    kept = f"-A PREROUTING -p tcp --dport 8 {chance}-A PREROUTING -p tcp --dport 7"
    rules.write_text(rules.read_text().replace("-A PREROUTING -p tcp --dport 7", kept, 1))
    some = "some tcp connection from outside on eth0 to 10.0.0.2 port 8\n  {} app"
    ran = chainproof("check", prop(small, some.format("can reach"), some.format("can not reach")))
    assert "shown by one packet" in ran.out
    assert "--packet 0: holds (nat/PREROUTING rule 1)" in ran.out
    assert "--packet 0: does not hold (nat/PREROUTING rule 1)" in ran.out


def test_what_chance_decides_is_not_called_unknown(small: Path, chainproof: Command) -> None:
    rules = small / "small.rules"
    chance = "-A INPUT -m limit --limit 1/s -j MARK --set-mark 1\n-A INPUT -p tcp --dport 22"
    rules.write_text(rules.read_text().replace("-A INPUT -p tcp --dport 22", chance, 1))
    out = chainproof("check", prop(small, REACH_80)).out
    assert "not understood: -m u32" in out
    assert "not understood: -m limit" not in out


def test_a_table_that_is_not_given_is_an_assumption(small: Path, chainproof: Command) -> None:
    out = chainproof("check", prop(small, REACH_90)).out
    assert "A007 tables raw, mangle, security not given: empty" in out


def test_where_a_rule_asks_for_the_ttl_nothing_is_taken_for_granted_of_it(
    small: Path, chainproof: Command
) -> None:
    claim = f"{FROM_OUTSIDE} port 80\n  must end"
    assert "TTL > 1" in chainproof("check", prop(small, claim)).out
    rules = small / "small.rules"
    rules.write_text(rules.read_text().replace("COMMIT", "-A INPUT -m ttl --ttl-lt 9 -j DROP\nCOMMIT", 1))
    ran = chainproof("check", prop(small, claim)).out
    assert "TTL > 1" not in ran
    assert "A002 packets are whole" in ran


def test_sysctls_and_routes_that_are_not_given_are_assumptions(small: Path, chainproof: Command) -> None:
    host = SMALL["small.yaml"].replace("routes:", "# routes:")
    (small / "small.yaml").write_text(host)
    out = chainproof("check", prop(small, REACH_90)).out
    assert "A003 sysctls not given have the kernel's defaults" in out
    assert "A010 routes not given" in out


# -- input that cannot be read --------------------------------------------------------------------------


def refused(ran: Ran, *said: str) -> None:
    """Status 2, nothing on stdout, and on stderr a code, a place and all that is said."""
    assert ran.status == 2, ran
    assert ran.out == ""
    assert re.match(r"error\[[A-Z]\d{3}\]: .*\n  --> \S+", ran.err), ran.err
    for words in said:
        assert words in ran.err, ran.err


@pytest.mark.parametrize(
    ("rule", "column", "said"),
    [
        ("-A INPUT -p tcp -j DORP", 20, "did you mean `DROP`?"),
        ("-A INPTU -p tcp -j DROP", 4, "did you mean `INPUT`?"),
        ("-A INPUT -p tpc -j DROP", 13, "did you mean `tcp`?"),
        ("-A INPUT -p tcp --dportt 3 -j DROP", 17, "did you mean `--dport`?"),
        ("-A INPUT -p tcp --dport htpp -j DROP", 25, "did you mean `http`?"),
        ("-A INPUT -m conntarck --ctstate NEW -j DROP", 13, "did you mean `conntrack`?"),
        ("-A INPUT -m conntrack --ctstate -j DROP", 23, "`--ctstate` needs a value"),
        ("-A INPUT -p tcp -j", 19, "`-j` needs a value"),
        ("-A INPUT -p tcp -j MINE", 20, "no chain MINE"),
        ("-A INPUT -s 10.0.0.256 -j DROP", 13, "no IPv4 address"),
        ('-A INPUT -m comment --comment "x -j DROP', 31, "a quote is opened and not closed"),
        ("-X INPUT", 4, "is built in and cannot be deleted"),
        ("APPEND INPUT -j DROP", 1, "not expected here"),
    ],
)
def test_a_rule_that_cannot_be_read_is_shown_with_its_column(
    small: Path, chainproof: Command, rule: str, column: int, said: str
) -> None:
    (small / "small.rules").write_text(f"*filter\n:INPUT ACCEPT [0:0]\n{rule}\nCOMMIT\n")
    ran = chainproof("check", prop(small, REACH_90))
    refused(ran, f"small.rules:3:{column}\n3 | {rule}\n  | {' ' * (column - 1)}^", said)


def test_other_kinds_of_text_are_refused_with_a_way_out(small: Path, chainproof: Command) -> None:
    file = prop(small, REACH_90)
    mine = small / "mine"

    def given(text: bytes | str) -> Ran:
        mine.write_bytes(text.encode() if isinstance(text, str) else text)
        return chainproof("check", file, "--rules", mine, "--table", "filter")

    nft = "table ip filter {\n\tchain INPUT {\n\t\ttype filter hook input priority filter;\n\t}\n}\n"
    refused(given(nft), f"{mine}:1:1", "nftables", "iptables-save")
    listing = "".join(
        f"Chain {chain} (policy ACCEPT)\ntarget     prot opt source               destination         \n"
        "ACCEPT     tcp  --  0.0.0.0/0            0.0.0.0/0            tcp dpt:80\n\n"
        for chain in ("INPUT", "FORWARD", "OUTPUT")
    )
    refused(given(listing), "-v")
    refused(given("hello\n"), f"{mine}:1:1", "iptables-save")
    refused(given(""), "there is no rule here")
    refused(given("\n# nothing\n\n"), "there is no rule here")
    refused(given("*filter\n:INPUT ACCEPT\n"), f"{mine}:2:14", "COMMIT is missing", "cut off")
    refused(
        given(b"*filter\n:INPUT ACCEPT\n-A INPUT -m comment --comment gr\xfcn\nCOMMIT\n"),
        f"{mine}:3:33",
        "UTF-8",
    )
    refused(given(b"\x7fELF\x02\x01\x00\x00"), f"{mine}:1:7")
    refused(given(os.urandom(3000) + b"\0"), str(mine))
    assert given(SMALL["small.rules"].replace("\n", "\r\n")).status == 0
    assert given("\ufeff" + SMALL["small.rules"]).status == 0


def test_a_long_line_is_shown_in_part(small: Path, chainproof: Command) -> None:
    for line in ("-A INPUT " + "x" * 300_000, "x" * 300_000, "-A INPUT " + "-p tcp " * 2_000):
        (small / "small.rules").write_text(f"*filter\n:INPUT ACCEPT\n{line}\nCOMMIT\n")
        ran = chainproof("check", prop(small, REACH_90))
        refused(ran, "small.rules:3:")
        assert len(ran.err) < 2000
        assert "…" in ran.err
        shown, carets = ran.err.splitlines()[2:4]
        assert len(carets) <= len(shown)


def test_what_a_file_says_does_not_reach_the_terminal_raw(small: Path, chainproof: Command) -> None:
    (small / "small.rules").write_text("*filter\n:INPUT ACCEPT\n-A INPUT \x1b[31m\x07 -j DROP\nCOMMIT\n")
    ran = chainproof("check", prop(small, REACH_90))
    refused(ran)
    assert "\x1b" not in ran.err
    assert "\x07" not in ran.err


@pytest.mark.parametrize(
    ("sentence", "word", "hint"),
    [
        ("every packet from ap must end", "ap", "`app`"),
        ("every packet from app must enter nat/OUTPTU", "nat/OUTPTU", "`nat/OUTPUT`"),
        ("every packet from app must enter nta/OUTPUT", "nta/OUTPUT", "tables are"),
        ("every packet from app.inbond must end", "inbond", "there is none"),
        ("every packet from outside on eht0 must end", "eht0", "`eth0`"),
        ("every packet from app must leave by eht0", "eht0", "`eth0`"),
        ("every packet from app must reach ap", "ap", "`app`"),
        ("every packet from app must reach app on 8080", "8080", "there is 22, 23, 80, 81, 90"),
        ("every packet from app must pass apq before leaving", "apq", "`app`"),
        ("every packet from app must be dropped by filter/INPTU", "filter/INPTU", "`filter/INPUT`"),
        ("every packet from app must hit rule filter/INPUT 17", "filter/INPUT 17", "the chain has 5 rules"),
        ('every packet from app must hit rule filter/INPUT "nobody"', "nobody", "no rule of filter/INPUT"),
        ("rule nat/PREROUTING 2 must be dead", "nat/PREROUTING 2", "the chain has 1 rule"),
        ("no rule of mangle may be dead", "mangle", "there is filter, nat"),
        ("evry packet from app must end", "evry", "`every`"),
        ("every packet from app must ende", "ende", "`end`"),
        ("every tpc packet from app must end", "tpc", "`tcp`"),
        ("every packet from app to 10.0.0.300 must end", "10.0.0.300", "not an IPv4 address"),
        ("every packet from app where -p tcp --dportt 80 must end", "--dportt", "`--dport`"),
    ],
)
def test_a_name_that_is_not_there_is_shown_in_its_line(
    small: Path, chainproof: Command, sentence: str, word: str, hint: str
) -> None:
    file = prop(small, sentence)
    column = 3 + re.search(rf"(?<![\w/]){re.escape(word)}(?!\w)", sentence).start()  # type: ignore[union-attr]
    refused(
        chainproof("check", file), f"{file}:4:{column}\n4 |   {sentence}\n  | {' ' * (column - 1)}^", hint
    )


@pytest.mark.parametrize(
    ("host", "word", "said"),
    [
        ('host h = "smal.yaml"', '"smal.yaml"', "no such file"),
        ('host h = "small.yaml" with rules "no.rules"', '"no.rules"', "cannot be read"),
        ('host h = "small.yaml" without rule filter/INPTU 1', "filter/INPTU", "did you mean `filter/INPUT`?"),
        ('host h = "small.yaml" without rule filter/INPUT 99', "filter/INPUT", "no rule 99"),
        ('host h = "small.yaml" with ap uid 7', "ap uid", "did you mean `app`?"),
        ('host h = "small.yaml" with app binds-device eht0', "app binds", "did you mean `eth0`?"),
    ],
)
def test_a_host_that_is_not_there_is_shown_where_it_is_named(
    small: Path, chainproof: Command, host: str, word: str, said: str
) -> None:
    file = prop(small, REACH_90, host=host)
    column = host.index(word) + 1 + word.startswith('"')
    ran = chainproof("check", file)
    refused(ran, f"1 | {host}\n", said)
    assert re.search(rf"p\.prop:1:({column}|{column - 1})\n", ran.err), ran.err


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  lo:", "\tlo:", "small.yaml:3:1"),
        ("  lo:", "\tlo:", "blanks"),
        (
            "rules: small.rules",
            "rules: small.rules\nrules: other.rules",
            "`rules` is given twice, first on line 1",
        ),
        ("listens:", "listen:", "did you mean `listens`?"),
        ("uid: any", "uid: everybody", "no set of ids"),
        ("small.rules", "smal.rules", "small.yaml:1:8"),
        ("small.rules", ".", "is a folder"),
        ("dev eth0,", "dev eth9,", "did you mean `eth0`?"),
        ("processes:", "proceses:", "did you mean `processes`?"),
        ("rules: small.rules", "rules: &a small.rules\nbackend: *a", "aliases are not read"),
        ("{uid", "[uid", "this is not YAML"),
        (SMALL["small.yaml"], "", "empty"),
        (SMALL["small.yaml"], "- a\n", "key: value"),
        ("rules", "r\x00les", "small.yaml:1:2"),
        ("rules", "r\x01les", "small.yaml:1:2"),
    ],
)
def test_a_host_that_cannot_be_read_is_shown_at_its_line(
    small: Path, chainproof: Command, old: str, new: str, said: str
) -> None:
    (small / "small.yaml").write_text(SMALL["small.yaml"].replace(old, new, 1))
    refused(chainproof("check", prop(small, REACH_90)), "small.yaml", said)


def test_property_files_in_other_encodings(small: Path, chainproof: Command) -> None:
    file = prop(small, REACH_90)
    text = file.read_bytes()
    file.write_bytes(text.replace(b"\n", b"\r\n"))
    assert chainproof("check", file).status == 0
    file.write_bytes(b"\xef\xbb\xbf" + text)
    assert chainproof("check", file).status == 0
    file.write_bytes(text.replace(b"property", b"# gr\xfcn\nproperty"))
    refused(chainproof("check", file), f"{file}:3:5", "UTF-8")
    file.write_bytes(b"\0" * 100)
    refused(chainproof("check", file), f"{file}:1:1")
    file.write_bytes(text.replace(b"\n", b"\r\n").replace(b"reach app", b"reach ap"))
    refused(chainproof("check", file), f"{file}:5:14\n5 |   must reach ap\n", "did you mean `app`?")


# -- trace ----------------------------------------------------------------------------------------------


def test_a_trace_tells_every_stop(chainproof: Command) -> None:
    ran = chainproof("trace", POD, "--", "-p", "tcp", "-s", "10.33.0.9", "-d", "10.33.4.7", "--dport", "8080")
    assert (ran.status, ran.err) == (0, "")
    assert ran.lines[0].split()[:4] == ["1", "arrives", "on", "eth0"]
    assert ran.lines[-1].split()[1:] == ["end", "reaches", "app", "on", "*:8080"]
    places = [line.split()[-1] for line in ran.lines if ".rules:" in line]
    assert [p.rpartition(":")[2] for p in places] == ["16", "23", "24", "17", "25"]


def test_a_trace_tells_what_nat_makes_of_source_and_destination(tmp_path: Path, chainproof: Command) -> None:
    rules = tmp_path / "nat.rules"
    rules.write_text(
        "*nat\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n"
        "-A OUTPUT -j DNAT --to-destination 10.0.0.9\n-A POSTROUTING -j SNAT --to-source 10.0.0.77\nCOMMIT\n"
    )
    out = chainproof(
        "trace", rules, "--from", "anyone", "--", "-p", "tcp", "-d", "8.8.8.8", "--dport", "80"
    ).out
    assert "destination 8.8.8.8:80 ⟶ 10.0.0.9:80" in out
    assert "source 10.0.0.2:40001 ⟶ 10.0.0.77:40001" in out


def test_a_range_of_ports_is_no_ipv6_address(chainproof: Command) -> None:
    ran = chainproof("trace", POD, "--", "-p", "tcp", "--dport", "22:25")
    assert ran.status == 0
    assert "10.33.4.7:22  SYN" in ran.out


def test_a_trace_in_json(chainproof: Command) -> None:
    words = ["trace", POD, "--from", "app", "--output-format", "json", "--", "-p", "tcp", "-d", "10.33.0.1"]
    told = chainproof(*words).json
    assert set(told) >= {"packet", "stops", "end"}
    assert told["packet"]["destination"] == "10.33.0.1"
    for stop in told["stops"]:
        assert set(stop) >= {"hook", "table", "chain", "rule", "file", "line", "action", "packet"}
    matched = [(s["chain"], s["rule"], s["line"]) for s in told["stops"] if s["rule"]]
    assert matched[:2] == [("OUTPUT", 1, 17), ("ISTIO_OUTPUT", 9, 33)]
    assert {s["file"] for s in told["stops"] if s["file"]} == {"proofs/istio-sidecar/rules/istio.rules"}
    assert (told["end"]["kind"], told["end"]["interface"]) == ("left", "eth0")


def test_a_batch_is_answered_line_by_line(tmp_path: Path, chainproof: Command) -> None:
    batch = tmp_path / "batch.jsonl"
    packets: list[dict[str, object]] = [
        {"from": "app", "destination": "10.33.0.1"},
        {"source": "10.33.0.9", "destination": "10.33.4.7", "dport": 22},
        {"protocol": "icmp", "destination": "10.33.4.7"},
        {"in": "eth0", "protocol": "udp", "dport": 53},
    ]
    batch.write_text("\n\n".join(map(json.dumps, packets)) + "\n")
    ran = chainproof("trace", POD, "--batch", batch)
    assert ran.status == 0
    ends = [json.loads(line)["end"]["kind"] for line in ran.lines]
    assert ends == ["left", "refused", "kernel", "refused"]


def test_what_a_trace_prints_of_a_packet_is_read_again(tmp_path: Path, chainproof: Command) -> None:
    batch = tmp_path / "batch.jsonl"
    for who, matches in (
        ("outside", "-p tcp --dport 8080"),
        ("app", "-p udp --dport 53"),
        ("envoy", "-p icmp"),
        ("app", "-m owner --uid-owner 7 -s 127.0.0.1 -d 127.0.0.9"),
    ):
        first = chainproof(
            "trace", POD, "--from", who, "--output-format", "json", "--", *matches.split()
        ).json
        batch.write_text(json.dumps({"from": who, **first["packet"]}))
        assert chainproof("trace", POD, "--batch", batch).json == first


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nonsense", "no JSON"),
        ('{"dport": 80', "no JSON"),
        ("[1]", "a packet is a JSON object"),
        ('{"dprot": 80}', "did you mean `dport`?"),
        ('{"dport": 70000}', "from 0 to 65535"),
        ('{"dport": 80.5}', "from 0 to 65535"),
        ('{"dport": true}', "from 0 to 65535"),
        ('{"dport": "80"}', "from 0 to 65535"),
        ('{"mark": -1}', "from 0 to"),
        ('{"source": "10.0.0.256"}', "not an IPv4 address"),
        ('{"protocol": "tpc"}', "no protocol"),
        ('{"protocol": "icmp", "dport": 80}', "has no `dport`"),
        ('{"protocol": "udp", "flags": 2}', "has no `flags`"),
        ('{"uid": 7}', "a uid and a gid"),
        ('{"from": "ap"}', "did you mean `app`?"),
        ('{"in": "eth9"}', "did you mean `eth0`?"),
        ('{"from": "app", "in": "eth0"}', "the host decides that"),
        ('{"ctstate": "ESTABLISHED"}', "the host decides that"),
        ('{"from": "app", "destination": "8.8.8.8", "out": "lo"}', "the host decides that"),
        ('{"from": "app", "device": "eth9"}', "no interface `eth9`"),
        ('{"from": "app", "source": "8.8.8.8"}', "no socket of app can send"),
        ('{"from": "envoy", "uid": 7}', "no socket of envoy can send"),
    ],
)
def test_a_bad_line_of_a_batch_is_named(tmp_path: Path, chainproof: Command, line: str, said: str) -> None:
    batch = tmp_path / "batch.jsonl"
    batch.write_text('{"dport": 80}\n' + line + "\n")
    ran = chainproof("trace", POD, "--batch", batch)
    assert ran.status == 2
    assert len(ran.lines) == 1
    assert re.search(r"--> the batch:2(:\d+)?\n2 \| ", ran.err), ran.err
    assert line in ran.err
    assert said in ran.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--from", "ap"], "did you mean `app`?"),
        (["--from", "outside:eth1"], "did you mean `eth0`?"),
        (["--from", "app", "--", "-s", "8.8.8.8"], "no socket of app"),
        (["--", "-p", "tpc"], "did you mean `tcp`?"),
        (["--", "--dportt", "80"], "did you mean `--dport`?"),
        (["--", "-p", "tcp", "-m", "multiport", "--dports", "1,2"], "one packet"),
        (["--", "!", "-p", "tcp"], "one packet"),
        (["--", "-i", "eth1"], "`-i eth1` does not fix"),
        (["--", "-m", "mark", "--mark", "5"], "is not so of what is sent from there"),
        (["--", "-j", "DROP"], "a condition has no target"),
    ],
)
def test_a_packet_that_cannot_be_traced_is_refused(chainproof: Command, words: list[str], said: str) -> None:
    refused(chainproof("trace", POD, *words), "--> the command line", said)


def test_rules_alone_get_a_host_that_is_told(tmp_path: Path, chainproof: Command) -> None:
    ran = chainproof("trace", RULES, "--output-format", "json")
    assert ran.status == 0
    assert ran.json["end"]["kind"] == "refused"
    assert ran.err.startswith(f"note: {RULES} names no host, so this one is taken:\n")
    told = tmp_path / "told.yaml"
    told.write_text("\n".join(line[2:] for line in ran.err.splitlines()[1:]))
    again = chainproof("trace", told, "--output-format", "json")
    assert again.json == ran.json
    assert again.err == ""


@needs_seed
def test_a_listing_is_traced_in_its_table(chainproof: Command) -> None:
    named = chainproof("trace", SEED, "--table", "nat")
    assert named.status == 0
    assert "nat/ISTIO_IN_REDIRECT" in named.out
    inferred = chainproof("trace", SEED)
    assert inferred.out == named.out
    assert "read as table nat" in inferred.err
    assert "read as table" not in named.err
    refused(chainproof("trace", SEED, "--table", "natt"), "did you mean `nat`?")
