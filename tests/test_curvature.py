"""The largest eigenvalue of the Hessian, exact and by products with vectors, against matrices that are known."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from runner.curvature import EXACT_DIMENSION, StabilityBound, largest_eigenvalue


def bowl(eigenvalues: list[float]) -> "tuple[torch.Tensor, object]":
    generator = torch.Generator().manual_seed(len(eigenvalues))
    n = len(eigenvalues)
    basis = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64, generator=generator)).Q
    matrix = basis @ torch.diag(torch.tensor(eigenvalues, dtype=torch.float64)) @ basis.T
    return basis[0], lambda w: 0.5 * ((w @ matrix) * w).sum(-1)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=8))
def test_the_largest_eigenvalue_of_a_quadratic_is_found(eigenvalues: list[float]) -> None:
    point, loss = bowl(eigenvalues)
    assert largest_eigenvalue(loss, point) == pytest.approx(max(eigenvalues), abs=1e-9)  # type: ignore[arg-type]


@pytest.mark.parametrize("signs", [(1.0, 0.5), (-1.0, 0.5), (-1.0, -0.2)])
def test_past_the_exact_dimension_products_find_the_largest_not_the_widest(signs: tuple[float, float]) -> None:
    size = EXACT_DIMENSION + 9
    eigenvalues = [10 * signs[0], 10 * signs[1]] + [0.01 * i * signs[1] for i in range(size - 2)]
    point, loss = bowl(eigenvalues)
    assert largest_eigenvalue(loss, point) == pytest.approx(max(eigenvalues), rel=1e-6, abs=1e-9)  # type: ignore[arg-type]


def test_a_linear_loss_has_no_curvature_and_a_point_out_of_range_has_none_to_tell() -> None:
    def linear(w: Tensor) -> Tensor:
        return w.sum(-1)

    assert largest_eigenvalue(linear, torch.ones(3)) == 0
    assert math.isnan(largest_eigenvalue(linear, torch.tensor([math.inf])))


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ((0, 0, 4), "lr 1.1 was above the bound 2/lambda_max = 1: every step overshoots by more than it gains"),
        ((0, 4, 0), "lr 1.1 was at the bound 2/lambda_max = 1: steps overshoot by as much as they gain, for ever"),
        ((4, 0, 0), "lr 1.1 was below the bound 2/lambda_max = 1 at its tightest"),
        ((3, 0, 1), "lr 1.1 was above the bound at 1 of 4 recorded steps, 2/lambda_max = 1 at its tightest"),
    ],
)
def test_the_bound_is_said_in_a_sentence(counts: tuple[int, int, int], said: str) -> None:
    assert str(StabilityBound(1.1, 2.0, *counts)) == said
