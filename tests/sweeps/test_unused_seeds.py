"""The warning about seeds without effect."""

from dataclasses import replace

import pytest
import torch

import runner
from runner.composition.composition import compose, to_config
from runner.config.shipped import config_folder
from runner.engine.batches import member_of
from runner.sweeps.unused_seeds import unused_seeds, uses_seed
from tests.support.compositions import jobs_of

OBJECTIVES = sorted(file.stem for file in (config_folder() / "objective").glob("*.yaml"))
LINEAR = ["objective.target=torch.nn:Linear", "objective.arguments={in_features:64,out_features:10}"]
GIVEN = {
    "expression": ["objective.formula=x**2"],
    "callable": ["objective.target=torch:sum", "allow_code=true"],
    "module": [*LINEAR, "allow_code=true"],
}


def warning_for(*arguments: str) -> str | None:
    return unused_seeds(jobs_of(list(arguments)))


@pytest.mark.parametrize("arguments", [["repeats=5"], ["seed=0,1,2,3,4"], ["++seed=range(5)"], ["repeats=5", "seed=0"]])
def test_seeds_without_effect_are_reported(arguments: list[str]) -> None:
    assert warning_for(*arguments) == (
        "seed=0,1,2,...: has no effect in the 5 jobs, which use no random numbers; "
        "gradient_noise, initial_weight=random and objective.batch_size do"
    )
    assert "in the 10 jobs" in (warning_for(*arguments, "lr=0.1,0.2", "tags.a=${seed}", "name=run_${seed}") or "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["gradient_noise=1", "repeats=3"],
        ["initial_weight=random", "seed=1,2"],
        ["objective=linear_regression", "objective.batch_size=8", "repeats=2"],
        ["objective=mlp", "repeats=2"],
        ["objective.offset=${seed}", "repeats=2"],
        ["objective=callable", "objective.target=torch:sum", "allow_code=true", "repeats=2"],
        ["seed=1,2", "lr=0.1,0.2", "zip=[[seed,lr]]"],
        ["seed=3", "lr=0.1,0.2"],
        ["lr=0.1,0.2"],
    ],
)
def test_seeds_that_have_an_effect_or_do_not_vary_are_not_reported(arguments: list[str]) -> None:
    assert warning_for(*arguments) is None


def test_only_jobs_without_random_numbers_are_counted() -> None:
    assert "in 3 of 6 jobs" in (warning_for("gradient_noise=0,1", "repeats=3") or "")
    assert "seed=7,8: has no effect in 4 of 6 jobs" in (
        warning_for("objective=mlp", "initial_weight=0.1,null,0.2", "repeats=2", "seed=7") or ""
    )


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_has_the_same_start_for_all_seeds_unless_it_uses_the_seed(name: str) -> None:
    config = to_config(compose([f"objective={name}", *GIVEN.get(name, [])]))
    starts = [member_of(replace(config, seed=seed)).start for seed in (0, 1)]
    assert uses_seed(config) is (not torch.equal(*starts) or name == "callable")


@pytest.mark.usefixtures("in_empty_folder")
def test_the_warning_is_not_printed_with_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["repeats=3", "steps=2", "tracking=off"]
    assert set(runner.sweep(asked)["status"]) == {"COMPLETED"}
    assert capsys.readouterr().err.startswith("warning: seed=0,1,2: has no effect in the 3 jobs")
    runner.sweep([*asked, "quiet=true"])
    assert capsys.readouterr().err == ""
