"""Gradient clipping, row by row, as `torch.nn.utils` clips."""

import torch
from torch import Tensor


def clip_by_value(gradient: Tensor, limit: Tensor) -> Tensor:
    """Return gradients `(rows, dim)` with each component within `-limit` to `limit`, `(rows, 1)`."""
    bound = limit.to(gradient.dtype)
    return torch.clamp(gradient, -bound, bound)


def clip_by_norm(gradient: Tensor, limit: Tensor) -> Tensor:
    """Return gradients `(rows, dim)` scaled down to norms of at most `limit`, `(rows, 1)`.

    Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks", 2013.
    """
    norm = torch.linalg.vector_norm(gradient, dim=-1, keepdim=True)
    # A number over a tensor is to torch the number times the reciprocal, which rounds twice.
    return gradient * torch.clamp((norm + 1e-6).reciprocal() * limit.to(gradient.dtype), max=1.0)
