"""Rows written in bulk are those that MLflow's public client would have left."""

import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.entities import Run, ViewType
from mlflow.tracking import MlflowClient
from sqlalchemy import text

from runner.recorder.bulk import BulkStore, is_known
from runner.recorder.mlflow_private import store_of
from runner.recorder.opening import open_store
from runner.tracking.journal import Begin, End, Metrics
from tests.support.stores import entries, experiment_of, opened


def written(folder: Path, bulk: bool, uri: str | None = None) -> MlflowClient:
    store = opened(folder, bulk, uri=uri)
    for entry in entries():
        store.apply(entry)
    store.end_unfinished()
    store.flush()
    return store._client


def plain(run: Run, folder: Path, names: dict[str, str]) -> dict[str, Any]:
    """Return a run as it was read, with ids and folders that differ between two stores replaced."""
    info = {key: value for key, value in dict(run.info).items() if key not in ("run_id", "run_uuid", "end_time")}
    info["artifact_uri"] = info["artifact_uri"].replace(str(folder), "").replace(run.info.run_id, "ID")
    tags = {key: names.get(value, value) for key, value in run.data.tags.items()}
    metrics = {key: repr(value) for key, value in run.data.metrics.items()}
    return {"info": info, "tags": tags, "params": run.data.params, "metrics": metrics}


def everything(client: MlflowClient, folder: Path) -> list[Any]:
    experiment = experiment_of(client, "some experiment")
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    names = {run.info.run_id: str(run.info.run_name) for run in runs}
    histories = [
        [
            (metric.key, repr(metric.value), metric.step, metric.timestamp)
            for key in ("loss", "weight/0", "final/loss")
            for metric in sorted(client.get_metric_history(run.info.run_id, key), key=lambda m: (m.step, m.timestamp))
        ]
        for run in runs
    ]
    queries = [
        ("metrics.`final/loss` > 0.5", "metrics.loss DESC"),
        ("params.lr = '1'", "params.lr ASC"),
        ("tags.team = 'blue'", "tags.done DESC"),
        ("attributes.status = 'FINISHED' and tags.`mlflow.parentRunId` != ''", "metrics.`weight/0` ASC"),
    ]
    found = [
        [names[run.info.run_id] for run in client.search_runs([experiment.experiment_id], query, order_by=[order])]
        for query, order in queries
    ]
    artifacts = [[item.path for item in client.list_artifacts(run.info.run_id)] for run in runs]
    again = [plain(client.get_run(run.info.run_id), folder, names) for run in runs]
    return [dict(experiment.tags), again, histories, found, artifacts]


def test_bulk_rows_read_back_like_those_of_the_public_client(tmp_path: Path) -> None:
    one_by_one, bulk = (written(tmp_path / name, name == "bulk") for name in ("client", "bulk"))
    assert everything(bulk, tmp_path / "bulk") == everything(one_by_one, tmp_path / "client")


def test_bulk_rows_read_back_alike_in_postgresql(tmp_path: Path, postgresql: Callable[[str], str]) -> None:
    uris = {name: postgresql(name) for name in ("client", "bulk")}
    one_by_one, bulk = (written(tmp_path / name, name == "bulk", uris[name]) for name in uris)
    assert everything(bulk, tmp_path / "bulk") == everything(one_by_one, tmp_path / "client")
    again = opened(tmp_path / "bulk", bulk=True, again=True, uri=uris["bulk"])
    for entry in entries():
        again.apply(entry)
    again.end_unfinished()
    again.flush()
    assert everything(bulk, tmp_path / "bulk") == everything(one_by_one, tmp_path / "client")


def test_runs_can_be_deleted_and_restored(tmp_path: Path) -> None:
    client = written(tmp_path / "bulk", bulk=True)
    before = everything(client, tmp_path / "bulk")
    experiment = experiment_of(client, "some experiment").experiment_id
    ids = [run.info.run_id for run in client.search_runs([experiment])]
    for run in ids:
        client.delete_run(run)
    assert not client.search_runs([experiment])
    assert len(client.search_runs([experiment], run_view_type=ViewType.DELETED_ONLY)) == len(ids)
    for run in ids:
        client.restore_run(run)
    assert everything(client, tmp_path / "bulk") == before


