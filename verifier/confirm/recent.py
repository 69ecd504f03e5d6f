"""Which addresses `-m recent` has to have seen for a journey to be as it was chosen."""

from __future__ import annotations

from itertools import pairwise

from ..hosts import Setting
from ..journeys import Choices, Evaluation, Journey, Truth
from ..kernel.recent import Seen
from ..replay import literal_at
from ..rules import Chance
from ..values import read_address, spell_address

MOST_HITS = 255
"""So many packets of an address any kernel remembers that takes a rule which asks for them."""


def seen_before(journey: Journey, choices: Choices, setting: Setting) -> tuple[Seen, ...]:
    """What `--rcheck` and `--update` must find for the answers that were chosen, list by list; what takes more packets than
    `MOST_HITS` is left out."""
    found = (_seen(asked, journey, choices, setting) for asked in journey.asked)
    return tuple(dict.fromkeys(seen for seen in found if seen is not None))


def _seen(asked: Evaluation, journey: Journey, choices: Choices, setting: Setting) -> Seen | None:
    match = literal_at(setting, asked).match
    if not isinstance(match, Chance) or match.module != "recent":
        return None
    negated = match.options.startswith("! ")
    words = match.options.removeprefix("! ").split()
    found = (choices.opaque.get(asked) is Truth.MATCH) != negated
    if not found or words[0] not in ("--rcheck", "--update") or '"' in match.options:
        return None
    given = dict(pairwise(words))
    hits = int(given.get("--hitcount", "1"))
    # Source and destination are in a table as they were when it was entered.
    stop = next(s for s in journey.stops if (s.hop, s.hook, s.table) == (asked.hop, asked.hook, asked.table))
    family = setting.host.family
    address = stop.packet.dst if words[-1] == "--rdest" else stop.packet.src
    masked = address & read_address(given["--mask"], family)
    return Seen(given["--name"], spell_address(masked, family), hits) if hits <= MOST_HITS else None
