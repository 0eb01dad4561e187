"""A plan of a sweep: it is asked for jobs and given their results, until it has no more jobs."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from runner.sweeps.job import Job
from runner.sweeps.outcome import JobResult

# How many jobs a grid gives at a time: the memory of a larger sweep does not grow by their configs and tensors.
ROUND = 10_000


class Plan(Protocol):
    """Chooses the jobs of a sweep, one group after another."""

    def ask(self) -> Sequence[Job]:
        """Return the next jobs to run; empty when the sweep is over."""

    def later(self) -> Iterator[Sequence[Job]]:
        """Yield the jobs that `ask` will return, as far as they are known, so that they can be checked beforehand."""

    def tell(self, results: Sequence[JobResult]) -> None:
        """Take the results of the jobs that `ask` returned last."""


class GridPlan:
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
