"""MLflow's environment settings, set before it is imported."""

import os
import warnings


def configure_mlflow() -> None:
    """Turn off MLflow's logging and telemetry, and its retries, which take minutes."""
    warnings.simplefilter("ignore")  # PYTHONWARNINGS=error would turn MLflow's deprecation warnings into failures
    os.environ["MLFLOW_LOGGING_LEVEL"] = "CRITICAL"
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    # The recorder retries itself, after checking whether a request without an answer has created a run.
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")


def turn_off_telemetry() -> None:
    """Turn off MLflow's telemetry in a user's process, unless it is set there; all else stays as it is."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
