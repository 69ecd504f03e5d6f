"""Names in claims are looked up on the hosts of which they speak, and what is not there is an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from verifier.cases import Cases, Overrides
from verifier.reading.errors import PropertyError, RuleError
from verifier.values import Family

HOST = """\
rules: no.rules
interfaces:
  lo: {addresses: [127.0.0.1/8]}
  eth0: {addresses: [10.0.0.5/24]}
routes: [default via 10.0.0.1 dev eth0]
processes:
  app: {uid: 1000, gid: 1000, listens: ["*:80"]}
"""

ALONE = """\
rules: no.rules
interfaces:
  lo: {addresses: [127.0.0.1/8]}
processes:
  app: {uid: 1000, gid: 1000, listens: ["*:80"]}
"""


def refused(folder: Path, claim: str) -> str:
    """The error that a property with this claim ends in."""
    (folder / "no.rules").write_text("*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n")
    (folder / "pod.yaml").write_text(HOST)
    (folder / "alone.yaml").write_text(ALONE)
    file = folder / "it.prop"
    file.write_text(f'host pod = "pod.yaml"\nhost alone = "alone.yaml"\n\nproperty it\n  {claim}\n')
    with pytest.raises(PropertyError) as caught:
        Cases(file).questions()
    return str(caught.value)


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        ('every packet from pod.app where -m u32 --u32 "0=1"\n  must end', "is not understood"),
        (
            'every packet from pod.app\n  must end\n  except\n    - where -m u32 --u32 0=1 because "x"',
            "is not understood",
        ),
        ("every packet from pod.app where -o eth1\n  must end", "no interface on pod: `eth1`"),
        (
            "every packet from pod.outside where ! -i veth+\n  must end",
            "no interface on pod is named `veth+`",
        ),
        ("every packet from pod.outside on lo\n  must end", "nothing comes from outside on lo"),
        ("every packet from pod.app to alone\n  must end", "alone has no address but on lo"),
        (
            "every packet from outside on eth0\n  must fare the same in pod and alone",
            "no interface on alone: `eth0`",
        ),
        (
            "every packet from outside on eth0\n  must keep every listener of pod in alone",
            "no interface on alone",
        ),
    ],
)
def test_a_claim_that_speaks_of_nothing_that_is_there_is_refused(
    tmp_path: Path, claim: str, said: str
) -> None:
    assert said in refused(tmp_path, claim)


def test_what_the_rules_name_and_the_host_has_not_is_told(tmp_path: Path) -> None:
    """It may be a slip, and no error: dumps name what comes and goes."""
    rules = (
        "*filter\n-A INPUT -i eht0 -m set --match-set bad src -j DROP\n-A INPUT -i eth+ -j ACCEPT\nCOMMIT\n"
    )
    (tmp_path / "no.rules").write_text(rules)
    (tmp_path / "pod.yaml").write_text(HOST)
    file = tmp_path / "it.prop"
    file.write_text('host pod = "pod.yaml"\n\nproperty it\n  every packet from app must end\n  on pod\n')
    cases = Cases(file)
    cases.questions()
    told = [note.removeprefix(f"{file}: ") for note in cases.notes]
    assert "host pod has no interface eht0, which its rules name" in told
    assert not any("no route" in note for note in told)
    assert any(note.startswith("host pod tells nothing of the set bad, ") for note in told)


def test_an_interface_that_no_route_uses_is_told(tmp_path: Path) -> None:
    (tmp_path / "no.rules").write_text("*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n")
    (tmp_path / "pod.yaml").write_text(HOST.replace("routes:", "  eth1: {addresses: [10.0.1.5/24]}\nroutes:"))
    file = tmp_path / "it.prop"
    file.write_text('host pod = "pod.yaml"\n\nproperty it\n  every packet from app must end\n  on pod\n')
    cases = Cases(file)
    cases.questions()
    assert f"{file}: no route of host pod uses eth1" in cases.notes


def variant(folder: Path, text: str) -> Cases:
    """A property file whose host has other rules."""
    (folder / "no.rules").write_text("*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n")
    (folder / "pod.yaml").write_text(HOST)
    (folder / "other").write_text(text)
    file = folder / "it.prop"
    file.write_text(
        'host pod = "pod.yaml" with rules "other"\n\nproperty it\n  every packet from app\n  must end\n'
    )
    return Cases(file)


def test_other_rules_of_a_host_must_be_of_its_family(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match="these are IPv6 rules"):
        variant(tmp_path, "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -s fe80::/10 -j DROP\nCOMMIT\n").questions()


def test_what_the_reader_says_of_other_rules_is_told(tmp_path: Path) -> None:
    cases = variant(tmp_path, "iptables -A NOWHERE -j DROP\niptables -A INPUT -j ACCEPT\n")
    cases.questions()
    assert any("iptables fails in this command" in note for note in cases.notes)


SIX = """\
rules6: six.rules
interfaces:
  lo: {addresses: ["::1/128"]}
  eth0: {addresses: ["2001:db8::5/64"]}
"""


@pytest.mark.parametrize(
    ("rules", "read"),
    [
        ("-A INPUT -p tcp -j DROP", True),
        ("-A INPUT -s ::9 -p tcp -j DROP", True),
        ("-A INPUT -s 1.2.3.4 -j DROP", False),
    ],
)
def test_rules_that_tell_no_family_are_those_of_the_host(tmp_path: Path, rules: str, read: bool) -> None:
    (tmp_path / "six.rules").write_text("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p udp\nCOMMIT\n")
    (tmp_path / "six.yaml").write_text(SIX)
    (tmp_path / "mine").write_text(f"*filter\n:INPUT ACCEPT [0:0]\n{rules}\nCOMMIT\n")
    file = tmp_path / "it.prop"
    file.write_text(
        'host pod = "six.yaml"\n\nproperty it\n  every tcp packet from outside on eth0\n  must not enter filter/INPUT\n'
    )
    cases = Cases(file, Overrides(rules=tmp_path / "mine"))
    if not read:
        with pytest.raises(RuleError, match=r"these are IPv4 rules, and host pod has IPv6 alone"):
            cases.questions()
        return
    (question,) = cases.questions()
    ((_, setting),) = question.settings
    assert setting.rules.family is setting.host.family is Family.IPV6
    assert len(setting.rules.tables["filter"].chains["INPUT"].rules) == 1
    assert not [note for note in cases.notes if "not asked about" in note]
