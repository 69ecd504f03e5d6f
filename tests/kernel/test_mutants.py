"""Every mutant of the sidecar's rules, on every host of the pack: the kernel does what the wings tell, and what the
prover answers, the kernel bears out.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from msgspec.structs import asdict, replace

from verifier import spell
from verifier.answers import Answer, Proved, Refuted
from verifier.kernel.errors import RulesRefused
from verifier.kernel.iptables import BackendName
from verifier.kernel.pods import Pod
from verifier.prove import Prover
from verifier.reading.errors import RuleError
from verifier.reading.rules import read_rules
from verifier.rules import OwnerIds

from .comparisons import comparisons, contradiction
from .conftest import PodOf, need
from .mutations import Kind, Mutant, mutants
from .pack import Ground, all_grounds, grounds, sidecar_rules
from .tables import row
from .trials import What, attempt

EVERYTHING = os.environ.get("MUTANTS") == "all"
"""On every host that can be made of the pack's, and not only where the pack speaks of it."""
GROUNDS = {g.name: g for g in (all_grounds() if EVERYTHING else grounds())}
POD = GROUNDS["pod"]
ORIGINAL = Mutant("the original", sidecar_rules())
TEXT = spell.rule_set(sidecar_rules())
EVERY_MUTANT = [mutant for kind in Kind for mutant in mutants(sidecar_rules(), kind)]


def test_the_mutants_are_all_there() -> None:
    chains = [chain.rules for table in sidecar_rules().tables.values() for chain in table.chains.values()]
    matches = [literal.match for rules in chains for rule in rules for literal in rule.literals]
    both = [m for m in matches if isinstance(m, OwnerIds) and None not in (m.uid, m.gid)]
    assert len(mutants(sidecar_rules(), Kind.DELETION)) == sum(map(len, chains))
    assert len(mutants(sidecar_rules(), Kind.NEGATION)) == len(matches) + len(both)
    assert len(mutants(sidecar_rules(), Kind.SWAP)) == sum(max(0, len(rules) - 1) for rules in chains)


def test_no_two_mutants_are_the_same() -> None:
    texts = {spell.rule_set(mutant.rules) for mutant in (*EVERY_MUTANT, ORIGINAL)}
    assert len(texts) == len({mutant.name for mutant in (*EVERY_MUTANT, ORIGINAL)}) == len(EVERY_MUTANT) + 1


@pytest.mark.kernel
def test_a_mutant_is_read_iff_iptables_loads_it(pod_of: PodOf) -> None:
    need("legacy")
    pod = pod_of("pod", POD.setting.host, TEXT, "legacy")
    assert [m.name for m in EVERY_MUTANT if _is_loaded(pod, m)] == [
        m.name for m in EVERY_MUTANT if _is_read(m)
    ]


def _is_loaded(pod: Pod, mutant: Mutant) -> bool:
    try:
        pod.reload(spell.rule_set(mutant.rules))
    except RulesRefused:
        return False
    return True


def _is_read(mutant: Mutant) -> bool:
    """True iff our reader takes the mutant's text; then it reads what the mutant says."""
    try:
        found = read_rules(spell.rule_set(mutant.rules), mutant.name)
    except RuleError:
        return False
    return found.rules == mutant.rules


CASES: list[tuple[str, Kind, BackendName]] = [
    *((name, kind, "legacy") for name in GROUNDS for kind in Kind),
    *(("pod", kind, "nft") for kind in (Kind if EVERYTHING else [Kind.DELETION])),
]


@pytest.mark.kernel
@pytest.mark.parametrize(("host", "kind", "backend_name"), CASES, ids=lambda x: getattr(x, "value", x))
def test_the_kernel_bears_out_every_answer(
    host: str,
    kind: Kind,
    backend_name: BackendName,
    pod_of: PodOf,
    record_property: Callable[[str, object], None],
) -> None:
    need(backend_name)
    ground: Ground = GROUNDS[host]
    pod = pod_of(host, ground.setting.host, TEXT, backend_name)
    original = attempt(pod, ground, ORIGINAL)
    trials = [attempt(pod, ground, mutant) for mutant in mutants(sidecar_rules(), kind)]
    name = host if backend_name == "legacy" else f"{host}, nft"
    record_property("mutants", asdict(row(name, original, trials)))
    assert [(t.mutant, text) for t in (original, *trials) for text in t.texts(What.DISAGREEMENT)] == []


@pytest.mark.kernel
@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.value)
def test_who_notices_a_mutant_does_so_in_the_kernel(kind: Kind, pod_of: PodOf) -> None:
    need("legacy")
    pod = pod_of("pod", POD.setting.host, TEXT, "legacy")
    for mutant in mutants(sidecar_rules(), kind):
        if _is_loaded(pod, mutant):
            for comparison in comparisons(POD, mutant):
                assert contradiction(pod, POD, mutant, comparison) is None, mutant.name


# -- what mutants have taught: the prover alone, where there is no root --------------------------------


def test_a_proof_is_not_checked_on_dials_that_the_proxy_refuses() -> None:
    """Envoy refuses 15001, so that its inbound side dials nobody there."""
    assert isinstance(answered(POD, "nat/ISTIO_INBOUND 2: deleted", "no-loop"), Proved)


def test_the_dial_that_refutes_comes_before_the_loop() -> None:
    """A frame to 15006 would do too, but of its second dial the journey tells only that it is the first one again."""
    ground = next(
        g for g in all_grounds() if g.name == "istio-1.10-chooses-itself, app on pod, refuses nothing"
    )
    answer = answered(ground, "nat/ISTIO_OUTPUT 1: now ! -s 127.0.0.6/32", "loop-without-redirect")
    assert isinstance(answer, Refuted)
    assert answer.counterexample is not None
    assert answer.counterexample.hop <= len(answer.counterexample.journey.states)


def answered(ground: Ground, mutant: str, name: str) -> Answer:
    rules = next(m.rules for m in EVERY_MUTANT if m.name == mutant)
    claim = next(asked.claim for asked in ground.asked if asked.name == name)
    return Prover(replace(ground.setting, rules=rules)).answer(claim)
