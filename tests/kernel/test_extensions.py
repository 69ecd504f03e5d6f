"""What we spell of each match and target loads in the real tools, and what they print of it is read as the same data."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from verifier import rules as r
from verifier import spell
from verifier.kernel.iptables import BackendName
from verifier.kernel.namespaces import CommandFailed, Namespace
from verifier.reading.rules import read_rules
from verifier.values import Family, Span

from .. import strategies as some

pytestmark = pytest.mark.kernel

EXAMPLES = 6
EVERY_SPI = (0, 0xFFFFFFFF)
SYN = r.Literal(r.TcpFlags(0x06, 0x02))


@pytest.fixture(params=Family, ids=str)
def namespace(request: pytest.FixtureRequest) -> Iterator[tuple[Namespace, Family]]:
    family: Family = request.param
    made = Namespace()
    kind = ["family", "inet6" if family is Family.IPV6 else "inet", "timeout", "9"]
    for name in ("some", "other"):
        made.run(["ipset", "create", name, "hash:ip", *kind])
    yield made, family
    made.close()


def test_what_is_spelled_loads_and_comes_back(
    namespace: tuple[Namespace, Family], backend: BackendName
) -> None:
    made, family = namespace
    wrong: list[str] = []
    for kind, of in some.KINDS:
        if of is not family or kind in (r.Opaque, r.OpaqueTarget, r.OwnerNames):
            continue
        for rule, table in examples(kind, family):
            if not taken(rule, backend):
                continue
            rules = r.RuleSet({table: r.Table(table, {"CHAIN": r.Chain("CHAIN", None, (rule,))})}, family)
            text = spell.rule_set(rules)
            try:
                printed = load(made, text, family, backend, table)
            except CommandFailed as e:
                wrong.append(f"{text}{e}")
                continue
            read = read_rules(printed, "printed", family=family).rules
            if read.tables[table].chains["CHAIN"].rules != (rule,):
                wrong.append(text + printed)
    assert not wrong, "\n".join(wrong)


def load(made: Namespace, text: str, family: Family, backend: BackendName, table: str) -> str:
    """What the tool prints of a text that it has loaded."""
    name = "iptables" if family is Family.IPV4 else "ip6tables"
    made.run([f"{name}-{backend}-restore"], text)
    return made.run([f"{name}-{backend}-save", "-t", table])


def examples(kind: type, family: Family) -> list[tuple[r.Rule, str]]:
    """Some rules with this class, the same ones each time."""
    found: list[tuple[r.Rule, str]] = []

    @seed(random.Random(kind.__name__).randrange(1 << 30))
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(some.rules_with(kind, family))
    def draw(drawn: tuple[r.Rule, str]) -> None:
        rule, table = drawn
        if isinstance(rule.target, r.ClampMss):
            rule = r.Rule((*rule.literals, SYN), rule.target)
        found.append((rule, table))

    draw()
    return found


def taken(rule: r.Rule, backend: BackendName) -> bool:
    """Whether the tool takes the rule, and prints it as it is: for what it does not, see each line."""
    for literal in rule.literals:
        match literal:
            case r.Literal(r.Esp(first, last), True) | r.Literal(r.Ah(first, last, True)) if (
                first,
                last,
            ) == EVERY_SPI:
                return False  # iptables-save prints neither the range nor its `!`
            case r.Literal(r.SourcePorts(span) | r.DestinationPorts(span)) if span == Span(0, 0xFFFF):
                return False  # nor those of every port
            case r.Literal(r.InInterface() | r.OutInterface() | r.Source() | r.Destination(), True):
                # `! -i +` is printed as nothing, `! -s 0.0.0.0/0` is refused by nft.
                return False
            case r.Literal(r.TcpFlags(0)):
                return False  # what looks at no flag is printed as nothing
            case r.Literal(r.IcmpType(_, _, last) | r.Icmp6Type(_, _, last)) if last is not None:
                return False  # of a range of codes the end is not printed
            case r.Literal(r.Mark(mark)) if mark.value & ~mark.mask and backend == "nft":
                return False  # nft stores what never holds in another way
            case _:
                pass
    if isinstance(rule.target, r.Snat) and rule.target.to.base is not None:
        return False  # iptables 1.8.9 gives the kernel 0 for it, and prints that
    return not (isinstance(rule.target, r.Queue) and "NFQUEUE" not in rule.target.text and backend == "nft")
