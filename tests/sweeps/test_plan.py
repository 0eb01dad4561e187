"""Plans: `run_sweep` asks for jobs, runs them, and reports the results, until the plan has no more jobs."""

from collections.abc import Sequence

import pytest
from mlflow.tracking import MlflowClient

from runner.composition.composition import install
from runner.launchers.in_process import InProcess
from runner.sweeps.job import Job
from runner.sweeps.outcome import JobResult, best_of, counts
from runner.sweeps.plan import GridPlan
from runner.sweeps.running import run_sweep
from runner.sweeps.summary import totals
from tests.support.compositions import jobs_of

install()


class BestThenLonger:
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
        JobResult(job, status, None, status, {"final/loss": loss})
        for job, (status, loss) in zip(jobs, losses.items(), strict=True)
    ]
    assert counts(results)["jobs_pruned"] == 1
    assert totals(results) == (
        "ended      3 jobs asked for, 0 skipped, 3 run: 2 finished (1 stopped), 1 pruned, 0 failed"
    )
    best = best_of(results)
    assert best is not None
    assert best.status == "COMPLETED"
