"""The symbolic wing on the same packets: what its formulas say of a packet, against the concrete wing's journey."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from .. import rules as r
from ..answers import WingsDisagree
from ..hosts import Setting
from ..journeys import Choices, Truth
from ..packets import Packet
from ..replay import check_wings, start_of
from ..symbolic.packets import values_of
from ..symbolic.terms import Model, Terms
from ..symbolic.travel import Journeys
from .conversations import Conversation, Sender, Stage


class Formulas:
    """What the symbolic wing tells of one setting's first hops: formulas for each sender, made when it is first asked for."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._told: dict[tuple[Sender, bool], Journeys] = {}

    def differ(self, whole: Conversation, stage: Stage, choices: Choices | None = None) -> str | None:
        """What the symbolic wing tells otherwise of the packet of this stage than the concrete one, if it does, where chance goes
        as `choices` say.

        The first stop that differs, or how the wing fails.
        """
        later = whole.later if stage is Stage.LATER else None
        try:
            journeys = self._of(whole.sender, later is not None)
            values = values_of(later or whole.packet, journeys.names, journeys.prefix)
            if journeys.earlier is not None:
                values |= values_of(whole.packet, journeys.names, journeys.earlier.prefix)
                values |= dict(_translations(journeys.earlier, journeys.terms.under(values), None))
            values |= dict(_truths(journeys, choices))
            values |= dict(_translations(journeys, journeys.terms.under(values), choices))
            model = journeys.terms.under(values)
            check_wings(journeys, model, start_of(journeys, model))
        except WingsDisagree as error:
            return str(error)
        except (AssertionError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
            return f"a wing fails: {error!r}"
        return None

    def _of(self, sender: Sender, later: bool) -> Journeys:
        if (sender, later) not in self._told:
            terms, earlier = Terms(), None
            if later:
                earlier = Journeys(terms, replace(self.setting, answers=True), sender, "it: earlier ")
            journeys = Journeys(terms, self.setting, sender, "it: ", earlier=earlier, opened=later)
            journeys.extend()
            self._told[sender, later] = journeys
        return self._told[sender, later]


def disagreement(setting: Setting, sent: Iterable[tuple[Sender, Packet]]) -> str | None:
    """What the symbolic wing tells otherwise of these packets than the concrete one, if it does."""
    formulas = Formulas(setting)
    told = (formulas.differ(Conversation(sender, packet), Stage.FIRST) for sender, packet in sent)
    return next(filter(None, told), None)


def _truths(journeys: Journeys, choices: Choices | None) -> Iterator[tuple[str, bool]]:
    """What matches were, that neither packet nor host decides."""
    for asked in journeys.record.asked:
        truth = None if choices is None else choices.opaque.get(asked.evaluation)
        if truth is not None:
            yield asked.matches.op, truth is Truth.MATCH


def _translations(journeys: Journeys, model: Model, choices: Choices | None) -> Iterator[tuple[str, int]]:
    """The address and the port that NAT targets took; where that is not said, the first that they may take."""
    for draw in journeys.record.draws:
        chosen = (None, None) if choices is None else choices.translated.get(draw.evaluation, (None, None))
        to = draw.target.to if isinstance(draw.target, r.Dnat | r.Snat) else None
        if draw.address is not None and to is not None and to.first is not None:
            yield draw.address.op, to.first if chosen[0] is None else chosen[0]
        if draw.port is not None:
            own = model.value(draw.packet.sport)
            ports = to.ports if to is not None else getattr(draw.target, "ports", None)
            first = ports.first if ports else 1 if own < 512 else 600 if own < 1024 else 1024
            yield draw.port.op, first if chosen[1] is None else chosen[1]
