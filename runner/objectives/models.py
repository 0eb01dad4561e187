"""Models with all their weights in one vector."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call, vmap

from runner.tensors.draws import generator
from runner.tensors.shapes import Shapes


@dataclass(frozen=True)
class Model:
    """A model with all its weights in one vector.

    Attributes:
        shapes: of its parameters.
        outputs: `(runs, dim)` weights and `(runs, n, *sample_shape)` features to `(runs, n)` numbers or
            `(runs, n, classes)` scores; two classes have one score.
        start: the default start `(dim,)` for a seed.
        width: the number of outputs and hidden units.
        evaluated: the outputs in evaluation mode; None where they are the same.
        draws: whether `outputs` takes keys `(runs,)` of the step's dropout.
        refusal: why vmap cannot batch the outputs; None where it can.
    """

    shapes: Shapes
    outputs: Callable[..., Tensor]
    start: Callable[[int], Tensor]
    width: int
    evaluated: Callable[[Tensor, Tensor], Tensor] | None = None
    draws: bool = False
    refusal: str | None = None

    @property
    def dimension(self) -> int:
        """The number of weights."""
        return self.shapes.dimension


def linear(features: int, outputs: int) -> Model:
    """Return the linear model, with a weight for each feature and a bias for each output; it starts at 0."""

    def scores(weight: Tensor, batch: Tensor) -> Tensor:
        matrix = weight.unflatten(-1, (features + 1, outputs))
        # Batched, because a product with one shared matrix would round differently with the number of runs.
        found: Tensor = torch.bmm(batch, matrix[:, :-1]) + matrix[:, -1:]
        return found.squeeze(-1) if outputs == 1 else found

    shapes = Shapes((("weight", (features, outputs) if outputs > 1 else (features,)), ("bias", (outputs,))))
    return Model(shapes, scores, lambda _seed: torch.zeros(shapes.dimension, dtype=torch.float64), outputs)


def _layer(inputs: int, outputs: int, stream: torch.Generator) -> torch.nn.Module:
    """Return a layer initialised as by torch, in float32 whatever the default dtype, from the given generator."""
    layer: torch.nn.Linear = torch.nn.utils.skip_init(torch.nn.Linear, inputs, outputs, dtype=torch.float32)
    torch.nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=stream)
    bound = 1 / math.sqrt(inputs)
    torch.nn.init.uniform_(layer.bias, -bound, bound, generator=stream)
    return layer


def perceptron(features: int, outputs: int, hidden: int) -> Model:
    """Return the network with one hidden layer of tanh units, initialised as torch's layers are."""

    def network(seed: int) -> torch.nn.Module:
        stream = generator(seed, "start")
        first, last = (_layer(*size, stream) for size in ((features, hidden), (hidden, outputs)))
        return torch.nn.Sequential(first, torch.nn.Tanh(), last)

    module = network(0)
    shapes = Shapes.of_tensors(dict(module.named_parameters()))

    def of_one(weight: Tensor, batch: Tensor) -> Tensor:
        found: Tensor = functional_call(module, shapes.by_name(weight), (batch,))
        return found[..., 0] if outputs == 1 else found

    def start(seed: int) -> Tensor:
        return torch.cat([weight.detach().flatten() for weight in network(seed).parameters()])

    return Model(shapes, vmap(of_one), start, hidden + outputs)
