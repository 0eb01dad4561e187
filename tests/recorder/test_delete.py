"""Runs and sweeps are deleted completely, to the trash or from disk, and are not restored unintentionally."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import ViewType

from runner.recorder.delete import main
from runner.tracking.journal import Begin, End
from runner.tracking.processes import process_tags
from tests.conftest import Command
from tests.support.record import rows
from tests.support.stores import entries, experiment_of, opened

TABLES = ("runs", "params", "tags", "metrics", "latest_metrics")


def recorded(folder: Path, uri: str | None = None) -> dict[str, str]:
    """Record a sweep of three jobs and a run apart, and return their ids by their names."""
    store = opened(folder, bulk=True, uri=uri)
    for entry in entries():
        store.apply(entry)
    store.end_unfinished()
    store.close()
    return dict(store._runs)


def query(folder: Path, statement: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(folder / "mlflow.db") as database:
        return list(database.execute(statement))


def active(folder: Path) -> list[str]:
    return [run_id for (run_id,) in query(folder, "select run_uuid from runs where lifecycle_stage = 'active'")]


@pytest.fixture
def delete(folder: Path) -> Callable[..., int]:
    return lambda *arguments: main(["--uri", f"sqlite:///{folder}/mlflow.db", *arguments])


def test_deleting_a_sweep_moves_its_runs_to_the_trash(
    folder: Path, delete: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    ids = recorded(folder)
    assert delete(ids["parent"]) == 0
    assert f"deleted    sweep {ids['parent']} (sweep) and its 3 runs: now in MLflow's trash" in capsys.readouterr().out
    assert active(folder) == [ids["left"]]


def test_deleting_a_sweep_already_in_the_trash_moves_its_runs_there(folder: Path, delete: Callable[..., int]) -> None:
    ids = recorded(folder)
    opened(folder, bulk=True).client.delete_run(ids["parent"])
    assert len(active(folder)) == 4
    assert delete(ids["parent"], ids["left"][:31]) == 0
    assert active(folder) == []


@pytest.mark.parametrize("is_in_trash", [True, False])
def test_gc_removes_the_rows_and_artifacts_of_the_given_runs_only(
    folder: Path, delete: Callable[..., int], is_in_trash: bool
) -> None:
    ids = recorded(folder)
    left = [query(folder, f"select * from {table} where run_uuid = '{ids['left']}'") for table in TABLES]
    if is_in_trash:
        assert delete(ids["parent"]) == 0
    assert len(list(folder.rglob("config.yaml"))) == 1
    assert delete("--gc", ids["parent"]) == 0
    assert list(folder.rglob("config.yaml")) == []
    assert [query(folder, f"select * from {table}") for table in TABLES] == left


def test_gc_works_in_postgresql(tmp_path: Path, postgresql: Callable[[str], str]) -> None:
    uri = postgresql("deleting")
    ids = recorded(tmp_path, uri)
    assert main(["--uri", uri, "--gc", ids["parent"]]) == 0
    store = opened(tmp_path, bulk=True, uri=uri)
    found = store.client.search_runs(["1"], run_view_type=ViewType.ALL)
    assert [run.info.run_id for run in found] == [ids["left"]]


def test_nothing_is_deleted_if_an_id_matches_no_run_or_several(
    folder: Path, delete: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    ids = recorded(folder)
    assert delete(ids["left"], ids["left"][:5], "0" * 32, "%") == 2
    assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == [
        f"error: {ids['left'][:5]}: 5 runs have ids that start with it",
        f"error: {'0' * 32}: no such run",
        "error: %: no such run",
    ]
    assert len(active(folder)) == 5
    assert main(["--uri", f"sqlite:///{folder}/nowhere.db", ids["left"]]) == 2
    assert not (folder / "nowhere.db").exists()


def test_running_runs_are_deleted_only_with_force(
    folder: Path, delete: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    store = opened(folder, bulk=True)
    store.apply(Begin("live", "live", "some experiment", 1, tags=process_tags()))
    store.flush()
    run_id = store._runs["live"]
    assert delete(run_id) == 2
    assert f"run {run_id} (live): is running, expected one that has ended, or --force" in capsys.readouterr().err
    assert active(folder) == [run_id]
    assert delete("--force", run_id) == 0
    assert active(folder) == []


def test_only_the_folder_of_the_run_is_removed(folder: Path, delete: Callable[..., int], tmp_path: Path) -> None:
    ids = recorded(folder)
    for name in ("precious", "precious/artifacts"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    with sqlite3.connect(folder / "mlflow.db") as database:
        database.execute(f"update runs set artifact_uri = '{tmp_path}/precious' where run_uuid = '{ids['left']}'")
        database.execute(
            f"update runs set artifact_uri = '{tmp_path}/precious/artifacts' where run_uuid = '{ids['parent']}'"
        )
    assert delete("--gc", ids["left"], ids["parent"]) == 0
    assert len(list((tmp_path / "precious").rglob("file"))) == 2


@pytest.mark.parametrize("bulk", [True, False])
def test_a_deleted_experiment_is_restored_without_its_deleted_runs(folder: Path, bulk: bool) -> None:
    store = opened(folder, bulk)
    for run in ("old", "older"):
        store.apply(Begin(run, run, "some experiment", 1))
        store.apply(End(run, "FINISHED", 2))
    store.flush()
    experiment = experiment_of(store.client, "some experiment").experiment_id
    store.client.delete_experiment(experiment)
    again = opened(folder, bulk)
    again.apply(Begin("new", "new", "some experiment", 3))
    again.flush()
    assert [run.info.run_name for run in store.client.search_runs([experiment])] == ["new"]
    assert again.warning == "experiment 'some experiment' was deleted: it is restored, without its deleted runs"


def test_a_run_that_restores_an_experiment_warns_and_can_be_deleted(runner: Command) -> None:
    assert runner("steps=2", "name=old").code == 0
    with sqlite3.connect(runner.folder / "outputs/mlflow.db") as database:
        database.execute("update experiments set lifecycle_stage = 'deleted' where name = 'descent'")
        database.execute("update runs set lifecycle_stage = 'deleted'")
    done = runner("steps=2", "name=new")
    assert (done.code, done.err) == (
        0,
        "warning: experiment 'descent' was deleted: it is restored, without its deleted runs\n",
    )
    ((run_id,),) = rows(runner, "select run_uuid from runs where lifecycle_stage = 'active'")
    assert f"deleted    run {run_id} (new)" in runner(run_id, module="runner.delete").out
    assert rows(runner, "select count(*) from runs where lifecycle_stage = 'active'") == [(0,)]
