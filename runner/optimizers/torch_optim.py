"""The classes of torch.optim, for single runs: they keep their state, so they are not pure functions."""

import inspect
from array import array
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from runner.config.groups import OptimizerConfig
from runner.config.registry import look_up
from runner.messages.errors import UserError, one_line
from runner.messages.ranges import unknown_key

# Why these cannot optimize one flat weight with a dense gradient.
UNUSABLE = {
    "Muon": "it is for matrices, the weight of a run is one vector",
    "SparseAdam": "it takes sparse gradients, those of a run are dense",
}
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

    def __init__(self, config: OptimizerConfig, weight: Tensor, lr: float) -> None:
        """Make the optimizer.

        Args:
            config: the config group: the class's name as `algorithm`, and its `arguments`.
            weight: `(1, dim)`, the start.
            lr: the learning rate.

        Raises:
            UserError: no such class, or it does not accept these arguments.
        """
        make: Any = _class_of(config.algorithm)
        arguments = {key: tuple(value) if isinstance(value, list) else value for key, value in config.arguments.items()}
        known = [name for name in inspect.signature(make).parameters if name not in ("params", "lr")]
        paths = [f"optimizer.arguments.{name}" for name in known]
        unknown = [
            unknown_key(f"optimizer.arguments.{key}", arguments[key], paths) for key in arguments if key not in known
        ]
        if unknown:
            raise UserError(*unknown)
        # A vector, because some classes treat the rows and columns of a matrix in their own way.
        self._weight = weight[0].clone().requires_grad_()
        self._evaluations = array("q", [0])  # after each step, from step 0 on
        try:
            self._optimizer = make([self._weight], lr=lr, **arguments)
            _try(make, arguments, weight[0])
        except Exception as error:  # each class raises errors of its own
            raise UserError(f"optimizer.algorithm={config.algorithm}: {one_line(error)}") from None

    def step(self, weight: Tensor, loss: Tensor, gradient: Tensor, lr: Tensor, evaluate: Evaluate) -> Tensor:
        """Return the weight `(1, dim)` after a step from `weight`.

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
            self._weight.copy_(weight[0])
        self._weight.grad = gradient[0].clone()
        count = 1
        if isinstance(self._optimizer, torch.optim.LBFGS):
            count = self._step_with_closure(loss, evaluate)
        else:
            self._optimizer.step()
        self._evaluations.append(self._evaluations[-1] + count)
        return self._weight.detach().clone()[None]

    def _step_with_closure(self, loss: Tensor, evaluate: Evaluate) -> int:
        """Make a step of LBFGS, which first evaluates `weight` again, and return the number of evaluations."""
        count = 0

        def closure() -> float:
            nonlocal count, loss
            count += 1
            if count > 1:
                loss, gradient = evaluate(self._weight[None])
                self._weight.grad = gradient[0]
            return float(loss)

        self._optimizer.step(closure)
        return count

    def evaluations(self, steps: int) -> int:
        """Return the number of evaluations of the first `steps` steps."""
        return self._evaluations[steps]


def _class_of(name: str) -> type[torch.optim.Optimizer]:
    if name in UNUSABLE:
        allowed = ", ".join(algorithms())
        raise UserError(f"optimizer.algorithm={name}: {UNUSABLE[name]}, expected one of {allowed}")
    return look_up(algorithms(), name, "optimizer.algorithm")


def _try(make: Any, arguments: Mapping[str, Any], weight: Tensor) -> None:
    """Make steps on a quadratic, because some classes check some arguments only in `step`."""
    point = torch.ones_like(weight).requires_grad_()
    trial = make([point], lr=TRIAL_LR, **arguments)

    def closure() -> float:
        point.grad = point.detach().clone()
        return float((point.detach() ** 2).sum() / 2)

    for _ in range(TRIAL_STEPS):
        closure()
        trial.step(closure)
