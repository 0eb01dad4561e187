"""The objective on a grid around the path of a run of one or two dimensions, as a file: pictures need no torch then."""

import io
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from runner.engine.batches import Member
from runner.engine.descent import Block
from runner.tensors.device import choose_device

LANDSCAPE = "landscape.npz"
ACROSS = {1: 241, 2: 121}
MARGIN = 0.15
# How far the grid follows a path that leaves the region of its start, best point and minimum, in widths of that.
FOLLOWED = 2.0
# A function that cannot be batched is called once a point: not for longer than about this.
MOST_SECONDS = 0.3
NUMBERS_AT_ONCE = 2**23


class Extent:
    """The smallest and largest finite weight of the path of a run, by dimension."""

    def __init__(self) -> None:
        self._low: Tensor | None = None
        self._high: Tensor | None = None

    def add(self, block: Block, last: int) -> None:
        """Take the steps of a block of a single run into account, up to its last step."""
        weights = block.weight[: last - block.first + 1, 0]
        if weights.shape[1] not in ACROSS:
            return
        low = weights.nan_to_num(torch.inf, torch.inf, torch.inf).amin(0)
        high = weights.nan_to_num(-torch.inf, -torch.inf, -torch.inf).amax(0)
        self._low = low if self._low is None else torch.minimum(self._low, low)
        self._high = high if self._high is None else torch.maximum(self._high, high)

    @property
    def corners(self) -> list[NDArray[Any]]:
        """The two corners of the box around the path; empty where no step was added."""
        if self._low is None or self._high is None:
            return []
        return [corner.cpu().numpy() for corner in (self._low, self._high)]


def landscape_file(
    member: Member, points: Iterable[NDArray[Any]], path: Iterable[NDArray[Any]], seconds_a_row: float = 0.0
) -> bytes | None:
    """Return the landscape as an npz file; None with more than two dimensions, or where the function fails.

    It holds the axis `x`, the axis `y` in two dimensions, the `loss` in single precision, and the known minimum points
    `minima` with their loss `minimum`.

    Args:
        member: the run.
        points: that the grid should show: the start, the best weight, the last one.
        path: corners of the box around its path, which is followed some way.
        seconds_a_row: about how long the function takes for a point.
    """
    try:
        return _file(member, list(points), list(path), seconds_a_row)
    except Exception:  # the user's function may raise anything; the run is over, and a picture is missing
        return None


def _file(member: Member, points: list[NDArray[Any]], path: list[NDArray[Any]], seconds_a_row: float) -> bytes | None:
    known = member.objective.known
    across = ACROSS.get(known.dimension)
    rows = 0 if across is None else across**known.dimension
    is_slow = member.objective.refusal is not None and rows * seconds_a_row > MOST_SECONDS
    if across is None or is_slow:
        return None
    minima = np.array(known.minimum_at, np.float64).reshape(-1, known.dimension)
    axes = [np.linspace(low, high, across) for low, high in _box([member.start.numpy(), *points], path, minima)]
    grid = np.stack([axis.ravel() for axis in np.meshgrid(*axes)], axis=1)
    loss = _losses(member, grid).reshape([across] * known.dimension)
    names = dict(zip(("x", "y"), axes, strict=False))
    minimum = {} if known.minimum is None else {"minimum": np.float64(known.minimum)}
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, loss=loss, minima=minima, **names, **minimum)
    return file.getvalue()


def _box(
    points: list[NDArray[Any]], path: list[NDArray[Any]], minima: NDArray[np.float64]
) -> list[tuple[float, float]]:
    """Return the ends of each axis of the grid."""
    finite = np.array([point for point in points if np.isfinite(point).all()], np.float64)
    if len(minima):  # the nearest to where the path ended or was best
        finite = np.concatenate([finite, minima[[np.argmin(np.linalg.norm(minima - finite[-1], axis=1))]]])
    low, high = finite.min(0), finite.max(0)
    width = np.where(high > low, high - low, np.maximum(np.abs(high), 1.0))
    for corner in path:
        near = np.clip(corner.astype(np.float64), low - FOLLOWED * width, high + FOLLOWED * width)
        finite = np.concatenate([finite, near[None]])
    low, high = finite.min(0), finite.max(0)
    width = np.where(high > low, high - low, np.maximum(np.abs(high), 1.0))
    width = np.maximum(width, 0.25 * width.max())  # a path along an axis is shown with some room beside it
    middle = (low + high) / 2
    half = (0.5 + MARGIN) * np.maximum(width, high - low)
    return list(zip((middle - half).tolist(), (middle + half).tolist(), strict=True))


def _losses(member: Member, grid: NDArray[np.float64]) -> NDArray[np.float32]:
    objective = member.objective
    device = choose_device(member.config.device)
    points = torch.as_tensor(grid, dtype=member.start.dtype, device=device)
    at_once = max(NUMBERS_AT_ONCE // max(objective.numbers_a_row, 1), 1)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        parts = [
            objective.function(part, None, **objective.parameters_for(part)).cpu() for part in points.split(at_once)
        ]
    return torch.cat(parts).to(torch.float32).numpy()
