"""What the steps of a batch are given from outside: learning rates, noise and samples, made some steps at a time."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from runner.schedules import PlannedRates, Rates
from runner.tensors.draws import MiniBatches, Noise
from runner.tensors.rows import GRAIN, padded, padded_length

BLOCK_STEPS = 128
REPEATED_STEPS = 2**16  # inputs that are all alike take no memory
BLOCK_BYTES = 4 * 2**20


class Inputs(NamedTuple):
    """The inputs of a step; those of several steps have one more dimension in front.

    Attributes:
        schedule: the learning rates `(rows, 1)` in float64; where they follow the losses, the step's number `(1, 1)`.
        lr: the learning rates `(rows, 1)` as the update takes them; None where they follow the losses.
        noise: `(rows, dim)`, added to the gradient; None for nothing.
        samples: `(rows, batch_size)`, the indices of the samples that each row sees; None for all samples.
        probe: `(rows, dim)`, random vectors; None where the update rule needs none.
    """

    schedule: Tensor
    lr: Tensor | None = None
    noise: Tensor | None = None
    samples: Tensor | None = None
    probe: Tensor | None = None


@dataclass
class InputSource:
    """Makes the inputs of one step after the other, a block of steps at a time.

    Attributes:
        rates: of the runs.
        weight: the weights `(rows, dim)` at the start, which give the shape, dtype and device.
        lr_dtype: of the learning rates that the update takes.
        noise: of the runs, scaled by `noise_scale` `(rows, 1)`.
        batches: the mini-batches of the runs.
        probes: random vectors for the update rule.
    """

    rates: Rates
    weight: Tensor
    lr_dtype: torch.dtype = torch.float64
    noise: Noise | None = None
    noise_scale: Tensor | None = None
    batches: MiniBatches | None = None
    probes: Noise | None = None

    def __post_init__(self) -> None:
        self._next = 1
        self._made: Inputs | None = None  # those of the steps up to `_next`
        self._left = 0  # how many of these steps are to come

    def __iter__(self) -> Iterator[Inputs]:
        """Yield the inputs of each step to come, without end."""
        while True:
            for each in steps_of(self._to_come()):
                self._left -= 1
                yield each

    def take(self, most: int) -> Inputs:
        """Return the inputs of the next steps, at most `most` and at least one, `steps` in front of each shape."""
        found = _sliced(self._to_come(), 0, most)
        self._left -= len(found.schedule)
        return found

    def peek(self) -> Inputs:
        """Return the inputs of the next step, 1 in front of each shape, and leave them for the steps to come."""
        return _sliced(self._to_come(), 0, 1)

    def _to_come(self) -> Inputs:
        """Return the inputs of the next steps, made before or now."""
        if self._made is None or self._left == 0:
            self._left = self._steps_at_once
            self._made = self.block(self._left)
        return _sliced(self._made, len(self._made.schedule) - self._left, len(self._made.schedule))

    def block(self, count: int) -> Inputs:
        """Return the inputs of the next `count` steps, `count` in front of each shape."""
        first, self._next = self._next, self._next + count
        schedule = self.rates.inputs(first, count)
        lr = _cast(schedule, self.lr_dtype) if isinstance(self.rates, PlannedRates) else None
        noise = None if self.noise is None else self._for_rows(self.noise.take(count))
        if noise is not None and self.noise_scale is not None:
            noise = self.noise_scale * noise
        samples = None if self.batches is None else self._for_rows(self.batches.take(count))
        probe = None if self.probes is None else self._for_rows(self.probes.take(count))
        return Inputs(schedule, lr, noise, samples, probe)

    def skip(self, steps: int) -> None:
        """Leave out the inputs of the next steps."""
        for first in range(0, steps, BLOCK_STEPS):
            self.block(min(BLOCK_STEPS, steps - first))

    def _for_rows(self, drawn: Tensor) -> Tensor:
        """Return numbers drawn for the runs, `(steps, runs, n)`, for all rows; padding repeats the first run's."""
        rows = padded(torch.arange(drawn.shape[1]), len(self.weight))
        return drawn[:, rows].to(self.weight.device)

    @property
    def _steps_at_once(self) -> int:
        if not self.rates.vary and self.noise is None and self.probes is None and self.batches is None:
            return REPEATED_STEPS
        # At most GRAIN rates, because torch splits more of them among threads, which changes how powers round.
        most = min(BLOCK_STEPS, GRAIN // padded_length(len(self.weight)))
        most = most if self.rates.vary else BLOCK_STEPS
        numbers = 0 if self.noise is None else self.weight.shape[-1]
        numbers += 0 if self.probes is None else self.weight.shape[-1]
        numbers += 0 if self.batches is None else self.batches.batch_size
        bytes_a_step = 8 * len(self.weight) * numbers
        return max(1, min(most, BLOCK_BYTES // bytes_a_step if bytes_a_step else most))


def _sliced(block: Inputs, first: int, after: int) -> Inputs:
    schedule, *others = block
    return Inputs(schedule[first:after], *[None if values is None else values[first:after] for values in others])


def steps_of(block: Inputs) -> Iterator[Inputs]:
    """Return the inputs of each step of a block; the same tensor object for each step if all are alike."""
    if all(values is None or _is_repeated(values) for values in block):
        return itertools.repeat(next(map(Inputs, *map(_parts, block))), len(block.schedule))
    return map(Inputs, *map(_parts, block))


def _parts(values: Tensor | None) -> Iterable[Any]:
    if values is None:
        return itertools.repeat(None)
    return itertools.repeat(values[0], len(values)) if _is_repeated(values) else values.unbind(0)


def _is_repeated(values: Tensor) -> bool:
    """Return whether all steps share the same numbers in memory, such as a constant learning rate."""
    return values.stride(0) == 0


def _cast(values: Tensor, dtype: torch.dtype) -> Tensor:
    return values[0].to(dtype).expand(values.shape) if _is_repeated(values) else values.to(dtype)
