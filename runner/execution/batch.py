"""Executing runs together as one batch: descend, show progress, and send journal entries."""

import time
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

from runner.engine.diagnostics import Diagnostics
from runner.engine.engines import close, engine_of
from runner.engine.problem import Batch, check_batch, nan_start, prepare, starts_with_nan
from runner.engine.progress import ActiveBlock, Descent
from runner.engine.result import Outcome, Result
from runner.execution.metrics import final_metrics
from runner.execution.recording import PlannedRun, Recording, Sink
from runner.execution.trajectory import Trajectory
from runner.messages.errors import RunnerError
from runner.process import signals
from runner.process.tracebacks import described
from runner.tensors.device import Hardware, choose_device, set_threads

# Why runs end that wait at a rung when others of their sweep are stopped.
OTHERS_STOPPED = "the sweep was stopped"


class View(Protocol):
    """Shows the progress of a batch."""

    def start(self, hardware: Hardware, batch: Batch) -> None:
        """Show what is about to run, and on which device."""

    def progress(self, descent: Descent) -> None:
        """Show how many steps are done."""

    def stop(self) -> None:
        """Remove the progress bar."""


class BatchError(Exception):
    """A batch of several runs raised an error, and any one of them may have caused it.

    Attributes:
        ended: the results of the runs that had ended before, by index.
        recorded: the last recorded step of each other run, by index.
    """

    def __init__(self, ended: dict[int, Result], recorded: dict[int, int]) -> None:
        super().__init__("a batch failed")
        self.ended = ended
        self.recorded = recorded


@dataclass(frozen=True)
class AtRung:
    """Runs have made the steps up to a rung, where those that cannot win may be pruned.

    Attributes:
        step: of the rung.
        metrics: the results so far of each run that has not ended, by index.
        ended: the results of the others, by index.
    """

    step: int
    metrics: Mapping[int, Mapping[str, float]]
    ended: Mapping[int, Result]


# Yields at each rung, is sent the indices of the runs to prune, and returns the results.
InRungs: TypeAlias = Generator[AtRung, Collection[int], list[Result]]


def execute(
    runs: Sequence[PlannedRun],
    sink: Sink,
    view: View,
    trajectory: Trajectory | None = None,
    check: Callable[[], None] | None = None,
) -> list[Result]:
    """Execute runs of one kind as one batch, and return their results.

    A start at which the loss or its gradient is NaN is an error for a single run; a run of a sweep has diverged at
    step 0 there. A single run that raises an error is recorded as FAILED.

    Args:
        runs: what to run.
        sink: takes the journal entries.
        view: shows the progress.
        trajectory: keeps the recorded steps of the first run.
        check: called after each block of steps; raises an error to end the batch.

    Raises:
        UserError: a config does not fit this machine or its objective; nothing was recorded.
        BatchError: the batch has several runs, and an error was raised.
    """
    try:
        next(execute_in_rungs(runs, (), sink, view, trajectory, check))
    except StopIteration as ended:
        results: list[Result] = ended.value
        return results
    raise AssertionError("there are no rungs to stop at")


def execute_in_rungs(
    runs: Sequence[PlannedRun],
    rungs: Sequence[int],
    sink: Sink,
    view: View,
    trajectory: Trajectory | None = None,
    check: Callable[[], None] | None = None,
) -> InRungs:
    """Execute runs as `execute` does, and stop at each rung to be sent the runs to prune.

    The arguments and errors are those of `execute`; `rungs` are steps, in order.
    """
    members = [run.member for run in runs]
    config = members[0].config
    hardware = Hardware(choose_device(config.device), *set_threads(config.threads, config.interop_threads))
    batch = prepare(members)
    if config.parent_run is None:
        _check_start(batch)
    engine = engine_of(batch)
    view.start(hardware, batch)
    recording = Recording(runs, sink, batch.lr_varies, trajectory)
    recording.begin(hardware, batch.problem.start.weight[: len(runs)])
    running = _Running(
        list(range(len(runs))), Descent(batch, rungs, engine), Diagnostics(members, batch.lr_varies), recording, {}
    )
    try:
        nan = starts_with_nan(batch)
        running.descent.end_at_start(nan)
        running.end(nan)
        while running.descent.active:
            running = yield from _steps(running, rungs, view, check)
    except BaseException as error:
        if len(runs) > 1 and isinstance(error, Exception) and not isinstance(error, RunnerError):
            raise BatchError(running.results, running.recorded) from error
        running.end(running.unended, error)
        view.stop()
        raise
    finally:
        close(engine)
    return [running.results[index] for index in range(len(runs))]


