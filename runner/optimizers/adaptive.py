"""Rules that scale each coordinate by the size of its past gradients."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from runner.optimizers.update_rule import decayed, mixed_squares, no_steps, oriented, plus, plus_ratio, rule


class Averages(NamedTuple):
    """The mean square, the mean and the running sum of gradients, each `(rows, dim)`."""

    square: Tensor
    mean: Tensor
    buffer: Tensor


def _begin(weight: Tensor, **_hyper: Any) -> Averages:
    return Averages(torch.zeros_like(weight), torch.zeros_like(weight), torch.zeros_like(weight))


@rule(_begin, casts_lr=True)
def rmsprop(
    weight: Tensor,
    gradient: Tensor,
    state: Averages,
    *,
    lr: Tensor,
    alpha: Tensor,
    eps: Tensor,
    weight_decay: Tensor | None,
    momentum: Tensor | None,
    centered: bool,
    maximize: bool,
) -> tuple[Tensor, Averages]:
    """`v = alpha * v + (1 - alpha) * g**2`, `w = w - lr * g / (sqrt(v) + eps)`: torch's RMSprop.

    With `centered`, the squared mean of gradients is subtracted from v; with momentum, the steps are accumulated.

    Tieleman and Hinton, "Lecture 6.5 - RMSprop", 2012; centered: Graves, "Generating sequences with recurrent
    neural networks", 2013.
    """
    gradient = decayed(oriented(gradient, maximize), weight, weight_decay)
    dtype = weight.dtype
    take = (1 - alpha).to(dtype)
    square = mixed_squares(state.square, gradient, alpha.to(dtype), take)
    mean = torch.lerp(state.mean, gradient, take) if centered else state.mean
    spread = torch.addcmul(square, mean, mean, value=-1) if centered else square
    size = spread.sqrt() + eps.to(dtype)
    if momentum is None:
        return plus_ratio(weight, -lr, gradient, size), Averages(square, mean, state.buffer)
    buffer = torch.addcdiv(state.buffer * momentum.to(dtype), gradient, size)
    return plus(weight, -lr, buffer), Averages(square, mean, buffer)


class Sum(NamedTuple):
    """The step count `(1, 1)`, and the sum of squares of gradients `(rows, dim)`."""

    step: Tensor
    squares: Tensor


def _begin_sum(weight: Tensor, *, initial_accumulator_value: Tensor, **_hyper: Any) -> Sum:
    return Sum(no_steps(weight), torch.zeros_like(weight) + initial_accumulator_value.to(weight.dtype))


@rule(_begin_sum)
def adagrad(
    weight: Tensor,
    gradient: Tensor,
    state: Sum,
    *,
    lr: Tensor,
    lr_decay: Tensor,
    weight_decay: Tensor | None,
    initial_accumulator_value: Tensor,  # noqa: ARG001  # in the state
    eps: Tensor,
    maximize: bool,
) -> tuple[Tensor, Sum]:
    """`s = s + g**2`, `w = w - lr / (1 + (step - 1) * lr_decay) * g / (sqrt(s) + eps)`: torch's Adagrad.

    Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and stochastic optimization", 2011.
    """
    gradient = decayed(oriented(gradient, maximize), weight, weight_decay)
    squares = torch.addcmul(state.squares, gradient, gradient)
    size = squares.sqrt() + eps.to(weight.dtype)
    rate = lr / (1 + state.step * lr_decay)
    return plus_ratio(weight, -rate, gradient, size), Sum(state.step + 1, squares)


class Deltas(NamedTuple):
    """The mean squares of gradients and of steps, each `(rows, dim)`."""

    square: Tensor
    step_square: Tensor


def _begin_deltas(weight: Tensor, **_hyper: Any) -> Deltas:
    return Deltas(torch.zeros_like(weight), torch.zeros_like(weight))


@rule(_begin_deltas, casts_lr=True)
def adadelta(
    weight: Tensor,
    gradient: Tensor,
    state: Deltas,
    *,
    lr: Tensor,
    rho: Tensor,
    eps: Tensor,
    weight_decay: Tensor | None,
    maximize: bool,
) -> tuple[Tensor, Deltas]:
    """`d = sqrt(mean(d**2) + eps) / sqrt(mean(g**2) + eps) * g`, `w = w - lr * d`: torch's Adadelta.

    Zeiler, "ADADELTA: an adaptive learning rate method", 2012.
    """
    gradient = decayed(oriented(gradient, maximize), weight, weight_decay)
    keep, take, floor = (value.to(weight.dtype) for value in (rho, 1 - rho, eps))
    square = mixed_squares(state.square, gradient, keep, take)
    step = (state.step_square + floor).sqrt() / (square + floor).sqrt() * gradient
    return plus(weight, -lr, step), Deltas(square, mixed_squares(state.step_square, step, keep, take))
