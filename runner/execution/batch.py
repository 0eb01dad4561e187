"""Executing runs together as one batch: descend, show progress, and send journal entries."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from runner.engine.diagnostics import Diagnostics
from runner.engine.problem import Batch, check_batch, nan_start, prepare, starts_with_nan
from runner.engine.progress import Descent
from runner.engine.result import Outcome, Result
from runner.execution.recording import PlannedRun, Recording, Sink
from runner.execution.trajectory import Trajectory
from runner.messages.errors import RunnerError
from runner.process import signals
from runner.process.tracebacks import described
from runner.tensors.device import Hardware, choose_device, set_threads


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
    members = [run.member for run in runs]
    config = members[0].config
    hardware = Hardware(choose_device(config.device), *set_threads(config.threads, config.interop_threads))
    batch = prepare(members)
    if config.parent_run is None:
        _check_start(batch)
    view.start(hardware, batch)
    recording = Recording(runs, sink, batch.lr_varies, trajectory)
    recording.begin(hardware, batch.problem.start.weight[: len(runs)])
    descent, diagnostics = Descent(batch), Diagnostics(members, batch.lr_varies)

    def result(index: int) -> Result:
        found = descent.result(index)
        remarks = (*found.remarks, *diagnostics.remarks(index))
        return replace(found, measured=diagnostics.last(index), best_measured=diagnostics.best(index), remarks=remarks)

    try:
        nan = starts_with_nan(batch)
        descent.end_at_start(nan)
        recording.end({index: result(index) for index in nan})
        for passed in descent.blocks():
            recording.block(passed, diagnostics)
            recording.end({index: result(index) for index in passed.endings})
            view.progress(descent)
            if check is not None:
                check()
            signals.check()
    except BaseException as error:
        if len(runs) > 1 and isinstance(error, Exception) and not isinstance(error, RunnerError):
            ended = {index: result(index) for index in descent.endings}
            raise BatchError(ended, {index: recording.recorded[index] for index in descent.active}) from error
        unfinished = {index: replace(result(index), outcome=_outcome_of(error)) for index in descent.active}
        recording.end(unfinished, reason=described(error))
        view.stop()
        raise
    return [result(index) for index in range(len(runs))]


def _check_start(batch: Batch) -> None:
    """Check that a single run can make its first step.

    Raises:
        UserError: the loss or its gradient cannot be computed at the start, or is NaN there.
    """
    check_batch(batch)
    for index, what in starts_with_nan(batch).items():
        raise nan_start(batch.members[index], what)


def _outcome_of(error: BaseException) -> Outcome:
    return Outcome.KILLED if isinstance(error, KeyboardInterrupt | SystemExit) else Outcome.FAILED