def _steps(
    running: "_Running", rungs: Sequence[int], view: View, check: Callable[[], None] | None
) -> "Generator[AtRung, Collection[int], _Running]":
    """Make steps until all runs have ended or so many are pruned that the others take fewer rows; return those."""
    descent = running.descent
    for passed in descent.blocks():
        running.recording.block(passed, running.diagnostics)
        running.end(passed.endings)
        view.progress(descent)
        if check is not None:
            check()
        signals.check()
        if passed.block.last in rungs and descent.active:
            since = time.perf_counter()
            pruned = yield AtRung(passed.block.last, running.metrics(), running.results)
            descent.wait(time.perf_counter() - since)
            running.prune(pruned, passed)
            if pruned and descent.active and descent.needs_fewer_rows:
                return running.of_active()
    return running


@dataclass
class _Running:
    """The runs of a batch that have rows in it.

    Attributes:
        places: the index of each among the runs that were given.
        results: of the runs that have ended, by that index.
    """

    places: list[int]
    descent: Descent
    diagnostics: Diagnostics
    recording: Recording
    results: dict[int, Result]

    def result(self, run: int) -> Result:
        """Return the result of a run so far."""
        found, measured = self.descent.result(run), self.diagnostics
        remarks = (*found.remarks, *measured.remarks(run))
        return replace(found, measured=measured.last(run), best_measured=measured.best(run), remarks=remarks)

    def metrics(self) -> dict[int, Mapping[str, float]]:
        """Return the results so far of the active runs, by index among those that were given."""
        return {self.places[run]: final_metrics(self.result(run)) for run in self.descent.active}

    @property
    def recorded(self) -> dict[int, int]:
        """The last recorded step of each run that has not ended, by index among those that were given."""
        return {self.places[run]: self.recording.recorded[run] for run in self.unended}

    @property
    def unended(self) -> list[int]:
        """The runs whose end is not recorded."""
        return [run for run, place in enumerate(self.places) if place not in self.results]

    def end(self, runs: Iterable[int], error: BaseException | None = None) -> None:
        """Record the end of runs; `error` is what stopped those that did not end by themselves."""
        results = {run: self.result(run) for run in runs}
        if error is not None:
            results = {run: replace(result, outcome=_outcome_of(error)) for run, result in results.items()}
        self.results |= {self.places[run]: result for run, result in results.items()}
        self.recording.end(results, reason=None if error is None else _reason_of(error))

    def prune(self, pruned: Collection[int], passed: ActiveBlock) -> None:
        """End runs, given by their index among those that were given, after the last step of a block."""
        runs = [run for run in self.descent.active if self.places[run] in pruned]
        self.descent.prune(runs)
        unrecorded = [run for run in runs if self.recording.recorded[run] < passed.block.last]
        last = ActiveBlock(passed.block.last_step, unrecorded, {run: self.descent.endings[run] for run in unrecorded})
        self.recording.block(last, self.diagnostics)
        self.end(runs)

    def of_active(self) -> "_Running":
        """Return the active runs with rows of their own."""
        runs = self.descent.active
        places = [self.places[run] for run in runs]
        return _Running(
            places,
            self.descent.of_active(),
            self.diagnostics.of_runs(runs),
            self.recording.of_runs(runs),
            self.results,
        )


def _check_start(batch: Batch) -> None:
    """Check that a single run can make its first step.

    Raises:
        UserError: the loss or its gradient cannot be computed at the start, or is NaN there.
    """
    check_batch(batch)
    for index, what in starts_with_nan(batch).items():
        raise nan_start(batch.members[index], what)


def _outcome_of(error: BaseException) -> Outcome:
    return Outcome.KILLED if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit) else Outcome.FAILED


def _reason_of(error: BaseException) -> str:
    return OTHERS_STOPPED if isinstance(error, GeneratorExit) else described(error)
