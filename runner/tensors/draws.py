"""The random numbers of a run, drawn from generators of its own, so that they do not depend on the other runs."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK_STEPS = 256
CHUNK_NUMBERS = 2**18
# How many keys of dropout there are.
KEYS = 2**62


def generator(seed: int, purpose: str) -> torch.Generator:
    """Return the generator of a seed for one purpose; those of different purposes are independent."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def uniform_start(seed: int, bounds: Sequence[tuple[float, float]]) -> Tensor:
    """Return a point `(dim,)` drawn uniformly within the bounds, in float64."""
    low, high = torch.tensor(bounds, dtype=torch.float64).T
    share = torch.rand(len(bounds), dtype=torch.float64, generator=generator(seed, "start"))
    start: Tensor = low + (high - low) * share
    return start


def _chunk_steps(dimension: int) -> int:
    return max(1, min(CHUNK_STEPS, CHUNK_NUMBERS // dimension))


def noise_numbers(dimension: int) -> int:
    """Return how many numbers the noise of a run takes at once: a chunk, and its copy among those of the batch."""
    return 2 * _chunk_steps(dimension) * dimension


@dataclass
class Noise:
    """Standard normal noise for the steps of some runs.

    It is drawn in chunks whose length depends on the dimension alone, so how many steps are taken at once changes
    no number.
    """

    seeds: Sequence[int]
    dimension: int
    dtype: torch.dtype
    purpose: str = "noise"

    def __post_init__(self) -> None:
        self._generators = [generator(seed, self.purpose) for seed in self.seeds]
        self._left = torch.empty((0, len(self.seeds), self.dimension), dtype=self.dtype)

    def take(self, steps: int) -> Tensor:
        """Return the noise of the next steps, `(steps, runs, dim)`."""
        parts = []
        while len(self._left) < steps:
            parts.append(self._left.clone())  # a view would keep its whole chunk while the next is drawn
            steps -= len(self._left)
            self._left = self._left[:0].clone()
            self._left = self._draw()
        parts.append(self._left[:steps])
        self._left = self._left[steps:]
        return torch.cat(parts)

    def _draw(self) -> Tensor:
        shape = (_chunk_steps(self.dimension), self.dimension)
        drawn = [torch.randn(shape, dtype=self.dtype, generator=one) for one in self._generators]
        return torch.stack(drawn, dim=1)


@dataclass
class MiniBatches:
    """The mini-batches of some runs: all samples once in a random order, then all in another, and so on.

    Attributes:
        seeds: of the runs.
        samples: how many there are.
        batch_size: how many a step sees.
        is_keyed: whether each step has a key too, for the dropout of a model.
    """

    seeds: Sequence[int]
    samples: int
    batch_size: int
    is_keyed: bool = False

    def __post_init__(self) -> None:
        self._keys = [generator(seed, "dropout") for seed in self.seeds] if self.is_keyed else []
        self._generators = [generator(seed, "order") for seed in self.seeds]
        self._left = [torch.empty(0, dtype=torch.int64) for _ in self.seeds]

    def take(self, steps: int) -> Tensor:
        """Return the indices of the samples of the next steps, `(steps, runs, batch_size)`, followed by their keys."""
        taken = [self._take(run, steps * self.batch_size) for run in range(len(self.seeds))]
        samples = torch.stack(taken).view(len(self.seeds), steps, self.batch_size).transpose(0, 1)
        if not self.is_keyed:
            return samples
        keys = [torch.randint(KEYS, (steps,), generator=one) for one in self._keys]
        return torch.cat([samples, torch.stack(keys, dim=1)[..., None]], dim=-1)

    def _take(self, run: int, count: int) -> Tensor:
        parts = [self._left[run]]
        missing = count - len(parts[0])
        while missing > 0:
            parts.append(torch.randperm(self.samples, generator=self._generators[run]))
            missing -= self.samples
        order = torch.cat(parts)
        self._left[run] = order[count:]
        return order[:count]
