"""How the jobs of a sweep ended: counted, ranked, as rows of a table, and what of it is an error."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.config.direction import Direction
from runner.config.schema import Config
from runner.messages.errors import DivergedError, SweepError
from runner.process.tracebacks import on_demand
from runner.sweeps.job import Job

FAILURES_IN_FULL = 5
NAMES = 5
# Of the last weight from the nearest known minimum point, as a metric.
DISTANCE = "final/distance"


@dataclass(frozen=True, eq=False)
class JobDone:
    """How a job of a sweep went.

    Attributes:
        run: our id of the run, or MLflow's where an earlier sweep has done it.
        run_id: the run's id in MLflow; None when it is not tracked.
        status: COMPLETED, STOPPED, DIVERGED or FAILED, SKIPPED where an earlier sweep has done it, or NOT_RUN where the
            first failure has ended the sweep.
        metrics: the final results, under their names in MLflow.
        reason: why it failed, or what a rule said that stopped it.
        has_diverged: it did, here or in the earlier sweep.
        still_since: the last step that moved its weight, where it stood still after it short of a known minimum.
        remark: what is to be said of it beside.
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

    @property
    def loss(self) -> float | None:
        """The loss of the last forward pass, where there was one."""
        return self.metrics.get("final/loss")


def counts(done: Sequence[JobDone]) -> dict[str, float]:
    """Return the numbers of jobs, by outcome too, as metrics of the parent run."""
    by_status = dict.fromkeys(("COMPLETED", "STOPPED", "DIVERGED", "FAILED", "SKIPPED"), 0)
    for one in done:
        by_status[one.status] = by_status.get(one.status, 0) + 1
    return {"jobs": len(done)} | {f"jobs_{status.lower()}": float(count) for status, count in by_status.items()}


def ranked(done: Sequence[JobDone]) -> Iterator[JobDone]:
    """Yield the jobs whose last loss is a number, the best first, and of these the nearest to a known minimum.

    Where some go down and others up, whose losses do not compare, those that go down come first.
    """

    def place(one: JobDone) -> tuple[bool, float, float]:
        direction = one.job.config.direction
        return direction is Direction.UP, direction.sort_key(one.loss or 0.0), one.metrics.get(DISTANCE, 0.0)

    finite = [one for one in done if one.loss is not None and math.isfinite(one.loss) and not one.has_diverged]
    yield from sorted(finite, key=place)


def places(done: Sequence[JobDone]) -> dict[JobDone, int]:
    """Return the place of each job that has one, from 1 on, among those that go its way, in the order of `ranked`."""
    found: dict[JobDone, int] = {}
    for _, jobs in itertools.groupby(ranked(done), lambda one: one.job.config.direction):
        found |= {one: place for place, one in enumerate(jobs, start=1)}
    return found


def best_of(done: Sequence[JobDone]) -> JobDone | None:
    """Return the best job; None where there is none, or some go down and others up."""
    directions = {one.job.config.direction for one in done}
    return next(ranked(done), None) if len(directions) == 1 else None


def raise_failures(done: Sequence[JobDone]) -> None:
    """Raise what failed, a few jobs in full, and how many of which.

    Raises:
        SweepError: some jobs failed.
        DivergedError: some diverged, and `fail_on_divergence` is true.
    """
    failed = [one for one in done if one.status == "FAILED"]
    if not failed:
        raise_diverged(done)
        return
    lines = [f"job {one.job.name} failed: {one.reason}" for one in failed[:FAILURES_IN_FULL]]
    more = len(failed) - len(lines)
    rest = [f"and {more:,} more"] if more else []
    diverged = _unwanted(done)
    also = [diverged] if diverged is not None else []
    raise SweepError(*lines, *rest, *also, f"{len(failed):,} of {len(done):,} jobs failed{on_demand()}")


def raise_diverged(done: Sequence[JobDone]) -> None:
    """Raise that jobs diverged.

    Raises:
        DivergedError: some did whose `fail_on_divergence` is true.
    """
    diverged = _unwanted(done)
    if diverged is not None:
        raise DivergedError(diverged)


def _unwanted(done: Sequence[JobDone]) -> str | None:
    names = [one.job.name for one in done if one.has_diverged and one.job.config.fail_on_divergence]
    return f"{said_diverged(names, len(done))}; fail_on_divergence=true" if names else None


def said_diverged(names: Sequence[str], jobs: int) -> str:
    """Return which jobs of how many diverged, a few by name."""
    more = f" and {len(names) - NAMES:,} more" if len(names) > NAMES else ""
    return f"{len(names):,} of {jobs:,} job{'s' if jobs != 1 else ''} diverged: {', '.join(names[:NAMES])}{more}"


def rows_of(done: Sequence[JobDone]) -> list[dict[str, Any]]:
    """Return jobs as rows of a table."""
    place = places(done)
    return [_row_of(one, place.get(one, math.nan)) for one in done]


def _row_of(done: JobDone, rank: float) -> dict[str, Any]:
    """Return a job as a row: what varied, how it went and why, its place among the others, and the final results."""
    values = {key: _value(done.job.config, key, text) for key, text in done.job.varied.items()}
    how = {"status": done.status, "reason": done.reason, "run_id": done.run_id, "remark": done.remark, "rank": rank}
    return {**values, **how, **done.metrics}


def _value(config: Config, key: str, text: str) -> Any:
    value: Any = config.tree
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return text
        value = value[part]
    return text if isinstance(value, Mapping) else value
