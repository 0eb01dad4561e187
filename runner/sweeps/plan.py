"""A plan of a sweep: it is asked for jobs and given their results, until it has no more jobs."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from runner.sweeps.job import Job
from runner.sweeps.outcome import JobResult, best_of

# How many jobs a grid gives at a time: the memory of a larger sweep does not grow by their configs and tensors.
ROUND = 10_000


@dataclass(frozen=True)
class Point:
    """Values of metrics at one step of the parent run.

    Attributes:
        time_ms: the same whenever the point is recorded again, which then changes nothing.
    """

    step: int
    time_ms: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Findings:
    """What a plan found, for the record of the parent run.

    Attributes:
        best: the best job, if it is among the results.
        points: values of metrics of the parent run.
        tags: of the parent run.
        sentences: what its description says first.
        overrides: those that choose the plan, for the command that repeats the sweep.
    """

    best: JobResult | None
    points: Sequence[Point] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    sentences: Sequence[str] = ()
    overrides: Sequence[str] = ()


class JobPruning(Protocol):
    """Decides which jobs of a plan end early."""

    def rungs(self, steps: int) -> Sequence[int]:
        """Return the steps, in order, at which jobs of so many steps may be pruned."""

    def pruned(
        self, step: int, metrics: Mapping[Job, Mapping[str, float]], ended: Sequence[JobResult]
    ) -> Collection[Job]:
        """Return which jobs end at a rung.

        Args:
            step: of the rung.
            metrics: the results so far of the jobs that wait there.
            ended: how others that were asked for with them have ended.
        """

    def more(self, ended: Sequence[JobResult]) -> Sequence[Job]:
        """Return further jobs to run at once, since others have ended; none if there are none now."""


class Plan(ABC):
    """Chooses the jobs of a sweep, one group after another."""

    # What several processes may work on at once, each with a parent run of its own.
    study: str | None = None
    # Decides which jobs end early; None where all make all their steps.
    pruning: JobPruning | None = None

    @abstractmethod
    def ask(self) -> Sequence[Job]:
        """Return the next jobs to run; empty when the sweep is over."""

    @abstractmethod
    def later(self) -> Iterator[Sequence[Job]]:
        """Yield the jobs that `ask` will return, as far as they are known, so that they can be checked beforehand."""

    @abstractmethod
    def tell(self, results: Sequence[JobResult]) -> None:
        """Take the results of jobs that were asked for; some of them may be told already."""

    def start(self, run: str, jobs: Sequence[Job]) -> Sequence[Job]:
        """Take the runner's id of the parent run, and return those of the first jobs that are its own."""
        return jobs

    def best(self, results: Sequence[JobResult]) -> JobResult | None:
        """Return the best of some jobs."""
        return best_of(results)

    def points(self) -> Sequence[Point]:
        """Return what is new for the record of the parent run."""
        return ()

    def findings(self, results: Sequence[JobResult]) -> Findings:
        """Return what the plan found, given the results of all jobs of the parent run."""
        return Findings(self.best(results))

    def close(self) -> None:
        """Give up the jobs of which no results were told: the sweep has ended."""
        return


class GridPlan(Plan):
    """A plan whose jobs are all known beforehand."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = jobs
        self._asked = 0

    def ask(self) -> Sequence[Job]:
        """Return the next ROUND jobs."""
        jobs = self._jobs[self._asked : self._asked + ROUND]
        self._asked += len(jobs)
        return jobs

    def later(self) -> Iterator[Sequence[Job]]:
        """Yield the jobs that have not been asked for."""
        for first in range(self._asked, len(self._jobs), ROUND):
            yield self._jobs[first : first + ROUND]

    def tell(self, results: Sequence[JobResult]) -> None:
        """Ignore the results."""
