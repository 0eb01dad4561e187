"""Memory is used again once no tensor is left in it, and no sooner."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from runner.compiling.memory import ReusedMemory

SHAPES = [((3, 5), torch.float32), ((3, 5, 2), torch.float64), ((0, 5), torch.float32)]


def test_tensors_have_their_shapes_and_do_not_overlap() -> None:
    made = ReusedMemory().tensors(SHAPES)
    assert [(tuple(one.shape), one.dtype) for one in made] == SHAPES
    for value, one in enumerate(made):
        one.fill_(value)
    assert [set(one.unique().tolist()) for one in made] == [{0.0}, {1.0}, set()]


@pytest.mark.parametrize(
    "view", [lambda one: one, lambda one: one[1:], lambda one: one.reshape(-1).expand(2, -1), Tensor.numpy]
)
def test_memory_is_used_again_when_the_last_view_is_gone(view: Callable[[Tensor], Any]) -> None:
    memory = ReusedMemory()
    first = memory.tensors(SHAPES)
    first[0].fill_(7.0)
    address, kept = first[0].data_ptr(), view(first[0])
    del first
    second = memory.tensors(SHAPES)
    second[0].zero_()
    assert (kept == 7.0).all()
    del kept
    assert memory.tensors(SHAPES)[0].data_ptr() == address


def test_more_memory_is_taken_where_the_pieces_are_in_use_or_too_small() -> None:
    memory = ReusedMemory()
    held = [memory.tensors(SHAPES)[0].fill_(float(index)) for index in range(4)]
    held.append(memory.tensors([((1000,), torch.float32)])[0].fill_(4.0))
    assert [set(one.unique().tolist()) for one in held] == [{float(index)} for index in range(5)]
