"""Files under `outputs/` are untrusted: they redirect no write, and an invalid one does not stop the others."""

import errno
import fcntl
import json
import os
import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.recorder.artifacts import write_artifact
from runner.recorder.errors import StoreError
from runner.recorder.opening import open_store
from runner.recorder.replay import Replayer
from runner.tracking.files import open_file, write_file
from runner.tracking.journal import (
    HEADER,
    MAGIC,
    Artifact,
    Begin,
    Close,
    End,
    Entry,
    JournalWriter,
    Open,
    encode,
)
from tests.conftest import Command
from tests.support.record import rows

NOBODY = {"runner.host": "elsewhere", "runner.pid": "1", "runner.pid_started": "1"}
KEPT = "what is mine"


def settings(folder: Path) -> dict[str, object]:
    uri = f"sqlite:///{folder}/outputs/mlflow.db"
    return {"uri": uri, "artifacts": f"{folder}/outputs/artifacts", "again": False}


def journal(uri: str, artifacts: str | None, *names: str, run: str = "a") -> bytes:
    opening: list[Entry] = [Open(uri, artifacts, NOBODY), Begin(run, run, "descent", 1000)]
    texts = [Artifact(run, name, b"stolen") for name in names]
    return b"".join(encode(entry) for entry in [*opening, *texts, End(run, "FINISHED", 1001), Close()])


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_text(KEPT)
    return tmp_path / "mine/file"


def untouched(victim: Path) -> bool:
    return (victim.read_text(), list(victim.parent.iterdir())) == (KEPT, [victim])


def test_a_lock_file_that_is_a_link_is_refused_and_its_target_kept(runner: Command, victim: Path) -> None:
    (runner.folder / "outputs").mkdir()
    (runner.folder / "outputs/mlflow.db.lock").symlink_to(victim)
    done = runner("steps=3")
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert "mlflow.db.lock: is a symbolic link" in done.errors[0]
    assert done.out == ""  # before the run begins
    assert untouched(victim)


@pytest.mark.parametrize("name", ["mlflow.db", "mlflow.db.lock", "mlflow.db-wal", "mlflow.db-journal"])
def test_no_file_of_a_database_is_reached_through_a_link(
    tmp_path: Path, victim: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / name).symlink_to(victim)
    with pytest.raises(StoreError, match="is a symbolic link"):
        open_store(settings(tmp_path))
    assert untouched(victim)


