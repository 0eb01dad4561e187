"""What a learning rate does: slow, monotone, oscillating or diverging, and where the runs begin to diverge."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from runner.config.direction import Direction
from runner.config.schema import Config
from runner.engine.result import Outcome

# A run has arrived when this share of the loss at its start, above the lowest known, is left.
LEFT = 0.01
FEWEST_TURNS = 2


class Region(IntEnum):
    """What a run did."""

    SLOW = 0
    MONOTONE = 1
    OSCILLATING = 2
    DIVERGING = 3


@dataclass(frozen=True)
class Losses:
    """The losses that say how a run went, each of all samples and without noise.

    Attributes:
        start: where the runs start.
        lowest: the known minimum, else the best of all runs; the highest where the runs maximize.
        is_known: whether the objective declares its minimum.
        direction: whether the runs minimize or maximize.
    """

    start: float
    lowest: float
    is_known: bool
    direction: Direction

    def above(self, loss: float) -> float:
        """Return how far a loss is from the lowest."""
        return loss - self.lowest if self.direction is Direction.DOWN else self.lowest - loss


def region_of(outcome: Outcome, end: float, turns: int, losses: Losses) -> Region:
    """Return what a run did that ended with the loss `end`, after its gradient had turned round so many times."""
    if outcome is Outcome.DIVERGED or not losses.above(end) <= losses.above(losses.start):
        return Region.DIVERGING
    if turns >= FEWEST_TURNS:
        return Region.OSCILLATING
    return Region.SLOW if losses.above(end) > LEFT * losses.above(losses.start) else Region.MONOTONE


@dataclass(frozen=True)
class Border:
    """Between which two neighbouring learning rates the runs begin to diverge."""

    below: float
    above: float

    @property
    def middle(self) -> float:
        """The geometric mean of the two."""
        return float((self.below * self.above) ** 0.5)


def border_of(
    rates: Sequence[float], ends: Sequence[float], regions: Sequence[Region], losses: Losses
) -> Border | None:
    """Return the border above the best of some runs that differ in their learning rates, in rising order.

    None where none of them converges, or none above the best diverges.
    """
    stable = [index for index, region in enumerate(regions) if region is not Region.DIVERGING]
    if not stable:
        return None
    best = min(stable, key=lambda index: losses.above(ends[index]))
    above = [index for index in range(best + 1, len(rates)) if regions[index] is Region.DIVERGING]
    return Border(rates[above[0] - 1], rates[above[0]]) if above else None


def bounds_of(config: Config, curvature: float, momenta: Sequence[float | None]) -> list[float | None]:
    """Return, for each momentum, the largest learning rate at which descent on a quadratic of this curvature converges.

    That is `2 / curvature` for plain descent and `1 + momentum` times as much for heavy ball; None for other rules, and
    where schedule, clipping or dampening change the steps, or the runs maximize.
    """
    settings = config.optimizer.settings
    is_changed = bool(settings.get("dampening") or settings.get("maximize"))
    is_plain = config.optimizer.name in ("gd", "momentum") and not is_changed
    is_clipped = config.clip_norm is not None or config.clip_value is not None
    steepest = curvature + float(settings.get("weight_decay", 0.0)) if is_plain else 0.0
    if not is_plain or is_clipped or not config.schedule.is_constant or not steepest > 0:
        return [None] * len(momenta)
    return [2 * (1 + (momentum or 0.0)) / steepest for momentum in momenta]
