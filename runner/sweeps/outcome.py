"""How the jobs of a sweep ended: counts, ranks, rows of a table, and the errors to raise."""

import itertools
import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

from runner.config.direction import Direction
from runner.config.schema import Config
from runner.messages.errors import DivergedError, SweepError
from runner.process.tracebacks import traceback_hint
from runner.sweeps.job import Job

FAILURES_IN_FULL = 5
NAMES = 5
# The metric of the distance between the last weight and the nearest known minimum point.
DISTANCE = "final/distance"
# Statuses that are always counted; others are counted only if there are any.
ALWAYS_COUNTED = ("COMPLETED", "STOPPED", "DIVERGED", "FAILED", "SKIPPED")


class Numbers(Mapping[str, float]):
    """Numbers by name; many of these with the same names take little memory."""

    __slots__ = ("_names", "_values")

    def __init__(self, names: Mapping[str, int], values: "array[float]") -> None:
        self._names = names
        self._values = values

    @classmethod
    def of(cls, numbers: Mapping[str, float]) -> Self:
        """Return a copy of a mapping."""
        return cls(_places(tuple(numbers)), array("d", numbers.values()))

    def __getitem__(self, name: str) -> float:
        return self._values[self._names[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@lru_cache(maxsize=256)
def _places(names: tuple[str, ...]) -> dict[str, int]:
    return {name: place for place, name in enumerate(names)}


@dataclass(frozen=True, eq=False)
class JobResult:
    """How a job of a sweep ended.

    Attributes:
        run: the runner's id of the run, or MLflow's id for a skipped job.
        run_id: the run's id in MLflow; None when it is not tracked.
        status: COMPLETED, STOPPED, DIVERGED, PRUNED or FAILED; SKIPPED where an earlier sweep has done the job; NOT_RUN
            after a failure with `fail_fast`.
        metrics: the final results, under their names in MLflow.
        reason: why it failed, or which rule stopped it.
        has_diverged: whether it diverged, here or in the earlier sweep.
        still_since: the last step that changed its weight, where the weight stopped changing away from a known minimum.
        remark: a further remark for the user.
        is_pruned: whether it was pruned, here or in the earlier sweep.
    """

    job: Job
    run: str
    run_id: str | None
    status: str
    metrics: Mapping[str, float]
    reason: str | None = None
    has_diverged: bool = False
    still_since: int | None = None
    remark: str | None = None
    is_pruned: bool = False

    @property
    def loss(self) -> float | None:
        """The loss of the last forward pass, if there was one."""
        return self.metrics.get("final/loss")

    @property
    def steps_to_loss(self) -> float:
        """The number of steps after which the run first had its last loss, where that is its best; else all of them."""
        is_best = self.metrics.get("best/loss") == self.loss
        return self.metrics.get("best/step" if is_best else "steps_done", math.inf)


def counts(results: Sequence[JobResult]) -> dict[str, float]:
    """Return the number of jobs, and of those with each status, by the keys of its tags."""
    by_status = dict.fromkeys(ALWAYS_COUNTED, 0)
    for one in results:
        by_status[one.status] = by_status.get(one.status, 0) + 1
    return {"jobs": len(results)} | {f"jobs_{status.lower()}": float(count) for status, count in by_status.items()}


def ranked(results: Sequence[JobResult]) -> Iterator[JobResult]:
    """Yield the jobs whose last loss is finite, the best first.

    Of equal losses, the one that was reached in fewer steps comes first, then the nearest to a known minimum.
    Jobs that diverged or were pruned have no rank. Jobs that minimise come before jobs that maximise, whose losses
    cannot be compared with theirs.
    """

    def order(one: JobResult) -> tuple[bool, float, float, float]:
        direction = one.job.config.direction
        loss = direction.sort_key(one.loss or 0.0)
        return direction is Direction.UP, loss, one.steps_to_loss, one.metrics.get(DISTANCE, 0.0)

    yield from sorted((one for one in results if _has_rank(one)), key=order)


def _has_rank(one: JobResult) -> bool:
    return one.loss is not None and math.isfinite(one.loss) and not one.has_diverged and not one.is_pruned


def ranks(results: Sequence[JobResult]) -> dict[JobResult, int]:
    """Return the rank of each job that has one, from 1, in the order of `ranked`; each direction has its own ranks."""
    found: dict[JobResult, int] = {}
    for _, jobs in itertools.groupby(ranked(results), lambda one: one.job.config.direction):
        found |= {one: rank for rank, one in enumerate(jobs, start=1)}
    return found


def best_of(results: Sequence[JobResult]) -> JobResult | None:
    """Return the best job; None where there is none, or some jobs minimise and others maximise."""
    directions = {one.job.config.direction for one in results}
    return next(ranked(results), None) if len(directions) == 1 else None


def raise_failures(results: Sequence[JobResult]) -> None:
    """Raise an error if jobs failed: the reasons of a few, and how many there are.

    Raises:
        SweepError: some jobs failed.
        DivergedError: some diverged, and `fail_on_divergence` is true.
    """
    failed = [one for one in results if one.status == "FAILED"]
    if not failed:
        raise_diverged(results)
        return
    lines = [f"job {one.job.name} failed: {one.reason}" for one in failed[:FAILURES_IN_FULL]]
    more = len(failed) - len(lines)
    rest = [f"and {more:,} more"] if more else []
    diverged = _unwanted_divergence(results)
    also = [diverged] if diverged is not None else []
    raise SweepError(*lines, *rest, *also, f"{len(failed):,} of {len(results):,} jobs failed{traceback_hint()}")


def raise_diverged(results: Sequence[JobResult]) -> None:
    """Raise an error if jobs diverged that have `fail_on_divergence=true`.

    Raises:
        DivergedError: some did.
    """
    diverged = _unwanted_divergence(results)
    if diverged is not None:
        raise DivergedError(diverged)


def _unwanted_divergence(results: Sequence[JobResult]) -> str | None:
    names = [one.job.name for one in results if one.has_diverged and one.job.config.fail_on_divergence]
    return f"{divergence_sentence(names, len(results))}; fail_on_divergence=true" if names else None


def divergence_sentence(names: Sequence[str], jobs: int) -> str:
    """Return how many of the jobs diverged, with the names of a few."""
    more = f" and {len(names) - NAMES:,} more" if len(names) > NAMES else ""
    return f"{len(names):,} of {jobs:,} job{'s' if jobs != 1 else ''} diverged: {', '.join(names[:NAMES])}{more}"


def rows_of(results: Sequence[JobResult]) -> list[dict[str, Any]]:
    """Return jobs as rows of a table."""
    rank = ranks(results)
    return [_row_of(one, rank.get(one, math.nan)) for one in results]


def _row_of(result: JobResult, rank: float) -> dict[str, Any]:
    """Return a job as a row: what varied, how it ended, its rank, and the final results."""
    values = {key: _value(result.job.config, key, text) for key, text in result.job.varied.items()}
    how = {"status": result.status, "reason": result.reason, "run_id": result.run_id, "remark": result.remark}
    return {**values, **how, "rank": rank, **result.metrics}


def _value(config: Config, key: str, text: str) -> Any:
    value: Any = config.tree
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return text
        value = value[part]
    return text if isinstance(value, Mapping) else value
