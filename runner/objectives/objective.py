"""An objective: what to minimise, made of a function, a formula, a user's own code or a model and its data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from runner.config.groups import ObjectiveConfig
from runner.config.registry import check_arguments, look_up
from runner.formulas.parser import parse
from runner.messages.errors import UserError
from runner.messages.ranges import shown
from runner.objectives.declaration import Declaration, point
from runner.objectives.functions import FUNCTIONS
from runner.objectives.imported import check_keywords, import_function, kept_going, over_rows
from runner.objectives.learning import TASKS, Learning, learning
from runner.tensors.draws import uniform_start
from runner.tensors.rows import column


@dataclass(frozen=True)
class Objective:
    """What to minimise, and what is known of it.

    Attributes:
        function: maps weights `(rows, dim)`, the samples of this step `(rows, batch_size)` or None, and the
            parameters by name, each `(rows,)`, to losses `(rows,)`.
        parameters: numbers that the runs of a batch may differ in, by name.
        known: what its YAML declares.
        usual_start: another usual start than the declared, for a seed.
        batches: how many samples there are, and how many a step sees; None where each step sees all.
        held_out: what is measured beside the loss, by metric key, each `(rows,)` for weights `(rows, dim)`.
        refusal: why the function takes one row at a time, None where it takes many.
        numbers_a_row: about how many numbers the loss of a row makes on its way, beside vectors of its dimension.
    """

    name: str
    function: Callable[..., Tensor]
    parameters: Mapping[str, float]
    known: Declaration
    usual_start: Callable[[int], Tensor] | None = None
    batches: tuple[int, int] | None = None
    held_out: Callable[[Tensor], dict[str, Tensor]] | None = None
    refusal: str | None = None
    numbers_a_row: int = 0

    @property
    def dimension(self) -> int:
        """The dimension of one weight vector."""
        return self.known.dimension

    def parameters_for(self, weight: Tensor) -> dict[str, Tensor]:
        """Return the parameters as tensors `(rows,)`, all rows alike."""
        return parameters_of([self], weight)


def parameters_of(objectives: Sequence[Objective], weight: Tensor) -> dict[str, Tensor]:
    """Return the parameters of the runs' objectives as tensors `(rows,)`, for weights `(rows, dim)`."""
    return {
        key: column([one.parameters[key] for one in objectives], len(weight), weight.device)[:, 0].to(weight.dtype)
        for key in objectives[0].parameters
    }


@dataclass(frozen=True)
class Request:
    """What an objective is built from besides its own settings."""

    config: ObjectiveConfig
    initial_weight: Any
    dtype: torch.dtype
    device: torch.device

    def dimension(self, otherwise: int) -> int:
        """Return the dimension: declared, else that of the start that is given, else `otherwise`."""
        declared = self.config.declared.get("dimension")
        if declared is not None:
            return int(declared)
        return len(self.initial_weight) if isinstance(self.initial_weight, list) else otherwise

    @property
    def numbers_in_start(self) -> int:
        """How many numbers the usual start is declared by."""
        start = self.config.declared.get("start")
        return len(start) if isinstance(start, list) else 1


class Builder(Protocol):
    """Builds one kind of objective."""

    def __call__(self, request: Request) -> Objective:
        """Return the objective; raise UserError where its settings do not fit."""


def objective_of(request: Request) -> Objective:
    """Return the objective that the config group describes.

    Raises:
        UserError: an unknown name or parameter, or what its kind cannot have.
    """
    build = look_up(KINDS, request.config.name, "objective.name")
    return build(request)


def _of_function(request: Request) -> Objective:
    config, parameters = request.config, request.config.parameters
    function = FUNCTIONS[config.name]
    check_arguments(function.loss, parameters, "objective")
    dimension = request.dimension(otherwise=function.smallest)
    if dimension < function.smallest or (function.largest is not None and dimension > function.largest):
        allowed = f"{function.smallest}" if function.largest is not None else f"at least {function.smallest}"
        raise UserError(f"objective.dimension={dimension}: expected {allowed} for objective {config.name}")

    def loss(weight: Tensor, _samples: Tensor | None, **given: Tensor) -> Tensor:
        return function.loss(weight, **given)

    known = Declaration.of(config, dimension, parameters)
    return Objective(config.name, loss, parameters, known)


