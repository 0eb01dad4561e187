"""What a person sees of a sweep: what starts, how far it is, the best at the end."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from runner.config.direction import Direction
from runner.config.schema import Config
from runner.console.bar import Bar, has_bars
from runner.console.run import say_recorded, stopped_record
from runner.messages.printing import say, warn
from runner.sweeps.job import Job
from runner.sweeps.labels import ENOUGH, FEWEST, digits_apart
from runner.sweeps.outcome import DISTANCE, JobDone, counts, places, ranked, said_diverged

if TYPE_CHECKING:
    from runner.engine.batches import Member
    from runner.engine.problem import Batch
    from runner.engine.progress import Descent
    from runner.tensors.device import Hardware
    from runner.tracking.tracker import Recorded

BEST = 10
LINE_SECONDS = 10
REASONS = 5


class SweepConsole:
    """Prints to standard output: a bar on a terminal, sparse lines elsewhere, nothing when quiet."""

    def __init__(self, config: Config, jobs: Sequence[Job]) -> None:
        self._config = config
        self._jobs = len(jobs)
        self._steps = sum(job.config.steps for job in jobs)
        self._done_jobs = self._done_steps = 0
        self._next_line = time.monotonic() + LINE_SECONDS
        self._best: dict[Direction, float] = {}
        self._has_started = False
        self._shown = (0, 0)
        self.has_ended = False
        self._recorded: Callable[[], Recorded | None] = lambda: None
        self._bar: Bar | None = None

    def records(self, recorded: "Callable[[], Recorded | None]") -> None:
        """Take what tells where the parent run is recorded."""
        self._recorded = recorded

    def starts_anew(self) -> None:
        """Say that there is no sweep to continue."""
        if not self._config.quiet:
            say("resume     no sweep written like this is recorded: it begins")

    def kinds(self, groups: "Sequence[Sequence[Member]]") -> None:
        """Say what cannot share a batch, and why, and how many jobs are left to run."""
        left = sum(map(len, groups))
        self._done_jobs = self._jobs - left
        self._done_steps = self._steps - sum(member.config.steps for group in groups for member in group)
        if self._config.quiet:
            return
        skipped = f", {self._done_jobs:,} of them done before" if self._done_jobs else ""
        kinds = len([group for group in groups if group[0].why_alone is None])
        together = f" in {kinds:,} batch{'es' if kinds != 1 else ''}" if kinds else ""
        say(f"sweep      {self._jobs:,} job{'s' if self._jobs != 1 else ''}{together}{skipped}")
        reasons: dict[str, int] = {}
        for group in groups:
            if (why := group[0].why_alone) is not None:
                reasons[why] = reasons.get(why, 0) + 1
        for why, number in list(reasons.items())[:REASONS]:
            say(f"           {number:,} one by one: {why}")

    def start(self, hardware: "Hardware", batch: "Batch") -> None:
        """Say on what the first batch runs."""
        if self._config.quiet or self._has_started:
            return
        self._has_started = True
        say(f"device     {hardware}")
        if has_bars():
            self._bar = Bar(self._steps, self._done_steps)

    def progress(self, descent: "Descent") -> None:
        """Show how far the sweep has come."""
        way = descent.direction
        self._best[way] = way.best([self._best.get(way, way.worst), descent.best])
        self._show(self._done_steps + descent.steps_made, self._done_jobs + len(descent.endings))

    def portion_done(self, jobs: int, steps: int) -> None:
        """Take it that jobs are done, whose lengths were so many steps together."""
        self._done_jobs += jobs
        self._done_steps += steps
        self._show(self._done_steps, self._done_jobs)

    def _show(self, steps: int, jobs: int) -> None:
        self._shown = (steps, jobs)
        if self._bar is not None:
            self._bar.show(steps, f"{jobs:,} of {self._jobs:,} runs", self._best_so_far())
        elif not self._config.quiet and time.monotonic() >= self._next_line:
            say(f"{jobs:>9,} of {self._jobs:,} runs ended, {steps:,} steps  {self._best_so_far()}")
            self._next_line = time.monotonic() + LINE_SECONDS

    def _best_so_far(self) -> str:
        names = {Direction.DOWN: "lowest", Direction.UP: "highest"} if len(self._best) > 1 else {}
        return ", ".join(f"{names.get(way, 'best')} loss {loss:.6g}" for way, loss in self._best.items())

    def recording(self, recorded: int, total: int) -> None:
        """Show how far the recorder has caught up after the last step, of so many bytes."""
        if self._config.quiet or not self.has_ended or not has_bars():
            return
        if self._bar is None and recorded < total:
            self._bar = Bar(total, unit="")
        if self._bar is not None:
            self._bar.reach(total)
            self._bar.show(recorded, "recording")
        if recorded >= total:
            self.stop()

    def stop(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def stopped(self) -> Iterator[str]:
        """Yield where a signal has stopped the sweep, and where that is recorded."""
        self.stop()
        steps, jobs = self._shown
        if self.has_ended:
            yield f"stopped    after the end of all {self._jobs:,} runs, while they were being recorded"
        elif steps == 0:
            yield f"stopped    before the first step of {self._jobs:,} runs was done"
        else:
            best = f"; {self._best_so_far()}" if self._best else ""
            yield f"stopped    when {jobs:,} of {self._jobs:,} runs had ended, {steps:,} of {self._steps:,} steps{best}"
        recorded = self._recorded()
        if steps > 0 or recorded is not None:
            yield from stopped_record(recorded, self._config)

    def finish(self, done: Sequence[JobDone], recorded: "Recorded | None") -> None:
        """Say how many jobs ended how, which are the best, and where they are recorded."""
        self.stop()
        diverged = [one.job.name for one in done if one.has_diverged]
        if self._config.quiet and diverged and not self._config.fail_on_divergence:
            warn(said_diverged(diverged, len(done)))
        if not self._config.quiet:
            say(_totals(done), *_best_lines(done), *_spread_lines(done))
        say_recorded(recorded, self._config)


def _totals(done: Sequence[JobDone]) -> str:
    number = {key.removeprefix("jobs_"): int(count) for key, count in counts(done).items()}
    skipped, failed = number["skipped"], number["failed"]
    never = number.get("not_run", 0)
    ran = len(done) - skipped - never
    still = [one.status == "SKIPPED" for one in done if one.still_since is not None]
    number["stood still"] = still.count(False)
    how = ", ".join(f"{number[key]:,} {key}" for key in ("stopped", "diverged", "stood still") if number[key])
    finished = f"{ran - failed:,} finished" + (f" ({how})" if how else "")
    jobs = f"{len(done):,} job{'s' if len(done) != 1 else ''}"
    earlier = sum(one.has_diverged and one.status == "SKIPPED" for one in done)
    of_these = {"diverged": earlier, "stood still": still.count(True)}
    then = ", ".join(f"{many:,} {what}" for what, many in of_these.items() if many)
    before = f"{skipped:,} skipped" + (f" ({then})" if then else "")
    return f"ended      {jobs} asked for, {before}, {ran:,} run: {finished}, {failed:,} failed" + (
        f"; {never:,} not run" if never else ""
    )


def _best_lines(done: Sequence[JobDone]) -> Iterator[str]:
    if len(done) < 2:
        return
    shown = {one: place for one, place in places(done).items() if place <= BEST}
    loss_digits = digits_apart((one.loss for one in shown if one.loss is not None), ENOUGH)
    distances = {one: one.metrics[DISTANCE] for one in shown if DISTANCE in one.metrics}
    digits = digits_apart(distances.values(), FEWEST)
    width = max((len(one.job.name) for one in shown), default=0)
    for one, place in shown.items():
        distance = f"  distance {distances[one]:.{digits}g}" if one in distances else ""
        first = "best" if place == 1 else ""
        still = "" if one.still_since is None else f"  still since step {one.still_since:,}"
        yield f"{first:<6}{place:>3}  {one.job.name:<{width}}  loss {one.loss:.{loss_digits}g}{distance}{still}"


def _spread_lines(done: Sequence[JobDone]) -> Iterator[str]:
    """Yield the means and spreads over seeds, where each combination ran with several of them."""
    by_name: dict[str, list[JobDone]] = {}
    for one in done:
        if one.status != "FAILED" and any(text.startswith("seed=") for text in one.job.varying):
            by_name.setdefault(one.job.name_but_for_seed or "all", []).append(one)
    spreads = sorted(_spread_of(name, seeds) for name, seeds in by_name.items() if len(seeds) > 1)
    width = max((len(spread.name) for spread in spreads), default=0)
    digits = digits_apart((spread.place for spread in spreads[:BEST]), ENOUGH)
    for place, spread in enumerate(spreads[:BEST]):
        text = spread.text if spread.mean is None else f"loss {spread.mean:.{digits}g}{spread.text}"
        yield f"{'seeds' if place == 0 else '':<11}{spread.name:<{width}}  {text}"


class _Spread(NamedTuple):
    """How one combination went with several seeds; the better sorts before the worse."""

    is_upward: bool
    diverged: int
    place: float
    name: str
    mean: float | None
    text: str


def _spread_of(name: str, seeds: Sequence[JobDone]) -> _Spread:
    losses = [one.loss for one in ranked(seeds) if one.loss is not None]
    diverged = len(seeds) - len(losses)
    way = seeds[0].job.config.direction
    if not losses:
        return _Spread(way is Direction.UP, diverged, math.inf, name, None, f"all {diverged} seeds diverged")
    mean = statistics.mean(losses)
    spread = f" +- {statistics.stdev(losses):.3g}" if len(losses) > 1 else ""
    number = f"{len(losses)} seed{'s' if len(losses) > 1 else ''}" + (f", {diverged} diverged" if diverged else "")
    return _Spread(way is Direction.UP, diverged, way.sort_key(mean), name, mean, f"{spread} over {number}")
