"""What the jobs of a sweep record themselves, by `tracking.children`, and what reads the same whichever it is."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

import runner
from runner.composition import composition
from runner.reading import Runs, runs
from runner.recorder.reap import reap
from runner.report.from_record import parts_of, sweep_command
from runner.report.page import page_of
from runner.rerun.verification import verify
from runner.tracking.processes import IDENTITY
from runner.tracking.tracker import tracking_to
from tests.conftest import Command
from tests.support.places import working_in
from tests.support.processes import wait_until
from tests.support.record import client, rows

pytestmark = pytest.mark.xdist_group("children")  # they share a record

# Choices with other keys, a number, one that every job has, and tags of the user's.
SWEEP = ["lr=0.1,0.2", "optimizer=gd,momentum", "steps=6", "tags.team=blue,red", "tags.of=us", "report=false"]
INCOMPARABLE = ["run_id", "sweep", "started", "ended", "seconds", "steps_per_second"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Record the same sweep in each of the ways."""
    with working_in(tmp_path_factory.mktemp("children")):
        with tracking_to(composition.to_config(composition.compose([])).tracking):
            for children in ("all", "varied", "summary"):
                runner.sweep([*SWEEP, f"tracking.children={children}", f"name={children}", "quiet=true"])
        yield Path.cwd()


@pytest.fixture
def read(place: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Runs]:
    monkeypatch.chdir(place)
    found = runs(uri=uri_of(place))
    return {sweep.name: runs(sweep.id, uri=uri_of(place)) for sweep in found.sweeps}


def uri_of(folder: Path) -> str:
    """Return the store of a folder; MLflow would take a relative path for that of another test."""
    return f"sqlite:///{folder}/outputs/mlflow.db"


def frame(read: Runs) -> pd.DataFrame:
    return read.frame().drop(columns=[*INCOMPARABLE, "name", "quiet"], errors="ignore")


def own(run_id: str, table: str) -> dict[str, str]:
    with sqlite3.connect("outputs/mlflow.db") as connection:
        return dict(connection.execute(f"select key, value from {table} where run_uuid = ?", (run_id,)).fetchall())


@pytest.mark.parametrize("children", ["varied", "summary"])
def test_a_job_records_what_varies_and_reads_as_if_it_had_recorded_all(read: dict[str, Runs], children: str) -> None:
    full, short = read["all"], read[children]
    pd.testing.assert_frame_equal(frame(short), frame(full), check_like=True)
    for one, whole in zip(short, full, strict=True):
        assert one.params == whole.params
        ours = {*IDENTITY, "runner.id", "mlflow.parentRunId"}
        assert {k: v for k, v in one.tags.items() if k not in ours} == {
            k: v for k, v in whole.tags.items() if k not in ours
        } | {"mlflow.runName": one.name}
    job = next(run for run in short if run.params["optimizer"] == "momentum")
    given = own(job.id, "params")
    assert {"lr", "tags.team", "optimizer.momentum"} <= given.keys()
    assert all(key in ("lr", "tags.team") or key.startswith("optimizer.") for key in given)
    tags = {"team", "runner.fingerprint", "runner.id", "runner.outcome", "mlflow.parentRunId", "mlflow.runName"}
    assert own(job.id, "tags").keys() == tags
    (parent,) = short.sweeps
    assert {"objective.name": "quadratic", "dtype": "float32", "steps": "6"}.items() <= parent.row.params.items()
    assert parent.row.params["optimizer"] == "gd,momentum"
    assert sweep_command(parent) == f"python -m runner -m {' '.join(SWEEP)} tracking.children={children} " + (
        f"name={children} quiet=true"
    )


def test_only_a_summary_lacks_the_steps(read: dict[str, Runs]) -> None:
    pd.testing.assert_frame_equal(
        read["varied"].histories("loss")[["step", "value"]], read["all"].histories("loss")[["step", "value"]]
    )
    assert read["summary"].histories().empty
    assert not any(run.is_step_metric(key) for run in read["summary"] for key in run.metrics)


@pytest.mark.parametrize("children", ["varied", "summary"])
def test_jobs_run_again_give_the_same_bits(read: dict[str, Runs], place: Path, children: str) -> None:
    found = read[children]
    verdicts = verify(found, MlflowClient(uri_of(place)))
    assert [verdict.is_equal for verdict in verdicts] == [True] * len(found)
    assert not any(verdict.circumstances for verdict in verdicts)


def test_a_page_of_a_summary_has_the_results(read: dict[str, Runs], place: Path) -> None:
    (parent,) = read["summary"].sweeps
    assert read["summary"].best()[0].id in page_of(parts_of([parent.id], uri_of(place)))


def test_a_resumed_sweep_is_continued_as_it_was_recorded(runner: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runner.folder)
    uri = uri_of(runner.folder)
    sweep = ["-m", "lr=0.1,0.2", "steps=5", "report=false", "quiet=true"]
    assert runner(*sweep, "tracking.children=varied").code == 0
    before = runs(uri=uri)
    lost = before[0]
    with sqlite3.connect("outputs/mlflow.db") as connection:
        connection.execute("update runs set status = 'KILLED' where run_uuid = ?", (lost.id,))
    # What does not change the result may differ from the first start: the job has it itself.
    again = runner(*sweep, "resume=true", "quiet=false", "keep_weights=none")
    assert "2 jobs asked for, 1 skipped, 1 run" in again.out, again.err
    kept, new = sorted(runs(uri=uri), key=lambda run: run.id)
    assert (kept.id, kept.params, dict(kept.tags)) == (before[1].id, before[1].params, dict(before[1].tags))
    assert new.params == {**lost.params, "keep_weights": "none", "quiet": False}
    assert own(new.id, "params").keys() == {"lr", "keep_weights", "quiet"}
    # Other choices lack keys that the parent run has.
    (parent,) = before.sweeps
    more = runner("-m", "lr=0.1", "optimizer=adam,gd", "steps=5", "report=false", f"resume={parent.id}")
    assert "2 jobs asked for, 1 skipped, 1 run" in more.out, more.err
    found = runs(uri=uri)
    adam = next(run for run in found if run.params["optimizer"] == "adam")
    assert adam.config.optimizer.name == "adam"
    assert {run.params["optimizer"] for run in found} == {"gd", "adam"}
    assert {key for key in kept.params if key.startswith("optimizer")} == {"optimizer"}
    assert adam.params.keys() > kept.params.keys()


def test_a_job_that_has_its_process_at_its_parent_is_reaped_with_it(runner: Command) -> None:
    going = runner.fork("-m", "lr=0.0001,0.0002", "steps=3000000", "log_every=1000", "tracking.children=varied")
    wait_until(lambda: len(rows(runner, "select 1 from runs where status = 'RUNNING'")) == 3)
    store = client(runner)
    assert reap(store, ["1"]) == []
    with sqlite3.connect(runner.folder / "outputs/mlflow.db", timeout=60) as connection:
        connection.execute("update tags set value = 'gone' where key = 'runner.pid'")
    assert len(reap(store, ["1"])) == 3
    going.kill()


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (["tracking.children=some"], "tracking.children=some: expected all, varied or summary"),
        (["tracking.children=sumary"], "; did you mean 'summary'?"),
        (["tracking.children=all,varied"], "tracking.children=all,varied: expected one value for all jobs of a sweep"),
    ],
)
def test_other_ways_are_refused_in_a_line(runner: Command, given: list[str], line: str) -> None:
    done = runner("-m", "lr=0.1,0.2", "steps=2", *given)
    assert done.code == 2
    assert line in done.errors[0]
    assert list(runner.folder.iterdir()) == []
