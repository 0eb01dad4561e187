"""The command `python -m runner.rerun`: its arguments, its exit codes, and what it prints."""

import argparse
import signal
from collections.abc import Sequence

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from runner.execution.job import raise_diverged
from runner.messages.errors import RunnerError, Terminated, UserError
from runner.messages.printing import guarded, print_error, print_lines
from runner.process import signals, tracebacks
from runner.reading.collection import Runs
from runner.reading.record import RunRecord
from runner.reading.selection import runs
from runner.recorder.commands import add_uri
from runner.recorder.opening import describe_error
from runner.recorder.reap import has_live_process
from runner.rerun.lines import lines_of_run, lines_of_sweep
from runner.rerun.recording import record_again
from runner.rerun.verification import Verdict, verify

DIFFERENT = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run again and return the exit code: 2 where nothing was run, 1 where `--verify` finds a difference."""
    asked = _parser().parse_intermixed_args(arguments)
    tracebacks.set_tracebacks(None)
    with signals.restored():
        signals.handle()
        try:
            with guarded():
                return _run(asked.id, asked.override, asked.uri, asked.verify)
        except RunnerError as error:
            return _report(error.lines, error.exit_code)
        except (MlflowException, OSError) as error:
            return _report([describe_error(error, asked.uri)], 1)
        except KeyboardInterrupt as stop:
            is_terminated = isinstance(stop, Terminated)
            code = 128 + (signal.SIGTERM if is_terminated else signal.SIGINT)
            return _report(["terminated" if is_terminated else "interrupted"], code, getattr(stop, "__notes__", ()))
        except Exception as error:  # of the user's function
            tracebacks.show_traceback(error)
            return _report([f"{tracebacks.described(error)}{tracebacks.traceback_hint()}"], 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m runner.rerun",
        description="Run a recorded run again, and compare every recorded number.",
    )
    parser.add_argument("id", help="of a run, or its first characters; with --verify of a sweep, too")
    parser.add_argument("override", nargs="*", help="key=value, applied after those that were recorded")
    parser.add_argument(
        "--verify", action="store_true", help="record nothing; exit with 1 if a number differs, with 0 if none does"
    )
    add_uri(parser)
    return parser


def _run(text: str, overrides: Sequence[str], uri: str, only_verifies: bool) -> int:
    found = runs(text, uri=uri)
    client: MlflowClient = found.reader.client
    sweep = next((one for one in found.sweeps if one.id.startswith(text)), None)
    _check_ended(client, [sweep] if sweep is not None else found)
    if not only_verifies:
        return _record(found, client, uri, overrides, sweep)
    if len(found) == 0:
        raise UserError(f"sweep {text}: has no jobs, expected one with jobs that are not deleted")
    verdicts = verify(found, client, overrides)
    if sweep is not None:
        print_lines(*lines_of_sweep(sweep, verdicts))
    else:
        _check_has_numbers(verdicts[0])
        print_lines(*lines_of_run(verdicts[0]))
    return 0 if all(one.is_equal for one in verdicts) else DIFFERENT


def _record(found: Runs, client: MlflowClient, uri: str, overrides: Sequence[str], sweep: RunRecord | None) -> int:
    if sweep is not None or len(found) != 1:
        raise UserError(
            f"{sweep.id if sweep else found[0].sweep}: a sweep, expected a run; --verify runs all its jobs again"
        )
    new = record_again(found, client, uri, overrides)
    print_lines(*lines_of_run(new.verdict))
    raise_diverged(new.done, new.config)
    return 0


def _check_ended(client: MlflowClient, found: Sequence[RunRecord] | Runs) -> None:
    """Check that none of the runs is running.

    Raises:
        UserError: with a line for each that is.
    """
    going = [run for run in found if run.row.status == "RUNNING" and has_live_process(client, client.get_run(run.id))]
    if going:
        raise UserError(*(f"run {run.id} ({run.name}): is running, expected one that has ended" for run in going))


def _check_has_numbers(verdict: Verdict) -> None:
    """Check that there was something to compare.

    Raises:
        UserError: the run cannot be run, or no number is recorded.
    """
    if verdict.failure is not None:
        raise UserError(f"run {verdict.run.id}: cannot be run again: {verdict.failure}")
    if verdict.comparison.compared == 0:
        raise UserError(f"run {verdict.run.id}: has no recorded numbers, expected a run with recorded steps")


def _report(lines: Sequence[str], exit_code: int, notes: Sequence[str] = ()) -> int:
    for line in [*(f"error: {line}" for line in lines), *notes]:
        print_error(line)
    return exit_code
