"""Rules that compute the curvature: Newton's method, and that of Levenberg and Marquardt for least squares."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from runner.optimizers.function import Function
from runner.optimizers.quasi_newton import times
from runner.optimizers.update_rule import State, plus, rule

LEAST_DAMPING, MOST_DAMPING = 1e-30, 1e30


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


class Damping(NamedTuple):
    """How much the matrix of a step is damped, `(rows, 1)` in float64."""

    damping: Tensor


def _begin_damping(_weight: Tensor, *, damping: Tensor, **_hyper: Any) -> Damping:
    return Damping(damping.clone())


@rule(_begin_damping, evaluates=True, needs_residuals=True, numbers=lambda shapes, **_: 6 * shapes.dimension**2)
def levenberg_marquardt(
    weight: Tensor,
    gradient: Tensor,
    state: Damping,
    function: Function,
    *,
    lr: Tensor,
    damping: Tensor,  # noqa: ARG001  # in the state
    increase_factor: Tensor,
    decrease_factor: Tensor,
) -> tuple[Tensor, Damping, Tensor]:
    """`w = w - lr * (J' J + damping * diag(J' J))**-1 g / 2` where that lowers the loss, J the Jacobian of residuals.

    The damping is multiplied by `decrease_factor` after a step, and by `increase_factor` where the weight stays. The
    Jacobian counts as many evaluations as it has columns.

    Levenberg, "A method for the solution of certain non-linear problems in least squares", 1944; Marquardt, "An
    algorithm for least-squares estimation of nonlinear parameters", 1963.
    """
    jacobian = function.jacobian(weight)
    matrix = torch.bmm(jacobian.mT, jacobian)
    diagonal = matrix.diagonal(dim1=1, dim2=2)
    damped = matrix + torch.diag_embed(diagonal * state.damping.to(weight.dtype))
    step, _ = torch.linalg.solve_ex(damped, gradient[:, :, None] / 2)
    moved = plus(weight, -lr, step[:, :, 0])
    loss, _ = function.evaluate(moved)
    is_lower = loss < function.loss
    factor = torch.where(is_lower, decrease_factor, increase_factor)
    kept = Damping((state.damping * factor).clamp(LEAST_DAMPING, MOST_DAMPING))
    return torch.where(is_lower, moved, weight), kept, torch.full_like(lr, weight.shape[-1] + 1)
