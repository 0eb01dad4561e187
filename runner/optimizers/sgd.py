"""Gradient descent, with and without momentum, and with a falling step."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from runner.optimizers.update_rule import State, decayed, no_steps, oriented, plus, power, rule, shrunk
from runner.tensors.rows import padded


@rule(casts_lr=True)
def gd(weight: Tensor, gradient: Tensor, state: State, *, lr: Tensor) -> tuple[Tensor, State]:
    """Return `weight - lr * gradient`: gradient descent."""
    return weight - lr * gradient, state


class Momentum(NamedTuple):
    """The momentum buffer `(rows, dim)`, and whether a step has been made, `(1, 1)`."""

    buffer: Tensor
    has_begun: Tensor


def _begin(weight: Tensor, **_hyper: Any) -> Momentum:
    return Momentum(torch.zeros_like(weight), torch.zeros((1, 1), dtype=torch.bool, device=weight.device))


@rule(_begin, casts_lr=True)
def momentum(
    weight: Tensor,
    gradient: Tensor,
    state: Momentum,
    *,
    lr: Tensor,
    momentum: Tensor | None,
    dampening: Tensor | None,
    weight_decay: Tensor | None,
    maximize: bool,
    nesterov: bool = False,
) -> tuple[Tensor, Momentum]:
    """Heavy ball: `b = momentum * b + (1 - dampening) * g`, the first b is g; `w = w - lr * b`: torch's SGD.

    Polyak, "Some methods of speeding up the convergence of iteration methods", 1964.
    """
    gradient = decayed(oriented(gradient, maximize), weight, weight_decay)
    if momentum is None:
        return plus(weight, -lr, gradient), state
    factor = momentum.to(weight.dtype)
    buffer = state.buffer * factor + gradient
    if dampening is not None:
        buffer = torch.where(state.has_begun, plus(state.buffer * factor, 1 - dampening, gradient), gradient)
    direction = torch.addcmul(gradient, buffer, factor) if nesterov else buffer
    return plus(weight, -lr, direction), Momentum(buffer, torch.ones_like(state.has_begun))


@rule(_begin, casts_lr=True)
def nesterov(
    weight: Tensor,
    gradient: Tensor,
    state: Momentum,
    *,
    lr: Tensor,
    momentum: Tensor | None,
    weight_decay: Tensor | None,
    maximize: bool,
) -> tuple[Tensor, Momentum]:
    """Nesterov momentum: `b = momentum * b + g`, `w = w - lr * (g + momentum * b)`: torch's SGD, nesterov.

    Nesterov, "A method for solving the convex programming problem with convergence rate O(1/k**2)", 1983; in the
    form of Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.
    """
    return _heavy_ball(
        weight, gradient, state, lr=lr, momentum=momentum, dampening=None, weight_decay=weight_decay,
        maximize=maximize, nesterov=True,
    )  # fmt: skip


_heavy_ball = momentum


class Falling(NamedTuple):
    """The step count `(1, 1)`, and the step `(rows, 1)` in the weight's dtype."""

    step: Tensor
    eta: Tensor


def _begin_falling(weight: Tensor, **_hyper: Any) -> Falling:
    return Falling(no_steps(weight), torch.zeros_like(weight[:, :1]))


@rule(_begin_falling)
def asgd(
    weight: Tensor,
    gradient: Tensor,
    state: Falling,
    *,
    lr: Tensor,
    lambd: Tensor,
    alpha: Tensor,
    weight_decay: Tensor | None,
    maximize: bool,
) -> tuple[Tensor, Falling]:
    """`w = (1 - lambd * eta) * w - eta * g`, `eta = lr / (1 + lambd * lr * step)**alpha`: the weight of torch's ASGD.

    torch also keeps an average of the weights, from step `t0` on, which it does not use; it is left out. `eta` has the
    weight's dtype, in torch its default dtype, as the product of NAdam.

    Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992.
    """
    gradient = decayed(oriented(gradient, maximize), weight, weight_decay)
    eta = torch.where(state.step == 0, lr.to(weight.dtype), state.eta).to(torch.float64)
    step = state.step + 1
    moved = plus(shrunk(weight, eta, lambd), -eta, gradient)
    slowed = power(padded(1 + lambd * lr * step), padded(alpha), len(weight))
    return moved, Falling(step, (lr / slowed).to(weight.dtype))
