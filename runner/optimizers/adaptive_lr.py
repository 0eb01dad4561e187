"""Rules that estimate D, the distance from the start to a minimum, and scale the learning rate by it.

D is one number for all coordinates of a run, of which each estimate is a lower bound. `lr` is a factor, usually 1.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from runner.optimizers.adam import Betas
from runner.optimizers.update_rule import decayed, mixed_squares, oriented, plus, plus_ratio, power, rule
from runner.tensors.norms import dot, size
from runner.tensors.rows import padded


class Distance(NamedTuple):
    """The state of a rule that estimates D.

    Attributes:
        step: the step count `(rows, 1)` in float64; steps whose gradients were all 0 do not count.
        d: the estimate of D, likewise.
        d_max: the largest estimate so far, before its growth is limited, likewise.
        numerator: of the estimate, likewise.
        mean: of gradients, times d, `(rows, dim)`.
        square: the mean of squares of gradients, likewise.
        s: the weighted sum of gradients, likewise.
        start: the first weight, likewise.
    """

    step: Tensor
    d: Tensor
    d_max: Tensor
    numerator: Tensor
    mean: Tensor
    square: Tensor
    s: Tensor
    start: Tensor


def _begin(weight: Tensor, *, d0: Tensor, **_hyper: Any) -> Distance:
    return Distance(
        torch.zeros_like(d0),
        d0.clone(),
        d0.clone(),
        torch.zeros_like(d0),
        torch.zeros_like(weight),
        torch.zeros_like(weight),
        torch.zeros_like(weight),
        weight.clone(),
    )


def _scaled_lr(state: Distance, lr: Tensor, betas: Betas, use_bias_correction: bool) -> Tensor:
    """Return `d * lr`, corrected for the bias of Adam's means towards 0."""
    if not use_bias_correction:
        return state.d * lr
    first, second = (power(padded(beta), padded(state.step + 1), len(lr)) for beta in betas)
    return state.d * lr * ((1 - second).sqrt() / (1 - first))


def _limited(d: Tensor, growth_rate: Tensor | None) -> Tensor:
    """Return the most that D may grow to."""
    return torch.full_like(d, torch.inf) if growth_rate is None else d * growth_rate


@rule(_begin)
def prodigy(
    weight: Tensor,
    gradient: Tensor,
    state: Distance,
    *,
    lr: Tensor,
    betas: Betas,
    beta3: Tensor | None,
    eps: Tensor,
    weight_decay: Tensor | None,
    decouple: bool,
    use_bias_correction: bool,
    safeguard_warmup: bool,
    d0: Tensor,
    d_coef: Tensor,
    growth_rate: Tensor | None,
    maximize: bool,
) -> tuple[Tensor, Distance]:
    """Adam with steps of `d * lr`: Prodigy of `prodigyopt`.

    `d = max(d, d_coef * r / |s|_1)`, `r = beta3 * r + d**2 * lr * g . (w_0 - w)`, `s = beta3 * s + d**2 * lr * g`.

    Mishchenko and Defazio, "Prodigy: an expeditiously adaptive parameter-free learner", 2024.
    """
    gradient, dtype = oriented(gradient, maximize), weight.dtype
    if not decouple:
        gradient = decayed(gradient, weight, weight_decay)
    keep, dlr = betas[1].sqrt() if beta3 is None else beta3, _scaled_lr(state, lr, betas, use_bias_correction)
    gain = dot(gradient, state.start - weight).to(torch.float64) * (state.d / d0 * dlr)
    mean = plus(state.mean * betas[0].to(dtype), state.d * (1 - betas[0]), gradient)
    square = mixed_squares(state.square, gradient, betas[1].to(dtype), (state.d * state.d * (1 - betas[1])).to(dtype))
    s = plus(state.s * keep.to(dtype), state.d / d0 * (state.d if safeguard_warmup else dlr), gradient)
    numerator, below = state.numerator * keep + gain, size(s).to(torch.float64)
    is_still = (below == 0) | (lr == 0)
    estimate = d_coef * numerator / torch.where(is_still, 1.0, below)
    d = torch.where(state.d == d0, torch.maximum(state.d, estimate), state.d)
    d_max = torch.maximum(state.d_max, estimate)
    d = torch.minimum(d_max, _limited(d, growth_rate))
    moved = weight
    if decouple and weight_decay is not None:
        moved = plus(weight, -weight_decay * dlr, weight)
    moved = plus_ratio(moved, -dlr, mean, plus(square.sqrt(), d, eps.to(dtype)))
    return torch.where(is_still, weight, moved), Distance(
        torch.where(is_still, state.step, state.step + 1),
        torch.where(is_still, state.d, d),
        torch.where(is_still, state.d_max, d_max),
        torch.where(is_still, state.numerator, numerator),
        mean,
        square,
        s,
        state.start,
    )


@rule(_begin)
def dadapt_adam(
    weight: Tensor,
    gradient: Tensor,
    state: Distance,
    *,
    lr: Tensor,
    betas: Betas,
    eps: Tensor,
    weight_decay: Tensor | None,
    decouple: bool,
    use_bias_correction: bool,
    d0: Tensor,  # noqa: ARG001  # in the state
    growth_rate: Tensor | None,
    maximize: bool,
) -> tuple[Tensor, Distance]:
    """Adam with steps of `d * lr`: DAdaptAdam of `dadaptation`.

    `d = max(d, r / ((1 - sqrt(beta2)) * |s|_1))`, r and s being means, with decay sqrt(beta2), of
    `d * lr * g . s / (sqrt(v) + eps)` and of `d * lr * g`.

    Defazio and Mishchenko, "Learning-rate-free learning by D-adaptation", 2023.
    """
    gradient, dtype = oriented(gradient, maximize), weight.dtype
    if not decouple:
        gradient = decayed(gradient, weight, weight_decay)
    keep, dlr, floor = betas[1].sqrt(), _scaled_lr(state, lr, betas, use_bias_correction), eps.to(dtype)
    gain = dot(gradient, state.s / (state.square.sqrt() + floor)).to(torch.float64) * dlr
    mean = plus(state.mean * betas[0].to(dtype), dlr * (1 - betas[0]), gradient)
    square = mixed_squares(state.square, gradient, betas[1].to(dtype), (1 - betas[1]).to(dtype))
    s = plus(state.s * keep.to(dtype), dlr * (1 - keep), gradient)
    numerator, below = state.numerator * keep + (1 - keep) * gain, (1 - keep) * size(s).to(torch.float64)
    is_still = (below == 0) | (lr == 0)
    estimate = numerator / torch.where(is_still, 1.0, below)
    d = torch.maximum(state.d, torch.minimum(estimate, _limited(state.d, growth_rate)))
    moved = weight
    if decouple and weight_decay is not None:
        moved = plus(weight, -weight_decay * dlr, weight)
    moved = moved - mean / (square.sqrt() + floor)
    return torch.where(is_still, weight, moved), state._replace(
        step=torch.where(is_still, state.step, state.step + 1),
        d=torch.where(is_still, state.d, d),
        numerator=torch.where(is_still, state.numerator, numerator),
        mean=mean,
        square=square,
        s=s,
    )