def _of_formula(request: Request) -> Objective:
    settings = request.config.parameters
    constants = settings["constants"]
    formula = parse(settings["formula"], path="objective.formula", variables=settings["variables"], constants=constants)
    dimension = request.dimension(request.numbers_in_start if formula.is_vector else max(1, len(formula.variables)))
    if not formula.is_vector and dimension != len(formula.variables):
        names = ", ".join(formula.variables) or "none"
        raise UserError(f"objective.formula={shown(formula.text)}: its variables are {names}, expected {dimension}")

    def loss(weight: Tensor, _samples: Tensor | None, **given: Tensor) -> Tensor:
        by_name = {"w": weight} if formula.is_vector else dict(zip(formula.variables, weight.unbind(-1), strict=True))
        value: Tensor = formula.evaluate(by_name | given)
        return value

    return Objective("expression", loss, constants, Declaration.of(request.config, dimension, constants))


def _of_code(request: Request) -> Objective:
    settings = request.config.parameters
    if settings["target"] is None:
        raise UserError(f"objective.target={shown(settings['target'])}: expected package.module:function")
    function = import_function(settings["target"])
    arguments = settings["arguments"]
    check_keywords(function, arguments)
    known = Declaration.of(request.config, request.dimension(request.numbers_in_start), {})
    start = torch.tensor(known.start, dtype=request.dtype, device=request.device)
    rows, refusal = over_rows(kept_going(function, arguments), settings["of_one_point"], start)
    return Objective("callable", lambda weight, _samples: rows(weight), {}, known, refusal=refusal)


def _of_data(request: Request) -> Objective:
    problem: Learning = learning(request.config, request.dtype, request.device)
    known = Declaration.of(request.config, problem.model.dimension, {})
    batches = None if problem.batch_size is None else (problem.samples, problem.batch_size)
    return Objective(
        request.config.name,
        problem.loss,
        {"l2": request.config.parameters["l2"]},
        known,
        usual_start=problem.model.start,
        batches=batches,
        held_out=problem.held_out,
        numbers_a_row=problem.numbers_a_row,
    )


KINDS: dict[str, Builder] = {
    **dict.fromkeys(FUNCTIONS, _of_function),
    "expression": _of_formula,
    "callable": _of_code,
    **dict.fromkeys(TASKS, _of_data),
}


def start_point(objective: Objective, initial_weight: Any, seed: int, dtype: torch.dtype) -> Tensor:
    """Return the weight `(dim,)` that a run starts from, on the CPU.

    Raises:
        UserError: its length does not fit the objective, or a number is beyond the dtype.
    """
    weight = _exact_start(objective, initial_weight, seed).to(dtype)
    if not weight.isfinite().all():
        largest, name = torch.finfo(dtype).max, str(dtype).removeprefix("torch.")
        raise UserError(f"initial_weight={shown(initial_weight)}: expected at most {largest:.4g} for {name}")
    return weight


def _exact_start(objective: Objective, initial_weight: Any, seed: int) -> Tensor:
    if initial_weight is None and objective.usual_start is not None:
        return objective.usual_start(seed)
    if initial_weight == "random":
        if not objective.known.bounds:
            raise UserError(f"initial_weight=random: expected objective.bounds, which {objective.name} has not")
        return uniform_start(seed, objective.known.bounds)
    if isinstance(initial_weight, list) and len(initial_weight) != objective.dimension:
        numbers = "number" if objective.dimension == 1 else "numbers"
        raise UserError(
            f"initial_weight={shown(initial_weight)}: expected {objective.dimension} {numbers} "
            f"for objective {objective.name}, given {len(initial_weight)}"
        )
    if initial_weight is None:
        return torch.tensor(objective.known.start, dtype=torch.float64)
    return torch.tensor(point(initial_weight, objective.dimension, "initial_weight"), dtype=torch.float64)
