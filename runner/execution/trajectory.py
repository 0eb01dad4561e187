"""The recorded steps of a run in memory, for runs started from Python."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from runner.execution.metrics import Points, component_keys, components


class Trajectory:
    """The recorded steps of a run, in order, on the CPU; step 0 is the start, whose loss and gradient are NaN.

    Attributes:
        steps: the numbers of the recorded steps.
    """

    def __init__(self) -> None:
        self.steps: list[int] = []
        self._parts: dict[str, list[Tensor]] = {name: [] for name in ("weight", "loss", "gradient", "lr")}

    def __repr__(self) -> str:
        """Return the number of recorded steps, in one line."""
        last = f" to {self.steps[-1]:,}" if self.steps else ""
        return f"{type(self).__name__}({len(self.steps):,} recorded steps{last})"

    def start(self, weight: Tensor) -> None:
        """Add the weight `(dim,)` before the first update as step 0."""
        nothing = torch.full_like(weight, torch.nan)
        self._add([0], {"weight": weight[None], "loss": nothing[:1], "gradient": nothing[None], "lr": nothing[:1]})

    def append(self, points: Points, measured: Mapping[str, Tensor]) -> None:
        """Add recorded steps of one run, with the diagnostics measured at them."""
        values = {"weight": points.weight, "loss": points.loss, "gradient": points.gradient, "lr": points.lr}
        self._add(points.steps, {name: value[:, 0] for name, value in (values | dict(measured)).items()})

    def _add(self, steps: list[int], values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            if name not in self._parts:  # not measured at step 0
                self._parts[name] = [torch.full((len(self.steps),), torch.nan, dtype=value.dtype)]
            self._parts[name].append(value.cpu())
        self.steps += steps

    @property
    def weight(self) -> Tensor:
        """The weights after the updates, `(steps, dim)`."""
        return torch.cat(self._parts["weight"])

    @property
    def gradient(self) -> Tensor:
        """The gradients of the forward passes, `(steps, dim)`."""
        return torch.cat(self._parts["gradient"])

    @property
    def loss(self) -> Tensor:
        """The losses of the forward passes, `(steps,)`."""
        return torch.cat(self._parts["loss"])

    @property
    def lr(self) -> Tensor:
        """The learning rates of the updates, `(steps,)`."""
        return torch.cat(self._parts["lr"])

    @property
    def columns(self) -> dict[str, Any]:
        """The step numbers and the values, under the names of the metrics in MLflow."""
        found: dict[str, Any] = {"step": self.steps}
        for name, parts in self._parts.items():
            value = torch.cat(parts)
            vectors = value if value.dim() == 2 else value[:, None]
            keys = component_keys(name, vectors.shape[1])
            found |= dict(zip(keys, components(vectors).T.tolist(), strict=True))
        return found
