"""The classes of torch.optim, for single runs: they keep their state, so they are not pure functions."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from runner.config.groups import OptimizerConfig
from runner.config.registry import look_up
from runner.messages.errors import UserError, one_line
from runner.messages.ranges import unknown_key
from runner.tensors.shapes import Shapes

# Why these cannot optimize a weight with a dense gradient.
UNUSABLE = {"SparseAdam": "it takes sparse gradients, those of a run are dense"}
FOR_MATRICES = ("Muon",)
# Weights `(1, dim)` to losses `(1,)` and gradients `(1, dim)`.
Evaluate = Callable[[Tensor], tuple[Tensor, Tensor]]
TRIAL_LR = 0.1
TRIAL_STEPS = 2


def algorithms() -> dict[str, type[torch.optim.Optimizer]]:
    """Return the usable classes of torch.optim, by name."""
    classes = {name: value for name, value in vars(torch.optim).items() if inspect.isclass(value)}
    return {
        name: value
        for name, value in classes.items()
        if issubclass(value, torch.optim.Optimizer) and value is not torch.optim.Optimizer and name not in UNUSABLE
    }


class TorchOptimizer:
    """An optimizer of torch.optim, used for one row instead of an update rule."""

    def __init__(self, config: OptimizerConfig, weight: Tensor, shapes: Shapes, lr: float) -> None:
        """Make the optimizer.

        Args:
            config: the config group: the class's name as `algorithm`, and its `arguments`.
            weight: `(1, dim)`, the start.
            shapes: of its parameters, which the optimizer is given.
            lr: the learning rate.

        Raises:
            UserError: no such class, or it does not accept these arguments.
        """
        make: Any = _class_of(config.algorithm)
        others = [f"{name} {shape}" for name, shape in shapes.named if len(shape) != 2]
        if config.algorithm in FOR_MATRICES and others:
            raise UserError(f"optimizer.algorithm={config.algorithm}: is for matrices, the objective has {others[0]}")
        arguments = {key: tuple(value) if isinstance(value, list) else value for key, value in config.arguments.items()}
        known = [name for name in inspect.signature(make).parameters if name not in ("params", "lr")]
        paths = [f"optimizer.arguments.{name}" for name in known]
        unknown = [
            unknown_key(f"optimizer.arguments.{key}", arguments[key], paths) for key in arguments if key not in known
        ]
        if unknown:
            raise UserError(*unknown)
        self._shapes = shapes
        self._parameters = [view.clone().requires_grad_() for view in shapes.views(weight[0])]
        try:
            self._optimizer = make(self._parameters, lr=lr, **arguments)
            _try(make, arguments, self._parameters)
        except Exception as error:  # each class raises errors of its own
            raise UserError(f"optimizer.algorithm={config.algorithm}: {one_line(error)}") from None

    def step(
        self, weight: Tensor, loss: Tensor, gradient: Tensor, lr: Tensor, evaluate: Evaluate
    ) -> tuple[Tensor, int]:
        """Return the weight `(1, dim)` after a step from `weight`, and the number of evaluations it took.

        Args:
            weight: `(1, dim)`.
            loss: `(1,)`, at `weight`.
            gradient: `(1, dim)`, at `weight`.
            lr: `(1, 1)`, the learning rate.
            evaluate: computes losses and gradients at other weights, for LBFGS.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = float(lr)
        with torch.no_grad():
            for parameter, value in zip(self._parameters, self._shapes.views(weight[0]), strict=True):
                parameter.copy_(value)
        self._take(gradient)
        count = 1
        if isinstance(self._optimizer, torch.optim.LBFGS):
            count = self._step_with_closure(loss, evaluate)
        else:
            self._optimizer.step()
        return self._weight, count

    @property
    def _weight(self) -> Tensor:
        return self._shapes.joined(parameter.detach() for parameter in self._parameters)[None]

    def _take(self, gradient: Tensor) -> None:
        """Give the parameters their gradients."""
        for parameter, value in zip(self._parameters, self._shapes.views(gradient[0].clone()), strict=True):
            parameter.grad = value

    def _step_with_closure(self, loss: Tensor, evaluate: Evaluate) -> int:
        """Make a step of LBFGS, which first evaluates `weight` again, and return the number of evaluations."""
        count = 0

        def closure() -> float:
            nonlocal count, loss
            count += 1
            if count > 1:
                loss, gradient = evaluate(self._weight)
                self._take(gradient)
            return float(loss)

        self._optimizer.step(closure)
        return count


def _class_of(name: str) -> type[torch.optim.Optimizer]:
    if name in UNUSABLE:
        allowed = ", ".join(algorithms())
        raise UserError(f"optimizer.algorithm={name}: {UNUSABLE[name]}, expected one of {allowed}")
    return look_up(algorithms(), name, "optimizer.algorithm")


def _try(make: Any, arguments: Mapping[str, Any], parameters: Sequence[Tensor]) -> None:
    """Make steps on a quadratic, because some classes check some arguments only in `step`."""
    points = [torch.ones_like(parameter).requires_grad_() for parameter in parameters]
    trial = make(points, lr=TRIAL_LR, **arguments)

    def closure() -> float:
        for point in points:
            point.grad = point.detach().clone()
        return sum(float((point.detach() ** 2).sum() / 2) for point in points)

    for _ in range(TRIAL_STEPS):
        closure()
        trial.step(closure)
