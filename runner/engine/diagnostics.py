"""Diagnostics of the recorded steps: held-out metrics, curvature, and the bound it sets on the learning rate."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Self, TypeAlias

import torch
from torch import Tensor

from runner.engine.batches import Member
from runner.engine.curvature import PRODUCTS, StabilityBound, largest_eigenvalue
from runner.tensors.device import choose_device
from runner.tensors.layout import InPieces, measured_in_pieces

SAME = 1e-6
HeldOut: TypeAlias = Callable[[Tensor], dict[str, Tensor]]
LOWEST_IS_BEST = ("held_out_loss",)


class Diagnostics:
    """Computes the diagnostics of the runs of a batch, and keeps counts for the remark on each run."""

    def __init__(self, members: Sequence[Member], lr_varies: bool) -> None:
        """Make the diagnostics that the runs ask for.

        Args:
            members: the runs.
            lr_varies: whether their learning rates change from step to step.
        """
        self._held_out = members[0].objective.held_out
        self._in_pieces: InPieces | None = None
        self._keys: tuple[str, ...] = ()
        self._rows_at_once = members[0].rows_of_fixed_layout
        wants_curvature = members[0].config.diagnostics.curvature
        self._curvatures = [Curvature(member, lr_varies) for member in members] if wants_curvature else []
        self._last: dict[int, dict[str, float]] = {}
        self._best: dict[int, dict[str, tuple[float, int]]] = {}

    def of_runs(self, runs: Sequence[int]) -> Self:
        """Return the diagnostics of some runs."""
        found = copy.copy(self)
        found._curvatures = [self._curvatures[run] for run in runs] if self._curvatures else []
        found._last = {place: self._last[run] for place, run in enumerate(runs) if run in self._last}
        found._best = {place: self._best[run] for place, run in enumerate(runs) if run in self._best}
        return found

    @property
    def has_any(self) -> bool:
        """Whether there is anything to compute."""
        return self._held_out is not None or bool(self._curvatures)

    def measure(self, runs: Sequence[int], weight: Tensor, steps: Sequence[int]) -> dict[str, Tensor]:
        """Return metrics `(points, runs)` of weights `(points, runs, dim)` of some runs after these steps, by key."""
        found: dict[str, Tensor] = {}
        if self._held_out is not None:
            values = self._measured(self._held_out, weight.flatten(0, 1))
            found = {key: one.cpu().to(torch.float64).view(weight.shape[:2]) for key, one in values.items()}
            self._keep_best(runs, found, steps)
        if self._curvatures:
            measured = [self._curvatures[run].measure(weight[:, index]) for index, run in enumerate(runs)]
            found |= {key: torch.stack([one[key] for one in measured], dim=1) for key in measured[0]}
        last = {key: values[-1].tolist() for key, values in found.items()}
        for index, run in enumerate(runs):
            self._last[run] = {key: values[index] for key, values in last.items()}
        return found

    def _measured(self, held_out: HeldOut, rows: Tensor) -> dict[str, Tensor]:
        if self._rows_at_once > 1:
            return measured_in_pieces(held_out, rows, self._rows_at_once)
        if self._in_pieces is None:
            self._keys = tuple(held_out(rows[:1]))
            self._in_pieces = InPieces(lambda rows, _: torch.stack([*held_out(rows).values()], dim=-1), 1)
        return dict(zip(self._keys, self._in_pieces(rows, None).unbind(-1), strict=True))

    def _keep_best(self, runs: Sequence[int], held_out: Mapping[str, Tensor], steps: Sequence[int]) -> None:
        for key, values in held_out.items():
            sign = -1.0 if key in LOWEST_IS_BEST else 1.0
            highest, index = (sign * values).nan_to_num(nan=-torch.inf, neginf=-torch.inf).max(0)
            for run, value, at in zip(runs, highest.tolist(), index.tolist(), strict=True):
                best = self._best.setdefault(run, {})
                if value > -math.inf and (key not in best or value > sign * best[key][0]):
                    best[key] = sign * value, steps[at]

    def best(self, run: int) -> dict[str, float]:
        """Return the best held-out metrics of a run's recorded steps, and the first step of each as `KEY_step`."""
        found = self._best.get(run, {})
        return {
            name: number
            for key, (value, step) in found.items()
            for name, number in ((key, value), (f"{key}_step", float(step)))
        }

    def last(self, run: int) -> dict[str, float]:
        """Return the metrics of a run's last recorded step."""
        return self._last.get(run, {})

    def remarks(self, run: int) -> tuple[str, ...]:
        """Return the remarks on a run's curvature and on how its learning rate compares with the bound."""
        if not self._curvatures:
            return ()
        curvature = self._curvatures[run]
        return tuple(sentence for sentence in (curvature.remark(), curvature.unsettled()) if sentence is not None)


class Curvature:
    """The curvature along one run, and how its learning rate compares with the bound."""

    def __init__(self, member: Member, lr_varies: bool) -> None:
        self._objective = member.objective
        self._has_bound = member.config.optimizer.name == "gd"
        self._lr_varies = lr_varies
        self._lr = member.config.lr
        self._start = member.start.to(choose_device(member.config.device))
        self._largest = -math.inf
        self._points = self._unsettled = 0
        self._counts = {"below": 0, "at": 0, "above": 0}

    def measure(self, weight: Tensor) -> dict[str, Tensor]:
        """Return metrics `(points,)` of weights `(points, dim)`, by key."""
        measured = [largest_eigenvalue(self._loss, point) for point in weight]
        for curvature in measured:
            self._count(curvature.value)
        self._points += len(measured)
        self._unsettled += sum(not curvature.has_settled for curvature in measured)
        found = torch.tensor([curvature.value for curvature in measured], dtype=torch.float64)
        if not self._has_bound:
            return {"curvature": found}
        # Where the curvature is not positive, no learning rate overshoots.
        return {"curvature": found, "lr_bound": torch.where(found <= 0, torch.inf, 2 / found)}

    def _loss(self, points: Tensor) -> Tensor:
        return self._objective.function(points, None, **self._objective.parameters_for(points))

    def _count(self, curvature: float) -> None:
        if math.isnan(curvature):
            return
        self._largest = max(self._largest, curvature)
        share = self._lr * curvature / 2
        place = "at" if abs(share - 1) <= SAME else "above" if share > 1 else "below"
        self._counts[place] += 1

    def unsettled(self) -> str | None:
        """Return the remark on eigenvalues that have not converged; None if all have."""
        if self._unsettled == 0:
            return None
        return (
            f"curvature is a lower bound at {self._unsettled:,} of {self._points:,} recorded steps: "
            f"the eigenvalue had not converged after {PRODUCTS} products"
        )

    def remark(self) -> str | None:
        """Return the remark on the learning rate and its bound, for plain gradient descent at a constant rate."""
        if not self._has_bound or self._lr_varies:
            return None
        if not any(self._counts.values()):  # no recorded curvature is finite
            self._count(largest_eigenvalue(self._loss, self._start).value)
        if not self._largest > 0:
            return None
        return str(StabilityBound(self._lr, self._largest, **self._counts))
