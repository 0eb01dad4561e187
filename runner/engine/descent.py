"""The descent: forward, backward, update, record, for all the runs of a batch at once."""

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from runner.optimizers import State

BLOCK_SECONDS = 0.25
BLOCK_BYTES = 16 * 2**20
LONGEST_BLOCK = 1024

Sample = Tensor | None
Loss = Callable[[Tensor, Sample], Tensor]
Update = Callable[[Tensor, Tensor, State, Tensor], tuple[Tensor, State]]
Rate = Callable[[int, Tensor | None], Tensor]


def no_draw(_step: int) -> None:
    """Return nothing: nothing is random in any step."""


@dataclass(frozen=True)
class Problem:
    """What a batch of runs does, in tensors.

    Attributes:
        loss: weights `(rows, dim)`, and the samples of the step, to losses `(rows,)`.
        update: weights, gradients `(rows, dim)`, state and learning rates to the next weights and state.
        rate: a step and the losses of the one before to the learning rates `(rows, 1)`.
        weight: where to start, `(rows, dim)`, `rows` a multiple of ROWS.
        state: what the update rule keeps, at the start.
        runs: how many of the rows are runs; the rest is padding.
        sample: the samples `(rows, batch_size)` that a step sees, None for all of them.
        noise: what is added to the gradient `(rows, dim)` in a step; None for nothing.
    """

    loss: Loss
    update: Update
    rate: Rate
    weight: Tensor
    state: State
    runs: int
    sample: Callable[[int], Sample] = no_draw
    noise: Callable[[int], Tensor | None] = no_draw


@dataclass(frozen=True)
class Block:
    """Consecutive steps of all runs.

    Attributes:
        first: the number of the first step, 1 at the start.
        loss: `(steps, runs)`, of the forward pass of each step.
        gradient: `(steps, runs, dim)`, of the same pass.
        weight: `(steps, runs, dim)`, after the update.
        lr: `(steps, runs)`, the learning rate of the update.
    """

    first: int
    loss: Tensor
    gradient: Tensor
    weight: Tensor
    lr: Tensor

    @property
    def last(self) -> int:
        """The number of the last step."""
        return self.first + len(self.loss) - 1

    def diverged_at(self) -> dict[int, int]:
        """Return the first step whose loss, gradient or weight is not finite, of each run that has such a step."""
        finite = self.loss.isfinite() & self.gradient.isfinite().all(-1) & self.weight.isfinite().all(-1)
        if bool(finite.all()):
            return {}
        runs = finite.all(0).logical_not().nonzero()[:, 0]
        # What is true first is where the largest of bytes is found first.
        index = finite[:, runs].logical_not().to(torch.uint8).argmax(0)
        return {run: self.first + at for run, at in zip(runs.tolist(), index.tolist(), strict=True)}


@dataclass
class _Trace:
    """The steps of a block while they are made; tensors are kept, not read, so the device never waits."""

    loss: list[Tensor] = field(default_factory=list)
    gradient: list[Tensor] = field(default_factory=list)
    weight: list[Tensor] = field(default_factory=list)
    lr: list[Tensor] = field(default_factory=list)

    def append(self, loss: Tensor, gradient: Tensor, weight: Tensor, lr: Tensor) -> None:
        self.loss.append(loss)
        self.gradient.append(gradient)
        self.weight.append(weight)
        self.lr.append(lr)

    def block(self, first: int, runs: int) -> Block:
        return Block(
            first,
            torch.stack(self.loss)[:, :runs],
            torch.stack(self.gradient)[:, :runs],
            torch.stack(self.weight)[:, :runs],
            _stacked(self.lr)[:, :runs, 0],
        )


def _stacked(rates: list[Tensor]) -> Tensor:
    first = rates[0]
    return first.expand(len(rates), -1, -1) if all(rate is first for rate in rates) else torch.stack(rates)


def descend(problem: Problem, steps: int, longest: int) -> Iterator[Block]:
    """Make `steps` updates and yield them in blocks of at most `longest`, each a short time long."""
    weight, state = problem.weight, problem.state
    step, longest = 0, min(longest, block_length(weight))
    loss: Tensor | None = None
    while step < steps:
        trace, first, deadline = _Trace(), step + 1, time.perf_counter() + BLOCK_SECONDS
        # At a multiple of the longest, so that a slow machine shows the same steps as a fast one, and some besides.
        last = min(steps, step - step % longest + longest)
        while step < last and time.perf_counter() < deadline:
            step += 1
            lr = problem.rate(step, loss)
            sample, noise = problem.sample(step), problem.noise(step)
            loss, gradient = noisy_loss_and_gradient(problem.loss, weight, sample, noise)
            weight, state = problem.update(weight, gradient, state, lr)
            trace.append(loss, gradient, weight, lr)
        yield trace.block(first, problem.runs)


def loss_and_gradient(loss_of: Loss, weight: Tensor, sample: Sample = None) -> tuple[Tensor, Tensor]:
    """Return losses `(rows,)` and gradients `(rows, dim)`: the forward pass, and the backward one from zero."""
    point = weight.detach().requires_grad_()
    loss = loss_of(point, sample)
    (gradient,) = torch.autograd.grad(loss, point, _ones(loss.shape, loss.dtype, loss.device))
    return loss.detach(), gradient


@functools.lru_cache(maxsize=1)
def _ones(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return what the backward pass begins with, which is the same in each step; nobody may write to it."""
    return torch.ones(shape, dtype=dtype, device=device)


def noisy_loss_and_gradient(
    loss_of: Loss, weight: Tensor, sample: Sample, noise: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return losses `(rows,)` and gradients `(rows, dim)` with what a step adds to these."""
    loss, gradient = loss_and_gradient(loss_of, weight, sample)
    return loss, gradient if noise is None else gradient + noise


def block_length(weight: Tensor) -> int:
    """Return how many steps of such weights a block may hold."""
    bytes_a_step = (2 * weight.numel() + len(weight)) * weight.element_size()
    return max(1, min(LONGEST_BLOCK, BLOCK_BYTES // bytes_a_step))