@pytest.mark.parametrize("stops_after", range(1, 12))
def test_entries_written_by_another_recorder_are_not_written_twice(tmp_path: Path, stops_after: int) -> None:
    folder = tmp_path / "bulk"
    store = opened(folder, bulk=True)
    for entry in entries()[:stops_after]:
        store.apply(entry)
    store.flush()
    second = opened(folder, bulk=True, again=True)
    for entry in entries():
        second.apply(entry)
    second.end_unfinished()
    second.flush()
    expected = everything(written(tmp_path / "client", bulk=False), tmp_path / "client")
    assert everything(second._client, folder) == expected


@pytest.mark.parametrize("bulk", [True, False])
def test_a_sweep_that_another_process_has_resumed_is_not_ended_by_an_old_journal(tmp_path: Path, bulk: bool) -> None:
    begun = Begin("parent", "sweep", "some experiment", 1, tags={"runner.kind": "sweep", "runner.pid": "1"})
    resumed = replace(begun, time_ms=2, tags=begun.tags | {"runner.pid": "2"}, is_new=False)
    first = opened(tmp_path, bulk)
    first.apply(begun)
    first.flush()
    second = opened(tmp_path, bulk)
    for entry in (resumed, End("parent", "FINISHED", 3)):
        second.apply(entry)
    second.flush()
    old = opened(tmp_path, bulk, again=True)
    old.apply(begun)
    old.end_unfinished()
    old.flush()
    (run,) = old.client.search_runs([experiment_of(old.client, "some experiment").experiment_id])
    assert run.info.status == "FINISHED"


def test_tables_of_another_layout_are_written_by_the_public_client(tmp_path: Path) -> None:
    store = opened(tmp_path, bulk=True)
    with store_of(store._client).engine.begin() as connection:
        connection.execute(text("alter table params add column unit varchar(10)"))
    assert not is_known(store._client)
    settings = {"uri": f"sqlite:///{tmp_path}/mlflow.db", "artifacts": str(tmp_path / "artifacts"), "again": False}
    other = open_store(settings)
    assert not isinstance(other, BulkStore)
    assert other.warning is not None


def write_runs(folder: Path, writer: int) -> None:
    store = opened(folder, bulk=True)
    for index in range(20):
        run = f"{writer}-{index}"
        store.apply(Begin(run, run, "shared", 1))
        store.apply(Metrics([run], ["loss"], list(range(10)), 2, np.arange(10.0).tobytes()))
        store.apply(End(run, "FINISHED", 3))
        store.flush()


def test_several_processes_write_to_one_fresh_file_at_once(tmp_path: Path) -> None:
    new = multiprocessing.get_context("forkserver")  # imports MLflow once for all of them
    new.set_forkserver_preload([__name__])
    writers = [new.Process(target=write_runs, args=(tmp_path, number)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(280)
    assert [writer.exitcode for writer in writers] == [0] * 4
    client = opened(tmp_path, bulk=True)._client
    experiment = experiment_of(client, "shared").experiment_id
    runs = client.search_runs([experiment])
    assert {run.info.run_name for run in runs} == {f"{writer}-{index}" for writer in range(4) for index in range(20)}
    assert len(runs) == 80
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.metrics["loss"] for run in runs} == {9.0}
    assert {len(client.get_metric_history(run.info.run_id, "loss")) for run in runs[:5]} == {10}


def test_a_retried_entry_is_not_written_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(tmp_path, bulk=True)
    assert isinstance(store, BulkStore)
    for limit in ("ROWS_A_TRANSACTION", "VALUES_AT_ONCE"):
        monkeypatch.setattr(f"runner.recorder.bulk.{limit}", 4)
    with store_of(store._client).engine.begin() as connection:
        connection.execute(text("pragma busy_timeout = 0"))
        connection.execute(text("alter table metrics rename to elsewhere"))
    store.apply(Begin("a", "a", "some experiment", 1))
    block = Metrics(["a"], ["loss"], list(range(10)), 2, np.arange(10.0).tobytes())
    end = End("a", "FINISHED", 3, 9, {"final/loss": 9.0})
    for entry in (block, end):
        for _ in range(5):
            with pytest.raises(Exception, match="no such table"):
                store.apply(entry)
    assert [values.stored.size for values in store._pending.values] == [10]
    assert len(store._pending.metrics) == 1
    with store_of(store._client).engine.begin() as connection:
        connection.execute(text("alter table elsewhere rename to metrics"))
    store.flush()
    (run,) = store.client.search_runs([experiment_of(store.client, "some experiment").experiment_id])
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"loss": 9.0, "final/loss": 9.0})
