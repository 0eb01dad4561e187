"""Pruning: which trials end at a rung, and that it changes nothing else."""

import math
import signal
from collections.abc import Mapping
from pathlib import Path

import optuna
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import runner as package
from runner.messages.errors import UserError
from runner.search.pruners import Hyperband, Percentile, Scores, SuccessiveHalving
from runner.search.study import JOURNALS
from tests.conftest import Command
from tests.support.processes import wait_until
from tests.support.record import rows
from tests.support.searches import trials_told
from tests.support.template import place

LR = "lr=tag(log,interval(1e-5,1e-2))"
SEARCH = [
    *("hydra/sweeper=search", "tracking=off", "quiet=true", "objective=rosenbrock", "steps=81", LR),
    *("hydra.sweeper.n_trials=24", "hydra.sweeper.batch_size=12"),
]
PRUNERS = ["median", "percentile", "successive_halving", "hyperband"]
VALUES = st.dictionaries(st.integers(0, 99), st.floats(-1e6, 1e6), min_size=1, max_size=60)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def study() -> optuna.Study:
    """Return the study of the folder whose trials have values at rungs."""
    found = []
    for journal in JOURNALS.glob("*.log"):
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal)))
        found += [optuna.load_study(study_name=name, storage=storage) for name in optuna.get_all_study_names(storage)]
    (one,) = (one for one in found if any(trial.intermediate_values for trial in one.trials))
    return one


def scores(waiting: Mapping[int, float], reached: Mapping[int, float], earlier: Mapping[int, float]) -> Scores:
    others = {trial: value for trial, value in reached.items() if trial not in waiting}
    return Scores(
        waiting, others, {trial: value for trial, value in earlier.items() if trial not in {*waiting, *others}}
    )


@given(VALUES, VALUES, VALUES, st.sampled_from([10.0, 50.0, 90.0]))
def test_the_best_percentile_goes_on(
    waiting: Mapping[int, float], reached: Mapping[int, float], earlier: Mapping[int, float], percentile: float
) -> None:
    found = scores(waiting, reached, earlier)
    pruned = Percentile(percentile, 0, 0, None).pruned(10, found, 100)
    everything = {**found.waiting, **found.reached, **found.earlier}
    better = {trial: sum(value < own for value in everything.values()) for trial, own in waiting.items()}
    assert pruned == {
        trial for trial in waiting if better[trial] > math.floor(percentile / 100 * (len(everything) - 1))
    }
    assert not Percentile(percentile, len(everything) + 1, 0, None).pruned(10, found, 100)


