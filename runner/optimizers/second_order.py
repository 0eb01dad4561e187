"""Rules that compute the curvature: Newton's method, that of Levenberg and Marquardt for least squares, and Sophia."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from runner.optimizers.adam import Betas
from runner.optimizers.function import Function
from runner.optimizers.quasi_newton import times
from runner.optimizers.update_rule import State, no_steps, plus, rule, with_decay
from runner.tensors.tracing import is_traced

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


class Diagonal(NamedTuple):
    """The step count `(1, 1)`, and the means of gradients and of estimates of the Hessian's diagonal, `(rows, dim)`."""

    step: Tensor
    mean: Tensor
    diagonal: Tensor


def _begin_diagonal(weight: Tensor, **_hyper: Any) -> Diagonal:
    return Diagonal(no_steps(weight), torch.zeros_like(weight), torch.zeros_like(weight))


@rule(_begin_diagonal, evaluates=True, probes=True)
def sophia(
    weight: Tensor,
    gradient: Tensor,
    state: Diagonal,
    function: Function,
    *,
    lr: Tensor,
    betas: Betas,
    weight_decay: Tensor | None,
    weight_decouple: bool,
    fixed_decay: bool,
    p: Tensor,
    update_period: Tensor,
    hessian_distribution: str,
    eps: Tensor,
) -> tuple[Tensor, Diagonal, Tensor]:
    """`w = w - lr * clamp(m / max(h, eps), -p, p)`, h a mean of estimates of the Hessian's diagonal: Sophia-H.

    Each `update_period` steps, at the cost of an evaluation, `h = beta2 * h + (1 - beta2) * z * (H z)`, z drawn from
    the run's seed. Equal to SophiaH of pytorch_optimizer, given its z.

    Liu et al., "Sophia: a scalable stochastic second-order optimizer for language model pre-training", 2024; the
    estimate from Hutchinson, 1989.
    """
    dtype, is_due = weight.dtype, state.step.remainder(update_period) == 0
    diagonal = state.diagonal
    if is_traced() or bool(is_due.any()):
        probe = function.probe()
        probe = probe.sign() if hessian_distribution == "rademacher" else probe
        estimate = function.product(weight, probe) * probe
        diagonal = torch.where(is_due, torch.lerp(diagonal, estimate, (1 - betas[1]).to(dtype)), diagonal)
    weight, gradient = with_decay(weight, gradient, lr, weight_decay, weight_decouple, fixed_decay)
    mean = torch.lerp(state.mean, gradient, (1 - betas[0]).to(dtype))
    most = p.to(dtype)
    update = torch.clamp(mean / torch.maximum(diagonal, eps.to(dtype)), -most, most)
    return plus(weight, -lr, update), Diagonal(state.step + 1, mean, diagonal), is_due.to(torch.float64)
