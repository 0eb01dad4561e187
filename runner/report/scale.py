"""The vertical axis of losses: log where it fits, with a floor for zeros and a strip on top for what diverged."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from runner.report.runs import LOG_SPAN, Floats

# Where losses may be negative, the axis ends at this quantile of the finite ones, or what exploded would flatten it.
HIGHEST = 0.9
SMALLEST = 1e-300
# Leaves room for the margins above it.
LARGEST = 1e300


@dataclass(frozen=True)
class Scale:
    """How losses are placed on a vertical axis.

    Attributes:
        is_log: whether the axis is logarithmic.
        low: the smallest number that is placed as it is; `high` the largest.
        floor: where zeros are placed on a log axis; None where there are none.
        strip: where infinities, NaN and numbers above `high` are placed.
    """

    is_log: bool
    low: float
    high: float
    floor: float | None
    strip: float

    def placed(self, values: Floats) -> Floats:
        """Return where values are drawn."""
        placed = np.where(np.isfinite(values) & (values <= self.high), values, self.strip)
        if self.is_log:
            lowest = self.low if self.floor is None else self.floor
            placed = np.where(placed < self.low, lowest, placed)
        return np.asarray(placed)

    def data(self, quantity: str) -> dict[str, Any]:
        """Return the scale of a quantity for the script of a page."""
        return {
            "isLog": self.is_log,
            "low": self.low,
            "high": self.high,
            "floor": self.floor,
            "strip": self.strip,
            "quantity": quantity,
        }


def scale_of(values: Floats, most: float = LARGEST) -> Scale:
    """Return the scale that fits values; those that are not finite, or above `most`, count for the strip only."""
    finite = values[np.isfinite(values) & (values <= min(most, LARGEST))]
    positive = finite[finite > SMALLEST]
    if not len(finite):
        return Scale(False, 0.0, 1.0, None, 1.2)
    if len(positive) and finite.min() >= 0 and np.ptp(np.log10(positive)) > math.log10(LOG_SPAN):
        return _log_scale(float(positive.min()), float(positive.max()), bool((finite <= SMALLEST).any()))
    low, high = float(finite.min()), float(finite.max())
    usual = float(np.quantile(finite, HIGHEST))
    if high - usual > 10 * (usual - low) > 0:
        high = usual + (usual - low)
    return Scale(False, low, high, None, high + 0.12 * ((high - low) or 1.0))


def _log_scale(low: float, high: float, has_zeros: bool) -> Scale:
    low_decade, high_decade = math.log10(low), math.log10(high)
    margin = max(0.06 * (high_decade - low_decade), 0.5)
    floor = max(10 ** (low_decade - margin), SMALLEST) if has_zeros else None
    return Scale(True, low, high, floor, 10 ** min(high_decade + margin, 307))
