"""Rules that learn the curvature from the changes of the gradient: nonlinear conjugate gradients, BFGS and L-BFGS.

They suppose that each step sees the same loss: with mini-batches or noise, the changes of the gradient mislead them.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from runner.optimizers.function import Function, Line
from runner.optimizers.line_search import LastLoss, begin_last_loss, first_trial
from runner.optimizers.more_thuente import more_thuente
from runner.optimizers.torch_wolfe import torch_wolfe
from runner.optimizers.update_rule import no_steps, plus, rule
from runner.tensors.norms import dot, size


class Conjugate(NamedTuple):
    """The gradient and the direction of the step before, `(rows, dim)`, and its loss."""

    gradient: Tensor
    direction: Tensor
    last: LastLoss


def _begin_conjugate(weight: Tensor, **_hyper: Any) -> Conjugate:
    return Conjugate(torch.zeros_like(weight), torch.zeros_like(weight), begin_last_loss(weight))


@rule(_begin_conjugate, evaluates=True)
def conjugate_gradient(
    weight: Tensor,
    gradient: Tensor,
    state: Conjugate,
    function: Function,
    *,
    lr: Tensor,
    beta: str,
    c1: Tensor,
    c2: Tensor,
    max_iterations: int,
) -> tuple[Tensor, Conjugate, Tensor]:
    """`w = w + a * p`, `p = beta * p - g`, a by More and Thuente's search: SciPy's CG with `PR+`.

    beta, with y the change of g, is `max(0, g . y) / |g before|**2` (PR+), `|g|**2 / |g before|**2` (FR),
    `g . y / (p . y)` (HS) or `|g|**2 / (p . y)` (DY). Where p does not descend, it is `-g`.

    Polak and Ribiere, 1969; Fletcher and Reeves, 1964; Hestenes and Stiefel, 1952; Dai and Yuan, 1999; in the form of
    Nocedal and Wright, "Numerical optimization", 2006.
    """
    turned = gradient - state.gradient
    product = dot(gradient, turned).clamp(min=0) if beta == "PR+" else dot(gradient, turned)
    above = dot(gradient, gradient) if beta in ("FR", "DY") else product
    below = dot(state.gradient, state.gradient) if beta in ("PR+", "FR") else dot(state.direction, turned)
    is_known = (state.last.step > 0) & (below != 0)
    share = torch.where(is_known, above / torch.where(is_known, below, 1.0), 0.0)
    direction = plus(-gradient, share, state.direction)
    direction = torch.where(dot(direction, gradient) < 0, direction, -gradient)
    line = Line.of(function, weight, gradient, direction)
    found = more_thuente(line, first_trial(line, gradient, state.last, lr), c1, c2, max_iterations)
    last = LastLoss(line.start.loss, state.last.step + 1)
    return line.weight_at(found.step), Conjugate(gradient, direction, last), found.evaluations


class Inverse(NamedTuple):
    """The state of BFGS.

    Attributes:
        weight: of the step before, `(rows, dim)`.
        gradient: of the step before, `(rows, dim)`.
        inverse: the estimate of the inverse of the Hessian, `(rows, dim, dim)`.
        last: the loss of the step before.
    """

    weight: Tensor
    gradient: Tensor
    inverse: Tensor
    last: LastLoss


def _begin_inverse(weight: Tensor, **_hyper: Any) -> Inverse:
    dimension = weight.shape[-1]
    unit = torch.eye(dimension, dtype=weight.dtype, device=weight.device).expand(len(weight), -1, -1).clone()
    return Inverse(torch.zeros_like(weight), torch.zeros_like(weight), unit, begin_last_loss(weight))


def times(matrix: Tensor, vector: Tensor) -> Tensor:
    """Return the products `(rows, dim)` of matrices `(rows, dim, dim)` with vectors, row by row of the batch alike."""
    return (matrix * vector[:, None, :]).sum(-1)


@rule(_begin_inverse, evaluates=True, numbers=lambda shapes, **_: 4 * shapes.dimension**2)
def bfgs(
    weight: Tensor,
    gradient: Tensor,
    state: Inverse,
    function: Function,
    *,
    lr: Tensor,
    c1: Tensor,
    c2: Tensor,
    max_iterations: int,
) -> tuple[Tensor, Inverse, Tensor]:
    """`w = w - a * H g`, H the inverse of the Hessian as the gradients suggest, a by More and Thuente's search.

    SciPy's BFGS. A pair of changes of w and g that would make H indefinite leaves it as it is.

    Broyden, Fletcher, Goldfarb and Shanno, 1970; in the form of Nocedal and Wright, "Numerical optimization", 2006.
    """
    moved, turned = weight - state.weight, gradient - state.gradient
    curved = dot(moved, turned)
    is_known = (state.last.step > 0) & (curved > 0)
    share = 1 / torch.where(is_known, curved, 1.0)
    product = times(state.inverse, turned)
    outer = moved[:, :, None] * product[:, None, :]
    # (I - s y'/ys) H (I - y s'/ys) + s s'/ys
    scale = share + share.square() * dot(turned, product)
    learned = state.inverse - share[:, :, None] * (outer + outer.mT)
    learned = learned + scale[:, :, None] * (moved[:, :, None] * moved[:, None, :])
    inverse = torch.where(is_known[:, :, None], learned, state.inverse)
    direction = -times(inverse, gradient)
    line = Line.of(function, weight, gradient, direction)
    found = more_thuente(line, first_trial(line, gradient, state.last, lr), c1, c2, max_iterations)
    last = LastLoss(line.start.loss, state.last.step + 1)
    return line.weight_at(found.step), Inverse(weight, gradient, inverse, last), found.evaluations


class History(NamedTuple):
    """The state of L-BFGS.

    Attributes:
        step: the step count `(1, 1)` in float64.
        gradient: of the step before, `(rows, dim)`.
        moved: its step, `(rows, dim)`.
        steps: the last steps that were kept, the newest last, `(rows, history_size, dim)`; 0 where there is none.
        turns: the changes of the gradient in these, likewise.
        shares: `1 / (step . turn)` of each, `(rows, history_size)`; 0 where there is none.
        scale: of the first estimate of the inverse of the Hessian, `(rows, 1)`.
    """

    step: Tensor
    gradient: Tensor
    moved: Tensor
    steps: Tensor
    turns: Tensor
    shares: Tensor
    scale: Tensor


def _begin_history(weight: Tensor, *, history_size: int, **_hyper: Any) -> History:
    kept = weight.new_zeros((len(weight), history_size, weight.shape[-1]))
    return History(
        no_steps(weight), torch.zeros_like(weight), torch.zeros_like(weight), kept, kept.clone(),
        weight.new_zeros((len(weight), history_size)), torch.ones_like(weight[:, :1]),
    )  # fmt: skip


@rule(_begin_history, evaluates=True, numbers=lambda shapes, history_size, **_: 4 * history_size * shapes.dimension)
def lbfgs(
    weight: Tensor,
    gradient: Tensor,
    state: History,
    function: Function,
    *,
    lr: Tensor,
    history_size: int,
    line_search_fn: str | None,
    tolerance_grad: Tensor,
    tolerance_change: Tensor,
    max_iterations: int,
) -> tuple[Tensor, History, Tensor]:
    """`w = w + a * d`, d from the last `history_size` changes of w and g: torch's LBFGS, one iteration a step.

    `a` is `lr`, at the first step `min(1, 1 / |g|_1) * lr`; or with `line_search_fn=strong_wolfe` it is found from that
    on by torch's search with the strong Wolfe conditions.

    Liu and Nocedal, "On the limited memory BFGS method for large scale optimization", 1989.
    """
    state = _remembered(state, gradient)
    direction = _two_loops(state, gradient, history_size)
    line = Line.of(function, weight, gradient, direction)
    shortest = (1 / size(gradient).to(torch.float64)).clamp(max=1) * lr
    step, evaluations = torch.where(state.step == 0, shortest, lr), torch.zeros_like(lr)
    has_ended = (gradient.abs().amax(-1, keepdim=True) <= tolerance_grad) | (line.start.slope > -tolerance_change)
    if line_search_fn is not None:
        found = torch_wolfe(line, step, has_ended, tolerance_change, max_iterations)
        step, evaluations = found.step, found.evaluations
    step = torch.where(has_ended, 0.0, step)
    moved = line.weight_at(step)
    kept = state._replace(step=state.step + 1, gradient=gradient, moved=direction * step.to(weight.dtype))
    return moved, kept, evaluations


def _remembered(state: History, gradient: Tensor) -> History:
    """Return the history with the step before, unless the gradient hardly changed along it."""
    turned = gradient - state.gradient
    curved = dot(turned, state.moved)
    is_kept = (state.step > 0) & (curved > 1e-10)
    share = 1 / torch.where(is_kept, curved, 1.0)
    steps = torch.cat([state.steps[:, 1:], state.moved[:, None]], dim=1)
    turns = torch.cat([state.turns[:, 1:], turned[:, None]], dim=1)
    scale = curved / torch.where(is_kept, dot(turned, turned), 1.0)
    return state._replace(
        steps=torch.where(is_kept[:, :, None], steps, state.steps),
        turns=torch.where(is_kept[:, :, None], turns, state.turns),
        shares=torch.where(is_kept, torch.cat([state.shares[:, 1:], share], dim=1), state.shares),
        scale=torch.where(is_kept, scale, state.scale),
    )


def _two_loops(state: History, gradient: Tensor, count: int) -> Tensor:
    """Return the direction; pairs that are 0 change nothing."""
    direction, factors = -gradient, []
    for pair in reversed(range(count)):
        factors.append(dot(state.steps[:, pair], direction) * state.shares[:, pair : pair + 1])
        direction = plus(direction, -factors[-1], state.turns[:, pair])
    direction = direction * state.scale
    for pair, factor in zip(range(count), reversed(factors), strict=True):
        other = dot(state.turns[:, pair], direction) * state.shares[:, pair : pair + 1]
        direction = plus(direction, factor - other, state.steps[:, pair])
    return direction
