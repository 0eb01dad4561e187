"""Searches: their spaces, trials, studies, and what a killed one leaves."""

import math
import signal
import time
from pathlib import Path
from typing import Any

import optuna
import pytest

import runner as package
from runner.composition import composition
from runner.composition.override_functions import parser
from runner.messages.errors import UserError
from runner.search.space import dimensions_of
from runner.search.study import GRID_VALUES, JOURNALS
from runner.sweeps.language import parsed_overrides, sweep_request
from tests.conftest import Command
from tests.support.processes import wait_until
from tests.support.record import rows
from tests.support.searches import trials_told
from tests.support.template import place

SEARCH = ["hydra/sweeper=search", "tracking=off", "quiet=true", "objective=rosenbrock", "steps=20"]
LR = "lr=tag(log,interval(1e-5,1e-3))"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def studies() -> list[optuna.Study]:
    """Return the studies of the folder, in the order of their names, of which each search has its own journal."""
    found = []
    for journal in sorted(JOURNALS.glob("*.log")):
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal)))
        names = optuna.get_all_study_names(storage)
        found += [optuna.load_study(study_name=name, storage=storage) for name in names]
    return found


def space(*overrides: str) -> dict[str, Any]:
    loader, _ = composition.compose_sweep([])
    own = parser(loader)
    request = sweep_request(overrides, {}, own, is_search=True)
    return {one.key: one.distribution for one in dimensions_of(request, parsed_overrides(overrides, own))}


