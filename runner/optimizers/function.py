"""What a step minimizes, for the rules that evaluate it at more weights than the step's own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from runner.optimizers.update_rule import plus
from runner.tensors.norms import dot
from runner.tensors.tracing import is_traced

Loop = TypeVar("Loop", bound=tuple[Any, ...])


@dataclass(frozen=True)
class Function:
    """The loss of a step, with its samples and noise, near the step's weight.

    Attributes:
        loss: at the step's weight, `(rows, 1)`.
        minimum: the known minima of the objectives, `(rows, 1)` in float64; 0 where none is known.
        evaluate: maps weights `(rows, dim)` to losses `(rows, 1)` and clipped gradients `(rows, dim)`.
        hessian: maps weights `(rows, dim)` to the Hessians there, `(rows, dim, dim)`.
        jacobian: maps weights `(rows, dim)` to the Jacobians of the residuals there, `(rows, n, dim)`; only for rules
            that need residuals.
        product: maps weights and vectors, `(rows, dim)`, to the products of the Hessians there with these.
        probe: returns standard normal vectors `(rows, dim)`, other ones in each step; only for rules that need probes.
    """

    loss: Tensor
    minimum: Tensor
    evaluate: Callable[[Tensor], tuple[Tensor, Tensor]]
    hessian: Callable[[Tensor], Tensor]
    jacobian: Callable[[Tensor], Tensor]
    product: Callable[[Tensor, Tensor], Tensor]
    probe: Callable[[], Tensor]


class Point(NamedTuple):
    """A point of a line: the step to it, the loss and the slope along the line there, each `(rows, 1)` in float64."""

    step: Tensor
    loss: Tensor
    slope: Tensor


@dataclass(frozen=True)
class Line:
    """The function along a line from the step's weight.

    Attributes:
        function: the function.
        weight: `(rows, dim)`, where the line begins.
        direction: `(rows, dim)`.
        start: the point where the line begins.
    """

    function: Function
    weight: Tensor
    direction: Tensor
    start: Point

    @classmethod
    def of(cls, function: Function, weight: Tensor, gradient: Tensor, direction: Tensor) -> "Line":
        """Return the line from `weight`, where the gradient is `gradient`, along `direction`."""
        slope = dot(gradient, direction).to(torch.float64)
        return cls(function, weight, direction, Point(torch.zeros_like(slope), function.loss.to(torch.float64), slope))

    def weight_at(self, step: Tensor) -> Tensor:
        """Return `weight + step * direction`."""
        return plus(self.weight, step, self.direction)

    def at(self, step: Tensor) -> Point:
        """Return the point after a step `(rows, 1)`, which takes one evaluation."""
        loss, gradient = self.function.evaluate(self.weight_at(step))
        return Point(step, loss.to(torch.float64), dot(gradient, self.direction).to(torch.float64))


def where(mask: Tensor, one: Loop, other: Loop) -> Loop:
    """Return a named tuple of tensors, each taken from `one` where the mask is true, else from `other`."""
    kept = [torch.where(mask, a, b) for a, b in zip(one, other, strict=True)]
    return type(one)(*kept)


def repeated(body: Callable[[Loop], Loop], is_open: Callable[[Loop], Tensor], state: Loop, most: int) -> Loop:
    """Return the state after at most `most` repetitions, in each of which only the open rows change.

    The repetitions end early where no row is open any more, which changes no number: a trace holds them all.

    Args:
        body: returns the next state.
        is_open: returns which rows of a state are to change, `(rows, 1)`.
        state: a named tuple of tensors `(rows, n)`.
        most: the largest number of repetitions.
    """
    for _ in range(most):
        mask = is_open(state)
        if not is_traced() and not bool(mask.any()):
            break
        state = where(mask, body(state), state)
    return state
