"""The recorded files of weights, read as numbers."""

from functools import cache
from pathlib import Path

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from runner.execution.weights import WEIGHTS
from runner.reading.collection import Runs
from runner.reading.record import RunRecord
from runner.recorder.artifacts import local_folder, run_folder
from runner.recorder.reading_back import read_file
from runner.rerun.numbers import Numbers, weight_numbers

# The tag of a sweep's parent run that names the best run, which alone keeps its weights.
BEST_RUN = "best.run"


class RecordedWeights:
    """Reads the files of weights of runs: from disk where MLflow keeps artifacts there, which is much faster."""

    def __init__(self, client: MlflowClient, found: Runs) -> None:
        self._client = client
        self._best = {sweep.tags.get(BEST_RUN) for sweep in found.sweeps}
        self._root = cache(self._root_of)

    def of(self, run: RunRecord, keeps: object) -> Numbers:
        """Return the vectors that a run whose config has this `keep_weights` has kept; none without such a file."""
        if keeps == "none" or (keeps == "best" and run.sweep is not None and run.id not in self._best):
            return {}
        try:
            return weight_numbers(self._file(run))
        except (MlflowException, OSError, ValueError):
            return {}

    def _file(self, run: RunRecord) -> bytes:
        root = self._root(run.row.experiment)
        if root is not None and (path := run_folder(root, run.id) / WEIGHTS).is_file():
            return path.read_bytes()
        return read_file(self._client, run.id, WEIGHTS)

    def _root_of(self, experiment: str) -> Path | None:
        return local_folder(self._client.get_experiment(experiment).artifact_location)
