"""Update rules: their type, their registry, and the arithmetic they share.

Rules are pure functions on `(rows, dim)` weights. Their hyper-parameters are float64 tensors `(rows, 1)`. Values
derived from these are cast to the weight's dtype once, and sums of products use torch's fused kernels in the order of
`torch.optim`, so that each rule equals its twin there to the bit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

import torch
from torch import Tensor

from runner.tensors.shapes import Shapes

State = tuple[Any, ...]
Update = TypeVar("Update", bound=Callable[..., Any])


class Takes(Enum):
    """What a rule is given of a weight `(rows, dim)` that consists of parameters."""

    WEIGHT = "all parameters at once, as a vector"
    VECTORS = "each parameter by itself, as a vector"
    SHAPES = "each parameter by itself, in its shape"


def no_numbers(_shapes: Shapes, **_settings: Any) -> int:
    """Return 0."""
    return 0


@dataclass(frozen=True)
class UpdateRule:
    """An update rule.

    What it is given has the shape `(rows, dim)`, or `(rows, *shape)` of one parameter; hyper-parameters have as many
    dimensions, `(rows, 1, ...)`.

    Attributes:
        init: `init(weight, **hyper) -> state`.
        update: `update(weight, gradient, state, *, lr, **hyper) -> (weight, state)`.
        casts_lr: whether `lr` is to be given in the weight's dtype, which can be done for many steps beforehand; else
            it is given in float64.
        recorded: `recorded(weight, state, **hyper) -> weight`, where the loss and the weight of a run are recorded;
            None for where the gradient is taken.
        takes: what it is given of the weight.
        evaluates: whether it evaluates the loss at further weights: `update` is given the step's function after the
            state, and also returns how many evaluations it took, `(rows, 1)`.
        needs_residuals: whether it is for least squares: the objective must give its residuals.
        probes: whether it is given random vectors, drawn from each run's seed.
        numbers: `numbers(shapes, **settings) -> int`, about how many numbers a row takes besides vectors.
        companion: the rule for parameters that are no matrices, if the weight consists of several parameters and this
            rule is for matrices; it is given the same hyper-parameters.
        needs_matrix: whether it cannot optimize a weight without a matrix.
    """

    init: Callable[..., State]
    update: Callable[..., Any]
    casts_lr: bool
    recorded: Callable[..., Tensor] | None = None
    takes: Takes = Takes.WEIGHT
    evaluates: bool = False
    needs_residuals: bool = False
    probes: bool = False
    numbers: Callable[..., int] = no_numbers
    companion: "UpdateRule | None" = None
    needs_matrix: bool = False


RULES: dict[str, UpdateRule] = {}


def no_state(_weight: Tensor, **_hyper: Any) -> State:
    """Return the state of a rule without one."""
    return ()


def no_steps(weight: Tensor) -> Tensor:
    """Return the step count `(1, 1)` of a first state, which all rows share."""
    return torch.zeros((1, 1), dtype=torch.float64, device=weight.device)


def rule(
    init: Callable[..., State] = no_state,
    *,
    casts_lr: bool = False,
    recorded: Callable[..., Tensor] | None = None,
    takes: Takes = Takes.WEIGHT,
    evaluates: bool = False,
    needs_residuals: bool = False,
    probes: bool = False,
    numbers: Callable[..., int] = no_numbers,
    companion: UpdateRule | None = None,
    needs_matrix: bool = False,
) -> Callable[[Update], Update]:
    """Register an update under its name; arguments as the attributes of `UpdateRule`."""

    def register(update: Update) -> Update:
        RULES[update.__name__] = UpdateRule(
            init,
            update,
            casts_lr,
            recorded=recorded,
            takes=takes,
            evaluates=evaluates,
            needs_residuals=needs_residuals,
            probes=probes,
            numbers=numbers,
            companion=companion,
            needs_matrix=needs_matrix,
        )
        return update

    return register


def over_parameters(rule: UpdateRule, shapes: Shapes) -> UpdateRule:
    """Return the rule on weights `(rows, dim)` that gives it of the parameters what it takes."""
    if rule.takes is Takes.WEIGHT or shapes.is_one_vector:
        return rule
    # Numbers are given as vectors of one.
    filled = Shapes(tuple((name, shape or (1,)) for name, shape in shapes.named))
    seen = shapes.vectors if rule.takes is Takes.VECTORS else filled
    rules = [rule if len(shape) > 1 or rule.companion is None else rule.companion for _, shape in shapes.named]

    def init(weight: Tensor, **hyper: Any) -> State:
        parts = zip(rules, seen.views(weight), strict=True)
        return tuple(each.init(view, **_with_dimensions(hyper, view.dim())) for each, view in parts)

    def update(weight: Tensor, gradient: Tensor, state: State, **hyper: Any) -> tuple[Tensor, State]:
        parts = zip(rules, seen.views(weight), seen.views(gradient), state, strict=True)
        made = [each.update(view, *of_it, **_with_dimensions(hyper, view.dim())) for each, view, *of_it in parts]
        return seen.joined(weight for weight, _ in made), tuple(state for _, state in made)

    return UpdateRule(init, update, rule.casts_lr)


def _with_dimensions(hyper: dict[str, Any], dimensions: int) -> dict[str, Any]:
    return {key: _as_column(value, dimensions) for key, value in hyper.items()}


def _as_column(value: Any, dimensions: int) -> Any:
    """Return hyper-parameters `(rows, 1)` with ones appended to the shape, or removed, to that many dimensions."""
    if isinstance(value, tuple):
        return tuple(_as_column(one, dimensions) for one in value)
    return value.reshape(-1, *[1] * (dimensions - 1)) if isinstance(value, Tensor) else value


def oriented(gradient: Tensor, maximize: bool) -> Tensor:
    """Return the gradient to descend along: negated to maximize."""
    return -gradient if maximize else gradient


def decayed(gradient: Tensor, weight: Tensor, weight_decay: Tensor | None) -> Tensor:
    """Return `gradient + weight_decay * weight`; None is no decay."""
    return gradient if weight_decay is None else plus(gradient, weight_decay, weight)


def shrunk(weight: Tensor, lr: Tensor | float, weight_decay: Tensor | None) -> Tensor:
    """Return `(1 - lr * weight_decay) * weight`: decoupled weight decay."""
    return weight if weight_decay is None else weight * (1 - lr * weight_decay).to(weight.dtype)


def with_decay(
    weight: Tensor, gradient: Tensor, lr: Tensor, weight_decay: Tensor | None, decoupled: bool, fixed: bool
) -> tuple[Tensor, Tensor]:
    """Return weight and gradient after weight decay: of the weight if `decoupled`, by `lr` unless `fixed`."""
    if not decoupled:
        return weight, decayed(gradient, weight, weight_decay)
    return shrunk(weight, 1.0 if fixed else lr, weight_decay), gradient


def power(base: Tensor | float, exponent: Tensor, rows: int) -> Tensor:
    """Return the first `rows` of `base**exponent`, bases, exponents or both `(padded rows, 1)`.

    The last powers of a vector may round differently from the others, hence the padding.
    """
    powers: Tensor = base**exponent
    return powers if len(powers) == rows else powers[:rows]


def plus(start: Tensor, scale: Tensor, direction: Tensor) -> Tensor:
    """Return `start + scale * direction`."""
    return torch.addcmul(start, direction, scale.to(start.dtype))


def plus_ratio(start: Tensor, scale: Tensor, above: Tensor, below: Tensor) -> Tensor:
    """Return `start + scale * above / below`."""
    return torch.addcdiv(start, scale.to(start.dtype) * above, below)


def mixed_squares(average: Tensor, value: Tensor, keep: Tensor, take: Tensor) -> Tensor:
    """Return `keep * average + take * value**2`."""
    return torch.addcmul(average * keep, take * value, value)
