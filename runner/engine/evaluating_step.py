"""A step by an update rule that evaluates the loss at more weights than one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from runner.engine.curvature import products
from runner.engine.descent import AnyStep, BatchLoss, Carry, Outputs
from runner.engine.inputs import Inputs
from runner.optimizers import State
from runner.optimizers.function import Function

EvaluatingUpdate: TypeAlias = Callable[[Tensor, Tensor, State, Function, Tensor], tuple[Tensor, State, Tensor]]


@dataclass(frozen=True)
class EvaluatingStep(AnyStep):
    """A step by a rule that evaluates the loss at more weights than one; as pure as `Step`.

    Attributes:
        update: weights, clipped gradients `(rows, dim)`, state, function and learning rates `(rows, 1)` to the next
            weights and state, and the number of evaluations besides the first, `(rows, 1)`.
        clip: clips gradients `(rows, dim)`.
        minimum: the known minima of the objectives, `(rows, 1)` in float64; 0 where none is known.
        residuals: weights `(rows, dim)` and the step's samples to the residuals `(rows, n)`, where there are any.
    """

    update: EvaluatingUpdate
    clip: Callable[[Tensor], Tensor]
    minimum: Tensor
    residuals: BatchLoss | None = None

    def __call__(self, carry: Carry, inputs: Inputs) -> tuple[Carry, Outputs]:
        """Make the step."""
        rates = self.learning_rates(carry, inputs)
        loss, gradient = self.loss_and_gradient(carry.weight, inputs.samples, inputs.noise)
        lr = rates.to(self.lr_dtype) if inputs.lr is None else inputs.lr

        def evaluate(weight: Tensor) -> tuple[Tensor, Tensor]:
            loss, gradient = self.loss_and_gradient(weight, inputs.samples, inputs.noise)
            return loss[:, None], self.clip(gradient)

        def hessian(weight: Tensor) -> Tensor:
            return hessians(lambda point: self.loss(point, inputs.samples), weight)

        def jacobian(weight: Tensor) -> Tensor:
            residuals = self.residuals
            assert residuals is not None, "rules that need residuals are refused where there are none"
            return jacobians(lambda point: residuals(point, inputs.samples), weight)

        def product(weight: Tensor, vector: Tensor) -> Tensor:
            return products(lambda point: self.loss(point, inputs.samples), weight, vector)

        def probe() -> Tensor:
            assert inputs.probe is not None, "rules that need probes are given them"
            return inputs.probe

        function = Function(loss[:, None], self.minimum, evaluate, hessian, jacobian, product, probe)
        weight, state, more = self.update(carry.weight, self.clip(gradient), carry.optimizer_state, function, lr)
        outputs = Outputs(loss, gradient, weight, rates, 1 + more[:, 0].to(torch.int64))
        return Carry(weight, state, self.schedule_after(carry, inputs, loss)), outputs


def hessians(loss: Callable[[Tensor], Tensor], weight: Tensor) -> Tensor:
    """Return the Hessians `(rows, dim, dim)` at weights `(rows, dim)` of a loss, which maps these to `(rows,)`."""
    point = weight.detach().requires_grad_()
    value = loss(point)
    (gradient,) = torch.autograd.grad(value, point, torch.ones_like(value), create_graph=True)
    rows = []
    for slope in gradient.unbind(-1):
        row = None
        if slope.requires_grad:  # else the loss is linear
            ones = torch.ones_like(slope)
            (row,) = torch.autograd.grad(slope, point, ones, retain_graph=True, allow_unused=True)
        rows.append(torch.zeros_like(weight) if row is None else row)
    return torch.stack(rows, dim=1)


def jacobians(residuals: Callable[[Tensor], Tensor], weight: Tensor) -> Tensor:
    """Return the Jacobians `(rows, n, dim)` at weights `(rows, dim)` of residuals, column by column."""
    residuals(weight)  # outside of the derivative, where its kernels can be recorded
    columns = []
    for unit in torch.eye(weight.shape[-1], dtype=weight.dtype, device=weight.device).unbind(0):
        columns.append(torch.func.jvp(residuals, (weight.detach(),), (unit.expand_as(weight),))[1])
    return torch.stack(columns, dim=-1)
