"""The descent: steps of forward pass, backward pass and update, for all the runs of a batch at once."""

import itertools
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor

from runner.engine.inputs import Inputs, InputSource
from runner.optimizers import State
from runner.schedules import LossDrivenRates
from runner.schedules import State as ScheduleState
from runner.tensors.torch_private import gradient_of

BLOCK_SECONDS = 0.25
BLOCK_BYTES = 16 * 2**20
LONGEST_BLOCK = 16384
LONGEST_EAGER_BLOCK = 1024

BatchLoss: TypeAlias = Callable[[Tensor, Tensor | None], Tensor]
Update: TypeAlias = Callable[[Tensor, Tensor, State, Tensor], tuple[Tensor, State]]
Recorded: TypeAlias = Callable[[Tensor, State], Tensor]


class Carry(NamedTuple):
    """What a step takes over from the step before.

    Attributes:
        weight: `(rows, dim)`, where the gradient is taken.
        optimizer_state: what the update rule keeps.
        schedule_state: what a schedule that follows the losses keeps; nothing for the others.
    """

    weight: Tensor
    optimizer_state: State
    schedule_state: ScheduleState = ()


class Outputs(NamedTuple):
    """What a step computes; the outputs of several steps have one more dimension in front.

    Attributes:
        loss: `(rows,)`, before the update.
        gradient: `(rows, dim)`, before the update, with its noise, before clipping.
        weight: `(rows, dim)`, after the update.
        lr: `(rows, 1)`, the learning rates of the update, in float64.
        evaluations: `(rows,)`, how many forward and backward passes the step took; None for one each.
    """

    loss: Tensor
    gradient: Tensor
    weight: Tensor
    lr: Tensor
    evaluations: Tensor | None = None


