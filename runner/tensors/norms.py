"""Euclidean norms without overflow and underflow of the squares."""

import torch
from torch import Tensor

from runner.tensors.rows import GRAIN

# For each dtype, the integer type of its size, and the mask of the exponent's bits.
EXPONENT = {torch.float32: (torch.int32, 0x7F800000), torch.float64: (torch.int64, 0x7FF0000000000000)}


def scale_of(vectors: Tensor) -> Tensor:
    """Return, for vectors `(..., dim)`, the largest power of two `(..., 1)` up to the size of their largest component.

    Dividing and multiplying by it is exact, and the squares of the scaled components neither overflow nor underflow.
    """
    limits, (whole, exponent) = torch.finfo(vectors.dtype), EXPONENT[vectors.dtype]
    largest = vectors.detach().abs().amax(-1, keepdim=True)
    return (largest.clamp(limits.tiny, limits.max).view(whole) & exponent).view(vectors.dtype)


def norm(vectors: Tensor) -> Tensor:
    """Return the norms `(..., 1)` of vectors `(..., dim)`, equal to torch's to the bit unless torch's overflow."""
    scale = scale_of(vectors)
    length: Tensor = torch.linalg.vector_norm(vectors / scale, dim=-1, keepdim=True)
    return scale * length


def exact_norm(vectors: Tensor) -> Tensor:
    """Return the norms `(..., 1)` of vectors `(..., dim)` in float64."""
    if vectors.dtype == torch.float64:
        return norm(vectors)
    length: Tensor = torch.linalg.vector_norm(vectors.to(torch.float64), dim=-1, keepdim=True)
    return length


def row_sums(values: Tensor) -> Tensor:
    """Return the sums `(rows, 1)` of values `(rows, dim)`, each in an order that does not depend on the other rows."""
    if values.shape[-1] < GRAIN:
        return values.sum(-1, keepdim=True)
    # Threads share the sum of a single long row, but not those of several.
    return torch.stack([row.sum(-1, keepdim=True) for row in values.unbind(0)])


def dot(one: Tensor, other: Tensor) -> Tensor:
    """Return the products `(rows, 1)` of vectors `(rows, dim)` with others."""
    return row_sums(one * other)


def size(vectors: Tensor) -> Tensor:
    """Return the sums `(rows, 1)` of the absolute values of vectors `(rows, dim)`."""
    return row_sums(vectors.abs())
