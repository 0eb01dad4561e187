"""The curvature of an objective along a descent, and what it says about the learning rate."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# Up to here the Hessian is made whole; past it only its products with vectors are.
EXACT_DIMENSION = 32
ITERATIONS = 200
TOLERANCE = 1e-10

Loss = Callable[[Tensor], Tensor]


def largest_eigenvalue(loss: Loss, point: Tensor) -> float:
    """Return the largest eigenvalue of the Hessian of `loss` at `point` `(dim,)`; NaN where it is not finite.

    Args:
        loss: maps `(points, dim)` to `(points,)`.
        point: where.
    """
    if not bool(point.isfinite().all()):
        return float("nan")
    if len(point) > EXACT_DIMENSION:
        return _by_power_iteration(loss, point)
    hessian = hessian_products(loss, point, torch.eye(len(point), dtype=point.dtype, device=point.device))
    if not bool(hessian.isfinite().all()):
        return float("nan")
    symmetric = (hessian + hessian.T).to(torch.float64) / 2
    return float(torch.linalg.eigvalsh(symmetric)[-1])


def hessian_products(loss: Loss, point: Tensor, vectors: Tensor) -> Tensor:
    """Return the products of the Hessian at `point` `(dim,)` with each of `vectors` `(n, dim)`."""
    points = point.detach().expand(len(vectors), -1).clone().requires_grad_()
    value = loss(points)
    (gradient,) = torch.autograd.grad(value, points, torch.ones_like(value), create_graph=True)
    if not gradient.requires_grad:  # the loss is linear
        return torch.zeros_like(vectors)
    (products,) = torch.autograd.grad(gradient, points, vectors, allow_unused=True)
    return torch.zeros_like(vectors) if products is None else products


def _by_power_iteration(loss: Loss, point: Tensor) -> float:
    """Find the eigenvalue of largest size; if it is negative, the largest is that of the Hessian shifted by it."""
    extreme = _power_iteration(loss, point, shift=0.0)
    return extreme if not extreme < 0 else _power_iteration(loss, point, shift=extreme) + extreme


def _power_iteration(loss: Loss, point: Tensor, shift: float) -> float:
    start = torch.Generator().manual_seed(0)
    vector = torch.randn(1, len(point), dtype=torch.float64, generator=start).to(point)
    value = float("nan")
    for _ in range(ITERATIONS):
        vector = vector / vector.norm()
        product = hessian_products(loss, point, vector) - shift * vector
        previous, value = value, float((product * vector).sum())
        if value == 0 or abs(value - previous) <= TOLERANCE * abs(value):
            break
        vector = product
    return value


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
