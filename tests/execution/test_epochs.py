"""Epochs in place of steps, and the best held-out results of a run."""

import pytest

from runner.execution.metrics import final_metrics
from runner.messages.errors import UserError
from tests.conftest import Command
from tests.support.descents import done

MODEL = ["objective=logistic_regression", "objective.batch_size=100", "lr=0.5"]


def test_epochs_are_as_many_steps_as_their_mini_batches() -> None:
    result, _ = done(*MODEL, "objective.epochs=3", "schedule=cosine")
    assert result.steps == 3 * 5  # 455 training samples
    same, _ = done(*MODEL, "steps=15", "schedule=cosine")
    assert (result.weight == same.weight).all()
    assert done("objective=linear_regression", "objective.epochs=4")[0].steps == 4


def test_what_does_not_fit_epochs_is_one_line() -> None:
    with pytest.raises(UserError, match=r"^objective.epochs=2: expected null, since steps=50 is given$"):
        done(*MODEL, "objective.epochs=2", "steps=50")
    with pytest.raises(UserError, match=r"schedule.warmup_steps=12: expected .*10"):
        done(*MODEL, "objective.epochs=2", "schedule.warmup_steps=12")


def test_the_best_held_out_results_are_final_results_with_their_steps() -> None:
    result, tracker = done("objective=mlp", "objective.dataset=diabetes", "lr=0.5", "steps=60", "log_every=4")
    final = final_metrics(result)
    for key, choose in (("held_out_loss", min), ("held_out_r2", max)):
        history = tracker.history(key)
        best = choose(history.values())
        assert final[f"best/{key}"] == best
        assert final[f"best/{key}_step"] == next(step for step, value in history.items() if value == best)
    assert 4 < final["best/held_out_r2_step"] < 60
    losses, scores = tracker.history("held_out_loss"), tracker.history("held_out_r2")
    variance = [losses[step] / (1 - scores[step]) for step in losses]
    assert max(variance) == pytest.approx(min(variance), rel=1e-5)


def test_a_sweep_and_its_resumption_count_epochs(runner: Command) -> None:
    asked = ["-m", *MODEL, "objective.epochs=2", "lr=0.1,0.2", "report=false"]
    first = runner(*asked)
    assert "2 finished" in first.out
    again = runner(*asked, "resume=true")
    assert "2 of them already done" in again.out
