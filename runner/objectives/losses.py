"""Losses of outputs against targets, by name or from the user's code, for all runs of a batch."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap
from torch.nn import functional

from runner.messages.errors import UserError, nearest
from runner.messages.ranges import shown
from runner.objectives.imported import import_function
from runner.process.tracebacks import described

KEY = "objective.loss"
ENDINGS = ("loss", "entropy", "logits", "div")
# Outputs `(runs, n, ...)` and targets `(runs, n)` to losses `(runs,)`.
Error = Callable[[Tensor, Tensor], Tensor]


def names() -> list[str]:
    """Return the names of the losses of `torch.nn.functional`."""
    return [name for name in dir(functional) if name.endswith(ENDINGS) and not name.startswith("_")]


def error_of(name: str, outputs: Tensor, targets: Tensor) -> Error:
    """Return the loss of that name in `torch.nn.functional`, or of a target `package.module:function`.

    Args:
        name: of the loss.
        outputs: `(n, ...)`, of some samples, with which it is tried.
        targets: `(n,)`, of these.

    Raises:
        UserError: no such loss, or it does not fit the outputs and targets.
    """
    function = import_function(name, KEY) if ":" in name else _of_torch(name)

    def of_run(outputs: Tensor, targets: Tensor) -> Any:
        is_of_numbers = outputs.shape == targets.shape and not targets.is_floating_point()
        return function(outputs, targets.to(outputs.dtype) if is_of_numbers else targets)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # torch warns of outputs and targets that it broadcasts
            value = of_run(outputs, targets)
    except (Exception, SystemExit) as raised:  # a loss may raise anything
        shapes = f"outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)}"
        raise UserError(f"{KEY}={name}: does not fit {shapes}: {described(raised)}") from raised
    if not isinstance(value, Tensor) or value.dim() > 0:
        found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise UserError(f"{KEY}={name}: returns {found}, expected a tensor of shape ()")
    lifted = vmap(of_run)

    def error(outputs: Tensor, targets: Tensor) -> Tensor:
        found: Tensor = lifted(outputs, targets) if len(outputs) > 1 else of_run(outputs[0], targets[0])[None]
        return found

    try:
        lifted(*(torch.stack([one, one]) for one in (outputs, targets)))
    except Exception:  # of vmap
        return lambda outputs, targets: torch.stack([of_run(*pair) for pair in zip(outputs, targets, strict=True)])
    return error


def _of_torch(name: str) -> Callable[..., Any]:
    if name not in names():
        allowed = "a loss of torch.nn.functional or package.module:function"
        raise UserError(f"{KEY}={shown(name)}: expected {allowed}{nearest(name, names())}")
    function: Callable[..., Any] = getattr(functional, name)
    return function
