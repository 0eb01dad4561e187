"""What the objective looks like around the paths: its curve for one number, its contours for two, else in a plane."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from runner.config.direction import Direction
from runner.engine.batches import DTYPES, Member
from runner.learn.descents import Paths
from runner.tensors.device import choose_device

Array = np.ndarray[Any, Any]

CURVE_POINTS, GRID_POINTS = 361, 121
# For a function that vmap cannot batch, which takes a call for each point.
CURVE_POINTS_ALONE, GRID_POINTS_ALONE = 121, 31
# The box grows so much from one level to the next, so that a path that leaves it can be followed.
ZOOM, LEVELS, LEVELS_ALONE = 3.0, 7, 3
MARGIN, NARROWEST = 1.3, 0.5
CHUNK = 4096
CODES = 65534
NOT_A_NUMBER = 65535


@dataclass(frozen=True)
class Plane:
    """The plane in which paths of more than two numbers are drawn: through `origin`, along two orthogonal `axes`."""

    origin: Tensor
    axes: Tensor

    def project(self, weight: Tensor) -> Tensor:
        """Return the coordinates `(..., 2)` of weights `(..., dim)`."""
        return (weight.to(torch.float64) - self.origin) @ self.axes.T

    def turn(self, gradient: Tensor) -> Tensor:
        """Return the components `(..., 2)` of gradients `(..., dim)` in the plane."""
        return gradient.to(torch.float64) @ self.axes.T

    def lift(self, points: Tensor) -> Tensor:
        """Return the weights of points `(..., 2)` of the plane."""
        return self.origin + points @ self.axes


@dataclass(frozen=True)
class Level:
    """The objective on one box: `(points,)` losses of a curve, or `(points, points)` codes, rows upwards.

    Attributes:
        box: low and high of each coordinate.
        values: float64 losses of a curve; uint16 codes, which rise with the loss, of a plane.
    """

    box: list[list[float]]
    values: Array


def evaluated(member: Member, weight: Tensor) -> Tensor:
    """Return the losses `(points,)` of weights `(points, dim)`, of all samples, in float64."""
    found = []
    device = choose_device(member.config.device)
    for part in weight.to(device, DTYPES[member.config.dtype]).split(CHUNK):
        with torch.no_grad():
            found.append(member.objective.function(part, None, **member.objective.parameters_for(part)).cpu())
    return torch.cat(found).to(torch.float64)


def plane_of(member: Member, paths: Paths, best: int) -> Plane | None:
    """Return the plane for an objective of more than two numbers: through the start and the end of the best run.

    Its other axis is the direction in which that run's path lies furthest from the line between the two. None for one
    or two numbers.
    """
    if member.objective.dimension <= 2:
        return None
    start = member.start.to(torch.float64)
    offsets = paths.weight[best].to(torch.float64) - start
    offsets = offsets[offsets.isfinite().all(-1)]
    first = _direction(offsets[-1], torch.eye(len(start), dtype=torch.float64)[0])
    aside = offsets - (offsets @ first)[:, None] * first
    _, _, principal = torch.linalg.svd(aside, full_matrices=False)
    rest = torch.eye(len(start), dtype=torch.float64)[int(first.abs().argmin())]
    second = principal[0] if float(aside.abs().max()) > 0 else rest
    return Plane(start, torch.stack([first, _direction(second - (second @ first) * first, rest)]))


def _direction(vector: Tensor, otherwise: Tensor) -> Tensor:
    length = vector.norm()
    return vector / length if float(length) > 0 else otherwise


def levels_of(member: Member, plane: Plane | None, seen: Sequence[Sequence[float]]) -> list[Level]:
    """Return the objective on boxes around the `seen` points: the place of interest, the start, and others.

    Each box is `ZOOM` times as wide as the one before. A box on which the objective raises an error is left out, and so
    are those after it.
    """
    is_batched = member.objective.refusal is None
    centre, start, *others = seen
    count = len(centre)
    reach = [max(abs(point[axis] - centre[axis]) for point in (start, *others)) for axis in range(count)]
    widest = max(reach) or 1.0
    half = [MARGIN * max(one, NARROWEST * widest) for one in reach]
    levels = []
    for level in range(LEVELS if is_batched else LEVELS_ALONE):
        sides = [
            [centre[axis] - half[axis] * ZOOM**level, centre[axis] + half[axis] * ZOOM**level] for axis in range(count)
        ]
        try:
            levels.append(_level(member, plane, sides, is_batched))
        except Exception:
            if not levels:
                raise
            break
    return levels


def _level(member: Member, plane: Plane | None, box: list[list[float]], is_batched: bool) -> Level:
    if len(box) == 1:
        points = torch.linspace(
            box[0][0], box[0][1], CURVE_POINTS if is_batched else CURVE_POINTS_ALONE, dtype=torch.float64
        )
        return Level(box, evaluated(member, points[:, None]).numpy())
    side = GRID_POINTS if is_batched else GRID_POINTS_ALONE
    across, up = (torch.linspace(low, high, side, dtype=torch.float64) for low, high in box)
    points = torch.stack([across.expand(side, side), up[:, None].expand(side, side)], -1).reshape(-1, 2)
    losses = evaluated(member, points if plane is None else plane.lift(points)).reshape(side, side).numpy()
    return Level(box, _codes(losses if member.config.direction is Direction.DOWN else -losses))


def _codes(losses: Array) -> Array:
    """Return codes that rise with the logarithm of the losses above the lowest, so that contours fit any objective."""
    finite = np.isfinite(losses)
    codes = np.full(losses.shape, NOT_A_NUMBER, dtype=np.uint16)
    if finite.any():
        above = losses[finite] - losses[finite].min()
        scaled = np.log10(above + max(float(np.median(above)) * 1e-4, 1e-300))
        low, high = float(scaled.min()), float(scaled.max())
        codes[finite] = np.round((scaled - low) / ((high - low) or 1.0) * CODES).astype(np.uint16)
    return codes
