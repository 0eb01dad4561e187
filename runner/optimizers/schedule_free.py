"""Schedule-free rules, which replace a falling learning rate by an average of the weights.

The gradient is taken at y, which is the rule's weight. It moves z by a step; x is a weighted average of all z, and y
lies between the two: `y = momentum * x + (1 - momentum) * z`. The loss and the weight of a run are those at x.

Defazio et al., "The road less scheduled", 2024.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from runner.optimizers.adam import Betas
from runner.optimizers.update_rule import decayed, mixed_squares, no_steps, oriented, plus, power, rule
from runner.tensors.rows import padded


class Averaged(NamedTuple):
    """The state of a schedule-free rule.

    Attributes:
        step: the step count `(1, 1)` in float64.
        largest: the largest learning rate so far, `(rows, 1)` in float64.
        total: the sum of the weights of the average, likewise.
        fast: z, `(rows, dim)`.
        square: the mean of squares of gradients, `(rows, dim)`; of schedule-free SGD, 0.
    """

    step: Tensor
    largest: Tensor
    total: Tensor
    fast: Tensor
    square: Tensor


def _begin(weight: Tensor, **_hyper: Any) -> Averaged:
    nothing = torch.zeros_like(weight[:, :1], dtype=torch.float64)
    return Averaged(no_steps(weight), nothing, nothing.clone(), weight.clone(), torch.zeros_like(weight))


def _averaged(weight: Tensor, state: Averaged, momentum: Tensor) -> Tensor:
    """Return x."""
    return torch.lerp(weight, state.fast, (1 - 1 / momentum).to(weight.dtype))


def _at_momentum(weight: Tensor, state: Averaged, *, momentum: Tensor, **_hyper: Any) -> Tensor:
    return _averaged(weight, state, momentum)


def _at_beta(weight: Tensor, state: Averaged, *, betas: Betas, **_hyper: Any) -> Tensor:
    return _averaged(weight, state, betas[0])


def _moved(
    weight: Tensor,
    direction: Tensor,
    state: Averaged,
    lr: Tensor,
    momentum: Tensor,
    warmup_steps: Tensor,
    r: Tensor,
    weight_lr_power: Tensor,
) -> tuple[Tensor, Averaged]:
    """Return y and the state after a step of z along `-direction`."""
    step, rows = state.step + 1, len(weight)
    lr = torch.where(step <= warmup_steps, lr * step / warmup_steps, lr)
    largest = torch.maximum(state.largest, lr)
    share = power(step, padded(r), rows) * power(padded(largest), padded(weight_lr_power), rows)
    total = state.total + share
    share = torch.where(total > 0, share / total, 0.0)
    mixed = torch.lerp(weight, state.fast, share.to(weight.dtype))
    moved = plus(mixed, lr * (momentum * (1 - share) - 1), direction)
    return moved, state._replace(step=step, largest=largest, total=total, fast=plus(state.fast, -lr, direction))


@rule(_begin, recorded=_at_momentum)
def schedule_free_sgd(
    weight: Tensor,
    gradient: Tensor,
    state: Averaged,
    *,
    lr: Tensor,
    momentum: Tensor,
    weight_decay: Tensor | None,
    warmup_steps: Tensor,
    r: Tensor,
    weight_lr_power: Tensor,
    maximize: bool,
) -> tuple[Tensor, Averaged]:
    """`z = z - lr * g(y)`, `x` the average of z by weights `step**r * max(lr)**weight_lr_power`.

    The learning rate rises over the first `warmup_steps` steps. Equal to `SGDScheduleFree` of `schedulefree`.
    """
    direction = decayed(oriented(gradient, maximize), weight, weight_decay)
    return _moved(weight, direction, state, lr, momentum, warmup_steps, r, weight_lr_power)


@rule(_begin, recorded=_at_beta)
def schedule_free_adamw(
    weight: Tensor,
    gradient: Tensor,
    state: Averaged,
    *,
    lr: Tensor,
    betas: Betas,
    eps: Tensor,
    weight_decay: Tensor | None,
    warmup_steps: Tensor,
    r: Tensor,
    weight_lr_power: Tensor,
    maximize: bool,
) -> tuple[Tensor, Averaged]:
    """Schedule-free SGD along `g / (sqrt(v') + eps) + weight_decay * y`, with `betas[0]` as its momentum.

    Equal to `AdamWScheduleFree` of `schedulefree`.
    """
    gradient, dtype = oriented(gradient, maximize), weight.dtype
    square = mixed_squares(state.square, gradient, betas[1].to(dtype), (1 - betas[1]).to(dtype))
    known = 1 - power(padded(betas[1]), state.step + 1, len(weight))
    direction = decayed(gradient / ((square / known.to(dtype)).sqrt() + eps.to(dtype)), weight, weight_decay)
    state = state._replace(square=square)
    return _moved(weight, direction, state, lr, betas[0], warmup_steps, r, weight_lr_power)
