"""Pruning the runs of a sweep as its plan prunes their jobs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from runner.launchers.work import Work
from runner.sweeps.job import Job
from runner.sweeps.outcome import JobResult
from runner.sweeps.plan import JobPruning


class RunningSweep(Protocol):
    """A sweep whose jobs are being run."""

    @property
    def running(self) -> Mapping[str, Job]:
        """The jobs that were asked for last, by the runner's ids of their runs."""

    @property
    def ended(self) -> Sequence[JobResult]:
        """How those of them have ended that have."""

    def more(self, jobs: Sequence[Job], pruning: JobPruning) -> Work:
        """Return jobs that are to run beside those that run already."""


@dataclass(frozen=True)
class RunPruning:
    """Prunes the runs of the jobs that a plan prunes."""

    pruning: JobPruning
    sweep: RunningSweep

    def rungs(self, steps: int) -> Sequence[int]:
        """Return the steps, in order, at which runs of so many steps may be pruned."""
        return self.pruning.rungs(steps)

    def pruned(self, step: int, metrics: Mapping[str, Mapping[str, float]]) -> Collection[str]:
        """Return which of the runs with these results end at a rung."""
        jobs = self.sweep.running
        by_job = {jobs[run]: values for run, values in metrics.items()}
        found = {id(job) for job in self.pruning.pruned(step, by_job, self.sweep.ended)}
        return [run for run in metrics if id(jobs[run]) in found]

    def more(self) -> Work | None:
        """Return the further runs that the plan has for the room that others have left; None if there are none."""
        jobs = self.pruning.more(self.sweep.ended)
        return self.sweep.more(jobs, self.pruning) if jobs else None
