"""What a search leaves with its parent run: history, best trial, importances, trials by state."""

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import TrialState

from runner.report.from_record import parts_of
from runner.report.page import SweepPart
from runner.report.search import Search
from runner.search import findings
from runner.search.settings import SearchSettings
from tests.conftest import Command
from tests.support.processes import wait_until
from tests.support.record import client, history, runs_in
from tests.support.searches import trials_told
from tests.support.template import place

SETTINGS: dict[str, Any] = {
    "sampler": {"name": "random"}, "n_trials": 10, "batch_size": 5, "timeout": None, "repeats_value": "mean",
    "diverged": "worst", "max_failure_rate": 0, "storage": None, "study_name": None, "seed": 0,
    "pruner": {"name": "none"}, "refill": False,
}  # fmt: skip


def settings(metric: object = "best/loss", direction: object = "minimize") -> SearchSettings:
    return SearchSettings.of(SETTINGS | {"metric": metric, "direction": direction})


def study_of(values: Sequence[Sequence[float] | None], *directions: Any) -> optuna.Study:
    """Return a study in which `a` decides and `b` does not; None is a trial that is pruned."""
    ways: list[Any] = [*directions] or ["minimize"]
    study = optuna.create_study(directions=ways)
    keys: dict[str, BaseDistribution] = {"a": FloatDistribution(0, 1), "b": FloatDistribution(0, 1)}
    for number, value in enumerate(values):
        params = {"a": number / len(values), "b": (7 * number % 10) / 10}
        state = TrialState.PRUNED if value is None else TrialState.COMPLETE
        study.add_trial(optuna.create_trial(params=params, distributions=keys, values=value, state=state))
    return study


@pytest.mark.parametrize(("direction", "best"), [("minimize", [5, 3, 3, 1]), ("maximize", [5, 5, 9, 9])])
def test_the_history_has_each_value_and_the_best_so_far(direction: str, best: list[float]) -> None:
    study = study_of([[5], [3], None, [9], [1]], direction)
    points = list(findings.history(study.trials, settings(direction=direction)))
    assert [(one.step, one.values) for one in points] == [
        (number, {"search/value": value, "search/best": up_to})
        for number, value, up_to in zip([0, 1, 3, 4], [5, 3, 9, 1], best, strict=True)
    ]
    assert points == list(findings.history(study.trials, settings(direction=direction)))
    assert findings.sentence(study.trials) == "5 trials: 4 complete, 1 pruned, 0 failed"


def test_of_several_metrics_there_are_values_and_a_front() -> None:
    both = settings(["best/loss", "seconds"], ["minimize", "maximize"])
    study = study_of([[1, 1], [2, 2], [3, 1]], "minimize", "maximize")
    values = [one.values for one in findings.history(study.trials, both)]
    assert values[1] == {"search/value/best/loss": 2, "search/value/seconds": 2}
    best = findings.best_trials(study, study.trials)
    tags = findings.tags_of(study.trials, best, both, "here", findings.importances(study))
    assert tags["search.pareto_front"] == "0, 1"
    assert "best.trial" not in tags


@pytest.mark.parametrize(
    ("values", "directions", "expected"),
    [
        ([[float(number)] for number in range(30)], ["minimize"], "a"),
        ([[float(number)] * 2 for number in range(30)], ["minimize", "minimize"], "a"),
        ([[float(number)] for number in range(10)], ["minimize"], "none: 10 complete trials, expected at least 20"),
        ([[1.0]] * 30, ["minimize"], "none: the values of the trials do not differ enough"),
    ],
)
def test_importances_are_shares_or_a_reason(values: list[list[float]], directions: list[str], expected: str) -> None:
    found = findings.importances(study_of(values, *directions))
    if found.shares:
        assert next(iter(found.shares)) == expected
        assert sum(found.shares.values()) == pytest.approx(1)
    else:
        assert str(found) == expected


