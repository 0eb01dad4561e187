"""Gradient clipping, row by row, as `torch.nn.utils` clips."""

import torch
from torch import Tensor

from runner.tensors.norms import scale_of

# A power of two, so that no bit changes, and so small that a norm of finite components is finite times it.
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
    # A number over a tensor is to torch the number times the reciprocal, which rounds twice.
    share = (norm * (scale * ROOM) + 1e-6 * ROOM).reciprocal() * (limit.to(gradient.dtype) * ROOM)
    return gradient * torch.clamp(share, max=1.0)
