"""Pages and figures of recorded runs: `python -m runner.report ID...`."""

import gc
import sys

from runner.recorder.mlflow_settings import configure_mlflow

if __name__ == "__main__":
    configure_mlflow()  # before MLflow is imported
    gc.disable()  # the process is short, and makes many objects that stay
    from runner.report.command import main

    if (code := main()) != 0:  # returns for 0, so that a caller can continue
        sys.exit(code)
