"""The weights of a run as a file."""

import io

import numpy as np

from runner.engine.result import Result

WEIGHTS = "weights.npz"


def weights_file(result: Result) -> bytes:
    """Return an npz file of the last weight, `final`, and that of the best loss, `best` where there is one.

    Both have the shape `(dim,)` and the run's own precision.
    """
    vectors = {"final": result.weight.cpu().numpy()}
    if result.best is not None:
        vectors["best"] = result.best.weight.cpu().numpy()
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **vectors)
    return file.getvalue()
