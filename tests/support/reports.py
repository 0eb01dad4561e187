"""Runs of a report, computed by numpy: gradient descent on a parabola of curvature 2."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from runner.report.runs import Column, Runs

START = 10.0


def descents(varied: Mapping[str, Sequence[Any]], made: int = 30, offset: float | None = 0.0, **more: Any) -> Runs:
    """Return runs of `w**2 + offset` from 10 by gradient descent; the known minimum is left out where it is None.

    Args:
        varied: the values of each run by key; `lr` is used.
        made: how many steps each run makes.
        offset: added to the loss.
        more: attributes of the runs to be replaced.
    """
    lr = np.array(varied["lr"], np.float64)
    with np.errstate(all="ignore"):
        weight = START * (1 - 2 * lr[:, None]) ** np.arange(made)
        curves = (weight.astype(np.float32) ** 2).astype(np.float64) + (offset or 0.0)
    diverged = np.isinf(curves).any(axis=1)
    unknown = np.full(len(lr), np.nan)
    best_step = 1.0 + np.argmin(curves, axis=1)
    arrays = {
        "ids": [f"{index:032x}" for index in range(len(lr))],
        "names": [f"lr={value:.4g}" for value in lr],
        "varied": [Column.of(key, list(values)) for key, values in varied.items()],
        "final": curves[:, -1],
        "best": curves.min(axis=1),
        "best_step": best_step,
        "done": np.full(len(lr), float(made)),
        "distance": np.abs(weight[:, -1]),
        "loss_error": unknown if offset is None else curves[:, -1] - offset,
        "bound": np.full(len(lr), 1.0),
        "diverged": diverged,
        "is_upward": np.zeros(len(lr), bool),
        "steps": np.arange(1, made + 1),
        "curves": curves,
    }
    return Runs(**(arrays | more))


def logspace(low: float, high: float, count: int) -> list[float]:
    """Return numbers evenly spaced in their logarithm."""
    return [math.exp(value) for value in np.linspace(math.log(low), math.log(high), count)]
