"""The record of a run in MLflow's database, read back by MLflow."""

import math
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import yaml
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from tests.conftest import Command
from tests.support.commands import FRESH
from tests.support.record import history, runs_in

pytestmark = pytest.mark.xdist_group("recorder")  # they share a run


def dotted(tree: dict[str, Any], path: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from dotted(value, f"{path}{key}.")
        else:
            yield f"{path}{key}"


@pytest.fixture(scope="module")
def recorded(shared_runner: Command) -> tuple[Command, Run]:
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *identity, *command], cwd=shared_runner.folder, check=True)
    done = shared_runner("steps=50", "lr=0.05", "log_every=7", "name=first", "tags.team=blue")
    assert done.code == 0, done.err
    (run,) = runs_in(shared_runner)
    assert run.info.run_id in done.out
    return shared_runner, run


def test_every_leaf_of_the_config_is_a_param(recorded: tuple[Command, Run]) -> None:
    runner, run = recorded
    composed = yaml.safe_load(runner("--cfg", "job", "--resolve", "steps=50", "lr=0.05", "log_every=7").out)
    params = run.data.params
    assert (params["lr"], params["steps"], params["objective.name"]) == ("0.05", "50", "quadratic")
    assert params["threads"] == "null"
    del composed["tags"]  # which this run was given more of
    not_params = {"name", "parent_run", "tracking.children"}
    assert set(dotted(composed)) - not_params <= params.keys()
    assert (params["log_every"], not_params & params.keys()) == ("7", set())


def test_the_composed_config_is_an_artifact_under_outputs(recorded: tuple[Command, Run]) -> None:
    runner, run = recorded
    (file,) = (runner.folder / "outputs" / "artifacts").rglob("config.yaml")
    assert run.info.run_id in str(file)
    config = yaml.safe_load(file.read_text())
    assert (config["lr"], config["tags"], config["objective"]["curvature"]) == (0.05, {"team": "blue"}, 1.0)
    assert not (runner.folder / "mlruns").exists()
    assert list((runner.folder / "outputs" / "journals").iterdir()) == []


def test_the_last_and_the_best_weight_are_an_artifact(recorded: tuple[Command, Run]) -> None:
    runner, run = recorded
    (file,) = (runner.folder / "outputs/artifacts").rglob("weights.npz")
    assert run.info.run_id in str(file)
    with np.load(file) as weights:
        assert weights["final"].tolist() == [run.data.metrics["final/weight"]]
        assert weights["best"].tolist() == pytest.approx([10 * 0.9**49])
        assert weights["best"].tolist() == [run.data.metrics["best/weight"]]
    assert (run.data.metrics["best/loss"], run.data.metrics["best/step"]) == (run.data.metrics["final/loss"], 50)


def test_the_recorded_steps_hold_the_numbers_of_the_descent(recorded: tuple[Command, Run]) -> None:
    runner, run = recorded
    steps = [7, 14, 21, 28, 35, 42, 49, 50]
    weights = history(runner, run, "weight")
    assert sorted(weights) == [0, *steps]
    assert sorted(history(runner, run, "loss")) == steps
    assert weights[0] == 10.0
    assert weights[50] == pytest.approx(10 * 0.9**50, rel=1e-5)
    assert history(runner, run, "gradient")[7] == pytest.approx(2 * 10 * 0.9**6, rel=1e-5)
    assert history(runner, run, "gradient_norm") == history(runner, run, "gradient")


def test_the_final_results_are_separate_metrics(recorded: tuple[Command, Run]) -> None:
    runner, run = recorded
    metrics = run.data.metrics
    assert metrics["final/weight"] == metrics["final/distance"] == history(runner, run, "weight")[50]
    assert metrics["final/loss"] == history(runner, run, "loss")[50]
    assert metrics["final/loss_error"] == pytest.approx(metrics["final/loss"] - 20)
    assert metrics["final/gradient_norm"] == history(runner, run, "gradient_norm")[50]
    assert metrics["steps_done"] == metrics["gradient_evaluations"] == 50
    assert metrics["steps_per_second"] == pytest.approx(50 / metrics["seconds"])


def test_tags_hold_versions_commit_and_outcome(recorded: tuple[Command, Run]) -> None:
    runner, run = recorded
    commit = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=runner.folder, text=True).strip()
    tags = run.data.tags
    assert tags["git.commit"] == commit
    assert tags["git.dirty"] == "false"
    assert {"version.python", "version.torch", "version.runner"} <= tags.keys()
    assert (tags["team"], tags["runner.outcome"]) == ("blue", "ran all its steps")
    assert (run.info.status, run.info.run_name) == ("FINISHED", "first")