def test_no_folder_under_outputs_is_a_link(tmp_path: Path, victim: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").mkdir()
    for name in ("journals", "artifacts", "deep"):
        (tmp_path / "outputs" / name).symlink_to(victim.parent)
    for path in (Path("outputs/journals/a.journal"), Path("outputs/deep/b/c")):
        with pytest.raises(OSError, match="is a symbolic link"):
            open_file(path, os.O_WRONLY | os.O_CREAT)
    with pytest.raises(OSError, match="is a symbolic link"):
        write_file(Path("outputs/artifacts/file"), b"", tmp_path)
    with pytest.raises(OSError, match="is a symbolic link"):
        JournalWriter(Path("outputs/journals/a.journal"))
    assert untouched(victim)


@pytest.mark.parametrize("name", ["../file", "a/../../file", "/file", "", "."])
def test_an_artifact_stays_in_the_folder_of_its_run(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="expected a path inside the folder of its run"):
        write_artifact(tmp_path, "0" * 32, name, b"")
    with pytest.raises(StoreError, match="expected an id"):
        write_artifact(tmp_path, "..", "file", b"")
    assert list(tmp_path.iterdir()) == []


def test_outputs_may_be_a_link_to_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Users put `outputs/` on a large disk by a link."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    Path("outputs").symlink_to(tmp_path / "disk")
    JournalWriter(Path("outputs/journals/a.journal")).close()
    assert (tmp_path / "disk/journals/a.journal").is_file()


def test_an_untrusted_folder_writes_nothing_outside_it(runner: Command, victim: Path) -> None:
    """A database whose artifacts are in the home folder, with journals for them, another database and other files."""
    outputs = runner.folder / "outputs"
    store = settings(runner.folder)
    own, artifacts, home = str(store["uri"]), str(outputs / "artifacts"), str(victim.parent)
    open_store(store).apply(Begin("z", "z", "descent", 1000))
    with sqlite3.connect(outputs / "mlflow.db") as database:
        database.execute("update experiments set artifact_location = '../mine'")
        database.execute("update runs set artifact_uri = '../mine'")
    (outputs / "journals").mkdir()
    elsewhere = f"sqlite:///{home}/mlflow.db"
    journals = {
        "plain": journal(own, artifacts, "file"),
        "out": journal(own, artifacts, "../../../../mine/file"),
        "absolute": journal(own, artifacts, str(victim)),
        "artifacts": journal(own, home, "file"),
        "elsewhere": journal(elsewhere, None, "file"),
        "server": journal("http://127.0.0.1:9", None),
    }
    for name, data in journals.items():
        (outputs / f"journals/{name}.journal").write_bytes(data)
    done = runner(module="runner.replay")
    assert (done.code, len(done.errors), "Traceback" in done.err) == (1, 3, False)
    assert "3 journals, 3 runs" in done.out
    assert f"--uri '{elsewhere}'" in done.err
    assert untouched(victim)
    ((uri,),) = rows(runner, "select artifact_uri from runs where name = 'a' and status = 'FINISHED'")
    assert Path(uri.removeprefix("file://"), "file").read_text() == "stolen"
    assert uri.startswith(Path(artifacts).as_uri())
    asked = runner("--uri", elsewhere, module="runner.replay")
    assert "1 journal, 1 run" in asked.out


def deep(path: Path) -> None:
    head = b'{"kind":"Begin","run":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    path.write_bytes(encode(Close()) + HEADER.pack(MAGIC, len(head), 0, zlib.crc32(head)) + head)


def vast(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(12 * 2**30)


def vast_after_its_opening(path: Path) -> None:
    path.write_bytes(journal(f"sqlite:///{path.parents[1]}/mlflow.db", None))
    os.truncate(path, 12 * 2**30)


def of_wrong_kinds(path: Path) -> None:
    head = json.dumps({"kind": "Open", "uri": 5, "artifacts": {}, "process": []}).encode()
    path.write_bytes(HEADER.pack(MAGIC, len(head), 0, zlib.crc32(head)) + head)


def in_circles(path: Path) -> None:
    path.symlink_to(path)


BAD: dict[str, Callable[[Path], None]] = {
    "folder": Path.mkdir,
    "pipe": os.mkfifo,
    "circle": in_circles,
    "vast": vast,
    "deep": deep,
    "kinds": of_wrong_kinds,
}


def test_a_file_that_is_not_a_journal_does_not_stop_the_replay(tmp_path: Path) -> None:
    folder = tmp_path / "outputs/journals"
    folder.mkdir(parents=True)
    for name, make in BAD.items():
        make(folder / f"a-{name}.journal")
    uri = str(settings(tmp_path)["uri"])
    for run in ("b", "c"):
        (folder / f"{run}.journal").write_bytes(journal(uri, None, run=run))
    vast_after_its_opening(folder / "d.journal")
    done = Replayer([]).replay(folder, patience=0)
    assert (done.journals, done.runs) == (3, 3)
    names = sorted(f"a-{name}.journal" for name in BAD)
    assert sorted(Path(line.partition(":")[0]).name for line in done.kept) == names
    assert sorted(path.name for path in folder.iterdir()) == names


def test_a_journal_is_written_and_read_where_files_cannot_be_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    folder = tmp_path / "outputs/journals"
    writer = JournalWriter(folder / "a.journal")
    uri = f"sqlite:///{tmp_path}/outputs/mlflow.db"
    for entry in (Open(uri, None, NOBODY), Begin("a", "a", "descent", 1000), End("a", "FINISHED", 1001), Close()):
        writer.append(entry)
    writer.close()
    done = Replayer([]).replay(folder, patience=0)
    assert (done.journals, done.kept) == (1, [])
