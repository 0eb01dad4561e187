"""Models with all their weights in one vector."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from runner.tensors.draws import generator
from runner.tensors.shapes import Shape, Shapes

# Of the approximation of GELU by tanh.
GELU_SCALE, GELU_CUBE = math.sqrt(2 / math.pi), 0.044715


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


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": lambda values: 0.5 + 0.5 * torch.tanh(0.5 * values),
    "silu": lambda values: values * (0.5 + 0.5 * torch.tanh(0.5 * values)),
    "gelu": lambda values: 0.5 * values * (1 + torch.tanh(GELU_SCALE * (values + GELU_CUBE * values**3))),
    "elu": lambda values: torch.where(values > 0, values, torch.expm1(values.clamp(max=0))),
}


@dataclass(frozen=True)
class Layer:
    """A linear or convolutional layer, which torch's `Sequential` would number `index`."""

    index: int
    shape: Shape

    @property
    def parts(self) -> tuple[tuple[str, Shape], ...]:
        """The names and shapes of its parameters."""
        return (f"{self.index}.weight", self.shape), (f"{self.index}.bias", self.shape[:1])

    def drawn(self, stream: torch.Generator) -> Iterator[Tensor]:
        """Yield its weight and bias, each as a vector, initialised as by torch in float32 from the given generator."""
        weight = torch.empty(self.shape, dtype=torch.float32)
        yield torch.nn.init.kaiming_uniform_(weight, a=math.sqrt(5), generator=stream).flatten()
        bound = 1 / math.sqrt(math.prod(self.shape[1:]))
        bias = torch.empty(self.shape[:1], dtype=torch.float32)
        yield torch.nn.init.uniform_(bias, -bound, bound, generator=stream)


def _model(layers: Sequence[Layer], outputs: Callable[[list[Tensor], Tensor], Tensor], width: int) -> Model:
    """Return the model of layers; `outputs` takes their parameters `(runs, *shape)`, and features."""
    shapes = Shapes(tuple(part for layer in layers for part in layer.parts))

    def scores(weight: Tensor, batch: Tensor) -> Tensor:
        found = outputs(shapes.views(weight), batch)
        return found.squeeze(-1) if found.shape[-1] == 1 else found

    def start(seed: int) -> Tensor:
        stream = generator(seed, "start")
        return torch.cat([part for layer in layers for part in layer.drawn(stream)])

    return Model(shapes, scores, start, width)


def _affine(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return the outputs `(runs, n, out)` of inputs `(runs, n, in)` and weights `(runs, out, in)`."""
    return torch.bmm(inputs, weight.mT) + bias[:, None]


def perceptron(features: int, outputs: int, hidden: Sequence[int], activation: str) -> Model:
    """Return the network of fully connected hidden layers, initialised as torch's layers are."""
    sizes = [features, *hidden, outputs]
    layers = [Layer(2 * index, (outs, ins)) for index, (ins, outs) in enumerate(pairwise(sizes))]
    bend = ACTIVATIONS[activation]

    def forward(parts: list[Tensor], batch: Tensor) -> Tensor:
        values = batch.flatten(2)
        for weight, bias in zip(parts[:-2:2], parts[1:-2:2], strict=True):
            values = bend(_affine(values, weight, bias))
        return _affine(values, parts[-2], parts[-1])

    return _model(layers, forward, sum(sizes[1:]))


def convolutional(
    image: Shape, outputs: int, channels: Sequence[int], kernel_size: int, stride: int, activation: str
) -> Model:
    """Return the network of convolutions of images `(channels, height, width)`, and a linear layer on the last.

    Each convolution is padded by half the kernel. It is a product with the pixels under the kernel, because a
    convolution grouped by runs is slower on the CPU.
    """
    padding, size = kernel_size // 2, image[1:]
    layers, counts, pixels = [], [image[0], *channels], []
    for index, (ins, outs) in enumerate(pairwise(counts)):
        size = tuple((length + 2 * padding - kernel_size) // stride + 1 for length in size)
        layers.append(Layer(2 * index, (outs, ins, kernel_size, kernel_size)))
        pixels.append(outs * math.prod(size))
    layers.append(Layer(2 * len(channels) + 1, (outputs, pixels[-1])))
    bend = ACTIVATIONS[activation]

    def forward(parts: list[Tensor], batch: Tensor) -> Tensor:
        values = batch.permute(0, 1, 3, 4, 2)
        for weight, bias in zip(parts[:-2:2], parts[1:-2:2], strict=True):
            seen: Tensor = _UnderKernel.apply(values, kernel_size, stride, padding)  # type: ignore[no-untyped-call]
            matrix = weight.permute(0, 1, 3, 4, 2).flatten(2)
            values = bend(_affine(seen.flatten(1, 3), matrix, bias)).unflatten(1, seen.shape[1:4])
        return _affine(values.permute(0, 1, 4, 2, 3).flatten(2), parts[-2], parts[-1])

    return _model(layers, forward, (kernel_size**2 + 1) * sum(pixels) + outputs)


class _UnderKernel(torch.autograd.Function):
    """The numbers under the kernel at each pixel; its backward pass adds in place, unlike that of the slices."""

    generate_vmap_rule = True

    @staticmethod
    def forward(values: Tensor, kernel_size: int, stride: int, padding: int) -> Tensor:
        """Return the numbers of images `(runs, n, height, width, channels)`, those of a pixel in the last dimension."""
        padded = functional.pad(values, (0, 0, padding, padding, padding, padding))
        return torch.cat([*_places(padded, kernel_size, stride)], dim=-1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _output: Tensor) -> None:
        """Keep the shape of the images."""
        values, *ctx.settings = inputs
        ctx.shape = values.shape

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        """Return the gradient of the images."""
        kernel_size, stride, padding = ctx.settings
        runs, count, height, width, channels = ctx.shape
        padded = gradients[0].new_zeros(runs, count, height + 2 * padding, width + 2 * padding, channels)
        parts = gradients[0].split(channels, dim=-1)
        for place, part in zip(_places(padded, kernel_size, stride), parts, strict=True):
            place += part
        return padded[:, :, padding : padding + height, padding : padding + width], None, None, None


def _places(padded: Tensor, kernel_size: int, stride: int) -> Iterator[Tensor]:
    """Yield views of padded images, shifted by each place of the kernel, one after the other: each may be changed."""
    ends = [length - kernel_size + 1 for length in padded.shape[2:4]]
    for down in range(kernel_size):
        for right in range(kernel_size):
            yield padded[:, :, down : down + ends[0] : stride, right : right + ends[1] : stride]
