"""Journals that were left behind: recorded later, exactly once, whatever happened to their bytes."""

import shutil
import sqlite3
import struct
from pathlib import Path

import pytest

from runner.recorder.opening import open_store
from runner.recorder.replay import Replayer
from runner.tracking.journal import HEADER, Begin, Close, End, Entry, JournalReader, Metrics, Open, encode
from tests.conftest import Command
from tests.support.processes import wait_until
from tests.support.record import is_closed, rows

NOBODY = {"runner.host": "elsewhere", "runner.pid": "1", "runner.pid_started": "1"}
STEPS = list(range(1, 6))


def journal(folder: Path) -> list[Entry]:
    """A run of two steps blocks, and another that ends before its last step."""
    uri = f"sqlite:///{folder}/mlflow.db"
    values = [struct.pack("<5d", *(float(number) for number in STEPS)), struct.pack("<5d", *([2.5] * 5))]
    return [
        Open(uri, str(folder / "artifacts"), NOBODY),
        Begin("first", "first", "descent", 1000, params={"lr": "0.1"}),
        Metrics(["first"], ["loss"], STEPS, 1001, values[0]),
        Begin("second", "second", "descent", 1002),
        Metrics(["second"], ["loss"], STEPS, 1003, values[1]),
        End("first", "FINISHED", 1004, 5, {"final/loss": 5.0}),
        Close(),
    ]


def template(folder: Path) -> Path:
    """Return a folder with an empty store, which takes a second to make."""
    folder.mkdir()
    open_store({"uri": f"sqlite:///{folder}/mlflow.db", "artifacts": None, "again": False})
    return folder


def content(folder: Path) -> tuple[list[tuple[str, str]], list[tuple[str, int]]]:
    with sqlite3.connect(folder / "mlflow.db") as database:
        runs = list(database.execute("select name, status from runs order by name"))
        query = "select r.name, count(*) from metrics m join runs r using (run_uuid) where m.key = 'loss' group by 1"
        return runs, list(database.execute(query))


WHOLE = ([("first", "FINISHED"), ("second", "KILLED")], [("first", 5), ("second", 5)])


def replayed(folder: Path, data: bytes, times: int = 1) -> tuple[int, int]:
    (folder / "journals").mkdir(exist_ok=True)
    (folder / "journals" / "a.journal").write_bytes(data)
    corrupt = left = 0
    for _ in range(times):
        done = Replayer([]).replay(folder / "journals", patience=0)
        corrupt, left = corrupt + done.corrupt, len(done.kept)
    return corrupt, left


def test_a_journal_is_recorded_once_however_often_it_is_replayed(tmp_path: Path) -> None:
    store = template(tmp_path / "store")
    data = b"".join(map(encode, journal(store)))
    for _ in range(3):  # as after a replay that was killed before it deleted the journal
        assert replayed(store, data, times=2) == (0, 0)
        assert content(store) == WHOLE
    assert not list((store / "journals").iterdir())


def test_entries_before_a_truncation_are_recorded(tmp_path: Path) -> None:
    """Each cut leaves the entries before it: looked at byte by byte in the reader, at each entry's edges in MLflow."""
    empty = template(tmp_path / "empty")
    entries = [encode(entry) for entry in journal(empty)]
    data = b"".join(entries)
    path = tmp_path / "torn.journal"
    edges = [sum(map(len, entries[: count + 1])) for count in range(len(entries))]
    for cut in range(len(data) + 1):
        path.write_bytes(data[:cut])
        reader = JournalReader(path)
        assert len(list(reader.entries(is_complete=True))) == sum(edge <= cut for edge in edges)
        assert reader.corrupt == 0
    for cut in sorted({edge + offset for edge in edges[1:] for offset in (-1, 0, 7) if edge + offset <= len(data)}):
        store = tmp_path / f"cut-{cut}"
        shutil.copytree(empty, store)
        moved = b"".join(map(encode, journal(store)))
        assert replayed(store, moved[: cut + len(moved) - len(data)] if cut != len(data) else moved)[1] == 0
        runs, metrics = content(store)
        assert set(runs) <= {*WHOLE[0], ("first", "KILLED")}
        assert {count for _, count in metrics} <= {5}


