"""A user's own function as an objective, named in YAML and imported if `allow_code` permits it."""

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from runner.messages.errors import FunctionError, UserError, nearest
from runner.messages.ranges import shown, unknown_key
from runner.process import termination
from runner.process.tracebacks import described

UserFunction = Callable[..., Tensor]


def import_function(target: str, key: str = "objective.target") -> UserFunction:
    """Return the function that `package.module:function` names; the working directory is searched too.

    Raises:
        UserError: no such module or function, or importing it fails.
    """
    module_name, _, name = target.partition(":")
    if not module_name or not name:
        raise UserError(f"{key}={shown(target)}: expected package.module:function")
    look_in_working_directory()
    termination.expect_user_code()
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a user's module may raise anything
        raise UserError(f"{key}={target}: cannot be imported ({described(error)})") from error
    found = getattr(module, name, None)
    if not callable(found):
        functions = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise UserError(f"{key}={target}: no function '{name}' in {module_name}{nearest(name, functions)}")
    function: UserFunction = found
    return function


def look_in_working_directory() -> None:
    """Add the working directory to `sys.path`, as `python -m` does and an installed command does not."""
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))


def check_keywords(function: Callable[..., Any], arguments: Mapping[str, Any], given: int = 1) -> None:
    """Check that the function accepts these keyword arguments besides `given` positional ones.

    Raises:
        UserError: with a line for each that it does not accept.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a C function without a signature
        return
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    known = [p.name for p in list(parameters)[given:] if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    paths = [f"objective.arguments.{name}" for name in known]
    unknown = [
        unknown_key(f"objective.arguments.{key}", value, paths) for key, value in arguments.items() if key not in known
    ]
    if unknown:
        raise UserError(*unknown)


def without_exit(function: UserFunction, arguments: Mapping[str, Any]) -> UserFunction:
    """Return the function with its arguments, with SystemExit and GeneratorExit turned into RuntimeError."""

    def called(weight: Tensor) -> Tensor:
        try:
            return function(weight, **arguments)
        except (SystemExit, GeneratorExit) as stop:
            asked = RuntimeError(f"the function raised {stop!r}")
            raise asked.with_traceback(stop.__traceback__) from stop

    return called


def over_rows(function: UserFunction, is_of_one_point: bool, start: Tensor) -> tuple[UserFunction, str | None]:
    """Return the function for rows, `(rows, dim) -> (rows,)`, and why vmap cannot batch it, if it cannot.

    A function of one point is batched by `vmap`; if `vmap` fails, it is called point by point.
    """
    if not is_of_one_point:
        return function, None
    lifted = vmap(function)
    try:
        lifted(start.expand(2, -1).clone().requires_grad_())
    except (Exception, SystemExit) as error:  # of vmap, or of the function, which then raises it when it is called
        why = described(error, is_brief=True)
        return lambda points: _stacked([function(point) for point in points]), why
    return lifted, None


def _stacked(values: Sequence[Any]) -> Tensor:
    for value in values:
        if not isinstance(value, Tensor):
            raise UserError(f"objective=callable: the function returns {type(value).__name__}, expected a tensor")
    return torch.stack(tuple(values))


def check_loss(loss: Callable[[Tensor], Tensor], points: Tensor, name: str) -> None:
    """Evaluate the loss and its gradient once, to find errors before the first step.

    Raises:
        UserError: it raises an error, returns a wrong shape or type, or cannot be differentiated.
    """
    weight = points.detach().requires_grad_()
    try:
        value = loss(weight)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # a user's function may raise anything
        raise FunctionError(f"objective={name}: the function raises {described(error)}") from error
    if not isinstance(value, Tensor):
        raise UserError(f"objective={name}: the function returns {type(value).__name__}, expected a tensor")
    if value.shape != points.shape[:1]:
        per_point = tuple(value.shape[1:]) if value.shape[:1] == points.shape[:1] else tuple(value.shape)
        raise UserError(f"objective={name}: the function returns shape {per_point} for one point, expected ()")
    if not value.is_floating_point():
        kind = str(value.dtype).removeprefix("torch.")
        raise UserError(f"objective={name}: the function returns {kind}, expected floating-point numbers")
    if not value.requires_grad:
        raise UserError(
            f"objective={name}: the loss cannot be differentiated, expected one computed by torch operations"
        )
    try:
        # Of the sum: given gradients of the outputs, torch imports sympy to check their shapes.
        gradient = torch.autograd.grad(value.sum(), weight, allow_unused=True)[0]
    except Exception as error:  # a user's backward pass may raise anything
        raise UserError(f"objective={name}: the gradient cannot be computed: {described(error)}") from error
    if gradient is None:
        raise UserError(f"objective={name}: the loss does not depend on the weight")


def check_curvature(loss: Callable[[Tensor], Tensor], points: Tensor, name: str) -> None:
    """Differentiate the loss twice, as the diagnostics do.

    Raises:
        UserError: the second derivative cannot be computed.
    """
    weight = points.detach().requires_grad_()
    value = loss(weight)
    try:
        (gradient,) = torch.autograd.grad(value, weight, torch.ones_like(value), create_graph=True)
        if gradient.requires_grad:
            torch.autograd.grad(gradient, weight, torch.ones_like(gradient), allow_unused=True)
    except Exception as error:  # a user's second backward pass may raise anything
        raise UserError(
            f"diagnostics.curvature=true: the curvature of objective {name} cannot be computed: {described(error)}"
        ) from error
