"""Adam and its variants: the mean of gradients divided by the root of the mean of their squares.

In the formulas `m = beta1 * m + (1 - beta1) * g` and `v = beta2 * v + (1 - beta2) * g**2`; `m'` and `v'` are these
divided by `1 - beta**step`, which corrects their bias towards the initial 0.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from runner.optimizers.update_rule import decayed, mixed_squares, no_steps, oriented, plus_ratio, power, rule, shrunk
from runner.tensors.rows import padded

Betas = tuple[Tensor, Tensor]


class Moments(NamedTuple):
    """The state of Adam and its variants; constants are computed once.

    Attributes:
        step: the step count `(1, 1)` in float64.
        mean: of gradients, `(rows, dim)`.
        square: the mean of their squares, `(rows, dim)`.
        largest: the largest `square` so far, for AMSGrad, `(rows, dim)`.
        own: further tensors of NAdam and RAdam.
        one: the number 1, `(1, 1)`; adding a Python number would take twice as long.
        betas: in float64, `(padded rows, 1)`.
        floor: eps in the weight's dtype, `(rows, 1)`.
        take_mean: `1 - betas[0]` likewise.
        keep_square: `betas[1]` likewise.
        take_square: `1 - betas[1]` likewise.
    """

    step: Tensor
    mean: Tensor
    square: Tensor
    largest: Tensor
    own: tuple[Tensor, ...]
    one: Tensor
    betas: Betas
    floor: Tensor
    take_mean: Tensor
    keep_square: Tensor
    take_square: Tensor


def begin_moments(weight: Tensor, *, betas: tuple[Tensor, ...], eps: Tensor, **_hyper: Any) -> Moments:
    """Return the state before the first step."""
    step = no_steps(weight)
    return Moments(
        step=step,
        mean=torch.zeros_like(weight),
        square=torch.zeros_like(weight),
        largest=torch.zeros_like(weight),
        own=(),
        one=torch.ones_like(step),
        betas=(padded(betas[0]).clone(), padded(betas[1]).clone()),
        floor=eps.to(weight.dtype, copy=True),
        take_mean=(1 - betas[0]).to(weight.dtype),
        keep_square=betas[1].to(weight.dtype, copy=True),
        take_square=(1 - betas[1]).to(weight.dtype),
    )


def _after(state: Moments, gradient: Tensor) -> Moments:
    return Moments(
        state.step + state.one,
        torch.lerp(state.mean, gradient, state.take_mean),
        mixed_squares(state.square, gradient, state.keep_square, state.take_square),
        *state[3:],
    )


@rule(begin_moments)
def adam(
    weight: Tensor,
    gradient: Tensor,
    state: Moments,
    *,
    lr: Tensor,
    betas: Betas,  # noqa: ARG001  # in the state
    eps: Tensor,  # noqa: ARG001  # in the state
    weight_decay: Tensor | None,
    maximize: bool,
    decoupled_weight_decay: bool,
    amsgrad: bool,
) -> tuple[Tensor, Moments]:
    """`w = w - lr * m' / (sqrt(v') + eps)`: torch's Adam.

    Kingma and Ba, "Adam: a method for stochastic optimization", 2015.
    """
    gradient = oriented(gradient, maximize)
    if decoupled_weight_decay:
        weight = shrunk(weight, lr, weight_decay)
    else:
        gradient = decayed(gradient, weight, weight_decay)
    state = _after(state, gradient)
    if amsgrad:
        state = state._replace(largest=torch.maximum(state.largest, state.square))
    downhill = lr / (power(state.betas[0], state.step, len(weight)) - state.one)
    root = (state.one - power(state.betas[1], state.step, len(weight))).sqrt().to(weight.dtype)
    below = (state.largest if amsgrad else state.square).sqrt() / root + state.floor
    return plus_ratio(weight, downhill, state.mean, below), state


@rule(begin_moments)
def adamw(
    weight: Tensor,
    gradient: Tensor,
    state: Moments,
    *,
    lr: Tensor,
    betas: Betas,
    eps: Tensor,
    weight_decay: Tensor | None,
    maximize: bool,
    amsgrad: bool,
) -> tuple[Tensor, Moments]:
    """Adam on `(1 - lr * weight_decay) * w`: torch's AdamW.

    Loshchilov and Hutter, "Decoupled weight decay regularization", 2019.
    """
    return adam(
        weight, gradient, state, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, maximize=maximize,
        decoupled_weight_decay=True, amsgrad=amsgrad,
    )  # fmt: skip


@rule(begin_moments)
def amsgrad(
    weight: Tensor,
    gradient: Tensor,
    state: Moments,
    *,
    lr: Tensor,
    betas: Betas,
    eps: Tensor,
    weight_decay: Tensor | None,
    maximize: bool,
) -> tuple[Tensor, Moments]:
    """Adam with the largest v so far instead of v, divided by `1 - beta2**step`: torch's Adam with amsgrad.

    Reddi, Kale and Kumar, "On the convergence of Adam and beyond", 2018; the paper has no bias correction.
    """
    return adam(
        weight, gradient, state, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, maximize=maximize,
        decoupled_weight_decay=False, amsgrad=True,
    )  # fmt: skip


def _nadam_momentum(step: Tensor, betas: Betas, momentum_decay: Tensor) -> Tensor:
    return betas[0] * torch.rsub(power(0.96, padded(step * momentum_decay), len(betas[0])), 1, alpha=0.5)


def _begin_nadam(weight: Tensor, *, betas: Betas, momentum_decay: Tensor, **hyper: Any) -> Moments:
    """Return a state whose `own` is the momentum of the first step, and the product of the momenta so far."""
    state = begin_moments(weight, betas=betas, **hyper)
    product = torch.ones_like(betas[0], dtype=weight.dtype)
    return state._replace(own=(_nadam_momentum(state.one, betas, momentum_decay), product))


@rule(_begin_nadam)
def nadam(
    weight: Tensor,
    gradient: Tensor,
    state: Moments,
    *,
    lr: Tensor,
    betas: Betas,
    eps: Tensor,  # noqa: ARG001  # in the state
    weight_decay: Tensor | None,
    momentum_decay: Tensor,
    decoupled_weight_decay: bool,
    maximize: bool,
) -> tuple[Tensor, Moments]:
    """Adam with Nesterov momentum `mu = beta1 * (1 - 0.96**(step * momentum_decay) / 2)`: torch's NAdam.

    `w = w - lr * ((1 - mu) / (1 - prod(mu)) * g + mu_next / (1 - prod(mu) * mu_next) * m) / (sqrt(v') + eps)`.

    `prod(mu)` has the weight's dtype. torch keeps it in its default dtype, float32, so its steps of float64 weights
    differ in the ninth or tenth digit.

    Dozat, "Incorporating Nesterov momentum into Adam", 2016.
    """
    gradient = oriented(gradient, maximize)
    if decoupled_weight_decay:
        weight = shrunk(weight, lr, weight_decay)
    else:
        gradient = decayed(gradient, weight, weight_decay)
    momentum, product = state.own
    product = product * momentum.to(product.dtype)
    state, one = _after(state, gradient), state.one
    following = _nadam_momentum(state.step + one, betas, momentum_decay)
    below = (
        state.square / (one - power(state.betas[1], state.step, len(weight))).to(weight.dtype)
    ).sqrt() + state.floor
    state, product = state._replace(own=(following, product)), product.to(torch.float64)
    weight = plus_ratio(weight, lr * (one - momentum) / (product - one), gradient, below)
    return plus_ratio(weight, lr * following / (product * following - one), state.mean, below), state


def _begin_radam(weight: Tensor, *, betas: Betas, **hyper: Any) -> Moments:
    """Return a state whose `own` is the maximum length of the average, and the denominator of the rectification."""
    longest = 2 / (1 - betas[1]) - 1
    own = longest, (longest - 4) * (longest - 2)
    return begin_moments(weight, betas=betas, **hyper)._replace(own=own)


@rule(_begin_radam)
def radam(
    weight: Tensor,
    gradient: Tensor,
    state: Moments,
    *,
    lr: Tensor,
    betas: Betas,  # noqa: ARG001  # in the state
    eps: Tensor,  # noqa: ARG001  # in the state
    weight_decay: Tensor | None,
    decoupled_weight_decay: bool,
    maximize: bool,
) -> tuple[Tensor, Moments]:
    """Adam rectified for the variance of v, and `w - lr * m'` while that is too large: torch's RAdam.

    Liu et al., "On the variance of the adaptive learning rate and beyond", 2020.
    """
    gradient = oriented(gradient, maximize)
    if decoupled_weight_decay:
        weight = shrunk(weight, lr, weight_decay)
    else:
        gradient = decayed(gradient, weight, weight_decay)
    (longest, measure), dtype = state.own, weight.dtype
    state = _after(state, gradient)
    faded = power(state.betas[1], state.step, len(weight))
    known = state.one - faded
    length = longest - 2 * state.step * faded / known
    is_known = length > 5
    safe = length.clamp(min=5)
    rectified = ((safe - 4) * (safe - 2) * longest / (measure * safe)).sqrt().to(dtype)
    plain = state.mean / (state.one - power(state.betas[0], state.step, len(weight))).to(dtype) * lr.to(dtype)
    scale = (state.square.sqrt() + state.floor).reciprocal() * known.sqrt().to(dtype)
    return weight - torch.where(is_known, plain * scale * rectified, plain), state


class Largest(NamedTuple):
    """The step count `(1, 1)`, the mean of gradients and the decaying maximum of their sizes, `(rows, dim)`."""

    step: Tensor
    mean: Tensor
    largest: Tensor


def _begin_largest(weight: Tensor, **_hyper: Any) -> Largest:
    return Largest(no_steps(weight), torch.zeros_like(weight), torch.zeros_like(weight))


@rule(_begin_largest)
def adamax(
    weight: Tensor,
    gradient: Tensor,
    state: Largest,
    *,
    lr: Tensor,
    betas: Betas,
    eps: Tensor,
    weight_decay: Tensor | None,
    maximize: bool,
) -> tuple[Tensor, Largest]:
    """`u = max(beta2 * u, |g| + eps)`, `w = w - lr * m' / u`: torch's Adamax.

    Kingma and Ba, "Adam: a method for stochastic optimization", 2015.
    """
    gradient = decayed(oriented(gradient, maximize), weight, weight_decay)
    dtype = weight.dtype
    mean = torch.lerp(state.mean, gradient, (1 - betas[0]).to(dtype))
    largest = torch.maximum(state.largest * betas[1].to(dtype), gradient.abs() + eps.to(dtype))
    step = state.step + 1
    return plus_ratio(weight, lr / (power(padded(betas[0]), step, len(weight)) - 1), mean, largest), Largest(
        step, mean, largest
    )
