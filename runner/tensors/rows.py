"""The rows of a batch: one for each run, and padding, so that no bit of a run depends on the other runs."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

# Rows are padded to a multiple of this, so that each kernel takes the same path for a single run as for the same run
# in a batch, and both are equal to the bit.
ROWS = 64
# From this many numbers on, torch's kernels split their work among threads.
GRAIN = 32768


def padded_length(rows: int, multiple: int = ROWS) -> int:
    """Return the smallest multiple of `multiple` that is at least `rows`."""
    return rows + -rows % multiple


def padded(rows: Tensor, multiple: int = ROWS) -> Tensor:
    """Return `rows` padded with copies of the first to a multiple of `multiple`."""
    missing = padded_length(len(rows), multiple) - len(rows)
    return torch.cat([rows, rows[:1].expand(missing, *rows.shape[1:])]) if missing else rows


def column(values: Sequence[float], rows: int, device: torch.device) -> Tensor:
    """Return a number for each run as a float64 column `(rows, 1)`; padding repeats the first run's."""
    spare = [values[0]] * (rows - len(values))
    return torch.tensor([*values, *spare], dtype=torch.float64).to(device)[:, None]


def rows_kept(values: Any, like: Any, kept: Sequence[int]) -> Any:
    """Return some rows of the tensors in nested tuples, padded with copies of the first of them.

    Args:
        values: whose tensors have an axis of rows, or none.
        like: the same with the new number of rows, from which the axis is seen.
        kept: the rows.
    """
    if isinstance(values, tuple):
        parts = [rows_kept(one, other, kept) for one, other in zip(values, like, strict=True)]
        return type(values)(*parts) if hasattr(values, "_fields") else tuple(parts)
    if not isinstance(values, Tensor) or values.shape == like.shape:
        return values
    (axis,) = (place for place, sizes in enumerate(zip(values.shape, like.shape, strict=True)) if len(set(sizes)) > 1)
    rows = [*kept, *[kept[0]] * (like.shape[axis] - len(kept))]
    return values.index_select(axis, torch.tensor(rows, device=values.device))
