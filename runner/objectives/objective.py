"""Objectives: built-in functions, formulas, a user's own functions, and models with data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from runner.config.groups import ObjectiveConfig
from runner.config.initial import is_saved
from runner.config.registry import check_arguments, look_up
from runner.formulas.parser import parse
from runner.messages.errors import UserError
from runner.messages.ranges import shown
from runner.objectives.declaration import Declaration, point
from runner.objectives.functions import FUNCTIONS
from runner.objectives.imported import check_keywords, import_function, over_rows, without_exit
from runner.objectives.initial import saved_start
from runner.objectives.learning import TASKS, Learning, learning, module_learning
from runner.objectives.residuals import RESIDUALS
from runner.tensors.draws import uniform_start
from runner.tensors.rows import column
from runner.tensors.shapes import Shapes


@dataclass(frozen=True)
class Objective:
    """What to minimise, and what is known of it.

    Attributes:
        function: maps weights `(rows, dim)`, the indices of the step's samples `(rows, batch_size)` or None for all,
            and the parameters by name, each `(rows,)`, to losses `(rows,)`.
        parameters: by name; their values may differ between the runs of a batch.
        known: what its YAML file declares.
        usual_start: the default start for a seed, instead of the declared one.
        batches: the number of samples, and the mini-batch size; None where each step uses all samples.
        held_out: maps weights `(rows, dim)` to metrics on held-out data, each `(rows,)`, by key.
        refusal: why vmap cannot batch the function; None where it can.
        numbers_a_row: about how many numbers the loss of a row allocates, besides vectors of its dimension.
        residuals: as `function`, to residuals `(rows, n)`, whose squares sum to the loss but for a constant; None where
            the loss is no such sum.
        parts: the parameters that the weight consists of; None where it is one vector.
        labels: of the classes in its data, where they are not 0, 1, 2 and so on.
        takes_rows_together: whether all rows are evaluated at once, whatever kernels that calls.
        draws: whether the samples of a step end with a key for its dropout.
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
    residuals: Callable[..., Tensor] | None = None
    parts: Shapes | None = None
    labels: tuple[str, ...] = ()
    takes_rows_together: bool = False
    draws: bool = False

    @property
    def dimension(self) -> int:
        """The dimension of the weight."""
        return self.known.dimension

    @cached_property
    def shapes(self) -> Shapes:
        """The names and shapes of the parameters that the weight consists of."""
        return Shapes.of_vector(self.dimension) if self.parts is None else self.parts

    def parameters_for(self, weight: Tensor) -> dict[str, Tensor]:
        """Return the parameters as tensors `(rows,)`, the same in each row."""
        return parameters_of([self], weight)


def parameters_of(objectives: Sequence[Objective], weight: Tensor) -> dict[str, Tensor]:
    """Return the parameters of the runs' objectives as tensors `(rows,)`, for weights `(rows, dim)`."""
    return {
        key: column([one.parameters[key] for one in objectives], len(weight), weight.device)[:, 0].to(weight.dtype)
        for key in objectives[0].parameters
    }


@dataclass(frozen=True)
class ObjectiveSpec:
    """What an objective is built from.

    Attributes:
        config: the config group.
        initial_weight: the run's, whose length may set the dimension.
        dtype: of its tensors.
        device: of its tensors.
    """

    config: ObjectiveConfig
    initial_weight: Any
    dtype: torch.dtype
    device: torch.device

    def dimension(self, otherwise: int) -> int:
        """Return the declared dimension, else the length of `initial_weight`, else `otherwise`."""
        declared = self.config.declared.get("dimension")
        if declared is not None:
            return int(declared)
        return len(self.initial_weight) if isinstance(self.initial_weight, list) else otherwise

    @property
    def numbers_in_start(self) -> int:
        """The length of the declared start."""
        start = self.config.declared.get("start")
        return len(start) if isinstance(start, list) else 1


class Builder(Protocol):
    """Builds one kind of objective."""

    def __call__(self, spec: ObjectiveSpec) -> Objective:
        """Build the objective.

        Raises:
            UserError: its settings do not fit together.
        """


def objective_of(spec: ObjectiveSpec) -> Objective:
    """Return the objective that the config group describes.

    Raises:
        UserError: an unknown name or parameter, or settings that this kind of objective does not allow.
    """
    build = look_up(KINDS, spec.config.name, "objective.name")
    return build(spec)


