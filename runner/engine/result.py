"""How a run ended, and with what."""

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
    """How a run ended; the value is the sentence that people read."""

    COMPLETED = "ran all its steps"
    STOPPED = "stopped by a rule"
    DIVERGED = "diverged: loss, gradient or weight became infinite or NaN"
    KILLED = "stopped by a signal before its last step"
    FAILED = "failed before its last step"

    @property
    def status(self) -> str:
        """The run's status in MLflow's words."""
        return self.name if self in (Outcome.KILLED, Outcome.FAILED) else "FINISHED"


@dataclass(frozen=True)
class Result:
    """The last step of a run.

    Attributes:
        direction: where it went; only one that goes down is held to a known minimum.
        steps: how many updates were made.
        gradient_evaluations: how many forward and backward passes these took: one each, more with torch's LBFGS.
        seconds: how long they took.
        weight: `(dim,)`, after the last update.
        gradient: `(dim,)`, of the last forward pass; NaN when there was none.
        loss: of the same pass.
        measured: what diagnostics measured at the last recorded step.
        remarks: what is to be said of the run beside, in sentences.
        still_since: the last step that moved the weight, where it stood still after it short of a known minimum.
        reason: which rule stopped the run, in a sentence.
        best: the step whose loss was best; None where no step had a finite loss.
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
    remarks: tuple[str, ...] = ()
    still_since: int | None = None
    reason: str | None = None
    best: Best | None = None

    def __repr__(self) -> str:
        """Return how the run ended, in a line."""
        return f"{type(self).__name__}({self.summary})"

    @property
    def summary(self) -> str:
        """How the run ended and with what, in a few words, for a prompt."""
        weight = [float(f"{value:.6g}") for value in self.weight[:MOST_NUMBERS].tolist()]
        more = f" of {len(self.weight):,} numbers" if len(self.weight) > MOST_NUMBERS else ""
        return f"{self.outcome.name} after {self.steps:,} steps, loss={self.loss:.6g}, weight={weight}{more}"

    @property
    def sentence(self) -> str:
        """How the run ended, for people."""
        return self.outcome.value if self.reason is None else f"{self.outcome.value}: {self.reason}"

    @property
    def remark(self) -> str | None:
        """What is to be said beside, in one line; None for nothing."""
        return "; ".join(self.remarks) or None

    @property
    def divergence(self) -> str | None:
        """Where the run diverged, for people; None where it did not."""
        return f"diverged at step {self.steps:,}" if self.outcome is Outcome.DIVERGED else None

    @property
    def distance(self) -> float | None:
        """The distance to the nearest known minimum point, or None where none is known or sought."""
        return float(exact_norm(self._offsets()).min()) if self._minimum_at else None

    @property
    def nearest_minimum(self) -> Point | None:
        """The known minimum point that is nearest, or None where none is known or sought."""
        if not self._minimum_at:
            return None
        return self._minimum_at[int(exact_norm(self._offsets())[:, 0].nan_to_num(torch.inf).argmin())]

    @property
    def minimum(self) -> float | None:
        """The known minimum; None where none is known or sought."""
        return self.objective.known.minimum if self.direction is Direction.DOWN else None

    @property
    def loss_error(self) -> float | None:
        """How far the loss is above the known minimum, or None where none is known or sought."""
        return None if self.minimum is None else self.loss - self.minimum

    @property
    def _minimum_at(self) -> tuple[Point, ...]:
        return self.objective.known.minimum_at if self.direction is Direction.DOWN else ()

    def _offsets(self) -> Tensor:
        points = torch.tensor(self._minimum_at, dtype=torch.float64)
        return self.weight.cpu().to(torch.float64) - points
