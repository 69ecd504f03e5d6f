"""The symbolic wing on the same packets: what its formulas say of a packet, against the concrete wing's journey."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .. import rules as r
from ..answers import WingsDisagree
from ..hosts import Setting
from ..journeys import FromOutside, FromProcess
from ..packets import Packet
from ..replay import check_wings, start_of
from ..symbolic.packets import values_of
from ..symbolic.terms import Model, Terms
from ..symbolic.travel import Journeys


def disagreement(setting: Setting, sent: Iterable[tuple[FromOutside | FromProcess, Packet]]) -> str | None:
    """What the symbolic wing tells otherwise of these packets than the concrete one, if it does."""
    told: dict[FromOutside | FromProcess, Journeys] = {}
    for sender, packet in sent:
        if sender not in told:
            told[sender] = Journeys(Terms(), setting, sender, "it: ")
            told[sender].extend()
        journeys = told[sender]
        values = values_of(packet, journeys.names, journeys.prefix)
        values |= dict(_translations(journeys, journeys.terms.under(values)))
        model = journeys.terms.under(values)
        try:
            check_wings(journeys, model, start_of(journeys, model))
        except WingsDisagree as error:
            return str(error)
    return None


def _translations(journeys: Journeys, model: Model) -> Iterator[tuple[str, int]]:
    """The first address and the first port that a NAT target may take."""
    for draw in journeys.record.draws:
        to = draw.target.to if isinstance(draw.target, r.Dnat | r.Snat) else None
        if draw.address is not None and to is not None and to.first is not None:
            yield draw.address.op, to.first
        if draw.port is not None:
            own = model.value(draw.packet.sport)
            ports = to.ports if to is not None else getattr(draw.target, "ports", None)
            yield draw.port.op, ports.first if ports else 1 if own < 512 else 600 if own < 1024 else 1024
