"""Names of users and groups in rules: which id each is the host tells, and whom it does not tell is named in the answer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from verifier import owners
from verifier import rules as r
from verifier.analyses.lint import findings
from verifier.answers import Proved, Refuted, Unknown
from verifier.cases import Cases, read_setting
from verifier.check import Checker
from verifier.reading.errors import HostError, InputError
from verifier.reading.hosts import read_bare_host, read_host_text
from verifier.reading.rules import read_rules
from verifier.spell_hosts import host as spelled
from verifier.values import Ids, IdSet

from . import strategies as some
from .small import host

RULES = """\
*filter
:OUTPUT ACCEPT [0:0]
-A OUTPUT -m owner --uid-owner envoy -j DROP
COMMIT
"""
HOST = """\
rules: rules
interfaces:
  lo: {addresses: [127.0.0.1/8]}
  eth0: {addresses: [10.0.0.5/24]}
processes:
  app: {uid: 1000, gid: 1000}
  proxy: {uid: NAME, gid: 5}
"""
PROPERTY = """\
host h = "h.yaml"

property dropped
  every tcp packet from proxy to 10.0.0.7
  must be dropped by filter/OUTPUT

property passes
  every tcp packet from app to 10.0.0.7
  must not be dropped
"""


def asked(folder: Path, *lines: str, name: str = "1337", claims: str = PROPERTY) -> list[object]:
    """The answers to the claims on a host with these lines in its file; each file is read once, so each time in a new folder."""
    folder = folder / f"{len(list(folder.iterdir()))}"
    folder.mkdir()
    (folder / "rules").write_text(RULES)
    (folder / "h.yaml").write_text("\n".join([HOST.replace("NAME", name), *lines]))
    (folder / "p.prop").write_text(claims)
    return [Checker().ask(q).answer for q in Cases(folder / "p.prop").questions()]


def test_a_name_that_the_host_tells_is_its_id(tmp_path: Path) -> None:
    first, second = asked(tmp_path, "users: {envoy: 1337}")
    assert isinstance(first, Proved)
    assert isinstance(second, Proved)
    first, second = asked(tmp_path, "users: {envoy: 1000}")
    assert isinstance(first, Refuted)
    assert isinstance(second, Refuted)


def test_of_a_name_that_nobody_tells_the_answer_says_so(tmp_path: Path) -> None:
    for answer in asked(tmp_path, "users: {other: 1337}"):
        assert isinstance(answer, Unknown)
        (text,) = answer.opaque
        assert "--uid-owner envoy (filter/OUTPUT rule 1)" in text
        assert "`users: {envoy: ID}`" in text
    _, notes = read_setting(tmp_path / "0" / "h.yaml")
    (note,) = [n for n in notes if "envoy" in n]
    assert note.startswith(f"{tmp_path / '0' / 'rules'}:3")
    assert "`users: {envoy: ID}`" in note


def test_what_only_a_group_of_that_name_is_tells_no_user(tmp_path: Path) -> None:
    assert all(isinstance(a, Unknown) for a in asked(tmp_path, "groups: {envoy: 1337}"))


def test_a_process_and_a_premise_may_be_told_by_name(tmp_path: Path) -> None:
    claims = PROPERTY.replace("from app to 10.0.0.7", "from proxy where ! -m owner --uid-owner envoy")
    named = claims.replace("where !", "where").replace("--uid-owner", "! --uid-owner")
    first, second = asked(tmp_path, "users: {envoy: 1337}", name="[envoy, 1000]", claims=named)
    assert isinstance(first, Refuted)
    assert isinstance(second, Proved)
    with pytest.raises(InputError, match=re.escape("users: {envoy: ID}")) as caught:
        asked(tmp_path, claims=named)
    assert caught.value.code == "P007"


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("envoy", "1337"),
        ("not envoy", "not 1337"),
        ("'root, envoy, 5-9'", "0, 1337, 5-9"),
        ("[root, envoy]", "0, 1337"),
        ("a-b", "7"),
    ],
)
def test_ids_of_a_process_may_be_names(text: str, ids: str) -> None:
    read = read_host_text(HOST.replace("NAME", text) + "users: {envoy: 1337, a-b: 7}", "h.yaml").host
    assert read.process("proxy").uid == IdSet.read(ids)


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ("users: {root: 5}", "H004"),
        ("users: {envoy: any}", "H004"),
        ("users: {envoy: 4294967295}", "H004"),
        ("users: {5envoy: 5}", "H004"),
        ("users: [envoy]", "H003"),
        ("groups: {any: 5}", "H004"),
    ],
)
def test_what_is_no_name_or_no_id_is_refused(lines: str, code: str) -> None:
    with pytest.raises(HostError) as caught:
        read_host_text(HOST.replace("NAME", "1") + lines, "h.yaml")
    assert caught.value.code == code
    with pytest.raises(HostError):
        read_host_text(HOST.replace("NAME", "envoy"), "h.yaml")


def test_a_host_with_names_is_spelled_and_read_back() -> None:
    import json

    named = replace(host(), users={"envoy": 1337}, groups={"staff": 50})
    assert read_bare_host(json.dumps(spelled(named)), "t", named.name) == named


@given(match=some.built(r.OwnerNames, some.IPV4), uid=st.integers(0, 9), data=st.data())
def test_all_names_are_told_or_the_match_stays(match: r.OwnerNames, uid: int, data: st.DataObject) -> None:
    names = [name for name in (match.uid, match.gid) if isinstance(name, str)]
    known = data.draw(st.fixed_dictionaries({}, optional={name: st.just(uid) for name in names}))
    there = replace(host(), users=known, groups=known)
    found = owners.owner(match, there)
    if any(name not in known for name in names):
        assert found is match
        return
    assert isinstance(found, r.OwnerIds)
    for given_, ids in ((match.uid, found.uid), (match.gid, found.gid)):
        assert ids == (Ids(uid, uid) if isinstance(given_, str) else given_)
    same = ("uid_negated", "gid_negated", "socket_exists", "socket_negated")
    assert all(getattr(found, name) == getattr(match, name) for name in same)


def test_lint_names_what_no_rule_tells() -> None:
    (found,) = findings(read_rules(RULES, "t").rules)
    assert found.code == "L001"
    assert found.hint is not None
    assert "users: {envoy: ID}" in found.hint
