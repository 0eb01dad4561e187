"""What the terminal shows of a sweep while it runs: its batches, and how many jobs and steps are done."""

import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Self

from runner.config.direction import Direction
from runner.config.schema import Config
from runner.console.bar import SPACE, Bar, has_bars
from runner.console.recorded import interrupted_record
from runner.console.view import Progress, ProgressView
from runner.messages.printing import print_lines

if TYPE_CHECKING:
    from runner.engine.batches import Member
    from runner.engine.problem import Batch
    from runner.engine.progress import Descent
    from runner.tensors.device import Hardware

LINE_SECONDS = 10
REASONS = 5


class SweepConsole(ProgressView):
    """Shows the progress of a sweep."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._jobs = self._steps = 0
        self._new_jobs = 0
        self._done_jobs = self._done_steps = 0
        self._current = (0, 0)
        self._next_line = time.monotonic() + LINE_SECONDS
        self._best: dict[Direction, float] = {}
        self._has_started = False
        self._places = ""
        self._started_at, self._steps_at_start = time.monotonic(), 0

    def add(self, jobs: int, steps: int) -> None:
        """Count further jobs that the plan asks for, and their steps."""
        self._new_jobs += jobs
        self._jobs += jobs
        self._steps += steps
        if self._bar is not None:
            self._bar.set_total(self._steps)

    def print_new(self) -> None:
        """Print that `resume` found no sweep to continue."""
        if not self._config.quiet:
            print_lines("resume     no such sweep is recorded: a new one is started")

    def skip(self, jobs: int, steps: int) -> None:
        """Count jobs as done that an earlier sweep has done."""
        self._done_jobs += jobs
        self._done_steps += steps

    def print_batches(self, groups: "Sequence[Sequence[Member]]", done: int, at_a_time: int | None = None) -> None:
        """Print the number of new jobs and of batches, and why some jobs cannot share a batch.

        Args:
            groups: the jobs to run, grouped into those that can share a batch.
            done: how many other jobs an earlier sweep has done.
            at_a_time: how many jobs are run before the next; None for all.
        """
        new, self._new_jobs = self._new_jobs, 0
        if self._config.quiet:
            return
        skipped = f", {done:,} of them already done" if done else ""
        skipped += f", {at_a_time:,} at a time" if at_a_time is not None else ""
        kinds = len([group for group in groups if group[0].why_alone is None])
        together = f" in {kinds:,} batch{'es' if kinds != 1 else ''}" if kinds else ""
        print_lines(f"sweep      {new:,} job{'s' if new != 1 else ''}{together}{skipped}")
        reasons: dict[str, int] = {}
        for group in groups:
            if (why := group[0].why_alone) is not None:
                reasons[why] = reasons.get(why, 0) + 1
        for why, number in list(reasons.items())[:REASONS]:
            print_lines(f"           {number:,} one by one: {why}")

    def start(self, hardware: "Hardware", batch: "Batch") -> None:
        """Print the device of the first batch."""
        self._start_on(str(hardware))

    def progress(self, descent: "Descent") -> None:
        """Show how many jobs and steps are done, and the best loss."""
        descent.direction.keep_best(self._best, descent.best)
        self._show(self._done_steps + descent.steps_made, self._done_jobs + descent.ended)

    @property
    def of_batch(self) -> Self:
        """Shows the progress of a batch in this process."""
        return self

    def start_elsewhere(self, places: str) -> None:
        """Print where the shards run."""
        self._start_on(places)

    def _start_on(self, device: str) -> None:
        if self._config.quiet or self._has_started:
            return
        self._has_started = True
        self._started_at, self._steps_at_start = time.monotonic(), self._done_steps
        print_lines(f"device     {device}")
        if has_bars():
            self._bar = Bar(self._steps, self._done_steps)

    def progress_elsewhere(self, progress: Progress) -> None:
        """Show how many jobs and steps are done by the shards that run elsewhere, and what runs there."""
        for direction, loss in progress.best.items():
            direction.keep_best(self._best, loss)
        self._places = progress.places
        self._show(self._done_steps + progress.steps, self._done_jobs + progress.ended)

    def shard_done(self, jobs: int, steps: int) -> None:
        """Count the jobs of a shard as done, with all their steps."""
        self._done_jobs += jobs
        self._done_steps += steps
        self._show(self._done_steps, self._done_jobs)

    def _show(self, steps: int, jobs: int) -> None:
        self._current = (steps, jobs)
        if self._bar is not None:
            self._bar.show(steps, f"{jobs:,} of {self._jobs:,} runs", self._found())
        elif not self._config.quiet and time.monotonic() >= self._next_line:
            print_lines(f"{jobs:>9,} of {self._jobs:,} runs ended, {steps:,} steps{self._speed()}  {self._found()}")
            self._next_line = time.monotonic() + LINE_SECONDS

    def _found(self) -> str:
        return SPACE.join(part for part in (self._best_so_far(), self._places) if part)

    def _speed(self) -> str:
        """Return the steps a second and the time left, where shards run elsewhere."""
        steps, _ = self._current
        made, seconds = steps - self._steps_at_start, time.monotonic() - self._started_at
        if not self._places or made <= 0 or seconds <= 0:
            return ""
        left = timedelta(seconds=int((self._steps - steps) * seconds / made))
        return f" ({made / seconds:,.0f}/s, {left} left)"

    def _best_so_far(self) -> str:
        names = {Direction.DOWN: "lowest", Direction.UP: "highest"} if len(self._best) > 1 else {}
        return ", ".join(f"{names.get(direction, 'best')} loss {loss:.6g}" for direction, loss in self._best.items())

    def recording(self, recorded: int, total: int) -> None:
        """Show how many bytes of the journal are recorded, once all steps are done."""
        if self._config.quiet or not self.has_ended or not has_bars():
            return
        if self._bar is None and recorded < total:
            self._bar = Bar(total, unit="")
        if self._bar is not None:
            self._bar.set_total(total)
            self._bar.show(recorded, "recording")
        if recorded >= total:
            self.stop()

    def stopped(self) -> Iterator[str]:
        """Yield where a signal stopped the sweep, and where it is recorded."""
        self.stop()
        steps, jobs = self._current
        if self.has_ended:
            yield f"stopped    after the end of all {self._jobs:,} runs, while they were being recorded"
        elif steps == 0:
            yield f"stopped    before the first step of {self._jobs:,} runs was done"
        else:
            best = f"; {self._best_so_far()}" if self._best else ""
            yield f"stopped    when {jobs:,} of {self._jobs:,} runs had ended, {steps:,} of {self._steps:,} steps{best}"
        recorded = self.find_record()
        if steps > 0 or recorded is not None:
            yield from interrupted_record(recorded, self._config)