def test_the_parent_run_has_the_whole_history_once_after_ctrl_c_and_resume(runner: Command, template: Path) -> None:
    place(template, runner.folder / "outputs/mlflow.db")
    given = ["-m", "hydra/sweeper=search", "objective=rosenbrock", "steps=20", "hydra.sweeper.batch_size=4"]
    given += ["lr=tag(log,interval(1e-5,1e-3))", "seed=range(0,9)"]
    process = runner.fork(*given, "hydra.sweeper.n_trials=2000")
    wait_until(lambda: trials_told(runner) >= 22)
    process.send_signal(signal.SIGINT)
    process.communicate()
    (parent,) = (run for run in runs_in(runner) if run.data.tags.get("runner.kind") == "sweep")
    assert parent.info.status == "KILLED"
    before, told = parent.data.tags, history(runner, parent, "search/value")
    assert len(told) == int(before["trials_complete"]) >= 20
    total = int(before["trials"]) + 3
    done = runner(*given, f"hydra.sweeper.n_trials={total}", "resume=true")
    assert done.code == 0, done.err
    (parent,) = (run for run in runs_in(runner) if run.data.tags.get("runner.kind") == "sweep")
    tags = parent.data.tags
    assert {key: int(tags[f"trials{key}"]) for key in ("", "_complete", "_failed", "_unfinished")} == {
        "": total, "_complete": total, "_failed": 0, "_unfinished": 0,
    }  # fmt: skip
    rows = {key: client(runner).get_metric_history(parent.info.run_id, f"search/{key}") for key in ("value", "best")}
    assert [sorted(one.step for one in found) for found in rows.values()] == [[*range(total)]] * 2
    values = {one.step: one.value for one in rows["value"]}
    assert told.items() <= values.items()
    assert float(tags["best.value"]) == min(values.values()) == min(one.value for one in rows["best"])
    best = client(runner).get_run(tags["best.run"]).data
    assert best.tags["runner.trial"] == tags["best.trial"]
    assert (best.params["lr"], best.metrics["best/loss"]) == (tags["best.lr"], float(tags["best.value"]))
    children = [run for run in runs_in(runner) if "mlflow.parentRunId" in run.data.tags]
    assert sorted(int(run.data.tags["runner.trial"]) for run in children) == [*range(total)]
    shares = [value for key, value in parent.data.metrics.items() if key.startswith("importance/")]
    assert len(shares) == 2
    assert sum(shares) == pytest.approx(1)
    (part,) = parts_of([parent.info.run_id], f"sqlite:///{runner.folder}/outputs/mlflow.db")
    assert isinstance(part, SweepPart)
    assert part.search is not None
    assert part.search.numbers.tolist() == [*range(total)]
    assert part.search.best_so_far[-1] == float(tags["best.value"])
    assert part.search.best_trial == int(tags["best.trial"])
    assert part.search.counts["complete"] == total
    assert part.search.importances.keys() == {"lr", "seed"}
    assert "hydra/sweeper=search hydra.sweeper.batch_size=4" in part.command
    assert "runner.owner" not in part.command
    assert tags["mlflow.note.content"].startswith(f"Search: {total} trials: {total} complete, 0 failed.")


def test_two_processes_on_one_study_share_its_trials(runner: Command, template: Path) -> None:
    place(template, runner.folder / "outputs/mlflow.db")
    given = ["-m", "hydra/sweeper=search", "objective=rosenbrock", "steps=20", "resume=true", "quiet=true"]
    given += ["lr=tag(log,interval(1e-5,1e-3))", "hydra.sweeper.study_name=shared", "hydra.sweeper.batch_size=3"]
    given += ["hydra/sweeper/sampler=random"]
    processes = [runner.fork(*given, "hydra.sweeper.n_trials=24") for _ in range(2)]
    outs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outs
    runs = runs_in(runner)
    parents = {run.info.run_id: run for run in runs if run.data.tags.get("runner.kind") == "sweep"}
    assert 1 <= len(parents) <= 2, "one that comes when all trials have begun has nothing to do"
    assert {run.info.status for run in runs} == {"FINISHED"}
    jobs = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert sorted(int(run.data.tags["runner.trial"]) for run in jobs) == [*range(24)]
    assert len({run.data.params["lr"] for run in jobs}) == 24
    for parent, run in parents.items():
        own = [job for job in jobs if job.data.tags["mlflow.parentRunId"] == parent]
        assert int(run.data.tags["jobs"]) == len(own)
        assert int(run.data.tags["trials"]) <= 24
    last = max(parents.values(), key=lambda run: int(run.data.tags["trials_complete"]))
    assert int(last.data.tags["trials_complete"]) == 24
    assert len(history(runner, last, "search/value")) == 24


@examples(max_examples=30)
@given(
    st.lists(st.tuples(*[st.integers(0, 4).map(float)] * 3), min_size=1, max_size=12),
    st.lists(st.booleans(), min_size=3, max_size=3),
)
def test_the_front_is_optuna_s(values: list[tuple[float, ...]], is_upward: list[bool]) -> None:
    study = study_of(values, *("maximize" if upward else "minimize" for upward in is_upward))
    numbers = np.arange(len(values))
    found = Search(["a", "b", "c"], is_upward, "", "", {}, numbers, np.array(values), {}, None, {}, "")
    assert numbers[found.front].tolist() == [trial.number for trial in findings.best_trials(study, study.trials)]
