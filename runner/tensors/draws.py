"""What is random in a run, drawn from generators of its own, so that no neighbour in a batch changes it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

CHUNK_STEPS = 256
CHUNK_NUMBERS = 2**18


def generator(seed: int, purpose: str) -> torch.Generator:
    """Return the run's generator for one purpose; different purposes draw independently."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def uniform_start(seed: int, bounds: Sequence[tuple[float, float]]) -> Tensor:
    """Return a point `(dim,)` drawn evenly within the bounds, in float64."""
    low, high = torch.tensor(bounds, dtype=torch.float64).T
    share = torch.rand(len(bounds), dtype=torch.float64, generator=generator(seed, "start"))
    start: Tensor = low + (high - low) * share
    return start


def _chunk_steps(dimension: int) -> int:
    return max(1, min(CHUNK_STEPS, CHUNK_NUMBERS // dimension))


def noise_numbers(dimension: int) -> int:
    """Return how many numbers the noise of a run keeps at once: a chunk as drawn, and beside its neighbours'."""
    return 2 * _chunk_steps(dimension) * dimension


@dataclass
class Noise:
    """Standard normal noise for every step of some runs.

    Drawn in chunks whose length depends on the dimension alone: how a block of steps ends cannot change it.
    """

    seeds: Sequence[int]
    dimension: int
    dtype: torch.dtype
    _chunk: Tensor = field(init=False, repr=False)
    _number: int = field(init=False, default=-1)

    def __post_init__(self) -> None:
        self._generators = [generator(seed, "noise") for seed in self.seeds]
        self._length = _chunk_steps(self.dimension)

    def at(self, step: int) -> Tensor:
        """Return the noise `(runs, dim)` of a step, 1-based; steps are asked for in order."""
        number, offset = divmod(step - 1, self._length)
        while self._number < number:
            shape = (self._length, self.dimension)
            drawn = [torch.randn(shape, dtype=self.dtype, generator=one) for one in self._generators]
            self._chunk = torch.stack(drawn, dim=1)
            self._number += 1
        return self._chunk[offset]


@dataclass
class MiniBatches:
    """Which samples each step of some runs sees: all of them once in a random order, then in another, on and on."""

    seeds: Sequence[int]
    samples: int
    batch_size: int

    def __post_init__(self) -> None:
        self._generators = [generator(seed, "order") for seed in self.seeds]
        self._orders = [torch.empty(0, dtype=torch.int64) for _ in self.seeds]
        self._step = 0

    def at(self, step: int) -> Tensor:
        """Return the samples' indices `(runs, batch_size)` of a step, 1-based; steps are asked for in order."""
        while self._step < step:
            self._current = torch.stack([self._take(run) for run in range(len(self.seeds))])
            self._step += 1
        return self._current

    def _take(self, run: int) -> Tensor:
        while len(self._orders[run]) < self.batch_size:
            epoch = torch.randperm(self.samples, generator=self._generators[run])
            self._orders[run] = torch.cat([self._orders[run], epoch])
        order = self._orders[run]
        self._orders[run] = order[self.batch_size :]
        return order[: self.batch_size]
