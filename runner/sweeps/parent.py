"""The run in MLflow that the jobs of a sweep are children of."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.config import Config
from runner.direction import Direction
from runner.hiding import shown_override, shown_tree
from runner.sweeps.planning import by_key
from runner.tracking import provenance
from runner.tracking.journal import Artifact, Begin, End, now_ms
from runner.tracking.processes import OWNER, RESUMES
from runner.tracking.provenance import config_yaml, described
from runner.tracking.tracker import Tracker

if TYPE_CHECKING:
    from runner.sweeps.batched import JobDone

# Of the last weight from the nearest known minimum point, as a metric.
DISTANCE = "final/distance"


@dataclass(frozen=True)
class ParentRun:
    """The parent: its config is the first job's, its params are the sweep's overrides.

    Attributes:
        texts: the sweep as it was written.
        fingerprint: by which the sweep is found again.
    """

    config: Config
    texts: Sequence[str]
    fingerprint: str

    @property
    def experiment(self) -> str | None:
        """The MLflow experiment; None when nothing is tracked."""
        return self.config.tracking.experiment

    def begin(self, tracker: Tracker, run: str, is_new: bool = True, resumes: bool = False) -> None:
        """Append that the sweep begins, or that one of before goes on, or would have if there had been one."""
        if self.experiment is None:
            return
        texts = [shown_override(text) for text in self.texts]
        params = by_key(texts)
        name = shown_tree(self.config.name) or " ".join(texts)
        own = {"runner.kind": "sweep", "runner.fingerprint": self.fingerprint, OWNER: tracker.owner}
        own |= {RESUMES: "true"} if resumes else {}
        tags = provenance.tags_of(self.config) | own
        tracker.append(Begin(run, name, self.experiment, now_ms(), params=params, tags=tags, is_new=is_new))
        if is_new:
            tracker.append(Artifact(run, "config.yaml", config_yaml(self.config).encode()))

    def end(self, tracker: Tracker, run: str, status: str, done: "Sequence[JobDone]") -> None:
        """Append how the sweep ended: the numbers of jobs by outcome, and the best of them."""
        if self.experiment is None:
            return
        results = counts(done)
        diverged = sum(one.has_diverged for one in done)
        tags = {"diverged_jobs": str(diverged)}
        if diverged:
            tags |= described(self.config, f"{diverged:,} of {len(done):,} jobs diverged.")
        references: dict[str, str] = {}
        best = best_of(done)
        if best is not None and best.loss is not None:
            results["best_loss"] = best.loss
            references = {"best.run": best.run}
            tags |= {f"best.{key}": value for key, value in best.job.varied.items()}
        tracker.append(End(run, status, now_ms(), results=results, tags=tags, references=references))


def counts(done: "Sequence[JobDone]") -> dict[str, float]:
    """Return the numbers of jobs, by outcome too, as metrics of the parent run."""
    by_status = dict.fromkeys(("COMPLETED", "STOPPED", "DIVERGED", "FAILED", "SKIPPED"), 0)
    for one in done:
        by_status[one.status] = by_status.get(one.status, 0) + 1
    return {"jobs": len(done)} | {f"jobs_{status.lower()}": float(count) for status, count in by_status.items()}


def ranked(done: "Sequence[JobDone]") -> "Iterator[JobDone]":
    """Yield the jobs whose last loss is a number, the best first, and of these the nearest to a known minimum.

    Where some go down and others up, whose losses do not compare, those that go down come first.
    """

    def place(one: "JobDone") -> tuple[bool, float, float]:
        direction = one.job.config.direction
        return direction is Direction.UP, direction.sort_key(one.loss or 0.0), one.metrics.get(DISTANCE, 0.0)

    finite = [one for one in done if one.loss is not None and math.isfinite(one.loss) and not one.has_diverged]
    yield from sorted(finite, key=place)


def places(done: "Sequence[JobDone]") -> "dict[JobDone, int]":
    """Return the place of each job that has one, from 1 on, among those that go its way, in the order of `ranked`."""
    found: dict[JobDone, int] = {}
    for _, jobs in itertools.groupby(ranked(done), lambda one: one.job.config.direction):
        found |= {one: place for place, one in enumerate(jobs, start=1)}
    return found


def best_of(done: "Sequence[JobDone]") -> "JobDone | None":
    """Return the best job; None where there is none, or some go down and others up."""
    directions = {one.job.config.direction for one in done}
    return next(ranked(done), None) if len(directions) == 1 else None
