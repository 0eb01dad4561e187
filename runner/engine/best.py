"""The best step so far of each run of a batch."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from runner.config.direction import Direction
from runner.engine.descent import Block, are_finite


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
        self._sign = 1.0 if direction is Direction.DOWN else -1.0
        self._before = start
        self.step = torch.zeros(len(start), dtype=torch.int64, device=start.device)
        self.loss = torch.full_like(start[:, 0], direction.worst)
        self.weight = start.clone()

    def update(self, block: Block, lasts: Sequence[int]) -> None:
        """Take a block's steps into account, each run's up to its last step in `lasts`."""
        value = block.loss if self._sign > 0 else -block.loss
        if min(lasts) < block.last or not are_finite(block.loss):
            numbers = torch.arange(block.first, block.last + 1, device=block.loss.device)[:, None]
            is_made = numbers <= torch.tensor(lasts, device=block.loss.device)
            value = torch.where(is_made & block.loss.isfinite(), value, torch.inf)
        lowest, index = value.min(0)
        runs = (lowest < self._sign * self.loss).nonzero()[:, 0]
        if len(runs) > 0:
            at = index[runs]
            earlier = block.weight[(at - 1).clamp(min=0), runs]
            self.weight[runs] = torch.where(at[:, None] == 0, self._before[runs], earlier)
            self.loss[runs] = block.loss[at, runs]
            self.step[runs] = at + block.first
        self._before = block.weight[-1]

    def of_runs(self, runs: Tensor) -> Self:
        """Return the best steps of some runs."""
        found = copy.copy(self)
        found._before = self._before[runs]
        found.step, found.loss, found.weight = self.step[runs], self.loss[runs], self.weight[runs]
        return found

    def of(self, run: int) -> Best | None:
        """Return a run's best step, or None where it has none."""
        step = int(self.step[run])
        return Best(step, float(self.loss[run]), self.weight[run].clone()) if step > 0 else None
