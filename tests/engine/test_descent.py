"""The descent: the seed's digits, closed forms, a run in a batch against the run alone, divergence."""

import math
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from runner.composition.composition import install
from runner.engine.descent import Block, Carry, Problem, Step, block_length, descend
from runner.engine.inputs import InputSource
from runner.engine.result import Outcome
from runner.execution.metrics import final_metrics
from runner.schedules import SCHEDULES, rates_of
from runner.tensors.rows import ROWS, column, padded
from runner.tracking.journal import Begin, End, Metrics
from tests.support.descents import done

install()


def test_the_seed_case_to_the_digit() -> None:
    result, _ = done("steps=300")
    numbers = float(result.weight), float(result.gradient), result.loss
    assert [f"{number:.10f}" for number in numbers] == ["0.0233250502", "0.0476021431", "20.0005664825"]


def test_every_step_equals_the_naive_loop_to_the_bit() -> None:
    _, tracker = done("steps=300", "lr=0.03")
    weight = torch.tensor(10.0, requires_grad=True)
    for step in range(1, 301):
        loss = weight**2 + 20
        weight.grad = None
        loss.backward()
        assert weight.grad is not None
        assert tracker.history("loss")[step] == loss.item()
        assert tracker.history("gradient")[step] == weight.grad.item()
        weight = (weight - 0.03 * weight.grad).detach().requires_grad_()
        assert tracker.history("weight")[step] == weight.item()


@settings(max_examples=25)
@given(lr=st.floats(1e-4, 0.9), start=st.floats(-1e3, 1e3), curvature=st.floats(0.1, 1.0), steps=st.integers(1, 60))
def test_gradient_descent_on_a_quadratic_has_its_closed_form(
    lr: float, start: float, curvature: float, steps: int
) -> None:
    result, _ = done(
        "dtype=float64", f"lr={lr}", f"steps={steps}", f"initial_weight={start}", f"objective.curvature={curvature}"
    )
    expected = start * (1 - 2 * lr * curvature) ** steps
    assert float(result.weight) == pytest.approx(expected, rel=1e-9, abs=1e-12 * abs(start) + 1e-300)


@settings(max_examples=10)
@given(steps=st.integers(1, 400), every=st.integers(1, 90))
def test_the_first_every_nth_and_the_last_step_are_recorded(steps: int, every: int) -> None:
    _, tracker = done(f"steps={steps}", f"log_every={every}")
    recorded = sorted({*range(every, steps + 1, every), steps})
    assert sorted(tracker.history("weight")) == [0, *recorded]
    assert sorted(tracker.history("loss")) == recorded


def test_a_vector_is_recorded_by_its_components_and_a_long_one_by_its_norm() -> None:
    _, tracker = done("objective=rosenbrock", "lr=0.001", "steps=3")
    keys = {name for entry in tracker.entries if isinstance(entry, Metrics) for name in entry.keys}
    assert keys == {"loss", "weight/0", "weight/1", "gradient/0", "gradient/1", "gradient_norm"}
    norm = math.hypot(tracker.history("gradient/0")[3], tracker.history("gradient/1")[3])
    assert tracker.history("gradient_norm")[3] == pytest.approx(norm)
    _, tracker = done("objective=rosenbrock", "objective.dimension=17", "lr=0.0001", "steps=3")
    keys = {name for entry in tracker.entries if isinstance(entry, Metrics) for name in entry.keys}
    assert keys == {"loss", "weight_norm", "gradient_norm"}


def test_a_run_that_diverges_ends_at_the_step_where_a_number_is_not_finite() -> None:
    result, tracker = done("lr=1.1", "steps=5000", "log_every=7")
    weight, step = torch.tensor(10.0), 0
    while True:
        step += 1
        loss = weight**2 + 20
        weight = weight - 1.1 * (2 * weight)
        if not (loss.isfinite() and weight.isfinite()):
            break
    assert (result.outcome, result.steps) == (Outcome.DIVERGED, step)
    assert result.loss == math.inf
    assert sorted(tracker.history("loss")) == [*range(7, step, 7), step]
    end = tracker.entries[-1]
    assert isinstance(end, End)
    assert end.status == "FINISHED"
    assert end.tags["diverged_at_step"] == str(step)


def test_an_infinite_loss_at_the_start_diverges_at_the_first_step() -> None:
    result, _ = done("initial_weight=1e30")
    assert (result.outcome, result.steps) == (Outcome.DIVERGED, 1)


