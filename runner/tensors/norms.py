"""Euclidean norms that are finite and above 0 where their value is, however large or small the components are."""

import torch
from torch import Tensor

# Of each dtype, the integers of its size and where in them the exponent is.
EXPONENT = {torch.float32: (torch.int32, 0x7F800000), torch.float64: (torch.int64, 0x7FF0000000000000)}


def scale_of(vectors: Tensor) -> Tensor:
    """Return, for vectors `(..., dim)`, the power of two `(..., 1)` next below their largest component.

    What is divided by it, and multiplied again, keeps its bits; the squares in between neither overflow nor vanish.
    """
    limits, (whole, exponent) = torch.finfo(vectors.dtype), EXPONENT[vectors.dtype]
    largest = vectors.detach().abs().amax(-1, keepdim=True)
    return (largest.clamp(limits.tiny, limits.max).view(whole) & exponent).view(vectors.dtype)


def norm(vectors: Tensor) -> Tensor:
    """Return the norms `(..., 1)` of vectors `(..., dim)`, to the bit those of torch where these can be had."""
    scale = scale_of(vectors)
    length: Tensor = torch.linalg.vector_norm(vectors / scale, dim=-1, keepdim=True)
    return scale * length


def exact_norm(vectors: Tensor) -> Tensor:
    """Return the norms `(..., 1)` of vectors `(..., dim)` in float64."""
    if vectors.dtype == torch.float64:
        return norm(vectors)
    length: Tensor = torch.linalg.vector_norm(vectors.to(torch.float64), dim=-1, keepdim=True)
    return length
