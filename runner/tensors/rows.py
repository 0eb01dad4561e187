"""The rows of a batch: one a run, and spare ones, so that a run's arithmetic does not depend on its neighbours."""

from collections.abc import Sequence

import torch
from torch import Tensor

# Rows are padded to a multiple of this, so that every kernel takes the same path for a run alone
# as for the same run in a batch, and both agree to the bit.
ROWS = 64
# From so many numbers on, torch's kernels share their work among threads.
GRAIN = 32768


def padded(rows: Tensor, multiple: int = ROWS) -> Tensor:
    """Return `rows` with the first repeated until their number is a multiple of `multiple`."""
    missing = -len(rows) % multiple
    return torch.cat([rows, rows[:1].expand(missing, *rows.shape[1:])]) if missing else rows


def column(values: Sequence[float], rows: int, device: torch.device) -> Tensor:
    """Return a number for each run as a float64 column `(rows, 1)`; spare rows repeat the first run's."""
    spare = [values[0]] * (rows - len(values))
    return torch.tensor([*values, *spare], dtype=torch.float64).to(device)[:, None]
