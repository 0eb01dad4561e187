"""Executing shards side by side from rung to rung, where runs that cannot win end and others take their place."""

import contextlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runner.config.direction import Direction
from runner.console.view import Progress
from runner.launchers.elsewhere import Execution, Groups, Workers
from runner.launchers.shard import RungReport, RunReport
from runner.launchers.shards import Cutter
from runner.launchers.work import Pruning, SweepView, Work

if TYPE_CHECKING:
    from runner.engine.problem import Batch
    from runner.engine.progress import Descent
    from runner.launchers.running import InRungs
    from runner.tensors.device import Hardware


@dataclass
class Part:
    """A shard that is executed up to its next rung.

    Attributes:
        executing: the shard.
        view: shows its progress.
        jobs: how many runs it has.
        steps: that these were to make together.
        waiting: the rung where it waits; None before its start.
        has_ended: whether all its runs have ended.
    """

    executing: "InRungs"
    view: "PartView"
    jobs: int
    steps: int
    waiting: RungReport | None = None
    has_ended: bool = False

    def advance(self, pruned: Collection[str], decided: int) -> Iterator[RunReport]:
        """Execute the shard up to its next rung, and yield how runs ended.

        Args:
            pruned: which of the waiting runs end.
            decided: the last rung that is decided; runs that are executed again pass it.
        """
        while True:
            found = self._next(pruned)
            if found is None:
                self.view.done(self.jobs, self.steps)
                return
            if isinstance(found, RunReport):
                yield found
            elif found.step > decided:
                return
            pruned = ()

    def _next(self, pruned: Collection[str]) -> RunReport | RungReport | None:
        """Return what the shard yields next; None when all its runs have ended."""
        try:
            found = next(self.executing) if self.waiting is None else self.executing.send(pruned)
        except StopIteration:
            self.waiting, self.has_ended = None, True
            return None
        self.waiting = found if isinstance(found, RungReport) else None
        return found


@dataclass
class _Cohort:
    """Shards whose runs began together, and are compared at each rung.

    Attributes:
        began: after how many steps of the first cohort.
        decided: the last rung where it was decided who goes on.
    """

    parts: list[Part]
    began: int = 0
    decided: int = 0

    @property
    def clock(self) -> int:
        """How many steps the first cohort would have made by now, if all were executed at once."""
        return self.began + self.decided

    def advance(self, pruning: Pruning) -> Iterator[RunReport]:
        """Decide who is pruned at the rung where the shards wait, and execute them up to the next."""
        waiting = [part.waiting for part in self.parts if part.waiting is not None]
        pruned: Collection[str] = ()
        if waiting:
            self.decided = min(one.step for one in waiting)
            metrics = {run: values for one in waiting for run, values in one.metrics.items()}
            pruned = pruning.pruned(self.decided, metrics)
        for part in self.parts:
            yield from part.advance(pruned, self.decided)
        self.parts = [part for part in self.parts if not part.has_ended]


@dataclass
class _Together:
    """The progress of several batches, shown as one."""

    view: SweepView
    made: dict[int, tuple[int, int]] = field(default_factory=dict)
    best: dict[Direction, float] = field(default_factory=dict)

    count: int = 0

    def of_part(self) -> "PartView":
        """Return a view of one of the shards."""
        self.count += 1
        return PartView(self, self.count)

    def show(self) -> None:
        """Show how many steps and ends there are in all shards together."""
        steps, ended = (sum(made[place] for made in self.made.values()) for place in (0, 1))
        self.view.progress_elsewhere(Progress(steps, ended, self.best, ""))


@dataclass
class PartView:
    """The progress of one of several shards."""

    together: _Together
    number: int

    def start(self, hardware: "Hardware", batch: "Batch") -> None:
        """Show the device."""
        self.together.view.of_batch.start(hardware, batch)

    def progress(self, descent: "Descent") -> None:
        """Count the steps and ends of the shard."""
        descent.direction.keep_best(self.together.best, descent.best)
        self.together.made[self.number] = (descent.steps_made, descent.ended)
        self.together.show()

    def done(self, jobs: int, steps: int) -> None:
        """Count the jobs of the shard as done, with all their steps."""
        self.together.made.pop(self.number, None)
        self.together.view.shard_done(jobs, steps)

    def stop(self) -> None:
        """Remove the progress bar."""
        self.together.view.of_batch.stop()


def reports_in_rungs(
    work: Work, pruning: Pruning, parts_of: "Callable[[Work, Callable[[], PartView]], list[Part]]"
) -> Iterator[RunReport]:
    """Execute runs from rung to rung, and yield how each ended.

    All shards of runs that began together reach a rung before any of them goes on, so that which runs are pruned does
    not depend on how they are split.

    Args:
        work: the runs.
        pruning: decides which of them end early, and adds others.
        parts_of: makes the shards of runs; each asks for a view of its own.
    """
    together = _Together(work.view)
    cohorts: list[_Cohort] = []
    has_failed = False
    with contextlib.ExitStack() as stack:

        def begin(work: Work, clock: int) -> None:
            parts = parts_of(work, together.of_part)
            for part in parts:
                stack.callback(part.executing.close)
            cohorts.append(_Cohort(parts, clock))

        begin(work, 0)
        while cohorts:
            next_one = min(cohorts, key=lambda cohort: cohort.clock)
            for report in next_one.advance(pruning):
                has_failed |= report.status == "FAILED"
                yield report
            if work.fail_fast and has_failed:
                return
            cohorts[:] = [cohort for cohort in cohorts if cohort.parts]
            if (more := pruning.more()) is not None:
                begin(more, next_one.clock)


def reports_elsewhere_in_rungs(
    work: Work, pruning: Pruning, workers: Workers, cutter_of: Callable[[Groups], Cutter], max_retries: int
) -> Iterator[RunReport]:
    """Execute runs by other processes from rung to rung, and yield how each ended.

    Args:
        work: the runs.
        pruning: decides which of them end early, and adds others.
        workers: the processes.
        cutter_of: cuts groups of runs into shards.
        max_retries: how often a shard is given to another worker when one has died of it.
    """

    def parts_of(work: Work, new_view: Callable[[], PartView]) -> list[Part]:
        steps = [member.config.steps for group in work.groups for member in group]
        execution = Execution(work, workers, cutter_of(()), max_retries)
        shards = execution.in_rungs(pruning.rungs(max(steps, default=1)), cutter_of)
        return [Part(shards, new_view(), len(steps), sum(steps))]

    yield from reports_in_rungs(work, pruning, parts_of)
