"""Rules that learn the curvature, against SciPy's `minimize` and torch's LBFGS, in float64."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, rosen, rosen_der

from tests.support.descents import done, gradient_at

START = [-1.2, 1.0, 0.5]
ROSENBROCK = ["objective=rosenbrock", "objective.dimension=3", "initial_weight=[-1.2,1.0,0.5]", "dtype=float64", "lr=1"]


@pytest.mark.parametrize(("name", "method"), [("bfgs", "BFGS"), ("conjugate_gradient", "CG")])
@pytest.mark.parametrize("steps", [2, 25])
def test_iterates_are_scipys(name: str, method: str, steps: int) -> None:
    twin = minimize(rosen, np.array(START), jac=rosen_der, method=method, options={"maxiter": steps, "gtol": 1e-14})
    result, _ = done(f"optimizer={name}", *ROSENBROCK, f"steps={steps}")
    assert result.weight.tolist() == pytest.approx(twin.x.tolist(), abs=1e-8)
    # Each step but the first evaluates once more where the search before has ended.
    assert result.gradient_evaluations == twin.nfev + steps - 1


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
@pytest.mark.parametrize("steps", [1, 30])
def test_lbfgs_is_torchs(search: str | None, steps: int) -> None:
    weight = torch.tensor(START, dtype=torch.float64, requires_grad=True)
    made = {"max_iter": 1, "max_eval": 26, "history_size": 5}
    optimizer = torch.optim.LBFGS([weight], lr=1, line_search_fn=search, **made)

    def loss(point: torch.Tensor) -> torch.Tensor:
        ahead, here = point[..., 1:], point[..., :-1]
        return (100 * (ahead - here**2) ** 2 + (1 - here) ** 2).sum(-1)

    def closure() -> float:
        weight.grad = gradient_at(loss, weight)
        return float(loss(weight.detach()))

    for _ in range(steps):
        optimizer.step(closure)
    options = ["optimizer.history_size=5", f"optimizer.line_search_fn={'null' if search is None else search}"]
    result, _ = done("optimizer=lbfgs", *options, *ROSENBROCK, f"steps={steps}")
    assert result.weight.tolist() == pytest.approx(weight.tolist(), abs=1e-8)
    assert result.gradient_evaluations == optimizer.state[weight]["func_evals"]


@pytest.mark.parametrize("beta", ["PR+", "FR", "HS", "DY"])
def test_each_beta_solves_a_bowl_of_three_curvatures_in_three_steps(beta: str) -> None:
    bowl = ["objective=expression", "objective.formula='(x**2 + 10*y**2 + 100*z**2)/2'", "initial_weight=1"]
    exact = ["optimizer.c2=1e-9", "dtype=float64", "lr=1", "steps=3"]
    result, _ = done("optimizer=conjugate_gradient", f"optimizer.beta={beta}", *bowl, *exact)
    assert result.weight.tolist() == pytest.approx([0, 0, 0], abs=1e-6)


@pytest.mark.parametrize("name", ["bfgs", "lbfgs", "conjugate_gradient"])
def test_a_row_that_has_arrived_stays_while_its_neighbours_search(name: str) -> None:
    result, tracker = done(f"optimizer={name}", "objective=quadratic", "initial_weight=0", "lr=1", "steps=4")
    assert float(result.weight) == 0
    assert set(tracker.history("loss").values()) == {20.0}
