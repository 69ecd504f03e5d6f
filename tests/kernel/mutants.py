"""`python -m tests.kernel.mutants [--all]`: the table of mutants, with what each one changes and who notices.

Without --all on the hosts of the pack; with it on all its host files too, with the app bound to each address and Envoy
refusing and not, everything asked everywhere (half an hour).  Needs root.
"""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor

from verifier import spell
from verifier.answers import Proved
from verifier.kernel.pods import Pod
from verifier.wording import say_premise

from .comparisons import comparisons
from .mutations import Kind, Mutant, mutants
from .pack import Ground, all_grounds, grounds, sidecar_rules
from .tables import changes, lines, row, survivors
from .trials import Trial, What, attempt

EVERY_MUTANT = tuple(mutant for kind in Kind for mutant in mutants(sidecar_rules(), kind))


def tried(ground: Ground) -> tuple[Trial, list[Trial]]:
    """The original rules and every mutant, on one host."""
    original = Mutant("the original", sidecar_rules())
    with Pod(ground.setting.host, spell.rule_set(sidecar_rules()), "legacy") as pod:
        return attempt(pod, ground, original), [attempt(pod, ground, mutant) for mutant in EVERY_MUTANT]


def noticed_by(ground: Ground, mutant: Mutant) -> list[str]:
    """Whose packets fare otherwise, or may do so."""
    return [
        f"{say_premise(one.premise)}: {one.answer.reason}"
        for one in comparisons(ground, mutant)
        if not isinstance(one.answer, Proved)
    ]


def main(arguments: list[str]) -> int:
    chosen = all_grounds() if "--all" in arguments else grounds()
    with ProcessPoolExecutor() as pool:
        found = list(zip(chosen, pool.map(tried, chosen), strict=True))
    rows = [row(ground.name, original, trials) for ground, (original, trials) in found]
    print("\n".join(lines(rows)))
    for number, mutant in enumerate(EVERY_MUTANT):
        print(f"\n{mutant.name}")
        for ground, (original, trials) in found:
            trial = trials[number]
            notes = changes(original, trial) if trial.loaded else ["iptables does not load it"]
            notes += [f"not replayed: {text}" for text in trial.texts(What.NOT_REPLAYED)]
            notes += [f"DISAGREEMENT: {text}" for text in trial.texts(What.DISAGREEMENT)]
            for note in notes:
                print(f"  {ground.name}: {note}")
    print("\nMutants that change no answer, and who would notice them:")
    by_name = {mutant.name: mutant for mutant in EVERY_MUTANT}
    for name in survivors(rows):
        hosts: dict[str, list[str]] = {}
        for ground in grounds():
            for note in noticed_by(ground, by_name[name]):
                hosts.setdefault(note, []).append(ground.name)
        print(f"  {name}" + ("" if hosts else ": nobody, as is proved of every host"))
        for note, names in hosts.items():
            print(f"    {', '.join(names)}: {note}")
    return int(
        any(t.texts(What.DISAGREEMENT) for _, (original, trials) in found for t in (original, *trials))
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
