"""The recorded numbers of a run, and the first that differs from those of its rerun."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from runner.execution.weights import WEIGHTS
from runner.reading.values import all_restored

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
# The steps and the values of each metric; of a vector in the file of weights, the places and the values.
Numbers: TypeAlias = Mapping[str, tuple[Array, Array]]

OURS = (
    *("loss", "weight", "weight_norm", "weight_norms", "gradient", "gradient_norm", "gradient_norms"),
    *("lr", "lr_bound", "curvature", WEIGHTS),
)

# How long the run took is no result of it, and its place in a sweep none of its own.
NOT_COMPARED = ("seconds", "steps_per_second", "rank")
RESULTS = ("steps_done", "gradient_evaluations")


@dataclass(frozen=True)
class Difference:
    """A number that differs.

    Attributes:
        recorded: the number in the record.
        again: the number of the rerun; None where it has none at this step.
    """

    key: str
    step: int
    recorded: float
    again: float | None

    def __str__(self) -> str:
        again = "missing" if self.again is None else f"{self.again:.17g}"
        place = f"{self.key}[{self.step}]" if is_weight(self.key) else f"at step {self.step:,}, {self.key}"
        return f"{place} is {again}, recorded {self.recorded:.17g}"


@dataclass(frozen=True)
class Comparison:
    """The recorded numbers of a run, compared with those of its rerun.

    Attributes:
        compared: how many numbers the record has.
        differing: how many of them differ.
        keys: the metrics that differ, those that differ first in front.
        first: the first number that differs, by step.
        others: recorded metrics that the program does not compute, which others have logged.
    """

    compared: int = 0
    differing: int = 0
    keys: tuple[str, ...] = ()
    first: Difference | None = None
    others: tuple[str, ...] = ()

    @property
    def is_equal(self) -> bool:
        """Whether all numbers are equal."""
        return self.differing == 0


def is_result(key: str) -> bool:
    """Return whether a metric is a result of the whole run, not of a step."""
    return key in RESULTS or key.startswith(("final/", "best/")) or is_weight(key)


def is_weight(key: str) -> bool:
    """Return whether a key is that of a vector in the file of weights."""
    return key.startswith(f"{WEIGHTS}/")


def weight_numbers(content: bytes) -> Numbers:
    """Return the vectors in a file of weights.

    Raises:
        ValueError: it is not such a file; `OSError` likewise.
    """
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        vectors = {name: np.ravel(file[name]).astype(np.float64) for name in file}
    return {f"{WEIGHTS}/{name}": (np.arange(len(vector)), vector) for name, vector in vectors.items()}


def compare(recorded: Numbers, again: Numbers, of_common_steps: bool = False, with_results: bool = True) -> Comparison:
    """Compare each recorded number with that of the rerun, to the bit.

    NaN equals NaN, and 0 equals -0: databases do not keep the sign of 0.

    Args:
        recorded: the numbers in the record.
        again: those of the rerun, which may have more steps.
        of_common_steps: leave out the steps that the rerun does not record.
        with_results: compare the results of the whole run, too.
    """
    others = tuple(key for key in recorded if key not in again and key not in NOT_COMPARED and not _is_ours(key))
    compared, found = 0, []
    for key, (steps, values) in recorded.items():
        if key in NOT_COMPARED or key in others or (is_result(key) and not with_results):
            continue
        place, is_there = _places(again[key][0] if key in again else np.empty(0, dtype=np.int64), steps)
        if of_common_steps:
            steps, values, place, is_there = steps[is_there], values[is_there], place[is_there], is_there[is_there]
        expected = all_restored(np.where(is_there, again[key][1][place], 0.0)) if key in again else values
        is_equal = is_there & ((values == expected) | (np.isnan(values) & np.isnan(expected)))
        compared += len(steps)
        different = np.flatnonzero(~is_equal)
        if len(different):
            at = different[steps[different].argmin()]
            number = float(expected[at]) if is_there[at] else None
            found.append((Difference(key, int(steps[at]), float(values[at]), number), len(different)))
    found.sort(key=lambda pair: (is_weight(pair[0].key), pair[0].step, is_result(pair[0].key)))
    first = found[0][0] if found else None
    return Comparison(compared, sum(count for _, count in found), tuple(one.key for one, _ in found), first, others)


def _places(among: Array, steps: Array) -> tuple[Array, Array]:
    """Return where each step is among others, in ascending order, and whether it is there."""
    if len(among) == 0:
        return np.zeros(len(steps), dtype=np.int64), np.zeros(len(steps), dtype=bool)
    place = np.searchsorted(among, steps).clip(max=len(among) - 1)
    return place, among[place] == steps


def _is_ours(key: str) -> bool:
    """Return whether a metric has a name that the program gives."""
    name = key.split("/")[0]
    return is_result(key) or name in OURS or name.startswith("held_out")