def _of_function(spec: ObjectiveSpec) -> Objective:
    config, parameters = spec.config, spec.config.parameters
    function = FUNCTIONS[config.name]
    check_arguments(function.loss, parameters, "objective")
    dimension = spec.dimension(otherwise=function.smallest)
    if dimension < function.smallest or (function.largest is not None and dimension > function.largest):
        allowed = f"{function.smallest}" if function.largest is not None else f"at least {function.smallest}"
        raise UserError(f"objective.dimension={dimension}: expected {allowed} for objective {config.name}")

    def loss(weight: Tensor, _samples: Tensor | None, **given: Tensor) -> Tensor:
        return function.loss(weight, **given)

    known = Declaration.of(config, dimension, parameters)
    return Objective(config.name, loss, parameters, known, residuals=_without_samples(RESIDUALS.get(config.name)))


def _without_samples(residuals: Callable[..., Tensor] | None) -> Callable[..., Tensor] | None:
    if residuals is None:
        return None
    return lambda weight, _samples=None, **given: residuals(weight, **given)


def _of_formula(spec: ObjectiveSpec) -> Objective:
    settings = spec.config.parameters
    constants = settings["constants"]
    formula = parse(settings["formula"], path="objective.formula", variables=settings["variables"], constants=constants)
    dimension = spec.dimension(spec.numbers_in_start if formula.is_vector else max(1, len(formula.variables)))
    if not formula.is_vector and dimension != len(formula.variables):
        names = ", ".join(formula.variables) or "none"
        raise UserError(f"objective.formula={shown(formula.text)}: its variables are {names}, expected {dimension}")

    def loss(weight: Tensor, _samples: Tensor | None, **given: Tensor) -> Tensor:
        by_name = {"w": weight} if formula.is_vector else dict(zip(formula.variables, weight.unbind(-1), strict=True))
        value: Tensor = formula.evaluate(by_name | given)
        return value

    return Objective("expression", loss, constants, Declaration.of(spec.config, dimension, constants))


def _of_code(spec: ObjectiveSpec) -> Objective:
    settings = spec.config.parameters
    if settings["target"] is None:
        raise UserError(f"objective.target={shown(settings['target'])}: expected package.module:function")
    function = import_function(settings["target"])
    arguments = settings["arguments"]
    check_keywords(function, arguments)
    known = Declaration.of(spec.config, spec.dimension(spec.numbers_in_start), {})
    start = torch.tensor(known.start, dtype=spec.dtype, device=spec.device)
    rows, refusal = over_rows(without_exit(function, arguments), settings["of_one_point"], start)
    return Objective("callable", lambda weight, _samples: rows(weight), {}, known, refusal=refusal)


def _of_data(spec: ObjectiveSpec) -> Objective:
    problem = learning(spec.config, spec.dtype, spec.device)
    return _of_learning(problem, spec)


def _of_module(spec: ObjectiveSpec) -> Objective:
    problem = module_learning(spec.config, spec.dtype, spec.device)
    return replace(_of_learning(problem, spec), takes_rows_together=True)


def _of_learning(problem: Learning, spec: ObjectiveSpec) -> Objective:
    known, l2 = Declaration.of(spec.config, problem.model.dimension, {}), spec.config.parameters["l2"]
    # Dropout needs a key in each step, also where that sees all samples.
    size = problem.samples if problem.model.draws and problem.batch_size is None else problem.batch_size
    batches = None if size is None else (problem.samples, size)
    return Objective(
        spec.config.name,
        problem.loss,
        {"l2": l2} if l2 else {},
        known,
        usual_start=problem.model.start,
        batches=batches,
        held_out=problem.held_out,
        numbers_a_row=problem.numbers_a_row,
        residuals=problem.residuals if problem.has_residuals else None,
        parts=problem.model.shapes,
        refusal=problem.model.refusal,
        draws=problem.model.draws,
        labels=problem.split.labels,
    )


KINDS: dict[str, Builder] = {
    **dict.fromkeys(FUNCTIONS, _of_function),
    "expression": _of_formula,
    "callable": _of_code,
    "module": _of_module,
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
            raise UserError(f"initial_weight=random: expected objective.bounds, {objective.name} declares none")
        return uniform_start(seed, objective.known.bounds)
    if is_saved(initial_weight):
        return saved_start(initial_weight, objective.shapes, objective.name)
    if isinstance(initial_weight, list) and len(initial_weight) != objective.dimension:
        numbers = "number" if objective.dimension == 1 else "numbers"
        raise UserError(
            f"initial_weight={shown(initial_weight)}: expected {objective.dimension} {numbers} "
            f"for objective {objective.name}, given {len(initial_weight)}"
        )
    if initial_weight is None:
        return torch.tensor(objective.known.start, dtype=torch.float64)
    return torch.tensor(point(initial_weight, objective.dimension, "initial_weight"), dtype=torch.float64)
