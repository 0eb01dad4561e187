"""Kills at many random moments: `pytest -m endurance`; a few of them always."""

import os
import random
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from runner.tracking.journal import JournalReader, Metrics
from tests.conftest import Command
from tests.support.commands import FRESH
from tests.support.processes import recorder_of, wait_until
from tests.support.record import is_closed, losses, rows

# So few are killed in forks, which start faster.
FEW = 2
MOMENTS = [pytest.param(FEW), pytest.param(50, marks=pytest.mark.endurance)]


def recorder_or_none(process: int) -> int | None:
    """Return the recorder's process, unless it has already finished."""
    try:
        return recorder_of(process)
    except AssertionError:
        return None


def journalled(runner: Command) -> int:
    """Return how many losses the journals that are left hold."""
    found = 0
    for path in (runner.folder / "outputs/journals").glob("*.journal"):
        for entry in JournalReader(path).entries(is_complete=True):
            found += len(entry.steps) if isinstance(entry, Metrics) and "loss" in entry.keys else 0
    return found


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("moments", MOMENTS)
@pytest.mark.parametrize("who", ["runner", "recorder", "both"])
def test_a_killed_run_is_recorded_up_to_its_last_journal_entry(tmp_path: Path, who: str, moments: int) -> None:
    draw = random.Random(who)
    for moment in range(moments):
        runner = Command(tmp_path / str(moment))
        runner.folder.mkdir()
        start = runner.start if moments > FEW else runner.fork
        process = start("steps=60000", "log_every=10", "lr=0.0001")
        wait_until(lambda runner=runner: losses(runner) > 0)  # type: ignore[misc]  # mypy knows no types of defaults
        time.sleep(draw.uniform(0, 1.5))
        recorder = recorder_or_none(process.pid)
        if who != "runner" and recorder is not None:
            os.kill(recorder, signal.SIGKILL)
        if who != "recorder":
            process.kill()
        killed_at = time.time()
        process.communicate(timeout=280)
        if who == "both":
            given = journalled(runner)
            assert runner(module="runner.replay").code == 0
            assert rows(runner, "select count(*) from metrics where key = 'loss'") >= [(given,)]
        wait_until(lambda runner=runner: is_closed(runner))  # type: ignore[misc]
        query = "select count(*), count(distinct step), max(step) / 10, max(timestamp) from metrics where key = 'loss'"
        ((count, steps, last, latest),) = rows(runner, query)
        assert count == steps == last
        status = rows(runner, "select status from runs")
        assert status == [("FINISHED",)] if last == 6_000 else [("KILLED",)]
        is_alone = moments > FEW  # among other tests, the machine may be slow
        assert last == 6_000 or not is_alone or killed_at - latest / 1000 < 1


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("moments", MOMENTS)
def test_a_sweep_that_is_killed_anywhere_is_completed_by_resume(tmp_path: Path, moments: int) -> None:
    draw = random.Random(moments)
    sweep = ["-m", "lr=logspace(-4,-2,200)", "steps=500", "log_every=5", "hydra.launcher.memory_mib=1"]
    for moment in range(moments):
        runner = Command(tmp_path / str(moment))
        runner.folder.mkdir()
        process = runner.start(*sweep) if moments > FEW else runner.fork(*sweep, **({} if moment else FRESH))
        wait_until(lambda runner=runner: (runner.folder / "outputs/journals").is_dir())  # type: ignore[misc]
        time.sleep(0 if moment == 0 else draw.uniform(0, 2))  # at 0 the recorder has not made the database yet
        recorder = recorder_or_none(process.pid) if draw.random() < 0.5 else None
        if recorder is not None:
            os.kill(recorder, signal.SIGKILL)
        process.kill()
        process.communicate(timeout=280)
        done = runner(*sweep, "resume=true")
        assert done.code == 0, done.err
        with sqlite3.connect(runner.folder / "outputs/mlflow.db") as database:
            names = "select count(*), count(distinct name) from runs where name like 'lr=%'"
            active = "and status = 'FINISHED' and lifecycle_stage = 'active'"
            unsuffixed = "and name not like '%logspace%'"
            assert database.execute(f"{names} {active} {unsuffixed}").fetchone() == (200, 200)
            assert database.execute(f"{names.partition(' where')[0]} where name like '%logspace%'").fetchone() == (1, 1)
            assert database.execute("select count(*) from runs where status = 'RUNNING'").fetchone() == (0,)
            each = "select count(*) n from metrics join runs using (run_uuid) where key = 'loss'"
            grouped = f"select distinct n from ({each} and lifecycle_stage = 'active' group by run_uuid)"
            assert database.execute(grouped).fetchall() == [(100,)]
