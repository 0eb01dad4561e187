"""The best step so far of each run of a batch."""

import copy
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from runner.config.direction import Direction
from runner.engine.descent import Block

# The best of so many steps is found in one pass by vector instructions, which do not tell at which step it is.
GROUP = 8


@dataclass(frozen=True)
class Best:
    """The step of a run whose loss was best.

    Attributes:
        step: its number.
        loss: of its forward pass.
        weight: `(dim,)`, the input of that forward pass: the weight before the step's update.
    """

    step: int
    loss: float
    weight: Tensor


class BestSoFar:
    """The best step so far of each run; of equal losses, the first.

    Attributes:
        step: `(runs,)`, 0 where no loss was finite yet.
        loss: `(runs,)`.
        weight: `(runs, dim)`.
    """

    def __init__(self, start: Tensor, direction: Direction) -> None:
        """Begin at the weights `(runs, dim)` before the first step."""
        self._direction = direction
        self.step = torch.zeros(len(start), dtype=torch.int64, device=start.device)
        self.loss = torch.full_like(start[:, 0], direction.worst)
        self.weight = start.clone()

    def update(self, before: Tensor, block: Block, lasts: Tensor | None) -> None:
        """Take a block of steps into account.

        Args:
            before: the weights `(runs, dim)` before the block.
            block: the steps.
            lasts: `(runs,)`, the last step of each run; None if all runs make all steps of the block.
        """
        best, index = _first_best(block.loss, self._direction)
        # NaN and infinite losses are the best of no run.
        unclear = best.isfinite().logical_not_()
        if lasts is not None:
            unclear = (unclear | (lasts < block.last)) & (lasts >= block.first)
            best.masked_fill_(lasts < block.first, self._direction.worst)
        if bool(unclear.any()):
            runs = unclear.nonzero()[:, 0]
            numbers = torch.arange(block.first, block.last + 1, device=runs.device)[:, None]
            loss = block.loss[:, runs]
            is_valid = loss.isfinite() if lasts is None else loss.isfinite() & (numbers <= lasts[runs])
            best[runs], index[runs] = _first_best(loss.where(is_valid, self._direction.worst), self._direction)
        is_better = best < self.loss if self._direction is Direction.DOWN else best > self.loss
        if not bool(is_better.any()):
            return
        earlier = block.weight.gather(0, (index - 1).clamp_(min=0)[None, :, None].expand(1, *before.shape))[0]
        weight = torch.where((index == 0)[:, None], before, earlier)
        self.weight = torch.where(is_better[:, None], weight, self.weight)
        self.loss = torch.where(is_better, best, self.loss)
        self.step = torch.where(is_better, index + block.first, self.step)

    def of_runs(self, runs: Tensor) -> Self:
        """Return the best steps of some runs."""
        found = copy.copy(self)
        found.step, found.loss, found.weight = self.step[runs], self.loss[runs], self.weight[runs]
        return found

    def of(self, run: int) -> Best | None:
        """Return a run's best step, or None where it has none."""
        step = int(self.step[run])
        return Best(step, float(self.loss[run]), self.weight[run].clone()) if step > 0 else None


def _first_best(loss: Tensor, direction: Direction) -> tuple[Tensor, Tensor]:
    """Return the best of the losses `(steps, runs)` of each run, and the index of the first step that has it.

    The best is NaN where a loss is.
    """
    steps, runs = loss.shape
    reduced, with_index = (torch.amin, torch.min) if direction is Direction.DOWN else (torch.amax, torch.max)
    if steps < 2 * GROUP or runs < GROUP:
        best, index = with_index(loss, 0)
        return best, index
    whole = steps - steps % GROUP
    groups = reduced(loss[:whole].unflatten(0, (-1, GROUP)), 1)
    if whole < steps:
        groups = torch.cat([groups, reduced(loss[whole:], 0)[None]])
    group = with_index(groups, 0)[1]
    rows = torch.arange(GROUP, device=loss.device)[:, None] + group * GROUP
    rows.clamp_(max=steps - 1)  # the last step again where the last group is shorter
    best, at = with_index(loss.gather(0, rows), 0)
    return best, group * GROUP + at
