"""What the runner uses of torch beyond its documented interface."""

import torch
from torch import Tensor
from torch.autograd import Variable


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


def is_traced() -> bool:
    """Return whether `make_fx` is tracing the operations, whose values are then not known."""
    return torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.PROXY) is not None
