"""Rungs: pruned runs end there, and the others go on to the same digits in fewer rows."""

from collections.abc import Collection, Mapping
from dataclasses import replace

import pytest
import torch

from runner.composition.composition import compose, install, to_config
from runner.console.run import Console
from runner.engine.batches import member_of
from runner.engine.result import Outcome, Result
from runner.execution.batch import execute_in_rungs
from runner.execution.recording import PlannedRun
from runner.optimizers import RULES
from runner.tracking.journal import End
from tests.support.descents import Collected

install()
RUNS, STEPS = 70, 24
MODEL = ["objective=mlp", "objective.dataset=diabetes", "objective.hidden=3"]
ROUNDS = {name: ["optimizer.max_iterations=4"] for name in ("bfgs", "conjugate_gradient", "lbfgs", "strong_wolfe")}


def planned(*overrides: str, runs: int = RUNS) -> list[PlannedRun]:
    config = to_config(compose(["quiet=true", "log_every=4", f"steps={STEPS}", *overrides]))
    # A rung is reached by some that are to make fewer steps than others.
    made = [
        replace(config, lr=1e-5 * run, seed=run, steps=STEPS - run % 3, parent_run="p") for run in range(1, runs + 1)
    ]
    return [PlannedRun(member_of(one), str(run)) for run, one in enumerate(made)]


def executed(runs: list[PlannedRun], pruned: Mapping[int, Collection[int]]) -> tuple[list[Result], Collected]:
    """Return the results and the record of a batch, some of whose runs are pruned, given by rung."""
    tracker = Collected()
    made = execute_in_rungs(runs, sorted(pruned), tracker.append, Console(runs[0].member.config))
    try:
        rung = next(made)
        while True:
            rung = made.send(pruned[rung.step])
    except StopIteration as ended:
        return ended.value, tracker


@pytest.mark.parametrize(
    "overrides",
    [
        *([f"optimizer={name}", *ROUNDS.get(name, ())] for name in sorted(RULES)),
        ["optimizer=gd", "gradient_noise=0.1", "schedule=cosine"],
        [
            "optimizer=gd",
            "schedule=plateau",
            "schedule.patience=1",
            "stop.loss_change.below=1e-9",
            "stop.loss_change.window=5",
        ],
        ["objective=linear_regression", "objective.batch_size=7", "optimizer=momentum"],
        ["objective=rastrigin", "objective.dimension=65", "optimizer=adam"],
    ],
    ids=" ".join,
)
def test_runs_go_on_in_fewer_rows_to_the_same_bits(overrides: list[str]) -> None:
    objective = MODEL if RULES.get(overrides[0].partition("=")[2]) and RULES[overrides[0][10:]].needs_matrix else []
    runs = planned("objective=rosenbrock", *objective, *overrides)
    left = {0, 3, 41, 69}
    found, record = executed(runs, {5: [*range(10, 40)], 11: [run for run in range(RUNS) if run not in left]})
    whole, its_record = executed(runs, {})
    assert [found[run].outcome for run in (10, 50)] == [Outcome.PRUNED, Outcome.PRUNED]
    assert [found[run].steps for run in (10, 50)] == [5, 11]
    for run in left:
        one, other = found[run], whole[run]
        assert (one.steps, one.outcome, one.loss) == (other.steps, other.outcome, other.loss)
        assert torch.equal(one.weight, other.weight)
        assert torch.equal(one.gradient, other.gradient)
        assert one.best is not None
        assert other.best is not None
        assert (one.best.step, one.best.loss) == (other.best.step, other.best.loss)
        assert one.gradient_evaluations == other.gradient_evaluations
        assert record.histories(str(run)) == its_record.histories(str(run))
    ends = {entry.run: entry for entry in record.entries if isinstance(entry, End)}
    assert len(ends) == RUNS
    assert ends["50"].tags["pruned_at_step"] == "11"
    assert ends["50"].status == "FINISHED"
    assert [*record.histories("50")["loss"]] == [4, 8, 11]


def test_a_rung_that_is_recorded_anyway_is_recorded_once() -> None:
    _, record = executed(planned("objective=rosenbrock", "log_every=1", "diagnostics.curvature=true", runs=3), {5: [1]})
    assert [*record.histories("1")["loss"]] == [1, 2, 3, 4, 5]
    assert len(record.histories("1")["curvature"]) == 5
