"""Variants of Adam that torch does not have, each equal to its twin in `pytorch_optimizer`.

The symbols are those of `adam.py`. `weight_decouple` applies weight decay to the weight instead of the gradient,
`fixed_decay` does so without the factor lr.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from runner.optimizers.adam import Betas, Moments, begin_moments
from runner.optimizers.update_rule import (
    mixed_squares,
    no_steps,
    oriented,
    plus,
    plus_ratio,
    power,
    rule,
    shrunk,
    with_decay,
)
from runner.tensors.rows import padded

ThreeBetas = tuple[Tensor, Tensor, Tensor]


def _corrected(state: Moments, square: Tensor, step: Tensor) -> Tensor:
    """Return `sqrt(v') + eps` for a mean of squares v."""
    root = (state.one - power(state.betas[1], step, len(square))).sqrt().to(square.dtype)
    return square.sqrt() / root + state.floor


def _rate(state: Moments, lr: Tensor, step: Tensor) -> Tensor:
    """Return `-lr / (1 - beta1**step)`."""
    return lr / (power(state.betas[0], step, len(state.mean)) - state.one)


@rule(begin_moments)
def adabelief(
    weight: Tensor,
    gradient: Tensor,
    state: Moments,
    *,
    lr: Tensor,
    betas: Betas,  # noqa: ARG001  # in the state
    eps: Tensor,  # noqa: ARG001  # in the state
    weight_decay: Tensor | None,
    weight_decouple: bool,
    fixed_decay: bool,
    ams_bound: bool,
    maximize: bool,
) -> tuple[Tensor, Moments]:
    """Adam with `v = beta2 * v + (1 - beta2) * (g - m)**2 + eps`; with `ams_bound`, the largest v so far.

    Zhuang et al., "AdaBelief optimizer: adapting stepsizes by the belief in observed gradients", 2020.
    """
    weight, gradient = with_decay(weight, oriented(gradient, maximize), lr, weight_decay, weight_decouple, fixed_decay)
    step, mean = state.step + state.one, torch.lerp(state.mean, gradient, state.take_mean)
    square = mixed_squares(state.square, gradient - mean, state.keep_square, state.take_square) + state.floor
    largest = torch.maximum(state.largest, square) if ams_bound else state.largest
    below = _corrected(state, largest if ams_bound else square, step)
    moved = plus_ratio(weight, _rate(state, lr, step), mean, below)
    return moved, state._replace(step=step, mean=mean, square=square, largest=largest)


def _begin_yogi(weight: Tensor, *, initial_accumulator: Tensor, **hyper: Any) -> Moments:
    state, first = begin_moments(weight, **hyper), initial_accumulator.to(weight.dtype)
    return state._replace(mean=state.mean + first, square=state.square + first)


@rule(_begin_yogi)
def yogi(
    weight: Tensor,
    gradient: Tensor,
    state: Moments,
    *,
    lr: Tensor,
    betas: Betas,  # noqa: ARG001  # in the state
    initial_accumulator: Tensor,  # noqa: ARG001  # in the state
    eps: Tensor,  # noqa: ARG001  # in the state
    weight_decay: Tensor | None,
    weight_decouple: bool,
    fixed_decay: bool,
    maximize: bool,
) -> tuple[Tensor, Moments]:
    """Adam with `v = v - (1 - beta2) * sign(v - g**2) * g**2`, m and v beginning at `initial_accumulator`.

    Zaheer et al., "Adaptive methods for nonconvex optimization", 2018.
    """
    weight, gradient = with_decay(weight, oriented(gradient, maximize), lr, weight_decay, weight_decouple, fixed_decay)
    step, mean = state.step + state.one, torch.lerp(state.mean, gradient, state.take_mean)
    squared = gradient * gradient
    square = torch.addcmul(state.square, -state.take_square * (state.square - squared).sign(), squared)
    moved = plus_ratio(weight, _rate(state, lr, step), mean, _corrected(state, square, step))
    return moved, state._replace(step=step, mean=mean, square=square)


class Differences(NamedTuple):
    """The step count `(1, 1)`; `(rows, dim)`: the means of g, of its change and of squares, and the last g."""

    step: Tensor
    mean: Tensor
    change: Tensor
    square: Tensor
    gradient: Tensor


def _begin_differences(weight: Tensor, **_hyper: Any) -> Differences:
    return Differences(no_steps(weight), *(torch.zeros_like(weight) for _ in range(4)))


@rule(_begin_differences)
def adan(
    weight: Tensor,
    gradient: Tensor,
    state: Differences,
    *,
    lr: Tensor,
    betas: ThreeBetas,
    eps: Tensor,
    weight_decay: Tensor | None,
    weight_decouple: bool,
    maximize: bool,
) -> tuple[Tensor, Differences]:
    """Adam with a mean d of the changes `g - last g`, and v of `(g + beta2 * (g - last g))**2`.

    `w = (w - lr * (m' + beta2 * d') / (sqrt(v') + eps)) / (1 + lr * weight_decay)`; with `weight_decouple`,
    `w = (1 - lr * weight_decay) * w - ...`. The gradients of the first step have not changed. `max_grad_norm` of the
    twin is left out: `clip_norm` clips.

    Xie et al., "Adan: adaptive Nesterov momentum algorithm for faster optimizing deep models", 2022.
    """
    gradient, dtype, rows = oriented(gradient, maximize), weight.dtype, len(weight)
    step = state.step + 1
    change = gradient - torch.where(state.step == 0, gradient, state.gradient)
    means = torch.lerp(state.mean, gradient, (1 - betas[0]).to(dtype))
    changes = torch.lerp(state.change, change, (1 - betas[1]).to(dtype))
    ahead = change * betas[1].to(dtype) + gradient
    square = mixed_squares(state.square, ahead, betas[2].to(dtype), (1 - betas[2]).to(dtype))
    faded = [power(padded(beta), step, rows) for beta in betas]
    below = square.sqrt() / (1 - faded[2]).sqrt().to(dtype) + eps.to(dtype)
    if weight_decouple:
        weight = shrunk(weight, lr, weight_decay)
    weight = plus_ratio(weight, lr / (faded[0] - 1), means, below)
    weight = plus_ratio(weight, lr * betas[1] / (faded[1] - 1), changes, below)
    if weight_decay is not None and not weight_decouple:
        weight = weight / (1 + lr * weight_decay).to(dtype)
    return weight, Differences(step, means, changes, square, gradient)


def _begin_ademamix(weight: Tensor, **hyper: Any) -> Moments:
    """Return a state whose `own` is the slow mean."""
    return begin_moments(weight, **hyper)._replace(own=(torch.zeros_like(weight),))


@rule(_begin_ademamix)
def ademamix(
    weight: Tensor,
    gradient: Tensor,
    state: Moments,
    *,
    lr: Tensor,
    betas: ThreeBetas,
    eps: Tensor,  # noqa: ARG001  # in the state
    weight_decay: Tensor | None,
    weight_decouple: bool,
    fixed_decay: bool,
    alpha: Tensor,
    t_alpha_beta3: Tensor | None,
    maximize: bool,
) -> tuple[Tensor, Moments]:
    """`w = w - lr * (m' + alpha * s) / (sqrt(v') + eps)`, s a slower mean of gradients, by beta3.

    Over the first `t_alpha_beta3` steps, alpha rises from 0 and beta3 from beta1.

    Pagliardini, Ablin and Grangier, "The AdEMAMix optimizer: better, faster, older", 2024.
    """
    weight, gradient = with_decay(weight, oriented(gradient, maximize), lr, weight_decay, weight_decouple, fixed_decay)
    step, beta3 = state.step + state.one, betas[2]
    if t_alpha_beta3 is not None:
        part = step / t_alpha_beta3
        fast, slow = betas[0].log(), betas[2].log()
        beta3 = torch.minimum((slow / ((1 - part) * (slow / fast) + part)).exp(), beta3)
        alpha = torch.minimum(part * alpha, alpha)
    mean = torch.lerp(state.mean, gradient, state.take_mean)
    square = mixed_squares(state.square, gradient, state.keep_square, state.take_square)
    slow_mean = torch.lerp(state.own[0], gradient, (1 - beta3).to(weight.dtype))
    known = (state.one - power(state.betas[0], step, len(weight))).to(weight.dtype)
    moved = plus_ratio(weight, -lr, plus(mean / known, alpha, slow_mean), _corrected(state, square, step))
    return moved, state._replace(step=step, mean=mean, square=square, own=(slow_mean,))


class Normed(NamedTuple):
    """The step count `(1, 1)`; the means of normed gradients and of squares of gradients, `(rows, dim)`."""

    step: Tensor
    mean: Tensor
    square: Tensor


def _begin_normed(weight: Tensor, **_hyper: Any) -> Normed:
    return Normed(no_steps(weight), torch.zeros_like(weight), torch.zeros_like(weight))


@rule(_begin_normed)
def adopt(
    weight: Tensor,
    gradient: Tensor,
    state: Normed,
    *,
    lr: Tensor,
    betas: Betas,
    eps: Tensor,
    weight_decay: Tensor | None,
    weight_decouple: bool,
    fixed_decay: bool,
    maximize: bool,
) -> tuple[Tensor, Normed]:
    """`w = w - lr * m`, m the mean of `g / max(sqrt(last v), eps)`, clipped to `step**0.25`.

    The first step only begins v, with `g**2`.

    Taniguchi et al., "ADOPT: modified Adam can converge with any beta2 with the optimal rate", 2024.
    """
    weight, gradient = with_decay(weight, oriented(gradient, maximize), lr, weight_decay, weight_decouple, fixed_decay)
    step, is_first, dtype = state.step + 1, state.step == 0, weight.dtype
    limit = (step**0.25).to(dtype)
    normed = torch.clamp(gradient / torch.maximum(state.square.sqrt(), eps.to(dtype)), -limit, limit)
    mean = torch.lerp(state.mean, normed, (1 - betas[0]).to(dtype))
    square = mixed_squares(state.square, gradient, betas[1].to(dtype), (1 - betas[1]).to(dtype))
    return torch.where(is_first, weight, plus(weight, -lr, mean)), Normed(
        step, torch.where(is_first, state.mean, mean), torch.where(is_first, gradient * gradient, square)
    )
