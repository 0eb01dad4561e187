"""What the runner uses of torch beyond its documented interface."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Variable
from torch.nn import functional
from torch.nn.modules import rnn

from runner.tensors.dropout import Dropout, attention_with


def gradient_of(loss: Tensor, point: Tensor, ones: Tensor) -> Tensor:
    """Return the gradient of the sum of `loss` at `point`, both of any shape; `ones` has the shape of `loss`.

    The same as `torch.autograd.grad(loss, point, ones)`, which checks the shapes by SymPy, whose import takes half a
    second at the start of a run.

    Raises:
        RuntimeError: the loss does not depend on the point, or the backward pass fails.
    """
    (gradient,) = Variable._execution_engine.run_backward(
        (loss,), (ones,), keep_graph=False, create_graph=False, inputs=(point,), allow_unreachable=False,
        accumulate_grad=False,
    )  # fmt: skip
    return gradient


class Recurrent:
    """The recurrent layers of torch by operations that can be batched over runs, in place of `torch._VF`."""

    def __getattr__(self, name: str) -> Any:
        """Return a function of `torch._VF`, or what replaces it."""
        from torch._decomp import decompositions

        of_layers = {
            "gru": decompositions.gru_impl,
            "lstm": decompositions.lstm_impl,
            "rnn_tanh": decompositions.rnn_tanh_input,
            "rnn_relu": decompositions.rnn_relu_input,
        }
        return of_layers.get(name) or getattr(torch._VF, name)


@contextlib.contextmanager
def replaced_functions(dropout: Dropout | None) -> Iterator[None]:
    """Let models use dropout of their own key, where there is one, and layers that can be batched.

    Layers look these functions up in torch's modules when they are called.
    """
    replaced: list[tuple[Any, str, Any]] = [
        (rnn, "_VF", Recurrent()),
        (functional, "scaled_dot_product_attention", attention_with(dropout)),
    ]
    if dropout is not None:
        replaced += [
            (functional, "dropout", dropout.of_elements),
            *((functional, f"dropout{count}d", dropout.of_channels(count)) for count in (1, 2, 3)),
        ]
    before = [(module, name, getattr(module, name)) for module, name, _ in replaced]
    for module, name, function in replaced:
        setattr(module, name, function)
    try:
        yield
    finally:
        for module, name, function in before:
            setattr(module, name, function)


def refresh_flat_weights(layer: torch.nn.RNNBase, _inputs: Any) -> None:
    """Let a recurrent layer use the parameters that it is called with: a pre-hook, since it keeps a list of its own."""
    layer._flat_weights = [getattr(layer, name) for name in layer._flat_weights_names]
