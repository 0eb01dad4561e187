"""An objective: a function of the registry with its parameters, and what its YAML declares of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from runner.config import DECLARED, shown
from runner.errors import UserError
from runner.objectives.functions import FUNCTIONS
from runner.registry import check_arguments, look_up


@dataclass(frozen=True)
class Objective:
    """What to minimise, and what is known of it.

    Attributes:
        function: maps `(..., dim)` weights and parameters of shape `(...)` to losses of shape `(...)`.
        parameters: the function's parameters, by name.
        dimension: of one weight vector.
        start: the usual start, `dimension` numbers.
        minimum_at: the known minimum points, each of `dimension` numbers; none where unknown.
        minimum: the loss there; None where unknown.
    """

    name: str
    function: Callable[..., Tensor]
    parameters: Mapping[str, float]
    dimension: int
    start: tuple[float, ...]
    minimum_at: tuple[tuple[float, ...], ...]
    minimum: float | None

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Return the objective that the config group describes.

        Raises:
            UserError: an unknown name or parameter, or a declaration that does not fit the dimension.
        """
        name, dimension = settings["name"], settings["dimension"]
        function = look_up(FUNCTIONS, name, "objective.name")
        parameters = {key: value for key, value in settings.items() if key not in DECLARED}
        check_arguments(function, parameters, "objective")
        return cls(
            name=name,
            function=function,
            parameters=parameters,
            dimension=dimension,
            start=_point(settings["start"], dimension, "objective.start"),
            minimum_at=_points(settings.get("minimum_at"), dimension),
            minimum=settings.get("minimum"),
        )

    def parameters_for(self, weight: Tensor) -> dict[str, Tensor]:
        """Return the parameters as tensors `(rows,)`, so that the runs of a batch may differ in them."""
        return {
            key: torch.full((len(weight),), value, dtype=weight.dtype, device=weight.device)
            for key, value in self.parameters.items()
        }


def start_point(objective: Objective, initial_weight: float | Sequence[float] | None, dtype: torch.dtype) -> Tensor:
    """Return the weight `(dim,)` that a run starts from, on the CPU.

    Raises:
        UserError: its length does not fit the objective, or a number is beyond the dtype.
    """
    if isinstance(initial_weight, list) and len(initial_weight) != objective.dimension:
        raise UserError(
            f"initial_weight={shown(initial_weight)}: expected {objective.dimension} "
            f"{'number' if objective.dimension == 1 else 'numbers'} for objective {objective.name}, "
            f"given {len(initial_weight)}"
        )
    point = objective.start if initial_weight is None else _point(initial_weight, objective.dimension, "initial_weight")
    weight = torch.tensor(point, dtype=torch.float64).to(dtype)
    if not weight.isfinite().all():
        largest = torch.finfo(dtype).max
        raise UserError(f"initial_weight={shown(initial_weight)}: expected at most {largest:.4g} for {_name_of(dtype)}")
    return weight


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _points(declared: Any, dimension: int) -> tuple[tuple[float, ...], ...]:
    if declared is None:
        return ()
    several = isinstance(declared, list) and any(isinstance(item, list) for item in declared)
    return tuple(_point(item, dimension, "objective.minimum_at") for item in (declared if several else [declared]))


def _point(declared: Any, dimension: int, path: str) -> tuple[float, ...]:
    """Return `dimension` numbers: a number is broadcast, a list repeated from its start."""
    pattern = list(declared) if isinstance(declared, list | tuple) else [declared]
    if len(pattern) > dimension:
        raise UserError(f"{path}={shown(declared)}: expected at most {dimension} numbers, given {len(pattern)}")
    return tuple(float(pattern[index % len(pattern)]) for index in range(dimension))
