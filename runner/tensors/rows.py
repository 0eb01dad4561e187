"""The rows of a batch: one for each run, and padding, so that no bit of a run depends on the other runs."""

from collections.abc import Sequence

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
