"""The step: a pure function, which torch can trace, of what goes from step to step and of inputs made beforehand."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from runner.composition.composition import install
from runner.engine.batches import member_of
from runner.engine.descent import Problem
from runner.engine.inputs import Inputs, steps_of
from runner.engine.problem import prepare
from runner.optimizers import RULES
from tests.support.batches import base
from tests.support.descents import done

install()
STEPS = 5
FOR_MATRICES = [name for name, rule in RULES.items() if rule.needs_matrix]
MODEL = ["objective=mlp", "objective.dataset=diabetes", "objective.hidden=3"]
# So that five steps move the weight.
OVERRIDES = {
    "bfgs": ["optimizer.max_iterations=4"],
    "conjugate_gradient": ["optimizer.max_iterations=4"],
    "lbfgs": ["optimizer.max_iterations=4", "optimizer.history_size=3", "optimizer.line_search_fn=strong_wolfe"],
    "strong_wolfe": ["optimizer.max_iterations=4"],
    "armijo": ["optimizer.max_backtracking_steps=10"],
    "prodigy": ["optimizer.d0=0.01"],
    "dadapt_adam": ["optimizer.d0=0.01"],
}


def problem(*overrides: str, dtype: str = "float32", runs: int = 3) -> Problem:
    given = dict(text.split("=", 1) for text in overrides)
    chosen = {group: given.pop(group) for group in ("objective", "optimizer", "schedule") if group in given}
    others = [f"{key}={value}" for key, value in given.items()]
    config = base(chosen["objective"], chosen.get("optimizer", "gd"), chosen.get("schedule", "constant"), *others)
    config = replace(config, dtype=dtype)
    return prepare([member_of(replace(config, lr=0.001 * run)) for run in range(1, runs + 1)]).problem


def as_numbers(tree: object) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


@pytest.mark.parametrize(
    "overrides",
    [
        ["optimizer=gd"],
        *([f"optimizer={name}", *OVERRIDES.get(name, ())] for name in sorted(RULES) if name != "gd"),
        ["optimizer=adam", "clip_norm=1", "clip_value=0.5", "gradient_noise=0.1", "schedule=cosine"],
        ["optimizer=gd", "schedule=plateau", "schedule.patience=1", "schedule.warmup_steps=1"],
        ["objective=linear_regression", "objective.batch_size=7", "optimizer=momentum"],
    ],
    ids=" ".join,
)
def test_a_traced_step_equals_the_eager_one_to_the_bit(overrides: list[str]) -> None:
    objective = MODEL if overrides[0].partition("=")[2] in FOR_MATRICES else ["objective=rosenbrock"]
    asked = problem(*objective, *overrides)
    first, *rest = steps_of(asked.inputs.block(STEPS))
    traced = make_fx(asked.step)(asked.start, first)
    eager_carry = traced_carry = asked.start
    for inputs in [first, *rest]:
        eager_carry, eager = asked.step(eager_carry, inputs)
        traced_carry, outputs = traced(traced_carry, inputs)
        pairs = zip(as_numbers((eager_carry, eager)), as_numbers((traced_carry, outputs)), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)
    assert not torch.equal(eager_carry.weight, asked.start.weight)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(RULES))
def test_no_two_tensors_of_the_first_carry_are_one(name: str, dtype: str) -> None:
    # make_fx takes tensors that are one object for one input, and computes something else without an error.
    objective = MODEL if name in FOR_MATRICES else ["objective=rosenbrock"]
    leaves = as_numbers(problem(*objective, f"optimizer={name}", dtype=dtype).start)
    assert len({id(leaf) for leaf in leaves}) == len(leaves)


@pytest.mark.parametrize("counts", [(12,), (1, 4, 7)])
def test_inputs_do_not_depend_on_how_many_steps_are_made_at_once(counts: tuple[int, ...]) -> None:
    asked = ["objective=linear_regression", "objective.batch_size=7", "gradient_noise=0.1", "schedule=cosine"]
    source, other = problem(*asked).inputs, iter(problem(*asked).inputs)
    for inputs in (each for count in counts for each in steps_of(source.block(count))):
        expected: Inputs = next(other)
        assert all(torch.equal(a, b) for a, b in zip(as_numbers(inputs), as_numbers(expected), strict=True))


def test_each_step_evaluates_once_and_lbfgs_as_often_as_torch_counts() -> None:
    assert done("steps=7")[0].gradient_evaluations == 7
    asked = ["optimizer=torch", "optimizer.algorithm=LBFGS", "objective=rosenbrock", "lr=0.1", "steps=4"]
    weight = torch.tensor([-1.2, 1.0], requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], lr=0.1)

    def closure() -> float:
        optimizer.zero_grad()
        loss = (1 - weight[0]) ** 2 + 100 * (weight[1] - weight[0] ** 2) ** 2
        loss.backward()
        return float(loss.detach())

    for _ in range(4):
        optimizer.step(closure)
    assert done(*asked)[0].gradient_evaluations == optimizer.state[weight]["func_evals"] > 4
