"""The runs of a report as plain arrays, one row a run: what varied, how each ended, and its losses over the steps."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]
Indices: TypeAlias = NDArray[np.int64]
# Numbers that span more than this are shown on a log axis.
LOG_SPAN = 30
SEED = "seed"
LR = "lr"


class Outcome(Enum):
    """How a run ended, compared with its start; the value is what a page says."""

    FELL = "fell"
    UNCHANGED = "did not change"
    GREW = "grew"
    DIVERGED = "diverged"
    UNKNOWN = "unknown"


OUTCOMES = tuple(Outcome)


@dataclass(frozen=True, eq=False)
class Column:
    """A key that varied.

    Attributes:
        name: its dotted name.
        texts: the values as text.
        numbers: the values where all are numbers, else None.
    """

    name: str
    texts: Sequence[str]
    numbers: Floats | None

    @classmethod
    def of(cls, name: str, values: Sequence[Any]) -> "Column":
        """Return the column of values as they are recorded: numbers, texts, or None for a run without the key."""
        numbers = np.array([_number(value) for value in values])
        texts = [
            "" if value is None else f"{value:.6g}" if isinstance(value, float) else f"{value}" for value in values
        ]
        return cls(name, texts, numbers if len(numbers) and np.isfinite(numbers).all() else None)

    @functools.cached_property
    def choices(self) -> list[str]:
        """The different values: numbers in order, texts as they come."""
        if self.numbers is None:
            return list(dict.fromkeys(self.texts))
        return [f"{value:.6g}" for value in np.unique(self.numbers)]

    @property
    def is_log(self) -> bool:
        """Whether a log axis fits: positive numbers that span orders of magnitude."""
        if self.numbers is None or self.numbers.min() <= 0:
            return False
        return bool(np.ptp(np.log10(self.numbers)) > math.log10(LOG_SPAN))

    @functools.cached_property
    def codes(self) -> Indices:
        """The index of each run's value among `choices`."""
        if self.numbers is not None:
            return np.unique(self.numbers, return_inverse=True)[1].astype(np.int64)
        index = {text: code for code, text in enumerate(self.choices)}
        return np.array([index[text] for text in self.texts], np.int64)


def _number(value: Any) -> float:
    if isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


@dataclass(frozen=True, eq=False)
class Runs:
    """Runs, a row each; what is not recorded is NaN.

    Attributes:
        ids: their ids in MLflow.
        names: as people call them.
        varied: the keys that differ among them.
        final: the last loss.
        best: the best loss.
        best_step: the step of the best loss.
        done: how many steps were made.
        distance: of the last weight to the nearest known minimum.
        loss_error: of the last loss to the known minimum.
        bound: 2 / lambda_max at the last recorded step.
        diverged: whether the run diverged.
        is_upward: whether the run maximises its loss.
        steps: the numbers of the recorded steps, increasing.
        curves: the losses at these steps, `(runs, steps)`; NaN where a run recorded none.
    """

    ids: Sequence[str]
    names: Sequence[str]
    varied: Sequence[Column]
    final: Floats
    best: Floats
    best_step: Floats
    done: Floats
    distance: Floats
    loss_error: Floats
    bound: Floats
    diverged: Flags
    is_upward: Flags
    steps: Indices = field(default_factory=lambda: np.zeros(0, np.int64))
    curves: Floats = field(default_factory=lambda: np.zeros((0, 0)))

    def __len__(self) -> int:
        return len(self.ids)

    def column(self, name: str) -> Column | None:
        """Return the column of a key; None if it did not vary."""
        return next((column for column in self.varied if column.name == name), None)

    @property
    def settings(self) -> list[Column]:
        """What varied but for the seed."""
        return [column for column in self.varied if column.name != SEED]

    @functools.cached_property
    def start(self) -> Floats:
        """The first recorded loss of each run; NaN where none is finite."""
        if self.curves.shape[1] == 0:
            return np.full(len(self), np.nan)
        first = np.argmax(~np.isnan(self.curves), axis=1)
        return np.asarray(self.curves[np.arange(len(self)), first])

    @functools.cached_property
    def keys(self) -> Floats:
        """The last losses such that lower is better, whichever the direction; infinite for a run that diverged."""
        signed = np.where(self.is_upward, -self.final, self.final)
        return np.where(np.isfinite(signed) & ~self.diverged, signed, np.inf)

    @functools.cached_property
    def outcomes(self) -> Indices:
        """The index of each run's outcome among `OUTCOMES`."""
        change = np.where(self.is_upward, -1, 1) * (self.final - self.start)
        ended = np.select([change < 0, change == 0, change > 0], [0, 1, 2], 4)
        ended = np.where(np.isnan(self.final), 4, ended)
        return np.where(self.diverged | np.isinf(self.final), 3, ended).astype(np.int64)

    def ended(self, outcome: Outcome) -> Flags:
        """Return which runs have an outcome."""
        return np.asarray(self.outcomes == OUTCOMES.index(outcome))

    @functools.cached_property
    def reached(self) -> Floats:
        """The number of steps after which each run had its last loss, as far as the record says."""
        return np.where(self.best == self.final, self.best_step, self.done)

    @functools.cached_property
    def order(self) -> Indices:
        """The runs with a rank, the best first: by last loss, then by the steps to reach it, then by distance."""
        far = np.nan_to_num(self.distance, nan=np.inf, posinf=np.inf)
        steps = np.nan_to_num(self.reached, nan=np.inf)
        order = np.lexsort((far, steps, self.keys, self.is_upward))
        return order[np.isfinite(self.keys[order])].astype(np.int64)

    @functools.cached_property
    def minimum(self) -> float | None:
        """The known minimum of the loss, if there is one and the same for all runs."""
        known = np.isfinite(self.loss_error) & np.isfinite(self.final)
        if not known.any() or self.is_upward.any():
            return None
        nearest = np.argmin(np.where(known, np.abs(self.loss_error), np.inf))
        found = float(self.final[nearest] - self.loss_error[nearest])
        others = self.final[known] - self.loss_error[known]
        tolerance = 1e-5 * np.maximum(np.abs(self.final[known]), abs(found)) + 1e-30
        return found if (np.abs(others - found) <= tolerance).all() else None

    def taken(self, rows: Indices) -> "Runs":
        """Return some of the runs."""
        columns = [
            Column(one.name, [one.texts[row] for row in rows], None if one.numbers is None else one.numbers[rows])
            for one in self.varied
        ]
        arrays = {
            name: getattr(self, name)[rows]
            for name in (
                "final", "best", "best_step", "done", "distance", "loss_error", "bound", "diverged", "is_upward",
            )
        }  # fmt: skip
        curves = self.curves[rows] if len(self.curves) else self.curves
        ids, names = [self.ids[row] for row in rows], [self.names[row] for row in rows]
        return Runs(ids, names, columns, **arrays, steps=self.steps, curves=curves)


def last_recorded(curves: Floats) -> Indices:
    """Return the index of the last value of each curve that is not NaN, of at least one; the last where all are."""
    return np.asarray(curves.shape[1] - 1 - np.argmax(~np.isnan(curves[:, ::-1]), axis=1))


def heights(losses: Floats, minimum: float | None) -> Floats:
    """Return losses as a plot shows them: their distance to the known minimum, or as they are."""
    return losses if minimum is None else np.abs(losses - minimum)
