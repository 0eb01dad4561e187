"""Gradient clipping, row by row, equal to that of `torch.nn.utils`."""

import torch
from torch import Tensor

from runner.tensors.norms import scale_of

# Scaling by a power of two is exact; this one is small enough that a norm of finite components does not overflow.
ROOM = 2.0**-12


def clip_by_value(gradient: Tensor, limit: Tensor) -> Tensor:
    """Return gradients `(rows, dim)` with each component within `-limit` to `limit`, `(rows, 1)`."""
    bound = limit.to(gradient.dtype)
    return torch.clamp(gradient, -bound, bound)


def clip_by_norm(gradient: Tensor, limit: Tensor) -> Tensor:
    """Return gradients `(rows, dim)` scaled down to norms of at most `limit`, `(rows, 1)`.

    Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks", 2013.
    """
    scale = scale_of(gradient)
    norm = torch.linalg.vector_norm(gradient / scale, dim=-1, keepdim=True)
    # torch computes a number divided by a tensor as the number times the reciprocal, which rounds twice.
    share = (norm * (scale * ROOM) + 1e-6 * ROOM).reciprocal() * (limit.to(gradient.dtype) * ROOM)
    return gradient * torch.clamp(share, max=1.0)
