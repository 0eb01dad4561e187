"""MLflow's manners, set before it is imported."""

import os
import warnings


def quiet_mlflow() -> None:
    """Keep MLflow from talking, from phoning home, and from trying for minutes what fails."""
    warnings.simplefilter("ignore")  # else PYTHONWARNINGS=error makes a failure of what MLflow will change one day
    os.environ["MLFLOW_LOGGING_LEVEL"] = "CRITICAL"
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    # We try again ourselves, having looked whether a lost answer was to a run that was created.
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
