"""The classes of torch.optim, and those of other packages with its interface, for single runs.

They keep their state, so they are not pure functions.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from runner.config.groups import OptimizerConfig
from runner.config.registry import look_up
from runner.messages.errors import FunctionError, UserError, one_line
from runner.messages.ranges import shown, unknown_key
from runner.objectives.imported import import_function
from runner.process.tracebacks import described
from runner.tensors.draws import generator
from runner.tensors.shapes import Shapes

# Why these cannot optimize a weight with a dense gradient.
UNUSABLE = {"SparseAdam": "it takes sparse gradients, those of a run are dense"}
FOR_MATRICES = ("Muon",)
# What a class that names none of these takes as a further argument.
COMMON = ("maximize", "foreach", "capturable", "differentiable", "fused")
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
    """An optimizer of torch.optim or with its interface, used for one row instead of an update rule."""

    def __init__(self, config: OptimizerConfig, weight: Tensor, shapes: Shapes, lr: float, seed: int = 0) -> None:
        """Make the optimizer.

        Args:
            config: the config group: the class's name as `algorithm`, or its `target`, and its `arguments`.
            weight: `(1, dim)`, the start.
            shapes: of its parameters, which the optimizer is given.
            lr: the learning rate.
            seed: of what a class of another package draws.

        Raises:
            UserError: no such class, or it does not accept these arguments, or it needs a closure.
        """
        make = _package_class(config.target) if config.is_package else _torch_class(config.algorithm, shapes)
        self._name = (
            f"optimizer.target={config.target}" if config.is_package else f"optimizer.algorithm={config.algorithm}"
        )
        arguments = {key: tuple(value) if isinstance(value, list) else value for key, value in config.arguments.items()}
        _check_arguments(make, arguments)
        self._shapes = shapes
        self._parameters = [view.clone().requires_grad_() for view in shapes.views(weight[0])]
        self._drawn = generator(seed, "optimizer").get_state() if config.is_package else None
        try:
            self._optimizer = make(self._parameters, lr=lr, **arguments)
            if config.is_package:
                _try_package(make, arguments, self._parameters, self._name)
            else:
                _try(make, arguments, self._parameters)
        except UserError:
            raise
        except (Exception, SystemExit) as error:  # each class raises errors of its own
            raise UserError(f"{self._name}: {one_line(error)}") from None

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
        elif self._drawn is not None:
            self._step_of_package(self._drawn)
        else:
            self._optimizer.step()
        return self._weight, count

    def _step_of_package(self, drawn: Tensor) -> None:
        """Make a step with random numbers of the run's own."""
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(drawn)
            try:
                self._optimizer.step()
            except (Exception, SystemExit) as error:  # the code of others may raise anything
                raise FunctionError(f"{self._name}: the optimizer raises {described(error)}") from error
            self._drawn = torch.get_rng_state()

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


def _torch_class(name: str, shapes: Shapes) -> Any:
    if name in UNUSABLE:
        allowed = ", ".join(algorithms())
        raise UserError(f"optimizer.algorithm={name}: {UNUSABLE[name]}, expected one of {allowed}")
    found = look_up(algorithms(), name, "optimizer.algorithm")
    others = [f"{parameter} {shape}" for parameter, shape in shapes.named if len(shape) != 2]
    if name in FOR_MATRICES and others:
        raise UserError(f"optimizer.algorithm={name}: is for matrices, the objective has {others[0]}")
    return found


def _package_class(target: str | None) -> Any:
    if target is None:
        raise UserError(f"optimizer.target={shown(target)}: expected package.module:Class")
    found = import_function(target, "optimizer.target")
    if not inspect.isclass(found) or not issubclass(found, torch.optim.Optimizer):
        kind = "class" if inspect.isclass(found) else type(found).__name__
        raise UserError(
            f"optimizer.target={target}: is a {kind} that is no optimizer, expected a torch.optim.Optimizer"
        )
    return found


def _check_arguments(make: Any, arguments: Mapping[str, Any]) -> None:
    """Check that a class or, where it passes any argument on, the classes above it know the arguments."""
    known: dict[str, None] = {}
    for each in inspect.getmro(make):
        if each is torch.optim.Optimizer:
            known |= dict.fromkeys(COMMON)
            break
        if issubclass(each, torch.optim.Optimizer):
            parameters = inspect.signature(each).parameters
            known |= dict.fromkeys(parameters)
            if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
                break
    names = [name for name in known if name not in ("params", "lr", "kwargs")]
    paths = [f"optimizer.arguments.{name}" for name in names]
    unknown = [
        unknown_key(f"optimizer.arguments.{key}", value, paths) for key, value in arguments.items() if key not in names
    ]
    if unknown:
        raise UserError(*unknown)


def _try_package(make: Any, arguments: Mapping[str, Any], parameters: Sequence[Tensor], name: str) -> None:
    """Make steps without a closure; where that fails but succeeds with one, say that this is what is missing.

    Raises:
        UserError: the class needs a closure.
    """
    with torch.random.fork_rng(devices=[]):
        try:
            _try(make, arguments, parameters, has_closure=False)
        except (Exception, SystemExit) as error:
            try:
                _try(make, arguments, parameters)
            except (Exception, SystemExit):
                raise error from None
            raise UserError(
                f"{name}: needs a closure, expected an optimizer that steps by the gradient alone"
            ) from None


def _try(make: Any, arguments: Mapping[str, Any], parameters: Sequence[Tensor], has_closure: bool = True) -> None:
    """Make steps on a quadratic, because some classes check some arguments only in `step`."""
    points = [torch.ones_like(parameter).requires_grad_() for parameter in parameters]
    trial = make(points, lr=TRIAL_LR, **arguments)

    def closure() -> float:
        for point in points:
            point.grad = point.detach().clone()
        return sum(float((point.detach() ** 2).sum() / 2) for point in points)

    for _ in range(TRIAL_STEPS):
        closure()
        if has_closure:
            trial.step(closure)
        else:
            trial.step()
