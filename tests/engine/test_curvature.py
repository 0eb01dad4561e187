"""The largest eigenvalue of the Hessian, exact and by products with vectors, against matrices that are known."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from runner.engine.curvature import EXACT_DIMENSION, PRODUCTS, StabilityBound, largest_eigenvalue
from tests.support.descents import done


def bowl(eigenvalues: list[float]) -> "tuple[torch.Tensor, object]":
    generator = torch.Generator().manual_seed(len(eigenvalues))
    n = len(eigenvalues)
    basis = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64, generator=generator)).Q
    matrix = basis @ torch.diag(torch.tensor(eigenvalues, dtype=torch.float64)) @ basis.T
    return basis[0], lambda w: 0.5 * ((w @ matrix) * w).sum(-1)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=8))
def test_the_largest_eigenvalue_of_a_quadratic_is_found(eigenvalues: list[float]) -> None:
    point, loss = bowl(eigenvalues)
    assert largest_eigenvalue(loss, point).value == pytest.approx(max(eigenvalues), abs=1e-9)  # type: ignore[arg-type]


@pytest.mark.parametrize("signs", [(1.0, 0.5), (-1.0, 0.5), (-1.0, -0.2)])
def test_lanczos_finds_the_largest_eigenvalue_not_the_largest_in_size(signs: tuple[float, float]) -> None:
    size = EXACT_DIMENSION + 9
    eigenvalues = [10 * signs[0], 10 * signs[1]] + [0.01 * i * signs[1] for i in range(size - 2)]
    point, loss = bowl(eigenvalues)
    assert largest_eigenvalue(loss, point).value == pytest.approx(max(eigenvalues), rel=1e-6, abs=1e-9)  # type: ignore[arg-type]


def test_a_linear_loss_has_curvature_0_and_an_infinite_point_nan() -> None:
    def linear(w: Tensor) -> Tensor:
        return w.sum(-1)

    assert largest_eigenvalue(linear, torch.ones(3)) == (0, True)
    assert math.isnan(largest_eigenvalue(linear, torch.tensor([math.inf])).value)


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ((0, 0, 4), "lr 1.1 was above the bound 2/lambda_max = 1: every step overshoots by more than it gains"),
        (
            (0, 4, 0),
            "lr 1.1 was at the bound 2/lambda_max = 1: each step overshoots by as much as it gains",
        ),
        ((4, 0, 0), "lr 1.1 was below the bound, which was at least 2/lambda_max = 1"),
        ((3, 0, 1), "lr 1.1 was above the bound at 1 of 4 recorded steps; the bound was at least 2/lambda_max = 1"),
    ],
)
def test_the_remark_compares_the_learning_rate_with_the_bound(counts: tuple[int, int, int], said: str) -> None:
    assert str(StabilityBound(1.1, 2.0, *counts)) == said


def test_an_eigenvalue_that_has_not_converged_is_reported_as_a_lower_bound() -> None:
    crowded = "objective.formula='sum(w**2) / 2 + sum(sin(w)**2 * w**2) / 9'"
    asked = ["objective=expression", crowded, "initial_weight=random", "objective.bounds=[-2,2]", "lr=1e-3"]
    many, tracker = done(*asked, "objective.dimension=400", "steps=2", "diagnostics.curvature=true")
    assert many.remark is not None
    said = "curvature is a lower bound at 2 of 2 recorded steps: the eigenvalue had not converged after "
    assert f"{said}{PRODUCTS} products" in many.remark
    few, _ = done(*asked, f"objective.dimension={PRODUCTS}", "steps=2", "diagnostics.curvature=true")
    assert few.remark is not None
    assert "converged" not in few.remark
    (found,) = [value for step, value in tracker.history("curvature").items() if step == 2]
    assert found == pytest.approx(many.measured["curvature"])