def test_the_space_is_that_of_the_overrides() -> None:
    found = space(
        "lr=tag(log,interval(0.001,1))", "initial_weight=interval(-1,1)", "steps=int(interval(1,10))",
        "seed=range(0,10,2)", "optimizer=adam,gd", "optimizer.weight_decay=choice(0,0.1)", "log_every=5",
    )  # fmt: skip
    floats, whole, choice = (
        optuna.distributions.FloatDistribution,
        optuna.distributions.IntDistribution,
        optuna.distributions.CategoricalDistribution,
    )
    assert found == {
        "lr": floats(0.001, 1, log=True),
        "initial_weight": floats(-1, 1),
        "steps": whole(1, 10),
        "seed": whole(0, 8, step=2),
        "optimizer": choice(["adam", "gd"]),
        "optimizer.weight_decay": choice([0, 0.1]),
    }


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["lr=interval(1,0.1)"], r"lr=interval\(1,0.1\): expected two finite numbers, the lower first"),
        (["lr=interval(1,1)"], r"lr=interval\(1,1\): expected two finite numbers"),
        (["lr=interval(0,inf)"], r"lr=interval\(0,inf\): expected two finite numbers"),
        (["lr=tag(log,interval(-1,1))"], "expected numbers above 0 for a logarithmic interval"),
        (["lr=interval(-1,1)"], "lr=-1.0: expected a finite number above 0"),
        (["initial_weight=[interval(0,1),1]"], "initial_weight=.*: expected a space such as .* by itself"),
        (["lr=0.1"], "nothing to choose, expected a space such as lr="),
        (["lr=choice(0.1,0.1)"], "expected different values"),
        (["optimizer=adam,adm", LR], "optimizer=adm: .*did you mean 'adam'"),
        ([LR, "zip=[[lr,steps]]"], r"zip=.*: expected with hydra/sweeper=grid"),
        ([LR, "hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials=0: expected a whole number of at least 1"),
        ([LR, "+hydra.sweeper.n_trial=3"], "hydra.sweeper.n_trial=3: unknown key, .*; did you mean .*n_trials"),
        ([LR, "hydra.sweeper.direction=[minimize,maximize]"], "expected one direction, or one for each of 1 metrics"),
        (
            [LR, "hydra.sweeper.study_name=../mine"],
            "hydra.sweeper.study_name=../mine: expected letters, digits, - and _",
        ),
        ([LR, "hydra.sweeper.metric=best/los"], "hydra.sweeper.metric=best/los: expected one of .*best/loss"),
        ([LR, "+hydra.sweeper.sampler.popsize=3"], "hydra.sweeper.sampler=.*popsize"),
    ],
)
def test_a_mistake_is_said_in_a_line(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        package.sweep([*SEARCH, "hydra.sweeper.n_trials=2", *overrides])
    assert len(caught.value.lines) == 1


@pytest.mark.parametrize("sampler", ["random", "qmc", "tpe", "cmaes", "gp"])
def test_the_same_seed_gives_the_same_trials_and_results(sampler: str) -> None:
    given = [*SEARCH, f"hydra/sweeper/sampler={sampler}", "hydra.sweeper.n_trials=12", "hydra.sweeper.batch_size=5", LR]
    given.append("objective.steepness=interval(1,100)")
    first, second = (package.sweep(given) for _ in range(2))
    assert len(first) == 12
    assert first["lr"].tolist() == second["lr"].tolist()
    assert first["best/loss"].tolist() == second["best/loss"].tolist()
    assert first["lr"].between(1e-5, 1e-3).all()
    assert first["lr"].nunique() == 12
    told = [[trial.value for trial in study.trials] for study in studies()]
    assert told == [first["best/loss"].tolist()] * 2


def test_tpe_finds_a_better_place_than_random_search() -> None:
    space = [f"objective.constants.{name}=interval(-2,2)" for name in ("a", "b", "c")]
    formula = "objective.formula='x**2 + (1 - a)**2 + 9*(b + 1)**2 + (c*a)**2'"
    best: dict[str, float] = {}
    for sampler in ("tpe", "random"):
        chosen = [f"hydra/sweeper/sampler={sampler}", "hydra.sweeper.n_trials=100", "initial_weight=0", "steps=1"]
        given = [*SEARCH[:3], "objective=expression", formula, *chosen]
        best[sampler] = package.sweep([*given, *(f"+{one}" for one in space)])["best/loss"].min()
    assert 0 <= best["tpe"] < best["random"]


def test_a_grid_has_each_point_once() -> None:
    chosen = ["hydra/sweeper/sampler=grid", "lr=interval(1e-5,1e-3)", "optimizer=gd,adam", "hydra.sweeper.batch_size=7"]
    frame = package.sweep([*SEARCH, *chosen])
    assert len(frame) == 2 * GRID_VALUES
    assert not frame.duplicated(["lr", "optimizer"]).any()
    assert sorted(set(frame["lr"])) == pytest.approx([1e-5 + (1e-3 - 1e-5) * place / 9 for place in range(10)])


def test_the_seeds_of_a_trial_become_one_value() -> None:
    frame = package.sweep([*SEARCH, LR, "repeats=3", "gradient_noise=10", "hydra.sweeper.n_trials=4"])
    assert len(frame) == 12
    (study,) = studies()
    expected = frame.groupby("lr", sort=False)["best/loss"].mean()
    assert [trial.value for trial in study.trials] == pytest.approx(expected.tolist())


def test_a_diverged_trial_counts_as_the_worst_or_as_failed() -> None:
    space = ["lr=choice(0.0001,10)", "hydra/sweeper/sampler=grid"]
    frame = package.sweep([*SEARCH, *space, "hydra.sweeper.metric=final/loss"])
    assert frame["status"].tolist() == ["COMPLETED", "DIVERGED"]
    package.sweep([*SEARCH, *space, "hydra.sweeper.metric=final/loss", "hydra.sweeper.diverged=failed"])
    failed, worst = sorted(studies(), key=lambda study: study.trials[1].state.name, reverse=True)
    assert worst.trials[1].value == worst.trials[0].value
    assert math.isfinite(worst.trials[1].value or math.nan)
    assert [trial.state.name for trial in failed.trials] == ["COMPLETE", "FAIL"]


def test_mlflow_s_database_is_refused_and_not_touched(runner: Command, template: Path) -> None:
    place(template, runner.folder / "outputs/mlflow.db")
    tables = rows(runner, "select name from sqlite_master")
    result = runner("-m", "hydra/sweeper=search", LR, "hydra.sweeper.storage=sqlite:///outputs/mlflow.db")
    assert result.code == 2
    assert "is MLflow's database, expected another" in result.err
    assert rows(runner, "select name from sqlite_master") == tables


def test_a_killed_search_goes_on(runner: Command, template: Path) -> None:
    place(template, runner.folder / "outputs/mlflow.db")
    given = [
        *("-m", "hydra/sweeper=search", "objective=rosenbrock", LR, "steps=300"),
        *("hydra.sweeper.n_trials=40", "hydra.sweeper.batch_size=4"),
    ]
    process = runner.start(*given)
    wait_until(lambda: trials_told(runner) >= 6)
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = runner(*given, "resume=true")
    assert done.code == 0, done.err
    assert "search     40 trials: 40 complete, 0 failed" in done.out
    statuses = "select status, count(*) from runs where lifecycle_stage = 'active' group by status"
    assert rows(runner, statuses) == [("FINISHED", 41)]
    chosen = "select count(distinct value) from params where key = 'lr' and value not like '%interval%'"
    assert rows(runner, chosen) == [(40,)]


def test_a_trial_whose_process_was_killed_while_it_asked_for_it_goes_on() -> None:
    given = [*SEARCH, LR, "seed=range(0,9)", "hydra.sweeper.batch_size=3"]
    package.sweep([*given, "hydra.sweeper.n_trials=3"])
    (study,) = studies()
    study.ask({"lr": optuna.distributions.FloatDistribution(1e-5, 1e-3, log=True)})
    again = package.sweep([*given, "hydra.sweeper.n_trials=5", "resume=true"])
    (study,) = studies()
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 5
    assert len(again) == 2, "those that are complete are not run again"


def test_a_lock_that_a_killed_process_left_is_no_obstacle() -> None:
    package.sweep([*SEARCH, LR, "hydra.sweeper.n_trials=2"])
    (journal,) = JOURNALS.glob("*.log")
    Path(f"{journal}.lock").symlink_to(journal)  # as Optuna locks journals
    package.sweep([*SEARCH, LR, "hydra.sweeper.n_trials=4", "resume=true"])
    assert [len(study.trials) for study in studies()] == [4]


def test_a_search_that_was_interrupted_in_a_process_goes_on_there(folder: Path) -> None:
    (folder / "mine.py").write_text(
        "from pathlib import Path\n"
        "def bowl(weight):\n"
        "    if Path('stop').exists() and bool((weight != 10).any()):\n"
        "        raise KeyboardInterrupt\n"
        "    return (weight**2).sum(-1)\n"
    )
    own = ["objective=callable", "objective.target=mine:bowl", "objective.of_one_point=false", "allow_code=true"]
    given = [*SEARCH[:3], *own, "lr=tag(log,interval(1e-3,1e-1))", "steps=5", "hydra.sweeper.n_trials=6"]
    (folder / "stop").touch()
    with pytest.raises(KeyboardInterrupt):
        package.sweep(given)
    (folder / "stop").unlink()
    assert len(package.sweep([*given, "resume=true"])) == 6
    (study,) = studies()
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 6
