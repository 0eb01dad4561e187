"""Sweeps: every combination a child of one parent, validated before the first starts, none hiding another."""

from mlflow.entities import Run

from tests.conftest import Command
from tests.tracking.test_recorder import runs_in


def parent_and_children(runs: list[Run]) -> tuple[Run, list[Run]]:
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run is not parent]
    assert all(run.data.tags["mlflow.parentRunId"] == parent.info.run_id for run in children)
    return parent, children


def test_every_combination_is_a_child_named_by_what_varies(runner: Command) -> None:
    done = runner("-m", "lr=0.01,0.05,0.1", "steps=10,20", "dtype=float64")
    assert done.code == 0, done.err
    assert "sweep      6 jobs: 6 finished, 0 failed" in done.out
    parent, children = parent_and_children(runs_in(runner))
    assert parent.info.run_id in done.out
    names = [f"lr={lr} steps={steps}" for lr in ("0.01", "0.05", "0.1") for steps in (10, 20)]
    assert [child.info.run_name for child in children] == names
    assert parent.data.params == {"lr": "0.01,0.05,0.1", "steps": "10,20", "dtype": "float64"}
    assert parent.data.metrics == {"jobs": 6, "jobs_finished": 6, "jobs_failed": 0}
    assert {run.info.status for run in [parent, *children]} == {"FINISHED"}
    assert [child.data.metrics["steps_done"] for child in children] == [10, 20] * 3
    assert sorted(path.name for path in runner.folder.iterdir()) == ["outputs"]


def test_all_wrong_jobs_are_told_and_none_is_started(runner: Command) -> None:
    done = runner("-m", "lr=0.1,-1,-2,-3,-4,-5,-6", "steps=1,0")
    assert done.code == 2
    assert done.errors[0] == "steps=0: expected a whole number of at least 1 (job lr=0.1 steps=0)"
    assert done.errors[1] == "lr=-1: expected a finite number above 0 (job lr=-1 steps=1)"
    assert done.errors[-1] == "and 8 more of 14 jobs"
    assert len(done.errors) == 6
    assert list(runner.folder.iterdir()) == []


def test_a_shape_that_does_not_fit_is_told_before_the_first_job(runner: Command) -> None:
    done = runner("-m", "initial_weight=3,[1,2]")
    assert done.code == 2
    assert done.errors == [
        "initial_weight=[1,2]: expected 1 number for objective quadratic, given 2 (job initial_weight=[1,2])"
    ]
    assert list(runner.folder.iterdir()) == []


def test_a_job_that_fails_hides_no_other(runner: Command) -> None:
    steep = ["objective=rosenbrock", "objective.steepness=0", "steps=3"]
    done = runner("-m", *steep, "initial_weight=[1e30,0],[1,2],[2e30,0]")
    assert done.code == 1
    assert [error.split(" failed: ")[0] for error in done.errors] == [
        "job initial_weight=[1e+30,0]",
        "job initial_weight=[2e+30,0]",
    ]
    parent, children = parent_and_children(runs_in(runner))
    assert (parent.info.status, parent.data.metrics["jobs_failed"]) == ("FAILED", 2)
    assert [child.info.run_name for child in children] == ["initial_weight=[1,2]"]


def test_groups_quotes_and_single_jobs_are_swept(runner: Command) -> None:
    quick = ["steps=2", "lr=0.0001"]
    assert runner("-m", *quick, "objective=quadratic,rosenbrock").code == 0
    assert runner("-m", *quick, "name='it is','so: yes, \"quoted\"'").code == 0
    assert runner("-m", *quick, "name=alone").code == 0
    names = {str(run.info.run_name) for run in runs_in(runner)}
    assert {"objective=quadratic", "objective=rosenbrock", "it is", 'so: yes, "quoted"', "alone"} <= names


def test_an_experiment_of_ones_own_may_hold_the_sweep(runner: Command) -> None:
    folder = runner.folder / "mine" / "experiment"
    folder.mkdir(parents=True)
    (folder / "rates.yaml").write_text(
        "# @package _global_\nsteps: 2\nhydra:\n  sweeper:\n    params:\n      lr: 0.1,0.2\n"
    )
    done = runner("-m", "--config-dir", "mine", "experiment=rates")
    assert done.code == 0, done.err
    assert "sweep      2 jobs: 2 finished, 0 failed" in done.out


def test_two_sweeps_started_at_once_share_nothing(runner: Command) -> None:
    sweeps = [runner.start("-m", "lr=0.1,0.2", "steps=3", f"tags.sweep={number}") for number in range(2)]
    assert [sweep.wait(timeout=60) for sweep in sweeps] == [0, 0]
    runs = runs_in(runner)
    assert len(runs) == 6
    for number in range(2):
        parent_and_children([run for run in runs if run.data.tags["sweep"] == str(number)])
