"""Rules that scale the step of each parameter by the norms of its weight and its update.

Each is equal to its twin in `pytorch_optimizer`, given a vector as a matrix of one row.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from runner.optimizers.adam import Betas, Moments, begin_moments
from runner.optimizers.update_rule import Takes, UpdateRule, decayed, mixed_squares, oriented, plus, power, rule, shrunk
from runner.tensors.norms import norm

LARGEST_NORM = 10.0


@rule(begin_moments, takes=Takes.VECTORS)
def lamb(
    weight: Tensor,
    gradient: Tensor,
    state: Moments,
    *,
    lr: Tensor,
    betas: Betas,
    eps: Tensor,  # noqa: ARG001  # in the state
    weight_decay: Tensor | None,
    weight_decouple: bool,
    fixed_decay: bool,
    grad_averaging: bool,
    adam: bool,
    maximize: bool,
) -> tuple[Tensor, Moments]:
    """`u = m / (sqrt(v) + eps)`, `w = w - lr / (1 - beta1**step) * min(|w|, 10) / |u| * u`.

    Without `weight_decouple`, `weight_decay * w` is added to u; without `grad_averaging`, `m = beta1 * m + g`; with
    `adam`, u is not scaled by the norms.

    You et al., "Large batch optimization for deep learning: training BERT in 76 minutes", 2020.
    """
    gradient, dtype, step = oriented(gradient, maximize), weight.dtype, state.step + state.one
    take = 1 - betas[0] if grad_averaging else torch.ones_like(betas[0])
    mean = plus(state.mean * betas[0].to(dtype), take, gradient)
    square = mixed_squares(state.square, gradient, state.keep_square, state.take_square)
    update = mean / (square.sqrt() + state.floor)
    if weight_decouple:
        weight = shrunk(weight, 1.0 if fixed_decay else lr, weight_decay)
    else:
        update = decayed(update, weight, weight_decay)
    rate = (lr / (power(state.betas[0], step, len(weight)) - state.one)).to(dtype)
    if not adam:
        size, length = norm(weight).clamp(max=LARGEST_NORM), norm(update)
        rate = rate * torch.where((size > 0) & (length > 0), size / (length + state.floor), 1.0)
    return plus(weight, rate, update), state._replace(step=step, mean=mean, square=square)


class Buffer(NamedTuple):
    """The momentum buffer, of the weight's shape."""

    buffer: Tensor


def begin_buffer(weight: Tensor, **_hyper: Any) -> Buffer:
    """Return the buffer before the first step."""
    return Buffer(torch.zeros_like(weight))


def _momentum(
    weight: Tensor,
    gradient: Tensor,
    state: Buffer,
    *,
    lr: Tensor,
    momentum: Tensor | None,
    dampening: Tensor | None,
    nesterov: bool,
    maximize: bool,
    **_unused: Any,
) -> tuple[Tensor, Buffer]:
    """Return the weight after a step of momentum without decay."""
    return _with_momentum(weight, oriented(gradient, maximize), state, lr, momentum, dampening, nesterov)


def _with_momentum(
    weight: Tensor,
    gradient: Tensor,
    state: Buffer,
    lr: Tensor,
    momentum: Tensor | None,
    dampening: Tensor | None,
    nesterov: bool,
) -> tuple[Tensor, Buffer]:
    if momentum is None:
        return plus(weight, -lr, gradient), state
    take = torch.ones_like(lr) if dampening is None else 1 - dampening
    buffer = plus(state.buffer * momentum.to(weight.dtype), take, gradient)
    direction = plus(gradient, momentum, buffer) if nesterov else buffer
    return plus(weight, -lr, direction), Buffer(buffer)


@rule(begin_buffer, casts_lr=True, takes=Takes.VECTORS, companion=UpdateRule(begin_buffer, _momentum, casts_lr=True))
def lars(
    weight: Tensor,
    gradient: Tensor,
    state: Buffer,
    *,
    lr: Tensor,
    weight_decay: Tensor | None,
    momentum: Tensor | None,
    dampening: Tensor | None,
    trust_coefficient: Tensor,
    nesterov: bool,
    maximize: bool,
) -> tuple[Tensor, Buffer]:
    """Momentum on `trust_coefficient * |w| / (|g| + weight_decay * |w|) * (g + weight_decay * w)`.

    `b = momentum * b + (1 - dampening) * that`, `w = w - lr * b`, or with `nesterov` `w - lr * (that + momentum * b)`.
    Of several parameters, those that are no matrices get plain momentum.

    You, Gitman and Ginsburg, "Large batch training of convolutional networks", 2017.
    """
    gradient, dtype = oriented(gradient, maximize), weight.dtype
    size, length = norm(weight), norm(gradient)
    if weight_decay is not None:
        length = length + weight_decay.to(dtype) * size
    trust = torch.where((size > 0) & (length > 0), trust_coefficient.to(dtype) * size / length, 1.0)
    gradient = decayed(gradient, weight, weight_decay) * trust
    return _with_momentum(weight, gradient, state, lr, momentum, dampening, nesterov)