def test_a_diverged_run_is_finished_and_has_its_step(runner: Command) -> None:
    done = runner("lr=1.1", "steps=5000", "log_every=10")
    assert done.code == 0
    assert "diverged: loss, gradient or weight became infinite or NaN" in done.out
    (run,) = runs_in(runner)
    step = int(run.data.tags["diverged_at_step"])
    assert run.info.status == "FINISHED"
    losses = history(runner, run, "loss")
    assert max(losses) == step == run.data.metrics["steps_done"]
    assert all(math.isfinite(loss) for at, loss in losses.items() if at < step)


def test_pythonwarnings_error_does_not_affect_mlflow(runner: Command) -> None:
    done = runner("steps=3", PYTHONWARNINGS="error")
    assert (done.code, done.err) == (0, "")
    assert [run.info.status for run in runs_in(runner)] == ["FINISHED"]


def test_the_uri_given_comes_before_the_environment_before_the_default(runner: Command) -> None:
    env = {"MLFLOW_TRACKING_URI": "sqlite:///env.db"}
    quick = ["steps=2", "quiet=true"]
    assert runner(*quick, "tracking.uri=sqlite:///given.db", "tracking.experiment=mine", **env).code == 0
    assert len(runs_in(runner, "given.db", "mine")) == 1
    assert not (runner.folder / "env.db").exists()
    assert runner(*quick, **env).code == 0
    assert len(runs_in(runner, "env.db")) == 1
    assert not (runner.folder / "outputs/mlflow.db").exists()


def test_tracking_off_creates_no_file(runner: Command) -> None:
    assert runner("steps=5", "tracking=off").code == 0
    assert list(runner.folder.iterdir()) == []


def test_a_database_of_another_schema_is_refused_and_left_alone(runner: Command) -> None:
    assert runner("steps=2", "quiet=true").code == 0
    with sqlite3.connect(runner.folder / "outputs/mlflow.db") as database:
        database.execute("update alembic_version set version_num = '867495a8f9d4'")
    done = runner("steps=2")
    assert done.code == 2
    assert len(done.errors) == 1
    assert "mlflow db upgrade" in done.errors[0]
    with sqlite3.connect(runner.folder / "outputs/mlflow.db") as database:
        assert database.execute("select count(*) from runs").fetchone() == (1,)
    assert not list(runner.folder.rglob("*.journal"))


def test_an_unreachable_server_is_reported_at_once_without_its_password(runner: Command) -> None:
    done = runner("tracking=server", "tracking.uri=http://me:secret@127.0.0.1:9")
    assert done.code == 2
    assert len(done.errors) == 1
    assert done.errors[0].startswith("tracking.uri=http://***@127.0.0.1:9: ")
    assert "secret" not in done.out + done.err
    assert list(runner.folder.iterdir()) == []


def test_a_folder_of_any_name_keeps_its_record(runner: Command) -> None:
    odd = Command(runner.folder / "a%20b?c #'d é")
    odd.folder.mkdir()
    for _ in range(2):
        done = odd("steps=3")
        assert done.code == 0, done.err
    assert [path.name for path in runner.folder.iterdir()] == [odd.folder.name]
    with sqlite3.connect(odd.folder / "outputs/mlflow.db") as database:
        assert database.execute("select count(*) from runs where status = 'FINISHED'").fetchone() == (2,)
    assert odd(module="runner.reap").out == "reaped     0 runs\n"


def test_runs_started_at_once_on_a_fresh_postgresql_are_all_recorded(
    runner: Command, empty_postgresql: Callable[[str], str]
) -> None:
    uri = empty_postgresql("fresh")
    started = [runner.fork(f"tracking.uri={uri}", "steps=3") for _ in range(4)]
    assert [(process.communicate(timeout=280)[1], process.returncode) for process in started] == [("", 0)] * 4
    client = MlflowClient(uri)
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert [run.info.status for run in runs] == ["FINISHED"] * 4


def test_runs_started_at_once_on_a_fresh_database_are_all_recorded(runner: Command) -> None:
    processes = [runner.fork("steps=20", "quiet=true", f"name=r{number}", **FRESH) for number in range(8)]
    assert [process.wait(timeout=280) for process in processes] == [0] * 8
    runs = runs_in(runner)
    assert sorted(str(run.info.run_name) for run in runs) == [f"r{number}" for number in range(8)]
    assert all(run.info.status == "FINISHED" for run in runs)
    assert all(len(history(runner, run, "loss")) == 20 for run in runs)
