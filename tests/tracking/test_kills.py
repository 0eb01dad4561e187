"""Runs that are stopped or killed: their record is kept, and their status is correct."""

import os
import re
import signal
import time
from pathlib import Path

import pytest

from tests.conftest import Command
from tests.support.processes import LONG, PATIENCE, recorder_of, wait_until
from tests.support.record import is_closed, losses, rows
from tests.support.template import place


@pytest.fixture
def runner(runner: Command, template: Path) -> Command:
    """Give the command in a folder with a store, which each of these processes would take seconds to make."""
    place(template, runner.folder / "outputs/mlflow.db")
    return runner


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_run_that_is_stopped_is_killed_with_what_was_recorded(
    runner: Command, sent: signal.Signals, code: int
) -> None:
    process = runner.fork(*LONG)
    wait_until(lambda: losses(runner) > 100)
    before = losses(runner)
    process.send_signal(sent)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == code
    assert "Traceback" not in err
    wait_until(lambda: is_closed(runner))
    assert losses(runner) >= before
    assert rows(runner, "select status from runs") == [("KILLED",)]
    steps = rows(runner, "select count(*), min(step), max(step) from metrics where key = 'loss'")
    count, first, last = map(int, map(str, steps[0]))
    assert (first, last) == (100, 100 * count)
    if sent is not signal.SIGKILL:
        (run_id,) = rows(runner, "select run_uuid from runs")[0]
        word = "interrupted" if sent is signal.SIGINT else "terminated"
        lines = err.splitlines()
        assert lines[0] == f"error: {word}"
        assert re.fullmatch(
            r"stopped    after [\d,]+ of 3,000,000 steps \(.* s\): loss [\d.]+, best so far .*", lines[1]
        )
        assert lines[2] == f"recorded   run {run_id}; to see it: python -m runner.ui {run_id[:18]}"
        assert re.fullmatch(r"continue   'initial_weight=[\d.e-]+' starts from this weight", lines[-1])


def test_a_killed_recorder_is_replaced_at_the_end(runner: Command) -> None:
    process = runner.fork("steps=60000", "log_every=10", "lr=0.0001")
    wait_until(lambda: losses(runner) > 100)
    os.kill(recorder_of(process.pid), signal.SIGKILL)
    assert process.wait(timeout=PATIENCE) == 0
    assert rows(runner, "select status from runs") == [("FINISHED",)]
    assert rows(runner, "select count(*), count(distinct step) from metrics where key = 'loss'") == [(6000, 6000)]
    assert is_closed(runner)


def test_a_killed_recorder_is_replaced_during_the_run(runner: Command) -> None:
    process = runner.fork(*LONG)
    wait_until(lambda: losses(runner) > 100)
    time.sleep(5)
    os.kill(recorder_of(process.pid), signal.SIGKILL)
    before = losses(runner)
    wait_until(lambda: losses(runner) > before + 100)
    assert process.poll() is None
    process.terminate()
    assert process.wait(timeout=PATIENCE) == 143
    wait_until(lambda: is_closed(runner))
    assert rows(runner, "select status from runs") == [("KILLED",)]
    assert rows(runner, "select count(*) - count(distinct step) from metrics where key = 'loss'") == [(0,)]


def test_a_signal_during_recording_is_reported_and_everything_is_recorded(runner: Command) -> None:
    process = runner.fork("objective=rosenbrock", "objective.dimension=16", "lr=1e-4", "steps=8000")
    assert process.stdout is not None
    while not process.stdout.readline().startswith("ended"):
        pass
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "error: interrupted\nstopped    after its end, while it was being recorded\n" in err
    wait_until(lambda: is_closed(runner))
    assert rows(runner, "select status from runs") == [("FINISHED",)]
    assert losses(runner) == 8000


SIGNALLED = """
import os, signal
if {when} == 0:
    os.kill(os.getpid(), signal.SIGINT)
calls = 0
def bowl(w):
    global calls
    calls += 1
    if calls == {when}:
        os.kill(os.getpid(), signal.SIGINT)
    return (w**2).sum(-1)
"""


@pytest.mark.parametrize(
    ("arguments", "when", "line"),
    [
        ([], 0, "before the first of 9 steps was done"),
        ([], 2, "before the first of 9 steps was done"),
        (["-m", "lr=0.1,0.2"], 2, "before the first step of 2 runs was done"),
    ],
)
def test_a_signal_before_the_first_step_is_reported(
    runner: Command, arguments: list[str], when: int, line: str
) -> None:
    (runner.folder / "mine.py").write_text(SIGNALLED.format(when=when))
    chosen = ("objective=callable", "objective.target=mine:bowl", "objective.of_one_point=false", "allow_code=true")
    done = runner(*arguments, *chosen, "initial_weight=1", "steps=9", "tracking=off")
    assert (done.code, done.err) == (130, f"error: interrupted\nstopped    {line}\n")


@pytest.mark.parametrize("after", [0.4, 1.0, 2.0])
def test_a_signal_before_the_start_records_nothing(runner: Command, after: float) -> None:
    process = runner.start(*LONG)
    time.sleep(after)
    process.terminate()
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode in (143, -signal.SIGTERM)  # Python itself was starting
    assert "Traceback" not in err
    wait_until(lambda: is_closed(runner))  # on a fast machine the run may have begun


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_sweep_that_is_stopped_leaves_parent_and_child_killed(
    runner: Command, sent: signal.Signals, code: int
) -> None:
    process = runner.fork("-m", *LONG[:2], "lr=0.0001,0.0002")
    wait_until(lambda: losses(runner) > 100)
    process.send_signal(sent)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == code
    wait_until(lambda: is_closed(runner))
    if sent is signal.SIGTERM:
        (parent,) = rows(runner, "select value from tags where key = 'mlflow.parentRunId'")[0]
        stopped = err.splitlines()[1]
        assert re.fullmatch(r"stopped    when 0 of 2 runs had ended, [\d,]+ of 6,000,000 steps; best loss .*", stopped)
        assert f"recorded   run {parent}; to see it: " in err
        command = "python -m runner -m steps=3000000 log_every=100 lr=0.0001,0.0002 resume=true"
        assert err.endswith(f"\ncontinue   {command}\n")
    assert len(rows(runner, "select name from runs")) == 3
    assert rows(runner, "select distinct status from runs") == [("KILLED",)]
