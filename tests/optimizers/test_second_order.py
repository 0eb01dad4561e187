"""Newton's method against closed forms, in float64."""

import pytest

from tests.support.descents import done

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
