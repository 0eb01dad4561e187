"""One run from config to result; torch is imported after the recorder process has started."""

import atexit
import contextlib
import gc
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.config.initial import is_saved
from runner.config.schema import Config
from runner.console.recorded import print_recorded
from runner.console.run import Console
from runner.console.view import notes_on_signal
from runner.messages.errors import DivergedError
from runner.report import drawing
from runner.tracking.journal import Entry
from runner.tracking.tracker import Recorded, tracking_to

if TYPE_CHECKING:
    from runner.engine.result import Result
    from runner.execution.recording import Sink
    from runner.execution.trajectory import Trajectory


@dataclass(frozen=True)
class Done:
    """A run that has ended: its result, its recorded steps if they were kept, and where it is recorded."""

    result: "Result"
    trajectory: "Trajectory | None"
    recorded: Recorded | None


def run(config: Config, trajectory: "Trajectory | None" = None, overrides: Sequence[str] = ()) -> Done:
    """Execute and record the run that a config describes, as `record` does.

    Raises:
        UserError: the config does not fit this machine, its objective or its store; nothing is recorded.
        RecordingError: the run ended normally, but could not be recorded completely.
        DivergedError: the run diverged, and `fail_on_divergence` is true; it is recorded.
    """
    done = record(config, trajectory, overrides)
    raise_diverged(done, config)
    return done


def raise_diverged(done: Done, config: Config) -> None:
    """Raise an error where a run has diverged that has `fail_on_divergence=true`; a sweep counts its jobs itself.

    Raises:
        DivergedError: it did.
    """
    if config.parent_run is None and config.fail_on_divergence and done.result.divergence is not None:
        raise DivergedError(f"{done.result.divergence}, and fail_on_divergence=true")


def record(
    config: Config,
    trajectory: "Trajectory | None" = None,
    overrides: Sequence[str] = (),
    tags: Mapping[str, str] | None = None,
    also_to: "Sink | None" = None,
) -> Done:
    """Execute and record the run that a config describes.

    Args:
        config: what to run.
        trajectory: keeps the recorded steps.
        overrides: those that the config was composed of, which are recorded with it.
        tags: recorded in addition to those that every run has.
        also_to: takes the journal entries, too.

    Raises:
        UserError: the config does not fit this machine, its objective or its store; nothing is recorded.
        RecordingError: the run ended normally, but could not be recorded completely.
    """
    if is_saved(config.initial_weight):
        from runner.execution.saved_weights import fetch_starts

        fetch_starts([config])
    console = Console(config)
    with notes_on_signal(console.stopped), tracking_to(config.tracking, afterwards=drawing(config)) as tracker:
        with no_garbage_collection():
            from runner.engine.batches import member_of, with_steps
            from runner.execution.batch import execute
            from runner.execution.record_files import files_of_run
            from runner.execution.recording import PlannedRun
            from runner.execution.saved_weights import is_saving
            from runner.report.notes import command_of
        config = with_steps(config)
        member, files = member_of(config), files_of_run(config, overrides)
        keeps_weights = config.keep_weights != "none"
        planned = PlannedRun(
            member,
            uuid.uuid4().hex,
            files.tags | dict(tags or {}),
            keeps_weights=keeps_weights,
            saves_weights=is_saving(config, member.objective),
            files=files.files,
            command=command_of(overrides, is_sweep=False),
        )
        console.find_record = lambda: tracker.recorded(planned.run)

        def sink(entry: Entry) -> None:
            tracker.append(entry)
            if also_to is not None:
                also_to(entry)

        (result,) = execute([planned], sink, console, trajectory, tracker.check)
        console.finish(result)
    recorded = tracker.recorded(planned.run)
    if config.parent_run is None:
        print_recorded(recorded, config)
    return Done(result, trajectory, recorded)


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Import torch without garbage collection, and exclude its objects from later ones; no effect if it is imported."""
    if "torch" in sys.modules:
        yield
        return
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        atexit.register(gc.unfreeze)  # so that Python flushes a user's open file at exit
        if was_enabled:
            gc.enable()
