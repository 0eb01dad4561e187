"""Norms: those of torch to the bit where torch has them, and finite and above 0 wherever their value is."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from runner.optimizers.clipping import clip_by_norm
from runner.tensors.norms import exact_norm, norm
from tests.support.descents import done

DTYPES = st.sampled_from([torch.float32, torch.float64])


@given(DTYPES, st.integers(0, 1000), st.integers(1, 300), st.floats(-9, 9))
def test_a_norm_without_overflow_equals_torchs_to_the_bit(
    dtype: torch.dtype, seed: int, dimension: int, exponent: float
) -> None:
    vectors = torch.randn(64, dimension, dtype=dtype, generator=torch.Generator().manual_seed(seed)) * 10**exponent
    plain = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    assert torch.equal(norm(vectors), plain)
    limit = torch.full((64, 1), 10**exponent, dtype=torch.float64)
    clipped = vectors * torch.clamp((plain + 1e-6).reciprocal() * limit.to(dtype), max=1.0)
    assert torch.equal(clip_by_norm(vectors, limit), clipped)


@given(DTYPES, st.lists(st.floats(1, 8), min_size=1, max_size=9), st.data())
def test_a_norm_is_finite_and_above_0_wherever_its_value_is(
    dtype: torch.dtype, components: list[float], data: st.DataObject
) -> None:
    largest = 36 if dtype == torch.float32 else 306
    exponent = data.draw(st.integers(-largest, largest))
    vectors = torch.tensor([components], dtype=dtype) * 10.0**exponent
    value = math.hypot(*vectors[0].tolist())
    assert float(norm(vectors)) == pytest.approx(value, rel=1e-5)
    assert float(exact_norm(vectors)) == pytest.approx(value, rel=1e-5)
    if exponent > 0:
        clipped = clip_by_norm(vectors, torch.ones(1, 1, dtype=torch.float64))
        assert float(norm(clipped)) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_clipping_keeps_the_direction_of_a_gradient_whose_norm_overflows(dtype: torch.dtype) -> None:
    vectors = torch.full((1, 100), torch.finfo(dtype).max / 2, dtype=dtype)
    clipped = clip_by_norm(vectors, torch.full((1, 1), 5.0, dtype=torch.float64))
    assert clipped.tolist() == [[pytest.approx(0.5)] * 100]


def test_infinite_and_nan_norms_stay_so() -> None:
    vectors = torch.tensor([[math.inf, 1.0], [math.nan, 1.0], [math.nan, -math.inf], [0.0, 0.0]])
    found = norm(vectors)[:, 0].tolist()
    assert (found[0], found[3]) == (math.inf, 0.0)
    assert math.isnan(found[1])
    assert math.isnan(found[2])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_descent_of_huge_gradients_is_clipped_recorded_and_stopped_by_their_norm(dtype: str) -> None:
    huge = 1e30 if dtype == "float32" else 1e200
    formula = f"objective.formula='{huge}*(x + y)'"
    asked = ["objective=expression", "initial_weight=[1,1]", f"dtype={dtype}", "lr=0.1", "steps=3"]
    result, tracker = done(*asked, formula, "clip_norm=1")
    assert result.weight.tolist() == pytest.approx([1 - 0.3 / math.sqrt(2)] * 2, rel=1e-5)
    assert tracker.history("gradient_norm")[3] == pytest.approx(huge * math.sqrt(2))
    assert done(*asked, formula, "clip_norm=1", f"stop.gradient_norm={2 * huge}")[0].steps == 1


def test_a_norm_in_a_formula_does_not_overflow() -> None:
    asked = ["objective=expression", "objective.formula='norm(w)'", "steps=1"]
    result, _ = done(*asked, "initial_weight=[3e30,4e30]", "lr=1e30")
    assert result.loss == pytest.approx(5e30)
    assert result.weight.tolist() == pytest.approx([2.4e30, 3.2e30])
    assert done(*asked, "initial_weight=[0,0]")[0].gradient.tolist() == [0, 0]
