"""Each use of MLflow beyond its documented interface: a new version that breaks one fails the test of that name."""

import ast
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import mlflow.store.db.utils as db_utils
import pytest
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient
from mlflow.utils import mlflow_tags

from runner.composition import composition
from runner.config.uris import sqlite_uri
from runner.recorder import mlflow_private
from runner.recorder.reading import PARENT_TAG
from runner.tracking import provenance
from tests.conftest import ROOT

PUBLIC = {"mlflow", "mlflow.entities", "mlflow.exceptions", "mlflow.tracking"}
PRIVATE = ("_tracking_client", "_hard_delete_run", "db_utils", "_MLFLOW")


@pytest.fixture
def client(folder: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{folder}/mlflow.db")


def mlflow_modules(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
        yield from (name for name in names if name.split(".")[0] == "mlflow")


def test_no_other_module_uses_what_is_not_documented() -> None:
    others = [path for path in (ROOT / "runner").rglob("*.py") if path.name != "mlflow_private.py"]
    modules = {(path.name, name) for path in others for name in mlflow_modules(path) if name not in PUBLIC}
    private = {(path.name, name) for path in others for name in PRIVATE if name in path.read_text()}
    assert modules | private == set()


def test_store_of_and_engine_of_give_the_store_of_a_client(client: MlflowClient) -> None:
    assert isinstance(mlflow_private.store_of(client), mlflow_private.SqlAlchemyStore)
    engine = mlflow_private.engine_of(client)
    assert engine is not None
    assert engine.dialect.name == "sqlite"
    assert mlflow_private.engine_of(MlflowClient("http://127.0.0.1:9")) is None


def test_set_artifact_root_is_where_a_client_puts_artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", "")
    mlflow_private.make_tables(f"sqlite:///{tmp_path}/new.db")
    mlflow_private.set_artifact_root((tmp_path / "kept").as_uri())
    found = MlflowClient(f"sqlite:///{tmp_path}/new.db").get_experiment("0")
    assert found.artifact_location.startswith((tmp_path / "kept").as_uri())
    assert not (tmp_path / "mlruns").exists()


def test_make_no_folders_leaves_an_escaped_name_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db_utils, "_make_parent_dirs_if_sqlite", None)
    mlflow_private.make_no_folders()
    (folder / "a%b").mkdir()
    (folder / "mlflow.db").rename(folder / "a%b/mlflow.db")
    MlflowClient(sqlite_uri(folder / "a%b/mlflow.db")).search_experiments()
    assert [path.name for path in folder.iterdir() if path.is_dir()] == ["a%b"]


def test_make_tables_makes_those_that_are_written_in_bulk(tmp_path: Path) -> None:
    mlflow_private.make_tables(f"sqlite:///{tmp_path}/new.db")
    with sqlite3.connect(tmp_path / "new.db") as database:
        (revision,) = database.execute("select version_num from alembic_version").fetchone()
        tables = {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}
    assert {"runs", "metrics", "latest_metrics", "params", "tags", "experiments"} <= tables
    assert mlflow_private.is_known_revision(revision)
    assert not mlflow_private.is_known_revision("0123456789ab")


def test_remove_run_deletes_all_rows_of_a_run(client: MlflowClient, folder: Path) -> None:
    assert mlflow_private.can_remove_runs(client)
    assert not mlflow_private.can_remove_runs(MlflowClient("http://127.0.0.1:9"))
    run_id = client.create_run("0", tags={"a": "b"}).info.run_id
    client.log_batch(run_id, metrics=[Metric("loss", 1.0, 1, 1)])
    client.delete_run(run_id)
    mlflow_private.remove_run(client, run_id)
    with sqlite3.connect(folder / "mlflow.db") as database:
        counts = [database.execute(f"select count(*) from {table}").fetchone() for table in ("runs", "metrics", "tags")]
    assert counts == [(0,), (0,), (0,)]


def test_the_names_and_limits_are_those_of_the_validation() -> None:
    assert (mlflow_private.MAX_ENTITY_KEY_LENGTH, mlflow_private.MAX_PARAM_VAL_LENGTH) == (250, 6000)
    assert mlflow_private.MAX_TAG_VAL_LENGTH == 8000
    assert mlflow_private.validate_param_and_metric_name("a?b") is None
    assert mlflow_private.path_not_unique("a//b")


def test_local_uris_and_artifact_repositories(tmp_path: Path) -> None:
    assert mlflow_private.is_local_uri(tmp_path.as_uri())
    assert not mlflow_private.is_local_uri("s3://bucket/a")
    assert mlflow_private.local_file_uri_to_path((tmp_path / "a b").as_uri()) == str(tmp_path / "a b")
    assert hasattr(mlflow_private.get_artifact_repository(tmp_path.as_uri()), "delete_artifacts")


def test_tags_have_the_names_of_mlflow() -> None:
    assert provenance.MLFLOW_COMMIT == mlflow_tags.MLFLOW_GIT_COMMIT
    assert provenance.DESCRIPTION == mlflow_tags.MLFLOW_RUN_NOTE
    names = {mlflow_tags.MLFLOW_USER, mlflow_tags.MLFLOW_SOURCE_NAME, mlflow_tags.MLFLOW_SOURCE_TYPE}
    assert names <= provenance.tags_of(composition.to_config(composition.compose([]))).keys()
    assert PARENT_TAG == mlflow_tags.MLFLOW_PARENT_RUN_ID
