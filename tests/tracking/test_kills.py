"""Runs that are stopped, by a signal or without a word: what was recorded stays, and the status is right."""

import os
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command

LONG = ["steps=3000000", "log_every=100", "lr=0.0001"]
PATIENCE = 60


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def rows(runner: Command, query: str) -> list[tuple[Any, ...]]:
    path = runner.folder / "outputs/mlflow.db"
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            return list(database.execute(query))
    except sqlite3.OperationalError:  # not made yet
        return []


def losses(runner: Command) -> int:
    found = rows(runner, "select count(*) from metrics where key = 'loss'")
    return int(str(found[0][0])) if found else 0


def is_closed(runner: Command) -> bool:
    return not list((runner.folder / "outputs/journals").glob("*.journal"))


def recorder_of(process: int) -> int:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command = (folder / "cmdline").read_bytes()
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            if parent == process and b"runner.tracking.recorder" in command:
                return int(folder.name)
    raise AssertionError("no recorder")


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_run_that_is_stopped_is_killed_with_what_was_recorded(
    runner: Command, sent: signal.Signals, code: int
) -> None:
    process = runner.start(*LONG)
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


def test_a_recorder_that_is_killed_is_followed_by_another(runner: Command) -> None:
    process = runner.start("steps=60000", "log_every=10", "lr=0.0001")
    wait_until(lambda: losses(runner) > 100)
    os.kill(recorder_of(process.pid), signal.SIGKILL)
    assert process.wait(timeout=PATIENCE) == 0
    assert rows(runner, "select status from runs") == [("FINISHED",)]
    assert rows(runner, "select count(*), count(distinct step) from metrics where key = 'loss'") == [(6000, 6000)]
    assert is_closed(runner)


def test_it_is_followed_while_the_run_lasts(runner: Command) -> None:
    process = runner.start(*LONG)
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


@pytest.mark.parametrize("after", [0.4, 1.0, 2.0])
def test_a_signal_before_anything_has_begun_leaves_nothing(runner: Command, after: float) -> None:
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
    process = runner.start("-m", *LONG[:2], "lr=0.0001,0.0002")
    wait_until(lambda: losses(runner) > 100)
    process.send_signal(sent)
    assert process.wait(timeout=PATIENCE) == code
    wait_until(lambda: is_closed(runner))
    assert len(rows(runner, "select name from runs")) == 3
    assert rows(runner, "select distinct status from runs") == [("KILLED",)]
