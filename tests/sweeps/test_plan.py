"""Plans: `run_sweep` asks for jobs, runs them, and reports the results, until the plan has no more jobs."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

import runner
from runner.composition.composition import install
from runner.launchers.in_process import InProcess
from runner.messages.errors import UserError
from runner.sweeps import plan, planning
from runner.sweeps.job import Job
from runner.sweeps.outcome import JobResult, best_of, counts
from runner.sweeps.plan import GridPlan, Plan
from runner.sweeps.running import run_sweep
from runner.sweeps.summary import totals
from tests.support.compositions import jobs_of

install()


class BestThenLonger(Plan):
    """Runs a grid, then the best of its learning rates with more steps."""

    def __init__(self, *overrides: str) -> None:
        self.overrides = overrides
        self.received: list[list[JobResult]] = []

    def ask(self) -> Sequence[Job]:
        if not self.received:
            return jobs_of(["lr=0.1,0.2,0.3", "steps=2", *self.overrides])
        if len(self.received) > 1:
            return ()
        best = best_of(self.received[0])
        assert best is not None
        return jobs_of([*best.job.varying, "steps=3,4", *self.overrides])

    def later(self) -> Iterator[Sequence[Job]]:
        return iter(())

    def tell(self, results: Sequence[JobResult]) -> None:
        self.received.append(list(results))


@pytest.mark.usefixtures("in_empty_folder")
def test_jobs_may_depend_on_the_results_of_others(capsys: pytest.CaptureFixture[str]) -> None:
    plan = BestThenLonger()
    results = run_sweep(plan, ["lr=best"], InProcess(memory_mib=512))
    assert [(one.job.config.lr, one.job.config.steps) for one in results] == [
        (0.1, 2),
        (0.2, 2),
        (0.3, 2),
        (0.3, 3),
        (0.3, 4),
    ]
    assert [[one.status for one in batch] for batch in plan.received] == [["COMPLETED"] * 3, ["COMPLETED"] * 2]
    out = capsys.readouterr().out
    assert "sweep      3 jobs in 1 batch\n" in out
    assert "sweep      2 jobs in 1 batch\n" in out
    assert "ended      5 jobs asked for, 0 skipped, 5 run: 5 finished, 0 failed" in out
    client = MlflowClient("sqlite:///outputs/mlflow.db")
    (experiment,) = (one.experiment_id for one in client.search_experiments() if one.name == "descent")
    runs = client.search_runs([experiment])
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    assert (len(runs), parent.data.tags["jobs"], parent.info.status) == (6, "5", "FINISHED")
    assert "jobs_pruned" not in parent.data.tags
    again = run_sweep(BestThenLonger(), ["lr=best"], InProcess(memory_mib=512), resume=True)
    assert [one.status for one in again] == ["SKIPPED"] * 5
    assert [one.run_id for one in again] == [one.run_id for one in results]


def test_a_grid_returns_its_jobs_once() -> None:
    jobs = jobs_of(["lr=0.1,0.2"])
    plan = GridPlan(jobs)
    assert list(plan.ask()) == jobs
    plan.tell([])
    assert list(plan.ask()) == []


def test_pruned_jobs_are_counted_and_have_no_rank() -> None:
    jobs = jobs_of(["lr=0.1,0.2,0.3"])
    losses = {"COMPLETED": 2.0, "PRUNED": 1.0, "STOPPED": 3.0}
    results = [
        JobResult(job, status, None, status, {"final/loss": loss}, is_pruned=status == "PRUNED")
        for job, (status, loss) in zip(jobs, losses.items(), strict=True)
    ]
    assert counts(results)["jobs_pruned"] == 1
    assert totals(results) == (
        "ended      3 jobs asked for, 0 skipped, 3 run: 2 finished (1 stopped), 1 pruned, 0 failed"
    )
    best = best_of(results)
    assert best is not None
    assert best.status == "COMPLETED"


@pytest.fixture
def in_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let grids of more than four jobs run four jobs at a time, made again when they are needed."""
    monkeypatch.setattr(plan, "ROUND", 4)
    monkeypatch.setattr(planning, "ROUND", 4)


GRID = ["lr=logspace(-2,-1,5)", "optimizer=gd,momentum", "gradient_noise=0.1", "repeats=2", "where='lr < 0.09'"]
SETTINGS = ["steps=3", "tracking.children=varied", "report=false", "quiet=true"]


def record_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return what was recorded of the jobs of a sweep, the params as they are read."""
    uri = "sqlite:///outputs/mlflow.db"
    measured = {"seconds", "steps_per_second"}
    sweep = runner.runs(frame.run_id[0], uri=uri)[0].sweep
    assert sweep is not None
    found = sorted(runner.runs(sweep, uri=uri), key=lambda run: run.name)
    assert all(run.config.lr == run.params["lr"] for run in found)
    return [
        {"name": run.name, **run.params, **{key: run.metrics[key] for key in run.metrics if key not in measured}}
        for run in found
    ]


@pytest.mark.usefixtures("in_empty_folder")
def test_jobs_in_rounds_give_the_record_of_jobs_at_once(request: pytest.FixtureRequest) -> None:
    columns = ["run_id", "seconds", "steps_per_second"]
    at_once = runner.sweep([*GRID, *SETTINGS])
    request.getfixturevalue("in_rounds")
    in_rounds = runner.sweep([*GRID, *SETTINGS])
    assert len(in_rounds) == 16
    pd.testing.assert_frame_equal(in_rounds.drop(columns=columns), at_once.drop(columns=columns))
    assert record_of(in_rounds) == record_of(at_once)
    again = runner.sweep([*GRID, *SETTINGS, "resume=true"])
    assert set(again.status) == {"SKIPPED"}
    assert list(again.run_id) == list(in_rounds.run_id)


@pytest.mark.usefixtures("in_rounds")
def test_a_mistake_in_a_later_round_refuses_the_whole_sweep(in_empty_folder: Callable[[], list[str]]) -> None:
    for key, wrong in (("lr", "0"), ("initial_weight", "1e300")):  # to any objective, and to this one
        with pytest.raises(UserError, match=f"{key}="):
            runner.sweep([f"{key}=0.1,0.2,0.3,0.4,0.5,{wrong}", "steps=2", "quiet=true"])
    assert in_empty_folder() == []


@pytest.mark.usefixtures("in_rounds", "in_empty_folder")
def test_a_failure_with_fail_fast_leaves_the_later_rounds() -> None:
    Path("brittle.py").write_text(
        "def bowl(w):\n    if float(w[0]) == 4:\n        raise ValueError('4')\n    return w @ w\n"
    )
    own = ["objective=callable", "objective.target=brittle:bowl", "allow_code=true"]
    sweep = [*own, "initial_weight=1,2,3,4,5,6,7,8,9", "steps=2", "lr=0.01", "fail_fast=true", "quiet=true"]
    frame = runner.sweep([*sweep, "tracking=off"])
    assert [*frame.status[4:]] == ["NOT_RUN"] * 5
    assert "FAILED" in set(frame.status)
