"""Full disks, read-only folders, locked databases, many writers: reported in one line, nothing lost."""

import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Command
from tests.support.commands import FRESH
from tests.support.processes import wait_until
from tests.support.record import losses, rows


def mounted(folder: Path, *options: str) -> Iterator[Path]:
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", str(folder)], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("a file system of the test's own cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    yield from mounted(tmp_path / "small", "-o", "size=8m")


@pytest.fixture
def frozen_disk(tmp_path: Path) -> Iterator[Path]:
    yield from mounted(tmp_path / "frozen", "-o", "size=8m,ro")


def test_a_full_disk_is_reported_in_one_line_and_loses_nothing_recorded(small_disk: Path) -> None:
    runner = Command(small_disk)
    assert runner("steps=50", "name=before").code == 0
    full = runner("steps=300000", "log_every=1", "name=full")
    assert full.code == 1
    assert [line for line in full.err.splitlines() if not line.startswith("error: ")] == []
    with sqlite3.connect(small_disk / "outputs/mlflow.db") as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
    before = rows(runner, "select status from runs where name = 'before'")
    count = rows(
        runner, "select count(*) from metrics join runs using (run_uuid) where key = 'loss' and name = 'before'"
    )
    assert (before, count) == ([("FINISHED",)], [(50,)])
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    assert runner(module="runner.replay").code == 0
    query = "select count(*), count(distinct step), max(step) from metrics join runs using (run_uuid)"
    ((losses, steps, last),) = rows(runner, f"{query} where key = 'loss' and name = 'full'")
    assert losses == steps == last > 0
    assert not list((small_disk / "outputs/journals").glob("*.journal"))


def test_a_read_only_folder_is_reported_in_one_line(frozen_disk: Path) -> None:
    done = Command(frozen_disk)("steps=3")
    assert (done.code, len(done.err.splitlines())) == (1, 1)
    assert "Read-only file system" in done.errors[0]


@pytest.mark.parametrize("seconds", [8, pytest.param(30, marks=pytest.mark.endurance)])
def test_a_temporarily_locked_database_delays_the_record(runner: Command, seconds: int) -> None:
    assert runner("steps=3", "name=first").code == 0
    path = runner.folder / "outputs/mlflow.db"
    process = runner.fork("steps=100000", "log_every=10", "name=second")
    wait_until(lambda: ("second",) in rows(runner, "select name from runs"))

    def hold() -> None:
        with sqlite3.connect(path, timeout=30, isolation_level=None) as database:
            database.execute("begin immediate")
            time.sleep(seconds)
            database.execute("rollback")

    holding = threading.Thread(target=hold)
    holding.start()
    _, err = process.communicate(timeout=90)
    holding.join()
    assert process.returncode == 0, err
    query = "select status, count(*) from runs join metrics using (run_uuid) where key = 'loss' and name = 'second'"
    assert rows(runner, query) == [("FINISHED", 10000)]


def test_a_stopped_run_waits_only_seconds_for_a_locked_database(runner: Command) -> None:
    process = runner.fork("steps=3000000", "log_every=10", "lr=0.0001")
    wait_until(lambda: losses(runner) > 100)
    with sqlite3.connect(runner.folder / "outputs/mlflow.db", timeout=30, isolation_level=None) as database:
        database.execute("begin immediate")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=12)  # the recorder continues without delaying the command
        database.execute("rollback")
    assert process.returncode == 130
    assert "Traceback" not in err
    wait_until(lambda: rows(runner, "select status from runs") == [("KILLED",)])
    wait_until(lambda: not list((runner.folder / "outputs/journals").glob("*.journal")))


def test_a_second_ctrl_c_exits_at_once(runner: Command) -> None:
    process = runner.fork("steps=3000000", "log_every=10", "lr=0.0001")
    wait_until(lambda: losses(runner) > 100)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert time.monotonic() - started < 5
    assert "Traceback" not in err
    wait_until(lambda: rows(runner, "select status from runs") == [("KILLED",)])


def test_the_record_is_a_single_file_afterwards(runner: Command, tmp_path: Path) -> None:
    assert runner("-m", "lr=0.1,0.2", "steps=20").code == 0
    shutil.copy(runner.folder / "outputs/mlflow.db", tmp_path / "copy.db")
    with sqlite3.connect(tmp_path / "copy.db") as database:
        assert database.execute("select count(*) from metrics where key = 'loss'").fetchone() == (40,)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("writers", [4, pytest.param(16, marks=pytest.mark.endurance)])
def test_concurrent_sweeps_on_a_new_database_are_all_recorded(runner: Command, writers: int) -> None:
    rounds = 20 if writers == 16 else 1
    for number in range(rounds):
        shutil.rmtree(runner.folder / "outputs", ignore_errors=True)
        sweeps = [
            runner.fork("-m", "lr=logspace(-4,-1,50)", "steps=20", f"tags.w={w}", **FRESH) for w in range(writers)
        ]
        assert [(sweep.communicate(timeout=300)[1], sweep.returncode) for sweep in sweeps] == [("", 0)] * writers, (
            number
        )
        count = "select count(*), count(distinct run_uuid) from metrics join runs using (run_uuid)"
        expected = (writers * 50 * 20, writers * 50)
        assert rows(runner, f"{count} where key = 'loss' and name like 'lr=%' and status = 'FINISHED'") == [expected]
