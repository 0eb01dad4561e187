"""Stores that are opened in the tests' own process, and entries for them."""

import math
from pathlib import Path

import numpy as np
from mlflow.entities import Experiment
from mlflow.tracking import MlflowClient

from runner.recorder.bulk import BulkStore
from runner.recorder.opening import open_store
from runner.recorder.store import Store
from runner.tracking.journal import Artifact, Begin, End, Entry, Metrics

RUNS = ["a" * 32, "b" * 32, "c" * 32]

SPECIAL = [math.nan, math.inf, -math.inf]


def entries() -> list[Entry]:
    """A parent with three children, every kind of value, and a run that is left unfinished."""
    values = np.arange(4 * 2 * 3, dtype="<f8").reshape(4, 2, 3) - 7
    later = np.stack([np.array(SPECIAL), np.ones(3)]).reshape(1, 2, 3).astype("<f8")
    begins = [
        Begin(
            run,
            f"lr={index}" + "9" * 300 * index,
            "some experiment",
            1_000_000 + index,
            parent="parent",
            params={"lr": str(index), "long": "x" * 7000, "odd key?": "1", "empty": ""},
            tags={"mlflow.user": "somebody", "team": "blue", "odd(key)": "1", "long": "y" * 9000},
        )
        for index, run in enumerate(RUNS)
    ]
    return [
        Begin("parent", "sweep", "some experiment", 999_999, tags={"runner.kind": "sweep"}),
        *begins,
        Artifact(RUNS[0], "config.yaml", b"lr: 1\n"),
        Metrics(RUNS, ["loss", "weight/0"], [1, 2, 3, 4], 1_000_100, values.tobytes()),
        Metrics(RUNS, ["loss", "weight/0"], [5], 1_000_200, later.tobytes()),
        Metrics(RUNS[1:2], ["loss"], [4], 1_000_300, np.array([5.0]).tobytes()),
        *(End(run, "FINISHED", 1_000_400, 5, {"final/loss": float(i)}, {"done": "yes"}) for i, run in enumerate(RUNS)),
        End("parent", "FAILED", 1_000_500, 0, {"jobs": 3.0}, {}, {"best.run": RUNS[1]}),
        Begin("left", "left", "some experiment", 1_000_600),
    ]


def opened(folder: Path, bulk: bool, again: bool = False, uri: str | None = None) -> Store:
    folder.mkdir(exist_ok=True)
    settings = {"uri": uri or f"sqlite:///{folder}/mlflow.db", "artifacts": str(folder / "artifacts"), "again": again}
    store = open_store(settings)
    assert isinstance(store, BulkStore)
    return store if bulk else Store(store._client, store._artifacts, again)


def experiment_of(client: MlflowClient, name: str) -> Experiment:
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    return experiment
