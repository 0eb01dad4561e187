"""Memory that is used again, because the first access to each page of new memory takes longer than a step writes it."""

import sys
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

ALIGNED = 64
# A block is made while the one before is still looked at.
PIECES = 2


class ReusedMemory:
    """Gives tensors memory of which no tensor is left."""

    def __init__(self) -> None:
        self._pieces: list[np.ndarray[Any, np.dtype[np.uint8]]] = []

    def tensors(self, shapes: Sequence[tuple[tuple[int, ...], torch.dtype]]) -> list[Tensor]:
        """Return tensors of these shapes and types, whose numbers are not set."""
        sizes = [-(-prod(shape) * dtype.itemsize // ALIGNED) * ALIGNED for shape, dtype in shapes]
        piece = self._free(sum(sizes) + ALIGNED)
        at = -piece.ctypes.data % ALIGNED
        made = []
        for (shape, dtype), size in zip(shapes, sizes, strict=True):
            count = prod(shape)
            # The tensor holds a reference to the piece as long as it or a view of it lives.
            made.append(
                torch.frombuffer(piece, dtype=dtype, count=count, offset=at).view(shape)
                if count
                else torch.empty(shape, dtype=dtype)
            )
            at += size
        return made

    def _free(self, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Return a piece that no tensor refers to, of at least `size` bytes."""
        for index in range(len(self._pieces)):
            # One reference is the list's, the other the argument's.
            if self._pieces[index].nbytes >= size and sys.getrefcount(self._pieces[index]) == 2:
                return self._pieces[index]
        piece = np.empty(size, dtype=np.uint8)
        self._pieces = [*self._pieces, piece][-PIECES:]
        return piece
