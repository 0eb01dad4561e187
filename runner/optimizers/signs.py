"""Rules that use the signs of gradients, not their sizes.

The sign of NaN is 0, so a gradient of NaN leaves the weight; the engine ends such a run by its gradient.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from runner.optimizers.update_rule import State, oriented, plus, rule, shrunk


@rule(casts_lr=True)
def sign_descent(weight: Tensor, gradient: Tensor, state: State, *, lr: Tensor, maximize: bool) -> tuple[Tensor, State]:
    """`w = w - lr * sign(g)`.

    Bernstein et al., "signSGD: compressed optimisation for non-convex problems", 2018.
    """
    return weight - lr * oriented(gradient, maximize).sign(), state


class Sizes(NamedTuple):
    """The gradient of the last step and the step sizes, `(rows, dim)`, and whether a step has been made, `(1, 1)`."""

    gradient: Tensor
    size: Tensor
    has_begun: Tensor


def _begin_sizes(weight: Tensor, **_hyper: Any) -> Sizes:
    has_begun = torch.zeros((1, 1), dtype=torch.bool, device=weight.device)
    return Sizes(torch.zeros_like(weight), torch.zeros_like(weight), has_begun)


@rule(_begin_sizes, casts_lr=True)
def rprop(
    weight: Tensor,
    gradient: Tensor,
    state: Sizes,
    *,
    lr: Tensor,
    etas: tuple[Tensor, Tensor],
    step_sizes: tuple[Tensor, Tensor],
    maximize: bool,
) -> tuple[Tensor, Sizes]:
    """`w = w - size * sign(g)`, each size first lr, then times `etas` as the sign of g changed or not: torch's Rprop.

    A coordinate whose sign has changed rests for a step. Only the learning rate of the first step matters.

    Riedmiller and Braun, "A direct adaptive method for faster backpropagation learning: the RPROP algorithm", 1993.
    """
    gradient = oriented(gradient, maximize)
    (shrink, grow), (least, most) = ((low.to(weight.dtype), high.to(weight.dtype)) for low, high in (etas, step_sizes))
    agreement = gradient * state.gradient
    size = torch.where(state.has_begun, state.size, lr)
    size = size * torch.where(agreement > 0, grow, torch.where(agreement < 0, shrink, 1.0))
    size = torch.clamp(size, least, most)
    gradient = torch.where(agreement < 0, 0.0, gradient)
    return torch.addcmul(weight, gradient.sign(), size, value=-1), Sizes(
        gradient, size, torch.ones_like(state.has_begun)
    )


class Mean(NamedTuple):
    """The mean of gradients `(rows, dim)`."""

    mean: Tensor


def _begin_mean(weight: Tensor, **_hyper: Any) -> Mean:
    return Mean(torch.zeros_like(weight))


@rule(_begin_mean)
def lion(
    weight: Tensor,
    gradient: Tensor,
    state: Mean,
    *,
    lr: Tensor,
    betas: tuple[Tensor, Tensor],
    weight_decay: Tensor | None,
    maximize: bool,
) -> tuple[Tensor, Mean]:
    """`w = w - lr * (sign(beta1 * m + (1 - beta1) * g) + weight_decay * w)`, then `m = beta2 * m + (1 - beta2) * g`.

    Equal to `lion-pytorch`.

    Chen et al., "Symbolic discovery of optimization algorithms", 2023.
    """
    gradient = oriented(gradient, maximize)
    for_direction, for_mean = (plus(state.mean * beta.to(weight.dtype), 1 - beta, gradient) for beta in betas)
    return plus(shrunk(weight, lr, weight_decay), -lr, for_direction.sign()), Mean(for_mean)
