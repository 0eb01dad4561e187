"""Values as MLflow stores them, read back: params as typed values, infinities and NaN as floats."""

import json
import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from runner.recorder.reading import LARGEST

Array = np.ndarray[Any, np.dtype[Any]]
NAMED = {
    "null": None, "None": None, "true": True, "True": True, "false": False, "False": False,
    "inf": math.inf, ".inf": math.inf, "-inf": -math.inf, "-.inf": -math.inf, "nan": math.nan, ".nan": math.nan,
}  # fmt: skip
# Params that say nothing about what a run computes.
INCIDENTAL = ("name", "parent_run", "quiet", "report", "log_every", "tags", "tracking")


def typed(text: str) -> Any:
    """Return the value that a param's text stands for: a number, a flag, None, a list, or the text itself."""
    return _parsed(text) if text.startswith("[") else _scalar(text)


@lru_cache(maxsize=65536)
def _scalar(text: str) -> Any:
    if text in NAMED:
        return NAMED[text]
    return _parsed(text) if text[:1] in tuple("-0123456789.") else text


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def restored(value: float, is_nan: bool = False) -> float:
    """Return a metric's value as it was before MLflow stored it: NaN as a flag, infinity as the largest float."""
    if is_nan:
        return math.nan
    return math.copysign(math.inf, value) if abs(value) >= LARGEST else value


def all_restored(values: Array) -> Array:
    """Return the values of an array as they were before MLflow stored them."""
    is_infinite = np.abs(values) >= LARGEST
    return np.where(is_infinite, np.copysign(np.inf, values), values) if is_infinite.any() else values


def short_name(key: str, keys: Iterable[str]) -> str:
    """Return the name of a param for the user: `optimizer` for `optimizer.name`, as on the command line."""
    group, dot, last = key.rpartition(".")
    return group if dot and last == "name" and group not in keys else key


def is_incidental(key: str) -> bool:
    """Return whether a param says nothing about what its run computes."""
    return key.partition(".")[0] in INCIDENTAL


def varied(params: list[Mapping[str, Any]]) -> list[str]:
    """Return the names of the params that differ between runs, in alphabetical order; dotted ones follow, seeds last.

    A param that only some choices of a group have, such as `optimizer.momentum`, differs only where runs with the same
    choice differ in it.
    """
    differing = [key for key in {key for one in params for key in one} if _differs(key, params)]
    return sorted(differing, key=lambda key: (key == "seed", "." in key, key))


def _differs(key: str, params: list[Mapping[str, Any]]) -> bool:
    group = key.rpartition(".")[0]
    if is_incidental(key):
        return False
    seen: dict[str, set[str]] = {}
    for one in params:
        choice = repr(one.get(group)) if group else ""
        seen.setdefault(choice, set()).add(repr(one[key]) if key in one else "")
    return any(len(values) > 1 for values in seen.values())
