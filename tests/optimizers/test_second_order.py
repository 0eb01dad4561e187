"""Newton's method and that of Levenberg and Marquardt against closed forms and SciPy, in float64."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import pytorch_optimizer
import torch
from scipy.optimize import least_squares

from runner.messages.errors import UserError
from runner.objectives.residuals import RESIDUALS
from runner.tensors.draws import Noise
from tests.support.batches import assert_equal_to_alone, base
from tests.support.descents import done, gradient_at, member, rosenbrock

EXACT = ["dtype=float64", "lr=1"]


def test_newtons_step_on_a_bowl_ends_at_its_minimum() -> None:
    bowl = ["objective=expression", "objective.formula='2*(x - 3)**2 + x*y + 5*(y + 1)**2'", "initial_weight=[7,9]"]
    result, _ = done("optimizer=newton", *bowl, *EXACT, "steps=1")
    # 4 (x - 3) + y = 0 and x + 10 (y + 1) = 0
    assert result.weight.tolist() == pytest.approx([130 / 39, -52 / 39], abs=1e-12)
    assert result.gradient_evaluations == 3


def test_iterates_are_newtons_where_the_curvature_is_positive() -> None:
    weight = 2.0
    for _ in range(5):
        weight -= (4 * weight**3 - 3) / (12 * weight**2)
    quartic = ["objective=expression", "objective.formula='x**4 - 3*x'", "initial_weight=2"]
    assert float(done("optimizer=newton", *quartic, *EXACT, "steps=5")[0].weight) == pytest.approx(weight, abs=1e-8)


def test_an_indefinite_hessian_is_descended_along_negative_curvature() -> None:
    saddle = ["objective=expression", "objective.formula='x**2 - y**2 + y**4'", "initial_weight=[1,0.1]"]
    assert float(done("optimizer=newton", *saddle, *EXACT, "steps=1")[0].weight[1]) > 0.1
    result, _ = done("optimizer=newton", *saddle, *EXACT, "steps=20")
    assert result.weight.tolist() == pytest.approx([0, 0.5**0.5], abs=1e-8)


def test_damping_shortens_a_step_and_a_flat_direction_is_left_out() -> None:
    valley = ["objective=expression", "objective.formula='x**2 + 0*y'", "initial_weight=[3,5]"]
    assert done("optimizer=newton", *valley, *EXACT, "steps=1")[0].weight.tolist() == pytest.approx([0, 5])
    damped, _ = done("optimizer=newton", "optimizer.damping=2", *valley, *EXACT, "steps=1")
    assert damped.weight.tolist() == pytest.approx([1.5, 5])


def test_a_hessian_that_is_not_finite_is_a_divergence() -> None:
    result, _ = done("optimizer=newton", "objective=expression", "objective.formula='abs(x)**1.5'", "initial_weight=0")
    assert result.divergence == "diverged at step 1"


MARQUARDT = ["optimizer=levenberg_marquardt", *EXACT]


@pytest.mark.parametrize("name", [*RESIDUALS, "linear_regression"])
def test_the_squares_of_residuals_sum_to_the_loss_but_for_a_constant(name: str) -> None:
    l2 = ["objective.l2=0.3"] if name == "linear_regression" else []
    objective = member(f"objective={name}", "dtype=float64", *l2).objective
    assert objective.residuals is not None
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(3, objective.dimension, dtype=torch.float64, generator=generator)
    given = objective.parameters_for(weight)
    loss = objective.function(weight, None, **given)
    squares = (objective.residuals(weight, None, **given) ** 2).sum(-1)
    assert (loss - squares).tolist() == pytest.approx([given.get("offset", torch.zeros(1))[0].item()] * 3, abs=1e-9)


def test_linear_least_squares_are_solved_in_a_step_without_damping() -> None:
    booth, _ = done(*MARQUARDT, "optimizer.damping=0", "objective=booth", "initial_weight=[5,-3]", "steps=1")
    assert booth.weight.tolist() == pytest.approx([1, 3], abs=1e-8)
    assert booth.gradient_evaluations == 1 + 2 + 1
    model = ["objective=linear_regression", "objective.l2=0.01"]
    result, _ = done(*MARQUARDT, *model, "optimizer.damping=0", "steps=1")
    objective = member(*model, "dtype=float64").objective

    def loss(weight: torch.Tensor) -> torch.Tensor:
        return objective.function(weight, None, **objective.parameters_for(weight))

    assert float(gradient_at(loss, result.weight[None]).abs().max()) < 1e-8


def test_a_damped_step_is_its_formula() -> None:
    result, _ = done(*MARQUARDT, "optimizer.damping=0.5", "objective=booth", "initial_weight=[5,-3]", "steps=1")
    jacobian, start = np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([5.0, -3.0])
    matrix = jacobian.T @ jacobian
    step = np.linalg.solve(matrix + 0.5 * np.diag(np.diag(matrix)), jacobian.T @ (jacobian @ start - [7, 5]))
    assert result.weight.tolist() == pytest.approx((start - step).tolist(), abs=1e-12)


@pytest.mark.parametrize("name", ["rosenbrock", "beale", "himmelblau"])
def test_it_ends_where_scipys_does(name: str) -> None:
    residuals, start = RESIDUALS[name], [2.5, 0.2]
    given = {"steepness": torch.tensor(100.0, dtype=torch.float64)} if name == "rosenbrock" else {}
    twin = least_squares(lambda w: residuals(torch.tensor(w), **given).numpy(), start, method="lm", xtol=1e-14)
    result, _ = done(*MARQUARDT, f"objective={name}", f"initial_weight={start}".replace(" ", ""), "steps=60")
    assert result.weight.tolist() == pytest.approx(twin.x.tolist(), abs=1e-8)
    assert result.loss < 1e-15


def test_least_squares_alone_and_in_a_batch() -> None:
    config = base("linear_regression", "levenberg_marquardt", "constant", "objective.batch_size=16", "steps=5")
    assert_equal_to_alone([replace(config, lr=0.2 * run, seed=run) for run in range(1, 5)], [0, 3])


@pytest.mark.parametrize("name", ["ackley", "logistic_regression"])
def test_an_objective_without_residuals_is_refused(name: str) -> None:
    line = f"optimizer=levenberg_marquardt: is for least squares, objective {name} gives no residuals, expected a regr"
    with pytest.raises(UserError, match=line):
        done(*MARQUARDT, f"objective={name}", "steps=1")


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "weight_decouple": False},
        {"weight_decay": 0.1, "fixed_decay": True},
        {"betas": [0.8, 0.9]},
        {"p": 0.5},
        {"update_period": 3},
        {"eps": 100.0},
        {"hessian_distribution": "rademacher"},
    ],
    ids=str,
)
def test_sophia_is_its_twin_given_the_same_probes(changed: dict[str, Any]) -> None:
    steps, probes = 25, Noise([7], 2, torch.float64, "probe").take(25)[:, 0]
    weight = torch.tensor([-1.2, 1.0], dtype=torch.float64, requires_grad=True)
    given: Any = {key: tuple(value) if isinstance(value, list) else value for key, value in changed.items()}
    twin = pytorch_optimizer.SophiaH([weight], lr=0.5, foreach=False, **given)
    for step in range(steps):
        point = weight.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(rosenbrock(point), point, create_graph=True)
        probe = probes[step].sign() if "hessian_distribution" in changed else probes[step]
        (product,) = torch.autograd.grad(gradient, point, probe)
        weight.grad = gradient.detach()
        is_due = step % changed.get("update_period", 10) == 0
        twin.step(hessian=[product * probe] if is_due else None)
        twin.update_period = 10**9
    options = [f"optimizer.{key}={value}".replace(" ", "") for key, value in changed.items()]
    asked = ["optimizer=sophia", *options, "objective=rosenbrock", "dtype=float64", "lr=0.5", "seed=7"]
    result, _ = done(*asked, f"steps={steps}")
    assert result.weight.tolist() == pytest.approx(weight.tolist(), abs=1e-10)
    assert result.gradient_evaluations == steps + -(-steps // changed.get("update_period", 10))


def test_the_probes_of_sophia_depend_on_the_seed() -> None:
    asked = ["optimizer=sophia", "optimizer.p=1e3", "objective=beale", "dtype=float64", "steps=30"]
    first, again, other = (done(*asked, f"seed={seed}")[0].weight for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
