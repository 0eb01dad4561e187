"""Rules that search for a step, against closed forms, loops by hand and SciPy's search, in float64."""

from collections.abc import Iterator

import numpy as np
import pytest
from scipy.optimize import rosen, rosen_der
from scipy.optimize._linesearch import scalar_search_wolfe1

from runner.engine.result import Result
from tests.support.descents import done

START = np.array([-1.2, 1.0, 0.5])
Vector = np.ndarray[tuple[int], np.dtype[np.float64]]
CURVATURES = np.array([1.0, 10.0, 100.0])


def run(optimizer: str, *overrides: str, steps: int = 30) -> Result:
    rosenbrock = ["objective=rosenbrock", "objective.dimension=3", f"initial_weight={START.tolist()}"]
    asked = rosenbrock if not any(text.startswith("objective=") for text in overrides) else []
    return done(f"optimizer={optimizer}", "dtype=float64", "lr=1", f"steps={steps}", *asked, *overrides)[0]


def armijo(lr: float, steps: int) -> Iterator[tuple[Vector, int]]:
    weight, step, evaluations = START.copy(), np.inf, 0
    for _ in range(steps):
        loss, gradient = rosen(weight), rosen_der(weight)
        step, evaluations = min(lr, 1.5 * step), evaluations + 1
        for _ in range(30):
            evaluations += 1
            if rosen(weight - step * gradient) <= loss - 1e-4 * step * gradient @ gradient:
                weight = weight - step * gradient
                break
            step *= 0.8
        yield weight, evaluations


def strong_wolfe(steps: int) -> Iterator[tuple[Vector, int]]:
    weight, evaluations, before = START.copy(), 0, None
    for made in range(1, steps + 1):
        loss, gradient = rosen(weight), rosen_der(weight)
        direction, at = -gradient, weight

        def along(step: float, at: Vector = at, direction: Vector = direction) -> float:
            nonlocal evaluations
            evaluations += 1
            return float(rosen(at + step * direction))

        def slope(step: float, at: Vector = at, direction: Vector = direction) -> float:
            return float(rosen_der(at + step * direction) @ direction)

        before = loss + np.linalg.norm(gradient) / 2 if before is None else before
        step, _, _ = scalar_search_wolfe1(along, slope, loss, before, -gradient @ gradient, c1=1e-4, c2=0.1)
        weight, before = weight + step * direction, loss
        yield weight, made + evaluations  # one at the start of each step


@pytest.mark.parametrize("lr", [1.0, 0.003])
def test_armijo_backtracks_as_a_loop_by_hand(lr: float) -> None:
    *_, (weight, evaluations) = armijo(lr, 30)
    result = run("armijo", f"lr={lr}")
    assert result.weight.tolist() == pytest.approx(weight.tolist(), abs=1e-8)
    assert result.gradient_evaluations == evaluations > 30


def test_a_strong_wolfe_search_takes_scipys_steps() -> None:
    *_, (weight, evaluations) = strong_wolfe(30)
    result = run("strong_wolfe")
    assert result.weight.tolist() == pytest.approx(weight.tolist(), abs=1e-8)
    assert result.gradient_evaluations == evaluations


def test_an_exact_search_on_a_parabola_ends_at_its_minimum() -> None:
    result = run("strong_wolfe", "objective=quadratic", "optimizer.c2=1e-9", steps=1)
    assert abs(float(result.weight)) < 1e-8


@pytest.mark.parametrize(("f_star", "minimum"), [("null", 20.0), ("20", 20.0), ("19", 19.0)])
def test_polyaks_step_on_a_parabola_is_its_formula(f_star: str, minimum: float) -> None:
    weight = 10.0
    for _ in range(6):
        weight -= (weight**2 + 20 - minimum) / (2 * weight)
    result = run("polyak", "objective=quadratic", f"optimizer.f_star={f_star}", "lr=1e6", steps=6)
    assert float(result.weight) == pytest.approx(weight, abs=1e-8)
    assert result.gradient_evaluations == 6


def test_polyaks_step_is_at_most_lr() -> None:
    result = run("polyak", "objective=quadratic", "lr=0.1", steps=1)
    assert float(result.weight) == pytest.approx(10 - 0.1 * 20, abs=1e-12)


@pytest.mark.parametrize("variant", ["long", "short"])
def test_barzilai_and_borwein_step_as_their_formula_on_a_bowl(variant: str) -> None:
    weight: Vector = np.ones(3)
    step = 0.01
    for _ in range(8):
        gradient = CURVATURES * weight
        moved, weight = -step * gradient, weight - step * gradient
        turned = CURVATURES * moved
        above, below = (moved @ moved, moved @ turned) if variant == "long" else (moved @ turned, turned @ turned)
        step = float(above / below)
    bowl = ["objective=expression", "objective.formula='(x**2 + 10*y**2 + 100*z**2)/2'", "initial_weight=1"]
    result = run("barzilai_borwein", f"optimizer.variant={variant}", "lr=0.01", *bowl, steps=8)
    assert result.weight.tolist() == pytest.approx(weight.tolist(), abs=1e-8)


@pytest.mark.parametrize("optimizer", ["armijo", "strong_wolfe"])
def test_a_search_steps_back_from_where_the_loss_is_not_finite(optimizer: str) -> None:
    pole = ["objective=expression", "objective.formula='x - log(x)'", "initial_weight=5", "lr=100"]
    assert float(run(optimizer, *pole, steps=40).weight) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("optimizer", ["armijo", "strong_wolfe"])
def test_a_search_that_finds_no_step_leaves_the_weight(optimizer: str) -> None:
    up = ["objective=expression", "objective.formula='0*x + 1'", "initial_weight=5"]
    assert float(run(optimizer, *up, steps=3).weight) == 5