def test_a_flipped_bit_loses_no_more_than_its_entry(tmp_path: Path) -> None:
    empty = template(tmp_path / "empty")
    entries = [encode(entry) for entry in journal(empty)]
    start = 0
    for number, entry in enumerate(entries):
        for place in (0, HEADER.size // 2, HEADER.size + 3, len(entry) - 1):
            data = bytearray(b"".join(entries))
            data[start + place] ^= 0x10
            path = tmp_path / "flipped.journal"
            path.write_bytes(data)
            read = list(JournalReader(path).entries(is_complete=True))
            assert read == [entry for index, entry in enumerate(journal(empty)) if index != number]
        start += len(entry)


@pytest.mark.parametrize("lost", [1, 2, 5])
def test_a_corrupt_entry_is_counted_and_its_journal_set_aside(tmp_path: Path, lost: int) -> None:
    store = template(tmp_path / "store")
    entries = [encode(entry) for entry in journal(store)]
    flipped = bytearray(entries[lost])
    flipped[-1] ^= 1
    corrupt, left = replayed(store, b"".join([*entries[:lost], bytes(flipped), *entries[lost + 1 :]]))
    # With its beginning, all that belongs to a run is lost.
    assert (corrupt, left) == ({1: 3, 2: 1, 5: 1}[lost], 0)
    assert [path.suffix for path in (store / "journals").iterdir()] == [".corrupt"]
    assert ("second", "KILLED") in content(store)[0]


def test_the_journal_of_a_killed_runner_and_recorder_is_replayed(runner: Command) -> None:
    process = runner.fork("steps=3000000", "log_every=100", "lr=0.0001")
    wait_until(lambda: rows(runner, "select count(*) from metrics where key = 'loss'") > [(100,)])
    from tests.support.processes import recorder_of

    recorder = recorder_of(process.pid)
    for one in (recorder, process.pid):
        import os
        import signal

        os.kill(one, signal.SIGKILL)
    process.wait()
    assert rows(runner, "select status from runs") == [("RUNNING",)]
    done = runner(module="runner.replay")
    assert done.code == 0, done.err
    assert "1 journal, 1 run, 0 corrupt entries" in done.out
    assert rows(runner, "select status from runs") == [("KILLED",)]
    query = "select count(*), count(distinct step), max(step) / 100 from metrics where key = 'loss'"
    ((count, steps, last),) = rows(runner, query)
    assert count == steps == last
    assert is_closed(runner)
    assert "0 journals, 0 runs" in runner(module="runner.replay").out


def test_a_running_run_is_neither_replayed_nor_reaped(runner: Command) -> None:
    process = runner.fork("steps=3000000", "log_every=100", "lr=0.0001")
    wait_until(lambda: rows(runner, "select count(*) from metrics where key = 'loss'") > [(100,)])
    assert "0 journals, 0 runs" in runner(module="runner.replay").out
    assert "0 runs" in runner(module="runner.reap").out
    assert rows(runner, "select status from runs") == [("RUNNING",)]
    process.terminate()
    assert process.wait(timeout=30) == 143


def test_runs_whose_process_is_gone_are_reaped(runner: Command) -> None:
    assert runner("steps=2").code == 0
    with sqlite3.connect(runner.folder / "outputs/mlflow.db") as database:
        database.execute("update runs set status = 'RUNNING', end_time = null")
    done = runner(module="runner.reap")
    assert (done.code, done.out) == (0, "reaped     1 run\n")
    assert rows(runner, "select status from runs") == [("KILLED",)]
    assert len(rows(runner, "select value from tags where key = 'runner.reaped'")) == 1


@pytest.mark.parametrize(("age", "status"), [(10_000, "KILLED"), (10, "RUNNING")])
def test_a_run_of_another_host_is_reaped_only_when_its_heartbeat_is_old(runner: Command, age: int, status: str) -> None:
    assert runner("steps=2").code == 0
    import time

    beat = int((time.time() - age) * 1000)
    with sqlite3.connect(runner.folder / "outputs/mlflow.db") as database:
        database.execute("update runs set status = 'RUNNING', end_time = null")
        database.execute("update tags set value = 'elsewhere' where key = 'runner.host'")
        database.execute(f"update tags set value = '{beat}' where key = 'runner.heartbeat'")
    runner(module="runner.reap")
    assert rows(runner, "select status from runs") == [(status,)]


def test_the_next_start_reaps(runner: Command) -> None:
    assert runner("steps=2", "name=dead").code == 0
    with sqlite3.connect(runner.folder / "outputs/mlflow.db") as database:
        database.execute("update runs set status = 'RUNNING', end_time = null")
    assert runner("steps=2", "name=next").code == 0
    assert rows(runner, "select name, status from runs order by name") == [("dead", "KILLED"), ("next", "FINISHED")]
