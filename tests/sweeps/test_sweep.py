"""Sweeps: every combination is a child of one parent, and all are validated before the first starts."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from tests.conftest import ROOT, Command
from tests.support.processes import wait_until
from tests.support.record import rows, runs_in


def parent_and_children(runs: list[Run]) -> tuple[Run, list[Run]]:
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run is not parent]
    assert all(run.data.tags["mlflow.parentRunId"] == parent.info.run_id for run in children)
    return parent, children


def test_every_combination_is_a_child_named_by_what_varies(runner: Command) -> None:
    done = runner("-m", "lr=0.01,0.05,0.1", "steps=10,20", "dtype=float64")
    assert done.code == 0, done.err
    assert "sweep      6 jobs in 1 batch" in done.out
    assert "ended      6 jobs asked for, 0 skipped, 6 run: 6 finished, 0 failed" in done.out
    parent, children = parent_and_children(runs_in(runner))
    assert parent.info.run_id in done.out
    names = [f"lr={lr} steps={steps}" for lr in ("0.01", "0.05", "0.1") for steps in (10, 20)]
    children.sort(key=lambda child: names.index(str(child.info.run_name)))
    assert [child.info.run_name for child in children] == names
    assert parent.data.params == {"lr": "0.01,0.05,0.1", "steps": "10,20", "dtype": "float64"}
    outcomes = {"completed": 6, "stopped": 0, "diverged": 0, "failed": 0, "skipped": 0}
    best = min(children, key=lambda child: child.data.metrics["final/loss"])
    assert parent.data.metrics == {"best_loss": best.data.metrics["final/loss"]}
    counts = {"jobs": "6", **{f"jobs_{outcome}": str(count) for outcome, count in outcomes.items()}}
    assert counts.items() <= parent.data.tags.items()
    by_rank = sorted(children, key=lambda child: child.data.metrics["rank"])
    assert [child.data.metrics["rank"] for child in by_rank] == [1, 2, 3, 4, 5, 6]
    assert by_rank == sorted(children, key=lambda child: child.data.metrics["final/loss"])
    assert not {"name", "parent_run", "log_every"} & best.data.params.keys()
    assert parent.data.tags["best.run"] == best.info.run_id
    assert (parent.data.tags["best.lr"], parent.data.tags["best.steps"]) == ("0.1", "20")
    assert {run.info.status for run in [parent, *children]} == {"FINISHED"}
    assert [child.data.metrics["steps_done"] for child in children] == [10, 20] * 3
    assert sorted(path.name for path in runner.folder.iterdir()) == ["outputs"]


def test_the_best_of_a_sweep_that_maximizes_is_the_highest(runner: Command) -> None:
    done = runner("-m", "optimizer=adam", "optimizer.maximize=true", "lr=0.1,0.01", "steps=5")
    assert done.code == 0, done.err
    parent, children = parent_and_children(runs_in(runner))
    assert parent.data.metrics["best_loss"] == max(child.data.metrics["final/loss"] for child in children)
    assert parent.data.tags["best.lr"] == "0.1"


def test_the_weights_of_the_best_run_are_recorded_or_of_all_with_keep_weights(runner: Command) -> None:
    sweep = ["-m", "lr=0.1,0.3,0.2", "steps=4", "quiet=true"]
    assert runner(*sweep).code == 0
    parent, _ = parent_and_children(runs_in(runner))
    (file,) = (runner.folder / "outputs/artifacts").rglob("weights.npz")
    assert file.parts[-3] == parent.data.tags["best.run"]
    assert np.load(file)["final"] == pytest.approx([10 * 0.4**4], rel=1e-5)
    assert runner(*sweep, "keep_weights=all", "tracking.uri=sqlite:///all.db", "tracking.artifacts=all").code == 0
    assert len(list((runner.folder / "all").rglob("weights.npz"))) == 3


def test_the_errors_of_all_jobs_are_reported_and_no_job_is_started(runner: Command) -> None:
    done = runner("-m", "lr=0.1,-1,-2,-3,-4,-5,-6", "steps=1,0")
    assert done.code == 2
    assert done.errors[0] == "steps=0: expected a whole number of at least 1 (job lr=0.1 steps=0)"
    assert done.errors[1] == "lr=-1: expected a finite number above 0 (job lr=-1 steps=1)"
    assert done.errors[-1] == "and 8 more of 14 jobs"
    assert len(done.errors) == 6
    assert list(runner.folder.iterdir()) == []


def test_a_wrong_dimension_is_reported_before_the_first_job(runner: Command) -> None:
    done = runner("-m", "initial_weight=3,[1,2]")
    assert done.code == 2
    assert done.errors == [
        "initial_weight=[1,2]: expected 1 number for objective quadratic, given 2 (job initial_weight=[1,2])"
    ]
    assert list(runner.folder.iterdir()) == []


def test_a_job_that_starts_at_nan_has_diverged_at_step_0(runner: Command) -> None:
    steep = ["objective=rosenbrock", "objective.steepness=0", "steps=3"]
    done = runner("-m", *steep, "initial_weight=[1e30,0],[1,2],[2e30,0]")
    assert done.code == 0, done.err
    assert "3 jobs asked for, 0 skipped, 3 run: 3 finished (2 diverged), 0 failed" in done.out
    parent, children = parent_and_children(runs_in(runner))
    assert (parent.info.status, parent.data.tags["jobs_diverged"]) == ("FINISHED", "2")
    diverged = [child for child in children if child.data.tags.get("diverged_at_step") == "0"]
    assert {child.info.run_name for child in diverged} == {"initial_weight=[1e+30,0]", "initial_weight=[2e+30,0]"}
    assert all("final/loss" not in child.data.metrics for child in diverged)


TOUCHY = """
import torch

