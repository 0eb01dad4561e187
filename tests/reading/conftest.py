"""One record in every kind of store: a sweep, runs of other programs, a run that is still going."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from runner.reading import Runs, runs, selection
from runner.recorder.opening import open_store
from runner.tracking.journal import Begin, End, Entry, Metrics
from tests.support.servers import Server
from tests.support.template import use_template

LONG = 2600  # more values than MLflow's UI reads of a run


@dataclass(frozen=True)
class Place:
    """A store with runs, and MLflow's ids of them by name."""

    uri: str
    ids: dict[str, str]

    def read(self, *names: str, **more: str) -> Runs:
        return runs(*(self.ids[name] for name in names), uri=self.uri, **more)


def block(runs: list[str], keys: list[str], steps: list[int], values: list[list[list[float]]]) -> Metrics:
    """Return recorded steps; the values are given by run, key and step."""
    return Metrics(runs, keys, steps, 1_000_000, np.array(values, "<f8").transpose(2, 1, 0).tobytes())


def params(**values: str) -> dict[str, str]:
    own = {"optimizer.name": "gd", "optimizer.maximize": "null", "initial_weight": "[1.0,2.0]", "quiet": "true"}
    return own | {"log_every": "1", "tracking.name": "sqlite"} | values


def entries() -> list[Entry]:
    jobs = {
        "a": params(lr="0.1", name="a"),
        "b": params(lr="0.2", name="b"),
        "c": params(lr="9.0", name="c"),
        "d": params(lr="5.0", name="d"),
        "m": params(lr="0.1", name="m") | {"optimizer.name": "momentum", "optimizer.momentum": "0.9"},
    }
    names = list(jobs)
    seven = [[[7.0, 3.0, 1.0]], [[7.0, 1.0, 1.0]], [[7.0, -math.inf, math.inf]], [[7.0, 7.0, 7.0]], [[7.0, 5.0, 4.0]]]
    results = {
        "a": {"final/loss": 1.0, "best/loss": 1.0, "best/step": 3.0, "final/distance": 0.5, "steps_done": 3.0},
        "b": {"final/loss": 1.0, "best/loss": 1.0, "best/step": 2.0, "final/distance": 0.5, "steps_done": 3.0},
        "c": {
            "final/loss": math.inf,
            "best/loss": 7.0,
            "best/step": 1.0,
            "final/distance": math.nan,
            "steps_done": 3.0,
        },
        "d": {"final/loss": 0.0},
        "m": {"final/loss": 4.0, "best/loss": 4.0, "best/step": 3.0, "steps_done": 3.0},
    }
    ends = {name: {"runner.outcome": "ran all its steps"} for name in names}
    ends["b"] = {"runner.outcome": "stopped by a rule: the loss no longer changes"}
    ends["c"] = {"runner.outcome": "diverged: loss, gradient or weight became infinite", "diverged_at_step": "3"}
    sweep = {"lr": "0.1,0.2,9.0", "optimizer": "gd,momentum"}
    made: list[Entry] = [Begin("sweep", "sweep", "reading", 1, params=sweep, tags={"runner.kind": "sweep"})]
    made += (Begin(name, name, "reading", 2 + i, parent="sweep", params=jobs[name]) for i, name in enumerate(names))
    made.append(block(names, ["weight"], [0], [[[10.0]]] * len(names)))
    made.append(block(names, ["loss"], [1, 2, 3], seven))
    made.append(block(["c"], ["weight"], [1, 2, 3], [[[1.0, math.nan, math.nan]]]))
    made += (End(name, "FINISHED", 1_000_000, 3, results[name], ends[name]) for name in names)
    made.append(End("sweep", "FINISHED", 1_000_000, 0, {"jobs": 5.0}))
    made += [Begin("going", "going", "reading", 50, params=params(lr="0.3")), Begin("long", "long", "reading", 51)]
    made.append(block(["going"], ["loss"], [1], [[[2.5]]]))
    made.append(block(["long"], ["loss"], [*range(LONG)], [[[float(step) for step in range(LONG)]]]))
    made.append(End("long", "FINISHED", 1_000_000, LONG, {"final/loss": 0.0}))
    return made


def log_as_others(client: MlflowClient, experiment: str) -> None:
    """Log runs as programs of others do: without our tags, several values at one step, nested runs."""
    by_hand = client.create_run(experiment, start_time=60, run_name="by hand").info.run_id
    client.log_param(by_hand, "lr", "auto")
    client.log_param(by_hand, "shuffle", "True")
    for value in (0.5, 0.25):
        client.log_metric(by_hand, "acc", value, timestamp=70)
        time.sleep(0.002)
    client.log_metric(by_hand, "lr", 0.125, step=2**55)
    client.set_terminated(by_hand)
    outer = client.create_run(experiment, start_time=61, run_name="outer").info.run_id
    client.create_run(experiment, start_time=62, run_name="<b>inner</b>", tags={"mlflow.parentRunId": outer})


def filled(uri: str, folder: Path) -> Place:
    store = open_store({"uri": uri, "artifacts": None if uri.startswith("http") else str(folder), "again": False})
    for entry in entries():
        store.apply(entry)
    store.flush()
    experiment = store.client.get_experiment_by_name("reading")
    assert experiment is not None
    log_as_others(store.client, experiment.experiment_id)
    found = store.client.search_runs([experiment.experiment_id])
    ids = {str(run.info.run_name): run.info.run_id for run in found}
    store.client.delete_run(ids["d"])
    return Place(uri, ids)


@pytest.fixture(scope="package", autouse=True)
def _tables(template: Path) -> None:
    use_template(template)


@pytest.fixture(scope="session")
def in_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("reading")
    return filled(f"sqlite:///{folder}/mlflow.db", folder)


@pytest.fixture(scope="session")
def in_postgresql(tmp_path_factory: pytest.TempPathFactory, postgresql: Callable[[str], str]) -> Place:
    return filled(postgresql("reading"), tmp_path_factory.mktemp("reading"))


@pytest.fixture(scope="session")
def on_a_server(tmp_path_factory: pytest.TempPathFactory, shared_server: Server) -> Place:
    return filled(shared_server.uri, tmp_path_factory.mktemp("reading"))


@pytest.fixture(params=["sqlite", "a database unknown here", "postgresql", "server"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Give the record in each kind of store."""
    fixtures = {"postgresql": "in_postgresql", "server": "on_a_server"}
    if request.param == "a database unknown here":
        monkeypatch.setattr(selection, "is_known", lambda _client: False)
    found: Place = request.getfixturevalue(fixtures.get(request.param, "in_sqlite"))
    return found