@dataclass(frozen=True)
class AnyStep(ABC):
    """A step of all rows, `(carry, inputs) -> (carry, outputs)`, for any update.

    Attributes:
        loss: weights `(rows, dim)` and the step's samples, None for all, to losses `(rows,)`.
        ones: `(rows,)`, what the backward pass begins with.
        rates: the learning rates where they follow the losses; None where they are inputs.
        lr_dtype: of the learning rates that the update takes.
    """

    loss: BatchLoss
    ones: Tensor
    rates: LossDrivenRates | None
    lr_dtype: torch.dtype

    @abstractmethod
    def __call__(self, carry: Carry, inputs: Inputs) -> tuple[Carry, Outputs]:
        """Make the step."""

    def loss_and_gradient(
        self, weight: Tensor, samples: Tensor | None = None, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return losses `(rows,)` and gradients `(rows, dim)`: the forward pass, and the backward pass from zero."""
        point = weight.detach().requires_grad_()
        loss = self.loss(point, samples)
        gradient = gradient_of(loss, point, self.ones)
        return loss.detach(), gradient if noise is None else gradient + noise

    def learning_rates(self, carry: Carry, inputs: Inputs) -> Tensor:
        """Return the learning rates `(rows, 1)` of the step."""
        return inputs.schedule if self.rates is None else self.rates.rate(inputs.schedule, carry.schedule_state)

    def schedule_after(self, carry: Carry, inputs: Inputs, loss: Tensor) -> ScheduleState:
        """Return what the schedule keeps after the step, whose losses are `(rows,)`."""
        return () if self.rates is None else self.rates.after(inputs.schedule, loss, carry.schedule_state)


@dataclass(frozen=True)
class Step(AnyStep):
    """A step by one of the runner's update rules.

    It is a pure function of tensors that branches on no value, so torch can trace and compile it.

    Attributes:
        update: weights, gradients `(rows, dim)`, state and learning rates `(rows, 1)` to the next weights and state.
        recorded: weights and state to the weights `(rows, dim)` that are recorded, with the losses there, at the cost
            of a second forward pass; None for the weights where the gradient is taken.
    """

    update: Update
    recorded: Recorded | None = None

    def __call__(self, carry: Carry, inputs: Inputs) -> tuple[Carry, Outputs]:
        """Make the step."""
        rates = self.learning_rates(carry, inputs)
        loss, gradient = self.loss_and_gradient(carry.weight, inputs.samples, inputs.noise)
        lr = rates.to(self.lr_dtype) if inputs.lr is None else inputs.lr
        weight, state = self.update(carry.weight, gradient, carry.optimizer_state, lr)
        shown = weight
        if self.recorded is not None:
            with torch.no_grad():
                loss = self.loss(self.recorded(carry.weight, carry.optimizer_state), inputs.samples)
            shown = self.recorded(weight, state)
        return Carry(weight, state, self.schedule_after(carry, inputs, loss)), Outputs(loss, gradient, shown, rates)


@dataclass(frozen=True)
class Problem:
    """What a batch of runs does, in tensors.

    Attributes:
        step: one step of all rows.
        start: the weights `(rows, dim)` at the start, `rows` a multiple of ROWS, and the first states.
        inputs: of the steps.
        runs: how many of the rows are runs; the rest is padding.
        done: how many steps were made before the start, with more rows.
    """

    step: AnyStep
    start: Carry
    inputs: InputSource
    runs: int
    done: int = 0


@dataclass(frozen=True)
class Block:
    """Consecutive steps of all runs.

    Attributes:
        first: the number of the first step, 1 at the start.
        loss: `(steps, runs)`, before the update.
        gradient: `(steps, runs, dim)`, before the update.
        weight: `(steps, runs, dim)`, after the update.
        lr: `(steps, runs)`, the learning rate of the update.
        evaluations: `(steps, runs)`, of each step; None for one each.
    """

    first: int
    loss: Tensor
    gradient: Tensor
    weight: Tensor
    lr: Tensor
    evaluations: Tensor | None = None

    @property
    def last(self) -> int:
        """The number of the last step."""
        return self.first + len(self.loss) - 1

    @property
    def last_step(self) -> "Block":
        """The last step as a block of its own."""
        evaluations = None if self.evaluations is None else self.evaluations[-1:]
        return Block(self.last, self.loss[-1:], self.gradient[-1:], self.weight[-1:], self.lr[-1:], evaluations)

    def diverged_at(self, runs: Tensor | None = None) -> dict[int, int]:
        """Return the first step whose loss, gradient or weight is not finite, of each run that has such a step.

        `runs` `(runs,)` says which runs are of interest, None all.
        """
        # Sums tell runs whose numbers are all finite, in a fraction of the time of looking at each number; the sum of
        # large ones may be infinite.
        is_finite = self.loss.sum(0).isfinite()
        for values in (self.gradient, self.weight):
            is_finite &= values.sum(0).isfinite().all(-1)
        unclear = is_finite.logical_not_() if runs is None else is_finite.logical_not_() & runs
        if not bool(unclear.any()):
            return {}
        found = unclear.nonzero()[:, 0]
        finite = self.loss[:, found].isfinite()
        for values in (self.gradient, self.weight):
            finite &= values[:, found].isfinite().all(-1)
        # argmin of bytes returns the first of several minima.
        least, index = finite.to(torch.uint8).min(0)
        diverged = zip(found.tolist(), least.tolist(), index.tolist(), strict=True)
        return {run: self.first + at for run, is_none, at in diverged if not is_none}


class Engine(Protocol):
    """Makes the steps of a block, one after the other."""

    def __call__(self, problem: Problem, carry: Carry, most: int) -> tuple[Carry, Outputs]:
        """Make at most `most` steps, as many as fit a short time, and return the last carry and all outputs."""


def eager(problem: Problem, carry: Carry, most: int) -> tuple[Carry, Outputs]:
    """Make the steps by torch's own kernels, one call each."""
    most = min(most, LONGEST_EAGER_BLOCK)
    return made_eagerly(problem.step, carry, itertools.islice(problem.inputs, most), BLOCK_SECONDS)


def made_eagerly(
    step: AnyStep, carry: Carry, inputs: Iterable[Inputs], seconds: float = math.inf
) -> tuple[Carry, Outputs]:
    """Make steps by torch's own kernels until the inputs or the time are used up.

    The outputs are kept, not read, so that the loop never waits for the device.
    """
    made: list[Outputs] = []
    deadline = time.perf_counter() + seconds
    for each in inputs:
        carry, outputs = step(carry, each)
        made.append(outputs)
        if time.perf_counter() >= deadline:
            break
    return carry, _together(made)


def descend(
    problem: Problem, steps: int, longest: int, pauses: Sequence[int] = (), engine: Engine = eager
) -> Iterator[tuple[Block, Carry]]:
    """Make updates up to step `steps`, and yield them in blocks of at most `longest`, each a short time long.

    A block also ends at each step of `pauses`, which are in order. With a block comes what the next step takes over.
    """
    carry = problem.start
    done, longest = problem.done, min(longest, block_length(carry.weight))
    while done < steps:
        # Blocks also end at multiples of `longest`, so that a slow machine shows the same steps as a fast one.
        end = min((steps, done + longest - done % longest, *(pause for pause in pauses if pause > done)))
        carry, outputs = engine(problem, carry, end - done)
        yield _block(done + 1, outputs, problem.runs), carry
        done += len(outputs.loss)


def _together(made: Sequence[Outputs]) -> Outputs:
    """Return the outputs of steps as those of a block."""
    loss, gradient, weight, lr, evaluations = zip(*made, strict=True)
    is_constant = all(rate is lr[0] for rate in lr)
    return Outputs(
        _stacked(loss),
        _stacked(gradient),
        _stacked(weight),
        lr[0].expand(len(lr), -1, -1) if is_constant else _stacked(lr),
        None if evaluations[0] is None else _stacked(evaluations),
    )


def _stacked(steps: Sequence[Tensor]) -> Tensor:
    """Return the values of steps as one tensor, without a copy of the only step of a block of large weights."""
    return steps[0][None] if len(steps) == 1 else torch.stack(tuple(steps))


def _block(first: int, outputs: Outputs, runs: int) -> Block:
    loss, gradient, weight, lr, evaluations = outputs
    return Block(
        first,
        loss[:, :runs],
        gradient[:, :runs],
        weight[:, :runs],
        lr[:, :runs, 0],
        None if evaluations is None else evaluations[:, :runs],
    )


def block_length(weight: Tensor) -> int:
    """Return how many steps of such weights a block may hold."""
    bytes_a_step = (2 * weight.numel() + len(weight)) * weight.element_size()
    return max(1, min(LONGEST_BLOCK, BLOCK_BYTES // bytes_a_step))
