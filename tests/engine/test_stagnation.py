"""A weight that no longer moves is reported on the terminal, in the record and in a sweep's table; no other is."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from runner import run, sweep
from runner.engine.descent import Block
from runner.engine.stagnation import Movement
from runner.tracking.journal import End
from tests.conftest import Command
from tests.support.descents import done

EXPRESSION = ["objective=expression", "steps=20"]
WHY = "each step is 0, or below the last place of the weight, in float32; dtype=float64 holds smaller ones"


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (["objective=rosenbrock", "initial_weight=[1e7,1e7]", "clip_norm=1", "lr=0.1", "steps=20"], WHY),
        (["initial_weight=1e8", "lr=1e-10", "steps=20"], WHY),
        (["lr=1e-50", "steps=20"], "lr 1e-50 is 0 in float32"),
        (["clip_norm=1e-50", "steps=20"], "clip_norm 1e-50 is 0 in float32"),
        (["clip_value=1e-50", "steps=20"], "clip_value 1e-50 is 0 in float32"),
        ([*EXPRESSION, "objective.formula='1e-30*x**2'", "initial_weight=1e-20"], "the gradient is 0 in float32"),
        ([*EXPRESSION, "objective.formula='exp(-x**2)'", "initial_weight=20"], "the gradient is 0 in float32"),
        # Squares of such gradients are infinite, and so is what Adam divides by.
        ([*EXPRESSION, "objective.formula='1e25*x'", "initial_weight=1", "optimizer=adam"], WHY),
        (["optimizer=torch", "lr=1e-50", "steps=20"], "lr 1e-50 is 0 in float32"),
        (["lr=1e-50", "steps=20", "stop.loss_change.below=1", "stop.loss_change.window=5"], "lr 1e-50 is 0 in float32"),
    ],
)
def test_a_weight_that_never_moves_is_reported_with_the_cause(overrides: list[str], why: str) -> None:
    result, tracker = done(*overrides)
    assert result.remark == f"the weight has never moved: {why}"
    end = tracker.entries[-1]
    assert isinstance(end, End)
    assert end.tags["still_since_step"] == "0"
    assert end.tags["runner.remark"] == result.remark


def test_the_step_of_the_last_movement_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    plain = run(
        ["tracking=off", *EXPRESSION, "objective.formula='(x - 1)**2'", "lr=0.05", "initial_weight=3", "steps=400"]
    )
    weight = plain.trajectory.weight[:, 0]
    (moves,) = (weight[1:] != weight[:-1]).nonzero(as_tuple=True)
    last = int(moves[-1]) + 1
    assert 5 < last < 360
    assert plain.result.still_since == last
    assert f"remark     the weight has not moved since step {last}: " in capsys.readouterr().out


@pytest.mark.parametrize(
    "overrides",
    [
        ["steps=300"],
        ["lr=0.3", "steps=1000"],  # it has come to the known minimum
        ["initial_weight=0"],
        ["objective=rosenbrock", "objective.steepness=0", "initial_weight=[1,2]", "steps=3"],  # it lies along a line
        ["lr=1", "steps=100"],  # it oscillates
        ["lr=40", "steps=100"],  # it diverges
        ["schedule=cosine", "objective=rosenbrock", "lr=1e-3", "steps=500"],  # the last rates are next to 0
        ["objective=rosenbrock", "objective.dimension=3", "lr=1e-3", "steps=1"],
    ],
)
def test_runs_that_move_diverge_or_converge_have_no_remark(overrides: list[str]) -> None:
    result, _ = done(*overrides)
    assert (result.remark, result.still_since) == (None, None)


def test_a_sweep_marks_the_jobs_that_stopped_moving(capsys: pytest.CaptureFixture[str]) -> None:
    frame = sweep(["tracking=off", "lr=0.01,1e-50,40", "steps=100"])
    assert list(frame["remark"].isna()) == [True, False, True]
    assert frame["remark"][1] == "the weight has never moved: lr 1e-50 is 0 in float32"
    shown = capsys.readouterr().out
    assert "3 finished (1 diverged, 1 stood still)" in shown
    assert "lr=1e-50  loss 120  distance 10  still since step 0" in shown


def test_a_resumed_sweep_knows_which_jobs_had_stopped_moving(runner: Command) -> None:
    jobs = ("-m", "lr=0.01,1e-50", "steps=20")
    assert runner(*jobs).code == 0
    again = runner(*jobs, "resume=true")
    assert "2 skipped (1 stood still), 0 run: 0 finished, 0 failed" in again.out
    assert "still since step 0" in again.out


@given(st.data(), st.integers(1, 12), st.integers(1, 4))
def test_any_cut_into_blocks_finds_the_last_movement(data: st.DataObject, steps: int, runs: int) -> None:
    walk = torch.tensor(
        data.draw(
            st.lists(st.lists(st.integers(0, 1), min_size=runs, max_size=runs), min_size=steps + 1, max_size=steps + 1)
        )
    )
    weight = walk.to(torch.float32)[..., None]
    ends = [data.draw(st.integers(1, steps)) for _ in range(runs)]
    cuts = sorted({0, steps, *data.draw(st.sets(st.integers(0, steps)))})
    movement = Movement(runs, weight.device)
    for first, last in itertools.pairwise(cuts):
        part = weight[first + 1 : last + 1]
        block = Block(first + 1, part[..., 0], part, part, part[..., 0])
        lasts = [min(end, last) if end > first else 0 for end in ends]
        movement.update(weight[first], block, None if min(lasts) == last else torch.tensor(lasts))
    for number, end in enumerate(ends):
        moved = [step for step in range(1, end + 1) if weight[step, number] != weight[step - 1, number]]
        assert movement.last(number) == (moved[-1] if moved else 0)
