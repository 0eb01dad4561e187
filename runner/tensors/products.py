"""Products of numbers, with a derivative that is the same whether the operations are recorded or not."""

from typing import Any

import torch
from torch import Tensor

from runner.tensors.tracing import is_traced


class _Product(torch.autograd.Function):
    """The product, and its derivative as torch computes it where no number is 0.

    While operations are recorded, torch cannot ask whether one is 0, and computes the derivative in another way.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        found = values.prod(-1)
        ctx.save_for_backward(values, found)
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        values, found = ctx.saved_tensors
        others: Tensor = found[..., None] / values
        return gradient[..., None] * others


def product(values: Tensor) -> Tensor:
    """Return the products `(...)` of values `(..., dim)` of which none is 0."""
    if is_traced():
        found: Tensor = _Product.apply(values)  # type: ignore[no-untyped-call]
        return found
    return values.prod(-1)
