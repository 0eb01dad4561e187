"""Schedules that depend on the losses so far."""

import math
from typing import Any

import torch
from torch import Tensor

from runner.schedules.schedule import State, loss_driven


def _begin_plateau(lr: Tensor, *, mode: str, **_hyper: Any) -> State:
    """Return the rate, the best loss, the number of steps without a better one, and the steps of cooldown left."""
    worst = math.inf if mode == "min" else -math.inf
    return lr.clone(), torch.full_like(lr, worst), torch.zeros_like(lr), torch.zeros_like(lr)


@loss_driven(_begin_plateau)
def plateau(
    loss: Tensor,
    state: State,
    *,
    mode: str,
    factor: Tensor,
    patience: Tensor,
    threshold: Tensor,
    threshold_mode: str,
    cooldown: Tensor,
    min_lr: Tensor,
    eps: Tensor,
) -> State:
    """Multiply the rate by `factor` after more than `patience` steps without a better loss: ReduceLROnPlateau.

    In mode min with a relative threshold, a loss is better if `loss < best * (1 - threshold)`, as in torch. If the
    best loss is negative, this bound lies above it: a slightly worse loss counts as better, and a constant negative
    loss never reduces the rate. Use an absolute threshold where the loss may be negative. A NaN is never better.
    A reduction of at most `eps` is not applied.
    """
    rate, best, bad, cooling = state
    better = _is_better(loss, best, mode, threshold, threshold_mode)
    best = torch.where(better, loss, best)
    is_cooling = cooling > 0
    bad = torch.where(better | is_cooling, 0.0, bad + 1)
    is_reduced = bad > patience
    lower = torch.maximum(rate * factor, min_lr)
    return (
        torch.where(is_reduced & (rate - lower > eps), lower, rate),
        best,
        torch.where(is_reduced, 0.0, bad),
        torch.where(is_reduced, cooldown, cooling - is_cooling.double()),
    )


def _is_better(loss: Tensor, best: Tensor, mode: str, threshold: Tensor, threshold_mode: str) -> Tensor:
    sign = -1 if mode == "min" else 1
    bound = best * (1 + sign * threshold) if threshold_mode == "rel" else best + sign * threshold
    return loss < bound if mode == "min" else loss > bound