@given(VALUES, VALUES, st.integers(2, 5))
def test_halving_lets_a_share_of_all_go_on(
    waiting: Mapping[int, float], reached: Mapping[int, float], factor: int
) -> None:
    found = scores(waiting, reached, {})
    pruned = SuccessiveHalving(1, factor).pruned(1, found, 100)
    worst_kept = max((value for trial, value in waiting.items() if trial not in pruned), default=-math.inf)
    assert all(waiting[trial] > worst_kept for trial in pruned)
    values = [*found.waiting.values(), *found.reached.values()]
    better = [value for value in values if value < worst_kept]
    assert len(better) < max(1, len(values) // factor)
    assert not {trial for trial, value in waiting.items() if value == min(values)} & pruned


def test_rungs_are_steps_before_the_last() -> None:
    assert [*SuccessiveHalving(None, 3).rungs(1000)] == [111, 333]
    assert [*SuccessiveHalving(1, 3, 2).rungs(81)] == [9, 27]
    assert [*Percentile(50, 5, 25, 10).rungs(60)] == [25, 35, 45, 55]
    assert [*Percentile(50, 5, 0, None).rungs(100)] == [*range(10, 100, 10)]
    assert [*Percentile(50, 5, 0, None).rungs(1)] == []


def test_the_brackets_of_hyperband_have_the_sizes_of_the_paper() -> None:
    pruner = Hyperband(1, 3)
    brackets = [pruner.bracket(trial, 5) for trial in range(14_300)]
    # Li et al. (2018), table 1: 81, 34, 15, 8 and 5 configurations.
    assert [brackets.count(bracket) / 100 for bracket in range(5)] == pytest.approx([81, 34, 15, 8, 5], rel=0.15)
    assert [*pruner.rungs(81)] == [1, 3, 9, 27]
    last = {trial: float(trial) for trial in range(200) if pruner.bracket(trial, 5) == 4}
    assert all(not pruner.pruned(step, Scores(last, {}, {}), 81) for step in pruner.rungs(81))


@pytest.mark.parametrize("pruner", PRUNERS)
def test_pruned_trials_end_at_rungs_and_the_others_as_without(pruner: str) -> None:
    sampler = "hydra/sweeper/sampler=random"  # which does not look at results
    found = package.sweep([*SEARCH, sampler, f"hydra/sweeper/pruner={pruner}"])
    whole = package.sweep([*SEARCH, sampler])
    pruned = found["status"] == "PRUNED"
    assert 0 < pruned.sum() < 24
    assert found["lr"].tolist() == whole["lr"].tolist()
    assert found["final/loss"][~pruned].tolist() == whole["final/loss"][~pruned].tolist()
    assert found["rank"][pruned].isna().all()
    trials = study().trials
    states = {"PRUNED": "PRUNED", "DIVERGED": "PRUNED", "COMPLETED": "COMPLETE"}
    assert [trial.state.name for trial in trials] == [states[status] for status in found["status"]]
    last = [trial.last_step for trial in trials if trial.number in found.index[pruned]]
    assert last == found["steps_done"][pruned].tolist()
    kept = found["best/loss"][~pruned]
    assert kept.min() <= whole["best/loss"].quantile(0.25)


def same(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    columns = ["lr", "status", "steps_done", "final/loss", "best/loss"]
    return bool(one[columns].equals(other[columns]))


def test_how_a_batch_is_split_for_memory_prunes_no_other_trials() -> None:
    given = [*SEARCH, "hydra/sweeper/pruner=hyperband", "optimizer=gd,momentum", "gradient_noise=0.1"]
    given += ["objective.dimension=50"]  # whose noise takes 0.1 MiB for each run
    together, split = package.sweep(given), package.sweep([*given, "hydra.launcher.memory_mib=1"])
    assert (together["status"] == "PRUNED").any()
    assert same(together, split)


def test_the_seeds_of_a_trial_end_together() -> None:
    found = package.sweep([*SEARCH, "hydra/sweeper/pruner=median", "repeats=3", "gradient_noise=1"])
    assert len(found) == 72
    by_trial = found.groupby("lr", sort=False)
    assert (by_trial["steps_done"].nunique() == 1).mean() > 0.9, "but for seeds that diverge"
    assert (by_trial["status"].apply(set) == {"PRUNED"}).any()


def test_freed_places_are_taken_by_new_trials(capsys: pytest.CaptureFixture[str]) -> None:
    given = [*SEARCH[:2], *SEARCH[3:], "hydra/sweeper/pruner=successive_halving", "hydra.sweeper.refill=true"]
    found = package.sweep(given)
    assert len(found) == 24
    counts = [int(line.split()[1]) for line in capsys.readouterr().out.splitlines() if line.startswith("sweep ")]
    assert counts[0] == 12
    assert len(counts) > 2
    assert sum(counts) == 24
    assert same(found, package.sweep(given))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["hydra.sweeper.metric=[best/loss,best/step]"], "hydra/sweeper/pruner=median: expected one metric, given 2"),
        (["hydra.sweeper.pruner.interval_steps=0"], "pruner.interval_steps=0: expected a whole number of at least 1"),
        (["+hydra.sweeper.pruner.warmup_steps=1"], "warmup_steps=1: unknown key, .*did you mean .*n_warmup_steps"),
        (["hydra.sweeper.refill=2"], "hydra.sweeper.refill=2: expected true or false"),
    ],
)
def test_a_mistake_is_said_in_a_line(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        package.sweep([*SEARCH, "hydra/sweeper/pruner=median", *overrides])
    assert len(caught.value.lines) == 1
    assert not JOURNALS.exists()


def test_a_killed_search_prunes_the_same_trials_when_it_goes_on(runner: Command, template: Path) -> None:
    place(template, runner.folder / "outputs/mlflow.db")
    given = ["-m", "hydra/sweeper=search", "objective=rosenbrock", "steps=810", "hydra/sweeper/pruner=hyperband", LR]
    given += ["hydra.sweeper.n_trials=40", "hydra.sweeper.batch_size=10", "log_every=100"]
    process = runner.fork(*given)
    wait_until(lambda: trials_told(runner) >= 12)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = runner(*given, "resume=true")
    assert done.code == 0, done.err
    assert "search     40 trials: " in done.out
    ends = "select key, value, count(*) from tags where key in ('runner.outcome', 'pruned_at_step') group by key, value"
    resumed = rows(runner, ends)
    statuses = "select status, count(*) from runs where lifecycle_stage = 'active' group by status"
    assert rows(runner, statuses) == [("FINISHED", 41)]
    assert any(key == "pruned_at_step" for key, _, _ in resumed)
    done = runner(*given)  # the same search once more, without an interruption
    assert rows(runner, ends) == [(key, value, 2 * count) for key, value, count in resumed]
