"""A run that maximises mirrors one that minimises: its best step, target, learning rates and rank."""

import itertools
import re

import pytest
import torch

import runner
from runner.api.calls import RunResult
from runner.engine.result import Outcome
from runner.execution.metrics import final_metrics
from runner.optimizers import RULES
from tests.support.descents import defaults

OFF = ["quiet=true", "tracking=off", "objective=expression", "initial_weight=2"]
HILL, BOWL = "objective.formula='5 - (x - 1)**2'", "objective.formula='(x - 1)**2 - 5'"
MAXIMIZING = sorted(name for name, rule in RULES.items() if "maximize" in defaults(name) and not rule.needs_matrix)


def up(*overrides: str) -> RunResult:
    return runner.run([*OFF, HILL, *overrides])


def down(*overrides: str) -> RunResult:
    return runner.run([*OFF, BOWL, *overrides])


@pytest.mark.parametrize("name", MAXIMIZING)
def test_maximizing_stops_where_minimizing_the_negative_does(name: str) -> None:
    plateau = ["schedule=plateau", "schedule.patience=3", "schedule.threshold_mode=abs", "schedule.threshold=0.02"]
    rule = [f"optimizer={name}", f"lr={1.0 if name == 'adadelta' else 0.05}", "steps=40", *plateau]
    change = ["stop.loss_change.below=1e-3", "stop.loss_change.window=4"]
    rise = up(*rule, *change, "optimizer.maximize=true", "stop.target_loss=4.9")
    fall = down(*rule, *change, "stop.target_loss=-4.9")
    assert (rise.outcome, rise.result.steps, rise.result.reason) == (
        fall.outcome,
        fall.result.steps,
        None if fall.result.reason is None else fall.result.reason.replace("-4.9", "4.9"),
    )
    assert torch.equal(rise.trajectory.lr[1:], fall.trajectory.lr[1:])
    assert rise.loss == -fall.loss


def test_a_torch_optimizer_that_maximizes_reaches_its_target() -> None:
    adam = ["optimizer=torch", "optimizer.algorithm=Adam", "lr=0.1", "steps=200"]
    rise = up(*adam, "optimizer.arguments.maximize=true", "stop.target_loss=4.9", "schedule=plateau")
    assert rise.outcome is Outcome.STOPPED
    assert 4.9 <= rise.loss < 5
    assert rise.trajectory.loss[1:-1].max() < 4.9


def test_a_given_mode_is_used() -> None:
    plateau = ["optimizer=adam", "schedule=plateau", "schedule.patience=2", "steps=20", "optimizer.maximize=true"]
    assert up(*plateau).trajectory.lr[-1] == pytest.approx(0.01)
    assert up(*plateau, "schedule.mode=min").trajectory.lr[-1] < 0.01


def test_a_maximizing_run_has_no_distance_to_the_minimum(capsys: pytest.CaptureFixture[str]) -> None:
    done = runner.run(["tracking=off", "optimizer=momentum", "optimizer.maximize=true", "steps=3"])
    assert "minimum" not in capsys.readouterr().out
    assert not {"final/distance", "final/loss_error"} & set(final_metrics(done.result))


def ranking(shown: str) -> list[str]:
    return [match[1].strip() for match in re.finditer(r"^(?:best|    ) +\d+  (.*?)  loss", shown, re.MULTILINE)]


def test_the_best_of_a_sweep_is_the_highest_where_it_maximizes(capsys: pytest.CaptureFixture[str]) -> None:
    sweep = ["tracking=off", *OFF[2:], HILL, "optimizer=adam", "lr=0.001,0.1,0.01", "steps=20", "repeats=2"]
    frame = runner.sweep([*sweep, "optimizer.maximize=true", "gradient_noise=0.01"])
    shown = capsys.readouterr().out
    assert ranking(shown)[0].startswith("lr=0.1 ")
    losses = [float(text) for text in re.findall(r"  loss ([\d.]+)", shown)]
    assert losses[:6] == sorted(losses[:6], reverse=True)
    assert losses[0] == pytest.approx(frame["final/loss"].max())
    assert [line.split()[-8] for line in shown.splitlines() if "over 2 seeds" in line] == [
        "lr=0.1",
        "lr=0.01",
        "lr=0.001",
    ]


def test_maximizing_and_minimizing_jobs_are_ranked_separately(capsys: pytest.CaptureFixture[str]) -> None:
    runner.sweep(["tracking=off", "optimizer=adam", "optimizer.maximize=true,false", "lr=0.01,0.1", "steps=20"])
    names = [(name.split()[0].lower(), name.split()[1]) for name in ranking(capsys.readouterr().out)]
    assert names == list(
        itertools.product(["optimizer.maximize=false", "optimizer.maximize=true"], ["lr=0.1", "lr=0.01"])
    )
