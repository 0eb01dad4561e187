"""Stores that cannot be used are reported in one line, at once, and left unchanged."""

import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

import runner as product
from runner.messages.errors import RunnerError
from runner.recorder.errors import StoreError
from runner.recorder.opening import open_store
from tests.conftest import Command


def opened(uri: str) -> None:
    open_store({"uri": uri, "artifacts": None, "again": False})


def test_a_database_of_another_program_is_refused_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "places.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("create table bookmarks (title text)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="is a database of another program, with tables bookmarks; expected"):
        opened(f"sqlite:///{path}")
    assert path.read_bytes() == before


def test_a_file_that_is_not_a_database_is_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "folder.db").mkdir()
    (tmp_path / "text.db").write_text("text " * 1000)
    (tmp_path / "file").touch()
    started = time.monotonic()
    for path in ("folder.db", "text.db", "file/mlflow.db"):
        with pytest.raises(StoreError, match=path):
            opened(f"sqlite:///{tmp_path / path}")
    assert time.monotonic() - started < 30  # MLflow would try for a hundred seconds


@pytest.mark.parametrize("uri", ["sqlite:///:memory:", "sqlite:///file:a?mode=memory&uri=true", "sqlite:///"])
def test_a_database_in_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match="expected the path of a file"):
        opened(uri)
    with pytest.raises(RunnerError, match="expected the path of a file"):
        product.run([f"tracking.uri='{uri}'", "steps=2"])
    assert list(tmp_path.iterdir()) == []


def test_the_message_depends_on_the_version_of_the_schema(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    opened(f"sqlite:///{path}")
    advice = {"ffffffffffff": "a newer MLflow than", "451aebb31d03": "run 'mlflow db upgrade' on it"}
    for version, said in advice.items():
        other = Path(shutil.copy(path, tmp_path / f"{version}.db"))
        with sqlite3.connect(other) as database:
            database.execute("update alembic_version set version_num = ?", [version])
        with pytest.raises(StoreError, match=said):
            opened(f"sqlite:///{other}")


def test_a_long_name_of_an_experiment_is_refused_before_the_run(runner: Command) -> None:
    done = runner(f"tracking.experiment={'e' * 501}", "steps=3")
    assert (done.code, done.out, len(done.errors)) == (2, "", 1)
    assert "of at most 500 characters" in done.errors[0]
    assert list(runner.folder.iterdir()) == []


def test_a_server_database_with_another_programs_schema_version_is_refused_unchanged(
    empty_postgresql: Callable[[str], str],
) -> None:
    uri = empty_postgresql("anothers")
    engine = sa.create_engine(uri)
    with engine.begin() as connection:
        connection.execute(sa.text("create table alembic_version (version_num varchar(32))"))
    with pytest.raises(StoreError, match="anothers: is a database of another program"):
        opened(uri)
    assert sa.inspect(engine).get_table_names() == ["alembic_version"]
    engine.dispose()
    with pytest.raises(RunnerError, match="expected at most 256 characters there"):
        product.run([f"tracking.uri='{uri}'", f"tracking.experiment={'e' * 257}", "steps=2"])
