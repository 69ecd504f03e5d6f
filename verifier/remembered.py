"""What is told of a whole setting, host or rule set, and asked again for each of many packets."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import wraps
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")

LATEST = 4
"""Many packets are followed in one setting, or in two that are compared, before the next."""


def of_the_latest(tell: Callable[[K], V]) -> Callable[[K], V]:
    """The same function, which remembers what it said of the objects that it was asked about last: of these very ones, since to
    compare what they hold takes longer than to tell anew."""
    latest: deque[tuple[K, V]] = deque(maxlen=LATEST)

    @wraps(tell)
    def remembered(of: K) -> V:
        for its, said in latest:
            if its is of:
                return said
        said = tell(of)
        latest.append((of, said))
        return said

    return remembered
