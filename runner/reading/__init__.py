"""The record, read back."""

from runner.recorder.mlflow_settings import turn_off_telemetry

turn_off_telemetry()  # before MLflow is imported

from runner.reading.collection import Runs as Runs  # noqa: E402
from runner.reading.record import RunRecord as RunRecord  # noqa: E402
from runner.reading.selection import runs as runs  # noqa: E402
