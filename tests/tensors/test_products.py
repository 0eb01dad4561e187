"""Products have torch's bits and derivatives, recorded or not."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from runner.tensors.products import product
from runner.tensors.tracing import recorded


@given(st.sampled_from([torch.float32, torch.float64]), st.integers(0, 1000), st.integers(1, 70))
def test_recorded_products_have_the_bits_of_torchs(dtype: torch.dtype, seed: int, dimension: int) -> None:
    values = torch.randn(3, dimension, dtype=dtype, generator=torch.Generator().manual_seed(seed)).requires_grad_()

    def with_derivatives(found: Tensor) -> list[Tensor]:
        (first,) = torch.autograd.grad(found.sum(), values, create_graph=True)
        return [found, first, *torch.autograd.grad(first.sin().sum(), values)]

    with recorded(at_once=True):
        made = with_derivatives(product(values))
    for one, two, three in zip(made, with_derivatives(product(values)), with_derivatives(values.prod(-1)), strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)