def test_at_lr_1_the_weight_oscillates_for_ever() -> None:
    result, tracker = done("lr=1.0", "steps=101")
    assert result.outcome is Outcome.COMPLETED
    assert set(tracker.history("weight").values()) == {10.0, -10.0}


def test_the_known_minimum_is_part_of_the_results() -> None:
    result, _ = done("objective=rosenbrock", "objective.dimension=3", "lr=0.001", "steps=10")
    assert result.nearest_minimum == (1.0, 1.0, 1.0)
    assert result.distance == pytest.approx(float((result.weight.double() - 1).norm()))
    assert final_metrics(result)["final/distance"] == result.distance
    assert final_metrics(result)["final/loss_error"] == result.loss


def test_the_best_step_is_a_final_result_with_its_weight() -> None:
    result, tracker = done("objective=rosenbrock", "lr=0.003", "steps=20", "initial_weight=[0.0,3.0]")
    metrics = final_metrics(result)
    step = int(metrics["best/step"])
    assert metrics["best/loss"] == min(tracker.history("loss").values()) == tracker.history("loss")[step]
    assert [metrics[f"best/weight/{index}"] for index in (0, 1)] == [
        tracker.history(f"weight/{index}")[step - 1] for index in (0, 1)
    ]
    long, _ = done("objective=rosenbrock", "objective.dimension=17", "lr=1e-4", "steps=2")
    assert not [key for key in final_metrics(long) if key.startswith("best/weight")]


def test_a_run_begins_with_every_leaf_of_its_config() -> None:
    _, tracker = done("tags.team=blue", "initial_weight=[3]", "steps=2")
    begin = tracker.entries[0]
    assert isinstance(begin, Begin)
    assert begin.params["tags.team"] == begin.tags["team"] == "blue"
    assert begin.params["initial_weight"] == "[3]"
    assert begin.params["objective.curvature"] == "1.0"
    assert begin.params["threads"] == "2"
    assert begin.params["interop_threads"] == "null"


LOSSES = {
    "quadratic": lambda w, _sample: (w**2).sum(-1) + 20,
    "rosenbrock": lambda w, _sample: (1 - w[:, 0]) ** 2 + 100 * (w[:, 1] - w[:, 0] ** 2) ** 2,
    "sigmoid and powers": lambda w, _sample: (
        (torch.sigmoid(w) * w.abs() ** 1.5).sum(-1) + torch.logaddexp(w[:, 0], w[:, 1])
    ),
}


def gradient_step(
    weight: Tensor, gradient: Tensor, state: tuple[Any, ...], lr: Tensor
) -> tuple[Tensor, tuple[Any, ...]]:
    return weight - lr * gradient, state


def problem_of(name: str, starts: Tensor) -> Problem:
    """Return gradient descent on a loss at a constant rate, from starts `(runs, dim)`."""
    weight = padded(starts)
    lr, none = (column([value], len(weight), weight.device) for value in (0.0005, 0.0))
    rates = rates_of(SCHEDULES["constant"], lr, {"warmup_steps": none, "warmup_start_factor": lr}, len(weight))
    step = Step(LOSSES[name], torch.ones(len(weight)), None, weight.dtype, gradient_step)
    return Problem(step, Carry(weight, ()), InputSource(rates, weight, weight.dtype), len(starts))


@settings(max_examples=15)
@given(seed=st.integers(0, 1000), runs=st.integers(1, 200), name=st.sampled_from(sorted(LOSSES)))
def test_a_run_in_a_batch_equals_the_run_alone_to_the_bit(seed: int, runs: int, name: str) -> None:
    starts = torch.randn(runs, 2, generator=torch.Generator().manual_seed(seed))
    together = joined(descend(problem_of(name, starts), 30, 7))
    for run in {0, runs // 2, runs - 1}:
        alone_from = problem_of(name, starts[run : run + 1])
        assert len(alone_from.start.weight) == ROWS
        alone = joined(descend(alone_from, 30, 30))
        assert torch.equal(together.weight[:, run], alone.weight[:, 0])
        assert torch.equal(together.loss[:, run], alone.loss[:, 0])


def joined(made: Iterable[tuple[Block, Carry]]) -> Block:
    blocks = [block for block, _ in made]
    parts = ([getattr(block, name) for block in blocks] for name in ("loss", "gradient", "weight", "lr"))
    return Block(1, *(torch.cat(part) for part in parts))


def test_a_block_of_many_large_weights_is_short() -> None:
    assert block_length(torch.zeros(ROWS, 1)) > 100 * block_length(torch.zeros(10_000, 100))
    assert block_length(torch.zeros(10**6, 100)) == 1
