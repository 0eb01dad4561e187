"""MLflow's manners, set before it is imported."""

import os


def quiet_mlflow() -> None:
    """Keep MLflow from talking, from phoning home, and from trying for minutes what fails."""
    os.environ["MLFLOW_LOGGING_LEVEL"] = "CRITICAL"
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
