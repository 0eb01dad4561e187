"""A run's record survives databases and folders that are removed, replaced or moved during the run."""

import shutil
import sqlite3
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.recorder.errors import RecordLostError
from runner.recorder.opening import open_store
from runner.tracking.journal import Begin, End, Metrics
from tests.conftest import Command
from tests.support.processes import wait_until
from tests.support.record import is_closed, losses, rows

STEPS, HALF = 200, 100
# A function that waits in the middle of the run for a signal to continue.
FUNCTION = """
import pathlib, time
calls = 0
def f(w):
    global calls
    calls += 1
    while calls > {half} and not pathlib.Path("{go}").exists():
        time.sleep(0.01)
    return (w**2).sum()
"""


def started(place: Command, go: Path) -> "subprocess.Popen[str]":
    """Start a run and return when its first half is recorded."""
    place.folder.mkdir(exist_ok=True)
    (place.folder / "waiting.py").write_text(FUNCTION.format(half=HALF, go=go))
    target = ["objective=callable", "objective.target=waiting:f", "allow_code=true", "initial_weight=1"]
    process = place.fork(*target, f"steps={STEPS}", "log_every=1", TMPDIR=str(go.parent))
    wait_until(lambda: losses(place) > 0 or process.poll() is not None)
    assert process.poll() is None, process.communicate()
    return process


def ended(process: "subprocess.Popen[str]", go: Path) -> tuple[int, list[str]]:
    """Let the run continue, and return its exit code and errors."""
    go.touch()
    _, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    return process.returncode, err.splitlines()


@pytest.fixture
def go(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("elsewhere") / "go"


def is_recorded(place: Command) -> None:
    assert rows(place, "select status from runs") == [("FINISHED",)]
    count = "select count(*), count(distinct step) from metrics where key = 'loss'"
    assert rows(place, count) == [(STEPS, STEPS)]
    assert rows(place, "pragma integrity_check") == [("ok",)]
    assert is_closed(place)


def removed(folder: Path) -> None:
    (folder / "outputs/mlflow.db").unlink()


def replaced_by_nothing(folder: Path) -> None:
    (folder / "empty").touch()
    (folder / "empty").rename(folder / "outputs/mlflow.db")


def cut_to_nothing(folder: Path) -> None:
    (folder / "outputs/mlflow.db").write_bytes(b"")


def emptied(folder: Path) -> None:
    with sqlite3.connect(folder / "outputs/mlflow.db", timeout=60) as database:
        for table in ("metrics", "latest_metrics", "params", "tags", "runs"):
            database.execute(f"delete from {table}")


def artifacts_removed(folder: Path) -> None:
    shutil.rmtree(folder / "outputs/artifacts")


def outputs_removed(folder: Path) -> None:
    shutil.rmtree(folder / "outputs")


@pytest.mark.parametrize("act", [removed, replaced_by_nothing, cut_to_nothing, emptied])
def test_a_removed_or_changed_record_is_detected(tmp_path: Path, act: Callable[[Path], None]) -> None:
    uri = f"sqlite:///{tmp_path}/outputs/mlflow.db"
    store = open_store({"uri": uri, "artifacts": f"{tmp_path}/outputs/artifacts", "again": False})
    store.apply(Begin("a", "a", "descent", 1000))
    store.apply(Metrics(["a"], ["loss"], [1, 2], 1001, struct.pack("<2d", 1.0, 2.0)))
    store.flush()
    store.verify()
    store.apply(End("a", "FINISHED", 1002, 2, {"final/loss": 2.0}))
    store.flush()
    act(tmp_path)
    with pytest.raises(RecordLostError):
        store.verify()


@pytest.mark.parametrize("act", [removed, emptied, artifacts_removed, outputs_removed])
def test_a_run_whose_database_is_removed_is_recorded_again(
    runner: Command, go: Path, act: Callable[[Path], None]
) -> None:
    process = started(runner, go)
    act(runner.folder)
    code, (line,) = ended(process, go)
    assert (code, line.startswith("warning: ")) == (0, True), line
    is_recorded(runner)
    assert list((runner.folder / "outputs/artifacts").rglob("config.yaml"))


def test_a_run_whose_working_directory_is_removed_keeps_its_journal(tmp_path: Path, go: Path) -> None:
    place = Command(tmp_path / "work")
    process = started(place, go)
    shutil.rmtree(place.folder)
    code, (line,) = ended(process, go)
    (journal,) = go.parent.rglob("*.journal")
    uri = f"sqlite:///{place.folder}/outputs/mlflow.db"
    assert code == 1
    assert line.endswith(f"python -m runner.replay --folder {journal.parent} --uri '{uri}'")
    place.folder.mkdir()
    assert place("--folder", str(journal.parent), "--uri", uri, module="runner.replay").code == 0
    is_recorded(place)


def test_a_run_whose_working_directory_moves_is_recorded_there(tmp_path: Path, go: Path) -> None:
    first, second = Command(tmp_path / "first"), Command(tmp_path / "second")
    process = started(first, go)
    first.folder.rename(second.folder)
    assert ended(process, go)[0] == 0
    is_recorded(second)


def test_a_file_that_replaced_the_database_is_unchanged_and_the_journal_kept(runner: Command, go: Path) -> None:
    process = started(runner, go)
    letter = "not a database\n" * 1000
    (runner.folder / "letter").write_text(letter)
    (runner.folder / "letter").rename(runner.folder / "outputs/mlflow.db")
    code, (*_, line) = ended(process, go)
    assert (code, "the journal is kept" in line) == (1, True), line
    assert (runner.folder / "outputs/mlflow.db").read_text() == letter
    (runner.folder / "outputs/mlflow.db").unlink()
    assert runner(module="runner.replay").code == 0
    is_recorded(runner)
