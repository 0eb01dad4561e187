"""A plan of a sweep: it is asked for jobs and given their results, until it has no more jobs."""

from collections.abc import Sequence
from typing import Protocol

from runner.sweeps.job import Job
from runner.sweeps.outcome import JobResult


class Plan(Protocol):
    """Chooses the jobs of a sweep, one group after another."""

    def ask(self) -> Sequence[Job]:
        """Return the next jobs to run; empty when the sweep is over."""

    def tell(self, results: Sequence[JobResult]) -> None:
        """Take the results of the jobs that `ask` returned last."""


class GridPlan:
    """A plan whose jobs are all known beforehand."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = jobs

    def ask(self) -> Sequence[Job]:
        """Return all jobs the first time, then none."""
        jobs, self._jobs = self._jobs, ()
        return jobs

    def tell(self, results: Sequence[JobResult]) -> None:
        """Ignore the results."""
