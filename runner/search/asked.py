"""Trials whose jobs are being run, and the one value that the results of a trial's jobs come to."""

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

import optuna

from runner.messages.errors import UserError
from runner.search.settings import SearchSettings
from runner.sweeps.job import Job
from runner.sweeps.outcome import JobResult


@dataclass(frozen=True)
class Asked:
    """A trial whose jobs are being run.

    Attributes:
        trial: of Optuna; None for a trial that is complete, whose jobs are only counted again.
        number: of the trial.
        jobs: one for each seed.
    """

    trial: optuna.Trial | None
    number: int
    jobs: tuple[Job, ...]


def combined(values: Iterable[float], settings: SearchSettings) -> float:
    """Return the mean or median of the values of a trial's seeds."""
    combine = statistics.mean if settings.repeats_value == "mean" else statistics.median
    return float(combine(values))


def final_value(result: JobResult, metric: str) -> float:
    """Return a final result; NaN where a job that diverged or failed has none.

    Raises:
        UserError: there is no such result.
    """
    if metric not in result.metrics:
        if result.metrics and not result.has_diverged:
            raise UserError(f"hydra.sweeper.metric={metric}: expected one of {', '.join(result.metrics)}")
        return math.nan
    return result.metrics[metric]