calls = 0

def touchy(weight, limit=3.0):
    global calls
    calls += 1
    if limit == 0 and calls > 4:
        raise ValueError("touched at last")
    if bool((weight > limit).any()):
        raise ValueError("touched")
    return (weight**2).sum(-1)
"""


@pytest.fixture
def touchy(runner: Command) -> list[str]:
    (runner.folder / "mine.py").write_text(TOUCHY)
    return [
        "-m",
        "objective=callable",
        "objective.target=mine:touchy",
        "objective.of_one_point=false",
        "allow_code=true",
        "lr=0.01",
        "steps=5",
    ]


def test_a_failed_job_does_not_affect_the_others(runner: Command, touchy: list[str]) -> None:
    done = runner(*touchy, "initial_weight=1,5,2,7")
    assert done.code == 1
    assert done.errors == [
        "job initial_weight=5 failed: ValueError: touched (at mine.py:12 in touchy)",
        "job initial_weight=7 failed: ValueError: touched (at mine.py:12 in touchy)",
        "2 of 4 jobs failed; HYDRA_FULL_ERROR=1 shows the whole traceback",
    ]
    parent, children = parent_and_children(runs_in(runner))
    assert (parent.info.status, parent.data.tags["jobs_failed"]) == ("FAILED", "2")
    by_name = {str(child.info.run_name): child for child in children}
    assert {name: child.info.status for name, child in by_name.items()} == {
        "initial_weight=1": "FINISHED",
        "initial_weight=5": "FAILED",
        "initial_weight=2": "FINISHED",
        "initial_weight=7": "FAILED",
    }
    assert by_name["initial_weight=5"].data.tags["runner.reason"] == "ValueError: touched (at mine.py:12 in touchy)"
    assert by_name["initial_weight=1"].data.metrics["steps_done"] == 5


def test_jobs_continued_after_a_failed_batch_record_each_step_once(runner: Command, touchy: list[str]) -> None:
    done = runner(*touchy, "objective.arguments.limit=100", "initial_weight=1,2", "log_every=1")
    assert done.code == 0, done.err
    failing = runner(*touchy, "lr=-0.1,-0.3", "initial_weight=1")
    assert failing.code == 2
    rising = [*touchy, "optimizer=momentum", "optimizer.maximize=true", "lr=0.01,0.4", "initial_weight=1"]
    assert runner(*rising, "log_every=1").errors[-1].startswith("1 of 2 jobs failed; ")
    client = MlflowClient(f"sqlite:///{runner.folder}/outputs/mlflow.db")
    (survivor,) = [run for run in runs_in(runner) if run.info.run_name == "lr=0.01" and run.info.status == "FINISHED"]
    history = client.get_metric_history(survivor.info.run_id, "loss")
    assert sorted(metric.step for metric in history) == [1, 2, 3, 4, 5]


def test_jobs_that_cannot_be_batched_run_one_by_one_with_the_reason_printed(runner: Command) -> None:
    done = runner("-m", "optimizer=torch,gd", "lr=0.01,0.02", "steps=3")
    assert done.code == 0, done.err
    assert "sweep      4 jobs in 1 batch" in done.out
    assert "2 one by one: torch.optim's SGD takes one run at a time" in done.out
    losses = {str(run.info.run_name): run.data.metrics.get("final/loss") for run in runs_in(runner)}
    assert losses["optimizer=torch lr=0.01"] == pytest.approx(losses["optimizer=gd lr=0.01"])


@pytest.mark.parametrize("launcher", ["basic", "joblib", "submitit_local"])
def test_hydras_launchers_work_by_name(runner: Command, launcher: str) -> None:
    if launcher != "basic":
        pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    # In one process, or each in a new Python of its own, which costs seconds.
    swept, names = {
        "basic": (
            ["lr=0.01,0.05", "repeats=2"],
            {f"lr={lr} seed={seed}" for lr in ("0.01", "0.05") for seed in (0, 1)},
        ),
        "joblib": (["repeats=2"], {"seed=0", "seed=1"}),
        "submitit_local": (["lr=0.01,0.05"], {"lr=0.01", "lr=0.05"}),
    }[launcher]
    done = runner("-m", f"hydra/launcher={launcher}", *swept, "steps=3")
    assert done.code == 0, done.err
    assert f"ended      {len(names)} jobs run: {len(names)} finished, 0 failed" in done.out
    _, children = parent_and_children(runs_in(runner))
    assert {child.info.run_name for child in children} == names


def test_hydras_basic_sweeper_can_use_the_runners_launcher(runner: Command) -> None:
    done = runner("-m", "hydra/sweeper=basic", "lr=0.01,0.05", "steps=3")
    assert done.code == 0, done.err
    _, children = parent_and_children(runs_in(runner))
    assert {child.info.run_name for child in children} == {"lr=0.01", "lr=0.05"}


def test_mappings_given_twice_are_merged_and_the_parent_has_them_as_typed(runner: Command) -> None:
    twice = ["stop.loss_change={below:1}", "stop.loss_change={window:3}", "tags.team=blue", "lr=0.1"]
    assert "stopped by a rule" in runner(*twice, "tracking=off").out
    done = runner("-m", *twice, "tags={a:1},{b:2}")
    assert "2 finished (2 stopped)" in done.out
    parent, children = parent_and_children(runs_in(runner))
    assert parent.info.run_name == " ".join([*twice, "tags={a:1},{b:2}"])
    assert parent.data.params["stop.loss_change"] == "{below:1} {window:3}"
    assert [child.data.tags["team"] for child in children] == ["blue"] * 2
    lost = runner("-m", *twice, "hydra/sweeper=basic")
    assert lost.code == 2
    assert lost.errors == [
        "stop.loss_change={window:3}: expected one mapping with stop.loss_change={below:1}, "
        "which this sweeper would drop"
    ]


def test_means_and_spreads_over_seeds_are_printed_and_recorded(runner: Command) -> None:
    done = runner("-m", "lr=0.01,0.05", "repeats=3", "gradient_noise=1", "steps=20")
    assert done.code == 0, done.err
    lines = [line for line in done.out.splitlines() if line.endswith("over 3 seeds")]
    assert lines[0].startswith("seeds      lr=0.05 ")
    assert len(lines) == 2
    assert "+- 0 " not in done.out
    (file,) = (runner.folder / "outputs/artifacts").rglob("seeds.csv")
    best, other = csv.DictReader(file.open())
    _, children = parent_and_children(runs_in(runner))
    losses = [child.data.metrics["final/loss"] for child in children if child.data.params["lr"] == "0.05"]
    assert (best["lr"], other["lr"], best["seeds"]) == ("0.05", "0.01", "3")
    assert float(best["mean"]) == pytest.approx(sum(losses) / 3)
    assert float(best["highest"]) == max(losses)


def test_seeds_that_diverge_are_counted_separately(runner: Command) -> None:
    random = (
        "objective=expression",
        "objective.formula='(x**2-1)**2'",
        "objective.bounds=[-6,6]",
        "initial_weight=random",
    )
    done = runner("-m", *random, "lr=0.02,0.9", "repeats=8", "steps=30", "dtype=float64", "tracking=off")
    assert done.code == 0, done.err
    some, all_of_them = (line for line in done.out.splitlines() if line.startswith(("seeds ", " " * 11)))
    assert re.fullmatch(r"seeds      lr=0\.02  loss \S+ \+- \S+ over \d seeds, \d diverged", some)
    assert all_of_them.split() == ["lr=0.9", "all", "8", "seeds", "diverged"]


def test_a_sweep_records_at_most_320_points_a_run_unless_log_every_is_given(runner: Command) -> None:
    assert runner("-m", "lr=0.01,0.02", "steps=1000").code == 0
    assert runner("-m", "lr=0.03,0.04", "steps=1000", "log_every=250").code == 0
    client = MlflowClient(f"sqlite:///{runner.folder}/outputs/mlflow.db")
    ids = {str(run.info.run_name): run.info.run_id for run in runs_in(runner)}
    counts = {lr: len(client.get_metric_history(ids[f"lr={lr}"], "loss")) for lr in ("0.01", "0.03")}
    assert counts == {"0.01": 250, "0.03": 4}


def test_the_number_of_files_does_not_grow_with_the_number_of_jobs(runner: Command) -> None:
    assert runner("-m", "lr=linspace(0.001,0.1,200)", "steps=2").code == 0
    assert len(list(runner.folder.rglob("*"))) < 20


def test_a_sweep_is_continued_under_the_same_parent(runner: Command) -> None:
    sweep = ["-m", "lr=logspace(-4,-1,20)", "steps=5", "optimizer=gd,adam"]
    assert runner(*sweep).code == 0
    before = {run.info.run_id: run.info.end_time for run in runs_in(runner)}
    again = runner(*sweep, "resume=true", "quiet=false")
    assert again.code == 0, again.err
    assert "ended      40 jobs asked for, 40 skipped, 0 run: 0 finished, 0 failed" in again.out
    parent, children = parent_and_children(runs_in(runner))
    assert {child.info.run_id: child.info.end_time for child in children}.items() <= before.items()
    assert parent.data.tags["jobs_skipped"] == "40"
    more = runner("-m", "lr=logspace(-4,-1,20)", "steps=5,6", "optimizer=gd,adam", f"resume={parent.info.run_id}")
    assert "ended      80 jobs asked for, 40 skipped, 40 run: 40 finished, 0 failed" in more.out
    parent, children = parent_and_children(runs_in(runner))
    assert (parent.data.params["steps"], parent.data.tags["resumed.steps"]) == ("5", "5,6")
    assert (len(children), len({child.info.run_name for child in children})) == (80, 80)
    by_rank = sorted(children, key=lambda child: child.data.metrics["rank"])
    losses = [child.data.metrics["final/loss"] for child in by_rank]
    assert [child.data.metrics["rank"] for child in by_rank] == list(range(1, 81))
    assert losses == sorted(losses)


def test_a_sweep_that_was_killed_is_completed(runner: Command) -> None:
    sweep = ["-m", "lr=logspace(-4,-2,300)", "steps=20000", "log_every=100", "hydra.launcher.memory_mib=1"]
    process = runner.fork(*sweep)
    wait_until(lambda: rows(runner, "select count(*) from runs where status = 'RUNNING'") not in ([], [(0,)]))
    process.kill()
    process.wait()
    done = runner(*sweep, "resume=true")
    assert done.code == 0, done.err
    assert "300 jobs asked for" in done.out
    parent, children = parent_and_children(runs_in(runner))
    assert {run.info.status for run in [parent, *children]} == {"FINISHED"}
    assert len(children) == len({child.info.run_name for child in children}) == 300
    query = "select distinct n from (select count(*) n from metrics join runs using (run_uuid) where key = 'loss'"
    assert rows(runner, f"{query} and lifecycle_stage = 'active' and name like 'lr%' group by run_uuid)") == [(200,)]


def test_a_skipped_job_that_diverged_is_not_ranked(runner: Command) -> None:
    falling = ["objective=expression", "objective.formula='-x**4'", "initial_weight=1,0.001", "lr=1.5", "steps=30"]
    first, again = runner("-m", *falling), runner("-m", *falling, "resume=true")
    assert "2 jobs asked for, 2 skipped" in again.out
    best = [[line for line in done.out.splitlines() if line.startswith("best")] for done in (first, again)]
    assert best[0] == best[1]
    assert "initial_weight=0.001" in best[0][0]
    parent, _ = parent_and_children(runs_in(runner))
    assert parent.data.tags["best.initial_weight"] == "0.001"


def test_a_changed_source_of_a_callable_is_run_again(runner: Command) -> None:
    sweep = ["-m", "objective=callable", "objective.target=bowl:bowl", "allow_code=true", "steps=3", "lr=0.1,0.2"]
    sweep.append("resume=true")
    text = "def bowl(weight):\n    return (weight**{}).sum()\n"
    (runner.folder / "bowl.py").write_text(text.format(2))
    done = subprocess.run(
        [str(Path(sys.executable).with_name("runner")), *sweep],
        cwd=runner.folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert "2 jobs asked for, 0 skipped" in done.stdout, done.stderr
    assert "2 jobs asked for, 2 skipped" in runner(*sweep).out
    (runner.folder / "bowl.py").write_text(text.format(4))
    assert "2 jobs asked for, 0 skipped" in runner(*sweep).out


@pytest.mark.parametrize("where", [["tracking=off"], [], ["tracking=server", "tracking.offline=spool"]])
def test_a_sweep_that_is_not_recorded_cannot_be_continued_by_its_id(runner: Command, where: list[str]) -> None:
    done = runner("-m", "lr=0.1,0.2", "steps=2", "resume=0123", *where, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    assert done.code == 2
    assert done.errors[0].startswith("resume=0123: ")
    assert list(runner.folder.iterdir()) == []


def test_a_sweep_in_the_trash_is_not_continued(runner: Command) -> None:
    sweep = ["-m", "lr=0.1,0.2", "steps=2"]
    assert runner(*sweep).code == 0
    parent, _ = parent_and_children(runs_in(runner))
    MlflowClient(f"sqlite:///{runner.folder}/outputs/mlflow.db").delete_run(parent.info.run_id)
    done = runner(*sweep, f"resume={parent.info.run_id}")
    assert (done.code, "is in MLflow's trash" in done.errors[0]) == (2, True)
    anew = runner(*sweep, "resume=true")
    assert "no such sweep is recorded: a new one is started" in anew.out
    assert "2 jobs asked for, 0 skipped, 2 run" in anew.out


@pytest.mark.parametrize(
    ("resume", "line"),
    [
        ("0123", "resume=0123: no such run, expected the id of a sweep's parent run"),
        ("child", "not a sweep, expected the id of a sweep's parent run"),
    ],
)
def test_resume_of_a_run_that_is_not_a_sweep_is_an_error(runner: Command, resume: str, line: str) -> None:
    assert runner("-m", "lr=0.1,0.2", "steps=2").code == 0
    _, children = parent_and_children(runs_in(runner))
    done = runner("-m", "lr=0.1,0.2", "steps=2", f"resume={children[0].info.run_id if resume == 'child' else resume}")
    assert done.code == 2
    assert line in done.errors[0]
    assert len(runs_in(runner)) == 3


def test_groups_quotes_and_single_jobs_are_swept(runner: Command) -> None:
    quick = ["steps=2", "lr=0.0001"]
    assert runner("-m", *quick, "objective=quadratic,rosenbrock").code == 0
    assert runner("-m", *quick, "name='it is','so: yes, \"quoted\"'").code == 0
    assert runner("-m", *quick, "name=alone").code == 0
    names = {str(run.info.run_name) for run in runs_in(runner)}
    assert {"objective=quadratic", "objective=rosenbrock", "it is", 'so: yes, "quoted"', "alone"} <= names


def test_an_experiment_file_may_define_the_sweep(runner: Command) -> None:
    folder = runner.folder / "mine" / "experiment"
    folder.mkdir(parents=True)
    (folder / "rates.yaml").write_text(
        "# @package _global_\nsteps: 2\nhydra:\n  sweeper:\n    params:\n      lr: 0.1,0.2\n"
    )
    done = runner("-m", "--config-dir", "mine", "experiment=rates")
    assert done.code == 0, done.err
    assert "2 jobs asked for, 0 skipped, 2 run: 2 finished, 0 failed" in done.out


def test_the_jobs_of_a_sweep_come_from_the_primary_config_that_is_named(runner: Command) -> None:
    (runner.folder / "mine.yaml").write_text(
        "defaults: [config, _self_]\nlr: 0.3\nsteps: 3\ntracking:\n  experiment: a\n"
    )
    folder = ("--config-dir", str(runner.folder), "--config-name", "mine")
    swept = runner(*folder, "-m", "seed=1,2", "tracking=off")
    assert "loss 22.56  at step 3  distance 0.64" in swept.out
    assert "loss       22.5599994659" in runner(*folder, "tracking=off").out


def test_two_sweeps_started_at_once_share_nothing(runner: Command) -> None:
    sweeps = [runner.fork("-m", "lr=0.1,0.2", "steps=3", f"tags.sweep={number}") for number in range(2)]
    assert [sweep.wait(timeout=280) for sweep in sweeps] == [0, 0]
    runs = runs_in(runner)
    assert len(runs) == 6
    for number in range(2):
        parent_and_children([run for run in runs if run.data.tags["sweep"] == str(number)])


def test_jobs_with_different_stores_are_an_error(runner: Command) -> None:
    done = runner("-m", "tracking=sqlite,off", "steps=2")
    assert done.code == 2
    assert done.errors == [
        "tracking=sqlite sqlite:///outputs/mlflow.db,off: expected one store for all jobs of a sweep"
    ]
    assert list(runner.folder.iterdir()) == []
