"""What is measured at the recorded steps beside loss, weight and gradient."""

import math

import torch
from torch import Tensor

from runner.config import Config
from runner.curvature import StabilityBound, largest_eigenvalue
from runner.objectives import Objective

POINTS_AT_ONCE = 256
SAME = 1e-6


class Diagnostics:
    """Measures recorded weights of one run, and keeps what a sentence about them needs."""

    def __init__(self, config: Config, objective: Objective, lr_varies: bool) -> None:
        self._objective = objective
        self._wants_curvature = config.diagnostics["curvature"]
        self._has_bound = config.optimizer["name"] == "gd"
        self._lr_varies = lr_varies
        self._lr = config.lr
        self._largest = -math.inf
        self._counts = {"below": 0, "at": 0, "above": 0}
        self.last: dict[str, float] = {}

    def measure(self, weight: Tensor) -> dict[str, Tensor]:
        """Return each measure `(points,)` of weights `(points, dim)`, by metric key."""
        found: dict[str, Tensor] = {}
        if self._objective.held_out is not None:
            parts = [self._objective.held_out(part) for part in weight.split(POINTS_AT_ONCE)]
            found |= {key: torch.cat([part[key] for part in parts]).cpu().to(torch.float64) for key in parts[0]}
        if self._wants_curvature:
            found |= self._curvature(weight)
        self.last = {key: float(values[-1]) for key, values in found.items()}
        return found

    def _curvature(self, weight: Tensor) -> dict[str, Tensor]:
        curvatures = [largest_eigenvalue(self._loss, point) for point in weight]
        for curvature in curvatures:
            self._count(curvature)
        found = torch.tensor(curvatures, dtype=torch.float64)
        return {"curvature": found, "lr_bound": 2 / found} if self._has_bound else {"curvature": found}

    def _loss(self, points: Tensor) -> Tensor:
        return self._objective.function(points, None, **self._objective.parameters_for(points))

    def _count(self, curvature: float) -> None:
        if math.isnan(curvature):
            return
        self._largest = max(self._largest, curvature)
        share = self._lr * curvature / 2
        place = "at" if abs(share - 1) <= SAME else "above" if share > 1 else "below"
        self._counts[place] += 1

    def remark(self) -> str | None:
        """Return the sentence about the learning rate and its bound, for plain gradient descent at one rate."""
        if not self._has_bound or self._lr_varies or not self._largest > 0:
            return None
        return str(StabilityBound(self._lr, self._largest, **self._counts))
