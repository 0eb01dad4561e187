"""Schedules that depend on the step alone."""

import itertools
import math
from typing import Any

import torch
from torch import Tensor

from runner.schedules.schedule import closed_form


@closed_form()
def constant(epoch: Tensor, lr: Tensor) -> Tensor:
    """Return `lr`."""
    return lr.expand(epoch.shape)


@closed_form()
def step(epoch: Tensor, lr: Tensor, *, step_size: Tensor, gamma: Tensor) -> Tensor:
    """Return `lr * gamma**floor(epoch / step_size)`: torch's StepLR."""
    return lr * gamma ** (epoch / step_size).floor()


@closed_form()
def multistep(epoch: Tensor, lr: Tensor, *, milestones: tuple[Tensor, ...], gamma: Tensor) -> Tensor:
    """Return `lr * gamma**(number of milestones reached)`: torch's MultiStepLR.

    A milestone of infinity is never reached; shorter lists of a batch are padded with it.
    """
    reached = torch.stack([epoch >= milestone for milestone in milestones]).sum(0)
    return lr * gamma**reached


@closed_form()
def exponential(epoch: Tensor, lr: Tensor, *, gamma: Tensor) -> Tensor:
    """Return `lr * gamma**epoch`: torch's ExponentialLR."""
    return lr * gamma**epoch


@closed_form()
def polynomial(epoch: Tensor, lr: Tensor, *, total_iters: Tensor, power: Tensor) -> Tensor:
    """Return `lr * (1 - epoch / total_iters)**power`: torch's PolynomialLR; 0 at epoch `total_iters`."""
    return lr * (1 - epoch / total_iters).clamp(min=0) ** power


@closed_form()
def cosine(epoch: Tensor, lr: Tensor, *, T_max: Tensor, eta_min: Tensor) -> Tensor:  # noqa: N803  # torch's name
    """Return `eta_min + (lr - eta_min) * (1 + cos(pi * epoch / T_max)) / 2`: torch's CosineAnnealingLR.

    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017, without restarts.
    """
    return eta_min + (lr - eta_min) * (1 + torch.cos(math.pi * epoch / T_max)) / 2


@closed_form()
def warm_restarts(
    epoch: Tensor,
    lr: Tensor,
    *,
    T_0: Tensor,  # noqa: N803  # torch's name
    T_mult: Tensor,  # noqa: N803  # torch's name
    eta_min: Tensor,
) -> Tensor:
    """Return the cosine within the epoch's cycle, the nth of length `T_0 * T_mult**n`: CosineAnnealingWarmRestarts.

    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017.
    """
    growth = torch.where(T_mult > 1, T_mult - 1, 1.0)

    def start(cycle: Tensor) -> Tensor:
        grown = T_0 * ((T_mult**cycle).round() - 1) / growth
        return torch.where(T_mult > 1, grown, cycle * T_0)

    ratio = epoch / T_0
    cycle = torch.where(T_mult > 1, torch.log1p(ratio * growth) / torch.log(T_mult), ratio).floor()
    # At the start of a cycle the logarithm may round to either side of a whole number.
    cycle = cycle - (start(cycle) > epoch).double() + (start(cycle + 1) <= epoch).double()
    return cosine(epoch - start(cycle), lr, T_max=T_0 * (T_mult**cycle).round(), eta_min=eta_min)


def _one_cycle_start(_lr: Tensor, *, max_lr: Tensor, div_factor: Tensor, **_hyper: Any) -> Tensor:
    """Return the rate at which the cycle begins, which warm-up rises to."""
    return max_lr / div_factor


@closed_form(_one_cycle_start)
def one_cycle(
    epoch: Tensor,
    _lr: Tensor,
    *,
    max_lr: Tensor,
    total_steps: Tensor,
    pct_start: Tensor,
    anneal_strategy: str,
    div_factor: Tensor,
    final_div_factor: Tensor,
    three_phase: bool,
) -> Tensor:
    """Return a rate that rises from `max_lr / div_factor` to `max_lr` once and falls to far less: torch's OneCycleLR.

    The base rate matters only as the value of a null `max_lr`. Only the rate is cycled; torch's scheduler cycles the
    momentum too unless `cycle_momentum=False`.

    Smith and Topin, "Super-convergence: very fast training of neural networks using large learning rates", 2019.
    """
    first = _one_cycle_start(_lr, max_lr=max_lr, div_factor=div_factor)
    peak_at, end = pct_start * total_steps - 1, total_steps - 1
    turns = [(torch.zeros_like(peak_at), first), (peak_at, max_lr)]
    if three_phase:
        turns.append((2 * pct_start * total_steps - 2, first))
    turns.append((end, first / final_div_factor))
    phases = [
        (until, _between(low, high, (epoch - since) / (until - since), anneal_strategy))
        for (since, low), (until, high) in itertools.pairwise(turns)
    ]
    rate = phases[-1][1]
    for until, phase in reversed(phases[:-1]):
        rate = torch.where(epoch <= until, phase, rate)
    return rate


def _between(start: Tensor, end: Tensor, part: Tensor, strategy: str) -> Tensor:
    if strategy == "linear":
        return start + (end - start) * part
    return end + (start - end) / 2 * (torch.cos(math.pi * part) + 1)


@closed_form()
def wsd(
    epoch: Tensor,
    lr: Tensor,
    *,
    num_stable_steps: Tensor,
    num_decay_steps: Tensor,
    min_lr_ratio: Tensor,
    num_cycles: Tensor,
    cooldown_type: str,
) -> Tensor:
    """Return `lr` for `num_stable_steps`, then a rate that falls over `num_decay_steps`, then `min_lr_ratio * lr`.

    `get_wsd_schedule` of pytorch_optimizer. As there, only the cosine falls to `min_lr_ratio`, the others fall to 0.

    Hu et al., "MiniCPM: unveiling the potential of small language models with scalable training strategies", 2024;
    the shapes from Haegele et al., "Scaling laws and compute-optimal training beyond fixed training durations", 2024.
    """
    part = (epoch - num_stable_steps) / num_decay_steps
    falling = _cooldown(part.clamp(0, 1), min_lr_ratio, num_cycles, cooldown_type)
    return lr * torch.where(part < 0, 1.0, torch.where(part < 1, falling, min_lr_ratio))


def _cooldown(part: Tensor, least: Tensor, cycles: Tensor, shape: str) -> Tensor:
    if shape == "cosine":
        return (1 - least) * ((1 + torch.cos(math.pi * cycles * 2 * part)) / 2).clamp(min=0) + least
    return 1 - {"1-sqrt": part.sqrt(), "linear": part, "1-square": part.square()}[shape]
