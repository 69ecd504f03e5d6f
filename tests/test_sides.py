"""Of which packets a claim speaks: those of both families, unless it says otherwise; and the answer is to all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from verifier import claims as c
from verifier.answers import Proved, Refuted
from verifier.cases import Cases, Question
from verifier.check import Checker
from verifier.reading.errors import PropertyError
from verifier.values import Family, nowhere

DUAL = """\
rules: four.rules
rules6: six.rules
interfaces:
  lo: {addresses: [127.0.0.1/8, "::1/128"]}
  eth0: {addresses: [10.0.0.5/24, "2001:db8::5/64"]}
routes: [default via 10.0.0.1 dev eth0]
routes6: [default via 2001:db8::1 dev eth0]
processes:
  app: {uid: 1000, gid: 1000, listens: ["*:80", "0.0.0.0:81", "[::]:82 v6only"]}
  proxy:
    uid: 1337
    gid: 1337
    listens: ["0.0.0.0:90"]
    proxy: {only: {accepts: 90, connects-to: original-destination}}
outside: {sources: unicast}
"""

FOUR = "*filter\n:INPUT ACCEPT [0:0]\n:MINE - [0:0]\n-A INPUT -p tcp --dport 80 -j MINE\nCOMMIT\n"
SIX = "*filter\n:INPUT DROP [0:0]\n:OURS - [0:0]\n-A INPUT -p tcp --dport 80 -j OURS\n-A OURS -s 2001:db8::/32 -j ACCEPT\nCOMMIT\n"
ALONE = (
    DUAL.replace(', "2001:db8::5/64"', "").replace("rules6: six.rules\n", "").replace("routes6", "# routes6")
)


def question(folder: Path, claim: str) -> Question:
    """The one question of a property with this claim, about a host of both families and one of IPv4 alone."""
    (folder / "four.rules").write_text(FOUR)
    (folder / "six.rules").write_text(SIX)
    (folder / "dual.yaml").write_text(DUAL)
    (folder / "alone.yaml").write_text(ALONE)
    file = folder / "it.prop"
    on = "" if " in " in claim or " on alone" in claim else "\n  on dual"
    file.write_text(f'host dual = "dual.yaml"\nhost alone = "alone.yaml"\n\nproperty it\n  {claim}{on}\n')
    (found,) = Cases(file).questions()
    return found


def families(asked: Question) -> list[int]:
    return [side.settings[0][1].host.family.value for side in asked.sides]


@pytest.mark.parametrize(
    ("claim", "of"),
    [
        ("every packet from outside\n  must end", [4, 6]),
        ("every packet from outside to any\n  must end", [4, 6]),
        ("every packet from outside to dual\n  must end", [4, 6]),
        ("every packet from outside to 10.0.0.5, 2001:db8::5\n  must end", [4, 6]),
        ("every packet from outside not to 2001:db8::5\n  must end", [4, 6]),
        ("every packet from outside to ::/0\n  must end", [6]),
        ("every packet from outside to 10.0.0.5\n  must end", [4]),
        ("every icmp packet from outside\n  must end", [4]),
        ("every icmpv6 packet from outside\n  must end", [6]),
        ("every packet from outside where -s 2001:db8::/32\n  must end", [6]),
        ("every packet from outside where -p tcp ! -d 10.0.0.5\n  must end", [4]),
        ("every packet from outside where -p icmpv6 --icmpv6-type 128\n  must end", [6]),
        ("every packet from proxy.only\n  must end", [4]),
        ("every packet from app\n  must not enter filter/MINE", [4, 6]),
        ("every packet from outside\n  must not hit rule filter/OURS 1", [4, 6]),
        ("every packet from outside port 81\n  must reach app on 81", [4, 6]),
        ("rule filter/MINE 1 must be dead", []),
        ("rule filter/OURS 1 must not be dead", [6]),
        ("rule filter/INPUT 1 must not be dead", [4, 6]),
    ],
)
def test_a_claim_speaks_of_the_families_that_it_does_not_exclude(
    tmp_path: Path, claim: str, of: list[int]
) -> None:
    if not of:
        with pytest.raises(PropertyError):
            question(tmp_path, claim)
    else:
        assert families(question(tmp_path, claim)) == of


def test_a_socket_is_not_moved_to_a_family_that_the_host_has_not(tmp_path: Path) -> None:
    question(tmp_path, "every packet from outside\n  must end")
    file = tmp_path / "it.prop"
    for host, said in (("dual", None), ("alone", "2001:db8::5 is no address of host it")):
        file.write_text(
            f'host it = "{host}.yaml" with app on 2001:db8::5\n\nproperty x\n  every packet from app\n  must end\n  on it\n'
        )
        if said is None:
            four, six = Cases(file).questions()[0].sides
            listens = [s.settings[0][1].host.process("app").listens for s in (four, six)]
            assert [len(x) for x in listens] == [0, 2]
        else:
            with pytest.raises(PropertyError, match=said):
                Cases(file).questions()


def test_each_side_has_the_addresses_of_its_family_alone(tmp_path: Path) -> None:
    asked = question(tmp_path, "every packet from outside to dual\n  must reach app with source 10.0.0.9")
    four, six = (side.claims[0] for side in asked.sides)
    assert isinstance(four, c.PacketClaim)
    assert isinstance(six, c.PacketClaim)
    assert (str(four.premise.filter.to), str(six.premise.filter.to)) == ("10.0.0.5", "2001:db8::5")
    (verb,) = six.verbs
    assert isinstance(verb, c.Reaches)
    assert verb.having.source == nowhere(Family.IPV6)


def test_an_exception_of_one_family_excepts_nothing_of_the_other(tmp_path: Path) -> None:
    said = 'every packet from outside\n  must end\n  except\n    - to 10.0.0.5 because "x"'
    four, six = question(tmp_path, said).sides
    counts = [
        len(s.claims[0].premise.exceptions) for s in (four, six) if isinstance(s.claims[0], c.PacketClaim)
    ]
    assert counts == [1, 0]


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        ("every packet from outside\n  must enter filter/NOBODYS", "no chain on dual"),
        ("every packet from outside\n  must reach app on 83", "no port that app listens on"),
        ("every packet from outside\n  must hit rule filter/INPUT 3", "no rule filter/INPUT 3"),
        ("every packet from outside on eth0\n  must fare the same in dual and alone", "alone has none"),
        ("every icmpv6 packet from outside\n  must end\n  on alone", "speaks of no packet"),
    ],
)
def test_what_is_in_no_family_is_an_error(tmp_path: Path, claim: str, said: str) -> None:
    with pytest.raises(PropertyError, match=said):
        question(tmp_path, claim)


@pytest.mark.parametrize(
    ("claim", "answer", "family"),
    [
        ("every tcp connection from outside to dual port 80\n  must reach app", Refuted, 6),
        (
            "every tcp connection from outside to 10.0.0.5 port 80 where -s 8.0.0.0/8\n  must reach app",
            Proved,
            4,
        ),
        (
            "every tcp connection from outside to 2001:db8::5 port 80 where -s 2001:db8:7::/48\n  must reach app",
            Proved,
            6,
        ),
        ("some tcp connection from outside to dual port 82\n  can reach app", Refuted, 4),
        ("no tcp connection from outside to dual port 82\n  may reach app", Proved, 4),
        ("some tcp connection from outside port 80\n  can enter filter/OURS", Proved, 6),
        ("every tcp connection from outside port 80\n  must not enter filter/OURS", Refuted, 6),
    ],
)
def test_the_answer_is_to_the_packets_of_both(tmp_path: Path, claim: str, answer: type, family: int) -> None:
    result = Checker().ask(question(tmp_path, claim))
    assert isinstance(result.answer, answer)
    if answer is Refuted or claim.startswith("some"):
        assert result.question.settings[0][1].host.family.value == family
