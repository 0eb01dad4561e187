"""Rules that compute the curvature: Newton's method."""

import torch
from torch import Tensor

from runner.optimizers.function import Function
from runner.optimizers.quasi_newton import times
from runner.optimizers.update_rule import State, plus, rule


@rule(evaluates=True, numbers=lambda shapes, **_: 6 * shapes.dimension**2)
def newton(
    weight: Tensor, gradient: Tensor, state: State, function: Function, *, lr: Tensor, damping: Tensor
) -> tuple[Tensor, State, Tensor]:
    """`w = w - lr * (|H| + damping * I)**-1 g`, |H| the Hessian with its eigenvalues made positive.

    Where the Hessian is positive definite, this is Newton's step. Elsewhere it descends along directions of negative
    curvature too, where Newton's step would climb. A direction whose eigenvalue, with `damping`, is 0 to rounding is
    left out. The Hessian counts as many evaluations as it has rows.

    Dauphin et al., "Identifying and attacking the saddle point problem in high-dimensional non-convex optimization",
    2014.
    """
    hessian = function.hessian(weight)
    dimension = weight.shape[-1]
    is_finite = hessian.isfinite().flatten(1).all(-1)[:, None, None]
    unit = torch.eye(dimension, dtype=weight.dtype, device=weight.device)
    values, vectors = torch.linalg.eigh(torch.where(is_finite, (hessian + hessian.mT) / 2, unit))
    values = values.abs() + damping.to(weight.dtype)
    least = dimension * torch.finfo(weight.dtype).eps * values.amax(-1, keepdim=True)
    along = times(vectors.mT, gradient)
    step = times(vectors, torch.where(values > least, along / values, 0.0))
    # Where the Hessian is not finite, neither is the step, so that the run counts as diverged.
    step = torch.where(is_finite[:, 0], step, torch.nan)
    return plus(weight, -lr, step), state, torch.full_like(lr, dimension)
