"""The curvature of an objective along a descent, and what it says about the learning rate."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from runner.tensors.norms import norm

# Up to here the Hessian is made whole; past it only its products with vectors are.
EXACT_DIMENSION = 32
PRODUCTS = 80
TOLERANCE = 1e-10

Loss = Callable[[Tensor], Tensor]


class Eigenvalue(NamedTuple):
    """The largest eigenvalue of a Hessian, NaN where that is not finite; a lower bound where it has not settled."""

    value: float
    has_settled: bool = True


def largest_eigenvalue(loss: Loss, point: Tensor) -> Eigenvalue:
    """Return the largest eigenvalue of the Hessian of `loss` at `point` `(dim,)`.

    Args:
        loss: maps `(points, dim)` to `(points,)`.
        point: where.
    """
    if not bool(point.isfinite().all()):
        return Eigenvalue(math.nan)
    if len(point) > EXACT_DIMENSION:
        return _by_lanczos(loss, point)
    hessian = hessian_products(loss, point, torch.eye(len(point), dtype=point.dtype, device=point.device))
    if not bool(hessian.isfinite().all()):
        return Eigenvalue(math.nan)
    symmetric = (hessian + hessian.T).to(torch.float64) / 2
    return Eigenvalue(float(torch.linalg.eigvalsh(symmetric)[-1]))


def hessian_products(loss: Loss, point: Tensor, vectors: Tensor) -> Tensor:
    """Return the products of the Hessian at `point` `(dim,)` with each of `vectors` `(n, dim)`."""
    points = point.detach().expand(len(vectors), -1).clone().requires_grad_()
    value = loss(points)
    (gradient,) = torch.autograd.grad(value, points, torch.ones_like(value), create_graph=True)
    if not gradient.requires_grad:  # the loss is linear
        return torch.zeros_like(vectors)
    (products,) = torch.autograd.grad(gradient, points, vectors, allow_unused=True)
    return torch.zeros_like(vectors) if products is None else products


def _by_lanczos(loss: Loss, point: Tensor) -> Eigenvalue:
    """Find the largest eigenvalue from products with vectors alone, at most PRODUCTS of them.

    Power iteration that keeps every vector it made: the largest eigenvalue within their span, which is reached
    in far fewer products, and is the largest even where one below zero is of greater size.

    Lanczos, "An iteration method for the solution of the eigenvalue problem of linear differential and integral
    operators", 1950; with full orthogonalisation.
    """
    start = torch.Generator().manual_seed(0)
    vector = torch.randn(len(point), dtype=torch.float64, generator=start).to(point.device)
    basis: list[Tensor] = []
    products: list[Tensor] = []
    found = math.nan
    for _ in range(min(len(point), PRODUCTS)):
        basis.append(vector / norm(vector))
        products.append(hessian_products(loss, point, basis[-1][None].to(point.dtype))[0].to(torch.float64))
        span = torch.stack(basis)
        projected = span @ torch.stack(products).T
        if not bool(projected.isfinite().all()):
            return Eigenvalue(math.nan)
        previous, found = found, float(torch.linalg.eigvalsh((projected + projected.T) / 2)[-1])
        vector = products[-1]
        for _ in range(2):  # once leaves rounding that grows
            vector = vector - span.T @ (span @ vector)
        if abs(found - previous) <= TOLERANCE * abs(found) or float(norm(vector)) <= TOLERANCE * abs(found):
            return Eigenvalue(found)
    return Eigenvalue(found, has_settled=len(basis) == len(point))


@dataclass(frozen=True)
class StabilityBound:
    """How the learning rate of plain gradient descent stood to `2 / lambda_max` at the recorded steps.

    Past that bound the step along the steepest curvature overshoots by more than it gains.
    """

    lr: float
    curvature: float
    below: int
    at: int
    above: int

    def __str__(self) -> str:
        bound = f"2/lambda_max = {2 / self.curvature:g}"
        steps = self.below + self.at + self.above
        if self.above == steps:
            return f"lr {self.lr:g} was above the bound {bound}: every step overshoots by more than it gains"
        if self.at == steps:
            return f"lr {self.lr:g} was at the bound {bound}: steps overshoot by as much as they gain, for ever"
        if self.below == steps:
            return f"lr {self.lr:g} was below the bound {bound} at its tightest"
        return f"lr {self.lr:g} was above the bound at {self.above} of {steps} recorded steps, {bound} at its tightest"
