"""Which numbers kernels take in vectors is told from shapes and strides alone."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from runner.compiling.places import taken_together

# The largest of two zeros is the second one where they are taken in vectors, else the first: its sign tells.
VECTOR_BYTES = 32
SIZES = st.lists(st.sampled_from([1, 2, 3, 8, 17, 33, 64]), min_size=0, max_size=3)


@st.composite
def layouts(draw: st.DrawFn) -> tuple[list[int], list[str]]:
    sizes = draw(SIZES)
    return sizes, draw(st.lists(st.sampled_from(["plain", "permuted", "cut", "column", "row", "one"]), min_size=3))


def laid_out(sizes: list[int], layout: str, value: float, dtype: torch.dtype) -> Tensor:
    """Return a tensor of one number that broadcasts to the sizes."""
    if layout == "permuted":
        return torch.full(sizes[::-1], value, dtype=dtype).permute(list(range(len(sizes)))[::-1])
    if layout == "cut":
        return torch.full([*sizes, 2], value, dtype=dtype)[..., 0]
    if layout == "column":
        return torch.full([*sizes[:-1], *[1] * bool(sizes)], value, dtype=dtype).expand(sizes)
    if layout == "row":
        return torch.full(sizes[-1:], value, dtype=dtype)
    return torch.full([] if layout == "one" else sizes, value, dtype=dtype)


@settings(max_examples=60, deadline=None)
@given(layouts(), st.sampled_from([torch.float32, torch.float64]))
@example(([64, 17], ["plain", "column", "column"]), torch.float32)
@example(([300, 129], ["plain", "column", "plain"]), torch.float64)
def test_what_a_kernel_takes_together_follows_from_the_layout(
    drawn: tuple[list[int], list[str]], dtype: torch.dtype
) -> None:
    sizes, kinds = drawn
    zero, negative, one = (
        laid_out(sizes, kind, value, dtype) for kind, value in zip(kinds, (0.0, -0.0, 1.0), strict=False)
    )
    for operands, found in (((zero, negative), torch.maximum(zero, negative)), ((zero, negative, one), None)):
        result = torch.clamp(*operands) if found is None else found
        places = taken_together(operands, dtype, VECTOR_BYTES)
        if places is not None:
            assert torch.equal(torch.from_numpy(places.copy()), result.signbit())


@pytest.mark.parametrize(("threads", "known"), [(1, True), (2, True), (3, False)])
def test_nothing_is_told_where_threads_cut_rows(threads: int, known: bool) -> None:
    usual = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        places = taken_together([torch.ones(6400, 17), torch.ones(6400, 1)], torch.float32, VECTOR_BYTES)
    finally:
        torch.set_num_threads(usual)
    assert (places is not None) == known
