"""Dropout drawn from a run's own key, equal for a run alone and in a batch.

Each number is a hash of the key, of which dropout of the model it is, and of its place. The hash is the finalizer of
MurmurHash3 (Appleby, 2008), applied twice.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

HALF = 31  # bits of a key in each round
WITHIN = 2**HALF - 1
PLACE, DROPOUT = 0x1E3779B1, 0x3C6EF372
FIRST, SECOND = -2048144789, -1028477387
VALUES = 2**32


def _mixed(bits: Tensor) -> Tensor:
    """Return int32 numbers with their bits mixed."""
    bits = (bits ^ (bits >> 16 & 0xFFFF)) * FIRST
    bits = (bits ^ (bits >> 13 & 0x7FFFF)) * SECOND
    return bits ^ (bits >> 16 & 0xFFFF)


@dataclass
class Dropout:
    """The dropout of one pass of a model, in place of the functions of `torch.nn.functional`.

    Attributes:
        key: `()`, a whole number of at least 0 and below 2**62.
        calls: how many times numbers were drawn.
    """

    key: Tensor
    calls: int = 0

    def __post_init__(self) -> None:
        self._low = (self.key & WITHIN).to(torch.int32)
        self._high = (self.key >> HALF).to(torch.int32)

    def kept(self, shape: tuple[int, ...], p: float) -> Tensor:
        """Return which numbers of that shape are kept, if each is dropped with probability `p`."""
        self.calls += 1
        places = torch.arange(math.prod(shape), dtype=torch.int32, device=self.key.device)
        bits = _mixed(_mixed(places * PLACE + self._low) ^ (self._high + self.calls * DROPOUT % WITHIN))
        return (bits >= math.ceil(p * VALUES) - VALUES // 2).reshape(shape)

    def of_elements(self, values: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        """Return `values` with each number dropped with probability `p`, as `torch.nn.functional.dropout` does."""
        del inplace  # the sum of gradients is the same
        return self._dropped(values, tuple(values.shape), p) if training and p > 0 else values

    def of_channels(self, dimensions: int) -> Callable[..., Tensor]:
        """Return `torch.nn.functional.dropout1d`, `dropout2d` or `dropout3d`, which drop whole channels."""

        def dropped(values: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
            del inplace
            channels = values.shape[: values.dim() - dimensions]
            return self._dropped(values, (*channels, *[1] * dimensions), p) if training and p > 0 else values

        return dropped

    def _dropped(self, values: Tensor, shape: tuple[int, ...], p: float) -> Tensor:
        if p >= 1:
            return values * 0
        return values * (self.kept(shape, p).to(values.dtype) / (1 - p))


def attention_with(dropout: Dropout | None) -> Callable[..., Tensor]:
    """Return what replaces `torch.nn.functional.scaled_dot_product_attention`, whose kernels cannot be batched."""

    def attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if enable_gqa:
            key, value = (one.repeat_interleave(query.shape[-3] // one.shape[-3], -3) for one in (key, value))
        scores = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
        if is_causal:
            attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        if attn_mask is not None:
            is_choice = attn_mask.dtype == torch.bool
            scores = scores.masked_fill(~attn_mask, -math.inf) if is_choice else scores + attn_mask
        weights = scores.softmax(-1)
        if dropout_p > 0:
            weights = (
                functional.dropout(weights, dropout_p) if dropout is None else dropout.of_elements(weights, dropout_p)
            )
        return weights @ value

    return attention
