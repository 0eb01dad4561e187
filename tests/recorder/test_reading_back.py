"""What MLflow's record of a run holds is enough to compose the run again, and it gives the same digits."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

import runner
from runner.composition import composition
from runner.config.schema import Config, Tracking
from runner.execution.job import run
from runner.messages.errors import UserError
from runner.recorder.errors import StoreError
from runner.recorder.reading_back import RecordedRun, read_back
from tests.conftest import Command

pytestmark = pytest.mark.xdist_group("reading back")  # they share a record

OFF = Tracking(name="off", uri=None, experiment=None, artifacts=None, offline=None)
SINGLE = [
    "objective=expression", "objective.formula='(a - x)**2 + sin(y)'", "objective.constants={a:1.5}",
    "initial_weight=[0.1,1e-5]", "schedule=cosine", "schedule.warmup_steps=2", "steps=9", "gradient_noise=0.1",
    "name='1e5'", "tags.of=7", "stop.target_loss=-1e3",
]  # fmt: skip
SWEEP = ["lr=0.01,0.1", "optimizer=gd,adam", "steps=1000", "gradient_noise=0.1", "repeats=2", "quiet=true"]
PYTHON = '''"""A bowl."""
from helper import scale

TOKEN = "secret"

def bowl(weight, factor=1.0):
    return scale * factor * (weight**2).sum()
'''


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("record")
    (folder / "outputs").mkdir()  # the client opens the database before the first run is recorded
    return folder


@pytest.fixture(autouse=True)
def _there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def client(place: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{place}/outputs/mlflow.db")


def composed(overrides: Sequence[str]) -> Config:
    return composition.to_config(composition.compose(overrides))


def but_for_place(config: Config, **changed: Any) -> Config:
    """Return a config without its tracking settings and its parent run."""
    return replace(config, tracking=OFF, parent_run=None, **changed)


def assert_repeats(client: MlflowClient, run_id: str, found: RecordedRun) -> None:
    """Run the recorded config again, and compare the results with those recorded, bit for bit."""
    recorded = client.get_run(run_id).data
    result = run(but_for_place(found.config(), quiet=True)).result
    assert {"final/loss": result.loss, "final/weight": float(result.weight[0])}.items() <= {
        "final/weight": recorded.metrics.get("final/weight/0"),
        **recorded.metrics,
    }.items()


def test_a_single_run(client: MlflowClient) -> None:
    done = runner.run(SINGLE, quiet=True)
    assert done.run_id is not None
    found = read_back(client, done.run_id)
    assert found.config() == done.config
    assert (found.overrides, found.hidden, found.source) == ([*SINGLE, "quiet=true"], [], {})
    assert_repeats(client, done.run_id, found)


def test_the_jobs_of_a_sweep_and_those_of_its_resumption(client: MlflowClient) -> None:
    first = runner.sweep(SWEEP)
    (parent,) = {client.get_run(run_id).data.tags["mlflow.parentRunId"] for run_id in first["run_id"]}
    second = runner.sweep([SWEEP[0] + ",0.5", *SWEEP[1:]], resume=parent)
    assert list(second["status"]).count("SKIPPED") == 8
    ids = {str(row.run_id): row for row in second.itertuples()}
    assert len(ids) == 12
    for run_id in ids:
        found = read_back(client, run_id)
        again = composed(found.overrides)
        assert found.config() == replace(again, name=found.tree["name"])
        assert (found.tree["log_every"], "log_every" in client.get_run(run_id).data.params) == (None, False)
    for run_id in list(ids)[::5]:
        assert_repeats(client, run_id, read_back(client, run_id))
    with pytest.raises(StoreError, match=f"run {parent}: its config is not recorded, expected a run of this program"):
        read_back(client, parent)


def test_the_jobs_of_another_launcher_record_their_own_configs(place: Path, client: MlflowClient) -> None:
    done = Command(place)("-m", "hydra/launcher=basic", "lr=0.03", "steps=3,4", "tags.of=launcher")
    assert done.code == 0, done.err
    (experiment,) = client.search_experiments(filter_string="name = 'descent'")
    jobs = client.search_runs([experiment.experiment_id], "tags.of = 'launcher' and tags.`runner.kind` is null")
    for run_id in (job.info.run_id for job in jobs if "mlflow.parentRunId" in job.data.tags):
        found = read_back(client, run_id)
        expected = composed(["lr=0.03", f"steps={found.tree['steps']}", "tags.of=launcher"])
        assert found.config() == replace(expected, name=found.tree["name"])
        assert_repeats(client, run_id, found)


CALLABLE = ["objective=callable", "allow_code=true", "initial_weight=[1.0,2.0]", "steps=5", "quiet=true"]


def test_a_users_function_is_recorded_once_for_a_sweep_without_its_secrets(place: Path, client: MlflowClient) -> None:
    (place / "bowls.py").write_text(PYTHON)
    (place / "helper.py").write_text("import json, torch\nscale = 2.0\n")
    frame = runner.sweep([*CALLABLE, "objective.target=bowls:bowl"], lr="0.01,0.02")
    for run_id in map(str, frame["run_id"]):
        found = read_back(client, run_id)
        assert {name: text.decode() for name, text in found.source.items()} == {
            "bowls.py": PYTHON.replace('"secret"', "'***'"),
            "helper.py": "import json, torch\nscale = 2.0\n",
        }
        assert_repeats(client, run_id, found)
    parent = client.get_run(client.get_run(run_id).data.tags["mlflow.parentRunId"])
    assert parent.data.tags["runner.secrets"] == "source/bowls.py:4"


def test_a_secret_that_a_run_needs_is_named(place: Path, client: MlflowClient) -> None:
    (place / "large.py").write_text(f"def bowl(weight, api_key):\n    return (weight**2).sum()\n{'#' * 2**20}\n")
    done = runner.run([*CALLABLE, "objective.target=large:bowl", "objective.arguments.api_key=abc"])
    assert done.run_id is not None
    tags = client.get_run(done.run_id).data.tags
    assert tags["runner.secrets"] == "objective.arguments.api_key"
    assert tags["runner.no_source"].endswith("bytes, at most 1,048,576 are recorded")
    found = read_back(client, done.run_id)
    assert (found.source, found.tree["objective"]["arguments"]) == ({}, {"api_key": "***"})
    with pytest.raises(UserError, match=r"^objective.arguments.api_key=\*\*\*: a secret, which is not recorded"):
        found.config()


def test_a_missing_run(client: MlflowClient) -> None:
    with pytest.raises(StoreError, match="no such run"):
        read_back(client, "0" * 32)
