import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from runner.tensors.torch_private import gradient_of


@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 99))
def test_a_gradient_is_that_of_the_public_function(rows: int, dimension: int, seed: int) -> None:
    point = torch.randn(rows, dimension, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    loss, ones = (point.sin() * point**3).sum(dim=1), torch.ones(rows)
    (expected,) = torch.autograd.grad(loss, point, ones, retain_graph=True)
    assert torch.equal(gradient_of(loss, point, ones), expected)
    assert point.grad is None


def test_a_loss_that_does_not_depend_on_the_point_is_refused() -> None:
    point, other = torch.ones(1, 1, requires_grad=True), torch.ones(1, 1, requires_grad=True)
    with pytest.raises(RuntimeError, match="not have been used in the graph"):
        gradient_of((other**2).sum(dim=1), point, torch.ones(1))
