"""The names and shapes of parameters that lie side by side in one weight vector."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Shapes:
    """The parameters of a weight, in their order.

    Attributes:
        named: name and shape of each.
    """

    named: tuple[tuple[str, Shape], ...]

    def __str__(self) -> str:
        """Return the names and shapes as text, as in `weight (32, 64), bias (32,)`."""
        return ", ".join(f"{name} {shape}" for name, shape in self.named)

    @classmethod
    def of_vector(cls, dimension: int) -> Self:
        """Return the single parameter `w` of shape `(dimension,)`."""
        return cls((("w", (dimension,)),))

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Return the names and shapes of the tensors."""
        return cls(tuple((name, tuple(tensor.shape)) for name, tensor in tensors.items()))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names."""
        return tuple(name for name, _ in self.named)

    @cached_property
    def sizes(self) -> list[int]:
        """How many numbers each parameter has."""
        return [math.prod(shape) for _, shape in self.named]

    @property
    def dimension(self) -> int:
        """How many numbers all parameters have."""
        return sum(self.sizes)

    @property
    def is_one_vector(self) -> bool:
        """Whether there is a single parameter, of one dimension."""
        return len(self.named) == 1 and len(self.named[0][1]) == 1

    @property
    def largest(self) -> int:
        """The largest number of dimensions of a parameter."""
        return max(len(shape) for _, shape in self.named)

    @property
    def vectors(self) -> "Shapes":
        """The same parameters, each as a vector."""
        return Shapes(tuple((name, (size,)) for name, size in zip(self.names, self.sizes, strict=True)))

    def views(self, weight: Tensor) -> list[Tensor]:
        """Return views `(..., *shape)` of each parameter of weights `(..., dim)`."""
        parts = zip(self.named, weight.split(self.sizes, dim=-1), strict=True)
        return [part if len(shape) == 1 else part.reshape((*part.shape[:-1], *shape)) for (_, shape), part in parts]

    def by_name(self, weight: Tensor) -> dict[str, Tensor]:
        """Return views `(..., *shape)` of each parameter of weights `(..., dim)`, by name."""
        return dict(zip(self.names, self.views(weight), strict=True))

    def joined(self, parameters: Iterable[Tensor]) -> Tensor:
        """Return weights `(..., dim)` of parameters `(..., *shape)`."""
        parts = zip(self.named, parameters, strict=True)
        return torch.cat([flattened(part, part.dim() - len(shape)) for (_, shape), part in parts], dim=-1)


def flattened(values: Tensor, kept: int) -> Tensor:
    """Return values with all dimensions after the first `kept` as one."""
    return values.reshape(*values.shape[:kept], -1)
