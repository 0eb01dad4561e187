"""The best step of each run: found in blocks as in the whole history."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import runner
from runner.config.direction import Direction
from runner.engine.best import BestSoFar
from runner.engine.descent import Block

LOSSES = st.one_of(st.integers(-3, 3).map(float), st.sampled_from([math.nan, math.inf, -math.inf]))
QUIET = ["quiet=true", "tracking=off"]


@given(st.data(), st.integers(1, 3), st.integers(1, 9), st.sampled_from(Direction))
def test_blocks_find_the_best_step_of_the_whole_history(
    data: st.DataObject, runs: int, steps: int, direction: Direction
) -> None:
    row = st.lists(LOSSES, min_size=runs, max_size=runs)
    loss = torch.tensor(data.draw(st.lists(row, min_size=steps, max_size=steps)))
    weight = torch.arange(float((steps + 1) * runs)).reshape(steps + 1, runs, 1)  # no two alike, the start first
    lasts = data.draw(st.lists(st.integers(0, steps), min_size=runs, max_size=runs))
    best = BestSoFar(weight[0], direction)
    first = 0
    while first < steps:
        end = data.draw(st.integers(first + 1, steps))
        part = loss[first:end]
        block = Block(first + 1, part, part[..., None], weight[first + 1 : end + 1], part)
        best.update(weight[first], block, None if min(lasts) >= end else torch.tensor(lasts))
        first = end
    for run, last in enumerate(lasts):
        finite = [step for step in range(1, last + 1) if math.isfinite(loss[step - 1, run])]
        found = best.of(run)
        if not finite:
            assert found is None
            continue
        step = min(finite, key=lambda step: direction.sort_key(float(loss[step - 1, run])))
        assert found is not None
        assert (found.step, found.loss, found.weight.tolist()) == (
            step,
            float(loss[step - 1, run]),
            weight[step - 1, run].tolist(),
        )


def test_the_best_weight_has_the_best_loss() -> None:
    # A rate that overshoots: the loss rises from the first step on.
    done = runner.run([*QUIET, "lr=1.1", "steps=3"])
    assert done.best is not None
    assert (done.best.step, done.best.loss, done.best.weight.tolist()) == (1, 120.0, [10.0])


@pytest.mark.parametrize("log_every", [1, 7])
def test_the_best_step_does_not_depend_on_what_is_recorded(log_every: int) -> None:
    options = ["objective=rastrigin", "gradient_noise=3", "lr=0.01", "steps=40", f"log_every={log_every}"]
    done = runner.run([*QUIET, *options])
    whole = runner.run([*QUIET, *options[:-1]])
    assert done.best is not None
    step = int(whole.trajectory.loss[1:].argmin()) + 1
    assert (done.best.step, done.best.loss) == (step, float(whole.trajectory.loss[step]))
    assert torch.equal(done.best.weight, whole.trajectory.weight[step - 1])
