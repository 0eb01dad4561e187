"""The record in a folder, read by SQLite and by MLflow."""

import sqlite3
import time
from typing import Any

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from tests.conftest import Command

PATIENCE = 30


def rows(runner: Command, query: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query; none where the database or the table is not made yet."""
    path = runner.folder / "outputs/mlflow.db"
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
                return list(database.execute(query))
        except sqlite3.OperationalError as error:
            if not path.exists() or "no such table" in str(error):
                return []
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.05)  # a recorder that closes the database keeps others out for a moment


def losses(runner: Command) -> int:
    found = rows(runner, "select count(*) from metrics where key = 'loss'")
    return int(str(found[0][0])) if found else 0


def is_closed(runner: Command) -> bool:
    return not list((runner.folder / "outputs/journals").glob("*.journal"))


def client(runner: Command, file: str = "outputs/mlflow.db") -> MlflowClient:
    return MlflowClient(f"sqlite:///{runner.folder / file}")


def runs_in(runner: Command, file: str = "outputs/mlflow.db", experiment: str = "descent") -> list[Run]:
    found = client(runner, file).get_experiment_by_name(experiment)
    assert found is not None
    return list(client(runner, file).search_runs([found.experiment_id], order_by=["attributes.start_time"]))


def history(runner: Command, run: Run, key: str) -> dict[int, float]:
    return {metric.step: metric.value for metric in client(runner).get_metric_history(run.info.run_id, key)}
