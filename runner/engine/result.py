"""The result of a run: how it ended, its last and its best step."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import torch
from torch import Tensor

from runner.config.direction import Direction
from runner.engine.best import Best
from runner.objectives import Objective
from runner.objectives.declaration import Point
from runner.tensors.norms import exact_norm

MOST_NUMBERS = 4


class Outcome(Enum):
    """How a run ended; the value is shown to users."""

    COMPLETED = "ran all its steps"
    STOPPED = "stopped by a rule"
    DIVERGED = "diverged: loss, gradient or weight became infinite or NaN"
    PRUNED = "pruned: it could not win"
    KILLED = "stopped by a signal before its last step"
    FAILED = "failed before its last step"

    @property
    def status(self) -> str:
        """The run's status in MLflow."""
        return self.name if self in (Outcome.KILLED, Outcome.FAILED) else "FINISHED"


@dataclass(frozen=True)
class Result:
    """The last step of a run.

    Attributes:
        direction: whether it minimized or maximized; a known minimum matters only to a run that minimizes.
        steps: the number of updates.
        gradient_evaluations: the number of forward and backward passes for these: one each, more with line searches.
        seconds: how long these took.
        weight: `(dim,)`, after the last update.
        gradient: `(dim,)`, of the last forward pass; NaN if there was none.
        loss: of the same pass.
        measured: the diagnostics of the last recorded step, by metric key.
        best_measured: the best held-out metrics of the recorded steps, and the step of each, by metric key.
        remarks: further sentences about the run.
        still_since: the last step that changed the weight, if it did not change afterwards away from a known minimum.
        reason: a sentence about the rule that stopped the run.
        best: the step whose loss was best; None where no step had a finite loss.
        engine: which steps were compiled, or why none were; None where there is nothing to say.
    """

    outcome: Outcome
    objective: Objective
    direction: Direction
    steps: int
    gradient_evaluations: int
    seconds: float
    weight: Tensor
    gradient: Tensor
    loss: float
    measured: Mapping[str, float] = field(default_factory=dict)
    best_measured: Mapping[str, float] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    still_since: int | None = None
    reason: str | None = None
    best: Best | None = None
    engine: str | None = None

    def __repr__(self) -> str:
        """Return a one-line summary."""
        return f"{type(self).__name__}({self.summary})"

    @property
    def summary(self) -> str:
        """Outcome, steps, loss and weight in one line."""
        weight = [float(f"{value:.6g}") for value in self.weight[:MOST_NUMBERS].tolist()]
        more = f" of {len(self.weight):,} numbers" if len(self.weight) > MOST_NUMBERS else ""
        return f"{self.outcome.name} after {self.steps:,} steps, loss={self.loss:.6g}, weight={weight}{more}"

    @property
    def sentence(self) -> str:
        """How the run ended, as shown to users."""
        return self.outcome.value if self.reason is None else f"{self.outcome.value}: {self.reason}"

    @property
    def remark(self) -> str | None:
        """All remarks in one line; None if there are none."""
        return "; ".join(self.remarks) or None

    @property
    def divergence(self) -> str | None:
        """At which step the run diverged, as shown to users; None if it did not."""
        return f"diverged at step {self.steps:,}" if self.outcome is Outcome.DIVERGED else None

    @property
    def distance(self) -> float | None:
        """The distance to the nearest known minimum point; None if none is known or the run maximizes."""
        return float(exact_norm(self._offsets()).min()) if self._minimum_at else None

    @property
    def nearest_minimum(self) -> Point | None:
        """The nearest known minimum point; None if none is known or the run maximizes."""
        if not self._minimum_at:
            return None
        return self._minimum_at[int(exact_norm(self._offsets())[:, 0].nan_to_num(torch.inf).argmin())]

    @property
    def minimum(self) -> float | None:
        """The known minimum; None if none is known or the run maximizes."""
        return self.objective.known.minimum if self.direction is Direction.DOWN else None

    @property
    def loss_error(self) -> float | None:
        """The loss minus the known minimum; None if none is known or the run maximizes."""
        return None if self.minimum is None else self.loss - self.minimum

    @property
    def _minimum_at(self) -> tuple[Point, ...]:
        return self.objective.known.minimum_at if self.direction is Direction.DOWN else ()

    def _offsets(self) -> Tensor:
        points = torch.tensor(self._minimum_at, dtype=torch.float64)
        return self.weight.cpu().to(torch.float64) - points
