"""Whether a run minimises or maximises its loss; imports no torch."""

import math
from collections.abc import Iterable
from enum import Enum


class Direction(Enum):
    """Whether a run minimises or maximises; the value is what torch's schedulers call it."""

    DOWN = "min"
    UP = "max"

    @property
    def worst(self) -> float:
        """The loss that is worse than every other."""
        return math.inf if self is Direction.DOWN else -math.inf

    def sort_key(self, loss: float) -> float:
        """Return a sort key that puts better losses first."""
        return loss if self is Direction.DOWN else -loss

    def best(self, losses: Iterable[float]) -> float:
        """Return the best finite loss, or `worst` where none is finite."""
        finite = filter(math.isfinite, losses)
        return min(finite, default=self.worst) if self is Direction.DOWN else max(finite, default=self.worst)

    def keep_best(self, best: "dict[Direction, float]", loss: float) -> None:
        """Keep a loss of a run of this direction among the best losses, if it is better."""
        best[self] = self.best([best.get(self, self.worst), loss])
