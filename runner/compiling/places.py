"""Which numbers of a tensor torch's kernels take together, in vectors, and which alone.

A kernel goes through the dimensions in the order of their strides, those that lie one after the other joined to one.
Along the first it takes two vectors at once, if the operands lie there one number after the other, all but one that
may be the same for all. The last few numbers, too few for two vectors, it takes alone; so it does all of them if the
operands lie otherwise. Some functions round differently there.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from runner.tensors.rows import GRAIN

Places = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass
class _Dimension:
    size: int
    strides: tuple[int, ...]


def taken_together(operands: Sequence[Tensor], dtype: torch.dtype, vector_bytes: int) -> Places | None:
    """Return, in the shape of what a kernel returns, which numbers it takes together; None where threads cut rows.

    Args:
        operands: the tensors that it is given.
        dtype: that it computes in.
        vector_bytes: how many bytes its vectors have.
    """
    shape = torch.broadcast_shapes(*[one.shape for one in operands])
    strides = [_strides(one, shape, dtype) for one in operands]
    dimensions = [_Dimension(size, tuple(one[axis] for one in strides)) for axis, size in enumerate(shape)]
    order = _order(dimensions)
    inner = _joined([dimensions[axis] for axis in order])[0] if order else _Dimension(1, (1,) * len(operands))
    two_vectors = 2 * vector_bytes // dtype.itemsize
    is_even = inner.strides.count(0) <= 1 and set(inner.strides) <= {0, 1}
    together = inner.size // two_vectors * two_vectors if is_even else 0
    count = math.prod(shape)
    if together and not _are_rows_whole(count, two_vectors if inner.size == count else inner.size):
        return None
    places = np.arange(count) % inner.size < together
    outermost_first = order[::-1]
    return places.reshape([shape[axis] for axis in outermost_first]).transpose(np.argsort(outermost_first))


def _strides(tensor: Tensor, shape: Sequence[int], dtype: torch.dtype) -> list[int]:
    """Return the strides of an operand, 0 where it is the same along a dimension; another dtype is copied before."""
    own = tensor.stride() if tensor.dtype == dtype else torch.empty_like(tensor, device="meta").stride()
    missing = len(shape) - tensor.dim()
    kept = [
        0 if size == 1 != whole else stride
        for size, stride, whole in zip(tensor.shape, own, shape[missing:], strict=True)
    ]
    return [*[0] * missing, *kept]


def _order(dimensions: Sequence[_Dimension]) -> list[int]:
    """Return the dimensions in the order in which a kernel goes through them: sorted by the strides of operands."""
    order = list(range(len(dimensions)))[::-1]
    for first in range(1, len(order)):
        place = first
        for before in reversed(range(first)):
            comparison = _compared(dimensions[order[before]], dimensions[order[place]])
            if comparison > 0:
                order[before], order[place] = order[place], order[before]
                place = before
            elif comparison < 0:
                break
    return order


def _compared(one: _Dimension, other: _Dimension) -> int:
    """Return more than 0 if the other dimension is to be gone through before this one, less if after, else 0."""
    for stride, another in zip(one.strides, other.strides, strict=True):
        if 0 in (stride, another):
            continue
        if stride != another:
            return stride - another
        if one.size > other.size:
            return 1
    return 0


def _joined(dimensions: Sequence[_Dimension]) -> list[_Dimension]:
    """Return the dimensions, those joined that lie one after the other in all operands."""
    found = [dimensions[0]]
    for one in dimensions[1:]:
        last = found[-1]
        follows = all(last.size * before == stride for before, stride in zip(last.strides, one.strides, strict=True))
        if 1 in (last.size, one.size) or follows:
            strides = one.strides if last.size == 1 else last.strides
            found[-1] = _Dimension(last.size * one.size, strides)
        else:
            found.append(one)
    return found


def _are_rows_whole(count: int, row: int) -> bool:
    """Return whether no thread's share of the numbers ends within a row."""
    threads = min(torch.get_num_threads(), -(-count // GRAIN))
    return count < GRAIN or threads == 1 or -(-count // threads) % row == 0
