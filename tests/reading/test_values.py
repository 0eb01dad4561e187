"""Texts of params as typed values, and values of metrics as they were before they were stored."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.messages.ranges import shown
from runner.reading.values import all_restored, restored, typed
from runner.recorder.reading import LARGEST

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)


@given(LEAVES | st.lists(LEAVES))
def test_a_param_of_this_program_is_read_as_the_value_that_it_was(value: Any) -> None:
    read = typed(shown(value, limit=None))
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize("text", ["", "adam", "[1, 2", "1.2.3", "-", "1e", "0x10", "[" * 10_000, "9" * 5_000])
def test_a_text_that_is_no_value_stays_a_text(text: str) -> None:
    assert typed(text) == text


def test_lists_are_not_shared() -> None:
    assert typed("[1,2]") is not typed("[1,2]")


def test_infinities_and_nan_are_restored() -> None:
    stored = np.array([LARGEST, -LARGEST, 1.0, math.nan])
    assert repr(all_restored(stored).tolist()) == "[inf, -inf, 1.0, nan]"
    assert [restored(value) for value in stored[:3]] == [math.inf, -math.inf, 1.0]
    assert math.isnan(restored(0.0, is_nan=True))
