"""Which way a run goes: down to a low loss, or up to a high one; knows no torch."""

import math
from collections.abc import Iterable
from enum import Enum


class Direction(Enum):
    """Whether a run minimises or maximises; the value is what torch's schedulers call it."""

    DOWN = "min"
    UP = "max"

    @property
    def worst(self) -> float:
        """The loss that every other one is better than."""
        return math.inf if self is Direction.DOWN else -math.inf

    def sort_key(self, loss: float) -> float:
        """Return what sorts the better losses first."""
        return loss if self is Direction.DOWN else -loss

    def best(self, losses: Iterable[float]) -> float:
        """Return the best of those losses that are finite, `worst` where none is."""
        return min(filter(math.isfinite, losses), key=self.sort_key, default=self.worst)
