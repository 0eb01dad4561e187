"""The weights of a run as a file."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner.engine.result import Result

WEIGHTS = "weights.npz"


def weights_of(result: Result) -> dict[str, NDArray[Any]]:
    """Return the last weight as `final`, and the weight of the best loss as `best` where there is one.

    Both have the shape `(dim,)` and the precision of the run.
    """
    vectors = {"final": result.weight.cpu().numpy()}
    if result.best is not None:
        vectors["best"] = result.best.weight.cpu().numpy()
    return vectors


def weights_file(vectors: Mapping[str, NDArray[Any]]) -> bytes:
    """Return named vectors as an npz file."""
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **vectors)
    return file.getvalue()
