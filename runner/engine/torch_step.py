"""A step by a class of torch.optim."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from runner.engine.descent import AnyStep, Carry, Outputs
from runner.engine.inputs import Inputs
from runner.optimizers.torch_optim import TorchOptimizer


@dataclass(frozen=True)
class TorchStep(AnyStep):
    """A step by a class of torch.optim, for one row; it is not pure.

    Attributes:
        optimizer: the optimizer, which keeps its own state.
        clip: clips gradients `(1, dim)`.
    """

    optimizer: TorchOptimizer
    clip: Callable[[Tensor], Tensor]

    def __call__(self, carry: Carry, inputs: Inputs) -> tuple[Carry, Outputs]:
        """Make the step."""
        lr = self.learning_rates(carry, inputs)

        def evaluate(weight: Tensor) -> tuple[Tensor, Tensor]:
            loss, gradient = self.loss_and_gradient(weight, inputs.samples, inputs.noise)
            return loss, self.clip(gradient)

        loss, gradient = self.loss_and_gradient(carry.weight, inputs.samples, inputs.noise)
        weight, evaluations = self.optimizer.step(carry.weight, loss, self.clip(gradient), lr, evaluate)
        outputs = Outputs(loss, gradient, weight, lr, torch.tensor([evaluations]))
        return Carry(weight, (), self.schedule_after(carry, inputs, loss)), outputs
